/*
 * verb_top.c - `pawl top`: queues, journal, workers and memory, as they go.
 *
 * Runs in: the command. Looks at the scheduler's memory; only what a key orders is asked of the scheduler.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <time.h>
#include <unistd.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/top_frame.h"
#include "runtime/cli/top_model.h"
#include "runtime/cli/top_view.h"
#include "runtime/cli/verbs.h"
#include "runtime/observer.h"
#include "runtime/state.h"
#include "shm/clock.h"
#include "shm/error.h"

#define INTERVAL_NS     UINT64_C(2000000000)
#define INTERVAL_NS_MIN UINT64_C(100000000)
#define INTERVAL_NS_MAX (UINT64_C(3600) * 1000000000)
#define LOOK_NS         UINT64_C(1000000000)
#define ORDER_NS        UINT64_C(10000000000)

struct top_options {
    uint64_t given;
    bool once;
    uint64_t interval_ns;
    const char *sort;
};

#define OFFSET(member) offsetof(struct top_options, member)
static const struct pawl_option top_option_table[] = {
    {0, "once", NULL, "print one look, and end", PAWL_OPTION_FLAG, OFFSET(once), 0, 0},
    {0, "interval", "D", "look each so long (default 2s; with --once, 1s)", PAWL_OPTION_DURATION,
     OFFSET(interval_ns), INTERVAL_NS_MIN, INTERVAL_NS_MAX},
    {0, "sort", "COLUMN", "queue (default), depth, ready, flight, in, out, ack, ...", PAWL_OPTION_TEXT,
     OFFSET(sort), 0, 0},
    {0},
};

struct source {
    struct pawl_observer observer;
    struct pawl_metrics_sample before, now; /* now.at_ns 0: none yet */
};

/* ---- looking ---- */

static int look_top(void *ctx, struct pawl_top *top, char words[160])
{
    struct source *source = ctx;
    struct pawl_metrics_sample sample;
    struct pawl_metrics_memory memory[PAWL_MEMORY_KINDS];
    struct pawl_observer *observer = &source->observer;
    int error = pawl_observer_look(observer, LOOK_NS);
    if (!error)
        error = pawl_observer_sample(observer, &sample);
    if (error) {
        snprintf(words, 160, "%.100s: what is shown is old",
                 error == -ENOENT           ? "nobody serves"
                 : error == -ETIMEDOUT      ? "the scheduler does not answer"
                 : observer->report.text[0] ? observer->report.text
                                            : pawl_error_text(error));
        return error;
    }
    pawl_metrics_sample_fini(&source->before);
    source->before = source->now;
    source->now = sample;
    pawl_memory_kinds(observer->welcome.scheduler_pid, observer->processes, observer->process_count, &sample,
                      memory);
    return pawl_top_update(top, source->before.at_ns ? &source->before : NULL, &sample, memory,
                           pawl_clock_realtime_ns());
}

/* ---- orders ---- */

/* One request. 0: *@reply_out is a new reference. */
static int ask(struct source *source, json_t *request, json_t **reply_out, char words[160])
{
    struct pawl_observer *observer = &source->observer;
    char *text = json_dumps(request, JSON_COMPACT);
    int error = text ? pawl_observer_ask(observer, text, ORDER_NS) : -ENOMEM;
    free(text);
    if (error) {
        snprintf(words, 160, "%.159s", observer->report.text);
        return error;
    }
    *reply_out = json_loadb(observer->reply.body, observer->reply.header.bytes, 0, NULL);
    return *reply_out ? 0 : PAWL_E_BAD_MESSAGE;
}

/* As many as there are, so many at a time. */
static int redrive(struct source *source, const char *queue, char words[160])
{
    uint64_t moved = 0, skipped = 0, from = 0;
    for (;;) {
        json_t *reply = NULL;
        json_t *request =
            json_pack("{s:s,s:s,s:I}", "op", "dlq.redrive", "queue", queue, "from", (json_int_t)from);
        int error = ask(source, request, &reply, words);
        json_decref(request);
        if (error)
            return error;
        uint64_t next = (uint64_t)json_integer_value(json_object_get(reply, "next"));
        moved += (uint64_t)json_integer_value(json_object_get(reply, "redriven"));
        skipped += (uint64_t)json_integer_value(json_object_get(reply, "skipped"));
        json_decref(reply);
        if (next <= from)
            break;
        from = next;
    }
    if (skipped > 0)
        snprintf(words, 160, "%s: %" PRIu64 " redriven, %" PRIu64 " stay (queue gone, full, or in flight)",
                 queue, moved, skipped);
    else
        snprintf(words, 160, "%s: %" PRIu64 " redriven", queue, moved);
    return 0;
}

