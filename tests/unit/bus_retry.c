/*
 * bus_retry - how long a failed delivery waits, when it is dead, and how rules are written.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/backoff_text.h"
#include "scheduler/bus/retry.h"
#include "shm/error.h"

#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

TestSuite(bus_retry, .timeout = 300);

static char why[PAWL_RETRY_WHY_BYTES];
static struct pawl_retry_rules rules;

static struct pawl_retry_policy policy_of(const char *text)
{
    struct pawl_retry_policy policy = {.limit = 7};
    why[0] = '\0';
    cr_assert(eq(int, pawl_backoff_parse(text, &policy, why), 0), "%s: %s", text, why);
    cr_assert(eq(u32, policy.limit, 7));
    return policy;
}

static void load(const char *text)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    cr_assert(ne(ptr, json, NULL), "%s", text);
    why[0] = '\0';
    cr_assert(eq(int, pawl_retry_rules_load(json, &rules, why), 0), "%s: %s", text, why);
    json_decref(json);
}

/* "dead", or the delay in ms */
static const char *verdict(uint32_t failures, uint32_t cause, uint32_t code)
{
    static char text[32];
    uint64_t delay = 1;
    uint32_t word = cause | code << 8;
    if (pawl_retry_decide(&rules, failures, word, UINT64_C(1) << 63, &delay) == PAWL_RETRY_DEAD) {
        cr_assert(eq(u64, delay, 0));
        return "dead";
    }
    snprintf(text, sizeof text, "%llu", (unsigned long long)(delay / MS));
    return text;
}

#define VERDICT(want, failures, cause, code)                                                                 \
    cr_expect(strcmp(verdict(failures, cause, code), want) == 0, "got %s, expected %s",                      \
              verdict(failures, cause, code), want)

Test(bus_retry, first_wait_is_the_initial_one_and_each_later_one_a_factor_longer_up_to_the_cap)
{
    struct pawl_retry_policy policy = policy_of("100ms,2,1s,0");
    uint64_t want[] = {100 * MS, 200 * MS, 400 * MS, 800 * MS, S, S};
    for (uint32_t i = 0; i < 6; i++)
        cr_expect(eq(u64, pawl_retry_delay_ns(&policy, i + 1, 0), want[i]));
    cr_expect(eq(u64, pawl_retry_delay_ns(&policy, 0, 0), want[0]));
}

Test(bus_retry, no_number_of_failures_makes_a_delay_overflow)
{
    struct pawl_retry_policy policy = {
        .kind = PAWL_BACKOFF_EXPONENTIAL, .initial_ns = PAWL_BACKOFF_NS_MAX, .factor = 1000, .jitter = 1};
    uint32_t counts[] = {1, 2, 64, 4095, UINT32_MAX};
    for (uint32_t i = 0; i < 5; i++) {
        policy.kind = PAWL_BACKOFF_EXPONENTIAL;
        cr_expect(le(u64, pawl_retry_delay_ns(&policy, counts[i], UINT64_MAX), 2 * PAWL_BACKOFF_NS_MAX));
        policy.kind = PAWL_BACKOFF_LINEAR;
        policy.increment_ns = PAWL_BACKOFF_NS_MAX;
        cr_expect(le(u64, pawl_retry_delay_ns(&policy, counts[i], UINT64_MAX), 2 * PAWL_BACKOFF_NS_MAX));
    }
    policy = (struct pawl_retry_policy){.kind = PAWL_BACKOFF_EXPONENTIAL, .factor = 1000};
    cr_expect(eq(u64, pawl_retry_delay_ns(&policy, UINT32_MAX, 1), 0), "nothing times anything is nothing");
}

Test(bus_retry, linear_adds_fixed_stays_and_a_list_ends_with_its_last)
{
    struct pawl_retry_policy linear = policy_of("linear:1s,500ms,2s"), fixed = policy_of("fixed:5s"),
                             list = policy_of("1s,5s,30s");
    uint64_t linear_want[] = {1000 * MS, 1500 * MS, 2000 * MS, 2000 * MS};
    uint64_t list_want[] = {S, 5 * S, 30 * S, 30 * S};
    for (uint32_t i = 0; i < 4; i++) {
        cr_expect(eq(u64, pawl_retry_delay_ns(&linear, i + 1, 0), linear_want[i]));
        cr_expect(eq(u64, pawl_retry_delay_ns(&fixed, i + 1, 0), 5 * S));
        cr_expect(eq(u64, pawl_retry_delay_ns(&list, i + 1, 0), list_want[i]));
    }
    cr_expect(eq(u64, pawl_retry_delay_ns(&list, UINT32_MAX, 0), 30 * S));
}

