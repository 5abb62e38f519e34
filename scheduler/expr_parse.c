/*
 * expr_parse.c - from words to nodes: operators by precedence, and the types that they take.
 *
 *   or  <  and  <  not  <  == != < <= > >= in (not chained)  <  + -  <  * / %  <  - (of one)  <  .name
 * [index]
 *
 * Runs in clients, when a file is loaded. Names and calls are in expr_name.c.
 */
#include "scheduler/expr_parse.h"

#include <string.h>

#include "shm/error.h"

int pawl_expr_advance(struct pawl_expr_parser *parser)
{
    return pawl_lex_next(&parser->lexer, &parser->token);
}

bool pawl_expr_is_character(const struct pawl_expr_parser *parser, char c)
{
    return parser->token.kind == PAWL_TOKEN_CHARACTER && parser->token.character == c;
}

bool pawl_expr_is_word(const struct pawl_expr_parser *parser, const char *word)
{
    size_t length = parser->token.end - parser->token.start;
    return parser->token.kind == PAWL_TOKEN_NAME && strlen(word) == length &&
           memcmp(parser->lexer.source + parser->token.start, word, length) == 0;
}

static int unexpected(struct pawl_expr_parser *parser, const char *wanted)
{
    if (parser->token.kind == PAWL_TOKEN_CLOSE)
        return pawl_expr_refuse(parser->lexer.diagnostic, parser->token.start, "%s is missing before }}",
                                wanted);
    size_t length = parser->token.end - parser->token.start;
    return pawl_expr_refuse(parser->lexer.diagnostic, parser->token.start, "expected %s, not `%.*s`", wanted,
                            (int)(length > 40 ? 40 : length), parser->lexer.source + parser->token.start);
}

int pawl_expr_expect(struct pawl_expr_parser *parser, char c, const char *after)
{
    char wanted[64] = {'`', c, '`', '\0'};
    strncat(wanted, after, sizeof wanted - 4);
    if (!pawl_expr_is_character(parser, c))
        return unexpected(parser, wanted);
    return pawl_expr_advance(parser);
}

/* ---- nodes ---- */

int pawl_expr_leaf(struct pawl_expr_parser *parser, enum pawl_op op, uint8_t types, uint32_t data,
                   size_t start, struct pawl_operand *operand_out)
{
    uint32_t index = parser->builder->parts[PAWL_SECTION_NODES].count;
    struct pawl_plan_node *node = pawl_parts_grow(parser->builder, PAWL_SECTION_NODES, 1);
    if (!node)
        return PAWL_E_LIMIT;
    uint16_t column = start > UINT16_MAX ? UINT16_MAX : (uint16_t)start;
    *node = (struct pawl_plan_node){(uint8_t)op, types, column, PAWL_PLAN_NONE, PAWL_PLAN_NONE, data};
    *operand_out = (struct pawl_operand){index, types, 1, start, parser->lexer.at};
    return 0;
}

int pawl_expr_constant(struct pawl_expr_parser *parser, const struct pawl_value *value, size_t start,
                       struct pawl_operand *operand_out)
{
    uint32_t index;
    int error = pawl_plan_add_value(parser->builder, value, &index);
    if (error < 0)
        return error;
    return pawl_expr_leaf(parser, PAWL_OP_CONST, (uint8_t)(1u << value->kind), index, start, operand_out);
}

/* "text", or "text or null": for a message. */
static const char *types_text(uint8_t types, char *buffer, size_t size)
{
    buffer[0] = '\0';
    for (int kind = 0; kind <= PAWL_VALUE_MAP; kind++) {
        if (!(types & 1u << kind))
            continue;
        if (buffer[0])
            strncat(buffer, " or ", size - strlen(buffer) - 1);
        strncat(buffer, pawl_value_kind_name((enum pawl_value_kind)kind), size - strlen(buffer) - 1);
    }
    return buffer;
}

