/*
 * config_handlers.c - reads `handlers:`, every mistake with its place; compares and copies its entries.
 *
 * Runs in: whoever loads the configuration. Whether a plugin is there is not looked at: a scheduler that
 * starts for a command has no use for it. Pure but for memory and the path of the file.
 */
#include "runtime/config_handlers.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#include <jansson.h>

#include "runtime/queue_settings.h"
#include "runtime/submission.h"
#include "runtime/suggest.h"
#include "shm/client_lane.h"
#include "shm/error.h"

struct reading {
    struct pawl_config_handler *handler;
    struct pawl_load_errors *errors;
    int error; /* -ENOMEM */
};

__attribute__((format(printf, 4, 5))) static void refuse(const struct reading *reading,
                                                         const struct pawl_yaml_node *node, const char *code,
                                                         const char *format, ...)
{
    char text[320];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    pawl_load_refuse(reading->errors, node->line, node->column, code, "", "%s", text);
}

static void put(struct reading *reading, char **field, char *text)
{
    free(*field);
    *field = text;
    if (!text)
        reading->error = -ENOMEM;
}

/* ---- values ---- */

static bool is_text(const struct pawl_yaml_node *node)
{
    return node->kind == PAWL_YAML_SCALAR && !pawl_yaml_is_null(node) && node->length > 0;
}

static void take_name(struct reading *reading, const char *key, const struct pawl_yaml_node *node,
                      char **field)
{
    const char *wrong = is_text(node) ? pawl_queue_name_check(node->text) : "a name is one word";
    if (wrong)
        refuse(reading, node, "name", "`%s`: %s", key, wrong);
    else
        put(reading, field, strdup(node->text));
}

static void take_count(const struct reading *reading, const char *key, const struct pawl_yaml_node *node,
                       uint32_t maximum, uint32_t *field)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value =
        is_text(node) && node->text[0] >= '0' && node->text[0] <= '9' ? strtoull(node->text, &end, 10) : 0;
    if (!end || *end != '\0')
        refuse(reading, node, "type", "`%s` takes a number", key);
    else if (errno || value < 1 || value > maximum)
        refuse(reading, node, "limit", "`%s`: '%.40s' is not within 1 and %u", key, node->text, maximum);
    else
        *field = (uint32_t)value;
}

static void take_exec(struct reading *reading, const struct pawl_yaml_node *node)
{
    size_t count = 0;
    if (node->kind != PAWL_YAML_SEQUENCE || node->count == 0) {
        refuse(reading, node, "type", "`exec` takes a list: a command and its arguments");
        return;
    }
    char **words = calloc((size_t)node->count + 1, sizeof *words);
    reading->handler->exec = words;
    for (const struct pawl_yaml_item *item = node->items; item && words; item = item->next) {
        if (item->value->kind != PAWL_YAML_SCALAR || (count == 0 && item->value->length == 0)) {
            refuse(reading, item->value, "type", "`exec` takes words");
            return;
        }
        words[count] = strdup(item->value->text);
        if (!words[count++])
            reading->error = -ENOMEM;
    }
    if (!words)
        reading->error = -ENOMEM;
}

/* What YAML itself would take it for. */
static json_t *scalar_as_json(const struct pawl_yaml_node *node)
{
    json_t *value = NULL;
    if (node->style == PAWL_YAML_PLAIN && pawl_yaml_is_null(node))
        return json_null();
    if (node->style == PAWL_YAML_PLAIN)
        value = json_loadb(node->text, node->length, JSON_DECODE_ANY, NULL); /* true, 5, 1e3 */
    return value && !json_is_string(value) ? value : json_string(node->text);
}

/* As deep as the file's limit lets it be. */
static json_t *as_json(const struct pawl_yaml_node *node) /* NOLINT(misc-no-recursion) */
{
    if (node->kind == PAWL_YAML_SCALAR)
        return scalar_as_json(node);
    bool list = node->kind == PAWL_YAML_SEQUENCE;
    json_t *value = list ? json_array() : json_object();
    for (const struct pawl_yaml_item *item = node->items; item; item = item->next) {
        int error = list ? json_array_append_new(value, as_json(item->value))
                         : json_object_set_new(value, item->key->text, as_json(item->value));
        if (error) {
            json_decref(value);
            return NULL;
        }
    }
    return value;
}

