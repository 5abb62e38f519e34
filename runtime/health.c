/*
 * health.c - each part's status with its reason in words, and the sum of them.
 *
 * Runs in: `pawl health`, the process that answers HTTP. No I/O.
 */
#include "runtime/health.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/document.h"
#include "scheduler/bus/breaker.h"
#include "shm/error.h"

#define DISK_FREE_BYTES_MIN (UINT64_C(64) << 20)

enum { DISK_FREE_PERCENT = 5, ROOM_TIGHT = 1, ROOM_FULL = 2 };

const char *pawl_health_status_name(uint32_t status)
{
    static const char *const names[] = {"unknown", "healthy", "degraded", "unhealthy"};
    return status < sizeof names / sizeof names[0] ? names[status] : "unknown";
}

__attribute__((format(printf, 3, 4))) static void say(struct pawl_health_component *component,
                                                      enum pawl_health_status status, const char *format, ...)
{
    va_list arguments;
    component->status = status;
    va_start(arguments, format);
    vsnprintf(component->message, sizeof component->message, format, arguments);
    va_end(arguments);
}

static void judge_scheduler(struct pawl_health_component *component, const struct pawl_health_seen *seen)
{
    component->latency_ns = seen->latency_ns;
    if (seen->answer == 0)
        say(component, PAWL_HEALTH_HEALTHY, "answers");
    else if (seen->answer == -ETIMEDOUT)
        say(component, PAWL_HEALTH_UNHEALTHY, "does not answer");
    else if (seen->answer == -ENOENT)
        say(component, PAWL_HEALTH_UNHEALTHY, "nobody serves");
    else
        say(component, PAWL_HEALTH_UNHEALTHY, "%s", pawl_error_text(seen->answer));
}

static void judge_journal(struct pawl_health_component *component, const struct pawl_health_seen *seen)
{
    if (!seen->sample) {
        say(component, PAWL_HEALTH_UNKNOWN, "there are no figures");
        return;
    }
    uint64_t room = seen->sample->cell[PAWL_METRICS_JOURNAL_ROOM];
    uint64_t sync_ns = seen->sample->cell[PAWL_METRICS_JOURNAL_LAST_SYNC];
    component->latency_ns = sync_ns;
    if (room >= ROOM_FULL)
        say(component, PAWL_HEALTH_UNHEALTHY, "the disk is full and the reserve of 16 MiB is used");
    else if (room == ROOM_TIGHT)
        say(component, PAWL_HEALTH_DEGRADED,
            "the disk is full (" PAWL_RESERVE_WORDS "): new work is refused");
    else if (sync_ns > PAWL_HEALTH_SYNC_NS)
        say(component, PAWL_HEALTH_DEGRADED, "the last sync took %.1f s", (double)sync_ns / 1e9);
    else if (seen->sample->cell[PAWL_METRICS_JOURNAL_SYNCED_AT] == 0)
        say(component, PAWL_HEALTH_HEALTHY, "nothing was written yet");
    else
        say(component, PAWL_HEALTH_HEALTHY, "the last sync took %.2f ms", (double)sync_ns / 1e6);
}

static void judge_workers(struct pawl_health_component *component, const struct pawl_health_seen *seen)
{
    uint32_t count = 0, busy = 0, late = 0, up = 0;
    int32_t stillborn = 0;
    if (seen->answer != 0) {
        say(component, PAWL_HEALTH_UNKNOWN, "the scheduler does not tell");
        return;
    }
    for (size_t i = 0; i < seen->process_count; i++) {
        const struct pawl_wire_process *process = &seen->processes[i];
        if (process->role == PAWL_ROLE_SUPERVISOR)
            stillborn = process->status;
        if (process->role != PAWL_ROLE_WORKER && process->role != PAWL_ROLE_HANDLER)
            continue;
        count++;
        busy += process->state == PAWL_PROCESS_BUSY;
        up += process->role == PAWL_ROLE_WORKER && process->state != PAWL_PROCESS_STARTING;
        late += process->state == PAWL_PROCESS_STARTING && seen->at_ns > process->since_ns &&
                seen->at_ns - process->since_ns > PAWL_HEALTH_STARTING_NS;
    }
    if (stillborn >= PAWL_HEALTH_STILLBORN)
        say(component, up > 0 ? PAWL_HEALTH_DEGRADED : PAWL_HEALTH_UNHEALTHY,
            "%" PRId32 " in a row ended before they did anything: see scheduler.log", stillborn);
    else if (late > 0 && late == count)
        say(component, PAWL_HEALTH_UNHEALTHY, "none of %" PRIu32 " workers has come up in 10 s", count);
    else if (late > 0)
        say(component, PAWL_HEALTH_DEGRADED, "%" PRIu32 " of %" PRIu32 " workers have not come up in 10 s",
            late, count);
    else if (count == 0)
        say(component, PAWL_HEALTH_HEALTHY, "none is needed");
    else
        say(component, PAWL_HEALTH_HEALTHY, "%" PRIu32 ", %" PRIu32 " busy", count, busy);
}

