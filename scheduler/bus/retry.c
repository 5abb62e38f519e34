/*
 * retry.c - delays and verdicts. Runs in: scheduler. Pure: reads no clock and rolls no dice.
 */
#include "scheduler/bus/retry.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

void pawl_retry_rules_init(struct pawl_retry_rules *rules)
{
    *rules = (struct pawl_retry_rules){.base = {.limit = PAWL_RETRY_LIMIT_DEFAULT,
                                                .kind = PAWL_BACKOFF_EXPONENTIAL,
                                                .initial_ns = PAWL_BACKOFF_INITIAL_NS_DEFAULT,
                                                .max_ns = PAWL_BACKOFF_MAX_NS_DEFAULT,
                                                .factor = PAWL_BACKOFF_FACTOR_DEFAULT,
                                                .jitter = PAWL_BACKOFF_JITTER_DEFAULT}};
}

void pawl_retry_rules_fini(struct pawl_retry_rules *rules)
{
    free(rules->overrides);
    *rules = (struct pawl_retry_rules){0};
}

/* The wait before jitter. In floating point, since a product that is too large then stays too large. */
static double plain_delay(const struct pawl_retry_policy *policy, uint32_t failures)
{
    double steps = failures > 0 ? (double)(failures - 1) : 0;
    double cap = (double)(policy->max_ns > 0 ? policy->max_ns : PAWL_BACKOFF_NS_MAX);
    switch ((enum pawl_backoff_kind)policy->kind) {
    case PAWL_BACKOFF_EXPONENTIAL:
        if (policy->initial_ns == 0) /* or 0 * infinity would be no number */
            return 0;
        return fmin((double)policy->initial_ns * pow(policy->factor, steps), cap);
    case PAWL_BACKOFF_LINEAR:
        return fmin((double)policy->initial_ns + (double)policy->increment_ns * steps, cap);
    case PAWL_BACKOFF_FIXED:
        return (double)policy->initial_ns;
    case PAWL_BACKOFF_LIST:
        if (policy->delay_count == 0)
            return 0;
        return (double)
            policy->delays_ns[steps < policy->delay_count ? (uint32_t)steps : policy->delay_count - 1];
    }
    return 0;
}

uint64_t pawl_retry_delay_ns(const struct pawl_retry_policy *policy, uint32_t failures, uint64_t random)
{
    double delay = fmin(plain_delay(policy, failures), (double)PAWL_BACKOFF_NS_MAX);
    if (policy->jitter > 0) {
        double share = (double)(random >> 11) * 0x1p-53; /* 0 <= share < 1 */
        delay *= 1 + policy->jitter * (2 * share - 1);
    }
    return delay > 0 ? (uint64_t)(delay + 0.5) : 0;
}

static const struct pawl_retry_override *override_for(const struct pawl_retry_rules *rules,
                                                      uint32_t cause_word)
{
    uint32_t cause = cause_word & 0xff, code = cause_word >> 8;
    for (uint32_t i = 0; i < rules->override_count; i++) {
        const struct pawl_retry_override *o = &rules->overrides[i];
        if (o->cause == cause &&
            (cause != PAWL_CAUSE_EXIT || (o->exit_first <= code && code <= o->exit_last)))
            return o; /* they are sorted: the narrowest */
    }
    return NULL;
}

enum pawl_retry_verdict pawl_retry_decide(const struct pawl_retry_rules *rules, uint32_t failures,
                                          uint32_t cause_word, uint64_t random, uint64_t *delay_ns_out)
{
    const struct pawl_retry_override *o = override_for(rules, cause_word);
    uint32_t limit = o && o->has_limit ? o->policy.limit : rules->base.limit;
    *delay_ns_out = 0;
    if ((o && o->never) || (limit > 0 && failures >= limit))
        return PAWL_RETRY_DEAD;
    *delay_ns_out = pawl_retry_delay_ns(o && o->has_backoff ? &o->policy : &rules->base, failures, random);
    return PAWL_RETRY_AGAIN;
}

