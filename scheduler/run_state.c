/*
 * run_state.c - runs, steps and instances as data: making them, counting their states, freeing them.
 *
 * Runs in: scheduler, and readers of images. Decides nothing; flow.c does.
 */
#include "scheduler/core_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int pawl_grow(void **array, size_t *capacity, size_t wanted, size_t item_bytes)
{
    if (wanted <= *capacity)
        return 0;
    size_t larger = *capacity ? *capacity : 16;
    while (larger < wanted)
        larger += larger / 2 + 1; /* what an image brings may be of any size, 1 too */
    void *grown = realloc(*array, larger * item_bytes);
    if (!grown)
        return -ENOMEM;
    *array = grown;
    *capacity = larger;
    return 0;
}

int pawl_run_create(struct pawl_core *core, uint64_t number, const char *id, struct pawl_run **run_out)
{
    struct pawl_run *run = calloc(1, sizeof *run);
    if (!run)
        return -ENOMEM;
    run->core = core;
    run->number = number;
    strncpy(run->id, id, sizeof run->id - 1);
    *run_out = run;
    return 0;
}

void pawl_step_drop_values(struct pawl_step *step)
{
    if (step->values) {
        pawl_arena_fini(step->values);
        free(step->values);
        step->values = NULL;
    }
    if (step->output) {
        pawl_arena_fini(step->output);
        free(step->output);
        step->output = NULL;
    }
    free(step->axes);
    free(step->items_text);
    free(step->output_text);
    step->axes = NULL;
    step->items = (struct pawl_value){.kind = PAWL_VALUE_NULL}; /* it lay in `values` */
    step->items_text = step->output_text = NULL;
    step->output_loaded = step->named_loaded = false;
}

static void free_step(struct pawl_step *step)
{
    pawl_step_drop_values(step);
    free(step->instances);
    free(step->again);
    free(step->item_offsets);
}

static void free_steps(struct pawl_run *run)
{
    for (uint32_t i = 0; i < run->step_count; i++)
        free_step(&run->steps[i]);
    free(run->steps);
    run->steps = NULL;
    run->step_count = 0;
}

void pawl_run_free(struct pawl_run *run)
{
    if (!run)
        return;
    assert(run->deliveries == NULL);
    pawl_result_forget(run);
    free_steps(run);
    pawl_items_free(run);
    if (run->plan)
        pawl_plan_close(run->plan);
    free(run->context);
    free(run->file);
    free(run->completions.instances);
    free(run->pins);
    free(run->item_texts);
    free(run);
}

/* Does a `when` of this step look at how its needs ended? Then it is asked even after a failure. */
static bool asks_outcome(const struct pawl_plan *plan, const struct pawl_plan_step *step)
{
    return step->when != PAWL_PLAN_NONE &&
           (pawl_plan_template(plan, step->when)->flags & PAWL_TEMPLATE_USES_OUTCOME) != 0;
}

static int make_steps(struct pawl_run *run, struct pawl_plan *plan, struct pawl_step **steps_out)
{
    uint32_t count = pawl_plan_step_count(plan);
    struct pawl_step *steps = calloc(count ? count : 1, sizeof *steps);
    if (!steps)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        struct pawl_step *step = &steps[i];
        step->plan = pawl_plan_step(plan, i);
        step->index = i;
        step->many = pawl_step_is_many(step->plan);
        step->runs_anyway = (step->plan->flags & PAWL_STEP_ALWAYS) != 0 || asks_outcome(plan, step->plan);
        step->needs_left = step->plan->needs.count;
        if ((step->plan->flags & PAWL_STEP_FED) != 0)
            run->fed = true;
    }
    *steps_out = steps;
    return 0;
}

/* The counters of a run from scratch: cheap enough after a change of plan, wrong nowhere. */
void pawl_run_recount(struct pawl_run *run)
{
    memset(run->states, 0, sizeof run->states);
    run->steps_open = 0;
    for (uint32_t i = 0; i < run->step_count; i++) {
        struct pawl_step *step = &run->steps[i];
        memset(step->states, 0, sizeof step->states);
        for (uint64_t n = 0; n < step->count; n++)
            step->states[step->instances[n].state]++;
        for (int s = 0; s < PAWL_STEP_STATES; s++)
            run->states[s] += step->states[s];
        if (step->many && !step->expanded && step->count == 0)
            run->states[step->state]++;
        if (!pawl_step_state_is_final(step->state))
            run->steps_open++;
    }
}

