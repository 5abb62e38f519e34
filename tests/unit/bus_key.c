/*
 * bus_key - a publish with a key is stored once, whoever sends it again.
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

TestSuite(bus_key, .init = set_up, .fini = tear_down, .timeout = 300);

enum { P = 77 };

static uint64_t say_with_key(struct memory_client *client, const char *topic, const char *data)
{
    uint64_t sequence =
        memory_publish(&m, client, &(struct memory_publish){.topic = topic, .data = data, .key = "k"});
    memory_turn(&m);
    return sequence;
}

static void make_room(const char *queue)
{
    struct memory_client *consumer = consumer_of(&m, queue, 1);
    (void)memory_ack(&m, consumer, 0);
    memory_turn(&m);
    memory_close(&m, consumer);
}

Test(bus_key, a_key_that_overflowed_into_the_dead_letters_is_known)
{
    for (int snapshot = 0; snapshot < 2; snapshot++) {
        memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'dead_letter'");
        struct memory_client *client = memory_open(&m, 0);
        (void)memory_say(&m, client, "t", "a");
        expect_confirm(client, say_with_key(client, "t", "b"), PAWL_DURABILITY_FSYNC, 0);
        expect_number(&m, "q.dlq", "depth", 1);
        make_room("q");
        expect_duplicate(client, say_with_key(client, "t", "b"));
        if (snapshot)
            memory_snapshot(&m);
        memory_restart(&m, m.record_count);
        client = memory_open(&m, 0);
        expect_duplicate(client, say_with_key(client, "t", "b"));
        expect_number(&m, "q", "depth", 0);
        expect_number(&m, "q.dlq", "depth", 1);
        json_decref(memory_request(&m, 0, "{'op': 'dlq.redrive', 'queue': 'q'}"));
        memory_turn(&m);
        expect_number(&m, "q", "depth", 1);
        json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'q'}"));
        json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'q.dlq'}"));
        memory_pass(&m, m.limits.dedupe_age_ns);
    }
}

Test(bus_key, a_key_of_a_dead_letter_lets_what_still_waits_for_room_come_although_its_publisher_went)
{
    memory_declare(&m, "dead", "'topics': ['t', 'f'], 'max_depth': 1, 'overflow': 'dead_letter'");
    memory_declare(&m, "full", "'topics': ['t', 'f'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = memory_open(&m, P);
    (void)memory_say(&m, client, "f", "a");
    (void)say_with_key(client, "t", "b");
    expect_number(&m, "dead.dlq", "depth", 1);
    memory_close(&m, client);
    client = memory_open(&m, P + 1); /* the program was started again: it has another name */
    uint64_t sequence = say_with_key(client, "t", "b");
    expect_unanswered(client, sequence); /* what waits is in memory only */
    make_room("full");
    expect_confirm(client, sequence, PAWL_DURABILITY_FSYNC, 0);
    expect_number(&m, "full", "depth", 1);
    expect_number(&m, "dead.dlq", "depth", 1);
}

Test(bus_key, what_is_a_dead_letter_is_confirmed_although_the_queue_that_it_waits_for_goes)
{
    memory_declare(&m, "dead", "'topics': ['t', 'f'], 'max_depth': 1, 'overflow': 'dead_letter'");
    memory_declare(&m, "full", "'topics': ['t', 'f'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = memory_open(&m, 0);
    (void)memory_say(&m, client, "f", "a");
    uint64_t sequence = say_with_key(client, "t", "b");
    expect_unanswered(client, sequence);
    json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'full'}"));
    memory_turn(&m);
    expect_confirm(client, sequence, PAWL_DURABILITY_FSYNC, 0);
    expect_duplicate(client, say_with_key(client, "t", "b"));
}

Test(bus_key, a_key_of_which_nothing_is_stored_is_forgotten)
{
    memory_declare(&m, "drops", "'topics': ['d', 'f'], 'max_depth': 1, 'overflow': 'drop_newest'");
    memory_declare(&m, "rejects", "'topics': ['r', 'f'], 'max_depth': 1");
    struct memory_client *client = memory_open(&m, 0);
    (void)memory_say(&m, client, "f", "a");
    expect_confirm(client, say_with_key(client, "d", "b"), PAWL_DURABILITY_MEMORY, 0);
    expect_refused(client, say_with_key(client, "r", "b"), PAWL_E_QUEUE_FULL);
    expect_confirm(client, say_with_key(client, "nobody", "b"), PAWL_DURABILITY_MEMORY, PAWL_REPLY_UNROUTED);
    make_room("drops");
    make_room("rejects");
    memory_declare(&m, "wants", "'topics': ['nobody']");
    static const char *const topics[] = {"d", "r", "nobody"};
    for (int i = 0; i < 3; i++)
        expect_confirm(client, say_with_key(client, topics[i], "b"), PAWL_DURABILITY_FSYNC, 0);
}

Test(bus_key, the_same_key_on_another_topic_is_another_event)
{
    memory_declare(&m, "q", "'topics': ['a', 'b']");
    struct memory_client *client = memory_open(&m, 0);
    expect_confirm(client, say_with_key(client, "a", "x"), PAWL_DURABILITY_FSYNC, 0);
    expect_confirm(client, say_with_key(client, "b", "x"), PAWL_DURABILITY_FSYNC, 0);
    expect_duplicate(client, say_with_key(client, "a", "x"));
    memory_restart(&m, m.record_count);
    client = memory_open(&m, 0);
    expect_duplicate(client, say_with_key(client, "b", "x"));
    expect_number(&m, "q", "depth", 2);
}

Test(bus_key, a_key_is_taken_once_within_its_window_also_over_restart_and_snapshot)
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

Test(bus_key, without_a_window_no_key_is_a_duplicate)
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
