/*
 * flow_values.c - what an expression may ask of a run: items, outputs, exit codes, states, the environment.
 *
 * Runs in: scheduler. Outputs are read through the effects, as bytes, and kept while their step may be asked.
 */
#include "scheduler/core_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "shm/error.h"

enum { OUTPUT_ARENA_BYTES = 1 << 30 };

/* ---- items ---- */

int pawl_flow_item(struct pawl_run *run, struct pawl_step *step, uint64_t instance, struct pawl_arena *arena,
                   struct pawl_value *value_out)
{
    uint32_t axes = step->plan->axes.count;
    if ((step->plan->flags & PAWL_STEP_FED) != 0) {
        uint32_t bytes = 0;
        const char *item = pawl_items_find(run, instance, &bytes);
        struct pawl_task task;
        if (!item || bytes < sizeof(struct pawl_wire_item) ||
            pawl_task_open(item + sizeof(struct pawl_wire_item), bytes - sizeof(struct pawl_wire_item),
                           &task) < 0)
            return PAWL_E_NOT_FOUND;
        char *copy = pawl_arena_copy(arena, task.item ? task.item : "", task.item_bytes);
        if (!copy)
            return PAWL_E_LIMIT;
        *value_out = pawl_value_bytes(copy, task.item_bytes);
        return 0;
    }
    if (axes == 0)
        return pawl_value_at(&step->items, instance, arena, value_out);
    struct pawl_pair *pairs = pawl_arena_alloc(arena, axes * sizeof *pairs);
    if (!pairs)
        return PAWL_E_LIMIT;
    const struct pawl_plan_axis *axis = pawl_plan_axes(run->plan, step->plan);
    for (uint32_t a = axes; a > 0; a--) { /* the last axis runs fastest */
        uint64_t count = step->axes[a - 1].count;
        struct pawl_pair *pair = &pairs[a - 1];
        pair->key = pawl_plan_text(run->plan, axis[a - 1].name);
        pair->key_bytes = axis[a - 1].name.bytes;
        int error = pawl_value_at(&step->axes[a - 1], instance % count, arena, &pair->value);
        if (error < 0)
            return error;
        instance /= count;
    }
    *value_out = (struct pawl_value){.kind = PAWL_VALUE_MAP, .count = axes, .pairs = pairs};
    return 0;
}

/* ---- outputs ---- */

static int read_stdout(struct pawl_run *run, struct pawl_step *step, uint64_t number, char **text_out,
                       size_t *n_out)
{
    struct pawl_result_view view;
    *text_out = NULL;
    *n_out = 0;
    const struct pawl_instance *instance = &step->instances[number];
    if ((instance->flags & PAWL_INSTANCE_OUTPUT) == 0)
        return 0;
    int error = pawl_run_result(run->core, run, step->index, number, 0, true, &view);
    if (error < 0)
        return error;
    if ((view.fixed.flags & PAWL_RESULT_STDOUT_FILE) == 0) {
        *text_out = view.bytes;
        *n_out = view.fixed.stdout_bytes;
        return 0;
    }
    char name[192];
    snprintf(name, sizeof name, "%.*s", (int)view.fixed.stdout_bytes, view.bytes);
    free(view.bytes);
    void *bytes = NULL;
    error = run->core->effects.read_file(run->core->ctx, run->id, name, 0, UINT64_MAX, &bytes, n_out);
    if (error == 0 &&
        (*n_out != view.stdout_file.bytes || XXH3_64bits(bytes, *n_out) != view.stdout_file.xxh3)) {
        free(bytes); /* nothing is computed from what no step has printed */
        return PAWL_E_DAMAGED;
    }
    *text_out = bytes;
    return error;
}

int pawl_flow_output(struct pawl_run *run, struct pawl_step *step, uint64_t instance,
                     struct pawl_arena *arena, struct pawl_value *value_out, char **text_out)
{
    size_t n = 0;
    int error = read_stdout(run, step, instance, text_out, &n);
    if (error < 0)
        return error;
    const char *text = *text_out ? *text_out : "";
    switch ((enum pawl_step_output)step->plan->output) {
    case PAWL_OUTPUT_LINES:
        return pawl_lines_init(arena, text, n, value_out);
    case PAWL_OUTPUT_JSON:
        return pawl_value_parse_json(text, n, PAWL_VALUE_DEPTH_MAX, arena, value_out, NULL);
    case PAWL_OUTPUT_TEXT:
        break;
    }
    if (n > 0 && text[n - 1] == '\n')
        n--;
    *value_out = pawl_value_bytes(text, n);
    return 0;
}

static struct pawl_arena *output_arena(struct pawl_step *step)
{
    if (!step->output) {
        step->output = malloc(sizeof *step->output);
        if (step->output)
            pawl_arena_init(step->output, OUTPUT_ARENA_BYTES);
    }
    return step->output;
}

