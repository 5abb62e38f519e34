/*
 * map_run.c - the conversation of a map.
 *
 * Runs in: the command. One connection without blocking: one ITEMS, one PULL and one FETCH are under way at a
 * time. Results come in the order of completion; with -k they are kept (up to a bound; beyond it, forgotten
 * and fetched again) until their turn.
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
#include "runtime/cli/map_feed.h"
#include "runtime/cli/map_live.h"
#include "runtime/cli/output.h"
#include "runtime/cli/quote.h"
#include "runtime/cli/signals.h"
#include "runtime/cli/submit.h"
#include "runtime/cli/watch.h"
#include "scheduler/image.h"
#include "scheduler/run.h"
#include "shm/error.h"

#define GRACE_NS UINT64_C(10000000000)
#define TOP_BIT  (UINT64_C(1) << 63)

enum {
    CACHE_BYTES_MAX = 16 << 20, /* of results that wait for their turn */
    PULL_BYTES = 1 << 20,
    FETCH_COUNT = 128,
};

enum tag { TAG_ITEMS = 1, TAG_ITEMS_END, TAG_PULL, TAG_FETCH, TAG_CANCEL, TAG_WAIT };

/* A result that came before the answer that says whose it is. */
struct early {
    struct early *next;
    struct pawl_wire_result fixed;
    size_t n;
    char bytes[];
};

struct map {
    struct pawl_session *session;
    const struct pawl_cli *cli;
    const struct pawl_map_options *options;
    struct pawl_map_output *output;
    struct pawl_map_input *input;
    struct pawl_map_items items;
    struct pawl_map_feed feed;
    struct pawl_map_live live;
    struct pawl_watch watch;
    char run_id[PAWL_NAME_BYTES];

    bool items_sent, items_answered; /* under way; answered, but credit is owed */
    uint32_t credit;
    bool end_sent, feeding; /* ITEMS_END is out; more may be fed */
    bool pull_sent, run_ended;
    uint64_t pull_from;
    uint64_t fetch[FETCH_COUNT];
    uint32_t fetch_count; /* under way */
    uint64_t next_print;  /* -k: number of the item whose turn it is */
    uint64_t had_waiting; /* without -k: items that had succeeded and are still to be fetched */
    struct early *early;
    bool wait_sent, has_summary;
    struct pawl_wire_summary summary;
    enum pawl_signal_level level;
    uint64_t failed, ended;
    int exit_code; /* of a mistake of our own; 0: none */
    bool told_output;
    unsigned received; /* messages of this turn */
};

/* ---- talk ---- */

static void tell_failure(struct map *m, const struct pawl_map_item *item,
                         const struct pawl_wire_result *fixed)
{
    struct pawl_map_args args = pawl_map_item_args(item);
    size_t n = 0;
    char why[96] = "";
    switch ((enum pawl_outcome)fixed->outcome) {
    case PAWL_OUTCOME_EXITED:
        snprintf(why, sizeof why, "exit %d", fixed->exit_code);
        break;
    case PAWL_OUTCOME_SIGNALED:
        snprintf(why, sizeof why, "signal %d", fixed->exit_code);
        break;
    case PAWL_OUTCOME_TIMED_OUT:
        snprintf(why, sizeof why, "timed out");
        break;
    case PAWL_OUTCOME_SPAWN_FAILED:
        snprintf(why, sizeof why, "could not start: %s", strerror(fixed->exit_code));
        break;
    case PAWL_OUTCOME_OUTPUT_LIMIT:
        snprintf(why, sizeof why, "printed too much");
        break;
    case PAWL_OUTCOME_KILLED:
        snprintf(why, sizeof why, "was ended");
        break;
    case PAWL_OUTCOME_CAPTURE:
        snprintf(why, sizeof why, "its output could not be stored: %s", strerror(fixed->exit_code));
        break;
    case PAWL_OUTCOME_WORKER_LOST:
        snprintf(why, sizeof why, "its worker died");
        break;
    }
    if (m->cli->json)
        return;
    pawl_watch_clear(&m->watch);
    pawl_map_output_flush(m->output);
    char *label = pawl_map_label(&args, &n);
    fprintf(stderr, "pawl: map: task %" PRIu64 " (", item->number + 1);
    if (label != NULL)
        pawl_print_safe(stderr, label, n > 200 ? 200 : n);
    fprintf(stderr, "%s) failed: %s", n > 200 ? "..." : "", why);
    if (fixed->attempt > 1)
        fprintf(stderr, " (after %u attempts)", fixed->attempt);
    fputc('\n', stderr);
    free(label);
}

