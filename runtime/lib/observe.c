/*
 * observe.c - metrics and health, as the verbs show them.
 *
 * Runs in: the program that uses pawl.h. The metrics segment is mapped read-only for the moment of one copy.
 */
#include "runtime/lib/lib.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "runtime/document.h"
#include "runtime/health.h"
#include "runtime/metrics_text.h"
#include "runtime/observer.h"
#include "shm/clock.h"
#include "shm/error.h"
#include "shm/metrics.h"

static int begin(struct pawl *pawl, char **json_out)
{
    if (json_out)
        *json_out = NULL;
    int error = pawl_lib_check(pawl);
    return error ? error : pawl_lib_need(pawl, json_out, "json_out");
}

static int dump(struct pawl *pawl, json_t *document, char **json_out)
{
    *json_out = document ? json_dumps(document, JSON_COMPACT) : NULL;
    json_decref(document);
    pawl_lib_arm(pawl);
    return *json_out ? 0 : pawl_lib_fail(pawl, -ENOMEM, "no memory for the answer");
}

/* The processes, copied: what is asked next takes their place. */
static int ask_processes(struct pawl *pawl, struct pawl_wire_process **processes_out, size_t *count_out)
{
    int error = pawl_lib_ask(pawl, PAWL_WIRE_HEALTH, NULL, 0, NULL, 0, NULL, 0, PAWL_WIRE_HEALTH_OK, 0, true,
                             PAWL_LIB_FOREVER);
    if (error)
        return error;
    size_t count = pawl->answer.header.bytes / sizeof **processes_out;
    struct pawl_wire_process *processes = malloc((count + 1) * sizeof *processes);
    if (!processes)
        return pawl_lib_fail(pawl, -ENOMEM, "no memory for the answer");
    memcpy(processes, pawl->answer.body, count * sizeof *processes);
    *processes_out = processes;
    *count_out = count;
    return 0;
}

static int take_sample(struct pawl *pawl, struct pawl_metrics_sample *sample_out)
{
    struct pawl_segment segment;
    int error = pawl_lib_ask(pawl, PAWL_WIRE_METRICS, NULL, 0, NULL, 0, NULL, 0, PAWL_WIRE_METRICS_OK, 0,
                             true, PAWL_LIB_FOREVER);
    if (error)
        return error;
    if (pawl->answer.header.fd_count != 1)
        return pawl_lib_fail(pawl, PAWL_E_BAD_MESSAGE, "the scheduler gave no metrics");
    error = pawl_metrics_attach(pawl->answer.fds[0], &segment);
    if (error)
        return pawl_lib_fail(pawl, error, "cannot map the metrics: %s", pawl_error_text(error));
    pawl->answer.fds[0] = -1;
    error = pawl_metrics_sample_take(pawl_metrics_of(&segment), pawl_clock_monotonic_ns(), sample_out);
    pawl_segment_close(&segment);
    return error ? pawl_lib_fail(pawl, error, "no memory for the answer") : 0;
}

int pawl_metrics(struct pawl *pawl, char **json_out)
{
    struct pawl_metrics_sample sample = {0};
    struct pawl_metrics_memory memory[PAWL_MEMORY_KINDS];
    struct pawl_wire_process *processes = NULL;
    size_t count = 0;
    int error = begin(pawl, json_out);
    if (!error)
        error = ask_processes(pawl, &processes, &count);
    if (!error)
        error = take_sample(pawl, &sample);
    if (!error) {
        pawl_memory_kinds(pawl->welcome.scheduler_pid, processes, count, &sample, memory);
        error = dump(pawl, pawl_metrics_json(NULL, &sample, memory, PAWL_MEMORY_KINDS), json_out);
        pawl_metrics_sample_fini(&sample);
    }
    free(processes);
    return error;
}

int pawl_health(struct pawl *pawl, char **json_out)
{
    struct pawl_metrics_sample sample = {0};
    struct pawl_wire_process *list = NULL;
    struct pawl_health health = {0};
    size_t count = 0;
    uint64_t asked_at_ns = pawl_clock_monotonic_ns();
    int error = begin(pawl, json_out);
    if (!error)
        error = ask_processes(pawl, &list, &count);
    if (error)
        return error;
    uint64_t latency_ns = pawl_clock_monotonic_ns() - asked_at_ns;
    bool figures = take_sample(pawl, &sample) == 0;
    pawl_health_of(pawl->has_state ? &pawl->state : NULL, pawl->welcome.scheduler_pid, list, count,
                   figures ? &sample : NULL, latency_ns, &health);
    json_t *document = pawl_json_document(), *processes = json_array();
    pawl_processes_json(processes, pawl->welcome.scheduler_pid, list, count);
    json_object_set_new(document, "epoch", json_integer((json_int_t)pawl->welcome.epoch));
    json_object_set_new(document, "status", json_string("serving"));
    json_object_set_new(document, "processes", processes);
    pawl_health_put(&health, document);
    pawl_metrics_sample_fini(&sample);
    free(list);
    return dump(pawl, document, json_out);
}
