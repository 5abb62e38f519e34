/*
 * bus.h - the event bus: inputs and `now` in, effects out; it knows no storage and no transport.
 *
 * Runs in the scheduler, in tests over a backend that is memory only, later over a distributed engine. Like
 * the workflow core it does no I/O, reads no clock and no shared word, never blocks. What it decides becomes
 * a record, and records change the state through one pawl_bus_apply(), live and in recovery.
 *
 *   publish -> exchange (route, admit) -> EVENTS record -> backlog of each queue -> durable -> subscription
 *   -> deliver -> begun -> settle (ACK, RETRY, DEAD records) -> released
 *
 * One client's submissions and settlements between two pawl_bus_flush() are appended together; whatever is
 * appended between two cuts of the caller is atomic.
 */
#ifndef PAWL_SCHEDULER_BUS_BUS_H
#define PAWL_SCHEDULER_BUS_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <jansson.h>

#include "scheduler/bus/limits.h"
#include "scheduler/now.h"
#include "shm/client_lane.h"
#include "shm/event.h"
#include "shm/metrics.h"
#include "shm/wire.h"

struct pawl_bus;
struct pawl_bus_client;

/* Types of the bus's records. Bodies: scheduler/bus/record.h and docs/journal-format.md. */
enum pawl_bus_record_type {
    PAWL_BUS_RECORD_FIRST = 64,
    PAWL_BUS_RECORD_EVENTS = 64, /* events of one publisher, with the queues that they went to */
    PAWL_BUS_RECORD_CLAIM = 65,  /* attempts began */
    PAWL_BUS_RECORD_ACK =
        66, /* settled for good: acked, dropped, purged, expired without a dead-letter queue */
    PAWL_BUS_RECORD_RETRY = 67,     /* an attempt failed, another will come */
    PAWL_BUS_RECORD_DEAD = 68,      /* settled as dead; its copy is in an EVENTS record of the same batch */
    PAWL_BUS_RECORD_EXTEND = 69,    /* a detached delivery has another deadline */
    PAWL_BUS_RECORD_QUEUE = 70,     /* a queue was declared, changed, paused, resumed */
    PAWL_BUS_RECORD_DELETE = 71,    /* a queue, or a group, is gone */
    PAWL_BUS_RECORD_GROUP = 72,     /* a group of a stream begins, or was moved to an offset */
    PAWL_BUS_RECORD_TRIM = 73,      /* a stream lost its oldest events to retention */
    PAWL_BUS_RECORD_RELEASE = 74,   /* a detached delivery came back without a failure */
    PAWL_BUS_RECORD_MOVE = 75,      /* an event was copied forward: its queues find it here */
    PAWL_BUS_RECORD_PUBLISHED = 76, /* a publish was dealt with, wholly or for one queue */
    PAWL_BUS_RECORD_LAST = 79,
};

/* A place from keep(): memory only. */
#define PAWL_PLACE_VOLATILE (UINT64_C(1) << 63)

/* Storage, persistence and transport. `ctx` is pawl_bus_create()'s. None may call back into the bus. */
struct pawl_bus_backend {
    /* Storage. append: one record; its lsn, 0 on failure (the bus then only refuses). durable lsns are told
     * by pawl_bus_durable(). keep: the same in memory only, for so many queues; a place with
     * PAWL_PLACE_VOLATILE, 0: its bound is reached. release: one of those queues wants it no more. */
    uint64_t (*append)(void *ctx, uint8_t type, const struct iovec *body, int count, uint64_t *place_out);
    uint64_t (*keep)(void *ctx, const struct iovec *body, int count, uint32_t queues);
    void (*release)(void *ctx, uint64_t place);
    /* What was appended so far need not stand or fall with what follows: a batch has a bound. NULL: no bound.
     */
    void (*cut)(void *ctx);
    /* May events of so many bytes together be kept? NULL: they may. */
    bool (*may_keep)(void *ctx, size_t bytes);
    /* 0: new events of this size may be appended; PAWL_E_NO_SPACE, PAWL_E_LIMIT (later). */
    int (*has_room)(void *ctx, size_t bytes);
    /* Is the disk full, and has it room for this nevertheless, that may not be needed for settlements? What
     * is stored afterwards is no more than before. NULL: it has not. */
    bool (*may_spend)(void *ctx, size_t bytes);
    /* The body of the record at a place; valid until the next call of the backend. 0 or an error. */
    int (*read)(void *ctx, uint64_t place, uint8_t *type_out, const void **body_out, size_t *bytes_out);
    /* The place of the record after it in the log; 0: none. Never asked of volatile places. */
    uint64_t (*next)(void *ctx, uint64_t place);
    /* Where a place is by now. */
    uint64_t (*resolve)(void *ctx, uint64_t place);

