/*
 * map_request.c - what a map asks the scheduler for: its items one batch after the other, results, the end.
 *
 * Runs in: the command. One ITEMS, one PULL and one FETCH are under way at a time. Receives nothing.
 */
#include "runtime/cli/map_request.h"

#include <errno.h>
#include <inttypes.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/map_result.h"
#include "runtime/cli/signals.h"
#include "shm/error.h"

#define GRACE_NS UINT64_C(10000000000)

enum {
    PULL_BYTES = 1 << 20,
    PULL_ANSWERS = 8,         /* a request for each answer would wake the scheduler as often */
    HAD_BYTES_MAX = 64 << 20, /* of items that had succeeded and wait to be fetched and printed */
};

static int send_message(struct pawl_map_talk *m, uint16_t type, enum pawl_map_tag tag, const void *body,
                        size_t bytes, const void *more, size_t more_bytes)
{
    return pawl_wire_queue_message(&m->session->wire, type, tag, body, bytes, more, more_bytes, NULL, 0);
}

static int send_run(struct pawl_map_talk *m, uint16_t type, enum pawl_map_tag tag)
{
    struct pawl_wire_run request;
    pawl_session_copy_name(request.run_id, m->run_id);
    return send_message(m, type, tag, &request, sizeof request, NULL, 0);
}

static int send_items(struct pawl_map_talk *m)
{
    m->items_sent = true;
    return send_message(m, PAWL_WIRE_ITEMS, PAWL_MAP_TAG_ITEMS, m->feed.bytes, m->feed.used, NULL, 0);
}

static int send_pull(struct pawl_map_talk *m)
{
    struct pawl_wire_pull request = {
        .from = m->pull_from, .bytes_max = PULL_BYTES, .with_bytes = 1, .answers = PULL_ANSWERS};
    pawl_session_copy_name(request.run_id, m->run_id);
    m->pull_sent = true;
    m->pull_answers = PULL_ANSWERS;
    return send_message(m, PAWL_WIRE_PULL, PAWL_MAP_TAG_PULL, &request, sizeof request, NULL, 0);
}

static int send_fetch(struct pawl_map_talk *m)
{
    struct pawl_wire_fetch request = {.count = m->fetch_count};
    pawl_session_copy_name(request.run_id, m->run_id);
    return send_message(m, PAWL_WIRE_FETCH, PAWL_MAP_TAG_FETCH, &request, sizeof request, m->fetch,
                        m->fetch_count * sizeof m->fetch[0]);
}

int pawl_map_request_cancel(struct pawl_map_talk *m)
{
    struct pawl_wire_cancel request = {
        .mode = m->level == PAWL_SIGNAL_DRAIN ? PAWL_CANCEL_DRAIN : PAWL_CANCEL_INTERRUPT,
        .grace_ns = m->level == PAWL_SIGNAL_KILL ? 0 : GRACE_NS,
    };
    pawl_session_copy_name(request.run_id, m->run_id);
    return send_message(m, PAWL_WIRE_CANCEL, PAWL_MAP_TAG_CANCEL, &request, sizeof request, NULL, 0);
}

/* ---- what next ---- */

void pawl_map_request_fail_input(struct pawl_map_talk *m, int error)
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

static int feed(struct pawl_map_talk *m)
{
    bool is_full = m->catching_up && m->fetch_count != 0 && m->items.item_bytes >= HAD_BYTES_MAX;
    if (!m->feeding || m->items_sent || m->end_sent || is_full)
        return 0;
    if (m->credit != 0) {
        uint32_t most = m->catching_up ? PAWL_MAP_CATCH_UP_BATCH_ITEMS : PAWL_MAP_BATCH_ITEMS;
        int error = pawl_map_feed_gather(&m->feed, m->credit < most ? m->credit : most);
        if (error != 0)
            pawl_map_request_fail_input(m, error);
    }
    if (m->feed.count != 0)
        return send_items(m);
    if (!m->feed.input_ended || !m->feeding)
        return 0;
    m->end_sent = true;
    return send_run(m, PAWL_WIRE_ITEMS_END, PAWL_MAP_TAG_ITEMS_END);
}

/* On a resume the new work goes first: as long as all that was sent had succeeded before, and the input has
 * more at once, its outputs wait. */
static bool is_on_its_way_to_new_work(const struct pawl_map_talk *m)
{
    return m->catching_up && m->feeding && !m->end_sent && !m->feed.input_waits && !m->items_answered &&
           m->items.item_bytes < HAD_BYTES_MAX;
}

/* Ask for the next results that are not here: in order with -k, else those that had succeeded before. */
static int fetch(struct pawl_map_talk *m)
{
    bool keep_order = m->options->keep_order;
    if (m->fetch_count != 0 || (!keep_order && m->had_waiting == 0) || is_on_its_way_to_new_work(m))
        return 0;
    uint64_t number = keep_order ? m->next_print : m->fetch_from;
    for (; number < m->items.end && m->fetch_count < PAWL_MAP_FETCH_COUNT; number++) {
        struct pawl_map_item *item = pawl_map_items_at(&m->items, number);
        if (item == NULL)
            continue;
        bool had = item->state == PAWL_MAP_ITEM_HAD;
        if (item->result == NULL && (had || (keep_order && item->state == PAWL_MAP_ITEM_ENDED))) {
            m->fetch_numbers[m->fetch_count] = number;
            m->fetch[m->fetch_count++] = item->instance;
        } else if (keep_order || item->state == PAWL_MAP_ITEM_SENT) {
            break;
        }
    }
    m->fetch_from = number;
    return m->fetch_count != 0 ? send_fetch(m) : 0;
}

int pawl_map_request_more(struct pawl_map_talk *m)
{
    if (m->options->keep_order) {
        if (m->run_ended && !m->gaps_skipped) {
            pawl_map_results_skip_gaps(m);
            m->gaps_skipped = !m->items_sent; /* an answer that is owed may bring more */
        }
        pawl_map_results_print(m);
    }
    int error = fetch(m); /* first: too many that wait for it hold the feed up */
    if (error == 0)
        error = feed(m);
    if (error == 0)
        error = fetch(m); /* the input may have nothing more at once */
    if (error == 0 && !m->pull_sent && !m->run_ended)
        error = send_pull(m);
    if (error == 0 && m->run_ended && !m->wait_sent && pawl_map_results_are_printed(m)) {
        m->wait_sent = true;
        error = send_run(m, PAWL_WIRE_WAIT, PAWL_MAP_TAG_WAIT);
    }
    return error;
}

int pawl_map_request_again(struct pawl_map_talk *m)
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
        error = send_run(m, PAWL_WIRE_ITEMS_END, PAWL_MAP_TAG_ITEMS_END);
    if (error == 0 && m->fetch_count != 0)
        error = send_fetch(m);
    if (error == 0 && m->level != PAWL_SIGNAL_NONE && !m->run_ended)
        error = pawl_map_request_cancel(m);
    return error;
}
