/*
 * scheduler.h - the process that decides: its life from fork to exit.
 *
 * Runs in: the scheduler. One thread, one pawl_io.
 */
#ifndef PAWL_SCHEDULER_SCHEDULER_H
#define PAWL_SCHEDULER_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct pawl_config; /* bus/limits.h */

struct pawl_scheduler_options {
    int state_dirfd, journal_dirfd, runs_dirfd, spool_dirfd; /* borrowed for the life of the process */
    const char *state_path;
    const char *mark;  /* value of PAWL_MARK */
    int supervisor_fd; /* socketpair to the supervisor; -1: none (tests: workers are asked of nobody) */
    int client_fd;     /* the launching command's connection, or -1; taken over */
    int log_fd;        /* where lines for people go */
    pid_t supervisor;  /* parent at fork */
    bool temporary;    /* leave when idle and no client is connected */
    bool restarted;    /* a predecessor of the same supervisor died; its workers, told by WORKER_UP, offer */
    uint32_t workers_alive; /* that will be told before anything else */
    int listen_fds[4];      /* sockets beside STATE/socket, listening already; borrowed */
    unsigned listen_count;
    bool listen_in_state_is_passed; /* one of them is STATE/socket: make none */
    uint64_t snapshot_bytes;        /* journal growth between snapshots; 0: 64 MiB */
    /* Prove old jobs gone (runtime/orphans.h: the scheduler does not know that room). 0 or an error. */
    int (*prove_orphans_gone)(void *ctx, char *text, unsigned bytes);
    /* Read and check the configuration: at the start, and on SIGHUP unless temporary. 0, or an error with one
     * line of words a mistake. NULL: defaults. */
    int (*read_config)(void *ctx, struct pawl_config *config_out, char *text, unsigned bytes);
    void *ctx;
};

/**
 * pawl_scheduler_main - be the scheduler until told to go
 *
 * Return: exit code: 0 left cleanly; 4 cannot start; 7 journal damaged; 70 the journal failed or an internal
 * error. The launching client has been told why.
 */
int pawl_scheduler_main(const struct pawl_scheduler_options *options);

#endif
