/*
 * bus_sim_publisher.c - a publisher that comes and goes, and what it is answered.
 */
#include "tests/sim/bus_sim.h"

#include <inttypes.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

void sim_connect(struct bus_sim *sim)
{
    struct publisher *publisher = &sim->publisher;
    publisher->client = memory_open(&sim->memory, publisher->id);
    publisher->replies_read = 0;
    sim_say(sim, "the publisher connects: the bus knows up to %" PRIu64 ", %zu are not answered",
            publisher->client->sequence, publisher->pending_count);
    for (size_t i = 0; i < publisher->pending_count; i++) {
        struct pending *pending = &publisher->pending[i];
        struct oracle_event *event = &sim->oracle.events[pending->event];
        char data[ORACLE_DATA_MAX + 32];
        for (uint32_t q = 0; q < sim->oracle.queue_count; q++)
            if (event->queues & 1u << q)
                event->again = event->again || sim->oracle.queues[q].lossy;
        event->again = event->again || event->durability != PAWL_DURABILITY_DEFAULT;
        oracle_data(&sim->oracle, pending->event, data);
        struct memory_publish publish = pending->publish;
        publish.data = data;
        publish.sequence = pending->sequence;
        (void)memory_publish(&sim->memory, publisher->client, &publish);
    }
}

static void answered(struct bus_sim *sim, const struct pawl_reply *reply)
{
    struct publisher *publisher = &sim->publisher;
    size_t kept = 0;
    for (size_t i = 0; i < publisher->pending_count; i++) {
        const struct pending *pending = &publisher->pending[i];
        if (pending->sequence < reply->first || pending->sequence > reply->last) {
            publisher->pending[kept++] = *pending;
            continue;
        }
        struct oracle_event *event = &sim->oracle.events[pending->event];
        if (reply->type == PAWL_REPLY_CONFIRM && reply->durability == PAWL_DURABILITY_FSYNC &&
            event->durability == PAWL_DURABILITY_DEFAULT) {
            event->confirmed = true;
            if (event->after_lsn >= sim->memory.durable && !event->again)
                for (uint32_t q = 0; q < sim->oracle.queue_count; q++)
                    if ((event->queues & 1u << q) && sim->oracle.queues[q].fsync &&
                        !sim->oracle.queues[q].lossy)
                        oracle_fail(&sim->oracle, "event %zu was confirmed before it was durable",
                                    pending->event);
        }
    }
    publisher->pending_count = kept;
}

void sim_read_replies(struct bus_sim *sim)
{
    struct publisher *publisher = &sim->publisher;
    for (; publisher->client && publisher->replies_read < publisher->client->reply_count;
         publisher->replies_read++) {
        struct pawl_reply reply = publisher->client->replies[publisher->replies_read];
        if (reply.type == PAWL_REPLY_CONFIRM || reply.type == PAWL_REPLY_REFUSE)
            answered(sim, &reply);
    }
}

void sim_publish(struct bus_sim *sim)
{
    static const char *const keys[] = {"", "x", "y", "z"};
    struct publisher *publisher = &sim->publisher;
    char data[ORACLE_DATA_MAX + 32];
    if (!publisher->client || publisher->pending_count == SIM_PENDING_MAX ||
        !pawl_bus_may_submit(pawl_bus_client(sim->memory.bus, publisher->client->number)))
        return;
    uint32_t topic = sim_below(sim, ORACLE_TOPICS), key = sim_below(sim, 4);
    uint8_t durability = sim_below(sim, 8) == 0 ? (uint8_t)(1 + sim_below(sim, 2)) : PAWL_DURABILITY_DEFAULT;
    uint32_t bytes = sim_below(sim, 10) == 0 ? 1000 + sim_below(sim, 2000) : 12 + sim_below(sim, 100);
    size_t event = oracle_event(&sim->oracle, topic, bytes, durability, key);
    struct memory_publish publish = {
        .topic = sim_topics[topic], .data_bytes = bytes, .durability = durability};
    if (key) {
        publish.headers[0][0] = "k";
        publish.headers[0][1] = keys[key];
    }
    if (sim_below(sim, 8) == 0)
        publish.delay_ns = sim_below(sim, sim_below(sim, 2) ? 5 : 60) * MEMORY_SECOND_NS;
    sim->oracle.events[event].delay_ns = publish.delay_ns;
    if (sim_below(sim, 8) == 0)
        publish.priority = (uint8_t)sim_below(sim, 10);
    if (sim_below(sim, 8) == 0)
        publish.ttl_ns = (1 + sim_below(sim, 30)) * MEMORY_SECOND_NS;
    publisher->pending[publisher->pending_count++] =
        (struct pending){.event = event, .sequence = ++publisher->sequence, .publish = publish};
    oracle_data(&sim->oracle, event, data);
    publish.data = data;
    publish.sequence = publisher->sequence;
    sim_say(sim,
            "publish %zu to %s, sequence %" PRIu64 ", key %u, durability %u, delay %" PRIu64
            ", priority %u, ttl %" PRIu64,
            event, sim_topics[topic], publish.sequence, key, durability, publish.delay_ns, publish.priority,
            publish.ttl_ns);
    (void)memory_publish(&sim->memory, publisher->client, &publish);
}
