/*
 * loader_value.c - what a scalar, a list or a map of a file means.
 *
 * Runs in clients. Plain scalars follow the core schema of YAML 1.2 (`yes` is text); quoted ones are text.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/loader_parts.h"
#include "runtime/units.h"
#include "scheduler/suggest.h"
#include "shm/error.h"

void pawl_loader_refuse(struct pawl_loader *loader, const struct pawl_yaml_node *node, const char *code,
                        const char *hint, const char *format, ...)
{
    char text[sizeof loader->errors->errors[0].text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    pawl_load_refuse(loader->errors, node->line, node->column, code, hint, "%s", text);
}

const char *pawl_loader_kind(const struct pawl_yaml_node *node)
{
    if (node->kind == PAWL_YAML_SEQUENCE)
        return "a list";
    return node->kind == PAWL_YAML_MAPPING ? "a map" : pawl_yaml_is_null(node) ? "nothing" : "a single value";
}

static const char *wanted(uint8_t kinds)
{
    switch (kinds) {
    case PAWL_TAKES_SCALAR:
        return "a single value";
    case PAWL_TAKES_SEQUENCE:
        return "a list";
    case PAWL_TAKES_MAPPING:
        return "a map";
    case PAWL_TAKES_SCALAR | PAWL_TAKES_SEQUENCE:
        return "a single value or a list";
    case PAWL_TAKES_SCALAR | PAWL_TAKES_MAPPING:
        return "a single value or a map";
    default:
        return "a list or a map";
    }
}

void pawl_loader_check_keys(struct pawl_loader *loader, const struct pawl_yaml_node *mapping,
                            const struct pawl_loader_key *keys, const char *what)
{
    for (const struct pawl_yaml_item *item = mapping->items; item; item = item->next) {
        const struct pawl_loader_key *key = keys;
        struct pawl_suggest suggest;
        char hint[96] = "";
        pawl_suggest_init(&suggest, item->key->text, item->key->length);
        for (; key->name && strcmp(key->name, item->key->text) != 0; key++)
            pawl_suggest_offer(&suggest, key->name, strlen(key->name));
        if (!key->name) {
            if (suggest.best)
                snprintf(hint, sizeof hint, "did you mean `%s`?", suggest.best);
            pawl_loader_refuse(loader, item->key, "unknown_key", hint, "%s has no key `%.64s`", what,
                               item->key->text);
        } else if (!(key->kinds & 1u << item->value->kind)) {
            pawl_loader_refuse(loader, item->value, "type", "", "`%s` takes %s, not %s", key->name,
                               wanted(key->kinds), pawl_loader_kind(item->value));
        }
    }
}

const struct pawl_yaml_node *pawl_loader_get(const struct pawl_yaml_node *mapping, const char *key,
                                             uint8_t kinds)
{
    const struct pawl_yaml_node *node = mapping ? pawl_yaml_find(mapping, key, NULL) : NULL;
    return node && kinds & 1u << node->kind ? node : NULL;
}

/* ---- scalars ---- */

bool pawl_loader_name(struct pawl_loader *loader, const struct pawl_yaml_node *node, const char *what)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    bool good = node->length > 0 && node->length <= PAWL_NAME_BYTES_MAX &&
                strspn(node->text, letters) == node->length && node->text[0] != '.' && node->text[0] != '-';
    if (!good)
        pawl_loader_refuse(loader, node, "name", "1 to 64 of A-Z a-z 0-9 _ . -, not beginning with . or -",
                           "`%.80s` cannot be the name of a %s", node->text, what);
    return good;
}

static bool is_plain(const struct pawl_yaml_node *node)
{
    return node->kind == PAWL_YAML_SCALAR && node->style == PAWL_YAML_PLAIN;
}

/* true, false: 1, 0; else -1 */
static int truth_of(const struct pawl_yaml_node *node)
{
    if (is_plain(node) && (strcmp(node->text, "true") == 0 || strcmp(node->text, "True") == 0 ||
                           strcmp(node->text, "TRUE") == 0))
        return 1;
    if (is_plain(node) && (strcmp(node->text, "false") == 0 || strcmp(node->text, "False") == 0 ||
                           strcmp(node->text, "FALSE") == 0))
        return 0;
    return -1;
}

