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

TestSuite(bus_gone, .init = set_up, .fini = tear_down, .timeout = 300);

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

Test(bus_gone, no_consumer_is_told_of_a_deletion_before_it_is_durable)
{
    memory_declare(&m, "q", "'topics': ['t']");
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true");
    struct memory_client *one = consumer_of(&m, "q", 10), *two = memory_open(&m, 0);
    cr_assert(eq(int, memory_consume(&m, two, 1, "s", "g", 10, 0), 0));
    memory_turn(&m);
    json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'q'}"));
    json_decref(memory_request(&m, 0, "{'op': 'group.delete', 'queue': 's', 'group': 'g'}"));
    memory_flush(&m);
    cr_expect(eq(int, refusal(one, PAWL_REPLY_GONE, 1), 0));
    cr_expect(eq(int, refusal(two, PAWL_REPLY_GONE, 1), 0));
    memory_sync(&m);
    cr_expect(eq(int, refusal(one, PAWL_REPLY_GONE, 1), PAWL_E_NOT_FOUND));
    cr_expect(eq(int, refusal(two, PAWL_REPLY_GONE, 1), PAWL_E_NOT_FOUND));
}

Test(bus_gone, who_gets_the_number_of_a_client_that_went_is_not_told_of_its_consumers)
{
    memory_declare(&m, "q", "'topics': ['t']");
    memory_declare(&m, "other", "'topics': ['t']");
    struct memory_client *one = consumer_of(&m, "q", 10);
    uint32_t number = one->number;
    json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'q'}"));
    memory_flush(&m);
    memory_close(&m, one);
    struct memory_client *two = memory_open(&m, 0);
    cr_assert(eq(u32, two->number, number));
    cr_assert(eq(int, memory_consume(&m, two, 1, "other", "", 10, 0), 0));
    memory_turn(&m);
    cr_expect(eq(int, refusal(two, PAWL_REPLY_GONE, 1), 0));
}

Test(bus_gone, what_is_said_of_queues_waits_for_the_record_that_changed_them)
{
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true");
    memory_turn(&m);
    cr_expect(le(u64, pawl_bus_queues_lsn(m.bus), m.durable));
    struct memory_client *client = memory_open(&m, 0);
    cr_assert(eq(int, memory_consume(&m, client, 1, "s", "g", 10, 0), 0)); /* it makes the group */
    cr_expect(not(le(u64, pawl_bus_queues_lsn(m.bus), m.durable)));
    memory_turn(&m);
    cr_expect(le(u64, pawl_bus_queues_lsn(m.bus), m.durable));
    json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 's'}"));
    cr_expect(not(le(u64, pawl_bus_queues_lsn(m.bus), m.durable)));
}
