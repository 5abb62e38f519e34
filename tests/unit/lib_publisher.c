/* Rules of libpawl's publishing, against the scheduler's end of a lane. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/timerfd.h>

#include "runtime/lib/command.h"
#include "runtime/lib/lib.h"
#include "shm/doorbell.h"
#include "shm/error.h"
#include "tests/unit/lib_fixture.h"

TestSuite(lib_publisher, .init = fake_set_up, .fini = fake_tear_down, .timeout = 300);

struct seen {
    unsigned count;
    struct pawl_confirm confirms[300];
};

static void on_confirm(void *context, const struct pawl_confirm *confirm)
{
    struct seen *seen = context;
    seen->confirms[seen->count++ % 300] = *confirm;
}

static struct pawl_message message(const char *topic, const char *data)
{
    return (struct pawl_message){
        .bytes = sizeof(struct pawl_message), .topic = topic, .data = data, .data_bytes = strlen(data)};
}

static uint64_t send_async(const char *data, struct seen *seen)
{
    uint64_t sequence = 0;
    struct pawl_message m = message("a.b", data);
    cr_assert(eq(int, pawl_publish_async(client, &m, 5000, seen ? on_confirm : NULL, seen, &sequence), 0));
    return sequence;
}

static void expect_data(const struct pawl_submit *submit, uint64_t sequence, const char *data)
{
    cr_assert(ne(ptr, (void *)submit, NULL));
    const struct pawl_event *event = fake_event(submit);
    cr_expect(eq(u64, submit->sequence, sequence));
    cr_assert(eq(sz, event->data_bytes, strlen(data)));
    cr_expect(eq(int, memcmp(pawl_event_data(event), data, strlen(data)), 0));
}

Test(lib_publisher, nothing_is_sent_before_a_kick_and_all_of_it_after)
{
    cr_expect(eq(u64, send_async("one", NULL), 1));
    cr_expect(eq(u64, send_async("two", NULL), 2));
    fake_lock(&fake);
    cr_expect(eq(ptr, (void *)fake_submission(&fake), NULL));
    fake_unlock(&fake);
    pawl_kick(client);
    fake_lock(&fake);
    expect_data(fake_submission(&fake), 1, "one");
    expect_data(fake_submission(&fake), 2, "two");
    cr_expect(eq(ptr, (void *)fake_submission(&fake), NULL));
    fake_unlock(&fake);
    cr_expect(eq(u64, pawl_unconfirmed(client), 2));
}

static bool bell_rang(void)
{
    bool rang = poll(&(struct pollfd){.fd = fake.scheduler_fd, .events = POLLIN}, 1, 0) == 1;
    if (rang)
        pawl_doorbell_clear(fake.scheduler_fd);
    return rang;
}

Test(lib_publisher, a_sleeping_scheduler_is_woken_for_256_or_by_a_kick_and_one_that_is_awake_sees_64)
{
    send_async("the first makes the lane", NULL);
    pawl_kick(client);
    fake_lock(&fake);
    cr_assert(ne(ptr, (void *)fake_submission(&fake), NULL));
    pawl_doorbell_prepare(&fake.port.inbound->sleeping);
    fake_unlock(&fake);
    for (unsigned i = 1; i < 64; i++)
        send_async("x", NULL);
    cr_expect(not(pawl_client_port_submitting(&fake.port)));
    send_async("x", NULL);
    cr_expect(pawl_client_port_submitting(&fake.port));
    for (unsigned i = 65; i < 256; i++)
        send_async("x", NULL);
    cr_expect(not(bell_rang()));
    send_async("x", NULL);
    cr_expect(bell_rang());
    for (unsigned i = 0; i < 64; i++)
        send_async("x", NULL);
    cr_expect(not(bell_rang()));
    pawl_kick(client);
    cr_expect(bell_rang());
    pawl_kick(client);
    cr_expect(not(bell_rang()), "there was nothing new");
}

Test(lib_publisher, a_range_of_confirms_runs_each_callback_with_its_own_sequence_and_id)
{
    struct seen seen = {0};
    for (int i = 0; i < 5; i++)
        send_async("x", &seen);
    pawl_kick(client);
    fake_lock(&fake);
    fake_confirm(&fake, 2, 4, 100);
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_dispatch(client, 60000), 1));
    cr_assert(eq(uint, seen.count, 3));
    for (unsigned i = 0; i < 3; i++) {
        cr_expect(eq(u64, seen.confirms[i].sequence, 2 + i));
        cr_expect(eq(u64, seen.confirms[i].event_id, 100 + i));
        cr_expect(eq(int, seen.confirms[i].error, 0));
    }
    cr_expect(eq(u64, pawl_unconfirmed(client), 2));
}

Test(lib_publisher, a_refusal_carries_its_error_and_a_partial_one_its_count)
{
    struct seen seen = {0};
    send_async("x", &seen);
    send_async("y", &seen);
    pawl_kick(client);
    fake_lock(&fake);
    fake_reply(&fake, (struct pawl_reply){
                          .type = PAWL_REPLY_REFUSE, .error = PAWL_E_QUEUE_FULL, .first = 1, .last = 1});
    fake_reply(
        &fake,
        (struct pawl_reply){
            .type = PAWL_REPLY_PARTIAL, .error = PAWL_E_QUEUE_FULL, .first = 2, .last = 2, .queue = 3});
    fake_confirm(&fake, 2, 2, 9);
    fake_unlock(&fake);
    while (seen.count < 2)
        cr_assert(ge(int, pawl_dispatch(client, 60000), 1));
    cr_expect(eq(int, seen.confirms[0].error, PAWL_ERR_QUEUE_FULL));
    cr_expect(eq(int, seen.confirms[1].error, 0));
    cr_expect(eq(uint, seen.confirms[1].refused, 1));
}

Test(lib_publisher, publish_waits_for_its_confirm)
{
    struct pawl_confirm confirm = {0};
    struct pawl_message m = message("a", "data");
    atomic_store(&fake.serves, true);
    cr_assert(eq(int, pawl_publish(client, &m, 10000, &confirm), 0));
    cr_expect(eq(u64, confirm.sequence, 1));
    cr_expect(eq(u64, confirm.event_id, 1001));
}

Test(lib_publisher, publish_that_is_not_confirmed_in_time_says_so_and_forgets_its_caller)
{
    struct pawl_message m = message("a", "data");
    cr_assert(eq(int, pawl_publish(client, &m, 20, NULL), -ETIMEDOUT));
    cr_expect(eq(u64, pawl_unconfirmed(client), 1));
    fake_lock(&fake);
    fake_confirm(&fake, 1, 1, 5);
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_dispatch(client, 60000), 1));
    cr_expect(eq(u64, pawl_unconfirmed(client), 0));
}

/* What a kick in the batch has shown is answered here, by the thread that waits for it. */
static void *answer_with_drops(void *context)
{
    (void)context;
    unsigned seen = 0;
    while (seen < 4) {
        fake_lock(&fake);
        while (fake.attached && fake_submission(&fake))
            seen++;
        fake_unlock(&fake);
        sched_yield();
    }
    fake_lock(&fake);
    fake_confirm(&fake, 1, 1, 7);
    fake_reply(&fake, (struct pawl_reply){.type = PAWL_REPLY_CONFIRM, .first = 2, .last = 3}); /* dropped */
    fake_reply(&fake, (struct pawl_reply){
                          .type = PAWL_REPLY_CONFIRM, .first = 4, .last = 4, .flags = PAWL_REPLY_UNROUTED});
    fake_unlock(&fake);
    return NULL;
}