static int wrong_type(struct pawl_expr_parser *parser, const char *operation, bool function, uint8_t takes,
                      const struct pawl_operand *operand)
{
    char want[64], have[64];
    size_t length = operand->end - operand->start;
    while (length > 0 && strchr(" \t\n", parser->lexer.source[operand->start + length - 1]))
        length--;
    return pawl_expr_refuse(parser->lexer.diagnostic, operand->start, "`%s%s` takes %s, but `%.*s` is %s",
                            operation, function ? "()" : "", types_text(takes, want, sizeof want),
                            (int)(length > 60 ? 60 : length), parser->lexer.source + operand->start,
                            types_text(operand->types, have, sizeof have));
}

/* Rules that the table of operations cannot say; may narrow what the node gives. */
static int check_types(struct pawl_expr_parser *parser, enum pawl_op op, const struct pawl_operand *at,
                       uint32_t count, uint8_t *gives)
{
    const char *name = pawl_op_shape(op)->name;
    uint8_t first = at[0].types, second = count > 1 ? at[1].types : 0;
    bool numbers =
        first & second & PAWL_TYPE_NUMBER || (first & PAWL_TYPE_NUMBER && second & PAWL_TYPE_NUMBER);
    bool texts = first & second & PAWL_TYPE_TEXT;
    if ((op == PAWL_OP_EQ || op == PAWL_OP_NE) && !numbers && !(first & second) && first != PAWL_TYPE_NULL &&
        second != PAWL_TYPE_NULL) {
        char a[64], b[64];
        return pawl_expr_refuse(parser->lexer.diagnostic, at[0].start,
                                "`%s` compares %s with %s, which never are equal", name,
                                types_text(first, a, sizeof a), types_text(second, b, sizeof b));
    }
    if ((op == PAWL_OP_ADD || (op >= PAWL_OP_LT && op <= PAWL_OP_GE)) && !numbers && !texts) {
        int error = wrong_type(parser, name, false, first & (PAWL_TYPE_NUMBER | PAWL_TYPE_TEXT), &at[1]);
        if (op == PAWL_OP_ADD)
            pawl_expr_hint(parser->lexer.diagnostic,
                           "text and values are put together outside: \"a${{ x }}b\"");
        return error;
    }
    if (op == PAWL_OP_ADD)
        *gives = (uint8_t)((numbers ? PAWL_TYPE_NUMBER : 0) | (texts ? PAWL_TYPE_TEXT : 0));
    if (op == PAWL_OP_AND || op == PAWL_OP_OR)
        *gives = first | second;
    if (op == PAWL_OP_DEFAULT)
        *gives = (uint8_t)((first & ~PAWL_TYPE_NULL) | second);
    if (op == PAWL_OP_JSON && !(first & PAWL_TYPE_TEXT))
        *gives = PAWL_TYPE_TEXT;
    uint8_t holds = PAWL_TYPE_LIST | PAWL_TYPE_MAP | PAWL_TYPE_TEXT;
    if ((op == PAWL_OP_IN || op == PAWL_OP_NOT_IN) && !(second & holds))
        return wrong_type(parser, name, false, holds, &at[1]);
    if (op == PAWL_OP_GET && !(first & (PAWL_TYPE_LIST | PAWL_TYPE_MAP)))
        return wrong_type(parser, "[]", false, PAWL_TYPE_LIST | PAWL_TYPE_MAP, &at[0]);
    if (op == PAWL_OP_GET && !(second & (PAWL_TYPE_INT | PAWL_TYPE_TEXT)))
        return wrong_type(parser, "[]", false, PAWL_TYPE_INT | PAWL_TYPE_TEXT, &at[1]);
    if (op == PAWL_OP_JOIN && !(first & PAWL_TYPE_LIST))
        return wrong_type(parser, name, true, PAWL_TYPE_LIST, &at[0]);
    if (op == PAWL_OP_JOIN && count > 1 && !(second & PAWL_TYPE_TEXT))
        return wrong_type(parser, name, true, PAWL_TYPE_TEXT, &at[1]);
    return 0;
}

