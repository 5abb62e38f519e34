/*
 * expr_eval.c - the value of a template.
 *
 * Runs in the scheduler, for each task. Reads the plan (checked) and what the environment's callbacks give;
 * allocates from the caller's arena alone. Visits each node at most once, entries of env: as often as they
 * are named, up to a bound.
 */
#include "scheduler/expr_eval.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "shm/error.h"

enum { NODES_MAX = 4 << 20, QUOTED_BYTES = 120 };

int pawl_eval_refuse(struct pawl_evaluation *evaluation, int code, const char *format, ...)
{
    char *text = evaluation->error->text;
    size_t size = sizeof evaluation->error->text;
    struct pawl_plan_string source = pawl_plan_template(evaluation->plan, evaluation->template_index)->source;
    va_list arguments;
    int used = 0;
    if (source.bytes > 0)
        used =
            snprintf(text, size, "%.*s%s: ", source.bytes > QUOTED_BYTES ? QUOTED_BYTES : (int)source.bytes,
                     pawl_plan_text(evaluation->plan, source), source.bytes > QUOTED_BYTES ? "..." : "");
    va_start(arguments, format);
    vsnprintf(text + used, size - (size_t)used, format, arguments);
    va_end(arguments);
    return code;
}

int pawl_eval_type(struct pawl_evaluation *evaluation, enum pawl_op op, const struct pawl_value *value)
{
    const struct pawl_op_shape *shape = pawl_op_shape(op);
    return pawl_eval_refuse(evaluation, PAWL_E_INVALID, "`%s%s` cannot take %s", shape->name,
                            shape->is_function ? "()" : "", pawl_value_kind_name(value->kind));
}

static int too_long(struct pawl_evaluation *evaluation)
{
    return pawl_eval_refuse(evaluation, PAWL_E_LIMIT, "text above 1 MiB may only be used as stdin");
}

static int arena_full(struct pawl_evaluation *evaluation)
{
    return pawl_eval_refuse(evaluation, PAWL_E_LIMIT, "the value is too large");
}

int pawl_eval_text(struct pawl_evaluation *evaluation, const struct pawl_value *value, const char **bytes_out,
                   size_t *length_out)
{
    int error =
        pawl_value_to_text(value, PAWL_EXPR_TEXT_BYTES_MAX, false, evaluation->arena, bytes_out, length_out);
    if (error == PAWL_E_LIMIT)
        return too_long(evaluation);
    return error < 0 ? pawl_eval_refuse(evaluation, error, "%s", pawl_error_text(error)) : 0;
}

char *pawl_eval_made(struct pawl_evaluation *evaluation, size_t length, int *error_out)
{
    if (length > PAWL_EXPR_TEXT_BYTES_MAX) {
        *error_out = too_long(evaluation);
        return NULL;
    }
    char *bytes = pawl_arena_alloc(evaluation->arena, length + 1);
    if (bytes)
        bytes[length] = '\0';
    else
        *error_out = arena_full(evaluation);
    return bytes;
}

static int evaluate(struct pawl_evaluation *evaluation, uint32_t node_index, struct pawl_value *value_out);

/* ---- leaves ---- */

static int step_field(struct pawl_evaluation *evaluation, const struct pawl_plan_node *node,
                      struct pawl_value *value_out)
{
    static const char *const fields[] = {"output", "outputs", "exit_code", "state"};
    const struct pawl_plan *plan = evaluation->plan;
    enum pawl_expr_step_field field = (enum pawl_expr_step_field)(node->op - PAWL_OP_STEP_OUTPUT);
    const char *name = NULL;
    size_t name_bytes = 0;
    if (field == PAWL_EXPR_STEP_NAMED) {
        const struct pawl_plan_value *key = &plan->values[plan->nodes[node->child].data];
        name = plan->strings + key->first;
        name_bytes = key->count;
    }
    int error = PAWL_E_NOT_FOUND;
    if (evaluation->env && evaluation->env->step_field)
        error = evaluation->env->step_field(evaluation->env->context, node->data, field, name, name_bytes,
                                            evaluation->arena, value_out);
    if (error == 0)
        return 0;
    if (error == PAWL_E_NOT_FOUND)
        return pawl_eval_refuse(evaluation, error, "step `%s` has no `%.*s`",
                                pawl_plan_step_name(plan, node->data), name ? (int)name_bytes : 10,
                                name ? name : fields[field]);
    return pawl_eval_refuse(evaluation, error, "step `%s`: %s", pawl_plan_step_name(plan, node->data),
                            pawl_error_text(error));
}

