/*
 * runtime_health.c - what is seen, and how it is judged.
 */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "runtime/health.h"
#include "scheduler/bus/breaker.h"

static struct pawl_metrics_row_copy rows[2];
static struct pawl_metrics_sample sample;
static struct pawl_metrics_memory memory[PAWL_MEMORY_KINDS];
static struct pawl_wire_process workers[2];
static struct pawl_health_seen seen;
static struct pawl_health health;

#define NOW_NS UINT64_C(1700000000000000000)
#define S      UINT64_C(1000000000)

static void all_is_well(void)
{
    memset(rows, 0, sizeof rows);
    memset(&health, 0, sizeof health);
    strcpy(rows[0].name, "first");
    strcpy(rows[1].name, "second");
    rows[0].gauge[PAWL_QUEUE_MAX_DEPTH] = 10;
    rows[0].gauge[PAWL_QUEUE_MAX_BYTES] = 1000;
    sample = (struct pawl_metrics_sample){.rows = rows, .row_count = 2};
    memset(memory, 0, sizeof memory);
    for (int i = 0; i < 2; i++)
        workers[i] = (struct pawl_wire_process){
            .role = PAWL_ROLE_WORKER, .state = PAWL_PROCESS_IDLE, .since_ns = NOW_NS - 60 * S};
    seen = (struct pawl_health_seen){.at_ns = NOW_NS,
                                     .processes = workers,
                                     .process_count = 2,
                                     .sample = &sample,
                                     .has_disk = true,
                                     .disk_bytes = UINT64_C(100) << 30,
                                     .disk_free_bytes = UINT64_C(50) << 30,
                                     .has_memory = true,
                                     .memory = memory};
}

static uint32_t status_of(enum pawl_health_part part)
{
    pawl_health_judge(&health, &seen);
    return health.part[part].status;
}

static uint32_t overall(void)
{
    pawl_health_judge(&health, &seen);
    return pawl_health_overall(health.part, PAWL_HEALTH_PARTS);
}

TestSuite(health, .init = all_is_well);

Test(health, all_well_is_healthy)
{
    cr_expect(eq(u32, overall(), PAWL_HEALTH_HEALTHY));
    for (int i = 0; i < PAWL_HEALTH_PARTS; i++)
        cr_expect(eq(u32, health.part[i].status, PAWL_HEALTH_HEALTHY), "%s", health.part[i].name);
}

Test(health, a_scheduler_that_does_not_answer_is_unhealthy_and_makes_all_so)
{
    seen.answer = -ETIMEDOUT;
    seen.has_memory = false;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_SCHEDULER), PAWL_HEALTH_UNHEALTHY));
    cr_expect(eq(u32, status_of(PAWL_HEALTH_WORKERS), PAWL_HEALTH_UNKNOWN));
    cr_expect(eq(u32, status_of(PAWL_HEALTH_MEMORY), PAWL_HEALTH_UNKNOWN));
    cr_expect(eq(u32, overall(), PAWL_HEALTH_UNHEALTHY));
}

Test(health, what_is_not_known_counts_as_fine)
{
    seen.sample = NULL;
    seen.has_disk = false;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_JOURNAL), PAWL_HEALTH_UNKNOWN));
    cr_expect(eq(u32, status_of(PAWL_HEALTH_QUEUES), PAWL_HEALTH_UNKNOWN));
    cr_expect(eq(u32, status_of(PAWL_HEALTH_DISK), PAWL_HEALTH_UNKNOWN));
    cr_expect(eq(u32, overall(), PAWL_HEALTH_HEALTHY));
}

Test(health, what_is_the_owners_alone_to_see_is_unknown_and_says_so)
{
    seen.disk_is_hidden = true;
    seen.has_memory = false;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_DISK), PAWL_HEALTH_UNKNOWN));
    cr_expect(
        eq(str, health.part[PAWL_HEALTH_DISK].message, "only who may open the state directory can tell"));
    cr_expect(eq(u32, status_of(PAWL_HEALTH_MEMORY), PAWL_HEALTH_UNKNOWN));
    cr_expect(eq(str, health.part[PAWL_HEALTH_MEMORY].message, "its processes are not ours to see"));
    cr_expect(eq(u32, overall(), PAWL_HEALTH_HEALTHY));
}

