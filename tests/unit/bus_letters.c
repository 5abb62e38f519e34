/*
 * bus_letters - how much of a dead-letter queue one request may list, redrive or purge.
 */
#include "tests/unit/bus_support.h"

enum { MIB = 1 << 20, LETTERS = 20 };

static struct memory m;
static char big[9 * MIB];

static void set_up(void)
{
    memory_init(&m);
    m.limits.event_payload_bytes = 16 * MIB;
    pawl_bus_set_limits(m.bus, &m.limits);
    memory_declare(&m, "q", "'topics': ['t']");
    memset(big, 'x', sizeof big);
}

static void tear_down(void)
{
    memory_fini(&m);
}

TestSuite(bus_letters, .init = set_up, .fini = tear_down, .timeout = 300);

static void bury(size_t data_bytes, int count)
{
    struct memory_client *client = consumer_of(&m, "q", 100);
    for (int i = 0; i < count; i++)
        memory_publish(&m, client,
                       &(struct memory_publish){.topic = "t", .data = big, .data_bytes = data_bytes});
    memory_turn(&m);
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_REJECT, 0, (uint64_t)count - 1, 0);
    memory_turn(&m);
    expect_number(&m, "q", "dlq_depth", count);
    memory_close(&m, client);
}

static int64_t number_of(json_t *reply, const char *key)
{
    return json_integer_value(json_object_get(reply, key));
}

static size_t bytes_written(size_t from_record)
{
    size_t bytes = 0;
    for (size_t i = from_record; i < m.record_count; i++)
        bytes += m.records[i].bytes;
    return bytes;
}

Test(bus_letters, a_step_of_a_redrive_writes_no_more_than_8_mib_and_says_where_to_go_on)
{
    int64_t from = 0, moved = 0;
    int steps = 0;
    bury(MIB, LETTERS);
    do {
        size_t records = m.record_count;
        json_t *reply =
            memory_request(&m, 0, "{'op': 'dlq.redrive', 'queue': 'q', 'from': %lld}", (long long)from);
        cr_assert(ne(ptr, (void *)reply, NULL), "%s", m.why);
        cr_expect(le(sz, bytes_written(records), 8 * MIB));
        cr_expect(ge(i64, number_of(reply, "redriven"), 1));
        cr_expect(eq(i64, number_of(reply, "skipped"), 0));
        moved += number_of(reply, "redriven");
        from = number_of(reply, "next");
        json_decref(reply);
        memory_turn(&m);
        steps++;
    } while (from > 0 && steps < LETTERS);
    cr_expect(eq(i64, moved, LETTERS));
    cr_expect(eq(int, steps, 3));
    expect_number(&m, "q", "depth", LETTERS);
    expect_number(&m, "q", "dlq_depth", 0);
}

Test(bus_letters, a_redrive_by_number_goes_on_after_those_that_it_did)
{
    int64_t from = 0, moved = 0, skipped = 0;
    int steps = 0;
    bury(MIB, 10);
    do {
        json_t *reply = memory_request(&m, 0,
                                       "{'op': 'dlq.redrive', 'queue': 'q', 'from': %lld,"
                                       "'seqs': [10, 9, 8, 7, 6, 5, 4, 3, 2, 99]}",
                                       (long long)from);
        cr_assert(ne(ptr, (void *)reply, NULL), "%s", m.why);
        moved += number_of(reply, "redriven");
        skipped += number_of(reply, "skipped");
        from = number_of(reply, "next");
        json_decref(reply);
        steps++;
    } while (from > 0 && steps < LETTERS);
    memory_turn(&m);
    cr_expect(eq(i64, moved, 9));
    cr_expect(eq(i64, skipped, 0));
    cr_expect(eq(int, steps, 2));
    expect_number(&m, "q", "dlq_depth", 1);
}

