/*
 * bus_oracle.c - the rules that deliveries, settlements and crashes are judged by.
 */
#include "tests/sim/bus_oracle.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "scheduler/bus/state.h"

void oracle_fini(struct oracle *oracle)
{
    free(oracle->events);
    free(oracle->seen);
}

void oracle_fail(struct oracle *oracle, const char *format, ...)
{
    va_list arguments;
    if (oracle->wrong[0])
        return;
    va_start(arguments, format);
    vsnprintf(oracle->wrong, sizeof oracle->wrong, format, arguments);
    va_end(arguments);
}

/* ---- events ---- */

size_t oracle_event(struct oracle *oracle, uint32_t topic, uint32_t bytes, uint8_t durability, uint32_t key)
{
    if (oracle->event_count == oracle->event_room) {
        oracle->event_room = oracle->event_room ? oracle->event_room * 2 : 256;
        oracle->events = realloc(oracle->events, oracle->event_room * sizeof *oracle->events);
        if (!oracle->events)
            abort();
    }
    struct oracle_event *event = &oracle->events[oracle->event_count];
    *event = (struct oracle_event){.topic = topic,
                                   .bytes = bytes,
                                   .durability = durability,
                                   .key = key,
                                   .after_lsn = oracle->memory->record_count,
                                   .published = {oracle->memory->now, oracle->memory->boot}};
    for (uint32_t i = 0; i < oracle->queue_count; i++)
        if (oracle->queues[i].topics & 1u << topic)
            event->queues |= 1u << i;
    return oracle->event_count++;
}

void oracle_data(const struct oracle *oracle, size_t event, char *data)
{
    uint32_t bytes = oracle->events[event].bytes;
    int used = snprintf(data, 24, "%zu:", event);
    for (uint32_t i = (uint32_t)used; i < bytes; i++)
        data[i] = (char)(32 + (event * 31 + i * 7) % 90);
}

static struct oracle_event *event_of(struct oracle *oracle, const struct pawl_event *event)
{
    char expected[ORACLE_DATA_MAX + 32];
    const char *data = pawl_event_data(event);
    char *end;
    if (event->data_bytes == 0) {
        oracle_fail(oracle, "an event without data was never published");
        return NULL;
    }
    size_t number = strtoul(data, &end, 10);
    if (number >= oracle->event_count) {
        oracle_fail(oracle, "event %zu was never published", number);
        return NULL;
    }
    oracle_data(oracle, number, expected);
    struct oracle_event *known = &oracle->events[number];
    if (known->bytes != event->data_bytes || memcmp(expected, data, known->bytes) != 0) {
        oracle_fail(oracle, "event %zu has other bytes than were published", number);
        return NULL;
    }
    return known;
}

static int queue_of(const struct oracle *oracle, uint32_t number)
{
    for (uint32_t i = 0; i < oracle->queue_count; i++)
        if (oracle->queues[i].number == number)
            return (int)i;
    return -1;
}

/* ---- deliveries ---- */

/* An older one of its key is on its way still, in this life of the scheduler? */
static void check_key(struct oracle *oracle, int q, uint64_t seq, uint32_t key)
{
    const struct bus_sub *sub = oracle->memory->bus->queues[oracle->queues[q].number]->sub;
    for (size_t i = 0; i < oracle->event_count; i++) {
        const struct oracle_event *other = &oracle->events[i];
        const struct oracle_fate *fate = &other->fates[q][0];
        if (other->key != key || fate->seq == 0 || fate->seq == seq || fate->epoch != oracle->memory->epoch ||
            fate->settled_lsn || fate->excused || pawl_seqset_has(&sub->settled, fate->seq))
            continue;
        oracle_fail(oracle, "queue %s: seq %" PRIu64 " of key %u is out while seq %" PRIu64 " is",
                    oracle->queues[q].name, seq, key, fate->seq);
    }
}

/* Whatever the wall clock was set to; of what it showed in another boot nobody knows better. */
static bool is_early(const struct oracle *oracle, const struct oracle_event *event)
{
    const struct memory *memory = oracle->memory;
    return event->published.boot == memory->boot && !event->again &&
           memory->now.boottime_ns - event->published.now.boottime_ns < event->delay_ns;
}

