/*
 * bus_sim_disaster.c - deaths of the scheduler, snapshots, and what recovery makes of them.
 */
#include "tests/sim/bus_sim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"

/* The journal keeps whole batches: what is durable, and perhaps some of what was on its way. */
static uint64_t some_cut(struct bus_sim *sim)
{
    uint64_t kept = sim->memory.durable;
    for (size_t i = 0; i < sim->cut_count; i++)
        if (sim->cuts[i] > kept && sim->cuts[i] <= sim->memory.record_count && sim_below(sim, 2))
            kept = sim->cuts[i];
    return kept;
}

static void crash(struct bus_sim *sim)
{
    uint64_t kept = some_cut(sim);
    bool power = sim_below(sim, 2); /* the clock that counts from the boot begins anew */
    if (power)
        memory_reboot(&sim->memory, sim_below(sim, 100) * MEMORY_SECOND_NS);
    sim_say(sim, "%s; records up to %" PRIu64 " are there", power ? "the power goes" : "the scheduler dies",
            kept);
    sim_read_replies(sim);
    sim->publisher.client = NULL;
    oracle_crashed(&sim->oracle, kept);
    memory_restart(&sim->memory, kept);
    sim->cut_count = 0;
    sim_flush(sim);
}

/* Sometimes the next one dies before the disk has any of what it began with. */
void sim_crash(struct bus_sim *sim)
{
    crash(sim);
    while (sim_below(sim, 3) == 0) {
        for (int i = 0; i < 4; i++)
            sim_come_or_go(sim);
        sim_flush(sim);
        crash(sim);
    }
}

/* What recovery would make of the log is the same by every way. */
void sim_compare_recoveries(struct bus_sim *sim)
{
    struct memory *memory = &sim->memory;
    uint64_t lsn = memory->record_count;
    int room = memory->has_room;
    memory->has_room = 0;
    for (size_t i = 0; i < memory->record_count; i++)
        if (!memory->records[i].body)
            lsn = 0; /* segments have gone: there is but one way */
    if (lsn > 0 && memory->snapshot_lsn > 0) {
        char *whole = memory_describe(memory, memory_recover(memory, lsn, false, 1), 1000);
        char *twice = memory_describe(memory, memory_recover(memory, lsn, false, 2), 1000);
        if (strcmp(whole, twice) != 0)
            oracle_fail(&sim->oracle, "records applied twice:\n%s\nonce:\n%s", twice, whole);
        free(whole);
        free(twice);
    }
    memory->has_room = room;
}

void sim_snapshot(struct bus_sim *sim)
{
    sim_flush(sim);
    memory_sync(&sim->memory); /* it becomes good only when all that it holds is durable */
    sim_check(sim);
    memory_snapshot(&sim->memory);
    sim_say(sim, "snapshot");
    if (sim_below(sim, 4) == 0) {
        (void)pawl_bus_compact(sim->memory.bus, sim->memory.now,
                               (uint32_t)(sim->memory.record_count / MEMORY_RECORDS_A_SEGMENT), 1 << 20);
        sim_flush(sim);
        memory_sync(&sim->memory);
        sim_say(sim, "compacted; %zu segments go", memory_release_segments(&sim->memory));
    }
}