Test(lib_publisher, a_batch_does_not_count_as_stored_what_a_full_queue_dropped)
{
    struct pawl_message messages[4];
    size_t stored = 0;
    pthread_t thread;
    for (int i = 0; i < 4; i++)
        messages[i] = message("a", "x");
    cr_assert(eq(int, pthread_create(&thread, NULL, answer_with_drops, NULL), 0));
    cr_expect(eq(int, pawl_publish_batch(client, messages, 4, 60000, &stored), 0));
    pthread_join(thread, NULL);
    cr_expect(eq(sz, stored, 2), "the first, and the one that nobody wanted");
}

Test(lib_publisher, a_batch_waits_for_all_and_counts_what_was_stored)
{
    struct pawl_message messages[200];
    size_t stored = 0;
    for (int i = 0; i < 200; i++)
        messages[i] = message("a.b.c", "0123456789");
    atomic_store(&fake.serves, true);
    cr_assert(eq(int, pawl_publish_batch(client, messages, 200, 10000, &stored), 0));
    cr_expect(eq(sz, stored, 200));
}

Test(lib_publisher, what_was_confirmed_is_not_sent_again_and_the_rest_is_in_order)
{
    struct seen seen = {0};
    for (int i = 0; i < 6; i++) {
        char text[8] = {(char)('a' + i)};
        send_async(text, &seen);
    }
    pawl_kick(client);
    fake_lock(&fake);
    fake_confirm(&fake, 1, 1, 50); /* said before the death: heard after it */
    fake_confirm(&fake, 5, 5, 54);
    fake.known_sequence = 2; /* stored, but the confirm did not get out */
    fake_unlock(&fake);
    fake_die(&fake);
    while (fake.attachments < 2 || seen.count < 3)
        cr_assert(ge(int, pawl_dispatch(client, 100), 0));
    cr_expect(eq(u64, seen.confirms[2].sequence, 2));
    cr_expect(eq(int, seen.confirms[2].error, 0));
    fake_lock(&fake);
    expect_data(fake_submission(&fake), 3, "c");
    expect_data(fake_submission(&fake), 4, "d");
    expect_data(fake_submission(&fake), 6, "f");
    cr_expect(eq(ptr, (void *)fake_submission(&fake), NULL));
    fake_unlock(&fake);
    cr_expect(eq(u64, pawl_unconfirmed(client), 3));
    cr_expect(eq(u64, send_async("g", NULL), 7), "numbers go on");
}

