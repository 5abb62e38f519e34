/*
 * dispatch.c - which delivery goes next, and to whom.
 *
 * Runs in: scheduler. Only what may be in flight now leaves the backlog: as much as the consumers' credit,
 * the in-flight limit, the rate, the breaker and the ordering keys allow. So priorities, pauses, purges and
 * expiry act at once on what waits behind.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"
#include "shm/log.h"

enum { KEYED_WAITING_MAX = 10000, IN_A_ROW = 16, LOOKED_AT = 16, SET_ASIDE_A_TURN = 16 };
#define READ_AGAIN_NS UINT64_C(60000000000)
#define SOON_NS       UINT64_C(1000000)

static void wake_later(struct pawl_bus *bus, struct bus_sub *sub, uint64_t at_ns)
{
    if (at_ns == UINT64_MAX || (sub->wake_at_ns && sub->wake_at_ns <= at_ns))
        return;
    sub->wake_at_ns = at_ns;
    bus_timer(bus, at_ns, BUS_TIMER_SUB, 0, bus_timer_of(sub->queue->number, sub->group));
}

/* ---- which ---- */

void bus_key_release(struct pawl_bus *bus, struct bus_sub *sub, struct exception *exception, uint64_t seq)
{
    if (!exception->key)
        return;
    struct exception *next = exception_key_release(&sub->exceptions, exception->key, seq);
    exception->key = 0;
    if (!next || bus->replaying)
        return;
    if (next->due_at_ns > bus->now.boottime_ns && next->delay_ns) {
        exception_become(&sub->exceptions, next, EXCEPTION_DELAYED);
        bus_timer(bus, next->due_at_ns, BUS_TIMER_DUE, next->seq,
                  bus_timer_of(sub->queue->number, sub->group));
        return;
    }
    exception_become(&sub->exceptions, next, EXCEPTION_READY);
    if (exception_push(&sub->exceptions, next) < 0)
        bus->failed = true;
    bus_dirty(bus, sub);
}

uint64_t bus_ordering_key(const struct bus_queue *queue, const struct pawl_event *event)
{
    size_t bytes;
    const char *value =
        pawl_event_header_find(event, queue->config.ordering_key, strlen(queue->config.ordering_key), &bytes);
    return value ? XXH3_64bits(value, bytes) | 1 : 0;
}

/* 1: it holds its key (or has none); 0: it stands in line now; negative: no memory. */
static int take_key(struct pawl_bus *bus, struct bus_sub *sub, const struct pawl_event *event, uint64_t seq,
                    struct exception **exception)
{
    uint64_t key = *exception && (*exception)->key ? (*exception)->key : bus_ordering_key(sub->queue, event);
    if (!key)
        return 1;
    int taken = exception_key_take(&sub->exceptions, key, seq);
    if (taken < 0)
        return taken;
    if (!*exception)
        *exception = exception_add(&sub->exceptions, seq);
    if (!*exception)
        return -ENOMEM;
    (*exception)->key = key;
    (void)bus;
    if (taken == 1)
        return 1;
    exception_pull(&sub->exceptions, *exception);
    exception_key_wait(&sub->exceptions, *exception);
    return 0;
}

/* The seq behind the cursor that comes next; UINT64_MAX: none. */
static uint64_t cursor_seq(struct bus_sub *sub)
{
    struct bus_queue *queue = sub->queue;
    for (;;) {
        uint64_t seq =
            pawl_seqset_count(&sub->settled) ? pawl_seqset_next_unset(&sub->settled, sub->next) : sub->next;
        if (sub->group) {
            uint64_t kept = backlog_next(&queue->backlog, seq);
            if (kept > seq && kept != UINT64_MAX) { /* trimmed, or lost: what comes after may be settled */
                sub->next = kept;
                continue;
            }
        }
        if (seq >= queue->visible_tail)
            return UINT64_MAX;
        sub->next = seq;
        if (sub->exceptions.count == 0 || !exception_find(&sub->exceptions, seq))
            return seq;
        sub->next = seq + 1; /* it stands beside the cursor */
    }
}

