/*
 * bench_floors.c - what the machine takes for what the event bus cannot do without: a wake-up, a sync, and
 * the whole way of an event from process to process with nothing on it but these.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"
#include "shm/clock.h"
#include "shm/doorbell.h"
#include "shm/segment.h"

enum {
    WAKES = 2000,
    SYNCS = 1000,
    SYNCING_NS = 500000000, /* on a slow disk fewer are enough */
    BLOCK_BYTES = 4096,
    PATH_BLOCKS = 4096, /* written before, then over and over */
    PATIENCE_MS = 10000,
};

/* The first or the second of the processors that we may use; with one only, nothing. */
static void stay_on(const cpu_set_t *allowed, int which)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, allowed) && which-- == 0) {
            CPU_SET(cpu, &one);
            (void)sched_setaffinity(0, sizeof one, &one);
            return;
        }
}

void pawl_bench_floor_waking(bool apart, struct pawl_bench_result *wake_out)
{
    struct pawl_bench_samples samples = {0};
    cpu_set_t allowed;
    int there = eventfd(0, EFD_CLOEXEC), back = eventfd(0, EFD_CLOEXEC);
    uint64_t word = 1;
    apart = apart && sched_getaffinity(0, sizeof allowed, &allowed) == 0;
    pid_t pid = fork();
    if (apart)
        stay_on(&allowed, pid == 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (read(there, &word, sizeof word) == sizeof word && word < 1000)
            (void)!write(back, &(uint64_t){pawl_clock_monotonic_ns()}, sizeof word); /* when it was awake */
        _exit(0);
    }
    for (int i = 0; i < WAKES && pid > 0; i++) {
        struct timespec rest = {.tv_nsec = 200000};
        nanosleep(&rest, NULL);
        uint64_t from_ns = pawl_clock_monotonic_ns();
        (void)!write(there, &(uint64_t){1}, sizeof word);
        if (read(back, &word, sizeof word) == sizeof word && word >= from_ns)
            (void)pawl_bench_sample(&samples, word - from_ns);
    }
    (void)!write(there, &(uint64_t){1000}, sizeof word);
    (void)waitpid(pid, NULL, 0);
    if (apart)
        (void)sched_setaffinity(0, sizeof allowed, &allowed);
    pawl_bench_percentiles(&samples, wake_out);
    free(samples.ns);
    close(there);
    close(back);
}

void pawl_bench_floor_syncing(const char *directory, struct pawl_bench_result *sync_out)
{
    char path[600];
    struct pawl_bench_samples samples = {0};
    void *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    snprintf(path, sizeof path, "%s/sync", directory);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    uint64_t until_ns = pawl_clock_monotonic_ns() + SYNCING_NS;
    for (int i = 0; i < SYNCS && fd >= 0 && block; i++) {
        memset(block, i, BLOCK_BYTES);
        uint64_t from_ns = pawl_clock_monotonic_ns();
        if (from_ns >= until_ns || pwrite(fd, block, BLOCK_BYTES, (off_t)i * BLOCK_BYTES) != BLOCK_BYTES ||
            fdatasync(fd) != 0)
            break;
        (void)pawl_bench_sample(&samples, pawl_clock_monotonic_ns() - from_ns);
    }
    pawl_bench_percentiles(&samples, sync_out);
    if (fd >= 0)
        close(fd);
    (void)unlink(path);
    free(block);
    free(samples.ns);
}

/* ---- the way of an event ---- */

/* From one process to the next: times of publication, and who sleeps for more of them. */
struct leg {
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint64_t produced;
    alignas(PAWL_ISOLATION_BYTES) _Atomic uint32_t sleeping;
    int bell_fd;
    uint64_t *at_ns;
};

struct path {
    struct leg legs[2];
    uint64_t events;
    double rate;
    int fd; /* of the file that the middle one writes; -1: it writes nothing */
    void *block;
};

static void leg_publish(struct leg *leg, uint64_t produced)
{
    atomic_store_explicit(&leg->produced, produced, memory_order_release);
    pawl_doorbell_ring(&leg->sleeping, leg->bell_fd); /* D1 */
}

/* How many there are, when that is more than @seen; @seen when nobody came in time. */
static uint64_t leg_wait(struct leg *leg, uint64_t seen)
{
    uint64_t produced = atomic_load_explicit(&leg->produced, memory_order_acquire);
    while (produced == seen) {
        struct pollfd bell = {.fd = leg->bell_fd, .events = POLLIN};
        pawl_doorbell_prepare(&leg->sleeping); /* D1 */
        produced = atomic_load_explicit(&leg->produced, memory_order_acquire);
        int ready = produced == seen ? poll(&bell, 1, PATIENCE_MS) : 1;
        pawl_doorbell_awake(&leg->sleeping);
        pawl_doorbell_clear(leg->bell_fd);
        if (ready == 0)
            break;
        produced = atomic_load_explicit(&leg->produced, memory_order_acquire);
    }
    return produced;
}

