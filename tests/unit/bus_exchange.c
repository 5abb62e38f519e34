/*
 * bus_exchange - from a publish to the queues: routes, admission, overflow, confirms.
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

TestSuite(bus_exchange, .init = set_up, .fini = tear_down, .timeout = 300);

/* ---- routes ---- */

Test(bus_exchange, an_event_goes_to_every_queue_whose_pattern_matches_and_is_stored_once)
{
    memory_declare(&m, "all", "'topics': ['*']");
    memory_declare(&m, "tools", "'topics': ['tool.*']");
    memory_declare(&m, "calls", "'topics': ['tool.call', 'other']");
    memory_declare(&m, "deep", "'topics': ['#.end']");
    memory_declare(&m, "none", "'topics': ['tools.*']");
    struct memory_client *client = memory_open(&m, 0);
    memory_turn(&m);
    size_t records = m.record_count;
    uint64_t sequence = memory_say(&m, client, "tool.call", "x");
    memory_turn(&m);
    cr_expect(eq(sz, m.record_count, records + 1));
    expect_number(&m, "all", "depth", 1);
    expect_number(&m, "tools", "depth", 1);
    expect_number(&m, "calls", "depth", 1);
    expect_number(&m, "deep", "depth", 0);
    expect_number(&m, "none", "depth", 0);
    cr_expect(eq(u32, memory_reply(client, PAWL_REPLY_CONFIRM, sequence)->routed, 3));
    (void)memory_say(&m, client, "a.b.end", "y");
    memory_turn(&m);
    expect_number(&m, "deep", "depth", 1);
    expect_number(&m, "tools", "depth", 1);
}

Test(bus_exchange, a_queue_that_is_declared_or_deleted_changes_the_cached_routes)
{
    memory_declare(&m, "first", "'topics': ['t']");
    struct memory_client *client = memory_open(&m, 0);
    (void)memory_say(&m, client, "t", "1");
    memory_declare(&m, "second", "'topics': ['t']");
    (void)memory_say(&m, client, "t", "2");
    json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'first'}"));
    (void)memory_say(&m, client, "t", "3");
    memory_turn(&m);
    expect_number(&m, "second", "depth", 2);
    expect_confirmed(client, 3);
    cr_expect(eq(u32, memory_reply(client, PAWL_REPLY_CONFIRM, 3)->routed, 1));
}

Test(bus_exchange, what_no_queue_wants_is_confirmed_as_unrouted_or_refused_if_that_is_asked)
{
    struct memory_client *client = memory_open(&m, 0);
    uint64_t quiet = memory_say(&m, client, "t", "x");
    uint64_t strict = memory_publish(
        &m, client, &(struct memory_publish){.topic = "t", .flags = PAWL_SUBMIT_EXPECT_ROUTED});
    memory_turn(&m);
    cr_expect(eq(u32, memory_reply(client, PAWL_REPLY_CONFIRM, quiet)->flags, PAWL_REPLY_UNROUTED));
    expect_refused(client, strict, PAWL_E_UNROUTED);
}

Test(bus_exchange, what_nobody_wants_goes_to_the_queue_that_takes_the_unrouted)
{
    memory_declare(&m, "rest", "'topics': [], 'unrouted': true, 'topics': ['never']");
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = memory_open(&m, 0);
    (void)memory_say(&m, client, "t", "x");
    (void)memory_say(&m, client, "u", "x");
    memory_turn(&m);
    expect_number(&m, "rest", "depth", 1);
    expect_number(&m, "q", "depth", 1);
}

Test(bus_exchange, events_of_many_queues_are_not_cut_off_at_a_number)
{
    char name[32];
    m.limits.queues = 65536;
    pawl_bus_set_limits(m.bus, &m.limits);
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "q%d", i);
        memory_declare(&m, name, "'topics': ['t'], 'durability': 'memory'");
    }
    struct memory_client *client = memory_open(&m, 0);
    (void)memory_say(&m, client, "t", "x");
    memory_turn(&m);
    cr_expect(eq(u32, memory_reply(client, PAWL_REPLY_CONFIRM, 1)->routed, 5000));
    expect_number(&m, "q4999", "depth", 1);
}

/* ---- confirms ---- */

