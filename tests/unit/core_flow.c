/*
 * core_flow - what may start when: graphs, failures, fan-outs, conditions.
 */
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "scheduler/run.h"
#include "shm/error.h"
#include "shm/task.h"
#include "tests/sim/world.h"

static struct world *world;

static void make_world(void)
{
    world = world_create(1);
}

static void end_world(void)
{
    cr_expect(eq(str, world->broken, ""));
    world_check_counts(world);
    world_destroy(world);
}

TestSuite(core_flow, .init = make_world, .fini = end_world);

static struct pawl_run *run_with(const char *text, uint32_t flags, uint32_t keep_going)
{
    struct world_submit submit = {.text = text, .run_id = "r", .flags = flags, .keep_going = keep_going};
    struct pawl_run *run = world_submit(world, &submit, NULL);
    cr_assert(ne(ptr, run, NULL));
    world_sync(world);
    return run;
}

static void expect_state(const char *step, uint64_t instance, enum pawl_step_state want)
{
    uint32_t state = world_step_state(world, "r", step, instance);
    cr_expect(eq(u32, state, want), "%s[%llu]", step, (unsigned long long)instance);
}

static void fail_step(const char *step, uint64_t instance)
{
    struct world_job *job = world_find(world, step, instance);
    cr_assert(ne(ptr, job, NULL), "%s is not placed", step);
    world_exit(world, job, 1);
}

Test(core_flow, nothing_starts_before_the_submission_is_durable)
{
    struct world_submit submit = {.text = "pawl: 1\nsteps: {a: {run: [x]}}\n", .run_id = "r"};
    cr_assert(ne(ptr, world_submit(world, &submit, NULL), NULL));
    world_turn(world);
    cr_expect(eq(sz, world->job_count, 0));
    world_durable(world, world->record_count);
    world_turn(world);
    cr_expect(eq(sz, world_placed(world, "a"), 1));
}

Test(core_flow, successor_starts_when_its_predecessor_is_durable_not_when_it_ended)
{
    world_run(world, "pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x], needs: [a]}}\n");
    cr_expect(eq(sz, world_placed(world, "b"), 0));
    world_end(world, world_find(world, "a", 0), PAWL_OUTCOME_EXITED, 0, NULL);
    world_turn(world);
    cr_expect(eq(sz, world_placed(world, "b"), 0));
    world_durable(world, world->record_count);
    world_turn(world);
    cr_expect(eq(sz, world_placed(world, "b"), 1));
}

Test(core_flow, the_end_of_a_whole_step_is_told_for_others_wait_for_it)
{
    world_run(world, "pawl: 1\nsteps: {a: {foreach: [1, 2], run: [x]}, b: {run: [x], needs: [a]}}\n");
    world_end(world, world_find(world, "a", 0), PAWL_OUTCOME_EXITED, 0, NULL);
    world_turn(world);
    cr_expect(eq(u64, pawl_core_step_ended_lsn(world->core), 0));
    world_end(world, world_find(world, "a", 1), PAWL_OUTCOME_EXITED, 0, NULL);
    world_turn(world);
    cr_expect(eq(u64, pawl_core_step_ended_lsn(world->core), world->record_count));
}

Test(core_flow, run_succeeds_when_all_steps_have)
{
    world_run(world,
              "pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x], needs: [a]}, c: {run: [x], needs: [a]}}\n");
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
    cr_expect(eq(ptr, world_find_run(world, "r"), NULL), "a sealed run leaves");
    cr_expect(eq(uint, world->batches_open, 0));
}

Test(core_flow, failure_starts_nothing_new_and_lets_what_runs_end)
{
    struct world_submit submit = {
        .text = "pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x]}, c: {run: [x]}, d: {run: [x], needs: [a]}}\n",
        .run_id = "r",
        .slots = 2};
    world_submit(world, &submit, NULL);
    world_sync(world);
    world_begin(world, world_find(world, "a", 0));
    world_begin(world, world_find(world, "b", 0));
    fail_step("a", 0);
    cr_expect(eq(sz, world_placed(world, "c"), 0), "what was placed ahead is taken back");
    expect_state("c", 0, PAWL_STEP_CANCELLED);
    expect_state("d", 0, PAWL_STEP_SKIPPED);
    cr_expect(eq(sz, world_placed(world, "b"), 1));
    world_succeed(world, "b", 0);
    world_finish(world);
    expect_state("b", 0, PAWL_STEP_SUCCEEDED);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_FAILED));
}

