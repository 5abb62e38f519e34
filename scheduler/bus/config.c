/*
 * config.c - a queue's configuration, from JSON and to it.
 *
 * Runs in: scheduler. Pure.
 */
#include "scheduler/bus/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/suggest.h"
#include "shm/client_lane.h"
#include "shm/error.h"
#include "shm/topic.h"

#define MAX_NS (UINT64_C(3650) * 86400 * 1000000000)

static int complain(char why[256], int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int complain(char why[256], int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, 256, format, arguments);
    va_end(arguments);
    return error;
}

static const char *const KEYS[] = {
    "topics",     "ack_wait_ns",  "retry",           "dlq",           "max_depth",       "max_bytes",
    "overflow",   "rate",         "ttl_ns",          "max_in_flight", "strict_attempts", "guarantee",
    "durability", "ordering_key", "stream",          "retain_ns",     "retain_bytes",    "breaker",
    "temporary",  "unrouted",     "overflow_topics", "interruptions", "dead_letters",    "retain_events"};

static bool is_known(const char *key)
{
    for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++)
        if (strcmp(KEYS[i], key) == 0)
            return true;
    return false;
}

static int check_keys(const json_t *json, char why[256])
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        struct pawl_suggest suggest;
        if (is_known(key))
            continue;
        pawl_suggest_init(&suggest, key, strlen(key));
        for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++)
            pawl_suggest_offer(&suggest, KEYS[i], strlen(KEYS[i]));
        if (suggest.best)
            return complain(why, PAWL_E_INVALID, "no setting is called '%.60s'; did you mean '%.*s'?", key,
                            (int)suggest.best_bytes, suggest.best);
        return complain(why, PAWL_E_INVALID, "no setting is called '%.60s'", key);
    }
    return 0;
}

static int number(const json_t *json, const char *key, uint64_t minimum, uint64_t maximum, uint64_t *value,
                  char why[256])
{
    const json_t *given = json_object_get(json, key);
    if (!given || json_is_null(given))
        return 0;
    if (!json_is_integer(given) || json_integer_value(given) < 0)
        return complain(why, PAWL_E_INVALID, "%s: not a number of 0 or more", key);
    uint64_t n = (uint64_t)json_integer_value(given);
    if (n < minimum || n > maximum)
        return complain(why, PAWL_E_LIMIT, "%s: %llu is not within %llu and %llu", key, (unsigned long long)n,
                        (unsigned long long)minimum, (unsigned long long)maximum);
    *value = n;
    return 0;
}

static int flag(const json_t *json, const char *key, bool *value, char why[256])
{
    const json_t *given = json_object_get(json, key);
    if (!given || json_is_null(given))
        return 0;
    if (!json_is_boolean(given))
        return complain(why, PAWL_E_INVALID, "%s: say true or false", key);
    *value = json_is_true(given);
    return 0;
}

static int word(const json_t *json, const char *key, char *out, size_t room, char why[256])
{
    const json_t *given = json_object_get(json, key);
    if (!given || json_is_null(given))
        return 0;
    if (!json_is_string(given) || json_string_length(given) >= room ||
        strlen(json_string_value(given)) != json_string_length(given))
        return complain(why, PAWL_E_INVALID, "%s: a text of at most %zu bytes", key, room - 1);
    memcpy(out, json_string_value(given), json_string_length(given) + 1);
    return 0;
}

static void free_topics(struct pawl_queue_config *config)
{
    for (uint32_t i = 0; i < config->topic_count; i++)
        free(config->topics[i]);
    free(config->topics);
    config->topics = NULL;
    config->topic_count = 0;
}

static int long_pattern(const char *key, size_t bytes, char *why)
{
    return complain(why, PAWL_E_LIMIT, "%s: a pattern of %zu bytes: at most %d are possible", key, bytes,
                    PAWL_TOPIC_BYTES_MAX);
}