/* What cannot be read stays where it is: others pass it, it is tried again. False: no more of that now. */
static bool set_aside(struct pawl_bus *bus, struct bus_sub *sub, struct exception *exception, uint64_t seq,
                      uint32_t count)
{
    if (sub->exceptions.count >= bus->limits.queue_delayed && !exception)
        return false;
    if (exception)
        exception_pull(&sub->exceptions, exception);
    else
        exception = exception_add(&sub->exceptions, seq);
    if (!exception) {
        bus->failed = true;
        return false;
    }
    exception_become(&sub->exceptions, exception, EXCEPTION_DELAYED);
    exception->delay_ns = READ_AGAIN_NS;
    exception->due_at_ns = bus->now.boottime_ns + READ_AGAIN_NS;
    exception->due_realtime_ns = bus->now.realtime_ns + READ_AGAIN_NS;
    bus_timer(bus, exception->due_at_ns, BUS_TIMER_DUE, seq, bus_timer_of(sub->queue->number, sub->group));
    if (count < SET_ASIDE_A_TURN)
        return true;
    wake_later(bus, sub, bus->now.boottime_ns + SOON_NS);
    return false;
}

bool bus_choose(struct pawl_bus *bus, struct bus_sub *sub, struct bus_choice *choice)
{
    struct bus_queue *queue = sub->queue;
    uint32_t unread = 0;
    for (int guard = 0; guard < 100000 && !bus->failed; guard++) {
        struct exception *top = exception_top(&sub->exceptions);
        if (top && top->seq >= queue->visible_tail)
            top = NULL; /* not durable yet */
        bool first = top && (top->priority > 0 || top->state == EXCEPTION_GRANTED);
        uint64_t seq = first ? UINT64_MAX : cursor_seq(sub);
        bool from_cursor = seq != UINT64_MAX && (!top || seq < top->seq);
        if (!from_cursor && !top)
            return false;
        if (from_cursor && queue->config.ordering_key[0] && sub->exceptions.waiting >= KEYED_WAITING_MAX)
            return false; /* enough stands in line: the cursor waits too */
        if (!from_cursor)
            seq = top->seq;
        int error;
        struct exception *exception = from_cursor ? NULL : top;
        const struct pawl_event *event =
            backlog_read(bus, queue, from_cursor ? &sub->cursor : &sub->aside, seq, &error);
        if (!event) {
            if (sub->group && error == PAWL_E_NOT_FOUND) { /* trimmed */
                bus_sub_drop_range(bus, sub, seq, seq, PAWL_BUS_END_DROPPED);
                continue;
            }
            bus_log(bus, queue, PAWL_LOG_ERROR,
                    "event %" PRIu64 " cannot be read: %s; it stays and is tried again, others pass it", seq,
                    pawl_error_text(error));
            if ((error != PAWL_E_DAMAGED && error != -EIO) || !set_aside(bus, sub, exception, seq, ++unread))
                return false;
            continue;
        }
        if ((event->ttl_ns || queue->config.ttl_ns) &&
            !(exception && exception->state == EXCEPTION_GRANTED) && bus_has_expired(bus, queue, event)) {
            if (from_cursor)
                sub->next = seq + 1;
            bus_dead(bus, sub, seq, exception ? exception->attempt : 0, exception ? exception->failures : 0,
                     PAWL_DEAD_EXPIRED, "its time to live was over", 25);
            continue;
        }
        if (queue->config.ordering_key[0] && !queue->config.stream) {
            int held = take_key(bus, sub, event, seq, &exception);
            if (held < 0) {
                bus->failed = true;
                return false;
            }
            if (held == 0)
                continue;
            if (from_cursor && exception) {
                /* It holds its key from now on: whether it goes at once or not, it stands beside the cursor.
                 */
                exception_become(&sub->exceptions, exception, EXCEPTION_READY);
                if (exception_push(&sub->exceptions, exception) < 0) {
                    bus->failed = true;
                    return false;
                }
                sub->next = seq + 1;
                from_cursor = false;
            }
        }
        *choice = (struct bus_choice){
            .seq = seq, .event = event, .exception = exception, .from_cursor = from_cursor};
        return true;
    }
    return false;
}

