/*
 * held.h - results that were told but are not yet durable, kept so that a new scheduler can be told again.
 *
 * Runs in a worker. First in, first out by position in the settle ring; bytes are private copies.
 */
#ifndef PAWL_WORKERS_HELD_H
#define PAWL_WORKERS_HELD_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/task.h"
#include "shm/wire.h"

enum { PAWL_HELD_MAX = 4096 };

/* Which attempt, in words that outlive a scheduler. */
struct pawl_identity {
    char run_id[PAWL_NAME_BYTES];
    uint32_t step;
    uint32_t attempt;
    uint64_t instance;
    uint64_t epoch;         /* of the scheduler that gave it */
    uint64_t started_at_ns; /* CLOCK_REALTIME */
};

struct pawl_held {
    struct pawl_identity identity;
    struct pawl_settlement settlement;
    unsigned char *bytes; /* settlement.arena_bytes; NULL when none */
    uint64_t position;    /* in the settle ring; UINT64_MAX: not told to this scheduler yet */
    uint32_t number;      /* of the offer that was made for it; 0: none */
    bool due;             /* to be pushed into the present lane */
};

struct pawl_held_list {
    struct pawl_held *entry[PAWL_HELD_MAX]; /* a ring */
    uint32_t first, count;
};

void pawl_held_init(struct pawl_held_list *list);
void pawl_held_fini(struct pawl_held_list *list);

/**
 * pawl_held_add - keep a copy
 * Return: the entry (position UINT64_MAX), or NULL: full (-> wait until the oldest is durable) or no memory.
 */
struct pawl_held *pawl_held_add(struct pawl_held_list *list, const struct pawl_identity *identity,
                                const struct pawl_settlement *settlement, const void *bytes);

/* Let go of what is durable: entries in front whose position is below @durable_position. */
void pawl_held_settle(struct pawl_held_list *list, uint64_t durable_position);

/* The entry at @index from the oldest, NULL beyond the newest. */
struct pawl_held *pawl_held_at(const struct pawl_held_list *list, uint32_t index);

/* Forget @index; later ones move up. */
void pawl_held_drop(struct pawl_held_list *list, uint32_t index);

#endif
