/*
 * bench_journal.c - records made durable through the journal, beside the bare device.
 */
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scheduler/io.h"
#include "scheduler/journal.h"
#include "shm/clock.h"
#include "shm/error.h"

enum { BLOCK = 4096, FLOOR_COMMITS = 400, RECORD_TYPE = 6 };

struct run {
    struct pawl_io *io;
    struct pawl_journal *journal;
    uint64_t *appended_at; /* by lsn - first_lsn, modulo count */
    uint64_t mask, told;   /* latencies up to this lsn are sampled */
    struct pawl_bench_samples samples;
    int error;
};

static void on_durable(void *ctx, uint64_t lsn)
{
    struct run *run = ctx;
    uint64_t now = pawl_clock_monotonic_ns();
    for (; run->told < lsn; run->told++)
        if (pawl_bench_sample(&run->samples, now - run->appended_at[(run->told + 1) & run->mask]) < 0)
            run->error = -ENOMEM;
}

static void on_failed(void *ctx, int error)
{
    struct run *run = ctx;
    run->error = error;
}

/* One block, write and fdatasync, over and over: what a commit costs without us. */
static int measure_floor(int directory_fd, double *per_second_out)
{
    void *block = NULL;
    int fd = openat(directory_fd, "floor", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0600);
    if (fd < 0)
        fd = openat(directory_fd, "floor", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int error = -posix_memalign(&block, BLOCK, BLOCK);
    if (error < 0)
        goto close_fd;
    memset(block, 7, BLOCK);
    uint64_t start = pawl_clock_monotonic_ns();
    for (int i = 0; i < FLOOR_COMMITS; i++)
        if (pwrite(fd, block, BLOCK, (off_t)i * BLOCK) != BLOCK || fdatasync(fd) < 0) {
            error = -errno;
            break;
        }
    *per_second_out = FLOOR_COMMITS / ((double)(pawl_clock_monotonic_ns() - start) * 1e-9);
    free(block);
close_fd:
    unlinkat(directory_fd, "floor", 0);
    close(fd);
    return error;
}

static int append_all(struct run *run, const struct pawl_bench_options *options, const char *payload,
                      uint32_t bytes, double seconds, uint64_t *events_out)
{
    struct iovec body = {.iov_base = (void *)(uintptr_t)payload, .iov_len = bytes};
    uint64_t until = pawl_clock_monotonic_ns() + (uint64_t)(seconds * 1e9), events = 0;
    while (run->error == 0 &&
           (options->events ? events < options->events : pawl_clock_monotonic_ns() < until)) {
        for (int i = 0; i < 64 && (!options->events || events < options->events); i++, events++) {
            uint64_t lsn;
            int error = pawl_journal_append(run->journal, RECORD_TYPE, 1, &body, 1, &lsn, NULL);
            if (error < 0)
                return error;
            if (run->told == 0)
                run->told = lsn - 1;
            run->appended_at[lsn & run->mask] = pawl_clock_monotonic_ns();
        }
        pawl_journal_flush(run->journal);
        bool full = pawl_journal_last_lsn(run->journal) - run->told > run->mask / 2;
        int error = pawl_io_wait(run->io, full ? UINT64_MAX : 0);
        if (error < 0)
            return error;
    }
    *events_out = events;
    int error = pawl_journal_sync(run->journal);
    return run->error < 0 ? run->error : error;
}

int pawl_bench_journal(const struct pawl_bench_options *options, const char *directory,
                       struct pawl_bench_result *r)
{
    uint32_t bytes = options->payload_bytes ? options->payload_bytes : 100;
    struct run run = {.mask = (1 << 16) - 1};
    struct pawl_journal_options journal = {.ctx = &run, .on_durable = on_durable, .on_failed = on_failed};
    *r = (struct pawl_bench_result){.bench = "journal", .floor = "4 KiB write + fdatasync"};
    int directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory_fd < 0)
        return -errno;
    char *payload = calloc(1, bytes);
    run.appended_at = calloc(run.mask + 1, sizeof *run.appended_at);
    int error = payload && run.appended_at ? measure_floor(directory_fd, &r->floor_per_second) : -ENOMEM;
    if (error < 0)
        goto free_memory;
    error = pawl_io_open(PAWL_IO_AUTO, &run.io);
    if (error < 0)
        goto free_memory;
    error = pawl_journal_open(run.io, directory_fd, &journal, &run.journal, NULL);
    if (error < 0)
        goto close_io;
    double cpu = pawl_bench_cpu_seconds(RUSAGE_SELF);
    uint64_t start = pawl_clock_monotonic_ns();
    error =
        append_all(&run, options, payload, bytes, options->seconds > 0 ? options->seconds : 3, &r->events);
    r->seconds = (double)(pawl_clock_monotonic_ns() - start) * 1e-9;
    r->per_second = (double)r->events / r->seconds;
    r->cpu_seconds_per_million =
        (pawl_bench_cpu_seconds(RUSAGE_SELF) - cpu) / ((double)(r->events ? r->events : 1) * 1e-6);
    r->rss_bytes = pawl_bench_rss_bytes();
    pawl_bench_percentiles(&run.samples, r);
    int closed = pawl_journal_close(run.journal, true);
    error = error < 0 ? error : closed;
close_io:
    pawl_io_close(run.io);
free_memory:
    free(run.samples.ns);
    free(run.appended_at);
    free(payload);
    close(directory_fd);
    return error;
}
