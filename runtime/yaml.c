/*
 * yaml.c - libfyaml's events into a tree, with every bound kept while it grows.
 *
 * Runs in clients. Uses the event interface alone: it does not recurse, and there is no document to expand
 * behind our back.
 */
#include "runtime/yaml.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libfyaml.h>
#include <xxhash.h>

#include "shm/error.h"

void pawl_load_refuse(struct pawl_load_errors *errors, uint32_t line, uint32_t column, const char *code,
                      const char *hint, const char *format, ...)
{
    uint32_t at = errors->count;
    while (at > 0 && (errors->errors[at - 1].line > line ||
                      (errors->errors[at - 1].line == line && errors->errors[at - 1].column > column)))
        at--;
    if (errors->count == PAWL_LOAD_ERRORS_MAX) {
        errors->dropped++;
        if (at == PAWL_LOAD_ERRORS_MAX)
            return;
        errors->count--;
    }
    memmove(&errors->errors[at + 1], &errors->errors[at], (errors->count - at) * sizeof errors->errors[0]);
    errors->count++;
    struct pawl_load_error *error = &errors->errors[at];
    *error = (struct pawl_load_error){.line = line, .column = column};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    snprintf(error->code, sizeof error->code, "%s", code);
    snprintf(error->hint, sizeof error->hint, "%s", hint ? hint : "");
}

/* ---- building ---- */

struct anchor {
    const char *name;
    size_t length;
    struct pawl_yaml_node *node;
};

struct open_node {
    struct pawl_yaml_node *node;
    struct pawl_yaml_node *key; /* waits for its value */
    const char *anchor;         /* of this node; known only once the node is whole */
    size_t anchor_bytes;
};

struct build {
    const struct pawl_load_limits *limits;
    struct pawl_arena *arena;
    struct pawl_load_errors *errors;
    struct open_node *open; /* depth_max + 1 */
    uint32_t depth;
    uint64_t nodes, text_bytes;
    struct anchor *anchors; /* open addressing, at least half free */
    uint32_t anchor_count, anchor_capacity;
    struct pawl_yaml_node *root;
    uint32_t line, column; /* of the last thing that had a place */
    uint32_t documents;
};

static int refuse(struct build *build, const char *code, const char *hint, const char *text)
{
    pawl_load_refuse(build->errors, build->line, build->column, code, hint, "%s", text);
    return strcmp(code, "limit") == 0 ? PAWL_E_LIMIT : PAWL_E_INVALID;
}

static int count_nodes(struct build *build, uint64_t nodes)
{
    char text[96];
    build->nodes += nodes;
    if (build->nodes <= build->limits->nodes_max)
        return 0;
    snprintf(text, sizeof text, "file has more than %u nodes, aliases counted each time",
             build->limits->nodes_max);
    return refuse(build, "limit", "", text);
}

static int too_deep(struct build *build)
{
    char text[96];
    snprintf(text, sizeof text, "file is nested deeper than %u", build->limits->depth_max);
    return refuse(build, "limit", "", text);
}

static struct anchor *find_anchor(const struct build *build, const char *name, size_t length)
{
    uint32_t at = (uint32_t)XXH3_64bits(name, length) & (build->anchor_capacity - 1);
    while (build->anchors[at].node &&
           (build->anchors[at].length != length || memcmp(build->anchors[at].name, name, length) != 0))
        at = (at + 1) & (build->anchor_capacity - 1);
    return &build->anchors[at];
}

static int put_anchor(struct build *build, const char *name, size_t length, struct pawl_yaml_node *node)
{
    if (build->anchor_count * 2 >= build->anchor_capacity) {
        struct anchor *before = build->anchors;
        uint32_t capacity = build->anchor_capacity;
        build->anchor_capacity = capacity ? capacity * 2 : 16;
        build->anchors = calloc(build->anchor_capacity, sizeof *build->anchors);
        if (!build->anchors) {
            build->anchors = before;
            build->anchor_capacity = capacity;
            return -ENOMEM;
        }
        for (uint32_t i = 0; i < capacity; i++)
            if (before[i].node)
                *find_anchor(build, before[i].name, before[i].length) = before[i];
        free(before);
    }
    struct anchor *anchor = find_anchor(build, name, length);
    build->anchor_count += !anchor->node;
    *anchor = (struct anchor){name, length, node};
    return 0;
}

