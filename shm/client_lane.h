/*
 * client_lane.h - the two segments between the scheduler and one attached client.
 *
 *   lane: the client writes, the scheduler reads    inbound: the scheduler writes, the client reads
 *
 *   0     geometry, written by the scheduler        0     geometry
 *   128   submit_produced     bytes                 128   reply_produced      entries
 *   256   settle_produced     entries               256   inbound_produced    bytes
 *   384   reply_consumed      entries               384   submit_consumed     bytes
 *   512   inbound_consumed    bytes                 512   settle_consumed     entries
 *   640   begun               delivery numbers      640   settle_durable      entries
 *   768   sleeping            enum client_sleep     768   submit_durable      bytes
 *                                                   896   sleeping            the scheduler's, for this lane
 *   4096  settle[1024], 32 bytes each               4096  reply[1024], 64 bytes each
 *   36864 submit ring, submit_bytes                 69632 inbound ring, inbound_bytes
 *
 * Each word has one writer. Positions run for ever. submit and inbound are byte rings: entries are 8-aligned,
 * never wrap (an entry of type PAD fills what is left up to the ring's end, be it only the 8 bytes that hold
 * its size and type), and a producer that finds its ring empty may pad to the ring's end, so that a quiet
 * lane touches few pages. Both rings' sizes are powers of two. An entry takes at most half of its ring: so
 * one that finds the ring empty always fits, wherever the position stands.
 *
 * C1  release store of a produced word  ->  acquire load by the other side: entries below are visible
 * C2  release store of a consumed word  ->  acquire load by the other side: bytes below may be overwritten
 * C3  release store of begun            ->  acquire load by the scheduler: handlers saw deliveries below it
 * C4  release store of a durable word   ->  acquire load by the client: settlements below it survive
 * D1  doorbell.h: produced word, fence, flag on one side; flag, fence, produced word on the other
 *
 * A client may die, or lie, between any two instructions: the scheduler copies an entry, checks the copy, and
 * believes only what its own tables say. A lane that does not hold is closed: never repaired.
 */
#ifndef PAWL_SHM_CLIENT_LANE_H
#define PAWL_SHM_CLIENT_LANE_H

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/event.h"
#include "shm/segment.h"

enum {
    PAWL_CLIENT_LANE_VERSION = 3,
    PAWL_SETTLE_ENTRIES = 1024,
    PAWL_REPLY_ENTRIES = 1024,
    PAWL_CLIENT_RING_BYTES_MIN = 1 << 20,
    PAWL_CLIENT_RING_BYTES_MAX = 256 << 20,
    PAWL_CREDIT_MAX = 16384,      /* deliveries of one client that are not settled */
    PAWL_UNCONFIRMED_MAX = 65536, /* publishes of one client that are not confirmed */
    PAWL_CLIENT_SETTLE_AT = 4096,
    PAWL_CLIENT_SUBMIT_AT = 4096 + PAWL_SETTLE_ENTRIES * 32,
    PAWL_CLIENT_REPLY_AT = 4096,
    PAWL_CLIENT_INBOUND_AT = 4096 + PAWL_REPLY_ENTRIES * 64,
    PAWL_CLIENT_QUIET_BYTES =
        64 << 10, /* each time that a byte ring's position passes so many: is it empty? */
};
#define PAWL_CLIENT_LANE_MAGIC    UINT64_C(0x31454e414c434c50)
#define PAWL_CLIENT_INBOUND_MAGIC UINT64_C(0x31444e55424e4950)

struct pawl_client_lane {
    _Atomic uint64_t magic;
    uint32_t version, submit_bytes;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t submit_produced;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t settle_produced;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t reply_consumed;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t inbound_consumed;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t begun;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint32_t sleeping;
};
static_assert(offsetof(struct pawl_client_lane, begun) == 640, "client lane layout");

struct pawl_client_inbound {
    _Atomic uint64_t magic;
    uint32_t version, inbound_bytes;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t reply_produced;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t inbound_produced;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t submit_consumed;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t settle_consumed;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t settle_durable;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t submit_durable;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint32_t sleeping;
};
static_assert(offsetof(struct pawl_client_inbound, settle_durable) == 640, "client lane layout");
static_assert(offsetof(struct pawl_client_inbound, submit_durable) == 768, "client lane layout");
static_assert(offsetof(struct pawl_client_inbound, sleeping) == 896, "client lane layout");

