/*
 * bus_dedupe - keys within a window by count and age, and the last number of each publisher.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/dedupe.h"
#include "scheduler/bus/publishers.h"
#include "shm/error.h"

#define S UINT64_C(1000000000)

TestSuite(bus_dedupe, .timeout = 300);
TestSuite(bus_publishers, .timeout = 300);

static struct pawl_dedupe window;

static struct pawl_dedupe_key key_of(uint64_t number)
{
    return pawl_dedupe_key(0, &number, sizeof number);
}

static void insert(uint64_t number, uint64_t event_id, uint64_t now_ns)
{
    struct pawl_dedupe_entry entry = {.key = key_of(number), .event_id = event_id, .realtime_ns = now_ns};
    cr_assert(eq(int, pawl_dedupe_insert(&window, &entry), 0));
}

/* 0: not found. */
static uint64_t find(uint64_t number, uint64_t now_ns)
{
    const struct pawl_dedupe_entry *entry = pawl_dedupe_find(&window, key_of(number), now_ns);
    return entry ? entry->event_id : 0;
}

Test(bus_dedupe, a_key_is_found_with_its_event_until_it_is_too_old)
{
    cr_assert(eq(int, pawl_dedupe_init(&window, 100, 600 * S), 0));
    cr_expect(eq(u64, find(1, 0), 0));
    insert(1, 77, 10 * S);
    cr_expect(eq(u64, find(1, 610 * S - 1), 77));
    cr_expect(eq(u64, find(1, 610 * S), 0));
    cr_expect(eq(u64, find(1, 5 * S), 77), "a clock that went back makes nothing old");
    cr_expect(eq(u64, find(2, 10 * S), 0));
    pawl_dedupe_fini(&window);
}

Test(bus_dedupe, the_oldest_goes_when_one_too_many_comes)
{
    cr_assert(eq(int, pawl_dedupe_init(&window, 3, 600 * S), 0));
    for (uint64_t i = 1; i <= 4; i++)
        insert(i, i, S);
    cr_expect(eq(u64, pawl_dedupe_count(&window), 3));
    cr_expect(eq(u64, find(1, S), 0));
    for (uint64_t i = 2; i <= 4; i++)
        cr_expect(eq(u64, find(i, S), i));
    pawl_dedupe_fini(&window);
}

Test(bus_dedupe, a_key_used_again_after_its_time_belongs_to_the_new_event_and_outlives_the_old_entry)
{
    cr_assert(eq(int, pawl_dedupe_init(&window, 1000, 600 * S), 0));
    for (uint64_t i = 0; i < 10; i++)
        insert(i, 1000 + i, S);
    insert(9, 2009, 700 * S);
    cr_expect(eq(u64, find(9, 700 * S), 2009));
    cr_expect(eq(sz, pawl_dedupe_expire(&window, 700 * S, 100), 6), "four went with the insertion");
    cr_expect(eq(u64, pawl_dedupe_count(&window), 1));
    cr_expect(eq(u64, find(9, 700 * S), 2009));
    pawl_dedupe_fini(&window);
}

Test(bus_dedupe, same_entry_twice_is_as_once)
{
    cr_assert(eq(int, pawl_dedupe_init(&window, 10, 600 * S), 0));
    insert(1, 5, S);
    insert(1, 5, S);
    cr_expect(eq(u64, pawl_dedupe_count(&window), 1));
    pawl_dedupe_fini(&window);
}

Test(bus_dedupe, one_key_of_two_publishers_is_two_keys)
{
    struct pawl_dedupe_key a = pawl_dedupe_key(1, "order-1", 7), b = pawl_dedupe_key(2, "order-1", 7),
                           again = pawl_dedupe_key(1, "order-1", 7);
    cr_expect(ne(u64, a.low, b.low));
    cr_expect(ne(u64, a.high, b.high));
    cr_expect(eq(u64, a.low, again.low));
    cr_expect(eq(u64, a.high, again.high));
    cr_expect(ne(u64, pawl_dedupe_key(1, "order-12", 8).low, a.low));
}

