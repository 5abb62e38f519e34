/*
 * dead_letter.c - events that are given up: a copy with the reasons in its headers, in another queue.
 *
 * Runs in: scheduler. A dead-letter queue is a queue; what is known of a death travels as headers that begin
 * with "pawl-dead-". The DEAD record and the copy's EVENTS record are of one batch.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"
#include "shm/log.h"

#define BURY_AGAIN_NS UINT64_C(60000000000)

struct pawl_event *bus_event_with_headers(struct pawl_bus *bus, const struct pawl_event *event,
                                          const char *const *names, const char *const *values, size_t count,
                                          const char *drop_prefix, bool with_key)
{
    size_t more = 0, at = 0, used = 0;
    const char *name, *value;
    size_t name_bytes, value_bytes;
    for (size_t i = 0; i < count; i++)
        more += 4 + strlen(names[i]) + strlen(values[i]);
    size_t room = event->headers_bytes + more;
    char *headers = malloc(room + 1);
    if (!headers)
        return NULL;
    while (pawl_event_header_next(pawl_event_headers(event), event->headers_bytes, &at, &name, &name_bytes,
                                  &value, &value_bytes))
        if (name_bytes < strlen(drop_prefix) || memcmp(name, drop_prefix, strlen(drop_prefix)) != 0)
            (void)pawl_event_header_pack(headers, room, &used, name, name_bytes, value, value_bytes);
    for (size_t i = 0; i < count; i++)
        if (used + 4 + strlen(names[i]) + strlen(values[i]) <= PAWL_EVENT_HEADERS_BYTES_MAX)
            (void)pawl_event_header_pack(headers, room, &used, names[i], strlen(names[i]), values[i],
                                         strlen(values[i]));
    struct pawl_event_parts parts = {.topic = pawl_event_topic(event),
                                     .topic_bytes = event->topic_bytes,
                                     .key = with_key && event->key_bytes ? pawl_event_key(event) : NULL,
                                     .key_bytes = with_key ? event->key_bytes : 0,
                                     .headers = headers,
                                     .headers_bytes = used,
                                     .data = pawl_event_data(event),
                                     .data_bytes = event->data_bytes,
                                     .priority = event->priority};
    size_t bytes = pawl_event_bytes(&parts);
    struct pawl_event *copy = NULL;
    /* @event may lie in memory that the next call moves: the copy is complete before any is made. */
    if (bytes > 0 && bus_grow((void **)&bus->scratch, &bus->scratch_room, bytes, 1) == 0) {
        copy = (struct pawl_event *)(void *)bus->scratch;
        (void)pawl_event_pack(&parts, copy);
        copy->id = event->id;
        copy->published_at_ns = event->published_at_ns;
    }
    free(headers);
    return copy;
}

/* ---- which queue is whose dead-letter queue ---- */

struct bus_queue *bus_dlq_find(struct pawl_bus *bus, const struct bus_queue *queue,
                               char name_out[PAWL_NAME_BYTES + 8])
{
    name_out[0] = 0;
    if (queue->config.dead_letters)
        return NULL;
    bus_dlq_name(queue, name_out);
    return bus_queue_find(bus, name_out);
}

bool bus_dlq_is_shared(const struct pawl_bus *bus, const struct bus_queue *dlq, const struct bus_queue *owner)
{
    const struct bus_queue *other = bus_names_buried(bus, dlq->name, NULL);
    return other && (other != owner || bus_names_buried(bus, dlq->name, other));
}

/* It is made when it is missing. NULL: it cannot be, or it would be the queue itself. */
static struct bus_queue *dlq_of(struct pawl_bus *bus, struct bus_queue *queue)
{
    struct bus_queue *dlq = queue->dlq ? bus_queue_at(bus, queue->dlq) : NULL;
    if (dlq)
        return dlq;
    char name[PAWL_NAME_BYTES + 8], why[256];
    dlq = bus_dlq_find(bus, queue, name);
    if (!dlq) {
        struct pawl_queue_config config;
        struct pawl_bus_limits limits = bus->limits;
        limits.queue_depth = limits.dlq_depth;
        limits.queue_bytes = limits.dlq_bytes;
        if (pawl_queue_config_load(NULL, name, &limits, NULL, &config, why) != 0)
            return NULL;
        config.overflow = PAWL_OVERFLOW_POLICY_DROP_OLDEST;
        config.dead_letters = true;
        config.durability = queue->config.durability;
        config.retry.base.limit = 0;
        uint64_t lsn;
        int error = bus_queue_declare(bus, name, &config, &lsn, why);
        pawl_queue_config_fini(&config);
        if (error)
            return NULL;
        dlq = bus_queue_find(bus, name);
    }
    queue->dlq = dlq ? dlq->number : 0;
    return dlq == queue ? NULL : dlq;
}

