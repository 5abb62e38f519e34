/* Rules of libpawl's consuming and settling, against the scheduler's end of a lane. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/doorbell.h"
#include "shm/error.h"
#include "tests/unit/lib_fixture.h"

static struct pawl_consumer *consumer;
static const struct pawl_delivery *got[1024];

static void set_up(void)
{
    fake_set_up();
    struct pawl_consumer_options options = {.bytes = sizeof options, .prefetch = 500};
    cr_assert(eq(int, pawl_consume(client, "jobs", &options, &consumer), 0), "%s", pawl_last_error(client));
}

TestSuite(lib_consumer, .init = set_up, .fini = fake_tear_down, .timeout = 300);

static void deliver(uint32_t number_of_consumer, unsigned count)
{
    fake_lock(&fake);
    for (unsigned i = 0; i < count; i++) {
        char text[32];
        snprintf(text, sizeof text, "data %llu", (unsigned long long)fake.numbers);
        fake_deliver(&fake, number_of_consumer, "a.b", text, false);
    }
    fake_unlock(&fake);
}

/* All that is in the settle ring, by op and range. */
static unsigned settlements(struct pawl_settle *out, unsigned most)
{
    unsigned count = 0;
    fake_lock(&fake);
    while (count < most && fake_settlement(&fake, &out[count]))
        count++;
    fake_unlock(&fake);
    return count;
}

static void expect_settle(const struct pawl_settle *settle, int op, uint64_t first, uint64_t last)
{
    cr_expect(eq(int, settle->op, op));
    cr_expect(eq(u64, settle->first, first));
    cr_expect(eq(u64, settle->last, last));
}

static uint64_t begun(void)
{
    fake_lock(&fake);
    uint64_t result = fake_begun(&fake);
    fake_unlock(&fake);
    return result;
}

Test(lib_consumer, consume_asks_for_its_queue_with_its_credit)
{
    cr_expect(eq(str, fake.last_consume.queue, "jobs"));
    cr_expect(eq(u32, fake.last_consume.credit, 500));
    cr_expect(eq(u32, fake.last_consume.flags, 0));
}

Test(lib_consumer, a_delivery_is_shown_as_it_was_sent)
{
    deliver(1, 1);
    cr_assert(eq(int, pawl_claim(consumer, got, 1, 60000), 1));
    cr_expect(eq(str, (char *)got[0]->topic, "a.b"));
    cr_expect(eq(str, (char *)got[0]->queue, "jobs"));
    cr_expect(eq(sz, got[0]->data_bytes, 6));
    cr_expect(eq(int, memcmp(got[0]->data, "data 0", 6), 0));
    cr_expect(eq(u64, got[0]->event_id, 77));
    cr_expect(eq(u64, got[0]->seq, 1));
    cr_expect(eq(u32, got[0]->attempt, 1));
    char tag[128];
    cr_expect(eq(int, pawl_delivery_tag(got[0], tag, sizeof tag), 0));
    cr_expect(eq(str, tag, "jobs:1:1:1"));
}

Test(lib_consumer, what_is_not_claimed_has_not_begun)
{
    deliver(1, 10);
    cr_assert(eq(int, pawl_claim(consumer, got, 3, 60000), 3));
    cr_expect(eq(u64, begun(), 3));
    cr_assert(ge(int, pawl_dispatch(client, 0), 0));
    cr_expect(eq(u64, begun(), 3), "dispatch hands out nothing");
    cr_assert(eq(int, pawl_claim(consumer, got + 3, 100, 0), 7));
    cr_expect(eq(u64, begun(), 10));
    cr_expect(eq(int, pawl_claim(consumer, got, 1, 0), 0));
}

