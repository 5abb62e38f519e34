/* Rules of the two segments between the scheduler and a client: both ends, and what a lying client meets. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/client_lane.h"
#include "shm/error.h"

enum { RING = PAWL_CLIENT_RING_BYTES_MIN, COPY = 4096 };

static struct pawl_client_port port;
static struct pawl_client_end end;
static _Alignas(8) unsigned char copy[COPY];
static _Alignas(8) unsigned char event_space[RING];

static void make_lane(void)
{
    cr_assert(eq(int, pawl_client_port_create(RING, RING, &port), 0));
    cr_assert(
        eq(int, pawl_client_end_attach(dup(port.lane_segment.fd), dup(port.inbound_segment.fd), &end), 0));
}

static void drop_lane(void)
{
    pawl_client_end_detach(&end);
    pawl_client_port_destroy(&port);
}

TestSuite(client_lane, .init = make_lane, .fini = drop_lane, .timeout = 300);

/* A settlement as a submit entry, with text up to @bytes altogether; the sequence tells them apart. */
static bool submit(uint64_t sequence, size_t bytes)
{
    struct pawl_submit *entry = pawl_client_end_reserve(&end, bytes);
    if (!entry)
        return false;
    *entry = (struct pawl_submit){.bytes = (uint32_t)bytes, .type = PAWL_SUBMIT_SETTLE, .sequence = sequence};
    memset(entry + 1, (int)(sequence & 0xff), bytes - sizeof *entry);
    return true;
}

static uint64_t take_submission(void)
{
    struct pawl_submit *entry = (struct pawl_submit *)copy;
    cr_assert(eq(int, pawl_client_port_submission(&port, copy, COPY), 1));
    for (size_t i = sizeof *entry; i < entry->bytes; i++)
        cr_assert(eq(int, copy[i], (int)(entry->sequence & 0xff)));
    return entry->sequence;
}

/* ---- submissions ---- */

Test(client_lane, submissions_arrive_whole_and_in_order_once_published)
{
    cr_assert(submit(1, 64));
    cr_assert(submit(2, 16));
    cr_assert(submit(3, 1024));
    cr_expect(not(pawl_client_port_waiting(&port)));
    cr_expect(eq(int, pawl_client_port_submission(&port, copy, COPY), 0), "not published yet");
    pawl_client_end_submit_publish(&end);
    cr_expect(pawl_client_port_waiting(&port));
    for (uint64_t i = 1; i <= 3; i++)
        cr_expect(eq(u64, take_submission(), i));
    cr_expect(eq(int, pawl_client_port_submission(&port, copy, COPY), 0));
    cr_expect(not(pawl_client_port_waiting(&port)));
}

Test(client_lane, submissions_run_around_the_ring_many_times)
{
    unsigned seed = 1;
    uint64_t sent = 0, taken = 0;
    while (taken < 20000) {
        for (int n = rand_r(&seed) % 40; n > 0 && submit(sent + 1, 16 + 8 * (size_t)(rand_r(&seed) % 500));
             n--)
            sent++;
        pawl_client_end_submit_publish(&end);
        for (int n = rand_r(&seed) % 50; n > 0 && taken < sent; n--)
            cr_assert(eq(u64, take_submission(), ++taken));
        pawl_client_port_release(&port);
    }
    cr_expect(not(le(u64, port.submit_position, 20 * (uint64_t)RING)));
}

Test(client_lane, a_full_submit_ring_has_no_room_until_entries_are_released)
{
    uint64_t n = 0;
    while (submit(n + 1, COPY))
        n++;
    cr_expect(eq(u64, n, RING / COPY), "all of the ring is usable");
    cr_expect(not(pawl_client_end_has_room(&end)));
    pawl_client_end_submit_publish(&end);
    take_submission();
    cr_expect(not(submit(n + 1, 16)), "taken, but not released");
    cr_expect(pawl_client_port_release(&port));
    cr_expect(not(pawl_client_port_release(&port)), "nothing new");
    cr_expect(pawl_client_end_has_room(&end));
    cr_expect(submit(n + 1, COPY));
    cr_expect(not(submit(n + 2, 16)));
}

