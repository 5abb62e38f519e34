/*
 * loader_step.c - steps of a workflow file: declared first, then linked by their needs, then filled.
 *
 * Three rounds, because an expression may ask for a step that stands further down. Runs in clients.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/loader_parts.h"
#include "scheduler/suggest.h"
#include "shm/error.h"

static const struct pawl_loader_key step_keys[] = {{"run", PAWL_TAKES_SEQUENCE | PAWL_TAKES_SCALAR},
                                                   {"shell", PAWL_TAKES_SCALAR},
                                                   {"use", PAWL_TAKES_SCALAR},
                                                   {"needs", PAWL_TAKES_SEQUENCE | PAWL_TAKES_SCALAR},
                                                   {"when", PAWL_TAKES_SCALAR},
                                                   {"foreach", PAWL_TAKES_SEQUENCE | PAWL_TAKES_SCALAR},
                                                   {"matrix", PAWL_TAKES_MAPPING},
                                                   {"max_parallel", PAWL_TAKES_SCALAR},
                                                   {"env", PAWL_TAKES_MAPPING},
                                                   {"dir", PAWL_TAKES_SCALAR},
                                                   {"stdin", PAWL_TAKES_ANY},
                                                   {"output", PAWL_TAKES_SCALAR},
                                                   {"timeout", PAWL_TAKES_SCALAR},
                                                   {"grace", PAWL_TAKES_SCALAR},
                                                   {"retries", PAWL_TAKES_SCALAR | PAWL_TAKES_MAPPING},
                                                   {"continue_on_error", PAWL_TAKES_SCALAR},
                                                   {"priority", PAWL_TAKES_SCALAR},
                                                   {"always", PAWL_TAKES_SCALAR},
                                                   {"unsafe_shell", PAWL_TAKES_SCALAR},
                                                   {NULL, 0}};

static const struct pawl_loader_key default_keys[] = {{"timeout", PAWL_TAKES_SCALAR},
                                                      {"grace", PAWL_TAKES_SCALAR},
                                                      {"retries", PAWL_TAKES_SCALAR | PAWL_TAKES_MAPPING},
                                                      {"max_parallel", PAWL_TAKES_SCALAR},
                                                      {"output", PAWL_TAKES_SCALAR},
                                                      {"continue_on_error", PAWL_TAKES_SCALAR},
                                                      {"priority", PAWL_TAKES_SCALAR},
                                                      {NULL, 0}};

static const uint64_t MAX_PARALLEL_MOST = 1000000;

/* A step's own key, else the one of defaults:. */
static const struct pawl_yaml_node *own_or_default(const struct pawl_loader *loader,
                                                   const struct pawl_yaml_node *mapping, const char *key)
{
    const struct pawl_yaml_node *node = pawl_loader_get(mapping, key, PAWL_TAKES_SCALAR);
    return node || pawl_yaml_find(mapping, key, NULL)
               ? node
               : pawl_loader_get(loader->defaults, key, PAWL_TAKES_SCALAR);
}

/* ---- what needs no template ---- */

static void load_output(struct pawl_loader *loader, const struct pawl_yaml_node *node,
                        struct pawl_plan_step *step)
{
    static const char *const modes[] = {"text", "lines", "json", NULL};
    for (uint8_t mode = 0; modes[mode]; mode++)
        if (strcmp(node->text, modes[mode]) == 0) {
            step->output = mode;
            return;
        }
    char hint[64] = "";
    const char *nearest = pawl_suggest_nearest(node->text, modes);
    if (nearest)
        snprintf(hint, sizeof hint, "did you mean `%s`?", nearest);
    pawl_loader_refuse(loader, node, "type", hint, "`output` takes text, lines or json, not `%.64s`",
                       node->text);
}

static void load_flag(struct pawl_loader *loader, const struct pawl_yaml_node *mapping, const char *key,
                      uint16_t flag, struct pawl_plan_step *step)
{
    const struct pawl_yaml_node *node = own_or_default(loader, mapping, key);
    bool value = false;
    if (node && pawl_loader_bool(loader, node, key, &value) && value)
        step->flags |= flag;
}

