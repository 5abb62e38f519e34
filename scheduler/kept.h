/*
 * kept.h - records that are kept in memory only: what the bus holds with durability "memory".
 *
 * Owned by: the scheduler's private memory. Records fill chunks one after the other; a chunk is used again
 * when every record in it was given back. Never evicted: at the bound nothing more is taken.
 */
#ifndef PAWL_SCHEDULER_KEPT_H
#define PAWL_SCHEDULER_KEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct pawl_kept_chunk;

struct pawl_kept {
    struct pawl_kept_chunk **chunks; /* by number */
    size_t count, room;
    uint32_t *free_numbers;
    size_t free_count, free_room;
    uint32_t current; /* UINT32_MAX: none */
    uint32_t spare;   /* an empty one of the usual size; UINT32_MAX: none */
    uint64_t bytes, bytes_max;
};

void pawl_kept_init(struct pawl_kept *kept, uint64_t bytes_max);
void pawl_kept_fini(struct pawl_kept *kept);
/** pawl_kept_add - copy a record in, which @users will release, each once. Return: its handle (below 2^63),
 * 0: at the bound, or no memory. */
uint64_t pawl_kept_add(struct pawl_kept *kept, const struct iovec *body, int count, uint32_t users);
/** pawl_kept_may_add - will records of @bytes together be taken, however they are cut? False may be wrong by
 * the bytes and a chunk. */
bool pawl_kept_may_add(const struct pawl_kept *kept, uint64_t bytes);
/** pawl_kept_read - where it lies; NULL: no such record. */
const void *pawl_kept_read(const struct pawl_kept *kept, uint64_t handle, size_t *bytes_out);
/** pawl_kept_release - one of its users wants it no more. */
void pawl_kept_release(struct pawl_kept *kept, uint64_t handle);

#endif