Test(client_lane, an_entry_of_half_a_ring_fits_wherever_an_empty_ring_stands)
{
    void *large = malloc(RING / 2);
    cr_expect(eq(ptr, pawl_client_end_reserve(&end, RING / 2 + 8), NULL), "though a new ring has the room");
    for (size_t step = 16; step < RING; step += 16 * 777) {
        cr_assert(submit(1, step < COPY ? step : COPY));
        pawl_client_end_submit_publish(&end);
        take_submission();
        pawl_client_port_release(&port);
        cr_assert(submit(2, RING / 2));
        pawl_client_end_submit_publish(&end);
        cr_assert(eq(int, pawl_client_port_submission(&port, large, RING / 2), 1));
        pawl_client_port_release(&port);
    }
    cr_expect(eq(ptr, pawl_client_end_reserve(&end, RING / 2 + 8), NULL), "more than half never fits");
    free(large);
}

Test(client_lane, eight_bytes_at_the_rings_end_are_padded)
{
    for (size_t at = 0; at < RING - 8;) {
        size_t bytes = RING - 8 - at < COPY ? RING - 8 - at : COPY;
        cr_assert(submit(1, bytes));
        at += bytes;
    }
    pawl_client_end_submit_publish(&end);
    while (port.submit_position < RING - 8)
        take_submission();
    pawl_client_port_release(&port);
    cr_assert(submit(2, 16));
    cr_expect(eq(u64, end.submit_position, RING + 16));
    pawl_client_end_submit_publish(&end);
    cr_expect(eq(u64, take_submission(), 2));
}

Test(client_lane, a_quiet_lane_stays_on_its_first_pages)
{
    for (uint64_t i = 1; i <= 20000; i++) {
        cr_assert(submit(i, 160));
        pawl_client_end_submit_publish(&end);
        cr_assert(eq(u64, take_submission(), i));
        pawl_client_port_release(&port);
        cr_assert(lt(u64, end.submit_position % RING, PAWL_CLIENT_QUIET_BYTES + 320));
    }
}

Test(client_lane, what_was_unreserved_was_never_there)
{
    cr_assert(submit(1, 64));
    uint64_t before = end.submit_position;
    cr_assert(submit(2, 64));
    cr_assert(submit(3, 64));
    pawl_client_end_unreserve(&end, before);
    cr_assert(submit(4, 64));
    pawl_client_end_submit_publish(&end);
    cr_expect(eq(u64, take_submission(), 1));
    cr_expect(eq(u64, take_submission(), 4));
    cr_expect(eq(int, pawl_client_port_submission(&port, copy, COPY), 0));
}

Test(client_lane, an_entry_longer_than_the_copy_is_stepped_over_with_its_header)
{
    cr_assert(submit(7, COPY + 8));
    cr_assert(submit(8, 64));
    pawl_client_end_submit_publish(&end);
    memset(copy, 0xee, COPY);
    cr_expect(eq(int, pawl_client_port_submission(&port, copy, COPY), PAWL_E_LIMIT));
    cr_expect(eq(u64, ((struct pawl_submit *)copy)->sequence, 7));
    cr_expect(eq(u32, ((struct pawl_submit *)copy)->bytes, COPY + 8));
    cr_expect(eq(int, copy[sizeof(struct pawl_submit)], 0xee), "nothing more was copied");
    cr_expect(eq(u64, take_submission(), 8));
}

/* ---- submissions of a liar ---- */

static void claim_produced(uint64_t produced)
{
    atomic_store(&end.lane->submit_produced, produced);
}

static void bad_submission(const char *what)
{
    uint64_t before = port.submit_position;
    cr_expect(eq(int, pawl_client_port_submission(&port, copy, COPY), PAWL_E_BAD_MESSAGE), "%s", what);
    cr_expect(eq(u64, port.submit_position, before), "%s", what);
}

Test(client_lane, a_submit_position_that_does_not_hold_is_a_bad_message)
{
    claim_produced(RING + 8);
    bad_submission("beyond the ring");
    claim_produced(12);
    bad_submission("not aligned");
    claim_produced(UINT64_MAX - 7);
    bad_submission("before the beginning");
    claim_produced(0);
    cr_assert(submit(1, 64));
    cr_assert(submit(2, 64));
    pawl_client_end_submit_publish(&end);
    take_submission();
    take_submission();
    claim_produced(64);
    bad_submission("it went back");
    claim_produced(RING + 8);
    bad_submission("beyond what was given back");
    pawl_client_port_release(&port);
    claim_produced(128);
    cr_expect(eq(int, pawl_client_port_submission(&port, copy, COPY), 0));
}

