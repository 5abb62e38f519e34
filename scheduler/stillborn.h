/*
 * stillborn.h - workers that end before they have done anything.
 *
 * Runs in: scheduler.
 */
#ifndef PAWL_SCHEDULER_STILLBORN_H
#define PAWL_SCHEDULER_STILLBORN_H

#include <stdint.h>

#include "scheduler/lanes.h"

/** pawl_stillborn_count - one more. @status: its wait status, or negative: -errno of its fork. After ten in a
 * row, while nobody else works, all runs are interrupted, and whoever waits for one is told why. */
void pawl_stillborn_count(struct pawl_loop *loop, int32_t status);

/** pawl_stillborn_none - @worker has something in hand or has settled: workers can be started. */
void pawl_stillborn_none(struct pawl_loop *loop, struct pawl_worker *worker);

#endif
