/*
 * control_bus.c - the event bus over the control socket: administration, detached deliveries, consumers.
 *
 * Runs in: scheduler. What was decided is answered when it is durable; a TAKE that finds nothing waits for
 * something.
 */
#include "scheduler/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/bus.h"
#include "scheduler/clients.h"
#include "scheduler/figures.h"
#include "shm/error.h"

enum { TAKE_MAX = 256, SETTLE_MAX = 1024, TEXT_MAX = 1024 };

/* What a parked request of the bus will be answered with, or still needs. */
struct pawl_parked_bus {
    uint16_t reply_type; /* 0: a TAKE that still waits for a delivery */
    void *body;
    size_t bytes;
    struct pawl_wire_take take; /* of a TAKE, also of one that waits for the disk */
    uint64_t until_ns;          /* boottime */
    bool told_paused;
    bool ended; /* a TAKE whose client wants no more of it */
};

void pawl_control_bus_drop(struct pawl_parked *parked, struct pawl_loop *loop)
{
    if (!parked->bus)
        return;
    if (parked->bus->reply_type == 0)
        loop->taker_count--;
    free(parked->bus->body);
    free(parked->bus);
    parked->bus = NULL;
}

/* Return: what was parked; NULL: it was answered. */
static struct pawl_parked_bus *reply_or_park(struct pawl_connection *connection, uint64_t tag, uint64_t lsn,
                                             uint16_t type, void *body, size_t bytes)
{
    struct pawl_loop *loop = connection->loop;
    if (lsn == UINT64_MAX)
        lsn = pawl_journal_last_lsn(loop->journal);
    if (lsn <= loop->durable_lsn) {
        pawl_control_reply_any(connection, type, tag, body, bytes);
        free(body);
        return NULL;
    }
    struct pawl_parked_bus *bus = calloc(1, sizeof *bus);
    struct pawl_parked *parked = bus ? pawl_control_park(connection, PAWL_WIRE_BUS, tag, "", lsn) : NULL;
    if (!parked) {
        free(bus);
        free(body);
        return NULL;
    }
    *bus = (struct pawl_parked_bus){.reply_type = type, .body = body, .bytes = bytes};
    parked->bus = bus;
    return bus;
}

static const char *not_found_hint(const char *why)
{
    if (strstr(why, " has no group "))
        return "pawl group lag STREAM shows its groups, pawl group create makes one";
    return strstr(why, " is beyond the end of ") ? "pawl group lag STREAM shows where it ends"
                                                 : "pawl queue list shows what there is";
}

static void refuse(struct pawl_connection *connection, uint64_t tag, int error, const char *why)
{
    const char *hint = error == PAWL_E_NOT_FOUND      ? not_found_hint(why)
                       : error == PAWL_E_INCOMPATIBLE ? "pawl queue show says how it is declared"
                       : error == PAWL_E_NO_SPACE     ? "free some space (" PAWL_RESERVE_WORDS
                                                    "): acks and what is stored go on"
                                                  : NULL;
    pawl_control_error(connection, tag, error, hint, "%s", why[0] ? why : pawl_error_text(error));
}

/* ---- administration ---- */

static void on_request(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    struct pawl_loop *loop = connection->loop;
    json_error_t wrong;
    json_t *reply = NULL;
    char why[256] = "";
    uint64_t lsn = 0;
    errno = 0; /* the parser does not tell a want of memory from a mistake */
    json_t *request = json_loadb(message->body, message->header.bytes, JSON_REJECT_DUPLICATES, &wrong);
    if (!request && errno == ENOMEM) {
        refuse(connection, message->header.tag, -ENOMEM, why);
        return;
    }
    if (!json_is_object(request)) {
        snprintf(why, sizeof why, "the request is not a JSON object: %s",
                 request ? "another type" : wrong.text);
        json_decref(request);
        refuse(connection, message->header.tag, PAWL_E_INVALID, why);
        return;
    }
    uint32_t client = connection->attached ? pawl_clients_number(connection) : 0;
    int error = pawl_bus_request(loop->bus, loop->now, client, request, &reply, &lsn, why);
    json_decref(request);
    char *text = error ? NULL : json_dumps(reply, JSON_COMPACT);
    json_decref(reply);
    if (!error && !text)
        error = -ENOMEM;
    if (error)
        refuse(connection, message->header.tag, error, why);
    else
        (void)reply_or_park(connection, message->header.tag, lsn, PAWL_WIRE_BUS_OK, text, strlen(text));
}