Test(core_flow, keep_going_runs_everything_that_does_not_need_the_failure)
{
    run_with("pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x]}, d: {run: [x], needs: [a]}, e: {run: [x], needs: "
             "[b]}}\n",
             PAWL_SUBMIT_KEEP_GOING, 0);
    fail_step("a", 0);
    world_finish(world);
    expect_state("d", 0, PAWL_STEP_SKIPPED);
    expect_state("e", 0, PAWL_STEP_SUCCEEDED);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_FAILED));
}

Test(core_flow, keep_going_n_stops_after_n_failures)
{
    run_with("pawl: 1\nsteps: {a: {run: [x], foreach: [1, 2, 3, 4, 5, 6], max_parallel: 1}}\n",
             PAWL_SUBMIT_KEEP_GOING, 2);
    fail_step("a", 0);
    cr_expect(eq(sz, world_placed(world, "a"), 1));
    fail_step("a", 1);
    cr_expect(eq(sz, world_placed(world, "a"), 0));
    world_finish(world);
    expect_state("a", 2, PAWL_STEP_CANCELLED);
}

Test(core_flow, continue_on_error_lets_dependents_run_and_the_run_succeed)
{
    world_run(world, "pawl: 1\nsteps: {a: {run: [x], continue_on_error: true}, b: {run: [x], needs: [a]}}\n");
    fail_step("a", 0);
    cr_expect(eq(sz, world_placed(world, "b"), 1));
    world_finish(world);
    expect_state("a", 0, PAWL_STEP_FAILED);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
}

Test(core_flow, always_runs_after_a_failure_and_the_run_stays_failed)
{
    world_run(world, "pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x], needs: [a], always: true}}\n");
    fail_step("a", 0);
    cr_expect(eq(sz, world_placed(world, "b"), 1));
    world_finish(world);
    expect_state("b", 0, PAWL_STEP_SUCCEEDED);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_FAILED));
}

Test(core_flow, when_is_asked_after_its_needs_and_a_skip_satisfies_dependents)
{
    world_run(world, "pawl: 1\nsteps:\n  a: {run: [x], output: json}\n"
                     "  b: {run: [x], needs: [a], when: \"${{ steps.a.output == 2 }}\"}\n"
                     "  c: {run: [x], needs: [b]}\n");
    world_end(world, world_find(world, "a", 0), PAWL_OUTCOME_EXITED, 0, "1");
    world_sync(world);
    expect_state("b", 0, PAWL_STEP_SKIPPED);
    cr_expect(eq(sz, world_placed(world, "c"), 1));
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
}

Test(core_flow, when_failed_runs_only_after_a_failure)
{
    world_run(world,
              "pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x], needs: [a], when: \"${{ failed() }}\"}}\n");
    fail_step("a", 0);
    cr_expect(eq(sz, world_placed(world, "b"), 1));
}

/* As after a restart, which asks it before it looks at what else has failed. */
Test(core_flow, condition_is_asked_although_the_run_has_stopped_and_a_skip_is_no_failure)
{
    world_run(world, "pawl: 1\nsteps: {x: {run: [x]}, y: {run: [x], needs: [x], when: \"${{ 1 == 2 }}\"},"
                     " z: {run: [x], needs: [y], when: \"${{ failed() }}\"}, f: {run: [x]}}\n");
    world_begin(world, world_find(world, "x", 0));
    world_exit(world, world_find(world, "f", 0), 1);
    world_succeed(world, "x", 0);
    cr_expect(eq(u32, world_step_state(world, "r", "y", 0), PAWL_STEP_SKIPPED));
    cr_expect(eq(u32, world_step_state(world, "r", "z", 0), PAWL_STEP_SKIPPED));
    world_sync(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_FAILED));
}

