/*
 * attach.h - submit one run or many, and wait for them: what run, resume and retry have in common.
 *
 * Keeps a window of runs in flight in one batch, survives a scheduler that is restarted, turns ^C into what
 * it means, tells progress and failures, and says at the end how to go on.
 */
#ifndef PAWL_RUNTIME_CLI_ATTACH_H
#define PAWL_RUNTIME_CLI_ATTACH_H

#include "runtime/cli/session.h"

/* One run to submit. Descriptors are closed by the attach; -1: none. Texts must live until it ends. */
struct pawl_attach_job {
    struct pawl_wire_submit request; /* batch and sizes are filled in by the attach */
    const char *file, *filter;       /* or NULL */
    int plan_fd, context_fd;
};

struct pawl_attach_options {
    uint32_t window;              /* runs in flight, at least 1 */
    uint64_t runs_total;          /* 0: one run; else how many there will be (--inputs) */
    uint64_t runs_before;         /* of the same batch, that had succeeded already */
    bool detach;                  /* leave when all are submitted */
    const char *resume_arguments; /* appended to `pawl resume RUN` in what is printed, "" for none */

    /* The next run. Return: 1, 0 when there is none left, or minus the exit code of a printed failure. */
    int (*next)(void *context, struct pawl_attach_job *job_out);
    void *context;
};

/** pawl_attach - Return: the command's exit code. The session must be connected. */
int pawl_attach(struct pawl_session *session, const struct pawl_attach_options *options);

/** pawl_resume_arguments - " -j 4 --keep-going=2" as far as they were given. jobs 0: not given. */
void pawl_resume_arguments(char arguments[64], uint64_t jobs, bool keeps_going, uint64_t keep_going);

#endif
