/*
 * plan_check.c - is this blob a plan? Everything that the rest of the tree relies on is proved here.
 *
 * Runs in: scheduler (a blob from a client, a sealed image) and clients. The blob is hostile input: nothing
 * is used before it has been compared with its bounds, and the work is linear in the blob (the one quadratic
 * corner, env: entries that name others, has a budget). Writes nothing but scratch memory.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "scheduler/expr.h"
#include "scheduler/plan_format.h"
#include "shm/error.h"

enum { NESTED_ENV_MAX = 4, ENV_NAME_BYTES_MAX = 255, VALUE_DEPTH_MAX = PAWL_VALUE_DEPTH_MAX + 2 };
static const uint64_t WORK_MAX = UINT64_C(1) << 28;

struct check {
    const struct pawl_plan *plan;
    const char *why;
    uint8_t *node_depth;     /* 0: not a child yet seen; for nodes of the template at hand */
    uint8_t *template_state; /* low bits: nesting of env; TEMPLATE_TAKEN: some slot has it */
    uint32_t *step_stamp;    /* who looked at the step last */
    uint32_t *step_cursor;   /* dependents accounted for */
    uint64_t work;
};
enum { TEMPLATE_TAKEN = 0x80, TEMPLATE_NESTING = 0x0f };

static int refuse(struct check *check, const char *why)
{
    check->why = why;
    return PAWL_E_BAD_MESSAGE;
}

int pawl_plan_check_header(const void *blob, size_t bytes, const struct pawl_plan_limits *limits,
                           const char **why_out)
{
    const struct pawl_plan_header *header = blob;
    uint64_t bytes_max = limits && limits->bytes_max ? limits->bytes_max : PAWL_PLAN_BYTES_MAX;
    uint32_t steps_max = limits && limits->steps_max ? limits->steps_max : PAWL_PLAN_STEPS_MAX;
    if (bytes > bytes_max || bytes > PAWL_PLAN_BYTES_MAX) {
        *why_out = "plan is larger than allowed";
        return PAWL_E_LIMIT;
    }
    *why_out = "not a plan";
    if (bytes < sizeof *header || ((uintptr_t)blob & 7) != 0 || header->magic != PAWL_PLAN_MAGIC)
        return PAWL_E_BAD_FORMAT;
    *why_out = "plan of another format version";
    if (header->format_version != PAWL_PLAN_FORMAT_VERSION || header->header_bytes != sizeof *header)
        return PAWL_E_BAD_FORMAT;
    *why_out = "plan has another length than it says";
    if (header->total_bytes != bytes)
        return PAWL_E_BAD_MESSAGE;
    *why_out = "plan's checksum does not match";
    const char *checked = (const char *)blob + PAWL_PLAN_CHECKED_FROM;
    if (header->checksum != XXH3_64bits(checked, bytes - PAWL_PLAN_CHECKED_FROM))
        return PAWL_E_BAD_MESSAGE;
    *why_out = "plan's sections do not fill it";
    uint64_t at = sizeof *header;
    for (int id = 0; id < PAWL_SECTION_COUNT; id++) {
        if (header->sections[id].byte_offset != at)
            return PAWL_E_BAD_MESSAGE;
        at += ((uint64_t)header->sections[id].count * pawl_plan_entry_bytes(id) + 7) & ~UINT64_C(7);
        if (at > bytes)
            return PAWL_E_BAD_MESSAGE;
    }
    if (at != bytes)
        return PAWL_E_BAD_MESSAGE;
    *why_out = "plan has more steps than allowed";
    if (header->sections[PAWL_SECTION_STEPS].count > steps_max)
        return PAWL_E_LIMIT;
    *why_out = "";
    return 0;
}

/* ---- small pieces ---- */

static bool string_lies_inside(const struct pawl_plan *plan, uint64_t byte_offset, uint32_t bytes)
{
    uint64_t size = plan->counts[PAWL_SECTION_STRINGS];
    return byte_offset < size && bytes < size - byte_offset && plan->strings[byte_offset + bytes] == '\0';
}