Test(lib_consumer, neighbouring_acks_are_one_entry_and_others_their_own)
{
    struct pawl_settle out[16];
    deliver(1, 10);
    cr_assert(eq(int, pawl_claim(consumer, got, 10, 60000), 10));
    for (int i = 0; i < 5; i++)
        cr_expect(eq(int, pawl_ack(got[i]), 0));
    cr_expect(eq(int, pawl_ack(got[7]), 0));
    cr_expect(eq(int, pawl_ack(got[6]), 0), "also downwards");
    cr_expect(eq(int, pawl_nack(got[5], 1, 250), 0));
    cr_expect(eq(int, pawl_nack(got[8], 1, -1), 0));
    pawl_kick(client);
    cr_assert(eq(uint, settlements(out, 16), 4));
    expect_settle(&out[0], PAWL_SETTLE_OP_ACK, 0, 4);
    expect_settle(&out[1], PAWL_SETTLE_OP_ACK, 6, 7);
    expect_settle(&out[2], PAWL_SETTLE_OP_NACK, 5, 5);
    cr_expect(eq(u64, out[2].value, 250000000));
    expect_settle(&out[3], PAWL_SETTLE_OP_NACK, 8, 8);
    cr_expect(eq(u64, out[3].value, PAWL_SETTLE_POLICY));
}

Test(lib_consumer, the_last_settlement_of_what_was_handed_out_is_sent_without_a_kick)
{
    struct pawl_settle out[4];
    deliver(1, 2);
    cr_assert(eq(int, pawl_claim(consumer, got, 2, 60000), 2));
    cr_expect(eq(int, pawl_ack(got[0]), 0));
    cr_expect(eq(uint, settlements(out, 4), 0));
    cr_expect(eq(int, pawl_ack(got[1]), 0));
    cr_assert(eq(uint, settlements(out, 4), 1));
    expect_settle(&out[0], PAWL_SETTLE_OP_ACK, 0, 1);
}

Test(lib_consumer, more_time_than_a_week_is_refused_and_the_delivery_is_still_the_callers)
{
    struct pawl_settle out[4];
    const uint64_t week_ms = UINT64_C(7) * 86400 * 1000;
    deliver(1, 1);
    cr_assert(eq(int, pawl_claim(consumer, got, 1, 60000), 1));
    cr_expect(eq(int, pawl_extend(got[0], week_ms + 1), PAWL_ERR_LIMIT));
    cr_expect(ne(ptr, (void *)(uintptr_t)strstr(pawl_last_error(client), "at most 7 days"), NULL));
    cr_expect(eq(int, pawl_extend(got[0], UINT64_MAX), PAWL_ERR_LIMIT));
    cr_expect(eq(uint, settlements(out, 4), 0));
    cr_expect(eq(int, pawl_extend(got[0], week_ms), 0));
    cr_assert(eq(uint, settlements(out, 4), 1));
    cr_expect(eq(u64, out[0].value, week_ms * 1000000));
}

Test(lib_consumer, the_last_error_is_of_the_last_call_that_failed)
{
    char tag[4];
    deliver(1, 1);
    cr_assert(eq(int, pawl_claim(consumer, got, 1, 60000), 1));
    cr_expect(eq(int, pawl_delivery_tag(got[0], tag, sizeof tag), PAWL_ERR_LIMIT));
    cr_expect(eq(str, (char *)pawl_last_error(client), "a tag does not fit into 4 bytes"));
    cr_expect(eq(int, pawl_ack(got[0]), 0));
    cr_expect(eq(int, pawl_ack(got[0]), PAWL_ERR_STALE));
    cr_expect(eq(str, (char *)pawl_last_error(client), "this delivery was settled before"));
}

Test(lib_consumer, a_second_settlement_is_stale)
{
    deliver(1, 2);
    cr_assert(eq(int, pawl_claim(consumer, got, 2, 60000), 2));
    cr_expect(eq(int, pawl_ack(got[1]), 0));
    cr_expect(eq(int, pawl_ack(got[1]), PAWL_ERR_STALE));
    cr_expect(eq(int, pawl_extend(got[1], 0), PAWL_ERR_STALE));
}

