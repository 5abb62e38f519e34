/*
 * bus_clock - waits end when they were to: the wall clock may be set, schedulers may die.
 */
#include "tests/unit/bus_support.h"

static struct memory m;

#define DAY  (86400 * (int64_t)SECOND)
#define HOUR (3600 * (int64_t)SECOND)

/* When a snapshot is written, if at all, that the next start reads. */
enum snapshot { NONE, BEFORE_THE_CLOCK_IS_SET, AFTERWARDS, SNAPSHOTS };

/* Each with a bus of its own. */
#define EACH_CASE(step, snapshot)                                                                            \
    for (int64_t step = DAY; step >= -HOUR; step -= DAY + HOUR)                                              \
        for (int snapshot = (memory_init(&m), NONE); snapshot < SNAPSHOTS;                                   \
             memory_fini(&m), snapshot++, snapshot < SNAPSHOTS ? memory_init(&m) : (void)0)

static void set_the_clock_and_restart(int64_t step, int snapshot)
{
    if (snapshot == BEFORE_THE_CLOCK_IS_SET)
        memory_snapshot(&m);
    m.now.realtime_ns += (uint64_t)step;
    if (snapshot == AFTERWARDS)
        memory_snapshot(&m);
    memory_restart(&m, m.record_count);
}

static void publish(const char *data, uint64_t delay_ns, const char *key)
{
    struct memory_client *client = memory_open(&m, 0);
    struct memory_publish event = {.topic = "t", .data = data, .delay_ns = delay_ns};
    if (key) {
        event.headers[0][0] = "k";
        event.headers[0][1] = key;
    }
    (void)memory_publish(&m, client, &event);
    memory_turn(&m);
    memory_close(&m, client);
}

/* To somebody who comes now: not a nanosecond earlier. */
static void expect_after(uint64_t ns, const char *data)
{
    struct memory_client *consumer = consumer_of(&m, "q", 10);
    memory_pass(&m, ns - 1);
    expect_got(consumer, 0, "");
    memory_pass(&m, 1);
    expect_got(consumer, 0, data);
}

TestSuite(bus_clock, .timeout = 300);

Test(bus_clock, a_delay_ends_when_it_was_to_across_a_restart_after_the_clock_was_set)
{
    EACH_CASE(step, snapshot)
    {
        memory_declare(&m, "q", "'topics': ['t']");
        publish("a", 10 * SECOND, NULL);
        memory_pass(&m, 4 * SECOND);
        set_the_clock_and_restart(step, snapshot);
        expect_after(6 * SECOND, "a");
    }
}

Test(bus_clock, it_does_so_after_any_number_of_restarts)
{
    EACH_CASE(step, snapshot)
    {
        memory_declare(&m, "q", "'topics': ['t']");
        publish("a", 10 * SECOND, NULL);
        for (int i = 0; i < 5; i++) {
            memory_pass(&m, SECOND);
            set_the_clock_and_restart(i % 2 ? step / 3 : step, snapshot);
        }
        expect_after(5 * SECOND, "a");
    }
}

Test(bus_clock, a_backoff_ends_when_it_was_to_across_a_restart_after_the_clock_was_set)
{
    EACH_CASE(step, snapshot)
    {
        memory_declare(&m, "q",
                       "'topics': ['t'], 'retry': {'backoff': {'kind': 'fixed', 'initial_ns': "
                       "10000000000, 'jitter': 0}}");
        publish("a", 0, NULL);
        struct memory_client *consumer = consumer_of(&m, "q", 10);
        memory_begin(&m, consumer);
        cr_assert(eq(int, memory_settle(&m, consumer, PAWL_SETTLE_OP_NACK, 0, 0, PAWL_SETTLE_POLICY), 0));
        memory_turn(&m);
        memory_pass(&m, 4 * SECOND);
        set_the_clock_and_restart(step, snapshot);
        expect_after(6 * SECOND, "a");
    }
}

Test(bus_clock, an_ack_deadline_passes_when_it_was_to_across_a_restart_after_the_clock_was_set)
{
    EACH_CASE(step, snapshot)
    {
        struct pawl_bus_taken taken, again;
        memory_declare(&m, "q", "'topics': ['t'], 'ack_wait_ns': 10000000000");
        publish("a", 0, NULL);
        cr_assert(eq(int, memory_take(&m, "q", "", 1, &taken), 1));
        memory_turn(&m);
        memory_pass(&m, 4 * SECOND);
        set_the_clock_and_restart(step, snapshot);
        cr_expect(eq(int, memory_settle_taken(&m, "q", "", &taken, PAWL_SETTLE_OP_EXTEND, 20 * SECOND), 0));
        memory_turn(&m);
        memory_pass(&m, 4 * SECOND);
        set_the_clock_and_restart(step, snapshot);
        memory_pass(&m, 16 * SECOND - 1);
        expect_number(&m, "q", "in_flight", 1);
        memory_pass(&m, 1);
        expect_number(&m, "q", "in_flight", 0);
        memory_pass(&m, 60 * SECOND); /* its backoff */
        cr_assert(eq(int, memory_take(&m, "q", "", 1, &again), 1));
        cr_expect(eq(u32, again.entry.failures, 1));
    }
}

