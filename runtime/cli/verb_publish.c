/*
 * verb_publish.c - `pawl publish`: one event, or each line of standard input as one, pipelined.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <poll.h>
#include <unistd.h>

#include "runtime/cli/bus.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/publishing.h"
#include "runtime/cli/signals.h"
#include "runtime/cli/verbs.h"
#include "runtime/lib/command.h"
#include "runtime/yaml_text.h"
#include "scheduler/bus/limits.h"
#include "shm/clock.h"
#include "shm/event.h"
#include "shm/topic.h"

enum {
    HEADERS_MAX = 1024,
    SLICE_MS = 100, /* as long as the bus is waited for without a look at the signals */
};
#define DELAY_NS_MAX (UINT64_C(3650) * 86400 * 1000000000)

struct publish_options {
    uint64_t given;
    struct pawl_text_list headers;
    const char *id, *durability;
    uint64_t delay_ns, ttl_ns, priority;
    bool lines, expect_routed;
};

#define OFFSET(member) offsetof(struct publish_options, member)
static const struct pawl_option publish_option_table[] = {
    {0, "header", "K=V", "a header; several times", PAWL_OPTION_LIST, OFFSET(headers), 0, 0},
    {0, "id", "KEY", "the same key is not stored twice", PAWL_OPTION_TEXT, OFFSET(id), 0, 0},
    {0, "delay", "D", "deliver it after that", PAWL_OPTION_DURATION, OFFSET(delay_ns), 0, DELAY_NS_MAX},
    {0, "ttl", "D", "it expires after that", PAWL_OPTION_DURATION, OFFSET(ttl_ns), 0, DELAY_NS_MAX},
    {0, "priority", "P", "0 (ordinary) to 9", PAWL_OPTION_COUNT, OFFSET(priority), 0,
     PAWL_EVENT_PRIORITY_MAX},
    {0, "lines", NULL, "each line of standard input is an event", PAWL_OPTION_FLAG, OFFSET(lines), 0, 0},
    {0, "durability", "M", "memory, async, fsync (default: the queues')", PAWL_OPTION_TEXT,
     OFFSET(durability), 0, 0},
    {0, "expect-routed", NULL, "refuse what no queue wants", PAWL_OPTION_FLAG, OFFSET(expect_routed), 0, 0},
    {0},
};

/* ---- flags ---- */

static int read_headers(const struct pawl_cli *cli, const struct pawl_text_list *texts,
                        struct pawl_header *headers)
{
    for (size_t i = 0; i < texts->count; i++) {
        const char *equals = strchr(texts->items[i], '=');
        char *name = equals != NULL && equals != texts->items[i]
                         ? strndup(texts->items[i], (size_t)(equals - texts->items[i]))
                         : NULL;
        if (name == NULL)
            return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "write --header NAME=VALUE",
                             "--header: '%.80s' is not NAME=VALUE", texts->items[i]);
        headers[i] =
            (struct pawl_header){.name = name, .value = equals + 1, .value_bytes = strlen(equals + 1)};
    }
    return 0;
}

static int read_message(const struct pawl_cli *cli, const struct publish_options *o, const char *topic,
                        struct pawl_message *message)
{
    const char *wrong = pawl_topic_check(topic, strlen(topic));
    uint64_t durability = 0;
    if (strlen(topic) > PAWL_TOPIC_BYTES_MAX)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "limit", NULL, "topic of %zu bytes: at most %d are possible",
                         strlen(topic), PAWL_TOPIC_BYTES_MAX);
    if (wrong != NULL)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "invalid", NULL, "topic '%.80s': %s", topic, wrong);
    if (o->durability != NULL && pawl_durability_parse(o->durability, &durability) != 0)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "say memory, async or fsync",
                         "--durability: '%.40s' is not known", o->durability);
    if (o->id != NULL && (o->id[0] == '\0' || strlen(o->id) > PAWL_EVENT_KEY_BYTES_MAX))
        return pawl_fail(cli, PAWL_EXIT_USAGE, "limit", NULL, "--id: a key has 1 to %d bytes",
                         PAWL_EVENT_KEY_BYTES_MAX);
    if (o->id != NULL && o->lines)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "publish them one by one",
                         "--id with --lines: all lines would have one key");
    /* Never 0 for something that was given: 0 is none. */
    *message = (struct pawl_message){
        .bytes = sizeof *message,
        .topic = topic,
        .key = o->id,
        .delay_ms = (o->delay_ns + 999999) / 1000000,
        .ttl_ms = (o->ttl_ns + 999999) / 1000000,
        .priority = (unsigned)o->priority,
        .durability = (enum pawl_durability_mode)durability,
        .expect_routed = o->expect_routed,
    };
    return 0;
}

