/*
 * map_items.c - the tasks of a map between being read and being printed.
 *
 * Runs in: the command. Pure memory.
 */
#include "runtime/cli/map_items.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A slot of the table that once held something: a search goes on past it. */
static struct pawl_map_item gone;

int pawl_map_items_init(struct pawl_map_items *items)
{
    memset(items, 0, sizeof *items);
    items->ring_room = items->table_room = 1024;
    items->ring = calloc(items->ring_room, sizeof *items->ring);
    items->table = calloc(items->table_room, sizeof *items->table);
    if (items->ring != NULL && items->table != NULL)
        return 0;
    pawl_map_items_fini(items);
    return -ENOMEM;
}

void pawl_map_items_fini(struct pawl_map_items *items)
{
    for (uint64_t number = items->first; items->ring != NULL && number < items->end; number++) {
        struct pawl_map_item *item = items->ring[number & (items->ring_room - 1)];
        if (item != NULL)
            free(item->result);
        free(item);
    }
    free(items->ring);
    free(items->table);
    memset(items, 0, sizeof *items);
}

static size_t bytes_of(uint32_t count, const size_t *lengths)
{
    size_t bytes = sizeof(struct pawl_map_item) + count * (sizeof(size_t) + sizeof(char *));
    for (uint32_t i = 0; i < count; i++)
        bytes += lengths[i] + 1;
    return bytes;
}

static struct pawl_map_item *make_item(const struct pawl_map_args *args)
{
    struct pawl_map_item *item = calloc(1, bytes_of(args->count, args->lengths));
    if (item == NULL)
        return NULL;
    item->arg_count = args->count;
    item->arg_lengths = (size_t *)(void *)(item + 1);
    item->args = (const char **)(void *)(item->arg_lengths + args->count);
    char *at = (char *)(item->args + args->count);
    for (uint32_t i = 0; i < args->count; i++) {
        if (args->lengths[i] != 0)
            memcpy(at, args->values[i], args->lengths[i]);
        item->args[i] = at;
        item->arg_lengths[i] = args->lengths[i];
        at += args->lengths[i] + 1;
    }
    return item;
}

static int grow_ring(struct pawl_map_items *items)
{
    size_t room = items->ring_room * 2;
    struct pawl_map_item **ring = calloc(room, sizeof *ring);
    if (ring == NULL)
        return -ENOMEM;
    for (uint64_t number = items->first; number < items->end; number++)
        ring[number & (room - 1)] = items->ring[number & (items->ring_room - 1)];
    free(items->ring);
    items->ring = ring;
    items->ring_room = room;
    return 0;
}

struct pawl_map_item *pawl_map_items_add(struct pawl_map_items *items, const struct pawl_map_args *args)
{
    if (items->end - items->first == items->ring_room && grow_ring(items) != 0)
        return NULL;
    struct pawl_map_item *item = make_item(args);
    if (item == NULL)
        return NULL;
    item->number = items->end;
    items->item_bytes += bytes_of(args->count, args->lengths);
    items->ring[items->end++ & (items->ring_room - 1)] = item;
    return item;
}

/* ---- by instance ---- */

