/*
 * watch.c - what a waiting command tells meanwhile.
 *
 * Runs in: the command. Every failure of a question is silent: the waiting loop finds out by itself.
 */
#include "runtime/cli/watch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#include "runtime/cli/copy.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/submit.h"
#include "scheduler/run.h"

enum { TAIL_LINES = 5, TAIL_BYTES = 2048, TAIL_LINE_BYTES = 256 };
#define LOOK_NS UINT64_C(500000000)

void pawl_watch_init(struct pawl_watch *watch, const struct pawl_cli *cli, bool tells_failures)
{
    uint64_t now_ns = pawl_monotonic_ns();
    memset(watch, 0, sizeof *watch);
    watch->cli = cli;
    watch->tells_failures = tells_failures && !cli->json;
    pawl_progress_init(&watch->progress, cli, now_ns);
    watch->next_at_ns = pawl_progress_due_ns(&watch->progress);
    if (watch->tells_failures && watch->next_at_ns > now_ns + LOOK_NS)
        watch->next_at_ns = now_ns + LOOK_NS;
}

void pawl_watch_clear(struct pawl_watch *watch)
{
    pawl_progress_clear(&watch->progress);
}

void pawl_watch_fini(struct pawl_watch *watch)
{
    pawl_watch_clear(watch);
    pawl_plan_close(watch->plan);
    if (watch->has_query)
        pawl_session_close(&watch->query);
}

/* A second conversation. false: not now. */
static bool can_ask(struct pawl_watch *watch)
{
    struct pawl_error_report report;
    if (!watch->has_query) {
        memset(&watch->query, 0, sizeof watch->query);
        char why[PAWL_STATE_WHY_BYTES];
        watch->query.cli = watch->cli;
        if (pawl_state_open(watch->cli->state, PAWL_STATE_EXISTING, &watch->query.state, why) != 0)
            return false;
        watch->query.has_state = watch->has_query = true;
    }
    if (!watch->query.connected)
        watch->query.connected = pawl_client_open(&watch->query.state, false, &watch->query.wire,
                                                  &watch->query.welcome, &report) == 0;
    return watch->query.connected;
}

/* ---- failures ---- */

/* The last lines of some bytes, each indented. */
static void print_tail(const char *bytes, size_t n)
{
    if (n > TAIL_BYTES) {
        bytes += n - TAIL_BYTES;
        n = TAIL_BYTES;
    }
    while (n != 0 && bytes[n - 1] == '\n')
        n--;
    size_t from = n;
    for (unsigned lines = 0; from != 0; from--)
        if (bytes[from - 1] == '\n' && ++lines == TAIL_LINES)
            break;
    while (from < n) {
        const char *newline = memchr(bytes + from, '\n', n - from);
        size_t length = newline != NULL ? (size_t)(newline - bytes) - from : n - from;
        size_t cut = length > TAIL_LINE_BYTES ? length - TAIL_LINE_BYTES : 0;
        fputs(cut != 0 ? "  | ... " : "  | ", stderr);
        pawl_print_safe(stderr, bytes + from + cut, length - cut);
        fputc('\n', stderr);
        from += length + 1;
    }
}

static void print_tail_of_file(struct pawl_watch *watch, const char *run_id, const char *path,
                               size_t path_bytes)
{
    char bytes[TAIL_BYTES];
    int fd = pawl_open_output(watch->query.state.runs_dirfd, run_id, path, path_bytes);
    if (fd < 0)
        return;
    off_t end = lseek(fd, 0, SEEK_END);
    off_t from = end > TAIL_BYTES ? end - TAIL_BYTES : 0;
    ssize_t got = pread(fd, bytes, sizeof bytes, from);
    if (got > 0)
        print_tail(bytes, (size_t)got);
    close(fd);
}

/* What an attempt said last: on stderr, or, if it said nothing there, on stdout. */
static void print_last_words(struct pawl_watch *watch, const char *run_id,
                             const struct pawl_result_view *result)
{
    const struct pawl_wire_result *fixed = &result->fixed;
    bool errors = fixed->stderr_bytes != 0;
    const char *bytes = errors ? result->bytes + fixed->stdout_bytes : result->bytes;
    size_t n = errors ? fixed->stderr_bytes : fixed->stdout_bytes;
    uint32_t file = errors ? PAWL_RESULT_STDERR_FILE : PAWL_RESULT_STDOUT_FILE;
    if (n == 0)
        return;
    if ((fixed->flags & file) != 0)
        print_tail_of_file(watch, run_id, bytes, n);
    else
        print_tail(bytes, n);
}

struct failure {
    char name[PAWL_NAME_BYTES];
    struct pawl_wire_step fixed;
    char reason[192];
    char item[80];
    size_t item_bytes;
};

struct failures {
    struct pawl_watch *watch;
    struct failure list[PAWL_WATCH_FAILURES_MAX];
    unsigned count;
};