Test(bus_exchange, fsync_is_confirmed_and_delivered_only_when_durable)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    uint64_t sequence = memory_say(&m, client, "t", "x");
    memory_flush(&m);
    expect_unanswered(client, sequence);
    expect_got(client, 0, "");
    memory_sync(&m);
    memory_flush(&m);
    expect_confirmed(client, sequence);
    cr_expect(eq(u32, memory_reply(client, PAWL_REPLY_CONFIRM, sequence)->durability, PAWL_DURABILITY_FSYNC));
    expect_got(client, 0, "x");
}

Test(bus_exchange, memory_and_async_are_confirmed_and_delivered_at_once)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    (void)memory_publish(
        &m, client,
        &(struct memory_publish){.topic = "t", .data = "m", .durability = PAWL_DURABILITY_MEMORY});
    (void)memory_publish(
        &m, client, &(struct memory_publish){.topic = "t", .data = "a", .durability = PAWL_DURABILITY_ASYNC});
    memory_flush(&m);
    cr_expect(eq(u32, memory_reply(client, PAWL_REPLY_CONFIRM, 1)->durability, PAWL_DURABILITY_MEMORY));
    cr_expect(eq(u32, memory_reply(client, PAWL_REPLY_CONFIRM, 2)->durability, PAWL_DURABILITY_ASYNC));
    expect_got(client, 0, "m a");
}

Test(bus_exchange, what_is_weaker_does_not_overtake_what_waits_for_the_disk)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    (void)memory_say(&m, client, "t", "fsync");
    (void)memory_publish(
        &m, client,
        &(struct memory_publish){.topic = "t", .data = "m", .durability = PAWL_DURABILITY_MEMORY});
    memory_flush(&m);
    expect_got(client, 0, "");
    expect_confirmed(client, 2);
    memory_turn(&m);
    expect_got(client, 0, "fsync m");
}

Test(bus_exchange, the_weaker_of_publish_and_queue_counts_and_the_confirm_names_the_strongest)
{
    memory_declare(&m, "mem", "'topics': ['t'], 'durability': 'memory'");
    struct memory_client *client = consumer_of(&m, "mem", 10);
    (void)memory_publish(
        &m, client, &(struct memory_publish){.topic = "t", .data = "1", .durability = PAWL_DURABILITY_FSYNC});
    memory_flush(&m);
    cr_expect(eq(u32, memory_reply(client, PAWL_REPLY_CONFIRM, 1)->durability, PAWL_DURABILITY_MEMORY));
    memory_declare(&m, "disk", "'topics': ['t']");
    memory_turn(&m);
    (void)memory_say(&m, client, "t", "2");
    memory_flush(&m);
    expect_unanswered(client, 2);
    expect_got(client, 0, "1 2"); /* the queue in memory need not wait */
    memory_turn(&m);
    cr_expect(eq(u32, memory_reply(client, PAWL_REPLY_CONFIRM, 2)->durability, PAWL_DURABILITY_FSYNC));
}

Test(bus_exchange, ids_of_a_confirm_are_those_of_the_events)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    for (int i = 0; i < 3; i++)
        (void)memory_say(&m, client, "t", "x");
    memory_turn(&m);
    const struct pawl_reply *reply = memory_reply(client, PAWL_REPLY_CONFIRM, 3);
    for (uint64_t n = 0; n < 3; n++)
        cr_expect(eq(u64, client->deliveries[n].event->id, reply->event_id + n + 1 - reply->first));
}

Test(bus_exchange, a_confirm_never_goes_to_another_client_that_has_the_number_by_then)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = memory_open(&m, 0);
    (void)memory_say(&m, client, "t", "x");
    memory_flush(&m);
    memory_close(&m, client);
    struct memory_client *other = memory_open(&m, 0);
    cr_assert(eq(ptr, other, client));
    memory_turn(&m);
    cr_expect(eq(sz, other->reply_count, 0));
}

/* ---- admission ---- */

static void fill(struct memory_client *client, const char *topic, int count)
{
    for (int i = 0; i < count; i++)
        (void)memory_say(&m, client, topic, "old");
    memory_turn(&m);
}

Test(bus_exchange, reject_refuses_at_the_limit_and_not_before)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 3");
    struct memory_client *client = memory_open(&m, 0);
    fill(client, "t", 3);
    expect_confirmed(client, 3);
    uint64_t sequence = memory_say(&m, client, "t", "new");
    memory_turn(&m);
    expect_refused(client, sequence, PAWL_E_QUEUE_FULL);
    expect_number(&m, "q", "depth", 3);
}

