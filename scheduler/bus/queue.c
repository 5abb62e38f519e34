/*
 * queue.c - queues and their subscriptions: declared, changed, found, gone.
 *
 * Runs in: scheduler. Pure.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"
#include "shm/log.h"

#define LOST_AT_ONCE_MAX (UINT64_C(1) << 48)

bool bus_name_holds(const char *name)
{
    size_t bytes = strlen(name);
    if (bytes == 0 || bytes > 64 || name[0] == '.' || name[0] == '-')
        return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == bytes;
}

struct bus_queue *bus_queue_at(struct pawl_bus *bus, uint32_t number)
{
    return number < bus->queue_end ? bus->queues[number] : NULL;
}

struct bus_sub *bus_sub_at(struct pawl_bus *bus, uint32_t number, uint32_t group)
{
    struct bus_queue *queue = bus_queue_at(bus, number);
    if (!queue)
        return NULL;
    if (group == 0)
        return queue->sub;
    return group <= queue->group_count ? queue->groups[group - 1] : NULL;
}

struct bus_sub *bus_sub_find(struct bus_queue *queue, const char *group)
{
    if (!queue->config.stream)
        return group[0] ? NULL : queue->sub;
    for (uint32_t i = 0; i < queue->group_count; i++)
        if (queue->groups[i] && strcmp(queue->groups[i]->name, group) == 0)
            return queue->groups[i];
    return NULL;
}

uint64_t bus_queue_first(const struct bus_queue *queue)
{
    uint64_t first = backlog_first(&queue->backlog);
    if (first == UINT64_MAX)
        return queue->tail;
    return first > queue->first_kept ? first : queue->first_kept;
}

int bus_queue_lost(struct bus_queue *queue, uint64_t end)
{
    if (end <= queue->tail)
        return 0;
    if (end - queue->tail > LOST_AT_ONCE_MAX)
        return PAWL_E_DAMAGED;
    if (queue->sub && pawl_seqset_add_range(&queue->sub->settled, queue->tail, end - 1) < 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < queue->group_count; i++)
        if (queue->groups[i] && pawl_seqset_head(&queue->groups[i]->settled) < end &&
            pawl_seqset_add_range(&queue->groups[i]->settled, queue->tail, end - 1) < 0)
            return -ENOMEM;
    queue->tail = end;
    return 0;
}

uint32_t bus_queue_breaker(const struct bus_queue *queue)
{
    uint32_t worst = queue->sub ? queue->sub->breaker.state : PAWL_BREAKER_CLOSED;
    for (uint32_t i = 0; i < queue->group_count; i++)
        if (queue->groups[i] && queue->groups[i]->breaker.state > worst)
            worst = queue->groups[i]->breaker.state;
    return worst;
}

void bus_queue_row(struct bus_queue *queue)
{
    if (!queue->row)
        return;
    uint64_t in_flight = queue->sub ? queue->sub->in_flight : 0;
    uint64_t consumers = queue->sub ? queue->sub->consumer_count : 0;
    for (uint32_t i = 0; i < queue->group_count; i++)
        if (queue->groups[i]) {
            in_flight += queue->groups[i]->in_flight;
            consumers += queue->groups[i]->consumer_count;
        }
    pawl_metrics_row_set(queue->row, PAWL_QUEUE_DEPTH, queue->depth);
    pawl_metrics_row_set(queue->row, PAWL_QUEUE_BYTES, queue->bytes);
    pawl_metrics_row_set(queue->row, PAWL_QUEUE_IN_FLIGHT, in_flight);
    pawl_metrics_row_set(queue->row, PAWL_QUEUE_BREAKER_STATE, bus_queue_breaker(queue));
    pawl_metrics_row_set(queue->row, PAWL_QUEUE_PAUSED, queue->paused);
    pawl_metrics_row_set(queue->row, PAWL_QUEUE_CONSUMERS, consumers);
    pawl_metrics_row_set(queue->row, PAWL_QUEUE_MAX_DEPTH, queue->config.max_depth);
    pawl_metrics_row_set(queue->row, PAWL_QUEUE_MAX_BYTES, queue->config.max_bytes);
    pawl_metrics_row_set(queue->row, PAWL_QUEUE_DLQ_ROW, queue->dlq);
    pawl_metrics_row_set(queue->row, PAWL_QUEUE_IS_DLQ, queue->config.dead_letters);
}

/* ---- subscriptions ---- */

