/* Rules of the SPSC ring, of lanes and of the doorbell's flag. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <string.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/lane.h"
#include "shm/ring.h"

static _Atomic uint64_t produced, consumed;
static uint64_t entries[4];
static struct pawl_ring_producer producer;
static struct pawl_ring_consumer consumer;

static void set_up(void)
{
    produced = consumed = 0;
    pawl_ring_producer_init(&producer, &produced, &consumed, entries, sizeof entries[0], 4);
    pawl_ring_consumer_init(&consumer, &produced, &consumed, entries, sizeof entries[0], 4);
}

TestSuite(ring, .init = set_up, .timeout = 300);

static void push(uint64_t value)
{
    void *entry = pawl_ring_reserve(&producer);
    cr_assert(ne(ptr, entry, NULL));
    memcpy(entry, &value, sizeof value);
}

Test(ring, all_entries_are_usable_and_one_more_is_refused)
{
    for (uint64_t i = 0; i < 4; i++)
        push(i);
    cr_expect(eq(ptr, pawl_ring_reserve(&producer), NULL));
    pawl_ring_publish(&producer);
    cr_assert(eq(i64, pawl_ring_peek(&consumer), 4));
    uint64_t value;
    pawl_ring_next(&consumer, &value);
    cr_expect(eq(u64, value, 0));
    cr_expect(eq(ptr, pawl_ring_reserve(&producer), NULL), "stepped over, but not released yet");
    pawl_ring_release(&consumer);
    cr_expect(ne(ptr, pawl_ring_reserve(&producer), NULL));
}

Test(ring, reserved_entries_are_invisible_until_published)
{
    push(7);
    cr_expect(eq(i64, pawl_ring_peek(&consumer), 0));
    pawl_ring_publish(&producer);
    cr_expect(eq(i64, pawl_ring_peek(&consumer), 1));
}

Test(ring, position_that_runs_past_the_ring_is_a_bad_message)
{
    produced = 5;
    cr_expect(eq(i64, pawl_ring_peek(&consumer), PAWL_E_BAD_MESSAGE));
}

Test(ring, position_that_goes_back_is_a_bad_message)
{
    push(1);
    push(2);
    pawl_ring_publish(&producer);
    cr_assert(eq(i64, pawl_ring_peek(&consumer), 2));
    produced = 1;
    cr_expect(eq(i64, pawl_ring_peek(&consumer), PAWL_E_BAD_MESSAGE));
}

Test(ring, positions_wrap_around_the_entries_many_times)
{
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t value;
        push(i);
        pawl_ring_publish(&producer);
        cr_assert(eq(i64, pawl_ring_peek(&consumer), 1));
        pawl_ring_next(&consumer, &value);
        pawl_ring_release(&consumer);
        cr_assert(eq(u64, value, i));
    }
}

/* ---- lanes ---- */

static struct pawl_segment world_segment;
static struct pawl_world *world;
static struct pawl_lane_reader reader;
static struct pawl_lane_writer writer;

static void make_lane(void)
{
    cr_assert(eq(int, pawl_world_create(3, &world_segment), 0));
    world = pawl_world_of(&world_segment);
    cr_assert(eq(int, pawl_lane_create(world, 9, &reader), 0));
    cr_assert(eq(int, pawl_lane_attach(dup(reader.segment.fd), world, 9, &writer), 0));
}

TestSuite(lane, .init = make_lane, .timeout = 300);

static struct pawl_settlement result_of(uint32_t slot, uint32_t bytes)
{
    return (struct pawl_settlement){
        .type = PAWL_SETTLE_RESULT, .slot = slot, .arena_bytes = bytes, .stdout_bytes = bytes};
}

Test(lane, settlement_and_its_bytes_arrive_whole)
{
    struct pawl_settlement in = result_of(5, 11), out;
    const void *bytes;
    cr_assert(eq(int, pawl_lane_push(&writer, &in, "hello world"), 0));
    cr_expect(eq(int, pawl_lane_next(&reader, &out, &bytes), 0), "not published yet");
    pawl_lane_publish(&writer);
    cr_assert(eq(int, pawl_lane_next(&reader, &out, &bytes), 1));
    cr_expect(eq(u32, out.slot, 5));
    cr_expect(eq(int, memcmp(bytes, "hello world", 11), 0));
}

