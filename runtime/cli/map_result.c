/*
 * map_result.c - what a map gets back: results of tasks, kept until it is their turn to be printed.
 *
 * Runs in: the command. Results come in the order of completion; with -k they are kept (up to a bound; beyond
 * it, forgotten and fetched again) until their turn. Sends nothing.
 */
#include "runtime/cli/map_result.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/signals.h"
#include "runtime/run_output.h"
#include "scheduler/run.h"
#include "shm/error.h"
#include "shm/task.h"

enum { CACHE_BYTES_MAX = 16 << 20 /* of results that wait for their turn */ };

/* A result that came before the answer that says whose it is. */
struct pawl_map_early {
    struct pawl_map_early *next;
    struct pawl_map_arrival arrival;
    char bytes[];
};

static void tell_failure(struct pawl_map_talk *m, const struct pawl_map_item *item,
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
        pawl_print_line(stderr, label, n > 200 ? 200 : n);
    fprintf(stderr, "%s) failed: %s", n > 200 ? "..." : "", why);
    if (fixed->attempt > 1)
        fprintf(stderr, " (after %u attempts)", fixed->attempt);
    fputc('\n', stderr);
    free(label);
}

/* ---- printing ---- */

static void print_item(struct pawl_map_talk *m, struct pawl_map_item *item,
                       const struct pawl_map_result *result)
{
    if (m->watch.progress.lines != 0)
        pawl_watch_clear(&m->watch);
    pawl_map_output_print(m->output, item, result);
    pawl_map_items_drop(&m->items, item);
}

static void lose_item(struct pawl_map_talk *m, const struct pawl_map_item *item, int error)
{
    if (m->watch.progress.lines != 0)
        pawl_watch_clear(&m->watch);
    pawl_map_output_lose(m->output, item, NULL, 0, error);
}

void pawl_map_results_print(struct pawl_map_talk *m)
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

void pawl_map_results_skip_gaps(struct pawl_map_talk *m)
{
    for (uint64_t number = m->items.first; number < m->items.end; number++) {
        struct pawl_map_item *item = pawl_map_items_at(&m->items, number);
        if (item != NULL && (item->state == PAWL_MAP_ITEM_OPEN || item->state == PAWL_MAP_ITEM_SENT))
            pawl_map_items_drop(&m->items, item);
    }
}

bool pawl_map_results_are_printed(const struct pawl_map_talk *m)
{
    bool printed = m->options->keep_order ? m->next_print >= m->items.end : m->had_waiting == 0;
    return printed && m->fetch_count == 0;
}

/* ---- taking ---- */

/* A result of this session, or one that was fetched. */
static int take_result(struct pawl_map_talk *m, struct pawl_map_item *item,
                       const struct pawl_map_arrival *arrival)
{
    const struct pawl_wire_result *fixed = &arrival->fixed;
    bool fresh = item->state == PAWL_MAP_ITEM_OPEN;
    char where[512];
    int error = pawl_map_items_keep(&m->items, item, arrival);
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
    } else if (item->state == PAWL_MAP_ITEM_HAD) {
        m->had_waiting -= !m->options->keep_order;
        if (fixed->state == PAWL_STEP_FAILED) /* it had succeeded, but its record cannot be read */
            lose_item(m, item, -fixed->exit_code);
    }
    if (!m->options->keep_order)
        print_item(m, item, item->result);
    else if (item->number == m->next_print)
        pawl_map_results_print(m);
    else if (m->items.cached_bytes > CACHE_BYTES_MAX)
        pawl_map_items_forget_result(&m->items, item);
    return 0;
}

static int stash_early(struct pawl_map_talk *m, const struct pawl_map_arrival *arrival)
{
    struct pawl_map_early *early = malloc(sizeof *early + arrival->n);
    if (early == NULL)
        return -ENOMEM;
    early->next = m->early;
    early->arrival = *arrival;
    early->arrival.bytes = early->bytes;
    if (arrival->n != 0)
        memcpy(early->bytes, arrival->bytes, arrival->n);
    m->early = early;
    return 0;
}

