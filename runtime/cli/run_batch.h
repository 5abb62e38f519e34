/*
 * run_batch.h - the runs of `pawl run --inputs`, one for each line: what they are called, and what has come
 * of those of earlier commands.
 *
 * They are called NAME-1, NAME-2, ... That is what a batch is known by: --resume goes on with the batch of
 * the name that is given, else with the one that has the newest run with the parameters of any of the lines.
 *
 * Runs in: the command. No I/O.
 */
#ifndef PAWL_RUNTIME_CLI_RUN_BATCH_H
#define PAWL_RUNTIME_CLI_RUN_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/wire.h"

/* What a line has. Of equal lines each has another run. */
struct pawl_batch_line {
    const struct pawl_wire_summary *run; /* that has succeeded, or is to go on; NULL: a new one */
    uint64_t number;                     /* of a new one, in its name */
    bool done;                           /* the run has succeeded */
};

struct pawl_run_batch {
    char name[PAWL_NAME_BYTES];
    struct pawl_batch_line *lines;
    uint64_t count, done; /* lines, and those that have succeeded */
};

/**
 * pawl_run_batch_make - which line has which run
 * @name: of the batch; NULL: the newest one's, or one is made
 * @identities, @count: pawl_identity() of each line
 * @runs, @run_count: all there are, newest first; must live as long as the batch. A batch that begins has
 * none.
 *
 * A line has a run of the batch with its parameters that has succeeded, else one that has not, else a new
 * one. Other runs do not count: what has become of them would be forgotten the next time.
 *
 * Return: 0 or -ENOMEM. End with pawl_run_batch_fini(), in either case.
 */
int pawl_run_batch_make(const char *name, const uint64_t *identities, uint64_t count,
                        const struct pawl_wire_summary *runs, size_t run_count,
                        struct pawl_run_batch *batch_out);
void pawl_run_batch_fini(struct pawl_run_batch *batch);

/** pawl_run_batch_name - of a new run: NAME-@number */
void pawl_run_batch_name(const struct pawl_run_batch *batch, uint64_t number, char run_id[PAWL_NAME_BYTES]);

#endif
