/*
 * image_read.c - an image becomes a run again: for a scheduler that goes on with it, or for a reader without
 * one.
 *
 * Runs in: scheduler, commands. A reader gets a core of its own that holds just this run and cannot change
 * it.
 */
#include "scheduler/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "scheduler/image_format.h"
#include "scheduler/reopened.h"
#include "shm/error.h"

/* ---- checks ---- */

int pawl_image_check_header(const void *bytes, size_t n, struct pawl_image_header *header_out)
{
    if (n < PAWL_IMAGE_HEADER_BYTES)
        return PAWL_E_DAMAGED;
    memcpy(header_out, bytes, sizeof *header_out);
    if (header_out->magic != PAWL_IMAGE_MAGIC)
        return PAWL_E_DAMAGED;
    if (header_out->version != PAWL_IMAGE_VERSION)
        return PAWL_E_BAD_FORMAT;
    if (XXH3_64bits(header_out, offsetof(struct pawl_image_header, xxh3)) != header_out->xxh3)
        return PAWL_E_DAMAGED;
    return 0;
}

static const char *part_of(const struct pawl_image_view *view, enum pawl_image_section which)
{
    return view->bytes + (view->header->parts[which].offset - view->from);
}

static bool part_holds(const struct pawl_image_view *view, enum pawl_image_section which)
{
    const struct pawl_image_part *part = &view->header->parts[which];
    return XXH3_64bits(part_of(view, which), part->bytes) == part->xxh3;
}

/* Outputs and items may be gigabytes that nobody asks for: pawl_image_fetch() and readers look at them. */
static int check_parts(const struct pawl_image_view *view)
{
    if (view->header->total_bytes > view->end)
        return PAWL_E_DAMAGED;
    for (int i = 0; i < PAWL_SECTIONS; i++) {
        const struct pawl_image_part *part = &view->header->parts[i];
        uint64_t from = i >= PAWL_SECTION_TEXTS ? view->from : 0;
        if (part->offset < from || part->offset > view->end || part->bytes > view->end - part->offset ||
            (part->offset & 7) != 0)
            return PAWL_E_DAMAGED;
        if (i >= PAWL_SECTION_TEXTS && !part_holds(view, (enum pawl_image_section)i))
            return PAWL_E_DAMAGED;
    }
    return 0;
}

/* ---- parts ---- */

static int load_steps(struct pawl_run *run, const struct pawl_image_view *view)
{
    const struct pawl_image_header *header = view->header;
    const struct pawl_image_part *steps = &header->parts[PAWL_SECTION_STEPS];
    const struct pawl_image_part *instances = &header->parts[PAWL_SECTION_INSTANCES];
    const struct pawl_image_part *offsets = &header->parts[PAWL_SECTION_OFFSETS];
    if (steps->bytes != run->step_count * sizeof(struct pawl_image_step))
        return PAWL_E_DAMAGED;
    uint64_t at = 0, offset_at = 0;
    for (uint32_t i = 0; i < run->step_count; i++) {
        struct pawl_step *step = &run->steps[i];
        struct pawl_image_step in;
        memcpy(&in, part_of(view, PAWL_SECTION_STEPS) + i * sizeof in, sizeof in);
        if (in.count > (instances->bytes - at) / sizeof(struct pawl_instance) ||
            in.state >= PAWL_STEP_STATES || (!step->many && in.count != 1))
            return PAWL_E_DAMAGED;
        int error = pawl_step_reserve(step, in.count);
        if (error < 0)
            return error;
        if (in.count > 0)
            memcpy(step->instances, part_of(view, PAWL_SECTION_INSTANCES) + at,
                   in.count * sizeof(struct pawl_instance));
        at += in.count * sizeof(struct pawl_instance);
        for (uint64_t n = 0; n < in.count; n++)
            if (step->instances[n].state >= PAWL_STEP_STATES)
                return PAWL_E_DAMAGED;
        step->count = in.count;
        step->state = (uint8_t)in.state;
        step->reason = (uint8_t)in.reason;
        step->expanded = in.expanded || !step->many;
        memcpy(step->note, in.note, sizeof step->note);
        step->note[sizeof step->note - 1] = '\0';
        if (in.texts > 0) {
            uint64_t wanted = (in.texts + 1) * sizeof(uint64_t);
            if (in.texts != in.count || wanted > offsets->bytes - offset_at)
                return PAWL_E_DAMAGED;
            step->item_offsets = malloc(wanted);
            if (!step->item_offsets)
                return -ENOMEM;
            memcpy(step->item_offsets, part_of(view, PAWL_SECTION_OFFSETS) + offset_at, wanted);
            step->item_count = in.texts;
            offset_at += wanted;
            for (uint64_t n = 0; n < in.texts; n++)
                if (step->item_offsets[n] > step->item_offsets[n + 1] ||
                    step->item_offsets[n + 1] > header->parts[PAWL_SECTION_TEXTS].bytes)
                    return PAWL_E_DAMAGED;
        }
    }
    return 0;
}