static void load_numbers(struct pawl_loader *loader, const struct pawl_yaml_node *mapping,
                         struct pawl_plan_step *step)
{
    const struct pawl_yaml_node *node;
    int64_t number = 0;
    if ((node = own_or_default(loader, mapping, "timeout")))
        pawl_loader_duration(loader, node, "timeout", &step->timeout_ns);
    if ((node = own_or_default(loader, mapping, "grace")))
        pawl_loader_duration(loader, node, "grace", &step->grace_ns);
    if ((node = own_or_default(loader, mapping, "max_parallel")) &&
        pawl_loader_int(loader, node, "max_parallel", 1, (int64_t)MAX_PARALLEL_MOST, &number))
        step->max_parallel = (uint32_t)number;
    if ((node = own_or_default(loader, mapping, "priority")) &&
        pawl_loader_int(loader, node, "priority", -1000, 1000, &number))
        step->priority = (int32_t)number;
    if ((node = own_or_default(loader, mapping, "output")))
        load_output(loader, node, step);
    load_flag(loader, mapping, "continue_on_error", PAWL_STEP_CONTINUE_ON_ERROR, step);
    load_flag(loader, mapping, "always", PAWL_STEP_ALWAYS, step);
    load_flag(loader, mapping, "unsafe_shell", PAWL_STEP_UNSAFE_SHELL, step);
}

/* A key of defaults: is checked where it stands, on a step that nobody sees, so that a mistake in it is told
 * once. */
void pawl_loader_check_defaults(struct pawl_loader *loader)
{
    uint32_t told = loader->errors->count;
    struct pawl_plan_step unseen = {0};
    if (!loader->defaults)
        return;
    pawl_loader_check_keys(loader, loader->defaults, default_keys, "`defaults`");
    const struct pawl_yaml_node none = {.kind = PAWL_YAML_MAPPING};
    load_numbers(loader, &none, &unseen);
    const struct pawl_yaml_node *retries = pawl_yaml_find(loader->defaults, "retries", NULL);
    if (retries)
        pawl_loader_retries(loader, PAWL_PLAN_NONE, &none);
    if (loader->errors->count > told)
        loader->defaults = NULL; /* wrong ones would be told again at each step */
}

void pawl_loader_declare_steps(struct pawl_loader *loader, const struct pawl_yaml_node *mapping)
{
    loader->steps = calloc((size_t)mapping->count + 1, sizeof *loader->steps);
    if (!loader->steps) {
        loader->error = -ENOMEM;
        return;
    }
    for (const struct pawl_yaml_item *item = mapping->items; item; item = item->next) {
        uint32_t index;
        char what[PAWL_NAME_BYTES_MAX + 16];
        pawl_loader_name(loader, item->key, "step");
        int error = pawl_plan_add_step(loader->builder, item->key->text, &index);
        if (error < 0) {
            loader->error = error;
            return;
        }
        loader->step_count = index + 1;
        struct pawl_plan_step *step = pawl_plan_edit_step(loader->builder, index);
        step->line = item->key->line;
        step->column = item->key->column;
        if (item->value->kind != PAWL_YAML_MAPPING) {
            pawl_loader_refuse(loader, item->value->length ? item->value : item->key, "type",
                               "write `run: [COMMAND]` below it", "step `%.64s` takes a map, not %s",
                               item->key->text, pawl_loader_kind(item->value));
            continue;
        }
        loader->steps[index] = item->value;
        snprintf(what, sizeof what, "step `%.64s`", item->key->text);
        pawl_loader_check_keys(loader, item->value, step_keys, what);
        load_numbers(loader, item->value, step);
        /* Whoever asks for this step's output must know that it has many, before its list is compiled. */
        if (pawl_yaml_find(item->value, "foreach", NULL) || pawl_yaml_find(item->value, "matrix", NULL))
            step->foreach = 0;
    }
}

/* ---- needs ---- */

static void load_need(struct pawl_loader *loader, uint32_t step_index, const struct pawl_yaml_node *node,
                      uint32_t *stamps, uint32_t *needs, uint32_t *count)
{
    char hint[128] = "";
    if (node->kind != PAWL_YAML_SCALAR) {
        pawl_loader_refuse(loader, node, "type", "", "`needs` takes names of steps, not %s",
                           pawl_loader_kind(node));
        return;
    }
    uint32_t need = pawl_plan_builder_find_step(loader->builder, node->text, node->length);
    if (need == PAWL_PLAN_NONE) {
        struct pawl_suggest suggest;
        pawl_suggest_init(&suggest, node->text, node->length);
        const struct pawl_yaml_node *root = loader->steps_mapping;
        for (const struct pawl_yaml_item *item = root->items; item; item = item->next)
            pawl_suggest_offer(&suggest, item->key->text, item->key->length);
        if (suggest.best)
            snprintf(hint, sizeof hint, "did you mean `%.*s`?", (int)suggest.best_bytes, suggest.best);
        pawl_loader_refuse(loader, node, "missing_step", hint, "step `%.64s` does not exist", node->text);
        return;
    }
    if (stamps[need] == step_index + 1) {
        pawl_loader_refuse(loader, node, "duplicate_need", "", "step `%.64s` is needed twice", node->text);
        return;
    }
    stamps[need] = step_index + 1;
    needs[(*count)++] = need;
}

