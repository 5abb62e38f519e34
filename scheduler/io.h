/*
 * io.h - all input and output of the scheduler's one thread, as a table of operations.
 *
 * Runs in: the scheduler. Two implementations, chosen when the scheduler starts: io_uring, and plain system
 * calls (PAWL_IO=syscall, or a kernel that refuses io_uring). A third one is a test's: struct pawl_io_ops is
 * open so that a simulated disk can tear, drop and reorder. One thread owns a pawl_io; nothing here locks.
 *
 * Two halves:
 *  - requests complete later: submitted with a caller-owned struct pawl_io_request, whose done() runs inside
 *    pawl_io_wait() and nowhere else (never inside the submit call). The request, the iovec array and the
 * bytes that it names stay valid and untouched until done() runs. done() may submit again, the same request
 * too.
 *  - file calls finish before they return. They are for rare steps (open, rename, rotation, recovery).
 *
 * Errors are 0 or -errno everywhere.
 */
#ifndef PAWL_SCHEDULER_IO_H
#define PAWL_SCHEDULER_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct pawl_io;

enum pawl_io_kind {
    PAWL_IO_AUTO = 0,  /* $PAWL_IO (uring, syscall) if set, else uring, else syscall */
    PAWL_IO_URING = 1, /* no fallback: for tests */
    PAWL_IO_SYSCALL = 2,
};

/* Which half of a commit went wrong. */
enum pawl_io_failure {
    PAWL_IO_FAILED_NOTHING = 0,
    PAWL_IO_FAILED_WRITE = 1,       /* result is the write's -errno; nothing was synced */
    PAWL_IO_FAILED_SHORT_WRITE = 2, /* result is -EIO; some bytes landed; nothing was synced */
    PAWL_IO_FAILED_SYNC = 3,        /* result is the sync's -errno; the bytes may or may not be durable */
};

/* Zero it once, set done and ctx. The fields below `failure` belong to the implementation. */
struct pawl_io_request {
    /* result: commit, fsync, cancelled poll: 0 or -errno; write: bytes or -errno; poll: revents (> 0) or
     * -errno (-ECANCELED after poll_cancel); read8: 8, the value is in ->value, or -errno. */
    void (*done)(struct pawl_io_request *request, int32_t result);
    void *ctx;
    uint64_t value;
    enum pawl_io_failure failure;

    uint8_t op;
    uint8_t flags;
    bool in_place;       /* a commit that changes nothing but data: pawl_io_overwrite() */
    uint8_t outstanding; /* completions that still have to come */
    bool active;         /* submitted, done() has not run: pawl_io_active() */
    int fd;
    uint32_t events;
    int32_t write_result;
    int32_t result;
    const struct iovec *iov;
    uint32_t iov_count;
    uint64_t byte_offset;
    uint64_t bytes;
    struct iovec one; /* of pawl_io_write */
    struct pawl_io_request *next;
    struct pawl_io_request *previous;
};

struct pawl_io_ops {
    const char *name;
    void (*close)(struct pawl_io *io);

    /* requests */
    int (*commit)(struct pawl_io *io, struct pawl_io_request *request);
    int (*write)(struct pawl_io *io, struct pawl_io_request *request);
    int (*fsync)(struct pawl_io *io, struct pawl_io_request *request, bool datasync);
    int (*poll)(struct pawl_io *io, struct pawl_io_request *request);
    int (*poll_cancel)(struct pawl_io *io, struct pawl_io_request *request);
    int (*read8)(struct pawl_io *io, struct pawl_io_request *request);
    int (*wait)(struct pawl_io *io, uint64_t timeout_ns);

    /* file calls: NULL means the system's own (pawl_io_file_* below falls through) */
    int (*file_open)(struct pawl_io *io, int dir_fd, const char *name, int flags, mode_t mode);
    int (*file_close)(struct pawl_io *io, int fd);
    int (*file_rename)(struct pawl_io *io, int dir_fd, const char *from, const char *to);
    int (*file_unlink)(struct pawl_io *io, int dir_fd, const char *name);
    int (*file_allocate)(struct pawl_io *io, int fd, uint64_t bytes);
    int (*file_truncate)(struct pawl_io *io, int fd, uint64_t bytes);
    int (*file_sync)(struct pawl_io *io, int fd);
    ssize_t (*file_write)(struct pawl_io *io, int fd, const void *bytes, size_t count, uint64_t byte_offset);
    ssize_t (*file_read)(struct pawl_io *io, int fd, void *bytes, size_t count, uint64_t byte_offset);
    int (*file_room)(struct pawl_io *io, int dir_fd, uint64_t *bytes_out);
};

/* A test's implementation embeds this as its first member. */
struct pawl_io {
    const struct pawl_io_ops *ops;
};

/**
 * pawl_io_open - the I/O of this thread
 * @kind: PAWL_IO_AUTO outside tests
 *
 * With AUTO, io_uring that cannot be set up (ENOSYS, EPERM, ENOMEM, EMFILE) falls back to system calls.
 * The ring is not inherited by forked children (MADV_DONTFORK, close-on-exec).
 *
 * Return: 0, -errno; -EINVAL for an unknown $PAWL_IO.
 */