Test(lib_publisher, bytes_that_were_overwritten_in_the_lane_are_sent_again_whole)
{
    /* 300 events of 10,000 bytes through a ring of 1 MiB, none confirmed. */
    static char text[10001];
    memset(text, 'x', 10000);
    for (int i = 0; i < 300; i++) {
        snprintf(text, 8, "%06d", i);
        text[6] = 'x';
        send_async(text, NULL);
        pawl_kick(client);
        fake_lock(&fake);
        snprintf(text, 8, "%06d", i);
        text[6] = 'x';
        expect_data(fake_submission(&fake), (uint64_t)i + 1, text);
        fake_unlock(&fake);
    }
    fake_die(&fake);
    for (int i = 0; i < 300; i++) {
        const struct pawl_submit *submit = NULL;
        while (!submit) {
            cr_assert(ge(int, pawl_dispatch(client, 1), 0));
            fake_lock(&fake);
            submit = fake.attached ? fake_submission(&fake) : NULL;
            fake_unlock(&fake);
        }
        snprintf(text, 8, "%06d", i);
        text[6] = 'x';
        expect_data(submit, (uint64_t)i + 1, text);
    }
}

Test(lib_publisher, a_full_lane_refuses_at_once_without_a_timeout_and_goes_on_when_there_is_room)
{
    static char text[60001];
    struct pawl_message m;
    int error, count = 0;
    memset(text, 'y', 60000);
    m = message("t", text);
    send_async("first", NULL);
    while ((error = pawl_publish_async(client, &m, 0, NULL, NULL, NULL)) == 0)
        count++;
    cr_expect(eq(int, error, -EAGAIN));
    cr_expect(not(le(int, count, 10)));
    fake_lock(&fake);
    while (fake_submission(&fake))
        ;
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_publish_async(client, &m, 0, NULL, NULL, NULL), 0));
}

Test(lib_publisher, the_window_of_unconfirmed_publishes_is_bounded)
{
    struct pawl_message m = message("t", "");
    int error = 0;
    uint64_t count = 0;
    send_async("", NULL);
    while (error == 0) {
        error = pawl_publish_async(client, &m, 0, NULL, NULL, NULL);
        count += error == 0;
        fake_lock(&fake);
        if (error == -EAGAIN && fake_submission(&fake)) {
            while (fake_submission(&fake))
                ;
            error = 0;
        }
        fake_unlock(&fake);
        if (error == -EAGAIN && pawl_unconfirmed(client) < PAWL_UNCONFIRMED_MAX)
            error = 0;
    }
    cr_expect(eq(int, error, -EAGAIN));
    cr_expect(eq(u64, pawl_unconfirmed(client), PAWL_UNCONFIRMED_MAX));
}

