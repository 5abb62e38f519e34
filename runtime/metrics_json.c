/*
 * metrics_json.c - the metrics as one JSON document. Runs in: the tool, clients.
 *
 *   {"schema": 1, "epoch", "started_at",
 *    "events": {"published", "unrouted"},
 *    "queues": [{"name", "depth", "in_flight", "bytes", "max_depth", "max_bytes",
 * "consumers", "holds_dead_letters", "dlq_depth", "breaker", "paused", "published",
 * "delivered", "acked", "nacked", "redelivered": {CAUSE: N}, "dead_letters": {REASON: N}, "dropped",
 * "duplicates", "refused", "handler_seconds": HISTOGRAM, "rates": RATES}], "delivery_latency_seconds":
 * HISTOGRAM, "journal": {"bytes", "syncs", "sync_seconds": HISTOGRAM, "batch_records": HISTOGRAM}, "workers":
 * {"idle", "busy", "starting", "restarts"}, "clients", "memory_bytes": {KIND: N}, "rates": RATES} HISTOGRAM =
 * {"count", "sum", "p50", "p99", "buckets": [{"le", "count"}]}: cumulative, those that hold something; le is
 * null for the one without a bound; p50, p99: the bound of their bucket, null without one RATES = {"seconds",
 * "publish", "delivery", "ack", "nack"}, per second
 */
#include "runtime/metrics_text.h"

#include <stdio.h>
#include <time.h>

#include "scheduler/bus/breaker.h"
#include "scheduler/bus/retry.h"

static void set(json_t *object, bool *failed, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0) /* also for a value that is NULL */
        *failed = true;
}

static json_t *number(uint64_t value)
{
    return json_integer(value <= INT64_MAX ? (json_int_t)value : INT64_MAX);
}

/* RFC 3339, in UTC, with milliseconds. */
static json_t *instant(uint64_t realtime_ns)
{
    time_t seconds = (time_t)(realtime_ns / 1000000000);
    struct tm parts;
    char day[32], text[48];
    if (!gmtime_r(&seconds, &parts) || strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &parts) == 0)
        return json_null();
    snprintf(text, sizeof text, "%s.%03uZ", day, (unsigned)(realtime_ns % 1000000000 / 1000000));
    return json_string(text);
}

/* The bound of bucket @i in the histogram's unit; null: it has none. */
static json_t *bound(const struct pawl_histogram_copy *h, uint32_t i, bool seconds)
{
    double value = (double)(UINT64_C(1) << (h->shift + i));
    if (i == PAWL_METRICS_BUCKETS - 1)
        return json_null();
    return json_real(seconds ? value / 1e9 : value);
}

static json_t *quantile(const struct pawl_histogram_copy *h, uint64_t total, uint64_t percent, bool seconds)
{
    uint64_t sofar = 0, want = total / 100 * percent + (total % 100 * percent + 99) / 100; /* rounded up */
    for (uint32_t i = 0; i < PAWL_METRICS_BUCKETS && total > 0; i++) {
        sofar += h->bucket[i];
        if (sofar >= want)
            return bound(h, i, seconds);
    }
    return json_null();
}

static json_t *histogram(const struct pawl_histogram_copy *h, bool seconds, bool *failed)
{
    uint64_t total = 0;
    json_t *json = json_object(), *buckets = json_array();
    for (uint32_t i = 0; i < PAWL_METRICS_BUCKETS; i++) {
        total += h->bucket[i];
        if (h->bucket[i] == 0)
            continue;
        json_t *bucket = json_object();
        set(bucket, failed, "le", bound(h, i, seconds));
        set(bucket, failed, "count", number(total));
        if (json_array_append_new(buckets, bucket) != 0)
            *failed = true;
    }
    set(json, failed, "count", number(total));
    set(json, failed, "sum", seconds ? json_real((double)h->sum / 1e9) : number(h->sum));
    set(json, failed, "p50", quantile(h, total, 50, seconds));
    set(json, failed, "p99", quantile(h, total, 99, seconds));
    set(json, failed, "buckets", buckets);
    return json;
}

static json_t *by_word(const uint64_t *counter, uint32_t words, const char *(*word)(uint32_t), bool *failed)
{
    json_t *json = json_object();
    for (uint32_t w = 0; w < words; w++)
        set(json, failed, word(w), number(counter[w]));
    return json;
}

static void set_rates(json_t *object, const struct pawl_metrics_sample *before,
                      const struct pawl_metrics_sample *sample, size_t row, bool *failed)
{
    if (!before || before->epoch != sample->epoch || sample->at_ns <= before->at_ns)
        return;
    struct pawl_metrics_rates rates = pawl_metrics_rates_between(before, sample, row);
    json_t *json = json_object();
    set(json, failed, "seconds", json_real((double)(sample->at_ns - before->at_ns) / 1e9));
    set(json, failed, "publish", json_real(rates.published));
    set(json, failed, "delivery", json_real(rates.delivered));
    set(json, failed, "ack", json_real(rates.acked));
    set(json, failed, "nack", json_real(rates.nacked));
    set(object, failed, "rates", json);
}

