/* Rules of libpawl's acts, an ack and the events that follow from it, against the scheduler's end of a lane.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>

#include "shm/error.h"
#include "tests/unit/lib_fixture.h"

static struct pawl_consumer *consumer;
static const struct pawl_delivery *got[1];

static void set_up(void)
{
    fake_set_up();
    cr_assert(eq(int, pawl_consume(client, "jobs", NULL, &consumer), 0), "%s", pawl_last_error(client));
}

TestSuite(lib_act, .init = set_up, .fini = fake_tear_down, .timeout = 300);

static void claim_one(void)
{
    fake_lock(&fake);
    fake_deliver(&fake, 1, "a.b", "data", false);
    fake_unlock(&fake);
    cr_assert(eq(int, pawl_claim(consumer, got, 1, 60000), 1));
}

Test(lib_act, ack_and_publish_is_one_act_that_becomes_visible_at_once)
{
    claim_one();
    struct pawl_message messages[2] = {
        {.bytes = sizeof messages[0], .topic = "x", .data = "1", .data_bytes = 1},
        {.bytes = sizeof messages[0], .topic = "y", .data = "2", .data_bytes = 1},
    };
    cr_expect(eq(int, pawl_ack_publish(got[0], messages, 2, 20), -ETIMEDOUT), "nobody confirms");
    fake_lock(&fake);
    const struct pawl_submit *submit = fake_submission(&fake);
    cr_assert(ne(ptr, (void *)submit, NULL));
    cr_expect(eq(int, submit->type, PAWL_SUBMIT_SETTLE));
    cr_expect(eq(int, submit->flags, PAWL_SUBMIT_MORE));
    submit = fake_submission(&fake);
    cr_assert(ne(ptr, (void *)submit, NULL));
    cr_expect(eq(int, submit->flags, PAWL_SUBMIT_MORE));
    submit = fake_submission(&fake);
    cr_assert(ne(ptr, (void *)submit, NULL));
    cr_expect(eq(int, submit->flags, 0));
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_ack(got[0]), PAWL_ERR_STALE), "its fate is unknown");
}

Test(lib_act, an_act_without_an_answer_is_asked_for_on_the_next_lane_and_never_done_there)
{
    claim_one();
    struct pawl_message messages[2] = {
        {.bytes = sizeof messages[0], .topic = "x", .data = "1", .data_bytes = 1},
        {.bytes = sizeof messages[0], .topic = "y", .data = "2", .data_bytes = 1},
    };
    cr_expect(eq(int, pawl_ack_publish(got[0], messages, 2, 20), -ETIMEDOUT), "nobody confirms");
    fake_die(&fake);
    for (uint64_t sequence = 1; sequence <= 2; sequence++) {
        const struct pawl_submit *submit = NULL;
        while (!submit) {
            cr_assert(ge(int, pawl_dispatch(client, 1), 0));
            fake_lock(&fake);
            submit = fake.attached ? fake_submission(&fake) : NULL;
            fake_unlock(&fake);
        }
        cr_expect(eq(int, submit->type, PAWL_SUBMIT_EVENT), "the ack is not among them");
        cr_expect(eq(int, submit->flags, PAWL_SUBMIT_ASK));
        cr_expect(eq(u64, submit->sequence, sequence));
    }
}

Test(lib_act, an_act_of_more_events_than_may_be_unconfirmed_is_refused_at_once)
{
    claim_one();
    struct pawl_message message = {.bytes = sizeof message, .topic = "x"};
    cr_expect(eq(int, pawl_ack_publish(got[0], &message, PAWL_UNCONFIRMED_MAX + 1, -1), PAWL_ERR_LIMIT));
    cr_expect(eq(int, pawl_ack_publish(got[0], &message, SIZE_MAX, -1), PAWL_ERR_LIMIT));
    cr_expect(eq(int, pawl_ack_publish(got[0], NULL, 1, -1), PAWL_ERR_INVALID));
    cr_expect(eq(int, pawl_ack(got[0]), 0), "it is still ours");
}

Test(lib_act, a_refused_act_leaves_the_delivery_to_the_caller)
{
    claim_one();
    struct pawl_message message = {.bytes = sizeof message, .topic = "x"};
    fake_lock(&fake);
    /* Said before it is asked: the answers to both of its parts. */
    fake_reply(&fake, (struct pawl_reply){.type = PAWL_REPLY_LATE, .error = PAWL_E_QUEUE_FULL});
    fake_reply(&fake, (struct pawl_reply){
                          .type = PAWL_REPLY_REFUSE, .error = PAWL_E_QUEUE_FULL, .first = 1, .last = 1});
    fake_unlock(&fake);
    cr_expect(eq(int, pawl_ack_publish(got[0], &message, 1, 60000), PAWL_ERR_QUEUE_FULL));
    cr_expect(eq(u64, pawl_late_settlements(client), 0), "it did not come too late");
    cr_expect(eq(int, pawl_ack(got[0]), 0));
}
