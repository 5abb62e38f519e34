/*
 * bus_afterlife - dead letters, detached deliveries, streams, duplicates, and what recovery makes of the log.
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

TestSuite(bus_afterlife, .init = set_up, .fini = tear_down, .timeout = 120);

/* ---- dead letters ---- */

static json_t *letter(const char *queue, size_t index)
{
    json_t *list = memory_request(&m, 0, "{'op': 'dlq.list', 'queue': '%s'}", queue);
    json_t *one = json_incref(json_array_get(json_object_get(list, "events"), index));
    json_decref(list);
    return one;
}

static void expect_text(json_t *json, const char *key, const char *text)
{
    const char *got = json_string_value(json_object_get(json, key));
    cr_expect(eq(str, (char *)(got ? got : "(none)"), (char *)text), "%s", key);
}

static void kill_one(struct memory_client *client, uint64_t number)
{
    static const char words[] = "no good";
    struct pawl_settle settle = {
        .first = number, .last = number, .op = PAWL_SETTLE_OP_REJECT, .text_bytes = sizeof words - 1};
    cr_assert(
        eq(int, pawl_bus_settle(m.bus, m.now, pawl_bus_client(m.bus, client->number), &settle, words), 0));
    memory_turn(&m);
}

Test(bus_afterlife, a_rejected_event_is_dead_at_once_and_says_all_about_it)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    (void)memory_publish(&m, client,
                         &(struct memory_publish){.topic = "t", .data = "x", .headers = {{"own", "header"}}});
    memory_turn(&m);
    kill_one(client, 0);
    expect_number(&m, "q", "depth", 0);
    expect_number(&m, "q", "dlq_depth", 1);
    json_t *one = letter("q", 0);
    expect_text(one, "queue", "q");
    expect_text(one, "reason", "rejected");
    expect_text(one, "error", "no good");
    expect_text(one, "topic", "t");
    expect_text(one, "data", "x");
    expect_text(json_object_get(one, "headers"), "own", "header");
    cr_expect(eq(i64, json_integer_value(json_object_get(one, "attempts")), 1));
    cr_expect(eq(i64, json_integer_value(json_object_get(one, "last_at_ns")), (int64_t)m.now.realtime_ns));
    json_decref(one);
}

Test(bus_afterlife, after_its_limit_of_failures_an_event_is_dead_with_its_first_and_last_time)
{
    memory_declare(&m, "q",
                   "'topics': ['t'], 'retry': {'limit': 3, 'backoff': {'kind': 'fixed', 'initial_ns': 0}}");
    struct memory_client *client = consumer_of(&m, "q", 1);
    (void)memory_say(&m, client, "t", "x");
    memory_turn(&m);
    uint64_t first_ns = m.now.realtime_ns;
    for (uint64_t n = 0; n < 3; n++) {
        cr_assert(eq(sz, client->delivery_count, n + 1));
        (void)memory_nack(&m, client, n, PAWL_SETTLE_POLICY);
        memory_pass(&m, SECOND);
    }
    cr_expect(eq(sz, client->delivery_count, 3));
    json_t *one = letter("q", 0);
    expect_text(one, "reason", "delivery-limit");
    cr_expect(eq(i64, json_integer_value(json_object_get(one, "attempts")), 3));
    cr_expect(eq(i64, json_integer_value(json_object_get(one, "first_at_ns")), (int64_t)first_ns));
    cr_expect(
        eq(i64, json_integer_value(json_object_get(one, "last_at_ns")), (int64_t)(first_ns + 2 * SECOND)));
    json_decref(one);
}

Test(bus_afterlife, a_death_and_its_letter_are_there_both_or_neither_after_a_crash)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 1);
    (void)memory_say(&m, client, "t", "x");
    memory_turn(&m);
    uint64_t before = m.record_count;
    kill_one(client, 0);
    memory_restart(&m, before);
    expect_number(&m, "q", "depth", 1);
    expect_number(&m, "q", "dlq_depth", 0);
    client = consumer_of(&m, "q", 1);
    kill_one(client, 0);
    memory_restart(&m, m.record_count);
    expect_number(&m, "q", "depth", 0);
    expect_number(&m, "q", "dlq_depth", 1);
}