void bus_chosen(struct pawl_bus *bus, struct bus_sub *sub, struct bus_choice *choice)
{
    (void)bus;
    if (choice->from_cursor)
        sub->next = choice->seq + 1;
    if (choice->exception) {
        exception_pull(&sub->exceptions, choice->exception);
        exception_become(&sub->exceptions, choice->exception, EXCEPTION_HELD);
    }
}

/* ---- how many ---- */

/* Deliveries that limits allow now, at most @most. */
static uint64_t allowance(struct pawl_bus *bus, struct bus_sub *sub, uint64_t most)
{
    const struct pawl_queue_config *config = &sub->queue->config;
    /* First, so that its state is right in a queue that is paused or full, too. */
    if (config->breaker.failure_threshold) {
        uint32_t admitted = pawl_breaker_admits(&sub->breaker, bus->now.boottime_ns);
        if (admitted == 0)
            wake_later(bus, sub, pawl_breaker_next_ns(&sub->breaker));
        most = admitted < most ? admitted : most;
    }
    if (bus->draining || sub->queue->paused)
        return 0;
    if (config->max_in_flight) {
        uint64_t left = sub->in_flight < config->max_in_flight ? config->max_in_flight - sub->in_flight : 0;
        most = left < most ? left : most;
    }
    return most;
}

/* A bucket of rate_count that fills evenly: GCRA. true: one token is used. */
bool bus_take_token(struct pawl_bus *bus, struct bus_sub *sub)
{
    const struct pawl_queue_config *config = &sub->queue->config;
    uint64_t now_ns = bus->now.boottime_ns, cost_ns = config->rate_per_ns / config->rate_count;
    if (sub->rate_used_until_ns < now_ns)
        sub->rate_used_until_ns = now_ns;
    if (sub->rate_used_until_ns - now_ns + cost_ns > config->rate_per_ns) {
        wake_later(bus, sub, sub->rate_used_until_ns + cost_ns - config->rate_per_ns);
        return false;
    }
    sub->rate_used_until_ns += cost_ns;
    return true;
}

static void return_token(struct bus_sub *sub)
{
    sub->rate_used_until_ns -= sub->queue->config.rate_per_ns / sub->queue->config.rate_count;
}

/* ---- to whom ---- */

static bool may_take(const struct bus_consumer *consumer)
{
    return consumer->used < consumer->credit && !consumer->stalled;
}

/* Of the next few in the ring the one that holds least: who is slow, or hangs, gets little. */
static struct bus_consumer *next_consumer(struct bus_sub *sub)
{
    struct bus_consumer *best = NULL, *consumer = sub->consumers;
    uint32_t seen = 0;
    for (uint32_t i = 0; i < sub->consumer_count && seen < LOOKED_AT; i++, consumer = consumer->next) {
        if (!may_take(consumer))
            continue;
        seen++;
        if (!best || consumer->used < best->used)
            best = consumer;
    }
    if (best)
        sub->consumers = best;
    return best;
}

/* Deliveries whose begin was asked for are promised to the credit that there is. */
static bool may_ask(const struct bus_sub *sub)
{
    const size_t *in_state = sub->exceptions.in_state;
    uint64_t asked = in_state[EXCEPTION_GRANTING] + in_state[EXCEPTION_GRANTED], credit = 0;
    const struct bus_consumer *consumer = sub->consumers;
    for (uint32_t i = 0; i < sub->consumer_count && credit <= asked; i++, consumer = consumer->next)
        credit += consumer->credit > consumer->used ? consumer->credit - consumer->used : 0;
    uint32_t most = sub->queue->config.max_in_flight;
    return asked < credit && (!most || sub->in_flight + asked < most);
}

