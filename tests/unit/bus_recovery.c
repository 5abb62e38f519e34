/*
 * bus_recovery - what a restart makes of the log, with a snapshot and without.
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

TestSuite(bus_recovery, .init = set_up, .fini = tear_down, .timeout = 300);

Test(bus_recovery, a_temporary_queue_ends_with_its_client_or_with_the_scheduler)
{
    struct memory_client *client = memory_open(&m, 0);
    json_decref(memory_request(&m, client->number,
                               "{'op': 'queue.declare', 'name': 'tmp', 'config': {'topics': ['t'],"
                               "'temporary': true}}"));
    expect_number(&m, "tmp", "depth", 0);
    memory_close(&m, client);
    expect_number(&m, "tmp", "depth", -1);
    client = memory_open(&m, 0);
    json_decref(memory_request(&m, client->number,
                               "{'op': 'queue.declare', 'name': 'tmp', 'config': {'topics': ['t'],"
                               "'temporary': true}}"));
    memory_turn(&m);
    memory_restart(&m, m.record_count);
    expect_number(&m, "tmp", "depth", -1);
    cr_expect(eq(ptr,
                 memory_request(&m, 0,
                                "{'op': 'queue.declare', 'name': 'tmp', 'config': {'topics': ['t'],"
                                "'temporary': true}}"),
                 NULL));
    cr_expect(eq(int, m.error, PAWL_E_STATE));
}

Test(bus_recovery, events_that_were_in_memory_only_are_gone_after_a_restart_and_disturb_nothing)
{
    memory_declare(&m, "q", "'topics': ['t']");
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true");
    struct memory_client *client = consumer_of(&m, "q", 10);
    cr_assert(eq(int, memory_consume(&m, client, 2, "s", "g", 10, 0), 0));
    for (int i = 0; i < 6; i++)
        (void)memory_publish(&m, client,
                             &(struct memory_publish){.topic = "t",
                                                      .data = i % 2 ? "mem" : "disk",
                                                      .durability = i % 2 ? PAWL_DURABILITY_MEMORY : 0});
    memory_turn(&m);
    cr_assert(eq(sz, client->delivery_count, 12));
    memory_begin(&m, client);
    memory_turn(&m);
    for (uint64_t n = 0; n < 12; n++) /* every way to settle, of both kinds */
        cr_expect(eq(int,
                     memory_settle(&m, client,
                                   n % 3 == 0   ? PAWL_SETTLE_OP_RELEASE
                                   : n % 3 == 1 ? PAWL_SETTLE_OP_ACK
                                                : PAWL_SETTLE_OP_NACK,
                                   n, n, 0),
                     0));
    memory_turn(&m);
    struct pawl_bus_taken taken[8];
    int count = memory_take(&m, "q", "", 8, taken);
    for (int i = 0; i < count; i++)
        (void)memory_settle_taken(&m, "q", "", &taken[i], PAWL_SETTLE_OP_RELEASE, 0);
    json_decref(
        memory_request(&m, 0, "{'op': 'group.create', 'queue': 's', 'group': 'end', 'from': 'latest'}"));
    memory_turn(&m);
    memory_restart(&m, m.record_count); /* a record that names a lost seq is no damage */
    client = consumer_of(&m, "q", 10);
    cr_assert(eq(int, memory_consume(&m, client, 2, "s", "end", 10, 0), 0));
    (void)memory_say(&m, client, "t", "new");
    memory_pass(&m, 10 * SECOND);
    size_t news = 0, lost = 0;
    for (uint64_t n = 0; n < client->delivery_count; n++) {
        news += strcmp(memory_data(client, n), "new") == 0;
        lost += strcmp(memory_data(client, n), "mem") == 0;
    }
    cr_expect(eq(sz, news, 2));
    cr_expect(eq(sz, lost, 0));
}