Test(bus_afterlife, a_dead_letter_queue_is_bounded_and_its_oldest_are_dropped)
{
    m.limits.dlq_depth = 3;
    pawl_bus_set_limits(m.bus, &m.limits);
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    for (const char *letters = "abcde"; *letters; letters++)
        (void)memory_say(&m, client, "t", (char[]){*letters, 0});
    memory_turn(&m);
    for (uint64_t n = 0; n < 5; n++)
        kill_one(client, n);
    expect_number(&m, "q.dlq", "depth", 3);
    json_t *one = letter("q", 0);
    expect_text(one, "data", "c");
    json_decref(one);
}

Test(bus_afterlife, redrive_sends_back_all_or_some_or_to_another_queue_and_counts_anew)
{
    memory_declare(&m, "q", "'topics': ['t', 'u']");
    memory_declare(&m, "other", "'topics': ['o']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    (void)memory_say(&m, client, "t", "a");
    (void)memory_say(&m, client, "u", "b");
    (void)memory_say(&m, client, "t", "c");
    memory_turn(&m);
    for (uint64_t n = 0; n < 3; n++)
        kill_one(client, n);
    json_t *reply = memory_request(&m, 0, "{'op': 'dlq.redrive', 'queue': 'q', 'filter': {'topic': 'u'}}");
    cr_expect(eq(i64, json_integer_value(json_object_get(reply, "redriven")), 1));
    json_decref(reply);
    memory_turn(&m);
    expect_got(client, 3, "b");
    cr_expect(eq(u32, attempt_of(client, 3), 1));
    size_t bytes;
    cr_expect(eq(ptr,
                 (void *)(uintptr_t)pawl_event_header_find(client->deliveries[3].event, "pawl-dead-reason",
                                                           16, &bytes),
                 NULL));
    reply = memory_request(&m, 0, "{'op': 'dlq.redrive', 'queue': 'q', 'to': 'other', 'seqs': [1]}");
    cr_expect(eq(i64, json_integer_value(json_object_get(reply, "redriven")), 1));
    json_decref(reply);
    expect_number(&m, "other", "depth", 1);
    json_decref(memory_request(&m, 0, "{'op': 'dlq.redrive', 'queue': 'q'}"));
    memory_turn(&m);
    expect_got(client, 4, "c");
    expect_number(&m, "q.dlq", "depth", 0);
    memory_restart(&m, m.record_count);
    expect_number(&m, "q.dlq", "depth", 0);
    expect_number(&m, "other", "depth", 1);
}

Test(bus_afterlife, a_purge_takes_what_nobody_holds)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 2);
    for (int i = 0; i < 6; i++)
        (void)memory_say(&m, client, "t", "x");
    (void)memory_publish(&m, client,
                         &(struct memory_publish){.topic = "t", .data = "late", .delay_ns = SECOND});
    memory_turn(&m);
    json_t *reply = memory_request(&m, 0, "{'op': 'queue.purge', 'name': 'q'}");
    cr_expect(eq(i64, json_integer_value(json_object_get(reply, "purged")), 5));
    json_decref(reply);
    expect_number(&m, "q", "depth", 2);
    memory_pass(&m, 2 * SECOND);
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_ACK, 0, 1, 0);
    memory_turn(&m);
    cr_expect(eq(sz, client->delivery_count, 2));
    expect_number(&m, "q", "depth", 0);
}

/* ---- detached deliveries ---- */

Test(bus_afterlife, a_detached_delivery_outlives_its_scheduler_and_is_settled_by_its_tag)
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

Test(bus_afterlife, an_extension_of_a_detached_delivery_outlives_its_scheduler_too)
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

/* ---- streams ---- */

static void say_numbers(struct memory_client *client, int first, int count)
{
    char text[16];
    for (int i = first; i < first + count; i++) {
        snprintf(text, sizeof text, "%d", i);
        (void)memory_say(&m, client, "t", text);
        memory_turn(&m);
    }
}

Test(bus_afterlife, groups_of_a_stream_read_it_each_by_itself_and_go_on_where_they_were)
{
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true");
    struct memory_client *client = memory_open(&m, 0);
    say_numbers(client, 1, 4);
    cr_assert(eq(int, memory_consume(&m, client, 1, "s", "one", 10, 0), 0));
    memory_turn(&m);
    expect_got(client, 0, "1 2 3 4");
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_ACK, 0, 1, 0);
    memory_turn(&m);
    expect_number(&m, "s", "one/lag", 2);
    expect_number(&m, "s", "depth", 4);
    memory_restart(&m, m.record_count);
    client = memory_open(&m, 0);
    cr_assert(eq(int, memory_consume(&m, client, 1, "s", "one", 10, 0), 0));
    cr_assert(eq(int, memory_consume(&m, client, 2, "s", "two", 1, 0), 0));
    memory_turn(&m);
    cr_expect(eq(sz, client->delivery_count, 3));
    expect_number(&m, "s", "two/lag", 4);
    expect_number(&m, "s", "one/committed", 3);
}