Test(bus_exchange, bytes_are_a_limit_as_depth_is)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_bytes': 200");
    struct memory_client *client = memory_open(&m, 0);
    fill(client, "t", 9);
    expect_refused(client, 9, PAWL_E_QUEUE_FULL);
    cr_expect(le(i64, memory_number(&m, "q", "bytes"), 200));
    cr_expect(ge(i64, memory_number(&m, "q", "depth"), 2));
}

Test(bus_exchange, drop_newest_confirms_and_forgets)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 2, 'overflow': 'drop_newest'");
    struct memory_client *client = memory_open(&m, 0);
    fill(client, "t", 2);
    uint64_t sequence = memory_say(&m, client, "t", "new");
    memory_turn(&m);
    expect_confirmed(client, sequence);
    expect_number(&m, "q", "depth", 2);
    struct memory_client *consumer = consumer_of(&m, "q", 10);
    expect_got(consumer, 0, "old old");
}

Test(bus_exchange, drop_oldest_makes_room_but_never_out_of_what_somebody_holds)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 3, 'overflow': 'drop_oldest'");
    struct memory_client *client = consumer_of(&m, "q", 1);
    (void)memory_say(&m, client, "t", "held");
    (void)memory_say(&m, client, "t", "a");
    (void)memory_say(&m, client, "t", "b");
    memory_turn(&m);
    (void)memory_say(&m, client, "t", "c");
    memory_turn(&m);
    expect_confirmed(client, 4);
    expect_number(&m, "q", "depth", 3);
    for (uint64_t n = 0; n < 3; n++) {
        (void)memory_ack(&m, client, n);
        memory_turn(&m);
    }
    expect_got(client, 0, "held b c");
}

Test(bus_exchange, dead_letter_takes_what_does_not_fit_and_says_why)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'dead_letter'");
    struct memory_client *client = memory_open(&m, 0);
    fill(client, "t", 1);
    uint64_t sequence = memory_say(&m, client, "t", "new");
    memory_flush(&m);
    expect_unanswered(client, sequence); /* it is confirmed when it is durable among the dead */
    memory_turn(&m);
    expect_confirmed(client, sequence);
    cr_expect(ge(u64, memory_reply(client, PAWL_REPLY_CONFIRM, sequence)->event_id, 1)); /* it is stored */
    expect_number(&m, "q", "depth", 1);
    expect_number(&m, "q.dlq", "depth", 1);
    json_t *list = memory_request(&m, 0, "{'op': 'dlq.list', 'queue': 'q'}");
    json_t *first = json_array_get(json_object_get(list, "events"), 0);
    cr_expect(eq(str, (char *)json_string_value(json_object_get(first, "reason")), "overflow"));
    cr_expect(eq(str, (char *)json_string_value(json_object_get(first, "data")), "new"));
    json_decref(list);
}

/* A queue of two, full, and behind it "third" and "fourth". */
static struct memory_client *block_two(void)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 2, 'overflow': 'block'");
    struct memory_client *client = consumer_of(&m, "q", 1);
    fill(client, "t", 2);
    (void)memory_say(&m, client, "t", "third");
    (void)memory_say(&m, client, "t", "fourth");
    memory_turn(&m);
    return client;
}

Test(bus_exchange, block_parks_the_publish_until_there_is_room_and_keeps_the_order)
{
    struct memory_client *client = block_two();
    expect_unanswered(client, 3);
    expect_number(&m, "q", "blocked_publishes", 2);
    (void)memory_ack(&m, client, 0);
    memory_turn(&m);
    expect_confirmed(client, 3);
    expect_unanswered(client, 4);
    (void)memory_ack(&m, client, 1);
    memory_turn(&m);
    (void)memory_ack(&m, client, 2);
    memory_turn(&m);
    expect_confirmed(client, 4);
    expect_got(client, 0, "old old third fourth");
}

