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
    group->publisher = client ? client->publisher : 0;
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
        if (queue->config.stream && (queue->config.retain_bytes || queue->config.retain_events ||
                                     (queue->config.retain_ns && !queue->trim_at_ns)))
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
        bus_sum_events(record, group->used);
        lsn = bus->backend.append(bus->ctx, PAWL_BUS_RECORD_EVENTS, &iov, 1, &place);
        bus->failed = bus->failed || lsn == 0;
        bus->log_lsn = lsn ? lsn : bus->log_lsn;
    } else {
        place = bus->backend.keep(bus->ctx, &iov, 1, record->queue_count);
        bus->failed = place == 0 && bus->acting; /* there was room, and the act's other parts are done */
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
    event->sum = 0; /* whatever a client wrote there */
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
    bool full = queue->config.overflow == PAWL_OVERFLOW_POLICY_DROP_OLDEST
                    ? !bus_drop_oldest_for(bus, queue, event->bytes)
                    : bus_queue_is_full(queue, event->bytes);
    if (full && (!queue->config.dead_letters || bus_queue_never_fits(queue, event->bytes)))
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

static bool never_fits(const struct bus_route *route, uint64_t bytes)
{
    for (uint32_t i = 0; i < route->queue_count; i++)
        if (bus_queue_never_fits(route->queues[i], bytes))
            return true;
    return false;
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
    if (submit->sequence > PAWL_PUBLISHER_SEQUENCE_MAX || submit->durability > PAWL_DURABILITY_FSYNC ||
        submit->guarantee > PAWL_GUARANTEE_AT_LEAST_ONCE)
        return PAWL_E_INVALID;
    return 0;
}

void bus_confirm_duplicate(struct pawl_bus *bus, const struct pawl_bus_client *client, uint64_t sequence,
                           uint64_t event_id, bool memory)
{
    struct pawl_reply reply = {.type = PAWL_REPLY_CONFIRM,
                               .first = sequence,
                               .last = sequence,
                               .event_id = event_id,
                               .durability = memory ? PAWL_DURABILITY_MEMORY : PAWL_DURABILITY_FSYNC,
                               .flags = PAWL_REPLY_DUPLICATE};
    /* The first one is somewhere in the log, perhaps at its very end: until that is durable neither is the
     * news of it. */
    bus_reply_durable(bus, client, &reply, memory ? 0 : bus->log_lsn);
}

/* Sent again after a reconnect, and it had arrived. */
static bool was_published(struct pawl_bus *bus, const struct pawl_bus_client *client,
                          const struct pawl_submit *submit)
{
    bool memory;
    if (!client->publisher || submit->sequence > client->last_sequence)
        return false;
    bus_group_flush(bus);
    if (!pawl_publishers_find(&bus->publishers, client->publisher, submit->sequence, &memory))
        return false;
    bus_confirm_duplicate(bus, client, submit->sequence, 0, memory);
    return true;
}

/* Some of its queues have it, the others were still full when its client or the scheduler went. */
static bool was_begun(const struct pawl_bus *bus, const struct pawl_bus_client *client,
                      const struct pawl_submit *submit, struct bus_origin *origin)
{
    return client->publisher && submit->sequence <= client->last_sequence &&
           pawl_publishers_has_part(&bus->publishers, client->publisher, submit->sequence, 0,
                                    &origin->event_id);
}

/* Its key was seen. But if some queues are still without the event that had it, because its publisher or the
 * scheduler went meanwhile, it is for those. */
static bool is_duplicate(struct pawl_bus *bus, const struct pawl_bus_client *client,
                         const struct pawl_submit *submit, const struct pawl_event *event,
                         struct bus_origin *origin)
{
    if (event->key_bytes == 0 || bus->limits.dedupe_keys == 0 || bus->limits.dedupe_age_ns == 0)
        return false;
    bus_group_flush(bus); /* the one before may carry the same key */
    const struct pawl_dedupe_entry *entry =
        pawl_dedupe_find(&bus->dedupe, bus_event_key(event), bus->now.realtime_ns);
    if (!entry)
        return false;
    bool memory = entry->memory;
    uint64_t event_id = entry->event_id;
    if (pawl_publishers_part_of(&bus->publishers, event_id, &origin->publisher, &origin->sequence)) {
        origin->event_id = event_id;
        return false;
    }
    const struct bus_route *route = bus_route_of(bus, pawl_event_topic(event), event->topic_bytes);
    for (uint32_t i = 0; route && i < route->queue_count; i++)
        if (route->queues[i]->row)
            pawl_metrics_row_add(route->queues[i]->row, PAWL_QUEUE_DUPLICATES, 1);
    bus_note_published(bus, client->publisher, submit->sequence, 0, event_id, memory ? 0 : bus->log_lsn,
                       false);
    bus_confirm_duplicate(bus, client, submit->sequence, event_id, memory);
    return true;
}

void bus_publisher_moves(struct pawl_bus *bus, const struct pawl_bus_client *client)
{
    for (uint32_t i = 0; i < bus->client_room; i++) {
        struct pawl_bus_client *other = bus->clients[i];
        if (!other || other == client || other->publisher != client->publisher)
            continue;
        other->replaced = true;
        bus_parked_drop_client(bus, other);
    }
}

static void confirm_unrouted(struct pawl_bus *bus, const struct pawl_bus_client *client, uint64_t sequence)
{
    struct pawl_reply reply = {.type = PAWL_REPLY_CONFIRM,
                               .first = sequence,
                               .last = sequence,
                               .durability = PAWL_DURABILITY_MEMORY,
                               .flags = PAWL_REPLY_UNROUTED};
    bus->backend.reply(bus->ctx, client->number, &reply);
}

/* What is delayed or prioritised is remembered one by one, in memory. */
static int check_delayed(struct pawl_bus *bus, const struct bus_route *route, const struct pawl_event *event)
{
    if (event->delay_ns == 0 && event->priority == 0)
        return 0;
    for (uint32_t i = 0; i < route->queue_count; i++) {
        const struct bus_queue *queue = route->queues[i];
        uint64_t most = bus->limits.queue_delayed;
        if (!queue->sub || queue->sub->exceptions.count + queue->pending_depth < most)
            continue;
        bus_group_flush(bus); /* how many of those are plain is known then */
        if (queue->sub->exceptions.count >= most)
            return PAWL_E_LIMIT;
    }
    return 0;
}

/* 0 and the queues that want it (0: none does, and it was confirmed so); else why it cannot be taken. */
static int find_route(struct pawl_bus *bus, const struct pawl_bus_client *client,
                      const struct pawl_submit *submit, const struct pawl_event *event, uint8_t durability,
                      struct bus_route **route_out)
{
    struct bus_route *route = bus_route_of(bus, pawl_event_topic(event), event->topic_bytes);
    *route_out = route;
    if (!route)
        return -ENOMEM;
    if (route->queue_count == 0) {
        if (submit->flags & PAWL_SUBMIT_EXPECT_ROUTED)
            return PAWL_E_UNROUTED;
        confirm_unrouted(bus, client, submit->sequence);
        return 0;
    }
    if (!bus->acting && bus->group.route != route &&
        bus_strongest_of(route, durability) > PAWL_DURABILITY_MEMORY &&
        bus->backend.has_room(bus->ctx, event->bytes) == PAWL_E_NO_SPACE)
        return PAWL_E_NO_SPACE;
    return check_delayed(bus, route, event);
}

/* All its queues have room. */
static void publish_to_all(struct pawl_bus *bus, struct pawl_bus_client *client,
                           const struct pawl_submit *submit, struct pawl_event *event,
                           struct bus_route *route)
{
    struct bus_group *group = &bus->group;
    if (group->route &&
        (group->route != route || group->client != client || group->durability != submit->durability ||
         group->first_sequence + group->count != submit->sequence ||
         group->used + event->bytes > BUS_GROUP_BYTES_MAX))
        bus_group_flush(bus);
    if (!group->route && bus_group_open(bus, route, client, submit->sequence, submit->durability) < 0) {
        bus_refuse(bus, client, submit->sequence, submit->sequence, -ENOMEM, 0);
        return;
    }
    group_add(bus, event);
}

void pawl_bus_publish(struct pawl_bus *bus, struct pawl_now now, struct pawl_bus_client *client,
                      const struct pawl_submit *submit, struct pawl_event *event)
{
    struct pawl_submit asked = *submit;
    struct bus_route *route = NULL;
    struct bus_origin origin = {.publisher = client->publisher, .sequence = submit->sequence};
    bus->now = now;
    if (was_published(bus, client, submit))
        return;
    int error = client->replaced || (submit->flags & PAWL_SUBMIT_ASK) ? PAWL_E_STALE_RECEIPT
                                                                      : check_publish(bus, submit, event);
    if (!error && !was_begun(bus, client, submit, &origin) &&
        is_duplicate(bus, client, submit, event, &origin))
        return;
    if (!error && submit->sequence > client->last_sequence)
        client->last_sequence = submit->sequence;
    if (submit->guarantee == PAWL_GUARANTEE_AT_MOST_ONCE)
        asked.durability = PAWL_DURABILITY_MEMORY;
    if (bus->acting)
        bus_settle_flush(bus); /* what the act acks makes room for what it publishes */
    if (!error)
        error = find_route(bus, client, submit, event, asked.durability, &route);
    if (error) {
        bus_group_flush(bus);
        bus_refuse(bus, client, submit->sequence, submit->sequence, error, 0);
    } else if (origin.event_id && route->queue_count > 0) {
        bus_publish_rest(bus, client, &asked, event, route, &origin);
    } else if (route->queue_count > 0 && all_have_room(route, event->bytes)) {
        publish_to_all(bus, client, &asked, event, route);
    } else if (route->queue_count > 0) {
        bus_publish_singly(bus, client, &asked, event, route);
    }
}

void pawl_bus_act_begin(struct pawl_bus *bus)
{
    bus->act++;
    bus->act_bytes = bus->act_kept_bytes = 0;
    bus->act_growth = 0;
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

/* So many events, and bytes, more will be in the queue by this act. */
static void promise(const struct pawl_bus *bus, struct bus_queue *queue, int64_t events, int64_t bytes)
{
    if (queue->act != bus->act)
        queue->act_depth = queue->act_bytes = 0;
    queue->act = bus->act;
    queue->act_depth += (uint64_t)events; /* below 0 it wraps, as do the sums that it is part of */
    queue->act_bytes += (uint64_t)bytes;
}

void bus_act_acks(struct pawl_bus *bus, struct bus_queue *queue, uint64_t seq)
{
    int64_t bytes = (int64_t)backlog_share(&queue->backlog, seq);
    promise(bus, queue, -1, -bytes);
    if (!queue->config.stream && !backlog_is_volatile(&queue->backlog, seq))
        bus->act_growth -= bytes;
}

bool bus_disk_takes(const struct pawl_bus *bus, uint8_t durability, uint64_t bytes)
{
    return durability == PAWL_DURABILITY_MEMORY ||
           bus->backend.has_room(bus->ctx, bytes) != PAWL_E_NO_SPACE ||
           (bus->backend.may_spend && bus->backend.may_spend(bus->ctx, bytes));
}

/* On a full disk too, if less is stored after it than before: that frees space, in the end. */
static int act_has_room(const struct pawl_bus *bus)
{
    uint64_t bytes = bus->act_bytes - bus->act_kept_bytes;
    if (bytes == 0 || bus->backend.has_room(bus->ctx, bytes) != PAWL_E_NO_SPACE)
        return 0;
    bool frees = bus->act_growth <= 0 && bus->backend.may_spend && bus->backend.may_spend(bus->ctx, bytes);
    return frees ? 0 : PAWL_E_NO_SPACE;
}

static bool all_promise(const struct pawl_bus *bus, const struct bus_route *route, uint64_t bytes)
{
    for (uint32_t i = 0; i < route->queue_count; i++) {
        struct bus_queue *queue = route->queues[i];
        promise(bus, queue, 0, 0);
        queue->pending_depth += queue->act_depth;
        queue->pending_bytes += queue->act_bytes;
        bool full = bus_queue_is_full(queue, bytes) || queue->parked;
        queue->pending_depth -= queue->act_depth;
        queue->pending_bytes -= queue->act_bytes;
        if (full)
            return false;
        promise(bus, queue, 1, (int64_t)bytes);
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
    error = check_delayed(bus, route, event);
    if (error)
        return error;
    uint64_t bytes = event->bytes + RECORD_BYTES + route->queue_count * sizeof(struct pawl_bus_route);
    bool memory = submit->guarantee == PAWL_GUARANTEE_AT_MOST_ONCE ||
                  bus_strongest_of(route, submit->durability) == PAWL_DURABILITY_MEMORY;
    bus->act_bytes += bytes;
    bus->act_kept_bytes += memory ? bytes : 0;
    bus->act_growth += memory ? 0 : (int64_t)event->bytes * route->queue_count;
    if (bus->act_bytes > ACT_BYTES_MAX || never_fits(route, event->bytes))
        return PAWL_E_LIMIT;
    if (memory && bus->backend.may_keep && !bus->backend.may_keep(bus->ctx, bus->act_kept_bytes))
        return PAWL_E_NO_SPACE;
    if (!all_promise(bus, route, event->bytes))
        return PAWL_E_QUEUE_FULL;
    return act_has_room(bus);
}
