/*
 * metrics_text.h - the metrics segment as Prometheus text and as JSON.
 *
 * A sample is a private copy of one moment, more or less; everything is rendered from samples, and rates are
 * the difference of two.
 */
#ifndef PAWL_RUNTIME_METRICS_TEXT_H
#define PAWL_RUNTIME_METRICS_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "shm/metrics.h"

struct pawl_metrics_sample {
    uint64_t at_ns; /* any clock that does not go back */
    uint64_t epoch; /* another scheduler's numbers begin again: no rates across */
    uint64_t started_at_ns;
    uint64_t cell[PAWL_METRICS_CELLS];
    struct pawl_histogram_copy histogram[PAWL_METRICS_HISTOGRAMS];
    uint32_t row_count;
    struct pawl_metrics_row_copy *rows; /* of queues that are there, by row */
    uint32_t *row_index;                /* which row each is */
};

struct pawl_metrics_memory { /* told by whoever knows: pawl_memory_bytes{kind} */
    const char *kind;
    uint64_t bytes;
};

/** pawl_metrics_sample_take - copy what is there. 0; -ENOMEM. */
int pawl_metrics_sample_take(const struct pawl_metrics *metrics, uint64_t at_ns,
                             struct pawl_metrics_sample *sample_out);
void pawl_metrics_sample_fini(struct pawl_metrics_sample *sample);

/** pawl_metrics_prometheus - text format 0.0.4. malloced and NUL-terminated, its length without the NUL in
 * *@bytes_out; NULL: no memory. */
char *pawl_metrics_prometheus(const struct pawl_metrics_sample *sample,
                              const struct pawl_metrics_memory *memory, size_t memory_count,
                              size_t *bytes_out);

/**
 * pawl_metrics_json - a document, "schema": 1; a new reference, NULL: no memory
 * @before: an earlier sample, for rates per second; NULL, or of another epoch: no "rates" at all
 */
json_t *pawl_metrics_json(const struct pawl_metrics_sample *before, const struct pawl_metrics_sample *sample,
                          const struct pawl_metrics_memory *memory, size_t memory_count);

struct pawl_metrics_rates { /* per second */
    double published, delivered, acked, nacked;
};

/** pawl_metrics_rates_between - of one row of @sample; SIZE_MAX: of all queues together. Zeroes where @before
 * is of no use. */
struct pawl_metrics_rates pawl_metrics_rates_between(const struct pawl_metrics_sample *before,
                                                     const struct pawl_metrics_sample *sample, size_t row);

#endif
