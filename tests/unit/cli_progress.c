/*
 * cli_progress.c - the progress block, rates, and how numbers and words are shown.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/output.h"
#include "runtime/cli/progress.h"
#include "runtime/cli/quote.h"
#include "scheduler/run.h"

#define SECOND UINT64_C(1000000000)

TestSuite(cli_progress);
TestSuite(cli_output);

static struct pawl_progress block(void)
{
    return (struct pawl_progress){.kind = PAWL_PROGRESS_BLOCK};
}

Test(cli_progress, no_rate_is_told_before_there_are_two_samples)
{
    struct pawl_progress progress = block();
    double now, low, high;
    cr_assert(not(pawl_progress_rates(&progress, &now, &low, &high)));
    pawl_progress_sample(&progress, 0, 0);
    cr_assert(not(pawl_progress_rates(&progress, &now, &low, &high)));
}

Test(cli_progress, a_steady_rate_has_no_spread_and_an_unsteady_one_has)
{
    struct pawl_progress progress = block();
    double now, low, high;
    for (uint64_t t = 0; t <= 20; t++)
        pawl_progress_sample(&progress, t * SECOND, t * 10);
    cr_assert(pawl_progress_rates(&progress, &now, &low, &high));
    cr_assert(ieee_ulp_eq(dbl, low, 10.0, 4));
    cr_assert(ieee_ulp_eq(dbl, high, 10.0, 4));
    for (uint64_t t = 21; t <= 24; t++)
        pawl_progress_sample(&progress, t * SECOND, 200 + (t - 20) * 100);
    cr_assert(pawl_progress_rates(&progress, &now, &low, &high));
    cr_assert(ieee_ulp_eq(dbl, now, 100.0, 4));
    cr_assert(lt(dbl, low, 50.0));
    cr_assert(not(le(dbl, high, 90.0)));
}

Test(cli_progress, the_block_shows_bar_counts_range_and_the_slowest)
{
    struct pawl_progress progress = block();
    char text[PAWL_PROGRESS_TEXT_BYTES];
    struct pawl_progress_facts facts = {.run_id = "r",
                                        .done = 50,
                                        .total = 100,
                                        .running = 4,
                                        .failed = 1,
                                        .retrying = 2,
                                        .elapsed_ns = 65 * SECOND,
                                        .slowest_count = 1};
    snprintf(facts.slowest[0].name, sizeof facts.slowest[0].name, "compile [3]");
    facts.slowest[0].elapsed_ns = 12 * SECOND;
    for (uint64_t t = 0; t <= 20; t++)
        pawl_progress_sample(&progress, t * SECOND, t);
    pawl_progress_text(&progress, &facts, 200, text);
    cr_assert(strstr(text, "[##########..........] 50/100") != NULL, "%s", text);
    cr_assert(strstr(text, "4 running  1 failed  2 retrying") != NULL, "%s", text);
    cr_assert(strstr(text, "ETA 50.0 s") != NULL, "%s", text);
    cr_assert(strstr(text, "1m05s\n") != NULL, "%s", text);
    cr_assert(strstr(text, "compile [3]") != NULL, "%s", text);
}

Test(cli_progress, without_a_total_it_tells_what_was_read_so_far)
{
    struct pawl_progress progress = block();
    char text[PAWL_PROGRESS_TEXT_BYTES];
    struct pawl_progress_facts facts = {.run_id = "r", .done = 5, .read = 9};
    pawl_progress_text(&progress, &facts, 200, text);
    cr_assert(strstr(text, "5 of 9 so far") != NULL, "%s", text);
    cr_assert(strstr(text, "ETA") == NULL);
}

Test(cli_progress, each_line_is_cut_to_the_width_in_characters_and_controls_are_gone)
{
    struct pawl_progress progress = block();
    char text[PAWL_PROGRESS_TEXT_BYTES];
    struct pawl_progress_facts facts = {.run_id = "r", .done = 5, .total = 9, .slowest_count = 1};
    snprintf(facts.slowest[0].name, sizeof facts.slowest[0].name,
             "\xc3\xa9\xc3\xa9\xc3\xa9\033[2Jabcdefghijklmnop");
    pawl_progress_text(&progress, &facts, 16, text);
    char *second = strchr(text, '\n');
    cr_assert(eq(sz, (size_t)(second - text), 16));
    cr_assert(strchr(text, '\033') == NULL);
    cr_assert(eq(sz, strlen(second + 1), 16 + 3), "%s", text);
}

/* ---- output ---- */

/* Valid until the next call. */
static char *shown(void (*show)(FILE *stream))
{
    static char text[256];
    memset(text, 0, sizeof text);
    FILE *stream = fmemopen(text, sizeof text, "w");
    show(stream);
    fclose(stream);
    return text;
}

static void show_quotes(FILE *stream)
{
    static const char *const words[] = {"plain-1.2/x", "", "it's", "a b", "$x", "~"};
    pawl_quote_command(stream, words, 6);
}

static void show_assignment(FILE *stream)
{
    static const char *const words[] = {"A=b", "c=d"};
    pawl_quote_command(stream, words, 2);
}

