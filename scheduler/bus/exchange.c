/*
 * exchange.c - from a publish to the queues: route, admit, gather, one record for many.
 *
 * Runs in: scheduler. Consecutive events of one publisher that go to the same queues become one EVENTS
 * record. An event is stored once, however many queues it went to.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"
#include "shm/topic.h"

enum {
    ROUTES_HASH = 4096,
    RECORD_BYTES = 256,       /* around what a record is about, at most */
    ACT_BYTES_MAX = 68 << 20, /* the greatest event with its routes; the journal's batch holds it */
};

/* ---- routes ---- */

static void free_route(struct bus_route *route)
{
    free(route->queues);
    free(route);
}

void bus_routes_forget(struct pawl_bus *bus)
{
    bus_group_flush(bus);
    for (uint32_t i = 0; i < ROUTES_HASH; i++)
        while (bus->routes[i]) {
            struct bus_route *route = bus->routes[i];
            bus->routes[i] = route->next;
            free_route(route);
        }
    bus->routes_cached = 0;
    bus->last_route = NULL;
}

static bool wants(const struct bus_queue *queue, const char *topic, size_t topic_bytes)
{
    for (uint32_t i = 0; i < queue->config.topic_count; i++)
        if (pawl_topic_matches(queue->config.topics[i], strlen(queue->config.topics[i]), topic, topic_bytes))
            return true;
    return false;
}

static struct bus_route *make_route(struct pawl_bus *bus, const char *topic, size_t topic_bytes,
                                    uint64_t hash)
{
    struct bus_route *route = calloc(1, sizeof *route);
    size_t room = 0;
    if (!route)
        return NULL;
    route->hash = hash;
    route->topic_bytes = (uint8_t)topic_bytes;
    memcpy(route->topic, topic, topic_bytes);
    for (int pass = 0; pass < 2 && (pass == 0 || route->queue_count == 0); pass++)
        for (uint32_t i = 0; i < bus->queue_end; i++) {
            struct bus_queue *queue = bus->queues[i];
            /* Second pass: nobody wants it, so it goes to those that take what nobody wants. */
            if (!queue || !(pass == 0 ? wants(queue, topic, topic_bytes) : queue->config.unrouted))
                continue;
            if (bus_grow((void **)&route->queues, &room, route->queue_count + 1, sizeof(struct bus_queue *)) <
                0) {
                free_route(route);
                return NULL;
            }
            route->queues[route->queue_count++] = queue;
        }
    return route;
}

struct bus_route *bus_route_of(struct pawl_bus *bus, const char *topic, size_t topic_bytes)
{
    struct bus_route *last = bus->last_route;
    if (last && last->topic_bytes == topic_bytes && memcmp(last->topic, topic, topic_bytes) == 0)
        return last;
    uint64_t hash = XXH3_64bits(topic, topic_bytes);
    struct bus_route *route = bus->routes[hash % ROUTES_HASH];
    while (route && (route->hash != hash || route->topic_bytes != topic_bytes ||
                     memcmp(route->topic, topic, topic_bytes) != 0))
        route = route->next;
    if (!route) {
        if (bus->routes_cached >= BUS_ROUTES_CACHED_MAX)
            bus_routes_forget(bus); /* endless topics: begin anew */
        route = make_route(bus, topic, topic_bytes, hash);
        if (!route)
            return NULL;
        route->next = bus->routes[hash % ROUTES_HASH];
        bus->routes[hash % ROUTES_HASH] = route;
        bus->routes_cached++;
    }
    bus->last_route = route;
    return route;
}

/* ---- the open group ---- */

static uint8_t weaker(uint8_t asked, uint8_t queues)
{
    return asked != PAWL_DURABILITY_DEFAULT && asked < queues ? asked : queues;
}

static uint8_t strongest_of(const struct bus_route *route, uint8_t asked)
{
    uint8_t strongest = PAWL_DURABILITY_MEMORY;
    for (uint32_t i = 0; i < route->queue_count; i++) {
        uint8_t here = weaker(asked, route->queues[i]->config.durability);
        if (here > strongest)
            strongest = here;
    }
    return strongest;
}

