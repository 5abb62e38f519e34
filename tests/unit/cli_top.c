/*
 * cli_top.c - rows of `pawl top`: out of two samples, sorted, filtered, chosen, as text.
 */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "runtime/cli/top_frame.h"
#include "runtime/cli/top_model.h"
#include "scheduler/bus/breaker.h"

#define S UINT64_C(1000000000)

enum { QUEUES = 4 };

static struct pawl_metrics_row_copy old_rows[QUEUES], rows[QUEUES];
static uint32_t row_index[QUEUES] = {1, 2, 3, 4};
static struct pawl_metrics_sample before, sample;
static struct pawl_top top;

static void fill(void)
{
    static const char *const names[QUEUES] = {"beta", "alpha", "gamma", "alpha.dlq"};
    static const uint64_t depth[QUEUES] = {10, 30, 20, 30};
    memset(rows, 0, sizeof rows);
    for (int i = 0; i < QUEUES; i++) {
        rows[i].generation = 1;
        strcpy(rows[i].name, names[i]);
        rows[i].gauge[PAWL_QUEUE_DEPTH] = depth[i];
    }
    rows[3].gauge[PAWL_QUEUE_IS_DLQ] = 1;
    rows[1].gauge[PAWL_QUEUE_DLQ_DEPTH] = 30;
    memcpy(old_rows, rows, sizeof rows);
    before = (struct pawl_metrics_sample){.at_ns = S,
                                          .epoch = 7,
                                          .started_at_ns = S,
                                          .row_count = QUEUES,
                                          .rows = old_rows,
                                          .row_index = row_index};
    sample = (struct pawl_metrics_sample){.at_ns = 3 * S,
                                          .epoch = 7,
                                          .started_at_ns = S,
                                          .row_count = QUEUES,
                                          .rows = rows,
                                          .row_index = row_index};
    top = (struct pawl_top){0};
}

static void update(void)
{
    cr_assert(eq(int, pawl_top_update(&top, &before, &sample, NULL, 61 * S), 0));
}

static void expect_order(const char *names)
{
    char found[256] = "";
    for (size_t i = 0; i < top.row_count; i++)
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%s", i > 0 ? " " : "",
                 top.rows[i].name);
    cr_expect(eq(str, found, (char *)(uintptr_t)names));
}

static void fini(void)
{
    pawl_top_fini(&top);
}

TestSuite(top, .init = fill, .fini = fini);

Test(top, rates_are_per_second_between_two_looks)
{
    rows[0].counter[PAWL_QUEUE_PUBLISHED] = 5;
    rows[0].counter[PAWL_QUEUE_DELIVERED] = 4;
    rows[0].counter[PAWL_QUEUE_ACKED] = 3;
    rows[0].counter[PAWL_QUEUE_NACKED] = 2;
    sample.cell[PAWL_METRICS_JOURNAL_BYTES] = 4096;
    sample.cell[PAWL_METRICS_EVENTS_PUBLISHED] = 100;
    update();
    const struct pawl_top_row *beta = &top.rows[2];
    cr_assert(eq(str, (char *)(uintptr_t)beta->name, "beta"));
    cr_expect(eq(dbl, beta->in, 2.5));
    cr_expect(eq(dbl, beta->out, 2));
    cr_expect(eq(dbl, beta->ack, 1.5));
    cr_expect(eq(dbl, beta->nack, 1));
    cr_expect(eq(dbl, top.journal_bytes, 2048));
    cr_expect(eq(dbl, top.rates.published, 50));
    cr_expect(eq(u64, top.up_ns, 60 * S));
    cr_expect(eq(int, top.has_rates, 1));
}

Test(top, after_a_restart_there_are_no_rates)
{
    rows[0].counter[PAWL_QUEUE_PUBLISHED] = 5;
    sample.cell[PAWL_METRICS_JOURNAL_BYTES] = 4096;
    before.epoch = 6;
    update();
    cr_expect(eq(dbl, top.rows[2].in, 0));
    cr_expect(eq(dbl, top.journal_bytes, 0));
    cr_expect(eq(int, top.has_rates, 0));
}

Test(top, numbers_sort_largest_first_and_names_break_the_tie)
{
    update();
    expect_order("alpha alpha.dlq beta gamma");
    top.sort = PAWL_TOP_DEPTH;
    pawl_top_sort(&top);
    expect_order("alpha alpha.dlq gamma beta");
    top.reverse = true;
    pawl_top_sort(&top);
    expect_order("beta gamma alpha alpha.dlq");
    top.sort = PAWL_TOP_NAME;
    pawl_top_sort(&top);
    expect_order("gamma beta alpha.dlq alpha");
}

