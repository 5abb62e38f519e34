/*
 * delivery_ring.c - placing, claiming, recalling. Runs in: scheduler (first half), workers (second half).
 * Lock-free.
 */
#include "shm/delivery_ring.h"

#include <errno.h>
#include <stdlib.h>

#include "shm/error.h"

/* ---- scheduler ---- */

int pawl_delivery_ring_create(uint32_t slot_count, struct pawl_delivery_ring *ring)
{
    assert(slot_count >= 2 && slot_count <= 65536 && (slot_count & (slot_count - 1)) == 0);
    *ring = (struct pawl_delivery_ring){.queue = {.fd = -1}, .words = {.fd = -1}, .slot_count = slot_count};
    size_t queue_bytes = sizeof(struct pawl_queue_memory) + slot_count * sizeof(struct pawl_descriptor);
    int error =
        pawl_segment_create(PAWL_SEGMENT_PRIVATE_WRITER, "pawl-queue", queue_bytes, false, &ring->queue);
    if (error < 0)
        return error;
    error = pawl_segment_create(PAWL_SEGMENT_SHARED_WRITERS, "pawl-claims", slot_count * sizeof(uint64_t),
                                false, &ring->words);
    if (error < 0)
        goto close_queue;
    ring->generations = calloc(slot_count, sizeof *ring->generations);
    ring->busy = calloc(slot_count, sizeof *ring->busy);
    if (!ring->generations || !ring->busy) {
        error = -ENOMEM;
        goto free_mirrors;
    }
    ring->memory = ring->queue.base;
    ring->word = ring->words.base;
    ring->memory->version = PAWL_DELIVERY_RING_VERSION;
    ring->memory->slot_count = slot_count;
    atomic_store_explicit(&ring->memory->magic, PAWL_DELIVERY_RING_MAGIC,
                          memory_order_release); /* W1, as in world.c */
    return 0;
free_mirrors:
    free(ring->generations);
    free(ring->busy);
    pawl_segment_close(&ring->words);
close_queue:
    pawl_segment_close(&ring->queue);
    return error;
}

void pawl_delivery_ring_destroy(struct pawl_delivery_ring *ring)
{
    free(ring->generations);
    free(ring->busy);
    pawl_segment_close(&ring->words);
    pawl_segment_close(&ring->queue);
    *ring = (struct pawl_delivery_ring){.queue = {.fd = -1}, .words = {.fd = -1}};
}

int pawl_delivery_ring_place(struct pawl_delivery_ring *ring, const struct pawl_descriptor *descriptor,
                             uint32_t delivery_count, uint32_t *slot_out, uint32_t *generation_out)
{
    if (ring->taken == ring->slot_count)
        return PAWL_E_QUEUE_FULL;
    uint32_t mask = ring->slot_count - 1;
    while (ring->busy[ring->position & mask]) /* ends: some slot is free */
        ring->position++;
    uint32_t slot = (uint32_t)(ring->position & mask);
    uint32_t generation = ++ring->generations[slot];
    struct pawl_descriptor out = *descriptor;
    out.generation = generation;
    ring->memory->descriptor[slot] = out; /* nobody reads it: its word is not READY */
    struct pawl_claim claim = {
        .generation = generation,
        .delivery_count =
            (uint16_t)(delivery_count < PAWL_DELIVERY_COUNT_MAX ? delivery_count : PAWL_DELIVERY_COUNT_MAX),
        .state = PAWL_CLAIM_READY};
    atomic_store_explicit(&ring->word[slot], pawl_claim_pack(claim), memory_order_release); /* Q1 */
    ring->busy[slot] = 1;
    ring->taken++;
    ring->position++;
    *slot_out = slot;
    *generation_out = generation;
    return 0;
}

void pawl_delivery_ring_publish(struct pawl_delivery_ring *ring)
{
    if (ring->published == ring->position)
        return;
    /* The hint: a new worker need not walk what was placed a lap ago. */
    uint64_t hint = ring->position > ring->slot_count ? ring->position - ring->slot_count : 0;
    if (hint > ring->hint) {
        ring->hint = hint;
        atomic_store_explicit(&ring->memory->head_hint, hint, memory_order_relaxed); /* only a hint */
    }
    ring->published = ring->position;
    atomic_store_explicit(&ring->memory->publish_position, ring->position, memory_order_release); /* Q2 */
}

