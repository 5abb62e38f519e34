/*
 * delivery_ring.h - where a queue's placed tasks wait, and who has claimed which.
 *
 * Two segments: descriptors, written by the scheduler alone, and claim words, written by the scheduler and
 * pawl's own workers.
 *
 *   queue segment (read-only to workers)          claim words (memfd of their own)
 *   0    header                                   0    word[slot_count], 8 bytes each
 *   128  publish_position                              8 to a cache line: a worker walks them in order, and
 * claims 256  head_hint                                     mostly neighbours; a line each cost more than it
 * saved 384  descriptor[slot_count], 64 bytes each
 *
 * A claim word:  63..32 generation | 31..16 lane | 15..4 delivery_count | 3..0 state
 *
 *            place                 claim (begins)             settle (scheduler)
 *   FREE --------------> READY -------------------> BEGUN --------------------> SETTLED --place--> READY
 *                         |  \                       ^
 *                  recall |   \ claim ahead   begin /
 *                         v    '------> HELD ------'
 *                      REVOKED --place--> READY
 *
 * One CAS claims and names the owner; the count rises when the handler begins. The generation rises at every
 * placement: it is the receipt. Positions run for ever; position & (slot_count - 1) is the slot; the
 * scheduler steps over slots that are still taken, so one long job does not stop the ring.
 *
 * Q1  place: release store of word READY           ->  claim: acquire CAS (descriptor and task memory are
 * visible) Q2  place: release store of publish_position     ->  claim: acquire load (words below are worth a
 * look) Q3  recall: CAS READY -> REVOKED                 <->  claim: CAS READY -> BEGUN: one of them wins
 *
 * Death of a worker between any two of its instructions leaves its word READY (not claimed), HELD or BEGUN
 * with its lane: the scheduler finds those by pawl_delivery_ring_scan(). A wild write here can delay or
 * repeat deliveries of this queue, never lose one: the scheduler's own list of what it placed is the arbiter.
 */
#ifndef PAWL_SHM_DELIVERY_RING_H
#define PAWL_SHM_DELIVERY_RING_H

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/segment.h"

enum { PAWL_DELIVERY_RING_VERSION = 1, PAWL_DELIVERY_COUNT_MAX = 0xfff };
#define PAWL_DELIVERY_RING_MAGIC UINT64_C(0x31474e5251575750)

enum pawl_claim_state {
    PAWL_CLAIM_FREE = 0, /* zeroed memory is a free slot */
    PAWL_CLAIM_READY = 1,
    PAWL_CLAIM_HELD = 2,
    PAWL_CLAIM_BEGUN = 3,
    PAWL_CLAIM_SETTLED = 4,
    PAWL_CLAIM_REVOKED = 5,
};

struct pawl_claim {
    uint32_t generation;
    uint16_t lane;
    uint16_t delivery_count;
    enum pawl_claim_state state;
};

static inline uint64_t pawl_claim_pack(struct pawl_claim claim)
{
    assert(claim.delivery_count <= PAWL_DELIVERY_COUNT_MAX);
    return (uint64_t)claim.generation << 32 | (uint64_t)claim.lane << 16 |
           (uint64_t)claim.delivery_count << 4 | (uint64_t)claim.state;
}

static inline struct pawl_claim pawl_claim_unpack(uint64_t word)
{
    return (struct pawl_claim){.generation = (uint32_t)(word >> 32),
                               .lane = (uint16_t)(word >> 16),
                               .delivery_count = (uint16_t)(word >> 4) & PAWL_DELIVERY_COUNT_MAX,
                               .state = (enum pawl_claim_state)(word & 0xf)};
}

/* What a worker needs to find and name the task. */
struct pawl_descriptor {
    uint32_t generation;
    uint32_t log_segment;
    uint32_t byte_offset;
    uint32_t bytes;
    uint64_t instance;
    uint32_t step; /* index in the plan */
    uint32_t attempt;
    uint64_t run; /* number, for people */
    uint64_t reserved[3];
};
static_assert(sizeof(struct pawl_descriptor) == 64, "delivery ring layout");

struct pawl_queue_memory {
    _Atomic uint64_t magic;
    uint32_t version;
    uint32_t slot_count;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t publish_position;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t head_hint; /* nothing below is READY */
    alignas(PAWL_ISOLATION_BYTES) struct pawl_descriptor descriptor[];
};
static_assert(offsetof(struct pawl_queue_memory, publish_position) == 128, "delivery ring layout");
static_assert(offsetof(struct pawl_queue_memory, head_hint) == 256, "delivery ring layout");
static_assert(offsetof(struct pawl_queue_memory, descriptor) == 384, "delivery ring layout");

