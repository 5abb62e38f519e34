/*
 * bench_bus.c - the event bus as programs use it: publish, deliver, ack; and how soon it is back after a
 * crash.
 *
 * Publisher and consumers are processes of their own over libpawl, the scheduler is one that is started for
 * the run. Throughput counts from the first publish to the last ack that is as durable as asked for. At a
 * rate, each event carries the time at which it was published. Floors of the same run: the bare ring, an idle
 * wake-up, a device sync.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "bench/bench.h"
#include "runtime/pawl.h"
#include "shm/clock.h"

enum {
    MEMORY_EVENTS = 5000000,
    FSYNC_EVENTS = 3000000,
    RATE_EVENTS = 50000,
    RECOVER_EVENTS = 1000000,
    RING_EVENTS = 5000000,
    BATCH = 1024,
    PREFETCH = 16384,
    PATIENCE_MS = 60000,
    LOOK_MS = 100, /* how often a consumer beside others looks whether all is settled */
    PATH_SECONDS = 2,
};

struct bus_run {
    char state[512];
    const struct pawl_bench_options *options;
    uint64_t events;
    uint32_t payload_bytes, consumers;
    int durability; /* enum pawl_durability_mode */
    double rate;
    _Atomic uint64_t *settled; /* events, by all consumers: shared memory */
};

static int complain(const char *what, int error, const struct pawl *pawl)
{
    fprintf(stderr, "pawl bench: %s: %s: %s\n", what, pawl_strerror(error), pawl_last_error(pawl));
    return error;
}

static int attach(const struct bus_run *run, struct pawl **pawl_out)
{
    const struct pawl_connect_options options = {
        .bytes = sizeof options, .state = run->state, .may_launch = 1, .connect_timeout_ms = PATIENCE_MS};
    int error = pawl_connect(&options, pawl_out);
    return error ? complain("connect", error, NULL) : 0;
}

/* ---- the processes ---- */

/* Closed afterwards: who waits for all of them sees it when one has failed. */
static int say_ready(int go_fd)
{
    int error = write(go_fd, "g", 1) == 1 ? 0 : -EPIPE;
    close(go_fd);
    return error;
}

/* Attached, it says so through @go_fd and waits for a word on @start_fd; -1: it begins at once. */
static int publish(const struct bus_run *run, int go_fd, int start_fd)
{
    struct pawl *pawl = NULL;
    char *data = calloc(1, run->payload_bytes), word;
    int error = data ? attach(run, &pawl) : -ENOMEM;
    if (!error && go_fd >= 0)
        error = say_ready(go_fd);
    if (!error && start_fd >= 0 && read(start_fd, &word, 1) != 1)
        error = -EPIPE;
    if (error)
        goto end;
    struct pawl_message message = {
        .bytes = sizeof message, .topic = "bench.event", .data = data, .data_bytes = run->payload_bytes};
    uint64_t next_ns = pawl_clock_monotonic_ns(), step_ns = run->rate > 0 ? (uint64_t)(1e9 / run->rate) : 0;
    for (uint64_t i = 0; i < run->events && !error; i++) {
        if (step_ns) {
            pawl_bench_rest_until(next_ns);
            next_ns += step_ns;
            uint64_t now = pawl_clock_monotonic_ns();
            memcpy(data, &now, sizeof now);
        }
        error = pawl_publish_async(pawl, &message, PATIENCE_MS, NULL, NULL, NULL);
        if (!error && step_ns) {
            pawl_kick(pawl);
            (void)pawl_dispatch(pawl, 0);
        }
    }
    if (!error)
        error = pawl_flush(pawl, PATIENCE_MS);
    if (error)
        complain("publish", error, pawl);
end:
    pawl_close(pawl);
    free(data);
    return error;
}

struct figures {
    uint64_t got; /* events that this consumer settled */
    uint64_t finished_at_ns;
};

