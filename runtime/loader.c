/*
 * loader.c - a workflow file from its bytes to a plan.
 *
 * Runs in clients. Reads one file. Each mistake is told with its place; the first one does not hide the next.
 */
#include "runtime/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/loader_parts.h"
#include "runtime/yaml_text.h"
#include "shm/error.h"

static const struct pawl_loader_key root_keys[] = {{"pawl", PAWL_TAKES_SCALAR},
                                                   {"name", PAWL_TAKES_SCALAR},
                                                   {"params", PAWL_TAKES_MAPPING},
                                                   {"env", PAWL_TAKES_MAPPING},
                                                   {"defaults", PAWL_TAKES_MAPPING},
                                                   {"steps", PAWL_TAKES_MAPPING},
                                                   {NULL, 0}};

/* ---- the root ---- */

/* The file's name without directory and .yaml, made to fit the rules of names. */
static void default_name(const char *path, char name[PAWL_NAME_BYTES_MAX + 1])
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    size_t length = strlen(base), used = 0;
    static const char *const endings[] = {".yaml", ".yml"};
    for (size_t i = 0; i < 2; i++) {
        size_t ending = strlen(endings[i]);
        if (length > ending && strcmp(base + length - ending, endings[i]) == 0) {
            length -= ending;
            break;
        }
    }
    for (size_t i = 0; i < length && used < PAWL_NAME_BYTES_MAX; i++) {
        char c = base[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                    (used > 0 && (c == '.' || c == '-'));
        name[used++] = good ? c : '_';
    }
    name[used] = '\0';
    if (used == 0 || strcmp(path, "-") == 0)
        strcpy(name, "workflow");
}

/* May this file be read as the step form? Tells why not. */
static bool is_step_form(struct pawl_loader *loader, const struct pawl_yaml_node *root)
{
    struct pawl_yaml_node *key = NULL;
    if (!root || pawl_yaml_is_null(root)) {
        pawl_load_refuse(loader->errors, 1, 1, "empty", "begin it with `pawl: 1` and `steps:`",
                         "the file is empty");
        return false;
    }
    if (root->kind != PAWL_YAML_MAPPING) {
        pawl_loader_refuse(loader, root, "type", "begin it with `pawl: 1` and `steps:`",
                           "a workflow file is a map, not %s", pawl_loader_kind(root));
        return false;
    }
    struct pawl_yaml_node *version = pawl_yaml_find(root, "pawl", NULL);
    if (!version && (pawl_yaml_find(root, "workflows", &key) || pawl_yaml_find(root, "nodes", &key))) {
        pawl_loader_refuse(loader, key, "unsupported_form", "write `pawl: 1` and `steps:`",
                           "the `%s:` form is not supported here", key->text);
        return false;
    }
    if (!version) {
        pawl_load_refuse(loader->errors, 1, 1, "version", "begin the file with `pawl: 1`",
                         "`pawl: 1` is missing");
        return true;
    }
    if (!pawl_yaml_is(version, "1")) {
        pawl_loader_refuse(loader, version, "version", "write `pawl: 1`",
                           "version `%.32s` of the file form is not known",
                           version->kind == PAWL_YAML_SCALAR ? version->text : "...");
        return false;
    }
    return true;
}

static void load_params(struct pawl_loader *loader, const struct pawl_yaml_node *mapping)
{
    for (const struct pawl_yaml_item *item = mapping->items; item && loader->error == 0; item = item->next) {
        struct pawl_value value;
        if (!pawl_loader_name(loader, item->key, "parameter"))
            continue;
        if (item->value->kind == PAWL_YAML_SCALAR &&
            pawl_template_has_expression(item->value->text, item->value->length, NULL)) {
            pawl_loader_refuse(loader, item->value, "type",
                               "parameters are constants; put the expression where it is used",
                               "the default of `%.64s` holds an expression", item->key->text);
            value = pawl_value_null();
        } else if (!pawl_loader_value(loader, item->value, &value)) {
            value = pawl_value_null();
        }
        int error = pawl_plan_add_param(loader->builder, item->key->text, &value);
        if (error < 0)
            loader->error = error;
    }
}

