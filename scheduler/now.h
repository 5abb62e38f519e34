/*
 * now.h - both clocks, sampled once a turn by the caller: the cores read none.
 */
#ifndef PAWL_SCHEDULER_NOW_H
#define PAWL_SCHEDULER_NOW_H

#include <stdint.h>

struct pawl_now {
    uint64_t boottime_ns; /* CLOCK_BOOTTIME: deadlines */
    uint64_t realtime_ns; /* CLOCK_REALTIME: records and people */
};

#endif
