/*
 * bus_rescue - events whose records a full disk moved to another segment: pinned where they lie, and found
 * there.
 */
#include "tests/unit/bus_support.h"

static struct memory m;

static void set_up(void)
{
    memory_init(&m);
    memory_declare(&m, "q", "'topics': ['t']");
    memory_declare(&m, "other", "'topics': ['u']");
}

static void tear_down(void)
{
    memory_fini(&m);
}

TestSuite(bus_rescue, .init = set_up, .fini = tear_down, .timeout = 300);

/* Each in a record of its own, near the others: one stretch. */
static void say_each(struct memory_client *client, const char *topic, int first, int count)
{
    char text[16];
    for (int i = first; i < first + count; i++) {
        snprintf(text, sizeof text, "e%d", i);
        (void)memory_say(&m, client, topic, text);
        memory_turn(&m);
    }
}

/* What came after is settled and snapshot covers it: segments that nobody pins go. */
static void let_segments_go(void)
{
    struct memory_client *client = consumer_of(&m, "other", 4000);
    say_each(client, "u", 0, 3 * MEMORY_RECORDS_A_SEGMENT);
    for (uint64_t n = 0; n < client->delivery_count; n++)
        (void)memory_ack(&m, client, n);
    memory_turn(&m);
    memory_snapshot(&m);
    cr_assert(ge(sz, memory_release_segments(&m), 1));
}

static void expect_all(void)
{
    struct memory_client *client = consumer_of(&m, "q", 4000);
    expect_got(client, 0, "e0 e1 e2 e3 e4 e5");
}

Test(bus_rescue, moved_events_keep_their_segment)
{
    say_each(memory_open(&m, 0), "t", 0, 6);
    memory_rescue(&m, 6);
    let_segments_go();
    expect_all();
}

Test(bus_rescue, moved_events_are_found_after_a_restart)
{
    say_each(memory_open(&m, 0), "t", 0, 6);
    memory_rescue(&m, 6);
    let_segments_go();
    memory_restart(&m, m.record_count);
    let_segments_go();
    expect_all();
}

Test(bus_rescue, a_stretch_of_which_only_the_end_moved_keeps_both_segments)
{
    say_each(memory_open(&m, 0), "t", 0, 6);
    memory_rescue(&m, 3);
    let_segments_go();
    expect_all();
}

Test(bus_rescue, a_stretch_of_which_only_the_end_moved_is_found_and_kept_after_a_restart)
{
    say_each(memory_open(&m, 0), "t", 0, 6);
    memory_rescue(&m, 3);
    let_segments_go();
    memory_restart(&m, m.record_count);
    let_segments_go();
    memory_restart(&m, m.record_count);
    expect_all();
}
