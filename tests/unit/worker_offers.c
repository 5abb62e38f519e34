/*
 * worker_offers.c - what a worker offers to the scheduler that comes after a lost one.
 */
#include "tests/unit/worker_support.h"

TestSuite(worker_offers, .init = set_up, .fini = tear_down, .timeout = 300);

static void make_durable(void)
{
    atomic_store(&pawl_world_of(&world)->lane[LANE].durable_position, pawl_lane_position(&lane));
}

static void lose_scheduler(void)
{
    pawl_wire_fini(&wire);
    pawl_delivery_ring_destroy(&ring);
    pawl_log_pool_fini(&pool);
    pawl_lane_destroy(&lane);
    pawl_segment_close(&world);
    close(scheduler_bell);
    close(worker_bell);
}

struct ended_offer {
    struct pawl_wire_offer offer;
    struct pawl_settlement settlement;
    char bytes[6];
};

static struct ended_offer expect_ended_offer(void)
{
    struct ended_offer body;
    size_t n = offsetof(struct ended_offer, bytes) + 6;
    memcpy(&body, expect_message(PAWL_WIRE_OFFER, n), n);
    cr_expect(eq(u32, body.offer.ended, 1));
    return body;
}

static void adopt(uint32_t number, uint32_t ticket)
{
    const struct pawl_wire_adopt body = {.number = number, .keep = 1, .ticket = ticket, .queue = QUEUE};
    tell(PAWL_WIRE_ADOPT, &body, sizeof body, NULL, 0);
}

Test(worker_offers, running_job_survives_the_scheduler_and_is_adopted)
{
    char path[200], text[100];
    begin();
    snprintf(path, sizeof path, "until [ -e %s/go ]; do sleep 0.01; done; echo done", state);
    place_shell(path, 0);
    struct pawl_settlement begun = expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    lose_scheduler();

    accept_worker();
    const struct pawl_wire_offer *offer = expect_message(PAWL_WIRE_OFFER, sizeof *offer);
    cr_expect(eq(str, (char *)offer->run_id, "run-1"));
    cr_expect(eq(u32, offer->step, 2));
    cr_expect(eq(u64, offer->instance, 0));
    cr_expect(eq(u32, offer->attempt, 1));
    cr_expect(eq(u32, offer->ended, 0));
    cr_expect(eq(u64, offer->epoch, 1));
    cr_expect(eq(u64, offer->started_at_ns, begun.started_at_ns));
    cr_expect(eq(int, kill((pid_t)offer->pid, 0), 0));
    const struct pawl_wire_adopt adopt = {.number = offer->number, .keep = 1, .ticket = 77, .queue = QUEUE};
    expect_message(PAWL_WIRE_OFFERS_END, 0);
    tell(PAWL_WIRE_ADOPT, &adopt, sizeof adopt, NULL, 0);
    give_queue();
    snprintf(path, sizeof path, "%s/go", state);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    struct pawl_settlement result = expect_settlement(PAWL_SETTLE_RESULT, text, sizeof text);
    cr_expect(eq(u32, result.slot, PAWL_SLOT_ADOPTED));
    cr_expect(eq(u32, result.generation, 77));
    cr_expect(eq(u32, result.queue, QUEUE));
    cr_expect(eq(str, text, "done\n"));
    place_noops(1); /* and it works for the new one */
    expect_settlement(PAWL_SETTLE_RESULT, NULL, 0);
}

Test(worker_offers, job_that_ends_while_no_scheduler_is_there_is_offered_with_its_result)
{
    char path[200];
    begin();
    snprintf(path, sizeof path, "until [ -e %s/go ]; do sleep 0.01; done; printf result", state);
    place_shell(path, 0);
    expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    uint64_t job;
    while ((job = shown_job()) == 0) /* it is told before it is started */
        poll(NULL, 0, 1);
    lose_scheduler();
    snprintf(path, sizeof path, "%s/go", state);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    while (kill((pid_t)job, 0) == 0)
        poll(NULL, 0, 1);
    accept_worker();
    struct ended_offer body = expect_ended_offer(); /* reaped before the new scheduler said a word */
    cr_expect(eq(int, body.settlement.outcome, PAWL_OUTCOME_EXITED));
    cr_expect(eq(int, memcmp(body.bytes, "result", 6), 0));
    expect_message(PAWL_WIRE_OFFERS_END, 0);
}

