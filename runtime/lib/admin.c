/*
 * admin.c - queues declared and looked after, metrics, health: questions over the socket, answered in JSON.
 *
 * Runs in: the program that uses pawl.h.
 */
#include "runtime/lib/lib.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "runtime/backoff_text.h"
#include "runtime/lib/command.h"
#include "scheduler/bus/retry.h"
#include "shm/error.h"

#define NAME_WAIT_NS UINT64_C(1000000000)

/* One JSON request; its reply as an object, to be json_decref()'d; NULL is fine. */
static int request(struct pawl *pawl, json_t *body, bool repeatable, json_t **reply_out)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    int error = text ? 0 : pawl_lib_fail(pawl, -ENOMEM, "no memory for a request");
    if (!error)
        error = pawl_lib_ask(pawl, PAWL_WIRE_BUS, text, strlen(text), NULL, 0, NULL, 0, PAWL_WIRE_BUS_OK, 0,
                             repeatable, PAWL_LIB_FOREVER);
    free(text);
    if (!error && reply_out) {
        *reply_out = json_loadb(pawl->answer.body, pawl->answer.header.bytes,
                                JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
        if (!*reply_out)
            error = pawl_lib_fail(pawl, PAWL_E_BAD_MESSAGE, "the scheduler's answer is not JSON");
    }
    pawl_lib_arm(pawl);
    return error;
}

/* Is it the same to ask once more, whether it was done or not? */
static bool is_repeatable(const char *json)
{
    static const char *const ops[] = {"queue.list",  "queue.show",   "queue.name", "queue.declare",
                                      "queue.pause", "queue.resume", "dlq.list",   "group.lag"};
    json_t *request = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    const char *op = json_string_value(json_object_get(request, "op"));
    bool repeatable = false;
    for (size_t i = 0; op && i < sizeof ops / sizeof ops[0]; i++)
        repeatable = repeatable || strcmp(op, ops[i]) == 0;
    json_decref(request);
    return repeatable;
}

int pawl_request(struct pawl *pawl, const char *json, char **reply_out)
{
    if (reply_out)
        *reply_out = NULL;
    int error = pawl_lib_check(pawl);
    if (!error)
        error = pawl_lib_need(pawl, json, "json");
    if (!error)
        error = pawl_lib_need(pawl, reply_out, "reply_out");
    if (error)
        return error;
    error = pawl_lib_ask(pawl, PAWL_WIRE_BUS, json, strlen(json), NULL, 0, NULL, 0, PAWL_WIRE_BUS_OK, 0,
                         is_repeatable(json), PAWL_LIB_FOREVER);
    if (!error) {
        *reply_out = strndup(pawl->answer.body, pawl->answer.header.bytes);
        error = *reply_out ? 0 : -ENOMEM;
    }
    pawl_lib_arm(pawl);
    return error;
}

/* ---- declare ---- */

static int set(json_t *config, const char *key, json_t *value)
{
    return json_object_set_new(config, key, value);
}

static int set_ms(json_t *config, const char *key, uint64_t ms)
{
    if (ms > INT64_MAX / 1000000)
        ms = INT64_MAX / 1000000;
    return ms ? set(config, key, json_integer((json_int_t)(ms * 1000000))) : 0;
}

static int set_count(json_t *config, const char *key, uint64_t count)
{
    return count ? set(config, key, json_integer((json_int_t)(count > INT64_MAX ? INT64_MAX : count))) : 0;
}

static int set_text(struct pawl *pawl, json_t *config, const char *key, const char *text)
{
    if (!text)
        return 0;
    json_t *value = json_string(text);
    if (!value)
        return pawl_lib_fail(pawl, PAWL_E_INVALID, "%s: it is not UTF-8", key);
    return set(config, key, value) ? -ENOMEM : 0;
}

static int set_topics(struct pawl *pawl, json_t *config, const struct pawl_queue_options *options)
{
    if (options->topic_count == 0)
        return 0;
    json_t *topics = json_array();
    int error = topics ? pawl_lib_need(pawl, options->topics, "topics") : -ENOMEM;
    for (size_t i = 0; i < options->topic_count && !error; i++) {
        json_t *topic = json_string(options->topics[i]); /* NULL of NULL, too */
        if (!topic)
            error = pawl_lib_fail(pawl, PAWL_E_INVALID, "topic %zu: it is %s", i,
                                  options->topics[i] ? "not UTF-8" : "NULL");
        else if (json_array_append_new(topics, topic))
            error = -ENOMEM;
    }
    if (!error && json_object_set(config, "topics", topics))
        error = -ENOMEM;
    json_decref(topics);
    return error;
}

