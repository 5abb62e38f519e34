/*
 * plan_builder.c - collecting a plan's parts: sections that grow, strings stored once, names found again.
 *
 * Runs in clients only. Laying the parts out is plan_finish.c.
 */
#include "scheduler/plan_builder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "scheduler/plan_parts.h"
#include "shm/error.h"

void *pawl_parts_grow(struct pawl_plan_builder *builder, enum pawl_plan_section_id id, uint32_t count)
{
    struct pawl_part *part = &builder->parts[id];
    size_t entry = pawl_plan_entry_bytes(id);
    uint64_t want = (uint64_t)part->count + count;
    if (want * entry > PAWL_PLAN_BYTES_MAX)
        return NULL;
    if (want > part->capacity) {
        uint64_t capacity = part->capacity               ? (uint64_t)part->capacity * 2
                            : id == PAWL_SECTION_STRINGS ? 1024
                                                         : 16;
        if (capacity < want)
            capacity = want;
        void *data = realloc(part->data, capacity * entry);
        if (!data)
            return NULL;
        part->data = data;
        part->capacity = (uint32_t)capacity;
    }
    void *fresh = (char *)part->data + (size_t)part->count * entry;
    memset(fresh, 0, count * entry);
    part->count = (uint32_t)want;
    return fresh;
}

/* ---- tables from bytes to u32, open addressing; a slot holds value + 1 ---- */

