/*
 * segment.c - sealed memfds. Runs in: scheduler (create), workers and clients (attach; a worker never
 * creates).
 */
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/error.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

static int open_memfd(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* a kernel before 6.3 */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd < 0 ? -errno : fd;
}

int pawl_segment_create(enum pawl_segment_kind kind, const char *name, size_t bytes, bool allocate,
                        struct pawl_segment *segment_out)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    bytes = (bytes + page - 1) & ~(page - 1);
    int fd = open_memfd(name);
    if (fd < 0)
        return fd;
    int error = 0;
    if (ftruncate(fd, (off_t)bytes) < 0 || (allocate && fallocate(fd, 0, 0, (off_t)bytes) < 0)) {
        error = -errno;
        goto close_fd;
    }
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        error = -errno;
        goto close_fd;
    }
    madvise(base, bytes, MADV_DONTFORK);
    madvise(base, bytes, MADV_DONTDUMP);
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    if (kind == PAWL_SEGMENT_PRIVATE_WRITER)
        seals |= F_SEAL_FUTURE_WRITE;
    if (fcntl(fd, F_ADD_SEALS, seals) < 0) {
        error = -errno;
        goto unmap;
    }
    *segment_out = (struct pawl_segment){.base = base, .bytes = bytes, .fd = fd, .writable = true};
    return 0;
unmap:
    munmap(base, bytes);
close_fd:
    close(fd);
    return error;
}

int pawl_segment_attach(int fd, size_t bytes_min, bool writable, struct pawl_segment *segment_out)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || st.st_size <= 0 || (size_t)st.st_size < bytes_min)
        return PAWL_E_BAD_MESSAGE;
    void *base =
        mmap(NULL, (size_t)st.st_size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    madvise(base, (size_t)st.st_size, MADV_DONTFORK);
    *segment_out =
        (struct pawl_segment){.base = base, .bytes = (size_t)st.st_size, .fd = fd, .writable = writable};
    return 0;
}

void pawl_segment_close(struct pawl_segment *segment)
{
    if (segment->base)
        munmap(segment->base, segment->bytes);
    if (segment->fd >= 0 && segment->base)
        close(segment->fd);
    *segment = (struct pawl_segment){.fd = -1};
}
