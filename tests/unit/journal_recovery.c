/*
 * journal_recovery.c - what a start believes: torn tails, damage, order, formats, owners. On both kinds of
 * I/O.
 */
#include "tests/unit/journal_support.h"

#include <signal.h>
#include <sys/wait.h>

#include <xxhash.h>

#include "scheduler/frame.h"

static struct {
    struct pawl_io *io;
    struct pawl_journal *journal;
    struct pawl_journal_report report;
    struct witness witness;
    struct pawl_journal_options options;
    char path[64];
    int dir_fd;
} t;

static void begin(int kind)
{
    memset(&t, 0, sizeof t);
    t.dir_fd = new_dir(t.path);
    cr_assert(eq(int, io_kind_open(kind, &t.io), 0));
    t.options = options_of(&t.witness);
}

static int reopen(void)
{
    memset(&t.witness, 0, sizeof t.witness);
    return pawl_journal_open(t.io, t.dir_fd, &t.options, &t.journal, &t.report);
}

static void shut(bool clean)
{
    cr_assert(eq(int, pawl_journal_close(t.journal, clean), 0));
}

static void end(void)
{
    pawl_io_close(t.io);
    remove_dir(t.dir_fd, t.path);
}

#define ON_BOTH for (int kind = (begin(0), 0); kind < 2; end(), kind++, kind < 2 ? begin(kind) : (void)0)

TestSuite(journal_recovery, .timeout = 300);

Test(journal_recovery, confirmed_records_survive_a_crash_in_order)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        cr_expect(t.report.fresh);
        commit_numbers(t.journal, 1, 9);
        cr_expect(eq(u64, t.witness.durable_lsn, 9));
        shut(false);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.applied_count, 9));
        cr_expect(eq(u64, t.witness.last_applied, 9));
        cr_expect(not(t.witness.disordered));
        cr_expect(not(t.witness.altered));
        cr_expect(not(t.report.clean));
        shut(true);
    }
}

Test(journal_recovery, clean_close_is_seen_and_the_next_start_makes_no_sync)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        cr_expect(le(u32, t.report.sync_count, 2));
        commit_numbers(t.journal, 1, 3);
        bool direct = ({
            struct pawl_journal_stats stats;
            pawl_journal_stats(t.journal, &stats);
            stats.direct;
        });
        shut(true);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(t.report.clean);
        cr_expect(eq(u64, t.witness.applied_count, 3));
        if (direct)
            cr_expect(eq(u32, t.report.sync_count, 0));
        commit_numbers(t.journal, 4, 5);
        shut(true);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(t.report.clean);
        cr_expect(eq(u64, t.witness.applied_count, 5));
        shut(true);
    }
}

Test(journal_recovery, replay_twice_equals_once)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 6);
        shut(false);
        for (int again = 0; again < 3; again++) {
            cr_assert(eq(int, reopen(), 0));
            cr_expect(eq(u64, t.witness.applied_count, 6));
            cr_expect(eq(u64, t.report.record_count >= 6, 1));
            shut(false);
        }
    }
}

Test(journal_recovery, append_after_a_crash_goes_to_a_new_segment_and_unvouched_records_move_there)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 3);
        shut(false);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u32, pawl_journal_current_segment(t.journal), 2));
        cr_expect(eq(u64, t.report.rewritten_count, 1), "only the last frame had no voucher");
        cr_expect(eq(u32, pawl_journal_segment_of(t.witness.place[2]), 1));
        cr_expect(eq(u32, pawl_journal_segment_of(t.witness.place[3]), 2));
        uint8_t body[8];
        cr_expect(eq(i64, pawl_journal_read(t.journal, t.witness.place[3], 3, 0, body, 8), 8));
        cr_expect(eq(int, body[0], 3));
        shut(true);
    }
}

/* The frames' places in segment 1 when each record is a frame of one block: 4096 * (1 + index). */
static uint64_t frame_at(int number)
{
    return 4096u * (uint64_t)number;
}

Test(journal_recovery, torn_tail_is_dropped)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 3);
        shut(false);
        char zeros[3000] = {0};
        patch(t.dir_fd, "00000001.seg", frame_at(3) + 60, zeros, sizeof zeros);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.last_applied, 2));
        shut(true);
    }
}

Test(journal_recovery, file_cut_inside_a_frame_is_a_torn_tail)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 3);
        shut(false);
        int fd = openat(t.dir_fd, "00000001.seg", O_RDWR | O_CLOEXEC);
        cr_assert(eq(int, ftruncate(fd, (off_t)frame_at(3) + 100), 0));
        close(fd);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.last_applied, 2));
        shut(true);
    }
}

