/*
 * bus_memory.c - storage and transport of the bus in memory, and the life of its scheduler.
 *
 * Single-threaded. Requests and clients: bus_memory_client.c.
 */
#include "tests/sim/bus_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

static void *must(void *pointer)
{
    if (!pointer)
        abort();
    return pointer;
}

static void *more_room(void *array, size_t *room, size_t count, size_t item_bytes)
{
    if (count < *room)
        return array;
    *room = *room ? *room * 2 : 64;
    return must(realloc(array, *room * item_bytes));
}

/* ---- places: segment << 32 | byte offset, as a journal would have them ---- */

static uint64_t place_of(size_t index)
{
    return (uint64_t)(index / MEMORY_RECORDS_A_SEGMENT + 1) << 32 |
           (index % MEMORY_RECORDS_A_SEGMENT + 1) * 64;
}

static size_t index_of(uint64_t place)
{
    return ((place >> 32) - 1) * MEMORY_RECORDS_A_SEGMENT + (uint32_t)place / 64 - 1;
}

/* What was lent is gone with the next call that may move it. */
static void take_back(struct memory *memory)
{
    free(memory->lent);
    memory->lent = NULL;
}

static unsigned char *copy_of(const struct iovec *body, int count, size_t *bytes_out)
{
    size_t bytes = 0, at = 0;
    for (int i = 0; i < count; i++)
        bytes += body[i].iov_len;
    unsigned char *copy = must(malloc(bytes + 1));
    for (int i = 0; i < count; i++) {
        if (body[i].iov_len)
            memcpy(copy + at, body[i].iov_base, body[i].iov_len);
        at += body[i].iov_len;
    }
    *bytes_out = bytes;
    return copy;
}

/* ---- the backend ---- */

static uint64_t append(void *ctx, uint8_t type, const struct iovec *body, int count, uint64_t *place_out)
{
    struct memory *memory = ctx;
    if (memory->failing)
        return 0;
    memory->records =
        more_room(memory->records, &memory->record_room, memory->record_count, sizeof *memory->records);
    struct memory_record *record = &memory->records[memory->record_count++];
    *record = (struct memory_record){.type = type, .written = {memory->now, memory->boot}};
    record->body = copy_of(body, count, &record->bytes);
    *place_out = place_of(memory->record_count - 1);
    take_back(memory);
    return memory->record_count;
}

static uint64_t keep(void *ctx, const struct iovec *body, int count, uint32_t queues)
{
    struct memory *memory = ctx;
    if (memory->kept_full)
        return 0;
    memory->kept = more_room(memory->kept, &memory->kept_room, memory->kept_count, sizeof *memory->kept);
    struct memory_record *record = &memory->kept[memory->kept_count++];
    *record = (struct memory_record){.type = PAWL_BUS_RECORD_EVENTS};
    record->body = copy_of(body, count, &record->bytes);
    record->users = queues;
    memory->kept_live++;
    take_back(memory);
    return PAWL_PLACE_VOLATILE | memory->kept_count;
}

static bool may_keep(void *ctx, size_t bytes)
{
    const struct memory *memory = ctx;
    return !memory->kept_full && (memory->kept_max == 0 || bytes <= memory->kept_max);
}

static void release(void *ctx, uint64_t place)
{
    struct memory *memory = ctx;
    struct memory_record *record = &memory->kept[(place & ~PAWL_PLACE_VOLATILE) - 1];
    if (record->users == 0)
        abort(); /* given back too often */
    if (--record->users > 0)
        return;
    free(record->body);
    record->body = NULL;
    memory->kept_live--;
}

static bool may_spend(void *ctx, size_t bytes)
{
    return bytes <= ((struct memory *)ctx)->spare;
}

static int has_room(void *ctx, size_t bytes)
{
    (void)bytes;
    return ((struct memory *)ctx)->has_room;
}

