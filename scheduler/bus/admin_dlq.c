/*
 * admin_dlq.c - administrative requests about dead letters: listed, redriven, purged.
 *
 * Runs in: scheduler.
 */
#include "scheduler/bus/admin.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

enum { DLQ_PAGE_MAX = 1000, STEP_LETTERS_MAX = 4096 };

/* Of letters that one request looks at, and their bytes but for the first's: what it reads, copies, writes
 * and answers is bounded by these. */
#define STEP_BYTES_MAX (UINT64_C(8) << 20)

/* The dead-letter queue of the queue that is named, whose letters alone are meant; or that queue itself when
 * it is one. */
static struct bus_queue *dlq_of(struct bus_request *request, int *error_out)
{
    struct bus_queue *queue = bus_request_queue(request, "queue", error_out);
    if (!queue)
        return NULL;
    if (queue->config.dead_letters)
        return queue;
    char name[PAWL_NAME_BYTES + 8];
    struct bus_queue *dlq = bus_dlq_find(request->bus, queue, name);
    *error_out = dlq ? 0 : 1; /* nothing has died yet */
    if (dlq && bus_dlq_is_shared(request->bus, dlq, queue))
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

/* Filter of dlq requests: {"reason": R, "topic": T, "queue": Q, "group": G}; missing: any. */
static bool passes(const struct bus_request *request, const struct pawl_event *event)
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

static int check_filter(struct bus_request *request)
{
    json_t *filter = json_object_get(request->in, "filter"), *value;
    const char *key;
    if (filter && !json_is_null(filter) && !json_is_object(filter))
        return bus_request_fail(request, PAWL_E_INVALID, "filter: not an object");
    json_object_foreach(filter, key, value)
    {
        if (strcmp(key, "reason") != 0 && strcmp(key, "topic") != 0 && strcmp(key, "queue") != 0 &&
            strcmp(key, "group") != 0)
            return bus_request_fail(request, PAWL_E_INVALID,
                                    "a filter by '%.40s' is not known: reason, topic, queue, group", key);
        if (!json_is_string(value))
            return bus_request_fail(request, PAWL_E_INVALID, "filter: '%.40s' is not a text", key);
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

/* A letter that is there; 0: this is the number of none. */
static uint64_t listed_seq(const struct bus_queue *dlq, const json_t *number)
{
    uint64_t seq = json_integer_value(number) > 0 ? (uint64_t)json_integer_value(number) : 0;
    if (seq == 0 || seq >= dlq->tail || backlog_next(&dlq->backlog, seq) != seq)
        return 0;
    return dlq->sub && pawl_seqset_has(&dlq->sub->settled, seq) ? 0 : seq;
}

/* Calls @each for every dead letter that is asked for, from "from" on: of "seqs" it is the index, else a seq.
 * It stops before it has done more than @most or looked at more than a step has; then *next_out says where to
 * go on, else it is 0. */
static int each_letter(struct bus_request *request, struct bus_queue *dlq, uint64_t most,
                       int (*each)(struct bus_request *, struct bus_queue *, uint64_t seq,
                                   const struct pawl_event *, void *),
                       void *ctx, uint64_t *next_out)
{
    struct pawl_bus *bus = request->bus;
    const json_t *seqs = json_object_get(request->in, "seqs");
    bool listed = json_is_array(seqs);
    uint64_t at = (uint64_t)json_integer_value(json_object_get(request->in, "from")), end = dlq->tail;
    struct backlog_cursor cursor = {0};
    uint64_t done = 0, bytes = 0;
    int error = 0;
    *next_out = 0;
    for (int looked = 0; !error && !bus->failed; at++, looked++) {
        uint64_t seq = at;
        if (listed && at >= json_array_size(seqs))
            return 0;
        if (!listed) {
            if (dlq->sub)
                seq = pawl_seqset_next_unset(&dlq->sub->settled, seq);
            seq = at = backlog_next(&dlq->backlog, seq);
            if (seq >= end)
                return 0;
        }
        if (looked == STEP_LETTERS_MAX) {
            *next_out = at;
            return 0;
        }
        if (listed && (seq = listed_seq(dlq, json_array_get(seqs, at))) == 0)
            continue;
        bus->stamp++;
        const struct pawl_event *event = backlog_read(bus, dlq, &cursor, seq, &error);
        if (!event && error == PAWL_E_DAMAGED) {
            bus_log(request->bus, dlq, PAWL_LOG_ERROR, "event %" PRIu64 " cannot be read: %s; it stays", seq,
                    pawl_error_text(error));
            error = 0;
            continue;
        }
        if (!event)
            return error;
        bool passed = passes(request, event);
        if (bytes > 0 && (event->bytes > STEP_BYTES_MAX - bytes || (passed && done == most))) {
            *next_out = at;
            return 0;
        }
        bytes += event->bytes;
        if (bytes > STEP_BYTES_MAX)
            bytes = STEP_BYTES_MAX; /* the first may be larger */
        done += passed;
        if (passed)
            error = each(request, dlq, seq, event, ctx);
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

static int list_letter(struct bus_request *request, struct bus_queue *dlq, uint64_t seq,
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
    if (header(event, "pawl-dead-group", text, sizeof text)[0])
        json_object_set_new(json, "group", json_string(text));
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

int bus_on_dlq_list(struct bus_request *request)
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
    return error < 0
               ? bus_request_fail(request, error, "a dead letter cannot be read: %s", pawl_error_text(error))
               : 0;
}

struct redrive {
    struct bus_queue *to; /* NULL: each to where it died */
    uint64_t moved, skipped, last_seq;
};

static int redrive_letter(struct bus_request *request, struct bus_queue *dlq, uint64_t seq,
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
    struct pawl_event *copy = bus_event_with_headers(bus, event, NULL, NULL, 0, "pawl-dead-", false);
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

int bus_on_dlq_redrive(struct bus_request *request)
{
    int error = check_filter(request);
    struct redrive redrive = {0};
    uint64_t next = 0;
    struct bus_queue *dlq = error ? NULL : dlq_of(request, &error);
    if (error < 0)
        return error;
    if (bus_request_text(request, "to")[0]) {
        redrive.to = bus_request_queue(request, "to", &error);
        if (!redrive.to)
            return error;
    }
    if (request->bus->backend.has_room(request->bus->ctx, STEP_BYTES_MAX) == PAWL_E_NO_SPACE)
        return bus_request_fail(request, PAWL_E_NO_SPACE, "the disk has no room for what would be redriven");
    error = dlq ? each_letter(request, dlq, STEP_LETTERS_MAX, redrive_letter, &redrive, &next) : 0;
    request->lsn = UINT64_MAX;
    request->out = json_pack("{s:i,s:s,s:I,s:I,s:I,s:b}", "schema", 1, "dlq", dlq ? dlq->name : "",
                             "redriven", (json_int_t)redrive.moved, "skipped", (json_int_t)redrive.skipped,
                             "next", (json_int_t)next, "count_reset", 1);
    return error < 0
               ? bus_request_fail(request, error, "a dead letter cannot be read: %s", pawl_error_text(error))
               : 0;
}

struct dlq_purge {
    uint64_t purged, skipped;
};

static int purge_letter(struct bus_request *request, struct bus_queue *dlq, uint64_t seq,
                        const struct pawl_event *event, void *ctx)
{
    struct dlq_purge *letters = ctx;
    (void)event;
    if (!dlq->sub || !is_free(dlq->sub, seq)) {
        letters->skipped++;
        return 0;
    }
    bus_sub_drop_range(request->bus, dlq->sub, seq, seq, PAWL_BUS_END_PURGED);
    bus_cut(request->bus); /* a batch has a bound, letters need not have */
    letters->purged++;
    return 0;
}

int bus_on_dlq_purge(struct bus_request *request)
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
        letters.purged = bus_purge(request->bus, dlq);
    else if (dlq)
        error = each_letter(request, dlq, STEP_LETTERS_MAX, purge_letter, &letters, &next);
    request->lsn = UINT64_MAX;
    request->out = json_pack("{s:i,s:s,s:I,s:I,s:I}", "schema", 1, "dlq", dlq ? dlq->name : "", "purged",
                             (json_int_t)letters.purged, "skipped", (json_int_t)letters.skipped, "next",
                             (json_int_t)next);
    return error < 0
               ? bus_request_fail(request, error, "a dead letter cannot be read: %s", pawl_error_text(error))
               : 0;
}
