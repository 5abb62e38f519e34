/*
 * workflow.c - workflows submitted, waited for, read.
 *
 * Runs in: the program that uses pawl.h. A run does not end with its submitter: whoever comes back finds it
 * by its id. Runs that have ended are read from their images, without the scheduler.
 */
#include "runtime/lib/lib.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "runtime/document.h"
#include "runtime/loader.h"
#include "runtime/run_output.h"
#include "runtime/submission.h"
#include "scheduler/arena.h"
#include "scheduler/run.h"
#include "shm/error.h"

#define CANCEL_GRACE_NS UINT64_C(10000000000)

/* ---- submit ---- */

static int fail_load(struct pawl *pawl, const char *file, int error, const struct pawl_load_errors *errors)
{
    if (errors->count == 0)
        return pawl_lib_fail(pawl, error, "%s: %s", file, pawl_error_text(error));
    const struct pawl_load_error *first = &errors->errors[0];
    char place[48] = "";
    if (first->line)
        snprintf(place, sizeof place, ":%u:%u", first->line, first->column);
    return pawl_lib_fail(pawl, error, "%s%s: %s%s%s%s", file, place, first->text, first->hint[0] ? " (" : "",
                         first->hint, first->hint[0] ? ")" : "");
}

static int bind_params(struct pawl *pawl, const struct pawl_plan *plan,
                       const struct pawl_run_options *options, struct pawl_plan **bound_out)
{
    struct pawl_arena arena;
    struct pawl_plan_bind_error why = {.text = ""};
    struct pawl_pair *pairs = calloc(options->param_count + 1, sizeof *pairs);
    int error = pairs ? 0 : -ENOMEM;
    pawl_arena_init(&arena, 0);
    for (size_t i = 0; i < options->param_count && !error; i++) {
        const char *text = options->params[i] ? options->params[i] : "", *equals = strchr(text, '=');
        if (!equals || equals == text) {
            error = pawl_lib_fail(pawl, PAWL_E_INVALID, "parameter '%.80s': write NAME=VALUE", text);
            goto free_arena;
        }
        pairs[i].key = text;
        pairs[i].key_bytes = (size_t)(equals - text);
        error = pawl_plan_parse_param(plan, text, pairs[i].key_bytes, equals + 1, strlen(equals + 1), &arena,
                                      &pairs[i].value, &why);
    }
    struct pawl_value map = {.kind = PAWL_VALUE_MAP, .count = options->param_count, .pairs = pairs};
    if (!error)
        error = pawl_plan_bind(plan, &map, bound_out, &why);
    if (error)
        pawl_lib_fail(pawl, error, "parameters: %s%s%s", why.text[0] ? why.text : pawl_error_text(error),
                      why.hint[0] ? "; " : "", why.hint);
free_arena:
    pawl_arena_fini(&arena);
    free(pairs);
    return error;
}

/* The newest of this identity that has not succeeded, among two. */
static void prefer(struct pawl_wire_summary *best, const struct pawl_wire_summary *other, uint64_t identity)
{
    if (other->identity == identity && other->state != PAWL_RUN_SUCCEEDED &&
        (best->run_id[0] == 0 || other->started_at_ns > best->started_at_ns))
        *best = *other;
}