bool pawl_loader_bool(struct pawl_loader *loader, const struct pawl_yaml_node *node, const char *key,
                      bool *value_out)
{
    int truth = truth_of(node);
    if (truth < 0)
        pawl_loader_refuse(loader, node, "type", "", "`%s` takes true or false, not `%.64s`", key,
                           node->text);
    else
        *value_out = truth;
    return truth >= 0;
}

/* 0: no integer; 1: *value_out; -1: an integer that does not fit */
static int integer_of(const struct pawl_yaml_node *node, int64_t *value_out)
{
    const char *text = node->text, *digits = text + (*text == '-' || *text == '+');
    int base = 10;
    char *end;
    if (digits == text && text[0] == '0' && (text[1] == 'x' || text[1] == 'o')) {
        base = text[1] == 'x' ? 16 : 8;
        text = digits = text + 2;
    }
    size_t length = strspn(digits, base == 16  ? "0123456789abcdefABCDEF"
                                   : base == 8 ? "01234567"
                                               : "0123456789");
    if (length == 0 || digits[length] != '\0')
        return 0;
    errno = 0;
    long long value = strtoll(text, &end, base);
    if (errno == ERANGE || *end != '\0')
        return -1;
    *value_out = value;
    return 1;
}

static bool is_float(const char *text)
{
    text += *text == '-' || *text == '+';
    size_t whole = strspn(text, "0123456789");
    text += whole;
    size_t part = 0;
    if (*text == '.') {
        text++;
        part = strspn(text, "0123456789");
        text += part;
    }
    if (whole + part == 0)
        return false;
    if (*text == 'e' || *text == 'E') {
        text++;
        text += *text == '-' || *text == '+';
        size_t exponent = strspn(text, "0123456789");
        if (exponent == 0)
            return false;
        text += exponent;
    }
    return *text == '\0';
}

static bool is_not_finite(const char *text)
{
    static const char *const names[] = {".inf",  ".Inf",  ".INF", "+.inf", "-.inf",
                                        "-.Inf", "-.INF", ".nan", ".NaN",  ".NAN"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0)
            return true;
    return false;
}

bool pawl_loader_scalar(struct pawl_loader *loader, const struct pawl_yaml_node *node,
                        struct pawl_value *value_out)
{
    int64_t integer = 0;
    *value_out = pawl_value_bytes(node->text, node->length);
    if (!is_plain(node))
        return true;
    if (pawl_yaml_is_null(node)) {
        *value_out = pawl_value_null();
        return true;
    }
    if (truth_of(node) >= 0) {
        *value_out = pawl_value_bool(truth_of(node) == 1);
        return true;
    }
    int whole = integer_of(node, &integer);
    if (whole > 0) {
        *value_out = pawl_value_int(integer);
    } else if (whole < 0 || is_not_finite(node->text) ||
               (is_float(node->text) && !isfinite(strtod(node->text, NULL)))) {
        pawl_loader_refuse(loader, node, "type", "quote it if it is meant as text",
                           "number `%.64s` is out of range", node->text);
        return false;
    } else if (is_float(node->text)) {
        *value_out = pawl_value_double(strtod(node->text, NULL));
    }
    return true;
}

bool pawl_loader_int(struct pawl_loader *loader, const struct pawl_yaml_node *node, const char *key,
                     int64_t least, int64_t most, int64_t *value_out)
{
    int64_t value = 0;
    if (is_plain(node) && integer_of(node, &value) > 0 && value >= least && value <= most) {
        *value_out = value;
        return true;
    }
    pawl_loader_refuse(loader, node, "type", "", "`%s` takes a whole number from %lld to %lld, not `%.64s`",
                       key, (long long)least, (long long)most, node->text);
    return false;
}

bool pawl_loader_double(struct pawl_loader *loader, const struct pawl_yaml_node *node, const char *key,
                        double least, double most, double *value_out)
{
    double value = is_plain(node) && is_float(node->text) ? strtod(node->text, NULL) : NAN;
    if (value >= least && value <= most) {
        *value_out = value;
        return true;
    }
    pawl_loader_refuse(loader, node, "type", "", "`%s` takes a number from %g to %g, not `%.64s`", key, least,
                       most, node->text);
    return false;
}

