/*
 * detached.c - deliveries that no lane holds: taken, looked at, and settled by their tag from anywhere.
 *
 * Runs in: the program that uses pawl.h. A tag is QUEUE:SEQ:ATTEMPT:EPOCH; of a stream's group
 * QUEUE/GROUP:...
 */
#include "runtime/lib/lib.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/lib/command.h"
#include "shm/error.h"

enum { TAKE_MAX = 256, TEXT_BYTES_MAX = 4096 };

static int print_tag(const char *queue, const char *group, const struct pawl_delivery *delivery, char *out,
                     size_t bytes)
{
    int n = snprintf(out, bytes, "%s%s%s:%" PRIu64 ":%" PRIu32 ":%" PRIu64, queue, group[0] ? "/" : "", group,
                     delivery->seq, delivery->attempt, delivery->epoch);
    return n < 0 || (size_t)n >= bytes ? PAWL_E_LIMIT : 0;
}

int pawl_delivery_tag(const struct pawl_delivery *delivery, char *out, size_t bytes)
{
    if (!delivery || (!out && bytes > 0))
        return PAWL_E_INVALID;
    const char *group = delivery->consumer ? delivery->consumer->group : "";
    if (!delivery->consumer && delivery->reserved != delivery &&
        delivery->reserved) /* detached: show() below */
        group = delivery->reserved;
    int error = print_tag(delivery->queue, group, delivery, out, bytes);
    if (error && delivery->consumer)
        pawl_lib_fail(delivery->consumer->pawl, error, "a tag does not fit into %zu bytes", bytes);
    return error;
}

/* ---- settle ---- */

static bool copy_part(char field[PAWL_NAME_BYTES], const char *text, size_t bytes)
{
    if (bytes == 0 || bytes > 64)
        return false;
    memset(field, 0, PAWL_NAME_BYTES);
    memcpy(field, text, bytes);
    return true;
}

static bool parse_number(const char **at, char end, uint64_t most, uint64_t *out)
{
    char *stop;
    if (**at < '0' || **at > '9')
        return false;
    errno = 0;
    *out = strtoull(*at, &stop, 10);
    if (errno || *stop != end || *out > most)
        return false;
    *at = end ? stop + 1 : stop;
    return true;
}

static bool parse_tag(const char *tag, struct pawl_wire_settle_one *one)
{
    const char *colon = strchr(tag, ':'), *slash = strchr(tag, '/');
    uint64_t attempt;
    if (!colon)
        return false;
    if (slash && slash < colon) {
        if (!copy_part(one->group, slash + 1, (size_t)(colon - slash - 1)))
            return false;
    } else {
        slash = colon;
    }
    const char *at = colon + 1;
    if (!copy_part(one->queue, tag, (size_t)(slash - tag)) ||
        !parse_number(&at, ':', UINT64_MAX, &one->seq) || !parse_number(&at, ':', UINT32_MAX, &attempt) ||
        !parse_number(&at, 0, UINT64_MAX, &one->epoch))
        return false;
    one->attempt = (uint32_t)attempt;
    return true;
}

static uint64_t ns_of(int64_t ms)
{
    return (uint64_t)ms > INT64_MAX / 1000000 ? INT64_MAX : (uint64_t)ms * 1000000;
}

