/*
 * expiry.c - events whose time to live is over: those that wait die when it is, those that are in somebody's
 * hands when they come back.
 *
 * Runs in: scheduler. The time to live goes by the wall clock, always.
 */
#include "scheduler/bus/state.h"

/* What is in somebody's hands is looked at again after this long. It is looked at when it comes back as well;
 * this is for those that came back by a restart, whose snapshot knows them by this timer only. */
#define HELD_AGAIN_NS UINT64_C(60000000000)

/* The shorter one of its own and the queue's; 0: none. */
static uint64_t ttl_of(const struct bus_queue *queue, const struct pawl_event *event)
{
    return event->ttl_ns && (!queue->config.ttl_ns || event->ttl_ns < queue->config.ttl_ns)
               ? event->ttl_ns
               : queue->config.ttl_ns;
}

bool bus_has_expired(const struct pawl_bus *bus, const struct bus_queue *queue,
                     const struct pawl_event *event)
{
    uint64_t ttl_ns = ttl_of(queue, event);
    return ttl_ns && bus->now.realtime_ns >= event->published_at_ns &&
           bus->now.realtime_ns - event->published_at_ns >= ttl_ns;
}

/* Nobody has begun it, and nobody is about to. */
static bool waits(const struct bus_sub *sub, const struct exception *exception, uint64_t seq)
{
    if (!exception)
        return seq >= sub->next;
    return exception->state == EXCEPTION_READY || exception->state == EXCEPTION_DELAYED ||
           exception->state == EXCEPTION_KEYED ||
           (exception->state == EXCEPTION_GRANTED && sub->consumer_count == 0);
}

static void die(struct pawl_bus *bus, struct bus_sub *sub, const struct exception *exception, uint64_t seq)
{
    bus_dead(bus, sub, seq, exception ? exception->attempt : 0, exception ? exception->failures : 0,
             PAWL_DEAD_EXPIRED, "its time to live was over", 25);
}

void bus_expire(struct pawl_bus *bus, struct bus_sub *sub, uint64_t seq)
{
    struct backlog_cursor aside = {0};
    struct bus_queue *queue = sub->queue;
    int error;
    const struct exception *exception = exception_find(&sub->exceptions, seq);
    if (pawl_seqset_has(&sub->settled, seq))
        return;
    if (!waits(sub, exception, seq)) {
        bus_expiry(bus, queue->number, seq, bus->now.realtime_ns + HELD_AGAIN_NS);
        return;
    }
    bus->stamp++;
    const struct pawl_event *event = backlog_read(bus, queue, &aside, seq, &error);
    if (event && bus_has_expired(bus, queue, event))
        die(bus, sub, exception, seq);
    else if (event && event->ttl_ns) /* the wall clock went slower, or back */
        bus_expiry(bus, queue->number, seq,
                   event->ttl_ns > UINT64_MAX - event->published_at_ns
                       ? UINT64_MAX
                       : event->published_at_ns + event->ttl_ns);
}

void bus_returned(struct pawl_bus *bus, struct bus_sub *sub, uint64_t seq)
{
    struct backlog_cursor aside = {0};
    int error;
    const struct exception *exception = exception_find(&sub->exceptions, seq);
    if (!sub->queue->expiring || pawl_seqset_has(&sub->settled, seq) || !waits(sub, exception, seq))
        return;
    bus->stamp++;
    const struct pawl_event *event = backlog_read(bus, sub->queue, &aside, seq, &error);
    if (!event || !bus_has_expired(bus, sub->queue, event))
        return;
    if (bus->acting) /* a burial is no part of an act */
        bus_timer(bus, bus->now.boottime_ns, BUS_TIMER_EXPIRY, seq, bus_timer_of(sub->queue->number, 0));
    else
        die(bus, sub, exception, seq);
}