int pawl_expr_node(struct pawl_expr_parser *parser, enum pawl_op op, const struct pawl_operand *children,
                   uint32_t count, size_t start, struct pawl_operand *operand_out)
{
    const struct pawl_op_shape *shape = pawl_op_shape(op);
    uint8_t depth = 0, gives = shape->gives;
    for (uint32_t i = 0; i < count; i++) {
        if (!(children[i].types & shape->takes))
            return wrong_type(parser, shape->name, shape->is_function, shape->takes, &children[i]);
        depth = children[i].depth > depth ? children[i].depth : depth;
    }
    if (depth >= PAWL_EXPR_DEPTH_MAX)
        return pawl_expr_refuse(parser->lexer.diagnostic, start, "expression is nested deeper than %d",
                                PAWL_EXPR_DEPTH_MAX);
    struct pawl_operand made; /* callers may pass one of the children as the result */
    int error = count > 0 ? check_types(parser, op, children, count, &gives) : 0;
    if (error == 0)
        error = pawl_expr_leaf(parser, op, gives, 0, start, &made);
    if (error < 0)
        return error;
    struct pawl_plan_node *nodes = parser->builder->parts[PAWL_SECTION_NODES].data;
    if (count > 0)
        nodes[made.node].child = children[0].node;
    for (uint32_t i = 1; i < count; i++)
        nodes[children[i - 1].node].next = children[i].node;
    made.depth = depth + 1;
    made.end = parser->token.start;
    *operand_out = made;
    return 0;
}

/* ---- primaries ---- */

enum { ELEMENTS_MAX = 4096 };

static int parse_list(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    size_t start = parser->token.start;
    uint32_t first = PAWL_PLAN_NONE, last = PAWL_PLAN_NONE, count = 0;
    uint8_t depth = 0;
    struct pawl_operand element;
    int error = pawl_expr_advance(parser);
    while (error == 0 && !pawl_expr_is_character(parser, ']')) {
        error = pawl_expr_expression(parser, &element);
        if (error < 0)
            return error;
        if (++count > ELEMENTS_MAX)
            return pawl_expr_refuse(parser->lexer.diagnostic, start, "list of more than %d elements",
                                    ELEMENTS_MAX);
        struct pawl_plan_node *nodes = parser->builder->parts[PAWL_SECTION_NODES].data;
        if (last == PAWL_PLAN_NONE)
            first = element.node;
        else
            nodes[last].next = element.node;
        last = element.node;
        depth = element.depth > depth ? element.depth : depth;
        if (!pawl_expr_is_character(parser, ','))
            break;
        error = pawl_expr_advance(parser);
    }
    if (error == 0)
        error = pawl_expr_expect(parser, ']', " to end the list");
    if (error == 0 && depth >= PAWL_EXPR_DEPTH_MAX)
        error = pawl_expr_refuse(parser->lexer.diagnostic, start, "expression is nested deeper than %d",
                                 PAWL_EXPR_DEPTH_MAX);
    if (error == 0)
        error = pawl_expr_leaf(parser, PAWL_OP_LIST, PAWL_TYPE_LIST, 0, start, operand_out);
    if (error < 0)
        return error;
    ((struct pawl_plan_node *)parser->builder->parts[PAWL_SECTION_NODES].data)[operand_out->node].child =
        first;
    operand_out->depth = depth + 1;
    operand_out->end = parser->token.start;
    return 0;
}

static int parse_literal(struct pawl_expr_parser *parser, const struct pawl_value *value,
                         struct pawl_operand *operand_out)
{
    size_t end = parser->token.end;
    int error = pawl_expr_constant(parser, value, parser->token.start, operand_out);
    if (error == 0)
        error = pawl_expr_advance(parser);
    operand_out->end = end;
    return error;
}

