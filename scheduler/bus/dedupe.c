/*
 * dedupe.c - a deque of entries and an index in shards. Runs in: scheduler. Reads no clock.
 *
 * A slot of the index holds an entry's position modulo 2^32 - 1, plus 1: the window is smaller than that, so
 * it names one entry. Each shard is a table of its own (linear probing, no tombstones) of some 4096 entries,
 * so the one that grows moves that many and not a hundred million.
 */
#include "scheduler/bus/dedupe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "shm/error.h"

enum { BLOCK = 1024, SHARD = 4096, SLOTS_MIN = 8, AGED_PER_INSERT = 4 };
#define MODULUS UINT64_C(0xffffffff)

struct pawl_dedupe_shard {
    uint32_t *slots; /* 0: free */
    uint32_t room;   /* a power of two, or 0 */
    uint32_t used;
};

static int check_bounds(uint32_t count_max, uint64_t age_ns)
{
    bool good =
        count_max > 0 && count_max <= PAWL_DEDUPE_COUNT_MAX && age_ns > 0 && age_ns <= PAWL_DEDUPE_AGE_NS_MAX;
    return good ? 0 : PAWL_E_LIMIT;
}

int pawl_dedupe_init(struct pawl_dedupe *dedupe, uint32_t count_max, uint64_t age_ns)
{
    *dedupe = (struct pawl_dedupe){.count_max = count_max, .age_ns = age_ns, .shard_count = 1};
    int error = check_bounds(count_max, age_ns);
    if (error)
        return error;
    while (dedupe->shard_count < count_max / SHARD)
        dedupe->shard_count *= 2;
    dedupe->shards = calloc(dedupe->shard_count, sizeof *dedupe->shards);
    return dedupe->shards ? 0 : -ENOMEM;
}

static struct pawl_dedupe_entry **block_of(const struct pawl_dedupe *dedupe, uint64_t position)
{
    return &dedupe->blocks[position / BLOCK & (dedupe->blocks_room - 1)];
}

static struct pawl_dedupe_entry *entry_at(const struct pawl_dedupe *dedupe, uint64_t position)
{
    return &(*block_of(dedupe, position))[position % BLOCK];
}

void pawl_dedupe_fini(struct pawl_dedupe *dedupe)
{
    for (size_t i = 0; i < dedupe->blocks_room; i++)
        free(dedupe->blocks[i]);
    for (uint32_t i = 0; dedupe->shards && i < dedupe->shard_count; i++)
        free(dedupe->shards[i].slots);
    free(dedupe->blocks);
    free(dedupe->shards);
    *dedupe = (struct pawl_dedupe){0};
}

int pawl_dedupe_configure(struct pawl_dedupe *dedupe, uint32_t count_max, uint64_t age_ns)
{
    int error = check_bounds(count_max, age_ns);
    if (error)
        return error;
    dedupe->count_max = count_max; /* the shards stay as many: with a larger bound each holds more */
    dedupe->age_ns = age_ns;
    return 0;
}

struct pawl_dedupe_key pawl_dedupe_key(uint64_t scope, const void *key, size_t key_bytes)
{
    XXH128_hash_t hash = XXH3_128bits_withSeed(key, key_bytes, scope);
    return (struct pawl_dedupe_key){.low = hash.low64, .high = hash.high64};
}

/* ---- index ---- */

static uint32_t slot_value(uint64_t position)
{
    return (uint32_t)(position % MODULUS) + 1;
}

static const struct pawl_dedupe_entry *entry_of(const struct pawl_dedupe *dedupe, uint32_t value)
{
    uint64_t from = dedupe->first % MODULUS, want = value - 1;
    return entry_at(dedupe, dedupe->first + (want >= from ? want - from : want + MODULUS - from));
}

static struct pawl_dedupe_shard *shard_of(const struct pawl_dedupe *dedupe, struct pawl_dedupe_key key)
{
    return &dedupe->shards[key.low & (dedupe->shard_count - 1)];
}

/* The slot of this key, or the free one where it would go; UINT32_MAX: the shard has no slots. */
static uint32_t slot_for(const struct pawl_dedupe *dedupe, const struct pawl_dedupe_shard *shard,
                         struct pawl_dedupe_key key)
{
    if (shard->room == 0)
        return UINT32_MAX;
    uint32_t mask = shard->room - 1, at = (uint32_t)key.high & mask;
    for (; shard->slots[at]; at = (at + 1) & mask) {
        const struct pawl_dedupe_entry *entry = entry_of(dedupe, shard->slots[at]);
        if (entry->key.low == key.low && entry->key.high == key.high)
            break;
    }
    return at;
}

static int resize(const struct pawl_dedupe *dedupe, struct pawl_dedupe_shard *shard, uint32_t room)
{
    uint32_t *slots = calloc(room, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    for (uint32_t i = 0; i < shard->room; i++) {
        if (!shard->slots[i])
            continue;
        uint32_t at = (uint32_t)entry_of(dedupe, shard->slots[i])->key.high & (room - 1);
        while (slots[at])
            at = (at + 1) & (room - 1);
        slots[at] = shard->slots[i];
    }
    free(shard->slots);
    shard->slots = slots;
    shard->room = room;
    return 0;
}

/* Those behind it on its chain close up, so that no search stops short. */
static void free_slot(const struct pawl_dedupe *dedupe, struct pawl_dedupe_shard *shard, uint32_t hole)
{
    uint32_t mask = shard->room - 1;
    for (uint32_t at = (hole + 1) & mask; shard->slots[at]; at = (at + 1) & mask) {
        uint32_t home = (uint32_t)entry_of(dedupe, shard->slots[at])->key.high & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            shard->slots[hole] = shard->slots[at];
            hole = at;
        }
    }
    shard->slots[hole] = 0;
    shard->used--;
    /* An eighth is used: half is given back. Failing to is no harm. */
    if (shard->room > SLOTS_MIN && shard->used < shard->room / 8)
        (void)resize(dedupe, shard, shard->room / 2);
}

