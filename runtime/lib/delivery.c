/*
 * delivery.c - settlements: merged where they follow one another, put into the settle ring.
 *
 * Runs in: the program that uses pawl.h. The settle ring is drained by the scheduler whatever else waits, so
 * a full one is waited for. A settlement whose scheduler is gone is stale: its successor gives the delivery
 * again.
 */
#include "runtime/lib/lib.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "shm/doorbell.h"
#include "shm/error.h"

#define RING_WAIT_NS UINT64_C(10000000000) /* a scheduler that takes nothing in for so long is stuck */

enum { TEXT_BYTES_MAX = 4096 };

struct pawl_lib_delivery *pawl_lib_own(const struct pawl_delivery *delivery, int *error_out)
{
    struct pawl_lib_delivery *own = (struct pawl_lib_delivery *)(uintptr_t)delivery;
    *error_out = PAWL_E_INVALID;
    if (!delivery || delivery->reserved != delivery) /* a detached one is settled by its tag */
        return NULL;
    struct pawl *pawl = own->pawl;
    *error_out = PAWL_E_STALE_RECEIPT;
    if (own->state != PAWL_LIB_HANDED) {
        pawl_lib_fail(pawl, PAWL_E_STALE_RECEIPT, "this delivery was settled before");
        return NULL;
    }
    if (pawl->forks != pawl_lib_forks()) {
        *error_out = pawl_lib_check(pawl);
        return NULL;
    }
    if (own->lane->gone) {
        pawl_lib_delivery_done(own);
        pawl_lib_fail(pawl, PAWL_E_STALE_RECEIPT,
                      "the scheduler that gave this delivery is gone; it comes again");
        return NULL;
    }
    *error_out = 0;
    return own;
}

bool pawl_lib_all_settled(const struct pawl_lib_lane *lane)
{
    const struct pawl_client_end *end = &lane->end;
    return !lane->has_pending && pawl_client_end_settled_durable(end) >= end->settle_position &&
           pawl_client_end_submit_durable(end) >= lane->text_position;
}

/* The pending run goes into the ring, when there is room. */
static bool push_pending(struct pawl_lib_lane *lane)
{
    if (lane->has_pending && pawl_client_end_settle(&lane->end, &lane->pending) == 0)
        lane->has_pending = false;
    return !lane->has_pending;
}

void pawl_lib_settle_send(struct pawl *pawl)
{
    struct pawl_lib_lane *lane = pawl->lane;
    if (!lane)
        return;
    (void)push_pending(lane);
    bool news = lane->end.settle_position != lane->end.settle_published;
    if (news)
        pawl_client_end_settle_publish(&lane->end);
    pawl_lib_give_back(lane);
    if (lane->consumed != lane->consumed_told) {
        lane->consumed_told = lane->consumed;
        pawl_client_end_consumed(&lane->end, lane->consumed); /* C2 */
        news = true;                                          /* it may be waiting for this room */
    }
    if (news)
        pawl_doorbell_ring(&lane->end.inbound->sleeping, lane->scheduler_fd); /* D1 */
}

/* Something of the lane is held by the caller, so it stays mapped also when it is lost meanwhile. */
static int make_room(struct pawl_lib_lane *lane)
{
    struct pawl *pawl = lane->pawl;
    uint64_t deadline_ns = pawl_lib_deadline_ns(RING_WAIT_NS);
    while (!push_pending(lane)) {
        pawl_kick(pawl);
        int error = pawl_lib_wait(pawl, deadline_ns, PAWL_LIB_FOR_ROOM);
        if (lane->gone)
            return PAWL_E_STALE_RECEIPT;
        if (error)
            return error == -ETIMEDOUT ? -EAGAIN : error;
        pawl_lib_take_in(pawl);
        if (lane->gone)
            return PAWL_E_STALE_RECEIPT;
    }
    return 0;
}

static bool joins(struct pawl_settle *run, const struct pawl_settle *one)
{
    if (run->op != one->op || run->value != one->value || run->flags != one->flags ||
        run->cause != one->cause)
        return false;
    if (one->first == run->last + 1)
        run->last = one->first;
    else if (one->first + 1 == run->first)
        run->first = one->first;
    else
        return false;
    return true;
}

