/*
 * reload.c - takes a configuration up as a whole, or not at all.
 *
 * Runs in: scheduler.
 */
#include "scheduler/reload.h"

#include <string.h>

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
        pawl_log(PAWL_LOG_INFO, "configuration: read again");
    }
    tell_supervisor(loop);
}
