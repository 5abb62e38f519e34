/*
 * journal_unread.c - what a start cannot read is not taken for what never was, and what there was no memory
 * for is not written. On both kinds of I/O, with faults put between.
 */
#include "tests/unit/faulty_journal.h"

#include <sys/resource.h>

TestSuite(journal_unread, .timeout = 300);

Test(journal_unread, what_cannot_be_read_at_a_start_is_no_torn_tail)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 3);
        shut(false);
        t.disk.read_error = -ENOMEM;
        cr_expect(eq(int, reopen(), -ENOMEM));
        t.disk.read_error = -EIO;
        cr_expect(eq(int, reopen(), PAWL_E_DAMAGED));
        cr_expect(eq(u64, t.report.lsn, 1));
        t.disk.read_error = 0;
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.last_applied, 3));
        shut(true);
    }
}

Test(journal_unread, what_cannot_be_read_at_a_start_is_no_torn_tail_though_only_what_vouches_for_it_is_not)
{
    ON_BOTH
    {
        static uint8_t large[3 << 19]; /* more than the window that a segment is read through */
        struct iovec iov = {large, sizeof large};
        t.options.segment_bytes = 8 << 20;
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 1);
        cr_assert(eq(int, pawl_journal_append(t.journal, 7, 1, &iov, 1, NULL, NULL), 0));
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        shut(false);
        flip_bit(t.dir_fd, "00000001.seg", 4096 + 200, 2);
        t.disk.read_error = -ENOMEM;
        t.disk.read_count = 1 << 20;
        cr_expect(eq(int, reopen(), -ENOMEM));
        t.disk.read_error = 0;
        cr_expect(eq(int, reopen(), PAWL_E_DAMAGED));
    }
}

static ssize_t read_beside(struct pawl_io *io, int fd, void *bytes, size_t count, uint64_t byte_offset)
{
    (void)io;
    return faulty_read(t.io, fd, bytes, count, byte_offset);
}

/* What `pawl journal verify` says, of the same disk. */
static int verify(void)
{
    static const struct pawl_io_ops beside_ops = {.name = "faulty files", .file_read = read_beside};
    struct pawl_io *files = pawl_io_files();
    const struct pawl_io_ops *ops = files->ops;
    files->ops = &beside_ops;
    int error = pawl_journal_verify(t.dir_fd, NULL, NULL, &t.report);
    files->ops = ops;
    return error;
}

/* The last frame, confirmed, that nothing vouches for: all but its first block is not given. */
Test(journal_unread, what_cannot_be_read_amid_the_last_frame_is_no_torn_tail)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 1);
        append_numbers(t.journal, 2, 200);
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        shut(false);
        t.disk.read_bad_at = 3 * 4096;
        t.disk.read_error = -ENOMEM;
        cr_expect(eq(int, reopen(), -ENOMEM));
        t.disk.read_error = -EIO;
        cr_expect(eq(int, reopen(), PAWL_E_DAMAGED));
        cr_expect(eq(u64, t.report.lsn, 2));
        cr_expect(eq(u64, t.report.byte_offset, 2 * 4096));
        cr_expect(eq(int, verify(), PAWL_E_DAMAGED));
        cr_expect(eq(u64, t.report.lsn, 2), "as a start says");
        t.disk.read_error = 0;
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.last_applied, 200));
        shut(true);
    }
}

/* So many bytes more may be mapped. Return: what was allowed before. */
static struct rlimit allow_mapping(uint64_t more_bytes)
{
    struct rlimit before, limit;
    char text[32] = "";
    FILE *file = fopen("/proc/self/statm", "r");
    cr_assert(file && fgets(text, sizeof text, file));
    fclose(file);
    unsigned long pages = strtoul(text, NULL, 10); /* the size comes first */
    cr_assert(eq(int, getrlimit(RLIMIT_AS, &before), 0));
    limit = before;
    limit.rlim_cur = pages * (rlim_t)sysconf(_SC_PAGESIZE) + more_bytes;
    cr_assert(eq(int, setrlimit(RLIMIT_AS, &limit), 0));
    return before;
}

Test(journal_unread, record_that_there_is_no_memory_for_leaves_no_trace)
{
    ON_BOTH
    {
        static uint8_t large[64 << 20];
        struct iovec iov = {large, sizeof large};
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 3);
        struct rlimit before = allow_mapping(16 << 20);
        int error = pawl_journal_append(t.journal, 7, 1, &iov, 1, NULL, NULL);
        cr_assert(eq(int, setrlimit(RLIMIT_AS, &before), 0));
        cr_expect(eq(int, error, -ENOMEM));
        cr_expect(eq(int, pawl_journal_sync(t.journal), 0));
        commit_numbers(t.journal, 4, 6);
        shut(false);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.last_applied, 6));
        shut(true);
    }
}
