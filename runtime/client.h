/*
 * client.h - a command's conversation with the scheduler.
 *
 * Runs in: commands. Finds the scheduler of a state directory or starts one. Blocks while it connects; after
 * that the caller drives struct pawl_wire.
 */
#ifndef PAWL_RUNTIME_CLIENT_H
#define PAWL_RUNTIME_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/state.h"
#include "shm/wire.h"

/* What went wrong, in words. Filled by every call below that fails; empty texts otherwise. */
struct pawl_patience;

struct pawl_error_report {
    int error;     /* PAWL_E_* or -errno */
    int exit_code; /* what the command should exit with (1..7, 70) */
    char text[512];
    char hint[256];
};

/**
 * pawl_client_open - connect to the scheduler of @state, and shake hands
 * @may_launch: start one when nobody serves; it leaves by itself when its work and clients are gone
 *
 * Call it early: a launch forks this process, which must have one thread and should still be small. Waits
 * until the scheduler has recovered and serves (bounded: 10 s for a socket that answers nobody; recovery
 * itself may take longer and is waited for as long as the other side works: patience.h).
 *
 * Return: 0; -ENOENT (nobody serves and !may_launch); or an error with *report_out, exit code 4 unless the
 * scheduler named another (7: journal damaged). *wire_out is to be closed with pawl_wire_fini() after 0.
 */
int pawl_client_open(struct pawl_state *state, bool may_launch, struct pawl_wire *wire_out,
                     struct pawl_wire_welcome *welcome_out, struct pawl_error_report *report_out);

/** pawl_client_reopen - the same for who had a connection and lost it: starts nobody, and waits for the
 * welcome as long as the other side lives. */
int pawl_client_reopen(struct pawl_state *state, struct pawl_wire *wire_out,
                       struct pawl_wire_welcome *welcome_out, struct pawl_error_report *report_out);

/**
 * pawl_client_call - one request, one reply, checked
 * @want: type of the good reply; @reply_bytes_min: least bytes of its body
 *
 * Return: 0; else an error with *report_out: what the scheduler said (ERROR), or that it is gone
 * (PAWL_E_CLOSED, exit code 4: open again and repeat if the request allows it), or does not speak properly.
 */
int pawl_client_call(struct pawl_wire *wire, uint16_t type, const void *body, size_t bytes, const void *more,
                     size_t more_bytes, const int *fds, unsigned fd_count, uint16_t want,
                     size_t reply_bytes_min, struct pawl_wire_message *reply_out,
                     struct pawl_error_report *report_out);

/**
 * pawl_client_ask - the same of a request that the scheduler answers at once, or when the answer is on disk
 *
 * The disk may take its time: then it says so (wire->on_notice), and answers another question (silence.h).
 *
 * Return: also -ETIMEDOUT (exit code 4): it said nothing and did nothing for half a minute (patience.h). The
 * connection is of no use then.
 */
int pawl_client_ask(struct pawl_wire *wire, uint16_t type, const void *body, size_t bytes, const void *more,
                    size_t more_bytes, const int *fds, unsigned fd_count, uint16_t want,
                    size_t reply_bytes_min, struct pawl_wire_message *reply_out,
                    struct pawl_error_report *report_out);

/** pawl_client_report_silence - in words that @patience is over. Return: -ETIMEDOUT. */
int pawl_client_report_silence(struct pawl_error_report *report_out, const struct pawl_patience *patience);

/* pawl_client_read_error - the texts of an ERROR message. Return: its error, or PAWL_E_BAD_MESSAGE. */
int pawl_client_read_error(const struct pawl_wire_message *message, struct pawl_error_report *report_out);

/** pawl_client_is_supervised - is there a supervisor, whose scheduler may not answer just now? */
bool pawl_client_is_supervised(const struct pawl_state *state);

/**
 * pawl_client_sealed_memfd - bytes as SUBMIT wants them: in a memfd that nobody can change any more
 *
 * Return: a descriptor or -errno.
 */
int pawl_client_sealed_memfd(const char *name, const void *bytes, size_t n);

#endif
