/*
 * health_look.c - gathers what health.c judges.
 *
 * Runs in: `pawl health`, the process that answers HTTP.
 */
#include "runtime/health.h"

#include <errno.h>
#include <sys/statvfs.h>

#include "shm/clock.h"

/* @state NULL: the directory is not ours to see. */
static void look_at_disk(const struct pawl_state *state, struct pawl_health_seen *seen)
{
    struct statvfs fs;
    seen->disk_is_hidden = state == NULL;
    if (!state || fstatvfs(state->dirfd, &fs) != 0)
        return;
    uint64_t block_bytes = fs.f_frsize ? fs.f_frsize : fs.f_bsize;
    seen->has_disk = true;
    seen->disk_free_bytes = (uint64_t)fs.f_bavail * block_bytes;
    seen->disk_bytes = (uint64_t)fs.f_blocks * block_bytes;
    seen->disk_free_files = fs.f_favail;
    seen->disk_files = fs.f_files;
}

void pawl_health_of(const struct pawl_state *state, uint32_t scheduler_pid,
                    const struct pawl_wire_process *processes, size_t process_count,
                    const struct pawl_metrics_sample *sample, uint64_t latency_ns, struct pawl_health *health)
{
    struct pawl_metrics_memory memory[PAWL_MEMORY_KINDS];
    struct pawl_health_seen seen = {.at_ns = pawl_clock_realtime_ns(),
                                    .latency_ns = latency_ns,
                                    .processes = processes,
                                    .process_count = process_count,
                                    .sample = sample,
                                    .memory = memory};
    pawl_memory_kinds(scheduler_pid, processes, process_count, sample, memory);
    seen.has_memory = memory[PAWL_MEMORY_SCHEDULER].bytes > 0; /* other users' processes may be hidden */
    look_at_disk(state, &seen);
    pawl_health_judge(health, &seen);
}

/* Of one that does not answer, what it wrote last may still be read; of one that is gone, nothing. */
static void judge_silent(const struct pawl_observer *observer, int answer,
                         const struct pawl_metrics_sample *sample, struct pawl_health *health)
{
    struct pawl_health_seen seen = {
        .at_ns = pawl_clock_realtime_ns(), .answer = answer, .sample = answer == -ETIMEDOUT ? sample : NULL};
    look_at_disk(observer->state, &seen);
    pawl_health_judge(health, &seen);
}

int pawl_health_look(struct pawl_observer *observer, uint64_t timeout_ns, struct pawl_health *health)
{
    struct pawl_metrics_sample taken = {0};
    int answer = pawl_observer_look(observer, timeout_ns);
    const struct pawl_metrics_sample *sample = pawl_observer_sample(observer, &taken) == 0 ? &taken : NULL;
    if (answer == 0)
        pawl_health_of(observer->state, observer->welcome.scheduler_pid, observer->processes,
                       observer->process_count, sample, observer->latency_ns, health);
    else
        judge_silent(observer, answer, sample, health);
    pawl_metrics_sample_fini(&taken);
    return answer;
}