Test(client_lane, a_hostile_entry_is_a_bad_message)
{
    static const struct {
        const char *what;
        struct pawl_submit entry;
    } cases[] = {
        {"size 0", {.bytes = 0, .type = PAWL_SUBMIT_EVENT}},
        {"size 8", {.bytes = 8, .type = PAWL_SUBMIT_EVENT}},
        {"size not aligned", {.bytes = 20, .type = PAWL_SUBMIT_EVENT}},
        {"size beyond what is published", {.bytes = 72, .type = PAWL_SUBMIT_EVENT}},
        {"size near 4 GiB", {.bytes = UINT32_MAX - 7, .type = PAWL_SUBMIT_EVENT}},
        {"pad of 0", {.bytes = 0, .type = PAWL_SUBMIT_PAD}},
        {"pad that does not reach the end", {.bytes = 64, .type = PAWL_SUBMIT_PAD}},
        {"pad beyond what is published", {.bytes = RING, .type = PAWL_SUBMIT_PAD}},
        {"type 0", {.bytes = 64}},
        {"unknown type", {.bytes = 64, .type = 4}},
        {"unknown flag", {.bytes = 64, .type = PAWL_SUBMIT_EVENT, .flags = 8}},
        {"unknown durability", {.bytes = 64, .type = PAWL_SUBMIT_EVENT, .durability = 4}},
        {"unknown guarantee", {.bytes = 64, .type = PAWL_SUBMIT_EVENT, .guarantee = 3}},
    };
    struct pawl_submit *entry = pawl_client_end_reserve(&end, 64);
    pawl_client_end_submit_publish(&end);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        *entry = cases[i].entry;
        bad_submission(cases[i].what);
    }
    *entry = (struct pawl_submit){.bytes = 64, .type = PAWL_SUBMIT_EVENT, .flags = 7, .durability = 3};
    cr_expect(eq(int, pawl_client_port_submission(&port, copy, COPY), 1));
}

Test(client_lane, an_entry_that_would_wrap_is_a_bad_message)
{
    for (uint64_t i = 0; i < RING / COPY; i++)
        cr_assert(submit(1, COPY));
    pawl_client_end_submit_publish(&end);
    while (port.submit_position < RING - COPY)
        take_submission();
    pawl_client_port_release(&port);
    claim_produced(2 * (uint64_t)RING - COPY);
    struct pawl_submit *last = (void *)((char *)end.lane + PAWL_CLIENT_SUBMIT_AT + RING - COPY);
    last->bytes = COPY + 8;
    bad_submission("over the ring's end");
}

/* ---- settlements ---- */

static struct pawl_settle ack_of(uint64_t first, uint64_t last)
{
    return (struct pawl_settle){.first = first, .last = last, .op = PAWL_SETTLE_OP_ACK};
}

Test(client_lane, settlements_arrive_in_order_and_all_entries_are_usable)
{
    struct pawl_settle settle;
    for (uint64_t round = 0; round < 5; round++) {
        for (uint64_t i = 0; i < PAWL_SETTLE_ENTRIES; i++) {
            settle = ack_of(i, i + round);
            cr_assert(eq(int, pawl_client_end_settle(&end, &settle), 0));
        }
        cr_expect(eq(int, pawl_client_end_settle(&end, &settle), PAWL_E_QUEUE_FULL));
        cr_expect(eq(int, pawl_client_port_settlement(&port, &settle), 0), "not published yet");
        pawl_client_end_settle_publish(&end);
        cr_expect(pawl_client_port_waiting(&port));
        for (uint64_t i = 0; i < PAWL_SETTLE_ENTRIES; i++) {
            cr_assert(eq(int, pawl_client_port_settlement(&port, &settle), 1));
            cr_assert(eq(u64, settle.first, i));
            cr_assert(eq(u64, settle.last, i + round));
        }
        cr_expect(eq(int, pawl_client_port_settlement(&port, &settle), 0));
        cr_expect(eq(int, pawl_client_end_settle(&end, &settle), PAWL_E_QUEUE_FULL), "not released yet");
        cr_expect(not(pawl_client_end_has_room(&end)));
        cr_expect(pawl_client_port_release(&port));
        cr_expect(pawl_client_end_has_room(&end));
    }
    cr_expect(eq(u64, port.settle_position, 5 * PAWL_SETTLE_ENTRIES));
    pawl_client_port_settled(&port, 4000);
    cr_expect(eq(u64, pawl_client_end_settled_durable(&end), 4000));
    cr_expect(eq(u64, pawl_client_end_submit_durable(&end), 0));
    pawl_client_port_submit_settled(&port, 8192);
    cr_expect(eq(u64, pawl_client_end_submit_durable(&end), 8192));
}