static void tell_cycle(struct pawl_loader *loader, const uint32_t *cycle, uint32_t count)
{
    char path[224] = "";
    const struct pawl_yaml_node *place = NULL;
    const char *first = NULL, *second = NULL;
    for (uint32_t i = 0; i <= count; i++) {
        const char *name = pawl_plan_builder_step_name(loader->builder, cycle[i % count]);
        first = i == 0 ? name : first;
        second = i == 1 ? name : second;
        size_t used = strlen(path);
        if (used + strlen(name) + 12 > sizeof path) {
            snprintf(path + used, sizeof path - used, " -> ...");
            break;
        }
        snprintf(path + used, sizeof path - used, "%s%s", i ? " -> " : "", name);
    }
    const struct pawl_yaml_node *needs = pawl_yaml_find(loader->steps[cycle[0]], "needs", NULL);
    place = needs;
    for (const struct pawl_yaml_item *item = needs->kind == PAWL_YAML_SEQUENCE ? needs->items : NULL; item;
         item = item->next)
        if (pawl_yaml_is(item->value, second))
            place = item->value;
    pawl_loader_refuse(loader, place, "cycle", "take one of these needs away",
                       "steps need each other in a circle: %s", path);
}

void pawl_loader_link_steps(struct pawl_loader *loader)
{
    uint32_t cycle[64], cycle_count = 64;
    uint32_t *stamps = calloc((size_t)loader->step_count + 1, sizeof *stamps);
    uint32_t *needs = calloc((size_t)loader->step_count + 1, sizeof *needs);
    if (!stamps || !needs)
        loader->error = -ENOMEM;
    for (uint32_t i = 0; i < loader->step_count && loader->error == 0; i++) {
        uint32_t count = 0;
        const struct pawl_yaml_node *node =
            pawl_loader_get(loader->steps[i], "needs", PAWL_TAKES_SCALAR | PAWL_TAKES_SEQUENCE);
        if (!node)
            continue;
        if (node->kind == PAWL_YAML_SCALAR)
            load_need(loader, i, node, stamps, needs, &count);
        for (const struct pawl_yaml_item *item = node->items; item; item = item->next)
            load_need(loader, i, item->value, stamps, needs, &count);
        loader->error = pawl_plan_set_needs(loader->builder, i, needs, count);
    }
    free(stamps);
    free(needs);
    if (loader->error == 0 && pawl_plan_find_cycle(loader->builder, cycle, &cycle_count) == PAWL_E_INVALID)
        tell_cycle(loader, cycle, cycle_count);
}

/* ---- work ---- */

static void load_argv(struct pawl_loader *loader, uint32_t step_index, const struct pawl_yaml_node *node,
                      const struct pawl_expr_scope *scope)
{
    if (node->kind != PAWL_YAML_SEQUENCE) {
        pawl_loader_refuse(loader, node, "type",
                           "write `run: [COMMAND, ARGUMENT]`, or `shell:` for a line of shell",
                           "`run` takes a list of arguments, not %s", pawl_loader_kind(node));
        return;
    }
    uint32_t *templates = calloc((size_t)node->count + 1, sizeof *templates), count = 0;
    if (!templates) {
        loader->error = -ENOMEM;
        return;
    }
    for (const struct pawl_yaml_item *item = node->items; item; item = item->next) {
        const struct pawl_yaml_node *argument = item->value;
        if (argument->kind != PAWL_YAML_SCALAR)
            pawl_loader_refuse(loader, argument, "type", "quote it if it begins with [ or {",
                               "an argument is a single value, not %s", pawl_loader_kind(argument));
        else if (argument->length == 0 && (argument->style == PAWL_YAML_PLAIN || count == 0))
            pawl_loader_refuse(loader, argument, "type", count == 0 ? "" : "write '' for an empty argument",
                               "%s", count == 0 ? "the command is empty" : "an argument is missing");
        else
            templates[count++] = pawl_loader_text(loader, argument, scope);
    }
    int error = pawl_plan_set_argv(loader->builder, step_index, templates, count);
    if (error < 0)
        loader->error = error;
    pawl_plan_edit_step(loader->builder, step_index)->kind = PAWL_STEP_EXEC;
    free(templates);
    if (node->count == 0)
        pawl_loader_refuse(loader, node, "no_work", "write `run: [COMMAND]`", "`run` is empty");
}

