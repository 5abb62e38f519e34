/*
 * bus_sim_queue.c - a round's queues, and its chance.
 */
#include "tests/sim/bus_sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

const char *const sim_topics[ORACLE_TOPICS] = {"a", "a.b", "c", "a.b.c"};

uint64_t sim_chance(struct bus_sim *sim)
{
    uint64_t z = sim->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint32_t sim_below(struct bus_sim *sim, uint32_t bound)
{
    return (uint32_t)(sim_chance(sim) % bound);
}

void sim_say(const struct bus_sim *sim, const char *format, ...)
{
    va_list arguments;
    if (!sim->verbose)
        return;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "  (lsn %zu, durable %" PRIu64 ", epoch %" PRIu64 ")\n", sim->memory.record_count,
            sim->memory.durable, sim->memory.epoch);
}

void sim_declare(struct bus_sim *sim, uint32_t index)
{
    static const char *const durabilities[] = {"fsync", "fsync", "async", "memory"};
    static const char *const policies[] = {"block", "drop_newest", "drop_oldest", "reject", "dead_letter"};
    struct oracle_queue *queue = &sim->oracle.queues[index];
    char config[1024];
    size_t used = 0;
#define PUT(...) used += (size_t)snprintf(config + used, sizeof config - used, __VA_ARGS__)
    uint32_t durability = sim_below(sim, 4);
    snprintf(queue->name, sizeof queue->name, "q%u", index);
    queue->fsync = durability < 2;
    queue->in_memory = durability == 3;
    queue->topics = 1 + sim_below(sim, (1u << ORACLE_TOPICS) - 1);
    PUT("'durability': '%s', 'topics': [", durabilities[durability]);
    for (uint32_t t = 0, first = 1; t < ORACLE_TOPICS; t++)
        if (queue->topics & 1u << t) {
            PUT("%s'%s'", first ? "" : ", ", sim_topics[t]);
            first = 0;
        }
    PUT("], 'ack_wait_ns': %u000000000, 'retry': {'limit': %u, 'backoff': {'kind': 'fixed', 'initial_ns': "
        "%u}}",
        1 + sim_below(sim, 20), sim_below(sim, 5), sim_below(sim, 3) * 700000000u);
    if (sim_below(sim, 6) == 0) {
        queue->stream = true;
        queue->groups = 1 + sim_below(sim, ORACLE_GROUPS_MAX);
        PUT(", 'stream': true");
    } else if (sim_below(sim, 4) == 0) {
        queue->keyed = true;
        PUT(", 'ordering_key': 'k'");
    }
    if (sim_below(sim, 5) == 0)
        PUT(", 'strict_attempts': true");
    if (sim_below(sim, 4) == 0)
        PUT(", 'max_in_flight': %u", 1 + sim_below(sim, 5));
    if (sim_below(sim, 6) == 0)
        PUT(", 'rate': {'count': %u, 'per_ns': 1000000000}", 1 + sim_below(sim, 20));
    if (sim_below(sim, 5) == 0)
        PUT(", 'breaker': {'failures': %u, 'cooldown_ns': 2000000000, 'probes': 2}", 1 + sim_below(sim, 3));
    if (sim_below(sim, 3) == 0 && !queue->stream) {
        uint32_t policy = sim_below(sim, 5);
        queue->lossy = policy != 0;
        queue->blocking = policy == 0;
        PUT(", 'max_depth': %u, 'overflow': '%s'", 1 + sim_below(sim, 12), policies[policy]);
    }
    if (sim_below(sim, 8) == 0) {
        queue->lossy = true;
        PUT(", 'ttl_ns': %u000000000", 1 + sim_below(sim, 30));
    }
#undef PUT
    memory_declare(&sim->memory, queue->name, config);
    queue->number = (uint32_t)memory_number(&sim->memory, queue->name, "number");
    for (uint32_t g = 1; g <= queue->groups; g++)
        json_decref(memory_request(
            &sim->memory, 0, "{'op': 'group.create', 'queue': '%s', 'group': 'g%u', 'from': 'earliest'}",
            queue->name, g));
    sim_say(sim, "%s: %s", queue->name, config);
}

const char *sim_group_name(const struct oracle_queue *queue, uint32_t group)
{
    static char name[8];
    snprintf(name, sizeof name, "g%u", group);
    return queue->stream ? name : "";
}
