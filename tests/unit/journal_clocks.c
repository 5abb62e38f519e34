/*
 * journal_clocks - what a start is told of when a frame was sealed: by that the waits in it go on. On both
 * kinds of I/O.
 */
#include "tests/unit/journal_support.h"

enum { TOLD_MAX = 64 };

/* One for each frame with records, in order. */
struct told {
    struct pawl_now written;
    uint64_t number; /* of its first record */
};

static struct {
    struct pawl_io *io;
    struct pawl_journal *journal;
    struct pawl_journal_report report;
    struct pawl_journal_options options;
    struct pawl_now now;
    uint8_t boot_id[16];
    struct told told[TOLD_MAX];
    size_t told_count;
    bool numbered;
    char path[64];
    int dir_fd;
} t;

static void clocks(void *ctx, uint64_t *realtime_ns_out, uint64_t *boottime_ns_out)
{
    (void)ctx;
    *realtime_ns_out = t.now.realtime_ns;
    *boottime_ns_out = t.now.boottime_ns;
}

static void on_written(void *ctx, struct pawl_now written)
{
    (void)ctx;
    if (t.told_count == 0 || t.numbered)
        t.told_count++;
    cr_assert(le(sz, t.told_count, TOLD_MAX));
    t.told[t.told_count - 1] = (struct told){.written = written};
    t.numbered = false;
}

static int on_record(void *ctx, const struct pawl_record *record, uint64_t place)
{
    (void)ctx;
    (void)place;
    cr_assert(not(eq(sz, t.told_count, 0)), "nobody said when");
    if (!t.numbered)
        memcpy(&t.told[t.told_count - 1].number, record->body, 8);
    t.numbered = true;
    return 0;
}

static void begin(int kind)
{
    memset(&t, 0, sizeof t);
    t.dir_fd = new_dir(t.path);
    cr_assert(eq(int, io_kind_open(kind, &t.io), 0));
    t.now = (struct pawl_now){.boottime_ns = 1000, .realtime_ns = 5000000};
    t.boot_id[3] = 7;
    t.options = (struct pawl_journal_options){.written = on_written,
                                              .apply = on_record,
                                              .clock = clocks,
                                              .boot_id = t.boot_id,
                                              .segment_bytes = 16 << 10,
                                              .lock_wait_ns = 20000000};
}

static void reopen(void)
{
    t.told_count = 0;
    t.numbered = false;
    cr_assert(eq(int, pawl_journal_open(t.io, t.dir_fd, &t.options, &t.journal, &t.report), 0));
    t.told_count -= t.told_count > 0 && !t.numbered; /* frames without a record of ours */
}

static void die(void)
{
    cr_assert(eq(int, pawl_journal_close(t.journal, false), 0));
}

static void end(void)
{
    pawl_io_close(t.io);
    remove_dir(t.dir_fd, t.path);
}

static void pass(uint64_t ns, int64_t step)
{
    t.now.boottime_ns += ns;
    t.now.realtime_ns += ns + (uint64_t)step;
}

#define expect_told(i, n, boottime, realtime)                                                                \
    do {                                                                                                     \
        cr_expect(eq(u64, t.told[i].number, (n)));                                                           \
        cr_expect(eq(u64, t.told[i].written.boottime_ns, (boottime)));                                       \
        cr_expect(eq(u64, t.told[i].written.realtime_ns, (realtime)));                                       \
    } while (0)

#define ON_BOTH for (int kind = (begin(0), 0); kind < 2; end(), kind++, kind < 2 ? begin(kind) : (void)0)

TestSuite(journal_clocks, .timeout = 300);

static void write_three(void)
{
    reopen();
    commit_numbers(t.journal, 1, 1);
    pass(10, 0);
    commit_numbers(t.journal, 2, 2);
    pass(10, 900000);
    commit_numbers(t.journal, 3, 3);
    die();
    pass(10, -3000000);
}

Test(journal_clocks, a_start_hears_both_clocks_of_each_frame_of_its_boot)
{
    ON_BOTH
    {
        write_three();
        reopen();
        cr_assert(eq(sz, t.told_count, 3));
        expect_told(0, 1, 1000, 5000000);
        expect_told(1, 2, 1010, 5000010);
        expect_told(2, 3, 1020, 5900020);
        die();
    }
}

Test(journal_clocks, a_frame_that_is_written_again_keeps_its_clocks)
{
    ON_BOTH
    {
        write_three();
        reopen();
        cr_expect(eq(u64, t.report.rewritten_count, 1), "nothing vouched for the last");
        die();
        for (int i = 0; i < 3; i++) {
            pass(10, 77000);
            reopen();
            cr_assert(eq(sz, t.told_count, 3));
            expect_told(2, 3, 1020, 5900020);
            die();
        }
    }
}

Test(journal_clocks, of_another_boot_only_the_wall_clock_is_heard)
{
    ON_BOTH
    {
        write_three();
        t.boot_id[3]++;
        t.now.boottime_ns = 2000000;
        reopen();
        cr_assert(eq(sz, t.told_count, 3));
        expect_told(0, 1, 0, 5000000);
        expect_told(1, 2, 0, 5000010);
        cr_expect(eq(u64, t.told[2].written.boottime_ns, 2000000), "written again, it is of this boot");
        cr_expect(eq(u64, t.told[2].written.realtime_ns, t.now.realtime_ns));
        die();
    }
}

Test(journal_clocks, what_follows_a_clean_close_in_another_boot_is_of_the_boot_in_which_it_was_written)
{
    ON_BOTH
    {
        reopen();
        commit_numbers(t.journal, 1, 1);
        cr_assert(eq(int, pawl_journal_close(t.journal, true), 0));
        t.boot_id[3]++;
        pass(5000, 0);
        reopen();
        commit_numbers(t.journal, 2, 2);
        die();
        pass(10, 77000);
        reopen();
        cr_assert(eq(sz, t.told_count, 2));
        expect_told(0, 1, 0, 5000000);
        expect_told(1, 2, 6000, 5005000);
        die();
    }
}

Test(journal_clocks, a_boot_that_cannot_be_named_or_is_ahead_is_another)
{
    ON_BOTH
    {
        write_three();
        t.now.boottime_ns = 1005; /* as in a time namespace */
        reopen();
        expect_told(0, 1, 1000, 5000000);
        expect_told(1, 2, 0, 5000010);
        die();
    }
    ON_BOTH
    {
        memset(t.boot_id, 0, sizeof t.boot_id);
        write_three();
        reopen();
        expect_told(0, 1, 0, 5000000);
        die();
    }
}
