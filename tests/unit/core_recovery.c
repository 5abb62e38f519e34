/*
 * core_recovery - what is left after deaths: replay, snapshots, adoption, images.
 */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "scheduler/core_record.h"
#include "scheduler/run.h"
#include "shm/error.h"
#include "shm/task.h"
#include "tests/sim/world.h"

static struct world *world;

static void make_world(void)
{
    world = world_create(3);
}

static void end_world(void)
{
    cr_expect(eq(str, world->broken, ""));
    world_check_counts(world);
    world_destroy(world);
}

TestSuite(core_recovery, .init = make_world, .fini = end_world);

#define CHAIN "pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x], needs: [a]}, c: {run: [x], needs: [b]}}\n"
#define FOUR  "pawl: 1\nsteps: {a: {run: [x], foreach: [1, 2, 3, 4]}}\n"

static void resume(const char *run_id)
{
    int error = 0;
    struct world_submit submit = {.resume_id = run_id};
    cr_assert(ne(ptr, world_submit(world, &submit, &error), NULL), "%s", pawl_error_text(error));
    world_sync(world);
}

Test(core_recovery, recorded_success_is_never_run_again)
{
    world_run(world, CHAIN);
    world_succeed(world, "a", 0);
    world_power_loss(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_INTERRUPTED));
    cr_expect(eq(sz, world->job_count, 0), "nothing goes on by itself after a fresh start");
    resume("r");
    cr_expect(eq(sz, world_placed(world, "a"), 0));
    cr_expect(eq(sz, world_placed(world, "b"), 1));
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
}

Test(core_recovery, result_that_was_not_durable_is_run_again)
{
    world_run(world, CHAIN);
    world_end(world, world_find(world, "a", 0), PAWL_OUTCOME_EXITED, 0, NULL);
    world_turn(world);
    world_crash(world, world->durable, false);
    world_serve(world);
    world_sync(world);
    resume("r");
    cr_expect(eq(sz, world_placed(world, "a"), 1));
    world_finish(world);
}

Test(core_recovery, submission_that_was_not_durable_is_gone)
{
    struct world_submit submit = {.text = CHAIN, .run_id = "r"};
    cr_assert(ne(ptr, world_submit(world, &submit, NULL), NULL));
    world_turn(world);
    world_crash(world, world->durable, true);
    world_serve(world);
    cr_expect(eq(ptr, world_find_run(world, "r"), NULL));
}

Test(core_recovery, restarted_scheduler_goes_on_by_itself)
{
    world_run(world, CHAIN);
    world_succeed(world, "a", 0);
    world_restart(world);
    cr_expect(eq(sz, world_placed(world, "b"), 1));
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
}

Test(core_recovery, job_that_outlives_its_scheduler_is_adopted_and_its_result_counts)
{
    world_run(world, CHAIN);
    world_begin(world, world_find(world, "a", 0));
    world_sync(world);
    world_restart(world);
    cr_assert(eq(sz, world->job_count, 1));
    cr_expect(world->jobs[0]->begun);
    cr_expect(eq(u32, world->jobs[0]->attempt, 1));
    world_exit(world, world->jobs[0], 0);
    cr_expect(eq(sz, world_placed(world, "b"), 1));
    world_finish(world);
    cr_expect(eq(u32, world_attempts(world, "r", "a", 0), 1));
}

Test(core_recovery, job_whose_begin_was_lost_is_adopted_too)
{
    world_run(world, CHAIN);
    world_begin(world, world_find(world, "a", 0));
    world_crash(world, world->durable, true);
    cr_expect(world_adopt(world, 0));
    world_serve(world);
    world_sync(world);
    cr_expect(eq(sz, world_placed(world, "a"), 1), "one attempt, not two");
}

Test(core_recovery, begun_job_that_nobody_offers_goes_again)
{
    world_run(world, CHAIN);
    world_begin(world, world_find(world, "a", 0));
    world_sync(world);
    world_crash(world, world->record_count, true);
    world_serve(world);
    world_sync(world);
    cr_assert(eq(sz, world->job_count, 1));
    cr_expect(eq(u32, world->jobs[0]->attempt, 2));
}

