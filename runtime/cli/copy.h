/*
 * copy.h - bytes to a descriptor, whole or with an error, from memory or from a file.
 */
#ifndef PAWL_RUNTIME_CLI_COPY_H
#define PAWL_RUNTIME_CLI_COPY_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/run_output.h"
#include "shm/task.h"

/** pawl_write_all - blocks until all is written. Return: 0 or -errno (-EPIPE: nobody reads any more; -EINTR:
 * ^C twice). */
int pawl_write_all(int fd, const void *bytes, size_t n);

/**
 * pawl_copy_file - from @source_fd at @byte_offset to the end (at most @bytes_max) to @fd
 *
 * In the kernel where it can be done there. Return: bytes copied, or -errno.
 */
int64_t pawl_copy_file(int source_fd, uint64_t byte_offset, uint64_t bytes_max, int fd);

/** pawl_check_output - is it what its attempt printed? Return: 0, PAWL_E_DAMAGED or -errno. */
int pawl_check_output(int fd, const struct pawl_output_file *file);

#endif
