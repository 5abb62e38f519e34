/*
 * bus_compact - what is copied forward, so that old segments may go, and what is not.
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

TestSuite(bus_compact, .init = set_up, .fini = tear_down, .timeout = 300);

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

Test(bus_compact, what_consumers_are_about_to_reach_is_not_copied_forward)
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

Test(bus_compact, what_was_passed_and_is_not_settled_is_copied_forward_while_others_are_consumed)
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

static bool is_little(void *ctx, uint32_t segment, uint64_t live_bytes)
{
    (void)segment;
    return live_bytes <= *(const uint64_t *)ctx;
}

static uint32_t worth_moving(uint64_t live_bytes_max)
{
    uint32_t end = (uint32_t)(m.record_count / MEMORY_RECORDS_A_SEGMENT + 1);
    return pawl_bus_worth_moving(m.bus, 1, end, is_little, &live_bytes_max);
}

/* On a full disk it is asked before a snapshot and after it, and nothing was consumed between. */
Test(bus_compact, asking_what_is_worth_moving_changes_no_later_answer)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 200);
    say_many(client, 0, 2000);
    for (uint64_t n = 0; n < 1800; n += 200) {
        (void)memory_settle(&m, client, PAWL_SETTLE_OP_ACK, n, n + 199, 0);
        memory_turn(&m);
        pawl_bus_look(m.bus);
        uint32_t segment = worth_moving(UINT64_MAX);
        cr_expect(eq(int, segment == 0, n >= 1400), "after %llu", (unsigned long long)n);
        for (int i = 0; i < 3; i++)
            cr_expect(eq(u32, worth_moving(UINT64_MAX), segment), "question %d", i);
    }
    pawl_bus_look(m.bus); /* nobody takes them any more */
    uint32_t segment = worth_moving(UINT64_MAX);
    cr_expect(ne(u32, segment, 0));
    cr_expect(eq(u32, worth_moving(UINT64_MAX), segment));
}

/* Acts on a full disk leave a few events in each segment that they write, behind a backlog that is whole. */
Test(bus_compact, a_segment_behind_others_is_worth_moving_if_little_of_it_lives)
{
    memory_declare(&m, "old", "'topics': ['old']");
    memory_declare(&m, "q", "'topics': ['t', 'rest']");
    struct memory_client *client = consumer_of(&m, "q", 1000);
    do {
        (void)memory_say(&m, client, "old", "a backlog");
        memory_turn(&m);
    } while (m.record_count < 3 * MEMORY_RECORDS_A_SEGMENT || m.record_count % MEMORY_RECORDS_A_SEGMENT != 0);
    uint32_t behind = (uint32_t)(m.record_count / MEMORY_RECORDS_A_SEGMENT + 1);
    (void)memory_say(&m, client, "t", "stays");
    memory_turn(&m);
    for (uint64_t n = 1; m.record_count / MEMORY_RECORDS_A_SEGMENT < behind + 1; n++) {
        (void)memory_say(&m, client, "t", "goes");
        memory_turn(&m);
        (void)memory_settle(&m, client, PAWL_SETTLE_OP_ACK, n, n, 0);
        memory_turn(&m);
    }
    pawl_bus_look(m.bus);
    pawl_bus_look(m.bus);
    cr_expect(eq(u32, worth_moving(UINT64_MAX), 1), "the oldest, if it may be");
    cr_expect(eq(u32, worth_moving(200), behind));
    cr_expect(eq(u32, worth_moving(10), 0));
    cr_expect(pawl_bus_copy_forward(m.bus, m.now, behind, 1 << 20));
    memory_turn(&m);
    cr_expect(eq(u32, worth_moving(200), 0), "it is dead, and where that lies now is not below the end");
}

Test(bus_compact, a_run_that_is_copied_forward_is_one_stretch_again)
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

Test(bus_compact, what_is_copied_forward_stays_readable_when_its_segments_go)
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