static bool at_limit(const struct pawl_metrics_row_copy *row)
{
    uint64_t depth_max = row->gauge[PAWL_QUEUE_MAX_DEPTH], bytes_max = row->gauge[PAWL_QUEUE_MAX_BYTES];
    return (depth_max > 0 && row->gauge[PAWL_QUEUE_DEPTH] >= depth_max) ||
           (bytes_max > 0 && row->gauge[PAWL_QUEUE_BYTES] >= bytes_max);
}

static void judge_queues(struct pawl_health_component *component, const struct pawl_health_seen *seen)
{
    uint32_t open = 0, full = 0;
    const char *first = NULL;
    if (!seen->sample) {
        say(component, PAWL_HEALTH_UNKNOWN, "there are no figures");
        return;
    }
    for (uint32_t i = 0; i < seen->sample->row_count; i++) {
        const struct pawl_metrics_row_copy *row = &seen->sample->rows[i];
        bool is_open = row->gauge[PAWL_QUEUE_BREAKER_STATE] != PAWL_BREAKER_CLOSED;
        bool is_full = at_limit(row);
        open += is_open;
        full += is_full;
        if (!first && (is_open || is_full))
            first = row->name;
    }
    if (first)
        say(component, PAWL_HEALTH_DEGRADED,
            "of %" PRIu32 ", %" PRIu32 " at a limit, %" PRIu32 " with a breaker that is not closed: %s%s",
            seen->sample->row_count, full, open, first, open + full > 1 ? " ..." : "");
    else
        say(component, PAWL_HEALTH_HEALTHY, "%" PRIu32 ", none at a limit", seen->sample->row_count);
}

static void judge_disk(struct pawl_health_component *component, const struct pawl_health_seen *seen)
{
    if (seen->disk_is_hidden) {
        say(component, PAWL_HEALTH_UNKNOWN, "only who may open the state directory can tell");
        return;
    }
    if (!seen->has_disk || seen->disk_bytes == 0) {
        say(component, PAWL_HEALTH_UNKNOWN, "the file system does not tell");
        return;
    }
    double free_percent = 100.0 * (double)seen->disk_free_bytes / (double)seen->disk_bytes;
    double free_gib = (double)seen->disk_free_bytes / (double)(UINT64_C(1) << 30);
    bool few_files = seen->disk_files > 0 && seen->disk_free_files < seen->disk_files / 100;
    if (seen->disk_free_bytes == 0)
        say(component, PAWL_HEALTH_UNHEALTHY, "full");
    else if (few_files)
        say(component, PAWL_HEALTH_DEGRADED, "%" PRIu64 " files can be made yet", seen->disk_free_files);
    else if (free_percent < DISK_FREE_PERCENT || seen->disk_free_bytes < DISK_FREE_BYTES_MIN)
        say(component, PAWL_HEALTH_DEGRADED, "%.1f GiB free, %.1f %%", free_gib, free_percent);
    else
        say(component, PAWL_HEALTH_HEALTHY, "%.1f GiB free, %.0f %%", free_gib, free_percent);
}

