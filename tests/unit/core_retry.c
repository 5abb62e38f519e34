/*
 * core_retry - one policy for every cause: exit codes, signals, deadlines, dead workers; and its timers.
 */
#include <stdio.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "scheduler/run.h"
#include "shm/task.h"
#include "tests/sim/world.h"

#define SECOND_NS UINT64_C(1000000000)

static struct world *world;

static void make_world(void)
{
    world = world_create(2);
}

static void end_world(void)
{
    cr_expect(eq(str, world->broken, ""));
    world_check_counts(world);
    world_destroy(world);
}

TestSuite(core_retry, .init = make_world, .fini = end_world);

static void end_with(uint32_t outcome, int32_t code)
{
    struct world_job *job = world_find(world, "a", 0);
    cr_assert(ne(ptr, job, NULL), "not placed");
    world_end(world, job, outcome, code, NULL);
    world_sync(world);
}

static uint32_t state_of(void)
{
    return world_step_state(world, "r", "a", 0);
}

#define STEP(more) "pawl: 1\nsteps: {a: {run: [x], " more "}}\n"

Test(core_retry, retry_waits_its_backoff_and_not_a_nanosecond_less)
{
    world_run(world, STEP("retries: {limit: 2, backoff: {initial: 10s, factor: 3, jitter: 0}}"));
    end_with(PAWL_OUTCOME_EXITED, 1);
    cr_expect(eq(u32, state_of(), PAWL_STEP_DELAYED));
    world_advance(world, 10 * SECOND_NS - 1);
    cr_expect(eq(sz, world->job_count, 0));
    world_advance(world, 1);
    cr_expect(eq(sz, world->job_count, 1));
    end_with(PAWL_OUTCOME_EXITED, 1);
    world_advance(world, 30 * SECOND_NS - 1);
    cr_expect(eq(sz, world->job_count, 0));
    world_advance(world, 1);
    cr_expect(eq(sz, world->job_count, 1));
}

Test(core_retry, limit_counts_retries_after_the_first_attempt)
{
    world_run(world, STEP("retries: {limit: 2, backoff: {initial: 0s, jitter: 0}}"));
    end_with(PAWL_OUTCOME_EXITED, 1);
    end_with(PAWL_OUTCOME_SIGNALED, 11);
    end_with(PAWL_OUTCOME_TIMED_OUT, 15);
    cr_expect(eq(u32, state_of(), PAWL_STEP_FAILED));
    cr_expect(eq(u32, world_attempts(world, "r", "a", 0), 3));
}

Test(core_retry, success_after_failures_is_success)
{
    world_run(world, STEP("retries: {limit: 1, backoff: {initial: 0s, jitter: 0}}"));
    end_with(PAWL_OUTCOME_EXITED, 1);
    end_with(PAWL_OUTCOME_EXITED, 0);
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
}

Test(core_retry, exit_codes_that_are_not_listed_are_final)
{
    world_run(world, STEP("retries: {limit: 5, backoff: {initial: 0s, jitter: 0}, on_exit: [75]}"));
    end_with(PAWL_OUTCOME_EXITED, 75);
    cr_expect(eq(u32, state_of(), PAWL_STEP_READY));
    end_with(PAWL_OUTCOME_EXITED, 2);
    cr_expect(eq(u32, state_of(), PAWL_STEP_FAILED));
}

Test(core_retry, dead_worker_costs_an_attempt_and_the_step_goes_again)
{
    world_run(world, STEP("timeout: 1m"));
    struct world_job *job = world_find(world, "a", 0);
    world_begin(world, job);
    world_worker_dies(world, job);
    world_sync(world);
    cr_assert(eq(sz, world->job_count, 1));
    cr_expect(eq(u32, world->jobs[0]->attempt, 2));
    end_with(PAWL_OUTCOME_EXITED, 0);
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
}

Test(core_retry, worker_that_dies_before_it_began_costs_nothing)
{
    world_run(world, STEP("timeout: 1m"));
    world_worker_dies(world, world_find(world, "a", 0));
    world_sync(world);
    cr_assert(eq(sz, world->job_count, 1));
    cr_expect(eq(u32, world->jobs[0]->attempt, 1));
}

Test(core_retry, step_that_kills_its_workers_fails_in_the_end)
{
    world_run(world, STEP("timeout: 1m"));
    int deaths = 0;
    for (; world->job_count > 0 && deaths < 20; deaths++) {
        world_begin(world, world->jobs[0]);
        world_worker_dies(world, world->jobs[0]);
        world_sync(world);
    }
    cr_expect(eq(int, deaths, 4));
    cr_expect(eq(u32, state_of(), PAWL_STEP_FAILED));
}

