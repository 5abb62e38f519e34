/*
 * snapshot.c - the bus's state in chunks, and back.
 *
 * Runs in: scheduler. Each chunk: struct chunk, then items of one kind about one queue or subscription. What
 * is in memory only is left out: a restart loses it, as its mode says.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

enum { CHUNK_BYTES = 256 << 10, CHUNK_MAGIC = 0x53554250 /* "PBUS" */ };

enum chunk_kind { /* stored: append */
                  CHUNK_QUEUE = 1,
                  CHUNK_EXTENTS = 2,
                  CHUNK_SUB = 3,
                  CHUNK_SETTLED = 4,
                  CHUNK_EXCEPTIONS = 5,
                  CHUNK_PUBLISHERS = 6,
                  CHUNK_DEDUPE = 7,
                  CHUNK_QUEUE_DONE = 8, /* all extents of the queue are there */
                  CHUNK_PUBLISHED = 9,  /* what PUBLISHERS does not say; after all of it */
                  CHUNK_EXPIRIES = 10,  /* events with a time to live of their own; after the queues */
};

struct chunk {
    uint32_t magic;
    uint32_t kind;
    uint32_t queue, group;
    uint32_t count;
    uint32_t bytes; /* that follow */
};
static_assert(sizeof(struct chunk) == 24, "snapshot format");

struct queue_item {
    uint64_t tail, bytes, last_published_ns, first_kept;
    struct pawl_bus_queue_record record; /* then its config */
};
static_assert(sizeof(struct queue_item) == 128, "snapshot format");

struct sub_item {
    uint64_t head;
    uint64_t acked_at_realtime_ns;
    struct pawl_breaker_image breaker;
    char name[72];
};
static_assert(sizeof(struct sub_item) == 104, "snapshot format");

struct exception_item {
    uint64_t seq, due_realtime_ns, delay_ns, first_at_ns, epoch, key;
    uint32_t attempt;
    uint16_t failures, last_cause, interruptions;
    uint8_t state, priority, cause_known, reserved;
    uint16_t error_bytes; /* words follow, padded to 8 */
};
static_assert(sizeof(struct exception_item) == 64, "snapshot format");

struct expiry_item {
    uint64_t seq, due_realtime_ns;
    uint32_t queue, reserved;
};
static_assert(sizeof(struct expiry_item) == 24, "snapshot format");
static_assert(sizeof(struct extent) == 40, "snapshot format");

/* ---- writing ---- */

enum stage {
    STAGE_QUEUE,
    STAGE_EXTENTS,
    STAGE_QUEUE_DONE,
    STAGE_SUB,
    STAGE_SETTLED,
    STAGE_EXCEPTIONS,
    STAGE_HELD,
    STAGE_NEXT_SUB,
    STAGE_PUBLISHERS,
    STAGE_PUBLISHED,
    STAGE_DEDUPE,
    STAGE_EXPIRIES,
    STAGE_END
};

struct bus_snapshot {
    enum stage stage;
    uint32_t queue, group; /* group: 0 the queue's own, else a stream's */
    size_t at;
    uint64_t cursor, runs_cursor[2];
    uint32_t client;
    uint64_t number;
    size_t used;
    unsigned char bytes[CHUNK_BYTES];
};

static struct chunk *head_of(struct bus_snapshot *snapshot)
{
    return (struct chunk *)(void *)snapshot->bytes;
}

static void begin(struct bus_snapshot *snapshot, enum chunk_kind kind)
{
    *head_of(snapshot) = (struct chunk){
        .magic = CHUNK_MAGIC, .kind = kind, .queue = snapshot->queue, .group = snapshot->group};
    snapshot->used = sizeof(struct chunk);
}

static bool put(struct bus_snapshot *snapshot, const void *item, size_t bytes, const void *more,
                size_t more_bytes)
{
    size_t padded = (bytes + more_bytes + 7) & ~(size_t)7;
    if (snapshot->used + padded > CHUNK_BYTES)
        return false;
    memset(snapshot->bytes + snapshot->used, 0, padded);
    memcpy(snapshot->bytes + snapshot->used, item, bytes);
    if (more_bytes)
        memcpy(snapshot->bytes + snapshot->used + bytes, more, more_bytes);
    snapshot->used += padded;
    head_of(snapshot)->count++;
    return true;
}