static void load_shell(struct pawl_loader *loader, uint32_t step_index, const struct pawl_yaml_node *node,
                       const struct pawl_expr_scope *scope)
{
    struct pawl_plan_step *step = pawl_plan_edit_step(loader->builder, step_index);
    size_t offset;
    step->kind = PAWL_STEP_SHELL;
    if (node->length == 0) {
        pawl_loader_refuse(loader, node, "no_work", "", "`shell` is empty");
        return;
    }
    if (!(step->flags & PAWL_STEP_UNSAFE_SHELL) &&
        pawl_template_has_expression(node->text, node->length, &offset)) {
        uint32_t line, column;
        pawl_yaml_place(node, loader->source, loader->source_bytes, offset, &line, &column);
        pawl_load_refuse(loader->errors, line, column, "unsafe_shell",
                         "give it a name in `env:` and write \"$NAME\", or say `unsafe_shell: true`",
                         "`${{ }}` inside `shell` would be read as shell code");
        return;
    }
    uint32_t index = pawl_loader_text(loader, node, scope);
    pawl_plan_edit_step(loader->builder, step_index)->shell = index;
}

static void load_use(struct pawl_loader *loader, uint32_t step_index, const struct pawl_yaml_node *node)
{
    static const char *const handlers[] = {"noop", NULL};
    char hint[48] = "`noop` is built in";
    if (strcmp(node->text, "noop") != 0) {
        if (pawl_suggest_nearest(node->text, handlers))
            snprintf(hint, sizeof hint, "did you mean `noop`?");
        pawl_loader_refuse(loader, node, "unknown_handler", hint, "there is no handler `%.64s`", node->text);
    }
    pawl_plan_edit_step(loader->builder, step_index)->kind = PAWL_STEP_NOOP;
}

static void load_work(struct pawl_loader *loader, uint32_t step_index, const struct pawl_yaml_node *mapping,
                      const struct pawl_expr_scope *scope)
{
    static const char *const works[] = {"run", "shell", "use"};
    struct pawl_yaml_node *key = NULL, *first = NULL;
    const struct pawl_yaml_node *node;
    const char *name = pawl_plan_builder_step_name(loader->builder, step_index);
    const char *first_name = NULL;
    for (int i = 0; i < 3; i++) {
        if (!pawl_yaml_find(mapping, works[i], &key))
            continue;
        if (first) {
            const struct pawl_yaml_node *later =
                key->line > first->line || (key->line == first->line && key->column > first->column) ? key
                                                                                                     : first;
            pawl_loader_refuse(loader, later, "two_works", "make two steps of it",
                               "step `%.64s` has both `%s` and `%s`", name, first_name, works[i]);
            return;
        }
        first = key;
        first_name = works[i];
    }
    if (!first) {
        const struct pawl_plan_step *step = pawl_plan_edit_step(loader->builder, step_index);
        pawl_load_refuse(loader->errors, step->line, step->column, "no_work",
                         "give it `run`, `shell` or `use: noop`", "step `%.64s` has no work", name);
        return;
    }
    if ((node = pawl_loader_get(mapping, "run", PAWL_TAKES_SCALAR | PAWL_TAKES_SEQUENCE)))
        load_argv(loader, step_index, node, scope);
    if ((node = pawl_loader_get(mapping, "shell", PAWL_TAKES_SCALAR)))
        load_shell(loader, step_index, node, scope);
    if ((node = pawl_loader_get(mapping, "use", PAWL_TAKES_SCALAR)))
        load_use(loader, step_index, node);
    const struct pawl_plan_step *step = pawl_plan_edit_step(loader->builder, step_index);
    if ((step->flags & PAWL_STEP_UNSAFE_SHELL) && !pawl_yaml_find(mapping, "shell", NULL) &&
        pawl_yaml_find(mapping, "unsafe_shell", &key))
        pawl_loader_refuse(loader, key, "type", "", "`unsafe_shell` has no `shell` to speak of");
}

/* ---- items ---- */

