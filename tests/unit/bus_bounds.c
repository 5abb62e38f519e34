/*
 * bus_bounds - what is over takes no memory, and what is counted stays counted.
 */
#include "tests/unit/bus_support.h"

#include "scheduler/bus/state.h"

enum { MANY = 20000, FEW = 10000 };
#define DAY (86400 * SECOND)

static struct memory m;

static void set_up(void)
{
    memory_init(&m);
}

static void tear_down(void)
{
    memory_fini(&m);
}

TestSuite(bus_bounds, .init = set_up, .fini = tear_down, .timeout = 300);

static size_t timers(void)
{
    return pawl_bus_timers_count(&m.bus->timers);
}

Test(bus_bounds, an_event_that_was_acked_leaves_no_timer_behind_for_its_time_to_live)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 100);
    for (uint64_t n = 0; n < MANY; n += 100) {
        for (int i = 0; i < 100; i++)
            memory_publish(&m, client, &(struct memory_publish){.topic = "t", .data = "x", .ttl_ns = DAY});
        memory_turn(&m);
        (void)memory_settle(&m, client, PAWL_SETTLE_OP_ACK, n, n + 99, 0);
        memory_turn(&m);
    }
    expect_number(&m, "q", "depth", 0);
    cr_expect(le(sz, timers(), FEW));
}

Test(bus_bounds, a_detached_delivery_that_was_settled_leaves_no_timer_behind_for_its_deadline)
{
    memory_declare(&m, "q", "'topics': ['t'], 'ack_wait_ns': 86400000000000");
    struct memory_client *client = memory_open(&m, 0);
    for (int n = 0; n < MANY; n++) {
        struct pawl_bus_taken taken;
        memory_say(&m, client, "t", "x");
        memory_turn(&m);
        cr_assert(eq(int, memory_take(&m, "q", "", 1, &taken), 1));
        cr_assert(eq(int, memory_settle_taken(&m, "q", "", &taken, PAWL_SETTLE_OP_ACK, 0), 0));
        memory_turn(&m);
    }
    cr_expect(le(sz, timers(), FEW));
}

Test(bus_bounds, a_delivery_that_is_extended_for_ever_has_few_timers_and_its_last_deadline)
{
    struct pawl_bus_taken taken;
    memory_declare(&m, "q", "'topics': ['t'], 'ack_wait_ns': 10000000000");
    memory_say(&m, memory_open(&m, 0), "t", "x");
    memory_turn(&m);
    cr_assert(eq(int, memory_take(&m, "q", "", 1, &taken), 1));
    for (int n = 0; n < MANY; n++) {
        m.now.boottime_ns += 1000;
        m.now.realtime_ns += 1000;
        cr_assert(eq(int, memory_settle_taken(&m, "q", "", &taken, PAWL_SETTLE_OP_EXTEND, DAY), 0));
        memory_turn(&m);
    }
    cr_expect(le(sz, timers(), FEW));
    memory_pass(&m, DAY - 1);
    expect_number(&m, "q", "in_flight", 1);
    memory_pass(&m, 1);
    expect_number(&m, "q", "in_flight", 0);
}

Test(bus_bounds, what_waits_for_its_time_comes_at_it_however_many_others_are_over)
{
    memory_declare(&m, "q", "'topics': ['t', 'u', 'v']");
    memory_declare(&m, "slow", "'topics': ['slow']");
    struct memory_client *client = consumer_of(&m, "q", 100), *slow = consumer_of(&m, "slow", 10);
    struct memory_client *idle = memory_open(&m, 0);
    memory_declare(&m, "idle", "'topics': ['idle']");
    memory_publish(&m, idle, &(struct memory_publish){.topic = "slow", .data = "late", .delay_ns = DAY});
    memory_publish(&m, idle, &(struct memory_publish){.topic = "idle", .data = "dead", .ttl_ns = DAY});
    memory_turn(&m);
    for (uint64_t n = 0; n < MANY; n += 100) {
        for (int i = 0; i < 100; i++)
            memory_publish(&m, client,
                           &(struct memory_publish){.topic = "t", .data = "x", .ttl_ns = 2 * DAY});
        memory_turn(&m);
        (void)memory_settle(&m, client, PAWL_SETTLE_OP_ACK, n, n + 99, 0);
        memory_turn(&m);
    }
    memory_pass(&m, DAY - 1);
    expect_got(slow, 0, "");
    expect_number(&m, "idle", "dlq_depth", 0);
    memory_pass(&m, 1);
    expect_got(slow, 0, "late");
    expect_number(&m, "idle", "dlq_depth", 1);
}

/* Its own queue of dead letters, full and refusing. */
static void no_grave(void)
{
    memory_declare(&m, "full", "'topics': ['f'], 'max_depth': 1, 'overflow': 'reject'");
    memory_declare(&m, "q",
                   "'topics': ['t'], 'dlq': 'full', 'retry': {'limit': 9, 'backoff': {'kind': 'fixed',"
                   "'initial_ns': 0}}");
    memory_say(&m, memory_open(&m, 0), "f", "x");
    memory_turn(&m);
}

Test(bus_bounds, what_is_dead_and_has_no_grave_keeps_its_counts)
{
    no_grave();
    struct memory_client *client = consumer_of(&m, "q", 10);
    memory_say(&m, client, "t", "a");
    memory_turn(&m);
    (void)memory_nack(&m, client, 0, 0);
    memory_turn(&m);
    cr_assert(eq(u32, client->deliveries[1].entry.failures, 1));
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_REJECT, 1, 1, 0);
    memory_pass(&m, 61 * SECOND);
    cr_assert(eq(sz, client->delivery_count, 3));
    cr_expect(eq(u32, client->deliveries[2].entry.failures, 1));
    cr_expect(eq(u32, attempt_of(client, 2), 3));
    memory_restart(&m, m.record_count);
    client = consumer_of(&m, "q", 10);
    cr_expect(eq(u32, client->deliveries[0].entry.failures, 1));
    cr_expect(ge(u32, attempt_of(client, 0), 3));
}

Test(bus_bounds, failures_without_a_limit_are_counted_to_their_most_and_stay_there)
{
    memory_declare(&m, "q",
                   "'topics': ['t'], 'retry': {'limit': 0, 'backoff': {'kind': 'fixed', 'initial_ns': 0}}");
    struct memory_client *client = consumer_of(&m, "q", 1);
    memory_say(&m, client, "t", "a");
    memory_turn(&m);
    struct exception *exception = NULL;
    (void)memory_nack(&m, client, 0, 0);
    exception = exception_find(&bus_queue_find(m.bus, "q")->sub->exceptions, 1);
    cr_assert(ne(ptr, (void *)exception, NULL));
    exception->failures = UINT16_MAX;
    memory_turn(&m);
    (void)memory_nack(&m, client, 1, 0);
    memory_turn(&m);
    cr_expect(eq(u32, client->deliveries[2].entry.failures, UINT16_MAX));
}
