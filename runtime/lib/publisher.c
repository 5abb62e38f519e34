/*
 * publisher.c - events packed straight into the lane, one by one, in batches, or written there by the caller.
 *
 * Runs in: the program that uses pawl.h. What becomes of them is publication.c.
 */
#include "runtime/lib/lib.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/lib/command.h"
#include "shm/error.h"
#include "shm/topic.h"

enum { KEY_BYTES_MAX = PAWL_EVENT_KEY_BYTES_MAX };

/* ---- a message ---- */

static int check_topic(struct pawl *pawl, const char *topic, size_t bytes)
{
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    if (bytes > 0 && bytes == publisher->checked_topic_bytes &&
        memcmp(topic, publisher->checked_topic, bytes) == 0)
        return 0;
    if (bytes > PAWL_TOPIC_BYTES_MAX)
        return pawl_lib_fail(pawl, PAWL_E_LIMIT, "topic of %zu bytes: at most %d are possible", bytes,
                             PAWL_TOPIC_BYTES_MAX);
    const char *why = pawl_topic_check(topic, bytes);
    if (why)
        return pawl_lib_fail(pawl, PAWL_E_INVALID, "topic '%.*s': %s", (int)bytes, topic, why);
    memcpy(publisher->checked_topic, topic, bytes);
    publisher->checked_topic_bytes = bytes;
    return 0;
}

static int pack_headers(struct pawl *pawl, const struct pawl_message *message, size_t *used,
                        struct pawl_event_parts *parts)
{
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    size_t from = *used, most = PAWL_EVENT_HEADERS_BYTES_MAX;
    if (!publisher->headers)
        publisher->headers = malloc(PAWL_EVENT_HEADERS_BYTES_MAX);
    if (!publisher->headers)
        return pawl_lib_fail(pawl, -ENOMEM, "no memory for headers");
    for (size_t i = 0; i < message->header_count; i++) {
        const struct pawl_header *header = &message->headers[i];
        const char *name = header->name ? header->name : "";
        if (!name[0] || (!header->value && header->value_bytes > 0))
            return pawl_lib_fail(pawl, PAWL_E_INVALID, "header %zu: %s", i,
                                 name[0] ? "no value, but bytes of it" : "it has no name");
        int error = pawl_event_header_pack(publisher->headers, most, used, name, strlen(name), header->value,
                                           header->value_bytes);
        if (error == PAWL_E_INVALID)
            return pawl_lib_fail(pawl, PAWL_E_LIMIT,
                                 "header '%.64s': name and value have at most 65,535 bytes", name);
        if (error)
            return pawl_lib_fail(pawl, error, "headers above %zu bytes together, packed", most);
    }
    parts->headers = publisher->headers + from;
    parts->headers_bytes = *used - from;
    size_t text_bytes = parts->headers_bytes;
    if (pawl->headers_bytes_max && text_bytes > pawl->headers_bytes_max)
        text_bytes = pawl_event_headers_text_bytes(parts->headers, parts->headers_bytes);
    if (pawl->headers_bytes_max && text_bytes > pawl->headers_bytes_max)
        return pawl_lib_fail(pawl, PAWL_E_LIMIT, "headers of %zu bytes: the limit is %llu (event-headers)",
                             text_bytes, (unsigned long long)pawl->headers_bytes_max);
    return 0;
}

static uint64_t ns_of(uint64_t ms)
{
    return ms > UINT64_MAX / 1000000 ? UINT64_MAX : ms * 1000000;
}

int pawl_lib_parts(struct pawl *pawl, const struct pawl_message *message, size_t *headers_used,
                   struct pawl_event_parts *parts)
{
    if (message->bytes != sizeof *message || !message->topic)
        return pawl_lib_fail(pawl, PAWL_E_INVALID,
                             message->topic ? "pawl_message.bytes is not its size"
                                            : "a message without a topic");
    *parts = (struct pawl_event_parts){
        .topic = message->topic,
        .topic_bytes = strlen(message->topic),
        .data = message->data,
        .data_bytes = message->data_bytes,
        .priority = (uint8_t)message->priority,
        .delay_ns = ns_of(message->delay_ms),
        .ttl_ns = ns_of(message->ttl_ms),
    };
    int error = check_topic(pawl, parts->topic, parts->topic_bytes);
    if (error)
        return error;
    if (message->header_count > 0)
        error = pawl_lib_need(pawl, message->headers, "headers");
    if (!error && message->header_count > 0)
        error = pack_headers(pawl, message, headers_used, parts);
    if (error)
        return error;
    if (message->key && message->key[0]) {
        parts->key = message->key;
        parts->key_bytes = strlen(message->key);
        if (parts->key_bytes > KEY_BYTES_MAX)
            return pawl_lib_fail(pawl, PAWL_E_LIMIT, "key of %zu bytes: at most %d are possible",
                                 parts->key_bytes, KEY_BYTES_MAX);
    }
    if (message->data_bytes > PAWL_EVENT_DATA_BYTES_MAX ||
        (pawl->data_bytes_max && message->data_bytes > pawl->data_bytes_max))
        return pawl_lib_fail(
            pawl, PAWL_E_LIMIT, "event of %zu bytes: the limit is %llu (event-payload)", message->data_bytes,
            (unsigned long long)(pawl->data_bytes_max ? pawl->data_bytes_max : PAWL_EVENT_DATA_BYTES_MAX));
    if (message->priority > PAWL_EVENT_PRIORITY_MAX || message->durability < 0 ||
        message->durability > PAWL_DURABLE_FSYNC || message->guarantee < 0 ||
        message->guarantee > PAWL_DELIVER_AT_LEAST_ONCE)
        return pawl_lib_fail(pawl, PAWL_E_INVALID, "priority (0..9), durability or guarantee out of range");
    return 0;
}