Test(lib_consumer, ack_up_to_takes_all_of_its_consumer_below_and_nothing_else)
{
    struct pawl_consumer *other;
    struct pawl_settle out[16];
    cr_assert(eq(int, pawl_consume(client, "others", NULL, &other), 0));
    deliver(1, 2);
    deliver(2, 1);
    deliver(1, 2);
    const struct pawl_delivery *others[1];
    cr_assert(eq(int, pawl_claim(consumer, got, 4, 60000), 4));
    cr_assert(eq(int, pawl_claim(other, others, 1, 60000), 1));
    cr_expect(eq(int, pawl_ack_up_to(got[2]), 0));
    pawl_kick(client);
    cr_assert(eq(uint, settlements(out, 16), 2));
    expect_settle(&out[0], PAWL_SETTLE_OP_ACK, 0, 1);
    expect_settle(&out[1], PAWL_SETTLE_OP_ACK, 3, 3);
    cr_expect(eq(int, pawl_ack(got[3]), 0));
    cr_expect(eq(int, pawl_ack(others[0]), 0));
}

Test(lib_consumer, one_consumers_backlog_does_not_hold_up_another_but_begun_is_a_prefix)
{
    struct pawl_consumer *other;
    cr_assert(eq(int, pawl_consume(client, "others", NULL, &other), 0));
    deliver(2, 3);
    deliver(1, 1);
    cr_assert(eq(int, pawl_claim(consumer, got, 10, 60000), 1));
    cr_expect(eq(u64, got[0]->number, 3));
    cr_expect(eq(u64, begun(), 0));
    cr_assert(eq(int, pawl_claim(other, got + 1, 10, 0), 3));
    cr_expect(eq(u64, begun(), 4));
}

Test(lib_consumer, bytes_go_back_in_order_and_the_ring_never_starves)
{
    /* Through a ring of 1 MiB many times over, two in hand at a time, settled in either order. */
    cr_assert(eq(int, pawl_claim(consumer, got, 1, 0), 0));
    for (int i = 0; i < 20000; i++) {
        deliver(1, 2);
        cr_assert(eq(int, pawl_claim(consumer, got, 2, 60000), 2));
        char text[32];
        snprintf(text, sizeof text, "data %d", 2 * i + 1);
        cr_assert(eq(int, memcmp(got[1]->data, text, strlen(text)), 0));
        cr_assert(eq(int, pawl_ack(got[i & 1]), 0));
        cr_assert(eq(int, pawl_ack(got[!(i & 1)]), 0));
        fake_lock(&fake);
        struct pawl_settle settle;
        while (fake_settlement(&fake, &settle))
            ;
        fake_unlock(&fake);
    }
}

Test(lib_consumer, a_full_settle_ring_waits_for_the_scheduler)
{
    /* Every second one is acked, so nothing merges; prefetch is not looked at by this scheduler. */
    for (int i = 0; i < 3000; i++)
        deliver(1, 1);
    static const struct pawl_delivery *many[3000];
    int count = 0;
    while (count < 3000)
        count += pawl_claim(consumer, many + count, 3000 - (size_t)count, 60000);
    atomic_store(&fake.serves, true);
    for (int i = 0; i < 3000; i += 2)
        cr_assert(eq(int, pawl_ack(many[i]), 0));
    cr_expect(eq(int, pawl_flush(client, 60000), 0));
}

Test(lib_consumer, flush_waits_until_settlements_are_durable)
{
    struct pawl_settle settle;
    deliver(1, 1);
    cr_assert(eq(int, pawl_claim(consumer, got, 1, 60000), 1));
    cr_expect(eq(int, pawl_ack(got[0]), 0));
    cr_expect(eq(int, pawl_flush(client, 20), -ETIMEDOUT));
    fake_lock(&fake);
    cr_expect(fake_settlement(&fake, &settle));
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_flush(client, 20), -ETIMEDOUT), "drained is not durable");
    fake_lock(&fake);
    fake_durable(&fake);
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_flush(client, 60000), 0));
}

Test(lib_consumer, flush_that_timed_out_says_what_it_waited_for)
{
    struct pawl_message message = {.bytes = sizeof message, .topic = "a"};
    deliver(1, 1);
    cr_assert(eq(int, pawl_claim(consumer, got, 1, 60000), 1));
    cr_expect(eq(int, pawl_ack(got[0]), 0));
    cr_expect(eq(int, pawl_flush(client, 0), -ETIMEDOUT));
    cr_expect(eq(str, (char *)pawl_last_error(client), "settlements are not durable yet"));
    cr_assert(eq(int, pawl_publish_async(client, &message, 60000, NULL, NULL, NULL), 0));
    cr_expect(eq(int, pawl_flush(client, 0), -ETIMEDOUT));
    cr_expect(eq(str, (char *)pawl_last_error(client), "1 publishes are not confirmed yet"));
}

