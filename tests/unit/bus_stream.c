/*
 * bus_stream - groups that read a stream each by itself, and how much of it is kept.
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

TestSuite(bus_stream, .init = set_up, .fini = tear_down, .timeout = 300);

static void say(struct memory_client *client, const char *data, uint8_t durability)
{
    struct memory_publish publish = {.topic = "t", .data = data, .durability = durability};
    (void)memory_publish(&m, client, &publish);
}

Test(bus_stream, what_is_settled_does_not_come_again_after_an_event_that_a_restart_lost)
{
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true");
    json_decref(
        memory_request(&m, 0, "{'op': 'group.create', 'queue': 's', 'group': 'g', 'from': 'earliest'}"));
    struct memory_client *publisher = memory_open(&m, 7);
    say(publisher, "lost", PAWL_DURABILITY_MEMORY);
    say(publisher, "settled", PAWL_DURABILITY_DEFAULT);
    say(publisher, "open", PAWL_DURABILITY_DEFAULT);
    memory_turn(&m);
    json_decref(memory_request(&m, 0, "{'op': 'group.seek', 'queue': 's', 'group': 'g', 'to': 'earliest'}"));
    memory_turn(&m);
    struct memory_client *client = memory_open(&m, 0);
    cr_assert(eq(int, memory_consume(&m, client, 1, "s", "g", 10, 0), 0));
    memory_turn(&m);
    expect_got(client, 0, "lost settled open");
    memory_begin(&m, client);
    cr_expect(eq(int, memory_ack(&m, client, 1), 0));
    memory_turn(&m);
    memory_restart(&m, m.record_count);
    cr_expect(eq(i64, memory_number(&m, "s", "g/lag"), 1), "what was lost is not waited for");
    client = memory_open(&m, 0);
    cr_assert(eq(int, memory_consume(&m, client, 1, "s", "g", 10, 0), 0));
    memory_turn(&m);
    expect_got(client, 0, "open");
}

static void say_numbers(struct memory_client *client, int first, int count)
{
    char text[16];
    for (int i = first; i < first + count; i++) {
        snprintf(text, sizeof text, "%d", i);
        (void)memory_say(&m, client, "t", text);
        memory_turn(&m);
    }
}

Test(bus_stream, groups_of_a_stream_read_it_each_by_itself_and_go_on_where_they_were)
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

Test(bus_stream, a_dead_letter_names_the_group_that_gave_it_up)
{
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true");
    struct memory_client *client = memory_open(&m, 0);
    say_numbers(client, 1, 2);
    cr_assert(eq(int, memory_consume(&m, client, 1, "s", "one", 1, 0), 0));
    memory_turn(&m);
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_REJECT, 0, 0, 0);
    struct memory_client *other = memory_open(&m, 0);
    cr_assert(eq(int, memory_consume(&m, other, 1, "s", "two", 1, 0), 0));
    memory_turn(&m);
    (void)memory_settle(&m, other, PAWL_SETTLE_OP_REJECT, 0, 0, 0);
    memory_turn(&m);
    memory_restart(&m, m.record_count);
    static const char *const asked[] = {"{'op': 'dlq.list', 'queue': 's'}",
                                        "{'op': 'dlq.list', 'queue': 's', 'filter': {'group': 'two'}}"};
    static const char *const groups[2][2] = {{"one", "two"}, {"two", NULL}};
    for (int i = 0; i < 2; i++) {
        json_t *list = memory_request(&m, 0, "%s", asked[i]), *letters = json_object_get(list, "events");
        cr_expect(eq(sz, json_array_size(letters), 2 - (size_t)i));
        for (size_t n = 0; n < json_array_size(letters); n++) {
            json_t *letter = json_array_get(letters, n);
            cr_expect(
                eq(str, (char *)json_string_value(json_object_get(letter, "group")), (char *)groups[i][n]));
            cr_expect(eq(sz, json_object_size(json_object_get(letter, "headers")), 0));
        }
        json_decref(list);
    }
}

Test(bus_stream, the_breaker_that_is_shown_of_a_stream_is_the_worst_of_its_groups)
{
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true, 'breaker': {'failures': 1}");
    struct memory_client *client = memory_open(&m, 0);
    say_numbers(client, 1, 2);
    json_decref(memory_request(&m, 0, "{'op': 'group.create', 'queue': 's', 'group': 'well'}"));
    cr_assert(eq(int, memory_consume(&m, client, 1, "s", "ill", 1, 0), 0));
    memory_turn(&m);
    memory_begin(&m, client);
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_NACK, 0, 0, 0);
    memory_turn(&m);
    json_t *shown = memory_request(&m, 0, "{'op': 'queue.show', 'name': 's'}");
    cr_expect(eq(str, (char *)json_string_value(json_object_get(shown, "breaker")), (char *)"open"));
    json_decref(shown);
}

Test(bus_stream, a_group_is_moved_to_an_offset_a_time_or_an_end)
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

Test(bus_stream, a_group_that_asks_to_begin_beyond_the_end_begins_at_the_end)
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

Test(bus_stream, a_stream_keeps_what_is_young_enough_and_small_enough)
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

static void expect_all_of(const char *queue, const char *data)
{
    struct memory_client *client = memory_open(&m, 0);
    cr_assert(eq(int, memory_consume(&m, client, 1, queue, "g", 100, 0), 0));
    memory_turn(&m);
    expect_got(client, 0, data);
}

Test(bus_stream, a_stream_keeps_what_is_young_before_an_event_that_a_restart_lost)
{
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true, 'retain_ns': 3600000000000");
    struct memory_client *client = memory_open(&m, 7);
    say(client, "a", PAWL_DURABILITY_DEFAULT);
    say(client, "b", PAWL_DURABILITY_DEFAULT);
    memory_turn(&m);
    for (int i = 0; i < 9; i++)
        say(client, "lost", PAWL_DURABILITY_MEMORY);
    say(client, "c", PAWL_DURABILITY_DEFAULT);
    memory_turn(&m);
    memory_restart(&m, m.record_count);
    memory_pass(&m, 600 * SECOND);
    client = memory_open(&m, 8);
    say(client, "d", PAWL_DURABILITY_DEFAULT);
    memory_turn(&m);
    expect_all_of("s", "a b c d");
}

Test(bus_stream, a_stream_keeps_what_is_young_though_the_clock_was_wrong_for_a_while)
{
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true, 'retain_ns': 3600000000000");
    struct memory_client *client = memory_open(&m, 0);
    say_numbers(client, 1, 3);
    m.now.realtime_ns -= 5 * 3600 * SECOND;
    say_numbers(client, 4, 3);
    m.now.realtime_ns += 5 * 3600 * SECOND;
    memory_pass(&m, 600 * SECOND);
    say_numbers(client, 7, 1);
    expect_all_of("s", "1 2 3 4 5 6 7");
}

Test(bus_stream, limits_of_a_stream_are_how_much_of_it_is_kept_also_over_restart_and_snapshot)
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

Test(bus_stream, a_stream_that_would_refuse_or_wait_is_refused_itself)
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
