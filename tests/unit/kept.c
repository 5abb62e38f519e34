/*
 * kept.c - what was promised to be kept is kept, however it is cut.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdlib.h>

#include "scheduler/kept.h"

enum { MIB = 1 << 20 };

static unsigned char body[3 * MIB];

static uint64_t add(struct pawl_kept *kept, size_t bytes)
{
    struct iovec iov = {.iov_base = body, .iov_len = bytes};
    return pawl_kept_add(kept, &iov, 1, 1);
}

Test(kept, whatever_may_be_added_is_taken_in_pieces_of_any_size)
{
    uint64_t random = 88172645463325252u;
    for (int round = 0; round < 200; round++) {
        struct pawl_kept kept;
        pawl_kept_init(&kept, 16 * MIB);
        for (int act = 0; act < 20; act++) {
            size_t sizes[8], count = 0;
            uint64_t total = 0;
            for (; count < 8; count++) {
                random ^= random << 13, random ^= random >> 7, random ^= random << 17;
                sizes[count] = random % (random >> 40 & 1 ? sizeof body : 4096);
                total += sizes[count] + 256; /* as the bus counts: a record's head with it */
            }
            if (!pawl_kept_may_add(&kept, total))
                break;
            for (size_t i = 0; i < count; i++)
                cr_assert(ne(u64, add(&kept, sizes[i]), 0), "round %d, act %d, piece %zu", round, act, i);
        }
        pawl_kept_fini(&kept);
    }
}

Test(kept, at_the_bound_nothing_may_be_added_and_nothing_is)
{
    struct pawl_kept kept;
    pawl_kept_init(&kept, 4 * MIB);
    cr_expect(pawl_kept_may_add(&kept, MIB));
    uint64_t first = add(&kept, 3 * MIB);
    cr_assert(ne(u64, first, 0));
    cr_expect(not(pawl_kept_may_add(&kept, MIB)));
    cr_expect(eq(u64, add(&kept, 2 * MIB), 0));
    pawl_kept_release(&kept, first);
    cr_expect(ne(u64, add(&kept, 100), 0));
    pawl_kept_fini(&kept);
}