/* A life with something of everything, all of it in the journal. */
static void live(void)
{
    memory_declare(&m, "q",
                   "'topics': ['t'], 'ordering_key': 'key', 'retry': {'limit': 2, 'backoff':"
                   "{'kind': 'fixed', 'initial_ns': 1000000000}}");
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true");
    memory_declare(&m, "small", "'topics': ['t'], 'max_depth': 4, 'overflow': 'drop_oldest'");
    struct memory_client *client = memory_open(&m, 5);
    cr_assert(eq(int, memory_consume(&m, client, 1, "q", "", 8, 0), 0));
    cr_assert(eq(int, memory_consume(&m, client, 2, "s", "g", 4, 0), 0));
    static const enum pawl_settle_op ops[] = {PAWL_SETTLE_OP_ACK, PAWL_SETTLE_OP_NACK, PAWL_SETTLE_OP_ACK,
                                              PAWL_SETTLE_OP_REJECT, PAWL_SETTLE_OP_RELEASE};
    uint64_t settled = 0;
    struct pawl_bus_taken taken;
    for (unsigned i = 0; i < 30; i++) {
        char text[16], key[16];
        snprintf(text, sizeof text, "e%u", i);
        snprintf(key, sizeof key, "k%u", i / 2);
        struct memory_publish publish = {.topic = "t",
                                         .data = text,
                                         .key = key,
                                         .priority = (uint8_t)(i % 7 == 3),
                                         .delay_ns = i % 5 == 4 ? SECOND : 0,
                                         .headers = {{"key", i % 3 ? "x" : "y"}}};
        (void)memory_publish(&m, client, &publish);
        memory_turn(&m);
        memory_begin(&m, client);
        memory_turn(&m);
        while (settled < client->delivery_count && settled % 4 != i % 4) {
            (void)memory_settle(&m, client, ops[settled % 5], settled, settled, PAWL_SETTLE_POLICY);
            settled++;
        }
        if (i % 6 == 5 && memory_take(&m, "small", "", 1, &taken) == 1)
            (void)memory_settle_taken(&m, "small", "", &taken,
                                      i % 12 == 5 ? PAWL_SETTLE_OP_ACK : PAWL_SETTLE_OP_EXTEND, 5 * SECOND);
        memory_pass(&m, SECOND / 2);
    }
    json_decref(memory_request(&m, 0, "{'op': 'dlq.redrive', 'queue': 'q'}"));
    json_decref(memory_request(&m, 0, "{'op': 'queue.pause', 'name': 'small'}"));
    json_decref(memory_request(&m, 0, "{'op': 'group.seek', 'queue': 's', 'group': 'g', 'to': 'earliest'}"));
    memory_turn(&m);
}

static void expect_same(char *one, char *other, size_t at, const char *what)
{
    cr_expect(eq(str, one, other), "%s, at record %zu", what, at);
    free(one);
    free(other);
}

Test(bus_recovery, records_applied_twice_are_as_once_at_every_prefix)
{
    live();
    cr_assert(ge(sz, m.record_count, 60));
    for (size_t lsn = 1; lsn <= m.record_count; lsn += 3)
        expect_same(memory_describe(&m, memory_recover(&m, lsn, false, 1), 50),
                    memory_describe(&m, memory_recover(&m, lsn, false, 2), 50), lsn, "twice");
}

Test(bus_recovery, a_snapshot_and_the_later_records_are_as_all_records)
{
    live();
    size_t count = m.record_count;
    for (size_t at = 1; at < count; at += 5) {
        struct pawl_bus *bus = memory_recover(&m, at, false, 1);
        memory_snapshot_of(&m, bus, at);
        pawl_bus_destroy(bus);
        for (size_t lsn = at; lsn <= count; lsn += 23)
            expect_same(memory_describe(&m, memory_recover(&m, lsn, true, 1), 50),
                        memory_describe(&m, memory_recover(&m, lsn, false, 1), 50), at * 1000 + lsn,
                        "snapshot");
    }
}
