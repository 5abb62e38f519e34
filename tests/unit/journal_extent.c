/* Rules of zeros that are written ahead of small frames, and of frames that are written over them. On both
 * kinds of I/O. */
#include "tests/unit/front_disk.h"

static const enum pawl_io_kind kinds[] = {PAWL_IO_SYSCALL, PAWL_IO_URING};

/* A disk that keeps back or fails the writing of zeros. */
struct watched {
    struct front front;
    int overwrites, commits, zeros; /* asked for so far: frames over written blocks, other frames, zeros */
    bool keep_back;
    enum pawl_io_failure failure;
    struct pawl_io_request *kept;
};

static struct {
    struct watched disk;
    struct pawl_journal *journal;
    struct witness witness;
    struct pawl_journal_options options;
    char path[64];
    int dir_fd;
} t;

static struct watched *of(struct pawl_io *io)
{
    return (struct watched *)io;
}

static int watched_commit(struct pawl_io *io, struct pawl_io_request *request)
{
    struct watched *self = of(io);
    bool is_zeros = ((const uint8_t *)request->iov->iov_base)[0] == 0;
    self->zeros += is_zeros;
    self->overwrites += !is_zeros && request->in_place;
    self->commits += !is_zeros && !request->in_place;
    if (is_zeros && (self->keep_back || self->failure)) {
        self->kept = request;
        return 0;
    }
    return front_commit(io, request);
}

static int watched_wait(struct pawl_io *io, uint64_t timeout_ns)
{
    struct watched *self = of(io);
    struct pawl_io_request *kept = self->kept;
    if (!kept || self->keep_back)
        return front_wait(io, kept ? 0 : timeout_ns);
    self->kept = NULL;
    kept->active = false;
    kept->failure = self->failure;
    kept->done(kept, self->failure == PAWL_IO_FAILED_NOTHING ? 0
                     : self->failure == PAWL_IO_FAILED_WRITE ? -ENOSPC
                                                             : -EIO);
    return 1;
}

static const struct pawl_io_ops watched_ops = {
    .name = "watched",
    .commit = watched_commit,
    .write = front_write,
    .fsync = front_fsync,
    .wait = watched_wait,
};

static void begin(int kind)
{
    memset(&t, 0, sizeof t);
    t.disk.front.io.ops = &watched_ops;
    cr_assert(eq(int, pawl_io_open(kinds[kind], &t.disk.front.real), 0));
    t.dir_fd = new_dir(t.path);
    t.options = options_of(&t.witness);
    t.options.segment_bytes = 256 << 10;
    t.options.ahead_from_bytes = 16 << 10;
    t.options.ahead_bytes = 64 << 10;
    t.options.in_place = true;
    cr_assert(eq(int, pawl_journal_open(&t.disk.front.io, t.dir_fd, &t.options, &t.journal, NULL), 0));
}

static void end(void)
{
    pawl_io_close(t.disk.front.real);
    remove_dir(t.dir_fd, t.path);
}

#define ON_BOTH for (int kind = (begin(0), 0); kind < 2; end(), kind++, kind < 2 ? begin(kind) : (void)0)

/* Return: the next number. */
static uint64_t commit_until_zeros_are_kept_back(void)
{
    uint64_t number = 1;
    t.disk.keep_back = true;
    for (; !t.disk.kept; number++)
        commit_numbers(t.journal, number, number);
    return number;
}

/* What a start finds: everything up to @last, in order. */
static void expect_found(uint64_t last)
{
    struct pawl_journal_report report;
    memset(&t.witness, 0, sizeof t.witness);
    cr_assert(eq(int, pawl_journal_open(&t.disk.front.io, t.dir_fd, &t.options, &t.journal, &report), 0),
              "%s", report.reason);
    cr_expect(eq(u64, t.witness.last_applied, last));
    cr_expect(not(t.witness.altered || t.witness.disordered));
    cr_assert(eq(int, pawl_journal_close(t.journal, false), 0));
}

TestSuite(journal_extent, .timeout = 300);

Test(journal_extent, small_frames_are_written_over_zeros_once_there_are_some)
{
    ON_BOTH
    {
        commit_numbers(t.journal, 1, 8);
        cr_expect(eq(int, t.disk.zeros, 1));
        int commits = t.disk.commits;
        cr_expect(eq(int, t.disk.overwrites, 5));
        cr_expect(ge(u64, size_of(t.dir_fd, "00000001.seg"), 64 << 10));
        commit_numbers(t.journal, 9, 24); /* the next zeros were written before these needed them */
        cr_expect(eq(int, t.disk.zeros, 2));
        cr_expect(eq(int, t.disk.commits, commits));
        cr_assert(eq(int, pawl_journal_close(t.journal, false), 0));
        expect_found(24);
    }
}

