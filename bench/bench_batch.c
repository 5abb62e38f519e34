/*
 * bench_batch.c - pawl itself at work: whole batches, from the command's start to its end.
 *
 * Runs in: the bench command, which starts this same program again with a state directory of its own, watches
 * the scheduler's CPU time and memory through /proc, and reads the sealed run's image when all is over.
 */
#include "bench/bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "scheduler/image.h"
#include "shm/clock.h"

enum {
    SAMPLE_MS = 5,
    ROUNDS = 3,
    VIEWS_MAX = 200000, /* pieces of work that are looked at afterwards */
    EXEC_EVENTS = 10000,
    FLOW_EVENTS = 1000000,
    FLOW_SMALL = 10000,
};

struct batch {
    const char *directory; /* scratch, exists */
    char state[4096];      /* a new state directory in it for each batch */
    unsigned number;
    /* of the newest batch */
    double seconds;          /* of the command: start to exit */
    double cpu_seconds;      /* of everything that it started */
    uint64_t first_start_ns; /* after the command's start */
    uint64_t scheduler_ticks, scheduler_peak_kib;
    struct pawl_bench_samples samples;
};

/* ---- the scheduler, from outside ---- */

static pid_t find_scheduler(pid_t of, int depth)
{
    char path[64], name[32] = "", children[4096];
    snprintf(path, sizeof path, "/proc/%d/comm", (int)of);
    FILE *file = fopen(path, "re");
    if (file) {
        if (!fgets(name, sizeof name, file))
            name[0] = '\0';
        fclose(file);
    }
    if (strncmp(name, "pawl: scheduler", 15) == 0)
        return of;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)of, (int)of);
    file = depth > 0 ? fopen(path, "re") : NULL;
    if (!file)
        return 0;
    size_t n = fread(children, 1, sizeof children - 1, file);
    fclose(file);
    children[n] = '\0';
    pid_t found = 0;
    char *rest = children, *word;
    while (!found && (word = strtok_r(rest, " ", &rest)))
        found = find_scheduler((pid_t)strtol(word, NULL, 10), depth - 1);
    return found;
}

static void sample_scheduler(struct batch *batch, pid_t *scheduler)
{
    char path[64], line[1024];
    if (*scheduler == 0)
        *scheduler = find_scheduler(getpid(), 4);
    if (*scheduler == 0)
        return;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)*scheduler);
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    /* utime and stime are the 14th and 15th field; the 2nd ends with the last parenthesis */
    char *field = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    fclose(file);
    unsigned long long user = 0, kernel = 0;
    for (int i = 2; field && i < 14; i++)
        field = strchr(field + 1, ' ');
    if (field) {
        user = strtoull(field, &field, 10);
        kernel = strtoull(field, NULL, 10);
    }
    if (user + kernel > batch->scheduler_ticks)
        batch->scheduler_ticks = user + kernel;
    snprintf(path, sizeof path, "/proc/%d/status", (int)*scheduler);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "VmHWM:", 6) == 0) {
            uint64_t kib = strtoull(line + 6, NULL, 10);
            if (kib > batch->scheduler_peak_kib)
                batch->scheduler_peak_kib = kib;
        }
    if (file)
        fclose(file);
}

/* ---- one batch ---- */

static void start_pawl(const struct batch *batch, const char *const *argv)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/said", batch->directory);
    int null = open("/dev/null", O_RDWR), said = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(null, 0);
    dup2(null, 1);
    dup2(said, 2);
    setenv("PAWL_STATE", batch->state, 1);
    execv("/proc/self/exe", (char *const *)(uintptr_t)argv);
    _exit(127);
}

/* The sealed run tells when each piece of work began and how long it took. */
static int read_image(struct batch *batch, uint64_t from_ns)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/runs", batch->state);
    DIR *runs = opendir(path);
    if (!runs)
        return -errno;
    int error = -ENOENT;
    struct pawl_image *image = NULL;
    for (struct dirent *entry; error == -ENOENT && (entry = readdir(runs));)
        if (entry->d_name[0] != '.')
            error = pawl_image_open(dirfd(runs), entry->d_name, &image);
    closedir(runs);
    if (error < 0)
        return error;
    struct pawl_step_view view;
    uint64_t cursor = 0, first_ns = UINT64_MAX;
    for (int i = 0; error == 0 && i < VIEWS_MAX && pawl_image_step_next(image, &cursor, 0, &view) > 0; i++) {
        if (!view.fixed.fan_out && strcmp(view.name, "list") == 0)
            continue;
        if (view.fixed.started_at_ns < first_ns)
            first_ns = view.fixed.started_at_ns;
        error = pawl_bench_sample(&batch->samples, view.fixed.duration_ns);
    }
    pawl_image_close(image);
    batch->first_start_ns = first_ns > from_ns && first_ns != UINT64_MAX ? first_ns - from_ns : 0;
    return error;
}