Test(health, a_journal_is_judged_by_its_room_and_its_last_sync)
{
    sample.cell[PAWL_METRICS_JOURNAL_SYNCED_AT] = NOW_NS;
    sample.cell[PAWL_METRICS_JOURNAL_LAST_SYNC] = S;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_JOURNAL), PAWL_HEALTH_HEALTHY));
    sample.cell[PAWL_METRICS_JOURNAL_LAST_SYNC] = S + 1;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_JOURNAL), PAWL_HEALTH_DEGRADED));
    sample.cell[PAWL_METRICS_JOURNAL_LAST_SYNC] = 0;
    sample.cell[PAWL_METRICS_JOURNAL_ROOM] = 1;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_JOURNAL), PAWL_HEALTH_DEGRADED));
    cr_expect(eq(u32, overall(), PAWL_HEALTH_DEGRADED));
    cr_expect(ne(ptr, strstr(health.part[PAWL_HEALTH_JOURNAL].message, "16 MiB are kept back"), NULL));
    sample.cell[PAWL_METRICS_JOURNAL_ROOM] = 2;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_JOURNAL), PAWL_HEALTH_UNHEALTHY));
    cr_expect(eq(u32, overall(), PAWL_HEALTH_UNHEALTHY));
}

Test(health, a_worker_that_does_not_come_up_in_ten_seconds_degrades_and_none_is_unhealthy)
{
    workers[0].state = PAWL_PROCESS_STARTING;
    workers[0].since_ns = NOW_NS - 10 * S;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_WORKERS), PAWL_HEALTH_HEALTHY));
    workers[0].since_ns--;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_WORKERS), PAWL_HEALTH_DEGRADED));
    workers[1] = workers[0];
    cr_expect(eq(u32, status_of(PAWL_HEALTH_WORKERS), PAWL_HEALTH_UNHEALTHY));
    seen.process_count = 0;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_WORKERS), PAWL_HEALTH_HEALTHY));
}

Test(health, workers_that_end_before_they_did_anything_degrade_and_are_unhealthy_when_none_is_up)
{
    workers[0] =
        (struct pawl_wire_process){.role = PAWL_ROLE_SUPERVISOR, .status = PAWL_HEALTH_STILLBORN - 1};
    cr_expect(eq(u32, status_of(PAWL_HEALTH_WORKERS), PAWL_HEALTH_HEALTHY));
    workers[0].status = PAWL_HEALTH_STILLBORN;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_WORKERS), PAWL_HEALTH_DEGRADED));
    workers[1].state = PAWL_PROCESS_STARTING;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_WORKERS), PAWL_HEALTH_UNHEALTHY));
    seen.process_count = 1;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_WORKERS), PAWL_HEALTH_UNHEALTHY));
}

Test(health, a_queue_at_its_limit_or_with_an_open_breaker_degrades_and_is_named)
{
    rows[0].gauge[PAWL_QUEUE_DEPTH] = 9;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_QUEUES), PAWL_HEALTH_HEALTHY));
    rows[0].gauge[PAWL_QUEUE_DEPTH] = 10;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_QUEUES), PAWL_HEALTH_DEGRADED));
    cr_expect(ne(ptr, strstr(health.part[PAWL_HEALTH_QUEUES].message, "first"), NULL));
    rows[0].gauge[PAWL_QUEUE_DEPTH] = 0;
    rows[0].gauge[PAWL_QUEUE_BYTES] = 1000;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_QUEUES), PAWL_HEALTH_DEGRADED));
    rows[0].gauge[PAWL_QUEUE_BYTES] = 0;
    rows[1].gauge[PAWL_QUEUE_DEPTH] = 1000000; /* it has no limit */
    cr_expect(eq(u32, status_of(PAWL_HEALTH_QUEUES), PAWL_HEALTH_HEALTHY));
    rows[1].gauge[PAWL_QUEUE_BREAKER_STATE] = PAWL_BREAKER_OPEN;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_QUEUES), PAWL_HEALTH_DEGRADED));
    cr_expect(ne(ptr, strstr(health.part[PAWL_HEALTH_QUEUES].message, "second"), NULL));
    cr_expect(eq(u32, overall(), PAWL_HEALTH_DEGRADED));
}