Test(lib_consumer, flush_waits_until_a_settlement_with_words_is_durable)
{
    deliver(1, 1);
    cr_assert(eq(int, pawl_claim(consumer, got, 1, 60000), 1));
    cr_expect(eq(int, pawl_reject(got[0], "no good"), 0));
    cr_expect(eq(int, pawl_flush(client, 20), -ETIMEDOUT));
    fake_lock(&fake);
    cr_expect(ne(ptr, (void *)(uintptr_t)fake_submission(&fake), NULL));
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_flush(client, 20), -ETIMEDOUT), "taken is not durable");
    fake_lock(&fake);
    fake_durable(&fake);
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_flush(client, 60000), 0));
}

/* The scheduler, once the client has gone to sleep. */
static void *make_durable_when_it_sleeps(void *context)
{
    struct pawl_settle settle;
    bool taken = false;
    (void)context;
    for (;;) {
        fake_lock(&fake);
        taken = taken || fake_settlement(&fake, &settle);
        /* The bell of the room that was given back was heard. */
        struct pollfd bell = {.fd = fake.client_fd, .events = POLLIN};
        if (taken && poll(&bell, 1, 0) == 0 && atomic_load(&fake.port.lane->sleeping) != 0) {
            fake_durable(&fake);
            fake_unlock(&fake);
            return NULL;
        }
        fake_unlock(&fake);
        sched_yield();
    }
}

Test(lib_consumer, a_flush_that_waits_ends_when_its_settlements_are_durable)
{
    pthread_t thread;
    deliver(1, 1);
    cr_assert(eq(int, pawl_claim(consumer, got, 1, 60000), 1));
    cr_expect(eq(int, pawl_ack(got[0]), 0));
    cr_assert(eq(int, pthread_create(&thread, NULL, make_durable_when_it_sleeps, NULL), 0));
    cr_expect(eq(int, pawl_flush(client, 60000), 0));
    pthread_join(thread, NULL);
}

/* The scheduler, asleep until its bell is rung. */
static void *make_durable_when_rung(void *context)
{
    (void)context;
    struct pollfd bell = {.fd = fake.scheduler_fd, .events = POLLIN};
    cr_expect(eq(int, poll(&bell, 1, 60000), 1));
    fake_lock(&fake);
    fake_durable(&fake);
    fake_unlock(&fake);
    return NULL;
}

Test(lib_consumer, a_flush_that_goes_to_sleep_wakes_a_scheduler_that_has_its_acks_already)
{
    pthread_t thread;
    struct pawl_settle settle;
    deliver(1, 1);
    cr_assert(eq(int, pawl_claim(consumer, got, 1, 60000), 1));
    cr_expect(eq(int, pawl_ack(got[0]), 0));
    pawl_kick(client);
    fake_lock(&fake); /* it takes the ack, and would sync it at leisure */
    cr_assert(fake_settlement(&fake, &settle));
    pawl_doorbell_clear(fake.scheduler_fd);
    pawl_doorbell_prepare(&fake.port.inbound->sleeping);
    fake_unlock(&fake);
    cr_assert(eq(int, pthread_create(&thread, NULL, make_durable_when_rung, NULL), 0));
    cr_expect(eq(int, pawl_flush(client, 60000), 0));
    pthread_join(thread, NULL);
}

