/*
 * publication.c - publishes that are not confirmed: where their bytes are, their confirms, sending them
 * again.
 *
 * Runs in: the program that uses pawl.h. An entry stays in the lane's own memory and is copied out only when
 * its bytes are needed again, or when the lane is lost. Sequence numbers are dense over all lanes, so the
 * scheduler knows what it has seen before.
 */
#include "runtime/lib/lib.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/doorbell.h"
#include "shm/error.h"

enum { SLOTS_FIRST = 256 };

static struct pawl_lib_publication *slot(struct pawl_lib_publisher *publisher, uint64_t sequence)
{
    return &publisher->slots[sequence & publisher->slot_mask];
}

static int grow(struct pawl_lib_publisher *publisher)
{
    uint64_t count = publisher->slots ? (publisher->slot_mask + 1) * 2 : SLOTS_FIRST;
    struct pawl_lib_publication *slots = calloc(count, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    for (uint64_t sequence = publisher->first; sequence != publisher->next; sequence++)
        slots[sequence & (count - 1)] = *slot(publisher, sequence);
    free(publisher->slots);
    publisher->slots = slots;
    publisher->slot_mask = count - 1;
    return 0;
}

static bool show(struct pawl *pawl)
{
    struct pawl_lib_lane *lane = pawl->lane;
    if (!lane || pawl->publisher.reserved_lane == lane)
        return false;
    if (lane->end.submit_published != lane->end.submit_position)
        pawl_client_end_submit_publish(&lane->end);
    return true;
}

void pawl_lib_send(struct pawl *pawl)
{
    struct pawl_lib_lane *lane = pawl->lane;
    bool owed = pawl->publisher.batch_entries > 0 ||
                (lane && lane->end.submit_published != lane->end.submit_position);
    if (!show(pawl))
        return;
    pawl->publisher.batch_entries = pawl->publisher.batch_bytes = 0;
    if (owed)
        pawl_doorbell_ring(&lane->end.inbound->sleeping, lane->scheduler_fd); /* D1 */
}

void pawl_lib_send_batch(struct pawl *pawl)
{
    const struct pawl_lib_publisher *publisher = &pawl->publisher;
    if (publisher->batch_entries >= PAWL_LIB_BELL_ENTRIES || publisher->batch_bytes >= PAWL_LIB_BATCH_BYTES)
        pawl_lib_send(pawl);
    else
        (void)show(pawl);
}

/* ---- bytes that are needed again ---- */

static int keep(struct pawl_lib_publisher *publisher, const struct pawl_lib_lane *lane,
                struct pawl_lib_publication *publication)
{
    const char *ring = (const char *)lane->end.lane + PAWL_CLIENT_SUBMIT_AT;
    if (publication->copy)
        return 0;
    publication->copy = malloc(publication->bytes);
    if (!publication->copy)
        return -ENOMEM;
    memcpy(publication->copy, ring + (publication->position & (lane->end.submit_bytes - 1)),
           publication->bytes);
    publisher->kept_bytes += publication->bytes;
    return 0;
}

/* Copies of what begins below @position. */
static int keep_below(struct pawl_lib_publisher *publisher, const struct pawl_lib_lane *lane,
                      uint64_t position)
{
    for (; publisher->kept != publisher->next; publisher->kept++) {
        struct pawl_lib_publication *publication = slot(publisher, publisher->kept);
        if (publication->state == PAWL_LIB_UNSENT)
            break;
        if (publication->state == PAWL_LIB_DONE || publication->copy)
            continue;
        if (publication->position >= position)
            break;
        int error = keep(publisher, lane, publication);
        if (error)
            return error;
    }
    return 0;
}

void *pawl_lib_reserve(struct pawl *pawl, size_t bytes, int *error_out)
{
    struct pawl_lib_lane *lane = pawl->lane;
    struct pawl_client_end *end = &lane->end;
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    uint64_t size = end->submit_bytes, before = end->submit_position;
    *error_out = 0;
    if (bytes > size / 2) {
        *error_out =
            pawl_lib_fail(pawl, PAWL_E_LIMIT, "an event of %zu bytes does not fit into the lane", bytes);
        return NULL;
    }
    /* reserve() itself writes at most a PAD's head; the rest of what it skips is looked at afterwards. */
    if (before + 2 * bytes > size)
        *error_out = keep_below(publisher, lane, before + 2 * bytes - size);
    void *entry = *error_out ? NULL : pawl_client_end_reserve(end, bytes);
    if (entry && end->submit_position > size)
        *error_out = keep_below(publisher, lane, end->submit_position - size);
    if (*error_out && entry) {
        pawl_client_end_unreserve(end, before);
        entry = NULL;
    }
    if (*error_out)
        pawl_lib_fail(pawl, *error_out, "no memory to keep what is not confirmed");
    return entry;
}

static bool has_window(const struct pawl_lib_publisher *publisher, size_t count)
{
    return publisher->send == publisher->next &&
           publisher->next - publisher->first + count <= PAWL_UNCONFIRMED_MAX &&
           publisher->kept_bytes < PAWL_LIB_KEPT_BYTES_MAX;
}

bool pawl_lib_can_publish(const struct pawl *pawl, size_t count)
{
    return pawl->phase == PAWL_LIB_UP && pawl->lane && has_window(&pawl->publisher, count) &&
           pawl->forks == pawl_lib_forks();
}

int pawl_lib_no_room(struct pawl *pawl, int error)
{
    return error == -ETIMEDOUT ? pawl_lib_fail(pawl, -EAGAIN, "no room in the lane in time: nothing was sent")
                               : error;
}

int pawl_lib_may_publish(struct pawl *pawl, size_t count, uint64_t deadline_ns)
{
    for (;;) {
        int error = pawl_lib_check(pawl);
        if (!error && (pawl->phase != PAWL_LIB_UP || !pawl->lane))
            error = pawl_lib_need_lane(pawl, deadline_ns);
        if (error)
            return error;
        if (has_window(&pawl->publisher, count))
            return 0;
        pawl_kick(pawl);
        pawl_lib_take_in(pawl);
        if (pawl->phase != PAWL_LIB_UP || has_window(&pawl->publisher, count))
            continue;
        error = pawl_lib_wait(pawl, deadline_ns, PAWL_LIB_FOR_ROOM);
        if (error)
            return pawl_lib_no_room(pawl, error);
    }
}

void pawl_lib_record(struct pawl *pawl, uint64_t position, size_t bytes, pawl_confirm_callback callback,
                     void *context, bool acts)
{
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    *slot(publisher, publisher->next) = (struct pawl_lib_publication){
        .callback = callback,
        .context = context,
        .position = position,
        .bytes = (uint32_t)bytes,
        .state = PAWL_LIB_SENT,
        .acts = acts,
    };
    publisher->next++;
    publisher->send = publisher->next;
    publisher->unconfirmed++;
    publisher->callbacks += callback != NULL;
}

int pawl_lib_record_reserved(struct pawl *pawl, pawl_confirm_callback callback, void *context)
{
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    uint64_t sequence = publisher->next, send = publisher->send;
    size_t bytes = publisher->reserved_bytes;
    void *copy = NULL;
    if (publisher->reserved_lane->gone) {
        copy = malloc(bytes);
        if (!copy)
            return -ENOMEM;
        memcpy(copy, publisher->reserved, bytes);
    }
    pawl_lib_record(pawl, publisher->reserved_from, bytes, callback, context, false);
    if (!copy)
        return 0;
    /* Its lane was lost while the caller wrote into it: it goes with those that are sent again. */
    struct pawl_lib_publication *publication = slot(publisher, sequence);
    publication->copy = copy;
    publication->state = PAWL_LIB_UNSENT;
    publisher->kept_bytes += bytes;
    publisher->send = send;
    return 0;
}

int pawl_lib_window(struct pawl *pawl, size_t count)
{
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    int error = 0;
    while (!error && (!publisher->slots || publisher->next - publisher->first + count > publisher->slot_mask))
        error = grow(publisher);
    return error;
}

/* ---- confirms ---- */

static void finish(struct pawl *pawl, uint64_t sequence, struct pawl_confirm *confirm)
{
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    struct pawl_lib_publication *publication = slot(publisher, sequence);
    pawl_confirm_callback callback = publication->callback;
    void *context = publication->context;
    confirm->sequence = sequence;
    confirm->refused = publication->refused;
    publication->state = PAWL_LIB_DONE;
    if (publication->copy) {
        free(publication->copy);
        publication->copy = NULL;
        publisher->kept_bytes -= publication->bytes;
    }
    publisher->unconfirmed--;
    publisher->callbacks -= callback != NULL;
    while (publisher->first != publisher->next && slot(publisher, publisher->first)->state == PAWL_LIB_DONE)
        publisher->first++;
    if (publisher->kept < publisher->first)
        publisher->kept = publisher->first;
    if (publisher->send < publisher->first)
        publisher->send = publisher->first;
    if (callback)
        callback(context, confirm);
}

/* By a full queue whose policy is to drop the newest: confirmed, and nothing has it. */
static bool was_dropped(const struct pawl_reply *reply)
{
    return reply->type == PAWL_REPLY_CONFIRM && reply->routed == 0 && reply->event_id == 0 &&
           !(reply->flags & (PAWL_REPLY_UNROUTED | PAWL_REPLY_DUPLICATE));
}

void pawl_lib_confirm(struct pawl *pawl, const struct pawl_reply *reply)
{
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    uint64_t end = reply->last < publisher->next ? reply->last + 1 : publisher->next;
    uint64_t sequence = reply->first > publisher->first ? reply->first : publisher->first;
    if (reply->type != PAWL_REPLY_CONFIRM)
        pawl->refusing = reply->queue;
    for (; sequence < end; sequence++) {
        struct pawl_lib_publication *publication = slot(publisher, sequence);
        if (publication->state != PAWL_LIB_SENT)
            continue;
        if (reply->type == PAWL_REPLY_PARTIAL) {
            publication->refused++;
            continue;
        }
        publication->refused += was_dropped(reply);
        struct pawl_confirm confirm = {
            .error = reply->type == PAWL_REPLY_CONFIRM ? 0
                     : reply->error < 0                ? reply->error
                                                       : PAWL_E_INVALID,
            .event_id = reply->event_id ? reply->event_id + (sequence - reply->first) : 0,
            .durability = (enum pawl_durability_mode)reply->durability,
            .routed = reply->routed,
            .duplicate = (reply->flags & PAWL_REPLY_DUPLICATE) != 0,
        };
        finish(pawl, sequence, &confirm);
    }
}

void pawl_lib_forget(struct pawl *pawl, uint64_t first, uint64_t end, const void *context)
{
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    for (uint64_t sequence = first > publisher->first ? first : publisher->first; sequence < end;
         sequence++) {
        struct pawl_lib_publication *publication = slot(publisher, sequence);
        if (publication->state != PAWL_LIB_DONE && publication->context == context && publication->callback) {
            publication->callback = NULL;
            publisher->callbacks--;
        }
    }
}

/* ---- a lost scheduler ---- */

void pawl_lib_publisher_lost(struct pawl *pawl)
{
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    const struct pawl_lib_lane *lane = pawl->lane;
    uint64_t end = publisher->next;
    for (uint64_t sequence = publisher->first; sequence < end; sequence++) {
        struct pawl_lib_publication *publication = slot(publisher, sequence);
        if (publication->state == PAWL_LIB_DONE)
            continue;
        if (publication->state == PAWL_LIB_SENT && keep(publisher, lane, publication) != 0) {
            struct pawl_confirm confirm = {.error = PAWL_E_INDEFINITE};
            finish(pawl, sequence, &confirm);
            continue;
        }
        publication->state = PAWL_LIB_UNSENT;
    }
    publisher->send = publisher->first;
    publisher->batch_entries = publisher->batch_bytes = 0;
}

void pawl_lib_publisher_attached(struct pawl *pawl, uint64_t sequence)
{
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    publisher->kept = publisher->first;
    uint64_t end = publisher->next;
    for (uint64_t each = publisher->first; each < end; each++) {
        struct pawl_lib_publication *publication = slot(publisher, each);
        struct pawl_confirm confirm = {0};
        if (publication->state != PAWL_LIB_UNSENT)
            continue;
        if (each <= sequence) {
            confirm.durability = PAWL_DURABLE_FSYNC;
            confirm.duplicate = true;
            finish(pawl, each, &confirm);
        } else if (publication->acts) {
            /* Its ack was of another lane: it cannot be done again, only asked for. */
            struct pawl_submit *submit = publication->copy;
            submit->flags = PAWL_SUBMIT_ASK;
        }
    }
}

void pawl_lib_resend(struct pawl *pawl)
{
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    struct pawl_lib_lane *lane = pawl->lane;
    if (!lane || publisher->reserved_lane == lane)
        return;
    for (; publisher->send != publisher->next; publisher->send++) {
        struct pawl_lib_publication *publication = slot(publisher, publisher->send);
        if (publication->state == PAWL_LIB_DONE)
            continue;
        void *entry = pawl_client_end_reserve(&lane->end, publication->bytes);
        if (!entry && publication->bytes <= lane->end.submit_bytes / 2)
            break;
        if (!entry) { /* the new lane is smaller */
            struct pawl_confirm confirm = {.error = PAWL_E_LIMIT};
            uint64_t sequence = publisher->send;
            finish(pawl, sequence, &confirm);
            if (pawl->lane != lane)
                return;
            continue;
        }
        memcpy(entry, publication->copy, publication->bytes);
        publication->position = lane->end.submit_position - publication->bytes;
        publication->state = PAWL_LIB_SENT; /* the copy stays: it is needed if this one is lost too */
    }
    pawl_lib_send(pawl);
}

void pawl_lib_publisher_fini(struct pawl *pawl, int error)
{
    struct pawl_lib_publisher *publisher = &pawl->publisher;
    uint64_t end = publisher->next;
    for (uint64_t sequence = publisher->first; sequence < end; sequence++) {
        struct pawl_lib_publication *publication = slot(publisher, sequence);
        struct pawl_confirm confirm = {.error = error};
        if (publication->state == PAWL_LIB_DONE)
            continue;
        if (!error)
            publication->callback = NULL;
        finish(pawl, sequence, &confirm);
    }
    if (error)
        return;
    free(publisher->slots);
    free(publisher->headers);
    publisher->slots = NULL;
    publisher->headers = NULL;
}