/* Its begin must be on disk before anybody sees it. */
static void ask_grant(struct pawl_bus *bus, struct bus_sub *sub, struct bus_choice *choice)
{
    bus_chosen(bus, sub, choice);
    struct exception *exception =
        choice->exception ? choice->exception : exception_add(&sub->exceptions, choice->seq);
    if (!exception) {
        bus->failed = true;
        return;
    }
    struct pawl_bus_ranges record = {.queue = sub->queue->number,
                                     .group = sub->group,
                                     .range_count = 1,
                                     .attempt = exception->attempt + 1,
                                     .realtime_ns = bus->now.realtime_ns};
    struct pawl_bus_range range = {choice->seq, choice->seq};
    exception->attempt++;
    if (backlog_is_volatile(&sub->queue->backlog, choice->seq)) { /* nothing of it is ever written down */
        exception_become(&sub->exceptions, exception, EXCEPTION_GRANTED);
        if (exception_push(&sub->exceptions, exception) < 0)
            bus->failed = true;
        bus_dirty(bus, sub);
        return;
    }
    exception_become(&sub->exceptions, exception, EXCEPTION_GRANTING);
    struct bus_wait wait = {
        .kind = BUS_WAIT_GRANT, .queue = sub->queue->number, .group = sub->group, .seq = choice->seq};
    wait.lsn = bus_append(bus, PAWL_BUS_RECORD_CLAIM, &record, sizeof record, &range, sizeof range);
    if (wait.lsn)
        bus_wait_for(bus, &wait);
}

void bus_count_delivery(const struct bus_sub *sub, uint64_t seq, uint32_t attempt)
{
    struct pawl_metrics_row *row = sub->queue->row;
    if (!row)
        return;
    pawl_metrics_row_add(row, PAWL_QUEUE_DELIVERED, 1);
    const struct exception *exception = attempt > 1 ? exception_find(&sub->exceptions, seq) : NULL;
    if (exception && exception->redelivered_cause_known)
        pawl_metrics_row_add(row, PAWL_QUEUE_REDELIVERED + (exception->last_cause & 0xff) % PAWL_CAUSES, 1);
}

/* 0; PAWL_E_QUEUE_FULL: this consumer takes no more now. */
static int hand_out(struct pawl_bus *bus, struct bus_sub *sub, struct bus_consumer *consumer,
                    struct bus_choice *choice)
{
    struct pawl_bus_client *client = consumer->client;
    struct exception *exception = choice->exception;
    bool granted = exception && exception->state == EXCEPTION_GRANTED;
    uint32_t attempt = exception ? exception->attempt + !granted : 1;
    struct pawl_inbound_entry entry = {.type = PAWL_INBOUND_DELIVERY,
                                       .consumer = consumer->id,
                                       .attempt = attempt,
                                       .number = client->held_next,
                                       .seq = choice->seq,
                                       .epoch = bus_sub_epoch(bus, sub),
                                       .queue = sub->queue->number,
                                       .failures = exception ? exception->failures : 0,
                                       .ack_wait_ns =
                                           consumer->auto_ack ? 0 : sub->queue->config.ack_wait_ns};
    int error = bus->backend.deliver(bus->ctx, client->number, &entry, choice->event);
    if (error)
        return error;
    struct bus_held *held = bus_held_new(bus, client);
    if (!held)
        return 0;
    bus_chosen(bus, sub, choice);
    held->consumer = consumer;
    held->seq = choice->seq;
    held->attempt = attempt;
    held->placed_at_ns = bus->now.boottime_ns;
    held->claimed = granted;
    consumer->used++;
    if (consumer->auto_ack) {
        bus_count_delivery(sub, choice->seq, attempt);
        held->auto_ack = true;
        held->state = BUS_HELD_REVOKED;
        bus_settle_gather(bus, sub, choice->seq);
        return 0;
    }
    held->sub = sub;
    held->state = BUS_HELD_UNSETTLED;
    sub->in_flight++;
    bus->in_flight++;
    if (sub->queue->config.breaker.failure_threshold)
        held->breaker_round = pawl_breaker_on_start(&sub->breaker);
    bus_deadline_soon(bus, client, bus->now.boottime_ns + 2 * sub->queue->config.ack_wait_ns);
    return 0;
}

