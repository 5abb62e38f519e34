/*
 * bus_sim_detached.c - deliveries that are taken by request and settled by identity.
 */
#include "tests/sim/bus_sim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

void sim_forget_taken(struct bus_sim *sim, uint32_t i)
{
    free(sim->taken[i].event);
    sim->taken[i] = sim->taken[--sim->taken_count];
}

void sim_take(struct bus_sim *sim)
{
    uint32_t q = sim_below(sim, sim->oracle.queue_count);
    const struct oracle_queue *queue = &sim->oracle.queues[q];
    uint32_t group = queue->stream ? 1 + sim_below(sim, queue->groups) : 0;
    if (sim->taken_count == SIM_TAKEN_MAX)
        sim_forget_taken(sim, sim_below(sim, SIM_TAKEN_MAX));
    struct taken *one = &sim->taken[sim->taken_count];
    if (memory_take(&sim->memory, queue->name, sim_group_name(queue, group), 1, &one->taken) != 1)
        return;
    sim_flush(sim);
    memory_sync(&sim->memory); /* it is shown when it is durable */
    const struct pawl_event *event =
        pawl_bus_event(sim->memory.bus, one->taken.entry.queue, one->taken.entry.seq);
    if (!event) {
        oracle_fail(&sim->oracle, "a taken event cannot be read");
        return;
    }
    one->event = malloc(event->bytes);
    memcpy(one->event, event, event->bytes);
    one->queue = q;
    one->group = group;
    sim->taken_count++;
    sim_say(sim, "taken from %s/%u: seq %" PRIu64 " attempt %u", queue->name, group, one->taken.entry.seq,
            one->taken.entry.attempt);
    (void)oracle_delivery(&sim->oracle, &one->taken.entry, one->event, group);
    oracle_begun(&sim->oracle, &one->taken.entry, one->event, group);
    oracle_flushed(&sim->oracle);
}

void sim_settle_taken(struct bus_sim *sim)
{
    static const enum pawl_settle_op ops[] = {PAWL_SETTLE_OP_ACK, PAWL_SETTLE_OP_NACK, PAWL_SETTLE_OP_REJECT,
                                              PAWL_SETTLE_OP_EXTEND, PAWL_SETTLE_OP_RELEASE};
    if (sim->taken_count == 0)
        return;
    uint32_t i = sim_below(sim, sim->taken_count);
    struct taken *one = &sim->taken[i];
    const struct oracle_queue *queue = &sim->oracle.queues[one->queue];
    enum pawl_settle_op op = ops[sim_below(sim, 5)];
    int error = memory_settle_taken(&sim->memory, queue->name, sim_group_name(queue, one->group), &one->taken,
                                    op, op == PAWL_SETTLE_OP_NACK ? PAWL_SETTLE_POLICY : 0);
    sim_say(sim, "taken from %s: op %d of seq %" PRIu64 " attempt %u: %s", queue->name, (int)op,
            one->taken.entry.seq, one->taken.entry.attempt, pawl_error_text(error));
    if (!error && op == PAWL_SETTLE_OP_ACK)
        oracle_settled(&sim->oracle, &one->taken.entry, one->event, one->group);
    if (op != PAWL_SETTLE_OP_EXTEND && sim_below(sim, 4)) /* sometimes it is tried again: too late */
        sim_forget_taken(sim, i);
}