Test(client_lane, a_settle_position_that_does_not_hold_is_a_bad_message)
{
    struct pawl_settle settle = ack_of(1, 1);
    atomic_store(&end.lane->settle_produced, PAWL_SETTLE_ENTRIES + 1);
    cr_expect(eq(int, pawl_client_port_settlement(&port, &settle), PAWL_E_BAD_MESSAGE));
    atomic_store(&end.lane->settle_produced, UINT64_MAX);
    cr_expect(eq(int, pawl_client_port_settlement(&port, &settle), PAWL_E_BAD_MESSAGE));
    atomic_store(&end.lane->settle_produced, 0);
    settle = ack_of(1, 1);
    pawl_client_end_settle(&end, &settle);
    pawl_client_end_settle_publish(&end);
    cr_assert(eq(int, pawl_client_port_settlement(&port, &settle), 1));
    atomic_store(&end.lane->settle_produced, PAWL_SETTLE_ENTRIES + 1);
    cr_expect(eq(int, pawl_client_port_settlement(&port, &settle), PAWL_E_BAD_MESSAGE),
              "nothing was released");
    atomic_store(&end.lane->settle_produced, 0);
    cr_expect(eq(int, pawl_client_port_settlement(&port, &settle), PAWL_E_BAD_MESSAGE), "it went back");
}

