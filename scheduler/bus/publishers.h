/*
 * publishers.h - the last sequence number of each publisher: what it sends again after a reconnect is known.
 *
 * Bounded: when all places are taken, the one that has been idle longest gives way, if it has been so for the
 * dedupe window's age; else a new publisher is refused. The results of old publishes are not kept.
 *
 * Runs in: scheduler. Pure: the wall clock is passed in, since the table survives restarts.
 */
#ifndef PAWL_SCHEDULER_BUS_PUBLISHERS_H
#define PAWL_SCHEDULER_BUS_PUBLISHERS_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PAWL_PUBLISHERS_MAX = 65536 };

struct pawl_publisher { /* stored in snapshots */
    uint64_t id;
    uint64_t last_sequence;
    uint64_t seen_realtime_ns;
};
static_assert(sizeof(struct pawl_publisher) == 24, "snapshot format");

struct pawl_publisher_place;

struct pawl_publishers {
    uint32_t most;
    uint64_t age_ns;
    uint32_t count, room;
    struct pawl_publisher_place *places; /* a list by last use runs through them */
    uint32_t oldest, newest;
    uint32_t *index; /* open addressing: place + 1, 0: none */
    uint32_t index_room;
};

void pawl_publishers_init(struct pawl_publishers *publishers, uint32_t most, uint64_t age_ns);
void pawl_publishers_fini(struct pawl_publishers *publishers);

/** pawl_publishers_last - the last sequence that was taken from @id; 0: nothing is known of it. */
uint64_t pawl_publishers_last(const struct pawl_publishers *publishers, uint64_t id);

/**
 * pawl_publishers_note - @sequence of @id was taken; an older one than the last changes only when it was seen
 *
 * Return: 0; PAWL_E_LIMIT (no place, and none idle long enough); -ENOMEM.
 */
int pawl_publishers_note(struct pawl_publishers *publishers, uint64_t id, uint64_t sequence,
                         uint64_t realtime_ns);

/**
 * pawl_publishers_save - copy the next publishers, least lately seen first; load them with note() in that
 * order
 * @cursor: 0 first. No note() between the pieces of one walk: take all of it at one moment.
 *
 * Return: how many; 0: that was all.
 */
size_t pawl_publishers_save(const struct pawl_publishers *publishers, uint64_t *cursor,
                            struct pawl_publisher *out, size_t most);

size_t pawl_publishers_memory(const struct pawl_publishers *publishers); /* bytes allocated */

#endif
