/*
 * task_build.c - from a step's templates to a packed task.
 *
 * Runs in: scheduler. Each argv template yields exactly one argument; a value never becomes shell text by
 * itself.
 */
#include "scheduler/core_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

enum {
    ITEM_ENV_BYTES_MAX = 100 << 10, /* PAWL_ITEM: the kernel takes 128 KiB for one string */
    STDIN_BYTES_MAX = 32 << 20,     /* more is read from the output's own file */
};

struct builder {
    struct pawl_run *run;
    struct pawl_step *step;
    struct pawl_expr_env env;
    struct pawl_value item;
    struct pawl_arena *arena;
    struct pawl_expr_error why;
    struct pawl_task_spec spec;
};

static int eval_c_string(struct builder *b, uint32_t template_index, const char *what, const char **text_out)
{
    size_t length;
    int error =
        pawl_template_eval_text(b->run->plan, template_index, &b->env, b->arena, text_out, &length, &b->why);
    if (error == 0 && memchr(*text_out, '\0', length)) {
        snprintf(b->why.text, sizeof b->why.text, "%s would hold a NUL byte", what);
        error = PAWL_E_INVALID;
    }
    return error;
}

static int build_argv(struct builder *b)
{
    const struct pawl_plan_step *plan = b->step->plan;
    if (plan->kind == PAWL_STEP_SHELL) {
        const char **argv = pawl_arena_alloc(b->arena, 3 * sizeof *argv);
        if (!argv)
            return PAWL_E_LIMIT;
        argv[0] = "/bin/sh";
        argv[1] = "-c";
        b->spec.argv = argv;
        b->spec.argc = 3;
        return eval_c_string(b, plan->shell, "shell", &argv[2]);
    }
    const uint32_t *templates = pawl_plan_argv(b->run->plan, plan);
    const char **argv = pawl_arena_alloc(b->arena, plan->argv.count * sizeof *argv);
    if (!argv)
        return PAWL_E_LIMIT;
    for (uint32_t i = 0; i < plan->argv.count; i++) {
        int error = eval_c_string(b, templates[i], "an argument", &argv[i]);
        if (error < 0)
            return error;
    }
    b->spec.argv = argv;
    b->spec.argc = plan->argv.count;
    return 0;
}

static int add_env(struct builder *b, const char **env, uint32_t *count, const struct pawl_plan_env *entry)
{
    const char *value;
    const char *name = pawl_plan_text(b->run->plan, entry->name);
    int error = eval_c_string(b, entry->value, name, &value);
    if (error < 0)
        return error;
    size_t bytes = entry->name.bytes + strlen(value) + 2;
    char *text = pawl_arena_alloc(b->arena, bytes);
    if (!text)
        return PAWL_E_LIMIT;
    snprintf(text, bytes, "%s=%s", name, value);
    env[(*count)++] = text;
    return 0;
}

static int build_env(struct builder *b)
{
    uint32_t shared = 0, own = b->step->plan->env.count, count = 0;
    const struct pawl_plan_env *entries = pawl_plan_env(b->run->plan, &shared);
    if (shared + own == 0)
        return 0;
    const char **env = pawl_arena_alloc(b->arena, (shared + own) * sizeof *env);
    if (!env)
        return PAWL_E_LIMIT;
    int error = 0;
    for (uint32_t i = 0; i < shared && error == 0; i++)
        error = add_env(b, env, &count, &entries[i]);
    entries = pawl_plan_step_env(b->run->plan, b->step->plan);
    for (uint32_t i = 0; i < own && error == 0; i++)
        error = add_env(b, env, &count, &entries[i]);
    b->spec.env = env;
    b->spec.envc = count;
    return error;
}

struct growing {
    char *bytes;
    size_t n, capacity;
};

static int grow_sink(void *context, const void *bytes, size_t n)
{
    struct growing *to = context;
    if (to->n + n > STDIN_BYTES_MAX)
        return PAWL_E_LIMIT;
    int error = pawl_grow((void **)&to->bytes, &to->capacity, to->n + n, 1);
    if (error == 0 && n > 0)
        memcpy(to->bytes + to->n, bytes, n);
    to->n += n;
    return error;
}

/* Too much for task memory: if it is one step's whole output, the worker reads the file that holds it. */
static int stdin_from_file(struct builder *b)
{
    uint32_t count = 0;
    const uint32_t *steps = pawl_plan_template_steps(b->run->plan, b->step->plan->stdin_template, &count);
    struct pawl_result_view view;
    if (count != 1 || b->run->steps[steps[0]].many ||
        pawl_run_result(b->run->core, b->run, steps[0], 0, 0, true, &view) < 0)
        return PAWL_E_LIMIT;
    int error = PAWL_E_LIMIT;
    if (view.fixed.flags & PAWL_RESULT_STDOUT_FILE) {
        size_t bytes = strlen(b->run->id) + view.fixed.stdout_bytes + 16;
        char *path = pawl_arena_alloc(b->arena, bytes);
        if (path) {
            b->spec.stdin_bytes = (size_t)snprintf(path, bytes, "runs/%s/%.*s", b->run->id,
                                                   (int)view.fixed.stdout_bytes, view.bytes);
            b->spec.stdin_data = path;
            b->spec.stdin_kind = PAWL_STDIN_FILE;
            error = 0;
        }
    }
    free(view.bytes);
    return error;
}

