/*
 * metrics_text.c - Prometheus text, format 0.0.4. Runs in: the tool.
 */
#include "runtime/metrics_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/retry.h"

/* Samples of one name. */
struct family {
    const char *name, *help;
    uint32_t at; /* of cell, counter or gauge */
};

static const struct family cell_counters[] = {
    {"pawl_events_published_total", "Events that were accepted", PAWL_METRICS_EVENTS_PUBLISHED},
    {"pawl_events_unrouted_total", "Events that no queue wanted", PAWL_METRICS_EVENTS_UNROUTED},
    {"pawl_journal_bytes_total", "Bytes written to the journal", PAWL_METRICS_JOURNAL_BYTES},
    {"pawl_journal_syncs_total", "Syncs of the journal", PAWL_METRICS_JOURNAL_SYNCS},
    {"pawl_worker_restarts_total", "Workers that were started again", PAWL_METRICS_WORKER_RESTARTS},
};

static const struct family queue_counters[] = {
    {"pawl_queue_published_total", "Events that the queue took", PAWL_QUEUE_PUBLISHED},
    {"pawl_deliveries_total", "Deliveries that were given to a consumer", PAWL_QUEUE_DELIVERED},
    {"pawl_acks_total", "Deliveries that were acked", PAWL_QUEUE_ACKED},
    {"pawl_nacks_total", "Deliveries that were nacked", PAWL_QUEUE_NACKED},
    {"pawl_queue_dropped_total", "Events that the overflow policy dropped", PAWL_QUEUE_DROPPED},
    {"pawl_queue_duplicates_total", "Publishes that had been made before", PAWL_QUEUE_DUPLICATES},
    {"pawl_queue_refused_total", "Publishes that the queue refused", PAWL_QUEUE_REFUSED},
};

static const struct family queue_gauges[] = {
    {"pawl_queue_depth", "Events that are not settled", PAWL_QUEUE_DEPTH},
    {"pawl_queue_in_flight", "Deliveries that are not settled", PAWL_QUEUE_IN_FLIGHT},
    {"pawl_queue_bytes", "Bytes of the events that are not settled", PAWL_QUEUE_BYTES},
    {"pawl_dlq_depth", "Events in the dead-letter queue", PAWL_QUEUE_DLQ_DEPTH},
    {"pawl_breaker_state", "Circuit breaker: 0 closed, 1 open, 2 half-open", PAWL_QUEUE_BREAKER_STATE},
    {"pawl_queue_paused", "1: nothing is delivered", PAWL_QUEUE_PAUSED},
    {"pawl_queue_consumers", "Consumers that are attached", PAWL_QUEUE_CONSUMERS},
};

static const struct family cell_gauges[] = {
    {"pawl_clients", "Clients that are attached", PAWL_METRICS_CLIENTS},
    {"pawl_journal_disk_bytes", "Bytes of the journal on disk", PAWL_METRICS_JOURNAL_DISK_BYTES},
    {"pawl_journal_room", "0: there is room, 1: new work is refused, 2: the disk is full",
     PAWL_METRICS_JOURNAL_ROOM},
};

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

static void put_head(FILE *out, const char *name, const char *help, const char *type)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_escaped(FILE *out, const char *value)
{
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            fputc('\\', out);
        if (*value == '\n')
            fputs("\\n", out);
        else
            fputc(*value, out);
    }
}

/* name{label="value" : what follows is another label, or the end of them. */
static void put_label(FILE *out, const char *name, const char *label, const char *value)
{
    fprintf(out, "%s{%s=\"", name, label);
    put_escaped(out, value);
    fputc('"', out);
}

/* Nanoseconds as seconds, exactly. */
static void put_seconds(FILE *out, uint64_t ns)
{
    fprintf(out, "%" PRIu64 ".%09" PRIu64, ns / 1000000000, ns % 1000000000);
}

static void put_bucket(FILE *out, const char *name, const char *queue, const char *le, uint64_t count)
{
    fprintf(out, "%s_bucket{", name);
    if (queue) {
        fputs("queue=\"", out);
        put_escaped(out, queue);
        fputs("\",", out);
    }
    fprintf(out, "le=\"%s\"} %" PRIu64 "\n", le, count);
}

/* @queue NULL: no label. One that has seen nothing has its last bucket alone. */
static void put_histogram(FILE *out, const char *name, const char *queue, const struct pawl_histogram_copy *h,
                          bool seconds)
{
    uint64_t total = 0, sofar = 0;
    char le[32];
    for (uint32_t i = 0; i < PAWL_METRICS_BUCKETS; i++)
        total += h->bucket[i];
    for (uint32_t i = 0; i + 1 < PAWL_METRICS_BUCKETS && total > 0; i++) {
        double bound = (double)(UINT64_C(1) << (h->shift + i));
        sofar += h->bucket[i];
        snprintf(le, sizeof le, "%.15g", seconds ? bound / 1e9 : bound);
        put_bucket(out, name, queue, le, sofar);
    }
    put_bucket(out, name, queue, "+Inf", total);
    char sum_name[128], count_name[128];
    snprintf(sum_name, sizeof sum_name, "%s_sum", name);
    snprintf(count_name, sizeof count_name, "%s_count", name);
    if (queue) {
        put_label(out, sum_name, "queue", queue);
        fputs("} ", out);
    } else {
        fprintf(out, "%s ", sum_name);
    }
    if (seconds)
        put_seconds(out, h->sum);
    else
        fprintf(out, "%" PRIu64, h->sum);
    fputc('\n', out);
    if (queue) {
        put_label(out, count_name, "queue", queue);
        fprintf(out, "} %" PRIu64 "\n", total);
    } else {
        fprintf(out, "%s %" PRIu64 "\n", count_name, total);
    }
}

