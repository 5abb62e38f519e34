/*
 * filter.h - --filter of steps and retry: KEY=VALUE[,KEY=VALUE...], all of which must hold; and of dlq.
 */
#ifndef PAWL_RUNTIME_CLI_FILTER_H
#define PAWL_RUNTIME_CLI_FILTER_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "runtime/cli/cli.h"
#include "shm/wire.h"

struct pawl_filter {
    uint32_t state_mask; /* bit per enum pawl_step_state; 0: all */
    bool by_exit;
    int exit_code;
    char step[PAWL_NAME_BYTES]; /* "": any */
};

/** pawl_filter_parse - keys state, exit, step. @text NULL: everything. Return: 0 or a printed exit code (2).
 */
int pawl_filter_parse(const struct pawl_cli *cli, const char *text, struct pawl_filter *filter_out);

/** pawl_filter_holds - the state is looked at, too. */
bool pawl_filter_holds(const struct pawl_filter *filter, const char *step_name,
                       const struct pawl_wire_step *step);

/** pawl_filter_letters - of dlq: KEY=VALUE each, keys reason, topic, queue, group; put into the object
 * @filter, for the scheduler. Return: 0 or a printed exit code (2). */
int pawl_filter_letters(const struct pawl_cli *cli, const struct pawl_text_list *terms, json_t *filter);

#endif
