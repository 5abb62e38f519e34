/*
 * held.c - results that were told but are not yet durable. Runs in: worker. Performs no I/O.
 */
#include "workers/held.h"

#include <stdlib.h>
#include <string.h>

static struct pawl_held **slot_at(const struct pawl_held_list *list, uint32_t index)
{
    return (struct pawl_held **)(uintptr_t)&list->entry[(list->first + index) % PAWL_HELD_MAX];
}

static void free_held(struct pawl_held *held)
{
    free(held->bytes);
    free(held);
}

void pawl_held_init(struct pawl_held_list *list)
{
    memset(list, 0, sizeof *list);
}

void pawl_held_fini(struct pawl_held_list *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        free_held(*slot_at(list, i));
    pawl_held_init(list);
}

struct pawl_held *pawl_held_add(struct pawl_held_list *list, const struct pawl_identity *identity,
                                const struct pawl_settlement *settlement, const void *bytes)
{
    if (list->count == PAWL_HELD_MAX)
        return NULL;
    struct pawl_held *held = malloc(sizeof *held);
    unsigned char *copy = settlement->arena_bytes ? malloc(settlement->arena_bytes) : NULL;
    if (!held || (settlement->arena_bytes && !copy)) {
        free(held);
        free(copy);
        return NULL;
    }
    if (copy)
        memcpy(copy, bytes, settlement->arena_bytes);
    *held = (struct pawl_held){
        .identity = *identity, .settlement = *settlement, .bytes = copy, .position = UINT64_MAX};
    *slot_at(list, list->count++) = held;
    return held;
}

void pawl_held_settle(struct pawl_held_list *list, uint64_t durable_position)
{
    while (list->count > 0) {
        struct pawl_held *oldest = *slot_at(list, 0);
        if (oldest->position == UINT64_MAX || oldest->position >= durable_position)
            break;
        free_held(oldest);
        list->first = (list->first + 1) % PAWL_HELD_MAX;
        list->count--;
    }
}

struct pawl_held *pawl_held_at(const struct pawl_held_list *list, uint32_t index)
{
    return index < list->count ? *slot_at(list, index) : NULL;
}

void pawl_held_drop(struct pawl_held_list *list, uint32_t index)
{
    free_held(*slot_at(list, index));
    for (uint32_t i = index; i + 1 < list->count; i++)
        *slot_at(list, i) = *slot_at(list, i + 1);
    list->count--;
}