static void show_controls(FILE *stream)
{
    pawl_print_safe(stream, "a\033[31m\tb\xff\xc3\xa9\xc2\x9bz", 14);
}

static void show_line(FILE *stream)
{
    static const char text[] = "a\nb\tc\rd\033[1m\xc3\xa9\n";
    pawl_print_line(stream, text, sizeof text - 1);
}

Test(cli_output, text_from_outside_never_ends_the_line_that_it_is_part_of)
{
    cr_assert(eq(str, shown(show_line), "a\\nb\\tc\\x0dd\\x1b[1m\xc3\xa9\\n"));
}

Test(cli_output, words_are_quoted_so_that_sh_reads_them_back)
{
    cr_assert(eq(str, shown(show_quotes), "plain-1.2/x '' 'it'\\''s' 'a b' '$x' '~'"));
    cr_assert(eq(str, shown(show_assignment), "'A=b' c=d"));
}

Test(cli_output, control_characters_never_reach_the_terminal)
{
    cr_assert(eq(str, shown(show_controls), "a\\x1b[31m\tb\\xff\xc3\xa9\\xc2\\x9bz"));
}

Test(cli_output, durations_and_sizes_are_short)
{
    char text[PAWL_DURATION_TEXT_BYTES], size[32];
    cr_assert(eq(str, (char *)(uintptr_t)pawl_format_duration(1500000, text), "1 ms"));
    cr_assert(eq(str, (char *)(uintptr_t)pawl_format_duration(3400 * (SECOND / 1000), text), "3.4 s"));
    cr_assert(eq(str, (char *)(uintptr_t)pawl_format_duration(307 * SECOND, text), "5m07s"));
    cr_assert(eq(str, (char *)(uintptr_t)pawl_format_duration(7380 * SECOND, text), "2h03m"));
    cr_assert(eq(str, (char *)(uintptr_t)pawl_format_bytes(1536, size), "1.5 KiB"));
    cr_assert(eq(str, (char *)(uintptr_t)pawl_format_bytes(12, size), "12 B"));
}

Test(cli_output, instants_are_rfc_3339_with_milliseconds)
{
    char text[PAWL_TIME_TEXT_BYTES];
    cr_assert(eq(str, (char *)(uintptr_t)pawl_format_time(UINT64_C(1700000000123456789), text),
                 "2023-11-14T22:13:20.123Z"));
    cr_assert(eq(str, (char *)(uintptr_t)pawl_format_time(0, text), ""));
}

Test(cli_output, bytes_that_are_no_text_are_base64_in_json)
{
    json_t *object = json_object();
    pawl_json_bytes(object, "item", "ok", 2);
    pawl_json_bytes(object, "bad", "\xffx", 2);
    char *text = json_dumps(object, JSON_COMPACT);
    cr_assert(eq(str, text, "{\"item\":\"ok\",\"bad_base64\":\"/3g=\"}"));
    free(text);
    json_decref(object);
    object = pawl_json_text("a\xff\xe2\x82z");
    cr_assert(
        eq(str, (char *)(uintptr_t)json_string_value(object), "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz"));
    json_decref(object);
}

static void expect_base64(const char *bytes, size_t n, const char *want)
{
    char *text = pawl_base64(bytes, n);
    cr_assert(eq(str, text, (char *)(uintptr_t)want));
    free(text);
}

Test(cli_output, base64_pads_each_length)
{
    expect_base64("", 0, "");
    expect_base64("f", 1, "Zg==");
    expect_base64("fo", 2, "Zm8=");
    expect_base64("foo", 3, "Zm9v");
}

Test(cli_output, a_summary_has_the_promised_keys_and_exit_codes)
{
    struct pawl_wire_summary summary = {.run_id = "r",
                                        .workflow = "w",
                                        .state = PAWL_RUN_FAILED,
                                        .total = 3,
                                        .succeeded = 2,
                                        .failed = 1,
                                        .elapsed_ns = 2500000,
                                        .attempts = 4};
    json_t *document = pawl_summary_json(&summary);
    static const char *const keys[] = {"schema",     "run",         "workflow",   "state",   "steps",
                                       "started_at", "finished_at", "elapsed_ms", "attempts"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        cr_assert(json_object_get(document, keys[i]) != NULL, "%s", keys[i]);
    cr_assert(eq(int, (int)json_integer_value(json_object_get(document, "elapsed_ms")), 2));
    cr_assert(eq(str, (char *)(uintptr_t)json_string_value(json_object_get(document, "state")), "failed"));
    cr_assert(eq(int, (int)json_typeof(json_object_get(document, "finished_at")), JSON_NULL));
    json_decref(document);
    cr_assert(eq(int, pawl_summary_exit(&summary), 1));
    summary.state = PAWL_RUN_INTERRUPTED;
    cr_assert(eq(int, pawl_summary_exit(&summary), 5));
    summary.state = PAWL_RUN_WAITING;
    cr_assert(eq(int, pawl_summary_exit(&summary), 6));
}