struct bus_sub *bus_sub_create(struct pawl_bus *bus, struct bus_queue *queue, uint32_t group,
                               const char *name, uint64_t from)
{
    struct bus_sub *sub = calloc(1, sizeof *sub);
    if (!sub)
        return NULL;
    sub->queue = queue;
    sub->group = group;
    sub->generation = bus->generation;
    snprintf(sub->name, sizeof sub->name, "%s", name);
    sub->next = from;
    pawl_seqset_init(&sub->settled, from);
    pawl_breaker_init(&sub->breaker, &queue->config.breaker);
    return sub;
}

/* The same seq and attempt may come again under the same name, after a seek or when what was deleted is made
 * anew: within one epoch the generation tells them apart, and old receipts are stale. Between epochs nothing
 * of it is needed. */
uint64_t bus_sub_epoch(const struct pawl_bus *bus, const struct bus_sub *sub)
{
    return (uint64_t)sub->generation << 32 | (uint32_t)bus->epoch;
}

int bus_sub_settle_holes(struct bus_sub *sub)
{
    const struct bus_queue *queue = sub->queue;
    uint64_t seq = pawl_seqset_head(&sub->settled);
    while (seq < queue->tail) {
        uint64_t kept = backlog_next(&queue->backlog, seq);
        uint64_t end = kept == UINT64_MAX || kept > queue->tail ? queue->tail : kept;
        if (end > seq && pawl_seqset_add_range(&sub->settled, seq, end - 1) < 0)
            return -ENOMEM;
        if (kept >= queue->tail)
            break;
        const struct extent *extent = backlog_holding(&queue->backlog, kept);
        seq = extent ? extent->first + extent->count : kept + 1;
    }
    return 0;
}

static void unlink_dirty(struct pawl_bus *bus, struct bus_sub *sub)
{
    if (sub->dirty) {
        struct bus_sub **link = &bus->dirty;
        bus->dirty_tail = NULL;
        while (*link) {
            if (*link == sub)
                *link = sub->next_dirty;
            else {
                bus->dirty_tail = *link;
                link = &(*link)->next_dirty;
            }
        }
    }
    if (sub->gathered)
        for (struct bus_sub **link = &bus->gathered; *link; link = &(*link)->next_gathered)
            if (*link == sub) {
                *link = sub->next_gathered;
                break;
            }
}

void bus_sub_free(struct pawl_bus *bus, struct bus_sub *sub, uint64_t lsn)
{
    bus_sub_revoke_held(bus, sub);
    bus_sub_drop_consumers(bus, sub, lsn);
    unlink_dirty(bus, sub);
    size_t cursor = 0;
    for (const struct exception *exception; (exception = exceptions_next(&sub->exceptions, &cursor));)
        if (exception->state == EXCEPTION_DETACHED && !bus->replaying)
            bus->in_flight--;
    exceptions_fini(&sub->exceptions);
    pawl_seqset_fini(&sub->settled);
    free(sub->acks);
    free(sub);
}

/* ---- queues ---- */

static struct bus_queue *create(struct pawl_bus *bus, uint32_t number, const char *name)
{
    size_t room = bus->queue_room;
    if (bus_grow((void **)&bus->queues, &room, (size_t)number + 1, sizeof(struct bus_queue *)) < 0)
        return NULL;
    if (room > bus->queue_room)
        memset(bus->queues + bus->queue_room, 0, (room - bus->queue_room) * sizeof(struct bus_queue *));
    bus->queue_room = (uint32_t)room;
    struct bus_queue *queue = calloc(1, sizeof *queue);
    if (!queue)
        return NULL;
    queue->number = number;
    snprintf(queue->name, sizeof queue->name, "%s", name);
    queue->tail = queue->visible_tail = 1;
    queue->parked_tail = &queue->parked;
    bus->queues[number] = queue;
    if (number >= bus->queue_end)
        bus->queue_end = number + 1;
    bus->queue_count++;
    queue->row = bus->backend.metrics_row ? bus->backend.metrics_row(bus->ctx, number, queue->name) : NULL;
    return queue;
}

