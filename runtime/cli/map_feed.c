/*
 * map_feed.c - from arguments to ITEMS messages.
 *
 * Runs in: the command. Reads the input when it is ready, never waits for it.
 */
#include "runtime/cli/map_feed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/session.h"
#include "shm/error.h"
#include "shm/task.h"

int pawl_map_feed_init(struct pawl_map_feed *feed, const char *run_id)
{
    feed->room = 64 << 10;
    feed->bytes = malloc(feed->room);
    if (feed->bytes == NULL)
        return -ENOMEM;
    struct pawl_wire_items *fixed = (void *)feed->bytes;
    memset(fixed, 0, sizeof *fixed);
    pawl_session_copy_name(fixed->run_id, run_id);
    feed->used = sizeof *fixed;
    return 0;
}

void pawl_map_feed_fini(struct pawl_map_feed *feed)
{
    free(feed->bytes);
    feed->bytes = NULL;
}

static int make_room(struct pawl_map_feed *feed, size_t bytes)
{
    if (feed->used + bytes > PAWL_WIRE_BYTES_MAX)
        return PAWL_E_LIMIT;
    if (feed->room - feed->used >= bytes)
        return 0;
    size_t room = (feed->used + bytes) * 2;
    char *more = realloc(feed->bytes, room);
    if (more == NULL)
        return -ENOMEM;
    feed->bytes = more;
    feed->room = room;
    return 0;
}

static int pack(struct pawl_map_feed *feed, const struct pawl_map_args *args, uint64_t number)
{
    struct pawl_map_command command;
    size_t label_bytes = 0;
    char *label = pawl_map_label(args, &label_bytes);
    int error =
        label == NULL ? -ENOMEM : pawl_map_template_expand(feed->map_template, args, number + 1, &command);
    if (error != 0)
        goto free_label;
    struct pawl_task_spec spec = {
        .kind = PAWL_TASK_EXEC,
        .run_id = ((const struct pawl_wire_items *)(const void *)feed->bytes)->run_id,
        .step = "map",
        .item = label,
        .item_bytes = label_bytes,
        .argv = command.argv,
        .argc = command.argc,
        .stdin_kind = PAWL_STDIN_NULL,
        .timeout_ns = feed->options->timeout_ns,
        .grace_ns = feed->options->grace_ns,
        .patches = command.patches,
        .patch_count = command.patch_count,
    };
    size_t bytes = pawl_task_packed_bytes(&spec);
    struct pawl_wire_item item = {.task_bytes = (uint32_t)bytes};
    error = bytes == 0 ? PAWL_E_LIMIT : make_room(feed, sizeof item + bytes);
    if (error != 0)
        goto free_label;
    pawl_map_template_task_hash(feed->map_template, args, item.hash);
    int64_t packed = pawl_task_pack(&spec, feed->bytes + feed->used + sizeof item, bytes);
    error = packed < 0 ? (int)packed : 0;
    if (error == 0) {
        memcpy(feed->bytes + feed->used, &item, sizeof item);
        feed->used += sizeof item + bytes;
        feed->count++;
    }
free_label:
    free(label);
    return error;
}

int pawl_map_feed_gather(struct pawl_map_feed *feed, uint32_t most)
{
    feed->input_waits = false;
    while (!feed->input_ended && feed->count < most && feed->used < PAWL_MAP_BATCH_BYTES) {
        struct pawl_map_args args;
        int got = pawl_map_input_next(feed->input, &args);
        if (got == -EAGAIN) {
            feed->input_waits = true;
            break;
        }
        if (got < 0)
            return got;
        if (got == 0) {
            feed->input_ended = true;
            break;
        }
        if (feed->count == 0)
            feed->first = feed->items->end;
        int error = pack(feed, &args, feed->items->end);
        if (error == 0 && pawl_map_items_add(feed->items, &args) == NULL)
            error = -ENOMEM;
        if (error != 0)
            return error;
    }
    struct pawl_wire_items *fixed = (void *)feed->bytes;
    fixed->first = feed->first;
    fixed->count = feed->count;
    return 0;
}

void pawl_map_feed_sent(struct pawl_map_feed *feed)
{
    feed->used = sizeof(struct pawl_wire_items);
    feed->count = 0;
}