    /* Transport. deliver: 0; PAWL_E_QUEUE_FULL: tried again after this client's next settlement. */
    int (*deliver)(void *ctx, uint32_t client, const struct pawl_inbound_entry *entry,
                   const struct pawl_event *event);
    void (*reply)(void *ctx, uint32_t client, const struct pawl_reply *reply);
    /* Words for the person at a client: why what it asked for waits. At most 255 bytes. NULL: for nobody. */
    void (*tell)(void *ctx, uint32_t client, const char *text);
    /* Something that a waiting request may be about has changed (events to take, something became durable).
     */
    void (*changed)(void *ctx);

    /* Cells of a queue that anybody may read; NULL: not counted. */
    struct pawl_metrics_row *(*metrics_row)(void *ctx, uint32_t queue, const char *name);
    uint64_t (*random)(void *ctx);
    void (*log)(void *ctx, int level, const char *text);
};

int pawl_bus_create(const struct pawl_bus_limits *limits, const struct pawl_bus_backend *backend, void *ctx,
                    struct pawl_bus **bus_out);
void pawl_bus_destroy(struct pawl_bus *bus);
void pawl_bus_set_limits(struct pawl_bus *bus, const struct pawl_bus_limits *limits);

/* ---- recovery: before anything else ---- */

/** pawl_bus_written - what is applied and loaded from here on was written at @written; boottime_ns 0 (as long
 * as nothing is said): in another boot. Waits go on by it: pawl_now_due(). */
void pawl_bus_written(struct pawl_bus *bus, struct pawl_now written);
/** pawl_bus_apply - one record changes the state. 0; PAWL_E_DAMAGED; PAWL_E_BAD_FORMAT; -ENOMEM. */
int pawl_bus_apply(struct pawl_bus *bus, uint8_t type, uint16_t version, const void *body, size_t bytes,
                   uint64_t lsn, uint64_t place);
/** pawl_bus_snapshot_is - is this chunk the bus's? */
bool pawl_bus_snapshot_is(const void *bytes, size_t n);
int pawl_bus_snapshot_load(struct pawl_bus *bus, const void *bytes, size_t n);
/** As pawl_core_snapshot_next(): 1 and a chunk, 0 at the end, negative on failure (nothing more comes). */
int pawl_bus_snapshot_next(struct pawl_bus *bus, struct pawl_now now, void **cursor, const void **chunk_out,
                           size_t *bytes_out);
/** pawl_bus_start - recovery is over: begun deliveries that nobody can hold any more were interrupted.
 * @epoch_lsn: of the record of @epoch. Nothing is delivered before it is durable: else the next scheduler
 * would take this epoch for its own, and give the same deliveries again. */
int pawl_bus_start(struct pawl_bus *bus, struct pawl_now now, uint64_t epoch, uint64_t epoch_lsn);

/* For whom a paused queue keeps waiting; its name, twice. */
#define PAWL_BUS_PAUSED_WORDS                                                                                \
    "queue %s is paused: nothing is delivered until somebody says: pawl queue resume %s"

/** pawl_bus_is_paused - the queue of that name, and there is one. */
bool pawl_bus_is_paused(struct pawl_bus *bus, const char *name);

/* ---- clients ---- */

int pawl_bus_client_open(struct pawl_bus *bus, struct pawl_now now, uint32_t number, uint64_t publisher,
                         uint64_t *publisher_sequence_out);
/** pawl_bus_client_close - it is gone: what it had begun counts as a failure, the rest goes back. */
void pawl_bus_client_close(struct pawl_bus *bus, struct pawl_now now, uint32_t number);
struct pawl_bus_client *pawl_bus_client(struct pawl_bus *bus, uint32_t client);

