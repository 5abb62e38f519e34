/*
 * value_json.c - values from and to JSON, and as text.
 *
 * Runs in: scheduler and clients. Writing is element by element through a sink, so that a list of a million
 * elements is never held whole. Reading goes through jansson into an arena, bounded in size and depth.
 */
#include "scheduler/value.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "shm/error.h"

enum { WRITER_BYTES = 2048 };

/* Collects small pieces, so that a sink sees few calls. */
struct writer {
    pawl_value_sink sink;
    void *context;
    int error;
    size_t used;
    char buffer[WRITER_BYTES];
};

static void flush(struct writer *writer)
{
    if (writer->error == 0 && writer->used > 0)
        writer->error = writer->sink(writer->context, writer->buffer, writer->used);
    writer->used = 0;
}

static void put(struct writer *writer, const char *bytes, size_t length)
{
    if (length == 0)
        return;
    if (length > WRITER_BYTES - writer->used)
        flush(writer);
    if (length > WRITER_BYTES) {
        if (writer->error == 0)
            writer->error = writer->sink(writer->context, bytes, length);
        return;
    }
    memcpy(writer->buffer + writer->used, bytes, length);
    writer->used += length;
}

static void put_text(struct writer *writer, const char *text)
{
    put(writer, text, strlen(text));
}

/* Length of the UTF-8 character at @at, 0 if there is none. */
static size_t utf8_length(const unsigned char *at, size_t left)
{
    unsigned char lead = at[0];
    if (lead < 0x80)
        return 1;
    size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || left < length)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    if ((lead == 0xe0 && at[1] < 0xa0) || (lead == 0xed && at[1] > 0x9f) || (lead == 0xf0 && at[1] < 0x90) ||
        (lead == 0xf4 && at[1] > 0x8f))
        return 0;
    return length;
}

static void put_escape(struct writer *writer, unsigned char c)
{
    char text[8];
    switch (c) {
    case '"':
        put_text(writer, "\\\"");
        return;
    case '\\':
        put_text(writer, "\\\\");
        return;
    case '\n':
        put_text(writer, "\\n");
        return;
    case '\r':
        put_text(writer, "\\r");
        return;
    case '\t':
        put_text(writer, "\\t");
        return;
    default:
        snprintf(text, sizeof text, "\\u%04x", c);
        put_text(writer, text);
    }
}

static void put_json_string(struct writer *writer, const char *bytes, size_t length)
{
    const unsigned char *at = (const unsigned char *)bytes;
    put(writer, "\"", 1);
    size_t start = 0; /* of the stretch that can be copied as it is */
    for (size_t i = 0; i < length && writer->error == 0;) {
        size_t step = utf8_length(at + i, length - i);
        if (step > 1 || (step == 1 && at[i] >= 0x20 && at[i] != '"' && at[i] != '\\' && at[i] != 0x7f)) {
            i += step;
            continue;
        }
        put(writer, bytes + start, i - start);
        if (step == 0)
            put_text(writer, "\xef\xbf\xbd");
        else
            put_escape(writer, at[i]);
        start = ++i;
    }
    put(writer, bytes + start, length - start);
    put(writer, "\"", 1);
}

/* The shortest text that reads back as the same double, always with a mark of being one. */
static void put_double(struct writer *writer, double real)
{
    if (!isfinite(real)) {
        put_text(writer, "null");
        return;
    }
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text - 3, "%.*g", digits, real);
        if (strtod(text, NULL) == real)
            break;
    }
    if (!strpbrk(text, ".e"))
        strcat(text, ".0");
    put_text(writer, text);
}

static void put_json(struct writer *writer, const struct pawl_value *value, size_t depth_left);

