/*
 * expr_lex.c - cutting the text between ${{ and }} into words.
 *
 * Runs in clients, when a file is loaded.
 */
#include "scheduler/expr_lex.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

int pawl_expr_refuse(struct pawl_expr_diagnostic *diagnostic, size_t byte_offset, const char *format, ...)
{
    va_list arguments;
    diagnostic->byte_offset = byte_offset;
    diagnostic->hint[0] = '\0';
    va_start(arguments, format);
    vsnprintf(diagnostic->text, sizeof diagnostic->text, format, arguments);
    va_end(arguments);
    return PAWL_E_INVALID;
}

int pawl_expr_hint(struct pawl_expr_diagnostic *diagnostic, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(diagnostic->hint, sizeof diagnostic->hint, format, arguments);
    va_end(arguments);
    return PAWL_E_INVALID;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char peek(const struct pawl_lexer *lexer, size_t ahead)
{
    return lexer->at + ahead < lexer->length ? lexer->source[lexer->at + ahead] : '\0';
}

static void skip_digits(struct pawl_lexer *lexer)
{
    while (is_digit(peek(lexer, 0)))
        lexer->at++;
}

static int lex_number(struct pawl_lexer *lexer, struct pawl_token *token)
{
    char text[64];
    skip_digits(lexer);
    token->kind = PAWL_TOKEN_INT;
    if (peek(lexer, 0) == '.' && is_digit(peek(lexer, 1))) {
        token->kind = PAWL_TOKEN_DOUBLE;
        lexer->at++;
        skip_digits(lexer);
    }
    if (peek(lexer, 0) == 'e' || peek(lexer, 0) == 'E') {
        size_t sign = peek(lexer, 1) == '+' || peek(lexer, 1) == '-';
        if (is_digit(peek(lexer, 1 + sign))) {
            token->kind = PAWL_TOKEN_DOUBLE;
            lexer->at += 1 + sign;
            skip_digits(lexer);
        }
    }
    size_t length = lexer->at - token->start;
    if (pawl_is_word(peek(lexer, 0)) || length >= sizeof text)
        return pawl_expr_refuse(lexer->diagnostic, token->start, "this is not a number");
    memcpy(text, lexer->source + token->start, length);
    text[length] = '\0';
    errno = 0;
    token->integer = strtoll(text, NULL, 10);
    if (token->kind == PAWL_TOKEN_INT && errno == ERANGE)
        return pawl_expr_refuse(lexer->diagnostic, token->start, "number %s is too large", text);
    token->real = strtod(text, NULL);
    if (!isfinite(token->real))
        return pawl_expr_refuse(lexer->diagnostic, token->start, "number %s is too large", text);
    return 0;
}

static size_t put_utf8(char *to, uint32_t code)
{
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        to[0] = (char)(0xc0 | code >> 6);
        to[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    to[0] = (char)(0xe0 | code >> 12);
    to[1] = (char)(0x80 | (code >> 6 & 0x3f));
    to[2] = (char)(0x80 | (code & 0x3f));
    return 3;
}

/* What stands behind a backslash; lexer->at is on it. Never longer than what it was written as. */
static int lex_escape(struct pawl_lexer *lexer, char *to, size_t *length)
{
    static const char names[] = "nrt\\\"'/", means[] = "\n\r\t\\\"'/";
    char c = peek(lexer, 0);
    const char *known = c ? strchr(names, c) : NULL;
    if (known) {
        to[(*length)++] = means[known - names];
        lexer->at++;
        return 0;
    }
    uint32_t code = 0;
    for (size_t i = 1; c == 'u' && i <= 4; i++) {
        char digit = peek(lexer, i);
        const char *hex = "0123456789abcdef", *found = digit ? strchr(hex, digit | 0x20) : NULL;
        if (!found || (!is_digit(digit) && !pawl_is_word_start(digit)))
            c = '\0';
        else
            code = code * 16 + (uint32_t)(found - hex);
    }
    if (c != 'u' || code == 0 || (code >= 0xd800 && code <= 0xdfff)) {
        pawl_expr_refuse(lexer->diagnostic, lexer->at - 1, "unknown escape in text");
        return pawl_expr_hint(
            lexer->diagnostic,
            "\\n \\r \\t \\\\ \\\" \\' \\/ and \\u0041 are known; 'single quotes' have none");
    }
    *length += put_utf8(to + *length, code);
    lexer->at += 5;
    return 0;
}

/* "with escapes" or 'without', where '' is one quote. */
static int lex_text(struct pawl_lexer *lexer, struct pawl_token *token)
{
    char quote = peek(lexer, 0);
    size_t length = 0;
    lexer->at++;
    if (!lexer->buffer)
        lexer->buffer = pawl_arena_alloc(lexer->arena, lexer->length);
    char *text = lexer->buffer;
    if (!text)
        return PAWL_E_LIMIT;
    token->kind = PAWL_TOKEN_TEXT;
    token->text = text;
    while (lexer->at < lexer->length) {
        char c = lexer->source[lexer->at++];
        if (c == quote && !(quote == '\'' && peek(lexer, 0) == '\'')) {
            token->text_bytes = length;
            return 0;
        }
        if (c == quote)
            lexer->at++;
        if (c == '\\' && quote == '"') {
            int error = lex_escape(lexer, text, &length);
            if (error < 0)
                return error;
            continue;
        }
        text[length++] = c;
    }
    return pawl_expr_refuse(lexer->diagnostic, token->start, "text without a closing %c", quote);
}

static int lex_punctuation(struct pawl_lexer *lexer, struct pawl_token *token)
{
    static const struct {
        char text[3];
        enum pawl_token_kind kind;
    } pairs[] = {{"}}", PAWL_TOKEN_CLOSE},
                 {"==", PAWL_TOKEN_EQ},
                 {"!=", PAWL_TOKEN_NE},
                 {"<=", PAWL_TOKEN_LE},
                 {">=", PAWL_TOKEN_GE}};
    static const char *const habits[][2] = {
        {"&&", "and"}, {"||", "or"}, {"!", "not"}, {"=", "=="}, {"?", "and, or"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (peek(lexer, 0) == pairs[i].text[0] && peek(lexer, 1) == pairs[i].text[1]) {
            token->kind = pairs[i].kind;
            lexer->at += 2;
            return 0;
        }
    char c = peek(lexer, 0);
    if (c && strchr("()[],.<>+-*/%", c)) {
        token->kind = PAWL_TOKEN_CHARACTER;
        token->character = c;
        lexer->at++;
        return 0;
    }
    for (size_t i = 0; i < sizeof habits / sizeof *habits; i++)
        if (c == habits[i][0][0] && (!habits[i][0][1] || peek(lexer, 1) == habits[i][0][1])) {
            pawl_expr_refuse(lexer->diagnostic, lexer->at, "`%s` is no operator", habits[i][0]);
            return pawl_expr_hint(lexer->diagnostic, "write `%s`", habits[i][1]);
        }
    if ((unsigned char)c < 0x20 || (unsigned char)c >= 0x7f)
        return pawl_expr_refuse(lexer->diagnostic, lexer->at, "unexpected character in an expression");
    return pawl_expr_refuse(lexer->diagnostic, lexer->at, "unexpected character `%c` in an expression", c);
}

int pawl_lex_next(struct pawl_lexer *lexer, struct pawl_token *token_out)
{
    while (lexer->at < lexer->length && strchr(" \t\r\n", lexer->source[lexer->at]))
        lexer->at++;
    struct pawl_token token = {.start = lexer->at};
    int error = 0;
    char c = peek(lexer, 0);
    if (lexer->at >= lexer->length)
        error = pawl_expr_refuse(lexer->diagnostic, lexer->at, "expression without a closing }}");
    else if (is_digit(c))
        error = lex_number(lexer, &token);
    else if (c == '"' || c == '\'')
        error = lex_text(lexer, &token);
    else if (pawl_is_word_start(c)) {
        token.kind = PAWL_TOKEN_NAME;
        while (pawl_is_word(peek(lexer, 0)))
            lexer->at++;
    } else
        error = lex_punctuation(lexer, &token);
    token.end = lexer->at;
    *token_out = token;
    return error;
}