static int load_topics(const json_t *json, const struct pawl_bus_limits *limits,
                       struct pawl_queue_config *config, char why[256])
{
    const json_t *given = json_object_get(json, "topics");
    if (!given)
        return 0;
    size_t count = json_array_size(given);
    if (!json_is_array(given))
        return complain(why, PAWL_E_INVALID, "topics: not a list of patterns");
    if (count > limits->queue_patterns)
        return complain(why, PAWL_E_LIMIT, "topics: %zu patterns; a queue may have %llu", count,
                        (unsigned long long)limits->queue_patterns);
    free_topics(config);
    config->topics = calloc(count ? count : 1, sizeof(char *));
    if (!config->topics)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(given, i);
        if (!json_is_string(item))
            return complain(why, PAWL_E_INVALID, "topics: pattern %zu is not a text", i + 1);
        if (json_string_length(item) > PAWL_TOPIC_BYTES_MAX)
            return long_pattern("topics", json_string_length(item), why);
        const char *wrong = pawl_pattern_check(json_string_value(item), json_string_length(item));
        if (wrong)
            return complain(why, PAWL_E_INVALID, "topics: pattern '%.80s': %s", json_string_value(item),
                            wrong);
        config->topics[i] = strdup(json_string_value(item));
        if (!config->topics[i])
            return -ENOMEM;
        config->topic_count++;
    }
    return 0;
}

static int load_enums(const json_t *json, struct pawl_queue_config *config, char why[256])
{
    char text[32] = "";
    uint64_t value;
    int error = word(json, "overflow", text, sizeof text, why);
    if (!error && text[0]) {
        if (pawl_overflow_parse(text, &value) != 0)
            return complain(why, PAWL_E_INVALID,
                            "overflow: '%s' is none of block, drop_newest, drop_oldest, reject, dead_letter",
                            text);
        config->overflow = (uint8_t)value;
    }
    text[0] = 0;
    if (!error)
        error = word(json, "durability", text, sizeof text, why);
    if (!error && text[0]) {
        if (pawl_durability_parse(text, &value) != 0)
            return complain(why, PAWL_E_INVALID, "durability: '%s' is none of memory, async, fsync", text);
        config->durability = (uint8_t)value;
    }
    text[0] = 0;
    if (!error)
        error = word(json, "guarantee", text, sizeof text, why);
    if (!error && text[0]) {
        if (strcmp(text, "at_most_once") == 0)
            config->guarantee = PAWL_GUARANTEE_AT_MOST_ONCE;
        else if (strcmp(text, "at_least_once") == 0)
            config->guarantee = PAWL_GUARANTEE_AT_LEAST_ONCE;
        else
            return complain(why, PAWL_E_INVALID, "guarantee: '%s' is none of at_most_once, at_least_once",
                            text);
    }
    return error;
}

static int compare_topics(const void *a, const void *b)
{
    const struct pawl_overflow_topic *first = a, *second = b;
    return pawl_pattern_specificity(second->pattern, strlen(second->pattern)) -
           pawl_pattern_specificity(first->pattern, strlen(first->pattern));
}

static void free_overflow_topics(struct pawl_queue_config *config)
{
    for (uint32_t i = 0; i < config->overflow_topic_count; i++)
        free(config->overflow_topics[i].pattern);
    free(config->overflow_topics);
    config->overflow_topics = NULL;
    config->overflow_topic_count = 0;
}

static int load_overflow_topics(const json_t *json, struct pawl_queue_config *config, char why[256])
{
    json_t *given = json_object_get(json, "overflow_topics"), *value;
    const char *key;
    if (!given || json_is_null(given))
        return 0;
    if (!json_is_object(given) || json_object_size(given) > PAWL_OVERFLOW_TOPICS_MAX)
        return complain(why, PAWL_E_INVALID, "overflow_topics: an object of at most %d patterns",
                        PAWL_OVERFLOW_TOPICS_MAX);
    free_overflow_topics(config);
    config->overflow_topics = calloc(json_object_size(given) + 1, sizeof *config->overflow_topics);
    if (!config->overflow_topics)
        return -ENOMEM;
    json_object_foreach(given, key, value)
    {
        uint64_t policy;
        if (strlen(key) > PAWL_TOPIC_BYTES_MAX)
            return long_pattern("overflow_topics", strlen(key), why);
        const char *wrong = pawl_pattern_check(key, strlen(key));
        if (wrong)
            return complain(why, PAWL_E_INVALID, "overflow_topics: pattern '%.80s': %s", key, wrong);
        if (!json_is_string(value) || pawl_overflow_parse(json_string_value(value), &policy) != 0)
            return complain(why, PAWL_E_INVALID, "overflow_topics: '%.80s' has no known policy", key);
        struct pawl_overflow_topic *topic = &config->overflow_topics[config->overflow_topic_count];
        topic->pattern = strdup(key);
        topic->overflow = (uint8_t)policy;
        if (!topic->pattern)
            return -ENOMEM;
        config->overflow_topic_count++;
    }
    qsort(config->overflow_topics, config->overflow_topic_count, sizeof *config->overflow_topics,
          compare_topics);
    return 0;
}

