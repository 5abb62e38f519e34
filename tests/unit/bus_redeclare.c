/*
 * bus_redeclare - a new declaration goes for what waits already, at once: nobody has to publish, consume or
 * restart for it.
 */
#include "scheduler/bus/state.h"
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

TestSuite(bus_redeclare, .init = set_up, .fini = tear_down, .timeout = 300);

static struct memory_client *with_events(int count)
{
    char text[16];
    struct memory_client *client = memory_open(&m, 0);
    for (int i = 1; i <= count; i++) {
        snprintf(text, sizeof text, "%d", i);
        (void)memory_say(&m, client, "t", text);
    }
    memory_turn(&m);
    return client;
}

/* ---- streams ---- */

Test(bus_redeclare, a_stream_that_is_to_keep_less_lets_the_rest_go_with_the_declaration)
{
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true");
    (void)with_events(100);
    memory_declare(&m, "s", "'retain_events': 10");
    memory_turn(&m);
    expect_number(&m, "s", "depth", 10);
    memory_declare(&m, "s", "'retain_bytes': 300");
    memory_turn(&m);
    cr_expect(lt(i64, memory_number(&m, "s", "depth"), 10));
}

Test(bus_redeclare, events_that_are_older_than_a_stream_shall_keep_from_now_on_go_with_the_declaration)
{
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true");
    (void)with_events(3);
    memory_pass(&m, 10 * SECOND);
    memory_declare(&m, "s", "'retain_ns': 5000000000");
    memory_turn(&m);
    expect_number(&m, "s", "depth", 0);
}

Test(bus_redeclare, a_shorter_retention_is_not_looked_after_at_the_pace_of_the_longer_one)
{
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true, 'retain_ns': 360000000000000");
    (void)with_events(3);
    memory_declare(&m, "s", "'retain_ns': 5000000000");
    memory_turn(&m);
    expect_number(&m, "s", "depth", 3);
    memory_pass(&m, 7 * SECOND);
    expect_number(&m, "s", "depth", 0);
}

Test(bus_redeclare, declaring_a_retention_often_leaves_one_timer_of_it)
{
    char retention[64];
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true, 'retain_ns': 3600000000000");
    (void)with_events(3);
    for (int i = 0; i < 50; i++) {
        snprintf(retention, sizeof retention, "'retain_ns': %d000000000", 3600 + i);
        memory_declare(&m, "s", retention);
        memory_turn(&m);
    }
    memory_pass(&m, 900 * SECOND);
    size_t timers = pawl_bus_timers_count(&m.bus->timers);
    memory_pass(&m, 900 * SECOND);
    cr_expect(le(sz, timers, 2));
    cr_expect(le(sz, pawl_bus_timers_count(&m.bus->timers), 2));
    expect_number(&m, "s", "depth", 3);
}

/* ---- limits of delivery ---- */

Test(bus_redeclare, what_waits_expires_by_a_shorter_time_to_live)
{
    memory_declare(&m, "q", "'topics': ['t'], 'ttl_ns': 3600000000000");
    (void)with_events(3);
    memory_declare(&m, "q", "'ttl_ns': 5000000000");
    memory_turn(&m);
    expect_number(&m, "q", "depth", 3);
    memory_pass(&m, 6 * SECOND);
    expect_number(&m, "q", "depth", 0);
    expect_number(&m, "q", "dlq_depth", 3);
}

Test(bus_redeclare, what_waits_for_its_turn_by_a_low_rate_comes_by_a_higher_one)
{
    memory_declare(&m, "q", "'topics': ['t'], 'rate': {'count': 1, 'per_ns': 3600000000000}");
    struct memory_client *client = consumer_of(&m, "q", 10);
    for (int i = 1; i <= 3; i++)
        (void)memory_say(&m, client, "t", i == 1 ? "1" : i == 2 ? "2" : "3");
    memory_turn(&m);
    expect_got(client, 0, "1");
    memory_declare(&m, "q", "'rate': {'count': 10, 'per_ns': 1000000000}");
    memory_pass(&m, SECOND);
    expect_got(client, 0, "1 2 3");
}