bool oracle_delivery(struct oracle *oracle, const struct pawl_inbound_entry *entry,
                     const struct pawl_event *event, uint32_t group)
{
    struct memory *memory = oracle->memory;
    struct oracle_event *known = event_of(oracle, event);
    int q = queue_of(oracle, entry->queue);
    size_t bytes;
    if (!known)
        return false;
    if (q < 0) {
        if (!pawl_event_header_find(event, "pawl-dead-queue", 15, &bytes))
            oracle_fail(oracle, "a dead letter does not say where it died");
        known->buried = true;
        return false;
    }
    const struct oracle_queue *queue = &oracle->queues[q];
    struct oracle_fate *fate = &known->fates[q][group];
    size_t number = (size_t)(known - oracle->events);
    if (!(known->queues & 1u << q))
        oracle_fail(oracle, "event %zu came to queue %s, which does not want it", number, queue->name);
    if (fate->seq && fate->seq != entry->seq && !known->again && queue->fsync)
        oracle_fail(oracle, "event %zu is twice in queue %s: seqs %" PRIu64 " and %" PRIu64, number,
                    queue->name, fate->seq, entry->seq);
    if (fate->settled_lsn && fate->seq == entry->seq)
        oracle_fail(oracle, "event %zu was settled in queue %s/%u (lsn %" PRIu64 ") and comes again", number,
                    queue->name, group, fate->settled_lsn);
    if (queue->fsync && known->durability == PAWL_DURABILITY_DEFAULT && known->after_lsn >= memory->durable)
        oracle_fail(oracle, "event %zu was delivered by queue %s before it was durable", number, queue->name);
    if (fate->seq == entry->seq && fate->attempt && entry->attempt <= fate->attempt &&
        (fate->epoch == memory->epoch || fate->begun_lsn))
        oracle_fail(oracle,
                    "event %zu (seq %" PRIu64
                    ") in queue %s/%u: attempt %u after %u, which began by lsn %" PRIu64,
                    number, entry->seq, queue->name, group, entry->attempt, fate->attempt, fate->begun_lsn);
    if (!queue->stream && is_early(oracle, known))
        oracle_fail(oracle, "event %zu came from queue %s before its delay was over", number, queue->name);
    if (queue->keyed && known->key)
        check_key(oracle, q, entry->seq, known->key);
    if (fate->seq != entry->seq)
        *fate = (struct oracle_fate){.seq = entry->seq};
    fate->epoch = memory->epoch;
    return true;
}

void oracle_deliveries(struct oracle *oracle)
{
    for (uint32_t i = 0; i < MEMORY_CLIENTS_MAX; i++) {
        struct memory_client *client = &oracle->memory->clients[i];
        for (size_t n = client->delivery_count; n > 0 && !client->deliveries[n - 1].judged; n--) {
            struct memory_delivery *delivery = &client->deliveries[n - 1];
            delivery->judged = true;
            if (oracle->verbose)
                fprintf(stderr, "  client %u gets %zu: queue %u/%u seq %" PRIu64 " attempt %u\n", i, n - 1,
                        delivery->entry.queue, oracle_group_of(&delivery->entry), delivery->entry.seq,
                        delivery->entry.attempt);
            (void)oracle_delivery(oracle, &delivery->entry, delivery->event,
                                  oracle_group_of(&delivery->entry));
        }
    }
}

static bool first_time(struct oracle *oracle, uint64_t hash)
{
    if (oracle->seen_count * 2 >= oracle->seen_room) {
        size_t room = oracle->seen_room ? oracle->seen_room * 2 : 1024, before = oracle->seen_room;
        uint64_t *old = oracle->seen;
        oracle->seen = calloc(room, sizeof *oracle->seen);
        if (!oracle->seen)
            abort();
        oracle->seen_room = room;
        oracle->seen_count = 0;
        for (size_t i = 0; i < before; i++)
            if (old[i])
                (void)first_time(oracle, old[i]);
        free(old);
    }
    size_t at = hash & (oracle->seen_room - 1);
    for (; oracle->seen[at]; at = (at + 1) & (oracle->seen_room - 1))
        if (oracle->seen[at] == hash)
            return false;
    oracle->seen[at] = hash;
    oracle->seen_count++;
    return true;
}