/* What a sleeping client is to be woken for. Most wait for a delivery or a confirm only, and would be woken
 * in vain after each batch of acks. */
enum pawl_client_sleep {
    PAWL_CLIENT_SLEEP_ALL = 1,  /* and for room, and for what became durable */
    PAWL_CLIENT_SLEEP_NEWS = 2, /* for replies and deliveries */
};

/* ---- client to scheduler ---- */

enum pawl_submit_type {
    PAWL_SUBMIT_PAD = 1,    /* skip */
    PAWL_SUBMIT_EVENT = 2,  /* a packed event follows */
    PAWL_SUBMIT_SETTLE = 3, /* a struct pawl_settle, then text_bytes of words for people */
};

enum {
    PAWL_SUBMIT_MORE = 1, /* one atomic act with the next entry; published by one store of the position */
    PAWL_SUBMIT_EXPECT_ROUTED = 2, /* refuse what no queue wants */
    PAWL_SUBMIT_ASK = 4, /* only answer: was it taken on an earlier lane? No: PAWL_E_STALE_RECEIPT */
};

enum pawl_durability {
    PAWL_DURABILITY_DEFAULT = 0, /* the queue's */
    PAWL_DURABILITY_MEMORY = 1,  /* survives workers and clients, not the scheduler */
    PAWL_DURABILITY_ASYNC = 2,   /* written, confirmed before it is synced */
    PAWL_DURABILITY_FSYNC = 3,
};

enum pawl_guarantee {
    PAWL_GUARANTEE_DEFAULT = 0,
    PAWL_GUARANTEE_AT_MOST_ONCE = 1,
    PAWL_GUARANTEE_AT_LEAST_ONCE = 2,
};

struct pawl_submit {
    uint32_t bytes; /* of the entry, this header included: a multiple of 8 */
    uint8_t type;   /* enum pawl_submit_type */
    uint8_t flags;
    uint8_t durability; /* enum pawl_durability */
    uint8_t guarantee;  /* enum pawl_guarantee */
    uint64_t sequence;  /* EVENT: the publisher's own number, dense, from 1, over all its lanes */
};
static_assert(sizeof(struct pawl_submit) == 16, "client lane layout");

enum pawl_settle_op {
    PAWL_SETTLE_OP_ACK = 1,
    PAWL_SETTLE_OP_NACK = 2,   /* value: delay in ns, PAWL_SETTLE_POLICY: the queue's backoff */
    PAWL_SETTLE_OP_REJECT = 3, /* dead-letter now */
    PAWL_SETTLE_OP_EXTEND = 4, /* value: the deadline becomes now + this; 0: now + ack wait */
    PAWL_SETTLE_OP_RELEASE =
        5, /* hand back without a failure: the handler was never asked, or is being stopped */
};
#define PAWL_SETTLE_POLICY UINT64_MAX
#define PAWL_EXTEND_NS_MAX (UINT64_C(7) * 86400 * 1000000000) /* as long as an ack wait may be */

/* Why it goes again: what per-cause rules of a queue are about. */
enum pawl_cause {
    PAWL_CAUSE_NACK = 0,
    PAWL_CAUSE_DEADLINE = 1,
    PAWL_CAUSE_CONSUMER_DIED = 2,
    PAWL_CAUSE_HANDLER_ERROR = 3,
    PAWL_CAUSE_EXIT = 4, /* + an exit code 0..255: cause 4 | code << 8 */
    PAWL_CAUSES = 5,
};

enum { PAWL_SETTLE_SPARE_BREAKER = 1 /* a failure that the breaker does not count */ };

/* About the deliveries first..last of this lane (numbers as in struct pawl_inbound). */
struct pawl_settle {
    uint64_t first, last;
    uint64_t value;
    uint8_t op; /* enum pawl_settle_op */
    uint8_t flags;
    uint16_t cause;
    uint32_t text_bytes; /* only in a submit entry */
};
static_assert(sizeof(struct pawl_settle) == 32, "client lane layout");

/** pawl_settle_check - does a copied settlement hold? @text_available: bytes behind it, 0 in the settle ring.
 * Whether first..last were delivered only the scheduler's tables know. 0; PAWL_E_BAD_MESSAGE. */
int pawl_settle_check(const struct pawl_settle *settle, size_t text_available);

/* ---- scheduler to client ---- */

