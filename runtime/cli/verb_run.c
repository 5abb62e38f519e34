/*
 * verb_run.c - `pawl run`: a workflow, once, or once for each line of --inputs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/attach.h"
#include "runtime/cli/attach_end.h"
#include "runtime/cli/dry_run.h"
#include "runtime/cli/config.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/params.h"
#include "runtime/cli/run_batch.h"
#include "runtime/cli/run_view.h"
#include "runtime/cli/submit.h"
#include "runtime/cli/verbs.h"
#include "runtime/loader.h"
#include "scheduler/run.h"
#include "shm/error.h"

struct run_options {
    uint64_t given;
    uint64_t jobs, keep_going;
    struct pawl_text_list sets;
    const char *inputs, *run_id;
    bool resume, dry_run, detach;
};

#define OFFSET(member) offsetof(struct run_options, member)
static const struct pawl_option run_option_table[] = {
    {'j', "jobs", "N", "steps at a time (default: online CPUs)", PAWL_OPTION_COUNT, OFFSET(jobs), 1,
     PAWL_SLOTS_MAX},
    {0, "set", "NAME=VALUE", "a parameter; again for more", PAWL_OPTION_LIST, OFFSET(sets), 0, 0},
    {0, "inputs", "FILE.jsonl", "one run for each line: its object is the parameters", PAWL_OPTION_TEXT,
     OFFSET(inputs), 0, 0},
    {0, "resume", NULL, "go on with the newest run of this that has not succeeded", PAWL_OPTION_FLAG,
     OFFSET(resume), 0, 0},
    {0, "keep-going", "[=N]", "go on until N steps have failed (no N: never stop)", PAWL_OPTION_MAYBE_COUNT,
     OFFSET(keep_going), 1, UINT32_MAX},
    {'n', "dry-run", NULL, "say what would run and why, and run nothing", PAWL_OPTION_FLAG, OFFSET(dry_run),
     0, 0},
    {0, "detach", NULL, "print the run's id and leave it running", PAWL_OPTION_FLAG, OFFSET(detach), 0, 0},
    {0, "run-id", "ID", "call the run so (with --inputs: ID-1, ID-2, ...)", PAWL_OPTION_TEXT, OFFSET(run_id),
     0, 0},
    {0},
};

struct run_command {
    const struct pawl_cli *cli;
    const struct run_options *options;
    const char *file;
    struct pawl_plan *plan; /* as loaded */
    struct pawl_params params;
    struct pawl_inputs inputs;
    struct pawl_run_batch batch; /* of the inputs */
    bool many;
    uint32_t slots;
    uint64_t made;                  /* jobs so far; lines, those that have succeeded included */
    struct pawl_wire_summary *runs; /* for --resume: all of them, newest first */
    size_t run_count;
    char resume_arguments[64];
};

/* The run with this identity that --run-id names. NULL: none. */
static const struct pawl_wire_summary *find_named(const struct run_command *command, uint64_t identity)
{
    const char *name = command->options->run_id;
    for (size_t i = 0; i < command->run_count && name != NULL; i++)
        if (command->runs[i].identity == identity && strcmp(command->runs[i].run_id, name) == 0)
            return &command->runs[i];
    return NULL;
}

/* Of the runs with this identity, the one that is named, else the newest that has not succeeded. NULL: none.
 */
static const struct pawl_wire_summary *find_candidate(const struct run_command *command, uint64_t identity)
{
    const struct pawl_wire_summary *named = find_named(command, identity);
    if (named != NULL)
        return named;
    for (size_t i = 0; i < command->run_count; i++)
        if (command->runs[i].identity == identity && command->runs[i].state != PAWL_RUN_SUCCEEDED)
            return &command->runs[i];
    return NULL;
}

/* --resume of the one run that --run-id names, and that has succeeded? Return: 1 with *run_out, 0, or the
 * negative of a printed exit code. */
