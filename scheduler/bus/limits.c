/*
 * limits.c - the table of limits: names, defaults, bounds (SPEC 7).
 *
 * Runs in: every process. Pure.
 */
#include "scheduler/bus/limits.h"

#include <stdlib.h>
#include <string.h>

#include "shm/client_lane.h"
#include "shm/error.h"

#define KIB       UINT64_C(1024)
#define MIB       (KIB * 1024)
#define GIB       (MIB * 1024)
#define SECOND    UINT64_C(1000000000)
#define MINUTE    (60 * SECOND)
#define DAY       (86400 * SECOND)
#define AT(field) offsetof(struct pawl_config, field)

const struct pawl_limit pawl_limit_table[] = {
    {"event-payload", "data of one event", PAWL_LIMIT_BYTES, AT(bus.event_payload_bytes), MIB, 1,
     PAWL_EVENT_DATA_BYTES_MAX},
    {"event-headers", "headers of one event, together", PAWL_LIMIT_BYTES, AT(bus.event_headers_bytes),
     16 * KIB, 1, PAWL_EVENT_HEADERS_TEXT_MAX},
    {"queue-patterns", "topic patterns of one queue", PAWL_LIMIT_COUNT, AT(bus.queue_patterns), 16, 1, 256},
    {"queues", "queues", PAWL_LIMIT_COUNT, AT(bus.queues), 1024, 1, 65536},
    {"stream-groups", "consumer groups of one stream", PAWL_LIMIT_COUNT, AT(bus.stream_groups), 64, 1, 1024},
    {"clients", "programs attached at a time", PAWL_LIMIT_COUNT, AT(bus.clients), 1024, 1, 65536},
    {"publish-delay", "longest delay of a publish", PAWL_LIMIT_DURATION, AT(bus.publish_delay_ns), 3650 * DAY,
     SECOND, 3650 * DAY},
    {"ack-wait", "time to settle a delivery", PAWL_LIMIT_DURATION, AT(bus.ack_wait_ns), 30 * SECOND,
     SECOND / 1000, 7 * DAY},
    {"max-deliver", "failures before an event is dead (0: no limit)", PAWL_LIMIT_COUNT, AT(bus.max_deliver),
     5, 0, 4095},
    {"interruptions", "interruptions before an event is dead", PAWL_LIMIT_COUNT, AT(bus.interruptions), 5, 1,
     1000},
    {"queue-depth", "events waiting in one queue", PAWL_LIMIT_COUNT, AT(bus.queue_depth), 1000000, 1,
     PAWL_LIMIT_DISK},
    {"queue-bytes", "bytes waiting in one queue", PAWL_LIMIT_BYTES, AT(bus.queue_bytes), GIB, KIB,
     PAWL_LIMIT_DISK},
    {"queue-delayed", "delayed or prioritised events waiting in one queue", PAWL_LIMIT_COUNT,
     AT(bus.queue_delayed), 1000000, 1, 100000000},
    {"dlq-depth", "events in one dead-letter queue", PAWL_LIMIT_COUNT, AT(bus.dlq_depth), 100000, 1,
     PAWL_LIMIT_DISK},
    {"dlq-bytes", "bytes in one dead-letter queue", PAWL_LIMIT_BYTES, AT(bus.dlq_bytes), GIB, KIB,
     PAWL_LIMIT_DISK},
    {"overflow", "what a full queue does", PAWL_LIMIT_OVERFLOW, AT(bus.overflow), PAWL_OVERFLOW_POLICY_REJECT,
     PAWL_OVERFLOW_POLICY_BLOCK, PAWL_OVERFLOW_POLICY_DEAD_LETTER},
    {"durability", "what a confirm means", PAWL_LIMIT_DURABILITY, AT(bus.durability), PAWL_DURABILITY_FSYNC,
     PAWL_DURABILITY_MEMORY, PAWL_DURABILITY_FSYNC},
    {"dedupe-keys", "deduplication keys remembered", PAWL_LIMIT_COUNT, AT(bus.dedupe_keys), 1000000, 0,
     100000000},
    {"dedupe-age", "how long they are remembered", PAWL_LIMIT_DURATION, AT(bus.dedupe_age_ns), 10 * MINUTE, 0,
     7 * DAY},
    {"workflow-file", "bytes of a workflow file", PAWL_LIMIT_BYTES, AT(run.file_bytes), MIB, 1, 64 * MIB},
    {"workflow-depth", "nesting of a workflow file", PAWL_LIMIT_COUNT, AT(run.file_depth), 32, 1, 64},
    {"workflow-nodes", "nodes of a workflow file", PAWL_LIMIT_COUNT, AT(run.file_nodes), 100000, 1, 1000000},
    {"run-instances", "step instances of one run", PAWL_LIMIT_COUNT, AT(run.run_instances), 10000000, 1,
     100000000},
    {"attempt-output", "captured output of one attempt", PAWL_LIMIT_BYTES, AT(run.output_bytes), GIB, 1,
     PAWL_LIMIT_DISK},
    {"workers", "slots when -j is not given (0: CPUs online)", PAWL_LIMIT_COUNT, AT(run.workers), 0, 0, 4096},
    {"grace", "time to settle what is in flight at a stop", PAWL_LIMIT_DURATION, AT(grace_ns), 10 * SECOND, 0,
     DAY},
    {NULL, NULL, PAWL_LIMIT_COUNT, 0, 0, 0, 0},
};

