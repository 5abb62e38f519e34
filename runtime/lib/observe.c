/*
 * observe.c - metrics and health, as the verbs show them.
 *
 * Runs in: the program that uses pawl.h. The metrics segment is mapped read-only for the moment of one copy.
 */
#include "runtime/lib/lib.h"

#include <errno.h>
#include <stdlib.h>

#include <jansson.h>

#include "runtime/document.h"
#include "runtime/metrics_text.h"
#include "shm/clock.h"
#include "shm/error.h"
#include "shm/metrics.h"

static int dump(struct pawl *pawl, json_t *document, char **json_out)
{
    *json_out = document ? json_dumps(document, JSON_COMPACT) : NULL;
    json_decref(document);
    pawl_lib_arm(pawl);
    return *json_out ? 0 : pawl_lib_fail(pawl, -ENOMEM, "no memory for the answer");
}

int pawl_metrics(struct pawl *pawl, char **json_out)
{
    struct pawl_segment segment;
    struct pawl_metrics_sample sample = {0};
    *json_out = NULL;
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
    error = pawl_metrics_sample_take(pawl_metrics_of(&segment), pawl_clock_monotonic_ns(), &sample);
    json_t *document = error ? NULL : pawl_metrics_json(NULL, &sample, NULL, 0);
    if (!error)
        pawl_metrics_sample_fini(&sample);
    pawl_segment_close(&segment);
    return dump(pawl, document, json_out);
}

int pawl_health(struct pawl *pawl, char **json_out)
{
    *json_out = NULL;
    int error = pawl_lib_ask(pawl, PAWL_WIRE_HEALTH, NULL, 0, NULL, 0, NULL, 0, PAWL_WIRE_HEALTH_OK, 0, true,
                             PAWL_LIB_FOREVER);
    if (error)
        return error;
    json_t *document = pawl_json_document(), *processes = json_array();
    pawl_processes_json(processes, pawl->welcome.scheduler_pid, pawl->answer.body,
                        pawl->answer.header.bytes / sizeof(struct pawl_wire_process));
    json_object_set_new(document, "epoch", json_integer((json_int_t)pawl->welcome.epoch));
    json_object_set_new(document, "status", json_string("serving"));
    json_object_set_new(document, "processes", processes);
    return dump(pawl, document, json_out);
}
