/*
 * bus_oversized - an event that is larger than a queue may ever be: refused at once, and nothing else
 * suffers.
 */
#include "tests/unit/bus_support.h"

static struct memory m;
static char large[1001];

static void set_up(void)
{
    memory_init(&m);
    memset(large, 'x', sizeof large - 1);
}

static void tear_down(void)
{
    memory_fini(&m);
}

TestSuite(bus_oversized, .init = set_up, .fini = tear_down, .timeout = 300);

static void reject(const struct memory_client *client, uint64_t number)
{
    struct pawl_settle settle = {.first = number, .last = number, .op = PAWL_SETTLE_OP_REJECT};
    cr_assert(
        eq(int, pawl_bus_settle(m.bus, m.now, pawl_bus_client(m.bus, client->number), &settle, NULL), 0));
    memory_turn(&m);
}

Test(bus_oversized, what_can_never_fit_is_refused_at_once_with_limit_whatever_the_policy)
{
    static const char *const policies[] = {"reject", "block", "drop_newest", "drop_oldest"};
    struct memory_client *client = memory_open(&m, 0);
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        char config[128];
        snprintf(config, sizeof config, "'topics': ['%s'], 'max_bytes': 200, 'overflow': '%s'", policies[i],
                 policies[i]);
        memory_declare(&m, policies[i], config);
        (void)memory_say(&m, client, policies[i], "a");
        uint64_t sequence = memory_say(&m, client, policies[i], large);
        uint64_t after = memory_say(&m, client, policies[i], "b");
        memory_turn(&m);
        expect_refused(client, sequence, PAWL_E_LIMIT);
        expect_confirmed(client, after);
        expect_number(&m, policies[i], "depth", 2);
        expect_number(&m, policies[i], "blocked_publishes", 0);
    }
}

Test(bus_oversized, the_other_queues_take_what_one_can_never_hold)
{
    memory_declare(&m, "small", "'topics': ['t'], 'max_bytes': 200, 'overflow': 'drop_oldest'");
    memory_declare(&m, "roomy", "'topics': ['t']");
    struct memory_client *client = memory_open(&m, 0);
    (void)memory_say(&m, client, "t", "a");
    uint64_t sequence = memory_say(&m, client, "t", large);
    memory_turn(&m);
    expect_confirmed(client, sequence);
    cr_expect(eq(int, refusal(client, PAWL_REPLY_PARTIAL, sequence), PAWL_E_LIMIT));
    expect_number(&m, "small", "depth", 1);
    expect_number(&m, "roomy", "depth", 2);
}

Test(bus_oversized, the_policy_dead_letter_keeps_it_among_the_dead)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_bytes': 200, 'overflow': 'dead_letter'");
    struct memory_client *client = memory_open(&m, 0);
    uint64_t sequence = memory_say(&m, client, "t", large);
    memory_turn(&m);
    expect_confirmed(client, sequence);
    expect_number(&m, "q", "depth", 0);
    expect_number(&m, "q", "dlq_depth", 1);
}

Test(bus_oversized, a_limit_that_is_lowered_below_a_parked_event_refuses_it_and_lets_those_behind_it_in)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
    struct memory_client *client = consumer_of(&m, "q", 1);
    (void)memory_say(&m, client, "t", "first");
    uint64_t sequence = memory_say(&m, client, "t", large), after = memory_say(&m, client, "t", "b");
    memory_turn(&m);
    expect_number(&m, "q", "blocked_publishes", 2);
    memory_declare(&m, "q", "'max_bytes': 200");
    memory_turn(&m);
    expect_refused(client, sequence, PAWL_E_LIMIT);
    expect_unanswered(client, after);
    (void)memory_ack(&m, client, 0);
    memory_turn(&m);
    expect_confirmed(client, after);
    expect_got(client, 0, "first b");
}

Test(bus_oversized, an_act_with_a_part_that_can_never_fit_is_refused_with_limit)
{
    memory_declare(&m, "q", "'topics': ['t'], 'max_bytes': 200");
    struct memory_publish publish = {.topic = "t", .data = large};
    struct pawl_event *event = memory_event(&publish);
    struct pawl_submit submit = {.sequence = 1};
    pawl_bus_act_begin(m.bus);
    cr_expect(eq(int, pawl_bus_may_publish(m.bus, &submit, event), PAWL_E_LIMIT));
    free(event);
}

Test(bus_oversized, a_death_that_its_dead_letter_queue_can_never_hold_costs_no_other_letter_and_is_not_lost)
{
    static const char *const named = "'topics': ['none'], 'max_bytes': 800, 'overflow': 'drop_oldest'";
    memory_declare(&m, "m", named);
    memory_declare(&m, "q", "'topics': ['t'], 'dlq': 'm'");
    struct memory_client *client = consumer_of(&m, "q", 10);
    (void)memory_say(&m, client, "t", "a");
    (void)memory_say(&m, client, "t", large);
    memory_turn(&m);
    reject(client, 0);
    expect_number(&m, "m", "depth", 1);
    reject(client, 1);
    expect_number(&m, "m", "depth", 1);
    expect_number(&m, "q", "depth", 1); /* it stays, and is tried again */
    memory_declare(&m, "m", "'max_bytes': 10000");
    memory_pass(&m, 120 * SECOND);
    cr_assert(eq(sz, client->delivery_count, 3));
    reject(client, 2);
    expect_number(&m, "m", "depth", 2);
    expect_number(&m, "q", "depth", 0);
}

Test(bus_oversized, nor_does_it_cost_a_letter_in_a_queue_of_dead_letters_of_its_own)
{
    m.limits.dlq_bytes = 800;
    pawl_bus_set_limits(m.bus, &m.limits);
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    (void)memory_say(&m, client, "t", "a");
    (void)memory_say(&m, client, "t", large);
    memory_turn(&m);
    reject(client, 0);
    reject(client, 1);
    expect_number(&m, "q.dlq", "depth", 1);
    expect_number(&m, "q", "depth", 1);
}