/* A name: short, not empty, without a NUL inside. */
static bool is_named(const struct pawl_plan *plan, struct pawl_plan_string name, size_t bytes_max)
{
    return name.bytes > 0 && name.bytes <= bytes_max &&
           string_lies_inside(plan, name.byte_offset, name.bytes) &&
           !memchr(plan->strings + name.byte_offset, '\0', name.bytes);
}

static bool is_name_of_spec(const struct pawl_plan *plan, struct pawl_plan_string name)
{
    if (!is_named(plan, name, PAWL_NAME_BYTES_MAX))
        return false;
    const char *text = plan->strings + name.byte_offset;
    for (uint32_t i = 0; i < name.bytes; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
        if (!letter && !(i > 0 && c == '-') && !(i > 0 && c == '.'))
            return false;
    }
    return true;
}

/* Does the run begin where the one before it ended? Moves @next on. */
static bool tiles(struct pawl_plan_run run, uint32_t *next, uint32_t count)
{
    if (run.first != *next || run.count > count - *next)
        return false;
    *next += run.count;
    return true;
}

/* ---- constants ---- */

static int check_one_value(struct check *check, uint32_t index, uint8_t *depth)
{
    const struct pawl_plan *plan = check->plan;
    const struct pawl_plan_value *value = &plan->values[index];
    uint64_t count = plan->counts[PAWL_SECTION_VALUES];
    depth[index] = 1;
    if (value->kind > PAWL_VALUE_MAP)
        return refuse(check, "a constant has an unknown kind");
    if (value->kind == PAWL_VALUE_STRING)
        return string_lies_inside(plan, value->first, value->count)
                   ? 0
                   : refuse(check, "a constant's text lies outside");
    if (value->kind != PAWL_VALUE_LIST && value->kind != PAWL_VALUE_MAP)
        return 0;
    uint64_t children = (uint64_t)value->count * (value->kind == PAWL_VALUE_MAP ? 2 : 1);
    if (children == 0)
        return 0;
    if (value->first <= index || value->first >= count || children > count - value->first)
        return refuse(check, "a constant's elements lie outside");
    for (uint64_t i = value->first; i < value->first + children; i++) {
        if (depth[i] & 0x80)
            return refuse(check, "a constant has two owners");
        if (depth[i] >= VALUE_DEPTH_MAX)
            return refuse(check, "a constant is nested too deeply");
        if (depth[i] >= depth[index])
            depth[index] = depth[i] + 1;
        depth[i] |= 0x80;
        if (value->kind == PAWL_VALUE_MAP && (i - value->first) % 2 == 0 &&
            plan->values[i].kind != PAWL_VALUE_STRING)
            return refuse(check, "a key is not text");
    }
    return 0;
}

/* Elements stand behind their owner, so going backwards meets them first. */
static int check_values(struct check *check)
{
    uint32_t count = check->plan->counts[PAWL_SECTION_VALUES];
    uint8_t *depth = calloc((size_t)count + 1, 1);
    if (!depth)
        return -ENOMEM;
    int error = 0;
    for (uint32_t i = count; i-- > 0 && error == 0;)
        error = check_one_value(check, i, depth);
    free(depth);
    return error;
}

/* ---- templates ---- */

static int check_data(struct check *check, uint32_t template_index, uint32_t data, uint8_t data_kind)
{
    const struct pawl_plan *plan = check->plan;
    switch ((enum pawl_op_data)data_kind) {
    case PAWL_DATA_NONE:
        return 0;
    case PAWL_DATA_VALUE:
        return data < plan->counts[PAWL_SECTION_VALUES] ? 0
                                                        : refuse(check, "an expression names no constant");
    case PAWL_DATA_TEXT:
        if (data >= plan->counts[PAWL_SECTION_VALUES] || plan->values[data].kind != PAWL_VALUE_STRING)
            return refuse(check, "an expression names no variable");
        return 0;
    case PAWL_DATA_PARAM:
        return data < plan->counts[PAWL_SECTION_PARAMS] ? 0
                                                        : refuse(check, "an expression names no parameter");
    case PAWL_DATA_TEMPLATE:
        return data < template_index ? 0 : refuse(check, "an expression names a later template");
    case PAWL_DATA_STEP:
        return data < plan->counts[PAWL_SECTION_STEPS] ? 0 : refuse(check, "an expression names no step");
    }
    return refuse(check, "an expression has an unknown operation");
}