/* Else what waits would use the reserve up, of which acks live. */
Test(bus_exchange, what_a_queue_blocks_waits_for_a_full_disk_too_beyond_what_acts_may_take)
{
    struct memory_client *client = block_two();
    m.has_room = PAWL_E_NO_SPACE;
    m.spare = 1000;
    (void)memory_ack(&m, client, 0);
    memory_turn(&m);
    expect_confirmed(client, 3);
    m.spare = 0;
    (void)memory_ack(&m, client, 1);
    memory_turn(&m);
    memory_pass(&m, SECOND);
    expect_unanswered(client, 4);
    m.has_room = 0;
    memory_pass(&m, SECOND);
    expect_confirmed(client, 4);
    expect_got(client, 0, "old old third");
}

Test(bus_exchange, a_publish_that_two_queues_block_is_confirmed_when_both_have_it)
{
    memory_declare(&m, "a", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    memory_declare(&m, "b", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    memory_declare(&m, "c", "'topics': ['t']");
    struct memory_client *a = consumer_of(&m, "a", 10), *b = consumer_of(&m, "b", 10), *client;
    client = memory_open(&m, 0);
    fill(client, "t", 1);
    (void)memory_say(&m, client, "t", "new");
    memory_turn(&m);
    expect_number(&m, "c", "depth", 2); /* those with room have it at once */
    (void)memory_ack(&m, b, 0);
    memory_turn(&m);
    expect_got(b, 0, "old new");
    expect_unanswered(client, 2);
    (void)memory_ack(&m, a, 0);
    memory_turn(&m);
    expect_got(a, 0, "old new");
    expect_confirmed(client, 2);
    cr_expect(eq(u32, memory_reply(client, PAWL_REPLY_CONFIRM, 2)->routed, 3));
    cr_expect(eq(u64, a->deliveries[1].event->id, b->deliveries[1].event->id));
}

Test(bus_exchange, a_blocked_publish_is_refused_when_its_queue_is_deleted)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = memory_open(&m, 0);
    fill(client, "t", 2);
    json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'q'}"));
    memory_turn(&m);
    expect_refused(client, 2, PAWL_E_NOT_FOUND);
    cr_expect(eq(int, pawl_bus_may_submit(pawl_bus_client(m.bus, client->number)), true));
}

Test(bus_exchange, a_larger_queue_takes_what_was_blocked)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = memory_open(&m, 0);
    fill(client, "t", 2);
    expect_unanswered(client, 2);
    memory_declare(&m, "q", "'max_depth': 5");
    memory_turn(&m);
    expect_confirmed(client, 2);
}

Test(bus_exchange, a_client_whose_publishes_wait_may_submit_no_more_than_its_share)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = memory_open(&m, 0);
    const struct pawl_bus_client *known = pawl_bus_client(m.bus, client->number);
    int n = 0;
    while (n < 3000 && pawl_bus_may_submit(known)) {
        (void)memory_say(&m, client, "t", "x");
        n++;
    }
    cr_expect(eq(int, n, 1025));
}

Test(bus_exchange, a_topics_own_policy_counts_before_the_queues)
{
    memory_declare(&m, "q",
                   "'topics': ['*'], 'max_depth': 1, 'overflow': 'reject',"
                   "'overflow_topics': {'news.*': 'drop_newest', 'news.big': 'drop_oldest'}");
    struct memory_client *client = memory_open(&m, 0);
    fill(client, "t", 1);
    uint64_t small = memory_say(&m, client, "news.small", "s");
    memory_turn(&m);
    expect_confirmed(client, small);
    uint64_t other = memory_say(&m, client, "t", "o");
    memory_turn(&m);
    expect_refused(client, other, PAWL_E_QUEUE_FULL);
    (void)memory_say(&m, client, "news.big", "b");
    memory_turn(&m);
    struct memory_client *consumer = consumer_of(&m, "q", 10);
    expect_got(consumer, 0, "b");
}

Test(bus_exchange, one_full_queue_refuses_and_the_others_take_it)
{
    memory_declare(&m, "full", "'topics': ['t'], 'max_depth': 1");
    struct memory_client *client = memory_open(&m, 0);
    fill(client, "t", 1);
    memory_declare(&m, "free", "'topics': ['t']");
    uint64_t sequence = memory_say(&m, client, "t", "new");
    memory_turn(&m);
    const struct pawl_reply *partial = memory_reply(client, PAWL_REPLY_PARTIAL, sequence);
    cr_assert(ne(ptr, (void *)(uintptr_t)partial, NULL));
    cr_expect(eq(int, partial->error, PAWL_E_QUEUE_FULL));
    cr_expect(eq(i64, partial->queue, memory_number(&m, "full", "number")));
    cr_expect(eq(u32, memory_reply(client, PAWL_REPLY_CONFIRM, sequence)->routed, 1));
    expect_number(&m, "free", "depth", 1);
}