/* ---- consumers ---- */

static bool names_hold(const char queue[PAWL_NAME_BYTES], const char group[PAWL_NAME_BYTES])
{
    return memchr(queue, 0, PAWL_NAME_BYTES) && memchr(group, 0, PAWL_NAME_BYTES);
}

static void on_consume(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    struct pawl_loop *loop = connection->loop;
    struct pawl_wire_consume request;
    struct pawl_wire_consume_ok ok = {0};
    char why[256] = "";
    uint64_t tag = message->header.tag;
    struct pawl_bus_client *client = pawl_clients_of(connection);
    if (message->header.bytes < sizeof request) {
        refuse(connection, tag, PAWL_E_BAD_MESSAGE, "too short a request");
        return;
    }
    memcpy(&request, message->body, sizeof request);
    if (!client || !names_hold(request.queue, request.group)) {
        refuse(connection, tag, client ? PAWL_E_BAD_MESSAGE : PAWL_E_STATE,
               client ? "a name does not end" : "attach first");
        return;
    }
    if (message->header.type == PAWL_WIRE_CONSUME_END) {
        pawl_clients_hear(connection); /* what has begun does not go back */
        int error = pawl_bus_consume_end(loop->bus, loop->now, client, request.consumer);
        if (error)
            refuse(connection, tag, error, "no such consumer");
        else
            pawl_control_reply(connection, PAWL_WIRE_OK, tag, NULL, 0, NULL, 0);
        return;
    }
    int error = pawl_bus_consume(loop->bus, loop->now, client, &request, &ok, why);
    if (error)
        refuse(connection, tag, error, why);
    else
        pawl_control_reply(connection, PAWL_WIRE_CONSUME_OK, tag, &ok, sizeof ok, NULL, 0);
}

/* ---- detached ---- */

/* A TAKEN body: the events are copied now, of a mere look as many as a message holds, and one at least. NULL:
 * no memory. */
static void *taken_body(struct pawl_loop *loop, const struct pawl_bus_taken *taken, uint32_t count, bool look,
                        uint64_t next, bool end, size_t *bytes_out)
{
    struct pawl_wire_taken head = {.count = 0, .end = end, .next = next};
    size_t room = sizeof head + 4096, used = sizeof head;
    unsigned char *body = malloc(room);
    if (!body)
        return NULL;
    for (uint32_t i = 0; i < count; i++) {
        struct pawl_inbound_entry entry = taken[i].entry;
        const struct pawl_event *event = pawl_bus_event(loop->bus, entry.queue, entry.seq);
        if (!event)
            continue; /* it was trimmed away meanwhile */
        if (look && head.count > 0 && used + sizeof entry + event->bytes > PAWL_WIRE_BYTES_MAX)
            break;
        entry.bytes = (uint32_t)sizeof entry + event->bytes;
        if (used + entry.bytes > room) {
            room = (used + entry.bytes) * 2;
            unsigned char *grown = realloc(body, room);
            if (!grown) {
                free(body);
                return NULL;
            }
            body = grown;
        }
        if (!look)
            pawl_figures_delivered(loop, &entry, event);
        memcpy(body + used, &entry, sizeof entry);
        memcpy(body + used + sizeof entry, event, event->bytes);
        used += entry.bytes;
        head.count++;
    }
    memcpy(body, &head, sizeof head);
    *bytes_out = used;
    return body;
}

