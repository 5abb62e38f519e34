/*
 * expr_call.c - what operators and functions do with values.
 *
 * Runs in the scheduler. Types are checked again here: the compiler knows them only in part. No I/O.
 */
#include <math.h>
#include <string.h>

#include "scheduler/expr_eval.h"
#include "shm/error.h"

enum { JSON_DEPTH_MAX = 32 };

static bool is_number(const struct pawl_value *value)
{
    return value->kind == PAWL_VALUE_INT || value->kind == PAWL_VALUE_DOUBLE;
}

static double as_double(const struct pawl_value *value)
{
    return value->kind == PAWL_VALUE_INT ? (double)value->integer : value->real;
}

static bool is_text(const struct pawl_value *value)
{
    return value->kind == PAWL_VALUE_STRING;
}

/* ---- operators ---- */

static int compute_int(struct pawl_evaluation *evaluation, enum pawl_op op, int64_t left, int64_t right,
                       struct pawl_value *value_out)
{
    int64_t result = 0;
    bool overflow = false;
    if ((op == PAWL_OP_DIV || op == PAWL_OP_MOD) && right == 0)
        return pawl_eval_refuse(evaluation, PAWL_E_INVALID, "division by zero");
    if (op == PAWL_OP_ADD)
        overflow = __builtin_add_overflow(left, right, &result);
    else if (op == PAWL_OP_SUB)
        overflow = __builtin_sub_overflow(left, right, &result);
    else if (op == PAWL_OP_MUL)
        overflow = __builtin_mul_overflow(left, right, &result);
    else if (left == INT64_MIN && right == -1)
        overflow = op == PAWL_OP_DIV; /* the rest is 0 */
    else if (op == PAWL_OP_MOD)
        result = left % right;
    else if (left % right == 0)
        result = left / right;
    else {
        *value_out = pawl_value_double((double)left / (double)right);
        return 0;
    }
    *value_out = pawl_value_int(result);
    return overflow ? pawl_eval_refuse(evaluation, PAWL_E_INVALID, "integer overflow") : 0;
}

static int compute(struct pawl_evaluation *evaluation, enum pawl_op op, const struct pawl_value *left,
                   const struct pawl_value *right, struct pawl_value *value_out)
{
    if (!is_number(left) || !is_number(right))
        return pawl_eval_type(evaluation, op, is_number(left) ? right : left);
    if (left->kind == PAWL_VALUE_INT && right->kind == PAWL_VALUE_INT)
        return compute_int(evaluation, op, left->integer, right->integer, value_out);
    double a = as_double(left), b = as_double(right), result;
    if ((op == PAWL_OP_DIV || op == PAWL_OP_MOD) && b == 0)
        return pawl_eval_refuse(evaluation, PAWL_E_INVALID, "division by zero");
    result = op == PAWL_OP_ADD   ? a + b
             : op == PAWL_OP_SUB ? a - b
             : op == PAWL_OP_MUL ? a * b
             : op == PAWL_OP_DIV ? a / b
                                 : fmod(a, b);
    if (!isfinite(result))
        return pawl_eval_refuse(evaluation, PAWL_E_INVALID, "number overflow");
    *value_out = pawl_value_double(result);
    return 0;
}

static int add(struct pawl_evaluation *evaluation, const struct pawl_value *left,
               const struct pawl_value *right, struct pawl_value *value_out)
{
    int error = 0;
    if (!is_text(left) || !is_text(right))
        return is_text(left) ? pawl_eval_type(evaluation, PAWL_OP_ADD, right)
                             : compute(evaluation, PAWL_OP_ADD, left, right, value_out);
    char *text = pawl_eval_made(evaluation, left->count + right->count, &error);
    if (!text)
        return error;
    if (left->count)
        memcpy(text, left->bytes, left->count);
    if (right->count)
        memcpy(text + left->count, right->bytes, right->count);
    *value_out = pawl_value_bytes(text, left->count + right->count);
    return 0;
}

static int compare_texts(const struct pawl_value *left, const struct pawl_value *right)
{
    size_t shorter = left->count < right->count ? left->count : right->count;
    int order = shorter ? memcmp(left->bytes, right->bytes, shorter) : 0;
    return order ? order : (left->count > right->count) - (left->count < right->count);
}