#define settle_bad(...)                                                                                      \
    do {                                                                                                     \
        struct pawl_settle settle_ = {.op = PAWL_SETTLE_OP_NACK, __VA_ARGS__};                               \
        cr_expect(eq(int, pawl_settle_check(&settle_, 8), PAWL_E_BAD_MESSAGE), #__VA_ARGS__);                \
    } while (0)
#define settle_good(...)                                                                                     \
    do {                                                                                                     \
        struct pawl_settle settle_ = {.op = PAWL_SETTLE_OP_NACK, __VA_ARGS__};                               \
        cr_expect(eq(int, pawl_settle_check(&settle_, 8), 0), #__VA_ARGS__);                                 \
    } while (0)

Test(client_lane, a_hostile_settlement_is_a_bad_message)
{
    settle_good(.first = 0, .last = 0);
    settle_good(.first = UINT64_MAX, .last = UINT64_MAX, .value = PAWL_SETTLE_POLICY);
    settle_good(.cause = PAWL_CAUSE_EXIT | 255 << 8);
    settle_good(.flags = PAWL_SETTLE_SPARE_BREAKER);
    settle_good(.text_bytes = 8);
    settle_bad(.first = 2, .last = 1);
    settle_bad(.flags = 2);
    settle_bad(.cause = PAWL_CAUSES);
    settle_bad(.cause = PAWL_CAUSE_NACK | 1 << 8);
    settle_bad(.text_bytes = 9);
    struct pawl_settle settle = {.op = 0};
    cr_expect(eq(int, pawl_settle_check(&settle, 0), PAWL_E_BAD_MESSAGE));
    settle.op = PAWL_SETTLE_OP_RELEASE + 1;
    cr_expect(eq(int, pawl_settle_check(&settle, 0), PAWL_E_BAD_MESSAGE));
    pawl_client_end_settle(&end, &settle);
    pawl_client_end_settle_publish(&end);
    cr_expect(eq(int, pawl_client_port_settlement(&port, &settle), PAWL_E_BAD_MESSAGE));
    cr_expect(eq(u64, port.settle_position, 0));
}

/* ---- begun ---- */

Test(client_lane, begun_holds_between_what_it_was_and_what_was_delivered)
{
    uint64_t begun = 77;
    cr_expect(eq(int, pawl_client_port_begun(&port, 0, 0, &begun), 0));
    cr_expect(eq(u64, begun, 0));
    pawl_client_end_begun(&end, 5);
    cr_expect(eq(int, pawl_client_port_begun(&port, 0, 5, &begun), 0));
    cr_expect(eq(u64, begun, 5));
    cr_expect(eq(int, pawl_client_port_begun(&port, 0, 4, &begun), PAWL_E_BAD_MESSAGE), "beyond");
    cr_expect(eq(int, pawl_client_port_begun(&port, 6, 9, &begun), PAWL_E_BAD_MESSAGE), "back");
}

/* ---- replies ---- */

Test(client_lane, replies_arrive_in_order_and_are_given_back_one_by_one)
{
    struct pawl_reply reply = {.type = PAWL_REPLY_CONFIRM};
    for (uint64_t round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < PAWL_REPLY_ENTRIES; i++) {
            reply.first = i;
            cr_assert(eq(int, pawl_client_port_reply(&port, &reply), 0));
        }
        cr_expect(eq(int, pawl_client_port_reply(&port, &reply), PAWL_E_QUEUE_FULL));
        cr_expect(eq(int, pawl_client_end_reply(&end, &reply), 0), "not published yet");
        cr_expect(pawl_client_port_publish(&port));
        cr_expect(not(pawl_client_port_publish(&port)), "nothing new");
        cr_expect(pawl_client_end_waiting(&end));
        cr_expect(not(pawl_client_port_has_room(&port)));
        for (uint64_t i = 0; i < PAWL_REPLY_ENTRIES; i++) {
            cr_assert(eq(int, pawl_client_end_reply(&end, &reply), 1));
            cr_assert(eq(u64, reply.first, i));
            cr_assert(pawl_client_port_has_room(&port));
        }
        cr_expect(eq(int, pawl_client_end_reply(&end, &reply), 0));
        cr_expect(not(pawl_client_end_waiting(&end)));
    }
}

Test(client_lane, a_reply_position_that_does_not_hold_is_a_bad_message)
{
    struct pawl_reply reply = {.type = PAWL_REPLY_CONFIRM};
    for (uint64_t i = 0; i < PAWL_REPLY_ENTRIES; i++)
        cr_assert(eq(int, pawl_client_port_reply(&port, &reply), 0));
    atomic_store(&end.lane->reply_consumed, 1);
    cr_expect(eq(int, pawl_client_port_reply(&port, &reply), PAWL_E_BAD_MESSAGE), "nothing was published");
    pawl_client_port_publish(&port);
    cr_expect(eq(int, pawl_client_port_reply(&port, &reply), 0));
    atomic_store(&end.lane->reply_consumed, PAWL_REPLY_ENTRIES + 1);
    cr_expect(eq(int, pawl_client_port_reply(&port, &reply), PAWL_E_BAD_MESSAGE), "beyond");
    atomic_store(&end.lane->reply_consumed, 0);
    cr_expect(eq(int, pawl_client_port_reply(&port, &reply), PAWL_E_BAD_MESSAGE), "back");
}

/* ---- deliveries ---- */

static const struct pawl_event *event_of(uint64_t number, size_t data_bytes)
{
    struct pawl_event_parts parts = {.topic = "a.b", .topic_bytes = 3, .data_bytes = data_bytes};
    cr_assert(lt(sz, pawl_event_bytes(&parts), sizeof event_space));
    memset(pawl_event_pack(&parts, event_space), (int)(number & 0xff), data_bytes);
    return (struct pawl_event *)event_space;
}

static int deliver(uint64_t number, size_t data_bytes)
{
    struct pawl_inbound_entry entry = {.number = number, .attempt = 1};
    return pawl_client_port_deliver(&port, &entry, event_of(number, data_bytes));
}

static uint64_t take_delivery(uint64_t expected)
{
    const struct pawl_inbound_entry *entry;
    const struct pawl_event *event;
    uint64_t position = 0;
    cr_assert(eq(int, pawl_client_end_delivery(&end, &entry, &event, &position), 1));
    cr_assert(eq(u64, entry->number, expected));
    cr_assert(eq(u32, entry->attempt, 1));
    cr_assert(eq(int, pawl_event_check(event, entry->bytes - sizeof *entry), 0));
    const unsigned char *data = pawl_event_data(event);
    for (size_t i = 0; i < event->data_bytes; i++)
        cr_assert(eq(int, data[i], (int)(expected & 0xff)));
    return position;
}

static int no_delivery(void)
{
    const struct pawl_inbound_entry *entry;
    const struct pawl_event *event;
    uint64_t position;
    return pawl_client_end_delivery(&end, &entry, &event, &position);
}

Test(client_lane, deliveries_are_read_in_place_once_published)
{
    cr_assert(eq(int, deliver(0, 100), 0));
    cr_assert(eq(int, deliver(1, 0), 0));
    cr_expect(eq(int, no_delivery(), 0), "not published yet");
    cr_expect(not(pawl_client_end_waiting(&end)));
    cr_expect(pawl_client_port_publish(&port));
    cr_expect(pawl_client_end_waiting(&end));
    take_delivery(0);
    take_delivery(1);
    cr_expect(eq(int, no_delivery(), 0));
}

Test(client_lane, deliveries_run_around_the_ring_many_times)
{
    unsigned seed = 2;
    uint64_t sent = 0, taken = 0, position = 0;
    while (taken < 20000) {
        for (int n = rand_r(&seed) % 40; n > 0; n--) {
            int error = deliver(sent, (size_t)(rand_r(&seed) % 4000));
            if (error == PAWL_E_QUEUE_FULL)
                break;
            cr_assert(eq(int, error, 0));
            sent++;
        }
        pawl_client_port_publish(&port);
        for (int n = rand_r(&seed) % 50; n > 0 && taken < sent; n--)
            position = take_delivery(taken++);
        if (rand_r(&seed) % 3)
            pawl_client_end_consumed(&end, position);
    }
    cr_expect(not(le(u64, port.inbound_position, 20 * (uint64_t)RING)));
}

Test(client_lane, a_full_inbound_ring_refuses_until_deliveries_are_consumed)
{
    uint64_t n = 0, position;
    while (deliver(n, 4000) == 0)
        n++;
    cr_expect(not(le(u64, n, RING / 4300)));
    pawl_client_port_publish(&port);
    position = take_delivery(0);
    take_delivery(1);
    cr_expect(eq(int, deliver(n, 4000), PAWL_E_QUEUE_FULL), "looked at, but not given back");
    cr_expect(not(pawl_client_port_has_room(&port)));
    pawl_client_end_consumed(&end, position);
    cr_expect(pawl_client_port_has_room(&port));
    cr_expect(eq(int, deliver(n, 3000), 0));
}

Test(client_lane, a_delivery_of_half_a_ring_fits_and_a_larger_one_never)
{
    size_t most = RING / 2 - sizeof(struct pawl_inbound_entry) - sizeof(struct pawl_event) - 8;
    for (uint64_t n = 0; n < 40; n += 2) {
        cr_assert(eq(int, deliver(n, n * 500), 0));
        pawl_client_port_publish(&port);
        pawl_client_end_consumed(&end, take_delivery(n));
        cr_assert(eq(int, deliver(n + 1, most), 0));
        pawl_client_port_publish(&port);
        pawl_client_end_consumed(&end, take_delivery(n + 1));
    }
    cr_expect(eq(int, deliver(40, most + 8), PAWL_E_LIMIT));
}

Test(client_lane, a_quiet_inbound_ring_stays_on_its_first_pages)
{
    for (uint64_t i = 0; i < 20000; i++) {
        cr_assert(eq(int, deliver(i, 100), 0));
        pawl_client_port_publish(&port);
        pawl_client_end_consumed(&end, take_delivery(i));
        cr_assert(lt(u64, port.inbound_position % RING, PAWL_CLIENT_QUIET_BYTES + 1024));
    }
}

Test(client_lane, an_inbound_position_that_does_not_hold_is_a_bad_message)
{
    uint64_t n = 0;
    while (deliver(n, 4000) == 0)
        n++;
    atomic_store(&end.lane->inbound_consumed, 8);
    cr_expect(eq(int, deliver(n, 4000), PAWL_E_BAD_MESSAGE), "nothing was published");
    pawl_client_port_publish(&port);
    atomic_store(&end.lane->inbound_consumed, port.inbound_position + 8);
    cr_expect(eq(int, deliver(n, 4000), PAWL_E_BAD_MESSAGE), "beyond");
    atomic_store(&end.lane->inbound_consumed, 4096);
    cr_expect(eq(int, deliver(n, 4000), PAWL_E_QUEUE_FULL));
    atomic_store(&end.lane->inbound_consumed, 0);
    cr_expect(eq(int, deliver(n, 4000), PAWL_E_BAD_MESSAGE), "back");
}

Test(client_lane, a_damaged_inbound_entry_never_leads_out_of_the_ring)
{
    cr_assert(eq(int, deliver(0, 100), 0));
    pawl_client_port_publish(&port);
    struct pawl_inbound_entry *entry = (void *)((char *)port.inbound + PAWL_CLIENT_INBOUND_AT);
    struct pawl_inbound_entry good = *entry;
    static const uint32_t sizes[] = {0, 8, 64, 68, RING, UINT32_MAX - 7};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        entry->bytes = sizes[i];
        cr_expect(eq(int, no_delivery(), PAWL_E_BAD_MESSAGE), "size %u", sizes[i]);
    }
    *entry = good;
    entry->type = 3;
    cr_expect(eq(int, no_delivery(), PAWL_E_BAD_MESSAGE));
    *entry = good;
    ((struct pawl_event *)(entry + 1))->bytes += 8;
    cr_expect(eq(int, no_delivery(), PAWL_E_BAD_MESSAGE));
    ((struct pawl_event *)(entry + 1))->bytes -= 8;
    take_delivery(0);
    atomic_store(&port.inbound->inbound_produced, RING * 2);
    cr_expect(eq(int, no_delivery(), PAWL_E_BAD_MESSAGE));
}