static bool is_text_constant(const struct pawl_plan *plan, const struct pawl_plan_node *node)
{
    return node->op == PAWL_OP_CONST && node->data < plan->counts[PAWL_SECTION_VALUES] &&
           plan->values[node->data].kind == PAWL_VALUE_STRING;
}

/* One node: its children stand before it in the same template and have no other parent. */
static int check_node(struct check *check, uint32_t template_index, uint32_t index)
{
    const struct pawl_plan *plan = check->plan;
    const struct pawl_plan_template *template = &plan->templates[template_index];
    const struct pawl_plan_node *node = &plan->nodes[index];
    const struct pawl_op_shape *shape = pawl_op_shape(node->op);
    if (!shape)
        return refuse(check, "an expression has an unknown operation");
    uint32_t arguments = 0, at_least = template->first_node;
    uint8_t depth = 1;
    bool keys = node->op == PAWL_OP_MAP || node->op == PAWL_OP_STEP_NAMED;
    for (uint32_t child = node->child; child != PAWL_PLAN_NONE; child = plan->nodes[child].next) {
        if (child < at_least || child >= index)
            return refuse(check, "an expression's parts stand outside of it");
        if (check->node_depth[child] & 0x80)
            return refuse(check, "an expression's part has two owners");
        if (check->node_depth[child] >= depth)
            depth = check->node_depth[child] + 1;
        check->node_depth[child] |= 0x80;
        if (keys && arguments % 2 == 0 && !is_text_constant(plan, &plan->nodes[child]))
            return refuse(check, "a key is not text");
        at_least = child + 1;
        arguments++;
    }
    if (depth > PAWL_EXPR_TREE_DEPTH_MAX)
        return refuse(check, "an expression is nested too deeply");
    if (arguments < shape->arguments_min || arguments > shape->arguments_max ||
        (node->op == PAWL_OP_MAP && arguments % 2 != 0))
        return refuse(check, "an expression has a wrong number of parts");
    check->node_depth[index] = depth;
    return check_data(check, template_index, node->data, shape->data);
}

/* Counts a step that the template asks for; it must be in the template's list. The list itself was stamped
 * before. */
static int note_step(struct check *check, uint32_t step, uint32_t listed_stamp, uint32_t *distinct)
{
    if (check->step_stamp[step] == listed_stamp) {
        check->step_stamp[step] = listed_stamp + 1;
        ++*distinct;
        return 0;
    }
    return check->step_stamp[step] == listed_stamp + 1
               ? 0
               : refuse(check, "a template hides a step that it asks for");
}

