/*
 * admin.c - administrative requests: JSON in, JSON out.
 *
 * Runs in: scheduler. docs/bus.md lists the operations. One table, one handler each.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

struct request {
    struct pawl_bus *bus;
    uint32_t client;
    json_t *in;
    json_t *out;
    uint64_t lsn;
    char *why;
    const char *died_in; /* of dlq requests: only letters of this queue; NULL: all */
};

enum { DLQ_PAGE_MAX = 1000, REDRIVE_STEP = 4096 };

static int fail(struct request *request, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int fail(struct request *request, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(request->why, 256, format, arguments);
    va_end(arguments);
    return error;
}

static const char *text_of(const struct request *request, const char *key)
{
    const char *text = json_string_value(json_object_get(request->in, key));
    return text ? text : "";
}

static struct bus_queue *queue_of(struct request *request, const char *key, int *error_out)
{
    const char *name = text_of(request, key);
    struct bus_queue *queue = bus_queue_find(request->bus, name);
    if (!queue)
        *error_out =
            fail(request, PAWL_E_NOT_FOUND, "no queue is called %.64s", name[0] ? name : "(none was named)");
    return queue;
}

/* ---- queues ---- */

static json_t *describe_group(const struct bus_sub *sub)
{
    const struct bus_queue *queue = sub->queue;
    uint64_t committed = pawl_seqset_head(&sub->settled), settled = pawl_seqset_count(&sub->settled);
    uint64_t first = bus_queue_first(queue) > committed ? bus_queue_first(queue) : committed;
    return json_pack("{s:s,s:I,s:I,s:I,s:I,s:i}", "group", sub->name, "committed", (json_int_t)committed,
                     "end", (json_int_t)queue->tail, "lag", (json_int_t)(queue->tail - first - settled),
                     "in_flight", (json_int_t)sub->in_flight, "consumers", (int)sub->consumer_count);
}

static json_t *describe(struct pawl_bus *bus, struct bus_queue *queue)
{
    uint64_t in_flight = queue->sub ? queue->sub->in_flight : 0, delayed = 0;
    uint32_t consumers = queue->sub ? queue->sub->consumer_count : 0;
    const struct pawl_breaker *breaker = queue->sub ? &queue->sub->breaker : NULL;
    for (uint32_t i = 0; i < queue->group_count; i++)
        if (queue->groups[i]) {
            in_flight += queue->groups[i]->in_flight;
            consumers += queue->groups[i]->consumer_count;
        }
    if (queue->sub)
        delayed = queue->sub->exceptions.in_state[EXCEPTION_DELAYED];
    char dlq_name[PAWL_NAME_BYTES + 8];
    bus_dlq_name(queue, dlq_name);
    const struct bus_queue *dlq = queue->config.dead_letters ? NULL : bus_queue_find(bus, dlq_name);
    uint64_t parked = 0;
    for (const struct bus_parked *one = queue->parked; one; one = one->next)
        parked++;
    json_t *json =
        json_pack("{s:s,s:I,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:i,s:s,s:I,s:s,s:I,s:I}", "name", queue->name,
                  "number", (json_int_t)queue->number, "state", queue->paused ? "paused" : "active", "kind",
                  queue->config.stream ? "stream" : "queue", "depth", (json_int_t)queue->depth, "ready",
                  (json_int_t)(queue->depth > in_flight + delayed ? queue->depth - in_flight - delayed : 0),
                  "delayed", (json_int_t)delayed, "in_flight", (json_int_t)in_flight, "bytes",
                  (json_int_t)queue->bytes, "consumers", (int)consumers, "dlq",
                  queue->config.dead_letters ? "" : dlq_name, "dlq_depth", (json_int_t)(dlq ? dlq->depth : 0),
                  "breaker", breaker ? pawl_breaker_state_name(breaker->state) : "closed",
                  "blocked_publishes", (json_int_t)parked, "next_seq", (json_int_t)queue->tail);
    return json;
}

static int on_declare(struct request *request)
{
    struct pawl_bus *bus = request->bus;
    const char *name = text_of(request, "name");
    struct pawl_queue_config config;
    if (!bus_name_holds(name))
        return fail(
            request, PAWL_E_INVALID,
            "'%.70s' cannot be a queue's name: 1 to 64 of A-Z a-z 0-9 _ . -, not beginning with . or -",
            name);
    struct bus_queue *before = bus_queue_find(bus, name);
    const json_t *given = json_object_get(request->in, "config");
    int error = pawl_queue_config_load(given, name, &bus->limits, before ? &before->config : NULL, &config,
                                       request->why);
    if (error)
        return error;
    if (!before && config.topic_count == 0 && !config.unrouted) {
        pawl_queue_config_fini(&config);
        return fail(request, PAWL_E_INVALID, "queue %s is new: say which topics it wants (--topic PATTERN)",
                    name);
    }
    if (config.temporary && request->client == 0 && !before) {
        pawl_queue_config_fini(&config);
        return fail(request, PAWL_E_STATE,
                    "a temporary queue ends with the attached client that declared it, and there is none");
    }
    error = bus_queue_declare(bus, name, &config, &request->lsn, request->why);
    pawl_queue_config_fini(&config);
    if (error)
        return error;
    struct bus_queue *queue = bus_queue_find(bus, name);
    /* A temporary one ends with the client that declared it last: who comes back may be quicker than its
     * death. */
    if (queue && (!before || (queue->config.temporary && request->client)))
        queue->owner = request->client;
    request->out = json_pack("{s:i,s:s,s:b}", "schema", 1, "name", name, "created", before == NULL);
    return 0;
}

static int on_list(struct request *request)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < request->bus->queue_end && list; i++)
        if (request->bus->queues[i])
            json_array_append_new(list, describe(request->bus, request->bus->queues[i]));
    request->out = json_pack("{s:i,s:o}", "schema", 1, "queues", list);
    return 0;
}

