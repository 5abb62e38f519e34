/*
 * bus_act - atomic acts: what is found to fit together, or refused, before any of it is done.
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

TestSuite(bus_act, .init = set_up, .fini = tear_down, .timeout = 300);

static void fill(struct memory_client *client, const char *topic, int count)
{
    for (int i = 0; i < count; i++)
        (void)memory_say(&m, client, topic, "old");
    memory_turn(&m);
}

Test(bus_act, parts_of_an_atomic_act_must_all_fit_together)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 2");
    struct memory_client *client = memory_open(&m, 0);
    fill(client, "t", 1);
    struct pawl_event *event = memory_event(&(struct memory_publish){.topic = "t", .data = "x"});
    struct pawl_submit submit = {.type = PAWL_SUBMIT_EVENT};
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, event), 0));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, event), PAWL_E_QUEUE_FULL));
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, event), 0));
    free(event);
}

Test(bus_act, the_bytes_of_what_an_act_acks_are_free_for_what_it_publishes)
{
    struct memory_publish small = {.topic = "t", .data = "old"},
                          large = {.topic = "t", .data = "much more than the old one had, by its data"};
    struct pawl_event *same = memory_event(&small), *more = memory_event(&large);
    struct pawl_submit submit = {.type = PAWL_SUBMIT_EVENT};
    const struct pawl_settle ack = {.op = PAWL_SETTLE_OP_ACK};
    char config[96];
    snprintf(config, sizeof config, "'topics': ['t'], 'max_bytes': %u", 3 * same->bytes);
    memory_declare(&m, "q", config);
    struct memory_client *client = consumer_of(&m, "q", 10);
    struct pawl_bus_client *held = pawl_bus_client(m.bus, client->number);
    fill(client, "t", 3);
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, same), PAWL_E_QUEUE_FULL), "nothing is acked");
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &ack), 0));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, more), PAWL_E_QUEUE_FULL),
              "there is no room for more");
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &ack), 0));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, same), 0));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, same), PAWL_E_QUEUE_FULL), "it was room for one");
    pawl_bus_act_hold(m.bus, true);
    cr_expect(eq(int, memory_ack(&m, client, 0), 0));
    uint64_t sequence = memory_say(&m, client, "t", "new");
    pawl_bus_flush(m.bus, m.now);
    pawl_bus_act_hold(m.bus, false);
    memory_turn(&m);
    expect_confirmed(client, sequence);
    expect_number(&m, "q", "depth", 3);
    free(same);
    free(more);
}

Test(bus_act, a_delivery_makes_room_in_an_act_once)
{
    struct pawl_event *event = memory_event(&(struct memory_publish){.topic = "t", .data = "x"});
    struct pawl_submit submit = {.type = PAWL_SUBMIT_EVENT};
    const struct pawl_settle ack = {.op = PAWL_SETTLE_OP_ACK}, both = {.op = PAWL_SETTLE_OP_ACK, .last = 1},
                             extend = {.op = PAWL_SETTLE_OP_EXTEND}, release = {.op = PAWL_SETTLE_OP_RELEASE};
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 2");
    struct memory_client *client = consumer_of(&m, "q", 10);
    struct pawl_bus_client *held = pawl_bus_client(m.bus, client->number);
    fill(client, "t", 2);
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &extend), 0));
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &ack), 0));
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &ack), PAWL_E_STALE_RECEIPT));
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &both), PAWL_E_STALE_RECEIPT));
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &extend), PAWL_E_STALE_RECEIPT));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, event), 0));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, event), PAWL_E_QUEUE_FULL));
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &release), 0));
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &ack), PAWL_E_STALE_RECEIPT));
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &both), 0), "an act that was refused leaves it");
    free(event);
}

/* A consumer that holds one event of each queue, on a disk that became full then. */
static struct memory_client *holder_of(const char *first, const char *second)
{
    struct memory_client *client = consumer_of(&m, first, 10);
    (void)memory_consume(&m, client, 2, second, "", 10, 0);
    fill(client, "t", 1);
    memory_turn(&m);
    cr_assert(eq(sz, client->delivery_count, 2));
    m.has_room = PAWL_E_NO_SPACE;
    m.spare = 1000;
    return client;
}

