/*
 * plan.c - opening a plan blob and reading it in place.
 *
 * Runs in: scheduler and clients. The checks are in plan_check.c; once they have passed, nothing here can
 * fail.
 */
#include "scheduler/plan.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "scheduler/plan_format.h"
#include "shm/error.h"

size_t pawl_plan_entry_bytes(enum pawl_plan_section_id id)
{
    switch (id) {
    case PAWL_SECTION_STEPS:
        return sizeof(struct pawl_plan_step);
    case PAWL_SECTION_TEMPLATES:
        return sizeof(struct pawl_plan_template);
    case PAWL_SECTION_NODES:
        return sizeof(struct pawl_plan_node);
    case PAWL_SECTION_VALUES:
        return sizeof(struct pawl_plan_value);
    case PAWL_SECTION_PARAMS:
        return sizeof(struct pawl_plan_param);
    case PAWL_SECTION_ENV:
        return sizeof(struct pawl_plan_env);
    case PAWL_SECTION_AXES:
        return sizeof(struct pawl_plan_axis);
    case PAWL_SECTION_ARGV:
    case PAWL_SECTION_EDGES:
    case PAWL_SECTION_CODES:
    case PAWL_SECTION_REFS:
    case PAWL_SECTION_ORDER:
    case PAWL_SECTION_BY_NAME:
        return sizeof(uint32_t);
    case PAWL_SECTION_STRINGS:
    case PAWL_SECTION_COUNT:
        break;
    }
    return 1;
}

void pawl_plan_map(struct pawl_plan *plan, const void *blob, size_t bytes)
{
    const struct pawl_plan_header *header = blob;
    const void *start[PAWL_SECTION_COUNT];
    plan->blob = blob;
    plan->bytes = bytes;
    plan->header = header;
    for (int id = 0; id < PAWL_SECTION_COUNT; id++) {
        start[id] = plan->blob + header->sections[id].byte_offset;
        plan->counts[id] = header->sections[id].count;
    }
    plan->steps = start[PAWL_SECTION_STEPS];
    plan->templates = start[PAWL_SECTION_TEMPLATES];
    plan->nodes = start[PAWL_SECTION_NODES];
    plan->values = start[PAWL_SECTION_VALUES];
    plan->params = start[PAWL_SECTION_PARAMS];
    plan->env = start[PAWL_SECTION_ENV];
    plan->axes = start[PAWL_SECTION_AXES];
    plan->argv = start[PAWL_SECTION_ARGV];
    plan->edges = start[PAWL_SECTION_EDGES];
    plan->codes = start[PAWL_SECTION_CODES];
    plan->refs = start[PAWL_SECTION_REFS];
    plan->order = start[PAWL_SECTION_ORDER];
    plan->by_name = start[PAWL_SECTION_BY_NAME];
    plan->strings = start[PAWL_SECTION_STRINGS];
}

void pawl_plan_seal(void *blob, size_t bytes)
{
    struct pawl_plan_header *header = blob;
    header->checksum =
        XXH3_64bits((const char *)blob + PAWL_PLAN_CHECKED_FROM, bytes - PAWL_PLAN_CHECKED_FROM);
}

int pawl_plan_open(const void *blob, size_t bytes, const struct pawl_plan_limits *limits,
                   struct pawl_plan **plan_out, const char **why_out)
{
    const char *why = "";
    struct pawl_plan *plan = NULL;
    int error = pawl_plan_check_header(blob, bytes, limits, &why);
    if (error < 0)
        goto tell;
    plan = calloc(1, sizeof *plan);
    if (!plan) {
        error = -ENOMEM;
        goto tell;
    }
    pawl_plan_map(plan, blob, bytes);
    error = pawl_plan_check(plan, &why);
    if (error < 0) {
        free(plan);
        goto tell;
    }
    *plan_out = plan;
tell:
    if (why_out)
        *why_out = why;
    return error;
}

int pawl_plan_open_copy(const void *blob, size_t bytes, const struct pawl_plan_limits *limits,
                        struct pawl_plan **plan_out, const char **why_out)
{
    void *copy = malloc(bytes ? bytes : 1);
    if (!copy)
        return -ENOMEM;
    if (bytes)
        memcpy(copy, blob, bytes);
    int error = pawl_plan_open(copy, bytes, limits, plan_out, why_out);
    if (error < 0)
        free(copy);
    else
        (*plan_out)->owned = copy;
    return error;
}

