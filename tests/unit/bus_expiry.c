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

TestSuite(bus_expiry, .init = set_up, .fini = tear_down, .timeout = 300);

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

/* ---- in somebody's hands when its time ends ---- */

static void expect_reason(const char *reason)
{
    json_t *list = memory_request(&m, 0, "{'op': 'dlq.list', 'queue': 'q'}");
    const json_t *letter = json_array_get(json_object_get(list, "events"), 0);
    const char *is = json_string_value(json_object_get(letter, "reason"));
    cr_expect(eq(str, (char *)(is ? is : ""), (char *)reason));
    json_decref(list);
}

static void expect_expired(void)
{
    expect_waiting(0, 1);
    expect_reason("expired");
}

/* A client holds it, and its time to live is over. */
static struct memory_client *held_too_long(void)
{
    struct memory_client *client = consumer_of(&m, "q", 1);
    say_for(client, 10 * SECOND, PAWL_DURABILITY_DEFAULT);
    cr_assert(eq(sz, client->delivery_count, 1));
    memory_pass(&m, 20 * SECOND);
    expect_waiting(1, 0);
    return client;
}

Test(bus_expiry, what_a_client_gives_back_after_its_time_dies)
{
    struct memory_client *client = held_too_long();
    memory_close(&m, client);
    memory_turn(&m);
    expect_expired();
}

Test(bus_expiry, what_fails_after_its_time_dies_and_does_not_wait_for_its_retry)
{
    struct memory_client *client = held_too_long();
    memory_begin(&m, client);
    (void)memory_nack(&m, client, 0, 1000 * SECOND);
    memory_turn(&m);
    expect_expired();
}

Test(bus_expiry, what_a_client_that_hangs_loses_after_its_time_dies)
{
    (void)held_too_long();
    memory_pass(&m, 41 * SECOND); /* twice the ack wait after it was given */
    expect_expired();
}

Test(bus_expiry, what_was_taken_and_is_given_back_after_its_time_dies)
{
    struct pawl_bus_taken taken;
    say_for(memory_open(&m, 0), 10 * SECOND, PAWL_DURABILITY_DEFAULT);
    cr_assert(eq(int, memory_take(&m, "q", "", 1, &taken), 1));
    memory_pass(&m, 20 * SECOND);
    cr_assert(eq(int, memory_settle_taken(&m, "q", "", &taken, PAWL_SETTLE_OP_RELEASE, 0), 0));
    memory_turn(&m);
    expect_expired();
}

Test(bus_expiry, what_was_taken_and_never_settled_dies_at_its_deadline)
{
    struct pawl_bus_taken taken;
    say_for(memory_open(&m, 0), 10 * SECOND, PAWL_DURABILITY_DEFAULT);
    cr_assert(eq(int, memory_take(&m, "q", "", 1, &taken), 1));
    memory_pass(&m, 29 * SECOND);
    expect_waiting(1, 0);
    memory_pass(&m, 1 * SECOND);
    expect_expired();
}

Test(bus_expiry, what_was_held_at_the_snapshot_after_its_time_dies_within_a_minute_of_the_restart)
{
    (void)held_too_long();
    memory_snapshot(&m);
    memory_restart(&m, m.record_count);
    memory_turn(&m);
    memory_pass(&m, 60 * SECOND);
    expect_expired();
}

Test(bus_expiry, what_comes_back_before_its_time_lives_until_then)
{
    struct memory_client *client = consumer_of(&m, "q", 1);
    say_for(client, 10 * SECOND, PAWL_DURABILITY_DEFAULT);
    for (uint64_t n = 0; n < 4; n++) {
        (void)memory_settle(&m, client, PAWL_SETTLE_OP_RELEASE, n, n, 0);
        memory_turn(&m);
    }
    cr_expect(eq(sz, pawl_bus_timers_count(&m.bus->timers), 2), "its own, and the client's deadline");
    memory_close(&m, client);
    memory_pass(&m, 10 * SECOND - 1);
    expect_waiting(1, 0);
    memory_pass(&m, 1);
    expect_expired();
}

Test(bus_expiry, a_strict_begin_that_nobody_is_there_for_dies_in_its_time)
{
    memory_declare(&m, "q", "'topics': ['t'], 'strict_attempts': true");
    struct memory_client *client = consumer_of(&m, "q", 1);
    (void)memory_publish(&m, client,
                         &(struct memory_publish){.topic = "t", .data = "x", .ttl_ns = 10 * SECOND});
    memory_flush(&m);
    memory_sync(&m);
    memory_flush(&m); /* its begin is asked for */
    cr_assert(eq(sz, bus_queue_find(m.bus, "q")->sub->exceptions.in_state[EXCEPTION_GRANTING], 1));
    memory_close(&m, client);
    memory_turn(&m);
    cr_assert(eq(sz, bus_queue_find(m.bus, "q")->sub->exceptions.in_state[EXCEPTION_GRANTED], 1));
    memory_pass(&m, 10 * SECOND);
    expect_expired();
}

Test(bus_expiry, what_an_act_gives_back_after_its_time_dies_after_it)
{
    struct memory_client *client = held_too_long();
    pawl_bus_act_begin(m.bus);
    pawl_bus_act_hold(m.bus, true);
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_RELEASE, 0, 0, 0);
    expect_waiting(1, 0);
    pawl_bus_act_hold(m.bus, false);
    memory_close(&m, client);
    memory_turn(&m);
    expect_expired();
}

/* ---- a time to live of the queue ---- */

Test(bus_expiry, the_oldest_that_comes_back_dies_in_its_time_although_a_younger_one_was_watched)
{
    memory_declare(&m, "q", "'topics': ['t'], 'ttl_ns': 10000000000");
    struct memory_client *client = consumer_of(&m, "q", 1);
    say_for(client, 0, PAWL_DURABILITY_DEFAULT);
    memory_pass(&m, 4 * SECOND);
    say_for(client, 0, PAWL_DURABILITY_DEFAULT); /* waits: the client has no credit */
    memory_close(&m, client);
    memory_turn(&m);
    memory_pass(&m, 5 * SECOND);
    expect_waiting(2, 0);
    memory_pass(&m, 2 * SECOND);
    expect_waiting(1, 1);
    memory_pass(&m, 4 * SECOND);
    expect_waiting(0, 2);
}

Test(bus_expiry, a_paused_queue_lets_its_events_die_in_their_time)
{
    memory_declare(&m, "q", "'topics': ['t'], 'ttl_ns': 30000000000");
    json_decref(memory_request(&m, 0, "{'op': 'queue.pause', 'name': 'q'}"));
    struct memory_client *client = consumer_of(&m, "q", 10);
    say_for(client, 0, PAWL_DURABILITY_DEFAULT);
    say_for(client, 10 * SECOND, PAWL_DURABILITY_DEFAULT);
    memory_pass(&m, 11 * SECOND);
    expect_waiting(1, 1);
    memory_pass(&m, 20 * SECOND);
    expect_waiting(0, 2);
}
