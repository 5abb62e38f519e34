/*
 * io.c - the front of the I/O table: which implementation, checks, and the system's own file calls.
 *
 * Runs in: the scheduler. The two implementations are io_uring.c and io_syscall.c.
 */
#include "scheduler/io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

int pawl_io_open(enum pawl_io_kind kind, struct pawl_io **io_out)
{
    if (kind == PAWL_IO_AUTO) {
        const char *wanted = getenv("PAWL_IO");
        if (wanted && *wanted) {
            if (strcmp(wanted, "syscall") == 0)
                return pawl_io_syscall_open(io_out);
            if (strcmp(wanted, "uring") != 0 && strcmp(wanted, "auto") != 0)
                return -EINVAL;
        }
        int error = pawl_io_uring_open(io_out);
        return error == 0 ? 0 : pawl_io_syscall_open(io_out);
    }
    return kind == PAWL_IO_URING ? pawl_io_uring_open(io_out) : pawl_io_syscall_open(io_out);
}

void pawl_io_close(struct pawl_io *io)
{
    if (io)
        io->ops->close(io);
}

const char *pawl_io_name(const struct pawl_io *io)
{
    return io->ops->name;
}

/* Fields of an earlier use must not leak into this one. */
static int prepare(struct pawl_io_request *request, int fd)
{
    if (request->active || !request->done)
        return -EBUSY;
    if (fd < 0)
        return -EBADF;
    request->failure = PAWL_IO_FAILED_NOTHING;
    request->fd = fd;
    request->flags = 0;
    request->outstanding = 0;
    request->write_result = 0;
    request->result = 0;
    request->next = NULL;
    request->previous = NULL;
    return 0;
}

bool pawl_io_is_room_error(int error)
{
    return error == -ENOSPC || error == -EDQUOT || error == -EFBIG;
}

static int started(struct pawl_io_request *request, int error)
{
    request->active = error == 0;
    return error;
}

static int commit(struct pawl_io *io, struct pawl_io_request *request, int fd, const struct iovec *iov,
                  uint32_t iov_count, uint64_t byte_offset, bool in_place)
{
    int error = prepare(request, fd);
    if (error)
        return error;
    request->in_place = in_place;
    request->iov = iov;
    request->iov_count = iov_count;
    request->byte_offset = byte_offset;
    request->bytes = 0;
    for (uint32_t i = 0; i < iov_count; i++)
        request->bytes += iov[i].iov_len;
    if (request->bytes == 0 || request->bytes > INT32_MAX)
        return -EINVAL;
    return started(request, io->ops->commit(io, request));
}

int pawl_io_commit(struct pawl_io *io, struct pawl_io_request *request, int fd, const struct iovec *iov,
                   uint32_t iov_count, uint64_t byte_offset)
{
    return commit(io, request, fd, iov, iov_count, byte_offset, false);
}

int pawl_io_overwrite(struct pawl_io *io, struct pawl_io_request *request, int fd, const struct iovec *iov,
                      uint32_t iov_count, uint64_t byte_offset)
{
    return commit(io, request, fd, iov, iov_count, byte_offset, true);
}

int pawl_io_write(struct pawl_io *io, struct pawl_io_request *request, int fd, const void *bytes,
                  size_t count, uint64_t byte_offset)
{
    int error = prepare(request, fd);
    if (error)
        return error;
    if (count == 0 || count > INT32_MAX)
        return -EINVAL;
    request->one = (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = count};
    request->iov = &request->one;
    request->iov_count = 1;
    request->byte_offset = byte_offset;
    request->bytes = count;
    return started(request, io->ops->write(io, request));
}

int pawl_io_fsync(struct pawl_io *io, struct pawl_io_request *request, int fd, bool datasync)
{
    int error = prepare(request, fd);
    return error ? error : started(request, io->ops->fsync(io, request, datasync));
}