static size_t home_of(uint64_t instance, size_t room)
{
    return (size_t)(instance * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (room - 1);
}

static void put(struct pawl_map_item **table, size_t room, struct pawl_map_item *item)
{
    size_t at = home_of(item->instance, room);
    while (table[at] != NULL && table[at] != &gone)
        at = (at + 1) & (room - 1);
    table[at] = item;
}

/* Room for one more, and the tombstones swept out. */
static int rebuild_table(struct pawl_map_items *items)
{
    size_t living = 0;
    for (size_t i = 0; i < items->table_room; i++)
        living += items->table[i] != NULL && items->table[i] != &gone;
    size_t room = 1024;
    while (room < living * 4)
        room *= 2;
    struct pawl_map_item **table = calloc(room, sizeof *table);
    if (table == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < items->table_room; i++)
        if (items->table[i] != NULL && items->table[i] != &gone)
            put(table, room, items->table[i]);
    free(items->table);
    items->table = table;
    items->table_room = room;
    items->table_used = living;
    return 0;
}

int pawl_map_items_know(struct pawl_map_items *items, struct pawl_map_item *item, uint64_t instance)
{
    if (items->table_used * 4 >= items->table_room * 3 && rebuild_table(items) != 0)
        return -ENOMEM;
    item->instance = instance;
    item->state = PAWL_MAP_ITEM_OPEN;
    put(items->table, items->table_room, item);
    items->table_used++;
    return 0;
}

void pawl_map_items_had(struct pawl_map_item *item, uint64_t instance)
{
    item->instance = instance;
    item->state = PAWL_MAP_ITEM_HAD;
}

static size_t slot_of(const struct pawl_map_items *items, uint64_t instance)
{
    size_t at = home_of(instance, items->table_room);
    while (items->table[at] != NULL) {
        if (items->table[at] != &gone && items->table[at]->instance == instance)
            return at;
        at = (at + 1) & (items->table_room - 1);
    }
    return SIZE_MAX;
}

struct pawl_map_item *pawl_map_items_find(const struct pawl_map_items *items, uint64_t instance)
{
    size_t at = slot_of(items, instance);
    return at == SIZE_MAX ? NULL : items->table[at];
}

struct pawl_map_item *pawl_map_items_at(const struct pawl_map_items *items, uint64_t number)
{
    if (number < items->first || number >= items->end)
        return NULL;
    return items->ring[number & (items->ring_room - 1)];
}

void pawl_map_items_drop(struct pawl_map_items *items, struct pawl_map_item *item)
{
    bool in_table = item->state == PAWL_MAP_ITEM_OPEN || item->state == PAWL_MAP_ITEM_ENDED;
    size_t at = in_table ? slot_of(items, item->instance) : SIZE_MAX;
    if (at != SIZE_MAX)
        items->table[at] = &gone;
    pawl_map_items_forget_result(items, item);
    items->item_bytes -= bytes_of(item->arg_count, item->arg_lengths);
    items->ring[item->number & (items->ring_room - 1)] = NULL;
    free(item);
    while (items->first < items->end && items->ring[items->first & (items->ring_room - 1)] == NULL)
        items->first++;
}

/* ---- results ---- */

int pawl_map_items_keep(struct pawl_map_items *items, struct pawl_map_item *item,
                        const struct pawl_map_arrival *arrival)
{
    struct pawl_map_result *result = malloc(sizeof *result + arrival->n);
    if (result == NULL)
        return -ENOMEM;
    pawl_map_items_forget_result(items, item);
    result->fixed = arrival->fixed;
    result->files = arrival->files;
    if (arrival->n != 0)
        memcpy(result->bytes, arrival->bytes, arrival->n);
    item->result = result;
    items->cached_bytes += sizeof *result + arrival->n;
    return 0;
}

void pawl_map_items_forget_result(struct pawl_map_items *items, struct pawl_map_item *item)
{
    if (item->result == NULL)
        return;
    const struct pawl_wire_result *fixed = &item->result->fixed;
    items->cached_bytes -=
        sizeof *item->result + (size_t)fixed->stdout_bytes + fixed->stderr_bytes + fixed->named_bytes;
    free(item->result);
    item->result = NULL;
}

struct pawl_map_args pawl_map_item_args(const struct pawl_map_item *item)
{
    return (struct pawl_map_args){item->arg_count, item->args, item->arg_lengths};
}

char *pawl_map_label(const struct pawl_map_args *args, size_t *bytes_out)
{
    size_t n = 0, used = 0;
    for (uint32_t i = 0; i < args->count; i++)
        n += args->lengths[i] + 1;
    char *label = malloc(n + 1);
    if (label == NULL)
        return NULL;
    for (uint32_t i = 0; i < args->count; i++) {
        if (i != 0)
            label[used++] = ' ';
        if (args->lengths[i] != 0)
            memcpy(label + used, args->values[i], args->lengths[i]);
        used += args->lengths[i];
    }
    label[used] = '\0';
    *bytes_out = used;
    return label;
}
