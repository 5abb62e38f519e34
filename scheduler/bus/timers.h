/*
 * timers.h - what the bus has to look at later: a heap by deadline, four children a node.
 *
 * An entry names things by number and may outlive what it names: the one who takes it looks again. Nothing is
 * removed early. Adding and taking cost O(log n), looking costs O(1) however many wait.
 */
#ifndef PAWL_SCHEDULER_BUS_TIMERS_H
#define PAWL_SCHEDULER_BUS_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pawl_bus_timer {
    uint64_t due_ns;
    uint64_t a;
    uint32_t b;
    uint32_t kind;
};

struct pawl_bus_timers { /* all zeroes: empty */
    struct pawl_bus_timer *heap;
    size_t count, room;
};

/** pawl_bus_timers_add - 0 or -ENOMEM. */
int pawl_bus_timers_add(struct pawl_bus_timers *timers, const struct pawl_bus_timer *timer);

/** pawl_bus_timers_take - the earliest, if it is due at @now_ns; of equals the one with the least a, then b.
 */
bool pawl_bus_timers_take(struct pawl_bus_timers *timers, uint64_t now_ns, struct pawl_bus_timer *timer_out);

/** pawl_bus_timers_sweep - those that are not wanted go. Looks at each once. */
void pawl_bus_timers_sweep(struct pawl_bus_timers *timers,
                           bool (*is_wanted)(void *ctx, const struct pawl_bus_timer *timer), void *ctx);

static inline uint64_t pawl_bus_timers_next(const struct pawl_bus_timers *timers) /* UINT64_MAX: none */
{
    return timers->count > 0 ? timers->heap[0].due_ns : UINT64_MAX;
}

static inline size_t pawl_bus_timers_count(const struct pawl_bus_timers *timers)
{
    return timers->count;
}

void pawl_bus_timers_fini(struct pawl_bus_timers *timers);

#endif