/* ---- printing ---- */

static void print_item(struct map *m, struct pawl_map_item *item, const struct pawl_map_result *result)
{
    if (m->watch.progress.lines != 0)
        pawl_watch_clear(&m->watch);
    pawl_map_output_print(m->output, item, result);
    pawl_map_items_drop(&m->items, item);
}

/* -k: print as far as results are here. */
static void print_in_order(struct map *m)
{
    while (m->next_print < m->items.end) {
        struct pawl_map_item *item = pawl_map_items_at(&m->items, m->next_print);
        if (item == NULL) {
            m->next_print++;
            continue;
        }
        if (item->result == NULL)
            return;
        m->next_print++;
        print_item(m, item, item->result);
    }
}

/* When the run is over nothing more ends: what never ran leaves a gap. */
static void skip_gaps(struct map *m)
{
    for (uint64_t number = m->items.first; number < m->items.end; number++) {
        struct pawl_map_item *item = pawl_map_items_at(&m->items, number);
        if (item != NULL && (item->state == PAWL_MAP_ITEM_OPEN || item->state == PAWL_MAP_ITEM_SENT))
            pawl_map_items_drop(&m->items, item);
    }
}

/* A result of this session, or one that was fetched. */
static int take_result(struct map *m, struct pawl_map_item *item, const struct pawl_wire_result *fixed,
                       const char *bytes, size_t n)
{
    bool fresh = item->state == PAWL_MAP_ITEM_OPEN;
    char where[512];
    int error = pawl_map_items_keep(&m->items, item, fixed, bytes, n);
    if (error != 0)
        return error;
    if (fresh) {
        m->ended++;
        if (fixed->state == PAWL_STEP_FAILED) {
            m->failed++;
            tell_failure(m, item, fixed);
        }
        error = pawl_map_output_record(m->output, item, item->result, where);
        if (error != 0 && !m->told_output) {
            m->told_output = true;
            m->exit_code = pawl_fail_error(m->cli, PAWL_EXIT_FAILED, error, NULL, "--results: %s", where);
            pawl_signals_raise(PAWL_SIGNAL_DRAIN);
        }
        item->state = PAWL_MAP_ITEM_ENDED;
    } else if (item->state == PAWL_MAP_ITEM_HAD && !m->options->keep_order) {
        m->had_waiting--;
    }
    if (!m->options->keep_order)
        print_item(m, item, item->result);
    else if (item->number == m->next_print)
        print_in_order(m);
    else if (m->items.cached_bytes > CACHE_BYTES_MAX)
        pawl_map_items_forget_result(&m->items, item);
    return 0;
}

/* ---- sending ---- */

static int send_message(struct map *m, uint16_t type, enum tag tag, const void *body, size_t bytes,
                        const void *more, size_t more_bytes)
{
    return pawl_wire_queue_message(&m->session->wire, type, tag, body, bytes, more, more_bytes, NULL, 0);
}

static int send_run(struct map *m, uint16_t type, enum tag tag)
{
    struct pawl_wire_run request;
    pawl_session_copy_name(request.run_id, m->run_id);
    return send_message(m, type, tag, &request, sizeof request, NULL, 0);
}

static int send_items(struct map *m)
{
    m->items_sent = true;
    return send_message(m, PAWL_WIRE_ITEMS, TAG_ITEMS, m->feed.bytes, m->feed.used, NULL, 0);
}

static int send_pull(struct map *m)
{
    struct pawl_wire_pull request = {.from = m->pull_from, .bytes_max = PULL_BYTES, .with_bytes = 1};
    pawl_session_copy_name(request.run_id, m->run_id);
    m->pull_sent = true;
    return send_message(m, PAWL_WIRE_PULL, TAG_PULL, &request, sizeof request, NULL, 0);
}

static int send_fetch(struct map *m)
{
    struct pawl_wire_fetch request = {.count = m->fetch_count};
    pawl_session_copy_name(request.run_id, m->run_id);
    return send_message(m, PAWL_WIRE_FETCH, TAG_FETCH, &request, sizeof request, m->fetch,
                        m->fetch_count * sizeof m->fetch[0]);
}

