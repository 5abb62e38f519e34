/*
 * bus_extend - more time for a delivery: how much, and when it counts.
 */
#include "tests/unit/bus_support.h"

#define WEEK (7 * 86400 * SECOND)

static struct memory m;

static void set_up(void)
{
    memory_init(&m);
    memory_declare(&m, "q", "'topics': ['t'], 'ack_wait_ns': 10000000000");
}

static void tear_down(void)
{
    memory_fini(&m);
}

TestSuite(bus_extend, .init = set_up, .fini = tear_down, .timeout = 300);

static struct memory_client *consumer_with_one(void)
{
    struct memory_client *client = consumer_of(&m, "q", 10);
    memory_say(&m, client, "t", "one");
    memory_turn(&m);
    cr_assert(eq(sz, client->delivery_count, 1));
    return client;
}

static void expect_in_flight(int64_t count)
{
    expect_number(&m, "q", "in_flight", count);
}

Test(bus_extend, a_week_from_now_is_the_most_that_a_lane_may_ask_for)
{
    struct memory_client *client = consumer_with_one();
    memory_begin(&m, client);
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_EXTEND, 0, 0, WEEK);
    memory_pass(&m, WEEK - SECOND);
    expect_in_flight(1);
    memory_pass(&m, SECOND);
    expect_in_flight(0);
}

Test(bus_extend, a_lane_that_asks_for_more_is_told_the_limit_and_the_deadline_stays)
{
    static const uint64_t too_much[] = {WEEK + 1, UINT64_MAX};
    struct memory_client *client = consumer_with_one();
    memory_begin(&m, client);
    for (size_t i = 0; i < sizeof too_much / sizeof *too_much; i++) {
        client->reply_count = 0;
        cr_expect(eq(int, memory_settle(&m, client, PAWL_SETTLE_OP_EXTEND, 0, 0, too_much[i]), 0));
        cr_expect(eq(int, refusal(client, PAWL_REPLY_LATE, 0), PAWL_E_LIMIT));
    }
    memory_pass(&m, 9 * SECOND);
    expect_in_flight(1);
    memory_pass(&m, SECOND);
    expect_in_flight(0);
}

Test(bus_extend, a_tag_that_asks_for_more_than_a_week_is_refused_and_writes_nothing)
{
    struct pawl_bus_taken taken;
    memory_say(&m, memory_open(&m, 0), "t", "one");
    memory_turn(&m);
    cr_assert(eq(int, memory_take(&m, "q", "", 1, &taken), 1));
    memory_turn(&m);
    size_t records = m.record_count;
    cr_expect(
        eq(int, memory_settle_taken(&m, "q", "", &taken, PAWL_SETTLE_OP_EXTEND, WEEK + 1), PAWL_E_LIMIT));
    cr_expect(
        eq(int, memory_settle_taken(&m, "q", "", &taken, PAWL_SETTLE_OP_EXTEND, UINT64_MAX), PAWL_E_LIMIT));
    memory_turn(&m);
    cr_expect(eq(sz, m.record_count, records));
    cr_expect(eq(int, memory_settle_taken(&m, "q", "", &taken, PAWL_SETTLE_OP_EXTEND, WEEK), 0));
    memory_pass(&m, WEEK - SECOND);
    expect_in_flight(1);
    memory_pass(&m, SECOND);
    expect_in_flight(0);
}

Test(bus_extend, an_atomic_act_that_asks_for_more_than_a_week_is_refused)
{
    struct memory_client *client = consumer_with_one();
    memory_begin(&m, client);
    struct pawl_settle part = {.op = PAWL_SETTLE_OP_EXTEND, .value = WEEK};
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, pawl_bus_client(m.bus, client->number), &part), 0));
    part.value = WEEK + 1;
    cr_expect(
        eq(int, pawl_bus_may_settle(m.bus, pawl_bus_client(m.bus, client->number), &part), PAWL_E_LIMIT));
}

/* Whoever asks for more time has begun, also when the lane's count of begins is heard later, or counts it
 * only with an older delivery of another consumer. */
Test(bus_extend, more_time_that_is_asked_for_before_the_begin_is_heard_of_counts)
{
    struct memory_client *client = consumer_with_one();
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_EXTEND, 0, 0, 100 * SECOND);
    memory_begin(&m, client);
    memory_pass(&m, 99 * SECOND);
    expect_in_flight(1);
    memory_pass(&m, SECOND);
    expect_in_flight(0);
}

Test(bus_extend, more_time_counts_where_the_begin_is_never_heard_of)
{
    struct memory_client *client = consumer_with_one();
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_EXTEND, 0, 0, 100 * SECOND);
    memory_pass(&m, 99 * SECOND);
    expect_in_flight(1);
    cr_expect(eq(sz, client->delivery_count, 1));
}

Test(bus_extend, who_asked_for_more_time_and_dies_has_failed)
{
    struct memory_client *client = consumer_with_one();
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_EXTEND, 0, 0, 100 * SECOND);
    memory_close(&m, client);
    memory_pass(&m, 60 * SECOND);
    client = consumer_of(&m, "q", 1);
    cr_expect(eq(u32, client->deliveries[0].entry.failures, 1));
    cr_expect(eq(u32, attempt_of(client, 0), 2));
}