Test(core_recovery, offers_that_do_not_hold_are_refused)
{
    world_run(world, CHAIN);
    world_succeed(world, "a", 0);
    world_crash(world, world->record_count, true);
    struct pawl_wire_offer offer = {.run_id = "r", .step = 0, .attempt = 1};
    cr_expect(eq(ptr, pawl_core_adopt(world->core, world->now, &offer, 1), NULL), "it has succeeded");
    offer = (struct pawl_wire_offer){.run_id = "r", .step = 99, .attempt = 1};
    cr_expect(eq(ptr, pawl_core_adopt(world->core, world->now, &offer, 1), NULL), "no such step");
    offer = (struct pawl_wire_offer){.run_id = "r", .step = 1, .instance = 7, .attempt = 1};
    cr_expect(eq(ptr, pawl_core_adopt(world->core, world->now, &offer, 1), NULL), "no such instance");
    offer = (struct pawl_wire_offer){.run_id = "r", .step = 1, .attempt = 70000};
    cr_expect(eq(ptr, pawl_core_adopt(world->core, world->now, &offer, 1), NULL), "no such attempt");
    offer = (struct pawl_wire_offer){.run_id = "other", .step = 1, .attempt = 1};
    cr_expect(eq(ptr, pawl_core_adopt(world->core, world->now, &offer, 1), NULL), "no such run");
    memset(offer.run_id, 'x', sizeof offer.run_id);
    cr_expect(eq(ptr, pawl_core_adopt(world->core, world->now, &offer, 1), NULL), "a name without an end");
    world_serve(world);
}

Test(core_recovery, two_offers_of_one_job_make_one_delivery)
{
    world_run(world, CHAIN);
    world_begin(world, world_find(world, "a", 0));
    world_sync(world);
    world_crash(world, world->record_count, true);
    struct pawl_wire_offer offer = {.run_id = "r", .step = 0, .attempt = 1};
    cr_assert(world_adopt(world, 0));
    cr_expect(eq(ptr, pawl_core_adopt(world->core, world->now, &offer, 2), NULL));
    world_serve(world);
}

Test(core_recovery, successor_of_a_job_that_ended_before_service_waits_until_that_is_durable)
{
    world_run(world, CHAIN);
    world_begin(world, world_find(world, "a", 0));
    world_sync(world);
    world_crash(world, world->record_count, true);
    cr_assert(world_adopt(world, 0));
    world_end(world, world->jobs[0], PAWL_OUTCOME_EXITED, 0,
              NULL); /* others have not made their offers yet */
    world_serve(world);
    cr_expect(eq(sz, world->job_count, 0));
    world_sync(world);
    cr_expect(ne(ptr, world_find(world, "b", 0), NULL));
}

Test(core_recovery, successor_of_an_adopted_job_waits_for_its_end_not_for_that_of_its_needs)
{
    world_run(world, "pawl: 1\nsteps:\n  a: {run: [x], when: \"${{ failed() }}\"}\n"
                     "  b: {run: [x], needs: [a]}\n  c: {run: [x], needs: [b]}\n");
    world_begin(world, world_find(world, "b", 0));
    world_sync(world);
    world_crash(world, world->record_count, true);
    cr_assert(world_adopt(world, 0));
    world_serve(world);
    uint64_t of_need = world->record_count;
    world_end(world, world->jobs[0], PAWL_OUTCOME_EXITED, 0, NULL);
    world_turn(world);
    world_durable(world, of_need);
    world_turn(world);
    cr_expect(eq(sz, world->job_count, 0));
    world_sync(world);
    cr_expect(ne(ptr, world_find(world, "c", 0), NULL));
}