static int send_cancel(struct map *m)
{
    struct pawl_wire_cancel request = {
        .mode = m->level == PAWL_SIGNAL_DRAIN ? PAWL_CANCEL_DRAIN : PAWL_CANCEL_INTERRUPT,
        .grace_ns = m->level == PAWL_SIGNAL_KILL ? 0 : GRACE_NS,
    };
    pawl_session_copy_name(request.run_id, m->run_id);
    return send_message(m, PAWL_WIRE_CANCEL, TAG_CANCEL, &request, sizeof request, NULL, 0);
}

/* The input cannot go on: say so once, stop, let what runs end. */
static void fail_input(struct map *m, int error)
{
    uint64_t number = m->items.end + 1;
    pawl_watch_clear(&m->watch);
    if (error == PAWL_E_LIMIT)
        m->exit_code = pawl_fail(m->cli, PAWL_EXIT_USAGE, "limit",
                                 "an argument may have 2 MiB; separate them by lines, or by NUL and -0",
                                 "argument of task %" PRIu64 " is too long", number);
    else if (error == PAWL_E_INVALID)
        m->exit_code = pawl_fail(m->cli, PAWL_EXIT_USAGE, "input", "for NUL-separated arguments say -0",
                                 "argument of task %" PRIu64 " holds a NUL byte", number);
    else
        m->exit_code = pawl_fail_error(m->cli, PAWL_EXIT_FAILED, error, NULL, "reading arguments");
    m->feeding = false;
    pawl_signals_raise(PAWL_SIGNAL_DRAIN);
}

static int feed(struct map *m)
{
    if (!m->feeding || m->items_sent || m->end_sent)
        return 0;
    if (m->credit != 0) {
        int error = pawl_map_feed_gather(&m->feed, m->credit);
        if (error != 0)
            fail_input(m, error);
    }
    if (m->feed.count != 0)
        return send_items(m);
    if (!m->feed.input_ended || !m->feeding)
        return 0;
    m->end_sent = true;
    return send_run(m, PAWL_WIRE_ITEMS_END, TAG_ITEMS_END);
}

/* Ask for the next results that are not here: in order with -k, else those that had succeeded before. */
static int fetch(struct map *m)
{
    if (m->fetch_count != 0 || (!m->options->keep_order && m->had_waiting == 0))
        return 0;
    uint64_t from = m->options->keep_order ? m->next_print : m->items.first;
    for (uint64_t number = from; number < m->items.end && m->fetch_count < FETCH_COUNT; number++) {
        struct pawl_map_item *item = pawl_map_items_at(&m->items, number);
        if (item == NULL)
            continue;
        bool ready = item->state == PAWL_MAP_ITEM_HAD || item->state == PAWL_MAP_ITEM_ENDED;
        if (ready && item->result == NULL)
            m->fetch[m->fetch_count++] = item->instance;
        else if (m->options->keep_order)
            break;
    }
    return m->fetch_count != 0 ? send_fetch(m) : 0;
}

/* ---- receiving ---- */

static int stash_early(struct map *m, const struct pawl_wire_result *fixed, const char *bytes, size_t n)
{
    struct early *early = malloc(sizeof *early + n);
    if (early == NULL)
        return -ENOMEM;
    early->next = m->early;
    early->fixed = *fixed;
    early->n = n;
    if (n != 0)
        memcpy(early->bytes, bytes, n);
    m->early = early;
    return 0;
}

static int take_early(struct map *m)
{
    struct early *list = m->early;
    int error = 0;
    m->early = NULL;
    while (list != NULL) {
        struct early *next = list->next;
        struct pawl_map_item *item = pawl_map_items_find(&m->items, list->fixed.instance);
        if (error == 0 && item != NULL && item->state == PAWL_MAP_ITEM_OPEN)
            error = take_result(m, item, &list->fixed, list->bytes, list->n);
        else if (error == 0 && item == NULL && m->items_sent)
            error = stash_early(m, &list->fixed, list->bytes, list->n);
        free(list);
        list = next;
    }
    return error;
}

static int on_items(struct map *m, const struct pawl_wire_message *message)
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
    for (uint32_t i = 0; i < fixed.count; i++, at += sizeof(uint64_t)) {
        uint64_t instance;
        memcpy(&instance, at, sizeof instance);
        struct pawl_map_item *item = pawl_map_items_at(&m->items, m->feed.first + i);
        if (item == NULL)
            continue;
        int error = pawl_map_items_know(&m->items, item, instance & ~TOP_BIT);
        if (error != 0)
            return error;
        if ((instance & TOP_BIT) == 0)
            continue;
        item->state = PAWL_MAP_ITEM_HAD;
        if (m->options->new_only)
            pawl_map_items_drop(&m->items, item);
        else if (!m->options->keep_order)
            m->had_waiting++;
    }
    pawl_map_feed_sent(&m->feed);
    m->items_answered = m->credit == 0;
    m->items_sent = m->items_answered; /* without credit the next one comes when there is room */
    return take_early(m);
}

