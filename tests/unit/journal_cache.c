/*
 * journal_cache.c - records read in place: from frames in memory, from blocks of segments, across full disks
 * and segment changes. Through a table that counts reads and can refuse writes, on both kinds of I/O.
 */
#include "tests/unit/front_disk.h"

#include "scheduler/frame.h"

enum { BLOCK = 256 << 10 };

struct counting {
    struct front front;
    uint64_t reads;
    int refused; /* commits to refuse for want of space */
};

static int counting_commit(struct pawl_io *io, struct pawl_io_request *request)
{
    struct counting *self = (struct counting *)io;
    if (self->refused == 0)
        return front_commit(io, request);
    self->refused--;
    return front_refuse(io, request, PAWL_IO_FAILED_WRITE, -ENOSPC);
}

static ssize_t counting_read(struct pawl_io *io, int fd, void *bytes, size_t count, uint64_t byte_offset)
{
    ((struct counting *)io)->reads++;
    ssize_t got = pread(fd, bytes, count, (off_t)byte_offset);
    return got < 0 ? -errno : got;
}

static const struct pawl_io_ops counting_ops = {
    .name = "counting",
    .commit = counting_commit,
    .write = front_write,
    .fsync = front_fsync,
    .wait = front_wait,
    .file_read = counting_read,
};

static struct {
    struct counting disk;
    struct pawl_journal *journal;
    struct witness witness;
    struct pawl_journal_options options;
    char path[64];
    int dir_fd;
    /* What a test appended, by number from 1. */
    uint64_t place[TEST_LSN_MAX], lsn[TEST_LSN_MAX];
    uint32_t bytes[TEST_LSN_MAX];
    uint64_t count;
} t;

static void begin(int kind)
{
    memset(&t, 0, sizeof t);
    t.dir_fd = new_dir(t.path);
    t.disk.front.io.ops = &counting_ops;
    cr_assert(eq(int, io_kind_open(kind, &t.disk.front.real), 0));
    t.options = options_of(&t.witness);
    t.options.apply = NULL;
}

static void start(void)
{
    cr_assert(eq(int, pawl_journal_open(&t.disk.front.io, t.dir_fd, &t.options, &t.journal, NULL), 0));
}

static void stop(bool clean)
{
    cr_assert(eq(int, pawl_journal_close(t.journal, clean), 0));
}

static void end(void)
{
    pawl_io_close(t.disk.front.real);
    remove_dir(t.dir_fd, t.path);
}

#define ON_BOTH for (int kind = (begin(0), 0); kind < 2; end(), kind++, kind < 2 ? begin(kind) : (void)0)

TestSuite(journal_cache, .timeout = 300);

static uint8_t *expected_body(uint64_t number, uint32_t bytes)
{
    uint8_t *body = malloc(bytes ? bytes : 1);
    cr_assert(ne(ptr, body, NULL));
    for (uint32_t i = 0; i < bytes; i++)
        body[i] = (uint8_t)(number * 31 + i + (i >> 8));
    return body;
}

static void append(uint32_t bytes)
{
    uint64_t number = ++t.count;
    uint8_t *body = expected_body(number, bytes);
    struct iovec iov = {body, bytes};
    t.bytes[number] = bytes;
    cr_assert(eq(int, pawl_journal_append(t.journal, 9, 1, &iov, 1, &t.lsn[number], &t.place[number]), 0));
    pawl_journal_cut(t.journal);
    free(body);
}

static void sync_all(void)
{
    cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
}

/* Peeks the @number-th record and compares all of it. Return: how many reads of the disk that took. */
static uint64_t peek(uint64_t number)
{
    struct pawl_record record;
    uint64_t before = t.disk.reads;
    cr_assert(eq(int, pawl_journal_peek(t.journal, t.place[number], &record), 0), "record %zu",
              (size_t)number);
    cr_assert(eq(u64, record.lsn, t.lsn[number]));
    cr_assert(eq(int, record.type, 9));
    cr_assert(eq(u32, record.body_bytes, t.bytes[number]));
    cr_assert(ne(ptr, (void *)record.body, NULL));
    uint8_t *body = expected_body(number, t.bytes[number]);
    cr_assert(eq(int, memcmp(record.body, body, t.bytes[number]), 0), "record %zu", (size_t)number);
    free(body);
    return t.disk.reads - before;
}

static void peek_all(void)
{
    for (uint64_t number = 1; number <= t.count; number++)
        peek(number);
}