Test(bus_act, an_act_that_stores_no_more_than_it_acks_is_taken_on_a_full_disk)
{
    struct memory_publish old = {.topic = "t", .data = "0"}, two = {.topic = "ab", .data = "x"},
                          one = {.topic = "a", .data = "x"};
    struct pawl_event *to_one = memory_event(&one), *to_two = memory_event(&two);
    struct pawl_event *like_old = memory_event(&old);
    cr_assert(eq(u32, to_one->bytes, like_old->bytes));
    struct pawl_submit submit = {.type = PAWL_SUBMIT_EVENT};
    const struct pawl_settle ack = {.op = PAWL_SETTLE_OP_ACK}, both = {.op = PAWL_SETTLE_OP_ACK, .last = 1},
                             release = {.op = PAWL_SETTLE_OP_RELEASE};
    memory_declare(&m, "p", "'topics': ['t']");
    memory_declare(&m, "q", "'topics': ['t']");
    memory_declare(&m, "a", "'topics': ['a', 'ab']");
    memory_declare(&m, "b", "'topics': ['ab']");
    struct pawl_bus_client *held = pawl_bus_client(m.bus, holder_of("p", "q")->number);

    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, to_one), PAWL_E_NO_SPACE), "it acks nothing");
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &release), 0));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, to_one), PAWL_E_NO_SPACE), "nor does a release");
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &ack), 0));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, to_one), 0));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, to_one), PAWL_E_NO_SPACE), "that is more");
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &ack), 0));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, to_two), PAWL_E_NO_SPACE), "two queues: twice");
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &both), 0));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, to_two), 0));
    m.spare = to_one->bytes;
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &ack), 0));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, to_one), PAWL_E_NO_SPACE), "none is to spare");
    free(to_one);
    free(to_two);
    free(like_old);
}

Test(bus_act, acks_that_give_no_disk_space_back_are_none_for_what_an_act_publishes)
{
    struct pawl_event *event = memory_event(&(struct memory_publish){.topic = "a", .data = "x"});
    struct pawl_submit submit = {.type = PAWL_SUBMIT_EVENT};
    const struct pawl_settle both = {.op = PAWL_SETTLE_OP_ACK, .last = 1};
    memory_declare(&m, "stream", "'topics': ['t'], 'stream': true");
    memory_declare(&m, "memory", "'topics': ['m'], 'durability': 'memory'");
    memory_declare(&m, "a", "'topics': ['a']");
    struct memory_client *client = memory_open(&m, 0);
    cr_assert(eq(int, memory_consume(&m, client, 1, "stream", "g", 10, 0), 0));
    cr_assert(eq(int, memory_consume(&m, client, 2, "memory", "", 10, 0), 0));
    memory_turn(&m);
    fill(client, "t", 1);
    fill(client, "m", 1);
    memory_turn(&m);
    cr_assert(eq(sz, client->delivery_count, 2));
    m.has_room = PAWL_E_NO_SPACE;
    m.spare = 1000;
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, pawl_bus_client(m.bus, client->number), &both), 0));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, event), PAWL_E_NO_SPACE));
    submit.durability = PAWL_DURABILITY_MEMORY;
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, event), 0), "what is in memory needs no disk");
    free(event);
}

