/*
 * world.h - the world segment: what the scheduler tells everybody. Written by the scheduler, read by all.
 *
 *   0     header          magic last, so a half-made segment never attaches
 *   128   sleeping        the scheduler's doorbell flag: enum pawl_world_sleep
 *   256   counters        64 cells
 *   768   lane[0]         128 bytes each: how far the scheduler is with a lane's settlements
 */
#ifndef PAWL_SHM_WORLD_H
#define PAWL_SHM_WORLD_H

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/counters.h"
#include "shm/segment.h"

enum { PAWL_LANES_MAX = 8192, PAWL_WORLD_VERSION = 1 };
#define PAWL_WORLD_MAGIC UINT64_C(0x3144524f574c5750) /* "PWLWORD1" */

struct pawl_lane_cell {
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t
        consumed_position;             /* R2: settle entries below may be overwritten */
    _Atomic uint64_t durable_position; /* settle entries below are in the journal, synced */
    _Atomic uint64_t generation;       /* rises when the lane is given to somebody else */
};

/* What the scheduler tells workers when it goes to sleep. */
enum pawl_world_sleep {
    PAWL_WORLD_AWAKE = 0,
    PAWL_WORLD_SLEEPS = 1,
    PAWL_WORLD_LOOKS_SOON =
        2, /* it looks into all lanes within milliseconds: ring only for what cannot wait */
};

struct pawl_world {
    _Atomic uint64_t magic;
    uint32_t version;
    uint32_t header_bytes;
    uint64_t layout_hash; /* of the sizes and offsets below: another build's layout is refused */
    uint8_t boot_id[16];
    uint64_t epoch;
    uint64_t started_at_ns; /* CLOCK_REALTIME */
    uint32_t scheduler_pid; /* for people */
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint32_t sleeping;
    alignas(PAWL_ISOLATION_BYTES) struct pawl_counters counters;
    struct pawl_lane_cell lane[PAWL_LANES_MAX];
};

static_assert(offsetof(struct pawl_world, sleeping) == 128, "world layout");
static_assert(offsetof(struct pawl_world, counters) == 256, "world layout");
static_assert(offsetof(struct pawl_world, lane) == 768, "world layout");
static_assert(sizeof(struct pawl_lane_cell) == 128, "world layout");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "shared-memory atomics must be lock-free");

/** pawl_world_create - scheduler: make it. Return: 0 or -errno. */
int pawl_world_create(uint64_t epoch, struct pawl_segment *segment_out);

/** pawl_world_attach - everybody else: map read-only and check. @fd is taken over on success.
 *  Return: 0, PAWL_E_BAD_FORMAT (another layout), PAWL_E_BAD_MESSAGE, -errno. */
int pawl_world_attach(int fd, struct pawl_segment *segment_out);

static inline struct pawl_world *pawl_world_of(const struct pawl_segment *segment)
{
    return segment->base;
}

#endif
