/*
 * admin.c - administrative requests, JSON in, JSON out; those about queues.
 *
 * Runs in: scheduler. docs/bus.md lists the operations. One table, one handler each.
 */
#include "scheduler/bus/admin.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

int bus_request_fail(struct bus_request *request, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(request->why, 256, format, arguments);
    va_end(arguments);
    return error;
}

const char *bus_request_text(const struct bus_request *request, const char *key)
{
    const char *text = json_string_value(json_object_get(request->in, key));
    return text ? text : "";
}

struct bus_queue *bus_request_queue(struct bus_request *request, const char *key, int *error_out)
{
    const char *name = bus_request_text(request, key);
    struct bus_queue *queue = bus_queue_find(request->bus, name);
    if (!queue)
        *error_out = bus_request_fail(request, PAWL_E_NOT_FOUND, "no queue is called %.64s",
                                      name[0] ? name : "(none was named)");
    return queue;
}

/* ---- queues ---- */

static json_t *describe(struct pawl_bus *bus, struct bus_queue *queue)
{
    uint64_t in_flight = queue->sub ? queue->sub->in_flight : 0, delayed = 0;
    uint32_t consumers = queue->sub ? queue->sub->consumer_count : 0;
    for (uint32_t i = 0; i < queue->group_count; i++)
        if (queue->groups[i]) {
            in_flight += queue->groups[i]->in_flight;
            consumers += queue->groups[i]->consumer_count;
        }
    if (queue->sub)
        delayed = queue->sub->exceptions.in_state[EXCEPTION_DELAYED];
    char dlq_name[PAWL_NAME_BYTES + 8];
    const struct bus_queue *dlq = bus_dlq_find(bus, queue, dlq_name);
    uint64_t parked = 0;
    for (const struct bus_parked *one = queue->parked; one; one = one->next)
        parked++;
    json_t *json = json_pack(
        "{s:s,s:I,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:i,s:s,s:I,s:s,s:I,s:I}", "name", queue->name, "number",
        (json_int_t)queue->number, "state", queue->paused ? "paused" : "active", "kind",
        queue->config.stream ? "stream" : "queue", "depth", (json_int_t)queue->depth, "ready",
        (json_int_t)(queue->depth > in_flight + delayed ? queue->depth - in_flight - delayed : 0), "delayed",
        (json_int_t)delayed, "in_flight", (json_int_t)in_flight, "bytes", (json_int_t)queue->bytes,
        "consumers", (int)consumers, "dlq", dlq_name, "dlq_depth", (json_int_t)(dlq ? dlq->depth : 0),
        "breaker", pawl_breaker_state_name(bus_queue_breaker(queue)), "blocked_publishes", (json_int_t)parked,
        "next_seq", (json_int_t)queue->tail);
    return json;
}

static int on_declare(struct bus_request *request)
{
    struct pawl_bus *bus = request->bus;
    const char *name = bus_request_text(request, "name");
    struct pawl_queue_config config;
    if (!bus_name_holds(name))
        return bus_request_fail(
            request, PAWL_E_INVALID,
            "'%.70s' cannot be a queue's name: 1 to 64 of A-Z a-z 0-9 _ . -, not beginning with . or -",
            name);
    struct bus_queue *before = bus_queue_find(bus, name);
    const json_t *given = json_object_get(request->in, "config");
    int error = pawl_queue_config_load(given, name, &bus->limits, before ? &before->config : NULL, &config,
                                       request->why);
    if (error)
        return error;
    if (config.dlq[0] && !bus_name_holds(config.dlq)) {
        error =
            bus_request_fail(request, PAWL_E_INVALID, "dlq: '%.64s' cannot be a queue's name", config.dlq);
        pawl_queue_config_fini(&config);
        return error;
    }
    if (!before && config.topic_count == 0 && !config.unrouted) {
        pawl_queue_config_fini(&config);
        return bus_request_fail(request, PAWL_E_INVALID,
                                "queue %s is new: say which topics it wants (--topic PATTERN)", name);
    }
    if (config.temporary && request->client == 0 && !before) {
        pawl_queue_config_fini(&config);
        return bus_request_fail(
            request, PAWL_E_STATE,
            "a temporary queue ends with the attached client that declared it, and there is none");
    }
    if (json_is_true(json_object_get(request->in, "check"))) {
        uint32_t others = (uint32_t)json_integer_value(json_object_get(request->in, "others"));
        error = bus_queue_allowed(bus, name, &config, others, request->why);
        pawl_queue_config_fini(&config);
        request->out =
            error ? NULL : json_pack("{s:i,s:s,s:b}", "schema", 1, "name", name, "created", before == NULL);
        return error;
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

static int on_list(struct bus_request *request)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < request->bus->queue_end && list; i++)
        if (request->bus->queues[i])
            json_array_append_new(list, describe(request->bus, request->bus->queues[i]));
    request->out = json_pack("{s:i,s:o}", "schema", 1, "queues", list);
    return 0;
}