/* ---- segments ---- */

Test(client_lane, sizes_that_are_no_power_of_two_or_out_of_bounds_are_refused)
{
    struct pawl_client_port other;
    cr_expect(eq(int, pawl_client_port_create(RING / 2, RING, &other), -EINVAL));
    cr_expect(eq(int, pawl_client_port_create(RING, RING + 4096, &other), -EINVAL));
    cr_expect(eq(int, pawl_client_port_create(2u * PAWL_CLIENT_RING_BYTES_MAX, RING, &other), -EINVAL));
    cr_assert(eq(int, pawl_client_port_create(PAWL_CLIENT_RING_BYTES_MAX, 2 * RING, &other), 0));
    pawl_client_port_destroy(&other);
}

Test(client_lane, the_client_cannot_write_the_inbound_segment)
{
    cr_expect(eq(ptr, mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, port.inbound_segment.fd, 0),
                 MAP_FAILED));
    cr_expect(lt(i64, pwrite(port.inbound_segment.fd, "x", 1, 0), 0));
}

Test(client_lane, attaching_again_goes_on_where_the_positions_stand)
{
    cr_assert(submit(1, 64));
    pawl_client_end_submit_publish(&end);
    take_submission();
    pawl_client_port_release(&port);
    cr_assert(eq(int, deliver(0, 100), 0));
    cr_assert(eq(int, deliver(1, 100), 0));
    pawl_client_port_publish(&port);
    pawl_client_end_consumed(&end, take_delivery(0));
    pawl_client_end_detach(&end);
    cr_assert(
        eq(int, pawl_client_end_attach(dup(port.lane_segment.fd), dup(port.inbound_segment.fd), &end), 0));
    take_delivery(1);
    cr_assert(submit(2, 64));
    pawl_client_end_submit_publish(&end);
    cr_expect(eq(u64, take_submission(), 2));
}