size_t pawl_lib_entry_bytes(const struct pawl_event_parts *parts)
{
    return sizeof(struct pawl_submit) + pawl_event_bytes(parts);
}

void *pawl_lib_fill(void *entry, size_t bytes, const struct pawl_message *message,
                    const struct pawl_event_parts *parts, uint64_t sequence, bool more)
{
    struct pawl_submit *submit = entry;
    *submit = (struct pawl_submit){
        .bytes = (uint32_t)bytes,
        .type = PAWL_SUBMIT_EVENT,
        .flags = (uint8_t)((more ? PAWL_SUBMIT_MORE : 0) |
                           (message->expect_routed ? PAWL_SUBMIT_EXPECT_ROUTED : 0)),
        .durability = (uint8_t)message->durability,
        .guarantee = (uint8_t)message->guarantee,
        .sequence = sequence,
    };
    return pawl_event_pack(parts, submit + 1);
}

int pawl_lib_refusal(struct pawl *pawl, const struct pawl_confirm *confirm)
{
    bool by_queue = confirm->error == PAWL_E_QUEUE_FULL || confirm->error == PAWL_E_LIMIT;
    const char *queue = by_queue ? pawl_refusing_queue(pawl) : "";
    if (confirm->error == PAWL_E_INDEFINITE)
        pawl_lib_fail(pawl, confirm->error, "%s", pawl_error_text(confirm->error));
    else if (confirm->error && queue[0])
        pawl_lib_fail(pawl, confirm->error, "queue %s refused the event: %s", queue,
                      confirm->error == PAWL_E_LIMIT ? "it is larger than the queue's max-bytes"
                                                     : pawl_error_text(confirm->error));
    else if (confirm->error)
        pawl_lib_fail(pawl, confirm->error, "the event was refused: %s", pawl_error_text(confirm->error));
    return confirm->error;
}

/* ---- asynchronously ---- */

struct patience {
    int timeout_ms;
    bool known;
    uint64_t deadline_ns;
};

/* The clock is read only by who has to wait: most never do. */
static uint64_t due(struct patience *patience)
{
    if (!patience->known)
        *patience = (struct patience){.known = true, .deadline_ns = pawl_lib_deadline(patience->timeout_ms)};
    return patience->deadline_ns;
}

/* Room for a message's entry, packed but for its data when that is NULL; not recorded yet. */
static int put(struct pawl *pawl, const struct pawl_message *message, struct patience patience,
               bool data_later, size_t *bytes_out, void **data_out)
{
    void *entry;
    struct pawl_event_parts parts;
    size_t headers_used = 0;
    if (__builtin_expect(!pawl || !message, 0))
        return pawl ? pawl_lib_need(pawl, message, "message") : pawl_lib_check(pawl);
    if (pawl->publisher.reserved)
        return pawl_lib_fail(pawl, PAWL_E_STATE, "a reservation is open: commit or abort it first");
    if (!message->data && message->data_bytes > 0 && !data_later)
        return pawl_lib_fail(pawl, PAWL_E_INVALID, "no data, but %zu bytes of it", message->data_bytes);
    for (;;) {
        int error = pawl_lib_can_publish(pawl, 1) ? 0 : pawl_lib_may_publish(pawl, 1, due(&patience));
        if (!error)
            error = pawl_lib_window(pawl, 1);
        headers_used = 0; /* a callback may have packed others meanwhile */
        if (!error)
            error = pawl_lib_parts(pawl, message, &headers_used, &parts);
        if (error)
            return error;
        *bytes_out = pawl_lib_entry_bytes(&parts);
        entry = pawl_lib_reserve(pawl, *bytes_out, &error);
        if (entry) {
            *data_out = pawl_lib_fill(entry, *bytes_out, message, &parts, pawl->publisher.next, false);
            return 0;
        }
        if (error)
            return error;
        pawl_kick(pawl);
        error = pawl_lib_wait(pawl, due(&patience), PAWL_LIB_FOR_ROOM);
        if (error)
            return pawl_lib_no_room(pawl, error);
        pawl_lib_take_in(pawl);
    }
}

