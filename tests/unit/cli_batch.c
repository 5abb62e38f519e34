/*
 * cli_batch - which line of --inputs has which run.
 */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "runtime/cli/run_batch.h"
#include "scheduler/run.h"

enum { X = 1001, Y, Z, RUNS_MAX = 16 };

static struct pawl_wire_summary runs[RUNS_MAX]; /* newest first */
static size_t run_count;
static struct pawl_run_batch batch;

static void older_run(const char *run_id, uint64_t identity, uint32_t state)
{
    struct pawl_wire_summary *run = &runs[run_count++];
    snprintf(run->run_id, sizeof run->run_id, "%s", run_id);
    run->identity = identity;
    run->state = state;
}

static void make(const char *name, const uint64_t *lines, uint64_t count)
{
    cr_assert(eq(int, pawl_run_batch_make(name, lines, count, runs, run_count, &batch), 0));
}

/* "": it has none. */
static const char *run_of(uint64_t line)
{
    return batch.lines[line].run != NULL ? batch.lines[line].run->run_id : "";
}

static void end(void)
{
    pawl_run_batch_fini(&batch);
}

TestSuite(cli_batch, .fini = end);

Test(cli_batch, a_batch_that_begins_has_a_name_of_its_own_and_the_numbers_of_its_lines)
{
    const uint64_t lines[] = {X, Y};
    char run_id[PAWL_NAME_BYTES];
    make(NULL, lines, 2);
    cr_expect(ge(sz, strlen(batch.name), 1));
    cr_expect(eq(u64, batch.lines[1].number, 2));
    end();
    make("night", lines, 2);
    pawl_run_batch_name(&batch, 2, run_id);
    cr_expect(eq(str, run_id, "night-2"));
    cr_expect(eq(u64, batch.done, 0));
}

Test(cli_batch, each_line_has_its_run_and_what_has_succeeded_is_done)
{
    const uint64_t lines[] = {X, Y, Z};
    older_run("b-2", Y, PAWL_RUN_INTERRUPTED);
    older_run("b-1", X, PAWL_RUN_SUCCEEDED);
    make(NULL, lines, 3);
    cr_expect(eq(str, batch.name, "b"));
    cr_expect(eq(str, (char *)run_of(0), "b-1"));
    cr_expect(batch.lines[0].done);
    cr_expect(eq(str, (char *)run_of(1), "b-2"));
    cr_expect(not(batch.lines[1].done));
    cr_expect(eq(str, (char *)run_of(2), ""));
    cr_expect(eq(u64, batch.lines[2].number, 3));
    cr_expect(eq(u64, batch.done, 1));
}

Test(cli_batch, of_equal_lines_each_has_another_run_and_successes_come_first)
{
    const uint64_t lines[] = {X, X, X, X};
    older_run("b-4", X, PAWL_RUN_FAILED);
    older_run("b-2", X, PAWL_RUN_SUCCEEDED);
    older_run("b-1", X, PAWL_RUN_SUCCEEDED);
    make(NULL, lines, 4);
    cr_expect(eq(u64, batch.done, 2));
    cr_expect(eq(str, (char *)run_of(2), "b-4"));
    cr_expect(eq(str, (char *)run_of(3), ""));
    cr_expect(eq(u64, batch.lines[3].number, 5), "b-4 is the run of another line");
}

Test(cli_batch, runs_beyond_the_batch_do_not_count)
{
    const uint64_t lines[] = {X, Y};
    older_run("other", X, PAWL_RUN_FAILED);
    older_run("b-2", X, PAWL_RUN_FAILED);
    older_run("a-1", X, PAWL_RUN_SUCCEEDED);
    older_run("a-2", Y, PAWL_RUN_SUCCEEDED);
    make(NULL, lines, 2);
    cr_expect(eq(str, batch.name, "b"));
    cr_expect(eq(str, (char *)run_of(0), "b-2"));
    cr_expect(eq(str, (char *)run_of(1), ""));
    cr_expect(eq(u64, batch.lines[1].number, 3), "b-2 is taken");
    cr_expect(eq(u64, batch.done, 0));
    end();
    make("a", lines, 2);
    cr_expect(eq(u64, batch.done, 2));
}

Test(cli_batch, the_newest_batch_is_one_with_any_of_the_lines)
{
    const uint64_t lines[] = {Y, Z};
    older_run("c-1", X, PAWL_RUN_SUCCEEDED);
    older_run("b-2", Y, PAWL_RUN_SUCCEEDED);
    make(NULL, lines, 2);
    cr_expect(eq(str, batch.name, "b"));
    cr_expect(batch.lines[0].done);
}

Test(cli_batch, a_run_that_is_called_like_none_of_a_batch_begins_none)
{
    const uint64_t lines[] = {X};
    const char *names[] = {
        "20260131-120000-23456", "night-", "night-0", "night-07", "-1", "night1", "night-1x"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        older_run(names[i], X, PAWL_RUN_SUCCEEDED);
    older_run("20260131-120000-bcd45-1", X, PAWL_RUN_FAILED);
    make(NULL, lines, 1);
    cr_expect(eq(str, batch.name, "20260131-120000-bcd45"));
    cr_expect(eq(u64, batch.done, 0));
}
