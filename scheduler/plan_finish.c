/*
 * plan_finish.c - from collected parts to a blob: order, dependents, names, layout, hashes, checksum.
 *
 * Runs in clients only. The result goes through the same check as a stranger's blob would.
 */
#include "scheduler/plan_builder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/plan_parts.h"
#include "shm/error.h"

struct finish {
    struct pawl_plan_builder *builder;
    struct pawl_plan_step *steps;
    uint32_t count;
    uint32_t *order, *by_name, *edges;
    uint32_t edge_count;
};

/* ---- order: depth first along the needs, in the order of the file; a path that meets itself is a cycle ----
 */

struct walk {
    uint32_t *path;   /* steps that are being entered, outermost first */
    uint32_t *cursor; /* by step: which of its needs is next */
    uint8_t *colour;  /* by step: 0 new, 1 on the path, 2 in the order */
    uint32_t depth;
    uint32_t done;
};

static void tell_cycle(const struct walk *walk, uint32_t met, uint32_t *cycle_out, uint32_t *cycle_count)
{
    if (!cycle_count)
        return;
    uint32_t from = walk->depth, room = *cycle_count;
    while (walk->path[from - 1] != met)
        from--;
    uint32_t length = walk->depth - from + 1;
    *cycle_count = length < room ? length : room;
    for (uint32_t i = 0; i < *cycle_count; i++)
        cycle_out[i] = walk->path[from - 1 + i];
}

static int walk_from(struct finish *finish, struct walk *walk, uint32_t start, uint32_t *cycle_out,
                     uint32_t *cycle_count)
{
    const uint32_t *edges = finish->builder->parts[PAWL_SECTION_EDGES].data;
    walk->path[walk->depth++] = start;
    walk->colour[start] = 1;
    while (walk->depth > 0) {
        uint32_t at = walk->path[walk->depth - 1];
        struct pawl_plan_step *step = &finish->steps[at];
        if (walk->cursor[at] == step->needs.count) {
            walk->colour[at] = 2;
            step->topological_position = walk->done;
            finish->order[walk->done++] = at;
            walk->depth--;
            continue;
        }
        uint32_t need = edges[step->needs.first + walk->cursor[at]++];
        if (walk->colour[need] == 1) {
            tell_cycle(walk, need, cycle_out, cycle_count);
            return PAWL_E_INVALID;
        }
        if (walk->colour[need] == 0) {
            walk->path[walk->depth++] = need;
            walk->colour[need] = 1;
        }
    }
    return 0;
}

static int order_steps(struct finish *finish, uint32_t *cycle_out, uint32_t *cycle_count)
{
    struct walk walk = {0};
    int error = -ENOMEM;
    walk.path = calloc((size_t)finish->count + 1, sizeof(uint32_t));
    walk.cursor = calloc((size_t)finish->count + 1, sizeof(uint32_t));
    walk.colour = calloc((size_t)finish->count + 1, 1);
    if (walk.path && walk.cursor && walk.colour)
        error = 0;
    for (uint32_t i = 0; i < finish->count && error == 0; i++)
        if (walk.colour[i] == 0)
            error = walk_from(finish, &walk, i, cycle_out, cycle_count);
    if (error == 0 && cycle_count)
        *cycle_count = 0;
    free(walk.path);
    free(walk.cursor);
    free(walk.colour);
    return error;
}

/* ---- edges: the needs in the order of the steps, then their inverse ---- */

static int lay_edges(struct finish *finish)
{
    const uint32_t *given = finish->builder->parts[PAWL_SECTION_EDGES].data;
    uint64_t needs_count = 0;
    for (uint32_t i = 0; i < finish->count; i++)
        needs_count += finish->steps[i].needs.count;
    if (needs_count > PAWL_PLAN_BYTES_MAX / 16)
        return PAWL_E_LIMIT;
    finish->edge_count = (uint32_t)needs_count * 2;
    finish->edges = malloc(((size_t)finish->edge_count + 1) * sizeof(uint32_t));
    if (!finish->edges)
        return -ENOMEM;
    uint32_t next = 0;
    for (uint32_t i = 0; i < finish->count; i++) {
        struct pawl_plan_run *needs = &finish->steps[i].needs;
        for (uint32_t n = 0; n < needs->count; n++) {
            finish->edges[next + n] = given[needs->first + n];
            finish->steps[given[needs->first + n]].dependents.count++;
        }
        needs->first = next;
        next += needs->count;
    }
    for (uint32_t i = 0; i < finish->count; i++) {
        finish->steps[i].dependents.first = next;
        next += finish->steps[i].dependents.count;
        finish->steps[i].dependents.count = 0; /* counts up again below */
    }
    for (uint32_t i = 0; i < finish->count; i++) {
        const struct pawl_plan_step *step = &finish->steps[i];
        for (uint32_t n = 0; n < step->needs.count; n++) {
            struct pawl_plan_run *dependents =
                &finish->steps[finish->edges[step->needs.first + n]].dependents;
            finish->edges[dependents->first + dependents->count++] = i;
        }
    }
    return 0;
}