Test(core_recovery, condition_is_not_asked_again_of_a_job_that_runs)
{
    world_run(world, "pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x], when: \"${{ success() }}\"}}\n");
    world_begin(world, world_find(world, "a", 0));
    world_begin(world, world_find(world, "b", 0));
    world_exit(world, world_find(world, "a", 0), 1);
    world_restart(world);
    world_succeed(world, "b", 0);
    cr_expect(eq(u32, world_step_state(world, "r", "b", 0), PAWL_STEP_SUCCEEDED));
}

/* After a snapshot that was written while an adopted job ran. */
Test(core_recovery, second_restart_runs_again_what_was_adopted_at_the_first)
{
    world_run(world, CHAIN);
    world_begin(world, world_find(world, "a", 0));
    world_sync(world);
    world_restart(world);
    world_snapshot(world);
    world_sync(world);
    world_crash(world, world->record_count, true);
    world_serve(world);
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
}

Test(core_recovery, replaying_twice_changes_nothing)
{
    world_run(world, FOUR);
    world_succeed(world, "a", 2);
    world_exit(world, world_find(world, "a", 1), 1);
    world_crash(world, world->record_count, false);
    char *once = world_digest(world);
    for (uint64_t lsn = 1; lsn <= world->record_count; lsn++) {
        const struct world_record *record = &world->records[lsn - 1];
        if (record->type == PAWL_RECORD_EPOCH)
            continue; /* an epoch counts interruptions: that is its meaning */
        cr_expect(eq(int,
                     pawl_core_apply(world->core, record->type, record->version, record->body, record->bytes,
                                     lsn, world_place_of(lsn)),
                     0));
    }
    char *twice = world_digest(world);
    cr_expect(eq(str, once, twice));
    free(once);
    free(twice);
    world_serve(world);
}

Test(core_recovery, snapshot_and_tail_equal_the_whole_journal)
{
    world_run(world, FOUR);
    world_succeed(world, "a", 3);
    world_snapshot(world);
    world_succeed(world, "a", 0);
    world_crash(world, world->record_count, false);
    char *short_way = world_digest(world);
    world->snapshot_lsn = 0;
    world_crash(world, world->record_count, false);
    char *long_way = world_digest(world);
    cr_expect(eq(str, short_way, long_way));
    free(short_way);
    free(long_way);
    world_serve(world);
}

Test(core_recovery, record_that_contradicts_the_state_is_damage)
{
    world_run(world, CHAIN);
    uint64_t next = world->record_count + 1;
    char junk[128] = {1};
    cr_expect(eq(int, pawl_core_apply(world->core, PAWL_RECORD_CLAIM, 1, junk, 3, next, 0), PAWL_E_DAMAGED));
    cr_expect(eq(int, pawl_core_apply(world->core, 99, 1, junk, 8, next, 0), PAWL_E_BAD_FORMAT));
    cr_expect(
        eq(int, pawl_core_apply(world->core, PAWL_RECORD_CLAIM, 9, junk, 40, next, 0), PAWL_E_BAD_FORMAT));
}

Test(core_recovery, sealed_run_that_failed_goes_on_where_it_failed)
{
    world_run(world, CHAIN);
    world_succeed(world, "a", 0);
    world_exit(world, world_find(world, "b", 0), 1);
    world_finish(world);
    cr_assert(eq(ptr, world_find_run(world, "r"), NULL));
    resume("r");
    cr_expect(eq(sz, world_placed(world, "a"), 0));
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
    cr_expect(eq(u32, world_attempts(world, "r", "a", 0), 1));
    cr_expect(eq(u32, world_attempts(world, "r", "b", 0), 2));
}