Test(lib_publisher, a_reserved_event_is_invisible_until_it_is_committed)
{
    void *data;
    uint64_t sequence;
    struct pawl_message m = {.bytes = sizeof m, .topic = "r", .data_bytes = 5};
    cr_assert(eq(int, pawl_publish_reserve(client, &m, 5000, &data), 0));
    memcpy(data, "hello", 5);
    pawl_kick(client);
    fake_lock(&fake);
    cr_expect(eq(ptr, (void *)fake_submission(&fake), NULL));
    fake_unlock(&fake);
    struct pawl_message other = message("o", "");
    cr_expect(eq(int, pawl_publish_async(client, &other, 0, NULL, NULL, NULL), PAWL_ERR_STATE));
    cr_assert(eq(int, pawl_publish_commit(client, NULL, NULL, &sequence), 0));
    pawl_kick(client);
    fake_lock(&fake);
    expect_data(fake_submission(&fake), sequence, "hello");
    fake_unlock(&fake);
    cr_assert(eq(int, pawl_publish_reserve(client, &m, 5000, &data), 0));
    pawl_publish_abort(client);
    cr_expect(eq(int, pawl_publish_async(client, &other, 0, NULL, NULL, NULL), 0));
}

Test(lib_publisher, a_reservation_survives_a_lost_scheduler)
{
    void *data;
    struct pawl_message m = {.bytes = sizeof m, .topic = "r", .data_bytes = 5};
    cr_assert(eq(int, pawl_publish_reserve(client, &m, 5000, &data), 0));
    fake_die(&fake);
    while (fake.attachments < 2)
        cr_assert(ge(int, pawl_dispatch(client, 100), 0));
    memcpy(data, "later", 5);
    cr_assert(eq(int, pawl_publish_commit(client, NULL, NULL, NULL), 0));
    const struct pawl_submit *submit = NULL;
    while (!submit) {
        cr_assert(ge(int, pawl_dispatch(client, 10), 0));
        fake_lock(&fake);
        submit = fake.attached ? fake_submission(&fake) : NULL;
        fake_unlock(&fake);
    }
    expect_data(submit, 1, "later");
}

Test(lib_publisher, the_first_message_of_all_needs_a_topic_too)
{
    struct pawl_message m = message("", "");
    cr_expect(eq(int, pawl_publish_async(client, &m, 60000, NULL, NULL, NULL), PAWL_ERR_INVALID));
    cr_expect(eq(u64, pawl_unconfirmed(client), 0));
}

Test(lib_publisher, bad_messages_get_their_own_errors_and_words)
{
    struct pawl_message m = message("a..b", "");
    static char big[(1 << 20) + 2];
    send_async("", NULL);
    cr_expect(eq(int, pawl_publish_async(client, &m, 0, NULL, NULL, NULL), PAWL_ERR_INVALID));
    cr_expect(ge(sz, strlen(pawl_last_error(client)), 1));
    m = message("a", "");
    m.priority = 10;
    cr_expect(eq(int, pawl_publish_async(client, &m, 0, NULL, NULL, NULL), PAWL_ERR_INVALID));
    m = message("a", "");
    m.data = big;
    m.data_bytes = (1 << 20) + 1;
    cr_expect(eq(int, pawl_publish_async(client, &m, 0, NULL, NULL, NULL), PAWL_ERR_LIMIT));
    m = message("a", "");
    m.delay_ms = 3600000 + 1;
    cr_expect(eq(int, pawl_publish_async(client, &m, 0, NULL, NULL, NULL), PAWL_ERR_LIMIT));
    cr_expect(eq(str, (char *)(uintptr_t)pawl_last_error(client),
                 "delay of 3600001 ms: the limit is 1h (publish-delay)"));
    m = message("a", "");
    m.bytes = 3;
    cr_expect(eq(int, pawl_publish_async(client, &m, 0, NULL, NULL, NULL), PAWL_ERR_INVALID));
    struct pawl_header header = {.name = "", .value = "v", .value_bytes = 1};
    m = message("a", "");
    m.headers = &header;
    m.header_count = 1;
    cr_expect(eq(int, pawl_publish_async(client, &m, 0, NULL, NULL, NULL), PAWL_ERR_INVALID));
    header = (struct pawl_header){.name = "long", .value = big, .value_bytes = 65536};
    cr_expect(eq(int, pawl_publish_async(client, &m, 0, NULL, NULL, NULL), PAWL_ERR_LIMIT));
    cr_expect(eq(u64, pawl_unconfirmed(client), 1), "none of them was sent");
}