/* The node is whole: hang it below what is open. */
static int attach(struct build *build, struct pawl_yaml_node *node)
{
    if (build->depth == 0) {
        build->root = node;
        return 0;
    }
    struct open_node *open = &build->open[build->depth - 1];
    struct pawl_yaml_node *parent = open->node;
    if (parent->kind == PAWL_YAML_MAPPING && !open->key) {
        if (node->kind != PAWL_YAML_SCALAR) {
            pawl_load_refuse(build->errors, node->line, node->column, "type", "", "a key must be plain text");
            return PAWL_E_INVALID;
        }
        open->key = node;
        parent->expanded++;
        return 0;
    }
    struct pawl_yaml_item *item = pawl_arena_alloc(build->arena, sizeof *item);
    if (!item)
        return -ENOMEM;
    *item = (struct pawl_yaml_item){.key = open->key, .value = node};
    open->key = NULL;
    if (parent->last)
        parent->last->next = item;
    else
        parent->items = item;
    parent->last = item;
    parent->count++;
    parent->expanded += node->expanded;
    if (node->depth >= parent->depth)
        parent->depth = node->depth + 1;
    return build->depth + node->depth > build->limits->depth_max ? too_deep(build) : 0;
}

static struct pawl_yaml_node *make_node(struct build *build, enum pawl_yaml_kind kind)
{
    struct pawl_yaml_node *node = pawl_arena_alloc(build->arena, sizeof *node);
    if (node)
        *node = (struct pawl_yaml_node){
            .kind = (uint8_t)kind, .depth = 1, .line = build->line, .column = build->column, .expanded = 1};
    return node;
}

static int copy_name(struct build *build, struct fy_token *token, const char **name_out, size_t *length_out)
{
    *name_out = NULL;
    *length_out = 0;
    if (!token)
        return 0;
    const char *text = fy_token_get_text(token, length_out);
    *name_out = text ? pawl_arena_copy(build->arena, text, *length_out) : NULL;
    return *name_out ? 0 : -ENOMEM;
}

static int on_scalar(struct build *build, struct fy_event *event)
{
    size_t length = 0;
    const char *text = fy_token_get_text(event->scalar.value, &length), *anchor;
    const struct fy_mark *start = fy_event_start_mark(event), *end = fy_event_end_mark(event);
    size_t anchor_bytes;
    enum fy_scalar_style style = fy_token_scalar_style(event->scalar.value);
    if (start && (style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED))
        build->column -= build->column > 1; /* the mark is behind the quote */
    int error = count_nodes(build, 1);
    struct pawl_yaml_node *node = make_node(build, PAWL_YAML_SCALAR);
    if (error < 0 || !node)
        return error < 0 ? error : -ENOMEM;
    if (text && memchr(text, '\0', length))
        return refuse(build, "type", "", "text with a NUL in it");
    node->text = pawl_arena_copy(build->arena, text ? text : "", text ? length : 0);
    node->length = text ? length : 0;
    if (!node->text)
        return -ENOMEM;
    node->style = style < FYSS_PLAIN || style > FYSS_FOLDED ? PAWL_YAML_PLAIN : (uint8_t)style;
    if (start && end) {
        node->source_start = start->input_pos;
        node->source_end = end->input_pos;
    }
    error = copy_name(build, event->scalar.anchor, &anchor, &anchor_bytes);
    if (error == 0 && anchor)
        error = put_anchor(build, anchor, anchor_bytes, node);
    return error < 0 ? error : attach(build, node);
}

static int on_start(struct build *build, struct fy_event *event, enum pawl_yaml_kind kind)
{
    struct fy_token *anchor =
        kind == PAWL_YAML_MAPPING ? event->mapping_start.anchor : event->sequence_start.anchor;
    int error = count_nodes(build, 1);
    if (error < 0)
        return error;
    if (build->depth >= build->limits->depth_max)
        return too_deep(build);
    struct open_node open = {.node = make_node(build, kind)};
    if (!open.node)
        return -ENOMEM;
    error = copy_name(build, anchor, &open.anchor, &open.anchor_bytes);
    if (error == 0)
        build->open[build->depth++] = open;
    return error;
}

/* Two keys that are the same, by a table for large mappings. */
static int check_duplicates(struct build *build, const struct pawl_yaml_node *mapping)
{
    uint32_t capacity = 16;
    while (capacity < mapping->count * 2)
        capacity *= 2;
    const struct pawl_yaml_node **seen = calloc(capacity, sizeof *seen);
    if (!seen)
        return -ENOMEM;
    for (const struct pawl_yaml_item *item = mapping->items; item; item = item->next) {
        const struct pawl_yaml_node *key = item->key;
        uint32_t at = (uint32_t)XXH3_64bits(key->text, key->length) & (capacity - 1);
        while (seen[at] &&
               (seen[at]->length != key->length || memcmp(seen[at]->text, key->text, key->length) != 0))
            at = (at + 1) & (capacity - 1);
        if (seen[at])
            pawl_load_refuse(build->errors, key->line, key->column, "duplicate_key", "remove one of them",
                             "key `%.64s` is there twice; the first one is in line %u", key->text,
                             seen[at]->line);
        else
            seen[at] = key;
    }
    free(seen);
    return 0;
}

