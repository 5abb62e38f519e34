/*
 * bus_memory.h - the bus over a backend that is memory only: records in an array, lanes as lists, clocks that
 * are set by hand, a disk that is synced when the test says so.
 *
 * Single-threaded and deterministic. It holds the bus to its side of the contract: what read() gave is freed
 * by the next call that may move it, a kept record is freed when it is released, and both are told apart from
 * live memory by the address sanitizer. Used by the unit tests of the bus and by its simulator.
 */
#ifndef PAWL_TESTS_SIM_BUS_MEMORY_H
#define PAWL_TESTS_SIM_BUS_MEMORY_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "scheduler/bus/bus.h"
#include "tests/sim/moment.h"

enum { MEMORY_CLIENTS_MAX = 64, MEMORY_RECORDS_A_SEGMENT = 32, MEMORY_RECORD_EPOCH = 0 };
#define MEMORY_SECOND_NS UINT64_C(1000000000)

struct memory_record {
    uint8_t type;
    struct moment written;
    uint32_t users;      /* of a kept one: queues that want it */
    unsigned char *body; /* NULL: given back, or its segment is gone */
    size_t bytes;
};

/* A delivery as the client's ring holds it. */
struct memory_delivery {
    struct pawl_inbound_entry entry;
    struct pawl_event *event;
    bool judged, begun, over; /* the simulator's: looked at; its handler has seen it; done with it */
};

struct memory_client {
    bool open;
    uint32_t number;
    uint64_t sequence; /* last that was published */
    uint64_t begun;
    uint32_t room; /* deliveries that the ring takes; lower it to make it full */
    struct memory_delivery *deliveries;
    size_t delivery_count, delivery_room;
    struct pawl_reply *replies;
    size_t reply_count, reply_room;
};

struct memory_chunk {
    void *bytes;
    size_t n;
};

struct memory {
    struct pawl_bus *bus;
    struct pawl_bus_limits limits;
    struct pawl_now now;
    uint32_t boot;
    uint64_t epoch, epoch_lsn, random;
    int has_room; /* what the disk says to new events */
    size_t spare; /* of a full disk, for acts that free space */
    bool failing; /* the journal takes nothing any more */
    bool kept_full;
    size_t kept_max; /* may_keep(): bytes; 0: any number */

    struct memory_record *records; /* lsn is the index + 1 */
    size_t record_count, record_room;
    struct memory_record *kept;
    size_t kept_count, kept_room, kept_live;
    uint64_t durable;
    size_t rescued_from, rescued_to, rescued_count; /* records that a full disk moved; their numbers */
    bool rescue_known;                              /* until the scheduler that did it dies */
    unsigned char *lent;                            /* what read() gave last */

    struct memory_chunk *chunks; /* the newest snapshot */
    size_t chunk_count, chunk_room;
    struct moment snapshot_written;
    uint64_t snapshot_lsn;

    struct memory_client clients[MEMORY_CLIENTS_MAX];
    uint64_t changes, lines_logged;
    char logged[512];

    int error; /* of the last request */
    char why[256];
    uint64_t request_lsn;
};

struct memory_publish {
    const char *topic;
    const char *key;
    const char *headers[4][2]; /* names and values */
    const char *data;
    size_t data_bytes; /* 0: strlen(data) */
    uint64_t delay_ns, ttl_ns;
    uint8_t priority, durability, guarantee, flags;
    uint64_t sequence; /* 0: the next of the client */
};

void memory_init(struct memory *memory);
void memory_fini(struct memory *memory);

/* ---- the scheduler's life ---- */

/** memory_restart - the scheduler dies; records above @kept_lsn are lost; another one recovers and starts. */
void memory_restart(struct memory *memory, uint64_t kept_lsn);
/** memory_reboot - the clock that counts from the boot stands at @boottime_ns, in a new one: before
 * memory_restart(). */
void memory_reboot(struct memory *memory, uint64_t boottime_ns);
/** memory_recover - a bus that has applied the records up to @lsn (over the snapshot, if @over_snapshot),
 * each @times times, and has not started. */
struct pawl_bus *memory_recover(struct memory *memory, uint64_t lsn, bool over_snapshot, int times);
void memory_snapshot(struct memory *memory);
void memory_snapshot_of(struct memory *memory, struct pawl_bus *bus, uint64_t lsn);

void memory_pass(struct memory *memory, uint64_t ns); /* time passes, what is due happens */
void memory_sync(struct memory *memory);              /* all that was appended is durable */
void memory_flush(struct memory *memory);             /* begins, claims, records, deliveries; no sync */
void memory_turn(struct memory *memory);              /* the same until nothing changes any more, synced */
/** memory_release_segments - segments that the bus does not pin lose their records. How many went. */
size_t memory_release_segments(struct memory *memory);
/** memory_rescue - as a full disk does it: the last @count records move to a segment of their own, once;
 * places that were given of them lead there. */
void memory_rescue(struct memory *memory, size_t count);

/* ---- clients ---- */

struct memory_client *memory_open(struct memory *memory, uint64_t publisher);
void memory_close(struct memory *memory, struct memory_client *client);
int memory_consume(struct memory *memory, struct memory_client *client, uint32_t consumer, const char *queue,
                   const char *group, uint32_t credit, uint32_t flags);

/** memory_publish - Return: its sequence. What comes of it is in the client's replies. */
uint64_t memory_publish(struct memory *memory, struct memory_client *client,
                        const struct memory_publish *publish);
uint64_t memory_say(struct memory *memory, struct memory_client *client, const char *topic, const char *data);
struct pawl_event *memory_event(const struct memory_publish *publish); /* malloc'd */

/** memory_begin - the client's handlers have seen all that lies in its ring. */
void memory_begin(struct memory *memory, struct memory_client *client);
int memory_settle(struct memory *memory, struct memory_client *client, enum pawl_settle_op op, uint64_t first,
                  uint64_t last, uint64_t value);
int memory_ack(struct memory *memory, struct memory_client *client, uint64_t number);
int memory_nack(struct memory *memory, struct memory_client *client, uint64_t number, uint64_t delay_ns);

/** memory_reply - the last reply about @sequence (or delivery number, for LATE); NULL: none yet. */
const struct pawl_reply *memory_reply(const struct memory_client *client, uint32_t type, uint64_t sequence);
/** memory_data - the data of a delivery as text; "" when there is none of that number. */
const char *memory_data(const struct memory_client *client, uint64_t number);
/** memory_got - data of deliveries from number @from on, joined by spaces; valid until the next call. */
const char *memory_got(const struct memory_client *client, uint64_t from);

/* ---- requests ---- */

/** memory_request - JSON with ' for "; NULL and memory->error, memory->why: refused. A new reference. */
json_t *memory_request(struct memory *memory, uint32_t client, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/** memory_declare - queue.declare; asserts that it is taken. @config: members of the object, ' for ". */
void memory_declare(struct memory *memory, const char *name, const char *config);
/** memory_number - a number out of queue.show ("depth"), or of a group ("group/lag"). -1: none. */
int64_t memory_number(struct memory *memory, const char *queue, const char *key);
int memory_take(struct memory *memory, const char *queue, const char *group, uint32_t count,
                struct pawl_bus_taken *taken_out);
int memory_settle_taken(struct memory *memory, const char *queue, const char *group,
                        const struct pawl_bus_taken *taken, enum pawl_settle_op op, uint64_t value);

/** memory_describe - everything that can be known of a bus from outside, and what it would deliver from now
 * on, in order, as text (malloc'd). The bus is started at @now and used up by it. */
char *memory_describe(struct memory *memory, struct pawl_bus *bus, uint64_t epoch);

#endif
