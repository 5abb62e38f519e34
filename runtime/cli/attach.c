/*
 * attach.c - submit runs and wait for them.
 *
 * Runs in: the command. One connection, driven without blocking: SUBMIT, WAIT and CANCEL go out with a tag
 * that names the slot of the run; whatever comes back is matched by it.
 */
#include "runtime/cli/attach.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/attach_end.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/signals.h"
#include "runtime/cli/submit.h"
#include "runtime/cli/watch.h"
#include "runtime/silence.h"
#include "scheduler/run.h"
#include "shm/error.h"

#define SECOND_NS UINT64_C(1000000000)
#define GRACE_NS  (10 * SECOND_NS)

enum tag_kind { TAG_SUBMIT = 1, TAG_WAIT = 2, TAG_CANCEL = 3 };

enum slot_state { SLOT_FREE, SLOT_SUBMITTING, SLOT_WAITING };

struct slot {
    enum slot_state state;
    bool again; /* submitted once more after a reconnect: "exists already" means that the first one arrived */
    bool cancel_asked;   /* and not answered yet */
    uint64_t refused_ns; /* since when a run that is still ending is asked for again; 0: it is not */
    uint32_t serial;     /* tags of an earlier run of this slot are ignored */
    struct pawl_attach_job job;
    char run_id[PAWL_NAME_BYTES];
};

struct attach {
    struct pawl_session *session;
    const struct pawl_cli *cli;
    const struct pawl_attach_options *options;
    struct pawl_watch watch;
    struct slot *slots;
    uint32_t in_flight;
    uint64_t batch;
    bool exhausted;                  /* no more jobs */
    enum pawl_signal_level level;    /* that has been acted upon */
    bool stop_told;                  /* that nothing new starts */
    bool awaits;                     /* the answer to a submission */
    struct pawl_silence silence;     /* since it does */
    struct pawl_error_report report; /* of -ETIMEDOUT */
    struct pawl_attach_end end;
};

static uint64_t make_tag(const struct attach *a, enum tag_kind kind, uint32_t slot)
{
    return (uint64_t)kind << 56 | (uint64_t)(a->slots[slot].serial & 0xffffff) << 32 | slot;
}

static bool is_many(const struct attach *a)
{
    return a->options->runs_total != 0;
}

/* ---- sending ---- */

static int send_message(struct attach *a, enum tag_kind kind, uint16_t type, uint32_t slot, const void *body,
                        size_t bytes, const void *more, size_t more_bytes, const int *fds, unsigned fd_count)
{
    return pawl_wire_queue_message(&a->session->wire, type, make_tag(a, kind, slot), body, bytes, more,
                                   more_bytes, fds, fd_count);
}

static int send_submit(struct attach *a, uint32_t index)
{
    struct pawl_attach_job *job = &a->slots[index].job;
    const char *file = job->file != NULL ? job->file : "", *filter = job->filter != NULL ? job->filter : "";
    int fds[2] = {job->plan_fd, job->context_fd};
    size_t file_bytes = strlen(file), filter_bytes = strlen(filter);
    char *texts = malloc(file_bytes + filter_bytes + 1);
    if (texts == NULL)
        return -ENOMEM;
    memcpy(texts, file, file_bytes);
    memcpy(texts + file_bytes, filter, filter_bytes);
    job->request.batch = a->batch;
    job->request.file_bytes = (uint32_t)file_bytes;
    job->request.filter_bytes = (uint32_t)filter_bytes;
    int error = send_message(a, TAG_SUBMIT, PAWL_WIRE_SUBMIT, index, &job->request, sizeof job->request,
                             texts, file_bytes + filter_bytes, fds, job->plan_fd < 0 ? 0 : 2);
    free(texts);
    return error;
}

static int send_wait(struct attach *a, uint32_t index)
{
    struct pawl_wire_run request;
    memcpy(request.run_id, a->slots[index].run_id, sizeof request.run_id);
    return send_message(a, TAG_WAIT, PAWL_WIRE_WAIT, index, &request, sizeof request, NULL, 0, NULL, 0);
}