/** pawl_bus_act_begin - what pawl_bus_may_publish() is asked from here on belongs to one atomic act. */
void pawl_bus_act_begin(struct pawl_bus *bus);
/** pawl_bus_may_publish - would it be taken by all its queues now, together with what was asked since
 * act_begin()? 0 or why not: asked for each part of an atomic act before any is done. */
int pawl_bus_may_publish(struct pawl_bus *bus, const struct pawl_submit *submit,
                         const struct pawl_event *event);
/** pawl_bus_act_hold - the parts of an act are done between true and false: all that they append is one
 * batch, and nobody else's records come in between. Flush before false. */
void pawl_bus_act_hold(struct pawl_bus *bus, bool holds);
/** pawl_bus_publish - one event that was copied and checked; its `id` and time are filled in. Answered by
 * replies. */
void pawl_bus_publish(struct pawl_bus *bus, struct pawl_now now, struct pawl_bus_client *client,
                      const struct pawl_submit *submit, struct pawl_event *event);
/** pawl_bus_settle - 0, or PAWL_E_BAD_MESSAGE: it named deliveries that it never got (close the lane). Late
 * ones are answered by replies. @text: settle->text_bytes, or NULL. */
int pawl_bus_settle(struct pawl_bus *bus, struct pawl_now now, struct pawl_bus_client *client,
                    const struct pawl_settle *settle, const char *text);
/** pawl_bus_may_settle - may it be part of an atomic act: does it hold all of these now, and was none of them
 * acked or released since act_begin()? 0; PAWL_E_STALE_RECEIPT; PAWL_E_INVALID: failures are not, a dead
 * letter has a size; PAWL_E_LIMIT: more time than there may be. */
int pawl_bus_may_settle(struct pawl_bus *bus, struct pawl_bus_client *client,
                        const struct pawl_settle *settle);
/** pawl_bus_begun - its handlers have seen the deliveries below this number. */
void pawl_bus_begun(struct pawl_bus *bus, struct pawl_now now, struct pawl_bus_client *client,
                    uint64_t begun);
uint64_t pawl_bus_delivered(const struct pawl_bus_client *client); /* numbers given so far */
/** pawl_bus_is_handling - does its handler hold a delivery that it has seen and not settled? */
bool pawl_bus_is_handling(const struct pawl_bus_client *client);
uint64_t pawl_bus_begun_count(const struct pawl_bus_client *client);
/** pawl_bus_may_submit - false: this client's publishes wait (something of it is parked): read only
 * settlements. */
bool pawl_bus_may_submit(const struct pawl_bus_client *client);

/** pawl_bus_client_ready - its ring has room again: what was refused by deliver() is tried again. */
void pawl_bus_client_ready(struct pawl_bus *bus, struct pawl_bus_client *client);
/** pawl_bus_claims - what it has begun and not settled is written down. After its settlements, before the
 * cut. */
void pawl_bus_claims(struct pawl_bus *bus, struct pawl_now now, struct pawl_bus_client *client);

int pawl_bus_consume(struct pawl_bus *bus, struct pawl_now now, struct pawl_bus_client *client,
                     const struct pawl_wire_consume *request, struct pawl_wire_consume_ok *ok_out,
                     char why[256]);
int pawl_bus_consume_end(struct pawl_bus *bus, struct pawl_now now, struct pawl_bus_client *client,
                         uint32_t id);

/* ---- detached deliveries, and looking ---- */

struct pawl_bus_taken {
    struct pawl_inbound_entry entry;
    uint64_t deadline_at_ns; /* realtime */
};
/** pawl_bus_take - up to @max deliveries that no client is bound to; valid once *lsn_out is durable.
 * Return: how many (0: none is ready now), or an error with @why. */
int pawl_bus_take(struct pawl_bus *bus, struct pawl_now now, const struct pawl_wire_take *request,
                  struct pawl_bus_taken *taken_out, uint32_t max, uint64_t *lsn_out, char why[256]);
