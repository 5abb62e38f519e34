/*
 * dedupe.h - the keys that publishers gave lately, and the event that each made: a window by count and age.
 *
 * Oldest out first. An entry is 32 bytes in a deque of blocks, and about 8 in a hash index that is cut into
 * shards, so that growing one never stops the scheduler for long. Memory follows the number of entries.
 *
 * Runs in: scheduler. Pure: the wall clock is passed in, since the window survives restarts.
 */
#ifndef PAWL_SCHEDULER_BUS_DEDUPE_H
#define PAWL_SCHEDULER_BUS_DEDUPE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PAWL_DEDUPE_COUNT_DEFAULT = 1000000,
    PAWL_DEDUPE_COUNT_MAX = 100000000,
};
#define PAWL_DEDUPE_AGE_NS_DEFAULT (UINT64_C(600) * 1000000000)
#define PAWL_DEDUPE_AGE_NS_MAX     (UINT64_C(7) * 86400 * 1000000000)

struct pawl_dedupe_key {
    uint64_t low, high;
};

struct pawl_dedupe_entry { /* stored in snapshots */
    struct pawl_dedupe_key key;
    uint64_t event_id : 63;
    uint64_t memory : 1;  /* the event is in memory only: not in snapshots */
    uint64_t realtime_ns; /* when it was published */
};
static_assert(sizeof(struct pawl_dedupe_entry) == 32, "snapshot format");

struct pawl_dedupe_shard;

struct pawl_dedupe {
    uint32_t count_max;
    uint32_t shard_count; /* a power of two */
    uint64_t age_ns;
    uint64_t first, next;              /* positions of the entries that are there; they run for ever */
    struct pawl_dedupe_entry **blocks; /* a ring of pointers by block number */
    size_t blocks_room;
    struct pawl_dedupe_shard *shards;
};

/** pawl_dedupe_init - 0; PAWL_E_LIMIT (a bound is 0 or above its maximum); -ENOMEM. */
int pawl_dedupe_init(struct pawl_dedupe *dedupe, uint32_t count_max, uint64_t age_ns);
void pawl_dedupe_fini(struct pawl_dedupe *dedupe);

/** pawl_dedupe_configure - other bounds; what is beyond them goes with the next insertions. 0; PAWL_E_LIMIT.
 */
int pawl_dedupe_configure(struct pawl_dedupe *dedupe, uint32_t count_max, uint64_t age_ns);

/** pawl_dedupe_key - 128 bits of XXH3 of a key; @scope: whose key it is (0: everybody's). */
struct pawl_dedupe_key pawl_dedupe_key(uint64_t scope, const void *key, size_t key_bytes);

/** pawl_dedupe_find - was this key published within the window? Its entry, until the next insertion; NULL. */
const struct pawl_dedupe_entry *pawl_dedupe_find(const struct pawl_dedupe *dedupe, struct pawl_dedupe_key key,
                                                 uint64_t now_realtime_ns);

/**
 * pawl_dedupe_insert - remember; the newest of a key counts; the same entry twice is as once
 *
 * Makes room by count, and drops up to four that are too old. Return: 0; -ENOMEM (nothing is remembered).
 */
int pawl_dedupe_insert(struct pawl_dedupe *dedupe, const struct pawl_dedupe_entry *entry);

/** pawl_dedupe_expire - drop up to @most that are too old. Return: how many were. */
size_t pawl_dedupe_expire(struct pawl_dedupe *dedupe, uint64_t now_realtime_ns, size_t most);

static inline uint64_t pawl_dedupe_count(const struct pawl_dedupe *dedupe)
{
    return dedupe->next - dedupe->first;
}

/**
 * pawl_dedupe_save - copy the next entries that are not of memory only, oldest first; load them with
 * pawl_dedupe_insert() in that order
 * @cursor: 0 first; what is inserted or dropped between pieces does not disturb it
 *
 * Return: how many; 0: that was all.
 */
size_t pawl_dedupe_save(const struct pawl_dedupe *dedupe, uint64_t *cursor, struct pawl_dedupe_entry *out,
                        size_t most);

size_t pawl_dedupe_memory(const struct pawl_dedupe *dedupe); /* bytes allocated */

#endif
