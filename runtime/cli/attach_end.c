/*
 * attach_end.c - how a command that submitted runs ends: its exit code, its last words, how to go on.
 *
 * Runs in: the command.
 */
#include "runtime/cli/attach_end.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/quote.h"
#include "runtime/cli/run_view.h"
#include "scheduler/run.h"

void pawl_resume_arguments(char arguments[64], uint64_t jobs, bool keeps_going, uint64_t keep_going)
{
    int n = 0;
    arguments[0] = '\0';
    if (jobs != 0)
        n = snprintf(arguments, 64, " -j %" PRIu64, jobs);
    if (keeps_going && keep_going != 0)
        snprintf(arguments + n, 64 - (size_t)n, " --keep-going=%" PRIu64, keep_going);
    else if (keeps_going)
        snprintf(arguments + n, 64 - (size_t)n, " --keep-going");
}

void pawl_note_nothing_left(const struct pawl_cli *cli, const char *run_id)
{
    pawl_note(cli, "run %s has succeeded: nothing is left to do", run_id);
}

static void print_resume(const struct pawl_cli *cli, const struct pawl_attach_options *options,
                         const struct pawl_attach_end *end)
{
    fprintf(stderr, "pawl: go on with: ");
    if (options->runs_total == 0) {
        const char *run_id = end->last.run_id[0] != '\0' ? end->last.run_id : end->run_id;
        const char *argv[5] = {cli->argv[0], "resume", run_id, NULL, NULL};
        size_t argc = 3;
        if (strcmp(cli->state_origin, "flag") == 0) {
            argv[argc++] = "--state";
            argv[argc++] = cli->state;
        }
        pawl_quote_command(stderr, argv, argc);
        fprintf(stderr, "%s\n", options->resume_arguments);
        return;
    }
    bool has_resume = false;
    for (int i = 1; i < cli->argc; i++)
        has_resume = has_resume || strcmp(cli->argv[i], "--resume") == 0;
    pawl_quote_command(stderr, (const char *const *)cli->argv, (size_t)cli->argc);
    fprintf(stderr, has_resume ? "\n" : " --resume\n");
}

void pawl_print_detached(const struct pawl_cli *cli, const char *run_id)
{
    if (cli->json)
        printf("{\"schema\":1,\"run\":\"%s\"}\n", run_id);
    else
        printf("%s\n", run_id);
}

int pawl_tell_nothing_left(const struct pawl_cli *cli, const struct pawl_wire_summary *summary, bool detach)
{
    pawl_note_nothing_left(cli, summary->run_id);
    if (detach) {
        pawl_print_detached(cli, summary->run_id);
    } else if (cli->json) {
        json_t *document = pawl_summary_json(summary);
        pawl_json_print(document, stdout);
        json_decref(document);
    }
    return pawl_output_finish(cli, PAWL_EXIT_OK);
}

static int exit_code_of(const struct pawl_attach_options *options, const struct pawl_attach_end *end)
{
    if (end->exit_code != 0)
        return end->exit_code;
    if (end->ended_in[PAWL_RUN_INTERRUPTED] + end->ended_in[PAWL_RUN_CANCELLED] + end->left != 0)
        return PAWL_EXIT_INTERRUPTED;
    if (end->ended_in[PAWL_RUN_FAILED] != 0)
        return PAWL_EXIT_FAILED;
    if (end->ended_in[PAWL_RUN_WAITING] != 0)
        return PAWL_EXIT_WAITING;
    /* not all were begun because somebody stopped it */
    return end->stopped && end->ended < options->runs_total ? PAWL_EXIT_INTERRUPTED : PAWL_EXIT_OK;
}

static void print_json(const struct pawl_attach_options *options, const struct pawl_attach_end *end)
{
    json_t *document;
    if (options->runs_total == 0) {
        if (end->ended == 0)
            return;
        document = pawl_summary_json(&end->last);
    } else {
        document = pawl_json_document();
        json_object_set_new(document, "runs", json_integer((json_int_t)end->submitted));
        for (unsigned state = PAWL_RUN_WAITING; state < 6; state++)
            json_object_set_new(document, pawl_run_state_name(state),
                                json_integer((json_int_t)end->ended_in[state]));
        json_object_set_new(document, "succeeded_before", json_integer((json_int_t)options->runs_before));
    }
    pawl_json_print(document, stdout);
    json_decref(document);
}

static void print_words(const struct pawl_cli *cli, const struct pawl_attach_options *options,
                        const struct pawl_attach_end *end)
{
    char took[PAWL_DURATION_TEXT_BYTES];
    const struct pawl_wire_summary *s = &end->last;
    if (options->runs_total != 0) {
        pawl_note(cli,
                  "%" PRIu64 " run%s: %" PRIu64 " succeeded, %" PRIu64 " failed, %" PRIu64 " interrupted",
                  end->submitted, end->submitted == 1 ? "" : "s", end->ended_in[PAWL_RUN_SUCCEEDED],
                  end->ended_in[PAWL_RUN_FAILED],
                  end->ended_in[PAWL_RUN_INTERRUPTED] + end->ended_in[PAWL_RUN_CANCELLED]);
        return;
    }
    if (end->ended == 0 || end->nothing_left)
        return;
    char words[160] = "";
    int n = snprintf(words, sizeof words, "%" PRIu64 " of %" PRIu64 " steps done",
                     pawl_summary_done(s) - s->failed - s->cancelled, s->total);
    if (s->failed != 0)
        n += snprintf(words + n, sizeof words - (size_t)n, ", %" PRIu64 " failed", s->failed);
    if (s->retries != 0)
        snprintf(words + n, sizeof words - (size_t)n, ", %" PRIu64 " %s", s->retries,
                 s->retries == 1 ? "retry" : "retries");
    pawl_note(cli, "run %s %s: %s, %s", s->run_id, pawl_run_state_name(s->state), words,
              pawl_format_duration(s->elapsed_ns, took));
}

int pawl_attach_end_tell(const struct pawl_cli *cli, const struct pawl_attach_options *options,
                         const struct pawl_attach_end *end, bool lost)
{
    int exit_code = exit_code_of(options, end);
    if (options->detach)
        return pawl_output_finish(cli, exit_code);
    if (cli->json)
        print_json(options, end);
    else
        print_words(cli, options, end);
    if (lost && end->exit_code == 0)
        exit_code = pawl_fail(cli, PAWL_EXIT_INTERRUPTED, "lost", NULL,
                              "pawl's supervisor is gone; what was recorded is safe");
    bool resumable =
        exit_code == PAWL_EXIT_INTERRUPTED || (exit_code == PAWL_EXIT_FAILED && end->exit_code == 0);
    if (resumable && end->last.state != PAWL_RUN_CANCELLED && !cli->json)
        print_resume(cli, options, end);
    return pawl_output_finish(cli, exit_code);
}
