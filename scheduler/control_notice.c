/*
 * control_notice.c - what a command that waits is told without having asked: why nothing goes on.
 *
 * Runs in: scheduler. Words for people: a client that does not know them passes over them.
 */
#include "scheduler/control.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "shm/error.h"

static bool waits(const struct pawl_connection *connection)
{
    return connection->role == PAWL_ROLE_CLIENT && !connection->closing &&
           (connection->parked || connection->attached);
}

bool pawl_control_tell(struct pawl_connection *connection, const char *text)
{
    /* Others may cause as many as they like: who does not read them gets no more. */
    return !connection->closing && pawl_wire_pending(&connection->wire) <= PAWL_OUTPUT_BYTES_HIGH &&
           pawl_wire_queue_message(&connection->wire, PAWL_WIRE_NOTICE, 0, text, strlen(text), NULL, 0, NULL,
                                   0) == 0;
}

void pawl_control_notice(struct pawl_loop *loop, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (struct pawl_connection *connection = loop->connections; connection; connection = connection->next)
        if (waits(connection))
            (void)pawl_control_tell(connection, text);
}

void pawl_control_tell_room(struct pawl_connection *connection)
{
    const struct pawl_loop *loop = connection->loop;
    bool full = pawl_journal_room(loop->journal) != PAWL_JOURNAL_ROOMY;
    if (full == connection->knows_full || !waits(connection))
        return;
    char text[512];
    snprintf(text, sizeof text,
             full ? "the disk of %.300s is full: what cannot be recorded waits until there is room; free "
                    "some space (" PAWL_RESERVE_WORDS ")"
                  : "the disk of %.300s has room again: it goes on",
             loop->options->state_path);
    if (pawl_control_tell(connection, text)) /* else when it has read what it has */
        connection->knows_full = full;
}
