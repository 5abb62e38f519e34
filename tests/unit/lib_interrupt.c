/* Rules of libpawl's waiting calls that the program wants to end: their handle's `interrupted` says so. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/lib_fixture.h"

static volatile sig_atomic_t rung;
static unsigned asked, refusals; /* how often it says no before it looks */
static struct pawl *patient;     /* as `client`, but it heeds the signal */

static void on_alarm(int number)
{
    (void)number;
    rung = 1;
}

static int was_rung(void *context)
{
    asked++;
    cr_expect(eq(ptr, context, &asked));
    return refusals > 0 ? (refusals--, 0) : rung;
}

static struct pawl_connect_options options_of(const char *path)
{
    return (struct pawl_connect_options){.bytes = sizeof(struct pawl_connect_options),
                                         .socket = path,
                                         .interrupted = was_rung,
                                         .interrupt_context = &asked};
}

static void set_up(void)
{
    struct sigaction action = {.sa_handler = on_alarm};
    fake_start(&fake);
    struct pawl_connect_options options = options_of(fake.path);
    cr_assert(eq(int, pawl_connect(&options, &patient), 0), "%s", pawl_last_error(NULL));
    cr_assert(eq(int, sigaction(SIGALRM, &action, NULL), 0));
}

static void tear_down(void)
{
    pawl_close(patient);
    fake_stop(&fake);
}

TestSuite(lib_interrupt, .init = set_up, .fini = tear_down, .timeout = 300);

/* A signal again and again: one that comes between the question and the sleep is not the last. */
static void ring(void)
{
    const struct itimerval soon = {.it_interval.tv_usec = 10000, .it_value.tv_usec = 10000};
    rung = 0;
    cr_assert(eq(int, setitimer(ITIMER_REAL, &soon, NULL), 0));
}

static void be_quiet(void)
{
    const struct itimerval never = {{0, 0}, {0, 0}};
    cr_assert(eq(int, setitimer(ITIMER_REAL, &never, NULL), 0));
    rung = 0;
}

#define INTERRUPTED(call)                                                                                    \
    do {                                                                                                     \
        ring();                                                                                              \
        cr_expect(eq(int, call, -EINTR), "%s", #call);                                                       \
        be_quiet();                                                                                          \
    } while (0)

Test(lib_interrupt, a_question_that_nobody_answers_ends_and_its_answer_is_not_taken_for_the_next_ones)
{
    char *reply = NULL;
    fake.reply_json = "{\"first\": 1}";
    fake_lock(&fake); /* it answers nobody */
    INTERRUPTED(pawl_request(patient, "{}", &reply));
    cr_expect(eq(ptr, reply, NULL));
    cr_expect(eq(str, (char *)pawl_last_error(patient), "interrupted"));
    fake_unlock(&fake);
    fake.reply_json = "{\"second\": 2}";
    cr_expect(eq(int, pawl_request(patient, "{}", &reply), 0));
    cr_expect(eq(str, reply, "{\"second\": 2}"));
    free(reply);
    cr_expect(ge(u32, asked, 1));
}

Test(lib_interrupt, a_signal_after_which_the_program_says_no_ends_nothing)
{
    struct pawl_consumer *consumer;
    const struct pawl_delivery *got[1];
    cr_assert(eq(int, pawl_consume(patient, "jobs", NULL, &consumer), 0));
    asked = 0;
    refusals = 3;
    INTERRUPTED(pawl_claim(consumer, got, 1, -1));
    cr_expect(eq(u32, refusals, 0));
    cr_expect(ge(u32, asked, 4));
}

Test(lib_interrupt, every_call_that_waits_is_ended)
{
    struct pawl_message message = {.bytes = sizeof message, .topic = "a", .data = "x", .data_bytes = 1};
    struct pawl_consumer *consumer;
    const struct pawl_delivery *got[1];
    char *text;
    cr_assert(eq(int, pawl_consume(patient, "jobs", NULL, &consumer), 0));
    fake_lock(&fake);
    INTERRUPTED(pawl_publish(patient, &message, -1, NULL));
    INTERRUPTED(pawl_publish_batch(patient, &message, 1, -1, NULL));
    INTERRUPTED(pawl_flush(patient, -1));
    INTERRUPTED(pawl_claim(consumer, got, 1, -1));
    INTERRUPTED(pawl_dispatch(patient, -1));
    INTERRUPTED(pawl_queue_declare(patient, "q", NULL));
    INTERRUPTED(pawl_settle_tag(patient, "q:1:1:1", "ack", 0, NULL));
    INTERRUPTED(pawl_run_wait(patient, "r", -1, NULL));
    INTERRUPTED(pawl_metrics(patient, &text));
    INTERRUPTED(pawl_health(patient, &text));
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_claim(consumer, got, 1, 0), 0), "the handle is as good as before");
}