static void put_json_list(struct writer *writer, const struct pawl_value *list, size_t depth_left)
{
    struct pawl_arena scratch; /* what a source makes for one element */
    pawl_arena_init(&scratch, 0);
    put(writer, "[", 1);
    for (uint64_t i = 0; i < list->count && writer->error == 0; i++) {
        struct pawl_value element;
        if (i > 0)
            put(writer, ",", 1);
        int error = pawl_value_at(list, i, &scratch, &element);
        if (error < 0)
            writer->error = error;
        else
            put_json(writer, &element, depth_left);
        if (list->kind == PAWL_VALUE_VIRTUAL)
            pawl_arena_reset(&scratch);
    }
    put(writer, "]", 1);
    pawl_arena_fini(&scratch);
}

static void put_json(struct writer *writer, const struct pawl_value *value, size_t depth_left)
{
    char text[32];
    switch (value->kind) {
    case PAWL_VALUE_NULL:
        put_text(writer, "null");
        return;
    case PAWL_VALUE_BOOL:
        put_text(writer, value->boolean ? "true" : "false");
        return;
    case PAWL_VALUE_INT:
        snprintf(text, sizeof text, "%lld", (long long)value->integer);
        put_text(writer, text);
        return;
    case PAWL_VALUE_DOUBLE:
        put_double(writer, value->real);
        return;
    case PAWL_VALUE_STRING:
        put_json_string(writer, value->bytes, value->count);
        return;
    case PAWL_VALUE_LIST:
    case PAWL_VALUE_LINES:
    case PAWL_VALUE_VIRTUAL:
        if (depth_left == 0)
            writer->error = PAWL_E_LIMIT;
        else
            put_json_list(writer, value, depth_left - 1);
        return;
    case PAWL_VALUE_MAP:
        if (depth_left == 0) {
            writer->error = PAWL_E_LIMIT;
            return;
        }
        put(writer, "{", 1);
        for (size_t i = 0; i < value->count && writer->error == 0; i++) {
            if (i > 0)
                put(writer, ",", 1);
            put_json_string(writer, value->pairs[i].key, value->pairs[i].key_bytes);
            put(writer, ":", 1);
            put_json(writer, &value->pairs[i].value, depth_left - 1);
        }
        put(writer, "}", 1);
        return;
    }
}

int pawl_value_write_json(const struct pawl_value *value, pawl_value_sink sink, void *context)
{
    struct writer writer;
    writer.sink = sink;
    writer.context = context;
    writer.error = 0;
    writer.used = 0;
    put_json(&writer, value, PAWL_VALUE_DEPTH_MAX);
    flush(&writer);
    return writer.error;
}

/* As to_text: null is nothing, text is itself, the rest is JSON. */
static void put_plain(struct writer *writer, const struct pawl_value *value)
{
    if (value->kind == PAWL_VALUE_STRING)
        put(writer, value->bytes, value->count);
    else if (value->kind != PAWL_VALUE_NULL)
        put_json(writer, value, PAWL_VALUE_DEPTH_MAX);
}

int pawl_value_write_stdin(const struct pawl_value *value, pawl_value_sink sink, void *context)
{
    struct writer writer;
    writer.sink = sink;
    writer.context = context;
    writer.error = 0;
    writer.used = 0;
    if (value->kind == PAWL_VALUE_LINES) { /* is one element a line already */
        const struct pawl_lines *lines = value->lines;
        put(&writer, lines->bytes, lines->length);
        if (lines->length > 0 && lines->bytes[lines->length - 1] != '\n')
            put(&writer, "\n", 1);
    } else if (pawl_value_is_list(value)) {
        struct pawl_arena scratch;
        pawl_arena_init(&scratch, 0);
        for (uint64_t i = 0; i < value->count && writer.error == 0; i++) {
            struct pawl_value element;
            int error = pawl_value_at(value, i, &scratch, &element);
            if (error < 0) {
                writer.error = error;
                break;
            }
            put_plain(&writer, &element);
            put(&writer, "\n", 1);
            pawl_arena_reset(&scratch);
        }
        pawl_arena_fini(&scratch);
    } else {
        put_plain(&writer, value);
    }
    flush(&writer);
    return writer.error;
}