static json_t *queue_json(const struct pawl_metrics_row_copy *row, bool *failed)
{
    json_t *json = json_object();
    set(json, failed, "name", json_string(row->name));
    set(json, failed, "depth", number(row->gauge[PAWL_QUEUE_DEPTH]));
    set(json, failed, "in_flight", number(row->gauge[PAWL_QUEUE_IN_FLIGHT]));
    set(json, failed, "bytes", number(row->gauge[PAWL_QUEUE_BYTES]));
    set(json, failed, "max_depth", number(row->gauge[PAWL_QUEUE_MAX_DEPTH]));
    set(json, failed, "max_bytes", number(row->gauge[PAWL_QUEUE_MAX_BYTES]));
    set(json, failed, "consumers", number(row->gauge[PAWL_QUEUE_CONSUMERS]));
    set(json, failed, "holds_dead_letters", json_boolean(row->gauge[PAWL_QUEUE_IS_DLQ] != 0));
    set(json, failed, "dlq_depth", number(row->gauge[PAWL_QUEUE_DLQ_DEPTH]));
    uint64_t breaker = row->gauge[PAWL_QUEUE_BREAKER_STATE];
    set(json, failed, "breaker",
        json_string(pawl_breaker_state_name(breaker < 255 ? (uint32_t)breaker : 255)));
    set(json, failed, "paused", json_boolean(row->gauge[PAWL_QUEUE_PAUSED] != 0));
    set(json, failed, "published", number(row->counter[PAWL_QUEUE_PUBLISHED]));
    set(json, failed, "delivered", number(row->counter[PAWL_QUEUE_DELIVERED]));
    set(json, failed, "acked", number(row->counter[PAWL_QUEUE_ACKED]));
    set(json, failed, "nacked", number(row->counter[PAWL_QUEUE_NACKED]));
    set(json, failed, "redelivered",
        by_word(row->counter + PAWL_QUEUE_REDELIVERED, PAWL_CAUSES, pawl_cause_name, failed));
    set(json, failed, "dead_letters",
        by_word(row->counter + PAWL_QUEUE_DEAD, PAWL_DEAD_REASONS, pawl_dead_reason_name, failed));
    set(json, failed, "dropped", number(row->counter[PAWL_QUEUE_DROPPED]));
    set(json, failed, "duplicates", number(row->counter[PAWL_QUEUE_DUPLICATES]));
    set(json, failed, "refused", number(row->counter[PAWL_QUEUE_REFUSED]));
    set(json, failed, "handler_seconds", histogram(&row->handler, true, failed));
    return json;
}

static json_t *journal_json(const struct pawl_metrics_sample *sample, bool *failed)
{
    json_t *json = json_object();
    set(json, failed, "bytes", number(sample->cell[PAWL_METRICS_JOURNAL_BYTES]));
    uint64_t room = sample->cell[PAWL_METRICS_JOURNAL_ROOM];
    set(json, failed, "room", json_string(room == 0 ? "roomy" : room == 1 ? "tight" : "full"));
    set(json, failed, "disk_bytes", number(sample->cell[PAWL_METRICS_JOURNAL_DISK_BYTES]));
    set(json, failed, "syncs", number(sample->cell[PAWL_METRICS_JOURNAL_SYNCS]));
    set(json, failed, "sync_seconds", histogram(&sample->histogram[PAWL_METRICS_JOURNAL_SYNC], true, failed));
    set(json, failed, "batch_records",
        histogram(&sample->histogram[PAWL_METRICS_JOURNAL_BATCH], false, failed));
    return json;
}

static json_t *workers_json(const struct pawl_metrics_sample *sample, bool *failed)
{
    json_t *json = json_object();
    set(json, failed, "idle", number(sample->cell[PAWL_METRICS_WORKERS_IDLE]));
    set(json, failed, "busy", number(sample->cell[PAWL_METRICS_WORKERS_BUSY]));
    set(json, failed, "starting", number(sample->cell[PAWL_METRICS_WORKERS_STARTING]));
    set(json, failed, "restarts", number(sample->cell[PAWL_METRICS_WORKER_RESTARTS]));
    return json;
}

json_t *pawl_metrics_json(const struct pawl_metrics_sample *before, const struct pawl_metrics_sample *sample,
                          const struct pawl_metrics_memory *memory, size_t memory_count)
{
    bool failed = false;
    json_t *json = json_object(), *events = json_object(), *queues = json_array(), *kinds = json_object();
    set(json, &failed, "schema", json_integer(1));
    set(json, &failed, "epoch", number(sample->epoch));
    set(json, &failed, "started_at", instant(sample->started_at_ns));
    set(events, &failed, "published", number(sample->cell[PAWL_METRICS_EVENTS_PUBLISHED]));
    set(events, &failed, "unrouted", number(sample->cell[PAWL_METRICS_EVENTS_UNROUTED]));
    set(json, &failed, "events", events);
    for (uint32_t i = 0; i < sample->row_count; i++) {
        json_t *queue = queue_json(&sample->rows[i], &failed);
        set_rates(queue, before, sample, i, &failed);
        if (json_array_append_new(queues, queue) != 0)
            failed = true;
    }
    set(json, &failed, "queues", queues);
    set(json, &failed, "delivery_latency_seconds",
        histogram(&sample->histogram[PAWL_METRICS_DELIVERY_LATENCY], true, &failed));
    set(json, &failed, "journal", journal_json(sample, &failed));
    set(json, &failed, "workers", workers_json(sample, &failed));
    set(json, &failed, "clients", number(sample->cell[PAWL_METRICS_CLIENTS]));
    for (size_t i = 0; i < memory_count; i++)
        set(kinds, &failed, memory[i].kind, number(memory[i].bytes));
    set(json, &failed, "memory_bytes", kinds);
    set_rates(json, before, sample, SIZE_MAX, &failed);
    if (failed) {
        json_decref(json);
        return NULL;
    }
    return json;
}
