/*
 * publish_lines.c - `pawl publish --lines`: each line of standard input is an event, pipelined.
 *
 * Runs in: the command. Never waits for the bus for longer than a moment without looking at signals.
 */
#include "runtime/cli/publishing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <poll.h>
#include <unistd.h>

#include "runtime/cli/bus.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/signals.h"
#include "runtime/lib/command.h"
#include "shm/event.h"

enum {
    SLICE_MS = 100, /* as long as the bus is waited for without a look at the signals */
    LAST_MS = 1000, /* after a signal: for the confirms that are under way */
};

/* A signal came, or the ids cannot be written. */
static bool is_stopped(void)
{
    return pawl_signals_level() != PAWL_SIGNAL_NONE || ferror(stdout);
}

static int fail(struct pawl_publishing *publishing, const struct pawl_message *message, int error)
{
    int status = pawl_cli_fail(publishing->cli, publishing->pawl, error, "%.80s", message->topic);
    if (error == -ETIMEDOUT)
        pawl_note(publishing->cli, "%" PRIu64 " events confirmed, %" PRIu64 " unknown (stored or not)",
                  publishing->confirmed, publishing->sent - publishing->confirmed - publishing->failed);
    return status;
}

/* A slice has passed. False: it is of no use to wait longer, as pawl_last_error() says. */
static bool may_wait(struct pawl_publishing *publishing)
{
    if (publishing->heard)
        pawl_lib_silence_begin(publishing->pawl, &publishing->silence);
    publishing->heard = false;
    return pawl_lib_silence_look(publishing->pawl, &publishing->silence) == 0;
}

/* Until all is confirmed, or this is stopped; what is confirmed is written out meanwhile. 0, -EINTR
 * (stopped), or an error. */
static int flush(struct pawl_publishing *publishing)
{
    for (;;) {
        int error = pawl_flush(publishing->pawl, SLICE_MS);
        if (error != -ETIMEDOUT)
            return error;
        if (fflush(stdout) != 0 || is_stopped())
            return -EINTR;
        if (!may_wait(publishing))
            return -ETIMEDOUT;
    }
}

/* Return: 0; an exit code when it cannot go on. A refused line is counted, and the next one follows. A line
 * for which there was no room before this was stopped is not sent. */
static int publish_line(struct pawl_publishing *publishing, struct pawl_message *message, const char *line,
                        size_t bytes)
{
    uint64_t sequence = 0;
    int error;
    message->data = line;
    message->data_bytes = bytes;
    do
        error = pawl_publish_async(publishing->pawl, message, SLICE_MS, pawl_publishing_on_confirm,
                                   publishing, &sequence);
    while (error == -EAGAIN && fflush(stdout) == 0 && !is_stopped() && may_wait(publishing));
    if (error == -EAGAIN)
        return is_stopped() ? 0 : fail(publishing, message, -ETIMEDOUT);
    if (error == 0) {
        publishing->sent++;
        publishing->next = publishing->next == 0 ? sequence : publishing->next;
        return 0;
    }
    if (error != PAWL_ERR_LIMIT && error != PAWL_ERR_INVALID)
        return fail(publishing, message, error);
    char why[sizeof publishing->why];
    snprintf(why, sizeof why, "%s", pawl_last_error(publishing->pawl));
    int flushed = flush(publishing); /* what comes before it is told before it */
    if (flushed != 0)
        return flushed == -EINTR ? 0 : fail(publishing, message, flushed);
    pawl_publishing_tell_unsent(publishing, ++publishing->sent, error, why);
    return 0;
}

/* Until there is something to read; confirms are printed meanwhile. 0, or an error. */
static int wait_for_input(struct pawl_publishing *publishing)
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
            if (is_stopped())
                return 0;
            ready = poll(fds, 3, pawl_unconfirmed(publishing->pawl) > 0 ? 1000 : -1);
        }
        if (pawl_unconfirmed(publishing->pawl) == 0)
            publishing->heard = true; /* nothing is waited for */
        else if (ready == 0 && !may_wait(publishing))
            return -ETIMEDOUT;
        int happened = pawl_dispatch(publishing->pawl, 0);
        if (happened < 0)
            return happened;
        if (fds[0].revents != 0 || is_stopped() || (ready < 0 && errno != EINTR))
            return 0;
    }
}

/* What was read, and is not yet an event. */
struct input {
    char *bytes;
    size_t room, used, begin;
};