static void expect_why(const char *words)
{
    char text[4096] = "";
    struct pawl_run *run = world_find_run(world, "r");
    cr_assert(ne(ptr, run, NULL));
    cr_assert(eq(int, pawl_run_why(world->core, run, 0, 0, world->now, text, sizeof text), 0));
    cr_expect(ne(ptr, strstr(text, words), NULL), "'%s' is not in: %s", words, text);
}

Test(core_retry, why_tells_how_each_earlier_attempt_ended_and_that_a_dead_worker_is_forgiven)
{
    world_run(world, STEP("retries: {limit: 2, backoff: {initial: 0s, jitter: 0}}"));
    end_with(PAWL_OUTCOME_EXITED, 7);
    expect_why("Attempt 1: exit 7, after");
    world_begin(world, world->jobs[0]);
    world_worker_dies(world, world->jobs[0]);
    world_sync(world);
    expect_why("Attempt 2: the worker that ran it died, after");
    expect_why("tried again up to 3 times, though its `retries` are 2");
    end_with(PAWL_OUTCOME_SIGNALED, 11);
    expect_why("Attempt 1: exit 7, after");
    expect_why("a is failed (signal 11)");
}

Test(core_retry, why_calls_an_attempt_interrupted_that_pawl_itself_cut_short)
{
    world_run(world, STEP("retries: {limit: 2, backoff: {initial: 0s, jitter: 0}}"));
    world_begin(world, world->jobs[0]);
    world_sync(world);
    world_crash(world, world->record_count, false);
    world_sync(world);
    expect_why("a is ready (interrupted)");
    expect_why("Attempt 1: interrupted, pawl itself went down.");
    world_serve(world);
    world_sync(world);
    struct world_submit submit = {.resume_id = "r"};
    cr_assert(ne(ptr, world_submit(world, &submit, NULL), NULL));
    world_sync(world);
    expect_why("Attempt 1: interrupted, pawl itself went down.");
    end_with(PAWL_OUTCOME_EXITED, 7);
    world_begin(world, world->jobs[0]);
    world_sync(world);
    world_crash(world, world->record_count, true);
    expect_why("Attempt 2: exit 7, after");
    expect_why("Attempt 3: interrupted, pawl itself went down.");
    world_serve(world);
    world_finish(world);
}

Test(core_retry, wait_goes_on_after_a_restart)
{
    world_run(world, STEP("retries: {limit: 2, backoff: {initial: 10s, jitter: 0}}"));
    end_with(PAWL_OUTCOME_EXITED, 1);
    world_advance(world, 4 * SECOND_NS);
    world_restart(world);
    world_advance(world, 6 * SECOND_NS - 1);
    cr_expect(eq(sz, world->job_count, 0));
    world_advance(world, 1);
    cr_expect(eq(sz, world->job_count, 1));
}

Test(core_retry, wait_across_a_restart_is_never_longer_than_decided_when_the_clock_is_set_back)
{
    world_run(world, STEP("retries: {limit: 2, backoff: {initial: 10s, jitter: 0}}"));
    end_with(PAWL_OUTCOME_EXITED, 1);
    world->now.realtime_ns -= 3600 * SECOND_NS;
    world_restart(world);
    world_advance(world, 10 * SECOND_NS);
    cr_expect(eq(sz, world->job_count, 1));
}

Test(core_retry, wait_across_a_restart_ends_when_it_was_to_after_the_clock_was_set)
{
    world_run(world, STEP("retries: {limit: 6, backoff: {initial: 10s, factor: 1, jitter: 0}}"));
    for (int snapshot = 0; snapshot < 3; snapshot++)
        for (int forward = 0; forward < 2; forward++) {
            end_with(PAWL_OUTCOME_EXITED, 1);
            world_advance(world, 4 * SECOND_NS);
            if (snapshot == 1)
                world_snapshot(world);
            world->now.realtime_ns += forward ? 86400 * SECOND_NS : -3600 * SECOND_NS;
            if (snapshot == 2)
                world_snapshot(world);
            world_restart(world);
            world_restart(world);
            world_advance(world, 6 * SECOND_NS - 1);
            cr_expect(eq(sz, world->job_count, 0));
            world_advance(world, 1);
            cr_assert(eq(sz, world->job_count, 1));
        }
}

