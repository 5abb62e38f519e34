/*
 * bus_memory_client.c - what clients and people do with the bus in memory, and all that can be known of it.
 */
#include "tests/sim/bus_memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

/* ---- clients ---- */

struct memory_client *memory_open(struct memory *memory, uint64_t publisher)
{
    uint32_t number = 1;
    while (number < MEMORY_CLIENTS_MAX && memory->clients[number].open)
        number++;
    if (number == MEMORY_CLIENTS_MAX)
        abort();
    struct memory_client *client = &memory->clients[number];
    client->number = number;
    client->room = UINT32_MAX;
    if (pawl_bus_client_open(memory->bus, memory->now, number, publisher, &client->sequence) != 0)
        abort();
    client->open = true;
    return client;
}

void memory_close(struct memory *memory, struct memory_client *client)
{
    pawl_bus_client_close(memory->bus, memory->now, client->number);
    for (size_t i = 0; i < client->delivery_count; i++)
        free(client->deliveries[i].event);
    free(client->deliveries);
    free(client->replies);
    *client = (struct memory_client){0};
}

int memory_consume(struct memory *memory, struct memory_client *client, uint32_t consumer, const char *queue,
                   const char *group, uint32_t credit, uint32_t flags)
{
    struct pawl_wire_consume request = {.consumer = consumer, .credit = credit, .flags = flags};
    struct pawl_wire_consume_ok ok;
    snprintf(request.queue, sizeof request.queue, "%s", queue);
    snprintf(request.group, sizeof request.group, "%s", group);
    memory->error = pawl_bus_consume(memory->bus, memory->now, pawl_bus_client(memory->bus, client->number),
                                     &request, &ok, memory->why);
    return memory->error;
}

struct pawl_event *memory_event(const struct memory_publish *publish)
{
    unsigned char headers[4096];
    size_t used = 0;
    for (int i = 0; i < 4 && publish->headers[i][0]; i++)
        if (pawl_event_header_pack(headers, sizeof headers, &used, publish->headers[i][0],
                                   strlen(publish->headers[i][0]), publish->headers[i][1],
                                   strlen(publish->headers[i][1])) != 0)
            abort();
    const char *data = publish->data ? publish->data : "";
    struct pawl_event_parts parts = {.topic = publish->topic,
                                     .topic_bytes = strlen(publish->topic),
                                     .key = publish->key,
                                     .key_bytes = publish->key ? strlen(publish->key) : 0,
                                     .headers = headers,
                                     .headers_bytes = used,
                                     .data = data,
                                     .data_bytes = publish->data_bytes ? publish->data_bytes : strlen(data),
                                     .priority = publish->priority,
                                     .delay_ns = publish->delay_ns,
                                     .ttl_ns = publish->ttl_ns};
    size_t bytes = pawl_event_bytes(&parts);
    struct pawl_event *event = bytes ? calloc(1, bytes) : NULL;
    if (!event)
        abort();
    (void)pawl_event_pack(&parts, event);
    return event;
}

uint64_t memory_publish(struct memory *memory, struct memory_client *client,
                        const struct memory_publish *publish)
{
    struct pawl_event *event = memory_event(publish);
    struct pawl_submit submit = {.bytes = (uint32_t)sizeof submit + event->bytes,
                                 .type = PAWL_SUBMIT_EVENT,
                                 .flags = publish->flags,
                                 .durability = publish->durability,
                                 .guarantee = publish->guarantee,
                                 .sequence = publish->sequence ? publish->sequence : ++client->sequence};
    if (submit.sequence > client->sequence)
        client->sequence = submit.sequence;
    pawl_bus_publish(memory->bus, memory->now, pawl_bus_client(memory->bus, client->number), &submit, event);
    free(event);
    return submit.sequence;
}

uint64_t memory_say(struct memory *memory, struct memory_client *client, const char *topic, const char *data)
{
    return memory_publish(memory, client, &(struct memory_publish){.topic = topic, .data = data});
}

void memory_begin(struct memory *memory, struct memory_client *client)
{
    client->begun = client->delivery_count;
    pawl_bus_begun(memory->bus, memory->now, pawl_bus_client(memory->bus, client->number), client->begun);
}

