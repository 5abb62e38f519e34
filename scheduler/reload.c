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

static int declare(struct pawl_loop *loop, const struct pawl_config_queue *queue, char why[256])
{
    uint64_t lsn = 0;
    json_t *reply = NULL, *config = json_loads(queue->json, 0, NULL);
    json_t *request =
        config ? json_pack("{s:s,s:s,s:o}", "op", "queue.declare", "name", queue->name, "config", config)
               : NULL;
    int error = request ? pawl_bus_request(loop->bus, loop->now, 0, request, &reply, &lsn, why) : -ENOMEM;
    json_decref(request);
    json_decref(reply);
    return error;
}

/* What a queue has that exists already is changed where it can be; where not, the queue stays as it is. */
void pawl_reload_declare(struct pawl_loop *loop)
{
    for (size_t i = 0; i < loop->config.queue_count; i++) {
        const struct pawl_config_queue *queue = &loop->config.queues[i];
        char why[256] = "";
        int error = declare(loop, queue, why);
        if (error)
            pawl_log(PAWL_LOG_ERROR, "configuration: queue %s: %s", queue->name,
                     why[0] ? why : pawl_error_text(error));
        pawl_loop_cut(loop);
    }
}

/* The supervisor tells whoever waits for the reload. */
static void tell_supervisor(struct pawl_loop *loop)
{
    struct pawl_connection *supervisor = loop->lanes ? loop->lanes->supervisor : NULL;
    if (supervisor && loop->serving)
        pawl_control_reply(supervisor, PAWL_WIRE_SERVES, 0, NULL, 0, NULL, 0);
}

void pawl_reload(struct pawl_loop *loop)
{
    struct pawl_config config;
    char text[TEXT_BYTES];
    int error = read_config(loop, &config, text, sizeof text);
    if (error) {
        log_lines(text);
        pawl_log(PAWL_LOG_ERROR, "configuration: not taken up, the one before stays in force: %s",
                 pawl_error_text(error));
    } else {
        pawl_config_fini(&loop->config);
        loop->config = config;
        pawl_bus_set_limits(loop->bus, &loop->config.bus);
        pawl_reload_declare(loop);
        pawl_log(PAWL_LOG_INFO, "configuration: read again");
    }
    tell_supervisor(loop);
}
