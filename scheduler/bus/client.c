/*
 * client.c - attached clients: what lies in their lanes unsettled, and what they say of it.
 *
 * Runs in: scheduler. Deliveries of a lane are numbered densely; that number is the receipt. What a client
 * may say is believed only of numbers that it holds.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

enum { HELD_FIRST = 64, CLIENTS_MAX = 1 << 20 };

struct pawl_bus_client *pawl_bus_client(struct pawl_bus *bus, uint32_t client)
{
    return client < bus->client_room ? bus->clients[client] : NULL;
}

uint64_t pawl_bus_delivered(const struct pawl_bus_client *client)
{
    return client->held_next;
}

uint64_t pawl_bus_begun_count(const struct pawl_bus_client *client)
{
    return client->begun;
}

bool pawl_bus_is_handling(const struct pawl_bus_client *client)
{
    return client->begun > client->held_first;
}

bool pawl_bus_may_submit(const struct pawl_bus_client *client)
{
    return client->parked_count < BUS_PARKED_MAX && client->parked_bytes < BUS_PARKED_BYTES_MAX;
}

int pawl_bus_client_open(struct pawl_bus *bus, struct pawl_now now, uint32_t number, uint64_t publisher,
                         uint64_t *publisher_sequence_out)
{
    size_t room = bus->client_room;
    bus->now = now;
    if (number >= CLIENTS_MAX)
        return PAWL_E_LIMIT;
    if (bus_grow((void **)&bus->clients, &room, (size_t)number + 1, sizeof(struct pawl_bus_client *)) < 0)
        return -ENOMEM;
    if (room > bus->client_room)
        memset(bus->clients + bus->client_room, 0,
               (room - bus->client_room) * sizeof(struct pawl_bus_client *));
    bus->client_room = (uint32_t)room;
    struct pawl_bus_client *client = calloc(1, sizeof *client);
    if (!client)
        return -ENOMEM;
    client->held = calloc(HELD_FIRST, sizeof *client->held);
    if (!client->held) {
        free(client);
        return -ENOMEM;
    }
    client->held_room = HELD_FIRST;
    client->number = number;
    client->serial = ++bus->client_serial;
    client->publisher = publisher;
    client->deadline_check_ns = UINT64_MAX;
    *publisher_sequence_out = 0;
    bus->clients[number] = client;
    if (!publisher)
        return 0;
    bus_group_flush(bus);
    bus_publisher_moves(bus, client);
    client->last_sequence = pawl_publishers_last(&bus->publishers, publisher);
    *publisher_sequence_out = pawl_publishers_upto(&bus->publishers, publisher, bus->durable_lsn);
    return 0;
}

/* ---- held ---- */

struct bus_held *bus_held_at(struct pawl_bus_client *client, uint64_t number)
{
    return &client->held[number & (client->held_room - 1)];
}

struct bus_held *bus_held_new(struct pawl_bus *bus, struct pawl_bus_client *client)
{
    if (client->held_next - client->held_first == client->held_room) {
        uint32_t room = client->held_room * 2;
        struct bus_held *held = calloc(room, sizeof *held);
        if (!held) {
            bus->failed = true;
            return NULL;
        }
        for (uint64_t n = client->held_first; n < client->held_next; n++)
            held[n & (room - 1)] = *bus_held_at(client, n);
        free(client->held);
        client->held = held;
        client->held_room = room;
    }
    struct bus_held *held = bus_held_at(client, client->held_next++);
    memset(held, 0, sizeof *held);
    return held;
}

void bus_held_done(struct pawl_bus *bus, struct pawl_bus_client *client, struct bus_held *held)
{
    if (held->state == BUS_HELD_UNSETTLED && held->sub) {
        held->sub->in_flight--;
        bus->in_flight--;
        bus_dirty(bus, held->sub);
    }
    if (held->consumer) {
        held->consumer->used--;
        held->consumer->stalled = false;
        if (held->consumer->ended && held->consumer->used == 0) {
            struct bus_consumer **link = &client->consumers;
            while (*link && *link != held->consumer)
                link = &(*link)->next_of_client;
            if (*link)
                *link = held->consumer->next_of_client;
            free(held->consumer);
        } else if (held->consumer->sub) {
            bus_dirty(bus, held->consumer->sub);
        }
    }
    held->consumer = NULL;
    held->sub = NULL;
    held->state = BUS_HELD_NONE;
    while (client->held_first < client->held_next &&
           bus_held_at(client, client->held_first)->state == BUS_HELD_NONE)
        client->held_first++;
}

