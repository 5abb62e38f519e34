/*
 * plan_parts.h - the inside of a plan builder. For plan_builder.c, plan_finish.c, plan_bind.c and expr_*.c
 * alone.
 */
#ifndef PAWL_SCHEDULER_PLAN_PARTS_H
#define PAWL_SCHEDULER_PLAN_PARTS_H

#include "scheduler/plan_builder.h"
#include "scheduler/plan_format.h"

/* One section, growing. */
struct pawl_part {
    void *data;
    uint32_t count, capacity; /* entries */
};

struct pawl_name_slot {
    uint32_t hash;
    uint32_t value; /* 0: free; else what is looked up, plus one */
    struct pawl_plan_string name;
};

struct pawl_name_table {
    struct pawl_name_slot *slots;
    uint32_t count, capacity; /* capacity: a power of two, at least half of it free */
};

struct pawl_plan_builder {
    struct pawl_part parts[PAWL_SECTION_COUNT]; /* ORDER and BY_NAME are made by finish */
    struct pawl_plan_string name, source;
    struct pawl_plan_run env; /* the workflow's */
    struct pawl_name_table strings, steps, params;
    bool spoiled; /* a template was refused: its nodes lie about, so finish refuses too */
};

/** pawl_parts_grow - @count zeroed entries at the end of a section; NULL: out of memory, or of
 * PAWL_PLAN_BYTES_MAX. */
void *pawl_parts_grow(struct pawl_plan_builder *builder, enum pawl_plan_section_id id, uint32_t count);

static inline void *pawl_parts_at(const struct pawl_plan_builder *builder, enum pawl_plan_section_id id,
                                  uint32_t index)
{
    assert(index < builder->parts[id].count);
    return (char *)builder->parts[id].data + (size_t)index * pawl_plan_entry_bytes(id);
}

/** pawl_parts_find - the index under a name in builder->steps or ->params; PAWL_PLAN_NONE. */
uint32_t pawl_parts_find(const struct pawl_plan_builder *builder, const struct pawl_name_table *table,
                         const char *name, size_t length);

#endif
