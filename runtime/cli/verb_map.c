/*
 * verb_map.c - `pawl map`: a command for each argument.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/map_halt.h"
#include "runtime/cli/map_input.h"
#include "runtime/cli/map_run.h"
#include "runtime/cli/output.h"
#include "runtime/cli/run_view.h"
#include "runtime/cli/submit.h"
#include "runtime/cli/verbs.h"
#include "scheduler/plan_builder.h"
#include "scheduler/run.h"
#include "shm/error.h"

#define SECOND_NS UINT64_C(1000000000)

struct map_options {
    uint64_t given;
    uint64_t jobs, max_args, delay_ns, memfree, retries, timeout_ns;
    struct pawl_text_list files;
    const char *colsep, *halt, *load, *results, *joblog, *run_id;
    bool keep_order, tag, line_buffer, null_separated, shell, dry_run, resume, new_only;
};

#define OFFSET(member) offsetof(struct map_options, member)
static const struct pawl_option map_option_table[] = {
    {'j', "jobs", "N", "slots (default: CPUs)", PAWL_OPTION_COUNT, OFFSET(jobs), 1, PAWL_SLOTS_MAX},
    {'k', "keep-order", NULL, "print in input order", PAWL_OPTION_FLAG, OFFSET(keep_order), 0, 0},
    {0, "tag", NULL, "argument before each line", PAWL_OPTION_FLAG, OFFSET(tag), 0, 0},
    {0, "line-buffer", NULL, "whole lines at once", PAWL_OPTION_FLAG, OFFSET(line_buffer), 0, 0},
    {'a', "arg-file", "FILE", "arguments from FILE", PAWL_OPTION_LIST, OFFSET(files), 0, 0},
    {'0', "null", NULL, "they end with NUL", PAWL_OPTION_FLAG, OFFSET(null_separated), 0, 0},
    {0, "colsep", "RE", "columns: {1} {2} ...", PAWL_OPTION_TEXT, OFFSET(colsep), 0, 0},
    {0, "max-args", "N", "arguments a task", PAWL_OPTION_COUNT, OFFSET(max_args), 1, 100000},
    {0, "shell", NULL, "run by sh -c", PAWL_OPTION_FLAG, OFFSET(shell), 0, 0},
    {'n', "dry-run", NULL, "print the commands", PAWL_OPTION_FLAG, OFFSET(dry_run), 0, 0},
    {0, "resume", NULL, "run what has not succeeded", PAWL_OPTION_FLAG, OFFSET(resume), 0, 0},
    {0, "new-only", NULL, "and print only that", PAWL_OPTION_FLAG, OFFSET(new_only), 0, 0},
    {0, "halt", "WHEN", "now|soon,fail=N or N%", PAWL_OPTION_TEXT, OFFSET(halt), 0, 0},
    {0, "retries", "N", "tries in all", PAWL_OPTION_COUNT, OFFSET(retries), 0, 1000000},
    {0, "timeout", "D", "end a task after D", PAWL_OPTION_DURATION, OFFSET(timeout_ns), 0, 0},
    {0, "delay", "D", "between two starts", PAWL_OPTION_DURATION, OFFSET(delay_ns), 0, 0},
    {0, "load", "L", "start below this load", PAWL_OPTION_TEXT, OFFSET(load), 0, 0},
    {0, "memfree", "SIZE", "start with this free", PAWL_OPTION_BYTES, OFFSET(memfree), 0, 0},
    {0, "results", "DIR", "outputs as files", PAWL_OPTION_TEXT, OFFSET(results), 0, 0},
    {0, "joblog", "FILE", "one line a task", PAWL_OPTION_TEXT, OFFSET(joblog), 0, 0},
    {0, "run-id", "ID", "call the run so", PAWL_OPTION_TEXT, OFFSET(run_id), 0, 0},
    {0},
};

struct map_command {
    const struct pawl_cli *cli;
    const struct map_options *options;
    struct pawl_map_source *sources;
    size_t source_count;
    struct pawl_map_template *map_template;
    struct pawl_map_input *input;
    struct pawl_halt halt;
    uint32_t load_milli, slots;
    const char *program; /* first word, for the plan */
};