static int compare(struct pawl_evaluation *evaluation, enum pawl_op op, const struct pawl_value *left,
                   const struct pawl_value *right, struct pawl_value *value_out)
{
    int order;
    if (is_text(left) && is_text(right)) {
        order = compare_texts(left, right);
    } else if (!is_number(left) || !is_number(right)) {
        return pawl_eval_type(evaluation, op, is_number(left) || is_text(left) ? right : left);
    } else if (left->kind == PAWL_VALUE_INT && right->kind == PAWL_VALUE_INT) {
        order = (left->integer > right->integer) - (left->integer < right->integer);
    } else {
        double a = as_double(left), b = as_double(right);
        order = (a > b) - (a < b);
    }
    *value_out = pawl_value_bool(op == PAWL_OP_LT   ? order < 0
                                 : op == PAWL_OP_LE ? order <= 0
                                 : op == PAWL_OP_GT ? order > 0
                                                    : order >= 0);
    return 0;
}

static int source_failed(struct pawl_evaluation *evaluation, int error)
{
    return pawl_eval_refuse(evaluation, error, "%s",
                            error == PAWL_E_LIMIT ? "the value is too large" : pawl_error_text(error));
}

static int contains(struct pawl_evaluation *evaluation, enum pawl_op op, const struct pawl_value *needle,
                    const struct pawl_value *hay, struct pawl_value *value_out)
{
    bool found = false;
    if (hay->kind == PAWL_VALUE_MAP) {
        found = is_text(needle) && pawl_value_get(hay, needle->bytes, needle->count);
    } else if (is_text(hay)) {
        if (!is_text(needle))
            return pawl_eval_type(evaluation, op, needle);
        found = needle->count == 0 ||
                (hay->count > 0 && memmem(hay->bytes, hay->count, needle->bytes, needle->count));
    } else if (!pawl_value_is_list(hay)) {
        return pawl_eval_type(evaluation, op, hay);
    } else {
        for (uint64_t i = 0; i < hay->count && !found; i++) {
            struct pawl_value element;
            int error = pawl_value_at(hay, i, evaluation->arena, &element);
            int equal = error < 0 ? error : pawl_value_equal(&element, needle, evaluation->arena);
            if (equal < 0)
                return source_failed(evaluation, equal);
            found = equal;
        }
    }
    *value_out = pawl_value_bool(found == (op == PAWL_OP_IN));
    return 0;
}

static int get(struct pawl_evaluation *evaluation, const struct pawl_value *container,
               const struct pawl_value *key, struct pawl_value *value_out)
{
    if (container->kind == PAWL_VALUE_MAP && is_text(key)) {
        const struct pawl_value *found = pawl_value_get(container, key->bytes, key->count);
        if (!found)
            return pawl_eval_refuse(evaluation, PAWL_E_NOT_FOUND, "there is no key `%.*s`",
                                    key->count > 64 ? 64 : (int)key->count, key->bytes);
        *value_out = *found;
        return 0;
    }
    if (container->kind == PAWL_VALUE_NULL && (is_text(key) || key->kind == PAWL_VALUE_INT))
        return pawl_eval_refuse(evaluation, PAWL_E_NOT_FOUND, "null has no keys and no elements");
    if (!pawl_value_is_list(container) || key->kind != PAWL_VALUE_INT)
        return pawl_eval_refuse(evaluation, PAWL_E_INVALID, "%s has no element by %s",
                                pawl_value_kind_name(container->kind), pawl_value_kind_name(key->kind));
    uint64_t index = (uint64_t)key->integer; /* -1 is the last one */
    if (key->integer < 0)
        index += container->count;
    if (index >= container->count)
        return pawl_eval_refuse(evaluation, PAWL_E_NOT_FOUND, "there is no element %lld in a list of %zu",
                                (long long)key->integer, container->count);
    int error = pawl_value_at(container, index, evaluation->arena, value_out);
    return error < 0 ? source_failed(evaluation, error) : 0;
}

int pawl_eval_operator(struct pawl_evaluation *evaluation, enum pawl_op op, const struct pawl_value *left,
                       const struct pawl_value *right, struct pawl_value *value_out)
{
    if (op == PAWL_OP_EQ || op == PAWL_OP_NE) {
        int equal = pawl_value_equal(left, right, evaluation->arena);
        if (equal < 0)
            return source_failed(evaluation, equal);
        *value_out = pawl_value_bool(equal == (op == PAWL_OP_EQ));
        return 0;
    }
    if (op >= PAWL_OP_LT && op <= PAWL_OP_GE)
        return compare(evaluation, op, left, right, value_out);
    if (op == PAWL_OP_IN || op == PAWL_OP_NOT_IN)
        return contains(evaluation, op, left, right, value_out);
    if (op == PAWL_OP_ADD)
        return add(evaluation, left, right, value_out);
    if (op == PAWL_OP_GET)
        return get(evaluation, left, right, value_out);
    return compute(evaluation, op, left, right, value_out);
}

/* ---- functions ---- */

static int64_t count_characters(const struct pawl_value *text)
{
    int64_t count = 0;
    for (size_t i = 0; i < text->count; i++)
        count += ((unsigned char)text->bytes[i] & 0xc0) != 0x80;
    return count;
}

