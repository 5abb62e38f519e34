/*
 * snapshot_close.c - the snapshot before a close, on a disk that has little left.
 */
#include <sys/eventfd.h>

#include "scheduler/backend.h"
#include "scheduler/loop.h"
#include "scheduler/snapshot.h"
#include "tests/unit/small_disk.h"

enum { MANY_RECORDS = 1000000, FRAME_BYTES = 8 * SMALL_DISK_BLOCK };

static struct {
    struct small_disk disk;
    struct witness witness;
    struct pawl_loop loop;
    struct pawl_scheduler_options options;
    struct pawl_io_request bell; /* something is always outstanding, as in a loop */
    char path[64];
    int dir_fd, bell_fd;
} t;

static void on_loop_snapshot(void *ctx, uint64_t lsn, int error)
{
    (void)ctx;
    t.witness.snapshot_count++;
    pawl_snapshot_done(&t.loop, lsn, error);
}

static void on_bell(struct pawl_io_request *request, int32_t result)
{
    (void)request;
    (void)result;
}

static void set_up(void)
{
    memset(&t, 0, sizeof t);
    t.dir_fd = new_dir(t.path);
    t.disk.front.io.ops = &small_disk_ops;
    t.disk.capacity = 16 << 20;
    cr_assert(eq(int, io_kind_open(0, &t.disk.front.real), 0));
    t.bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    t.bell.done = on_bell;
    cr_assert(eq(int, pawl_io_read8(t.disk.front.real, &t.bell, t.bell_fd), 0));

    struct pawl_core_options core_options;
    pawl_core_options_default(&core_options);
    pawl_bus_limits_default(&t.loop.config.bus);
    t.loop.io = &t.disk.front.io;
    t.loop.options = &t.options;
    cr_assert(eq(int, pawl_core_create(&core_options, &pawl_loop_effects, &t.loop, &t.loop.core), 0));
    cr_assert(eq(int, pawl_bus_create(&t.loop.config.bus, &pawl_journal_backend, &t.loop, &t.loop.bus), 0));
    struct pawl_journal_options options = options_of(&t.witness);
    options.on_snapshot = on_loop_snapshot;
    options.segment_bytes = 1 << 20;
    cr_assert(eq(int, pawl_journal_open(t.loop.io, t.dir_fd, &options, &t.loop.journal, NULL), 0));
    t.loop.replayed_count = MANY_RECORDS; /* it is worth a snapshot */
}

static void tear_down(void)
{
    pawl_journal_close(t.loop.journal, false);
    pawl_bus_destroy(t.loop.bus);
    pawl_core_destroy(t.loop.core);
    pawl_io_close(t.disk.front.real);
    close(t.bell_fd);
    remove_dir(t.dir_fd, t.path);
}

TestSuite(snapshot_close, .init = set_up, .fini = tear_down, .timeout = 60);

static void append(uint64_t number, size_t bytes)
{
    static uint8_t body[FRAME_BYTES];
    struct iovec iov = {body, bytes};
    fill_body(body, number, (uint32_t)bytes);
    cr_assert(eq(int, pawl_journal_append(t.loop.journal, 7, 1, &iov, 1, NULL, NULL), 0));
    pawl_journal_cut(t.loop.journal);
}

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