Test(bus_redeclare, a_rate_that_is_changed_does_not_fill_the_bucket)
{
    memory_declare(&m, "q", "'topics': ['t'], 'rate': {'count': 2, 'per_ns': 2000000000}");
    struct memory_client *client = consumer_of(&m, "q", 10);
    for (int i = 0; i < 6; i++)
        (void)memory_say(&m, client, "t", "x");
    memory_turn(&m);
    cr_expect(eq(sz, client->delivery_count, 2));
    memory_declare(&m, "q", "'rate': {'count': 3, 'per_ns': 3000000000}");
    memory_turn(&m);
    cr_expect(le(sz, client->delivery_count, 3));
    memory_pass(&m, SECOND);
    cr_expect(le(sz, client->delivery_count, 4));
}

Test(bus_redeclare, an_open_breaker_waits_no_longer_than_its_new_cooldown)
{
    memory_declare(&m, "q",
                   "'topics': ['t'], 'breaker': {'failures': 1, 'cooldown_ns': 3600000000000},"
                   "'retry': {'backoff': {'kind': 'fixed', 'initial_ns': 0}}");
    struct memory_client *client = consumer_of(&m, "q", 1);
    (void)memory_say(&m, client, "t", "x");
    memory_turn(&m);
    memory_begin(&m, client);
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_NACK, 0, 0, 0);
    memory_pass(&m, SECOND);
    cr_expect(eq(sz, client->delivery_count, 1));
    memory_declare(&m, "q", "'breaker': {'failures': 1, 'cooldown_ns': 5000000000}");
    memory_pass(&m, 6 * SECOND);
    cr_expect(eq(sz, client->delivery_count, 2));
}

/* ---- publishes that wait for room ---- */

/* A queue of one event that blocks, with "first" in it and "second" before its door. */
static uint64_t second_waits(struct memory_client *client)
{
    (void)memory_say(&m, client, "t", "first");
    uint64_t sequence = memory_say(&m, client, "t", "second");
    memory_turn(&m);
    expect_unanswered(client, sequence);
    return sequence;
}

Test(bus_redeclare, what_waits_for_room_is_refused_when_the_policy_becomes_reject)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = memory_open(&m, 0);
    uint64_t sequence = second_waits(client);
    memory_declare(&m, "q", "'overflow': 'reject'");
    memory_turn(&m);
    expect_refused(client, sequence, PAWL_E_QUEUE_FULL);
    expect_number(&m, "q", "blocked_publishes", 0);
    expect_number(&m, "q", "depth", 1);
}

Test(bus_redeclare, what_waits_for_room_takes_the_place_of_the_oldest_when_the_policy_becomes_drop_oldest)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = memory_open(&m, 0);
    uint64_t sequence = second_waits(client);
    memory_declare(&m, "q", "'overflow': 'drop_oldest'");
    memory_turn(&m);
    const struct pawl_reply *reply = memory_reply(client, PAWL_REPLY_CONFIRM, sequence);
    cr_assert(ne(ptr, (void *)(uintptr_t)reply, NULL));
    cr_expect(eq(u32, reply->routed, 1));
    cr_assert(eq(int, memory_consume(&m, client, 1, "q", "", 10, 0), 0));
    memory_turn(&m);
    expect_got(client, 0, "second");
}

Test(bus_redeclare, what_waits_for_room_is_dropped_when_the_policy_becomes_drop_newest)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = memory_open(&m, 0);
    uint64_t sequence = second_waits(client);
    memory_declare(&m, "q", "'overflow': 'drop_newest'");
    memory_turn(&m);
    const struct pawl_reply *reply = memory_reply(client, PAWL_REPLY_CONFIRM, sequence);
    cr_assert(ne(ptr, (void *)(uintptr_t)reply, NULL));
    cr_expect(eq(u32, reply->routed, 0));
    cr_expect(eq(u64, reply->event_id, 0), "it lies nowhere");
    expect_number(&m, "q", "depth", 1);
}

