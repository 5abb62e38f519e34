/*
 * queue_settings.c - from the words of a person to the JSON of queue.declare.
 *
 * Runs in: the command, and whoever reads the configuration file.
 */
#include "runtime/queue_settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/backoff_text.h"
#include "runtime/units.h"
#include "scheduler/bus/limits.h"
#include "shm/error.h"
#include "shm/topic.h"

#define WHY_BYTES PAWL_QUEUE_SETTING_WHY_BYTES
#define DAY_NS    (UINT64_C(86400) * 1000000000)

enum { PATTERNS_MAX = 256, NAME_BYTES_MAX = 64 };

const char *pawl_queue_name_check(const char *name)
{
    size_t bytes = strlen(name);
    if (bytes == 0)
        return "a name is not empty";
    if (bytes > NAME_BYTES_MAX)
        return "a name has at most 64 bytes";
    if (name[0] == '.' || name[0] == '-')
        return "a name does not begin with . or -";
    for (size_t i = 0; i < bytes; i++) {
        char c = name[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                    c == '.' || c == '-';
        if (!good)
            return "a name has letters, digits, _ . and -";
    }
    return NULL;
}

static int refuse(char why[WHY_BYTES], int error, const char *value, const char *words)
{
    snprintf(why, WHY_BYTES, "'%.80s' %s", value, words);
    return error;
}

static int refuse_because(char why[WHY_BYTES], const char *value, const char *words)
{
    snprintf(why, WHY_BYTES, "'%.80s': %s", value, words);
    return PAWL_E_INVALID;
}

/* The object below @key, made when missing. */
static json_t *part_of(json_t *config, const char *key)
{
    json_t *part = json_object_get(config, key);
    if (part == NULL) {
        part = json_object();
        json_object_set_new(config, key, part);
    }
    return part;
}

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* A whole number from @text on; *@end_out behind it. */
static bool read_count(const char *text, uint64_t *value_out, const char **end_out)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    *value_out = value;
    *end_out = end;
    return errno == 0;
}

/* ---- settings with a form of their own ---- */

static int put_topic(json_t *config, const char *value, char why[WHY_BYTES])
{
    if (strlen(value) > PAWL_TOPIC_BYTES_MAX)
        return refuse(why, PAWL_E_LIMIT, value, "is longer than 255 bytes");
    const char *wrong = pawl_pattern_check(value, strlen(value));
    if (wrong != NULL)
        return refuse_because(why, value, wrong);
    json_t *topics = json_object_get(config, "topics");
    if (topics == NULL) {
        topics = json_array();
        json_object_set_new(config, "topics", topics);
    }
    if (json_array_size(topics) >= PATTERNS_MAX)
        return refuse(why, PAWL_E_LIMIT, value, "is one pattern too many: a queue has at most 256");
    json_t *text = json_string(value);
    if (text == NULL)
        return refuse(why, PAWL_E_INVALID, value, "is not UTF-8");
    json_array_append_new(topics, text);
    return 0;
}

static int put_max_deliver(json_t *config, const char *value, char why[WHY_BYTES])
{
    uint64_t limit;
    const char *end;
    if (!read_count(value, &limit, &end) || *end != '\0')
        return refuse(why, PAWL_E_INVALID, value, "is not a number");
    if (limit > PAWL_RETRY_LIMIT_MAX)
        return refuse(why, PAWL_E_LIMIT, value, "is above the limit: from 0 (no limit) to 4095");
    json_object_set_new(part_of(config, "retry"), "limit", number(limit));
    return 0;
}

static int put_backoff(json_t *config, const char *value, char why[WHY_BYTES])
{
    char reason[PAWL_RETRY_WHY_BYTES] = "";
    struct pawl_retry_rules rules;
    pawl_retry_rules_init(&rules);
    int error = pawl_backoff_parse(value, &rules.base, reason);
    if (error != 0) {
        snprintf(why, WHY_BYTES, "%s", reason);
    } else {
        json_t *json = pawl_retry_rules_json(&rules);
        json_object_set(part_of(config, "retry"), "backoff", json_object_get(json, "backoff"));
        json_decref(json);
    }
    pawl_retry_rules_fini(&rules);
    return error;
}

