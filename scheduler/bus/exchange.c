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

enum { ROUTES_HASH = 4096 };

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
        for (uint32_t i = 0; i < bus->queue_end && route->queue_count < BUS_ROUTE_QUEUES_MAX; i++) {
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

/* ---- one record ---- */

static uint64_t clamp_due(uint64_t base_ns, uint64_t plus_ns)
{
    return base_ns > UINT64_MAX - plus_ns ? UINT64_MAX : base_ns + plus_ns;
}

/* Delayed or prioritised: it stands beside the cursor. */
static int apply_special(struct pawl_bus *bus, struct bus_sub *sub, const struct pawl_event *event,
                         uint64_t seq)
{
    if ((event->delay_ns == 0 && event->priority == 0) || sub->group != 0)
        return 0;
    struct exception *exception = exception_find(&sub->exceptions, seq);
    if (exception || pawl_seqset_has(&sub->settled, seq))
        return 0; /* replayed over a snapshot that knows it */
    exception = exception_add(&sub->exceptions, seq);
    if (!exception)
        return -ENOMEM;
    exception->priority = event->priority;
    exception->delay_ns = event->delay_ns;
    exception->state = event->delay_ns ? EXCEPTION_DELAYED : EXCEPTION_READY;
    exception->due_realtime_ns = clamp_due(event->published_at_ns, event->delay_ns);
    if (bus->replaying)
        return 0;
    if (event->delay_ns == 0)
        return exception_push(&sub->exceptions, exception);
    exception->due_at_ns = bus_boottime_of(bus, exception->due_realtime_ns, event->delay_ns);
    bus_timer(bus, exception->due_at_ns, BUS_TIMER_DUE, seq,
              (uint32_t)((sub->queue->number << 10) ^ sub->group));
    return 0;
}

static int apply_each(struct pawl_bus *bus, const struct pawl_bus_events *record, size_t bytes,
                      const struct pawl_bus_route *routes, uint64_t *total_out)
{
    uint64_t at = record->events_offset;
    *total_out = bytes - at;
    if (!(record->flags & (PAWL_BUS_EVENTS_SPECIAL | PAWL_BUS_EVENTS_KEYED)))
        return 0;
    for (uint32_t n = 0; n < record->event_count; n++) {
        if (bytes - at < sizeof(struct pawl_event))
            return PAWL_E_DAMAGED;
        const struct pawl_event *event = (const struct pawl_event *)((const char *)record + at);
        if (event->bytes < sizeof *event || event->bytes > bytes - at)
            return PAWL_E_DAMAGED;
        if (event->key_bytes) {
            struct pawl_dedupe_entry entry = {.key =
                                                  pawl_dedupe_key(0, pawl_event_key(event), event->key_bytes),
                                              .event_id = event->id,
                                              .realtime_ns = record->realtime_ns};
            int error = pawl_dedupe_insert(&bus->dedupe, &entry);
            if (error < 0 && error != PAWL_E_DUPLICATE)
                return error;
        }
        if (record->flags & PAWL_BUS_EVENTS_SPECIAL)
            for (uint32_t i = 0; i < record->queue_count; i++) {
                struct bus_queue *queue = bus_queue_at(bus, routes[i].queue);
                int error =
                    queue && queue->sub ? apply_special(bus, queue->sub, event, routes[i].first_seq + n) : 0;
                if (error)
                    return error;
            }
        at += event->bytes;
    }
    return 0;
}

static int apply_to_queue(struct bus_queue *queue, uint64_t first, uint32_t count, uint64_t bytes,
                          uint64_t place, uint64_t realtime_ns)
{
    if (first + count <= queue->tail)
        return 0; /* a snapshot knew it */
    if (first < queue->tail)
        return PAWL_E_DAMAGED;
    if (first > queue->tail) {
        /* Seqs that were in memory only, and went with the scheduler that gave them. */
        uint64_t lost = first - 1;
        if (queue->sub && pawl_seqset_add_range(&queue->sub->settled, queue->tail, lost) < 0)
            return -ENOMEM;
        for (uint32_t i = 0; i < queue->group_count; i++)
            if (queue->groups[i] && pawl_seqset_head(&queue->groups[i]->settled) <= lost &&
                pawl_seqset_add_range(&queue->groups[i]->settled, queue->tail, lost) < 0)
                return -ENOMEM;
    }
    if (backlog_add(&queue->backlog, first, count, bytes, place) < 0)
        return -ENOMEM;
    queue->tail = first + count;
    queue->depth += count;
    queue->bytes += bytes;
    queue->last_published_ns = realtime_ns;
    if (queue->row)
        pawl_metrics_row_add(queue->row, PAWL_QUEUE_PUBLISHED, count);
    return 0;
}

/* An event was copied forward: only where it lies changes. */
static int apply_moved(struct pawl_bus *bus, const struct pawl_bus_events *record,
                       const struct pawl_bus_route *routes, uint64_t bytes, uint64_t place)
{
    for (uint32_t i = 0; i < record->queue_count; i++) {
        struct bus_queue *queue = bus_queue_at(bus, routes[i].queue);
        if (queue && backlog_move(bus, &queue->backlog, routes[i].first_seq, bytes, place) < 0)
            return -ENOMEM;
    }
    return 0;
}

int bus_events_apply(struct pawl_bus *bus, const void *body, size_t bytes, uint64_t lsn, uint64_t place)
{
    const struct pawl_bus_events *record = body;
    uint64_t total = 0;
    (void)lsn;
    if (bytes < sizeof *record || record->event_count == 0 ||
        record->queue_count > (bytes - sizeof *record) / sizeof(struct pawl_bus_route) ||
        record->events_offset > bytes ||
        record->events_offset < sizeof *record + record->queue_count * sizeof(struct pawl_bus_route))
        return PAWL_E_DAMAGED;
    const struct pawl_bus_route *routes = (const struct pawl_bus_route *)(record + 1);
    if (record->flags & PAWL_BUS_EVENTS_MOVED)
        return apply_moved(bus, record, routes, bytes - record->events_offset, place);
    for (uint32_t i = 0; i < record->queue_count; i++) {
        struct bus_queue *queue = bus_queue_at(bus, routes[i].queue);
        int error = queue ? apply_to_queue(queue, routes[i].first_seq, record->event_count,
                                           bytes - record->events_offset, place, record->realtime_ns)
                          : 0;
        if (error)
            return error;
    }
    int error = apply_each(bus, record, bytes, routes, &total);
    if (!error && record->publisher)
        error = pawl_publishers_note(&bus->publishers, record->publisher,
                                     record->first_sequence + record->event_count - 1, record->realtime_ns);
    return error == PAWL_E_LIMIT ? 0 : error; /* more publishers than are remembered: that one is not */
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
    group->partial = false;
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
    struct bus_wait wait = {.lsn = lsn, .kind = BUS_WAIT_REPLY};
    if (!group->client)
        return;
    wait.client = group->client->number;
    wait.reply = (struct pawl_reply){.type = PAWL_REPLY_CONFIRM,
                                     .first = group->first_sequence,
                                     .last = group->first_sequence + group->count - 1,
                                     .event_id = first_id,
                                     .durability = durability,
                                     .routed = group->route->queue_count};
    if (durability == PAWL_DURABILITY_FSYNC && lsn > bus->durable_lsn)
        bus_wait_for(bus, &wait);
    else
        bus->backend.reply(bus->ctx, wait.client, &wait.reply);
}

static void show_group(struct pawl_bus *bus, const struct bus_group *group, uint64_t lsn)
{
    for (uint32_t i = 0; i < group->route->queue_count; i++) {
        struct bus_queue *queue = group->route->queues[i];
        struct bus_wait wait = {
            .lsn = 0, .kind = BUS_WAIT_VISIBLE, .queue = queue->number, .seq = queue->tail};
        queue->pending_depth = queue->pending_bytes = 0;
        uint8_t here = weaker(group->durability, queue->config.durability);
        if (here == PAWL_DURABILITY_FSYNC)
            queue->visible_lsn = lsn;
        /* What came before it is seen before it, whatever its own mode. */
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
        if (queue->config.stream && (queue->config.retain_bytes || queue->config.retain_ns) &&
            !queue->trim_at_ns)
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
                                       .first_event_id = bus->next_event - group->count,
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
        place = bus->backend.keep(bus->ctx, &iov, 1);
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
    group->route = NULL;
}

static void group_add(struct pawl_bus *bus, struct pawl_event *event)
{
    struct bus_group *group = &bus->group;
    event->id = bus->next_event++;
    event->published_at_ns = bus->now.realtime_ns;
    if (event->delay_ns || event->priority)
        group->flags |= PAWL_BUS_EVENTS_SPECIAL;
    if (event->key_bytes)
        group->flags |= PAWL_BUS_EVENTS_KEYED;
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

/* For all of an atomic act, as if every part went to each of these queues. */
static bool all_have_room_for(const struct bus_route *route, uint64_t count, uint64_t bytes)
{
    for (uint32_t i = 0; i < route->queue_count; i++) {
        struct bus_queue *queue = route->queues[i];
        if (queue->parked || (!queue->config.stream &&
                              (queue->depth + queue->pending_depth + count > queue->config.max_depth ||
                               queue->bytes + queue->pending_bytes + bytes > queue->config.max_bytes)))
            return false;
    }
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

static void park(struct pawl_bus *bus, struct bus_queue *queue, struct pawl_bus_client *client,
                 const struct pawl_submit *submit, const struct pawl_event *event, bool elsewhere,
                 uint64_t event_id)
{
    struct bus_parked *parked = calloc(1, sizeof *parked);
    struct pawl_event *copy = malloc(event->bytes);
    if (!parked || !copy) {
        free(parked);
        free(copy);
        refuse(bus, client, submit->sequence, submit->sequence, -ENOMEM, queue->number);
        return;
    }
    memcpy(copy, event, event->bytes);
    *parked = (struct bus_parked){
        .client = client, .submit = *submit, .event = copy, .elsewhere = elsewhere, .event_id = event_id};
    *queue->parked_tail = parked;
    queue->parked_tail = &parked->next;
    if (client) {
        client->parked_count++;
        client->parked_bytes += event->bytes;
    }
}

static void partial(struct pawl_bus *bus, struct pawl_bus_client *client, uint64_t sequence, uint32_t queue,
                    int error)
{
    struct pawl_reply reply = {
        .type = PAWL_REPLY_PARTIAL, .error = error, .first = sequence, .last = sequence, .queue = queue};
    if (client)
        bus->backend.reply(bus->ctx, client->number, &reply);
}

/* Some queue has no room: each is asked by itself. */
static void publish_singly(struct pawl_bus *bus, struct pawl_bus_client *client,
                           const struct pawl_submit *submit, struct pawl_event *event,
                           const struct bus_route *route)
{
    struct bus_queue *queues[BUS_ROUTE_QUEUES_MAX], *blocking[16];
    struct bus_route some = {.queues = queues, .topic_bytes = event->topic_bytes};
    uint32_t blocking_count = 0, refused = 0, last_refuser = 0, taken = 0;
    int last_error = PAWL_E_QUEUE_FULL;
    bus_group_flush(bus);
    for (uint32_t i = 0; i < route->queue_count; i++) {
        struct bus_queue *queue = route->queues[i];
        uint8_t policy =
            pawl_queue_config_overflow(&queue->config, pawl_event_topic(event), event->topic_bytes);
        bool full = bus_queue_is_full(queue, event->bytes);
        while (full && policy == PAWL_OVERFLOW_POLICY_DROP_OLDEST && drop_oldest(bus, queue))
            full = bus_queue_is_full(queue, event->bytes);
        if (!full && !queue->parked) {
            queues[some.queue_count++] = queue;
            continue;
        }
        if (policy == PAWL_OVERFLOW_POLICY_BLOCK && blocking_count < 16) {
            blocking[blocking_count++] = queue;
        } else if (policy == PAWL_OVERFLOW_POLICY_DROP_NEWEST) {
            taken++; /* as asked: gone, and that is all right */
            if (queue->row)
                pawl_metrics_row_add(queue->row, PAWL_QUEUE_DROPPED, 1);
        } else if (policy == PAWL_OVERFLOW_POLICY_DEAD_LETTER) {
            event->id = bus->next_event++;
            event->published_at_ns = bus->now.realtime_ns;
            if (bus_dead_event(bus, queue, event, PAWL_DEAD_OVERFLOW, 0, "the queue was full", 18, 0))
                taken++;
            else
                refused++;
        } else {
            refused++;
            last_refuser = queue->number;
            if (queue->row)
                pawl_metrics_row_add(queue->row, PAWL_QUEUE_REFUSED, 1);
            if (some.queue_count || route->queue_count > 1)
                partial(bus, client, submit->sequence, queue->number, PAWL_E_QUEUE_FULL);
        }
    }
    bool stored = some.queue_count > 0;
    uint64_t event_id = bus->next_event;
    if (stored) {
        if (group_open(bus, &some, blocking_count ? NULL : client, submit->sequence, submit->durability) <
            0) {
            refuse(bus, client, submit->sequence, submit->sequence, -ENOMEM, 0);
            return;
        }
        group_add(bus, event);
        bus_group_flush(bus);
    }
    for (uint32_t i = 0; i < blocking_count; i++)
        park(bus, blocking[i], i + 1 == blocking_count ? client : NULL, submit, event, stored,
             stored ? event_id : 0);
    if (stored || blocking_count)
        return;
    if (taken > 0) {
        struct pawl_reply reply = {.type = PAWL_REPLY_CONFIRM,
                                   .first = submit->sequence,
                                   .last = submit->sequence,
                                   .durability = PAWL_DURABILITY_MEMORY};
        struct bus_wait wait = {.lsn = UINT64_MAX, .kind = BUS_WAIT_REPLY};
        (void)wait;
        if (client)
            bus->backend.reply(bus->ctx, client->number, &reply);
    } else if (refused > 0) {
        refuse(bus, client, submit->sequence, submit->sequence, last_error, last_refuser);
    }
}

void bus_unpark(struct pawl_bus *bus, struct bus_queue *queue)
{
    while (queue->parked && !bus->failed) {
        struct bus_parked *parked = queue->parked;
        if (bus_queue_is_full(queue, parked->event->bytes))
            return;
        queue->parked = parked->next;
        if (!queue->parked)
            queue->parked_tail = &queue->parked;
        struct bus_queue *one[1] = {queue};
        struct bus_route route = {.queues = one, .queue_count = 1};
        bus_group_flush(bus);
        if (group_open(bus, &route, parked->client, parked->submit.sequence, parked->submit.durability) ==
            0) {
            group_add(bus, parked->event);
            bus_group_flush(bus);
        }
        if (parked->client) {
            parked->client->parked_count--;
            parked->client->parked_bytes -= parked->event->bytes;
        }
        free(parked->event);
        free(parked);
    }
}

void bus_parked_drop_client(struct pawl_bus *bus, struct pawl_bus_client *client)
{
    for (uint32_t i = 0; i < bus->queue_end && client->parked_count > 0; i++)
        for (struct bus_parked *parked = bus->queues[i] ? bus->queues[i]->parked : NULL; parked;
             parked = parked->next)
            if (parked->client == client)
                parked->client = NULL; /* nobody waits for its confirm; unconfirmed, it may still happen */
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
    uint64_t published = event->published_at_ns, id = event->id;
    event->delay_ns = 0;
    group_add(bus, event);
    /* It stays the event that it was. */
    struct pawl_event *copy =
        (struct pawl_event *)(void *)(bus->group.bytes + bus->group.used - event->bytes);
    if (published) {
        copy->published_at_ns = published;
        copy->id = id;
    }
    bus_group_flush(bus);
    return bus->failed ? 0 : seq;
}

/* ---- publish ---- */

/* 0; else why this event may not be (the client is told). */
static int check_publish(struct pawl_bus *bus, const struct pawl_submit *submit,
                         const struct pawl_event *event)
{
    if (event->data_bytes > bus->limits.event_payload_bytes ||
        event->headers_bytes > bus->limits.event_headers_bytes ||
        event->delay_ns > bus->limits.publish_delay_ns)
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
    if (event->key_bytes == 0)
        return false;
    bus_group_flush(bus); /* the one before may carry the same key */
    if (!pawl_dedupe_find(&bus->dedupe, pawl_dedupe_key(0, pawl_event_key(event), event->key_bytes),
                          bus->now.realtime_ns, &reply.event_id))
        return false;
    const struct bus_route *route = bus_route_of(bus, pawl_event_topic(event), event->topic_bytes);
    for (uint32_t i = 0; route && i < route->queue_count; i++)
        if (route->queues[i]->row)
            pawl_metrics_row_add(route->queues[i]->row, PAWL_QUEUE_DUPLICATES, 1);
    /* The first one may not be durable yet: neither is the news of it. */
    struct bus_wait wait = {
        .lsn = bus->waits && bus->wait_count
                   ? bus->waits[(bus->wait_first + bus->wait_count - 1) & (bus->wait_room - 1)].lsn
                   : 0,
        .kind = BUS_WAIT_REPLY,
        .client = client->number,
        .reply = reply};
    if (wait.lsn > bus->durable_lsn)
        bus_wait_for(bus, &wait);
    else
        bus->backend.reply(bus->ctx, client->number, &reply);
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
        /* Sent again after a reconnect, and it had arrived. */
        struct pawl_reply reply = {.type = PAWL_REPLY_CONFIRM,
                                   .first = submit->sequence,
                                   .last = submit->sequence,
                                   .durability = PAWL_DURABILITY_FSYNC,
                                   .flags = PAWL_REPLY_DUPLICATE};
        bus->backend.reply(bus->ctx, client->number, &reply);
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

int pawl_bus_may_publish(struct pawl_bus *bus, const struct pawl_submit *submit,
                         const struct pawl_event *event, uint64_t act_count, uint64_t act_bytes)
{
    int error = check_publish(bus, submit, event);
    if (error)
        return error;
    const struct bus_route *route = bus_route_of(bus, pawl_event_topic(event), event->topic_bytes);
    if (!route)
        return -ENOMEM;
    if (route->queue_count == 0)
        return submit->flags & PAWL_SUBMIT_EXPECT_ROUTED ? PAWL_E_UNROUTED : 0;
    if (!all_have_room_for(route, act_count, act_bytes))
        return PAWL_E_QUEUE_FULL;
    return bus->backend.has_room(bus->ctx, event->bytes) == PAWL_E_NO_SPACE ? PAWL_E_NO_SPACE : 0;
}
