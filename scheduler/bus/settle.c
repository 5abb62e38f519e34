/*
 * settle.c - the ends of deliveries: acks gathered into ranges, failures that go again.
 *
 * Runs in: scheduler. Acks of one flush become one record a subscription; a range of events that were only
 * ever in memory is never written.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

enum { RANGES_A_RECORD = 4096 };

/* ---- acks ---- */

void bus_settle_gather(struct pawl_bus *bus, struct bus_sub *sub, uint64_t seq)
{
    if (sub->ack_count > 0 && sub->acks[sub->ack_count - 1].last + 1 == seq) {
        sub->acks[sub->ack_count - 1].last = seq;
        return;
    }
    if (bus_grow((void **)&sub->acks, &sub->ack_room, sub->ack_count + 1, sizeof *sub->acks) < 0) {
        bus->failed = true;
        return;
    }
    sub->acks[sub->ack_count++] = (struct pawl_bus_range){seq, seq};
    if (!sub->gathered) {
        sub->gathered = true;
        sub->next_gathered = bus->gathered;
        bus->gathered = sub;
    }
}

void bus_exception_gone(struct pawl_bus *bus, struct bus_sub *sub, struct exception *exception)
{
    if (exception->state == EXCEPTION_DETACHED && !bus->replaying) {
        sub->in_flight--;
        bus->in_flight--;
        pawl_breaker_on_abandoned(&sub->breaker, exception->breaker_round);
    }
    exception_remove(&sub->exceptions, exception);
}

static void release(struct pawl_bus *bus, struct bus_sub *sub, uint64_t first, uint64_t last)
{
    struct bus_queue *queue = sub->queue;
    if (queue->config.stream)
        return; /* retention decides */
    uint64_t bytes = backlog_release(bus, &queue->backlog, first, last);
    queue->bytes -= bytes < queue->bytes ? bytes : queue->bytes;
}

/* Settle a range: what was in it is wanted no more. Return: how many were not settled before. */
static int64_t settle_range(struct pawl_bus *bus, struct bus_sub *sub, uint64_t first, uint64_t last)
{
    int64_t fresh = 0;
    if (last >= sub->queue->tail)
        return PAWL_E_DAMAGED;
    if (first < pawl_seqset_head(&sub->settled))
        first = pawl_seqset_head(&sub->settled);
    /* Each seq is released once: runs of those that are not settled yet. */
    while (first <= last) {
        uint64_t run_first, run_last;
        if (!pawl_seqset_range(&sub->settled, first, last + 1, false, &run_first, &run_last))
            break;
        release(bus, sub, run_first, run_last);
        if (sub->exceptions.count > 0)
            for (uint64_t seq = run_first; seq <= run_last && sub->exceptions.count > 0; seq++) {
                struct exception *exception = exception_find(&sub->exceptions, seq);
                if (!exception)
                    continue;
                bus_key_release(bus, sub, exception, seq);
                bus_exception_gone(bus, sub, exception);
            }
        int64_t added = pawl_seqset_add_range(&sub->settled, run_first, run_last);
        if (added < 0)
            return added;
        fresh += added;
        if (run_last == UINT64_MAX)
            break;
        first = run_last + 1;
    }
    if (!sub->queue->config.stream)
        sub->queue->depth -= (uint64_t)fresh < sub->queue->depth ? (uint64_t)fresh : sub->queue->depth;
    if (sub->next < pawl_seqset_head(&sub->settled))
        sub->next = pawl_seqset_head(&sub->settled);
    return fresh;
}