Test(lib_publisher, a_scheduler_that_does_not_come_back_leaves_an_unknown_fate)
{
    struct pawl *impatient = NULL;
    struct seen seen = {0};
    struct pawl_connect_options options = {
        .bytes = sizeof options, .socket = fake.path, .reconnect_timeout_ms = 30};
    cr_assert(eq(int, pawl_connect(&options, &impatient), 0));
    struct pawl_message m = message("a", "b");
    cr_assert(eq(int, pawl_publish_async(impatient, &m, 5000, on_confirm, &seen, NULL), 0));
    atomic_store(&fake.refuses, true);
    fake_die(&fake);
    int error = 0;
    while (error >= 0)
        error = pawl_dispatch(impatient, 100);
    cr_expect(eq(int, error, PAWL_ERR_CLOSED));
    cr_assert(eq(uint, seen.count, 1));
    cr_expect(eq(int, seen.confirms[0].error, PAWL_ERR_INDEFINITE));
    cr_expect(eq(int, pawl_publish_async(impatient, &m, 0, NULL, NULL, NULL), PAWL_ERR_CLOSED));
    pawl_close(impatient);
}

Test(lib_publisher, the_descriptor_is_readable_when_there_is_something_to_dispatch_and_not_else)
{
    struct seen seen = {0};
    struct pollfd fd = {.fd = pawl_fd(client), .events = POLLIN};
    send_async("x", &seen);
    while (pawl_dispatch(client, 0) > 0)
        ;
    cr_assert(eq(int, poll(&fd, 1, 0), 0));
    fake_lock(&fake);
    fake_confirm(&fake, 1, 1, 5);
    fake_unlock(&fake);
    cr_assert(eq(int, poll(&fd, 1, 60000), 1));
    cr_expect(eq(int, pawl_dispatch(client, 0), 1));
    cr_expect(eq(uint, seen.count, 1));
    cr_expect(eq(int, poll(&fd, 1, 0), 0));
}

Test(lib_publisher, a_descriptor_is_quiet_for_good_once_the_connection_is_back)
{
    struct pawl *patient = NULL;
    struct pawl_connect_options options = {
        .bytes = sizeof options, .socket = fake.path, .reconnect_timeout_ms = 60000};
    cr_assert(eq(int, pawl_connect(&options, &patient), 0));
    struct pollfd fd = {.fd = pawl_fd(patient), .events = POLLIN};
    fake_die(&fake);
    do {
        cr_assert(eq(int, poll(&fd, 1, 60000), 1));
        cr_assert(ge(int, pawl_dispatch(patient, 0), 0));
    } while (patient->phase != PAWL_LIB_UP);
    while (pawl_dispatch(patient, 0) > 0)
        ;
    struct itimerspec left;
    cr_assert(eq(int, timerfd_gettime(patient->timer_fd, &left), 0));
    cr_expect(eq(long, left.it_value.tv_sec, 0), "it will be readable, and stay so");
    cr_expect(eq(int, poll(&fd, 1, 0), 0));
    pawl_close(patient);
}

Test(lib_publisher, a_refused_lane_is_told_to_whoever_needed_it_and_requests_still_work)
{
    struct pawl_message m = message("a", "b");
    fake.attach_error = PAWL_E_LIMIT;
    fake.reply_json = "{}";
    cr_expect(eq(int, pawl_publish_async(client, &m, 60000, NULL, NULL, NULL), PAWL_ERR_LIMIT));
    cr_expect(eq(str, (char *)pawl_last_error(client), "no!\n"));
    char *reply;
    cr_assert(eq(int, pawl_request(client, "{}", &reply), 0));
    cr_expect(eq(str, reply, "{}"));
    free(reply);
    fake.attach_error = 0;
    cr_expect(eq(int, pawl_publish_async(client, &m, 60000, NULL, NULL, NULL), 0));
}

Test(lib_publisher, a_queue_whose_name_was_not_told_is_asked_for_again_at_its_next_refusal_and_then_known)
{
    client->refusing = 7;
    fake.reply_error = PAWL_E_LIMIT;
    cr_expect(eq(str, (char *)pawl_refusing_queue(client), ""));
    fake_lock(&fake);
    fake.reply_error = 0;
    fake.reply_json = "{\"name\": \"tight\"}";
    fake_unlock(&fake);
    cr_expect(eq(str, (char *)pawl_refusing_queue(client), "tight"));
    cr_expect(eq(str, (char *)pawl_refusing_queue(client), "tight"));
    fake_lock(&fake);
    cr_expect(eq(uint, fake.asked, 2));
    fake_unlock(&fake);
}
