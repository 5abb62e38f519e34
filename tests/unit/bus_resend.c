/*
 * bus_resend.c - what is sent again after a reconnect happens once, and its confirm says what is so.
 */
#include "tests/unit/bus_support.h"

static struct memory m;

static void init(void)
{
    memory_init(&m);
}

static void fini(void)
{
    memory_fini(&m);
}

TestSuite(bus_resend, .init = init, .fini = fini, .timeout = 300);

enum { P = 77 };

static void resend(struct memory_client *client, uint64_t sequence, const char *topic, const char *data)
{
    (void)memory_publish(&m, client,
                         &(struct memory_publish){.topic = topic, .data = data, .sequence = sequence});
    memory_turn(&m);
}

/* The scheduler goes, with a snapshot on disk or without, and the publisher comes again. */
static struct memory_client *restart(bool snapshot)
{
    memory_turn(&m);
    if (snapshot)
        memory_snapshot(&m);
    memory_restart(&m, m.record_count);
    return memory_open(&m, P);
}

/* ---- each overflow policy, over a restart ---- */

Test(bus_resend, what_came_behind_a_blocked_publish_is_known_and_the_blocked_one_is_stored_once)
{
    for (int snapshot = 0; snapshot < 2; snapshot++) {
        memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
        memory_declare(&m, "o", "'topics': ['o']");
        struct memory_client *client = memory_open(&m, P + (uint64_t)snapshot);
        (void)memory_say(&m, client, "t", "a");
        (void)memory_say(&m, client, "t", "b"); /* waits */
        (void)memory_say(&m, client, "o", "c");
        memory_turn(&m);
        if (snapshot)
            memory_snapshot(&m);
        memory_restart(&m, m.record_count);
        client = memory_open(&m, P + (uint64_t)snapshot);
        cr_expect(eq(u64, client->sequence, 1));
        resend(client, 2, "t", "b");
        expect_unanswered(client, 2);
        resend(client, 3, "o", "c");
        expect_duplicate(client, 3);
        expect_number(&m, "o", "depth", 1);
        struct memory_client *consumer = consumer_of(&m, "q", 1);
        (void)memory_ack(&m, consumer, 0);
        memory_turn(&m);
        expect_got(consumer, 0, "a b");
        expect_confirm(client, 2, PAWL_DURABILITY_FSYNC, 0);
        json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'q'}"));
        json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'o'}"));
    }
}

Test(bus_resend, a_publish_that_one_queue_has_and_another_blocks_is_stored_once_in_each)
{
    for (int snapshot = 0; snapshot < 2; snapshot++) {
        memory_declare(&m, "has", "'topics': ['t']");
        memory_declare(&m, "dead", "'topics': ['t', 'f'], 'max_depth': 1, 'overflow': 'dead_letter'");
        memory_declare(&m, "full", "'topics': ['t', 'f'], 'max_depth': 1, 'overflow': 'block'");
        struct memory_client *client = memory_open(&m, P + (uint64_t)snapshot);
        (void)memory_say(&m, client, "f", "a");
        (void)memory_publish(&m, client, &(struct memory_publish){.topic = "t", .data = "b", .key = "k"});
        memory_turn(&m);
        expect_unanswered(client, 2);
        expect_number(&m, "has", "depth", 1);
        expect_number(&m, "dead.dlq", "depth", 1);
        if (snapshot)
            memory_snapshot(&m);
        memory_restart(&m, m.record_count);
        client = memory_open(&m, P + (uint64_t)snapshot);
        cr_expect(eq(u64, client->sequence, 1));
        (void)memory_publish(&m, client,
                             &(struct memory_publish){.topic = "t", .data = "b", .key = "k", .sequence = 2});
        memory_turn(&m);
        expect_unanswered(client, 2);
        struct memory_client *consumer = consumer_of(&m, "full", 1);
        (void)memory_ack(&m, consumer, 0);
        memory_turn(&m);
        expect_got(consumer, 0, "a b");
        expect_confirm(client, 2, PAWL_DURABILITY_FSYNC, 0);
        expect_number(&m, "has", "depth", 1);
        expect_number(&m, "dead.dlq", "depth", 1);
        struct memory_client *other = consumer_of(&m, "has", 1);
        cr_expect(eq(u64, other->deliveries[0].event->id, consumer->deliveries[1].event->id));
        memory_restart(&m, m.record_count);
        client = memory_open(&m, P + (uint64_t)snapshot);
        cr_expect(eq(u64, client->sequence, 2));
        static const char *const names[] = {"has", "dead", "full", "dead.dlq"};
        for (size_t i = 0; i < 4; i++)
            json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': '%s'}", names[i]));
        memory_pass(&m, m.limits.dedupe_age_ns);
    }
}