static int on_show(struct request *request)
{
    int error = 0;
    struct bus_queue *queue = queue_of(request, "name", &error);
    if (!queue)
        return error;
    json_t *groups = json_array();
    for (uint32_t i = 0; i < queue->group_count && groups; i++)
        if (queue->groups[i])
            json_array_append_new(groups, describe_group(queue->groups[i]));
    request->out = describe(request->bus, queue);
    json_object_set_new(request->out, "schema", json_integer(1));
    json_object_set_new(request->out, "config", pawl_queue_config_json(&queue->config));
    json_object_set_new(request->out, "groups", groups);
    return 0;
}

static int set_paused(struct request *request, bool paused)
{
    int error = 0;
    struct pawl_bus *bus = request->bus;
    struct bus_queue *queue = queue_of(request, "name", &error);
    if (!queue)
        return error;
    if (queue->paused != paused) {
        struct pawl_bus_queue_record record = {.queue = queue->number,
                                               .flags = paused ? PAWL_BUS_QUEUE_PAUSED : 0,
                                               .realtime_ns = bus->now.realtime_ns};
        memcpy(record.name, queue->name, sizeof record.name);
        json_t *json = pawl_queue_config_json(&queue->config);
        char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
        json_decref(json);
        if (!text)
            return -ENOMEM;
        record.config_bytes = (uint32_t)strlen(text);
        request->lsn =
            bus_append(bus, PAWL_BUS_RECORD_QUEUE, &record, sizeof record, text, record.config_bytes);
        free(text);
    }
    request->out = json_pack("{s:i,s:s,s:s}", "schema", 1, "name", text_of(request, "name"), "state",
                             paused ? "paused" : "active");
    return 0;
}

static int on_pause(struct request *request)
{
    return set_paused(request, true);
}

static int on_resume(struct request *request)
{
    return set_paused(request, false);
}

