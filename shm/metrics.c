/*
 * metrics.c - the metrics segment: made by the scheduler, looked at by anybody. Runs in: scheduler (create,
 * rows), tool and clients (attach, read; they write nothing).
 */
#include "shm/metrics.h"

#include <string.h>
#include <unistd.h>

#include "shm/error.h"

static size_t segment_bytes(uint32_t rows_max)
{
    return PAWL_METRICS_ROWS_AT + (size_t)rows_max * sizeof(struct pawl_metrics_row);
}

int pawl_metrics_create(uint32_t rows_max, uint64_t epoch, uint64_t started_at_ns,
                        struct pawl_segment *segment_out)
{
    if (rows_max == 0 || rows_max > PAWL_METRICS_ROWS_MAX)
        return PAWL_E_LIMIT;
    int error = pawl_segment_create(PAWL_SEGMENT_PRIVATE_WRITER, "pawl-metrics", segment_bytes(rows_max),
                                    false, segment_out);
    if (error)
        return error;
    struct pawl_metrics *metrics = segment_out->base;
    metrics->version = PAWL_METRICS_VERSION;
    metrics->header_bytes = sizeof *metrics;
    metrics->row_bytes = sizeof(struct pawl_metrics_row);
    metrics->rows_max = rows_max;
    metrics->scheduler_pid = (uint32_t)getpid();
    metrics->epoch = epoch;
    metrics->started_at_ns = started_at_ns;
    for (uint32_t i = 0; i < PAWL_METRICS_HISTOGRAMS_ROOM; i++)
        metrics->histogram[i].shift = i == PAWL_METRICS_JOURNAL_BATCH ? 0 : PAWL_METRICS_NS_SHIFT;
    /* Last: whoever sees the magic sees all of the above. */
    atomic_store_explicit(&metrics->magic, PAWL_METRICS_MAGIC, memory_order_release);
    return 0;
}

int pawl_metrics_attach(int fd, struct pawl_segment *segment_out)
{
    int error = pawl_segment_attach(fd, PAWL_METRICS_ROWS_AT, false, segment_out);
    if (error)
        return error;
    const struct pawl_metrics *metrics = segment_out->base;
    bool ours = atomic_load_explicit((_Atomic uint64_t *)&metrics->magic, memory_order_acquire) ==
                    PAWL_METRICS_MAGIC &&
                metrics->version == PAWL_METRICS_VERSION && metrics->header_bytes == sizeof *metrics &&
                metrics->row_bytes == sizeof(struct pawl_metrics_row);
    bool whole = ours && metrics->rows_max <= PAWL_METRICS_ROWS_MAX &&
                 segment_bytes(metrics->rows_max) <= segment_out->bytes;
    if (whole)
        return 0;
    segment_out->fd = -1; /* the caller keeps the descriptor that was refused */
    pawl_segment_close(segment_out);
    return ours ? PAWL_E_BAD_MESSAGE : PAWL_E_BAD_FORMAT;
}

static void clear_histogram(struct pawl_histogram *histogram)
{
    histogram->shift = PAWL_METRICS_NS_SHIFT;
    atomic_store_explicit(&histogram->sum, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < PAWL_METRICS_BUCKETS; i++)
        atomic_store_explicit(&histogram->bucket[i], 0, memory_order_relaxed);
}

void pawl_metrics_row_close(struct pawl_metrics *metrics, uint32_t index)
{
    struct pawl_metrics_row *row = pawl_metrics_row(metrics, index);
    uint64_t generation = atomic_load_explicit(&row->generation, memory_order_relaxed);
    if (generation % 2 == 0)
        return;
    atomic_store_explicit(&row->generation, generation + 1, memory_order_relaxed);
    /* M1: a reader that sees anything of the next life sees that this one has ended. */
    atomic_thread_fence(memory_order_release);
}

