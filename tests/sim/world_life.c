/*
 * world_life.c - deaths and rebirths of the scheduler, and what a world looks like from outside.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/core_record.h"
#include "scheduler/core_state.h"
#include "shm/error.h"
#include "tests/sim/world.h"

/* ---- images ---- */

void world_collect(struct world *world)
{
    world_sync(world);
    for (size_t i = 0; i < world->image_count; i++) {
        struct world_image *image = &world->images[i];
        if (pawl_core_find(world->core, image->run_id))
            continue;
        memcpy(image->run_id, "-gone", 6);
        world->collected++;
        return;
    }
}

static struct world_image *find_image(struct world *world, const char *run_id)
{
    for (size_t i = 0; i < world->image_count; i++)
        if (strcmp(world->images[i].run_id, run_id) == 0)
            return &world->images[i];
    return NULL;
}

int world_reopening(void *ctx, const char *run_id)
{
    struct world_image *image = find_image(ctx, run_id);
    if (!image)
        return -ENOENT;
    image->reopened = true;
    return 0;
}

void world_judge_reopened(struct world *world, const void *reopen_record)
{
    struct pawl_reopen_record record;
    memcpy(&record, reopen_record, sizeof record);
    const struct world_image *image = find_image(world, record.run_id);
    if (!image || !image->reopened)
        world_break(world, "run %s: the journal has it open again before readers know", record.run_id);
}

/* Its image is told from while it waits to be sealed once more: a snapshot may have taken it from there. */
static bool has_ended_as_its_image_says(struct world *world, const struct pawl_run *run)
{
    uint64_t mark = 0;
    return run->superseded || (run->ending && pawl_image_fetch_mark(world->core, run->id, &mark) == 0 &&
                               mark == run->base_image);
}

void world_check_reopened(struct world *world)
{
    for (size_t r = 0; r < world->core->run_count; r++) {
        const struct pawl_run *run = world->core->runs[r];
        const struct world_image *image = find_image(world, run->id);
        bool open_again = run->base_image != 0 && !run->leaving && !has_ended_as_its_image_says(world, run);
        if (open_again && image && !image->reopened)
            world_break(world, "run %s is open again, and readers believe its image", run->id);
    }
}

/* ---- deaths ---- */

void world_snapshot(struct world *world)
{
    void *cursor = NULL;
    const void *chunk;
    size_t bytes;
    int more;
    world_turn(world); /* what is decided is in it, durable or not: it counts once the disk has that lsn */
    for (size_t i = 0; i < world->snapshot_count; i++)
        free(world->snapshot_chunks[i]);
    world->snapshot_count = 0;
    while ((more = pawl_core_snapshot_next(world->core, world->now, &cursor, &chunk, &bytes)) > 0) {
        size_t n = world->snapshot_count++;
        world->snapshot_chunks = realloc(world->snapshot_chunks, (n + 1) * sizeof(char *));
        world->snapshot_bytes = realloc(world->snapshot_bytes, (n + 1) * sizeof(size_t));
        world->snapshot_chunks[n] = malloc(bytes);
        memcpy(world->snapshot_chunks[n], chunk, bytes);
        world->snapshot_bytes[n] = bytes;
    }
    if (more < 0)
        world_break(world, "a snapshot cannot be written: %s", pawl_error_text(more));
    world->snapshot_lsn = world->record_count;
    world->snapshot_written = (struct moment){world->now, world->boot};
    if (world->verbose)
        fprintf(stderr, "  snapshot of lsn %zu\n", world->record_count);
}

static void cut_tail(struct world *world, uint64_t kept)
{
    if (kept < world->durable)
        kept = world->durable;
    while (kept > world->durable && kept < world->record_count && !world->records[kept - 1].ends_batch)
        kept--;
    while (world->record_count > kept)
        free(world->records[--world->record_count].body);
}

void world_reboot(struct world *world, uint64_t boottime_ns)
{
    world->boot++;
    world->now.boottime_ns = boottime_ns;
}

void world_replay(struct world *world)
{
    int error = 0;
    uint64_t from = 0;
    if (world->snapshot_lsn > 0 && world->snapshot_lsn <= world->record_count) {
        pawl_core_written(world->core, moment_read_in(world->snapshot_written, world->boot));
        for (size_t i = 0; error == 0 && i < world->snapshot_count; i++)
            error = pawl_core_snapshot_load(world->core, world->snapshot_chunks[i], world->snapshot_bytes[i]);
        from = world->snapshot_lsn;
    }
    for (uint64_t lsn = from + 1; error == 0 && lsn <= world->record_count; lsn++) {
        const struct world_record *record = &world->records[lsn - 1];
        pawl_core_written(world->core, moment_read_in(record->written, world->boot));
        error = pawl_core_apply(world->core, record->type, record->version, record->body, record->bytes, lsn,
                                world_place_of(lsn));
        if (error < 0)
            world_break(world, "replay of lsn %llu (type %u): %s", (unsigned long long)lsn, record->type,
                        pawl_error_text(error));
    }
    if (error < 0)
        world_break(world, "a snapshot cannot be loaded: %s", pawl_error_text(error));
}

