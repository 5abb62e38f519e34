/*
 * top_model.c - from samples to rows. Runs in: `pawl top`. No I/O.
 */
#include "runtime/cli/top_model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/breaker.h"

const char *pawl_top_column_name(uint32_t column)
{
    static const char *const names[PAWL_TOP_COLUMNS] = {"QUEUE", "DEPTH",  "READY", "FLIGHT", "IN/S", "OUT/S",
                                                        "ACK/S", "NACK/S", "DEAD",  "STATE",  "CONS"};
    return column < PAWL_TOP_COLUMNS ? names[column] : "";
}

/* ---- rows ---- */

static void fill_row(struct pawl_top_row *row, const struct pawl_metrics_row_copy *copy,
                     struct pawl_metrics_rates rates)
{
    const uint64_t *gauge = copy->gauge;
    memset(row, 0, sizeof *row);
    memcpy(row->name, copy->name, sizeof row->name);
    row->depth = gauge[PAWL_QUEUE_DEPTH];
    row->in_flight = gauge[PAWL_QUEUE_IN_FLIGHT];
    row->ready = row->depth > row->in_flight ? row->depth - row->in_flight : 0;
    row->dead = gauge[PAWL_QUEUE_DLQ_DEPTH];
    row->consumers = gauge[PAWL_QUEUE_CONSUMERS];
    row->in = rates.published;
    row->out = rates.delivered;
    row->ack = rates.acked;
    row->nack = rates.nacked;
    row->is_dlq = gauge[PAWL_QUEUE_IS_DLQ] != 0;
    row->at_limit =
        (gauge[PAWL_QUEUE_MAX_DEPTH] > 0 && row->depth >= gauge[PAWL_QUEUE_MAX_DEPTH]) ||
        (gauge[PAWL_QUEUE_MAX_BYTES] > 0 && gauge[PAWL_QUEUE_BYTES] >= gauge[PAWL_QUEUE_MAX_BYTES]);
    row->state = gauge[PAWL_QUEUE_PAUSED]                                    ? PAWL_TOP_PAUSED
                 : gauge[PAWL_QUEUE_BREAKER_STATE] == PAWL_BREAKER_OPEN      ? PAWL_TOP_OPEN
                 : gauge[PAWL_QUEUE_BREAKER_STATE] == PAWL_BREAKER_HALF_OPEN ? PAWL_TOP_HALF_OPEN
                                                                             : PAWL_TOP_OK;
}

static double column_value(const struct pawl_top_row *row, enum pawl_top_column column)
{
    const double values[PAWL_TOP_COLUMNS] = {
        [PAWL_TOP_DEPTH] = (double)row->depth,
        [PAWL_TOP_READY] = (double)row->ready,
        [PAWL_TOP_IN_FLIGHT] = (double)row->in_flight,
        [PAWL_TOP_IN] = row->in,
        [PAWL_TOP_OUT] = row->out,
        [PAWL_TOP_ACK] = row->ack,
        [PAWL_TOP_NACK] = row->nack,
        [PAWL_TOP_DEAD] = (double)row->dead,
        [PAWL_TOP_STATE] = (double)row->state,
        [PAWL_TOP_CONSUMERS] = (double)row->consumers,
    };
    return values[column];
}

/* Numbers: the largest first; equal ones, and names: by name. */
static int compare(const void *a, const void *b, void *ctx)
{
    const struct pawl_top_row *left = a, *right = b;
    const struct pawl_top *top = ctx;
    int order = 0;
    if (top->sort != PAWL_TOP_NAME) {
        double x = column_value(left, top->sort), y = column_value(right, top->sort);
        order = x > y ? -1 : x < y;
    }
    if (order == 0)
        return top->reverse && top->sort == PAWL_TOP_NAME ? strcmp(right->name, left->name)
                                                          : strcmp(left->name, right->name);
    return top->reverse ? -order : order;
}

void pawl_top_sort(struct pawl_top *top)
{
    if (top->row_count > 1)
        qsort_r(top->rows, top->row_count, sizeof *top->rows, compare, top);
}

/* ---- figures ---- */

uint64_t pawl_top_quantile(const struct pawl_histogram_copy *before, const struct pawl_histogram_copy *now,
                           unsigned percent)
{
    uint64_t more[PAWL_METRICS_BUCKETS], total = 0, sofar = 0;
    for (uint32_t i = 0; i < PAWL_METRICS_BUCKETS; i++) {
        uint64_t old = before ? before->bucket[i] : 0;
        more[i] = now->bucket[i] > old ? now->bucket[i] - old : 0;
        total += more[i];
    }
    uint64_t want = total / 100 * percent + (total % 100 * percent + 99) / 100; /* rounded up */
    for (uint32_t i = 0; i < PAWL_METRICS_BUCKETS && total > 0; i++) {
        sofar += more[i];
        if (sofar >= want)
            return i == PAWL_METRICS_BUCKETS - 1 ? UINT64_MAX : UINT64_C(1) << (now->shift + i);
    }
    return 0;
}

static double rate_of(const struct pawl_metrics_sample *before, const struct pawl_metrics_sample *sample,
                      enum pawl_metrics_cell cell)
{
    if (sample->cell[cell] <= before->cell[cell])
        return 0;
    return (double)(sample->cell[cell] - before->cell[cell]) * 1e9 / (double)(sample->at_ns - before->at_ns);
}

