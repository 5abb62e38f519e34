/*
 * map_run.c - the conversation of a map.
 *
 * Runs in: the command. One connection without blocking: answers are received here, and lead to the next
 * requests.
 */
#include "runtime/cli/map_run.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/attach.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/map_request.h"
#include "runtime/cli/map_result.h"
#include "runtime/cli/map_talk.h"
#include "runtime/cli/output.h"
#include "runtime/cli/quote.h"
#include "runtime/cli/signals.h"
#include "runtime/cli/submit.h"
#include "scheduler/image.h"
#include "shm/error.h"

#define TOP_BIT (UINT64_C(1) << 63)

/* ---- receiving ---- */

/* @instance: as the scheduler tells it, with the top bit when that had succeeded before. */
static int know_item(struct pawl_map_talk *m, struct pawl_map_item *item, uint64_t instance)
{
    if ((instance & TOP_BIT) == 0)
        return pawl_map_items_know(&m->items, item, instance);
    pawl_map_items_had(item, instance & ~TOP_BIT);
    if (m->options->new_only)
        pawl_map_items_drop(&m->items, item);
    else if (!m->options->keep_order)
        m->had_waiting++;
    return 0;
}

static int on_items(struct pawl_map_talk *m, const struct pawl_wire_message *message)
{
    struct pawl_wire_items_ok fixed;
    if (message->header.bytes < sizeof fixed)
        return PAWL_E_BAD_MESSAGE;
    memcpy(&fixed, message->body, sizeof fixed);
    m->credit = fixed.credit;
    if (m->items_answered || !m->items_sent) { /* the credit that was owed */
        m->items_answered = false;
        m->items_sent = false;
        return 0;
    }
    if (fixed.count != m->feed.count || message->header.bytes < sizeof fixed + fixed.count * sizeof(uint64_t))
        return PAWL_E_BAD_MESSAGE;
    const char *at = (const char *)message->body + sizeof fixed;
    uint32_t had = 0;
    for (uint32_t i = 0; i < fixed.count; i++, at += sizeof(uint64_t)) {
        uint64_t instance;
        memcpy(&instance, at, sizeof instance);
        had += (instance & TOP_BIT) != 0;
        struct pawl_map_item *item = pawl_map_items_at(&m->items, m->feed.first + i);
        int error = item == NULL ? 0 : know_item(m, item, instance);
        if (error != 0)
            return error;
    }
    m->catching_up = had == fixed.count;
    pawl_map_feed_sent(&m->feed);
    m->items_answered = m->credit == 0;
    m->items_sent = m->items_answered; /* without credit the next one comes when there is room */
    return pawl_map_results_take_early(m);
}

/* A request was refused. Those that only lose a race with the end of the run are no matter. */
static int on_error(struct pawl_map_talk *m, enum pawl_map_tag tag, const struct pawl_error_report *report)
{
    switch (tag) {
    case PAWL_MAP_TAG_ITEMS:
    case PAWL_MAP_TAG_ITEMS_END:
        m->items_sent = m->items_answered = m->feeding = false;
        pawl_map_feed_sent(&m->feed);
        if (report->error == PAWL_E_STATE)
            return 0;
        break;
    case PAWL_MAP_TAG_CANCEL:
        return 0;
    case PAWL_MAP_TAG_WAIT:
        if (report->error == PAWL_E_NOT_FOUND &&
            pawl_image_summary(m->session->state.runs_dirfd, m->run_id, &m->summary) == 0) {
            m->has_summary = true;
            return 0;
        }
        break;
    case PAWL_MAP_TAG_PULL:
    case PAWL_MAP_TAG_FETCH:
        break;
    }
    pawl_watch_clear(&m->watch);
    m->exit_code = pawl_fail_report(m->cli, report);
    pawl_signals_raise(PAWL_SIGNAL_DRAIN);
    bool fatal = tag != PAWL_MAP_TAG_ITEMS && tag != PAWL_MAP_TAG_ITEMS_END;
    return fatal ? PAWL_E_STATE : 0;
}

/* Said when it is true: the scheduler has answered. */
static void tell_stop(struct pawl_map_talk *m)
{
    if (m->level != PAWL_SIGNAL_DRAIN || m->stop_told || m->output->error != 0 || m->exit_code != 0)
        return;
    m->stop_told = true;
    pawl_watch_clear(&m->watch);
    pawl_note(m->cli, "stopping: what runs may end, nothing new starts (^C again ends it now)");
}

