/*
 * sim_bus - the event bus lives through thousands of small disasters, drawn from a seed.
 *
 * Each round is a bus of its own over the backend in memory: queues of random kinds, publishers and consumers
 * that come and go, settlements good and bad, schedulers that die and lose what was not durable, snapshots,
 * disks that are full, clocks that are set. After every step the rules of tests/sim/bus_oracle.c hold; in the
 * end all is drained, and what was confirmed has come.
 *
 * SEED=N runs that round alone and prints its steps; ROUNDS=N (60). Prints the seed of a round that fails.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "scheduler/bus/state.h"
#include "tests/sim/bus_sim.h"

/* People and time servers set the wall clock; the other one never goes back. */
static void set_the_clock(struct bus_sim *sim)
{
    bool forward = sim_below(sim, 2);
    sim->memory.now.realtime_ns += forward ? 86400 * MEMORY_SECOND_NS : -3600 * MEMORY_SECOND_NS;
    sim_say(sim, "the wall clock goes %s", forward ? "a day forward" : "an hour back");
}

static void step(struct bus_sim *sim)
{
    uint32_t what = sim_below(sim, 100);
    if (!sim->publisher.client && sim_below(sim, 3) == 0)
        sim_connect(sim);
    if (what < 35) {
        for (uint32_t i = 1 + sim_below(sim, 4); i-- > 0;)
            sim_publish(sim);
    } else if (what < 45) {
        sim_come_or_go(sim);
    } else if (what < 65) {
        sim_settle(sim);
    } else if (what < 70) {
        sim_take(sim);
    } else if (what < 75) {
        sim_settle_taken(sim);
    } else if (what < 82) {
        memory_sync(&sim->memory);
        sim_say(sim, "synced");
    } else if (what < 83) {
        set_the_clock(sim);
    } else if (what < 90) {
        uint64_t ns = sim_below(sim, 4) ? sim_below(sim, 1000) * UINT64_C(1000000)
                                        : sim_below(sim, 40) * MEMORY_SECOND_NS;
        sim->memory.now.boottime_ns += ns;
        sim->memory.now.realtime_ns += ns;
        (void)pawl_bus_tick(sim->memory.bus, sim->memory.now);
        sim_say(sim, "%" PRIu64 " ms pass", ns / 1000000);
    } else if (what < 94) {
        sim_administer(sim);
    } else if (what < 95) {
        if (sim->publisher.client) {
            sim_say(sim, "the publisher dies");
            sim_read_replies(sim);
            memory_close(&sim->memory, sim->publisher.client);
            sim->publisher.client = NULL;
        }
    } else if (what < 97) {
        sim_snapshot(sim);
    } else if (what < 98) {
        sim_compare_recoveries(sim);
    } else {
        sim_crash(sim);
    }
    sim_flush(sim);
}

static bool run_round(uint64_t seed, bool verbose)
{
    struct bus_sim *sim = calloc(1, sizeof *sim);
    if (!sim)
        abort();
    sim->verbose = verbose;
    sim->random = seed;
    memory_init(&sim->memory);
    sim->memory.random = seed | 1;
    sim->oracle.memory = &sim->memory;
    sim->oracle.verbose = verbose;
    sim->publisher.id = seed | 1;
    uint32_t queues = 1 + sim_below(sim, ORACLE_QUEUES_MAX);
    for (uint32_t q = 0; q < queues; q++) {
        sim->oracle.queue_count = q + 1;
        sim_declare(sim, q);
    }
    memory_turn(&sim->memory);
    sim_connect(sim);
    for (int i = 0; i < SIM_STEPS && !sim->oracle.wrong[0]; i++)
        step(sim);
    if (!sim->oracle.wrong[0])
        sim_end(sim);
    bool good = !sim->oracle.wrong[0];
    if (!good)
        fprintf(stderr, "SEED=%" PRIu64 ": %s\n", seed, sim->oracle.wrong);
    while (sim->taken_count > 0)
        sim_forget_taken(sim, 0);
    memory_fini(&sim->memory);
    oracle_fini(&sim->oracle);
    free(sim);
    return good;
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

int main(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t rounds = number_of("ROUNDS", 60), passed = 0, failed = 0, seed = number_of("SEED", 0);
    if (seed)
        return run_round(seed, true) ? 0 : 1;
    uint64_t first = number_of("FIRST", ((uint64_t)now.tv_sec << 20) ^ (uint64_t)now.tv_nsec);
    for (uint64_t i = 0; i < rounds && failed < 5; i++)
        *(run_round(first + i, false) ? &passed : &failed) += 1;
    printf("seeds from %" PRIu64 ": %" PRIu64 " passed, %" PRIu64 " failed\n", first, passed, failed);
    return failed ? 1 : 0;
}