static int env_var(struct pawl_evaluation *evaluation, const struct pawl_plan_node *node,
                   struct pawl_value *value_out)
{
    const struct pawl_plan_value *name = &evaluation->plan->values[node->data];
    const char *bytes = evaluation->plan->strings + name->first;
    int error = PAWL_E_NOT_FOUND;
    if (evaluation->env && evaluation->env->env_var)
        error = evaluation->env->env_var(evaluation->env->context, bytes, name->count, evaluation->arena,
                                         value_out);
    if (error == PAWL_E_NOT_FOUND) {
        *value_out = pawl_value_null();
        return 0;
    }
    return error < 0 ? pawl_eval_refuse(evaluation, error, "env: %s", pawl_error_text(error)) : 0;
}

static int env_template(struct pawl_evaluation *evaluation, const struct pawl_plan_node *node,
                        struct pawl_value *value_out)
{
    uint32_t outer = evaluation->template_index;
    struct pawl_value value;
    const char *bytes;
    size_t length;
    evaluation->template_index = node->data;
    int error = evaluate(evaluation, evaluation->plan->templates[node->data].root_node, &value);
    if (error == 0)
        error = pawl_eval_text(evaluation, &value, &bytes, &length);
    evaluation->template_index = outer;
    if (error == 0)
        *value_out = pawl_value_bytes(bytes, length);
    return error;
}

static int item_or_index(struct pawl_evaluation *evaluation, enum pawl_op op, struct pawl_value *value_out)
{
    const struct pawl_expr_env *env = evaluation->env;
    if (!env || !env->item)
        return pawl_eval_refuse(evaluation, PAWL_E_INVALID, "`%s` is not set here", pawl_op_shape(op)->name);
    if (op == PAWL_OP_INDEX && env->index > INT64_MAX)
        return pawl_eval_refuse(evaluation, PAWL_E_INVALID, "`index` is too large");
    *value_out = op == PAWL_OP_ITEM ? *env->item : pawl_value_int((int64_t)env->index);
    return 0;
}

static int outcome(struct pawl_evaluation *evaluation, enum pawl_op op, struct pawl_value *value_out)
{
    bool holds = false;
    int error = PAWL_E_INVALID;
    enum pawl_expr_outcome which = op == PAWL_OP_SUCCESS ? PAWL_EXPR_SUCCESS : PAWL_EXPR_FAILED;
    if (evaluation->env && evaluation->env->outcome)
        error = evaluation->env->outcome(evaluation->env->context, which, &holds);
    *value_out = pawl_value_bool(holds);
    return error < 0
               ? pawl_eval_refuse(evaluation, error, "`%s()` cannot be asked here", pawl_op_shape(op)->name)
               : 0;
}

/* ---- branches ---- */

static uint32_t count_children(const struct pawl_evaluation *evaluation, const struct pawl_plan_node *node)
{
    uint32_t count = 0;
    for (uint32_t child = node->child; child != PAWL_PLAN_NONE; child = evaluation->plan->nodes[child].next)
        count++;
    return count;
}

/* All children into an array of the arena. */
static int evaluate_children(struct pawl_evaluation *evaluation, const struct pawl_plan_node *node,
                             uint32_t count, struct pawl_value **values_out)
{
    struct pawl_value *values = pawl_arena_alloc(evaluation->arena, count * sizeof *values);
    if (!values)
        return arena_full(evaluation);
    uint32_t i = 0;
    for (uint32_t child = node->child; child != PAWL_PLAN_NONE; child = evaluation->plan->nodes[child].next) {
        int error = evaluate(evaluation, child, &values[i++]);
        if (error < 0)
            return error;
    }
    *values_out = values;
    return 0;
}

static int concatenate(struct pawl_evaluation *evaluation, const struct pawl_plan_node *node,
                       struct pawl_value *value_out)
{
    uint32_t count = count_children(evaluation, node);
    struct pawl_value *values;
    size_t total = 0;
    int error = evaluate_children(evaluation, node, count, &values);
    for (uint32_t i = 0; i < count && error == 0; i++) {
        const char *bytes;
        size_t length;
        error = pawl_eval_text(evaluation, &values[i], &bytes, &length);
        if (error == 0) {
            values[i] = pawl_value_bytes(bytes, length);
            total += length;
            if (total > PAWL_EXPR_TEXT_BYTES_MAX)
                error = too_long(evaluation);
        }
    }
    char *text = error == 0 ? pawl_eval_made(evaluation, total, &error) : NULL;
    if (!text)
        return error;
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (values[i].count)
            memcpy(text + at, values[i].bytes, values[i].count);
        at += values[i].count;
    }
    *value_out = pawl_value_bytes(text, total);
    return 0;
}

