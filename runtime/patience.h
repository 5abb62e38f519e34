/*
 * patience.h - how long a scheduler that says nothing is waited for.
 *
 * What counts is silence without work: one that recovers a large journal, or has no turn on a busy machine,
 * says nothing either, but uses the processor or waits for it. One that does neither for half a minute is
 * stopped or hangs.
 */
#ifndef PAWL_RUNTIME_PATIENCE_H
#define PAWL_RUNTIME_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PAWL_PATIENCE_SLICE_NS UINT64_C(1000000000)
enum { PAWL_PATIENCE_SLICES = 30 };

struct pawl_patience {
    pid_t pid;           /* the scheduler's; 0: not known */
    unsigned idle_count; /* slices in a row in which it did nothing */
    uint64_t ticks;      /* of the processor, used up to now */
};

/** pawl_patience_init - of the scheduler at the other end of socket @fd, which it listened on. */
void pawl_patience_init(struct pawl_patience *patience, int fd);

/** pawl_patience_of - of the scheduler with this pid. */
void pawl_patience_of(struct pawl_patience *patience, pid_t pid);

/**
 * pawl_patience_slice - one more slice of time has passed, and it has not answered
 *
 * The caller counts slices by waiting for each: time in which the caller itself was frozen is no silence.
 *
 * Return: true when that was the last of PAWL_PATIENCE_SLICES in which it did nothing.
 */
bool pawl_patience_slice(struct pawl_patience *patience);

#endif
