/*
 * health.h - is all well? What was seen of a scheduler, judged part by part, and the verdict over all.
 *
 * Pure: what is to be judged comes in as struct pawl_health_seen. health_look.c gathers that.
 */
#ifndef PAWL_RUNTIME_HEALTH_H
#define PAWL_RUNTIME_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "runtime/metrics_text.h"
#include "runtime/observer.h"

enum pawl_health_status {
    PAWL_HEALTH_UNKNOWN = 0,
    PAWL_HEALTH_HEALTHY = 1,
    PAWL_HEALTH_DEGRADED = 2,
    PAWL_HEALTH_UNHEALTHY = 3,
};

enum pawl_health_part {
    PAWL_HEALTH_SCHEDULER,
    PAWL_HEALTH_JOURNAL,
    PAWL_HEALTH_WORKERS,
    PAWL_HEALTH_QUEUES,
    PAWL_HEALTH_DISK,
    PAWL_HEALTH_MEMORY,
    PAWL_HEALTH_PARTS,
};

#define PAWL_HEALTH_CHECK_NS    UINT64_C(5000000000)  /* what does not answer within it is unhealthy */
#define PAWL_HEALTH_SYNC_NS     UINT64_C(1000000000)  /* a journal whose syncs take longer is degraded */
#define PAWL_HEALTH_STARTING_NS UINT64_C(10000000000) /* so is a worker that starts for longer */
enum { PAWL_HEALTH_STILLBORN = 3 }; /* workers in a row that end before they do anything are a trouble */
#define PAWL_HEALTH_MEMORY_DEGRADED  UINT64_C(1000000000)
#define PAWL_HEALTH_MEMORY_UNHEALTHY UINT64_C(2000000000)

struct pawl_health_seen {
    uint64_t at_ns; /* CLOCK_REALTIME */
    int answer;     /* of pawl_observer_look() */
    uint64_t latency_ns;
    const struct pawl_wire_process *processes;
    size_t process_count;
    const struct pawl_metrics_sample *sample; /* NULL: no figures */
    bool has_disk;
    bool disk_is_hidden;                  /* the state directory is not ours to see */
    uint64_t disk_free_bytes, disk_bytes; /* of the file system, for whoever is not root */
    uint64_t disk_free_files, disk_files; /* 0, 0: it does not count them */
    bool has_memory;
    const struct pawl_metrics_memory *memory; /* [PAWL_MEMORY_KINDS] */
};

struct pawl_health_component {
    const char *name;
    enum pawl_health_status status;
    bool critical; /* unhealthy, it makes the whole unhealthy */
    char message[160];
    uint64_t latency_ns;
    uint32_t consecutive_failures; /* reset by healthy alone */
    uint64_t checked_at_ns;        /* CLOCK_REALTIME */
};

struct pawl_health {
    struct pawl_health_component part[PAWL_HEALTH_PARTS];
};

/** pawl_health_judge - @health is zeroed, or the one before: its failures are counted on. */
void pawl_health_judge(struct pawl_health *health, const struct pawl_health_seen *seen);

/** pawl_health_overall - none: healthy; a critical one unhealthy: unhealthy; else one degraded, or one that
 * is not critical unhealthy: degraded; else healthy. */
enum pawl_health_status pawl_health_overall(const struct pawl_health_component *components, size_t count);

const char *pawl_health_status_name(uint32_t status);

/** pawl_health_put - "overall", "ready" and "components" into @object. */
void pawl_health_put(const struct pawl_health *health, json_t *object);

/** pawl_health_of - of a scheduler that has just answered. @sample may be NULL; @state too: then nothing is
 * known of its disk. */
void pawl_health_of(const struct pawl_state *state, uint32_t scheduler_pid,
                    const struct pawl_wire_process *processes, size_t process_count,
                    const struct pawl_metrics_sample *sample, uint64_t latency_ns,
                    struct pawl_health *health);

/** pawl_health_look - look at the scheduler (at most @timeout_ns), its disk and memory, and judge. Return:
 * what pawl_observer_look() said. */
int pawl_health_look(struct pawl_observer *observer, uint64_t timeout_ns, struct pawl_health *health);

#endif