static int apply_claim(const struct pawl_bus *bus, struct bus_sub *sub, const struct pawl_bus_ranges *record,
                       const struct pawl_bus_range *range)
{
    if (range->last - range->first > UINT64_C(1) << 32)
        return PAWL_E_DAMAGED;
    for (uint64_t seq = range->first; seq <= range->last; seq++) {
        if (pawl_seqset_has(&sub->settled, seq))
            continue;
        struct exception *exception = exception_find(&sub->exceptions, seq);
        if (!exception)
            exception = exception_add(&sub->exceptions, seq);
        if (!exception)
            return -ENOMEM;
        /* Begun anew without having ended: the scheduler went down in between. */
        if (bus->replaying && exception->state == EXCEPTION_HELD && record->attempt > exception->attempt &&
            exception->interruptions < UINT16_MAX)
            exception->interruptions++;
        if (record->attempt > exception->attempt)
            exception->attempt = record->attempt;
        exception_become(&sub->exceptions, exception,
                         record->deadline_at_ns ? EXCEPTION_DETACHED : EXCEPTION_HELD);
        if (record->deadline_at_ns) {
            exception->epoch = (uint64_t)record->failures << 32 | record->reason;
            exception->due_realtime_ns = record->deadline_at_ns;
            exception->delay_ns = record->deadline_at_ns - record->realtime_ns;
            if (bus->replaying)
                exception->due_at_ns =
                    pawl_now_due(bus->written, exception->due_realtime_ns, exception->delay_ns);
        }
        if (exception->first_at_ns == 0)
            exception->first_at_ns = record->realtime_ns;
    }
    return 0;
}

int bus_ranges_apply(struct pawl_bus *bus, uint8_t type, const struct pawl_bus_ranges *record,
                     const struct pawl_bus_range *ranges)
{
    struct bus_sub *sub = bus_sub_at(bus, record->queue, record->group);
    if (!sub)
        return 0; /* of a queue that is gone */
    for (uint32_t i = 0; i < record->range_count; i++) {
        if (ranges[i].first > ranges[i].last || ranges[i].last == UINT64_MAX)
            return PAWL_E_DAMAGED;
        int lost = bus->replaying ? bus_queue_lost(sub->queue, ranges[i].last + 1) : 0;
        if (lost)
            return lost;
        if (type == PAWL_BUS_RECORD_CLAIM) {
            /* Live, the claim of a client's deliveries changes nothing but what is on disk. */
            int error =
                bus->replaying || record->deadline_at_ns ? apply_claim(bus, sub, record, &ranges[i]) : 0;
            if (error)
                return error;
        } else {
            int64_t fresh = settle_range(bus, sub, ranges[i].first, ranges[i].last);
            if (fresh < 0)
                return (int)fresh;
        }
    }
    if (record->reason == PAWL_BUS_END_ACKED && type == PAWL_BUS_RECORD_ACK)
        sub->acked_at_realtime_ns = record->realtime_ns;
    return 0;
}

static void settle_now(struct pawl_bus *bus, struct bus_sub *sub, const struct pawl_bus_range *ranges,
                       size_t count, enum pawl_bus_end reason)
{
    struct pawl_bus_ranges record = {.queue = sub->queue->number,
                                     .group = sub->group,
                                     .realtime_ns = bus->now.realtime_ns,
                                     .reason = reason};
    uint64_t first = UINT64_MAX, last = 0;
    for (size_t i = 0; i < count; i++) {
        first = ranges[i].first < first ? ranges[i].first : first;
        last = ranges[i].last > last ? ranges[i].last : last;
    }
    bool durable = sub->group != 0 || backlog_any_durable(&sub->queue->backlog, first, last);
    for (size_t at = 0; at < count && !bus->failed; at += record.range_count) {
        record.range_count = (uint32_t)(count - at < RANGES_A_RECORD ? count - at : RANGES_A_RECORD);
        if (durable)
            bus_append(bus, PAWL_BUS_RECORD_ACK, &record, sizeof record, ranges + at,
                       record.range_count * sizeof *ranges);
        else if (bus_ranges_apply(bus, PAWL_BUS_RECORD_ACK, &record, ranges + at) != 0)
            bus->failed = true;
    }
}