static int copy_part(const struct pawl_image_view *view, enum pawl_image_section which, void **copy_out)
{
    size_t n = view->header->parts[which].bytes;
    *copy_out = malloc(n ? n : 1);
    if (!*copy_out)
        return -ENOMEM;
    memcpy(*copy_out, part_of(view, which), n);
    return 0;
}

static int load_fed(struct pawl_run *run, const struct pawl_image_view *view)
{
    const struct pawl_image_header *header = view->header;
    const struct pawl_image_part *chunks = &header->parts[PAWL_SECTION_CHUNKS];
    const struct pawl_image_part *hashes = &header->parts[PAWL_SECTION_HASHES];
    if (!run->fed)
        return 0;
    if (hashes->bytes != run->steps[0].count * sizeof *run->hashes)
        return PAWL_E_DAMAGED;
    int error = copy_part(view, PAWL_SECTION_HASHES, (void **)&run->hashes);
    run->hash_capacity = run->steps[0].count;
    if (error == 0)
        error = copy_part(view, PAWL_SECTION_FED_ORDER, (void **)&run->fed_order);
    run->fed_count = run->fed_capacity = header->parts[PAWL_SECTION_FED_ORDER].bytes / sizeof *run->fed_order;
    for (size_t i = 0; error == 0 && i < run->fed_count; i++)
        if (run->fed_order[i] >= run->steps[0].count)
            return PAWL_E_DAMAGED;
    if (error == 0)
        error = copy_part(view, PAWL_SECTION_COMPLETIONS, (void **)&run->completions.instances);
    run->completions.count = header->parts[PAWL_SECTION_COMPLETIONS].bytes / sizeof(uint64_t);
    run->completions.capacity = run->completions.count;
    for (size_t i = 0; error == 0 && i < run->completions.count; i++)
        if (run->completions.instances[i] >= run->steps[0].count)
            return PAWL_E_DAMAGED;
    size_t count = chunks->bytes / sizeof(struct pawl_image_chunk);
    if (error == 0)
        error = pawl_grow((void **)&run->chunks, &run->chunk_capacity, count, sizeof *run->chunks);
    uint64_t first = 0;
    for (size_t i = 0; error == 0 && i < count; i++) {
        struct pawl_image_chunk in;
        memcpy(&in, part_of(view, PAWL_SECTION_CHUNKS) + i * sizeof in, sizeof in);
        if (in.first != first || in.place == 0)
            return PAWL_E_DAMAGED;
        first += in.count;
        run->chunks[run->chunk_count++] = (struct pawl_items_chunk){.first = in.first,
                                                                    .count = in.count,
                                                                    .open = in.open,
                                                                    .place = in.place,
                                                                    .body_offset = in.body_offset,
                                                                    .bytes_count = in.bytes};
    }
    return error == 0 && first != run->steps[0].count ? PAWL_E_DAMAGED : error;
}

static int load_timers(struct pawl_core *core, const struct pawl_image_view *view)
{
    const struct pawl_image_part *part = &view->header->parts[PAWL_SECTION_TIMERS];
    if (!core->replaying)
        return 0; /* of a sealed run, which waits for nothing */
    for (uint64_t at = 0; part->bytes - at >= sizeof(struct pawl_timer); at += sizeof(struct pawl_timer)) {
        struct pawl_timer timer;
        memcpy(&timer, part_of(view, PAWL_SECTION_TIMERS) + at, sizeof timer);
        int error = pawl_core_timer_back(core, &timer);
        if (error < 0)
            return error;
    }
    return 0;
}

static void load_scalars(struct pawl_run *run, const struct pawl_image_header *h)
{
    run->request = h->request;
    run->batch_number = h->batch;
    run->state = h->summary.state;
    run->lsn_submitted = h->lsn_submitted;
    run->lsn_ended = h->lsn_ended;
    run->started_at_ns = h->summary.started_at_ns;
    run->finished_at_ns = h->summary.finished_at_ns;
    run->resumed_at_ns = h->resumed_at_ns;
    run->elapsed_before_ns = h->elapsed_before_ns;
    run->attempts = h->summary.attempts;
    run->retries = h->summary.retries;
    run->busy_ns = h->summary.busy_ns;
    run->fed_all = h->fed_all;
    run->matching = h->matching;
    run->base_image = (h->flags & PAWL_IMAGE_SEALED) ? h->xxh3 : h->base_image;
    run->ending = run->over = run->state != PAWL_RUN_RUNNING;
}