static int on_message(struct pawl_map_talk *m, const struct pawl_wire_message *message)
{
    struct pawl_error_report report;
    enum pawl_map_tag tag = (enum pawl_map_tag)message->header.tag;
    if (message->header.type == PAWL_WIRE_ERROR) {
        pawl_client_read_error(message, &report);
        if (message->header.tag != 0)
            return on_error(m, tag, &report);
        pawl_watch_clear(&m->watch);
        m->exit_code = pawl_fail_report(m->cli, &report);
        return PAWL_E_STATE;
    }
    if (message->header.type == PAWL_WIRE_NOTICE) {
        pawl_watch_notice(&m->watch, message);
        return 0;
    }
    switch (tag) {
    case PAWL_MAP_TAG_ITEMS:
        return on_items(m, message);
    case PAWL_MAP_TAG_PULL:
        return pawl_map_results_take(m, message, false);
    case PAWL_MAP_TAG_FETCH:
        return pawl_map_results_take(m, message, true);
    case PAWL_MAP_TAG_WAIT:
        if (message->header.bytes < sizeof m->summary)
            return PAWL_E_BAD_MESSAGE;
        memcpy(&m->summary, message->body, sizeof m->summary);
        m->has_summary = true;
        return 0;
    case PAWL_MAP_TAG_CANCEL:
        tell_stop(m);
        return 0;
    case PAWL_MAP_TAG_ITEMS_END:
        return 0;
    }
    return 0;
}

/* ---- the loop ---- */

static int act_on_signals(struct pawl_map_talk *m)
{
    if (m->output->error != 0)
        pawl_signals_raise(m->output->error == -EINTR ? PAWL_SIGNAL_INTERRUPT : PAWL_SIGNAL_DRAIN);
    enum pawl_signal_level level = pawl_signals_level();
    if (level <= m->level)
        return 0;
    m->level = level;
    m->feeding = false;
    pawl_watch_clear(&m->watch);
    if (level == PAWL_SIGNAL_INTERRUPT)
        pawl_note(m->cli, "ending what runs: SIGTERM now, SIGKILL in 10 s (^C again: at once)");
    return m->run_ended ? 0 : pawl_map_request_cancel(m);
}

static int receive_all(struct pawl_map_talk *m)
{
    struct pawl_wire_message message;
    int got;
    m->received = 0;
    while ((got = pawl_wire_receive(&m->session->wire, &message)) == 1) {
        m->received++;
        int error = on_message(m, &message);
        if (error != 0)
            return error;
    }
    return got;
}

static bool is_done(const struct pawl_map_talk *m)
{
    return m->run_ended && m->has_summary && pawl_map_results_are_printed(m);
}

static void sleep_until_something(struct pawl_map_talk *m)
{
    struct pawl_progress_facts hints = {.total = pawl_map_input_total(m->input)};
    if (hints.total == UINT64_MAX)
        hints.total = 0;
    pawl_map_output_flush(m->output);
    uint64_t until_ns = pawl_watch_tick(&m->watch, m->run_id, &hints);
    if (m->options->line_buffer) {
        uint64_t live_ns = pawl_map_live_tick(&m->live, m->options->keep_order ? m->next_print : UINT64_MAX);
        until_ns = live_ns < until_ns ? live_ns : until_ns;
        pawl_map_output_flush(m->output);
    }
    uint64_t now_ns = pawl_monotonic_ns();
    int timeout_ms = until_ns == UINT64_MAX ? -1
                     : until_ns <= now_ns   ? 0
                                            : (int)((until_ns - now_ns) / 1000000 + 1);
    bool reads = m->feeding && m->feed.input_waits && !m->items_sent && pawl_map_input_fd(m->input) >= 0;
    struct pollfd fds[3] = {
        {.fd = m->session->wire.fd,
         .events = (short)(POLLIN | (pawl_wire_pending(&m->session->wire) != 0 ? POLLOUT : 0))},
        {.fd = pawl_signals_fd(), .events = POLLIN},
        {.fd = reads ? pawl_map_input_fd(m->input) : -1, .events = POLLIN},
    };
    if (m->received != 0 || (m->output->error != 0 && m->level == PAWL_SIGNAL_NONE))
        timeout_ms = 0; /* an answer allows more to be asked for; stdout went away in the flush above */
    if (poll(fds, 3, timeout_ms) > 0 && fds[2].revents != 0) {
        int error = pawl_map_input_fill(m->input);
        if (error != 0)
            pawl_map_request_fail_input(m, error);
    }
}

static int converse(struct pawl_map_talk *m)
{
    for (;;) {
        int error = act_on_signals(m);
        if (error == 0)
            error = pawl_map_request_more(m);
        if (error != 0)
            return error;
        if (is_done(m))
            return 0;
        error = pawl_wire_flush(&m->session->wire);
        /* Who closed may have said why: that is read first. */
        if (error != 0 && error != -EAGAIN && error != PAWL_E_CLOSED)
            return error;
        error = receive_all(m);
        if (error != 0)
            return error;
        sleep_until_something(m);
    }
}

/* ---- the end ---- */