/* Without rates: what happened since the scheduler began. */
static void fill_times(struct pawl_top *top, const struct pawl_metrics_sample *before,
                       const struct pawl_metrics_sample *sample)
{
    const struct pawl_histogram_copy *sync = &sample->histogram[PAWL_METRICS_JOURNAL_SYNC];
    const struct pawl_histogram_copy *latency = &sample->histogram[PAWL_METRICS_DELIVERY_LATENCY];
    const struct pawl_histogram_copy *old_sync = NULL, *old_latency = NULL;
    if (before) {
        old_sync = &before->histogram[PAWL_METRICS_JOURNAL_SYNC];
        old_latency = &before->histogram[PAWL_METRICS_DELIVERY_LATENCY];
    }
    top->sync_p50_ns = pawl_top_quantile(old_sync, sync, 50);
    top->sync_p99_ns = pawl_top_quantile(old_sync, sync, 99);
    top->latency_p50_ns = pawl_top_quantile(old_latency, latency, 50);
    top->latency_p99_ns = pawl_top_quantile(old_latency, latency, 99);
}

static void fill_totals(struct pawl_top *top, const struct pawl_metrics_sample *before,
                        const struct pawl_metrics_sample *sample, const struct pawl_metrics_memory *memory)
{
    const uint64_t *cell = sample->cell;
    top->rates = pawl_metrics_rates_between(before, sample, SIZE_MAX);
    top->unrouted = before ? rate_of(before, sample, PAWL_METRICS_EVENTS_UNROUTED) : 0;
    top->journal_bytes = before ? rate_of(before, sample, PAWL_METRICS_JOURNAL_BYTES) : 0;
    top->syncs = before ? rate_of(before, sample, PAWL_METRICS_JOURNAL_SYNCS) : 0;
    top->disk_bytes = cell[PAWL_METRICS_JOURNAL_DISK_BYTES];
    top->journal_room = cell[PAWL_METRICS_JOURNAL_ROOM];
    top->workers_idle = cell[PAWL_METRICS_WORKERS_IDLE];
    top->workers_busy = cell[PAWL_METRICS_WORKERS_BUSY];
    top->workers_starting = cell[PAWL_METRICS_WORKERS_STARTING];
    top->restarts = cell[PAWL_METRICS_WORKER_RESTARTS];
    top->clients = cell[PAWL_METRICS_CLIENTS];
    for (int kind = 0; kind < PAWL_MEMORY_KINDS; kind++)
        top->memory[kind] = memory ? memory[kind].bytes : 0;
    fill_times(top, before, sample);
}

int pawl_top_update(struct pawl_top *top, const struct pawl_metrics_sample *before,
                    const struct pawl_metrics_sample *sample, const struct pawl_metrics_memory *memory,
                    uint64_t realtime_ns)
{
    struct pawl_top_row *rows = malloc((sample->row_count + 1) * sizeof *rows);
    if (!rows)
        return -ENOMEM;
    /* Another scheduler's numbers began again. */
    if (before && (before->epoch != sample->epoch || before->at_ns >= sample->at_ns))
        before = NULL;
    free(top->rows);
    top->rows = rows;
    top->row_count = 0;
    top->all_count = sample->row_count;
    for (uint32_t i = 0; i < sample->row_count; i++)
        if (top->filter[0] == 0 || strstr(sample->rows[i].name, top->filter))
            fill_row(&rows[top->row_count++], &sample->rows[i],
                     pawl_metrics_rates_between(before, sample, i));
    top->has_rates = before != NULL;
    top->epoch = sample->epoch;
    top->up_ns = realtime_ns > sample->started_at_ns ? realtime_ns - sample->started_at_ns : 0;
    fill_totals(top, before, sample, memory);
    pawl_top_sort(top);
    return 0;
}

void pawl_top_fini(struct pawl_top *top)
{
    free(top->rows);
    top->rows = NULL;
    top->row_count = 0;
}

/* ---- the chosen row ---- */

size_t pawl_top_chosen(const struct pawl_top *top)
{
    for (size_t i = 0; i < top->row_count; i++)
        if (strcmp(top->rows[i].name, top->chosen) == 0)
            return i;
    return top->row_count > 0 ? 0 : SIZE_MAX;
}

void pawl_top_move(struct pawl_top *top, long by)
{
    size_t at = pawl_top_chosen(top);
    if (at == SIZE_MAX)
        return;
    size_t last = top->row_count - 1;
    if (by < 0)
        at = at > (size_t)-by ? at - (size_t)-by : 0;
    else
        at = last - at > (size_t)by ? at + (size_t)by : last;
    memcpy(top->chosen, top->rows[at].name, sizeof top->chosen);
}

void pawl_top_scroll(struct pawl_top *top, size_t height)
{
    size_t at = pawl_top_chosen(top);
    if (at == SIZE_MAX || height == 0) {
        top->first = 0;
        return;
    }
    if (at < top->first)
        top->first = at;
    if (at >= top->first + height)
        top->first = at - height + 1;
    if (top->first + height > top->row_count) /* no empty lines while there are rows above */
        top->first = top->row_count > height ? top->row_count - height : 0;
}
