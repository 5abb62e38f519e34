/*
 * segment.h - shared memory: one memfd, its size sealed, mapped once.
 *
 * `create` makes and maps; `attach` checks and maps, and writes nothing. Two functions, two names.
 */
#ifndef PAWL_SHM_SEGMENT_H
#define PAWL_SHM_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>

enum { PAWL_ISOLATION_BYTES = 128 }; /* two cache lines: the adjacent-line prefetcher pairs them */

enum pawl_segment_kind {
    PAWL_SEGMENT_PRIVATE_WRITER, /* the creator's present mapping stays writable, every later one is read-only
                                  */
    PAWL_SEGMENT_SHARED_WRITERS, /* whoever has the descriptor may map it writable */
};

struct pawl_segment {
    void *base;
    size_t bytes;
    int fd;
    bool writable;
};

/**
 * pawl_segment_create - a memfd of @bytes zeroes (rounded up to pages), mapped read-write
 * @name:      for /proc/PID/maps
 * @allocate:  take every page now: a full /dev/shm or memory limit is told here, not by SIGBUS later
 *
 * Seals: SHRINK, GROW, SEAL always; PRIVATE_WRITER also FUTURE_WRITE. The mapping is not inherited by fork
 * (MADV_DONTFORK: an inherited one would stay writable) and not dumped.
 *
 * Return: 0 or -errno. Close with pawl_segment_close().
 */
int pawl_segment_create(enum pawl_segment_kind kind, const char *name, size_t bytes, bool allocate,
                        struct pawl_segment *segment_out);

/**
 * pawl_segment_attach - map what another process made
 * @fd:        taken over on success
 * @bytes_min: less is refused
 *
 * Checks that it is sealed against shrinking, so that no later touch can fault.
 *
 * Return: 0, PAWL_E_BAD_MESSAGE (too small, not sealed), -errno.
 */
int pawl_segment_attach(int fd, size_t bytes_min, bool writable, struct pawl_segment *segment_out);

void pawl_segment_close(struct pawl_segment *segment); /* unmap and close; a zeroed one with fd -1 is fine */

#endif
