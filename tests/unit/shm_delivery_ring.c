/* Rules of the delivery ring and its claim words. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/delivery_ring.h"
#include "shm/error.h"

static struct pawl_delivery_ring ring;
static struct pawl_claimer worker, other;

static void set_up(void)
{
    cr_assert(eq(int, pawl_delivery_ring_create(4, &ring), 0));
    cr_assert(eq(int, pawl_claimer_attach(dup(ring.queue.fd), dup(ring.words.fd), 1, &worker), 0));
    cr_assert(eq(int, pawl_claimer_attach(dup(ring.queue.fd), dup(ring.words.fd), 2, &other), 0));
}

TestSuite(delivery_ring, .init = set_up, .timeout = 300);

static uint32_t place(uint64_t instance, uint32_t *generation_out)
{
    struct pawl_descriptor d = {.instance = instance};
    uint32_t slot = UINT32_MAX;
    cr_assert(eq(int, pawl_delivery_ring_place(&ring, &d, 0, &slot, generation_out), 0));
    pawl_delivery_ring_publish(&ring);
    return slot;
}

Test(delivery_ring, placed_delivery_is_claimed_once)
{
    struct pawl_claimed claimed;
    uint32_t generation;
    place(42, &generation);
    cr_assert(eq(int, pawl_claim_one(&worker, &claimed), 0));
    cr_expect(eq(u64, claimed.descriptor.instance, 42));
    cr_expect(eq(u32, claimed.delivery_count, 1));
    cr_expect(eq(int, pawl_claim_one(&other, &claimed), PAWL_E_QUEUE_EMPTY));
}

Test(delivery_ring, placement_is_invisible_until_published)
{
    struct pawl_descriptor d = {.instance = 1};
    struct pawl_claimed claimed;
    uint32_t slot, generation;
    cr_assert(eq(int, pawl_delivery_ring_place(&ring, &d, 0, &slot, &generation), 0));
    cr_expect(eq(int, pawl_claim_one(&worker, &claimed), PAWL_E_QUEUE_EMPTY));
    pawl_delivery_ring_publish(&ring);
    cr_expect(eq(int, pawl_claim_one(&worker, &claimed), 0));
}

Test(delivery_ring, every_slot_is_usable_and_one_more_is_full)
{
    struct pawl_descriptor d = {.instance = 0};
    uint32_t slot, generation;
    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, pawl_delivery_ring_place(&ring, &d, 0, &slot, &generation), 0));
    cr_expect(eq(int, pawl_delivery_ring_place(&ring, &d, 0, &slot, &generation), PAWL_E_QUEUE_FULL));
}

Test(delivery_ring, one_long_job_does_not_stop_the_ring)
{
    struct pawl_claimed lasting, claimed;
    uint32_t generation;
    place(0, &generation);
    cr_assert(eq(int, pawl_claim_one(&worker, &lasting), 0));
    for (uint64_t i = 1; i < 100; i++) {
        place(i, &generation);
        cr_assert(eq(int, pawl_claim_one(&other, &claimed), 0));
        cr_expect(eq(u64, claimed.descriptor.instance, i));
        cr_assert(eq(int, pawl_delivery_ring_settle(&ring, claimed.slot, claimed.generation), 0));
    }
    cr_expect(eq(int, pawl_delivery_ring_settle(&ring, lasting.slot, lasting.generation), 0));
}

Test(delivery_ring, held_delivery_counts_only_when_it_begins)
{
    struct pawl_claimed claimed[2];
    uint32_t generation;
    place(1, &generation);
    place(2, &generation);
    cr_assert(eq(u32, pawl_claim_ahead(&worker, claimed, 8), 2));
    cr_expect(eq(u32, pawl_delivery_ring_look(&ring, claimed[0].slot).delivery_count, 0));
    cr_expect(eq(int, (int)pawl_delivery_ring_look(&ring, claimed[0].slot).state, PAWL_CLAIM_HELD));
    cr_assert(eq(int, pawl_claim_begin(&worker, &claimed[0]), 0));
    cr_expect(eq(u32, pawl_delivery_ring_look(&ring, claimed[0].slot).delivery_count, 1));
    cr_expect(eq(u32, pawl_delivery_ring_look(&ring, claimed[1].slot).delivery_count, 0));
}

Test(delivery_ring, recalled_delivery_cannot_be_claimed)
{
    struct pawl_claimed claimed;
    uint32_t generation, slot = place(1, &generation);
    cr_assert(eq(int, pawl_delivery_ring_recall(&ring, slot, generation), 0));
    cr_expect(eq(int, pawl_claim_one(&worker, &claimed), PAWL_E_QUEUE_EMPTY));
}

Test(delivery_ring, claimed_delivery_cannot_be_recalled)
{
    struct pawl_claimed claimed;
    uint32_t generation, slot = place(1, &generation);
    cr_assert(eq(int, pawl_claim_one(&worker, &claimed), 0));
    cr_expect(eq(int, pawl_delivery_ring_recall(&ring, slot, generation), PAWL_E_STATE));
}

Test(delivery_ring, late_settlement_of_an_earlier_placement_is_stale)
{
    struct pawl_claimed claimed;
    uint32_t generation, slot = place(1, &generation);
    cr_assert(eq(int, pawl_claim_one(&worker, &claimed), 0));
    cr_assert(eq(int, pawl_delivery_ring_settle(&ring, slot, generation), 0));
    cr_expect(eq(int, pawl_delivery_ring_settle(&ring, slot, generation), PAWL_E_STALE_RECEIPT));
    uint32_t again, next;
    do
        next = place(2, &again);
    while (next != slot && ring.taken < 4);
    cr_expect(eq(int, pawl_delivery_ring_settle(&ring, slot, generation), PAWL_E_STALE_RECEIPT));
}

Test(delivery_ring, begin_of_a_delivery_that_was_taken_away_is_stale)
{
    struct pawl_claimed claimed;
    uint32_t generation;
    place(1, &generation);
    cr_assert(eq(u32, pawl_claim_ahead(&worker, &claimed, 1), 1));
    cr_assert(eq(int, pawl_delivery_ring_settle(&ring, claimed.slot, claimed.generation), 0));
    cr_expect(eq(int, pawl_claim_begin(&worker, &claimed), PAWL_E_STALE_RECEIPT));
}

Test(delivery_ring, count_saturates)
{
    struct pawl_descriptor d = {.instance = 1};
    struct pawl_claimed claimed;
    uint32_t slot, generation;
    cr_assert(eq(int, pawl_delivery_ring_place(&ring, &d, 5000, &slot, &generation), 0));
    pawl_delivery_ring_publish(&ring);
    cr_assert(eq(int, pawl_claim_one(&worker, &claimed), 0));
    cr_expect(eq(u32, claimed.delivery_count, PAWL_DELIVERY_COUNT_MAX));
}

Test(delivery_ring, delivery_published_before_fork_is_claimed_once_by_the_child)
{
    uint32_t generation;
    place(42, &generation);
    int queue_fd = ring.queue.fd, words_fd = ring.words.fd;
    pid_t child = fork();
    if (child == 0) {
        struct pawl_claimer mine;
        struct pawl_claimed claimed = {0};
        int error = pawl_claimer_attach(dup(queue_fd), dup(words_fd), 3, &mine);
        if (error == 0)
            error = pawl_claim_one(&mine, &claimed);
        _exit(error == 0 && claimed.descriptor.instance == 42 ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    cr_expect(eq(int, status, 0));
    struct pawl_claimed claimed;
    cr_expect(eq(int, pawl_claim_one(&worker, &claimed), PAWL_E_QUEUE_EMPTY));
}

Test(delivery_ring, deliveries_of_a_killed_worker_are_found_by_its_lane)
{
    uint32_t generation, slot = 0;
    for (uint64_t i = 0; i < 4; i++)
        place(i, &generation);
    int queue_fd = ring.queue.fd, words_fd = ring.words.fd;
    pid_t child = fork();
    if (child == 0) {
        struct pawl_claimer mine;
        struct pawl_claimed claimed[3];
        if (pawl_claimer_attach(dup(queue_fd), dup(words_fd), 7, &mine) == 0 &&
            pawl_claim_ahead(&mine, claimed, 3) == 3)
            pawl_claim_begin(&mine, &claimed[0]);
        kill(getpid(), SIGKILL);
    }
    int status, held = 0, begun = 0;
    waitpid(child, &status, 0);
    bool killed = WIFSIGNALED(status);
    cr_assert(killed);
    struct pawl_claim claim;
    for (; pawl_delivery_ring_scan(&ring, 7, &slot, &claim); slot++) {
        held += claim.state == PAWL_CLAIM_HELD;
        begun += claim.state == PAWL_CLAIM_BEGUN;
    }
    cr_expect(eq(int, begun, 1));
    cr_expect(eq(int, held, 2));
    struct pawl_claimed claimed;
    cr_assert(eq(int, pawl_claim_one(&worker, &claimed), 0));
    cr_expect(eq(u64, claimed.descriptor.instance, 3));
}

Test(delivery_ring, wild_word_can_not_free_a_slot_that_is_taken)
{
    uint32_t generation, slot = place(1, &generation);
    ring.word[slot] = 0; /* a stray write of some worker */
    cr_expect(eq(int, pawl_delivery_ring_recall(&ring, slot, generation), PAWL_E_STATE));
    cr_expect(eq(u32, ring.taken, 1), "the scheduler's own mirror is the arbiter");
    cr_expect(eq(int, pawl_delivery_ring_settle(&ring, slot, generation), 0));
}

Test(delivery_ring, descriptors_cannot_be_written_by_a_worker)
{
    struct pawl_segment segment;
    cr_expect(lt(int, pawl_segment_attach(dup(ring.queue.fd), 1, true, &segment), 0));
}