Test(lib_interrupt, what_came_for_a_consumer_that_was_not_waited_for_goes_back)
{
    struct pawl_consumer *first = NULL, *second = NULL;
    const struct pawl_delivery *got[1];
    cr_assert(eq(int, pawl_consume(patient, "jobs", NULL, &first), 0));
    fake_lock(&fake); /* it delivers, and has not answered yet */
    fake_deliver(&fake, 2, "t", "x", false);
    INTERRUPTED(pawl_consume(patient, "jobs", NULL, &second));
    cr_expect(eq(u64, atomic_load(&fake.port.lane->inbound_consumed), fake.port.inbound_position));
    fake_deliver(&fake, 1, "t", "y", false);
    fake_unlock(&fake);
    cr_assert(eq(int, pawl_claim(first, got, 1, 60000), 1));
    fake_lock(&fake);
    cr_expect(eq(u64, fake_begun(&fake), 2));
    fake_unlock(&fake);
}

Test(lib_interrupt, connecting_to_who_does_not_greet_is_ended)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct pawl *pawl = NULL;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/silent", fake.directory);
    cr_assert(eq(int, bind(fd, (struct sockaddr *)&address, sizeof address), 0));
    cr_assert(eq(int, listen(fd, 1), 0));
    struct pawl_connect_options options = options_of(address.sun_path);
    INTERRUPTED(pawl_connect(&options, &pawl));
    cr_expect(eq(ptr, pawl, NULL));
    cr_expect(eq(str, (char *)pawl_last_error(NULL), "interrupted"));
    close(fd);
    unlink(address.sun_path);
}

Test(lib_interrupt, a_consumer_that_was_not_waited_for_is_ended_there_too)
{
    struct pawl_consumer *consumer = NULL;
    cr_assert(eq(int, pawl_flush(patient, 0), 0));
    struct pawl_message message = {.bytes = sizeof message, .topic = "a"};
    cr_assert(eq(int, pawl_publish_async(patient, &message, 60000, NULL, NULL, NULL), 0), "it has a lane");
    fake_lock(&fake);
    INTERRUPTED(pawl_consume(patient, "jobs", NULL, &consumer));
    fake_unlock(&fake);
    cr_assert(eq(int, pawl_consume(patient, "jobs", NULL, &consumer), 0));
    fake_lock(&fake);
    cr_expect(eq(u32, fake.consumes, 2));
    cr_expect(eq(u32, fake.consume_ends, 1));
    fake_unlock(&fake);
}

Test(lib_interrupt, what_was_taken_already_is_handed_out_and_else_the_take_is_ended)
{
    struct pawl_taken *taken = NULL;
    fake_lock(&fake);
    INTERRUPTED(pawl_take(patient, "jobs", NULL, 2, -1, &taken)); /* nothing comes in its last second */
    cr_expect(eq(ptr, taken, NULL));
    fake_unlock(&fake);
    fake.takes_end = true; /* answers a take when it is to end */
    ring();
    cr_expect(eq(int, pawl_take(patient, "jobs", NULL, 2, -1, &taken), 2));
    be_quiet();
    cr_expect(eq(str, taken[0].tag, "jobs:7:3:1"));
    free(taken);
}

/* Returns when the scheduler has answered what is asked meanwhile. From then on nobody may sleep. */
static void await_the_answer(void *context, const struct pawl_confirm *confirm)
{
    unsigned seen = 0;
    (void)confirm;
    while (seen == 0) {
        sched_yield();
        fake_lock(&fake);
        seen = fake.asked;
        fake_unlock(&fake);
    }
    *(bool *)context = true;
    rung = 1;
}

Test(lib_interrupt, an_answer_is_seen_also_where_news_of_the_lane_lets_nobody_sleep)
{
    struct pawl_message message = {.bytes = sizeof message, .topic = "a"};
    bool told = false;
    char *reply = NULL;
    fake.reply_json = "{}";
    cr_assert(eq(int, pawl_publish_async(patient, &message, 5000, await_the_answer, &told, NULL), 0));
    fake_lock(&fake);
    fake_confirm(&fake, 1, 1, 5);
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_request(patient, "{\"op\": \"x\"}", &reply), 0), "%s", pawl_last_error(patient));
    cr_expect(told);
    free(reply);
}
