/*
 * metrics.h - the numbers of the event bus, in memory that anybody may look at while the scheduler writes.
 *
 *   0      header          magic last, so a half-made segment never attaches
 *   128    cells           64 of them, what is counted once for all
 *   640    histograms      8 of them, likewise
 *   4096   row[0]          640 bytes each, one a queue; untouched ones take no memory
 *
 * Written by the scheduler alone, with relaxed stores: each number is exact by itself, two need not be of one
 * moment. Reading costs the writer nothing.
 *
 * M1  release store of a row's generation  ->  acquire load by a reader: name and numbers of that life are
 * visible. Odd: the row is a queue's; even: it is free, or being made. A reader copies between two loads of
 * the same odd generation, or copies nothing.
 */
#ifndef PAWL_SHM_METRICS_H
#define PAWL_SHM_METRICS_H

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/segment.h"

enum {
    PAWL_METRICS_VERSION = 1,
    PAWL_METRICS_ROWS_MAX = 65536,
    PAWL_METRICS_CELLS_ROOM = 64,
    PAWL_METRICS_HISTOGRAMS_ROOM = 8,
    PAWL_METRICS_NAME_BYTES = 72,
    PAWL_METRICS_BUCKETS = 32,  /* the last has no bound */
    PAWL_METRICS_NS_SHIFT = 10, /* times: up to 1,024 ns, 2,048 ns ... 2^40 ns (18 min) */
    PAWL_METRICS_ROWS_AT = 4096,
};
#define PAWL_METRICS_MAGIC UINT64_C(0x314352544d4c5750) /* "PWLMTRC1" */

/* Bucket i holds what is above 2^(shift + i - 1) and at most 2^(shift + i). */
struct pawl_histogram {
    _Atomic uint64_t sum;
    uint32_t shift;
    uint32_t reserved;
    _Atomic uint64_t bucket[PAWL_METRICS_BUCKETS];
};
static_assert(sizeof(struct pawl_histogram) == 272, "metrics layout");

/* ---- counted once for all; append, the numbers are the layout ---- */
enum pawl_metrics_cell {
    PAWL_METRICS_EVENTS_PUBLISHED = 0,
    PAWL_METRICS_EVENTS_UNROUTED = 1,
    PAWL_METRICS_JOURNAL_BYTES = 2,
    PAWL_METRICS_JOURNAL_SYNCS = 3,
    PAWL_METRICS_WORKERS_IDLE = 4, /* set, not added to */
    PAWL_METRICS_WORKERS_BUSY = 5,
    PAWL_METRICS_WORKERS_STARTING = 6,
    PAWL_METRICS_WORKER_RESTARTS = 7,
    PAWL_METRICS_CLIENTS = 8,
    PAWL_METRICS_MEMORY_ALLOCATED = 9,   /* of the scheduler, by its allocator; 0: it does not tell */
    PAWL_METRICS_MEMORY_KEPT = 10,       /* events that are in memory only */
    PAWL_METRICS_MEMORY_CACHE = 11,      /* journal frames that are kept, and blocks that were read */
    PAWL_METRICS_JOURNAL_ROOM = 12,      /* enum pawl_journal_room: 0 roomy, 1 tight, 2 full */
    PAWL_METRICS_JOURNAL_SYNCED_AT = 13, /* CLOCK_REALTIME ns of the last commit; 0: none yet */
    PAWL_METRICS_JOURNAL_LAST_SYNC = 14, /* ns that it took */
    PAWL_METRICS_JOURNAL_DISK_BYTES = 15,
    PAWL_METRICS_CELLS = 16,
};

enum pawl_metrics_histogram {
    PAWL_METRICS_DELIVERY_LATENCY = 0, /* publish to handler, ns */
    PAWL_METRICS_JOURNAL_SYNC = 1,     /* ns */
    PAWL_METRICS_JOURNAL_BATCH = 2,    /* records; shift 0 */
    PAWL_METRICS_HISTOGRAMS = 3,
};

