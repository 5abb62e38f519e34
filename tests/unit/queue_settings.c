/*
 * queue_settings.c - a queue's settings from words to JSON, and the words for what is wrong.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdlib.h>
#include <string.h>

#include "runtime/queue_settings.h"
#include "scheduler/bus/config.h"
#include "shm/error.h"

static json_t *config;
static char why[PAWL_QUEUE_SETTING_WHY_BYTES];

static void begin(void)
{
    config = json_object();
}

static void end(void)
{
    json_decref(config);
}

TestSuite(queue_settings, .init = begin, .fini = end);

static int put(const char *name, const char *value)
{
    const struct pawl_queue_setting *setting = pawl_queue_setting_find(name);
    cr_assert(setting != NULL, "no setting %s", name);
    return pawl_queue_setting_put(config, setting, value, why);
}

/* The configuration as text, and a new one begun. */
static const char *taken(void)
{
    static char *text;
    free(text);
    text = json_dumps(config, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(config);
    config = json_object();
    return text;
}

static void expect_put(const char *name, const char *value, const char *json)
{
    cr_expect(eq(int, put(name, value), 0), "%s %s: %s", name, value, why);
    cr_expect(eq(str, (char *)taken(), (char *)json), "%s %s", name, value);
}

Test(queue_settings, each_form_becomes_its_json)
{
    expect_put("topic", "order.*", "{\"topics\":[\"order.*\"]}");
    expect_put("ack-wait", "1m30s", "{\"ack_wait_ns\":90000000000}");
    expect_put("max-deliver", "0", "{\"retry\":{\"limit\":0}}");
    expect_put("dlq", "graves", "{\"dlq\":\"graves\"}");
    expect_put("max-depth", "10", "{\"max_depth\":10}");
    expect_put("max-bytes", "64KiB", "{\"max_bytes\":65536}");
    expect_put("overflow", "drop-oldest", "{\"overflow\":\"drop_oldest\"}");
    expect_put("topic-overflow", "a=b.*=block", "{\"overflow_topics\":{\"a=b.*\":\"block\"}}");
    expect_put("rate", "100/s", "{\"rate\":{\"count\":100,\"per_ns\":1000000000}}");
    expect_put("rate", "5/250ms", "{\"rate\":{\"count\":5,\"per_ns\":250000000}}");
    expect_put("stream", NULL, "{\"stream\":true}");
    expect_put("stream", "false", "{\"stream\":false}");
    expect_put("rate", "0", "{\"rate\":{\"count\":0}}");
    expect_put("retain", "none", "{\"retain_bytes\":0,\"retain_ns\":0}");
    expect_put("retain", "7d", "{\"retain_ns\":604800000000000}");
    expect_put("retain", "10GiB", "{\"retain_bytes\":10737418240}");
    expect_put("breaker", "0", "{\"breaker\":{\"failures\":0}}");
    expect_put("breaker", "5,30s,3,2",
               "{\"breaker\":{\"cooldown_ns\":30000000000,\"failures\":5,\"probes\":3,\"successes\":2}}");
    expect_put("backoff", "1s,5s",
               "{\"retry\":{\"backoff\":{\"delays_ns\":[1000000000,5000000000],"
               "\"jitter\":0.0,\"kind\":\"list\"}}}");
}

Test(queue_settings, parts_of_one_object_add_up)
{
    cr_assert(eq(int, put("max-deliver", "3"), 0));
    cr_assert(eq(int, put("retry", "deadline=2"), 0));
    cr_assert(eq(int, put("retry", "exit:75=never"), 0));
    json_t *retry = json_object_get(config, "retry");
    cr_expect(eq(int, (int)json_integer_value(json_object_get(retry, "limit")), 3));
    cr_expect(eq(sz, json_object_size(json_object_get(retry, "causes")), 2));
    cr_expect(json_object_get(retry, "backoff") == NULL, "what was not said is not sent");
}

Test(queue_settings, values_beyond_their_maximum_are_a_limit_and_others_invalid)
{
    static const struct {
        const char *name, *value;
        int error;
    } wrong[] = {
        {"ack-wait", "604801s", PAWL_E_LIMIT},
        {"ack-wait", "0s", PAWL_E_INVALID},
        {"ack-wait", "x", PAWL_E_INVALID},
        {"max-deliver", "4096", PAWL_E_LIMIT},
        {"max-deliver", "-1", PAWL_E_INVALID},
        {"max-depth", "0", PAWL_E_INVALID},
        {"ttl", "3651d", PAWL_E_LIMIT},
        {"rate", "0/s", PAWL_E_INVALID},
        {"rate", "5", PAWL_E_INVALID},
        {"rate", "5/", PAWL_E_INVALID},
        {"rate", "5/0s", PAWL_E_INVALID},
        {"rate", "5/2d", PAWL_E_LIMIT},
        {"breaker", "5,", PAWL_E_INVALID},
        {"breaker", "5,30s,0", PAWL_E_INVALID},
        {"retain", "0s", PAWL_E_INVALID},
        {"topic", "a..b", PAWL_E_INVALID},
        {"topic-overflow", "=block", PAWL_E_INVALID},
        {"stream", "yes", PAWL_E_INVALID},
        {"dlq", ".x", PAWL_E_INVALID},
        {"guarantee", "exactly_once", PAWL_E_INVALID},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cr_expect(eq(int, put(wrong[i].name, wrong[i].value), wrong[i].error), "%s %s", wrong[i].name,
                  wrong[i].value);
        cr_expect(strstr(why, wrong[i].value) != NULL || strcmp(wrong[i].name, "topic-overflow") == 0,
                  "%s: %s", wrong[i].name, why);
        cr_expect(eq(str, (char *)taken(), "{}"));
    }
}

Test(queue_settings, a_queue_has_256_patterns_and_not_one_more)
{
    for (int i = 0; i < 256; i++)
        cr_assert(eq(int, put("topic", "a.b"), 0));
    cr_expect(eq(int, put("topic", "a.b"), PAWL_E_LIMIT));
}

Test(queue_settings, names_hold_to_64_bytes_of_their_alphabet)
{
    char name[66];
    memset(name, 'x', sizeof name);
    name[64] = '\0';
    cr_expect(pawl_queue_name_check(name) == NULL);
    name[64] = 'x';
    name[65] = '\0';
    cr_expect(pawl_queue_name_check(name) != NULL);
    cr_expect(pawl_queue_name_check("A-z_0.9") == NULL);
    static const char *const wrong[] = {"", ".a", "-a", "a b", "a/b", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_expect(pawl_queue_name_check(wrong[i]) != NULL, "%s", wrong[i]);
}

/* The scheduler must know every key that is sent to it. */
Test(queue_settings, all_of_them_together_are_a_configuration_that_the_scheduler_takes)
{
    static const char *const all[][2] = {{"topic", "a.*"},
                                         {"ack-wait", "30s"},
                                         {"max-deliver", "5"},
                                         {"backoff", "1s,2,10s,0.1"},
                                         {"retry", "nack=3,1s"},
                                         {"dlq", "d"},
                                         {"max-depth", "10"},
                                         {"max-bytes", "1MiB"},
                                         {"overflow", "block"},
                                         {"topic-overflow", "a.x=reject"},
                                         {"max-in-flight", "4"},
                                         {"rate", "10/s"},
                                         {"ttl", "1h"},
                                         {"strict-attempts", NULL},
                                         {"guarantee", "at_least_once"},
                                         {"durability", "fsync"},
                                         {"ordering-key", "k"},
                                         {"breaker", "5,30s,3"},
                                         {"temporary", "false"},
                                         {"unrouted", "false"},
                                         {"stream", "false"},
                                         {"retain", "1d"},
                                         {"interruptions", "9"}};
    struct pawl_bus_limits limits;
    struct pawl_queue_config queue;
    char reason[256] = "";
    for (const struct pawl_queue_setting *s = pawl_queue_settings; s->name != NULL; s++) {
        bool tried = false;
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            tried = tried || strcmp(all[i][0], s->name) == 0;
        cr_expect(tried, "%s is not tried here", s->name);
    }
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        cr_assert(eq(int, put(all[i][0], all[i][1]), 0), "%s: %s", all[i][0], why);
    pawl_bus_limits_default(&limits);
    /* Two do not go together: a queue has an order of keys, a stream has a time for which it keeps events. */
    cr_assert(eq(int, pawl_queue_config_load(config, "q", &limits, NULL, &queue, reason), PAWL_E_INVALID));
    json_object_del(config, "retain_ns");
    cr_assert(eq(int, pawl_queue_config_load(config, "q", &limits, NULL, &queue, reason), 0), "%s", reason);
    cr_expect(eq(u32, queue.retry.base.limit, 5));
    cr_expect(eq(u64, queue.rate_count, 10));
    cr_expect(eq(u32, queue.interruptions_max, 9));
    pawl_queue_config_fini(&queue);
    json_object_del(config, "ordering_key");
    cr_assert(eq(int, put("stream", "true"), 0), "%s", why);
    cr_assert(eq(int, pawl_queue_config_load(config, "q", &limits, NULL, &queue, reason), PAWL_E_INVALID));
    cr_expect(ne(ptr, strstr(reason, "overflow"), NULL), "%s", reason);
    json_object_del(config, "overflow");
    json_object_del(config, "overflow_topics");
    cr_assert(eq(int, put("retain", "1d"), 0), "%s", why);
    cr_assert(eq(int, pawl_queue_config_load(config, "q", &limits, NULL, &queue, reason), 0), "%s", reason);
    cr_expect(eq(u64, queue.retain_ns, UINT64_C(86400000000000)));
    pawl_queue_config_fini(&queue);
}