static void path_publish(struct path *path)
{
    uint64_t next_ns = pawl_clock_monotonic_ns(), step_ns = (uint64_t)(1e9 / path->rate);
    for (uint64_t i = 0; i < path->events; i++) {
        pawl_bench_rest_until(next_ns);
        next_ns += step_ns;
        path->legs[0].at_ns[i] = pawl_clock_monotonic_ns();
        leg_publish(&path->legs[0], i + 1);
    }
}

/* Whatever has come becomes durable with one block, then it is handed on. */
static int path_commit(struct path *path)
{
    const struct iovec iov = {.iov_base = path->block, .iov_len = BLOCK_BYTES};
    for (uint64_t seen = 0, commits = 0; seen < path->events; commits++) {
        uint64_t produced = leg_wait(&path->legs[0], seen);
        if (produced == seen)
            return -ETIMEDOUT;
        off_t at = (off_t)(commits % PATH_BLOCKS) * BLOCK_BYTES;
        if (path->fd >= 0 && pwritev2(path->fd, &iov, 1, at, RWF_DSYNC) != BLOCK_BYTES)
            return -EIO;
        for (; seen < produced; seen++)
            path->legs[1].at_ns[seen] = path->legs[0].at_ns[seen];
        leg_publish(&path->legs[1], seen);
    }
    return 0;
}

static int path_consume(struct path *path, struct pawl_bench_samples *samples)
{
    for (uint64_t seen = 0; seen < path->events;) {
        uint64_t produced = leg_wait(&path->legs[1], seen), now = pawl_clock_monotonic_ns();
        if (produced == seen)
            return -ETIMEDOUT;
        for (; seen < produced; seen++)
            if (pawl_bench_sample(samples, now - path->legs[1].at_ns[seen]) != 0)
                return -ENOMEM;
    }
    return 0;
}

/* Its blocks were written before, as those of the journal. */
static int open_written(const char *directory, void *block)
{
    char name[600];
    snprintf(name, sizeof name, "%s/path", directory);
    int fd = open(name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC | O_DIRECT, 0600);
    if (fd < 0 && errno == EINVAL)
        fd = open(name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    (void)unlink(name);
    for (int i = 0; i < PATH_BLOCKS; i++)
        if (pwrite(fd, block, BLOCK_BYTES, (off_t)i * BLOCK_BYTES) != BLOCK_BYTES) {
            close(fd);
            return -EIO;
        }
    (void)fsync(fd);
    return fd;
}

static pid_t begin(struct path *path, bool commits)
{
    pid_t pid = fork();
    if (pid == 0) {
        int error = 0;
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (commits)
            error = path_commit(path);
        else
            path_publish(path);
        _exit(error ? 1 : 0);
    }
    return pid;
}

int pawl_bench_floor_path(const char *directory, double rate, uint64_t events,
                          struct pawl_bench_result *result_out)
{
    struct pawl_bench_samples samples = {0};
    size_t times = events * sizeof(uint64_t), bytes = sizeof(struct path) + 2 * times;
    struct path *path = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    void *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    if (path == MAP_FAILED || !block) {
        free(block);
        return -ENOMEM;
    }
    memset(block, 0, BLOCK_BYTES);
    *path = (struct path){.events = events, .rate = rate, .block = block, .fd = -1};
    for (int i = 0; i < 2; i++) {
        path->legs[i].at_ns = (uint64_t *)(path + 1) + i * events;
        path->legs[i].bell_fd = pawl_doorbell_open();
    }
    int error = path->legs[0].bell_fd < 0 || path->legs[1].bell_fd < 0 ? -EMFILE : 0;
    if (!error && directory && (path->fd = open_written(directory, block)) < 0)
        error = path->fd;
    pid_t pids[2] = {error ? 0 : begin(path, true), error ? 0 : begin(path, false)};
    if (!error)
        error = pids[0] < 0 || pids[1] < 0 ? -EAGAIN : path_consume(path, &samples);
    for (int i = 0; i < 2; i++)
        if (pids[i] > 0) {
            (void)kill(pids[i], SIGKILL); /* all has arrived, or something failed */
            (void)waitpid(pids[i], NULL, 0);
        }
    if (!error)
        pawl_bench_percentiles(&samples, result_out);
    free(samples.ns);
    for (int i = 0; i < 2; i++)
        if (path->legs[i].bell_fd >= 0)
            close(path->legs[i].bell_fd);
    if (path->fd >= 0)
        close(path->fd);
    munmap(path, bytes);
    free(block);
    return error;
}