static int simple_output(struct pawl_run *run, struct pawl_step *step, struct pawl_value *value_out)
{
    if (!step->output_loaded) {
        struct pawl_arena *arena = output_arena(step);
        if (!arena)
            return -ENOMEM;
        if (step->instances[0].attempt == 0 || step->state == PAWL_STEP_SKIPPED)
            step->output_value = pawl_value_null();
        else {
            int error = pawl_flow_output(run, step, 0, arena, &step->output_value, &step->output_text);
            if (error < 0) {
                free(step->output_text);
                step->output_text = NULL;
                return error;
            }
        }
        step->output_loaded = true;
    }
    *value_out = step->output_value;
    return 0;
}

struct outputs_of {
    struct pawl_list_source source;
    struct pawl_run *run;
    struct pawl_step *step;
};

static int output_at(const struct pawl_list_source *source, uint64_t index, struct pawl_arena *arena,
                     struct pawl_value *value_out)
{
    const struct outputs_of *of = source->context;
    if (of->step->instances[index].attempt == 0) {
        *value_out = pawl_value_null();
        return 0;
    }
    char *text = NULL;
    int error = pawl_flow_output(of->run, of->step, index, arena, value_out, &text);
    if (error == 0 && text && (value_out->kind == PAWL_VALUE_STRING || value_out->kind == PAWL_VALUE_LINES)) {
        /* The value borrows `text`: give it to the arena. */
        size_t n = value_out->kind == PAWL_VALUE_STRING ? value_out->count : value_out->lines->length;
        char *kept = pawl_arena_copy(arena, text, n);
        if (!kept)
            error = PAWL_E_LIMIT;
        else if (value_out->kind == PAWL_VALUE_STRING)
            value_out->bytes = kept;
        else
            error = pawl_lines_init(arena, kept, n, value_out);
    }
    free(text);
    return error;
}

static int all_outputs(struct pawl_run *run, struct pawl_step *step, struct pawl_arena *arena,
                       struct pawl_value *value_out)
{
    struct outputs_of *of = pawl_arena_alloc(arena, sizeof *of);
    if (!of)
        return PAWL_E_LIMIT;
    bool skipped = step->state == PAWL_STEP_SKIPPED && !step->many;
    of->source =
        (struct pawl_list_source){.count = skipped ? 0 : step->count, .context = of, .at = output_at};
    of->run = run;
    of->step = step;
    *value_out = pawl_value_virtual(&of->source);
    return 0;
}

/* ---- named outputs: key=value lines, or one JSON object ---- */

static int parse_named(const char *text, size_t n, struct pawl_arena *arena, struct pawl_value *value_out)
{
    size_t at = 0, count = 0, lines = 1;
    while (at < n && (text[at] == ' ' || text[at] == '\n' || text[at] == '\t' || text[at] == '\r'))
        at++;
    if (at < n && text[at] == '{')
        return pawl_value_parse_json(text, n, PAWL_VALUE_DEPTH_MAX, arena, value_out, NULL);
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    struct pawl_pair *pairs = pawl_arena_alloc(arena, lines * sizeof *pairs);
    if (!pairs)
        return PAWL_E_LIMIT;
    for (size_t start = 0; start < n;) {
        const char *newline = memchr(text + start, '\n', n - start);
        size_t end = newline ? (size_t)(newline - text) : n;
        const char *equals = memchr(text + start, '=', end - start);
        if (equals && equals > text + start) {
            pairs[count].key = text + start;
            pairs[count].key_bytes = (size_t)(equals - text) - start;
            pairs[count++].value = pawl_value_bytes(equals + 1, (size_t)(text + end - equals) - 1);
        } else if (end > start) {
            return PAWL_E_INVALID;
        }
        start = end + 1;
    }
    *value_out = (struct pawl_value){.kind = PAWL_VALUE_MAP, .count = count, .pairs = pairs};
    return 0;
}

static int load_named(struct pawl_run *run, struct pawl_step *step)
{
    struct pawl_arena *arena = output_arena(step);
    struct pawl_result_view view = {0};
    if (!arena)
        return -ENOMEM;
    step->named_value = pawl_value_null();
    if (step->instances[0].flags & PAWL_INSTANCE_OUTPUT) {
        int error = pawl_run_result(run->core, run, step->index, 0, 0, true, &view);
        if (error < 0)
            return error;
        const char *named = view.bytes + view.fixed.stdout_bytes + view.fixed.stderr_bytes;
        char *copy = pawl_arena_copy(arena, named, view.fixed.named_bytes);
        size_t n = view.fixed.named_bytes;
        free(view.bytes);
        if (!copy)
            return PAWL_E_LIMIT;
        error = parse_named(copy, n, arena, &step->named_value);
        if (error < 0)
            return error;
    }
    step->named_loaded = true;
    return 0;
}

