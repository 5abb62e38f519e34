/*
 * kept.c - chunks of records in memory.
 *
 * Runs in: scheduler.
 */
#include "scheduler/kept.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 1 << 20 };

struct pawl_kept_chunk {
    size_t used, room;
    uint32_t outstanding;
    uint32_t reserved;
    unsigned char bytes[];
};

void pawl_kept_init(struct pawl_kept *kept, uint64_t bytes_max)
{
    *kept = (struct pawl_kept){.current = UINT32_MAX, .spare = UINT32_MAX, .bytes_max = bytes_max};
}

void pawl_kept_fini(struct pawl_kept *kept)
{
    for (size_t i = 0; i < kept->count; i++)
        free(kept->chunks[i]);
    free(kept->chunks);
    free(kept->free_numbers);
    pawl_kept_init(kept, kept->bytes_max);
}

static int push_free(struct pawl_kept *kept, uint32_t number)
{
    if (kept->free_count == kept->free_room) {
        size_t room = kept->free_room ? kept->free_room * 2 : 16;
        uint32_t *numbers = realloc(kept->free_numbers, room * sizeof *numbers);
        if (!numbers)
            return -1; /* the number is lost, the memory is not */
        kept->free_numbers = numbers;
        kept->free_room = room;
    }
    kept->free_numbers[kept->free_count++] = number;
    return 0;
}

static void drop_chunk(struct pawl_kept *kept, uint32_t number)
{
    kept->bytes -= kept->chunks[number]->room;
    free(kept->chunks[number]);
    kept->chunks[number] = NULL;
    (void)push_free(kept, number);
}

/* A chunk with room for @bytes becomes the current one. */
static int open_chunk(struct pawl_kept *kept, size_t bytes)
{
    uint32_t before = kept->current;
    if (bytes <= CHUNK_BYTES && kept->spare != UINT32_MAX) {
        kept->current = kept->spare;
        kept->spare = UINT32_MAX;
    } else {
        size_t room = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        if (kept->bytes + room > kept->bytes_max)
            return -1;
        uint32_t number;
        if (kept->free_count > 0) {
            number = kept->free_numbers[--kept->free_count];
        } else {
            if (kept->count == kept->room) {
                size_t more = kept->room ? kept->room * 2 : 64;
                struct pawl_kept_chunk **chunks =
                    realloc(kept->chunks, more * sizeof(struct pawl_kept_chunk *));
                if (!chunks)
                    return -1;
                kept->chunks = chunks;
                kept->room = more;
            }
            number = (uint32_t)kept->count++;
            kept->chunks[number] = NULL;
        }
        struct pawl_kept_chunk *chunk = malloc(sizeof *chunk + room);
        if (!chunk) {
            (void)push_free(kept, number);
            return -1;
        }
        *chunk = (struct pawl_kept_chunk){.room = room};
        kept->chunks[number] = chunk;
        kept->bytes += room;
        kept->current = number;
    }
    if (before != UINT32_MAX && kept->chunks[before]->outstanding == 0)
        drop_chunk(kept, before);
    return 0;
}

bool pawl_kept_may_add(const struct pawl_kept *kept, uint64_t bytes)
{
    /* What follows on what does not fit begins a chunk: of two chunks in a row half is used at least. */
    return bytes <= kept->bytes_max && kept->bytes + 2 * bytes + CHUNK_BYTES <= kept->bytes_max;
}

uint64_t pawl_kept_add(struct pawl_kept *kept, const struct iovec *body, int count, uint32_t users)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += body[i].iov_len;
    size_t padded = (8 + bytes + 7) & ~(size_t)7;
    if (padded > UINT32_MAX)
        return 0;
    struct pawl_kept_chunk *chunk = kept->current == UINT32_MAX ? NULL : kept->chunks[kept->current];
    if (!chunk || chunk->room - chunk->used < padded) {
        if (open_chunk(kept, padded) < 0)
            return 0;
        chunk = kept->chunks[kept->current];
    }
    uint64_t handle = (uint64_t)(kept->current + 1) << 32 | (uint32_t)chunk->used;
    uint64_t length = bytes;
    unsigned char *at = chunk->bytes + chunk->used;
    memcpy(at, &length, sizeof length);
    at += sizeof length;
    for (int i = 0; i < count; i++) {
        if (body[i].iov_len)
            memcpy(at, body[i].iov_base, body[i].iov_len);
        at += body[i].iov_len;
    }
    chunk->used += padded;
    chunk->outstanding += users;
    return handle;
}

static struct pawl_kept_chunk *chunk_of(const struct pawl_kept *kept, uint64_t handle)
{
    uint64_t number = (handle >> 32) - 1;
    return number < kept->count ? kept->chunks[number] : NULL;
}

const void *pawl_kept_read(const struct pawl_kept *kept, uint64_t handle, size_t *bytes_out)
{
    const struct pawl_kept_chunk *chunk = chunk_of(kept, handle);
    uint32_t offset = (uint32_t)handle;
    if (!chunk || offset >= chunk->used)
        return NULL;
    uint64_t length;
    memcpy(&length, chunk->bytes + offset, sizeof length);
    *bytes_out = (size_t)length;
    return chunk->bytes + offset + sizeof length;
}

void pawl_kept_release(struct pawl_kept *kept, uint64_t handle)
{
    struct pawl_kept_chunk *chunk = chunk_of(kept, handle);
    uint32_t number = (uint32_t)((handle >> 32) - 1);
    if (!chunk || chunk->outstanding == 0 || --chunk->outstanding > 0)
        return;
    if (number == kept->current) {
        chunk->used = 0; /* quiet queues stay in the same few pages */
    } else if (kept->spare == UINT32_MAX && chunk->room == CHUNK_BYTES) {
        chunk->used = 0;
        kept->spare = number;
    } else {
        drop_chunk(kept, number);
    }
}
