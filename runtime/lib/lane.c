/*
 * lane.c - one attachment: both segments, what comes in by them, and what keeps them mapped.
 *
 * Runs in: the program that uses pawl.h. Deliveries are read where they lie; their bytes go back in order,
 * once all before them are settled.
 */
#include "runtime/lib/lib.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/doorbell.h"
#include "shm/error.h"

enum { SLOTS_FIRST = 256, SLAB_DELIVERIES = 64, REPLIES_A_BELL = PAWL_REPLY_ENTRIES / 4 };

int pawl_lib_lane_open(struct pawl *pawl, int fds[4], uint64_t epoch, struct pawl_lib_lane **lane_out)
{
    struct pawl_lib_lane *lane = calloc(1, sizeof *lane);
    int error = -ENOMEM;
    if (!lane)
        return error;
    lane->slots = calloc(SLOTS_FIRST, sizeof(struct pawl_lib_delivery *));
    if (!lane->slots)
        goto free_lane;
    int self_fd = pawl_doorbell_open();
    error = self_fd < 0 ? self_fd : pawl_client_end_attach(fds[0], fds[1], &lane->end);
    if (error) {
        if (self_fd >= 0)
            close(self_fd);
        goto free_lane;
    }
    lane->pawl = pawl;
    lane->slot_mask = SLOTS_FIRST - 1;
    lane->scheduler_fd = fds[2];
    lane->own_fd = fds[3];
    lane->self_fd = self_fd;
    lane->epoch = epoch;
    lane->number_base = pawl->numbers;
    lane->consumed = lane->consumed_told = lane->end.inbound_position;
    fds[0] = fds[1] = fds[2] = fds[3] = -1;
    *lane_out = lane;
    return 0;
free_lane:
    free(lane->slots);
    free(lane);
    return error;
}

void pawl_lib_lane_close(struct pawl_lib_lane *lane)
{
    if (lane->pawl->forks == pawl_lib_forks()) {
        pawl_client_end_detach(&lane->end);
    } else {
        /* A forked child: the mappings were not inherited, the descriptors were. */
        close(lane->end.lane_segment.fd);
        close(lane->end.inbound_segment.fd);
    }
    close(lane->scheduler_fd);
    close(lane->own_fd);
    close(lane->self_fd);
    free(lane->slots);
    free(lane);
}

static void unmap_if_unused(struct pawl_lib_lane *lane)
{
    if (!lane->gone || lane->held > 0)
        return;
    for (struct pawl_lib_lane **at = &lane->pawl->old_lanes; *at; at = &(*at)->next)
        if (*at == lane) {
            *at = lane->next;
            break;
        }
    pawl_lib_lane_close(lane);
}

void pawl_lib_lane_drop(struct pawl_lib_lane *lane)
{
    lane->held--;
    unmap_if_unused(lane);
}

static void free_delivery(struct pawl *pawl, struct pawl_lib_delivery *delivery)
{
    delivery->state = PAWL_LIB_FREE;
    delivery->lane = NULL;
    delivery->next = pawl->free_deliveries;
    pawl->free_deliveries = delivery;
}

/* What was handed out stays readable, and settles as stale; the rest is forgotten. */
void pawl_lib_lane_lose(struct pawl_lib_lane *lane)
{
    struct pawl *pawl = lane->pawl;
    lane->gone = true;
    lane->has_pending = false;
    for (uint64_t number = lane->head; number != lane->tail; number++) {
        struct pawl_lib_delivery *delivery = lane->slots[number & lane->slot_mask];
        if (delivery->state != PAWL_LIB_HANDED)
            free_delivery(pawl, delivery);
    }
    lane->head = lane->tail;
    lane->next = pawl->old_lanes;
    pawl->old_lanes = lane;
    unmap_if_unused(lane);
}

/* ---- replies ---- */

static void late(struct pawl *pawl, const struct pawl_reply *reply)
{
    uint64_t base = pawl->lane->number_base;
    if (reply->error != PAWL_E_STALE_RECEIPT)
        return; /* of an act that was refused for its events: its caller is told, and has the delivery still
                 */
    pawl->late += reply->last - reply->first + 1;
    pawl_late_callback callback = pawl->on_late;
    for (uint64_t number = reply->first; callback && number <= reply->last; number++)
        callback(pawl->late_context, base + number, reply->error);
}