Test(bus_letters, a_letter_larger_than_a_step_is_a_step_by_itself)
{
    bury(9 * MIB, 2);
    json_t *reply = memory_request(&m, 0, "{'op': 'dlq.redrive', 'queue': 'q'}");
    cr_expect(eq(i64, number_of(reply, "redriven"), 1));
    cr_expect(eq(i64, number_of(reply, "next"), 2));
    json_decref(reply);
    reply = memory_request(&m, 0, "{'op': 'dlq.redrive', 'queue': 'q', 'from': 2}");
    cr_expect(eq(i64, number_of(reply, "redriven"), 1));
    cr_expect(eq(i64, number_of(reply, "next"), 0));
    json_decref(reply);
}

Test(bus_letters, a_list_holds_no_more_than_8_mib_and_all_its_pages_are_all_letters)
{
    int64_t from = 0;
    size_t listed = 0, pages = 0;
    bury(MIB, LETTERS);
    do {
        json_t *reply =
            memory_request(&m, 0, "{'op': 'dlq.list', 'queue': 'q', 'from': %lld}", (long long)from);
        cr_assert(ne(ptr, (void *)reply, NULL), "%s", m.why);
        cr_expect(le(sz, json_array_size(json_object_get(reply, "events")), 8));
        listed += json_array_size(json_object_get(reply, "events"));
        from = number_of(reply, "next");
        json_decref(reply);
        pages++;
    } while (from > 0 && pages < LETTERS);
    cr_expect(eq(sz, listed, LETTERS));
}

Test(bus_letters, a_redrive_is_refused_where_the_disk_has_no_room)
{
    bury(10, 2);
    m.has_room = PAWL_E_NO_SPACE;
    json_t *reply = memory_request(&m, 0, "{'op': 'dlq.redrive', 'queue': 'q'}");
    cr_expect(eq(ptr, (void *)reply, NULL));
    cr_expect(eq(int, m.error, PAWL_E_NO_SPACE));
    json_decref(reply);
    expect_number(&m, "q", "dlq_depth", 2);
}

/* A request until it says that it was all; how many steps that took. *count_out: of @key, *skipped_out. */
static int in_steps(const char *op, const char *more, const char *key, int64_t *count_out,
                    int64_t *skipped_out)
{
    int64_t from = 0;
    int steps = 0;
    *count_out = *skipped_out = 0;
    do {
        json_t *reply =
            memory_request(&m, 0, "{'op': '%s', 'queue': 'q', 'from': %lld%s}", op, (long long)from, more);
        cr_assert(ne(ptr, (void *)reply, NULL), "%s", m.why);
        const json_t *events = json_object_get(reply, "events");
        *count_out += events ? (int64_t)json_array_size(events) : number_of(reply, key);
        *skipped_out += number_of(reply, "skipped");
        cr_assert(number_of(reply, "next") == 0 || number_of(reply, "next") > from);
        from = number_of(reply, "next");
        json_decref(reply);
        memory_turn(&m);
        steps++;
    } while (from > 0 && steps < 1000);
    return steps;
}

Test(bus_letters, a_step_of_a_purge_reads_no_more_than_8_mib_and_says_where_to_go_on)
{
    int64_t purged, skipped;
    bury(MIB, LETTERS);
    cr_expect(
        eq(int, in_steps("dlq.purge", ", 'filter': {'reason': 'expired'}", "purged", &purged, &skipped), 3));
    cr_expect(eq(i64, purged, 0));
    expect_number(&m, "q", "dlq_depth", LETTERS);
    cr_expect(
        eq(int, in_steps("dlq.purge", ", 'filter': {'reason': 'rejected'}", "purged", &purged, &skipped), 3));
    cr_expect(eq(i64, purged, LETTERS));
    cr_expect(eq(i64, skipped, 0));
    expect_number(&m, "q", "dlq_depth", 0);
}

Test(bus_letters, a_purge_by_number_goes_on_after_those_that_it_did)
{
    int64_t purged, skipped;
    bury(MIB, 10);
    cr_expect(eq(
        int, in_steps("dlq.purge", ", 'seqs': [10, 9, 8, 7, 6, 5, 4, 3, 2, 99]", "purged", &purged, &skipped),
        2));
    cr_expect(eq(i64, purged, 9));
    expect_number(&m, "q", "dlq_depth", 1);
}

