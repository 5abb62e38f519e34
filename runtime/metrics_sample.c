/*
 * metrics_sample.c - a private copy of the metrics, and the rates between two. Runs in: the tool, clients.
 */
#include "runtime/metrics_text.h"

#include <errno.h>
#include <stdlib.h>

/* Rows that are there are counted first, so that a few queues do not cost 65,536 rows. */
static uint32_t count_rows(const struct pawl_metrics *metrics, uint32_t end)
{
    struct pawl_metrics_row_copy row;
    uint32_t n = 0;
    for (uint32_t i = 0; i < end; i++)
        n += pawl_metrics_row_read(metrics, i, &row);
    return n;
}

/* What another process wrote must not make text that nobody can read: names are ASCII or question marks. */
static void make_plain(char *name)
{
    for (; *name; name++)
        if ((unsigned char)*name >= 0x80)
            *name = '?';
}

/* A queue's dead letters lie in another queue: its depth, of the same moment or about. */
static void find_dead_letters(struct pawl_metrics_sample *sample)
{
    for (uint32_t i = 0; i < sample->row_count; i++) {
        uint64_t want = sample->rows[i].gauge[PAWL_QUEUE_DLQ_ROW], depth = 0;
        uint32_t low = 0, high = sample->row_count;
        while (want != 0 && low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (sample->row_index[middle] < want)
                low = middle + 1;
            else
                high = middle;
        }
        if (want != 0 && low < sample->row_count && sample->row_index[low] == want)
            depth = sample->rows[low].gauge[PAWL_QUEUE_DEPTH];
        sample->rows[i].gauge[PAWL_QUEUE_DLQ_DEPTH] = depth;
    }
}

int pawl_metrics_sample_take(const struct pawl_metrics *metrics, uint64_t at_ns,
                             struct pawl_metrics_sample *sample_out)
{
    struct pawl_metrics_sample sample = {
        .at_ns = at_ns, .epoch = metrics->epoch, .started_at_ns = metrics->started_at_ns};
    uint32_t end = pawl_metrics_row_count(metrics), room = count_rows(metrics, end);
    if (room > 0) {
        sample.rows = malloc(room * sizeof *sample.rows);
        sample.row_index = malloc(room * sizeof *sample.row_index);
        if (!sample.rows || !sample.row_index) {
            pawl_metrics_sample_fini(&sample);
            return -ENOMEM;
        }
    }
    for (uint32_t i = 0; i < end && sample.row_count < room; i++) {
        struct pawl_metrics_row_copy *row = &sample.rows[sample.row_count];
        if (!pawl_metrics_row_read(metrics, i, row))
            continue;
        make_plain(row->name);
        sample.row_index[sample.row_count++] = i;
    }
    find_dead_letters(&sample);
    for (uint32_t i = 0; i < PAWL_METRICS_CELLS; i++)
        sample.cell[i] = pawl_metrics_cell_read(metrics, (enum pawl_metrics_cell)i);
    for (uint32_t i = 0; i < PAWL_METRICS_HISTOGRAMS; i++)
        pawl_histogram_read(&metrics->histogram[i], &sample.histogram[i]);
    *sample_out = sample;
    return 0;
}

void pawl_metrics_sample_fini(struct pawl_metrics_sample *sample)
{
    free(sample->rows);
    free(sample->row_index);
    *sample = (struct pawl_metrics_sample){0};
}

/* The same queue in an earlier sample; rows are in the order of their numbers. NULL: it was not there. */
static const struct pawl_metrics_row_copy *row_before(const struct pawl_metrics_sample *before,
                                                      uint32_t index, uint64_t generation)
{
    uint32_t low = 0, high = before->row_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (before->row_index[middle] < index)
            low = middle + 1;
        else
            high = middle;
    }
    bool same = low < before->row_count && before->row_index[low] == index &&
                before->rows[low].generation == generation;
    return same ? &before->rows[low] : NULL;
}

static void add_row(struct pawl_metrics_rates *rates, const struct pawl_metrics_sample *before,
                    const struct pawl_metrics_sample *sample, size_t row, double seconds)
{
    const struct pawl_metrics_row_copy *now = &sample->rows[row];
    const struct pawl_metrics_row_copy *old = row_before(before, sample->row_index[row], now->generation);
    double *out[] = {&rates->published, &rates->delivered, &rates->acked, &rates->nacked};
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t from = old ? old->counter[PAWL_QUEUE_PUBLISHED + i] : 0; /* a queue made since began at 0 */
        uint64_t to = now->counter[PAWL_QUEUE_PUBLISHED + i];
        if (to > from)
            *out[i] += (double)(to - from) / seconds;
    }
}
static_assert(PAWL_QUEUE_DELIVERED == PAWL_QUEUE_PUBLISHED + 1 &&
                  PAWL_QUEUE_ACKED == PAWL_QUEUE_PUBLISHED + 2 &&
                  PAWL_QUEUE_NACKED == PAWL_QUEUE_PUBLISHED + 3,
              "rates follow the counters' order");

struct pawl_metrics_rates pawl_metrics_rates_between(const struct pawl_metrics_sample *before,
                                                     const struct pawl_metrics_sample *sample, size_t row)
{
    struct pawl_metrics_rates rates = {0};
    if (!before || before->epoch != sample->epoch || sample->at_ns <= before->at_ns)
        return rates;
    double seconds = (double)(sample->at_ns - before->at_ns) / 1e9;
    if (row != SIZE_MAX) {
        add_row(&rates, before, sample, row, seconds);
        return rates;
    }
    for (size_t i = 0; i < sample->row_count; i++)
        add_row(&rates, before, sample, i, seconds);
    /* Published counts an event once, however many queues took it. */
    uint64_t from = before->cell[PAWL_METRICS_EVENTS_PUBLISHED],
             to = sample->cell[PAWL_METRICS_EVENTS_PUBLISHED];
    rates.published = to > from ? (double)(to - from) / seconds : 0;
    return rates;
}
