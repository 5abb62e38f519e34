/*
 * ring.h - single producer, single consumer, between two processes that do not trust each other.
 *
 * Fixed-size entries. The producer's position and the entries lie in the producer's memory, the consumer's
 * position in the consumer's: each word has one writer. Positions run for ever; position & (count - 1) is the
 * index; all entries are usable.
 *
 * R1  publish: release store of produced     ->  consume: acquire load of produced (the entries are visible)
 * R2  consume: release store of consumed     ->  publish: acquire load of consumed (the entries may be
 * written again)
 *
 * Death: a producer that dies before R1 has published nothing; after it, everything. A consumer that dies
 * before R2 may have acted on entries that look unconsumed: whoever takes over decides by content
 * (settlements name a delivery and attempt).
 */
#ifndef PAWL_SHM_RING_H
#define PAWL_SHM_RING_H

#include <stdatomic.h>
#include <stdint.h>

struct pawl_ring_producer {
    _Atomic uint64_t *produced;       /* ours to write */
    const _Atomic uint64_t *consumed; /* the other side's */
    unsigned char *entries;
    uint32_t entry_bytes, count; /* count is a power of two */
    uint64_t position;           /* next to write; published by pawl_ring_publish() */
    uint64_t published;
    uint64_t seen_consumed;
};

struct pawl_ring_consumer {
    const _Atomic uint64_t *produced;
    _Atomic uint64_t *consumed;
    const unsigned char *entries;
    uint32_t entry_bytes, count;
    uint64_t position; /* next to read: private, never read back from shared memory */
    uint64_t seen_produced;
};

void pawl_ring_producer_init(struct pawl_ring_producer *ring, _Atomic uint64_t *produced,
                             const _Atomic uint64_t *consumed, void *entries, uint32_t entry_bytes,
                             uint32_t count);
void pawl_ring_consumer_init(struct pawl_ring_consumer *ring, const _Atomic uint64_t *produced,
                             _Atomic uint64_t *consumed, const void *entries, uint32_t entry_bytes,
                             uint32_t count);

/** pawl_ring_reserve - the next entry to fill, or NULL: full (look again after the consumer moved). Not yet
 * visible. */
void *pawl_ring_reserve(struct pawl_ring_producer *ring);

/** pawl_ring_publish - make every reserved entry visible by one release store. */
void pawl_ring_publish(struct pawl_ring_producer *ring);

/** pawl_ring_peek - how many entries wait. Return: 0..count; PAWL_E_BAD_MESSAGE when the position does not
 * hold. */
int64_t pawl_ring_peek(struct pawl_ring_consumer *ring);

/** pawl_ring_next - copy the next entry out and step over it. Only as often as peek said. Visible to the
 * producer after pawl_ring_release(). */
void pawl_ring_next(struct pawl_ring_consumer *ring, void *entry_out);

/** pawl_ring_release - the producer may overwrite what was stepped over. */
void pawl_ring_release(struct pawl_ring_consumer *ring);

#endif
