/*
 * consumer.c - subscriptions, and deliveries handed out.
 *
 * Runs in: the program that uses pawl.h. The consumers of one handle share its lane: `begun` counts a prefix
 * of the lane's numbers, so a delivery handed out before an older one of another consumer counts as begun
 * only once that one was handed out too. One handle for each consumer has no such neighbours.
 */
#include "runtime/lib/lib.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

enum { SLAB_DELIVERIES = 64 };

/* All of its deliveries, wherever they are, belong to nobody any more. */
static void forget_deliveries(struct pawl *pawl, const struct pawl_consumer *consumer)
{
    for (size_t i = 0; i < pawl->slab_count; i++) {
        struct pawl_lib_delivery *slab = pawl->slabs[i];
        for (unsigned j = 0; j < SLAB_DELIVERIES; j++) {
            struct pawl_lib_delivery *delivery = &slab[j];
            if (delivery->state == PAWL_LIB_FREE || delivery->shown.consumer != consumer)
                continue;
            if (delivery->state == PAWL_LIB_WAITING)
                delivery->state = PAWL_LIB_SETTLED;
            else if (delivery->state == PAWL_LIB_HANDED)
                pawl_lib_delivery_done(delivery);
            delivery->shown.consumer = NULL;
        }
    }
}

int pawl_consume(struct pawl *pawl, const char *queue, const struct pawl_consumer_options *given,
                 struct pawl_consumer **consumer_out)
{
    struct pawl_consumer_options options;
    int error = pawl_lib_check(pawl);
    if (!error)
        error = pawl_lib_need(pawl, consumer_out, "consumer_out");
    if (!error)
        error = pawl_lib_options(pawl, "pawl_consumer_options", given, &options, sizeof options);
    if (error)
        return error;
    struct pawl_consumer *consumer = calloc(1, sizeof *consumer);
    if (!consumer)
        return pawl_lib_fail(pawl, -ENOMEM, "no memory for a consumer");
    error = pawl_lib_name(pawl, "queue", queue, consumer->queue);
    if (!error && options.group)
        error = pawl_lib_name(pawl, "group", options.group, consumer->group);
    if (!error && options.prefetch > PAWL_CREDIT_MAX)
        error =
            pawl_lib_fail(pawl, PAWL_E_LIMIT, "prefetch %u: at most %d", options.prefetch, PAWL_CREDIT_MAX);
    if (!error)
        error = pawl_lib_need_lane(pawl, PAWL_LIB_FOREVER);
    if (error) {
        free(consumer);
        return error;
    }
    consumer->pawl = pawl;
    consumer->number = ++pawl->consumer_numbers;
    consumer->credit = options.prefetch ? options.prefetch : PAWL_LIB_PREFETCH;
    consumer->flags =
        (options.auto_ack ? PAWL_CONSUME_AUTO_ACK : 0u) | (options.has_from ? PAWL_CONSUME_FROM : 0u);
    consumer->from = options.from;
    consumer->next = pawl->consumers;
    pawl->consumers = consumer; /* before it is asked for: deliveries may come before the answer */

    struct pawl_wire_consume request = {.consumer = consumer->number,
                                        .credit = consumer->credit,
                                        .flags = consumer->flags,
                                        .from = consumer->from};
    memcpy(request.queue, consumer->queue, sizeof request.queue);
    memcpy(request.group, consumer->group, sizeof request.group);
    error = pawl_lib_ask(pawl, PAWL_WIRE_CONSUME, &request, sizeof request, NULL, 0, NULL, 0,
                         PAWL_WIRE_CONSUME_OK, sizeof(struct pawl_wire_consume_ok), true, PAWL_LIB_FOREVER);
    if (error == -EINTR) { /* it may have begun there: nobody waits for the end of it either */
        (void)pawl_lib_tell(pawl, PAWL_WIRE_CONSUME_END, &request, sizeof request);
    }
    if (error) {
        forget_deliveries(pawl, consumer); /* that came before the answer */
        for (struct pawl_consumer **at = &pawl->consumers; *at; at = &(*at)->next)
            if (*at == consumer) {
                *at = consumer->next;
                break;
            }
        free(consumer);
        pawl_kick(pawl);
        return error;
    }
    consumer->consuming = true;
    *consumer_out = consumer;
    pawl_lib_arm(pawl);
    return 0;
}

/* The scheduler leaves what was handed out to be settled: it goes back uncounted, now. */
static void release_handed(struct pawl *pawl, const struct pawl_consumer *consumer)
{
    for (size_t i = 0; i < pawl->slab_count && consumer->handed > 0; i++) {
        struct pawl_lib_delivery *slab = pawl->slabs[i];
        for (unsigned j = 0; j < SLAB_DELIVERIES; j++)
            if (slab[j].state == PAWL_LIB_HANDED && slab[j].shown.consumer == consumer)
                (void)pawl_release(&slab[j].shown);
    }
}