static int find_done(struct run_command *command, const struct pawl_wire_summary **run_out)
{
    struct pawl_plan *bound = NULL;
    if (command->many || !command->options->resume || command->options->run_id == NULL)
        return 0;
    int status = pawl_params_bind(command->cli, command->plan, &command->params, NULL, 0, NULL, 0, &bound);
    if (status != 0)
        return -status;
    *run_out = find_named(command, pawl_identity(command->file, bound));
    pawl_plan_close(bound);
    return *run_out != NULL && (*run_out)->state == PAWL_RUN_SUCCEEDED;
}

/* ---- --inputs ---- */

/* Which line has which run. Return: 0 or a printed exit code. */
static int make_batch(struct run_command *command)
{
    uint64_t *identities = calloc(command->inputs.count + 1, sizeof *identities);
    const char *line;
    size_t n;
    int status = 0;
    for (uint64_t i = 0; identities != NULL && status == 0 && command->options->resume &&
                         pawl_inputs_next(&command->inputs, &line, &n);
         i++) {
        struct pawl_plan *bound = NULL;
        status = pawl_params_bind(command->cli, command->plan, &command->params, line, n,
                                  command->inputs.file, command->inputs.line, &bound);
        identities[i] = status == 0 ? pawl_identity(command->file, bound) : 0;
        pawl_plan_close(bound);
    }
    pawl_inputs_rewind(&command->inputs);
    if (status == 0 && (identities == NULL ||
                        pawl_run_batch_make(command->options->run_id, identities, command->inputs.count,
                                            command->runs, command->run_count, &command->batch) != 0))
        status = pawl_fail(command->cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
    free(identities);
    return status;
}

static bool is_all_done(const struct run_command *command)
{
    return command->many && command->batch.done == command->inputs.count;
}

static void note_batch(const struct run_command *command)
{
    const struct pawl_run_batch *batch = &command->batch;
    if (is_all_done(command))
        pawl_note(command->cli, "all %" PRIu64 " runs of batch %s have succeeded: nothing is left to do",
                  batch->count, batch->name);
    else if (batch->done != 0)
        pawl_note(command->cli,
                  "batch %s goes on: %" PRIu64 " of %" PRIu64 " runs have succeeded and are kept",
                  batch->name, batch->done, batch->count);
}

/* A batch of which nothing runs is none that failed; but nobody shall take it for one that ran. */
static int tell_no_runs(const struct run_command *command)
{
    if (command->cli->json) {
        json_t *document = pawl_json_document();
        json_object_set_new(document, "runs", json_integer(0));
        json_object_set_new(document, "succeeded_before", json_integer((json_int_t)command->batch.done));
        pawl_json_print(document, stdout);
        json_decref(document);
    }
    return pawl_output_finish(command->cli, PAWL_EXIT_OK);
}

/* ---- jobs ---- */

/* Which run it is to be: one that is there, or a new one by this name. */
static void choose_run(struct run_command *command, struct pawl_wire_submit *request)
{
    const struct run_options *o = command->options;
    const struct pawl_batch_line *line = command->many ? &command->batch.lines[command->made - 1] : NULL;
    const struct pawl_wire_summary *old = NULL;
    if (line != NULL)
        old = line->run;
    else if (o->resume)
        old = find_candidate(command, request->identity);
    if (old != NULL) {
        memcpy(request->resume_id, old->run_id, sizeof request->resume_id);
        memcpy(request->run_id, old->run_id, sizeof request->run_id);
    } else if (line != NULL) {
        pawl_run_batch_name(&command->batch, line->number, request->run_id);
    } else if (o->run_id != NULL) {
        pawl_session_copy_name(request->run_id, o->run_id);
    } else {
        pawl_run_id_make(request->run_id);
    }
}

static int fill_job(struct run_command *command, struct pawl_plan *plan, struct pawl_attach_job *job_out)
{
    const struct run_options *o = command->options;
    struct pawl_wire_submit *request = &job_out->request;
    memset(job_out, 0, sizeof *job_out);
    job_out->file = command->file;
    job_out->plan_fd = pawl_plan_memfd(plan);
    job_out->context_fd = pawl_context_memfd();
    if (job_out->plan_fd < 0 || job_out->context_fd < 0)
        return -pawl_fail_pack(command->cli, job_out->plan_fd < 0 ? job_out->plan_fd : job_out->context_fd);
    request->flags = (o->detach ? PAWL_SUBMIT_DETACH : 0u) |
                     (o->jobs == 0 && command->cli->jobs == 0 ? (uint32_t)PAWL_SUBMIT_ANY_SLOTS : 0u);
    request->slots = command->slots;
    if (pawl_option_given(&pawl_verb_run, o, "keep-going")) {
        request->flags |= PAWL_SUBMIT_KEEP_GOING;
        request->keep_going = (uint32_t)o->keep_going;
    }
    request->identity = pawl_identity(command->file, plan);
    pawl_session_copy_name(request->workflow, pawl_plan_name(plan));
    choose_run(command, request);
    return 1;
}

/* The next line that has not succeeded, or the one run that is not of a line. */
static bool next_line(struct run_command *command, const char **line_out, size_t *n_out)
{
    if (!command->many)
        return command->made++ == 0;
    while (pawl_inputs_next(&command->inputs, line_out, n_out))
        if (!command->batch.lines[command->made++].done)
            return true;
    return false;
}

static int next_job(void *context, struct pawl_attach_job *job_out)
{
    struct run_command *command = context;
    const char *line = NULL;
    size_t n = 0;
    if (!next_line(command, &line, &n))
        return 0;
    struct pawl_plan *bound = NULL;
    int status = pawl_params_bind(command->cli, command->plan, &command->params, line, n,
                                  command->inputs.file, command->inputs.line, &bound);
    if (status != 0)
        return -status;
    status = fill_job(command, bound, job_out);
    pawl_plan_close(bound);
    return status;
}

/* ---- -n ---- */

static int dry_run(struct run_command *command)
{
    struct pawl_session session;
    struct pawl_run_view view = {0};
    struct pawl_plan *bound = NULL;
    const struct pawl_wire_summary *done = NULL;
    bool has_view = false;
    int status = pawl_params_bind(command->cli, command->plan, &command->params, NULL, 0, NULL, 0, &bound);
    if (status != 0)
        return status;
    int opened =
        command->options->resume ? pawl_session_open(command->cli, PAWL_STATE_EXISTING, &session) : -ENOENT;
    if (opened > 0)
        status = opened;
    if (opened == 0)
        status = pawl_runs_list(&session, &command->runs, &command->run_count);
    if (status == 0 && command->many)
        status = make_batch(command);
    if (status == 0 && !command->many && opened == 0) {
        const struct pawl_wire_summary *old = find_candidate(command, pawl_identity(command->file, bound));
        done = old != NULL && old->state == PAWL_RUN_SUCCEEDED ? old : NULL;
        if (old != NULL && done == NULL) {
            status = pawl_run_view_open(&session, old->run_id, &view);
            has_view = status == 0;
        }
    }
    if (status == 0)
        note_batch(command);
    if (status == 0 && done != NULL)
        status = pawl_tell_nothing_left(command->cli, done, false);
    else if (status == 0 && is_all_done(command))
        status = tell_no_runs(command);
    else if (status == 0)
        status = pawl_dry_run_print(command->cli, bound, has_view ? &view : NULL,
                                    command->inputs.count - command->batch.done);
    if (has_view)
        pawl_run_view_close(&view);
    if (opened == 0)
        pawl_session_close(&session);
    pawl_plan_close(bound);
    return pawl_output_finish(command->cli, status);
}

/* ---- the verb ---- */

static int check_name(const struct run_command *command, const char *workflow)
{
    char hint[160];
    if (strcmp(workflow, pawl_plan_name(command->plan)) == 0)
        return 0;
    snprintf(hint, sizeof hint, "it holds %.64s", pawl_plan_name(command->plan));
    return pawl_fail(command->cli, PAWL_EXIT_USAGE, "not_found", hint, "%s holds no workflow %.64s",
                     command->file, workflow);
}

/* For --resume: the runs that there are, none of which is about to change its form. */
static int list_runs(struct run_command *command, struct pawl_session *session)
{
    int status = pawl_runs_list(session, &command->runs, &command->run_count);
    /* Now: later answers to other questions may be under way. */
    for (size_t i = 0; status == 0 && i < command->run_count; i++)
        if (command->runs[i].sealed == 0)
            status = pawl_run_settle(session, command->runs[i].run_id);
    return status;
}

static int say_no_runs(const struct run_command *command)
{
    pawl_note(command->cli, "no run: %s holds no line with an object of parameters", command->inputs.file);
    return tell_no_runs(command);
}

static int attach(struct run_command *command, struct pawl_session *session)
{
    uint64_t left = command->inputs.count - command->batch.done;
    note_batch(command);
    if (is_all_done(command))
        return tell_no_runs(command);
    struct pawl_attach_options options = {
        .window = command->many ? 2 * command->slots + 16 : 1,
        .runs_total = command->many ? left : 0,
        .runs_before = command->batch.done,
        .detach = command->options->detach,
        .resume_arguments = command->resume_arguments,
        .next = next_job,
        .context = command,
    };
    return pawl_attach(session, &options);
}

static int submit_and_wait(struct run_command *command)
{
    struct pawl_session session;
    int status = pawl_slots_choose(command->cli,
                                   command->options->jobs != 0 ? command->options->jobs : command->cli->jobs,
                                   &command->slots);
    if (status != 0)
        return status;
    status = pawl_session_open(command->cli, PAWL_STATE_CREATE, &session);
    if (status == 0)
        status = pawl_session_connect(&session, true);
    if (status == 0 && command->options->resume)
        status = list_runs(command, &session);
    if (status == 0 && command->many)
        status = make_batch(command);
    const struct pawl_wire_summary *done = NULL;
    int found = status == 0 ? find_done(command, &done) : -status;
    if (found == 1)
        status = pawl_tell_nothing_left(command->cli, done, command->options->detach);
    else if (found < 0)
        status = -found;
    else
        status = attach(command, &session);
    pawl_session_close(&session);
    return status;
}

static int run_run(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    static struct pawl_load_errors errors;
    const struct run_options *o = options;
    struct run_command command = {.cli = cli, .options = o, .file = operands[0], .many = o->inputs != NULL};
    int status = o->run_id != NULL ? pawl_run_id_check(cli, o->run_id, command.many ? 50 : 64) : 0;
    if (status != 0)
        return status;
    struct pawl_load_limits limits;
    status = pawl_cli_load_limits(cli, &limits);
    if (status != 0)
        return status;
    int error = pawl_cli_load_workflow(cli, command.file, &limits, &command.plan, &errors);
    if (error != 0)
        return pawl_fail_load(cli, command.file, error, &errors);
    pawl_resume_arguments(command.resume_arguments, o->jobs, pawl_option_given(cli->verb, o, "keep-going"),
                          o->keep_going);
    if (operand_count > 1)
        status = check_name(&command, operands[1]);
    if (status == 0)
        status = pawl_params_parse(cli, command.plan, &o->sets, &command.params);
    if (status == 0 && command.many)
        status = pawl_inputs_read(cli, o->inputs, command.plan, &command.params, &command.inputs);
    if (status == 0 && command.many && command.inputs.count == 0)
        status = say_no_runs(&command);
    else if (status == 0)
        status = o->dry_run ? dry_run(&command) : submit_and_wait(&command);
    pawl_run_batch_fini(&command.batch);
    pawl_inputs_fini(&command.inputs);
    pawl_params_fini(&command.params);
    pawl_plan_close(command.plan);
    free(command.runs);
    return status;
}

const struct pawl_verb pawl_verb_run = {
    .name = "run",
    .summary = "run a workflow, and go on with one",
    .operands = "FILE [WORKFLOW]",
    .examples = "pawl run build.yaml -j 8\n"
                "pawl run build.yaml --resume             go on after a failure, ^C, a crash\n"
                "pawl run train.yaml --inputs grid.jsonl  one run for each line",
    .notes = "^C once: start nothing new; twice: end what runs. Exit: 0 succeeded, 1 failed, 5 interrupted",
    .options = run_option_table,
    .options_bytes = sizeof(struct run_options),
    .operands_min = 1,
    .operands_max = 2,
    .run = run_run,
};