static void print_resume(const struct pawl_map_talk *m)
{
    const struct pawl_cli *cli = m->cli;
    bool has_resume = false;
    int verb = 1;
    while (verb < cli->argc && strcmp(cli->argv[verb], "map") != 0)
        verb++;
    for (int i = verb + 1; i < cli->argc; i++)
        has_resume = has_resume || strcmp(cli->argv[i], "--resume") == 0;
    fprintf(stderr, "pawl: go on, with the same input: ");
    pawl_quote_command(stderr, (const char *const *)cli->argv, (size_t)verb + 1);
    if (!has_resume)
        fprintf(stderr, " --resume");
    for (int i = verb + 1; i < cli->argc; i++) {
        fputc(' ', stderr);
        pawl_quote_shell(stderr, cli->argv[i], strlen(cli->argv[i]));
    }
    fputc('\n', stderr);
}

static int finish(struct pawl_map_talk *m, bool lost)
{
    int exit_code = m->exit_code;
    pawl_watch_fini(&m->watch);
    pawl_map_output_flush(m->output);
    if (exit_code == 0 && lost)
        exit_code = pawl_fail(m->cli, PAWL_EXIT_INTERRUPTED, "lost", NULL,
                              "pawl's supervisor is gone; what was recorded is safe");
    else if (exit_code == 0 && m->has_summary)
        exit_code = pawl_summary_exit(&m->summary);
    if (m->output->error != 0 && m->output->error != -EPIPE && m->output->error != -EINTR)
        exit_code = pawl_fail_error(m->cli, PAWL_EXIT_FAILED, m->output->error, NULL, "standard output");
    if (m->output->lost && exit_code == 0)
        exit_code = PAWL_EXIT_FAILED;
    if (exit_code == PAWL_EXIT_FAILED && m->failed != 0)
        pawl_note(m->cli, "%" PRIu64 " of %" PRIu64 " tasks failed", m->failed, m->ended);
    if (exit_code == PAWL_EXIT_FAILED && m->failed != 0 && m->cli->json)
        pawl_fail(m->cli, exit_code, "failed", NULL, "%" PRIu64 " of %" PRIu64 " tasks failed", m->failed,
                  m->ended);
    if (m->output->damaged && (exit_code == PAWL_EXIT_OK || exit_code == PAWL_EXIT_FAILED))
        exit_code = PAWL_EXIT_DAMAGED;
    if (exit_code == PAWL_EXIT_INTERRUPTED && !m->cli->json)
        print_resume(m);
    return exit_code;
}

int pawl_map_run(struct pawl_session *session, const struct pawl_map_options *options,
                 struct pawl_map_template *map_template, struct pawl_map_input *input,
                 struct pawl_map_output *output, const struct pawl_wire_submitted *submitted)
{
    struct pawl_map_talk *m = calloc(1, sizeof *m);
    if (m == NULL)
        return pawl_fail(session->cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
    *m = (struct pawl_map_talk){.session = session,
                                .cli = session->cli,
                                .options = options,
                                .output = output,
                                .input = input,
                                .feeding = true,
                                .credit = PAWL_MAP_BATCH_ITEMS,
                                .catching_up = submitted->resumed != 0,
                                .pull_from = submitted->completion_count};
    m->feed = (struct pawl_map_feed){
        .options = options, .map_template = map_template, .input = input, .items = &m->items};
    pawl_session_copy_name(m->run_id, submitted->run_id);
    pawl_session_copy_name(output->run_id, submitted->run_id);
    output->runs_dirfd = session->state.runs_dirfd;
    bool lost = false;
    int error = pawl_map_items_init(&m->items);
    if (error == 0)
        error = pawl_map_feed_init(&m->feed, m->run_id);
    if (error == 0)
        error = pawl_signals_install();
    pawl_watch_init(&m->watch, session->cli, false);
    pawl_map_live_init(&m->live, session->cli, m->run_id, &m->items, output);
    while (error == 0) {
        error = converse(m);
        if (error == 0 || m->exit_code == PAWL_EXIT_DAMAGED || m->exit_code == PAWL_EXIT_INTERNAL)
            break;
        if (error != PAWL_E_CLOSED && error != -EPIPE && error != -ECONNRESET)
            break;
        pawl_watch_clear(&m->watch);
        int status = pawl_reconnect(session);
        lost = status != 0;
        m->exit_code = status > 0 ? status : m->exit_code;
        error = lost ? PAWL_E_CLOSED : pawl_map_request_again(m);
    }
    if (error != 0 && !lost && m->exit_code == 0)
        m->exit_code =
            pawl_fail_error(session->cli, PAWL_EXIT_INTERNAL, error, NULL, "talking to the scheduler");
    int exit_code = finish(m, lost);
    pawl_map_live_fini(&m->live);
    pawl_map_feed_fini(&m->feed);
    pawl_map_items_fini(&m->items);
    pawl_map_results_free_early(m);
    free(m);
    return exit_code;
}