void oracle_begun(struct oracle *oracle, const struct pawl_inbound_entry *entry,
                  const struct pawl_event *event, uint32_t group)
{
    int q = queue_of(oracle, entry->queue);
    const uint64_t words[] = {entry->queue, group, entry->seq, entry->attempt, entry->epoch};
    if (!first_time(oracle, XXH3_64bits(words, sizeof words) | 1))
        oracle_fail(oracle, "queue %u seq %" PRIu64 " attempt %u was given to two handlers", entry->queue,
                    entry->seq, entry->attempt);
    struct oracle_event *known = q < 0 ? NULL : event_of(oracle, event);
    if (!known)
        return;
    struct oracle_fate *fate = &known->fates[q][group];
    if (fate->seq == entry->seq && entry->attempt > fate->attempt) {
        fate->attempt = entry->attempt;
        fate->begun_lsn = 0;
    }
}

void oracle_settled(struct oracle *oracle, const struct pawl_inbound_entry *entry,
                    const struct pawl_event *event, uint32_t group)
{
    int q = queue_of(oracle, entry->queue);
    struct oracle_event *known = q < 0 ? NULL : event_of(oracle, event);
    if (known && known->fates[q][group].seq == entry->seq)
        known->fates[q][group].settled_lsn = UINT64_MAX; /* until it is flushed */
}

void oracle_released(struct oracle *oracle, const struct pawl_inbound_entry *entry,
                     const struct pawl_event *event, uint32_t group)
{
    int q = queue_of(oracle, entry->queue);
    struct oracle_event *known = q < 0 ? NULL : event_of(oracle, event);
    if (known && !known->fates[q][group].begun_lsn)
        known->fates[q][group].attempt = 0;
}

void oracle_excuse(struct oracle *oracle, uint32_t queue, uint32_t group)
{
    for (size_t i = 0; i < oracle->event_count; i++)
        oracle->events[i].fates[queue][group].excused = true;
}

void oracle_sought(struct oracle *oracle, uint32_t queue, uint32_t group)
{
    for (size_t i = 0; i < oracle->event_count; i++)
        oracle->events[i].fates[queue][group] = (struct oracle_fate){.excused = true};
}

void oracle_flushed(struct oracle *oracle)
{
    uint64_t lsn = oracle->memory->record_count;
    for (size_t i = 0; i < oracle->event_count; i++)
        for (uint32_t q = 0; q < oracle->queue_count; q++)
            for (uint32_t g = 0; g <= oracle->queues[q].groups; g++) {
                struct oracle_fate *fate = &oracle->events[i].fates[q][g];
                if (fate->settled_lsn == UINT64_MAX)
                    fate->settled_lsn = lsn;
                if (fate->attempt && !fate->begun_lsn)
                    fate->begun_lsn = lsn;
            }
}

void oracle_crashed(struct oracle *oracle, uint64_t kept_lsn)
{
    for (size_t i = 0; i < oracle->event_count; i++)
        if (oracle->events[i].after_lsn > kept_lsn)
            oracle->events[i].after_lsn = kept_lsn; /* if it is there again, then beyond that */
    for (size_t i = 0; i < oracle->event_count; i++)
        for (uint32_t q = 0; q < oracle->queue_count; q++)
            for (uint32_t g = 0; g <= oracle->queues[q].groups; g++) {
                struct oracle_fate *fate = &oracle->events[i].fates[q][g];
                if (fate->settled_lsn > kept_lsn)
                    fate->settled_lsn = 0;
                if (fate->begun_lsn > kept_lsn || !oracle->queues[q].fsync)
                    fate->attempt = 0; /* nobody knows of it any more */
                if (!fate->begun_lsn)
                    fate->attempt = 0;
                if (!oracle->queues[q].fsync || oracle->events[i].durability == PAWL_DURABILITY_MEMORY)
                    *fate = (struct oracle_fate){.excused = true};
            }
}

/* ---- counted again ---- */