Test(bus_resend, a_reconnect_takes_over_what_still_waits_for_room)
{
    memory_declare(&m, "has", "'topics': ['t']");
    memory_declare(&m, "full", "'topics': ['t', 'f'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = memory_open(&m, P);
    (void)memory_say(&m, client, "f", "a");
    (void)memory_say(&m, client, "t", "b");
    memory_turn(&m);
    memory_close(&m, client);
    client = memory_open(&m, P);
    resend(client, 2, "t", "b");
    struct memory_client *consumer = consumer_of(&m, "full", 4);
    (void)memory_ack(&m, consumer, 0);
    memory_turn(&m);
    (void)memory_ack(&m, consumer, 1);
    memory_turn(&m);
    expect_got(consumer, 0, "a b");
    expect_confirm(client, 2, PAWL_DURABILITY_FSYNC, 0);
    expect_number(&m, "has", "depth", 1);
}

Test(bus_resend, what_waited_for_a_queue_that_is_gone_is_done)
{
    memory_declare(&m, "has", "'topics': ['t']");
    memory_declare(&m, "full", "'topics': ['t', 'f'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = memory_open(&m, P);
    (void)memory_say(&m, client, "f", "a");
    (void)memory_say(&m, client, "t", "b");
    memory_turn(&m);
    json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'full'}"));
    client = restart(false);
    resend(client, 2, "t", "b");
    expect_duplicate(client, 2);
    expect_number(&m, "has", "depth", 1);
}

Test(bus_resend, what_overflowed_into_the_dead_letters_is_there_once)
{
    for (int snapshot = 0; snapshot < 2; snapshot++) {
        memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'dead_letter'");
        struct memory_client *client = memory_open(&m, P + (uint64_t)snapshot);
        (void)memory_say(&m, client, "t", "a");
        (void)memory_say(&m, client, "t", "b");
        memory_turn(&m);
        expect_confirm(client, 2, PAWL_DURABILITY_FSYNC, 0);
        if (snapshot)
            memory_snapshot(&m);
        memory_restart(&m, m.record_count);
        client = memory_open(&m, P + (uint64_t)snapshot);
        cr_expect(eq(u64, client->sequence, 2));
        resend(client, 2, "t", "b");
        expect_duplicate(client, 2);
        expect_number(&m, "q.dlq", "depth", 1);
        json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'q'}"));
        json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'q.dlq'}"));
    }
}

Test(bus_resend, what_was_dropped_stays_dropped_and_is_confirmed_as_before)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'drop_newest'");
    struct memory_client *client = memory_open(&m, P);
    (void)memory_say(&m, client, "t", "a");
    (void)memory_say(&m, client, "t", "b");
    memory_turn(&m);
    expect_confirm(client, 2, PAWL_DURABILITY_MEMORY, 0);
    memory_close(&m, client);
    client = memory_open(&m, P);
    resend(client, 2, "t", "b");
    expect_confirm(client, 2, PAWL_DURABILITY_MEMORY, PAWL_REPLY_DUPLICATE);
    client = restart(false); /* nothing of it is left: it is asked anew, and is dropped again */
    resend(client, 2, "t", "b");
    expect_confirm(client, 2, PAWL_DURABILITY_MEMORY, 0);
    expect_number(&m, "q", "depth", 1);
}

Test(bus_resend, what_pushed_out_the_oldest_does_so_once)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 2, 'overflow': 'drop_oldest'");
    struct memory_client *client = memory_open(&m, P);
    for (int i = 0; i < 3; i++)
        (void)memory_say(&m, client, "t", i == 0 ? "a" : i == 1 ? "b" : "c");
    client = restart(false);
    cr_expect(eq(u64, client->sequence, 3));
    resend(client, 3, "t", "c");
    expect_duplicate(client, 3);
    expect_got(consumer_of(&m, "q", 9), 0, "b c");
}