/* ---- -n ---- */

static int dry_run(struct map_command *command)
{
    struct pawl_map_args args;
    uint64_t number = 0;
    int error = 0;
    while (error == 0 && !ferror(stdout)) {
        int got = pawl_map_input_next(command->input, &args);
        if (got == 0)
            break;
        if (got == -EAGAIN) {
            error = pawl_map_input_fill(command->input);
            continue;
        }
        error = got < 0 ? got
                        : pawl_map_print_command(stdout, command->map_template, command->options->shell,
                                                 &args, ++number, "1");
        putchar('\n');
    }
    if (error != 0)
        return pawl_fail_error(command->cli, PAWL_EXIT_USAGE, error, NULL, "argument of task %" PRIu64,
                               number + 1);
    return pawl_output_finish(command->cli, PAWL_EXIT_OK);
}

/* ---- submitting ---- */

/* A plan of one fed step: what every task has in common. */
static int make_plan(const struct map_command *command, struct pawl_plan **plan_out)
{
    struct pawl_plan_builder *builder = NULL;
    uint32_t index = 0, argv = 0;
    int error = pawl_plan_builder_create("map", "", &builder);
    if (error == 0)
        error = pawl_plan_add_step(builder, "map", &index);
    if (error == 0) {
        struct pawl_plan_step *step = pawl_plan_edit_step(builder, index);
        step->kind = PAWL_STEP_EXEC;
        step->flags = PAWL_STEP_FED;
        step->timeout_ns = command->options->timeout_ns;
        step->grace_ns = 10 * SECOND_NS;
        step->retry.limit = command->options->retries > 1 ? (uint32_t)command->options->retries - 1 : 0;
        step->retry.factor = 1;
        error = pawl_plan_add_text(builder, command->program, &argv);
    }
    if (error == 0)
        error = pawl_plan_set_argv(builder, index, &argv, 1);
    if (error == 0)
        error = pawl_plan_finish(builder, NULL, NULL, plan_out);
    pawl_plan_builder_destroy(builder);
    return error;
}

/* The newest map of this command, whatever became of it: what has succeeded there is not run again. */
static int find_resumable(struct pawl_session *session, uint64_t identity, char resume_id[PAWL_NAME_BYTES])
{
    struct pawl_wire_summary *runs = NULL;
    size_t count = 0;
    int status = pawl_runs_list(session, &runs, &count);
    for (size_t i = 0; status == 0 && i < count; i++) {
        if (runs[i].identity == identity) {
            pawl_session_copy_name(resume_id, runs[i].run_id);
            status = pawl_run_settle(session, resume_id);
            break;
        }
    }
    free(runs);
    return status;
}