Test(bus_retry, jitter_spreads_evenly_around_the_capped_delay)
{
    struct pawl_retry_policy policy = policy_of("1s,2,4s,0.25");
    cr_expect(eq(u64, pawl_retry_delay_ns(&policy, 9, 0), 3 * S));
    cr_expect(eq(u64, pawl_retry_delay_ns(&policy, 9, UINT64_C(1) << 63), 4 * S));
    uint64_t most = pawl_retry_delay_ns(&policy, 9, UINT64_MAX);
    cr_expect(most > 5 * S - MS && most <= 5 * S);
    policy.jitter = 1;
    cr_expect(eq(u64, pawl_retry_delay_ns(&policy, 1, 0), 0));
}

Test(bus_retry, a_queue_that_says_nothing_dies_of_its_fifth_failure)
{
    pawl_retry_rules_init(&rules);
    VERDICT("100", 1, PAWL_CAUSE_NACK, 0);
    VERDICT("800", 4, PAWL_CAUSE_DEADLINE, 0);
    VERDICT("dead", 5, PAWL_CAUSE_NACK, 0);
    VERDICT("dead", 6, 99, 0);
}

Test(bus_retry, limit_zero_never_dies)
{
    load("{\"limit\": 0, \"backoff\": {\"kind\": \"fixed\", \"initial_ns\": 1000000}}");
    VERDICT("1", UINT32_MAX, PAWL_CAUSE_NACK, 0);
}

Test(bus_retry, an_override_has_its_own_limit_and_wait_and_borrows_what_it_lacks)
{
    load("{\"limit\": 4, \"backoff\": {\"kind\": \"fixed\", \"initial_ns\": 7000000}, \"causes\": {"
         "\"deadline\": {\"limit\": 2}, \"nack\": {\"backoff\": {\"kind\": \"fixed\", \"initial_ns\": "
         "9000000}},"
         "\"handler-error\": {\"never\": true}}}");
    VERDICT("7", 1, PAWL_CAUSE_DEADLINE, 0);
    VERDICT("dead", 2, PAWL_CAUSE_DEADLINE, 0);
    VERDICT("9", 3, PAWL_CAUSE_NACK, 0);
    VERDICT("dead", 4, PAWL_CAUSE_NACK, 0);
    VERDICT("dead", 1, PAWL_CAUSE_HANDLER_ERROR, 0);
    VERDICT("7", 3, PAWL_CAUSE_CONSUMER_DIED, 0);
    pawl_retry_rules_fini(&rules);
}

Test(bus_retry, narrowest_range_that_holds_the_exit_code_decides)
{
    load("{\"limit\": 0, \"backoff\": {\"kind\": \"fixed\", \"initial_ns\": 1000000}, \"causes\": {"
         "\"exit\": {\"backoff\": {\"kind\": \"fixed\", \"initial_ns\": 2000000}},"
         "\"exit:100-120\": {\"backoff\": {\"kind\": \"fixed\", \"initial_ns\": 3000000}},"
         "\"exit:110\": {\"never\": true}, \"exit:1-2\": {\"limit\": 1}}}");
    VERDICT("2", 1, PAWL_CAUSE_EXIT, 0);
    VERDICT("dead", 1, PAWL_CAUSE_EXIT, 1);
    VERDICT("dead", 1, PAWL_CAUSE_EXIT, 2);
    VERDICT("2", 1, PAWL_CAUSE_EXIT, 3);
    VERDICT("2", 1, PAWL_CAUSE_EXIT, 99);
    VERDICT("3", 1, PAWL_CAUSE_EXIT, 100);
    VERDICT("dead", 1, PAWL_CAUSE_EXIT, 110);
    VERDICT("3", 1, PAWL_CAUSE_EXIT, 120);
    VERDICT("2", 1, PAWL_CAUSE_EXIT, 121);
    VERDICT("2", 1, PAWL_CAUSE_EXIT, 255);
    VERDICT("1", 1, PAWL_CAUSE_NACK, 110);
    pawl_retry_rules_fini(&rules);
}