static int put_retry(json_t *config, const char *value, char why[WHY_BYTES])
{
    char reason[PAWL_RETRY_WHY_BYTES] = "";
    struct pawl_retry_rules rules;
    pawl_retry_rules_init(&rules);
    int error = pawl_retry_rule_parse(value, &rules, reason);
    if (error != 0) {
        snprintf(why, WHY_BYTES, "%s", reason);
    } else {
        json_t *json = pawl_retry_rules_json(&rules);
        json_t *causes = part_of(part_of(config, "retry"), "causes");
        json_object_update(causes, json_object_get(json, "causes"));
        json_decref(json);
    }
    pawl_retry_rules_fini(&rules);
    return error;
}

static int put_dlq(json_t *config, const char *value, char why[WHY_BYTES])
{
    const char *wrong = pawl_queue_name_check(value);
    if (wrong != NULL)
        return refuse_because(why, value, wrong);
    json_object_set_new(config, "dlq", json_string(value));
    return 0;
}

static int put_overflow(json_t *config, const char *value, char why[WHY_BYTES])
{
    uint64_t policy;
    if (pawl_overflow_parse(value, &policy) != 0)
        return refuse(why, PAWL_E_INVALID, value,
                      "is no policy: block, drop_newest, drop_oldest, reject or dead_letter");
    json_object_set_new(config, "overflow", json_string(pawl_overflow_name(policy)));
    return 0;
}

/* PATTERN=POLICY: a pattern may hold a =, a policy may not. */
static int put_topic_overflow(json_t *config, const char *value, char why[WHY_BYTES])
{
    const char *equals = strrchr(value, '=');
    uint64_t policy;
    if (equals == NULL || equals == value)
        return refuse(why, PAWL_E_INVALID, value, "is not PATTERN=POLICY");
    if (pawl_overflow_parse(equals + 1, &policy) != 0)
        return refuse(why, PAWL_E_INVALID, equals + 1,
                      "is no policy: block, drop_newest, drop_oldest, reject or dead_letter");
    char pattern[256 + 1];
    size_t bytes = (size_t)(equals - value);
    if (bytes > PAWL_TOPIC_BYTES_MAX)
        return refuse(why, PAWL_E_LIMIT, value, "has a pattern that is longer than 255 bytes");
    const char *wrong = pawl_pattern_check(value, bytes);
    if (wrong != NULL)
        return refuse_because(why, value, wrong);
    memcpy(pattern, value, bytes);
    pattern[bytes] = '\0';
    json_object_set_new(part_of(config, "overflow_topics"), pattern, json_string(pawl_overflow_name(policy)));
    return 0;
}

/* N/D: 100/s, 100/1m, 5/250ms; 0: no limit */
static int put_rate(json_t *config, const char *value, char why[WHY_BYTES])
{
    static const char form[] = "is no rate: write 100/s, 30/1m or 5/250ms (0: no limit)";
    uint64_t count, per_ns;
    const char *at;
    char duration[64];
    if (strcmp(value, "0") == 0) {
        json_object_set_new(config, "rate", json_pack("{s:i}", "count", 0));
        return 0;
    }
    if (!read_count(value, &count, &at) || count == 0 || *at != '/' || at[1] == '\0')
        return refuse(why, PAWL_E_INVALID, value, form);
    at++;
    snprintf(duration, sizeof duration, "%s%s", *at >= '0' && *at <= '9' ? "" : "1", at);
    if (pawl_parse_duration_ns(duration, strlen(duration), &per_ns) != 0 || per_ns == 0)
        return refuse(why, PAWL_E_INVALID, value, form);
    if (count > 1000000000 || per_ns > DAY_NS)
        return refuse(why, PAWL_E_LIMIT, value, "is above the limit: from 1 to 1000000000, per 1ns to 1d");
    json_object_set_new(config, "rate",
                        json_pack("{s:I, s:I}", "count", (json_int_t)count, "per_ns", (json_int_t)per_ns));
    return 0;
}

static int put_guarantee(json_t *config, const char *value, char why[WHY_BYTES])
{
    if (strcmp(value, "at_most_once") != 0 && strcmp(value, "at_least_once") != 0)
        return refuse(why, PAWL_E_INVALID, value, "is no guarantee: at_most_once or at_least_once");
    json_object_set_new(config, "guarantee", json_string(value));
    return 0;
}

static int put_durability(json_t *config, const char *value, char why[WHY_BYTES])
{
    uint64_t mode;
    if (pawl_durability_parse(value, &mode) != 0)
        return refuse(why, PAWL_E_INVALID, value, "is no durability: memory, async or fsync");
    json_object_set_new(config, "durability", json_string(pawl_durability_name(mode)));
    return 0;
}

