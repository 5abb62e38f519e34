/*
 * backoff_text.c - "1s,5s,30s" and its kin. Runs in: the tool.
 */
#include "runtime/backoff_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/units.h"
#include "shm/error.h"

struct words {
    size_t count;
    const char *text[PAWL_BACKOFF_DELAYS_MAX + 1];
    size_t length[PAWL_BACKOFF_DELAYS_MAX + 1];
};

__attribute__((format(printf, 2, 3))) static int refuse(char *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, PAWL_RETRY_WHY_BYTES, format, args);
    va_end(args);
    return PAWL_E_INVALID;
}

static void split(const char *text, struct words *words)
{
    words->count = 0;
    while (words->count <= PAWL_BACKOFF_DELAYS_MAX) {
        size_t n = strcspn(text, ",");
        words->text[words->count] = text;
        words->length[words->count++] = n;
        if (text[n] == '\0')
            return;
        text += n + 1;
    }
}

static int read_delay(const struct words *words, size_t i, uint64_t *ns_out, char *why)
{
    const char *text = words->text[i];
    size_t n = words->length[i];
    if (pawl_parse_duration_ns(text, n, ns_out) != 0)
        return refuse(why, "\"%.*s\" is not a delay such as 250ms or 10s", n < 64 ? (int)n : 64, text);
    return 0;
}

/* Plain decimals: no sign, exponent, "nan" or "0x". */
static int read_number(const struct words *words, size_t i, const char *what, double *out, char *why)
{
    char copy[32];
    size_t n = words->length[i];
    if (n == 0 || n >= sizeof copy || strspn(words->text[i], "0123456789.") < n || words->text[i][0] == '.')
        return refuse(why, "\"%.*s\" is not a %s", n < 64 ? (int)n : 64, words->text[i], what);
    memcpy(copy, words->text[i], n);
    copy[n] = '\0';
    char *end;
    *out = strtod(copy, &end);
    if (*end != '\0')
        return refuse(why, "\"%s\" is not a %s", copy, what);
    return 0;
}

static bool is_plain_number(const struct words *words, size_t i)
{
    double number;
    char why[PAWL_RETRY_WHY_BYTES];
    return read_number(words, i, "", &number, why) == 0;
}

/* Without a word in front, "5s,2" is a delay and a factor, and "5s,10s" two delays. Where no word has a unit,
 * all are seconds of a list, unless there are four of which the last can be a jitter. "5s,0" is two delays.
 */
static bool is_exponential(const struct words *words)
{
    double number = 0;
    char why[PAWL_RETRY_WHY_BYTES];
    bool has_unit = false;
    for (size_t i = 0; i < words->count && i < PAWL_BACKOFF_DELAYS_MAX; i++)
        has_unit = has_unit || !is_plain_number(words, i);
    if (words->count < 2 || read_number(words, 1, "", &number, why) != 0 || number == 0)
        return false;
    return has_unit || (words->count == 4 && read_number(words, 3, "", &number, why) == 0 && number <= 1);
}

static int read_list(const struct words *words, struct pawl_retry_policy *policy, char *why)
{
    if (words->count > PAWL_BACKOFF_DELAYS_MAX) {
        refuse(why, "more than %d delays", PAWL_BACKOFF_DELAYS_MAX);
        return PAWL_E_LIMIT;
    }
    policy->kind = PAWL_BACKOFF_LIST;
    for (size_t i = 0; i < words->count; i++) {
        int error = read_delay(words, i, &policy->delays_ns[i], why);
        if (error)
            return error;
    }
    policy->delay_count = (uint32_t)words->count;
    return 0;
}

static int read_fixed(const struct words *words, struct pawl_retry_policy *policy, char *why)
{
    if (words->count > 2)
        return refuse(why, "fixed is one delay and perhaps a jitter: fixed:5s,0.1");
    policy->kind = PAWL_BACKOFF_FIXED;
    int error = read_delay(words, 0, &policy->initial_ns, why);
    if (!error && words->count > 1)
        error = read_number(words, 1, "jitter", &policy->jitter, why);
    return error;
}

