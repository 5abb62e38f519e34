/*
 * supervise.h - the process that is parent of all others, and outlives the scheduler's accidents.
 *
 * Runs in: the supervisor. Takes the directory's lock, forks scheduler and workers, reaps, restarts. Never
 * maps shared memory, never reads the journal, never touches the control socket.
 */
#ifndef PAWL_RUNTIME_SUPERVISE_H
#define PAWL_RUNTIME_SUPERVISE_H

#include <stdbool.h>

#include "runtime/config.h"
#include "runtime/helpers.h"
#include "runtime/state.h"

enum { PAWL_SUPERVISE_LISTEN_MAX = 4 };

/* What only `pawl serve` has. */
struct pawl_serving {
    struct pawl_config_source config;
    int listen_fds[PAWL_SUPERVISE_LISTEN_MAX]; /* sockets beside STATE/socket, listening already */
    unsigned listen_count;
    bool listen_in_state_is_passed;   /* one of them is STATE/socket */
    int lock_fd;                      /* of pawl_supervise_lock() */
    int log_fd;                       /* STATE/scheduler.log; lines go to standard error as well */
    void (*notify)(const char *text); /* the service manager: READY=1, RELOADING=1, STOPPING=1 */
};

struct pawl_supervise_options {
    const struct pawl_state *state;
    int client_fd; /* other end of the launching command's socketpair, or -1; taken over */
    bool temporary;
    const struct pawl_serving *serving; /* NULL: a temporary one's; also that of an embedding program */
    struct pawl_helpers *helpers;       /* NULL: none */
};

/**
 * pawl_supervise_lock - take STATE/lock, and write into it who has it: "PID what"
 *
 * Return: a descriptor, to be kept open; -EWOULDBLOCK (somebody has it); -errno.
 */
int pawl_supervise_lock(const struct pawl_state *state, const char *what);

/** pawl_supervise_holder - what the lock's holder wrote into it; false: nothing that can be read. */
bool pawl_supervise_holder(const struct pawl_state *state, int *pid_out, char what[32]);

/**
 * pawl_supervise - the supervisor's life; never returns to the caller's work
 *
 * SIGTERM and SIGINT stop it, a second one at once; SIGHUP as well, but in `pawl serve` has the configuration
 * read again.
 *
 * Return: exit code of the process: that of a final scheduler (0, 2, 3, 4, 7, 70); 4 when another supervisor
 * holds the directory; 70 after five deaths of the scheduler within a minute.
 */
int pawl_supervise(const struct pawl_supervise_options *options);

#endif
