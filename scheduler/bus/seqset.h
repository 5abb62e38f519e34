/*
 * seqset.h - which sequence numbers of a queue are settled, from its head on.
 *
 *   head = the first that is not settled. Everything below it is settled and costs nothing. Above it a bitmap
 * in chunks of 4096: none yet costs one pointer, all of them one pointer, a mixture 1.25 bits a number.
 *
 * The set knows no end: numbers that were never given count as not settled; the queue owns its `next`.
 * Numbers up to 2^64 - 2. Pure; allocation alone may fail, and then nothing changed.
 */
#ifndef PAWL_SCHEDULER_BUS_SEQSET_H
#define PAWL_SCHEDULER_BUS_SEQSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PAWL_SEQSET_CHUNK = 4096,
    PAWL_SEQSET_PIECE_BYTES_MIN = 16 + PAWL_SEQSET_CHUNK / 8, /* room that save() always gets on with */
};
#define PAWL_SEQSET_NONE UINT64_MAX

struct pawl_seqset_chunk;

struct pawl_seqset {
    uint64_t head;
    uint64_t count;                  /* settled at or above head */
    uint64_t first;                  /* number of the chunk that holds head */
    size_t ring_start;               /* where that chunk's pointer is */
    size_t ring_count;               /* chunks known, from it on */
    size_t ring_room;                /* a power of two */
    struct pawl_seqset_chunk **ring; /* NULL: none settled; a mark: all settled */
    struct pawl_seqset_chunk *spare; /* FIFO settlement allocates nothing */
};

void pawl_seqset_init(struct pawl_seqset *set, uint64_t head); /* allocates nothing */
void pawl_seqset_fini(struct pawl_seqset *set);

static inline uint64_t pawl_seqset_head(const struct pawl_seqset *set)
{
    return set->head;
}

/** pawl_seqset_count - how many at or above head are settled: next - head - this are not. */
static inline uint64_t pawl_seqset_count(const struct pawl_seqset *set)
{
    return set->count;
}

bool pawl_seqset_has(const struct pawl_seqset *set, uint64_t seq);

/** pawl_seqset_add - settle one. 1: it was not; 0: it was; -ENOMEM. The head moves on by itself. */
int pawl_seqset_add(struct pawl_seqset *set, uint64_t seq);

/** pawl_seqset_add_range - settle @first..@last. How many were not yet; -ENOMEM (then none was settled). */
int64_t pawl_seqset_add_range(struct pawl_seqset *set, uint64_t first, uint64_t last);

/** pawl_seqset_next_unset - the first at or above @from that is not settled; there always is one. */
uint64_t pawl_seqset_next_unset(const struct pawl_seqset *set, uint64_t from);

/** pawl_seqset_next_set - the first at or above @from, and at or above head, that is settled;
 * PAWL_SEQSET_NONE. */
uint64_t pawl_seqset_next_set(const struct pawl_seqset *set, uint64_t from);

/**
 * pawl_seqset_range - the next run of settled (@settled) or of unsettled numbers in @from .. @end - 1
 *
 * Walk with: for (from = head; pawl_seqset_range(set, from, next, false, &first, &last); from = last + 1)
 * Return: false: no more.
 */
bool pawl_seqset_range(const struct pawl_seqset *set, uint64_t from, uint64_t end, bool settled,
                       uint64_t *first_out, uint64_t *last_out);

/**
 * pawl_seqset_save - the next piece of the set, for a snapshot (the head is the caller's to keep)
 * @cursor: 0 first; it names a chunk, so the set may change between pieces
 * @room:   PAWL_SEQSET_PIECE_BYTES_MIN or more
 *
 * Return: bytes written; 0: that was all.
 */
size_t pawl_seqset_save(const struct pawl_seqset *set, uint64_t *cursor, void *out, size_t room);

/**
 * pawl_seqset_load - settle what a piece holds, in a set that began at the saved head; twice is as once
 * @next: settled numbers must be below it
 *
 * Return: 0; PAWL_E_BAD_FORMAT (does not hold; what came before the bad part is settled); -ENOMEM.
 */
int pawl_seqset_load(struct pawl_seqset *set, const void *bytes, size_t n, uint64_t next);

/** pawl_seqset_memory - bytes allocated, for the statistics. Walks the chunks. */
size_t pawl_seqset_memory(const struct pawl_seqset *set);

#endif
