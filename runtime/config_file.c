/*
 * config_file.c - pawl.yaml: limits, who may connect, queues to declare. Every mistake with its place.
 *
 *   ack-wait: 1m
 *   allow-uids: [1000]
 *   queues:
 *     orders: {topic: order.*, ack-wait: 30s, retry: [deadline=2]}
 *   handlers:
 *     - {queue: orders, plugin: orders.so, config: {rate: 5}, processes: 2}
 *
 * Runs in: whoever loads the configuration. Pure but for memory.
 */
#include "runtime/config_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/config_handlers.h"
#include "runtime/queue_settings.h"
#include "runtime/suggest.h"
#include "runtime/yaml.h"
#include "runtime/yaml_text.h"
#include "shm/error.h"

struct file {
    struct pawl_config *config;
    struct pawl_config_origins *origins;
    struct pawl_load_errors *errors;
    int error; /* -ENOMEM */
};

static const char *kind_of(const struct pawl_yaml_node *node)
{
    return node->kind == PAWL_YAML_SEQUENCE  ? "a list"
           : node->kind == PAWL_YAML_MAPPING ? "a map"
           : pawl_yaml_is_null(node)         ? "nothing"
                                             : "a single value";
}

static void wrong_kind(struct file *file, const struct pawl_yaml_node *node, const char *key,
                       const char *wanted)
{
    pawl_load_refuse(file->errors, node->line, node->column, "type", "", "`%.64s` takes %s, not %s", key,
                     wanted, kind_of(node));
}

/* ---- who may connect ---- */

static void take_ids(struct file *file, const char *key, const struct pawl_yaml_node *node, uint32_t *ids,
                     uint32_t *count)
{
    if (node->kind != PAWL_YAML_SEQUENCE) {
        wrong_kind(file, node, key, "a list of numbers");
        return;
    }
    for (const struct pawl_yaml_item *item = node->items; item != NULL; item = item->next) {
        const struct pawl_yaml_node *id = item->value;
        char *end = NULL;
        errno = 0;
        unsigned long long value = id->kind == PAWL_YAML_SCALAR ? strtoull(id->text, &end, 10) : 0;
        if (id->kind != PAWL_YAML_SCALAR || id->text[0] < '0' || id->text[0] > '9' || *end != '\0' ||
            value >= UINT32_MAX) {
            pawl_load_refuse(file->errors, id->line, id->column, "type", "numbers, as `id` prints them",
                             "`%s` has something that is not an id", key);
        } else if (*count == PAWL_ALLOWED_MAX) {
            pawl_load_refuse(file->errors, id->line, id->column, "limit", "", "`%s` has more than %d entries",
                             key, PAWL_ALLOWED_MAX);
            return;
        } else {
            ids[(*count)++] = (uint32_t)value;
        }
    }
}

/* ---- queues ---- */

static void unknown_setting(struct file *file, const struct pawl_yaml_node *key, const char *queue)
{
    struct pawl_suggest suggest;
    char hint[96] = "";
    pawl_suggest_init(&suggest, key->text, key->length);
    for (const struct pawl_queue_setting *setting = pawl_queue_settings; setting->name != NULL; setting++)
        pawl_suggest_offer(&suggest, setting->name, strlen(setting->name));
    if (suggest.best != NULL)
        snprintf(hint, sizeof hint, "did you mean `%.*s`?", (int)suggest.best_bytes, suggest.best);
    pawl_load_refuse(file->errors, key->line, key->column, "unknown_key", hint,
                     "queue `%.64s` has no setting `%.64s`", queue, key->text);
}