size_t pawl_lib_take_in_replies(struct pawl *pawl)
{
    size_t count = 0;
    struct pawl_reply reply;
    int got = 0;
    while (pawl->lane && (got = pawl_client_end_reply(&pawl->lane->end, &reply)) > 0) {
        count++;
        /* The scheduler may sleep with more than the ring holds. It was full then: one of these comes after.
         */
        if (pawl->lane->end.reply_position % REPLIES_A_BELL == 0)
            pawl_doorbell_ring(&pawl->lane->end.inbound->sleeping, pawl->lane->scheduler_fd); /* D1 */
        pawl->happened++;
        if (reply.first > reply.last || (reply.type == PAWL_REPLY_LATE && reply.last >= pawl->lane->tail)) {
            got = PAWL_E_BAD_MESSAGE;
            break;
        }
        if (reply.type == PAWL_REPLY_LATE)
            late(pawl, &reply);
        else if (reply.type == PAWL_REPLY_GONE)
            pawl_lib_consumer_gone(pawl, reply.first, reply.error);
        else
            pawl_lib_confirm(pawl, &reply);
    }
    if (got < 0)
        pawl_lib_lost(pawl);
    return count;
}

/* ---- deliveries ---- */

static struct pawl_lib_delivery *new_delivery(struct pawl *pawl)
{
    if (!pawl->free_deliveries) {
        struct pawl_lib_delivery *slab = calloc(SLAB_DELIVERIES, sizeof *slab);
        void **slabs = slab ? realloc(pawl->slabs, (pawl->slab_count + 1) * sizeof *slabs) : NULL;
        if (!slabs) {
            free(slab);
            return NULL;
        }
        pawl->slabs = slabs;
        pawl->slabs[pawl->slab_count++] = slab;
        for (unsigned i = 0; i < SLAB_DELIVERIES; i++) {
            slab[i].pawl = pawl;
            free_delivery(pawl, &slab[i]);
        }
    }
    struct pawl_lib_delivery *delivery = pawl->free_deliveries;
    pawl->free_deliveries = delivery->next;
    return delivery;
}

static bool grow_slots(struct pawl_lib_lane *lane)
{
    uint64_t count = lane->slot_mask + 1;
    struct pawl_lib_delivery **slots = calloc(count * 2, sizeof(struct pawl_lib_delivery *));
    if (!slots)
        return false;
    for (uint64_t number = lane->head; number != lane->tail; number++)
        slots[number & (count * 2 - 1)] = lane->slots[number & lane->slot_mask];
    free(lane->slots);
    lane->slots = slots;
    lane->slot_mask = count * 2 - 1;
    return true;
}

static struct pawl_consumer *find_consumer(const struct pawl *pawl, uint32_t number)
{
    struct pawl_consumer *consumer = pawl->consumers;
    while (consumer && consumer->number != number)
        consumer = consumer->next;
    return consumer;
}

static void show(struct pawl_lib_delivery *delivery, const struct pawl_inbound_entry *entry,
                 const struct pawl_event *event, struct pawl_consumer *consumer)
{
    struct pawl_delivery *shown = &delivery->shown;
    const unsigned char *headers = pawl_event_headers(event);
    shown->queue = consumer ? consumer->queue : "";
    shown->topic = pawl_event_topic(event);
    shown->headers = headers;
    shown->headers_bytes = event->headers_bytes;
    shown->data = headers + event->headers_bytes;
    shown->data_bytes = event->data_bytes;
    shown->event_id = event->id;
    shown->seq = entry->seq;
    shown->epoch = entry->epoch;
    shown->attempt = entry->attempt;
    shown->failures = entry->failures;
    shown->published_at_ns = event->published_at_ns;
    shown->priority = event->priority;
    shown->number = delivery->lane->number_base + entry->number;
    shown->consumer = consumer;
    shown->reserved = delivery; /* how a delivery of a lane is told from a detached one */
    delivery->number = entry->number;
    delivery->auto_ack = entry->ack_wait_ns == 0;
}