Test(journal_cache, records_that_are_not_written_yet_are_read_in_their_frame)
{
    ON_BOTH
    {
        start();
        for (int i = 0; i < 40; i++) {
            append((uint32_t)i * 50);
            cr_expect(eq(u64, peek(t.count), 0));
        }
        pawl_journal_flush(t.journal); /* in flight */
        append(100);
        for (uint64_t number = 1; number <= t.count; number++)
            cr_expect(eq(u64, peek(number), 0));
        struct pawl_record one, two;
        cr_assert(eq(int, pawl_journal_peek(t.journal, t.place[3], &one), 0));
        cr_assert(eq(int, pawl_journal_peek(t.journal, t.place[3], &two), 0));
        cr_expect(eq(ptr, (void *)one.body, (void *)two.body), "in place");
        stop(true);
    }
}

Test(journal_cache, records_that_were_written_lately_are_read_from_memory)
{
    ON_BOTH
    {
        start();
        for (int i = 0; i < 200; i++) {
            append(3000);
            if (i % 7 == 0)
                sync_all();
        }
        sync_all();
        for (uint64_t number = 1; number <= t.count; number++)
            cr_expect(eq(u64, peek(number), 0));
        stop(true);
    }
}

Test(journal_cache, cache_is_bounded_and_the_oldest_go_first)
{
    ON_BOTH
    {
        t.options.cache_bytes = 64 << 10;
        start();
        for (int i = 0; i < 100; i++) {
            append(3000);
            sync_all();
            struct pawl_journal_stats stats;
            pawl_journal_stats(t.journal, &stats);
            cr_assert(le(u64, stats.cache_bytes, 64 << 10));
        }
        for (uint64_t number = 100; number > 84; number--)
            cr_expect(eq(u64, peek(number), 0), "%zu is young", (size_t)number);
        cr_expect(ge(u64, peek(84), 1), "old");
        cr_expect(ge(u64, peek(1), 1), "oldest");
        stop(true);
    }
}

Test(journal_cache, large_frames_leave_as_many_small_ones_in_memory_as_there_is_room_for)
{
    ON_BOTH
    {
        t.options.cache_bytes = 1 << 20;
        start();
        for (int i = 0; i < 12; i++) {
            append(200 << 10);
            sync_all();
        }
        for (int i = 0; i < 200; i++) {
            append(100);
            sync_all();
        }
        for (uint64_t number = t.count; number > t.count - 200; number--)
            cr_assert(eq(u64, peek(number), 0), "%zu is young", (size_t)number);
        stop(true);
    }
}

Test(journal_cache, without_a_cache_a_block_is_read_once_for_all_its_records)
{
    ON_BOTH
    {
        t.options.cache_bytes = UINT64_MAX;
        t.options.segment_bytes = 16 << 20;
        start();
        for (int i = 0; i < 100; i++)
            append(2000);
        sync_all();
        cr_expect(eq(u64, peek(1), 1));
        for (uint64_t number = 2; number <= t.count; number++)
            cr_expect(eq(u64, peek(number), 0));
        stop(true);
    }
}

Test(journal_cache, a_block_is_read_again_when_more_of_it_became_durable)
{
    ON_BOTH
    {
        t.options.cache_bytes = UINT64_MAX;
        t.options.segment_bytes = 16 << 20;
        start();
        for (int i = 0; i < 60; i++) {
            append((uint32_t)(i * 37 % 5000));
            sync_all();
            cr_expect(eq(u64, peek(t.count), 1), "only the block's beginning was there");
            cr_expect(eq(u64, peek(t.count), 0));
            peek_all();
        }
        stop(true);
    }
}

Test(journal_cache, records_that_span_blocks_are_whole)
{
    static const uint32_t sizes[] = {100000, 262144 - 16, 262144, 300000, 1 << 20, 3 << 20, 5, 0, 200000};
    ON_BOTH
    {
        t.options.cache_bytes = UINT64_MAX;
        t.options.segment_bytes = 64 << 20;
        start();
        for (int round = 0; round < 3; round++)
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
                append(sizes[i] + (uint32_t)round);
        peek_all(); /* from memory */
        sync_all();
        peek_all();
        for (uint64_t number = t.count; number > 0; number--)
            peek(number);
        cr_expect(eq(u64, peek(6), 1), "larger than a block: one read of its own");
        cr_expect(eq(u64, peek(6), 0), "and none for the same again");
        stop(false);
    }
}

