/*
 * helpers.h - processes that live beside scheduler and workers: handlers of an embedding program, of
 * `pawl serve`, of `pawl consume`, and who answers HTTP.
 *
 * Runs in: their parent, which mostly is the supervisor. It forks them, forks them anew when they die (later
 * and later when they die at once), and ends them when it stops.
 */
#ifndef PAWL_RUNTIME_HELPERS_H
#define PAWL_RUNTIME_HELPERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct pawl_helper {
    pid_t pid;       /* 0: not there */
    uint32_t number; /* while it is there: its own among all workers; 0: it has none */
    bool dismissed;  /* it is not forked again: with pid 0, its place is free */
    uint64_t forked_at_ns, wait_ns, due_ns;
    uint64_t kill_at_ns; /* dismissed: when it is not waited for any longer */
};

struct pawl_config;

struct pawl_helpers {
    unsigned count;
    /* In the child of @parent: its result is the exit code. */
    int (*main)(void *ctx, unsigned index, pid_t parent);
    void *ctx;
    struct pawl_helper *list; /* count of them, zeroed */
    const int *host_fds;      /* of the embedding program: the helpers' alone */
    size_t host_fd_count;
    unsigned numbered_from; /* helpers from here on are workers with a number; above count: none */
    /* A configuration was read again; may change count and list. NULL: they stay what they are. */
    void (*reconfigure)(struct pawl_helpers *helpers, const struct pawl_config *config, uint64_t now_ns);
    bool stopping;
};

/** pawl_helpers_forget_host - in a child that is none of them: the program's descriptors are not its
 * business. */
void pawl_helpers_forget_host(const struct pawl_helpers *helpers);

/* What their parent has to do with them; members may be NULL. */
struct pawl_helpers_parent {
    /* First, in the child: its handlers and descriptors. Signals are held back, which it may end. */
    void (*leave)(void *ctx);
    bool (*number_is_used)(void *ctx, uint32_t number); /* by a worker that is no helper */
    void (*forked)(void *ctx, const struct pawl_helper *helper);
    void *ctx;
};

/** pawl_helpers_fill - fork what is due, kill what was dismissed and does not go. Return: when to do so
 * again, UINT64_MAX: there is nothing to wait for. */
uint64_t pawl_helpers_fill(struct pawl_helpers *helpers, uint64_t now_ns,
                           const struct pawl_helpers_parent *parent);

/** pawl_helpers_reaped - was it one of them? It is forked again, unless it was dismissed. *number_out: the
 * one that it had. */
bool pawl_helpers_reaped(struct pawl_helpers *helpers, pid_t pid, bool clean, uint64_t now_ns,
                         uint32_t *number_out);

/** pawl_helpers_dismiss - one is not wanted any more: SIGTERM, and SIGKILL @patience_ns later. */
void pawl_helpers_dismiss(struct pawl_helpers *helpers, unsigned index, uint64_t now_ns,
                          uint64_t patience_ns);

bool pawl_helpers_number_is_used(const struct pawl_helpers *helpers, uint32_t number);

void pawl_helpers_stop(struct pawl_helpers *helpers, int signal_number); /* and fork none again */
unsigned pawl_helpers_alive(const struct pawl_helpers *helpers);

#endif
