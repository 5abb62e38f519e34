/*
 * verb_publish.c - `pawl publish`: one event, or each line of standard input as one, pipelined.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <poll.h>
#include <unistd.h>

#include "runtime/cli/bus.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/signals.h"
#include "runtime/cli/verbs.h"
#include "runtime/yaml_text.h"
#include "scheduler/bus/limits.h"
#include "shm/event.h"
#include "shm/topic.h"

enum {
    HEADERS_MAX = 1024,
    EARLY_MAX = 65536, /* as many as may be unconfirmed */
    TROUBLES_TOLD = 10
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
    {0, "delay", "D", "deliver it after that", PAWL_OPTION_DURATION, OFFSET(delay_ns), 0, 0},
    {0, "ttl", "D", "it expires after that", PAWL_OPTION_DURATION, OFFSET(ttl_ns), 0, 0},
    {0, "priority", "P", "0 (ordinary) to 9", PAWL_OPTION_COUNT, OFFSET(priority), 0,
     PAWL_EVENT_PRIORITY_MAX},
    {0, "lines", NULL, "each line of standard input is an event", PAWL_OPTION_FLAG, OFFSET(lines), 0, 0},
    {0, "durability", "M", "memory, async, fsync (default: the queues')", PAWL_OPTION_TEXT,
     OFFSET(durability), 0, 0},
    {0, "expect-routed", NULL, "refuse what no queue wants", PAWL_OPTION_FLAG, OFFSET(expect_routed), 0, 0},
    {0},
};

/* One `pawl publish`: what came back so far. */
struct publishing {
    const struct pawl_cli *cli;
    struct pawl *pawl;
    uint64_t refused;
    uint64_t unsent;            /* lines that were refused before they got a sequence number */
    uint64_t next;              /* sequence number of the next confirm to tell; 0: none was published yet */
    struct pawl_confirm *early; /* confirms that came before it: by sequence % EARLY_MAX */
    char why[256];              /* the first that was refused */
};

static void tell_refused(struct publishing *publishing, uint64_t number, const char *why)
{
    if (publishing->refused == 0)
        snprintf(publishing->why, sizeof publishing->why, "%s", why);
    publishing->refused++;
    if (publishing->refused <= TROUBLES_TOLD)
        pawl_note(publishing->cli, "event %" PRIu64 " was refused: %s", number, why);
    else if (publishing->refused == TROUBLES_TOLD + 1)
        pawl_note(publishing->cli, "more were refused");
}

static void print_json(const struct pawl_confirm *confirm, const char *id, const char *why)
{
    json_t *line = pawl_json_document();
    bool stored = confirm->error == 0 && confirm->event_id != 0;
    json_object_set_new(line, "event", stored ? json_string(id) : json_null());
    json_object_set_new(line, "routed", json_integer(confirm->routed));
    json_object_set_new(line, "refused", json_integer(confirm->refused));
    json_object_set_new(line, "duplicate", json_boolean(confirm->duplicate));
    const char *durability = confirm->error == 0 ? pawl_durability_name(confirm->durability) : NULL;
    json_object_set_new(line, "durability", durability != NULL ? json_string(durability) : json_null());
    json_object_set_new(line, "error", confirm->error != 0 ? pawl_json_text(why) : json_null());
    pawl_json_print(line, stdout);
    json_decref(line);
}

static void tell_confirm(struct publishing *publishing, const struct pawl_confirm *confirm)
{
    char id[24];
    snprintf(id, sizeof id, "%" PRIu64, confirm->event_id);
    if (publishing->cli->json)
        print_json(confirm, id, pawl_strerror(confirm->error));
    else if (confirm->error == 0)
        printf("%s\n", id);
    if (confirm->error != 0)
        tell_refused(publishing, confirm->sequence + publishing->unsent, pawl_strerror(confirm->error));
    else if (confirm->refused > 0) {
        pawl_note(publishing->cli, "event %s: %u of its queues refused it", id, confirm->refused);
        publishing->refused++;
    }
}

/* A line for each event, in the order of publishing. A refusal waits for no disk: it overtakes what was
 * stored. */