void pawl_plan_close(struct pawl_plan *plan)
{
    if (!plan)
        return;
    free(plan->owned);
    free(plan);
}

const void *pawl_plan_blob(const struct pawl_plan *plan, size_t *bytes_out)
{
    *bytes_out = plan->bytes;
    return plan->blob;
}

const char *pawl_plan_text(const struct pawl_plan *plan, struct pawl_plan_string string)
{
    return plan->strings + string.byte_offset;
}

const char *pawl_plan_name(const struct pawl_plan *plan)
{
    return pawl_plan_text(plan, plan->header->name);
}

const char *pawl_plan_source(const struct pawl_plan *plan)
{
    return pawl_plan_text(plan, plan->header->source);
}

void pawl_plan_params_hash(const struct pawl_plan *plan, uint64_t hash_out[2])
{
    hash_out[0] = plan->header->params_hash[0];
    hash_out[1] = plan->header->params_hash[1];
}

uint32_t pawl_plan_step_count(const struct pawl_plan *plan)
{
    return plan->counts[PAWL_SECTION_STEPS];
}

const struct pawl_plan_step *pawl_plan_step(const struct pawl_plan *plan, uint32_t step_index)
{
    assert(step_index < plan->counts[PAWL_SECTION_STEPS]);
    return &plan->steps[step_index];
}

const char *pawl_plan_step_name(const struct pawl_plan *plan, uint32_t step_index)
{
    return pawl_plan_text(plan, pawl_plan_step(plan, step_index)->name);
}

uint32_t pawl_plan_find_step(const struct pawl_plan *plan, const char *name, size_t name_bytes)
{
    uint32_t low = 0, high = plan->counts[PAWL_SECTION_STEPS];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct pawl_plan_string found = plan->steps[plan->by_name[middle]].name;
        size_t shorter = found.bytes < name_bytes ? found.bytes : name_bytes;
        int order = shorter ? memcmp(pawl_plan_text(plan, found), name, shorter) : 0;
        if (order == 0 && found.bytes == name_bytes)
            return plan->by_name[middle];
        if (order < 0 || (order == 0 && found.bytes < name_bytes))
            low = middle + 1;
        else
            high = middle;
    }
    return PAWL_PLAN_NONE;
}

const uint32_t *pawl_plan_order(const struct pawl_plan *plan)
{
    return plan->order;
}

const uint32_t *pawl_plan_needs(const struct pawl_plan *plan, const struct pawl_plan_step *step)
{
    return plan->edges + step->needs.first;
}

const uint32_t *pawl_plan_dependents(const struct pawl_plan *plan, const struct pawl_plan_step *step)
{
    return plan->edges + step->dependents.first;
}

const uint32_t *pawl_plan_argv(const struct pawl_plan *plan, const struct pawl_plan_step *step)
{
    return plan->argv + step->argv.first;
}

const struct pawl_plan_env *pawl_plan_step_env(const struct pawl_plan *plan,
                                               const struct pawl_plan_step *step)
{
    return plan->env + step->env.first;
}

const struct pawl_plan_env *pawl_plan_env(const struct pawl_plan *plan, uint32_t *count_out)
{
    *count_out = plan->header->env.count;
    return plan->env + plan->header->env.first;
}

const struct pawl_plan_axis *pawl_plan_axes(const struct pawl_plan *plan, const struct pawl_plan_step *step)
{
    return plan->axes + step->axes.first;
}

const int32_t *pawl_plan_exit_codes(const struct pawl_plan *plan, struct pawl_plan_run run)
{
    return plan->codes + run.first;
}

uint32_t pawl_plan_template_count(const struct pawl_plan *plan)
{
    return plan->counts[PAWL_SECTION_TEMPLATES];
}

const struct pawl_plan_template *pawl_plan_template(const struct pawl_plan *plan, uint32_t template_index)
{
    assert(template_index < plan->counts[PAWL_SECTION_TEMPLATES]);
    return &plan->templates[template_index];
}

const uint32_t *pawl_plan_template_steps(const struct pawl_plan *plan, uint32_t template_index,
                                         uint32_t *count_out)
{
    struct pawl_plan_run steps = pawl_plan_template(plan, template_index)->steps;
    *count_out = steps.count;
    return plan->refs + steps.first;
}

uint32_t pawl_plan_param_count(const struct pawl_plan *plan)
{
    return plan->counts[PAWL_SECTION_PARAMS];
}

