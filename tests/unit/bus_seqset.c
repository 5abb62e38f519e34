/*
 * bus_seqset - the settled numbers of a queue: right as a plain array of flags is, and small.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/seqset.h"
#include "shm/error.h"

TestSuite(bus_seqset, .timeout = 300);

enum { CHUNK = PAWL_SEQSET_CHUNK };

static struct pawl_seqset set;
static uint64_t dice_state;

static uint64_t dice(uint64_t sides)
{
    dice_state ^= dice_state << 13;
    dice_state ^= dice_state >> 7;
    dice_state ^= dice_state << 17;
    return dice_state % sides;
}

/* ---- the model: a flag a number, from a base on ---- */

enum { MODEL = 6 * CHUNK };
static bool flag[MODEL];
static uint64_t base;

static uint64_t model_next(uint64_t from, bool settled)
{
    for (uint64_t i = from - base; i < MODEL; i++)
        if (flag[i] == settled)
            return base + i;
    return settled ? PAWL_SEQSET_NONE : base + MODEL;
}

static uint64_t model_add(uint64_t first, uint64_t last)
{
    uint64_t added = 0;
    for (uint64_t seq = first; seq <= last; seq++) {
        added += !flag[seq - base];
        flag[seq - base] = true;
    }
    return added;
}

static uint64_t model_count(const struct pawl_seqset *of)
{
    uint64_t n = 0;
    for (uint64_t i = pawl_seqset_head(of) - base; i < MODEL; i++)
        n += flag[i];
    return n;
}

static void compare(const struct pawl_seqset *with)
{
    uint64_t head = pawl_seqset_head(with);
    cr_assert(eq(u64, head, model_next(base, false)));
    cr_assert(eq(u64, pawl_seqset_count(with), model_count(with)));
    for (int i = 0; i < 50; i++) {
        uint64_t seq = base + dice(MODEL), above = seq > head ? seq : head;
        cr_assert(eq(int, pawl_seqset_has(with, seq), flag[seq - base]));
        cr_assert(eq(u64, pawl_seqset_next_unset(with, seq), model_next(above, false)));
        cr_assert(eq(u64, pawl_seqset_next_set(with, seq),
                     above < base + MODEL ? model_next(above, true) : UINT64_MAX));
    }
}

/* Saved with room for @room bytes at a time and loaded, twice, into a set that begins at the head. */
static struct pawl_seqset copy_of(const struct pawl_seqset *from, size_t room, uint64_t next)
{
    static unsigned char piece[1 << 16];
    struct pawl_seqset copy;
    uint64_t cursor = 0;
    pawl_seqset_init(&copy, pawl_seqset_head(from));
    for (size_t n; (n = pawl_seqset_save(from, &cursor, piece, room)) > 0;) {
        cr_assert(le(sz, n, room));
        cr_assert(eq(int, pawl_seqset_load(&copy, piece, n, next), 0));
        cr_assert(eq(int, pawl_seqset_load(&copy, piece, n, next), 0));
    }
    return copy;
}

static void play(uint64_t head, uint64_t seed)
{
    dice_state = seed;
    base = head;
    memset(flag, 0, sizeof flag);
    pawl_seqset_init(&set, head);
    for (int turn = 0; turn < 400; turn++) {
        uint64_t first = base + dice(MODEL), width = dice(4) ? dice(70) : dice(2 * CHUNK);
        if (dice(3) == 0)
            first = pawl_seqset_head(&set);
        uint64_t last = first + width < base + MODEL - 1 ? first + width : base + MODEL - 1;
        if (first > last)
            break; /* the model is full */
        if (dice(2)) {
            cr_assert(eq(int, pawl_seqset_add(&set, first), (int)model_add(first, first)));
        } else {
            cr_assert(eq(i64, pawl_seqset_add_range(&set, first, last), (int64_t)model_add(first, last)));
        }
        compare(&set);
    }
    struct pawl_seqset copy = copy_of(&set, dice(2) ? PAWL_SEQSET_PIECE_BYTES_MIN : 3000, base + MODEL);
    compare(&copy);
    pawl_seqset_fini(&copy);
    pawl_seqset_fini(&set);
}

