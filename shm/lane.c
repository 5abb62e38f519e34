/*
 * lane.c - both ends of a lane. Runs in: scheduler (reader), its worker (writer). No locks, no waiting, no
 * I/O.
 */
#include "shm/lane.h"

#include <string.h>

#include "shm/error.h"

/* ---- scheduler ---- */

int pawl_lane_create(struct pawl_world *world, uint32_t lane, struct pawl_lane_reader *reader)
{
    assert(lane < PAWL_LANES_MAX);
    *reader = (struct pawl_lane_reader){.segment = {.fd = -1}, .lane = lane};
    int error = pawl_segment_create(PAWL_SEGMENT_SHARED_WRITERS, "pawl-lane", PAWL_LANE_BYTES, false,
                                    &reader->segment);
    if (error < 0)
        return error;
    struct pawl_lane_cell *cell = &world->lane[lane];
    atomic_store_explicit(&cell->consumed_position, 0, memory_order_relaxed);
    atomic_store_explicit(&cell->durable_position, 0, memory_order_relaxed);
    uint64_t generation = atomic_load_explicit(&cell->generation, memory_order_relaxed);
    atomic_store_explicit(&cell->generation, generation + 1, memory_order_release);
    struct pawl_lane_memory *memory = reader->segment.base;
    memory->version = PAWL_LANE_VERSION;
    memory->lane = lane;
    pawl_ring_consumer_init(&reader->ring, &memory->produced, &cell->consumed_position,
                            (char *)reader->segment.base + PAWL_LANE_ENTRIES_AT, PAWL_LANE_ENTRY_BYTES,
                            PAWL_LANE_ENTRIES);
    atomic_store_explicit(&memory->magic, PAWL_LANE_MAGIC, memory_order_release); /* W1, as in world.c */
    return 0;
}

void pawl_lane_destroy(struct pawl_lane_reader *reader)
{
    pawl_segment_close(&reader->segment);
}

int pawl_lane_next(struct pawl_lane_reader *reader, struct pawl_settlement *s, const void **bytes_out)
{
    int64_t waiting = pawl_ring_peek(&reader->ring);
    if (waiting <= 0)
        return (int)waiting;
    pawl_ring_next(&reader->ring, s); /* a private copy from here on */
    if (s->arena_bytes > PAWL_LANE_ARENA_BYTES || s->arena_offset > PAWL_LANE_ARENA_BYTES - s->arena_bytes ||
        s->stdout_bytes > s->arena_bytes || s->stderr_bytes > s->arena_bytes - s->stdout_bytes)
        return PAWL_E_BAD_MESSAGE;
    *bytes_out = (const char *)reader->segment.base + PAWL_LANE_ARENA_AT + s->arena_offset;
    return 1;
}

void pawl_lane_release(struct pawl_lane_reader *reader)
{
    pawl_ring_release(&reader->ring);
}

uint64_t pawl_lane_position(const struct pawl_lane_reader *reader)
{
    return reader->ring.position;
}

/* ---- worker ---- */

int pawl_lane_attach(int fd, const struct pawl_world *world, uint32_t lane, struct pawl_lane_writer *writer)
{
    *writer = (struct pawl_lane_writer){.segment = {.fd = -1}};
    if (lane >= PAWL_LANES_MAX)
        return PAWL_E_BAD_MESSAGE;
    int error = pawl_segment_attach(fd, PAWL_LANE_BYTES, true, &writer->segment);
    if (error < 0)
        return error;
    struct pawl_lane_memory *memory = writer->segment.base;
    if (atomic_load_explicit(&memory->magic, memory_order_acquire) != PAWL_LANE_MAGIC || /* W1 */
        memory->version != PAWL_LANE_VERSION || memory->lane != lane) {
        writer->segment.fd = -1;
        pawl_segment_close(&writer->segment);
        return PAWL_E_BAD_FORMAT;
    }
    writer->cell = (struct pawl_lane_cell *)(uintptr_t)&world->lane[lane];
    pawl_ring_producer_init(&writer->ring, &memory->produced, &writer->cell->consumed_position,
                            (char *)writer->segment.base + PAWL_LANE_ENTRIES_AT, PAWL_LANE_ENTRY_BYTES,
                            PAWL_LANE_ENTRIES);
    writer->freed = writer->ring.position;
    return 0;
}

void pawl_lane_detach(struct pawl_lane_writer *writer)
{
    pawl_segment_close(&writer->segment);
}

/* Give back the bytes of entries that the scheduler is through with. */
static void free_consumed(struct pawl_lane_writer *writer)
{
    uint64_t consumed = pawl_lane_consumed(writer);
    if (consumed > writer->ring.position)
        consumed = writer->ring.position;
    while (writer->freed < consumed) {
        writer->arena_tail = writer->ends[writer->freed & (PAWL_LANE_ENTRIES - 1)];
        writer->freed++;
    }
    if (writer->freed == writer->ring.position)
        writer->arena_head = writer->arena_tail = 0; /* empty: back to the first pages */
}

/* A contiguous place for `bytes`, or false. What is left at the end of the arena is skipped. */
static bool take_arena(struct pawl_lane_writer *writer, uint32_t bytes, uint32_t *offset_out)
{
    uint64_t head = writer->arena_head;
    uint64_t offset = head % PAWL_LANE_ARENA_BYTES;
    if (offset + bytes > PAWL_LANE_ARENA_BYTES) {
        head += PAWL_LANE_ARENA_BYTES - offset;
        offset = 0;
    }
    if (head + bytes - writer->arena_tail > PAWL_LANE_ARENA_BYTES)
        return false;
    writer->arena_head = head + bytes;
    *offset_out = (uint32_t)offset;
    return true;
}

int pawl_lane_push(struct pawl_lane_writer *writer, const struct pawl_settlement *settlement,
                   const void *bytes)
{
    struct pawl_settlement out = *settlement;
    if (out.arena_bytes > PAWL_LANE_ARENA_BYTES)
        return PAWL_E_LIMIT;
    free_consumed(writer);
    uint64_t head = writer->arena_head;
    out.arena_offset = 0;
    if (out.arena_bytes > 0 && !take_arena(writer, out.arena_bytes, &out.arena_offset))
        return PAWL_E_QUEUE_FULL;
    uint64_t position = writer->ring.position;
    void *entry = pawl_ring_reserve(&writer->ring);
    if (!entry) {
        writer->arena_head = head;
        return PAWL_E_QUEUE_FULL;
    }
    if (out.arena_bytes > 0)
        memcpy((char *)writer->segment.base + PAWL_LANE_ARENA_AT + out.arena_offset, bytes, out.arena_bytes);
    memcpy(entry, &out, sizeof out);
    writer->ends[position & (PAWL_LANE_ENTRIES - 1)] = writer->arena_head;
    return 0;
}

void pawl_lane_publish(struct pawl_lane_writer *writer)
{
    pawl_ring_publish(&writer->ring);
}
