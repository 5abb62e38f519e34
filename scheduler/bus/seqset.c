/*
 * seqset.c - bitmaps in chunks, in a ring of pointers. Runs in: scheduler. Pure.
 *
 * In the chunk that holds the head, bits below the head are always set, so that "all set" means that it is
 * done.
 */
#include "scheduler/bus/seqset.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

enum { WORDS = PAWL_SEQSET_CHUNK / 64, RING_MIN = 8 };

struct pawl_seqset_chunk {
    uint32_t count; /* bits set */
    uint64_t word[WORDS];
};

/* The mark of a chunk that is settled as a whole: never read or written through. */
static struct pawl_seqset_chunk all_of_it;
#define ALL (&all_of_it)

static uint64_t chunk_of(uint64_t seq)
{
    return seq / PAWL_SEQSET_CHUNK;
}

static uint32_t bit_of(uint64_t seq)
{
    return (uint32_t)(seq % PAWL_SEQSET_CHUNK);
}

void pawl_seqset_init(struct pawl_seqset *set, uint64_t head)
{
    *set = (struct pawl_seqset){.head = head, .first = chunk_of(head)};
}

void pawl_seqset_fini(struct pawl_seqset *set)
{
    for (size_t i = 0; i < set->ring_count; i++) {
        struct pawl_seqset_chunk *chunk = set->ring[(set->ring_start + i) & (set->ring_room - 1)];
        if (chunk != ALL)
            free(chunk);
    }
    free(set->ring);
    free(set->spare);
    *set = (struct pawl_seqset){0};
}

/* Below ring_count from the first. */
static struct pawl_seqset_chunk **slot_of(const struct pawl_seqset *set, uint64_t chunk)
{
    assert(chunk - set->first < set->ring_count);
    return &set->ring[(set->ring_start + (size_t)(chunk - set->first)) & (set->ring_room - 1)];
}

static struct pawl_seqset_chunk *chunk_at(const struct pawl_seqset *set, uint64_t chunk)
{
    return chunk - set->first < set->ring_count ? *slot_of(set, chunk) : NULL;
}

/* The ring reaches up to this chunk; new ones are empty. */
static int reach(struct pawl_seqset *set, uint64_t chunk)
{
    uint64_t need = chunk - set->first + 1;
    if (need > set->ring_room) {
        size_t room = set->ring_room ? set->ring_room : RING_MIN;
        while (room < need) {
            if (room > SIZE_MAX / 4 / sizeof *set->ring)
                return -ENOMEM;
            room *= 2;
        }
        struct pawl_seqset_chunk **ring = malloc(room * sizeof *ring);
        if (!ring)
            return -ENOMEM;
        for (size_t i = 0; i < set->ring_count; i++)
            ring[i] = set->ring[(set->ring_start + i) & (set->ring_room - 1)];
        free(set->ring);
        set->ring = ring;
        set->ring_room = room;
        set->ring_start = 0;
    }
    while (set->ring_count < need)
        set->ring[(set->ring_start + set->ring_count++) & (set->ring_room - 1)] = NULL;
    return 0;
}

static void set_bits(struct pawl_seqset_chunk *chunk, uint32_t first, uint32_t last)
{
    for (uint32_t w = first / 64; w <= last / 64; w++) {
        uint64_t mask = UINT64_MAX;
        if (w == first / 64)
            mask &= UINT64_MAX << first % 64;
        if (w == last / 64)
            mask &= UINT64_MAX >> (63 - last % 64);
        chunk->count += (uint32_t)__builtin_popcountll(mask & ~chunk->word[w]);
        chunk->word[w] |= mask;
    }
}

/* A bitmap where there was none. */
static int make_chunk(struct pawl_seqset *set, uint64_t number)
{
    struct pawl_seqset_chunk **slot = slot_of(set, number);
    if (*slot)
        return 0;
    struct pawl_seqset_chunk *chunk = set->spare ? set->spare : malloc(sizeof *chunk);
    if (!chunk)
        return -ENOMEM;
    set->spare = NULL;
    memset(chunk, 0, sizeof *chunk);
    if (number == set->first && bit_of(set->head) > 0)
        set_bits(chunk, 0, bit_of(set->head) - 1);
    *slot = chunk;
    return 0;
}

static void drop_chunk(struct pawl_seqset *set, struct pawl_seqset_chunk *chunk)
{
    if (chunk == ALL)
        return;
    if (set->spare)
        free(chunk);
    else
        set->spare = chunk;
}