int pawl_image_load_view(struct pawl_core *core, const struct pawl_image_view *view,
                         struct pawl_run **run_out)
{
    const struct pawl_image_header *header = view->header;
    char id[PAWL_NAME_BYTES];
    struct pawl_run *run;
    int error = check_parts(view);
    if (error < 0)
        return error;
    memcpy(id, header->summary.run_id, sizeof id);
    id[sizeof id - 1] = '\0';
    error = pawl_run_create(core, header->number, id, &run);
    if (error < 0)
        return error;
    error = pawl_run_set_plan(run, part_of(view, PAWL_SECTION_PLAN), header->parts[PAWL_SECTION_PLAN].bytes);
    if (error == 0)
        error = load_steps(run, view);
    if (error == 0)
        error = copy_part(view, PAWL_SECTION_CONTEXT, &run->context);
    run->context_bytes = header->parts[PAWL_SECTION_CONTEXT].bytes;
    if (error == 0) {
        run->file = strndup(part_of(view, PAWL_SECTION_FILE), header->parts[PAWL_SECTION_FILE].bytes);
        error = run->file ? 0 : -ENOMEM;
    }
    if (error == 0)
        error = load_fed(run, view);
    if (error == 0)
        error = load_timers(core, view);
    if (error == 0)
        error = copy_part(view, PAWL_SECTION_TEXTS, (void **)&run->item_texts);
    if (error == 0)
        error = copy_part(view, PAWL_SECTION_PINS, (void **)&run->pins);
    run->pin_count = run->pin_capacity = header->parts[PAWL_SECTION_PINS].bytes / sizeof *run->pins;
    if (error < 0) {
        pawl_run_free(run);
        return error == PAWL_E_BAD_MESSAGE ? PAWL_E_DAMAGED : error;
    }
    load_scalars(run, header);
    pawl_run_recount(run);
    *run_out = run;
    return 0;
}

int pawl_image_load_run(struct pawl_core *core, const void *image, size_t n, struct pawl_run **run_out)
{
    struct pawl_image_header header;
    struct pawl_image_view view = {.header = &header, .bytes = image, .end = n};
    int error = pawl_image_check_header(image, n, &header);
    return error < 0 ? error : pawl_image_load_view(core, &view, run_out);
}

/* ---- readers ---- */

struct pawl_image {
    struct pawl_core *core;
    struct pawl_run *run;
    const char *bytes;
    size_t n;
    struct pawl_image_header header;
    bool checked[PAWL_SECTION_ITEMS +
                 1]; /* outputs and items: looked at as a whole before the first is told */
};

static int check_once(struct pawl_image *image, enum pawl_image_section which)
{
    struct pawl_image_view view = {.header = &image->header, .bytes = image->bytes, .end = image->n};
    if (!image->checked[which] && !part_holds(&view, which))
        return PAWL_E_DAMAGED;
    image->checked[which] = true;
    return 0;
}

static int read_piece(void *ctx, const char *run_id, const char *name, uint64_t offset, uint64_t bytes_max,
                      void **bytes_out, size_t *n_out)
{
    struct pawl_image *image = ctx;
    (void)run_id;
    if (strcmp(name, "image") != 0)
        return -ENOENT; /* large outputs are files: the reader opens them itself */
    if (offset > image->n)
        return PAWL_E_DAMAGED;
    size_t n = image->n - offset < bytes_max ? image->n - offset : bytes_max;
    *bytes_out = malloc(n ? n : 1);
    if (!*bytes_out)
        return -ENOMEM;
    memcpy(*bytes_out, image->bytes + offset, n);
    *n_out = n;
    return 0;
}

static int read_nothing(void *ctx, uint64_t place, uint32_t offset, void *buffer, size_t bytes)
{
    (void)ctx, (void)place, (void)offset, (void)buffer, (void)bytes;
    return PAWL_E_NOT_FOUND;
}

