/*
 * bus_oracle.h - what was promised of every event that the bus simulator published, and whether it is kept.
 *
 * It looks at deliveries and replies as clients see them, and at the lsn up to which the disk is durable; of
 * the bus's own state it believes nothing, but counts it again.
 */
#ifndef PAWL_TESTS_SIM_BUS_ORACLE_H
#define PAWL_TESTS_SIM_BUS_ORACLE_H

#include "tests/sim/bus_memory.h"

enum { ORACLE_QUEUES_MAX = 8, ORACLE_GROUPS_MAX = 3, ORACLE_TOPICS = 4, ORACLE_DATA_MAX = 3000 };

/* A queue as the round declared it. */
struct oracle_queue {
    char name[16];
    uint32_t number;
    unsigned topics; /* bits: topics that it wants */
    bool stream, keyed, in_memory, fsync, at_most_once;
    bool lossy;    /* drops on overflow, expires, trims: no event of it must come */
    bool blocking; /* what waits may come twice after a reconnect */
    uint32_t groups;
};

/* One event in one subscription. */
struct oracle_fate {
    uint64_t seq;         /* of its queue, once seen */
    uint64_t settled_lsn; /* 0: not settled; else durable with this lsn (1: at once) */
    uint64_t begun_lsn;
    uint32_t attempt; /* newest that began in a handler */
    uint64_t epoch;
    bool excused; /* purged, committed over, rejected...: it need not come */
};

struct oracle_event {
    unsigned queues; /* bits: queues that it was routed to */
    uint32_t topic, bytes, key;
    uint8_t durability;
    uint64_t after_lsn; /* its record comes after it */
    struct moment published;
    uint64_t delay_ns;
    uint64_t publisher, sequence;
    bool confirmed, buried, again; /* again: it was sent again, or redriven */
    struct oracle_fate fates[ORACLE_QUEUES_MAX][ORACLE_GROUPS_MAX + 1];
};

struct oracle {
    struct memory *memory;
    struct oracle_queue queues[ORACLE_QUEUES_MAX];
    uint32_t queue_count;
    struct oracle_event *events;
    size_t event_count, event_room;
    uint64_t *seen; /* hashes of (queue, group, seq, attempt, epoch) that handlers got */
    size_t seen_count, seen_room;
    char wrong[512]; /* first rule that was broken */
    bool verbose;
};

void oracle_fini(struct oracle *oracle);
/** oracle_event - a new event's number; its data is made by oracle_data(). */
size_t oracle_event(struct oracle *oracle, uint32_t topic, uint32_t bytes, uint8_t durability, uint32_t key);
void oracle_data(const struct oracle *oracle, size_t event, char *data);
void oracle_fail(struct oracle *oracle, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** oracle_deliveries - judge what came into rings since the last time. */
void oracle_deliveries(struct oracle *oracle);
/** oracle_delivery - judge one, as a client sees it; false: it is of a queue that is not ours (dead letters).
 */
bool oracle_delivery(struct oracle *oracle, const struct pawl_inbound_entry *entry,
                     const struct pawl_event *event, uint32_t group);
/** oracle_begun - a handler got it: never twice. */
void oracle_begun(struct oracle *oracle, const struct pawl_inbound_entry *entry,
                  const struct pawl_event *event, uint32_t group);
/** oracle_settled - the bus has taken an ack (or something else that ends it). */
void oracle_settled(struct oracle *oracle, const struct pawl_inbound_entry *entry,
                    const struct pawl_event *event, uint32_t group);
/** oracle_released - it was handed back: its attempt is not counted on disk unless its begin was. */
void oracle_released(struct oracle *oracle, const struct pawl_inbound_entry *entry,
                     const struct pawl_event *event, uint32_t group);
void oracle_excuse(struct oracle *oracle, uint32_t queue, uint32_t group);
/** oracle_sought - a group goes on elsewhere: all of it may come again. */
void oracle_sought(struct oracle *oracle, uint32_t queue, uint32_t group);
/** oracle_flushed - what was settled or begun so far has this lsn. */
void oracle_flushed(struct oracle *oracle);
/** oracle_crashed - records above @kept_lsn are lost. */
void oracle_crashed(struct oracle *oracle, uint64_t kept_lsn);
/** oracle_recount - depth, bytes, in flight, counters: counted again. */
void oracle_recount(struct oracle *oracle);
/** oracle_end - everything is drained: what was confirmed has come. */
void oracle_end(struct oracle *oracle);

static inline uint32_t oracle_group_of(const struct pawl_inbound_entry *entry) /* consumers are named so */
{
    return entry->consumer & 7;
}

#endif
