/*
 * exchange.c - from a publish to the queues: gather, one record for many.
 *
 * Runs in: scheduler. Consecutive events of one publisher that go to the same queues become one EVENTS
 * record. An event is stored once, however many queues it went to. route.c says which queues; overflow.c and
 * parking.c what happens when one has no room.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

enum {
    RECORD_BYTES = 256,       /* around what a record is about, at most */
    ACT_BYTES_MAX = 68 << 20, /* the greatest event with its routes; the journal's batch holds it */
};

/* ---- the open group ---- */

uint8_t bus_weaker(uint8_t asked, uint8_t queues)
{
    return asked != PAWL_DURABILITY_DEFAULT && asked < queues ? asked : queues;
}

uint8_t bus_strongest_of(const struct bus_route *route, uint8_t asked)
{
    uint8_t strongest = PAWL_DURABILITY_MEMORY;
    for (uint32_t i = 0; i < route->queue_count; i++) {
        uint8_t here = bus_weaker(asked, route->queues[i]->config.durability);
        if (here > strongest)
            strongest = here;
    }
    return strongest;
}

int bus_group_open(struct pawl_bus *bus, struct bus_route *route, struct pawl_bus_client *client,
                   uint64_t sequence, uint8_t durability)
{
    struct bus_group *group = &bus->group;
    size_t head = sizeof(struct pawl_bus_events) + route->queue_count * sizeof(struct pawl_bus_route);
    if (bus_grow((void **)&group->bytes, &group->room, head + BUS_GROUP_BYTES_MAX, 1) < 0)
        return -ENOMEM;
    group->route = route;
    group->client = client;
    /* What is parked has a lower sequence and is not stored: the table of publishers may not pass it by. */
    group->publisher = client && client->parked_count == 0 ? client->publisher : 0;
    group->first_sequence = sequence;
    group->count = group->flags = 0;
    group->durability = durability;
    group->used = group->head = head;
    group->lsn = 0;
    return 0;
}

void bus_refuse(struct pawl_bus *bus, struct pawl_bus_client *client, uint64_t first, uint64_t last,
                int error, uint32_t queue)
{
    struct pawl_reply reply = {
        .type = PAWL_REPLY_REFUSE, .error = error, .first = first, .last = last, .queue = queue};
    if (client)
        bus->backend.reply(bus->ctx, client->number, &reply);
}

static void confirm_group(struct pawl_bus *bus, const struct bus_group *group, uint64_t lsn,
                          uint8_t durability, uint64_t first_id)
{
    struct pawl_reply reply = {.type = PAWL_REPLY_CONFIRM,
                               .first = group->first_sequence,
                               .last = group->first_sequence + group->count - 1,
                               .event_id = first_id,
                               .durability = durability,
                               .routed = group->route->queue_count};
    if (group->client)
        bus_reply_durable(bus, group->client, &reply, durability == PAWL_DURABILITY_FSYNC ? lsn : 0);
}

static void show_group(struct pawl_bus *bus, const struct bus_group *group, uint64_t lsn)
{
    for (uint32_t i = 0; i < group->route->queue_count; i++) {
        struct bus_queue *queue = group->route->queues[i];
        struct bus_wait wait = {
            .lsn = 0, .kind = BUS_WAIT_VISIBLE, .queue = queue->number, .seq = queue->tail};
        queue->pending_depth = queue->pending_bytes = 0;
        uint8_t here = bus_weaker(group->durability, queue->config.durability);
        if (here == PAWL_DURABILITY_FSYNC && lsn > queue->visible_lsn)
            queue->visible_lsn = lsn;
        /* What need not wait for the disk stays behind what does: the cursor goes in order. */
        if (queue->visible_lsn > bus->durable_lsn) {
            wait.lsn = queue->visible_lsn;
            bus_wait_for(bus, &wait);
        } else {
            queue->visible_tail = queue->tail;
            if (queue->sub)
                bus_dirty(bus, queue->sub);
            for (uint32_t g = 0; g < queue->group_count; g++)
                if (queue->groups[g])
                    bus_dirty(bus, queue->groups[g]);
            bus->backend.changed(bus->ctx);
        }
        if (queue->config.stream &&
            (queue->config.retain_bytes || (queue->config.retain_ns && !queue->trim_at_ns)))
            bus_stream_trim(bus, queue);
        bus_queue_row(queue);
    }
}

