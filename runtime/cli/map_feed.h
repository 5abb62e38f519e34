/*
 * map_feed.h - from arguments to ITEMS messages.
 */
#ifndef PAWL_RUNTIME_CLI_MAP_FEED_H
#define PAWL_RUNTIME_CLI_MAP_FEED_H

#include "runtime/cli/map_input.h"
#include "runtime/cli/map_items.h"
#include "runtime/cli/map_run.h"

enum {
    PAWL_MAP_BATCH_ITEMS = 512,           /* of one message */
    PAWL_MAP_CATCH_UP_BATCH_ITEMS = 4096, /* while nothing in them is new: each message waits for a sync */
    PAWL_MAP_BATCH_BYTES = 1 << 20,
};

/* The message being made, and then the one that is under way. */
struct pawl_map_feed {
    const struct pawl_map_options *options;
    struct pawl_map_template *map_template;
    struct pawl_map_input *input;
    struct pawl_map_items *items;
    bool input_ended, input_waits; /* it has nothing now: poll it */
    char *bytes;                   /* pawl_wire_items, then the items */
    size_t used, room;
    uint32_t count;
    uint64_t first;
};

int pawl_map_feed_init(struct pawl_map_feed *feed, const char *run_id);
void pawl_map_feed_fini(struct pawl_map_feed *feed);

/**
 * pawl_map_feed_gather - add items to the message up to @most, as long as the input has some at once
 *
 * Return: 0; an error of pawl_map_input_next(); PAWL_E_LIMIT (a task is too large); -ENOMEM.
 */
int pawl_map_feed_gather(struct pawl_map_feed *feed, uint32_t most);

/** pawl_map_feed_sent - its answer is here: begin the next message. */
void pawl_map_feed_sent(struct pawl_map_feed *feed);

#endif