static int on_end(struct build *build)
{
    struct open_node open = build->open[--build->depth];
    int error = 0;
    if (open.node->kind == PAWL_YAML_MAPPING && open.node->count > 1)
        error = check_duplicates(build, open.node);
    if (error == 0 && open.anchor)
        error = put_anchor(build, open.anchor, open.anchor_bytes, open.node);
    return error < 0 ? error : attach(build, open.node);
}

static int on_alias(struct build *build, struct fy_event *event)
{
    size_t length = 0;
    const char *name = fy_token_get_text(event->alias.anchor, &length);
    build->column -= build->column > 1; /* the mark is behind the star */
    const struct anchor *anchor = name && build->anchor_count ? find_anchor(build, name, length) : NULL;
    if (!anchor || !anchor->node) {
        pawl_load_refuse(build->errors, build->line, build->column, "syntax",
                         "an anchor `&NAME` must stand before it", "alias `*%.*s` has no anchor",
                         length > 64 ? 64 : (int)length, name ? name : "");
        return PAWL_E_INVALID;
    }
    int error = count_nodes(build, anchor->node->expanded);
    return error < 0 ? error : attach(build, anchor->node);
}

static int on_event(struct build *build, struct fy_event *event)
{
    const struct fy_mark *mark = fy_event_start_mark(event);
    if (mark) {
        build->line = (uint32_t)mark->line + 1;
        build->column = (uint32_t)mark->column + 1;
    }
    struct fy_token *tag = event->type == FYET_SCALAR           ? event->scalar.tag
                           : event->type == FYET_MAPPING_START  ? event->mapping_start.tag
                           : event->type == FYET_SEQUENCE_START ? event->sequence_start.tag
                                                                : NULL;
    if (tag) {
        const struct fy_mark *place = fy_token_start_mark(tag);
        pawl_load_refuse(build->errors, place ? (uint32_t)place->line + 1 : build->line,
                         place ? (uint32_t)place->column + 1 : build->column, "syntax",
                         "quote what is meant as text", "tags (`!...`) are not taken");
        return PAWL_E_INVALID;
    }
    switch (event->type) {
    case FYET_DOCUMENT_START:
        if (build->documents++ > 0)
            return refuse(build, "syntax", "one file holds one workflow", "a second document begins here");
        return 0;
    case FYET_SCALAR:
        return on_scalar(build, event);
    case FYET_MAPPING_START:
        return on_start(build, event, PAWL_YAML_MAPPING);
    case FYET_SEQUENCE_START:
        return on_start(build, event, PAWL_YAML_SEQUENCE);
    case FYET_MAPPING_END:
    case FYET_SEQUENCE_END:
        return on_end(build);
    case FYET_ALIAS:
        return on_alias(build, event);
    case FYET_NONE:
    case FYET_STREAM_START:
    case FYET_STREAM_END:
    case FYET_DOCUMENT_END:
        break;
    }
    return 0;
}

/* `[a, ${{ x }}]` without quotes is the usual mistake: the { begins a map there. */
static bool line_has_expression(const char *bytes, size_t length, int line)
{
    const char *at = bytes, *end = bytes + length;
    for (; line > 1 && at; line--)
        at = memchr(at, '\n', (size_t)(end - at)) ? (const char *)memchr(at, '\n', (size_t)(end - at)) + 1
                                                  : NULL;
    const char *stop = at ? memchr(at, '\n', (size_t)(end - at)) : NULL;
    return at && memmem(at, (size_t)((stop ? stop : end) - at), "${{", 3);
}

static int tell_syntax(struct build *build, struct fy_diag *diag, const char *bytes, size_t length)
{
    void *cursor = NULL;
    struct fy_diag_error *problem = fy_diag_errors_iterate(diag, &cursor);
    if (problem && problem->line > 0)
        pawl_load_refuse(build->errors, (uint32_t)problem->line,
                         problem->column > 0 ? (uint32_t)problem->column : 1, "syntax",
                         line_has_expression(bytes, length, problem->line)
                             ? "inside [ ] and { } an expression needs quotes: \"${{ x }}\""
                             : "",
                         "not YAML: %s", problem->msg ? problem->msg : "syntax error");
    else
        refuse(build, "syntax", "", problem && problem->msg ? problem->msg : "not YAML");
    return PAWL_E_INVALID;
}

