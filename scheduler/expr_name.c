/*
 * expr_name.c - what names mean where a template stands: paths and calls.
 *
 * Names of parameters and steps may hold '-' and '.' : after `params.` and `steps.` the longest known name
 * wins that ends at the end of a word. Runs in clients, when a file is loaded.
 */
#include "scheduler/expr_parse.h"

#include <string.h>

#include "scheduler/suggest.h"
#include "shm/error.h"

static const char *const roots[] = {"params", "env", "item", "index", "run", "steps", NULL};
static const char *const step_fields[] = {"output", "outputs", "exit_code", "state", NULL};

static bool is_name_byte(char c)
{
    return pawl_is_word(c) || c == '-' || c == '.';
}

/* Names shown in messages: not longer than a name can be. */
static int shown(size_t length)
{
    return length > PAWL_NAME_BYTES_MAX ? PAWL_NAME_BYTES_MAX : (int)length;
}

/* After the dot, straight in the source: the longest known name. Returns its index, PAWL_PLAN_NONE if none is
 * known. */
static uint32_t longest_known(const struct pawl_expr_parser *parser, const struct pawl_name_table *table,
                              size_t from, size_t *length_out)
{
    const char *source = parser->lexer.source + from;
    size_t left = parser->lexer.length - from, length = 0;
    while (length < left && length < PAWL_NAME_BYTES_MAX && is_name_byte(source[length]))
        length++;
    for (; length > 0; length--) {
        if (length < left && pawl_is_word(source[length]) && pawl_is_word(source[length - 1]))
            continue; /* in the middle of a word */
        uint32_t found = pawl_parts_find(parser->builder, table, source, length);
        if (found != PAWL_PLAN_NONE) {
            *length_out = length;
            return found;
        }
    }
    while (length < left && (pawl_is_word(source[length]) || source[length] == '-'))
        length++;
    *length_out = length;
    return PAWL_PLAN_NONE;
}

/* A name in a message gets the nearest known one as a hint. */
static int suggest_known(struct pawl_expr_parser *parser, const char *root, enum pawl_plan_section_id id,
                         const char *wrong, size_t wrong_bytes)
{
    const struct pawl_part *part = &parser->builder->parts[id];
    const char *strings = parser->builder->parts[PAWL_SECTION_STRINGS].data;
    struct pawl_suggest suggest;
    pawl_suggest_init(&suggest, wrong, wrong_bytes);
    for (uint32_t i = 0; i < part->count; i++) {
        struct pawl_plan_string name = id == PAWL_SECTION_STEPS
                                           ? ((struct pawl_plan_step *)part->data)[i].name
                                           : ((struct pawl_plan_param *)part->data)[i].name;
        pawl_suggest_offer(&suggest, strings + name.byte_offset, name.bytes);
    }
    if (suggest.best)
        return pawl_expr_hint(parser->lexer.diagnostic, "did you mean `%s.%.*s`?", root,
                              (int)suggest.best_bytes, suggest.best);
    return PAWL_E_INVALID;
}

/* `.name` or `["name"]` behind a root whose names are known. The word at hand is the root; afterwards, the
 * one behind. */
static int known_member(struct pawl_expr_parser *parser, const char *root, const char *what,
                        enum pawl_plan_section_id id, const struct pawl_name_table *table,
                        uint32_t *index_out)
{
    struct pawl_expr_diagnostic *diagnostic = parser->lexer.diagnostic;
    size_t start = parser->token.start, length = 0;
    int error = pawl_expr_advance(parser);
    if (error < 0)
        return error;
    bool bracket = pawl_expr_is_character(parser, '[');
    if (!bracket && !pawl_expr_is_character(parser, '.')) {
        pawl_expr_refuse(diagnostic, start, "`%s` is no value by itself", root);
        return pawl_expr_hint(diagnostic, "name one: `%s.NAME`", root);
    }
    const char *wrong;
    size_t at = parser->token.end;
    if (bracket) {
        error = pawl_expr_advance(parser);
        if (error < 0)
            return error;
        if (parser->token.kind != PAWL_TOKEN_TEXT)
            return pawl_expr_refuse(diagnostic, at, "`%s[...]` takes a name as text", root);
        wrong = parser->token.text;
        length = parser->token.text_bytes;
        *index_out = pawl_parts_find(parser->builder, table, wrong, length);
    } else {
        wrong = parser->lexer.source + at;
        *index_out = longest_known(parser, table, at, &length);
    }
    if (*index_out == PAWL_PLAN_NONE) {
        pawl_expr_refuse(diagnostic, start, "%s `%.*s` does not exist", what, shown(length), wrong);
        return suggest_known(parser, root, id, wrong, length);
    }
    if (!bracket)
        parser->lexer.at = at + length;
    error = pawl_expr_advance(parser);
    return error == 0 && bracket ? pawl_expr_expect(parser, ']', " after the name") : error;
}