Test(lib_consumer, words_travel_with_a_reject_and_a_nack)
{
    deliver(1, 2);
    cr_assert(eq(int, pawl_claim(consumer, got, 2, 60000), 2));
    cr_expect(eq(int, pawl_reject(got[0], "no such customer"), 0));
    cr_expect(eq(int, pawl_nack_cause(got[1], 75, -1, 1, "busy"), 0));
    fake_lock(&fake);
    const struct pawl_submit *submit = fake_submission(&fake);
    cr_assert(ne(ptr, (void *)submit, NULL));
    cr_assert(eq(int, submit->type, PAWL_SUBMIT_SETTLE));
    const struct pawl_settle *settle = (const void *)(submit + 1);
    expect_settle(settle, PAWL_SETTLE_OP_REJECT, 0, 0);
    cr_assert(eq(int, pawl_settle_check(settle, submit->bytes - sizeof *submit - sizeof *settle), 0));
    cr_expect(eq(u32, settle->text_bytes, 16));
    cr_expect(eq(int, memcmp(settle + 1, "no such customer", 16), 0));
    submit = fake_submission(&fake);
    cr_assert(ne(ptr, (void *)submit, NULL));
    settle = (const void *)(submit + 1);
    expect_settle(settle, PAWL_SETTLE_OP_NACK, 1, 1);
    cr_expect(eq(int, settle->cause, PAWL_CAUSE_EXIT | 75 << 8));
    cr_expect(eq(int, settle->flags, PAWL_SETTLE_SPARE_BREAKER));
    fake_unlock(&fake);
}

static uint64_t late_number;
static int late_error;

static void on_late(void *context, uint64_t number, int error)
{
    (void)context;
    late_number = number;
    late_error = error;
}

Test(lib_consumer, a_late_settlement_is_counted_and_told)
{
    struct pawl_settle settle;
    pawl_on_late(client, on_late, NULL);
    deliver(1, 2);
    cr_assert(eq(int, pawl_claim(consumer, got, 2, 60000), 2));
    cr_expect(eq(int, pawl_ack(got[0]), 0));
    cr_expect(eq(int, pawl_ack(got[1]), 0));
    fake_lock(&fake);
    cr_expect(fake_settlement(&fake, &settle));
    fake_reply(&fake, (struct pawl_reply){
                          .type = PAWL_REPLY_LATE, .error = PAWL_E_STALE_RECEIPT, .first = 1, .last = 1});
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_dispatch(client, 60000), 1));
    cr_expect(eq(u64, pawl_late_settlements(client), 1));
    cr_expect(eq(u64, late_number, 1));
    cr_expect(eq(int, late_error, PAWL_ERR_STALE));
}

/* It says so before what was placed earlier is read, or after it. */
static void expect_gone(bool taken_in)
{
    struct pawl_consumer *other;
    cr_assert(eq(int, pawl_consume(client, "others", NULL, &other), 0));
    deliver(1, 3);
    cr_assert(eq(int, pawl_claim(consumer, got, 1, 60000), 1));
    if (taken_in)
        cr_expect(eq(int, pawl_claim(other, got + 1, 1, 0), 0));
    fake_lock(&fake);
    fake_reply(&fake, (struct pawl_reply){
                          .type = PAWL_REPLY_GONE, .error = PAWL_E_NOT_FOUND, .first = 1, .last = 1});
    fake_unlock(&fake);
    cr_expect(ge(int, pawl_dispatch(client, 60000), 1));
    cr_expect(eq(int, pawl_claim(consumer, got + 1, 2, 60000), PAWL_ERR_NOT_FOUND));
    cr_expect(ne(ptr, (void *)(uintptr_t)strstr(pawl_last_error(client), "jobs"), NULL));
    cr_expect(ne(ptr, (void *)(uintptr_t)strstr(pawl_last_error(client), "deleted"), NULL));
    cr_expect(eq(str, (char *)(uintptr_t)got[0]->data, "data 0"));
    cr_expect(eq(int, pawl_ack(got[0]), 0));
    deliver(2, 1);
    cr_assert(eq(int, pawl_claim(other, got, 1, 60000), 1));
    cr_expect(eq(u64, got[0]->number, 3));
    cr_expect(eq(u64, fake_begun(&fake), 4));
}

Test(lib_consumer, a_consumer_whose_queue_was_deleted_gets_no_more_and_is_told_and_others_go_on)
{
    expect_gone(false);
}

Test(lib_consumer, what_was_taken_in_of_a_deleted_queue_is_not_handed_out)
{
    expect_gone(true);
}

Test(lib_consumer, a_claim_that_waits_ends_when_its_queue_is_deleted)
{
    fake_lock(&fake);
    fake_reply(&fake, (struct pawl_reply){
                          .type = PAWL_REPLY_GONE, .error = PAWL_E_NOT_FOUND, .first = 1, .last = 1});
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_claim(consumer, got, 1, -1), PAWL_ERR_NOT_FOUND));
}