/* A model that remembers when each number was last inserted; numbers come again and again. */
Test(bus_dedupe, random_use_agrees_with_a_model_across_growth_shrinking_and_the_wrap_of_positions)
{
    enum { NUMBERS = 30000, BOUND = 9000, STEPS = 200000 };
    static uint64_t event_of[NUMBERS], place_of[NUMBERS]; /* its newest event, and which insertion that was */
    static uint64_t time_of[STEPS + 1];
    uint64_t state = 42, now = 10000 * S, inserted = 0, oldest = 1;
    cr_assert(eq(int, pawl_dedupe_init(&window, BOUND, 600 * S), 0));
    window.first = window.next = UINT64_C(0xffffffff) - 20000;
    for (uint64_t step = 0; step < STEPS; step++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint64_t number = (state >> 33) % NUMBERS;
        now += (state >> 20) % (step / 50000 % 2 ? 2 * S : S / 20);
        uint64_t p = place_of[number];
        bool known = p >= oldest && p > 0 && now - time_of[p] < 600 * S;
        cr_assert(eq(u64, find(number, now), known ? event_of[number] : 0));
        if (known)
            continue;
        insert(number, step + 1, now);
        for (int i = 0; i < 4 && oldest <= inserted && now - time_of[oldest] >= 600 * S; i++)
            oldest++;
        if (inserted + 1 - oldest >= BOUND)
            oldest++;
        place_of[number] = ++inserted;
        event_of[number] = step + 1;
        time_of[inserted] = now;
        cr_assert(eq(u64, pawl_dedupe_count(&window), inserted + 1 - oldest));
    }
    cr_assert(not(le(u64, window.next, UINT64_C(0xffffffff) + 20000)), "the positions have wrapped");
    while (pawl_dedupe_expire(&window, now + 600 * S, 1000) > 0)
        ;
    cr_expect(eq(u64, pawl_dedupe_count(&window), 0));
    cr_expect(lt(sz, pawl_dedupe_memory(&window), 4096), "memory follows the entries down");
    pawl_dedupe_fini(&window);
}

Test(bus_dedupe, a_million_keys_cost_about_forty_bytes_each)
{
    enum { N = PAWL_DEDUPE_COUNT_DEFAULT };
    cr_assert(eq(int, pawl_dedupe_init(&window, N, PAWL_DEDUPE_AGE_NS_DEFAULT), 0));
    cr_expect(lt(sz, pawl_dedupe_memory(&window), 8192), "nothing is taken before it is needed");
    for (uint64_t i = 0; i < N + N / 2; i++)
        insert(i, i + 1, S);
    cr_expect(eq(u64, pawl_dedupe_count(&window), N));
    cr_expect(lt(sz, pawl_dedupe_memory(&window), (size_t)N * 44));
    cr_expect(eq(u64, find(N / 2 - 1, S), 0));
    cr_expect(eq(u64, find(N / 2, S), N / 2 + 1));
    cr_expect(eq(u64, find(N + N / 2 - 1, S), N + N / 2));
    pawl_dedupe_fini(&window);
}

Test(bus_dedupe, a_snapshot_in_pieces_brings_the_window_back)
{
    struct pawl_dedupe_entry piece[70];
    uint64_t cursor = 0;
    cr_assert(eq(int, pawl_dedupe_init(&window, 1000, 600 * S), 0));
    for (uint64_t i = 0; i < 1500; i++)
        insert(i, i + 1, i * S / 10);
    insert(1400, 9999, 150 * S); /* a key that was given to another event */
    struct pawl_dedupe saved = window;
    cr_assert(eq(int, pawl_dedupe_init(&window, 1000, 600 * S), 0));
    for (size_t n; (n = pawl_dedupe_save(&saved, &cursor, piece, 70)) > 0;)
        for (size_t i = 0; i < n; i++)
            cr_assert(eq(int, pawl_dedupe_insert(&window, &piece[i]), 0));
    cr_expect(eq(u64, pawl_dedupe_count(&window), 1000));
    cr_expect(eq(u64, find(500, 150 * S), 0));
    for (uint64_t i = 501; i < 1500; i++)
        cr_assert(eq(u64, find(i, 150 * S), i == 1400 ? 9999 : i + 1));
    pawl_dedupe_fini(&saved);
    pawl_dedupe_fini(&window);
}