Test(journal_recovery, zero_page_amid_vouched_frames_is_damage_with_file_offset_and_lsn)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 3);
        shut(false);
        char zeros[4096] = {0};
        patch(t.dir_fd, "00000001.seg", frame_at(2), zeros, sizeof zeros);
        cr_assert(eq(int, reopen(), PAWL_E_DAMAGED));
        cr_expect(eq(str, t.report.file, "00000001.seg"));
        cr_expect(eq(u64, t.report.byte_offset, frame_at(2)));
        cr_expect(eq(u64, t.report.lsn, 2));
        cr_expect(not(exists(t.dir_fd, "00000002.seg")), "a damaged journal is left as it was");
        struct pawl_journal_report verified;
        cr_expect(eq(int, pawl_journal_verify(t.dir_fd, NULL, NULL, &verified), PAWL_E_DAMAGED));
        cr_expect(eq(u64, verified.byte_offset, frame_at(2)));
    }
}

Test(journal_recovery, unsynced_reorder_without_a_voucher_is_dropped)
{
    ON_BOTH
    {
        t.options.window_depth = 4;
        t.options.frame_bytes = 1;
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 1);
        append_numbers(t.journal, 2, 3); /* in flight together: neither vouches for the other */
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        struct pawl_journal_stats stats;
        pawl_journal_stats(t.journal, &stats);
        shut(false);
        if (!stats.direct)
            continue;
        char zeros[4096] = {0};
        patch(t.dir_fd, "00000001.seg", frame_at(2), zeros, sizeof zeros);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.last_applied, 1));
        cr_expect(ge(u64, t.report.tail_bytes, 1));
        shut(true);
    }
}

Test(journal_recovery, watermark_makes_damage_to_the_last_record_known)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 2);
        uint64_t due = pawl_journal_idle(t.journal, 5000);
        cr_expect(eq(u64, due, 1000005000));
        cr_expect(eq(u64, pawl_journal_idle(t.journal, due - 1), due));
        pawl_journal_idle(t.journal, due);
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        cr_expect(eq(u64, pawl_journal_durable_lsn(t.journal), 3));
        cr_expect(eq(u64, pawl_journal_idle(t.journal, due + 5), UINT64_MAX), "one is enough");
        shut(false);
        flip_bit(t.dir_fd, "00000001.seg", frame_at(2) + 200, 3);
        cr_assert(eq(int, reopen(), PAWL_E_DAMAGED));
        cr_expect(eq(u64, t.report.lsn, 2));
    }
}

Test(journal_recovery, any_bit_of_a_vouched_record_that_flips_is_found)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 3);
        shut(true);
        uint64_t size = frame_at(4); /* header and three frames; the fourth is the closing one */
        for (uint64_t at = 0; at < size; at += at % 4096 < 160 ? 1 : 113) {
            unsigned bit = (unsigned)(at * 5 % 8);
            flip_bit(t.dir_fd, "00000001.seg", at, bit);
            int error = reopen();
            cr_assert(error == PAWL_E_DAMAGED || error == PAWL_E_BAD_FORMAT, "byte %llu bit %u: %d",
                      (unsigned long long)at, bit, error);
            flip_bit(t.dir_fd, "00000001.seg", at, bit);
        }
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.applied_count, 3));
        shut(true);
    }
}

Test(journal_recovery, damage_in_a_segment_that_has_a_successor_is_always_damage)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 8);
        cr_assert(not(le(u32, pawl_journal_current_segment(t.journal), 1)));
        shut(false);
        flip_bit(t.dir_fd, "00000001.seg", frame_at(3) + 100, 0);
        cr_assert(eq(int, reopen(), PAWL_E_DAMAGED));
        cr_expect(eq(u64, t.report.byte_offset, frame_at(3)));
        flip_bit(t.dir_fd, "00000001.seg", frame_at(3) + 100, 0);
        cr_assert(eq(int, unlinkat(t.dir_fd, "00000001.seg", 0), 0));
        cr_assert(eq(int, reopen(), PAWL_E_DAMAGED));
        cr_expect(eq(u64, t.report.lsn, 1));
    }
}

Test(journal_recovery, garbage_length_in_a_frame_is_never_used)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 2);
        shut(false);
        uint32_t huge = 0xfffff000;
        patch(t.dir_fd, "00000001.seg", frame_at(2) + 4, &huge, 4);
        patch(t.dir_fd, "00000001.seg", frame_at(2) + 12, &huge, 4);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.last_applied, 1));
        shut(true);
    }
}