void pawl_consumer_close(struct pawl_consumer *consumer)
{
    if (!consumer)
        return;
    struct pawl *pawl = consumer->pawl;
    if (pawl_lib_check(pawl) == 0) {
        struct pawl_wire_consume request = {.consumer = consumer->number};
        release_handed(pawl, consumer);
        pawl_kick(pawl);
        memcpy(request.queue, consumer->queue, sizeof request.queue);
        memcpy(request.group, consumer->group, sizeof request.group);
        consumer->consuming = false; /* not asked for again by a new lane */
        /* Where the scheduler is lost meanwhile, so is the subscription. */
        if (pawl->lane)
            (void)pawl_lib_ask(pawl, PAWL_WIRE_CONSUME_END, &request, sizeof request, NULL, 0, NULL, 0,
                               PAWL_WIRE_OK, 0, false, PAWL_LIB_FOREVER);
        pawl_lib_take_in_deliveries(pawl, NULL, SIZE_MAX);
    }
    if (pawl->forks == pawl_lib_forks())
        forget_deliveries(pawl, consumer);
    for (struct pawl_consumer **at = &pawl->consumers; *at; at = &(*at)->next)
        if (*at == consumer) {
            *at = consumer->next;
            break;
        }
    free(consumer);
    pawl_kick(pawl);
    pawl_lib_arm(pawl);
}

void pawl_lib_consumer_gone(struct pawl *pawl, uint64_t number, int error)
{
    struct pawl_consumer *consumer = pawl->consumers;
    while (consumer && consumer->number != number)
        consumer = consumer->next;
    if (!consumer)
        return; /* closed meanwhile */
    consumer->error = error < 0 ? error : PAWL_E_NOT_FOUND;
    for (struct pawl_lib_delivery *delivery = consumer->first; delivery; delivery = delivery->next)
        delivery->state = PAWL_LIB_SETTLED; /* the scheduler has taken it back */
    consumer->first = consumer->last = NULL;
    consumer->waiting = 0;
}

/* Their waiting deliveries went with the lane. */
void pawl_lib_consumers_lost(struct pawl *pawl)
{
    pawl->unseen = false;
    for (struct pawl_consumer *consumer = pawl->consumers; consumer; consumer = consumer->next) {
        consumer->first = consumer->last = NULL;
        consumer->waiting = 0;
        consumer->tag = 0;
    }
}

/* What settled itself is readable until the next claim. Its ack gives the credit back. */
static void end_auto_acked(struct pawl_lib_lane *lane, const struct pawl_consumer *consumer)
{
    struct pawl *pawl = consumer->pawl;
    for (uint64_t number = lane->head; consumer->handed > 0 && number != lane->tail; number++) {
        struct pawl_lib_delivery *delivery = lane->slots[number & lane->slot_mask];
        if (delivery->state != PAWL_LIB_HANDED || delivery->shown.consumer != consumer || !delivery->auto_ack)
            continue;
        if (pawl_ack(&delivery->shown) != 0 || pawl->lane != lane)
            return;
        number = number < lane->head ? lane->head - 1 : number; /* some went back */
    }
}

static int hand_out(struct pawl_consumer *consumer, const struct pawl_delivery **deliveries_out, size_t max)
{
    struct pawl_lib_lane *lane = consumer->pawl->lane;
    size_t count = 0;
    while (count < max && consumer->first) {
        struct pawl_lib_delivery *delivery = consumer->first;
        consumer->first = delivery->next;
        if (!consumer->first)
            consumer->last = NULL;
        consumer->waiting--;
        consumer->handed++;
        lane->held++;
        delivery->state = PAWL_LIB_HANDED;
        deliveries_out[count++] = &delivery->shown;
    }
    if (count > 0)
        pawl_lib_mark_begun(lane); /* C3: before a handler sees them */
    return (int)count;
}

static int fail_consumer(const struct pawl_consumer *consumer)
{
    if (consumer->error != PAWL_E_NOT_FOUND)
        return pawl_lib_fail(consumer->pawl, consumer->error, "queue %s: %s", consumer->queue,
                             pawl_error_text(consumer->error));
    return consumer->group[0]
               ? pawl_lib_fail(consumer->pawl, consumer->error,
                               "group %s of stream %s is not there any more: it was deleted", consumer->group,
                               consumer->queue)
               : pawl_lib_fail(consumer->pawl, consumer->error,
                               "queue %s is not there any more: it was deleted", consumer->queue);
}

int pawl_claim(struct pawl_consumer *consumer, const struct pawl_delivery **deliveries_out, size_t max,
               int timeout_ms)
{
    struct pawl *pawl = consumer ? consumer->pawl : NULL;
    uint64_t deadline_ns = timeout_ms == 0 ? 0 : UINT64_MAX;
    int error = pawl_lib_check(pawl);
    if (!error && max > 0)
        error = pawl_lib_need(pawl, deliveries_out, "deliveries_out");
    if (error || max == 0)
        return error;
    if (max > INT32_MAX)
        max = INT32_MAX;
    if (pawl->lane && (consumer->flags & PAWL_CONSUME_AUTO_ACK))
        end_auto_acked(pawl->lane, consumer);
    pawl_lib_settle_send(pawl);
    for (bool first = true;; first = false) {
        if (pawl->phase == PAWL_LIB_GONE)
            return pawl->gone_error;
        pawl_lib_take_in_deliveries(pawl, consumer, max);
        if (consumer->first) {
            int count = hand_out(consumer, deliveries_out, max);
            pawl_lib_rearm(pawl);
            return count;
        }
        if (consumer->error)
            return fail_consumer(consumer);
        if (first) {
            if (timeout_ms > 0)
                deadline_ns = pawl_lib_deadline(timeout_ms);
            pawl_kick(pawl);
        }
        error = pawl_lib_wait(pawl, deadline_ns, PAWL_LIB_FOR_NEWS);
        if (error) {
            pawl_lib_arm(pawl);
            return error == -ETIMEDOUT ? 0 : error;
        }
        pawl_lib_take_in(pawl);
    }
}
