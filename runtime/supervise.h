/*
 * supervise.h - the process that is parent of all others, and outlives the scheduler's accidents.
 *
 * Runs in: the supervisor. Takes the directory's lock, forks scheduler and workers, reaps, restarts. Never
 * maps shared memory, never reads the journal, never touches the control socket.
 */
#ifndef PAWL_RUNTIME_SUPERVISE_H
#define PAWL_RUNTIME_SUPERVISE_H

#include <stdbool.h>

#include "runtime/state.h"

struct pawl_supervise_options {
    const struct pawl_state *state;
    int client_fd; /* other end of the launching command's socketpair, or -1; taken over */
    bool temporary;
};

/**
 * pawl_supervise - the supervisor's life; never returns to the caller's work
 *
 * Return: exit code of the process: that of a final scheduler (0, 2, 3, 4, 7, 70); 4 when another supervisor
 * holds the directory; 70 after five deaths of the scheduler within a minute.
 */
int pawl_supervise(const struct pawl_supervise_options *options);

#endif
