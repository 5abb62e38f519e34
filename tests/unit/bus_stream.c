/*
 * bus_stream - what a group of a stream is given when there are holes before it.
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

TestSuite(bus_stream, .init = set_up, .fini = tear_down, .timeout = 60);

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
