/*
 * events.c - an EVENTS record becomes state: where events lie, what is special about some, whose keys were
 * seen.
 *
 * Runs in: scheduler, live and in recovery. Decides nothing: exchange.c has.
 */
#include <errno.h>
#include <string.h>

#include <xxhash.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

/* The same key on another topic is another event. */
struct pawl_dedupe_key bus_event_key(const struct pawl_event *event)
{
    return pawl_dedupe_key(XXH3_64bits(pawl_event_topic(event), event->topic_bytes), pawl_event_key(event),
                           event->key_bytes);
}

static uint64_t clamp_due(uint64_t base_ns, uint64_t plus_ns)
{
    return base_ns > UINT64_MAX - plus_ns ? UINT64_MAX : base_ns + plus_ns;
}

/* Delayed or prioritised: it stands beside the cursor. What is left of its delay begins with the record, as
 * the wall clock may have been set while its publish waited for room. */
static int apply_special(struct pawl_bus *bus, struct bus_sub *sub, const struct pawl_event *event,
                         uint64_t seq, uint64_t realtime_ns)
{
    if ((event->delay_ns == 0 && event->priority == 0) || sub->group != 0)
        return 0;
    struct exception *exception = exception_find(&sub->exceptions, seq);
    if (exception || pawl_seqset_has(&sub->settled, seq))
        return 0; /* replayed over a snapshot that knows it */
    exception = exception_add(&sub->exceptions, seq);
    if (!exception)
        return -ENOMEM;
    exception->priority = event->priority;
    exception->delay_ns = event->delay_ns;
    exception_become(&sub->exceptions, exception, event->delay_ns ? EXCEPTION_DELAYED : EXCEPTION_READY);
    exception->due_realtime_ns = clamp_due(realtime_ns, event->delay_ns);
    if (bus->replaying) {
        exception->due_at_ns = pawl_now_due(bus->written, exception->due_realtime_ns, event->delay_ns);
        return 0;
    }
    if (event->delay_ns == 0)
        return exception_push(&sub->exceptions, exception);
    exception->due_at_ns = pawl_now_due_later(bus->now, exception->due_realtime_ns, event->delay_ns);
    bus_timer(bus, exception->due_at_ns, BUS_TIMER_DUE, seq, bus_timer_of(sub->queue->number, sub->group));
    return 0;
}

static int apply_each(struct pawl_bus *bus, const struct pawl_bus_events *record, size_t bytes,
                      const struct pawl_bus_route *routes, bool memory, uint64_t *total_out)
{
    uint64_t at = record->events_offset;
    *total_out = bytes - at;
    if (!(record->flags & (PAWL_BUS_EVENTS_SPECIAL | PAWL_BUS_EVENTS_KEYED | PAWL_BUS_EVENTS_EXPIRING)))
        return 0;
    for (uint32_t n = 0; n < record->event_count; n++) {
        if (bytes - at < sizeof(struct pawl_event))
            return PAWL_E_DAMAGED;
        const struct pawl_event *event = (const struct pawl_event *)((const char *)record + at);
        if (event->bytes < sizeof *event || event->bytes > bytes - at)
            return PAWL_E_DAMAGED;
        if (event->key_bytes) {
            struct pawl_dedupe_entry entry = {.key = bus_event_key(event),
                                              .event_id = event->id,
                                              .memory = memory,
                                              .realtime_ns = record->realtime_ns};
            int error = pawl_dedupe_insert(&bus->dedupe, &entry);
            if (error < 0 && error != PAWL_E_DUPLICATE)
                return error;
        }
        for (uint32_t i = 0; event->ttl_ns && i < record->queue_count; i++)
            bus_expiry(bus, routes[i].queue, routes[i].first_seq + n,
                       clamp_due(event->published_at_ns, event->ttl_ns));
        if (record->flags & PAWL_BUS_EVENTS_SPECIAL)
            for (uint32_t i = 0; i < record->queue_count; i++) {
                struct bus_queue *queue = bus_queue_at(bus, routes[i].queue);
                int error = queue && queue->sub ? apply_special(bus, queue->sub, event,
                                                                routes[i].first_seq + n, record->realtime_ns)
                                                : 0;
                if (error)
                    return error;
            }
        at += event->bytes;
    }
    return 0;
}

