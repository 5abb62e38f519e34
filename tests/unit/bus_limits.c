/*
 * bus_limits - what is at a limit is taken, one more is refused by its name.
 */
#include "scheduler/bus/limits.h"
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

TestSuite(bus_limits, .init = set_up, .fini = tear_down, .timeout = 300);

Test(bus_limits, payload_headers_and_delay_are_taken_at_their_limit_and_refused_beyond)
{
    static char data[1 << 20];
    char value[400];
    memory_declare(&m, "q", "'topics': ['t'], 'max_bytes': 1000000000");
    m.limits.event_headers_bytes = 1 + 300; /* name and value */
    pawl_bus_set_limits(m.bus, &m.limits);
    struct memory_client *client = memory_open(&m, 0);
    memset(data, 'x', sizeof data);
    memset(value, 'v', sizeof value);
    struct memory_publish publish = {.topic = "t", .data = data, .data_bytes = m.limits.event_payload_bytes};
    uint64_t at = memory_publish(&m, client, &publish);
    m.limits.event_payload_bytes--;
    pawl_bus_set_limits(m.bus, &m.limits);
    uint64_t beyond = memory_publish(&m, client, &publish);
    value[300] = 0;
    publish = (struct memory_publish){.topic = "t", .headers = {{"h", value}}};
    uint64_t headers_at = memory_publish(&m, client, &publish);
    value[300] = 'v';
    value[301] = 0;
    uint64_t headers_beyond = memory_publish(&m, client, &publish);
    publish = (struct memory_publish){.topic = "t", .delay_ns = m.limits.publish_delay_ns};
    uint64_t delay_at = memory_publish(&m, client, &publish);
    publish.delay_ns++;
    uint64_t delay_beyond = memory_publish(&m, client, &publish);
    memory_turn(&m);
    expect_confirmed(client, at);
    expect_refused(client, beyond, PAWL_E_LIMIT);
    expect_confirmed(client, headers_at);
    expect_refused(client, headers_beyond, PAWL_E_LIMIT);
    expect_confirmed(client, delay_at);
    expect_refused(client, delay_beyond, PAWL_E_LIMIT);
}

Test(bus_limits, as_many_delayed_and_prioritised_events_as_may_wait_are_taken_and_not_one_more)
{
    m.limits.queue_delayed = 3;
    pawl_bus_set_limits(m.bus, &m.limits);
    memory_declare(&m, "q", "'topics': ['t']");
    memory_declare(&m, "s", "'topics': ['s'], 'stream': true");
    struct memory_client *client = memory_open(&m, 0);
    struct memory_publish delayed = {.topic = "t", .data = "x", .delay_ns = SECOND};
    struct memory_publish urgent = {.topic = "t", .data = "x", .priority = 1};
    uint64_t plain = memory_say(&m, client, "t", "x");
    for (int i = 0; i < 3; i++)
        (void)memory_publish(&m, client, i % 2 ? &urgent : &delayed);
    uint64_t late = memory_publish(&m, client, &delayed), hasty = memory_publish(&m, client, &urgent);
    uint64_t other = memory_say(&m, client, "t", "x");
    delayed.topic = "s";
    uint64_t stream = memory_publish(&m, client, &delayed);
    memory_turn(&m);
    expect_confirmed(client, plain);
    expect_confirmed(client, plain + 3);
    expect_refused(client, late, PAWL_E_LIMIT);
    expect_refused(client, hasty, PAWL_E_LIMIT);
    expect_confirmed(client, other);
    expect_confirmed(client, stream);
    expect_number(&m, "q", "depth", 5);
    memory_pass(&m, SECOND);
    struct memory_client *consumer = consumer_of(&m, "q", 9);
    cr_expect(eq(int, memory_settle(&m, consumer, PAWL_SETTLE_OP_ACK, 0, 4, 0), 0));
    memory_turn(&m);
    uint64_t again = memory_publish(&m, client, &urgent);
    memory_turn(&m);
    expect_confirmed(client, again);
}