static int send_cancel(struct attach *a, uint32_t index)
{
    struct pawl_wire_cancel request = {
        .mode = a->level == PAWL_SIGNAL_DRAIN ? PAWL_CANCEL_DRAIN : PAWL_CANCEL_INTERRUPT,
        .grace_ns = a->level == PAWL_SIGNAL_KILL ? 0 : GRACE_NS,
    };
    memcpy(request.run_id, a->slots[index].run_id, sizeof request.run_id);
    a->slots[index].cancel_asked = true;
    return send_message(a, TAG_CANCEL, PAWL_WIRE_CANCEL, index, &request, sizeof request, NULL, 0, NULL, 0);
}

static void close_job(struct pawl_attach_job *job)
{
    if (job->plan_fd >= 0)
        close(job->plan_fd);
    if (job->context_fd >= 0)
        close(job->context_fd);
    job->plan_fd = job->context_fd = -1;
}

static void free_slot(struct attach *a, uint32_t index)
{
    close_job(&a->slots[index].job);
    a->slots[index].state = SLOT_FREE;
    a->slots[index].cancel_asked = false;
    a->slots[index].serial++;
    a->in_flight--;
}

/* Submit as many as the window takes; while the batch has no number yet, one. */
static int fill_window(struct attach *a)
{
    for (uint32_t i = 0; i < a->options->window && !a->exhausted; i++) {
        struct slot *slot = &a->slots[i];
        if (slot->state != SLOT_FREE)
            continue;
        if (a->batch == 0 && a->in_flight != 0)
            return 0;
        int got = a->options->next(a->options->context, &slot->job);
        if (got <= 0) {
            a->exhausted = true;
            a->end.exit_code = got < 0 ? -got : a->end.exit_code;
            return 0;
        }
        slot->state = SLOT_SUBMITTING;
        slot->again = false;
        slot->refused_ns = 0;
        memcpy(slot->run_id, slot->job.request.run_id, sizeof slot->run_id);
        a->in_flight++;
        int error = send_submit(a, i);
        if (error != 0)
            return error;
    }
    return 0;
}

/* ---- receiving ---- */

/* Said when it is true: the scheduler has answered for every run that is under way. */
static void tell_stop(struct attach *a)
{
    if (a->level != PAWL_SIGNAL_DRAIN || a->stop_told || a->in_flight == 0)
        return;
    for (uint32_t i = 0; i < a->options->window; i++)
        if (a->slots[i].state == SLOT_SUBMITTING || a->slots[i].cancel_asked)
            return;
    a->stop_told = true;
    pawl_watch_clear(&a->watch);
    pawl_note(a->cli, "stopping: what runs may end, nothing new starts (^C again ends it now)");
}

static void note_start(struct attach *a, const struct slot *slot, const struct pawl_wire_submitted *reply)
{
    if (is_many(a) || a->cli->json)
        return;
    if (reply->resumed == PAWL_RESUMED_NOTHING_LEFT)
        pawl_note_nothing_left(a->cli, slot->run_id);
    else if (a->options->detach)
        return;
    else if (reply->resumed == PAWL_RESUMED)
        pawl_note(a->cli, "run %s goes on: %" PRIu64 " of %" PRIu64 " steps are done", slot->run_id,
                  reply->succeeded, reply->total);
    else
        pawl_note(a->cli, "run %s", slot->run_id);
}

static int on_submitted(struct attach *a, uint32_t index, const struct pawl_wire_submitted *reply)
{
    struct slot *slot = &a->slots[index];
    if (reply != NULL) {
        a->batch = reply->batch != 0 ? reply->batch : a->batch; /* 0: it is over already */
        memcpy(slot->run_id, reply->run_id, sizeof slot->run_id);
        slot->run_id[PAWL_NAME_BYTES - 1] = '\0';
        a->end.nothing_left = reply->resumed == PAWL_RESUMED_NOTHING_LEFT;
        note_start(a, slot, reply);
    }
    a->end.submitted++;
    close_job(&slot->job);
    if (a->options->detach) {
        pawl_print_detached(a->cli, slot->run_id);
        free_slot(a, index);
        return 0;
    }
    slot->state = SLOT_WAITING;
    int error = send_wait(a, index);
    return error == 0 && a->level != PAWL_SIGNAL_NONE ? send_cancel(a, index) : error;
}