/* All that nobody holds now. Return: how many. */
static uint64_t purge(struct pawl_bus *bus, struct bus_queue *queue)
{
    struct bus_sub *sub = queue->sub;
    uint64_t count = 0, seq = pawl_seqset_head(&sub->settled);
    bus_group_flush(bus);
    while (seq < queue->tail && !bus->failed) {
        uint64_t first, last;
        if (!pawl_seqset_range(&sub->settled, seq, queue->tail, false, &first, &last))
            break;
        /* Below the cursor single events may be held: those stay. */
        uint64_t upto = first;
        bool held = false;
        for (;; upto++) {
            const struct exception *exception = exception_find(&sub->exceptions, upto);
            held = exception ? exception->state == EXCEPTION_HELD || exception->state == EXCEPTION_DETACHED ||
                                   exception->state == EXCEPTION_GRANTING
                             : upto < sub->next;
            if (held || upto == last)
                break;
            if (upto >= sub->next && sub->exceptions.count == 0) {
                upto = last;
                break;
            }
        }
        uint64_t end = held ? upto - 1 : upto;
        if (!held || upto > first) {
            count += end - first + 1;
            bus_sub_drop_range(bus, sub, first, end, PAWL_BUS_END_PURGED);
        }
        seq = upto + 1;
    }
    return count;
}

static int on_purge(struct request *request)
{
    int error = 0;
    struct pawl_bus *bus = request->bus;
    struct bus_queue *queue = queue_of(request, "name", &error);
    if (!queue)
        return error;
    uint64_t count;
    if (queue->config.stream) {
        count = queue->depth;
        struct pawl_bus_mark mark = {
            .queue = queue->number, .offset = queue->tail, .realtime_ns = bus->now.realtime_ns};
        request->lsn = bus_append(bus, PAWL_BUS_RECORD_TRIM, &mark, sizeof mark, NULL, 0);
    } else {
        count = purge(bus, queue);
        request->lsn = UINT64_MAX; /* whatever was appended */
    }
    if (queue->parked)
        bus_unpark(bus, queue);
    bus_queue_row(queue);
    request->out = json_pack("{s:i,s:s,s:I}", "schema", 1, "name", queue->name, "purged", (json_int_t)count);
    return 0;
}

static int on_delete(struct request *request)
{
    int error = 0;
    struct pawl_bus *bus = request->bus;
    struct bus_queue *queue = queue_of(request, "name", &error);
    if (!queue)
        return error;
    struct pawl_bus_mark mark = {.queue = queue->number, .realtime_ns = bus->now.realtime_ns};
    uint64_t depth = queue->depth;
    bus_group_flush(bus);
    bus_settle_flush(bus);
    request->lsn = bus_append(bus, PAWL_BUS_RECORD_DELETE, &mark, sizeof mark, NULL, 0);
    request->out = json_pack("{s:i,s:s,s:I}", "schema", 1, "name", text_of(request, "name"), "deleted_events",
                             (json_int_t)depth);
    return 0;
}

/* ---- dead letters ---- */

static bool is_shared(struct pawl_bus *bus, const struct bus_queue *dlq, const struct bus_queue *owner)
{
    char name[PAWL_NAME_BYTES + 8];
    for (uint32_t i = 0; i < bus->queue_end; i++) {
        const struct bus_queue *other = bus->queues[i];
        if (!other || other == owner || other->config.dead_letters)
            continue;
        bus_dlq_name(other, name);
        if (strcmp(name, dlq->name) == 0)
            return true;
    }
    return false;
}

/* The dead-letter queue of the queue that is named, whose letters alone are meant; or that queue itself when
 * it is one. */
static struct bus_queue *dlq_of(struct request *request, int *error_out)
{
    struct bus_queue *queue = queue_of(request, "queue", error_out);
    if (!queue)
        return NULL;
    if (queue->config.dead_letters)
        return queue;
    char name[PAWL_NAME_BYTES + 8];
    bus_dlq_name(queue, name);
    struct bus_queue *dlq = bus_queue_find(request->bus, name);
    *error_out = dlq ? 0 : 1; /* nothing has died yet */
    if (dlq && is_shared(request->bus, dlq, queue))
        request->died_in = queue->name;
    return dlq;
}

static const char *header(const struct pawl_event *event, const char *name, char *out, size_t room)
{
    size_t bytes;
    const char *value = pawl_event_header_find(event, name, strlen(name), &bytes);
    snprintf(out, room, "%.*s", value ? (int)bytes : 0, value ? value : "");
    return out;
}

