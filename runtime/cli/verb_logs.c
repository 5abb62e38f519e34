/*
 * verb_logs.c - `pawl logs`: what a step printed, byte for byte, also while it runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/copy.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/run_view.h"
#include "runtime/cli/spool.h"
#include "runtime/cli/verbs.h"
#include "scheduler/run.h"
#include "shm/error.h"

struct logs_options {
    uint64_t given;
    uint64_t item, attempt;
    bool errors, follow;
};

static const struct pawl_option logs_option_table[] = {
    {'i', "item", "INDEX", "which instance of a step with foreach or matrix, from 0", PAWL_OPTION_COUNT,
     offsetof(struct logs_options, item), 0, 0},
    {0, "attempt", "N", "which attempt (default: the newest)", PAWL_OPTION_COUNT,
     offsetof(struct logs_options, attempt), 1, UINT32_MAX},
    {0, "stderr", NULL, "standard error instead of standard output", PAWL_OPTION_FLAG,
     offsetof(struct logs_options, errors), 0, 0},
    {'f', "follow", NULL, "while it runs, print what comes, until it has ended", PAWL_OPTION_FLAG,
     offsetof(struct logs_options, follow), 0, 0},
    {0},
};

struct logs {
    const struct pawl_cli *cli;
    const struct logs_options *options;
    struct pawl_run_view *view;
    const char *name;
    uint32_t step;
};

/* The stream of an ended attempt, from a byte on. Return: 0 or -errno, PAWL_E_NOT_FOUND, PAWL_E_STATE. */
static int print_result(struct logs *logs, uint64_t instance, uint32_t attempt, uint64_t from)
{
    struct pawl_result_view result = {.bytes = NULL};
    int error = pawl_run_view_result(logs->view, logs->name, logs->step, instance, attempt, &result);
    if (error != 0)
        return error;
    const struct pawl_wire_result *fixed = &result.fixed;
    bool errors = logs->options->errors;
    const char *bytes = errors ? result.bytes + fixed->stdout_bytes : result.bytes;
    size_t n = errors ? fixed->stderr_bytes : fixed->stdout_bytes;
    uint32_t file = errors ? PAWL_RESULT_STDERR_FILE : PAWL_RESULT_STDOUT_FILE;
    if ((fixed->flags & file) == 0) {
        error = from < n ? pawl_write_all(STDOUT_FILENO, bytes + from, n - from) : 0;
    } else {
        int fd =
            pawl_open_output(logs->view->session->state.runs_dirfd, logs->view->summary.run_id, bytes, n);
        const struct pawl_output_file *mark = errors ? &result.stderr_file : &result.stdout_file;
        error = fd < 0 ? fd : 0;
        if (error == 0 && mark->bytes > 0) /* 0: told by a scheduler of before, not known */
            error = pawl_check_output(fd, mark);
        int64_t copied = error < 0 ? error : pawl_copy_file(fd, from, UINT64_MAX, STDOUT_FILENO);
        error = copied < 0 ? (int)copied : 0;
        if (fd >= 0)
            close(fd);
    }
    free(result.bytes);
    return error;
}

static int fail_result(struct logs *logs, uint64_t instance, int error)
{
    const struct pawl_cli *cli = logs->cli;
    const char *run = logs->view->summary.run_id;
    char why[192];
    snprintf(why, sizeof why, "see pawl why %.64s %.64s", run, logs->name);
    if (error == -EPIPE)
        return PAWL_EXIT_FAILED;
    if (error == PAWL_E_STATE)
        return pawl_fail(cli, PAWL_EXIT_FAILED, "state", why,
                         "step %s of run %s has no output: no attempt of it has ended", logs->name, run);
    if (error == PAWL_E_NOT_FOUND && logs->options->attempt != 0)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "not_found", "see pawl steps",
                         "step %s [%" PRIu64 "] of run %s has no attempt %" PRIu64 " on record", logs->name,
                         instance, run, logs->options->attempt);
    if (error == PAWL_E_NOT_FOUND)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "not_found", "see pawl steps",
                         "step %s of run %s has no instance %" PRIu64, logs->name, run, instance);
    if (error == -ENOSPC || error == -EDQUOT || error == -EFBIG) /* of writing: reading has none of them */
        return pawl_fail_error(cli, PAWL_EXIT_FAILED, error, NULL, "standard output");
    return pawl_fail_error(cli, error == PAWL_E_DAMAGED ? PAWL_EXIT_DAMAGED : PAWL_EXIT_FAILED, error, NULL,
                           "output of step %s", logs->name);
}

/* What an attempt that runs has printed so far. Return: 1 when it runs, 0 when not, or -errno. */
static int print_running(struct logs *logs, uint64_t instance)
{
    struct pawl_spool spool;
    if (logs->view->image != NULL || !pawl_spool_find(logs->view, logs->step, instance, &spool))
        return 0;
    if (logs->options->attempt != 0 && spool.attempt != logs->options->attempt)
        return 0;
    uint64_t offset = 0;
    int got = pawl_spool_copy(logs->view, &spool, logs->options->errors, &offset, STDOUT_FILENO);
    return got < 0 ? got : 1;
}

