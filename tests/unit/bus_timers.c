/*
 * bus_timers - what is due comes in its order, and waiting costs nothing.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdlib.h>

#include "scheduler/bus/timers.h"

TestSuite(bus_timers, .timeout = 300);

static struct pawl_bus_timers timers;
static struct pawl_bus_timer got;

static void add(uint64_t due_ns, uint64_t a, uint32_t b)
{
    struct pawl_bus_timer timer = {.due_ns = due_ns, .a = a, .b = b, .kind = 3};
    cr_assert(eq(int, pawl_bus_timers_add(&timers, &timer), 0));
}

Test(bus_timers, none_is_never_due)
{
    cr_expect(eq(u64, pawl_bus_timers_next(&timers), UINT64_MAX));
    cr_expect(eq(int, pawl_bus_timers_take(&timers, UINT64_MAX, &got), false));
    cr_expect(eq(sz, pawl_bus_timers_count(&timers), 0));
}

Test(bus_timers, a_timer_is_taken_at_its_instant_and_not_a_nanosecond_before)
{
    add(100, 7, 9);
    cr_expect(eq(u64, pawl_bus_timers_next(&timers), 100));
    cr_expect(eq(int, pawl_bus_timers_take(&timers, 99, &got), false));
    cr_assert(eq(int, pawl_bus_timers_take(&timers, 100, &got), true));
    cr_expect(eq(u64, got.a, 7));
    cr_expect(eq(u32, got.b, 9));
    cr_expect(eq(u32, got.kind, 3));
    cr_expect(eq(int, pawl_bus_timers_take(&timers, 100, &got), false));
    pawl_bus_timers_fini(&timers);
}

Test(bus_timers, those_due_together_come_by_their_numbers)
{
    add(5, 3, 0);
    add(5, 1, 2);
    add(5, 2, 0);
    add(5, 1, 1);
    uint64_t want[][2] = {{1, 1}, {1, 2}, {2, 0}, {3, 0}};
    for (int i = 0; i < 4; i++) {
        cr_assert(eq(int, pawl_bus_timers_take(&timers, 5, &got), true));
        cr_expect(eq(u64, got.a, want[i][0]));
        cr_expect(eq(u64, got.b, want[i][1]));
    }
    pawl_bus_timers_fini(&timers);
}

Test(bus_timers, a_hundred_thousand_come_out_sorted_while_others_are_added_and_memory_is_given_back)
{
    enum { N = 100000 };
    uint64_t state = 88172645463325252u, last = 0;
    for (uint64_t i = 0; i < N; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        add(state >> 40, i, 0);
    }
    cr_expect(eq(sz, pawl_bus_timers_count(&timers), N));
    size_t taken = 0;
    while (pawl_bus_timers_next(&timers) != UINT64_MAX) {
        cr_assert(eq(int, pawl_bus_timers_take(&timers, UINT64_MAX - 1, &got), true));
        cr_assert(ge(u64, got.due_ns, last));
        last = got.due_ns;
        if (++taken % 10 == 0 && taken <= N)
            add(last + taken, N + taken, 1);
    }
    cr_expect(eq(sz, taken, N + N / 10));
    cr_expect(le(sz, timers.room, 64));
    pawl_bus_timers_fini(&timers);
}

static bool is_even(void *ctx, const struct pawl_bus_timer *timer)
{
    (*(size_t *)ctx)++;
    return timer->a % 2 == 0;
}

Test(bus_timers, a_sweep_looks_at_each_once_and_keeps_the_order_of_those_that_are_wanted)
{
    enum { COUNT = 1000 };
    for (size_t count = 0; count <= COUNT; count = count < 20 ? count + 1 : count * 7) {
        size_t looked = 0;
        for (uint64_t i = 0; i < count; i++)
            add((i * 7919) % 1009, i, 0);
        pawl_bus_timers_sweep(&timers, is_even, &looked);
        cr_expect(eq(sz, looked, count));
        cr_assert(eq(sz, pawl_bus_timers_count(&timers), (count + 1) / 2));
        uint64_t last = 0;
        while (pawl_bus_timers_take(&timers, UINT64_MAX, &got)) {
            cr_assert(ge(u64, got.due_ns, last));
            cr_assert(eq(u64, got.a % 2, 0));
            last = got.due_ns;
        }
    }
    pawl_bus_timers_fini(&timers);
}