enum pawl_reply_type {
    PAWL_REPLY_CONFIRM =
        1, /* publishes first..last are kept as `durability` says; ids from event_id on, dense */
    PAWL_REPLY_REFUSE =
        2, /* publishes first..last: nothing was stored; error, and queue that refused (0: none) */
    PAWL_REPLY_PARTIAL =
        3, /* publishes first..last: `queue` refused with error; a CONFIRM for the others follows */
    PAWL_REPLY_LATE = 4, /* deliveries first..last: the settlement was refused with error */
    PAWL_REPLY_GONE = 5, /* consumers first..last: their queue or group was deleted; error says so */
};

enum {
    PAWL_REPLY_DUPLICATE = 1 /* it was there already: event_id is the first one's, if still known, else 0 */,
    PAWL_REPLY_UNROUTED = 2 /* no queue matched: nothing was stored, and that is all right */
};

struct pawl_reply {
    uint32_t type; /* enum pawl_reply_type */
    int32_t error;
    uint64_t first, last;
    uint64_t event_id;
    uint32_t durability; /* what this confirm means: enum pawl_durability */
    uint32_t routed;     /* queues that took it */
    uint32_t queue;      /* number of the queue concerned */
    uint32_t flags;
    uint64_t reserved[2];
};
static_assert(sizeof(struct pawl_reply) == 64, "client lane layout");

enum pawl_inbound_type { PAWL_INBOUND_PAD = 1, PAWL_INBOUND_DELIVERY = 2 };

/* A delivery: this header, then the packed event. */
struct pawl_inbound_entry {
    uint32_t bytes; /* of the entry, header included: a multiple of 8 */
    uint16_t type;  /* enum pawl_inbound_type */
    uint16_t flags;
    uint32_t consumer; /* as the client named it in CONSUME */
    uint32_t attempt;  /* delivery count, this one included: 1 on the first */
    uint64_t number;   /* of this lane, dense, from 0: what settlements name */
    uint64_t seq;      /* of the queue (stream: the offset) */
    uint64_t epoch;
    uint32_t queue; /* number of the queue */
    uint32_t failures;
    uint64_t ack_wait_ns; /* after the handler begins; 0: settled by its delivery */
    uint64_t reserved;
};
static_assert(sizeof(struct pawl_inbound_entry) == 64, "client lane layout");

/* ---- scheduler's side ---- */

struct pawl_client_port {
    struct pawl_segment lane_segment, inbound_segment;
    struct pawl_client_lane *lane;       /* read only by us after it was made */
    struct pawl_client_inbound *inbound; /* ours to write */
    uint32_t submit_bytes, inbound_bytes;
    uint64_t submit_position, settle_position; /* next to read: private, never read back */
    uint64_t submit_limit, settle_limit;       /* the client's produced words, as last believed */
    uint64_t submit_released, settle_released; /* what our consumed words say */
    uint64_t reply_position, inbound_position; /* next to write */
    uint64_t reply_published, inbound_published;
    uint64_t reply_seen, inbound_seen;   /* the client's consumed words, as last believed */
    bool reply_refused, inbound_refused; /* the last one was, for want of room */
};

/** pawl_client_port_create - make both segments. Sizes: powers of two within the bounds above. 0 or -errno.
 */
int pawl_client_port_create(uint32_t submit_bytes, uint32_t inbound_bytes, struct pawl_client_port *port_out);
void pawl_client_port_destroy(struct pawl_client_port *port);

/** pawl_client_port_waiting - is there anything to read? (submissions, settlements, room that was given back
 * is not told) Cheap: two loads. */
static inline bool pawl_client_port_submitting(const struct pawl_client_port *port)
{
    /* Relaxed: only a hint; whoever reads acquires (C1), and whoever sleeps has fenced before (D1). */
    return atomic_load_explicit(&port->lane->submit_produced, memory_order_relaxed) != port->submit_position;
}

static inline bool pawl_client_port_settling(const struct pawl_client_port *port)
{
    return atomic_load_explicit(&port->lane->settle_produced, memory_order_relaxed) != port->settle_position;
}

static inline bool pawl_client_port_waiting(const struct pawl_client_port *port)
{
    return pawl_client_port_submitting(port) || pawl_client_port_settling(port);
}

/** pawl_client_port_has_room - did the client give back any since reply() or deliver() was refused with
 * PAWL_E_QUEUE_FULL? For a scheduler that still has something for this client, before it sleeps. */
