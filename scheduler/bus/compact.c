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

/* Where it lies now: a full disk may have moved it. */
static uint32_t segment_of(const struct pawl_bus *bus, const struct extent *extent)
{
    return (uint32_t)(bus_resolve(bus, extent->place) >> 32);
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
            uint32_t segment = in_journal(extent) ? segment_of(bus, extent) : UINT32_MAX;
            if (segment == UINT32_MAX || segment > oldest)
                continue;
            if (segment < oldest) {
                oldest = segment;
                *live_out = 0;
                stream = false;
            }
            *live_out += extent->live_bytes;
            stream = stream || bus->queues[q]->config.stream;
        }
    return stream || oldest >= end ? 0 : oldest;
}

/* Is all that lives of it what the queue's consumers come to before the next look? Then it dies by itself,
 * and to copy it would be for nothing. What they had passed at the look before the last, and is still there,
 * stays. */
static bool extent_dies_soon(const struct bus_sub *sub, const struct extent *extent)
{
    uint64_t reached = sub->looked_next > sub->passed_next ? sub->looked_next - sub->passed_next : 0;
    return extent->first + extent->count <= sub->next + reached &&
           pawl_seqset_next_unset(&sub->settled, extent->first) >= sub->passed_next;
}

static bool dies_soon(const struct pawl_bus *bus, const struct bus_queue *queue, uint32_t segment)
{
    for (size_t i = 0; i < queue->backlog.count; i++) {
        const struct extent *extent = backlog_extent(&queue->backlog, i);
        if (in_journal(extent) && segment_of(bus, extent) == segment && !extent_dies_soon(queue->sub, extent))
            return false;
    }
    return true;
}

static bool all_dies_soon(const struct pawl_bus *bus, uint32_t segment)
{
    for (uint32_t q = 0; q < bus->queue_end; q++)
        if (bus->queues[q] && bus->queues[q]->sub && !dies_soon(bus, bus->queues[q], segment))
            return false;
    return true;
}

void pawl_bus_look(struct pawl_bus *bus)
{
    for (uint32_t q = 0; q < bus->queue_end; q++) {
        struct bus_sub *sub = bus->queues[q] ? bus->queues[q]->sub : NULL;
        if (!sub)
            continue;
        sub->passed_next = sub->looked_next;
        sub->looked_next = sub->next;
    }
}

/* Return: bytes written. */
static uint64_t move_one(struct pawl_bus *bus, struct bus_queue *queue, struct backlog_cursor *cursor,
                         uint64_t seq)
{
    struct {
        struct pawl_bus_events record;
        struct pawl_bus_route route;
    } head;
    int error;
    bus->stamp++;
    const struct pawl_event *event = backlog_read(bus, queue, cursor, seq, &error);
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
    bus_sum_head(&head.record);
    return bus_append(bus, PAWL_BUS_RECORD_MOVE, &head, sizeof head, bus->scratch, bytes) ? bytes : 0;
}

/* At most @bytes_max of one queue, in one pass. Return: bytes written. */
static uint64_t move_queue(struct pawl_bus *bus, struct bus_queue *queue, uint32_t segment,
                           uint64_t bytes_max)
{
    struct backlog_cursor cursor = {0};
    uint64_t moved = 0;
    for (size_t i = 0; i < queue->backlog.count && moved < bytes_max && !bus->failed;) {
        const struct extent *extent = backlog_extent(&queue->backlog, i);
        uint64_t seq = in_journal(extent) && segment_of(bus, extent) == segment
                           ? pawl_seqset_next_unset(&queue->sub->settled, extent->first)
                           : UINT64_MAX;
        if (seq >= extent->first + extent->count) {
            i++;
            continue;
        }
        uint64_t bytes = move_one(bus, queue, &cursor, seq);
        if (bytes == 0)
            break;
        moved += bytes;
        i = backlog_index(&queue->backlog, seq + 1); /* the extents were split */
    }
    return moved;
}

struct lives {
    uint64_t bytes;
    bool stays;  /* longer than to the next look */
    bool stream; /* retention alone decides */
};

/* Of each segment of [@first, @first + @count), in one pass over all backlogs. */
static void add_up_lives(const struct pawl_bus *bus, uint32_t first, uint32_t count, struct lives *lives)
{
    for (uint32_t q = 0; q < bus->queue_end; q++)
        for (size_t i = 0; bus->queues[q] && i < bus->queues[q]->backlog.count; i++) {
            const struct bus_queue *queue = bus->queues[q];
            const struct extent *extent = backlog_extent(&queue->backlog, i);
            uint32_t at = in_journal(extent) ? segment_of(bus, extent) - first : UINT32_MAX;
            if (at >= count)
                continue;
            lives[at].bytes += extent->live_bytes;
            lives[at].stream = lives[at].stream || !queue->sub;
            lives[at].stays = lives[at].stays || !queue->sub || !extent_dies_soon(queue->sub, extent);
        }
}

uint32_t pawl_bus_worth_moving(const struct pawl_bus *bus, uint32_t first, uint32_t end,
                               bool (*is_worth)(void *ctx, uint32_t segment, uint64_t live_bytes), void *ctx)
{
    uint32_t count = end > first ? end - first : 0, found = 0;
    struct lives *lives = count ? calloc(count, sizeof *lives) : NULL;
    if (!lives)
        return 0;
    add_up_lives(bus, first, count, lives);
    for (uint32_t i = 0; i < count && !found; i++)
        if (lives[i].stays && !lives[i].stream && is_worth(ctx, first + i, lives[i].bytes))
            found = first + i;
    free(lives);
    return found;
}

bool pawl_bus_copy_forward(struct pawl_bus *bus, struct pawl_now now, uint32_t segment, uint64_t bytes_max)
{
    uint64_t moved = 0;
    bus->now = now;
    for (uint32_t q = 0; q < bus->queue_end && moved < bytes_max && !bus->failed; q++)
        if (bus->queues[q] && bus->queues[q]->sub)
            moved += move_queue(bus, bus->queues[q], segment, bytes_max - moved);
    return moved > 0;
}

bool pawl_bus_compact(struct pawl_bus *bus, struct pawl_now now, uint32_t end, uint64_t bytes_max)
{
    uint64_t live;
    pawl_bus_look(bus);
    uint32_t segment = oldest_pinned(bus, end, &live);
    bool worth = segment != 0 && live <= MOSTLY_DEAD_BYTES && !all_dies_soon(bus, segment);
    return worth && bus->backend.has_room(bus->ctx, live) == 0 &&
           pawl_bus_copy_forward(bus, now, segment, bytes_max);
}