Test(bus_exchange, a_full_disk_refuses_what_must_be_written_and_takes_what_need_not)
{
    memory_declare(&m, "q", "'topics': ['t']");
    memory_declare(&m, "mem", "'topics': ['m'], 'durability': 'memory'");
    struct memory_client *client = consumer_of(&m, "q", 10);
    fill(client, "t", 1);
    m.has_room = PAWL_E_NO_SPACE;
    uint64_t refused = memory_say(&m, client, "t", "x"), taken = memory_say(&m, client, "m", "y");
    cr_expect(eq(int, memory_ack(&m, client, 0), 0));
    memory_turn(&m);
    expect_refused(client, refused, PAWL_E_NO_SPACE);
    expect_confirmed(client, taken);
    expect_number(&m, "q", "depth", 0); /* acks still go */
}

Test(bus_exchange, what_memory_cannot_hold_is_refused)
{
    memory_declare(&m, "q", "'topics': ['t'], 'durability': 'memory'");
    struct memory_client *client = memory_open(&m, 0);
    m.kept_full = true;
    uint64_t sequence = memory_say(&m, client, "t", "x");
    memory_turn(&m);
    expect_refused(client, sequence, PAWL_E_NO_SPACE);
    expect_number(&m, "q", "depth", 0);
    m.kept_full = false;
    (void)memory_say(&m, client, "t", "y");
    memory_turn(&m);
    expect_number(&m, "q", "depth", 1);
}

Test(bus_exchange, what_cannot_be_changed_is_refused_and_the_same_again_is_fine)
{
    memory_declare(&m, "q", "'topics': ['t']");
    size_t records = m.record_count;
    memory_declare(&m, "q", "'topics': ['t']");
    cr_expect(eq(sz, m.record_count, records));
    cr_expect(eq(ptr,
                 memory_request(&m, 0, "{'op': 'queue.declare', 'name': 'q', 'config': {'stream': true}}"),
                 NULL));
    cr_expect(eq(int, m.error, PAWL_E_INCOMPATIBLE));
    cr_expect(eq(ptr,
                 memory_request(&m, 0, "{'op': 'queue.declare', 'name': 'q', 'config': {'topic': ['t']}}"),
                 NULL));
    cr_expect(eq(int, m.error, PAWL_E_INVALID));
    cr_expect(ne(ptr, strstr(m.why, "topics"), NULL));
}

Test(bus_exchange, an_event_in_memory_lives_until_the_last_of_its_queues_has_settled_it)
{
    memory_declare(&m, "a", "'topics': ['t'], 'durability': 'memory'");
    memory_declare(&m, "b", "'topics': ['t'], 'durability': 'memory'");
    struct memory_client *a = consumer_of(&m, "a", 10);
    (void)memory_say(&m, a, "t", "x");
    memory_turn(&m);
    cr_expect(eq(int, memory_ack(&m, a, 0), 0));
    memory_turn(&m);
    cr_expect(eq(sz, m.kept_live, 1));
    struct memory_client *b = consumer_of(&m, "b", 10);
    expect_got(b, 0, "x");
    cr_expect(eq(int, memory_ack(&m, b, 0), 0));
    memory_turn(&m);
    cr_expect(eq(sz, m.kept_live, 0));
}

Test(bus_exchange, publishes_whose_publishers_went_wait_up_to_the_bound_of_one)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *first = memory_open(&m, 0);
    fill(first, "t", 1);
    for (int i = 0; i < 3; i++) {
        struct memory_client *client = memory_open(&m, 0);
        fill(client, "t", BUS_PARKED_MAX - 1);
        memory_turn(&m);
        memory_close(&m, client);
    }
    expect_number(&m, "q", "blocked_publishes", BUS_PARKED_MAX);
    /* Those that went in are of the bound no more. */
    json_decref(memory_request(&m, 0, "{'op': 'queue.purge', 'name': 'q'}"));
    struct memory_client *last = memory_open(&m, 0);
    fill(last, "t", 1);
    memory_turn(&m);
    memory_close(&m, last);
    expect_number(&m, "q", "blocked_publishes", BUS_PARKED_MAX);
}
