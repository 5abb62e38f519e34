/*
 * bus_metrics - numbers that anybody can read while they are written, as memory, text and JSON.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/metrics_text.h"
#include "shm/client_lane.h"
#include "shm/error.h"
#include "shm/metrics.h"

#define S UINT64_C(1000000000)

static struct pawl_segment segment;
static struct pawl_metrics *metrics;
static struct pawl_metrics_sample sample;

static void make(void)
{
    cr_assert(eq(int, pawl_metrics_create(16, 3, UINT64_C(1700000000) * S, &segment), 0));
    metrics = pawl_metrics_of(&segment);
}

static void end(void)
{
    pawl_segment_close(&segment);
}

TestSuite(bus_metrics, .init = make, .fini = end, .timeout = 300);

static void take(uint64_t at_ns, struct pawl_metrics_sample *out)
{
    cr_assert(eq(int, pawl_metrics_sample_take(metrics, at_ns, out), 0));
}

Test(bus_metrics, another_process_reads_them_and_cannot_write_them)
{
    pawl_metrics_row_open(metrics, 2, "orders");
    pawl_metrics_row_add(pawl_metrics_row(metrics, 2), PAWL_QUEUE_ACKED, 41);
    int fd = dup(segment.fd);
    pid_t child = fork();
    if (child == 0) {
        struct pawl_segment theirs;
        struct pawl_metrics_row_copy row;
        if (pawl_metrics_attach(fd, &theirs) != 0)
            _exit(1);
        if (!pawl_metrics_row_read(pawl_metrics_of(&theirs), 2, &row) || strcmp(row.name, "orders") != 0)
            _exit(2);
        if (row.counter[PAWL_QUEUE_ACKED] != 41 || pawl_metrics_row_count(pawl_metrics_of(&theirs)) != 3)
            _exit(3);
        if (mprotect(theirs.base, theirs.bytes, PROT_READ | PROT_WRITE) == 0)
            _exit(4);
        _exit(0);
    }
    int status;
    cr_assert(eq(int, waitpid(child, &status, 0), child));
    cr_expect(eq(int, WEXITSTATUS(status), 0));
    close(fd);
}

Test(bus_metrics, another_layout_and_a_segment_that_is_too_short_are_refused)
{
    struct pawl_segment theirs;
    metrics->version++;
    cr_expect(eq(int, pawl_metrics_attach(segment.fd, &theirs), PAWL_E_BAD_FORMAT));
    metrics->version--;
    metrics->rows_max = 4000;
    cr_expect(eq(int, pawl_metrics_attach(segment.fd, &theirs), PAWL_E_BAD_MESSAGE));
    metrics->rows_max = 16;
    atomic_store(&metrics->magic, 0);
    cr_expect(eq(int, pawl_metrics_attach(segment.fd, &theirs), PAWL_E_BAD_FORMAT), "half made");
    atomic_store(&metrics->magic, PAWL_METRICS_MAGIC);
    int fd = dup(segment.fd);
    cr_assert(eq(int, pawl_metrics_attach(fd, &theirs), 0), "a refusal leaves the descriptor alone");
    pawl_segment_close(&theirs);
}

Test(bus_metrics, as_many_rows_as_there_may_be_queues_take_memory_only_when_used)
{
    struct pawl_segment big;
    struct stat st;
    cr_expect(eq(int, pawl_metrics_create(PAWL_METRICS_ROWS_MAX + 1, 1, 1, &big), PAWL_E_LIMIT));
    cr_expect(eq(int, pawl_metrics_create(0, 1, 1, &big), PAWL_E_LIMIT));
    cr_assert(eq(int, pawl_metrics_create(PAWL_METRICS_ROWS_MAX, 1, 1, &big), 0));
    pawl_metrics_row_open(pawl_metrics_of(&big), PAWL_METRICS_ROWS_MAX - 1, "last");
    cr_assert(eq(int, fstat(big.fd, &st), 0));
    cr_expect(lt(i64, (int64_t)st.st_blocks * 512, 32768));
    struct pawl_metrics_row_copy row;
    cr_expect(eq(int, pawl_metrics_row_read(pawl_metrics_of(&big), PAWL_METRICS_ROWS_MAX - 1, &row), true));
    cr_expect(eq(int, pawl_metrics_row_read(pawl_metrics_of(&big), PAWL_METRICS_ROWS_MAX, &row), false));
    cr_expect(eq(u32, pawl_metrics_row_count(pawl_metrics_of(&big)), PAWL_METRICS_ROWS_MAX));
    pawl_segment_close(&big);
}

Test(bus_metrics, a_row_that_changes_hands_begins_at_nothing_and_is_nobodys_in_between)
{
    struct pawl_metrics_row_copy first, second;
    cr_expect(eq(int, pawl_metrics_row_read(metrics, 0, &first), false));
    pawl_metrics_row_open(metrics, 0, "one");
    pawl_metrics_row_add(pawl_metrics_row(metrics, 0), PAWL_QUEUE_DEAD + PAWL_DEAD_EXPIRED, 3);
    pawl_metrics_row_set(pawl_metrics_row(metrics, 0), PAWL_QUEUE_DEPTH, 9);
    pawl_metrics_observe(&pawl_metrics_row(metrics, 0)->handler, 5000);
    cr_assert(eq(int, pawl_metrics_row_read(metrics, 0, &first), true));
    cr_expect(eq(u64, first.counter[11], 3));
    cr_expect(eq(u64, first.gauge[PAWL_QUEUE_DEPTH], 9));
    cr_expect(eq(u64, first.handler.sum, 5000));
    pawl_metrics_row_close(metrics, 0);
    pawl_metrics_row_close(metrics, 0);
    cr_expect(eq(int, pawl_metrics_row_read(metrics, 0, &second), false));
    pawl_metrics_row_open(metrics, 0, "two");
    cr_assert(eq(int, pawl_metrics_row_read(metrics, 0, &second), true));
    cr_expect(eq(str, second.name, "two"));
    cr_expect(ne(u64, second.generation, first.generation));
    cr_expect(eq(u64, second.counter[11], 0));
    cr_expect(eq(u64, second.gauge[PAWL_QUEUE_DEPTH], 0));
    cr_expect(eq(u64, second.handler.sum, 0));
    cr_expect(eq(u64, second.handler.bucket[3], 0));
}

Test(bus_metrics, a_name_too_long_is_cut)
{
    char name[200];
    struct pawl_metrics_row_copy row;
    memset(name, 'x', sizeof name);
    name[199] = '\0';
    pawl_metrics_row_open(metrics, 1, name);
    cr_assert(eq(int, pawl_metrics_row_read(metrics, 1, &row), true));
    cr_expect(eq(sz, strlen(row.name), 71));
}

Test(bus_metrics, each_bucket_ends_with_its_power_of_two)
{
    cr_expect(eq(u32, pawl_metrics_bucket(10, 0), 0));
    cr_expect(eq(u32, pawl_metrics_bucket(10, 1024), 0));
    for (uint32_t i = 1; i < PAWL_METRICS_BUCKETS - 1; i++) {
        cr_expect(eq(u32, pawl_metrics_bucket(10, (UINT64_C(1) << (9 + i)) + 1), i));
        cr_expect(eq(u32, pawl_metrics_bucket(10, UINT64_C(1) << (10 + i)), i));
        cr_expect(eq(u32, pawl_metrics_bucket(0, UINT64_C(1) << i), i));
    }
    cr_expect(eq(u32, pawl_metrics_bucket(10, (UINT64_C(1) << 40) + 1), 31));
    cr_expect(eq(u32, pawl_metrics_bucket(10, UINT64_MAX), 31));
    cr_expect(eq(u32, pawl_metrics_bucket(0, UINT64_MAX), 31));
}

Test(bus_metrics, depth_of_dead_letters_is_that_of_the_queue_that_holds_them)
{
    struct pawl_metrics_row *row;
    pawl_metrics_row_open(metrics, 1, "a");
    pawl_metrics_row_open(metrics, 2, "b");
    pawl_metrics_row_open(metrics, 7, "graves");
    row = pawl_metrics_row(metrics, 7);
    pawl_metrics_row_set(row, PAWL_QUEUE_DEPTH, 5);
    pawl_metrics_row_set(pawl_metrics_row(metrics, 1), PAWL_QUEUE_DLQ_ROW, 7);
    pawl_metrics_row_set(pawl_metrics_row(metrics, 2), PAWL_QUEUE_DLQ_ROW, 7);
    take(0, &sample);
    cr_expect(eq(u64, sample.rows[0].gauge[PAWL_QUEUE_DLQ_DEPTH], 5));
    cr_expect(eq(u64, sample.rows[1].gauge[PAWL_QUEUE_DLQ_DEPTH], 5));
    cr_expect(eq(u64, sample.rows[2].gauge[PAWL_QUEUE_DLQ_DEPTH], 0));
    pawl_metrics_sample_fini(&sample);
    pawl_metrics_row_close(metrics, 7); /* it was deleted */
    take(0, &sample);
    cr_expect(eq(u64, sample.rows[0].gauge[PAWL_QUEUE_DLQ_DEPTH], 0));
    pawl_metrics_sample_fini(&sample);
}