/* Filter of dlq requests: {"reason": R, "topic": T, "queue": Q}; missing: any. */
static bool passes(const struct request *request, const struct pawl_event *event)
{
    json_t *filter = json_object_get(request->in, "filter"), *value;
    const char *key;
    char text[300];
    if (request->died_in &&
        strcmp(header(event, "pawl-dead-queue", text, sizeof text), request->died_in) != 0)
        return false;
    json_object_foreach(filter, key, value)
    {
        const char *want = json_string_value(value);
        if (!want)
            continue;
        if (strcmp(key, "topic") == 0) {
            if (strcmp(pawl_event_topic(event), want) != 0)
                return false;
        } else {
            char name[64];
            snprintf(name, sizeof name, "pawl-dead-%.40s", key);
            if (strcmp(header(event, name, text, sizeof text), want) != 0)
                return false;
        }
    }
    return true;
}

static int check_filter(struct request *request)
{
    json_t *filter = json_object_get(request->in, "filter"), *value;
    const char *key;
    if (filter && !json_is_null(filter) && !json_is_object(filter))
        return fail(request, PAWL_E_INVALID, "filter: not an object");
    json_object_foreach(filter, key, value)
    {
        if (strcmp(key, "reason") != 0 && strcmp(key, "topic") != 0 && strcmp(key, "queue") != 0)
            return fail(request, PAWL_E_INVALID, "a filter by '%.40s' is not known: reason, topic, queue",
                        key);
        if (!json_is_string(value))
            return fail(request, PAWL_E_INVALID, "filter: '%.40s' is not a text", key);
    }
    return 0;
}

static bool is_free(const struct bus_sub *sub, uint64_t seq)
{
    const struct exception *exception = exception_find(&sub->exceptions, seq);
    if (exception)
        return exception->state == EXCEPTION_READY || exception->state == EXCEPTION_DELAYED ||
               exception->state == EXCEPTION_KEYED;
    return seq >= sub->next;
}

/* Calls @each for every dead letter that is asked for: seqs if given, else the filter, from "from" on. */
static int each_letter(struct request *request, struct bus_queue *dlq, uint64_t most,
                       int (*each)(struct request *, struct bus_queue *, uint64_t seq,
                                   const struct pawl_event *, void *),
                       void *ctx, uint64_t *next_out)
{
    struct pawl_bus *bus = request->bus;
    const json_t *seqs = json_object_get(request->in, "seqs");
    uint64_t seq = (uint64_t)json_integer_value(json_object_get(request->in, "from")), end = dlq->tail;
    struct backlog_cursor cursor = {0};
    size_t index = 0;
    int error = 0;
    *next_out = 0;
    for (uint64_t count = 0; !error && !bus->failed;) {
        if (json_is_array(seqs)) {
            if (index == json_array_size(seqs))
                return 0;
            seq = (uint64_t)json_integer_value(json_array_get(seqs, index++));
            if (backlog_next(&dlq->backlog, seq) != seq ||
                (dlq->sub && pawl_seqset_has(&dlq->sub->settled, seq)))
                continue;
        } else {
            if (dlq->sub)
                seq = pawl_seqset_next_unset(&dlq->sub->settled, seq);
            seq = backlog_next(&dlq->backlog, seq);
            if (seq >= end)
                return 0;
        }
        bus->stamp++;
        const struct pawl_event *event = backlog_read(bus, dlq, &cursor, seq, &error);
        if (!event)
            return error;
        if (passes(request, event)) {
            if (count++ == most) {
                *next_out = seq;
                return 0;
            }
            error = each(request, dlq, seq, event, ctx);
        }
        seq++;
    }
    return error;
}

