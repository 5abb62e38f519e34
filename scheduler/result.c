/*
 * result.c - attempts read back: from the journal while a run is open, from its image afterwards.
 *
 * Runs in: scheduler, and readers of images.
 */
#include "scheduler/core_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

enum {
    WINDOW_BYTES = 256 << 10, /* of an image, kept in memory */
    WALK_BYTES = 64 << 10,    /* from one record to the next that is read, either way */
};

size_t pawl_result_bytes(const struct pawl_step_record *record)
{
    size_t due = record->state == PAWL_STEP_DELAYED ? sizeof(struct pawl_due) : 0;
    return sizeof *record + due + record->stdout_bytes + record->stderr_bytes + record->named_bytes;
}

/* ---- images ---- */

void pawl_result_forget(struct pawl_run *run)
{
    struct pawl_image_window *window = &run->core->window;
    if (window->run != run->number)
        return;
    free(window->data);
    *window = (struct pawl_image_window){0};
}

/* Whoever reads all results walks through the image, and each read opens the file anew: then more is read at
 * a time. Single results far from each other are read alone. */
static void turn_window_to(struct pawl_run *run, uint64_t place)
{
    struct pawl_image_window *window = &run->core->window;
    uint64_t last = window->place;
    if (window->run == run->number && place == last)
        return;
    bool near = place > last ? place - last <= WALK_BYTES : last - place <= WALK_BYTES;
    window->walks = window->run == run->number && near;
    if (window->run != run->number) {
        free(window->data);
        *window = (struct pawl_image_window){.run = run->number};
    }
    window->place = place;
}

static int read_image(struct pawl_run *run, uint64_t place, uint32_t offset, void *buffer, size_t bytes)
{
    struct pawl_core *core = run->core;
    struct pawl_image_window *window = &core->window;
    uint64_t at = (place & ~PAWL_PLACE_IN_IMAGE) + offset;
    turn_window_to(run, place);
    if (at >= window->at && at - window->at <= window->bytes && bytes <= window->bytes - (at - window->at)) {
        if (bytes > 0)
            memcpy(buffer, window->data + (at - window->at), bytes);
        return 0;
    }
    void *piece = NULL;
    size_t n = 0;
    bool keep = window->walks && bytes < WINDOW_BYTES;
    int error =
        core->effects.read_file(core->ctx, run->id, "image", at, keep ? WINDOW_BYTES : bytes, &piece, &n);
    if (error == 0 && n >= bytes)
        memcpy(buffer, piece, bytes);
    else if (error == 0)
        error = PAWL_E_DAMAGED;
    if (error != 0 || !keep) {
        free(piece);
        return error;
    }
    free(window->data);
    window->data = piece;
    window->at = at;
    window->bytes = n;
    return 0;
}

int pawl_result_read(struct pawl_run *run, uint64_t place, uint32_t offset, void *buffer, size_t bytes)
{
    struct pawl_core *core = run->core;
    if ((place & PAWL_PLACE_IN_IMAGE) == 0)
        return core->effects.read(core->ctx, place, offset, buffer, bytes);
    return read_image(run, place, offset, buffer, bytes);
}

/* ---- attempts ---- */

/* The record of `attempt` (0: the newest) along the chain of places. */
static int find_attempt(struct pawl_run *run, const struct pawl_instance *instance, uint32_t attempt,
                        struct pawl_step_record *record_out, uint64_t *place_out)
{
    uint64_t place = instance->place;
    for (unsigned hops = 0; place != 0 && hops < 65536; hops++) {
        int error = pawl_result_read(run, place, 0, record_out, sizeof *record_out);
        if (error < 0)
            return error;
        bool ours = (place & PAWL_PLACE_IN_IMAGE) != 0 || record_out->run == run->number;
        if (!ours)
            return hops == 0 ? PAWL_E_DAMAGED : PAWL_E_NOT_FOUND;
        if (attempt == 0 || record_out->attempt == attempt) {
            *place_out = place;
            return 0;
        }
        place = record_out->previous;
    }
    return PAWL_E_NOT_FOUND;
}

static void view_from_instance(const struct pawl_instance *instance, struct pawl_wire_result *fixed)
{
    fixed->attempt = instance->attempt;
    fixed->state = instance->state;
    fixed->outcome = instance->outcome;
    fixed->exit_code = instance->exit_code;
    fixed->started_at_ns = instance->started_at_ns;
    fixed->duration_ns = (uint64_t)instance->duration_us * 1000;
    fixed->worker = instance->worker;
}

