/*
 * log_segment.c - task memory. Runs in: scheduler (pool), workers (view).
 */
#include "shm/log_segment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

void pawl_log_pool_init(struct pawl_log_pool *pool, uint64_t bytes_max)
{
    *pool = (struct pawl_log_pool){.current = UINT32_MAX, .bytes_max = bytes_max};
}

static void close_segment(struct pawl_log_pool *pool, uint32_t id)
{
    struct pawl_log_segment *segment = pool->segment[id];
    pool->bytes -= segment->segment.bytes;
    pawl_segment_close(&segment->segment);
    free(segment);
    pool->segment[id] = NULL;
}

void pawl_log_pool_fini(struct pawl_log_pool *pool)
{
    for (uint32_t id = 0; id < pool->count; id++)
        if (pool->segment[id])
            close_segment(pool, id);
}

static int open_segment(struct pawl_log_pool *pool, size_t bytes, uint32_t *id_out)
{
    /* Ids go round: a worker hears of a new segment on its socket, a little after it could claim from it, so
     * an id that it may still have mapped to a closed segment must not come back soon. */
    uint32_t id = pool->next_id, looked = 0;
    while (looked < PAWL_LOG_SEGMENTS_MAX && pool->segment[id]) {
        id = (id + 1) % PAWL_LOG_SEGMENTS_MAX;
        looked++;
    }
    if (looked == PAWL_LOG_SEGMENTS_MAX || pool->bytes + bytes > pool->bytes_max)
        return PAWL_E_LIMIT;
    struct pawl_log_segment *segment = calloc(1, sizeof *segment);
    if (!segment)
        return -ENOMEM;
    int error =
        pawl_segment_create(PAWL_SEGMENT_PRIVATE_WRITER, "pawl-tasks", bytes, false, &segment->segment);
    if (error < 0) {
        free(segment);
        return error;
    }
    pool->segment[id] = segment;
    pool->bytes += segment->segment.bytes;
    if (id >= pool->count)
        pool->count = id + 1;
    pool->next_id = (id + 1) % PAWL_LOG_SEGMENTS_MAX;
    *id_out = id;
    return 0;
}

/* A segment of the usual size with nothing outstanding, to be filled again. */
static bool find_empty(const struct pawl_log_pool *pool, uint32_t *id_out)
{
    for (uint32_t id = 0; id < pool->count; id++) {
        const struct pawl_log_segment *segment = pool->segment[id];
        if (segment && segment->outstanding == 0 && segment->segment.bytes == PAWL_LOG_SEGMENT_BYTES) {
            *id_out = id;
            return true;
        }
    }
    return false;
}

static int choose_segment(struct pawl_log_pool *pool, size_t bytes, uint32_t *id_out, bool *new_out)
{
    *new_out = false;
    if (bytes > PAWL_LOG_SEGMENT_BYTES) {
        *new_out = true;
        return open_segment(pool, bytes, id_out);
    }
    if (pool->current != UINT32_MAX) {
        struct pawl_log_segment *segment = pool->segment[pool->current];
        if (segment->outstanding == 0)
            segment->used_bytes = 0;
        *id_out = pool->current;
        if (segment->segment.bytes - segment->used_bytes >= bytes)
            return 0;
    }
    if (!find_empty(pool, id_out)) {
        int error = open_segment(pool, PAWL_LOG_SEGMENT_BYTES, id_out);
        if (error < 0)
            return error;
        *new_out = true;
    }
    pool->segment[*id_out]->used_bytes = 0;
    pool->current = *id_out;
    return 0;
}

int pawl_log_pool_append(struct pawl_log_pool *pool, const void *bytes, size_t n, uint32_t *id_out,
                         uint32_t *byte_offset_out, bool *new_out)
{
    size_t padded = (n + 7) & ~(size_t)7;
    if (n > UINT32_MAX - 7)
        return PAWL_E_LIMIT;
    int error = choose_segment(pool, padded, id_out, new_out);
    if (error < 0)
        return error;
    struct pawl_log_segment *segment = pool->segment[*id_out];
    memcpy((char *)segment->segment.base + segment->used_bytes, bytes, n);
    *byte_offset_out = (uint32_t)segment->used_bytes;
    segment->used_bytes += padded;
    segment->outstanding++;
    return 0;
}

void pawl_log_pool_release(struct pawl_log_pool *pool, uint32_t id)
{
    if (id >= pool->count || !pool->segment[id] || pool->segment[id]->outstanding == 0)
        return;
    struct pawl_log_segment *segment = pool->segment[id];
    if (--segment->outstanding == 0 && segment->segment.bytes != PAWL_LOG_SEGMENT_BYTES)
        close_segment(pool, id);
}

/* ---- worker ---- */

void pawl_log_view_init(struct pawl_log_view *view)
{
    for (uint32_t id = 0; id < PAWL_LOG_SEGMENTS_MAX; id++)
        view->segment[id] = (struct pawl_segment){.fd = -1};
}

void pawl_log_view_fini(struct pawl_log_view *view)
{
    for (uint32_t id = 0; id < PAWL_LOG_SEGMENTS_MAX; id++)
        pawl_segment_close(&view->segment[id]);
}

int pawl_log_view_attach(struct pawl_log_view *view, uint32_t id, int fd)
{
    struct pawl_segment segment;
    if (id >= PAWL_LOG_SEGMENTS_MAX)
        return PAWL_E_BAD_MESSAGE;
    int error = pawl_segment_attach(fd, 1, false, &segment);
    if (error < 0)
        return error;
    pawl_segment_close(&view->segment[id]);
    view->segment[id] = segment;
    return 0;
}

const void *pawl_log_view_read(const struct pawl_log_view *view, uint32_t id, uint32_t byte_offset,
                               uint32_t bytes)
{
    if (id >= PAWL_LOG_SEGMENTS_MAX || !view->segment[id].base)
        return NULL;
    const struct pawl_segment *segment = &view->segment[id];
    if (bytes > segment->bytes || byte_offset > segment->bytes - bytes || (byte_offset & 7) != 0)
        return NULL;
    return (const char *)segment->base + byte_offset;
}