/* May the new step keep what the old one of the same name did? Its definition and, through them, its needs
 * are unchanged. */
static bool keeps_success(const struct pawl_run *run, const struct pawl_plan *plan,
                          const struct pawl_step *fresh, const bool *kept, uint32_t old)
{
    const struct pawl_plan_step *was = run->steps[old].plan;
    if (was->definition_hash[0] != fresh->plan->definition_hash[0] ||
        was->definition_hash[1] != fresh->plan->definition_hash[1])
        return false;
    const uint32_t *needs = pawl_plan_needs(plan, fresh->plan);
    for (uint32_t n = 0; n < fresh->plan->needs.count; n++)
        if (!kept[needs[n]])
            return false;
    return true;
}

static void move_success(struct pawl_step *fresh, struct pawl_step *old, bool keep)
{
    if (!keep) {
        /* Attempt numbers name logs and directories: they go on rising. */
        if (!fresh->many && !old->many && old->count > 0)
            fresh->instances[0].attempt = old->instances[0].attempt;
        return;
    }
    free(fresh->instances);
    fresh->instances = old->instances;
    fresh->count = old->count;
    fresh->capacity = old->capacity;
    fresh->expanded = !fresh->many || old->expanded;
    fresh->state = old->state;
    fresh->reason = old->reason;
    old->instances = NULL;
    old->count = old->capacity = 0;
}

int pawl_run_set_plan(struct pawl_run *run, const void *blob, size_t bytes)
{
    struct pawl_plan *plan = NULL;
    struct pawl_step *steps = NULL;
    bool *kept = NULL;
    int error = pawl_plan_open_copy(blob, bytes, NULL, &plan, NULL);
    if (error < 0)
        return error;
    uint32_t count = pawl_plan_step_count(plan);
    error = make_steps(run, plan, &steps);
    if (error < 0)
        goto close_plan;
    for (uint32_t i = 0; i < count && error == 0; i++)
        if (!steps[i].many) {
            error = pawl_step_reserve(&steps[i], 1);
            steps[i].count = 1;
            steps[i].expanded = true;
        }
    kept = calloc(count ? count : 1, sizeof *kept);
    if (error < 0 || !kept) {
        error = error < 0 ? error : -ENOMEM;
        goto free_steps;
    }
    const uint32_t *order = pawl_plan_order(plan);
    for (uint32_t i = 0; run->plan && i < count; i++) {
        struct pawl_step *fresh = &steps[order[i]];
        const char *name = pawl_plan_step_name(plan, fresh->index);
        uint32_t old = pawl_plan_find_step(run->plan, name, strlen(name));
        if (old == PAWL_PLAN_NONE)
            continue;
        kept[fresh->index] = keeps_success(run, plan, fresh, kept, old);
        move_success(fresh, &run->steps[old], kept[fresh->index]);
        if (!kept[fresh->index])
            fresh->reason = PAWL_REASON_DEFINITION;
    }
    free(kept);
    free_steps(run);
    if (run->plan)
        pawl_plan_close(run->plan);
    run->plan = plan;
    run->steps = steps;
    run->step_count = count;
    pawl_run_recount(run);
    return 0;
free_steps:
    for (uint32_t i = 0; i < count; i++)
        free_step(&steps[i]);
    free(steps);
    free(kept);
close_plan:
    pawl_plan_close(plan);
    return error;
}

int pawl_step_reserve(struct pawl_step *step, uint64_t count)
{
    if (count <= step->capacity)
        return 0;
    uint64_t capacity = step->capacity ? step->capacity : (count == 1 ? 1 : 16);
    while (capacity < count)
        capacity += capacity / 2 + 1;
    struct pawl_instance *instances = realloc(step->instances, capacity * sizeof *instances);
    if (!instances)
        return -ENOMEM;
    memset(instances + step->capacity, 0, (capacity - step->capacity) * sizeof *instances);
    step->instances = instances;
    step->capacity = capacity;
    return 0;
}

