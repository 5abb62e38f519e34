/*
 * names.c - queues by their names, and by the names of their dead-letter queues.
 *
 * Runs in: scheduler. Two hash tables of one size, chained through the queues: a declaration costs the same
 * however many queues there are.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "scheduler/bus/state.h"

enum { NAMES_ROOM = 64 };

void bus_dlq_name(const struct bus_queue *queue, char name[PAWL_NAME_BYTES + 8])
{
    if (queue->config.dlq[0])
        snprintf(name, PAWL_NAME_BYTES + 8, "%s", queue->config.dlq);
    else
        snprintf(name, PAWL_NAME_BYTES + 8, "%.60s.dlq", queue->name);
}

static struct bus_queue **chain(struct bus_queue **table, uint32_t room, const char *name)
{
    return &table[XXH3_64bits(name, strlen(name)) & (room - 1)];
}

static void link_in(struct bus_queue **named, struct bus_queue **buried, uint32_t room,
                    struct bus_queue *queue)
{
    char name[PAWL_NAME_BYTES + 8];
    struct bus_queue **head = chain(named, room, queue->name);
    queue->next_named = *head;
    *head = queue;
    if (queue->config.dead_letters)
        return;
    bus_dlq_name(queue, name);
    head = chain(buried, room, name);
    queue->next_buried = *head;
    *head = queue;
}

static int grow(struct pawl_bus *bus)
{
    uint32_t room = bus->names_room ? bus->names_room * 2 : NAMES_ROOM;
    struct bus_queue **named = calloc(room, sizeof *named), **buried = calloc(room, sizeof *buried), *next;
    if (!named || !buried) {
        free(named);
        free(buried);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < bus->names_room; i++)
        for (struct bus_queue *queue = bus->named[i]; queue; queue = next) {
            next = queue->next_named;
            link_in(named, buried, room, queue);
        }
    bus_names_fini(bus);
    bus->named = named;
    bus->buried = buried;
    bus->names_room = room;
    return 0;
}

int bus_names_add(struct pawl_bus *bus, struct bus_queue *queue)
{
    if (bus->queue_count > bus->names_room || bus->names_room == 0) {
        int error = grow(bus);
        if (error && bus->names_room == 0)
            return error; /* else the chains are longer */
    }
    link_in(bus->named, bus->buried, bus->names_room, queue);
    return 0;
}

void bus_names_remove(struct pawl_bus *bus, struct bus_queue *queue)
{
    char name[PAWL_NAME_BYTES + 8];
    if (bus->names_room == 0)
        return;
    struct bus_queue **link = chain(bus->named, bus->names_room, queue->name);
    while (*link && *link != queue)
        link = &(*link)->next_named;
    if (*link)
        *link = queue->next_named;
    bus_dlq_name(queue, name);
    link = chain(bus->buried, bus->names_room, name);
    while (*link && *link != queue)
        link = &(*link)->next_buried;
    if (*link)
        *link = queue->next_buried;
}

void bus_names_fini(struct pawl_bus *bus)
{
    free(bus->named);
    free(bus->buried);
    bus->named = bus->buried = NULL;
    bus->names_room = 0;
}

struct bus_queue *bus_queue_find(struct pawl_bus *bus, const char *name)
{
    struct bus_queue *queue = bus->names_room ? *chain(bus->named, bus->names_room, name) : NULL;
    while (queue && strcmp(queue->name, name) != 0)
        queue = queue->next_named;
    return queue;
}

struct bus_queue *bus_names_buried(const struct pawl_bus *bus, const char *name,
                                   const struct bus_queue *after)
{
    char theirs[PAWL_NAME_BYTES + 8];
    struct bus_queue *queue = after             ? after->next_buried
                              : bus->names_room ? *chain(bus->buried, bus->names_room, name)
                                                : NULL;
    for (; queue; queue = queue->next_buried) {
        bus_dlq_name(queue, theirs);
        if (strcmp(theirs, name) == 0)
            return queue;
    }
    return NULL;
}