Test(bus_retry, rules_come_back_from_their_own_json)
{
    load("{\"limit\":5,\"backoff\":{\"kind\":\"exponential\",\"initial_ns\":1000000000,\"factor\":2,\"max_"
         "ns\":"
         "60000000000,\"jitter\":0.1},\"causes\":{\"exit:100-120\":{\"limit\":3,\"backoff\":{\"kind\":"
         "\"list\","
         "\"delays_ns\":[1,2,3]}},\"deadline\":{\"limit\":2,\"backoff\":{\"kind\":\"linear\",\"initial_ns\":"
         "5}},"
         "\"exit:75\":{\"limit\":0},\"handler-error\":{\"limit\":0,\"never\":true},\"exit\":{\"limit\":9}}}");
    json_t *first = pawl_retry_rules_json(&rules);
    cr_assert(ne(ptr, first, NULL));
    cr_expect(eq(u32, rules.override_count, 5));
    pawl_retry_rules_fini(&rules);
    cr_assert(eq(int, pawl_retry_rules_load(first, &rules, why), 0), "%s", why);
    json_t *again = pawl_retry_rules_json(&rules);
    cr_expect(json_equal(first, again));
    json_t *causes = json_object_get(first, "causes");
    cr_expect(eq(
        int, (int)json_integer_value(json_object_get(json_object_get(causes, "exit:100-120"), "limit")), 3));
    json_t *never = json_object_get(json_object_get(causes, "handler-error"), "never");
    cr_expect(eq(int, json_is_true(never), 1));
    json_decref(first);
    json_decref(again);
    pawl_retry_rules_fini(&rules);
}

Test(bus_retry, order_of_the_rules_in_json_does_not_matter)
{
    load(
        "{\"causes\": {\"exit:5\": {\"limit\": 1}, \"exit:0-9\": {\"limit\": 2}, \"nack\": {\"limit\": 3}}}");
    json_t *first = pawl_retry_rules_json(&rules);
    pawl_retry_rules_fini(&rules);
    load(
        "{\"causes\": {\"nack\": {\"limit\": 3}, \"exit:0-9\": {\"limit\": 2}, \"exit:5\": {\"limit\": 1}}}");
    json_t *other = pawl_retry_rules_json(&rules);
    char *a = json_dumps(first, 0), *b = json_dumps(other, 0);
    cr_expect(eq(str, a, b));
    free(a);
    free(b);
    json_decref(first);
    json_decref(other);
    pawl_retry_rules_fini(&rules);
}

