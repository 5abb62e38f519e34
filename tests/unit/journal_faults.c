/*
 * journal_faults.c - a disk that refuses: failed syncs, full disks, short writes; and the life of the
 * journal's files: rotation, release, snapshots, places. On both kinds of I/O, with faults put between.
 */
#include "tests/unit/faulty_journal.h"

static void fail_commits(int from, int count, enum pawl_io_failure failure, int32_t result)
{
    t.disk.commits_until_failure = from;
    t.disk.failures_left = count;
    t.disk.failure = failure;
    t.disk.result = result;
}

TestSuite(journal_faults, .timeout = 300);

Test(journal_faults, failed_sync_is_fail_stop_and_told_once)
{
    ON_BOTH
    {
        t.options.frame_bytes = 1;
        t.options.window_depth = 4; /* both failures are in flight together */
        t.options.segment_bytes = 1 << 20;
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 2);
        fail_commits(1, 2, PAWL_IO_FAILED_SYNC, -EIO);
        append_numbers(t.journal, 3, 6);
        cr_expect(eq(int, pawl_journal_sync(t.journal), PAWL_E_SYNC_FAILED));
        cr_expect(eq(int, t.witness.failed, PAWL_E_SYNC_FAILED));
        cr_expect(eq(int, t.witness.failed_count, 1));
        cr_expect(le(u64, t.witness.durable_lsn, 3), "nothing at or behind the failure is told of");
        struct iovec iov = {"12345678", 8};
        cr_expect(eq(int, pawl_journal_append(t.journal, 7, 1, &iov, 1, NULL, NULL), PAWL_E_SYNC_FAILED));
        cr_expect(eq(int, pawl_journal_flush(t.journal), PAWL_E_SYNC_FAILED));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, 1, PAWL_JOURNAL_FOR_RESULTS), PAWL_E_SYNC_FAILED));
        uint64_t told = t.witness.durable_lsn;
        cr_expect(eq(int, pawl_journal_close(t.journal, true), PAWL_E_SYNC_FAILED));
        cr_expect(eq(int, t.witness.failed_count, 1));
        cr_assert(eq(int, reopen(), 0));
        cr_expect(ge(u64, t.report.last_lsn, told));
        cr_expect(not(t.report.clean));
        shut(true);
    }
}

Test(journal_faults, write_error_other_than_want_of_space_is_fail_stop)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        fail_commits(0, 1, PAWL_IO_FAILED_WRITE, -EIO);
        append_numbers(t.journal, 1, 1);
        cr_expect(eq(int, pawl_journal_sync(t.journal), -EIO));
        cr_expect(eq(int, t.witness.failed_count, 1));
        cr_expect(eq(u64, t.witness.durable_lsn, 0));
        pawl_journal_close(t.journal, false);
    }
}

Test(journal_faults, failed_sync_of_a_new_segment_is_fail_stop)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 3);
        t.disk.sync_error = -EIO;
        append_numbers(t.journal, 4, 4);
        cr_expect(eq(int, pawl_journal_sync(t.journal), PAWL_E_SYNC_FAILED));
        cr_expect(eq(int, t.witness.failed_count, 1));
        pawl_journal_close(t.journal, false);
        t.disk.sync_error = 0;
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.last_applied, 3));
        shut(true);
    }
}

Test(journal_faults, full_disk_refuses_work_and_results_still_fit_into_the_reserve)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        cr_assert(eq(int, pawl_journal_has_room(t.journal, 1000, PAWL_JOURNAL_FOR_WORK), 0));
        for (uint64_t i = 1; i <= 300; i++) { /* past 1 MiB the reserve is made */
            static uint8_t body[4000];
            struct iovec iov = {body, sizeof body};
            fill_body(body, i, sizeof body);
            cr_assert(eq(int, pawl_journal_append(t.journal, 7, 1, &iov, 1, NULL, NULL), 0));
            cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        }
        cr_assert(eq(int, pawl_journal_has_room(t.journal, 1000, PAWL_JOURNAL_FOR_WORK), 0));
        cr_expect(exists(t.dir_fd, "reserve.1"));
        cr_expect(exists(t.dir_fd, "reserve.2"));

        t.disk.room = 0;
        t.disk.open_error = -ENOSPC;
        t.disk.allocate_error = -ENOSPC;
        fail_commits(0, 1, PAWL_IO_FAILED_WRITE, -ENOSPC);
        append_numbers(t.journal, 301, 302);
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0), "the reserve takes it");
        cr_expect(eq(int, (int)t.witness.room, PAWL_JOURNAL_TIGHT));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, 8, PAWL_JOURNAL_FOR_WORK), PAWL_E_NO_SPACE));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, 8, PAWL_JOURNAL_FOR_RESULTS), 0));
        cr_expect(eq(int, t.witness.failed_count, 0));

        uint64_t now = 1;
        uint64_t due = pawl_journal_idle(t.journal, now);
        cr_expect(le(u64, due, now + 1000000000u));
        t.disk.room = 1 << 30;
        t.disk.open_error = t.disk.allocate_error = 0;
        pawl_journal_idle(t.journal, now + 1000000000u);
        cr_expect(eq(int, (int)t.witness.room, PAWL_JOURNAL_ROOMY));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, 8, PAWL_JOURNAL_FOR_WORK), 0));
        commit_numbers(t.journal, 303, 310);
        shut(false);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.last_applied, 310));
        cr_expect(eq(u64, t.witness.applied_count, 310));
        shut(true);
    }
}