/* What would be looked at next; UINT64_MAX: nothing. */
static uint64_t head_seq(struct bus_sub *sub)
{
    const struct exception *top = exception_top(&sub->exceptions);
    if (top && top->seq >= sub->queue->visible_tail)
        top = NULL;
    if (top && top->priority > 0)
        return top->seq;
    uint64_t seq = cursor_seq(sub);
    return top && top->seq < seq ? top->seq : seq;
}

/* Whoever is next may expire while nobody consumes: the time is kept for it, once for those behind it too. */
static void watch_head(struct pawl_bus *bus, struct bus_sub *sub)
{
    struct bus_choice head;
    struct bus_queue *queue = sub->queue;
    if (queue->config.ttl_ns == 0 || (sub->watched && head_seq(sub) >= sub->watched) ||
        !bus_choose(bus, sub, &head))
        return;
    sub->watched = head.seq;
    uint64_t left_ns = queue->config.ttl_ns, age_ns = bus->now.realtime_ns - head.event->published_at_ns;
    if (bus->now.realtime_ns > head.event->published_at_ns)
        left_ns -= age_ns < left_ns ? age_ns : left_ns;
    wake_later(bus, sub, bus->now.boottime_ns + left_ns + SOON_NS);
}

/* True: it stopped for its share of the turn only. */
bool bus_dispatch_sub(struct pawl_bus *bus, struct bus_sub *sub)
{
    uint64_t left = allowance(bus, sub, BUS_DISPATCH_A_TURN), given = 0;
    bool rate = sub->queue->config.rate_count > 0, strict = sub->queue->config.strict_attempts;
    while (left > 0 && !bus->failed) {
        struct bus_choice choice;
        struct bus_consumer *consumer = next_consumer(sub);
        if (!consumer || !bus_choose(bus, sub, &choice))
            break;
        bool granted = choice.exception && choice.exception->state == EXCEPTION_GRANTED;
        if (strict && !granted && !may_ask(sub))
            break;
        if (rate && !granted && !bus_take_token(bus, sub))
            break;
        if (strict && !granted) {
            ask_grant(bus, sub, &choice);
            left--;
            continue;
        }
        int error = hand_out(bus, sub, consumer, &choice);
        if (error == PAWL_E_QUEUE_FULL) {
            consumer->stalled = true;
            if (rate && !granted)
                return_token(sub);
            continue;
        }
        if (error == PAWL_E_LIMIT) { /* larger than its ring will ever hold */
            if (choice.from_cursor)
                sub->next = choice.seq + 1;
            bus_dead(bus, sub, choice.seq, 0, 0, PAWL_DEAD_REJECTED,
                     "the event is larger than a consumer's lane", 42);
            continue;
        }
        if (error) {
            consumer->stalled = true; /* its lane does not hold: it is being closed */
            continue;
        }
        left--;
        /* Of plenty some go to one in a row: its ring's lines stay warm. */
        if (++given % IN_A_ROW == 0 || sub->queue->visible_tail - sub->next < IN_A_ROW * sub->consumer_count)
            sub->consumers = sub->consumers ? sub->consumers->next : NULL;
    }
    watch_head(bus, sub);
    bus_queue_row(sub->queue);
    return left == 0 && given >= BUS_DISPATCH_A_TURN;
}

bool pawl_bus_dispatch(struct pawl_bus *bus, struct pawl_now now)
{
    bus->now = now;
    bus->stamp++; /* others may have written since */
    /* Those that are marked now; what this does to others, or to them, comes next turn. */
    size_t count = 0;
    bool may = bus_may_deliver(bus); /* else what is marked stays so */
    for (const struct bus_sub *sub = may ? bus->dirty : NULL; sub; sub = sub->next_dirty)
        count++;
    while (count-- > 0 && bus->dirty && !bus->failed) {
        struct bus_sub *sub = bus->dirty;
        bus->dirty = sub->next_dirty;
        if (!bus->dirty)
            bus->dirty_tail = NULL;
        sub->dirty = false;
        sub->next_dirty = NULL;
        if (bus_dispatch_sub(bus, sub))
            bus_dirty(bus, sub);
    }
    bus_group_flush(bus);
    bus_settle_flush(bus);
    return may && bus->dirty != NULL;
}
