/*
 * small_disk.h - a pawl_io in front of a real one whose disk has so many bytes and not one more: what files
 * have allocated is counted by inode. Others may take bytes of it, too: that is a smaller capacity.
 */
#ifndef PAWL_TESTS_SMALL_DISK_H
#define PAWL_TESTS_SMALL_DISK_H

#include "tests/unit/front_disk.h"

enum { SMALL_DISK_FILES = 256, SMALL_DISK_BLOCK = 4096 };

struct small_file {
    ino_t inode; /* 0: free */
    uint64_t bytes;
};

struct small_disk {
    struct front front;
    uint64_t capacity, used;
    bool greedy; /* somebody else takes what becomes free, at once */
    bool quota;  /* the file system has room without end; what may be used of it is not told */
    struct small_file files[SMALL_DISK_FILES];
};

static inline struct small_disk *small_disk_of(struct pawl_io *io)
{
    return (struct small_disk *)io;
}

static inline struct small_file *small_file_of(struct small_disk *disk, ino_t inode)
{
    struct small_file *unused = NULL;
    for (int i = 0; i < SMALL_DISK_FILES; i++) {
        if (disk->files[i].inode == inode)
            return &disk->files[i];
        if (disk->files[i].inode == 0 && !unused)
            unused = &disk->files[i];
    }
    cr_assert(ne(ptr, unused, NULL));
    unused->inode = inode;
    return unused;
}

static inline struct small_file *small_file_at(struct small_disk *disk, int fd)
{
    struct stat st;
    cr_assert(eq(int, fstat(fd, &st), 0));
    return small_file_of(disk, st.st_ino);
}

static inline void small_file_set(struct small_disk *disk, struct small_file *file, uint64_t bytes)
{
    if (disk->greedy && bytes < file->bytes)
        disk->capacity -= file->bytes - bytes;
    disk->used = disk->used - file->bytes + bytes;
    file->bytes = bytes;
}

/* May @fd reach to @end? Then it does. */
static inline bool small_disk_take(struct small_disk *disk, int fd, uint64_t end)
{
    struct small_file *file = small_file_at(disk, fd);
    end = (end + SMALL_DISK_BLOCK - 1) / SMALL_DISK_BLOCK * SMALL_DISK_BLOCK;
    if (end <= file->bytes)
        return true;
    if (disk->used - file->bytes + end > disk->capacity)
        return false;
    small_file_set(disk, file, end);
    return true;
}

static inline bool small_disk_takes(struct pawl_io *io, const struct pawl_io_request *request)
{
    return small_disk_take(small_disk_of(io), request->fd, request->byte_offset + request->bytes);
}

static inline int small_disk_commit(struct pawl_io *io, struct pawl_io_request *request)
{
    return small_disk_takes(io, request) ? front_commit(io, request)
                                         : front_refuse(io, request, PAWL_IO_FAILED_WRITE, -ENOSPC);
}

static inline int small_disk_write(struct pawl_io *io, struct pawl_io_request *request)
{
    return small_disk_takes(io, request) ? front_write(io, request)
                                         : front_refuse(io, request, PAWL_IO_FAILED_WRITE, -ENOSPC);
}

static inline int small_disk_open(struct pawl_io *io, int dir_fd, const char *name, int flags, mode_t mode)
{
    int fd = openat(dir_fd, name, flags | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    if (flags & O_TRUNC)
        small_file_set(small_disk_of(io), small_file_at(small_disk_of(io), fd), 0);
    return fd;
}

static inline int small_disk_unlink(struct pawl_io *io, int dir_fd, const char *name)
{
    struct stat st;
    if (fstatat(dir_fd, name, &st, 0) < 0)
        return -errno;
    struct small_file *file = small_file_of(small_disk_of(io), st.st_ino);
    small_file_set(small_disk_of(io), file, 0);
    file->inode = 0;
    return unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
}

static inline int small_disk_allocate(struct pawl_io *io, int fd, uint64_t bytes)
{
    if (!small_disk_take(small_disk_of(io), fd, bytes))
        return -ENOSPC;
    return fallocate(fd, 0, 0, (off_t)bytes) < 0 ? -errno : 0;
}

static inline int small_disk_truncate(struct pawl_io *io, int fd, uint64_t bytes)
{
    struct small_file *file = small_file_at(small_disk_of(io), fd);
    if (bytes < file->bytes)
        small_file_set(small_disk_of(io), file, bytes);
    return ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
}

static inline ssize_t small_disk_file_write(struct pawl_io *io, int fd, const void *bytes, size_t count,
                                            uint64_t byte_offset)
{
    if (!small_disk_take(small_disk_of(io), fd, byte_offset + count))
        return -ENOSPC;
    ssize_t written = pwrite(fd, bytes, count, (off_t)byte_offset);
    return written < 0 ? -errno : written;
}

static inline int small_disk_room(struct pawl_io *io, int dir_fd, uint64_t *bytes_out)
{
    (void)dir_fd;
    const struct small_disk *disk = small_disk_of(io);
    *bytes_out = disk->quota ? UINT64_C(1) << 40 : disk->capacity - disk->used;
    return 0;
}

static const struct pawl_io_ops small_disk_ops = {
    .name = "small",
    .commit = small_disk_commit,
    .write = small_disk_write,
    .fsync = front_fsync,
    .wait = front_wait,
    .file_open = small_disk_open,
    .file_unlink = small_disk_unlink,
    .file_allocate = small_disk_allocate,
    .file_truncate = small_disk_truncate,
    .file_write = small_disk_file_write,
    .file_room = small_disk_room,
};

#endif