/* But how to go on: its state directory goes away with the bench. */
static void repeat_what_it_said(const struct batch *batch)
{
    static const char go_on[] = "pawl: go on";
    char path[4200], line[512];
    snprintf(path, sizeof path, "%s/said", batch->directory);
    FILE *file = fopen(path, "re");
    for (bool whole = true, told = true; file && fgets(line, sizeof line, file);) {
        told = whole ? strncmp(line, go_on, sizeof go_on - 1) != 0 : told; /* a long line comes in pieces */
        whole = strchr(line, '\n') != NULL;
        if (told)
            fputs(line, stderr);
    }
    if (file)
        fclose(file);
}

/* Return: 0, -ECANCELED when the batch did not succeed (its own words are on stderr), -errno. */
static int run_batch(struct batch *batch, const char *const *argv)
{
    int status = 0,
        n = snprintf(batch->state, sizeof batch->state, "%s/state.%u", batch->directory, ++batch->number);
    if (n >= (int)sizeof batch->state)
        return -ENAMETOOLONG;
    batch->scheduler_ticks = batch->scheduler_peak_kib = batch->samples.count = 0;
    /* What the command leaves behind (supervisor, scheduler, workers) becomes ours: waited for, and its CPU
     * time known. */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        return -errno;
    double cpu = pawl_bench_cpu_seconds(RUSAGE_CHILDREN);
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    uint64_t from_ns = pawl_clock_monotonic_ns();
    pid_t command = fork(), scheduler = 0;
    if (command == 0)
        start_pawl(batch, argv);
    int pidfd = command > 0 ? pidfd_open(command, 0) : -1;
    if (pidfd < 0)
        return -errno;
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    for (int ready; (ready = poll(&ended, 1, SAMPLE_MS)) <= 0;) {
        if (ready < 0 && errno == EINTR)
            kill(command, SIGINT); /* whoever stops the bench stops its batch */
        sample_scheduler(batch, &scheduler);
    }
    uint64_t now_ns = pawl_clock_monotonic_ns();
    close(pidfd);
    waitpid(command, &status, 0);
    for (pid_t gone; (gone = waitpid(-1, NULL, WNOHANG)) >= 0 || errno == EINTR;) {
        sample_scheduler(batch, &scheduler);
        if (gone == 0)
            poll(NULL, 0, SAMPLE_MS);
    }
    batch->seconds = (double)(now_ns - from_ns) / 1e9;
    batch->cpu_seconds = pawl_bench_cpu_seconds(RUSAGE_CHILDREN) - cpu;
    if (status != 0) {
        repeat_what_it_said(batch);
        return -ECANCELED;
    }
    return read_image(batch, (uint64_t)wall.tv_sec * 1000000000u + (uint64_t)wall.tv_nsec);
}

static void fill(struct pawl_bench_result *r, struct batch *batch, uint64_t events)
{
    r->events = events;
    r->seconds = batch->seconds;
    r->per_second = (double)events / batch->seconds;
    r->cpu_seconds_per_million = batch->cpu_seconds / ((double)events * 1e-6);
    r->rss_bytes = batch->scheduler_peak_kib * 1024;
    pawl_bench_percentiles(&batch->samples, r);
}