/* Somebody else may have it, or it is gone: a settlement that comes yet is late. The credit stays used until
 * then. */
static void revoke(struct pawl_bus *bus, struct bus_held *held)
{
    held->sub->in_flight--;
    bus->in_flight--;
    held->sub = NULL;
    held->state = BUS_HELD_REVOKED;
}

static void unlink_consumer(struct bus_consumer *consumer)
{
    struct bus_sub *sub = consumer->sub;
    if (!consumer->next)
        return;
    if (consumer->next == consumer) {
        sub->consumers = NULL;
    } else {
        consumer->previous->next = consumer->next;
        consumer->next->previous = consumer->previous;
        if (sub->consumers == consumer)
            sub->consumers = consumer->next;
    }
    consumer->next = consumer->previous = NULL;
    sub->consumer_count--;
}

void bus_sub_revoke_held(struct pawl_bus *bus, struct bus_sub *sub)
{
    if (bus->replaying)
        return;
    for (uint32_t i = 0; i < bus->client_room; i++) {
        struct pawl_bus_client *client = bus->clients[i];
        if (!client)
            continue;
        for (uint64_t n = client->held_first; n < client->held_next; n++) {
            struct bus_held *held = bus_held_at(client, n);
            if (held->sub == sub && held->state == BUS_HELD_UNSETTLED)
                revoke(bus, held);
        }
    }
}

void bus_sub_drop_consumers(struct pawl_bus *bus, struct bus_sub *sub, uint64_t lsn)
{
    while (sub->consumers) {
        struct bus_consumer *consumer = sub->consumers;
        const struct pawl_reply reply = {.type = PAWL_REPLY_GONE,
                                         .error = PAWL_E_NOT_FOUND,
                                         .first = consumer->id,
                                         .last = consumer->id,
                                         .queue = sub->queue->number};
        unlink_consumer(consumer);
        if (!bus->replaying)
            bus_reply_durable(bus, consumer->client, &reply, lsn);
        consumer->sub = NULL;
        consumer->ended = true; /* freed with its last delivery, or with its client */
    }
}

void pawl_bus_client_ready(struct pawl_bus *bus, struct pawl_bus_client *client)
{
    for (struct bus_consumer *consumer = client->consumers; consumer; consumer = consumer->next_of_client)
        if (consumer->stalled) {
            consumer->stalled = false;
            if (consumer->sub)
                bus_dirty(bus, consumer->sub);
        }
}

/* It goes to somebody else, and nothing failed. A handler may have @seen this attempt: then it is counted, so
 * that no two handlers ever get the same one; else it is as if it had not been handed out. */
static void hand_back(struct pawl_bus *bus, const struct bus_held *held, bool seen)
{
    struct bus_sub *sub = held->sub;
    struct pawl_bus_one record = {.queue = sub->queue->number,
                                  .group = sub->group,
                                  .seq = held->seq,
                                  .attempt = held->attempt,
                                  .realtime_ns = bus->now.realtime_ns};
    if (pawl_seqset_has(&sub->settled, held->seq))
        return;
    struct exception *exception = exception_find(&sub->exceptions, held->seq);
    if (!exception)
        exception = exception_add(&sub->exceptions, held->seq);
    if (!exception) {
        bus->failed = true;
        return;
    }
    if (!seen && !held->claimed)
        record.attempt = 0;
    if (held->claimed) /* its begin is on disk, so this must be */
        bus_append(bus, PAWL_BUS_RECORD_RELEASE, &record, sizeof record, NULL, 0);
    else if (bus_one_apply(bus, PAWL_BUS_RECORD_RELEASE, &record, "") != 0)
        bus->failed = true;
    bus_dirty(bus, sub);
    bus_returned(bus, sub, record.seq);
}

/* ---- settlements ---- */

static void late(struct pawl_bus *bus, struct pawl_bus_client *client, uint64_t number, int error)
{
    struct pawl_reply reply = {.type = PAWL_REPLY_LATE, .error = error, .first = number, .last = number};
    bus->backend.reply(bus->ctx, client->number, &reply);
}

static void observe(struct pawl_bus *bus, const struct bus_held *held)
{
    if (held->sub->queue->row && held->begun_at_ns)
        pawl_metrics_observe(&held->sub->queue->row->handler, bus->now.boottime_ns - held->begun_at_ns);
}