static void load_root(struct pawl_loader *loader, const char *path, const struct pawl_yaml_node *root)
{
    char name[PAWL_NAME_BYTES_MAX + 1];
    const struct pawl_yaml_node *node = pawl_loader_get(root, "name", PAWL_TAKES_SCALAR);
    const struct pawl_expr_scope scope = {.step_index = PAWL_PLAN_NONE};
    default_name(path, name);
    if (node && pawl_loader_name(loader, node, "workflow"))
        snprintf(name, sizeof name, "%s", node->text);
    loader->error = pawl_plan_builder_create(name, path, &loader->builder);
    if (loader->error < 0)
        return;
    pawl_loader_check_keys(loader, root, root_keys, "a workflow file");
    if ((node = pawl_loader_get(root, "params", PAWL_TAKES_MAPPING)))
        load_params(loader, node);
    if ((node = pawl_loader_get(root, "env", PAWL_TAKES_MAPPING))) {
        pawl_loader_env(loader, node, PAWL_PLAN_NONE, &scope);
        loader->env = pawl_plan_builder_env(loader->builder);
    }
    loader->defaults = pawl_loader_get(root, "defaults", PAWL_TAKES_MAPPING);
    pawl_loader_check_defaults(loader);
    struct pawl_yaml_node *key = NULL;
    struct pawl_yaml_node *steps = pawl_yaml_find(root, "steps", &key);
    if (!steps || (steps->kind == PAWL_YAML_MAPPING && steps->count == 0)) {
        pawl_load_refuse(loader->errors, key ? key->line : 1, key ? key->column : 1, "no_steps",
                         "write `steps: {NAME: {run: [COMMAND]}}`", "the workflow has no steps");
        return;
    }
    if (steps->kind != PAWL_YAML_MAPPING || loader->error < 0)
        return;
    loader->steps_mapping = steps;
    pawl_loader_declare_steps(loader, steps);
    if (loader->error == 0)
        pawl_loader_link_steps(loader);
    if (loader->error == 0)
        pawl_loader_fill_steps(loader);
}

/* ---- entry ---- */

static int check_limits(const struct pawl_load_limits *limits, size_t length, struct pawl_load_errors *errors)
{
    const struct pawl_load_limits most = PAWL_LOAD_LIMITS_MAX;
    if (limits->file_bytes_max > most.file_bytes_max || limits->depth_max > most.depth_max ||
        limits->nodes_max > most.nodes_max || limits->depth_max == 0) {
        pawl_load_refuse(errors, 0, 0, "limit", "at most 64 MiB, depth 64, 1,000,000 nodes",
                         "the limits for workflow files are beyond their maxima");
        return PAWL_E_LIMIT;
    }
    if (length > limits->file_bytes_max) {
        pawl_load_refuse(errors, 0, 0, "limit", "the maximum is 64 MiB", "the file is larger than %llu bytes",
                         (unsigned long long)limits->file_bytes_max);
        return PAWL_E_LIMIT;
    }
    return 0;
}

static void refuse_size(struct pawl_loader *loader)
{
    pawl_load_refuse(loader->errors, 0, 0, "limit", "split it into several workflows",
                     "the workflow is too large: its plan would have more than %d MiB",
                     PAWL_PLAN_BYTES_MAX >> 20);
}

static int outcome(struct pawl_loader *loader, struct pawl_plan **plan_out)
{
    if (loader->error == PAWL_E_LIMIT)
        refuse_size(loader);
    if (loader->error < 0)
        return loader->error;
    if (loader->errors->count > 0)
        return PAWL_E_INVALID;
    int error = pawl_plan_finish(loader->builder, NULL, NULL, plan_out);
    if (error == PAWL_E_LIMIT)
        refuse_size(loader);
    else if (error < 0)
        pawl_load_refuse(loader->errors, 0, 0, "internal", "", "the workflow cannot be made into a plan: %s",
                         pawl_error_text(error));
    return error;
}

int pawl_workflow_load_memory(const char *path, const char *bytes, size_t length,
                              const struct pawl_load_limits *limits, struct pawl_plan **plan_out,
                              struct pawl_load_errors *errors)
{
    const struct pawl_load_limits defaults = PAWL_LOAD_LIMITS_DEFAULT;
    struct pawl_loader loader = {.errors = errors};
    struct pawl_yaml_node *root = NULL;
    if (!limits)
        limits = &defaults;
    errors->count = errors->dropped = 0;
    int error = check_limits(limits, length, errors);
    if (error < 0)
        return error;
    if (length >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) {
        bytes += 3;
        length -= 3;
    }
    error = pawl_text_check(bytes, length, errors);
    if (error < 0)
        return error;
    loader.source = bytes;
    loader.source_bytes = length;
    pawl_arena_init(&loader.arena, 0);
    error = pawl_yaml_parse(bytes, length, limits, &loader.arena, &root, errors);
    if (error == 0) {
        if (is_step_form(&loader, root))
            load_root(&loader, path, root);
        error = outcome(&loader, plan_out);
    }
    pawl_plan_builder_destroy(loader.builder);
    free(loader.steps);
    pawl_arena_fini(&loader.arena);
    return error;
}

int pawl_workflow_load(const char *path, const struct pawl_load_limits *limits, struct pawl_plan **plan_out,
                       struct pawl_load_errors *errors)
{
    const struct pawl_load_limits defaults = PAWL_LOAD_LIMITS_DEFAULT;
    char *bytes = NULL;
    size_t length = 0;
    bool standard_input = strcmp(path, "-") == 0;
    errors->count = errors->dropped = 0;
    int fd = standard_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    int error = fd < 0 ? -errno : 0;
    if (error == 0)
        error =
            pawl_text_read(fd, limits ? limits->file_bytes_max : defaults.file_bytes_max, &bytes, &length);
    if (error < 0)
        pawl_load_refuse(errors, 0, 0, "unreadable", "", "cannot read it: %s", pawl_error_text(error));
    else
        error = pawl_workflow_load_memory(path, bytes, length, limits, plan_out, errors);
    free(bytes);
    if (fd >= 0 && !standard_input)
        close(fd);
    return error;
}
