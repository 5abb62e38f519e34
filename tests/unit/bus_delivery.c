/*
 * bus_delivery - which delivery goes to whom and when, and what its end does.
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

TestSuite(bus_delivery, .init = set_up, .fini = tear_down, .timeout = 300);

static void say_all(struct memory_client *client, const char *topic, const char *letters)
{
    for (; *letters; letters++)
        (void)memory_say(&m, client, topic, (char[]){*letters, 0});
    memory_turn(&m);
}

/* ---- to whom, and how many ---- */

Test(bus_delivery, first_deliveries_come_in_order_and_as_many_as_the_credit)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 3);
    say_all(client, "t", "abcde");
    expect_got(client, 0, "a b c");
    cr_expect(eq(int, memory_ack(&m, client, 1), 0));
    memory_turn(&m);
    expect_got(client, 0, "a b c d");
    expect_number(&m, "q", "in_flight", 3);
    expect_number(&m, "q", "ready", 1);
}

Test(bus_delivery, consumers_take_turns_and_one_that_is_full_holds_up_nobody)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *a = consumer_of(&m, "q", 4000), *b = consumer_of(&m, "q", 4000);
    struct memory_client *full = consumer_of(&m, "q", 4000);
    full->room = 0;
    for (int i = 0; i < 64; i++)
        (void)memory_say(&m, a, "t", "x");
    memory_turn(&m);
    cr_expect(eq(sz, a->delivery_count + b->delivery_count, 64));
    cr_expect(ge(sz, a->delivery_count, 16));
    cr_expect(ge(sz, b->delivery_count, 16));
    cr_expect(eq(sz, full->delivery_count, 0));
    full->room = UINT32_MAX;
    pawl_bus_client_ready(m.bus, pawl_bus_client(m.bus, full->number));
    for (int i = 0; i < 64; i++)
        (void)memory_say(&m, a, "t", "x");
    memory_turn(&m);
    cr_expect(ge(sz, full->delivery_count, 16));
}

Test(bus_delivery, max_in_flight_is_a_limit_over_all_consumers)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_in_flight': 2");
    struct memory_client *a = consumer_of(&m, "q", 10), *b = consumer_of(&m, "q", 10);
    say_all(a, "t", "abcd");
    cr_expect(eq(sz, a->delivery_count + b->delivery_count, 2));
    expect_number(&m, "q", "in_flight", 2);
    struct memory_client *holder = a->delivery_count ? a : b;
    cr_expect(eq(int, memory_ack(&m, holder, 0), 0));
    memory_turn(&m);
    cr_expect(eq(sz, a->delivery_count + b->delivery_count, 3));
}

Test(bus_delivery, rate_lets_a_burst_go_and_then_so_many_a_period)
{
    memory_declare(&m, "q", "'topics': ['t'], 'rate': {'count': 4, 'per_ns': 1000000000}");
    struct memory_client *client = consumer_of(&m, "q", 100);
    for (int i = 0; i < 20; i++)
        (void)memory_say(&m, client, "t", "x");
    memory_turn(&m);
    cr_expect(eq(sz, client->delivery_count, 4));
    memory_pass(&m, SECOND / 4);
    cr_expect(eq(sz, client->delivery_count, 5));
    for (int i = 0; i < 8; i++)
        memory_pass(&m, SECOND / 4);
    cr_expect(eq(sz, client->delivery_count, 13));
    struct pawl_bus_taken taken[4];
    cr_expect(eq(int, memory_take(&m, "q", "", 4, taken), 0)); /* taking is no way around it */
}

Test(bus_delivery, a_paused_queue_takes_and_gives_nothing_until_it_is_resumed)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    json_decref(memory_request(&m, 0, "{'op': 'queue.pause', 'name': 'q'}"));
    say_all(client, "t", "ab");
    expect_got(client, 0, "");
    expect_number(&m, "q", "depth", 2);
    memory_restart(&m, m.record_count); /* it stays paused */
    client = consumer_of(&m, "q", 10);
    expect_got(client, 0, "");
    json_decref(memory_request(&m, 0, "{'op': 'queue.resume', 'name': 'q'}"));
    memory_turn(&m);
    expect_got(client, 0, "a b");
}

