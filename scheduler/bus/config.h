/*
 * config.h - what a queue was declared with: from JSON, to JSON, and what may be changed later.
 *
 * Keys are in docs/bus.md. The JSON that is stored has every value written out, so that a later default
 * changes nothing that exists.
 */
#ifndef PAWL_SCHEDULER_BUS_CONFIG_H
#define PAWL_SCHEDULER_BUS_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "scheduler/bus/breaker.h"
#include "scheduler/bus/limits.h"
#include "scheduler/bus/retry.h"

enum { PAWL_OVERFLOW_TOPICS_MAX = 64 };

struct pawl_overflow_topic {
    char *pattern;
    uint8_t overflow; /* enum pawl_overflow */
};

struct pawl_queue_config {
    char **topics;
    uint32_t topic_count;
    uint64_t ack_wait_ns;
    struct pawl_retry_rules retry;
    uint32_t interruptions_max;
    char dlq[72]; /* "": NAME.dlq */
    uint64_t max_depth, max_bytes;
    uint8_t overflow;   /* enum pawl_overflow */
    uint8_t guarantee;  /* enum pawl_guarantee */
    uint8_t durability; /* enum pawl_durability */
    bool strict_attempts, stream, temporary, unrouted,
        dead_letters;                 /* dead_letters: made by the bus for another */
    uint32_t max_in_flight;           /* 0: no limit */
    uint64_t rate_count, rate_per_ns; /* 0: no limit */
    uint64_t ttl_ns;
    char ordering_key[72];                           /* name of a header; "": none */
    uint64_t retain_ns, retain_bytes, retain_events; /* of a stream; 0: no limit */
    struct pawl_breaker_config breaker;
    struct pawl_overflow_topic *overflow_topics; /* most specific first */
    uint32_t overflow_topic_count;
};

/**
 * pawl_queue_config_load - from JSON, over the defaults of @limits, or over @before (an update says only what
 * changes)
 *
 * Return: 0 (config is the caller's, to be fini'd); PAWL_E_INVALID, PAWL_E_LIMIT (@why names the key),
 * -ENOMEM.
 */
int pawl_queue_config_load(const json_t *json, const char *name, const struct pawl_bus_limits *limits,
                           const struct pawl_queue_config *before, struct pawl_queue_config *config_out,
                           char why[256]);
json_t *pawl_queue_config_json(const struct pawl_queue_config *config); /* a new reference; NULL: no memory */
void pawl_queue_config_fini(struct pawl_queue_config *config);

/** pawl_queue_config_compatible - may a queue that has @before have @after? NULL, or the key that cannot
 * change. */
const char *pawl_queue_config_compatible(const struct pawl_queue_config *before,
                                         const struct pawl_queue_config *after);

/** pawl_queue_config_overflow - the policy for this topic. */
uint8_t pawl_queue_config_overflow(const struct pawl_queue_config *config, const char *topic,
                                   size_t topic_bytes);

#endif