Test(client_lane, attach_refuses_what_is_no_lane_and_leaves_the_descriptors)
{
    struct pawl_client_end other;
    int lane_fd = port.lane_segment.fd, inbound_fd = port.inbound_segment.fd;
    cr_expect(eq(int, pawl_client_end_attach(inbound_fd, lane_fd, &other), -EPERM), "sealed against writing");
    int unsealed = memfd_create("unsealed", MFD_CLOEXEC);
    cr_assert(eq(int, ftruncate(unsealed, 8 << 20), 0));
    cr_expect(eq(int, pawl_client_end_attach(unsealed, inbound_fd, &other), PAWL_E_BAD_MESSAGE));
    cr_expect(eq(int, pawl_client_end_attach(lane_fd, unsealed, &other), PAWL_E_BAD_MESSAGE));
    end.lane->submit_bytes = RING * 4;
    cr_expect(eq(int, pawl_client_end_attach(lane_fd, inbound_fd, &other), PAWL_E_BAD_MESSAGE), "too small");
    end.lane->submit_bytes = RING;
    end.lane->version = 9;
    cr_expect(eq(int, pawl_client_end_attach(lane_fd, inbound_fd, &other), PAWL_E_BAD_FORMAT));
    end.lane->version = PAWL_CLIENT_LANE_VERSION;
    atomic_store(&end.lane->magic, 0);
    cr_expect(eq(int, pawl_client_end_attach(lane_fd, inbound_fd, &other), PAWL_E_BAD_FORMAT));
    cr_expect(ge(int, fcntl(lane_fd, F_GETFD), 0));
    cr_expect(ge(int, fcntl(inbound_fd, F_GETFD), 0));
    close(unsealed);
}