Test(bus_dedupe, bounds_hold_at_their_maximum_and_not_beyond)
{
    cr_assert(eq(int, pawl_dedupe_init(&window, PAWL_DEDUPE_COUNT_MAX, PAWL_DEDUPE_AGE_NS_MAX), 0));
    cr_expect(lt(sz, pawl_dedupe_memory(&window), 1 << 20));
    insert(1, 1, 0);
    cr_expect(eq(u64, find(1, PAWL_DEDUPE_AGE_NS_MAX - 1), 1));
    cr_expect(eq(int, pawl_dedupe_configure(&window, PAWL_DEDUPE_COUNT_MAX + 1, S), PAWL_E_LIMIT));
    pawl_dedupe_fini(&window);
    cr_expect(eq(int, pawl_dedupe_init(&window, PAWL_DEDUPE_COUNT_MAX + 1, S), PAWL_E_LIMIT));
    cr_expect(eq(int, pawl_dedupe_init(&window, 1, PAWL_DEDUPE_AGE_NS_MAX + 1), PAWL_E_LIMIT));
    cr_expect(eq(int, pawl_dedupe_init(&window, 0, S), PAWL_E_LIMIT));
    cr_expect(eq(int, pawl_dedupe_init(&window, 1, 0), PAWL_E_LIMIT));
}

Test(bus_dedupe, a_lower_bound_is_approached_by_one_an_insertion)
{
    cr_assert(eq(int, pawl_dedupe_init(&window, 100, 600 * S), 0));
    for (uint64_t i = 0; i < 100; i++)
        insert(i, i + 1, S);
    cr_assert(eq(int, pawl_dedupe_configure(&window, 90, 600 * S), 0));
    for (uint64_t i = 100; i < 110; i++)
        insert(i, i + 1, S);
    cr_expect(eq(u64, pawl_dedupe_count(&window), 90));
    cr_expect(eq(u64, find(109, S), 110));
    pawl_dedupe_fini(&window);
}

/* ---- publishers ---- */

static struct pawl_publishers table;

/* All up to @last are on disk. */
static int note(struct pawl_publishers *publishers, uint64_t id, uint64_t last, uint64_t realtime_ns)
{
    return pawl_publishers_note(publishers, id, 1, last, realtime_ns, 1);
}

Test(bus_publishers, the_last_number_of_each_is_known_and_never_falls)
{
    pawl_publishers_init(&table, PAWL_PUBLISHERS_MAX, 600 * S);
    cr_expect(eq(u64, pawl_publishers_last(&table, 0), 0));
    cr_assert(eq(int, note(&table, 0, 4, S), 0));
    cr_assert(eq(int, note(&table, 9, 100, S), 0));
    cr_assert(eq(int, note(&table, 0, 3, 2 * S), 0));
    cr_expect(eq(u64, pawl_publishers_last(&table, 0), 4));
    cr_expect(eq(u64, pawl_publishers_last(&table, 9), 100));
    cr_expect(eq(u64, pawl_publishers_last(&table, 1), 0));
    pawl_publishers_fini(&table);
}

Test(bus_publishers, with_all_places_taken_the_longest_idle_gives_way_and_only_after_the_windows_age)
{
    pawl_publishers_init(&table, 3, 600 * S);
    for (uint64_t id = 1; id <= 3; id++)
        cr_assert(eq(int, note(&table, id, 10 * id, id * S), 0));
    cr_assert(eq(int, note(&table, 1, 11, 4 * S), 0)); /* now 2 is the oldest */
    cr_expect(eq(int, note(&table, 4, 1, 602 * S - 1), PAWL_E_LIMIT));
    cr_expect(eq(int, note(&table, 4, 1, 0), PAWL_E_LIMIT), "a clock that went back");
    cr_expect(eq(u64, pawl_publishers_last(&table, 2), 20));
    cr_assert(eq(int, note(&table, 4, 1, 602 * S), 0));
    cr_expect(eq(u64, pawl_publishers_last(&table, 2), 0));
    cr_expect(eq(u64, pawl_publishers_last(&table, 4), 1));
    cr_expect(eq(u64, pawl_publishers_last(&table, 1), 11));
    cr_expect(eq(u64, pawl_publishers_last(&table, 3), 30));
    pawl_publishers_fini(&table);
}