/* Text that grows in an arena; what it grew out of stays there until the reset, so at most as much again is
 * lost. */
struct text_buffer {
    struct pawl_arena *arena;
    size_t limit;
    size_t length, capacity;
    char *bytes;
};

static int append_text(void *context, const void *bytes, size_t length)
{
    struct text_buffer *text = context;
    if (length > text->limit - text->length)
        return PAWL_E_LIMIT;
    if (text->capacity - text->length <= length) { /* <=: room for the NUL */
        size_t capacity = (text->length + length) * 2 + 32;
        char *grown = pawl_arena_alloc(text->arena, capacity);
        if (!grown)
            return PAWL_E_LIMIT;
        if (text->length)
            memcpy(grown, text->bytes, text->length);
        text->bytes = grown;
        text->capacity = capacity;
    }
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    return 0;
}

int pawl_value_to_text(const struct pawl_value *value, size_t limit_bytes, bool copy,
                       struct pawl_arena *arena, const char **bytes_out, size_t *length_out)
{
    if (value->kind == PAWL_VALUE_NULL) {
        *bytes_out = "";
        *length_out = 0;
        return 0;
    }
    if (value->kind == PAWL_VALUE_STRING) {
        if (value->count > limit_bytes)
            return PAWL_E_LIMIT;
        const char *bytes = copy ? pawl_arena_copy(arena, value->bytes, value->count) : value->bytes;
        if (!bytes && copy)
            return PAWL_E_LIMIT;
        *bytes_out = bytes;
        *length_out = value->count;
        return 0;
    }
    struct text_buffer text = {.arena = arena, .limit = limit_bytes};
    int error = pawl_value_write_json(value, append_text, &text);
    if (error < 0)
        return error;
    text.bytes[text.length] = '\0';
    *bytes_out = text.bytes;
    *length_out = text.length;
    return 0;
}

static int from_jansson(const json_t *json, size_t depth_left, struct pawl_arena *arena,
                        struct pawl_value *value_out);

static int list_from_jansson(const json_t *json, size_t depth_left, struct pawl_arena *arena,
                             struct pawl_value *value_out)
{
    size_t count = json_array_size(json);
    struct pawl_value *items = pawl_arena_alloc(arena, count * sizeof *items);
    if (!items)
        return PAWL_E_LIMIT;
    for (size_t i = 0; i < count; i++) {
        int error = from_jansson(json_array_get(json, i), depth_left, arena, &items[i]);
        if (error < 0)
            return error;
    }
    *value_out = (struct pawl_value){.kind = PAWL_VALUE_LIST, .count = count, .items = items};
    return 0;
}

static int map_from_jansson(json_t *json, size_t depth_left, struct pawl_arena *arena,
                            struct pawl_value *value_out)
{
    size_t count = json_object_size(json), i = 0;
    struct pawl_pair *pairs = pawl_arena_alloc(arena, count * sizeof *pairs);
    if (!pairs)
        return PAWL_E_LIMIT;
    for (void *at = json_object_iter(json); at; at = json_object_iter_next(json, at), i++) {
        const char *key = json_object_iter_key(at);
        pairs[i].key_bytes = strlen(key);
        pairs[i].key = pawl_arena_copy(arena, key, pairs[i].key_bytes);
        if (!pairs[i].key)
            return PAWL_E_LIMIT;
        int error = from_jansson(json_object_iter_value(at), depth_left, arena, &pairs[i].value);
        if (error < 0)
            return error;
    }
    *value_out = (struct pawl_value){.kind = PAWL_VALUE_MAP, .count = count, .pairs = pairs};
    return 0;
}