static struct pawl_value path_base(struct pawl_value path)
{
    while (path.count > 1 && path.bytes[path.count - 1] == '/')
        path.count--;
    const char *slash = path.count > 1 ? memrchr(path.bytes, '/', path.count) : NULL;
    if (slash) {
        path.count -= (size_t)(slash + 1 - path.bytes);
        path.bytes = slash + 1;
    }
    return path;
}

static struct pawl_value path_directory(struct pawl_value path)
{
    while (path.count > 1 && path.bytes[path.count - 1] == '/')
        path.count--;
    const char *slash = path.count ? memrchr(path.bytes, '/', path.count) : NULL;
    if (!slash)
        return pawl_value_text(".");
    path.count = (size_t)(slash - path.bytes);
    while (path.count > 0 && path.bytes[path.count - 1] == '/')
        path.count--;
    return path.count ? path : pawl_value_text("/");
}

static struct pawl_value without_suffix(struct pawl_value name, const struct pawl_value *suffix)
{
    if (suffix->count && name.count > suffix->count &&
        memcmp(name.bytes + name.count - suffix->count, suffix->bytes, suffix->count) == 0)
        name.count -= suffix->count;
    return name;
}

static int join(struct pawl_evaluation *evaluation, const struct pawl_value *list,
                struct pawl_value separator, struct pawl_value *value_out)
{
    size_t total = 0;
    int error = 0;
    struct pawl_value *texts = pawl_arena_alloc(evaluation->arena, list->count * sizeof *texts);
    if (!texts)
        return source_failed(evaluation, PAWL_E_LIMIT);
    for (uint64_t i = 0; i < list->count; i++) {
        struct pawl_value element;
        const char *bytes;
        size_t length;
        error = pawl_value_at(list, i, evaluation->arena, &element);
        if (error < 0)
            return source_failed(evaluation, error);
        error = pawl_eval_text(evaluation, &element, &bytes, &length);
        if (error < 0)
            return error;
        texts[i] = pawl_value_bytes(bytes, length);
        total += length + (i > 0 ? separator.count : 0);
        if (total > PAWL_EXPR_TEXT_BYTES_MAX)
            break; /* made() says so */
    }
    char *text = pawl_eval_made(evaluation, total, &error);
    if (!text)
        return error;
    char *at = text;
    for (uint64_t i = 0; i < list->count; i++) {
        if (i > 0 && separator.count)
            at = mempcpy(at, separator.bytes, separator.count);
        if (texts[i].count)
            at = mempcpy(at, texts[i].bytes, texts[i].count);
    }
    *value_out = pawl_value_bytes(text, total);
    return 0;
}

/* The next piece of @text from *@at on: up to a separator, or between white space if there is none. */
static bool next_piece(const struct pawl_value *text, const struct pawl_value *separator, size_t *at,
                       struct pawl_value *piece)
{
    const char *end = text->bytes + text->count;
    if (!separator) {
        while (*at < text->count && strchr(" \t\r\n\v\f", text->bytes[*at]) && text->bytes[*at])
            ++*at;
        size_t start = *at;
        while (*at < text->count && !(strchr(" \t\r\n\v\f", text->bytes[*at]) && text->bytes[*at]))
            ++*at;
        *piece = pawl_value_bytes(text->bytes + start, *at - start);
        return *at > start;
    }
    if (*at > text->count)
        return false;
    const char *from = text->bytes + *at;
    const char *found =
        from < end ? memmem(from, (size_t)(end - from), separator->bytes, separator->count) : NULL;
    *piece = pawl_value_bytes(from, (size_t)((found ? found : end) - from));
    *at = found ? (size_t)(found - text->bytes) + separator->count : text->count + 1;
    return true;
}

static int split(struct pawl_evaluation *evaluation, const struct pawl_value *text,
                 const struct pawl_value *separator, struct pawl_value *value_out)
{
    struct pawl_value piece;
    size_t count = 0, at = 0, i = 0;
    if (separator && separator->count == 0)
        return pawl_eval_refuse(evaluation, PAWL_E_INVALID, "`split()` cannot split at an empty text");
    while (next_piece(text, separator, &at, &piece))
        count++;
    struct pawl_value *items = pawl_arena_alloc(evaluation->arena, count * sizeof *items);
    if (!items)
        return source_failed(evaluation, PAWL_E_LIMIT);
    at = 0;
    while (next_piece(text, separator, &at, &piece))
        items[i++] = piece;
    *value_out = (struct pawl_value){.kind = PAWL_VALUE_LIST, .count = count, .items = items};
    return 0;
}

