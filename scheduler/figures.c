/*
 * figures.c - numbers for whoever looks.
 *
 * Runs in: scheduler. Writes the cells of the metrics segment that are not a queue's; the queues' rows are
 * the bus's own.
 */
#include "scheduler/figures.h"

#include <stdatomic.h>

#include "scheduler/handlers.h"
#include "scheduler/lanes.h"

#define LOOK_EACH_NS UINT64_C(1000000000)

/* jemalloc belongs to the tool; where another allocator is linked, it tells nothing. */
int mallctl(const char *name, void *old_value, size_t *old_bytes, void *new_value, size_t new_bytes)
    __attribute__((weak));

/* ---- as it happens ---- */

void pawl_figures_delivered(struct pawl_loop *loop, const struct pawl_inbound_entry *entry,
                            const struct pawl_event *event)
{
    if (!loop->metrics || entry->attempt != 1)
        return; /* how long a retry waits is its policy's doing */
    uint64_t now_ns = loop->now.realtime_ns, from_ns = event->published_at_ns;
    pawl_metrics_observe(&loop->metrics->histogram[PAWL_METRICS_DELIVERY_LATENCY],
                         now_ns > from_ns ? now_ns - from_ns : 0);
}

void pawl_figures_confirmed(struct pawl_loop *loop, const struct pawl_reply *reply)
{
    if (!loop->metrics || reply->type != PAWL_REPLY_CONFIRM || (reply->flags & PAWL_REPLY_DUPLICATE))
        return;
    pawl_metrics_add(loop->metrics,
                     reply->flags & PAWL_REPLY_UNROUTED ? PAWL_METRICS_EVENTS_UNROUTED
                                                        : PAWL_METRICS_EVENTS_PUBLISHED,
                     reply->last - reply->first + 1);
}

void pawl_figures_clients(struct pawl_loop *loop)
{
    if (loop->metrics)
        pawl_metrics_set(loop->metrics, PAWL_METRICS_CLIENTS, loop->attached_count);
}

void pawl_figures_worker_lost(struct pawl_loop *loop)
{
    pawl_counter_add(&loop->world->counters, PAWL_COUNTER_WORKERS_LOST, 1);
    if (loop->metrics)
        pawl_metrics_add(loop->metrics, PAWL_METRICS_WORKER_RESTARTS, 1);
}

void pawl_figures_handler_lost(struct pawl_loop *loop)
{
    if (loop->metrics)
        pawl_metrics_add(loop->metrics, PAWL_METRICS_WORKER_RESTARTS, 1);
}

void pawl_figures_commit(void *ctx, const struct pawl_journal_commit *commit)
{
    const struct pawl_loop *loop = ctx;
    struct pawl_metrics *metrics = loop->metrics;
    if (!metrics)
        return;
    pawl_metrics_add(metrics, PAWL_METRICS_JOURNAL_BYTES, commit->bytes);
    pawl_metrics_set(metrics, PAWL_METRICS_JOURNAL_SYNCS, commit->sync_count);
    pawl_metrics_set(metrics, PAWL_METRICS_JOURNAL_SYNCED_AT, commit->realtime_ns);
    pawl_metrics_set(metrics, PAWL_METRICS_JOURNAL_LAST_SYNC, commit->commit_ns);
    pawl_metrics_observe(&metrics->histogram[PAWL_METRICS_JOURNAL_SYNC], commit->commit_ns);
    pawl_metrics_observe(&metrics->histogram[PAWL_METRICS_JOURNAL_BATCH], commit->record_count);
}

/* ---- looked at ---- */

uint32_t pawl_figures_worker_state(const struct pawl_worker *worker)
{
    switch (worker->life) {
    case PAWL_WORKER_NONE:
    case PAWL_WORKER_FORKED:
        return PAWL_PROCESS_STARTING;
    case PAWL_WORKER_IDLE:
        return PAWL_PROCESS_IDLE;
    case PAWL_WORKER_CLAIMING:
    case PAWL_WORKER_LEAVING:
        break;
    case PAWL_WORKER_EXITING:
        return PAWL_PROCESS_LEAVING;
    }
    const struct pawl_lane_memory *memory = pawl_lane_memory_of(&worker->reader.segment);
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&memory->job, memory_order_relaxed) != 0
               ? PAWL_PROCESS_BUSY
               : PAWL_PROCESS_IDLE;
}

static void look_at_workers(struct pawl_loop *loop)
{
    uint64_t count[PAWL_PROCESS_LEAVING + 1] = {0};
    for (uint32_t number = 1; number < pawl_lanes_number_end(loop); number++) {
        const struct pawl_worker *worker = pawl_lanes_worker(loop, number);
        if (worker && worker->life != PAWL_WORKER_NONE)
            count[pawl_figures_worker_state(worker)]++;
    }
    pawl_handlers_count(loop, count);
    pawl_metrics_set(loop->metrics, PAWL_METRICS_WORKERS_STARTING, count[PAWL_PROCESS_STARTING]);
    pawl_metrics_set(loop->metrics, PAWL_METRICS_WORKERS_IDLE, count[PAWL_PROCESS_IDLE]);
    pawl_metrics_set(loop->metrics, PAWL_METRICS_WORKERS_BUSY, count[PAWL_PROCESS_BUSY]);
}

static uint64_t allocated_bytes(void)
{
    uint64_t epoch = 1;
    size_t bytes = 0, size = sizeof bytes;
    if (!mallctl)
        return 0;
    /* Its statistics are of the moment at which this number was written. */
    (void)mallctl("epoch", NULL, NULL, &epoch, sizeof epoch);
    return mallctl("stats.allocated", &bytes, &size, NULL, 0) == 0 ? bytes : 0;
}

void pawl_figures_sample(struct pawl_loop *loop)
{
    struct pawl_metrics *metrics = loop->metrics;
    struct pawl_journal_stats stats;
    if (!metrics)
        return;
    loop->figures_at_ns = loop->now.boottime_ns;
    pawl_journal_stats(loop->journal, &stats);
    pawl_metrics_set(metrics, PAWL_METRICS_MEMORY_ALLOCATED, allocated_bytes());
    pawl_metrics_set(metrics, PAWL_METRICS_MEMORY_KEPT, loop->kept.bytes);
    pawl_metrics_set(metrics, PAWL_METRICS_MEMORY_CACHE, stats.cache_bytes);
    pawl_metrics_set(metrics, PAWL_METRICS_JOURNAL_ROOM, pawl_journal_room(loop->journal));
    pawl_metrics_set(metrics, PAWL_METRICS_JOURNAL_DISK_BYTES, stats.disk_bytes);
    pawl_metrics_set(metrics, PAWL_METRICS_JOURNAL_SYNCS, stats.sync_count);
    look_at_workers(loop);
}

uint64_t pawl_figures_turn(struct pawl_loop *loop)
{
    if (!loop->metrics)
        return UINT64_MAX;
    if (loop->now.boottime_ns - loop->figures_at_ns < LOOK_EACH_NS)
        return loop->figures_at_ns + LOOK_EACH_NS;
    pawl_figures_sample(loop);
    return UINT64_MAX;
}
