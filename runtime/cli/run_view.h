/*
 * run_view.h - one run as the reading verbs see it: held by a scheduler, or sealed in an image.
 *
 * A scheduler that serves is asked first, then the image. A run that has neither (interrupted, and nobody
 * serves) makes the command start a scheduler for its own duration.
 */
#ifndef PAWL_RUNTIME_CLI_RUN_VIEW_H
#define PAWL_RUNTIME_CLI_RUN_VIEW_H

#include "runtime/cli/session.h"
#include "scheduler/image.h"
#include "scheduler/plan.h"

struct pawl_run_view {
    struct pawl_session *session;
    struct pawl_wire_summary summary; /* when it was opened */
    struct pawl_image *image;         /* NULL: the scheduler holds the run */
    struct pawl_plan *plan;           /* after pawl_run_view_plan() */
};

/**
 * pawl_runs_list - every run, newest first
 * @runs_out: malloc'd
 *
 * Starts a scheduler if there are unfinished runs and nobody serves. Return: 0 or a printed exit code.
 */
int pawl_runs_list(struct pawl_session *session, struct pawl_wire_summary **runs_out, size_t *count_out);

/** pawl_runs_last - the newest run's id. Return: 0 or a printed exit code (1: there are none). */
int pawl_runs_last(struct pawl_session *session, char run_id[PAWL_NAME_BYTES]);

/**
 * pawl_run_view_open - find a run
 * @name: an id, or "last"
 *
 * Return: 0 or a printed exit code (2: no such run; 1: no runs here).
 */
int pawl_run_view_open(struct pawl_session *session, const char *name, struct pawl_run_view *view_out);

/** pawl_run_view_of - the same, and its session, for a verb that reads one run of an existing state
 * directory. Return: 0, and both are to be closed; or a printed exit code (1: no runs here), and nothing is.
 */
int pawl_run_view_of(const struct pawl_cli *cli, const char *name, struct pawl_session *session_out,
                     struct pawl_run_view *view_out);
void pawl_run_view_close(struct pawl_run_view *view);

/**
 * pawl_run_view_find - the same for an id whose run must be there (it was just seen), quietly
 *
 * Return: 0, PAWL_E_NOT_FOUND, or another error.
 */
int pawl_run_view_find(struct pawl_session *session, const char *run_id, struct pawl_run_view *view_out);

/** pawl_run_settle - a run that has just ended is sealed first, before it can go on: wait for that, at most 5
 * s. A scheduler that dies meanwhile is found or started again. Return: 0, or a printed exit code. */
int pawl_run_settle(struct pawl_session *session, const char *run_id);

/** pawl_run_view_plan - its plan, in view->plan. Return: 0 or a printed exit code. */
int pawl_run_view_plan(struct pawl_run_view *view);

/** pawl_run_view_step - index of a step by name. Return: the index, or minus a printed exit code. */
int pawl_run_view_step(struct pawl_run_view *view, const char *name);

/** pawl_run_view_each - calls @each for each instance (state_mask 0: all) until it returns non-zero. Return:
 * that, 0, or a negative error (quiet). */
int pawl_run_view_each(struct pawl_run_view *view, uint32_t state_mask,
                       int (*each)(void *context, const struct pawl_step_view *step), void *context);

/** pawl_run_view_result - one attempt's result (0: the newest). bytes is malloc'd. Return: 0,
 * PAWL_E_NOT_FOUND, PAWL_E_STATE (none has ended), or another error; all quiet. */
int pawl_run_view_result(struct pawl_run_view *view, const char *step_name, uint32_t step, uint64_t instance,
                         uint32_t attempt, struct pawl_result_view *result_out);

/** pawl_run_view_why - text, malloc'd. Return: 0 or an error (quiet). */
int pawl_run_view_why(struct pawl_run_view *view, const char *step_name, uint32_t step, uint64_t instance,
                      char **text_out);

#endif