Test(journal_faults, without_any_reserve_records_wait_in_memory_and_none_is_lost)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 2);
        t.disk.room = 0;
        t.disk.open_error = t.disk.allocate_error = -ENOSPC;
        fail_commits(0, 1, PAWL_IO_FAILED_WRITE, -ENOSPC);
        uint64_t place, lsn;
        static uint8_t body[64];
        struct iovec iov = {body, sizeof body};
        fill_body(body, 3, sizeof body);
        cr_assert(eq(int, pawl_journal_append(t.journal, 7, 1, &iov, 1, &lsn, &place), 0));
        cr_expect(eq(int, pawl_journal_sync(t.journal), PAWL_E_NO_SPACE));
        cr_expect(eq(int, (int)pawl_journal_room(t.journal), PAWL_JOURNAL_FULL));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, 8, PAWL_JOURNAL_FOR_RESULTS), PAWL_E_NO_SPACE));
        append_numbers(t.journal, 4, 5);
        uint8_t back[64];
        cr_expect(eq(i64, pawl_journal_read(t.journal, place, lsn, 0, back, 64), 64),
                  "readable while it waits");
        cr_expect(eq(int, memcmp(back, body, 64), 0));
        pawl_journal_idle(t.journal, 1);
        pawl_journal_idle(t.journal, 1000000001);
        cr_expect(eq(int, (int)pawl_journal_room(t.journal), PAWL_JOURNAL_FULL));
        t.disk.room = 1 << 30;
        t.disk.open_error = t.disk.allocate_error = 0;
        pawl_journal_idle(t.journal, 2000000001);
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        cr_expect(eq(u64, t.witness.durable_lsn, 5));
        cr_expect(eq(i64, pawl_journal_read(t.journal, place, lsn, 0, back, 64), 64),
                  "its old place still leads to it");
        cr_expect(eq(int, memcmp(back, body, 64), 0));
        cr_expect(ne(u64, pawl_journal_resolve(t.journal, place), place));
        shut(false);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.applied_count, 5));
        cr_expect(not(t.witness.disordered));
        shut(true);
    }
}

Test(journal_faults, full_journal_goes_on_when_there_is_room_for_its_records_though_not_for_a_reserve)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 2);
        t.disk.room = 0;
        t.disk.open_error = t.disk.allocate_error = -ENOSPC;
        fail_commits(0, 1, PAWL_IO_FAILED_WRITE, -ENOSPC);
        append_numbers(t.journal, 3, 4);
        cr_expect(eq(int, pawl_journal_sync(t.journal), PAWL_E_NO_SPACE));
        cr_expect(eq(int, (int)pawl_journal_room(t.journal), PAWL_JOURNAL_FULL));
        t.disk.room = 64 << 10;
        t.disk.open_error = 0;
        pawl_journal_idle(t.journal, 1);
        pawl_journal_idle(t.journal, 1000000001);
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        cr_expect(eq(u64, t.witness.durable_lsn, 4));
        cr_expect(eq(int, (int)pawl_journal_room(t.journal), PAWL_JOURNAL_TIGHT));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, 8, PAWL_JOURNAL_FOR_RESULTS), 0));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, 8, PAWL_JOURNAL_FOR_WORK), PAWL_E_NO_SPACE));
        shut(false);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.applied_count, 4));
        shut(true);
    }
}