Test(core_flow, foreach_starts_each_element_in_order_and_its_successor_after_the_last)
{
    struct world_submit submit = {
        .text = "pawl: 1\nsteps:\n  a: {run: [x], output: lines}\n"
                "  b: {run: [x], needs: [a], foreach: \"${{ steps.a.output }}\", max_parallel: 1}\n"
                "  c: {run: [x], needs: [b]}\n",
        .run_id = "r"};
    world_submit(world, &submit, NULL);
    world_sync(world);
    world_end(world, world_find(world, "a", 0), PAWL_OUTCOME_EXITED, 0, "one\ntwo\nthree\n");
    world_sync(world);
    for (uint64_t i = 0; i < 3; i++) {
        cr_expect(eq(sz, world_placed(world, "b"), 1));
        cr_expect(eq(sz, world_placed(world, "c"), 0));
        world_succeed(world, "b", i);
    }
    cr_expect(eq(sz, world_placed(world, "c"), 1));
}

Test(core_flow, empty_foreach_is_over_at_once)
{
    world_run(world, "pawl: 1\nsteps: {a: {run: [x], foreach: []}, b: {run: [x], needs: [a]}}\n");
    cr_expect(eq(sz, world_placed(world, "b"), 1));
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
}

Test(core_flow, matrix_is_the_product_and_its_last_axis_runs_fastest)
{
    world_run(world, "pawl: 1\nsteps: {a: {run: [x], matrix: {p: [1, 2], q: [x, y, z]}}}\n");
    world_sync(world);
    struct pawl_step_view view;
    cr_assert(world_step(world, "r", "a", 5, &view));
    cr_expect(not(world_step(world, "r", "a", 6, &view)));
    world_finish(world);
    cr_expect(eq(u64, world->begun_count, 6));
}

Test(core_flow, foreach_over_what_is_not_a_list_fails_the_step_and_says_so)
{
    world_run(world, "pawl: 1\nsteps:\n  a: {run: [x], output: json}\n"
                     "  b: {run: [x], needs: [a], foreach: \"${{ steps.a.output }}\"}\n");
    world_end(world, world_find(world, "a", 0), PAWL_OUTCOME_EXITED, 0, "7");
    world_sync(world);
    struct pawl_step_view view;
    cr_assert(world_step(world, "r", "b", 0, &view));
    cr_expect(eq(u32, view.fixed.state, PAWL_STEP_FAILED));
    cr_expect(ne(ptr, strstr(view.reason, "not a list"), NULL), "%s", view.reason);
}

Test(core_flow, output_that_is_not_the_promised_json_fails_the_step)
{
    world_run(world, "pawl: 1\nsteps: {a: {run: [x], output: json}}\n");
    world_end(world, world_find(world, "a", 0), PAWL_OUTCOME_EXITED, 0, "{]");
    world_finish(world);
    expect_state("a", 0, PAWL_STEP_FAILED);
}

Test(core_flow, max_parallel_bounds_what_is_placed_and_moves_on_with_each_end)
{
    world_run(world, "pawl: 1\nsteps: {a: {run: [x], foreach: [1, 2, 3, 4, 5], max_parallel: 2}}\n");
    cr_expect(eq(sz, world_placed(world, "a"), 2));
    world_exit(world, world->jobs[0], 0);
    cr_expect(eq(sz, world_placed(world, "a"), 2));
}

static struct pawl_run *submit_into(const char *run_id, uint64_t client, uint64_t batch)
{
    struct world_submit submit = {.text = "pawl: 1\nsteps: {a: {use: noop}, b: {run: [x]}}\n",
                                  .run_id = run_id,
                                  .slots = 1,
                                  .client = client,
                                  .batch = batch};
    struct pawl_run *run = world_submit(world, &submit, NULL);
    cr_assert(ne(ptr, run, NULL));
    return run;
}