Test(health, a_disk_is_judged_by_what_is_free_for_us)
{
    seen.disk_free_bytes = UINT64_C(5) << 30;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_DISK), PAWL_HEALTH_HEALTHY));
    seen.disk_free_bytes--;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_DISK), PAWL_HEALTH_DEGRADED));
    seen.disk_free_bytes = 0;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_DISK), PAWL_HEALTH_UNHEALTHY));
    seen.disk_free_bytes = UINT64_C(50) << 30;
    seen.disk_files = 1000;
    seen.disk_free_files = 9;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_DISK), PAWL_HEALTH_DEGRADED));
}

Test(health, much_memory_is_not_critical)
{
    memory[PAWL_MEMORY_SCHEDULER].bytes = 999999999;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_MEMORY), PAWL_HEALTH_HEALTHY));
    memory[PAWL_MEMORY_WORKERS].bytes = 1;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_MEMORY), PAWL_HEALTH_DEGRADED));
    memory[PAWL_MEMORY_SUPERVISOR].bytes = 1000000000;
    cr_expect(eq(u32, status_of(PAWL_HEALTH_MEMORY), PAWL_HEALTH_UNHEALTHY));
    cr_expect(eq(u32, overall(), PAWL_HEALTH_DEGRADED));
}

Test(health, failures_in_a_row_are_reset_by_healthy_alone)
{
    const struct pawl_health_component *scheduler = &health.part[PAWL_HEALTH_SCHEDULER];
    seen.answer = -ETIMEDOUT;
    pawl_health_judge(&health, &seen);
    pawl_health_judge(&health, &seen);
    cr_expect(eq(u32, scheduler->consecutive_failures, 2));
    sample.cell[PAWL_METRICS_JOURNAL_ROOM] = 2;
    pawl_health_judge(&health, &seen);
    sample.cell[PAWL_METRICS_JOURNAL_ROOM] = 1; /* degraded: neither */
    pawl_health_judge(&health, &seen);
    cr_expect(eq(u32, health.part[PAWL_HEALTH_JOURNAL].consecutive_failures, 1));
    seen.answer = 0;
    pawl_health_judge(&health, &seen);
    cr_expect(eq(u32, scheduler->consecutive_failures, 0));
}

Test(health, no_part_at_all_is_healthy)
{
    cr_expect(eq(u32, pawl_health_overall(NULL, 0), PAWL_HEALTH_HEALTHY));
}

Test(health, json_has_every_part_with_its_reason)
{
    json_t *json = json_object();
    seen.answer = -ENOENT;
    pawl_health_judge(&health, &seen);
    pawl_health_put(&health, json);
    cr_expect(eq(str, (char *)(uintptr_t)json_string_value(json_object_get(json, "overall")), "unhealthy"));
    cr_expect(eq(int, json_is_false(json_object_get(json, "ready")), 1));
    const json_t *parts = json_object_get(json, "components");
    cr_expect(eq(sz, json_array_size(parts), PAWL_HEALTH_PARTS));
    const json_t *first = json_array_get(parts, 0);
    cr_expect(eq(str, (char *)(uintptr_t)json_string_value(json_object_get(first, "name")), "scheduler"));
    cr_expect(
        eq(str, (char *)(uintptr_t)json_string_value(json_object_get(first, "message")), "nobody serves"));
    cr_expect(eq(int, json_is_true(json_object_get(first, "critical")), 1));
    json_decref(json);
}
