/*
 * session.c - a verb's way to the state directory and to the scheduler.
 *
 * Runs in: the command.
 */
#include "runtime/cli/session.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/signals.h"
#include "runtime/cli/submit.h"
#include "shm/error.h"

#define RECONNECT_NS      UINT64_C(10000000000)
#define RECONNECT_TELL_NS UINT64_C(1000000000)

int pawl_session_open(const struct pawl_cli *cli, enum pawl_state_mode mode, struct pawl_session *session_out)
{
    char why[PAWL_STATE_WHY_BYTES] = "";
    memset(session_out, 0, sizeof *session_out);
    session_out->cli = cli;
    int error = pawl_state_open(cli->state, mode, &session_out->state, why);
    if (error == -ENOENT && mode == PAWL_STATE_EXISTING)
        return -ENOENT;
    if (error != 0)
        return pawl_fail(cli, PAWL_EXIT_UNREACHABLE, "state",
                         error == -EACCES || error == -ENOENT || error == -EROFS || error == -ENOTDIR
                             ? "choose another: --state DIR, or PAWL_STATE=DIR"
                             : NULL,
                         "%s", why[0] != '\0' ? why : pawl_error_text(error));
    session_out->has_state = true;
    return 0;
}

static void print_notice(void *ctx, const struct pawl_wire_message *message)
{
    pawl_note(ctx, "%.*s", (int)message->header.bytes, (const char *)message->body);
}

void pawl_session_connected(struct pawl_session *session)
{
    session->connected = true;
    session->wire.on_notice = print_notice;
    session->wire.notice_ctx = (void *)(uintptr_t)session->cli;
}

int pawl_session_connect(struct pawl_session *session, bool may_launch)
{
    struct pawl_error_report report;
    if (session->connected)
        return 0;
    int error = pawl_client_open(&session->state, may_launch, &session->wire, &session->welcome, &report);
    if (error == -ENOENT && !may_launch)
        return -ENOENT;
    if (error != 0)
        return pawl_fail_report(session->cli, &report);
    pawl_session_connected(session);
    return 0;
}

int pawl_session_ask(struct pawl_session *session, uint16_t type, const void *body, size_t bytes,
                     const void *more, size_t more_bytes, uint16_t want, size_t reply_bytes_min,
                     struct pawl_wire_message *reply_out, struct pawl_error_report *report_out)
{
    int error = pawl_client_ask(&session->wire, type, body, bytes, more, more_bytes, NULL, 0, want,
                                reply_bytes_min, reply_out, report_out);
    if (error == PAWL_E_CLOSED || error == PAWL_E_BAD_MESSAGE || error == -ETIMEDOUT)
        pawl_session_disconnect(session);
    return error;
}

int pawl_session_call(struct pawl_session *session, uint16_t type, const void *body, size_t bytes,
                      uint16_t want, size_t reply_bytes_min, struct pawl_wire_message *reply_out)
{
    struct pawl_error_report report;
    int error =
        pawl_session_ask(session, type, body, bytes, NULL, 0, want, reply_bytes_min, reply_out, &report);
    return error == 0 ? 0 : pawl_fail_report(session->cli, &report);
}

void pawl_session_disconnect(struct pawl_session *session)
{
    if (session->connected)
        pawl_wire_fini(&session->wire);
    session->connected = false;
}

void pawl_session_close(struct pawl_session *session)
{
    pawl_session_disconnect(session);
    if (session->has_state)
        pawl_state_close(&session->state);
    session->has_state = false;
}

void pawl_session_copy_name(char field[PAWL_NAME_BYTES], const char *text)
{
    size_t n = strnlen(text, PAWL_NAME_BYTES - 1);
    memset(field, 0, PAWL_NAME_BYTES);
    memcpy(field, text, n);
}

int pawl_reconnect(struct pawl_session *session)
{
    uint64_t begun_ns = pawl_monotonic_ns(), end_ns = begun_ns + RECONNECT_NS;
    bool told = false;
    pawl_session_disconnect(session);
    for (;;) {
        struct pawl_error_report report;
        int error = pawl_client_reopen(&session->state, &session->wire, &session->welcome, &report);
        if (error == 0) {
            pawl_session_connected(session);
            return 0;
        }
        if (error != -ENOENT && error != PAWL_E_CLOSED && error != -ECONNREFUSED)
            return pawl_fail_report(session->cli, &report);
        if (pawl_monotonic_ns() >= end_ns || pawl_signals_level() >= PAWL_SIGNAL_INTERRUPT)
            return -ENOENT;
        if (!told && pawl_monotonic_ns() - begun_ns >= RECONNECT_TELL_NS) {
            told = true;
            pawl_note(session->cli, "the scheduler is gone; another is waited for (10 s, ^C twice ends it)");
        }
        poll(NULL, 0, 50);
    }
}