static void on_ended(struct attach *a, uint32_t index, const struct pawl_wire_summary *summary)
{
    if (summary->state == PAWL_RUN_RUNNING)
        return;
    a->end.last = *summary;
    a->end.last.run_id[PAWL_NAME_BYTES - 1] = a->end.last.workflow[PAWL_NAME_BYTES - 1] = '\0';
    if (summary->state < 6)
        a->end.ended_in[summary->state]++;
    a->end.ended++;
    if (summary->failed != 0 && is_many(a) && !a->cli->json) {
        pawl_watch_clear(&a->watch);
        fprintf(stderr, "pawl: run %s %s\n", a->end.last.run_id, pawl_run_state_name(summary->state));
    }
    pawl_watch_ended(&a->watch, &a->end.last);
    free_slot(a, index);
}

/* The scheduler does not hold it: it was sealed, or its submission never arrived. */
static int on_wait_error(struct attach *a, uint32_t index, const struct pawl_error_report *report)
{
    struct pawl_wire_summary summary;
    struct slot *slot = &a->slots[index];
    if (report->error == PAWL_E_NOT_FOUND &&
        pawl_image_summary(a->session->state.runs_dirfd, slot->run_id, &summary) == 0) {
        on_ended(a, index, &summary);
        return 0;
    }
    pawl_watch_clear(&a->watch);
    a->end.exit_code = pawl_fail_report(a->cli, report);
    free_slot(a, index);
    return 0;
}

/* The command that it belonged to has just died, and its jobs have their grace: the same command again, which
 * is how to go on after a kill, need not be told to come later. */
static bool may_ask_again(struct slot *slot, const struct pawl_error_report *report)
{
    uint64_t now_ns = pawl_monotonic_ns();
    if (slot->refused_ns == 0)
        slot->refused_ns = now_ns;
    if (pawl_signals_level() != PAWL_SIGNAL_NONE ||
        !pawl_submit_may_go_again(report->error, now_ns - slot->refused_ns))
        return false;
    poll(NULL, 0, 20);
    return true;
}

static int on_submit_error(struct attach *a, uint32_t index, const struct pawl_error_report *report)
{
    struct slot *slot = &a->slots[index];
    if (slot->again && (report->error == PAWL_E_STATE || report->error == PAWL_E_BUSY))
        return on_submitted(a, index, NULL);
    if (may_ask_again(slot, report))
        return send_submit(a, index);
    pawl_watch_clear(&a->watch);
    a->end.exit_code = pawl_fail_report(a->cli, report);
    a->exhausted = true;
    free_slot(a, index);
    return 0;
}

static int on_message(struct attach *a, const struct pawl_wire_message *message)
{
    struct pawl_error_report report;
    uint64_t tag = message->header.tag;
    uint32_t index = (uint32_t)tag;
    bool is_error = message->header.type == PAWL_WIRE_ERROR;
    if (is_error)
        pawl_client_read_error(message, &report);
    if (message->header.type == PAWL_WIRE_NOTICE) {
        pawl_watch_notice(&a->watch, message);
        return 0;
    }
    if (tag == 0 && is_error) {
        pawl_watch_clear(&a->watch);
        a->end.exit_code = pawl_fail_report(a->cli, &report);
        return PAWL_E_CLOSED;
    }
    if (index >= a->options->window || tag != make_tag(a, (enum tag_kind)(tag >> 56), index))
        return 0;
    switch ((enum tag_kind)(tag >> 56)) {
    case TAG_SUBMIT:
        if (is_error)
            return on_submit_error(a, index, &report);
        if (message->header.type != PAWL_WIRE_SUBMITTED ||
            message->header.bytes < sizeof(struct pawl_wire_submitted))
            return PAWL_E_BAD_MESSAGE;
        return on_submitted(a, index, message->body);
    case TAG_WAIT:
        if (is_error)
            return on_wait_error(a, index, &report);
        if (message->header.type != PAWL_WIRE_SUMMARY ||
            message->header.bytes < sizeof(struct pawl_wire_summary))
            return PAWL_E_BAD_MESSAGE;
        on_ended(a, index, message->body);
        return 0;
    case TAG_CANCEL:
        a->slots[index].cancel_asked = false; /* or it has just ended: its summary tells */
        return 0;
    }
    return 0;
}