/* What @part says of limit, backoff and causes; what it leaves out stays. */
static int load_retry(const json_t *part, struct pawl_queue_config *config, char why[256])
{
    if (!json_is_object(part))
        return complain(why, PAWL_E_INVALID, "retry: an object with limit, backoff and causes");
    json_t *all = pawl_retry_rules_json(&config->retry);
    if (!all || json_object_update(all, (json_t *)(uintptr_t)part) != 0) {
        json_decref(all);
        return -ENOMEM;
    }
    pawl_retry_rules_fini(&config->retry);
    int error = pawl_retry_rules_load(all, &config->retry, why);
    json_decref(all);
    return error;
}

static int load_parts(const json_t *json, struct pawl_queue_config *config, char why[256])
{
    const json_t *part = json_object_get(json, "rate");
    int error = 0;
    if (part && !json_is_null(part)) {
        if (!json_is_object(part))
            return complain(why, PAWL_E_INVALID, "rate: an object with count and per_ns");
        config->rate_count = 0;
        error = number(part, "count", 0, UINT64_C(1) << 32, &config->rate_count, why);
        if (!error)
            error = number(part, "per_ns", 1, MAX_NS, &config->rate_per_ns, why);
        if (!error && config->rate_count > 0 && config->rate_per_ns == 0)
            config->rate_per_ns = 1000000000;
    }
    part = json_object_get(json, "breaker");
    if (!error && part && !json_is_null(part)) {
        uint64_t failures = config->breaker.failure_threshold, successes = config->breaker.success_threshold,
                 probes = config->breaker.probes_max;
        if (!json_is_object(part))
            return complain(why, PAWL_E_INVALID,
                            "breaker: an object with failures, successes, cooldown_ns, probes");
        error = number(part, "failures", 0, 1000000, &failures, why);
        if (!error)
            error = number(part, "successes", 1, 1000, &successes, why);
        if (!error)
            error = number(part, "probes", 1, 1000, &probes, why);
        if (!error)
            error = number(part, "cooldown_ns", 1, MAX_NS, &config->breaker.cooldown_ns, why);
        config->breaker.failure_threshold = (uint32_t)failures;
        config->breaker.success_threshold = (uint32_t)successes;
        config->breaker.probes_max = (uint32_t)probes;
    }
    part = json_object_get(json, "retry");
    return !error && part && !json_is_null(part) ? load_retry(part, config, why) : error;
}

static int load_numbers(const json_t *json, struct pawl_queue_config *config, char why[256])
{
    uint64_t in_flight = config->max_in_flight, interruptions = config->interruptions_max;
    int error =
        number(json, "ack_wait_ns", 1000000, UINT64_C(7) * 86400 * 1000000000, &config->ack_wait_ns, why);
    if (!error)
        error = number(json, "max_depth", 1, PAWL_LIMIT_DISK, &config->max_depth, why);
    if (!error)
        error = number(json, "max_bytes", 1, PAWL_LIMIT_DISK, &config->max_bytes, why);
    if (!error)
        error = number(json, "max_in_flight", 0, 1000000, &in_flight, why);
    if (!error)
        error = number(json, "interruptions", 1, 1000, &interruptions, why);
    if (!error)
        error = number(json, "ttl_ns", 0, MAX_NS, &config->ttl_ns, why);
    if (!error)
        error = number(json, "retain_ns", 0, MAX_NS, &config->retain_ns, why);
    if (!error)
        error = number(json, "retain_bytes", 0, PAWL_LIMIT_DISK, &config->retain_bytes, why);
    if (!error)
        error = number(json, "retain_events", 0, PAWL_LIMIT_DISK, &config->retain_events, why);
    config->max_in_flight = (uint32_t)in_flight;
    config->interruptions_max = (uint32_t)interruptions;
    return error;
}

static int copy_before(const struct pawl_queue_config *before, const struct pawl_bus_limits *limits,
                       struct pawl_queue_config *config, char why[256])
{
    json_t *json = pawl_queue_config_json(before);
    if (!json)
        return -ENOMEM;
    struct pawl_bus_limits wide = *limits;
    wide.queue_patterns = UINT32_MAX; /* what exists stays, whatever the limit is now */
    int error = pawl_queue_config_load(json, "", &wide, NULL, config, why);
    json_decref(json);
    return error;
}

