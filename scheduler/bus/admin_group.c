/*
 * admin_group.c - administrative requests about the groups of a stream: made, moved, measured, deleted.
 *
 * Runs in: scheduler.
 */
#include "scheduler/bus/admin.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "shm/error.h"

json_t *bus_group_describe(const struct bus_sub *sub)
{
    const struct bus_queue *queue = sub->queue;
    uint64_t committed = pawl_seqset_head(&sub->settled), settled = pawl_seqset_count(&sub->settled);
    uint64_t first = bus_queue_first(queue) > committed ? bus_queue_first(queue) : committed;
    return json_pack("{s:s,s:I,s:I,s:I,s:I,s:i}", "group", sub->name, "committed", (json_int_t)committed,
                     "end", (json_int_t)queue->tail, "lag", (json_int_t)(queue->tail - first - settled),
                     "in_flight", (json_int_t)sub->in_flight, "consumers", (int)sub->consumer_count);
}

static struct bus_queue *stream_of(struct bus_request *request, int *error_out)
{
    struct bus_queue *queue = bus_request_queue(request, "queue", error_out);
    if (queue && !queue->config.stream) {
        *error_out = bus_request_fail(request, PAWL_E_INVALID, "queue %s is not a stream: it has no groups",
                                      queue->name);
        return NULL;
    }
    return queue;
}

/* "earliest", "latest", {"offset": N}, {"time_ns": N}, a number, or "from_committed". */
static int offset_of(struct bus_request *request, struct bus_queue *queue, const char *key,
                     uint64_t *offset_out)
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
        return bus_request_fail(request, PAWL_E_INVALID, "%s: say earliest, latest, an offset or a time",
                                key);
    if (*offset_out > queue->tail)
        return bus_request_fail(request, PAWL_E_NOT_FOUND,
                                "offset %" PRIu64 " is beyond the end of %s, which is %" PRIu64, *offset_out,
                                queue->name, queue->tail);
    if (*offset_out < first)
        *offset_out = first; /* what was before is gone */
    return 0;
}

static int append_group(struct bus_request *request, struct bus_queue *queue, uint32_t number,
                        const char *name, uint64_t offset)
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

int bus_on_group_create(struct bus_request *request)
{
    int error = 0;
    uint64_t offset;
    struct bus_queue *queue = stream_of(request, &error);
    if (!queue)
        return error;
    const char *name = bus_request_text(request, "group");
    if (!bus_name_holds(name))
        return bus_request_fail(request, PAWL_E_INVALID, "'%.70s' cannot be a group's name", name);
    if (bus_sub_find(queue, name)) {
        request->out =
            json_pack("{s:i,s:s,s:s,s:b}", "schema", 1, "queue", queue->name, "group", name, "created", 0);
        return 0;
    }
    uint32_t number = bus_group_number(request->bus, queue);
    if (number == 0)
        return bus_group_limit(request->bus, queue, request->why);
    error = offset_of(request, queue, "from", &offset);
    return error ? error : append_group(request, queue, number, name, offset);
}

/* The group of the stream that the request names. NULL: *error_out says why. */
static struct bus_sub *group_of(struct bus_request *request, int *error_out)
{
    struct bus_queue *queue = stream_of(request, error_out);
    if (!queue)
        return NULL;
    struct bus_sub *sub = bus_sub_find(queue, bus_request_text(request, "group"));
    if (!sub)
        *error_out = bus_request_fail(request, PAWL_E_NOT_FOUND, "stream %s has no group %.64s", queue->name,
                                      bus_request_text(request, "group"));
    return sub;
}

int bus_on_group_commit(struct bus_request *request)
{
    int error = 0;
    uint64_t offset;
    struct bus_sub *sub = group_of(request, &error);
    if (!sub)
        return error;
    error = offset_of(request, sub->queue, "offset", &offset);
    if (error)
        return error;
    uint64_t head = pawl_seqset_head(&sub->settled);
    if (offset > head)
        bus_sub_drop_range(request->bus, sub, head, offset - 1, PAWL_BUS_END_ACKED);
    request->lsn = UINT64_MAX;
    request->out = bus_group_describe(sub);
    json_object_set_new(request->out, "schema", json_integer(1));
    json_object_set_new(request->out, "queue", json_string(sub->queue->name));
    json_object_set(request->out, "offset", json_object_get(request->out, "committed"));
    return 0;
}

int bus_on_group_seek(struct bus_request *request)
{
    int error = 0;
    uint64_t offset;
    struct bus_sub *sub = group_of(request, &error);
    if (!sub)
        return error;
    error = offset_of(request, sub->queue, "to", &offset);
    return error ? error : append_group(request, sub->queue, sub->group, sub->name, offset);
}

int bus_on_group_lag(struct bus_request *request)
{
    int error = 0;
    struct bus_queue *queue = stream_of(request, &error);
    if (!queue)
        return error;
    if (bus_request_text(request, "group")[0]) {
        struct bus_sub *sub = group_of(request, &error);
        if (!sub)
            return error;
        request->out = bus_group_describe(sub);
        json_object_set_new(request->out, "schema", json_integer(1));
        json_object_set_new(request->out, "queue", json_string(queue->name));
        return 0;
    }
    json_t *groups = json_array();
    for (uint32_t i = 0; i < queue->group_count && groups; i++)
        if (queue->groups[i])
            json_array_append_new(groups, bus_group_describe(queue->groups[i]));
    request->out =
        json_pack("{s:i,s:s,s:I,s:I,s:o}", "schema", 1, "queue", queue->name, "first",
                  (json_int_t)bus_queue_first(queue), "end", (json_int_t)queue->tail, "groups", groups);
    return 0;
}

int bus_on_group_delete(struct bus_request *request)
{
    int error = 0;
    struct bus_sub *sub = group_of(request, &error);
    if (!sub)
        return error;
    const struct bus_queue *queue = sub->queue; /* the group is gone once its deletion is applied */
    struct pawl_bus_mark mark = {
        .queue = queue->number, .group = sub->group, .realtime_ns = request->bus->now.realtime_ns};
    bus_settle_flush(request->bus);
    request->lsn = bus_append(request->bus, PAWL_BUS_RECORD_DELETE, &mark, sizeof mark, NULL, 0);
    request->out = json_pack("{s:i,s:s,s:s}", "schema", 1, "queue", queue->name, "group",
                             bus_request_text(request, "group"));
    return 0;
}