/* initial, then the increment or the factor, the cap, the jitter. */
static int read_growing(const struct words *words, uint32_t kind, struct pawl_retry_policy *policy, char *why)
{
    bool linear = kind == PAWL_BACKOFF_LINEAR;
    if (words->count > 4)
        return refuse(why, linear ? "linear is initial,increment,max,jitter: linear:1s,500ms,30s,0.1"
                                  : "exponential is initial,factor,max,jitter: 200ms,2,10s,0.1");
    policy->kind = kind;
    policy->factor = linear ? 0 : PAWL_BACKOFF_FACTOR_DEFAULT;
    policy->jitter = linear ? 0 : PAWL_BACKOFF_JITTER_DEFAULT;
    int error = read_delay(words, 0, &policy->initial_ns, why);
    policy->increment_ns = linear ? policy->initial_ns : 0;
    policy->max_ns =
        policy->initial_ns > PAWL_BACKOFF_MAX_NS_DEFAULT ? policy->initial_ns : PAWL_BACKOFF_MAX_NS_DEFAULT;
    if (!error && words->count > 1)
        error = linear ? read_delay(words, 1, &policy->increment_ns, why)
                       : read_number(words, 1, "factor", &policy->factor, why);
    if (!error && words->count > 2)
        error = read_delay(words, 2, &policy->max_ns, why);
    if (!error && words->count > 3)
        error = read_number(words, 3, "jitter", &policy->jitter, why);
    return error;
}

int pawl_backoff_parse(const char *text, struct pawl_retry_policy *policy, char why[PAWL_RETRY_WHY_BYTES])
{
    static const char *const kinds[] = {"exponential", "linear", "fixed", "list"};
    struct pawl_retry_policy parsed = {.limit = policy->limit};
    struct words words;
    const char *colon = strchr(text, ':');
    uint32_t kind = PAWL_BACKOFF_LIST;
    if (colon) {
        size_t n = (size_t)(colon - text);
        for (kind = 0; kind < 4 && (strlen(kinds[kind]) != n || memcmp(kinds[kind], text, n) != 0); kind++)
            ;
        if (kind == 4)
            return refuse(why, "\"%.*s\" is none of exponential, linear, fixed, list", n < 64 ? (int)n : 64,
                          text);
        text = colon + 1;
    }
    split(text, &words);
    if (!colon && is_exponential(&words))
        kind = PAWL_BACKOFF_EXPONENTIAL;
    int error = kind == PAWL_BACKOFF_LIST    ? read_list(&words, &parsed, why)
                : kind == PAWL_BACKOFF_FIXED ? read_fixed(&words, &parsed, why)
                                             : read_growing(&words, kind, &parsed, why);
    if (!error)
        error = pawl_retry_policy_check(&parsed, why);
    if (!error)
        *policy = parsed;
    return error;
}

int pawl_retry_rule_parse(const char *text, struct pawl_retry_rules *rules, char why[PAWL_RETRY_WHY_BYTES])
{
    struct pawl_retry_override o = {0};
    const char *equals = strchr(text, '=');
    if (!equals || pawl_retry_key_parse(text, (size_t)(equals - text), &o) != 0)
        return refuse(why,
                      "\"%.64s\": CAUSE=LIMIT,BACKOFF, where CAUSE is nack, deadline, consumer-died, "
                      "handler-error, exit, exit:CODE or exit:FIRST-LAST",
                      text);
    const char *rest = equals + 1;
    if (strcmp(rest, "never") == 0) {
        o.never = true;
        return pawl_retry_override_put(rules, &o, why);
    }
    size_t digits = strspn(rest, "0123456789");
    if (digits == 0 || digits > 4 || (rest[digits] != '\0' && rest[digits] != ','))
        return refuse(why, "\"%.64s\": after = comes a limit (0: none) or never", text);
    o.policy.limit = (uint32_t)strtoul(rest, NULL, 10);
    o.has_limit = true;
    if (rest[digits] == ',') {
        int error = pawl_backoff_parse(rest + digits + 1, &o.policy, why);
        if (error)
            return error;
        o.has_backoff = true;
    }
    return pawl_retry_override_put(rules, &o, why);
}