/* The head goes past all that is settled; chunks below it go. Each bit is passed once in the set's life. */
static void advance(struct pawl_seqset *set)
{
    while (set->ring_count > 0) {
        struct pawl_seqset_chunk *chunk = *slot_of(set, set->first);
        uint32_t at = bit_of(set->head), stop = PAWL_SEQSET_CHUNK;
        if (!chunk)
            return;
        if (chunk != ALL && chunk->count < PAWL_SEQSET_CHUNK) {
            uint32_t w = at / 64;
            while (chunk->word[w] == UINT64_MAX)
                w++;
            stop = w * 64 + (uint32_t)__builtin_ctzll(~chunk->word[w]);
        }
        set->count -= stop - at;
        set->head += stop - at;
        if (stop < PAWL_SEQSET_CHUNK)
            return;
        drop_chunk(set, chunk);
        set->first++;
        set->ring_start = (set->ring_start + 1) & (set->ring_room - 1);
        set->ring_count--;
    }
}

bool pawl_seqset_has(const struct pawl_seqset *set, uint64_t seq)
{
    if (seq < set->head)
        return true;
    const struct pawl_seqset_chunk *chunk = chunk_at(set, chunk_of(seq));
    return chunk && (chunk == ALL || (chunk->word[bit_of(seq) / 64] >> (seq % 64) & 1) != 0);
}

int pawl_seqset_add(struct pawl_seqset *set, uint64_t seq)
{
    return (int)pawl_seqset_add_range(set, seq, seq);
}

/* Bits of one chunk, whose bitmap is there unless they are all that is left of it. */
static int64_t settle(struct pawl_seqset *set, uint64_t number, uint32_t first, uint32_t last)
{
    struct pawl_seqset_chunk **slot = slot_of(set, number);
    uint32_t below = number == set->first ? bit_of(set->head) : 0;
    if (*slot == ALL)
        return 0;
    if (first <= below && last == PAWL_SEQSET_CHUNK - 1) {
        int64_t added = PAWL_SEQSET_CHUNK - (*slot ? (*slot)->count : below);
        if (*slot)
            drop_chunk(set, *slot);
        *slot = ALL;
        return added;
    }
    uint32_t before = (*slot)->count;
    set_bits(*slot, first, last);
    int64_t added = (*slot)->count - before;
    if ((*slot)->count == PAWL_SEQSET_CHUNK) {
        drop_chunk(set, *slot);
        *slot = ALL;
    }
    return added;
}

static bool is_rest(const struct pawl_seqset *set, uint64_t number, uint32_t first, uint32_t last)
{
    uint32_t below = number == set->first ? bit_of(set->head) : 0;
    return first <= below && last == PAWL_SEQSET_CHUNK - 1;
}

int64_t pawl_seqset_add_range(struct pawl_seqset *set, uint64_t first, uint64_t last)
{
    assert(last != PAWL_SEQSET_NONE);
    if (first < set->head)
        first = set->head;
    if (last < first)
        return 0;
    uint64_t from = chunk_of(first), to = chunk_of(last);
    /* All memory first, so that nothing is done by halves. Chunks in between become marks. */
    if (reach(set, to) != 0)
        return -ENOMEM;
    if (!is_rest(set, from, bit_of(first), from == to ? bit_of(last) : PAWL_SEQSET_CHUNK - 1) &&
        make_chunk(set, from) != 0)
        return -ENOMEM;
    if (to != from && !is_rest(set, to, 0, bit_of(last)) && make_chunk(set, to) != 0)
        return -ENOMEM;
    int64_t added = 0;
    for (uint64_t n = from; n <= to; n++)
        added +=
            settle(set, n, n == from ? bit_of(first) : 0, n == to ? bit_of(last) : PAWL_SEQSET_CHUNK - 1);
    set->count += (uint64_t)added;
    if (first == set->head)
        advance(set);
    return added;
}

/* The first bit at or above @bit that is @settled; PAWL_SEQSET_CHUNK: none. */
static uint32_t find_bit(const struct pawl_seqset_chunk *chunk, uint32_t bit, bool settled)
{
    if (!chunk || chunk == ALL)
        return (chunk == ALL) == settled ? bit : PAWL_SEQSET_CHUNK;
    for (uint32_t w = bit / 64; w < WORDS; w++) {
        uint64_t word = settled ? chunk->word[w] : ~chunk->word[w];
        if (w == bit / 64)
            word &= UINT64_MAX << bit % 64;
        if (word)
            return w * 64 + (uint32_t)__builtin_ctzll(word);
    }
    return PAWL_SEQSET_CHUNK;
}

/* The first number at or above @from, and at or above head, that is @settled. */
static uint64_t find(const struct pawl_seqset *set, uint64_t from, bool settled)
{
    if (from < set->head)
        from = set->head;
    uint64_t number = chunk_of(from), end = set->first + set->ring_count;
    uint32_t bit = bit_of(from);
    for (; number < end; number++, bit = 0) {
        bit = find_bit(*slot_of(set, number), bit, settled);
        if (bit < PAWL_SEQSET_CHUNK)
            return number * PAWL_SEQSET_CHUNK + bit;
    }
    return settled ? PAWL_SEQSET_NONE : number * PAWL_SEQSET_CHUNK + bit;
}