Test(bus_delivery, what_is_more_urgent_goes_before_what_waits)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 1);
    say_all(client, "t", "ab");
    static const struct memory_publish publishes[] = {{.topic = "t", .data = "five", .priority = 5},
                                                      {.topic = "t", .data = "nine", .priority = 9},
                                                      {.topic = "t", .data = "five2", .priority = 5}};
    for (int i = 0; i < 3; i++)
        (void)memory_publish(&m, client, &publishes[i]);
    for (uint64_t n = 0; n < 5; n++) {
        memory_turn(&m);
        (void)memory_ack(&m, client, n);
    }
    expect_got(client, 0, "a nine five five2 b");
}

Test(bus_delivery, a_delayed_event_comes_when_it_is_due_and_not_before_also_after_a_restart)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    (void)memory_publish(&m, client,
                         &(struct memory_publish){.topic = "t", .data = "x", .delay_ns = 10 * SECOND});
    memory_turn(&m);
    expect_number(&m, "q", "delayed", 1);
    expect_number(&m, "q", "ready", 0);
    memory_pass(&m, 10 * SECOND - 1);
    expect_got(client, 0, "");
    memory_pass(&m, 1);
    expect_got(client, 0, "x");
    (void)memory_ack(&m, client, 0);
    (void)memory_publish(&m, client,
                         &(struct memory_publish){.topic = "t", .data = "y", .delay_ns = 10 * SECOND});
    memory_turn(&m);
    memory_reboot(&m, 5 * SECOND); /* four seconds later */
    m.now.realtime_ns += 4 * SECOND;
    memory_restart(&m, m.record_count);
    client = consumer_of(&m, "q", 10);
    memory_pass(&m, 6 * SECOND - 1);
    expect_got(client, 0, "");
    memory_pass(&m, 1);
    expect_got(client, 0, "y");
}

Test(bus_delivery, a_clock_that_was_set_back_makes_no_delay_longer_than_it_was)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    (void)memory_publish(&m, client,
                         &(struct memory_publish){.topic = "t", .data = "x", .delay_ns = 10 * SECOND});
    memory_turn(&m);
    m.now.realtime_ns -= 1000 * SECOND;
    memory_restart(&m, m.record_count);
    client = consumer_of(&m, "q", 10);
    memory_pass(&m, 10 * SECOND);
    expect_got(client, 0, "x");
}

Test(bus_delivery, the_shorter_of_the_queues_and_the_events_time_to_live_counts)
{
    memory_declare(&m, "q", "'topics': ['t'], 'ttl_ns': 10000000000");
    struct memory_client *client = memory_open(&m, 0);
    (void)memory_publish(&m, client,
                         &(struct memory_publish){.topic = "t", .data = "a", .ttl_ns = 3 * SECOND});
    (void)memory_publish(&m, client,
                         &(struct memory_publish){.topic = "t", .data = "b", .ttl_ns = 30 * SECOND});
    (void)memory_publish(&m, client, &(struct memory_publish){.topic = "t", .data = "c"});
    memory_turn(&m);
    memory_pass(&m, 9 * SECOND);
    struct memory_client *consumer = consumer_of(&m, "q", 1);
    expect_got(consumer, 0, "b");
    memory_pass(&m, SECOND);
    (void)memory_ack(&m, consumer, 0);
    memory_turn(&m);
    expect_got(consumer, 0, "b");
    expect_number(&m, "q.dlq", "depth", 2);
    expect_number(&m, "q", "depth", 0);
}

/* ---- ordering keys ---- */

static void say_keyed(struct memory_client *client, const char *key, const char *data)
{
    (void)memory_publish(&m, client,
                         &(struct memory_publish){.topic = "t", .data = data, .headers = {{"key", key}}});
}