/* Text is parsed; anything else becomes JSON text. */
static int json(struct pawl_evaluation *evaluation, const struct pawl_value *value,
                struct pawl_value *value_out)
{
    if (is_text(value)) {
        struct pawl_json_error problem;
        int error = pawl_value_parse_json(value->bytes, value->count, JSON_DEPTH_MAX, evaluation->arena,
                                          value_out, &problem);
        return error < 0 ? pawl_eval_refuse(evaluation, error, "this is no JSON: %s", problem.text) : 0;
    }
    const char *bytes = "null";
    size_t length = 4;
    int error = value->kind == PAWL_VALUE_NULL ? 0 : pawl_eval_text(evaluation, value, &bytes, &length);
    *value_out = pawl_value_bytes(bytes, length);
    return error;
}

/* For a shell: one word, whatever is in it. */
static int quote_one(struct pawl_evaluation *evaluation, const struct pawl_value *value,
                     struct pawl_value *value_out)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@%+,";
    const char *bytes;
    size_t length, quotes = 0, plain_bytes = 0;
    int error = pawl_eval_text(evaluation, value, &bytes, &length);
    if (error < 0)
        return error;
    for (size_t i = 0; i < length; i++) {
        quotes += bytes[i] == '\'';
        plain_bytes += bytes[i] && strchr(plain, bytes[i]);
    }
    *value_out = pawl_value_bytes(bytes, length);
    if (length > 0 && plain_bytes == length)
        return 0;
    char *text = pawl_eval_made(evaluation, length + 2 + 3 * quotes, &error), *at = text;
    if (!text)
        return error;
    *at++ = '\'';
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] == '\'')
            at = mempcpy(at, "'\\''", 4);
        else
            *at++ = bytes[i];
    }
    *at++ = '\'';
    *value_out = pawl_value_bytes(text, (size_t)(at - text));
    return 0;
}

static int quote(struct pawl_evaluation *evaluation, const struct pawl_value *value,
                 struct pawl_value *value_out)
{
    if (!pawl_value_is_list(value))
        return quote_one(evaluation, value, value_out);
    struct pawl_value *words = pawl_arena_alloc(evaluation->arena, value->count * sizeof *words);
    if (!words)
        return source_failed(evaluation, PAWL_E_LIMIT);
    for (uint64_t i = 0; i < value->count; i++) {
        struct pawl_value element;
        int error = pawl_value_at(value, i, evaluation->arena, &element);
        if (error < 0)
            return source_failed(evaluation, error);
        error = quote_one(evaluation, &element, &words[i]);
        if (error < 0)
            return error;
    }
    struct pawl_value list = {.kind = PAWL_VALUE_LIST, .count = value->count, .items = words};
    return join(evaluation, &list, pawl_value_text(" "), value_out);
}

static int length_of(struct pawl_evaluation *evaluation, const struct pawl_value *value,
                     struct pawl_value *value_out)
{
    if (is_text(value))
        *value_out = pawl_value_int(count_characters(value));
    else if (pawl_value_is_list(value) || value->kind == PAWL_VALUE_MAP)
        *value_out = pawl_value_int((int64_t)value->count);
    else
        return pawl_eval_type(evaluation, PAWL_OP_LEN, value);
    return 0;
}

int pawl_eval_call(struct pawl_evaluation *evaluation, enum pawl_op op, const struct pawl_value *arguments,
                   uint32_t count, struct pawl_value *value_out)
{
    const struct pawl_value *first = &arguments[0], *second = count > 1 ? &arguments[1] : NULL;
    if (op == PAWL_OP_LEN)
        return length_of(evaluation, first, value_out);
    if (op == PAWL_OP_JSON)
        return json(evaluation, first, value_out);
    if (op == PAWL_OP_QUOTE)
        return quote(evaluation, first, value_out);
    if (second && !is_text(second))
        return pawl_eval_type(evaluation, op, second);
    if (op == PAWL_OP_JOIN) {
        if (!pawl_value_is_list(first))
            return pawl_eval_type(evaluation, op, first);
        return join(evaluation, first, second ? *second : pawl_value_text(" "), value_out);
    }
    if (!is_text(first))
        return pawl_eval_type(evaluation, op, first);
    if (op == PAWL_OP_SPLIT)
        return split(evaluation, first, second, value_out);
    if (op == PAWL_OP_LINES) {
        int error = pawl_lines_init(evaluation->arena, first->bytes, first->count, value_out);
        return error < 0 ? source_failed(evaluation, error) : 0;
    }
    *value_out = op == PAWL_OP_DIRNAME ? path_directory(*first) : path_base(*first);
    if (second)
        *value_out = without_suffix(*value_out, second);
    return 0;
}