Test(bus_retry, every_mistake_in_json_is_refused_with_its_place)
{
    static const struct {
        const char *text, *words;
    } wrong[] = {
        {"[]", "not an object"},
        {"{\"limits\": 1}", "\"limits\""},
        {"{\"limit\": 4096}", "4095"},
        {"{\"limit\": -1}", "limit"},
        {"{\"limit\": 1.5}", "limit"},
        {"{\"backoff\": 3}", "backoff"},
        {"{\"backoff\": {\"kind\": \"random\"}}", "kind"},
        {"{\"backoff\": {\"kind\": \"fixed\", \"factor\": 2}}", "\"factor\""},
        {"{\"backoff\": {\"initial_ns\": -5}}", "initial_ns"},
        {"{\"backoff\": {\"initial_ns\": 400000000000000000}}", "10 years"},
        {"{\"backoff\": {\"factor\": 0.5}}", "factor"},
        {"{\"backoff\": {\"jitter\": 1.01}}", "jitter"},
        {"{\"backoff\": {\"jitter\": \"0\"}}", "jitter"},
        {"{\"backoff\": {\"initial_ns\": 9, \"max_ns\": 8}}", "below the first"},
        {"{\"backoff\": {\"kind\": \"list\"}}", "delays_ns"},
        {"{\"backoff\": {\"kind\": \"list\", \"delays_ns\": []}}", "delays_ns"},
        {"{\"backoff\": {\"kind\": \"list\", \"delays_ns\": [1, -1]}}", "delays_ns[1]"},
        {"{\"causes\": {\"dead line\": {}}}", "dead line"},
        {"{\"causes\": {\"exit:\": {}}}", "exit:"},
        {"{\"causes\": {\"exit:256\": {}}}", "exit:256"},
        {"{\"causes\": {\"exit:9-8\": {}}}", "exit:9-8"},
        {"{\"causes\": {\"exit:1-2x\": {}}}", "exit:1-2x"},
        {"{\"causes\": {\"exit:1-10\": {}, \"exit:5-15\": {}}}", "overlap"},
        {"{\"causes\": {\"nack\": {\"never\": 1}}}", "never"},
        {"{\"causes\": {\"nack\": {\"backoff\": {\"factor\": \"x\"}}}}", "causes.nack.backoff"},
        {"{\"causes\": []}", "causes"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        json_t *json = json_loads(wrong[i].text, JSON_DECODE_ANY, NULL);
        cr_assert(ne(ptr, json, NULL), "%s", wrong[i].text);
        why[0] = '\0';
        cr_expect(eq(int, pawl_retry_rules_load(json, &rules, why), PAWL_E_INVALID), "%s", wrong[i].text);
        cr_expect(strstr(why, wrong[i].words) != NULL, "%s: %s", wrong[i].text, why);
        pawl_retry_rules_fini(&rules);
        json_decref(json);
    }
}

Test(bus_retry, thirty_two_delays_are_a_list_and_thirty_three_are_too_many)
{
    char text[512] = "0";
    struct pawl_retry_policy policy = {0};
    for (int i = 1; i < 32; i++)
        strcat(text, ",1s");
    cr_assert(eq(int, pawl_backoff_parse(text, &policy, why), 0), "%s", why);
    cr_expect(eq(u32, policy.delay_count, 32));
    strcat(text, ",2s");
    cr_expect(eq(int, pawl_backoff_parse(text, &policy, why), PAWL_E_LIMIT));
    cr_expect(eq(u64, policy.delays_ns[31], S), "left as it was");
}

Test(bus_retry, a_second_word_without_a_unit_is_a_factor)
{
    struct pawl_retry_policy policy = policy_of("200ms,2,10s,0.3");
    cr_expect(eq(u32, policy.kind, PAWL_BACKOFF_EXPONENTIAL));
    cr_expect(eq(u64, policy.initial_ns, 200 * MS));
    cr_expect(eq(u64, policy.max_ns, 10 * S));
    cr_expect(eq(dbl, policy.factor, 2));
    cr_expect(eq(dbl, policy.jitter, 0.3));
    policy = policy_of("90s,1.5");
    cr_expect(eq(u64, policy.max_ns, 90 * S), "the default cap gives way to a longer first delay");
    cr_expect(eq(dbl, policy.jitter, 0.1));
    policy = policy_of("5s,0");
    cr_expect(eq(u32, policy.kind, PAWL_BACKOFF_LIST));
    policy = policy_of("5s");
    cr_expect(eq(u32, policy.kind, PAWL_BACKOFF_LIST));
    cr_expect(eq(u32, policy.delay_count, 1));
    policy = policy_of("exponential:1s");
    cr_expect(eq(u32, policy.kind, PAWL_BACKOFF_EXPONENTIAL));
    cr_expect(eq(dbl, policy.factor, 2));
}

Test(bus_retry, a_bare_number_is_seconds)
{
    struct pawl_retry_policy policy = policy_of("5");
    cr_expect(eq(u32, policy.kind, PAWL_BACKOFF_LIST));
    cr_expect(eq(u64, policy.delays_ns[0], 5 * S));
    policy = policy_of("1,2.5,3,4");
    cr_expect(eq(u32, policy.kind, PAWL_BACKOFF_LIST));
    cr_expect(eq(u32, policy.delay_count, 4));
    cr_expect(eq(u64, policy.delays_ns[1], 2500 * MS));
    policy = policy_of("1,2,30,0.5");
    cr_expect(eq(u32, policy.kind, PAWL_BACKOFF_EXPONENTIAL));
    cr_expect(eq(dbl, policy.factor, 2));
    cr_expect(eq(u64, policy.max_ns, 30 * S));
    policy = policy_of("5,2,10s");
    cr_expect(eq(u32, policy.kind, PAWL_BACKOFF_EXPONENTIAL));
    cr_expect(eq(u64, policy.initial_ns, 5 * S));
    policy = policy_of("linear:1,2");
    cr_expect(eq(u64, policy.increment_ns, 2 * S));
}

Test(bus_retry, what_is_not_a_backoff_is_refused_and_changes_nothing)
{
    static const char *const wrong[] = {
        "",         "1s,",          ",1s",         "1x",     "5,2,10s,9", "1s,2,3,4",    "1s,2,3s,4",
        "1s,0.5",   "1s,2,10s,nan", "1s,-2",       "1s,2e9", "fixed:",    "fixed:5s,6s", "linear:1s,x",
        "other:1s", "10s,2,5s",     "1s,2,9s,0,0", "11y",    "4000d",     "1s,1001",     "-1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct pawl_retry_policy policy = {.limit = 3, .initial_ns = 77};
        cr_expect(eq(int, pawl_backoff_parse(wrong[i], &policy, why), PAWL_E_INVALID), "%s", wrong[i]);
        cr_expect(eq(u64, policy.initial_ns, 77));
    }
}

Test(bus_retry, a_rule_of_the_command_line_is_a_cause_a_limit_and_a_backoff)
{
    pawl_retry_rules_init(&rules);
    cr_assert(eq(int, pawl_retry_rule_parse("deadline=2,1s,5s", &rules, why), 0), "%s", why);
    cr_assert(eq(int, pawl_retry_rule_parse("exit:100-120=0,200ms,2,10s,0", &rules, why), 0), "%s", why);
    cr_assert(eq(int, pawl_retry_rule_parse("exit:2=never", &rules, why), 0), "%s", why);
    cr_assert(eq(int, pawl_retry_rule_parse("nack=9", &rules, why), 0), "%s", why);
    VERDICT("1000", 1, PAWL_CAUSE_DEADLINE, 0);
    VERDICT("dead", 2, PAWL_CAUSE_DEADLINE, 0);
    VERDICT("10000", 99, PAWL_CAUSE_EXIT, 111);
    VERDICT("dead", 1, PAWL_CAUSE_EXIT, 2);
    VERDICT("100", 1, PAWL_CAUSE_NACK, 0);
    cr_assert(eq(int, pawl_retry_rule_parse("nack=1", &rules, why), 0), "the later one replaces the earlier");
    VERDICT("dead", 1, PAWL_CAUSE_NACK, 0);
    static const char *const wrong[] = {
        "nack",    "=2",        "nap=2",   "nack=",          "nack=x",
        "nack=2x", "nack=5000", "nack=2,", "exit:110-200=1", "deadline=2,1s,x"};
    uint32_t count = rules.override_count;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_expect(eq(int, pawl_retry_rule_parse(wrong[i], &rules, why), PAWL_E_INVALID), "%s", wrong[i]);
    cr_expect(eq(u32, rules.override_count, count));
    pawl_retry_rules_fini(&rules);
}

Test(bus_retry, as_many_rules_as_are_allowed_and_not_one_more)
{
    char text[32];
    pawl_retry_rules_init(&rules);
    for (int i = 0; i < PAWL_RETRY_EXITS_MAX + PAWL_CAUSES; i++) {
        snprintf(text, sizeof text, "exit:%d=1", i);
        cr_assert(eq(int, pawl_retry_rule_parse(text, &rules, why), 0), "%s", why);
    }
    cr_expect(eq(int, pawl_retry_rule_parse("exit:200=1", &rules, why), PAWL_E_LIMIT));
    cr_expect(eq(int, pawl_retry_rule_parse("exit:3=never", &rules, why), 0), "a known one may change");
    VERDICT("dead", 1, PAWL_CAUSE_EXIT, 3);
    pawl_retry_rules_fini(&rules);
}