int pawl_settle_tag(struct pawl *pawl, const char *tag, const char *op, int64_t value_ms, const char *text)
{
    struct {
        struct pawl_wire_settle head;
        struct pawl_wire_settle_one one;
    } body = {.head.count = 1};
    char words[TEXT_BYTES_MAX + 8] = "";
    int error = pawl_lib_check(pawl);
    if (!error)
        error = pawl_lib_need(pawl, tag, "tag");
    if (!error)
        error = pawl_lib_need(pawl, op, "op");
    if (error)
        return error;
    if (!parse_tag(tag, &body.one))
        return pawl_lib_fail(pawl, PAWL_E_INVALID, "'%.100s' is not a delivery (QUEUE:SEQ:ATTEMPT:EPOCH)",
                             tag);
    if (strcmp(op, "ack") == 0) {
        body.one.op = PAWL_SETTLE_OP_ACK;
    } else if (strcmp(op, "nack") == 0) {
        body.one.op = PAWL_SETTLE_OP_NACK;
        body.one.value = value_ms < 0 ? PAWL_SETTLE_POLICY : ns_of(value_ms);
    } else if (strcmp(op, "reject") == 0) {
        body.one.op = PAWL_SETTLE_OP_REJECT;
    } else if (strcmp(op, "extend") == 0) {
        body.one.op = PAWL_SETTLE_OP_EXTEND;
        body.one.value = value_ms < 0 ? 0 : ns_of(value_ms);
        if (body.one.value > PAWL_EXTEND_NS_MAX)
            return pawl_lib_fail(pawl, PAWL_E_LIMIT, "extend: at most 7 days from now");
    } else {
        return pawl_lib_fail(pawl, PAWL_E_INVALID, "'%.40s': ack, nack, reject or extend", op);
    }
    if (text) {
        body.one.text_bytes = (uint32_t)strnlen(text, TEXT_BYTES_MAX);
        memcpy(words, text, body.one.text_bytes);
    }
    size_t words_bytes = (body.one.text_bytes + 7) & ~(size_t)7;
    error = pawl_lib_ask(pawl, PAWL_WIRE_SETTLE, &body, sizeof body, words, words_bytes, NULL, 0,
                         PAWL_WIRE_SETTLED, sizeof(struct pawl_wire_settled) + sizeof(int32_t), false,
                         PAWL_LIB_FOREVER);
    if (!error) {
        int32_t result;
        memcpy(&result, (const char *)pawl->answer.body + sizeof(struct pawl_wire_settled), sizeof result);
        error = result;
        if (error == PAWL_E_NOT_FOUND && body.one.group[0])
            pawl_lib_fail(pawl, error,
                          "%.140s: no stream is called %s, or it has no group %s, or no event %llu", tag,
                          body.one.queue, body.one.group, (unsigned long long)body.one.seq);
        else if (error == PAWL_E_NOT_FOUND)
            pawl_lib_fail(pawl, error, "%.140s: no queue is called %s, or it has no event %llu", tag,
                          body.one.queue, (unsigned long long)body.one.seq);
        else if (error)
            pawl_lib_fail(pawl, error, "%.100s: %s", tag, pawl_error_text(error));
    }
    pawl_lib_arm(pawl);
    return error;
}

/* ---- take ---- */

/* The next entry and its event within the answer, or NULL: it does not hold. */
static const struct pawl_inbound_entry *next_entry(const char *body, size_t bytes, size_t *at)
{
    if (bytes - *at < sizeof(struct pawl_inbound_entry) + sizeof(struct pawl_event))
        return NULL;
    const struct pawl_inbound_entry *entry = (const void *)(body + *at);
    const struct pawl_event *event = (const void *)(entry + 1);
    if (pawl_event_check(event, bytes - *at - sizeof *entry) != 0)
        return NULL;
    *at += sizeof *entry + event->bytes;
    return entry;
}

static void show(struct pawl_taken *taken, const struct pawl_inbound_entry *entry, const char *event_copy,
                 const char *queue, const char *group)
{
    const struct pawl_event *event = (const void *)event_copy;
    taken->delivery = (struct pawl_delivery){
        .queue = queue,
        .topic = pawl_event_topic(event),
        .data = pawl_event_data(event),
        .data_bytes = event->data_bytes,
        .event_id = event->id,
        .seq = entry->seq,
        .epoch = entry->epoch,
        .attempt = entry->attempt,
        .failures = entry->failures,
        .published_at_ns = event->published_at_ns,
        .priority = event->priority,
        .headers = pawl_event_headers(event),
        .headers_bytes = event->headers_bytes,
        .number = entry->number,
        .reserved = (void *)(uintptr_t)group, /* for pawl_delivery_tag() */
    };
    (void)print_tag(queue, group, &taken->delivery, taken->tag, sizeof taken->tag);
}

/* One allocation: the array, the names of queue and group, the answer's bytes, into which the array points.
 */