static void take_setting(struct file *file, const struct pawl_queue_setting *setting,
                         const struct pawl_yaml_node *node, json_t *config)
{
    char why[PAWL_QUEUE_SETTING_WHY_BYTES];
    if (node->kind == PAWL_YAML_SEQUENCE && setting->repeats) {
        for (const struct pawl_yaml_item *item = node->items; item != NULL; item = item->next) {
            if (item->value->kind == PAWL_YAML_SCALAR)
                take_setting(file, setting, item->value, config);
            else
                wrong_kind(file, item->value, setting->name, "a list of single values");
        }
        return;
    }
    if (node->kind != PAWL_YAML_SCALAR || pawl_yaml_is_null(node)) {
        wrong_kind(file, node, setting->name, setting->repeats ? "a value or a list" : "a single value");
        return;
    }
    int error = pawl_queue_setting_put(config, setting, node->text, why);
    if (error != 0)
        pawl_load_refuse(file->errors, node->line, node->column, error == PAWL_E_LIMIT ? "limit" : "type", "",
                         "`%s`: %s", setting->name, why);
}

static void keep_queue(struct file *file, const struct pawl_yaml_node *key, const json_t *settings)
{
    struct pawl_config *config = file->config;
    struct pawl_config_queue *queues =
        realloc(config->queues, (config->queue_count + 1) * sizeof *config->queues);
    if (queues == NULL) {
        file->error = -ENOMEM;
        return;
    }
    config->queues = queues;
    queues[config->queue_count] = (struct pawl_config_queue){.name = strdup(key->text),
                                                             .json = json_dumps(settings, JSON_COMPACT),
                                                             .line = (unsigned)key->line,
                                                             .column = (unsigned)key->column};
    config->queue_count++;
    if (queues[config->queue_count - 1].name == NULL || queues[config->queue_count - 1].json == NULL)
        file->error = -ENOMEM;
}

static void take_queue(struct file *file, const struct pawl_yaml_node *key, const struct pawl_yaml_node *node)
{
    const char *wrong = pawl_queue_name_check(key->text);
    if (wrong != NULL) {
        pawl_load_refuse(file->errors, key->line, key->column, "name", "", "queue `%.64s`: %s", key->text,
                         wrong);
        return;
    }
    if (node->kind != PAWL_YAML_MAPPING) {
        wrong_kind(file, node, key->text, "a map of settings");
        return;
    }
    json_t *settings = json_object();
    bool has_topic = false;
    for (const struct pawl_yaml_item *item = node->items; item != NULL; item = item->next) {
        const struct pawl_queue_setting *setting = pawl_queue_setting_find(item->key->text);
        if (setting == NULL)
            unknown_setting(file, item->key, key->text);
        else
            take_setting(file, setting, item->value, settings);
        has_topic |= setting != NULL && strcmp(setting->name, "topic") == 0;
    }
    if (!has_topic && !json_is_true(json_object_get(settings, "unrouted")))
        pawl_load_refuse(file->errors, key->line, key->column, "no_topic", "write `topic: PATTERN`",
                         "queue `%.64s` has no topic", key->text);
    keep_queue(file, key, settings);
    json_decref(settings);
}

/* ---- the root ---- */

static void unknown_key(struct file *file, const struct pawl_yaml_node *key)
{
    static const char *const others[] = {"max-queues", "allow-uids", "allow-gids", "handlers"};
    struct pawl_suggest suggest;
    char hint[96] = "`pawl config show` lists all settings";
    pawl_suggest_init(&suggest, key->text, key->length);
    for (const struct pawl_limit *limit = pawl_limit_table; limit->name != NULL; limit++)
        pawl_suggest_offer(&suggest, limit->name, strlen(limit->name));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        pawl_suggest_offer(&suggest, others[i], strlen(others[i]));
    static const struct {
        const char *name, *hint;
    } elsewhere[] = {
        {"jobs", "write `workers`: the slots of a run that does not say -j"},
        {"state", "say --state DIR, or PAWL_STATE=DIR"},
        {"color", "say --color WHEN, or PAWL_COLOR=WHEN"},
        {"progress", "say --progress MODE, or PAWL_PROGRESS=MODE"},
    };
    if (suggest.best != NULL)
        snprintf(hint, sizeof hint, "did you mean `%.*s`?", (int)suggest.best_bytes, suggest.best);
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere;
         i++) /* of commands: `config show` has them */
        if (strcmp(key->text, elsewhere[i].name) == 0)
            snprintf(hint, sizeof hint, "%s", elsewhere[i].hint);
    pawl_load_refuse(file->errors, key->line, key->column, "unknown_key", hint,
                     "the configuration has no setting `%.64s`", key->text);
}

