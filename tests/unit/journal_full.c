/*
 * journal_full.c - a disk that has so many bytes and not one more: who is refused when, what settlements and
 * snapshots live on, and starts where nothing is left. On both kinds of I/O.
 */
#include "tests/unit/small_disk.h"

enum {
    DISK_BYTES = 16 << 20,
    SEGMENT_BYTES = 4 << 20,
    RESERVE_BYTES = 256 << 10, /* of each file */
    WORK_BYTES = 32 << 10,
};

static struct {
    struct small_disk disk;
    struct pawl_io *io;
    struct pawl_journal *journal;
    struct pawl_journal_report report;
    struct witness witness;
    struct pawl_journal_options options;
    char path[64];
    int dir_fd;
    uint64_t next;         /* number of the next record */
    uint64_t now_ns;       /* of idle() */
    uint32_t work_segment; /* the last that holds work: pinned, and all before it */
} t;

static void begin(int kind)
{
    memset(&t, 0, sizeof t);
    t.dir_fd = new_dir(t.path);
    t.disk.front.io.ops = &small_disk_ops;
    t.disk.capacity = DISK_BYTES;
    cr_assert(eq(int, io_kind_open(kind, &t.disk.front.real), 0));
    t.io = &t.disk.front.io;
    t.options = options_of(&t.witness);
    t.options.segment_bytes = SEGMENT_BYTES;
    t.options.reserve_bytes = RESERVE_BYTES;
    t.options.frame_bytes = WORK_BYTES;
    t.next = 1;
    t.now_ns = 1;
}

static int reopen(void)
{
    memset(&t.witness, 0, sizeof t.witness);
    return pawl_journal_open(t.io, t.dir_fd, &t.options, &t.journal, &t.report);
}

static void crash(void)
{
    cr_assert(eq(int, pawl_journal_close(t.journal, false), 0));
}

static void end(void)
{
    pawl_io_close(t.disk.front.real);
    remove_dir(t.dir_fd, t.path);
}

#define ON_BOTH for (int kind = (begin(0), 0); kind < 2; end(), kind++, kind < 2 ? begin(kind) : (void)0)

TestSuite(journal_full, .timeout = 120);

static void append(uint32_t bytes)
{
    static uint8_t body[TEST_BODY_MAX];
    struct iovec iov = {body, bytes};
    fill_body(body, t.next++, bytes);
    cr_assert(eq(int, pawl_journal_append(t.journal, 7, 1, &iov, 1, NULL, NULL), 0));
    pawl_journal_cut(t.journal);
}

static void settle(void)
{
    append(64);
    cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
}

/* As long as work is taken. Of every eighth turn all is made durable: nine frames wait then. */
static void fill_with_work(void)
{
    for (int turn = 1; pawl_journal_has_room(t.journal, WORK_BYTES, PAWL_JOURNAL_FOR_WORK) == 0; turn++) {
        append(WORK_BYTES);
        if (turn % 8 == 0)
            cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
    }
    cr_assert(eq(int, pawl_journal_sync(t.journal), 0), "what was taken up finds room");
    t.work_segment = pawl_journal_current_segment(t.journal);
}

static int reserve_files(void)
{
    char name[32];
    int count = 0;
    for (int i = 1; i <= PAWL_JOURNAL_RESERVE_FILES; i++) {
        snprintf(name, sizeof name, "reserve.%d", i);
        count += exists(t.dir_fd, name);
    }
    return count;
}

/* Somebody else takes all that is free. */
static void others_fill_the_disk(void)
{
    t.disk.capacity = t.disk.used;
}

static void a_second_passes(void)
{
    t.now_ns += 1000000001;
    pawl_journal_idle(t.journal, t.now_ns);
}

static bool is_work(void *ctx, uint32_t segment)
{
    (void)ctx;
    return segment <= t.work_segment;
}

