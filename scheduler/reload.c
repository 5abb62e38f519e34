/*
 * reload.c - takes a configuration up as a whole, or not at all.
 *
 * Runs in: scheduler.
 */
#include "scheduler/reload.h"

#include <errno.h>
#include <string.h>

#include <jansson.h>

#include "scheduler/control.h"
#include "scheduler/loop.h"
#include "scheduler/roster.h"
#include "shm/error.h"

enum { TEXT_BYTES = 4096 };

static int read_config(struct pawl_loop *loop, struct pawl_config *config, char *text, size_t bytes)
{
    text[0] = '\0';
    if (loop->options->read_config)
        return loop->options->read_config(loop->options->ctx, config, text, (unsigned)bytes);
    pawl_config_default(config);
    return 0;
}

int pawl_reload_first(struct pawl_loop *loop, char *text, size_t bytes)
{
    int error = read_config(loop, &loop->config, text, bytes);
    if (error)
        pawl_config_default(&loop->config);
    return error;
}

static void log_lines(const char *text)
{
    while (*text) {
        size_t bytes = strcspn(text, "\n");
        pawl_log(PAWL_LOG_ERROR, "configuration: %.*s", (int)bytes, text);
        text += bytes + (text[bytes] == '\n');
    }
}

/* @others: NULL: declare it. Else only: could it be, beside so many new ones of the same file? It is counted,
 * too, if it is new. */
static int declare(struct pawl_loop *loop, const struct pawl_config_queue *queue, uint32_t *others,
                   char why[256])
{
    uint64_t lsn = 0;
    json_t *reply = NULL, *config = json_loads(queue->json, 0, NULL);
    json_t *request =
        config ? json_pack("{s:s,s:s,s:o,s:b,s:I}", "op", "queue.declare", "name", queue->name, "config",
                           config, "check", others != NULL, "others", (json_int_t)(others ? *others : 0))
               : NULL;
    int error = request ? pawl_bus_request(loop->bus, loop->now, 0, request, &reply, &lsn, why) : -ENOMEM;
    if (!error && others)
        *others += json_is_true(json_object_get(reply, "created"));
    json_decref(request);
    json_decref(reply);
    return error;
}

static int declare_or_log(struct pawl_loop *loop, const struct pawl_config *config, size_t i,
                          uint32_t *others)
{
    char why[256] = "";
    const struct pawl_config_queue *queue = &config->queues[i];
    int error = declare(loop, queue, others, why);
    if (error)
        pawl_log(PAWL_LOG_ERROR, "configuration: %s:%u:%u: queue %s: %s",
                 config->file ? config->file : "pawl.yaml", queue->line, queue->column, queue->name,
                 why[0] ? why : pawl_error_text(error));
    return error;
}

/* By the limits of @config, which may not be taken up. 0, or why a queue of it cannot be had. */
static int check_queues(struct pawl_loop *loop, const struct pawl_config *config)
{
    int error = 0;
    uint32_t others = 0;
    struct pawl_bus_limits limits = config->bus;
    limits.dedupe_keys = loop->config.bus.dedupe_keys; /* or keys would be forgotten by looking */
    limits.dedupe_age_ns = loop->config.bus.dedupe_age_ns;
    pawl_bus_set_limits(loop->bus, &limits);
    for (size_t i = 0; i < config->queue_count; i++) {
        int wrong = declare_or_log(loop, config, i, &others);
        error = error ? error : wrong;
    }
    pawl_bus_set_limits(loop->bus, &loop->config.bus);
    return error;
}

/* At a start a queue that exists, and cannot be changed so, stays as it is. */
void pawl_reload_declare(struct pawl_loop *loop)
{
    for (size_t i = 0; i < loop->config.queue_count; i++) {
        (void)declare_or_log(loop, &loop->config, i, NULL);
        pawl_loop_cut(loop);
    }
}

/* The supervisor tells whoever waits for the reload, and has what of it is its own to take up. */
static void tell_supervisor(struct pawl_loop *loop, bool taken_up)
{
    struct pawl_connection *supervisor = loop->lanes ? loop->lanes->supervisor : NULL;
    const struct pawl_wire_reloaded body = {.taken_up = taken_up};
    if (supervisor && loop->serving)
        pawl_control_reply(supervisor, PAWL_WIRE_SERVES, 0, &body, sizeof body, NULL, 0);
}

void pawl_reload(struct pawl_loop *loop)
{
    struct pawl_config config;
    char text[TEXT_BYTES];
    int error = read_config(loop, &config, text, sizeof text);
    if (error) {
        log_lines(text);
    } else if ((error = check_queues(loop, &config)) != 0) {
        pawl_config_fini(&config);
    }
    if (error) {
        pawl_log(PAWL_LOG_ERROR, "configuration: not taken up, the one before stays in force: %s",
                 pawl_error_text(error));
    } else {
        pawl_config_fini(&loop->config);
        loop->config = config;
        pawl_bus_set_limits(loop->bus, &loop->config.bus);
        pawl_reload_declare(loop);
        pawl_log(PAWL_LOG_INFO, "configuration: read again");
    }
    tell_supervisor(loop, error == 0);
}