static void on_peek(struct pawl_connection *connection, uint64_t tag, const struct pawl_wire_take *request)
{
    struct pawl_loop *loop = connection->loop;
    struct pawl_bus_taken taken[TAKE_MAX];
    char why[256] = "";
    uint64_t next = 0;
    bool end = false;
    size_t bytes;
    int count = pawl_bus_peek(loop->bus, request, taken, request->count, &next, &end, why);
    if (count < 0) {
        refuse(connection, tag, count, why);
        return;
    }
    void *body = taken_body(loop, taken, (uint32_t)count, true, next, end, &bytes);
    struct pawl_wire_taken *head = body;
    if (head && head->count < (uint32_t)count) { /* as much as a message holds: the rest is asked for again */
        head->end = 0;
        head->next = taken[head->count].entry.seq;
    }
    if (!body)
        refuse(connection, tag, -ENOMEM, "");
    else
        pawl_control_reply_any(connection, PAWL_WIRE_TAKEN, tag, body, bytes);
    free(body);
}

/* What there is now. 1: answered or parked for the disk; 0: nothing is there; an error was answered: 1. */
static int try_take(struct pawl_connection *connection, uint64_t tag, const struct pawl_wire_take *request)
{
    struct pawl_loop *loop = connection->loop;
    struct pawl_bus_taken taken[TAKE_MAX];
    char why[256] = "";
    uint64_t lsn = 0;
    size_t bytes;
    /* Large events: as many as one message holds for certain, and one at least, which then goes as a memfd.
     */
    uint64_t most =
        PAWL_WIRE_BYTES_MAX / (loop->config.bus.event_payload_bytes + PAWL_EVENT_HEADERS_BYTES_MAX + 1024);
    uint32_t count_max = request->count < most ? request->count : most ? (uint32_t)most : 1;
    int count = pawl_bus_take(loop->bus, loop->now, request, taken, count_max, &lsn, why);
    if (count == 0)
        return 0;
    if (count < 0) {
        refuse(connection, tag, count, why);
        return 1;
    }
    void *body = taken_body(loop, taken, (uint32_t)count, false, 0, false, &bytes);
    pawl_bus_flush(loop->bus, loop->now);
    struct pawl_parked_bus *parked = NULL;
    if (!body)
        refuse(connection, tag, -ENOMEM, "");
    else
        parked = reply_or_park(connection, tag, lsn, PAWL_WIRE_TAKEN, body, bytes);
    if (parked)
        parked->take = *request;
    return 1;
}

static void answer_empty(struct pawl_connection *connection, uint64_t tag)
{
    struct pawl_wire_taken body = {0};
    pawl_control_reply(connection, PAWL_WIRE_TAKEN, tag, &body, sizeof body, NULL, 0);
}

/* Answered at the end of the turn; with what came meanwhile, if it came. */
static void end_takes(struct pawl_connection *connection)
{
    for (struct pawl_parked *parked = connection->parked; parked; parked = parked->next)
        if (parked->bus && (parked->bus->reply_type == 0 || parked->bus->reply_type == PAWL_WIRE_TAKEN)) {
            parked->bus->until_ns = 0;
            parked->bus->ended = true;
        }
    connection->loop->changed = true;
}

/* What a full disk keeps from being shown, and nobody waits for any more, goes back: it is not a failure. */
static void give_back(struct pawl_loop *loop, const struct pawl_parked_bus *bus)
{
    struct pawl_wire_taken head;
    const char *at = bus->body;
    memcpy(&head, at, sizeof head);
    at += sizeof head;
    for (uint32_t i = 0; i < head.count; i++) {
        struct pawl_inbound_entry entry;
        struct pawl_wire_settle_one one = {.op = PAWL_SETTLE_OP_RELEASE};
        memcpy(&entry, at, sizeof entry);
        at += entry.bytes;
        memcpy(one.queue, bus->take.queue, sizeof one.queue);
        memcpy(one.group, bus->take.group, sizeof one.group);
        one.seq = entry.seq;
        one.attempt = entry.attempt;
        one.epoch = entry.epoch;
        /* One that is stale by now is somebody else's, or gone. */
        (void)pawl_bus_settle_one(loop->bus, loop->now, &one, NULL);
    }
    pawl_bus_flush(loop->bus, loop->now);
}