void bus_queue_free(struct pawl_bus *bus, struct bus_queue *queue, uint64_t lsn)
{
    if (!bus->replaying)
        bus_routes_forget(bus);
    bus_parked_refuse(bus, queue, PAWL_E_NOT_FOUND);
    /* Kept records go; what lies in the journal goes with its segments. */
    if (queue->backlog.count > 0)
        (void)backlog_release(bus, &queue->backlog, backlog_first(&queue->backlog), queue->tail);
    if (queue->sub)
        bus_sub_free(bus, queue->sub, lsn);
    for (uint32_t i = 0; i < queue->group_count; i++)
        if (queue->groups[i])
            bus_sub_free(bus, queue->groups[i], lsn);
    if (bus->backend.metrics_row)
        (void)bus->backend.metrics_row(bus->ctx, queue->number, NULL);
    bus_names_remove(bus, queue);
    bus_patterns_remove(bus, queue);
    bus->temporary_count -= queue->config.temporary;
    bus->queues[queue->number] = NULL;
    bus->queue_count--;
    backlog_fini(&queue->backlog);
    pawl_queue_config_fini(&queue->config);
    free(queue->groups);
    free(queue);
}

int bus_queue_apply(struct pawl_bus *bus, const struct pawl_bus_queue_record *record, const char *config_json)
{
    char why[256];
    struct pawl_queue_config config;
    struct pawl_bus_limits wide = bus->limits;
    wide.queue_patterns = UINT32_MAX; /* what was accepted stays, whatever the limit is now */
    if (record->queue == 0 || record->queue >= BUS_QUEUE_NUMBERS_MAX)
        return PAWL_E_DAMAGED;
    errno = 0; /* the parser does not tell a want of memory from a mistake */
    json_t *json = json_loads(config_json, 0, NULL);
    int error = errno == ENOMEM ? -ENOMEM : PAWL_E_DAMAGED;
    if (json)
        error = pawl_queue_config_load(json, record->name, &wide, NULL, &config, why);
    json_decref(json);
    if (error)
        return error;
    struct bus_queue *queue = bus_queue_at(bus, record->queue);
    if (!queue) {
        queue = create(bus, record->queue, record->name);
        if (!queue) {
            pawl_queue_config_fini(&config);
            return -ENOMEM;
        }
    }
    bus_names_remove(bus, queue);
    bus_patterns_remove(bus, queue);
    bus->temporary_count += config.temporary;
    bus->temporary_count -= queue->config.temporary;
    pawl_queue_config_fini(&queue->config);
    queue->config = config;
    error = bus_names_add(bus, queue);
    error = error ? error : bus_patterns_add(bus, queue);
    if (error)
        return error;
    queue->paused = record->flags & PAWL_BUS_QUEUE_PAUSED;
    if (!queue->config.stream && !queue->sub) {
        queue->sub = bus_sub_create(bus, queue, 0, "", queue->tail);
        if (!queue->sub)
            return -ENOMEM;
    }
    if (queue->sub) {
        pawl_breaker_configure(&queue->sub->breaker, &config.breaker);
        bus_dirty(bus, queue->sub);
    }
    for (uint32_t i = 0; i < queue->group_count; i++)
        if (queue->groups[i]) {
            pawl_breaker_configure(&queue->groups[i]->breaker, &config.breaker);
            bus_dirty(bus, queue->groups[i]);
        }
    queue->dlq = 0;
    if (!bus->replaying) {
        bus_routes_forget(bus);
        bus_dlq_declared(bus, queue);
    }
    bus_queue_row(queue);
    return 0;
}

