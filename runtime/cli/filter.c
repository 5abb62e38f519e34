/*
 * filter.c - --filter of steps and retry.
 *
 * Runs in: the command. Pure but for the message about a mistake.
 */
#include "runtime/cli/filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/errors.h"
#include "runtime/suggest.h"
#include "scheduler/run.h"
#include "shm/task.h"

static int refuse(const struct pawl_cli *cli, const char *term, const char *hint)
{
    return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", hint, "--filter: '%.80s' is not understood", term);
}

static int parse_state(const struct pawl_cli *cli, const char *term, const char *value,
                       struct pawl_filter *filter)
{
    const char *names[PAWL_STEP_STATES + 1] = {NULL};
    char hint[160];
    for (uint32_t state = 0; state < PAWL_STEP_STATES; state++) {
        names[state] = pawl_step_state_name(state);
        if (strcmp(names[state], value) == 0) {
            filter->state_mask |= 1u << state;
            return 0;
        }
    }
    const char *near = pawl_suggest_nearest(value, names);
    if (near != NULL)
        snprintf(hint, sizeof hint, "did you mean state=%s?", near);
    else
        snprintf(hint, sizeof hint,
                 "states: waiting ready running delayed succeeded failed skipped cancelled cached");
    return refuse(cli, term, hint);
}

static int parse_term(const struct pawl_cli *cli, char *term, struct pawl_filter *filter)
{
    char *equals = strchr(term, '=');
    if (equals == NULL)
        return refuse(cli, term, "write --filter state=failed, exit=N or step=NAME; several with commas");
    const char *value = equals + 1;
    if (strncmp(term, "state=", 6) == 0)
        return parse_state(cli, term, value, filter);
    if (strncmp(term, "step=", 5) == 0 && strlen(value) < sizeof filter->step) {
        snprintf(filter->step, sizeof filter->step, "%s", value);
        return 0;
    }
    if (strncmp(term, "exit=", 5) == 0) {
        char *end;
        long code = strtol(value, &end, 10);
        if (*value == '\0' || *end != '\0' || code < 0 || code > 255)
            return refuse(cli, term, "an exit code is a number from 0 to 255");
        filter->by_exit = true;
        filter->exit_code = (int)code;
        return 0;
    }
    return refuse(cli, term, "keys: state, exit, step");
}

int pawl_filter_parse(const struct pawl_cli *cli, const char *text, struct pawl_filter *filter_out)
{
    memset(filter_out, 0, sizeof *filter_out);
    if (text == NULL)
        return 0;
    char *copy = strdup(text), *rest = copy;
    int status = copy == NULL ? pawl_fail(cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory") : 0;
    for (char *term; status == 0 && (term = strsep(&rest, ",")) != NULL;)
        status = parse_term(cli, term, filter_out);
    free(copy);
    return status;
}

bool pawl_filter_holds(const struct pawl_filter *filter, const char *step_name,
                       const struct pawl_wire_step *step)
{
    if (filter->state_mask != 0 && (filter->state_mask >> step->state & 1) == 0)
        return false;
    if (filter->step[0] != '\0' && strcmp(filter->step, step_name) != 0)
        return false;
    if (!filter->by_exit)
        return true;
    return step->attempts != 0 && step->outcome == PAWL_OUTCOME_EXITED &&
           step->exit_code == filter->exit_code && pawl_step_state_is_final(step->state);
}