/* ---- one ---- */

struct answer {
    bool came;
    struct pawl_confirm confirm;
};

static void on_answer(void *context, const struct pawl_confirm *confirm)
{
    *(struct answer *)context = (struct answer){.came = true, .confirm = *confirm};
}

/* Until it is answered or a signal comes. 0 or an error. */
static int await_answer(struct pawl *pawl, const struct answer *answer)
{
    struct pawl_lib_silence silence;
    int happened = 0;
    pawl_lib_silence_begin(pawl, &silence);
    pawl_kick(pawl);
    while (!answer->came && happened >= 0 && pawl_signals_level() == PAWL_SIGNAL_NONE) {
        struct pollfd fds[2] = {
            {.fd = pawl_fd(pawl), .events = POLLIN},
            {.fd = pawl_signals_fd(), .events = POLLIN},
        };
        uint64_t now_ns = pawl_clock_monotonic_ns();
        uint64_t left_ns = silence.due_ns > now_ns ? silence.due_ns - now_ns : 0;
        (void)poll(fds, 2, (int)(left_ns / 1000000) + 1);
        happened = pawl_dispatch(pawl, 0);
        if (!answer->came && happened >= 0)
            happened = pawl_lib_silence_look(pawl, &silence);
    }
    return answer->came || happened >= 0 ? 0 : happened;
}

static int publish_one(struct pawl_publishing *publishing, struct pawl_message *message)
{
    struct answer answer = {0};
    struct pawl *pawl = publishing->pawl;
    (void)pawl_signals_install(); /* not earlier: who types the data may leave without a word */
    int error;
    do
        error = pawl_publish_async(pawl, message, SLICE_MS, on_answer, &answer, NULL);
    while (error == -EAGAIN && pawl_signals_level() == PAWL_SIGNAL_NONE);
    bool sent = error == 0;
    if (sent)
        error = await_answer(pawl, &answer);
    if (!answer.came && error == -ETIMEDOUT)
        return pawl_fail(publishing->cli, PAWL_EXIT_UNREACHABLE, "etimedout",
                         "what has an --id can be published again, and is not stored twice",
                         "%.80s: not confirmed, it may be stored or not: %s", message->topic,
                         pawl_last_error(pawl));
    if (!answer.came && (error == 0 || error == -EAGAIN))
        return pawl_fail(publishing->cli, PAWL_EXIT_INTERRUPTED, "interrupted",
                         sent ? "what has an --id can be published again, and is not stored twice" : NULL,
                         sent ? "interrupted: not confirmed, it may be stored or not"
                              : "interrupted: it was not published");
    bool refused = error == 0 && answer.confirm.error != 0;
    const char *by =
        refused || (error == 0 && answer.confirm.refused > 0) ? pawl_publishing_refuser(pawl) : "";
    if (by[0] != '\0' && answer.confirm.refused == 1)
        publishing->by = by;
    if (refused)
        error = answer.confirm.error;
    if (error != 0) {
        /* Other limits of an event are looked at before it is sent. */
        bool delayed =
            error == PAWL_ERR_LIMIT && by[0] == '\0' && (message->delay_ms > 0 || message->priority > 0);
        char what[160] = "";
        if (refused && error != PAWL_ERR_INDEFINITE && by[0] != '\0')
            snprintf(what, sizeof what, ": queue %.64s refused the event%s", by,
                     error == PAWL_ERR_LIMIT ? ", which is larger than its max-bytes" : "");
        else if (refused && error != PAWL_ERR_INDEFINITE)
            snprintf(what, sizeof what, ": the event was refused");
        /* A refusal is an answer: words of the handle are of a call that failed before. */
        int status = pawl_cli_fail(publishing->cli, refused ? NULL : pawl, error, "%.80s%s%s", message->topic,
                                   what, refused && delayed ? " (publish-delay, queue-delayed)" : "");
        return status == PAWL_EXIT_INVALID ? PAWL_EXIT_FAILED : status; /* it was refused */
    }
    pawl_publishing_tell(publishing, &answer.confirm);
    return publishing->refused > 0 ? PAWL_EXIT_FAILED : 0;
}