/* So many in so long. */
static int set_rate(json_t *config, uint64_t count, uint64_t per_ms)
{
    if (count == 0)
        return 0;
    json_t *rate = json_object();
    return !rate || set_count(rate, "count", count) || set_ms(rate, "per_ns", per_ms ? per_ms : 1000) ||
           set(config, "rate", rate);
}

static int set_word(struct pawl *pawl, json_t *config, const char *key, const char *const *words,
                    size_t count, int value)
{
    if (value == 0)
        return 0;
    if (value < 0 || (size_t)value >= count)
        return pawl_lib_fail(pawl, PAWL_E_INVALID, "%s: %d is none of its values", key, value);
    return set(config, key, json_string(words[value])) ? -ENOMEM : 0;
}

/* {"limit":..., "backoff":...} of what was given; NULL: nothing was. */
static int retry_json(struct pawl *pawl, const struct pawl_queue_options *options, json_t **retry_out)
{
    struct pawl_retry_rules rules;
    char why[PAWL_RETRY_WHY_BYTES] = "";
    *retry_out = NULL;
    if (options->max_deliver == 0 && !options->backoff)
        return 0;
    if (options->max_deliver < -1 || options->max_deliver > PAWL_RETRY_LIMIT_MAX)
        return pawl_lib_fail(pawl, PAWL_E_LIMIT, "max_deliver %" PRId64 ": at most %d, -1: no limit",
                             options->max_deliver, PAWL_RETRY_LIMIT_MAX);
    pawl_retry_rules_init(&rules);
    int error = options->backoff ? pawl_backoff_parse(options->backoff, &rules.base, why) : 0;
    if (options->max_deliver != 0)
        rules.base.limit = options->max_deliver < 0 ? 0 : (uint32_t)options->max_deliver;
    if (error)
        pawl_lib_fail(pawl, error, "backoff '%.80s': %s", options->backoff, why);
    else
        *retry_out = pawl_retry_rules_json(&rules);
    if (!error && !*retry_out)
        error = -ENOMEM;
    pawl_retry_rules_fini(&rules);
    return error;
}

static int put_words(struct pawl *pawl, json_t *config, const struct pawl_queue_options *options)
{
    static const char *const overflows[] = {"",       "block",      "drop_newest", "drop_oldest",
                                            "reject", "dead_letter"};
    static const char *const durabilities[] = {"", "memory", "async", "fsync"};
    static const char *const guarantees[] = {"", "at_most_once", "at_least_once"};
    int error = set_word(pawl, config, "overflow", overflows, 6, (int)options->overflow);
    if (!error)
        error = set_word(pawl, config, "durability", durabilities, 4, (int)options->durability);
    if (!error)
        error = set_word(pawl, config, "guarantee", guarantees, 3, (int)options->guarantee);
    return error;
}

static int config_json(struct pawl *pawl, const struct pawl_queue_options *options, json_t **config_out)
{
    json_t *config = json_object(), *retry = NULL;
    int failed = 0, error = config ? set_topics(pawl, config, options) : -ENOMEM;
    if (error)
        goto drop;
    failed |= set_ms(config, "ack_wait_ns", options->ack_wait_ms);
    failed |= set_ms(config, "ttl_ns", options->ttl_ms);
    failed |= set_ms(config, "retain_ns", options->retain_ms);
    failed |= set_count(config, "retain_bytes", options->retain_bytes);
    failed |= set_count(config, "max_depth", options->max_depth);
    failed |= set_count(config, "max_bytes", options->max_bytes);
    failed |= set_count(config, "max_in_flight", options->max_in_flight);
    failed |= set_rate(config, options->rate_count, options->rate_per_ms);
    if (options->strict_attempts)
        failed |= set(config, "strict_attempts", json_true());
    if (options->stream)
        failed |= set(config, "stream", json_true());
    if (options->temporary)
        failed |= set(config, "temporary", json_true());
    error = put_words(pawl, config, options);
    if (!error)
        error = set_text(pawl, config, "dlq", options->dead_letter_queue);
    if (!error)
        error = set_text(pawl, config, "ordering_key", options->ordering_key);
    if (!error)
        error = retry_json(pawl, options, &retry);
    if (retry)
        failed |= set(config, "retry", retry);
    if (!failed && !error) {
        *config_out = config;
        return 0;
    }
drop:
    json_decref(config);
    return error && error != -ENOMEM ? error
                                     : pawl_lib_fail(pawl, -ENOMEM, "no memory for the configuration");
}

