/*
 * parking.c - publishes that wait for room: one stands in the line of each queue of policy "block" that is
 * full.
 *
 * Runs in: scheduler. What waits lies in memory only and is not confirmed. It is bounded for each client, and
 * for those together whose clients went.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

#define DISK_AGAIN_NS UINT64_C(1000000000)

/* One queue fewer is waited for. The last one answers the publisher. What only was dropped lies nowhere. */
static void parked_done(struct pawl_bus *bus, struct bus_parked_publish *publish, int error, uint32_t queue)
{
    struct pawl_bus_client *client = bus->replaying ? NULL : publish->client; /* the bus may be ending */
    uint64_t sequence = publish->sequence, noted = publish->submit.sequence;
    bool kept = publish->routed > 0 || (publish->gone && !publish->duplicate_of);
    if (error && client && (kept || publish->waiting > 1))
        bus_partial(bus, client, sequence, queue, error);
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
        if (kept) {
            if (error) /* what this one queue did not take it will not get, now that the others have it */
                bus_note_published(bus, publish->publisher, noted, 0, publish->event->id, publish->lsn,
                                   false);
            struct pawl_reply reply = {.type = PAWL_REPLY_CONFIRM,
                                       .first = sequence,
                                       .last = sequence,
                                       .event_id =
                                           publish->routed || publish->buried ? publish->event->id : 0,
                                       .durability = publish->durability,
                                       .routed = publish->routed};
            bus_reply_durable(bus, client, &reply, publish->lsn);
        } else if (publish->duplicate_of) {
            bus_note_published(bus, publish->publisher, noted, 0, publish->duplicate_of,
                               publish->duplicate_in_memory ? 0 : bus->log_lsn, false);
            bus_confirm_duplicate(bus, client, sequence, publish->duplicate_of, publish->duplicate_in_memory);
        } else {
            bus_refuse(bus, client, sequence, sequence, error ? error : PAWL_E_QUEUE_FULL, queue);
        }
    }
    free(publish->event);
    free(publish);
}

int bus_park(struct pawl_bus *bus, struct pawl_bus_client *client, const struct pawl_submit *submit,
             const struct pawl_event *event, const struct bus_origin *origin, struct bus_queue **queues,
             uint32_t count, struct bus_parked_publish **publish_out)
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
    publish->publisher = origin->publisher;
    publish->submit = *submit;
    publish->submit.sequence = origin->sequence;
    publish->sequence = submit->sequence;
    publish->event = copy;
    publish->parked_at_ns = bus->now.boottime_ns;
    publish->delay_ns = event->delay_ns;
    for (uint32_t i = 0; i < count; i++) {
        struct bus_parked *parked = first;
        first = parked->next;
        parked->next = NULL;
        *queues[i]->parked_tail = parked;
        queues[i]->parked_tail = &parked->next;
    }
    client->parked_count++;
    client->parked_bytes += event->bytes;
    if (!client->told_full) /* once: it may be so all the time, and is how it is meant to be */
        bus_tell(bus, client, "queue %s is full (overflow: block): what it does not take waits for room",
                 queues[0]->name);
    client->told_full = true;
    *publish_out = publish;
    return 0;
}

void bus_parked_stored(const struct pawl_bus *bus, struct bus_parked_publish *publish, uint32_t queues,
                       uint8_t durability)
{
    publish->routed += queues;
    if (durability > publish->durability)
        publish->durability = durability;
    if (durability == PAWL_DURABILITY_FSYNC)
        publish->lsn = bus->group.lsn;
}

/* While it waited, another with its key was stored: in this queue, too? */
static bool is_duplicate_by_now(struct pawl_bus *bus, const struct bus_queue *queue,
                                struct bus_parked_publish *publish)
{
    const struct pawl_event *event = publish->event;
    struct bus_origin other;
    if (event->key_bytes == 0 || bus->limits.dedupe_keys == 0 || bus->limits.dedupe_age_ns == 0)
        return false;
    const struct pawl_dedupe_entry *entry =
        pawl_dedupe_find(&bus->dedupe, bus_event_key(event), bus->now.realtime_ns);
    if (!entry || entry->event_id == event->id)
        return false;
    if (pawl_publishers_part_of(&bus->publishers, entry->event_id, &other.publisher, &other.sequence) &&
        !pawl_publishers_has_part(&bus->publishers, other.publisher, other.sequence, queue->number,
                                  &other.event_id))
        return false;
    publish->duplicate_of = entry->event_id;
    publish->duplicate_in_memory = entry->memory;
    return true;
}

/* Into a queue that has room now. 0, or why not. */
static int store(struct pawl_bus *bus, struct bus_queue *queue, struct bus_parked_publish *publish)
{
    struct bus_queue *one[1] = {queue};
    struct bus_route route = {.queues = one, .queue_count = 1};
    uint64_t tail = queue->tail, sequence = publish->submit.sequence;
    bool last = publish->waiting == 1;
    if (bus_group_open(bus, &route, NULL, sequence, publish->submit.durability) < 0)
        return -ENOMEM;
    bus->group.publisher = last ? publish->publisher : 0;
    uint64_t waited_ns = bus->now.boottime_ns - publish->parked_at_ns;
    publish->event->delay_ns = publish->delay_ns > waited_ns ? publish->delay_ns - waited_ns : 0;
    bus_group_add_as(bus, publish->event, publish->event->id, publish->event->published_at_ns);
    bus_group_flush(bus);
    if (queue->tail == tail)
        return PAWL_E_NO_SPACE;
    bus_parked_stored(bus, publish, 1, bus_weaker(publish->submit.durability, queue->config.durability));
    if (!last)
        bus_note_published(bus, publish->publisher, sequence, queue->number, publish->event->id,
                           bus->group.lsn, bus->group.lsn != 0);
    return 0;
}

