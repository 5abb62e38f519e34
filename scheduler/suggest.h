/*
 * suggest.h - the nearest right name for a wrong one (verbs, flags, keys, parameters, steps).
 *
 * In scheduler/ because the compiler of expressions suggests too; runtime/suggest.h leads here.
 */
#ifndef PAWL_SCHEDULER_SUGGEST_H
#define PAWL_SCHEDULER_SUGGEST_H

#include <stddef.h>

/* Keeps the best of the candidates that it is offered. */
struct pawl_suggest {
    const char *wrong;
    size_t wrong_bytes;
    const char *best; /* borrowed from the candidate; NULL while none is near enough */
    size_t best_bytes;
    size_t best_distance;
};

void pawl_suggest_init(struct pawl_suggest *suggest, const char *wrong, size_t wrong_bytes);
void pawl_suggest_offer(struct pawl_suggest *suggest, const char *candidate, size_t candidate_bytes);

/**
 * pawl_suggest_nearest - the nearest of a NULL-terminated array, by edits (a swap of neighbours is one)
 * without regard to case
 *
 * Return: one of @candidates; NULL if none is within a third of its length (one edit for short ones).
 */
const char *pawl_suggest_nearest(const char *wrong, const char *const *candidates);

#endif