static void put_data(json_t *json, const struct pawl_event *event)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *data = pawl_event_data(event);
    json_t *text = json_stringn((const char *)data, event->data_bytes);
    if (text) {
        json_object_set_new(json, "data", text);
        return;
    }
    char *base64 = malloc((size_t)event->data_bytes * 4 / 3 + 8), *out = base64;
    if (!base64)
        return;
    for (uint32_t i = 0; i < event->data_bytes; i += 3) {
        uint32_t left = event->data_bytes - i;
        uint32_t word = (uint32_t)data[i] << 16 | (left > 1 ? (uint32_t)data[i + 1] << 8 : 0) |
                        (left > 2 ? data[i + 2] : 0);
        *out++ = digits[word >> 18];
        *out++ = digits[word >> 12 & 63];
        *out++ = left > 1 ? digits[word >> 6 & 63] : '=';
        *out++ = left > 2 ? digits[word & 63] : '=';
    }
    json_object_set_new(json, "data_base64", json_stringn(base64, (size_t)(out - base64)));
    free(base64);
}

static int list_letter(struct request *request, struct bus_queue *dlq, uint64_t seq,
                       const struct pawl_event *event, void *ctx)
{
    char text[1100], id[24];
    json_t *headers = json_object(), *json = json_object();
    const char *name, *value;
    size_t at = 0, name_bytes, value_bytes;
    (void)request;
    while (pawl_event_header_next(pawl_event_headers(event), event->headers_bytes, &at, &name, &name_bytes,
                                  &value, &value_bytes)) {
        char key[256];
        snprintf(key, sizeof key, "%.*s", (int)(name_bytes < 255 ? name_bytes : 255), name);
        if (strncmp(key, "pawl-dead-", 10) != 0)
            json_object_set_new(headers, key, json_stringn(value, value_bytes));
    }
    snprintf(id, sizeof id, "%" PRIu64, event->id);
    json_object_set_new(json, "seq", json_integer((json_int_t)seq));
    json_object_set_new(json, "event", json_string(id));
    json_object_set_new(json, "topic", json_string(pawl_event_topic(event)));
    json_object_set_new(json, "queue", json_string(header(event, "pawl-dead-queue", text, sizeof text)));
    json_object_set_new(json, "reason", json_string(header(event, "pawl-dead-reason", text, sizeof text)));
    json_object_set_new(
        json, "attempts",
        json_integer(strtoll(header(event, "pawl-dead-attempts", text, sizeof text), NULL, 10)));
    json_object_set_new(json, "error", json_string(header(event, "pawl-dead-error", text, sizeof text)));
    json_object_set_new(
        json, "first_at_ns",
        json_integer(strtoll(header(event, "pawl-dead-first-at", text, sizeof text), NULL, 10)));
    json_object_set_new(
        json, "last_at_ns",
        json_integer(strtoll(header(event, "pawl-dead-last-at", text, sizeof text), NULL, 10)));
    json_object_set_new(json, "published_at_ns", json_integer((json_int_t)event->published_at_ns));
    json_object_set_new(json, "headers", headers);
    put_data(json, event);
    if (dlq->sub)
        json_object_set_new(json, "in_flight", json_boolean(!is_free(dlq->sub, seq)));
    json_array_append_new(ctx, json);
    return 0;
}

static int on_dlq_list(struct request *request)
{
    int error = check_filter(request);
    struct bus_queue *dlq = error ? NULL : dlq_of(request, &error);
    if (error < 0)
        return error;
    uint64_t most = (uint64_t)json_integer_value(json_object_get(request->in, "count")), next = 0;
    if (most == 0 || most > DLQ_PAGE_MAX)
        most = DLQ_PAGE_MAX;
    json_t *list = json_array();
    error = dlq ? each_letter(request, dlq, most, list_letter, list, &next) : 0;
    request->out = json_pack("{s:i,s:s,s:I,s:I,s:o}", "schema", 1, "dlq", dlq ? dlq->name : "", "depth",
                             (json_int_t)(dlq ? dlq->depth : 0), "next", (json_int_t)next, "events", list);
    return error < 0 ? fail(request, error, "a dead letter cannot be read: %s", pawl_error_text(error)) : 0;
}

struct redrive {
    struct bus_queue *to; /* NULL: each to where it died */
    uint64_t moved, skipped, last_seq;
};

