/*
 * journal_reserve.c - when the journal calls its disk full, and when it does not: the reserve that cannot be
 * made, writes that are refused on a disk that tells of room. On both kinds of I/O.
 */
#include <limits.h>

#include "tests/unit/faulty_disk.h"

static struct {
    struct faulty disk;
    struct pawl_io *io;
    struct pawl_journal *journal;
    struct witness witness;
    struct pawl_journal_options options;
    char path[64];
    int dir_fd;
} t;

static void begin(int kind)
{
    memset(&t, 0, sizeof t);
    t.dir_fd = new_dir(t.path);
    t.disk.front.io.ops = &faulty_ops;
    t.disk.room = 1 << 30;
    cr_assert(eq(int, io_kind_open(kind, &t.disk.front.real), 0));
    t.io = &t.disk.front.io;
    t.options = options_of(&t.witness);
    cr_assert(eq(int, pawl_journal_open(t.io, t.dir_fd, &t.options, &t.journal, NULL), 0));
}

static void end(void)
{
    cr_assert(eq(int, pawl_journal_close(t.journal, true), 0));
    pawl_io_close(t.disk.front.real);
    remove_dir(t.dir_fd, t.path);
}

#define ON_BOTH for (int kind = (begin(0), 0); kind < 2; end(), kind++, kind < 2 ? begin(kind) : (void)0)

TestSuite(journal_reserve, .timeout = 120);

/* A second of the clock, and all that comes of it. */
static void idle_until(uint64_t second)
{
    (void)pawl_journal_idle(t.journal, second * 1000000000 + 1);
    (void)pawl_io_wait(t.io, 20000000);
}

Test(journal_reserve, reserve_that_no_descriptor_is_left_for_is_no_full_disk)
{
    ON_BOTH
    {
        t.disk.open_error = -EMFILE;
        pawl_journal_secure(t.journal);
        cr_expect(eq(int, (int)t.witness.room, PAWL_JOURNAL_ROOMY));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, 100, PAWL_JOURNAL_FOR_WORK), 0));
        cr_expect(not(pawl_journal_is_secure(t.journal)), "it is made when it can be");
        t.disk.open_error = 0;
        pawl_journal_secure(t.journal);
        cr_expect(pawl_journal_is_secure(t.journal));
        cr_expect(exists(t.dir_fd, "reserve.1"));
    }
}

Test(journal_reserve, reserve_that_finds_no_space_is_a_full_disk)
{
    ON_BOTH
    {
        t.disk.allocate_error = -EDQUOT;
        pawl_journal_secure(t.journal);
        cr_expect(eq(int, (int)t.witness.room, PAWL_JOURNAL_TIGHT));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, 100, PAWL_JOURNAL_FOR_WORK), PAWL_E_NO_SPACE));
        t.disk.allocate_error = 0;
        idle_until(1);
        idle_until(3);
        cr_expect(eq(int, (int)t.witness.room, PAWL_JOURNAL_ROOMY));
    }
}

Test(journal_reserve, disk_that_refuses_writes_is_full_until_one_goes_well_whatever_it_says_of_its_room)
{
    ON_BOTH
    {
        pawl_journal_secure(t.journal);
        commit_numbers(t.journal, 1, 1);
        t.disk.commits_until_failure = 0;
        t.disk.failures_left = INT_MAX;
        t.disk.failure = PAWL_IO_FAILED_WRITE;
        t.disk.result = -ENOSPC;
        append_numbers(t.journal, 2, 2);
        cr_expect(eq(int, pawl_journal_sync(t.journal), PAWL_E_NO_SPACE));
        int changes = t.witness.room_count;
        enum pawl_journal_room room = t.witness.room;
        cr_expect(ne(int, (int)room, PAWL_JOURNAL_ROOMY));
        for (uint64_t second = 1; second < 10; second++)
            idle_until(second);
        cr_expect(eq(int, t.witness.room_count, changes), "nothing has changed, nothing is told");
        cr_expect(eq(int, (int)t.witness.room, (int)room));
        t.disk.failures_left = 0;
        for (uint64_t second = 10; second < 20; second++)
            idle_until(second);
        cr_expect(eq(u64, t.witness.durable_lsn, pawl_journal_last_lsn(t.journal)));
        cr_expect(eq(int, (int)t.witness.room, PAWL_JOURNAL_ROOMY));
        cr_expect(le(int, t.witness.room_count, changes + 2));
    }
}