Test(bus_limits, queues_patterns_and_settings_are_taken_at_their_limit_and_refused_beyond)
{
    m.limits.queues = 2;
    m.limits.queue_patterns = 2;
    pawl_bus_set_limits(m.bus, &m.limits);
    memory_declare(&m, "a", "'topics': ['1', '2'], 'ack_wait_ns': 604800000000000");
    memory_declare(&m, "b", "'topics': ['1'], 'retry': {'limit': 4095}, 'interruptions': 1000");
    json_t *none = memory_request(&m, 0, "{'op': 'queue.declare', 'name': 'c', 'config': {'topics': ['1']}}");
    cr_expect(eq(ptr, none, NULL));
    cr_expect(eq(int, m.error, PAWL_E_LIMIT));
    static const char *const beyond[] = {"'topics': ['1', '2', '3']", "'ack_wait_ns': 604800000000001",
                                         "'interruptions': 1001"};
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++) {
        none = memory_request(&m, 0, "{'op': 'queue.declare', 'name': 'b', 'config': {%s}}", beyond[i]);
        cr_expect(eq(ptr, none, NULL));
        cr_expect(eq(int, m.error, PAWL_E_LIMIT), "%s", beyond[i]);
    }
    none =
        memory_request(&m, 0, "{'op': 'queue.declare', 'name': 'b', 'config': {'retry': {'limit': 4096}}}");
    cr_expect(eq(ptr, none, NULL));
    cr_expect(lt(int, m.error, 0));
}

Test(bus_limits, a_pattern_of_255_bytes_is_taken_and_one_more_is_beyond_the_limit)
{
    static const char *const formats[] = {"'topics': ['%s']",
                                          "'topics': ['t'], 'overflow_topics': {'%s': 'reject'}"};
    char pattern[257], config[512], name[8];
    memset(pattern, 'p', sizeof pattern);
    for (size_t i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "q%zu", i);
        pattern[255] = 0;
        snprintf(config, sizeof config, formats[i], pattern);
        memory_declare(&m, name, config);
        pattern[255] = 'p';
        pattern[256] = 0;
        snprintf(config, sizeof config, formats[i], pattern);
        json_t *none = memory_request(&m, 0, "{'op': 'queue.declare', 'name': 'b', 'config': {%s}}", config);
        cr_expect(eq(ptr, none, NULL));
        cr_expect(eq(int, m.error, PAWL_E_LIMIT), "%s", formats[i]);
        cr_expect(ne(ptr, strstr(m.why, "256 bytes"), NULL), "%s", m.why);
    }
}

Test(bus_limits, a_client_has_a_bounded_number_of_consumers)
{
    memory_declare(&m, "q", "'topics': ['t']");
    struct memory_client *client = memory_open(&m, 0);
    for (uint32_t i = 1; i <= BUS_CONSUMERS_MAX; i++)
        cr_assert(eq(int, memory_consume(&m, client, i, "q", "", 1, 0), 0));
    cr_expect(eq(int, memory_consume(&m, client, BUS_CONSUMERS_MAX + 1, "q", "", 1, 0), PAWL_E_LIMIT));
    expect_number(&m, "q", "consumers", BUS_CONSUMERS_MAX);
}

Test(bus_limits, a_stream_has_so_many_groups_whoever_makes_them)
{
    static const char words[] = "stream s has 2 groups, and the limit is that (stream-groups)";
    struct pawl_bus_taken taken;
    m.limits.stream_groups = 2;
    pawl_bus_set_limits(m.bus, &m.limits);
    memory_declare(&m, "s", "'topics': ['t'], 'stream': true");
    struct memory_client *client = memory_open(&m, 0);
    cr_expect(eq(int, memory_consume(&m, client, 1, "s", "a", 1, 0), 0));
    json_decref(memory_request(&m, 0, "{'op': 'group.create', 'queue': 's', 'group': 'b'}"));
    cr_expect(eq(int, m.error, 0));
    cr_expect(eq(int, memory_consume(&m, client, 2, "s", "c", 1, 0), PAWL_E_LIMIT));
    cr_expect(eq(str, m.why, (char *)words));
    cr_expect(eq(int, memory_take(&m, "s", "c", 1, &taken), PAWL_E_LIMIT));
    cr_expect(eq(str, m.why, (char *)words));
    cr_expect(eq(ptr, memory_request(&m, 0, "{'op': 'group.create', 'queue': 's', 'group': 'c'}"), NULL));
    cr_expect(eq(int, m.error, PAWL_E_LIMIT));
    cr_expect(eq(str, m.why, (char *)words));
    cr_expect(eq(int, memory_consume(&m, client, 3, "s", "b", 1, 0), 0));
}