int pawl_queue_declare(struct pawl *pawl, const char *name, const struct pawl_queue_options *given)
{
    struct pawl_queue_options options;
    char field[PAWL_NAME_BYTES];
    json_t *config = NULL;
    int error = pawl_lib_check(pawl);
    if (!error)
        error = pawl_lib_options(pawl, "pawl_queue_options", given, &options, sizeof options);
    if (!error)
        error = pawl_lib_name(pawl, "queue", name, field);
    if (error)
        return error;
    if (options.json) {
        json_error_t why;
        config = json_loads(options.json, JSON_REJECT_DUPLICATES, &why);
        if (!config)
            return pawl_lib_fail(pawl, PAWL_E_INVALID, "configuration of %s: %s at %d:%d", name, why.text,
                                 why.line, why.column);
    } else {
        error = config_json(pawl, &options, &config);
        if (error)
            return error;
    }
    /* A temporary queue ends with its client: one that has a lane. */
    if (json_is_true(json_object_get(config, "temporary")))
        error = pawl_lib_need_lane(pawl, PAWL_LIB_FOREVER);
    json_t *body = json_pack("{s:s,s:s,s:o}", "op", "queue.declare", "name", name, "config", config);
    if (!error)
        error = request(pawl, body, true, NULL);
    json_decref(body);
    return error;
}

/* ---- and the rest ---- */

static int queue_op(struct pawl *pawl, const char *op, const char *name, bool repeatable, json_t **reply_out)
{
    char field[PAWL_NAME_BYTES];
    int error = pawl_lib_check(pawl);
    if (!error)
        error = pawl_lib_name(pawl, "queue", name, field);
    if (error)
        return error;
    json_t *body = json_pack("{s:s,s:s}", "op", op, "name", name);
    error = request(pawl, body, repeatable, reply_out);
    json_decref(body);
    return error;
}

int pawl_queue_delete(struct pawl *pawl, const char *name)
{
    return queue_op(pawl, "queue.delete", name, false, NULL);
}

int pawl_queue_pause(struct pawl *pawl, const char *name)
{
    return queue_op(pawl, "queue.pause", name, true, NULL);
}

int pawl_queue_resume(struct pawl *pawl, const char *name)
{
    return queue_op(pawl, "queue.resume", name, true, NULL);
}

int pawl_queue_purge(struct pawl *pawl, const char *name, uint64_t *count_out)
{
    json_t *reply = NULL;
    int error = queue_op(pawl, "queue.purge", name, false, &reply);
    if (!error && count_out)
        *count_out = (uint64_t)json_integer_value(json_object_get(reply, "purged"));
    json_decref(reply);
    return error;
}

/* ---- who refused ---- */

/* A refusal has the queue's number, which no other queue gets. */
static int ask_name(struct pawl *pawl, char name[PAWL_NAME_BYTES])
{
    char text[64];
    int bytes = snprintf(text, sizeof text, "{\"op\":\"queue.name\",\"number\":%u}", pawl->refusing);
    int error = pawl_lib_ask(pawl, PAWL_WIRE_BUS, text, (size_t)bytes, NULL, 0, NULL, 0, PAWL_WIRE_BUS_OK, 2,
                             true, pawl_lib_deadline_ns(NAME_WAIT_NS));
    json_t *reply = error ? NULL : json_loadb(pawl->answer.body, pawl->answer.header.bytes, 0, NULL);
    const char *answer = json_string_value(json_object_get(reply, "name"));
    snprintf(name, PAWL_NAME_BYTES, "%s", answer ? answer : "");
    json_decref(reply);
    pawl_lib_arm(pawl);
    return error;
}

const char *pawl_refusing_queue(struct pawl *pawl)
{
    char words[PAWL_LIB_ERROR_BYTES];
    if (pawl->refusing == pawl->refusing_known)
        return pawl->refusing_name;
    if (pawl->refusing == 0 || pawl->awaited_tag)
        return "";
    memcpy(words, pawl->error, sizeof words); /* what it is asked for stays */
    pawl->refusing_known = 0; /* an answer that did not come in time is asked for again by the next refusal */
    if (ask_name(pawl, pawl->refusing_name) == 0)
        pawl->refusing_known = pawl->refusing;
    memcpy(pawl->error, words, sizeof words);
    return pawl->refusing_name;
}
