/*
 * launch.h - from a small command to a supervisor that serves its state directory.
 *
 * Runs in: the command (fork) and the supervisor's first moments. Commands use client.h.
 */
#ifndef PAWL_RUNTIME_LAUNCH_H
#define PAWL_RUNTIME_LAUNCH_H

#include <stdbool.h>
#include <sys/types.h>

#include "runtime/state.h"

struct pawl_launch_options {
    bool temporary; /* the scheduler leaves when its last run and client are gone */
};

/**
 * pawl_launch - fork a supervisor
 * @client_fd_out: our end of a socketpair whose other end the scheduler serves like an accepted connection
 *
 * Does not wait: what goes wrong in the supervisor or scheduler arrives as an ERROR message, or, when another
 * supervisor holds the directory, as a close without a word (connect to the socket then).
 *
 * Return: 0 or -errno.
 */
int pawl_launch(const struct pawl_state *state, const struct pawl_launch_options *options,
                int *client_fd_out);

struct pawl_helpers;
struct pawl_serving;

/**
 * pawl_launch_here - this process becomes the supervisor, in the foreground: `pawl serve`
 * @serving: its lock is held; log_fd is filled in. Descriptors that neither it nor @helpers name are closed
 * @helpers: processes beside it (helpers.h), or NULL
 *
 * Return: exit code, as pawl_supervise().
 */
int pawl_launch_here(const struct pawl_state *state, struct pawl_serving *serving,
                     struct pawl_helpers *helpers);

struct pawl_launch_embedded {
    struct pawl_serving *serving; /* its lock is held; log_fd is filled in */
    struct pawl_helpers *helpers; /* count 0: none. host_fds is filled in */
    const char *remove_path;      /* a directory that goes when everything has ended; NULL: none */
};

/**
 * pawl_launch_embedded - fork a supervisor that ends with this process
 *
 * As pawl_launch(). The supervisor is our child: it ends by SIGTERM, also when we die, and is to be waited
 * for. Descriptors of ours stay open in the helpers only. Helpers find our standard streams where they were.
 */
int pawl_launch_embedded(const struct pawl_state *state, const struct pawl_launch_embedded *options,
                         int *client_fd_out, pid_t *pid_out);

/** pawl_launch_remove - a private state directory, as far as it can be. */
void pawl_launch_remove(const char *path);

/** pawl_launch_restore_streams - in a helper: 0, 1 and 2 as the embedding program had them. */
void pawl_launch_restore_streams(void);

/* pawl_state_connect - to STATE/socket, at any path length. Return: a descriptor or -errno (-ENOENT and
 * -ECONNREFUSED: nobody serves). */
int pawl_state_connect(const struct pawl_state *state);
/* pawl_socket_connect - to the socket at @path. As above; -ENAMETOOLONG. */
int pawl_socket_connect(const char *path);

#endif