enum { SMALL = 10000, A_STEP = 4096 };

static void bury_many(void)
{
    for (int left = SMALL; left > 0; left -= 1000) {
        struct memory_client *client = consumer_of(&m, "q", 1000);
        for (int i = 0; i < 1000; i++)
            (void)memory_say(&m, client, "t", i % 10 ? "x" : "y");
        memory_turn(&m);
        (void)memory_settle(&m, client, PAWL_SETTLE_OP_REJECT, 0, 999, 0);
        memory_turn(&m);
        memory_close(&m, client);
    }
    expect_number(&m, "q", "dlq_depth", SMALL);
}

Test(bus_letters, no_step_looks_at_more_than_4096_letters_whatever_passes_the_filter)
{
    static const char *const ops[][2] = {
        {"dlq.list", "events"}, {"dlq.redrive", "redriven"}, {"dlq.purge", "purged"}};
    int64_t count, skipped;
    bury_many();
    for (int i = 0; i < 3; i++) {
        cr_expect(eq(int, in_steps(ops[i][0], ", 'filter': {'topic': 'other'}", ops[i][1], &count, &skipped),
                     SMALL / A_STEP + 1),
                  "%s", ops[i][0]);
        cr_expect(eq(i64, count, 0));
    }
    cr_expect(eq(int, in_steps("dlq.purge", ", 'filter': {'topic': 't'}", "purged", &count, &skipped),
                 SMALL / A_STEP + 1));
    cr_expect(eq(i64, count, SMALL));
}

Test(bus_letters, no_step_looks_for_more_than_4096_numbers_that_there_are_not)
{
    int64_t count, skipped;
    bury(10, 1);
    json_t *numbers = json_array();
    for (int i = 0; i < SMALL; i++)
        json_array_append_new(numbers, json_integer(1000000 - i));
    json_array_append_new(numbers, json_integer(1));
    char *text = json_dumps(numbers, JSON_COMPACT), *more = NULL;
    cr_assert(ge(int, asprintf(&more, ", 'seqs': %s", text), 1));
    cr_expect(eq(int, in_steps("dlq.purge", more, "purged", &count, &skipped), SMALL / A_STEP + 1));
    cr_expect(eq(i64, count, 1));
    free(more);
    free(text);
    json_decref(numbers);
}

Test(bus_letters, a_number_that_no_letter_can_have_is_not_found_and_the_others_are)
{
    static const char *const ops[][2] = {
        {"dlq.list", "events"}, {"dlq.redrive", "redriven"}, {"dlq.purge", "purged"}};
    int64_t count, skipped;
    bury(10, 4);
    for (int i = 0; i < 3; i++) {
        char more[160];
        snprintf(more, sizeof more,
                 ", 'seqs': [-1, %d, 9223372036854775807, 0, -9223372036854775808, 1.5, '2', %d]",
                 i < 2 ? 1 : 3, i < 2 ? 2 : 4);
        cr_expect(eq(int, in_steps(ops[i][0], more, ops[i][1], &count, &skipped), 1));
        cr_expect(eq(i64, count, 2), "%s", ops[i][0]);
        cr_expect(eq(i64, skipped, 0));
    }
    expect_number(&m, "q", "dlq_depth", 0);
}

Test(bus_letters, a_redriven_event_keeps_its_priority_and_comes_before_plain_ones)
{
    struct memory_client *client = consumer_of(&m, "q", 1);
    (void)memory_publish(&m, client, &(struct memory_publish){.topic = "t", .data = "high", .priority = 9});
    memory_turn(&m);
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_REJECT, 0, 0, 0);
    memory_turn(&m);
    memory_close(&m, client);
    client = memory_open(&m, 0);
    (void)memory_say(&m, client, "t", "plain");
    memory_turn(&m);
    json_decref(memory_request(&m, 0, "{'op': 'dlq.redrive', 'queue': 'q'}"));
    memory_turn(&m);
    expect_got(consumer_of(&m, "q", 5), 0, "high plain");
}
