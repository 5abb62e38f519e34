/*
 * io_kinds.h - both kinds of I/O, for tests that hold on each.
 */
#ifndef PAWL_TESTS_UNIT_IO_KINDS_H
#define PAWL_TESTS_UNIT_IO_KINDS_H

#include <errno.h>

#include "scheduler/io.h"

enum { IO_KINDS = 2 };

/* Opens the one of this index. Where io_uring is forbidden, as in many containers, it is plain system calls
 * both times: there that is all that pawl can use. 0, or -errno. */
static inline int io_kind_open(int index, struct pawl_io **io_out)
{
    static const enum pawl_io_kind kinds[IO_KINDS] = {PAWL_IO_SYSCALL, PAWL_IO_URING};
    int error = pawl_io_open(kinds[index], io_out);
    return error == -EPERM || error == -ENOSYS ? pawl_io_open(PAWL_IO_SYSCALL, io_out) : error;
}

#endif