static int parse_param(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    size_t start = parser->token.start;
    uint32_t index;
    int error =
        known_member(parser, "params", "parameter", PAWL_SECTION_PARAMS, &parser->builder->params, &index);
    if (error < 0)
        return error;
    const struct pawl_plan_param *param = pawl_parts_at(parser->builder, PAWL_SECTION_PARAMS, index);
    const struct pawl_plan_value *value =
        pawl_parts_at(parser->builder, PAWL_SECTION_VALUES, param->default_value);
    uint8_t types = value->kind == PAWL_VALUE_NULL ? PAWL_TYPE_ANY
                    : value->kind == PAWL_VALUE_INT || value->kind == PAWL_VALUE_DOUBLE
                        ? PAWL_TYPE_NUMBER
                        : (uint8_t)(1u << value->kind);
    error = pawl_expr_leaf(parser, PAWL_OP_PARAM, types, index, start, operand_out);
    operand_out->end = parser->token.start;
    return error;
}

/* The name behind `steps.S`, `env` or `run`: .word or ["text"]. In the arena of the lexer or the source: use
 * it at once. */
static int free_member(struct pawl_expr_parser *parser, const char *after, const char **name_out,
                       size_t *length_out, bool *bracket_out)
{
    struct pawl_expr_diagnostic *diagnostic = parser->lexer.diagnostic;
    *bracket_out = pawl_expr_is_character(parser, '[');
    if (!*bracket_out && !pawl_expr_is_character(parser, '.'))
        return pawl_expr_refuse(diagnostic, parser->token.start, "`%s` is no value by itself", after);
    int error = pawl_expr_advance(parser);
    if (error < 0)
        return error;
    if (parser->token.kind != (*bracket_out ? PAWL_TOKEN_TEXT : PAWL_TOKEN_NAME))
        return pawl_expr_refuse(diagnostic, parser->token.start, "a name is missing after `%s`", after);
    *name_out = *bracket_out ? parser->token.text : parser->lexer.source + parser->token.start;
    *length_out = *bracket_out ? parser->token.text_bytes : parser->token.end - parser->token.start;
    return 0;
}

static int leave_member(struct pawl_expr_parser *parser, bool bracket)
{
    int error = pawl_expr_advance(parser);
    return error == 0 && bracket ? pawl_expr_expect(parser, ']', " after the name") : error;
}

static int parse_env(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    size_t start = parser->token.start, length;
    const char *name;
    bool bracket;
    struct pawl_plan_string interned;
    int error = pawl_expr_advance(parser);
    if (error == 0)
        error = free_member(parser, "env", &name, &length, &bracket);
    if (error < 0)
        return error;
    error = pawl_plan_add_string(parser->builder, name, length, &interned);
    if (error < 0)
        return error;
    error = leave_member(parser, bracket);
    if (error < 0)
        return error;
    const struct pawl_plan_env *entries = parser->builder->parts[PAWL_SECTION_ENV].data;
    for (int level = 0; level < 2; level++)
        for (uint32_t i = 0; i < parser->scope->env_count[level]; i++) {
            const struct pawl_plan_env *entry = &entries[parser->scope->env_first[level] + i];
            if (entry->name.byte_offset != interned.byte_offset)
                continue; /* equal bytes are stored once */
            error = pawl_expr_leaf(parser, PAWL_OP_ENV_TEMPLATE, PAWL_TYPE_TEXT, entry->value, start,
                                   operand_out);
            operand_out->end = parser->token.start;
            return error;
        }
    const char *stored =
        (const char *)parser->builder->parts[PAWL_SECTION_STRINGS].data + interned.byte_offset;
    char copy[256]; /* a longer one cannot be a variable's name; storing may move what is stored */
    if (length >= sizeof copy)
        return pawl_expr_refuse(parser->lexer.diagnostic, start, "name of a variable longer than %zu bytes",
                                sizeof copy - 1);
    memcpy(copy, stored, length);
    struct pawl_value value = pawl_value_bytes(copy, length);
    error = pawl_expr_constant(parser, &value, start, operand_out);
    if (error < 0)
        return error;
    struct pawl_plan_node *node = pawl_parts_at(parser->builder, PAWL_SECTION_NODES, operand_out->node);
    node->op = PAWL_OP_ENV_VAR;
    node->types = operand_out->types = PAWL_TYPE_TEXT | PAWL_TYPE_NULL;
    operand_out->end = parser->token.start;
    return 0;
}

