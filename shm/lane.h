/*
 * lane.h - what one worker writes and the scheduler reads: settlements and their bytes.
 *
 *   0      header     magic last; written once by the scheduler that makes the lane, then never
 *   128    produced   worker: settle entries below are published (R1)
 *   256    sleeping   worker: its doorbell flag
 *   384    job        worker: process group of the job that runs, and when it started; 0: none. Advisory
 *   4096   entry[512] 64 bytes each
 *   36864  arena      bytes of results, to the end of the lane
 *
 * 256 KiB, sparse: an idle lane costs its first page. Written by its worker alone. Everything here is copied
 * before it is checked and checked before it is used. A lane ends with its worker: nothing is repaired.
 */
#ifndef PAWL_SHM_LANE_H
#define PAWL_SHM_LANE_H

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/ring.h"
#include "shm/segment.h"
#include "shm/task.h"
#include "shm/world.h"

enum {
    PAWL_LANE_BYTES = 256 << 10,
    PAWL_LANE_ENTRIES = 512,
    PAWL_LANE_ENTRY_BYTES = 64,
    PAWL_LANE_ENTRIES_AT = 4096,
    PAWL_LANE_ARENA_AT = PAWL_LANE_ENTRIES_AT + PAWL_LANE_ENTRIES * PAWL_LANE_ENTRY_BYTES,
    PAWL_LANE_ARENA_BYTES = PAWL_LANE_BYTES - PAWL_LANE_ARENA_AT,
    PAWL_LANE_VERSION = 1,
};
#define PAWL_LANE_MAGIC UINT64_C(0x31454e414c4c5750) /* "PWLLANE1" */

struct pawl_lane_memory {
    _Atomic uint64_t magic;
    uint32_t version;
    uint32_t lane;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t produced;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint32_t sleeping;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t job; /* pgid; one word, so never half of one */
    _Atomic uint64_t job_started_at_ns;                 /* CLOCK_REALTIME */
};
static_assert(offsetof(struct pawl_lane_memory, produced) == 128, "lane layout");
static_assert(offsetof(struct pawl_lane_memory, sleeping) == 256, "lane layout");
static_assert(offsetof(struct pawl_lane_memory, job) == 384, "lane layout");
static_assert(sizeof(struct pawl_settlement) == PAWL_LANE_ENTRY_BYTES, "lane layout");

/* ---- scheduler ---- */

struct pawl_lane_reader {
    struct pawl_segment
        segment; /* mapped writable only to make it; the scheduler writes nothing after that */
    uint32_t lane;
    struct pawl_ring_consumer ring;
};

/** pawl_lane_create - make the memory of lane @lane, whose cell in @world starts a new generation. 0 or
 * -errno. */
int pawl_lane_create(struct pawl_world *world, uint32_t lane, struct pawl_lane_reader *reader_out);
void pawl_lane_destroy(struct pawl_lane_reader *reader);

static inline struct pawl_lane_memory *pawl_lane_memory_of(const struct pawl_segment *segment)
{
    return segment->base;
}

/**
 * pawl_lane_next - the next settlement, copied and its arena reference checked
 * @bytes_out: @settlement_out->arena_bytes bytes in the lane: another process may still write them, so copy,
 * then use
 *
 * Return: 1; 0 none; PAWL_E_BAD_MESSAGE: the lane does not hold, close it.
 */
int pawl_lane_next(struct pawl_lane_reader *reader, struct pawl_settlement *settlement_out,
                   const void **bytes_out);

/** pawl_lane_release - entries taken so far, and their bytes, may be overwritten. */
void pawl_lane_release(struct pawl_lane_reader *reader);

/** pawl_lane_position - settle entries taken so far: what durable_position is said in. */
uint64_t pawl_lane_position(const struct pawl_lane_reader *reader);

/* ---- worker ---- */

struct pawl_lane_writer {
    struct pawl_segment segment;
    struct pawl_ring_producer ring;
    struct pawl_lane_cell *cell; /* read-only */
    /* the arena, a byte ring: each entry's end, so that consumed entries give their bytes back */
    uint64_t arena_head,
        arena_tail; /* positions that run for ever; offset is position % PAWL_LANE_ARENA_BYTES */
    uint64_t ends[PAWL_LANE_ENTRIES]; /* arena_head after entry p */
    uint64_t freed;                   /* entries whose bytes are given back */
};

/** pawl_lane_attach - worker: map its lane. @fd is taken over on success. The ring goes on where it stands.
 *  Return: 0, PAWL_E_BAD_FORMAT, PAWL_E_BAD_MESSAGE, -errno. */
int pawl_lane_attach(int fd, const struct pawl_world *world, uint32_t lane,
                     struct pawl_lane_writer *writer_out);
void pawl_lane_detach(struct pawl_lane_writer *writer);

/**
 * pawl_lane_push - one settlement and its bytes (copied); visible after pawl_lane_publish()
 * @bytes: settlement->arena_bytes of them; arena_offset is filled in
 *
 * Return: 0; PAWL_E_QUEUE_FULL (ring or arena: publish, ring the scheduler's bell, and try again once
 * consumed_position moved); PAWL_E_LIMIT (more bytes than the arena has).
 */
int pawl_lane_push(struct pawl_lane_writer *writer, const struct pawl_settlement *settlement,
                   const void *bytes);
void pawl_lane_publish(struct pawl_lane_writer *writer);

static inline uint64_t pawl_lane_consumed(const struct pawl_lane_writer *writer)
{
    return atomic_load_explicit(&writer->cell->consumed_position, memory_order_acquire); /* R2 */
}

static inline uint64_t pawl_lane_durable(const struct pawl_lane_writer *writer)
{
    return atomic_load_explicit(&writer->cell->durable_position, memory_order_acquire);
}

static inline uint64_t pawl_lane_pushed(const struct pawl_lane_writer *writer)
{
    return writer->ring.position;
}

/* Worker: is half of the ring or of the arena in use, as far as was last looked? */
static inline bool pawl_lane_fills(const struct pawl_lane_writer *writer)
{
    return writer->ring.position - writer->freed > PAWL_LANE_ENTRIES / 2 ||
           writer->arena_head - writer->arena_tail > PAWL_LANE_ARENA_BYTES / 2;
}

#endif
