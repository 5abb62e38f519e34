/*
 * exec.h - a user's process: start it, end it, reap it.
 *
 * Runs in a worker. A job is its own process group with its own pidfd. Time is passed in (CLOCK_MONOTONIC);
 * nothing here sleeps: the caller polls `pidfd` until pawl_exec_deadline().
 */
#ifndef PAWL_WORKERS_EXEC_H
#define PAWL_WORKERS_EXEC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

/* Which step of the start failed; the words for people are made by pawl_exec_failure_text(). */
enum pawl_exec_step {
    PAWL_EXEC_CLONE = 1,
    PAWL_EXEC_GROUP,
    PAWL_EXEC_PARENT, /* the worker died meanwhile */
    PAWL_EXEC_DIRECTORY,
    PAWL_EXEC_DESCRIPTOR,
    PAWL_EXEC_LIMIT,
    PAWL_EXEC_NICE,
    PAWL_EXEC_PROGRAM,
};

/* Everything stays the caller's; nothing is copied; it must stay valid during pawl_exec_spawn() only. */
struct pawl_exec_spec {
    const char *program;   /* path for execve(): absolute, or relative to the job's directory */
    char **argv;           /* NULL-terminated; argv[-1] is a spare element that spawn may write */
    char *const *envp;     /* NULL-terminated */
    const char *directory; /* the job's working directory, or NULL to stay in the worker's */
    int stdin_fd, stdout_fd, stderr_fd; /* any numbers, also 0..2 */
    uint32_t umask;
    bool set_nice;
    int nice;
    uint32_t limit_mask; /* bit per RLIMIT_*: apply limits[it] */
    const struct rlimit *limits;
};

struct pawl_exec_failure {
    enum pawl_exec_step step;
    int error; /* positive errno */
    int limit; /* PAWL_EXEC_LIMIT: which RLIMIT_* */
};

/* Why a job is being ended before its time. The first reason stands. */
enum pawl_exec_end {
    PAWL_EXEC_END_NONE = 0,
    PAWL_EXEC_END_TIMEOUT,
    PAWL_EXEC_END_KILL,
    PAWL_EXEC_END_OUTPUT,
};

/* A started job. Caller's memory; pid 0: none. */
struct pawl_exec {
    pid_t pid; /* also the process group */
    int pidfd;
    uint64_t timeout_at_ns; /* UINT64_MAX: none */
    uint64_t kill_at_ns;    /* SIGKILL is due; UINT64_MAX: not */
    uint64_t grace_ns;      /* of the timeout */
    enum pawl_exec_end end;
};

/**
 * pawl_exec_spawn - start a job in a new process group
 *
 * Blocks until the program is loaded or could not be. The child gets descriptors 0, 1, 2 only, an empty
 * signal mask, default dispositions for all that the worker handles, and SIGKILL when the worker dies. The
 * caller keeps signals that it handles blocked around the call. A script without an interpreter line is run
 * by /bin/sh, as execvp() does.
 * @exec_out: filled, without deadlines
 *
 * Return: 0, or -errno with *failure_out and nothing left behind.
 */
int pawl_exec_spawn(const struct pawl_exec_spec *spec, struct pawl_exec *exec_out,
                    struct pawl_exec_failure *failure_out);

/* Set the timeout (0: none) of a job that started at @now_ns. */
void pawl_exec_set_timeout(struct pawl_exec *exec, uint64_t now_ns, uint64_t timeout_ns, uint64_t grace_ns);

/* Ask the group to end: SIGTERM now and SIGKILL after @grace_ns; 0: SIGKILL at once. May be repeated: an
 * earlier SIGKILL wins. */
void pawl_exec_stop(struct pawl_exec *exec, enum pawl_exec_end why, uint64_t now_ns, uint64_t grace_ns);

/* Send what is due at @now_ns. Return: the next instant to call again, UINT64_MAX for none. */
uint64_t pawl_exec_tick(struct pawl_exec *exec, uint64_t now_ns);

struct pawl_exec_status {
    bool signalled;
    int code; /* exit code or signal */
    enum pawl_exec_end end;
    bool group_lives; /* processes of the group outlive the leader (background jobs) */
};

/**
 * pawl_exec_reap - take the status of an ended job and forget it
 *
 * Blocks until the leader has ended (call it when pidfd is readable). When it was asked to end, what is left
 * of its group gets SIGKILL while the leader still holds the group's number.
 * Return: 0 or -errno.
 */
int pawl_exec_reap(struct pawl_exec *exec, struct pawl_exec_status *status_out);

/* Async-signal-safe: SIGKILL for the whole group, no waiting. */
void pawl_exec_kill_now(const struct pawl_exec *exec);

/* Words for a failed start into @text (NUL-terminated, cut to @bytes). @program and @directory as the task
 * named them; @search: the PATH that was searched, or NULL. Return: length. */
int pawl_exec_failure_text(const struct pawl_exec_failure *failure, const char *program,
                           const char *directory, const char *search, char *text, int bytes);

#endif
