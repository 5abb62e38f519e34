/*
 * top_model.h - what `pawl top` knows: rows out of two samples, sorted, filtered, one of them chosen.
 *
 * Pure: no terminal, no scheduler. top_frame.c makes lines of it, top_view.c shows them.
 */
#ifndef PAWL_RUNTIME_CLI_TOP_MODEL_H
#define PAWL_RUNTIME_CLI_TOP_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/metrics_text.h"
#include "runtime/observer.h"

enum pawl_top_column {
    PAWL_TOP_NAME,
    PAWL_TOP_DEPTH,
    PAWL_TOP_READY,
    PAWL_TOP_IN_FLIGHT,
    PAWL_TOP_IN,
    PAWL_TOP_OUT,
    PAWL_TOP_ACK,
    PAWL_TOP_NACK,
    PAWL_TOP_DEAD,
    PAWL_TOP_STATE,
    PAWL_TOP_CONSUMERS,
    PAWL_TOP_COLUMNS,
};

enum pawl_top_state { PAWL_TOP_OK, PAWL_TOP_HALF_OPEN, PAWL_TOP_OPEN, PAWL_TOP_PAUSED };

struct pawl_top_row {
    char name[PAWL_METRICS_NAME_BYTES];
    uint64_t depth, ready, in_flight, dead, consumers;
    double in, out, ack, nack; /* per second */
    enum pawl_top_state state;
    bool is_dlq, at_limit;
};

struct pawl_top {
    /* chosen by whoever looks */
    enum pawl_top_column sort;
    bool reverse;
    char filter[PAWL_METRICS_NAME_BYTES]; /* part of a name; "": all */
    char chosen[PAWL_METRICS_NAME_BYTES]; /* "": the first */
    size_t first;                         /* row at the top of the page */

    /* of the last samples */
    struct pawl_top_row *rows;
    size_t row_count, all_count; /* shown; with those that the filter hides */
    struct pawl_metrics_rates rates;
    double unrouted;
    double journal_bytes, syncs; /* per second */
    uint64_t sync_p50_ns, sync_p99_ns, latency_p50_ns,
        latency_p99_ns; /* 0: nothing happened; UINT64_MAX: beyond */
    uint64_t disk_bytes, journal_room;
    uint64_t workers_idle, workers_busy, workers_starting, restarts, clients;
    uint64_t memory[PAWL_MEMORY_KINDS];
    uint64_t epoch, up_ns;
    bool has_rates;
};

/** pawl_top_update - @before may be NULL: no rates then. Keeps sort, filter and choice. 0; -ENOMEM (as it
 * was). */
int pawl_top_update(struct pawl_top *top, const struct pawl_metrics_sample *before,
                    const struct pawl_metrics_sample *sample, const struct pawl_metrics_memory *memory,
                    uint64_t realtime_ns);
void pawl_top_fini(struct pawl_top *top);

void pawl_top_sort(struct pawl_top *top); /* after sort or reverse has changed */

/** pawl_top_chosen - its index; it is the first when the one that was chosen is gone. SIZE_MAX: no rows. */
size_t pawl_top_chosen(const struct pawl_top *top);
/** pawl_top_move - choose another, @by rows further down, at most to either end. */
void pawl_top_move(struct pawl_top *top, long by);
/** pawl_top_scroll - the chosen row is on a page of @height rows. */
void pawl_top_scroll(struct pawl_top *top, size_t height);

/** pawl_top_quantile - of what came into a histogram between the two; @before NULL: since it began. 0:
 * nothing; UINT64_MAX: above the last bound. */
uint64_t pawl_top_quantile(const struct pawl_histogram_copy *before, const struct pawl_histogram_copy *now,
                           unsigned percent);

const char *pawl_top_column_name(uint32_t column); /* "DEPTH" ... */

#endif