/* Room to read into. 0 or an exit code. */
static int make_room(struct pawl_publishing *publishing, struct input *input)
{
    if (input->begin > 0 && (input->used == input->begin || input->used == input->room)) {
        memmove(input->bytes, input->bytes + input->begin, input->used - input->begin);
        input->used -= input->begin;
        input->begin = 0;
    }
    if (input->bytes != NULL && input->used < input->room)
        return 0;
    if (input->room > 2 * (size_t)PAWL_EVENT_DATA_BYTES_MAX)
        return pawl_fail(publishing->cli, PAWL_EXIT_FAILED, "limit", NULL,
                         "line %" PRIu64 " is longer than an event can be", publishing->sent + 1);
    size_t room = input->room != 0 ? input->room * 2 : 1 << 16;
    char *grown = realloc(input->bytes, room);
    if (grown == NULL)
        return pawl_fail(publishing->cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
    input->bytes = grown;
    input->room = room;
    return 0;
}

/* Every whole line from @scan on, where the last read() began. 0 or an exit code. */
static int publish_whole_lines(struct pawl_publishing *publishing, struct pawl_message *message,
                               struct input *input, size_t scan)
{
    int status = 0;
    char *end;
    while (status == 0 && !is_stopped() && scan < input->used &&
           (end = memchr(input->bytes + scan, '\n', input->used - scan)) != NULL) {
        char *line = input->bytes + input->begin;
        status = publish_line(publishing, message, line, (size_t)(end - line));
        input->begin = scan = (size_t)(end - input->bytes) + 1;
    }
    return status;
}

/* Lines as read() brings them: what is there is sent before more is waited for. 0 or an exit code. */
static int publish_input(struct pawl_publishing *publishing, struct pawl_message *message,
                         struct input *input)
{
    int status = 0;
    while (!is_stopped()) {
        status = make_room(publishing, input);
        if (status != 0)
            return status;
        int error = wait_for_input(publishing);
        if (error != 0)
            return fail(publishing, message, error);
        if (is_stopped())
            return 0;
        ssize_t got = read(STDIN_FILENO, input->bytes + input->used, input->room - input->used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return pawl_fail_error(publishing->cli, PAWL_EXIT_FAILED, -errno, NULL, "standard input");
        if (got == 0)
            break;
        size_t scan = input->used;
        input->used += (size_t)got;
        status = publish_whole_lines(publishing, message, input, scan);
        if (status != 0)
            return status;
        pawl_kick(publishing->pawl);
    }
    if (input->used > input->begin && !is_stopped())
        status = publish_line(publishing, message, input->bytes + input->begin, input->used - input->begin);
    return status;
}

/* What was stored, and what nobody knows of. The exit code. */
static int tell_stopped(struct pawl_publishing *publishing)
{
    bool gone = pawl_signals_level() == PAWL_SIGNAL_NONE;
    uint64_t next = publishing->confirmed + publishing->failed + 1;
    char hint[128], refused[48] = "";
    pawl_publishing_tell_early(publishing);
    uint64_t unknown = publishing->sent - publishing->confirmed - publishing->failed;
    snprintf(hint, sizeof hint, "to go on, publish from line %" PRIu64 " on%s", next,
             unknown > 0 ? ": what is unknown may then be stored twice" : "");
    if (publishing->failed > 0)
        snprintf(refused, sizeof refused, ", %" PRIu64 " refused", publishing->failed);
    return pawl_fail(
        publishing->cli, gone ? PAWL_EXIT_FAILED : PAWL_EXIT_INTERRUPTED, gone ? "stdout" : "interrupted",
        hint, "%s: %" PRIu64 " events confirmed, %" PRIu64 " unknown (stored or not)%s",
        gone ? "standard output cannot be written" : "interrupted", publishing->confirmed, unknown, refused);
}

int pawl_publish_lines(struct pawl_publishing *publishing, struct pawl_message *message)
{
    struct input input = {0};
    int status = publish_input(publishing, message, &input);
    free(input.bytes);
    int error = is_stopped() ? -EINTR : flush(publishing);
    bool stopped = error == -EINTR;
    if (stopped) /* confirms that are under way are worth a moment */
        error = pawl_flush(publishing->pawl, LAST_MS);
    (void)fflush(stdout);
    if (status == 0 && error != 0 && !(stopped && error == -ETIMEDOUT))
        status = fail(publishing, message, error);
    if (status == 0 && is_stopped())
        return tell_stopped(publishing);
    if (status == 0 && publishing->refused > 0) {
        const char *by = pawl_publishing_refuser(publishing->pawl);
        status = pawl_fail(publishing->cli, PAWL_EXIT_FAILED, "refused", NULL,
                           "%" PRIu64 " of %" PRIu64 " events were refused%s%s%s%s", publishing->refused,
                           publishing->sent, publishing->why[0] != '\0' ? ": " : "", publishing->why,
                           by[0] != '\0' ? "; the last by queue " : "", by);
    }
    return status;
}