Test(journal_cache, a_header_that_straddles_two_blocks_is_read)
{
    ON_BOTH
    {
        t.options.cache_bytes = UINT64_MAX;
        t.options.segment_bytes = 16 << 20;
        start();
        /* header at 256 KiB - 8: segment header, frame header, one record, then this one */
        append(BLOCK - 8 - PAWL_SEGMENT_HEADER_BYTES - PAWL_FRAME_HEADER_BYTES - PAWL_RECORD_HEADER_BYTES);
        append(1000);
        append(0);
        cr_assert(eq(u64, (t.place[2] & UINT32_MAX) % BLOCK, BLOCK - 8));
        sync_all();
        peek(2);
        peek(3);
        cr_expect(eq(u64, pawl_journal_next_place(t.journal, t.place[1]), t.place[2]));
        cr_expect(eq(u64, pawl_journal_next_place(t.journal, t.place[2]), t.place[3]));
        stop(true);
    }
}

Test(journal_cache, more_blocks_than_are_kept_are_read_again_and_still_right)
{
    ON_BOTH
    {
        t.options.cache_bytes = UINT64_MAX;
        t.options.segment_bytes = 2 << 20;
        start();
        for (int i = 0; i < 400; i++)
            append(20000 + (uint32_t)i);
        sync_all();
        unsigned seed = 5;
        for (int i = 0; i < 3000; i++)
            peek(1 + (uint64_t)rand_r(&seed) % t.count);
        struct pawl_journal_stats stats;
        pawl_journal_stats(t.journal, &stats);
        cr_expect(le(u64, stats.cache_bytes, 16 * BLOCK + BLOCK));
        stop(true);
    }
}

/* ---- a full disk ---- */

/* Frames that find no space so many times, moved on by the journal itself each time. */
static void move_frames(int times)
{
    t.disk.refused = times;
    for (int i = 0; i < 30; i++) {
        append(3000);
        if (i % 5 == 4)
            pawl_journal_flush(t.journal);
        cr_expect(eq(u64, peek(t.count), 0));
    }
    for (int i = 0; i < 50 && pawl_journal_room(t.journal) == PAWL_JOURNAL_ROOMY; i++)
        pawl_io_wait(&t.disk.front.io, 100000000);
    cr_assert(ne(int, (int)pawl_journal_room(t.journal), PAWL_JOURNAL_ROOMY));
    for (int i = 0; i < 50 && t.disk.refused > 0; i++)
        pawl_io_wait(&t.disk.front.io, 100000000);
    cr_assert(eq(int, t.disk.refused, 0));
    cr_expect(ne(u64, pawl_journal_resolve(t.journal, t.place[t.count]), t.place[t.count]));
    peek_all(); /* right after the move */
    append(3000);
    peek_all();
    /* The reserve may be too small for them: then they wait until there is room again. */
    int error = PAWL_E_NO_SPACE;
    for (uint64_t now_ns = 1; error == PAWL_E_NO_SPACE && now_ns < 20000000000; now_ns += 1000000000) {
        pawl_journal_idle(t.journal, now_ns);
        error = pawl_journal_sync(t.journal);
        peek_all();
    }
    cr_assert(eq(int, error, 0));
    peek_all();
}

/* From the first record on, each next one is the next that was appended; the journal's own lie between. */
static void walk_all(void)
{
    uint64_t place = pawl_journal_resolve(t.journal, t.place[1]), number = 0, lsn = t.lsn[1] - 1;
    struct pawl_record record;
    for (; place; place = pawl_journal_next_place(t.journal, place)) {
        cr_assert(eq(int, pawl_journal_peek(t.journal, place, &record), 0));
        cr_assert(eq(u64, record.lsn, ++lsn));
        if (record.type != 9)
            continue;
        number++;
        cr_assert(eq(u64, record.lsn, t.lsn[number]));
        cr_assert(eq(u64, place, pawl_journal_resolve(t.journal, t.place[number])));
    }
    cr_assert(eq(u64, lsn, pawl_journal_last_lsn(t.journal)));
    cr_assert(eq(u64, number, t.count));
}

Test(journal_cache, records_that_a_full_disk_moved_are_found_by_their_first_place)
{
    for (int cached = 0; cached < 2; cached++)
        ON_BOTH
        {
            t.options.cache_bytes = cached ? 0 : UINT64_MAX;
            start();
            for (int i = 0; i < 10; i++)
                append(3000);
            sync_all();
            move_frames(1);
            walk_all();
            move_frames(3); /* the same ones, again and again */
            walk_all();
            uint64_t reads = 0;
            for (uint64_t number = 1; number <= t.count; number++)
                reads += peek(number);
            if (cached)
                cr_expect(eq(u64, reads, 0), "what moved is still kept");
            stop(true);
            cr_expect(eq(int, pawl_journal_verify(t.dir_fd, NULL, NULL, NULL), 0));
        }
}

