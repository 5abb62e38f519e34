/*
 * sim - the core lives through thousands of small disasters, drawn from a seed.
 *
 * Each round is a world of its own: random workflows and map runs, workers that finish, fail and die, a disk
 * that is late or full, schedulers that are killed, power that goes, people that cancel and resume. After
 * every event the rules of tests/sim/ledger.c hold, replay of the journal gives the state that was alive, and
 * in the end everything is over and told alike by journal and image.
 *
 * SEED=N runs that round alone and prints its events; ROUNDS=N (400). Prints the seed of a round that fails.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/error.h"
#include "tests/sim/world.h"

#define SECOND_NS UINT64_C(1000000000)

enum { EVENTS = 160, RUNS = 4, ITEMS_MAX = 24 };

struct map {
    bool there;
    uint64_t fed, total;
    uint64_t content[ITEMS_MAX];
};

struct sim {
    struct world *world;
    char *texts[RUNS];
    unsigned run_count;
    struct map map;
    bool ended; /* the map's ITEMS_END is in */
};

static void say(struct sim *sim, const char *what)
{
    if (sim->world->verbose)
        fprintf(stderr, "%s (jobs %zu, lsn %zu, durable %" PRIu64 ")\n", what, sim->world->job_count,
                sim->world->record_count, sim->world->durable);
}

static struct world_job *some_job(struct world *world, bool begun_only)
{
    for (int i = 0; i < 8 && world->job_count > 0; i++) {
        struct world_job *job = world->jobs[world_below(world, (uint32_t)world->job_count)];
        if (job->begun || !begun_only)
            return job;
    }
    return NULL;
}

static const char *some_output(struct world *world)
{
    static const char *const outputs[] = {"[1, 2, 3]", "[1, 2, 3]", "[]", "[2]", "[1,2,3,4,5,6,7,8]", "{]"};
    return outputs[world_below(world, 6)];
}

static void end_some(struct sim *sim)
{
    struct world *world = sim->world;
    struct world_job *job = some_job(world, false);
    if (!job)
        return;
    if (job->signalled && world_below(world, 4) > 0) {
        world_end(world, job, PAWL_OUTCOME_KILLED, 15, NULL);
        return;
    }
    switch (world_below(world, 10)) {
    case 0:
        world_end(world, job, PAWL_OUTCOME_EXITED, 1 + (int)world_below(world, 3), NULL);
        break;
    case 1:
        world_end(world, job, PAWL_OUTCOME_SIGNALED, 11, "partial");
        break;
    case 2:
        world_end(world, job, PAWL_OUTCOME_TIMED_OUT, 15, NULL);
        break;
    default:
        world_end(world, job, PAWL_OUTCOME_EXITED, 0, some_output(world));
    }
}

/* ---- submissions ---- */

static void submit_one(struct sim *sim)
{
    struct world *world = sim->world;
    if (sim->run_count == RUNS)
        return;
    char text[8192], id[16];
    int error;
    world_random_plan(world, text, sizeof text);
    snprintf(id, sizeof id, "r%u", sim->run_count);
    struct world_submit submit = {.text = text,
                                  .run_id = id,
                                  .slots = 1 + world_below(world, 4),
                                  .client = 1 + sim->run_count,
                                  .halt_now = world_below(world, 3) == 0};
    if (world_below(world, 2))
        submit.flags |= PAWL_SUBMIT_KEEP_GOING;
    if (world_below(world, 2))
        submit.flags |= PAWL_SUBMIT_DETACH;
    if (world->verbose)
        fprintf(stderr, "%s", text);
    struct pawl_run *run = world_submit(world, &submit, &error);
    if (run)
        sim->texts[sim->run_count++] = strdup(text);
    else if (error != PAWL_E_NO_SPACE || world->room)
        world_break(world, "a submission is refused: %s", pawl_error_text(error));
}

static void resume_one(struct sim *sim)
{
    struct world *world = sim->world;
    if (sim->run_count == 0)
        return;
    unsigned which = world_below(world, sim->run_count);
    char id[16];
    snprintf(id, sizeof id, "r%u", which);
    bool same = world_below(world, 2);
    struct world_submit submit = {.resume_id = id,
                                  .text = same ? NULL : sim->texts[which],
                                  .slots = 1 + world_below(world, 4),
                                  .client = 1 + which};
    if (world_below(world, 3) == 0)
        submit.flags |= PAWL_SUBMIT_RETRY;
    (void)world_submit(world, &submit, NULL);
}

/* ---- the map run ---- */