/* ---- text ---- */

static void fill(void)
{
    pawl_metrics_row_open(metrics, 0, "orders");
    pawl_metrics_row_open(metrics, 5, "or\"d\\er\ns");
    struct pawl_metrics_row *row = pawl_metrics_row(metrics, 0);
    for (uint32_t i = 0; i < PAWL_QUEUE_COUNTERS; i++)
        pawl_metrics_row_add(row, i, 100 + i);
    for (uint32_t i = 0; i < PAWL_QUEUE_GAUGES; i++)
        pawl_metrics_row_set(row, (enum pawl_queue_gauge)i, 10 + i);
    pawl_metrics_row_set(row, PAWL_QUEUE_BREAKER_STATE, 2);
    pawl_metrics_row_set(row, PAWL_QUEUE_DLQ_ROW, 6);
    pawl_metrics_row_open(metrics, 6, "orders.dlq");
    pawl_metrics_row_set(pawl_metrics_row(metrics, 6), PAWL_QUEUE_DEPTH, 77);
    for (uint32_t i = 0; i < PAWL_METRICS_CELLS; i++)
        pawl_metrics_set(metrics, (enum pawl_metrics_cell)i, 1000 + i);
    pawl_metrics_add(metrics, PAWL_METRICS_EVENTS_PUBLISHED, 1);
    pawl_metrics_observe(&row->handler, 1000);
    pawl_metrics_observe(&row->handler, 1500);
    pawl_metrics_observe(&row->handler, UINT64_C(2000) * S);
    pawl_metrics_observe(&metrics->histogram[PAWL_METRICS_JOURNAL_BATCH], 3);
    pawl_metrics_observe(&metrics->histogram[PAWL_METRICS_DELIVERY_LATENCY], 1500000001);
}

