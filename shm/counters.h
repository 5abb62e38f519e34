/*
 * counters.h - what the scheduler counts, in cells that anybody attached can read while it writes.
 *
 * Written by the scheduler alone, with relaxed stores: each cell is exact by itself, two cells need not be of
 * one moment.
 */
#ifndef PAWL_SHM_COUNTERS_H
#define PAWL_SHM_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

/* Append new ones at the end: the numbers are part of the world segment's layout. */
#define PAWL_COUNTER_MAP(X)                                                                                  \
    X(TURNS, "turns of the loop")                                                                            \
    X(TASKS_PLACED, "tasks placed")                                                                          \
    X(TASKS_BEGUN, "tasks begun")                                                                            \
    X(TASKS_SETTLED, "tasks settled")                                                                        \
    X(TASKS_RECALLED, "tasks recalled")                                                                      \
    X(DOORBELLS_RUNG, "sleeping workers woken")                                                              \
    X(JOURNAL_RECORDS, "records appended")                                                                   \
    X(JOURNAL_FRAMES, "frames written")                                                                      \
    X(JOURNAL_BYTES, "bytes written to the journal")                                                         \
    X(WORKERS_LOST, "workers that died")                                                                     \
    X(LANES_CLOSED_BAD, "lanes closed because they did not hold")                                            \
    X(CLIENTS_CLOSED_BAD, "clients closed because they did not hold")

#define PAWL_COUNTER_ENUM(name, text) PAWL_COUNTER_##name,
enum pawl_counter { PAWL_COUNTER_MAP(PAWL_COUNTER_ENUM) PAWL_COUNTERS };
#undef PAWL_COUNTER_ENUM

struct pawl_counters {
    _Atomic uint64_t cell[64];
};

static inline void pawl_counter_add(struct pawl_counters *counters, enum pawl_counter which, uint64_t n)
{
    /* One writer: a load and a store, no locked instruction. */
    uint64_t value = atomic_load_explicit(&counters->cell[which], memory_order_relaxed);
    atomic_store_explicit(&counters->cell[which], value + n, memory_order_relaxed);
}

static inline uint64_t pawl_counter_read(const struct pawl_counters *counters, enum pawl_counter which)
{
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&counters->cell[which], memory_order_relaxed);
}

#endif
