/*
 * core_snapshot.c - all that the core knows as chunks of a snapshot, and back: its counters, then each run as
 * an image in memory, in pieces.
 *
 * Runs in: scheduler. Does no I/O but to look for an image that is newer than what the snapshot holds.
 */
#include "scheduler/core_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/image.h"
#include "shm/error.h"

enum { PIECE_CORE = 1, PIECE_RUN = 2, PIECE_BYTES = (1 << 20) - 64 };

struct piece_header {
    uint32_t kind, bytes;
    uint64_t total;
};

struct piece_core {
    struct piece_header header;
    uint64_t epoch, next_run, next_batch;
};

struct snapshot_cursor {
    struct pawl_image_writer *writer; /* of the run being told */
    const char *image;                /* in its memory */
    size_t image_bytes;
    uint64_t run;
    size_t at;
    char *piece;
};

static void end_snapshot(struct snapshot_cursor *c)
{
    pawl_image_end(c->writer);
    free(c->piece);
    free(c);
}

static int next_image(struct pawl_core *core, struct snapshot_cursor *c)
{
    for (size_t i = 0; i < core->run_count; i++) {
        struct pawl_run *run = core->runs[i];
        if (run->number <= c->run || run->leaving)
            continue;
        c->run = run->number;
        int error = pawl_image_begin(core, run, -1, &c->writer);
        if (error == 0)
            error = pawl_image_next(c->writer, SIZE_MAX / 2);
        if (error >= 0)
            c->image = pawl_image_memory(c->writer, &c->image_bytes);
        c->at = 0;
        return error < 0 ? error : 1;
    }
    return 0;
}

int pawl_core_snapshot_next(struct pawl_core *core, struct pawl_now now, void **cursor,
                            const void **chunk_out, size_t *bytes_out)
{
    struct snapshot_cursor *c = *cursor;
    core->now = now;
    if (!c) {
        c = calloc(1, sizeof *c);
        if (!c)
            return -ENOMEM;
        c->piece = malloc(PIECE_BYTES + sizeof(struct piece_header));
        if (!c->piece) {
            free(c);
            return -ENOMEM;
        }
        *cursor = c;
        struct piece_core first = {
            .header = {.kind = PIECE_CORE, .bytes = sizeof first, .total = sizeof first},
            .epoch = core->epoch,
            .next_run = core->next_run,
            .next_batch = core->next_batch};
        memcpy(c->piece, &first, sizeof first);
        *chunk_out = c->piece;
        *bytes_out = sizeof first;
        return 1;
    }
    if (c->writer && c->at == c->image_bytes) {
        pawl_image_end(c->writer);
        c->writer = NULL;
    }
    int more = c->writer ? 1 : next_image(core, c);
    if (more <= 0) {
        end_snapshot(c);
        *cursor = NULL;
        return more;
    }
    size_t left = c->image_bytes - c->at;
    struct piece_header header = {.kind = PIECE_RUN,
                                  .bytes = (uint32_t)(left < PIECE_BYTES ? left : PIECE_BYTES),
                                  .total = c->image_bytes};
    memcpy(c->piece, &header, sizeof header);
    memcpy(c->piece + sizeof header, c->image + c->at, header.bytes);
    c->at += header.bytes;
    *chunk_out = c->piece;
    *bytes_out = sizeof header + header.bytes;
    return 1;
}

/* A reopened run was sealed again, and the scheduler died before it could say so: the places in the snapshot
 * are those of an image that was replaced. The new one knows all that the snapshot knows, and more. */
static int prefer_newer_image(struct pawl_core *core, struct pawl_run **run)
{
    uint64_t mark = 0;
    struct pawl_run *newer;
    if ((*run)->base_image == 0)
        return 0;
    int error = pawl_image_fetch_mark(core, (*run)->id, &mark);
    if (error == -ENOENT || error == PAWL_E_NOT_FOUND)
        return 0; /* removed after it was sealed: the journal's end says so */
    if (error < 0 || mark == (*run)->base_image)
        return error;
    error = pawl_image_fetch(core, (*run)->id, false, &newer);
    if (error < 0)
        return error;
    newer->number = (*run)->number;
    newer->superseded = true;
    pawl_run_free(*run);
    *run = newer;
    return 0;
}

int pawl_core_snapshot_load(struct pawl_core *core, const void *chunk, size_t bytes)
{
    struct piece_header header;
    if (bytes < sizeof header)
        return PAWL_E_DAMAGED;
    memcpy(&header, chunk, sizeof header);
    if (header.kind == PIECE_CORE) {
        struct piece_core first;
        if (bytes != sizeof first)
            return PAWL_E_DAMAGED;
        memcpy(&first, chunk, sizeof first);
        core->epoch = first.epoch;
        core->next_run = first.next_run;
        core->next_batch = first.next_batch;
        return 0;
    }
    if (header.kind != PIECE_RUN || bytes - sizeof header != header.bytes)
        return PAWL_E_DAMAGED;
    if (header.bytes > header.total - core->load_bytes || core->load_bytes > header.total)
        return PAWL_E_DAMAGED;
    /* All of it at once: growing by and by would copy tens of megabytes into fresh pages several times. */
    int error = pawl_grow((void **)&core->load_piece, &core->load_capacity, header.total, 1);
    if (error < 0)
        return error;
    memcpy(core->load_piece + core->load_bytes, (const char *)chunk + sizeof header, header.bytes);
    core->load_bytes += header.bytes;
    if (core->load_bytes < header.total)
        return 0;
    struct pawl_run *run;
    core->replaying = true;
    error = pawl_image_load_run(core, core->load_piece, core->load_bytes, &run);
    core->load_bytes = 0;
    free(core->load_piece);
    core->load_piece = NULL;
    core->load_capacity = 0;
    if (error < 0)
        return error;
    error = prefer_newer_image(core, &run);
    if (error == 0)
        error = pawl_core_insert_run(core, run);
    if (error < 0)
        pawl_run_free(run);
    return error;
}