static void free_slot(struct pawl_delivery_ring *ring, uint32_t slot)
{
    ring->busy[slot] = 0;
    ring->taken--;
}

int pawl_delivery_ring_recall(struct pawl_delivery_ring *ring, uint32_t slot, uint32_t generation)
{
    if (slot >= ring->slot_count || !ring->busy[slot] || ring->generations[slot] != generation)
        return PAWL_E_STALE_RECEIPT;
    uint64_t word = atomic_load_explicit(&ring->word[slot], memory_order_relaxed); /* the CAS decides */
    for (;;) {
        struct pawl_claim claim = pawl_claim_unpack(word);
        if (claim.state != PAWL_CLAIM_READY || claim.generation != generation)
            return PAWL_E_STATE;
        claim.state = PAWL_CLAIM_REVOKED;
        /* Q3. Relaxed: nothing is handed over; whoever loses reads nothing. */
        if (atomic_compare_exchange_weak_explicit(&ring->word[slot], &word, pawl_claim_pack(claim),
                                                  memory_order_relaxed, memory_order_relaxed))
            break;
    }
    free_slot(ring, slot);
    return 0;
}

int pawl_delivery_ring_settle(struct pawl_delivery_ring *ring, uint32_t slot, uint32_t generation)
{
    if (slot >= ring->slot_count || !ring->busy[slot] || ring->generations[slot] != generation)
        return PAWL_E_STALE_RECEIPT;
    struct pawl_claim claim = {.generation = generation, .state = PAWL_CLAIM_SETTLED};
    /* Relaxed: the next READY in this slot is a release store of its own. */
    atomic_store_explicit(&ring->word[slot], pawl_claim_pack(claim), memory_order_relaxed);
    free_slot(ring, slot);
    return 0;
}

struct pawl_claim pawl_delivery_ring_look(const struct pawl_delivery_ring *ring, uint32_t slot)
{
    assert(slot < ring->slot_count);
    return pawl_claim_unpack(atomic_load_explicit(&ring->word[slot], memory_order_acquire));
}

bool pawl_delivery_ring_scan(const struct pawl_delivery_ring *ring, uint16_t lane, uint32_t *slot,
                             struct pawl_claim *claim_out)
{
    for (; *slot < ring->slot_count; ++*slot) {
        if (!ring->busy[*slot])
            continue;
        struct pawl_claim claim = pawl_delivery_ring_look(ring, *slot);
        bool owned = claim.state == PAWL_CLAIM_HELD || claim.state == PAWL_CLAIM_BEGUN;
        if (owned && claim.lane == lane) {
            *claim_out = claim;
            return true;
        }
    }
    return false;
}

/* ---- worker ---- */

int pawl_claimer_attach(int queue_fd, int words_fd, uint16_t lane, struct pawl_claimer *claimer)
{
    *claimer = (struct pawl_claimer){.queue = {.fd = -1}, .words = {.fd = -1}, .lane = lane};
    int error = pawl_segment_attach(queue_fd, sizeof(struct pawl_queue_memory), false, &claimer->queue);
    if (error < 0)
        return error;
    const struct pawl_queue_memory *memory = claimer->queue.base;
    uint64_t magic =
        atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&memory->magic, memory_order_acquire);
    uint32_t count = memory->slot_count;
    size_t room = claimer->queue.bytes - sizeof *memory;
    error = PAWL_E_BAD_FORMAT;
    if (magic != PAWL_DELIVERY_RING_MAGIC || memory->version != PAWL_DELIVERY_RING_VERSION)
        goto unmap_queue;
    error = PAWL_E_BAD_MESSAGE;
    if (count < 2 || (count & (count - 1)) != 0 || count > room / sizeof(struct pawl_descriptor))
        goto unmap_queue;
    error = pawl_segment_attach(words_fd, count * sizeof(uint64_t), true, &claimer->words);
    if (error < 0)
        goto unmap_queue;
    claimer->memory = memory;
    claimer->word = claimer->words.base;
    claimer->slot_count = count;
    return 0;
