/*
 * snapshot_close.c - the snapshot before a close, on a disk that has little left.
 */
#include "tests/unit/small_loop.h"

enum { MANY_RECORDS = 1000000 };

static void set_up_many(void)
{
    set_up();
    t.loop.replayed_count = MANY_RECORDS; /* it is worth a snapshot */
}

TestSuite(snapshot_close, .init = set_up_many, .fini = tear_down, .timeout = 60);

Test(snapshot_close, covers_what_was_appended_last)
{
    append(1, 64);
    pawl_snapshot_before_close(&t.loop);
    cr_expect(eq(int, t.witness.snapshot_count, 1));
    cr_expect(exists(t.dir_fd, "snapshot.1"));
}

Test(snapshot_close, a_snapshot_that_just_fits_does_not_wait_for_records_that_do_not)
{
    append(1, 64);
    cr_assert(eq(int, pawl_journal_sync(t.loop.journal), 0));
    t.disk.capacity = t.disk.used;
    append(2, FRAME_BYTES);
    cr_assert(eq(int, pawl_journal_sync(t.loop.journal), PAWL_E_NO_SPACE));
    cr_assert(eq(int, (int)t.witness.room, PAWL_JOURNAL_FULL));
    t.disk.capacity += FRAME_BYTES;
    pawl_snapshot_before_close(&t.loop); /* comes back */
    cr_expect(eq(int, t.witness.snapshot_count, 0));
    cr_expect(eq(u64, pawl_journal_durable_lsn(t.loop.journal), 1));
}
