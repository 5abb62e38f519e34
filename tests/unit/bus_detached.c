/*
 * bus_detached - deliveries that belong to no client outlive their scheduler.
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

TestSuite(bus_detached, .init = set_up, .fini = tear_down, .timeout = 300);

Test(bus_detached, a_detached_delivery_outlives_its_scheduler_and_is_settled_by_its_tag)
{
    struct pawl_bus_taken taken[2], again[2];
    memory_declare(&m, "q", "'topics': ['t'], 'ack_wait_ns': 60000000000");
    struct memory_client *client = memory_open(&m, 0);
    (void)memory_say(&m, client, "t", "a");
    (void)memory_say(&m, client, "t", "b");
    memory_turn(&m);
    cr_assert(eq(int, memory_take(&m, "q", "", 2, taken), 2));
    memory_turn(&m);
    memory_restart(&m, m.record_count);
    expect_number(&m, "q", "in_flight", 2);
    cr_expect(eq(int, memory_take(&m, "q", "", 2, again), 0));
    cr_expect(eq(int, memory_settle_taken(&m, "q", "", &taken[0], PAWL_SETTLE_OP_ACK, 0), 0));
    memory_turn(&m);
    cr_expect(
        eq(int, memory_settle_taken(&m, "q", "", &taken[0], PAWL_SETTLE_OP_ACK, 0), PAWL_E_STALE_RECEIPT));
    memory_pass(&m, 60 * SECOND);
    memory_pass(&m, SECOND);
    cr_expect(
        eq(int, memory_settle_taken(&m, "q", "", &taken[1], PAWL_SETTLE_OP_ACK, 0), PAWL_E_STALE_RECEIPT));
    cr_assert(eq(int, memory_take(&m, "q", "", 2, again), 1));
    cr_expect(eq(u32, again[0].entry.attempt, 2));
    cr_expect(eq(u32, again[0].entry.failures, 1));
    cr_expect(eq(int, memory_settle_taken(&m, "q", "", &again[0], PAWL_SETTLE_OP_RELEASE, 0), 0));
    memory_turn(&m);
    expect_number(&m, "q", "in_flight", 0);
    expect_number(&m, "q", "depth", 1);
    taken[1].entry.seq = 99;
    cr_expect(eq(int, memory_settle_taken(&m, "q", "", &taken[1], PAWL_SETTLE_OP_ACK, 0), PAWL_E_NOT_FOUND));
}

Test(bus_detached, an_extension_of_a_detached_delivery_outlives_its_scheduler_too)
{
    struct pawl_bus_taken taken;
    memory_declare(&m, "q", "'topics': ['t'], 'ack_wait_ns': 10000000000");
    struct memory_client *client = memory_open(&m, 0);
    (void)memory_say(&m, client, "t", "a");
    memory_turn(&m);
    cr_assert(eq(int, memory_take(&m, "q", "", 1, &taken), 1));
    cr_expect(eq(int, memory_settle_taken(&m, "q", "", &taken, PAWL_SETTLE_OP_EXTEND, 100 * SECOND), 0));
    memory_turn(&m);
    memory_restart(&m, m.record_count);
    memory_pass(&m, 99 * SECOND);
    cr_expect(eq(int, memory_settle_taken(&m, "q", "", &taken, PAWL_SETTLE_OP_ACK, 0), 0));
    memory_turn(&m);
    expect_number(&m, "q", "depth", 0);
}