Test(bus_resend, what_was_refused_is_no_duplicate_although_later_ones_were_taken)
{
    for (int round = 0; round < 3; round++) { /* a reconnect, a restart, one over a snapshot */
        memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1");
        memory_declare(&m, "o", "'topics': ['o']");
        struct memory_client *client = memory_open(&m, P + (uint64_t)round);
        (void)memory_say(&m, client, "t", "a");
        (void)memory_say(&m, client, "t", "b");
        (void)memory_say(&m, client, "o", "c");
        memory_turn(&m);
        expect_refused(client, 2, PAWL_E_QUEUE_FULL);
        if (round == 0)
            memory_close(&m, client);
        if (round == 2)
            memory_snapshot(&m);
        if (round > 0)
            memory_restart(&m, m.record_count);
        client = memory_open(&m, P + (uint64_t)round);
        cr_expect(eq(u64, client->sequence, 1));
        resend(client, 2, "t", "b");
        expect_refused(client, 2, PAWL_E_QUEUE_FULL);
        resend(client, 3, "o", "c");
        expect_duplicate(client, 3);
        memory_close(&m, client);
        struct memory_client *consumer = consumer_of(&m, "q", 1);
        (void)memory_ack(&m, consumer, 0);
        memory_turn(&m);
        client = memory_open(&m, P + (uint64_t)round);
        resend(client, 2, "t", "b");
        expect_confirm(client, 2, PAWL_DURABILITY_FSYNC, 0);
        memory_turn(&m);
        expect_got(consumer, 0, "a b");
        json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'q'}"));
        json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'o'}"));
    }
}

/* ---- durability of a duplicate ---- */

Test(bus_resend, a_duplicate_says_that_the_first_one_is_in_memory_only)
{
    memory_declare(&m, "q", "'topics': ['t'], 'durability': 'memory'");
    struct memory_client *client = memory_open(&m, P);
    struct memory_publish publish = {.topic = "t", .data = "a", .key = "k"};
    uint64_t first = memory_publish(&m, client, &publish), second = memory_publish(&m, client, &publish);
    memory_flush(&m);
    expect_confirm(client, first, PAWL_DURABILITY_MEMORY, 0);
    expect_confirm(client, second, PAWL_DURABILITY_MEMORY, PAWL_REPLY_DUPLICATE);
    memory_close(&m, client);
    client = memory_open(&m, P);
    cr_expect(eq(u64, client->sequence, 0), "nothing of it is on disk");
    publish.sequence = first;
    (void)memory_publish(&m, client, &publish);
    expect_confirm(client, first, PAWL_DURABILITY_MEMORY, PAWL_REPLY_DUPLICATE);
    expect_number(&m, "q", "depth", 1);
}

Test(bus_resend, a_duplicate_is_confirmed_no_sooner_than_the_first_one_is_durable)
{
    memory_declare(&m, "q", "'topics': ['t']");
    memory_turn(&m);
    struct memory_client *client = memory_open(&m, P);
    struct memory_publish publish = {
        .topic = "t", .data = "a", .key = "k", .durability = PAWL_DURABILITY_ASYNC};
    uint64_t first = memory_publish(&m, client, &publish), second = memory_publish(&m, client, &publish);
    memory_flush(&m);
    expect_confirm(client, first, PAWL_DURABILITY_ASYNC, 0);
    expect_unanswered(client, second);
    memory_close(&m, client);
    client = memory_open(&m, P);
    publish.sequence = first;
    (void)memory_publish(&m, client, &publish);
    memory_flush(&m);
    expect_unanswered(client, first);
    memory_sync(&m);
    expect_duplicate(client, first);
}

