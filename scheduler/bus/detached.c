/*
 * detached.c - deliveries that belong to no client: taken by request, settled by identity, alive across
 * restarts.
 *
 * Runs in: scheduler. The begin of a detached delivery, with its deadline, is durable before anybody is shown
 * it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

static struct bus_sub *sub_of(struct pawl_bus *bus, const char *queue_name, const char *group, char why[256],
                              int *error_out)
{
    struct bus_queue *queue = bus_queue_find(bus, queue_name);
    struct bus_sub *sub = queue ? bus_sub_find(queue, group) : NULL;
    if (!queue) {
        snprintf(why, 256, "no queue is called %s", queue_name);
        *error_out = PAWL_E_NOT_FOUND;
    } else if (!sub && !group[0]) {
        snprintf(why, 256, "queue %s is a stream: name a group (--group)", queue_name);
        *error_out = PAWL_E_INVALID;
    } else if (!sub) {
        snprintf(why, 256,
                 queue->config.stream ? "stream %s has no group %s"
                                      : "queue %s is no stream: it has no group %s",
                 queue_name, group);
        *error_out = queue->config.stream ? PAWL_E_NOT_FOUND : PAWL_E_INVALID;
    }
    return sub;
}

static uint64_t append_claim(struct pawl_bus *bus, struct bus_sub *sub, uint64_t seq, uint32_t attempt,
                             uint64_t deadline_ns)
{
    struct pawl_bus_ranges record = {.queue = sub->queue->number,
                                     .group = sub->group,
                                     .range_count = 1,
                                     .attempt = attempt,
                                     .realtime_ns = bus->now.realtime_ns,
                                     .deadline_at_ns = deadline_ns,
                                     .failures = sub->generation,
                                     .reason = (uint32_t)bus->epoch};
    struct pawl_bus_range range = {seq, seq};
    if (!backlog_is_volatile(&sub->queue->backlog, seq))
        return bus_append(bus, PAWL_BUS_RECORD_CLAIM, &record, sizeof record, &range, sizeof range);
    if (bus_ranges_apply(bus, PAWL_BUS_RECORD_CLAIM, &record, &range) != 0)
        bus->failed = true;
    return 0;
}

static struct bus_sub *take_sub(struct pawl_bus *bus, const struct pawl_wire_take *request, char why[256],
                                int *error_out)
{
    struct bus_queue *queue = bus_queue_find(bus, request->queue);
    if (queue && queue->config.stream && request->group[0] && !bus_sub_find(queue, request->group))
        return bus_group_begin(bus, queue, request->group, request->from, error_out, why);
    return sub_of(bus, request->queue, request->group, why, error_out);
}

int pawl_bus_take(struct pawl_bus *bus, struct pawl_now now, const struct pawl_wire_take *request,
                  struct pawl_bus_taken *taken_out, uint32_t max, uint64_t *lsn_out, char why[256])
{
    int error = 0;
    uint32_t count = 0;
    bus->now = now;
    bus->stamp++;
    *lsn_out = 0;
    struct bus_sub *sub = take_sub(bus, request, why, &error);
    if (!sub)
        return error;
    struct bus_queue *queue = sub->queue;
    while (count < max && bus_may_deliver(bus) && !bus->draining && !queue->paused && !bus->failed) {
        struct bus_choice choice;
        if (queue->config.max_in_flight && sub->in_flight >= queue->config.max_in_flight)
            break;
        if (queue->config.breaker.failure_threshold &&
            pawl_breaker_admits(&sub->breaker, now.boottime_ns) == 0)
            break;
        if (!bus_choose(bus, sub, &choice))
            break;
        struct pawl_bus_taken *taken = &taken_out[count];
        bool granted = choice.exception && choice.exception->state == EXCEPTION_GRANTED;
        if (queue->config.rate_count && !granted && !bus_take_token(bus, sub))
            break;
        uint32_t attempt = choice.exception ? choice.exception->attempt + !granted : 1;
        *taken =
            (struct pawl_bus_taken){.entry = {.type = PAWL_INBOUND_DELIVERY,
                                              .attempt = attempt,
                                              .seq = choice.seq,
                                              .epoch = bus_sub_epoch(bus, sub),
                                              .queue = queue->number,
                                              .failures = choice.exception ? choice.exception->failures : 0,
                                              .ack_wait_ns = queue->config.ack_wait_ns},
                                    .deadline_at_ns = now.realtime_ns + queue->config.ack_wait_ns};
        bus_chosen(bus, sub, &choice);
        bus_count_delivery(sub, choice.seq, attempt);
        count++;
        if (queue->config.guarantee == PAWL_GUARANTEE_AT_MOST_ONCE) {
            bus_settle_gather(bus, sub, choice.seq);
            continue;
        }
        uint64_t lsn = append_claim(bus, sub, choice.seq, attempt, taken->deadline_at_ns);
        struct exception *exception = exception_find(&sub->exceptions, choice.seq);
        if (!exception) {
            bus->failed = true;
            break;
        }
        exception->due_at_ns = now.boottime_ns + queue->config.ack_wait_ns;
        if (queue->config.breaker.failure_threshold)
            exception->breaker_round = pawl_breaker_on_start(&sub->breaker);
        sub->in_flight++;
        bus->in_flight++;
        bus_timer(bus, exception->due_at_ns, BUS_TIMER_DEADLINE, choice.seq,
                  bus_timer_of(queue->number, sub->group));
        *lsn_out = lsn > *lsn_out ? lsn : *lsn_out;
    }
    bus_queue_row(queue);
    return (int)count;
}

int pawl_bus_peek(struct pawl_bus *bus, const struct pawl_wire_take *request,
                  struct pawl_bus_taken *taken_out, uint32_t max, uint64_t *next_out, bool *end_out,
                  char why[256])
{
    uint32_t count = 0;
    struct bus_queue *queue = bus_queue_find(bus, request->queue);
    struct bus_sub *sub = queue ? bus_sub_find(queue, request->group) : NULL;
    if (!queue) {
        snprintf(why, 256, "no queue is called %s", request->queue);
        return PAWL_E_NOT_FOUND;
    }
    if (!sub && request->group[0]) {
        snprintf(why, 256, "%s has no group %s", queue->name, request->group);
        return PAWL_E_NOT_FOUND;
    }
    uint64_t seq = request->from > bus_queue_first(queue) ? request->from : bus_queue_first(queue);
    *end_out = false;
    while (count < max) {
        if (sub)
            seq = pawl_seqset_next_unset(&sub->settled, seq);
        seq = backlog_next(&queue->backlog, seq);
        if (seq == UINT64_MAX || seq >= queue->visible_tail) {
            *end_out = true;
            break;
        }
        const struct exception *exception = sub ? exception_find(&sub->exceptions, seq) : NULL;
        taken_out[count++] =
            (struct pawl_bus_taken){.entry = {.type = PAWL_INBOUND_DELIVERY,
                                              .attempt = exception ? exception->attempt : 0,
                                              .seq = seq,
                                              .epoch = sub ? bus_sub_epoch(bus, sub) : bus->epoch,
                                              .queue = queue->number,
                                              .failures = exception ? exception->failures : 0}};
        seq++;
    }
    *next_out = seq == UINT64_MAX ? queue->visible_tail : seq;
    return (int)count;
}

const struct pawl_event *pawl_bus_event(struct pawl_bus *bus, uint32_t number, uint64_t seq)
{
    struct bus_queue *queue = bus_queue_at(bus, number);
    struct backlog_cursor cursor = {0};
    int error;
    bus->stamp++;
    return queue ? backlog_read(bus, queue, &cursor, seq, &error) : NULL;
}

static void extend(struct pawl_bus *bus, struct bus_sub *sub, struct exception *exception, uint64_t by_ns)
{
    struct pawl_bus_one record = {.queue = sub->queue->number,
                                  .group = sub->group,
                                  .seq = exception->seq,
                                  .attempt = exception->attempt,
                                  .realtime_ns = bus->now.realtime_ns,
                                  .delay_ns = by_ns ? by_ns : sub->queue->config.ack_wait_ns};
    record.due_at_ns = bus->now.realtime_ns + record.delay_ns;
    if (!backlog_is_volatile(&sub->queue->backlog, exception->seq))
        bus_append(bus, PAWL_BUS_RECORD_EXTEND, &record, sizeof record, NULL, 0);
    else if (bus_one_apply(bus, PAWL_BUS_RECORD_EXTEND, &record, "") != 0)
        bus->failed = true;
}

static int settle_detached(struct pawl_bus *bus, struct bus_sub *sub, struct exception *exception,
                           const struct pawl_wire_settle_one *settle, const char *text)
{
    uint64_t seq = exception->seq;
    uint32_t attempt = exception->attempt, round = exception->breaker_round;
    if (settle->op == PAWL_SETTLE_OP_EXTEND) {
        extend(bus, sub, exception, settle->value);
        return 0;
    }
    sub->in_flight--;
    bus->in_flight--;
    exception_become(&sub->exceptions, exception, EXCEPTION_HELD); /* its deadline is void */
    switch ((enum pawl_settle_op)settle->op) {
    case PAWL_SETTLE_OP_ACK:
        pawl_breaker_on_success(&sub->breaker, round);
        bus_settle_gather(bus, sub, seq);
        if (sub->queue->row)
            pawl_metrics_row_add(sub->queue->row, PAWL_QUEUE_ACKED, 1);
        break;
    case PAWL_SETTLE_OP_NACK:
        pawl_breaker_on_failure(&sub->breaker, round, bus->now.boottime_ns);
        bus_delivery_failed(bus, sub, seq, attempt, settle->cause, settle->value, text, settle->text_bytes);
        break;
    case PAWL_SETTLE_OP_REJECT:
        pawl_breaker_on_success(&sub->breaker, round);
        bus_dead(bus, sub, seq, attempt, exception->failures, PAWL_DEAD_REJECTED, text, settle->text_bytes);
        break;
    case PAWL_SETTLE_OP_RELEASE: {
        struct pawl_bus_one record = {.queue = sub->queue->number,
                                      .group = sub->group,
                                      .seq = seq,
                                      .attempt = attempt,
                                      .realtime_ns = bus->now.realtime_ns};
        pawl_breaker_on_abandoned(&sub->breaker, round);
        if (!backlog_is_volatile(&sub->queue->backlog, seq))
            bus_append(bus, PAWL_BUS_RECORD_RELEASE, &record, sizeof record, NULL, 0);
        else if (bus_one_apply(bus, PAWL_BUS_RECORD_RELEASE, &record, "") != 0)
            bus->failed = true;
        bus_returned(bus, sub, seq);
        break;
    }
    case PAWL_SETTLE_OP_EXTEND:
        break;
    }
    bus_dirty(bus, sub);
    bus_queue_row(sub->queue);
    bus->backend.changed(bus->ctx);
    return 0;
}