static void on_confirm(void *context, const struct pawl_confirm *confirm)
{
    struct publishing *publishing = context;
    if (confirm->sequence != publishing->next) {
        if (publishing->early == NULL)
            publishing->early = calloc(EARLY_MAX, sizeof *publishing->early);
        if (publishing->early != NULL)
            publishing->early[confirm->sequence % EARLY_MAX] = *confirm;
        else
            tell_confirm(publishing, confirm); /* out of place, not lost */
        return;
    }
    tell_confirm(publishing, confirm);
    publishing->next++;
    while (publishing->early != NULL) {
        struct pawl_confirm *held = &publishing->early[publishing->next % EARLY_MAX];
        if (held->sequence != publishing->next)
            break;
        tell_confirm(publishing, held);
        publishing->next++;
    }
}

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
                             "--header: '%.80s' has no name", texts->items[i]);
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
    if (wrong != NULL)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "invalid", NULL, "topic '%.80s': %s", topic, wrong);
    if (o->durability != NULL && pawl_durability_parse(o->durability, &durability) != 0)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "say memory, async or fsync",
                         "--durability: '%.40s' is not known", o->durability);
    if (o->delay_ns > DELAY_NS_MAX)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "limit", NULL, "--delay: more than ten years");
    if (o->ttl_ns > DELAY_NS_MAX)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "limit", NULL, "--ttl: more than ten years");
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

static int publish_one(struct publishing *publishing, struct pawl_message *message)
{
    struct pawl_confirm confirm = {0};
    int error = pawl_publish(publishing->pawl, message, -1, &confirm);
    if (error != 0) {
        int status = pawl_cli_fail(publishing->cli, publishing->pawl, error, "%.80s", message->topic);
        return status == PAWL_EXIT_INVALID ? PAWL_EXIT_FAILED : status; /* it was refused */
    }
    tell_confirm(publishing, &confirm);
    return publishing->refused > 0 ? PAWL_EXIT_FAILED : 0;
}

static int publish_input(struct publishing *publishing, struct pawl_message *message)
{
    char *bytes = NULL;
    size_t length = 0;
    int error = pawl_text_read(STDIN_FILENO, PAWL_EVENT_DATA_BYTES_MAX, &bytes, &length);
    if (error != 0)
        return pawl_fail_error(publishing->cli, PAWL_EXIT_FAILED, error, NULL, "standard input");
    message->data = bytes;
    message->data_bytes = length;
    int status = publish_one(publishing, message);
    free(bytes);
    return status;
}

/* ---- lines ---- */

/* Return: 0; an exit code when it cannot go on. A refused line is counted, and the next one follows. */
static int publish_line(struct publishing *publishing, struct pawl_message *message, const char *line,
                        size_t bytes, uint64_t number)
{
    message->data = line;
    message->data_bytes = bytes;
    uint64_t sequence = 0;
    int error = pawl_publish_async(publishing->pawl, message, -1, on_confirm, publishing, &sequence);
    if (error == 0 && publishing->next == 0)
        publishing->next = sequence;
    if (error == PAWL_ERR_LIMIT || error == PAWL_ERR_INVALID) {
        const struct pawl_confirm refused = {.error = error};
        char why[sizeof publishing->why];
        snprintf(why, sizeof why, "%s", pawl_last_error(publishing->pawl));
        error = pawl_flush(publishing->pawl, -1); /* what comes before it is told before it */
        if (error != 0)
            return pawl_cli_fail(publishing->cli, publishing->pawl, error, "%.80s", message->topic);
        if (publishing->cli->json)
            print_json(&refused, "", why);
        tell_refused(publishing, number, why);
        publishing->unsent++;
        return 0;
    }
    if (error != 0)
        return pawl_cli_fail(publishing->cli, publishing->pawl, error, "%.80s", message->topic);
    return 0;
}