/* The world judges each REOPEN, and each run that is open, by the mark. */
Test(core_recovery,
     readers_know_that_a_sealed_run_is_open_again_before_the_journal_does_and_until_it_is_sealed)
{
    world_run(world, CHAIN);
    world_exit(world, world_find(world, "a", 0), 1);
    world_finish(world);
    cr_expect(not(world->images[0].reopened));
    resume("r");
    cr_expect(world->images[0].reopened);
    world_power_loss(world);
    world_check_reopened(world);
    resume("r");
    world_exit(world, world_find(world, "a", 0), 1);
    world_sync(world);
    world_seal(world);
    cr_expect(not(world->images[0].reopened));
    world_crash(world, world->durable,
                false); /* the image is written, and the journal does not know it yet */
    world_serve(world);
    world_finish(world);
    cr_expect(not(world->images[0].reopened));
}

Test(core_recovery, snapshot_of_a_run_that_waits_to_be_sealed_once_more_leaves_readers_its_image)
{
    world_run(world, CHAIN);
    world_exit(world, world_find(world, "a", 0), 1);
    world_finish(world);
    resume("r");
    world_exit(world, world_find(world, "a", 0), 1);
    world_sync(world);
    world_seal(world);
    world_crash(world, world->durable, false); /* the journal does not know the image */
    world_snapshot(world);
    world_crash(world, world->durable, false);
    cr_assert(ne(ptr, world_find_run(world, "r"), NULL));
    world_check_reopened(world);
    world_serve(world);
    world_finish(world);
    cr_expect(eq(ptr, world_find_run(world, "r"), NULL));
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_FAILED));
    cr_expect(eq(u32, world_attempts(world, "r", "a", 0), 2));
}

Test(core_recovery, power_loss_between_the_mark_of_a_reopening_and_its_record_leaves_the_run_sealed)
{
    int error = 0;
    struct world_submit submit = {.resume_id = "r"};
    world_run(world, CHAIN);
    world_exit(world, world_find(world, "a", 0), 1);
    world_finish(world);
    world_sync(world);
    cr_assert(ne(ptr, world_submit(world, &submit, &error), NULL));
    world_crash(world, world->durable, false);
    world_serve(world);
    cr_expect(world->images[0].reopened);
    cr_expect(eq(ptr, world_find_run(world, "r"), NULL));
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_FAILED));
    resume("r");
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
    cr_expect(not(world->images[0].reopened));
}

Test(core_recovery, of_a_sealed_run_that_has_succeeded_nothing_is_left_to_do)
{
    int error = 0;
    world_run(world, CHAIN);
    world_finish(world);
    struct world_submit submit = {.resume_id = "r"};
    cr_assert(eq(ptr, world_find_run(world, "r"), NULL));
    cr_expect(eq(ptr, world_submit(world, &submit, &error), NULL));
    cr_expect(eq(int, error, PAWL_SUBMIT_NOTHING_LEFT));
}

Test(core_recovery, of_a_run_that_has_just_succeeded_nothing_is_left_to_do_either)
{
    int error = 0;
    struct world_submit submit = {.resume_id = "r"};
    world_run(world, CHAIN);
    world_succeed(world, "a", 0);
    world_succeed(world, "b", 0);
    world_succeed(world, "c", 0);
    cr_assert(ne(ptr, world_find_run(world, "r"), NULL), "its image is not written yet");
    cr_expect(eq(ptr, world_submit(world, &submit, &error), NULL));
    cr_expect(eq(int, error, PAWL_SUBMIT_NOTHING_LEFT));
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
}

/* The image was written, and the power went before the journal could say so. */
Test(core_recovery, image_newer_than_the_snapshot_is_believed)
{
    world_run(world,
              "pawl: 1\nsteps: {a: {run: [x], continue_on_error: true}, b: {run: [x]}, c: {run: [x]}}\n");
    world_end(world, world_find(world, "b", 0), PAWL_OUTCOME_EXITED, 0, "what b said");
    world_exit(world, world_find(world, "a", 0), 1);
    world_exit(world, world_find(world, "c", 0), 1);
    world_finish(world);
    resume("r"); /* a second attempt of a: the records of b lie elsewhere in the new image */
    world_snapshot(world);
    world_sync(world);
    uint64_t before = world->durable;
    while (world->job_count > 0)
        world_exit(world, world->jobs[0], 0);
    world_sync(world);
    uint64_t ended = world->durable;
    world_seal(world);
    cr_expect(not(le(u64, ended, before)));
    world_crash(world, world->durable, false);
    world_serve(world);
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
    world_check_image(world, "r");
}

