/*
 * retry_json.c - retry rules as JSON, as they are declared, stored and shown. Runs in: scheduler, runtime.
 */
#include "scheduler/bus/retry.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "shm/error.h"

static const char *const kind_names[] = {
    [PAWL_BACKOFF_EXPONENTIAL] = "exponential",
    [PAWL_BACKOFF_LINEAR] = "linear",
    [PAWL_BACKOFF_FIXED] = "fixed",
    [PAWL_BACKOFF_LIST] = "list",
};

__attribute__((format(printf, 2, 3))) static int refuse(char *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, PAWL_RETRY_WHY_BYTES, format, args);
    va_end(args);
    return PAWL_E_INVALID;
}

/* An object's keys are all of these (a list that ends with NULL). */
static int only_keys(const json_t *object, const char *where, const char *const *known, char *why)
{
    if (!json_is_object(object))
        return refuse(why, "%s is not an object", where);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (!known[i])
            return refuse(why, "%s has no \"%.64s\" here", where, key);
    }
    return 0;
}

static int read_ns(const json_t *object, const char *where, const char *key, uint64_t *ns_out, char *why)
{
    const json_t *value = json_object_get(object, key);
    if (!value)
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return refuse(why, "%s: %s is not a number of nanoseconds", where, key);
    *ns_out = (uint64_t)json_integer_value(value);
    return 0;
}

static int read_number(const json_t *object, const char *where, const char *key, double *out, char *why)
{
    const json_t *value = json_object_get(object, key);
    if (!value)
        return 0;
    if (!json_is_number(value))
        return refuse(why, "%s: %s is not a number", where, key);
    *out = json_number_value(value);
    return 0;
}

static int read_limit(const json_t *object, const char *where, uint32_t *limit_out, bool *has_out, char *why)
{
    const json_t *value = json_object_get(object, "limit");
    if (!value)
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > PAWL_RETRY_LIMIT_MAX)
        return refuse(why, "%s: limit is not between 0 and %d", where, PAWL_RETRY_LIMIT_MAX);
    *limit_out = (uint32_t)json_integer_value(value);
    *has_out = true;
    return 0;
}

static int read_kind(const json_t *backoff, const char *where, uint32_t *kind_out, char *why)
{
    const json_t *value = json_object_get(backoff, "kind");
    *kind_out = PAWL_BACKOFF_EXPONENTIAL;
    if (!value)
        return 0;
    for (uint32_t i = 0; i <= PAWL_BACKOFF_LIST && json_is_string(value); i++)
        if (strcmp(kind_names[i], json_string_value(value)) == 0) {
            *kind_out = i;
            return 0;
        }
    return refuse(why, "%s: kind is none of exponential, linear, fixed, list", where);
}

static int read_delays(const json_t *backoff, const char *where, struct pawl_retry_policy *policy, char *why)
{
    const json_t *list = json_object_get(backoff, "delays_ns");
    if (!json_is_array(list) || json_array_size(list) == 0)
        return refuse(why, "%s: delays_ns is not a list of nanoseconds", where);
    if (json_array_size(list) > PAWL_BACKOFF_DELAYS_MAX) {
        refuse(why, "%s: delays_ns has more than %d", where, PAWL_BACKOFF_DELAYS_MAX);
        return PAWL_E_LIMIT;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *value = json_array_get(list, i);
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return refuse(why, "%s: delays_ns[%zu] is not a number of nanoseconds", where, i);
        policy->delays_ns[policy->delay_count++] = (uint64_t)json_integer_value(value);
    }
    return 0;
}

