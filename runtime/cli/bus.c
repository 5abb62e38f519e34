/*
 * bus.c - a verb's way to the event bus.
 *
 * Runs in: the command.
 */
#include "runtime/cli/bus.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/cli/errors.h"
#include "runtime/lib/command.h"
#include "runtime/queue_settings.h"
#include "runtime/state.h"
#include "shm/error.h"

int pawl_cli_exit(int error)
{
    switch (error) {
    case PAWL_ERR_NOT_FOUND:
    case PAWL_ERR_STATE:
        return PAWL_EXIT_USAGE;
    case PAWL_ERR_INVALID:
    case PAWL_ERR_LIMIT:
    case PAWL_ERR_INCOMPATIBLE:
        return PAWL_EXIT_INVALID;
    case PAWL_ERR_BUSY:
    case PAWL_ERR_CLOSED:
    case PAWL_ERR_BAD_FORMAT:
    case -ENOENT:
    case -ECONNREFUSED:
    case -EACCES:
    case -ETIMEDOUT: /* of pawl's own: no verb of the bus is given a time for its questions */
    case -ENOMEM:    /* the machine has not enough of what it takes to talk to the scheduler */
    case -EMFILE:
    case -ENFILE:
        return PAWL_EXIT_UNREACHABLE;
    case PAWL_ERR_DAMAGED:
        return PAWL_EXIT_DAMAGED;
    case PAWL_ERR_QUEUE_FULL:
    case PAWL_ERR_EMPTY:
    case PAWL_ERR_STALE:
    case PAWL_ERR_NO_SPACE:
    case PAWL_ERR_INDEFINITE:
    case PAWL_ERR_DUPLICATE:
    case PAWL_ERR_UNROUTED:
        return PAWL_EXIT_FAILED;
    default:
        return PAWL_EXIT_INTERNAL;
    }
}

/* What to do next; @said is what went wrong. */
static const char *hint_of(const struct pawl_cli *cli, int error, const char *said)
{
    switch (error) {
    case PAWL_ERR_NOT_FOUND:
        if (strstr(said, " has no group ") != NULL)
            return "pawl group lag STREAM shows its groups, pawl group create makes one";
        if (strstr(said, " is beyond the end of ") != NULL)
            return "pawl group lag STREAM shows where it ends";
        return "pawl queue list shows what there is";
    case PAWL_ERR_QUEUE_FULL:
        return "try again when it has been worked on; see pawl queue list, and queue declare --overflow";
    case PAWL_ERR_STALE:
        return "it was settled before, or its ack wait passed and it was given again";
    case PAWL_ERR_UNROUTED:
        return "declare a queue for it: pawl queue declare NAME --topic PATTERN";
    case PAWL_ERR_NO_SPACE:
        return "make room on the disk; what is in the queues can still be settled";
    case PAWL_ERR_LIMIT:
        return "pawl config show lists the limits, pawl queue show those of a queue";
    case PAWL_ERR_INDEFINITE:
        return "it may have been done or not: look first (a delivery that was not shown comes again by "
               "itself)";
    case PAWL_ERR_INCOMPATIBLE:
        return "pawl queue show says how it is declared";
    case -ENOMEM:
        return "end something, or let it have more memory: ulimit -v, or the limit of its cgroup";
    case -EMFILE:
        return "more files must be allowed: ulimit -n";
    case -ENFILE:
        return "the machine has no more open files: end something, or raise sysctl fs.file-max";
    case -EACCES:
        if (strstr(said, " may not connect") == NULL && strstr(said, "cannot connect to ") == NULL)
            return NULL; /* something that the scheduler may not do */
        return strstr(said, " may not connect") != NULL || pawl_state_is_anothers(cli->state)
                   ? "let this user in: allow-uids or allow-gids in pawl.yaml of the state directory"
                   : PAWL_STATE_OWN_HINT;
    default:
        return NULL;
    }
}

int pawl_cli_fail(const struct pawl_cli *cli, const struct pawl *pawl, int error, const char *format, ...)
{
    char what[512], message[1024], code[48];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);

    const char *said = pawl_last_error(pawl);
    /* What is said often names the object by itself. */
    if (said[0] != '\0' && strstr(said, what) != NULL)
        snprintf(message, sizeof message, "%s", said);
    else
        snprintf(message, sizeof message, "%s: %s", what, said[0] != '\0' ? said : pawl_strerror(error));
    const char *name = pawl_error_name(error);
    name += strncmp(name, "PAWL_E_", 7) == 0 ? 7 : 0;
    size_t i = 0;
    for (; name[i] != '\0' && i + 1 < sizeof code; i++)
        code[i] = (char)tolower((unsigned char)name[i]);
    code[i] = '\0';
    /* The scheduler's words may end with the hint, for programs that have no other place for it. */
    const char *hint = hint_of(cli, error, said);
    size_t bytes = strlen(message), hint_bytes = hint != NULL ? strlen(hint) : 0;
    if (hint != NULL && bytes > hint_bytes + 3 && message[bytes - 1] == ')' &&
        memcmp(message + bytes - 1 - hint_bytes, hint, hint_bytes) == 0)
        message[bytes - hint_bytes - 3] = '\0';
    return pawl_fail(cli, pawl_cli_exit(error), code, hint, "%s", message);
}