static void recount_sub(struct oracle *oracle, const struct bus_queue *queue, const struct bus_sub *sub)
{
    const struct pawl_bus *bus = oracle->memory->bus;
    size_t cursor = 0, in_state[EXCEPTION_STATES] = {0}, heap = 0;
    uint64_t in_flight = 0;
    const struct exception *exception;
    while ((exception = exceptions_next(&sub->exceptions, &cursor))) {
        in_state[exception->state]++;
        heap += exception->heap_index != EXCEPTION_NOT_IN_HEAP;
        in_flight += exception->state == EXCEPTION_DETACHED;
        if (pawl_seqset_has(&sub->settled, exception->seq))
            oracle_fail(oracle, "queue %s/%u: seq %" PRIu64 " is settled and remembered, state %u",
                        queue->name, sub->group, exception->seq, exception->state);
        if ((exception->heap_index != EXCEPTION_NOT_IN_HEAP) !=
            (exception->state == EXCEPTION_READY || exception->state == EXCEPTION_GRANTED))
            oracle_fail(oracle, "queue %s: seq %" PRIu64 " in state %u %s the heap", queue->name,
                        exception->seq, exception->state,
                        exception->heap_index == EXCEPTION_NOT_IN_HEAP ? "is not in" : "is in");
    }
    for (uint32_t i = 0; i < bus->client_room; i++)
        for (uint64_t n = bus->clients[i] ? bus->clients[i]->held_first : 0;
             bus->clients[i] && n < bus->clients[i]->held_next; n++)
            in_flight += bus_held_at(bus->clients[i], n)->sub == sub;
    if (memcmp(in_state, sub->exceptions.in_state, sizeof in_state) != 0 ||
        in_state[EXCEPTION_KEYED] != sub->exceptions.waiting || heap != sub->exceptions.heap_count)
        oracle_fail(oracle, "queue %s/%u: exceptions are counted wrongly", queue->name, sub->group);
    if (in_flight != sub->in_flight)
        oracle_fail(oracle, "queue %s/%u: %" PRIu64 " in flight, but it says %" PRIu64, queue->name,
                    sub->group, in_flight, sub->in_flight);
}

static void recount_queue(struct oracle *oracle, const struct bus_queue *queue)
{
    uint64_t unsettled = 0, live = 0, bytes = 0, from, first, last;
    if (queue->sub) {
        recount_sub(oracle, queue, queue->sub);
        for (from = pawl_seqset_head(&queue->sub->settled);
             pawl_seqset_range(&queue->sub->settled, from, queue->tail, false, &first, &last);
             from = last + 1)
            unsettled += last - first + 1;
    }
    for (uint32_t i = 0; i < queue->group_count; i++)
        if (queue->groups[i])
            recount_sub(oracle, queue, queue->groups[i]);
    for (size_t i = 0; i < queue->backlog.count; i++) {
        live += backlog_extent(&queue->backlog, i)->live;
        bytes += backlog_extent(&queue->backlog, i)->live_bytes;
    }
    if (queue->depth != live || queue->bytes != bytes || (queue->sub && unsettled != live))
        oracle_fail(oracle,
                    "queue %s: depth %" PRIu64 " of %" PRIu64 " live, %" PRIu64 " unsettled; bytes %" PRIu64
                    " of %" PRIu64,
                    queue->name, queue->depth, live, unsettled, queue->bytes, bytes);
    if (queue->pending_depth || queue->pending_bytes)
        oracle_fail(oracle, "queue %s: something is pending after a flush", queue->name);
}

void oracle_recount(struct oracle *oracle)
{
    const struct pawl_bus *bus = oracle->memory->bus;
    uint64_t in_flight = 0;
    for (uint32_t i = 0; i < bus->queue_end; i++) {
        const struct bus_queue *queue = bus->queues[i];
        if (!queue)
            continue;
        recount_queue(oracle, queue);
        in_flight += queue->sub ? queue->sub->in_flight : 0;
        for (uint32_t g = 0; g < queue->group_count; g++)
            in_flight += queue->groups[g] ? queue->groups[g]->in_flight : 0;
    }
    if (in_flight != bus->in_flight)
        oracle_fail(oracle, "%" PRIu64 " are in flight, but the bus says %" PRIu64, in_flight,
                    bus->in_flight);
    if (bus->failed)
        oracle_fail(oracle, "the bus has failed: %s", oracle->memory->logged);
}

void oracle_end(struct oracle *oracle)
{
    for (size_t i = 0; i < oracle->event_count; i++) {
        const struct oracle_event *event = &oracle->events[i];
        if (!event->confirmed || event->buried)
            continue;
        for (uint32_t q = 0; q < oracle->queue_count; q++) {
            const struct oracle_queue *queue = &oracle->queues[q];
            if (!(event->queues & 1u << q) || !queue->fsync || queue->lossy)
                continue;
            for (uint32_t g = queue->stream ? 1 : 0; g <= queue->groups; g++)
                if (!event->fates[q][g].settled_lsn && !event->fates[q][g].excused)
                    oracle_fail(oracle, "event %zu was confirmed for queue %s/%u and never came", i,
                                queue->name, g);
        }
    }
}
