/*
 * worker.h - a worker process: one slot, one job at a time.
 *
 * pawl_worker_main() is the whole life of a process that the supervisor forked. It claims from the queue that
 * the scheduler names, runs the job, reports into its lane. It decides nothing about retries or order, never
 * writes the journal, and never maps shared memory that it may not write as writable.
 */
#ifndef PAWL_WORKERS_WORKER_H
#define PAWL_WORKERS_WORKER_H

#include <stdint.h>
#include <sys/types.h>

struct pawl_worker_options {
    const char *state_path; /* absolute path of STATE, as jobs see it in PAWL_DIR and PAWL_OUTPUT */
    int state_dirfd;        /* of STATE; taken over, O_CLOEXEC */
    uint32_t number;        /* 1-based, unique among the supervisor's living workers: names the spool files */
    const char *mark; /* value of PAWL_MARK until the scheduler's LANE message names one; at most 71 bytes */
    pid_t supervisor; /* parent at fork: the worker ends when it is somebody else's child */
};

/**
 * pawl_worker_main - be a worker until told to go
 *
 * Runs in a process with one thread. Takes over signal dispositions and mask, closes no descriptor that it
 * was not given. Blocks for the life of the process.
 *
 * Return: what the process should exit with: 0 after PAWL_WIRE_EXIT, or when the supervisor is gone; 4 when
 * no scheduler could be reached for 60 s; 70 on an internal error (said on stderr). SIGTERM ends the
 * process inside this call with 143, and its job's process group with it.
 */
int pawl_worker_main(const struct pawl_worker_options *options);

#endif
