/*
 * sweep.h - empty directories of attempts that a kill of everything left in runs/ID/work.
 *
 * Runs in: scheduler. Whoever makes a directory gives it away again when its result is durable (workdir.h); a
 * killed one does not. Until its run has succeeded the name may stand for an attempt that nothing else tells
 * of; then it stands for nothing.
 */
#ifndef PAWL_SCHEDULER_SWEEP_H
#define PAWL_SCHEDULER_SWEEP_H

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>

struct pawl_sweep {
    DIR *dir; /* NULL: none is under way */
    uint64_t before_ns;
};

/**
 * pawl_sweep_begin - of the run whose directory is @run_dirfd
 * @before_ns: CLOCK_REALTIME; what is younger is left alone: somebody may use it
 *
 * Return: false: there is nothing to sweep.
 */
bool pawl_sweep_begin(struct pawl_sweep *sweep, int run_dirfd, uint64_t before_ns);

/** pawl_sweep_next - a bounded number of them. What holds something stays. Return: false: that was all. */
bool pawl_sweep_next(struct pawl_sweep *sweep);

/** pawl_sweep_end - also in the middle; work/ goes too if it is empty. */
void pawl_sweep_end(struct pawl_sweep *sweep, int run_dirfd);

#endif
