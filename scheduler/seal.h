/*
 * seal.h - a run that is over becomes runs/ID/image.
 *
 * Runs in: scheduler. Order: image.tmp written in pieces, synced, renamed over image, both directories
 * synced, then the core is told. A death before that leaves the run in the journal, where it is whole. What a
 * kill of everything left in runs/ID/work of a run that then succeeded is swept in between.
 */
#ifndef PAWL_SCHEDULER_SEAL_H
#define PAWL_SCHEDULER_SEAL_H

#include "scheduler/loop.h"

/* Effect of the core: begin soon. The run stays as it is until pawl_core_sealed(). */
void pawl_seal_begin(struct pawl_loop *loop, struct pawl_run *run);

/* One turn: goes on with each. True when there is more to write at once. */
bool pawl_seal_turn(struct pawl_loop *loop);

/* When a seal that failed is tried again (boottime), UINT64_MAX: none. */
uint64_t pawl_seal_due(const struct pawl_loop *loop);

/* Is any under way (not failed, not waiting for a client to hear the end)? */
bool pawl_seal_busy(const struct pawl_loop *loop);

void pawl_seal_drop_all(struct pawl_loop *loop);

#endif
