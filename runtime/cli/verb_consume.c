/*
 * verb_consume.c - `pawl consume`: deliveries of a queue as a stream of JSON, or a command for each.
 *
 * Runs in: the command. Without --auto-ack and --exec what is printed is detached: it stays in flight when
 * this has ended, until `pawl ack` settles it or its ack wait passes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <poll.h>
#include <unistd.h>

#include "runtime/cli/bus.h"
#include "runtime/cli/consume.h"
#include "runtime/cli/consume_print.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/group_place.h"
#include "runtime/cli/output.h"
#include "runtime/cli/signals.h"
#include "runtime/cli/verbs.h"
#include "runtime/lib/command.h"
#include "shm/clock.h"

enum {
    TAKE_AT_ONCE = 64, /* detached ones: their ack wait runs */
    PEEK_AT_ONCE = 256,
    PREFETCH = 256,
    FLUSH_MS = 1000, /* a look at signals, and at who is to answer, after each */
};

struct consume_options {
    uint64_t given;
    const char *group, *from, *plugin;
    bool peek, auto_ack;
    uint64_t count, wait_ns, concurrency;
    struct pawl_text_list command;
};

#define OFFSET(member) offsetof(struct consume_options, member)
static const struct pawl_option consume_option_table[] = {
    {0, "group", "GROUP", "consumer group of a stream", PAWL_OPTION_TEXT, OFFSET(group), 0, 0},
    {0, "from", "O", "where a new group begins: offset, earliest, latest, time", PAWL_OPTION_TEXT,
     OFFSET(from), 0, 0},
    {0, "peek", NULL, "look, take nothing", PAWL_OPTION_FLAG, OFFSET(peek), 0, 0},
    {0, "count", "N", "end after so many", PAWL_OPTION_COUNT, OFFSET(count), 1, 0},
    {0, "wait", "D", "end when nothing came for so long", PAWL_OPTION_DURATION, OFFSET(wait_ns), 0, 0},
    {0, "auto-ack", NULL, "ack what was printed", PAWL_OPTION_FLAG, OFFSET(auto_ack), 0, 0},
    {0, "plugin", "FILE[,JSON]", "a handler in a shared object, and its configuration", PAWL_OPTION_TEXT,
     OFFSET(plugin), 0, 0},
    {0, "concurrency", "N", "commands or handlers at a time (default 1)", PAWL_OPTION_COUNT,
     OFFSET(concurrency), 1, 4096},
    {0, "exec", "CMD...", "run it for each; the rest of the line is the command", PAWL_OPTION_REST,
     OFFSET(command), 0, 0},
    {0},
};

int pawl_consume_fail(const struct pawl_consuming *consuming, int error)
{
    int status = pawl_cli_fail(consuming->cli, consuming->pawl, error, "%s", consuming->queue);
    if (error == PAWL_ERR_NOT_FOUND && consuming->subscribed)
        return PAWL_EXIT_FAILED; /* it was deleted meanwhile */
    /* A stream without its group, a group of no stream: wrong usage, no wrong configuration. */
    return error == PAWL_ERR_INVALID ? PAWL_EXIT_USAGE : status;
}

int pawl_consume_wait(struct pawl_consuming *consuming, struct pollfd *fds, unsigned count, int64_t wait_ms)
{
    struct pollfd *all = calloc(count + 2, sizeof *all);
    if (all == NULL)
        return -ENOMEM;
    pawl_kick(consuming->pawl);
    all[0] = (struct pollfd){.fd = pawl_fd(consuming->pawl), .events = POLLIN};
    all[1] = (struct pollfd){.fd = pawl_signals_fd(), .events = POLLIN};
    if (count > 0)
        memcpy(all + 2, fds, count * sizeof *fds);
    (void)poll(all, count + 2, wait_ms < 0 ? -1 : wait_ms > 3600000 ? 3600000 : (int)wait_ms);
    if (count > 0)
        memcpy(fds, all + 2, count * sizeof *fds);
    free(all);
    int happened = pawl_dispatch(consuming->pawl, 0);
    return happened < 0 && happened != -EINTR ? happened : 0;
}

