/*
 * stream.c - what streams have of their own: retention, offsets by time, groups that move.
 *
 * Runs in: scheduler. A stream keeps events until they are too old or too many; groups only move over them.
 * So its limits of depth and bytes are retention too: nothing is refused, the oldest go.
 */
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

enum {
    LOOKED_ON = 64,
    TRIM_STEP_NS_DIVISOR = 8,
    TRIM_SLACK_DIVISOR = 64 /* so that not every event is a trim */
};
#define TRIM_AGAIN_MIN_NS UINT64_C(1000000000)

int bus_trim_apply(struct pawl_bus *bus, const struct pawl_bus_mark *mark)
{
    struct bus_queue *queue = bus_queue_at(bus, mark->queue);
    if (!queue)
        return 0;
    int lost = bus->replaying ? bus_queue_lost(queue, mark->offset) : 0;
    if (lost || mark->offset > queue->tail)
        return lost ? lost : PAWL_E_DAMAGED;
    uint64_t first = bus_queue_first(queue);
    if (mark->offset <= first)
        return 0;
    uint64_t gone = mark->offset - first;
    queue->first_kept = mark->offset;
    uint64_t bytes = backlog_release(bus, &queue->backlog, first, mark->offset - 1);
    queue->bytes -= bytes < queue->bytes ? bytes : queue->bytes;
    queue->depth -= gone < queue->depth ? gone : queue->depth;
    for (uint32_t i = 0; i < queue->group_count; i++) {
        struct bus_sub *sub = queue->groups[i];
        if (!sub || pawl_seqset_head(&sub->settled) >= mark->offset)
            continue;
        for (uint64_t seq = pawl_seqset_head(&sub->settled); seq < mark->offset && sub->exceptions.count > 0;
             seq++) {
            struct exception *exception = exception_find(&sub->exceptions, seq);
            if (exception)
                bus_exception_gone(bus, sub, exception);
        }
        if (pawl_seqset_add_range(&sub->settled, pawl_seqset_head(&sub->settled), mark->offset - 1) < 0)
            return -12;
        if (sub->next < mark->offset)
            sub->next = mark->offset;
    }
    return 0;
}

/* The time of the first event from *@seq on that is there and can be read: what was in memory only is missing
 * after a restart. *@seq is its number then. None is near: taken for new. */
static uint64_t time_from(struct pawl_bus *bus, struct bus_queue *queue, uint64_t *seq)
{
    for (uint64_t looks = 0; looks < LOOKED_ON; looks++, ++*seq) {
        struct backlog_cursor cursor = {0};
        int error;
        const struct extent *extent = backlog_extent(&queue->backlog, backlog_index(&queue->backlog, *seq));
        if (!extent)
            break;
        if (extent->first > *seq)
            *seq = extent->first;
        const struct pawl_event *event = backlog_read(bus, queue, &cursor, *seq, &error);
        if (event)
            return event->published_at_ns;
    }
    return UINT64_MAX;
}

/* Where the clock was set back, times do not rise: then it may be an earlier one, but nothing is passed over
 * while the first is that young. */
uint64_t bus_stream_offset(struct pawl_bus *bus, struct bus_queue *queue, uint64_t realtime_ns)
{
    uint64_t low = bus_queue_first(queue), high = queue->tail, first = low;
    if (time_from(bus, queue, &first) >= realtime_ns)
        return low;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2, found = middle;
        if (time_from(bus, queue, &found) < realtime_ns)
            low = found + 1;
        else
            high = middle;
    }
    return low;
}

/* The first event of the newest that together have at most @retain_bytes; the newest one stays whatever its
 * size. Of an extent that goes in part, events count as if they were equal. */
static uint64_t first_that_fits(const struct bus_queue *queue, uint64_t retain_bytes)
{
    uint64_t bytes = queue->bytes, from = bus_queue_first(queue);
    for (size_t i = 0; bytes > retain_bytes; i++) {
        const struct extent *extent = backlog_extent(&queue->backlog, i);
        if (!extent)
            break;
        uint64_t end = extent->first + extent->count, excess = bytes - retain_bytes;
        if (extent->live == 0)
            continue;
        if (excess < extent->live_bytes) {
            uint64_t each = extent->live_bytes / extent->live;
            from = end - extent->live + (each ? (excess + each - 1) / each : 0);
            break;
        }
        from = end;
        bytes -= extent->live_bytes < bytes ? extent->live_bytes : bytes;
    }
    return from < queue->tail ? from : queue->tail - 1;
}

void bus_stream_trim(struct pawl_bus *bus, struct bus_queue *queue)
{
    const struct pawl_queue_config *config = &queue->config;
    if (!config->stream || bus->replaying ||
        (!config->retain_ns && !config->retain_bytes && !config->retain_events))
        return;
    uint64_t first = bus_queue_first(queue), keep_from = first;
    if (config->retain_ns && bus->now.realtime_ns > config->retain_ns)
        keep_from = bus_stream_offset(bus, queue, bus->now.realtime_ns - config->retain_ns);
    if (config->retain_bytes &&
        queue->bytes > config->retain_bytes + config->retain_bytes / TRIM_SLACK_DIVISOR) {
        uint64_t fits_from = first_that_fits(queue, config->retain_bytes);
        keep_from = fits_from > keep_from ? fits_from : keep_from;
    }
    if (config->retain_events &&
        queue->depth > config->retain_events + config->retain_events / TRIM_SLACK_DIVISOR &&
        queue->tail - config->retain_events > keep_from)
        keep_from = queue->tail - config->retain_events;
    if (keep_from > first) {
        struct pawl_bus_mark mark = {
            .queue = queue->number, .offset = keep_from, .realtime_ns = bus->now.realtime_ns};
        bus_append(bus, PAWL_BUS_RECORD_TRIM, &mark, sizeof mark, NULL, 0);
        bus_queue_row(queue);
    }
    bool waits = queue->trim_at_ns > bus->now.boottime_ns;
    if (config->retain_ns && !waits && queue->tail > bus_queue_first(queue)) {
        uint64_t step_ns = config->retain_ns / TRIM_STEP_NS_DIVISOR;
        if (step_ns < TRIM_AGAIN_MIN_NS)
            step_ns = config->retain_ns < TRIM_AGAIN_MIN_NS ? config->retain_ns : TRIM_AGAIN_MIN_NS;
        queue->trim_at_ns = bus->now.boottime_ns + step_ns;
        bus_timer(bus, queue->trim_at_ns, BUS_TIMER_QUEUE, 0, queue->number);
    }
}
