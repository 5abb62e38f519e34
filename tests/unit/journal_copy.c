/*
 * journal_copy.c - bodies of records copied out: those that follow each other by blocks, others alone.
 * Through a table that counts what is read.
 */
#include "tests/unit/front_disk.h"

enum { RECORDS = 600, BODY = 1000, BLOCK = 256 << 10 };

struct counting {
    struct front front;
    uint64_t reads, bytes;
};

static struct counting disk;
static struct pawl_journal *journal;
static struct witness witness;
static uint64_t place[RECORDS];
static char path[64];
static int dir_fd;

static ssize_t count_read(struct pawl_io *io, int fd, void *bytes, size_t count, uint64_t byte_offset)
{
    ssize_t got = pread(fd, bytes, count, (off_t)byte_offset);
    ((struct counting *)io)->reads++;
    ((struct counting *)io)->bytes += got > 0 ? (uint64_t)got : 0;
    return got < 0 ? -errno : got;
}

static const struct pawl_io_ops counting_ops = {
    .name = "counting",
    .commit = front_commit,
    .write = front_write,
    .fsync = front_fsync,
    .wait = front_wait,
    .file_read = count_read,
};

static void append(uint32_t number)
{
    uint8_t body[BODY];
    uint64_t lsn;
    fill_body(body, number, BODY);
    struct iovec iov = {body, BODY};
    cr_assert(eq(int, pawl_journal_append(journal, 9, 1, &iov, 1, &lsn, &place[number]), 0));
    pawl_journal_cut(journal);
}

/* All records on disk, none kept in memory. */
static void begin(void)
{
    disk = (struct counting){.front.io.ops = &counting_ops};
    dir_fd = new_dir(path);
    cr_assert(eq(int, pawl_io_open(PAWL_IO_SYSCALL, &disk.front.real), 0));
    struct pawl_journal_options options = options_of(&witness);
    options.apply = NULL;
    options.cache_bytes = UINT64_MAX;
    options.segment_bytes = 16 << 20;
    cr_assert(eq(int, pawl_journal_open(&disk.front.io, dir_fd, &options, &journal, NULL), 0));
    for (uint32_t number = 0; number < RECORDS; number++)
        append(number);
    cr_assert(eq(int, pawl_journal_sync(journal), 0));
    disk.reads = disk.bytes = 0;
}

static void end(void)
{
    cr_assert(eq(int, pawl_journal_close(journal, true), 0));
    pawl_io_close(disk.front.real);
    remove_dir(dir_fd, path);
}

TestSuite(journal_copy, .init = begin, .fini = end, .timeout = 300);

/* As results are read: the beginning of the body, then the rest. */
static void expect_copy(uint32_t number)
{
    uint8_t body[BODY], expected[BODY];
    fill_body(expected, number, BODY);
    cr_assert(eq(i64, pawl_journal_read(journal, place[number], 0, 0, body, 64), 64));
    cr_assert(eq(i64, pawl_journal_read(journal, place[number], 0, 64, body + 64, BODY - 64), BODY - 64));
    cr_expect(eq(int, memcmp(body, expected, BODY), 0), "record %u", number);
}

Test(journal_copy, records_that_are_copied_in_order_are_read_by_blocks)
{
    for (uint32_t number = 0; number < RECORDS; number++)
        expect_copy(number);
    /* The first is read alone, as nobody knows yet that more will follow: two headers and two pieces. */
    cr_expect(le(u64, disk.reads, 4 + RECORDS * (BODY + 64) / BLOCK + 1));
}

Test(journal_copy, neighbours_that_have_changed_places_are_read_by_blocks_too)
{
    for (uint32_t number = 0; number < RECORDS; number++)
        expect_copy(number ^ 1);
    cr_expect(le(u64, disk.reads, 4 + RECORDS * (BODY + 64) / BLOCK + 1));
}

Test(journal_copy, records_far_from_each_other_are_read_alone)
{
    uint64_t count = 0;
    for (uint32_t number = 0; number < RECORDS; number += 100, count++)
        expect_copy(number);
    cr_expect(le(u64, disk.bytes, count * (BODY + 64)));
}

Test(journal_copy, what_was_appended_after_a_block_was_read_is_found)
{
    for (uint32_t number = 0; number < 8; number++)
        expect_copy(number);
    append(0);
    cr_assert(eq(int, pawl_journal_sync(journal), 0));
    for (uint32_t number = RECORDS - 8; number < RECORDS; number++)
        expect_copy(number);
    expect_copy(0);
}
