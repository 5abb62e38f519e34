/*
 * expr_lex.h - the words of an expression. For expr_*.c alone.
 */
#ifndef PAWL_SCHEDULER_EXPR_LEX_H
#define PAWL_SCHEDULER_EXPR_LEX_H

#include "scheduler/expr.h"

enum pawl_token_kind {
    PAWL_TOKEN_CLOSE = 1, /* }} */
    PAWL_TOKEN_INT,
    PAWL_TOKEN_DOUBLE,
    PAWL_TOKEN_TEXT,
    PAWL_TOKEN_NAME, /* keywords too */
    PAWL_TOKEN_EQ,
    PAWL_TOKEN_NE,
    PAWL_TOKEN_LE,
    PAWL_TOKEN_GE,
    PAWL_TOKEN_CHARACTER /* ( ) [ ] , . < > + - * / % : in .character */
};

struct pawl_token {
    enum pawl_token_kind kind;
    char character;
    size_t start, end; /* bytes of the source */
    int64_t integer;
    double real;
    const char *text; /* TEXT: unescaped; gone with the next word */
    size_t text_bytes;
};

struct pawl_lexer {
    const char *source;
    size_t length;
    size_t at;
    struct pawl_arena *arena;
    char *buffer; /* for the text at hand; made when first needed */
    struct pawl_expr_diagnostic *diagnostic;
};

/** pawl_lex_next - the next word. Return: 0; PAWL_E_INVALID with a diagnostic; PAWL_E_LIMIT (arena). */
int pawl_lex_next(struct pawl_lexer *lexer, struct pawl_token *token_out);

/** pawl_expr_refuse - write a diagnostic; returns PAWL_E_INVALID. The hint is emptied. */
__attribute__((format(printf, 3, 4))) int pawl_expr_refuse(struct pawl_expr_diagnostic *diagnostic,
                                                           size_t byte_offset, const char *format, ...);

/** pawl_expr_hint - add a hint to the diagnostic; returns PAWL_E_INVALID. */
__attribute__((format(printf, 2, 3))) int pawl_expr_hint(struct pawl_expr_diagnostic *diagnostic,
                                                         const char *format, ...);

static inline bool pawl_is_word_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static inline bool pawl_is_word(char c)
{
    return pawl_is_word_start(c) || (c >= '0' && c <= '9');
}

#endif
