/*
 * ring.c - SPSC ring. Runs in: workers (produce), scheduler (consume). No locks, no waiting.
 */
#include "shm/ring.h"

#include <assert.h>
#include <string.h>

#include "shm/error.h"

static uint64_t load_acquire(const _Atomic uint64_t *word)
{
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)word, memory_order_acquire);
}

void pawl_ring_producer_init(struct pawl_ring_producer *ring, _Atomic uint64_t *produced,
                             const _Atomic uint64_t *consumed, void *entries, uint32_t entry_bytes,
                             uint32_t count)
{
    assert(count > 0 && (count & (count - 1)) == 0);
    *ring = (struct pawl_ring_producer){.produced = produced,
                                        .consumed = consumed,
                                        .entries = entries,
                                        .entry_bytes = entry_bytes,
                                        .count = count};
    ring->position = ring->published =
        atomic_load_explicit(produced, memory_order_relaxed); /* our own word */
    ring->seen_consumed = load_acquire(consumed);             /* R2 */
}

void pawl_ring_consumer_init(struct pawl_ring_consumer *ring, const _Atomic uint64_t *produced,
                             _Atomic uint64_t *consumed, const void *entries, uint32_t entry_bytes,
                             uint32_t count)
{
    assert(count > 0 && (count & (count - 1)) == 0);
    *ring = (struct pawl_ring_consumer){.produced = produced,
                                        .consumed = consumed,
                                        .entries = entries,
                                        .entry_bytes = entry_bytes,
                                        .count = count};
    ring->position = ring->seen_produced =
        atomic_load_explicit(consumed, memory_order_relaxed); /* our own word */
}

void *pawl_ring_reserve(struct pawl_ring_producer *ring)
{
    if (ring->position - ring->seen_consumed >= ring->count) {
        ring->seen_consumed = load_acquire(ring->consumed); /* R2 */
        if (ring->position - ring->seen_consumed >= ring->count)
            return NULL;
    }
    return ring->entries + (size_t)(ring->position++ & (ring->count - 1)) * ring->entry_bytes;
}

void pawl_ring_publish(struct pawl_ring_producer *ring)
{
    if (ring->published == ring->position)
        return;
    ring->published = ring->position;
    atomic_store_explicit(ring->produced, ring->position, memory_order_release); /* R1 */
}

int64_t pawl_ring_peek(struct pawl_ring_consumer *ring)
{
    uint64_t produced = load_acquire(ring->produced); /* R1 */
    uint64_t waiting = produced - ring->position;
    /* Written by another process: never more than the ring holds, never back. */
    if (waiting > ring->count || produced - ring->seen_produced > ring->count)
        return PAWL_E_BAD_MESSAGE;
    ring->seen_produced = produced;
    return (int64_t)waiting;
}

void pawl_ring_next(struct pawl_ring_consumer *ring, void *entry_out)
{
    assert(ring->position != ring->seen_produced);
    memcpy(entry_out, ring->entries + (size_t)(ring->position & (ring->count - 1)) * ring->entry_bytes,
           ring->entry_bytes);
    ring->position++;
}

void pawl_ring_release(struct pawl_ring_consumer *ring)
{
    atomic_store_explicit(ring->consumed, ring->position, memory_order_release); /* R2 */
}
