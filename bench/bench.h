/*
 * bench.h - the measurements behind `pawl bench`, each with its floor measured in the same run.
 */
#ifndef PAWL_BENCH_BENCH_H
#define PAWL_BENCH_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct pawl_bench_options {
    double seconds;         /* how long, about; 0: the bench's own default */
    uint64_t events;        /* how many instead; 0: by time */
    uint32_t payload_bytes; /* 0: the bench's own default */
    uint32_t workers;       /* 0: online CPUs */
    double rate;            /* bus: events a second, to measure latency; 0: as many as can be */
    const char *durability; /* "fsync", "async" or "memory"; NULL: fsync */
};

enum { PAWL_BENCH_EXTRAS = 8 };

struct pawl_bench_result {
    const char *bench;
    uint64_t events;
    double seconds;
    double per_second;
    uint64_t p50_ns, p99_ns, p999_ns; /* of one event; 0: not measured */
    double cpu_seconds_per_million;
    uint64_t rss_bytes;
    double floor_per_second;
    const char *floor; /* what the floor is */
    struct {
        const char *name;
        double value;
    } extra[PAWL_BENCH_EXTRAS]; /* more figures of the same run; name NULL ends */
};

/* SPSC ring between two processes (per_second), the claim ring between one and two, a cache line's ping-pong
 * as floor. */
int pawl_bench_ring(const struct pawl_bench_options *options, struct pawl_bench_result *result_out);

/* Records appended and synced through the journal; the raw device (the same bytes, write + fdatasync) as
 * floor. */
int pawl_bench_journal(const struct pawl_bench_options *options, const char *directory,
                       struct pawl_bench_result *result_out);

/**
 * pawl_bench_exec, pawl_bench_flow - whole batches of this program, from exec to exit
 * @directory: scratch on the file system that is to be measured; state directories stay in it
 *
 * exec: /bin/true, 10,000 times, recorded and synced; raw clone and exec in turn with it as floor. flow:
 * 1,000,000 no-op steps of a foreach. Both start /proc/self/exe, so call them from the tool. Percentiles are
 * those of the attempts' durations, rss_bytes is the scheduler's peak. Blocks until everything that was
 * started is gone: this process becomes a subreaper and must have no other children.
 *
 * Return: 0; -ECANCELED when a batch failed (it said why on stderr); -errno.
 */
int pawl_bench_exec(const struct pawl_bench_options *options, const char *directory,
                    struct pawl_bench_result *result_out);
int pawl_bench_flow(const struct pawl_bench_options *options, const char *directory,
                    struct pawl_bench_result *result_out);

/**
 * pawl_bench_bus - one publisher, one queue, `workers` consumers (1; at most 16), each a process of its own
 * pawl_bench_recover - from kill -9 of everything to serving again, with `events` in the journal
 *
 * Extras of bus: wake_p50_ns, wake_p99_ns (an idle sleeper, woken), sync_p50_ns (fsync: 4 KiB made durable);
 * at a rate path_p50_ns, path_p99_ns (pawl_bench_floor_path(): for up to 2 s).
 * Blocks until its processes are gone. Return: 0; -ECANCELED (said on stderr); an error of libpawl or -errno.
 */
int pawl_bench_bus(const struct pawl_bench_options *options, const char *directory,
                   struct pawl_bench_result *result_out);
int pawl_bench_recover(const struct pawl_bench_options *options, const char *directory,
                       struct pawl_bench_result *result_out);

/**
 * pawl_bench_spawn_floor - processes a second of a raw loop: the kernel's fork and exec, and nothing else
 * @slots: processes that spawn side by side; @tasks: /bin/true in all
 *
 * Each slot: clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD), in the child its output onto two files and
 * execve() with a number as argument, then waitid(). Blocks until all are done; the slots are forked, so call
 * it while this process is small. getrusage(RUSAGE_CHILDREN) before and after tells their CPU time.
 *
 * Return: tasks a second, or 0 when something failed (said on stderr).
 */
double pawl_bench_spawn_floor(unsigned slots, unsigned tasks);

/**
 * pawl_bench_floor_waking - a sleeper that nobody else keeps awake, woken through an eventfd, again and again
 * @apart: on another processor, which is idle until then; else where the kernel has it, which may be the
 * waker's own processor, and that is not
 *
 * Fills the percentiles of *wake_out; zeros if it could not be measured. Blocks for about half a second.
 */
void pawl_bench_floor_waking(bool apart, struct pawl_bench_result *wake_out);

/** pawl_bench_floor_syncing - 4 KiB appended to a file of @directory and made durable by fdatasync, one after
 * the other, with nothing else to do. Fills the percentiles of *sync_out; zeros if it could not be measured.
 */
void pawl_bench_floor_syncing(const char *directory, struct pawl_bench_result *sync_out);

/**
 * pawl_bench_floor_path - an event's way at @rate events a second with nothing on it but system calls
 * @directory: where the file lies that is written; NULL: nothing is written
 *
 * Three processes: one publishes @events times, one writes whatever has come with one write of 4 KiB
 * (RWF_DSYNC, over blocks written before), one consumes; each rings the next one's eventfd if that sleeps.
 * What the two wake-ups and the sync take at this rate beside each other, which is more than each takes
 * alone. Blocks for events / rate seconds and a little. Fills the percentiles of *result_out. 0 or -errno.
 */
int pawl_bench_floor_path(const char *directory, double rate, uint64_t events,
                          struct pawl_bench_result *result_out);

/* ---- for the benches ---- */

double pawl_bench_cpu_seconds(int who);      /* RUSAGE_SELF or RUSAGE_CHILDREN: user and system */
double pawl_bench_cpu_seconds_of(pid_t pid); /* of another process that lives */
uint64_t pawl_bench_rss_bytes(void);         /* of this process, now */
/* Sleeps until then (CLOCK_MONOTONIC), at once over if that has passed: between two events at a rate nobody
 * is busy, which would take a core from those who are measured. */
void pawl_bench_rest_until(uint64_t at_ns);

struct pawl_bench_samples {
    uint64_t *ns;
    uint64_t count, capacity;
};
int pawl_bench_sample(struct pawl_bench_samples *samples, uint64_t ns);
/* Sorts. Fills p50, p99, p999. */
void pawl_bench_percentiles(struct pawl_bench_samples *samples, struct pawl_bench_result *result);

#endif