int pawl_yaml_parse(const char *bytes, size_t length, const struct pawl_load_limits *limits,
                    struct pawl_arena *arena, struct pawl_yaml_node **root, struct pawl_load_errors *errors)
{
    struct build build = {.limits = limits, .arena = arena, .errors = errors, .line = 1, .column = 1};
    struct fy_diag_cfg quiet;
    struct fy_parser *parser = NULL;
    struct fy_event *event;
    int error = -ENOMEM;
    fy_diag_cfg_default(&quiet);
    quiet.fp = NULL;
    struct fy_diag *diag = fy_diag_create(&quiet);
    build.open = calloc((size_t)limits->depth_max + 1, sizeof *build.open);
    if (!diag || !build.open)
        goto free_all;
    fy_diag_set_collect_errors(diag, true);
    /* The depth is ours to check: libfyaml's own limit gives an error without a place. */
    struct fy_parse_cfg config = {.flags = FYPCF_QUIET | FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE |
                                           FYPCF_DISABLE_DEPTH_LIMIT,
                                  .diag = diag};
    parser = fy_parser_create(&config);
    if (!parser || fy_parser_set_string(parser, bytes, length) != 0)
        goto free_all;
    error = 0;
    errno = 0; /* the parser does not tell a want of memory from a mistake, and may go on without a value */
    while (error == 0 && (event = fy_parser_parse(parser))) {
        error = on_event(&build, event);
        fy_parser_event_free(parser, event);
    }
    if (errno == ENOMEM)
        error = -ENOMEM;
    else if (error == 0 && fy_parser_get_stream_error(parser))
        error = tell_syntax(&build, diag, bytes, length);
    if (error == 0)
        *root = build.root;
free_all:
    if (parser)
        fy_parser_destroy(parser);
    if (diag)
        fy_diag_destroy(diag);
    free(build.open);
    free(build.anchors);
    return error;
}

/* ---- reading ---- */

struct pawl_yaml_node *pawl_yaml_find(const struct pawl_yaml_node *mapping, const char *key,
                                      struct pawl_yaml_node **key_out)
{
    for (struct pawl_yaml_item *item = mapping->items; item; item = item->next)
        if (item->key && strcmp(item->key->text, key) == 0) {
            if (key_out)
                *key_out = item->key;
            return item->value;
        }
    return NULL;
}

bool pawl_yaml_is(const struct pawl_yaml_node *node, const char *text)
{
    return node->kind == PAWL_YAML_SCALAR && strcmp(node->text, text) == 0;
}

bool pawl_yaml_is_null(const struct pawl_yaml_node *node)
{
    return node->kind == PAWL_YAML_SCALAR && node->style == PAWL_YAML_PLAIN &&
           (node->length == 0 || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0 ||
            strcmp(node->text, "Null") == 0 || strcmp(node->text, "NULL") == 0);
}

/* ---- places inside of a scalar ---- */

static size_t utf8_step(const char *text, size_t at, size_t length)
{
    size_t next = at + 1;
    while (next < length && ((unsigned char)text[next] & 0xc0) == 0x80)
        next++;
    return next - at;
}

/* Bytes that an escape takes in the file. */
static size_t escape_bytes(const char *source, size_t at, size_t end)
{
    char c = at + 1 < end ? source[at + 1] : '\0';
    size_t bytes = c == 'x' ? 4 : c == 'u' ? 6 : c == 'U' ? 10 : 2;
    return at + bytes > end ? end - at : bytes;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

void pawl_yaml_place(const struct pawl_yaml_node *node, const char *source, size_t source_bytes,
                     size_t offset, uint32_t *line_out, uint32_t *column_out)
{
    size_t at = node->source_start, end = node->source_end < source_bytes ? node->source_end : source_bytes;
    size_t read = 0;
    /* Walk text and source side by side; what only the source has is quoting, indentation and folds. */
    while (read < offset && at < end && read < node->length) {
        char c = node->text[read];
        if (node->style == PAWL_YAML_DOUBLE_QUOTED && source[at] == '\\') {
            bool folded = at + 1 < end && source[at + 1] == '\n';
            at += escape_bytes(source, at, end);
            while (folded && at < end && is_blank(source[at]))
                at++;
            read += folded ? 0 : utf8_step(node->text, read, node->length);
        } else if (node->style == PAWL_YAML_SINGLE_QUOTED && c == '\'' && source[at] == '\'') {
            at += 2;
            read++;
        } else if (source[at] == c) {
            at++;
            read++;
        } else if (source[at] == '\n' && c == ' ') {
            at++;
            read++;
        } else if (is_blank(source[at])) {
            at++;
        } else {
            break;
        }
    }
    while (at < end && read == offset && read < node->length && is_blank(source[at]) &&
           source[at] != node->text[read])
        at++;
    uint32_t line = 1, column = 1;
    for (size_t i = 0; i < at && i < source_bytes; i++) {
        if (source[i] == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)source[i] & 0xc0) != 0x80) {
            column++;
        }
    }
    *line_out = line;
    *column_out = column;
}
