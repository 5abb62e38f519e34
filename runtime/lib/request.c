/*
 * request.c - a question over the socket, and its answer.
 *
 * Runs in: the program that uses pawl.h. One at a time; what else comes meanwhile (replies, a lost scheduler)
 * is taken in as in any waiting call.
 */
#include "runtime/lib/lib.h"

#include <errno.h>
#include <string.h>

#include "shm/error.h"

#define LAST_WORD_NS UINT64_C(1000000000)
enum { END_SLICES = 3 /* of silence, for a take that is to end: what it was given comes again by itself */ };

int pawl_lib_tell(struct pawl *pawl, uint16_t type, const void *body, size_t bytes)
{
    if (pawl->phase != PAWL_LIB_UP)
        return 0; /* what it was about went with the connection */
    int error = pawl_wire_queue_message(&pawl->wire, type, ++pawl->next_tag, body, bytes, NULL, 0, NULL, 0);
    if (!error)
        (void)pawl_wire_flush(&pawl->wire);
    return error;
}

/* A take that is to end is not given up: what it may have been given already would be nobody's. Its answer
 * comes at once then, perhaps with none. */
static int end_take(struct pawl *pawl)
{
    const struct pawl_wire_take request = {.flags = PAWL_TAKE_END};
    return pawl_lib_tell(pawl, PAWL_WIRE_TAKE, &request, sizeof request);
}

/* Waits for the answer to pawl->awaited_tag. @quiet_until_ns: it may be silent so long whatever it does. */
static int await_answer(struct pawl *pawl, bool takes, uint64_t deadline_ns, uint64_t quiet_until_ns)
{
    bool told = false;
    struct pawl_lib_silence silence;
    pawl_lib_silence_begin(pawl, &silence);
    if (silence.due_ns < quiet_until_ns)
        silence.due_ns = quiet_until_ns;
    while (!pawl->answered) {
        bool looks = silence.due_ns < deadline_ns;
        int error = pawl_lib_wait(pawl, looks ? silence.due_ns : deadline_ns, PAWL_LIB_FOR_NEWS);
        if (error == -ETIMEDOUT && looks)
            error = pawl_lib_silence_look(pawl, &silence);
        if (error == -EINTR && takes) { /* once: from then on nobody is asked */
            deadline_ns = pawl_lib_deadline_ns(LAST_WORD_NS);
            pawl->hears_none = true;
            error = 0;
        }
        if (!error && (pawl->stopped || pawl->hears_none) && !told && !pawl->answered) {
            told = true;
            pawl_lib_silence_begin(pawl, &silence); /* its answer comes at once, if it is there */
            error = end_take(pawl);
        }
        if (told && !error && silence.patience.idle_count >= END_SLICES)
            error = -ETIMEDOUT;
        if (error && !pawl->answered)
            return error == -ETIMEDOUT && told ? -EINTR : error;
        if (!pawl->answered) {
            pawl_lib_take_in(pawl);
            pawl_lib_step(pawl); /* where the lane always has news, nobody sleeps, and looks at the socket */
        }
    }
    return pawl->answer_error;
}

/* Some questions are answered when something happens: how long that may take, they say themselves. */
static uint64_t quiet_until_ns(uint16_t type, const void *body, bool repeatable)
{
    struct pawl_wire_take take;
    if (type == PAWL_WIRE_WAIT)
        return PAWL_LIB_FOREVER;
    if (type != PAWL_WIRE_TAKE || repeatable)
        return 0;
    memcpy(&take, body, sizeof take);
    return pawl_lib_deadline_ns(take.wait_ns);
}