static inline bool pawl_client_port_has_room(const struct pawl_client_port *port)
{
    const struct pawl_client_lane *lane = port->lane;
    return (port->reply_refused &&
            atomic_load_explicit(&lane->reply_consumed, memory_order_relaxed) != port->reply_seen) ||
           (port->inbound_refused &&
            atomic_load_explicit(&lane->inbound_consumed, memory_order_relaxed) != port->inbound_seen);
}

/**
 * pawl_client_port_submission - the next submit entry, copied
 * @copy: of @copy_bytes: receives the whole entry; @copy_bytes is above the greatest entry that is allowed
 *
 * The header is checked (size, type, flags, durability, guarantee), what follows it is not:
 * pawl_event_check() of the bytes behind it, pawl_settle_check(). 0 after an entry with PAWL_SUBMIT_MORE is a
 * bad message too: an atomic act is published by one store.
 *
 * Return: 1; 0: none; PAWL_E_LIMIT: longer than @copy_bytes (the lane holds; the entry was stepped over, its
 * header is in @copy); PAWL_E_BAD_MESSAGE: close the lane. PADs are skipped.
 */
int pawl_client_port_submission(struct pawl_client_port *port, void *copy, size_t copy_bytes);

/** pawl_client_port_settlement - the next settle entry, copied and checked (pawl_settle_check). 1; 0;
 * PAWL_E_BAD_MESSAGE. port->settle_position is then its number + 1. */
int pawl_client_port_settlement(struct pawl_client_port *port, struct pawl_settle *settle_out);

/** pawl_client_port_release - C2: what was read may be overwritten. Once a drain. True when anything was
 * given back: then ring the client's bell as after publish(); it may wait for room. */
bool pawl_client_port_release(struct pawl_client_port *port);

/** pawl_client_port_settled - the first @entries of the settle ring are durable. Then ring the client's bell
 * as after publish(): it may wait for that. */
static inline void pawl_client_port_settled(struct pawl_client_port *port, uint64_t entries)
{
    atomic_store_explicit(&port->inbound->settle_durable, entries, memory_order_release); /* C4 */
}

/** pawl_client_port_submit_settled - the same for settlements of the submit ring that end at or below
 * @position: those with words, and atomic acts. */
static inline void pawl_client_port_submit_settled(struct pawl_client_port *port, uint64_t position)
{
    atomic_store_explicit(&port->inbound->submit_durable, position, memory_order_release); /* C4 */
}

/** pawl_client_port_begun - C3, checked against @delivered (numbers given so far); PAWL_E_BAD_MESSAGE: beyond
 * it, or it went back below @before. */
int pawl_client_port_begun(const struct pawl_client_port *port, uint64_t before, uint64_t delivered,
                           uint64_t *begun_out);

/** pawl_client_port_reply - put one reply; visible after publish(). 0; PAWL_E_QUEUE_FULL; PAWL_E_BAD_MESSAGE
 * (the client's consumed word went back, or beyond what was published: close the lane). */
int pawl_client_port_reply(struct pawl_client_port *port, const struct pawl_reply *reply);

/** pawl_client_port_deliver - put one delivery (entry's bytes and type are filled in); visible after
 * publish(). 0; PAWL_E_QUEUE_FULL; PAWL_E_LIMIT (more than half of the ring: never fits); PAWL_E_BAD_MESSAGE.
 */
int pawl_client_port_deliver(struct pawl_client_port *port, const struct pawl_inbound_entry *entry,
                             const struct pawl_event *event);

/** pawl_client_port_publish - C1 for replies and deliveries. True when anything was new: then ring the bell
 * if pawl_doorbell_must_ring(&port->lane->sleeping). */
bool pawl_client_port_publish(struct pawl_client_port *port);

/* ---- client's side ---- */

struct pawl_client_end {
    struct pawl_segment lane_segment, inbound_segment;
    struct pawl_client_lane *lane;
    const struct pawl_client_inbound *inbound;
    uint64_t submit_position, settle_position; /* next to write */
    uint64_t submit_published, settle_published;
    uint64_t submit_seen, settle_seen;   /* the scheduler's consumed words */
    bool submit_refused, settle_refused; /* the last one was, for want of room */
    uint64_t reply_position, inbound_position;
    uint64_t reply_limit, inbound_limit; /* the scheduler's produced words */
    uint32_t submit_bytes, inbound_bytes;
};