Test(lib_consumer, deliveries_of_a_lost_scheduler_stay_readable_and_settle_as_stale)
{
    deliver(1, 3);
    cr_assert(eq(int, pawl_claim(consumer, got, 2, 60000), 2));
    fake_die(&fake);
    while (fake.consumes < 2)
        cr_assert(ge(int, pawl_dispatch(client, 100), 0));
    cr_expect(eq(int, memcmp(got[1]->data, "data 1", 6), 0));
    cr_expect(eq(int, pawl_ack(got[1]), PAWL_ERR_STALE));
    cr_expect(eq(int, pawl_ack(got[0]), PAWL_ERR_STALE));
    while (pawl_dispatch(client, 20) > 0)
        ;
    deliver(1, 1);
    const struct pawl_delivery *again[2];
    cr_assert(eq(int, pawl_claim(consumer, again, 2, 60000), 1), "what was not handed out is not either");
    cr_expect(eq(u64, again[0]->epoch, 2));
    cr_expect(eq(u64, again[0]->number, 3), "numbers of the handle go on");
    cr_expect(eq(int, pawl_ack(again[0]), 0));
}

Test(lib_consumer, settlements_that_were_not_durable_when_the_scheduler_was_lost_are_told_by_flush)
{
    deliver(1, 1);
    cr_assert(eq(int, pawl_claim(consumer, got, 1, 60000), 1));
    cr_expect(eq(int, pawl_ack(got[0]), 0));
    fake_die(&fake);
    while (fake.consumes < 2)
        cr_assert(ge(int, pawl_dispatch(client, 100), 0));
    cr_expect(eq(int, pawl_flush(client, 60000), PAWL_ERR_INDEFINITE));
    cr_expect(eq(int, pawl_flush(client, 60000), 0), "once");
}

Test(lib_consumer, a_delivery_that_settled_itself_is_readable_until_the_next_claim)
{
    struct pawl_settle out[4];
    fake_lock(&fake);
    for (int i = 0; i < 3; i++)
        fake_deliver(&fake, 1, "t", "auto", true);
    fake_unlock(&fake);
    struct pawl_consumer *automatic;
    struct pawl_consumer_options options = {.bytes = sizeof options, .auto_ack = 1};
    cr_assert(eq(int, pawl_consume(client, "q", &options, &automatic), 0));
    fake_lock(&fake);
    for (int i = 0; i < 3; i++)
        fake_deliver(&fake, 2, "t", "auto", true);
    fake_unlock(&fake);
    cr_assert(eq(int, pawl_claim(automatic, got, 2, 60000), 2));
    cr_expect(eq(int, memcmp(got[1]->data, "auto", 4), 0));
    cr_assert(eq(int, pawl_claim(automatic, got + 2, 2, 60000), 1));
    cr_expect(eq(int, pawl_ack(got[0]), PAWL_ERR_STALE));
    cr_expect(eq(int, pawl_ack(got[2]), 0));
    cr_assert(eq(uint, settlements(out, 4), 2), "what gives their credit back");
    cr_expect(eq(int, out[0].op, PAWL_SETTLE_OP_ACK));
    cr_expect(eq(ulong, out[0].last - out[0].first, 1));
    cr_expect(eq(ulong, out[1].first, out[0].last + 1));
}

Test(lib_consumer, a_closed_consumer_takes_nothing_with_it)
{
    struct pawl_settle out[4];
    struct pawl_consumer *other;
    cr_assert(eq(int, pawl_consume(client, "others", NULL, &other), 0));
    deliver(1, 2);
    deliver(2, 1);
    cr_assert(eq(int, pawl_claim(consumer, got, 1, 60000), 1));
    pawl_consumer_close(consumer);
    cr_expect(eq(uint, fake.consume_ends, 1));
    cr_assert(eq(uint, settlements(out, 4), 1), "what was handed out goes back");
    cr_expect(eq(int, out[0].op, PAWL_SETTLE_OP_RELEASE));
    cr_expect(eq(int, pawl_ack(got[0]), PAWL_ERR_STALE));
    deliver(1, 1); /* was on its way */
    deliver(2, 1);
    cr_assert(eq(int, pawl_claim(other, got, 4, 60000), 2));
    cr_expect(eq(int, pawl_ack_batch(got, 2), 0));
}