/* Sealed again, and dead before that was written down: its records lead to places in the image before. */
Test(core_recovery, image_newer_than_the_one_reopened_is_believed)
{
    world_run(world,
              "pawl: 1\nsteps: {a: {run: [x], continue_on_error: true}, b: {run: [x]}, c: {run: [x]}}\n");
    world_end(world, world_find(world, "b", 0), PAWL_OUTCOME_EXITED, 0, "what b said");
    world_exit(world, world_find(world, "a", 0), 1);
    world_exit(world, world_find(world, "c", 0), 1);
    world_finish(world);
    resume("r");
    world_exit(world, world_find(world, "a", 0), 1);
    world_end(world, world_find(world, "c", 0), PAWL_OUTCOME_EXITED, 1, "what c said");
    world_sync(world);
    world_seal(world);
    world_crash(world, world->durable, false);
    world_serve(world);
    world_check_image(world, "r");
    world_seal(world);
    world_sync(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_FAILED));
    cr_expect(eq(u32, world_attempts(world, "r", "c", 0), 2));
    world_check_image(world, "r");
}

Test(core_recovery, start_does_not_need_the_image_of_a_run_that_gc_removed)
{
    world_run(world, CHAIN);
    world_exit(world, world_find(world, "a", 0), 1);
    world_finish(world);
    resume("r");
    world_finish(world);
    world_collect(world);
    world_power_loss(world);
    cr_expect(eq(str, world->broken, ""));
}

Test(core_recovery, step_that_failed_by_its_expression_still_lets_its_dependents_end)
{
    struct world_submit submit = {.text = "pawl: 1\nsteps:\n  s: {run: [x], output: json}\n"
                                          "  f: {run: [x], needs: [s], foreach: \"${{ steps.s.output }}\", "
                                          "always: true}\n"
                                          "  l: {run: [x]}\n  e: {run: [x], needs: [f]}\n",
                                  .run_id = "r"};
    cr_assert(ne(ptr, world_submit(world, &submit, NULL), NULL));
    world_sync(world);
    world_begin(world, world_find(world, "l", 0));
    world_exit(world, world_find(world, "s", 0), 1);
    world_restart(world);
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_FAILED));
}

Test(core_recovery, run_may_be_resumed_any_number_of_times)
{
    world_run(world, FOUR);
    for (int i = 0; i < 6; i++) {
        struct world_job *job = world->jobs[0];
        world_exit(world, job, i % 2);
        world_finish(world);
        if (world_run_state(world, "r") == PAWL_RUN_SUCCEEDED)
            break;
        resume("r");
        world_restart(world);
    }
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
}

/* What a snapshot says of a step that has not run was derived, and may be derived otherwise after a restart:
 * then the step runs, and the record of its success comes after the snapshot. */
Test(core_recovery, success_is_believed_although_an_older_snapshot_calls_the_step_skipped)
{
    struct pawl_core *alive = world->core;
    struct pawl_step_record success = {
        .run = 1, .step = 1, .attempt = 1, .state = PAWL_STEP_SUCCEEDED, .outcome = PAWL_OUTCOME_EXITED};
    struct pawl_claim_record claim = {.run = 1, .step = 1, .attempt = 1, .worker = 1};
    world_run(world, "pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x], when: \"${{ failed() }}\"}}\n");
    cr_assert(eq(u32, world_step_state(world, "r", "b", 0), PAWL_STEP_SKIPPED));
    world_snapshot(world);
    cr_assert(eq(int, world_new_core(world), 0));
    world_replay(world);
    uint64_t lsn = world->record_count;
    cr_expect(eq(int,
                 pawl_core_apply(world->core, PAWL_RECORD_CLAIM, PAWL_CORE_RECORD_VERSION, &claim,
                                 sizeof claim, lsn + 1, world_place_of(lsn + 1)),
                 0));
    cr_expect(eq(u32, world_step_state(world, "r", "b", 0), PAWL_STEP_RUNNING));
    cr_expect(eq(int,
                 pawl_core_apply(world->core, PAWL_RECORD_STEP, PAWL_CORE_RECORD_VERSION, &success,
                                 sizeof success, lsn + 2, world_place_of(lsn + 2)),
                 0));
    cr_expect(eq(u32, world_step_state(world, "r", "b", 0), PAWL_STEP_SUCCEEDED));
    pawl_core_destroy(world->core);
    world->core = alive;
}

