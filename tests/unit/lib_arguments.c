/* Rules of libpawl about what a program hands to it and should not have: told as an error, never followed. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/lib_fixture.h"

TestSuite(lib_arguments, .init = fake_set_up, .fini = fake_tear_down, .timeout = 300);

#define INVALID(call) cr_expect(eq(int, call, PAWL_ERR_INVALID), "%s", #call)

Test(lib_arguments, a_handle_that_is_null_is_invalid)
{
    struct pawl_message message = {.bytes = sizeof message, .topic = "a"};
    struct pawl_consumer *consumer;
    struct pawl_taken *taken;
    const struct pawl_delivery *delivery;
    char *text, id[72];
    void *data;
    size_t bytes;
    INVALID(pawl_fd(NULL));
    INVALID(pawl_dispatch(NULL, 0));
    INVALID(pawl_queue_declare(NULL, "q", NULL));
    INVALID(pawl_queue_delete(NULL, "q"));
    INVALID(pawl_queue_purge(NULL, "q", NULL));
    INVALID(pawl_request(NULL, "{}", &text));
    INVALID(pawl_publish(NULL, &message, 0, NULL));
    INVALID(pawl_publish_async(NULL, &message, 0, NULL, NULL, NULL));
    INVALID(pawl_publish_batch(NULL, &message, 1, 0, NULL));
    INVALID(pawl_publish_batch(NULL, NULL, 0, 0, NULL));
    INVALID(pawl_publish_reserve(NULL, &message, 0, &data));
    INVALID(pawl_publish_commit(NULL, NULL, NULL, NULL));
    INVALID(pawl_flush(NULL, 0));
    INVALID(pawl_consume(NULL, "q", NULL, &consumer));
    INVALID(pawl_claim(NULL, &delivery, 1, 0));
    INVALID(pawl_settle_tag(NULL, "q:1:1:1", "ack", 0, NULL));
    INVALID(pawl_take(NULL, "q", NULL, 1, 0, &taken));
    INVALID(pawl_peek(NULL, "q", NULL, 0, 1, NULL, &taken));
    INVALID(pawl_run_submit(NULL, "f.yaml", NULL, id));
    INVALID(pawl_run_wait(NULL, "r", 0, NULL));
    INVALID(pawl_run_output(NULL, "r", "s", 0, &data, &bytes));
    INVALID(pawl_run_cancel(NULL, "r"));
    INVALID(pawl_metrics(NULL, &text));
    INVALID(pawl_health(NULL, &text));
    cr_expect(eq(str, (char *)pawl_last_error(NULL), "no handle: NULL"));
    cr_expect(eq(u64, pawl_unconfirmed(NULL), 0));
    cr_expect(eq(u64, pawl_late_settlements(NULL), 0));
    pawl_publish_abort(NULL);
    pawl_kick(NULL);
    pawl_on_late(NULL, NULL, NULL);
    pawl_consumer_close(NULL);
    pawl_close(NULL);
}

Test(lib_arguments, a_delivery_that_is_null_is_invalid)
{
    char tag[8];
    struct pawl_message message = {.bytes = sizeof message, .topic = "a"};
    INVALID(pawl_ack(NULL));
    INVALID(pawl_ack_batch(NULL, 1));
    INVALID(pawl_ack_up_to(NULL));
    INVALID(pawl_nack(NULL, 1, -1));
    INVALID(pawl_reject(NULL, "no"));
    INVALID(pawl_extend(NULL, 0));
    INVALID(pawl_release(NULL));
    INVALID(pawl_ack_publish(NULL, &message, 1, 0));
    INVALID(pawl_delivery_tag(NULL, tag, sizeof tag));
    cr_expect(eq(ptr, (void *)(uintptr_t)pawl_delivery_header(NULL, "n", NULL), NULL));
    cr_expect(eq(int, pawl_ack_batch(NULL, 0), 0));
}

Test(lib_arguments, what_a_call_needs_and_is_null_is_invalid)
{
    struct pawl_message message = {.bytes = sizeof message, .topic = "a", .header_count = 1};
    struct pawl_header header = {.name = "n", .value = NULL, .value_bytes = 5};
    struct pawl_queue_options queue = {.bytes = sizeof queue, .topic_count = 1};
    struct pawl_run_options run = {.bytes = sizeof run, .param_count = 1};
    const char *no_topic = NULL;
    struct pawl_consumer *consumer;
    char *text, id[72];
    void *data;
    size_t bytes;
    INVALID(pawl_connect(NULL, NULL));
    INVALID(pawl_start(NULL, NULL));
    INVALID(pawl_publish(client, NULL, 0, NULL));
    INVALID(pawl_publish_async(client, NULL, 0, NULL, NULL, NULL));
    INVALID(pawl_publish_batch(client, NULL, 1, 0, NULL));
    INVALID(pawl_publish_reserve(client, NULL, 0, &data));
    INVALID(pawl_publish(client, &message, 60000, NULL));
    message.headers = &header;
    INVALID(pawl_publish(client, &message, 60000, NULL));
    INVALID(pawl_publish_reserve(client, &message, 0, NULL));
    INVALID(pawl_queue_declare(client, NULL, NULL));
    INVALID(pawl_queue_declare(client, "q", &queue));
    queue.topics = &no_topic;
    INVALID(pawl_queue_declare(client, "q", &queue));
    INVALID(pawl_request(client, NULL, &text));
    INVALID(pawl_request(client, "{}", NULL));
    INVALID(pawl_consume(client, NULL, NULL, &consumer));
    INVALID(pawl_consume(client, "q", NULL, NULL));
    INVALID(pawl_settle_tag(client, NULL, "ack", 0, NULL));
    INVALID(pawl_settle_tag(client, "q:1:1:1", NULL, 0, NULL));
    INVALID(pawl_take(client, "q", NULL, 1, 0, NULL));
    INVALID(pawl_run_submit(client, NULL, NULL, id));
    INVALID(pawl_run_submit(client, "f.yaml", NULL, NULL));
    INVALID(pawl_run_submit(client, "f.yaml", &run, id));
    INVALID(pawl_run_wait(client, NULL, 0, NULL));
    INVALID(pawl_run_output(client, "r", "s", 0, NULL, &bytes));
    INVALID(pawl_run_output(client, "r", "s", 0, &data, NULL));
    INVALID(pawl_metrics(client, NULL));
    INVALID(pawl_health(client, NULL));
    cr_expect(eq(uint, fake.asked, 0), "nothing of it was asked");
}

Test(lib_arguments, options_that_do_not_say_their_size_are_invalid)
{
    struct pawl_connect_options connect = {.socket = fake.path};
    struct pawl_queue_options queue = {.topic_count = 0};
    struct pawl_consumer_options consume = {.bytes = 1};
    struct pawl_run_options run = {.bytes = SIZE_MAX};
    struct pawl_start_options start = {.bytes = 0};
    struct pawl_consumer *consumer;
    struct pawl *other;
    char id[72];
    INVALID(pawl_connect(&connect, &other));
    cr_expect(ne(ptr, strstr(pawl_last_error(NULL), "pawl_connect_options.bytes"), NULL));
    INVALID(pawl_start(&start, &other));
    INVALID(pawl_queue_declare(client, "q", &queue));
    INVALID(pawl_consume(client, "q", &consume, &consumer));
    INVALID(pawl_run_submit(client, "f.yaml", &run, id));
}

Test(lib_arguments, options_of_a_newer_program_hold_as_long_as_it_asks_for_nothing_new)
{
    struct {
        struct pawl_consumer_options known;
        uint64_t news;
    } options = {.known = {.bytes = sizeof options, .prefetch = 7}};
    struct pawl_consumer *consumer;
    cr_assert(eq(int, pawl_consume(client, "jobs", &options.known, &consumer), 0));
    cr_expect(eq(u32, fake.last_consume.credit, 7));
    options.news = 1;
    INVALID(pawl_consume(client, "jobs", &options.known, &consumer));
}

Test(lib_arguments, options_of_an_older_program_have_the_defaults_of_what_it_does_not_know)
{
    struct {
        size_t bytes;
        const char *group;
        unsigned prefetch;
    } options = {.group = "readers", .prefetch = 9};
    struct pawl_consumer *consumer;
    options.bytes = offsetof(struct pawl_consumer_options, auto_ack); /* its padding says nothing */
    cr_assert(eq(int, pawl_consume(client, "jobs", (const void *)&options, &consumer), 0));
    cr_expect(eq(u32, fake.last_consume.credit, 9));
    cr_expect(eq(str, fake.last_consume.group, "readers"));
    cr_expect(eq(u32, fake.last_consume.flags, 0));
}

Test(lib_arguments, a_text_that_is_not_utf8_is_invalid)
{
    const char *topic = "a.\xff";
    struct pawl_queue_options queue = {.bytes = sizeof queue, .topics = &topic, .topic_count = 1};
    INVALID(pawl_queue_declare(client, "q", &queue));
    topic = "a";
    queue.ordering_key = "\xff";
    INVALID(pawl_queue_declare(client, "q", &queue));
    cr_expect(eq(str, (char *)pawl_last_error(client), "ordering_key: it is not UTF-8"));
}

Test(lib_arguments, a_number_beyond_everything_does_not_become_a_small_one)
{
    struct pawl_queue_options queue = {
        .bytes = sizeof queue, .rate_count = UINT64_MAX, .rate_per_ms = UINT64_C(36893488147420)};
    fake.reply_json = "{}";
    cr_assert(eq(int, pawl_queue_declare(client, "q", &queue), 0), "%s", pawl_last_error(client));
    cr_expect(ne(ptr,
                 strstr(fake.last_request, "\"count\":9223372036854775807,\"per_ns\":9223372036854000000"),
                 NULL),
              "%s", fake.last_request);
}