static int from_jansson(const json_t *json, size_t depth_left, struct pawl_arena *arena,
                        struct pawl_value *value_out)
{
    switch (json_typeof(json)) {
    case JSON_NULL:
        *value_out = pawl_value_null();
        return 0;
    case JSON_TRUE:
    case JSON_FALSE:
        *value_out = pawl_value_bool(json_is_true(json));
        return 0;
    case JSON_INTEGER:
        *value_out = pawl_value_int(json_integer_value(json));
        return 0;
    case JSON_REAL:
        *value_out = pawl_value_double(json_real_value(json));
        return 0;
    case JSON_STRING: {
        size_t length = json_string_length(json);
        const char *copy = pawl_arena_copy(arena, json_string_value(json), length);
        *value_out = pawl_value_bytes(copy, length);
        return copy ? 0 : PAWL_E_LIMIT;
    }
    case JSON_ARRAY:
        return depth_left ? list_from_jansson(json, depth_left - 1, arena, value_out) : PAWL_E_LIMIT;
    case JSON_OBJECT:
        return depth_left ? map_from_jansson((json_t *)json, depth_left - 1, arena, value_out) : PAWL_E_LIMIT;
    }
    return PAWL_E_INVALID;
}

static int json_refused(struct pawl_json_error *error_out, int code, size_t byte_offset, const char *text)
{
    if (error_out) {
        error_out->byte_offset = byte_offset;
        snprintf(error_out->text, sizeof error_out->text, "%s", text);
    }
    return code;
}

/* jansson's words end with the key as the source has it: near '"key"'. */
static int key_is_there_twice(struct pawl_json_error *error_out, const json_error_t *problem)
{
    char text[128];
    const char *from = strchr(problem->text, '"'), *to = strrchr(problem->text, '"');
    int bytes = !from ? 0 : to - from < 100 ? (int)(to - from) + 1 : 100;
    snprintf(text, sizeof text, "key %.*s is there twice", bytes, from ? from : "");
    return json_refused(error_out, PAWL_E_INVALID, problem->position > 0 ? (size_t)problem->position : 0,
                        text);
}

static int parse(const char *bytes, size_t length, size_t flags, size_t depth_max, struct pawl_arena *arena,
                 struct pawl_value *value_out, struct pawl_json_error *error_out)
{
    json_error_t problem;
    if (length == 0)
        return json_refused(error_out, PAWL_E_INVALID, 0, "empty");
    /* The tree on the heap and the copy in the arena are a small multiple of the text: bound the text by the
     * arena first. */
    if (length > arena->limit_bytes - arena->used_bytes)
        return json_refused(error_out, PAWL_E_LIMIT, 0, "JSON is larger than allowed");
    json_t *json = json_loadb(bytes, length, JSON_DECODE_ANY | flags, &problem);
    if (!json && json_error_code(&problem) == json_error_duplicate_key)
        return key_is_there_twice(error_out, &problem);
    if (!json) {
        bool memory = json_error_code(&problem) == json_error_out_of_memory;
        bool deep = json_error_code(&problem) == json_error_stack_overflow;
        return json_refused(error_out,
                            memory ? -ENOMEM
                            : deep ? PAWL_E_LIMIT
                                   : PAWL_E_INVALID,
                            problem.position > 0 ? (size_t)problem.position : 0, problem.text);
    }
    size_t depth = depth_max < PAWL_VALUE_DEPTH_MAX ? depth_max : PAWL_VALUE_DEPTH_MAX;
    int error = from_jansson(json, depth, arena, value_out);
    json_decref(json);
    if (error < 0)
        return json_refused(error_out, error, 0, "JSON is nested too deeply or too large");
    return 0;
}

int pawl_value_parse_json(const char *bytes, size_t length, size_t depth_max, struct pawl_arena *arena,
                          struct pawl_value *value_out, struct pawl_json_error *error_out)
{
    return parse(bytes, length, 0, depth_max, arena, value_out, error_out);
}

int pawl_value_parse_params(const char *bytes, size_t length, size_t depth_max, struct pawl_arena *arena,
                            struct pawl_value *value_out, struct pawl_json_error *error_out)
{
    return parse(bytes, length, JSON_REJECT_DUPLICATES, depth_max, arena, value_out, error_out);
}
