/*
 * filter.c - --filter of steps and retry, and of dlq.
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

/* "did you mean BEFORE and the nearest of @names?", else @otherwise. */
static const char *hint_of(const char *value, const char *const *names, const char *before,
                           const char *otherwise, char hint[160])
{
    const char *nearest = pawl_suggest_nearest(value, names);
    if (nearest == NULL)
        return otherwise;
    snprintf(hint, 160, "did you mean %s%s?", before, nearest);
    return hint;
}

/* ---- steps and retry ---- */

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
    return refuse(cli, term,
                  hint_of(value, names, "state=",
                          "states: waiting ready running delayed succeeded failed skipped cancelled cached",
                          hint));
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

/* ---- dlq ---- */

static int parse_letter_term(const struct pawl_cli *cli, const char *term, json_t *filter)
{
    static const char *const keys[] = {"reason", "topic", "queue", "group", NULL};
    static const char *const reasons[] = {"delivery-limit", "rejected",    "expired",
                                          "overflow",       "interrupted", NULL};
    const char *equals = strchr(term, '='), *key = NULL;
    char hint[160];
    for (size_t k = 0; equals != NULL && keys[k] != NULL; k++)
        if (strlen(keys[k]) == (size_t)(equals - term) && memcmp(keys[k], term, strlen(keys[k])) == 0)
            key = keys[k];
    if (key == NULL)
        return refuse(cli, term, "write reason=rejected, topic=order.new, queue=orders or group=billing");
    bool known = strcmp(key, "reason") != 0;
    for (size_t r = 0; reasons[r] != NULL; r++)
        known = known || strcmp(reasons[r], equals + 1) == 0;
    if (!known)
        return refuse(cli, term,
                      hint_of(equals + 1, reasons, "reason=",
                              "reasons: delivery-limit rejected expired overflow interrupted", hint));
    json_t *value = json_string(equals + 1);
    if (value == NULL)
        return refuse(cli, term, "it is not UTF-8");
    json_object_set_new(filter, key, value);
    return 0;
}

int pawl_filter_letters(const struct pawl_cli *cli, const struct pawl_text_list *terms, json_t *filter)
{
    int status = 0;
    for (size_t i = 0; status == 0 && i < terms->count; i++)
        status = parse_letter_term(cli, terms->items[i], filter);
    return status;
}
