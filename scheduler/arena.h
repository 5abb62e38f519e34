/*
 * arena.h - memory that is given out bump by bump and taken back all at once.
 *
 * Used by: scheduler (evaluation of templates) and clients (loading of files). One owner, one thread; never
 * shared. Nothing is freed singly. A limit bounds what one evaluation may take.
 */
#ifndef PAWL_SCHEDULER_ARENA_H
#define PAWL_SCHEDULER_ARENA_H

#include <stddef.h>

struct pawl_arena_chunk;

struct pawl_arena {
    struct pawl_arena_chunk *chunk; /* newest first */
    size_t used_bytes;              /* given out since init or reset, alignment included */
    size_t limit_bytes;             /* used_bytes never passes it */
};

/**
 * pawl_arena_init - start an empty arena; allocates nothing yet
 * @limit_bytes: most that may be given out between two resets; 0 means SIZE_MAX
 */
void pawl_arena_init(struct pawl_arena *arena, size_t limit_bytes);

/**
 * pawl_arena_alloc - @bytes of uninitialised memory aligned to 8; valid until reset or fini
 *
 * Return: NULL when the limit is reached or memory is out. 0 bytes give a valid pointer.
 */
void *pawl_arena_alloc(struct pawl_arena *arena, size_t bytes);

/** pawl_arena_copy - a NUL-terminated copy of @bytes bytes (which may hold NULs); NULL as for alloc. */
char *pawl_arena_copy(struct pawl_arena *arena, const void *source, size_t bytes);

/** pawl_arena_reset - take everything back; one chunk (64 KiB at most) is kept for the next round. */
void pawl_arena_reset(struct pawl_arena *arena);

/** pawl_arena_fini - give all memory back to the system; the arena may be initialised again. */
void pawl_arena_fini(struct pawl_arena *arena);

#endif