Test(bus_delivery, one_of_an_ordering_key_is_in_flight_and_others_pass)
{
    memory_declare(&m, "q", "'topics': ['t'], 'ordering_key': 'key'");
    struct memory_client *client = consumer_of(&m, "q", 10);
    say_keyed(client, "x", "x1");
    say_keyed(client, "x", "x2");
    say_keyed(client, "y", "y1");
    (void)memory_say(&m, client, "t", "free");
    say_keyed(client, "x", "x3");
    memory_turn(&m);
    expect_got(client, 0, "x1 y1 free");
    (void)memory_ack(&m, client, 0);
    memory_turn(&m);
    expect_got(client, 3, "x2");
    (void)memory_ack(&m, client, 3);
    memory_turn(&m);
    expect_got(client, 4, "x3");
}

Test(bus_delivery, an_ordering_key_is_held_through_retries_and_over_a_restart)
{
    memory_declare(&m, "q", "'topics': ['t'], 'ordering_key': 'key'");
    struct memory_client *client = consumer_of(&m, "q", 10);
    say_keyed(client, "x", "x1");
    say_keyed(client, "x", "x2");
    memory_turn(&m);
    (void)memory_nack(&m, client, 0, 10 * SECOND);
    memory_pass(&m, 5 * SECOND);
    expect_got(client, 0, "x1");
    memory_restart(&m, m.record_count);
    client = consumer_of(&m, "q", 10);
    expect_got(client, 0, "");
    memory_pass(&m, 5 * SECOND);
    expect_got(client, 0, "x1");
    cr_expect(eq(u32, attempt_of(client, 0), 2));
    (void)memory_ack(&m, client, 0);
    memory_turn(&m);
    expect_got(client, 1, "x2");
}

Test(bus_delivery, an_event_whose_key_is_its_and_that_cannot_go_yet_is_not_forgotten)
{
    memory_declare(&m, "q",
                   "'topics': ['t'], 'ordering_key': 'key', 'rate': {'count': 1, 'per_ns': 1000000000}");
    struct memory_client *client = consumer_of(&m, "q", 10);
    say_keyed(client, "x", "x1");
    say_keyed(client, "y", "y1");
    memory_turn(&m);
    expect_got(client, 0, "x1");
    memory_pass(&m, SECOND);
    expect_got(client, 0, "x1 y1");
}

/* ---- settlements ---- */

Test(bus_delivery, an_ack_ends_it_once_and_every_later_settlement_is_late)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    say_all(client, "t", "ab");
    cr_expect(eq(int, memory_ack(&m, client, 0), 0));
    memory_turn(&m);
    expect_number(&m, "q", "depth", 1);
    cr_expect(eq(int, memory_nack(&m, client, 0, 0), 0));
    expect_late(client, 0);
    cr_expect(eq(int, refusal(client, PAWL_REPLY_LATE, 1), 0));
    memory_turn(&m);
    expect_got(client, 0, "a b");
}

Test(bus_delivery, a_range_settles_all_that_it_names)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    say_all(client, "t", "abcde");
    cr_expect(eq(int, memory_ack(&m, client, 2), 0));
    cr_expect(eq(int, memory_settle(&m, client, PAWL_SETTLE_OP_ACK, 0, 3, 0), 0));
    memory_turn(&m);
    expect_number(&m, "q", "depth", 1);
    expect_late(client, 2);
    cr_expect(eq(int, refusal(client, PAWL_REPLY_LATE, 1), 0));
}

Test(bus_delivery, who_settles_what_it_never_got_is_a_liar)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10), *other = memory_open(&m, 0);
    say_all(client, "t", "a");
    cr_expect(eq(int, memory_ack(&m, client, 1), PAWL_E_BAD_MESSAGE));
    cr_expect(eq(int, memory_ack(&m, other, 0), PAWL_E_BAD_MESSAGE));
    cr_expect(eq(int, memory_settle(&m, client, PAWL_SETTLE_OP_ACK, 1, 0, 0), PAWL_E_BAD_MESSAGE));
    cr_expect(eq(int, memory_settle(&m, client, (enum pawl_settle_op)9, 0, 0, 0), PAWL_E_BAD_MESSAGE));
    memory_turn(&m);
    expect_number(&m, "q", "depth", 1);
}

