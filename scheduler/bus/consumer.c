/*
 * consumer.c - consumers: a client's share in a subscription, with credit.
 *
 * Runs in: scheduler. Those of a subscription are a ring, in which dispatch.c goes round.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

void bus_consumer_unlink(struct bus_consumer *consumer)
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

void bus_sub_drop_consumers(struct pawl_bus *bus, struct bus_sub *sub, uint64_t lsn)
{
    while (sub->consumers) {
        struct bus_consumer *consumer = sub->consumers;
        const struct pawl_reply reply = {.type = PAWL_REPLY_GONE,
                                         .error = PAWL_E_NOT_FOUND,
                                         .first = consumer->id,
                                         .last = consumer->id,
                                         .queue = sub->queue->number};
        bus_consumer_unlink(consumer);
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

void bus_tell_paused(const struct pawl_bus *bus, const struct bus_consumer *consumer)
{
    bus_tell(bus, consumer->client, PAWL_BUS_PAUSED_WORDS, consumer->sub->queue->name,
             consumer->sub->queue->name);
}

bool pawl_bus_is_paused(struct pawl_bus *bus, const char *name)
{
    const struct bus_queue *queue = bus_queue_find(bus, name);
    return queue && queue->paused;
}

static struct bus_sub *find_sub(struct pawl_bus *bus, const struct pawl_wire_consume *request, char why[256],
                                int *error_out)
{
    struct bus_queue *queue = bus_queue_find(bus, request->queue);
    if (!queue) {
        snprintf(why, 256, "no queue is called %s", request->queue);
        *error_out = PAWL_E_NOT_FOUND;
        return NULL;
    }
    struct bus_sub *sub = bus_sub_find(queue, request->group);
    if (!sub && queue->config.stream && request->group[0])
        return bus_group_begin(bus, queue, request->group,
                               request->flags & PAWL_CONSUME_FROM ? request->from : 0, error_out, why);
    if (!sub) {
        snprintf(why, 256,
                 queue->config.stream ? "queue %s is a stream: name a group"
                                      : "queue %s is not a stream: it has no groups",
                 queue->name);
        *error_out = PAWL_E_INVALID;
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
    int error = 0;
    struct bus_sub *sub = find_sub(bus, request, why, &error);
    if (!sub)
        return error;
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
    if (sub->queue->paused)
        bus_tell_paused(bus, consumer);
    return 0;
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
    bus_consumer_unlink(consumer);
    bus_held_give_up(bus, client, consumer, false);
    if (consumer->sub)
        bus_queue_row(consumer->sub->queue);
    consumer->ended = true;
    if (consumer->used == 0) {
        *link = consumer->next_of_client;
        free(consumer);
    }
    return 0;
}
