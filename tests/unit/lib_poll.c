/* What a poll loop of the user's is woken for: pawl_fd() and the word in the lane. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <poll.h>

#include "shm/doorbell.h"
#include "tests/unit/lib_fixture.h"

static struct pawl_consumer *consumer;
static const struct pawl_delivery *got[1];

static void set_up(void)
{
    fake_set_up();
    struct pawl_consumer_options options = {.bytes = sizeof options};
    cr_assert(eq(int, pawl_consume(client, "jobs", &options, &consumer), 0), "%s", pawl_last_error(client));
}

TestSuite(lib_poll, .init = set_up, .fini = fake_tear_down, .timeout = 300);

static void ack_one(void)
{
    fake_lock(&fake);
    fake_deliver(&fake, 1, "t", "x", false);
    fake_unlock(&fake);
    cr_assert(eq(int, pawl_claim(consumer, got, 1, 60000), 1));
    cr_expect(eq(int, pawl_ack(got[0]), 0));
}

static uint32_t sleeps(void)
{
    fake_lock(&fake);
    uint32_t word = atomic_load(&fake.port.lane->sleeping);
    fake_unlock(&fake);
    return word;
}

Test(lib_poll, a_poll_loop_is_woken_for_what_is_durable_only_after_a_flush_that_timed_out)
{
    cr_assert(ge(int, pawl_fd(client), 0));
    cr_expect(eq(u32, sleeps(), PAWL_CLIENT_SLEEP_NEWS));
    ack_one();
    cr_expect(eq(int, pawl_flush(client, 0), -ETIMEDOUT));
    cr_expect(eq(u32, sleeps(), PAWL_CLIENT_SLEEP_ALL));
    fake_lock(&fake);
    struct pawl_settle settle;
    cr_expect(fake_settlement(&fake, &settle));
    fake_durable(&fake);
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_flush(client, 60000), 0));
    cr_expect(eq(u32, sleeps(), PAWL_CLIENT_SLEEP_NEWS));
}

static void make_durable(void *context, const struct pawl_confirm *confirm)
{
    (void)context, (void)confirm;
    fake_lock(&fake);
    fake_durable(&fake); /* amid a dispatch nobody is woken */
    fake_unlock(&fake);
}

Test(lib_poll, a_poll_loop_whose_flush_timed_out_hears_of_what_became_durable_amid_a_dispatch_once)
{
    struct pollfd fd = {.fd = pawl_fd(client), .events = POLLIN};
    struct pawl_message message = {.bytes = sizeof message, .topic = "a"};
    struct pawl_settle settle;
    ack_one();
    cr_assert(eq(int, pawl_publish_async(client, &message, 5000, make_durable, NULL, NULL), 0));
    cr_expect(eq(int, pawl_flush(client, 0), -ETIMEDOUT));
    fake_lock(&fake);
    cr_expect(fake_settlement(&fake, &settle));
    fake_confirm(&fake, 1, 1, 5);
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_dispatch(client, 0), 1));
    cr_expect(eq(int, poll(&fd, 1, 0), 1));
    cr_expect(eq(int, pawl_dispatch(client, 0), 0));
    cr_expect(eq(int, poll(&fd, 1, 0), 0));
    cr_expect(eq(int, pawl_flush(client, 0), 0));
}

/* Else a loop that flushes, polls and dispatches would never sleep. */
Test(lib_poll, a_flush_that_waits_for_a_confirm_only_leaves_the_descriptor_quiet)
{
    struct pollfd fd = {.fd = pawl_fd(client), .events = POLLIN};
    struct pawl_message message = {.bytes = sizeof message, .topic = "a"};
    while (pawl_dispatch(client, 0) > 0)
        ;
    cr_assert(eq(int, pawl_publish_async(client, &message, 60000, NULL, NULL, NULL), 0));
    cr_expect(eq(int, pawl_flush(client, 0), -ETIMEDOUT));
    cr_expect(eq(int, poll(&fd, 1, 0), 0));
    fake_lock(&fake);
    fake_confirm(&fake, 1, 1, 5);
    fake_unlock(&fake);
    cr_expect(eq(int, poll(&fd, 1, 60000), 1));
    cr_expect(eq(int, pawl_flush(client, 0), 0));
}

/* Of settlements with words there is no reply: room is all the news that comes of them. */
Test(lib_poll, a_poll_loop_that_was_refused_room_is_to_be_woken_for_it_and_is_told_once)
{
    static char text[60000];
    struct pawl_message m = {.bytes = sizeof m, .topic = "t", .data = text, .data_bytes = 60000};
    struct pollfd fd = {.fd = pawl_fd(client), .events = POLLIN};
    while (pawl_dispatch(client, 0) > 0)
        ;
    cr_expect(eq(u32, sleeps(), PAWL_CLIENT_SLEEP_NEWS));
    int error;
    while ((error = pawl_publish_async(client, &m, 0, NULL, NULL, NULL)) == 0)
        ;
    cr_assert(eq(int, error, -EAGAIN));
    cr_expect(eq(u32, sleeps(), PAWL_CLIENT_SLEEP_ALL));
    cr_assert(eq(int, poll(&fd, 1, 0), 0));
    fake_lock(&fake);
    while (fake_submission(&fake)) /* before it slept, as it were: no bell */
        ;
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_dispatch(client, 0), 0));
    cr_expect(eq(int, poll(&fd, 1, 0), 1));
    cr_expect(eq(int, pawl_dispatch(client, 0), 0));
    cr_expect(eq(int, poll(&fd, 1, 0), 0));
    cr_expect(eq(int, pawl_publish_async(client, &m, 0, NULL, NULL, NULL), 0));
}
