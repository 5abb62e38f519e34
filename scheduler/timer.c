/*
 * timer.c - a binary heap of deadlines. Runs in: scheduler. Reads no clock.
 */
#include "scheduler/timer.h"

#include <errno.h>
#include <stdlib.h>

int pawl_timers_add(struct pawl_timers *timers, const struct pawl_timer *timer)
{
    if (timers->count == timers->capacity) {
        size_t capacity = timers->capacity ? timers->capacity * 2 : 64;
        struct pawl_timer *heap = realloc(timers->heap, capacity * sizeof *heap);
        if (!heap)
            return -ENOMEM;
        timers->heap = heap;
        timers->capacity = capacity;
    }
    size_t at = timers->count++;
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (timers->heap[parent].due_ns <= timer->due_ns)
            break;
        timers->heap[at] = timers->heap[parent];
        at = parent;
    }
    timers->heap[at] = *timer;
    return 0;
}

bool pawl_timers_take(struct pawl_timers *timers, uint64_t now_ns, struct pawl_timer *timer_out)
{
    if (timers->count == 0 || timers->heap[0].due_ns > now_ns)
        return false;
    *timer_out = timers->heap[0];
    struct pawl_timer last = timers->heap[--timers->count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= timers->count)
            break;
        if (child + 1 < timers->count && timers->heap[child + 1].due_ns < timers->heap[child].due_ns)
            child++;
        if (last.due_ns <= timers->heap[child].due_ns)
            break;
        timers->heap[at] = timers->heap[child];
        at = child;
    }
    if (timers->count > 0)
        timers->heap[at] = last;
    return true;
}

uint64_t pawl_timers_next(const struct pawl_timers *timers)
{
    return timers->count ? timers->heap[0].due_ns : UINT64_MAX;
}

void pawl_timers_free(struct pawl_timers *timers)
{
    free(timers->heap);
    *timers = (struct pawl_timers){0};
}