/* May this template ask for that step? */
static int check_need(struct pawl_expr_parser *parser, uint32_t step_index, size_t start)
{
    struct pawl_expr_diagnostic *diagnostic = parser->lexer.diagnostic;
    const char *strings = parser->builder->parts[PAWL_SECTION_STRINGS].data;
    const struct pawl_plan_step *asked = pawl_parts_at(parser->builder, PAWL_SECTION_STEPS, step_index);
    const char *name = strings + asked->name.byte_offset;
    const struct pawl_plan_step *self = pawl_plan_edit_step(parser->builder, parser->scope->step_index);
    const char *self_name = strings + self->name.byte_offset;
    if (parser->scope->step_index == step_index)
        return pawl_expr_refuse(diagnostic, start, "step `%s` asks for itself", name);
    const uint32_t *edges = parser->builder->parts[PAWL_SECTION_EDGES].data;
    for (uint32_t i = 0; i < self->needs.count; i++)
        if (edges[self->needs.first + i] == step_index)
            return 0;
    pawl_expr_refuse(diagnostic, start, "step `%s` asks for `steps.%s` but does not need it", self_name,
                     name);
    return pawl_expr_hint(diagnostic, "add `%s` to the `needs` of `%s`", name, self_name);
}

static int parse_step_field(struct pawl_expr_parser *parser, uint32_t step_index, size_t start,
                            struct pawl_operand *operand_out)
{
    struct pawl_expr_diagnostic *diagnostic = parser->lexer.diagnostic;
    const struct pawl_plan_step *step = pawl_parts_at(parser->builder, PAWL_SECTION_STEPS, step_index);
    const char *step_name =
        (const char *)parser->builder->parts[PAWL_SECTION_STRINGS].data + step->name.byte_offset;
    const char *name;
    size_t length;
    bool bracket;
    if (!pawl_expr_is_character(parser, '.') && !pawl_expr_is_character(parser, '[')) {
        pawl_expr_refuse(diagnostic, start, "`steps.%s` is no value by itself", step_name);
        return pawl_expr_hint(diagnostic, "name what you want: `steps.%s.output`", step_name);
    }
    int error = free_member(parser, "steps.NAME", &name, &length, &bracket);
    if (error < 0)
        return error;
    uint32_t field = 0;
    while (step_fields[field] &&
           (strlen(step_fields[field]) != length || memcmp(step_fields[field], name, length) != 0))
        field++;
    bool many = pawl_step_is_many(step);
    if (field == 0 && many) {
        pawl_expr_refuse(diagnostic, start, "step `%s` has many instances, so it has no single `output`",
                         step_name);
        return pawl_expr_hint(diagnostic, "write `steps.%s.outputs`", step_name);
    }
    static const uint8_t output_types[] = {PAWL_TYPE_TEXT, PAWL_TYPE_LIST, PAWL_TYPE_ANY};
    uint8_t types =
        field == 0 ? output_types[step->output] : pawl_op_shape(PAWL_OP_STEP_OUTPUT + field)->gives;
    struct pawl_operand key = {.depth = 0};
    if (field == 4) {
        struct pawl_value value = pawl_value_bytes(name, length);
        if (length == 0 || length > PAWL_NAME_BYTES_MAX)
            return pawl_expr_refuse(diagnostic, start, "the name of an output has 1 to %d bytes",
                                    PAWL_NAME_BYTES_MAX);
        error = pawl_expr_constant(parser, &value, parser->token.start, &key);
    }
    if (error == 0)
        error = leave_member(parser, bracket);
    if (error == 0)
        error = pawl_expr_leaf(parser, (enum pawl_op)(PAWL_OP_STEP_OUTPUT + field), types, step_index, start,
                               operand_out);
    if (error < 0)
        return error;
    if (field == 4) {
        struct pawl_plan_node *node = pawl_parts_at(parser->builder, PAWL_SECTION_NODES, operand_out->node);
        node->child = key.node;
        operand_out->depth = 2;
    }
    operand_out->end = parser->token.start;
    return 0;
}