static void snapshot_of(const char *chunk, size_t bytes, int chunks)
{
    int before = t.witness.snapshot_count;
    cr_assert(eq(int, pawl_journal_snapshot_begin(t.journal, pawl_journal_last_lsn(t.journal)), 0));
    for (int i = 0; i < chunks; i++) {
        int error;
        while ((error = pawl_journal_snapshot_append(t.journal, chunk, bytes)) == -EAGAIN)
            cr_assert(ge(int, pawl_io_wait(t.io, 10000000), 0));
        cr_assert(eq(int, error, 0));
    }
    cr_assert(eq(int, pawl_journal_snapshot_commit(t.journal), 0));
    while (t.witness.snapshot_count == before)
        cr_assert(ge(int, pawl_io_wait(t.io, 10000000), 0));
    cr_assert(eq(int, t.witness.snapshot_error, 0), "on a full disk too");
    cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
}

static void take_snapshot(void)
{
    static const char chunk[1000] = "state";
    snapshot_of(chunk, sizeof chunk, 1);
}

/* Two snapshots: what both cover and nobody pins goes. */
static void let_go(void)
{
    take_snapshot();
    take_snapshot();
    uint32_t current = pawl_journal_current_segment(t.journal);
    cr_assert(ge(int, pawl_journal_release_before(t.journal, current, is_work, NULL), 0));
}

static void expect_whole(void)
{
    cr_expect(not(t.witness.altered));
    cr_expect(not(t.witness.disordered));
    cr_expect(eq(int, pawl_journal_verify(t.dir_fd, NULL, NULL, NULL), 0));
}

static void expect_all_of_it_after_a_crash(void)
{
    crash();
    cr_assert(eq(int, reopen(), 0));
    cr_expect(eq(u64, t.witness.last_applied, t.next - 1));
    expect_whole();
    crash();
}

static void settle_for_long(void)
{
    uint32_t segment = pawl_journal_current_segment(t.journal);
    for (int i = 0; i < 1500; i++) { /* a block each: three times the reserve */
        settle();
        cr_assert(eq(int, (int)t.witness.room, PAWL_JOURNAL_TIGHT), "%d", i);
        if (pawl_journal_current_segment(t.journal) != segment && pawl_journal_is_pressed(t.journal))
            let_go();
        segment = pawl_journal_current_segment(t.journal);
    }
}

Test(journal_full, work_is_refused_while_what_was_taken_up_still_fits_beside_the_reserve)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        fill_with_work();
        cr_expect(eq(int, (int)t.witness.room, PAWL_JOURNAL_TIGHT));
        cr_expect(eq(u32, t.witness.moved_count, 0), "no write ever found no space");
        cr_expect(eq(int, reserve_files(), PAWL_JOURNAL_RESERVE_FILES));
        cr_expect(not(le(u64, t.next, 250)), "and not much too early");
        expect_all_of_it_after_a_crash();
    }
}

Test(journal_full, settlements_and_snapshots_live_on_the_reserve_without_end)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        fill_with_work();
        others_fill_the_disk();
        t.disk.greedy = true;
        settle_for_long();
        expect_all_of_it_after_a_crash();
    }
}

/* What acts publish stays, and nothing that others hold on to is given back: they get no more then, and
 * settlements go on. */
Test(journal_full, acts_leave_settlements_and_snapshots_what_these_live_on)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        fill_with_work();
        others_fill_the_disk();
        t.disk.greedy = true;
        int acts = 0;
        for (; pawl_journal_has_room(t.journal, WORK_BYTES, PAWL_JOURNAL_FOR_ACTS) == 0; acts++) {
            append(WORK_BYTES);
            if (acts % 3 == 0)
                cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
            cr_assert(eq(int, (int)t.witness.room, PAWL_JOURNAL_TIGHT));
        }
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        cr_expect(ge(int, acts, RESERVE_BYTES / WORK_BYTES), "they are let through");
        t.work_segment = pawl_journal_current_segment(t.journal);
        settle_for_long();
        expect_all_of_it_after_a_crash();
    }
}

