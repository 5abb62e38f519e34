/*
 * map_items.h - the tasks of a map between being read and being printed.
 *
 * An item lives from the moment its arguments were read until its result has been printed, so memory is
 * bounded by what is in flight; with -k also by what has ended out of order, of which only arguments and
 * numbers are held once the cached results pass their bound; on a resume also by what had succeeded before
 * and is not printed yet, up to a bound of its own (map_request.c).
 */
#ifndef PAWL_RUNTIME_CLI_MAP_ITEMS_H
#define PAWL_RUNTIME_CLI_MAP_ITEMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/cli/map_template.h"
#include "shm/wire.h"

enum pawl_map_item_state {
    PAWL_MAP_ITEM_SENT = 0,  /* its instance is not known yet */
    PAWL_MAP_ITEM_OPEN = 1,  /* it waits or runs */
    PAWL_MAP_ITEM_ENDED = 2, /* it has a result that is not printed yet */
    PAWL_MAP_ITEM_HAD = 3,   /* it had succeeded before: the result is to be fetched and printed */
};

/* One result as it comes; @bytes are not its own. */
struct pawl_map_arrival {
    struct pawl_wire_result fixed;
    struct pawl_wire_files files; /* of streams that are files; zeros: not known */
    const char *bytes;            /* stdout, stderr, named outputs, or paths */
    size_t n;
};

/* And as it is kept. */
struct pawl_map_result {
    struct pawl_wire_result fixed;
    struct pawl_wire_files files;
    char bytes[];
};

struct pawl_map_item {
    uint64_t number;   /* in the input, from 0 */
    uint64_t instance; /* in the run */
    enum pawl_map_item_state state;
    struct pawl_map_result *result; /* NULL: not here (any more): fetch it */
    uint32_t live_attempt;          /* --line-buffer: what has been shown of which attempt */
    uint64_t live_bytes[2];
    uint32_t arg_count;
    size_t *arg_lengths; /* arguments follow, NUL-terminated */
    const char **args;
};

struct pawl_map_items {
    struct pawl_map_item **ring; /* by number, from first to end; printed ones are NULL */
    size_t ring_room;            /* power of two */
    uint64_t first, end;
    struct pawl_map_item **table; /* by instance; open addressing */
    size_t table_room, table_used;
    size_t cached_bytes; /* of results */
    size_t item_bytes;   /* of items, without their results */
};

int pawl_map_items_init(struct pawl_map_items *items);
void pawl_map_items_fini(struct pawl_map_items *items);

/** pawl_map_items_add - the next item; its arguments are copied. Return: it, NULL without memory. */
struct pawl_map_item *pawl_map_items_add(struct pawl_map_items *items, const struct pawl_map_args *args);

/** pawl_map_items_know - the scheduler has told which instance it is. Return: 0 or -ENOMEM. */
int pawl_map_items_know(struct pawl_map_items *items, struct pawl_map_item *item, uint64_t instance);

/** pawl_map_items_had - it is this instance, which had succeeded before: find() does not know it. */
void pawl_map_items_had(struct pawl_map_item *item, uint64_t instance);

/** pawl_map_items_at, find - NULL when there is none (printed, or not known). */
struct pawl_map_item *pawl_map_items_at(const struct pawl_map_items *items, uint64_t number);
struct pawl_map_item *pawl_map_items_find(const struct pawl_map_items *items, uint64_t instance);

/** pawl_map_items_drop - it has been printed: forget it. */
void pawl_map_items_drop(struct pawl_map_items *items, struct pawl_map_item *item);

/** pawl_map_items_keep, forget_result - the cached result. keep() copies; -ENOMEM. */
int pawl_map_items_keep(struct pawl_map_items *items, struct pawl_map_item *item,
                        const struct pawl_map_arrival *arrival);
void pawl_map_items_forget_result(struct pawl_map_items *items, struct pawl_map_item *item);

/** pawl_map_item_args - as the template wants them. */
struct pawl_map_args pawl_map_item_args(const struct pawl_map_item *item);

/** pawl_map_label - the arguments with spaces between them, malloc'd: PAWL_ITEM, --tag, messages. */
char *pawl_map_label(const struct pawl_map_args *args, size_t *bytes_out);

#endif
