/*
 * doorbell.c - the system-call half of the doorbell. Runs in: scheduler, workers.
 */
#include "shm/doorbell.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int pawl_doorbell_open(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

void pawl_doorbell_write(int fd)
{
    uint64_t one = 1;
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void pawl_doorbell_clear(int fd)
{
    uint64_t count;
    while (read(fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
}
