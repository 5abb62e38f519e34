/*
 * bus.c - the bus as a whole: its life, records, what waits for the disk.
 *
 * Runs in: scheduler, tests. Does no I/O, reads no clock.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"
#include "shm/log.h"

enum { ROUTES_HASH = 4096 };
#define SAY_AGAIN_NS UINT64_C(1000000000)

int bus_grow(void **array, size_t *room, size_t count, size_t item_bytes)
{
    if (count <= *room)
        return 0;
    size_t more = *room ? *room * 2 : 16;
    while (more < count)
        more *= 2;
    void *grown = realloc(*array, more * item_bytes);
    if (!grown)
        return -ENOMEM;
    *array = grown;
    *room = more;
    return 0;
}

void bus_log(struct pawl_bus *bus, struct bus_queue *queue, int level, const char *format, ...)
{
    char text[400], line[512], more[64] = "";
    struct pawl_log_limit *limit = &queue->said[level >= PAWL_LOG_ERROR];
    if (limit->said_at_ns != 0 && bus->now.boottime_ns - limit->said_at_ns < SAY_AGAIN_NS) {
        limit->left_out++;
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (limit->left_out)
        snprintf(more, sizeof more, "(%" PRIu64 " times more) ", limit->left_out);
    *limit = (struct pawl_log_limit){.said_at_ns = bus->now.boottime_ns};
    snprintf(line, sizeof line, "%squeue %s: %s", more, queue->name, text);
    if (bus->backend.log)
        bus->backend.log(bus->ctx, level, line);
}

/* Either at 0 means that no key is remembered: a window of one key and one nanosecond is as good. */
static uint32_t dedupe_keys(const struct pawl_bus_limits *limits)
{
    return limits->dedupe_keys && limits->dedupe_age_ns ? (uint32_t)limits->dedupe_keys : 1;
}

static uint64_t dedupe_age_ns(const struct pawl_bus_limits *limits)
{
    return limits->dedupe_keys && limits->dedupe_age_ns ? limits->dedupe_age_ns : 1;
}

int pawl_bus_create(const struct pawl_bus_limits *limits, const struct pawl_bus_backend *backend, void *ctx,
                    struct pawl_bus **bus_out)
{
    struct pawl_bus *bus = calloc(1, sizeof *bus);
    if (!bus)
        return -ENOMEM;
    bus->limits = *limits;
    bus->backend = *backend;
    bus->ctx = ctx;
    bus->replaying = true;
    bus->stamp = 1;
    bus->act = 1; /* 0: of none */
    bus->routes = calloc(ROUTES_HASH, sizeof(struct bus_route *));
    pawl_publishers_init(&bus->publishers, PAWL_PUBLISHERS_MAX, limits->dedupe_age_ns);
    int error =
        bus->routes ? pawl_dedupe_init(&bus->dedupe, dedupe_keys(limits), dedupe_age_ns(limits)) : -ENOMEM;
    if (error) {
        pawl_bus_destroy(bus);
        return error;
    }
    *bus_out = bus;
    return 0;
}

void pawl_bus_destroy(struct pawl_bus *bus)
{
    if (!bus)
        return;
    bus->replaying = true;   /* nothing of what goes is told to anybody */
    bus->group.route = NULL; /* nor written down */
    for (uint32_t i = 0; i < bus->queue_end; i++)
        if (bus->queues[i])
            bus_queue_free(bus, bus->queues[i], 0);
    for (uint32_t i = 0; i < bus->client_room; i++)
        if (bus->clients[i]) {
            struct pawl_bus_client *client = bus->clients[i];
            while (client->consumers) {
                struct bus_consumer *consumer = client->consumers;
                client->consumers = consumer->next_of_client;
                free(consumer);
            }
            free(client->held);
            free(client);
        }
    bus_names_fini(bus);
    bus_patterns_fini(bus);
    if (bus->routes)
        bus_routes_forget(bus);
    pawl_bus_timers_fini(&bus->timers);
    pawl_publishers_fini(&bus->publishers);
    pawl_dedupe_fini(&bus->dedupe);
    free(bus->routes);
    free(bus->queues);
    free(bus->clients);
    free(bus->waits);
    free(bus->group.bytes);
    free(bus->scratch);
    free(bus->claim_ranges);
    free(bus);
}

void pawl_bus_set_limits(struct pawl_bus *bus, const struct pawl_bus_limits *limits)
{
    bus->limits = *limits;
    (void)pawl_dedupe_configure(&bus->dedupe, dedupe_keys(limits), dedupe_age_ns(limits));
}

/* ---- records ---- */

