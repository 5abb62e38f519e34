/*
 * act.c - an ack and the events that follow from it: one atomic record.
 *
 * Runs in: the program that uses pawl.h. All entries become visible by one store. An act is never sent again:
 * its delivery belongs to one epoch. After a reconnect the scheduler says whether its events are known.
 */
#include "runtime/lib/lib.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

struct part {
    struct pawl_event_parts parts;
    size_t bytes;
    void *entry;
    uint64_t position;
};

struct act {
    uint64_t left;
    int error;
};

static void on_confirm(void *context, const struct pawl_confirm *confirm)
{
    struct act *act = context;
    act->left--;
    if (!act->error)
        act->error = confirm->error;
}

/* All entries in a row, or none. 0; -EAGAIN: no room now; an error. */
static int reserve_all(struct pawl *pawl, struct part *parts, size_t count, void **settle_out)
{
    struct pawl_lib_lane *lane = pawl->lane;
    size_t settle_bytes = sizeof(struct pawl_submit) + sizeof(struct pawl_settle);
    uint64_t before = lane->end.submit_position;
    int error = 0;
    *settle_out = pawl_lib_reserve(pawl, settle_bytes, &error);
    bool fits = *settle_out != NULL;
    for (size_t i = 0; fits && i < count; i++) {
        parts[i].entry = pawl_lib_reserve(pawl, parts[i].bytes, &error);
        parts[i].position = lane->end.submit_position - parts[i].bytes;
        fits = parts[i].entry != NULL;
    }
    if (fits)
        return 0;
    pawl_client_end_unreserve(&lane->end, before);
    return error ? error : -EAGAIN;
}

static int prepare(struct pawl *pawl, const struct pawl_message *messages, size_t count, struct part *parts)
{
    size_t headers_used = 0, total = 0;
    for (size_t i = 0; i < count; i++) {
        int error = pawl_lib_parts(pawl, &messages[i], &headers_used, &parts[i].parts);
        if (error)
            return error;
        if (!messages[i].data && messages[i].data_bytes > 0)
            return pawl_lib_fail(pawl, PAWL_E_INVALID, "no data, but %zu bytes of it",
                                 messages[i].data_bytes);
        parts[i].bytes = pawl_lib_entry_bytes(&parts[i].parts);
        total += parts[i].bytes;
    }
    if (total > pawl->lane->end.submit_bytes / 2)
        return pawl_lib_fail(pawl, PAWL_E_LIMIT,
                             "an act of %zu events, %zu bytes, does not fit into the lane", count, total);
    return 0;
}

static void put_all(struct pawl *pawl, const struct pawl_lib_delivery *own,
                    const struct pawl_message *messages, size_t count, struct part *parts, void *settle_entry,
                    struct act *act)
{
    struct pawl_submit head = {.bytes = sizeof head + sizeof(struct pawl_settle),
                               .type = PAWL_SUBMIT_SETTLE,
                               .flags = count > 0 ? PAWL_SUBMIT_MORE : 0};
    struct pawl_settle ack = {.first = own->number, .last = own->number, .op = PAWL_SETTLE_OP_ACK};
    memcpy(settle_entry, &head, sizeof head);
    memcpy((char *)settle_entry + sizeof head, &ack, sizeof ack);
    for (size_t i = 0; i < count; i++) {
        pawl_lib_fill(parts[i].entry, parts[i].bytes, &messages[i], &parts[i].parts, pawl->publisher.next,
                      i + 1 < count);
        pawl_lib_record(pawl, parts[i].position, parts[i].bytes, on_confirm, act, true);
    }
    pawl->lane->text_position = pawl->lane->end.submit_position;
    pawl_lib_send(pawl);
}

static int place(struct pawl *pawl, const struct pawl_lib_delivery *own, const struct pawl_message *messages,
                 size_t count, struct part *parts, struct act *act, uint64_t deadline_ns)
{
    struct pawl_lib_lane *lane = own->lane;
    for (;;) {
        void *settle_entry;
        int error = pawl_lib_may_publish(pawl, count, deadline_ns);
        if (lane->gone)
            return PAWL_E_STALE_RECEIPT;
        if (!error)
            error = pawl_lib_window(pawl, count);
        if (!error)
            error = prepare(pawl, messages, count, parts);
        if (error)
            return error;
        pawl_lib_settle_send(pawl); /* what was settled before it makes room for it */
        pawl_lib_send(pawl);        /* so that an act that finds no room can be taken back whole */
        error = reserve_all(pawl, parts, count, &settle_entry);
        if (error == 0) {
            put_all(pawl, own, messages, count, parts, settle_entry, act);
            return 0;
        }
        if (error != -EAGAIN)
            return error;
        pawl_kick(pawl);
        error = pawl_lib_wait(pawl, deadline_ns, PAWL_LIB_FOR_ROOM);
        if (error)
            return pawl_lib_no_room(pawl, error);
        pawl_lib_take_in(pawl);
    }
}

int pawl_ack_publish(const struct pawl_delivery *delivery, const struct pawl_message *messages, size_t count,
                     int timeout_ms)
{
    int error;
    struct pawl_lib_delivery *own = pawl_lib_own(delivery, &error);
    if (!own)
        return error;
    if (count == 0)
        return pawl_ack(delivery);
    struct pawl *pawl = own->lane->pawl;
    if (pawl->publisher.reserved)
        return pawl_lib_fail(pawl, PAWL_E_STATE, "a reservation is open: commit or abort it first");
    if (own->auto_ack)
        return pawl_lib_fail(pawl, PAWL_E_STATE, "a delivery that settles itself cannot be part of an act");
    error = pawl_lib_need(pawl, messages, "messages");
    if (!error && count > PAWL_UNCONFIRMED_MAX / 2) /* more would wait for ever for their window */
        error = pawl_lib_fail(pawl, PAWL_E_LIMIT, "an act of %zu events: at most %d", count,
                              PAWL_UNCONFIRMED_MAX / 2);
    if (error)
        return error;
    uint64_t deadline_ns = pawl_lib_deadline(timeout_ms);
    struct act act = {.left = count};
    struct part *parts = calloc(count, sizeof *parts);
    if (!parts)
        return pawl_lib_fail(pawl, -ENOMEM, "no memory for %zu events", count);
    error = place(pawl, own, messages, count, parts, &act, deadline_ns);
    free(parts);
    uint64_t first = pawl->publisher.next - (error ? 0 : count);
    bool placed = error == 0;
    while (placed && act.left > 0 && !error) {
        pawl_lib_take_in(pawl);
        if (act.left > 0)
            error = pawl_lib_wait(pawl, deadline_ns, PAWL_LIB_FOR_NEWS);
    }
    if (placed && act.left > 0)
        pawl_lib_forget(pawl, first, pawl->publisher.next, &act);
    else if (placed)
        error = act.error;
    /* Refused as a whole: nothing happened, the delivery is still the caller's. */
    bool kept =
        !placed || (act.left == 0 && error && error != PAWL_E_STALE_RECEIPT && error != PAWL_E_INDEFINITE);
    if (error == PAWL_E_STALE_RECEIPT || !kept)
        pawl_lib_delivery_done(own);
    if (error && placed)
        pawl_lib_fail(pawl, error, "ack and publish: %s", pawl_error_text(error));
    pawl_kick(pawl);
    pawl_lib_arm(pawl);
    return error;
}