static uint64_t append_queue(struct pawl_bus *bus, uint32_t number, const char *name,
                             const struct pawl_queue_config *config, bool paused)
{
    struct pawl_bus_queue_record record = {
        .queue = number, .flags = paused ? PAWL_BUS_QUEUE_PAUSED : 0, .realtime_ns = bus->now.realtime_ns};
    snprintf(record.name, sizeof record.name, "%s", name);
    json_t *json = pawl_queue_config_json(config);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (!text) {
        bus->failed = true;
        return 0;
    }
    record.config_bytes = (uint32_t)strlen(text);
    uint64_t lsn = bus_append(bus, PAWL_BUS_RECORD_QUEUE, &record, sizeof record, text, record.config_bytes);
    free(text);
    return lsn;
}

static bool is_as_declared(const struct bus_queue *queue, const struct pawl_queue_config *config)
{
    json_t *before = pawl_queue_config_json(&queue->config), *after = pawl_queue_config_json(config);
    bool same = before && after && json_equal(before, after);
    json_decref(before);
    json_decref(after);
    return same;
}

static uint32_t number_of(const struct pawl_bus *bus, const struct bus_queue *queue)
{
    return queue ? queue->number : bus->queue_end ? bus->queue_end : 1;
}

int bus_queue_allowed(struct pawl_bus *bus, const char *name, const struct pawl_queue_config *config,
                      uint32_t others, char why[256])
{
    const struct bus_queue *queue = bus_queue_find(bus, name);
    const char *key = queue ? pawl_queue_config_compatible(&queue->config, config) : NULL;
    if (key) {
        snprintf(why, 256,
                 "queue %s exists, and its setting %s cannot be changed: delete it first, or leave that out",
                 name, key);
        return PAWL_E_INCOMPATIBLE;
    }
    if (!queue && bus->queue_count + others >= bus->limits.queues && !config->dead_letters) {
        snprintf(why, 256, "there are %u queues%s, and the limit is %llu", bus->queue_count + others,
                 others ? " with those before it" : "", (unsigned long long)bus->limits.queues);
        return PAWL_E_LIMIT;
    }
    if (queue && is_as_declared(queue, config))
        return 0;
    if (!config->dead_letters &&
        bus->backend.has_room(bus->ctx, 4096 * (1 + (size_t)others)) == PAWL_E_NO_SPACE) {
        snprintf(why, 256, "the disk has no room for %s",
                 queue ? "what is changed of a queue" : "a new queue");
        return PAWL_E_NO_SPACE;
    }
    /* Refused before it is written: what cannot be applied is damage. */
    if (number_of(bus, queue) + (queue ? 0 : others) >= BUS_QUEUE_NUMBERS_MAX) {
        snprintf(why, 256,
                 "%d queues were declared since the start, and no number is left: restart pawl serve",
                 BUS_QUEUE_NUMBERS_MAX - 1);
        return PAWL_E_LIMIT;
    }
    return 0;
}

int bus_queue_declare(struct pawl_bus *bus, const char *name, const struct pawl_queue_config *config,
                      uint64_t *lsn_out, char why[256])
{
    struct bus_queue *queue = bus_queue_find(bus, name);
    int error = bus_queue_allowed(bus, name, config, 0, why);
    if (error)
        return error;
    if (queue && is_as_declared(queue, config)) {
        *lsn_out = queue->config_lsn;
        return 0;
    }
    uint32_t number = number_of(bus, queue);
    bus_group_flush(bus); /* its events belong before it */
    uint64_t lsn = append_queue(bus, number, name, config, queue && queue->paused);
    queue = bus_queue_at(bus, number);
    if (lsn == 0 || !queue) {
        snprintf(why, 256, "the journal does not take it");
        return PAWL_E_SYNC_FAILED;
    }
    queue->config_lsn = *lsn_out = lsn;
    bus_take_up(bus, queue);
    return 0;
}