Test(bus_redeclare, what_waits_for_room_is_a_dead_letter_when_the_policy_becomes_dead_letter)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = memory_open(&m, 0);
    uint64_t sequence = second_waits(client);
    memory_declare(&m, "q", "'overflow': 'dead_letter'");
    memory_turn(&m);
    const struct pawl_reply *reply = memory_reply(client, PAWL_REPLY_CONFIRM, sequence);
    cr_assert(ne(ptr, (void *)(uintptr_t)reply, NULL));
    cr_expect(eq(u32, reply->routed, 0));
    cr_expect(ne(u64, reply->event_id, 0));
    expect_number(&m, "q", "depth", 1);
    expect_number(&m, "q", "dlq_depth", 1);
}

Test(bus_redeclare, only_the_topics_whose_policy_changed_wait_no_longer)
{
    memory_declare(&m, "q", "'topics': ['t', 'u'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = memory_open(&m, 0);
    uint64_t waits = second_waits(client), other = memory_say(&m, client, "u", "other"),
             last = memory_say(&m, client, "t", "last");
    memory_turn(&m);
    memory_declare(&m, "q", "'overflow_topics': {'u': 'reject'}");
    memory_turn(&m);
    expect_unanswered(client, waits);
    expect_unanswered(client, last);
    expect_refused(client, other, PAWL_E_QUEUE_FULL);
    expect_number(&m, "q", "blocked_publishes", 2);
    memory_declare(&m, "q", "'max_depth': 3");
    memory_turn(&m);
    expect_confirmed(client, waits);
    expect_confirmed(client, last);
    cr_assert(eq(int, memory_consume(&m, client, 1, "q", "", 10, 0), 0));
    memory_turn(&m);
    expect_got(client, 0, "first second last");
}

Test(bus_redeclare, a_publish_that_another_queue_has_is_confirmed_with_what_that_one_took)
{
    memory_declare(&m, "full", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    memory_declare(&m, "roomy", "'topics': ['t']");
    struct memory_client *client = memory_open(&m, 0);
    uint64_t sequence = second_waits(client);
    memory_declare(&m, "full", "'overflow': 'reject'");
    memory_turn(&m);
    const struct pawl_reply *reply = memory_reply(client, PAWL_REPLY_CONFIRM, sequence);
    cr_assert(ne(ptr, (void *)(uintptr_t)reply, NULL));
    cr_expect(eq(u32, reply->routed, 1));
    cr_expect(eq(int, refusal(client, PAWL_REPLY_PARTIAL, sequence), PAWL_E_QUEUE_FULL));
    expect_number(&m, "roomy", "depth", 2);
}

/* ---- whether it could be ---- */

/* A configuration is taken up as a whole: what one of its queues is refused for is found before. */
Test(bus_redeclare, what_a_full_disk_refuses_to_declare_it_refuses_to_a_question_too)
{
    static const char *const checks[] = {
        "{'op': 'queue.declare', 'check': true, 'name': 'new', 'config': {'topics': ['t']}}",
        "{'op': 'queue.declare', 'check': true, 'name': 'q', 'config': {'topics': ['t'], 'max_depth': 7}}",
        "{'op': 'queue.declare', 'check': true, 'name': 'q', 'config': {'topics': ['t']}}",
    };
    memory_declare(&m, "q", "'topics': ['t']");
    m.has_room = PAWL_E_NO_SPACE;
    for (int i = 0; i < 3; i++) {
        json_t *reply = memory_request(&m, 0, "%s", checks[i]);
        cr_expect(eq(int, reply == NULL, i < 2), "%s", checks[i]);
        cr_expect(eq(int, m.error, i < 2 ? PAWL_E_NO_SPACE : 0));
        json_decref(reply);
    }
}