Test(core_retry, wait_across_a_boot_goes_on_by_the_wall_clock)
{
    world_run(world, STEP("retries: {limit: 2, backoff: {initial: 10s, jitter: 0}}"));
    end_with(PAWL_OUTCOME_EXITED, 1);
    world_reboot(world, SECOND_NS);
    world->now.realtime_ns += 4 * SECOND_NS;
    world_restart(world);
    world_advance(world, 6 * SECOND_NS - 1);
    cr_expect(eq(sz, world->job_count, 0));
    world_advance(world, 1);
    cr_expect(eq(sz, world->job_count, 1));
}

Test(core_retry, clock_that_is_set_does_not_touch_a_wait)
{
    world_run(world, STEP("retries: {limit: 2, backoff: {initial: 10s, jitter: 0}}"));
    end_with(PAWL_OUTCOME_EXITED, 1);
    world->now.realtime_ns += 3600 * SECOND_NS;
    world_advance(world, 9 * SECOND_NS);
    cr_expect(eq(sz, world->job_count, 0));
    world_advance(world, SECOND_NS);
    cr_expect(eq(sz, world->job_count, 1));
}

Test(core_retry, cancelled_run_does_not_wait_for_its_retries)
{
    struct pawl_run *run = world_run(world, STEP("retries: {limit: 2, backoff: {initial: 1h, jitter: 0}}"));
    end_with(PAWL_OUTCOME_EXITED, 1);
    pawl_core_cancel(world->core, world->now, NULL, run, PAWL_CANCEL_CANCEL, 0);
    world_sync(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_CANCELLED));
}

static int restarts_until_it_fails(int most)
{
    world_run(world, STEP("retries: 0"));
    int restarts = 0;
    for (; restarts < most && world->job_count > 0; restarts++) {
        world_begin(world, world->jobs[0]);
        if (restarts % 16 == 15)
            world_snapshot(world); /* keeps the count too */
        world_sync(world);
        world_crash(world, world->record_count, true);
        world_serve(world); /* nobody offers it: its worker died too */
        world_sync(world);
    }
    return restarts;
}

Test(core_retry, interruptions_are_no_failures_but_have_a_limit)
{
    cr_expect(eq(int, restarts_until_it_fails(20), 6));
    cr_expect(eq(u32, state_of(), PAWL_STEP_FAILED));
}

Test(core_retry, a_step_is_interrupted_as_often_as_the_largest_limit_says_and_once_more_fails_it)
{
    world->interruptions = 1000;
    cr_expect(eq(int, restarts_until_it_fails(1100), 1001));
    cr_expect(eq(u32, state_of(), PAWL_STEP_FAILED));
}

Test(core_retry, resume_gives_a_fresh_budget)
{
    world_run(world, STEP("retries: {limit: 1, backoff: {initial: 0s, jitter: 0}}"));
    end_with(PAWL_OUTCOME_EXITED, 1);
    end_with(PAWL_OUTCOME_EXITED, 1);
    world_finish(world);
    cr_assert(eq(u32, world_run_state(world, "r"), PAWL_RUN_FAILED));
    struct world_submit submit = {.resume_id = "r"};
    cr_assert(ne(ptr, world_submit(world, &submit, NULL), NULL));
    world_sync(world);
    cr_assert(eq(sz, world->job_count, 1));
    cr_expect(eq(u32, world->jobs[0]->attempt, 3), "attempts count on");
    end_with(PAWL_OUTCOME_EXITED, 1);
    cr_expect(eq(u32, state_of(), PAWL_STEP_READY));
}

/* Its worker has not heard yet that the result is durable, and offers it to the next scheduler. */
Test(core_retry, a_failure_that_is_known_is_not_counted_again_when_its_worker_offers_it)
{
    const struct pawl_wire_offer offer = {.run_id = "r", .attempt = 1};
    static const char *const waits[] = {"10s", "0s"};
    for (size_t i = 0; i < 2; i++) {
        char flow[128];
        snprintf(flow, sizeof flow, STEP("retries: {limit: 1, backoff: {initial: %s, jitter: 0}}"), waits[i]);
        world_run(world, flow);
        end_with(PAWL_OUTCOME_EXITED, 1);
        world_crash(world, world->record_count, true);
        cr_expect(eq(ptr, pawl_core_adopt(world->core, world->now, &offer, 1), NULL), "%s", waits[i]);
        world_serve(world);
        world_advance(world, 10 * SECOND_NS);
        world_sync(world);
        cr_expect(eq(sz, world_placed(world, "a"), 1), "its retry");
        end_world();
        make_world();
    }
}