/* ---- a queue's ---- */
enum pawl_queue_gauge { /* set */
                        PAWL_QUEUE_DEPTH = 0,
                        PAWL_QUEUE_IN_FLIGHT = 1,
                        PAWL_QUEUE_BYTES = 2,
                        PAWL_QUEUE_DLQ_DEPTH = 3,     /* a sample's: the depth of the row DLQ_ROW */
                        PAWL_QUEUE_BREAKER_STATE = 4, /* enum pawl_breaker_state */
                        PAWL_QUEUE_PAUSED = 5,
                        PAWL_QUEUE_CONSUMERS = 6,
                        PAWL_QUEUE_MAX_DEPTH = 7, /* 0: no limit */
                        PAWL_QUEUE_MAX_BYTES = 8,
                        PAWL_QUEUE_DLQ_ROW = 9, /* of its dead letters; 0: it has none yet */
                        PAWL_QUEUE_IS_DLQ = 10, /* holds other queues' dead letters */
                        PAWL_QUEUE_GAUGES = 11,
};

enum pawl_dead_reason { /* why an event is in a dead-letter queue; stored in the journal: append */
                        PAWL_DEAD_DELIVERY_LIMIT = 0,
                        PAWL_DEAD_REJECTED = 1,
                        PAWL_DEAD_EXPIRED = 2,
                        PAWL_DEAD_OVERFLOW = 3,
                        PAWL_DEAD_INTERRUPTED = 4,
                        PAWL_DEAD_REASONS = 5,
};

enum pawl_queue_counter { /* added to */
                          PAWL_QUEUE_PUBLISHED = 0,
                          PAWL_QUEUE_DELIVERED = 1,
                          PAWL_QUEUE_ACKED = 2,
                          PAWL_QUEUE_NACKED = 3,
                          PAWL_QUEUE_REDELIVERED = 4, /* + enum pawl_cause */
                          PAWL_QUEUE_DEAD = 9,        /* + enum pawl_dead_reason */
                          PAWL_QUEUE_DROPPED = 14,
                          PAWL_QUEUE_DUPLICATES = 15,
                          PAWL_QUEUE_REFUSED = 16,
                          PAWL_QUEUE_COUNTERS = 17,
};

struct pawl_metrics_row {
    _Atomic uint64_t generation;                        /* M1 */
    _Atomic uint64_t name[PAWL_METRICS_NAME_BYTES / 8]; /* NUL-terminated bytes, by words */
    _Atomic uint64_t gauge[PAWL_QUEUE_GAUGES];
    _Atomic uint64_t counter[PAWL_QUEUE_COUNTERS];
    struct pawl_histogram handler; /* ns */
    uint64_t reserved[8];
};
static_assert(sizeof(struct pawl_metrics_row) == 640, "metrics layout");

struct pawl_metrics {
    _Atomic uint64_t magic;
    uint32_t version;
    uint32_t header_bytes, row_bytes, rows_max;
    _Atomic uint32_t row_count; /* rows at or above it were never used */
    uint32_t scheduler_pid;     /* for people */
    uint64_t epoch;
    uint64_t started_at_ns; /* CLOCK_REALTIME */
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t cell[PAWL_METRICS_CELLS_ROOM];
    struct pawl_histogram histogram[PAWL_METRICS_HISTOGRAMS_ROOM];
};
static_assert(offsetof(struct pawl_metrics, cell) == 128, "metrics layout");
static_assert(offsetof(struct pawl_metrics, histogram) == 640, "metrics layout");
static_assert(sizeof(struct pawl_metrics) <= PAWL_METRICS_ROWS_AT, "metrics layout");

/** pawl_metrics_create - scheduler: a segment for up to @rows_max queues. 0; PAWL_E_LIMIT; -errno. */
int pawl_metrics_create(uint32_t rows_max, uint64_t epoch, uint64_t started_at_ns,
                        struct pawl_segment *segment_out);

/** pawl_metrics_attach - everybody else: map read-only and check. @fd is taken over on success.
 * 0; PAWL_E_BAD_FORMAT (another layout); PAWL_E_BAD_MESSAGE; -errno. */
int pawl_metrics_attach(int fd, struct pawl_segment *segment_out);