Test(bus_seqset, random_settlements_agree_with_an_array_of_flags_whatever_the_head)
{
    uint64_t heads[] = {0,
                        1,
                        4095,
                        4096,
                        123456789,
                        UINT64_C(1) << 63,
                        (UINT64_C(1) << 63) - 5000,
                        UINT64_MAX - 8 * (uint64_t)CHUNK};
    for (uint64_t seed = 1; seed <= 6; seed++)
        for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
            play(heads[i], seed * 1000003 + i);
}

Test(bus_seqset, an_empty_set_owns_nothing_and_knows_what_lies_below_its_head)
{
    pawl_seqset_init(&set, UINT64_C(1) << 63);
    cr_expect(eq(u64, pawl_seqset_head(&set), UINT64_C(1) << 63));
    cr_expect(eq(int, pawl_seqset_has(&set, (UINT64_C(1) << 63) - 1), true));
    cr_expect(eq(int, pawl_seqset_has(&set, UINT64_C(1) << 63), false));
    cr_expect(eq(u64, pawl_seqset_next_unset(&set, 0), UINT64_C(1) << 63));
    cr_expect(eq(u64, pawl_seqset_next_set(&set, 0), PAWL_SEQSET_NONE));
    cr_expect(eq(int, pawl_seqset_add(&set, 5), 0), "below the head all is settled");
    cr_expect(eq(i64, pawl_seqset_add_range(&set, 5, 9), 0));
    uint64_t first, last, cursor = 0;
    char room[PAWL_SEQSET_PIECE_BYTES_MIN];
    cr_expect(eq(int, pawl_seqset_range(&set, 0, UINT64_C(1) << 63, false, &first, &last), false));
    cr_expect(eq(sz, pawl_seqset_save(&set, &cursor, room, sizeof room), 0));
    cr_expect(eq(sz, pawl_seqset_memory(&set), 0));
    pawl_seqset_fini(&set);
}

Test(bus_seqset, a_queue_settled_in_order_needs_one_chunk_for_ever)
{
    pawl_seqset_init(&set, 1000);
    for (uint64_t seq = 1000; seq < 1001000; seq++) {
        cr_assert(eq(int, pawl_seqset_add(&set, seq), 1));
        cr_assert(eq(u64, pawl_seqset_head(&set), seq + 1));
    }
    cr_expect(eq(u64, pawl_seqset_count(&set), 0));
    cr_expect(le(sz, pawl_seqset_memory(&set), 2048));
    pawl_seqset_fini(&set);
}

Test(bus_seqset, the_worst_mixture_costs_less_than_two_bits_a_number)
{
    pawl_seqset_init(&set, 1);
    for (uint64_t seq = 2; seq < 4000000; seq += 2)
        cr_assert(eq(int, pawl_seqset_add(&set, seq), 1));
    cr_expect(lt(sz, pawl_seqset_memory(&set), 4000000 * 2 / 8));
    pawl_seqset_fini(&set);
}

Test(bus_seqset, ten_million_settled_behind_one_that_is_not_cost_a_pointer_a_chunk)
{
    pawl_seqset_init(&set, 0);
    cr_assert(eq(i64, pawl_seqset_add_range(&set, 1, 10000000), 10000000));
    cr_expect(eq(u64, pawl_seqset_head(&set), 0));
    cr_expect(lt(sz, pawl_seqset_memory(&set), 2 * 10000000 / CHUNK * sizeof(void *) + 2048));
    for (uint64_t seq = 20000000; seq > 10000000; seq--)
        cr_assert(eq(int, pawl_seqset_add(&set, seq), 1));
    cr_expect(lt(sz, pawl_seqset_memory(&set), 4 * 20000000 / CHUNK * sizeof(void *) + 2048));
    cr_assert(eq(int, pawl_seqset_add(&set, 0), 1));
    cr_expect(eq(u64, pawl_seqset_head(&set), 20000001));
    cr_expect(eq(u64, pawl_seqset_count(&set), 0));
    pawl_seqset_fini(&set);
}