Test(bus_resend, what_was_in_memory_is_taken_again_after_the_scheduler_that_held_it)
{
    memory_declare(&m, "q", "'topics': ['t']");
    for (int snapshot = 0; snapshot < 2; snapshot++) {
        struct memory_client *client = memory_open(&m, P + (uint64_t)snapshot);
        struct memory_publish publish = {
            .topic = "t", .data = "m", .key = snapshot ? "k1" : "k0", .durability = PAWL_DURABILITY_MEMORY};
        (void)memory_publish(&m, client, &publish);
        (void)memory_say(&m, client, "t", "d");
        memory_turn(&m);
        if (snapshot)
            memory_snapshot(&m);
        memory_restart(&m, m.record_count);
        client = memory_open(&m, P + (uint64_t)snapshot);
        cr_expect(eq(u64, client->sequence, 0));
        publish.sequence = 1;
        publish.durability = 0;
        (void)memory_publish(&m, client, &publish);
        memory_turn(&m);
        expect_confirm(client, 1, PAWL_DURABILITY_FSYNC, 0);
        resend(client, 2, "t", "d");
        expect_duplicate(client, 2);
        expect_number(&m, "q", "depth", 2 + 2 * snapshot);
    }
}

Test(bus_resend, a_key_that_was_used_while_a_publish_waited_makes_that_a_duplicate)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = memory_open(&m, P), *consumer = consumer_of(&m, "q", 1);
    struct memory_publish publish = {.topic = "t", .data = "b", .key = "k"};
    (void)memory_say(&m, client, "t", "a");
    uint64_t first = memory_publish(&m, client, &publish), second = memory_publish(&m, client, &publish);
    memory_turn(&m);
    for (uint64_t n = 0; n < 2; n++) {
        (void)memory_ack(&m, consumer, n);
        memory_turn(&m);
    }
    expect_got(consumer, 0, "a b");
    expect_confirm(client, first, PAWL_DURABILITY_FSYNC, 0);
    expect_duplicate(client, second);
    cr_expect(eq(u64, memory_reply(client, PAWL_REPLY_CONFIRM, second)->event_id,
                 memory_reply(client, PAWL_REPLY_CONFIRM, first)->event_id));
}

/* ---- lanes ---- */

Test(bus_resend, an_act_can_be_asked_for_on_a_new_lane_and_is_not_done_there)
{
    memory_declare(&m, "q", "'topics': ['t']");
    memory_declare(&m, "full", "'topics': ['f'], 'max_depth': 1");
    struct memory_client *client = memory_open(&m, P);
    (void)memory_say(&m, client, "f", "x");
    (void)memory_say(&m, client, "f", "y"); /* refused: a hole below */
    (void)memory_say(&m, client, "t", "a");
    client = restart(false);
    for (uint64_t sequence = 3; sequence <= 4; sequence++)
        (void)memory_publish(&m, client,
                             &(struct memory_publish){
                                 .topic = "t", .data = "a", .flags = PAWL_SUBMIT_ASK, .sequence = sequence});
    memory_turn(&m);
    expect_duplicate(client, 3);
    expect_refused(client, 4, PAWL_E_STALE_RECEIPT);
    expect_number(&m, "q", "depth", 1);
}

Test(bus_resend, a_lane_whose_publisher_has_a_newer_one_publishes_no_more)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *old = memory_open(&m, P);
    (void)memory_say(&m, old, "t", "a");
    (void)memory_say(&m, old, "t", "b"); /* waits */
    memory_turn(&m);
    struct memory_client *client = memory_open(&m, P);
    resend(client, 2, "t", "b");
    resend(old, 3, "t", "c");
    expect_refused(old, 3, PAWL_E_STALE_RECEIPT);
    struct memory_client *consumer = consumer_of(&m, "q", 1);
    for (uint64_t n = 0; n < 2; n++) {
        (void)memory_ack(&m, consumer, n);
        memory_turn(&m);
    }
    expect_got(consumer, 0, "a b");
    expect_confirm(client, 2, PAWL_DURABILITY_FSYNC, 0);
}

Test(bus_resend, a_sequence_beyond_all_numbers_is_refused_and_harms_nobody)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = memory_open(&m, P);
    resend(client, UINT64_MAX - 1, "t", "a");
    expect_refused(client, UINT64_MAX - 1, PAWL_E_INVALID);
    resend(client, UINT64_C(1) << 60, "t", "b");
    expect_confirm(client, UINT64_C(1) << 60, PAWL_DURABILITY_FSYNC, 0);
    client = restart(true);
    resend(client, UINT64_C(1) << 60, "t", "b");
    expect_duplicate(client, UINT64_C(1) << 60);
    expect_number(&m, "q", "depth", 1);
}