static int widen_table(struct pawl_name_table *table)
{
    uint32_t capacity = table->capacity ? table->capacity * 2 : 64;
    struct pawl_name_slot *slots = calloc(capacity, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    for (uint32_t i = 0; i < table->capacity; i++) {
        if (table->slots[i].value == 0)
            continue;
        uint32_t at = table->slots[i].hash & (capacity - 1);
        while (slots[at].value != 0)
            at = (at + 1) & (capacity - 1);
        slots[at] = table->slots[i];
    }
    free(table->slots);
    table->slots = slots;
    table->capacity = capacity;
    return 0;
}

/* The slot of these bytes, or the free one where they belong. The table has room. */
static struct pawl_name_slot *find_slot(const struct pawl_plan_builder *builder,
                                        const struct pawl_name_table *table, const char *bytes, size_t length,
                                        uint32_t hash)
{
    const char *strings = builder->parts[PAWL_SECTION_STRINGS].data;
    uint32_t at = hash & (table->capacity - 1);
    for (; table->slots[at].value != 0; at = (at + 1) & (table->capacity - 1)) {
        const struct pawl_name_slot *slot = &table->slots[at];
        if (slot->hash == hash && slot->name.bytes == length &&
            memcmp(strings + slot->name.byte_offset, bytes, length) == 0)
            break;
    }
    return &table->slots[at];
}

uint32_t pawl_parts_find(const struct pawl_plan_builder *builder, const struct pawl_name_table *table,
                         const char *name, size_t length)
{
    if (table->capacity == 0)
        return PAWL_PLAN_NONE;
    uint32_t hash = (uint32_t)XXH3_64bits(name, length);
    return find_slot(builder, table, name, length, hash)->value - 1; /* 0 - 1 is PAWL_PLAN_NONE */
}

static int put_name(struct pawl_plan_builder *builder, struct pawl_name_table *table,
                    struct pawl_plan_string name, uint32_t value)
{
    if (table->count * 2 >= table->capacity) {
        int error = widen_table(table);
        if (error < 0)
            return error;
    }
    const char *bytes = (const char *)builder->parts[PAWL_SECTION_STRINGS].data + name.byte_offset;
    uint32_t hash = (uint32_t)XXH3_64bits(bytes, name.bytes);
    struct pawl_name_slot *slot = find_slot(builder, table, bytes, name.bytes, hash);
    if (slot->value == 0)
        table->count++;
    *slot = (struct pawl_name_slot){.hash = hash, .name = name, .value = value + 1};
    return 0;
}

/* ---- life ---- */

int pawl_plan_builder_create(const char *name, const char *source, struct pawl_plan_builder **builder_out)
{
    struct pawl_plan_builder *builder = calloc(1, sizeof *builder);
    if (!builder)
        return -ENOMEM;
    int error = pawl_plan_add_string(builder, name, strlen(name), &builder->name);
    if (error == 0)
        error = pawl_plan_add_string(builder, source, strlen(source), &builder->source);
    if (error < 0) {
        pawl_plan_builder_destroy(builder);
        return error;
    }
    *builder_out = builder;
    return 0;
}

void pawl_plan_builder_destroy(struct pawl_plan_builder *builder)
{
    if (!builder)
        return;
    for (int id = 0; id < PAWL_SECTION_COUNT; id++)
        free(builder->parts[id].data);
    free(builder->strings.slots);
    free(builder->steps.slots);
    free(builder->params.slots);
    free(builder);
}

/* ---- parts ---- */

int pawl_plan_add_string(struct pawl_plan_builder *builder, const char *bytes, size_t length,
                         struct pawl_plan_string *string_out)
{
    if (length >= PAWL_PLAN_BYTES_MAX)
        return PAWL_E_LIMIT;
    struct pawl_name_table *table = &builder->strings;
    if (table->count * 2 >= table->capacity) {
        int error = widen_table(table);
        if (error < 0)
            return error;
    }
    uint32_t hash = (uint32_t)XXH3_64bits(bytes, length);
    struct pawl_name_slot *slot = find_slot(builder, table, bytes, length, hash);
    if (slot->value == 0) {
        uint32_t offset = builder->parts[PAWL_SECTION_STRINGS].count;
        char *copy = pawl_parts_grow(builder, PAWL_SECTION_STRINGS, (uint32_t)length + 1);
        if (!copy)
            return PAWL_E_LIMIT;
        if (length)
            memcpy(copy, bytes, length);
        *slot = (struct pawl_name_slot){hash, 1, {offset, (uint32_t)length}};
        table->count++;
    }
    *string_out = slot->name;
    return 0;
}

static int fill_value(struct pawl_plan_builder *builder, uint32_t at, const struct pawl_value *value,
                      struct pawl_arena *arena, size_t depth_left);

static int fill_elements(struct pawl_plan_builder *builder, uint32_t at, const struct pawl_value *value,
                         struct pawl_arena *arena, size_t depth_left)
{
    bool map = value->kind == PAWL_VALUE_MAP;
    uint32_t first = builder->parts[PAWL_SECTION_VALUES].count;
    if (depth_left == 0 || value->count > PAWL_PLAN_BYTES_MAX ||
        !pawl_parts_grow(builder, PAWL_SECTION_VALUES, (uint32_t)value->count * (map ? 2 : 1)))
        return PAWL_E_LIMIT;
    struct pawl_plan_value *flat = pawl_parts_at(builder, PAWL_SECTION_VALUES, at);
    flat->kind = map ? PAWL_VALUE_MAP : PAWL_VALUE_LIST;
    flat->count = (uint32_t)value->count;
    flat->first = first;
    int error = 0;
    for (uint32_t i = 0; i < value->count && error == 0; i++) {
        struct pawl_value element;
        if (map) {
            struct pawl_value key = pawl_value_bytes(value->pairs[i].key, value->pairs[i].key_bytes);
            error = fill_value(builder, first + 2 * i, &key, arena, depth_left - 1);
            if (error == 0)
                error = fill_value(builder, first + 2 * i + 1, &value->pairs[i].value, arena, depth_left - 1);
            continue;
        }
        error = pawl_value_at(value, i, arena, &element);
        if (error == 0)
            error = fill_value(builder, first + i, &element, arena, depth_left - 1);
    }
    return error;
}

static int fill_value(struct pawl_plan_builder *builder, uint32_t at, const struct pawl_value *value,
                      struct pawl_arena *arena, size_t depth_left)
{
    struct pawl_plan_value flat = {.kind = (uint8_t)value->kind};
    struct pawl_plan_string string;
    int error = 0;
    switch (value->kind) {
    case PAWL_VALUE_NULL:
        break;
    case PAWL_VALUE_BOOL:
        flat.integer = value->boolean;
        break;
    case PAWL_VALUE_INT:
        flat.integer = value->integer;
        break;
    case PAWL_VALUE_DOUBLE:
        flat.real = value->real;
        break;
    case PAWL_VALUE_STRING:
        error = pawl_plan_add_string(builder, value->bytes, value->count, &string);
        if (error < 0)
            return error;
        flat.count = string.bytes;
        flat.first = string.byte_offset;
        break;
    case PAWL_VALUE_LIST:
    case PAWL_VALUE_MAP:
    case PAWL_VALUE_LINES:
    case PAWL_VALUE_VIRTUAL:
        return fill_elements(builder, at, value, arena, depth_left);
    }
    *(struct pawl_plan_value *)pawl_parts_at(builder, PAWL_SECTION_VALUES, at) = flat;
    return 0;
}

int pawl_plan_add_value(struct pawl_plan_builder *builder, const struct pawl_value *value,
                        uint32_t *value_out)
{
    *value_out = builder->parts[PAWL_SECTION_VALUES].count;
    if (!pawl_parts_grow(builder, PAWL_SECTION_VALUES, 1))
        return PAWL_E_LIMIT;
    struct pawl_arena arena; /* what lazy lists make of their elements */
    pawl_arena_init(&arena, 0);
    int error = fill_value(builder, *value_out, value, &arena, PAWL_VALUE_DEPTH_MAX);
    pawl_arena_fini(&arena);
    return error;
}

int pawl_plan_add_param(struct pawl_plan_builder *builder, const char *name, const struct pawl_value *value)
{
    struct pawl_plan_param param = {0};
    uint32_t index = builder->parts[PAWL_SECTION_PARAMS].count;
    int error = pawl_plan_add_string(builder, name, strlen(name), &param.name);
    if (error == 0)
        error = pawl_plan_add_value(builder, value, &param.value);
    if (error < 0)
        return error;
    param.default_value = param.value;
    struct pawl_plan_param *fresh = pawl_parts_grow(builder, PAWL_SECTION_PARAMS, 1);
    if (!fresh)
        return PAWL_E_LIMIT;
    *fresh = param;
    return put_name(builder, &builder->params, param.name, index);
}

int pawl_plan_add_step(struct pawl_plan_builder *builder, const char *name, uint32_t *step_index_out)
{
    struct pawl_plan_string string;
    int error = pawl_plan_add_string(builder, name, strlen(name), &string);
    if (error < 0)
        return error;
    *step_index_out = builder->parts[PAWL_SECTION_STEPS].count;
    if (*step_index_out >= PAWL_PLAN_STEPS_MAX)
        return PAWL_E_LIMIT;
    struct pawl_plan_step *step = pawl_parts_grow(builder, PAWL_SECTION_STEPS, 1);
    if (!step)
        return PAWL_E_LIMIT;
    *step = (struct pawl_plan_step){
        .name = string,
        .kind = PAWL_STEP_NOOP,
        .shell = PAWL_PLAN_NONE,
        .dir = PAWL_PLAN_NONE,
        .stdin_template = PAWL_PLAN_NONE,
        .when = PAWL_PLAN_NONE,
        .foreach = PAWL_PLAN_NONE,
        .grace_ns = UINT64_C(10000000000),
        .retry = {.initial_ns = UINT64_C(1000000000),
                  .max_ns = UINT64_C(60000000000),
                  .factor = 2,
                  .jitter = 0.1},
    };
    return put_name(builder, &builder->steps, string, *step_index_out);
}

uint32_t pawl_plan_builder_find_step(const struct pawl_plan_builder *builder, const char *name,
                                     size_t name_bytes)
{
    return pawl_parts_find(builder, &builder->steps, name, name_bytes);
}

const char *pawl_plan_builder_step_name(const struct pawl_plan_builder *builder, uint32_t step_index)
{
    const struct pawl_plan_step *step = pawl_parts_at(builder, PAWL_SECTION_STEPS, step_index);
    return (const char *)builder->parts[PAWL_SECTION_STRINGS].data + step->name.byte_offset;
}

struct pawl_plan_run pawl_plan_builder_env(const struct pawl_plan_builder *builder)
{
    return builder->env;
}

struct pawl_plan_step *pawl_plan_edit_step(struct pawl_plan_builder *builder, uint32_t step_index)
{
    return pawl_parts_at(builder, PAWL_SECTION_STEPS, step_index);
}

static int put_run(struct pawl_plan_builder *builder, enum pawl_plan_section_id id, const void *entries,
                   uint32_t count, struct pawl_plan_run *run_out)
{
    uint32_t first = builder->parts[id].count;
    if (count > 0) {
        void *fresh = pawl_parts_grow(builder, id, count);
        if (!fresh)
            return PAWL_E_LIMIT;
        memcpy(fresh, entries, count * pawl_plan_entry_bytes(id));
    }
    *run_out = (struct pawl_plan_run){first, count};
    return 0;
}

int pawl_plan_set_needs(struct pawl_plan_builder *builder, uint32_t step_index, const uint32_t *needs,
                        uint32_t count)
{
    return put_run(builder, PAWL_SECTION_EDGES, needs, count,
                   &pawl_plan_edit_step(builder, step_index)->needs);
}

int pawl_plan_set_argv(struct pawl_plan_builder *builder, uint32_t step_index, const uint32_t *templates,
                       uint32_t count)
{
    return put_run(builder, PAWL_SECTION_ARGV, templates, count,
                   &pawl_plan_edit_step(builder, step_index)->argv);
}

int pawl_plan_set_axes(struct pawl_plan_builder *builder, uint32_t step_index,
                       const struct pawl_plan_axis *axes, uint32_t count)
{
    return put_run(builder, PAWL_SECTION_AXES, axes, count, &pawl_plan_edit_step(builder, step_index)->axes);
}

int pawl_plan_set_exit_codes(struct pawl_plan_builder *builder, const int32_t *codes, uint32_t count,
                             struct pawl_plan_run *run_out)
{
    return put_run(builder, PAWL_SECTION_CODES, codes, count, run_out);
}

int pawl_plan_set_env(struct pawl_plan_builder *builder, uint32_t step_index,
                      const struct pawl_plan_env *entries, uint32_t count)
{
    struct pawl_plan_run *run =
        step_index == PAWL_PLAN_NONE ? &builder->env : &pawl_plan_edit_step(builder, step_index)->env;
    return put_run(builder, PAWL_SECTION_ENV, entries, count, run);
}

int pawl_plan_add_constant(struct pawl_plan_builder *builder, const struct pawl_value *value,
                           uint32_t *template_index_out)
{
    uint32_t index;
    struct pawl_plan_string source;
    int error = pawl_plan_add_value(builder, value, &index);
    if (error < 0)
        return error;
    bool text = value->kind == PAWL_VALUE_STRING;
    error = pawl_plan_add_string(builder, text ? value->bytes : "", text ? value->count : 0, &source);
    if (error < 0)
        return error;
    uint32_t node_index = builder->parts[PAWL_SECTION_NODES].count;
    struct pawl_plan_node *node = pawl_parts_grow(builder, PAWL_SECTION_NODES, 1);
    uint32_t template_index = builder->parts[PAWL_SECTION_TEMPLATES].count;
    struct pawl_plan_template *template = pawl_parts_grow(builder, PAWL_SECTION_TEMPLATES, 1);
    if (!node || !template)
        return PAWL_E_LIMIT;
    uint8_t types = pawl_value_is_list(value) ? PAWL_TYPE_LIST : (uint8_t)(1u << value->kind);
    *node = (struct pawl_plan_node){PAWL_OP_CONST, types, 0, PAWL_PLAN_NONE, PAWL_PLAN_NONE, index};
    *template = (struct pawl_plan_template){.source = source,
                                            .first_node = node_index,
                                            .root_node = node_index,
                                            .flags = PAWL_TEMPLATE_CONSTANT,
                                            .steps = {builder->parts[PAWL_SECTION_REFS].count, 0}};
    *template_index_out = template_index;
    return 0;
}

int pawl_plan_add_text(struct pawl_plan_builder *builder, const char *text, uint32_t *template_index_out)
{
    struct pawl_value value = pawl_value_text(text);
    return pawl_plan_add_constant(builder, &value, template_index_out);
}