/* ---- names ---- */

static int by_name(const void *a, const void *b, void *context)
{
    const struct finish *finish = context;
    const char *strings = finish->builder->parts[PAWL_SECTION_STRINGS].data;
    struct pawl_plan_string x = finish->steps[*(const uint32_t *)a].name;
    struct pawl_plan_string y = finish->steps[*(const uint32_t *)b].name;
    return strcmp(strings + x.byte_offset, strings + y.byte_offset);
}

/* ---- layout ---- */

struct layout {
    char *blob;
    uint64_t at;
};

static void put_section(struct layout *layout, enum pawl_plan_section_id id, const void *data, uint32_t count)
{
    struct pawl_plan_header *header = (struct pawl_plan_header *)layout->blob;
    size_t bytes = count * pawl_plan_entry_bytes(id);
    header->sections[id] = (struct pawl_plan_section){(uint32_t)layout->at, count};
    if (bytes)
        memcpy(layout->blob + layout->at, data, bytes);
    layout->at += (bytes + 7) & ~(size_t)7;
}

/* One kind of run, copied in the order of the steps, so that it tiles its section. */
static void put_runs(struct layout *layout, struct finish *finish, enum pawl_plan_section_id id,
                     size_t run_offset, size_t second_run_offset, struct pawl_plan_run *leading)
{
    struct pawl_plan_header *header = (struct pawl_plan_header *)layout->blob;
    size_t entry = pawl_plan_entry_bytes(id);
    const char *given = finish->builder->parts[id].data;
    uint32_t next = 0;
    header->sections[id].byte_offset = (uint32_t)layout->at;
    for (uint64_t i = 0; i <= 2 * (uint64_t)finish->count; i++) {
        bool second = i > 0 && i % 2 == 0;
        if (second && second_run_offset == run_offset)
            continue;
        char *step = i > 0 ? (char *)&finish->steps[(i - 1) / 2] : NULL;
        struct pawl_plan_run *run =
            step ? (struct pawl_plan_run *)(step + (second ? second_run_offset : run_offset)) : leading;
        if (!run)
            continue;
        if (run->count)
            memcpy(layout->blob + layout->at + next * entry, given + run->first * entry, run->count * entry);
        run->first = next;
        next += run->count;
    }
    header->sections[id].count = next;
    layout->at += (next * entry + 7) & ~(size_t)7;
}

#define RUN(member) offsetof(struct pawl_plan_step, member)