Test(worker_offers, results_that_were_not_durable_are_offered_until_they_are)
{
    begin();
    place_shell("printf first", 0);
    expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    expect_settlement(PAWL_SETTLE_RESULT, NULL, 0);
    make_durable();
    place_shell("printf second; exit 4", 1);
    expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    expect_settlement(PAWL_SETTLE_RESULT, NULL, 0);
    for (int times = 0; times < 2; times++) { /* the second scheduler dies before it is durable there too */
        lose_scheduler();
        accept_worker();
        struct ended_offer body = expect_ended_offer(); /* the first was settled: no offer of it */
        cr_expect(eq(u64, body.offer.instance, 1));
        cr_expect(eq(u64, body.offer.epoch, 1));
        cr_expect(eq(int, body.settlement.exit_code, 4));
        cr_expect(eq(int, memcmp(body.bytes, "second", 6), 0));
        expect_message(PAWL_WIRE_OFFERS_END, 0);
        adopt(body.offer.number, 8);
        give_queue();
        char text[16];
        struct pawl_settlement result = expect_settlement(PAWL_SETTLE_RESULT, text, sizeof text);
        cr_expect(eq(u32, result.slot, PAWL_SLOT_ADOPTED));
        cr_expect(eq(u32, result.generation, 8));
        cr_expect(eq(int, result.exit_code, 4));
        cr_expect(eq(int, memcmp(text, "second", 6), 0));
    }
    make_durable();
    place_shell("true", 2); /* the worker looks at what is durable when it has something to do */
    expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    expect_settlement(PAWL_SETTLE_RESULT, NULL, 0);
    lose_scheduler();
    accept_worker();
    const struct pawl_wire_offer *offer = expect_message(PAWL_WIRE_OFFER, sizeof *offer);
    cr_expect(eq(u64, offer->instance, 2));
    expect_message(PAWL_WIRE_OFFERS_END, 0);
}

Test(worker_offers, job_that_ends_between_offer_and_adoption_reports_by_the_lane)
{
    char path[200], text[16];
    begin();
    snprintf(path, sizeof path, "until [ -e %s/go ]; do sleep 0.01; done; printf result", state);
    place_shell(path, 0);
    expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    while (shown_job() == 0)
        poll(NULL, 0, 1);
    lose_scheduler();
    accept_worker();
    const struct pawl_wire_offer *offer = expect_message(PAWL_WIRE_OFFER, sizeof *offer);
    uint32_t number = offer->number;
    pid_t job = (pid_t)offer->pid;
    cr_expect(eq(u32, offer->ended, 0));
    expect_message(PAWL_WIRE_OFFERS_END, 0);
    snprintf(path, sizeof path, "%s/go", state);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    while (kill(job, 0) == 0)
        poll(NULL, 0, 1);
    adopt(number, 5);
    struct pawl_settlement result = expect_settlement(PAWL_SETTLE_RESULT, text, sizeof text);
    cr_expect(eq(u32, result.slot, PAWL_SLOT_ADOPTED));
    cr_expect(eq(u32, result.generation, 5));
    cr_expect(eq(str, text, "result"));
}

Test(worker_offers, refused_offer_kills_the_job_and_is_forgotten)
{
    begin();
    place_shell("trap '' TERM; sleep 60", 0);
    expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    lose_scheduler();
    accept_worker();
    const struct pawl_wire_offer *offer = expect_message(PAWL_WIRE_OFFER, sizeof *offer);
    pid_t pid = (pid_t)offer->pid;
    const struct pawl_wire_adopt adopt = {.number = offer->number, .keep = 0};
    expect_message(PAWL_WIRE_OFFERS_END, 0);
    tell(PAWL_WIRE_ADOPT, &adopt, sizeof adopt, NULL, 0);
    give_queue();
    place_noops(1); /* the first thing that this scheduler hears is the next work */
    cr_expect(eq(u32, expect_settlement(PAWL_SETTLE_RESULT, NULL, 0).slot, 0));
    cr_expect(eq(int, kill(pid, 0), -1));
}

Test(worker_offers, nothing_is_claimed_from_the_ring_of_a_lost_scheduler)
{
    begin();
    while (!atomic_load(&pawl_lane_memory_of(&lane.segment)->sleeping))
        poll(NULL, 0, 1);
    pawl_wire_fini(&wire);
    accept_worker(); /* it has noticed */
    expect_message(PAWL_WIRE_OFFERS_END, 0);
    uint32_t slot, generation;
    struct pawl_descriptor descriptor = {0};
    cr_assert(eq(int, pawl_delivery_ring_place(&ring, &descriptor, 0, &slot, &generation), 0));
    pawl_delivery_ring_publish(&ring);
    struct pawl_delivery_ring old = ring;
    give_queue();
    place_noops(1);
    expect_settlement(PAWL_SETTLE_RESULT, NULL, 0);
    cr_expect(eq(int, pawl_delivery_ring_look(&old, slot).state, PAWL_CLAIM_READY));
    pawl_delivery_ring_destroy(&old);
}