Test(bus_afterlife, a_group_is_moved_to_an_offset_a_time_or_an_end)
{
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true");
    struct memory_client *client = memory_open(&m, 0);
    say_numbers(client, 1, 3);
    memory_pass(&m, 10 * SECOND);
    uint64_t then_ns = m.now.realtime_ns;
    say_numbers(client, 4, 3);
    json_decref(
        memory_request(&m, 0, "{'op': 'group.create', 'queue': 's', 'group': 'g', 'from': 'latest'}"));
    expect_number(&m, "s", "g/lag", 0);
    json_decref(memory_request(&m, 0,
                               "{'op': 'group.seek', 'queue': 's', 'group': 'g', 'to': {'time_ns': %llu}}",
                               (unsigned long long)then_ns));
    expect_number(&m, "s", "g/committed", 4);
    cr_assert(eq(int, memory_consume(&m, client, 1, "s", "g", 10, 0), 0));
    memory_turn(&m);
    expect_got(client, 0, "4 5 6");
    json_decref(
        memory_request(&m, 0, "{'op': 'group.seek', 'queue': 's', 'group': 'g', 'to': {'offset': 2}}"));
    memory_turn(&m);
    expect_got(client, 3, "2 3 4 5 6");
    cr_expect(eq(int, memory_ack(&m, client, 0), 0));
    expect_late(client, 0); /* it belongs to where the group was */
    json_decref(
        memory_request(&m, 0, "{'op': 'group.commit', 'queue': 's', 'group': 'g', 'offset': 'latest'}"));
    expect_number(&m, "s", "g/lag", 0);
    cr_expect(eq(
        ptr, memory_request(&m, 0, "{'op': 'group.seek', 'queue': 's', 'group': 'g', 'to': {'offset': 99}}"),
        NULL));
    cr_expect(eq(int, m.error, PAWL_E_NOT_FOUND));
}

Test(bus_afterlife, a_group_that_asks_to_begin_beyond_the_end_begins_at_the_end)
{
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true");
    struct memory_client *client = memory_open(&m, 0);
    struct pawl_wire_consume request = {
        .queue = "s", .group = "g", .consumer = 1, .credit = 10, .flags = PAWL_CONSUME_FROM, .from = 50};
    struct pawl_wire_consume_ok ok;
    cr_assert(eq(int,
                 pawl_bus_consume(m.bus, m.now, pawl_bus_client(m.bus, client->number), &request, &ok, m.why),
                 0));
    say_numbers(client, 1, 2);
    expect_got(client, 0, "1 2");
}

Test(bus_afterlife, a_stream_keeps_what_is_young_enough_and_small_enough)
{
    memory_declare(&m, "age", "'topics': ['t'], 'stream': true, 'retain_ns': 10000000000");
    memory_declare(&m, "size", "'topics': ['t'], 'stream': true, 'retain_bytes': 1000");
    struct memory_client *client = memory_open(&m, 0);
    for (int i = 0; i < 40; i++) {
        say_numbers(client, i, 1);
        memory_pass(&m, SECOND);
    }
    int64_t kept = memory_number(&m, "age", "depth");
    cr_expect(ge(i64, kept, 9));
    cr_expect(le(i64, kept, 12));
    cr_expect(le(i64, memory_number(&m, "size", "bytes"), 1100));
    cr_expect(ge(i64, memory_number(&m, "size", "depth"), 5));
    cr_assert(eq(int, memory_consume(&m, client, 1, "age", "g", 100, 0), 0));
    memory_turn(&m);
    cr_expect(eq(i64, (int64_t)client->delivery_count, kept));
    memory_restart(&m, m.record_count);
    expect_number(&m, "age", "depth", kept);
}