/* ---- walking ---- */

struct dumped {
    uint64_t lsn[TEST_LSN_MAX], place[TEST_LSN_MAX];
    uint64_t count;
};

static int on_dump(void *ctx, const struct pawl_record *record, uint64_t place)
{
    struct dumped *dumped = ctx;
    cr_assert(lt(u64, dumped->count, TEST_LSN_MAX));
    dumped->lsn[dumped->count] = record->lsn;
    dumped->place[dumped->count++] = place;
    return 0;
}

/* All that is durable now: a walk from the first equals what a dump finds. */
static void walk_equals_dump(void)
{
    static struct dumped dumped;
    dumped.count = 0;
    cr_assert(eq(int, pawl_journal_dump(t.dir_fd, on_dump, &dumped, NULL), 0));
    cr_assert(not(le(u64, dumped.count, 10)));
    uint64_t place = dumped.place[0];
    for (uint64_t i = 0; i < dumped.count; i++) {
        struct pawl_record record;
        cr_assert(eq(u64, place, dumped.place[i]), "record %zu of %zu", (size_t)i, (size_t)dumped.count);
        cr_assert(eq(int, pawl_journal_peek(t.journal, place, &record), 0));
        cr_assert(eq(u64, record.lsn, dumped.lsn[i]));
        place = pawl_journal_next_place(t.journal, place);
    }
    cr_assert(eq(u64, place, 0));
}

Test(journal_cache, a_walk_over_segments_equals_a_dump)
{
    for (int cached = 0; cached < 3; cached++)
        ON_BOTH
        {
            t.options.cache_bytes = cached == 0 ? UINT64_MAX : cached == 1 ? 40 << 10 : 0;
            start();
            unsigned seed = 11;
            for (int i = 0; i < 300; i++) {
                append((uint32_t)(rand_r(&seed) % 4 ? rand_r(&seed) % 300 : rand_r(&seed) % 20000));
                if (rand_r(&seed) % 3 == 0)
                    sync_all();
            }
            sync_all();
            cr_assert(not(le(u32, pawl_journal_current_segment(t.journal), 10)));
            walk_equals_dump();
            walk_all();
            stop(cached == 1); /* a crash rewrites what nothing vouches for */
            start();
            walk_equals_dump();
            append(10);
            sync_all();
            walk_equals_dump();
            stop(true);
        }
}

Test(journal_cache, a_walk_goes_on_from_disk_into_what_is_not_written_yet)
{
    for (int cached = 0; cached < 2; cached++)
        ON_BOTH
        {
            t.options.cache_bytes = cached ? 0 : UINT64_MAX;
            start();
            for (int round = 0; round < 12; round++) {
                for (int i = 0; i < 10; i++)
                    append((uint32_t)(round * 100 + i * 300));
                pawl_journal_flush(t.journal);
                walk_all();
                for (int i = 0; i < 5; i++)
                    append(4000);
                walk_all();
                if (round % 2)
                    sync_all();
                walk_all();
            }
            sync_all();
            walk_all();
            cr_expect(eq(u64, pawl_journal_next_place(t.journal, t.place[t.count]), 0));
            append(8);
            cr_expect(eq(u64, pawl_journal_next_place(t.journal, t.place[t.count - 1]), t.place[t.count]));
            stop(true);
        }
}

Test(journal_cache, records_that_fill_their_frames_to_the_last_byte_are_walked)
{
    ON_BOTH
    {
        t.options.cache_bytes = UINT64_MAX;
        start();
        for (int i = 0; i < 20; i++) { /* the end of a frame's records is the end of the frame, or 8 before */
            append((uint32_t)(PAWL_BLOCK_BYTES * (1 + i % 3) - PAWL_FRAME_HEADER_BYTES -
                              PAWL_RECORD_HEADER_BYTES - 8 * (i % 3)));
            sync_all();
        }
        walk_all();
        walk_equals_dump();
        stop(true);
    }
}

/* ---- what is not there ---- */