/** pawl_client_end_attach - map both; descriptors are taken over on success. Positions go on where they
 * stand. 0; PAWL_E_BAD_FORMAT; PAWL_E_BAD_MESSAGE; -errno. */
int pawl_client_end_attach(int lane_fd, int inbound_fd, struct pawl_client_end *end_out);
void pawl_client_end_detach(struct pawl_client_end *end);

/** pawl_client_end_reserve - @bytes of submit ring (an entry, header included; a multiple of 8), contiguous;
 * NULL: no room now, or never: beyond half of the ring. Not visible before submit_publish(). Reserved entries
 * follow one another; the caller writes each one's header, whose bytes must be @bytes. */
void *pawl_client_end_reserve(struct pawl_client_end *end, size_t bytes);

static inline void pawl_client_end_submit_publish(struct pawl_client_end *end)
{
    end->submit_published = end->submit_position;
    atomic_store_explicit(&end->lane->submit_produced, end->submit_position, memory_order_release); /* C1 */
}

/** pawl_client_end_unreserve - give back what was reserved and not published since @position (submit_position
 * as it was before). */
static inline void pawl_client_end_unreserve(struct pawl_client_end *end, uint64_t position)
{
    assert(position >= end->submit_published && position <= end->submit_position);
    end->submit_position = position;
}

/** pawl_client_end_settle - visible after settle_publish(). 0; PAWL_E_QUEUE_FULL. */
int pawl_client_end_settle(struct pawl_client_end *end, const struct pawl_settle *settle);

static inline void pawl_client_end_settle_publish(struct pawl_client_end *end)
{
    end->settle_published = end->settle_position;
    atomic_store_explicit(&end->lane->settle_produced, end->settle_position, memory_order_release); /* C1 */
}

/** pawl_client_end_waiting - is there a reply or a delivery? Two loads. */
static inline bool pawl_client_end_waiting(const struct pawl_client_end *end)
{
    struct pawl_client_inbound *inbound = (struct pawl_client_inbound *)(uintptr_t)end->inbound;
    return atomic_load_explicit(&inbound->reply_produced, memory_order_relaxed) != end->reply_position ||
           atomic_load_explicit(&inbound->inbound_produced, memory_order_relaxed) != end->inbound_position;
}

/** pawl_client_end_has_room - did the scheduler give back any since reserve() or settle() found none? For a
 * client that still wants some, before it sleeps. */
static inline bool pawl_client_end_has_room(const struct pawl_client_end *end)
{
    struct pawl_client_inbound *inbound = (struct pawl_client_inbound *)(uintptr_t)end->inbound;
    return (end->submit_refused &&
            atomic_load_explicit(&inbound->submit_consumed, memory_order_relaxed) != end->submit_seen) ||
           (end->settle_refused &&
            atomic_load_explicit(&inbound->settle_consumed, memory_order_relaxed) != end->settle_seen);
}

/** pawl_client_end_note_room - the same, and what is true is told once: for a client that may want none. */
bool pawl_client_end_note_room(struct pawl_client_end *end);

/** pawl_client_end_reply - the next reply, copied out and given back. 1; 0; PAWL_E_BAD_MESSAGE. */
int pawl_client_end_reply(struct pawl_client_end *end, struct pawl_reply *reply_out);

/** pawl_client_end_delivery - look at the next delivery in place; *position_out is where it ends: give it to
 * pawl_client_end_consumed() when its bytes are no longer needed (in order). 1; 0; PAWL_E_BAD_MESSAGE. */
int pawl_client_end_delivery(struct pawl_client_end *end, const struct pawl_inbound_entry **entry_out,
                             const struct pawl_event **event_out, uint64_t *position_out);

static inline void pawl_client_end_consumed(struct pawl_client_end *end, uint64_t position)
{
    atomic_store_explicit(&end->lane->inbound_consumed, position, memory_order_release); /* C2 */
}

static inline void pawl_client_end_begun(struct pawl_client_end *end, uint64_t begun)
{
    atomic_store_explicit(&end->lane->begun, begun, memory_order_release); /* C3 */
}

static inline uint64_t pawl_client_end_settled_durable(const struct pawl_client_end *end)
{
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&end->inbound->settle_durable,
                                memory_order_acquire); /* C4 */
}

static inline uint64_t pawl_client_end_submit_durable(const struct pawl_client_end *end)
{
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&end->inbound->submit_durable,
                                memory_order_acquire); /* C4 */
}

#endif