Test(bus_afterlife, limits_of_a_stream_are_how_much_of_it_is_kept_also_over_restart_and_snapshot)
{
    memory_declare(&m, "few", "'topics': ['t'], 'stream': true, 'max_depth': 5");
    memory_declare(&m, "small", "'topics': ['t'], 'stream': true, 'max_bytes': 1000");
    memory_declare(&m, "all", "'topics': ['t'], 'stream': true");
    struct memory_client *client = memory_open(&m, 0);
    say_numbers(client, 1, 40);
    cr_expect(eq(u64, memory_reply(client, PAWL_REPLY_CONFIRM, 40)->routed, 3), "nothing is refused");
    for (int round = 0; round < 3; round++) {
        expect_number(&m, "few", "depth", 5);
        cr_expect(le(i64, memory_number(&m, "small", "bytes"), 1000 + 1000 / 64));
        cr_expect(ge(i64, memory_number(&m, "small", "depth"), 5));
        expect_number(&m, "all", "depth", 40 + round);
        if (round == 0)
            memory_snapshot(&m);
        memory_restart(&m, m.record_count);
        client = memory_open(&m, 0);
        say_numbers(client, 41 + round, 1);
    }
    cr_assert(eq(int, memory_consume(&m, client, 1, "few", "g", 100, 0), 0));
    memory_turn(&m);
    expect_got(client, 0, "39 40 41 42 43");
    /* It is declared anew, and keeps less. */
    memory_declare(&m, "few", "'topics': ['t'], 'stream': true, 'max_depth': 2");
    say_numbers(client, 44, 1);
    expect_number(&m, "few", "depth", 2);
    memory_declare(&m, "few", "'topics': ['t'], 'stream': true, 'max_depth': 4");
    say_numbers(client, 45, 9);
    expect_number(&m, "few", "depth", 4);
}

Test(bus_afterlife, a_stream_that_would_refuse_or_wait_is_refused_itself)
{
    static const char *const settings[] = {"'overflow': 'block'", "'overflow': 'reject'",
                                           "'overflow': 'drop_newest'", "'overflow': 'dead_letter'",
                                           "'overflow_topics': {'a': 'block'}"};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        json_decref(
            memory_request(&m, 0,
                           "{'op': 'queue.declare', 'name': 's', 'config': {'topics': ['t'], 'stream':"
                           "true, 'max_depth': 5, %s}}",
                           settings[i]));
        cr_expect(eq(int, m.error, PAWL_E_INVALID), "%s", settings[i]);
        cr_expect(ne(ptr, strstr(m.why, "oldest"), NULL), "%s", m.why);
    }
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true, 'max_depth': 5, 'overflow': 'drop_oldest'");
}

/* ---- duplicates ---- */

Test(bus_afterlife, a_key_is_taken_once_within_its_window_also_over_restart_and_snapshot)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = memory_open(&m, 0);
    struct memory_publish publish = {.topic = "t", .data = "x", .key = "k1"};
    uint64_t first = memory_publish(&m, client, &publish), second = memory_publish(&m, client, &publish);
    memory_flush(&m);
    expect_unanswered(client, second); /* the first one is not durable yet */
    memory_turn(&m);
    cr_expect(eq(u32, memory_reply(client, PAWL_REPLY_CONFIRM, first)->flags, 0));
    cr_expect(eq(u32, memory_reply(client, PAWL_REPLY_CONFIRM, second)->flags, PAWL_REPLY_DUPLICATE));
    cr_expect(eq(u64, memory_reply(client, PAWL_REPLY_CONFIRM, second)->event_id,
                 memory_reply(client, PAWL_REPLY_CONFIRM, first)->event_id));
    memory_restart(&m, m.record_count);
    client = memory_open(&m, 0);
    (void)memory_publish(&m, client, &publish);
    memory_turn(&m);
    memory_snapshot(&m);
    memory_restart(&m, m.record_count);
    client = memory_open(&m, 0);
    (void)memory_publish(&m, client, &publish);
    memory_turn(&m);
    expect_number(&m, "q", "depth", 1);
    memory_pass(&m, m.limits.dedupe_age_ns);
    (void)memory_publish(&m, client, &publish);
    memory_turn(&m);
    expect_number(&m, "q", "depth", 2);
}

Test(bus_afterlife, without_a_window_no_key_is_a_duplicate)
{
    m.limits.dedupe_keys = 0;
    memory_restart(&m, m.record_count);
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = memory_open(&m, 0);
    (void)memory_publish(&m, client, &(struct memory_publish){.topic = "t", .key = "k"});
    (void)memory_publish(&m, client, &(struct memory_publish){.topic = "t", .key = "k"});
    memory_turn(&m);
    expect_number(&m, "q", "depth", 2);
}