static void settle_one(struct pawl_bus *bus, struct pawl_bus_client *client, struct bus_held *held,
                       uint64_t number, const struct pawl_settle *settle, const char *text)
{
    struct bus_sub *sub = held->sub;
    uint64_t seq = held->seq;
    uint32_t attempt = held->attempt, round = held->breaker_round;
    if (settle->op != PAWL_SETTLE_OP_RELEASE && !held->begun_at_ns)
        bus_count_delivery(sub, seq, attempt); /* it began since its client was last heard */
    (void)number;
    switch ((enum pawl_settle_op)settle->op) {
    case PAWL_SETTLE_OP_ACK:
        if (sub->queue->config.breaker.failure_threshold)
            pawl_breaker_on_success(&sub->breaker, round);
        observe(bus, held);
        bus_held_done(bus, client, held);
        bus_settle_gather(bus, sub, seq);
        if (sub->queue->row)
            pawl_metrics_row_add(sub->queue->row, PAWL_QUEUE_ACKED, 1);
        break;
    case PAWL_SETTLE_OP_NACK:
        if (settle->flags & PAWL_SETTLE_SPARE_BREAKER)
            pawl_breaker_on_abandoned(&sub->breaker, round);
        else
            pawl_breaker_on_failure(&sub->breaker, round, bus->now.boottime_ns);
        observe(bus, held);
        bus_held_done(bus, client, held);
        bus_delivery_failed(bus, sub, seq, attempt, settle->cause, settle->value, text,
                            text ? settle->text_bytes : 0);
        break;
    case PAWL_SETTLE_OP_REJECT:
        pawl_breaker_on_success(&sub->breaker, round); /* the handler works: the event is bad */
        observe(bus, held);
        bus_held_done(bus, client, held);
        bus_dead(bus, sub, seq, attempt, 0, PAWL_DEAD_REJECTED, text, text ? settle->text_bytes : 0);
        break;
    case PAWL_SETTLE_OP_EXTEND: {
        uint64_t by_ns = settle->value ? settle->value : sub->queue->config.ack_wait_ns;
        if (!held->begun_at_ns)
            held->begun_at_ns = bus->now.boottime_ns;
        held->deadline_at_ns = bus->now.boottime_ns + by_ns;
        bus_deadline_soon(bus, client, held->deadline_at_ns);
        break;
    }
    case PAWL_SETTLE_OP_RELEASE: {
        struct bus_held copy = *held;
        pawl_breaker_on_abandoned(&sub->breaker, round);
        bus_held_done(bus, client, held);
        hand_back(bus, &copy, true);
        break;
    }
    }
}

static bool asks_too_much(const struct pawl_settle *settle)
{
    return settle->op == PAWL_SETTLE_OP_EXTEND && settle->value > PAWL_EXTEND_NS_MAX;
}

int pawl_bus_settle(struct pawl_bus *bus, struct pawl_now now, struct pawl_bus_client *client,
                    const struct pawl_settle *settle, const char *text)
{
    bus->now = now;
    if (settle->first > settle->last || settle->last >= client->held_next ||
        settle->op < PAWL_SETTLE_OP_ACK || settle->op > PAWL_SETTLE_OP_RELEASE)
        return PAWL_E_BAD_MESSAGE;
    if (asks_too_much(settle)) {
        struct pawl_reply reply = {
            .type = PAWL_REPLY_LATE, .error = PAWL_E_LIMIT, .first = settle->first, .last = settle->last};
        bus->backend.reply(bus->ctx, client->number, &reply);
        return 0;
    }
    uint64_t first = settle->first;
    if (first < client->held_first) { /* settled long ago, all of them */
        uint64_t upto = settle->last < client->held_first ? settle->last : client->held_first - 1;
        struct pawl_reply reply = {
            .type = PAWL_REPLY_LATE, .error = PAWL_E_STALE_RECEIPT, .first = first, .last = upto};
        bus->backend.reply(bus->ctx, client->number, &reply);
        first = client->held_first;
    }
    for (uint64_t number = first; number <= settle->last; number++) {
        struct bus_held *held = bus_held_at(client, number);
        if (held->state == BUS_HELD_UNSETTLED && held->sub) {
            settle_one(bus, client, held, number, settle, text);
        } else if (held->auto_ack) {
            held->auto_ack = false;
            bus_held_done(bus, client, held); /* only the credit comes back */
        } else {
            late(bus, client, number, PAWL_E_STALE_RECEIPT);
            if (held->state == BUS_HELD_REVOKED && settle->op != PAWL_SETTLE_OP_EXTEND)
                bus_held_done(bus, client, held);
        }
    }
    return 0;
}