static void extra(struct pawl_bench_result *r, const char *name, double value)
{
    for (int i = 0; i < PAWL_BENCH_EXTRAS; i++)
        if (!r->extra[i].name) {
            r->extra[i].name = name;
            r->extra[i].value = value;
            return;
        }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double scheduler_us(const struct batch *batch, uint64_t events)
{
    return (double)batch->scheduler_ticks * 1e6 / (double)sysconf(_SC_CLK_TCK) / (double)events;
}

/* ---- exec ---- */

static int write_numbers(const char *path, uint64_t count)
{
    FILE *file = fopen(path, "we");
    if (!file)
        return -errno;
    for (uint64_t i = 1; i <= count; i++)
        fprintf(file, "%llu\n", (unsigned long long)i);
    return fclose(file) == 0 ? 0 : -errno;
}

int pawl_bench_exec(const struct pawl_bench_options *options, const char *directory,
                    struct pawl_bench_result *r)
{
    uint64_t events = options->events ? options->events : EXEC_EVENTS;
    unsigned slots = options->workers ? options->workers : (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    struct batch batch = {.directory = directory};
    double rates[ROUNDS], floors[ROUNDS], ratios[ROUNDS], cpu_ratios[ROUNDS];
    char numbers[4200], jobs[16];
    *r = (struct pawl_bench_result){.bench = "exec", .floor = "raw clone and exec of /bin/true"};
    if (!options->events && options->seconds > 0) /* half for the floor */
        events = 1 + (uint64_t)(pawl_bench_spawn_floor(slots, 500) * options->seconds / (2 * ROUNDS));
    snprintf(numbers, sizeof numbers, "%s/numbers", directory);
    snprintf(jobs, sizeof jobs, "-j%u", slots);
    int error = write_numbers(numbers, events);
    const char *const argv[] = {"pawl", "map", jobs, "--progress=none", "-a", numbers, "/bin/true", NULL};
    for (int i = 0; error == 0 && i < ROUNDS; i++) { /* in turn: what disturbs one disturbs the other */
        double floor_cpu = pawl_bench_cpu_seconds(RUSAGE_CHILDREN);
        floors[i] = pawl_bench_spawn_floor(slots, (unsigned)events);
        floor_cpu = pawl_bench_cpu_seconds(RUSAGE_CHILDREN) - floor_cpu;
        error = floors[i] > 0 ? run_batch(&batch, argv) : -ECANCELED;
        rates[i] = error ? 0 : (double)events / batch.seconds;
        ratios[i] = error ? 0 : rates[i] / floors[i];
        cpu_ratios[i] = error ? 0 : floor_cpu / batch.cpu_seconds;
    }
    if (error == 0) {
        fill(r, &batch, events);
        qsort(rates, ROUNDS, sizeof *rates, by_value);
        qsort(floors, ROUNDS, sizeof *floors, by_value);
        qsort(ratios, ROUNDS, sizeof *ratios, by_value);
        qsort(cpu_ratios, ROUNDS, sizeof *cpu_ratios, by_value);
        r->per_second = rates[ROUNDS / 2];
        r->seconds = (double)events / r->per_second;
        r->floor_per_second = floors[ROUNDS / 2];
        extra(r, "slots", slots);
        extra(r, "ratio_to_floor", ratios[ROUNDS / 2]);
        extra(r, "ratio_lowest", ratios[0]);
        extra(r, "ratio_highest", ratios[ROUNDS - 1]);
        extra(r, "cpu_ratio_to_floor", cpu_ratios[ROUNDS / 2]); /* a busy machine disturbs it less */
        extra(r, "scheduler_us_per_event", scheduler_us(&batch, events));
    }
    free(batch.samples.ns);
    return error;
}

/* ---- flow ---- */

static int write_flow(const char *path, uint64_t count)
{
    FILE *file = fopen(path, "we");
    if (!file)
        return -errno;
    fprintf(file,
            "pawl: 1\nsteps:\n  list: {shell: 'seq 1 %llu', output: lines}\n"
            "  each: {needs: [list], foreach: \"${{ steps.list.output }}\", use: noop}\n",
            (unsigned long long)count);
    return fclose(file) == 0 ? 0 : -errno;
}

static int run_flow(struct batch *batch, unsigned slots, uint64_t count)
{
    char file[4200], jobs[16];
    snprintf(file, sizeof file, "%s/flow.yaml", batch->directory);
    snprintf(jobs, sizeof jobs, "-j%u", slots);
    const char *const argv[] = {"pawl", "run", jobs, "--progress=none", file, NULL};
    int error = write_flow(file, count);
    return error ? error : run_batch(batch, argv);
}

static uint64_t digits_of(uint64_t count)
{
    uint64_t bytes = 0;
    for (uint64_t low = 1; low <= count; low *= 10)
        bytes += count - low + 1;
    return bytes + count; /* a newline each */
}

int pawl_bench_flow(const struct pawl_bench_options *options, const char *directory,
                    struct pawl_bench_result *r)
{
    uint64_t events = options->events ? options->events : FLOW_EVENTS;
    unsigned slots = options->workers ? options->workers : (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    struct batch batch = {.directory = directory};
    struct pawl_bench_options ring_options = {.events = 2000000};
    struct pawl_bench_result ring;
    *r = (struct pawl_bench_result){.bench = "flow", .floor = "claims of the bare delivery ring, one worker"};
    int error = pawl_bench_ring(&ring_options, &ring);
    if (error == 0)
        error = run_flow(&batch, slots, FLOW_SMALL);
    double small_rate = FLOW_SMALL / batch.seconds;
    if (!options->events && options->seconds > 0)
        events = 1 + (uint64_t)(small_rate * options->seconds);
    uint64_t small_peak = batch.scheduler_peak_kib * 1024;
    if (error == 0)
        error = run_flow(&batch, slots, events);
    if (error == 0) {
        fill(r, &batch, events);
        r->floor_per_second = ring.extra[0].value;
        extra(r, "slots", slots);
        extra(r, "first_start_ms", (double)batch.first_start_ns / 1e6);
        extra(r, "scheduler_us_per_event", scheduler_us(&batch, events));
        extra(r, "per_second_at_10000", small_rate);
        double more = (double)r->rss_bytes - (double)small_peak - (double)digits_of(events);
        if (events >= 10 * (uint64_t)FLOW_SMALL)
            extra(r, "bytes_per_event", more / (double)(events - FLOW_SMALL));
    }
    free(batch.samples.ns);
    return error;
}
