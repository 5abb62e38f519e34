/*
 * image_format.h - the bytes of an image, version 1. docs/journal-format.md draws them.
 */
#ifndef PAWL_SCHEDULER_IMAGE_FORMAT_H
#define PAWL_SCHEDULER_IMAGE_FORMAT_H

#include <assert.h>

#include "scheduler/core_state.h"

#define PAWL_IMAGE_MAGIC UINT64_C(0x31474d494c574150) /* "PAWLIMG1" */

enum {
    PAWL_IMAGE_VERSION = 1,
    PAWL_IMAGE_HEADER_BYTES = 4096,
    PAWL_IMAGE_SEALED = 1, /* flag: outputs and items are inside; else their places are the journal's */
};

enum pawl_image_section {
    PAWL_SECTION_RESULTS, /* STEP records with their outputs, 8-aligned; sealed only */
    PAWL_SECTION_ITEMS,   /* fed items; sealed only */
    PAWL_SECTION_TEXTS,   /* texts of foreach elements; sealed only */
    PAWL_SECTION_PLAN,
    PAWL_SECTION_CONTEXT,
    PAWL_SECTION_FILE,
    PAWL_SECTION_STEPS,
    PAWL_SECTION_INSTANCES,
    PAWL_SECTION_CHUNKS,
    PAWL_SECTION_HASHES,
    PAWL_SECTION_FED_ORDER,
    PAWL_SECTION_COMPLETIONS,
    PAWL_SECTION_OFFSETS, /* of the texts: count + 1 for each step with texts */
    PAWL_SECTION_TIMERS,
    PAWL_SECTION_PINS,
    PAWL_SECTIONS,
};

struct pawl_image_part {
    uint64_t offset, bytes, xxh3;
};

struct pawl_image_step {
    uint64_t count;
    uint64_t texts; /* elements that have a text: 0 or count */
    uint32_t state, reason;
    uint32_t expanded, reserved;
    char note[160];
};

struct pawl_image_chunk {
    uint64_t first, place;
    uint32_t count, open, body_offset, bytes;
};

struct pawl_image_header {
    uint64_t magic;
    uint32_t version, flags;
    uint64_t total_bytes;
    struct pawl_image_part parts[PAWL_SECTIONS];
    struct pawl_wire_summary summary;
    struct pawl_wire_submit request;
    uint64_t number, batch, lsn_submitted, lsn_ended;
    uint64_t resumed_at_ns, elapsed_before_ns;
    uint32_t fed_all, matching;
    uint64_t
        base_image; /* snapshots: xxh3 of the image's header that this run's places may lie in; 0: none */
    uint64_t xxh3;  /* of everything above */
};

/* Bytes [from, end) of an image in memory; tables may not lie before them. Borrowed. */
struct pawl_image_view {
    const struct pawl_image_header *header;
    const char *bytes;
    uint64_t from, end;
};

/* 0, PAWL_E_DAMAGED, PAWL_E_BAD_FORMAT. */
int pawl_image_check_header(const void *bytes, size_t n, struct pawl_image_header *header_out);
/* Checks the tables, and makes a run of them. Outputs and items are not looked at. */
int pawl_image_load_view(struct pawl_core *core, const struct pawl_image_view *view,
                         struct pawl_run **run_out);

static_assert(sizeof(struct pawl_image_header) <= PAWL_IMAGE_HEADER_BYTES, "image format");
static_assert(sizeof(struct pawl_image_step) == 192, "image format");
static_assert(sizeof(struct pawl_image_chunk) == 32, "image format");

#endif