static int find_to_resume(struct pawl *pawl, uint64_t identity, char run_id[PAWL_NAME_BYTES])
{
    struct pawl_wire_summary best = {0}, each;
    int error = pawl_lib_ask(pawl, PAWL_WIRE_RUNS, NULL, 0, NULL, 0, NULL, 0, PAWL_WIRE_RUNS_OK, 0, true,
                             PAWL_LIB_FOREVER);
    if (error)
        return error;
    for (size_t at = 0; at + sizeof each <= pawl->answer.header.bytes; at += sizeof each) {
        memcpy(&each, (const char *)pawl->answer.body + at, sizeof each);
        prefer(&best, &each, identity);
    }
    int copy = pawl->has_state ? openat(pawl->state.runs_dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    DIR *directory = copy >= 0 ? fdopendir(copy) : NULL;
    if (!directory && copy >= 0)
        close(copy);
    for (struct dirent *entry; directory && (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.' && pawl_ended_summary(pawl->state.runs_dirfd, entry->d_name, &each) == 0)
            prefer(&best, &each, identity);
    if (directory)
        closedir(directory);
    best.run_id[PAWL_NAME_BYTES - 1] = 0;
    memcpy(run_id, best.run_id, PAWL_NAME_BYTES);
    return 0;
}

static int submit(struct pawl *pawl, const struct pawl_plan *plan, const char *file,
                  const struct pawl_run_options *options, char *run_id_out)
{
    struct pawl_wire_submit request = {
        .flags = PAWL_SUBMIT_DETACH,
        .slots = options->slots ? options->slots : pawl_online_cpus(),
        .identity = pawl_identity(file, plan),
        .file_bytes = (uint32_t)strlen(file),
    };
    snprintf(request.workflow, sizeof request.workflow, "%.64s", pawl_plan_name(plan));
    int error = options->resume ? find_to_resume(pawl, request.identity, request.resume_id) : 0;
    if (error)
        return error;
    if (request.resume_id[0])
        memcpy(request.run_id, request.resume_id, sizeof request.run_id);
    else if (options->run_id)
        snprintf(request.run_id, sizeof request.run_id, "%.64s", options->run_id);
    else
        pawl_run_id_make(request.run_id);
    int fds[2] = {pawl_plan_memfd(plan), -1};
    fds[1] = fds[0] < 0 ? -1 : pawl_context_memfd();
    if (fds[0] < 0 || fds[1] < 0) {
        error = fds[0] < 0 ? fds[0] : fds[1];
        pawl_lib_fail(pawl, error, "cannot pack the run: %s", pawl_error_text(error));
    } else {
        error =
            pawl_lib_ask(pawl, PAWL_WIRE_SUBMIT, &request, sizeof request, file, request.file_bytes, fds, 2,
                         PAWL_WIRE_SUBMITTED, sizeof(struct pawl_wire_submitted), false, PAWL_LIB_FOREVER);
    }
    if (fds[0] >= 0)
        close(fds[0]);
    if (fds[1] >= 0)
        close(fds[1]);
    if (error)
        return error;
    struct pawl_wire_submitted submitted;
    memcpy(&submitted, pawl->answer.body, sizeof submitted);
    submitted.run_id[PAWL_NAME_BYTES - 1] = 0;
    memcpy(run_id_out, submitted.run_id, PAWL_NAME_BYTES);
    return 0;
}

int pawl_run_submit(struct pawl *pawl, const char *file, const struct pawl_run_options *given,
                    char *run_id_out)
{
    struct pawl_run_options options;
    struct pawl_plan *plan = NULL, *bound = NULL;
    int error = pawl_lib_check(pawl);
    if (!error)
        error = pawl_lib_need(pawl, file, "file");
    if (!error)
        error = pawl_lib_need(pawl, run_id_out, "run_id_out");
    if (!error)
        error = pawl_lib_options(pawl, "pawl_run_options", given, &options, sizeof options);
    if (!error && options.param_count > 0)
        error = pawl_lib_need(pawl, options.params, "params");
    if (error)
        return error;
    if (options.run_id && !pawl_run_id_is_good(options.run_id, 64))
        return pawl_lib_fail(pawl, PAWL_E_INVALID, "'%.80s' cannot be the name of a run", options.run_id);
    if (options.slots > PAWL_SLOTS_MAX)
        return pawl_lib_fail(pawl, PAWL_E_LIMIT, "%u slots: at most %d", options.slots, PAWL_SLOTS_MAX);
    struct pawl_load_errors *errors = calloc(1, sizeof *errors);
    if (!errors)
        return pawl_lib_fail(pawl, -ENOMEM, "no memory to load %s", file);
    error = pawl_workflow_load(file, NULL, &plan, errors);
    if (error)
        fail_load(pawl, file, error, errors);
    if (!error && options.workflow && strcmp(options.workflow, pawl_plan_name(plan)) != 0)
        error = pawl_lib_fail(pawl, PAWL_E_NOT_FOUND, "%s holds no workflow %.64s", file, options.workflow);
    if (!error)
        error = bind_params(pawl, plan, &options, &bound);
    if (!error)
        error = submit(pawl, bound, file, &options, run_id_out);
    pawl_plan_close(bound);
    pawl_plan_close(plan);
    free(errors);
    pawl_lib_arm(pawl);
    return error;
}

/* ---- wait ---- */

static int name_run(struct pawl *pawl, const char *run_id, char field[PAWL_NAME_BYTES])
{
    if (!run_id || !pawl_run_id_is_good(run_id, 64))
        return pawl_lib_fail(pawl, PAWL_E_INVALID, "'%.80s' cannot be the name of a run",
                             run_id ? run_id : "");
    memset(field, 0, PAWL_NAME_BYTES);
    memcpy(field, run_id, strlen(run_id));
    return 0;
}

static int wait_for_summary(struct pawl *pawl, const char *run_id, uint64_t deadline_ns,
                            struct pawl_wire_summary *summary_out)
{
    struct pawl_wire_run request;
    int error = name_run(pawl, run_id, request.run_id);
    if (error)
        return error;
    bool looks = deadline_ns == 0; /* nobody waits for the run: only for the answer */
    error =
        pawl_lib_ask(pawl, looks ? PAWL_WIRE_STATUS : PAWL_WIRE_WAIT, &request, sizeof request, NULL, 0, NULL,
                     0, PAWL_WIRE_SUMMARY, sizeof *summary_out, true, looks ? PAWL_LIB_FOREVER : deadline_ns);
    if (!error)
        memcpy(summary_out, pawl->answer.body, sizeof *summary_out);
    if (!error && looks && summary_out->state == PAWL_RUN_RUNNING)
        error = pawl_lib_fail(pawl, -ETIMEDOUT, "run %s still runs", run_id);
    else if (error == PAWL_E_NOT_FOUND && pawl->has_state &&
             pawl_ended_summary(pawl->state.runs_dirfd, run_id, summary_out) == 0)
        error = 0;
    return error;
}

int pawl_run_wait(struct pawl *pawl, const char *run_id, int timeout_ms, char **status_json_out)
{
    struct pawl_wire_summary summary = {0};
    int error = pawl_lib_check(pawl);
    if (status_json_out)
        *status_json_out = NULL;
    if (!error)
        error = wait_for_summary(pawl, run_id, pawl_lib_deadline(timeout_ms), &summary);
    if (pawl)
        pawl_lib_arm(pawl);
    if (error)
        return error;
    if (status_json_out) {
        json_t *status = pawl_summary_json(&summary);
        *status_json_out = json_dumps(status, JSON_COMPACT);
        json_decref(status);
        if (!*status_json_out)
            return pawl_lib_fail(pawl, -ENOMEM, "no memory for the run's status");
    }
    if (summary.state == PAWL_RUN_SUCCEEDED)
        return 0;
    return pawl_lib_fail(pawl, PAWL_E_STATE, "run %s: %s", run_id, pawl_run_state_name(summary.state));
}

int pawl_run_cancel(struct pawl *pawl, const char *run_id)
{
    struct pawl_wire_cancel request = {.mode = PAWL_CANCEL_CANCEL, .grace_ns = CANCEL_GRACE_NS};
    int error = pawl_lib_check(pawl);
    if (!error)
        error = name_run(pawl, run_id, request.run_id);
    if (!error)
        error = pawl_lib_ask(pawl, PAWL_WIRE_CANCEL, &request, sizeof request, NULL, 0, NULL, 0, PAWL_WIRE_OK,
                             0, true, PAWL_LIB_FOREVER);
    if (pawl)
        pawl_lib_arm(pawl);
    return error;
}

/* ---- output ---- */

/* @bytes of a stream, copied; one more byte is allocated than counts, and is 0. */
static int copy_out(struct pawl *pawl, const char *bytes, size_t n, void **output_out, size_t *bytes_out)
{
    char *copy = malloc(n + 1);
    if (!copy)
        return pawl_lib_fail(pawl, -ENOMEM, "no memory for %zu bytes of output", n);
    if (n > 0)
        memcpy(copy, bytes, n);
    copy[n] = 0;
    *output_out = copy;
    *bytes_out = n;
    return 0;
}

int pawl_run_output(struct pawl *pawl, const char *run_id, const char *step, uint64_t instance,
                    void **output_out, size_t *bytes_out)
{
    struct pawl_wire_logs request = {.instance = instance};
    struct {
        struct pawl_wire_results head;
        struct pawl_wire_result result;
    } fixed;
    int error = pawl_lib_check(pawl);
    if (!error)
        error = pawl_lib_need(pawl, output_out, "output_out");
    if (!error)
        error = pawl_lib_need(pawl, bytes_out, "bytes_out");
    if (!error)
        error = name_run(pawl, run_id, request.run_id);
    if (!error)
        error = pawl_lib_name(pawl, "step", step, request.step);
    if (error)
        return error;
    error = pawl_lib_ask(pawl, PAWL_WIRE_LOGS, &request, sizeof request, NULL, 0, NULL, 0, PAWL_WIRE_RESULTS,
                         sizeof fixed, true, PAWL_LIB_FOREVER);
    char *text = NULL;
    if (error == PAWL_E_NOT_FOUND && pawl->has_state) {
        error = pawl_ended_output(pawl->state.runs_dirfd, run_id, step, instance, &text, bytes_out);
        if (error)
            pawl_lib_fail(pawl, error, "output of step %s of run %s: %s", step, run_id,
                          pawl_error_text(error));
        *output_out = text;
    } else if (!error) {
        memcpy(&fixed, pawl->answer.body, sizeof fixed);
        const char *bytes = (const char *)pawl->answer.body + sizeof fixed;
        size_t n = fixed.result.stdout_bytes;
        if (fixed.head.count != 1 || n > pawl->answer.header.bytes - sizeof fixed) {
            error = pawl_lib_fail(pawl, PAWL_E_BAD_MESSAGE, "the scheduler's answer does not hold");
        } else if (fixed.result.flags & PAWL_RESULT_STDOUT_FILE) {
            struct pawl_wire_files files;
            pawl_output_files((const char *)pawl->answer.body + sizeof fixed.head,
                              pawl->answer.header.bytes - sizeof fixed.head, &files);
            error = !pawl->has_state
                        ? PAWL_E_NOT_FOUND
                        : pawl_read_output(pawl->state.runs_dirfd, run_id, bytes, n, files.stdout_bytes,
                                           files.stdout_xxh3, &text, bytes_out);
            if (error)
                pawl_lib_fail(pawl, error, "output of step %s of run %s cannot be read: %s", step, run_id,
                              pawl_error_text(error));
            *output_out = text;
        } else {
            error = copy_out(pawl, bytes, n, output_out, bytes_out);
        }
    }
    pawl_lib_arm(pawl);
    return error;
}