static char *render(void)
{
    static const struct pawl_metrics_memory memory[] = {{"rss", 12345}, {"a\"b", 1}};
    size_t bytes = 0;
    take(0, &sample);
    char *text = pawl_metrics_prometheus(&sample, memory, 2, &bytes);
    cr_assert(ne(ptr, text, NULL));
    cr_assert(eq(sz, strlen(text), bytes));
    pawl_metrics_sample_fini(&sample);
    return text;
}

Test(bus_metrics, text_has_every_name_with_its_labels_and_value)
{
    fill();
    static const char *const lines[] = {
        "pawl_events_published_total 1001",
        "pawl_deliveries_total{queue=\"orders\"} 101",
        "pawl_acks_total{queue=\"orders\"} 102",
        "pawl_nacks_total{queue=\"orders\"} 103",
        "pawl_redeliveries_total{queue=\"orders\",cause=\"nack\"} 104",
        "pawl_redeliveries_total{queue=\"orders\",cause=\"deadline\"} 105",
        "pawl_redeliveries_total{queue=\"orders\",cause=\"consumer-died\"} 106",
        "pawl_redeliveries_total{queue=\"orders\",cause=\"handler-error\"} 107",
        "pawl_redeliveries_total{queue=\"orders\",cause=\"exit\"} 108",
        "pawl_dead_letters_total{queue=\"orders\",reason=\"delivery-limit\"} 109",
        "pawl_dead_letters_total{queue=\"orders\",reason=\"rejected\"} 110",
        "pawl_dead_letters_total{queue=\"orders\",reason=\"expired\"} 111",
        "pawl_dead_letters_total{queue=\"orders\",reason=\"overflow\"} 112",
        "pawl_dead_letters_total{queue=\"orders\",reason=\"interrupted\"} 113",
        "pawl_queue_depth{queue=\"orders\"} 10",
        "pawl_queue_in_flight{queue=\"orders\"} 11",
        "pawl_queue_bytes{queue=\"orders\"} 12",
        "pawl_dlq_depth{queue=\"orders\"} 77",
        "pawl_dlq_depth{queue=\"orders.dlq\"} 0",
        "pawl_queue_consumers{queue=\"orders\"} 16",
        "pawl_journal_room 1012",
        "pawl_journal_disk_bytes 1015",
        "pawl_breaker_state{queue=\"orders\"} 2",
        "pawl_queue_paused{queue=\"orders\"} 15",
        "pawl_queue_published_total{queue=\"orders\"} 100",
        "pawl_queue_dropped_total{queue=\"orders\"} 114",
        "pawl_queue_duplicates_total{queue=\"orders\"} 115",
        "pawl_queue_refused_total{queue=\"orders\"} 116",
        "pawl_events_unrouted_total 1001",
        "pawl_journal_bytes_total 1002",
        "pawl_journal_syncs_total 1003",
        "pawl_workers{state=\"idle\"} 1004",
        "pawl_workers{state=\"busy\"} 1005",
        "pawl_workers{state=\"starting\"} 1006",
        "pawl_worker_restarts_total 1007",
        "pawl_clients 1008",
        "pawl_memory_bytes{kind=\"rss\"} 12345",
        "pawl_memory_bytes{kind=\"a\\\"b\"} 1",
        "pawl_queue_depth{queue=\"or\\\"d\\\\er\\ns\"} 0",
        "# TYPE pawl_acks_total counter",
        "# TYPE pawl_queue_depth gauge",
        "# TYPE pawl_handler_seconds histogram",
        "pawl_handler_seconds_bucket{queue=\"orders\",le=\"1.024e-06\"} 1",
        "pawl_handler_seconds_bucket{queue=\"orders\",le=\"2.048e-06\"} 2",
        "pawl_handler_seconds_bucket{queue=\"orders\",le=\"1099.511627776\"} 2",
        "pawl_handler_seconds_bucket{queue=\"orders\",le=\"+Inf\"} 3",
        "pawl_handler_seconds_sum{queue=\"orders\"} 2000.000002500",
        "pawl_handler_seconds_count{queue=\"orders\"} 3",
        "pawl_journal_batch_records_bucket{le=\"2\"} 0",
        "pawl_journal_batch_records_bucket{le=\"4\"} 1",
        "pawl_journal_batch_records_sum 3",
        "pawl_journal_batch_records_count 1",
        "pawl_delivery_latency_seconds_sum 1.500000001",
        "pawl_delivery_latency_seconds_count 1",
        "pawl_journal_sync_seconds_bucket{le=\"+Inf\"} 0",
        "pawl_journal_sync_seconds_count 0",
    };
    char *text = render(), line[256];
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        snprintf(line, sizeof line, "\n%s\n", lines[i]);
        cr_expect(strstr(text, line) != NULL, "not there: %s", lines[i]);
    }
    free(text);
}