static int ask_once(struct pawl *pawl, uint16_t type, const void *body, size_t bytes, const void *more,
                    size_t more_bytes, const int *fds, unsigned fd_count, bool repeatable,
                    uint64_t deadline_ns)
{
    /* The first turn even of a call that may not wait: -ETIMEDOUT is for what was asked and not answered. */
    while (pawl->phase != PAWL_LIB_UP) {
        int error = pawl_lib_wait(pawl, deadline_ns, PAWL_LIB_FOR_NEWS);
        if (!error && pawl->stopped)
            error = -EINTR;
        if (error)
            return error;
        pawl_lib_take_in(pawl);
    }
    pawl->awaited_tag = ++pawl->next_tag;
    pawl->answered = false;
    int error = pawl_wire_queue_message(&pawl->wire, type, pawl->awaited_tag, body, bytes, more, more_bytes,
                                        fds, fd_count);
    if (!error) {
        error = pawl_wire_flush(&pawl->wire);
        if (!error || error == -EAGAIN || error == PAWL_E_CLOSED)
            error = await_answer(pawl, type == PAWL_WIRE_TAKE && !repeatable, deadline_ns,
                                 quiet_until_ns(type, body, repeatable));
    }
    pawl->awaited_tag = 0;
    pawl->answered = false;
    return error;
}

/* A body that no message holds came as a memfd: it stays mapped until the next question. */
static int map_large(struct pawl *pawl)
{
    struct pawl_wire_large large;
    struct pawl_wire_message *answer = &pawl->answer;
    if (answer->header.fd_count != 1 || answer->header.bytes != sizeof large)
        return 0;
    memcpy(&large, answer->body, sizeof large);
    if (large.bytes > UINT32_MAX)
        return PAWL_E_BAD_MESSAGE;
    int error = pawl_segment_attach(answer->fds[0], large.bytes, false, &pawl->large);
    if (error)
        return error;
    answer->fds[0] = -1;
    answer->body = pawl->large.base;
    answer->header.bytes = (uint32_t)large.bytes;
    return 0;
}

int pawl_lib_ask(struct pawl *pawl, uint16_t type, const void *body, size_t bytes, const void *more,
                 size_t more_bytes, const int *fds, unsigned fd_count, uint16_t want, size_t reply_bytes_min,
                 bool repeatable, uint64_t deadline_ns)
{
    int error = pawl_lib_check(pawl);
    if (error)
        return error;
    if (pawl->awaited_tag)
        return pawl_lib_fail(pawl, PAWL_E_STATE, "a callback asks while another request of its handle waits");
    pawl_segment_close(&pawl->large);
    do
        error = ask_once(pawl, type, body, bytes, more, more_bytes, fds, fd_count, repeatable, deadline_ns);
    while (error == PAWL_E_CLOSED && repeatable && pawl->phase != PAWL_LIB_GONE);
    if (error == PAWL_E_CLOSED && pawl->phase != PAWL_LIB_GONE)
        error = pawl_lib_fail(pawl, PAWL_E_INDEFINITE, "the scheduler went away before it answered");
    else if (error == -ETIMEDOUT && deadline_ns != PAWL_LIB_FOREVER)
        pawl_lib_fail(pawl, error, "the scheduler did not answer in time");
    if (error)
        return error;
    if (pawl->answer.header.type == PAWL_WIRE_ERROR) {
        struct pawl_error_report report;
        error = pawl_client_read_error(&pawl->answer, &report);
        pawl_lib_fail_report(pawl, &report);
        return error;
    }
    if (want == PAWL_WIRE_TAKEN || want == PAWL_WIRE_BUS_OK)
        error = map_large(pawl);
    if (error)
        return pawl_lib_fail(pawl, error, "the scheduler's answer cannot be mapped: %s",
                             pawl_error_text(error));
    if (pawl->answer.header.type != want || pawl->answer.header.bytes < reply_bytes_min)
        return pawl_lib_fail(pawl, PAWL_E_BAD_MESSAGE, "the scheduler answered with something else (%u)",
                             pawl->answer.header.type);
    return 0;
}

int pawl_lib_name(struct pawl *pawl, const char *what, const char *text, char field[PAWL_NAME_BYTES])
{
    size_t bytes = text ? strlen(text) : 0;
    bool good = bytes > 0 && bytes <= 64 && text[0] != '.' && text[0] != '-';
    for (size_t i = 0; good && i < bytes; i++) {
        char c = text[i];
        good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
               c == '.' || c == '-';
    }
    if (!good)
        return pawl_lib_fail(
            pawl, PAWL_E_INVALID,
            "'%.80s' cannot be the name of a %s: [A-Za-z0-9_.-]{1,64}, not starting with . or -",
            text ? text : "", what);
    memset(field, 0, PAWL_NAME_BYTES);
    memcpy(field, text, bytes);
    return 0;
}
