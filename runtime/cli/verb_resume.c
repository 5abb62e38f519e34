/*
 * verb_resume.c - `pawl resume`, `retry`, `cancel`, `wait`: what is done with a run that exists.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "runtime/cli/attach.h"
#include "runtime/cli/attach_end.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/filter.h"
#include "runtime/cli/output.h"
#include "runtime/cli/run_view.h"
#include "runtime/cli/submit.h"
#include "runtime/cli/verbs.h"
#include "scheduler/run.h"
#include "shm/error.h"

struct resume_options {
    uint64_t given;
    uint64_t jobs, keep_going;
    const char *filter; /* retry */
    bool detach;
};

#define OFFSET(member) offsetof(struct resume_options, member)
#define COMMON_OPTIONS                                                                                       \
    {'j',          "jobs", "N",           "steps at a time (default: as before)", PAWL_OPTION_COUNT,         \
     OFFSET(jobs), 1,      PAWL_SLOTS_MAX},                                                                  \
        {0,                                                                                                  \
         "keep-going",                                                                                       \
         "[=N]",                                                                                             \
         "go on until N steps have failed (no N: never stop)",                                               \
         PAWL_OPTION_MAYBE_COUNT,                                                                            \
         OFFSET(keep_going),                                                                                 \
         1,                                                                                                  \
         UINT32_MAX},                                                                                        \
    {                                                                                                        \
        0, "detach", NULL, "print the run's id and leave it running", PAWL_OPTION_FLAG, OFFSET(detach), 0, 0 \
    }

static const struct pawl_option resume_option_table[] = {COMMON_OPTIONS, {0}};
static const struct pawl_option retry_option_table[] = {
    {0, "filter", "KEY=VALUE", "exit=N, step=NAME; several with commas (default: all that failed)",
     PAWL_OPTION_TEXT, OFFSET(filter), 0, 0},
    COMMON_OPTIONS,
    {0},
};

#define SURE_NS UINT64_C(1000000000)

struct resume_job {
    struct pawl_attach_job job;
    bool given;
};

static int next_job(void *context, struct pawl_attach_job *job_out)
{
    struct resume_job *resume = context;
    if (resume->given)
        return 0;
    resume->given = true;
    *job_out = resume->job;
    return 1;
}

/* ---- until it is over ---- */

/* Asks, and tells what is told meanwhile (a full disk). Return: 1 with the answer, -ETIMEDOUT, -EINTR,
 * another error of the connection. */
static int ask_and_listen(struct pawl_session *session, uint64_t tag, const struct pawl_wire_run *request,
                          uint64_t end_ns, struct pawl_wire_message *reply_out)
{
    struct pawl_wire *wire = &session->wire;
    int error =
        pawl_wire_queue_message(wire, PAWL_WIRE_WAIT, tag, request, sizeof *request, NULL, 0, NULL, 0);
    while (error == 0 || error == -EAGAIN) {
        error = pawl_wire_flush(wire);
        if (error != 0 && error != -EAGAIN && error != PAWL_E_CLOSED)
            return error;
        int got = pawl_wire_receive(wire, reply_out);
        if (got < 0)
            return got;
        if (got > 0 && reply_out->header.type == PAWL_WIRE_NOTICE)
            pawl_note(session->cli, "%.*s", (int)reply_out->header.bytes, (const char *)reply_out->body);
        else if (got > 0 && (reply_out->header.tag == tag ||
                             (reply_out->header.tag == 0 && reply_out->header.type == PAWL_WIRE_ERROR)))
            return 1;
        if (got > 0)
            continue;
        uint64_t now_ns = pawl_monotonic_ns(), left_ns = end_ns > now_ns ? end_ns - now_ns : 0;
        if (left_ns == 0)
            return -ETIMEDOUT;
        struct pollfd fd = {.fd = wire->fd,
                            .events = (short)(POLLIN | (pawl_wire_pending(wire) != 0 ? POLLOUT : 0))};
        int wait_ms = left_ns / 1000000 >= INT_MAX ? -1 : (int)(left_ns / 1000000 + 1);
        if (poll(&fd, 1, wait_ms) < 0)
            return -errno;
    }
    return error;
}