static void take_limit(struct file *file, const struct pawl_limit *limit, const struct pawl_yaml_node *node)
{
    char why[320];
    uint64_t value;
    if (node->kind != PAWL_YAML_SCALAR || pawl_yaml_is_null(node)) {
        wrong_kind(file, node, limit->name, "a single value");
        return;
    }
    int error = pawl_config_limit_parse(limit, node->text, &value, why);
    if (error != 0) {
        pawl_load_refuse(file->errors, node->line, node->column, error == PAWL_E_LIMIT ? "limit" : "type", "",
                         "`%s`: %s", limit->name, why);
        return;
    }
    *pawl_limit_value(file->config, limit) = value;
    file->origins->limit[limit - pawl_limit_table] = PAWL_ORIGIN_FILE;
}

/* `queues:` is a map of queues to declare, or, as a number, the limit of that name. */
static void take_queues(struct file *file, const struct pawl_yaml_node *node)
{
    if (node->kind == PAWL_YAML_SCALAR && !pawl_yaml_is_null(node)) {
        take_limit(file, pawl_limit_find("queues"), node);
        return;
    }
    if (node->kind != PAWL_YAML_MAPPING) {
        wrong_kind(file, node, "queues", "a map of queues");
        return;
    }
    for (const struct pawl_yaml_item *item = node->items; item != NULL && file->error == 0; item = item->next)
        take_queue(file, item->key, item->value);
}

static void take_root(struct file *file, const struct pawl_yaml_node *root)
{
    for (const struct pawl_yaml_item *item = root->items; item != NULL && file->error == 0;
         item = item->next) {
        const char *key = item->key->text;
        /* `queues:` may be taken by the map */
        const struct pawl_limit *limit = pawl_limit_find(strcmp(key, "max-queues") == 0 ? "queues" : key);
        if (strcmp(key, "queues") == 0)
            take_queues(file, item->value);
        else if (strcmp(key, "allow-uids") == 0)
            take_ids(file, key, item->value, file->config->allow_uids, &file->config->allow_uid_count);
        else if (strcmp(key, "allow-gids") == 0)
            take_ids(file, key, item->value, file->config->allow_gids, &file->config->allow_gid_count);
        else if (strcmp(key, "handlers") == 0)
            file->error = pawl_config_handlers_take(file->config, item->value, file->errors);
        else if (limit != NULL)
            take_limit(file, limit, item->value);
        else
            unknown_key(file, item->key);
    }
}

int pawl_config_file_parse(const char *bytes, size_t length, struct pawl_config *config,
                           struct pawl_config_origins *origins, struct pawl_load_errors *errors)
{
    const struct pawl_load_limits limits = PAWL_LOAD_LIMITS_DEFAULT;
    struct file file = {.config = config, .origins = origins, .errors = errors};
    struct pawl_yaml_node *root = NULL;
    struct pawl_arena arena;
    if (length >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) {
        bytes += 3;
        length -= 3;
    }
    int error = pawl_text_check(bytes, length, errors);
    if (error != 0)
        return error;
    pawl_arena_init(&arena, 0);
    error = pawl_yaml_parse(bytes, length, &limits, &arena, &root, errors);
    if (error == 0 && root != NULL && !pawl_yaml_is_null(root)) {
        if (root->kind == PAWL_YAML_MAPPING)
            take_root(&file, root);
        else
            wrong_kind(&file, root, "pawl.yaml", "a map of settings");
    }
    pawl_arena_fini(&arena);
    if (error == 0)
        error = file.error != 0 ? file.error : errors->count > 0 ? PAWL_E_INVALID : 0;
    return error;
}