/* ---- deque ---- */

static bool is_aged(const struct pawl_dedupe *dedupe, const struct pawl_dedupe_entry *entry, uint64_t now_ns)
{
    return now_ns >= entry->realtime_ns && now_ns - entry->realtime_ns >= dedupe->age_ns;
}

static void drop_first(struct pawl_dedupe *dedupe)
{
    const struct pawl_dedupe_entry *entry = entry_at(dedupe, dedupe->first);
    struct pawl_dedupe_shard *shard = shard_of(dedupe, entry->key);
    uint32_t at = slot_for(dedupe, shard, entry->key);
    if (shard->slots[at] == slot_value(dedupe->first)) /* else a newer one has the key */
        free_slot(dedupe, shard, at);
    if (++dedupe->first % BLOCK == 0 || dedupe->first == dedupe->next) {
        struct pawl_dedupe_entry **block = block_of(dedupe, dedupe->first - 1);
        free(*block);
        *block = NULL;
    }
}

/* There is memory for the entry at `next`. */
static int make_block(struct pawl_dedupe *dedupe)
{
    uint64_t blocks = dedupe->next / BLOCK - dedupe->first / BLOCK + 1;
    if (blocks > dedupe->blocks_room) {
        size_t room = dedupe->blocks_room ? dedupe->blocks_room * 2 : 8;
        struct pawl_dedupe_entry **ring = calloc(room, sizeof(struct pawl_dedupe_entry *));
        if (!ring)
            return -ENOMEM;
        for (uint64_t n = dedupe->first / BLOCK; dedupe->blocks && n < dedupe->next / BLOCK; n++)
            ring[n & (room - 1)] = dedupe->blocks[n & (dedupe->blocks_room - 1)];
        free(dedupe->blocks);
        dedupe->blocks = ring;
        dedupe->blocks_room = room;
    }
    struct pawl_dedupe_entry **block = block_of(dedupe, dedupe->next);
    if (!*block)
        *block = malloc(BLOCK * sizeof **block);
    return *block ? 0 : -ENOMEM;
}

const struct pawl_dedupe_entry *pawl_dedupe_find(const struct pawl_dedupe *dedupe, struct pawl_dedupe_key key,
                                                 uint64_t now_realtime_ns)
{
    const struct pawl_dedupe_shard *shard = shard_of(dedupe, key);
    uint32_t at = slot_for(dedupe, shard, key);
    if (at == UINT32_MAX || !shard->slots[at])
        return NULL;
    const struct pawl_dedupe_entry *entry = entry_of(dedupe, shard->slots[at]);
    return is_aged(dedupe, entry, now_realtime_ns) ? NULL : entry;
}

size_t pawl_dedupe_expire(struct pawl_dedupe *dedupe, uint64_t now_realtime_ns, size_t most)
{
    size_t n = 0;
    for (; n < most && dedupe->first < dedupe->next; n++) {
        if (!is_aged(dedupe, entry_at(dedupe, dedupe->first), now_realtime_ns))
            break;
        drop_first(dedupe);
    }
    return n;
}

int pawl_dedupe_insert(struct pawl_dedupe *dedupe, const struct pawl_dedupe_entry *entry)
{
    struct pawl_dedupe_entry added = *entry; /* it may be one of ours */
    struct pawl_dedupe_shard *shard = shard_of(dedupe, added.key);
    uint32_t at = slot_for(dedupe, shard, added.key);
    if (at != UINT32_MAX && shard->slots[at] &&
        entry_of(dedupe, shard->slots[at])->event_id == added.event_id)
        return 0;
    if ((shard->used + 1) * 4 > shard->room * 3 &&
        resize(dedupe, shard, shard->room ? shard->room * 2 : SLOTS_MIN) != 0)
        return -ENOMEM;
    pawl_dedupe_expire(dedupe, added.realtime_ns, AGED_PER_INSERT);
    /* Twice at most: a bound that was lowered is approached by one an insertion. */
    for (int i = 0; i < 2 && pawl_dedupe_count(dedupe) >= dedupe->count_max; i++)
        drop_first(dedupe);
    if (make_block(dedupe) != 0)
        return -ENOMEM;
    at = slot_for(dedupe, shard, added.key); /* what was dropped may have moved it */
    shard->used += shard->slots[at] == 0;
    shard->slots[at] = slot_value(dedupe->next);
    *entry_at(dedupe, dedupe->next++) = added;
    return 0;
}

size_t pawl_dedupe_save(const struct pawl_dedupe *dedupe, uint64_t *cursor, struct pawl_dedupe_entry *out,
                        size_t most)
{
    uint64_t at = *cursor > dedupe->first ? *cursor : dedupe->first;
    size_t n = 0;
    for (; n < most && at < dedupe->next; at++)
        if (!entry_at(dedupe, at)->memory)
            out[n++] = *entry_at(dedupe, at);
    *cursor = at;
    return n;
}

size_t pawl_dedupe_memory(const struct pawl_dedupe *dedupe)
{
    size_t bytes =
        dedupe->blocks_room * sizeof *dedupe->blocks + dedupe->shard_count * sizeof *dedupe->shards;
    for (size_t i = 0; i < dedupe->blocks_room; i++)
        bytes += dedupe->blocks[i] ? BLOCK * sizeof **dedupe->blocks : 0;
    for (uint32_t i = 0; i < dedupe->shard_count; i++)
        bytes += dedupe->shards[i].room * sizeof *dedupe->shards[i].slots;
    return bytes;
}
