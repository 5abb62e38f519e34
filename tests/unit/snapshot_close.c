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

/* So many schedulers die, each of which wrote a little. Return: segments. */
static uint64_t die_often(int times)
{
    struct pawl_journal_stats stats;
    for (int i = 0; i < times; i++) {
        append((uint64_t)i + 1, 64);
        cr_assert(eq(int, pawl_journal_sync(t.loop.journal), 0));
        pawl_journal_close(t.loop.journal, false);
        t.witness.last_applied = 0;
        open_small_journal();
    }
    t.loop.replayed_count = 0;
    pawl_journal_stats(t.loop.journal, &stats);
    return stats.segment_count;
}

static uint64_t segments_left(void)
{
    struct pawl_journal_stats stats;
    pawl_journal_stats(t.loop.journal, &stats);
    return stats.segment_count;
}

Test(snapshot_close, gives_the_segments_of_schedulers_that_died_back_when_they_are_many)
{
    cr_assert(eq(u64, die_often(20), 21));
    pawl_snapshot_before_close(&t.loop);
    cr_expect(eq(u64, segments_left(), 21), "not worth two snapshots yet");
    cr_assert(eq(u64, die_often(20), 41));
    pawl_snapshot_before_close(&t.loop);
    cr_expect(le(u64, segments_left(), 3));
}

Test(snapshot_close, nor_need_such_segments_wait_for_a_close)
{
    cr_assert(eq(u64, die_often(40), 41));
    for (int turn = 0; turn < 20 && segments_left() > 3; turn++) {
        t.loop.now.boottime_ns += UINT64_C(3000000000);
        pawl_snapshot_turn(&t.loop);
        while (t.loop.snapshotting)
            cr_assert(not(lt(int, pawl_io_wait(t.loop.io, UINT64_MAX), 0)));
        if (t.loop.release_due && pawl_journal_sync(t.loop.journal) == 0)
            pawl_snapshot_release(&t.loop);
    }
    cr_expect(le(u64, segments_left(), 3));
}