static int check_template_steps(struct check *check, uint32_t index, uint32_t *flags_out)
{
    const struct pawl_plan *plan = check->plan;
    const struct pawl_plan_template *template = &plan->templates[index];
    uint32_t stamp = 2 * index + 1, distinct = 0, flags = 0;
    uint8_t nesting = 0;
    for (uint32_t i = 0; i < template->steps.count; i++) {
        uint32_t step = plan->refs[template->steps.first + i];
        if (step >= plan->counts[PAWL_SECTION_STEPS] ||
            (i > 0 && plan->refs[template->steps.first + i - 1] >= step))
            return refuse(check, "a template's steps are out of order");
        check->step_stamp[step] = stamp;
    }
    for (uint32_t i = template->first_node; i <= template->root_node; i++) {
        const struct pawl_plan_node *node = &plan->nodes[i];
        uint32_t uses = pawl_op_shape(node->op)->uses;
        int error = 0;
        if (uses & PAWL_TEMPLATE_USES_STEPS)
            error = note_step(check, node->data, stamp, &distinct);
        if (node->op == PAWL_OP_ENV_TEMPLATE) {
            const struct pawl_plan_template *other = &plan->templates[node->data];
            uint8_t deeper = (check->template_state[node->data] & TEMPLATE_NESTING) + 1;
            nesting = deeper > nesting ? deeper : nesting;
            uses |= other->flags & ~(uint32_t)(PAWL_TEMPLATE_CONSTANT | PAWL_TEMPLATE_WHOLE);
            check->work += other->steps.count;
            if (check->work > WORK_MAX)
                return refuse(check, "a plan whose env entries name one another too often");
            for (uint32_t r = 0; r < other->steps.count && error == 0; r++)
                error = note_step(check, plan->refs[other->steps.first + r], stamp, &distinct);
        }
        if (error < 0)
            return error;
        flags |= uses;
    }
    if (distinct != template->steps.count)
        return refuse(check, "a template lists a step that it does not ask for");
    if (nesting > NESTED_ENV_MAX)
        return refuse(check, "env entries are nested too deeply");
    check->template_state[index] = nesting;
    *flags_out = flags;
    return 0;
}

static int check_template(struct check *check, uint32_t index, uint32_t *next_node, uint32_t *next_ref)
{
    const struct pawl_plan *plan = check->plan;
    const struct pawl_plan_template *template = &plan->templates[index];
    if (template->first_node != *next_node || template->root_node < template->first_node ||
        template->root_node >= plan->counts[PAWL_SECTION_NODES])
        return refuse(check, "a template has no nodes of its own");
    *next_node = template->root_node + 1;
    if (!tiles(template->steps, next_ref, plan->counts[PAWL_SECTION_REFS]))
        return refuse(check, "a template has no list of steps of its own");
    if (!string_lies_inside(plan, template->source.byte_offset, template->source.bytes))
        return refuse(check, "a template's source lies outside");
    for (uint32_t i = template->first_node; i <= template->root_node; i++) {
        int error = check_node(check, index, i);
        if (error < 0)
            return error;
    }
    for (uint32_t i = template->first_node; i < template->root_node; i++)
        if (!(check->node_depth[i] & 0x80))
            return refuse(check, "an expression's part has no owner");
    uint32_t flags;
    int error = check_template_steps(check, index, &flags);
    if (error < 0)
        return error;
    bool constant = template->flags & PAWL_TEMPLATE_CONSTANT;
    if (constant && (flags != 0 || template->first_node != template->root_node ||
                     plan->nodes[template->root_node].op != PAWL_OP_CONST))
        return refuse(check, "a template is said to be constant but is not");
    if ((template->flags & ~(uint32_t)(PAWL_TEMPLATE_CONSTANT | PAWL_TEMPLATE_WHOLE)) != flags)
        return refuse(check, "a template's flags do not match it");
    return 0;
}

static int check_templates(struct check *check)
{
    uint32_t next_node = 0, next_ref = 0;
    for (uint32_t i = 0; i < check->plan->counts[PAWL_SECTION_TEMPLATES]; i++) {
        int error = check_template(check, i, &next_node, &next_ref);
        if (error < 0)
            return error;
    }
    if (next_node != check->plan->counts[PAWL_SECTION_NODES] ||
        next_ref != check->plan->counts[PAWL_SECTION_REFS])
        return refuse(check, "nodes without a template");
    return 0;
}

/* ---- steps ---- */

/* A slot takes its template for itself; what it asks for must be among the needs, which bear the stamp. */
static int take_template(struct check *check, uint32_t index, uint32_t stamp, uint32_t forbidden)
{
    const struct pawl_plan *plan = check->plan;
    if (index >= plan->counts[PAWL_SECTION_TEMPLATES])
        return refuse(check, "a step names no template");
    if (check->template_state[index] & TEMPLATE_TAKEN)
        return refuse(check, "a template is used twice");
    check->template_state[index] |= TEMPLATE_TAKEN;
    const struct pawl_plan_template *template = &plan->templates[index];
    if (template->flags & forbidden)
        return refuse(check, "a template asks for what it cannot have where it stands");
    for (uint32_t i = 0; i < template->steps.count; i++)
        if (check->step_stamp[plan->refs[template->steps.first + i]] != stamp)
            return refuse(check, "a step asks for a step that it does not need");
    return 0;
}