Test(bus_publishers, sixty_five_thousand_come_and_go_and_none_is_lost_or_mixed_up)
{
    enum { N = PAWL_PUBLISHERS_MAX };
    pawl_publishers_init(&table, UINT32_MAX, S);
    for (uint64_t id = 0; id < 3 * (uint64_t)N; id++) {
        cr_assert(eq(int, note(&table, id * 4096, id + 1, id * S), 0));
        if (id == N - 1)
            cr_assert(eq(int, note(&table, 7, 1, id * S), 0));
    }
    cr_expect(eq(u32, table.count, N));
    for (uint64_t id = 0; id < 3 * (uint64_t)N; id++)
        cr_assert(eq(u64, pawl_publishers_last(&table, id * 4096), id < 2 * (uint64_t)N ? 0 : id + 1));
    cr_expect(lt(sz, pawl_publishers_memory(&table), N * 64));
    pawl_publishers_fini(&table);
}

Test(bus_publishers, a_snapshot_in_pieces_keeps_who_is_oldest)
{
    struct pawl_publisher piece[7];
    struct pawl_publishers copy;
    uint64_t cursor = 0;
    pawl_publishers_init(&table, 100, 600 * S);
    pawl_publishers_init(&copy, 100, 600 * S);
    for (uint64_t id = 0; id < 100; id++)
        cr_assert(eq(int, note(&table, id, id + 1, S), 0));
    cr_assert(eq(int, note(&table, 0, 500, 2 * S), 0));
    for (size_t n; (n = pawl_publishers_save(&table, &cursor, piece, 7)) > 0;)
        for (size_t i = 0; i < n; i++)
            cr_assert(
                eq(int, note(&copy, piece[i].id, piece[i].last_sequence, piece[i].seen_realtime_ns), 0));
    cr_expect(eq(u32, copy.count, 100));
    cr_expect(eq(u64, pawl_publishers_last(&copy, 0), 500));
    cr_assert(eq(int, note(&copy, 1000, 1, 601 * S), 0));
    cr_expect(eq(u64, pawl_publishers_last(&copy, 1), 0), "1 was the oldest, since 0 had come again");
    pawl_publishers_fini(&copy);
    pawl_publishers_fini(&table);
}

Test(bus_publishers, a_table_of_none_refuses_everybody)
{
    uint64_t cursor = 0;
    struct pawl_publisher one;
    pawl_publishers_init(&table, 0, S);
    cr_expect(eq(int, note(&table, 1, 1, S), PAWL_E_LIMIT));
    cr_expect(eq(sz, pawl_publishers_save(&table, &cursor, &one, 1), 0));
    pawl_publishers_fini(&table);
}

/* ---- what lies above a hole ---- */

enum { WINDOW = 65536 };

static bool found(const struct pawl_publishers *publishers, uint64_t sequence)
{
    bool memory;
    return pawl_publishers_find(publishers, 1, sequence, &memory);
}