Test(journal_faults, secured_journal_has_its_reserve_before_anything_fills_the_disk)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 2);
        pawl_journal_secure(t.journal);
        t.disk.room = 0;
        t.disk.open_error = t.disk.allocate_error = -ENOSPC;
        fail_commits(0, 1, PAWL_IO_FAILED_WRITE, -ENOSPC);
        append_numbers(t.journal, 3, 4);
        cr_expect(eq(int, pawl_journal_sync(t.journal), 0));
        cr_expect(eq(u64, t.witness.durable_lsn, 4));
        cr_expect(eq(int, (int)pawl_journal_room(t.journal), PAWL_JOURNAL_TIGHT));
        shut(false);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.applied_count, 4));
        shut(true);
    }
}

Test(journal_faults, short_write_seals_the_segment_and_the_same_records_go_on_in_the_next)
{
    ON_BOTH
    {
        t.options.frame_bytes = 1;
        t.options.segment_bytes = 1 << 20;
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 2);
        cr_assert(eq(int, pawl_journal_has_room(t.journal, 2 << 20, PAWL_JOURNAL_FOR_WORK), 0));
        fail_commits(1, 1, PAWL_IO_FAILED_SHORT_WRITE, -EIO); /* number 13's frame is two blocks */
        append_numbers(t.journal, 12, 16);
        pawl_journal_flush(t.journal);
        for (int i = 0; i < 20 && pawl_journal_room(t.journal) == PAWL_JOURNAL_ROOMY; i++)
            pawl_io_wait(t.io, 1000000);
        pawl_journal_idle(t.journal, 1);
        pawl_journal_idle(t.journal, 1000000001);
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        cr_expect(eq(int, t.witness.failed_count, 0));
        cr_expect(not(le(u32, pawl_journal_current_segment(t.journal), 1)));
        cr_expect(eq(u32, t.witness.moved_from, 1), "whoever pins it must hear of it");
        cr_expect(eq(u32, t.witness.moved_to, pawl_journal_current_segment(t.journal)));
        cr_expect(eq(u32, t.witness.moved_count, 1), "once, not for each frame");
        shut(false);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.applied_count, 7));
        cr_expect(eq(u64, t.witness.last_applied, 16));
        cr_expect(not(t.witness.disordered));
        shut(true);
        cr_expect(eq(int, pawl_journal_verify(t.dir_fd, NULL, NULL, NULL), 0));
    }
}

Test(journal_faults, pending_limit_refuses_work_before_results)
{
    ON_BOTH
    {
        t.options.pending_bytes_max = 1000;
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, 900, PAWL_JOURNAL_FOR_WORK), 0));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, 5000, PAWL_JOURNAL_FOR_WORK), 0), "nothing waits");
        char body[600] = {0};
        struct iovec iov = {body, sizeof body};
        cr_assert(eq(int, pawl_journal_append(t.journal, 7, 1, &iov, 1, NULL, NULL), 0));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, 500, PAWL_JOURNAL_FOR_WORK), PAWL_E_LIMIT));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, 5000, PAWL_JOURNAL_FOR_WORK), PAWL_E_LIMIT));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, 1001, PAWL_JOURNAL_FOR_RESULTS), 0));
        shut(true);
    }
}

static void write_snapshot(uint64_t lsn, size_t chunk_bytes, int chunks)
{
    char *chunk = malloc(chunk_bytes);
    memset(chunk, 's', chunk_bytes);
    int before = t.witness.snapshot_count;
    cr_assert(eq(int, pawl_journal_snapshot_begin(t.journal, lsn), 0));
    cr_expect(eq(int, pawl_journal_snapshot_begin(t.journal, lsn), PAWL_E_STATE));
    for (int i = 0; i < chunks;) {
        int error = pawl_journal_snapshot_append(t.journal, chunk, chunk_bytes);
        cr_assert(error == 0 || error == -EAGAIN);
        i += error == 0;
        pawl_io_wait(t.io, error ? 10000000 : 0);
    }
    cr_assert(eq(int, pawl_journal_snapshot_commit(t.journal), 0));
    for (int i = 0; i < 200 && t.witness.snapshot_count == before; i++)
        pawl_io_wait(t.io, 10000000);
    cr_assert(eq(int, t.witness.snapshot_count, before + 1));
    cr_assert(eq(int, t.witness.snapshot_error, 0));
    cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
    free(chunk);
}

Test(journal_faults, replay_begins_behind_the_newest_snapshot)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 4);
        write_snapshot(4, 1 << 20, 3);
        commit_numbers(t.journal, 5, 6);
        shut(false);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.report.snapshot_lsn, 4));
        cr_expect(eq(u64, t.witness.loaded_bytes, 3 << 20));
        cr_expect(eq(u64, t.witness.applied_count, 2));
        cr_expect(eq(u64, t.witness.last_applied, 6));
        shut(true);
    }
}