static void recorded(struct pawl *pawl, size_t bytes)
{
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    publisher->batch_bytes += (uint32_t)bytes;
    if (++publisher->batch_entries % PAWL_LIB_BATCH_ENTRIES != 0 &&
        publisher->batch_bytes < PAWL_LIB_BATCH_BYTES)
        return;
    pawl_lib_send_batch(pawl);
    /* While their lines are warm; nobody's callback runs where nobody waits. */
    if (publisher->callbacks == 0)
        pawl_lib_take_in_replies(pawl);
}

int pawl_publish_async(struct pawl *pawl, const struct pawl_message *message, int timeout_ms,
                       pawl_confirm_callback callback, void *context, uint64_t *sequence_out)
{
    void *data;
    size_t bytes;
    int error = put(pawl, message, (struct patience){.timeout_ms = timeout_ms}, false, &bytes, &data);
    if (error == -EAGAIN)
        pawl_lib_arm(pawl); /* from now on for room too */
    if (error)
        return error;
    uint64_t sequence = pawl->publisher.next;
    pawl_lib_record(pawl, pawl->lane->end.submit_position - bytes, bytes, callback, context, false);
    if (sequence_out)
        *sequence_out = sequence;
    recorded(pawl, bytes);
    pawl_lib_rearm(pawl);
    return 0;
}

void pawl_kick(struct pawl *pawl)
{
    if (!pawl || pawl->forks != pawl_lib_forks() || !pawl->lane)
        return;
    pawl_lib_settle_send(pawl);
    pawl_lib_send(pawl);
}

uint64_t pawl_unconfirmed(const struct pawl *pawl)
{
    return pawl ? pawl->publisher.unconfirmed : 0;
}

/* ---- and waiting ---- */

struct waited {
    uint64_t left, stored;
    struct pawl_confirm confirm; /* the last, or the first that is an error */
};

static void on_waited(void *context, const struct pawl_confirm *confirm)
{
    struct waited *waited = context;
    /* By a full queue, which is no error: pawl.h, struct pawl_confirm. */
    bool dropped = confirm->routed == 0 && confirm->event_id == 0 && confirm->refused > 0;
    waited->left--;
    waited->stored += confirm->error == 0 && !dropped;
    if (waited->confirm.error == 0)
        waited->confirm = *confirm;
}

static int await_confirms(struct pawl *pawl, struct waited *waited, uint64_t first, uint64_t deadline_ns)
{
    int error = 0;
    pawl_kick(pawl);
    while (waited->left > 0 && !error) {
        pawl_lib_take_in(pawl);
        if (waited->left > 0)
            error = pawl_lib_wait(pawl, deadline_ns, PAWL_LIB_FOR_NEWS);
    }
    if (waited->left == 0)
        return pawl_lib_refusal(pawl, &waited->confirm);
    pawl_lib_forget(pawl, first, pawl->publisher.next, waited);
    if (error == -ETIMEDOUT)
        pawl_lib_fail(pawl, error, "not confirmed in time: it may or may not have been stored");
    return error;
}

int pawl_publish(struct pawl *pawl, const struct pawl_message *message, int timeout_ms,
                 struct pawl_confirm *confirm_out)
{
    struct waited waited = {.left = 1};
    uint64_t deadline_ns = pawl_lib_deadline(timeout_ms), sequence = 0;
    int error = pawl_publish_async(pawl, message, timeout_ms, on_waited, &waited, &sequence);
    if (error)
        return error;
    error = await_confirms(pawl, &waited, sequence, deadline_ns);
    if (confirm_out)
        *confirm_out = waited.confirm;
    pawl_lib_arm(pawl);
    return error;
}

int pawl_publish_batch(struct pawl *pawl, const struct pawl_message *messages, size_t count, int timeout_ms,
                       size_t *stored_out)
{
    struct waited waited = {0};
    uint64_t deadline_ns = pawl_lib_deadline(timeout_ms), first = 0, sequence;
    int error = count > 0 && pawl ? pawl_lib_need(pawl, messages, "messages") : pawl_lib_check(pawl);
    for (size_t i = 0; i < count && !error; i++) {
        void *data;
        size_t bytes;
        error = put(pawl, &messages[i], (struct patience){.known = true, .deadline_ns = deadline_ns}, false,
                    &bytes, &data);
        if (error)
            break;
        sequence = pawl->publisher.next;
        first = first ? first : sequence;
        waited.left++;
        pawl_lib_record(pawl, pawl->lane->end.submit_position - bytes, bytes, on_waited, &waited, false);
        recorded(pawl, bytes);
    }
    int confirmed = first ? await_confirms(pawl, &waited, first, deadline_ns) : 0;
    if (stored_out)
        *stored_out = waited.stored;
    if (pawl)
        pawl_lib_arm(pawl);
    return error ? error : confirmed;
}

