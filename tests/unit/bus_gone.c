/*
 * bus_gone - consumers whose queue, or whose group, is deleted.
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

TestSuite(bus_gone, .init = set_up, .fini = tear_down, .timeout = 60);

Test(bus_gone, every_consumer_of_a_deleted_queue_is_told_and_nobody_else)
{
    memory_declare(&m, "q", "'topics': ['t']");
    memory_declare(&m, "other", "'topics': ['t']");
    struct memory_client *one = consumer_of(&m, "q", 10), *two = consumer_of(&m, "q", 10);
    struct memory_client *other = consumer_of(&m, "other", 10);
    json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'q'}"));
    memory_turn(&m);
    cr_expect(eq(int, refusal(one, PAWL_REPLY_GONE, 1), PAWL_E_NOT_FOUND));
    cr_expect(eq(int, refusal(two, PAWL_REPLY_GONE, 1), PAWL_E_NOT_FOUND));
    cr_expect(eq(int, refusal(other, PAWL_REPLY_GONE, 1), 0));
}

Test(bus_gone, consumers_of_a_deleted_group_are_told_and_those_of_others_are_not)
{
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true");
    struct memory_client *one = memory_open(&m, 0), *two = memory_open(&m, 0);
    cr_assert(eq(int, memory_consume(&m, one, 1, "s", "a", 10, 0), 0));
    cr_assert(eq(int, memory_consume(&m, two, 1, "s", "b", 10, 0), 0));
    memory_turn(&m);
    json_decref(memory_request(&m, 0, "{'op': 'group.delete', 'queue': 's', 'group': 'a'}"));
    memory_turn(&m);
    cr_expect(eq(int, refusal(one, PAWL_REPLY_GONE, 1), PAWL_E_NOT_FOUND));
    cr_expect(eq(int, refusal(two, PAWL_REPLY_GONE, 1), 0));
}

Test(bus_gone, a_consumer_that_ended_before_is_told_nothing)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = consumer_of(&m, "q", 10);
    cr_assert(eq(int, pawl_bus_consume_end(m.bus, m.now, pawl_bus_client(m.bus, client->number), 1), 0));
    json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'q'}"));
    memory_turn(&m);
    cr_expect(eq(int, refusal(client, PAWL_REPLY_GONE, 1), 0));
}
