/*
 * helpers.h - processes of an embedding program that live beside scheduler and workers: its handlers.
 *
 * Runs in: the supervisor of pawl_start(). It forks them, forks them anew when they die (later and later when
 * they die at once), and ends them when it stops.
 */
#ifndef PAWL_RUNTIME_HELPERS_H
#define PAWL_RUNTIME_HELPERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct pawl_helper {
    pid_t pid; /* 0: not there */
    uint64_t forked_at_ns, wait_ns, due_ns;
};

struct pawl_helpers {
    unsigned count;
    int (*main)(void *ctx, unsigned index); /* in the child: its result is the exit code */
    void *ctx;
    struct pawl_helper *list; /* count of them, zeroed */
    const int *host_fds;      /* of the embedding program: the helpers' alone */
    size_t host_fd_count;
    bool stopping;
};

/** pawl_helpers_forget_host - in a child that is none of them: the program's descriptors are not its
 * business. */
void pawl_helpers_forget_host(const struct pawl_helpers *helpers);

/** pawl_helpers_fill - fork what is due. @leave: what the child does first. Return: when the next one is due,
 * UINT64_MAX: none. */
uint64_t pawl_helpers_fill(struct pawl_helpers *helpers, uint64_t now_ns, void (*leave)(void *ctx),
                           void *ctx);

/** pawl_helpers_reaped - was it one of them? It is forked again. */
bool pawl_helpers_reaped(struct pawl_helpers *helpers, pid_t pid, bool clean, uint64_t now_ns);

void pawl_helpers_stop(struct pawl_helpers *helpers, int signal_number); /* and fork none again */
unsigned pawl_helpers_alive(const struct pawl_helpers *helpers);

#endif