static void load_matrix(struct pawl_loader *loader, uint32_t step_index, const struct pawl_yaml_node *mapping,
                        const struct pawl_expr_scope *scope)
{
    struct pawl_plan_axis *axes = calloc((size_t)mapping->count + 1, sizeof *axes);
    uint32_t count = 0;
    if (!axes) {
        loader->error = -ENOMEM;
        return;
    }
    if (mapping->count == 0)
        pawl_loader_refuse(loader, mapping, "type", "write `matrix: {NAME: [a, b]}`", "`matrix` is empty");
    for (const struct pawl_yaml_item *item = mapping->items; item; item = item->next) {
        bool named = pawl_loader_name(loader, item->key, "matrix axis");
        if (item->value->kind == PAWL_YAML_MAPPING) {
            pawl_loader_refuse(loader, item->value, "type", "", "axis `%.64s` takes a list, not a map",
                               item->key->text);
            continue;
        }
        uint32_t values = pawl_loader_list(loader, item->value, item->key->text, scope);
        if (!named || values == PAWL_PLAN_NONE)
            continue;
        axes[count].values = values;
        int error =
            pawl_plan_add_string(loader->builder, item->key->text, item->key->length, &axes[count++].name);
        if (error < 0)
            loader->error = error;
    }
    int error = pawl_plan_set_axes(loader->builder, step_index, axes, count);
    if (error < 0)
        loader->error = error;
    free(axes);
}

static void load_items(struct pawl_loader *loader, uint32_t step_index, const struct pawl_yaml_node *mapping,
                       const struct pawl_expr_scope *scope)
{
    struct pawl_yaml_node *foreach_key = NULL, *matrix_key = NULL;
    uint32_t list = PAWL_PLAN_NONE;
    const struct pawl_yaml_node *node;
    pawl_yaml_find(mapping, "foreach", &foreach_key);
    pawl_yaml_find(mapping, "matrix", &matrix_key);
    if (foreach_key && matrix_key)
        pawl_loader_refuse(loader, matrix_key, "type", "an axis of `matrix` may be the list",
                           "a step has `foreach` or `matrix`, not both");
    else if ((node = pawl_loader_get(mapping, "foreach", PAWL_TAKES_SCALAR | PAWL_TAKES_SEQUENCE)))
        list = pawl_loader_list(loader, node, "foreach", scope);
    else if ((node = pawl_loader_get(mapping, "matrix", PAWL_TAKES_MAPPING)))
        load_matrix(loader, step_index, node, scope);
    pawl_plan_edit_step(loader->builder, step_index)->foreach = list;
}

static void fill_step(struct pawl_loader *loader, uint32_t step_index, const struct pawl_yaml_node *mapping)
{
    struct pawl_expr_scope scope = {.flags = PAWL_EXPR_SCOPE_STEPS | PAWL_EXPR_SCOPE_OUTCOME,
                                    .step_index = step_index};
    const struct pawl_yaml_node *node;
    scope.env_first[1] = loader->env.first;
    scope.env_count[1] = loader->env.count;
    bool many = pawl_plan_edit_step(loader->builder, step_index)->foreach != PAWL_PLAN_NONE;
    load_items(loader, step_index, mapping, &scope);
    if (many)
        scope.flags |= PAWL_EXPR_SCOPE_ITEM;
    if ((node = pawl_loader_get(mapping, "env", PAWL_TAKES_MAPPING))) {
        pawl_loader_env(loader, node, step_index, &scope);
        struct pawl_plan_run env = pawl_plan_edit_step(loader->builder, step_index)->env;
        scope.env_first[0] = env.first;
        scope.env_count[0] = env.count;
    }
    load_work(loader, step_index, mapping, &scope);
    uint32_t index = PAWL_PLAN_NONE;
    if ((node = pawl_loader_get(mapping, "dir", PAWL_TAKES_SCALAR)))
        index = pawl_loader_text(loader, node, &scope);
    pawl_plan_edit_step(loader->builder, step_index)->dir = index;
    index = PAWL_PLAN_NONE;
    if ((node = pawl_loader_get(mapping, "stdin", PAWL_TAKES_ANY)))
        index = node->kind == PAWL_YAML_SCALAR ? pawl_loader_text(loader, node, &scope)
                                               : pawl_loader_template(loader, node, &scope);
    pawl_plan_edit_step(loader->builder, step_index)->stdin_template = index;
    index = PAWL_PLAN_NONE;
    if ((node = pawl_loader_get(mapping, "when", PAWL_TAKES_SCALAR)))
        index = pawl_loader_template(loader, node, &scope);
    pawl_plan_edit_step(loader->builder, step_index)->when = index;
    pawl_loader_retries(loader, step_index, mapping);
}

void pawl_loader_fill_steps(struct pawl_loader *loader)
{
    for (uint32_t i = 0; i < loader->step_count && loader->error == 0; i++)
        if (loader->steps[i])
            fill_step(loader, i, loader->steps[i]);
}
