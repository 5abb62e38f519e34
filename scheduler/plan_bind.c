/*
 * plan_bind.c - other values for a plan's parameters: one load, many runs.
 *
 * Runs in clients only. A bound plan is a new blob; the one it was made of is untouched.
 */
#include "scheduler/plan.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/plan_parts.h"
#include "scheduler/suggest.h"
#include "shm/error.h"

enum { PARAM_DEPTH_MAX = 32 };
static const size_t PARAM_BYTES_MAX = (size_t)64 << 20;

__attribute__((format(printf, 3, 4))) static int refuse(struct pawl_plan_bind_error *error_out, int code,
                                                        const char *format, ...)
{
    if (error_out) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(error_out->text, sizeof error_out->text, format, arguments);
        va_end(arguments);
        error_out->hint[0] = '\0';
    }
    return code;
}

static const struct pawl_plan_param *find_param(const struct pawl_plan *plan, const char *name,
                                                size_t name_bytes)
{
    for (uint32_t i = 0; i < plan->counts[PAWL_SECTION_PARAMS]; i++)
        if (plan->params[i].name.bytes == name_bytes &&
            memcmp(pawl_plan_text(plan, plan->params[i].name), name, name_bytes) == 0)
            return &plan->params[i];
    return NULL;
}

static void list_params(const struct pawl_plan *plan, struct pawl_plan_bind_error *error_out)
{
    size_t used = (size_t)snprintf(error_out->hint, sizeof error_out->hint, "there are");
    for (uint32_t i = 0; i < plan->counts[PAWL_SECTION_PARAMS] && used < sizeof error_out->hint - 1; i++)
        used += (size_t)snprintf(error_out->hint + used, sizeof error_out->hint - used, " %s",
                                 pawl_plan_text(plan, plan->params[i].name));
}

static int unknown_param(const struct pawl_plan *plan, const char *name, size_t name_bytes,
                         struct pawl_plan_bind_error *error_out)
{
    int shown = name_bytes > 64 ? 64 : (int)name_bytes;
    int error = refuse(error_out, PAWL_E_NOT_FOUND, "`%.*s` is not a parameter of workflow `%s`", shown, name,
                       pawl_plan_name(plan));
    struct pawl_suggest suggest;
    pawl_suggest_init(&suggest, name, name_bytes);
    for (uint32_t i = 0; i < plan->counts[PAWL_SECTION_PARAMS]; i++)
        pawl_suggest_offer(&suggest, pawl_plan_text(plan, plan->params[i].name), plan->params[i].name.bytes);
    if (!error_out)
        return error;
    if (suggest.best)
        snprintf(error_out->hint, sizeof error_out->hint, "did you mean `%.*s`?", (int)suggest.best_bytes,
                 suggest.best);
    else if (plan->counts[PAWL_SECTION_PARAMS] == 0)
        snprintf(error_out->hint, sizeof error_out->hint, "the file has no `params:`");
    else
        list_params(plan, error_out);
    return error;
}

static bool is_number(enum pawl_value_kind kind)
{
    return kind == PAWL_VALUE_INT || kind == PAWL_VALUE_DOUBLE;
}

/* The value as its parameter takes it: text takes scalars as their text, the rest only its own kind. */
static int fit(const struct pawl_plan *plan, const struct pawl_plan_param *param,
               const struct pawl_value *given, struct pawl_arena *arena, struct pawl_value *value_out,
               struct pawl_plan_bind_error *error_out)
{
    enum pawl_value_kind want = plan->values[param->default_value].kind;
    enum pawl_value_kind kind = pawl_value_is_list(given) ? PAWL_VALUE_LIST : given->kind;
    *value_out = *given;
    if (want == PAWL_VALUE_NULL || want == kind || (is_number(want) && is_number(kind)))
        return 0;
    if (want == PAWL_VALUE_STRING && (is_number(kind) || kind == PAWL_VALUE_BOOL)) {
        const char *bytes;
        size_t length;
        int error = pawl_value_to_text(given, 64, true, arena, &bytes, &length);
        *value_out = error == 0 ? pawl_value_bytes(bytes, length) : *given;
        return error;
    }
    return refuse(error_out, PAWL_E_INVALID, "parameter `%s` is %s %s by its default, but was given %s %s",
                  pawl_plan_text(plan, param->name), want == PAWL_VALUE_INT ? "an" : "a",
                  pawl_value_kind_name(want), kind == PAWL_VALUE_INT ? "an" : "a",
                  pawl_value_kind_name(kind));
}