static void judge_memory(struct pawl_health_component *component, const struct pawl_health_seen *seen)
{
    component->critical = false;
    if (!seen->has_memory) {
        say(component, PAWL_HEALTH_UNKNOWN,
            seen->answer ? "the scheduler does not tell" : "its processes are not ours to see");
        return;
    }
    uint64_t bytes = seen->memory[PAWL_MEMORY_SCHEDULER].bytes + seen->memory[PAWL_MEMORY_SUPERVISOR].bytes +
                     seen->memory[PAWL_MEMORY_WORKERS].bytes;
    enum pawl_health_status status = bytes >= PAWL_HEALTH_MEMORY_UNHEALTHY  ? PAWL_HEALTH_UNHEALTHY
                                     : bytes >= PAWL_HEALTH_MEMORY_DEGRADED ? PAWL_HEALTH_DEGRADED
                                                                            : PAWL_HEALTH_HEALTHY;
    say(component, status, "%.1f MB resident in all processes", (double)bytes / 1e6);
}

void pawl_health_judge(struct pawl_health *health, const struct pawl_health_seen *seen)
{
    static const struct {
        const char *name;
        void (*judge)(struct pawl_health_component *component, const struct pawl_health_seen *seen);
    } parts[PAWL_HEALTH_PARTS] = {
        [PAWL_HEALTH_SCHEDULER] = {"scheduler", judge_scheduler},
        [PAWL_HEALTH_JOURNAL] = {"journal", judge_journal},
        [PAWL_HEALTH_WORKERS] = {"workers", judge_workers},
        [PAWL_HEALTH_QUEUES] = {"queues", judge_queues},
        [PAWL_HEALTH_DISK] = {"disk", judge_disk},
        [PAWL_HEALTH_MEMORY] = {"memory", judge_memory},
    };
    for (int i = 0; i < PAWL_HEALTH_PARTS; i++) {
        uint32_t failures = health->part[i].consecutive_failures;
        health->part[i] = (struct pawl_health_component){
            .name = parts[i].name, .critical = true, .checked_at_ns = seen->at_ns};
        parts[i].judge(&health->part[i], seen);
        if (health->part[i].status == PAWL_HEALTH_HEALTHY)
            failures = 0;
        else if (health->part[i].status == PAWL_HEALTH_UNHEALTHY && failures < UINT32_MAX)
            failures++;
        health->part[i].consecutive_failures = failures;
    }
}

enum pawl_health_status pawl_health_overall(const struct pawl_health_component *components, size_t count)
{
    enum pawl_health_status overall = PAWL_HEALTH_HEALTHY;
    for (size_t i = 0; i < count; i++) {
        if (components[i].status == PAWL_HEALTH_UNHEALTHY && components[i].critical)
            return PAWL_HEALTH_UNHEALTHY;
        if (components[i].status == PAWL_HEALTH_UNHEALTHY || components[i].status == PAWL_HEALTH_DEGRADED)
            overall = PAWL_HEALTH_DEGRADED;
    }
    return overall;
}

void pawl_health_put(const struct pawl_health *health, json_t *object)
{
    enum pawl_health_status overall = pawl_health_overall(health->part, PAWL_HEALTH_PARTS);
    json_t *list = json_array();
    for (int i = 0; i < PAWL_HEALTH_PARTS; i++) {
        const struct pawl_health_component *part = &health->part[i];
        json_t *json = json_object();
        json_object_set_new(json, "name", json_string(part->name));
        json_object_set_new(json, "status", json_string(pawl_health_status_name(part->status)));
        json_object_set_new(json, "critical", json_boolean(part->critical));
        json_object_set_new(json, "message", pawl_json_text(part->message));
        json_object_set_new(json, "latency_ms", json_real((double)part->latency_ns / 1e6));
        json_object_set_new(json, "consecutive_failures",
                            json_integer((json_int_t)part->consecutive_failures));
        json_object_set_new(json, "last_check", pawl_json_time(part->checked_at_ns));
        json_array_append_new(list, json);
    }
    json_object_set_new(object, "overall", json_string(pawl_health_status_name(overall)));
    json_object_set_new(object, "ready", json_boolean(overall != PAWL_HEALTH_UNHEALTHY));
    json_object_set_new(object, "components", list);
}
