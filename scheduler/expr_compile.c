/*
 * expr_compile.c - templates: text around expressions, and lists and maps of them.
 *
 * Runs in clients, when a file is loaded.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/expr_parse.h"
#include "shm/error.h"

bool pawl_template_has_expression(const char *source, size_t source_bytes, size_t *offset_out)
{
    const char *found = source_bytes ? memmem(source, source_bytes, "${{", 3) : NULL;
    if (found && offset_out)
        *offset_out = (size_t)(found - source);
    return found != NULL;
}

uint32_t pawl_template_types(const struct pawl_plan_builder *builder, uint32_t template_index)
{
    const struct pawl_plan_template *template =
        pawl_parts_at(builder, PAWL_SECTION_TEMPLATES, template_index);
    return ((struct pawl_plan_node *)pawl_parts_at(builder, PAWL_SECTION_NODES, template->root_node))->types;
}

/* ---- pieces on a stack ---- */

void pawl_template_maker_init(struct pawl_template_maker *maker, struct pawl_plan_builder *builder,
                              const struct pawl_expr_scope *scope)
{
    *maker = (struct pawl_template_maker){
        .builder = builder, .scope = scope, .first_node = builder->parts[PAWL_SECTION_NODES].count};
}

void pawl_template_maker_fini(struct pawl_template_maker *maker)
{
    if (maker->builder && maker->count > 0)
        maker->builder->spoiled = true; /* pieces were left over */
    free(maker->stack);
    free(maker->depths);
    maker->stack = NULL;
    maker->depths = NULL;
}

static int push(struct pawl_template_maker *maker, uint32_t node, uint8_t depth)
{
    if (maker->count == maker->capacity) {
        uint32_t capacity = maker->capacity ? maker->capacity * 2 : 8;
        uint32_t *stack = realloc(maker->stack, capacity * sizeof *stack);
        if (stack)
            maker->stack = stack;
        uint8_t *depths = realloc(maker->depths, capacity);
        if (depths)
            maker->depths = depths;
        if (!stack || !depths)
            return -ENOMEM;
        maker->capacity = capacity;
    }
    maker->stack[maker->count] = node;
    maker->depths[maker->count++] = depth;
    return 0;
}

static int push_node(struct pawl_template_maker *maker, enum pawl_op op, uint8_t types, uint32_t data,
                     uint8_t depth)
{
    uint32_t index = maker->builder->parts[PAWL_SECTION_NODES].count;
    struct pawl_plan_node *node = pawl_parts_grow(maker->builder, PAWL_SECTION_NODES, 1);
    if (!node)
        return PAWL_E_LIMIT;
    *node = (struct pawl_plan_node){(uint8_t)op, types, 0, PAWL_PLAN_NONE, PAWL_PLAN_NONE, data};
    return push(maker, index, depth);
}

int pawl_template_maker_constant(struct pawl_template_maker *maker, const struct pawl_value *value)
{
    uint32_t index;
    int error = pawl_plan_add_value(maker->builder, value, &index);
    if (error < 0)
        return error;
    uint8_t types = pawl_value_is_list(value) ? PAWL_TYPE_LIST : (uint8_t)(1u << value->kind);
    return push_node(maker, PAWL_OP_CONST, types, index, 1);
}

/* A node over the last @count pieces. */
static int join_pieces(struct pawl_template_maker *maker, enum pawl_op op, uint32_t count)
{
    assert(count <= maker->count);
    struct pawl_plan_node *nodes = maker->builder->parts[PAWL_SECTION_NODES].data;
    const uint32_t *pieces = maker->stack + maker->count - count;
    uint8_t depth = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t piece_depth = maker->depths[maker->count - count + i];
        depth = piece_depth > depth ? piece_depth : depth;
        if (i > 0)
            nodes[pieces[i - 1]].next = pieces[i];
    }
    if (depth >= PAWL_EXPR_TREE_DEPTH_MAX)
        return PAWL_E_LIMIT;
    uint32_t first = count > 0 ? pieces[0] : PAWL_PLAN_NONE;
    maker->count -= count;
    int error = push_node(maker, op, pawl_op_shape(op)->gives, 0, depth + 1);
    if (error == 0) {
        nodes = maker->builder->parts[PAWL_SECTION_NODES].data;
        nodes[maker->stack[maker->count - 1]].child = first;
    }
    return error;
}

int pawl_template_maker_list(struct pawl_template_maker *maker, uint32_t count)
{
    return join_pieces(maker, PAWL_OP_LIST, count);
}

int pawl_template_maker_map(struct pawl_template_maker *maker, uint32_t count)
{
    return join_pieces(maker, PAWL_OP_MAP, 2 * count);
}

/* One expression; @from is the offset of its ${{, *@end_out what follows its }}. */
static int push_expression(struct pawl_template_maker *maker, struct pawl_arena *arena, const char *source,
                           size_t source_bytes, size_t from, size_t *end_out,
                           struct pawl_expr_diagnostic *diagnostic)
{
    struct pawl_operand operand;
    struct pawl_expr_parser parser = {.builder = maker->builder,
                                      .scope = maker->scope,
                                      .lexer = {.source = source,
                                                .length = source_bytes,
                                                .at = from + 3,
                                                .arena = arena,
                                                .diagnostic = diagnostic}};
    int error = pawl_expr_parse(&parser, &operand);
    if (error < 0)
        return error;
    *end_out = parser.token.end;
    return push(maker, operand.node, operand.depth);
}