void bus_settle_flush(struct pawl_bus *bus)
{
    while (bus->gathered) {
        struct bus_sub *sub = bus->gathered;
        bus->gathered = sub->next_gathered;
        sub->gathered = false;
        /* Taken off first: whatever this sets free may gather anew. */
        struct pawl_bus_range *ranges = sub->acks;
        size_t count = sub->ack_count, room = sub->ack_room;
        sub->acks = NULL;
        sub->ack_count = sub->ack_room = 0;
        settle_now(bus, sub, ranges, count, PAWL_BUS_END_ACKED);
        if (!sub->acks) {
            sub->acks = ranges;
            sub->ack_room = room;
        } else {
            free(ranges);
        }
        if (sub->queue->parked && bus->acting)
            bus->unpark_due = true;
        else if (sub->queue->parked)
            bus_unpark(bus, sub->queue);
        bus_queue_row(sub->queue);
        bus->backend.changed(bus->ctx);
    }
}

void bus_sub_drop_range(struct pawl_bus *bus, struct bus_sub *sub, uint64_t first, uint64_t last,
                        enum pawl_bus_end reason)
{
    struct pawl_bus_range range = {first, last};
    settle_now(bus, sub, &range, 1, reason);
    bus_queue_row(sub->queue);
}

/* ---- failures ---- */

/* How often it failed before: known only to its exception. */
static uint32_t failures_of(const struct bus_sub *sub, uint64_t seq)
{
    const struct exception *exception = exception_find(&sub->exceptions, seq);
    return exception ? exception->failures : 0;
}

void bus_delivery_failed(struct pawl_bus *bus, struct bus_sub *sub, uint64_t seq, uint32_t attempt,
                         uint32_t cause, uint64_t delay_ns, const char *text, size_t text_bytes)
{
    uint32_t failures = failures_of(sub, seq) + 1;
    uint64_t wait_ns = 0;
    enum pawl_retry_verdict verdict = pawl_retry_decide(&sub->queue->config.retry, failures, cause,
                                                        bus->backend.random(bus->ctx), &wait_ns);
    /* A deadline and a death are no words of the consumer: they are counted when it is delivered again. */
    bool said = (cause & 0xff) != PAWL_CAUSE_DEADLINE && (cause & 0xff) != PAWL_CAUSE_CONSUMER_DIED;
    if (sub->queue->row && said)
        pawl_metrics_row_add(sub->queue->row, PAWL_QUEUE_NACKED, 1);
    if (verdict == PAWL_RETRY_DEAD) {
        bus_dead(bus, sub, seq, attempt, failures, PAWL_DEAD_DELIVERY_LIMIT, text, text_bytes);
        return;
    }
    if (delay_ns != PAWL_SETTLE_POLICY)
        wait_ns = delay_ns > bus->limits.publish_delay_ns ? bus->limits.publish_delay_ns : delay_ns;
    struct pawl_bus_one record = {.queue = sub->queue->number,
                                  .group = sub->group,
                                  .seq = seq,
                                  .attempt = attempt,
                                  .failures = failures,
                                  .realtime_ns = bus->now.realtime_ns,
                                  .due_at_ns = bus->now.realtime_ns + wait_ns,
                                  .delay_ns = wait_ns,
                                  .cause = cause,
                                  .text_bytes = (uint32_t)(text_bytes < 1024 ? text_bytes : 1024)};
    if (backlog_is_volatile(&sub->queue->backlog, seq)) {
        if (bus_one_apply(bus, PAWL_BUS_RECORD_RETRY, &record, text ? text : "") != 0)
            bus->failed = true;
    } else {
        bus_append(bus, PAWL_BUS_RECORD_RETRY, &record, sizeof record, text, text ? record.text_bytes : 0);
    }
    if (wait_ns == 0)
        bus_dirty(bus, sub);
    bus_returned(bus, sub, seq);
}