/* Two snapshots, and nothing of the records that they cover. */
static void leave_snapshots_alone(void)
{
    cr_assert(eq(int, reopen(), 0));
    commit_numbers(t.journal, 1, 12);
    write_snapshot(12, 50, 1);
    write_snapshot(pawl_journal_last_lsn(t.journal), 50, 1);
    uint32_t current = pawl_journal_current_segment(t.journal);
    cr_assert(ge(int, pawl_journal_release_before(t.journal, current, NULL, NULL), 1));
    commit_numbers(t.journal, 13, 14);
    shut(true);
}

Test(journal_faults, snapshot_that_cannot_be_read_for_want_of_memory_or_descriptors_is_not_a_bad_one)
{
    ON_BOTH
    {
        leave_snapshots_alone();
        t.disk.read_error = -ENOMEM;
        cr_expect(eq(int, reopen(), -ENOMEM));
        cr_expect(eq(str, t.report.file, "snapshot.2"));
        t.disk.read_error = 0;
        for (int nth = 0; nth < 2; nth++) { /* the newest, and the one to fall back to */
            t.disk.snapshot_error = -EMFILE;
            t.disk.snapshots_until_error = nth * 2; /* it is checked, then loaded */
            cr_expect(eq(int, reopen(), -EMFILE));
            cr_expect(eq(u32, t.report.snapshots_bad, 0));
        }
        t.disk.snapshot_error = 0;
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.last_applied, 14));
        cr_expect(exists(t.dir_fd, "snapshot.1") && exists(t.dir_fd, "snapshot.2"));
        shut(true);
    }
}

Test(journal_faults, bad_snapshot_falls_back_to_the_older_and_is_set_aside)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 2);
        write_snapshot(2, 100, 1);
        commit_numbers(t.journal, 3, 4);
        write_snapshot(pawl_journal_last_lsn(t.journal), 100, 2);
        commit_numbers(t.journal, 5, 6);
        shut(true);
        flip_bit(t.dir_fd, "snapshot.2", 150, 2);
        cr_expect(eq(int, pawl_journal_verify(t.dir_fd, NULL, NULL, NULL), PAWL_E_DAMAGED));
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u32, t.report.snapshots_bad, 1));
        cr_expect(eq(u64, t.report.snapshot_lsn, 2));
        cr_expect(eq(u64, t.witness.loaded_bytes, 100), "nothing of the bad one is handed over");
        cr_expect(eq(u64, t.witness.applied_count, 4));
        cr_expect(exists(t.dir_fd, "snapshot.2.quarantine"));
        shut(true);
    }
}

static bool pin_two(void *ctx, uint32_t segment_number)
{
    (void)ctx;
    return segment_number == 2;
}

Test(journal_faults, segments_go_only_when_two_snapshots_cover_them_and_nobody_pins_them)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 12);
        uint32_t current = pawl_journal_current_segment(t.journal);
        cr_assert(ge(u32, current, 4));
        cr_expect(eq(int, pawl_journal_release_before(t.journal, current, NULL, NULL), 0));
        write_snapshot(12, 50, 1);
        cr_expect(eq(int, pawl_journal_release_before(t.journal, current, NULL, NULL), 0),
                  "one is not enough");
        write_snapshot(pawl_journal_last_lsn(t.journal), 50, 1);
        cr_expect(ge(int, pawl_journal_release_before(t.journal, current, pin_two, NULL), 1));
        cr_expect(not(exists(t.dir_fd, "00000001.seg")));
        cr_expect(exists(t.dir_fd, "00000002.seg"));
        cr_expect(not(exists(t.dir_fd, "00000003.seg")));
        cr_expect(exists(t.dir_fd, "recycled.1"));
        commit_numbers(t.journal, 20, 30);
        cr_expect(not(exists(t.dir_fd, "recycled.1") && exists(t.dir_fd, "recycled.3")),
                  "written blocks are used again");
        shut(false);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.last_applied, 30));
        cr_expect(not(t.witness.altered));
        shut(true);
    }
}