static int redrive_letter(struct request *request, struct bus_queue *dlq, uint64_t seq,
                          const struct pawl_event *event, void *ctx)
{
    struct redrive *redrive = ctx;
    struct pawl_bus *bus = request->bus;
    char name[PAWL_NAME_BYTES + 8];
    struct bus_queue *to =
        redrive->to ? redrive->to : bus_queue_find(bus, header(event, "pawl-dead-queue", name, sizeof name));
    redrive->last_seq = seq;
    if (!to || to == dlq || (dlq->sub && !is_free(dlq->sub, seq)) || bus_queue_is_full(to, event->bytes)) {
        redrive->skipped++;
        return 0;
    }
    struct pawl_event *copy = bus_event_with_headers(bus, event, NULL, NULL, 0, "pawl-dead-");
    if (!copy || bus_put(bus, to, copy) == 0) {
        redrive->skipped++;
        return 0;
    }
    if (dlq->sub)
        bus_sub_drop_range(bus, dlq->sub, seq, seq, PAWL_BUS_END_DROPPED);
    bus_cut(bus);
    redrive->moved++;
    return 0;
}

static int on_dlq_redrive(struct request *request)
{
    int error = check_filter(request);
    struct redrive redrive = {0};
    uint64_t next = 0;
    struct bus_queue *dlq = error ? NULL : dlq_of(request, &error);
    if (error < 0)
        return error;
    if (text_of(request, "to")[0]) {
        redrive.to = queue_of(request, "to", &error);
        if (!redrive.to)
            return error;
    }
    error = dlq ? each_letter(request, dlq, REDRIVE_STEP, redrive_letter, &redrive, &next) : 0;
    request->lsn = UINT64_MAX;
    request->out = json_pack("{s:i,s:s,s:I,s:I,s:I,s:b}", "schema", 1, "dlq", dlq ? dlq->name : "",
                             "redriven", (json_int_t)redrive.moved, "skipped", (json_int_t)redrive.skipped,
                             "next", (json_int_t)next, "count_reset", 1);
    return error < 0 ? fail(request, error, "a dead letter cannot be read: %s", pawl_error_text(error)) : 0;
}

struct dlq_purge {
    uint64_t purged, skipped;
};

static int purge_letter(struct request *request, struct bus_queue *dlq, uint64_t seq,
                        const struct pawl_event *event, void *ctx)
{
    struct dlq_purge *letters = ctx;
    (void)event;
    if (!dlq->sub || !is_free(dlq->sub, seq)) {
        letters->skipped++;
        return 0;
    }
    bus_sub_drop_range(request->bus, dlq->sub, seq, seq, PAWL_BUS_END_PURGED);
    letters->purged++;
    return 0;
}

static int on_dlq_purge(struct request *request)
{
    int error = check_filter(request);
    uint64_t next = 0;
    struct dlq_purge letters = {0};
    struct bus_queue *dlq = error ? NULL : dlq_of(request, &error);
    if (error < 0)
        return error;
    bool all = json_object_size(json_object_get(request->in, "filter")) == 0 &&
               !json_is_array(json_object_get(request->in, "seqs")) && !request->died_in;
    if (dlq && all && dlq->sub)
        letters.purged = purge(request->bus, dlq);
    else if (dlq)
        error = each_letter(request, dlq, UINT64_MAX, purge_letter, &letters, &next);
    request->lsn = UINT64_MAX;
    request->out = json_pack("{s:i,s:s,s:I,s:I}", "schema", 1, "dlq", dlq ? dlq->name : "", "purged",
                             (json_int_t)letters.purged, "skipped", (json_int_t)letters.skipped);
    return error < 0 ? fail(request, error, "a dead letter cannot be read: %s", pawl_error_text(error)) : 0;
}

/* ---- groups ---- */

static struct bus_queue *stream_of(struct request *request, int *error_out)
{
    struct bus_queue *queue = queue_of(request, "queue", error_out);
    if (queue && !queue->config.stream) {
        *error_out = fail(request, PAWL_E_INVALID, "queue %s is not a stream: it has no groups", queue->name);
        return NULL;
    }
    return queue;
}

