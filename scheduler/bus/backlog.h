/*
 * backlog.h - where a queue's events lie: from seq to place, and what of each stretch is still wanted.
 *
 * An extent is a stretch of seqs: one record's events, or (in the journal) the events of several records that
 * lie within 64 KiB of each other, which are found by walking the log. So a backlog of 10 million costs some
 * megabytes. Reading goes through the backend; a cursor makes reading in order O(1).
 */
#ifndef PAWL_SCHEDULER_BUS_BACKLOG_H
#define PAWL_SCHEDULER_BUS_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/event.h"

struct pawl_bus;
struct pawl_seqset;
struct bus_queue;

enum { BACKLOG_STRETCH_BYTES = 64 << 10 };

enum backlog_walk {
    BACKLOG_WALK_TO_END = 1, /* up to end_offset */
    BACKLOG_WALK_PART = 2,   /* part of a larger stretch, from whose beginning it is walked */
    BACKLOG_WALK_BEYOND =
        3, /* a full disk moved its last records, in an earlier life: end_offset is in segments */
};

struct extent {
    uint64_t first; /* seq */
    uint64_t place; /* of the first record; PAWL_PLACE_VOLATILE: in memory only */
    uint32_t count;
    uint32_t live;       /* not released */
    uint64_t live_bytes; /* of those, about */
    uint32_t end_offset; /* how far from place the last record begins, to know what is near */
    uint32_t walked;     /* enum backlog_walk: several records */
};

struct backlog {
    struct extent *extents; /* a deque */
    size_t first, count, room;
    size_t hint; /* extent that was looked at last, relative to first */
};

/* Where reading in order stands. All zeroes: nowhere. */
struct backlog_cursor {
    uint64_t seq;        /* of the event at `offset` */
    uint64_t record;     /* place */
    uint64_t record_end; /* seq after the record's last event of this queue */
    uint32_t offset;     /* in the record's body */
    /* as long as the bus's stamp is this one, the body is still there */
    uint64_t stamp;
    const unsigned char *body;
    size_t body_bytes;
};

void backlog_fini(struct backlog *backlog);

/* backlog_add - @count events from @first on, in the record at @place. @volatile_place kept records are never
 * joined. 0 or -ENOMEM. */
int backlog_add(struct backlog *backlog, uint64_t first, uint32_t count, uint64_t bytes, uint64_t place);

/* backlog_release - nobody wants @first..@last any more (each seq once). Kept records whose events are all
 * released are given back to the backend. Return: bytes that were theirs. */
uint64_t backlog_release(struct pawl_bus *bus, struct backlog *backlog, uint64_t first, uint64_t last);

/* backlog_read - the event of @seq; NULL: it is not there, or cannot be read (*error_out). */
const struct pawl_event *backlog_read(struct pawl_bus *bus, struct bus_queue *queue,
                                      struct backlog_cursor *cursor, uint64_t seq, int *error_out);

bool backlog_is_volatile(const struct backlog *backlog, uint64_t seq);
bool backlog_any_durable(const struct backlog *backlog, uint64_t first, uint64_t last);
/* First seq at or above @seq that lies in some extent; UINT64_MAX: none. Seqs between extents are gone. */
uint64_t backlog_next(const struct backlog *backlog, uint64_t seq);
uint64_t backlog_first(const struct backlog *backlog); /* UINT64_MAX: empty */
/* The event lies elsewhere now: its seq becomes an extent of its own, or joins that of the event before it
 * (unless it is @settled). What is dead of the extent that it leaves goes. 0 or -ENOMEM. */
int backlog_move(struct backlog *backlog, const struct pawl_seqset *settled, uint64_t seq, uint64_t bytes,
                 uint64_t place);
int backlog_restore(struct backlog *backlog,
                    const struct extent *extent); /* from a snapshot, in order. 0; -ENOMEM */
/* Bytes that release of this seq alone gives back, and of several at least for each of them. */
uint64_t backlog_share(const struct backlog *backlog, uint64_t seq);
const struct extent *backlog_holding(const struct backlog *backlog, uint64_t seq); /* NULL: none holds it */
const struct extent *backlog_extent(const struct backlog *backlog, size_t index);
/* Of the extent that holds @seq, or of the first one above it; backlog->count: none. */
size_t backlog_index(const struct backlog *backlog, uint64_t seq);

#endif