Test(bus_delivery, a_nack_comes_again_after_the_queues_backoff_or_the_delay_that_it_names)
{
    memory_declare(&m, "q",
                   "'topics': ['t'], 'retry': {'limit': 9, 'backoff': {'kind': 'list',"
                   "'delays_ns': [1000000000, 4000000000]}}");
    struct memory_client *client = consumer_of(&m, "q", 10);
    say_all(client, "t", "a");
    (void)memory_nack(&m, client, 0, PAWL_SETTLE_POLICY);
    memory_pass(&m, SECOND - 1);
    cr_expect(eq(sz, client->delivery_count, 1));
    memory_pass(&m, 1);
    cr_assert(eq(sz, client->delivery_count, 2));
    cr_expect(eq(u32, attempt_of(client, 1), 2));
    (void)memory_nack(&m, client, 1, PAWL_SETTLE_POLICY);
    memory_pass(&m, 4 * SECOND - 1);
    cr_expect(eq(sz, client->delivery_count, 2));
    memory_pass(&m, 1);
    cr_assert(eq(sz, client->delivery_count, 3));
    (void)memory_nack(&m, client, 2, 0);
    memory_turn(&m);
    cr_assert(eq(sz, client->delivery_count, 4));
    cr_expect(eq(u32, client->deliveries[3].entry.failures, 3));
}

Test(bus_delivery, a_deadline_is_a_failure_and_an_extension_puts_it_off)
{
    memory_declare(&m, "q",
                   "'topics': ['t'], 'ack_wait_ns': 10000000000, 'retry': {'backoff': {'kind': 'fixed'}}");
    struct memory_client *client = consumer_of(&m, "q", 1);
    say_all(client, "t", "a");
    memory_begin(&m, client);
    memory_pass(&m, 9 * SECOND);
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_EXTEND, 0, 0, 20 * SECOND);
    memory_pass(&m, 19 * SECOND);
    expect_number(&m, "q", "in_flight", 1);
    struct memory_client *other = consumer_of(&m, "q", 1);
    memory_pass(&m, SECOND);
    memory_pass(&m, SECOND);
    expect_got(other, 0, "a");
    cr_expect(eq(u32, attempt_of(other, 0), 2));
    cr_expect(eq(u32, other->deliveries[0].entry.failures, 1));
    (void)memory_ack(&m, client, 0);
    expect_late(client, 0);
    (void)memory_ack(&m, other, 0);
    memory_turn(&m);
    expect_number(&m, "q", "depth", 0);
}

Test(bus_delivery, what_did_not_begin_in_twice_the_time_goes_to_others_and_no_failure_is_counted)
{
    memory_declare(&m, "q", "'topics': ['t'], 'ack_wait_ns': 10000000000");
    struct memory_client *hangs = consumer_of(&m, "q", 1);
    say_all(hangs, "t", "a");
    struct memory_client *other = consumer_of(&m, "q", 1);
    memory_pass(&m, 20 * SECOND - 1);
    expect_got(other, 0, "");
    memory_pass(&m, 1);
    expect_got(other, 0, "a");
    cr_expect(eq(u32, other->deliveries[0].entry.failures, 0));
    cr_expect(eq(u32, attempt_of(other, 0), 2)); /* who hangs may wake up and begin the first */
}

Test(bus_delivery, a_release_hands_it_back_without_a_failure_and_under_another_number)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 1);
    say_all(client, "t", "a");
    memory_begin(&m, client);
    memory_turn(&m);
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_RELEASE, 0, 0, 0);
    memory_turn(&m);
    cr_expect(eq(u32, attempt_of(client, 1), 2));
    cr_expect(eq(u32, client->deliveries[1].entry.failures, 0));
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_RELEASE, 1, 1, 0);
    memory_turn(&m);
    memory_restart(&m, m.record_count);
    client = consumer_of(&m, "q", 1);
    cr_expect(ge(u32, attempt_of(client, 0), 2)); /* the begin that was written down is not undone */
}