bool pawl_loader_duration(struct pawl_loader *loader, const struct pawl_yaml_node *node, const char *key,
                          uint64_t *ns_out)
{
    if (node->kind == PAWL_YAML_SCALAR && pawl_parse_duration_ns(node->text, node->length, ns_out) == 0)
        return true;
    pawl_loader_refuse(loader, node, "type", "write 250ms, 10s, 5m, 1h30m or 2d; a bare number is seconds",
                       "`%s` takes a duration, not `%.64s`", key,
                       node->kind == PAWL_YAML_SCALAR ? node->text : "...");
    return false;
}

/* ---- constants ---- */

bool pawl_loader_value(struct pawl_loader *loader, const struct pawl_yaml_node *node,
                       struct pawl_value *value_out)
{
    bool good = true;
    size_t i = 0;
    if (node->kind == PAWL_YAML_SCALAR)
        return pawl_loader_scalar(loader, node, value_out);
    bool map = node->kind == PAWL_YAML_MAPPING;
    struct pawl_value *items = map ? NULL : pawl_arena_alloc(&loader->arena, node->count * sizeof *items);
    struct pawl_pair *pairs = map ? pawl_arena_alloc(&loader->arena, node->count * sizeof *pairs) : NULL;
    if (!items && !pairs) {
        loader->error = -ENOMEM;
        return false;
    }
    for (const struct pawl_yaml_item *item = node->items; item; item = item->next, i++) {
        struct pawl_value *place = map ? &pairs[i].value : &items[i];
        if (map) {
            pairs[i].key = item->key->text;
            pairs[i].key_bytes = item->key->length;
        }
        good = pawl_loader_value(loader, item->value, place) && good;
    }
    *value_out = (struct pawl_value){.kind = map ? PAWL_VALUE_MAP : PAWL_VALUE_LIST, .count = node->count};
    if (map)
        value_out->pairs = pairs;
    else
        value_out->items = items;
    return good;
}

/* ---- templates ---- */

static void tell_diagnostic(struct pawl_loader *loader, const struct pawl_yaml_node *node, int error,
                            const struct pawl_expr_diagnostic *diagnostic)
{
    uint32_t line, column;
    if (!diagnostic->text[0]) {
        loader->error = error;
        return;
    }
    pawl_yaml_place(node, loader->source, loader->source_bytes, diagnostic->byte_offset, &line, &column);
    pawl_load_refuse(loader->errors, line, column, "expression", diagnostic->hint, "%s", diagnostic->text);
}

uint32_t pawl_loader_text(struct pawl_loader *loader, const struct pawl_yaml_node *node,
                          const struct pawl_expr_scope *scope)
{
    struct pawl_expr_diagnostic diagnostic = {.text = ""};
    uint32_t index = PAWL_PLAN_NONE;
    int error = pawl_template_compile(loader->builder, scope, node->text, node->length, &index, &diagnostic);
    if (error == 0)
        return index;
    tell_diagnostic(loader, node, error, &diagnostic);
    return PAWL_PLAN_NONE;
}

static bool has_expression(const struct pawl_yaml_node *node)
{
    if (node->kind == PAWL_YAML_SCALAR)
        return pawl_template_has_expression(node->text, node->length, NULL);
    for (const struct pawl_yaml_item *item = node->items; item; item = item->next)
        if (has_expression(item->value))
            return true;
    return false;
}

/* Pushes a node; parts without expressions become one constant each. */
static bool push_node(struct pawl_loader *loader, struct pawl_template_maker *maker,
                      const struct pawl_yaml_node *node)
{
    struct pawl_expr_diagnostic diagnostic = {.text = ""};
    struct pawl_value value;
    int error = 0;
    if (!has_expression(node)) {
        if (!pawl_loader_value(loader, node, &value))
            return false;
        error = pawl_template_maker_constant(maker, &value);
    } else if (node->kind == PAWL_YAML_SCALAR) {
        error = pawl_template_maker_source(maker, node->text, node->length, &diagnostic);
        if (error < 0)
            tell_diagnostic(loader, node, error, &diagnostic);
        return error == 0;
    } else {
        for (const struct pawl_yaml_item *item = node->items; item && error == 0; item = item->next) {
            if (item->key) {
                value = pawl_value_bytes(item->key->text, item->key->length);
                error = pawl_template_maker_constant(maker, &value);
            }
            if (error == 0 && !push_node(loader, maker, item->value))
                return false;
        }
        if (error == 0)
            error = node->kind == PAWL_YAML_MAPPING ? pawl_template_maker_map(maker, node->count)
                                                    : pawl_template_maker_list(maker, node->count);
    }
    if (error < 0)
        loader->error = error;
    return error == 0;
}