Test(bus_publishers, a_hole_is_known_as_one_until_it_is_filled_or_nobody_can_wait_for_it_any_more)
{
    pawl_publishers_init(&table, 10, S);
    cr_assert(eq(int, pawl_publishers_note(&table, 1, 1, 4, 0, 7), 0));
    cr_assert(eq(int, pawl_publishers_note(&table, 1, 6, 9, 0, 8), 0));
    cr_expect(found(&table, 4) && !found(&table, 5) && found(&table, 6) && !found(&table, 10));
    cr_expect(eq(u64, pawl_publishers_upto(&table, 1, 8), 4));
    cr_expect(eq(u64, pawl_publishers_upto(&table, 1, 7), 0), "the newest is not durable");
    cr_assert(eq(int, pawl_publishers_note(&table, 1, 10, WINDOW + 4, 0, 8), 0));
    cr_expect(not(found(&table, 5)));
    cr_assert(eq(int, pawl_publishers_note(&table, 1, WINDOW + 5, WINDOW + 5, 0, 8), 0));
    cr_expect(found(&table, 5));
    cr_assert(eq(int, pawl_publishers_note(&table, 1, WINDOW + 7, WINDOW + 7, 0, 8), 0));
    cr_assert(eq(int, pawl_publishers_note(&table, 1, WINDOW + 6, WINDOW + 6, 0, 8), 0));
    cr_expect(eq(u64, pawl_publishers_upto(&table, 1, 8), WINDOW + 7));
    pawl_publishers_fini(&table);
}

Test(bus_publishers, a_leap_over_any_number_costs_no_more_than_one_over_a_few)
{
    pawl_publishers_init(&table, 10, S);
    cr_assert(eq(int, pawl_publishers_note(&table, 1, 1, 1, 0, 1), 0));
    cr_assert(eq(int, pawl_publishers_note(&table, 1, 9, 9, 0, 0), 0));
    cr_assert(eq(int, pawl_publishers_note(&table, 1, UINT64_C(1) << 60, UINT64_C(1) << 60, 0, 0), 0));
    cr_assert(eq(int, pawl_publishers_note_part(&table, 1, UINT64_C(1) << 62, 3, 5, 0, 1), 0));
    cr_expect(eq(int, pawl_publishers_note(&table, 1, UINT64_MAX - 9, UINT64_MAX - 3, 0, 1), PAWL_E_DAMAGED));
    cr_expect(not(found(&table, UINT64_C(1) << 62)));
    cr_expect(lt(sz, pawl_publishers_memory(&table), 8192));
    pawl_publishers_fini(&table);
}

Test(bus_publishers, what_is_in_memory_only_is_told_apart_and_is_in_no_snapshot)
{
    struct pawl_publishers copy;
    struct pawl_publisher one[4];
    struct pawl_publisher_run runs[8];
    uint64_t cursor = 0, runs_cursor[2] = {0, 0};
    bool memory;
    pawl_publishers_init(&table, 10, S);
    pawl_publishers_init(&copy, 10, S);
    cr_assert(eq(int, pawl_publishers_note(&table, 1, 1, 10, 0, 5), 0));
    cr_assert(eq(int, pawl_publishers_note(&table, 1, 11, 20, 0, 0), 0));
    cr_assert(eq(int, pawl_publishers_note(&table, 1, 21, 30, 0, 6), 0));
    cr_expect(pawl_publishers_find(&table, 1, 15, &memory) && memory);
    cr_expect(pawl_publishers_find(&table, 1, 21, &memory) && !memory);
    cr_expect(pawl_publishers_find(&table, 1, 10, &memory) && !memory);
    cr_expect(eq(u64, pawl_publishers_upto(&table, 1, 6), 10));
    cr_assert(eq(sz, pawl_publishers_save(&table, &cursor, one, 4), 1));
    cr_assert(eq(int, note(&copy, one[0].id, one[0].last_sequence, 0), 0));
    cr_assert(eq(sz, pawl_publishers_save_runs(&table, runs_cursor, runs, 8), 1));
    cr_assert(eq(int, pawl_publishers_load_run(&copy, &runs[0]), 0));
    for (uint64_t sequence = 1; sequence <= 31; sequence++)
        cr_expect(eq(int, found(&copy, sequence), sequence <= 10 || (sequence > 20 && sequence <= 30)));
    pawl_publishers_fini(&copy);
    pawl_publishers_fini(&table);
}