static bool was_told(const struct pawl_watch *watch, const struct pawl_wire_step *step)
{
    for (unsigned i = 0; i < watch->told_count; i++)
        if (watch->told[i].step == step->step && watch->told[i].instance == step->instance &&
            watch->told[i].attempts == step->attempts)
            return true;
    return false;
}

static int take_failure(void *context, const struct pawl_step_view *step)
{
    struct failures *failures = context;
    struct pawl_watch *watch = failures->watch;
    if (was_told(watch, &step->fixed))
        return 0;
    if (watch->told_count + failures->count == PAWL_WATCH_FAILURES_MAX)
        return 1;
    struct failure *failure = &failures->list[failures->count++];
    failure->fixed = step->fixed;
    snprintf(failure->name, sizeof failure->name, "%s", step->name);
    snprintf(failure->reason, sizeof failure->reason, "%s", step->reason);
    failure->item_bytes =
        step->fixed.item_bytes < sizeof failure->item ? step->fixed.item_bytes : sizeof failure->item;
    if (step->fixed.has_item == 0)
        failure->item_bytes = 0;
    memcpy(failure->item, step->item, failure->item_bytes);
    return 0;
}

static void tell_failure(struct pawl_watch *watch, struct pawl_run_view *view, const struct failure *failure)
{
    const char *red = watch->cli->color_err ? "\033[31m" : "", *off = watch->cli->color_err ? "\033[0m" : "";
    struct pawl_result_view result = {.bytes = NULL};
    fprintf(stderr, "pawl: %sstep %s", red, failure->name);
    if (failure->fixed.fan_out != 0)
        fprintf(stderr, " [%" PRIu64 "]", failure->fixed.instance);
    if (failure->item_bytes != 0) {
        fputs(" (", stderr);
        pawl_print_line(stderr, failure->item, failure->item_bytes);
        fputs(")", stderr);
    }
    const char *reason = failure->reason[0] != '\0' ? failure->reason : "no reason recorded";
    fputs(" failed: ", stderr);
    pawl_print_line(stderr, reason, strlen(reason));
    if (failure->fixed.attempts > 1)
        fprintf(stderr, " (after %u attempts)", failure->fixed.attempts);
    fprintf(stderr, "%s\n", off);
    if (pawl_run_view_result(view, failure->name, failure->fixed.step, failure->fixed.instance, 0, &result) ==
        0)
        print_last_words(watch, view->summary.run_id, &result);
    free(result.bytes);
    watch->told[watch->told_count].step = failure->fixed.step;
    watch->told[watch->told_count].instance = failure->fixed.instance;
    watch->told[watch->told_count++].attempts = failure->fixed.attempts;
}

static void tell_failures(struct pawl_watch *watch, const char *run_id)
{
    struct pawl_run_view view;
    struct failures *failures = calloc(1, sizeof *failures);
    if (failures == NULL || watch->told_more || !watch->has_query ||
        pawl_run_view_find(&watch->query, run_id, &view) != 0)
        goto out;
    failures->watch = watch;
    watch->told_more = pawl_run_view_each(&view, 1u << PAWL_STEP_FAILED, take_failure, failures) == 1;
    if (failures->count != 0 || watch->told_more)
        pawl_watch_clear(watch);
    for (unsigned i = 0; i < failures->count; i++)
        tell_failure(watch, &view, &failures->list[i]);
    if (watch->told_more)
        fprintf(stderr, "pawl: more failed: pawl steps %s --filter state=failed\n", run_id);
    pawl_run_view_close(&view);
out:
    free(failures);
}

void pawl_watch_ended(struct pawl_watch *watch, const struct pawl_wire_summary *summary)
{
    pawl_watch_clear(watch);
    if (watch->tells_failures && summary->failed != 0) {
        can_ask(watch); /* when nobody serves any more the image answers */
        tell_failures(watch, summary->run_id);
    }
    watch->told_count = 0;
    watch->told_more = false;
    watch->known_failed = 0;
}

/* ---- progress ---- */

static void name_of(struct pawl_watch *watch, const char *run_id, const struct pawl_wire_result *fixed,
                    char name[96])
{
    if (strcmp(watch->plan_of, run_id) != 0) {
        struct pawl_run_view view = {.session = &watch->query};
        pawl_session_copy_name(view.summary.run_id, run_id);
        pawl_plan_close(watch->plan);
        watch->plan = pawl_run_view_plan(&view) == 0 ? view.plan : NULL;
        pawl_session_copy_name(watch->plan_of, run_id);
    }
    bool known = watch->plan != NULL && fixed->step < pawl_plan_step_count(watch->plan);
    const char *step = known ? pawl_plan_step_name(watch->plan, fixed->step) : "step";
    if (known && pawl_step_is_many(pawl_plan_step(watch->plan, fixed->step)))
        snprintf(name, 96, "%s [%" PRIu64 "]", step, fixed->instance);
    else
        snprintf(name, 96, "%s", step);
}