/* Return: 0 with the summary; an exit code. */
static int wait_for(struct pawl_session *session, uint64_t end_ns, struct pawl_wire_summary *summary)
{
    struct pawl_wire_run request;
    uint64_t tag = 0;
    memcpy(request.run_id, summary->run_id, sizeof request.run_id);
    for (;;) {
        struct pawl_wire_message reply;
        struct pawl_error_report report;
        int got = ask_and_listen(session, ++tag, &request, end_ns, &reply);
        if (got == -ETIMEDOUT)
            return PAWL_EXIT_TIMED_OUT;
        if (got == 1 && reply.header.type == PAWL_WIRE_SUMMARY && reply.header.bytes >= sizeof *summary) {
            memcpy(summary, reply.body, sizeof *summary);
            return 0;
        }
        if (got == 1 && reply.header.type == PAWL_WIRE_ERROR) {
            if (pawl_client_read_error(&reply, &report) == PAWL_E_NOT_FOUND &&
                pawl_image_summary(session->state.runs_dirfd, request.run_id, summary) == 0)
                return 0;
            return pawl_fail_report(session->cli, &report);
        }
        if (got == -EINTR)
            continue;
        int status = pawl_reconnect(session);
        if (status == -ENOENT &&
            pawl_image_last_word(session->state.runs_dirfd, request.run_id, summary) == 0)
            return 0;
        if (status == -ENOENT)
            return pawl_fail(session->cli, PAWL_EXIT_UNREACHABLE, "lost", "pawl resume goes on with the run",
                             "the scheduler is gone; run %s is not over", request.run_id);
        if (status != 0)
            return status;
    }
}

/* A run that a scheduler holds may seem to have ended before that is on disk: @end_ns at least, and a second.
 * Return: as wait_for(). */
static int be_sure(struct pawl_session *session, uint64_t end_ns, struct pawl_wire_summary *summary)
{
    uint64_t least_ns = pawl_monotonic_ns() + SURE_NS;
    return wait_for(session, end_ns > least_ns ? end_ns : least_ns, summary);
}

/* ---- retry --filter ---- */

struct chosen {
    const struct pawl_filter *filter;
    bool any;
};

static int look_at_failed(void *context, const struct pawl_step_view *step)
{
    struct chosen *chosen = context;
    chosen->any = pawl_filter_holds(chosen->filter, step->name, &step->fixed);
    return chosen->any;
}

/* A filter that chooses nothing is told: it would start everything but the failed steps. Return: 0 or a
 * printed exit code. */
static int check_filter(struct pawl_cli *cli, const char *text, struct pawl_run_view *view)
{
    struct pawl_filter filter;
    struct chosen chosen = {.filter = &filter};
    int status = text != NULL ? pawl_filter_parse(cli, text, &filter) : 0;
    if (status != 0 || text == NULL)
        return status;
    int step = filter.step[0] != '\0' ? pawl_run_view_step(view, filter.step) : 0;
    if (step < 0)
        return -step;
    int error = pawl_run_view_each(view, 1u << PAWL_STEP_FAILED, look_at_failed, &chosen);
    if (error < 0)
        return pawl_fail_error(cli, error == PAWL_E_DAMAGED ? PAWL_EXIT_DAMAGED : PAWL_EXIT_UNREACHABLE,
                               error, NULL, "steps of run %s", view->summary.run_id);
    if (!chosen.any)
        return pawl_fail(cli, PAWL_EXIT_FAILED, "not_found", "see pawl steps RUN --filter state=failed",
                         "no failed step of run %s matches --filter %s", view->summary.run_id, text);
    return 0;
}

