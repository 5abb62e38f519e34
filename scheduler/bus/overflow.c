/*
 * overflow.c - a queue has no room: what its policy says, each queue asked by itself.
 *
 * Runs in: scheduler.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

bool bus_queue_is_full(const struct bus_queue *queue, uint64_t more_bytes)
{
    return !queue->config.stream &&
           (queue->depth + queue->pending_depth + 1 > queue->config.max_depth ||
            queue->bytes + queue->pending_bytes + more_bytes > queue->config.max_bytes);
}

bool bus_queue_never_fits(const struct bus_queue *queue, uint64_t bytes)
{
    return !queue->config.stream && bytes > queue->config.max_bytes;
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
            bus_log(bus, queue, PAWL_LOG_INFO, "it is at its limit: its oldest dead letter was dropped");
        return true;
    }
    return false;
}

bool bus_drop_oldest_for(struct pawl_bus *bus, struct bus_queue *queue, uint64_t bytes)
{
    bool full = bus_queue_is_full(queue, bytes);
    /* For what can never fit nothing else is lost. */
    while (full && !bus_queue_never_fits(queue, bytes) && drop_oldest(bus, queue))
        full = bus_queue_is_full(queue, bytes);
    return !full;
}

/* Straight to the dead letters. @otherwise: they do not take it. */
static enum bus_fate bury(struct pawl_bus *bus, struct bus_queue *queue, const struct pawl_event *event,
                          const char *why, enum bus_fate otherwise)
{
    bool has_grave = !queue->config.dead_letters && queue->config.guarantee != PAWL_GUARANTEE_AT_MOST_ONCE;
    if (!bus_dead_event(bus, queue, event, PAWL_DEAD_OVERFLOW, 0, why, strlen(why), 0))
        return otherwise;
    return has_grave ? BUS_FATE_BURIED : BUS_FATE_DROPPED;
}

/* What can never fit would wait for ever, and those behind it; or all else would be dropped for nothing. */
static enum bus_fate decide(struct pawl_bus *bus, struct bus_queue *queue, const struct pawl_event *event)
{
    uint8_t policy = pawl_queue_config_overflow(&queue->config, pawl_event_topic(event), event->topic_bytes);
    if (bus_queue_never_fits(queue, event->bytes))
        return policy == PAWL_OVERFLOW_POLICY_DEAD_LETTER
                   ? bury(bus, queue, event, "it is larger than the queue may be", BUS_FATE_TOO_LARGE)
                   : BUS_FATE_TOO_LARGE;
    bool full = policy == PAWL_OVERFLOW_POLICY_DROP_OLDEST ? !bus_drop_oldest_for(bus, queue, event->bytes)
                                                           : bus_queue_is_full(queue, event->bytes);
    if (!full && !queue->parked)
        return BUS_FATE_TAKEN;
    switch (policy) {
    case PAWL_OVERFLOW_POLICY_BLOCK:
        return BUS_FATE_WAITS;
    case PAWL_OVERFLOW_POLICY_DROP_NEWEST: /* as asked: gone, and that is all right */
        return BUS_FATE_DROPPED;
    case PAWL_OVERFLOW_POLICY_DEAD_LETTER:
        return bury(bus, queue, event, "the queue was full", BUS_FATE_REFUSED);
    default:
        return BUS_FATE_REFUSED;
    }
}

enum bus_fate bus_admit(struct pawl_bus *bus, struct bus_queue *queue, const struct pawl_event *event)
{
    enum bus_fate fate = decide(bus, queue, event);
    if (queue->row && fate == BUS_FATE_DROPPED)
        pawl_metrics_row_add(queue->row, PAWL_QUEUE_DROPPED, 1);
    else if (queue->row && (fate == BUS_FATE_REFUSED || fate == BUS_FATE_TOO_LARGE))
        pawl_metrics_row_add(queue->row, PAWL_QUEUE_REFUSED, 1);
    return fate;
}