int pawl_io_poll(struct pawl_io *io, struct pawl_io_request *request, int fd, uint32_t events)
{
    int error = prepare(request, fd);
    if (error)
        return error;
    request->events = events;
    return started(request, io->ops->poll(io, request));
}

int pawl_io_poll_cancel(struct pawl_io *io, struct pawl_io_request *request)
{
    return request->active ? io->ops->poll_cancel(io, request) : -ENOENT;
}

int pawl_io_read8(struct pawl_io *io, struct pawl_io_request *request, int event_fd)
{
    int error = prepare(request, event_fd);
    return error ? error : started(request, io->ops->read8(io, request));
}

int pawl_io_wait(struct pawl_io *io, uint64_t timeout_ns)
{
    return io->ops->wait(io, timeout_ns);
}

int pawl_io_file_open(struct pawl_io *io, int dir_fd, const char *name, int flags, mode_t mode)
{
    if (io->ops->file_open)
        return io->ops->file_open(io, dir_fd, name, flags, mode);
    int fd;
    do {
        fd = openat(dir_fd, name, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

int pawl_io_file_close(struct pawl_io *io, int fd)
{
    if (io->ops->file_close)
        return io->ops->file_close(io, fd);
    return close(fd) < 0 ? -errno : 0;
}

int pawl_io_file_rename(struct pawl_io *io, int dir_fd, const char *from, const char *to)
{
    if (io->ops->file_rename)
        return io->ops->file_rename(io, dir_fd, from, to);
    return renameat(dir_fd, from, dir_fd, to) < 0 ? -errno : 0;
}

int pawl_io_file_unlink(struct pawl_io *io, int dir_fd, const char *name)
{
    if (io->ops->file_unlink)
        return io->ops->file_unlink(io, dir_fd, name);
    return unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
}

int pawl_io_file_allocate(struct pawl_io *io, int fd, uint64_t bytes)
{
    if (io->ops->file_allocate)
        return io->ops->file_allocate(io, fd, bytes);
    int result;
    do {
        result = fallocate(fd, 0, 0, (off_t)bytes);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

int pawl_io_file_truncate(struct pawl_io *io, int fd, uint64_t bytes)
{
    if (io->ops->file_truncate)
        return io->ops->file_truncate(io, fd, bytes);
    return ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
}

int pawl_io_file_sync(struct pawl_io *io, int fd)
{
    if (io->ops->file_sync)
        return io->ops->file_sync(io, fd);
    return fsync(fd) < 0 ? -errno : 0;
}

ssize_t pawl_io_file_write(struct pawl_io *io, int fd, const void *bytes, size_t count, uint64_t byte_offset)
{
    if (io->ops->file_write)
        return io->ops->file_write(io, fd, bytes, count, byte_offset);
    ssize_t written;
    do {
        written = pwrite(fd, bytes, count, (off_t)byte_offset);
    } while (written < 0 && errno == EINTR);
    return written < 0 ? -errno : written;
}

ssize_t pawl_io_file_read(struct pawl_io *io, int fd, void *bytes, size_t count, uint64_t byte_offset)
{
    if (io->ops->file_read)
        return io->ops->file_read(io, fd, bytes, count, byte_offset);
    ssize_t got;
    do {
        got = pread(fd, bytes, count, (off_t)byte_offset);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

int pawl_io_file_room(struct pawl_io *io, int dir_fd, uint64_t *bytes_out)
{
    if (io->ops->file_room)
        return io->ops->file_room(io, dir_fd, bytes_out);
    struct statvfs room;
    if (fstatvfs(dir_fd, &room) < 0)
        return -errno;
    *bytes_out = (uint64_t)room.f_bavail * room.f_frsize;
    return 0;
}

struct pawl_io *pawl_io_files(void)
{
    static const struct pawl_io_ops files_ops = {.name = "files"};
    static struct pawl_io files = {.ops = &files_ops};
    return &files;
}