int pawl_bus_may_settle(struct pawl_bus_client *client, const struct pawl_settle *settle)
{
    if (settle->op == PAWL_SETTLE_OP_NACK || settle->op == PAWL_SETTLE_OP_REJECT)
        return PAWL_E_INVALID;
    if (asks_too_much(settle))
        return PAWL_E_LIMIT;
    if (client->replaced || settle->first > settle->last || settle->first < client->held_first ||
        settle->last >= client->held_next)
        return PAWL_E_STALE_RECEIPT;
    for (uint64_t n = settle->first; n <= settle->last; n++)
        if (bus_held_at(client, n)->state != BUS_HELD_UNSETTLED || !bus_held_at(client, n)->sub)
            return PAWL_E_STALE_RECEIPT;
    return 0;
}

/* ---- begins and deadlines ---- */

/* `begun` counts a prefix of the lane; who asked for more time has begun wherever it lies. */
static bool has_begun(const struct pawl_bus_client *client, uint64_t number, const struct bus_held *held)
{
    return number < client->begun || held->begun_at_ns;
}

void bus_deadline_soon(struct pawl_bus *bus, struct pawl_bus_client *client, uint64_t at_ns)
{
    if (at_ns >= client->deadline_check_ns)
        return;
    client->deadline_check_ns = at_ns;
    bus_timer(bus, at_ns, BUS_TIMER_CLIENT, 0, client->number);
}

void pawl_bus_begun(struct pawl_bus *bus, struct pawl_now now, struct pawl_bus_client *client, uint64_t begun)
{
    uint64_t soonest = UINT64_MAX;
    bus->now = now;
    if (begun <= client->begun)
        return;
    for (uint64_t n = client->begun < client->held_first ? client->held_first : client->begun; n < begun;
         n++) {
        struct bus_held *held = bus_held_at(client, n);
        if (held->state != BUS_HELD_UNSETTLED || !held->sub || held->begun_at_ns)
            continue;
        held->begun_at_ns = now.boottime_ns;
        bus_count_delivery(held->sub, held->seq, held->attempt);
        held->deadline_at_ns = now.boottime_ns + held->sub->queue->config.ack_wait_ns;
        if (held->deadline_at_ns < soonest)
            soonest = held->deadline_at_ns;
    }
    client->begun = begun;
    bus_deadline_soon(bus, client, soonest);
}

void pawl_bus_claims(struct pawl_bus *bus, struct pawl_now now, struct pawl_bus_client *client)
{
    bus->now = now;
    uint64_t n = client->claimed < client->held_first ? client->held_first : client->claimed;
    while (n < client->begun) {
        /* A run of one subscription and one attempt becomes one record. */
        struct bus_held *held = bus_held_at(client, n);
        if (held->state != BUS_HELD_UNSETTLED || !held->sub || held->claimed ||
            backlog_is_volatile(&held->sub->queue->backlog, held->seq)) {
            n++;
            continue;
        }
        struct pawl_bus_ranges record = {.queue = held->sub->queue->number,
                                         .group = held->sub->group,
                                         .attempt = held->attempt,
                                         .realtime_ns = bus->now.realtime_ns};
        size_t count = 0;
        struct bus_sub *sub = held->sub;
        for (; n < client->begun && count < 1024; n++) {
            held = bus_held_at(client, n);
            if (held->state != BUS_HELD_UNSETTLED || held->claimed)
                continue;
            if (held->sub != sub || held->attempt != record.attempt ||
                backlog_is_volatile(&sub->queue->backlog, held->seq))
                break;
            held->claimed = true;
            if (count > 0 && bus->claim_ranges[count - 1].last + 1 == held->seq) {
                bus->claim_ranges[count - 1].last = held->seq;
                continue;
            }
            if (bus_grow((void **)&bus->claim_ranges, &bus->claim_room, count + 1,
                         sizeof *bus->claim_ranges) < 0) {
                bus->failed = true;
                return;
            }
            bus->claim_ranges[count++] = (struct pawl_bus_range){held->seq, held->seq};
        }
        record.range_count = (uint32_t)count;
        bus_append(bus, PAWL_BUS_RECORD_CLAIM, &record, sizeof record, bus->claim_ranges,
                   count * sizeof *bus->claim_ranges);
    }
    client->claimed = client->begun;
}