void world_crash(struct world *world, uint64_t kept, bool restarted)
{
    uint64_t epoch, lsn;
    if (world->snapshot_lsn > world->durable)
        world->snapshot_lsn = 0;
    cut_tail(world, kept);
    for (size_t i = 0; i < world->job_count;)
        if (restarted && world->jobs[i]->begun) {
            world->jobs[i++]->delivery = NULL;
        } else {
            free(world->jobs[i]);
            world->jobs[i] = world->jobs[--world->job_count];
        }
    pawl_core_destroy(world->core);
    world->to_seal_count = 0;
    world->batches_open = 0;
    if (world_new_core(world) < 0)
        abort();
    world_ledger_rebuild(world);
    world_replay(world);
    if (pawl_core_start(world->core, world->now, restarted, &epoch, &lsn) < 0)
        world_break(world, "the core does not start");
    world_turn(world);
    world->durable = world->record_count;
    pawl_core_durable(world->core, world->now, world->durable);
}

bool world_adopt(struct world *world, size_t which)
{
    struct world_job *job = world->jobs[which];
    struct pawl_wire_offer offer = {.step = job->step,
                                    .instance = job->instance,
                                    .attempt = job->attempt,
                                    .started_at_ns = job->started_at_ns};
    memcpy(offer.run_id, job->run_id, sizeof offer.run_id);
    job->delivery = pawl_core_adopt(world->core, world->now, &offer, job->worker);
    if (job->delivery) {
        job->signalled = false;
        return true;
    }
    free(job);
    world->jobs[which] = world->jobs[--world->job_count];
    return false;
}

void world_serve(struct world *world)
{
    for (size_t i = 0; i < world->job_count;)
        if (world->jobs[i]->delivery) {
            i++;
        } else {
            free(world->jobs[i]);
            world->jobs[i] = world->jobs[--world->job_count];
        }
    pawl_core_serve(world->core, world->now);
    world_turn(world);
}

void world_restart(struct world *world)
{
    world_turn(world);
    world_crash(world, world->record_count, true);
    for (size_t i = 0; i < world->job_count;)
        i += world_adopt(world, i);
    world_serve(world);
    world_sync(world);
}

void world_power_loss(struct world *world)
{
    world_crash(world, world->durable, false);
    world_serve(world);
    world_sync(world);
}

/* ---- views ---- */

struct pawl_run *world_find_run(struct world *world, const char *run_id)
{
    return pawl_core_find(world->core, run_id);
}

/* The run as it is, or as its image tells it; an image's is freed by close_run(). */
static struct pawl_run *open_run(struct world *world, const char *run_id, bool *of_image_out)
{
    struct pawl_run *run = pawl_core_find(world->core, run_id);
    *of_image_out = false;
    if (run)
        return run;
    for (size_t i = 0; i < world->image_count; i++)
        if (strcmp(world->images[i].run_id, run_id) == 0) {
            *of_image_out = true;
            int error = pawl_image_load_run(world->core, world->images[i].bytes, world->images[i].n, &run);
            if (error < 0)
                world_break(world, "the image of %s does not hold: %s", run_id, pawl_error_text(error));
            return error < 0 ? NULL : run;
        }
    return NULL;
}

static void close_run(struct pawl_run *run, bool of_image)
{
    if (run && of_image)
        pawl_run_free(run);
}

uint32_t world_run_state(struct world *world, const char *run_id)
{
    bool of_image;
    struct pawl_run *run = open_run(world, run_id, &of_image);
    uint32_t state = run ? run->state : UINT32_MAX;
    close_run(run, of_image);
    return state;
}

bool world_step(struct world *world, const char *run_id, const char *step, uint64_t instance,
                struct pawl_step_view *view_out)
{
    bool of_image, found = false;
    struct pawl_run *run = open_run(world, run_id, &of_image);
    uint64_t cursor = 0;
    while (run && !found && pawl_run_step_next(world->core, run, &cursor, 0, view_out) > 0)
        found = strcmp(view_out->name, step) == 0 &&
                (!view_out->fixed.fan_out || view_out->fixed.instance == instance);
    view_out->name = step; /* an image's text goes with it */
    view_out->item = NULL;
    close_run(run, of_image);
    return found;
}

uint32_t world_step_state(struct world *world, const char *run_id, const char *step, uint64_t instance)
{
    struct pawl_step_view view;
    return world_step(world, run_id, step, instance, &view) ? view.fixed.state : UINT32_MAX;
}

