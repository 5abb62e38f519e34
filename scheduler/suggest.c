/*
 * suggest.c - edit distance with swaps, and who is nearest.
 *
 * Runs in clients. Names are short: longer ones than 64 bytes are never suggested for.
 */
#include "scheduler/suggest.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

enum { SUGGEST_BYTES_MAX = 64 };

static unsigned char folded(char c)
{
    return c == '_' ? '-' : (unsigned char)tolower((unsigned char)c);
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Insertions, deletions, replacements and swaps of neighbours (optimal string alignment), in three rows. */
static size_t distance(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    size_t rows[3][SUGGEST_BYTES_MAX + 1];
    for (size_t j = 0; j <= b_bytes; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_bytes; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *twice = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b_bytes; j++) {
            size_t cost = folded(a[i - 1]) != folded(b[j - 1]);
            row[j] = least(least(above[j] + 1, row[j - 1] + 1), above[j - 1] + cost);
            if (i > 1 && j > 1 && folded(a[i - 1]) == folded(b[j - 2]) &&
                folded(a[i - 2]) == folded(b[j - 1]))
                row[j] = least(row[j], twice[j - 2] + 1);
        }
    }
    return rows[a_bytes % 3][b_bytes];
}

void pawl_suggest_init(struct pawl_suggest *suggest, const char *wrong, size_t wrong_bytes)
{
    *suggest = (struct pawl_suggest){.wrong = wrong, .wrong_bytes = wrong_bytes, .best_distance = SIZE_MAX};
}

void pawl_suggest_offer(struct pawl_suggest *suggest, const char *candidate, size_t candidate_bytes)
{
    size_t a = suggest->wrong_bytes, b = candidate_bytes;
    size_t longer = a > b ? a : b, allowed = longer <= 3 ? 1 : longer / 3;
    if (a == 0 || b == 0 || longer > SUGGEST_BYTES_MAX || longer - least(a, b) > allowed)
        return;
    size_t found = distance(suggest->wrong, a, candidate, b);
    if (found <= allowed && found < longer && found < suggest->best_distance) {
        suggest->best = candidate;
        suggest->best_bytes = candidate_bytes;
        suggest->best_distance = found;
    }
}

const char *pawl_suggest_nearest(const char *wrong, const char *const *candidates)
{
    struct pawl_suggest suggest;
    pawl_suggest_init(&suggest, wrong, strlen(wrong));
    for (; *candidates; candidates++)
        pawl_suggest_offer(&suggest, *candidates, strlen(*candidates));
    return suggest.best;
}