int pawl_consume_flush(struct pawl_consuming *consuming)
{
    struct pawl_lib_silence silence;
    pawl_lib_silence_begin(consuming->pawl, &silence);
    for (;;) {
        bool last = pawl_signals_level() != PAWL_SIGNAL_NONE;
        int error = pawl_flush(consuming->pawl, FLUSH_MS);
        if (error == -ETIMEDOUT)
            error = last ? 0 : pawl_lib_silence_look(consuming->pawl, &silence);
        else
            return error;
        if (error != 0 || last)
            return error;
    }
}

static int out_of_stdout(const struct pawl_consuming *consuming, int error)
{
    if (error == -EPIPE || ferror(stdout)) /* pawl_output_finish() says it */
        return PAWL_EXIT_FAILED;
    return pawl_fail_error(consuming->cli, PAWL_EXIT_FAILED, error, NULL, "standard output");
}

static int flush_stdout(void)
{
    return fflush(stdout) == 0 ? 0 : -errno;
}

/* ---- detached ---- */

static int take(struct pawl_consuming *consuming)
{
    uint64_t idle_since_ns = pawl_clock_monotonic_ns(), wait_ns = UINT64_MAX;
    while (consuming->left > 0) {
        struct pawl_taken *taken = NULL;
        if (pawl_signals_level() != PAWL_SIGNAL_NONE)
            return PAWL_EXIT_INTERRUPTED;
        if (consuming->wait_ms >= 0) {
            uint64_t idle_ns = pawl_clock_monotonic_ns() - idle_since_ns;
            uint64_t most_ns = (uint64_t)consuming->wait_ms * 1000000;
            wait_ns = idle_ns < most_ns ? most_ns - idle_ns : 0;
        }
        size_t count = consuming->left < TAKE_AT_ONCE ? (size_t)consuming->left : TAKE_AT_ONCE;
        int got = pawl_lib_take_until(consuming->pawl, consuming->queue, consuming->group, count, wait_ns,
                                      pawl_signals_fd(), &taken);
        /* A lost scheduler: what it may have given and was not shown comes again by itself. */
        if (got == PAWL_ERR_INDEFINITE)
            continue;
        if (got < 0 && got != -EINTR && got != PAWL_ERR_EMPTY)
            return pawl_consume_fail(consuming, got);
        consuming->subscribed = true;
        int error = 0;
        for (int i = 0; i < got && error == 0; i++)
            error = pawl_delivery_print(&taken[i].delivery, taken[i].tag, stdout);
        free(taken);
        if (error == 0)
            error = flush_stdout();
        if (error != 0)
            return out_of_stdout(consuming, error);
        if (got > 0) {
            consuming->done += (uint64_t)got;
            consuming->left -= consuming->left != UINT64_MAX ? (uint64_t)got : 0;
            idle_since_ns = pawl_clock_monotonic_ns();
        } else if (consuming->wait_ms >= 0 && pawl_signals_level() == PAWL_SIGNAL_NONE) {
            break; /* nothing came for so long */
        }
    }
    return 0;
}

static int peek(struct pawl_consuming *consuming)
{
    uint64_t from = consuming->has_from ? consuming->from : 0;
    while (consuming->left > 0 && pawl_signals_level() == PAWL_SIGNAL_NONE) {
        struct pawl_taken *taken = NULL;
        uint64_t next = 0;
        size_t count = consuming->left < PEEK_AT_ONCE ? (size_t)consuming->left : PEEK_AT_ONCE;
        int got = pawl_peek(consuming->pawl, consuming->queue, consuming->group, from, count, &next, &taken);
        if (got < 0 && got != PAWL_ERR_EMPTY)
            return pawl_consume_fail(consuming, got);
        int error = 0;
        for (int i = 0; i < got && error == 0; i++)
            error = pawl_delivery_print(&taken[i].delivery, NULL, stdout);
        free(taken);
        if (error != 0)
            return out_of_stdout(consuming, error);
        if (got <= 0 || next <= from)
            break;
        consuming->left -= consuming->left != UINT64_MAX ? (uint64_t)got : 0;
        from = next;
    }
    return 0;
}

/* ---- --auto-ack ---- */

