/*
 * run.h - the words for the states of runs and steps, and why a step is in one.
 *
 * Values are stored in the journal and in images: append new ones at the end.
 */
#ifndef PAWL_SCHEDULER_RUN_H
#define PAWL_SCHEDULER_RUN_H

#include <stdbool.h>
#include <stdint.h>

/*
 *             submit                nothing left, none failed
 *   (none) ----------> RUNNING -----------------------------> SUCCEEDED
 *                      ^  |  |----- nothing left, some failed -> FAILED
 *        resume, retry |  |  |----- cancel ------------------> CANCELLED
 *                      |  |  '----- ^C, command gone, start --> INTERRUPTED (stays in the journal)
 *                      |  '-------- only approvals left -----> WAITING
 *                      '----------- from FAILED, CANCELLED, INTERRUPTED
 */
enum pawl_run_state {
    PAWL_RUN_RUNNING = 0,
    PAWL_RUN_WAITING = 1,
    PAWL_RUN_SUCCEEDED = 2,
    PAWL_RUN_FAILED = 3,
    PAWL_RUN_CANCELLED = 4,
    PAWL_RUN_INTERRUPTED = 5,
};

/* Of a step and of each of its instances. */
enum pawl_step_state {
    PAWL_STEP_WAITING = 0,
    PAWL_STEP_READY = 1,
    PAWL_STEP_RUNNING = 2,
    PAWL_STEP_DELAYED = 3, /* a retry is due later */
    PAWL_STEP_SUCCEEDED = 4,
    PAWL_STEP_FAILED = 5,
    PAWL_STEP_SKIPPED = 6,
    PAWL_STEP_CANCELLED = 7,
    PAWL_STEP_CACHED = 8,
};

enum { PAWL_STEP_STATES = 9 };

enum pawl_reason {
    PAWL_REASON_NONE = 0,
    PAWL_REASON_EXIT = 1, /* exit code not 0 */
    PAWL_REASON_SIGNAL = 2,
    PAWL_REASON_TIMEOUT = 3,
    PAWL_REASON_SPAWN = 4,   /* the program could not be started */
    PAWL_REASON_OUTPUT = 5,  /* more output than allowed */
    PAWL_REASON_CAPTURE = 6, /* output could not be stored */
    PAWL_REASON_WORKER_LOST = 7,
    PAWL_REASON_INTERRUPTED = 8,  /* interruptions reached their limit */
    PAWL_REASON_BAD_OUTPUT = 9,   /* not the JSON it promised */
    PAWL_REASON_EXPRESSION = 10,  /* a template could not be evaluated */
    PAWL_REASON_WHEN = 11,        /* skipped: its `when` was false */
    PAWL_REASON_NEEDS = 12,       /* skipped: a step that it needs failed */
    PAWL_REASON_STOPPED = 13,     /* cancelled: the run stopped after a failure */
    PAWL_REASON_CANCELLED = 14,   /* cancelled by a person */
    PAWL_REASON_OUTPUT_LOST = 15, /* run again: its recorded output is gone */
    PAWL_REASON_DEFINITION = 16,  /* run again: its definition changed */
};

const char *pawl_run_state_name(enum pawl_run_state state);
const char *pawl_step_state_name(enum pawl_step_state state);
const char *pawl_reason_name(enum pawl_reason reason); /* "" for NONE */

static inline bool pawl_step_state_is_final(uint32_t state)
{
    return state >= PAWL_STEP_SUCCEEDED;
}

#endif
