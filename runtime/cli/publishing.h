/*
 * publishing.h - one `pawl publish`: what it has sent and what came back.
 */
#ifndef PAWL_RUNTIME_CLI_PUBLISHING_H
#define PAWL_RUNTIME_CLI_PUBLISHING_H

#include <stdint.h>

#include "runtime/cli/cli.h"
#include "runtime/lib/command.h"
#include "runtime/pawl.h"

struct pawl_publishing {
    const struct pawl_cli *cli;
    struct pawl *pawl;
    uint64_t sent;              /* lines that were given to the bus, or refused before that */
    uint64_t nowhere;           /* confirmed ones that are in no queue */
    uint64_t dropped;           /* of those: full queues dropped them */
    uint64_t confirmed;         /* events that were stored, or that nobody wanted */
    uint64_t failed;            /* events of which nothing was stored */
    uint64_t refused;           /* events that a queue refused: the failed ones, and those that others took */
    uint64_t unsent;            /* lines that were refused before they got a sequence number */
    uint64_t next;              /* sequence number of the next confirm to tell; 0: none was published yet */
    struct pawl_confirm *early; /* confirms that came before it: by sequence, around */
    char why[256];              /* the first that was refused */
    const char *by;             /* the queue that refused, where that is known; NULL */
    struct pawl_lib_silence silence;
    bool heard; /* a confirm came since it was looked at */
};

/** pawl_publishing_fini - frees what it holds; the connection stays the caller's. */
void pawl_publishing_fini(struct pawl_publishing *publishing);

/** pawl_publishing_tell - print a confirm: the event's id, or a JSON line; on stderr why it was refused. */
void pawl_publishing_tell(struct pawl_publishing *publishing, const struct pawl_confirm *confirm);

/** pawl_publishing_tell_unsent - the same for line @number, which got no sequence number. */
void pawl_publishing_tell_unsent(struct pawl_publishing *publishing, uint64_t number, int error,
                                 const char *why);

/** pawl_publishing_on_confirm - a callback of pawl_publish_async(): tells in the order of publishing. */
void pawl_publishing_on_confirm(void *context, const struct pawl_confirm *confirm);

/** pawl_publishing_tell_early - no more confirms are waited for: tell those that came out of order. */
void pawl_publishing_tell_early(struct pawl_publishing *publishing);

/** pawl_publishing_refuser - name of the queue that refused last, "" if it cannot be had; of the handle. The
 * library waits for it a second; here it is asked for ten times, or until a signal comes. */
const char *pawl_publishing_refuser(struct pawl *pawl);

/** pawl_publishing_tell_nowhere - on stderr how many events came into no queue, if any. */
void pawl_publishing_tell_nowhere(const struct pawl_publishing *publishing, const char *topic);

/**
 * pawl_publish_lines - each line of standard input as an event, pipelined
 * @message: all but its data
 *
 * Ends with standard input, a signal (pawl_signals_install() was called), or when stdout cannot be written.
 * Return: 0 or a printed exit code (5: a signal; what is confirmed and what is not has been said).
 */
int pawl_publish_lines(struct pawl_publishing *publishing, struct pawl_message *message);

#endif
