/*
 * bus_breaker - when a queue is left alone, how it is tried again, and what a restart keeps of that.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "scheduler/bus/breaker.h"

#define S UINT64_C(1000000000)

static struct pawl_breaker b;

static void make(void)
{
    pawl_breaker_init(&b, &PAWL_BREAKER_DEFAULTS);
}

TestSuite(bus_breaker, .init = make, .timeout = 300);

static void fail_times(int n, uint64_t now_ns)
{
    while (n-- > 0)
        pawl_breaker_on_failure(&b, pawl_breaker_on_start(&b), now_ns);
}

Test(bus_breaker, five_failures_in_a_row_open_it_and_four_do_not)
{
    fail_times(4, 0);
    cr_expect(eq(u32, pawl_breaker_admits(&b, 0), UINT32_MAX));
    cr_expect(eq(u64, pawl_breaker_next_ns(&b), UINT64_MAX));
    fail_times(1, 10 * S);
    cr_expect(eq(u32, b.state, PAWL_BREAKER_OPEN));
    cr_expect(eq(u32, pawl_breaker_admits(&b, 10 * S), 0));
    cr_expect(eq(u64, pawl_breaker_next_ns(&b), 40 * S));
}

Test(bus_breaker, a_success_begins_the_count_again_and_an_abandoned_one_does_not)
{
    fail_times(4, 0);
    pawl_breaker_on_success(&b, pawl_breaker_on_start(&b));
    fail_times(4, 0);
    cr_expect(eq(u32, b.state, PAWL_BREAKER_CLOSED));
    pawl_breaker_on_abandoned(&b, pawl_breaker_on_start(&b));
    cr_expect(eq(u32, b.state, PAWL_BREAKER_CLOSED));
    fail_times(1, 0);
    cr_expect(eq(u32, b.state, PAWL_BREAKER_OPEN));
}

Test(bus_breaker, cooldown_counts_from_the_last_failure_even_of_one_that_started_before)
{
    uint32_t slow = pawl_breaker_on_start(&b);
    fail_times(5, 0);
    pawl_breaker_on_failure(&b, slow, 20 * S);
    cr_expect(eq(u32, pawl_breaker_admits(&b, 50 * S - 1), 0));
    cr_expect(eq(u32, pawl_breaker_admits(&b, 50 * S), 3));
    cr_expect(eq(u32, b.state, PAWL_BREAKER_HALF_OPEN));
}

Test(bus_breaker, half_open_admits_three_and_two_successes_close_it)
{
    fail_times(5, 0);
    for (uint32_t left = 3; left > 0; left--) {
        cr_assert(eq(u32, pawl_breaker_admits(&b, 30 * S), left));
        cr_assert(eq(u32, pawl_breaker_on_start(&b), b.round));
    }
    cr_expect(eq(u32, pawl_breaker_admits(&b, 99 * S), 0));
    pawl_breaker_on_success(&b, b.round);
    cr_expect(eq(u32, pawl_breaker_admits(&b, 99 * S), 0), "a success gives no place back");
    pawl_breaker_on_success(&b, b.round);
    cr_expect(eq(u32, b.state, PAWL_BREAKER_CLOSED));
    fail_times(4, 99 * S);
    cr_expect(eq(u32, b.state, PAWL_BREAKER_CLOSED), "it has forgotten the old failures");
}

Test(bus_breaker, one_failed_probe_opens_it_for_another_cooldown)
{
    fail_times(5, 0);
    pawl_breaker_admits(&b, 30 * S);
    uint32_t probe = pawl_breaker_on_start(&b), other = pawl_breaker_on_start(&b);
    pawl_breaker_on_success(&b, probe);
    pawl_breaker_on_failure(&b, other, 31 * S);
    cr_expect(eq(u32, b.state, PAWL_BREAKER_OPEN));
    cr_expect(eq(u64, pawl_breaker_next_ns(&b), 61 * S));
    cr_expect(eq(u32, pawl_breaker_admits(&b, 61 * S), 3), "with all its probes");
}

Test(bus_breaker, an_abandoned_probe_gives_its_place_back)
{
    fail_times(5, 0);
    pawl_breaker_admits(&b, 30 * S);
    for (int i = 0; i < 100; i++) {
        uint32_t probes[3] = {pawl_breaker_on_start(&b), pawl_breaker_on_start(&b),
                              pawl_breaker_on_start(&b)};
        cr_assert(eq(u32, pawl_breaker_admits(&b, 30 * S), 0));
        for (int p = 0; p < 3; p++)
            pawl_breaker_on_abandoned(&b, probes[p]);
        cr_assert(eq(u32, pawl_breaker_admits(&b, 30 * S), 3));
    }
}

Test(bus_breaker, what_started_before_the_probes_decides_nothing_about_them)
{
    uint32_t old = pawl_breaker_on_start(&b);
    fail_times(5, 0);
    pawl_breaker_admits(&b, 30 * S);
    pawl_breaker_on_start(&b);
    pawl_breaker_on_success(&b, old);
    pawl_breaker_on_success(&b, 0);
    pawl_breaker_on_success(&b, old);
    pawl_breaker_on_abandoned(&b, old);
    pawl_breaker_on_failure(&b, old, 30 * S);
    cr_expect(eq(u32, b.state, PAWL_BREAKER_HALF_OPEN));
    cr_expect(eq(u32, pawl_breaker_admits(&b, 30 * S), 2));
}

Test(bus_breaker, threshold_zero_is_no_breaker)
{
    pawl_breaker_init(&b, &(struct pawl_breaker_config){0});
    fail_times(1000, 0);
    cr_expect(eq(u32, pawl_breaker_admits(&b, 0), UINT32_MAX));
    make();
    fail_times(5, 0);
    pawl_breaker_configure(&b, &(struct pawl_breaker_config){0});
    cr_expect(eq(u32, pawl_breaker_admits(&b, 0), UINT32_MAX), "taken away while open");
}

Test(bus_breaker, more_successes_than_probes_are_asked_for_and_it_still_can_close)
{
    pawl_breaker_init(&b, &(struct pawl_breaker_config){1, 5, 2, S});
    fail_times(1, 0);
    for (int i = 0; i < 5; i++) {
        cr_assert(ge(u32, pawl_breaker_admits(&b, S), 1));
        pawl_breaker_on_success(&b, pawl_breaker_on_start(&b));
    }
    cr_expect(eq(u32, b.state, PAWL_BREAKER_CLOSED));
}

Test(bus_breaker, a_restart_keeps_the_count_and_the_wait_that_was_left)
{
    struct pawl_breaker_image image;
    fail_times(3, 100 * S);
    pawl_breaker_pack(&b, 100 * S, &image);
    make();
    pawl_breaker_unpack(&b, 5 * S, &image);
    fail_times(2, 5 * S);
    cr_assert(eq(u32, b.state, PAWL_BREAKER_OPEN));
    pawl_breaker_pack(&b, 15 * S, &image);
    make();
    pawl_breaker_unpack(&b, 1000 * S, &image);
    cr_expect(eq(u64, pawl_breaker_next_ns(&b), 1020 * S));
    cr_expect(eq(u32, pawl_breaker_admits(&b, 1019 * S), 0));
    cr_assert(eq(u32, pawl_breaker_admits(&b, 1020 * S), 3));
    pawl_breaker_on_start(&b);
    pawl_breaker_pack(&b, 1020 * S, &image);
    make();
    pawl_breaker_unpack(&b, 0, &image);
    cr_expect(eq(u32, b.state, PAWL_BREAKER_HALF_OPEN));
    cr_expect(eq(u32, pawl_breaker_admits(&b, 0), 3), "the probes of before are nobody's");
}

Test(bus_breaker, an_image_that_lies_makes_nobody_wait_longer_than_the_cooldown)
{
    pawl_breaker_unpack(&b, S, &(struct pawl_breaker_image){PAWL_BREAKER_OPEN, 0, UINT64_MAX});
    cr_expect(eq(u64, pawl_breaker_next_ns(&b), 31 * S));
    pawl_breaker_unpack(&b, S, &(struct pawl_breaker_image){77, 1, 1});
    cr_expect(eq(u32, pawl_breaker_admits(&b, S), UINT32_MAX));
}

Test(bus_breaker, outcomes_of_one_life_are_not_taken_for_those_of_another)
{
    fail_times(5, 0);
    pawl_breaker_admits(&b, 30 * S);
    uint32_t first = pawl_breaker_on_start(&b);
    pawl_breaker_on_failure(&b, pawl_breaker_on_start(&b), 30 * S);
    pawl_breaker_admits(&b, 60 * S);
    pawl_breaker_on_start(&b);
    pawl_breaker_on_failure(&b, first, 60 * S);
    cr_expect(eq(u32, b.state, PAWL_BREAKER_HALF_OPEN), "a probe of the half-open time before");
}