static inline struct pawl_metrics *pawl_metrics_of(const struct pawl_segment *segment)
{
    return segment->base;
}

/** pawl_metrics_row - a queue's row for its writer. @index below rows_max (asserted). */
static inline struct pawl_metrics_row *pawl_metrics_row(struct pawl_metrics *metrics, uint32_t index)
{
    assert(index < metrics->rows_max);
    return (struct pawl_metrics_row *)((char *)metrics + PAWL_METRICS_ROWS_AT) + index;
}

/** pawl_metrics_row_open - a row becomes a queue's, all zeroes. @name: cut at 71 bytes. */
void pawl_metrics_row_open(struct pawl_metrics *metrics, uint32_t index, const char *name);
void pawl_metrics_row_close(struct pawl_metrics *metrics, uint32_t index);

/* One writer: a load and a store, no locked instruction. */
static inline void pawl_metrics_raise(_Atomic uint64_t *cell, uint64_t n)
{
    uint64_t value = atomic_load_explicit(cell, memory_order_relaxed);
    atomic_store_explicit(cell, value + n, memory_order_relaxed);
}

static inline void pawl_metrics_add(struct pawl_metrics *metrics, enum pawl_metrics_cell which, uint64_t n)
{
    pawl_metrics_raise(&metrics->cell[which], n);
}

static inline void pawl_metrics_set(struct pawl_metrics *metrics, enum pawl_metrics_cell which,
                                    uint64_t value)
{
    atomic_store_explicit(&metrics->cell[which], value, memory_order_relaxed);
}

/* @which: enum pawl_queue_counter, with a cause or a reason added. */
static inline void pawl_metrics_row_add(struct pawl_metrics_row *row, uint32_t which, uint64_t n)
{
    assert(which < PAWL_QUEUE_COUNTERS);
    pawl_metrics_raise(&row->counter[which], n);
}

static inline void pawl_metrics_row_set(struct pawl_metrics_row *row, enum pawl_queue_gauge which,
                                        uint64_t value)
{
    atomic_store_explicit(&row->gauge[which], value, memory_order_relaxed);
}

/** pawl_metrics_bucket - which bucket of a histogram with this shift holds @value. */
static inline uint32_t pawl_metrics_bucket(uint32_t shift, uint64_t value)
{
    if (value <= UINT64_C(1) << shift)
        return 0;
    uint32_t bucket = 64u - (uint32_t)__builtin_clzll(value - 1) - shift;
    return bucket < PAWL_METRICS_BUCKETS ? bucket : PAWL_METRICS_BUCKETS - 1;
}

static inline void pawl_metrics_observe(struct pawl_histogram *histogram, uint64_t value)
{
    pawl_metrics_raise(&histogram->bucket[pawl_metrics_bucket(histogram->shift, value)], 1);
    pawl_metrics_raise(&histogram->sum, value);
}

/* ---- reading: plain copies ---- */

struct pawl_histogram_copy {
    uint64_t sum;
    uint32_t shift;
    uint64_t bucket[PAWL_METRICS_BUCKETS];
};

struct pawl_metrics_row_copy {
    uint64_t generation;
    char name[PAWL_METRICS_NAME_BYTES];
    uint64_t gauge[PAWL_QUEUE_GAUGES];
    uint64_t counter[PAWL_QUEUE_COUNTERS];
    struct pawl_histogram_copy handler;
};

/** pawl_metrics_row_read - false: no queue has this row (or it changed hands just now). */
bool pawl_metrics_row_read(const struct pawl_metrics *metrics, uint32_t index,
                           struct pawl_metrics_row_copy *copy);
uint64_t pawl_metrics_cell_read(const struct pawl_metrics *metrics, enum pawl_metrics_cell which);
void pawl_histogram_read(const struct pawl_histogram *histogram, struct pawl_histogram_copy *copy);
uint32_t pawl_metrics_row_count(const struct pawl_metrics *metrics); /* never above rows_max */

const char *pawl_dead_reason_name(uint32_t reason); /* "delivery-limit" ...; "unknown" */

#endif