Test(journal_recovery, newer_format_is_refused_with_its_own_error_and_nothing_changes)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 2);
        shut(false);
        uint8_t block[4096];
        struct pawl_segment_header header;
        uint64_t checksum;
        int fd = openat(t.dir_fd, "00000001.seg", O_RDWR | O_CLOEXEC);
        cr_assert(eq(i64, pread(fd, block, 4096, 0), 4096));
        cr_assert(eq(int, pawl_segment_unpack(block, &header, &checksum), 0));
        header.format = PAWL_JOURNAL_FORMAT + 1;
        pawl_segment_pack(block, &header);
        patch(t.dir_fd, "00000001.seg", 0, block, 4096);
        close(fd);
        cr_assert(eq(int, reopen(), PAWL_E_BAD_FORMAT));
        cr_expect(eq(str, t.report.file, "00000001.seg"));
        cr_expect(not(exists(t.dir_fd, "00000002.seg")));
        cr_expect(eq(int, pawl_journal_verify(t.dir_fd, NULL, NULL, NULL), PAWL_E_BAD_FORMAT));
    }
}

Test(journal_recovery, second_owner_is_kept_out_until_the_first_is_gone)
{
    ON_BOTH
    {
        int ready[2];
        cr_assert(eq(int, pipe(ready), 0));
        pid_t owner = fork();
        if (owner == 0) {
            struct pawl_io *io;
            struct pawl_journal *journal;
            char byte = 'x';
            if (pawl_io_open(PAWL_IO_SYSCALL, &io) != 0 ||
                pawl_journal_open(io, t.dir_fd, &t.options, &journal, NULL) != 0)
                _exit(1);
            if (write(ready[1], &byte, 1) != 1)
                _exit(1);
            pause();
            _exit(0);
        }
        char byte;
        cr_assert(eq(i64, read(ready[0], &byte, 1), 1));
        cr_expect(eq(int, reopen(), PAWL_E_BUSY));
        kill(owner, SIGKILL);
        cr_assert(eq(int, waitpid(owner, NULL, 0), owner));
        cr_assert(eq(int, reopen(), 0));
        shut(true);
        close(ready[0]);
        close(ready[1]);
    }
}

Test(journal_recovery, batch_is_there_as_a_whole_or_not_at_all)
{
    ON_BOTH
    {
        t.options.frame_bytes = 100;
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 1);
        uint8_t body[64];
        for (uint64_t number = 2; number <= 40; number++) { /* far beyond frame_bytes, one batch */
            fill_body(body, number, sizeof body);
            struct iovec iov = {body, sizeof body};
            cr_assert(eq(int, pawl_journal_append(t.journal, 7, 1, &iov, 1, NULL, NULL), 0));
        }
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        shut(false);
        flip_bit(t.dir_fd, "00000001.seg", frame_at(2) + 3000, 1);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.last_applied, 1), "its last bytes are gone, so all of it is");
        shut(true);
    }
}

Test(journal_recovery, files_of_unknown_name_stay_and_leftovers_of_a_crash_go)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 2);
        shut(true);
        close(openat(t.dir_fd, "notes.txt", O_CREAT | O_WRONLY, 0600));
        close(openat(t.dir_fd, "segment.new", O_CREAT | O_WRONLY, 0600));
        close(openat(t.dir_fd, "snapshot.new", O_CREAT | O_WRONLY, 0600));
        cr_assert(eq(int, reopen(), 0));
        cr_expect(exists(t.dir_fd, "notes.txt"));
        cr_expect(not(exists(t.dir_fd, "segment.new")));
        cr_expect(not(exists(t.dir_fd, "snapshot.new")));
        shut(true);
    }
}

static int count_record(void *ctx, const struct pawl_record *record, uint64_t place)
{
    (void)place;
    if (record->type == 7)
        ++*(int *)ctx;
    return 0;
}

Test(journal_recovery, dump_gives_each_record_without_owning_the_journal)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 9);
        int count = 0;
        cr_expect(eq(int, pawl_journal_dump(t.dir_fd, count_record, &count, NULL), 0));
        cr_expect(eq(int, count, 9));
        shut(true);
        struct pawl_journal_report report;
        cr_expect(eq(int, pawl_journal_verify(t.dir_fd, NULL, NULL, &report), 0));
        cr_expect(report.clean);
        cr_expect(eq(u64, report.last_lsn, 10));
    }
}

static void snapshot_of_everything(void)
{
    int before = t.witness.snapshot_count;
    cr_assert(eq(int, pawl_journal_snapshot_begin(t.journal, pawl_journal_last_lsn(t.journal)), 0));
    cr_assert(eq(int, pawl_journal_snapshot_append(t.journal, "state", 5), 0));
    cr_assert(eq(int, pawl_journal_snapshot_commit(t.journal), 0));
    while (t.witness.snapshot_count == before)
        cr_assert(ge(int, pawl_io_wait(t.io, UINT64_MAX), 0));
}