/* The same delivery may be in a client's lane: whoever knows its identity may settle it. */
static int settle_held(struct pawl_bus *bus, struct bus_sub *sub, const struct pawl_wire_settle_one *one,
                       const char *text)
{
    for (uint32_t i = 0; i < bus->client_room; i++) {
        struct pawl_bus_client *client = bus->clients[i];
        if (!client)
            continue;
        for (uint64_t n = client->held_first; n < client->held_next; n++) {
            const struct bus_held *held = bus_held_at(client, n);
            if (held->state != BUS_HELD_UNSETTLED || held->sub != sub || held->seq != one->seq ||
                held->attempt != one->attempt)
                continue;
            struct pawl_settle settle = {.first = n,
                                         .last = n,
                                         .value = one->value,
                                         .op = one->op,
                                         .flags = one->flags,
                                         .cause = one->cause,
                                         .text_bytes = one->text_bytes};
            return pawl_bus_settle(bus, bus->now, client, &settle, text);
        }
    }
    return PAWL_E_STALE_RECEIPT;
}

int pawl_bus_settle_one(struct pawl_bus *bus, struct pawl_now now, const struct pawl_wire_settle_one *settle,
                        const char *text)
{
    char why[256];
    int error = 0;
    bus->now = now;
    const struct pawl_settle words = {.op = settle->op, .flags = settle->flags, .cause = settle->cause};
    if (pawl_settle_check(&words, 0) != 0)
        return PAWL_E_INVALID;
    if (settle->op == PAWL_SETTLE_OP_EXTEND && settle->value > PAWL_EXTEND_NS_MAX)
        return PAWL_E_LIMIT;
    struct bus_sub *sub = sub_of(bus, settle->queue, settle->group, why, &error);
    if (!sub)
        return error;
    if (settle->seq == 0 || settle->seq >= sub->queue->tail)
        return PAWL_E_NOT_FOUND;
    struct exception *exception = exception_find(&sub->exceptions, settle->seq);
    if (exception && exception->state == EXCEPTION_DETACHED) {
        /* A delivery that outlived its scheduler keeps the epoch in which it was given. */
        bool same = exception->attempt == settle->attempt && exception->epoch == settle->epoch;
        return same ? settle_detached(bus, sub, exception, settle, text) : PAWL_E_STALE_RECEIPT;
    }
    return settle->epoch == bus_sub_epoch(bus, sub) ? settle_held(bus, sub, settle, text)
                                                    : PAWL_E_STALE_RECEIPT;
}
