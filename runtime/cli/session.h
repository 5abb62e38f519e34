/*
 * session.h - a verb's way to the state directory and to the scheduler that owns it.
 *
 * Functions return 0, -ENOENT where stated (nothing was printed), or the exit code of a failure that has been
 * printed.
 */
#ifndef PAWL_RUNTIME_CLI_SESSION_H
#define PAWL_RUNTIME_CLI_SESSION_H

#include "runtime/cli/cli.h"
#include "runtime/client.h"
#include "runtime/state.h"
#include "shm/wire.h"

struct pawl_session {
    const struct pawl_cli *cli;
    struct pawl_state state;
    bool has_state;
    struct pawl_wire wire;
    bool connected;
    struct pawl_wire_welcome welcome;
};

/** pawl_session_open - open the state directory; EXISTING: -ENOENT when there is none. */
int pawl_session_open(const struct pawl_cli *cli, enum pawl_state_mode mode,
                      struct pawl_session *session_out);

/** pawl_session_connect - to the scheduler; without @may_launch -ENOENT when nobody serves. No-op when
 * connected. */
int pawl_session_connect(struct pawl_session *session, bool may_launch);

/** pawl_session_connected - session->wire was connected by another way: it is the session's, and notices (a
 * full disk that a request waits for, say) are printed */
void pawl_session_connected(struct pawl_session *session);

/** pawl_session_call - one request and its reply; failures are printed. */
int pawl_session_call(struct pawl_session *session, uint16_t type, const void *body, size_t bytes,
                      uint16_t want, size_t reply_bytes_min, struct pawl_wire_message *reply_out);

/** pawl_session_ask - the same, quietly. Return: 0 or an error of client.h. A lost connection is closed. */
int pawl_session_ask(struct pawl_session *session, uint16_t type, const void *body, size_t bytes,
                     const void *more, size_t more_bytes, uint16_t want, size_t reply_bytes_min,
                     struct pawl_wire_message *reply_out, struct pawl_error_report *report_out);

void pawl_session_disconnect(struct pawl_session *session);
void pawl_session_close(struct pawl_session *session);

/** pawl_session_copy_name - @text into a field of a message, NUL-padded; too long: cut (and then not found).
 */
void pawl_session_copy_name(char field[PAWL_NAME_BYTES], const char *text);

/** pawl_reconnect - after the connection was lost: for up to 10 s, to a scheduler that the supervisor
 * restarts. Return: 0; -ENOENT (nobody came back; nothing printed); or a printed exit code. */
int pawl_reconnect(struct pawl_session *session);

#endif