/* Acked once it is printed and written out: a reader that has gone leaves it in the queue. */
static int print_and_ack(struct pawl_consuming *consuming, const struct pawl_delivery **deliveries, int got)
{
    int error = 0;
    for (int i = 0; i < got && error == 0; i++) {
        char tag[192];
        error = pawl_delivery_tag(deliveries[i], tag, sizeof tag);
        if (error == 0)
            error = pawl_delivery_print(deliveries[i], tag, stdout);
    }
    if (error == 0)
        error = flush_stdout();
    for (int i = 0; i < got && error != 0; i++)
        (void)pawl_release(deliveries[i]);
    if (error != 0)
        return out_of_stdout(consuming, error);
    error = pawl_ack_batch(deliveries, (size_t)got);
    if (error != 0 && error != PAWL_ERR_STALE)
        return pawl_consume_fail(consuming, error);
    return 0;
}

static int auto_ack(struct pawl_consuming *consuming, struct pawl_consumer *consumer)
{
    const struct pawl_delivery *deliveries[TAKE_AT_ONCE];
    uint64_t idle_since_ns = pawl_clock_monotonic_ns();
    while (consuming->left > 0) {
        size_t count = consuming->left < TAKE_AT_ONCE ? (size_t)consuming->left : TAKE_AT_ONCE;
        if (pawl_signals_level() != PAWL_SIGNAL_NONE)
            return PAWL_EXIT_INTERRUPTED;
        int got = pawl_claim(consumer, deliveries, count, 0);
        if (got > 0) {
            int status = print_and_ack(consuming, deliveries, got);
            if (status != 0)
                return status;
            consuming->done += (uint64_t)got;
            consuming->left -= consuming->left != UINT64_MAX ? (uint64_t)got : 0;
            idle_since_ns = pawl_clock_monotonic_ns();
            continue;
        }
        int64_t idle_ms = (int64_t)((pawl_clock_monotonic_ns() - idle_since_ns) / 1000000);
        if (got == 0 && consuming->wait_ms >= 0 && idle_ms >= consuming->wait_ms)
            break;
        int error = got < 0 && got != PAWL_ERR_EMPTY
                        ? got
                        : pawl_consume_wait(consuming, NULL, 0,
                                            consuming->wait_ms < 0 ? -1 : consuming->wait_ms - idle_ms);
        if (error != 0)
            return pawl_consume_fail(consuming, error);
    }
    return 0;
}

static int consume_auto_ack(struct pawl_consuming *consuming)
{
    struct pawl_consumer *consumer;
    const struct pawl_consumer_options options = {
        .bytes = sizeof options,
        .group = consuming->group,
        .prefetch = consuming->left < PREFETCH ? (unsigned)consuming->left : PREFETCH,
        .has_from = consuming->has_from,
        .from = consuming->from};
    int error = pawl_consume(consuming->pawl, consuming->queue, &options, &consumer);
    if (error != 0)
        return pawl_consume_fail(consuming, error);
    consuming->subscribed = true;
    pawl_lib_consumer_limit(consumer, consuming->left);
    int status = auto_ack(consuming, consumer);
    error = pawl_consume_flush(consuming);
    if (status == 0 && error != 0)
        status = pawl_consume_fail(consuming, error);
    if (status == 0) /* else it ends with the connection */
        pawl_consumer_close(consumer);
    return status;
}

/* ---- flags ---- */

static int check_options(const struct pawl_cli *cli, const struct consume_options *o)
{
    bool exec = o->command.count > 0;
    if (o->peek + o->auto_ack + exec + (o->plugin != NULL) > 1)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "choose one",
                         "--peek, --auto-ack, --plugin and --exec exclude one another");
    if (o->concurrency != 0 && !exec && o->plugin == NULL)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", NULL, "--concurrency goes with --exec or --plugin");
    if (o->from != NULL && o->group == NULL && !o->peek)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "name a group of a stream: --group GROUP; or --peek",
                         "--from is about streams");
    return 0;
}

/* A typo must not send a queue to its dead letters. */
static int check_command(const struct pawl_cli *cli, const char *name)
{
    int error = pawl_consume_find_command(name);
    if (error == 0)
        return 0;
    if (strchr(name, '/') != NULL)
        return pawl_fail_error(cli, PAWL_EXIT_USAGE, error, NULL, "cannot run %.200s", name);
    return pawl_fail(cli, PAWL_EXIT_USAGE, "not_found", NULL, "there is no command %.200s", name);
}

/* One that exists stays where it is. --from: a number goes along with the subscription; else the group is
 * made beforehand. 0 or an exit code. */