uint32_t pawl_loader_template(struct pawl_loader *loader, const struct pawl_yaml_node *node,
                              const struct pawl_expr_scope *scope)
{
    struct pawl_template_maker maker;
    uint32_t index = PAWL_PLAN_NONE;
    bool scalar = node->kind == PAWL_YAML_SCALAR;
    pawl_template_maker_init(&maker, loader->builder, scope);
    if (push_node(loader, &maker, node)) {
        int error =
            pawl_template_maker_finish(&maker, scalar ? node->text : "", scalar ? node->length : 0, &index);
        if (error < 0)
            loader->error = error;
    }
    pawl_template_maker_fini(&maker);
    return index;
}

uint32_t pawl_loader_list(struct pawl_loader *loader, const struct pawl_yaml_node *node, const char *key,
                          const struct pawl_expr_scope *scope)
{
    const uint32_t list = 1u << PAWL_VALUE_LIST;
    char quoted[48];
    if (node->kind == PAWL_YAML_SCALAR && !has_expression(node)) {
        snprintf(quoted, sizeof quoted, "write `%.16s: [a, b]` or one ${{ }}", key);
        pawl_loader_refuse(loader, node, "type", quoted, "`%s` takes a list, not `%.64s`", key, node->text);
        return PAWL_PLAN_NONE;
    }
    uint32_t index = pawl_loader_template(loader, node, scope);
    if (index == PAWL_PLAN_NONE)
        return index;
    uint32_t types = pawl_template_types(loader->builder, index);
    if (types & list)
        return index;
    int kind = 0;
    while (!(types & 1u << kind))
        kind++;
    pawl_loader_refuse(
        loader, node, "type",
        kind == PAWL_VALUE_STRING ? "`lines()`, `split()` and `json()` make lists of text" : "",
        "`%s` takes a list, but this is %s", key, pawl_value_kind_name((enum pawl_value_kind)kind));
    return PAWL_PLAN_NONE;
}

static bool is_variable_name(const struct pawl_yaml_node *node)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    return node->length > 0 && node->length <= 255 && strspn(node->text, letters) == node->length &&
           !(node->text[0] >= '0' && node->text[0] <= '9');
}

void pawl_loader_env(struct pawl_loader *loader, const struct pawl_yaml_node *mapping, uint32_t step_index,
                     const struct pawl_expr_scope *scope)
{
    struct pawl_plan_env *entries = calloc((size_t)mapping->count + 1, sizeof *entries);
    uint32_t count = 0;
    if (!entries) {
        loader->error = -ENOMEM;
        return;
    }
    for (const struct pawl_yaml_item *item = mapping->items; item; item = item->next) {
        if (!is_variable_name(item->key))
            pawl_loader_refuse(loader, item->key, "name", "letters, digits and _, not beginning with a digit",
                               "`%.64s` cannot be the name of a variable", item->key->text);
        else if (item->value->kind != PAWL_YAML_SCALAR)
            pawl_loader_refuse(loader, item->value, "type", "",
                               "variable `%.64s` takes a single value, not %s", item->key->text,
                               pawl_loader_kind(item->value));
        else {
            struct pawl_plan_env *entry = &entries[count];
            entry->value = pawl_loader_text(loader, item->value, scope);
            int error =
                pawl_plan_add_string(loader->builder, item->key->text, item->key->length, &entry->name);
            if (error < 0)
                loader->error = error;
            count += entry->value != PAWL_PLAN_NONE && error == 0;
        }
    }
    int error = pawl_plan_set_env(loader->builder, step_index, entries, count);
    if (error < 0)
        loader->error = error;
    free(entries);
}
