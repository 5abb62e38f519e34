/*
 * small_loop.h - what of a scheduler writes snapshots, on a small disk: a journal, and cores that are empty.
 */
#ifndef PAWL_TESTS_SMALL_LOOP_H
#define PAWL_TESTS_SMALL_LOOP_H

#include <sys/eventfd.h>

#include "scheduler/backend.h"
#include "scheduler/loop.h"
#include "scheduler/snapshot.h"
#include "tests/unit/small_disk.h"

enum { FRAME_BYTES = 8 * SMALL_DISK_BLOCK };

struct small_loop {
    struct small_disk disk;
    struct witness witness;
    struct pawl_loop loop;
    struct pawl_scheduler_options options;
    struct pawl_io_request bell; /* something is always outstanding, as in a loop */
    char path[64];
    int dir_fd, bell_fd;
};

static struct small_loop t;

static inline void on_loop_snapshot(void *ctx, uint64_t lsn, int error)
{
    (void)ctx;
    t.witness.snapshot_count++;
    pawl_snapshot_done(&t.loop, lsn, error);
}

static inline void on_bell(struct pawl_io_request *request, int32_t result)
{
    (void)request;
    (void)result;
}

static inline void open_small_journal(void)
{
    struct pawl_journal_options options = options_of(&t.witness);
    options.on_snapshot = on_loop_snapshot;
    options.segment_bytes = 1 << 20;
    cr_assert(eq(int, pawl_journal_open(t.loop.io, t.dir_fd, &options, &t.loop.journal, NULL), 0));
}

static inline void set_up(void)
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
    open_small_journal();
}

static inline void tear_down(void)
{
    pawl_journal_close(t.loop.journal, false);
    pawl_bus_destroy(t.loop.bus);
    pawl_core_destroy(t.loop.core);
    pawl_io_close(t.disk.front.real);
    close(t.bell_fd);
    remove_dir(t.dir_fd, t.path);
}

static inline void append(uint64_t number, size_t bytes)
{
    static uint8_t body[FRAME_BYTES];
    struct iovec iov = {body, bytes};
    fill_body(body, number, (uint32_t)bytes);
    cr_assert(eq(int, pawl_journal_append(t.loop.journal, 7, 1, &iov, 1, NULL, NULL), 0));
    pawl_journal_cut(t.loop.journal);
}

#endif