static int write_queue(struct bus_snapshot *snapshot, const struct bus_queue *queue)
{
    struct queue_item item = {.tail = queue->tail,
                              .bytes = queue->bytes,
                              .last_published_ns = queue->last_published_ns,
                              .first_kept = queue->first_kept};
    item.record = (struct pawl_bus_queue_record){.queue = queue->number,
                                                 .flags = queue->paused ? PAWL_BUS_QUEUE_PAUSED : 0};
    memcpy(item.record.name, queue->name, sizeof item.record.name);
    json_t *json = pawl_queue_config_json(&queue->config);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (!text)
        return -ENOMEM;
    item.record.config_bytes = (uint32_t)strlen(text);
    begin(snapshot, CHUNK_QUEUE);
    bool fits = put(snapshot, &item, sizeof item, text, item.record.config_bytes);
    free(text);
    return fits ? 0 : PAWL_E_LIMIT;
}

static void write_extents(struct pawl_bus *bus, struct bus_snapshot *snapshot, const struct bus_queue *queue)
{
    begin(snapshot, CHUNK_EXTENTS);
    for (; snapshot->at < queue->backlog.count; snapshot->at++) {
        struct extent extent = *backlog_extent(&queue->backlog, snapshot->at);
        if (extent.place & PAWL_PLACE_VOLATILE)
            continue;
        if (extent.walked != BACKLOG_WALK_BEYOND) {
            uint64_t last = bus_resolve(bus, extent.place + extent.end_offset);
            extent.place = bus_resolve(bus, extent.place);
            extent.end_offset = (uint32_t)(last - extent.place);
            if (last >> 32 != extent.place >> 32) {
                extent.end_offset = (uint32_t)((last >> 32) - (extent.place >> 32));
                extent.walked = BACKLOG_WALK_BEYOND;
            }
        }
        if (!put(snapshot, &extent, sizeof extent, NULL, 0))
            return;
    }
    snapshot->stage = STAGE_QUEUE_DONE;
}

/* By the wall clock as it is now: it may have been set since the wait began. */
static uint64_t due_realtime_of(const struct pawl_bus *bus, const struct exception *exception)
{
    bool waits = exception->state == EXCEPTION_DELAYED || exception->state == EXCEPTION_DETACHED;
    if (!waits || bus->replaying)
        return exception->due_realtime_ns;
    return exception->due_at_ns + (bus->now.realtime_ns - bus->now.boottime_ns);
}

static bool put_exception(const struct pawl_bus *bus, struct bus_snapshot *snapshot,
                          const struct exception *exception)
{
    struct exception_item item = {
        .seq = exception->seq,
        .due_realtime_ns = due_realtime_of(bus, exception),
        .delay_ns = exception->delay_ns,
        .first_at_ns = exception->first_at_ns,
        .epoch = exception->epoch,
        .key = exception->key,
        .attempt = exception->attempt,
        .failures = exception->failures,
        .last_cause = exception->last_cause,
        .interruptions = exception->interruptions,
        .state = exception->state,
        .priority = exception->priority,
        .cause_known = exception->redelivered_cause_known,
        .error_bytes = exception->error ? (uint16_t)strlen(exception->error) : 0,
    };
    return put(snapshot, &item, sizeof item, exception->error, item.error_bytes);
}

static void write_exceptions(const struct pawl_bus *bus, struct bus_snapshot *snapshot,
                             const struct bus_sub *sub)
{
    begin(snapshot, CHUNK_EXCEPTIONS);
    for (;;) {
        size_t before = snapshot->at;
        const struct exception *exception = exceptions_next(&sub->exceptions, &snapshot->at);
        if (!exception) {
            snapshot->stage = STAGE_HELD;
            snapshot->client = 0;
            snapshot->number = 0;
            return;
        }
        struct exception copy = *exception;
        if (copy.state == EXCEPTION_HELD)
            copy.state = EXCEPTION_READY; /* those that began say so themselves, below */
        if (copy.state == EXCEPTION_KEYED)
            copy.state = copy.delay_ns && copy.due_at_ns ? EXCEPTION_DELAYED : EXCEPTION_READY;
        if (!put_exception(bus, snapshot, &copy)) {
            snapshot->at = before;
            return;
        }
    }
}

