/*
 * verb_metrics.c - `pawl metrics`: the counters of the bus, for Prometheus or as JSON.
 *
 * Runs in: the command. Looks at the scheduler's memory; what that costs, it costs this process.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <time.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/verbs.h"
#include "runtime/metrics_text.h"
#include "runtime/observer.h"
#include "shm/error.h"

struct metrics_options {
    uint64_t given;
    const char *format;
    uint64_t over_ns;
};

#define LOOK_NS     UINT64_C(10000000000)
#define OVER_NS     UINT64_C(1000000000)
#define OVER_NS_MAX (UINT64_C(3600) * 1000000000)

#define OFFSET(member) offsetof(struct metrics_options, member)
static const struct pawl_option metrics_option_table[] = {
    {0, "format", "HOW", "prometheus (default), json", PAWL_OPTION_TEXT, OFFSET(format), 0, 0},
    {0, "over", "D", "json: look for so long to tell rates (default 1s; 0s: none)", PAWL_OPTION_DURATION,
     OFFSET(over_ns), 0, OVER_NS_MAX},
    {0},
};

/* ---- looking ---- */

static int print_prometheus(const struct pawl_cli *cli, const struct pawl_metrics_sample *sample,
                            const struct pawl_metrics_memory memory[PAWL_MEMORY_KINDS])
{
    size_t bytes = 0;
    char *text = pawl_metrics_prometheus(sample, memory, PAWL_MEMORY_KINDS, &bytes);
    if (text == NULL)
        return pawl_fail(cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
    fwrite(text, 1, bytes, stdout);
    free(text);
    return 0;
}

static int print_json(const struct pawl_cli *cli, const struct pawl_metrics_sample *before,
                      const struct pawl_metrics_sample *sample,
                      const struct pawl_metrics_memory memory[PAWL_MEMORY_KINDS])
{
    json_t *document = pawl_metrics_json(before, sample, memory, PAWL_MEMORY_KINDS);
    if (document == NULL)
        return pawl_fail(cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
    pawl_json_print(document, stdout);
    json_decref(document);
    return 0;
}

static int show(const struct pawl_cli *cli, const struct pawl_observer *observer, bool json, uint64_t over_ns)
{
    struct pawl_metrics_sample before = {0}, sample = {0};
    struct pawl_metrics_memory memory[PAWL_MEMORY_KINDS];
    bool rates = json && over_ns > 0;
    int status, error = rates ? pawl_observer_sample(observer, &before) : 0;
    if (rates && error == 0)
        nanosleep(&(struct timespec){.tv_sec = (time_t)(over_ns / 1000000000),
                                     .tv_nsec = (long)(over_ns % 1000000000)},
                  NULL);
    if (error == 0)
        error = pawl_observer_sample(observer, &sample);
    if (error != 0) {
        status = pawl_fail_error(cli, PAWL_EXIT_INTERNAL, error, NULL, "the scheduler's metrics");
    } else {
        pawl_memory_kinds(observer->welcome.scheduler_pid, observer->processes, observer->process_count,
                          &sample, memory);
        status = json ? print_json(cli, rates ? &before : NULL, &sample, memory)
                      : print_prometheus(cli, &sample, memory);
    }
    pawl_metrics_sample_fini(&before);
    pawl_metrics_sample_fini(&sample);
    return status;
}

static int run_metrics(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    (void)operands;
    const struct metrics_options *o = options;
    const char *format = o->format != NULL ? o->format : cli->json ? "json" : "prometheus";
    bool json = strcmp(format, "json") == 0;
    uint64_t over_ns = pawl_option_given(cli->verb, o, "over") ? o->over_ns : OVER_NS;
    char why[PAWL_STATE_WHY_BYTES] = "";
    struct pawl_observer observer;
    int status = 0;
    if (!json && strcmp(format, "prometheus") != 0)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "say prometheus or json",
                         "--format: '%.40s' is not known", format);
    int error = pawl_observer_open(&observer, cli->state, why);
    if (error == 0)
        error = pawl_observer_look(&observer, LOOK_NS);
    if (error == -ENOENT)
        status = pawl_fail(cli, PAWL_EXIT_UNREACHABLE, "enoent", "start it: pawl serve",
                           "nobody serves %s, so there is nothing to measure", cli->state);
    else if (error != 0 && observer.report.text[0] != '\0') /* it said why it does not serve */
        status = pawl_fail_report(cli, &observer.report);
    else if (error == -ETIMEDOUT)
        status = pawl_fail(cli, PAWL_EXIT_UNREACHABLE, "etimedout", "pawl health says more",
                           "the scheduler of %s does not answer", cli->state);
    else if (error != 0)
        status = pawl_fail_state(cli, error, why);
    else
        status = show(cli, &observer, json, over_ns);
    pawl_observer_fini(&observer);
    return pawl_output_finish(cli, status);
}

const struct pawl_verb pawl_verb_metrics = {
    .name = "metrics",
    .summary = "counters of queues, journal and workers",
    .operands = "",
    .examples = "pawl metrics\npawl metrics --format json | jq '.queues[] | {name, depth, rates}'",
    .notes = "needs a scheduler that serves; --json is --format json",
    .options = metrics_option_table,
    .options_bytes = sizeof(struct metrics_options),
    .run = run_metrics,
};