static int build_stdin(struct builder *b)
{
    uint32_t template_index = b->step->plan->stdin_template;
    struct growing text = {0};
    struct pawl_value value;
    if (template_index == PAWL_PLAN_NONE)
        return 0;
    int error = pawl_template_eval(b->run->plan, template_index, &b->env, b->arena, &value, &b->why);
    if (error < 0)
        return error;
    error = pawl_value_write_stdin(&value, grow_sink, &text);
    if (error == PAWL_E_LIMIT) {
        error = stdin_from_file(b);
        if (error < 0)
            snprintf(b->why.text, sizeof b->why.text, "stdin is over %d MiB and not one step's whole output",
                     STDIN_BYTES_MAX >> 20);
    } else if (error == 0) {
        b->spec.stdin_data = pawl_arena_copy(b->arena, text.n ? text.bytes : "", text.n);
        b->spec.stdin_bytes = text.n;
        b->spec.stdin_kind = PAWL_STDIN_BYTES;
        if (!b->spec.stdin_data)
            error = PAWL_E_LIMIT;
    }
    free(text.bytes);
    return error;
}

static int build_item(struct builder *b, uint64_t instance)
{
    if (!b->step->many)
        return 0;
    int error = pawl_flow_item(b->run, b->step, instance, b->arena, &b->item);
    if (error < 0)
        return error;
    b->env.item = &b->item;
    b->env.index = instance;
    const char *text;
    size_t length;
    if (pawl_value_to_text(&b->item, ITEM_ENV_BYTES_MAX, true, b->arena, &text, &length) == 0) {
        b->spec.item = text;
        b->spec.item_bytes = length;
    } else {
        b->spec.item = "";
    }
    return 0;
}

static int pack(struct builder *b, const void **task_out, size_t *bytes_out)
{
    struct pawl_core *core = b->run->core;
    size_t bytes = pawl_task_packed_bytes(&b->spec);
    if (bytes == 0)
        return PAWL_E_LIMIT;
    if (bytes > core->pack_bytes) {
        char *larger = realloc(core->pack, bytes + 4096);
        if (!larger)
            return -ENOMEM;
        core->pack = larger;
        core->pack_bytes = bytes + 4096;
    }
    int64_t packed = pawl_task_pack(&b->spec, core->pack, core->pack_bytes);
    *task_out = core->pack;
    *bytes_out = packed > 0 ? (size_t)packed : 0;
    return packed < 0 ? (int)packed : 0;
}

static int build(struct builder *b, uint64_t instance, bool *skip_out)
{
    const struct pawl_plan_step *plan = b->step->plan;
    int error = build_item(b, instance);
    if (error == 0 && plan->when != PAWL_PLAN_NONE && b->step->many) {
        uint32_t flags = pawl_plan_template(b->run->plan, plan->when)->flags;
        bool holds = true;
        if ((flags & (PAWL_TEMPLATE_USES_ITEM | PAWL_TEMPLATE_USES_INDEX)) != 0)
            error =
                pawl_template_eval_condition(b->run->plan, plan->when, &b->env, b->arena, &holds, &b->why);
        if (error == 0 && !holds) {
            *skip_out = true;
            return 0;
        }
    }
    if (error < 0)
        return error;
    b->spec.kind = plan->kind == PAWL_STEP_NOOP ? PAWL_TASK_NOOP : PAWL_TASK_EXEC;
    if (plan->kind == PAWL_STEP_NOOP)
        return 0;
    error = build_argv(b);
    if (error == 0)
        error = build_env(b);
    if (error == 0 && plan->dir != PAWL_PLAN_NONE)
        error = eval_c_string(b, plan->dir, "dir", &b->spec.dir);
    return error == 0 ? build_stdin(b) : error;
}

int pawl_task_build(struct pawl_run *run, struct pawl_step *step, uint64_t instance, const void **task_out,
                    size_t *bytes_out, bool *skip_out, char note[256])
{
    struct pawl_core *core = run->core;
    *skip_out = false;
    if ((step->plan->flags & PAWL_STEP_FED) != 0) {
        uint32_t n = 0;
        char *item = pawl_items_find(run, instance, &n);
        if (!item)
            return PAWL_E_NOT_FOUND;
        *task_out = item + sizeof(struct pawl_wire_item);
        *bytes_out = n - sizeof(struct pawl_wire_item);
        /* Packed by the command; what an attempt may print is said by who runs it. */
        pawl_task_limit_output(item + sizeof(struct pawl_wire_item), *bytes_out,
                               core->options.output_bytes_max);
        return 0;
    }
    struct builder b = {.run = run, .step = step, .arena = &core->scratch};
    b.spec.run_id = run->id;
    b.spec.step = pawl_plan_step_name(run->plan, step->index);
    b.spec.timeout_ns = step->plan->timeout_ns;
    b.spec.grace_ns = step->plan->grace_ns;
    b.spec.output_bytes_max = core->options.output_bytes_max;
    pawl_flow_env(run, step, &b.env);
    int error = build(&b, instance, skip_out);
    if (error == 0 && !*skip_out)
        error = pack(&b, task_out, bytes_out);
    if (error < 0)
        snprintf(note, 256, "%.255s", b.why.text[0] ? b.why.text : pawl_error_text(error));
    pawl_arena_reset(&core->scratch);
    return error;
}