/* "earliest", "latest", {"offset": N}, {"time_ns": N}, a number, or "from_committed". */
static int offset_of(struct request *request, struct bus_queue *queue, const char *key, uint64_t *offset_out)
{
    const json_t *value = json_object_get(request->in, key);
    uint64_t first = bus_queue_first(queue);
    if (!value || json_is_null(value) ||
        (json_is_string(value) && strcmp(json_string_value(value), "earliest") == 0))
        *offset_out = first;
    else if (json_is_string(value) && strcmp(json_string_value(value), "latest") == 0)
        *offset_out = queue->tail;
    else if (json_is_integer(value))
        *offset_out = (uint64_t)json_integer_value(value);
    else if (json_is_integer(json_object_get(value, "offset")))
        *offset_out = (uint64_t)json_integer_value(json_object_get(value, "offset"));
    else if (json_is_integer(json_object_get(value, "time_ns")))
        *offset_out = bus_stream_offset(request->bus, queue,
                                        (uint64_t)json_integer_value(json_object_get(value, "time_ns")));
    else
        return fail(request, PAWL_E_INVALID, "%s: say earliest, latest, an offset or a time", key);
    if (*offset_out > queue->tail)
        return fail(request, PAWL_E_NOT_FOUND,
                    "offset %" PRIu64 " is beyond the end of %s, which is %" PRIu64, *offset_out, queue->name,
                    queue->tail);
    if (*offset_out < first)
        *offset_out = first; /* what was before is gone */
    return 0;
}

static int append_group(struct request *request, struct bus_queue *queue, uint32_t number, const char *name,
                        uint64_t offset)
{
    struct pawl_bus_mark mark = {.queue = queue->number,
                                 .group = number,
                                 .offset = offset,
                                 .realtime_ns = request->bus->now.realtime_ns};
    snprintf(mark.name, sizeof mark.name, "%s", name);
    bus_settle_flush(request->bus);
    request->lsn = bus_append(request->bus, PAWL_BUS_RECORD_GROUP, &mark, sizeof mark, NULL, 0);
    request->out = json_pack("{s:i,s:s,s:s,s:I}", "schema", 1, "queue", queue->name, "group", name, "offset",
                             (json_int_t)offset);
    return 0;
}

static int on_group_create(struct request *request)
{
    int error = 0;
    uint64_t offset;
    struct bus_queue *queue = stream_of(request, &error);
    if (!queue)
        return error;
    const char *name = text_of(request, "group");
    if (!bus_name_holds(name))
        return fail(request, PAWL_E_INVALID, "'%.70s' cannot be a group's name", name);
    if (bus_sub_find(queue, name)) {
        request->out =
            json_pack("{s:i,s:s,s:s,s:b}", "schema", 1, "queue", queue->name, "group", name, "created", 0);
        return 0;
    }
    uint32_t number = bus_group_number(request->bus, queue);
    if (number == 0)
        return fail(request, PAWL_E_LIMIT, "stream %s has %llu groups, which is the limit", queue->name,
                    (unsigned long long)request->bus->limits.stream_groups);
    error = offset_of(request, queue, "from", &offset);
    return error ? error : append_group(request, queue, number, name, offset);
}

static struct bus_sub *group_of(struct request *request, struct bus_queue *queue, int *error_out)
{
    struct bus_sub *sub = bus_sub_find(queue, text_of(request, "group"));
    if (!sub)
        *error_out = fail(request, PAWL_E_NOT_FOUND, "stream %s has no group %.64s", queue->name,
                          text_of(request, "group"));
    return sub;
}

static int on_group_commit(struct request *request)
{
    int error = 0;
    uint64_t offset;
    struct bus_queue *queue = stream_of(request, &error);
    struct bus_sub *sub = queue ? group_of(request, queue, &error) : NULL;
    if (!sub)
        return error;
    error = offset_of(request, queue, "offset", &offset);
    if (error)
        return error;
    uint64_t head = pawl_seqset_head(&sub->settled);
    if (offset > head)
        bus_sub_drop_range(request->bus, sub, head, offset - 1, PAWL_BUS_END_ACKED);
    request->lsn = UINT64_MAX;
    request->out = describe_group(sub);
    return 0;
}