void bus_group_flush(struct pawl_bus *bus)
{
    struct bus_group *group = &bus->group;
    if (!group->route)
        return;
    uint8_t durability = bus_strongest_of(group->route, group->durability);
    struct pawl_bus_events *record = (struct pawl_bus_events *)(void *)group->bytes;
    struct pawl_bus_route *routes = (struct pawl_bus_route *)(record + 1);
    *record = (struct pawl_bus_events){.event_count = group->count,
                                       .queue_count = group->route->queue_count,
                                       .first_event_id = group->first_id,
                                       .realtime_ns = bus->now.realtime_ns,
                                       .publisher = group->publisher,
                                       .first_sequence = group->first_sequence,
                                       .events_offset = (uint32_t)group->head,
                                       .flags = group->flags};
    for (uint32_t i = 0; i < record->queue_count; i++)
        routes[i] = (struct pawl_bus_route){.queue = group->route->queues[i]->number,
                                            .first_seq = group->route->queues[i]->tail};
    struct iovec iov = {.iov_base = group->bytes, .iov_len = group->used};
    uint64_t lsn = 0, place = 0;
    bus->stamp++;
    if (bus->failed) {
        group->route = NULL;
        return;
    }
    if (durability > PAWL_DURABILITY_MEMORY) {
        lsn = bus->backend.append(bus->ctx, PAWL_BUS_RECORD_EVENTS, &iov, 1, &place);
        bus->failed = bus->failed || lsn == 0;
    } else {
        place = bus->backend.keep(bus->ctx, &iov, 1, record->queue_count);
        if (place == 0) {
            bus_refuse(bus, group->client, group->first_sequence, group->first_sequence + group->count - 1,
                       PAWL_E_NO_SPACE, 0);
            for (uint32_t i = 0; i < record->queue_count; i++)
                group->route->queues[i]->pending_depth = group->route->queues[i]->pending_bytes = 0;
            group->route = NULL;
            return;
        }
    }
    if (!bus->failed && bus_events_apply(bus, group->bytes, group->used, lsn, place) != 0)
        bus->failed = true;
    if (!bus->failed) {
        show_group(bus, group, lsn);
        confirm_group(bus, group, lsn, durability, record->first_event_id);
    }
    group->lsn = lsn;
    group->route = NULL;
}

void bus_group_add_as(struct pawl_bus *bus, struct pawl_event *event, uint64_t id, uint64_t published_at_ns)
{
    struct bus_group *group = &bus->group;
    if (group->count == 0)
        group->first_id = id;
    event->id = id;
    event->published_at_ns = published_at_ns;
    if (event->delay_ns || event->priority)
        group->flags |= PAWL_BUS_EVENTS_SPECIAL;
    if (event->key_bytes)
        group->flags |= PAWL_BUS_EVENTS_KEYED;
    if (event->ttl_ns)
        group->flags |= PAWL_BUS_EVENTS_EXPIRING;
    if (group->used + event->bytes > group->room &&
        bus_grow((void **)&group->bytes, &group->room, group->used + event->bytes, 1) < 0) {
        bus->failed = true;
        return;
    }
    memcpy(group->bytes + group->used, event, event->bytes);
    group->used += event->bytes;
    group->count++;
    for (uint32_t i = 0; i < group->route->queue_count; i++) {
        group->route->queues[i]->pending_depth++;
        group->route->queues[i]->pending_bytes += event->bytes;
    }
}

static void group_add(struct pawl_bus *bus, struct pawl_event *event)
{
    bus_group_add_as(bus, event, bus->next_event++, bus->now.realtime_ns);
}

void bus_partial(struct pawl_bus *bus, struct pawl_bus_client *client, uint64_t sequence, uint32_t queue,
                 int error)
{
    struct pawl_reply reply = {
        .type = PAWL_REPLY_PARTIAL, .error = error, .first = sequence, .last = sequence, .queue = queue};
    if (client)
        bus->backend.reply(bus->ctx, client->number, &reply);
}

