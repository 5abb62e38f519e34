/*
 * stress_client_lane - a client and a scheduler hammer the two segments between them.
 *
 * As threads over one mapping, so that ThreadSanitizer can look on. The client publishes events of random
 * sizes, singly and as atomic acts; the scheduler confirms and delivers each; the client reads it in place,
 * keeps some for a while, and settles in ranges. Both sleep when they have nothing to do: a lost wake-up
 * shows as a hang, which alarm() ends. Every event must come back whole, once and in order, every publish be
 * confirmed, every delivery settled. Usage: stress_client_lane [events] [seed]. Prints its seed; exits 0
 * or 1.
 */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shm/client_lane.h"
#include "shm/doorbell.h"
#include "shm/error.h"

enum { RING = PAWL_CLIENT_RING_BYTES_MIN, DATA_MAX = 24 << 10, COPY = 32 << 10, HELD_MAX = 64, ACT_MAX = 5 };

static struct pawl_client_port port;
static struct pawl_client_end end;
static int scheduler_bell, client_bell;
static uint64_t total;

struct side {
    uint64_t random, sleeps;
};

static uint64_t next_random(struct side *side)
{
    side->random ^= side->random << 13;
    side->random ^= side->random >> 7;
    side->random ^= side->random << 17;
    return side->random;
}

static void fail(const char *what, uint64_t number)
{
    fprintf(stderr, "stress_client_lane: %s (%" PRIu64 ")\n", what, number);
    exit(1);
}

static void sleep_on(struct side *side, _Atomic uint32_t *flag, int bell, bool (*work)(void *), void *context)
{
    pawl_doorbell_prepare(flag);
    if (!work(context)) {
        struct pollfd fd = {.fd = bell, .events = POLLIN};
        poll(&fd, 1, -1);
        pawl_doorbell_clear(bell);
        side->sleeps++;
    }
    pawl_doorbell_awake(flag);
}

/* The data of an event follows from its number. */
static size_t data_bytes_of(uint64_t number)
{
    uint64_t hash = number * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(hash >> 60 ? (hash >> 40) % 200 : (hash >> 40) % DATA_MAX);
}

static void fill(unsigned char *data, size_t bytes, uint64_t number)
{
    for (size_t i = 0; i < bytes; i++)
        data[i] = (unsigned char)(number + i);
}

static bool is_filled(const unsigned char *data, size_t bytes, uint64_t number)
{
    bool good = true;
    for (size_t i = 0; i < bytes; i++)
        good = good && data[i] == (unsigned char)(number + i);
    return good;
}

/* ---- the client ---- */

struct client {
    struct side side;
    uint64_t sent, confirmed, delivered, settled, settle_entries;
    uint64_t held[HELD_MAX]; /* where deliveries that are not given back end */
    uint32_t held_count;
    bool wants_room;
};

static bool reserve_event(uint64_t number, bool more)
{
    struct pawl_event_parts parts = {
        .topic = "stress.lane", .topic_bytes = 11, .data_bytes = data_bytes_of(number)};
    size_t bytes = sizeof(struct pawl_submit) + pawl_event_bytes(&parts);
    struct pawl_submit *submit = pawl_client_end_reserve(&end, bytes);
    if (!submit)
        return false;
    *submit = (struct pawl_submit){.bytes = (uint32_t)bytes,
                                   .type = PAWL_SUBMIT_EVENT,
                                   .flags = more ? PAWL_SUBMIT_MORE : 0,
                                   .sequence = number};
    fill(pawl_event_pack(&parts, submit + 1), parts.data_bytes, number);
    return true;
}

/* One act of a few events, all or none. */
static bool send_act(struct client *c)
{
    uint64_t count = 1 + next_random(&c->side) % ACT_MAX, before = end.submit_position;
    if (count > total - c->sent)
        count = total - c->sent;
    for (uint64_t i = 1; i <= count; i++)
        if (!reserve_event(c->sent + i, i < count)) {
            pawl_client_end_unreserve(&end, before);
            return false;
        }
    c->sent += count;
    return count > 0;
}

static bool take_replies(struct client *c)
{
    struct pawl_reply reply;
    int error;
    bool any = false;
    for (; (error = pawl_client_end_reply(&end, &reply)) == 1; any = true) {
        if (reply.type != PAWL_REPLY_CONFIRM || reply.first != c->confirmed + 1 || reply.last > c->sent)
            fail("a confirm is not the next one", reply.first);
        c->confirmed = reply.last;
    }
    if (error < 0)
        fail("the client finds replies that do not hold", c->confirmed);
    return any;
}