Test(core_flow, runs_that_name_a_batch_which_has_ended_share_the_next_one_and_its_slots)
{
    struct pawl_run *first = submit_into("r1", 7, 0);
    uint64_t ended = pawl_batch_number(pawl_run_batch(first));
    world_finish(world);
    cr_assert(eq(ptr, world_find_run(world, "r1"), NULL), "all of it has ended");
    struct pawl_run *second = submit_into("r2", 7, ended), *third = submit_into("r3", 7, ended);
    struct pawl_run *stranger = submit_into("r4", 8, ended);
    cr_expect(eq(ptr, pawl_run_batch(second), pawl_run_batch(third)));
    cr_expect(ne(ptr, pawl_run_batch(stranger), pawl_run_batch(second)));
    cr_expect(ne(ptr, pawl_run_batch(submit_into("r5", 7, 0)), pawl_run_batch(second)),
              "it asks for its own");
    world_finish(world);
}

Test(core_flow, higher_priority_is_placed_first_then_the_order_of_the_file)
{
    struct world_submit submit = {
        .text = "pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x], priority: 5}, c: {run: [x]}}\n",
        .run_id = "r",
        .slots = 1};
    world_submit(world, &submit, NULL);
    world_sync(world);
    cr_assert(eq(sz, world->job_count, 3));
    uint64_t b = world_find(world, "b", 0)->order, a = world_find(world, "a", 0)->order,
             c = world_find(world, "c", 0)->order;
    cr_expect(lt(u64, b, a));
    cr_expect(lt(u64, a, c));
}

Test(core_flow, full_ring_is_tried_again_after_the_next_end)
{
    world->ring_max = 1;
    world_run(world, "pawl: 1\nsteps: {a: {run: [x], foreach: [1, 2, 3, 4, 5, 6, 7, 8]}}\n");
    cr_expect(eq(sz, world_placed(world, "a"), 1));
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
}

Test(core_flow, full_disk_refuses_new_runs_and_takes_results)
{
    world_run(world, "pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x], needs: [a]}}\n");
    world->room = false;
    int error = 0;
    struct world_submit submit = {.text = "pawl: 1\nsteps: {a: {run: [x]}}\n", .run_id = "s"};
    cr_expect(eq(ptr, world_submit(world, &submit, &error), NULL));
    cr_expect(eq(int, error, PAWL_E_NO_SPACE));
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
    world->room = true;
    cr_expect(ne(ptr, world_submit(world, &submit, &error), NULL));
}

Test(core_flow, name_of_a_run_is_taken_even_when_it_is_sealed)
{
    int error = 0;
    struct world_submit submit = {.text = "pawl: 1\nsteps: {a: {run: [x]}}\n", .run_id = "r"};
    world_run(world, submit.text);
    cr_expect(eq(ptr, world_submit(world, &submit, &error), NULL));
    cr_expect(eq(int, error, PAWL_E_STATE));
    world_finish(world);
    cr_expect(eq(ptr, world_submit(world, &submit, &error), NULL));
    cr_expect(eq(int, error, PAWL_E_STATE));
}

Test(core_flow, cancel_ends_what_runs_and_gives_up_the_rest_for_good)
{
    struct pawl_run *run = world_run(world, "pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x], needs: [a]}}\n");
    struct world_job *job = world_find(world, "a", 0);
    world_begin(world, job);
    cr_assert(eq(int, pawl_core_cancel(world->core, world->now, NULL, run, PAWL_CANCEL_CANCEL, 1), 0));
    cr_expect(job->signalled);
    world_end(world, job, PAWL_OUTCOME_KILLED, 15, NULL);
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_CANCELLED));
    expect_state("a", 0, PAWL_STEP_CANCELLED);
    expect_state("b", 0, PAWL_STEP_CANCELLED);
}