static int apply_to_queue(struct bus_queue *queue, uint64_t first, uint32_t count, uint64_t bytes,
                          uint64_t place, uint64_t realtime_ns)
{
    if (first + count <= queue->tail)
        return 0; /* a snapshot knew it */
    if (first < queue->tail)
        return PAWL_E_DAMAGED;
    int error = bus_queue_lost(queue, first);
    if (error)
        return error;
    if (backlog_add(&queue->backlog, first, count, bytes, place) < 0)
        return -ENOMEM;
    queue->tail = first + count;
    queue->depth += count;
    queue->bytes += bytes;
    queue->last_published_ns = realtime_ns;
    if (queue->row)
        pawl_metrics_row_add(queue->row, PAWL_QUEUE_PUBLISHED, count);
    return 0;
}

/* An event was copied forward: only where it lies changes. */
static int apply_moved(struct pawl_bus *bus, const struct pawl_bus_events *record,
                       const struct pawl_bus_route *routes, uint64_t bytes, uint64_t place)
{
    for (uint32_t i = 0; i < record->queue_count; i++) {
        struct bus_queue *queue = bus_queue_at(bus, routes[i].queue);
        if (queue && queue->sub &&
            backlog_move(&queue->backlog, &queue->sub->settled, routes[i].first_seq, bytes, place) < 0)
            return -ENOMEM;
    }
    return 0;
}

int bus_events_apply(struct pawl_bus *bus, const void *body, size_t bytes, uint64_t lsn, uint64_t place)
{
    const struct pawl_bus_events *record = body;
    uint64_t total = 0;
    if (bytes < sizeof *record || record->event_count == 0 ||
        record->queue_count > (bytes - sizeof *record) / sizeof(struct pawl_bus_route) ||
        record->events_offset > bytes ||
        record->events_offset < sizeof *record + record->queue_count * sizeof(struct pawl_bus_route))
        return PAWL_E_DAMAGED;
    const struct pawl_bus_route *routes = (const struct pawl_bus_route *)(record + 1);
    if (record->flags & PAWL_BUS_EVENTS_MOVED)
        return apply_moved(bus, record, routes, bytes - record->events_offset, place);
    for (uint32_t i = 0; i < record->queue_count; i++) {
        struct bus_queue *queue = bus_queue_at(bus, routes[i].queue);
        int error = queue ? apply_to_queue(queue, routes[i].first_seq, record->event_count,
                                           bytes - record->events_offset, place, record->realtime_ns)
                          : 0;
        if (error)
            return error;
    }
    int error = apply_each(bus, record, bytes, routes, (place & PAWL_PLACE_VOLATILE) != 0, &total);
    if (!error && record->publisher)
        error =
            pawl_publishers_note(&bus->publishers, record->publisher, record->first_sequence,
                                 record->first_sequence + record->event_count - 1, record->realtime_ns, lsn);
    return error == PAWL_E_LIMIT ? 0 : error; /* more publishers than are remembered: that one is not */
}

int bus_published_apply(struct pawl_bus *bus, const struct pawl_bus_published *record, uint64_t lsn)
{
    int error = record->queue
                    ? pawl_publishers_note_part(&bus->publishers, record->publisher, record->sequence,
                                                record->queue, record->event_id, record->realtime_ns, lsn)
                    : pawl_publishers_note(&bus->publishers, record->publisher, record->sequence,
                                           record->sequence, record->realtime_ns, lsn);
    return error == PAWL_E_LIMIT ? 0 : error;
}

void bus_note_published(struct pawl_bus *bus, uint64_t publisher, uint64_t sequence, uint32_t queue,
                        uint64_t event_id, uint64_t lsn, bool write)
{
    struct pawl_bus_published record = {.publisher = publisher,
                                        .sequence = sequence,
                                        .event_id = event_id,
                                        .realtime_ns = bus->now.realtime_ns,
                                        .queue = queue};
    if (!publisher)
        return;
    if (write)
        bus_append(bus, PAWL_BUS_RECORD_PUBLISHED, &record, sizeof record, NULL, 0);
    else if (bus_published_apply(bus, &record, lsn) != 0)
        bus->failed = true;
}