Test(bus_delivery, when_a_client_dies_what_it_had_begun_failed_and_the_rest_was_never_given)
{
    memory_declare(&m, "q", "'topics': ['t'], 'retry': {'backoff': {'kind': 'fixed', 'initial_ns': 0}}");
    struct memory_client *client = consumer_of(&m, "q", 10);
    say_all(client, "t", "ab");
    memory_begin(&m, client);
    say_all(client, "t", "cd");
    memory_close(&m, client);
    struct memory_client *other = consumer_of(&m, "q", 10);
    memory_pass(&m, SECOND);
    expect_got(other, 0, "a b c d");
    cr_expect(eq(u32, attempt_of(other, 0), 2));
    cr_expect(eq(u32, other->deliveries[1].entry.failures, 1));
    cr_expect(eq(u32, attempt_of(other, 2), 1));
    cr_expect(eq(u32, other->deliveries[3].entry.failures, 0));
}

Test(bus_delivery, a_consumer_that_ends_keeps_what_it_has_begun_and_gives_back_the_rest)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    say_all(client, "t", "a");
    memory_begin(&m, client);
    say_all(client, "t", "b");
    cr_assert(eq(int, pawl_bus_consume_end(m.bus, m.now, pawl_bus_client(m.bus, client->number), 1), 0));
    struct memory_client *other = consumer_of(&m, "q", 10);
    expect_got(other, 0, "b");
    cr_expect(eq(int, memory_ack(&m, client, 0), 0));
    cr_expect(eq(int, memory_ack(&m, client, 1), 0));
    expect_late(client, 1);
    memory_turn(&m);
    expect_number(&m, "q", "depth", 1);
    cr_expect(eq(int, pawl_bus_consume_end(m.bus, m.now, pawl_bus_client(m.bus, client->number), 1),
                 PAWL_E_NOT_FOUND));
}

Test(bus_delivery, at_most_once_is_settled_by_its_delivery)
{
    memory_declare(&m, "q", "'topics': ['t'], 'guarantee': 'at_most_once'");
    size_t records = m.record_count;
    struct memory_client *client = consumer_of(&m, "q", 10);
    say_all(client, "t", "ab");
    expect_got(client, 0, "a b");
    expect_number(&m, "q", "depth", 0);
    cr_expect(eq(sz, m.record_count, records)); /* nothing of it is ever written */
    memory_close(&m, client);
    client = consumer_of(&m, "q", 10);
    expect_got(client, 0, "");
    cr_expect(eq(sz, m.kept_live, 0));
}

/* ---- strict attempts ---- */

Test(bus_delivery, a_strict_begin_is_durable_before_anybody_sees_it)
{
    memory_declare(&m, "q", "'topics': ['t'], 'strict_attempts': true");
    struct memory_client *client = consumer_of(&m, "q", 1);
    (void)memory_say(&m, client, "t", "a");
    memory_flush(&m);
    memory_sync(&m);
    memory_flush(&m);
    expect_got(client, 0, ""); /* the event is durable, its begin is not */
    memory_sync(&m);
    memory_flush(&m);
    expect_got(client, 0, "a");
    memory_restart(&m, m.durable);
    client = consumer_of(&m, "q", 1);
    cr_expect(eq(u32, attempt_of(client, 0), 2));
}

Test(bus_delivery, no_more_strict_begins_are_asked_for_than_there_is_credit)
{
    memory_declare(&m, "q", "'topics': ['t'], 'strict_attempts': true");
    struct memory_client *client = consumer_of(&m, "q", 2);
    say_all(client, "t", "abcdefgh");
    cr_expect(eq(sz, client->delivery_count, 2));
    size_t claims = 0;
    for (size_t i = 0; i < m.record_count; i++)
        claims += m.records[i].type == PAWL_BUS_RECORD_CLAIM;
    cr_expect(le(sz, claims, 2));
}

/* ---- breaker ---- */

