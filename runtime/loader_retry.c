/*
 * loader_retry.c - `retries:`, short and long, over that of `defaults:`.
 *
 * Runs in clients.
 */
#include <errno.h>
#include <stdlib.h>

#include "runtime/loader_parts.h"
#include "shm/error.h"

static const struct pawl_loader_key retries_keys[] = {
    {"limit", PAWL_TAKES_SCALAR},
    {"backoff", PAWL_TAKES_MAPPING},
    {"on_exit", PAWL_TAKES_SEQUENCE | PAWL_TAKES_SCALAR},
    {"never_on_exit", PAWL_TAKES_SEQUENCE | PAWL_TAKES_SCALAR},
    {NULL, 0}};
static const struct pawl_loader_key backoff_keys[] = {{"initial", PAWL_TAKES_SCALAR},
                                                      {"factor", PAWL_TAKES_SCALAR},
                                                      {"max", PAWL_TAKES_SCALAR},
                                                      {"jitter", PAWL_TAKES_SCALAR},
                                                      {NULL, 0}};
enum { RETRIES_MOST = 1000000 };

struct policy {
    struct pawl_plan_retry retry;
    bool limit_given, max_given;
    const struct pawl_yaml_node *on_exit, *never_on_exit;
    const struct pawl_yaml_node *place; /* the last map that spoke */
};

static void read_backoff(struct pawl_loader *loader, const struct pawl_yaml_node *mapping,
                         struct policy *policy)
{
    const struct pawl_yaml_node *node;
    pawl_loader_check_keys(loader, mapping, backoff_keys, "`backoff`");
    if ((node = pawl_loader_get(mapping, "initial", PAWL_TAKES_SCALAR)))
        pawl_loader_duration(loader, node, "initial", &policy->retry.initial_ns);
    if ((node = pawl_loader_get(mapping, "max", PAWL_TAKES_SCALAR)))
        policy->max_given = pawl_loader_duration(loader, node, "max", &policy->retry.max_ns);
    if ((node = pawl_loader_get(mapping, "factor", PAWL_TAKES_SCALAR)))
        pawl_loader_double(loader, node, "factor", 1, 1000, &policy->retry.factor);
    if ((node = pawl_loader_get(mapping, "jitter", PAWL_TAKES_SCALAR)))
        pawl_loader_double(loader, node, "jitter", 0, 1, &policy->retry.jitter);
    if (policy->retry.initial_ns > policy->retry.max_ns) {
        if (policy->max_given)
            pawl_loader_refuse(loader, mapping, "type", "", "`backoff` begins with more than its `max`");
        policy->retry.max_ns = policy->retry.initial_ns;
    }
}

/* One `retries:`, over what was read before. */
static void read_policy(struct pawl_loader *loader, const struct pawl_yaml_node *node, struct policy *policy)
{
    const struct pawl_yaml_node *part = node;
    int64_t limit = 0;
    policy->place = node;
    if (node->kind == PAWL_YAML_MAPPING) {
        pawl_loader_check_keys(loader, node, retries_keys, "`retries`");
        part = pawl_loader_get(node, "limit", PAWL_TAKES_SCALAR);
    }
    if (part) {
        policy->limit_given = true;
        const char *key = part == node ? "retries" : "limit";
        if (pawl_loader_int(loader, part, key, 0, RETRIES_MOST, &limit))
            policy->retry.limit = (uint32_t)limit;
    }
    if (node->kind != PAWL_YAML_MAPPING)
        return;
    if ((part = pawl_loader_get(node, "backoff", PAWL_TAKES_MAPPING)))
        read_backoff(loader, part, policy);
    if ((part = pawl_loader_get(node, "on_exit", PAWL_TAKES_SCALAR | PAWL_TAKES_SEQUENCE)))
        policy->on_exit = part;
    if ((part = pawl_loader_get(node, "never_on_exit", PAWL_TAKES_SCALAR | PAWL_TAKES_SEQUENCE)))
        policy->never_on_exit = part;
}

static void read_code(struct pawl_loader *loader, const struct pawl_yaml_node *node, const char *key,
                      int32_t *codes, uint32_t *count)
{
    int64_t code = 0;
    if (node->kind != PAWL_YAML_SCALAR)
        pawl_loader_refuse(loader, node, "type", "", "`%s` takes exit codes, not %s", key,
                           pawl_loader_kind(node));
    else if (pawl_loader_int(loader, node, key, 1, 255, &code))
        codes[(*count)++] = (int32_t)code;
}

static struct pawl_plan_run read_codes(struct pawl_loader *loader, const struct pawl_yaml_node *node,
                                       const char *key)
{
    struct pawl_plan_run run = {0, 0};
    uint32_t count = 0;
    int32_t *codes = node ? calloc((size_t)node->count + 1, sizeof *codes) : NULL;
    if (!codes) {
        loader->error = node ? -ENOMEM : loader->error;
        return run;
    }
    if (node->kind == PAWL_YAML_SCALAR)
        read_code(loader, node, key, codes, &count);
    for (const struct pawl_yaml_item *item = node->items; item; item = item->next)
        read_code(loader, item->value, key, codes, &count);
    int error = pawl_plan_set_exit_codes(loader->builder, codes, count, &run);
    if (error < 0)
        loader->error = error;
    free(codes);
    return run;
}

bool pawl_loader_retries(struct pawl_loader *loader, uint32_t step_index,
                         const struct pawl_yaml_node *mapping)
{
    const uint8_t kinds = PAWL_TAKES_SCALAR | PAWL_TAKES_MAPPING;
    const struct pawl_yaml_node *general = pawl_loader_get(loader->defaults, "retries", kinds);
    const struct pawl_yaml_node *own = pawl_loader_get(mapping, "retries", kinds);
    uint32_t told = loader->errors->count;
    struct policy policy = {
        .retry = {
            .initial_ns = UINT64_C(1000000000), .max_ns = UINT64_C(60000000000), .factor = 2, .jitter = 0.1}};
    if (general)
        read_policy(loader, general, &policy);
    if (own)
        read_policy(loader, own, &policy);
    if (!general && !own)
        return true;
    if (!policy.limit_given && loader->errors->count == told)
        pawl_loader_refuse(loader, policy.place, "type", "write `limit: 3`", "`retries` has no `limit`");
    policy.retry.on_exit = read_codes(loader, policy.on_exit, "on_exit");
    policy.retry.never_on_exit = read_codes(loader, policy.never_on_exit, "never_on_exit");
    if (step_index != PAWL_PLAN_NONE)
        pawl_plan_edit_step(loader->builder, step_index)->retry = policy.retry;
    return loader->errors->count == told;
}