/* Keep the longest running ones, sorted. */
static void offer_slowest(struct pawl_wire_result slowest[PAWL_PROGRESS_SLOWEST], unsigned *count,
                          const struct pawl_wire_result *fixed)
{
    unsigned at = *count;
    while (at > 0 && slowest[at - 1].started_at_ns > fixed->started_at_ns)
        at--;
    if (at == PAWL_PROGRESS_SLOWEST)
        return;
    if (*count < PAWL_PROGRESS_SLOWEST)
        (*count)++;
    for (unsigned i = *count - 1; i > at; i--)
        slowest[i] = slowest[i - 1];
    slowest[at] = *fixed;
}

static void add_slowest(struct pawl_watch *watch, const char *run_id, struct pawl_progress_facts *facts)
{
    struct pawl_wire_run request;
    struct pawl_wire_message reply;
    struct pawl_error_report report;
    struct pawl_wire_results results;
    struct pawl_wire_result slowest[PAWL_PROGRESS_SLOWEST];
    unsigned count = 0;
    pawl_session_copy_name(request.run_id, run_id);
    if (pawl_session_ask(&watch->query, PAWL_WIRE_RUNNING, &request, sizeof request, NULL, 0,
                         PAWL_WIRE_RESULTS, sizeof results, &reply, &report) != 0)
        return;
    memcpy(&results, reply.body, sizeof results);
    const char *at = (const char *)reply.body + sizeof results;
    size_t left = reply.header.bytes - sizeof results;
    for (uint32_t i = 0; i < results.count && left >= sizeof slowest[0]; i++) {
        struct pawl_wire_result fixed;
        memcpy(&fixed, at, sizeof fixed);
        uint64_t bytes =
            ((uint64_t)sizeof fixed + fixed.stdout_bytes + fixed.stderr_bytes + fixed.named_bytes + 7) &
            ~UINT64_C(7);
        if (bytes > left)
            return;
        offer_slowest(slowest, &count, &fixed);
        at += bytes;
        left -= (size_t)bytes;
    }
    uint64_t now_ns = pawl_realtime_ns();
    for (unsigned i = 0; i < count; i++) {
        struct pawl_progress_step *step = &facts->slowest[facts->slowest_count++];
        name_of(watch, run_id, &slowest[i], step->name);
        step->elapsed_ns = now_ns > slowest[i].started_at_ns ? now_ns - slowest[i].started_at_ns : 0;
    }
}

static void show(struct pawl_watch *watch, const struct pawl_wire_summary *summary,
                 const struct pawl_progress_facts *hints, uint64_t now_ns)
{
    struct pawl_progress_facts facts = {
        .run_id = summary->run_id,
        .done = pawl_summary_done(summary),
        .total = summary->open_ended != 0 ? 0 : summary->total,
        .read = summary->total,
        .running = summary->running,
        .failed = summary->failed,
        .retrying = summary->delayed,
        .elapsed_ns = summary->elapsed_ns,
    };
    if (hints != NULL && hints->total != 0)
        facts.total = hints->total;
    if (hints != NULL) {
        facts.runs_done = hints->runs_done;
        facts.runs_total = hints->runs_total;
    }
    if (watch->progress.kind == PAWL_PROGRESS_BLOCK)
        add_slowest(watch, summary->run_id, &facts);
    pawl_progress_show(&watch->progress, now_ns, &facts);
}

void pawl_watch_notice(struct pawl_watch *watch, const struct pawl_wire_message *message)
{
    pawl_watch_clear(watch);
    pawl_note(watch->cli, "%.*s", (int)message->header.bytes, (const char *)message->body);
}

uint64_t pawl_watch_tick(struct pawl_watch *watch, const char *run_id,
                         const struct pawl_progress_facts *fact_hints)
{
    uint64_t now_ns = pawl_monotonic_ns();
    if (now_ns < watch->next_at_ns)
        return watch->next_at_ns;
    bool due = now_ns >= pawl_progress_due_ns(&watch->progress);
    struct pawl_wire_run request;
    struct pawl_wire_message reply;
    struct pawl_error_report report;
    struct pawl_wire_summary summary;
    pawl_session_copy_name(request.run_id, run_id);
    if (can_ask(watch) && pawl_session_ask(&watch->query, PAWL_WIRE_STATUS, &request, sizeof request, NULL, 0,
                                           PAWL_WIRE_SUMMARY, sizeof summary, &reply, &report) == 0) {
        memcpy(&summary, reply.body, sizeof summary);
        if (watch->tells_failures && summary.failed > watch->known_failed) {
            watch->known_failed = summary.failed;
            tell_failures(watch, run_id);
        }
        if (due)
            show(watch, &summary, fact_hints, now_ns);
    }
    watch->next_at_ns = pawl_progress_due_ns(&watch->progress);
    if (watch->next_at_ns <= now_ns || (watch->tells_failures && watch->next_at_ns > now_ns + LOOK_NS))
        watch->next_at_ns = now_ns + LOOK_NS;
    return watch->next_at_ns;
}