/* A map or a list; or text, which is JSON already. */
static void take_config(struct reading *reading, const struct pawl_yaml_node *node)
{
    json_error_t place;
    bool text = node->kind == PAWL_YAML_SCALAR;
    json_t *value = text ? json_loadb(node->text, node->length, JSON_DECODE_ANY, &place) : as_json(node);
    if (value)
        put(reading, &reading->handler->config_json,
            text ? strdup(node->text) : json_dumps(value, JSON_COMPACT));
    else if (text)
        refuse(reading, node, "type", "`config` is a map, a list, or JSON as text: %.120s", place.text);
    else
        reading->error = -ENOMEM;
    json_decref(value);
}

/* ---- an entry ---- */

static const char *const keys[] = {"queue", "group", "plugin", "config", "exec", "processes", "prefetch"};

static void unknown_key(const struct reading *reading, const struct pawl_yaml_node *key)
{
    struct pawl_suggest suggest;
    char hint[96] = "";
    pawl_suggest_init(&suggest, key->text, key->length);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        pawl_suggest_offer(&suggest, keys[i], strlen(keys[i]));
    if (suggest.best != NULL)
        snprintf(hint, sizeof hint, "did you mean `%.*s`?", (int)suggest.best_bytes, suggest.best);
    pawl_load_refuse(reading->errors, key->line, key->column, "unknown_key", hint,
                     "a handler has no setting `%.64s`", key->text);
}

static void take_key(struct reading *reading, const struct pawl_yaml_node *key,
                     const struct pawl_yaml_node *node)
{
    struct pawl_config_handler *handler = reading->handler;
    if (strcmp(key->text, "queue") == 0)
        take_name(reading, "queue", node, &handler->queue);
    else if (strcmp(key->text, "group") == 0)
        take_name(reading, "group", node, &handler->group);
    else if (strcmp(key->text, "plugin") == 0 && is_text(node))
        put(reading, &handler->plugin, strdup(node->text));
    else if (strcmp(key->text, "plugin") == 0)
        refuse(reading, node, "type", "`plugin` takes the path of a shared object");
    else if (strcmp(key->text, "config") == 0)
        take_config(reading, node);
    else if (strcmp(key->text, "exec") == 0)
        take_exec(reading, node);
    else if (strcmp(key->text, "processes") == 0)
        take_count(reading, "processes", node, PAWL_HANDLER_PROCESSES_MAX, &handler->processes);
    else if (strcmp(key->text, "prefetch") == 0)
        take_count(reading, "prefetch", node, PAWL_CREDIT_MAX, &handler->prefetch);
    else
        unknown_key(reading, key);
}

static void take_entry(struct reading *reading, const struct pawl_yaml_node *node)
{
    const struct pawl_config_handler *handler = reading->handler;
    uint32_t before = reading->errors->count + reading->errors->dropped;
    if (node->kind != PAWL_YAML_MAPPING) {
        refuse(reading, node, "type", "`handlers` takes a list of maps");
        return;
    }
    for (const struct pawl_yaml_item *item = node->items; item; item = item->next)
        take_key(reading, item->key, item->value);
    if (reading->error || reading->errors->count + reading->errors->dropped != before)
        return;
    if (!handler->queue)
        refuse(reading, node, "missing", "a handler without `queue`");
    else if (!handler->plugin == !handler->exec)
        refuse(reading, node, "missing", "the handler of %s takes `plugin` or `exec`, one of them",
               handler->queue);
    else if (handler->config_json && !handler->plugin)
        refuse(reading, node, "missing", "the handler of %s: `config` is for a plugin", handler->queue);
}

int pawl_config_handlers_take(struct pawl_config *config, const struct pawl_yaml_node *node,
                              struct pawl_load_errors *errors)
{
    struct reading reading = {.errors = errors};
    if (node->kind != PAWL_YAML_SEQUENCE) {
        refuse(&reading, node, "type", "`handlers` takes a list of maps");
        return 0;
    }
    if (node->count == 0)
        return 0;
    config->handlers = calloc(node->count, sizeof *config->handlers);
    if (!config->handlers)
        return -ENOMEM;
    for (const struct pawl_yaml_item *item = node->items; item && !reading.error; item = item->next) {
        reading.handler = &config->handlers[config->handler_count++];
        take_entry(&reading, item->value);
    }
    return reading.error;
}

