/*
 * bench_ring.c - what the rings cost between two processes, beside a bare cache line going to and fro.
 */
#include "bench/bench.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/delivery_ring.h"
#include "shm/error.h"
#include "shm/ring.h"

enum { ENTRY_BYTES = 64, ENTRIES = 1024, BATCH = 16, SPINS = 2000 };

struct shared {
    _Alignas(128) _Atomic uint64_t produced;
    _Alignas(128) _Atomic uint64_t consumed;
    _Alignas(128) _Atomic uint64_t ping;
    _Alignas(128) _Atomic uint64_t pong;
    _Alignas(128) unsigned char entries[ENTRIES * ENTRY_BYTES];
};

/* Two cores and noisy neighbours: spin for a moment, then let somebody else run. */
static void relax(unsigned *spins)
{
    if (++*spins % SPINS == 0)
        sched_yield();
}

static struct shared *map_shared(void)
{
    void *base = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return base == MAP_FAILED ? NULL : base;
}

static void produce(struct shared *shared, uint64_t events)
{
    struct pawl_ring_producer ring;
    unsigned spins = 0;
    pawl_ring_producer_init(&ring, &shared->produced, &shared->consumed, shared->entries, ENTRY_BYTES,
                            ENTRIES);
    for (uint64_t sent = 0; sent < events;) {
        uint64_t before = sent;
        for (int i = 0; i < BATCH && sent < events; i++) {
            uint64_t *entry = pawl_ring_reserve(&ring);
            if (!entry)
                break;
            entry[0] = sent++;
        }
        pawl_ring_publish(&ring);
        if (sent == before)
            relax(&spins);
    }
}

static int consume(struct shared *shared, uint64_t events)
{
    struct pawl_ring_consumer ring;
    uint64_t entry[ENTRY_BYTES / 8], got = 0;
    unsigned spins = 0;
    pawl_ring_consumer_init(&ring, &shared->produced, &shared->consumed, shared->entries, ENTRY_BYTES,
                            ENTRIES);
    while (got < events) {
        int64_t n = pawl_ring_peek(&ring);
        if (n < 0)
            return (int)n;
        if (n == 0)
            relax(&spins);
        for (; n > 0; n--) {
            pawl_ring_next(&ring, entry);
            if (entry[0] != got++)
                return PAWL_E_BAD_MESSAGE;
        }
        pawl_ring_release(&ring);
    }
    return 0;
}

static int wait_for(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : PAWL_E_STATE;
}

static int measure_spsc(uint64_t events, double *seconds_out)
{
    struct shared *shared = map_shared();
    if (!shared)
        return -ENOMEM;
    uint64_t start = pawl_clock_monotonic_ns();
    pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        produce(shared, events);
        _exit(0);
    }
    int error = consume(shared, events);
    *seconds_out = (double)(pawl_clock_monotonic_ns() - start) * 1e-9;
    if (error < 0)
        kill(child, SIGKILL);
    int ended = wait_for(child);
    munmap(shared, sizeof *shared);
    return error < 0 ? error : ended;
}

/* Round trips a second of one word each way, for half a second: on a busy machine each may wait for a time
 * slice. */
static int measure_ping_pong(double *per_second_out)
{
    struct shared *shared = map_shared();
    unsigned spins = 0;
    if (!shared)
        return -ENOMEM;
    pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        uint64_t seen = 0, now;
        while (seen != UINT64_MAX) {
            while ((now = atomic_load_explicit(&shared->ping, memory_order_acquire)) == seen)
                relax(&spins);
            seen = now;
            atomic_store_explicit(&shared->pong, seen, memory_order_release);
        }
        _exit(0);
    }
    uint64_t start = pawl_clock_monotonic_ns(), end = start, rounds = 0;
    while (end - start < 500000000) {
        atomic_store_explicit(&shared->ping, ++rounds, memory_order_release);
        while (atomic_load_explicit(&shared->pong, memory_order_acquire) != rounds)
            relax(&spins);
        if (rounds % 64 == 0)
            end = pawl_clock_monotonic_ns();
    }
    atomic_store_explicit(&shared->ping, UINT64_MAX, memory_order_release);
    *per_second_out = (double)rounds / ((double)(end - start) * 1e-9);
    int error = wait_for(child);
    munmap(shared, sizeof *shared);
    return error;
}

/* One process places, `workers` claim; what is claimed is told by a counter each, on a line of its own. */
struct tally {
    _Alignas(128) _Atomic uint64_t claimed;
};