static int write_samples(int fd, const struct pawl_bench_samples *samples)
{
    const char *bytes = (const char *)samples->ns;
    size_t left = samples->count * sizeof *samples->ns;
    while (left > 0) {
        ssize_t n = write(fd, bytes, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -errno;
        bytes += n;
        left -= (size_t)n;
    }
    return 0;
}

/* Until all are settled, by whom ever; then its figures go through the pipe. */
static int consume(const struct bus_run *run, int fd, int go_fd)
{
    struct pawl *pawl = NULL;
    struct pawl_consumer *consumer = NULL;
    struct pawl_bench_samples samples = {0};
    struct figures figures = {0};
    int error = attach(run, &pawl);
    const struct pawl_consumer_options options = {.bytes = sizeof options, .prefetch = PREFETCH};
    if (!error)
        error = pawl_consume(pawl, "bench", &options, &consumer);
    if (!error)
        error = say_ready(go_fd);
    uint64_t last_ns = pawl_clock_monotonic_ns();
    bool mine_is_last = false;
    while (!error && *run->settled < run->events) {
        const struct pawl_delivery *deliveries[BATCH];
        int count = pawl_claim(consumer, deliveries, BATCH, run->consumers > 1 ? LOOK_MS : PATIENCE_MS);
        if (count == 0 && pawl_clock_monotonic_ns() - last_ns >= (uint64_t)PATIENCE_MS * 1000000)
            error = -ETIMEDOUT;
        if (count < 0)
            error = count;
        if (error || count == 0)
            continue;
        if (run->rate > 0) {
            uint64_t now = pawl_clock_monotonic_ns(), sent;
            for (int i = 0; i < count && !error; i++) {
                memcpy(&sent, deliveries[i]->data, sizeof sent);
                error = pawl_bench_sample(&samples, now - sent);
            }
        }
        if (!error)
            error = pawl_ack_batch(deliveries, (size_t)count);
        figures.got += (uint64_t)count;
        mine_is_last = atomic_fetch_add(run->settled, (uint64_t)count) + (uint64_t)count >= run->events;
        last_ns = pawl_clock_monotonic_ns();
    }
    if (!error && (error = pawl_flush(pawl, PATIENCE_MS)) == 0 && mine_is_last)
        last_ns = pawl_clock_monotonic_ns();
    figures.finished_at_ns = last_ns;
    if (error)
        complain("consume", error, pawl);
    if (!error && write(fd, &figures, sizeof figures) != (ssize_t)sizeof figures)
        error = -EPIPE;
    if (!error)
        error = write_samples(fd, &samples);
    pawl_close(pawl);
    free(samples.ns);
    return error;
}

/* ---- the scheduler's costs ---- */

static pid_t pid_of(struct pawl *pawl, const char *role)
{
    char *text = NULL;
    pid_t pid = 0;
    if (pawl_health(pawl, &text) != 0)
        return 0;
    json_t *json = json_loads(text, 0, NULL), *process;
    size_t index;
    json_array_foreach(json_object_get(json, "processes"), index, process)
    {
        const char *name = json_string_value(json_object_get(process, "role"));
        if (name && strcmp(name, role) == 0)
            pid = (pid_t)json_integer_value(json_object_get(process, "pid"));
    }
    json_decref(json);
    free(text);
    return pid;
}

static uint64_t peak_of(pid_t pid)
{
    char path[64], line[256];
    unsigned long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtoul(line + 6, NULL, 10);
    if (file)
        fclose(file);
    return kib * 1024;
}

/* ---- floors ---- */

static void put(struct pawl_bench_result *result, int at, const char *name, uint64_t ns)
{
    result->extra[at].name = name;
    result->extra[at].value = (double)ns;
}

static void measure_floors(const struct bus_run *run, const char *directory, struct pawl_bench_result *result)
{
    struct pawl_bench_result apart = {0}, anywhere = {0}, sync = {0}, path = {0};
    pawl_bench_floor_waking(true, &apart);
    pawl_bench_floor_waking(false, &anywhere);
    put(result, 0, "wake_p50_ns", apart.p50_ns);
    put(result, 1, "wake_p99_ns", apart.p99_ns);
    put(result, 2, "wake_anywhere_p50_ns", anywhere.p50_ns);
    put(result, 3, "wake_anywhere_p99_ns", anywhere.p99_ns);
    int at = 4;
    bool syncs = run->durability == PAWL_DURABLE_FSYNC;
    if (syncs) {
        pawl_bench_floor_syncing(directory, &sync);
        put(result, at++, "sync_p50_ns", sync.p50_ns);
        put(result, at++, "sync_p99_ns", sync.p99_ns);
    }
    uint64_t events = (uint64_t)(run->rate * PATH_SECONDS);
    if (events == 0)
        return;
    if (pawl_bench_floor_path(syncs ? directory : NULL, run->rate,
                              events < run->events ? events : run->events, &path) != 0)
        return;
    put(result, at++, "path_p50_ns", path.p50_ns);
    put(result, at, "path_p99_ns", path.p99_ns);
}

/* The supervisor ends when its last client has left; the scratch directory is in use until then. */
static void wait_for_all(void)
{
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
}

/* ---- a run ---- */

static int declare(const struct bus_run *run, struct pawl *pawl)
{
    static const char *const topics[] = {"bench.*"};
    const struct pawl_queue_options options = {.bytes = sizeof options,
                                               .topics = topics,
                                               .topic_count = 1,
                                               .durability = (enum pawl_durability_mode)run->durability,
                                               .max_depth = UINT64_C(1) << 40,
                                               .max_bytes = UINT64_C(1) << 50};
    int error = pawl_queue_declare(pawl, "bench", &options);
    return error ? complain("declare", error, pawl) : 0;
}

static int read_all(int fd, void *bytes, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t got = read(fd, (char *)bytes + done, n - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return -EPIPE;
        done += (size_t)got;
    }
    return 0;
}

static int collect(int fd, struct pawl_bench_samples *samples, uint64_t *got, uint64_t *finished_ns)
{
    struct figures figures;
    uint64_t ns;
    int error = read_all(fd, &figures, sizeof figures);
    if (error)
        return error;
    *got += figures.got;
    if (figures.finished_at_ns > *finished_ns)
        *finished_ns = figures.finished_at_ns;
    while (read_all(fd, &ns, sizeof ns) == 0)
        if (pawl_bench_sample(samples, ns) != 0)
            return -ENOMEM;
    return 0;
}

static int be_child(int error)
{
    _exit(error ? 1 : 0);
}

static int measure(const struct bus_run *run, pid_t scheduler, struct pawl_bench_result *result)
{
    int fds[16][2], go[2], start[2], error = 0;
    pid_t pids[17] = {0};
    uint64_t got = 0, finished_ns = 0;
    struct pawl_bench_samples samples = {0};
    char word;
    if (pipe(go) != 0)
        return -errno;
    for (uint32_t i = 0; i < run->consumers; i++) {
        if (pipe(fds[i]) != 0)
            return -errno;
        pids[i] = fork();
        if (pids[i] == 0)
            be_child(consume(run, fds[i][1], go[1]));
        close(fds[i][1]);
    }
    if (pipe(start) != 0) /* not before: the consumers must not hold it open */
        return -errno;
    pids[run->consumers] = fork();
    if (pids[run->consumers] == 0) {
        close(start[1]);
        be_child(publish(run, go[1], start[0]));
    }
    close(go[1]);
    for (uint32_t i = 0; i <= run->consumers && !error; i++)
        error = read_all(go[0], &word, 1);
    double cpu = pawl_bench_cpu_seconds_of(scheduler), children = pawl_bench_cpu_seconds(RUSAGE_CHILDREN);
    uint64_t from_ns = pawl_clock_monotonic_ns();
    if (!error && write(start[1], "s", 1) != 1)
        error = -EPIPE;
    close(start[1]); /* without a word: nothing is published */
    for (uint32_t i = 0; i < run->consumers && !error; i++)
        error = collect(fds[i][0], &samples, &got, &finished_ns);
    for (uint32_t i = 0; i <= run->consumers; i++) { /* the supervisor is a child of ours too, and stays */
        int status = 0;
        if (pids[i] > 0 &&
            (waitpid(pids[i], &status, 0) != pids[i] || !WIFEXITED(status) || WEXITSTATUS(status) != 0))
            error = -ECANCELED;
    }
    if (!error && got < run->events) {
        fprintf(stderr, "pawl bench: %" PRIu64 " of %" PRIu64 " events were consumed\n", got, run->events);
        error = -ECANCELED;
    }
    result->events = got;
    result->seconds = (double)(finished_ns - from_ns) / 1e9;
    result->per_second = (double)got / result->seconds;
    result->cpu_seconds_per_million =
        (pawl_bench_cpu_seconds_of(scheduler) - cpu + pawl_bench_cpu_seconds(RUSAGE_CHILDREN) - children) /
        (double)got * 1e6;
    result->rss_bytes = peak_of(scheduler);
    pawl_bench_percentiles(&samples, result);
    free(samples.ns);
    close(go[0]);
    close(start[0]);
    for (uint32_t i = 0; i < run->consumers; i++)
        close(fds[i][0]);
    return error;
}

static int set_up(struct bus_run *run, const struct pawl_bench_options *options, const char *directory)
{
    const char *durability = options->durability ? options->durability : "fsync";
    *run = (struct bus_run){.options = options,
                            .events = options->events,
                            .payload_bytes = options->payload_bytes ? options->payload_bytes : 100,
                            .consumers = options->workers ? options->workers : 1,
                            .rate = options->rate};
    run->durability = strcmp(durability, "memory") == 0  ? PAWL_DURABLE_MEMORY
                      : strcmp(durability, "async") == 0 ? PAWL_DURABLE_ASYNC
                                                         : PAWL_DURABLE_FSYNC;
    if (run->consumers > 16)
        run->consumers = 16;
    if (run->payload_bytes < sizeof(uint64_t))
        run->payload_bytes = sizeof(uint64_t);
    snprintf(run->state, sizeof run->state, "%s/state", directory);
    run->settled =
        mmap(NULL, sizeof *run->settled, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return run->settled == MAP_FAILED ? -errno : 0;
}

static void tear_down(struct bus_run *run, struct pawl *pawl)
{
    pawl_close(pawl);
    wait_for_all();
    (void)munmap(run->settled, sizeof *run->settled);
}

int pawl_bench_bus(const struct pawl_bench_options *options, const char *directory,
                   struct pawl_bench_result *result_out)
{
    struct bus_run run;
    struct pawl *pawl = NULL;
    struct pawl_bench_result ring = {0};
    struct pawl_bench_options small = {.events = RING_EVENTS};
    *result_out = (struct pawl_bench_result){.bench = "bus"};
    int error = set_up(&run, options, directory);
    if (error)
        return error;
    if (run.events == 0 && options->seconds > 0)
        run.events = (uint64_t)(options->seconds * (run.rate > 0 ? run.rate : 1000000));
    if (run.events == 0)
        run.events = run.rate > 0                            ? RATE_EVENTS
                     : run.durability == PAWL_DURABLE_MEMORY ? MEMORY_EVENTS
                                                             : FSYNC_EVENTS;
    if (run.events < RING_EVENTS / 10)
        small.events = RING_EVENTS / 50;
    if (pawl_bench_ring(&small, &ring) == 0) {
        result_out->floor_per_second = ring.per_second;
        result_out->floor = "a bare ring between two processes";
    }
    measure_floors(&run, directory, result_out);
    error = attach(&run, &pawl);
    if (!error)
        error = declare(&run, pawl);
    pid_t scheduler = error ? 0 : pid_of(pawl, "scheduler");
    if (!error && scheduler == 0)
        error = -ESRCH;
    if (!error)
        error = measure(&run, scheduler, result_out);
    tear_down(&run, pawl);
    return error;
}

/* ---- recover ---- */

static void kill_both(pid_t supervisor, pid_t scheduler)
{
    (void)kill(supervisor, SIGKILL);
    (void)kill(scheduler, SIGKILL);
    for (int i = 0; i < 5000 && (kill(supervisor, 0) == 0 || kill(scheduler, 0) == 0); i++) {
        struct timespec rest = {.tv_nsec = 1000000};
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        nanosleep(&rest, NULL);
    }
}

int pawl_bench_recover(const struct pawl_bench_options *options, const char *directory,
                       struct pawl_bench_result *result_out)
{
    struct bus_run run;
    struct pawl *pawl = NULL;
    *result_out = (struct pawl_bench_result){.bench = "recover", .floor = "the journal's files, read"};
    int error = set_up(&run, options, directory);
    if (error)
        return error;
    run.durability = PAWL_DURABLE_FSYNC;
    if (run.events == 0)
        run.events = RECOVER_EVENTS;
    error = attach(&run, &pawl);
    if (!error)
        error = declare(&run, pawl);
    if (!error)
        error = publish(&run, -1, -1);
    pid_t scheduler = error ? 0 : pid_of(pawl, "scheduler"),
          supervisor = error ? 0 : pid_of(pawl, "supervisor");
    if (!error && (scheduler <= 0 || supervisor <= 0))
        error = -ESRCH;
    if (error)
        goto end;
    kill_both(supervisor, scheduler);
    pawl_close(pawl);
    pawl = NULL;
    /* What it reads at least: every byte of the newest segments, once. */
    uint64_t bytes = 0;
    char command[700];
    snprintf(command, sizeof command, "cat '%s'/journal/*.seg | wc -c", run.state);
    uint64_t from_ns = pawl_clock_monotonic_ns();
    FILE *pipe_file = popen(command, "re");
    if (pipe_file) {
        char text[32];
        if (fgets(text, sizeof text, pipe_file))
            bytes = strtoull(text, NULL, 10);
        pclose(pipe_file);
    }
    double read_seconds = (double)(pawl_clock_monotonic_ns() - from_ns) / 1e9;
    from_ns = pawl_clock_monotonic_ns();
    error = attach(&run, &pawl);
    result_out->seconds = (double)(pawl_clock_monotonic_ns() - from_ns) / 1e9;
    result_out->events = run.events;
    result_out->per_second = (double)run.events / result_out->seconds;
    result_out->floor_per_second = (double)run.events / read_seconds;
    result_out->extra[0].name = "journal_bytes";
    result_out->extra[0].value = (double)bytes;
    if (!error) {
        scheduler = pid_of(pawl, "scheduler");
        result_out->rss_bytes = peak_of(scheduler);
        result_out->cpu_seconds_per_million = pawl_bench_cpu_seconds_of(scheduler) / (double)run.events * 1e6;
    }
end:
    tear_down(&run, pawl);
    return error;
}