static int go_on(struct pawl_cli *cli, const struct resume_options *o, const char *name, uint32_t flags)
{
    struct pawl_session session;
    struct pawl_run_view view;
    int status = pawl_run_view_of(cli, name, &session, &view);
    if (status != 0)
        return status;
    if (view.summary.state == PAWL_RUN_SUCCEEDED && view.image == NULL)
        status = be_sure(&session, UINT64_MAX, &view.summary);
    if (status == 0 && view.summary.state == PAWL_RUN_SUCCEEDED) {
        status = pawl_tell_nothing_left(cli, &view.summary, o->detach);
    } else if (status == 0) {
        struct resume_job resume = {.job = {.filter = o->filter, .plan_fd = -1, .context_fd = -1}};
        struct pawl_wire_submit *request = &resume.job.request;
        char arguments[64] = "";
        request->flags = flags | PAWL_SUBMIT_SAME_PLAN | (o->detach ? PAWL_SUBMIT_DETACH : 0);
        status = pawl_slots_choose(cli, o->jobs != 0 ? o->jobs : view.summary.slots, &request->slots);
        if (pawl_option_given(cli->verb, o, "keep-going")) {
            request->flags |= PAWL_SUBMIT_KEEP_GOING;
            request->keep_going = (uint32_t)o->keep_going;
        }
        request->identity = view.summary.identity;
        memcpy(request->run_id, view.summary.run_id, sizeof request->run_id);
        memcpy(request->resume_id, view.summary.run_id, sizeof request->resume_id);
        memcpy(request->workflow, view.summary.workflow, sizeof request->workflow);
        pawl_resume_arguments(arguments, o->jobs, pawl_option_given(cli->verb, o, "keep-going"),
                              o->keep_going);
        struct pawl_attach_options options = {.window = 1,
                                              .detach = o->detach,
                                              .resume_arguments = arguments,
                                              .next = next_job,
                                              .context = &resume};
        if (status == 0)
            status = check_filter(cli, o->filter, &view);
        if (status == 0)
            status = pawl_session_connect(&session, true);
        if (status == 0)
            status = pawl_run_settle(&session, view.summary.run_id);
        if (status == 0)
            status = pawl_attach(&session, &options);
    }
    pawl_run_view_close(&view);
    pawl_session_close(&session);
    return status;
}

static int run_resume(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    return go_on(cli, options, operands[0], 0);
}

static int run_retry(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    const struct resume_options *o = options;
    struct pawl_filter filter;
    int status = pawl_filter_parse(cli, o->filter, &filter);
    return status != 0 ? status : go_on(cli, o, operands[0], PAWL_SUBMIT_RETRY);
}

const struct pawl_verb pawl_verb_resume = {
    .name = "resume",
    .summary = "go on with a run that failed, was cancelled or interrupted",
    .operands = "RUN",
    .examples = "pawl resume last\npawl resume nightly -j 4",
    .notes = "what succeeded is not run again; the workflow is the one that was submitted\n"
             "(pawl run FILE --resume takes the file as it is now)",
    .options = resume_option_table,
    .options_bytes = sizeof(struct resume_options),
    .operands_min = 1,
    .operands_max = 1,
    .run = run_resume,
};

const struct pawl_verb pawl_verb_retry = {
    .name = "retry",
    .summary = "run failed steps again",
    .operands = "RUN",
    .examples =
        "pawl retry last\npawl retry nightly --filter exit=75\npawl retry nightly --filter step=upload",
    .options = retry_option_table,
    .options_bytes = sizeof(struct resume_options),
    .operands_min = 1,
    .operands_max = 1,
    .run = run_retry,
};

/* ---- cancel ---- */

struct cancel_options {
    uint64_t given;
    uint64_t grace_ns;
};

static const struct pawl_option cancel_option_table[] = {
    {0, "grace", "D", "between SIGTERM and SIGKILL (default: 10s)", PAWL_OPTION_DURATION,
     offsetof(struct cancel_options, grace_ns), 0, 0},
    {0},
};

static void print_cancelling(const char *run_id)
{
    json_t *document = pawl_json_document();
    json_object_set_new(document, "run", pawl_json_text(run_id));
    pawl_json_print(document, stdout);
    json_decref(document);
}