Test(bus_resend, what_a_publisher_sends_again_is_known_by_its_sequence_and_confirmed_when_it_is_durable)
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

Test(bus_resend, what_was_blocked_and_stored_at_last_is_known_when_it_is_sent_again)
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

/* ---- a key whose first event some queues have, while another blocks it ---- */

static void say_key(struct memory_client *client, const char *data)
{
    (void)memory_publish(&m, client, &(struct memory_publish){.topic = "t", .data = data, .key = "k"});
    memory_turn(&m);
}

/* "has" has it, "full" does not: it holds "a". The publisher P is there, and waits. */
static struct memory_client *half_published(void)
{
    memory_declare(&m, "has", "'topics': ['t']");
    memory_declare(&m, "full", "'topics': ['t', 'f'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = memory_open(&m, P);
    (void)memory_say(&m, client, "f", "a");
    say_key(client, "b");
    expect_unanswered(client, 2);
    expect_number(&m, "has", "depth", 1);
    return client;
}

/* Each of the two has it once, as one event, and whoever publishes the key from now on is told so. */
static void expect_whole(struct memory_client *consumer, uint64_t number)
{
    expect_number(&m, "has", "depth", 1);
    struct memory_client *other = consumer_of(&m, "has", 1);
    cr_expect(eq(u64, other->deliveries[0].event->id, consumer->deliveries[number].event->id));
    for (int restarts = 0; restarts < 2; restarts++) {
        struct memory_client *third = memory_open(&m, P + 10 + (uint64_t)restarts);
        say_key(third, "b");
        expect_duplicate(third, 1);
        expect_number(&m, "has", "depth", 1);
        expect_number(&m, "full", "depth", 1);
        memory_restart(&m, m.record_count);
    }
}

Test(bus_resend, a_key_whose_event_waits_for_a_queue_is_confirmed_when_that_has_it)
{
    memory_close(&m, half_published());
    struct memory_client *client = memory_open(&m, P + 1);
    say_key(client, "b");
    expect_unanswered(client, 1);
    struct memory_client *consumer = consumer_of(&m, "full", 1);
    (void)memory_ack(&m, consumer, 0);
    memory_turn(&m);
    expect_got(consumer, 0, "a b");
    expect_confirm(client, 1, PAWL_DURABILITY_FSYNC, 0);
    expect_whole(consumer, 1);
}

Test(bus_resend, a_key_whose_event_one_queue_never_got_before_the_scheduler_died_is_for_that_queue)
{
    for (int full = 0; full < 2; full++)
        for (int snapshot = 0; snapshot < 2; snapshot++) {
            (void)half_published();
            if (snapshot)
                memory_snapshot(&m);
            memory_restart(&m, m.record_count);
            struct memory_client *client = memory_open(&m, P + 1), *consumer = consumer_of(&m, "full", 1);
            if (full) {
                say_key(client, "b");
                expect_unanswered(client, 1);
            }
            (void)memory_ack(&m, consumer, 0);
            memory_turn(&m);
            if (!full)
                say_key(client, "b");
            expect_got(consumer, 0, "a b");
            expect_confirm(client, 1, PAWL_DURABILITY_FSYNC, full ? 0 : PAWL_REPLY_DUPLICATE);
            expect_whole(consumer, 1);
            json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'has'}"));
            json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'full'}"));
            memory_pass(&m, m.limits.dedupe_age_ns);
        }
}

Test(bus_resend, a_key_whose_publisher_waits_itself_is_refused_until_the_queue_has_it)
{
    struct memory_client *first = half_published(), *client = memory_open(&m, P + 1);
    say_key(client, "b");
    expect_refused(client, 1, PAWL_E_QUEUE_FULL);
    struct memory_client *consumer = consumer_of(&m, "full", 1);
    (void)memory_ack(&m, consumer, 0);
    memory_turn(&m);
    expect_got(consumer, 0, "a b");
    expect_confirm(first, 2, PAWL_DURABILITY_FSYNC, 0);
    expect_whole(consumer, 1);
}