static int open_file(int runs_dirfd, const char *run_id)
{
    char path[PAWL_NAME_BYTES + 8];
    if (run_id[0] == '.' || strchr(run_id, '/') || strlen(run_id) >= PAWL_NAME_BYTES)
        return -ENOENT;
    snprintf(path, sizeof path, "%s/image", run_id);
    int fd = openat(runs_dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

int pawl_image_open(int runs_dirfd, const char *run_id, struct pawl_image **image_out)
{
    struct pawl_core_effects effects = {.read = read_nothing, .read_file = read_piece};
    struct pawl_core_options options;
    struct stat st;
    int fd = open_file(runs_dirfd, run_id);
    if (fd < 0)
        return fd;
    struct pawl_image *image = calloc(1, sizeof *image);
    int error = image ? 0 : -ENOMEM;
    if (error == 0 && fstat(fd, &st) < 0)
        error = -errno;
    if (error == 0 && st.st_size < PAWL_IMAGE_HEADER_BYTES)
        error = PAWL_E_DAMAGED;
    if (error < 0)
        goto close_fd;
    image->n = (size_t)st.st_size;
    image->bytes = mmap(NULL, image->n, PROT_READ, MAP_PRIVATE, fd, 0);
    if (image->bytes == MAP_FAILED) {
        error = -errno;
        goto close_fd;
    }
    pawl_core_options_default(&options);
    options.instances_max = UINT64_MAX;
    error = pawl_image_check_header(image->bytes, image->n, &image->header);
    if (error == 0)
        error = pawl_core_create(&options, &effects, image, &image->core);
    if (error < 0)
        goto unmap;
    error = pawl_image_load_run(image->core, image->bytes, image->n, &image->run);
    if (error == 0)
        error = pawl_core_insert_run(image->core, image->run);
    if (error < 0)
        goto destroy_core;
    close(fd);
    *image_out = image;
    return 0;
destroy_core:
    pawl_core_destroy(image->core);
unmap:
    munmap((void *)(uintptr_t)image->bytes, image->n);
close_fd:
    free(image);
    close(fd);
    return error;
}

void pawl_image_close(struct pawl_image *image)
{
    if (!image)
        return;
    pawl_core_destroy(image->core);
    munmap((void *)(uintptr_t)image->bytes, image->n);
    free(image);
}

int pawl_image_summary(int runs_dirfd, const char *run_id, struct pawl_wire_summary *summary_out)
{
    char page[PAWL_IMAGE_HEADER_BYTES];
    struct pawl_image_header header;
    int fd = open_file(runs_dirfd, run_id);
    if (fd < 0)
        return fd;
    ssize_t n = pread(fd, page, sizeof page, 0);
    int error = n < 0 ? -errno : pawl_image_check_header(page, (size_t)n, &header);
    close(fd);
    if (error == 0)
        *summary_out = header.summary;
    return error;
}

int pawl_image_last_word(int runs_dirfd, const char *run_id, struct pawl_wire_summary *summary_out)
{
    return pawl_reopened_is(runs_dirfd, run_id) ? -ENOENT
                                                : pawl_image_summary(runs_dirfd, run_id, summary_out);
}

void pawl_image_get_summary(const struct pawl_image *image, struct pawl_wire_summary *summary_out)
{
    *summary_out = image->header.summary;
}

const void *pawl_image_plan(const struct pawl_image *image, size_t *bytes_out)
{
    return pawl_run_plan(image->run, bytes_out);
}

const char *pawl_image_file(const struct pawl_image *image)
{
    return image->run->file;
}

int pawl_image_step_next(struct pawl_image *image, uint64_t *cursor, uint32_t state_mask,
                         struct pawl_step_view *view_out)
{
    int error = image->run->fed ? check_once(image, PAWL_SECTION_ITEMS) : 0;
    return error < 0 ? error : pawl_run_step_next(image->core, image->run, cursor, state_mask, view_out);
}

int pawl_image_result(struct pawl_image *image, uint32_t step, uint64_t instance, uint32_t attempt,
                      bool with_bytes, struct pawl_result_view *view_out)
{
    int error = with_bytes || attempt > 0 ? check_once(image, PAWL_SECTION_RESULTS) : 0;
    if (error < 0)
        return error;
    return pawl_run_result(image->core, image->run, step, instance, attempt, with_bytes, view_out);
}

int pawl_image_step_index(const struct pawl_image *image, const char *name)
{
    return pawl_run_step_index(image->run, name);
}

int pawl_image_why(struct pawl_image *image, uint32_t step, uint64_t instance, char *buffer, size_t bytes)
{
    struct pawl_now now = {.realtime_ns = image->header.summary.finished_at_ns};
    int error = check_once(image, PAWL_SECTION_RESULTS); /* it may quote an output */
    if (error < 0)
        return error;
    return pawl_run_why(image->core, image->run, step, instance, now, buffer, bytes);
}
