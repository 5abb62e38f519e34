/*
 * teardown.c - an assertion that fails in a suite's .fini fails its test.
 *
 * Criterion tells of it and counts the test as passed: it has its verdict before .fini begins.
 */
#include <stdio.h>

#include <criterion/criterion.h>
#include <criterion/hooks.h>

static size_t failed_late;

ReportHook(POST_FINI)(struct criterion_test_stats *stats)
{
    if (stats->test_status != CR_STATUS_PASSED || stats->failed_asserts == 0)
        return;
    failed_late++;
    fprintf(stderr, "[FAIL] %s::%s: in its teardown\n", stats->test->category, stats->test->name);
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
    stats->tests_failed += failed_late;
    stats->tests_passed -= failed_late;
}
