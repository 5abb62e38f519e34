/*
 * attach_end.h - what came of the runs that a command submitted, and what it says of that at its end.
 */
#ifndef PAWL_RUNTIME_CLI_ATTACH_END_H
#define PAWL_RUNTIME_CLI_ATTACH_END_H

#include "runtime/cli/attach.h"

struct pawl_attach_end {
    int exit_code; /* of what could not be submitted; 0: none */
    uint64_t submitted, ended;
    uint64_t left;                 /* submitted, and not known to have ended */
    uint64_t ended_in[6];          /* by run state */
    bool stopped;                  /* by ^C */
    bool nothing_left;             /* the one run had succeeded already, and that was said */
    struct pawl_wire_summary last; /* of the run that ended last */
    char run_id[PAWL_NAME_BYTES];  /* of one that has not ended, where none has; "" otherwise */
};

/**
 * pawl_attach_end_tell - print the end for people or as JSON, and how to go on
 * @lost: the supervisor is gone
 *
 * Return: the command's exit code.
 */
int pawl_attach_end_tell(const struct pawl_cli *cli, const struct pawl_attach_options *options,
                         const struct pawl_attach_end *end, bool lost);

/** pawl_note_nothing_left - a run that was to go on has succeeded already */
void pawl_note_nothing_left(const struct pawl_cli *cli, const char *run_id);

/** pawl_tell_nothing_left - the same, and what the command prints of it. Return: the command's exit code. */
int pawl_tell_nothing_left(const struct pawl_cli *cli, const struct pawl_wire_summary *summary, bool detach);

/** pawl_print_detached - what --detach prints of a run */
void pawl_print_detached(const struct pawl_cli *cli, const char *run_id);

#endif