Test(core_flow, a_second_cancel_with_a_shorter_grace_reaches_what_is_ending_already)
{
    struct pawl_run *run = world_run(world, "pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x]}}\n");
    struct world_job *job = world_find(world, "a", 0), *late = world_find(world, "b", 0);
    late->begun = true; /* claimed, and not told yet: it cannot be recalled */
    world_begin(world, job);
    cr_assert(eq(int, pawl_core_cancel(world->core, world->now, NULL, run, PAWL_CANCEL_INTERRUPT, 1000), 0));
    cr_expect(eq(u64, job->grace_ns, 1000));
    cr_assert(eq(int, pawl_core_cancel(world->core, world->now, NULL, run, PAWL_CANCEL_INTERRUPT, 0), 0));
    cr_expect(eq(u64, job->grace_ns, 0), "at once");
    late->begun = false;
    world_begin(world, late);
    cr_expect(eq(u64, late->grace_ns, 0), "what begins after both hears the shorter one");
    cr_expect(late->signalled);
    world_end(world, job, PAWL_OUTCOME_KILLED, 9, NULL);
    world_end(world, late, PAWL_OUTCOME_KILLED, 9, NULL);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_INTERRUPTED));
    world_finish(world);
}

/* A worker's lane may tell of a begin after another's lane told of the failure. */
Test(core_flow, halt_now_ends_also_what_had_begun_and_was_not_told_yet)
{
    struct world_submit submit = {
        .text = "pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x]}}\n", .run_id = "r", .halt_now = 1};
    cr_assert(ne(ptr, world_submit(world, &submit, NULL), NULL));
    world_sync(world);
    struct world_job *bad = world_find(world, "a", 0), *other = world_find(world, "b", 0);
    other->begun = true; /* claimed: it cannot be recalled */
    world_begin(world, bad);
    world_exit(world, bad, 1);
    cr_expect(not(other->signalled));
    other->begun = false;
    world_begin(world, other);
    cr_expect(other->signalled, "it runs to its end");
    world_end(world, other, PAWL_OUTCOME_KILLED, 15, NULL);
    world_finish(world);
    expect_state("b", 0, PAWL_STEP_CANCELLED);
}

Test(core_flow, drain_starts_nothing_new_and_leaves_the_rest_to_a_resume)
{
    struct pawl_run *run =
        world_run(world, "pawl: 1\nsteps: {a: {run: [x], foreach: [1, 2, 3, 4], max_parallel: 1}}\n");
    struct world_job *job = world_find(world, "a", 0);
    world_begin(world, job);
    cr_assert(eq(int, pawl_core_cancel(world->core, world->now, NULL, run, PAWL_CANCEL_DRAIN, 0), 0));
    cr_expect(not(job->signalled));
    world_exit(world, job, 0);
    cr_expect(eq(sz, world->job_count, 0));
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_INTERRUPTED));
    struct world_submit submit = {.resume_id = "r"};
    cr_assert(ne(ptr, world_submit(world, &submit, NULL), NULL));
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
    cr_expect(eq(u64, world->begun_count, 4), "the first one is not run again");
}

Test(core_flow, client_that_goes_interrupts_its_runs_unless_they_are_detached)
{
    struct world_submit mine = {.text = "pawl: 1\nsteps: {a: {run: [x]}}\n", .run_id = "mine", .client = 3};
    struct world_submit free_one = mine;
    free_one.run_id = "free";
    free_one.flags = PAWL_SUBMIT_DETACH;
    world_submit(world, &mine, NULL);
    world_submit(world, &free_one, NULL);
    world_sync(world);
    pawl_core_client_gone(world->core, world->now, 3);
    world_sync(world);
    cr_expect(eq(u32, world_run_state(world, "mine"), PAWL_RUN_INTERRUPTED));
    cr_expect(eq(u32, world_run_state(world, "free"), PAWL_RUN_RUNNING));
}

Test(core_flow, journal_that_failed_accepts_nothing_more)
{
    int error = 0;
    world_run(world, "pawl: 1\nsteps: {a: {run: [x]}}\n");
    world->failing = true;
    struct world_submit submit = {.text = "pawl: 1\nsteps: {a: {run: [x]}}\n", .run_id = "s"};
    cr_expect(eq(ptr, world_submit(world, &submit, &error), NULL));
    cr_expect(eq(int, error, PAWL_E_SYNC_FAILED));
    world_end(world, world_find(world, "a", 0), PAWL_OUTCOME_EXITED, 0, NULL);
    world_turn(world);
    cr_expect(ne(u32, world_step_state(world, "r", "a", 0), PAWL_STEP_SUCCEEDED), "nothing is called done");
}