Test(lib_consumer, to_claim_none_is_no_wait)
{
    cr_expect(eq(int, pawl_claim(consumer, NULL, 0, -1), 0));
    cr_expect(eq(int, pawl_claim(consumer, NULL, 1, -1), PAWL_ERR_INVALID));
}

Test(lib_consumer, requests_carry_the_schedulers_errors_and_words)
{
    struct pawl_queue_options options = {.bytes = sizeof options,
                                         .topics = (const char *const[]){"a.*", "b.#"},
                                         .topic_count = 2,
                                         .ack_wait_ms = 1500,
                                         .overflow = PAWL_OVERFLOW_DROP_OLDEST,
                                         .max_deliver = -1,
                                         .backoff = "1s,5s"};
    fake.reply_json = "{}";
    cr_expect(eq(int, pawl_queue_declare(client, "jobs", &options), 0), "%s", pawl_last_error(client));
    cr_expect(ne(ptr, strstr(fake.last_request, "\"topics\":[\"a.*\",\"b.#\"]"), NULL), "%s",
              fake.last_request);
    cr_expect(ne(ptr, strstr(fake.last_request, "\"ack_wait_ns\":1500000000"), NULL));
    cr_expect(ne(ptr, strstr(fake.last_request, "\"overflow\":\"drop_oldest\""), NULL));
    cr_expect(ne(ptr, strstr(fake.last_request, "\"limit\":0"), NULL), "%s", fake.last_request);
    fake.reply_error = PAWL_E_INCOMPATIBLE;
    cr_expect(eq(int, pawl_queue_declare(client, "jobs", &options), PAWL_ERR_INCOMPATIBLE));
    cr_expect(eq(str, (char *)pawl_last_error(client), "no!\n"));
    cr_expect(eq(int, pawl_queue_declare(client, "no/good", &options), PAWL_ERR_INVALID));
    struct pawl_consumer *none;
    cr_expect(eq(int, pawl_consume(client, "jobs", NULL, &none), PAWL_ERR_INCOMPATIBLE));
}

Test(lib_consumer, the_descriptor_wakes_for_a_delivery)
{
    struct pollfd fd = {.fd = pawl_fd(client), .events = POLLIN};
    while (pawl_dispatch(client, 0) > 0)
        ;
    cr_assert(eq(int, poll(&fd, 1, 0), 0));
    deliver(1, 1);
    cr_assert(eq(int, poll(&fd, 1, 60000), 1));
    cr_expect(eq(int, pawl_dispatch(client, 0), 1));
    cr_expect(eq(int, pawl_claim(consumer, got, 1, 0), 1));
}

Test(lib_consumer, a_delivery_that_came_during_another_call_wakes_the_poll_loop)
{
    struct pawl_consumer *other;
    struct pollfd fd = {.fd = pawl_fd(client), .events = POLLIN};
    cr_assert(eq(int, pawl_consume(client, "others", NULL, &other), 0));
    while (pawl_dispatch(client, 0) > 0)
        ;
    cr_assert(eq(int, poll(&fd, 1, 0), 0));

    /* a publish that waits, and is not confirmed */
    struct pawl_message message = {.bytes = sizeof message, .topic = "x"};
    deliver(1, 1);
    cr_expect(eq(int, pawl_publish(client, &message, 20, NULL), -ETIMEDOUT));
    cr_assert(eq(int, poll(&fd, 1, 0), 1));
    cr_assert(ge(int, pawl_dispatch(client, 0), 0));
    cr_assert(eq(int, poll(&fd, 1, 0), 0));
    cr_expect(eq(int, pawl_claim(consumer, got, 1, 0), 1));

    /* a claim of another consumer, after this one said that it has none */
    cr_expect(eq(int, pawl_claim(consumer, got, 1, 0), 0));
    deliver(1, 1);
    cr_expect(eq(int, pawl_claim(other, got, 1, 0), 0));
    cr_assert(eq(int, poll(&fd, 1, 0), 1));
}