static void set_dlq(struct bus_queue *queue, const struct bus_queue *dlq)
{
    queue->dlq = dlq && dlq != queue ? dlq->number : 0;
    bus_queue_row(queue);
}

void bus_dlq_declared(struct pawl_bus *bus, struct bus_queue *queue)
{
    char name[PAWL_NAME_BYTES + 8];
    struct bus_queue *dlq = bus_dlq_find(bus, queue, name);
    if (!queue->config.dead_letters && !queue->dlq)
        set_dlq(queue, dlq);
    for (struct bus_queue *other = NULL; (other = bus_names_buried(bus, queue->name, other)) != NULL;)
        if (other != queue && !other->dlq)
            set_dlq(other, queue);
}

void bus_dlq_find_all(struct pawl_bus *bus)
{
    char name[PAWL_NAME_BYTES + 8];
    for (uint32_t i = 0; i < bus->queue_end; i++) {
        struct bus_queue *queue = bus->queues[i];
        struct bus_queue *dlq = queue ? bus_dlq_find(bus, queue, name) : NULL;
        if (queue && !queue->config.dead_letters)
            queue->dlq = dlq && dlq != queue ? dlq->number : 0;
    }
}

/* ---- burials ---- */

static void tell_unburied(struct pawl_bus *bus, struct bus_queue *queue, const struct bus_queue *dlq,
                          const struct pawl_event *copy, enum pawl_dead_reason reason)
{
    const char *why = pawl_dead_reason_name(reason);
    if (!dlq)
        bus_log(bus, queue, PAWL_LOG_ERROR, "an event is dead (%s) and has no dead-letter queue to go to",
                why);
    else if (bus_queue_never_fits(dlq, copy->bytes))
        bus_log(bus, queue, PAWL_LOG_ERROR,
                "an event is dead (%s), but is larger (%u bytes) than max-bytes of its dead-letter "
                "queue %s: it is not stored there",
                why, copy->bytes, dlq->name);
    else
        bus_log(bus, queue, PAWL_LOG_ERROR, "an event is dead (%s), but %s %s has no room for it", why,
                bus_disk_takes(bus, dlq->config.durability, copy->bytes)
                    ? "its dead-letter queue"
                    : "the disk of its dead-letter queue",
                dlq->name);
}

/* @group: of a stream, that gave it up; "" in a queue. */
static bool bury(struct pawl_bus *bus, struct bus_queue *queue, const char *group,
                 const struct pawl_event *event, enum pawl_dead_reason reason, uint32_t attempts,
                 uint64_t first_at_ns, const char *text, size_t text_bytes, uint64_t seq)
{
    char attempts_text[16], first[24], last[24], seq_text[24], error[1025];
    snprintf(attempts_text, sizeof attempts_text, "%" PRIu32, attempts);
    snprintf(first, sizeof first, "%" PRIu64, first_at_ns ? first_at_ns : bus->now.realtime_ns);
    snprintf(last, sizeof last, "%" PRIu64, bus->now.realtime_ns);
    snprintf(seq_text, sizeof seq_text, "%" PRIu64, seq);
    snprintf(error, sizeof error, "%.*s", (int)(text_bytes < 1024 ? text_bytes : 1024), text ? text : "");
    const char *names[] = {"pawl-dead-queue", "pawl-dead-reason",   "pawl-dead-attempts",
                           "pawl-dead-error", "pawl-dead-first-at", "pawl-dead-last-at",
                           "pawl-dead-seq",   "pawl-dead-group"};
    const char *values[] = {
        queue->name, pawl_dead_reason_name(reason), attempts_text, error, first, last, seq_text, group};
    size_t count = sizeof names / sizeof *names - (group[0] == '\0');
    /* This copy may be all that is stored of it: its key was not seen before. */
    struct pawl_event *copy =
        bus_event_with_headers(bus, event, names, values, count, "pawl-dead-", reason == PAWL_DEAD_OVERFLOW);
    struct bus_queue *dlq = copy ? dlq_of(bus, queue) : NULL;
    if (!dlq || !bus_disk_takes(bus, dlq->config.durability, copy->bytes) || bus_put(bus, dlq, copy) == 0) {
        tell_unburied(bus, queue, dlq, copy, reason);
        return false;
    }
    return !bus->failed;
}