Test(journal_full, acts_go_on_without_end_while_what_they_ack_gives_back_as_much)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        fill_with_work();
        others_fill_the_disk();
        t.disk.greedy = true;
        for (int i = 0; i < 400; i++) {
            if (pawl_journal_has_room(t.journal, WORK_BYTES / 4, PAWL_JOURNAL_FOR_ACTS) != 0) {
                t.work_segment = 0; /* all is consumed by now */
                let_go();
            }
            cr_assert(eq(int, pawl_journal_has_room(t.journal, WORK_BYTES / 4, PAWL_JOURNAL_FOR_ACTS), 0));
            append(WORK_BYTES / 4);
            cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
            cr_assert(eq(int, (int)t.witness.room, PAWL_JOURNAL_TIGHT));
        }
        expect_all_of_it_after_a_crash();
    }
}

Test(journal_full, an_act_that_no_file_of_the_reserve_holds_is_refused)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, RESERVE_BYTES, PAWL_JOURNAL_FOR_ACTS), 0));
        fill_with_work();
        cr_expect(eq(int, pawl_journal_has_room(t.journal, WORK_BYTES, PAWL_JOURNAL_FOR_ACTS), 0));
        cr_expect(
            eq(int, pawl_journal_has_room(t.journal, RESERVE_BYTES, PAWL_JOURNAL_FOR_ACTS), PAWL_E_NO_SPACE));
        crash();
    }
}

Test(journal_full, snapshot_larger_than_a_file_of_the_reserve_is_lent_all_of_it)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        fill_with_work();
        others_fill_the_disk();
        static const char chunk[RESERVE_BYTES] = "state";
        pawl_journal_lend_reserve(t.journal, false);
        cr_expect(eq(int, reserve_files(), PAWL_JOURNAL_RESERVE_FILES), "nothing says that it is needed");
        pawl_journal_lend_reserve(t.journal, true);
        cr_expect(eq(int, reserve_files(), 0));
        snapshot_of(chunk, sizeof chunk, 4);
        a_second_passes();
        a_second_passes(); /* what it left is the reserve again */
        cr_expect(ge(int, reserve_files(), 2));
        pawl_journal_lend_reserve(t.journal, false);
        cr_expect(eq(int, reserve_files(), 0), "the next one is as large");
        snapshot_of(chunk, sizeof chunk, 3);
        crash();
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.loaded_bytes, 3 * sizeof chunk));
        expect_whole();
        crash();
    }
}

/* It says where records lie, and those that are not durable yet may be moved: nobody would find them there.
 */
Test(journal_full, snapshot_whose_records_are_moved_before_they_are_durable_does_not_become_good)
{
    ON_BOTH
    {
        static uint8_t body[WORK_BYTES];
        struct iovec iov = {body, sizeof body};
        uint64_t place;
        cr_assert(eq(int, reopen(), 0));
        settle();
        pawl_journal_secure(t.journal);
        t.disk.capacity = t.disk.used + 2 * SMALL_DISK_BLOCK; /* for the snapshot */
        cr_assert(eq(int, pawl_journal_append(t.journal, 7, 1, &iov, 1, NULL, &place), 0));
        pawl_journal_cut(t.journal);
        cr_assert(eq(int, pawl_journal_snapshot_begin(t.journal, pawl_journal_last_lsn(t.journal)), 0));
        uint64_t told = pawl_journal_resolve(t.journal, place);
        cr_assert(eq(int, pawl_journal_snapshot_append(t.journal, "state", 5), 0));
        cr_assert(eq(int, pawl_journal_snapshot_commit(t.journal), 0));
        while (t.witness.snapshot_count == 0)
            cr_assert(ge(int, pawl_io_wait(t.io, 10000000), 0));
        cr_assert(ne(u64, pawl_journal_resolve(t.journal, place), told), "it is moved");
        cr_expect(eq(int, t.witness.snapshot_error, -ECANCELED));
        cr_expect(not(exists(t.dir_fd, "snapshot.1")));
        take_snapshot();
        crash();
    }
}