/* @event_id: of what lies among the dead now; 0: all was dropped. */
static void confirm_gone(struct pawl_bus *bus, const struct pawl_bus_client *client, uint64_t sequence,
                         uint64_t event_id, uint64_t lsn)
{
    struct pawl_reply reply = {.type = PAWL_REPLY_CONFIRM,
                               .first = sequence,
                               .last = sequence,
                               .event_id = event_id,
                               .durability = lsn ? PAWL_DURABILITY_FSYNC : PAWL_DURABILITY_MEMORY};
    bus_reply_durable(bus, client, &reply, lsn);
}

/* Those that have it while others let it wait: sent again, it is for the others only. */
static void note_parts(struct pawl_bus *bus, const struct bus_origin *origin, uint64_t event_id,
                       struct bus_queue *const *queues, uint32_t count)
{
    uint64_t lsn = bus->group.lsn;
    for (uint32_t i = 0; i < count; i++)
        bus_note_published(bus, origin->publisher, origin->sequence, queues[i]->number, event_id, lsn,
                           lsn != 0);
}

static void publish_to_some(struct pawl_bus *bus, struct pawl_bus_client *client,
                            const struct pawl_submit *submit, struct pawl_event *event,
                            const struct bus_origin *origin, struct bus_queue **queues, uint32_t count)
{
    bool own = origin->publisher == client->publisher && origin->sequence == submit->sequence;
    struct bus_queue **taking = queues; /* those that take it are moved to the front */
    struct bus_queue **waiting = queues + count;
    uint32_t taking_count = 0, waiting_count = 0, gone = 0, refused_by = 0;
    int refused = PAWL_E_QUEUE_FULL;
    bool buried = false;
    uint64_t dead_lsn = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct bus_queue *queue = queues[i];
        bus->group.lsn = 0;
        enum bus_fate fate = bus_admit(bus, queue, event);
        switch (fate) {
        case BUS_FATE_TAKEN:
            taking[taking_count++] = queue;
            break;
        case BUS_FATE_WAITS:
            waiting[waiting_count++] = queue;
            break;
        case BUS_FATE_DROPPED:
        case BUS_FATE_BURIED:
            gone++;
            buried |= fate == BUS_FATE_BURIED;
            dead_lsn = bus->group.lsn ? bus->group.lsn : dead_lsn;
            if (count > 1 || !own)
                note_parts(bus, origin, event->id, &queue, 1);
            break;
        case BUS_FATE_REFUSED:
        case BUS_FATE_TOO_LARGE:
            refused = fate == BUS_FATE_REFUSED ? PAWL_E_QUEUE_FULL : PAWL_E_LIMIT;
            refused_by = queue->number;
            if (count > 1)
                bus_partial(bus, client, submit->sequence, queue->number, refused);
            break;
        }
    }
    struct bus_parked_publish *publish = NULL;
    struct bus_route some = {
        .queues = taking, .queue_count = taking_count, .topic_bytes = event->topic_bytes};
    int error =
        waiting_count ? bus_park(bus, client, submit, event, origin, waiting, waiting_count, &publish) : 0;
    if (publish && gone) {
        publish->gone = true;
        publish->buried = buried;
        publish->lsn = dead_lsn;
        publish->durability = dead_lsn ? PAWL_DURABILITY_FSYNC : PAWL_DURABILITY_MEMORY;
    }
    if (!error && taking_count)
        error =
            bus_group_open(bus, &some, publish || !own ? NULL : client, origin->sequence, submit->durability);
    if (error) {
        bus_refuse(bus, client, submit->sequence, submit->sequence, error, 0);
    } else if (taking_count) {
        uint64_t tail = taking[0]->tail;
        uint8_t durability = bus_strongest_of(&some, submit->durability);
        if (!publish)
            bus->group.publisher = origin->publisher; /* it is done with */
        bus_group_add_as(bus, event, event->id, event->published_at_ns);
        bus_group_flush(bus);
        if (publish && taking[0]->tail > tail) {
            bus_parked_stored(bus, publish, taking_count, durability);
            note_parts(bus, origin, event->id, taking, taking_count);
        } else if (!publish && !own && taking[0]->tail > tail) {
            bus_confirm_duplicate(bus, client, submit->sequence, event->id,
                                  durability == PAWL_DURABILITY_MEMORY);
        } else if (!publish && !own) {
            bus_refuse(bus, client, submit->sequence, submit->sequence, PAWL_E_NO_SPACE, 0);
        }
    } else if (!publish && gone) {
        bus_note_published(bus, origin->publisher, origin->sequence, 0, event->id, 0, dead_lsn != 0);
        confirm_gone(bus, client, submit->sequence, buried ? event->id : 0, dead_lsn);
    } else if (!publish) {
        bus_refuse(bus, client, submit->sequence, submit->sequence, refused, refused_by);
    }
}

