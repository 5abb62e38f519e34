/*
 * ready.h - steps of a batch that have something to place: a heap by priority, then run, then place in the
 * graph.
 */
#ifndef PAWL_SCHEDULER_READY_H
#define PAWL_SCHEDULER_READY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pawl_ready_entry {
    int32_t priority; /* higher first */
    uint32_t position;
    uint64_t run; /* lower first */
    uint32_t step;
};

struct pawl_ready {
    struct pawl_ready_entry *heap;
    size_t count, capacity;
};

int pawl_ready_add(struct pawl_ready *ready, struct pawl_ready_entry entry);   /* 0 or -ENOMEM */
const struct pawl_ready_entry *pawl_ready_top(const struct pawl_ready *ready); /* NULL: none */
void pawl_ready_pop(struct pawl_ready *ready);
void pawl_ready_free(struct pawl_ready *ready);

#endif
