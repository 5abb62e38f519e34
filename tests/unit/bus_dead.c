/*
 * bus_dead - who dies, of what, and what is known of it; what may be done with dead letters.
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

TestSuite(bus_dead, .init = set_up, .fini = tear_down, .timeout = 300);

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

Test(bus_dead, a_rejected_event_is_dead_at_once_and_says_all_about_it)
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
    expect_text(one, "group", "(none)");
    expect_text(one, "reason", "rejected");
    expect_text(one, "error", "no good");
    expect_text(one, "topic", "t");
    expect_text(one, "data", "x");
    expect_text(json_object_get(one, "headers"), "own", "header");
    cr_expect(eq(i64, json_integer_value(json_object_get(one, "attempts")), 1));
    cr_expect(eq(i64, json_integer_value(json_object_get(one, "last_at_ns")), (int64_t)m.now.realtime_ns));
    json_decref(one);
}

Test(bus_dead, after_its_limit_of_failures_an_event_is_dead_with_its_first_and_last_time)
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

Test(bus_dead, a_death_and_its_letter_are_there_both_or_neither_after_a_crash)
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

Test(bus_dead, a_dead_letter_queue_is_bounded_and_its_oldest_are_dropped)
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

Test(bus_dead, redrive_sends_back_all_or_some_or_to_another_queue_and_counts_anew)
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

Test(bus_dead, a_purge_takes_what_nobody_holds)
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

Test(bus_dead, what_brings_the_scheduler_down_each_time_is_dead_in_the_end)
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

/* The log has no bound of its own. */
Test(bus_dead, what_may_be_said_of_every_event_is_said_once_a_second)
{
    m.limits.dlq_depth = 1;
    pawl_bus_set_limits(m.bus, &m.limits);
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 100);
    for (int i = 0; i < 100; i++)
        (void)memory_say(&m, client, "t", "one");
    memory_turn(&m);
    for (uint64_t n = 0; n < 99; n++)
        kill_one(client, n);
    cr_expect(eq(u64, m.lines_logged, 1));
    memory_pass(&m, SECOND);
    kill_one(client, 99);
    cr_expect(eq(u64, m.lines_logged, 2));
    cr_expect(eq(str, m.logged,
                 "(97 times more) queue q.dlq: it is at its limit: its oldest dead letter was dropped"));
    expect_number(&m, "q.dlq", "depth", 1);
}

Test(bus_dead, on_a_full_disk_a_letter_takes_what_acts_may_and_else_the_event_stays)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    for (int i = 0; i < 2; i++)
        (void)memory_say(&m, client, "t", "x");
    memory_turn(&m);
    m.has_room = PAWL_E_NO_SPACE;
    m.spare = 1000;
    kill_one(client, 0);
    expect_number(&m, "q", "dlq_depth", 1);
    m.spare = 0;
    kill_one(client, 1);
    expect_number(&m, "q", "dlq_depth", 1);
    expect_number(&m, "q", "depth", 1);
    cr_expect(eq(str, m.logged,
                 "queue q: an event is dead (rejected), but the disk of its dead-letter queue q.dlq has no "
                 "room for it"));
    m.has_room = 0;
    memory_pass(&m, 60 * SECOND);
    cr_assert(eq(u64, client->delivery_count, 3), "it comes again");
    kill_one(client, 2);
    expect_number(&m, "q", "dlq_depth", 2);
    expect_number(&m, "q", "depth", 0);
}

Test(bus_dead, what_cannot_be_buried_keeps_its_place_in_the_line_of_its_key)
{
    memory_declare(&m, "q", "'topics': ['t'], 'ordering_key': 'k', 'ack_wait_ns': 600000000000");
    struct memory_client *client = consumer_of(&m, "q", 10);
    (void)memory_publish(&m, client,
                         &(struct memory_publish){.topic = "t", .data = "1", .headers = {{"k", "v"}}});
    (void)memory_publish(
        &m, client,
        &(struct memory_publish){.topic = "t", .data = "2", .headers = {{"k", "v"}}, .ttl_ns = SECOND});
    memory_turn(&m);
    m.has_room = PAWL_E_NO_SPACE;
    memory_pass(&m, 2 * SECOND);
    expect_number(&m, "q", "dlq_depth", 0);
    expect_number(&m, "q", "delayed", 0);
    memory_pass(&m, 120 * SECOND);
    cr_assert(eq(u64, client->delivery_count, 1), "the first of its key is in somebody's hands");
    m.has_room = 0;
    memory_pass(&m, 61 * SECOND);
    expect_number(&m, "q", "dlq_depth", 1);
    (void)memory_ack(&m, client, 0);
    memory_turn(&m);
    expect_number(&m, "q", "depth", 0);
}