static int take_optional(struct check *check, uint32_t index, uint32_t stamp, uint32_t forbidden)
{
    return index == PAWL_PLAN_NONE ? 0 : take_template(check, index, stamp, forbidden);
}

static int check_step_shape(struct check *check, const struct pawl_plan_step *step)
{
    const struct pawl_plan_retry *retry = &step->retry;
    uint32_t flags_known = PAWL_STEP_CONTINUE_ON_ERROR | PAWL_STEP_ALWAYS | PAWL_STEP_UNSAFE_SHELL |
                           PAWL_STEP_FED | PAWL_STEP_ARGV_LIST;
    if (!is_name_of_spec(check->plan, step->name))
        return refuse(check, "a step has no proper name");
    bool work = step->kind == PAWL_STEP_EXEC    ? step->argv.count > 0 && step->shell == PAWL_PLAN_NONE
                : step->kind == PAWL_STEP_SHELL ? step->argv.count == 0 && step->shell != PAWL_PLAN_NONE
                : step->kind == PAWL_STEP_NOOP  ? step->argv.count == 0 && step->shell == PAWL_PLAN_NONE
                                                : false;
    if (!work || step->output > PAWL_OUTPUT_JSON || (step->flags & ~flags_known) ||
        ((step->flags & PAWL_STEP_ARGV_LIST) && step->argv.count != 1))
        return refuse(check, "a step's kind does not fit its work");
    int manies = (step->foreach != PAWL_PLAN_NONE) + (step->axes.count > 0) + !!(step->flags & PAWL_STEP_FED);
    if (manies > 1)
        return refuse(check, "a step has more than one source of items");
    if (step->priority < -1000 || step->priority > 1000 || step->timeout_ns > INT64_MAX ||
        step->grace_ns > INT64_MAX || retry->initial_ns > INT64_MAX || retry->max_ns > INT64_MAX ||
        !(retry->factor >= 1 && retry->factor <= 1000) || !(retry->jitter >= 0 && retry->jitter <= 1))
        return refuse(check, "a step's numbers are out of range");
    return 0;
}

struct tiling {
    uint32_t argv, env, axes, codes, needs;
};

static int check_step_runs(struct check *check, const struct pawl_plan_step *step, struct tiling *next)
{
    const uint32_t *counts = check->plan->counts;
    if (!tiles(step->argv, &next->argv, counts[PAWL_SECTION_ARGV]) ||
        !tiles(step->env, &next->env, counts[PAWL_SECTION_ENV]) ||
        !tiles(step->axes, &next->axes, counts[PAWL_SECTION_AXES]) ||
        !tiles(step->retry.on_exit, &next->codes, counts[PAWL_SECTION_CODES]) ||
        !tiles(step->retry.never_on_exit, &next->codes, counts[PAWL_SECTION_CODES]) ||
        !tiles(step->needs, &next->needs, counts[PAWL_SECTION_EDGES]))
        return refuse(check, "a step's parts are not its own");
    return 0;
}

/* Stamps are step index + 1 on top of what templates used, so that no value comes back. */
static int check_step_needs(struct check *check, uint32_t index, uint32_t stamp)
{
    const struct pawl_plan *plan = check->plan;
    const struct pawl_plan_step *step = &plan->steps[index];
    uint32_t count = plan->counts[PAWL_SECTION_STEPS];
    for (uint32_t i = 0; i < step->needs.count; i++) {
        uint32_t need = plan->edges[step->needs.first + i];
        if (need >= count || check->step_stamp[need] == stamp)
            return refuse(check, "a step needs no step, or one twice");
        check->step_stamp[need] = stamp;
        const struct pawl_plan_step *other = &plan->steps[need];
        if (other->topological_position >= step->topological_position)
            return refuse(check, "steps need each other in a circle");
        uint32_t slot = check->step_cursor[need]++;
        if (slot >= other->dependents.count || plan->edges[other->dependents.first + slot] != index)
            return refuse(check, "needs and dependents do not match");
    }
    return 0;
}

