/*
 * compact.c - copies forward what keeps an old, mostly dead segment of the journal alive.
 *
 * Runs in: scheduler. One old unsettled event must not pin gigabytes: it is written again (MOVE), and its
 * queues find it there. Order and offsets stand: only places change. Streams are left to their retention.
 */
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"

/* Worth it when at most a quarter of a segment is alive. */
#define MOSTLY_DEAD_BYTES (UINT64_C(16) << 20)

static uint32_t segment_of(const struct extent *extent)
{
    return (uint32_t)(extent->place >> 32);
}

static bool in_journal(const struct extent *extent)
{
    return extent->live > 0 && !(extent->place & PAWL_PLACE_VOLATILE);
}

/* The oldest segment that is pinned, below @end, and what of it lives; 0: none, or a stream wants it too.
 * What was copied forward already stands among what was not, so every extent is looked at. */
static uint32_t oldest_pinned(const struct pawl_bus *bus, uint32_t end, uint64_t *live_out)
{
    uint32_t oldest = UINT32_MAX;
    bool stream = false;
    *live_out = 0;
    for (uint32_t q = 0; q < bus->queue_end; q++)
        for (size_t i = 0; bus->queues[q] && i < bus->queues[q]->backlog.count; i++) {
            const struct extent *extent = backlog_extent(&bus->queues[q]->backlog, i);
            if (!in_journal(extent) || segment_of(extent) > oldest)
                continue;
            if (segment_of(extent) < oldest) {
                oldest = segment_of(extent);
                *live_out = 0;
                stream = false;
            }
            *live_out += extent->live_bytes;
            stream = stream || bus->queues[q]->config.stream;
        }
    return stream || oldest >= end ? 0 : oldest;
}

/* Return: bytes written. */
static uint64_t move_one(struct pawl_bus *bus, struct bus_queue *queue, uint64_t seq)
{
    struct {
        struct pawl_bus_events record;
        struct pawl_bus_route route;
    } head;
    struct backlog_cursor cursor = {0};
    int error;
    bus->stamp++;
    const struct pawl_event *event = backlog_read(bus, queue, &cursor, seq, &error);
    if (!event)
        return 0;
    uint64_t bytes = event->bytes;
    if (bus_grow((void **)&bus->scratch, &bus->scratch_room, event->bytes, 1) < 0)
        return 0;
    memcpy(bus->scratch, event, event->bytes);
    head.record = (struct pawl_bus_events){.event_count = 1,
                                           .queue_count = 1,
                                           .first_event_id = event->id,
                                           .realtime_ns = event->published_at_ns,
                                           .events_offset = sizeof head,
                                           .flags = PAWL_BUS_EVENTS_MOVED};
    head.route = (struct pawl_bus_route){.queue = queue->number, .first_seq = seq};
    return bus_append(bus, PAWL_BUS_RECORD_MOVE, &head, sizeof head, bus->scratch, bytes) ? bytes : 0;
}

bool pawl_bus_compact(struct pawl_bus *bus, struct pawl_now now, uint32_t segment_number, uint64_t bytes_max)
{
    uint64_t live = 0, moved = 0;
    bus->now = now;
    uint32_t segment = oldest_pinned(bus, segment_number, &live);
    if (segment == 0 || live > MOSTLY_DEAD_BYTES || bus->backend.has_room(bus->ctx, live) != 0)
        return false;
    for (uint32_t q = 0; q < bus->queue_end && moved < bytes_max && !bus->failed; q++) {
        struct bus_queue *queue = bus->queues[q];
        if (!queue || !queue->sub)
            continue;
        for (size_t i = 0; i < queue->backlog.count && moved < bytes_max && !bus->failed; i++) {
            const struct extent *extent = backlog_extent(&queue->backlog, i);
            if (!in_journal(extent) || segment_of(extent) != segment)
                continue;
            uint64_t seq = pawl_seqset_next_unset(&queue->sub->settled, extent->first);
            if (seq >= extent->first + extent->count)
                continue;
            uint64_t bytes = move_one(bus, queue, seq);
            if (bytes == 0)
                return moved > 0;
            moved += bytes;
            i = (size_t)-1; /* the extents were split: from the first on again */
        }
    }
    return moved > 0;
}