Test(bus_afterlife, what_a_publisher_sends_again_is_known_by_its_sequence_and_confirmed_when_it_is_durable)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = memory_open(&m, 77);
    uint64_t sequence = memory_say(&m, client, "t", "x");
    memory_flush(&m);
    memory_close(&m, client); /* it lost its connection before the confirm */
    client = memory_open(&m, 77);
    cr_expect(eq(u64, client->sequence, 0), "it is not durable yet");
    struct memory_publish again = {.topic = "t", .data = "x", .sequence = sequence};
    (void)memory_publish(&m, client, &again);
    expect_unanswered(client, sequence);
    memory_turn(&m);
    cr_expect(eq(u32, memory_reply(client, PAWL_REPLY_CONFIRM, sequence)->flags, PAWL_REPLY_DUPLICATE));
    memory_snapshot(&m);
    memory_restart(&m, m.record_count);
    client = memory_open(&m, 77);
    (void)memory_publish(&m, client, &again);
    memory_turn(&m);
    expect_number(&m, "q", "depth", 1);
}

Test(bus_afterlife, what_was_blocked_and_stored_at_last_is_known_when_it_is_sent_again)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = memory_open(&m, 77), *consumer = consumer_of(&m, "q", 1);
    (void)memory_say(&m, client, "t", "a");
    uint64_t blocked = memory_say(&m, client, "t", "b");
    memory_turn(&m);
    (void)memory_ack(&m, consumer, 0);
    memory_turn(&m);
    expect_got(consumer, 0, "a b");
    memory_restart(&m, m.record_count);
    client = memory_open(&m, 77);
    cr_expect(eq(u64, client->sequence, blocked));
}

/* ---- temporary queues, interruptions ---- */

Test(bus_afterlife, a_temporary_queue_ends_with_its_client_or_with_the_scheduler)
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

Test(bus_afterlife, what_brings_the_scheduler_down_each_time_is_dead_in_the_end)
{
    memory_declare(&m, "q", "'topics': ['t'], 'interruptions': 3");
    struct memory_client *client = memory_open(&m, 0);
    (void)memory_say(&m, client, "t", "x");
    memory_turn(&m);
    for (uint32_t life = 1; life <= 4; life++) {
        expect_number(&m, "q", "depth", 1);
        client = consumer_of(&m, "q", 1);
        cr_expect(eq(u32, attempt_of(client, 0), life));
        cr_expect(eq(u32, client->deliveries[0].entry.failures, 0)); /* it is nobody's failure */
        memory_begin(&m, client);
        memory_turn(&m);
        if (life == 2)
            memory_snapshot(&m);
        memory_restart(&m, m.record_count);
    }
    expect_number(&m, "q", "depth", 0);
    json_t *one = letter("q", 0);
    expect_text(one, "reason", "interrupted");
    json_decref(one);
}

/* ---- recovery ---- */

Test(bus_afterlife, events_that_were_in_memory_only_are_gone_after_a_restart_and_disturb_nothing)
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

Test(bus_afterlife, records_applied_twice_are_as_once_at_every_prefix)
{
    live();
    cr_assert(ge(sz, m.record_count, 60));
    for (size_t lsn = 1; lsn <= m.record_count; lsn += 3)
        expect_same(memory_describe(&m, memory_recover(&m, lsn, false, 1), 50),
                    memory_describe(&m, memory_recover(&m, lsn, false, 2), 50), lsn, "twice");
}

Test(bus_afterlife, a_snapshot_and_the_later_records_are_as_all_records)
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

static bool compact(void)
{
    bool some =
        pawl_bus_compact(m.bus, m.now, (uint32_t)(m.record_count / MEMORY_RECORDS_A_SEGMENT + 1), 1 << 20);
    memory_turn(&m);
    return some;
}

static void say_many(struct memory_client *client, int first, int count)
{
    char text[16];
    for (int i = first; i < first + count; i++) {
        snprintf(text, sizeof text, "e%d", i);
        (void)memory_say(&m, client, "t", text);
        if (i % 4 == 3)
            memory_turn(&m);
    }
    memory_turn(&m);
}