/* The same, of a step whose first attempt is known and whose second was given up. */
Test(core_recovery, success_is_believed_although_an_older_snapshot_calls_the_retry_given_up)
{
    struct pawl_core *alive = world->core;
    struct pawl_step_record success = {
        .run = 1, .step = 1, .attempt = 2, .state = PAWL_STEP_SUCCEEDED, .outcome = PAWL_OUTCOME_EXITED};
    world_run(world, "pawl: 1\nsteps: {a: {run: [x]}, l: {run: [x]},"
                     " b: {run: [x], retries: {limit: 3, backoff: {initial: 1000s}}}}\n");
    uint32_t b = 2;
    success.step = b;
    world_begin(world, world_find(world, "l", 0));
    world_exit(world, world_find(world, "b", 0), 1);
    world_exit(world, world_find(world, "a", 0), 1);
    cr_assert(eq(u32, world_step_state(world, "r", "b", 0), PAWL_STEP_CANCELLED));
    world_snapshot(world);
    cr_assert(eq(int, world_new_core(world), 0));
    world_replay(world);
    uint64_t lsn = world->record_count + 1;
    cr_expect(eq(int,
                 pawl_core_apply(world->core, PAWL_RECORD_STEP, PAWL_CORE_RECORD_VERSION, &success,
                                 sizeof success, lsn, world_place_of(lsn)),
                 0));
    cr_expect(eq(u32, world_step_state(world, "r", "b", 0), PAWL_STEP_SUCCEEDED));
    pawl_core_destroy(world->core);
    world->core = alive;
}

/* A full disk moved the record into the reserve: that segment must stay as long as the one that it was meant
 * for. */
Test(core_recovery, what_a_full_disk_moved_is_pinned_where_it_lies_also_after_a_restart)
{
    world_run(world, "pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x], needs: [a]}}\n");
    struct world_job *job = world_find(world, "a", 0);
    world_begin(world, job);
    world_end(world, job, PAWL_OUTCOME_EXITED, 0, "output");
    world_sync(world);
    uint32_t meant = (uint32_t)(world_place_of(world->record_count) >> 32), lies = meant + 7;
    cr_assert(pawl_core_segment_pinned(world->core, meant));
    cr_assert(not(pawl_core_segment_pinned(world->core, lies)));
    pawl_core_segment_moved(world->core, meant, lies);
    pawl_core_segment_moved(world->core, meant + 1, meant + 8);
    cr_expect(pawl_core_segment_pinned(world->core, lies));
    cr_expect(not(pawl_core_segment_pinned(world->core, meant + 8)), "nothing of it was wanted");
    world_snapshot(world);
    world_sync(world);
    world_restart(world);
    cr_expect(pawl_core_segment_pinned(world->core, lies));
}

Test(core_recovery, step_that_its_condition_skipped_is_not_called_cancelled_after_a_restart)
{
    world_run(world, "pawl: 1\nsteps: {a: {run: [x], when: \"${{ 1 == 2 }}\"}, l: {run: [x]}, f: {run: [x]},"
                     " b: {run: [x], needs: [a], when: \"${{ failed() }}\"}}\n");
    world_begin(world, world_find(world, "l", 0));
    world_exit(world, world_find(world, "f", 0), 1);
    cr_assert(eq(u32, world_step_state(world, "r", "b", 0), PAWL_STEP_SKIPPED));
    world_restart(world);
    cr_expect(eq(u32, world_step_state(world, "r", "a", 0), PAWL_STEP_SKIPPED));
    cr_expect(eq(u32, world_step_state(world, "r", "b", 0), PAWL_STEP_SKIPPED),
              "nothing that b needs failed");
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_FAILED));
}

