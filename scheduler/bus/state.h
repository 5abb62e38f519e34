/*
 * state.h - the bus's own structures, shared by its files only.
 *
 * Owned by: the scheduler's private memory. Nothing here is shared with another process but the metrics rows,
 * which are written only.
 */
#ifndef PAWL_SCHEDULER_BUS_STATE_H
#define PAWL_SCHEDULER_BUS_STATE_H

#include "scheduler/bus/backlog.h"
#include "scheduler/bus/breaker.h"
#include "scheduler/bus/bus.h"
#include "scheduler/bus/config.h"
#include "scheduler/bus/dedupe.h"
#include "scheduler/bus/exceptions.h"
#include "scheduler/bus/publishers.h"
#include "scheduler/bus/record.h"
#include "scheduler/bus/seqset.h"
#include "scheduler/bus/timers.h"
#include "shm/log.h"

enum {
    BUS_PARKED_BYTES_MAX = 16 << 20,
    BUS_CONSUMERS_MAX = 1024,        /* of a client */
    BUS_GROUP_BYTES_MAX = 256 << 10, /* events that are gathered into one record */
    BUS_ROUTES_CACHED_MAX = 16384,
    BUS_DISPATCH_A_TURN = 2048, /* deliveries of one subscription in a row */
    BUS_PARKED_MAX = 1024,      /* publishes of one client that wait for room */
    /* A timer names both in one word. */
    BUS_GROUP_BITS = 11,
    BUS_GROUPS_MAX = 1024,
    BUS_QUEUE_NUMBERS_MAX = 1 << (32 - BUS_GROUP_BITS),
};

struct bus_queue;
struct bus_sub;
struct bus_consumer;
struct pawl_bus_client;

/* ---- a queue ---- */

struct bus_queue {
    uint32_t number;
    char name[PAWL_NAME_BYTES];
    struct pawl_queue_config config;
    struct pawl_metrics_row *row;
    struct pawl_log_limit said[2]; /* errors, and all else */
    uint64_t tail;                 /* next seq to give; the first is 1 */
    uint64_t first_kept;           /* a stream: retention took what is below it, in the midst of an extent */
    uint64_t visible_tail;         /* seqs below it may be delivered: their durability is reached */
    struct backlog backlog;
    uint64_t depth, bytes;                 /* unsettled (a stream: kept) */
    uint64_t pending_depth, pending_bytes; /* of the open group */
    uint64_t act, act_depth, act_bytes;    /* promised to the parts of this act */
    struct bus_sub *sub;                   /* its own (not a stream) */
    struct bus_sub **groups;               /* of a stream, by group number - 1; NULL: deleted */
    uint32_t group_count;
    bool paused;
    bool expiring;                              /* it has, or had, an event with a time to live of its own */
    uint32_t owner;                             /* temporary: its client */
    uint32_t dlq;                               /* number, once known; 0: not yet */
    struct bus_queue *next_named, *next_buried; /* names.c: in the chains of its name, of its dead letters' */
    struct bus_pattern *patterns;               /* patterns.c */
    uint32_t pattern_count;
    uint64_t config_lsn;
    uint64_t visible_lsn;                     /* must be durable before what came last may be seen */
    struct bus_parked *parked, **parked_tail; /* publishes that wait for room here */
    uint64_t unpark_at_ns;                    /* boottime: when the disk is asked again for those; 0: never */
    uint64_t trim_at_ns;                      /* a stream by age: when to look again */
    uint64_t last_published_ns;
};

/* ---- a subscription: a cursor over a queue, and what is not plain about the events behind it ---- */

