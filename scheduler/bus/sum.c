/*
 * sum.c - checksums of single events and of what says whose they are: made before they go to the journal,
 * looked at when they come back from it, perhaps weeks later.
 *
 * Runs in: scheduler, tests. A frame's own checksum is looked at when a segment is recovered; an event is
 * read alone. 64-bit XXH3, of the head 32 bits of it: XXH3(rest, seeded with XXH3(what lies before the sum)).
 * 0: none was made, by a version that made none; a sum that would be 0 is 1.
 */
#include <xxhash.h>

#include "scheduler/bus/state.h"

static uint64_t sum_around(const void *bytes, size_t before, size_t sum_bytes, size_t end)
{
    const char *rest = (const char *)bytes + before + sum_bytes;
    return XXH3_64bits_withSeed(rest, end - before - sum_bytes, XXH3_64bits(bytes, before));
}

static uint64_t event_sum(const struct pawl_event *event)
{
    uint64_t sum = sum_around(event, offsetof(struct pawl_event, sum), sizeof event->sum, event->bytes);
    return sum ? sum : 1;
}

static uint32_t head_sum(const struct pawl_bus_events *record)
{
    size_t before = sizeof *record + offsetof(struct pawl_bus_route, sum);
    uint32_t sum = (uint32_t)sum_around(record, before, sizeof sum, record->events_offset);
    return sum ? sum : 1;
}

void bus_sum_events(struct pawl_bus_events *record, size_t bytes)
{
    for (size_t at = record->events_offset; at < bytes;) {
        struct pawl_event *event = (struct pawl_event *)(void *)((char *)record + at);
        event->sum = event_sum(event);
        at += event->bytes;
    }
    if (record->queue_count > 0)
        bus_sum_head(record);
}

void bus_sum_head(struct pawl_bus_events *record)
{
    ((struct pawl_bus_route *)(record + 1))->sum = head_sum(record);
}

bool bus_head_holds(const struct pawl_bus_events *record, size_t bytes)
{
    const struct pawl_bus_route *first = (const struct pawl_bus_route *)(record + 1);
    if (bytes < sizeof *record + sizeof *first || record->queue_count == 0 || first->sum == 0)
        return true;
    return record->events_offset >= sizeof *record + sizeof *first && record->events_offset <= bytes &&
           first->sum == head_sum(record);
}

bool bus_event_holds(const struct pawl_event *event)
{
    return event->sum == 0 || event->sum == event_sum(event);
}