const struct pawl_plan_param *pawl_plan_param(const struct pawl_plan *plan, uint32_t param_index)
{
    assert(param_index < plan->counts[PAWL_SECTION_PARAMS]);
    return &plan->params[param_index];
}

/* ---- constants ---- */

struct blob_list {
    struct pawl_list_source source;
    const struct pawl_plan *plan;
    uint32_t first;
};

static int element_of_blob_list(const struct pawl_list_source *source, uint64_t index,
                                struct pawl_arena *arena, struct pawl_value *value_out)
{
    const struct blob_list *list = source->context;
    return pawl_plan_value(list->plan, list->first + (uint32_t)index, arena, value_out);
}

static int map_of_blob(const struct pawl_plan *plan, const struct pawl_plan_value *flat,
                       struct pawl_arena *arena, struct pawl_value *value_out)
{
    struct pawl_pair *pairs = pawl_arena_alloc(arena, (size_t)flat->count * sizeof *pairs);
    if (!pairs)
        return PAWL_E_LIMIT;
    for (uint32_t i = 0; i < flat->count; i++) {
        uint32_t at = (uint32_t)flat->first + 2 * i;
        pairs[i].key = plan->strings + plan->values[at].first;
        pairs[i].key_bytes = plan->values[at].count;
        int error = pawl_plan_value(plan, at + 1, arena, &pairs[i].value);
        if (error < 0)
            return error;
    }
    *value_out = (struct pawl_value){.kind = PAWL_VALUE_MAP, .count = flat->count, .pairs = pairs};
    return 0;
}

int pawl_plan_value(const struct pawl_plan *plan, uint32_t value_index, struct pawl_arena *arena,
                    struct pawl_value *value_out)
{
    assert(value_index < plan->counts[PAWL_SECTION_VALUES]);
    const struct pawl_plan_value *flat = &plan->values[value_index];
    switch ((enum pawl_value_kind)flat->kind) {
    case PAWL_VALUE_BOOL:
        *value_out = pawl_value_bool(flat->integer != 0);
        return 0;
    case PAWL_VALUE_INT:
        *value_out = pawl_value_int(flat->integer);
        return 0;
    case PAWL_VALUE_DOUBLE:
        *value_out = pawl_value_double(flat->real);
        return 0;
    case PAWL_VALUE_STRING:
        *value_out = pawl_value_bytes(plan->strings + flat->first, flat->count);
        return 0;
    case PAWL_VALUE_LIST: {
        struct blob_list *list = pawl_arena_alloc(arena, sizeof *list);
        if (!list)
            return PAWL_E_LIMIT;
        *list = (struct blob_list){{flat->count, list, element_of_blob_list}, plan, (uint32_t)flat->first};
        *value_out = pawl_value_virtual(&list->source);
        return 0;
    }
    case PAWL_VALUE_MAP:
        return map_of_blob(plan, flat, arena, value_out);
    case PAWL_VALUE_NULL:
    case PAWL_VALUE_LINES:
    case PAWL_VALUE_VIRTUAL:
        break;
    }
    *value_out = pawl_value_null();
    return 0;
}

/* ---- what a step says ---- */

bool pawl_step_is_many(const struct pawl_plan_step *step)
{
    return step->foreach != PAWL_PLAN_NONE || step->axes.count > 0 || (step->flags & PAWL_STEP_FED);
}

uint64_t pawl_step_retry_wait_ns(const struct pawl_plan_step *step, uint32_t retry, uint64_t random)
{
    double wait = (double)step->retry.initial_ns, most = (double)step->retry.max_ns;
    if (wait > 0 && retry > 1)
        wait *= pow(step->retry.factor, retry - 1);
    if (wait > most)
        wait = most;
    double spread = (double)(random >> 11) * 0x1p-52 - 1.0; /* -1 to 1 */
    wait += wait * step->retry.jitter * spread;
    return wait < 0 ? 0 : wait > most ? step->retry.max_ns : (uint64_t)wait;
}

static bool holds_code(const struct pawl_plan *plan, struct pawl_plan_run run, int exit_code)
{
    for (uint32_t i = 0; i < run.count; i++)
        if (plan->codes[run.first + i] == exit_code)
            return true;
    return false;
}

bool pawl_step_retries_exit(const struct pawl_plan *plan, const struct pawl_plan_step *step, int exit_code)
{
    if (holds_code(plan, step->retry.never_on_exit, exit_code))
        return false;
    return step->retry.on_exit.count == 0 || holds_code(plan, step->retry.on_exit, exit_code);
}
