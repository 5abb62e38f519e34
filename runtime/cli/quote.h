/*
 * quote.h - words that sh reads back unchanged.
 */
#ifndef PAWL_RUNTIME_CLI_QUOTE_H
#define PAWL_RUNTIME_CLI_QUOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/** pawl_quote_is_plain - does the word mean itself in sh, without quotes? */
bool pawl_quote_is_plain(const char *word, size_t n);

/** pawl_quote_shell - the word, in quotes unless it is plain. */
void pawl_quote_shell(FILE *stream, const char *word, size_t n);

/** pawl_quote_command - a whole command that sh reads back word for word; no newline. */
void pawl_quote_command(FILE *stream, const char *const *argv, size_t argc);

#endif
