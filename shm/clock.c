/*
 * clock.c - the clocks. Runs in: every process but never in scheduler/core.
 */
#include "shm/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
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

/* Bytes read, or -errno. */
static ssize_t read_text(const char *path, char *text, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, text, bytes - 1);
    if (n < 0)
        n = -errno;
    close(fd);
    text[n > 0 ? n : 0] = 0;
    return n;
}

/* By how much a time namespace moves the boot clock: 0 outside of one. */
static uint64_t namespace_offset_ns(void)
{
    char text[256], *at;
    if (read_text("/proc/self/timens_offsets", text, sizeof text) <= 0 || !(at = strstr(text, "boottime")))
        return 0;
    at += strlen("boottime");
    uint64_t seconds = (uint64_t)strtoll(at, &at, 10);
    return seconds * 1000000000u + (uint64_t)strtoll(at, NULL, 10);
}

int pawl_clock_boot_id(uint8_t out[16])
{
    char text[38];
    memset(out, 0, 16);
    ssize_t n = read_text("/proc/sys/kernel/random/boot_id", text, sizeof text);
    if (n < 0)
        return (int)n;
    if (n < 36)
        return -EIO;
    int at = 0;
    for (const char *c = text; *c && at < 32; c++) {
        int value = digit(*c);
        if (value < 0)
            continue;
        out[at / 2] = (uint8_t)(out[at / 2] << 4 | value);
        at++;
    }
    if (at != 32) {
        memset(out, 0, 16);
        return -EIO;
    }
    uint64_t offset_ns = namespace_offset_ns();
    for (int i = 0; i < 8; i++)
        out[i] ^= (uint8_t)(offset_ns >> 8 * i);
    return 0;
}