/* ---- scheduler ---- */

struct pawl_delivery_ring {
    struct pawl_segment queue, words;
    struct pawl_queue_memory *memory;
    _Atomic uint64_t *word;
    uint32_t slot_count;
    uint64_t position; /* next to place; published by publish() */
    uint64_t published;
    uint32_t taken;        /* slots that are placed, held or begun */
    uint32_t *generations; /* private mirror: what was placed last in each slot */
    uint8_t *busy;         /* private mirror: the slot is taken */
    uint64_t hint;
};

/** pawl_delivery_ring_create - @slot_count a power of two, 2 to 65,536. Return: 0 or -errno. */
int pawl_delivery_ring_create(uint32_t slot_count, struct pawl_delivery_ring *ring_out);
void pawl_delivery_ring_destroy(struct pawl_delivery_ring *ring);

/**
 * pawl_delivery_ring_place - put a delivery into the next free slot; workers look at it after publish()
 * @descriptor:     generation is filled in
 * @delivery_count: begins so far; saturates at PAWL_DELIVERY_COUNT_MAX
 *
 * Return: 0 with slot and generation; PAWL_E_QUEUE_FULL: every slot is taken.
 */
int pawl_delivery_ring_place(struct pawl_delivery_ring *ring, const struct pawl_descriptor *descriptor,
                             uint32_t delivery_count, uint32_t *slot_out, uint32_t *generation_out);
void pawl_delivery_ring_publish(struct pawl_delivery_ring *ring);

/** pawl_delivery_ring_recall - take back what nobody has claimed. 0: the slot is free again; PAWL_E_STATE:
 * claimed. */
int pawl_delivery_ring_recall(struct pawl_delivery_ring *ring, uint32_t slot, uint32_t generation);

/** pawl_delivery_ring_settle - the delivery is over: the slot may be placed anew. PAWL_E_STALE_RECEIPT: not
 * this one. */
int pawl_delivery_ring_settle(struct pawl_delivery_ring *ring, uint32_t slot, uint32_t generation);

/** pawl_delivery_ring_look - the word as it is now (hostile: compare with what was placed). */
struct pawl_claim pawl_delivery_ring_look(const struct pawl_delivery_ring *ring, uint32_t slot);

/** pawl_delivery_ring_scan - next taken slot from *slot on whose word is HELD or BEGUN by @lane. false: no
 * more. */
bool pawl_delivery_ring_scan(const struct pawl_delivery_ring *ring, uint16_t lane, uint32_t *slot,
                             struct pawl_claim *claim_out);

/* ---- worker ---- */

struct pawl_claimer {
    struct pawl_segment queue, words;
    const struct pawl_queue_memory *memory;
    _Atomic uint64_t *word;
    uint32_t slot_count;
    uint16_t lane;
    uint64_t cursor; /* nothing below it is left for us */
};

struct pawl_claimed {
    uint32_t slot, generation;
    uint16_t delivery_count;           /* with this begin */
    struct pawl_descriptor descriptor; /* a copy */
};

/** pawl_claimer_attach - map a queue; descriptors are taken over on success. 0, PAWL_E_BAD_FORMAT,
 * PAWL_E_BAD_MESSAGE, -errno. */
int pawl_claimer_attach(int queue_fd, int words_fd, uint16_t lane, struct pawl_claimer *claimer_out);
void pawl_claimer_detach(struct pawl_claimer *claimer);

/** pawl_claim_one - claim and begin one. Return: 0, PAWL_E_QUEUE_EMPTY. Never waits. */
int pawl_claim_one(struct pawl_claimer *claimer, struct pawl_claimed *claimed_out);

/** pawl_claim_ahead - hold up to @count without beginning them. Return: how many. */
uint32_t pawl_claim_ahead(struct pawl_claimer *claimer, struct pawl_claimed *claimed_out, uint32_t count);

/** pawl_claim_begin - begin one that is held: the count rises now. 0; PAWL_E_STALE_RECEIPT (not ours any
 * more). */
int pawl_claim_begin(struct pawl_claimer *claimer, struct pawl_claimed *claimed);

/** pawl_claim_waiting - may there be something to claim? One acquire load. */
bool pawl_claim_waiting(const struct pawl_claimer *claimer);

#endif