/* Deliveries that have begun in some client's hands: found open at recovery, they were interrupted. */
static void write_held(struct pawl_bus *bus, struct bus_snapshot *snapshot, const struct bus_sub *sub)
{
    begin(snapshot, CHUNK_EXCEPTIONS);
    for (; snapshot->client < bus->client_room; snapshot->client++, snapshot->number = 0) {
        struct pawl_bus_client *client = bus->clients[snapshot->client];
        if (!client)
            continue;
        if (snapshot->number < client->held_first)
            snapshot->number = client->held_first;
        for (; snapshot->number < client->begun && snapshot->number < client->held_next; snapshot->number++) {
            const struct bus_held *held = bus_held_at(client, snapshot->number);
            if (held->state != BUS_HELD_UNSETTLED || held->sub != sub ||
                backlog_is_volatile(&sub->queue->backlog, held->seq))
                continue;
            const struct exception *known = exception_find(&sub->exceptions, held->seq);
            struct exception copy = known ? *known : (struct exception){.seq = held->seq};
            copy.attempt = held->attempt;
            copy.state = EXCEPTION_HELD;
            if (!put_exception(bus, snapshot, &copy))
                return;
        }
    }
    snapshot->stage = STAGE_NEXT_SUB;
}

static int write_sub(struct pawl_bus *bus, struct bus_snapshot *snapshot, const struct bus_sub *sub)
{
    struct sub_item item = {.head = pawl_seqset_head(&sub->settled),
                            .acked_at_realtime_ns = sub->acked_at_realtime_ns};
    memcpy(item.name, sub->name, sizeof item.name);
    pawl_breaker_pack(&sub->breaker, bus->now.boottime_ns, &item.breaker);
    begin(snapshot, CHUNK_SUB);
    (void)put(snapshot, &item, sizeof item, NULL, 0);
    snapshot->stage = STAGE_SETTLED;
    snapshot->cursor = 0;
    return 0;
}

static void write_expiries(struct pawl_bus *bus, struct bus_snapshot *snapshot)
{
    begin(snapshot, CHUNK_EXPIRIES);
    for (; snapshot->at < bus->timers.count; snapshot->at++) {
        const struct pawl_bus_timer *timer = &bus->timers.heap[snapshot->at];
        const struct bus_queue *queue = bus_queue_at(bus, bus_timer_queue(timer->b));
        if (!bus_expiry_wanted(bus, timer) || backlog_is_volatile(&queue->backlog, timer->a))
            continue;
        struct expiry_item item = {.seq = timer->a, .due_realtime_ns = timer->due_ns, .queue = queue->number};
        if (!bus->replaying)
            item.due_realtime_ns += bus->now.realtime_ns - bus->now.boottime_ns;
        if (!put(snapshot, &item, sizeof item, NULL, 0))
            return;
    }
    snapshot->stage = STAGE_END;
}

static void next_sub(struct bus_snapshot *snapshot, const struct bus_queue *queue)
{
    snapshot->stage = STAGE_SUB;
    for (snapshot->group++; snapshot->group <= queue->group_count; snapshot->group++)
        if (queue->groups[snapshot->group - 1])
            return;
    snapshot->queue++;
    snapshot->group = 0;
    snapshot->stage = STAGE_QUEUE;
}