Test(journal_cache, a_place_where_no_record_lies_is_told)
{
    struct pawl_record record;
    for (int cached = 0; cached < 2; cached++)
        ON_BOTH
        {
            t.options.cache_bytes = cached ? 0 : UINT64_MAX;
            start();
            append(100);
            sync_all();
            uint64_t place = t.place[1], segment = place >> 32 << 32;
            cr_expect(eq(int, pawl_journal_peek(t.journal, place + 4, &record), PAWL_E_DAMAGED));
            cr_expect(eq(int, pawl_journal_peek(t.journal, 0, &record), PAWL_E_DAMAGED));
            cr_expect(eq(int, pawl_journal_peek(t.journal, segment | 4096, &record), PAWL_E_DAMAGED));
            cr_expect(eq(int, pawl_journal_peek(t.journal, segment | 8192, &record), PAWL_E_DAMAGED),
                      "the end");
            cr_expect(eq(int, pawl_journal_peek(t.journal, segment | 1 << 30, &record), PAWL_E_DAMAGED));
            cr_expect(eq(int, pawl_journal_peek(t.journal, place + 128, &record), PAWL_E_DAMAGED), "padding");
            cr_expect(eq(int, pawl_journal_peek(t.journal, (uint64_t)77 << 32 | 4176, &record), -ENOENT));
            cr_expect(eq(u64, pawl_journal_next_place(t.journal, (uint64_t)77 << 32 | 4176), 0));
            stop(true);
        }
}

static void take_snapshot(void)
{
    int before = t.witness.snapshot_count;
    cr_assert(eq(int, pawl_journal_snapshot_begin(t.journal, pawl_journal_last_lsn(t.journal)), 0));
    cr_assert(eq(int, pawl_journal_snapshot_commit(t.journal), 0));
    for (int i = 0; i < 200 && t.witness.snapshot_count == before; i++)
        pawl_io_wait(&t.disk.front.io, 10000000);
    cr_assert(eq(int, t.witness.snapshot_count, before + 1));
    sync_all();
}

Test(journal_cache, a_released_segment_leaves_nothing_behind_in_memory)
{
    struct pawl_record record;
    for (int cached = 0; cached < 2; cached++)
        ON_BOTH
        {
            t.options.cache_bytes = cached ? 0 : UINT64_MAX;
            start();
            for (int i = 0; i < 100; i++) {
                append(1000);
                sync_all();
            }
            peek_all();
            take_snapshot();
            append(8);
            take_snapshot();
            uint32_t current = pawl_journal_current_segment(t.journal);
            cr_assert(not(le(int, pawl_journal_release_before(t.journal, current, NULL, NULL), 3)));
            cr_expect(eq(int, pawl_journal_peek(t.journal, t.place[1], &record), -ENOENT));
            peek(t.count);
            stop(true);
        }
}

Test(journal_cache, the_largest_record_is_peeked_in_memory_and_on_disk)
{
    for (int cached = 0; cached < 2; cached++) {
        begin(0);
        t.options.cache_bytes = cached ? 0 : UINT64_MAX;
        start();
        append(100);
        append(PAWL_RECORD_BODY_BYTES_MAX);
        append(100);
        peek_all();
        sync_all();
        peek_all();
        walk_all();
        struct pawl_journal_stats stats;
        append(300000);
        sync_all();
        peek(4);
        peek(t.count);
        pawl_journal_idle(t.journal, 1);
        pawl_journal_idle(t.journal, 2);
        pawl_journal_stats(t.journal, &stats);
        cr_expect(le(u64, stats.cache_bytes, (uint64_t)(16 << 20) + 17 * BLOCK + 400000),
                  "what was for the large one is gone");
        stop(true);
        end();
    }
}

Test(journal_cache, a_batch_of_134_mib_is_one_frame_and_a_byte_more_is_refused)
{
    begin(0);
    start();
    char *body = calloc(1, 67 << 20);
    struct iovec iov = {body, (67 << 20) - PAWL_RECORD_HEADER_BYTES};
    cr_assert(eq(int, pawl_journal_append(t.journal, 9, 1, &iov, 1, NULL, NULL), 0));
    cr_assert(eq(int, pawl_journal_append(t.journal, 9, 1, &iov, 1, NULL, NULL), 0));
    iov.iov_len = 0;
    cr_expect(eq(int, pawl_journal_append(t.journal, 9, 1, &iov, 1, NULL, NULL), -EMSGSIZE));
    sync_all();
    cr_expect(eq(u64, pawl_journal_durable_lsn(t.journal), 2));
    free(body);
    stop(true);
    cr_expect(eq(int, pawl_journal_verify(t.dir_fd, NULL, NULL, NULL), 0));
    end();
}