uint64_t bus_put(struct pawl_bus *bus, struct bus_queue *queue, struct pawl_event *event)
{
    struct bus_queue *one[1] = {queue};
    struct bus_route route = {.queues = one, .queue_count = 1};
    bus_group_flush(bus);
    bool full = bus_queue_is_full(queue, event->bytes);
    while (full && queue->config.overflow == PAWL_OVERFLOW_POLICY_DROP_OLDEST && bus_drop_oldest(bus, queue))
        full = bus_queue_is_full(queue, event->bytes);
    if (full && !queue->config.dead_letters)
        return 0;
    uint64_t seq = queue->tail;
    if (bus_group_open(bus, &route, NULL, 0, PAWL_DURABILITY_DEFAULT) < 0) {
        bus->failed = true;
        return 0;
    }
    event->delay_ns = 0;
    if (event->published_at_ns) /* it stays the event that it was */
        bus_group_add_as(bus, event, event->id, event->published_at_ns);
    else
        group_add(bus, event);
    bus_group_flush(bus);
    return bus->failed || queue->tail == seq ? 0 : seq;
}

/* ---- publish ---- */

static bool all_have_room(const struct bus_route *route, uint64_t bytes)
{
    for (uint32_t i = 0; i < route->queue_count; i++)
        if (bus_queue_is_full(route->queues[i], bytes) || route->queues[i]->parked)
            return false;
    return true;
}

/* 0; else why this event may not be (the client is told). */
static int check_publish(struct pawl_bus *bus, const struct pawl_submit *submit,
                         const struct pawl_event *event)
{
    uint64_t headers_bytes = event->headers_bytes;
    if (headers_bytes > bus->limits.event_headers_bytes) /* packed: their lengths do not count */
        headers_bytes = pawl_event_headers_text_bytes(pawl_event_headers(event), event->headers_bytes);
    if (event->data_bytes > bus->limits.event_payload_bytes ||
        headers_bytes > bus->limits.event_headers_bytes || event->delay_ns > bus->limits.publish_delay_ns)
        return PAWL_E_LIMIT;
    if (submit->durability > PAWL_DURABILITY_FSYNC || submit->guarantee > PAWL_GUARANTEE_AT_LEAST_ONCE)
        return PAWL_E_INVALID;
    return 0;
}

static bool is_duplicate(struct pawl_bus *bus, struct pawl_bus_client *client,
                         const struct pawl_submit *submit, const struct pawl_event *event)
{
    struct pawl_reply reply = {.type = PAWL_REPLY_CONFIRM,
                               .first = submit->sequence,
                               .last = submit->sequence,
                               .durability = PAWL_DURABILITY_FSYNC,
                               .flags = PAWL_REPLY_DUPLICATE};
    if (event->key_bytes == 0 || bus->limits.dedupe_keys == 0 || bus->limits.dedupe_age_ns == 0)
        return false;
    bus_group_flush(bus); /* the one before may carry the same key */
    if (!pawl_dedupe_find(&bus->dedupe, bus_event_key(event), bus->now.realtime_ns, &reply.event_id))
        return false;
    const struct bus_route *route = bus_route_of(bus, pawl_event_topic(event), event->topic_bytes);
    for (uint32_t i = 0; route && i < route->queue_count; i++)
        if (route->queues[i]->row)
            pawl_metrics_row_add(route->queues[i]->row, PAWL_QUEUE_DUPLICATES, 1);
    /* The first one may not be durable yet: neither is the news of it. */
    bus_reply_durable(bus, client, &reply, bus_waited_lsn(bus));
    return true;
}

static void confirm_unrouted(struct pawl_bus *bus, struct pawl_bus_client *client, uint64_t sequence)
{
    struct pawl_reply reply = {.type = PAWL_REPLY_CONFIRM,
                               .first = sequence,
                               .last = sequence,
                               .durability = PAWL_DURABILITY_MEMORY,
                               .flags = PAWL_REPLY_UNROUTED};
    bus->backend.reply(bus->ctx, client->number, &reply);
}