static int apply_retry(struct pawl_bus *bus, struct bus_sub *sub, const struct pawl_bus_one *record,
                       const char *text)
{
    struct exception *exception = exception_find(&sub->exceptions, record->seq);
    if (!exception)
        exception = exception_add(&sub->exceptions, record->seq);
    if (!exception)
        return -ENOMEM;
    exception_pull(&sub->exceptions, exception);
    exception->attempt = record->attempt;
    exception->failures = record->failures < UINT16_MAX ? (uint16_t)record->failures : UINT16_MAX;
    exception->last_cause = (uint16_t)record->cause;
    exception->redelivered_cause_known = true;
    exception->due_realtime_ns = record->due_at_ns;
    exception->delay_ns = record->delay_ns;
    exception_become(&sub->exceptions, exception, record->delay_ns ? EXCEPTION_DELAYED : EXCEPTION_READY);
    if (exception->first_at_ns == 0)
        exception->first_at_ns = record->realtime_ns;
    free(exception->error);
    exception->error = record->text_bytes ? strndup(text, record->text_bytes) : NULL;
    if (bus->replaying) {
        exception->due_at_ns = pawl_now_due(bus->written, record->due_at_ns, record->delay_ns);
        return 0;
    }
    if (exception->state == EXCEPTION_READY)
        return exception_push(&sub->exceptions, exception);
    exception->due_at_ns = bus->now.boottime_ns + record->delay_ns;
    bus_timer(bus, exception->due_at_ns, BUS_TIMER_DUE, record->seq,
              bus_timer_of(sub->queue->number, sub->group));
    return 0;
}

static int apply_extend(struct pawl_bus *bus, struct bus_sub *sub, const struct pawl_bus_one *record)
{
    struct exception *exception = exception_find(&sub->exceptions, record->seq);
    if (!exception || exception->state != EXCEPTION_DETACHED)
        return 0;
    exception->due_realtime_ns = record->due_at_ns;
    exception->delay_ns = record->delay_ns;
    if (bus->replaying) {
        exception->due_at_ns = pawl_now_due(bus->written, record->due_at_ns, record->delay_ns);
    } else {
        exception->due_at_ns = bus->now.boottime_ns + record->delay_ns;
        bus_timer(bus, exception->due_at_ns, BUS_TIMER_DEADLINE, record->seq,
                  bus_timer_of(sub->queue->number, sub->group));
    }
    return 0;
}

static int apply_release(struct pawl_bus *bus, struct bus_sub *sub, const struct pawl_bus_one *record)
{
    struct exception *exception = exception_find(&sub->exceptions, record->seq);
    if (!exception)
        return 0;
    if (record->attempt > exception->attempt)
        exception->attempt = record->attempt;
    exception_become(&sub->exceptions, exception, EXCEPTION_READY);
    return bus->replaying ? 0 : exception_push(&sub->exceptions, exception);
}

int bus_one_apply(struct pawl_bus *bus, uint8_t type, const struct pawl_bus_one *record, const char *text)
{
    struct bus_sub *sub = bus_sub_at(bus, record->queue, record->group);
    if (!sub)
        return 0;
    if (record->seq == UINT64_MAX || (record->seq >= sub->queue->tail && !bus->replaying))
        return PAWL_E_DAMAGED;
    int lost = bus_queue_lost(sub->queue, record->seq + 1);
    if (lost || pawl_seqset_has(&sub->settled, record->seq))
        return lost;
    switch (type) {
    case PAWL_BUS_RECORD_RETRY:
        return apply_retry(bus, sub, record, text);
    case PAWL_BUS_RECORD_EXTEND:
        return apply_extend(bus, sub, record);
    case PAWL_BUS_RECORD_RELEASE:
        return apply_release(bus, sub, record);
    default: {
        int64_t fresh = settle_range(bus, sub, record->seq, record->seq);
        return fresh < 0 ? (int)fresh : 0;
    }
    }
}