Test(journal_extent, a_short_journal_and_one_of_large_frames_stay_as_long_as_what_they_hold)
{
    ON_BOTH
    {
        commit_numbers(t.journal, 1, 1);
        cr_expect(eq(u64, size_of(t.dir_fd, "00000001.seg"), 8192));
        static uint8_t body[100 << 10];
        struct iovec iov = {body, sizeof body};
        cr_assert(eq(int, pawl_journal_append(t.journal, 9, 1, &iov, 1, NULL, NULL), 0));
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        cr_expect(eq(int, t.disk.zeros, 0));
        cr_assert(eq(int, pawl_journal_close(t.journal, false), 0));
    }
}

Test(journal_extent, a_frame_waits_for_zeros_that_would_be_written_at_its_place)
{
    ON_BOTH
    {
        uint64_t number = commit_until_zeros_are_kept_back();
        int commits = t.disk.commits;
        append_numbers(t.journal, number, number);
        cr_assert(eq(int, pawl_journal_flush(t.journal), 0));
        while (pawl_io_wait(&t.disk.front.io, 0) > 0)
            ;
        cr_expect(eq(int, t.disk.commits + t.disk.overwrites, commits), "zeros would be written over it");
        t.disk.keep_back = false;
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        cr_expect(eq(int, t.disk.overwrites, 1));
        cr_assert(eq(int, pawl_journal_close(t.journal, false), 0));
        expect_found(number);
    }
}

Test(journal_extent, zeros_for_which_there_is_no_space_cost_nobody_anything)
{
    ON_BOTH
    {
        t.disk.failure = PAWL_IO_FAILED_WRITE;
        commit_numbers(t.journal, 1, 20);
        cr_expect(eq(int, t.disk.zeros, 1), "tried once in this segment");
        cr_expect(eq(int, t.disk.overwrites, 0));
        cr_expect(eq(int, t.witness.failed_count, 0));
        cr_expect(eq(int, pawl_journal_room(t.journal), PAWL_JOURNAL_ROOMY));
        cr_assert(eq(int, pawl_journal_close(t.journal, false), 0));
        expect_found(20);
    }
}

/* That sync was to carry the file's length to the disk; the next one would say that there is nothing to do.
 */
Test(journal_extent, failed_sync_of_zeros_is_fail_stop)
{
    ON_BOTH
    {
        t.disk.failure = PAWL_IO_FAILED_SYNC;
        for (uint64_t number = 1; number < 20 && t.witness.failed_count == 0; number++) {
            append_numbers(t.journal, number, number);
            (void)pawl_journal_sync(t.journal);
            if (t.disk.kept)
                (void)pawl_io_wait(&t.disk.front.io, 0);
        }
        cr_expect(eq(int, t.witness.failed, PAWL_E_SYNC_FAILED));
        (void)pawl_journal_close(t.journal, false);
    }
}

Test(journal_extent, a_segment_ends_and_the_next_begins_while_zeros_are_on_their_way)
{
    ON_BOTH
    {
        uint64_t number = commit_until_zeros_are_kept_back();
        append_numbers(t.journal, number, number + 9);
        cr_assert(eq(int, pawl_journal_flush(t.journal), 0));
        t.disk.keep_back = false;
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        number += 10;
        while (pawl_journal_current_segment(t.journal) < 3)
            commit_numbers(t.journal, number, number), number++;
        cr_assert(eq(int, pawl_journal_close(t.journal, false), 0));
        expect_found(number - 1);
    }
}

Test(journal_extent, a_clean_close_leaves_no_zeros_and_the_next_life_writes_some_again)
{
    ON_BOTH
    {
        commit_numbers(t.journal, 1, 12);
        cr_assert(eq(int, pawl_journal_close(t.journal, true), 0));
        cr_expect(lt(u64, size_of(t.dir_fd, "00000001.seg"), 100 << 10));
        int zeros = t.disk.zeros, overwrites = t.disk.overwrites;
        memset(&t.witness, 0, sizeof t.witness);
        cr_assert(eq(int, pawl_journal_open(&t.disk.front.io, t.dir_fd, &t.options, &t.journal, NULL), 0));
        commit_numbers(t.journal, 13, 20);
        cr_expect(eq(int, t.disk.zeros, zeros + 1));
        cr_expect(not(le(int, t.disk.overwrites, overwrites)));
        cr_assert(eq(int, pawl_journal_close(t.journal, false), 0));
        expect_found(20);
    }
}

Test(journal_extent, a_file_system_that_is_not_known_to_sync_a_write_gets_a_sync_of_its_own)
{
    ON_BOTH
    {
        char path[64];
        int dir_fd = new_dir_in("/dev/shm", path);
        cr_assert(eq(int, pawl_journal_close(t.journal, false), 0));
        t.options.in_place = false;
        cr_assert(eq(int, pawl_journal_open(&t.disk.front.io, dir_fd, &t.options, &t.journal, NULL), 0));
        t.disk.commits = 0;
        commit_numbers(t.journal, 1, 20);
        cr_expect(eq(int, t.disk.zeros + t.disk.overwrites, 0));
        cr_expect(eq(int, t.disk.commits, 20));
        cr_assert(eq(int, pawl_journal_close(t.journal, false), 0));
        remove_dir(dir_fd, path);
    }
}
