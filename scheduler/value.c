/*
 * value.c - values: making, reading, comparing, and lists that are not held as nodes.
 *
 * Runs in: scheduler and clients. Performs no I/O; bytes it points to are somebody else's.
 */
#include "scheduler/value.h"

#include <string.h>

#include "shm/error.h"

struct pawl_value pawl_value_null(void)
{
    return (struct pawl_value){.kind = PAWL_VALUE_NULL};
}

struct pawl_value pawl_value_bool(bool boolean)
{
    return (struct pawl_value){.kind = PAWL_VALUE_BOOL, .boolean = boolean};
}

struct pawl_value pawl_value_int(int64_t integer)
{
    return (struct pawl_value){.kind = PAWL_VALUE_INT, .integer = integer};
}

struct pawl_value pawl_value_double(double real)
{
    return (struct pawl_value){.kind = PAWL_VALUE_DOUBLE, .real = real};
}

struct pawl_value pawl_value_bytes(const char *bytes, size_t length)
{
    return (struct pawl_value){.kind = PAWL_VALUE_STRING, .count = length, .bytes = bytes};
}

struct pawl_value pawl_value_text(const char *text)
{
    return pawl_value_bytes(text, strlen(text));
}

struct pawl_value pawl_value_virtual(const struct pawl_list_source *source)
{
    return (struct pawl_value){.kind = PAWL_VALUE_VIRTUAL, .count = source->count, .source = source};
}

int pawl_lines_init(struct pawl_arena *arena, const char *bytes, size_t length, struct pawl_value *value_out)
{
    uint64_t count = 0;
    for (const char *at = bytes, *end = bytes + length; at < end; count++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        at = newline ? newline + 1 : end;
    }
    size_t checkpoint_count = count / PAWL_LINES_STRIDE + 1;
    struct pawl_lines *lines = pawl_arena_alloc(arena, sizeof *lines);
    uint64_t *checkpoints = pawl_arena_alloc(arena, checkpoint_count * sizeof *checkpoints);
    if (!lines || !checkpoints)
        return PAWL_E_LIMIT;
    checkpoints[0] = 0;
    uint64_t line = 0;
    for (const char *at = bytes, *end = bytes + length; at < end; line++) {
        if (line % PAWL_LINES_STRIDE == 0)
            checkpoints[line / PAWL_LINES_STRIDE] = (uint64_t)(at - bytes);
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        at = newline ? newline + 1 : end;
    }
    *lines =
        (struct pawl_lines){.bytes = bytes, .length = length, .count = count, .checkpoints = checkpoints};
    *value_out = (struct pawl_value){.kind = PAWL_VALUE_LINES, .count = count, .lines = lines};
    return 0;
}

static struct pawl_value line_at(const struct pawl_lines *lines, uint64_t index)
{
    const char *at = lines->bytes + lines->checkpoints[index / PAWL_LINES_STRIDE];
    const char *end = lines->bytes + lines->length;
    for (uint64_t skip = index % PAWL_LINES_STRIDE; skip > 0; skip--)
        at = (const char *)memchr(at, '\n', (size_t)(end - at)) + 1;
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    return pawl_value_bytes(at, (size_t)((newline ? newline : end) - at));
}

bool pawl_value_is_list(const struct pawl_value *value)
{
    return value->kind == PAWL_VALUE_LIST || value->kind == PAWL_VALUE_LINES ||
           value->kind == PAWL_VALUE_VIRTUAL;
}

int pawl_value_at(const struct pawl_value *list, uint64_t index, struct pawl_arena *arena,
                  struct pawl_value *value_out)
{
    if (!pawl_value_is_list(list) || index >= list->count)
        return PAWL_E_NOT_FOUND;
    if (list->kind == PAWL_VALUE_LINES)
        *value_out = line_at(list->lines, index);
    else if (list->kind == PAWL_VALUE_VIRTUAL)
        return list->source->at(list->source, index, arena, value_out);
    else
        *value_out = list->items[index];
    return 0;
}

const struct pawl_value *pawl_value_get(const struct pawl_value *map, const char *key, size_t key_bytes)
{
    if (map->kind != PAWL_VALUE_MAP)
        return NULL;
    for (size_t i = map->count; i-- > 0;)
        if (map->pairs[i].key_bytes == key_bytes &&
            (key_bytes == 0 || memcmp(map->pairs[i].key, key, key_bytes) == 0))
            return &map->pairs[i].value;
    return NULL;
}