uint64_t bus_append(struct pawl_bus *bus, uint8_t type, const void *body, size_t bytes, const void *more,
                    size_t more_bytes)
{
    static const unsigned char zeros[8];
    struct iovec iov[3] = {
        {.iov_base = (void *)(uintptr_t)body, .iov_len = bytes},
        {.iov_base = (void *)(uintptr_t)more, .iov_len = more_bytes},
        {.iov_base = (void *)(uintptr_t)zeros, .iov_len = (8 - (bytes + more_bytes) % 8) % 8}};
    uint64_t place = 0;
    bus->stamp++;
    uint64_t lsn = bus->failed ? 0 : bus->backend.append(bus->ctx, type, iov, 3, &place);
    if (lsn == 0) {
        bus->failed = true;
        return 0;
    }
    bus->log_lsn = lsn;
    /* The pieces are applied as recovery will see them: in one. */
    size_t total = bytes + more_bytes + iov[2].iov_len;
    unsigned char small[512], *whole = total <= sizeof small ? small : malloc(total);
    if (!whole) {
        bus->failed = true;
        return 0;
    }
    memcpy(whole, body, bytes);
    if (more_bytes)
        memcpy(whole + bytes, more, more_bytes);
    memset(whole + bytes + more_bytes, 0, iov[2].iov_len);
    if (pawl_bus_apply(bus, type, PAWL_BUS_RECORD_VERSION, whole, total, lsn, place) != 0)
        bus->failed = true;
    if (whole != small)
        free(whole);
    return lsn;
}

static bool holds(const struct pawl_bus_ranges *record, size_t bytes)
{
    return bytes >= sizeof *record &&
           record->range_count <= (bytes - sizeof *record) / sizeof(struct pawl_bus_range);
}

static int apply_one(struct pawl_bus *bus, uint8_t type, const void *body, size_t bytes)
{
    const struct pawl_bus_one *one = body;
    if (bytes < sizeof *one || one->text_bytes > bytes - sizeof *one)
        return PAWL_E_DAMAGED;
    return bus_one_apply(bus, type, one, (const char *)(one + 1));
}

static int apply_queue(struct pawl_bus *bus, const void *body, size_t bytes)
{
    const struct pawl_bus_queue_record *record = body;
    if (bytes < sizeof *record || record->config_bytes > bytes - sizeof *record ||
        !memchr(record->name, 0, sizeof record->name))
        return PAWL_E_DAMAGED;
    char *json = strndup((const char *)(record + 1), record->config_bytes);
    int error = json ? bus_queue_apply(bus, record, json) : -ENOMEM;
    free(json);
    return error;
}

static int apply_mark(struct pawl_bus *bus, uint8_t type, const void *body, size_t bytes, uint64_t lsn)
{
    const struct pawl_bus_mark *mark = body;
    if (bytes < sizeof *mark || !memchr(mark->name, 0, sizeof mark->name))
        return PAWL_E_DAMAGED;
    if (type == PAWL_BUS_RECORD_GROUP)
        return bus_group_apply(bus, mark);
    if (type == PAWL_BUS_RECORD_TRIM)
        return bus_trim_apply(bus, mark);
    struct bus_queue *queue = bus_queue_at(bus, mark->queue);
    if (!queue)
        return 0;
    bus->generation += !bus->replaying;
    if (mark->group == 0) {
        bus_queue_free(bus, queue, lsn);
    } else if (mark->group <= queue->group_count && queue->groups[mark->group - 1]) {
        bus_sub_free(bus, queue->groups[mark->group - 1], lsn);
        queue->groups[mark->group - 1] = NULL;
    }
    return 0;
}

int pawl_bus_apply(struct pawl_bus *bus, uint8_t type, uint16_t version, const void *body, size_t bytes,
                   uint64_t lsn, uint64_t place)
{
    if (version != PAWL_BUS_RECORD_VERSION)
        return PAWL_E_BAD_FORMAT;
    switch (type) {
    case PAWL_BUS_RECORD_EVENTS:
    case PAWL_BUS_RECORD_MOVE:
        return bus_events_apply(bus, body, bytes, lsn, place);
    case PAWL_BUS_RECORD_PUBLISHED:
        return bytes < sizeof(struct pawl_bus_published) ? PAWL_E_DAMAGED
                                                         : bus_published_apply(bus, body, lsn);
    case PAWL_BUS_RECORD_ACK:
    case PAWL_BUS_RECORD_CLAIM:
        if (!holds(body, bytes))
            return PAWL_E_DAMAGED;
        return bus_ranges_apply(bus, type, body,
                                (const struct pawl_bus_range *)((const struct pawl_bus_ranges *)body + 1));
    case PAWL_BUS_RECORD_RETRY:
    case PAWL_BUS_RECORD_DEAD:
    case PAWL_BUS_RECORD_EXTEND:
    case PAWL_BUS_RECORD_RELEASE:
        return apply_one(bus, type, body, bytes);
    case PAWL_BUS_RECORD_QUEUE:
        bus->queues_lsn = lsn;
        return apply_queue(bus, body, bytes);
    case PAWL_BUS_RECORD_DELETE:
    case PAWL_BUS_RECORD_GROUP:
        bus->queues_lsn = lsn;
        return apply_mark(bus, type, body, bytes, lsn);
    case PAWL_BUS_RECORD_TRIM:
        return apply_mark(bus, type, body, bytes, lsn);
    default:
        return PAWL_E_BAD_FORMAT;
    }
}