static int read_record(void *ctx, uint64_t place, uint8_t *type_out, const void **body_out, size_t *bytes_out)
{
    struct memory *memory = ctx;
    take_back(memory);
    const struct memory_record *record;
    if (place & PAWL_PLACE_VOLATILE) {
        record = &memory->kept[(place & ~PAWL_PLACE_VOLATILE) - 1];
    } else {
        if (index_of(place) >= memory->record_count)
            return PAWL_E_NOT_FOUND;
        record = &memory->records[index_of(place)];
    }
    if (!record->body)
        return PAWL_E_NOT_FOUND;
    memory->lent = must(malloc(record->bytes + 1));
    memcpy(memory->lent, record->body, record->bytes);
    *type_out = record->type;
    *body_out = memory->lent;
    *bytes_out = record->bytes;
    return 0;
}

static uint64_t next(void *ctx, uint64_t place)
{
    struct memory *memory = ctx;
    take_back(memory);
    size_t index = index_of(place) + 1;
    while (index < memory->record_count &&
           index - memory->rescued_from < memory->rescued_to - memory->rescued_from &&
           memory->rescued_count > 0)
        index++; /* a full disk ended the segment there */
    return index < memory->record_count ? place_of(index) : 0;
}

static uint64_t resolve(void *ctx, uint64_t place)
{
    const struct memory *memory = ctx;
    size_t index = index_of(place);
    take_back(ctx);
    return memory->rescue_known && index - memory->rescued_from < memory->rescued_count
               ? place_of(index - memory->rescued_from + memory->rescued_to)
               : place;
}

static int deliver(void *ctx, uint32_t number, const struct pawl_inbound_entry *entry,
                   const struct pawl_event *event)
{
    struct memory *memory = ctx;
    struct memory_client *client = number < MEMORY_CLIENTS_MAX ? &memory->clients[number] : NULL;
    if (!client || !client->open)
        return PAWL_E_CLOSED;
    if (client->delivery_count >= client->room)
        return PAWL_E_QUEUE_FULL;
    client->deliveries = more_room(client->deliveries, &client->delivery_room, client->delivery_count,
                                   sizeof *client->deliveries);
    struct memory_delivery *delivery = &client->deliveries[client->delivery_count++];
    if (entry->number != client->delivery_count - 1)
        abort(); /* numbers of a lane are dense */
    *delivery = (struct memory_delivery){.entry = *entry};
    delivery->event = must(malloc(event->bytes));
    memcpy(delivery->event, event, event->bytes);
    return 0;
}

static void reply(void *ctx, uint32_t number, const struct pawl_reply *words)
{
    struct memory *memory = ctx;
    struct memory_client *client = number < MEMORY_CLIENTS_MAX ? &memory->clients[number] : NULL;
    if (!client || !client->open)
        return;
    client->replies =
        more_room(client->replies, &client->reply_room, client->reply_count, sizeof *client->replies);
    client->replies[client->reply_count++] = *words;
}

static void changed(void *ctx)
{
    ((struct memory *)ctx)->changes++;
}

static uint64_t random_word(void *ctx)
{
    struct memory *memory = ctx;
    memory->random ^= memory->random << 13;
    memory->random ^= memory->random >> 7;
    memory->random ^= memory->random << 17;
    return memory->random;
}

static void say(void *ctx, int level, const char *text)
{
    struct memory *memory = ctx;
    memory->lines_logged++;
    (void)level;
    snprintf(memory->logged, sizeof memory->logged, "%s", text);
}

static const struct pawl_bus_backend memory_backend = {
    .append = append,
    .keep = keep,
    .may_keep = may_keep,
    .release = release,
    .has_room = has_room,
    .may_spend = may_spend,
    .read = read_record,
    .next = next,
    .resolve = resolve,
    .deliver = deliver,
    .reply = reply,
    .changed = changed,
    .random = random_word,
    .log = say,
};

/* ---- life ---- */

static void forget_client(struct memory_client *client)
{
    for (size_t i = 0; i < client->delivery_count; i++)
        free(client->deliveries[i].event);
    free(client->deliveries);
    free(client->replies);
    *client = (struct memory_client){0};
}

static void drop_kept(struct memory *memory)
{
    for (size_t i = 0; i < memory->kept_count; i++)
        free(memory->kept[i].body);
    memory->kept_count = memory->kept_live = 0;
}

static void drop_snapshot(struct memory *memory)
{
    for (size_t i = 0; i < memory->chunk_count; i++)
        free(memory->chunks[i].bytes);
    memory->chunk_count = 0;
    memory->snapshot_lsn = 0;
}

