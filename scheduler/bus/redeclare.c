/*
 * redeclare.c - a queue has other settings now: what waits by the old ones goes by the new ones, at once.
 *
 * Runs in: scheduler.
 */
#include "scheduler/bus/state.h"

/* As if the bucket had been used up by the new rate at most: it is not filled either. */
static void take_up_rate(const struct pawl_bus *bus, struct bus_sub *sub)
{
    uint64_t per_ns = sub->queue->config.rate_per_ns, now_ns = bus->now.boottime_ns;
    uint64_t empty_ns = now_ns > UINT64_MAX - per_ns ? UINT64_MAX : now_ns + per_ns;
    if (sub->rate_used_until_ns > empty_ns)
        sub->rate_used_until_ns = empty_ns;
}

static void take_up(struct pawl_bus *bus, struct bus_sub *sub)
{
    take_up_rate(bus, sub);
    pawl_breaker_hasten(&sub->breaker, bus->now.boottime_ns);
    sub->watched = 0; /* its queue's time to live may be shorter now */
    bus_dirty(bus, sub);
}

void bus_take_up(struct pawl_bus *bus, struct bus_queue *queue)
{
    if (queue->sub)
        take_up(bus, queue->sub);
    for (uint32_t i = 0; i < queue->group_count; i++)
        if (queue->groups[i])
            take_up(bus, queue->groups[i]);
    queue->trim_at_ns = 0; /* the timer that is set is nobody's now */
    bus_stream_trim(bus, queue);
    if (queue->parked)
        bus_parked_decide(bus, queue);
}