Test(top, each_column_sorts_by_what_it_shows)
{
    static const uint32_t counters[][2] = {{PAWL_TOP_IN, PAWL_QUEUE_PUBLISHED},
                                           {PAWL_TOP_OUT, PAWL_QUEUE_DELIVERED},
                                           {PAWL_TOP_ACK, PAWL_QUEUE_ACKED},
                                           {PAWL_TOP_NACK, PAWL_QUEUE_NACKED}};
    for (size_t i = 0; i < 4; i++) {
        fini();
        fill();
        rows[2].counter[counters[i][1]] = 9;
        top.sort = (enum pawl_top_column)counters[i][0];
        update();
        expect_order("gamma alpha alpha.dlq beta");
    }
    static const uint32_t gauges[][2] = {{PAWL_TOP_CONSUMERS, PAWL_QUEUE_CONSUMERS},
                                         {PAWL_TOP_IN_FLIGHT, PAWL_QUEUE_IN_FLIGHT},
                                         {PAWL_TOP_DEAD, PAWL_QUEUE_DLQ_DEPTH},
                                         {PAWL_TOP_STATE, PAWL_QUEUE_PAUSED}};
    for (size_t i = 0; i < 4; i++) {
        fini();
        fill();
        rows[1].gauge[PAWL_QUEUE_DLQ_DEPTH] = 0;
        rows[2].gauge[gauges[i][1]] = 9;
        top.sort = (enum pawl_top_column)gauges[i][0];
        update();
        expect_order("gamma alpha alpha.dlq beta");
    }
}

Test(top, a_filter_hides_what_does_not_contain_it)
{
    strcpy(top.filter, "alpha");
    update();
    expect_order("alpha alpha.dlq");
    cr_expect(eq(sz, top.all_count, 4));
    strcpy(top.filter, "nothing");
    update();
    cr_expect(eq(sz, pawl_top_chosen(&top), SIZE_MAX));
    pawl_top_move(&top, 1);
    pawl_top_scroll(&top, 3);
    cr_expect(eq(sz, top.first, 0));
}

Test(top, what_is_chosen_stays_chosen_when_rows_move)
{
    update();
    pawl_top_move(&top, 2);
    cr_expect(eq(str, top.chosen, "beta"));
    top.sort = PAWL_TOP_DEPTH;
    pawl_top_sort(&top);
    cr_expect(eq(sz, pawl_top_chosen(&top), 3));
    pawl_top_move(&top, 100);
    cr_expect(eq(sz, pawl_top_chosen(&top), 3));
    pawl_top_move(&top, -100);
    cr_expect(eq(sz, pawl_top_chosen(&top), 0));
    strcpy(top.chosen, "gone"); /* it was deleted */
    cr_expect(eq(sz, pawl_top_chosen(&top), 0));
}

Test(top, the_page_follows_what_is_chosen)
{
    update();
    pawl_top_scroll(&top, 2);
    cr_expect(eq(sz, top.first, 0));
    pawl_top_move(&top, 3);
    pawl_top_scroll(&top, 2);
    cr_expect(eq(sz, top.first, 2));
    pawl_top_move(&top, -2);
    pawl_top_scroll(&top, 2);
    cr_expect(eq(sz, top.first, 1));
    pawl_top_scroll(&top, 10); /* a larger terminal: no empty lines while there are rows above */
    cr_expect(eq(sz, top.first, 0));
    pawl_top_scroll(&top, 0);
    cr_expect(eq(sz, top.first, 0));
}

Test(top, state_is_the_worst_that_there_is_to_say)
{
    rows[0].gauge[PAWL_QUEUE_BREAKER_STATE] = PAWL_BREAKER_OPEN;
    rows[1].gauge[PAWL_QUEUE_BREAKER_STATE] = PAWL_BREAKER_HALF_OPEN;
    rows[2].gauge[PAWL_QUEUE_BREAKER_STATE] = PAWL_BREAKER_OPEN;
    rows[2].gauge[PAWL_QUEUE_PAUSED] = 1;
    rows[3].gauge[PAWL_QUEUE_MAX_DEPTH] = 30;
    update();
    cr_expect(eq(int, top.rows[0].state, PAWL_TOP_HALF_OPEN));
    cr_expect(eq(int, top.rows[1].state, PAWL_TOP_OK));
    cr_expect(eq(int, top.rows[1].at_limit, 1));
    cr_expect(eq(int, top.rows[2].state, PAWL_TOP_OPEN));
    cr_expect(eq(int, top.rows[3].state, PAWL_TOP_PAUSED));
}

Test(top, a_quantile_is_of_what_came_between_two_looks)
{
    struct pawl_histogram_copy old = {.shift = 10}, now = {.shift = 10};
    cr_expect(eq(u64, pawl_top_quantile(&old, &now, 50), 0));
    old.bucket[20] = now.bucket[20] = 1000; /* long ago */
    now.bucket[0] = 98;
    now.bucket[3] = 2;
    cr_expect(eq(u64, pawl_top_quantile(&old, &now, 50), 1024));
    cr_expect(eq(u64, pawl_top_quantile(&old, &now, 99), 8192));
    cr_expect(eq(u64, pawl_top_quantile(NULL, &now, 99), UINT64_C(1) << 30));
    now.bucket[PAWL_METRICS_BUCKETS - 1] = 50;
    cr_expect(eq(u64, pawl_top_quantile(&old, &now, 99), UINT64_MAX));
}

