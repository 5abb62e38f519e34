/*
 * bench_support.c - figures that every bench needs.
 */
#include "bench/bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

double pawl_bench_cpu_seconds(int who)
{
    struct rusage usage;
    getrusage(who, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec * 1e-6 +
           (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec * 1e-6;
}

double pawl_bench_cpu_seconds_of(pid_t pid)
{
    enum { USER_TIME = 12 }; /* fields behind the name, which may hold anything: user, then system */
    char path[64], line[1024];
    unsigned long ticks = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    char *rest = file && fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL, *place = NULL;
    for (int i = 0; rest && i < USER_TIME + 2; i++) {
        const char *field = strtok_r(i == 0 ? rest : NULL, " ", &place);
        ticks += field && i >= USER_TIME ? strtoul(field, NULL, 10) : 0;
    }
    if (file)
        fclose(file);
    return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

void pawl_bench_rest_until(uint64_t at_ns)
{
    const struct timespec at = {.tv_sec = (time_t)(at_ns / 1000000000),
                                .tv_nsec = (long)(at_ns % 1000000000)};
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

uint64_t pawl_bench_rss_bytes(void)
{
    char line[128] = "";
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return 0;
    const char *second = fgets(line, sizeof line, file) ? strchr(line, ' ') : NULL;
    uint64_t pages = second ? strtoull(second, NULL, 10) : 0;
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

int pawl_bench_sample(struct pawl_bench_samples *samples, uint64_t ns)
{
    if (samples->count == samples->capacity) {
        uint64_t capacity = samples->capacity ? samples->capacity * 2 : 1024;
        uint64_t *larger = realloc(samples->ns, capacity * sizeof *larger);
        if (!larger)
            return -ENOMEM;
        samples->ns = larger;
        samples->capacity = capacity;
    }
    samples->ns[samples->count++] = ns;
    return 0;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

void pawl_bench_percentiles(struct pawl_bench_samples *samples, struct pawl_bench_result *result)
{
    if (samples->count == 0)
        return;
    qsort(samples->ns, samples->count, sizeof *samples->ns, by_value);
    result->p50_ns = samples->ns[samples->count / 2];
    result->p99_ns = samples->ns[samples->count * 99 / 100];
    result->p999_ns = samples->ns[samples->count * 999 / 1000];
}
