/*
 * ready.c - a binary heap of steps that have something to place. Runs in: scheduler.
 */
#include "scheduler/ready.h"

#include <errno.h>
#include <stdlib.h>

static bool goes_before(const struct pawl_ready_entry *a, const struct pawl_ready_entry *b)
{
    if (a->priority != b->priority)
        return a->priority > b->priority;
    if (a->run != b->run)
        return a->run < b->run;
    return a->position < b->position;
}

int pawl_ready_add(struct pawl_ready *ready, struct pawl_ready_entry entry)
{
    if (ready->count == ready->capacity) {
        size_t capacity = ready->capacity ? ready->capacity * 2 : 16;
        struct pawl_ready_entry *heap = realloc(ready->heap, capacity * sizeof *heap);
        if (!heap)
            return -ENOMEM;
        ready->heap = heap;
        ready->capacity = capacity;
    }
    size_t at = ready->count++;
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (!goes_before(&entry, &ready->heap[parent]))
            break;
        ready->heap[at] = ready->heap[parent];
        at = parent;
    }
    ready->heap[at] = entry;
    return 0;
}

const struct pawl_ready_entry *pawl_ready_top(const struct pawl_ready *ready)
{
    return ready->count ? &ready->heap[0] : NULL;
}

void pawl_ready_pop(struct pawl_ready *ready)
{
    struct pawl_ready_entry last = ready->heap[--ready->count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= ready->count)
            break;
        if (child + 1 < ready->count && goes_before(&ready->heap[child + 1], &ready->heap[child]))
            child++;
        if (!goes_before(&ready->heap[child], &last))
            break;
        ready->heap[at] = ready->heap[child];
        at = child;
    }
    if (ready->count > 0)
        ready->heap[at] = last;
}

void pawl_ready_free(struct pawl_ready *ready)
{
    free(ready->heap);
    *ready = (struct pawl_ready){0};
}
