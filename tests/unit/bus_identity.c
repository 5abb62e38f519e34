/*
 * bus_identity - a receipt names one delivery for ever, also where a queue or a group gives the same seqs
 * anew.
 */
#include "tests/unit/bus_support.h"

static struct memory m;

static void set_up(void)
{
    memory_init(&m);
}

static void tear_down(void)
{
    memory_fini(&m);
}

TestSuite(bus_identity, .init = set_up, .fini = tear_down, .timeout = 300);

static struct pawl_bus_taken take_one(const char *queue, const char *group)
{
    struct pawl_bus_taken taken = {0};
    cr_assert(eq(int, memory_take(&m, queue, group, 1, &taken), 1));
    memory_turn(&m);
    return taken;
}

static int ack(const char *queue, const char *group, const struct pawl_bus_taken *taken)
{
    return memory_settle_taken(&m, queue, group, taken, PAWL_SETTLE_OP_ACK, 0);
}

static void do_it(const char *request)
{
    json_t *reply = memory_request(&m, 0, "%s", request);
    cr_assert(ne(ptr, (void *)reply, NULL), "%s: %s", request, m.why);
    json_decref(reply);
    memory_turn(&m);
}

static void a_stream_with_an_event(void)
{
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true");
    do_it("{'op': 'group.create', 'queue': 's', 'group': 'g'}");
    memory_say(&m, memory_open(&m, 0), "t", "one");
    memory_turn(&m);
}

Test(bus_identity, a_receipt_from_before_a_seek_is_stale)
{
    a_stream_with_an_event();
    struct pawl_bus_taken old = take_one("s", "g");
    do_it("{'op': 'group.seek', 'queue': 's', 'group': 'g', 'to': 'earliest'}");
    struct pawl_bus_taken new = take_one("s", "g");
    cr_expect(eq(u64, new.entry.seq, old.entry.seq));
    cr_expect(eq(int, ack("s", "g", &old), PAWL_E_STALE_RECEIPT));
    expect_number(&m, "s", "g/in_flight", 1);
    cr_expect(eq(int, ack("s", "g", &new), 0));
    memory_turn(&m);
    expect_number(&m, "s", "g/lag", 0);
}

Test(bus_identity, a_receipt_from_before_a_seek_is_stale_after_a_restart_too)
{
    a_stream_with_an_event();
    struct pawl_bus_taken old = take_one("s", "g");
    do_it("{'op': 'group.seek', 'queue': 's', 'group': 'g', 'to': 'earliest'}");
    struct pawl_bus_taken new = take_one("s", "g");
    memory_restart(&m, m.record_count);
    cr_expect(eq(int, ack("s", "g", &old), PAWL_E_STALE_RECEIPT));
    memory_snapshot(&m);
    memory_restart(&m, m.record_count);
    cr_expect(eq(int, ack("s", "g", &old), PAWL_E_STALE_RECEIPT));
    cr_expect(eq(int, ack("s", "g", &new), 0));
    memory_turn(&m);
    expect_number(&m, "s", "g/lag", 0);
}

Test(bus_identity, a_receipt_of_a_lane_from_before_a_seek_settles_nothing_by_its_tag)
{
    a_stream_with_an_event();
    struct memory_client *client = memory_open(&m, 0);
    cr_assert(eq(int, memory_consume(&m, client, 1, "s", "g", 10, 0), 0));
    memory_turn(&m);
    struct pawl_bus_taken old = {.entry = client->deliveries[0].entry};
    do_it("{'op': 'group.seek', 'queue': 's', 'group': 'g', 'to': 'earliest'}");
    cr_assert(eq(sz, client->delivery_count, 2));
    struct pawl_bus_taken new = {.entry = client->deliveries[1].entry};
    cr_expect(eq(int, ack("s", "g", &old), PAWL_E_STALE_RECEIPT));
    cr_expect(eq(int, ack("s", "g", &new), 0));
}

Test(bus_identity, a_receipt_of_a_deleted_group_is_stale_for_another_of_its_name)
{
    a_stream_with_an_event();
    struct pawl_bus_taken old = take_one("s", "g");
    do_it("{'op': 'group.delete', 'queue': 's', 'group': 'g'}");
    do_it("{'op': 'group.create', 'queue': 's', 'group': 'g'}");
    struct pawl_bus_taken new = take_one("s", "g");
    cr_expect(eq(int, ack("s", "g", &old), PAWL_E_STALE_RECEIPT));
    cr_expect(eq(int, ack("s", "g", &new), 0));
}