int pawl_map_results_take_early(struct pawl_map_talk *m)
{
    struct pawl_map_early *list = m->early;
    int error = 0;
    m->early = NULL;
    while (list != NULL) {
        struct pawl_map_early *next = list->next;
        struct pawl_map_item *item = pawl_map_items_find(&m->items, list->arrival.fixed.instance);
        if (error == 0 && item != NULL && item->state == PAWL_MAP_ITEM_OPEN)
            error = take_result(m, item, &list->arrival);
        else if (error == 0 && item == NULL && m->items_sent)
            error = stash_early(m, &list->arrival);
        free(list);
        list = next;
    }
    return error;
}

void pawl_map_results_free_early(struct pawl_map_talk *m)
{
    while (m->early != NULL) {
        struct pawl_map_early *next = m->early->next;
        free(m->early);
        m->early = next;
    }
}

static size_t next_record(const char *at, size_t left, struct pawl_map_arrival *arrival_out)
{
    struct pawl_wire_result *fixed = &arrival_out->fixed;
    memset(arrival_out, 0, sizeof *arrival_out);
    if (left < sizeof *fixed)
        return 0;
    memcpy(fixed, at, sizeof *fixed);
    uint64_t n = (uint64_t)fixed->stdout_bytes + fixed->stderr_bytes + fixed->named_bytes;
    uint64_t bytes = (sizeof *fixed + n + 7) & ~UINT64_C(7);
    arrival_out->bytes = at + sizeof *fixed;
    arrival_out->n = (size_t)n;
    return bytes <= left ? (size_t)bytes : 0;
}

/* Fetched results come in the order in which they were asked for, those at the end perhaps not yet. */
static int take_fetched(struct pawl_map_talk *m, uint32_t i, const struct pawl_map_arrival *arrival)
{
    if (i >= m->fetch_count || arrival->fixed.instance != m->fetch[i])
        return PAWL_E_BAD_MESSAGE;
    struct pawl_map_item *item = pawl_map_items_at(&m->items, m->fetch_numbers[i]);
    return item != NULL ? take_result(m, item, arrival) : 0;
}

/* A result of what ends now. */
static int take_pulled(struct pawl_map_talk *m, const struct pawl_map_arrival *arrival)
{
    struct pawl_map_item *item = pawl_map_items_find(&m->items, arrival->fixed.instance);
    if (item != NULL && item->state == PAWL_MAP_ITEM_OPEN)
        return take_result(m, item, arrival);
    if (item == NULL && m->items_sent && !m->items_answered)
        return stash_early(m, arrival);
    return 0;
}

/* Behind the records: where the answer says what their output files hold. */
static size_t files_offset(const char *at, size_t left, uint32_t count)
{
    struct pawl_map_arrival arrival;
    size_t offset = 0, bytes;
    for (; count > 0 && (bytes = next_record(at + offset, left - offset, &arrival)) != 0; count--)
        offset += bytes;
    return offset;
}

int pawl_map_results_take(struct pawl_map_talk *m, const struct pawl_wire_message *message, bool fetched)
{
    struct pawl_wire_results results;
    if (message->header.bytes < sizeof results)
        return PAWL_E_BAD_MESSAGE;
    memcpy(&results, message->body, sizeof results);
    const char *at = (const char *)message->body + sizeof results;
    size_t left = message->header.bytes - sizeof results;
    size_t offset = files_offset(at, left, results.count);
    struct pawl_output_marks marks = {at + offset, left - offset};
    for (uint32_t i = 0; i < results.count; i++) {
        struct pawl_map_arrival arrival;
        size_t bytes = next_record(at, left, &arrival);
        if (bytes == 0)
            return PAWL_E_BAD_MESSAGE;
        pawl_output_marks_next(&marks, arrival.fixed.flags, &arrival.files);
        int error = fetched ? take_fetched(m, i, &arrival) : take_pulled(m, &arrival);
        if (error != 0)
            return error;
        at += bytes;
        left -= bytes;
    }
    if (fetched) {
        if (results.count < m->fetch_count)
            m->fetch_from = m->fetch_numbers[results.count];
        m->fetch_count = 0;
        return results.count == 0 ? PAWL_E_BAD_MESSAGE : 0;
    }
    m->pull_sent = --m->pull_answers > 0;
    m->pull_from = results.next;
    m->run_ended = results.run_ended != 0;
    return 0;
}