bool pawl_flow_named_hold(struct pawl_core *core, struct pawl_run *run, const struct pawl_step *step,
                          uint64_t instance)
{
    enum { SCRATCH_BYTES = 1 << 20 }; /* for at most PAWL_NAMED_OUTPUT_BYTES */
    struct pawl_result_view view;
    struct pawl_arena arena;
    struct pawl_value value;
    if (run->fed || (step->instances[instance].flags & PAWL_INSTANCE_OUTPUT) == 0 ||
        pawl_run_result(core, run, step->index, instance, 0, true, &view) < 0)
        return true;
    pawl_arena_init(&arena, SCRATCH_BYTES);
    const char *named = view.bytes + view.fixed.stdout_bytes + view.fixed.stderr_bytes;
    int error = parse_named(named, view.fixed.named_bytes, &arena, &value);
    pawl_arena_fini(&arena);
    free(view.bytes);
    return error != PAWL_E_INVALID;
}

static int named_output(struct pawl_run *run, struct pawl_step *step, const char *name, size_t name_bytes,
                        struct pawl_value *value_out)
{
    if (step->many)
        return PAWL_E_NOT_FOUND;
    if (!step->named_loaded) {
        int error = load_named(run, step);
        if (error < 0)
            return error;
    }
    const struct pawl_value *found = pawl_value_get(&step->named_value, name, name_bytes);
    if (!found)
        return PAWL_E_NOT_FOUND;
    *value_out = *found;
    return 0;
}

/* ---- the callbacks ---- */

static int exit_code_of(const struct pawl_step *step, struct pawl_value *value_out)
{
    const struct pawl_instance *instance = step->count > 0 ? &step->instances[0] : NULL;
    for (uint64_t n = 0; step->many && n < step->count; n++) /* of many: the first that failed */
        if (step->instances[n].state == PAWL_STEP_FAILED) {
            instance = &step->instances[n];
            break;
        }
    bool exited = instance && instance->attempt > 0 && instance->outcome == PAWL_OUTCOME_EXITED;
    *value_out = exited ? pawl_value_int(instance->exit_code) : pawl_value_null();
    return 0;
}

static int step_field(void *context, uint32_t step_index, enum pawl_expr_step_field field, const char *name,
                      size_t name_bytes, struct pawl_arena *arena, struct pawl_value *value_out)
{
    struct pawl_run *run = context;
    if (step_index >= run->step_count)
        return PAWL_E_NOT_FOUND;
    struct pawl_step *step = &run->steps[step_index];
    switch (field) {
    case PAWL_EXPR_STEP_OUTPUT:
        return step->many ? all_outputs(run, step, arena, value_out) : simple_output(run, step, value_out);
    case PAWL_EXPR_STEP_OUTPUTS:
        return all_outputs(run, step, arena, value_out);
    case PAWL_EXPR_STEP_EXIT_CODE:
        return exit_code_of(step, value_out);
    case PAWL_EXPR_STEP_STATE:
        *value_out = pawl_value_text(pawl_step_state_name(step->state));
        return 0;
    case PAWL_EXPR_STEP_NAMED:
        break;
    }
    return named_output(run, step, name, name_bytes, value_out);
}

static int env_var(void *context, const char *name, size_t name_bytes, struct pawl_arena *arena,
                   struct pawl_value *value_out)
{
    struct pawl_run *run = context;
    struct pawl_context surroundings;
    (void)arena;
    if (pawl_context_open(run->context, run->context_bytes, &surroundings) < 0)
        return PAWL_E_NOT_FOUND;
    const char *entry = surroundings.env;
    for (uint32_t i = 0; i < surroundings.env_count; i++) {
        if (strncmp(entry, name, name_bytes) == 0 && entry[name_bytes] == '=') {
            *value_out = pawl_value_text(entry + name_bytes + 1);
            return 0;
        }
        entry += strlen(entry) + 1;
    }
    return PAWL_E_NOT_FOUND;
}

static int outcome_of_needs(void *context, enum pawl_expr_outcome outcome, bool *holds_out)
{
    struct pawl_run *run = context;
    const struct pawl_step *asking = run->asking;
    bool failed = false;
    if (asking) {
        const uint32_t *needs = pawl_plan_needs(run->plan, asking->plan);
        for (uint32_t n = 0; n < asking->plan->needs.count; n++) {
            const struct pawl_step *need = &run->steps[needs[n]];
            failed |= need->state == PAWL_STEP_FAILED || need->state == PAWL_STEP_CANCELLED ||
                      (need->state == PAWL_STEP_SKIPPED && need->reason != PAWL_REASON_WHEN);
        }
    }
    *holds_out = outcome == PAWL_EXPR_FAILED ? failed : !failed;
    return 0;
}

void pawl_flow_env(struct pawl_run *run, struct pawl_step *step, struct pawl_expr_env *env_out)
{
    run->asking = step;
    *env_out = (struct pawl_expr_env){
        .context = run,
        .step_field = step_field,
        .env_var = env_var,
        .outcome = outcome_of_needs,
        .run_id = run->id,
        .run_id_bytes = strlen(run->id),
    };
}