/* Once, to a TAKE that waits. */
static void tell_paused(struct pawl_connection *connection, struct pawl_parked_bus *bus)
{
    char text[256];
    if (bus->told_paused || !pawl_bus_is_paused(connection->loop->bus, bus->take.queue))
        return;
    snprintf(text, sizeof text, PAWL_BUS_PAUSED_WORDS, bus->take.queue, bus->take.queue);
    bus->told_paused = pawl_control_tell(connection, text);
}

static void on_take(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    struct pawl_loop *loop = connection->loop;
    struct pawl_wire_take request;
    uint64_t tag = message->header.tag;
    if (message->header.bytes < sizeof request) {
        refuse(connection, tag, PAWL_E_BAD_MESSAGE, "too short a request");
        return;
    }
    memcpy(&request, message->body, sizeof request);
    if (request.flags & PAWL_TAKE_END) {
        end_takes(connection);
        return;
    }
    if (!names_hold(request.queue, request.group) || request.count == 0 || request.count > TAKE_MAX) {
        refuse(connection, tag, PAWL_E_INVALID, "a request for 1 to 256 deliveries of a queue");
        return;
    }
    if (request.flags & PAWL_TAKE_PEEK) {
        on_peek(connection, tag, &request);
        return;
    }
    if (!pawl_control_place(connection, tag) || try_take(connection, tag, &request))
        return;
    if (request.wait_ns == 0) {
        answer_empty(connection, tag);
        return;
    }
    struct pawl_parked_bus *bus = calloc(1, sizeof *bus);
    struct pawl_parked *parked = bus ? pawl_control_park(connection, PAWL_WIRE_TAKE, tag, "", 0) : NULL;
    if (!parked) {
        free(bus);
        return;
    }
    bus->take = request;
    bus->until_ns = loop->now.boottime_ns > UINT64_MAX - request.wait_ns
                        ? UINT64_MAX
                        : loop->now.boottime_ns + request.wait_ns;
    parked->bus = bus;
    loop->taker_count++;
    tell_paused(connection, bus);
}

static void on_settle(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    struct pawl_loop *loop = connection->loop;
    struct pawl_wire_settle head;
    uint64_t tag = message->header.tag;
    const char *at = (const char *)message->body + sizeof head;
    size_t left = message->header.bytes;
    if (left < sizeof head) {
        refuse(connection, tag, PAWL_E_BAD_MESSAGE, "too short a request");
        return;
    }
    memcpy(&head, message->body, sizeof head);
    left -= sizeof head;
    if (head.count == 0 || head.count > SETTLE_MAX) {
        refuse(connection, tag, PAWL_E_LIMIT, "1 to 1,024 settlements at a time");
        return;
    }
    struct pawl_wire_settled *body = calloc(1, sizeof *body + head.count * sizeof(int32_t));
    if (!body) {
        refuse(connection, tag, -ENOMEM, "");
        return;
    }
    int32_t *results = (int32_t *)(body + 1);
    body->count = head.count;
    for (uint32_t i = 0; i < head.count; i++) {
        struct pawl_wire_settle_one one;
        if (left < sizeof one)
            goto bad;
        memcpy(&one, at, sizeof one);
        size_t padded = sizeof one + (((size_t)one.text_bytes + 7) & ~(size_t)7);
        if (one.text_bytes > TEXT_MAX || padded > left || !names_hold(one.queue, one.group))
            goto bad;
        results[i] = pawl_bus_settle_one(loop->bus, loop->now, &one, one.text_bytes ? at + sizeof one : NULL);
        at += padded;
        left -= padded;
    }
    pawl_bus_flush(loop->bus, loop->now);
    (void)reply_or_park(connection, tag, UINT64_MAX, PAWL_WIRE_SETTLED, body,
                        sizeof *body + head.count * sizeof(int32_t));
    return;
bad:
    free(body);
    pawl_bus_flush(loop->bus, loop->now);
    refuse(connection, tag, PAWL_E_BAD_MESSAGE, "a settlement does not hold");
}

