/*
 * bus_damage - bytes that the disk changed after they were durable: seen when they are read, and never handed
 * out.
 */
#include "tests/unit/bus_support.h"

#include "scheduler/bus/record.h"
#include "shm/event.h"

static struct memory m;

static void set_up(void)
{
    memory_init(&m);
    memory_declare(&m, "q", "'topics': ['t']");
}

static void tear_down(void)
{
    memory_fini(&m);
}

TestSuite(bus_damage, .init = set_up, .fini = tear_down, .timeout = 300);

static void say(struct memory_client *client, int first, int count)
{
    char text[16];
    for (int i = first; i < first + count; i++) {
        snprintf(text, sizeof text, "e%d", i);
        (void)memory_say(&m, client, "t", text);
    }
    memory_turn(&m);
}

/* The newest record of this type. */
static struct pawl_bus_events *newest(uint8_t type)
{
    for (size_t i = m.record_count; i > 0; i--)
        if (m.records[i - 1].type == type)
            return (struct pawl_bus_events *)(void *)m.records[i - 1].body;
    cr_fatal("no record of type %u", type);
    return NULL;
}

static struct pawl_event *event_of(struct pawl_bus_events *record, uint32_t n)
{
    struct pawl_event *event = (struct pawl_event *)(void *)((char *)record + record->events_offset);
    for (; n > 0; n--)
        event = (struct pawl_event *)(void *)((char *)event + event->bytes);
    return event;
}

static void flip(const void *byte)
{
    *(unsigned char *)(uintptr_t)byte ^= 1;
}

Test(bus_damage, an_event_whose_bytes_have_changed_stays_and_others_pass_it)
{
    struct memory_client *publisher = memory_open(&m, 0);
    say(publisher, 0, 5);
    const void *byte = pawl_event_data(event_of(newest(PAWL_BUS_RECORD_EVENTS), 1));
    flip(byte);
    struct memory_client *client = consumer_of(&m, "q", 100);
    expect_got(client, 0, "e0 e2 e3 e4");
    expect_number(&m, "q", "depth", 5);
    cr_expect(ne(ptr, strstr(m.logged, "event 2 cannot be read"), NULL), "%s", m.logged);
    for (uint64_t n = 0; n < 4; n++)
        (void)memory_ack(&m, client, n);
    memory_pass(&m, 59 * SECOND);
    memory_turn(&m);
    expect_number(&m, "q", "depth", 1);
    flip(byte); /* the disk reads it right again */
    memory_pass(&m, 2 * SECOND);
    memory_turn(&m);
    expect_got(client, 4, "e1");
    cr_expect(eq(u32, attempt_of(client, 4), 1));
}

Test(bus_damage, no_byte_of_an_event_can_change_unseen)
{
    struct memory_client *publisher = memory_open(&m, 0);
    memory_publish(
        &m, publisher,
        &(struct memory_publish){.topic = "t", .key = "k", .headers = {{"h", "v"}}, .data = "data"});
    memory_turn(&m);
    struct pawl_bus_events *record = newest(PAWL_BUS_RECORD_EVENTS);
    const unsigned char *bytes = (const unsigned char *)record;
    size_t end = record->events_offset + event_of(record, 0)->bytes;
    for (size_t at = 0; at < end; at++) {
        flip(bytes + at);
        struct memory_client *client = consumer_of(&m, "q", 100);
        cr_expect(eq(sz, client->delivery_count, 0), "byte %zu", at);
        flip(bytes + at);
        memory_close(&m, client);
        memory_pass(&m, 61 * SECOND);
        memory_turn(&m);
    }
    struct memory_client *client = consumer_of(&m, "q", 100);
    expect_got(client, 0, "data");
}

Test(bus_damage, an_event_of_a_record_without_sums_is_delivered)
{
    struct memory_client *publisher = memory_open(&m, 0);
    say(publisher, 0, 2);
    struct pawl_bus_events *record = newest(PAWL_BUS_RECORD_EVENTS);
    ((struct pawl_bus_route *)(record + 1))->sum = 0;
    event_of(record, 0)->sum = event_of(record, 1)->sum = 0;
    struct memory_client *client = consumer_of(&m, "q", 100);
    expect_got(client, 0, "e0 e1");
}

Test(bus_damage, an_event_that_was_copied_forward_is_judged_by_its_sum_as_before)
{
    struct memory_client *publisher = memory_open(&m, 0);
    say(publisher, 0, 1);
    for (int i = 0; i < 2 * MEMORY_RECORDS_A_SEGMENT; i++) { /* which begins another segment */
        memory_declare(&m, "q", i % 2 ? "'ack_wait_ns': 1000000000" : "'ack_wait_ns': 2000000000");
        memory_turn(&m);
    }
    cr_assert(pawl_bus_copy_forward(m.bus, m.now, 1, 1 << 20));
    memory_turn(&m);
    const void *byte = pawl_event_data(event_of(newest(PAWL_BUS_RECORD_MOVE), 0));
    flip(byte);
    struct memory_client *client = consumer_of(&m, "q", 100);
    cr_expect(eq(sz, client->delivery_count, 0));
    flip(byte);
    memory_pass(&m, 61 * SECOND);
    memory_turn(&m);
    expect_got(client, 0, "e0");
}

Test(bus_damage, a_group_of_a_stream_passes_what_cannot_be_read)
{
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true");
    struct memory_client *publisher = memory_open(&m, 0);
    say(publisher, 0, 3);
    flip(pawl_event_data(event_of(newest(PAWL_BUS_RECORD_EVENTS), 1)));
    struct memory_client *client = memory_open(&m, 0);
    cr_assert(eq(int, memory_consume(&m, client, 1, "s", "g", 10, 0), 0));
    memory_turn(&m);
    expect_got(client, 0, "e0 e2");
}

Test(bus_damage, a_dead_letter_that_cannot_be_read_keeps_no_other_from_being_redriven)
{
    struct memory_client *client = consumer_of(&m, "q", 100);
    say(client, 0, 3);
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_REJECT, 0, 2, 0);
    memory_turn(&m);
    expect_number(&m, "q", "dlq_depth", 3);
    flip(pawl_event_data(event_of(newest(PAWL_BUS_RECORD_EVENTS), 0))); /* the last one's */
    json_t *reply = memory_request(&m, client->number, "{'op': 'dlq.redrive', 'queue': 'q'}");
    cr_assert(ne(ptr, reply, NULL), "%s", m.why);
    json_decref(reply);
    memory_turn(&m);
    expect_got(client, 3, "e0 e1");
    expect_number(&m, "q", "dlq_depth", 1);
}
