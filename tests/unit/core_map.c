/*
 * core_map - fed items: each is run once, told once, and found again by what it says.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "scheduler/core_state.h"
#include "scheduler/run.h"
#include "shm/error.h"
#include "shm/task.h"
#include "tests/sim/world.h"

#define HAD_SUCCEEDED (UINT64_C(1) << 63)

static struct world *world;
static struct pawl_run *run;

static void make_world(void)
{
    world = world_create(4);
    run = world_map(world, NULL, NULL);
    cr_assert(ne(ptr, run, NULL));
    world_sync(world);
}

static void end_world(void)
{
    cr_expect(eq(str, world->broken, ""));
    world_check_counts(world);
    world_destroy(world);
}

TestSuite(core_map, .init = make_world, .fini = end_world);

static void feed(uint64_t first, uint32_t count, const uint64_t *content, uint64_t *instances)
{
    cr_assert(eq(int, world_feed(world, run, first, count, content, instances), 0));
    world_sync(world);
}

static void end_feed(void)
{
    cr_assert(eq(int, pawl_core_items_end(world->core, world->now, run), 0));
    world_sync(world);
}

static void interrupt(void)
{
    cr_assert(eq(int, pawl_core_cancel(world->core, world->now, NULL, run, PAWL_CANCEL_INTERRUPT, 0), 0));
    while (world->job_count > 0)
        world_end(world, world->jobs[0], PAWL_OUTCOME_KILLED, 15, NULL);
    world_sync(world);
    cr_assert(eq(u32, world_run_state(world, "m"), PAWL_RUN_INTERRUPTED));
}

static void resume(void)
{
    int error = 0;
    run = world_map(world, "m", &error);
    cr_assert(ne(ptr, run, NULL), "%s", pawl_error_text(error));
    world_sync(world);
}

static void run_all(void)
{
    while (world->job_count > 0)
        world_exit(world, world->jobs[0], 0);
}

Test(core_map, first_items_run_before_the_last_has_come)
{
    uint64_t content[] = {1, 2}, instances[2];
    feed(0, 2, content, instances);
    cr_expect(eq(sz, world->job_count, 2));
}

Test(core_map, nothing_of_an_item_starts_before_the_item_is_durable)
{
    uint64_t content[] = {1}, instances[1];
    cr_assert(eq(int, world_feed(world, run, 0, 1, content, instances), 0));
    world_turn(world);
    cr_expect(eq(sz, world->job_count, 0));
    world_sync(world);
    cr_expect(eq(sz, world->job_count, 1));
}

Test(core_map, equal_items_are_as_many_tasks)
{
    uint64_t content[] = {5, 5, 5}, instances[3];
    feed(0, 3, content, instances);
    end_feed();
    cr_expect(eq(sz, world->job_count, 3));
    run_all();
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "m"), PAWL_RUN_SUCCEEDED));
}

Test(core_map, repeated_message_is_answered_and_not_added)
{
    uint64_t content[] = {1, 2, 3}, instances[3], again[3];
    feed(0, 3, content, instances);
    feed(0, 3, content, again);
    cr_expect(eq(u64[3], again, instances));
    cr_expect(eq(sz, world->job_count, 3));
    world_restart(world);
    run = world_find_run(world, "m");
    feed(0, 3, content, again);
    cr_expect(eq(u64[3], again, instances));
}

Test(core_map, message_with_a_gap_is_refused)
{
    uint64_t content[] = {1, 2, 3}, instances[3];
    feed(0, 1, content, instances);
    cr_expect(eq(int, world_feed(world, run, 2, 1, content, instances), PAWL_E_BAD_MESSAGE));
}

Test(core_map, credit_bounds_what_waits_and_comes_back)
{
    uint64_t content[80], instances[80];
    for (uint64_t i = 0; i < 80; i++)
        content[i] = i;
    uint32_t credit = pawl_core_items_credit(world->core, run);
    cr_assert(eq(u32, credit, 64));
    feed(0, credit, content, instances);
    cr_expect(lt(u32, pawl_core_items_credit(world->core, run), 64));
    run_all();
    cr_expect(eq(u32, pawl_core_items_credit(world->core, run), 64));
}

Test(core_map, credit_comes_back_by_half_a_window)
{
    uint64_t content[64], instances[64];
    uint32_t given = 0;
    for (uint64_t i = 0; i < 64; i++)
        content[i] = i;
    feed(0, 64, content, instances);
    for (uint64_t i = 0; i < 64; i++) {
        world_succeed(world, "map", i);
        world_sync(world);
        uint32_t credit = pawl_core_items_credit(world->core, run);
        if (given == 0 && credit > 0) {
            given = credit;
            cr_expect(ge(u32, credit, 32));
        }
        cr_expect(ge(u32, credit, given), "once there is some, it only grows");
    }
    cr_expect(eq(u32, pawl_core_items_credit(world->core, run), 64));
}

Test(core_map, resume_finds_items_by_content_and_runs_only_what_has_not_succeeded)
{
    uint64_t content[] = {1, 2, 3}, other[] = {3, 9, 1}, instances[3];
    feed(0, 3, content, instances);
    world_succeed(world, "map", 0);
    interrupt();
    resume();
    feed(0, 3, other, instances);
    cr_expect(eq(u64, instances[0], 2));
    cr_expect(eq(u64, instances[1], 3), "a new one");
    cr_expect(eq(u64, instances[2], 0 | HAD_SUCCEEDED));
    end_feed();
    cr_expect(eq(sz, world->job_count, 2));
    run_all();
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "m"), PAWL_RUN_SUCCEEDED));
    cr_expect(eq(u32, world_step_state(world, "m", "map", 1), PAWL_STEP_CANCELLED), "2 was not fed again");
}

Test(core_map, item_found_again_does_not_start_before_its_feed_is_durable)
{
    uint64_t content[] = {1, 2}, instances[2];
    feed(0, 2, content, instances);
    interrupt();
    resume();
    cr_assert(eq(int, world_feed(world, run, 0, 2, content, instances), 0));
    world_turn(world);
    cr_expect(eq(sz, world->job_count, 0));
    world_sync(world);
    cr_expect(eq(sz, world->job_count, 2));
    end_feed();
    run_all();
    cr_expect(eq(u32, world_run_state(world, "m"), PAWL_RUN_SUCCEEDED));
}

Test(core_map, second_resume_in_one_life_of_the_scheduler_knows_the_successes_too)
{
    uint64_t content[] = {1, 2, 3}, instances[3];
    feed(0, 3, content, instances);
    world_succeed(world, "map", 0);
    for (int i = 0; i < 3; i++) {
        interrupt();
        resume();
        feed(0, 3, content, instances);
        cr_expect(eq(u64, instances[0], 0 | HAD_SUCCEEDED));
        cr_expect(eq(sz, world->job_count, 2));
    }
}

Test(core_map, restart_in_the_middle_of_a_resumed_feed_claims_nothing_twice)
{
    uint64_t content[] = {7, 7, 7}, instances[3];
    feed(0, 3, content, instances);
    world_succeed(world, "map", 0);
    interrupt();
    resume();
    feed(0, 1, content, instances);
    cr_expect(eq(u64, instances[0], 0 | HAD_SUCCEEDED));
    world_restart(world);
    run = world_find_run(world, "m");
    feed(1, 2, content, instances);
    cr_expect(eq(u64, instances[0] & ~HAD_SUCCEEDED, 1));
    cr_expect(eq(u64, instances[1] & ~HAD_SUCCEEDED, 2));
}

/* The answer was lost with its scheduler; what the command has not come to yet never runs before it does. */
Test(core_map, after_a_restart_in_the_middle_of_a_resumed_feed_there_is_credit_for_the_rest)
{
    uint64_t content[120], instances[120];
    for (uint64_t i = 0; i < 120; i++)
        content[i] = i;
    feed(0, 120, content, instances);
    interrupt();
    resume();
    feed(0, 4, content, instances);
    world_restart(world);
    run = world_find_run(world, "m");
    feed(0, 4, content, instances);
    cr_expect(ge(u32, pawl_core_items_credit(world->core, run), 1), "the command waits for it for ever");
    run_all();
    cr_expect(eq(u32, pawl_core_items_credit(world->core, run), 64));
}