static int refuse(char *why, const char *words)
{
    snprintf(why, PAWL_RETRY_WHY_BYTES, "%s", words);
    return PAWL_E_INVALID;
}

int pawl_retry_policy_check(const struct pawl_retry_policy *policy, char why[PAWL_RETRY_WHY_BYTES])
{
    if (policy->limit > PAWL_RETRY_LIMIT_MAX)
        return refuse(why, "limit is above 4095");
    if (policy->kind > PAWL_BACKOFF_LIST)
        return refuse(why, "unknown kind of backoff");
    if (!(policy->jitter >= 0 && policy->jitter <= 1)) /* so that NaN is refused */
        return refuse(why, "jitter is not between 0 and 1");
    if (policy->initial_ns > PAWL_BACKOFF_NS_MAX || policy->max_ns > PAWL_BACKOFF_NS_MAX ||
        policy->increment_ns > PAWL_BACKOFF_NS_MAX)
        return refuse(why, "a delay is above 10 years");
    if (policy->kind == PAWL_BACKOFF_EXPONENTIAL && !(policy->factor >= 1 && policy->factor <= 1000))
        return refuse(why, "factor is not between 1 and 1000");
    if (policy->kind <= PAWL_BACKOFF_LINEAR && policy->max_ns > 0 && policy->max_ns < policy->initial_ns)
        return refuse(why, "the longest delay is below the first");
    if (policy->kind != PAWL_BACKOFF_LIST)
        return 0;
    if (policy->delay_count == 0 || policy->delay_count > PAWL_BACKOFF_DELAYS_MAX)
        return refuse(why, "a list of delays has 1 to 32 of them");
    for (uint32_t i = 0; i < policy->delay_count; i++)
        if (policy->delays_ns[i] > PAWL_BACKOFF_NS_MAX)
            return refuse(why, "a delay is above 10 years");
    return 0;
}

static int override_check(const struct pawl_retry_override *o, char *why)
{
    if (o->cause >= PAWL_CAUSES)
        return refuse(why, "unknown cause");
    if (o->cause == PAWL_CAUSE_EXIT && o->exit_first > o->exit_last)
        return refuse(why, "a range of exit codes that ends before it begins");
    struct pawl_retry_policy policy = o->policy;
    if (!o->has_limit)
        policy.limit = 0;
    if (!o->has_backoff) /* nobody looks at the rest of it */
        policy = (struct pawl_retry_policy){.limit = policy.limit, .kind = PAWL_BACKOFF_FIXED};
    return pawl_retry_policy_check(&policy, why);
}

static bool holds(const struct pawl_retry_override *outer, const struct pawl_retry_override *inner)
{
    return outer->exit_first <= inner->exit_first && inner->exit_last <= outer->exit_last;
}

/* Before it: what must be asked first. */
static bool comes_before(const struct pawl_retry_override *a, const struct pawl_retry_override *b)
{
    int width_a = a->exit_last - a->exit_first, width_b = b->exit_last - b->exit_first;
    if (a->cause != b->cause)
        return a->cause < b->cause;
    return width_a != width_b ? width_a < width_b : a->exit_first < b->exit_first;
}

/* Where it goes: *@same_out tells that the one which is there has the same cause and codes. */
static int place_for(const struct pawl_retry_rules *rules, const struct pawl_retry_override *o,
                     uint32_t *at_out, bool *same_out, char *why)
{
    uint32_t at = 0;
    *same_out = false;
    for (uint32_t i = 0; i < rules->override_count; i++) {
        const struct pawl_retry_override *other = &rules->overrides[i];
        if (other->cause == o->cause) {
            if (holds(other, o) && holds(o, other)) {
                *at_out = i;
                *same_out = true;
                return 0;
            }
            bool apart = other->exit_last < o->exit_first || o->exit_last < other->exit_first;
            if (!apart && !holds(other, o) && !holds(o, other)) {
                snprintf(why, PAWL_RETRY_WHY_BYTES,
                         "exit:%u-%u and exit:%u-%u overlap, so it is not plain which one is meant",
                         other->exit_first, other->exit_last, o->exit_first, o->exit_last);
                return PAWL_E_INVALID;
            }
        }
        if (comes_before(other, o))
            at = i + 1;
    }
    *at_out = at;
    return 0;
}