static void map_more(struct sim *sim)
{
    struct world *world = sim->world;
    struct map *map = &sim->map;
    int error;
    if (!map->there) {
        if (!world_map(world, NULL, &error))
            return;
        map->there = true;
        map->total = 1 + world_below(world, ITEMS_MAX);
        for (uint64_t i = 0; i < map->total; i++)
            map->content[i] = world_below(world, 8); /* doubles are as good as any */
        return;
    }
    struct pawl_run *run = world_find_run(world, "m");
    uint32_t state = world_run_state(world, "m");
    if (!run || state != PAWL_RUN_RUNNING) {
        if (world_map(world, "m", &error)) { /* from the first item on, as a client does */
            map->fed = 0;
            sim->ended = false;
        }
        return;
    }
    uint64_t instances[ITEMS_MAX];
    uint64_t left = map->total - map->fed;
    uint32_t count = left > 0 ? 1 + world_below(world, (uint32_t)left) : 0;
    uint32_t credit = pawl_core_items_credit(world->core, run);
    if (count > credit)
        count = credit;
    if (count > 0 && world_feed(world, run, map->fed, count, map->content + map->fed, instances) == 0)
        map->fed += count;
    if (map->fed == map->total && !sim->ended && pawl_core_items_end(world->core, world->now, run) == 0)
        sim->ended = true;
}

/* After a death the client sends again what was not confirmed; it does not know what was. */
static void map_client_reconnects(struct sim *sim)
{
    sim->map.fed = 0;
    sim->ended = false;
}

/* ---- deaths ---- */

static void die(struct sim *sim)
{
    struct world *world = sim->world;
    world_turn(world);
    uint64_t tail = world->record_count - world->durable;
    uint64_t kept = world->durable + (tail ? world_random(world) % (tail + 1) : 0);
    bool restarted = world_below(world, 3) > 0;
    say(sim, restarted ? "the scheduler dies" : "the power fails");
    bool whole = kept == world->record_count;
    char *before = whole ? world_digest(world) : NULL;
    if (!restarted)
        world_reboot(world, world_random(world) % (100 * SECOND_NS));
    world_crash(world, kept, restarted);
    for (size_t i = 0; i < world->job_count;)
        i += world_below(world, 5) == 0 ? 1 : (unsigned)world_adopt(world, i);
    free(before);
    /* Jobs end while the last workers have not made their offers yet. */
    while (world->job_count > 0 && world_below(world, 3) == 0) {
        struct world_job *job = some_job(world, false);
        if (job->delivery)
            world_end(world, job, PAWL_OUTCOME_EXITED, world_below(world, 3) == 0, some_output(world));
        if (world_below(world, 2) && world->durable < world->record_count)
            world_durable(world,
                          world->durable + 1 + world_random(world) % (world->record_count - world->durable));
    }
    world_serve(world);
    map_client_reconnects(sim);
}

/* A second core that reads everything says the same as the one that lives. */
static void compare_replay(struct sim *sim)
{
    struct world *world = sim->world;
    world_turn(world);
    char *alive = world_digest(world);
    struct pawl_core *core = world->core;
    uint64_t snapshot_lsn = world->snapshot_lsn;
    bool with_snapshot = world_below(world, 2) && snapshot_lsn <= world->record_count;
    if (!with_snapshot)
        world->snapshot_lsn = 0;
    if (world_new_core(world) < 0)
        abort();
    world_replay(world);
    char *read = world_digest(world);
    if (strcmp(alive, read) != 0)
        world_break(world, "replay%s differs:\n--- alive\n%.1500s--- replayed\n%.1500s",
                    with_snapshot ? " after the snapshot" : "", alive, read);
    if (world->verbose && world->broken[0])
        fprintf(stderr, "--- alive\n%s--- replayed\n%s--- end\n", alive, read);
    pawl_core_destroy(world->core);
    world->core = core;
    world->snapshot_lsn = snapshot_lsn;
    free(alive);
    free(read);
}

/* ---- events ---- */

static void cancel_some(struct sim *sim)
{
    struct world *world = sim->world;
    char id[16];
    snprintf(id, sizeof id, "r%u", world_below(world, RUNS));
    struct pawl_run *run = world_find_run(world, world_below(world, 6) ? id : "m");
    if (run)
        (void)pawl_core_cancel(world->core, world->now, NULL, run, 1 + world_below(world, 3), SECOND_NS);
}