static int parse_primary(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    struct pawl_value value = pawl_value_null();
    bool literal = true;
    if (parser->token.kind == PAWL_TOKEN_INT)
        value = pawl_value_int(parser->token.integer);
    else if (parser->token.kind == PAWL_TOKEN_DOUBLE)
        value = pawl_value_double(parser->token.real);
    else if (parser->token.kind == PAWL_TOKEN_TEXT)
        value = pawl_value_bytes(parser->token.text, parser->token.text_bytes);
    else if (pawl_expr_is_word(parser, "true") || pawl_expr_is_word(parser, "false"))
        value = pawl_value_bool(pawl_expr_is_word(parser, "true"));
    else if (!pawl_expr_is_word(parser, "null"))
        literal = false;
    if (literal)
        return parse_literal(parser, &value, operand_out);
    if (pawl_expr_is_character(parser, '(')) {
        size_t start = parser->token.start;
        int error = pawl_expr_advance(parser);
        if (error == 0)
            error = pawl_expr_expression(parser, operand_out);
        if (error == 0)
            error = pawl_expr_expect(parser, ')', "");
        operand_out->start = start;
        operand_out->end = parser->token.start;
        return error;
    }
    if (pawl_expr_is_character(parser, '['))
        return parse_list(parser, operand_out);
    bool keyword = pawl_expr_is_word(parser, "and") || pawl_expr_is_word(parser, "or") ||
                   pawl_expr_is_word(parser, "in") || pawl_expr_is_word(parser, "not");
    if (parser->token.kind == PAWL_TOKEN_NAME && !keyword)
        return pawl_expr_name(parser, operand_out);
    return unexpected(parser, "a value");
}

/* .name and [index], as often as they come. */
static int parse_postfix(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    struct pawl_operand pair[2];
    int error = parse_primary(parser, &pair[0]);
    while (error == 0 && (pawl_expr_is_character(parser, '.') || pawl_expr_is_character(parser, '['))) {
        bool member = pawl_expr_is_character(parser, '.');
        error = pawl_expr_advance(parser);
        if (error < 0)
            return error;
        if (member && parser->token.kind != PAWL_TOKEN_NAME)
            return unexpected(parser, "a name after `.`");
        if (member) {
            struct pawl_value key = pawl_value_bytes(parser->lexer.source + parser->token.start,
                                                     parser->token.end - parser->token.start);
            error = parse_literal(parser, &key, &pair[1]);
        } else {
            error = pawl_expr_expression(parser, &pair[1]);
            if (error == 0)
                error = pawl_expr_expect(parser, ']', " after the index");
        }
        if (error == 0)
            error = pawl_expr_node(parser, PAWL_OP_GET, pair, 2, pair[0].start, &pair[0]);
    }
    *operand_out = pair[0];
    return error;
}

/* ---- operators ---- */

struct operator_of {
    const char *word;
    enum pawl_token_kind kind;
    char character;
    enum pawl_op op;
};

static const struct operator_of additive[] = {{NULL, PAWL_TOKEN_CHARACTER, '+', PAWL_OP_ADD},
                                              {NULL, PAWL_TOKEN_CHARACTER, '-', PAWL_OP_SUB}};
static const struct operator_of multiplicative[] = {{NULL, PAWL_TOKEN_CHARACTER, '*', PAWL_OP_MUL},
                                                    {NULL, PAWL_TOKEN_CHARACTER, '/', PAWL_OP_DIV},
                                                    {NULL, PAWL_TOKEN_CHARACTER, '%', PAWL_OP_MOD}};
static const struct operator_of comparing[] = {
    {NULL, PAWL_TOKEN_EQ, 0, PAWL_OP_EQ},          {NULL, PAWL_TOKEN_NE, 0, PAWL_OP_NE},
    {NULL, PAWL_TOKEN_LE, 0, PAWL_OP_LE},          {NULL, PAWL_TOKEN_GE, 0, PAWL_OP_GE},
    {NULL, PAWL_TOKEN_CHARACTER, '<', PAWL_OP_LT}, {NULL, PAWL_TOKEN_CHARACTER, '>', PAWL_OP_GT},
    {"in", PAWL_TOKEN_NAME, 0, PAWL_OP_IN},        {"not", PAWL_TOKEN_NAME, 0, PAWL_OP_NOT_IN}};
static const struct operator_of both[] = {{"and", PAWL_TOKEN_NAME, 0, PAWL_OP_AND}};
static const struct operator_of either[] = {{"or", PAWL_TOKEN_NAME, 0, PAWL_OP_OR}};

static const struct operator_of *operator_at(const struct pawl_expr_parser *parser,
                                             const struct operator_of *table, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (parser->token.kind == table[i].kind &&
            (table[i].word ? pawl_expr_is_word(parser, table[i].word)
                           : table[i].character == 0 || parser->token.character == table[i].character))
            return &table[i];
    return NULL;
}