static int put(struct pawl_lib_lane *lane, const struct pawl_settle *one)
{
    if (lane->has_pending && joins(&lane->pending, one))
        return 0;
    int error = make_room(lane);
    if (error)
        return error;
    lane->pending = *one;
    lane->has_pending = true;
    return 0;
}

/* With words for people: those travel in the submit ring. */
static int put_text(struct pawl_lib_lane *lane, struct pawl_settle *one, const char *text)
{
    struct pawl *pawl = lane->pawl;
    size_t text_bytes = strnlen(text, TEXT_BYTES_MAX);
    size_t bytes = (sizeof(struct pawl_submit) + sizeof *one + text_bytes + 7) & ~(size_t)7;
    uint64_t deadline_ns = pawl_lib_deadline_ns(RING_WAIT_NS);
    int error = 0;
    if (pawl->publisher.reserved_lane == lane)
        return pawl_lib_fail(pawl, PAWL_E_STATE, "a reservation is open: commit or abort it first");
    struct pawl_submit *entry;
    while (!(entry = pawl_lib_reserve(pawl, bytes, &error))) {
        if (error)
            return error;
        pawl_kick(pawl);
        error = pawl_lib_wait(pawl, deadline_ns, PAWL_LIB_FOR_ROOM);
        if (!error)
            pawl_lib_take_in(pawl);
        if (lane->gone)
            return PAWL_E_STALE_RECEIPT;
        if (error)
            return error == -ETIMEDOUT ? -EAGAIN : error;
    }
    memset(entry, 0, bytes);
    *entry = (struct pawl_submit){.bytes = (uint32_t)bytes, .type = PAWL_SUBMIT_SETTLE};
    one->text_bytes = (uint32_t)text_bytes;
    memcpy(entry + 1, one, sizeof *one);
    memcpy((char *)(entry + 1) + sizeof *one, text, text_bytes);
    lane->text_position = lane->end.submit_position;
    pawl_lib_send(pawl);
    return 0;
}

/* Its credit goes back. Beyond the consumer's limit it does not: what would come for it is lost. */
static bool asks_for_more(struct pawl_consumer *consumer)
{
    if (!consumer)
        return true;
    if (consumer->asked >= consumer->limit)
        return false;
    consumer->asked++;
    return true;
}

static int settle(const struct pawl_delivery *delivery, const struct pawl_settle *how, const char *text)
{
    int error = 0;
    struct pawl_lib_delivery *own = pawl_lib_own(delivery, &error);
    if (!own)
        return error;
    struct pawl_lib_lane *lane = own->lane;
    struct pawl_settle one = *how;
    one.first = one.last = own->number;
    if (own->auto_ack) { /* settled by its delivery: this gives back its bytes, and credit for the next */
        one = (struct pawl_settle){.op = PAWL_SETTLE_OP_ACK, .first = own->number, .last = own->number};
        if (how->op != PAWL_SETTLE_OP_EXTEND && asks_for_more(own->shown.consumer))
            error = put(lane, &one);
    } else if (text && text[0])
        error = put_text(lane, &one, text);
    else
        error = put(lane, &one);
    struct pawl *pawl = lane->pawl;
    if (error == PAWL_E_STALE_RECEIPT || (error == 0 && how->op != PAWL_SETTLE_OP_EXTEND)) {
        struct pawl_consumer *consumer = own->shown.consumer;
        pawl_lib_delivery_done(own); /* may unmap a lost lane */
        /* The last of what was handed out: nobody may come back soon to send it. */
        if (consumer && consumer->handed == 0)
            pawl_lib_settle_send(pawl);
    }
    pawl_lib_rearm(pawl);
    return error;
}

int pawl_ack(const struct pawl_delivery *delivery)
{
    return settle(delivery, &(struct pawl_settle){.op = PAWL_SETTLE_OP_ACK}, NULL);
}

int pawl_ack_batch(const struct pawl_delivery *const *deliveries, size_t count)
{
    int first_error = 0;
    if (!deliveries && count > 0)
        return PAWL_E_INVALID;
    for (size_t i = 0; i < count; i++) {
        int error = pawl_ack(deliveries[i]);
        first_error = first_error ? first_error : error;
    }
    return first_error;
}