static int defaults(const struct pawl_bus_limits *limits, struct pawl_queue_config *config)
{
    *config = (struct pawl_queue_config){
        .ack_wait_ns = limits->ack_wait_ns,
        .interruptions_max = (uint32_t)limits->interruptions,
        .max_depth = limits->queue_depth,
        .max_bytes = limits->queue_bytes,
        .overflow = (uint8_t)limits->overflow,
        .guarantee = PAWL_GUARANTEE_AT_LEAST_ONCE,
        .durability = (uint8_t)limits->durability,
        .breaker = PAWL_BREAKER_DEFAULTS,
    };
    config->breaker.failure_threshold = 0; /* a breaker is asked for */
    pawl_retry_rules_init(&config->retry);
    config->retry.base.limit = (uint32_t)limits->max_deliver;
    return 0;
}

static uint64_t smaller_limit(uint64_t one, uint64_t other)
{
    return one && (!other || one < other) ? one : other; /* 0: none */
}

static bool is_given(const json_t *json, const char *key)
{
    const json_t *value = json_object_get(json, key);
    return value && !json_is_null(value);
}

/* A stream has no backlog that could be full: a limit says how much of it is kept. */
static int limits_of_stream(const json_t *json, struct pawl_queue_config *config, char why[256])
{
    /* What was stored names every setting, those that mean nothing here too. */
    bool asked = !is_given(json, "dead_letters");
    if (asked && ((is_given(json, "overflow") && config->overflow != PAWL_OVERFLOW_POLICY_DROP_OLDEST) ||
                  config->overflow_topic_count > 0))
        return complain(why, PAWL_E_INVALID,
                        "overflow: a stream that is at its limit lets its oldest go (drop_oldest)");
    if (asked && is_given(json, "max_depth"))
        config->retain_events =
            smaller_limit(config->max_depth, is_given(json, "retain_events") ? config->retain_events : 0);
    if (asked && is_given(json, "max_bytes"))
        config->retain_bytes =
            smaller_limit(config->max_bytes, is_given(json, "retain_bytes") ? config->retain_bytes : 0);
    config->max_depth = config->retain_events ? config->retain_events : PAWL_LIMIT_DISK;
    config->max_bytes = config->retain_bytes ? config->retain_bytes : PAWL_LIMIT_DISK;
    config->overflow = PAWL_OVERFLOW_POLICY_DROP_OLDEST;
    free_overflow_topics(config);
    return 0;
}

int pawl_queue_config_load(const json_t *json, const char *name, const struct pawl_bus_limits *limits,
                           const struct pawl_queue_config *before, struct pawl_queue_config *config,
                           char why[256])
{
    why[0] = 0;
    if (json && !json_is_object(json))
        return complain(why, PAWL_E_INVALID, "the configuration is not an object");
    int error = before ? copy_before(before, limits, config, why) : defaults(limits, config);
    if (error || !json)
        return error;
    error = check_keys(json, why);
    if (!error)
        error = load_topics(json, limits, config, why);
    if (!error)
        error = load_numbers(json, config, why);
    if (!error)
        error = load_enums(json, config, why);
    if (!error)
        error = load_parts(json, config, why);
    if (!error)
        error = load_overflow_topics(json, config, why);
    if (!error)
        error = word(json, "dlq", config->dlq, 65, why);
    if (!error)
        error = word(json, "ordering_key", config->ordering_key, sizeof config->ordering_key, why);
    if (!error)
        error = flag(json, "strict_attempts", &config->strict_attempts, why);
    if (!error)
        error = flag(json, "stream", &config->stream, why);
    if (!error)
        error = flag(json, "temporary", &config->temporary, why);
    if (!error)
        error = flag(json, "unrouted", &config->unrouted, why);
    if (!error)
        error = flag(json, "dead_letters", &config->dead_letters, why);
    if (!error && name[0] && strcmp(name, config->dlq) == 0)
        error = complain(why, PAWL_E_INVALID, "dlq: a queue cannot be its own dead-letter queue");
    if (!error && config->stream && config->guarantee == PAWL_GUARANTEE_AT_MOST_ONCE)
        error =
            complain(why, PAWL_E_INVALID, "guarantee: a stream keeps its events, at_most_once forgets them");
    if (!error && config->stream)
        error = limits_of_stream(json, config, why);
    if (!error && !config->stream && (config->retain_ns || config->retain_bytes || config->retain_events))
        error = complain(why, PAWL_E_INVALID, "retain: only a stream keeps events after they are acked");
    if (!error && config->stream && config->ordering_key[0])
        error = complain(why, PAWL_E_INVALID, "ordering_key: a stream is in order by itself");
    if (!error && config->guarantee == PAWL_GUARANTEE_AT_MOST_ONCE)
        config->durability = PAWL_DURABILITY_MEMORY;
    if (error)
        pawl_queue_config_fini(config);
    return error;
}