/* @policy keeps its limit; everything else is new. */
static int read_backoff(const json_t *backoff, const char *where, struct pawl_retry_policy *policy, char *why)
{
    static const char *const keys[][6] = {
        [PAWL_BACKOFF_EXPONENTIAL] = {"kind", "jitter", "initial_ns", "max_ns", "factor", NULL},
        [PAWL_BACKOFF_LINEAR] = {"kind", "jitter", "initial_ns", "max_ns", "increment_ns", NULL},
        [PAWL_BACKOFF_FIXED] = {"kind", "jitter", "initial_ns", NULL},
        [PAWL_BACKOFF_LIST] = {"kind", "jitter", "delays_ns", NULL},
    };
    struct pawl_retry_policy p = {.limit = policy->limit};
    int error = read_kind(backoff, where, &p.kind, why);
    if (!error)
        error = only_keys(backoff, where, keys[p.kind], why);
    if (error)
        return error;
    if (p.kind == PAWL_BACKOFF_EXPONENTIAL) {
        p.factor = PAWL_BACKOFF_FACTOR_DEFAULT;
        p.jitter = PAWL_BACKOFF_JITTER_DEFAULT;
    }
    if (p.kind != PAWL_BACKOFF_LIST)
        p.initial_ns = PAWL_BACKOFF_INITIAL_NS_DEFAULT;
    error = read_ns(backoff, where, "initial_ns", &p.initial_ns, why);
    if (p.kind == PAWL_BACKOFF_LINEAR)
        p.increment_ns = p.initial_ns;
    if (p.kind <= PAWL_BACKOFF_LINEAR) /* a first delay above the default cap is meant */
        p.max_ns = p.initial_ns > PAWL_BACKOFF_MAX_NS_DEFAULT ? p.initial_ns : PAWL_BACKOFF_MAX_NS_DEFAULT;
    if (!error)
        error = read_ns(backoff, where, "increment_ns", &p.increment_ns, why);
    if (!error)
        error = read_ns(backoff, where, "max_ns", &p.max_ns, why);
    if (!error)
        error = read_number(backoff, where, "factor", &p.factor, why);
    if (!error)
        error = read_number(backoff, where, "jitter", &p.jitter, why);
    if (!error && p.kind == PAWL_BACKOFF_LIST)
        error = read_delays(backoff, where, &p, why);
    char words[PAWL_RETRY_WHY_BYTES];
    if (!error && pawl_retry_policy_check(&p, words) != 0)
        error = refuse(why, "%s: %.128s", where, words);
    if (!error)
        *policy = p;
    return error;
}

static int read_override(const char *key, const json_t *json, struct pawl_retry_rules *rules, char *why)
{
    static const char *const keys[] = {"limit", "backoff", "never", NULL};
    struct pawl_retry_override o = {0};
    char where[64], words[PAWL_RETRY_WHY_BYTES];
    snprintf(where, sizeof where, "causes.%.32s", key);
    if (pawl_retry_key_parse(key, strlen(key), &o) != 0)
        return refuse(why,
                      "%s: not a cause: nack, deadline, consumer-died, handler-error, exit, exit:CODE or "
                      "exit:FIRST-LAST",
                      where);
    int error = only_keys(json, where, keys, why);
    if (!error)
        error = read_limit(json, where, &o.policy.limit, &o.has_limit, why);
    if (error)
        return error;
    const json_t *never = json_object_get(json, "never"), *backoff = json_object_get(json, "backoff");
    if (never && !json_is_boolean(never))
        return refuse(why, "%s: never is not true or false", where);
    o.never = json_is_true(never);
    if (backoff) {
        o.has_backoff = true;
        snprintf(where, sizeof where, "causes.%.32s.backoff", key);
        error = read_backoff(backoff, where, &o.policy, why);
    }
    if (error)
        return error;
    error = pawl_retry_override_put(rules, &o, words);
    if (error)
        refuse(why, "%s: %.160s", where, words);
    return error;
}

