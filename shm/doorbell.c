/*
 * doorbell.c - the system-call half of the doorbell. Runs in: scheduler, workers.
 */
#include "shm/doorbell.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

int pawl_doorbell_open(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int pawl_doorbell_open_pipe(int *ring_fd_out, int *sleep_fd_out)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0)
        return -errno;
    *sleep_fd_out = fds[0];
    *ring_fd_out = fds[1];
    return 0;
}

void pawl_doorbell_write(int fd)
{
    uint64_t one = 1;
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void pawl_doorbell_clear(int fd)
{
    uint64_t counts[64]; /* a pipe holds one for each ring */
    while (read(fd, counts, sizeof counts) < 0 && errno == EINTR)
        ;
}