bool pawl_value_truth(const struct pawl_value *value)
{
    switch (value->kind) {
    case PAWL_VALUE_NULL:
        return false;
    case PAWL_VALUE_BOOL:
        return value->boolean;
    case PAWL_VALUE_INT:
        return value->integer != 0;
    case PAWL_VALUE_DOUBLE:
        return value->real != 0;
    case PAWL_VALUE_STRING:
        return value->count > 0 && !(value->count == 5 && memcmp(value->bytes, "false", 5) == 0);
    case PAWL_VALUE_LIST:
    case PAWL_VALUE_MAP:
    case PAWL_VALUE_LINES:
    case PAWL_VALUE_VIRTUAL:
        return value->count > 0;
    }
    return false;
}

static bool numbers_equal(const struct pawl_value *a, const struct pawl_value *b)
{
    if (a->kind == PAWL_VALUE_INT && b->kind == PAWL_VALUE_INT)
        return a->integer == b->integer;
    if (a->kind == PAWL_VALUE_DOUBLE && b->kind == PAWL_VALUE_DOUBLE)
        return a->real == b->real;
    int64_t integer = a->kind == PAWL_VALUE_INT ? a->integer : b->integer;
    double real = a->kind == PAWL_VALUE_INT ? b->real : a->real;
    /* Beyond 2^53 the conversion of the integer rounds, so go back the other way as well. */
    return (double)integer == real && real < 0x1p63 && (int64_t)real == integer;
}

static int lists_equal(const struct pawl_value *a, const struct pawl_value *b, struct pawl_arena *arena)
{
    if (a->count != b->count)
        return 0;
    for (uint64_t i = 0; i < a->count; i++) {
        struct pawl_value x, y;
        int error = pawl_value_at(a, i, arena, &x);
        if (error == 0)
            error = pawl_value_at(b, i, arena, &y);
        if (error < 0)
            return error;
        int equal = pawl_value_equal(&x, &y, arena);
        if (equal != 1)
            return equal;
    }
    return 1;
}

static int maps_equal(const struct pawl_value *a, const struct pawl_value *b, struct pawl_arena *arena)
{
    if (a->count != b->count)
        return 0;
    for (size_t i = 0; i < a->count; i++) {
        const struct pawl_value *other = pawl_value_get(b, a->pairs[i].key, a->pairs[i].key_bytes);
        if (!other)
            return 0;
        int equal = pawl_value_equal(&a->pairs[i].value, other, arena);
        if (equal != 1)
            return equal;
    }
    return 1;
}

int pawl_value_equal(const struct pawl_value *a, const struct pawl_value *b, struct pawl_arena *arena)
{
    bool a_number = a->kind == PAWL_VALUE_INT || a->kind == PAWL_VALUE_DOUBLE;
    bool b_number = b->kind == PAWL_VALUE_INT || b->kind == PAWL_VALUE_DOUBLE;
    if (a_number && b_number)
        return numbers_equal(a, b);
    if (pawl_value_is_list(a) && pawl_value_is_list(b))
        return lists_equal(a, b, arena);
    if (a->kind != b->kind)
        return 0;
    switch (a->kind) {
    case PAWL_VALUE_NULL:
        return 1;
    case PAWL_VALUE_BOOL:
        return a->boolean == b->boolean;
    case PAWL_VALUE_STRING:
        return a->count == b->count && (a->count == 0 || memcmp(a->bytes, b->bytes, a->count) == 0);
    case PAWL_VALUE_MAP:
        return maps_equal(a, b, arena);
    case PAWL_VALUE_INT:
    case PAWL_VALUE_DOUBLE:
    case PAWL_VALUE_LIST:
    case PAWL_VALUE_LINES:
    case PAWL_VALUE_VIRTUAL:
        break; /* done above */
    }
    return 0;
}

const char *pawl_value_kind_name(enum pawl_value_kind kind)
{
    switch (kind) {
    case PAWL_VALUE_NULL:
        return "null";
    case PAWL_VALUE_BOOL:
        return "bool";
    case PAWL_VALUE_INT:
        return "int";
    case PAWL_VALUE_DOUBLE:
        return "float";
    case PAWL_VALUE_STRING:
        return "text";
    case PAWL_VALUE_MAP:
        return "map";
    case PAWL_VALUE_LIST:
    case PAWL_VALUE_LINES:
    case PAWL_VALUE_VIRTUAL:
        return "list";
    }
    return "unknown";
}