static void must_hold(int error, const char *what)
{
    if (error == 0)
        return;
    fprintf(stderr, "%s: %s\n", what, pawl_error_text(error));
    abort();
}

/* The record of an epoch is the core's: of the bus's recovery it is no part. */
static void start(struct memory *memory, struct pawl_bus *bus)
{
    const struct iovec body = {.iov_base = &memory->epoch, .iov_len = sizeof memory->epoch};
    uint64_t place;
    memory->bus = bus;
    memory->epoch++;
    memory->epoch_lsn = append(memory, MEMORY_RECORD_EPOCH, &body, 1, &place);
    pawl_bus_durable(bus, memory->now, memory->durable);
    must_hold(pawl_bus_start(bus, memory->now, memory->epoch, memory->epoch_lsn), "the bus does not start");
}

void memory_init(struct memory *memory)
{
    *memory = (struct memory){
        .now = {.boottime_ns = 1000 * MEMORY_SECOND_NS,
                .realtime_ns = UINT64_C(1700000000) * MEMORY_SECOND_NS},
        .random = 88172645463325252u,
    };
    pawl_bus_limits_default(&memory->limits);
    start(memory, memory_recover(memory, 0, false, 1));
}

void memory_fini(struct memory *memory)
{
    pawl_bus_destroy(memory->bus);
    for (uint32_t i = 0; i < MEMORY_CLIENTS_MAX; i++)
        forget_client(&memory->clients[i]);
    for (size_t i = 0; i < memory->record_count; i++)
        free(memory->records[i].body);
    drop_kept(memory);
    drop_snapshot(memory);
    take_back(memory);
    free(memory->records);
    free(memory->kept);
    free(memory->chunks);
}

void memory_reboot(struct memory *memory, uint64_t boottime_ns)
{
    memory->boot++;
    memory->now.boottime_ns = boottime_ns;
}

struct pawl_bus *memory_recover(struct memory *memory, uint64_t lsn, bool over_snapshot, int times)
{
    struct pawl_bus *bus;
    uint64_t from = 0;
    must_hold(pawl_bus_create(&memory->limits, &memory_backend, memory, &bus), "no bus");
    if (over_snapshot && memory->snapshot_lsn > 0 && memory->snapshot_lsn <= lsn) {
        pawl_bus_written(bus, moment_read_in(memory->snapshot_written, memory->boot));
        for (size_t i = 0; i < memory->chunk_count; i++) {
            if (!pawl_bus_snapshot_is(memory->chunks[i].bytes, memory->chunks[i].n))
                abort();
            must_hold(pawl_bus_snapshot_load(bus, memory->chunks[i].bytes, memory->chunks[i].n),
                      "a snapshot is not taken");
        }
        from = memory->snapshot_lsn;
    }
    for (uint64_t i = from; i < lsn; i++)
        for (int n = 0; n < times; n++) {
            const struct memory_record *record = &memory->records[i];
            if (!record->body || record->type == MEMORY_RECORD_EPOCH)
                continue; /* its segment is gone: nothing of it was wanted */
            pawl_bus_written(bus, moment_read_in(record->written, memory->boot));
            int error = pawl_bus_apply(bus, record->type, 1, record->body, record->bytes, i + 1, place_of(i));
            if (error)
                fprintf(stderr, "record %llu of type %u:\n", (unsigned long long)i + 1, record->type);
            must_hold(error, "a record is not taken");
        }
    return bus;
}

void memory_restart(struct memory *memory, uint64_t kept_lsn)
{
    memory->rescue_known = false;
    pawl_bus_destroy(memory->bus);
    for (uint32_t i = 0; i < MEMORY_CLIENTS_MAX; i++)
        forget_client(&memory->clients[i]);
    drop_kept(memory);
    if (memory->snapshot_lsn > kept_lsn)
        drop_snapshot(memory);
    while (memory->record_count > kept_lsn)
        free(memory->records[--memory->record_count].body);
    memory->durable = memory->record_count;
    if (memory->epoch_lsn > kept_lsn)
        memory->epoch--; /* nobody knows any more that it began */
    start(memory, memory_recover(memory, memory->record_count, true, 1));
}

