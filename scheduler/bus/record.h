/*
 * record.h - bodies of the bus's records, as they lie in the journal. Little-endian, 8-aligned.
 *
 * docs/journal-format.md has the table. Subscriptions are named by (queue, group): group 0 is the queue
 * itself.
 */
#ifndef PAWL_SCHEDULER_BUS_RECORD_H
#define PAWL_SCHEDULER_BUS_RECORD_H

#include <assert.h>
#include <stdint.h>

enum { PAWL_BUS_RECORD_VERSION = 1 };

/* EVENTS: this, pawl_bus_route[queue_count], then event_count packed events. Also the body of what keep()
 * keeps. */
struct pawl_bus_events {
    uint32_t event_count;
    uint32_t queue_count;
    uint64_t first_event_id;
    uint64_t realtime_ns;
    uint64_t publisher; /* 0: none */
    uint64_t first_sequence;
    uint32_t events_offset; /* from the body's beginning */
    uint32_t flags;
};
static_assert(sizeof(struct pawl_bus_events) == 48, "journal format");
enum {
    PAWL_BUS_EVENTS_SPECIAL = 1,  /* some have a delay or a priority: look at each */
    PAWL_BUS_EVENTS_KEYED = 2,    /* some have a deduplication key */
    PAWL_BUS_EVENTS_EXPIRING = 8, /* some have a time to live */
    PAWL_BUS_EVENTS_MOVED = 4     /* MOVE: seqs that are known already; one event */
};

/* PUBLISHED: a publish that an EVENTS record does not name its publisher for, or not alone. */
struct pawl_bus_published {
    uint64_t publisher;
    uint64_t sequence;
    uint64_t event_id;
    uint64_t realtime_ns;
    uint32_t queue; /* dealt with for this one; 0: for all */
    uint32_t reserved;
};
static_assert(sizeof(struct pawl_bus_published) == 40, "journal format");

struct pawl_bus_route {
    uint32_t queue;
    uint32_t sum;       /* of the first: of all before the events (sum.c); 0: there is none. Else 0 */
    uint64_t first_seq; /* the events have the seqs from here on */
};
static_assert(sizeof(struct pawl_bus_route) == 16, "journal format");

/* ACK, CLAIM: this, then pawl_bus_range[range_count]. CLAIM: what of the ranges is unsettled has begun. */
struct pawl_bus_ranges {
    uint32_t queue, group;
    uint32_t range_count;
    uint32_t attempt; /* CLAIM: attempt of all of them */
    uint64_t realtime_ns;
    uint64_t deadline_at_ns; /* CLAIM: realtime, of detached ones; 0: bound to a client */
    uint32_t failures;       /* CLAIM of detached ones: the upper half of the epoch in their identity */
    uint32_t reason;         /* ACK: enum pawl_bus_end. CLAIM of detached ones: its lower half */
};
static_assert(sizeof(struct pawl_bus_ranges) == 40, "journal format");
enum pawl_bus_end {
    PAWL_BUS_END_ACKED = 0,
    PAWL_BUS_END_DROPPED = 1,
    PAWL_BUS_END_PURGED = 2,
    PAWL_BUS_END_EXPIRED = 3
};

struct pawl_bus_range {
    uint64_t first, last;
};

/* RETRY, DEAD, EXTEND, RELEASE: this, then text_bytes of words. */
struct pawl_bus_one {
    uint32_t queue, group;
    uint64_t seq;
    uint32_t attempt;
    uint32_t failures;
    uint64_t realtime_ns;
    uint64_t due_at_ns; /* RETRY: realtime; EXTEND: the new deadline */
    uint64_t delay_ns;  /* RETRY: the whole wait, as it was decided */
    uint32_t cause;     /* RETRY: enum pawl_cause | code << 8; DEAD: enum pawl_dead_reason */
    uint32_t text_bytes;
};
static_assert(sizeof(struct pawl_bus_one) == 56, "journal format");

/* QUEUE: this, then config_bytes of JSON. */
struct pawl_bus_queue_record {
    uint32_t queue;
    uint32_t flags;
    uint64_t realtime_ns;
    uint32_t config_bytes;
    uint32_t reserved;
    char name[72];
};
static_assert(sizeof(struct pawl_bus_queue_record) == 96, "journal format");
enum { PAWL_BUS_QUEUE_PAUSED = 1 };

/* DELETE (group 0: the queue and all of it), GROUP (offset: where it begins or goes on), TRIM (offset: the
 * first that is kept). */
struct pawl_bus_mark {
    uint32_t queue, group;
    uint64_t offset;
    uint64_t realtime_ns;
    char name[72]; /* GROUP */
};
static_assert(sizeof(struct pawl_bus_mark) == 96, "journal format");

#endif