const struct pawl_limit *pawl_limit_find(const char *name)
{
    for (const struct pawl_limit *limit = pawl_limit_table; limit->name != NULL; limit++)
        if (strcmp(limit->name, name) == 0)
            return limit;
    return NULL;
}

void pawl_config_default(struct pawl_config *config)
{
    memset(config, 0, sizeof *config);
    for (const struct pawl_limit *limit = pawl_limit_table; limit->name != NULL; limit++)
        *pawl_limit_value(config, limit) = limit->initial;
}

void pawl_bus_limits_default(struct pawl_bus_limits *limits)
{
    static const size_t at = offsetof(struct pawl_config, bus);
    memset(limits, 0, sizeof *limits);
    for (const struct pawl_limit *limit = pawl_limit_table; limit->name != NULL; limit++)
        if (limit->offset >= at && limit->offset < at + sizeof *limits)
            *(uint64_t *)(void *)((char *)limits + (limit->offset - at)) = limit->initial;
}

void pawl_config_handler_fini(struct pawl_config_handler *handler)
{
    free(handler->queue);
    free(handler->group);
    free(handler->plugin);
    free(handler->config_json);
    for (char **word = handler->exec; word && *word; word++)
        free(*word);
    free(handler->exec);
    memset(handler, 0, sizeof *handler);
}

void pawl_config_fini(struct pawl_config *config)
{
    for (size_t i = 0; i < config->handler_count; i++)
        pawl_config_handler_fini(&config->handlers[i]);
    free(config->handlers);
    config->handlers = NULL;
    config->handler_count = 0;
    for (size_t i = 0; i < config->queue_count; i++) {
        free(config->queues[i].name);
        free(config->queues[i].json);
    }
    free(config->queues);
    config->queues = NULL;
    config->queue_count = 0;
}

/* ---- words ---- */

static const char *const overflow_names[] = {NULL,          "block",  "drop_newest",
                                             "drop_oldest", "reject", "dead_letter"};
static const char *const durability_names[] = {NULL, "memory", "async", "fsync"};

enum {
    OVERFLOWS = sizeof overflow_names / sizeof *overflow_names,
    DURABILITIES = sizeof durability_names / sizeof *durability_names,
};

const char *pawl_overflow_name(uint64_t overflow)
{
    return overflow < OVERFLOWS ? overflow_names[overflow] : NULL;
}

const char *pawl_durability_name(uint64_t durability)
{
    return durability < DURABILITIES ? durability_names[durability] : NULL;
}

/* drop-oldest is as good as drop_oldest */
static bool same_word(const char *text, const char *name)
{
    for (; *text != '\0' && *name != '\0'; text++, name++)
        if ((*text == '-' ? '_' : *text) != *name)
            return false;
    return *text == *name;
}

static int parse_word(const char *text, const char *const *names, unsigned count, uint64_t *out)
{
    for (unsigned i = 1; i < count; i++) {
        if (same_word(text, names[i])) {
            *out = i;
            return 0;
        }
    }
    return PAWL_E_INVALID;
}

int pawl_overflow_parse(const char *text, uint64_t *overflow_out)
{
    return parse_word(text, overflow_names, OVERFLOWS, overflow_out);
}

int pawl_durability_parse(const char *text, uint64_t *durability_out)
{
    return parse_word(text, durability_names, DURABILITIES, durability_out);
}
