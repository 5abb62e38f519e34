/*
 * log_segment.h - task memory: a pool of sealed memfds that the scheduler fills and workers read in place.
 *
 * The pool belongs to the scheduler's private memory; only the bytes are shared, read-only to everybody else.
 * A segment is refilled when nothing in it is outstanding: readers read in place until they have settled.
 */
#ifndef PAWL_SHM_LOG_SEGMENT_H
#define PAWL_SHM_LOG_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/segment.h"

enum { PAWL_LOG_SEGMENT_BYTES = 1 << 20, PAWL_LOG_SEGMENTS_MAX = 4096 };

struct pawl_log_segment {
    struct pawl_segment segment;
    uint64_t used_bytes;
    uint64_t outstanding;
};

struct pawl_log_pool {
    struct pawl_log_segment *segment[PAWL_LOG_SEGMENTS_MAX]; /* by id; NULL: none */
    uint32_t count;                                          /* ids below were given at least once */
    uint32_t current;                                        /* UINT32_MAX: none */
    uint32_t next_id;                                        /* where to look for a free one */
    uint64_t bytes, bytes_max;
};

void pawl_log_pool_init(struct pawl_log_pool *pool, uint64_t bytes_max);
void pawl_log_pool_fini(struct pawl_log_pool *pool);

/**
 * pawl_log_pool_append - copy @bytes into task memory, 8-aligned, never across segments; one more outstanding
 * in it
 * @new_out: set when the segment has a descriptor that readers do not know yet (also when an id was given
 * anew)
 *
 * Return: 0; PAWL_E_LIMIT (bytes_max of outstanding memory: try again after a release); -errno.
 */
int pawl_log_pool_append(struct pawl_log_pool *pool, const void *bytes, size_t n, uint32_t *id_out,
                         uint32_t *byte_offset_out, bool *new_out);

/** pawl_log_pool_release - one less outstanding in segment @id. Outsized segments are closed when empty. */
void pawl_log_pool_release(struct pawl_log_pool *pool, uint32_t id);

/* Worker's side: id -> mapping. */
struct pawl_log_view {
    struct pawl_segment segment[PAWL_LOG_SEGMENTS_MAX];
};

void pawl_log_view_init(struct pawl_log_view *view);
void pawl_log_view_fini(struct pawl_log_view *view);
/** pawl_log_view_attach - map segment @id read-only; @fd is taken over on success; replaces an earlier one of
 * that id. */
int pawl_log_view_attach(struct pawl_log_view *view, uint32_t id, int fd);
/** pawl_log_view_read - a pointer to checked bounds, or NULL: unknown id or out of bounds. */
const void *pawl_log_view_read(const struct pawl_log_view *view, uint32_t id, uint32_t byte_offset,
                               uint32_t bytes);

#endif