typedef int (*parse_function)(struct pawl_expr_parser *parser, struct pawl_operand *operand_out);

static int parse_left(struct pawl_expr_parser *parser, const struct operator_of *table, size_t count,
                      parse_function tighter, struct pawl_operand *operand_out)
{
    struct pawl_operand pair[2];
    const struct operator_of *found;
    int error = tighter(parser, &pair[0]);
    while (error == 0 && (found = operator_at(parser, table, count))) {
        error = pawl_expr_advance(parser);
        if (error == 0)
            error = tighter(parser, &pair[1]);
        if (error == 0)
            error = pawl_expr_node(parser, found->op, pair, 2, pair[0].start, &pair[0]);
    }
    *operand_out = pair[0];
    return error;
}

static int parse_unary(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    size_t start = parser->token.start, minuses = 0;
    int error = 0;
    for (; error == 0 && pawl_expr_is_character(parser, '-'); minuses++)
        error = pawl_expr_advance(parser);
    if (error == 0)
        error = parse_postfix(parser, operand_out);
    for (; error == 0 && minuses > 0; minuses--) {
        struct pawl_operand inner = *operand_out;
        error = pawl_expr_node(parser, PAWL_OP_NEGATE, &inner, 1, start, operand_out);
    }
    return error;
}

static int parse_product(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    return parse_left(parser, multiplicative, 3, parse_unary, operand_out);
}

static int parse_sum(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    return parse_left(parser, additive, 2, parse_product, operand_out);
}

static int parse_comparison(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    const size_t count = sizeof comparing / sizeof *comparing;
    struct pawl_operand pair[2];
    int error = parse_sum(parser, &pair[0]);
    const struct operator_of *found = error == 0 ? operator_at(parser, comparing, count) : NULL;
    if (!found) {
        *operand_out = pair[0];
        return error;
    }
    error = pawl_expr_advance(parser);
    if (error == 0 && found->op == PAWL_OP_NOT_IN) {
        if (!pawl_expr_is_word(parser, "in"))
            return unexpected(parser, "`in` after `not`");
        error = pawl_expr_advance(parser);
    }
    if (error == 0)
        error = parse_sum(parser, &pair[1]);
    if (error == 0)
        error = pawl_expr_node(parser, found->op, pair, 2, pair[0].start, operand_out);
    if (error == 0 && operator_at(parser, comparing, count)) {
        pawl_expr_refuse(parser->lexer.diagnostic, parser->token.start, "comparisons do not chain");
        return pawl_expr_hint(parser->lexer.diagnostic, "write `a < b and b < c`");
    }
    return error;
}

static int parse_not(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    size_t start = parser->token.start, nots = 0;
    int error = 0;
    for (; error == 0 && pawl_expr_is_word(parser, "not"); nots++)
        error = pawl_expr_advance(parser);
    if (error == 0)
        error = parse_comparison(parser, operand_out);
    for (; error == 0 && nots > 0; nots--) {
        struct pawl_operand inner = *operand_out;
        error = pawl_expr_node(parser, PAWL_OP_NOT, &inner, 1, start, operand_out);
    }
    return error;
}

static int parse_and(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    return parse_left(parser, both, 1, parse_not, operand_out);
}

int pawl_expr_expression(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    if (++parser->nesting > PAWL_EXPR_DEPTH_MAX)
        return pawl_expr_refuse(parser->lexer.diagnostic, parser->token.start,
                                "expression is nested deeper than %d", PAWL_EXPR_DEPTH_MAX);
    int error = parse_left(parser, either, 1, parse_and, operand_out);
    parser->nesting--;
    return error;
}

int pawl_expr_parse(struct pawl_expr_parser *parser, struct pawl_operand *operand_out)
{
    int error = pawl_expr_advance(parser);
    if (error == 0 && parser->token.kind == PAWL_TOKEN_CLOSE)
        return pawl_expr_refuse(parser->lexer.diagnostic, parser->token.start, "empty expression");
    if (error == 0)
        error = pawl_expr_expression(parser, operand_out);
    if (error == 0 && parser->token.kind != PAWL_TOKEN_CLOSE)
        return unexpected(parser, "an operator or }}");
    return error;
}
