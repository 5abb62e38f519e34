/*
 * orphans.h - prove that nothing of an earlier life runs any more.
 *
 * Runs in: the scheduler at a fresh start, the supervisor after a worker's death. A process is ours when its
 * environment holds our mark, which every job inherits. Reads /proc; kills by pidfd, after looking again
 * through it, so that a reused pid is never hit. Blocks, bounded by the caller's limit.
 */
#ifndef PAWL_RUNTIME_ORPHANS_H
#define PAWL_RUNTIME_ORPHANS_H

#include <stdint.h>
#include <sys/types.h>

struct pawl_orphans_report {
    unsigned killed_count;
    unsigned left_count; /* still alive when time was up */
    pid_t pids[16];      /* the first of them, for the log */
};

/**
 * pawl_orphans_kill - SIGKILL every process whose environment has PAWL_MARK=@mark:NUMBER, wait until they are
 * gone
 * @worker: only those of this worker's jobs; 0: all
 * @limit_ns: how long to wait for their ends altogether
 *
 * The calling process is spared. Processes that cannot be read (another user's) are not ours.
 *
 * Return: 0 when nothing lives; -ETIMEDOUT with left_count; -errno when /proc cannot be read.
 */
int pawl_orphans_kill(const char *mark, uint32_t worker, uint64_t limit_ns,
                      struct pawl_orphans_report *report_out);

#endif