static int publish_input(struct pawl_publishing *publishing, struct pawl_message *message)
{
    char *bytes = NULL;
    size_t length = 0;
    int error = pawl_text_read(STDIN_FILENO, PAWL_EVENT_DATA_BYTES_MAX, &bytes, &length);
    if (error != 0)
        return pawl_fail_error(publishing->cli, PAWL_EXIT_FAILED, error, NULL, "standard input");
    if (length > PAWL_EVENT_DATA_BYTES_MAX) { /* it was not read to its end */
        free(bytes);
        return pawl_fail(publishing->cli, PAWL_EXIT_FAILED, "limit", "pawl config show lists the limits",
                         "%s: standard input has more than %llu bytes, which no event may have",
                         message->topic, (unsigned long long)PAWL_EVENT_DATA_BYTES_MAX);
    }
    message->data = bytes;
    message->data_bytes = length;
    int status = publish_one(publishing, message);
    free(bytes);
    return status;
}

static int run_publish(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    const struct publish_options *o = options;
    struct pawl_publishing publishing = {.cli = cli};
    struct pawl_message message;
    struct pawl_header *headers = calloc(o->headers.count + 1, sizeof *headers);
    if (headers == NULL)
        return pawl_fail(cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
    int status = read_message(cli, o, operands[0], &message);
    if (status == 0 && o->lines && operand_count > 1)
        status = pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "leave out one of them",
                           "--lines reads standard input, and there is DATA");
    if (status == 0 && o->headers.count > HEADERS_MAX)
        status = pawl_fail(cli, PAWL_EXIT_USAGE, "limit", NULL, "more than %d headers", HEADERS_MAX);
    if (status == 0)
        status = read_headers(cli, &o->headers, headers);
    message.headers = headers;
    message.header_count = o->headers.count;
    if (status == 0)
        status = pawl_cli_attach(cli, true, &publishing.pawl);
    if (status == 0 && o->lines) {
        (void)pawl_signals_install();
        status = pawl_publish_lines(&publishing, &message);
    } else if (status == 0 && operand_count > 1) {
        message.data = operands[1];
        message.data_bytes = strlen(operands[1]);
        status = publish_one(&publishing, &message);
    } else if (status == 0) {
        status = publish_input(&publishing, &message);
    }
    pawl_publishing_tell_nowhere(&publishing, operands[0]);
    if (publishing.pawl != NULL)
        pawl_close(publishing.pawl);
    pawl_publishing_fini(&publishing);
    for (size_t i = 0; i < o->headers.count; i++)
        free((char *)(uintptr_t)headers[i].name);
    free(headers);
    return pawl_output_finish(cli, status);
}

const struct pawl_verb pawl_verb_publish = {
    .name = "publish",
    .summary = "an event for every queue that wants its topic; prints its id",
    .operands = "TOPIC [DATA]",
    .examples = "pawl publish order.new '{\"id\": 7}' --header source=shop\n"
                "pawl publish log.line --lines <access.log\n"
                "pawl publish job.nightly --delay 8h </dev/null",
    .notes = "without DATA standard input is the data; exit 1 if anything was refused",
    .options = publish_option_table,
    .options_bytes = sizeof(struct publish_options),
    .operands_min = 1,
    .operands_max = 2,
    .run = run_publish,
};