static bool take_deliveries(struct client *c)
{
    const struct pawl_inbound_entry *entry;
    const struct pawl_event *event;
    int error = 0;
    bool any = false;
    while (c->held_count < HELD_MAX &&
           (error = pawl_client_end_delivery(&end, &entry, &event, &c->held[c->held_count])) == 1) {
        uint64_t number = c->delivered + 1;
        if (entry->number != c->delivered || pawl_event_check(event, entry->bytes - sizeof *entry) < 0 ||
            event->id != number || event->data_bytes != data_bytes_of(number) ||
            !is_filled(pawl_event_data(event), event->data_bytes, number))
            fail("a delivery is not the next one, or not whole", number);
        c->delivered++;
        c->held_count++;
        any = true;
    }
    if (error < 0)
        fail("the client finds deliveries that do not hold", c->delivered);
    if (any)
        pawl_client_end_begun(&end, c->delivered);
    return any;
}

/* Settles and gives back all that is held, sometimes one by one. */
static bool settle_held(struct client *c)
{
    if (c->held_count == 0)
        return false;
    uint64_t step = next_random(&c->side) % 4 ? c->held_count : 1, first = c->settled;
    while (c->settled < c->delivered) {
        uint64_t last = c->settled + step > c->delivered ? c->delivered - 1 : c->settled + step - 1;
        struct pawl_settle settle = {.op = PAWL_SETTLE_OP_ACK, .first = c->settled, .last = last};
        if (pawl_client_end_settle(&end, &settle) == PAWL_E_QUEUE_FULL)
            break;
        c->settled = last + 1;
        c->settle_entries++;
    }
    uint32_t count = (uint32_t)(c->settled - first);
    if (count == 0)
        return false;
    pawl_client_end_settle_publish(&end);
    pawl_client_end_consumed(&end, c->held[count - 1]);
    c->held_count -= count;
    memmove(c->held, c->held + count, c->held_count * sizeof c->held[0]);
    return true;
}

static bool client_is_done(const struct client *c)
{
    return c->confirmed == total && c->settled == total &&
           pawl_client_end_settled_durable(&end) == c->settle_entries;
}

static bool client_has_work(void *context)
{
    struct client *c = context;
    return pawl_client_end_waiting(&end) || pawl_client_end_has_room(&end) || client_is_done(c);
}

static void *run_client(void *context)
{
    struct client *c = context;
    while (!client_is_done(c)) {
        bool any = false;
        for (uint64_t n = next_random(&c->side) % 8; n > 0 && send_act(c); n--)
            any = true;
        if (any)
            pawl_client_end_submit_publish(&end);
        any |= take_replies(c);
        any |= take_deliveries(c);
        bool keep = c->held_count < HELD_MAX / 2 && next_random(&c->side) % 4 == 0;
        any |= !keep && settle_held(c);
        if (any) {
            pawl_doorbell_ring(&end.inbound->sleeping, scheduler_bell);
        } else if (c->held_count == 0 && (c->sent == total || end.submit_refused)) {
            sleep_on(&c->side, &end.lane->sleeping, client_bell, client_has_work, c);
        }
    }
    return NULL;
}

/* ---- the scheduler ---- */

struct scheduler {
    struct side side;
    uint64_t taken, delivered, confirmed, settled, begun, settle_entries;
    bool pending; /* copy holds an event that found no room */
};

static _Alignas(8) unsigned char copy[COPY];

static bool deliver_pending(struct scheduler *s)
{
    struct pawl_inbound_entry entry = {.number = s->delivered, .attempt = 1};
    int error =
        pawl_client_port_deliver(&port, &entry, (struct pawl_event *)(copy + sizeof(struct pawl_submit)));
    if (error == PAWL_E_QUEUE_FULL)
        return false;
    if (error < 0)
        fail("a delivery was refused", (uint64_t)-error);
    s->delivered++;
    s->pending = false;
    return true;
}

