/*
 * clock.c - the clocks. Runs in: every process but never in scheduler/core.
 */
#include "shm/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts); /* cannot fail for these three */
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t pawl_clock_monotonic_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t pawl_clock_boottime_ns(void)
{
    return read_clock(CLOCK_BOOTTIME);
}

uint64_t pawl_clock_realtime_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int pawl_clock_boot_id(uint8_t out[16])
{
    char text[37] = {0};
    memset(out, 0, 16);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n != 36)
        return -EIO;
    int at = 0;
    for (const char *c = text; *c && at < 32; c++) {
        int value = digit(*c);
        if (value < 0)
            continue;
        out[at / 2] = (uint8_t)(out[at / 2] << 4 | value);
        at++;
    }
    return at == 32 ? 0 : -EIO;
}