static int print_one(struct logs *logs, uint64_t instance)
{
    int error = print_running(logs, instance);
    if (error == 0)
        error = print_result(logs, instance, (uint32_t)logs->options->attempt, 0);
    return error < 0 ? fail_result(logs, instance, error) : 0;
}

/* ---- -f ---- */

struct found_step {
    uint32_t step;
    uint64_t instance;
    struct pawl_wire_step fixed;
    bool found;
};

static int find_instance(void *context, const struct pawl_step_view *step)
{
    struct found_step *found = context;
    if (step->fixed.step != found->step || step->fixed.instance != found->instance)
        return 0;
    found->fixed = step->fixed;
    found->found = true;
    return 1;
}

/* The result of an attempt that has just ended: it may take a moment until it is durable. */
static int print_rest(struct logs *logs, uint64_t instance, uint32_t attempt, uint64_t from)
{
    int error = 0;
    for (int tries = 0; tries < 200; tries++) {
        error = print_result(logs, instance, attempt, from);
        if (error != PAWL_E_STATE && error != PAWL_E_NOT_FOUND)
            return error;
        poll(NULL, 0, 50);
    }
    return error;
}

static int follow(struct logs *logs, uint64_t instance)
{
    uint32_t told = 0; /* attempts printed to their end */
    for (;;) {
        struct pawl_spool spool;
        uint64_t offset = 0;
        while (logs->view->image == NULL && pawl_spool_find(logs->view, logs->step, instance, &spool) &&
               spool.attempt > told) {
            uint32_t attempt = spool.attempt;
            int got;
            while ((got = pawl_spool_copy(logs->view, &spool, logs->options->errors, &offset,
                                          STDOUT_FILENO)) >= 0 &&
                   pawl_spool_is_same(logs->view, &spool))
                poll(NULL, 0, 50);
            int error = got < 0 ? got : print_rest(logs, instance, attempt, offset);
            if (error != 0)
                return fail_result(logs, instance, error);
            told = attempt;
            offset = 0;
        }
        struct found_step at = {.step = logs->step, .instance = instance};
        int error = pawl_run_view_each(logs->view, 0, find_instance, &at);
        if (error < 0 || !at.found)
            return fail_result(logs, instance, error < 0 ? error : PAWL_E_NOT_FOUND);
        bool over = pawl_step_state_is_final(at.fixed.state) || logs->view->image != NULL;
        if (over && at.fixed.attempts > told) {
            error = print_result(logs, instance, 0, 0);
            return error != 0 ? fail_result(logs, instance, error) : 0;
        }
        if (over)
            return 0;
        poll(NULL, 0, 100);
    }
}

/* ---- the verb ---- */

struct every {
    uint64_t *instances;
    size_t count, room;
    uint32_t step;
};

static int collect_instance(void *context, const struct pawl_step_view *step)
{
    struct every *every = context;
    if (step->fixed.step != every->step || step->fixed.attempts == 0)
        return 0;
    if (every->count == every->room) {
        size_t room = every->room * 2 + 64;
        uint64_t *instances = realloc(every->instances, room * sizeof *instances);
        if (instances == NULL)
            return 1;
        every->instances = instances;
        every->room = room;
    }
    every->instances[every->count++] = step->fixed.instance;
    return 0;
}

/* All instances of a step, in order. */
static int print_every(struct logs *logs)
{
    struct every every = {.step = logs->step};
    int error = pawl_run_view_each(logs->view, 0, collect_instance, &every);
    int status = error < 0 ? fail_result(logs, 0, error) : 0;
    if (status == 0 && every.count == 0)
        status = fail_result(logs, 0, PAWL_E_STATE);
    for (size_t i = 0; i < every.count && status == 0; i++)
        status = print_one(logs, every.instances[i]);
    free(every.instances);
    return status;
}

static int show_logs(struct logs *logs, const struct pawl_cli *cli)
{
    int step = pawl_run_view_step(logs->view, logs->name);
    if (step < 0)
        return -step;
    logs->step = (uint32_t)step;
    bool many = pawl_step_is_many(pawl_plan_step(logs->view->plan, logs->step));
    bool chosen = pawl_option_given(cli->verb, logs->options, "item");
    if (logs->options->follow && many && !chosen)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "say which: --item INDEX",
                         "step %s has many instances", logs->name);
    if (logs->options->follow)
        return follow(logs, logs->options->item);
    return many && !chosen ? print_every(logs) : print_one(logs, logs->options->item);
}

static int run_logs(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    struct pawl_session session;
    struct pawl_run_view view;
    int status = pawl_run_view_of(cli, operands[0], &session, &view);
    if (status != 0)
        return status;
    struct logs logs = {.cli = cli, .options = options, .view = &view, .name = operands[1]};
    status = show_logs(&logs, cli);
    pawl_run_view_close(&view);
    pawl_session_close(&session);
    return status;
}

const struct pawl_verb pawl_verb_logs = {
    .name = "logs",
    .summary = "what a step printed",
    .operands = "RUN STEP",
    .examples = "pawl logs last total\n"
                "pawl logs nightly compile --item 17 --attempt 1 --stderr\n"
                "pawl logs last train -f",
    .notes = "RUN is an id, or last. Without --item: all instances, in order",
    .options = logs_option_table,
    .options_bytes = sizeof(struct logs_options),
    .operands_min = 2,
    .operands_max = 2,
    .run = run_logs,
};
