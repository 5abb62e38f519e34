/*
 * world.c - making and attaching the world segment. Runs in: scheduler (create), workers (attach).
 */
#include "shm/world.h"

#include <unistd.h>

#include "shm/clock.h"
#include "shm/error.h"

static uint64_t layout_hash(void)
{
    /* FNV-1a over what must agree between the two sides. */
    const uint64_t facts[] = {sizeof(struct pawl_world),
                              offsetof(struct pawl_world, sleeping),
                              offsetof(struct pawl_world, counters),
                              offsetof(struct pawl_world, lane),
                              sizeof(struct pawl_lane_cell),
                              PAWL_COUNTERS,
                              PAWL_LANES_MAX};
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++)
        hash = (hash ^ facts[i]) * UINT64_C(1099511628211);
    return hash;
}

int pawl_world_create(uint64_t epoch, struct pawl_segment *segment_out)
{
    int error = pawl_segment_create(PAWL_SEGMENT_PRIVATE_WRITER, "pawl-world", sizeof(struct pawl_world),
                                    false, segment_out);
    if (error < 0)
        return error;
    struct pawl_world *world = segment_out->base;
    world->version = PAWL_WORLD_VERSION;
    world->header_bytes = offsetof(struct pawl_world, lane);
    world->layout_hash = layout_hash();
    pawl_clock_boot_id(world->boot_id);
    world->epoch = epoch;
    world->started_at_ns = pawl_clock_realtime_ns();
    world->scheduler_pid = (uint32_t)getpid();
    /* W1: everything above is visible to whoever sees the magic. */
    atomic_store_explicit(&world->magic, PAWL_WORLD_MAGIC, memory_order_release);
    return 0;
}

int pawl_world_attach(int fd, struct pawl_segment *segment_out)
{
    int error = pawl_segment_attach(fd, sizeof(struct pawl_world), false, segment_out);
    if (error < 0)
        return error;
    const struct pawl_world *world = segment_out->base;
    /* W1 */
    uint64_t magic = atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&world->magic, memory_order_acquire);
    if (magic == PAWL_WORLD_MAGIC && world->version == PAWL_WORLD_VERSION &&
        world->layout_hash == layout_hash())
        return 0;
    segment_out->fd = -1; /* stays the caller's */
    struct pawl_segment mapped = *segment_out;
    pawl_segment_close(&mapped);
    segment_out->base = NULL;
    return PAWL_E_BAD_FORMAT;
}