static void event(struct sim *sim)
{
    struct world *world = sim->world;
    struct world_job *job;
    switch (world_below(world, 40)) {
    case 0:
        submit_one(sim);
        break;
    case 1:
        resume_one(sim);
        break;
    case 2:
    case 3:
        map_more(sim);
        break;
    case 4:
        cancel_some(sim);
        break;
    case 5:
        if (world_below(world, 2))
            die(sim);
        break;
    case 6:
        if ((job = some_job(world, false)))
            world_worker_dies(world, job);
        break;
    case 7:
        world_snapshot(world);
        break;
    case 8:
        compare_replay(sim);
        break;
    case 9:
        world->room = !world->room;
        break;
    case 10:
        world->ring_max = world_below(world, 2) ? 2 : WORLD_JOBS_MAX;
        break;
    case 11:
        pawl_core_client_gone(world->core, world->now, 1 + world_below(world, 8));
        break;
    case 12:
        if (world_below(world, 8) == 0)
            world_collect(world);
        else
            world_seal(world);
        break;
    case 13: /* the wall clock is set; the other one never goes back */
        world->now.realtime_ns += world_below(world, 2) ? 86400 * SECOND_NS : -3600 * SECOND_NS;
        break;
    case 14:
    case 15:
        world_advance(world, world_random(world) % (5 * SECOND_NS));
        break;
    case 16:
    case 17:
    case 18:
    case 19:
        if ((job = some_job(world, false)))
            world_begin(world, job);
        break;
    case 20:
    case 21:
    case 22:
    case 23:
    case 24:
        if (world->durable < world->record_count)
            world_durable(world,
                          world->durable + 1 + world_random(world) % (world->record_count - world->durable));
        break;
    default:
        end_some(sim);
    }
    if (world_below(world, 4) > 0)
        world_turn(world);
    world_check_counts(world);
}

/* ---- the end: everything is let go on until nothing is left ---- */

static bool is_final(uint32_t state)
{
    return state == PAWL_RUN_SUCCEEDED || state == PAWL_RUN_FAILED || state == PAWL_RUN_CANCELLED;
}

static void finish_runs(struct sim *sim)
{
    struct world *world = sim->world;
    world->room = true;
    world->ring_max = WORLD_JOBS_MAX;
    world_finish(world);
    for (unsigned i = 0; i < sim->run_count; i++) {
        char id[16];
        snprintf(id, sizeof id, "r%u", i);
        uint32_t state = world_run_state(world, id);
        if (state == PAWL_RUN_INTERRUPTED) {
            int error;
            struct world_submit submit = {.resume_id = id, .slots = 2, .client = 1 + i};
            if (!world_submit(world, &submit, &error))
                world_break(world, "%s cannot be resumed: %s", id, pawl_error_text(error));
            world_finish(world);
            state = world_run_state(world, id);
        }
        if (state == UINT32_MAX && (world->collected || !world_was_submitted(world, id)))
            continue; /* the power went before it was confirmed, or it is over and collected */
        if (!is_final(state))
            world_break(world, "%s is never over: state %u", id, state);
    }
}

static void finish_map(struct sim *sim)
{
    struct world *world = sim->world;
    if (!sim->map.there)
        return;
    bool again = true;
    for (int i = 0; i < 200 && (again || world_run_state(world, "m") == PAWL_RUN_RUNNING); i++) {
        again = world_run_state(world, "m") != PAWL_RUN_RUNNING && i == 0;
        map_more(sim);
        world_finish(world);
    }
    uint32_t state = world_run_state(world, "m");
    if (!is_final(state) && !world->collected && world_was_submitted(world, "m"))
        world_break(world, "the map is never over: state %u", state);
}

/* In the end each item and each step is told once, in a final state. */
static void check_end(struct sim *sim)
{
    struct world *world = sim->world;
    world_seal(world);
    world_sync(world);
    if (world->job_count > 0 || world->batches_open > 0 || !pawl_core_idle(world->core))
        world_break(world, "something is left: %zu jobs, %u batches", world->job_count, world->batches_open);
    for (size_t i = 0; i < world->image_count; i++)
        if (world->images[i].run_id[0] != '-')
            world_check_image(world, world->images[i].run_id);
}

static bool run_round(uint64_t seed, bool verbose)
{
    struct sim sim = {.world = world_create(seed)};
    struct world *world = sim.world;
    world->verbose = verbose;
    submit_one(&sim);
    for (int i = 0; i < EVENTS && !world->broken[0]; i++)
        event(&sim);
    if (!world->broken[0])
        finish_runs(&sim);
    if (!world->broken[0])
        finish_map(&sim);
    if (!world->broken[0])
        check_end(&sim);
    bool good = !world->broken[0];
    if (!good)
        fprintf(stderr, "sim: SEED=%" PRIu64 ": %s\n", seed, world->broken);
    world_destroy(world);
    for (unsigned i = 0; i < sim.run_count; i++)
        free(sim.texts[i]);
    return good;
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && text[0] ? strtoull(text, NULL, 10) : otherwise;
}

int main(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t rounds = number_of("ROUNDS", 400), passed = 0, failed = 0;
    uint64_t seed = number_of("SEED", 0);
    if (seed)
        return run_round(seed, true) ? 0 : 1;
    uint64_t first = ((uint64_t)now.tv_sec << 20) ^ (uint64_t)now.tv_nsec;
    first = number_of("FIRST", first);
    for (uint64_t i = 0; i < rounds && failed < 5; i++)
        *(run_round(first + i, false) ? &passed : &failed) += 1;
    printf("seeds from %" PRIu64 ": %" PRIu64 " passed, %" PRIu64 " failed\n", first, passed, failed);
    return failed ? 1 : 0;
}