/* A builder with all parts of a plan. The name tables stay empty: nothing is compiled any more. */
static int reopen(const struct pawl_plan *plan, struct pawl_plan_builder **builder_out)
{
    struct pawl_plan_builder *builder = calloc(1, sizeof *builder);
    if (!builder)
        return -ENOMEM;
    builder->name = plan->header->name;
    builder->source = plan->header->source;
    builder->env = plan->header->env;
    for (int id = 0; id < PAWL_SECTION_COUNT; id++) {
        if (id == PAWL_SECTION_ORDER || id == PAWL_SECTION_BY_NAME || plan->counts[id] == 0)
            continue;
        void *copy = pawl_parts_grow(builder, id, plan->counts[id]);
        if (!copy) {
            pawl_plan_builder_destroy(builder);
            return -ENOMEM;
        }
        memcpy(copy, plan->blob + plan->header->sections[id].byte_offset,
               plan->counts[id] * pawl_plan_entry_bytes(id));
    }
    *builder_out = builder;
    return 0;
}

int pawl_plan_bind(const struct pawl_plan *plan, const struct pawl_value *params, struct pawl_plan **plan_out,
                   struct pawl_plan_bind_error *error_out)
{
    struct pawl_plan_builder *builder = NULL;
    struct pawl_arena arena;
    if (params->kind != PAWL_VALUE_MAP)
        return refuse(error_out, PAWL_E_INVALID, "parameters must be a map of names and values, not a %s",
                      pawl_value_kind_name(params->kind));
    pawl_arena_init(&arena, 0);
    int error = reopen(plan, &builder);
    for (size_t i = 0; i < params->count && error == 0; i++) {
        const struct pawl_pair *pair = &params->pairs[i];
        const struct pawl_plan_param *param = find_param(plan, pair->key, pair->key_bytes);
        struct pawl_value value;
        uint32_t index;
        if (!param) {
            error = unknown_param(plan, pair->key, pair->key_bytes, error_out);
            break;
        }
        error = fit(plan, param, &pair->value, &arena, &value, error_out);
        if (error == 0)
            error = pawl_plan_add_value(builder, &value, &index);
        if (error == 0)
            ((struct pawl_plan_param *)pawl_parts_at(builder, PAWL_SECTION_PARAMS,
                                                     (uint32_t)(param - plan->params)))
                ->value = index;
    }
    if (error == 0)
        error = pawl_plan_finish(builder, NULL, NULL, plan_out);
    pawl_plan_builder_destroy(builder);
    pawl_arena_fini(&arena);
    return error;
}

int pawl_plan_parse_param(const struct pawl_plan *plan, const char *name, size_t name_bytes, const char *text,
                          size_t text_bytes, struct pawl_arena *arena, struct pawl_value *value_out,
                          struct pawl_plan_bind_error *error_out)
{
    const struct pawl_plan_param *param = find_param(plan, name, name_bytes);
    if (!param)
        return unknown_param(plan, name, name_bytes, error_out);
    enum pawl_value_kind want = plan->values[param->default_value].kind;
    struct pawl_value parsed;
    struct pawl_json_error problem;
    if (want == PAWL_VALUE_STRING) {
        const char *copy = pawl_arena_copy(arena, text, text_bytes);
        *value_out = pawl_value_bytes(copy, text_bytes);
        return copy ? 0 : PAWL_E_LIMIT;
    }
    if (text_bytes > PARAM_BYTES_MAX)
        return refuse(error_out, PAWL_E_LIMIT, "parameter `%.*s` is larger than 64 MiB", (int)name_bytes,
                      name);
    int error = pawl_value_parse_params(text, text_bytes, PARAM_DEPTH_MAX, arena, &parsed, &problem);
    if (error < 0) {
        refuse(error_out, PAWL_E_INVALID,
               "parameter `%.*s` is %s %s by its default, so its value must be JSON: %s", (int)name_bytes,
               name, want == PAWL_VALUE_INT ? "an" : "a", pawl_value_kind_name(want), problem.text);
        return error == PAWL_E_LIMIT || error == -ENOMEM ? error : PAWL_E_INVALID;
    }
    return fit(plan, param, &parsed, arena, value_out, error_out);
}