struct bus_sub {
    struct bus_queue *queue;
    uint32_t group; /* 0: the queue itself */
    uint32_t generation;
    char name[PAWL_NAME_BYTES];
    uint64_t next;        /* next first delivery */
    uint64_t looked_next; /* the same at the last look of pawl_bus_look() */
    uint64_t passed_next; /* and at the look before */
    struct pawl_seqset settled;
    struct exceptions exceptions;
    struct backlog_cursor cursor,
        aside; /* aside: for those beside the cursor, which often come in order too */
    uint64_t in_flight;
    struct pawl_breaker breaker;
    struct pawl_breaker_image breaker_image; /* of a snapshot: until the clock is known */
    /* rate: tokens as time: the instant up to which they are used */
    uint64_t rate_used_until_ns;
    struct bus_consumer *consumers; /* a ring; the next to serve */
    uint32_t consumer_count;
    /* gathered until the next flush */
    struct pawl_bus_range *acks;
    size_t ack_count, ack_room;
    bool gathered; /* in bus->gathered */
    bool dirty;    /* in bus->dirty */
    uint64_t wake_at_ns;
    uint64_t watched; /* the wake is no later than when this seq expires by its queue; 0: none is watched */
    struct bus_sub *next_gathered, *next_dirty;
    uint64_t acked_at_realtime_ns;
};

/* ---- clients ---- */

enum bus_held_state { BUS_HELD_NONE = 0, BUS_HELD_UNSETTLED, BUS_HELD_REVOKED };

/* A delivery in a client's lane. */
struct bus_held {
    struct bus_sub *sub; /* NULL: settled, or its queue is gone */
    struct bus_consumer *consumer;
    uint64_t seq;
    uint64_t placed_at_ns;   /* boottime */
    uint64_t begun_at_ns;    /* boottime; 0: not begun */
    uint64_t deadline_at_ns; /* boottime; 0: not begun */
    uint32_t attempt;
    uint32_t breaker_round;
    uint8_t state;
    bool claimed; /* its begin is in the journal, or need not be */
    bool auto_ack;
    uint64_t act; /* the newest that would settle it; 0: none */
};

struct bus_consumer {
    struct pawl_bus_client *client;
    struct bus_sub *sub;
    struct bus_consumer *next, *previous; /* of the subscription */
    struct bus_consumer *next_of_client;
    uint32_t id;
    uint32_t credit, used;
    bool auto_ack, stalled, ended;
};

struct pawl_bus_client {
    uint32_t number;
    uint64_t serial; /* numbers are given again, serials are not */
    uint64_t publisher;
    uint64_t last_sequence; /* the highest that was taken from it, or is known from before */
    bool replaced; /* its publisher has a newer lane, on which all comes again: this one publishes no more */
    struct bus_held *held; /* by number & (room - 1) */
    uint32_t held_room;
    uint64_t held_first, held_next; /* numbers: settled below; next to give */
    uint64_t begun, claimed;
    struct bus_consumer *consumers;
    uint64_t deadline_check_ns; /* boottime, UINT64_MAX: nothing */
    uint32_t parked_count;
    uint64_t parked_bytes;
    bool told_full; /* it was told once that a publish of its waits */
    bool in_act;    /* between two parts of an atomic act */
    bool act_failed;
};

/* ---- the exchange ---- */

struct bus_route {
    struct bus_route *next; /* hash chain */
    uint64_t hash;
    uint32_t queue_count;
    uint8_t topic_bytes;
    bool owned_by_cache;
    struct bus_queue **queues;
    char topic[256];
};

struct bus_patterns { /* patterns.c: a hash table */
    struct bus_pattern **table;
    uint32_t room, count; /* room: a power of two, 0: none yet */
};

/* Events on their way into one record. */
struct bus_group {
    struct bus_route *route; /* NULL: none is open */
    struct pawl_bus_client *client;
    uint64_t publisher, first_sequence, first_id;
    uint64_t lsn; /* of the last one that was flushed; 0: in memory only */
    uint32_t count;
    uint32_t flags;
    uint8_t durability; /* asked for */
    uint8_t *bytes;     /* header, routes, events */
    size_t used, room, head;
};