/* Every line is a comment or a sample; a family is told of once, before its first sample, in one piece. */
Test(bus_metrics, text_is_in_order_by_family)
{
    fill();
    char *text = render(), *save = NULL, family[128] = "";
    char seen[64][128];
    size_t families = 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            snprintf(family, sizeof family, "%.*s", (int)strcspn(line + 7, " "), line + 7);
            for (size_t i = 0; i < families; i++)
                cr_expect(ne(str, seen[i], family));
            strcpy(seen[families++], family);
            continue;
        }
        const char *name = strncmp(line, "# TYPE ", 7) == 0 ? line + 7 : line;
        cr_expect(strncmp(name, family, strlen(family)) == 0, "%s in %s", line, family);
    }
    cr_expect(eq(sz, families, 30));
    free(text);
}

/* ---- JSON ---- */

static const json_t *at(const json_t *json, const char *path)
{
    char copy[128], *save = NULL;
    snprintf(copy, sizeof copy, "%s", path);
    for (char *key = strtok_r(copy, ".", &save); key && json; key = strtok_r(NULL, ".", &save))
        json =
            json_is_array(json) ? json_array_get(json, strtoul(key, NULL, 10)) : json_object_get(json, key);
    cr_assert(ne(ptr, (void *)(uintptr_t)json, NULL), "no %s", path);
    return json;
}