/* A duration keeps by age, a size by bytes; "none" takes both back. */
static int put_retain(json_t *config, const char *value, char why[WHY_BYTES])
{
    uint64_t amount;
    size_t bytes = strlen(value);
    const char *key = "retain_ns";
    if (strcmp(value, "none") == 0) {
        json_object_set_new(config, "retain_ns", number(0));
        json_object_set_new(config, "retain_bytes", number(0));
        return 0;
    }
    if (pawl_parse_duration_ns(value, bytes, &amount) != 0) {
        key = "retain_bytes";
        if (pawl_parse_bytes(value, bytes, &amount) != 0)
            return refuse(why, PAWL_E_INVALID, value,
                          "is neither a duration nor a size: write 12h, 30d, 10GiB, or none");
    }
    if (amount == 0)
        return refuse(why, PAWL_E_INVALID, value, "keeps nothing (none: no bound)");
    json_object_set_new(config, key, number(amount));
    return 0;
}

/* FAILURES[,COOLDOWN[,PROBES[,SUCCESSES]]]; 0: no breaker */
static int put_breaker(json_t *config, const char *value, char why[WHY_BYTES])
{
    static const char form[] = "is no breaker: write FAILURES,COOLDOWN,PROBES as in 5,30s,3 (0: none; at "
                               "most 1000000 failures, 4096 probes)";
    const char *at;
    uint64_t failures, cooldown_ns, probes, successes;
    json_t *breaker = json_object();
    int error = 0;
    if (!read_count(value, &failures, &at) || failures > 1000000)
        goto invalid;
    json_object_set_new(breaker, "failures", number(failures));
    if (*at == ',') {
        size_t bytes = strcspn(at + 1, ",");
        if (pawl_parse_duration_ns(at + 1, bytes, &cooldown_ns) != 0)
            goto invalid;
        json_object_set_new(breaker, "cooldown_ns", number(cooldown_ns));
        at += 1 + bytes;
    }
    if (*at == ',') {
        if (!read_count(at + 1, &probes, &at) || probes == 0 || probes > 4096)
            goto invalid;
        json_object_set_new(breaker, "probes", number(probes));
    }
    if (*at == ',') {
        if (!read_count(at + 1, &successes, &at) || successes == 0 || successes > 1000000)
            goto invalid;
        json_object_set_new(breaker, "successes", number(successes));
    }
    if (*at != '\0')
        goto invalid;
    json_object_set(config, "breaker", breaker);
    goto out;
invalid:
    error = refuse(why, PAWL_E_INVALID, value, form);
out:
    json_decref(breaker);
    return error;
}

static int put_ordering_key(json_t *config, const char *value, char why[WHY_BYTES])
{
    json_t *text = value[0] != '\0' ? json_string(value) : NULL;
    if (text == NULL)
        return refuse(why, PAWL_E_INVALID, value, "is no name of a header");
    json_object_set_new(config, "ordering_key", text);
    return 0;
}

/* ---- the table ---- */

const struct pawl_queue_setting pawl_queue_settings[] = {
    {"topic", "topics", PAWL_SETTING_OTHER, true, 0, 0, put_topic},
    {"ack-wait", "ack_wait_ns", PAWL_SETTING_DURATION, false, 1000000, 7 * DAY_NS, NULL},
    {"max-deliver", "retry", PAWL_SETTING_OTHER, false, 0, 0, put_max_deliver},
    {"backoff", "retry", PAWL_SETTING_OTHER, false, 0, 0, put_backoff},
    {"retry", "retry", PAWL_SETTING_OTHER, true, 0, 0, put_retry},
    {"dlq", "dlq", PAWL_SETTING_OTHER, false, 0, 0, put_dlq},
    {"max-depth", "max_depth", PAWL_SETTING_COUNT, false, 1, PAWL_LIMIT_DISK, NULL},
    {"max-bytes", "max_bytes", PAWL_SETTING_BYTES, false, 1, PAWL_LIMIT_DISK, NULL},
    {"overflow", "overflow", PAWL_SETTING_OTHER, false, 0, 0, put_overflow},
    {"topic-overflow", "overflow_topics", PAWL_SETTING_OTHER, true, 0, 0, put_topic_overflow},
    {"max-in-flight", "max_in_flight", PAWL_SETTING_COUNT, false, 0, 1000000, NULL},
    {"rate", "rate", PAWL_SETTING_OTHER, false, 0, 0, put_rate},
    {"ttl", "ttl_ns", PAWL_SETTING_DURATION, false, 0, 3650 * DAY_NS, NULL},
    {"strict-attempts", "strict_attempts", PAWL_SETTING_FLAG, false, 0, 0, NULL},
    {"guarantee", "guarantee", PAWL_SETTING_OTHER, false, 0, 0, put_guarantee},
    {"durability", "durability", PAWL_SETTING_OTHER, false, 0, 0, put_durability},
    {"ordering-key", "ordering_key", PAWL_SETTING_OTHER, false, 0, 0, put_ordering_key},
    {"stream", "stream", PAWL_SETTING_FLAG, false, 0, 0, NULL},
    {"retain", "retain_ns", PAWL_SETTING_OTHER, true, 0, 0, put_retain},
    {"breaker", "breaker", PAWL_SETTING_OTHER, false, 0, 0, put_breaker},
    {"temporary", "temporary", PAWL_SETTING_FLAG, false, 0, 0, NULL},
    {"unrouted", "unrouted", PAWL_SETTING_FLAG, false, 0, 0, NULL},
    {"interruptions", "interruptions", PAWL_SETTING_COUNT, false, 1, 1000, NULL},
    {NULL, NULL, PAWL_SETTING_FLAG, false, 0, 0, NULL},
};