uint32_t world_attempts(struct world *world, const char *run_id, const char *step, uint64_t instance)
{
    struct pawl_step_view view;
    return world_step(world, run_id, step, instance, &view) ? view.fixed.attempts : UINT32_MAX;
}

/* What was recorded of it; what is derived (ready, waiting, no longer delayed, skipped) is left out. */
static void digest_instance(FILE *out, const struct pawl_step *step, uint64_t n)
{
    const struct pawl_instance *instance = &step->instances[n];
    bool recorded = instance->attempt > 0 || instance->failures > 0;
    if (!recorded)
        return;
    bool told = instance->state == PAWL_STEP_SUCCEEDED || instance->state == PAWL_STEP_FAILED ||
                instance->state == PAWL_STEP_RUNNING;
    fprintf(out, "  %u[%llu] %s attempt %u failures %u exit %d outcome %u place %llx interrupted %u\n",
            step->index, (unsigned long long)n, told ? pawl_step_state_name(instance->state) : "open",
            instance->attempt, instance->failures, instance->exit_code, instance->outcome,
            (unsigned long long)instance->place, pawl_instance_interruptions(instance));
}

char *world_digest(struct world *world)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    for (size_t r = 0; r < world->core->run_count; r++) {
        const struct pawl_run *run = world->core->runs[r];
        if (run->leaving)
            continue; /* sealed: it is gone as soon as that is durable */
        fprintf(out, "run %llu %s %s attempts %llu retries %llu fed %zu completions %zu\n",
                (unsigned long long)run->number, run->id, pawl_run_state_name(run->state),
                (unsigned long long)run->attempts, (unsigned long long)run->retries, run->fed_count,
                run->completions.count);
        for (uint32_t s = 0; s < run->step_count; s++)
            for (uint64_t i = 0; i < run->steps[s].count; i++)
                digest_instance(out, &run->steps[s], i);
    }
    fclose(out);
    return text;
}

void world_check_counts(struct world *world)
{
    world_check_reopened(world);
    for (size_t r = 0; r < world->core->run_count; r++) {
        struct pawl_run *run = world->core->runs[r];
        uint64_t states[PAWL_STEP_STATES];
        memcpy(states, run->states, sizeof states);
        struct pawl_wire_summary summary;
        pawl_run_summary(world->core, run, world->now, &summary);
        uint64_t sum = summary.waiting + summary.ready + summary.running + summary.delayed +
                       summary.succeeded + summary.failed + summary.skipped + summary.cancelled +
                       summary.cached;
        if (sum != summary.total)
            world_break(world, "run %s: the states add up to %llu, total is %llu", run->id,
                        (unsigned long long)sum, (unsigned long long)summary.total);
        pawl_run_recount(run);
        if (memcmp(states, run->states, sizeof states) != 0)
            world_break(world, "run %s: its counters are not what its steps say", run->id);
    }
}

void world_check_image(struct world *world, const char *run_id)
{
    bool of_image;
    struct pawl_run *run = open_run(world, run_id, &of_image);
    for (uint32_t s = 0; run && s < run->step_count; s++) {
        const struct pawl_step *step = &run->steps[s];
        if (!pawl_step_state_is_final(step->state))
            world_break(world, "%s: step %u of a sealed run is %s", run_id, s,
                        pawl_step_state_name(step->state));
        for (uint64_t i = 0; i < step->count; i++) {
            const struct world_entry *entry = world_ledger_at(world, run->number, s, i);
            bool success = step->instances[i].state == PAWL_STEP_SUCCEEDED;
            if (!pawl_step_state_is_final(step->instances[i].state))
                world_break(world, "%s: %u[%llu] of a sealed run is %s", run_id, s, (unsigned long long)i,
                            pawl_step_state_name(step->instances[i].state));
            if (entry && success != (entry->success_lsn != 0))
                world_break(world, "%s: %u[%llu] is %s, the journal says otherwise", run_id, s,
                            (unsigned long long)i, pawl_step_state_name(step->instances[i].state));
        }
    }
    if (run && run->fed && run->state == PAWL_RUN_SUCCEEDED && run->completions.count < run->steps[0].count)
        world_break(world, "%s: %zu of %llu items were told", run_id, run->completions.count,
                    (unsigned long long)run->steps[0].count);
    for (uint64_t i = 0; run && run->fed && world->verbose && i < run->steps[0].count; i++)
        fprintf(stderr, "  item %llu: %s, flags %u, content %llu\n", (unsigned long long)i,
                pawl_step_state_name(run->steps[0].instances[i].state), run->steps[0].instances[i].flags,
                (unsigned long long)run->hashes[i][1]);
    close_run(run, of_image);
}