/* False: it waits on, for a full disk, and is looked at again. */
static bool disk_takes(struct pawl_bus *bus, struct bus_queue *queue,
                       const struct bus_parked_publish *publish)
{
    uint8_t durability = bus_weaker(publish->submit.durability, queue->config.durability);
    if (bus_disk_takes(bus, durability, publish->event->bytes))
        return true;
    if (!queue->unpark_at_ns) {
        queue->unpark_at_ns = bus->now.boottime_ns + DISK_AGAIN_NS;
        bus_timer(bus, queue->unpark_at_ns, BUS_TIMER_PARKED, 0, queue->number);
    }
    return false;
}

void bus_unpark(struct pawl_bus *bus, struct bus_queue *queue)
{
    while (queue->parked && !bus->failed) {
        struct bus_parked *parked = queue->parked;
        struct bus_parked_publish *publish = parked->publish;
        bool never = bus_queue_never_fits(queue, publish->event->bytes); /* its limit was lowered */
        if (!never && (bus_queue_is_full(queue, publish->event->bytes) || !disk_takes(bus, queue, publish)))
            return;
        queue->parked = parked->next;
        if (!queue->parked)
            queue->parked_tail = &queue->parked;
        free(parked);
        bus_group_flush(bus);
        bus_cut(bus);
        int error = is_duplicate_by_now(bus, queue, publish) ? 0
                    : never                                  ? PAWL_E_LIMIT
                                                             : store(bus, queue, publish);
        if (error == PAWL_E_LIMIT && queue->row)
            pawl_metrics_row_add(queue->row, PAWL_QUEUE_REFUSED, 1);
        parked_done(bus, publish, error, queue->number);
    }
}

/* The queue is done with it, and does not have it. */
static void let_go(struct pawl_bus *bus, const struct bus_queue *queue, struct bus_parked_publish *publish,
                   bool buried)
{
    uint64_t lsn = buried ? bus->group.lsn : 0;
    publish->gone = true;
    publish->buried |= buried;
    if (lsn) {
        publish->lsn = lsn;
        publish->durability = PAWL_DURABILITY_FSYNC;
    } else if (publish->durability == PAWL_DURABILITY_DEFAULT) {
        publish->durability = PAWL_DURABILITY_MEMORY;
    }
    if (publish->waiting == 1)
        bus_note_published(bus, publish->publisher, publish->submit.sequence, 0, publish->event->id,
                           publish->lsn, publish->lsn != 0);
    else
        bus_note_published(bus, publish->publisher, publish->submit.sequence, queue->number,
                           publish->event->id, lsn, lsn != 0);
}

/* 0, or why the queue does not have it. */
static int end_wait(struct pawl_bus *bus, struct bus_queue *queue, struct bus_parked_publish *publish,
                    enum bus_fate fate)
{
    switch (fate) {
    case BUS_FATE_TAKEN:
        return store(bus, queue, publish);
    case BUS_FATE_DROPPED:
    case BUS_FATE_BURIED:
        let_go(bus, queue, publish, fate == BUS_FATE_BURIED);
        return 0;
    case BUS_FATE_TOO_LARGE:
        return PAWL_E_LIMIT;
    case BUS_FATE_WAITS:
    case BUS_FATE_REFUSED:
        break;
    }
    return PAWL_E_QUEUE_FULL;
}

void bus_parked_decide(struct pawl_bus *bus, struct bus_queue *queue)
{
    struct bus_parked *all = queue->parked;
    queue->parked = NULL;
    queue->parked_tail = &queue->parked;
    while (all) {
        struct bus_parked *parked = all;
        struct bus_parked_publish *publish = parked->publish;
        all = parked->next;
        parked->next = NULL;
        bus_group_flush(bus);
        bus_cut(bus);
        bus->group.lsn = 0;
        bool duplicate = is_duplicate_by_now(bus, queue, publish);
        enum bus_fate fate = duplicate ? BUS_FATE_DROPPED : bus_admit(bus, queue, publish->event);
        bool waits = fate == BUS_FATE_WAITS || (fate == BUS_FATE_TAKEN && !disk_takes(bus, queue, publish));
        if (waits || bus->failed) {
            *queue->parked_tail = parked;
            queue->parked_tail = &parked->next;
            continue;
        }
        int error = duplicate ? 0 : end_wait(bus, queue, publish, fate);
        free(parked);
        parked_done(bus, publish, error, queue->number);
    }
}

struct bus_parked_publish *bus_parked_find(const struct pawl_bus *bus, const struct bus_origin *origin,
                                           uint32_t *queue_out)
{
    for (uint32_t i = 0; i < bus->queue_end; i++)
        for (const struct bus_parked *parked = bus->queues[i] ? bus->queues[i]->parked : NULL; parked;
             parked = parked->next)
            if (parked->publish->publisher == origin->publisher &&
                parked->publish->submit.sequence == origin->sequence) {
                *queue_out = i;
                return parked->publish;
            }
    return NULL;
}

void bus_parked_adopt(struct pawl_bus *bus, struct bus_parked_publish *publish,
                      struct pawl_bus_client *client, uint64_t sequence)
{
    publish->client = client;
    publish->sequence = sequence;
    client->parked_count++;
    client->parked_bytes += publish->event->bytes;
    bus->orphans--;
    bus->orphan_bytes -= publish->event->bytes;
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
    return (!client->publisher || publish->routed > 0 || publish->gone) && bus->orphans < BUS_PARKED_MAX &&
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
    client->parked_count = 0;
    client->parked_bytes = 0;
}