/* A list that lacks one for want of memory would be a queue that lacks a topic: NULL. */
static json_t *texts(char *const *items, uint32_t count)
{
    json_t *list = json_array();
    int bad = list ? 0 : -1;
    for (uint32_t i = 0; i < count && !bad; i++)
        bad = json_array_append_new(list, json_string(items[i]));
    if (!bad)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *policies(const struct pawl_overflow_topic *topics, uint32_t count)
{
    json_t *object = json_object();
    int bad = object ? 0 : -1;
    for (uint32_t i = 0; i < count && !bad; i++)
        bad = json_object_set_new(object, topics[i].pattern,
                                  json_string(pawl_overflow_name(topics[i].overflow)));
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

json_t *pawl_queue_config_json(const struct pawl_queue_config *config)
{
    json_t *json = json_pack(
        "{s:o,s:I,s:o,s:I,s:s,s:I,s:I,s:s,s:I,s:{s:I,s:I},s:I,s:b,s:s,s:s,s:s,s:b,s:I,s:I,s:{s:I,s:I,s:I,s:I}"
        ",s:b,s:b,s:b,s:o,s:I}",
        "topics", texts(config->topics, config->topic_count), "ack_wait_ns", (json_int_t)config->ack_wait_ns,
        "retry", pawl_retry_rules_json(&config->retry), "interruptions",
        (json_int_t)config->interruptions_max, "dlq", config->dlq, "max_depth", (json_int_t)config->max_depth,
        "max_bytes", (json_int_t)config->max_bytes, "overflow", pawl_overflow_name(config->overflow),
        "max_in_flight", (json_int_t)config->max_in_flight, "rate", "count", (json_int_t)config->rate_count,
        "per_ns", (json_int_t)(config->rate_per_ns ? config->rate_per_ns : 1), "ttl_ns",
        (json_int_t)config->ttl_ns, "strict_attempts", config->strict_attempts, "guarantee",
        config->guarantee == PAWL_GUARANTEE_AT_MOST_ONCE ? "at_most_once" : "at_least_once", "durability",
        pawl_durability_name(config->durability), "ordering_key", config->ordering_key, "stream",
        config->stream, "retain_ns", (json_int_t)config->retain_ns, "retain_bytes",
        (json_int_t)config->retain_bytes, "breaker", "failures",
        (json_int_t)config->breaker.failure_threshold, "successes",
        (json_int_t)config->breaker.success_threshold, "cooldown_ns", (json_int_t)config->breaker.cooldown_ns,
        "probes", (json_int_t)config->breaker.probes_max, "temporary", config->temporary, "unrouted",
        config->unrouted, "dead_letters", config->dead_letters, "overflow_topics",
        policies(config->overflow_topics, config->overflow_topic_count), "retain_events",
        (json_int_t)config->retain_events);
    return json;
}

void pawl_queue_config_fini(struct pawl_queue_config *config)
{
    free_topics(config);
    free_overflow_topics(config);
    pawl_retry_rules_fini(&config->retry);
    *config = (struct pawl_queue_config){0};
}

const char *pawl_queue_config_compatible(const struct pawl_queue_config *before,
                                         const struct pawl_queue_config *after)
{
    if (before->stream != after->stream)
        return "stream";
    if (before->guarantee != after->guarantee)
        return "guarantee";
    if (before->temporary != after->temporary)
        return "temporary";
    if (strcmp(before->ordering_key, after->ordering_key) != 0)
        return "ordering_key";
    return NULL;
}

uint8_t pawl_queue_config_overflow(const struct pawl_queue_config *config, const char *topic,
                                   size_t topic_bytes)
{
    for (uint32_t i = 0; i < config->overflow_topic_count; i++) {
        const char *pattern = config->overflow_topics[i].pattern;
        if (pawl_topic_matches(pattern, strlen(pattern), topic, topic_bytes))
            return config->overflow_topics[i].overflow;
    }
    return config->overflow;
}