Test(journal_faults, snapshot_of_everything_ends_its_segment_so_that_a_start_reads_nothing_twice)
{
    ON_BOTH
    {
        t.options.segment_bytes = 0; /* the default: far from full */
        cr_assert(eq(int, reopen(), 0));
        for (uint64_t number = 1; number < TEST_LSN_MAX - 100; number += 400)
            commit_numbers(t.journal, number, number + 399);
        uint32_t current = pawl_journal_current_segment(t.journal);
        write_snapshot(pawl_journal_last_lsn(t.journal), 50, 1);
        cr_expect(eq(u32, pawl_journal_current_segment(t.journal), current + 1));
        write_snapshot(pawl_journal_last_lsn(t.journal), 50, 1);
        cr_expect(eq(u32, pawl_journal_current_segment(t.journal), current + 1), "a small one goes on");
        cr_expect(eq(int, pawl_journal_release_before(t.journal, current + 1, NULL, NULL), (int)current));
        shut(true);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.applied_count, 0));
        cr_expect(not(exists(t.dir_fd, "00000001.seg")));
        cr_expect(not(exists(t.dir_fd, "recycled.1")), "a closed journal keeps no spare files");
        shut(true);
    }
}

Test(journal_faults, what_an_older_life_of_a_recycled_file_left_is_never_read)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 8);
        write_snapshot(8, 50, 1);
        write_snapshot(pawl_journal_last_lsn(t.journal), 50, 1);
        cr_assert(ge(int, pawl_journal_release_before(t.journal, UINT32_MAX, NULL, NULL), 1));
        commit_numbers(t.journal, 9, 12);
        shut(false);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.last_applied, 12));
        cr_expect(not(t.witness.disordered));
        shut(true);
    }
}

Test(journal_faults, places_lead_to_records_before_and_after_they_are_written)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        static uint8_t body[20000], back[20000];
        uint64_t place[12], lsn[12];
        for (uint64_t i = 0; i < 12; i++) {
            struct iovec iov[2] = {{body, 100}, {body + 100, sizeof body - 100}};
            fill_body(body, i + 1, sizeof body);
            cr_assert(eq(int, pawl_journal_append(t.journal, 7, 3, iov, 2, &lsn[i], &place[i]), 0));
            pawl_journal_cut(t.journal);
            cr_expect(eq(i64, pawl_journal_read(t.journal, place[i], lsn[i], 50, back, 100), 100));
            cr_expect(eq(int, memcmp(back, body + 50, 100), 0));
            if (i % 4 == 3)
                cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        }
        for (uint64_t i = 0; i < 12; i++) {
            struct pawl_record record;
            cr_assert(eq(int, pawl_journal_record_at(t.journal, place[i], &record), 0));
            cr_expect(eq(u64, record.lsn, lsn[i]));
            cr_expect(eq(int, record.version, 3));
            cr_expect(eq(u32, record.body_bytes, sizeof body));
            fill_body(body, i + 1, sizeof body);
            cr_expect(
                eq(i64, pawl_journal_read(t.journal, place[i], lsn[i], 0, back, sizeof back), sizeof back));
            cr_expect(eq(int, memcmp(back, body, sizeof body), 0));
            cr_expect(
                eq(i64, pawl_journal_read(t.journal, place[i], lsn[i] + 1, 0, back, 8), PAWL_E_DAMAGED));
        }
        cr_expect(eq(i64, pawl_journal_read(t.journal, (uint64_t)99 << 32 | 4176, 1, 0, back, 8), -ENOENT));
        shut(true);
    }
}

Test(journal_faults, records_beyond_the_limits_are_refused_whole)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        size_t big = PAWL_RECORD_BODY_BYTES_MAX;
        char *body = calloc(1, big + 1);
        struct iovec iov = {body, big + 1};
        cr_expect(eq(int, pawl_journal_append(t.journal, 7, 1, &iov, 1, NULL, NULL), -EMSGSIZE));
        cr_expect(eq(int, pawl_journal_append(t.journal, 0, 1, &iov, 0, NULL, NULL), -EINVAL));
        cr_expect(
            eq(int, pawl_journal_append(t.journal, PAWL_RECORD_WATERMARK, 1, &iov, 0, NULL, NULL), -EINVAL));
        uint64_t lsn = 0, place = 0;
        iov.iov_len = big;
        body[big - 1] = 'z';
        cr_assert(eq(int, pawl_journal_append(t.journal, 7, 1, &iov, 1, &lsn, &place), 0));
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        char last = 0;
        cr_expect(eq(i64, pawl_journal_read(t.journal, place, lsn, big - 1, &last, 1), 1));
        cr_expect(eq(chr, last, 'z'));
        free(body);
        shut(true);
        t.options.apply = NULL;
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.report.last_lsn, 2));
        shut(true);
    }
}