int memory_settle(struct memory *memory, struct memory_client *client, enum pawl_settle_op op, uint64_t first,
                  uint64_t last, uint64_t value)
{
    struct pawl_settle settle = {.first = first, .last = last, .value = value, .op = (uint8_t)op};
    return pawl_bus_settle(memory->bus, memory->now, pawl_bus_client(memory->bus, client->number), &settle,
                           NULL);
}

int memory_ack(struct memory *memory, struct memory_client *client, uint64_t number)
{
    return memory_settle(memory, client, PAWL_SETTLE_OP_ACK, number, number, 0);
}

int memory_nack(struct memory *memory, struct memory_client *client, uint64_t number, uint64_t delay_ns)
{
    return memory_settle(memory, client, PAWL_SETTLE_OP_NACK, number, number, delay_ns);
}

const struct pawl_reply *memory_reply(const struct memory_client *client, uint32_t type, uint64_t sequence)
{
    for (size_t i = client->reply_count; i-- > 0;)
        if (client->replies[i].type == type && client->replies[i].first <= sequence &&
            client->replies[i].last >= sequence)
            return &client->replies[i];
    return NULL;
}

const char *memory_data(const struct memory_client *client, uint64_t number)
{
    static char text[256];
    text[0] = 0;
    if (number < client->delivery_count) {
        const struct pawl_event *event = client->deliveries[number].event;
        snprintf(text, sizeof text, "%.*s", (int)event->data_bytes, (const char *)pawl_event_data(event));
    }
    return text;
}

const char *memory_got(const struct memory_client *client, uint64_t from)
{
    static char text[8192];
    size_t used = 0;
    text[0] = 0;
    for (uint64_t n = from; n < client->delivery_count; n++) {
        int wrote =
            snprintf(text + used, sizeof text - used, "%s%s", used ? " " : "", memory_data(client, n));
        if (wrote < 0 || (size_t)wrote >= sizeof text - used)
            break;
        used += (size_t)wrote;
    }
    return text;
}

/* ---- requests ---- */

static json_t *ask(struct memory *memory, struct pawl_bus *bus, uint32_t client, char *text)
{
    json_error_t wrong;
    json_t *out = NULL;
    for (char *at = text; *at; at++)
        if (*at == '\'')
            *at = '"';
    json_t *request = json_loads(text, 0, &wrong);
    if (!request) {
        fprintf(stderr, "%s: %s\n", text, wrong.text);
        abort();
    }
    memory->error =
        pawl_bus_request(bus, memory->now, client, request, &out, &memory->request_lsn, memory->why);
    json_decref(request);
    return out;
}

json_t *memory_request(struct memory *memory, uint32_t client, const char *format, ...)
{
    char *text;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        abort();
    va_end(arguments);
    json_t *out = ask(memory, memory->bus, client, text);
    free(text);
    return out;
}

void memory_declare(struct memory *memory, const char *name, const char *config)
{
    json_t *reply =
        memory_request(memory, 0, "{'op': 'queue.declare', 'name': '%s', 'config': {%s}}", name, config);
    if (!reply) {
        fprintf(stderr, "queue %s: %s\n", name, memory->why);
        abort();
    }
    json_decref(reply);
}

int64_t memory_number(struct memory *memory, const char *queue, const char *key)
{
    const char *slash = strchr(key, '/');
    json_t *shown = memory_request(memory, 0, "{'op': 'queue.show', 'name': '%s'}", queue), *group;
    const json_t *value = slash ? NULL : json_object_get(shown, key);
    size_t index;
    if (slash)
        json_array_foreach(json_object_get(shown, "groups"), index, group)
        {
            const char *name = json_string_value(json_object_get(group, "group"));
            if (strncmp(name, key, (size_t)(slash - key)) == 0 && name[slash - key] == 0)
                value = json_object_get(group, slash + 1);
        }
    int64_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    json_decref(shown);
    return number;
}

int memory_take(struct memory *memory, const char *queue, const char *group, uint32_t count,
                struct pawl_bus_taken *taken_out)
{
    struct pawl_wire_take request = {.count = count};
    uint64_t lsn;
    snprintf(request.queue, sizeof request.queue, "%s", queue);
    snprintf(request.group, sizeof request.group, "%s", group);
    return pawl_bus_take(memory->bus, memory->now, &request, taken_out, count, &lsn, memory->why);
}