static int unpack(struct pawl *pawl, const struct pawl_wire_take *request, struct pawl_taken **taken_out)
{
    struct pawl_wire_taken head;
    memcpy(&head, pawl->answer.body, sizeof head);
    size_t bytes = pawl->answer.header.bytes - sizeof head, at = 0;
    if (head.count > TAKE_MAX)
        return pawl_lib_fail(pawl, PAWL_E_BAD_MESSAGE, "the scheduler gave more than was asked for");
    if (head.count == 0)
        return 0;
    size_t array_bytes = (head.count * sizeof(struct pawl_taken) + 7) & ~(size_t)7;
    char *block = malloc(array_bytes + (size_t)2 * PAWL_NAME_BYTES + bytes);
    if (!block)
        return pawl_lib_fail(pawl, -ENOMEM, "no memory for %u deliveries", head.count);
    struct pawl_taken *taken = (void *)block;
    char *queue = block + array_bytes, *group = queue + PAWL_NAME_BYTES, *copy = group + PAWL_NAME_BYTES;
    memcpy(queue, request->queue, PAWL_NAME_BYTES);
    memcpy(group, request->group, PAWL_NAME_BYTES);
    memcpy(copy, (const char *)pawl->answer.body + sizeof head, bytes);
    for (uint32_t i = 0; i < head.count; i++) {
        const struct pawl_inbound_entry *entry = next_entry(copy, bytes, &at);
        if (!entry) {
            free(block);
            return pawl_lib_fail(pawl, PAWL_E_BAD_MESSAGE, "the scheduler's answer does not hold");
        }
        show(&taken[i], entry, (const char *)(entry + 1), queue, group);
    }
    *taken_out = taken;
    return (int)head.count;
}

static int take(struct pawl *pawl, const char *queue, const char *group, struct pawl_wire_take *request,
                size_t count, struct pawl_taken **taken_out)
{
    int error = pawl_lib_check(pawl);
    if (!error)
        error = pawl_lib_need(pawl, taken_out, "taken_out");
    if (!error)
        error = pawl_lib_name(pawl, "queue", queue, request->queue);
    if (!error && group)
        error = pawl_lib_name(pawl, "group", group, request->group);
    if (taken_out)
        *taken_out = NULL;
    if (error)
        return error;
    request->count = count > TAKE_MAX ? TAKE_MAX : (uint32_t)count;
    bool looks = (request->flags & PAWL_TAKE_PEEK) != 0;
    error = pawl_lib_ask(pawl, PAWL_WIRE_TAKE, request, sizeof *request, NULL, 0, NULL, 0, PAWL_WIRE_TAKEN,
                         sizeof(struct pawl_wire_taken), looks, PAWL_LIB_FOREVER);
    if (!error)
        error = unpack(pawl, request, taken_out);
    if (error == 0 && pawl->hears_none)
        error = pawl_lib_fail(pawl, -EINTR, "interrupted");
    pawl->hears_none = false;
    pawl_lib_arm(pawl);
    return error;
}

int pawl_take(struct pawl *pawl, const char *queue, const char *group, size_t count, int timeout_ms,
              struct pawl_taken **taken_out)
{
    struct pawl_wire_take request = {.wait_ns = timeout_ms < 0 ? UINT64_MAX : (uint64_t)timeout_ms * 1000000};
    return take(pawl, queue, group, &request, count, taken_out);
}

int pawl_lib_take_until(struct pawl *pawl, const char *queue, const char *group, size_t count,
                        uint64_t wait_ns, int stop_fd, struct pawl_taken **taken_out)
{
    struct pawl_wire_take request = {.wait_ns = wait_ns};
    pawl->stop_fd = stop_fd;
    int got = take(pawl, queue, group, &request, count, taken_out);
    pawl->stop_fd = -1;
    pawl->stopped = false;
    return got;
}

int pawl_peek(struct pawl *pawl, const char *queue, const char *group, uint64_t from, size_t count,
              uint64_t *next_out, struct pawl_taken **taken_out)
{
    struct pawl_wire_take request = {.flags = PAWL_TAKE_PEEK, .from = from};
    int got = take(pawl, queue, group, &request, count, taken_out);
    if (got >= 0 && next_out) {
        struct pawl_wire_taken head;
        memcpy(&head, pawl->answer.body, sizeof head);
        *next_out = head.next;
    }
    return got;
}