Test(top, numbers_take_five_characters_at_most)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},          {9999, "9999"},  {10000, "10.0k"}, {12345, "12.3k"},
                 {99949, "99.9k"},  {99951, "100k"}, {999499, "999k"}, {999500, "1.0M"},
                 {1234567, "1.2M"}, {1e9, "1.0G"},   {1e18, "1000P"},  {1e30, "lots"}};
    char text[16];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_expect(eq(str, (char *)(uintptr_t)pawl_top_number(cases[i].value, text),
                     (char *)(uintptr_t)cases[i].text));
        cr_expect(le(sz, strlen(pawl_top_number(cases[i].value, text)), 5));
    }
    cr_expect(eq(str, (char *)(uintptr_t)pawl_top_rate(0.02, text), "0.1")); /* it is not nothing */
    cr_expect(eq(str, (char *)(uintptr_t)pawl_top_rate(2.54, text), "2.5"));
    cr_expect(eq(str, (char *)(uintptr_t)pawl_top_rate(9.96, text), "10"));
    cr_expect(eq(str, (char *)(uintptr_t)pawl_top_rate(0, text), "0"));
}

Test(top, every_row_is_as_wide_as_the_terminal_and_its_columns_stand_under_their_names)
{
    struct pawl_top_line head[PAWL_TOP_HEAD_LINES], line;
    memset(rows[0].name, 'x', PAWL_METRICS_NAME_BYTES - 1);
    rows[0].gauge[PAWL_QUEUE_DEPTH] = UINT64_MAX;
    rows[0].counter[PAWL_QUEUE_PUBLISHED] = UINT64_MAX;
    update();
    for (int width = PAWL_TOP_WIDTH_MIN; width <= PAWL_TOP_WIDTH_MAX; width++) {
        pawl_top_head(&top, "/var/lib/pawl", width, head);
        cr_assert(eq(sz, strlen(head[PAWL_TOP_HEAD_LINES - 1].text), (size_t)width));
        for (int i = 0; i < PAWL_TOP_HEAD_LINES; i++)
            cr_assert(le(sz, strlen(head[i].text), (size_t)width));
        for (size_t i = 0; i < top.row_count; i++) {
            pawl_top_line(&top, i, width, &line);
            cr_assert(eq(sz, strlen(line.text), (size_t)width), "%d: '%s'", width, line.text);
        }
    }
    pawl_top_head(&top, "/", 1, head); /* narrower than anything: what shows it cuts it */
    pawl_top_line(&top, 0, 1, &line);
    cr_expect(eq(sz, strlen(line.text), PAWL_TOP_WIDTH_MIN));
    pawl_top_line(&top, 0, 100000, &line);
    cr_expect(eq(sz, strlen(line.text), PAWL_TOP_WIDTH_MAX));
}

Test(top, eighty_columns_hold_all_that_is_said_above_the_rows)
{
    struct pawl_top_line head[PAWL_TOP_HEAD_LINES];
    static struct pawl_metrics_memory memory[PAWL_MEMORY_KINDS];
    for (int kind = 0; kind < PAWL_MEMORY_KINDS; kind++)
        memory[kind] = (struct pawl_metrics_memory){"x", UINT64_C(1023) << 20};
    sample.cell[PAWL_METRICS_EVENTS_PUBLISHED] = 5000000;
    sample.cell[PAWL_METRICS_JOURNAL_BYTES] = UINT64_C(2000) << 20;
    sample.cell[PAWL_METRICS_JOURNAL_SYNCS] = 20000;
    sample.cell[PAWL_METRICS_JOURNAL_DISK_BYTES] = UINT64_C(900) << 30;
    sample.histogram[PAWL_METRICS_JOURNAL_SYNC] =
        (struct pawl_histogram_copy){.shift = 10, .bucket = {[20] = 1}};
    sample.histogram[PAWL_METRICS_DELIVERY_LATENCY] =
        (struct pawl_histogram_copy){.shift = 10, .bucket = {[19] = 1}};
    cr_assert(eq(int, pawl_top_update(&top, &before, &sample, memory, 61 * S), 0));
    pawl_top_head(&top, "/var/lib/pawl", 400, head);
    for (int i = 1; i < PAWL_TOP_HEAD_LINES - 1; i++)
        cr_expect(le(sz, strlen(head[i].text), 80), "%s", head[i].text);
    cr_expect(ne(ptr, strstr(head[1].text, "p99 536.9 ms"), NULL), "%s", head[1].text);
    cr_expect(ne(ptr, strstr(head[2].text, "1000 MiB/s"), NULL), "%s", head[2].text);
    cr_expect(eq(int, head[2].look, PAWL_TOP_PLAIN));
    sample.cell[PAWL_METRICS_JOURNAL_ROOM] = 1;
    cr_assert(eq(int, pawl_top_update(&top, &before, &sample, memory, 61 * S), 0));
    pawl_top_head(&top, "/var/lib/pawl", 400, head);
    cr_expect(eq(int, head[2].look, PAWL_TOP_WARNING));
}