/* A copy of what is left of the route: a dead-letter queue that is made meanwhile makes all routes be
 * forgotten. There is room for as many behind it. NULL: no memory, and the client was told. */
static struct bus_queue **queues_left(struct pawl_bus *bus, struct pawl_bus_client *client,
                                      const struct pawl_submit *submit, const struct bus_route *route,
                                      const struct bus_origin *origin, uint32_t *count_out)
{
    uint64_t event_id;
    struct bus_queue **queues = malloc(2 * (size_t)route->queue_count * sizeof(struct bus_queue *));
    *count_out = 0;
    if (!queues)
        bus_refuse(bus, client, submit->sequence, submit->sequence, -ENOMEM, 0);
    for (uint32_t i = 0; queues && i < route->queue_count; i++)
        if (!origin->event_id ||
            !pawl_publishers_has_part(&bus->publishers, origin->publisher, origin->sequence,
                                      route->queues[i]->number, &event_id))
            queues[(*count_out)++] = route->queues[i];
    return queues;
}

void bus_publish_singly(struct pawl_bus *bus, struct pawl_bus_client *client,
                        const struct pawl_submit *submit, struct pawl_event *event,
                        const struct bus_route *route)
{
    uint32_t count;
    const struct bus_origin own = {.publisher = client->publisher, .sequence = submit->sequence};
    struct bus_queue **queues = queues_left(bus, client, submit, route, &own, &count);
    if (!queues)
        return;
    bus_group_flush(bus);
    event->id = bus->next_event++;
    event->published_at_ns = bus->now.realtime_ns;
    publish_to_some(bus, client, submit, event, &own, queues, count);
    free(queues);
}

void bus_publish_rest(struct pawl_bus *bus, struct pawl_bus_client *client, const struct pawl_submit *submit,
                      struct pawl_event *event, const struct bus_route *route,
                      const struct bus_origin *origin)
{
    uint32_t count, full;
    bus_group_flush(bus);
    struct bus_parked_publish *publish = bus_parked_find(bus, origin, &full);
    if (publish && !publish->client) {
        bus_parked_adopt(bus, publish, client, submit->sequence);
        return;
    }
    if (publish) { /* somebody else waits with it */
        bus_refuse(bus, client, submit->sequence, submit->sequence, PAWL_E_QUEUE_FULL, full);
        return;
    }
    bool memory = bus_strongest_of(route, submit->durability) == PAWL_DURABILITY_MEMORY;
    struct bus_queue **queues = queues_left(bus, client, submit, route, origin, &count);
    if (!queues)
        return;
    event->id = origin->event_id;
    event->published_at_ns = bus->now.realtime_ns;
    if (count > 0) {
        publish_to_some(bus, client, submit, event, origin, queues, count);
    } else { /* those that it waited for are gone */
        bus_note_published(bus, origin->publisher, origin->sequence, 0, origin->event_id,
                           memory ? 0 : bus->log_lsn, false);
        bus_confirm_duplicate(bus, client, submit->sequence, origin->event_id, memory);
    }
    free(queues);
}