static int on_group_seek(struct request *request)
{
    int error = 0;
    uint64_t offset;
    struct bus_queue *queue = stream_of(request, &error);
    struct bus_sub *sub = queue ? group_of(request, queue, &error) : NULL;
    if (!sub)
        return error;
    error = offset_of(request, queue, "to", &offset);
    return error ? error : append_group(request, queue, sub->group, sub->name, offset);
}

static int on_group_lag(struct request *request)
{
    int error = 0;
    struct bus_queue *queue = stream_of(request, &error);
    if (!queue)
        return error;
    if (text_of(request, "group")[0]) {
        struct bus_sub *sub = group_of(request, queue, &error);
        if (!sub)
            return error;
        request->out = describe_group(sub);
        json_object_set_new(request->out, "schema", json_integer(1));
        json_object_set_new(request->out, "queue", json_string(queue->name));
        return 0;
    }
    json_t *groups = json_array();
    for (uint32_t i = 0; i < queue->group_count && groups; i++)
        if (queue->groups[i])
            json_array_append_new(groups, describe_group(queue->groups[i]));
    request->out =
        json_pack("{s:i,s:s,s:I,s:I,s:o}", "schema", 1, "queue", queue->name, "first",
                  (json_int_t)bus_queue_first(queue), "end", (json_int_t)queue->tail, "groups", groups);
    return 0;
}

static int on_group_delete(struct request *request)
{
    int error = 0;
    struct bus_queue *queue = stream_of(request, &error);
    struct bus_sub *sub = queue ? group_of(request, queue, &error) : NULL;
    if (!sub)
        return error;
    struct pawl_bus_mark mark = {
        .queue = queue->number, .group = sub->group, .realtime_ns = request->bus->now.realtime_ns};
    bus_settle_flush(request->bus);
    request->lsn = bus_append(request->bus, PAWL_BUS_RECORD_DELETE, &mark, sizeof mark, NULL, 0);
    request->out =
        json_pack("{s:i,s:s,s:s}", "schema", 1, "queue", queue->name, "group", text_of(request, "group"));
    return 0;
}

static int on_queue_name(struct request *request)
{
    struct bus_queue *queue =
        bus_queue_at(request->bus, (uint32_t)json_integer_value(json_object_get(request->in, "number")));
    if (!queue)
        return fail(request, PAWL_E_NOT_FOUND, "no queue has that number");
    request->out = json_pack("{s:i,s:s}", "schema", 1, "name", queue->name);
    return 0;
}

static const struct {
    const char *op;
    int (*run)(struct request *request);
} OPERATIONS[] = {
    {"queue.declare", on_declare},     {"queue.list", on_list},       {"queue.show", on_show},
    {"queue.pause", on_pause},         {"queue.resume", on_resume},   {"queue.purge", on_purge},
    {"queue.delete", on_delete},       {"queue.name", on_queue_name}, {"dlq.list", on_dlq_list},
    {"dlq.redrive", on_dlq_redrive},   {"dlq.purge", on_dlq_purge},   {"group.create", on_group_create},
    {"group.commit", on_group_commit}, {"group.seek", on_group_seek}, {"group.lag", on_group_lag},
    {"group.delete", on_group_delete},
};

int pawl_bus_request(struct pawl_bus *bus, struct pawl_now now, uint32_t client, json_t *json,
                     json_t **reply_out, uint64_t *lsn_out, char why[256])
{
    struct request request = {.bus = bus, .client = client, .in = json, .why = why};
    const char *op = json_string_value(json_object_get(json, "op"));
    bus->now = now;
    bus->stamp++;
    why[0] = 0;
    *reply_out = NULL;
    *lsn_out = 0;
    for (size_t i = 0; op && i < sizeof OPERATIONS / sizeof *OPERATIONS; i++) {
        if (strcmp(OPERATIONS[i].op, op) != 0)
            continue;
        int error = OPERATIONS[i].run(&request);
        *lsn_out = request.lsn;
        if (error) {
            json_decref(request.out);
            return error;
        }
        *reply_out = request.out;
        return request.out ? 0 : -ENOMEM;
    }
    snprintf(why, 256, "no operation is called '%.60s'", op ? op : "");
    return PAWL_E_INVALID;
}
