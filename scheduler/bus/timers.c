/*
 * timers.c - a heap of deadlines. Runs in: scheduler. Reads no clock.
 */
#include "scheduler/bus/timers.h"

#include <errno.h>
#include <stdlib.h>

enum { CHILDREN = 4, ROOM_MIN = 64 };

static bool comes_before(const struct pawl_bus_timer *x, const struct pawl_bus_timer *y)
{
    if (x->due_ns != y->due_ns)
        return x->due_ns < y->due_ns;
    return x->a != y->a ? x->a < y->a : x->b < y->b;
}

static int resize(struct pawl_bus_timers *timers, size_t room)
{
    struct pawl_bus_timer *heap = realloc(timers->heap, room * sizeof *heap);
    if (!heap)
        return -ENOMEM;
    timers->heap = heap;
    timers->room = room;
    return 0;
}

int pawl_bus_timers_add(struct pawl_bus_timers *timers, const struct pawl_bus_timer *timer)
{
    struct pawl_bus_timer added = *timer;
    if (timers->count == timers->room && resize(timers, timers->room ? timers->room * 2 : ROOM_MIN) != 0)
        return -ENOMEM;
    size_t at = timers->count++;
    while (at > 0) {
        size_t parent = (at - 1) / CHILDREN;
        if (!comes_before(&added, &timers->heap[parent]))
            break;
        timers->heap[at] = timers->heap[parent];
        at = parent;
    }
    timers->heap[at] = added;
    return 0;
}

/* @timer takes the place @at and sinks to where it belongs. */
static void sink(struct pawl_bus_timers *timers, size_t at, const struct pawl_bus_timer *timer)
{
    for (;;) {
        size_t first = at * CHILDREN + 1, end = first + CHILDREN;
        if (first >= timers->count)
            break;
        if (end > timers->count)
            end = timers->count;
        size_t least = first;
        for (size_t child = first + 1; child < end; child++)
            if (comes_before(&timers->heap[child], &timers->heap[least]))
                least = child;
        if (!comes_before(&timers->heap[least], timer))
            break;
        timers->heap[at] = timers->heap[least];
        at = least;
    }
    timers->heap[at] = *timer;
}

bool pawl_bus_timers_take(struct pawl_bus_timers *timers, uint64_t now_ns, struct pawl_bus_timer *timer_out)
{
    if (timers->count == 0 || timers->heap[0].due_ns > now_ns)
        return false;
    *timer_out = timers->heap[0];
    struct pawl_bus_timer last = timers->heap[--timers->count];
    if (timers->count > 0)
        sink(timers, 0, &last);
    /* A quarter is used: half is given back. Failing to is no harm. */
    if (timers->room > ROOM_MIN && timers->count < timers->room / 4)
        (void)resize(timers, timers->room / 2);
    return true;
}

void pawl_bus_timers_sweep(struct pawl_bus_timers *timers,
                           bool (*is_wanted)(void *ctx, const struct pawl_bus_timer *timer), void *ctx)
{
    size_t kept = 0;
    for (size_t i = 0; i < timers->count; i++)
        if (is_wanted(ctx, &timers->heap[i]))
            timers->heap[kept++] = timers->heap[i];
    timers->count = kept;
    for (size_t at = kept / CHILDREN + 1; kept > 1 && at-- > 0;) {
        if (at >= kept)
            continue;
        struct pawl_bus_timer timer = timers->heap[at];
        sink(timers, at, &timer);
    }
    size_t room = timers->room;
    while (room > ROOM_MIN && kept < room / 4)
        room /= 2;
    if (room < timers->room)
        (void)resize(timers, room);
}

void pawl_bus_timers_fini(struct pawl_bus_timers *timers)
{
    free(timers->heap);
    *timers = (struct pawl_bus_timers){0};
}
