/*
 * bus_sim_people.c - what people ask of the bus.
 */
#include "tests/sim/bus_sim.h"

#include "scheduler/bus/state.h"
#include "shm/error.h"

static void excuse(struct bus_sim *sim, uint32_t q)
{
    for (uint32_t g = 0; g <= sim->oracle.queues[q].groups; g++)
        oracle_excuse(&sim->oracle, q, g);
}

void sim_administer(struct bus_sim *sim)
{
    struct memory *memory = &sim->memory;
    uint32_t q = sim_below(sim, sim->oracle.queue_count);
    const struct oracle_queue *queue = &sim->oracle.queues[q];
    uint32_t group = queue->stream ? 1 + sim_below(sim, queue->groups) : 0;
    json_t *reply = NULL;
    uint32_t what = sim_below(sim, 9);
    memory->error = 0;
    sim_say(sim, "administration %u of %s/%u", what, queue->name, group);
    switch (what) {
    case 0:
        reply = memory_request(memory, 0, "{'op': 'queue.pause', 'name': '%s'}", queue->name);
        break;
    case 1:
    case 2:
        reply = memory_request(memory, 0, "{'op': 'queue.resume', 'name': '%s'}", queue->name);
        break;
    case 3:
        if (sim_below(sim, 4))
            return;
        excuse(sim, q);
        reply = memory_request(memory, 0, "{'op': 'queue.purge', 'name': '%s'}", queue->name);
        break;
    case 4:
        for (size_t i = 0; i < sim->oracle.event_count; i++)
            sim->oracle.events[i].again = true;
        reply = memory_request(memory, 0, "{'op': 'dlq.redrive', 'queue': '%s'}", queue->name);
        break;
    case 5:
        reply = memory_request(memory, 0, "{'op': 'dlq.list', 'queue': '%s'}", queue->name);
        break;
    case 6:
        if (!queue->stream)
            return;
        oracle_excuse(&sim->oracle, q, group);
        if (sim_below(sim, 2)) {
            reply = memory_request(
                memory, 0, "{'op': 'group.commit', 'queue': '%s', 'group': 'g%u', 'offset': 'latest'}",
                queue->name, group);
        } else {
            oracle_sought(&sim->oracle, q, group);
            for (uint32_t i = 0; i < MEMORY_CLIENTS_MAX; i++)
                sim_hand_no_more(&memory->clients[i], q << 3 | group);
            reply =
                memory_request(memory, 0, "{'op': 'group.seek', 'queue': '%s', 'group': 'g%u', 'to': '%s'}",
                               queue->name, group, sim_below(sim, 2) ? "latest" : "earliest");
        }
        break;
    case 7:
        memory->has_room = sim_below(sim, 3) ? 0 : PAWL_E_NO_SPACE;
        return;
    default:
        if (queue->blocking)
            reply = memory_request(memory, 0,
                                   "{'op': 'queue.declare', 'name': '%s', 'config': {'max_depth': %u}}",
                                   queue->name, 1 + sim_below(sim, 20));
        break;
    }
    if (!reply && memory->error != 0 && memory->error != PAWL_E_NO_SPACE)
        oracle_fail(&sim->oracle, "a request was refused: %s", memory->why);
    json_decref(reply);
}
