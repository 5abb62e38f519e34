/*
 * job.h - one task of kind exec from its bytes to its settlement.
 *
 * Runs in a worker. Puts together program, environment, directory, input, capture and process. The caller
 * polls and keeps the time (CLOCK_MONOTONIC for `now_ns`); nothing here waits except for a program to load
 * and for a large output to reach the disk.
 */
#ifndef PAWL_WORKERS_JOB_H
#define PAWL_WORKERS_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/task.h"
#include "shm/wire.h"
#include "workers/capture.h"
#include "workers/environ.h"
#include "workers/exec.h"
#include "workers/workdir.h"

/* What jobs of this worker have in common. Caller's memory; opened once, set for each queue. */
struct pawl_job_host {
    int state_dirfd;        /* borrowed */
    const char *state_path; /* borrowed */
    int null_fd, input_fd;  /* /dev/null; a memfd for PAWL_STDIN_BYTES, -1 until one is needed */
    struct pawl_capture capture;
    struct pawl_workdir workdir;
    /* of the queue */
    struct pawl_environ *environ;
    char *context_bytes; /* a private copy, which `context` points into */
    struct pawl_context context;
    uint32_t slot_number;
    uint32_t limit_mask; /* limits that differ from the worker's own */
    bool set_nice;
    /* reused from task to task */
    char **argv; /* argv[0] is spare, for pawl_exec_spec.argv[-1] */
    uint32_t argv_capacity;
    char *patched; /* arguments that {%} changed */
    size_t patched_capacity;
};

/* One attempt. Caller's memory. */
struct pawl_job {
    struct pawl_exec exec; /* pid 0: not running */
    struct pawl_task task; /* points into the caller's bytes: valid until spawned */
    char run_id[PAWL_NAME_BYTES];
    char stem[PAWL_WORKDIR_STEM_BYTES];
    uint32_t attempt;       /* may be higher than planned once prepared */
    uint64_t started_at_ns; /* CLOCK_REALTIME */
    uint64_t started_ns;    /* CLOCK_MONOTONIC */
    uint64_t output_bytes_max;
    uint64_t look_at_ns; /* when to look at the size of the output again */
    uint64_t looked_ns, looked_bytes;
};

/**
 * pawl_job_host_open - spool files and descriptors for jobs of worker @number
 * Return: 0 or -errno. Close with pawl_job_host_close().
 */
int pawl_job_host_open(struct pawl_job_host *host, int state_dirfd, const char *state_path, uint32_t number);
void pawl_job_host_close(struct pawl_job_host *host, uint64_t durable_position);

/**
 * pawl_job_host_set_queue - jobs are of this batch from now on
 * @context, @n: packed context, copied; @mark: value of PAWL_MARK
 * Return: 0, PAWL_E_BAD_MESSAGE, -ENOMEM.
 */
int pawl_job_host_set_queue(struct pawl_job_host *host, const void *context, size_t n, const char *mark,
                            uint32_t slot_number);

/**
 * pawl_job_prepare - everything before the process: the attempt's number and directory become known
 * @run_id: the task's or the queue's; a plain name
 * @index: instance of the step; @fan_out: the step has foreach or matrix, so names carry the index
 * @attempt: planned
 * @durable_position: see workdir.h
 * @realtime_ns, @now_ns: the start, as told in BEGUN and measured from
 *
 * Return: 0, then call pawl_job_spawn(); or a negative code with *settlement and *captured telling the
 * failure (SPAWN_FAILED): push them as the RESULT.
 */
int pawl_job_prepare(struct pawl_job_host *host, struct pawl_job *job, const struct pawl_task *task,
                     const char *run_id, uint64_t index, bool fan_out, uint32_t attempt,
                     uint64_t durable_position, uint64_t realtime_ns, uint64_t now_ns,
                     struct pawl_settlement *settlement, struct pawl_captured *captured);

/* Prepared, but not to be started after all: nothing of it remains. */
void pawl_job_abandon(struct pawl_job_host *host, struct pawl_job *job);

/**
 * pawl_job_spawn - start it; blocks until the program is loaded
 * @now_ns: its timeout counts from here
 * @may_wait: false: the last try
 *
 * Return: 0 (poll job->exec.pidfd); 1: the machine has no room for a process just now, nothing has changed,
 * call again (only if @may_wait); or as prepare.
 */
int pawl_job_spawn(struct pawl_job_host *host, struct pawl_job *job, uint64_t now_ns, bool may_wait,
                   struct pawl_settlement *settlement, struct pawl_captured *captured);

/* Timeouts and output limit, as due at @now_ns. Return: when to call again, UINT64_MAX for never. */
uint64_t pawl_job_tick(struct pawl_job_host *host, struct pawl_job *job, uint64_t now_ns);

/**
 * pawl_job_finish - the process has ended (its pidfd is readable): reap it, collect, fill the settlement
 *
 * type, flags, outcome, exit_code, attempt, started_at_ns, duration_ns, stdout_bytes, stderr_bytes,
 * arena_bytes of *settlement are set; captured->bytes are the arena's content.
 */
void pawl_job_finish(struct pawl_job_host *host, struct pawl_job *job, uint64_t now_ns,
                     struct pawl_settlement *settlement, struct pawl_captured *captured);

/* May @name be a component of a path below the state directory? */
bool pawl_job_is_plain_name(const char *name);

#endif
