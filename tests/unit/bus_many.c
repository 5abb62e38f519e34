/*
 * bus_many - as many queues as the limit says.
 */
#include "tests/unit/bus_support.h"

#include "scheduler/bus/limits.h"
#include "scheduler/bus/state.h"

static struct memory m;
static uint32_t most;

static void set_up(void)
{
    most = (uint32_t)pawl_limit_find("queues")->maximum / 8; /* all of them take several seconds */
    memory_init(&m);
}

static void tear_down(void)
{
    memory_fini(&m);
}

TestSuite(bus_many, .init = set_up, .fini = tear_down, .timeout = 300);

/* The limit is of the configuration, which a scheduler has from its start on. */
static void allow(uint64_t queues)
{
    m.limits.queues = queues;
    memory_restart(&m, m.record_count);
}

static void declare(uint32_t first, uint32_t end)
{
    char name[32], config[64];
    for (uint32_t i = first; i < end; i++) {
        snprintf(name, sizeof name, "q%u", i);
        snprintf(config, sizeof config, "'topics': ['all', 'one.%u']", i);
        memory_declare(&m, name, config);
    }
}

static uint32_t routed(struct memory_client *client, const char *topic)
{
    uint64_t sequence = memory_say(&m, client, topic, "x");
    memory_turn(&m);
    const struct pawl_reply *reply = memory_reply(client, PAWL_REPLY_CONFIRM, sequence);
    return reply ? reply->routed : UINT32_MAX;
}

Test(bus_many, as_many_queues_as_the_limit_takes_are_served_and_come_back_and_one_more_is_refused)
{
    allow(most);
    declare(0, most);
    cr_assert(eq(u32, pawl_bus_queue_count(m.bus), most));
    json_t *more =
        memory_request(&m, 0, "{'op': 'queue.declare', 'name': 'more', 'config': {'topics': ['t']}}");
    cr_assert(eq(ptr, (void *)more, NULL));
    cr_expect(eq(int, m.error, PAWL_E_LIMIT));
    cr_expect(eq(str, (char *)m.why, (char *)"there are 8192 queues, and the limit is 8192"));

    struct memory_client *client = memory_open(&m, 0);
    cr_expect(eq(u32, routed(client, "all"), most));
    cr_expect(eq(u32, routed(client, "one.77"), 1));
    memory_snapshot(&m);
    cr_expect(eq(u32, routed(client, "all"), most));
    memory_restart(&m, m.record_count);

    cr_assert(eq(u32, pawl_bus_queue_count(m.bus), most));
    expect_number(&m, "q0", "depth", 2);
    expect_number(&m, "q77", "depth", 3);
    expect_number(&m, "q8191", "depth", 2);
    client = consumer_of(&m, "q77", 10);
    cr_expect(eq(sz, client->delivery_count, 3));
    cr_expect(eq(u32, routed(client, "one.8191"), 1));
}
