/*
 * bus_letters - how much of a dead-letter queue one request may list, redrive or purge.
 */
#include "tests/unit/bus_support.h"

enum { MIB = 1 << 20, LETTERS = 20 };

static struct memory m;
static char big[9 * MIB];

static void set_up(void)
{
    memory_init(&m);
    m.limits.event_payload_bytes = 16 * MIB;
    pawl_bus_set_limits(m.bus, &m.limits);
    memory_declare(&m, "q", "'topics': ['t']");
    memset(big, 'x', sizeof big);
}

static void tear_down(void)
{
    memory_fini(&m);
}

TestSuite(bus_letters, .init = set_up, .fini = tear_down, .timeout = 60);

static void bury(size_t data_bytes, int count)
{
    struct memory_client *client = consumer_of(&m, "q", 100);
    for (int i = 0; i < count; i++)
        memory_publish(&m, client,
                       &(struct memory_publish){.topic = "t", .data = big, .data_bytes = data_bytes});
    memory_turn(&m);
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_REJECT, 0, (uint64_t)count - 1, 0);
    memory_turn(&m);
    expect_number(&m, "q", "dlq_depth", count);
    memory_close(&m, client);
}

static int64_t number_of(json_t *reply, const char *key)
{
    return json_integer_value(json_object_get(reply, key));
}

static size_t bytes_written(size_t from_record)
{
    size_t bytes = 0;
    for (size_t i = from_record; i < m.record_count; i++)
        bytes += m.records[i].bytes;
    return bytes;
}

Test(bus_letters, a_step_of_a_redrive_writes_no_more_than_8_mib_and_says_where_to_go_on)
{
    int64_t from = 0, moved = 0;
    int steps = 0;
    bury(MIB, LETTERS);
    do {
        size_t records = m.record_count;
        json_t *reply =
            memory_request(&m, 0, "{'op': 'dlq.redrive', 'queue': 'q', 'from': %lld}", (long long)from);
        cr_assert(ne(ptr, (void *)reply, NULL), "%s", m.why);
        cr_expect(le(sz, bytes_written(records), 8 * MIB));
        cr_expect(gt(i64, number_of(reply, "redriven"), 0));
        cr_expect(eq(i64, number_of(reply, "skipped"), 0));
        moved += number_of(reply, "redriven");
        from = number_of(reply, "next");
        json_decref(reply);
        memory_turn(&m);
        steps++;
    } while (from > 0 && steps < LETTERS);
    cr_expect(eq(i64, moved, LETTERS));
    cr_expect(eq(int, steps, 3));
    expect_number(&m, "q", "depth", LETTERS);
    expect_number(&m, "q", "dlq_depth", 0);
}

Test(bus_letters, a_redrive_by_number_goes_on_after_those_that_it_did)
{
    int64_t from = 0, moved = 0, skipped = 0;
    int steps = 0;
    bury(MIB, 10);
    do {
        json_t *reply = memory_request(&m, 0,
                                       "{'op': 'dlq.redrive', 'queue': 'q', 'from': %lld,"
                                       "'seqs': [10, 9, 8, 7, 6, 5, 4, 3, 2, 99]}",
                                       (long long)from);
        cr_assert(ne(ptr, (void *)reply, NULL), "%s", m.why);
        moved += number_of(reply, "redriven");
        skipped += number_of(reply, "skipped");
        from = number_of(reply, "next");
        json_decref(reply);
        steps++;
    } while (from > 0 && steps < LETTERS);
    memory_turn(&m);
    cr_expect(eq(i64, moved, 9));
    cr_expect(eq(i64, skipped, 0));
    cr_expect(eq(int, steps, 2));
    expect_number(&m, "q", "dlq_depth", 1);
}

Test(bus_letters, a_letter_larger_than_a_step_is_a_step_by_itself)
{
    bury(9 * MIB, 2);
    json_t *reply = memory_request(&m, 0, "{'op': 'dlq.redrive', 'queue': 'q'}");
    cr_expect(eq(i64, number_of(reply, "redriven"), 1));
    cr_expect(eq(i64, number_of(reply, "next"), 2));
    json_decref(reply);
    reply = memory_request(&m, 0, "{'op': 'dlq.redrive', 'queue': 'q', 'from': 2}");
    cr_expect(eq(i64, number_of(reply, "redriven"), 1));
    cr_expect(eq(i64, number_of(reply, "next"), 0));
    json_decref(reply);
}

Test(bus_letters, a_list_holds_no_more_than_8_mib_and_all_its_pages_are_all_letters)
{
    int64_t from = 0;
    size_t listed = 0, pages = 0;
    bury(MIB, LETTERS);
    do {
        json_t *reply =
            memory_request(&m, 0, "{'op': 'dlq.list', 'queue': 'q', 'from': %lld}", (long long)from);
        cr_assert(ne(ptr, (void *)reply, NULL), "%s", m.why);
        cr_expect(le(sz, json_array_size(json_object_get(reply, "events")), 8));
        listed += json_array_size(json_object_get(reply, "events"));
        from = number_of(reply, "next");
        json_decref(reply);
        pages++;
    } while (from > 0 && pages < LETTERS);
    cr_expect(eq(sz, listed, LETTERS));
}

Test(bus_letters, a_redrive_is_refused_where_the_disk_has_no_room)
{
    bury(10, 2);
    m.has_room = PAWL_E_NO_SPACE;
    json_t *reply = memory_request(&m, 0, "{'op': 'dlq.redrive', 'queue': 'q'}");
    cr_expect(eq(ptr, (void *)reply, NULL));
    cr_expect(eq(int, m.error, PAWL_E_NO_SPACE));
    json_decref(reply);
    expect_number(&m, "q", "dlq_depth", 2);
}