/* ---- what was read ---- */

static int below(const char *directory, char **path)
{
    char *whole = NULL;
    if (asprintf(&whole, "%s/%s", directory, *path) < 0)
        return -ENOMEM;
    free(*path);
    *path = whole;
    return 0;
}

int pawl_config_handlers_resolve(struct pawl_config *config, int fd)
{
    char name[40], directory[PATH_MAX];
    if (config->handler_count == 0)
        return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t bytes = readlink(name, directory, sizeof directory - 1);
    if (bytes <= 0)
        return bytes < 0 ? -errno : -ENOENT;
    directory[bytes] = '\0';
    char *slash = strrchr(directory, '/');
    if (slash)
        *slash = '\0';
    for (size_t i = 0; i < config->handler_count; i++) {
        struct pawl_config_handler *handler = &config->handlers[i];
        int error = 0;
        if (handler->plugin && handler->plugin[0] != '/')
            error = below(directory, &handler->plugin);
        /* A word without a slash is looked for in PATH. */
        if (!error && handler->exec && handler->exec[0][0] != '/' && strchr(handler->exec[0], '/'))
            error = below(directory, &handler->exec[0]);
        if (error)
            return error;
    }
    return 0;
}

uint32_t pawl_config_handler_processes(const struct pawl_config *config,
                                       const struct pawl_config_handler *handler)
{
    uint64_t workers = config->run.workers ? config->run.workers : pawl_online_cpus();
    return handler->processes ? handler->processes : (uint32_t)workers;
}

void pawl_config_handlers_check(const struct pawl_config *config, struct pawl_load_errors *errors)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < config->handler_count; i++)
        sum += pawl_config_handler_processes(config, &config->handlers[i]);
    if (sum > PAWL_HANDLER_PROCESSES_MAX)
        pawl_load_refuse(errors, 0, 0, "limit", "lower `processes` or `workers`",
                         "`handlers` have %llu processes together: at most %d are possible",
                         (unsigned long long)sum, PAWL_HANDLER_PROCESSES_MAX);
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool pawl_config_handler_same(const struct pawl_config_handler *a, const struct pawl_config_handler *b)
{
    if (!same_text(a->queue, b->queue) || !same_text(a->group, b->group) ||
        !same_text(a->plugin, b->plugin) || !same_text(a->config_json, b->config_json) ||
        a->prefetch != b->prefetch || !a->exec != !b->exec)
        return false;
    size_t i = 0;
    for (; a->exec && a->exec[i] && b->exec[i]; i++)
        if (strcmp(a->exec[i], b->exec[i]) != 0)
            return false;
    return !a->exec || a->exec[i] == b->exec[i]; /* both at their end */
}

static char *copy_text(const char *text, int *error)
{
    char *copy = text ? strdup(text) : NULL;
    if (text && !copy)
        *error = -ENOMEM;
    return copy;
}

int pawl_config_handler_copy(const struct pawl_config_handler *handler, struct pawl_config_handler *copy_out)
{
    int error = 0;
    size_t count = 0;
    *copy_out = (struct pawl_config_handler){.queue = copy_text(handler->queue, &error),
                                             .group = copy_text(handler->group, &error),
                                             .plugin = copy_text(handler->plugin, &error),
                                             .config_json = copy_text(handler->config_json, &error),
                                             .processes = handler->processes,
                                             .prefetch = handler->prefetch};
    while (handler->exec && handler->exec[count])
        count++;
    if (handler->exec)
        copy_out->exec = calloc(count + 1, sizeof *copy_out->exec);
    if (handler->exec && !copy_out->exec)
        error = -ENOMEM;
    for (size_t i = 0; i < count && !error; i++)
        copy_out->exec[i] = copy_text(handler->exec[i], &error);
    if (error)
        pawl_config_handler_fini(copy_out);
    return error;
}