static int submit(struct map_command *command, struct pawl_session *session,
                  struct pawl_wire_submitted *submitted)
{
    const struct map_options *o = command->options;
    struct pawl_wire_submit request = {
        .flags = PAWL_SUBMIT_MAP | PAWL_SUBMIT_KEEP_GOING |
                 (o->jobs == 0 && command->cli->jobs == 0 ? PAWL_SUBMIT_ANY_SLOTS : 0),
        .slots = command->slots,
        .keep_going = command->halt.fail_count,
        .halt_percent = command->halt.fail_percent,
        .halt_now = command->halt.now,
        .delay_ns = o->delay_ns,
        .memfree_bytes = o->memfree,
        .load_milli = command->load_milli,
        .identity = pawl_map_template_hash(command->map_template),
    };
    struct pawl_plan *plan = NULL;
    int fds[2] = {-1, -1};
    int status = o->resume ? find_resumable(session, request.identity, request.resume_id) : 0;
    if (status != 0)
        return status;
    if (o->run_id != NULL)
        pawl_session_copy_name(request.run_id, o->run_id);
    else
        pawl_run_id_make(request.run_id);
    pawl_session_copy_name(request.workflow, "map");
    int error = make_plan(command, &plan);
    if (error == 0)
        error = fds[0] = pawl_plan_memfd(plan);
    if (error >= 0)
        error = fds[1] = pawl_context_memfd();
    if (error < 0) {
        status = pawl_fail_pack(command->cli, error);
    } else {
        struct pawl_wire_message reply;
        struct pawl_error_report report;
        uint64_t begun_ns = pawl_monotonic_ns();
        for (;;) {
            error = pawl_client_ask(&session->wire, PAWL_WIRE_SUBMIT, &request, sizeof request, NULL, 0, fds,
                                    2, PAWL_WIRE_SUBMITTED, sizeof *submitted, &reply, &report);
            if (!pawl_submit_may_go_again(error, pawl_monotonic_ns() - begun_ns))
                break;
            poll(NULL, 0, 20);
        }
        if (error != 0)
            status = pawl_fail_report(command->cli, &report);
        else
            memcpy(submitted, reply.body, sizeof *submitted);
    }
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    pawl_plan_close(plan);
    return status;
}

static int submit_and_feed(struct map_command *command)
{
    const struct map_options *o = command->options;
    struct pawl_session session;
    struct pawl_wire_submitted submitted;
    struct pawl_map_output output = {.cli = command->cli,
                                     .tag = o->tag,
                                     .results_dir = o->results,
                                     .shell = o->shell,
                                     .map_template = command->map_template};
    struct pawl_map_options options = {
        .keep_order = o->keep_order,
        .line_buffer = o->line_buffer,
        .new_only = o->new_only,
        .timeout_ns = o->timeout_ns,
        .grace_ns = 10 * SECOND_NS,
    };
    int error = o->joblog != NULL ? pawl_map_joblog_open(o->joblog, o->resume, &output.joblog) : 0;
    if (error != 0)
        return pawl_fail_error(command->cli, PAWL_EXIT_USAGE, error, NULL, "--joblog: %.200s", o->joblog);
    error = pawl_map_output_init(&output);
    int status =
        error != 0 ? pawl_fail(command->cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory") : 0;
    if (status == 0)
        status =
            pawl_slots_choose(command->cli, o->jobs != 0 ? o->jobs : command->cli->jobs, &command->slots);
    if (status == 0)
        status = pawl_session_open(command->cli, PAWL_STATE_CREATE, &session);
    if (status == 0) {
        status = pawl_session_connect(&session, true);
        if (status == 0)
            status = submit(command, &session, &submitted);
        if (status == 0)
            status =
                pawl_map_run(&session, &options, command->map_template, command->input, &output, &submitted);
        pawl_session_close(&session);
    }
    pawl_map_output_fini(&output);
    if (output.joblog_error != 0) {
        int failed = pawl_fail_error(command->cli, PAWL_EXIT_FAILED, output.joblog_error,
                                     "the tasks are recorded: pawl steps last",
                                     "--joblog: %.200s: not all of it could be written", o->joblog);
        status = status != 0 ? status : failed;
    }
    return status;
}

/* ---- the verb ---- */

/* "0.5", "4", "80%": of the CPUs. */
static int parse_load(const struct pawl_cli *cli, const char *text, uint32_t *milli_out)
{
    char *end;
    double load = strtod(text, &end);
    bool percent = *end == '%';
    if (end == text || end[percent] != '\0' || !(load > 0) || load > 1e6)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "write --load 4, or --load 80% (of the CPUs)",
                         "--load: '%.40s' is not a load", text);
    if (percent)
        load = load / 100 * pawl_online_cpus();
    *milli_out = load * 1000 < 1 ? 1 : (uint32_t)(load * 1000);
    return 0;
}

