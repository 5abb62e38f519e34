/*
 * timer.h - retries that are due later: a binary heap by deadline.
 *
 * Entries name things by number, so an entry may outlive what it names; the one who takes it looks again.
 */
#ifndef PAWL_SCHEDULER_TIMER_H
#define PAWL_SCHEDULER_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pawl_timer {
    uint64_t due_ns;   /* boottime; in records and images realtime */
    uint64_t delay_ns; /* the whole wait, as it was decided */
    uint64_t run;
    uint64_t instance;
    uint32_t step;
    uint32_t attempt;
};

struct pawl_timers {
    struct pawl_timer *heap;
    size_t count, capacity;
};

int pawl_timers_add(struct pawl_timers *timers, const struct pawl_timer *timer); /* 0 or -ENOMEM */
/* The earliest, if it is due at @now_ns. */
bool pawl_timers_take(struct pawl_timers *timers, uint64_t now_ns, struct pawl_timer *timer_out);
uint64_t pawl_timers_next(const struct pawl_timers *timers); /* UINT64_MAX: none */
void pawl_timers_free(struct pawl_timers *timers);

#endif