static int parse_step(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    size_t start = parser->token.start;
    uint32_t index;
    if (parser->scope->step_index == PAWL_PLAN_NONE || !(parser->scope->flags & PAWL_EXPR_SCOPE_STEPS))
        return pawl_expr_refuse(parser->lexer.diagnostic, start, "steps cannot be asked for here");
    int error = known_member(parser, "steps", "step", PAWL_SECTION_STEPS, &parser->builder->steps, &index);
    if (error == 0)
        error = check_need(parser, index, start);
    return error == 0 ? parse_step_field(parser, index, start, operand_out) : error;
}

static int parse_run(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    size_t start = parser->token.start, length;
    const char *name;
    bool bracket;
    int error = pawl_expr_advance(parser);
    if (error == 0)
        error = free_member(parser, "run", &name, &length, &bracket);
    if (error < 0)
        return error;
    if (length != 2 || memcmp(name, "id", 2) != 0) {
        pawl_expr_refuse(parser->lexer.diagnostic, start, "`run.%.*s` does not exist", shown(length), name);
        return pawl_expr_hint(parser->lexer.diagnostic, "did you mean `run.id`?");
    }
    error = leave_member(parser, bracket);
    if (error == 0)
        error = pawl_expr_leaf(parser, PAWL_OP_RUN_ID, PAWL_TYPE_TEXT, 0, start, operand_out);
    operand_out->end = parser->token.start;
    return error;
}

static int parse_item(struct pawl_expr_parser *parser, enum pawl_op op, struct pawl_operand *operand_out)
{
    size_t start = parser->token.start;
    const struct pawl_op_shape *shape = pawl_op_shape(op);
    if (!(parser->scope->flags & PAWL_EXPR_SCOPE_ITEM)) {
        pawl_expr_refuse(parser->lexer.diagnostic, start, "`%s` is not set here", shape->name);
        return pawl_expr_hint(parser->lexer.diagnostic, "it is in a step with `foreach` or `matrix`");
    }
    int error = pawl_expr_advance(parser);
    if (error == 0)
        error = pawl_expr_leaf(parser, op, shape->gives, 0, start, operand_out);
    operand_out->end = parser->token.start;
    return error;
}

/* ---- calls ---- */

static const char *plural(uint32_t count)
{
    return count == 1 ? "" : "s";
}

static int wrong_arity(struct pawl_expr_parser *parser, const struct pawl_op_shape *shape, uint32_t count,
                       size_t start)
{
    if (shape->arguments_min == shape->arguments_max)
        return pawl_expr_refuse(parser->lexer.diagnostic, start, "`%s()` takes %u argument%s, not %u",
                                shape->name, shape->arguments_min, plural(shape->arguments_min), count);
    return pawl_expr_refuse(parser->lexer.diagnostic, start, "`%s()` takes %u or %u arguments, not %u",
                            shape->name, shape->arguments_min, shape->arguments_max, count);
}

static int parse_arguments(struct pawl_expr_parser *parser, enum pawl_op op, size_t start,
                           struct pawl_operand *operand_out)
{
    const struct pawl_op_shape *shape = pawl_op_shape(op);
    struct pawl_operand arguments[2];
    uint32_t count = 0;
    int error = pawl_expr_advance(parser); /* the ( */
    while (error == 0 && !pawl_expr_is_character(parser, ')')) {
        struct pawl_operand surplus;
        error = pawl_expr_expression(parser, count < 2 ? &arguments[count] : &surplus);
        count++;
        if (error < 0 || !pawl_expr_is_character(parser, ','))
            break;
        error = pawl_expr_advance(parser);
    }
    if (error == 0)
        error = pawl_expr_expect(parser, ')', " or `,` after an argument");
    if (error < 0)
        return error;
    if (count < shape->arguments_min || count > shape->arguments_max)
        return wrong_arity(parser, shape, count, start);
    return pawl_expr_node(parser, op, arguments, count, start, operand_out);
}