/* A publish that waits until every queue of policy "block" that it goes to has room: in the line of each. */
struct bus_parked_publish {
    struct pawl_bus_client *client; /* NULL: it went; the publish is still wanted */
    uint64_t publisher;             /* as whose it is known; 0: nobody's */
    struct pawl_submit submit;      /* its sequence is that publisher's */
    uint64_t sequence;        /* what the client calls it: not the same where it goes on with another's */
    struct pawl_event *event; /* malloc'd */
    uint64_t parked_at_ns;    /* boottime */
    uint64_t delay_ns;        /* of the event, from then on */
    uint64_t duplicate_of;    /* its key was used by another event while it waited; 0: it was not */
    bool duplicate_in_memory;
    bool gone;                /* some queue is done with it without having it: dropped, or a dead letter */
    bool buried;              /* the latter */
    uint32_t waiting, routed; /* queues that it waits for, that have it */
    uint8_t durability;       /* the strongest of those */
    uint64_t lsn;             /* what its confirm waits for */
};

struct bus_parked {
    struct bus_parked *next;
    struct bus_parked_publish *publish;
};

/* What waits for an lsn. */
enum bus_wait_kind { BUS_WAIT_VISIBLE, BUS_WAIT_REPLY, BUS_WAIT_GRANT };
struct bus_wait {
    uint64_t lsn;
    uint32_t kind;
    uint32_t client, queue, group;
    uint64_t serial; /* REPLY: of the client; another may have its number by now */
    uint64_t seq;    /* VISIBLE: the tail; GRANT: the seq */
    struct pawl_reply reply;
};

enum bus_timer_kind {
    BUS_TIMER_DUE = 1,
    BUS_TIMER_DEADLINE = 2,
    BUS_TIMER_SUB = 3,
    BUS_TIMER_CLIENT = 4,
    BUS_TIMER_QUEUE = 5,
    BUS_TIMER_EXPIRY = 6,
    BUS_TIMER_PARKED = 7
};

struct pawl_bus {
    struct pawl_bus_limits limits;
    struct pawl_bus_backend backend;
    void *ctx;
    struct pawl_now now;
    struct pawl_now written;    /* while records are read back: when they were written */
    uint64_t epoch, next_event; /* next id */
    uint64_t epoch_lsn;         /* nothing is delivered before it is durable */
    uint32_t generation; /* rises whenever a name's seqs may begin anew: a seek, a deletion. 0 at the start */
    bool replaying, failed, draining;
    uint64_t durable_lsn, queues_lsn;
    uint64_t log_lsn;        /* of what was appended last */
    uint64_t act;            /* number of the newest atomic act, from 1 */
    uint64_t act_bytes;      /* of what it would append */
    uint64_t act_kept_bytes; /* of those: what it would keep in memory */
    int64_t act_growth;      /* bytes of stored events, once for each queue, that come, less those that go */
    bool acting;             /* its parts are being done */
    bool unpark_due;         /* it made room in a queue for which somebody waits */
    uint64_t orphans, orphan_bytes; /* parked publishes whose clients went */
    uint64_t stamp;                 /* rises with every call that may move what read() gave */

    struct bus_queue **queues; /* by number; NULL: none */
    uint32_t queue_end, queue_room, queue_count, temporary_count;
    struct bus_queue **named, **buried; /* names.c: hash tables */
    uint32_t names_room;                /* of each; a power of two, 0: none yet */
    struct bus_patterns patterns;
    struct bus_route **routes; /* hash table */
    uint32_t routes_cached;
    struct bus_route *last_route;

    struct pawl_bus_client **clients; /* by number */
    uint32_t client_room;
    uint64_t client_serial; /* given last */

    struct bus_group group;
    struct bus_sub *gathered, *dirty, *dirty_tail;
    struct bus_wait *waits;
    size_t wait_first, wait_count, wait_room;
    struct pawl_bus_timers timers;
    size_t timers_sweep_at;
    struct pawl_publishers publishers;
    struct pawl_dedupe dedupe;
    uint64_t in_flight;
    uint8_t *scratch; /* to build one event in */
    size_t scratch_room;
    struct pawl_bus_range *claim_ranges;
    size_t claim_room;
    struct bus_snapshot *snapshot;
};