/* ---- what waits ---- */

void bus_wait_for(struct pawl_bus *bus, const struct bus_wait *wait)
{
    if (bus->wait_count == bus->wait_room) {
        size_t room = bus->wait_room ? bus->wait_room * 2 : 256;
        struct bus_wait *ring = malloc(room * sizeof *ring);
        if (!ring) {
            bus->failed = true; /* a lost wait would leave a publisher waiting for ever */
            return;
        }
        for (size_t i = 0; i < bus->wait_count; i++)
            ring[i] = bus->waits[(bus->wait_first + i) & (bus->wait_room - 1)];
        free(bus->waits);
        bus->waits = ring;
        bus->wait_first = 0;
        bus->wait_room = room;
    }
    bus->waits[(bus->wait_first + bus->wait_count++) & (bus->wait_room - 1)] = *wait;
}

void bus_tell(const struct pawl_bus *bus, const struct pawl_bus_client *client, const char *format, ...)
{
    char text[256];
    va_list arguments;
    if (!bus->backend.tell || bus->replaying)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    bus->backend.tell(bus->ctx, client->number, text);
}

void bus_reply_durable(struct pawl_bus *bus, const struct pawl_bus_client *client,
                       const struct pawl_reply *reply, uint64_t lsn)
{
    struct bus_wait wait = {.lsn = lsn,
                            .kind = BUS_WAIT_REPLY,
                            .client = client->number,
                            .serial = client->serial,
                            .reply = *reply};
    if (lsn > bus->durable_lsn)
        bus_wait_for(bus, &wait);
    else
        bus->backend.reply(bus->ctx, client->number, reply);
}

uint64_t bus_waited_lsn(const struct pawl_bus *bus)
{
    return bus->wait_count ? bus->waits[(bus->wait_first + bus->wait_count - 1) & (bus->wait_room - 1)].lsn
                           : 0;
}

void bus_cut(struct pawl_bus *bus)
{
    if (bus->backend.cut && !bus->acting && !bus->failed && !bus->replaying)
        bus->backend.cut(bus->ctx);
}

void bus_dirty(struct pawl_bus *bus, struct bus_sub *sub)
{
    if (sub->dirty || bus->replaying)
        return;
    sub->dirty = true;
    sub->next_dirty = NULL;
    if (bus->dirty_tail)
        bus->dirty_tail->next_dirty = sub;
    else
        bus->dirty = sub;
    bus->dirty_tail = sub;
}

static void make_visible(struct pawl_bus *bus, const struct bus_wait *wait)
{
    struct bus_queue *queue = bus_queue_at(bus, wait->queue);
    if (!queue || wait->seq <= queue->visible_tail)
        return;
    queue->visible_tail = wait->seq;
    if (queue->sub)
        bus_dirty(bus, queue->sub);
    for (uint32_t i = 0; i < queue->group_count; i++)
        if (queue->groups[i])
            bus_dirty(bus, queue->groups[i]);
    bus->backend.changed(bus->ctx);
}

static void grant(struct pawl_bus *bus, const struct bus_wait *wait)
{
    struct bus_sub *sub = bus_sub_at(bus, wait->queue, wait->group);
    struct exception *exception = sub ? exception_find(&sub->exceptions, wait->seq) : NULL;
    if (!exception || exception->state != EXCEPTION_GRANTING)
        return;
    exception_become(&sub->exceptions, exception, EXCEPTION_GRANTED);
    if (exception_push(&sub->exceptions, exception) < 0)
        bus->failed = true;
    bus_dirty(bus, sub);
}

