/*
 * snapshot.h - when the core's state is written down, so that recovery does not read everything again.
 *
 * Runs in: scheduler. The state must not change while it is written, so a snapshot is one turn of the loop,
 * however long it takes: the I/O goes on, decisions wait.
 */
#ifndef PAWL_SCHEDULER_SNAPSHOT_H
#define PAWL_SCHEDULER_SNAPSHOT_H

#include "scheduler/loop.h"

/**
 * pawl_snapshot_clocks - is this chunk the one that says when the snapshot was written?
 * @when_out: both clocks then, for pawl_bus_written() and pawl_core_written(); boottime_ns 0: another boot
 */
bool pawl_snapshot_clocks(const void *chunk, size_t bytes, struct pawl_now *when_out);

/* Begins one when the journal has grown enough since the last. Call when the batch is cut. */
void pawl_snapshot_turn(struct pawl_loop *loop);

/* When pawl_snapshot_turn() has something to look at (boottime); UINT64_MAX: never. */
uint64_t pawl_snapshot_due(const struct pawl_loop *loop);

/* Before a clean close: one, if the next start would have much to read, and another if the log that the older
 * one holds on to is much larger than they are. Waits for both. */
void pawl_snapshot_before_close(struct pawl_loop *loop);

/* Give back what no snapshot and no run needs. */
void pawl_snapshot_release(struct pawl_loop *loop);

/* The journal's word that it is good (or not): then release_due is set. Runs inside pawl_io_wait(). */
void pawl_snapshot_done(struct pawl_loop *loop, uint64_t lsn, int error);

#endif
