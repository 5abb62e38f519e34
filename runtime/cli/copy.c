/*
 * copy.c - bytes to a descriptor.
 *
 * Runs in: the command. A write that ^C interrupts goes on; after the second ^C it ends with -EINTR, so that
 * a reader who reads no more cannot hold the command.
 */
#include "runtime/cli/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <xxhash.h>

#include "runtime/cli/signals.h"
#include "shm/error.h"

enum { COPY_BYTES = 256 << 10 };

int pawl_write_all(int fd, const void *bytes, size_t n)
{
    const char *at = bytes;
    while (n != 0) {
        ssize_t written = write(fd, at, n);
        if (written < 0 && errno == EAGAIN) { /* somebody made the terminal non-blocking */
            struct pollfd ready = {.fd = fd, .events = POLLOUT};
            poll(&ready, 1, -1);
            continue;
        }
        if (written < 0 && errno == EINTR && pawl_signals_level() < PAWL_SIGNAL_INTERRUPT)
            continue;
        if (written < 0)
            return -errno;
        at += written;
        n -= (size_t)written;
    }
    return 0;
}

static int64_t copy_by_hand(int source_fd, uint64_t byte_offset, uint64_t bytes_max, int fd)
{
    char *buffer = malloc(COPY_BYTES);
    int64_t copied = 0, error = 0;
    if (buffer == NULL)
        return -ENOMEM;
    while (error == 0 && (uint64_t)copied < bytes_max) {
        uint64_t left = bytes_max - (uint64_t)copied;
        ssize_t got = pread(source_fd, buffer, left < COPY_BYTES ? (size_t)left : COPY_BYTES,
                            (off_t)(byte_offset + (uint64_t)copied));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            error = got < 0 ? -errno : 0;
            break;
        }
        error = pawl_write_all(fd, buffer, (size_t)got);
        copied += got;
    }
    free(buffer);
    return error != 0 ? error : copied;
}

int64_t pawl_copy_file(int source_fd, uint64_t byte_offset, uint64_t bytes_max, int fd)
{
    int64_t copied = 0;
    while ((uint64_t)copied < bytes_max) {
        off_t offset = (off_t)(byte_offset + (uint64_t)copied);
        uint64_t left = bytes_max - (uint64_t)copied;
        ssize_t got = sendfile(fd, source_fd, &offset, left < INT_MAX / 2 ? (size_t)left : INT_MAX / 2);
        if (got < 0 && errno == EINTR && pawl_signals_level() < PAWL_SIGNAL_INTERRUPT)
            continue;
        if (got < 0 && (errno == EPIPE || errno == EINTR))
            return -errno;
        if (got < 0) { /* O_APPEND files and some descriptors do not take it */
            int64_t rest = copy_by_hand(source_fd, (uint64_t)offset, left, fd);
            return rest < 0 ? rest : copied + rest;
        }
        if (got == 0)
            break;
        copied += got;
    }
    return copied;
}

int pawl_check_output(int fd, const struct pawl_output_file *file)
{
    char *buffer = malloc(COPY_BYTES);
    XXH3_state_t *state = XXH3_createState();
    uint64_t at = 0;
    int error = buffer && state ? 0 : -ENOMEM;
    if (state)
        XXH3_64bits_reset(state);
    while (error == 0) {
        ssize_t got = pread(fd, buffer, COPY_BYTES, (off_t)at);
        if (got < 0 && errno == EINTR && pawl_signals_level() < PAWL_SIGNAL_INTERRUPT)
            continue;
        if (got < 0)
            error = -errno;
        if (got <= 0)
            break;
        XXH3_64bits_update(state, buffer, (size_t)got);
        at += (uint64_t)got;
    }
    if (error == 0 && (at != file->bytes || XXH3_64bits_digest(state) != file->xxh3))
        error = PAWL_E_DAMAGED;
    XXH3_freeState(state);
    free(buffer);
    return error;
}
