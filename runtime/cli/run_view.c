/*
 * run_view.c - one run as the reading verbs see it.
 *
 * Runs in: the command. Opens images read-only; asks the scheduler with blocking calls.
 */
#include "runtime/cli/run_view.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/cli/errors.h"
#include "runtime/run_output.h"
#include "runtime/suggest.h"
#include "scheduler/reopened.h"
#include "scheduler/run.h"
#include "shm/error.h"

/* ---- all runs ---- */

struct run_list {
    struct pawl_wire_summary *runs;
    size_t count, room, live_count;
    bool unsealed; /* a directory was seen whose image is not there, or not the last word */
};

static int add_run(struct run_list *list, const struct pawl_wire_summary *summary)
{
    if (list->count == list->room) {
        size_t room = list->room * 2 + 64;
        struct pawl_wire_summary *runs = realloc(list->runs, room * sizeof *runs);
        if (runs == NULL)
            return -ENOMEM;
        list->runs = runs;
        list->room = room;
    }
    list->runs[list->count++] = *summary;
    return 0;
}

/* Those that the scheduler holds. Return: 0 or a printed exit code. */
static int add_live(struct pawl_session *session, struct run_list *list)
{
    struct pawl_wire_message reply;
    int exit_code = pawl_session_call(session, PAWL_WIRE_RUNS, NULL, 0, PAWL_WIRE_RUNS_OK, 0, &reply);
    if (exit_code != 0)
        return exit_code;
    size_t count = reply.header.bytes / sizeof(struct pawl_wire_summary);
    const struct pawl_wire_summary *summaries = reply.body;
    for (size_t i = 0; i < count; i++) {
        struct pawl_wire_summary summary = summaries[i];
        summary.run_id[PAWL_NAME_BYTES - 1] = summary.workflow[PAWL_NAME_BYTES - 1] = '\0';
        if (add_run(list, &summary) != 0)
            return pawl_fail(session->cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
    }
    list->live_count = list->count;
    return 0;
}

static bool is_live(const struct run_list *list, const char *run_id)
{
    for (size_t i = 0; i < list->live_count; i++)
        if (strcmp(list->runs[i].run_id, run_id) == 0)
            return true;
    return false;
}

/* Those with an image. @serves: the others are in the list. Return: 0 or -errno. */
static int add_sealed(struct pawl_session *session, bool serves, struct run_list *list)
{
    if (session->state.runs_dirfd < 0)
        return 0;
    int copy = openat(session->state.runs_dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (copy < 0)
        return -errno;
    DIR *dir = fdopendir(copy);
    if (dir == NULL) {
        int error = -errno;
        close(copy);
        return error;
    }
    int error = 0;
    for (struct dirent *entry; error == 0 && (entry = readdir(dir)) != NULL;) {
        struct pawl_wire_summary summary;
        if (entry->d_name[0] == '.' || is_live(list, entry->d_name))
            continue;
        int found = serves ? pawl_image_summary(session->state.runs_dirfd, entry->d_name, &summary)
                           : pawl_image_last_word(session->state.runs_dirfd, entry->d_name, &summary);
        if (found == -ENOENT)
            list->unsealed = true;
        else if (found == 0)
            error = add_run(list, &summary);
        else
            fprintf(stderr, "pawl: runs/%s/image: %s\n", entry->d_name, pawl_error_text(found));
    }
    closedir(dir);
    return error;
}

static int newest_first(const void *a, const void *b)
{
    const struct pawl_wire_summary *x = a, *y = b;
    if (x->started_at_ns != y->started_at_ns)
        return x->started_at_ns < y->started_at_ns ? 1 : -1;
    return strcmp(y->run_id, x->run_id);
}

int pawl_runs_list(struct pawl_session *session, struct pawl_wire_summary **runs_out, size_t *count_out)
{
    struct run_list list = {0};
    int status = pawl_session_connect(session, false);
    bool serves = status == 0;
    if (status == -ENOENT)
        status = 0;
    if (status == 0 && serves)
        status = add_live(session, &list);
    int error = status == 0 ? add_sealed(session, serves, &list) : 0;
    if (status == 0 && error == 0 && list.unsealed && !serves) {
        status = pawl_session_connect(session, true);
        list.count = 0;
        if (status == 0)
            status = add_live(session, &list);
        if (status == 0)
            error = add_sealed(session, true, &list);
    }
    if (error != 0)
        status =
            pawl_fail_error(session->cli, PAWL_EXIT_UNREACHABLE, error, NULL, "%s/runs", session->state.path);
    if (status != 0) {
        free(list.runs);
        return status;
    }
    if (list.count != 0)
        qsort(list.runs, list.count, sizeof *list.runs, newest_first);
    *runs_out = list.runs;
    *count_out = list.count;
    return 0;
}

int pawl_runs_last(struct pawl_session *session, char run_id[PAWL_NAME_BYTES])
{
    struct pawl_wire_summary *runs = NULL;
    size_t count = 0;
    int status = pawl_runs_list(session, &runs, &count);
    if (status == 0 && count == 0)
        status = pawl_fail(session->cli, PAWL_EXIT_FAILED, "not_found", "start one: pawl run FILE",
                           "no runs here: %s", session->state.path);
    if (status == 0)
        pawl_session_copy_name(run_id, runs[0].run_id);
    free(runs);
    return status;
}

/* ---- one run ---- */

static int ask_summary(struct pawl_session *session, const char *run_id,
                       struct pawl_wire_summary *summary_out, struct pawl_error_report *report_out)
{
    struct pawl_wire_run request;
    struct pawl_wire_message reply;
    pawl_session_copy_name(request.run_id, run_id);
    int error = pawl_session_ask(session, PAWL_WIRE_STATUS, &request, sizeof request, NULL, 0,
                                 PAWL_WIRE_SUMMARY, sizeof *summary_out, &reply, report_out);
    if (error == 0)
        memcpy(summary_out, reply.body, sizeof *summary_out);
    return error;
}

static int open_image(struct pawl_session *session, const char *run_id, struct pawl_run_view *view_out)
{
    if (session->state.runs_dirfd < 0)
        return -ENOENT;
    int error = pawl_image_open(session->state.runs_dirfd, run_id, &view_out->image);
    if (error == 0)
        pawl_image_get_summary(view_out->image, &view_out->summary);
    return error;
}

static bool may_be_a_run(const char *name)
{
    size_t n = strlen(name);
    return n != 0 && n <= 64 && name[0] != '.' && strchr(name, '/') == NULL;
}

/* Has it a directory? (Then it is of the journal, when there is no image that is the last word.) */
static bool has_directory(struct pawl_session *session, const char *run_id)
{
    struct stat status;
    return session->state.runs_dirfd >= 0 && fstatat(session->state.runs_dirfd, run_id, &status, 0) == 0;
}

/* *report_out: of an error that the scheduler, or its silence, is the reason of. */
static int find_view(struct pawl_session *session, const char *run_id, struct pawl_run_view *view_out,
                     struct pawl_error_report *report_out)
{
    int error = 0;
    memset(view_out, 0, sizeof *view_out);
    memset(report_out, 0, sizeof *report_out);
    view_out->session = session;
    if (!may_be_a_run(run_id))
        return PAWL_E_NOT_FOUND;
    if (!session->connected) {
        error = pawl_client_open(&session->state, false, &session->wire, &session->welcome, report_out);
        if (error == 0)
            pawl_session_connected(session);
    }
    if (session->connected) {
        error = ask_summary(session, run_id, &view_out->summary, report_out);
        if (error == 0)
            return 0;
    }
    bool silent = error == -ETIMEDOUT;
    bool asks = (silent || !session->connected) && pawl_reopened_is(session->state.runs_dirfd, run_id);
    error = asks ? -ENOENT : open_image(session, run_id, view_out);
    if (error != -ENOENT)
        return error;
    if (silent)
        return -ETIMEDOUT;
    if (session->connected || !has_directory(session, run_id))
        return PAWL_E_NOT_FOUND;
    error = pawl_client_open(&session->state, true, &session->wire, &session->welcome, report_out);
    if (error != 0)
        return error;
    pawl_session_connected(session);
    error = ask_summary(session, run_id, &view_out->summary, report_out);
    if (error == PAWL_E_NOT_FOUND && open_image(session, run_id, view_out) == 0)
        return 0;
    return error;
}

int pawl_run_view_find(struct pawl_session *session, const char *run_id, struct pawl_run_view *view_out)
{
    struct pawl_error_report report;
    return find_view(session, run_id, view_out, &report);
}

static int no_such_run(struct pawl_session *session, const char *name)
{
    struct pawl_wire_summary *runs = NULL;
    size_t count = 0;
    char hint[128] = "see pawl runs";
    int status = pawl_runs_list(session, &runs, &count);
    if (status != 0)
        return status;
    struct pawl_suggest suggest;
    pawl_suggest_init(&suggest, name, strlen(name));
    for (size_t i = 0; i < count; i++)
        pawl_suggest_offer(&suggest, runs[i].run_id, strlen(runs[i].run_id));
    if (suggest.best != NULL)
        snprintf(hint, sizeof hint, "did you mean %.*s?", (int)suggest.best_bytes, suggest.best);
    free(runs);
    return pawl_fail(session->cli, PAWL_EXIT_USAGE, "not_found", hint, "no such run: %.80s (in %s)", name,
                     session->state.path);
}

int pawl_run_view_open(struct pawl_session *session, const char *name, struct pawl_run_view *view_out)
{
    char last[PAWL_NAME_BYTES];
    if (strcmp(name, "last") == 0) {
        int status = pawl_runs_last(session, last);
        if (status != 0)
            return status;
        name = last;
    }
    struct pawl_error_report report;
    int error = find_view(session, name, view_out, &report);
    if (error == 0)
        return 0;
    if (error == PAWL_E_NOT_FOUND)
        return no_such_run(session, name);
    if (error == -ETIMEDOUT)
        return pawl_fail_report(session->cli, &report);
    int exit_code = error == PAWL_E_DAMAGED ? PAWL_EXIT_DAMAGED : PAWL_EXIT_UNREACHABLE;
    return pawl_fail_error(session->cli, exit_code, error, NULL, "run %.64s", name);
}

int pawl_run_view_of(const struct pawl_cli *cli, const char *name, struct pawl_session *session_out,
                     struct pawl_run_view *view_out)
{
    int status = pawl_session_open(cli, PAWL_STATE_EXISTING, session_out);
    if (status == -ENOENT)
        return pawl_fail_no_state(cli);
    if (status != 0)
        return status;
    status = pawl_run_view_open(session_out, name, view_out);
    if (status != 0)
        pawl_session_close(session_out);
    return status;
}

void pawl_run_view_close(struct pawl_run_view *view)
{
    pawl_plan_close(view->plan);
    if (view->image != NULL)
        pawl_image_close(view->image);
    view->plan = NULL;
    view->image = NULL;
}

int pawl_run_settle(struct pawl_session *session, const char *run_id)
{
    struct pawl_wire_summary summary;
    struct pawl_error_report report;
    const bool was_connected = session->connected;
    bool ends = was_connected;
    for (int tries = 0; tries < 1000 && ends; tries++) {
        if (ask_summary(session, run_id, &summary, &report) != 0)
            break; /* sealed and gone, or the scheduler is */
        ends = summary.state == PAWL_RUN_SUCCEEDED || summary.state == PAWL_RUN_FAILED ||
               summary.state == PAWL_RUN_CANCELLED;
        if (ends)
            poll(NULL, 0, 5);
    }
    return was_connected ? pawl_session_connect(session, true) : 0;
}

/* ---- parts of it ---- */

/* The run was sealed since it was found: go on with its image. */
static bool turn_to_image(struct pawl_run_view *view)
{
    struct pawl_run_view sealed = {.session = view->session};
    if (open_image(view->session, view->summary.run_id, &sealed) != 0)
        return false;
    view->image = sealed.image;
    view->summary = sealed.summary;
    return true;
}

/* Return: 0 with an open plan, or turned to the image; a printed exit code. */
static int plan_of_scheduler(struct pawl_run_view *view)
{
    struct pawl_wire_run request;
    struct pawl_wire_message reply;
    struct pawl_error_report report;
    memcpy(request.run_id, view->summary.run_id, sizeof request.run_id);
    int error = pawl_session_ask(view->session, PAWL_WIRE_PLAN, &request, sizeof request, NULL, 0,
                                 PAWL_WIRE_PLAN_OK, 0, &reply, &report);
    if (error == PAWL_E_NOT_FOUND && turn_to_image(view))
        return 0;
    if (error != 0)
        return pawl_fail_report(view->session->cli, &report);
    struct stat about;
    const char *why = "it came without a descriptor";
    error = PAWL_E_BAD_MESSAGE;
    if (reply.header.fd_count == 1 && fstat(reply.fds[0], &about) == 0 && about.st_size > 0) {
        size_t bytes = (size_t)about.st_size;
        void *blob = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, reply.fds[0], 0);
        if (blob != MAP_FAILED) {
            error = pawl_plan_open_copy(blob, bytes, NULL, &view->plan, &why);
            munmap(blob, bytes);
        }
    }
    return error == 0 ? 0
                      : pawl_fail(view->session->cli, PAWL_EXIT_INTERNAL, "bad_message", NULL,
                                  "the plan of run %s does not hold: %s", view->summary.run_id, why);
}

static int plan_of_image(struct pawl_run_view *view)
{
    size_t bytes = 0;
    const char *why = NULL;
    const void *blob = pawl_image_plan(view->image, &bytes);
    int error = pawl_plan_open_copy(blob, bytes, NULL, &view->plan, &why);
    return error == 0 ? 0
                      : pawl_fail(view->session->cli, PAWL_EXIT_DAMAGED, "damaged", NULL,
                                  "the plan of run %s does not hold: %s", view->summary.run_id,
                                  why != NULL ? why : pawl_error_text(error));
}

int pawl_run_view_plan(struct pawl_run_view *view)
{
    int status = 0;
    if (view->plan == NULL && view->image == NULL)
        status = plan_of_scheduler(view);
    if (status == 0 && view->plan == NULL)
        status = plan_of_image(view);
    return status;
}

int pawl_run_view_step(struct pawl_run_view *view, const char *name)
{
    int status = pawl_run_view_plan(view);
    if (status != 0)
        return -status;
    uint32_t index = pawl_plan_find_step(view->plan, name, strlen(name));
    if (index != PAWL_PLAN_NONE)
        return (int)index;
    struct pawl_suggest suggest;
    char hint[160];
    pawl_suggest_init(&suggest, name, strlen(name));
    for (uint32_t i = 0; i < pawl_plan_step_count(view->plan); i++) {
        const char *candidate = pawl_plan_step_name(view->plan, i);
        pawl_suggest_offer(&suggest, candidate, strlen(candidate));
    }
    if (suggest.best != NULL)
        snprintf(hint, sizeof hint, "did you mean %.*s?", (int)suggest.best_bytes, suggest.best);
    else
        snprintf(hint, sizeof hint, "see pawl steps %s", view->summary.run_id);
    return -pawl_fail(view->session->cli, PAWL_EXIT_USAGE, "not_found", hint, "run %s has no step %.64s",
                      view->summary.run_id, name);
}

/* Checks a record's sizes; 0 when it does not hold. */
static size_t step_record(const char *at, size_t left, struct pawl_step_view *view_out)
{
    struct pawl_wire_step fixed;
    if (left < sizeof fixed)
        return 0;
    memcpy(&fixed, at, sizeof fixed);
    uint64_t text = (uint64_t)fixed.name_bytes + fixed.item_bytes + fixed.reason_bytes;
    uint64_t bytes = (sizeof fixed + text + 7) & ~UINT64_C(7);
    if (bytes > left || fixed.name_bytes >= PAWL_NAME_BYTES)
        return 0;
    memset(view_out, 0, sizeof *view_out);
    view_out->fixed = fixed;
    view_out->name = at + sizeof fixed;
    view_out->item = at + sizeof fixed + fixed.name_bytes;
    size_t reason =
        fixed.reason_bytes < sizeof view_out->reason ? fixed.reason_bytes : sizeof view_out->reason - 1;
    memcpy(view_out->reason, view_out->item + fixed.item_bytes, reason);
    return (size_t)bytes;
}

/* @cursor: 0, or where the scheduler's pages ended: both count alike. */
static int each_of_image(struct pawl_run_view *view, uint64_t cursor, uint32_t state_mask,
                         int (*each)(void *context, const struct pawl_step_view *step), void *context)
{
    struct pawl_step_view step;
    int got = 0, stop = 0;
    while (stop == 0 && (got = pawl_image_step_next(view->image, &cursor, state_mask, &step)) == 1)
        stop = each(context, &step);
    return stop != 0 ? stop : got;
}

static int each_of_scheduler(struct pawl_run_view *view, uint32_t state_mask,
                             int (*each)(void *context, const struct pawl_step_view *step), void *context)
{
    struct pawl_wire_steps request = {.state_mask = state_mask};
    memcpy(request.run_id, view->summary.run_id, sizeof request.run_id);
    for (;;) {
        struct pawl_wire_message reply;
        struct pawl_error_report report;
        struct pawl_wire_steps_ok fixed;
        int error = pawl_session_ask(view->session, PAWL_WIRE_STEPS, &request, sizeof request, NULL, 0,
                                     PAWL_WIRE_STEPS_OK, sizeof fixed, &reply, &report);
        if (error == PAWL_E_NOT_FOUND && turn_to_image(view)) /* sealed since the last page */
            return each_of_image(view, request.from, state_mask, each, context);
        if (error != 0)
            return error;
        memcpy(&fixed, reply.body, sizeof fixed);
        const char *at = (const char *)reply.body + sizeof fixed;
        size_t left = reply.header.bytes - sizeof fixed;
        for (uint32_t i = 0; i < fixed.count; i++) {
            struct pawl_step_view step;
            char name[PAWL_NAME_BYTES];
            size_t bytes = step_record(at, left, &step);
            if (bytes == 0)
                return PAWL_E_BAD_MESSAGE;
            memcpy(name, step.name, step.fixed.name_bytes);
            name[step.fixed.name_bytes] = '\0';
            step.name = name;
            int stop = each(context, &step);
            if (stop != 0)
                return stop;
            at += bytes;
            left -= bytes;
        }
        if (fixed.end != 0)
            return 0;
        if (fixed.next == request.from)
            return PAWL_E_BAD_MESSAGE; /* no progress: never ask for ever */
        request.from = fixed.next;
    }
}

int pawl_run_view_each(struct pawl_run_view *view, uint32_t state_mask,
                       int (*each)(void *context, const struct pawl_step_view *step), void *context)
{
    if (view->image == NULL)
        return each_of_scheduler(view, state_mask, each, context);
    return each_of_image(view, 0, state_mask, each, context);
}

static void fill_logs(const struct pawl_run_view *view, const char *step_name, uint64_t instance,
                      uint32_t attempt, struct pawl_wire_logs *request_out)
{
    memset(request_out, 0, sizeof *request_out);
    memcpy(request_out->run_id, view->summary.run_id, sizeof request_out->run_id);
    pawl_session_copy_name(request_out->step, step_name);
    request_out->instance = instance;
    request_out->attempt = attempt;
}

int pawl_run_view_result(struct pawl_run_view *view, const char *step_name, uint32_t step, uint64_t instance,
                         uint32_t attempt, struct pawl_result_view *result_out)
{
    if (view->image != NULL)
        return pawl_image_result(view->image, step, instance, attempt, true, result_out);
    struct pawl_wire_logs request;
    struct pawl_wire_message reply;
    struct pawl_error_report report;
    fill_logs(view, step_name, instance, attempt, &request);
    int error = pawl_session_ask(view->session, PAWL_WIRE_LOGS, &request, sizeof request, NULL, 0,
                                 PAWL_WIRE_RESULTS, sizeof(struct pawl_wire_results), &reply, &report);
    if (error == PAWL_E_NOT_FOUND && turn_to_image(view))
        return pawl_image_result(view->image, step, instance, attempt, true, result_out);
    if (error != 0)
        return error;
    const char *at = (const char *)reply.body + sizeof(struct pawl_wire_results);
    size_t left = reply.header.bytes - sizeof(struct pawl_wire_results);
    if (left < sizeof result_out->fixed)
        return PAWL_E_NOT_FOUND;
    memcpy(&result_out->fixed, at, sizeof result_out->fixed);
    uint64_t bytes = (uint64_t)result_out->fixed.stdout_bytes + result_out->fixed.stderr_bytes +
                     result_out->fixed.named_bytes;
    if (bytes > left - sizeof result_out->fixed)
        return PAWL_E_BAD_MESSAGE;
    result_out->bytes = malloc(bytes + 1);
    if (result_out->bytes == NULL)
        return -ENOMEM;
    memcpy(result_out->bytes, at + sizeof result_out->fixed, bytes);
    struct pawl_wire_files files;
    pawl_output_files(at, left, &files);
    result_out->stdout_file = (struct pawl_output_file){files.stdout_bytes, files.stdout_xxh3};
    result_out->stderr_file = (struct pawl_output_file){files.stderr_bytes, files.stderr_xxh3};
    return 0;
}

static int why_of_image(struct pawl_run_view *view, uint32_t step, uint64_t instance, char **text_out)
{
    enum { ROOM = 64 << 10 };
    char *text = calloc(1, ROOM);
    int error = text == NULL ? -ENOMEM : pawl_image_why(view->image, step, instance, text, ROOM);
    if (error < 0) {
        free(text);
        return error;
    }
    *text_out = text;
    return 0;
}

int pawl_run_view_why(struct pawl_run_view *view, const char *step_name, uint32_t step, uint64_t instance,
                      char **text_out)
{
    if (view->image != NULL)
        return why_of_image(view, step, instance, text_out);
    struct pawl_wire_logs request;
    struct pawl_wire_message reply;
    struct pawl_error_report report;
    fill_logs(view, step_name, instance, 0, &request);
    int error = pawl_session_ask(view->session, PAWL_WIRE_WHY, &request, sizeof request, NULL, 0,
                                 PAWL_WIRE_TEXT, 0, &reply, &report);
    if (error == PAWL_E_NOT_FOUND && turn_to_image(view))
        return why_of_image(view, step, instance, text_out);
    if (error != 0)
        return error;
    *text_out = strndup(reply.body, reply.header.bytes);
    return *text_out == NULL ? -ENOMEM : 0;
}