void pawl_bus_durable(struct pawl_bus *bus, struct pawl_now now, uint64_t lsn)
{
    bus->now = now;
    bus->durable_lsn = lsn;
    while (bus->wait_count > 0) {
        struct bus_wait wait = bus->waits[bus->wait_first];
        if (wait.lsn > lsn)
            break;
        bus->wait_first = (bus->wait_first + 1) & (bus->wait_room - 1);
        bus->wait_count--;
        switch ((enum bus_wait_kind)wait.kind) {
        case BUS_WAIT_VISIBLE:
            make_visible(bus, &wait);
            break;
        case BUS_WAIT_REPLY: {
            const struct pawl_bus_client *client = pawl_bus_client(bus, wait.client);
            if (client && client->serial == wait.serial)
                bus->backend.reply(bus->ctx, wait.client, &wait.reply);
            break;
        }
        case BUS_WAIT_GRANT:
            grant(bus, &wait);
            break;
        }
    }
}

void pawl_bus_flush(struct pawl_bus *bus, struct pawl_now now)
{
    bus->now = now;
    bus_group_flush(bus);
    bus_settle_flush(bus);
}

/* ---- start ---- */

void pawl_bus_written(struct pawl_bus *bus, struct pawl_now written)
{
    bus->written = written;
}

/* What is left of a wait, after recovery. */
static void wait_on(const struct pawl_bus *bus, struct exception *exception)
{
    uint64_t longest_ns = pawl_now_due_later(bus->now, UINT64_MAX, exception->delay_ns);
    if (exception->due_at_ns == 0)
        exception->due_at_ns = pawl_now_due_later(bus->now, exception->due_realtime_ns, exception->delay_ns);
    else if (exception->due_at_ns > longest_ns)
        exception->due_at_ns = longest_ns;
}

/* Held by a client, or on its way to one, when the scheduler ended: nobody can settle it any more. */
static void interrupt(struct pawl_bus *bus, struct bus_sub *sub, struct exception *exception)
{
    if (exception->interruptions < UINT16_MAX)
        exception->interruptions++;
    exception->due_at_ns = 0;
    if (exception->interruptions > sub->queue->config.interruptions_max) {
        bus_dead(bus, sub, exception->seq, exception->attempt, exception->failures, PAWL_DEAD_INTERRUPTED,
                 "interrupted too often: the scheduler went down while it was being handled", 74);
        return;
    }
    exception_become(&sub->exceptions, exception, EXCEPTION_READY);
}

static int compare_seq(const void *a, const void *b)
{
    const struct exception *first = *(struct exception *const *)a, *second = *(struct exception *const *)b;
    return first->seq < second->seq ? -1 : first->seq > second->seq;
}

/* Its deliveries have begun, so it held its ordering key; records do not say which. It holds it again before
 * anything else of that key is looked at. */
static void hold_key(struct pawl_bus *bus, struct bus_sub *sub, struct exception *exception)
{
    struct backlog_cursor cursor = {0};
    int error;
    if (!sub->queue->config.ordering_key[0] || sub->queue->config.stream || exception->attempt == 0)
        return;
    if (!exception->key) {
        const struct pawl_event *event = backlog_read(bus, sub->queue, &cursor, exception->seq, &error);
        exception->key = event ? bus_ordering_key(sub->queue, event) : 0;
    }
    if (exception->key && exception_key_take(&sub->exceptions, exception->key, exception->seq) < 0)
        bus->failed = true;
}

static void start_sub(struct pawl_bus *bus, struct bus_sub *sub)
{
    size_t count = 0, cursor = 0;
    struct exception **all = malloc((sub->exceptions.count + 1) * sizeof(struct exception *)), *exception;
    if (!all) {
        bus->failed = true;
        return;
    }
    while ((exception = exceptions_next(&sub->exceptions, &cursor)))
        all[count++] = exception;
    qsort(all, count, sizeof(struct exception *), compare_seq);
    pawl_breaker_unpack(&sub->breaker, bus->now.boottime_ns, &sub->breaker_image);
    sub->next = pawl_seqset_head(&sub->settled); /* what was handed out and did not begin comes again */
    for (size_t i = 0; i < count; i++)
        hold_key(bus, sub, all[i]);
    for (size_t i = 0; i < count; i++) {
        exception = all[i];
        uint64_t seq = exception->seq;
        if (exception->state == EXCEPTION_HELD || exception->state == EXCEPTION_GRANTING ||
            exception->state == EXCEPTION_GRANTED) {
            interrupt(bus, sub, exception);
            if (!exception_find(&sub->exceptions, seq))
                continue;
        }
        bool waits = exception->state == EXCEPTION_DELAYED || exception->state == EXCEPTION_DETACHED;
        if (waits)
            wait_on(bus, exception);
        else
            exception->due_at_ns = 0;
        if (exception->key && exception_key_take(&sub->exceptions, exception->key, seq) != 1) {
            exception_key_wait(&sub->exceptions, exception); /* for its time as well: bus_key_release() */
        } else if (waits) {
            if (exception->state == EXCEPTION_DETACHED) {
                sub->in_flight++;
                bus->in_flight++;
            }
            bus_timer(bus, exception->due_at_ns,
                      exception->state == EXCEPTION_DELAYED ? BUS_TIMER_DUE : BUS_TIMER_DEADLINE, seq,
                      bus_timer_of(sub->queue->number, sub->group));
        } else {
            exception_become(&sub->exceptions, exception, EXCEPTION_READY);
            if (exception_push(&sub->exceptions, exception) < 0)
                bus->failed = true;
        }
    }
    free(all);
    bus_dirty(bus, sub);
}