static int parse_call(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    struct pawl_expr_diagnostic *diagnostic = parser->lexer.diagnostic;
    size_t start = parser->token.start, length = parser->token.end - start;
    const char *name = parser->lexer.source + start;
    struct pawl_suggest suggest;
    pawl_suggest_init(&suggest, name, length);
    for (uint32_t op = 0; op < PAWL_OP_END; op++) {
        const struct pawl_op_shape *shape = pawl_op_shape(op);
        if (!shape || !shape->is_function)
            continue;
        if (strlen(shape->name) != length || memcmp(shape->name, name, length) != 0) {
            pawl_suggest_offer(&suggest, shape->name, strlen(shape->name));
            continue;
        }
        bool outcome = op == PAWL_OP_SUCCESS || op == PAWL_OP_FAILED || op == PAWL_OP_ALWAYS;
        if (outcome && !(parser->scope->flags & PAWL_EXPR_SCOPE_OUTCOME))
            return pawl_expr_refuse(diagnostic, start, "`%s()` cannot be asked here", shape->name);
        int error = pawl_expr_advance(parser);
        return error == 0 ? parse_arguments(parser, (enum pawl_op)op, start, operand_out) : error;
    }
    pawl_expr_refuse(diagnostic, start, "unknown function `%.*s()`", shown(length), name);
    if (suggest.best)
        return pawl_expr_hint(diagnostic, "did you mean `%s()`?", suggest.best);
    return pawl_expr_hint(
        diagnostic,
        "there are len default basename dirname join split json lines quote success failed always");
}

static int unknown_name(struct pawl_expr_parser *parser)
{
    struct pawl_expr_diagnostic *diagnostic = parser->lexer.diagnostic;
    size_t start = parser->token.start, length = parser->token.end - start;
    const char *name = parser->lexer.source + start;
    pawl_expr_refuse(diagnostic, start, "unknown name `%.*s`", shown(length), name);
    if (pawl_parts_find(parser->builder, &parser->builder->params, name, length) != PAWL_PLAN_NONE)
        return pawl_expr_hint(diagnostic, "did you mean `params.%.*s`?", shown(length), name);
    if (pawl_parts_find(parser->builder, &parser->builder->steps, name, length) != PAWL_PLAN_NONE)
        return pawl_expr_hint(diagnostic, "did you mean `steps.%.*s.output`?", shown(length), name);
    struct pawl_suggest suggest;
    pawl_suggest_init(&suggest, name, length);
    for (size_t i = 0; roots[i]; i++)
        pawl_suggest_offer(&suggest, roots[i], strlen(roots[i]));
    if (suggest.best)
        return pawl_expr_hint(diagnostic, "did you mean `%s`?", suggest.best);
    return pawl_expr_hint(diagnostic,
                          "names begin with params, env, item, index, run or steps; text needs quotes");
}

int pawl_expr_name(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    size_t after = parser->token.end;
    while (after < parser->lexer.length && parser->lexer.source[after] == ' ')
        after++;
    if (after < parser->lexer.length && parser->lexer.source[after] == '(')
        return parse_call(parser, operand_out);
    if (pawl_expr_is_word(parser, "params"))
        return parse_param(parser, operand_out);
    if (pawl_expr_is_word(parser, "steps"))
        return parse_step(parser, operand_out);
    if (pawl_expr_is_word(parser, "env"))
        return parse_env(parser, operand_out);
    if (pawl_expr_is_word(parser, "run"))
        return parse_run(parser, operand_out);
    if (pawl_expr_is_word(parser, "item"))
        return parse_item(parser, PAWL_OP_ITEM, operand_out);
    if (pawl_expr_is_word(parser, "index"))
        return parse_item(parser, PAWL_OP_INDEX, operand_out);
    return unknown_name(parser);
}
