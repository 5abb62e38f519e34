/*
 * limits.h - what the configuration says to the scheduler: limits, defaults, who may connect.
 *
 * Runs in: every process. Plain data and one table, from which the reader of the configuration file, the
 * command line and `pawl config show` take names, defaults and bounds. The scheduler gets a checked struct
 * pawl_config and checks nothing again.
 */
#ifndef PAWL_SCHEDULER_BUS_LIMITS_H
#define PAWL_SCHEDULER_BUS_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Limits of the bus. Counts and bytes are inclusive: that many are allowed, one more is refused. */
struct pawl_bus_limits {
    uint64_t event_payload_bytes;
    uint64_t event_headers_bytes; /* names and values of all headers of an event */
    uint64_t queue_patterns;      /* of one queue */
    uint64_t queues;
    uint64_t stream_groups; /* of one stream */
    uint64_t clients;       /* attached at a time */
    uint64_t publish_delay_ns;

    /* what a queue has that was declared without saying it */
    uint64_t ack_wait_ns;
    uint64_t max_deliver;   /* failures before an event is dead; 0: no limit */
    uint64_t interruptions; /* of a delivery, before it is dead with reason `interrupted` */
    uint64_t queue_depth, queue_bytes;
    uint64_t queue_delayed;        /* what is remembered one by one: delayed, prioritised, retried ... */
    uint64_t dlq_depth, dlq_bytes; /* dead-letter queues; beyond, the oldest are dropped */
    uint64_t overflow;             /* enum pawl_overflow */
    uint64_t durability;           /* enum pawl_durability: FSYNC, ASYNC, MEMORY */

    uint64_t dedupe_keys;
    uint64_t dedupe_age_ns;
};

/* What happens to an event that a full queue should take. Values as in pawl.h. */
enum pawl_overflow {
    PAWL_OVERFLOW_POLICY_DEFAULT = 0,
    PAWL_OVERFLOW_POLICY_BLOCK = 1,
    PAWL_OVERFLOW_POLICY_DROP_NEWEST = 2,
    PAWL_OVERFLOW_POLICY_DROP_OLDEST = 3,
    PAWL_OVERFLOW_POLICY_REJECT = 4,
    PAWL_OVERFLOW_POLICY_DEAD_LETTER = 5,
};

/* Limits that are not the bus's. */
struct pawl_run_limits {
    uint64_t file_bytes, file_depth, file_nodes; /* of a workflow file */
    uint64_t run_instances;
    uint64_t output_bytes; /* captured of one attempt */
    uint64_t workers;      /* 0: as many as there are CPUs online */
};

enum { PAWL_ALLOWED_MAX = 256 /* uids, and as many gids */ };

struct pawl_config_queue {
    char *name;
    char *json;            /* its configuration, as queue.declare takes it */
    unsigned line, column; /* where the file has it, from 1 */
};

/* Processes that `pawl serve` has for a queue; the scheduler never looks at it. */
struct pawl_config_handler {
    char *queue, *group;        /* group NULL: no stream */
    char *plugin, *config_json; /* plugin NULL: exec; config_json NULL: none */
    char **exec;                /* ends with NULL */
    uint32_t processes;         /* 0: as many as `workers` says */
    uint32_t prefetch;          /* 0: default */
};

struct pawl_config {
    const char *file; /* what people call the file that it is of, borrowed; NULL: none was read */
    struct pawl_bus_limits bus;
    struct pawl_run_limits run;
    uint64_t grace_ns; /* what is in flight may settle for so long when the scheduler is asked to stop */
    uint32_t allow_uid_count, allow_gid_count; /* beside the owner of the state directory and root */
    uid_t allow_uids[PAWL_ALLOWED_MAX];
    gid_t allow_gids[PAWL_ALLOWED_MAX];
    struct pawl_config_queue *queues; /* to be declared at the start, and after a reload */
    size_t queue_count;
    struct pawl_config_handler *handlers;
    size_t handler_count;
};

enum pawl_limit_kind {
    PAWL_LIMIT_COUNT,
    PAWL_LIMIT_BYTES,
    PAWL_LIMIT_DURATION,   /* ns */
    PAWL_LIMIT_OVERFLOW,   /* a word */
    PAWL_LIMIT_DURABILITY, /* a word */
};

/* One setting of the configuration. The table ends with name NULL. */
struct pawl_limit {
    const char *name; /* kebab-case: key of the file; environment: PAWL_ACK_WAIT for ack-wait */
    const char *what; /* a line for people */
    enum pawl_limit_kind kind;
    size_t offset; /* into struct pawl_config, a uint64_t */
    uint64_t initial, minimum, maximum;
};
extern const struct pawl_limit pawl_limit_table[];

#define PAWL_LIMIT_DISK (UINT64_C(1) << 60) /* "disk": no bound but the device's */

/** pawl_limit_find - by name; NULL. */
const struct pawl_limit *pawl_limit_find(const char *name);

/** pawl_bus_limits_default - every default of the table. */
void pawl_bus_limits_default(struct pawl_bus_limits *limits);

/** pawl_config_default - the same for everything; owns nothing. */
void pawl_config_default(struct pawl_config *config);

/** pawl_config_handler_fini - frees what it has. */
void pawl_config_handler_fini(struct pawl_config_handler *handler);

/** pawl_config_lets_guests_in - does it name users or groups beside the owner? */
static inline bool pawl_config_lets_guests_in(const struct pawl_config *config)
{
    return config->allow_uid_count + config->allow_gid_count > 0;
}

/** pawl_config_fini - frees queues and handlers. */
void pawl_config_fini(struct pawl_config *config);

static inline uint64_t *pawl_limit_value(struct pawl_config *config, const struct pawl_limit *limit)
{
    return (uint64_t *)(void *)((char *)config + limit->offset);
}

/** pawl_overflow_name, pawl_durability_name - "drop_oldest", "fsync"; NULL for a number that is none. */
const char *pawl_overflow_name(uint64_t overflow);
const char *pawl_durability_name(uint64_t durability);

/** pawl_overflow_parse, pawl_durability_parse - the reverse. 0; PAWL_E_INVALID. */
int pawl_overflow_parse(const char *text, uint64_t *overflow_out);
int pawl_durability_parse(const char *text, uint64_t *durability_out);

#endif
