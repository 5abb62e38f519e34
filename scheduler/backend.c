/*
 * backend.c - the bus's backend of one machine: the journal stores, kept memory holds what need not last,
 * lanes carry.
 *
 * Runs in: scheduler, inside calls of the bus. Nothing here calls the bus back.
 */
#include "scheduler/backend.h"

#include "scheduler/clients.h"
#include "scheduler/bus/record.h"
#include "shm/error.h"

static uint64_t append(void *ctx, uint8_t type, const struct iovec *body, int count, uint64_t *place_out)
{
    struct pawl_loop *loop = ctx;
    /* Who acks goes on at once; whoever does wait says so (client_reply.c). All else is waited for. */
    loop->hurry |= type != PAWL_BUS_RECORD_ACK;
    return pawl_loop_append(loop, type, PAWL_BUS_RECORD_VERSION, body, count, place_out);
}

static uint64_t keep(void *ctx, const struct iovec *body, int count, uint32_t users)
{
    struct pawl_loop *loop = ctx;
    uint64_t handle = pawl_kept_add(&loop->kept, body, count, users);
    return handle ? handle | PAWL_PLACE_VOLATILE : 0;
}

static bool may_keep(void *ctx, size_t bytes)
{
    const struct pawl_loop *loop = ctx;
    return pawl_kept_may_add(&loop->kept, bytes);
}

static void release(void *ctx, uint64_t place)
{
    struct pawl_loop *loop = ctx;
    pawl_kept_release(&loop->kept, place & ~PAWL_PLACE_VOLATILE);
}

static void cut(void *ctx)
{
    pawl_loop_cut(ctx);
}

static int has_room(void *ctx, size_t bytes)
{
    struct pawl_loop *loop = ctx;
    return pawl_journal_has_room(loop->journal, bytes, PAWL_JOURNAL_FOR_WORK);
}

static bool may_spend(void *ctx, size_t bytes)
{
    struct pawl_loop *loop = ctx;
    return pawl_journal_has_room(loop->journal, bytes, PAWL_JOURNAL_FOR_ACTS) == 0;
}

static int read_record(void *ctx, uint64_t place, uint8_t *type_out, const void **body_out, size_t *bytes_out)
{
    struct pawl_loop *loop = ctx;
    if (place & PAWL_PLACE_VOLATILE) {
        *type_out = PAWL_BUS_RECORD_EVENTS;
        *body_out = pawl_kept_read(&loop->kept, place & ~PAWL_PLACE_VOLATILE, bytes_out);
        return *body_out ? 0 : PAWL_E_NOT_FOUND;
    }
    struct pawl_record record;
    int error = pawl_journal_peek(loop->journal, place, &record);
    if (error)
        return error;
    *type_out = record.type;
    *body_out = record.body;
    *bytes_out = record.body_bytes;
    return 0;
}

static uint64_t next(void *ctx, uint64_t place)
{
    struct pawl_loop *loop = ctx;
    return pawl_journal_next_place(loop->journal, place);
}

static uint64_t resolve(void *ctx, uint64_t place)
{
    struct pawl_loop *loop = ctx;
    return pawl_journal_resolve(loop->journal, place);
}

static int deliver(void *ctx, uint32_t client, const struct pawl_inbound_entry *entry,
                   const struct pawl_event *event)
{
    return pawl_clients_deliver(ctx, client, entry, event);
}

static void reply(void *ctx, uint32_t client, const struct pawl_reply *words)
{
    pawl_clients_reply(ctx, client, words);
}

static void tell(void *ctx, uint32_t client, const char *text)
{
    pawl_clients_tell(ctx, client, text);
}

static void changed(void *ctx)
{
    struct pawl_loop *loop = ctx;
    loop->changed = loop->changed || loop->taker_count > 0;
}

static struct pawl_metrics_row *metrics_row(void *ctx, uint32_t queue, const char *name)
{
    struct pawl_loop *loop = ctx;
    if (!loop->metrics || queue >= PAWL_METRICS_ROWS_MAX)
        return NULL;
    if (!name) {
        pawl_metrics_row_close(loop->metrics, queue);
        return NULL;
    }
    pawl_metrics_row_open(loop->metrics, queue, name);
    return pawl_metrics_row(loop->metrics, queue);
}

const struct pawl_bus_backend pawl_journal_backend = {
    .append = append,
    .keep = keep,
    .may_keep = may_keep,
    .release = release,
    .cut = cut,
    .has_room = has_room,
    .may_spend = may_spend,
    .read = read_record,
    .next = next,
    .resolve = resolve,
    .deliver = deliver,
    .reply = reply,
    .tell = tell,
    .changed = changed,
    .metrics_row = metrics_row,
    .random = pawl_loop_random,
    .log = pawl_loop_say,
};