/* One step: something may have been written, the stage may have changed. 0 or an error. */
static int step(struct pawl_bus *bus, struct bus_snapshot *snapshot)
{
    struct bus_queue *queue = NULL;
    const struct bus_sub *sub = NULL;
    if (snapshot->stage < STAGE_PUBLISHERS) {
        while (snapshot->queue < bus->queue_end && !bus->queues[snapshot->queue])
            snapshot->queue++;
        if (snapshot->queue >= bus->queue_end) {
            snapshot->stage = STAGE_PUBLISHERS;
            snapshot->cursor = 0;
            snapshot->queue = snapshot->group = 0;
            return 0;
        }
        queue = bus->queues[snapshot->queue];
        sub = snapshot->group ? queue->groups[snapshot->group - 1] : queue->sub;
    }
    switch (snapshot->stage) {
    case STAGE_QUEUE:
        snapshot->stage = STAGE_EXTENTS;
        snapshot->at = 0;
        return write_queue(snapshot, queue);
    case STAGE_EXTENTS:
        write_extents(bus, snapshot, queue);
        return 0;
    case STAGE_QUEUE_DONE:
        begin(snapshot, CHUNK_QUEUE_DONE);
        head_of(snapshot)->count = 1;
        snapshot->stage = queue->sub ? STAGE_SUB : STAGE_NEXT_SUB;
        return 0;
    case STAGE_SUB:
        return write_sub(bus, snapshot, sub);
    case STAGE_SETTLED: {
        begin(snapshot, CHUNK_SETTLED);
        size_t bytes = pawl_seqset_save(&sub->settled, &snapshot->cursor, snapshot->bytes + snapshot->used,
                                        CHUNK_BYTES - snapshot->used);
        if (bytes == 0) {
            snapshot->stage = STAGE_EXCEPTIONS;
            snapshot->at = 0;
        } else {
            head_of(snapshot)->count = 1;
            snapshot->used += bytes;
        }
        return 0;
    }
    case STAGE_EXCEPTIONS:
        write_exceptions(bus, snapshot, sub);
        return 0;
    case STAGE_HELD:
        write_held(bus, snapshot, sub);
        return 0;
    case STAGE_NEXT_SUB:
        next_sub(snapshot, queue);
        return 0;
    case STAGE_PUBLISHERS: {
        begin(snapshot, CHUNK_PUBLISHERS);
        size_t count =
            pawl_publishers_save(&bus->publishers, &snapshot->cursor,
                                 (struct pawl_publisher *)(void *)(snapshot->bytes + snapshot->used), 4096);
        if (count == 0) {
            snapshot->stage = STAGE_PUBLISHED;
            snapshot->cursor = 0;
        }
        head_of(snapshot)->count = (uint32_t)count;
        snapshot->used += count * sizeof(struct pawl_publisher);
        return 0;
    }
    case STAGE_PUBLISHED: {
        begin(snapshot, CHUNK_PUBLISHED);
        size_t count = pawl_publishers_save_runs(
            &bus->publishers, snapshot->runs_cursor,
            (struct pawl_publisher_run *)(void *)(snapshot->bytes + snapshot->used), 4096);
        if (count == 0)
            snapshot->stage = STAGE_DEDUPE;
        head_of(snapshot)->count = (uint32_t)count;
        snapshot->used += count * sizeof(struct pawl_publisher_run);
        return 0;
    }
    case STAGE_DEDUPE: {
        begin(snapshot, CHUNK_DEDUPE);
        size_t count =
            pawl_dedupe_save(&bus->dedupe, &snapshot->cursor,
                             (struct pawl_dedupe_entry *)(void *)(snapshot->bytes + snapshot->used), 4096);
        if (count == 0) {
            snapshot->stage = STAGE_EXPIRIES;
            snapshot->at = 0;
        }
        head_of(snapshot)->count = (uint32_t)count;
        snapshot->used += count * sizeof(struct pawl_dedupe_entry);
        return 0;
    }
    case STAGE_EXPIRIES:
        write_expiries(bus, snapshot);
        return 0;
    case STAGE_END:
        break;
    }
    return 0;
}

int pawl_bus_snapshot_next(struct pawl_bus *bus, struct pawl_now now, void **cursor, const void **chunk_out,
                           size_t *bytes_out)
{
    struct bus_snapshot *snapshot = *cursor;
    int error = 0;
    bus->now = now;
    if (!snapshot) {
        snapshot = calloc(1, sizeof *snapshot);
        if (!snapshot)
            return -ENOMEM;
        *cursor = snapshot;
    }
    snapshot->used = 0;
    while (!error && snapshot->stage != STAGE_END) {
        error = step(bus, snapshot);
        if (!error && snapshot->used > 0 && head_of(snapshot)->count > 0) {
            head_of(snapshot)->bytes = (uint32_t)(snapshot->used - sizeof(struct chunk));
            *chunk_out = head_of(snapshot);
            *bytes_out = snapshot->used;
            return 1;
        }
        snapshot->used = 0;
    }
    free(snapshot);
    *cursor = NULL;
    return error;
}