static int make_collection(struct pawl_evaluation *evaluation, const struct pawl_plan_node *node,
                           struct pawl_value *value_out)
{
    uint32_t count = count_children(evaluation, node);
    struct pawl_value *values;
    int error = evaluate_children(evaluation, node, count, &values);
    if (error < 0)
        return error;
    if (node->op == PAWL_OP_LIST) {
        *value_out = (struct pawl_value){.kind = PAWL_VALUE_LIST, .count = count, .items = values};
        return 0;
    }
    struct pawl_pair *pairs = pawl_arena_alloc(evaluation->arena, count / 2 * sizeof *pairs);
    if (!pairs)
        return arena_full(evaluation);
    for (uint32_t i = 0; i < count / 2; i++)
        pairs[i] = (struct pawl_pair){values[2 * i].bytes, values[2 * i].count, values[2 * i + 1]};
    *value_out = (struct pawl_value){.kind = PAWL_VALUE_MAP, .count = count / 2, .pairs = pairs};
    return 0;
}

/* `and`, `or` and default() look at their second part only if they must. */
static int evaluate_lazily(struct pawl_evaluation *evaluation, const struct pawl_plan_node *node,
                           struct pawl_value *value_out)
{
    uint32_t second = evaluation->plan->nodes[node->child].next;
    int error = evaluate(evaluation, node->child, value_out);
    if (node->op == PAWL_OP_DEFAULT) {
        if (error == PAWL_E_NOT_FOUND) {
            evaluation->error->text[0] = '\0';
            return evaluate(evaluation, second, value_out);
        }
        bool absent = error == 0 && (value_out->kind == PAWL_VALUE_NULL ||
                                     (value_out->kind == PAWL_VALUE_STRING && value_out->count == 0));
        return absent ? evaluate(evaluation, second, value_out) : error;
    }
    if (error < 0 || pawl_value_truth(value_out) == (node->op == PAWL_OP_OR))
        return error;
    return evaluate(evaluation, second, value_out);
}

static int negate(struct pawl_evaluation *evaluation, struct pawl_value *value)
{
    if (value->kind == PAWL_VALUE_DOUBLE)
        value->real = -value->real;
    else if (value->kind != PAWL_VALUE_INT)
        return pawl_eval_type(evaluation, PAWL_OP_NEGATE, value);
    else if (__builtin_sub_overflow((int64_t)0, value->integer, &value->integer))
        return pawl_eval_refuse(evaluation, PAWL_E_INVALID, "integer overflow");
    return 0;
}

static int evaluate_branch(struct pawl_evaluation *evaluation, const struct pawl_plan_node *node,
                           struct pawl_value *value_out)
{
    enum pawl_op op = (enum pawl_op)node->op;
    struct pawl_value arguments[2];
    uint32_t count = 0;
    if (op == PAWL_OP_AND || op == PAWL_OP_OR || op == PAWL_OP_DEFAULT)
        return evaluate_lazily(evaluation, node, value_out);
    for (uint32_t child = node->child; child != PAWL_PLAN_NONE; child = evaluation->plan->nodes[child].next) {
        int error = evaluate(evaluation, child, &arguments[count++]); /* at most 2: checked with the plan */
        if (error < 0)
            return error;
    }
    if (op >= PAWL_OP_LEN)
        return pawl_eval_call(evaluation, op, arguments, count, value_out);
    if (count == 2)
        return pawl_eval_operator(evaluation, op, &arguments[0], &arguments[1], value_out);
    if (op == PAWL_OP_NOT) {
        *value_out = pawl_value_bool(!pawl_value_truth(&arguments[0]));
        return 0;
    }
    *value_out = arguments[0];
    return negate(evaluation, value_out);
}

