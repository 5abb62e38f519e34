/*
 * verb_runs.c - `pawl runs` and `pawl status`: which runs there are, and how one stands.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/run_view.h"
#include "runtime/cli/verbs.h"
#include "scheduler/run.h"

struct no_options {
    uint64_t given;
};

/* ---- runs ---- */

static void print_runs_json(const struct pawl_wire_summary *runs, size_t count)
{
    json_t *document = pawl_json_document(), *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *run = pawl_summary_json(&runs[i]);
        json_object_del(run, "schema");
        json_array_append_new(list, run);
    }
    json_object_set_new(document, "runs", list);
    pawl_json_print(document, stdout);
    json_decref(document);
}

static void print_runs(const struct pawl_cli *cli, const struct pawl_wire_summary *runs, size_t count)
{
    int id_width = 3, name_width = 8;
    char steps[48], started[PAWL_TIME_TEXT_BYTES], took[PAWL_DURATION_TEXT_BYTES];
    for (size_t i = 0; i < count; i++) {
        int id = (int)strlen(runs[i].run_id), name = (int)strlen(runs[i].workflow);
        id_width = id > id_width ? id : id_width;
        name_width = name > name_width ? name : name_width;
    }
    printf("%-*s  %-*s  %-11s  %-9s  %-20s  %s\n", id_width, "RUN", name_width, "WORKFLOW", "STATE", "STEPS",
           "STARTED", "ELAPSED");
    for (size_t i = 0; i < count; i++) {
        const struct pawl_wire_summary *run = &runs[i];
        snprintf(steps, sizeof steps, "%" PRIu64 "/%" PRIu64,
                 pawl_summary_done(run) - run->failed - run->cancelled, run->total);
        pawl_format_time(run->started_at_ns, started);
        if (strlen(started) > 20)
            snprintf(started + 19, sizeof started - 19, "Z"); /* whole seconds are enough here */
        printf("%-*s  %-*s  ", id_width, run->run_id, name_width, run->workflow);
        pawl_print_run_state(stdout, run->state, 11, cli->color_out);
        printf("  %-9s  %-20s  %s\n", steps, started, pawl_format_duration(run->elapsed_ns, took));
    }
}

static int run_runs(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    (void)operand_count;
    (void)operands;
    struct pawl_session session;
    struct pawl_wire_summary *runs = NULL;
    size_t count = 0;
    int status = pawl_session_open(cli, PAWL_STATE_EXISTING, &session);
    if (status == -ENOENT) {
        status = 0;
    } else if (status == 0) {
        status = pawl_runs_list(&session, &runs, &count);
        pawl_session_close(&session);
    }
    if (status == 0 && cli->json)
        print_runs_json(runs, count);
    else if (status == 0 && count == 0)
        pawl_note(cli, "no runs in %s", cli->state);
    else if (status == 0)
        print_runs(cli, runs, count);
    free(runs);
    return pawl_output_finish(cli, status);
}

const struct pawl_verb pawl_verb_runs = {
    .name = "runs",
    .summary = "list the runs, newest first",
    .operands = "",
    .examples = "pawl runs\npawl runs --json | jq -r '.runs[] | select(.state == \"failed\") | .run'",
    .notes = "STEPS: those done (succeeded, skipped, cached) of all",
    .options_bytes = sizeof(struct no_options),
    .run = run_runs,
};

/* ---- status ---- */

static void print_status(const struct pawl_cli *cli, const struct pawl_wire_summary *s)
{
    const struct {
        uint32_t state;
        uint64_t count;
    } counts[] = {
        {PAWL_STEP_SUCCEEDED, s->succeeded}, {PAWL_STEP_CACHED, s->cached},
        {PAWL_STEP_FAILED, s->failed},       {PAWL_STEP_SKIPPED, s->skipped},
        {PAWL_STEP_CANCELLED, s->cancelled}, {PAWL_STEP_RUNNING, s->running},
        {PAWL_STEP_DELAYED, s->delayed},     {PAWL_STEP_READY, s->ready},
        {PAWL_STEP_WAITING, s->waiting},
    };
    char text[PAWL_TIME_TEXT_BYTES], took[PAWL_DURATION_TEXT_BYTES];
    printf("run       %s\nworkflow  %s\nstate     ", s->run_id, s->workflow);
    pawl_print_run_state(stdout, s->state, 0, cli->color_out);
    printf("\nsteps     %" PRIu64 "%s\n", s->total, s->open_ended != 0 ? " so far" : "");
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (counts[i].count == 0)
            continue;
        printf("          ");
        pawl_print_step_state(stdout, counts[i].state, 9, cli->color_out);
        printf("  %" PRIu64 "\n", counts[i].count);
    }
    printf("attempts  %" PRIu64 " (%" PRIu64 " retries)\n", s->attempts, s->retries);
    printf("started   %s\n", pawl_format_time(s->started_at_ns, text));
    if (s->finished_at_ns != 0)
        printf("finished  %s\n", pawl_format_time(s->finished_at_ns, text));
    printf("elapsed   %s\n", pawl_format_duration(s->elapsed_ns, took));
}

static int run_status(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    struct pawl_session session;
    struct pawl_run_view view;
    int status = pawl_run_view_of(cli, operand_count > 0 ? operands[0] : "last", &session, &view);
    if (status != 0)
        return status;
    if (cli->json) {
        json_t *document = pawl_summary_json(&view.summary);
        pawl_json_print(document, stdout);
        json_decref(document);
    } else {
        print_status(cli, &view.summary);
    }
    pawl_run_view_close(&view);
    pawl_session_close(&session);
    return pawl_output_finish(cli, status);
}

const struct pawl_verb pawl_verb_status = {
    .name = "status",
    .summary = "how a run stands (default: the newest)",
    .operands = "[RUN]",
    .examples = "pawl status\npawl status nightly --json | jq .steps.failed",
    .notes = "RUN is an id, or last",
    .options_bytes = sizeof(struct no_options),
    .operands_max = 1,
    .run = run_status,
};