/* Who is over its deadline; what was not begun in twice the time goes to others: its client hangs. */
void bus_client_tick(struct pawl_bus *bus, struct pawl_bus_client *client)
{
    uint64_t now_ns = bus->now.boottime_ns, soonest = UINT64_MAX;
    client->deadline_check_ns = UINT64_MAX;
    for (uint64_t n = client->held_first; n < client->held_next; n++) {
        struct bus_held *held = bus_held_at(client, n);
        if (held->state != BUS_HELD_UNSETTLED || !held->sub)
            continue;
        struct bus_sub *sub = held->sub;
        bool begun = has_begun(client, n, held);
        uint64_t at_ns =
            begun ? held->deadline_at_ns : held->placed_at_ns + 2 * sub->queue->config.ack_wait_ns;
        if (at_ns > now_ns) {
            soonest = at_ns < soonest ? at_ns : soonest;
            continue;
        }
        struct bus_held copy = *held;
        revoke(bus, held);
        if (begun) {
            pawl_breaker_on_failure(&sub->breaker, copy.breaker_round, now_ns);
            bus_delivery_failed(bus, sub, copy.seq, copy.attempt, PAWL_CAUSE_DEADLINE, PAWL_SETTLE_POLICY,
                                "the ack deadline passed", 23);
        } else {
            pawl_breaker_on_abandoned(&sub->breaker, copy.breaker_round);
            hand_back(bus, &copy, true); /* it hangs, but it may wake up */
        }
        bus_dirty(bus, sub);
    }
    if (soonest != UINT64_MAX)
        bus_deadline_soon(bus, client, soonest);
}

/* ---- consumers ---- */

static struct bus_sub *find_sub(struct pawl_bus *bus, const struct pawl_wire_consume *request, char why[256])
{
    struct bus_queue *queue = bus_queue_find(bus, request->queue);
    if (!queue) {
        snprintf(why, 256, "no queue is called %s", request->queue);
        return NULL;
    }
    struct bus_sub *sub = bus_sub_find(queue, request->group);
    if (!sub && queue->config.stream && request->group[0]) {
        sub = bus_group_begin(bus, queue, request->group,
                              request->flags & PAWL_CONSUME_FROM ? request->from : 0);
        if (!sub)
            snprintf(why, 256, "stream %s has as many groups as it may, or %.64s cannot be a name",
                     queue->name, request->group);
    } else if (!sub) {
        snprintf(why, 256,
                 queue->config.stream ? "queue %s is a stream: name a group"
                                      : "queue %s is not a stream: it has no groups",
                 queue->name);
    }
    return sub;
}

int pawl_bus_consume(struct pawl_bus *bus, struct pawl_now now, struct pawl_bus_client *client,
                     const struct pawl_wire_consume *request, struct pawl_wire_consume_ok *ok_out,
                     char why[256])
{
    bus->now = now;
    why[0] = 0;
    if (request->credit == 0 || request->credit > PAWL_CREDIT_MAX) {
        snprintf(why, 256, "a prefetch of %u is not within 1 and %d", request->credit, PAWL_CREDIT_MAX);
        return PAWL_E_LIMIT;
    }
    uint32_t count = 0;
    for (struct bus_consumer *other = client->consumers; other; other = other->next_of_client, count++)
        if (other->id == request->consumer && !other->ended) {
            snprintf(why, 256, "this client has a consumer %u already", request->consumer);
            return PAWL_E_STATE;
        }
    if (count >= BUS_CONSUMERS_MAX) {
        snprintf(why, 256, "this client has %u consumers", count);
        return PAWL_E_LIMIT;
    }
    struct bus_sub *sub = find_sub(bus, request, why);
    if (!sub)
        return bus_queue_find(bus, request->queue) ? PAWL_E_INVALID : PAWL_E_NOT_FOUND;
    struct bus_consumer *consumer = calloc(1, sizeof *consumer);
    if (!consumer)
        return -ENOMEM;
    consumer->client = client;
    consumer->sub = sub;
    consumer->id = request->consumer;
    consumer->credit = request->credit;
    consumer->auto_ack = (request->flags & PAWL_CONSUME_AUTO_ACK) ||
                         sub->queue->config.guarantee == PAWL_GUARANTEE_AT_MOST_ONCE;
    consumer->next_of_client = client->consumers;
    client->consumers = consumer;
    if (sub->consumers) {
        consumer->next = sub->consumers;
        consumer->previous = sub->consumers->previous;
        consumer->previous->next = consumer;
        sub->consumers->previous = consumer;
    } else {
        consumer->next = consumer->previous = sub->consumers = consumer;
    }
    sub->consumer_count++;
    bus_queue_row(sub->queue);
    ok_out->queue = sub->queue->number;
    ok_out->ack_wait_ns = sub->queue->config.ack_wait_ns;
    bus_dirty(bus, sub);
    return 0;
}

