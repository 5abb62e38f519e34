/*
 * verb_steps.c - `pawl steps` and `pawl why`: every step instance, and the reasons for one.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/filter.h"
#include "runtime/cli/output.h"
#include "runtime/cli/run_view.h"
#include "runtime/cli/submit.h"
#include "runtime/cli/verbs.h"
#include "scheduler/run.h"
#include "shm/error.h"
#include "shm/task.h"

struct steps_options {
    uint64_t given;
    const char *filter;
};

static const struct pawl_option steps_option_table[] = {
    {0, "filter", "KEY=VALUE", "state=failed, exit=N, step=NAME; several with commas", PAWL_OPTION_TEXT,
     offsetof(struct steps_options, filter), 0, 0},
    {0},
};

struct steps {
    const struct pawl_cli *cli;
    struct pawl_filter filter;
    int name_width;
    bool headed;
};

/* What ended the attempt: an exit code, a signal, or neither. */
static void split_outcome(const struct pawl_wire_step *step, int *exit_code_out, int *signal_out)
{
    bool ended = step->attempts != 0 && step->state != PAWL_STEP_RUNNING;
    *exit_code_out = *signal_out = -1;
    if (!ended || step->state == PAWL_STEP_READY)
        return;
    switch ((enum pawl_outcome)step->outcome) {
    case PAWL_OUTCOME_EXITED:
        *exit_code_out = step->exit_code;
        return;
    case PAWL_OUTCOME_SIGNALED:
    case PAWL_OUTCOME_TIMED_OUT:
    case PAWL_OUTCOME_OUTPUT_LIMIT:
    case PAWL_OUTCOME_KILLED:
        *signal_out = step->exit_code > 0 ? step->exit_code : -1;
        return;
    case PAWL_OUTCOME_SPAWN_FAILED:
    case PAWL_OUTCOME_CAPTURE:
    case PAWL_OUTCOME_WORKER_LOST:
        return;
    }
}

static uint64_t duration_of(const struct pawl_wire_step *step)
{
    if (step->state != PAWL_STEP_RUNNING)
        return step->duration_ns;
    uint64_t now_ns = pawl_realtime_ns();
    return now_ns > step->started_at_ns ? now_ns - step->started_at_ns : 0;
}

static json_t *number_or_null(bool known, int64_t number)
{
    return known ? json_integer(number) : json_null();
}

static void print_step_json(const struct pawl_step_view *step)
{
    const struct pawl_wire_step *fixed = &step->fixed;
    int exit_code, number;
    bool began = fixed->attempts != 0;
    split_outcome(fixed, &exit_code, &number);
    json_t *object = pawl_json_document();
    json_object_set_new(object, "step", pawl_json_text(step->name));
    json_object_set_new(object, "index", number_or_null(fixed->fan_out != 0, (json_int_t)fixed->instance));
    if (fixed->has_item != 0)
        pawl_json_bytes(object, "item", step->item, fixed->item_bytes);
    else
        json_object_set_new(object, "item", json_null());
    json_object_set_new(object, "state", json_string(pawl_step_state_name(fixed->state)));
    json_object_set_new(object, "attempts", json_integer(fixed->attempts));
    json_object_set_new(object, "exit_code", number_or_null(exit_code >= 0, exit_code));
    json_object_set_new(object, "signal", number_or_null(number >= 0, number));
    json_object_set_new(object, "reason",
                        step->reason[0] != '\0' ? pawl_json_text(step->reason) : json_null());
    json_object_set_new(object, "started_at", pawl_json_time(fixed->started_at_ns));
    json_object_set_new(object, "duration_ms",
                        number_or_null(began, (json_int_t)(duration_of(fixed) / 1000000)));
    json_object_set_new(object, "worker", number_or_null(fixed->worker != 0, fixed->worker));
    pawl_json_print(object, stdout);
    json_decref(object);
}

static void print_step(struct steps *steps, const struct pawl_step_view *step)
{
    const struct pawl_wire_step *fixed = &step->fixed;
    char index[24] = "-", took[PAWL_DURATION_TEXT_BYTES] = "-";
    if (!steps->headed)
        printf("%-*s  %6s  %-9s  %5s  %8s  %s\n", steps->name_width, "STEP", "INDEX", "STATE", "TRIES",
               "TOOK", "WHY AND ITEM");
    steps->headed = true;
    if (fixed->fan_out != 0)
        snprintf(index, sizeof index, "%" PRIu64, fixed->instance);
    if (fixed->attempts != 0)
        pawl_format_duration(duration_of(fixed), took);
    printf("%-*s  %6s  ", steps->name_width, step->name, index);
    pawl_print_step_state(stdout, fixed->state, 9, steps->cli->color_out);
    printf("  %5u  %8s  ", fixed->attempts, took);
    pawl_print_line(stdout, step->reason, strlen(step->reason));
    if (fixed->has_item != 0) {
        printf("%s", step->reason[0] != '\0' ? "  " : "");
        pawl_print_line(stdout, step->item, fixed->item_bytes);
    }
    putchar('\n');
}