Test(bus_limits, all_groups_that_the_maximum_allows_are_served_and_come_back)
{
    const uint64_t most = pawl_limit_find("stream-groups")->maximum;
    char last[16];
    m.limits.stream_groups = most;
    pawl_bus_set_limits(m.bus, &m.limits);
    memory_declare(&m, "s",
                   "'topics': ['t'], 'stream': true, 'rate': {'count': 1, 'per_ns': 1000000000},"
                   "'retry': {'backoff': {'kind': 'fixed', 'initial_ns': 1000000000}}");
    memory_declare(&m, "next", "'topics': ['t']"); /* its number must be nobody's group */
    for (uint64_t i = 1; i <= most; i++) {
        json_decref(memory_request(&m, 0, "{'op': 'group.create', 'queue': 's', 'group': 'g%d'}", (int)i));
        cr_assert(eq(int, m.error, 0), "%d: %s", (int)i, m.why);
    }
    cr_expect(eq(ptr, memory_request(&m, 0, "{'op': 'group.create', 'queue': 's', 'group': 'more'}"), NULL));
    cr_expect(eq(int, m.error, PAWL_E_LIMIT));
    snprintf(last, sizeof last, "g%d", (int)most);
    for (int life = 0; life < 2; life++) {
        struct memory_client *client = memory_open(&m, 0);
        cr_assert(eq(int, memory_consume(&m, client, 1, "s", last, 5, 0), 0));
        (void)memory_say(&m, client, "t", "a");
        memory_turn(&m);
        cr_expect(eq(sz, client->delivery_count, 1));
        memory_begin(&m, client);
        (void)memory_nack(&m, client, 0, PAWL_SETTLE_POLICY);
        memory_turn(&m);
        memory_pass(&m, 2 * SECOND); /* its timer finds it */
        cr_assert(eq(sz, client->delivery_count, 2));
        (void)memory_ack(&m, client, 1);
        memory_turn(&m);
        if (life == 0)
            memory_snapshot(&m);
        memory_restart(&m, m.record_count);
    }
    expect_number(&m, "next", "depth", 2);
}

/* As if so many had been declared and deleted. */
static void use_numbers_up_to(uint32_t number)
{
    static const char config[] = "{\"topics\":[\"t\"]}";
    struct pawl_bus_queue_record record = {
        .queue = number, .name = "last", .config_bytes = sizeof config - 1};
    cr_assert(
        ne(u64, bus_append(m.bus, PAWL_BUS_RECORD_QUEUE, &record, sizeof record, config, record.config_bytes),
           0));
}

Test(bus_limits, without_a_number_left_a_declaration_is_refused_until_a_restart_finds_one)
{
    memory_declare(&m, "q", "'topics': ['t']");
    use_numbers_up_to(BUS_QUEUE_NUMBERS_MAX - 1);
    size_t records = m.record_count;
    cr_expect(
        eq(ptr, memory_request(&m, 0, "{'op': 'queue.declare', 'name': 'more', 'config': {'topics': ['t']}}"),
           NULL));
    cr_expect(eq(int, m.error, PAWL_E_LIMIT));
    cr_expect(eq(
        str, m.why,
        (char *)"2097151 queues were declared since the start, and no number is left: restart pawl serve"));
    cr_expect(eq(sz, m.record_count, records), "nothing of it is written");
    memory_declare(&m, "q", "'topics': ['t', 'u']");
    struct memory_client *client = consumer_of(&m, "q", 1);
    (void)memory_say(&m, client, "u", "x");
    memory_turn(&m);
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_REJECT, 0, 0, 0); /* no number for its dead letters */
    memory_turn(&m);
    expect_number(&m, "q", "depth", 1);
    json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'last'}"));
    memory_snapshot(&m);
    memory_restart(&m, m.record_count);
    memory_declare(&m, "more", "'topics': ['t']");
    memory_pass(&m, 61 * SECOND);
    client = consumer_of(&m, "q", 1);
    (void)memory_settle(&m, client, PAWL_SETTLE_OP_REJECT, 0, 0, 0);
    memory_turn(&m);
    expect_number(&m, "q", "dlq_depth", 1);
}
