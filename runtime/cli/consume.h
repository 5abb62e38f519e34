/*
 * consume.h - what the ways of `pawl consume` share.
 */
#ifndef PAWL_RUNTIME_CLI_CONSUME_H
#define PAWL_RUNTIME_CLI_CONSUME_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/cli/cli.h"
#include "runtime/pawl.h"

struct pawl_consuming {
    const struct pawl_cli *cli;
    struct pawl *pawl;
    const char *queue;
    const char *group; /* NULL: not a stream */
    const char *state; /* absolute */
    uint64_t left;     /* deliveries still to be had; UINT64_MAX: no bound */
    int64_t wait_ms;   /* end when nothing came for so long; -1: never */
    bool has_from;
    uint64_t from;
    unsigned concurrency;
    unsigned prefetch;  /* --exec; 0: as many as run at a time */
    bool waits;         /* --exec: for a queue that is not declared yet */
    char **command;     /* --exec; ends with NULL */
    const char *plugin; /* --plugin: FILE[,CONFIG_JSON] */
    bool subscribed;    /* its queue was there */
    uint64_t done, failed;
};

/** pawl_consume_wait - sleep until the bus, a signal or @fds[0..count) have something; at most @wait_ms (-1:
 * no bound). Fills fds[].revents. 0, or an error of pawl.h. */
struct pollfd;
int pawl_consume_wait(struct pawl_consuming *consuming, struct pollfd *fds, unsigned count, int64_t wait_ms);

/** pawl_consume_flush - until what was settled is on disk. A signal ends that soon: what was said is heard,
 * and what is not may come again. 0, also then; or an error of pawl.h. */
int pawl_consume_flush(struct pawl_consuming *consuming);

/** pawl_consume_fail - say what the queue's error was; the exit code: 1 when it was deleted meanwhile. */
int pawl_consume_fail(const struct pawl_consuming *consuming, int error);

/** pawl_consume_find_command - is there such a command, at its path or in PATH? 0; -ENOENT; -errno. */
int pawl_consume_find_command(const char *name);

/** pawl_consume_exec - run the command for each delivery. 0 or an exit code. */
int pawl_consume_exec(struct pawl_consuming *consuming);

/** pawl_consume_plugin - have processes of their own handle deliveries with a shared object. 0 or an exit
 * code. */
int pawl_consume_plugin(struct pawl_consuming *consuming);

#endif