Test(bus_afterlife, what_consumers_are_about_to_reach_is_not_copied_forward)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 200);
    say_many(client, 0, 2000);
    for (uint64_t n = 0; n < 1600; n += 200) { /* a segment of the log holds fewer */
        (void)memory_settle(&m, client, PAWL_SETTLE_OP_ACK, n, n + 199, 0);
        memory_turn(&m);
        size_t records = m.record_count;
        cr_expect(not(compact()), "after %llu", (unsigned long long)n);
        cr_expect(eq(sz, m.record_count, records));
    }
    /* Nobody takes them any more. */
    cr_expect(compact());
}

Test(bus_afterlife, what_was_passed_and_is_not_settled_is_copied_forward_while_others_are_consumed)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 201);
    say_many(client, 0, 2000);
    for (uint64_t n = 0; n < 1600; n += 200) {
        (void)memory_settle(&m, client, PAWL_SETTLE_OP_ACK, n ? n : 1, n + 199, 0);
        memory_turn(&m);
        size_t records = m.record_count;
        cr_expect(eq(int, compact(), n == 200), "after %llu", (unsigned long long)n);
        cr_expect(eq(sz, m.record_count, records + (n == 200)));
    }
    expect_number(&m, "q", "depth", 401);
}

Test(bus_afterlife, a_run_that_is_copied_forward_is_one_stretch_again)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = memory_open(&m, 7);
    say_many(client, 0, 400);
    int64_t bytes = memory_number(&m, "q", "bytes");
    memory_snapshot(&m);
    size_t before = 0, after = 0;
    for (size_t i = 0; i < m.chunk_count; i++)
        before += m.chunks[i].n;
    uint32_t end = (uint32_t)(m.record_count / MEMORY_RECORDS_A_SEGMENT + 1);
    while (pawl_bus_compact(m.bus, m.now, end, 1 << 20))
        memory_turn(&m);
    memory_snapshot(&m);
    for (size_t i = 0; i < m.chunk_count; i++)
        after += m.chunks[i].n;
    /* Each was a record, and each segment of the log begins a stretch: 40 bytes. */
    cr_expect(le(sz, after, before + (400 / MEMORY_RECORDS_A_SEGMENT + 1) * 40));
    expect_number(&m, "q", "bytes", bytes);
    memory_restart(&m, m.record_count);
    client = consumer_of(&m, "q", 4000);
    cr_assert(eq(sz, client->delivery_count, 400));
    for (uint64_t n = 0; n < 400; n++) {
        char text[16];
        snprintf(text, sizeof text, "e%d", (int)n);
        cr_assert(eq(str, (char *)memory_data(client, n), text));
    }
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_ACK, 0, 399, 0);
    memory_turn(&m);
    expect_number(&m, "q", "depth", 0);
    expect_number(&m, "q", "bytes", 0);
}

Test(bus_afterlife, what_is_copied_forward_stays_readable_when_its_segments_go)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 4000);
    char text[16];
    for (int i = 0; i < 200; i++) {
        snprintf(text, sizeof text, "e%d", i);
        (void)memory_say(&m, client, "t", text);
        if (i % 4 == 3)
            memory_turn(&m);
    }
    memory_turn(&m);
    for (uint64_t n = 0; n < 200; n++)
        if (n % 17 != 5)
            (void)memory_ack(&m, client, n);
    memory_turn(&m);
    int64_t depth = memory_number(&m, "q", "depth"), bytes = memory_number(&m, "q", "bytes");
    memory_snapshot(&m);
    for (int i = 0; i < 50; i++)
        (void)pawl_bus_compact(m.bus, m.now, (uint32_t)(m.record_count / MEMORY_RECORDS_A_SEGMENT + 1), 200);
    memory_turn(&m);
    memory_snapshot(&m);
    cr_expect(ge(sz, memory_release_segments(&m), 1));
    expect_number(&m, "q", "depth", depth);
    expect_number(&m, "q", "bytes", bytes);
    memory_restart(&m, m.record_count);
    client = consumer_of(&m, "q", 4000);
    expect_got(client, 0, "e5 e22 e39 e56 e73 e90 e107 e124 e141 e158 e175 e192");
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_ACK, 0, client->delivery_count - 1, 0);
    memory_turn(&m);
    expect_number(&m, "q", "depth", 0);
    expect_number(&m, "q", "bytes", 0);
}