int pawl_io_open(enum pawl_io_kind kind, struct pawl_io **io_out);

/* pawl_io_close - drops what is still outstanding without running done(), after the kernel let go of the
 * buffers. */
void pawl_io_close(struct pawl_io *io);

/* pawl_io_is_room_error - an errno of a full disk, a quota or a limit of file sizes? */
bool pawl_io_is_room_error(int error);

/* pawl_io_name - "uring", "syscall" or a test's. */
const char *pawl_io_name(const struct pawl_io *io);

static inline bool pawl_io_active(const struct pawl_io_request *request)
{
    return request->active;
}

/**
 * pawl_io_commit - a gathered write, and then an fdatasync that runs only if every byte was written
 *
 * done() runs once, after both halves: 0, or -errno with request->failure naming the half. A short write is
 * -EIO with PAWL_IO_FAILED_SHORT_WRITE: what the file holds there is unknown. Several commits may be in
 * flight; each vouches for its own bytes only.
 *
 * Return: 0 or -errno (then done() will not run). So for all submit calls.
 */
int pawl_io_commit(struct pawl_io *io, struct pawl_io_request *request, int fd, const struct iovec *iov,
                   uint32_t iov_count, uint64_t byte_offset);

/**
 * pawl_io_overwrite - pawl_io_commit() of bytes over blocks that were written and synced before
 *
 * Through O_DIRECT, on a file system that syncs a write with RWF_DSYNC: so neither the file's length nor
 * where its blocks are changes, and the write and its sync may be one request of the kernel's. Which half
 * failed is then not known: PAWL_IO_FAILED_WRITE is said of a lack of space only, PAWL_IO_FAILED_SYNC of
 * everything else.
 */
int pawl_io_overwrite(struct pawl_io *io, struct pawl_io_request *request, int fd, const struct iovec *iov,
                      uint32_t iov_count, uint64_t byte_offset);

/* pawl_io_write - one write, not synced; result: bytes written (may be short) or -errno. */
int pawl_io_write(struct pawl_io *io, struct pawl_io_request *request, int fd, const void *bytes,
                  size_t count, uint64_t byte_offset);

int pawl_io_fsync(struct pawl_io *io, struct pawl_io_request *request, int fd, bool datasync);

/* pawl_io_poll - one-shot; events as in poll(2). Sockets, pidfds, timerfds. The fd stays open until done().
 */
int pawl_io_poll(struct pawl_io *io, struct pawl_io_request *request, int fd, uint32_t events);

/* pawl_io_poll_cancel - done() still runs, in a later wait: -ECANCELED, or the events if they came first.
 * -ENOENT if the request is not active. Works for read8 too. */
int pawl_io_poll_cancel(struct pawl_io *io, struct pawl_io_request *request);

/* pawl_io_read8 - waits until an eventfd (blocking or not) is readable, and reads it into request->value. */
int pawl_io_read8(struct pawl_io *io, struct pawl_io_request *request, int event_fd);

/**
 * pawl_io_wait - submit what is queued, sleep until something completed, run done() of all that did
 * @timeout_ns: relative, at most this long (counts suspended time when above ten seconds); 0 only reaps;
 *              UINT64_MAX sleeps until a completion. Nothing outstanding and UINT64_MAX: -EDEADLK.
 *
 * Return: how many done() ran (0: timeout or signal), or -errno.
 */
int pawl_io_wait(struct pawl_io *io, uint64_t timeout_ns);

/* File calls: finish before they return; retried on EINTR; 0, a count or -errno. */
int pawl_io_file_open(struct pawl_io *io, int dir_fd, const char *name, int flags,
                      mode_t mode); /* fd, O_CLOEXEC */
int pawl_io_file_close(struct pawl_io *io, int fd);
int pawl_io_file_rename(struct pawl_io *io, int dir_fd, const char *from, const char *to);
int pawl_io_file_unlink(struct pawl_io *io, int dir_fd, const char *name);
int pawl_io_file_allocate(struct pawl_io *io, int fd, uint64_t bytes); /* fallocate from 0, size changes */
int pawl_io_file_truncate(struct pawl_io *io, int fd, uint64_t bytes);
int pawl_io_file_sync(struct pawl_io *io, int fd); /* fsync */
ssize_t pawl_io_file_write(struct pawl_io *io, int fd, const void *bytes, size_t count, uint64_t byte_offset);
ssize_t pawl_io_file_read(struct pawl_io *io, int fd, void *bytes, size_t count, uint64_t byte_offset);
int pawl_io_file_room(struct pawl_io *io, int dir_fd,
                      uint64_t *bytes_out); /* free bytes of the file system */

/* pawl_io_files - a table with the file calls only, the system's own: for offline readers. Never closed. */
struct pawl_io *pawl_io_files(void);

/* The implementations. */
int pawl_io_uring_open(struct pawl_io **io_out);
int pawl_io_syscall_open(struct pawl_io **io_out);

#endif
