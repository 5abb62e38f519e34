/*
 * health_look.c - gathers what health.c judges.
 *
 * Runs in: `pawl health`, the process that answers HTTP.
 */
#include "runtime/health.h"

#include <errno.h>
#include <sys/statvfs.h>

#include "shm/clock.h"

static void look_at_disk(const struct pawl_state *state, struct pawl_health_seen *seen)
{
    struct statvfs fs;
    if (fstatvfs(state->dirfd, &fs) != 0)
        return;
    uint64_t block_bytes = fs.f_frsize ? fs.f_frsize : fs.f_bsize;
    seen->has_disk = true;
    seen->disk_free_bytes = (uint64_t)fs.f_bavail * block_bytes;
    seen->disk_bytes = (uint64_t)fs.f_blocks * block_bytes;
    seen->disk_free_files = fs.f_favail;
    seen->disk_files = fs.f_files;
}

int pawl_health_look(struct pawl_observer *observer, uint64_t timeout_ns, struct pawl_health *health)
{
    struct pawl_metrics_sample sample = {0};
    struct pawl_metrics_memory memory[PAWL_MEMORY_KINDS];
    struct pawl_health_seen seen = {.answer = pawl_observer_look(observer, timeout_ns)};
    seen.at_ns = pawl_clock_realtime_ns();
    /* Of one that does not answer, what it wrote last may still be read; of one that is gone, nothing. */
    bool there = seen.answer == 0 || seen.answer == -ETIMEDOUT;
    if (there && pawl_observer_sample(observer, &sample) == 0)
        seen.sample = &sample;
    if (seen.answer == 0) {
        seen.latency_ns = observer->latency_ns;
        seen.processes = observer->processes;
        seen.process_count = observer->process_count;
        pawl_memory_kinds(observer->welcome.scheduler_pid, observer->processes, observer->process_count,
                          seen.sample, memory);
        seen.has_memory = true;
        seen.memory = memory;
    }
    look_at_disk(observer->state, &seen);
    pawl_health_judge(health, &seen);
    pawl_metrics_sample_fini(&sample);
    return seen.answer;
}