const struct pawl_queue_setting *pawl_queue_setting_find(const char *name)
{
    if (strcmp(name, "topics") == 0)
        name = "topic";
    for (const struct pawl_queue_setting *setting = pawl_queue_settings; setting->name != NULL; setting++)
        if (strcmp(setting->name, name) == 0)
            return setting;
    return NULL;
}

static const char *amount_text(const struct pawl_queue_setting *setting, uint64_t amount,
                               char text[PAWL_UNIT_TEXT_BYTES])
{
    if (amount == PAWL_LIMIT_DISK)
        return "what the disk takes";
    if (setting->kind == PAWL_SETTING_DURATION)
        return pawl_duration_text(amount, text);
    if (setting->kind == PAWL_SETTING_BYTES)
        return pawl_bytes_text(amount, text);
    snprintf(text, PAWL_UNIT_TEXT_BYTES, "%llu", (unsigned long long)amount);
    return text;
}

static int refuse_range(const struct pawl_queue_setting *setting, int error, const char *value,
                        const char *words, char why[WHY_BYTES])
{
    char from[PAWL_UNIT_TEXT_BYTES], to[PAWL_UNIT_TEXT_BYTES];
    snprintf(why, WHY_BYTES, "'%.80s' %s: from %s to %s", value, words,
             amount_text(setting, setting->minimum, from), amount_text(setting, setting->maximum, to));
    return error;
}

static int put_number(json_t *config, const struct pawl_queue_setting *setting, const char *value,
                      char why[WHY_BYTES])
{
    uint64_t amount = 0;
    size_t bytes = strlen(value);
    const char *end = value, *form;
    int error;
    if (setting->kind == PAWL_SETTING_DURATION) {
        error = pawl_parse_duration_ns(value, bytes, &amount);
        form = "is not a duration: write 250ms, 10s, 5m, 1h30m or 2d";
    } else if (setting->kind == PAWL_SETTING_BYTES) {
        error = pawl_parse_bytes(value, bytes, &amount);
        form = "is not a size: write 64KiB, 10MB or 1GiB";
    } else {
        error = read_count(value, &amount, &end) && *end == '\0' ? 0 : PAWL_E_INVALID;
        form = "is not a number";
    }
    if (error == PAWL_E_LIMIT || (error == 0 && amount > setting->maximum))
        return refuse_range(setting, PAWL_E_LIMIT, value, "is above the limit", why);
    if (error != 0)
        return refuse(why, PAWL_E_INVALID, value, form);
    if (amount < setting->minimum)
        return refuse_range(setting, PAWL_E_INVALID, value, "is too small", why);
    json_object_set_new(config, setting->json, number(amount));
    return 0;
}

int pawl_queue_setting_put(json_t *config, const struct pawl_queue_setting *setting, const char *value,
                           char why[PAWL_QUEUE_SETTING_WHY_BYTES])
{
    why[0] = '\0';
    switch (setting->kind) {
    case PAWL_SETTING_FLAG:
        if (value != NULL && strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            return refuse(why, PAWL_E_INVALID, value, "is neither true nor false");
        json_object_set_new(config, setting->json, json_boolean(value == NULL || strcmp(value, "true") == 0));
        return 0;
    case PAWL_SETTING_COUNT:
    case PAWL_SETTING_BYTES:
    case PAWL_SETTING_DURATION:
        return put_number(config, setting, value, why);
    case PAWL_SETTING_OTHER:
        return setting->put(config, value, why);
    }
    return PAWL_E_INVALID;
}
