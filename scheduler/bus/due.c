/*
 * due.c - what is due: timers set, kept few, and what happens when their time has come.
 *
 * Runs in: scheduler, tests. Reads no clock.
 */
#include "scheduler/bus/state.h"

enum { TIMERS_SWEPT_MIN = 8192 };

void bus_timer(struct pawl_bus *bus, uint64_t due_boottime_ns, enum bus_timer_kind kind, uint64_t a,
               uint32_t b)
{
    if (bus->replaying)
        return; /* start() sets them all */
    struct pawl_bus_timer timer = {.due_ns = due_boottime_ns, .a = a, .b = b, .kind = kind};
    if (pawl_bus_timers_add(&bus->timers, &timer) < 0)
        bus->failed = true;
}

static struct bus_sub *sub_of_timer(struct pawl_bus *bus, const struct pawl_bus_timer *timer)
{
    return bus_sub_at(bus, bus_timer_queue(timer->b), bus_timer_group(timer->b));
}

static void on_due(struct pawl_bus *bus, struct bus_sub *sub, const struct pawl_bus_timer *timer)
{
    struct exception *exception = sub ? exception_find(&sub->exceptions, timer->a) : NULL;
    if (!exception || exception->due_at_ns > bus->now.boottime_ns)
        return;
    if (timer->kind == BUS_TIMER_DUE && exception->state == EXCEPTION_DELAYED) {
        exception_become(&sub->exceptions, exception, EXCEPTION_READY);
        if (exception_push(&sub->exceptions, exception) < 0)
            bus->failed = true;
        bus_dirty(bus, sub);
        bus->backend.changed(bus->ctx);
    } else if (timer->kind == BUS_TIMER_DEADLINE && exception->state == EXCEPTION_DETACHED) {
        sub->in_flight--;
        bus->in_flight--;
        exception_become(&sub->exceptions, exception, EXCEPTION_HELD); /* in flight no more */
        pawl_breaker_on_failure(&sub->breaker, exception->breaker_round, bus->now.boottime_ns);
        bus_delivery_failed(bus, sub, exception->seq, exception->attempt, PAWL_CAUSE_DEADLINE,
                            PAWL_SETTLE_POLICY, "the ack deadline passed", 23);
        bus_dirty(bus, sub);
        bus->backend.changed(bus->ctx);
    }
}

/* What was settled, extended or acked before its time leaves its timer behind. */
static bool is_wanted(void *ctx, const struct pawl_bus_timer *timer)
{
    struct bus_sub *sub;
    const struct exception *exception;
    switch ((enum bus_timer_kind)timer->kind) {
    case BUS_TIMER_DUE:
    case BUS_TIMER_DEADLINE:
        sub = sub_of_timer(ctx, timer);
        exception = sub ? exception_find(&sub->exceptions, timer->a) : NULL;
        return exception && exception->due_at_ns == timer->due_ns &&
               exception->state == (timer->kind == BUS_TIMER_DUE ? EXCEPTION_DELAYED : EXCEPTION_DETACHED);
    case BUS_TIMER_EXPIRY:
        sub = sub_of_timer(ctx, timer);
        return sub && !pawl_seqset_has(&sub->settled, timer->a);
    case BUS_TIMER_QUEUE: {
        const struct bus_queue *queue = bus_queue_at(ctx, timer->b);
        return queue && queue->trim_at_ns == timer->due_ns;
    }
    case BUS_TIMER_SUB:
    case BUS_TIMER_CLIENT:
    case BUS_TIMER_PARKED:
        break;
    }
    return true;
}

bool bus_expiry_wanted(struct pawl_bus *bus, const struct pawl_bus_timer *timer)
{
    return timer->kind == BUS_TIMER_EXPIRY && is_wanted(bus, timer);
}

/* So that they are a fixed multiple of what waits: a sweep is paid for by those that were added since. */
static void sweep_timers(struct pawl_bus *bus)
{
    if (pawl_bus_timers_count(&bus->timers) < TIMERS_SWEPT_MIN ||
        pawl_bus_timers_count(&bus->timers) < bus->timers_sweep_at)
        return;
    pawl_bus_timers_sweep(&bus->timers, is_wanted, bus);
    bus->timers_sweep_at = 2 * pawl_bus_timers_count(&bus->timers);
}

/* While records are read back the boot clock says nothing of when they were written: they wait by the wall
 * clock, and start() turns that. */
void bus_expiry(struct pawl_bus *bus, uint32_t queue, uint64_t seq, uint64_t due_realtime_ns)
{
    struct pawl_bus_timer timer = {
        .due_ns = due_realtime_ns, .a = seq, .b = bus_timer_of(queue, 0), .kind = BUS_TIMER_EXPIRY};
    struct bus_queue *its = bus_queue_at(bus, queue);
    if (its)
        its->expiring = true;
    if (bus->replaying)
        sweep_timers(bus);
    else
        timer.due_ns = pawl_now_due_later(bus->now, due_realtime_ns, UINT64_MAX);
    if (pawl_bus_timers_add(&bus->timers, &timer) < 0)
        bus->failed = true;
}

void bus_expiries_start(struct pawl_bus *bus)
{
    struct pawl_bus_timers read_back = bus->timers;
    bus->timers = (struct pawl_bus_timers){0};
    for (size_t i = 0; i < read_back.count; i++)
        if (is_wanted(bus, &read_back.heap[i]))
            bus_expiry(bus, bus_timer_queue(read_back.heap[i].b), read_back.heap[i].a,
                       read_back.heap[i].due_ns);
    pawl_bus_timers_fini(&read_back);
}

uint64_t pawl_bus_tick(struct pawl_bus *bus, struct pawl_now now)
{
    struct pawl_bus_timer timer;
    bus->now = now;
    sweep_timers(bus);
    while (!bus->failed && pawl_bus_timers_take(&bus->timers, now.boottime_ns, &timer)) {
        switch ((enum bus_timer_kind)timer.kind) {
        case BUS_TIMER_DUE:
        case BUS_TIMER_DEADLINE:
            on_due(bus, sub_of_timer(bus, &timer), &timer);
            break;
        case BUS_TIMER_EXPIRY: {
            struct bus_sub *sub = sub_of_timer(bus, &timer);
            if (sub)
                bus_expire(bus, sub, timer.a);
            break;
        }
        case BUS_TIMER_SUB: {
            struct bus_sub *sub = sub_of_timer(bus, &timer);
            if (sub) {
                sub->wake_at_ns = sub->watched = 0;
                bus_dirty(bus, sub);
            }
            break;
        }
        case BUS_TIMER_CLIENT: {
            struct pawl_bus_client *client = pawl_bus_client(bus, timer.b);
            if (client && client->deadline_check_ns <= now.boottime_ns)
                bus_client_tick(bus, client);
            break;
        }
        case BUS_TIMER_PARKED: {
            struct bus_queue *queue = bus_queue_at(bus, timer.b);
            if (queue && queue->unpark_at_ns == timer.due_ns) {
                queue->unpark_at_ns = 0;
                bus_unpark(bus, queue);
            }
            break;
        }
        case BUS_TIMER_QUEUE: {
            struct bus_queue *queue = bus_queue_at(bus, timer.b);
            if (queue && queue->trim_at_ns == timer.due_ns) { /* not of a declaration before */
                queue->trim_at_ns = 0;
                bus_stream_trim(bus, queue);
            }
            break;
        }
        }
    }
    return pawl_bus_timers_next(&bus->timers);
}