/* What is on its way would be written into whatever its file has become. */
Test(journal_full, snapshot_that_is_given_up_while_it_is_written_leaves_its_file_to_nobody)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        fill_with_work();
        others_fill_the_disk();
        static const char chunk[RESERVE_BYTES / 2] = "state";
        cr_assert(eq(int, pawl_journal_snapshot_begin(t.journal, pawl_journal_last_lsn(t.journal)), 0));
        cr_expect(eq(int, reserve_files(), PAWL_JOURNAL_RESERVE_FILES - 1));
        cr_assert(eq(int, pawl_journal_snapshot_append(t.journal, chunk, sizeof chunk), 0));
        pawl_journal_snapshot_abort(t.journal);
        cr_expect(eq(int, reserve_files(), PAWL_JOURNAL_RESERVE_FILES - 1));
        for (int i = 0; i < 200; i++)
            settle();
        expect_whole();
        let_go();
        crash();
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.report.last_lsn, pawl_journal_durable_lsn(t.journal)));
        expect_whole();
        crash();
    }
}

static void expect_what_waits_to_leave_too_little_space_alone(void)
{
    append(WORK_BYTES);
    cr_expect(eq(int, pawl_journal_sync(t.journal), PAWL_E_NO_SPACE));
    t.disk.capacity += WORK_BYTES;
    uint64_t used = t.disk.used;
    for (int i = 0; i < 5; i++) {
        a_second_passes();
        cr_expect(eq(int, pawl_journal_sync(t.journal), PAWL_E_NO_SPACE));
    }
    cr_expect(eq(u64, t.disk.used, used));
    cr_expect(eq(int, (int)t.witness.room, PAWL_JOURNAL_FULL));
    t.disk.capacity += 2 * SMALL_DISK_BLOCK; /* headers of the segment, the frame and the record */
    a_second_passes();
    cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
    crash();
    cr_assert(eq(int, reopen(), 0));
    cr_expect(eq(u64, t.witness.last_applied, 2));
    expect_whole();
    crash();
}

/* It would be eaten up by the headers of segments that hold nothing. */
Test(journal_full, space_too_small_for_what_waits_first_is_left_alone)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        settle();
        others_fill_the_disk();
        expect_what_waits_to_leave_too_little_space_alone();
    }
}

/* The free space of the file system says nothing then. */
Test(journal_full, space_of_a_quota_too_small_for_what_waits_first_is_left_alone)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        settle();
        t.disk.quota = true;
        others_fill_the_disk();
        expect_what_waits_to_leave_too_little_space_alone();
    }
}

Test(journal_full, starts_on_a_full_disk_give_back_what_they_took)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        fill_with_work();
        others_fill_the_disk();
        for (int i = 0; i < 40; i++) { /* five times as many as the reserve has files */
            settle();
            crash();
            cr_assert(eq(int, reopen(), 0));
            cr_expect(eq(u64, t.witness.last_applied, t.next - 1));
        }
        settle();
        cr_expect(eq(int, t.witness.failed_count, 0));
        expect_whole();
        crash();
    }
}

Test(journal_full, all_is_taken_again_when_what_fills_the_disk_was_consumed)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        fill_with_work();
        for (int i = 0; i < 100; i++)
            settle();
        t.work_segment = 0; /* nobody pins anything */
        let_go();
        a_second_passes();
        a_second_passes();
        cr_expect(eq(int, (int)t.witness.room, PAWL_JOURNAL_ROOMY));
        cr_expect(eq(int, pawl_journal_has_room(t.journal, WORK_BYTES, PAWL_JOURNAL_FOR_WORK), 0));
        cr_expect(eq(int, reserve_files(), PAWL_JOURNAL_RESERVE_FILES));
        crash();
        cr_assert(eq(int, reopen(), 0));
        expect_whole();
        crash();
    }
}

Test(journal_full, a_clean_close_on_a_full_disk_keeps_the_reserve_for_the_next_owner)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        fill_with_work();
        others_fill_the_disk();
        settle();
        cr_assert(eq(int, pawl_journal_close(t.journal, true), 0));
        cr_expect(ge(int, reserve_files(), 1));
        others_fill_the_disk();
        cr_assert(eq(int, reopen(), 0));
        settle();
        t.disk.capacity += DISK_BYTES;
        a_second_passes();
        a_second_passes();
        cr_expect(eq(int, (int)t.witness.room, PAWL_JOURNAL_ROOMY));
        cr_assert(eq(int, pawl_journal_close(t.journal, true), 0));
        cr_expect(eq(int, reserve_files(), 0));
    }
}