/* Only digits where the command should be: somebody means parallel's -n N. */
static bool is_number(const char *word)
{
    return word[0] != '\0' && strspn(word, "0123456789") == strlen(word);
}

static int check_command(const struct map_command *command, int words, char **operands)
{
    if (words == 0)
        return pawl_fail(command->cli, PAWL_EXIT_USAGE, "usage", "pawl map [OPTIONS] CMD... [::: ARG...]",
                         "there is no command");
    if (command->options->dry_run && is_number(operands[0]))
        return pawl_fail(command->cli, PAWL_EXIT_USAGE, "usage",
                         "for several arguments to a task say --max-args N",
                         "-n is the dry run and takes no number; '%.20s' is no command", operands[0]);
    if (command->options->new_only && !command->options->resume)
        return pawl_fail(command->cli, PAWL_EXIT_USAGE, "usage", NULL, "--new-only goes with --resume");
    if (command->options->run_id != NULL)
        return pawl_run_id_check(command->cli, command->options->run_id, 64);
    return 0;
}

static int open_input(struct map_command *command)
{
    const struct map_options *o = command->options;
    char why[256];
    struct pawl_map_input_options input = {
        .sources = command->sources,
        .source_count = command->source_count,
        .colsep = o->colsep,
        .null_separated = o->null_separated,
        .max_args = o->max_args != 0 ? (uint32_t)o->max_args : 1,
    };
    if (command->source_count == 0 && isatty(STDIN_FILENO) == 1)
        pawl_note(command->cli, "arguments are read from the terminal, one a line; ^D ends them");
    int error = pawl_map_input_open(&input, &command->input, why);
    return error == 0 ? 0
                      : pawl_fail(command->cli, PAWL_EXIT_USAGE, "input", NULL, "%s",
                                  why[0] != '\0' ? why : pawl_error_text(error));
}

static int run_map(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    const struct map_options *o = options;
    struct map_command command = {.cli = cli, .options = o};
    int words = 0;
    int error = pawl_map_sources_parse(operand_count, operands, o->files.items, o->files.count, &words,
                                       &command.sources, &command.source_count);
    int status = error != 0 ? pawl_fail(cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory")
                            : check_command(&command, words, operands);
    if (status == 0 && pawl_halt_parse(o->halt, &command.halt) != 0)
        status = pawl_fail(cli, PAWL_EXIT_USAGE, "usage",
                           "write --halt soon,fail=1, now,fail=3, soon,fail=20% or never",
                           "--halt: '%.40s' is not understood", o->halt);
    if (status == 0 && o->load != NULL)
        status = parse_load(cli, o->load, &command.load_milli);
    if (status == 0) {
        command.program = operands[0];
        if (pawl_map_template_create(words, operands, o->shell, &command.map_template) != 0)
            status = pawl_fail(cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
    }
    if (status == 0)
        status = open_input(&command);
    if (status == 0)
        status = o->dry_run ? dry_run(&command) : submit_and_feed(&command);
    pawl_map_input_close(command.input);
    pawl_map_template_destroy(command.map_template);
    free(command.sources);
    return status;
}

const struct pawl_verb pawl_verb_map = {
    .name = "map",
    .summary = "run a command for each argument, or each line of stdin",
    .operands = "CMD... [::: ARG...] [:::: FILE...]",
    .examples = "pawl map -j8 gzip ::: *.log\n"
                "find . -name '*.wav' | pawl map -k --tag lame {} {.}.mp3\n"
                "pawl map --resume ./train {1} {2} ::: a b ::: 1 2 3",
    .notes = "{} argument, {.} without extension, {/} base, {//} folder, {/.} both, {#} number, {%} slot, "
             "{2} second\n"
             "several ::: give all combinations, :::+ links to the one before. No shell unless --shell",
    .options = map_option_table,
    .options_bytes = sizeof(struct map_options),
    .operands_max = -1,
    .stops_at_operand = true,
    .run = run_map,
};