/** pawl_bus_peek - seqs from request->from on that are not settled. How many; *next_out, *end_out. */
int pawl_bus_peek(struct pawl_bus *bus, const struct pawl_wire_take *request,
                  struct pawl_bus_taken *taken_out, uint32_t max, uint64_t *next_out, bool *end_out,
                  char why[256]);
/** pawl_bus_event - the event of a queue's seq; valid until the next call. NULL: gone. */
const struct pawl_event *pawl_bus_event(struct pawl_bus *bus, uint32_t number, uint64_t seq);
/** pawl_bus_settle_one - by identity. 0; PAWL_E_STALE_RECEIPT; PAWL_E_NOT_FOUND; PAWL_E_LIMIT: more time than
 * PAWL_EXTEND_NS_MAX. */
int pawl_bus_settle_one(struct pawl_bus *bus, struct pawl_now now, const struct pawl_wire_settle_one *settle,
                        const char *text);

/* ---- administration ---- */

/** pawl_bus_request - {"op": ...} -> *reply_out (a new reference), done once *lsn_out is durable (0: at
 * once). 0; an error with @why. @client: owner of temporary queues, 0: none. */
int pawl_bus_request(struct pawl_bus *bus, struct pawl_now now, uint32_t client, json_t *json,
                     json_t **reply_out, uint64_t *lsn_out, char why[256]);

/* ---- time, disk, turns ---- */

void pawl_bus_flush(struct pawl_bus *bus,
                    struct pawl_now now); /* open groups and gathered ranges become records */
void pawl_bus_durable(struct pawl_bus *bus, struct pawl_now now, uint64_t lsn);
/** pawl_bus_tick - what is due. Return: when to call again (boottime), UINT64_MAX: never. */
uint64_t pawl_bus_tick(struct pawl_bus *bus, struct pawl_now now);
/** pawl_bus_dispatch - deliver what may be delivered now. True: there is more, call again next turn. */
bool pawl_bus_dispatch(struct pawl_bus *bus, struct pawl_now now);
/** pawl_bus_drain - deliver nothing more (the scheduler is stopping). */
void pawl_bus_drain(struct pawl_bus *bus);
uint64_t pawl_bus_held(const struct pawl_bus *bus); /* in clients' lanes, unsettled: walks them */

bool pawl_bus_failed(const struct pawl_bus *bus); /* as pawl_core_failed() */
/** pawl_bus_mark_pinned - marks[n] becomes 1 where segment @first + n of the journal holds an event that is
 * still wanted. One pass over all backlogs. */
void pawl_bus_mark_pinned(const struct pawl_bus *bus, uint32_t first, uint8_t *marks, uint32_t count);
/** pawl_bus_look - how far consumers have come. They are taken to come as far again until the next look. */
void pawl_bus_look(struct pawl_bus *bus);
/** pawl_bus_worth_moving - on a full disk: the oldest segment of [@first, @end) that holds what is still
 * wanted, none of it a stream's, and not all of it about to be consumed, as the last two looks tell, if
 * @is_worth says so of the bytes that live. Changes nothing. 0: there is none. */
uint32_t pawl_bus_worth_moving(const struct pawl_bus *bus, uint32_t first, uint32_t end,
                               bool (*is_worth)(void *ctx, uint32_t segment, uint64_t live_bytes), void *ctx);
/** pawl_bus_copy_forward - what keeps this segment alive is written again; at most @bytes_max (and one
 * event). True: something was. */
bool pawl_bus_copy_forward(struct pawl_bus *bus, struct pawl_now now, uint32_t segment, uint64_t bytes_max);
/** pawl_bus_compact - where there is room: a look, and a part of the oldest pinned segment below @end is
 * written again, if little of it lives and what does stays. */
bool pawl_bus_compact(struct pawl_bus *bus, struct pawl_now now, uint32_t end, uint64_t bytes_max);
uint32_t pawl_bus_queue_count(const struct pawl_bus *bus);
/** pawl_bus_queues_lsn - of the record that last changed which queues and groups there are, and how: who is
 * told of them, or that there is none, hears it when this is durable. 0: none so far. */
uint64_t pawl_bus_queues_lsn(const struct pawl_bus *bus);

#endif
