/*
 * faulty_journal.h - a journal in a directory of its own, over a disk that can be made to fail; on both kinds
 * of I/O.
 */
#ifndef PAWL_TESTS_FAULTY_JOURNAL_H
#define PAWL_TESTS_FAULTY_JOURNAL_H

#include "tests/unit/faulty_disk.h"

static struct {
    struct faulty disk;
    struct pawl_io *io;
    struct pawl_journal *journal;
    struct pawl_journal_report report;
    struct witness witness;
    struct pawl_journal_options options;
    char path[64];
    int dir_fd;
} t;

static inline void begin(int kind)
{
    memset(&t, 0, sizeof t);
    t.dir_fd = new_dir(t.path);
    t.disk.front.io.ops = &faulty_ops;
    t.disk.room = 1 << 30;
    cr_assert(eq(int, io_kind_open(kind, &t.disk.front.real), 0));
    t.io = &t.disk.front.io;
    t.options = options_of(&t.witness);
}

static inline int reopen(void)
{
    memset(&t.witness, 0, sizeof t.witness);
    return pawl_journal_open(t.io, t.dir_fd, &t.options, &t.journal, &t.report);
}

static inline void shut(bool clean)
{
    cr_assert(eq(int, pawl_journal_close(t.journal, clean), 0));
}

static inline void end(void)
{
    pawl_io_close(t.disk.front.real);
    remove_dir(t.dir_fd, t.path);
}

#define ON_BOTH for (int kind = (begin(0), 0); kind < 2; end(), kind++, kind < 2 ? begin(kind) : (void)0)

#endif