static bool take_submissions(struct scheduler *s)
{
    const struct pawl_submit *submit = (struct pawl_submit *)copy;
    struct pawl_event *event = (struct pawl_event *)(copy + sizeof *submit);
    bool any = s->pending && deliver_pending(s), amid = false;
    while (!s->pending) {
        int error = pawl_client_port_submission(&port, copy, COPY);
        if (error == 0 && amid)
            fail("an atomic act was seen in part", s->taken);
        if (error == 0)
            break;
        if (error < 0 || submit->type != PAWL_SUBMIT_EVENT || submit->sequence != s->taken + 1 ||
            pawl_event_check(event, submit->bytes - sizeof *submit) < 0)
            fail("a submission does not hold", s->taken + 1);
        amid = submit->flags & PAWL_SUBMIT_MORE;
        event->id = ++s->taken;
        s->pending = true;
        any = true;
        deliver_pending(s);
    }
    return any;
}

static bool take_settlements(struct scheduler *s)
{
    struct pawl_settle settle;
    int error = pawl_client_port_begun(&port, s->begun, s->delivered, &s->begun);
    bool any = false;
    for (; error == 0 && (error = pawl_client_port_settlement(&port, &settle)) == 1; any = true, error = 0) {
        if (settle.first != s->settled || settle.last >= s->delivered)
            fail("a settlement is not about the next deliveries", settle.first);
        s->settled = settle.last + 1;
        s->settle_entries++;
    }
    if (error < 0)
        fail("settlements do not hold", s->settled);
    return any;
}

static bool confirm(struct scheduler *s)
{
    uint64_t step = next_random(&s->side) % 2 ? 1 : s->taken;
    bool any = false;
    while (s->confirmed < s->taken) {
        uint64_t last = s->confirmed + step > s->taken ? s->taken : s->confirmed + step;
        struct pawl_reply reply = {.type = PAWL_REPLY_CONFIRM, .first = s->confirmed + 1, .last = last};
        int error = pawl_client_port_reply(&port, &reply);
        if (error == PAWL_E_QUEUE_FULL)
            break;
        if (error < 0)
            fail("a reply was refused", (uint64_t)-error);
        s->confirmed = last;
        any = true;
    }
    return any;
}

static bool scheduler_has_work(void *context)
{
    const struct scheduler *s = context;
    return (!s->pending && pawl_client_port_waiting(&port)) ||
           atomic_load_explicit(&port.lane->settle_produced, memory_order_relaxed) != port.settle_position ||
           pawl_client_port_has_room(&port);
}

static void run_scheduler(struct scheduler *s)
{
    while (s->settled < total || s->confirmed < total) {
        bool any = take_submissions(s);
        bool settled = take_settlements(s);
        any |= settled;
        any |= confirm(s);
        if (settled)
            pawl_client_port_settled(&port, s->settle_entries);
        bool ring = pawl_client_port_release(&port) | pawl_client_port_publish(&port) | settled;
        if (ring)
            pawl_doorbell_ring(&port.lane->sleeping, client_bell);
        if (!any && (s->settled < total || s->confirmed < total))
            sleep_on(&s->side, &port.inbound->sleeping, scheduler_bell, scheduler_has_work, s);
    }
}

int main(int argc, char **argv)
{
    static struct client client;
    static struct scheduler scheduler;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    total = argc > 1 ? strtoull(argv[1], NULL, 10) : 200000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)ts.tv_nsec | 1;
    client.side.random = seed;
    scheduler.side.random = seed * 7 + 1;
    printf("seed %" PRIu64 "\n", seed);
    alarm(300);
    if (pawl_client_port_create(RING, RING, &port) < 0)
        fail("cannot make a lane", 0);
    scheduler_bell = pawl_doorbell_open();
    client_bell = pawl_doorbell_open();
    /* One mapping for both sides: the sanitizer sees one address for one word. */
    end = (struct pawl_client_end){
        .lane = port.lane, .inbound = port.inbound, .submit_bytes = RING, .inbound_bytes = RING};
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_client, &client) != 0)
        fail("cannot start a thread", 0);
    run_scheduler(&scheduler);
    pthread_join(thread, NULL);
    if (client.sent != total || client.delivered != total || scheduler.begun > total)
        fail("not all of them came back", client.delivered);
    printf("events %" PRIu64 ", settle entries %" PRIu64 ", submit laps %" PRIu64 ", sleeps %" PRIu64
           " and %" PRIu64 "\n",
           total, client.settle_entries, port.submit_position / RING, client.side.sleeps,
           scheduler.side.sleeps);
    pawl_client_port_destroy(&port);
    return 0;
}