int pawl_bus_start(struct pawl_bus *bus, struct pawl_now now, uint64_t epoch, uint64_t epoch_lsn)
{
    bus->now = now;
    bus->replaying = false;
    bus->epoch = epoch;
    bus->epoch_lsn = epoch_lsn;
    bus->next_event = epoch << 40 | 1;
    uint32_t end = bus->queue_end;
    bus_dlq_find_all(bus);
    bus_expiries_start(bus);
    for (uint32_t i = 0; i < end; i++) {
        struct bus_queue *queue = bus->queues[i];
        if (!queue)
            continue;
        if (bus->backend.metrics_row) /* what was read back is not counted as done */
            queue->row = bus->backend.metrics_row(bus->ctx, queue->number, queue->name);
        if (queue->config.temporary) { /* its client is gone */
            struct pawl_bus_mark mark = {.queue = queue->number, .realtime_ns = now.realtime_ns};
            bus_append(bus, PAWL_BUS_RECORD_DELETE, &mark, sizeof mark, NULL, 0);
            bus->generation = 0; /* of this epoch it gave nothing yet */
            continue;
        }
        queue->visible_tail = queue->tail;
        if (queue->sub)
            start_sub(bus, queue->sub);
        for (uint32_t g = 0; g < queue->group_count; g++)
            if (queue->groups[g])
                start_sub(bus, queue->groups[g]);
        bus_stream_trim(bus, queue);
        bus_queue_row(queue);
    }
    pawl_bus_flush(bus, now);
    return bus->failed ? -ENOMEM : 0;
}

bool pawl_bus_failed(const struct pawl_bus *bus)
{
    return bus->failed;
}

void pawl_bus_drain(struct pawl_bus *bus)
{
    bus->draining = true;
}

uint64_t pawl_bus_held(const struct pawl_bus *bus)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < bus->client_room; i++)
        for (uint64_t n = bus->clients[i] ? bus->clients[i]->held_first : 0;
             bus->clients[i] && n < bus->clients[i]->held_next; n++)
            count += bus_held_at(bus->clients[i], n)->state == BUS_HELD_UNSETTLED;
    return count;
}

uint64_t pawl_bus_queues_lsn(const struct pawl_bus *bus)
{
    return bus->queues_lsn;
}

uint32_t pawl_bus_queue_count(const struct pawl_bus *bus)
{
    return bus->queue_count;
}

uint64_t bus_resolve(const struct pawl_bus *bus, uint64_t place)
{
    return bus->backend.resolve && !(place & PAWL_PLACE_VOLATILE) ? bus->backend.resolve(bus->ctx, place)
                                                                  : place;
}

/* The last segment with records of a stretch: a full disk may have moved them all, or only the last. */
static uint64_t last_segment(const struct pawl_bus *bus, const struct extent *extent)
{
    return extent->walked == BACKLOG_WALK_BEYOND ? (extent->place >> 32) + extent->end_offset
                                                 : bus_resolve(bus, extent->place + extent->end_offset) >> 32;
}

void pawl_bus_mark_pinned(const struct pawl_bus *bus, uint32_t first, uint8_t *marks, uint32_t count)
{
    for (uint32_t q = 0; q < bus->queue_end; q++)
        for (size_t i = 0; bus->queues[q] && i < bus->queues[q]->backlog.count; i++) {
            const struct extent *extent = backlog_extent(&bus->queues[q]->backlog, i);
            if (extent->live == 0 || (extent->place & PAWL_PLACE_VOLATILE))
                continue;
            uint64_t segment = bus_resolve(bus, extent->place) >> 32, last = last_segment(bus, extent);
            for (; segment - first < count && segment <= last; segment++)
                marks[segment - first] = 1;
        }
}
