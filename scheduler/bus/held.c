/*
 * held.c - deliveries that lie in the lanes of clients, unsettled, and what is said of them.
 *
 * Runs in: scheduler. Deliveries of a lane are numbered densely; that number is the receipt. What a client
 * may say is believed only of numbers that it holds.
 */
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

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

int pawl_bus_may_settle(struct pawl_bus *bus, struct pawl_bus_client *client,
                        const struct pawl_settle *settle)
{
    if (settle->op == PAWL_SETTLE_OP_NACK || settle->op == PAWL_SETTLE_OP_REJECT)
        return PAWL_E_INVALID;
    if (asks_too_much(settle))
        return PAWL_E_LIMIT;
    if (client->replaced || settle->first > settle->last || settle->first < client->held_first ||
        settle->last >= client->held_next)
        return PAWL_E_STALE_RECEIPT;
    for (uint64_t n = settle->first; n <= settle->last; n++) {
        const struct bus_held *held = bus_held_at(client, n);
        if (held->state != BUS_HELD_UNSETTLED || !held->sub || held->act == bus->act)
            return PAWL_E_STALE_RECEIPT;
    }
    for (uint64_t n = settle->first; n <= settle->last && settle->op != PAWL_SETTLE_OP_EXTEND; n++) {
        struct bus_held *held = bus_held_at(client, n);
        held->act = bus->act; /* each makes room once */
        if (settle->op == PAWL_SETTLE_OP_ACK)
            bus_act_acks(bus, held->sub->queue, held->seq);
    }
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

void bus_held_give_up(struct pawl_bus *bus, struct pawl_bus_client *client, const struct bus_consumer *only,
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