Test(bus_publishers, a_part_is_known_until_the_whole_is_also_over_a_snapshot)
{
    struct pawl_publishers copy;
    struct pawl_publisher_run runs[8];
    uint64_t runs_cursor[2] = {0, 0}, event_id = 0;
    size_t n = 0;
    pawl_publishers_init(&table, 10, S);
    pawl_publishers_init(&copy, 10, S);
    for (int twice = 0; twice < 2; twice++)
        cr_assert(eq(int, pawl_publishers_note_part(&table, 1, 3, 7, 99, 0, 5), 0));
    cr_assert(eq(int, pawl_publishers_note_part(&table, 1, 3, 8, 99, 0, 0), 0));
    cr_assert(eq(int, pawl_publishers_note_part(&table, 1, 4, 7, 98, 0, 5), 0));
    cr_expect(eq(u32, table.parts, 3));
    cr_expect(pawl_publishers_has_part(&table, 1, 3, 8, &event_id) && event_id == 99);
    cr_expect(not(pawl_publishers_has_part(&table, 1, 4, 8, &event_id)));
    cr_assert(eq(int, note(&copy, 1, 0, 0), 0));
    while (pawl_publishers_save_runs(&table, runs_cursor, &runs[n], 1) > 0)
        cr_assert(eq(int, pawl_publishers_load_run(&copy, &runs[n++]), 0));
    cr_expect(eq(u32, copy.parts, 2), "what is in memory is not in it");
    cr_assert(eq(int, pawl_publishers_note(&copy, 1, 3, 3, 0, 6), 0));
    cr_expect(not(pawl_publishers_has_part(&copy, 1, 3, 0, &event_id)));
    cr_expect(pawl_publishers_has_part(&copy, 1, 4, 7, &event_id) && event_id == 98);
    cr_assert(eq(int, pawl_publishers_note(&copy, 1, 4 + WINDOW, 4 + WINDOW, 0, 6), 0));
    cr_expect(eq(u32, copy.parts, 0));
    pawl_publishers_fini(&copy);
    pawl_publishers_fini(&table);
}

Test(bus_publishers, random_use_agrees_with_a_model_also_over_snapshots)
{
    enum { N = 400 };
    uint64_t random = 88172645463325252u;
    pawl_publishers_init(&table, 10, S);
    uint8_t model[N + 1] = {0}; /* 1: on disk, 2: in memory */
    for (int i = 0; i < 300; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        uint64_t first = 1 + random % (N - 8), last = first + (random >> 20) % 8;
        bool in_memory = (random >> 40) % 4 == 0;
        bool fresh = true;
        for (uint64_t s = first; s <= last; s++)
            fresh = fresh && model[s] == 0;
        if (!fresh)
            continue;
        memset(model + first, in_memory ? 2 : 1, last - first + 1);
        cr_assert(eq(int, pawl_publishers_note(&table, 1, first, last, 0, in_memory ? 0 : 1), 0));
        struct pawl_publishers copy;
        struct pawl_publisher one;
        struct pawl_publisher_run run;
        uint64_t cursor = 0, runs_cursor[2] = {0, 0};
        pawl_publishers_init(&copy, 10, S);
        cr_assert(eq(sz, pawl_publishers_save(&table, &cursor, &one, 1), 1));
        cr_assert(eq(int, note(&copy, 1, one.last_sequence, 0), 0));
        while (pawl_publishers_save_runs(&table, runs_cursor, &run, 1) > 0)
            cr_assert(eq(int, pawl_publishers_load_run(&copy, &run), 0));
        uint64_t upto = 0;
        while (upto < N && model[upto + 1] == 1)
            upto++;
        cr_assert(eq(u64, pawl_publishers_upto(&table, 1, 1), upto));
        cr_assert(eq(u64, pawl_publishers_upto(&copy, 1, 1), upto));
        for (uint64_t s = 1; s <= N; s++) {
            bool memory, is = pawl_publishers_find(&table, 1, s, &memory);
            cr_assert(eq(int, is ? memory ? 2 : 1 : 0, model[s]), "%llu", (unsigned long long)s);
            cr_assert(eq(int, found(&copy, s), model[s] == 1), "%llu", (unsigned long long)s);
        }
        pawl_publishers_fini(&copy);
    }
    pawl_publishers_fini(&table);
}
