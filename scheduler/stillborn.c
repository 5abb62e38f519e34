/*
 * stillborn.c - workers that end before they have done anything: after some in a row nobody waits for the
 * next.
 *
 * Runs in: scheduler. The supervisor forks them later and later; here is decided when that is in vain.
 */
#include "scheduler/stillborn.h"

#include <stdio.h>
#include <string.h>

#include <sys/wait.h>

#include "scheduler/control.h"
#include "scheduler/roster.h"

/* In a row; the supervisor's pauses make ten seconds of them. */
enum { STILLBORN_MAX = 10 };

static bool somebody_works(const struct pawl_loop *loop)
{
    for (uint32_t number = 1; number < loop->lanes->number_end; number++)
        if (loop->lanes->workers[number] && loop->lanes->workers[number]->useful)
            return true;
    return false;
}

static void describe(int32_t status, char text[96])
{
    if (status < 0)
        snprintf(text, 96, "it could not be forked: %s", strerror(-status));
    else if (WIFSIGNALED(status))
        snprintf(text, 96, "it was killed by signal %d", WTERMSIG(status));
    else
        snprintf(text, 96, "it ended with exit code %d", WEXITSTATUS(status));
}

/* What nobody can run is interrupted: it can be resumed when the trouble is over. */
static void interrupt_all(struct pawl_loop *loop, int32_t status)
{
    char how[96];
    describe(status, how);
    pawl_log(PAWL_LOG_ERROR, "no worker can be started (the last of %u: %s): runs are interrupted",
             loop->lanes->stillborn, how);
    pawl_control_notice(loop,
                        "no worker can be started (the last of %u: %s): what runs is interrupted; see "
                        "%.300s/scheduler.log",
                        loop->lanes->stillborn, how, loop->options->state_path);
    struct pawl_run *run = pawl_core_run_next(loop->core, NULL);
    for (; run; run = pawl_core_run_next(loop->core, run))
        if (pawl_run_batch(run))
            (void)pawl_core_cancel(loop->core, loop->now, NULL, run, PAWL_CANCEL_INTERRUPT, 0);
    loop->changed = true;
}

void pawl_stillborn_count(struct pawl_loop *loop, int32_t status)
{
    struct pawl_lanes *lanes = loop->lanes;
    lanes->stillborn++;
    /* On a full disk they may want for room, which is waited for. */
    if (lanes->stillborn % STILLBORN_MAX != 0 || !loop->serving || somebody_works(loop) ||
        pawl_journal_room(loop->journal) != PAWL_JOURNAL_ROOMY)
        return;
    interrupt_all(loop, status);
}

void pawl_stillborn_none(struct pawl_loop *loop, struct pawl_worker *worker)
{
    worker->useful = true;
    loop->lanes->stillborn = 0;
}
