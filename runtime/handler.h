/*
 * handler.h - the life of a handler process: claim one delivery, ask the handler, settle by its result.
 *
 * Runs in: handler processes of an embedding program, of `pawl serve` and of `pawl consume --plugin`; each is
 * an ordinary client of the scheduler. Whoever forks it waits for it.
 */
#ifndef PAWL_RUNTIME_HANDLER_H
#define PAWL_RUNTIME_HANDLER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/pawl.h"

/* What processes that share one bound have in common: in shared memory. Relaxed throughout: only counts, and
 * instants that decide nothing but when to end. */
struct pawl_handling_place {
    _Atomic uint32_t running; /* 1 while its handler runs */
    _Atomic uint32_t asked;   /* deliveries that it has asked for and not claimed: taken from `left` */
};

struct pawl_handling_share {
    _Atomic uint64_t left;       /* deliveries that nobody has asked for; UINT64_MAX: no bound */
    _Atomic uint64_t busy_at_ns; /* CLOCK_MONOTONIC: when one last came or ended */
    _Atomic uint64_t failed, late;
    struct pawl_handling_place places[]; /* by process */
};

struct pawl_handling {
    const char *queue, *group; /* NULL: no stream */
    unsigned prefetch;         /* 0: 16 */
    bool waits;                /* for a queue that is not declared yet */
    bool has_from;
    uint64_t from;
    pawl_handler handler;
    void *context;
    int signal_fd;                     /* of pawl_handling_listen(): readable: it was told to go */
    struct pawl_handling_share *share; /* NULL: no bounds */
    uint32_t place;                    /* in share->places */
    bool *subscribed_out;              /* NULL, or set when its queue was there */
    int64_t wait_ms;                   /* with a share: end when nothing came for so long; -1: never */
};

/** pawl_handling_listen - from now on SIGTERM is told by a descriptor, after the delivery that is handled.
 * @parent: who forked this process, and is to end for it to be told too. Descriptor; -errno; -ESRCH: it has
 * gone. */
int pawl_handling_listen(pid_t parent);

/** pawl_handling_connect - to the scheduler of the same supervisor, for as long as it needs to start.
 * @signal_fd: readable when this process is told to go. A process connects once. 0, with *pawl_out the
 * caller's; -EINTR: it was told to go; another error, of which pawl_last_error(NULL) has words. */
int pawl_handling_connect(const char *state_path, int signal_fd, struct pawl **pawl_out);

/** pawl_handling_give_back - what a process asked for that is no more, or asks for none. */
void pawl_handling_give_back(struct pawl_handling_share *share, uint32_t place);

/** pawl_handling_run - until it is told to go, or a bound is reached. What it settled is durable then. 0; or
 * an error of pawl.h, of which pawl_last_error() has words. */
int pawl_handling_run(struct pawl *pawl, const struct pawl_handling *handling);

#endif