static void claim_until(int queue_fd, int words_fd, uint16_t lane, struct tally *tally,
                        const _Atomic uint64_t *stop)
{
    struct pawl_claimer claimer;
    struct pawl_claimed claimed;
    unsigned spins = 0;
    if (pawl_claimer_attach(queue_fd, words_fd, lane, &claimer) < 0)
        _exit(1);
    uint64_t done = 0;
    while (!atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)stop, memory_order_relaxed)) {
        /* Stale: the slot was settled under our hands, which only this bench does; the claim was won all the
         * same. */
        int error = pawl_claim_one(&claimer, &claimed);
        if (error == 0 || error == PAWL_E_STALE_RECEIPT)
            atomic_store_explicit(&tally->claimed, ++done, memory_order_release);
        else
            relax(&spins);
    }
    _exit(0);
}

static int measure_claims(uint64_t events, uint32_t workers, double *per_second_out)
{
    enum { SLOTS = 4096, WORKERS_MAX = 8 };
    struct pawl_delivery_ring ring;
    struct pawl_descriptor descriptor = {0};
    pid_t child[WORKERS_MAX];
    unsigned spins = 0;
    if (workers > WORKERS_MAX)
        workers = WORKERS_MAX;
    int error = pawl_delivery_ring_create(SLOTS, &ring);
    if (error < 0)
        return error;
    struct tally *tally = mmap(NULL, (WORKERS_MAX + 1) * sizeof *tally, PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (tally == MAP_FAILED) {
        error = -errno;
        goto destroy_ring;
    }
    for (uint32_t i = 0; i < workers; i++) {
        child[i] = fork();
        if (child[i] == 0)
            claim_until(ring.queue.fd, ring.words.fd, (uint16_t)i, &tally[i], &tally[WORKERS_MAX].claimed);
    }
    uint64_t start = pawl_clock_monotonic_ns(), placed = 0, claimed = 0, swept = 0;
    uint32_t *slots = mmap(NULL, SLOTS * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    while (claimed < events) {
        for (int i = 0; i < BATCH && placed < events && placed - swept < SLOTS; i++) {
            uint32_t slot, generation;
            if (pawl_delivery_ring_place(&ring, &descriptor, 0, &slot, &generation) < 0)
                break;
            slots[2 * (placed % SLOTS)] = slot;
            slots[2 * (placed % SLOTS) + 1] = generation;
            placed++;
        }
        pawl_delivery_ring_publish(&ring);
        claimed = 0;
        for (uint32_t i = 0; i < workers; i++)
            claimed += atomic_load_explicit(&tally[i].claimed, memory_order_acquire);
        uint64_t before = swept;
        /* In order, and only what a worker holds: one that was preempted on the way to its slot keeps the
         * rest waiting. */
        while (swept < placed) {
            uint32_t slot = slots[2 * (swept % SLOTS)];
            if (pawl_delivery_ring_look(&ring, slot).state != PAWL_CLAIM_BEGUN)
                break;
            pawl_delivery_ring_settle(&ring, slot, slots[2 * (swept % SLOTS) + 1]);
            swept++;
        }
        if (swept == before)
            relax(&spins);
    }
    *per_second_out = (double)events / ((double)(pawl_clock_monotonic_ns() - start) * 1e-9);
    atomic_store_explicit(&tally[WORKERS_MAX].claimed, 1, memory_order_relaxed);
    for (uint32_t i = 0; i < workers; i++) {
        int ended = wait_for(child[i]);
        error = error < 0 ? error : ended;
    }
    munmap(slots, SLOTS * 8);
    munmap(tally, (WORKERS_MAX + 1) * sizeof *tally);
destroy_ring:
    pawl_delivery_ring_destroy(&ring);
    return error;
}

int pawl_bench_ring(const struct pawl_bench_options *options, struct pawl_bench_result *r)
{
    uint64_t events = options->events ? options->events : 20000000;
    if (!options->events && options->seconds > 0) {
        double calibration;
        int error = measure_spsc(1000000, &calibration);
        if (error < 0)
            return error;
        events = 1 + (uint64_t)(1e6 / calibration * options->seconds);
    }
    *r = (struct pawl_bench_result){.bench = "ring", .events = events, .floor = "cache-line round trips"};
    double cpu = pawl_bench_cpu_seconds(RUSAGE_SELF) + pawl_bench_cpu_seconds(RUSAGE_CHILDREN);
    int error = measure_spsc(events, &r->seconds);
    if (error < 0)
        return error;
    cpu = pawl_bench_cpu_seconds(RUSAGE_SELF) + pawl_bench_cpu_seconds(RUSAGE_CHILDREN) - cpu;
    r->per_second = (double)events / r->seconds;
    r->cpu_seconds_per_million = cpu / ((double)events * 1e-6);
    error = measure_ping_pong(&r->floor_per_second);
    if (error == 0)
        error = measure_claims(events / 8 + 1, 1, &r->extra[0].value);
    if (error == 0)
        error = measure_claims(events / 8 + 1, 2, &r->extra[1].value);
    r->extra[0].name = "claims_per_second_1_worker";
    r->extra[1].name = "claims_per_second_2_workers";
    r->rss_bytes = pawl_bench_rss_bytes();
    return error;
}