void memory_snapshot_of(struct memory *memory, struct pawl_bus *bus, uint64_t lsn)
{
    void *cursor = NULL;
    const void *chunk;
    size_t bytes;
    int more;
    drop_snapshot(memory);
    while ((more = pawl_bus_snapshot_next(bus, memory->now, &cursor, &chunk, &bytes)) > 0) {
        memory->chunks =
            more_room(memory->chunks, &memory->chunk_room, memory->chunk_count, sizeof *memory->chunks);
        memory->chunks[memory->chunk_count] = (struct memory_chunk){must(malloc(bytes)), bytes};
        memcpy(memory->chunks[memory->chunk_count++].bytes, chunk, bytes);
    }
    must_hold(more, "no snapshot");
    memory->snapshot_lsn = lsn;
    memory->snapshot_written = (struct moment){memory->now, memory->boot};
}

void memory_snapshot(struct memory *memory)
{
    pawl_bus_flush(memory->bus, memory->now);
    memory_snapshot_of(memory, memory->bus, memory->record_count);
}

size_t memory_release_segments(struct memory *memory)
{
    size_t gone = 0;
    uint8_t *pinned = must(calloc(memory->record_count + 1, 1));
    pawl_bus_mark_pinned(memory->bus, 1, pinned,
                         (uint32_t)(memory->record_count / MEMORY_RECORDS_A_SEGMENT + 1));
    for (size_t first = 0; first + MEMORY_RECORDS_A_SEGMENT <= memory->snapshot_lsn;
         first += MEMORY_RECORDS_A_SEGMENT) {
        if (!memory->records[first].body || pinned[first / MEMORY_RECORDS_A_SEGMENT])
            continue;
        for (size_t i = first; i < first + MEMORY_RECORDS_A_SEGMENT; i++) {
            free(memory->records[i].body);
            memory->records[i].body = NULL;
        }
        gone++;
    }
    free(pinned);
    return gone;
}

void memory_rescue(struct memory *memory, size_t count)
{
    memory->rescued_from = memory->record_count - count;
    memory->rescued_count = count;
    memory->rescue_known = true;
    do {
        memory->records =
            more_room(memory->records, &memory->record_room, memory->record_count, sizeof *memory->records);
        memory->records[memory->record_count++] = (struct memory_record){0};
    } while (memory->record_count % MEMORY_RECORDS_A_SEGMENT != 0);
    memory->rescued_to = memory->record_count;
    for (size_t i = 0; i < count; i++) {
        memory->records =
            more_room(memory->records, &memory->record_room, memory->record_count, sizeof *memory->records);
        struct memory_record *record = &memory->records[memory->rescued_from + i];
        memory->records[memory->record_count++] = *record;
        record->body = NULL;
    }
    memory->durable = memory->record_count;
}

/* ---- time ---- */

void memory_flush(struct memory *memory)
{
    struct pawl_bus *bus = memory->bus;
    for (uint32_t i = 0; i < MEMORY_CLIENTS_MAX; i++)
        if (memory->clients[i].open)
            pawl_bus_claims(bus, memory->now, pawl_bus_client(bus, i));
    pawl_bus_flush(bus, memory->now);
    (void)pawl_bus_dispatch(bus, memory->now);
}

void memory_sync(struct memory *memory)
{
    memory->durable = memory->record_count;
    pawl_bus_durable(memory->bus, memory->now, memory->durable);
}

void memory_turn(struct memory *memory)
{
    (void)pawl_bus_tick(memory->bus, memory->now);
    for (int i = 0; i < 1000; i++) {
        memory_flush(memory);
        bool more = pawl_bus_dispatch(memory->bus, memory->now);
        if (!more && memory->durable == memory->record_count)
            break;
        memory_sync(memory);
    }
    pawl_bus_durable(memory->bus, memory->now, memory->durable);
    (void)pawl_bus_dispatch(memory->bus, memory->now);
}

void memory_pass(struct memory *memory, uint64_t ns)
{
    memory->now.boottime_ns += ns;
    memory->now.realtime_ns += ns;
    memory_turn(memory);
}