Test(lane, full_arena_is_refused_until_the_scheduler_has_read)
{
    static char big[PAWL_LANE_ARENA_BYTES / 2 + 1];
    struct pawl_settlement in = result_of(1, sizeof big), out;
    const void *bytes;
    cr_assert(eq(int, pawl_lane_push(&writer, &in, big), 0));
    cr_expect(eq(int, pawl_lane_push(&writer, &in, big), PAWL_E_QUEUE_FULL));
    pawl_lane_publish(&writer);
    cr_assert(eq(int, pawl_lane_next(&reader, &out, &bytes), 1));
    cr_expect(eq(int, pawl_lane_push(&writer, &in, big), PAWL_E_QUEUE_FULL), "taken, but not released");
    pawl_lane_release(&reader);
    cr_expect(eq(int, pawl_lane_push(&writer, &in, big), 0));
}

Test(lane, more_bytes_than_the_arena_has_is_a_limit)
{
    struct pawl_settlement in = result_of(1, PAWL_LANE_ARENA_BYTES + 1);
    cr_expect(eq(int, pawl_lane_push(&writer, &in, ""), PAWL_E_LIMIT));
}

Test(lane, bytes_survive_many_laps_of_mixed_sizes)
{
    static char text[20000];
    for (uint32_t i = 0; i < 3000; i++) {
        uint32_t n = i * 7919 % sizeof text;
        memset(text, (int)i, n);
        struct pawl_settlement in = result_of(i, n), out;
        const unsigned char *bytes;
        cr_assert(eq(int, pawl_lane_push(&writer, &in, text), 0));
        if (i % 3 != 0)
            continue; /* several wait at a time */
        pawl_lane_publish(&writer);
        while (pawl_lane_next(&reader, &out, (const void **)&bytes) == 1)
            for (uint32_t b = 0; b < out.arena_bytes; b += 997)
                cr_assert(eq(int, bytes[b], (int)(out.slot & 255)));
        pawl_lane_release(&reader);
    }
}

Test(lane, reference_beyond_the_arena_is_a_bad_message)
{
    struct pawl_settlement *entry = (void *)((char *)writer.segment.base + PAWL_LANE_ENTRIES_AT), out;
    const void *bytes;
    *entry = result_of(1, 64);
    entry->arena_offset = PAWL_LANE_ARENA_BYTES - 63;
    pawl_lane_memory_of(&writer.segment)->produced = 1;
    cr_expect(eq(int, pawl_lane_next(&reader, &out, &bytes), PAWL_E_BAD_MESSAGE));
}

Test(lane, offset_that_would_overflow_is_a_bad_message)
{
    struct pawl_settlement *entry = (void *)((char *)writer.segment.base + PAWL_LANE_ENTRIES_AT), out;
    const void *bytes;
    *entry = result_of(1, 64);
    entry->arena_offset = UINT32_MAX - 10;
    pawl_lane_memory_of(&writer.segment)->produced = 1;
    cr_expect(eq(int, pawl_lane_next(&reader, &out, &bytes), PAWL_E_BAD_MESSAGE));
}

Test(lane, parts_that_exceed_the_whole_are_a_bad_message)
{
    struct pawl_settlement *entry = (void *)((char *)writer.segment.base + PAWL_LANE_ENTRIES_AT), out;
    const void *bytes;
    *entry = result_of(1, 64);
    entry->stdout_bytes = 60;
    entry->stderr_bytes = 5;
    pawl_lane_memory_of(&writer.segment)->produced = 1;
    cr_expect(eq(int, pawl_lane_next(&reader, &out, &bytes), PAWL_E_BAD_MESSAGE));
}

Test(lane, worker_killed_before_publishing_has_published_nothing)
{
    pid_t worker = fork();
    if (worker == 0) {
        struct pawl_segment seen; /* mappings are not inherited: a worker attaches to everything */
        struct pawl_lane_writer mine;
        struct pawl_settlement in = result_of(1, 5);
        if (pawl_world_attach(dup(world_segment.fd), &seen) != 0 ||
            pawl_lane_attach(dup(reader.segment.fd), pawl_world_of(&seen), 9, &mine) != 0 ||
            pawl_lane_push(&mine, &in, "12345") != 0)
            _exit(1);
        kill(getpid(), SIGKILL);
    }
    int status;
    waitpid(worker, &status, 0);
    cr_assert(eq(int, !!WIFSIGNALED(status), 1));
    cr_assert(eq(int, WTERMSIG(status), SIGKILL));
    struct pawl_settlement out;
    const void *bytes;
    cr_expect(eq(int, pawl_lane_next(&reader, &out, &bytes), 0));
}

Test(lane, attach_to_another_lane_is_refused)
{
    struct pawl_lane_writer other;
    int fd = dup(reader.segment.fd);
    cr_expect(eq(int, pawl_lane_attach(fd, world, 10, &other), PAWL_E_BAD_FORMAT));
    close(fd);
}