Test(bus_seqset, runs_are_walked_from_head_to_next)
{
    char text[256] = "";
    uint64_t first, last;
    pawl_seqset_init(&set, 10);
    pawl_seqset_add_range(&set, 12, 14);
    pawl_seqset_add_range(&set, 4090, 4100);
    pawl_seqset_add(&set, 9000);
    for (uint64_t from = 10; pawl_seqset_range(&set, from, 9500, false, &first, &last); from = last + 1)
        sprintf(text + strlen(text), "%d-%d ", (int)first, (int)last);
    cr_expect(eq(str, text, "10-11 15-4089 4101-8999 9001-9499 "));
    text[0] = '\0';
    for (uint64_t from = 10; pawl_seqset_range(&set, from, 4095, true, &first, &last); from = last + 1)
        sprintf(text + strlen(text), "%d-%d ", (int)first, (int)last);
    cr_expect(eq(str, text, "12-14 4090-4094 "));
    pawl_seqset_fini(&set);
}

Test(bus_seqset, the_set_may_change_between_the_pieces_of_a_snapshot)
{
    unsigned char piece[PAWL_SEQSET_PIECE_BYTES_MIN];
    struct pawl_seqset copy;
    uint64_t cursor = 0;
    pawl_seqset_init(&set, 0);
    for (uint64_t seq = 1; seq < 10 * CHUNK; seq += 2)
        pawl_seqset_add(&set, seq);
    pawl_seqset_init(&copy, 0);
    size_t n = pawl_seqset_save(&set, &cursor, piece, sizeof piece);
    cr_assert(eq(int, pawl_seqset_load(&copy, piece, n, 10 * CHUNK), 0));
    pawl_seqset_add_range(&set, 0, 5 * CHUNK - 1); /* what is known already goes away */
    while ((n = pawl_seqset_save(&set, &cursor, piece, sizeof piece)) > 0)
        cr_assert(eq(int, pawl_seqset_load(&copy, piece, n, 10 * CHUNK), 0));
    for (uint64_t seq = 5 * CHUNK; seq < 10 * CHUNK; seq++)
        cr_assert(eq(int, pawl_seqset_has(&copy, seq), (int)(seq % 2)));
    cr_expect(eq(u64, pawl_seqset_head(&copy), 0));
    pawl_seqset_fini(&copy);
    pawl_seqset_fini(&set);
}

Test(bus_seqset, a_piece_that_does_not_hold_is_refused)
{
    unsigned char piece[2048];
    uint64_t cursor = 0;
    struct pawl_seqset copy;
    pawl_seqset_init(&set, 0);
    pawl_seqset_add_range(&set, 1, 100);
    pawl_seqset_add_range(&set, CHUNK, 3 * CHUNK - 1);
    size_t n = pawl_seqset_save(&set, &cursor, piece, sizeof piece);
    cr_assert(eq(sz, n, 16 + CHUNK / 8 + 16));
    pawl_seqset_init(&copy, 0);
    cr_expect(eq(int, pawl_seqset_load(&copy, piece, n - 1, 3 * CHUNK), PAWL_E_BAD_FORMAT));
    cr_expect(eq(int, pawl_seqset_load(&copy, piece, 20, 3 * CHUNK), PAWL_E_BAD_FORMAT));
    cr_expect(eq(int, pawl_seqset_load(&copy, piece, n, 3 * CHUNK - 1), PAWL_E_BAD_FORMAT), "beyond next");
    cr_expect(eq(int, pawl_seqset_load(&copy, piece, 16 + CHUNK / 8, 100), PAWL_E_BAD_FORMAT), "beyond next");
    piece[n - 1] = 1;
    cr_expect(eq(int, pawl_seqset_load(&copy, piece, n, 3 * CHUNK), PAWL_E_BAD_FORMAT));
    piece[n - 1] = 0;
    memset(piece + n - 16, 0xff, 12); /* a chunk's number and a run beyond all bounds */
    cr_expect(eq(int, pawl_seqset_load(&copy, piece, n, 3 * CHUNK), PAWL_E_BAD_FORMAT));
    pawl_seqset_fini(&copy);
    pawl_seqset_fini(&set);
}