int pawl_step_expand(struct pawl_run *run, struct pawl_step *step, uint64_t count)
{
    int error = pawl_step_reserve(step, count);
    if (error < 0)
        return error;
    if (step->many && !step->expanded && step->count == 0 && count > 0)
        run->states[step->state]--;
    for (uint64_t n = step->count; n < count; n++)
        step->states[step->instances[n].state]++, run->states[step->instances[n].state]++;
    for (uint64_t n = count; n < step->count; n++) {
        step->states[step->instances[n].state]--, run->states[step->instances[n].state]--;
        step->instances[n] = (struct pawl_instance){0};
    }
    step->count = count;
    return 0;
}

void pawl_instance_set(struct pawl_run *run, struct pawl_step *step, struct pawl_instance *instance,
                       uint32_t state, uint32_t reason)
{
    assert(state < PAWL_STEP_STATES);
    step->states[instance->state]--;
    run->states[instance->state]--;
    instance->state = (uint8_t)state;
    instance->reason = (uint8_t)reason;
    step->states[state]++;
    run->states[state]++;
}

void pawl_step_set(struct pawl_run *run, struct pawl_step *step, uint32_t state, uint32_t reason)
{
    bool was_final = pawl_step_state_is_final(step->state), is_final = pawl_step_state_is_final(state);
    if (step->many && !step->expanded && step->count == 0) {
        run->states[step->state]--;
        run->states[state]++;
    }
    step->state = (uint8_t)state;
    step->reason = (uint8_t)reason;
    if (was_final && !is_final)
        run->steps_open++;
    else if (!was_final && is_final)
        run->steps_open--;
}

bool pawl_instance_has_ended(const struct pawl_instance *instance, uint32_t attempt)
{
    bool derived = instance->state == PAWL_STEP_SKIPPED || instance->state == PAWL_STEP_CANCELLED;
    return pawl_step_state_is_final(instance->state) && !(derived && attempt > instance->attempt);
}

void pawl_step_open_again(struct pawl_run *run, struct pawl_step *step, const struct pawl_instance *instance)
{
    if (pawl_step_state_is_final(instance->state) && pawl_step_state_is_final(step->state))
        pawl_step_set(run, step, PAWL_STEP_WAITING, step->reason);
}

bool pawl_step_tolerates(const struct pawl_step *step)
{
    return (step->plan->flags & PAWL_STEP_CONTINUE_ON_ERROR) != 0;
}

int pawl_run_pin(struct pawl_run *run, uint64_t place)
{
    if (place == 0 || (place & PAWL_PLACE_IN_IMAGE) != 0)
        return 0;
    uint32_t segment = (uint32_t)(place >> 32);
    for (size_t i = run->pin_count; i > 0; i--) /* newest last, and nearly always that one */
        if (run->pins[i - 1] == segment)
            return 0;
    int error = pawl_grow((void **)&run->pins, &run->pin_capacity, run->pin_count + 1, sizeof *run->pins);
    if (error < 0)
        return error;
    run->pins[run->pin_count++] = segment;
    return 0;
}

/* ---- the core's list, by number ---- */

static size_t position_of(const struct pawl_core *core, uint64_t number)
{
    size_t low = 0, high = core->run_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (core->runs[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct pawl_run *pawl_core_run(const struct pawl_core *core, uint64_t number)
{
    size_t at = position_of(core, number);
    return at < core->run_count && core->runs[at]->number == number ? core->runs[at] : NULL;
}

int pawl_core_insert_run(struct pawl_core *core, struct pawl_run *run)
{
    int error =
        pawl_grow((void **)&core->runs, &core->run_capacity, core->run_count + 1, sizeof(struct pawl_run *));
    if (error < 0)
        return error;
    size_t at = position_of(core, run->number);
    memmove(core->runs + at + 1, core->runs + at, (core->run_count - at) * sizeof(struct pawl_run *));
    core->runs[at] = run;
    core->run_count++;
    if (run->number >= core->next_run)
        core->next_run = run->number + 1;
    return 0;
}

void pawl_core_remove_run(struct pawl_core *core, struct pawl_run *run)
{
    size_t at = position_of(core, run->number);
    if (at >= core->run_count || core->runs[at] != run)
        return;
    memmove(core->runs + at, core->runs + at + 1, (core->run_count - at - 1) * sizeof(struct pawl_run *));
    core->run_count--;
}
