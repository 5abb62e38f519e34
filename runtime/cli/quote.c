/*
 * quote.c - words that sh reads back unchanged.
 *
 * Runs in: the command. Writes to the stream that it is given, nothing else.
 */
#include "runtime/cli/quote.h"

#include <string.h>

bool pawl_quote_is_plain(const char *word, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = word[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (c == '\0' || strchr("_-./:,+@%=^", c) == NULL))
            return false;
    }
    return n != 0;
}

void pawl_quote_shell(FILE *stream, const char *word, size_t n)
{
    if (pawl_quote_is_plain(word, n)) {
        fwrite(word, 1, n, stream);
        return;
    }
    fputc('\'', stream);
    for (size_t i = 0; i < n; i++) {
        if (word[i] == '\'')
            fputs("'\\''", stream);
        else
            fputc(word[i], stream);
    }
    fputc('\'', stream);
}

void pawl_quote_command(FILE *stream, const char *const *argv, size_t argc)
{
    for (size_t i = 0; i < argc; i++) {
        size_t n = strlen(argv[i]);
        if (i != 0)
            fputc(' ', stream);
        if (i == 0 && pawl_quote_is_plain(argv[0], n) && strchr(argv[0], '=') != NULL)
            fprintf(stream, "'%s'", argv[0]); /* unquoted, NAME=value in front would be an assignment */
        else
            pawl_quote_shell(stream, argv[i], n);
    }
}