static int order_top(void *ctx, const char *op, const char *queue, char words[160])
{
    struct source *source = ctx;
    json_t *reply = NULL;
    if (strcmp(op, "dlq.redrive") == 0)
        return redrive(source, queue, words);
    json_t *request = json_pack("{s:s,s:s}", "op", op, "name", queue);
    int error = ask(source, request, &reply, words);
    json_decref(request);
    if (error)
        return error;
    if (strcmp(op, "queue.purge") == 0)
        snprintf(words, 160, "%s: %" JSON_INTEGER_FORMAT " dropped", queue,
                 json_integer_value(json_object_get(reply, "purged")));
    else
        snprintf(words, 160, "%s: %s", queue, strcmp(op, "queue.pause") == 0 ? "paused" : "resumed");
    json_decref(reply);
    return 0;
}

/* ---- once ---- */

static int print_once(struct source *source, struct pawl_top *top, const char *where, uint64_t interval_ns,
                      char words[160])
{
    const char *columns = getenv("COLUMNS");
    long width = columns ? strtol(columns, NULL, 10) : 0;
    struct pawl_top_line head[PAWL_TOP_HEAD_LINES], line;
    int error = look_top(source, top, words);
    if (error)
        return error;
    nanosleep(&(struct timespec){.tv_sec = (time_t)(interval_ns / 1000000000),
                                 .tv_nsec = (long)(interval_ns % 1000000000)},
              NULL);
    error = look_top(source, top, words);
    if (error)
        return error;
    int wide = width >= PAWL_TOP_WIDTH_MIN && width <= PAWL_TOP_WIDTH_MAX ? (int)width : 80;
    pawl_top_head(top, where, wide, head);
    for (int i = 0; i < PAWL_TOP_HEAD_LINES; i++)
        printf("%s\n", head[i].text);
    for (size_t i = 0; i < top->row_count; i++) {
        pawl_top_line(top, i, wide, &line);
        printf("%s\n", line.text);
    }
    return 0;
}

/* ---- the verb ---- */

/* "in" is "IN/S". */
static int choose_sort(const struct pawl_cli *cli, const char *word, struct pawl_top *top)
{
    for (uint32_t column = 0; word != NULL && column < PAWL_TOP_COLUMNS; column++) {
        const char *name = pawl_top_column_name(column);
        size_t bytes = strcspn(name, "/");
        if (strlen(word) == bytes && strncasecmp(word, name, bytes) == 0) {
            top->sort = (enum pawl_top_column)column;
            return 0;
        }
    }
    return word == NULL ? 0
                        : pawl_fail(cli, PAWL_EXIT_USAGE, "usage",
                                    "queue, depth, ready, flight, in, out, ack, nack, dead, state, cons",
                                    "--sort: there is no column '%.40s'", word);
}

static int check(const struct pawl_cli *cli, const struct top_options *o, struct pawl_top *top)
{
    if (cli->json)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "pawl metrics --format json has all of it",
                         "top has no JSON form");
    if (!o->once && (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0))
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage",
                         "pawl metrics for programs, pawl top --once for a look",
                         "top draws on a terminal, and there is none");
    return choose_sort(cli, o->sort, top);
}

static int run_top(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    (void)operands;
    const struct top_options *o = options;
    struct source source = {0};
    struct pawl_top top = {0};
    char why[PAWL_STATE_WHY_BYTES] = "", words[160] = "";
    int status = check(cli, o, &top);
    if (status != 0)
        return status;
    int error = pawl_observer_open(&source.observer, cli->state, why);
    if (error == -ENOENT)
        goto nobody;
    if (error)
        return pawl_fail_state(cli, error, why);
    const struct pawl_top_deeds deeds = {.ctx = &source, .look = look_top, .order = order_top};
    bool given = pawl_option_given(cli->verb, o, "interval");
    error = pawl_observer_look(&source.observer, ORDER_NS);
    if (!error && o->once)
        error = print_once(&source, &top, cli->state, given ? o->interval_ns : INTERVAL_NS / 2, words);
    else if (!error)
        error = pawl_top_view(&top, cli->state, given ? o->interval_ns : INTERVAL_NS, &deeds);
    pawl_top_fini(&top);
    pawl_metrics_sample_fini(&source.before);
    pawl_metrics_sample_fini(&source.now);
    if (error == -ENOTTY)
        status = pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "set TERM, or use pawl top --once",
                           "nothing can be drawn on a terminal of this kind");
    else if (error && error != -ENOENT)
        status = source.observer.report.text[0]
                     ? pawl_fail_report(cli, &source.observer.report)
                     : pawl_fail_error(cli, PAWL_EXIT_UNREACHABLE, error, NULL, "the scheduler");
    pawl_observer_fini(&source.observer);
    if (error != -ENOENT)
        return pawl_output_finish(cli, status);
nobody:
    return pawl_fail(cli, PAWL_EXIT_UNREACHABLE, "enoent", "start it: pawl serve", "nobody serves %s",
                     cli->state);
}

const struct pawl_verb pawl_verb_top = {
    .name = "top",
    .summary = "queues, journal, workers, memory: live on a terminal",
    .operands = "",
    .examples = "pawl top\npawl top --once --sort depth",
    .notes = "keys: j k choose, s sort, r reverse, p pause or resume, d redrive dead letters, P purge, / "
             "filter, q",
    .options = top_option_table,
    .options_bytes = sizeof(struct top_options),
    .run = run_top,
};