/* ---- loading ---- */

static int load_queue(struct pawl_bus *bus, const void *body, size_t bytes)
{
    const struct queue_item *item = body;
    if (bytes < sizeof *item || item->record.config_bytes > bytes - sizeof *item ||
        !memchr(item->record.name, 0, sizeof item->record.name) || item->tail == 0)
        return PAWL_E_DAMAGED;
    char *json = strndup((const char *)(item + 1), item->record.config_bytes);
    int error = json ? bus_queue_apply(bus, &item->record, json) : -ENOMEM;
    free(json);
    struct bus_queue *queue = error ? NULL : bus_queue_at(bus, item->record.queue);
    if (!queue)
        return error;
    queue->tail = item->tail;
    queue->last_published_ns = item->last_published_ns;
    queue->first_kept = item->first_kept;
    return 0;
}

static int load_extents(struct bus_queue *queue, const struct extent *extents, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct extent *extent = &extents[i];
        if (extent->count == 0 || extent->live > extent->count || extent->first + extent->count > queue->tail)
            return PAWL_E_DAMAGED;
        if (backlog_restore(&queue->backlog, extent) < 0)
            return -ENOMEM;
        queue->depth += extent->live;
        queue->bytes += extent->live_bytes;
    }
    return 0;
}

static int load_exceptions(const struct pawl_bus *bus, struct bus_sub *sub, const char *body, size_t bytes,
                           uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct exception_item *item = (const struct exception_item *)(const void *)body;
        if (bytes < sizeof *item || item->error_bytes > bytes - sizeof *item)
            return PAWL_E_DAMAGED;
        size_t step_bytes = (sizeof *item + item->error_bytes + 7) & ~(size_t)7;
        if (step_bytes > bytes || item->seq >= sub->queue->tail || item->state >= EXCEPTION_STATES)
            return PAWL_E_DAMAGED;
        /* What was in memory only is gone with its exceptions. */
        if (!pawl_seqset_has(&sub->settled, item->seq) &&
            backlog_next(&sub->queue->backlog, item->seq) == item->seq) {
            struct exception *exception = exception_find(&sub->exceptions, item->seq);
            if (!exception)
                exception = exception_add(&sub->exceptions, item->seq);
            if (!exception)
                return -ENOMEM;
            exception->due_realtime_ns = item->due_realtime_ns;
            exception->delay_ns = item->delay_ns;
            exception->due_at_ns = pawl_now_due(bus->written, item->due_realtime_ns, item->delay_ns);
            exception->first_at_ns = item->first_at_ns;
            exception->epoch = item->epoch;
            exception->key = item->key;
            exception->attempt = item->attempt;
            exception->failures = item->failures;
            exception->last_cause = item->last_cause;
            exception->interruptions = item->interruptions;
            exception_become(&sub->exceptions, exception, item->state);
            exception->priority = item->priority;
            exception->redelivered_cause_known = item->cause_known;
            free(exception->error);
            exception->error =
                item->error_bytes ? strndup((const char *)(item + 1), item->error_bytes) : NULL;
        }
        body += step_bytes;
        bytes -= step_bytes;
    }
    return 0;
}

static int load_sub(struct pawl_bus *bus, struct bus_queue *queue, const struct chunk *chunk,
                    const struct sub_item *item)
{
    if (chunk->bytes < sizeof *item || !memchr(item->name, 0, sizeof item->name) || item->head > queue->tail)
        return PAWL_E_DAMAGED;
    if (chunk->group) {
        struct pawl_bus_mark mark = {.queue = queue->number, .group = chunk->group, .offset = item->head};
        memcpy(mark.name, item->name, sizeof mark.name);
        int error = bus_group_apply(bus, &mark);
        if (error)
            return error;
    }
    struct bus_sub *sub = bus_sub_at(bus, queue->number, chunk->group);
    if (!sub)
        return PAWL_E_DAMAGED;
    pawl_seqset_fini(&sub->settled);
    pawl_seqset_init(&sub->settled, item->head);
    sub->next = item->head;
    sub->acked_at_realtime_ns = item->acked_at_realtime_ns;
    sub->breaker_image = item->breaker;
    return bus_sub_settle_holes(sub);
}