bool bus_dead_event(struct pawl_bus *bus, struct bus_queue *queue, const struct pawl_event *event,
                    enum pawl_dead_reason reason, uint32_t attempts, const char *text, size_t text_bytes,
                    uint64_t seq)
{
    /* What dies among the dead is gone. */
    bool has_grave = !queue->config.dead_letters && queue->config.guarantee != PAWL_GUARANTEE_AT_MOST_ONCE;
    if (has_grave && !bury(bus, queue, "", event, reason, attempts, 0, text, text_bytes, seq))
        return false;
    if (queue->row)
        pawl_metrics_row_add(queue->row, PAWL_QUEUE_DEAD + (uint32_t)reason, 1);
    return true;
}

/* It could not be buried: nothing is lost, it is tried again later. One whose time is over while it stands in
 * the line of its ordering key stays there: another of that key is in somebody's hands. */
static void keep_for_later(struct pawl_bus *bus, struct bus_sub *sub, struct pawl_bus_one *record)
{
    const struct exception *exception = exception_find(&sub->exceptions, record->seq);
    if (exception && exception->state == EXCEPTION_KEYED) {
        bus_expiry(bus, sub->queue->number, record->seq, bus->now.realtime_ns + BURY_AGAIN_NS);
        return;
    }
    record->delay_ns = BURY_AGAIN_NS;
    record->due_at_ns = bus->now.realtime_ns + BURY_AGAIN_NS;
    record->cause = PAWL_CAUSE_NACK;
    record->text_bytes = 0;
    if (backlog_is_volatile(&sub->queue->backlog, record->seq)) {
        if (bus_one_apply(bus, PAWL_BUS_RECORD_RETRY, record, "") != 0)
            bus->failed = true;
    } else {
        bus_append(bus, PAWL_BUS_RECORD_RETRY, record, sizeof *record, NULL, 0);
    }
}

void bus_dead(struct pawl_bus *bus, struct bus_sub *sub, uint64_t seq, uint32_t attempt, uint32_t failures,
              enum pawl_dead_reason reason, const char *text, size_t text_bytes)
{
    struct bus_queue *queue = sub->queue;
    const struct exception *exception = exception_find(&sub->exceptions, seq);
    uint64_t first_at_ns = exception ? exception->first_at_ns : 0;
    /* Whoever gives it up need not know how often it was tried: those counts never fall. */
    if (exception && exception->attempt > attempt)
        attempt = exception->attempt;
    if (exception && exception->failures > failures)
        failures = exception->failures;
    struct pawl_bus_one record = {.queue = queue->number,
                                  .group = sub->group,
                                  .seq = seq,
                                  .attempt = attempt,
                                  .failures = failures,
                                  .realtime_ns = bus->now.realtime_ns,
                                  .cause = reason,
                                  .text_bytes = (uint32_t)(text_bytes < 1024 ? text_bytes : 1024)};
    int error;
    struct backlog_cursor cursor = {0};
    bus_group_flush(bus);
    bus_cut(bus);
    const struct pawl_event *event = backlog_read(bus, queue, &cursor, seq, &error);
    if (!event)
        bus_log(bus, queue, PAWL_LOG_ERROR, "event %" PRIu64 " cannot be read: %s", seq,
                pawl_error_text(error));
    bool has_grave = !queue->config.dead_letters && queue->config.guarantee != PAWL_GUARANTEE_AT_MOST_ONCE;
    if (!event || (has_grave && !bury(bus, queue, sub->name, event, reason, attempt, first_at_ns, text,
                                      text_bytes, seq))) {
        keep_for_later(bus, sub, &record);
        return;
    }
    if (queue->row)
        pawl_metrics_row_add(queue->row, PAWL_QUEUE_DEAD + (uint32_t)reason, 1);
    if (backlog_is_volatile(&queue->backlog, seq)) {
        if (bus_one_apply(bus, PAWL_BUS_RECORD_DEAD, &record, "") != 0)
            bus->failed = true;
    } else {
        bus_append(bus, PAWL_BUS_RECORD_DEAD, &record, sizeof record, text, text ? record.text_bytes : 0);
    }
    if (queue->parked)
        bus_unpark(bus, queue);
    bus_queue_row(queue);
}