Test(bus_clock, a_delay_behind_another_of_its_ordering_key_goes_on_after_a_restart)
{
    EACH_CASE(step, snapshot)
    {
        memory_declare(&m, "q",
                       "'topics': ['t'], 'ordering_key': 'k', 'retry': {'backoff': {'kind': "
                       "'fixed', 'initial_ns': 5000000000, 'jitter': 0}}");
        publish("first", 0, "x");
        publish("delayed", 100 * SECOND, "x");
        struct memory_client *consumer = consumer_of(&m, "q", 10);
        memory_begin(&m, consumer);
        cr_assert(eq(int, memory_settle(&m, consumer, PAWL_SETTLE_OP_NACK, 0, 0, PAWL_SETTLE_POLICY), 0));
        memory_turn(&m);
        set_the_clock_and_restart(step, snapshot);
        consumer = consumer_of(&m, "q", 10);
        memory_pass(&m, 5 * SECOND);
        expect_got(consumer, 0, "first");
        memory_begin(&m, consumer);
        (void)memory_ack(&m, consumer, 0);
        memory_turn(&m);
        memory_pass(&m, 95 * SECOND - 1);
        expect_got(consumer, 0, "first");
        memory_pass(&m, 1);
        expect_got(consumer, 0, "first delayed");
    }
}

Test(bus_clock, a_delay_goes_on_while_its_publish_waits_for_room_and_the_clock_is_set)
{
    EACH_CASE(step, snapshot)
    {
        memory_declare(&m, "q", "'topics': ['t'], 'max_depth': 1, 'overflow': 'block'");
        struct memory_client *client = memory_open(&m, 0);
        (void)memory_say(&m, client, "t", "first");
        (void)memory_publish(&m, client,
                             &(struct memory_publish){.topic = "t", .data = "late", .delay_ns = 10 * SECOND});
        memory_turn(&m);
        memory_pass(&m, 4 * SECOND);
        m.now.realtime_ns += (uint64_t)step;
        struct memory_client *consumer = consumer_of(&m, "q", 10);
        memory_begin(&m, consumer);
        (void)memory_ack(&m, consumer, 0);
        memory_turn(&m);
        set_the_clock_and_restart(step, snapshot);
        expect_after(6 * SECOND, "late");
    }
}

Test(bus_clock, in_another_boot_what_is_left_is_told_by_the_wall_clock_and_never_more_than_the_whole)
{
    EACH_CASE(step, snapshot)
    {
        memory_declare(&m, "q", "'topics': ['t']");
        publish("a", 10 * SECOND, NULL);
        if (snapshot)
            memory_snapshot(&m);
        memory_reboot(&m, 30 * SECOND);
        m.now.realtime_ns += (uint64_t)(snapshot == AFTERWARDS ? step : 4 * (int64_t)SECOND);
        memory_restart(&m, m.record_count);
        struct memory_client *consumer = consumer_of(&m, "q", 10);
        uint64_t left_ns = snapshot != AFTERWARDS ? 6 * SECOND : step > 0 ? 0 : 10 * SECOND;
        if (left_ns) {
            memory_pass(&m, left_ns - 1);
            expect_got(consumer, 0, "");
            memory_pass(&m, 1);
        }
        expect_got(consumer, 0, "a");
    }
}

Test(bus_clock, an_instant_that_is_read_back_never_leaves_its_bounds)
{
    const struct pawl_now written = {.boottime_ns = 100, .realtime_ns = 1000},
                          wrong = {.boottime_ns = 2000, .realtime_ns = 1000};
    cr_expect(eq(u64, pawl_now_due(written, 1050, 60), 150));
    cr_expect(eq(u64, pawl_now_due(written, 1061, 60), 160), "never after the whole wait");
    cr_expect(eq(u64, pawl_now_due(written, 950, 60), 50), "overdue, and in its place among those");
    cr_expect(eq(u64, pawl_now_due(written, 900, 60), 1), "0 would mean another boot");
    cr_expect(eq(u64, pawl_now_due(written, 0, 60), 1));
    cr_expect(eq(u64, pawl_now_due(wrong, UINT64_MAX, UINT64_MAX), UINT64_MAX));
    cr_expect(eq(u64, pawl_now_due((struct pawl_now){.realtime_ns = 1000}, 1050, 60), 0));
    cr_expect(eq(u64, pawl_now_due_later(written, 1050, 60), 150));
    cr_expect(eq(u64, pawl_now_due_later(written, 5000, 60), 160));
    cr_expect(eq(u64, pawl_now_due_later(written, 5, 60), 100));
    cr_expect(eq(u64, pawl_now_due_later(wrong, UINT64_MAX, UINT64_MAX), UINT64_MAX));
}