static int check_env(struct check *check, struct pawl_plan_run run, uint32_t stamp, uint32_t forbidden)
{
    int error = 0;
    for (uint32_t i = run.first; i < run.first + run.count && error == 0; i++) {
        struct pawl_plan_string name = check->plan->env[i].name;
        if (!is_named(check->plan, name, ENV_NAME_BYTES_MAX) ||
            memchr(check->plan->strings + name.byte_offset, '=', name.bytes))
            return refuse(check, "a variable has no proper name");
        error = take_template(check, check->plan->env[i].value, stamp, forbidden);
    }
    return error;
}

static int check_step_templates(struct check *check, const struct pawl_plan_step *step, uint32_t stamp)
{
    const struct pawl_plan *plan = check->plan;
    const uint32_t item = PAWL_TEMPLATE_USES_ITEM | PAWL_TEMPLATE_USES_INDEX;
    uint32_t forbidden = pawl_step_is_many(step) ? 0 : item;
    int error = check_env(check, step->env, stamp, forbidden);
    for (uint32_t i = 0; i < step->argv.count && error == 0; i++)
        error = take_template(check, plan->argv[step->argv.first + i], stamp, forbidden);
    for (uint32_t i = 0; i < step->axes.count && error == 0; i++) {
        if (!is_named(plan, plan->axes[step->axes.first + i].name, PAWL_NAME_BYTES_MAX))
            return refuse(check, "an axis has no proper name");
        error = take_template(check, plan->axes[step->axes.first + i].values, stamp, item);
    }
    if (error == 0)
        error = take_optional(check, step->shell, stamp, forbidden);
    if (error == 0)
        error = take_optional(check, step->dir, stamp, forbidden);
    if (error == 0)
        error = take_optional(check, step->stdin_template, stamp, forbidden);
    if (error == 0)
        error = take_optional(check, step->when, stamp, forbidden);
    if (error == 0)
        error = take_optional(check, step->foreach, stamp, item);
    return error;
}

/* Runs of dependents and the order, which the needs are then compared with. */
static int check_step_places(struct check *check, uint32_t first_dependent)
{
    const struct pawl_plan *plan = check->plan;
    uint32_t count = plan->counts[PAWL_SECTION_STEPS], next = first_dependent;
    if (plan->counts[PAWL_SECTION_ORDER] != count || plan->counts[PAWL_SECTION_BY_NAME] != count)
        return refuse(check, "the order is not one of all steps");
    for (uint32_t i = 0; i < count; i++) {
        const struct pawl_plan_step *step = &plan->steps[i];
        if (!tiles(step->dependents, &next, plan->counts[PAWL_SECTION_EDGES]))
            return refuse(check, "a step's dependents are not its own");
        if (step->topological_position >= count || plan->order[step->topological_position] != i)
            return refuse(check, "the order is not one of all steps");
    }
    return next == plan->counts[PAWL_SECTION_EDGES] ? 0 : refuse(check, "edges without a step");
}

