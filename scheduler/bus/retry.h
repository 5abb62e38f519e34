/*
 * retry.h - when a delivery that failed goes again, and when it is dead: one policy for every cause.
 *
 *   rules = a base policy, and overrides for a cause (nack, deadline, consumer-died, handler-error, exit) or
 * for a range of exit codes. The narrowest range that holds the code wins, then the rule of all exits, then
 * the base.
 *
 * Runs in: scheduler; runtime reads and shows rules. Pure: time and chance are passed in.
 */
#ifndef PAWL_SCHEDULER_BUS_RETRY_H
#define PAWL_SCHEDULER_BUS_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "shm/client_lane.h"

enum {
    PAWL_BACKOFF_DELAYS_MAX = 32, /* of a list */
    PAWL_RETRY_EXITS_MAX = 32,    /* rules for ranges of exit codes */
    PAWL_RETRY_LIMIT_MAX = 4095,  /* SPEC 7: max-deliver */
    PAWL_RETRY_LIMIT_DEFAULT = 5,
    PAWL_RETRY_WHY_BYTES = 256,
};
#define PAWL_BACKOFF_INITIAL_NS_DEFAULT (UINT64_C(100) * 1000000)
#define PAWL_BACKOFF_MAX_NS_DEFAULT     (UINT64_C(60) * 1000000000)
#define PAWL_BACKOFF_FACTOR_DEFAULT     2.0
#define PAWL_BACKOFF_JITTER_DEFAULT     0.1 /* exponential alone: the others wait what they say */
#define PAWL_BACKOFF_NS_MAX                                                                                  \
    (UINT64_C(3650) * 86400 * 1000000000) /* ten years; no delay is longer, jitter apart */

enum pawl_backoff_kind {
    PAWL_BACKOFF_EXPONENTIAL = 0, /* min(initial * factor^(n-1), max) */
    PAWL_BACKOFF_LINEAR = 1,      /* min(initial + increment * (n-1), max) */
    PAWL_BACKOFF_FIXED = 2,       /* initial */
    PAWL_BACKOFF_LIST = 3,        /* the nth of the list, then its last for ever */
};

struct pawl_retry_policy {
    uint32_t limit; /* dead when this many have failed; 0: no limit */
    uint32_t kind;  /* enum pawl_backoff_kind */
    uint64_t initial_ns, increment_ns;
    uint64_t max_ns; /* 0: no cap but the general one */
    double factor;   /* 1 or more */
    double jitter;   /* 0..1: the delay is spread evenly over delay * (1 - jitter .. 1 + jitter) */
    uint32_t delay_count;
    uint64_t delays_ns[PAWL_BACKOFF_DELAYS_MAX];
};

struct pawl_retry_override {
    uint16_t cause;                /* enum pawl_cause */
    uint8_t exit_first, exit_last; /* PAWL_CAUSE_EXIT only: 0..255 is the rule of all exits */
    bool never;                    /* dead at the first */
    bool has_limit, has_backoff;   /* what it does not have is the base's */
    struct pawl_retry_policy policy;
};

struct pawl_retry_rules {
    struct pawl_retry_policy base;
    uint32_t override_count; /* narrowest first within a cause */
    struct pawl_retry_override *overrides;
};

/** pawl_retry_rules_init - a queue's defaults: limit 5, exponential from 100 ms, factor 2, to 60 s, jitter
 * 0.1. */
void pawl_retry_rules_init(struct pawl_retry_rules *rules);
void pawl_retry_rules_fini(struct pawl_retry_rules *rules);

/** pawl_retry_delay_ns - the wait after failure number @failures (1: the first; 0 counts as 1)
 * @random: any 64 bits, evenly spread; not looked at without jitter */
uint64_t pawl_retry_delay_ns(const struct pawl_retry_policy *policy, uint32_t failures, uint64_t random);

enum pawl_retry_verdict { PAWL_RETRY_AGAIN = 0, PAWL_RETRY_DEAD = 1 };

/**
 * pawl_retry_decide - after failure number @failures, which had this cause
 * @failures:   of the delivery, the present one included, whatever their causes
 * @cause_word: enum pawl_cause | exit code << 8; an unknown cause is judged by the base
 *
 * Return: PAWL_RETRY_AGAIN and *@delay_ns_out, or PAWL_RETRY_DEAD and 0.
 */
enum pawl_retry_verdict pawl_retry_decide(const struct pawl_retry_rules *rules, uint32_t failures,
                                          uint32_t cause_word, uint64_t random, uint64_t *delay_ns_out);

/**
 * pawl_retry_override_put - add an override, or replace the one of the same cause and codes
 *
 * Return: 0; PAWL_E_INVALID (ranges that overlap without one holding the other; a policy out of bounds);
 * PAWL_E_LIMIT; -ENOMEM. On an error nothing changed, and @why says it.
 */
int pawl_retry_override_put(struct pawl_retry_rules *rules, const struct pawl_retry_override *override,
                            char why[PAWL_RETRY_WHY_BYTES]);

/** pawl_retry_policy_check - are all numbers within bounds? 0; PAWL_E_INVALID and why. */
int pawl_retry_policy_check(const struct pawl_retry_policy *policy, char why[PAWL_RETRY_WHY_BYTES]);

/**
 * pawl_retry_rules_load - rules from JSON; what it does not say is the default
 * @rules: receives them; not initialised before; fini is the caller's, also after an error
 *
 *   {"limit": 5, "backoff": {"kind": "exponential", "initial_ns": N, "factor": 2, "max_ns": N, "jitter":
 * 0.1}, "causes": {"deadline": {"limit": 2, "backoff": {...}}, "exit:75": {...}, "exit:100-120": {...},
 * "exit": {...}, "handler-error": {"never": true}}} backoff kinds: exponential; linear (initial_ns,
 * increment_ns, max_ns); fixed (initial_ns); list (delays_ns: [N])
 *
 * Return: 0; PAWL_E_INVALID (with the place in @why); PAWL_E_LIMIT; -ENOMEM.
 */
int pawl_retry_rules_load(const json_t *json, struct pawl_retry_rules *rules, char why[PAWL_RETRY_WHY_BYTES]);

/** pawl_retry_rules_json - the same, every number written out; equal rules give equal JSON. A new reference;
 * NULL: no memory. */
json_t *pawl_retry_rules_json(const struct pawl_retry_rules *rules);

/** pawl_cause_name - "nack", "deadline", "consumer-died", "handler-error", "exit"; "unknown". */
const char *pawl_cause_name(uint32_t cause);

/** pawl_cause_parse - the reverse. 0; PAWL_E_INVALID. */
int pawl_cause_parse(const char *text, size_t length, uint32_t *cause_out);

/** pawl_retry_key_parse - the key of an override: a cause, or "exit:75", "exit:100-120". Fills cause and
 * codes. 0; PAWL_E_INVALID. */
int pawl_retry_key_parse(const char *text, size_t length, struct pawl_retry_override *override_out);

#endif