Test(bus_identity, a_receipt_of_a_deleted_queue_is_stale_for_another_of_its_name)
{
    struct pawl_bus_taken taken[2];
    for (int i = 0; i < 2; i++) {
        memory_declare(&m, "q", "'topics': ['t']");
        memory_say(&m, memory_open(&m, 0), "t", "one");
        memory_turn(&m);
        taken[i] = take_one("q", "");
        if (i == 0)
            do_it("{'op': 'queue.delete', 'name': 'q'}");
    }
    cr_expect(eq(u64, taken[0].entry.seq, taken[1].entry.seq));
    cr_expect(eq(int, ack("q", "", &taken[0]), PAWL_E_STALE_RECEIPT));
    cr_expect(eq(int, ack("q", "", &taken[1]), 0));
}

Test(bus_identity, each_look_at_a_seq_that_is_given_anew_names_what_would_be_given)
{
    a_stream_with_an_event();
    struct pawl_bus_taken old = take_one("s", "g");
    do_it("{'op': 'group.seek', 'queue': 's', 'group': 'g', 'to': 'earliest'}");
    struct pawl_bus_taken seen[2];
    struct pawl_wire_take look = {.queue = "s", .group = "g"};
    uint64_t next;
    bool end;
    cr_assert(eq(int, pawl_bus_peek(m.bus, &look, seen, 2, &next, &end, m.why), 1));
    cr_expect(ne(u64, seen[0].entry.epoch, old.entry.epoch));
}

Test(bus_identity, a_temporary_queue_that_went_with_its_scheduler_leaves_epochs_as_they_are)
{
    struct memory_client *owner = memory_open(&m, 0);
    json_t *reply = memory_request(
        &m, owner->number,
        "{'op': 'queue.declare', 'name': 'tmp', 'config': {'topics': ['x'], 'temporary': true}}");
    cr_assert(ne(ptr, (void *)reply, NULL), "%s", m.why);
    json_decref(reply);
    memory_turn(&m);
    memory_restart(&m, m.record_count);
    a_stream_with_an_event();
    cr_expect(eq(u64, take_one("s", "g").entry.epoch, m.epoch));
}

static const char *tag_of(const struct pawl_inbound_entry *entry, char text[64])
{
    snprintf(text, 64, "%u:%llu:%u:%llx", entry->queue, (unsigned long long)entry->seq, entry->attempt,
             (unsigned long long)entry->epoch);
    return text;
}

/* An epoch that a crash takes back is the next scheduler's, too. */
Test(bus_identity, nothing_is_delivered_before_the_epoch_is_on_disk)
{
    char first[64], again[64];
    memory_declare(&m, "q", "'topics': ['t']");
    memory_say(&m, memory_open(&m, 0), "t", "one");
    memory_turn(&m);
    uint64_t upto = m.record_count;
    memory_restart(&m, upto);
    struct memory_client *client = memory_open(&m, 0);
    cr_assert(eq(int, memory_consume(&m, client, 1, "q", "", 10, 0), 0));
    memory_flush(&m);
    struct pawl_bus_taken taken;
    cr_expect(eq(int, memory_take(&m, "q", "", 1, &taken), 0));
    cr_assert(eq(sz, client->delivery_count, 0));

    memory_restart(&m, upto); /* the disk never had it */
    client = memory_open(&m, 0);
    cr_assert(eq(int, memory_consume(&m, client, 1, "q", "", 10, 0), 0));
    memory_sync(&m);
    memory_flush(&m);
    cr_assert(eq(sz, client->delivery_count, 1));
    tag_of(&client->deliveries[0].entry, first);

    memory_restart(&m, m.durable);
    client = memory_open(&m, 0);
    cr_assert(eq(int, memory_consume(&m, client, 1, "q", "", 10, 0), 0));
    memory_turn(&m);
    cr_assert(eq(sz, client->delivery_count, 1));
    cr_expect(ne(str, (char *)first, (char *)tag_of(&client->deliveries[0].entry, again)));
}