int pawl_template_maker_source(struct pawl_template_maker *maker, const char *source, size_t source_bytes,
                               struct pawl_expr_diagnostic *diagnostic_out)
{
    struct pawl_arena arena; /* texts of the lexer */
    size_t at = 0, next;
    uint32_t pieces = 0;
    int error = 0;
    diagnostic_out->text[0] = diagnostic_out->hint[0] = '\0';
    diagnostic_out->byte_offset = 0;
    if (!pawl_template_has_expression(source, source_bytes, NULL)) {
        struct pawl_value text = pawl_value_bytes(source, source_bytes);
        return pawl_template_maker_constant(maker, &text);
    }
    if (source_bytes > PAWL_EXPR_SOURCE_BYTES_MAX) {
        pawl_expr_refuse(diagnostic_out, 0, "text with expressions is longer than 1 MiB");
        return PAWL_E_LIMIT;
    }
    pawl_arena_init(&arena, 0);
    while (error == 0 && pawl_template_has_expression(source + at, source_bytes - at, &next)) {
        if (next > 0) {
            struct pawl_value text = pawl_value_bytes(source + at, next);
            error = pawl_template_maker_constant(maker, &text);
            pieces++;
        }
        if (error == 0)
            error = push_expression(maker, &arena, source, source_bytes, at + next, &at, diagnostic_out);
        pieces += error == 0;
        pawl_arena_reset(&arena);
    }
    if (error == 0 && at < source_bytes) {
        struct pawl_value text = pawl_value_bytes(source + at, source_bytes - at);
        error = pawl_template_maker_constant(maker, &text);
        pieces++;
    }
    if (error == 0 && pieces > 1)
        error = join_pieces(maker, PAWL_OP_CONCAT, pieces);
    if (error == PAWL_E_LIMIT && !diagnostic_out->text[0])
        pawl_expr_refuse(diagnostic_out, 0, "text with expressions is nested too deeply, or too large");
    if (error < 0)
        maker->builder->spoiled = true;
    pawl_arena_fini(&arena);
    return error;
}

/* ---- finish ---- */

static int rising(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Which steps the nodes ask for, and what else they use. */
static int collect_uses(struct pawl_plan_builder *builder, uint32_t first_node, uint32_t root,
                        struct pawl_plan_template *template)
{
    uint32_t start = builder->parts[PAWL_SECTION_REFS].count;
    for (uint32_t i = first_node; i <= root; i++) {
        const struct pawl_plan_node *node = pawl_parts_at(builder, PAWL_SECTION_NODES, i);
        const struct pawl_op_shape *shape = pawl_op_shape(node->op);
        template->flags |= shape->uses;
        uint32_t count = shape->data == PAWL_DATA_STEP;
        const struct pawl_plan_template *other = NULL;
        if (shape->data == PAWL_DATA_TEMPLATE) {
            other = pawl_parts_at(builder, PAWL_SECTION_TEMPLATES, node->data);
            template->flags |= other->flags & ~(uint32_t)(PAWL_TEMPLATE_CONSTANT | PAWL_TEMPLATE_WHOLE);
            count = other->steps.count;
        }
        uint32_t *fresh = count ? pawl_parts_grow(builder, PAWL_SECTION_REFS, count) : NULL;
        if (count && !fresh)
            return PAWL_E_LIMIT;
        if (other && count)
            memcpy(fresh, pawl_parts_at(builder, PAWL_SECTION_REFS, other->steps.first),
                   count * sizeof *fresh);
        else if (count)
            *fresh = node->data;
    }
    struct pawl_part *refs = &builder->parts[PAWL_SECTION_REFS];
    uint32_t found = refs->count - start, kept = 0;
    if (found > 0) {
        uint32_t *steps = (uint32_t *)refs->data + start;
        qsort(steps, found, sizeof *steps, rising);
        for (uint32_t i = 0; i < found; i++)
            if (i == 0 || steps[i] != steps[i - 1])
                steps[kept++] = steps[i];
        refs->count = start + kept;
    }
    template->steps = (struct pawl_plan_run){start, kept};
    return 0;
}

int pawl_template_maker_finish(struct pawl_template_maker *maker, const char *source, size_t source_bytes,
                               uint32_t *template_index_out)
{
    struct pawl_plan_builder *builder = maker->builder;
    assert(maker->count == 1);
    uint32_t root = maker->stack[0];
    struct pawl_plan_template template = {.first_node = maker->first_node, .root_node = root};
    int error = pawl_plan_add_string(builder, source, source_bytes, &template.source);
    if (error == 0)
        error = collect_uses(builder, maker->first_node, root, &template);
    if (error < 0)
        return error;
    const struct pawl_plan_node *node = pawl_parts_at(builder, PAWL_SECTION_NODES, root);
    if (node->op == PAWL_OP_CONST && !pawl_template_has_expression(source, source_bytes, NULL))
        template.flags |= PAWL_TEMPLATE_CONSTANT;
    else if (node->op != PAWL_OP_CONCAT)
        template.flags |= PAWL_TEMPLATE_WHOLE;
    uint32_t index = builder->parts[PAWL_SECTION_TEMPLATES].count;
    struct pawl_plan_template *fresh = pawl_parts_grow(builder, PAWL_SECTION_TEMPLATES, 1);
    if (!fresh)
        return PAWL_E_LIMIT;
    *fresh = template;
    *template_index_out = index;
    maker->count = 0;
    return 0;
}

int pawl_template_compile(struct pawl_plan_builder *builder, const struct pawl_expr_scope *scope,
                          const char *source, size_t source_bytes, uint32_t *template_index_out,
                          struct pawl_expr_diagnostic *diagnostic_out)
{
    struct pawl_template_maker maker;
    pawl_template_maker_init(&maker, builder, scope);
    int error = pawl_template_maker_source(&maker, source, source_bytes, diagnostic_out);
    if (error == 0)
        error = pawl_template_maker_finish(&maker, source, source_bytes, template_index_out);
    if (error < 0)
        builder->spoiled = true;
    pawl_template_maker_fini(&maker);
    return error;
}