/* ---- ^C ---- */

static int act_on_signals(struct attach *a)
{
    enum pawl_signal_level level = pawl_signals_level();
    if (level <= a->level)
        return 0;
    a->level = level;
    a->exhausted = true;
    pawl_watch_clear(&a->watch);
    if (level == PAWL_SIGNAL_INTERRUPT)
        pawl_note(a->cli, "ending what runs: SIGTERM now, SIGKILL in 10 s (^C again: at once)");
    for (uint32_t i = 0; i < a->options->window; i++) {
        int error = a->slots[i].state == SLOT_WAITING ? send_cancel(a, i) : 0;
        if (error != 0)
            return error;
    }
    return 0;
}

/* ---- a lost connection ---- */

/* What ended while there was no connection is sealed. True: that was all. */
static bool all_ended_meanwhile(struct attach *a)
{
    struct pawl_wire_summary summary;
    for (uint32_t i = 0; i < a->options->window; i++)
        if (a->slots[i].state == SLOT_WAITING &&
            pawl_image_last_word(a->session->state.runs_dirfd, a->slots[i].run_id, &summary) == 0)
            on_ended(a, i, &summary);
    return a->in_flight == 0 && (!is_many(a) || a->end.ended == a->options->runs_total);
}

/* Ask again for everything that was asked for. */
static int take_up(struct attach *a)
{
    for (uint32_t i = 0; i < a->options->window; i++) {
        int error = 0;
        if (a->slots[i].state == SLOT_SUBMITTING) {
            a->slots[i].again = true;
            error = send_submit(a, i);
        } else if (a->slots[i].state == SLOT_WAITING) {
            error = send_wait(a, i);
            if (error == 0 && a->level != PAWL_SIGNAL_NONE)
                error = send_cancel(a, i);
        }
        if (error != 0)
            return error;
    }
    return 0;
}

/* ---- the loop ---- */

static int receive_all(struct attach *a)
{
    struct pawl_wire_message message;
    int got;
    while ((got = pawl_wire_receive(&a->session->wire, &message)) == 1) {
        int error = on_message(a, &message);
        if (error != 0)
            return error;
    }
    return got;
}

static uint64_t tick(struct attach *a)
{
    struct pawl_progress_facts hints = {.runs_done = a->end.ended, .runs_total = a->options->runs_total};
    for (uint32_t i = 0; i < a->options->window; i++)
        if (a->slots[i].state == SLOT_WAITING)
            return pawl_watch_tick(&a->watch, a->slots[i].run_id, &hints);
    return UINT64_MAX;
}

static void sleep_until_something(struct attach *a, uint64_t until_ns)
{
    uint64_t now_ns = pawl_monotonic_ns();
    int timeout_ms = -1;
    if (until_ns != UINT64_MAX)
        timeout_ms = until_ns <= now_ns ? 0 : (int)((until_ns - now_ns) / 1000000 + 1);
    struct pollfd fds[2] = {
        {.fd = a->session->wire.fd,
         .events = (short)(POLLIN | (pawl_wire_pending(&a->session->wire) != 0 ? POLLOUT : 0))},
        {.fd = pawl_signals_fd(), .events = POLLIN},
    };
    poll(fds, 2, timeout_ms);
}