uint64_t pawl_seqset_next_unset(const struct pawl_seqset *set, uint64_t from)
{
    return find(set, from, false);
}

uint64_t pawl_seqset_next_set(const struct pawl_seqset *set, uint64_t from)
{
    return find(set, from, true);
}

bool pawl_seqset_range(const struct pawl_seqset *set, uint64_t from, uint64_t end, bool settled,
                       uint64_t *first_out, uint64_t *last_out)
{
    uint64_t first = find(set, from, settled);
    if (first >= end)
        return false;
    uint64_t stop = find(set, first, !settled); /* NONE when nothing more is settled */
    *first_out = first;
    *last_out = (stop < end ? stop : end) - 1;
    return true;
}

/* ---- snapshots: runs of whole chunks, and bitmaps ----
 *   0   first chunk's number, u64
 *   8   chunks, u32: of a run that is settled as a whole; 0: one bitmap of 512 bytes follows
 *   12  0, u32
 * All in the machine's byte order: snapshots are read where they were written. */
struct piece {
    uint64_t number;
    uint32_t run;
    uint32_t reserved;
};
static_assert(sizeof(struct piece) == 16, "snapshot format");

size_t pawl_seqset_save(const struct pawl_seqset *set, uint64_t *cursor, void *out, size_t room)
{
    unsigned char *at = out;
    uint64_t number = *cursor > set->first ? *cursor : set->first, end = set->first + set->ring_count;
    size_t used = 0;
    while (number < end && room - used >= PAWL_SEQSET_PIECE_BYTES_MIN) {
        const struct pawl_seqset_chunk *chunk = *slot_of(set, number);
        struct piece piece = {.number = number};
        number++;
        if (!chunk)
            continue;
        if (chunk == ALL)
            for (piece.run = 1; number < end && *slot_of(set, number) == ALL && piece.run < UINT32_MAX;
                 number++)
                piece.run++;
        memcpy(at + used, &piece, sizeof piece);
        used += sizeof piece;
        if (piece.run == 0) {
            memcpy(at + used, chunk->word, sizeof chunk->word);
            used += sizeof chunk->word;
        }
    }
    *cursor = number;
    return used;
}

static int load_words(struct pawl_seqset *set, uint64_t number, const uint64_t word[WORDS], uint64_t next)
{
    struct pawl_seqset_chunk chunk = {.count = 0};
    memcpy(chunk.word, word, sizeof chunk.word);
    uint64_t start = number * PAWL_SEQSET_CHUNK;
    for (uint32_t bit = find_bit(&chunk, 0, true); bit < PAWL_SEQSET_CHUNK;
         bit = find_bit(&chunk, bit, true)) {
        uint32_t stop = find_bit(&chunk, bit, false);
        if (start + stop - 1 >= next)
            return PAWL_E_BAD_FORMAT;
        if (pawl_seqset_add_range(set, start + bit, start + stop - 1) < 0)
            return -ENOMEM;
        if (stop == PAWL_SEQSET_CHUNK)
            break;
        bit = stop;
    }
    return 0;
}

int pawl_seqset_load(struct pawl_seqset *set, const void *bytes, size_t n, uint64_t next)
{
    const unsigned char *at = bytes;
    while (n > 0) {
        struct piece piece;
        uint64_t word[WORDS];
        if (n < sizeof piece)
            return PAWL_E_BAD_FORMAT;
        memcpy(&piece, at, sizeof piece);
        at += sizeof piece;
        n -= sizeof piece;
        uint64_t chunks = piece.run > 0 ? piece.run : 1;
        if (piece.reserved != 0 || piece.number > chunk_of(next) ||
            chunks > chunk_of(next) - piece.number + 1)
            return PAWL_E_BAD_FORMAT;
        if (piece.run > 0) {
            uint64_t last = (piece.number + piece.run) * PAWL_SEQSET_CHUNK - 1;
            if (last >= next)
                return PAWL_E_BAD_FORMAT;
            if (pawl_seqset_add_range(set, piece.number * PAWL_SEQSET_CHUNK, last) < 0)
                return -ENOMEM;
            continue;
        }
        if (n < sizeof word)
            return PAWL_E_BAD_FORMAT;
        memcpy(word, at, sizeof word);
        at += sizeof word;
        n -= sizeof word;
        int error = load_words(set, piece.number, word, next);
        if (error)
            return error;
    }
    return 0;
}

size_t pawl_seqset_memory(const struct pawl_seqset *set)
{
    size_t bytes = set->ring_room * sizeof *set->ring + (set->spare ? sizeof *set->spare : 0);
    for (size_t i = 0; i < set->ring_count; i++) {
        const struct pawl_seqset_chunk *chunk = set->ring[(set->ring_start + i) & (set->ring_room - 1)];
        if (chunk && chunk != ALL)
            bytes += sizeof *chunk;
    }
    return bytes;
}