static int begin_group(struct pawl_consuming *consuming, const char *from)
{
    json_t *place = pawl_group_place(from), *reply = NULL;
    if (place == NULL)
        return pawl_fail(consuming->cli, PAWL_EXIT_USAGE, "usage",
                         "write an offset (1200), earliest, latest, 2026-01-31T12:00:00Z, or '1h ago'",
                         "--from: '%.40s' is no place in a stream", from);
    if (json_is_integer(place)) {
        consuming->has_from = true;
        consuming->from = (uint64_t)json_integer_value(place);
        json_decref(place);
        return 0;
    }
    if (consuming->group == NULL) {
        json_decref(place);
        return strcmp(from, "earliest") == 0 ? 0
                                             : pawl_fail(consuming->cli, PAWL_EXIT_USAGE, "usage", NULL,
                                                         "--peek --from takes an offset");
    }
    json_t *request = pawl_cli_request("group.create", "queue", consuming->queue);
    json_object_set_new(request, "group", json_string(consuming->group));
    json_object_set_new(request, "from", place);
    int status = pawl_cli_ask(consuming->cli, consuming->pawl, request, &reply);
    json_decref(reply);
    return status;
}

static int consume(struct pawl_consuming *consuming, const struct consume_options *o)
{
    int status = o->from != NULL ? begin_group(consuming, o->from) : 0;
    if (status != 0)
        return status;
    if (o->peek)
        return peek(consuming);
    if (consuming->command != NULL)
        return pawl_consume_exec(consuming);
    if (consuming->plugin != NULL)
        return pawl_consume_plugin(consuming);
    return o->auto_ack ? consume_auto_ack(consuming) : take(consuming);
}

static int run_consume(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    const struct consume_options *o = options;
    struct pawl_consuming consuming = {
        .cli = cli,
        .queue = operands[0],
        .group = o->group,
        .plugin = o->plugin,
        .left = o->count != 0 ? o->count : UINT64_MAX,
        .wait_ms = pawl_option_given(cli->verb, o, "wait") ? (int64_t)((o->wait_ns + 999999) / 1000000) : -1,
        .concurrency = o->concurrency != 0 ? (unsigned)o->concurrency : 1,
    };
    char **command = calloc(o->command.count + 1, sizeof *command), *state = NULL;
    int status = check_options(cli, o);
    if (status == 0)
        status = pawl_cli_check_name(cli, operands[0]);
    if (status == 0 && o->group != NULL)
        status = pawl_cli_check_name(cli, o->group);
    if (status == 0 && o->command.count > 0) {
        for (size_t i = 0; i < o->command.count && command != NULL; i++)
            command[i] = (char *)(uintptr_t)o->command.items[i];
        consuming.command = command;
        status = command != NULL ? check_command(cli, command[0]) : PAWL_EXIT_INTERNAL;
    }
    if (status == 0)
        /* A plugin's processes attach, each by itself. */
        status = o->peek || o->plugin != NULL ? pawl_cli_open(cli, false, &consuming.pawl)
                                              : pawl_cli_attach(cli, false, &consuming.pawl);
    if (status == 0) {
        (void)pawl_signals_install();
        state = realpath(cli->state, NULL);
        consuming.state = state != NULL ? state : cli->state;
        status = consume(&consuming, o);
        pawl_close(consuming.pawl);
    }
    free(state);
    free(command);
    return pawl_output_finish(cli, status);
}

const struct pawl_verb pawl_verb_consume = {
    .name = "consume",
    .summary = "deliveries of a queue: as JSON lines, or a command for each",
    .operands = "QUEUE",
    .examples = "pawl consume orders --exec ./handle-order\n"
                "pawl consume orders --count 1 --wait 5s | jq -r .delivery | xargs pawl ack\n"
                "pawl consume clicks --group billing --from earliest --auto-ack",
    .notes =
        "without --auto-ack and --exec: settle with pawl ack, nack, reject or extend\n"
        "CMD gets the data on stdin and PAWL_TOPIC, PAWL_ATTEMPT, PAWL_HEADER_NAME, ...; it acks with 0,\n"
        "75 fails without the breaker, 65 rejects, anything else fails",
    .options = consume_option_table,
    .options_bytes = sizeof(struct consume_options),
    .operands_min = 1,
    .operands_max = 1,
    .run = run_consume,
};
