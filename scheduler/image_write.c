/*
 * image_write.c - a run becomes an image: to a file in bounded pieces when it is sealed, to memory for a
 * snapshot.
 *
 * Runs in: scheduler. Results come oldest first, so each record can name the one before it.
 */
#include "scheduler/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "scheduler/image_format.h"
#include "shm/error.h"

enum { BUFFER_BYTES = 256 << 10, TEXT_BYTES_MAX = 4096 };

enum phase { PHASE_RESULTS, PHASE_ITEMS, PHASE_TEXTS, PHASE_TABLES, PHASE_INSTANCES, PHASE_REST, PHASE_DONE };

struct pawl_image_writer {
    struct pawl_core *core;
    struct pawl_run *run;
    int fd; /* -1: to memory */
    char *memory;
    size_t memory_capacity;
    char *buffer;
    size_t buffered;
    uint64_t at; /* bytes so far, the buffer's included */
    struct pawl_image_header header;
    enum pawl_image_section open_part;
    XXH3_state_t *hash;
    enum phase phase;
    uint32_t step;
    uint64_t instance;
    uint64_t *places; /* of the instances in order, as they are in the image */
    uint64_t place_index;
    struct pawl_image_chunk *chunks;
    uint64_t *offsets;
    size_t offset_count, offset_capacity, chunk;
    uint64_t text_bytes;
};

/* ---- bytes ---- */