int pawl_retry_rules_load(const json_t *json, struct pawl_retry_rules *rules, char why[PAWL_RETRY_WHY_BYTES])
{
    static const char *const keys[] = {"limit", "backoff", "causes", NULL};
    bool has_limit = false;
    pawl_retry_rules_init(rules);
    int error = only_keys(json, "retry", keys, why);
    if (!error)
        error = read_limit(json, "retry", &rules->base.limit, &has_limit, why);
    const json_t *backoff = json_object_get(json, "backoff"), *causes = json_object_get(json, "causes");
    if (!error && backoff)
        error = read_backoff(backoff, "backoff", &rules->base, why);
    if (!error && causes && !json_is_object(causes))
        error = refuse(why, "causes is not an object");
    if (error || !causes)
        return error;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)causes, key, value)
    {
        error = read_override(key, value, rules, why);
        if (error)
            return error;
    }
    return 0;
}

static json_t *backoff_json(const struct pawl_retry_policy *policy)
{
    const char *kind = kind_names[policy->kind <= PAWL_BACKOFF_LIST ? policy->kind : 0];
    json_int_t initial = (json_int_t)policy->initial_ns, max = (json_int_t)policy->max_ns;
    switch ((enum pawl_backoff_kind)policy->kind) {
    case PAWL_BACKOFF_EXPONENTIAL:
        return json_pack("{s:s,s:I,s:f,s:I,s:f}", "kind", kind, "initial_ns", initial, "factor",
                         policy->factor, "max_ns", max, "jitter", policy->jitter);
    case PAWL_BACKOFF_LINEAR:
        return json_pack("{s:s,s:I,s:I,s:I,s:f}", "kind", kind, "initial_ns", initial, "increment_ns",
                         (json_int_t)policy->increment_ns, "max_ns", max, "jitter", policy->jitter);
    case PAWL_BACKOFF_FIXED:
        return json_pack("{s:s,s:I,s:f}", "kind", kind, "initial_ns", initial, "jitter", policy->jitter);
    case PAWL_BACKOFF_LIST:
        break;
    }
    json_t *delays = json_array();
    for (uint32_t i = 0; delays && i < policy->delay_count && i < PAWL_BACKOFF_DELAYS_MAX; i++)
        if (json_array_append_new(delays, json_integer((json_int_t)policy->delays_ns[i])) != 0) {
            json_decref(delays);
            return NULL;
        }
    return json_pack("{s:s,s:o,s:f}", "kind", kind, "delays_ns", delays, "jitter", policy->jitter);
}

static json_t *override_json(const struct pawl_retry_override *o)
{
    json_t *json = json_object();
    if (!json)
        return NULL;
    int bad = 0;
    if (o->has_limit)
        bad |= json_object_set_new(json, "limit", json_integer(o->policy.limit));
    if (o->has_backoff)
        bad |= json_object_set_new(json, "backoff", backoff_json(&o->policy));
    if (o->never)
        bad |= json_object_set_new(json, "never", json_true());
    if (bad) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static void override_key(const struct pawl_retry_override *o, char key[32])
{
    if (o->cause != PAWL_CAUSE_EXIT || (o->exit_first == 0 && o->exit_last == 255))
        snprintf(key, 32, "%s", pawl_cause_name(o->cause));
    else if (o->exit_first == o->exit_last)
        snprintf(key, 32, "exit:%u", o->exit_first);
    else
        snprintf(key, 32, "exit:%u-%u", o->exit_first, o->exit_last);
}

json_t *pawl_retry_rules_json(const struct pawl_retry_rules *rules)
{
    json_t *causes = json_object();
    if (!causes)
        return NULL;
    for (uint32_t i = 0; i < rules->override_count; i++) {
        char key[32];
        override_key(&rules->overrides[i], key);
        if (json_object_set_new(causes, key, override_json(&rules->overrides[i])) != 0) {
            json_decref(causes);
            return NULL;
        }
    }
    return json_pack("{s:I,s:o,s:o}", "limit", (json_int_t)rules->base.limit, "backoff",
                     backoff_json(&rules->base), "causes", causes);
}
