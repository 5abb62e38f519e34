/*
 * top_view.h - `pawl top` on a terminal.
 */
#ifndef PAWL_RUNTIME_CLI_TOP_VIEW_H
#define PAWL_RUNTIME_CLI_TOP_VIEW_H

#include "runtime/cli/top_model.h"

/* What the view asks of whoever has the scheduler. */
struct pawl_top_deeds {
    void *ctx;
    /* A new look: updates @top. 0; or an error: what is shown is old, @words say why. */
    int (*look)(void *ctx, struct pawl_top *top, char words[160]);
    /* An order for a queue ("queue.pause" ...). 0 or an error; @words say what happened. */
    int (*order)(void *ctx, const char *op, const char *queue, char words[160]);
};

/** pawl_top_view - until the person quits. Return: 0; -ENOTTY (nothing can be drawn on this terminal). */
int pawl_top_view(struct pawl_top *top, const char *where, uint64_t interval_ns,
                  const struct pawl_top_deeds *deeds);

#endif