Test(bus_delivery, an_open_breaker_spends_no_attempt_and_probes_close_it)
{
    memory_declare(&m, "q",
                   "'topics': ['t'], 'retry': {'limit': 0, 'backoff': {'kind': 'fixed'}}, 'breaker':"
                   "{'failures': 2, 'successes': 2, 'probes': 2, 'cooldown_ns': 10000000000}");
    struct memory_client *client = consumer_of(&m, "q", 1);
    say_all(client, "t", "abcdef");
    (void)memory_nack(&m, client, 0, 0);
    memory_turn(&m);
    (void)memory_nack(&m, client, 1, 0);
    memory_turn(&m);
    cr_expect(eq(sz, client->delivery_count, 2));
    memory_pass(&m, 10 * SECOND - 1);
    cr_expect(eq(sz, client->delivery_count, 2));
    memory_pass(&m, 1);
    cr_assert(eq(sz, client->delivery_count, 3));
    cr_expect(eq(u32, attempt_of(client, 2), 3)); /* a's third: none was spent while it was open */
    (void)memory_ack(&m, client, 2);
    memory_turn(&m);
    cr_assert(eq(sz, client->delivery_count, 4));
    (void)memory_ack(&m, client, 3);
    memory_turn(&m);
    json_t *shown = memory_request(&m, 0, "{'op': 'queue.show', 'name': 'q'}");
    cr_expect(eq(str, (char *)json_string_value(json_object_get(shown, "breaker")), "closed"));
    json_decref(shown);
}

Test(bus_delivery, a_probe_that_fails_opens_the_breaker_again)
{
    memory_declare(&m, "q",
                   "'topics': ['t'], 'retry': {'limit': 0, 'backoff': {'kind': 'fixed'}}, 'breaker':"
                   "{'failures': 1, 'probes': 1, 'cooldown_ns': 10000000000}");
    struct memory_client *client = consumer_of(&m, "q", 1);
    say_all(client, "t", "ab");
    (void)memory_nack(&m, client, 0, 0);
    memory_pass(&m, 10 * SECOND);
    cr_assert(eq(sz, client->delivery_count, 2));
    (void)memory_nack(&m, client, 1, 0);
    memory_pass(&m, 9 * SECOND);
    cr_expect(eq(sz, client->delivery_count, 2));
    memory_pass(&m, SECOND);
    cr_expect(eq(sz, client->delivery_count, 3));
}

Test(bus_delivery, an_open_breaker_stays_open_over_a_snapshot)
{
    memory_declare(&m, "q",
                   "'topics': ['t'], 'retry': {'limit': 0, 'backoff': {'kind': 'fixed'}}, 'breaker':"
                   "{'failures': 1, 'cooldown_ns': 10000000000}");
    struct memory_client *client = consumer_of(&m, "q", 1);
    say_all(client, "t", "ab");
    (void)memory_nack(&m, client, 0, 0);
    memory_turn(&m);
    memory_snapshot(&m);
    memory_restart(&m, m.record_count);
    client = consumer_of(&m, "q", 1);
    expect_got(client, 0, "");
    memory_pass(&m, 10 * SECOND);
    cr_expect(eq(sz, client->delivery_count, 1));
}

/* ---- many ---- */

Test(bus_delivery, a_hundred_thousand_delayed_events_all_come_in_time)
{
    memory_declare(&m, "q", "'topics': ['t'], 'durability': 'memory'");
    struct memory_client *client = consumer_of(&m, "q", 4096);
    struct memory_publish publish = {.topic = "t", .data = "x"};
    for (uint64_t i = 0; i < 100000; i++) {
        publish.delay_ns = 1 + (i * 7919 % 100000) * 1000;
        (void)memory_publish(&m, client, &publish);
        if (i % 20 == 0)
            pawl_bus_flush(m.bus, m.now);
    }
    memory_turn(&m);
    expect_number(&m, "q", "delayed", 100000);
    uint64_t settled = 0;
    for (int i = 0; i < 40; i++) {
        memory_pass(&m, SECOND / 400);
        while (settled < client->delivery_count) {
            if (client->deliveries[settled].event->delay_ns >
                m.now.realtime_ns - client->deliveries[settled].event->published_at_ns)
                cr_fatal("one came too early");
            (void)memory_settle(&m, client, PAWL_SETTLE_OP_ACK, settled, client->delivery_count - 1, 0);
            settled = client->delivery_count;
            memory_turn(&m);
        }
    }
    cr_expect(eq(u64, settled, 100000));
    expect_number(&m, "q", "depth", 0);
}