int memory_settle_taken(struct memory *memory, const char *queue, const char *group,
                        const struct pawl_bus_taken *taken, enum pawl_settle_op op, uint64_t value)
{
    struct pawl_wire_settle_one settle = {.seq = taken->entry.seq,
                                          .epoch = taken->entry.epoch,
                                          .attempt = taken->entry.attempt,
                                          .value = value,
                                          .op = (uint8_t)op};
    snprintf(settle.queue, sizeof settle.queue, "%s", queue);
    snprintf(settle.group, sizeof settle.group, "%s", group);
    return pawl_bus_settle_one(memory->bus, memory->now, &settle, "");
}

/* ---- all of it ---- */

static void put(FILE *out, struct memory *memory, struct pawl_bus *bus, const char *queue)
{
    char request[256];
    snprintf(request, sizeof request, "{'op': 'queue.show', 'name': '%s'}", queue);
    json_t *shown = ask(memory, bus, 0, request);
    char *text = json_dumps(shown, JSON_SORT_KEYS | JSON_COMPACT);
    fprintf(out, "%s\n", text ? text : "?");
    free(text);
    json_decref(shown);
}

/* One consumer with all the credit: it gets what is ready, in order, for as long as anything is due. */
static void drain(FILE *out, struct memory *memory, const char *queue, const char *group)
{
    struct memory_client *client = memory_open(memory, 0);
    if (memory_consume(memory, client, 1, queue, group, 1, 0) != 0)
        abort();
    uint64_t from = 0;
    for (int idle = 0; idle < 3;) {
        memory_turn(memory);
        if (from == client->delivery_count) {
            memory_pass(memory, UINT64_C(3650) * 86400 * MEMORY_SECOND_NS / 4);
            idle++;
            continue;
        }
        const struct pawl_inbound_entry *entry = &client->deliveries[from].entry;
        fprintf(out, "  %s/%s seq %" PRIu64 " attempt %u failures %u id %" PRIx64 " %s\n", queue, group,
                entry->seq, entry->attempt, entry->failures, client->deliveries[from].event->id,
                memory_data(client, from));
        memory_begin(memory, client);
        if (memory_ack(memory, client, from++) != 0)
            abort();
    }
    memory_close(memory, client);
}

char *memory_describe(struct memory *memory, struct pawl_bus *bus, uint64_t epoch)
{
    /* It is done to a copy of the world, so that the world goes on. */
    struct memory world = *memory;
    struct memory_client none = {0};
    char *text = NULL;
    size_t bytes = 0;
    for (uint32_t i = 0; i < MEMORY_CLIENTS_MAX; i++)
        memory->clients[i] = none;
    size_t records = memory->record_count, kept = memory->kept_count, room = memory->record_room;
    struct memory_record *copy = calloc(room + 1, sizeof *copy);
    FILE *out = open_memstream(&text, &bytes);
    if (!copy || !out)
        abort();
    memcpy(copy, memory->records, records * sizeof *copy);
    memory->records = copy;
    memory->bus = bus;
    pawl_bus_durable(bus, memory->now, records);
    if (pawl_bus_start(bus, memory->now, epoch, 0) != 0)
        abort();
    memory_turn(memory);
    char request[] = "{'op': 'queue.list'}";
    json_t *list = ask(memory, bus, 0, request), *queue, *group;
    size_t index, inner;
    json_array_foreach(json_object_get(list, "queues"), index, queue)
        put(out, memory, bus, json_string_value(json_object_get(queue, "name")));
    json_array_foreach(json_object_get(list, "queues"), index, queue)
    {
        const char *name = json_string_value(json_object_get(queue, "name"));
        json_t *shown = memory_request(memory, 0, "{'op': 'queue.show', 'name': '%s'}", name);
        json_decref(memory_request(memory, 0, "{'op': 'queue.resume', 'name': '%s'}", name));
        if (strcmp(json_string_value(json_object_get(shown, "kind")), "queue") == 0)
            drain(out, memory, name, "");
        json_array_foreach(json_object_get(shown, "groups"), inner, group)
            drain(out, memory, name, json_string_value(json_object_get(group, "group")));
        json_decref(shown);
    }
    json_decref(list);
    fclose(out);
    pawl_bus_destroy(bus);
    for (size_t i = records; i < memory->record_count; i++)
        free(memory->records[i].body);
    for (size_t i = kept; i < memory->kept_count; i++)
        free(memory->kept[i].body);
    free(memory->records);
    world.lent = memory->lent;
    world.kept = memory->kept;
    world.kept_room = memory->kept_room;
    *memory = world;
    return text;
}
