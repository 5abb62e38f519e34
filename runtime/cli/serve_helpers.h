/*
 * serve_helpers.h - the processes that `pawl serve` has beside scheduler and workers: handlers of queues, as
 * its configuration says, and who answers HTTP.
 *
 * Runs in: `pawl serve`, which becomes the supervisor, and in those processes.
 */
#ifndef PAWL_RUNTIME_CLI_SERVE_HELPERS_H
#define PAWL_RUNTIME_CLI_SERVE_HELPERS_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#include "runtime/cli/cli.h"
#include "runtime/config.h"
#include "runtime/helpers.h"
#include "runtime/state.h"
#include "runtime/supervise.h"

/* What a helper is there for. */
struct pawl_serve_place {
    bool answers_http;
    struct pawl_config_handler handler;
    /* of its plugin when the configuration was read: another file is another handler */
    dev_t device;
    ino_t inode;
    struct timespec changed_at;
};

struct pawl_serve_helpers {
    struct pawl_helpers helpers;     /* first: helpers.reconfigure() finds us by it */
    struct pawl_serve_place *places; /* by helper */
    unsigned room;
    struct pawl_cli cli; /* for words; nothing of the command line's memory in it */
    const struct pawl_state *state;
    const struct pawl_serving *serving;
    int metrics_fd;     /* -1: none */
    const char *socket; /* that `--socket` made, or NULL; borrowed */
};

/** pawl_serve_helpers_check - are there the plugins and commands that the handlers name, and are they of use?
 * 0 or an exit code; it has been said why. Plugins are loaded by a process of its own. */
int pawl_serve_helpers_check(const struct pawl_cli *cli, const struct pawl_config *config);

/** pawl_serve_helpers_init - for this configuration. 0 or -ENOMEM. */
int pawl_serve_helpers_init(struct pawl_serve_helpers *crew, const struct pawl_cli *cli,
                            const struct pawl_state *state, const struct pawl_serving *serving,
                            int metrics_fd, const struct pawl_config *config);
void pawl_serve_helpers_fini(struct pawl_serve_helpers *crew);

#endif