static size_t next_record(const char *at, size_t left, struct pawl_wire_result *fixed_out, size_t *n_out)
{
    if (left < sizeof *fixed_out)
        return 0;
    memcpy(fixed_out, at, sizeof *fixed_out);
    uint64_t n = (uint64_t)fixed_out->stdout_bytes + fixed_out->stderr_bytes + fixed_out->named_bytes;
    uint64_t bytes = (sizeof *fixed_out + n + 7) & ~UINT64_C(7);
    *n_out = (size_t)n;
    return bytes <= left ? (size_t)bytes : 0;
}

static int on_results(struct map *m, const struct pawl_wire_message *message, bool fetched)
{
    struct pawl_wire_results results;
    if (message->header.bytes < sizeof results)
        return PAWL_E_BAD_MESSAGE;
    memcpy(&results, message->body, sizeof results);
    const char *at = (const char *)message->body + sizeof results;
    size_t left = message->header.bytes - sizeof results, n;
    for (uint32_t i = 0; i < results.count; i++) {
        struct pawl_wire_result fixed;
        size_t bytes = next_record(at, left, &fixed, &n);
        if (bytes == 0)
            return PAWL_E_BAD_MESSAGE;
        struct pawl_map_item *item = pawl_map_items_find(&m->items, fixed.instance);
        int error = 0;
        if (item != NULL && (fetched || item->state == PAWL_MAP_ITEM_OPEN))
            error = take_result(m, item, &fixed, at + sizeof fixed, n);
        else if (item == NULL && !fetched && m->items_sent && !m->items_answered)
            error = stash_early(m, &fixed, at + sizeof fixed, n);
        if (error != 0)
            return error;
        at += bytes;
        left -= bytes;
    }
    if (fetched) {
        m->fetch_count = 0;
        return results.count == 0 ? PAWL_E_BAD_MESSAGE : 0;
    }
    m->pull_sent = false;
    m->pull_from = results.next;
    m->run_ended = results.run_ended != 0;
    return 0;
}

/* A request was refused. Those that only lose a race with the end of the run are no matter. */
static int on_error(struct map *m, enum tag tag, const struct pawl_error_report *report)
{
    switch (tag) {
    case TAG_ITEMS:
    case TAG_ITEMS_END:
        m->items_sent = m->items_answered = m->feeding = false;
        pawl_map_feed_sent(&m->feed);
        if (report->error == PAWL_E_STATE)
            return 0;
        break;
    case TAG_CANCEL:
        return 0;
    case TAG_WAIT:
        if (report->error == PAWL_E_NOT_FOUND &&
            pawl_image_summary(m->session->state.runs_dirfd, m->run_id, &m->summary) == 0) {
            m->has_summary = true;
            return 0;
        }
        break;
    case TAG_PULL:
    case TAG_FETCH:
        break;
    }
    pawl_watch_clear(&m->watch);
    m->exit_code = pawl_fail_report(m->cli, report);
    pawl_signals_raise(PAWL_SIGNAL_DRAIN);
    bool fatal = tag != TAG_ITEMS && tag != TAG_ITEMS_END;
    return fatal ? PAWL_E_STATE : 0;
}

static int on_message(struct map *m, const struct pawl_wire_message *message)
{
    struct pawl_error_report report;
    enum tag tag = (enum tag)message->header.tag;
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
    case TAG_ITEMS:
        return on_items(m, message);
    case TAG_PULL:
        return on_results(m, message, false);
    case TAG_FETCH:
        return on_results(m, message, true);
    case TAG_WAIT:
        if (message->header.bytes < sizeof m->summary)
            return PAWL_E_BAD_MESSAGE;
        memcpy(&m->summary, message->body, sizeof m->summary);
        m->has_summary = true;
        return 0;
    case TAG_ITEMS_END:
    case TAG_CANCEL:
        return 0;
    }
    return 0;
}

/* ---- the loop ---- */