static int load_known_one(struct pawl_bus *bus, uint32_t kind, const void *item)
{
    const struct pawl_publisher *publisher = item;
    if (kind == CHUNK_DEDUPE)
        return pawl_dedupe_insert(&bus->dedupe, item);
    if (kind == CHUNK_PUBLISHED)
        return pawl_publishers_load_run(&bus->publishers, item);
    int error = pawl_publishers_note(&bus->publishers, publisher->id, 1, publisher->last_sequence,
                                     publisher->seen_realtime_ns, 1);
    return error == PAWL_E_LIMIT ? 0 : error;
}

/* What was published by whom, under which keys. */
static int load_known(struct pawl_bus *bus, const struct chunk *chunk, const char *items)
{
    size_t item_bytes = chunk->kind == CHUNK_DEDUPE      ? sizeof(struct pawl_dedupe_entry)
                        : chunk->kind == CHUNK_PUBLISHED ? sizeof(struct pawl_publisher_run)
                                                         : sizeof(struct pawl_publisher);
    int error = chunk->count > chunk->bytes / item_bytes ? PAWL_E_DAMAGED : 0;
    for (uint32_t i = 0; i < chunk->count && !error; i++)
        error = load_known_one(bus, chunk->kind, items + i * item_bytes);
    return error;
}

static int load_expiries(struct pawl_bus *bus, const struct expiry_item *items, const struct chunk *chunk)
{
    if (chunk->count > chunk->bytes / sizeof *items)
        return PAWL_E_DAMAGED;
    for (uint32_t i = 0; i < chunk->count; i++) {
        if (!bus_queue_at(bus, items[i].queue))
            return PAWL_E_DAMAGED;
        bus_expiry(bus, items[i].queue, items[i].seq, items[i].due_realtime_ns);
    }
    return bus->failed ? -ENOMEM : 0;
}

bool pawl_bus_snapshot_is(const void *bytes, size_t n)
{
    const struct chunk *chunk = bytes;
    return n >= sizeof *chunk && chunk->magic == CHUNK_MAGIC;
}

int pawl_bus_snapshot_load(struct pawl_bus *bus, const void *bytes, size_t n)
{
    const struct chunk *chunk = bytes;
    const void *body = chunk + 1;
    if (n < sizeof *chunk || chunk->magic != CHUNK_MAGIC || chunk->bytes > n - sizeof *chunk)
        return PAWL_E_DAMAGED;
    if (chunk->kind == CHUNK_QUEUE)
        return load_queue(bus, body, chunk->bytes);
    if (chunk->kind == CHUNK_PUBLISHERS || chunk->kind == CHUNK_PUBLISHED || chunk->kind == CHUNK_DEDUPE)
        return load_known(bus, chunk, body);
    if (chunk->kind == CHUNK_EXPIRIES)
        return load_expiries(bus, body, chunk);
    struct bus_queue *queue = bus_queue_at(bus, chunk->queue);
    struct bus_sub *sub = bus_sub_at(bus, chunk->queue, chunk->group);
    if (!queue)
        return PAWL_E_DAMAGED;
    switch (chunk->kind) {
    case CHUNK_EXTENTS:
        return chunk->count > chunk->bytes / sizeof(struct extent) ? PAWL_E_DAMAGED
                                                                   : load_extents(queue, body, chunk->count);
    case CHUNK_QUEUE_DONE:
        return 0;
    case CHUNK_SUB:
        return load_sub(bus, queue, chunk, body);
    case CHUNK_SETTLED:
        return sub ? pawl_seqset_load(&sub->settled, body, chunk->bytes, queue->tail) : PAWL_E_DAMAGED;
    case CHUNK_EXCEPTIONS:
        return sub ? load_exceptions(bus, sub, body, chunk->bytes, chunk->count) : PAWL_E_DAMAGED;
    default:
        return PAWL_E_BAD_FORMAT;
    }
}
