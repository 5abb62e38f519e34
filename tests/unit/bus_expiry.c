/*
 * bus_expiry - an event with a time to live of its own dies when that is over, whoever looks or does not.
 */
#include "scheduler/bus/state.h"
#include "tests/unit/bus_support.h"

static struct memory m;

static void set_up(void)
{
    memory_init(&m);
    memory_declare(&m, "q", "'topics': ['t']");
}

static void tear_down(void)
{
    memory_fini(&m);
}

TestSuite(bus_expiry, .init = set_up, .fini = tear_down, .timeout = 60);

static void say_for(struct memory_client *client, uint64_t ttl_ns, uint8_t durability)
{
    (void)memory_publish(
        &m, client,
        &(struct memory_publish){.topic = "t", .data = "x", .ttl_ns = ttl_ns, .durability = durability});
    memory_turn(&m);
}

static void expect_waiting(uint64_t waiting, uint64_t dead)
{
    expect_number(&m, "q", "depth", (int64_t)waiting);
    expect_number(&m, "q", "dlq_depth", (int64_t)dead);
}

Test(bus_expiry, nobody_consumes_and_it_dies_in_its_time_also_after_a_restart)
{
    struct memory_client *client = memory_open(&m, 0);
    say_for(client, 10 * SECOND, PAWL_DURABILITY_DEFAULT);
    say_for(client, 30 * SECOND, PAWL_DURABILITY_DEFAULT);
    say_for(client, 0, PAWL_DURABILITY_DEFAULT);
    memory_pass(&m, 4 * SECOND);
    memory_restart(&m, m.record_count);
    memory_turn(&m);
    expect_waiting(3, 0);
    memory_pass(&m, 5 * SECOND);
    expect_waiting(3, 0);
    memory_pass(&m, 2 * SECOND);
    expect_waiting(2, 1);
    memory_pass(&m, 20 * SECOND);
    expect_waiting(1, 2);
}

Test(bus_expiry, it_dies_in_its_time_when_a_snapshot_is_all_that_knows_of_it)
{
    struct memory_client *client = memory_open(&m, 0);
    say_for(client, 10 * SECOND, PAWL_DURABILITY_DEFAULT);
    say_for(client, 30 * SECOND, PAWL_DURABILITY_DEFAULT);
    for (int i = 0; i < 2; i++) { /* the second is made of what the first one said */
        memory_pass(&m, 2 * SECOND);
        memory_snapshot(&m);
        memory_restart(&m, m.record_count);
        memory_turn(&m);
    }
    expect_waiting(2, 0);
    memory_pass(&m, 7 * SECOND);
    expect_waiting(1, 1);
    memory_pass(&m, 20 * SECOND);
    expect_waiting(0, 2);
}

Test(bus_expiry, while_nobody_is_there_time_passes_too)
{
    say_for(memory_open(&m, 0), 10 * SECOND, PAWL_DURABILITY_DEFAULT);
    m.now.boottime_ns += 60 * SECOND;
    m.now.realtime_ns += 60 * SECOND;
    memory_restart(&m, m.record_count);
    memory_turn(&m);
    expect_waiting(0, 1);
}

Test(bus_expiry, the_wall_clock_went_slower_than_the_boot_clock_and_it_dies_all_the_same)
{
    say_for(memory_open(&m, 0), 10 * SECOND, PAWL_DURABILITY_DEFAULT);
    m.now.realtime_ns -= SECOND;
    memory_pass(&m, 10 * SECOND);
    expect_waiting(1, 0);
    memory_pass(&m, 1 * SECOND);
    expect_waiting(0, 1);
}

Test(bus_expiry, what_was_settled_is_not_remembered_by_a_restart)
{
    struct memory_client *client = consumer_of(&m, "q", 1);
    for (int i = 0; i < 20; i++) {
        say_for(client, 1000 * SECOND, PAWL_DURABILITY_DEFAULT);
        (void)memory_ack(&m, client, (uint64_t)i);
        memory_turn(&m);
    }
    say_for(client, 1000 * SECOND, PAWL_DURABILITY_DEFAULT);
    say_for(client, 1000 * SECOND, PAWL_DURABILITY_MEMORY);
    memory_snapshot(&m);
    memory_restart(&m, m.record_count);
    cr_expect(eq(sz, pawl_bus_timers_count(&m.bus->timers), 1));
    memory_restart(&m, m.record_count);
    cr_expect(eq(sz, pawl_bus_timers_count(&m.bus->timers), 1));
}