Test(core_map, sealed_map_is_resumed_from_its_image)
{
    uint64_t content[] = {1, 2}, instances[2];
    feed(0, 2, content, instances);
    end_feed();
    world_exit(world, world_find(world, "map", 0), 1);
    run_all();
    world_finish(world);
    cr_assert(eq(u32, world_run_state(world, "m"), PAWL_RUN_FAILED));
    resume();
    feed(0, 2, content, instances);
    cr_expect(eq(u64, instances[1], 1 | HAD_SUCCEEDED));
    end_feed();
    run_all();
    world_finish(world);
    cr_expect(eq(u32, world_run_state(world, "m"), PAWL_RUN_SUCCEEDED));
}

static void expect_output(uint64_t instance, const char *out)
{
    struct pawl_result_view view;
    cr_assert(eq(int, pawl_run_result(world->core, run, 0, instance, 0, true, &view), 0));
    cr_assert(eq(u32, view.fixed.stdout_bytes, (uint32_t)strlen(out)));
    cr_expect(eq(int, memcmp(view.bytes, out, strlen(out)), 0), "instance %zu", (size_t)instance);
    free(view.bytes);
}

Test(core_map, results_of_an_image_that_are_read_one_after_the_other_share_reads)
{
    enum { COUNT = 200 };
    uint64_t content[COUNT], instances[COUNT];
    char out[32];
    for (uint64_t i = 0; i < COUNT; i++)
        content[i] = i + 1;
    feed(0, COUNT, content, instances);
    end_feed();
    for (uint64_t i = 0; i < COUNT; i++) {
        snprintf(out, sizeof out, "what %zu printed", (size_t)i);
        world_end(world, world_find(world, "map", i), PAWL_OUTCOME_EXITED, i == 7, out);
        world_sync(world);
    }
    world_finish(world);
    cr_assert(eq(u32, world_run_state(world, "m"), PAWL_RUN_FAILED));
    resume();
    size_t before = world->image_reads;
    for (uint64_t i = 0; i < COUNT; i++) {
        snprintf(out, sizeof out, "what %zu printed", (size_t)i);
        expect_output(i, out);
    }
    cr_expect(le(sz, world->image_reads - before, 8));
    expect_output(0, "what 0 printed");
    expect_output(COUNT - 1, "what 199 printed");
}

