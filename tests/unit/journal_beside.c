/*
 * journal_beside.c - a journal that is read while its owner works: what is given back, written over or
 * written on meanwhile is never called damage, and damage still is. On both kinds of I/O.
 */
#include "tests/unit/journal_support.h"

#include "scheduler/frame.h"

static struct {
    struct pawl_io *io;
    struct pawl_journal *journal;
    struct witness witness;
    struct pawl_journal_options options;
    char path[64];
    int dir_fd;
    void (*act)(void); /* what the owner does once the reader has seen something; then NULL */
    char first_damage[160];
    uint64_t last_lsn;
    uint64_t count;
} t;

static void begin(int kind)
{
    memset(&t, 0, sizeof t);
    t.dir_fd = new_dir(t.path);
    cr_assert(eq(int, io_kind_open(kind, &t.io), 0));
    t.options = options_of(&t.witness);
    t.options.recycled_max = 2;
}

static void open_journal(void)
{
    cr_assert(eq(int, pawl_journal_open(t.io, t.dir_fd, &t.options, &t.journal, NULL), 0));
}

static void end(void)
{
    cr_assert(eq(int, pawl_journal_close(t.journal, true), 0));
    pawl_io_close(t.io);
    remove_dir(t.dir_fd, t.path);
}

#define ON_BOTH for (int kind = (begin(0), 0); kind < 2; end(), kind++, kind < 2 ? begin(kind) : (void)0)

static void act_once(void)
{
    void (*act)(void) = t.act;
    t.act = NULL;
    if (act)
        act();
}

static void on_finding(void *ctx, const struct pawl_journal_finding *finding)
{
    (void)ctx;
    if (finding->kind == PAWL_JOURNAL_DAMAGE && !t.first_damage[0])
        snprintf(t.first_damage, sizeof t.first_damage, "%s: %.100s", finding->file, finding->text);
    act_once();
}

static int on_record(void *ctx, const struct pawl_record *record, uint64_t place)
{
    (void)ctx;
    (void)place;
    cr_assert(not(le(u64, record->lsn, t.last_lsn)));
    t.last_lsn = record->lsn;
    t.count++;
    act_once();
    return 0;
}

static void take_snapshot(void)
{
    int before = t.witness.snapshot_count;
    cr_assert(eq(int, pawl_journal_snapshot_begin(t.journal, pawl_journal_last_lsn(t.journal)), 0));
    cr_assert(eq(int, pawl_journal_snapshot_commit(t.journal), 0));
    for (int i = 0; i < 200 && t.witness.snapshot_count == before; i++)
        pawl_io_wait(t.io, 10000000);
    cr_assert(eq(int, t.witness.snapshot_count, before + 1));
    cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
}

/* Gives back all that two new snapshots cover, and writes over what it keeps of that. */
static void give_back(void)
{
    take_snapshot();
    commit_numbers(t.journal, 301, 301);
    take_snapshot();
    uint32_t current = pawl_journal_current_segment(t.journal);
    cr_assert(not(le(int, pawl_journal_release_before(t.journal, current, NULL, NULL), 3)));
    commit_numbers(t.journal, 302, 330);
}

TestSuite(journal_beside, .timeout = 300);

Test(journal_beside, what_an_owner_gives_back_while_it_is_verified_is_not_called_damage)
{
    ON_BOTH
    {
        open_journal();
        commit_numbers(t.journal, 1, 50);
        take_snapshot();
        commit_numbers(t.journal, 51, 300);
        t.act = give_back;
        struct pawl_journal_report report;
        cr_expect(eq(int, pawl_journal_verify(t.dir_fd, on_finding, NULL, &report), 0));
        cr_expect(eq(str, t.first_damage, ""));
        cr_expect(not(le(u64, report.snapshot_lsn, 300)),
                  "the snapshots are those that there are at the end");
        cr_expect(eq(ptr, t.act, NULL));
    }
}

Test(journal_beside, what_an_owner_gives_back_while_it_is_dumped_is_left_out)
{
    ON_BOTH
    {
        open_journal();
        commit_numbers(t.journal, 1, 300);
        t.act = give_back;
        cr_expect(eq(int, pawl_journal_dump(t.dir_fd, on_record, NULL, NULL), 0));
        cr_expect(ge(u64, t.count, 1));
        cr_expect(lt(u64, t.count, 300), "not one segment had gone");
    }
}

static uint8_t large[300000];

static void append_large(int count)
{
    for (int i = 0; i < count; i++) {
        struct iovec iov = {large, sizeof large};
        cr_assert(eq(int, pawl_journal_append(t.journal, 7, 1, &iov, 1, NULL, NULL), 0));
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
    }
}

/* More than the reader has in memory: it sees what vouches, and not yet what is vouched for. */
static void write_on(void)
{
    append_large(12);
}

Test(journal_beside, a_frame_that_was_written_since_it_was_read_is_read_again_and_not_called_damage)
{
    ON_BOTH
    {
        t.options.segment_bytes = 64 << 20;
        open_journal();
        commit_numbers(t.journal, 1, 3);
        char name[] = "00000001.seg";
        int fd = openat(t.dir_fd, name, O_WRONLY | O_CLOEXEC); /* blocks that it wrote in an earlier life */
        cr_assert(eq(int, ftruncate(fd, 8 << 20), 0));
        close(fd);
        t.act = write_on;
        cr_expect(eq(int, pawl_journal_dump(t.dir_fd, on_record, NULL, NULL), 0));
        cr_expect(eq(u64, t.last_lsn, pawl_journal_durable_lsn(t.journal)));
    }
}

Test(journal_beside, damage_is_named_beside_an_owner_too)
{
    ON_BOTH
    {
        open_journal();
        commit_numbers(t.journal, 1, 2);
        uint64_t place;
        struct iovec iov = {large, 5000};
        cr_assert(eq(int, pawl_journal_append(t.journal, 7, 1, &iov, 1, NULL, &place), 0));
        cr_assert(eq(int, pawl_journal_sync(t.journal), 0));
        commit_numbers(t.journal, 4, 60);
        flip_bit(t.dir_fd, "00000001.seg", 3 * 4096 + 200, 3);
        struct pawl_journal_report report;
        cr_expect(eq(int, pawl_journal_verify(t.dir_fd, on_finding, NULL, &report), PAWL_E_DAMAGED));
        cr_expect(eq(str, report.file, "00000001.seg"));
        cr_expect(eq(u64, report.byte_offset, 3 * 4096));
    }
}