/* A large output is told by its path below the run's directory. */
static uint32_t file_name(char *out, size_t bytes, const char *step, bool many, uint64_t instance,
                          uint32_t attempt, const char *suffix)
{
    int n =
        many ? snprintf(out, bytes, "out/%s.%llu.%u.%s", step, (unsigned long long)instance, attempt, suffix)
             : snprintf(out, bytes, "out/%s.%u.%s", step, attempt, suffix);
    return n < 0 ? 0 : (uint32_t)n;
}

static int read_file_mark(struct pawl_run *run, uint64_t place, uint32_t at, uint32_t bytes,
                          struct pawl_output_file *file_out)
{
    if (bytes != sizeof *file_out)
        return PAWL_E_DAMAGED;
    return pawl_result_read(run, place, at, file_out, sizeof *file_out);
}

static int view_bytes(struct pawl_run *run, struct pawl_step *step, uint64_t instance, uint64_t place,
                      const struct pawl_step_record *record, struct pawl_result_view *view)
{
    const char *name = pawl_plan_step_name(run->plan, step->index);
    uint32_t due = record->state == PAWL_STEP_DELAYED ? sizeof(struct pawl_due) : 0;
    size_t out_bytes = record->stdout_bytes, err_bytes = record->stderr_bytes;
    char out_name[160], err_name[160];
    if (record->flags & PAWL_SETTLE_STDOUT_FILE) {
        out_bytes = file_name(out_name, sizeof out_name, name, step->many, instance, record->attempt, "out");
        view->fixed.flags |= PAWL_RESULT_STDOUT_FILE;
    }
    if (record->flags & PAWL_SETTLE_STDERR_FILE) {
        err_bytes = file_name(err_name, sizeof err_name, name, step->many, instance, record->attempt, "err");
        view->fixed.flags |= PAWL_RESULT_STDERR_FILE;
    }
    view->bytes = malloc(out_bytes + err_bytes + record->named_bytes + 1);
    if (!view->bytes)
        return -ENOMEM;
    view->fixed.stdout_bytes = (uint32_t)out_bytes;
    view->fixed.stderr_bytes = (uint32_t)err_bytes;
    view->fixed.named_bytes = record->named_bytes;
    uint32_t at = (uint32_t)sizeof *record + due;
    char *to = view->bytes;
    int error = 0;
    if (record->flags & PAWL_SETTLE_STDOUT_FILE) {
        memcpy(to, out_name, out_bytes);
        error = read_file_mark(run, place, at, record->stdout_bytes, &view->stdout_file);
    } else if (out_bytes > 0) {
        error = pawl_result_read(run, place, at, to, out_bytes);
    }
    at += record->stdout_bytes;
    to += out_bytes;
    if (error == 0 && (record->flags & PAWL_SETTLE_STDERR_FILE)) {
        memcpy(to, err_name, err_bytes);
        error = read_file_mark(run, place, at, record->stderr_bytes, &view->stderr_file);
    } else if (error == 0 && err_bytes > 0) {
        error = pawl_result_read(run, place, at, to, err_bytes);
    }
    at += record->stderr_bytes;
    to += err_bytes;
    if (error == 0 && record->named_bytes > 0)
        error = pawl_result_read(run, place, at, to, record->named_bytes);
    if (error < 0) {
        free(view->bytes);
        view->bytes = NULL;
    }
    return error;
}

int pawl_run_result(struct pawl_core *core, struct pawl_run *run, uint32_t step_index, uint64_t number,
                    uint32_t attempt, bool with_bytes, struct pawl_result_view *view_out)
{
    (void)core;
    *view_out = (struct pawl_result_view){0};
    if (step_index >= run->step_count || number >= run->steps[step_index].count)
        return PAWL_E_NOT_FOUND;
    struct pawl_step *step = &run->steps[step_index];
    const struct pawl_instance *instance = &step->instances[number];
    view_out->fixed.instance = number;
    view_out->fixed.step = step_index;
    bool newest = attempt == 0 || attempt == instance->attempt;
    if (newest && (instance->place == 0 || !with_bytes)) {
        if (instance->attempt == 0 && instance->place == 0)
            return PAWL_E_STATE;
        view_from_instance(instance, &view_out->fixed);
        return 0;
    }
    struct pawl_step_record record;
    uint64_t place = 0;
    int error = find_attempt(run, instance, attempt, &record, &place);
    if (error < 0)
        return error;
    view_out->fixed.attempt = record.attempt;
    view_out->fixed.state = record.state;
    view_out->fixed.outcome = record.outcome;
    view_out->fixed.exit_code = record.exit_code;
    view_out->fixed.started_at_ns = record.started_at_ns;
    view_out->fixed.duration_ns = record.duration_ns;
    view_out->fixed.worker = record.worker;
    return with_bytes ? view_bytes(run, step, number, place, &record, view_out) : 0;
}