/* A failed run of @count tasks that printed 16 KiB each, sealed. */
static void seal_large_outputs(uint64_t count)
{
    static char out[(16 << 10) + 1];
    uint64_t content[200], instances[200];
    memset(out, 'x', sizeof out - 1);
    for (uint64_t i = 0; i < count; i++)
        content[i] = i + 1;
    feed(0, (uint32_t)count, content, instances);
    end_feed();
    for (uint64_t i = 0; i < count; i++) {
        world_end(world, world_find(world, "map", i), PAWL_OUTCOME_EXITED, i == 7, out);
        world_sync(world);
    }
    world_finish(world);
    cr_assert(eq(u32, world_run_state(world, "m"), PAWL_RUN_FAILED));
}

Test(core_map, outputs_of_an_image_are_read_once_and_in_pieces_when_its_run_is_resumed)
{
    seal_large_outputs(200);
    size_t bytes = world->images[0].n;
    cr_assert(ge(sz, bytes, 3 << 20));
    world->image_reads_largest = world->image_bytes_read = 0;
    resume();
    cr_expect(le(sz, world->image_reads_largest, 1 << 20));
    cr_expect(le(sz, world->image_bytes_read, bytes + (256 << 10)));
}

Test(core_map, an_image_with_an_altered_output_is_not_resumed)
{
    int error = 0;
    seal_large_outputs(100);
    world->images[0].bytes[world->images[0].n / 2] ^= 1;
    cr_expect(zero(ptr, world_map(world, "m", &error)));
    cr_expect(eq(int, error, PAWL_E_DAMAGED));
}

Test(core_map, full_disk_refuses_items_and_takes_them_later)
{
    uint64_t content[] = {1}, instances[1];
    world->room = false;
    cr_expect(eq(int, world_feed(world, run, 0, 1, content, instances), PAWL_E_NO_SPACE));
    world->room = true;
    feed(0, 1, content, instances);
    cr_expect(eq(sz, world->job_count, 1));
}

Test(core_map, items_after_the_end_are_refused)
{
    uint64_t content[] = {1}, instances[1];
    end_feed();
    cr_expect(ne(int, world_feed(world, run, 0, 1, content, instances), 0));
}

static void expect_why(const char *words)
{
    char text[1024] = "";
    cr_assert(eq(int, pawl_run_why(world->core, run, 0, 0, world->now, text, sizeof text), 0));
    cr_expect(strstr(text, words) != NULL, "'%s' is not in: %s", words, text);
}

Test(core_map, why_says_what_holds_a_task_back)
{
    const uint64_t content[1] = {1};
    uint64_t instances[1];
    struct pawl_batch *batch = pawl_run_batch(run);
    batch->load_milli = 2000;
    batch->memfree_bytes = UINT64_C(4) << 30;
    feed(0, 1, content, instances);
    expect_why("It waits for the first look at the machine's load and memory");
    pawl_core_sample(world->core, 2500, UINT64_C(8) << 30);
    expect_why("It waits for the load to fall: it is 2.50, starts are made up to 2.00 (--load)");
    pawl_core_sample(world->core, 2000, UINT64_C(1) << 30);
    expect_why("It waits for memory: 1024 MiB are available, starts are made from 4096 (--memfree)");
    batch->load_milli = 0;
    batch->memfree_bytes = 0;
    batch->next_start_ns = world->now.boottime_ns + 2500000000;
    expect_why("It waits for the time between two starts (--delay): the next one is due in 2.5 s");
    batch->next_start_ns = 0;
    expect_why("It waits for a free slot");
}