static bool pin_the_first(void *ctx, uint32_t segment_number)
{
    (void)ctx;
    return segment_number == 1;
}

/* Where it ends is written in its successor; that is gone. */
Test(journal_recovery, records_of_a_pinned_segment_are_found_after_the_segment_behind_it_has_gone)
{
    ON_BOTH
    {
        uint64_t lsn[40] = {0}, place[40] = {0};
        uint8_t body[1000];
        cr_assert(eq(int, reopen(), 0));
        for (uint64_t i = 0; i < 40; i++) {
            struct iovec iov = {body, sizeof body};
            fill_body(body, i + 1, sizeof body);
            cr_assert(eq(int, pawl_journal_append(t.journal, 7, 1, &iov, 1, &lsn[i], &place[i]), 0));
            cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
            if (pawl_journal_current_segment(t.journal) > 1)
                break;
        }
        for (int i = 0; i < 2; i++) { /* each start after a crash begins a segment: a short one */
            shut(false);
            cr_assert(eq(int, reopen(), 0));
        }
        snapshot_of_everything();
        snapshot_of_everything();
        uint32_t current = pawl_journal_current_segment(t.journal);
        cr_expect(ge(int, pawl_journal_release_before(t.journal, current, pin_the_first, NULL), 1));
        cr_expect(not(exists(t.dir_fd, "00000002.seg")));
        shut(true);
        cr_assert(eq(int, reopen(), 0));
        for (uint64_t i = 0; i < 40 && place[i] >> 32 == 1; i++) {
            struct pawl_record record;
            cr_assert(eq(int, pawl_journal_peek(t.journal, place[i], &record), 0));
            cr_expect(eq(u64, record.lsn, lsn[i]));
            fill_body(body, i + 1, sizeof body);
            cr_expect(eq(int, memcmp(record.body, body, sizeof body), 0));
        }
        shut(true);
    }
}

/* Of the newest snapshot, which has one chunk of 5 bytes. All that depends on it is made anew. */
static void set_snapshot_format(const char *name, uint32_t format)
{
    uint8_t file[120];
    uint64_t header_checksum, chunk_checksum, chain;
    int fd = openat(t.dir_fd, name, O_RDONLY | O_CLOEXEC);
    cr_assert(eq(i64, pread(fd, file, sizeof file, 0), sizeof file));
    close(fd);
    memcpy(file + 8, &format, 4);
    header_checksum = XXH3_64bits(file, 56);
    memcpy(file + 56, &header_checksum, 8);
    memcpy(&chunk_checksum, file + 64 + 16, 8);
    chain = XXH3_64bits_withSeed(&chunk_checksum, 8, header_checksum);
    memcpy(file + 96 + 16, &chain, 8);
    patch(t.dir_fd, name, 0, file, sizeof file);
}

Test(journal_recovery, snapshot_of_the_version_before_is_read_and_of_a_newer_one_refused_by_its_name)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 3);
        snapshot_of_everything();
        shut(true);
        set_snapshot_format("snapshot.1", 1);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.loaded_bytes, 5));
        cr_expect(eq(u64, t.report.snapshot_lsn, 3));
        shut(true);
        set_snapshot_format("snapshot.1", PAWL_SNAPSHOT_FORMAT + 1);
        cr_assert(eq(int, reopen(), PAWL_E_BAD_FORMAT));
        cr_expect(eq(str, t.report.file, "snapshot.1"));
        cr_expect(eq(str, t.report.reason, "written by a newer version of pawl"));
        memset(&t.report, 0, sizeof t.report);
        cr_expect(eq(int, pawl_journal_verify(t.dir_fd, NULL, NULL, &t.report), PAWL_E_BAD_FORMAT));
        cr_expect(eq(str, t.report.file, "snapshot.1"));
        cr_expect(eq(str, t.report.reason, "written by a newer version of pawl"), "it is not damaged");
        set_snapshot_format("snapshot.1", PAWL_SNAPSHOT_FORMAT);
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.loaded_bytes, 5));
        shut(true);
    }
}

/* Version 1 has no room for a first chunk that is neither of the core nor of the bus: whoever reads only that
 * must hear that this is newer, not that it is damaged. */
Test(journal_recovery, snapshot_that_says_when_it_was_written_is_not_of_the_first_version)
{
    ON_BOTH
    {
        uint32_t format;
        cr_assert(eq(int, reopen(), 0));
        commit_numbers(t.journal, 1, 1);
        snapshot_of_everything();
        shut(true);
        int fd = openat(t.dir_fd, "snapshot.1", O_RDONLY | O_CLOEXEC);
        cr_assert(eq(i64, pread(fd, &format, 4, 8), 4));
        close(fd);
        cr_expect(eq(u32, format, 2));
    }
}