/* ---- groups of a stream ---- */

uint32_t bus_group_number(const struct pawl_bus *bus, const struct bus_queue *queue)
{
    uint32_t number = 1;
    while (number <= queue->group_count && queue->groups[number - 1])
        number++;
    return number > bus->limits.stream_groups || number > BUS_GROUPS_MAX ? 0 : number;
}

int bus_group_limit(const struct pawl_bus *bus, const struct bus_queue *queue, char why[256])
{
    snprintf(why, 256, "stream %s has %llu groups, and the limit is that (stream-groups)", queue->name,
             (unsigned long long)bus->limits.stream_groups);
    return PAWL_E_LIMIT;
}

struct bus_sub *bus_group_begin(struct pawl_bus *bus, struct bus_queue *queue, const char *name,
                                uint64_t from, int *error_out, char why[256])
{
    uint64_t first = bus_queue_first(queue);
    struct pawl_bus_mark mark = {.queue = queue->number,
                                 .group = bus_group_number(bus, queue),
                                 .offset = from < first         ? first
                                           : from > queue->tail ? queue->tail
                                                                : from,
                                 .realtime_ns = bus->now.realtime_ns};
    if (!bus_name_holds(name)) {
        snprintf(why, 256, "'%.64s' cannot be the name of a group", name);
        *error_out = PAWL_E_INVALID;
        return NULL;
    }
    if (mark.group == 0) {
        *error_out = bus_group_limit(bus, queue, why);
        return NULL;
    }
    snprintf(mark.name, sizeof mark.name, "%s", name);
    bus_append(bus, PAWL_BUS_RECORD_GROUP, &mark, sizeof mark, NULL, 0);
    struct bus_sub *sub = bus_sub_find(queue, name);
    if (!sub) {
        snprintf(why, 256, "the journal does not take it");
        *error_out = PAWL_E_SYNC_FAILED;
    }
    return sub;
}

int bus_group_apply(struct pawl_bus *bus, const struct pawl_bus_mark *mark)
{
    struct bus_queue *queue = bus_queue_at(bus, mark->queue);
    if (!queue)
        return 0;
    if (mark->group == 0 || mark->group > BUS_GROUPS_MAX || !queue->config.stream)
        return PAWL_E_DAMAGED;
    int lost = bus->replaying ? bus_queue_lost(queue, mark->offset) : 0;
    if (lost || mark->offset > queue->tail)
        return lost ? lost : PAWL_E_DAMAGED;
    if (mark->group > queue->group_count) {
        struct bus_sub **groups = realloc(queue->groups, mark->group * sizeof(struct bus_sub *));
        if (!groups)
            return -ENOMEM;
        for (uint32_t i = queue->group_count; i < mark->group; i++)
            groups[i] = NULL;
        queue->groups = groups;
        queue->group_count = mark->group;
    }
    struct bus_sub *sub = queue->groups[mark->group - 1];
    if (!sub) {
        sub = bus_sub_create(bus, queue, mark->group, mark->name, mark->offset);
        queue->groups[mark->group - 1] = sub;
        return sub ? bus_sub_settle_holes(sub) : -ENOMEM;
    }
    /* It goes on elsewhere: what is under way belongs to where it was. */
    bus_sub_revoke_held(bus, sub);
    if (!bus->replaying)
        pawl_breaker_forget(&sub->breaker);                /* its probes will not be heard of */
    bus->in_flight -= bus->replaying ? 0 : sub->in_flight; /* what is left is detached */
    sub->in_flight = 0;
    sub->generation = bus->replaying ? 0 : ++bus->generation;
    exceptions_fini(&sub->exceptions);
    pawl_seqset_fini(&sub->settled);
    pawl_seqset_init(&sub->settled, mark->offset);
    sub->next = mark->offset;
    sub->ack_count = 0;
    sub->cursor = sub->aside = (struct backlog_cursor){0};
    bus_dirty(bus, sub);
    return bus_sub_settle_holes(sub);
}