static int run_cancel(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    const struct cancel_options *o = options;
    struct pawl_session session;
    struct pawl_run_view view;
    int status = pawl_run_view_of(cli, operands[0], &session, &view);
    if (status != 0)
        return status;
    const struct pawl_wire_summary *summary = &view.summary;
    if (view.image != NULL && summary->state == PAWL_RUN_CANCELLED) {
        pawl_note(cli, "run %s is cancelled already", summary->run_id);
    } else if (view.image != NULL) {
        status = pawl_fail(cli, PAWL_EXIT_FAILED, "state", NULL, "run %s has ended: %s", summary->run_id,
                           pawl_run_state_name(summary->state));
    } else {
        struct pawl_wire_cancel request = {.mode = PAWL_CANCEL_CANCEL, .grace_ns = o->grace_ns};
        struct pawl_wire_message reply;
        if (!pawl_option_given(cli->verb, o, "grace"))
            request.grace_ns = UINT64_C(10000000000);
        memcpy(request.run_id, summary->run_id, sizeof request.run_id);
        status =
            pawl_session_call(&session, PAWL_WIRE_CANCEL, &request, sizeof request, PAWL_WIRE_OK, 0, &reply);
        if (status == 0 && cli->json)
            print_cancelling(summary->run_id);
        if (status == 0)
            pawl_note(cli, "run %s is being cancelled; pawl wait %s tells when it has ended", summary->run_id,
                      summary->run_id);
    }
    pawl_run_view_close(&view);
    pawl_session_close(&session);
    return status;
}

const struct pawl_verb pawl_verb_cancel = {
    .name = "cancel",
    .summary = "end a run for good",
    .operands = "RUN",
    .examples = "pawl cancel last\npawl cancel nightly --grace 1m",
    .options = cancel_option_table,
    .options_bytes = sizeof(struct cancel_options),
    .operands_min = 1,
    .operands_max = 1,
    .run = run_cancel,
};

/* ---- wait ---- */

struct wait_options {
    uint64_t given;
    uint64_t timeout_ns;
};

static const struct pawl_option wait_option_table[] = {
    {0, "timeout", "D", "exit 124 when it has not ended by then", PAWL_OPTION_DURATION,
     offsetof(struct wait_options, timeout_ns), 0, 0},
    {0},
};

static bool is_over(uint32_t state)
{
    return state != PAWL_RUN_RUNNING;
}

static int run_wait(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    const struct wait_options *o = options;
    uint64_t end_ns = UINT64_MAX;
    struct pawl_session session;
    struct pawl_run_view view;
    if (pawl_option_given(cli->verb, o, "timeout"))
        end_ns = pawl_monotonic_ns() + o->timeout_ns;
    int status = pawl_run_view_of(cli, operands[0], &session, &view);
    if (status != 0)
        return status;
    struct pawl_wire_summary summary = view.summary;
    if (view.image == NULL)
        status = is_over(summary.state) ? be_sure(&session, end_ns, &summary)
                                        : wait_for(&session, end_ns, &summary);
    if (status == PAWL_EXIT_TIMED_OUT)
        pawl_fail(cli, status, "timed_out", "wait again, or see pawl status", "run %s has not ended yet",
                  summary.run_id);
    if (status == 0) {
        char took[PAWL_DURATION_TEXT_BYTES];
        status = pawl_summary_exit(&summary);
        pawl_note(cli, "run %s %s after %s", summary.run_id, pawl_run_state_name(summary.state),
                  pawl_format_duration(summary.elapsed_ns, took));
        if (cli->json) {
            json_t *document = pawl_summary_json(&summary);
            pawl_json_print(document, stdout);
            json_decref(document);
        }
    }
    pawl_run_view_close(&view);
    pawl_session_close(&session);
    return pawl_output_finish(cli, status);
}

const struct pawl_verb pawl_verb_wait = {
    .name = "wait",
    .summary = "wait until a run has ended",
    .operands = "RUN",
    .examples = "pawl wait nightly\npawl wait last --timeout 2h || echo \"not yet: $?\"",
    .notes =
        "exit: 0 succeeded, 1 failed, 5 cancelled or interrupted, 6 waits for an approval, 124 time passed",
    .options = wait_option_table,
    .options_bytes = sizeof(struct wait_options),
    .operands_min = 1,
    .operands_max = 1,
    .run = run_wait,
};