unmap_queue:
    claimer->queue.fd = -1; /* stays the caller's */
    pawl_segment_close(&claimer->queue);
    return error;
}

void pawl_claimer_detach(struct pawl_claimer *claimer)
{
    pawl_segment_close(&claimer->words);
    pawl_segment_close(&claimer->queue);
}

static uint64_t publish_position(const struct pawl_claimer *claimer)
{
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&claimer->memory->publish_position,
                                memory_order_acquire); /* Q2 */
}

bool pawl_claim_waiting(const struct pawl_claimer *claimer)
{
    return publish_position(claimer) > claimer->cursor;
}

/* Claim the next READY slot into `state`. The cursor never goes back: what it has passed was taken by
 * somebody. */
static int claim_next(struct pawl_claimer *claimer, enum pawl_claim_state state, struct pawl_claimed *claimed)
{
    uint64_t end = publish_position(claimer);
    uint64_t hint = atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&claimer->memory->head_hint,
                                         memory_order_relaxed); /* only a hint */
    if (claimer->cursor < hint)
        claimer->cursor = hint;
    for (; claimer->cursor < end; claimer->cursor++) {
        uint32_t slot = (uint32_t)(claimer->cursor & (claimer->slot_count - 1));
        uint64_t word =
            atomic_load_explicit(&claimer->word[slot], memory_order_relaxed); /* the CAS decides */
        struct pawl_claim claim = pawl_claim_unpack(word);
        if (claim.state != PAWL_CLAIM_READY)
            continue;
        struct pawl_claim mine = claim;
        mine.state = state;
        mine.lane = claimer->lane;
        if (state == PAWL_CLAIM_BEGUN && mine.delivery_count < PAWL_DELIVERY_COUNT_MAX)
            mine.delivery_count++;
        /* Q1, Q3. A lost CAS: somebody claimed or recalled it; the slot is not ours to look at again. */
        if (!atomic_compare_exchange_strong_explicit(&claimer->word[slot], &word, pawl_claim_pack(mine),
                                                     memory_order_acquire, memory_order_relaxed))
            continue;
        claimer->cursor++;
        claimed->slot = slot;
        claimed->generation = claim.generation;
        claimed->delivery_count = mine.delivery_count;
        claimed->descriptor = claimer->memory->descriptor[slot];
        return claimed->descriptor.generation == claim.generation ? 0 : PAWL_E_STALE_RECEIPT;
    }
    return PAWL_E_QUEUE_EMPTY;
}

int pawl_claim_one(struct pawl_claimer *claimer, struct pawl_claimed *claimed_out)
{
    return claim_next(claimer, PAWL_CLAIM_BEGUN, claimed_out);
}

uint32_t pawl_claim_ahead(struct pawl_claimer *claimer, struct pawl_claimed *claimed_out, uint32_t count)
{
    uint32_t n = 0;
    while (n < count && claim_next(claimer, PAWL_CLAIM_HELD, &claimed_out[n]) == 0)
        n++;
    return n;
}

int pawl_claim_begin(struct pawl_claimer *claimer, struct pawl_claimed *claimed)
{
    uint64_t word = atomic_load_explicit(&claimer->word[claimed->slot], memory_order_relaxed);
    struct pawl_claim claim = pawl_claim_unpack(word);
    if (claim.state != PAWL_CLAIM_HELD || claim.lane != claimer->lane ||
        claim.generation != claimed->generation)
        return PAWL_E_STALE_RECEIPT;
    claim.state = PAWL_CLAIM_BEGUN;
    if (claim.delivery_count < PAWL_DELIVERY_COUNT_MAX)
        claim.delivery_count++;
    /* Relaxed: the claim's CAS was the acquire; this one only counts. */
    if (!atomic_compare_exchange_strong_explicit(&claimer->word[claimed->slot], &word, pawl_claim_pack(claim),
                                                 memory_order_relaxed, memory_order_relaxed))
        return PAWL_E_STALE_RECEIPT;
    claimed->delivery_count = claim.delivery_count;
    return 0;
}