/* Its list was a good one once: an instance began, and the power went. */
Test(core_recovery, step_that_fails_by_its_expression_leaves_no_instance_open)
{
    world_run(world, "pawl: 1\nsteps:\n  s: {run: [x], output: json}\n"
                     "  f: {run: [x], needs: [s], foreach: \"${{ steps.s.output }}\", always: true}\n");
    world_end(world, world_find(world, "s", 0), PAWL_OUTCOME_EXITED, 1, "[1, 2]");
    world_sync(world);
    world_begin(world, world_find(world, "f", 1));
    world_sync(world);
    world_power_loss(world);
    resume("r");
    world_exit(world, world_find(world, "s", 0), 0); /* prints nothing: that is no JSON */
    cr_expect(eq(sz, world->job_count, 0));
    world_finish(world);
    cr_expect(eq(u32, world_step_state(world, "r", "f", 1), PAWL_STEP_FAILED));
    cr_expect(eq(u32, world_run_state(world, "r"), PAWL_RUN_FAILED));
    world_check_image(world, "r");
}

/* The end is recorded, what was skipped is not: the power goes before the image is written. */
Test(core_recovery, steps_that_were_skipped_are_skipped_in_an_image_that_is_written_after_a_crash)
{
    world_run(world, "pawl: 1\nsteps: {a: {run: [x], continue_on_error: true},"
                     " b: {run: [x], foreach: [1, 2, 3], when: \"${{ item == 2 }}\"},"
                     " c: {run: [x], foreach: [1, 2], when: \"${{ 1 == 2 }}\"},"
                     " d: {run: [x], needs: [c]}, e: {run: [x], when: \"${{ 1 == 2 }}\"}}\n");
    world_exit(world, world_find(world, "a", 0), 1);
    world_exit(world, world_find(world, "b", 1), 0);
    world_exit(world, world_find(world, "d", 0), 0);
    cr_assert(eq(u32, world_run_state(world, "r"), PAWL_RUN_SUCCEEDED));
    world_power_loss(world);
    world_seal(world);
    cr_expect(eq(u32, world_step_state(world, "r", "b", 0), PAWL_STEP_SKIPPED));
    cr_expect(eq(u32, world_step_state(world, "r", "b", 1), PAWL_STEP_SUCCEEDED));
    cr_expect(eq(u32, world_step_state(world, "r", "c", 0), PAWL_STEP_SKIPPED));
    cr_expect(eq(u32, world_step_state(world, "r", "d", 0), PAWL_STEP_SUCCEEDED));
    cr_expect(eq(u32, world_step_state(world, "r", "e", 0), PAWL_STEP_SKIPPED));
}

Test(core_recovery, step_that_needs_a_failed_one_is_skipped_in_an_image_that_is_written_after_a_crash)
{
    world_run(world,
              "pawl: 1\nsteps: {a: {run: [x]}, b: {run: [x], needs: [a]}, c: {run: [x], needs: [b]}}\n");
    world_exit(world, world_find(world, "a", 0), 1);
    cr_assert(eq(u32, world_step_state(world, "r", "c", 0), PAWL_STEP_SKIPPED));
    world_power_loss(world);
    world_seal(world);
    cr_expect(eq(u32, world_step_state(world, "r", "a", 0), PAWL_STEP_FAILED));
    cr_expect(eq(u32, world_step_state(world, "r", "b", 0), PAWL_STEP_SKIPPED));
    cr_expect(eq(u32, world_step_state(world, "r", "c", 0), PAWL_STEP_SKIPPED));
}
