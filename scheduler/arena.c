/*
 * arena.c - bump allocation out of a list of chunks.
 *
 * Runs in: scheduler and clients. One owner, one thread. Never frees a single allocation.
 */
#include "scheduler/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES_FIRST = 4096, CHUNK_BYTES_MAX = 65536, ALIGNMENT = 8 };

struct pawl_arena_chunk {
    struct pawl_arena_chunk *next;
    size_t size; /* of data */
    size_t used;
    _Alignas(ALIGNMENT) char data[];
};

void pawl_arena_init(struct pawl_arena *arena, size_t limit_bytes)
{
    *arena = (struct pawl_arena){.limit_bytes = limit_bytes ? limit_bytes : SIZE_MAX};
}

static struct pawl_arena_chunk *make_chunk(size_t size)
{
    if (size > SIZE_MAX - sizeof(struct pawl_arena_chunk))
        return NULL;
    struct pawl_arena_chunk *chunk = malloc(sizeof *chunk + size);
    if (chunk) {
        chunk->next = NULL;
        chunk->size = size;
        chunk->used = 0;
    }
    return chunk;
}

void *pawl_arena_alloc(struct pawl_arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX - ALIGNMENT)
        return NULL;
    size_t need = (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (need > arena->limit_bytes || arena->used_bytes > arena->limit_bytes - need)
        return NULL;
    struct pawl_arena_chunk *chunk = arena->chunk;
    if (!chunk || chunk->size - chunk->used < need) {
        size_t size = chunk ? chunk->size * 2 : CHUNK_BYTES_FIRST;
        if (size > CHUNK_BYTES_MAX)
            size = CHUNK_BYTES_MAX;
        struct pawl_arena_chunk *fresh = make_chunk(need > size ? need : size);
        if (!fresh)
            return NULL;
        if (chunk && need > size) { /* a big one stands behind, so that the open chunk's rest stays in use */
            fresh->next = chunk->next;
            chunk->next = fresh;
        } else {
            fresh->next = chunk;
            arena->chunk = fresh;
        }
        chunk = fresh;
    }
    void *memory = chunk->data + chunk->used;
    chunk->used += need;
    arena->used_bytes += need;
    return memory;
}

char *pawl_arena_copy(struct pawl_arena *arena, const void *source, size_t bytes)
{
    if (bytes == SIZE_MAX)
        return NULL;
    char *copy = pawl_arena_alloc(arena, bytes + 1);
    if (!copy)
        return NULL;
    if (bytes)
        memcpy(copy, source, bytes);
    copy[bytes] = '\0';
    return copy;
}

void pawl_arena_reset(struct pawl_arena *arena)
{
    struct pawl_arena_chunk *kept = NULL;
    for (struct pawl_arena_chunk *chunk = arena->chunk, *next; chunk; chunk = next) {
        next = chunk->next;
        if (!kept && chunk->size <= CHUNK_BYTES_MAX)
            kept = chunk;
        else
            free(chunk);
    }
    if (kept) {
        kept->next = NULL;
        kept->used = 0;
    }
    arena->chunk = kept;
    arena->used_bytes = 0;
}

void pawl_arena_fini(struct pawl_arena *arena)
{
    for (struct pawl_arena_chunk *chunk = arena->chunk, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    arena->chunk = NULL;
    arena->used_bytes = 0;
}