void pawl_metrics_row_open(struct pawl_metrics *metrics, uint32_t index, const char *name)
{
    struct pawl_metrics_row *row = pawl_metrics_row(metrics, index);
    uint64_t words[PAWL_METRICS_NAME_BYTES / 8] = {0};
    size_t length = strnlen(name, PAWL_METRICS_NAME_BYTES - 1);
    pawl_metrics_row_close(metrics, index);
    memcpy(words, name, length);
    for (uint32_t i = 0; i < PAWL_METRICS_NAME_BYTES / 8; i++)
        atomic_store_explicit(&row->name[i], words[i], memory_order_relaxed);
    for (uint32_t i = 0; i < PAWL_QUEUE_GAUGES; i++)
        atomic_store_explicit(&row->gauge[i], 0, memory_order_relaxed);
    for (uint32_t i = 0; i < PAWL_QUEUE_COUNTERS; i++)
        atomic_store_explicit(&row->counter[i], 0, memory_order_relaxed);
    clear_histogram(&row->handler);
    uint64_t generation = atomic_load_explicit(&row->generation, memory_order_relaxed);
    atomic_store_explicit(&row->generation, generation + 1, memory_order_release); /* M1 */
    if (atomic_load_explicit(&metrics->row_count, memory_order_relaxed) <= index)
        atomic_store_explicit(&metrics->row_count, index + 1, memory_order_release);
}

/* ---- reading ---- */

/* C11's atomic_load takes no const object. */
static uint64_t load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)word, memory_order_relaxed);
}

void pawl_histogram_read(const struct pawl_histogram *histogram, struct pawl_histogram_copy *copy)
{
    copy->shift = histogram->shift < 32 ? histogram->shift : 0; /* it comes from another process */
    copy->sum = load(&histogram->sum);
    for (uint32_t i = 0; i < PAWL_METRICS_BUCKETS; i++)
        copy->bucket[i] = load(&histogram->bucket[i]);
}

uint64_t pawl_metrics_cell_read(const struct pawl_metrics *metrics, enum pawl_metrics_cell which)
{
    return load(&metrics->cell[which]);
}

uint32_t pawl_metrics_row_count(const struct pawl_metrics *metrics)
{
    uint32_t count =
        atomic_load_explicit((_Atomic uint32_t *)(uintptr_t)&metrics->row_count, memory_order_acquire);
    return count < metrics->rows_max ? count : metrics->rows_max;
}

bool pawl_metrics_row_read(const struct pawl_metrics *metrics, uint32_t index,
                           struct pawl_metrics_row_copy *copy)
{
    uint64_t name[PAWL_METRICS_NAME_BYTES / 8];
    if (index >= metrics->rows_max)
        return false;
    const struct pawl_metrics_row *row =
        (const struct pawl_metrics_row *)((const char *)metrics + PAWL_METRICS_ROWS_AT) + index;
    _Atomic uint64_t *generation = (_Atomic uint64_t *)(uintptr_t)&row->generation;
    copy->generation = atomic_load_explicit(generation, memory_order_acquire); /* M1 */
    if (copy->generation % 2 == 0)
        return false;
    for (uint32_t i = 0; i < PAWL_METRICS_NAME_BYTES / 8; i++)
        name[i] = load(&row->name[i]);
    for (uint32_t i = 0; i < PAWL_QUEUE_GAUGES; i++)
        copy->gauge[i] = load(&row->gauge[i]);
    for (uint32_t i = 0; i < PAWL_QUEUE_COUNTERS; i++)
        copy->counter[i] = load(&row->counter[i]);
    pawl_histogram_read(&row->handler, &copy->handler);
    atomic_thread_fence(memory_order_acquire); /* pairs with the fence of close */
    memcpy(copy->name, name, sizeof copy->name);
    copy->name[sizeof copy->name - 1] = '\0';
    return atomic_load_explicit(generation, memory_order_relaxed) == copy->generation;
}

const char *pawl_dead_reason_name(uint32_t reason)
{
    static const char *const names[PAWL_DEAD_REASONS] = {
        [PAWL_DEAD_DELIVERY_LIMIT] = "delivery-limit",
        [PAWL_DEAD_REJECTED] = "rejected",
        [PAWL_DEAD_EXPIRED] = "expired",
        [PAWL_DEAD_OVERFLOW] = "overflow",
        [PAWL_DEAD_INTERRUPTED] = "interrupted",
    };
    return reason < PAWL_DEAD_REASONS ? names[reason] : "unknown";
}