static int act_on_signals(struct map *m)
{
    if (m->output->error != 0)
        pawl_signals_raise(m->output->error == -EINTR ? PAWL_SIGNAL_INTERRUPT : PAWL_SIGNAL_DRAIN);
    enum pawl_signal_level level = pawl_signals_level();
    if (level <= m->level)
        return 0;
    m->level = level;
    m->feeding = false;
    pawl_watch_clear(&m->watch);
    if (level == PAWL_SIGNAL_DRAIN && m->output->error == 0 && m->exit_code == 0)
        pawl_note(m->cli, "stopping: what runs may end, nothing new starts (^C again ends it now)");
    else if (level == PAWL_SIGNAL_INTERRUPT)
        pawl_note(m->cli, "ending what runs: SIGTERM now, SIGKILL in 10 s (^C again: at once)");
    return m->run_ended ? 0 : send_cancel(m);
}

static int receive_all(struct map *m)
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

static bool is_printed(const struct map *m)
{
    bool printed = m->options->keep_order ? m->next_print >= m->items.end : m->had_waiting == 0;
    return printed && m->fetch_count == 0;
}

/* Everything that may be asked for now. */
static int ask(struct map *m)
{
    int error = feed(m);
    if (error == 0 && m->options->keep_order) {
        if (m->run_ended)
            skip_gaps(m);
        print_in_order(m);
    }
    if (error == 0)
        error = fetch(m);
    if (error == 0 && !m->pull_sent && !m->run_ended)
        error = send_pull(m);
    if (error == 0 && m->run_ended && !m->wait_sent && is_printed(m)) {
        m->wait_sent = true;
        error = send_run(m, PAWL_WIRE_WAIT, TAG_WAIT);
    }
    return error;
}

static bool is_done(const struct map *m)
{
    return m->run_ended && m->has_summary && is_printed(m);
}

static void sleep_until_something(struct map *m)
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
            fail_input(m, error);
    }
}

static int converse(struct map *m)
{
    for (;;) {
        int error = act_on_signals(m);
        if (error == 0)
            error = ask(m);
        if (error != 0)
            return error;
        if (is_done(m))
            return 0;
        error = pawl_wire_flush(&m->session->wire);
        if (error != 0 && error != -EAGAIN)
            return error;
        error = receive_all(m);
        if (error != 0)
            return error;
        sleep_until_something(m);
    }
}

/* After a reconnect: ask again for everything that was asked for. */
static int take_up(struct map *m)
{
    m->pull_sent = false;
    m->wait_sent = m->has_summary;
    int error = 0;
    if (m->items_answered) { /* the credit that was owed is asked for by the next message: one item at a time
                              */
        m->items_answered = m->items_sent = false;
        m->credit = 1;
    } else if (m->items_sent) {
        error = send_items(m);
    }
    if (error == 0 && m->end_sent && !m->run_ended)
        error = send_run(m, PAWL_WIRE_ITEMS_END, TAG_ITEMS_END);
    if (error == 0 && m->fetch_count != 0)
        error = send_fetch(m);
    if (error == 0 && m->level != PAWL_SIGNAL_NONE && !m->run_ended)
        error = send_cancel(m);
    return error;
}

/* ---- the end ---- */

static void print_resume(const struct map *m)
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

static int finish(struct map *m, bool lost)
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
    if (exit_code == PAWL_EXIT_INTERRUPTED && !m->cli->json)
        print_resume(m);
    return exit_code;
}

static void free_early(struct map *m)
{
    while (m->early != NULL) {
        struct early *next = m->early->next;
        free(m->early);
        m->early = next;
    }
}

int pawl_map_run(struct pawl_session *session, const struct pawl_map_options *options,
                 struct pawl_map_template *map_template, struct pawl_map_input *input,
                 struct pawl_map_output *output, const struct pawl_wire_submitted *submitted)
{
    struct map *m = calloc(1, sizeof *m);
    if (m == NULL)
        return pawl_fail(session->cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
    *m = (struct map){.session = session,
                      .cli = session->cli,
                      .options = options,
                      .output = output,
                      .input = input,
                      .feeding = true,
                      .credit = PAWL_MAP_BATCH_ITEMS,
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
        error = lost ? PAWL_E_CLOSED : take_up(m);
    }
    if (error != 0 && !lost && m->exit_code == 0)
        m->exit_code =
            pawl_fail_error(session->cli, PAWL_EXIT_INTERNAL, error, NULL, "talking to the scheduler");
    int exit_code = finish(m, lost);
    pawl_map_live_fini(&m->live);
    pawl_map_feed_fini(&m->feed);
    pawl_map_items_fini(&m->items);
    free_early(m);
    free(m);
    return exit_code;
}