static int lay_out(struct finish *finish, void **blob_out, size_t *bytes_out)
{
    struct pawl_plan_builder *builder = finish->builder;
    uint64_t bytes =
        sizeof(struct pawl_plan_header) + ((uint64_t)finish->edge_count + 2ull * finish->count) * 4;
    for (int id = 0; id < PAWL_SECTION_COUNT; id++)
        if (id < PAWL_SECTION_ENV || id > PAWL_SECTION_CODES || id == PAWL_SECTION_EDGES)
            bytes += (uint64_t)builder->parts[id].count * pawl_plan_entry_bytes(id);
    bytes += 8 * PAWL_SECTION_COUNT + builder->env.count * sizeof(struct pawl_plan_env);
    for (uint32_t i = 0; i < finish->count; i++) { /* by step: two may have been given one run */
        const struct pawl_plan_step *step = &finish->steps[i];
        bytes += (uint64_t)step->env.count * sizeof(struct pawl_plan_env);
        bytes += (uint64_t)step->axes.count * sizeof(struct pawl_plan_axis);
        bytes +=
            ((uint64_t)step->argv.count + step->retry.on_exit.count + step->retry.never_on_exit.count) * 4;
    }
    if (bytes > PAWL_PLAN_BYTES_MAX)
        return PAWL_E_LIMIT;
    struct layout layout = {.blob = calloc(1, bytes), .at = sizeof(struct pawl_plan_header)};
    if (!layout.blob)
        return -ENOMEM;
    struct pawl_plan_header *header = (struct pawl_plan_header *)layout.blob;
    *header = (struct pawl_plan_header){.magic = PAWL_PLAN_MAGIC,
                                        .format_version = PAWL_PLAN_FORMAT_VERSION,
                                        .header_bytes = sizeof *header,
                                        .name = builder->name,
                                        .source = builder->source};
    uint64_t steps_at = layout.at; /* written last: laying out the runs changes them */
    layout.at += (uint64_t)finish->count * sizeof(struct pawl_plan_step);
    for (int id = PAWL_SECTION_TEMPLATES; id <= PAWL_SECTION_PARAMS; id++)
        put_section(&layout, id, builder->parts[id].data, builder->parts[id].count);
    put_runs(&layout, finish, PAWL_SECTION_ENV, RUN(env), RUN(env), &builder->env);
    put_runs(&layout, finish, PAWL_SECTION_AXES, RUN(axes), RUN(axes), NULL);
    put_runs(&layout, finish, PAWL_SECTION_ARGV, RUN(argv), RUN(argv), NULL);
    put_section(&layout, PAWL_SECTION_EDGES, finish->edges, finish->edge_count);
    put_runs(&layout, finish, PAWL_SECTION_CODES, RUN(retry.on_exit), RUN(retry.never_on_exit), NULL);
    put_section(&layout, PAWL_SECTION_REFS, builder->parts[PAWL_SECTION_REFS].data,
                builder->parts[PAWL_SECTION_REFS].count);
    put_section(&layout, PAWL_SECTION_ORDER, finish->order, finish->count);
    put_section(&layout, PAWL_SECTION_BY_NAME, finish->by_name, finish->count);
    put_section(&layout, PAWL_SECTION_STRINGS, builder->parts[PAWL_SECTION_STRINGS].data,
                builder->parts[PAWL_SECTION_STRINGS].count);
    uint64_t end = layout.at;
    layout.at = steps_at;
    put_section(&layout, PAWL_SECTION_STEPS, finish->steps, finish->count);
    header->env = builder->env;
    header->total_bytes = end;
    *blob_out = layout.blob;
    *bytes_out = end;
    return 0;
}

static int hash_and_open(void *blob, size_t bytes, struct pawl_plan **plan_out)
{
    struct pawl_plan made = {0};
    struct pawl_plan_header *header = blob;
    pawl_plan_map(&made, blob, bytes);
    int error = pawl_plan_hash(&made, header,
                               (struct pawl_plan_step *)((char *)blob + header->sections[0].byte_offset));
    if (error < 0)
        return error;
    pawl_plan_seal(blob, bytes);
    error = pawl_plan_open(blob, bytes, NULL, plan_out, NULL);
    if (error == 0)
        (*plan_out)->owned = blob;
    return error;
}

int pawl_plan_find_cycle(struct pawl_plan_builder *builder, uint32_t *cycle_out, uint32_t *cycle_count)
{
    struct pawl_part *part = &builder->parts[PAWL_SECTION_STEPS];
    struct finish finish = {.builder = builder, .steps = part->data, .count = part->count};
    finish.order = calloc((size_t)finish.count + 1, sizeof(uint32_t));
    int error = finish.order ? order_steps(&finish, cycle_out, cycle_count) : -ENOMEM;
    free(finish.order);
    return error;
}

int pawl_plan_finish(struct pawl_plan_builder *builder, uint32_t *cycle_out, uint32_t *cycle_count,
                     struct pawl_plan **plan_out)
{
    struct pawl_part *part = &builder->parts[PAWL_SECTION_STEPS];
    struct finish finish = {.builder = builder, .steps = part->data, .count = part->count};
    void *blob = NULL;
    size_t bytes = 0;
    if (builder->spoiled) {
        if (cycle_count)
            *cycle_count = 0;
        return PAWL_E_INVALID;
    }
    for (uint32_t i = 0; i < finish.count; i++) /* a builder made of a plan has them already */
        finish.steps[i].dependents = (struct pawl_plan_run){0, 0};
    finish.order = calloc((size_t)finish.count + 1, sizeof(uint32_t));
    finish.by_name = calloc((size_t)finish.count + 1, sizeof(uint32_t));
    int error = finish.order && finish.by_name ? 0 : -ENOMEM;
    if (error == 0)
        error = order_steps(&finish, cycle_out, cycle_count);
    if (error == 0)
        error = lay_edges(&finish);
    if (error == 0) {
        for (uint32_t i = 0; i < finish.count; i++)
            finish.by_name[i] = i;
        qsort_r(finish.by_name, finish.count, sizeof(uint32_t), by_name, &finish);
        error = lay_out(&finish, &blob, &bytes);
    }
    if (error == 0)
        error = hash_and_open(blob, bytes, plan_out);
    if (error < 0)
        free(blob);
    free(finish.order);
    free(finish.by_name);
    free(finish.edges);
    return error;
}
