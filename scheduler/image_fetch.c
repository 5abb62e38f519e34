/*
 * image_fetch.c - a sealed run comes back to a scheduler: its tables, not its outputs, which may be
 * gigabytes.
 *
 * Runs in: scheduler. Outputs that are to be checked are read once, in pieces, and not kept.
 */
#include <errno.h>
#include <stdlib.h>

#include <xxhash.h>

#include "scheduler/image_format.h"
#include "shm/error.h"

enum { PIECE_BYTES = 1 << 20 };

/* All of [at, at + bytes); a shorter file is a damaged one. The caller frees. */
static int read_piece(struct pawl_core *core, const char *run_id, uint64_t at, uint64_t bytes,
                      void **bytes_out)
{
    size_t n = 0;
    int error = core->effects.read_file(core->ctx, run_id, "image", at, bytes, bytes_out, &n);
    if (error < 0 || n == bytes)
        return error;
    free(*bytes_out);
    return PAWL_E_DAMAGED;
}

static int read_header(struct pawl_core *core, const char *run_id, struct pawl_image_header *header)
{
    void *page = NULL;
    int error = read_piece(core, run_id, 0, PAWL_IMAGE_HEADER_BYTES, &page);
    if (error < 0)
        return error;
    error = pawl_image_check_header(page, PAWL_IMAGE_HEADER_BYTES, header);
    free(page);
    return error;
}

static int check_part(struct pawl_core *core, const char *run_id, const struct pawl_image_part *part)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return -ENOMEM;
    XXH3_64bits_reset(state);
    int error = 0;
    for (uint64_t done = 0; error == 0 && done < part->bytes;) {
        void *piece = NULL;
        uint64_t left = part->bytes - done, n = left < PIECE_BYTES ? left : PIECE_BYTES;
        error = read_piece(core, run_id, part->offset + done, n, &piece);
        if (error < 0)
            break;
        XXH3_64bits_update(state, piece, (size_t)n);
        free(piece);
        done += n;
    }
    if (error == 0 && XXH3_64bits_digest(state) != part->xxh3)
        error = PAWL_E_DAMAGED;
    XXH3_freeState(state);
    return error;
}

/* Which image it is: the checksum in its header. */
int pawl_image_fetch_mark(struct pawl_core *core, const char *run_id, uint64_t *mark_out)
{
    struct pawl_image_header header;
    int error = read_header(core, run_id, &header);
    if (error == 0)
        *mark_out = header.xxh3;
    return error;
}

int pawl_image_fetch(struct pawl_core *core, const char *run_id, bool check_outputs,
                     struct pawl_run **run_out)
{
    struct pawl_image_header header;
    void *tables = NULL;
    int error = read_header(core, run_id, &header);
    if (error == 0 && check_outputs)
        error = check_part(core, run_id, &header.parts[PAWL_SECTION_RESULTS]);
    if (error == 0 && check_outputs)
        error = check_part(core, run_id, &header.parts[PAWL_SECTION_ITEMS]);
    if (error < 0)
        return error;
    struct pawl_image_view view = {.header = &header, .from = header.total_bytes, .end = header.total_bytes};
    for (int i = PAWL_SECTION_TEXTS; i < PAWL_SECTIONS; i++)
        if (header.parts[i].offset < view.from)
            view.from = header.parts[i].offset;
    error = read_piece(core, run_id, view.from, view.end - view.from, &tables);
    if (error < 0)
        return error;
    view.bytes = tables;
    error = pawl_image_load_view(core, &view, run_out);
    free(tables);
    return error;
}