#define INTEGER(json, path) ((int)json_integer_value(at(json, path)))

Test(bus_metrics, json_says_the_same)
{
    static const struct pawl_metrics_memory memory[] = {{"rss", 12345}};
    fill();
    take(0, &sample);
    json_t *json = pawl_metrics_json(NULL, &sample, memory, 1);
    cr_assert(ne(ptr, json, NULL));
    cr_expect(eq(int, INTEGER(json, "schema"), 1));
    cr_expect(eq(int, INTEGER(json, "events.published"), 1001));
    cr_expect(eq(str, (char *)(uintptr_t)json_string_value(at(json, "queues.0.name")), "orders"));
    cr_expect(eq(str, (char *)(uintptr_t)json_string_value(at(json, "queues.0.breaker")), "half-open"));
    cr_expect(eq(int, INTEGER(json, "queues.0.acked"), 102));
    cr_expect(eq(int, INTEGER(json, "queues.0.redelivered.consumer-died"), 106));
    cr_expect(eq(int, INTEGER(json, "queues.0.dead_letters.expired"), 111));
    cr_expect(eq(int, INTEGER(json, "queues.0.handler_seconds.count"), 3));
    cr_expect(eq(dbl, json_real_value(at(json, "queues.0.handler_seconds.p50")), 2.048e-06));
    cr_expect(eq(int, json_is_null(at(json, "queues.0.handler_seconds.p99")), 1));
    cr_expect(eq(int, INTEGER(json, "queues.0.handler_seconds.buckets.1.count"), 2));
    cr_expect(eq(int, json_is_null(at(json, "queues.0.handler_seconds.buckets.2.le")), 1));
    cr_expect(eq(int, INTEGER(json, "journal.batch_records.sum"), 3));
    cr_expect(eq(int, INTEGER(json, "workers.restarts"), 1007));
    cr_expect(eq(int, INTEGER(json, "memory_bytes.rss"), 12345));
    cr_expect(eq(sz, json_array_size(at(json, "queues")), 3));
    cr_expect(
        eq(str, (char *)(uintptr_t)json_string_value(at(json, "started_at")), "2023-11-14T22:13:20.000Z"));
    cr_expect(eq(ptr, json_object_get(json, "rates"), NULL));
    json_decref(json);
    pawl_metrics_sample_fini(&sample);
}