int pawl_retry_override_put(struct pawl_retry_rules *rules, const struct pawl_retry_override *override,
                            char why[PAWL_RETRY_WHY_BYTES])
{
    uint32_t at = 0;
    bool same = false;
    struct pawl_retry_override o = *override;
    if (o.cause != PAWL_CAUSE_EXIT)
        o.exit_first = o.exit_last = 0;
    int error = override_check(&o, why);
    if (!error)
        error = place_for(rules, &o, &at, &same, why);
    if (error)
        return error;
    if (same) {
        rules->overrides[at] = o;
        return 0;
    }
    if (rules->override_count >= PAWL_RETRY_EXITS_MAX + PAWL_CAUSES) {
        snprintf(why, PAWL_RETRY_WHY_BYTES, "more than %d rules", PAWL_RETRY_EXITS_MAX + PAWL_CAUSES);
        return PAWL_E_LIMIT;
    }
    struct pawl_retry_override *more = realloc(rules->overrides, (rules->override_count + 1) * sizeof *more);
    if (!more) {
        refuse(why, "no memory");
        return -ENOMEM;
    }
    rules->overrides = more;
    memmove(more + at + 1, more + at, (rules->override_count - at) * sizeof *more);
    more[at] = o;
    rules->override_count++;
    return 0;
}

static const char *const cause_names[PAWL_CAUSES] = {
    [PAWL_CAUSE_NACK] = "nack",
    [PAWL_CAUSE_DEADLINE] = "deadline",
    [PAWL_CAUSE_CONSUMER_DIED] = "consumer-died",
    [PAWL_CAUSE_HANDLER_ERROR] = "handler-error",
    [PAWL_CAUSE_EXIT] = "exit",
};

const char *pawl_cause_name(uint32_t cause)
{
    return cause < PAWL_CAUSES ? cause_names[cause] : "unknown";
}

int pawl_cause_parse(const char *text, size_t length, uint32_t *cause_out)
{
    for (uint32_t i = 0; i < PAWL_CAUSES; i++)
        if (strlen(cause_names[i]) == length && memcmp(cause_names[i], text, length) == 0) {
            *cause_out = i;
            return 0;
        }
    return PAWL_E_INVALID;
}

/* Digits of an exit code; how many, 0: it is none. */
static size_t read_code(const char *text, size_t length, uint8_t *code_out)
{
    unsigned value = 0;
    size_t n = 0;
    for (; n < length && n < 4 && text[n] >= '0' && text[n] <= '9'; n++)
        value = value * 10 + (unsigned)(text[n] - '0');
    if (value > 255)
        return 0;
    *code_out = (uint8_t)value;
    return n;
}

int pawl_retry_key_parse(const char *text, size_t length, struct pawl_retry_override *override_out)
{
    uint32_t cause;
    if (pawl_cause_parse(text, length, &cause) == 0) {
        override_out->cause = (uint16_t)cause;
        override_out->exit_first = 0;
        override_out->exit_last = cause == PAWL_CAUSE_EXIT ? 255 : 0;
        return 0;
    }
    if (length < 6 || memcmp(text, "exit:", 5) != 0)
        return PAWL_E_INVALID;
    uint8_t first, last;
    size_t at = 5, n = read_code(text + at, length - at, &first);
    if (n == 0)
        return PAWL_E_INVALID;
    at += n;
    last = first;
    if (at < length) {
        n = text[at] == '-' ? read_code(text + at + 1, length - at - 1, &last) : 0;
        at += n + 1;
        if (n == 0 || at != length || last < first)
            return PAWL_E_INVALID;
    }
    override_out->cause = PAWL_CAUSE_EXIT;
    override_out->exit_first = first;
    override_out->exit_last = last;
    return 0;
}