static int flush_buffer(struct pawl_image_writer *w)
{
    if (w->fd < 0 || w->buffered == 0)
        return 0;
    size_t done = 0;
    while (done < w->buffered) {
        ssize_t n = pwrite(w->fd, w->buffer + done, w->buffered - done, (off_t)(w->at - w->buffered + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENOSPC;
        done += (size_t)n;
    }
    w->buffered = 0;
    return 0;
}

static int put(struct pawl_image_writer *w, const void *bytes, size_t n)
{
    if (n == 0)
        return 0;
    if (w->hash)
        XXH3_64bits_update(w->hash, bytes, n);
    if (w->fd < 0) {
        int error = pawl_grow((void **)&w->memory, &w->memory_capacity, w->at + n, 1);
        if (error < 0)
            return error;
        memcpy(w->memory + w->at, bytes, n);
        w->at += n;
        return 0;
    }
    const char *from = bytes;
    while (n > 0) {
        size_t room = BUFFER_BYTES - w->buffered, take = n < room ? n : room;
        memcpy(w->buffer + w->buffered, from, take);
        w->buffered += take;
        w->at += take;
        from += take;
        n -= take;
        if (w->buffered == BUFFER_BYTES) {
            int error = flush_buffer(w);
            if (error < 0)
                return error;
        }
    }
    return 0;
}

static int pad(struct pawl_image_writer *w)
{
    static const char zeros[8];
    return put(w, zeros, -w->at & 7);
}

static int begin_part(struct pawl_image_writer *w, enum pawl_image_section part)
{
    XXH3_state_t *hash = w->hash;
    w->hash = NULL;
    int error = pad(w);
    w->hash = hash;
    XXH3_64bits_reset(w->hash);
    w->open_part = part;
    w->header.parts[part].offset = w->at;
    return error;
}

static void end_part(struct pawl_image_writer *w)
{
    struct pawl_image_part *part = &w->header.parts[w->open_part];
    part->bytes = w->at - part->offset;
    part->xxh3 = XXH3_64bits_digest(w->hash);
}

static int put_part(struct pawl_image_writer *w, enum pawl_image_section part, const void *bytes, size_t n)
{
    int error = begin_part(w, part);
    if (error == 0)
        error = put(w, bytes, n);
    end_part(w);
    return error;
}

/* ---- results ---- */

static int copy_record(struct pawl_image_writer *w, uint64_t place, uint64_t previous, uint64_t *place_out)
{
    struct pawl_step_record record;
    int error = pawl_result_read(w->run, place, 0, &record, sizeof record);
    if (error < 0)
        return error;
    size_t n = pawl_result_bytes(&record) - sizeof record;
    char *rest = malloc(n ? n : 1);
    if (!rest)
        return -ENOMEM;
    error = n > 0 ? pawl_result_read(w->run, place, sizeof record, rest, n) : 0;
    record.previous = previous;
    *place_out = PAWL_PLACE_IN_IMAGE | w->at;
    if (error == 0)
        error = put(w, &record, sizeof record);
    if (error == 0)
        error = put(w, rest, n);
    if (error == 0)
        error = pad(w);
    free(rest);
    return error;
}

static int copy_chain(struct pawl_image_writer *w, uint64_t newest, uint64_t *place_out)
{
    uint64_t *chain = NULL;
    size_t count = 0, capacity = 0;
    int error = 0;
    for (uint64_t place = newest; place != 0 && count < 65536;) {
        struct pawl_step_record record;
        error = pawl_grow((void **)&chain, &capacity, count + 1, sizeof *chain);
        if (error < 0)
            goto free_chain;
        error = pawl_result_read(w->run, place, 0, &record, sizeof record);
        if (error < 0 && count == 0)
            goto free_chain;
        if (error <
            0) { /* an older attempt that cannot be found any more ends the chain; the newest must be there */
            error = 0;
            break;
        }
        chain[count++] = place;
        place = record.previous;
    }
    *place_out = 0;
    while (count > 0 && error == 0)
        error = copy_record(w, chain[--count], *place_out, place_out);
free_chain:
    free(chain);
    return error;
}

/* Advance over (step, instance) while the budget lasts. Return: 1 budget spent, 0 at the end, negative. */
static int each_instance(struct pawl_image_writer *w, uint64_t until,
                         int (*visit)(struct pawl_image_writer *, struct pawl_step *, uint64_t))
{
    for (; w->step < w->run->step_count; w->step++, w->instance = 0) {
        struct pawl_step *step = &w->run->steps[w->step];
        for (; w->instance < step->count; w->instance++) {
            if (w->at >= until)
                return 1;
            int error = visit(w, step, w->instance);
            if (error < 0)
                return error;
        }
    }
    w->step = 0;
    w->instance = 0;
    return 0;
}

static int visit_result(struct pawl_image_writer *w, struct pawl_step *step, uint64_t n)
{
    uint64_t place = step->instances[n].place, copied = 0;
    int error = place ? copy_chain(w, place, &copied) : 0;
    w->places[w->place_index++] = copied;
    return error;
}

static uint64_t resolved(const struct pawl_image_writer *w, uint64_t place)
{
    const struct pawl_core *core = w->core;
    if (place == 0 || (place & PAWL_PLACE_IN_IMAGE) != 0 || !core->effects.resolve)
        return place;
    return core->effects.resolve(core->ctx, place);
}

static int visit_instance(struct pawl_image_writer *w, struct pawl_step *step, uint64_t n)
{
    struct pawl_instance instance = step->instances[n];
    if (w->places)
        instance.place = w->places[w->place_index++];
    else
        instance.place = resolved(w, instance.place);
    return put(w, &instance, sizeof instance);
}

static int visit_text(struct pawl_image_writer *w, struct pawl_step *step, uint64_t n)
{
    struct pawl_value value;
    const char *text = "";
    size_t length = 0;
    bool known = step->axes || step->items.count > n, told_before = step->item_count > n;
    if (!step->many || (step->plan->flags & PAWL_STEP_FED) != 0 || (!known && !told_before))
        return 0;
    int error = pawl_grow((void **)&w->offsets, &w->offset_capacity, w->offset_count + 2, sizeof *w->offsets);
    if (error < 0)
        return error;
    if (n == 0)
        w->offsets[w->offset_count++] = w->text_bytes;
    pawl_arena_reset(&w->core->scratch);
    if (!known) { /* the list was not asked for again since it came from an image */
        text = w->run->item_texts + step->item_offsets[n];
        length = step->item_offsets[n + 1] - step->item_offsets[n];
    } else if (pawl_flow_item(w->run, step, n, &w->core->scratch, &value) == 0 &&
               pawl_value_to_text(&value, TEXT_BYTES_MAX, false, &w->core->scratch, &text, &length) < 0) {
        length = 0;
    }
    w->text_bytes += length;
    w->offsets[w->offset_count++] = w->text_bytes;
    return put(w, text, length);
}

/* ---- items ---- */

static int copy_items(struct pawl_image_writer *w, uint64_t until)
{
    for (; w->chunk < w->run->chunk_count; w->chunk++) {
        if (w->at >= until)
            return 1;
        const struct pawl_items_chunk *chunk = &w->run->chunks[w->chunk];
        uint32_t n = 0;
        const char *first = pawl_items_find(w->run, chunk->first, &n); /* brings the chunk into memory */
        if (!first)
            return PAWL_E_NOT_FOUND;
        w->chunks[w->chunk].place = PAWL_PLACE_IN_IMAGE | w->at;
        w->chunks[w->chunk].body_offset = 0;
        int error = put(w, chunk->bytes, chunk->bytes_count);
        if (error == 0)
            error = pad(w);
        if (error < 0)
            return error;
    }
    return 0;
}

static int make_chunks(struct pawl_image_writer *w)
{
    size_t count = w->run->chunk_count;
    w->chunks = calloc(count ? count : 1, sizeof *w->chunks);
    if (!w->chunks)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        const struct pawl_items_chunk *chunk = &w->run->chunks[i];
        w->chunks[i] = (struct pawl_image_chunk){.first = chunk->first,
                                                 .place = resolved(w, chunk->place),
                                                 .count = chunk->count,
                                                 .open = chunk->open,
                                                 .body_offset = chunk->body_offset,
                                                 .bytes = chunk->bytes_count};
    }
    return 0;
}

/* ---- tables ---- */

static int put_steps(struct pawl_image_writer *w)
{
    int error = begin_part(w, PAWL_SECTION_STEPS);
    for (uint32_t i = 0; i < w->run->step_count && error == 0; i++) {
        const struct pawl_step *step = &w->run->steps[i];
        struct pawl_image_step out = {
            .count = step->count, .state = step->state, .reason = step->reason, .expanded = step->expanded};
        bool listed = step->many && (step->plan->flags & PAWL_STEP_FED) == 0 &&
                      (step->axes || step->items.count >= step->count);
        out.texts = w->fd >= 0 && listed ? step->count : 0;
        memcpy(out.note, step->note, sizeof out.note);
        error = put(w, &out, sizeof out);
    }
    end_part(w);
    return error;
}

static int put_timers(struct pawl_image_writer *w)
{
    struct pawl_core *core = w->core;
    int error = begin_part(w, PAWL_SECTION_TIMERS);
    for (size_t i = 0; i < core->timers.count && error == 0; i++) {
        struct pawl_timer timer = core->timers.heap[i];
        if (timer.run != w->run->number)
            continue;
        uint64_t left = timer.due_ns > core->now.boottime_ns ? timer.due_ns - core->now.boottime_ns : 0;
        timer.due_ns = core->now.realtime_ns + left;
        error = put(w, &timer, sizeof timer);
    }
    end_part(w);
    return error;
}

static int put_tables(struct pawl_image_writer *w)
{
    struct pawl_run *run = w->run;
    size_t plan_bytes = 0;
    const void *plan = pawl_plan_blob(run->plan, &plan_bytes);
    int error = put_part(w, PAWL_SECTION_PLAN, plan, plan_bytes);
    if (error == 0)
        error = put_part(w, PAWL_SECTION_CONTEXT, run->context, run->context_bytes);
    if (error == 0)
        error = put_part(w, PAWL_SECTION_FILE, run->file ? run->file : "", run->file ? strlen(run->file) : 0);
    return error == 0 ? put_steps(w) : error;
}

static int put_rest(struct pawl_image_writer *w)
{
    struct pawl_run *run = w->run;
    uint64_t hashed = run->fed ? run->steps[0].count : 0;
    int error = put_part(w, PAWL_SECTION_CHUNKS, w->chunks, run->chunk_count * sizeof *w->chunks);
    if (error == 0)
        error = put_part(w, PAWL_SECTION_HASHES, run->hashes, hashed * sizeof *run->hashes);
    if (error == 0)
        error = put_part(w, PAWL_SECTION_FED_ORDER, run->fed_order, run->fed_count * sizeof *run->fed_order);
    if (error == 0)
        error = put_part(w, PAWL_SECTION_COMPLETIONS, run->completions.instances,
                         run->completions.count * sizeof *run->completions.instances);
    if (error == 0)
        error = put_part(w, PAWL_SECTION_OFFSETS, w->offsets, w->offset_count * sizeof *w->offsets);
    if (error == 0)
        error = put_timers(w);
    if (error == 0)
        error = put_part(w, PAWL_SECTION_PINS, run->pins, w->fd < 0 ? run->pin_count * sizeof *run->pins : 0);
    return error == 0 ? flush_buffer(w) : error;
}

static int put_header(struct pawl_image_writer *w)
{
    struct pawl_image_header *h = &w->header;
    struct pawl_run *run = w->run;
    h->magic = PAWL_IMAGE_MAGIC;
    h->version = PAWL_IMAGE_VERSION;
    h->flags = w->fd >= 0 ? PAWL_IMAGE_SEALED : 0;
    h->total_bytes = w->at;
    pawl_run_summary(w->core, run, w->core->now, &h->summary);
    h->summary.sealed = w->fd >= 0;
    h->request = run->request;
    h->number = run->number;
    h->batch = run->batch_number;
    h->base_image = w->fd >= 0 ? 0 : run->base_image;
    h->lsn_submitted = w->fd >= 0 ? 0 : run->lsn_submitted;
    h->lsn_ended = w->fd >= 0 ? 0 : run->lsn_ended;
    h->resumed_at_ns = run->resumed_at_ns;
    h->elapsed_before_ns = run->elapsed_before_ns;
    h->fed_all = run->fed_all;
    h->matching = run->matching;
    h->xxh3 = XXH3_64bits(h, offsetof(struct pawl_image_header, xxh3));
    char page[PAWL_IMAGE_HEADER_BYTES] = {0};
    memcpy(page, h, sizeof *h);
    if (w->fd < 0) {
        memcpy(w->memory, page, sizeof page);
        return 0;
    }
    ssize_t n = pwrite(w->fd, page, sizeof page, 0);
    return n == (ssize_t)sizeof page ? 0 : n < 0 ? -errno : -ENOSPC;
}

/* ---- the writer ---- */

static uint64_t count_instances(const struct pawl_run *run)
{
    uint64_t instances = 0;
    for (uint32_t i = 0; i < run->step_count; i++)
        instances += run->steps[i].count;
    return instances;
}

/* Of an image in memory, nearly: one that grows by and by is copied into fresh pages several times, while
 * nothing else is decided. */
static size_t expected_bytes(const struct pawl_run *run, uint64_t instances)
{
    size_t plan_bytes = 0;
    (void)pawl_plan_blob(run->plan, &plan_bytes);
    return 2 * PAWL_IMAGE_HEADER_BYTES + plan_bytes + run->context_bytes +
           run->step_count * sizeof(struct pawl_image_step) + instances * sizeof(struct pawl_instance) +
           run->chunk_count * sizeof(struct pawl_image_chunk) +
           (run->fed ? run->steps[0].count * sizeof *run->hashes : 0) +
           run->fed_count * sizeof *run->fed_order +
           run->completions.count * sizeof *run->completions.instances + run->pin_count * sizeof *run->pins;
}

int pawl_image_begin(struct pawl_core *core, struct pawl_run *run, int fd,
                     struct pawl_image_writer **writer_out)
{
    struct pawl_image_writer *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    w->core = core;
    w->run = run;
    w->fd = fd;
    w->hash = XXH3_createState();
    w->buffer = fd >= 0 ? malloc(BUFFER_BYTES) : NULL;
    uint64_t instances = count_instances(run);
    w->places = fd >= 0 ? malloc((instances ? instances : 1) * sizeof *w->places) : NULL;
    char page[PAWL_IMAGE_HEADER_BYTES] = {0};
    XXH3_state_t *hash = w->hash;
    w->hash = NULL;
    int error = !hash || (fd >= 0 && (!w->buffer || !w->places)) ? -ENOMEM : make_chunks(w);
    if (error == 0 && fd < 0)
        error = pawl_grow((void **)&w->memory, &w->memory_capacity, expected_bytes(run, instances), 1);
    if (error == 0)
        error = put(w, page, sizeof page);
    w->hash = hash;
    if (error == 0)
        error = begin_part(w, PAWL_SECTION_RESULTS);
    w->phase = PHASE_RESULTS;
    if (error < 0) {
        pawl_image_end(w);
        return error;
    }
    *writer_out = w;
    return 0;
}

const char *pawl_image_memory(const struct pawl_image_writer *w, size_t *bytes_out)
{
    *bytes_out = w->at;
    return w->memory;
}

static int next_phase(struct pawl_image_writer *w, int result, enum pawl_image_section part)
{
    if (result != 0)
        return result;
    end_part(w);
    w->phase++;
    w->place_index = 0;
    return w->phase == PHASE_TABLES || w->phase == PHASE_REST ? 0 : begin_part(w, part);
}

int pawl_image_next(struct pawl_image_writer *w, size_t budget_bytes)
{
    uint64_t until = w->at + budget_bytes;
    int result = 0;
    while (result == 0 && w->phase != PHASE_DONE) {
        switch (w->phase) {
        case PHASE_RESULTS:
            result =
                next_phase(w, w->fd >= 0 ? each_instance(w, until, visit_result) : 0, PAWL_SECTION_ITEMS);
            break;
        case PHASE_ITEMS:
            result = next_phase(w, w->fd >= 0 ? copy_items(w, until) : 0, PAWL_SECTION_TEXTS);
            break;
        case PHASE_TEXTS:
            result = next_phase(w, w->fd >= 0 ? each_instance(w, until, visit_text) : 0, PAWL_SECTION_PLAN);
            break;
        case PHASE_TABLES:
            result = put_tables(w);
            if (result == 0)
                result = begin_part(w, PAWL_SECTION_INSTANCES);
            w->phase++;
            break;
        case PHASE_INSTANCES:
            result = next_phase(w, each_instance(w, until, visit_instance), PAWL_SECTION_INSTANCES);
            break;
        case PHASE_REST:
            result = put_rest(w);
            if (result == 0)
                result = put_header(w);
            w->phase++;
            break;
        case PHASE_DONE:
            break;
        }
    }
    return result;
}

void pawl_image_end(struct pawl_image_writer *w)
{
    if (!w)
        return;
    XXH3_freeState(w->hash);
    free(w->buffer);
    free(w->memory);
    free(w->places);
    free(w->chunks);
    free(w->offsets);
    free(w);
}
