/*
 * faulty_disk.h - a pawl_io in front of a real one that fails when it is told to: commits by their number,
 * files' syncs, reads, and the making of files.
 */
#ifndef PAWL_TESTS_FAULTY_DISK_H
#define PAWL_TESTS_FAULTY_DISK_H

#include "tests/unit/front_disk.h"

struct faulty {
    struct front front;
    int32_t result; /* of a failing commit */
    enum pawl_io_failure failure;
    int commits_until_failure; /* 0: this one; negative: none fails */
    int failures_left;
    int sync_error;            /* of file syncs */
    int open_error;            /* when a file would be created */
    int snapshot_error;        /* when a snapshot is opened */
    int snapshots_until_error; /* 0: this one */
    int allocate_error;        /* of a file of the reserve */
    int read_error;            /* of reads behind a segment's header */
    size_t read_count;         /* that are for more bytes than this */
    uint64_t read_bad_at;      /* if not 0: what lies here and behind is not given, all before is */
    uint64_t room;
};

static inline struct faulty *faulty_of(struct pawl_io *io)
{
    return (struct faulty *)io;
}

static inline int faulty_commit(struct pawl_io *io, struct pawl_io_request *request)
{
    struct faulty *self = faulty_of(io);
    if (self->failures_left > 0 && self->commits_until_failure-- <= 0) {
        self->failures_left--;
        if (self->failure == PAWL_IO_FAILED_SHORT_WRITE)
            cr_assert(eq(i64, pwrite(request->fd, request->iov->iov_base, 4096, (off_t)request->byte_offset),
                         4096));
        return front_refuse(io, request, self->failure, self->result);
    }
    return front_commit(io, request);
}

static inline int faulty_open(struct pawl_io *io, int dir_fd, const char *name, int flags, mode_t mode)
{
    if ((flags & O_CREAT) && faulty_of(io)->open_error)
        return faulty_of(io)->open_error;
    if (!(flags & O_CREAT) && strncmp(name, "snapshot.", 9) == 0 && faulty_of(io)->snapshot_error &&
        faulty_of(io)->snapshots_until_error-- <= 0)
        return faulty_of(io)->snapshot_error;
    int fd = openat(dir_fd, name, flags | O_CLOEXEC, mode);
    return fd < 0 ? -errno : fd;
}

static inline int faulty_sync(struct pawl_io *io, int fd)
{
    return faulty_of(io)->sync_error ? faulty_of(io)->sync_error : fsync(fd) < 0 ? -errno : 0;
}

static inline ssize_t faulty_read(struct pawl_io *io, int fd, void *bytes, size_t count, uint64_t byte_offset)
{
    const struct faulty *self = faulty_of(io);
    uint64_t bad_at = self->read_bad_at;
    if (self->read_error && bad_at == 0 && byte_offset > 0 && count > self->read_count)
        return self->read_error;
    if (self->read_error && bad_at > byte_offset && count > bad_at - byte_offset)
        count = bad_at - byte_offset;
    ssize_t got = pread(fd, bytes, count, (off_t)byte_offset);
    if (self->read_error && bad_at > 0 && byte_offset >= bad_at && got > 0)
        return self->read_error;
    return got < 0 ? -errno : got;
}

static inline int faulty_allocate(struct pawl_io *io, int fd, uint64_t bytes)
{
    if (faulty_of(io)->allocate_error && bytes >= 16 << 10)
        return faulty_of(io)->allocate_error;
    return fallocate(fd, 0, 0, (off_t)bytes) < 0 ? -errno : 0;
}

static inline int faulty_room(struct pawl_io *io, int dir_fd, uint64_t *bytes_out)
{
    (void)dir_fd;
    *bytes_out = faulty_of(io)->room;
    return 0;
}

static const struct pawl_io_ops faulty_ops = {
    .name = "faulty",
    .commit = faulty_commit,
    .write = front_write,
    .fsync = front_fsync,
    .wait = front_wait,
    .file_open = faulty_open,
    .file_sync = faulty_sync,
    .file_read = faulty_read,
    .file_allocate = faulty_allocate,
    .file_room = faulty_room,
};

#endif