void pawl_bus_publish(struct pawl_bus *bus, struct pawl_now now, struct pawl_bus_client *client,
                      const struct pawl_submit *submit, struct pawl_event *event)
{
    bus->now = now;
    if (client->publisher && submit->sequence <= client->last_sequence) {
        /* Sent again after a reconnect, and it had arrived; perhaps it is still on its way to the disk. */
        struct pawl_reply reply = {.type = PAWL_REPLY_CONFIRM,
                                   .first = submit->sequence,
                                   .last = submit->sequence,
                                   .durability = PAWL_DURABILITY_FSYNC,
                                   .flags = PAWL_REPLY_DUPLICATE};
        bus_group_flush(bus);
        bus_reply_durable(bus, client, &reply, bus_waited_lsn(bus));
        return;
    }
    client->last_sequence = submit->sequence;
    int error = check_publish(bus, submit, event);
    if (!error && is_duplicate(bus, client, submit, event))
        return;
    struct bus_route *route = error ? NULL : bus_route_of(bus, pawl_event_topic(event), event->topic_bytes);
    if (!error && !route)
        error = -ENOMEM;
    if (!error && route->queue_count == 0) {
        if (!(submit->flags & PAWL_SUBMIT_EXPECT_ROUTED)) {
            confirm_unrouted(bus, client, submit->sequence);
            return;
        }
        error = PAWL_E_UNROUTED;
    }
    uint8_t durability =
        submit->guarantee == PAWL_GUARANTEE_AT_MOST_ONCE ? PAWL_DURABILITY_MEMORY : submit->durability;
    if (!error && bus->group.route != route && bus_strongest_of(route, durability) > PAWL_DURABILITY_MEMORY &&
        bus->backend.has_room(bus->ctx, event->bytes) == PAWL_E_NO_SPACE)
        error = PAWL_E_NO_SPACE;
    if (error) {
        bus_group_flush(bus);
        bus_refuse(bus, client, submit->sequence, submit->sequence, error, 0);
        return;
    }
    if (!all_have_room(route, event->bytes)) {
        struct pawl_submit asked = *submit;
        asked.durability = durability;
        bus_publish_singly(bus, client, &asked, event, route);
        return;
    }
    struct bus_group *group = &bus->group;
    if (group->route &&
        (group->route != route || group->client != client || group->durability != durability ||
         group->first_sequence + group->count != submit->sequence ||
         group->used + event->bytes > BUS_GROUP_BYTES_MAX))
        bus_group_flush(bus);
    if (!group->route && bus_group_open(bus, route, client, submit->sequence, durability) < 0) {
        bus_refuse(bus, client, submit->sequence, submit->sequence, -ENOMEM, 0);
        return;
    }
    group_add(bus, event);
}

void pawl_bus_act_begin(struct pawl_bus *bus)
{
    bus->act++;
    bus->act_bytes = 0;
}

void pawl_bus_act_hold(struct pawl_bus *bus, bool holds)
{
    bus->acting = holds;
    if (holds || !bus->unpark_due)
        return;
    bus->unpark_due = false;
    for (uint32_t i = 0; i < bus->queue_end; i++)
        if (bus->queues[i] && bus->queues[i]->parked)
            bus_unpark(bus, bus->queues[i]);
}

static bool all_promise(const struct pawl_bus *bus, const struct bus_route *route, uint64_t bytes)
{
    for (uint32_t i = 0; i < route->queue_count; i++) {
        struct bus_queue *queue = route->queues[i];
        if (queue->act != bus->act)
            queue->act_depth = queue->act_bytes = 0;
        queue->act = bus->act;
        queue->pending_depth += queue->act_depth;
        queue->pending_bytes += queue->act_bytes;
        bool full = bus_queue_is_full(queue, bytes) || queue->parked;
        queue->pending_depth -= queue->act_depth;
        queue->pending_bytes -= queue->act_bytes;
        if (full)
            return false;
        queue->act_depth++;
        queue->act_bytes += bytes;
    }
    return true;
}

int pawl_bus_may_publish(struct pawl_bus *bus, const struct pawl_submit *submit,
                         const struct pawl_event *event)
{
    int error = check_publish(bus, submit, event);
    if (error)
        return error;
    const struct bus_route *route = bus_route_of(bus, pawl_event_topic(event), event->topic_bytes);
    if (!route)
        return -ENOMEM;
    if (route->queue_count == 0)
        return submit->flags & PAWL_SUBMIT_EXPECT_ROUTED ? PAWL_E_UNROUTED : 0;
    bus->act_bytes += event->bytes + RECORD_BYTES + route->queue_count * sizeof(struct pawl_bus_route);
    if (bus->act_bytes > ACT_BYTES_MAX)
        return PAWL_E_LIMIT;
    if (!all_promise(bus, route, event->bytes))
        return PAWL_E_QUEUE_FULL;
    return bus->backend.has_room(bus->ctx, bus->act_bytes) == PAWL_E_NO_SPACE ? PAWL_E_NO_SPACE : 0;
}