static int group_open(struct pawl_bus *bus, struct bus_route *route, struct pawl_bus_client *client,
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

static void refuse(struct pawl_bus *bus, struct pawl_bus_client *client, uint64_t first, uint64_t last,
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
        uint8_t here = weaker(group->durability, queue->config.durability);
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
    uint8_t durability = strongest_of(group->route, group->durability);
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
            refuse(bus, group->client, group->first_sequence, group->first_sequence + group->count - 1,
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

static void group_add_as(struct pawl_bus *bus, struct pawl_event *event, uint64_t id,
                         uint64_t published_at_ns)
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
    group_add_as(bus, event, bus->next_event++, bus->now.realtime_ns);
}

/* ---- admission ---- */

bool bus_queue_is_full(const struct bus_queue *queue, uint64_t more_bytes)
{
    return !queue->config.stream &&
           (queue->depth + queue->pending_depth + 1 > queue->config.max_depth ||
            queue->bytes + queue->pending_bytes + more_bytes > queue->config.max_bytes);
}

static bool all_have_room(const struct bus_route *route, uint64_t bytes)
{
    for (uint32_t i = 0; i < route->queue_count; i++)
        if (bus_queue_is_full(route->queues[i], bytes) || route->queues[i]->parked)
            return false;
    return true;
}

/* The oldest that nobody has begun makes room. */
static bool drop_oldest(struct pawl_bus *bus, struct bus_queue *queue)
{
    struct bus_sub *sub = queue->sub;
    if (!sub)
        return false;
    bus_group_flush(bus);
    for (uint64_t seq = pawl_seqset_head(&sub->settled); seq < queue->tail; seq++) {
        seq = pawl_seqset_next_unset(&sub->settled, seq);
        if (seq >= queue->tail)
            break;
        struct exception *exception = exception_find(&sub->exceptions, seq);
        bool waits = exception
                         ? exception->state == EXCEPTION_READY || exception->state == EXCEPTION_DELAYED ||
                               exception->state == EXCEPTION_KEYED
                         : seq >= sub->next;
        if (!waits) {
            if (!exception && seq < sub->next)
                seq = sub->next - 1; /* first deliveries under way: nothing below the cursor but exceptions */
            continue;
        }
        bus_sub_drop_range(bus, sub, seq, seq, PAWL_BUS_END_DROPPED);
        if (queue->row)
            pawl_metrics_row_add(queue->row, PAWL_QUEUE_DROPPED, 1);
        if (queue->config.dead_letters)
            bus_log(bus, 1, "queue %s is at its limit: its oldest dead letter was dropped", queue->name);
        return true;
    }
    return false;
}

static void partial(struct pawl_bus *bus, struct pawl_bus_client *client, uint64_t sequence, uint32_t queue,
                    int error)
{
    struct pawl_reply reply = {
        .type = PAWL_REPLY_PARTIAL, .error = error, .first = sequence, .last = sequence, .queue = queue};
    if (client)
        bus->backend.reply(bus->ctx, client->number, &reply);
}

/* ---- what has to wait ---- */

/* One queue fewer is waited for. The last one answers the publisher. */
static void parked_done(struct pawl_bus *bus, struct bus_parked_publish *publish, int error, uint32_t queue)
{
    struct pawl_bus_client *client = bus->replaying ? NULL : publish->client; /* the bus may be ending */
    uint64_t sequence = publish->submit.sequence;
    if (error && client && (publish->routed > 0 || publish->waiting > 1))
        partial(bus, client, sequence, queue, error);
    if (--publish->waiting > 0)
        return;
    if (client) {
        client->parked_count--;
        client->parked_bytes -= publish->event->bytes;
    } else if (!bus->replaying) {
        bus->orphans--;
        bus->orphan_bytes -= publish->event->bytes;
    }
    if (client) {
        if (publish->routed > 0) {
            struct pawl_reply reply = {.type = PAWL_REPLY_CONFIRM,
                                       .first = sequence,
                                       .last = sequence,
                                       .event_id = publish->event->id,
                                       .durability = publish->durability,
                                       .routed = publish->routed};
            bus_reply_durable(bus, client, &reply, publish->lsn);
        } else {
            refuse(bus, client, sequence, sequence, error ? error : PAWL_E_QUEUE_FULL, queue);
        }
    }
    free(publish->event);
    free(publish);
}

/* Every queue that was full and blocks gets its place in line. 0, or -ENOMEM. */
static int park(struct pawl_bus *bus, struct pawl_bus_client *client, const struct pawl_submit *submit,
                const struct pawl_event *event, struct bus_queue **queues, uint32_t count,
                struct bus_parked_publish **publish_out)
{
    struct bus_parked_publish *publish = calloc(1, sizeof *publish);
    struct pawl_event *copy = malloc(event->bytes);
    struct bus_parked *first = NULL;
    for (uint32_t i = 0; i < count && publish && copy; i++) {
        struct bus_parked *parked = calloc(1, sizeof *parked);
        if (!parked)
            break;
        *parked = (struct bus_parked){.next = first, .publish = publish};
        first = parked;
        publish->waiting++;
    }
    if (!publish || !copy || publish->waiting < count) {
        while (first) {
            struct bus_parked *parked = first;
            first = parked->next;
            free(parked);
        }
        free(publish);
        free(copy);
        return -ENOMEM;
    }
    memcpy(copy, event, event->bytes);
    publish->client = client;
    publish->submit = *submit;
    publish->event = copy;
    for (uint32_t i = 0; i < count; i++) {
        struct bus_parked *parked = first;
        first = parked->next;
        parked->next = NULL;
        *queues[i]->parked_tail = parked;
        queues[i]->parked_tail = &parked->next;
    }
    client->parked_count++;
    client->parked_bytes += event->bytes;
    (void)bus;
    *publish_out = publish;
    return 0;
}

static void note_stored(const struct pawl_bus *bus, struct bus_parked_publish *publish, uint32_t queues,
                        uint8_t durability)
{
    publish->routed += queues;
    if (durability > publish->durability)
        publish->durability = durability;
    if (durability == PAWL_DURABILITY_FSYNC)
        publish->lsn = bus->group.lsn;
}

void bus_unpark(struct pawl_bus *bus, struct bus_queue *queue)
{
    while (queue->parked && !bus->failed) {
        struct bus_parked *parked = queue->parked;
        struct bus_parked_publish *publish = parked->publish;
        struct pawl_bus_client *client = publish->client;
        if (bus_queue_is_full(queue, publish->event->bytes))
            return;
        queue->parked = parked->next;
        if (!queue->parked)
            queue->parked_tail = &queue->parked;
        free(parked);
        struct bus_queue *one[1] = {queue};
        struct bus_route route = {.queues = one, .queue_count = 1};
        bus_group_flush(bus);
        bus_cut(bus);
        uint64_t tail = queue->tail;
        if (group_open(bus, &route, NULL, publish->submit.sequence, publish->submit.durability) == 0) {
            /* The last that waited: all that this publisher has sent so far is settled with it. */
            if (client && client->parked_count == 1 && publish->waiting == 1) {
                bus->group.publisher = client->publisher;
                bus->group.first_sequence = client->last_sequence;
            }
            group_add_as(bus, publish->event, publish->event->id, publish->event->published_at_ns);
            bus_group_flush(bus);
        }
        bool stored = queue->tail > tail;
        if (stored)
            note_stored(bus, publish, 1, weaker(publish->submit.durability, queue->config.durability));
        parked_done(bus, publish, stored ? 0 : PAWL_E_NO_SPACE, queue->number);
    }
}

void bus_parked_refuse(struct pawl_bus *bus, struct bus_queue *queue, int error)
{
    while (queue->parked) {
        struct bus_parked *parked = queue->parked;
        queue->parked = parked->next;
        parked_done(bus, parked->publish, error, queue->number);
        free(parked);
    }
    queue->parked_tail = &queue->parked;
}

static bool may_outlive(const struct pawl_bus *bus, const struct pawl_bus_client *client,
                        const struct bus_parked_publish *publish)
{
    return (!client->publisher || publish->routed > 0) && bus->orphans < BUS_PARKED_MAX &&
           bus->orphan_bytes + publish->event->bytes <= BUS_PARKED_BYTES_MAX;
}

/* Nobody waits for its confirm: what is not confirmed may have happened or not. A publisher that has a name
 * sends again after a reconnect what was not confirmed: of that, what no queue has yet is forgotten here. So
 * is what is beyond the bound of one client: else publishers that come, park and go would take all memory. */
void bus_parked_drop_client(struct pawl_bus *bus, struct pawl_bus_client *client)
{
    for (uint32_t i = 0; i < bus->queue_end && client->parked_count > 0; i++) {
        struct bus_queue *queue = bus->queues[i];
        struct bus_parked **link = queue ? &queue->parked : NULL;
        while (link && *link) {
            struct bus_parked *parked = *link;
            struct bus_parked_publish *publish = parked->publish;
            if (publish->client != client) {
                link = &parked->next;
            } else if (may_outlive(bus, client, publish)) {
                bus->orphans++;
                bus->orphan_bytes += publish->event->bytes;
                publish->client = NULL;
                link = &parked->next;
            } else {
                *link = parked->next;
                free(parked);
                if (--publish->waiting == 0) {
                    free(publish->event);
                    free(publish);
                }
            }
        }
        if (queue)
            queue->parked_tail = link;
    }
}

/* ---- some queue has no room: each is asked by itself ---- */

enum fate { FATE_TAKEN, FATE_WAITS, FATE_GONE, FATE_REFUSED };

static enum fate admit(struct pawl_bus *bus, struct bus_queue *queue, struct pawl_event *event)
{
    uint8_t policy = pawl_queue_config_overflow(&queue->config, pawl_event_topic(event), event->topic_bytes);
    bool full = bus_queue_is_full(queue, event->bytes);
    while (full && policy == PAWL_OVERFLOW_POLICY_DROP_OLDEST && drop_oldest(bus, queue))
        full = bus_queue_is_full(queue, event->bytes);
    if (!full && !queue->parked)
        return FATE_TAKEN;
    if (policy == PAWL_OVERFLOW_POLICY_BLOCK)
        return FATE_WAITS;
    if (policy == PAWL_OVERFLOW_POLICY_DROP_NEWEST) { /* as asked: gone, and that is all right */
        if (queue->row)
            pawl_metrics_row_add(queue->row, PAWL_QUEUE_DROPPED, 1);
        return FATE_GONE;
    }
    if (policy == PAWL_OVERFLOW_POLICY_DEAD_LETTER &&
        bus_dead_event(bus, queue, event, PAWL_DEAD_OVERFLOW, 0, "the queue was full", 18, 0))
        return FATE_GONE;
    if (queue->row)
        pawl_metrics_row_add(queue->row, PAWL_QUEUE_REFUSED, 1);
    return FATE_REFUSED;
}

static void confirm_gone(struct pawl_bus *bus, struct pawl_bus_client *client, uint64_t sequence,
                         uint64_t lsn)
{
    struct pawl_reply reply = {.type = PAWL_REPLY_CONFIRM,
                               .first = sequence,
                               .last = sequence,
                               .durability = lsn ? PAWL_DURABILITY_FSYNC : PAWL_DURABILITY_MEMORY};
    bus_reply_durable(bus, client, &reply, lsn);
}

static void publish_to_some(struct pawl_bus *bus, struct pawl_bus_client *client,
                            const struct pawl_submit *submit, struct pawl_event *event,
                            struct bus_queue **queues, uint32_t count)
{
    struct bus_queue **taking = queues; /* those that take it are moved to the front */
    struct bus_queue **waiting = queues + count;
    uint32_t taking_count = 0, waiting_count = 0, gone = 0, refused_by = 0;
    uint64_t dead_lsn = 0;
    event->id = bus->next_event++;
    event->published_at_ns = bus->now.realtime_ns;
    for (uint32_t i = 0; i < count; i++) {
        struct bus_queue *queue = queues[i];
        bus->group.lsn = 0;
        switch (admit(bus, queue, event)) {
        case FATE_TAKEN:
            taking[taking_count++] = queue;
            break;
        case FATE_WAITS:
            waiting[waiting_count++] = queue;
            break;
        case FATE_GONE:
            gone++;
            dead_lsn = bus->group.lsn ? bus->group.lsn : dead_lsn;
            break;
        case FATE_REFUSED:
            refused_by = queue->number;
            if (count > 1)
                partial(bus, client, submit->sequence, queue->number, PAWL_E_QUEUE_FULL);
            break;
        }
    }
    struct bus_parked_publish *publish = NULL;
    struct bus_route some = {
        .queues = taking, .queue_count = taking_count, .topic_bytes = event->topic_bytes};
    int error = waiting_count ? park(bus, client, submit, event, waiting, waiting_count, &publish) : 0;
    if (!error && taking_count)
        error = group_open(bus, &some, publish ? NULL : client, submit->sequence, submit->durability);
    if (error) {
        refuse(bus, client, submit->sequence, submit->sequence, error, 0);
    } else if (taking_count) {
        uint64_t tail = taking[0]->tail;
        group_add_as(bus, event, event->id, event->published_at_ns);
        bus_group_flush(bus);
        if (publish && taking[0]->tail > tail)
            note_stored(bus, publish, taking_count, strongest_of(&some, submit->durability));
    } else if (!publish && gone) {
        confirm_gone(bus, client, submit->sequence, dead_lsn);
    } else if (!publish) {
        refuse(bus, client, submit->sequence, submit->sequence, PAWL_E_QUEUE_FULL, refused_by);
    }
}

static void publish_singly(struct pawl_bus *bus, struct pawl_bus_client *client,
                           const struct pawl_submit *submit, struct pawl_event *event,
                           const struct bus_route *route)
{
    /* A copy: a dead-letter queue that is made meanwhile makes all routes be forgotten. */
    uint32_t count = route->queue_count;
    struct bus_queue **queues = malloc(2 * (size_t)count * sizeof(struct bus_queue *));
    if (!queues) {
        refuse(bus, client, submit->sequence, submit->sequence, -ENOMEM, 0);
        return;
    }
    memcpy(queues, route->queues, count * sizeof(struct bus_queue *));
    bus_group_flush(bus);
    publish_to_some(bus, client, submit, event, queues, count);
    free(queues);
}

uint64_t bus_put(struct pawl_bus *bus, struct bus_queue *queue, struct pawl_event *event)
{
    struct bus_queue *one[1] = {queue};
    struct bus_route route = {.queues = one, .queue_count = 1};
    bus_group_flush(bus);
    bool full = bus_queue_is_full(queue, event->bytes);
    while (full && queue->config.overflow == PAWL_OVERFLOW_POLICY_DROP_OLDEST && drop_oldest(bus, queue))
        full = bus_queue_is_full(queue, event->bytes);
    if (full && !queue->config.dead_letters)
        return 0;
    uint64_t seq = queue->tail;
    if (group_open(bus, &route, NULL, 0, PAWL_DURABILITY_DEFAULT) < 0) {
        bus->failed = true;
        return 0;
    }
    event->delay_ns = 0;
    if (event->published_at_ns) /* it stays the event that it was */
        group_add_as(bus, event, event->id, event->published_at_ns);
    else
        group_add(bus, event);
    bus_group_flush(bus);
    return bus->failed || queue->tail == seq ? 0 : seq;
}

/* ---- publish ---- */

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
    if (!error && bus->group.route != route && strongest_of(route, durability) > PAWL_DURABILITY_MEMORY &&
        bus->backend.has_room(bus->ctx, event->bytes) == PAWL_E_NO_SPACE)
        error = PAWL_E_NO_SPACE;
    if (error) {
        bus_group_flush(bus);
        refuse(bus, client, submit->sequence, submit->sequence, error, 0);
        return;
    }
    if (!all_have_room(route, event->bytes)) {
        struct pawl_submit asked = *submit;
        asked.durability = durability;
        publish_singly(bus, client, &asked, event, route);
        return;
    }
    struct bus_group *group = &bus->group;
    if (group->route &&
        (group->route != route || group->client != client || group->durability != durability ||
         group->first_sequence + group->count != submit->sequence ||
         group->used + event->bytes > BUS_GROUP_BYTES_MAX))
        bus_group_flush(bus);
    if (!group->route && group_open(bus, route, client, submit->sequence, durability) < 0) {
        refuse(bus, client, submit->sequence, submit->sequence, -ENOMEM, 0);
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