static void tell(void *ctx, const char *text, size_t bytes)
{
    pawl_note(ctx, "%.*s", (int)bytes, text);
}

void pawl_cli_hear(const struct pawl_cli *cli, struct pawl *pawl)
{
    pawl_lib_on_notice(pawl, tell, (void *)(uintptr_t)cli);
}

static int connect_to(const struct pawl_cli *cli, const struct pawl_connect_options *options, bool asks,
                      struct pawl **pawl_out)
{
    int error = asks ? pawl_lib_connect_to_ask(options, pawl_out) : pawl_connect(options, pawl_out);
    if (error == 0)
        pawl_cli_hear(cli, *pawl_out);
    return error;
}

static int open_as(const struct pawl_cli *cli, bool create, bool asks, struct pawl **pawl_out)
{
    struct pawl_state state;
    struct stat st;
    char why[PAWL_STATE_WHY_BYTES] = "";
    if (stat(cli->state, &st) == 0 && S_ISSOCK(st.st_mode)) {
        /* For who may not look into the directory: the socket of `pawl serve --socket`. */
        const struct pawl_connect_options there = {.bytes = sizeof there, .socket = cli->state};
        int refused = connect_to(cli, &there, asks, pawl_out);
        return refused == 0 ? 0 : pawl_cli_fail(cli, NULL, refused, "%s", cli->state);
    }
    int error = pawl_state_open(cli->state, create ? PAWL_STATE_CREATE : PAWL_STATE_EXISTING, &state, why);
    if (error == -ENOENT && !create)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "not_found",
                         "declare a queue: pawl queue declare NAME --topic PATTERN; or say --state DIR",
                         "there are no queues: no state directory %s", cli->state);
    if (error != 0)
        return pawl_fail_state(cli, error, why);
    pawl_state_close(&state);

    const struct pawl_connect_options options = {
        .bytes = sizeof options, .state = cli->state, .may_launch = 1};
    error = connect_to(cli, &options, asks, pawl_out);
    if (error == 0)
        return 0;
    int status = pawl_cli_fail(cli, NULL, error, "%s", cli->state);
    /* Too many clients, a start that failed: whatever it was, there is no scheduler to talk to. A start that
     * could not sync is told by the library as it tells of a later sync. */
    return error == PAWL_ERR_LIMIT || error == PAWL_E_SYNC_FAILED || status == PAWL_EXIT_INTERNAL
               ? PAWL_EXIT_UNREACHABLE
               : status;
}

int pawl_cli_open(const struct pawl_cli *cli, bool create, struct pawl **pawl_out)
{
    return open_as(cli, create, true, pawl_out);
}

int pawl_cli_attach(const struct pawl_cli *cli, bool create, struct pawl **pawl_out)
{
    return open_as(cli, create, false, pawl_out);
}

int pawl_cli_ask(const struct pawl_cli *cli, struct pawl *pawl, json_t *request, json_t **reply_out)
{
    char *text = json_dumps(request, JSON_COMPACT), *reply = NULL;
    const char *op = pawl_cli_text(request, "op");
    const char *of = pawl_cli_text(request, json_object_get(request, "name") != NULL ? "name" : "queue");
    bool declares = strcmp(op, "queue.declare") == 0;
    int status = 0;
    if (text == NULL) {
        status = pawl_fail(cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
        goto out;
    }
    int error = pawl_request(pawl, text, &reply);
    if (error != 0) {
        status = pawl_cli_fail(cli, pawl, error, "%s", of[0] != '\0' ? of : op);
        /* What is not declared is no configuration: a group of no stream, say, is wrong usage. */
        if (error == PAWL_ERR_INVALID && !declares)
            status = PAWL_EXIT_USAGE;
        goto out;
    }
    *reply_out = json_loads(reply, JSON_ALLOW_NUL, NULL);
    if (!json_is_object(*reply_out)) {
        json_decref(*reply_out);
        status = pawl_fail(cli, PAWL_EXIT_INTERNAL, "bad_message", NULL,
                           "the scheduler's answer is not understood");
    } else if (json_object_get(*reply_out, "schema") == NULL) {
        json_object_set_new(*reply_out, "schema", json_integer(1)); /* it may be printed as it is */
    }
out:
    free(reply);
    free(text);
    json_decref(request);
    return status;
}

int pawl_cli_do(const struct pawl_cli *cli, bool create, json_t *request, json_t **reply_out)
{
    struct pawl *pawl;
    int status = pawl_cli_open(cli, create, &pawl);
    if (status != 0) {
        json_decref(request);
        return status;
    }
    status = pawl_cli_ask(cli, pawl, request, reply_out);
    pawl_close(pawl);
    return status;
}

json_t *pawl_cli_request(const char *op, const char *key, const char *value)
{
    json_t *request = json_object();
    json_object_set_new(request, "op", json_string(op));
    if (key != NULL)
        json_object_set_new(request, key, json_string(value));
    return request;
}

int pawl_cli_check_name(const struct pawl_cli *cli, const char *name)
{
    const char *wrong = pawl_queue_name_check(name);
    if (wrong == NULL)
        return 0;
    return pawl_fail(cli, PAWL_EXIT_USAGE, "invalid", NULL, "'%.80s': %s", name, wrong);
}

const char *pawl_cli_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

uint64_t pawl_cli_count(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}