static void put_queues(FILE *out, const struct pawl_metrics_sample *sample)
{
    for (size_t f = 0; f < COUNT(queue_counters); f++) {
        put_head(out, queue_counters[f].name, queue_counters[f].help, "counter");
        for (uint32_t i = 0; i < sample->row_count; i++) {
            put_label(out, queue_counters[f].name, "queue", sample->rows[i].name);
            fprintf(out, "} %" PRIu64 "\n", sample->rows[i].counter[queue_counters[f].at]);
        }
    }
    for (size_t f = 0; f < COUNT(queue_gauges); f++) {
        put_head(out, queue_gauges[f].name, queue_gauges[f].help, "gauge");
        for (uint32_t i = 0; i < sample->row_count; i++) {
            put_label(out, queue_gauges[f].name, "queue", sample->rows[i].name);
            fprintf(out, "} %" PRIu64 "\n", sample->rows[i].gauge[queue_gauges[f].at]);
        }
    }
}

/* A counter of each queue for each of some words. */
static void put_by_word(FILE *out, const struct pawl_metrics_sample *sample, const char *name,
                        const char *label, uint32_t first, uint32_t words, const char *(*word)(uint32_t))
{
    for (uint32_t i = 0; i < sample->row_count; i++)
        for (uint32_t w = 0; w < words; w++) {
            put_label(out, name, "queue", sample->rows[i].name);
            fprintf(out, ",%s=\"%s\"} %" PRIu64 "\n", label, word(w), sample->rows[i].counter[first + w]);
        }
}

static void put_histograms(FILE *out, const struct pawl_metrics_sample *sample)
{
    put_head(out, "pawl_delivery_latency_seconds", "From publish to the handler", "histogram");
    put_histogram(out, "pawl_delivery_latency_seconds", NULL,
                  &sample->histogram[PAWL_METRICS_DELIVERY_LATENCY], true);
    put_head(out, "pawl_handler_seconds", "From a delivery's begin to its settlement", "histogram");
    for (uint32_t i = 0; i < sample->row_count; i++)
        put_histogram(out, "pawl_handler_seconds", sample->rows[i].name, &sample->rows[i].handler, true);
    put_head(out, "pawl_journal_sync_seconds", "How long syncs of the journal took", "histogram");
    put_histogram(out, "pawl_journal_sync_seconds", NULL, &sample->histogram[PAWL_METRICS_JOURNAL_SYNC],
                  true);
    put_head(out, "pawl_journal_batch_records", "Records that one write of the journal held", "histogram");
    put_histogram(out, "pawl_journal_batch_records", NULL, &sample->histogram[PAWL_METRICS_JOURNAL_BATCH],
                  false);
}

static void put_processes(FILE *out, const struct pawl_metrics_sample *sample,
                          const struct pawl_metrics_memory *memory, size_t memory_count)
{
    put_head(out, "pawl_workers", "Workers by what they do", "gauge");
    fprintf(out,
            "pawl_workers{state=\"idle\"} %" PRIu64 "\npawl_workers{state=\"busy\"} %" PRIu64
            "\npawl_workers{state=\"starting\"} %" PRIu64 "\n",
            sample->cell[PAWL_METRICS_WORKERS_IDLE], sample->cell[PAWL_METRICS_WORKERS_BUSY],
            sample->cell[PAWL_METRICS_WORKERS_STARTING]);
    for (size_t f = 0; f < COUNT(cell_gauges); f++) {
        put_head(out, cell_gauges[f].name, cell_gauges[f].help, "gauge");
        fprintf(out, "%s %" PRIu64 "\n", cell_gauges[f].name, sample->cell[cell_gauges[f].at]);
    }
    if (memory_count > 0)
        put_head(out, "pawl_memory_bytes", "Memory by kind", "gauge");
    for (size_t i = 0; i < memory_count; i++) {
        put_label(out, "pawl_memory_bytes", "kind", memory[i].kind);
        fprintf(out, "} %" PRIu64 "\n", memory[i].bytes);
    }
}

char *pawl_metrics_prometheus(const struct pawl_metrics_sample *sample,
                              const struct pawl_metrics_memory *memory, size_t memory_count,
                              size_t *bytes_out)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return NULL;
    for (size_t f = 0; f < COUNT(cell_counters); f++) {
        put_head(out, cell_counters[f].name, cell_counters[f].help, "counter");
        fprintf(out, "%s %" PRIu64 "\n", cell_counters[f].name, sample->cell[cell_counters[f].at]);
    }
    put_queues(out, sample);
    put_head(out, "pawl_redeliveries_total", "Deliveries that began again, by what ended the one before",
             "counter");
    put_by_word(out, sample, "pawl_redeliveries_total", "cause", PAWL_QUEUE_REDELIVERED, PAWL_CAUSES,
                pawl_cause_name);
    put_head(out, "pawl_dead_letters_total", "Events that became dead letters, by reason", "counter");
    put_by_word(out, sample, "pawl_dead_letters_total", "reason", PAWL_QUEUE_DEAD, PAWL_DEAD_REASONS,
                pawl_dead_reason_name);
    put_histograms(out, sample);
    put_processes(out, sample, memory, memory_count);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    *bytes_out = bytes;
    return text;
}