static int show_step(void *context, const struct pawl_step_view *step)
{
    struct steps *steps = context;
    if (!pawl_filter_holds(&steps->filter, step->name, &step->fixed))
        return 0;
    if (steps->cli->json)
        print_step_json(step);
    else
        print_step(steps, step);
    return ferror(stdout) ? 1 : 0;
}

static int run_steps(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    const struct steps_options *o = options;
    struct steps steps = {.cli = cli, .name_width = 4};
    struct pawl_session session;
    struct pawl_run_view view;
    int status = pawl_filter_parse(cli, o->filter, &steps.filter);
    if (status != 0)
        return status;
    status = pawl_run_view_of(cli, operands[0], &session, &view);
    if (status != 0)
        return status;
    if (!cli->json)
        status = pawl_run_view_plan(&view);
    for (uint32_t i = 0; view.plan != NULL && i < pawl_plan_step_count(view.plan); i++) {
        int width = (int)pawl_plan_step(view.plan, i)->name.bytes;
        steps.name_width = width > steps.name_width ? width : steps.name_width;
    }
    int error = status == 0 ? pawl_run_view_each(&view, steps.filter.state_mask, show_step, &steps) : 0;
    if (error < 0)
        status = pawl_fail_error(cli, error == PAWL_E_DAMAGED ? PAWL_EXIT_DAMAGED : PAWL_EXIT_UNREACHABLE,
                                 error, NULL, "steps of run %s", view.summary.run_id);
    pawl_run_view_close(&view);
    pawl_session_close(&session);
    return pawl_output_finish(cli, status);
}

const struct pawl_verb pawl_verb_steps = {
    .name = "steps",
    .summary = "every step of a run, one line an instance",
    .operands = "RUN",
    .examples = "pawl steps last --filter state=failed\n"
                "pawl steps last --json | jq -r 'select(.duration_ms > 60000) | .step'",
    .notes = "RUN is an id, or last. --json streams one object a line",
    .options = steps_option_table,
    .options_bytes = sizeof(struct steps_options),
    .operands_min = 1,
    .operands_max = 1,
    .run = run_steps,
};

/* ---- why ---- */

struct why_options {
    uint64_t given;
    uint64_t item;
};

static const struct pawl_option why_option_table[] = {
    {0, "item", "INDEX", "which instance, from 0 (default: the first that failed)", PAWL_OPTION_COUNT,
     offsetof(struct why_options, item), 0, 0},
    {0},
};

struct failed {
    const char *step;
    uint64_t item;
};

static int find_failed(void *context, const struct pawl_step_view *step)
{
    struct failed *failed = context;
    if (strcmp(step->name, failed->step) != 0 || step->fixed.fan_out == 0)
        return 0;
    failed->item = step->fixed.instance;
    return 1;
}

/* The instance that is meant when nobody says: the first that failed, else the first. */
static uint64_t choose_item(struct pawl_run_view *view, const char *name)
{
    struct failed failed = {.step = name};
    int found = pawl_run_view_each(view, 1u << PAWL_STEP_FAILED, find_failed, &failed);
    return found > 0 && failed.item != UINT64_MAX ? failed.item : 0;
}

static int print_why(const struct pawl_cli *cli, struct pawl_run_view *view, const char *name, uint64_t item)
{
    char *text = NULL;
    int step = pawl_run_view_step(view, name);
    if (step < 0)
        return -step;
    int error = pawl_run_view_why(view, name, (uint32_t)step, item, &text);
    if (error == PAWL_E_NOT_FOUND)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "not_found", "see pawl steps",
                         "step %.64s has no instance %" PRIu64, name, item);
    if (error != 0)
        return pawl_fail_error(cli, PAWL_EXIT_UNREACHABLE, error, NULL, "step %.64s", name);
    if (cli->json) {
        json_t *document = pawl_json_document();
        json_object_set_new(document, "run", pawl_json_text(view->summary.run_id));
        json_object_set_new(document, "step", pawl_json_text(name));
        json_object_set_new(document, "why", pawl_json_text(text));
        pawl_json_print(document, stdout);
        json_decref(document);
    } else {
        size_t n = strlen(text);
        pawl_print_safe(stdout, text, n);
        if (n != 0 && text[n - 1] != '\n')
            putchar('\n');
    }
    free(text);
    return 0;
}

static int run_why(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    const struct why_options *o = options;
    struct pawl_session session;
    struct pawl_run_view view;
    int status = pawl_run_view_of(cli, operands[0], &session, &view);
    if (status != 0)
        return status;
    uint64_t item = pawl_option_given(cli->verb, o, "item") ? o->item : choose_item(&view, operands[1]);
    status = print_why(cli, &view, operands[1], item);
    pawl_run_view_close(&view);
    pawl_session_close(&session);
    return pawl_output_finish(cli, status);
}

const struct pawl_verb pawl_verb_why = {
    .name = "why",
    .summary = "why a step waits, ran, reran, was skipped or failed",
    .operands = "RUN STEP",
    .examples = "pawl why last compile\npawl why nightly upload --item 17",
    .options = why_option_table,
    .options_bytes = sizeof(struct why_options),
    .operands_min = 2,
    .operands_max = 2,
    .run = run_why,
};