static int on_show(struct bus_request *request)
{
    int error = 0;
    struct bus_queue *queue = bus_request_queue(request, "name", &error);
    if (!queue)
        return error;
    json_t *groups = json_array();
    for (uint32_t i = 0; i < queue->group_count && groups; i++)
        if (queue->groups[i])
            json_array_append_new(groups, bus_group_describe(queue->groups[i]));
    request->out = describe(request->bus, queue);
    json_object_set_new(request->out, "schema", json_integer(1));
    json_object_set_new(request->out, "config", pawl_queue_config_json(&queue->config));
    json_object_set_new(request->out, "groups", groups);
    return 0;
}

static void tell_consumers(const struct pawl_bus *bus, const struct bus_sub *sub)
{
    const struct bus_consumer *consumer = sub ? sub->consumers : NULL;
    for (uint32_t i = 0; consumer && i < sub->consumer_count; i++, consumer = consumer->next)
        bus_tell_paused(bus, consumer);
}

static int set_paused(struct bus_request *request, bool paused)
{
    int error = 0;
    struct pawl_bus *bus = request->bus;
    struct bus_queue *queue = bus_request_queue(request, "name", &error);
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
        if (paused)
            tell_consumers(bus, queue->sub);
        for (uint32_t i = 0; paused && i < queue->group_count; i++)
            tell_consumers(bus, queue->groups[i]);
    }
    request->out = json_pack("{s:i,s:s,s:s}", "schema", 1, "name", bus_request_text(request, "name"), "state",
                             paused ? "paused" : "active");
    return 0;
}

static int on_pause(struct bus_request *request)
{
    return set_paused(request, true);
}

static int on_resume(struct bus_request *request)
{
    return set_paused(request, false);
}

/* All that nobody holds now. Return: how many. */
uint64_t bus_purge(struct pawl_bus *bus, struct bus_queue *queue)
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

static int on_purge(struct bus_request *request)
{
    int error = 0;
    struct pawl_bus *bus = request->bus;
    struct bus_queue *queue = bus_request_queue(request, "name", &error);
    if (!queue)
        return error;
    uint64_t count;
    if (queue->config.stream) {
        count = queue->depth;
        struct pawl_bus_mark mark = {
            .queue = queue->number, .offset = queue->tail, .realtime_ns = bus->now.realtime_ns};
        request->lsn = bus_append(bus, PAWL_BUS_RECORD_TRIM, &mark, sizeof mark, NULL, 0);
    } else {
        count = bus_purge(bus, queue);
        request->lsn = UINT64_MAX; /* whatever was appended */
    }
    if (queue->parked)
        bus_unpark(bus, queue);
    bus_queue_row(queue);
    request->out = json_pack("{s:i,s:s,s:I}", "schema", 1, "name", queue->name, "purged", (json_int_t)count);
    return 0;
}

static int on_delete(struct bus_request *request)
{
    int error = 0;
    struct pawl_bus *bus = request->bus;
    struct bus_queue *queue = bus_request_queue(request, "name", &error);
    if (!queue)
        return error;
    struct pawl_bus_mark mark = {.queue = queue->number, .realtime_ns = bus->now.realtime_ns};
    uint64_t depth = queue->depth;
    bus_group_flush(bus);
    bus_settle_flush(bus);
    request->lsn = bus_append(bus, PAWL_BUS_RECORD_DELETE, &mark, sizeof mark, NULL, 0);
    request->out = json_pack("{s:i,s:s,s:I}", "schema", 1, "name", bus_request_text(request, "name"),
                             "deleted_events", (json_int_t)depth);
    return 0;
}

static int on_queue_name(struct bus_request *request)
{
    struct bus_queue *queue =
        bus_queue_at(request->bus, (uint32_t)json_integer_value(json_object_get(request->in, "number")));
    if (!queue)
        return bus_request_fail(request, PAWL_E_NOT_FOUND, "no queue has that number");
    request->out = json_pack("{s:i,s:s}", "schema", 1, "name", queue->name);
    return 0;
}

static const struct {
    const char *op;
    int (*run)(struct bus_request *request);
} OPERATIONS[] = {
    {"queue.declare", on_declare},
    {"queue.list", on_list},
    {"queue.show", on_show},
    {"queue.pause", on_pause},
    {"queue.resume", on_resume},
    {"queue.purge", on_purge},
    {"queue.delete", on_delete},
    {"queue.name", on_queue_name},
    {"dlq.list", bus_on_dlq_list},
    {"dlq.redrive", bus_on_dlq_redrive},
    {"dlq.purge", bus_on_dlq_purge},
    {"group.create", bus_on_group_create},
    {"group.commit", bus_on_group_commit},
    {"group.seek", bus_on_group_seek},
    {"group.lag", bus_on_group_lag},
    {"group.delete", bus_on_group_delete},
};

int pawl_bus_request(struct pawl_bus *bus, struct pawl_now now, uint32_t client, json_t *json,
                     json_t **reply_out, uint64_t *lsn_out, char why[256])
{
    struct bus_request request = {.bus = bus, .client = client, .in = json, .why = why};
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