static int evaluate(struct pawl_evaluation *evaluation, uint32_t node_index, struct pawl_value *value_out)
{
    const struct pawl_plan *plan = evaluation->plan;
    const struct pawl_plan_node *node = &plan->nodes[node_index];
    if (evaluation->nodes_left-- == 0) {
        evaluation->nodes_left = 0;
        return pawl_eval_refuse(evaluation, PAWL_E_LIMIT, "env entries name one another too often");
    }
    int error = 0;
    switch (node->op) {
    case PAWL_OP_CONST:
        error = pawl_plan_value(plan, node->data, evaluation->arena, value_out);
        return error < 0 ? arena_full(evaluation) : 0;
    case PAWL_OP_PARAM:
        error = pawl_plan_value(plan, plan->params[node->data].value, evaluation->arena, value_out);
        return error < 0 ? arena_full(evaluation) : 0;
    case PAWL_OP_ENV_VAR:
        return env_var(evaluation, node, value_out);
    case PAWL_OP_ENV_TEMPLATE:
        return env_template(evaluation, node, value_out);
    case PAWL_OP_ITEM:
    case PAWL_OP_INDEX:
        return item_or_index(evaluation, node->op, value_out);
    case PAWL_OP_RUN_ID:
        *value_out = evaluation->env
                         ? pawl_value_bytes(evaluation->env->run_id, evaluation->env->run_id_bytes)
                         : pawl_value_text("");
        return 0;
    case PAWL_OP_STEP_OUTPUT:
    case PAWL_OP_STEP_OUTPUTS:
    case PAWL_OP_STEP_EXIT_CODE:
    case PAWL_OP_STEP_STATE:
    case PAWL_OP_STEP_NAMED:
        return step_field(evaluation, node, value_out);
    case PAWL_OP_CONCAT:
        return concatenate(evaluation, node, value_out);
    case PAWL_OP_LIST:
    case PAWL_OP_MAP:
        return make_collection(evaluation, node, value_out);
    case PAWL_OP_SUCCESS:
    case PAWL_OP_FAILED:
        return outcome(evaluation, node->op, value_out);
    case PAWL_OP_ALWAYS:
        *value_out = pawl_value_bool(true);
        return 0;
    default:
        return evaluate_branch(evaluation, node, value_out);
    }
}

/* ---- templates ---- */

int pawl_template_eval(const struct pawl_plan *plan, uint32_t template_index, const struct pawl_expr_env *env,
                       struct pawl_arena *arena, struct pawl_value *value_out,
                       struct pawl_expr_error *error_out)
{
    struct pawl_expr_error unread;
    struct pawl_evaluation evaluation = {.plan = plan,
                                         .env = env,
                                         .arena = arena,
                                         .error = error_out ? error_out : &unread,
                                         .template_index = template_index,
                                         .nodes_left = NODES_MAX};
    evaluation.error->text[0] = '\0';
    int error = evaluate(&evaluation, pawl_plan_template(plan, template_index)->root_node, value_out);
    return error == PAWL_E_NOT_FOUND ? PAWL_E_INVALID : error;
}

const char *pawl_template_constant(const struct pawl_plan *plan, uint32_t template_index, size_t *length_out)
{
    const struct pawl_plan_template *template = pawl_plan_template(plan, template_index);
    if (!(template->flags & PAWL_TEMPLATE_CONSTANT))
        return NULL;
    const struct pawl_plan_value *value = &plan->values[plan->nodes[template->root_node].data];
    if (value->kind != PAWL_VALUE_STRING)
        return NULL;
    *length_out = value->count;
    return plan->strings + value->first;
}

int pawl_template_eval_text(const struct pawl_plan *plan, uint32_t template_index,
                            const struct pawl_expr_env *env, struct pawl_arena *arena, const char **text_out,
                            size_t *length_out, struct pawl_expr_error *error_out)
{
    struct pawl_expr_error unread;
    struct pawl_evaluation evaluation = {.plan = plan,
                                         .arena = arena,
                                         .error = error_out ? error_out : &unread,
                                         .template_index = template_index};
    const char *text = pawl_template_constant(plan, template_index, length_out);
    int error = 0;
    if (!text) {
        struct pawl_value value;
        error = pawl_template_eval(plan, template_index, env, arena, &value, evaluation.error);
        if (error < 0)
            return error;
        /* Always a copy: an argument needs its NUL, which a step's output, for one, does not have. */
        error = pawl_value_to_text(&value, PAWL_EXPR_TEXT_BYTES_MAX, true, arena, &text, length_out);
        if (error == PAWL_E_LIMIT)
            return too_long(&evaluation);
        if (error < 0)
            return pawl_eval_refuse(&evaluation, error, "%s", pawl_error_text(error));
    } else if (*length_out > PAWL_EXPR_TEXT_BYTES_MAX) {
        return too_long(&evaluation);
    }
    if (memchr(text, '\0', *length_out))
        return pawl_eval_refuse(&evaluation, PAWL_E_INVALID,
                                "a NUL byte cannot be part of an argument or variable");
    *text_out = text;
    return 0;
}

int pawl_template_eval_condition(const struct pawl_plan *plan, uint32_t template_index,
                                 const struct pawl_expr_env *env, struct pawl_arena *arena, bool *holds_out,
                                 struct pawl_expr_error *error_out)
{
    struct pawl_value value;
    int error = pawl_template_eval(plan, template_index, env, arena, &value, error_out);
    if (error == 0)
        *holds_out = pawl_value_truth(&value);
    return error;
}