/* A run says nothing for as long as it likes; a submission is answered at once, or when it is on disk. */
static int look_at_silence(struct attach *a, uint64_t *until_ns)
{
    bool awaits = false;
    for (uint32_t i = 0; i < a->options->window; i++)
        awaits = awaits || a->slots[i].state == SLOT_SUBMITTING;
    if (awaits && !a->awaits)
        pawl_silence_begin(&a->silence, &a->session->wire, (pid_t)a->session->welcome.scheduler_pid);
    a->awaits = awaits;
    int error = awaits ? pawl_silence_look(&a->silence, &a->session->wire, &a->report) : 0;
    if (awaits && a->silence.due_ns < *until_ns)
        *until_ns = a->silence.due_ns;
    return error;
}

/* Return: 0 when all has ended, PAWL_E_CLOSED, -ETIMEDOUT with a->report, or another error. */
static int converse(struct attach *a)
{
    for (;;) {
        int error = act_on_signals(a);
        if (error == 0)
            error = fill_window(a);
        if (error != 0)
            return error;
        if (a->in_flight == 0)
            return 0;
        error = pawl_wire_flush(&a->session->wire);
        /* Who closed may have said why: that is read first. */
        if (error != 0 && error != -EAGAIN && error != PAWL_E_CLOSED)
            return error;
        uint32_t before = a->in_flight;
        error = receive_all(a);
        if (error != 0)
            return error;
        tell_stop(a);
        if (a->in_flight < before) /* there is room for another run, or nothing is left to wait for */
            continue;
        uint64_t until_ns = tick(a);
        error = look_at_silence(a, &until_ns);
        if (error != 0)
            return error;
        sleep_until_something(a, until_ns);
    }
}

/* ---- the end ---- */

static int finish(struct attach *a, bool lost)
{
    struct pawl_attach_end *end = &a->end;
    end->left = a->in_flight;
    end->stopped = a->level != PAWL_SIGNAL_NONE;
    for (uint32_t i = 0; end->run_id[0] == '\0' && i < a->options->window; i++)
        memcpy(end->run_id, a->slots[i].run_id, sizeof end->run_id);
    pawl_watch_fini(&a->watch);
    return pawl_attach_end_tell(a->cli, a->options, end, lost);
}

int pawl_attach(struct pawl_session *session, const struct pawl_attach_options *options)
{
    struct attach a = {.session = session, .cli = session->cli, .options = options};
    a.slots = calloc(options->window, sizeof *a.slots);
    int error = a.slots == NULL ? -ENOMEM : pawl_signals_install();
    if (error != 0) {
        free(a.slots);
        return pawl_fail_error(session->cli, PAWL_EXIT_INTERNAL, error, NULL, "cannot wait for a run");
    }
    for (uint32_t i = 0; i < options->window; i++)
        a.slots[i].job.plan_fd = a.slots[i].job.context_fd = -1;
    pawl_watch_init(&a.watch, session->cli, true);
    bool lost = false;
    for (;;) {
        error = converse(&a);
        if (error == 0 || a.end.exit_code == PAWL_EXIT_DAMAGED || a.end.exit_code == PAWL_EXIT_INTERNAL)
            break;
        if (error != PAWL_E_CLOSED && error != -EPIPE && error != -ECONNRESET) {
            pawl_watch_clear(&a.watch);
            a.end.exit_code = error == -ETIMEDOUT ? pawl_fail_report(a.cli, &a.report)
                                                  : pawl_fail_error(a.cli, PAWL_EXIT_INTERNAL, error, NULL,
                                                                    "talking to the scheduler");
            break;
        }
        pawl_watch_clear(&a.watch);
        a.awaits = false;
        if (all_ended_meanwhile(&a))
            break;
        int status = pawl_reconnect(session);
        if (status == -ENOENT && all_ended_meanwhile(&a))
            break;
        if (status > 0)
            a.end.exit_code = status;
        lost = status != 0;
        if (lost || take_up(&a) != 0)
            break;
    }
    int exit_code = finish(&a, lost);
    for (uint32_t i = 0; i < options->window; i++)
        close_job(&a.slots[i].job);
    free(a.slots);
    return exit_code;
}