/* What the consumer holds of @number up goes back; what it had begun counts as failed when it died. */
static void give_up(struct pawl_bus *bus, struct pawl_bus_client *client, const struct bus_consumer *only,
                    bool died)
{
    uint64_t end = client->held_next;
    /* `begun` counts a prefix of the lane: one of several consumers may have handled what lies above it. */
    bool several = client->consumers && client->consumers->next_of_client;
    for (uint64_t n = client->held_first; n < end; n++) {
        struct bus_held *held = bus_held_at(client, n);
        if (only && held->consumer != only)
            continue;
        bool begun = has_begun(client, n, held);
        if (only && begun)
            continue; /* it may still settle it */
        if (held->state != BUS_HELD_UNSETTLED || !held->sub) {
            if (!only && held->state != BUS_HELD_NONE)
                bus_held_done(bus, client, held);
            continue;
        }
        struct bus_sub *sub = held->sub;
        struct bus_held copy = *held;
        if (only)
            revoke(bus, held); /* the lane still holds it: its number must not be given again */
        else
            bus_held_done(bus, client, held);
        if (begun && died) {
            pawl_breaker_on_failure(&sub->breaker, copy.breaker_round, bus->now.boottime_ns);
            bus_delivery_failed(bus, sub, copy.seq, copy.attempt, PAWL_CAUSE_CONSUMER_DIED,
                                PAWL_SETTLE_POLICY, "its consumer died", 17);
        } else {
            pawl_breaker_on_abandoned(&sub->breaker, copy.breaker_round);
            hand_back(bus, &copy, several);
        }
        bus_queue_row(sub->queue);
    }
}

int pawl_bus_consume_end(struct pawl_bus *bus, struct pawl_now now, struct pawl_bus_client *client,
                         uint32_t id)
{
    bus->now = now;
    struct bus_consumer **link = &client->consumers;
    while (*link && ((*link)->id != id || (*link)->ended))
        link = &(*link)->next_of_client;
    struct bus_consumer *consumer = *link;
    if (!consumer)
        return PAWL_E_NOT_FOUND;
    unlink_consumer(consumer);
    give_up(bus, client, consumer, false);
    if (consumer->sub)
        bus_queue_row(consumer->sub->queue);
    consumer->ended = true;
    if (consumer->used == 0) {
        *link = consumer->next_of_client;
        free(consumer);
    }
    return 0;
}

static void delete_temporary(struct pawl_bus *bus, uint32_t owner)
{
    for (uint32_t i = 0; i < bus->queue_end && bus->temporary_count > 0; i++)
        if (bus->queues[i] && bus->queues[i]->config.temporary && bus->queues[i]->owner == owner) {
            struct pawl_bus_mark mark = {.queue = i, .realtime_ns = bus->now.realtime_ns};
            bus_append(bus, PAWL_BUS_RECORD_DELETE, &mark, sizeof mark, NULL, 0);
        }
}

void pawl_bus_client_close(struct pawl_bus *bus, struct pawl_now now, uint32_t number)
{
    struct pawl_bus_client *client = pawl_bus_client(bus, number);
    bus->now = now;
    if (!client)
        return;
    bus_group_flush(bus);
    for (struct bus_consumer *consumer = client->consumers; consumer; consumer = consumer->next_of_client) {
        unlink_consumer(consumer);
        if (consumer->sub)
            bus_queue_row(consumer->sub->queue);
    }
    give_up(bus, client, NULL, true);
    bus_parked_drop_client(bus, client);
    bus->clients[number] = NULL;
    while (client->consumers) {
        struct bus_consumer *consumer = client->consumers;
        client->consumers = consumer->next_of_client;
        free(consumer);
    }
    free(client->held);
    free(client);
    delete_temporary(bus, number);
    pawl_bus_flush(bus, now);
}