Test(bus_act, an_act_that_was_found_to_fit_is_done_whatever_the_disk_says_of_its_parts)
{
    memory_declare(&m, "p", "'topics': ['t']");
    memory_declare(&m, "q", "'topics': ['t']");
    memory_declare(&m, "a", "'topics': ['a']");
    struct memory_client *client = holder_of("p", "q");
    struct pawl_bus_client *held = pawl_bus_client(m.bus, client->number);
    struct pawl_event *event = memory_event(&(struct memory_publish){.topic = "a", .data = "x"});
    struct pawl_submit submit = {.type = PAWL_SUBMIT_EVENT};
    const struct pawl_settle ack = {.op = PAWL_SETTLE_OP_ACK};
    uint64_t refused = memory_say(&m, client, "a", "plain");
    memory_turn(&m);
    expect_refused(client, refused, PAWL_E_NO_SPACE);
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_settle(m.bus, held, &ack), 0));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, event), 0));
    pawl_bus_act_hold(m.bus, true);
    cr_expect(eq(int, memory_ack(&m, client, 0), 0));
    uint64_t sequence = memory_say(&m, client, "a", "x");
    pawl_bus_flush(m.bus, m.now);
    pawl_bus_act_hold(m.bus, false);
    memory_turn(&m);
    expect_confirmed(client, sequence);
    expect_number(&m, "a", "depth", 1);
    expect_number(&m, "p", "depth", 0);
    free(event);
}

Test(bus_act, an_act_that_memory_cannot_hold_is_refused_before_any_of_it_is_done)
{
    memory_declare(&m, "q", "'topics': ['t']");
    memory_declare(&m, "memory", "'topics': ['m'], 'durability': 'memory'");
    struct pawl_event *disk = memory_event(&(struct memory_publish){.topic = "t", .data = "x"});
    struct pawl_event *kept = memory_event(&(struct memory_publish){.topic = "m", .data = "x"});
    struct pawl_submit submit = {.type = PAWL_SUBMIT_EVENT};
    m.kept_max = kept->bytes + 400;
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, kept), 0));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, disk), 0));
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, kept), PAWL_E_NO_SPACE), "both do not fit");
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, kept), 0));
    submit.guarantee = PAWL_GUARANTEE_AT_MOST_ONCE;
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, disk), PAWL_E_NO_SPACE), "neither do these");
    m.kept_full = true;
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, disk), PAWL_E_NO_SPACE));
    free(disk);
    free(kept);
}

Test(bus_act, an_act_as_large_as_a_batch_can_be_is_the_largest_and_no_failure_is_part_of_one)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_bytes': 1000000000");
    struct memory_client *client = consumer_of(&m, "q", 10);
    (void)memory_say(&m, client, "t", "x");
    memory_turn(&m);
    struct pawl_event *event = memory_event(&(struct memory_publish){.topic = "t", .data = "x"});
    struct pawl_submit submit = {.type = PAWL_SUBMIT_EVENT};
    size_t bytes = event->bytes, fit = 0;
    event->bytes = 1 << 20; /* all that is asked about is its size */
    pawl_bus_act_begin(m.bus);
    while (fit < 100 && pawl_bus_may_publish(m.bus, &submit, event) == 0)
        fit++;
    cr_expect(all(ge(sz, fit, 64), lt(sz, fit, 72)), "%zu MiB", fit);
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, event), PAWL_E_LIMIT));
    event->bytes = (uint32_t)bytes;
    free(event);
    for (int number = PAWL_SETTLE_OP_ACK; number <= PAWL_SETTLE_OP_RELEASE; number++) {
        uint8_t op = (uint8_t)number;
        struct pawl_settle settle = {.op = op};
        pawl_bus_act_begin(m.bus);
        bool failure = op == PAWL_SETTLE_OP_NACK || op == PAWL_SETTLE_OP_REJECT;
        cr_expect(eq(int, pawl_bus_may_settle(m.bus, pawl_bus_client(m.bus, client->number), &settle),
                     failure ? PAWL_E_INVALID : 0));
    }
}

Test(bus_act, what_an_act_makes_room_for_comes_after_it)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = consumer_of(&m, "q", 10);
    fill(client, "t", 2);
    memory_turn(&m);
    expect_number(&m, "q", "blocked_publishes", 1);
    pawl_bus_act_hold(m.bus, true);
    cr_expect(eq(int, memory_ack(&m, client, 0), 0));
    pawl_bus_flush(m.bus, m.now);
    expect_number(&m, "q", "blocked_publishes", 1);
    pawl_bus_act_hold(m.bus, false);
    expect_number(&m, "q", "blocked_publishes", 0);
    expect_number(&m, "q", "depth", 1);
}