int pawl_ack_up_to(const struct pawl_delivery *delivery)
{
    int error;
    struct pawl_lib_delivery *last = pawl_lib_own(delivery, &error);
    if (!last)
        return error;
    struct pawl_lib_lane *lane = last->lane;
    const struct pawl_consumer *consumer = last->shown.consumer;
    uint64_t end = last->number + 1;
    for (uint64_t number = lane->head; number < end && !error; number++) {
        struct pawl_lib_delivery *each = lane->slots[number & lane->slot_mask];
        if (each->state != PAWL_LIB_HANDED || each->shown.consumer != consumer)
            continue;
        error = pawl_ack(&each->shown);
        if (lane != consumer->pawl->lane) /* lost meanwhile, and all of it stale */
            return error ? error : PAWL_E_STALE_RECEIPT;
        number = number < lane->head ? lane->head - 1 : number; /* some went back */
    }
    return error;
}

static uint64_t delay_of(int64_t delay_ms)
{
    if (delay_ms < 0)
        return PAWL_SETTLE_POLICY;
    return (uint64_t)delay_ms > UINT64_MAX / 2000000 ? UINT64_MAX / 2 : (uint64_t)delay_ms * 1000000;
}

int pawl_nack(const struct pawl_delivery *delivery, int requeue, int64_t delay_ms)
{
    if (!requeue)
        return pawl_reject(delivery, NULL);
    return settle(delivery, &(struct pawl_settle){.op = PAWL_SETTLE_OP_NACK, .value = delay_of(delay_ms)},
                  NULL);
}

int pawl_nack_cause(const struct pawl_delivery *delivery, int exit_code, int64_t delay_ms, int spare_breaker,
                    const char *text)
{
    struct pawl_settle how = {
        .op = PAWL_SETTLE_OP_NACK,
        .value = delay_of(delay_ms),
        .flags = spare_breaker ? PAWL_SETTLE_SPARE_BREAKER : 0,
        .cause = PAWL_CAUSE_HANDLER_ERROR,
    };
    if (exit_code >= 0)
        how.cause = (uint16_t)(PAWL_CAUSE_EXIT | (exit_code & 255) << 8);
    return settle(delivery, &how, text);
}

int pawl_reject(const struct pawl_delivery *delivery, const char *reason)
{
    return settle(delivery, &(struct pawl_settle){.op = PAWL_SETTLE_OP_REJECT}, reason);
}

int pawl_extend(const struct pawl_delivery *delivery, uint64_t by_ms)
{
    int error;
    const struct pawl_lib_delivery *own = pawl_lib_own(delivery, &error);
    if (!own)
        return error;
    if (by_ms > PAWL_EXTEND_NS_MAX / 1000000)
        return pawl_lib_fail(own->pawl, PAWL_E_LIMIT, "extend: at most 7 days from now");
    const struct pawl_settle how = {.op = PAWL_SETTLE_OP_EXTEND, .value = by_ms * 1000000};
    error = settle(delivery, &how, NULL);
    if (error == 0) /* a deadline does not wait for the next claim */
        pawl_lib_settle_send(((const struct pawl_lib_delivery *)delivery)->lane->pawl);
    return error;
}

int pawl_release(const struct pawl_delivery *delivery)
{
    return settle(delivery, &(struct pawl_settle){.op = PAWL_SETTLE_OP_RELEASE}, NULL);
}

const void *pawl_delivery_header(const struct pawl_delivery *delivery, const char *name,
                                 size_t *value_bytes_out)
{
    const char *each, *value;
    size_t at = 0, each_bytes, value_bytes;
    if (!delivery || !name)
        return NULL;
    size_t name_bytes = strlen(name);
    while (pawl_event_header_next(delivery->headers, delivery->headers_bytes, &at, &each, &each_bytes, &value,
                                  &value_bytes))
        if (each_bytes == name_bytes && memcmp(each, name, name_bytes) == 0) {
            if (value_bytes_out)
                *value_bytes_out = value_bytes;
            return value;
        }
    return NULL;
}

void pawl_on_late(struct pawl *pawl, pawl_late_callback callback, void *context)
{
    if (!pawl)
        return;
    pawl->on_late = callback;
    pawl->late_context = context;
}

uint64_t pawl_late_settlements(const struct pawl *pawl)
{
    return pawl ? pawl->late : 0;
}