/* ---- data written by the caller ---- */

int pawl_publish_reserve(struct pawl *pawl, const struct pawl_message *message, int timeout_ms,
                         void **data_out)
{
    size_t bytes;
    int error = pawl_lib_check(pawl);
    if (!error)
        error = pawl_lib_need(pawl, message, "message");
    if (!error)
        error = pawl_lib_need(pawl, data_out, "data_out");
    if (error)
        return error;
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    struct pawl_message without = *message;
    without.data = NULL;
    pawl_lib_send(pawl); /* from now on nothing is sent until it is committed */
    error = put(pawl, &without, (struct patience){.timeout_ms = timeout_ms}, true, &bytes, data_out);
    if (error == -EAGAIN)
        pawl_lib_arm(pawl);
    if (error)
        return error;
    publisher->reserved = pawl_lib_entry_at(pawl->lane, pawl->lane->end.submit_position - bytes);
    publisher->reserved_bytes = bytes;
    publisher->reserved_from = pawl->lane->end.submit_position - bytes;
    publisher->reserved_lane = pawl->lane;
    pawl->lane->held++;
    return 0;
}

int pawl_publish_commit(struct pawl *pawl, pawl_confirm_callback callback, void *context,
                        uint64_t *sequence_out)
{
    int error = pawl_lib_check(pawl);
    if (!pawl)
        return error;
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    struct pawl_lib_lane *lane = publisher->reserved_lane;
    if (!publisher->reserved)
        return error ? error : pawl_lib_fail(pawl, PAWL_E_STATE, "nothing is reserved");
    if (error) {
        pawl_publish_abort(pawl);
        return error;
    }
    size_t bytes = publisher->reserved_bytes;
    uint64_t sequence = publisher->next;
    error = pawl_lib_record_reserved(pawl, callback, context);
    if (error)
        pawl_lib_fail(pawl, error, "no memory for the event");
    publisher->reserved = NULL;
    publisher->reserved_lane = NULL;
    pawl_lib_lane_drop(lane);
    if (error)
        return error;
    if (sequence_out)
        *sequence_out = sequence;
    recorded(pawl, bytes);
    return 0;
}

void pawl_publish_abort(struct pawl *pawl)
{
    if (!pawl || !pawl->publisher.reserved || pawl->forks != pawl_lib_forks())
        return;
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    struct pawl_lib_lane *lane = publisher->reserved_lane;
    if (!lane->gone)
        pawl_client_end_unreserve(&lane->end, lane->end.submit_published);
    publisher->reserved = NULL;
    publisher->reserved_lane = NULL;
    pawl_lib_lane_drop(lane);
}

/* ---- flush ---- */

int pawl_flush(struct pawl *pawl, int timeout_ms)
{
    uint64_t deadline_ns = pawl_lib_deadline(timeout_ms);
    int error = pawl_lib_check(pawl);
    if (error)
        return error;
    pawl_kick(pawl);
    struct pawl_lib_lane *lane = pawl->lane;
    uint64_t published = pawl->publisher.next, lane_epoch = lane ? lane->epoch : 0;
    bool settled;
    for (;;) {
        pawl_lib_take_in(pawl);
        lane = pawl->lane;
        settled = !lane || lane->epoch != lane_epoch || pawl_lib_all_settled(lane);
        if (settled && pawl->publisher.first >= published)
            break;
        pawl_kick(pawl); /* a full settle ring may have kept some back */
        error = pawl_lib_wait(pawl, deadline_ns,
                              PAWL_LIB_FOR_ROOM | (settled ? PAWL_LIB_FOR_NEWS : PAWL_LIB_FOR_DURABLE));
        if (error)
            break;
    }
    pawl->flushing = error == -ETIMEDOUT && !settled; /* a confirm is news anyway */
    pawl_lib_arm(pawl);
    if (!error && pawl->lost_settlements > 0) {
        pawl->lost_settlements = 0;
        return pawl_lib_fail(
            pawl, PAWL_E_INDEFINITE,
            "the scheduler was lost before all settlements were durable: those deliveries may "
            "come again");
    }
    if (error == -ETIMEDOUT && pawl->publisher.unconfirmed > 0)
        pawl_lib_fail(pawl, error, "%llu publishes are not confirmed yet",
                      (unsigned long long)pawl->publisher.unconfirmed);
    else if (error == -ETIMEDOUT)
        pawl_lib_fail(pawl, error, "settlements are not durable yet");
    return error;
}
