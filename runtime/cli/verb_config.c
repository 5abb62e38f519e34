/*
 * verb_config.c - `pawl config show`: every setting, its value, and where that comes from.
 *
 * Runs in: the command. Reads what a scheduler that starts now would read; asks none.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <unistd.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/submit.h"
#include "runtime/cli/verbs.h"
#include "runtime/config.h"
#include "runtime/config_handlers.h"
#include "runtime/state.h"
#include "shm/error.h"

struct config_options {
    uint64_t given;
    bool origin;
    const char *config;
};

static const struct pawl_option config_option_table[] = {
    {0, "origin", NULL, "where each value comes from: flag, environment, file, default", PAWL_OPTION_FLAG,
     offsetof(struct config_options, origin), 0, 0},
    {0, "config", "FILE", "instead of pawl.yaml in the state directory", PAWL_OPTION_TEXT,
     offsetof(struct config_options, config), 0, 0},
    {0},
};

struct listing {
    const struct pawl_cli *cli;
    bool origin;
    json_t *list;
};

static void show(struct listing *listing, const char *name, const char *value, const char *origin,
                 const char *maximum, const char *what)
{
    if (!listing->cli->json && listing->origin)
        printf("%-15s  %-24s  %-11s  %s\n", name, value, origin, maximum != NULL ? maximum : "");
    else if (!listing->cli->json)
        printf("%-15s  %s\n", name, value);
    json_t *setting = json_object();
    json_object_set_new(setting, "name", json_string(name));
    json_object_set_new(setting, "value", pawl_json_text(value));
    json_object_set_new(setting, "origin", json_string(origin));
    json_object_set_new(setting, "maximum", maximum != NULL ? json_string(maximum) : json_null());
    json_object_set_new(setting, "what", what != NULL ? json_string(what) : json_null());
    json_array_append_new(listing->list, setting);
}

static void show_ids(struct listing *listing, const char *name, const uint32_t *ids, uint32_t count)
{
    char text[PAWL_ALLOWED_MAX * 12 + 3] = "[";
    size_t used = 1;
    for (uint32_t i = 0; i < count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%u", i > 0 ? ", " : "", ids[i]);
    snprintf(text + used, sizeof text - used, "]");
    show(listing, name, text, count > 0 ? "file" : "default", NULL,
         "users and groups beside the owner that may use the bus");
}

static void show_limits(struct listing *listing, struct pawl_config *config,
                        const struct pawl_config_origins *origins)
{
    static const char *const names[] = {"default", "file", "environment", "flag"};
    for (const struct pawl_limit *limit = pawl_limit_table; limit->name != NULL; limit++) {
        char value[64], maximum[64];
        bool word = limit->kind == PAWL_LIMIT_OVERFLOW || limit->kind == PAWL_LIMIT_DURABILITY;
        show(listing, limit->name, pawl_config_limit_text(limit, *pawl_limit_value(config, limit), value),
             names[origins->limit[limit - pawl_limit_table]],
             word ? NULL : pawl_config_limit_text(limit, limit->maximum, maximum), limit->what);
    }
    show_ids(listing, "allow-uids", config->allow_uids, config->allow_uid_count);
    show_ids(listing, "allow-gids", config->allow_gids, config->allow_gid_count);
    for (size_t i = 0; i < config->queue_count; i++) {
        char name[96];
        snprintf(name, sizeof name, "queue %.80s", config->queues[i].name);
        show(listing, name, config->queues[i].json, "file", NULL, "declared when the scheduler starts");
    }
    for (size_t i = 0; i < config->handler_count; i++) {
        const struct pawl_config_handler *handler = &config->handlers[i];
        char name[96], value[256];
        snprintf(name, sizeof name, "handler %.80s", handler->queue);
        snprintf(value, sizeof value, "%s %.200s, %u processes", handler->plugin ? "plugin" : "exec",
                 handler->plugin ? handler->plugin : handler->exec[0],
                 pawl_config_handler_processes(config, handler));
        show(listing, name, value, "file", NULL, "of pawl serve");
    }
}

static int show_all(struct pawl_cli *cli, const struct config_options *o, int dirfd)
{
    static const char *const modes[] = {"auto", "none", "plain", "json"};
    static struct pawl_load_errors errors;
    struct pawl_config config;
    struct pawl_config_origins origins;
    struct listing listing = {.cli = cli, .origin = o->origin, .list = json_array()};
    const struct pawl_config_source source = {.dirfd = dirfd, .path = o->config};
    char jobs[24];
    int error = pawl_config_load(&source, &config, &origins, &errors), status = PAWL_EXIT_OK;
    if (error != 0) {
        status = pawl_fail_config(cli, &source, error, &errors);
        goto out;
    }
    const char *jobs_origin = cli->jobs != 0 ? "environment" : "default";
    uint64_t slots = cli->jobs != 0 ? cli->jobs : config.run.workers;
    if (cli->jobs == 0 && slots != 0)
        jobs_origin = "workers";
    snprintf(jobs, sizeof jobs, "%" PRIu64, slots != 0 ? slots : (uint64_t)pawl_online_cpus());
    show(&listing, "state", cli->state, cli->state_origin, NULL, "state directory");
    show(&listing, "jobs", jobs, jobs_origin, NULL,
         "slots of a run that does not say -j: PAWL_JOBS, else workers");
    show(&listing, "color", cli->color, cli->color_origin, NULL, NULL);
    show(&listing, "progress", modes[cli->progress], cli->progress_origin, NULL, NULL);
    show_limits(&listing, &config, &origins);
    if (cli->json) {
        json_t *document = pawl_json_document();
        json_object_set(document, "settings", listing.list);
        pawl_json_print(document, stdout);
        json_decref(document);
    }
    pawl_config_fini(&config);
out:
    json_decref(listing.list);
    return pawl_output_finish(cli, status);
}

static int run_config(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    char why[PAWL_STATE_WHY_BYTES] = "";
    struct pawl_state state;
    if (strcmp(operands[0], "show") != 0)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "there is: pawl config show [--origin]",
                         "config cannot '%.40s'", operands[0]);
    int error = pawl_state_open(cli->state, PAWL_STATE_EXISTING, &state, why);
    if (error != 0 && error != -ENOENT)
        return pawl_fail(cli, PAWL_EXIT_UNREACHABLE, "state", NULL, "%s",
                         why[0] != '\0' ? why : pawl_error_text(error));
    /* A directory that only has its pawl.yaml so far. */
    int dirfd = error == 0 ? state.dirfd : open(cli->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int status = show_all(cli, options, dirfd);
    if (error == 0)
        pawl_state_close(&state);
    else if (dirfd >= 0)
        close(dirfd);
    return status;
}

const struct pawl_verb pawl_verb_config = {
    .name = "config",
    .summary = "the settings in force",
    .operands = "show",
    .examples = "pawl config show --origin\npawl config show --json | jq '.settings[] | select(.origin != "
                "\"default\")'",
    .notes = "a setting is changed in pawl.yaml (ack-wait: 1m) or in the environment (PAWL_ACK_WAIT=1m)\n"
             "with --origin also the maximum of each",
    .options = config_option_table,
    .options_bytes = sizeof(struct config_options),
    .operands_min = 1,
    .operands_max = 1,
    .run = run_config,
};
