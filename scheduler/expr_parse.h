/*
 * expr_parse.h - the state of one expression being compiled. For expr_*.c alone.
 */
#ifndef PAWL_SCHEDULER_EXPR_PARSE_H
#define PAWL_SCHEDULER_EXPR_PARSE_H

#include "scheduler/expr_lex.h"
#include "scheduler/plan_parts.h"

struct pawl_expr_parser {
    struct pawl_plan_builder *builder;
    const struct pawl_expr_scope *scope;
    struct pawl_lexer lexer;
    struct pawl_token token; /* the word at hand */
    uint32_t nesting;
};

/* A parsed piece: its node, and where it stands, for messages. */
struct pawl_operand {
    uint32_t node;
    uint8_t types;
    uint8_t depth;
    size_t start, end;
};

/** pawl_expr_parse - one expression and its }}; the lexer stands behind them then. */
int pawl_expr_parse(struct pawl_expr_parser *parser, struct pawl_operand *operand_out);

/** pawl_expr_advance - take the next word. */
int pawl_expr_advance(struct pawl_expr_parser *parser);

/** pawl_expr_expression - parse an expression up to a word that cannot belong to it. */
int pawl_expr_expression(struct pawl_expr_parser *parser, struct pawl_operand *operand_out);

/** pawl_expr_name - parse what begins with a name that is no keyword: a path's root or a call. */
int pawl_expr_name(struct pawl_expr_parser *parser, struct pawl_operand *operand_out);

/** pawl_expr_leaf - add a node without children. */
int pawl_expr_leaf(struct pawl_expr_parser *parser, enum pawl_op op, uint8_t types, uint32_t data,
                   size_t start, struct pawl_operand *operand_out);

/** pawl_expr_constant - add a node for a constant. */
int pawl_expr_constant(struct pawl_expr_parser *parser, const struct pawl_value *value, size_t start,
                       struct pawl_operand *operand_out);

/** pawl_expr_node - add a node over children, which are linked; checks the types that the operation takes. */
int pawl_expr_node(struct pawl_expr_parser *parser, enum pawl_op op, const struct pawl_operand *children,
                   uint32_t count, size_t start, struct pawl_operand *operand_out);

bool pawl_expr_is_character(const struct pawl_expr_parser *parser, char c);
bool pawl_expr_is_word(const struct pawl_expr_parser *parser, const char *word);

/** pawl_expr_expect - take a character or say that it is missing. */
int pawl_expr_expect(struct pawl_expr_parser *parser, char c, const char *after);

#endif