/* The parts of an event lie within it; the scheduler is trusted with what they say. */
static bool event_holds(const struct pawl_event *event)
{
    uint64_t bytes = sizeof *event + (uint64_t)event->topic_bytes + 1 +
                     (event->key_bytes ? event->key_bytes + UINT64_C(1) : 0) + event->headers_bytes +
                     event->data_bytes;
    return bytes <= event->bytes;
}

/* One entry of the ring into its consumer's list. 0, or why the lane is to be left. */
static int take_in(struct pawl *pawl, struct pawl_lib_lane *lane, const struct pawl_inbound_entry *entry,
                   const struct pawl_event *event, uint64_t end_position,
                   const struct pawl_consumer *claiming)
{
    if (entry->number != lane->tail || !event_holds(event))
        return PAWL_E_BAD_MESSAGE;
    if (lane->tail - lane->head > lane->slot_mask && !grow_slots(lane))
        return -ENOMEM;
    struct pawl_lib_delivery *delivery = new_delivery(pawl);
    if (!delivery)
        return -ENOMEM;
    struct pawl_consumer *consumer = pawl->consumers && pawl->consumers->number == entry->consumer
                                         ? pawl->consumers
                                         : find_consumer(pawl, entry->consumer);
    delivery->lane = lane;
    delivery->end_position = end_position;
    delivery->next = NULL;
    show(delivery, entry, event, consumer);
    lane->slots[lane->tail++ & lane->slot_mask] = delivery;
    pawl->numbers++;
    pawl->happened++;
    if (!consumer || consumer->error) {
        /* Its consumer was closed, or its queue deleted: the scheduler has taken it back. */
        delivery->state = PAWL_LIB_SETTLED;
        return 0;
    }
    delivery->state = PAWL_LIB_WAITING;
    if (consumer->last)
        consumer->last->next = delivery;
    else
        consumer->first = delivery;
    consumer->last = delivery;
    consumer->waiting++;
    pawl->unseen |= consumer != claiming;
    return 0;
}

size_t pawl_lib_take_in_deliveries(struct pawl *pawl, struct pawl_consumer *consumer, size_t most)
{
    size_t count = 0;
    struct pawl_lib_lane *lane = pawl->lane;
    const struct pawl_inbound_entry *entry;
    const struct pawl_event *event;
    uint64_t end_position;
    int got = 0;
    if (!lane)
        return 0;
    while (consumer ? consumer->waiting < most : count < most) {
        got = pawl_client_end_delivery(&lane->end, &entry, &event, &end_position);
        if (got <= 0)
            break;
        got = take_in(pawl, lane, entry, event, end_position, consumer);
        if (got < 0)
            break;
        count++;
    }
    if (got < 0)
        pawl_lib_lost(pawl);
    return count;
}

void pawl_lib_mark_begun(struct pawl_lib_lane *lane)
{
    uint64_t begun = lane->begun < lane->head ? lane->head : lane->begun;
    while (begun != lane->tail && lane->slots[begun & lane->slot_mask]->state != PAWL_LIB_WAITING)
        begun++;
    if (begun == lane->begun)
        return;
    lane->begun = begun;
    pawl_client_end_begun(&lane->end, begun); /* C3 */
}

void pawl_lib_give_back(struct pawl_lib_lane *lane)
{
    while (lane->head != lane->tail) {
        struct pawl_lib_delivery *delivery = lane->slots[lane->head & lane->slot_mask];
        if (delivery->state != PAWL_LIB_SETTLED)
            break;
        lane->consumed = delivery->end_position;
        lane->head++;
        free_delivery(lane->pawl, delivery);
    }
}

void pawl_lib_delivery_done(struct pawl_lib_delivery *delivery)
{
    struct pawl_lib_lane *lane = delivery->lane;
    if (delivery->shown.consumer)
        delivery->shown.consumer->handed--;
    delivery->state = PAWL_LIB_SETTLED;
    if (lane->gone)
        free_delivery(lane->pawl, delivery);
    pawl_lib_lane_drop(lane);
}
