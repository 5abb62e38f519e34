/*
 * moment.h - when a simulated disk was written to: what a journal's frames and snapshots say of themselves.
 */
#ifndef PAWL_TESTS_SIM_MOMENT_H
#define PAWL_TESTS_SIM_MOMENT_H

#include "scheduler/now.h"

struct moment {
    struct pawl_now now;
    uint32_t boot; /* the number of the boot that it was in */
};

/* As recovery hears of it in boot number @boot. */
static inline struct pawl_now moment_read_in(struct moment written, uint32_t boot)
{
    if (written.boot != boot)
        written.now.boottime_ns = 0;
    return written.now;
}

#endif