/* ---- no room, and no reserve ---- */

static bool is_direct(void)
{
    struct pawl_journal_stats stats;
    pawl_journal_stats(t.journal, &stats);
    return stats.direct;
}

Test(journal_full, start_without_room_for_a_frame_knows_all_and_records_when_there_is_room)
{
    ON_BOTH
    {
        cr_assert(eq(int, reopen(), 0));
        for (int i = 0; i < 3; i++)
            settle(); /* nothing vouches for the last */
        bool direct = is_direct();
        crash();
        others_fill_the_disk();
        t.disk.capacity += SMALL_DISK_BLOCK; /* a segment's header, but no frame */
        for (int i = 0; i < 3; i++) {
            cr_assert(eq(int, reopen(), direct ? 0 : -ENOSPC));
            if (!direct)
                break;
            cr_expect(eq(u64, t.witness.last_applied, 3));
            cr_expect(eq(u64, pawl_journal_durable_lsn(t.journal), 3));
            uint64_t number;
            cr_expect(eq(i64, pawl_journal_read(t.journal, t.witness.place[3], 3, 0, &number, 8), 8));
            cr_expect(eq(u64, number, 3), "where it was before");
            cr_expect(eq(int, (int)t.witness.room, PAWL_JOURNAL_FULL));
            crash();
        }
        if (direct)
            cr_assert(eq(int, reopen(), 0));
        append(64);
        cr_expect(eq(int, pawl_journal_sync(t.journal), PAWL_E_NO_SPACE));
        a_second_passes();
        cr_expect(eq(u64, t.witness.durable_lsn, 0), "nothing is told of that is not on the disk");
        t.disk.capacity += 16 << 10;
        a_second_passes();
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        cr_expect(eq(u64, t.witness.durable_lsn, 4));
        cr_expect(not(le(u32, pawl_journal_current_segment(t.journal), 1)),
                  "never is the old one gone on with");
        crash();
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.last_applied, 4));
        expect_whole();
        crash();
    }
}

Test(journal_full, what_cannot_be_trusted_and_finds_no_room_is_no_start_and_the_bytes_are_told)
{
    ON_BOTH
    {
        t.options.buffered = true;
        cr_assert(eq(int, reopen(), 0));
        for (int i = 0; i < 3; i++)
            settle();
        crash();
        others_fill_the_disk();
        cr_expect(eq(int, reopen(), -ENOSPC));
        cr_expect(eq(str, t.report.reason, "8192 bytes are needed"));
        t.disk.capacity += 8192;
        cr_assert(eq(int, reopen(), 0), "and these are enough");
        cr_expect(eq(u64, t.witness.last_applied, 3));
        crash();
    }
}

Test(journal_full, space_behind_the_good_frames_is_used_for_a_start)
{
    ON_BOTH
    {
        t.options.buffered = true; /* so that what nothing vouches for must be written again */
        cr_assert(eq(int, reopen(), 0));
        for (int i = 0; i < 3; i++)
            settle();
        crash();
        static const uint8_t torn[3 * SMALL_DISK_BLOCK] = {0}; /* no frame */
        uint64_t end = size_of(t.dir_fd, "00000001.seg");
        int fd = openat(t.dir_fd, "00000001.seg", O_WRONLY | O_CLOEXEC);
        cr_assert(eq(i64, small_disk_file_write(t.io, fd, torn, sizeof torn, end), sizeof torn));
        close(fd);
        others_fill_the_disk();
        cr_assert(eq(int, reopen(), 0));
        cr_expect(eq(u64, t.witness.last_applied, 3));
        cr_expect(eq(u64, size_of(t.dir_fd, "00000001.seg"), end - SMALL_DISK_BLOCK),
                  "it ends where its successor says");
        settle();
        expect_whole();
        crash();
    }
}