static int check_steps(struct check *check)
{
    const struct pawl_plan *plan = check->plan;
    uint32_t count = plan->counts[PAWL_SECTION_STEPS],
             stamp_base = 2 * plan->counts[PAWL_SECTION_TEMPLATES] + 3;
    struct tiling next = {0};
    if (!tiles(plan->header->env, &next.env, plan->counts[PAWL_SECTION_ENV]))
        return refuse(check, "the env is not the workflow's own");
    int error = check_env(check, plan->header->env, 0,
                          PAWL_TEMPLATE_USES_ITEM | PAWL_TEMPLATE_USES_INDEX | PAWL_TEMPLATE_USES_STEPS |
                              PAWL_TEMPLATE_USES_OUTCOME);
    for (uint32_t i = 0; i < count && error == 0; i++) {
        error = check_step_runs(check, &plan->steps[i], &next);
        if (error == 0)
            error = check_step_shape(check, &plan->steps[i]);
    }
    if (error < 0)
        return error;
    if (next.argv != plan->counts[PAWL_SECTION_ARGV] || next.env != plan->counts[PAWL_SECTION_ENV] ||
        next.axes != plan->counts[PAWL_SECTION_AXES] || next.codes != plan->counts[PAWL_SECTION_CODES])
        return refuse(check, "parts without a step");
    error = check_step_places(check, next.needs);
    for (uint32_t i = 0; i < count && error == 0; i++) {
        error = check_step_needs(check, i, stamp_base + i);
        if (error == 0)
            error = check_step_templates(check, &plan->steps[i], stamp_base + i);
    }
    for (uint32_t i = 0; i < count && error == 0; i++)
        if (check->step_cursor[i] != plan->steps[i].dependents.count)
            error = refuse(check, "needs and dependents do not match");
    return error;
}

static int check_names(struct check *check)
{
    const struct pawl_plan *plan = check->plan;
    const char *before = NULL;
    for (uint32_t i = 0; i < plan->counts[PAWL_SECTION_BY_NAME]; i++) {
        if (plan->by_name[i] >= plan->counts[PAWL_SECTION_STEPS])
            return refuse(check, "the index of names does not hold");
        const char *name = plan->strings + plan->steps[plan->by_name[i]].name.byte_offset;
        if (before && strcmp(before, name) >= 0) /* names end in a NUL and are at most 64 bytes: checked */
            return refuse(check, "two steps have one name");
        before = name;
    }
    for (uint32_t i = 0; i < plan->counts[PAWL_SECTION_PARAMS]; i++) {
        const struct pawl_plan_param *param = &plan->params[i];
        if (!is_named(plan, param->name, PAWL_NAME_BYTES_MAX) ||
            param->value >= plan->counts[PAWL_SECTION_VALUES] ||
            param->default_value >= plan->counts[PAWL_SECTION_VALUES])
            return refuse(check, "a parameter has no name or no value");
    }
    return 0;
}

int pawl_plan_check(const struct pawl_plan *plan, const char **why_out)
{
    const struct pawl_plan_header *header = plan->header;
    struct check check = {.plan = plan, .why = ""};
    int error = 0;
    uint64_t stamps =
        2 * (uint64_t)plan->counts[PAWL_SECTION_TEMPLATES] + plan->counts[PAWL_SECTION_STEPS] + 8;
    check.node_depth = calloc((size_t)plan->counts[PAWL_SECTION_NODES] + 1, 1);
    check.template_state = calloc((size_t)plan->counts[PAWL_SECTION_TEMPLATES] + 1, 1);
    check.step_stamp = calloc((size_t)plan->counts[PAWL_SECTION_STEPS] + 1, sizeof(uint32_t));
    check.step_cursor = calloc((size_t)plan->counts[PAWL_SECTION_STEPS] + 1, sizeof(uint32_t));
    if (!check.node_depth || !check.template_state || !check.step_stamp || !check.step_cursor)
        error = -ENOMEM;
    else if (stamps > UINT32_MAX || !is_name_of_spec(plan, header->name) ||
             !string_lies_inside(plan, header->source.byte_offset, header->source.bytes))
        error = refuse(&check, "the plan has no proper name");
    if (error == 0)
        error = check_values(&check);
    if (error == 0)
        error = check_templates(&check);
    if (error == 0)
        error = check_steps(&check);
    if (error == 0)
        error = check_names(&check);
    free(check.node_depth);
    free(check.template_state);
    free(check.step_stamp);
    free(check.step_cursor);
    *why_out = check.why;
    return error;
}