/* Until there is something to read; confirms are printed meanwhile. 0, or an error. */
static int wait_for_input(struct publishing *publishing)
{
    for (;;) {
        struct pollfd fds[3] = {
            {.fd = STDIN_FILENO, .events = POLLIN},
            {.fd = pawl_fd(publishing->pawl), .events = POLLIN},
            {.fd = pawl_signals_fd(), .events = POLLIN},
        };
        int ready = poll(fds, 3, 0);
        if (ready == 0) {
            (void)fflush(stdout);
            ready = poll(fds, 3, pawl_unconfirmed(publishing->pawl) > 0 ? 1000 : -1);
        }
        int happened = pawl_dispatch(publishing->pawl, 0);
        if (happened < 0)
            return happened;
        if (fds[0].revents != 0 || pawl_signals_level() != PAWL_SIGNAL_NONE || (ready < 0 && errno != EINTR))
            return 0;
    }
}

/* Lines as read() brings them: what is there is sent before more is waited for. */
static int publish_lines(struct publishing *publishing, struct pawl_message *message)
{
    size_t room = 1 << 16, used = 0, begin = 0;
    uint64_t number = 0;
    char *buffer = malloc(room);
    int status =
        buffer != NULL ? 0 : pawl_fail(publishing->cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
    while (status == 0 && pawl_signals_level() == PAWL_SIGNAL_NONE) {
        if (begin > 0 && (used == begin || used == room)) {
            memmove(buffer, buffer + begin, used - begin);
            used -= begin;
            begin = 0;
        }
        if (used == room) {
            char *grown = room <= 2 * (size_t)PAWL_EVENT_DATA_BYTES_MAX ? realloc(buffer, room * 2) : NULL;
            if (grown == NULL) {
                status = pawl_fail(publishing->cli, PAWL_EXIT_FAILED, "limit", NULL,
                                   "line %" PRIu64 " is longer than an event can be", number + 1);
                break;
            }
            buffer = grown;
            room *= 2;
        }
        int error = wait_for_input(publishing);
        if (error != 0) {
            status = pawl_cli_fail(publishing->cli, publishing->pawl, error, "%.80s", message->topic);
            break;
        }
        if (pawl_signals_level() != PAWL_SIGNAL_NONE)
            break;
        ssize_t got = read(STDIN_FILENO, buffer + used, room - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            status = pawl_fail_error(publishing->cli, PAWL_EXIT_FAILED, -errno, NULL, "standard input");
        size_t scan = used;
        used += got > 0 ? (size_t)got : 0;
        char *end;
        while (status == 0 && scan < used && (end = memchr(buffer + scan, '\n', used - scan)) != NULL) {
            status =
                publish_line(publishing, message, buffer + begin, (size_t)(end - (buffer + begin)), ++number);
            begin = scan = (size_t)(end - buffer) + 1;
        }
        if (got <= 0)
            break;
        pawl_kick(publishing->pawl);
    }
    if (status == 0 && used > begin && pawl_signals_level() == PAWL_SIGNAL_NONE)
        status = publish_line(publishing, message, buffer + begin, used - begin, ++number);
    free(buffer);
    int error = pawl_flush(publishing->pawl, -1);
    if (status == 0 && error != 0)
        status = pawl_cli_fail(publishing->cli, publishing->pawl, error, "%.80s", message->topic);
    if (status == 0 && pawl_signals_level() != PAWL_SIGNAL_NONE)
        status = PAWL_EXIT_INTERRUPTED;
    if (status == 0 && publishing->refused > 0)
        status = pawl_fail(publishing->cli, PAWL_EXIT_FAILED, "refused", NULL,
                           "%" PRIu64 " of %" PRIu64 " events were refused%s%s", publishing->refused, number,
                           publishing->why[0] != '\0' ? ": " : "", publishing->why);
    return status;
}

static int run_publish(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    const struct publish_options *o = options;
    struct publishing publishing = {.cli = cli};
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
        status = pawl_cli_open(cli, true, &publishing.pawl);
    if (status == 0 && o->lines) {
        (void)pawl_signals_install();
        status = publish_lines(&publishing, &message);
    } else if (status == 0 && operand_count > 1) {
        message.data = operands[1];
        message.data_bytes = strlen(operands[1]);
        status = publish_one(&publishing, &message);
    } else if (status == 0) {
        status = publish_input(&publishing, &message);
    }
    if (publishing.pawl != NULL)
        pawl_close(publishing.pawl);
    free(publishing.early);
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
