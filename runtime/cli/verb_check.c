/*
 * verb_check.c - `pawl check` and `pawl graph`: what a workflow file says, without running it.
 *
 * Needs no state directory and no scheduler.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "runtime/cli/config.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/verbs.h"
#include "runtime/graph.h"
#include "runtime/loader.h"
#include "shm/error.h"

struct check_options {
    uint64_t given;
};

static json_t *load_error_json(const struct pawl_load_error *error)
{
    json_t *object = json_object();
    json_object_set_new(object, "code", pawl_json_text(error->code));
    json_object_set_new(object, "message", pawl_json_text(error->text));
    json_object_set_new(object, "hint", error->hint[0] != '\0' ? pawl_json_text(error->hint) : json_null());
    json_object_set_new(object, "line", error->line != 0 ? json_integer(error->line) : json_null());
    json_object_set_new(object, "column", error->line != 0 ? json_integer(error->column) : json_null());
    return object;
}

static void print_report(const char *file, const struct pawl_plan *plan,
                         const struct pawl_load_errors *errors)
{
    json_t *document = pawl_json_document(), *list = json_array(), *steps = json_array();
    json_object_set_new(document, "file", pawl_json_text(file));
    json_object_set_new(document, "ok", json_boolean(plan != NULL));
    json_object_set_new(document, "workflow",
                        plan != NULL ? pawl_json_text(pawl_plan_name(plan)) : json_null());
    for (uint32_t i = 0; plan != NULL && i < pawl_plan_step_count(plan); i++)
        json_array_append_new(steps, pawl_json_text(pawl_plan_step_name(plan, i)));
    json_object_set_new(document, "steps", steps);
    for (uint32_t i = 0; i < errors->count; i++)
        json_array_append_new(list, load_error_json(&errors->errors[i]));
    json_object_set_new(document, "errors", list);
    json_object_set_new(document, "more_errors", json_integer(errors->dropped));
    pawl_json_print(document, stdout);
    json_decref(document);
}

static int run_check(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    static struct pawl_load_errors errors;
    struct pawl_load_limits limits;
    int worst = pawl_cli_load_limits(cli, &limits);
    if (worst != PAWL_EXIT_OK)
        return worst;
    for (int i = 0; i < operand_count; i++) {
        struct pawl_plan *plan = NULL;
        int error = pawl_cli_load_workflow(cli, operands[i], &limits, &plan, &errors);
        if (error != 0) {
            int exit_code = pawl_fail_load(cli, operands[i], error, &errors);
            worst = exit_code > worst ? exit_code : worst;
        }
        if (cli->json)
            print_report(operands[i], error == 0 ? plan : NULL, &errors);
        else if (error == 0)
            printf("%s: ok: workflow %s, %u step%s\n", operands[i], pawl_plan_name(plan),
                   pawl_plan_step_count(plan), pawl_plan_step_count(plan) == 1 ? "" : "s");
        pawl_plan_close(plan);
    }
    return pawl_output_finish(cli, worst);
}

const struct pawl_verb pawl_verb_check = {
    .name = "check",
    .summary = "read a workflow file and name every mistake",
    .operands = "FILE...",
    .examples = "pawl check build.yaml\npawl check build.yaml --json",
    .notes = "exit 3 if there is a mistake; each is named as file:line:column",
    .options_bytes = sizeof(struct check_options),
    .operands_min = 1,
    .operands_max = -1,
    .run = run_check,
};

struct graph_options {
    uint64_t given;
    const char *format;
};

static const struct pawl_option graph_option_table[] = {
    {'f', "format", "FORMAT", "ascii (default), dot, mermaid, json", PAWL_OPTION_TEXT,
     offsetof(struct graph_options, format), 0, 0},
    {0},
};

static int run_graph(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    const struct graph_options *o = options;
    static struct pawl_load_errors errors;
    struct pawl_plan *plan = NULL;
    enum pawl_graph_format format = cli->json ? PAWL_GRAPH_JSON : PAWL_GRAPH_ASCII;
    if (o->format != NULL && pawl_graph_format_parse(o->format, &format) != 0)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "say ascii, dot, mermaid or json",
                         "--format: '%.40s' is not known", o->format);
    struct pawl_load_limits limits;
    int status = pawl_cli_load_limits(cli, &limits);
    if (status != 0)
        return status;
    int error = pawl_cli_load_workflow(cli, operands[0], &limits, &plan, &errors);
    if (error != 0)
        return pawl_fail_load(cli, operands[0], error, &errors);
    int exit_code = PAWL_EXIT_OK;
    if (operand_count > 1 && strcmp(operands[1], pawl_plan_name(plan)) != 0) {
        char hint[160];
        snprintf(hint, sizeof hint, "it holds %.64s", pawl_plan_name(plan));
        exit_code = pawl_fail(cli, PAWL_EXIT_USAGE, "not_found", hint, "%s holds no workflow %.64s",
                              operands[0], operands[1]);
    } else {
        error = pawl_graph_write(plan, format, stdout);
        exit_code = pawl_output_finish(cli, error != 0 ? PAWL_EXIT_FAILED : PAWL_EXIT_OK);
    }
    pawl_plan_close(plan);
    return exit_code;
}

const struct pawl_verb pawl_verb_graph = {
    .name = "graph",
    .summary = "draw a workflow",
    .operands = "FILE [WORKFLOW]",
    .examples = "pawl graph build.yaml\npawl graph build.yaml --format dot | dot -Tsvg >build.svg",
    .options = graph_option_table,
    .options_bytes = sizeof(struct graph_options),
    .operands_min = 1,
    .operands_max = 2,
    .run = run_graph,
};