bool pawl_control_bus_try(struct pawl_connection *connection, struct pawl_parked *parked)
{
    struct pawl_loop *loop = connection->loop;
    struct pawl_parked_bus *bus = parked->bus;
    if (bus->reply_type) {
        bool durable = parked->lsn <= loop->durable_lsn;
        if (!durable && bus->ended && pawl_journal_room(loop->journal) != PAWL_JOURNAL_ROOMY) {
            give_back(loop, bus);
            answer_empty(connection, parked->tag);
            return true;
        }
        if (!durable)
            return false;
        pawl_control_reply_any(connection, bus->reply_type, parked->tag, bus->body, bus->bytes);
        return true;
    }
    if (try_take(connection, parked->tag, &bus->take))
        return true;
    tell_paused(connection, bus);
    if (bus->until_ns > loop->now.boottime_ns)
        return false;
    answer_empty(connection, parked->tag);
    return true;
}

/* When the first waiting TAKE gives up (boottime). */
uint64_t pawl_control_bus_due(const struct pawl_loop *loop)
{
    uint64_t due_ns = UINT64_MAX;
    if (loop->taker_count == 0)
        return due_ns;
    for (const struct pawl_connection *connection = loop->connections; connection;
         connection = connection->next)
        for (const struct pawl_parked *parked = connection->parked; parked; parked = parked->next)
            if (parked->bus && parked->bus->reply_type == 0 && parked->bus->until_ns < due_ns)
                due_ns = parked->bus->until_ns;
    return due_ns;
}

static void on_metrics(struct pawl_connection *connection, uint64_t tag)
{
    struct pawl_loop *loop = connection->loop;
    int fd = loop->metrics_segment.fd;
    if (!loop->metrics) {
        refuse(connection, tag, PAWL_E_NOT_FOUND, "there are no metrics");
        return;
    }
    pawl_figures_sample(loop);
    if (pawl_wire_queue_message(&connection->wire, PAWL_WIRE_METRICS_OK, tag, NULL, 0, NULL, 0, &fd, 1) != 0)
        pawl_control_end(connection);
}

/* What is said of queues and groups, also that one is not there, may rest on a record that is not durable. */
static void vouch(struct pawl_connection *connection)
{
    uint64_t lsn = pawl_bus_queues_lsn(connection->loop->bus);
    if (lsn > connection->loop->durable_lsn && lsn > connection->vouch_lsn)
        connection->vouch_lsn = lsn;
}

bool pawl_control_bus(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    switch (message->header.type) {
    case PAWL_WIRE_BUS:
        on_request(connection, message);
        vouch(connection);
        return true;
    case PAWL_WIRE_ATTACH:
        pawl_clients_attach(connection, message);
        return true;
    case PAWL_WIRE_CONSUME:
    case PAWL_WIRE_CONSUME_END:
        on_consume(connection, message);
        vouch(connection);
        return true;
    case PAWL_WIRE_TAKE:
        on_take(connection, message);
        vouch(connection);
        return true;
    case PAWL_WIRE_SETTLE:
        on_settle(connection, message);
        vouch(connection);
        return true;
    case PAWL_WIRE_METRICS:
        on_metrics(connection, message->header.tag);
        return true;
    default:
        return false;
    }
}