/* Of a subscription, in a timer. */
static inline uint32_t bus_timer_of(uint32_t queue, uint32_t group)
{
    return queue << BUS_GROUP_BITS | group;
}

static inline uint32_t bus_timer_queue(uint32_t b)
{
    return b >> BUS_GROUP_BITS;
}

static inline uint32_t bus_timer_group(uint32_t b)
{
    return b & ((1u << BUS_GROUP_BITS) - 1);
}

/* bus.c, due.c */
int bus_grow(void **array, size_t *room, size_t count, size_t item_bytes);
/* About one queue: what may be said of every event is said once a second, with how often it was left out. */
void bus_log(struct pawl_bus *bus, struct bus_queue *queue, int level, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void bus_wait_for(struct pawl_bus *bus, const struct bus_wait *wait);
/* A reply that may be given once @lsn is durable. */
/** bus_tell - words for the person at @client, at most 255 bytes. */
void bus_tell(const struct pawl_bus *bus, const struct pawl_bus_client *client, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/** bus_tell_paused - that the queue of its consumer gives nothing. */
void bus_tell_paused(const struct pawl_bus *bus, const struct bus_consumer *consumer);
void bus_reply_durable(struct pawl_bus *bus, const struct pawl_bus_client *client,
                       const struct pawl_reply *reply, uint64_t lsn);
/* What waits longest for the disk; 0: nothing does. */
uint64_t bus_waited_lsn(const struct pawl_bus *bus);
/* Between two changes that may stand alone. */
void bus_cut(struct pawl_bus *bus);
void bus_dirty(struct pawl_bus *bus, struct bus_sub *sub);
void bus_timer(struct pawl_bus *bus, uint64_t due_boottime_ns, enum bus_timer_kind kind, uint64_t a,
               uint32_t b);
/** bus_expiry - an event with a time to live of its own, which is over at that instant. */
void bus_expiry(struct pawl_bus *bus, uint32_t queue, uint64_t seq, uint64_t due_realtime_ns);
bool bus_expiry_wanted(struct pawl_bus *bus, const struct pawl_bus_timer *timer);
void bus_expiries_start(struct pawl_bus *bus); /* those that were read back; what settled is known */
/* Where the record of a place lies now: a full disk may have moved it (backend.resolve). */
uint64_t bus_resolve(const struct pawl_bus *bus, uint64_t place);
/* One record, appended and applied: what every live change goes through. Its lsn; 0: failed. */
uint64_t bus_append(struct pawl_bus *bus, uint8_t type, const void *body, size_t bytes, const void *more,
                    size_t more_bytes);

/* names.c */
struct bus_queue *bus_queue_find(struct pawl_bus *bus, const char *name);
/* The queue can be found from now on; its configuration does not change while it can. 0 or -ENOMEM. */
int bus_names_add(struct pawl_bus *bus, struct bus_queue *queue);
void bus_names_remove(struct pawl_bus *bus, struct bus_queue *queue); /* fine if it is not there */
void bus_names_fini(struct pawl_bus *bus);
/* The name of where its dead letters go. */
void bus_dlq_name(const struct bus_queue *queue, char name[PAWL_NAME_BYTES + 8]);
/* The first queue, or the one after @after, whose dead letters go to a queue of this name; NULL: no more.
 * Queues of dead letters have none. */
struct bus_queue *bus_names_buried(const struct pawl_bus *bus, const char *name,
                                   const struct bus_queue *after);

/* patterns.c */
/* Its patterns count from now on; its configuration does not change while they do. 0 or -ENOMEM. */
int bus_patterns_add(struct pawl_bus *bus, struct bus_queue *queue);
void bus_patterns_remove(struct pawl_bus *bus, struct bus_queue *queue); /* fine if they do not count */
void bus_patterns_fini(struct pawl_bus *bus);
/* The queues that want the topic, or else those that take what nobody wants, by number, into the route that
 * has none yet. 0 or -ENOMEM. */
int bus_patterns_route(const struct pawl_bus *bus, const char *topic, size_t topic_bytes,
                       struct bus_route *route);

/* queue.c */
struct bus_queue *bus_queue_at(struct pawl_bus *bus, uint32_t number);
struct bus_sub *bus_sub_at(struct pawl_bus *bus, uint32_t number, uint32_t group);
struct bus_sub *bus_sub_find(struct bus_queue *queue, const char *group);
int bus_queue_apply(struct pawl_bus *bus, const struct pawl_bus_queue_record *record,
                    const char *config_json);
/* @lsn: of what deletes it. */
void bus_queue_free(struct pawl_bus *bus, struct bus_queue *queue, uint64_t lsn);
/* Declares with this configuration; lsn 0 and PAWL_E_*: refused with why. */
/* Would it be compatible, and is there a place for it? */
int bus_queue_allowed(struct pawl_bus *bus, const char *name, const struct pawl_queue_config *config,
                      char why[256]);
int bus_queue_declare(struct pawl_bus *bus, const char *name, const struct pawl_queue_config *config,
                      uint64_t *lsn_out, char why[256]);
/* Free number of a new group; 0: the stream has as many as it may. */
uint32_t bus_group_number(const struct pawl_bus *bus, const struct bus_queue *queue);
/* A new group that begins at @from, or at the first that is kept. NULL: *error_out and @why. */
struct bus_sub *bus_group_begin(struct pawl_bus *bus, struct bus_queue *queue, const char *name,
                                uint64_t from, int *error_out, char why[256]);
/* The words for a stream that has as many groups as it may. Return: PAWL_E_LIMIT. */
int bus_group_limit(const struct pawl_bus *bus, const struct bus_queue *queue, char why[256]);
bool bus_name_holds(const char *name);
int bus_group_apply(struct pawl_bus *bus, const struct pawl_bus_mark *mark);
struct bus_sub *bus_sub_create(struct pawl_bus *bus, struct bus_queue *queue, uint32_t group,
                               const char *name, uint64_t from);
void bus_sub_free(struct pawl_bus *bus, struct bus_sub *sub, uint64_t lsn);
/* What stands for the epoch in the identity of what it delivers now. */
uint64_t bus_sub_epoch(const struct pawl_bus *bus, const struct bus_sub *sub);
void bus_queue_row(struct bus_queue *queue); /* gauges */
/* The state that is shown; of a stream the highest number of its groups'. */
uint32_t bus_queue_breaker(const struct bus_queue *queue);
uint64_t bus_queue_first(const struct bus_queue *queue); /* lowest seq that is kept */
/* Recovery: the log knows seqs below @end that it does not hold. They were in memory only and went with the
 * scheduler that gave them; they are not given again. 0; PAWL_E_DAMAGED; -ENOMEM. */
int bus_queue_lost(struct bus_queue *queue, uint64_t end);
/* Seqs from its head on that the backlog has not got were in memory only, before a restart: nobody waits for
 * them. */
int bus_sub_settle_holes(struct bus_sub *sub);

/* route.c */
struct bus_route *bus_route_of(struct pawl_bus *bus, const char *topic,
                               size_t topic_bytes); /* NULL: -ENOMEM */
void bus_routes_forget(struct pawl_bus *bus);

/* exchange.c */
/* What holds for an event in a queue: the weaker of what the publish and what the queue says. */
uint8_t bus_weaker(uint8_t asked, uint8_t queues);
uint8_t bus_strongest_of(const struct bus_route *route, uint8_t asked);
/* The group that was open must be flushed. 0 or -ENOMEM. */
int bus_group_open(struct pawl_bus *bus, struct bus_route *route, struct pawl_bus_client *client,
                   uint64_t sequence, uint8_t durability);
void bus_group_add_as(struct pawl_bus *bus, struct pawl_event *event, uint64_t id, uint64_t published_at_ns);
void bus_group_flush(struct pawl_bus *bus);
/* What the first one has: its event, if known, and whether that is in memory only. */
void bus_confirm_duplicate(struct pawl_bus *bus, const struct pawl_bus_client *client, uint64_t sequence,
                           uint64_t event_id, bool memory);
/* An earlier lane of this publisher that is not gone yet publishes no more; what it had not begun is
 * forgotten. */
void bus_publisher_moves(struct pawl_bus *bus, const struct pawl_bus_client *client);
/* The client is told; NULL: nobody is. */
void bus_refuse(struct pawl_bus *bus, struct pawl_bus_client *client, uint64_t first, uint64_t last,
                int error, uint32_t queue);
void bus_partial(struct pawl_bus *bus, struct pawl_bus_client *client, uint64_t sequence, uint32_t queue,
                 int error);
/* An event of the bus's own (dead letter, redrive) into one queue, within the caller's batch; its seq, 0:
 * refused. */
uint64_t bus_put(struct pawl_bus *bus, struct bus_queue *queue, struct pawl_event *event);

/* May what nobody can refuse any more be stored in this queue: a dead letter, a publish that waited there? It
 * takes of a full disk what acts may, and no more: the rest of the reserve is for settlements. */
bool bus_disk_takes(const struct pawl_bus *bus, uint8_t durability, uint64_t bytes);

/* This act acks that event of the queue: its place and its bytes are free then. */
void bus_act_acks(struct pawl_bus *bus, struct bus_queue *queue, uint64_t seq);

/* As which publish it is known: its client's own, or another's that had its key before and went on without
 * being done. @event_id: some queues have it already, as that event; 0: none has. */
struct bus_origin {
    uint64_t publisher, sequence, event_id;
};

/* overflow.c */
bool bus_queue_is_full(const struct bus_queue *queue, uint64_t more_bytes);
/* Not even if it were empty: its max_bytes is less. */
bool bus_queue_never_fits(const struct bus_queue *queue, uint64_t bytes);
/* Its oldest are dropped until there is room. false: all that is left has begun, or it can never fit. */
bool bus_drop_oldest_for(struct pawl_bus *bus, struct bus_queue *queue, uint64_t bytes);
/* What becomes of an event that may not fit. DROPPED, BURIED: nobody is to be told that it failed. */
enum bus_fate {
    BUS_FATE_TAKEN,
    BUS_FATE_WAITS,
    BUS_FATE_DROPPED,
    BUS_FATE_BURIED,
    BUS_FATE_REFUSED,
    BUS_FATE_TOO_LARGE
};
enum bus_fate bus_admit(struct pawl_bus *bus, struct bus_queue *queue, const struct pawl_event *event);
/* Some queue of the route has no room, or somebody waits for room in it. */
void bus_publish_singly(struct pawl_bus *bus, struct pawl_bus_client *client,
                        const struct pawl_submit *submit, struct pawl_event *event,
                        const struct bus_route *route);

/* Some queues have it already: it is for the others. */
void bus_publish_rest(struct pawl_bus *bus, struct pawl_bus_client *client, const struct pawl_submit *submit,
                      struct pawl_event *event, const struct bus_route *route,
                      const struct bus_origin *origin);

/* parking.c */
/* Every queue that was full and blocks gets its place in line. 0, or -ENOMEM. */
int bus_park(struct pawl_bus *bus, struct pawl_bus_client *client, const struct pawl_submit *submit,
             const struct pawl_event *event, const struct bus_origin *origin, struct bus_queue **queues,
             uint32_t count, struct bus_parked_publish **publish_out);
/* So many queues have it now, by the group that was flushed last. */
void bus_parked_stored(const struct pawl_bus *bus, struct bus_parked_publish *publish, uint32_t queues,
                       uint8_t durability);
void bus_unpark(struct pawl_bus *bus, struct bus_queue *queue);
/* The publish that still waits, if it does, and the first queue (a number) that it waits for; else NULL. */
struct bus_parked_publish *bus_parked_find(const struct pawl_bus *bus, const struct bus_origin *origin,
                                           uint32_t *queue_out);
/* A publish whose client went is this client's now, which calls it @sequence. */
void bus_parked_adopt(struct pawl_bus *bus, struct bus_parked_publish *publish,
                      struct pawl_bus_client *client, uint64_t sequence);
/* The queue has another policy, or other limits: each is decided anew, in order. */
void bus_parked_decide(struct pawl_bus *bus, struct bus_queue *queue);
void bus_parked_refuse(struct pawl_bus *bus, struct bus_queue *queue, int error); /* the queue goes */
void bus_parked_drop_client(struct pawl_bus *bus, struct pawl_bus_client *client);

/* sum.c */
/* Before it is appended: a sum for its head, and for each event of an EVENTS record. */
void bus_sum_events(struct pawl_bus_events *record, size_t bytes);
void bus_sum_head(struct pawl_bus_events *record);
/* Read back: true where there is no sum. Each reads no more than @bytes, or event->bytes. */
bool bus_head_holds(const struct pawl_bus_events *record, size_t bytes);
bool bus_event_holds(const struct pawl_event *event);

/* events.c */
/* The same key on another topic is another event. */
struct pawl_dedupe_key bus_event_key(const struct pawl_event *event);
int bus_events_apply(struct pawl_bus *bus, const void *body, size_t bytes, uint64_t lsn, uint64_t place);
int bus_published_apply(struct pawl_bus *bus, const struct pawl_bus_published *record, uint64_t lsn);
/* A publish was dealt with, for @queue or (0) for all. @write: this goes into the journal, as what came of it
 * did; else it is known to this scheduler only, and @lsn says where what came of it is (0: in memory). */
void bus_note_published(struct pawl_bus *bus, uint64_t publisher, uint64_t sequence, uint32_t queue,
                        uint64_t event_id, uint64_t lsn, bool write);

/* settle.c */
void bus_settle_gather(struct pawl_bus *bus, struct bus_sub *sub, uint64_t seq);
void bus_settle_flush(struct pawl_bus *bus);
/* Its event is settled: it is taken out; a detached delivery is in flight no more. */
void bus_exception_gone(struct pawl_bus *bus, struct bus_sub *sub, struct exception *exception);
void bus_sub_drop_range(struct pawl_bus *bus, struct bus_sub *sub, uint64_t first, uint64_t last,
                        enum pawl_bus_end reason);
/* An attempt failed: again later, or dead. @delay_ns PAWL_SETTLE_POLICY: the queue's backoff. */
void bus_delivery_failed(struct pawl_bus *bus, struct bus_sub *sub, uint64_t seq, uint32_t attempt,
                         uint32_t cause, uint64_t delay_ns, const char *text, size_t text_bytes);
int bus_ranges_apply(struct pawl_bus *bus, uint8_t type, const struct pawl_bus_ranges *record,
                     const struct pawl_bus_range *ranges);
int bus_one_apply(struct pawl_bus *bus, uint8_t type, const struct pawl_bus_one *record, const char *text);

/* dead_letter.c */
/* The dead-letter queue of a queue, and what it is or will be called ("": this is one). NULL: there is none
 * yet. */
struct bus_queue *bus_dlq_find(struct pawl_bus *bus, const struct bus_queue *queue,
                               char name_out[PAWL_NAME_BYTES + 8]);
/* Do others than @owner bury there? */
bool bus_dlq_is_shared(const struct pawl_bus *bus, const struct bus_queue *dlq,
                       const struct bus_queue *owner);
void bus_dlq_declared(struct pawl_bus *bus, struct bus_queue *queue); /* whose it is, and which is its own */
void bus_dlq_find_all(struct pawl_bus *bus);                          /* after a replay */
void bus_dead(struct pawl_bus *bus, struct bus_sub *sub, uint64_t seq, uint32_t attempt, uint32_t failures,
              enum pawl_dead_reason reason, const char *text, size_t text_bytes);
/* What does not fit into a queue goes straight to its dead letters. false: there is no place for it. */
bool bus_dead_event(struct pawl_bus *bus, struct bus_queue *queue, const struct pawl_event *event,
                    enum pawl_dead_reason reason, uint32_t attempts, const char *text, size_t text_bytes,
                    uint64_t seq);
struct pawl_event *bus_event_with_headers(struct pawl_bus *bus, const struct pawl_event *event,
                                          const char *const *names, const char *const *values, size_t count,
                                          const char *drop_prefix, bool with_key);

/* held.c */
struct bus_held *bus_held_at(struct pawl_bus_client *client, uint64_t number);
struct bus_held *bus_held_new(struct pawl_bus *bus, struct pawl_bus_client *client);
void bus_held_done(struct pawl_bus *bus, struct pawl_bus_client *client, struct bus_held *held);
/* What lies in the lane (NULL: of all its consumers) goes back; what they had begun has failed if it died. */
void bus_held_give_up(struct pawl_bus *bus, struct pawl_bus_client *client, const struct bus_consumer *only,
                      bool died);
void bus_client_tick(struct pawl_bus *bus, struct pawl_bus_client *client);
void bus_sub_revoke_held(struct pawl_bus *bus, struct bus_sub *sub); /* the subscription moves or goes */
void bus_deadline_soon(struct pawl_bus *bus, struct pawl_bus_client *client, uint64_t at_ns);

/* consumer.c */
void bus_consumer_unlink(struct bus_consumer *consumer); /* it gets nothing more */
/* Each is told, once @lsn is durable. */
void bus_sub_drop_consumers(struct pawl_bus *bus, struct bus_sub *sub, uint64_t lsn);

/* dispatch.c */
/* Until its epoch is durable a scheduler delivers nothing: the next one would take the same, and give the
 * same identities again. */
static inline bool bus_may_deliver(const struct pawl_bus *bus)
{
    return bus->epoch_lsn <= bus->durable_lsn;
}

bool bus_dispatch_sub(struct pawl_bus *bus, struct bus_sub *sub);
/* The next delivery that may go now, decided but not begun: seq, its event, its exception if it has one.
 * false: none. */
struct bus_choice {
    uint64_t seq;
    const struct pawl_event *event;
    struct exception *exception;
    bool from_cursor;
};
bool bus_choose(struct pawl_bus *bus, struct bus_sub *sub, struct bus_choice *choice_out);
void bus_chosen(struct pawl_bus *bus, struct bus_sub *sub, struct bus_choice *choice);
uint64_t bus_ordering_key(const struct bus_queue *queue, const struct pawl_event *event); /* 0: it has none */
bool bus_take_token(struct pawl_bus *bus, struct bus_sub *sub); /* rate: one more may go now */
/* For the figures: a handler has it now. What was given ahead and taken back does not count. */
void bus_count_delivery(const struct bus_sub *sub, uint64_t seq, uint32_t attempt);
void bus_key_release(struct pawl_bus *bus, struct bus_sub *sub, struct exception *exception, uint64_t seq);

/* expiry.c */
bool bus_has_expired(const struct pawl_bus *bus, const struct bus_queue *queue,
                     const struct pawl_event *event);
void bus_expire(struct pawl_bus *bus, struct bus_sub *sub, uint64_t seq); /* if nobody has begun it */
/* It was in somebody's hands and waits again: it may have expired meanwhile. */
void bus_returned(struct pawl_bus *bus, struct bus_sub *sub, uint64_t seq);

/* stream.c */
void bus_stream_trim(struct pawl_bus *bus, struct bus_queue *queue);

/* redeclare.c */
void bus_take_up(struct pawl_bus *bus, struct bus_queue *queue);
int bus_trim_apply(struct pawl_bus *bus, const struct pawl_bus_mark *mark);
uint64_t bus_stream_offset(struct pawl_bus *bus, struct bus_queue *queue, uint64_t realtime_ns);

#endif
