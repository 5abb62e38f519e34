/*
 * bus_sim_end.c - the end of a round: all is drained, and what was confirmed has come.
 */
#include "tests/sim/bus_sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

static void drain(struct bus_sim *sim, uint32_t q, uint32_t group)
{
    const struct oracle_queue *queue = &sim->oracle.queues[q];
    struct memory_client *client = memory_open(&sim->memory, 0);
    if (memory_consume(&sim->memory, client, q << 3 | group, queue->name, sim_group_name(queue, group), 50,
                       0) != 0) {
        oracle_fail(&sim->oracle, "%s cannot be consumed: %s", queue->name, sim->memory.why);
        return;
    }
    uint64_t settled = 0;
    for (int idle = 0; idle < 40 && !sim->oracle.wrong[0];) {
        memory_turn(&sim->memory);
        oracle_flushed(&sim->oracle);
        sim_check(sim);
        if (settled == client->delivery_count) {
            memory_pass(&sim->memory, 10 * MEMORY_SECOND_NS);
            idle++;
            continue;
        }
        idle = 0;
        sim_begin_all(sim, client);
        while (settled < client->delivery_count)
            sim_settle_one(sim, client, settled++, PAWL_SETTLE_OP_ACK);
    }
    memory_close(&sim->memory, client);
}

/* Dead letters are looked at where they lie. */
static void look_at_the_dead(struct bus_sim *sim)
{
    json_t *list = memory_request(&sim->memory, 0, "{'op': 'queue.list'}"), *queue;
    size_t index;
    json_array_foreach(json_object_get(list, "queues"), index, queue)
    {
        const char *name = json_string_value(json_object_get(queue, "name"));
        struct pawl_wire_take request = {.count = 256};
        struct pawl_bus_taken taken[256];
        bool end = false;
        if (!strstr(name, ".dlq"))
            continue;
        snprintf(request.queue, sizeof request.queue, "%s", name);
        while (!end) {
            int count =
                pawl_bus_peek(sim->memory.bus, &request, taken, 256, &request.from, &end, sim->memory.why);
            for (int i = 0; i < count; i++) {
                const struct pawl_event *event =
                    pawl_bus_event(sim->memory.bus, taken[i].entry.queue, taken[i].entry.seq);
                if (!event)
                    oracle_fail(&sim->oracle, "a dead letter of %s cannot be read", name);
                else
                    (void)oracle_delivery(&sim->oracle, &taken[i].entry, event, 0);
            }
        }
    }
    json_decref(list);
}

void sim_end(struct bus_sim *sim)
{
    sim->memory.has_room = 0;
    sim_say(sim, "the end: all is drained");
    if (!sim->publisher.client)
        sim_connect(sim);
    for (uint32_t i = 1; i < MEMORY_CLIENTS_MAX; i++)
        if (sim->memory.clients[i].open && &sim->memory.clients[i] != sim->publisher.client)
            memory_close(&sim->memory, &sim->memory.clients[i]);
    for (uint32_t q = 0; q < sim->oracle.queue_count; q++)
        json_decref(memory_request(&sim->memory, 0, "{'op': 'queue.resume', 'name': '%s'}",
                                   sim->oracle.queues[q].name));
    for (uint32_t q = 0; q < sim->oracle.queue_count && !sim->oracle.wrong[0]; q++) {
        const struct oracle_queue *queue = &sim->oracle.queues[q];
        for (uint32_t g = queue->stream ? 1 : 0; g <= queue->groups; g++)
            drain(sim, q, g);
    }
    sim_flush(sim);
    look_at_the_dead(sim);
    for (uint32_t q = 0; q < sim->oracle.queue_count; q++)
        if (!sim->oracle.queues[q].stream &&
            memory_number(&sim->memory, sim->oracle.queues[q].name, "depth") != 0)
            oracle_fail(&sim->oracle, "queue %s is not empty after all was drained",
                        sim->oracle.queues[q].name);
    if (sim->publisher.pending_count > 0)
        oracle_fail(&sim->oracle, "%zu publishes were never answered", sim->publisher.pending_count);
    oracle_end(&sim->oracle);
}