Test(bus_metrics, rates_are_what_happened_between_two_samples)
{
    struct pawl_metrics_sample before, after;
    fill();
    pawl_metrics_row_add(pawl_metrics_row(metrics, 5), PAWL_QUEUE_NACKED, 1000);
    take(S, &before);
    pawl_metrics_row_add(pawl_metrics_row(metrics, 0), PAWL_QUEUE_DELIVERED, 500);
    pawl_metrics_row_add(pawl_metrics_row(metrics, 0), PAWL_QUEUE_ACKED, 400);
    pawl_metrics_row_open(metrics, 3, "new");
    pawl_metrics_row_add(pawl_metrics_row(metrics, 3), PAWL_QUEUE_DELIVERED, 100);
    pawl_metrics_row_add(pawl_metrics_row(metrics, 3), PAWL_QUEUE_NACKED, 50);
    pawl_metrics_row_open(metrics, 5, "another"); /* its row was a queue's before, with its own counts */
    pawl_metrics_row_add(pawl_metrics_row(metrics, 5), PAWL_QUEUE_NACKED, 10);
    pawl_metrics_add(metrics, PAWL_METRICS_EVENTS_PUBLISHED, 7);
    take(3 * S, &after);
    json_t *json = pawl_metrics_json(&before, &after, NULL, 0);
    cr_assert(ne(ptr, json, NULL));
    cr_expect(eq(dbl, json_real_value(at(json, "rates.seconds")), 2));
    cr_expect(eq(dbl, json_real_value(at(json, "rates.publish")), 3.5));
    cr_expect(eq(dbl, json_real_value(at(json, "rates.delivery")), 300));
    cr_expect(eq(dbl, json_real_value(at(json, "rates.ack")), 200));
    cr_expect(eq(dbl, json_real_value(at(json, "rates.nack")), 30));
    cr_expect(eq(dbl, json_real_value(at(json, "queues.0.rates.delivery")), 250));
    cr_expect(eq(dbl, json_real_value(at(json, "queues.1.rates.nack")), 25));
    cr_expect(eq(dbl, json_real_value(at(json, "queues.2.rates.nack")), 5));
    json_decref(json);
    before.epoch++; /* another scheduler: its counts say nothing about these */
    json = pawl_metrics_json(&before, &after, NULL, 0);
    cr_expect(eq(ptr, json_object_get(json, "rates"), NULL));
    json_decref(json);
    pawl_metrics_sample_fini(&before);
    pawl_metrics_sample_fini(&after);
}

Test(bus_metrics, a_name_that_is_no_text_spoils_neither_form)
{
    pawl_metrics_row_open(metrics, 0, "a\xff\xc3z");
    take(0, &sample);
    json_t *json = pawl_metrics_json(NULL, &sample, NULL, 0);
    cr_assert(ne(ptr, json, NULL));
    cr_expect(eq(str, (char *)(uintptr_t)json_string_value(at(json, "queues.0.name")), "a??z"));
    json_decref(json);
    pawl_metrics_sample_fini(&sample);
}

/* The writer opens and closes one row with all its numbers alike; a reader never sees two lives mixed. */
Test(bus_metrics, a_row_read_while_it_changes_hands_is_of_one_life_or_none)
{
    int fd = dup(segment.fd);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* without a writer it would read for ever */
        struct pawl_segment theirs;
        struct pawl_metrics_row_copy row;
        if (pawl_metrics_attach(fd, &theirs) != 0)
            _exit(1);
        uint64_t last = 0;
        for (int lives = 0; lives < 1000;) {
            if (!pawl_metrics_row_read(pawl_metrics_of(&theirs), 0, &row))
                continue;
            if (row.name[0] != row.name[63] || row.gauge[0] != 0)
                _exit(2);
            lives += row.generation != last;
            last = row.generation;
        }
        _exit(0);
    }
    char name[65] = {0};
    int status = 0;
    /* In bursts: there the reader meets rows half made, and between them whole ones. */
    for (uint32_t life = 0; life % 64 != 0 || waitpid(child, &status, WNOHANG) == 0; life++) {
        memset(name, 'a' + (int)(life % 25), 64);
        pawl_metrics_row_open(metrics, 0, name);
    }
    cr_expect(eq(int, WEXITSTATUS(status), 0));
    close(fd);
}
