/*
 * flow.c - the graph: which steps may go on, which are over, and when a run is.
 *
 * Runs in: scheduler. Readiness is derived from durable results, never written down: recovery derives it
 * again.
 */
#include "scheduler/core_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

/* ---- what a step needs ---- */

/* Is a need's end good enough to go on? Skipped by its own `when` is; skipped for a failure is not. */
static bool need_is_met(const struct pawl_step *need)
{
    switch ((enum pawl_step_state)need->state) {
    case PAWL_STEP_SUCCEEDED:
    case PAWL_STEP_CACHED:
        return true;
    case PAWL_STEP_SKIPPED:
        return need->reason == PAWL_REASON_WHEN;
    case PAWL_STEP_FAILED:
        return pawl_step_tolerates(need);
    case PAWL_STEP_WAITING:
    case PAWL_STEP_READY:
    case PAWL_STEP_RUNNING:
    case PAWL_STEP_DELAYED:
    case PAWL_STEP_CANCELLED:
        break;
    }
    return false;
}

static bool needs_are_met(const struct pawl_run *run, const struct pawl_step *step)
{
    const uint32_t *needs = pawl_plan_needs(run->plan, step->plan);
    for (uint32_t n = 0; n < step->plan->needs.count; n++)
        if (!need_is_met(&run->steps[needs[n]]))
            return false;
    return true;
}

static bool a_need_has_failed(const struct pawl_run *run, const struct pawl_step *step)
{
    const uint32_t *needs = pawl_plan_needs(run->plan, step->plan);
    for (uint32_t n = 0; n < step->plan->needs.count; n++)
        if (pawl_step_state_is_final(run->steps[needs[n]].state) && !need_is_met(&run->steps[needs[n]]))
            return true;
    return false;
}

/* ---- ends ---- */

static void tell_dependents(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step);

/* The step is over in memory; its successors hear of it once `lsn` is durable. */
static void end_step(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step, uint32_t state,
                     uint32_t reason, uint64_t lsn)
{
    pawl_step_set(run, step, state, reason);
    step->lsn_ended = lsn;
    if (lsn > core->durable_lsn)
        pawl_core_later(core, lsn, run, PAWL_PENDING_STEP, step->index, 0);
    else
        tell_dependents(core, run, step);
}

static void end_by_instances(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step,
                             uint64_t lsn)
{
    uint32_t state = PAWL_STEP_SUCCEEDED, reason = PAWL_REASON_NONE;
    if (step->states[PAWL_STEP_FAILED] > 0) {
        state = PAWL_STEP_FAILED;
        reason = step->count == 1 ? step->instances[0].reason : PAWL_REASON_EXIT;
    } else if (step->states[PAWL_STEP_CANCELLED] > 0) {
        state = PAWL_STEP_CANCELLED;
        reason = PAWL_REASON_STOPPED;
    } else if (step->count > 0 && step->states[PAWL_STEP_SKIPPED] == step->count) {
        state = PAWL_STEP_SKIPPED;
        reason = step->instances[0].reason;
    }
    end_step(core, run, step, state, reason, lsn);
}

static bool all_final(const struct pawl_run *run, const struct pawl_step *step)
{
    if (step->many && !step->expanded)
        return false;
    if ((step->plan->flags & PAWL_STEP_FED) != 0 && !run->fed_all && !run->stopped)
        return false;
    uint64_t final = 0;
    for (int s = PAWL_STEP_SUCCEEDED; s < PAWL_STEP_STATES; s++)
        final += step->states[s];
    return final == step->count;
}

/* Give up what has not started of a step: every instance, or the step as a whole when it was never spread
 * out. */
static void give_up(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step, uint32_t state,
                    uint32_t reason)
{
    if (pawl_step_state_is_final(step->state))
        return;
    for (uint64_t n = 0; n < step->count; n++) {
        struct pawl_instance *instance = &step->instances[n];
        if (!pawl_step_state_is_final(instance->state)) {
            pawl_instance_set(run, step, instance, state, reason);
            if (run->fed)
                pawl_items_final(run, n);
        }
    }
    step->again_count = 0;
    step->next_fresh = step->count;
    if (step->many && !step->expanded && step->count == 0)
        end_step(core, run, step, state, reason, core->last_lsn);
    else
        end_by_instances(core, run, step, core->last_lsn);
}

static void give_up_stopped(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step)
{
    if (a_need_has_failed(run, step) && step->count == step->states[PAWL_STEP_WAITING])
        give_up(core, run, step, PAWL_STEP_SKIPPED, PAWL_REASON_NEEDS);
    else
        give_up(core, run, step, PAWL_STEP_CANCELLED, PAWL_REASON_STOPPED);
}

/* A condition of the step as a whole, not of each of its items. */
static bool has_condition(const struct pawl_run *run, const struct pawl_step *step)
{
    return step->plan->when != PAWL_PLAN_NONE && !pawl_flow_uses_item(run, step->plan->when);
}

void pawl_flow_stop(struct pawl_core *core, struct pawl_run *run)
{
    if (run->stopped)
        return;
    run->stopped = true;
    pawl_run_recall_all(core, run, true);
    if (run->request.halt_now)
        for (struct pawl_delivery *d = run->deliveries; d; d = d->next)
            if (!d->signalled && !run->steps[d->step].runs_anyway) {
                d->signalled = true; /* its worker's lane may tell later that it had begun */
                d->grace_ns = run->steps[d->step].plan->grace_ns;
                if (d->begun)
                    core->effects.signal(core->ctx, d, d->grace_ns);
            }
    const uint32_t *order = pawl_plan_order(run->plan);
    for (uint32_t i = 0; i < run->step_count; i++) {
        struct pawl_step *step = &run->steps[order[i]];
        bool asked_later = step->needs_left > 0 && has_condition(run, step); /* by advance() */
        if (!step->runs_anyway && step->in_flight == 0 && !asked_later)
            give_up_stopped(core, run, step);
    }
}

static bool failures_exceed(const struct pawl_run *run)
{
    const struct pawl_wire_submit *request = &run->request;
    if (request->halt_percent > 0 && run->attempts > 0) {
        uint64_t ended = run->states[PAWL_STEP_SUCCEEDED] + run->states[PAWL_STEP_FAILED];
        return run->failed_count >= 3 && run->failed_count * 100 >= (uint64_t)request->halt_percent * ended;
    }
    if ((request->flags & PAWL_SUBMIT_KEEP_GOING) == 0)
        return run->failed_count > 0;
    return request->keep_going > 0 && run->failed_count >= request->keep_going;
}

void pawl_flow_instance_final(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step,
                              uint64_t lsn)
{
    if (all_final(run, step) && !pawl_step_state_is_final(step->state))
        end_by_instances(core, run, step, lsn);
    if (failures_exceed(run) && !run->draining && !run->stopped)
        pawl_flow_stop(core, run);
    else if (run->stopped && !step->runs_anyway && step->in_flight == 0)
        give_up_stopped(core, run, step);
}

void pawl_flow_fail_instance(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step,
                             uint64_t number, enum pawl_reason reason, const char *note)
{
    struct pawl_step_record record = {.run = run->number,
                                      .instance = number,
                                      .step = step->index,
                                      .state = PAWL_STEP_FAILED,
                                      .reason = (uint8_t)reason,
                                      .stderr_bytes = (uint32_t)strlen(note),
                                      .started_at_ns = core->now.realtime_ns};
    if (number != PAWL_INSTANCE_NONE) {
        const struct pawl_instance *instance = &step->instances[number];
        record.attempt = instance->attempt;
        record.failures = instance->failures;
        record.previous = instance->place;
        record.exit_code = instance->exit_code;
    }
    struct iovec more = {.iov_base = (void *)(uintptr_t)note, .iov_len = strlen(note)};
    uint64_t lsn = pawl_apply_append(core, PAWL_RECORD_STEP, &record, sizeof record, &more, 1);
    if (lsn == 0)
        return;
    if (!pawl_step_tolerates(step))
        run->failed_count++;
    if (number == PAWL_INSTANCE_NONE) {
        step->lsn_ended = lsn;
        pawl_core_later(core, lsn, run, PAWL_PENDING_STEP, step->index, 0);
        if (failures_exceed(run) && !run->draining)
            pawl_flow_stop(core, run);
    } else {
        pawl_flow_instance_final(core, run, step, lsn);
    }
}

/* ---- starts ---- */

void pawl_flow_queue(struct pawl_run *run, struct pawl_step *step)
{
    if (step->queued || !run->batch || run->draining)
        return;
    struct pawl_ready_entry entry = {.priority = step->plan->priority,
                                     .position = step->plan->topological_position,
                                     .run = run->number,
                                     .step = step->index};
    if (pawl_ready_add(&run->batch->ready, entry) < 0)
        run->core->failed = true;
    else
        step->queued = true;
}

/* Where to go on: everything above the highest touched instance is fresh, what is open below it goes again.
 */
static int find_open(struct pawl_step *step)
{
    uint64_t touched = step->count;
    while (touched > 0 && step->instances[touched - 1].state == PAWL_STEP_WAITING &&
           (step->instances[touched - 1].flags & PAWL_INSTANCE_UNFED) == 0)
        touched--;
    step->next_fresh = touched;
    step->again_count = 0;
    for (uint64_t n = touched; n > 0; n--) {
        const struct pawl_instance *instance = &step->instances[n - 1];
        bool open = instance->state == PAWL_STEP_WAITING || instance->state == PAWL_STEP_READY;
        if (!open || (instance->flags & (PAWL_INSTANCE_UNFED | PAWL_INSTANCE_ADOPTED)) != 0)
            continue;
        if (pawl_grow((void **)&step->again, &step->again_capacity, step->again_count + 1, sizeof(uint64_t)) <
            0)
            return -1;
        step->again[step->again_count++] = n - 1;
    }
    return 0;
}

static void start_instances(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step)
{
    if (step->many && !step->expanded && step->count == 0)
        run->states[step->state]--; /* it stood for what it would become */
    step->expanded = true;
    for (uint64_t n = 0; n < step->count; n++) {
        struct pawl_instance *instance = &step->instances[n];
        if (instance->state == PAWL_STEP_SKIPPED) /* by its `when`: asked again */
            pawl_instance_set(run, step, instance, PAWL_STEP_WAITING, PAWL_REASON_NONE);
    }
    if (find_open(step) < 0) {
        core->failed = true;
        return;
    }
    for (uint64_t n = 0; n < step->count; n++)
        if (step->instances[n].state == PAWL_STEP_WAITING &&
            (step->instances[n].flags & PAWL_INSTANCE_UNFED) == 0)
            pawl_instance_set(run, step, &step->instances[n], PAWL_STEP_READY, step->instances[n].reason);
    if (all_final(run, step)) {
        /* The last of them may be an adopted job's, known and not yet durable. */
        end_by_instances(core, run, step, core->last_lsn);
        return;
    }
    pawl_step_set(run, step, PAWL_STEP_READY, step->reason);
    pawl_flow_queue(run, step);
    core->need_dispatch = true;
}

static int ask_condition(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step,
                         bool *holds_out, struct pawl_expr_error *why)
{
    struct pawl_expr_env env;
    pawl_flow_env(run, step, &env);
    int error =
        pawl_template_eval_condition(run->plan, step->plan->when, &env, &core->scratch, holds_out, why);
    pawl_arena_reset(&core->scratch);
    return error;
}

/* All its needs are over, durably: skip it, fail it, or make its instances ready. */
static void advance(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step)
{
    struct pawl_expr_error why = {.text = ""};
    if (pawl_step_state_is_final(step->state)) {
        /* Its end came before that of its needs: out of the journal, or by an adopted job that ended just
         * now; then its successors hear of it in its own time. */
        if (step->lsn_ended <= core->durable_lsn)
            tell_dependents(core, run, step);
        return;
    }
    if (step->state == PAWL_STEP_READY)
        return;
    /* A job that outlived the scheduler: what it had to wait for held when it began, and its result counts.
     */
    bool adopted = step->in_flight > 0, holds = true;
    bool met = adopted || step->runs_anyway || needs_are_met(run, step);
    int error =
        met && !adopted && has_condition(run, step) ? ask_condition(core, run, step, &holds, &why) : 0;
    if (error == 0 && !holds) { /* stopped or not: after a restart nobody knows which came first */
        give_up(core, run, step, PAWL_STEP_SKIPPED, PAWL_REASON_WHEN);
        return;
    }
    if (run->stopped && !step->runs_anyway) {
        if (!adopted) /* else: when its adopted jobs have ended */
            give_up_stopped(core, run, step);
        return;
    }
    if (!met) {
        give_up(core, run, step, PAWL_STEP_SKIPPED, PAWL_REASON_NEEDS);
        return;
    }
    if (error == 0 && step->many)
        error = pawl_flow_spread_out(core, run, step, &why);
    if (error < 0) {
        const char *text = why.text[0] ? why.text : pawl_error_text(error);
        pawl_flow_fail_instance(core, run, step, step->many ? PAWL_INSTANCE_NONE : 0, PAWL_REASON_EXPRESSION,
                                text);
        return;
    }
    start_instances(core, run, step);
}

static void tell_dependents(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step)
{
    if (step->settled_durably)
        return;
    step->settled_durably = true;
    /* A list, not recursion: a chain of a hundred thousand skipped steps is as ordinary as any. */
    if (pawl_grow((void **)&core->work, &core->work_capacity, core->work_count + 1, sizeof *core->work) < 0) {
        core->failed = true;
        return;
    }
    core->work[core->work_count++] = step;
    if (core->working)
        return;
    core->working = true;
    while (core->work_count > 0) {
        struct pawl_step *done = core->work[--core->work_count];
        const uint32_t *dependents = pawl_plan_dependents(run->plan, done->plan);
        for (uint32_t d = 0; d < done->plan->dependents.count; d++) {
            struct pawl_step *dependent = &run->steps[dependents[d]];
            if (dependent->needs_left > 0 && --dependent->needs_left == 0)
                advance(core, run, dependent);
        }
    }
    core->working = false;
}

void pawl_flow_step_durable(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step)
{
    if (!pawl_step_state_is_final(step->state))
        return; /* it was reset by a resume */
    tell_dependents(core, run, step);
    pawl_flow_check_end(core, run);
}

/* Failed as a whole, by its list: the one end of a step that is a record of its own. */
static bool end_is_recorded(const struct pawl_step *step)
{
    return step->many && step->state == PAWL_STEP_FAILED && step->reason == PAWL_REASON_EXPRESSION;
}

void pawl_flow_derive(struct pawl_core *core, struct pawl_run *run)
{
    const uint32_t *order = pawl_plan_order(run->plan);
    run->failed_count = 0;
    if (run->fed) {
        run->fed_durable = run->steps[0].count;
        run->fed_ready = run->fed_count;
    }
    for (uint32_t i = 0; i < run->step_count; i++) {
        struct pawl_step *step = &run->steps[i];
        step->settled_durably = false;
        step->lsn_ended = 0;
        step->queued = false;
        step->needs_left = step->plan->needs.count;
        if (!pawl_step_tolerates(step))
            run->failed_count += step->states[PAWL_STEP_FAILED];
        /* What was derived is derived again; what was recorded stays. */
        if (!end_is_recorded(step))
            pawl_step_set(run, step, PAWL_STEP_WAITING, step->reason);
        else
            run->failed_count++;
    }
    if (run->request.flags & PAWL_SUBMIT_RETRY && run->request.filter_bytes > 0)
        run->failed_count = 0; /* failures that the filter left alone are no reason to stop */
    if (run->failed_count > 0 && failures_exceed(run))
        run->stopped = true;
    core->working = true; /* the order below is the work list */
    for (uint32_t i = 0; i < run->step_count; i++) {
        struct pawl_step *step = &run->steps[order[i]];
        if (step->needs_left == 0) {
            if (pawl_step_state_is_final(step->state))
                tell_dependents(core, run, step);
            else
                advance(core, run, step);
        }
        while (core->work_count > 0) {
            struct pawl_step *done = core->work[--core->work_count];
            const uint32_t *dependents = pawl_plan_dependents(run->plan, done->plan);
            for (uint32_t d = 0; d < done->plan->dependents.count; d++)
                if (run->steps[dependents[d]].needs_left > 0)
                    run->steps[dependents[d]].needs_left--;
        }
    }
    core->working = false;
    pawl_flow_check_end(core, run);
}

/* ---- the run's end ---- */

static void end_open_instances(struct pawl_run *run, struct pawl_step *step, uint32_t state, uint32_t reason)
{
    for (uint64_t n = 0; n < step->count; n++)
        if (!pawl_step_state_is_final(step->instances[n].state))
            pawl_instance_set(run, step, &step->instances[n], state, reason);
}

/* What became of the open part of a step when its run ended. After a crash that is all that is known of what
 * was skipped: it is not recorded. In a run that succeeded nothing else can have happened. */
static uint32_t mark_of(const struct pawl_run *run, const struct pawl_step *step, uint32_t run_state,
                        bool untouched, uint32_t *reason_out)
{
    *reason_out = run_state == PAWL_RUN_CANCELLED ? PAWL_REASON_CANCELLED : PAWL_REASON_STOPPED;
    if (run_state != PAWL_RUN_CANCELLED && untouched && !step->runs_anyway && a_need_has_failed(run, step)) {
        *reason_out = PAWL_REASON_NEEDS;
        return PAWL_STEP_SKIPPED;
    }
    if (run_state == PAWL_RUN_SUCCEEDED && step->plan->when != PAWL_PLAN_NONE) {
        *reason_out = PAWL_REASON_WHEN;
        return PAWL_STEP_SKIPPED;
    }
    return PAWL_STEP_CANCELLED;
}

void pawl_flow_finish_marks(struct pawl_run *run, uint32_t run_state)
{
    if (run_state == PAWL_RUN_INTERRUPTED || run_state == PAWL_RUN_RUNNING)
        return; /* what is open stays open */
    const uint32_t *order = pawl_plan_order(run->plan);
    for (uint32_t i = 0; i < run->step_count; i++) {
        struct pawl_step *step = &run->steps[order[i]];
        if (pawl_step_state_is_final(step->state)) {
            /* Its list failed in this resume and was good in one before: what began then fails with it. */
            end_open_instances(run, step, step->state, step->reason);
            continue;
        }
        bool untouched = step->states[PAWL_STEP_SUCCEEDED] + step->states[PAWL_STEP_FAILED] == 0;
        uint32_t reason, state = mark_of(run, step, run_state, untouched, &reason);
        uint64_t over = 0;
        for (int s = PAWL_STEP_SUCCEEDED; s < PAWL_STEP_STATES; s++)
            over += step->states[s];
        bool open = over < step->count;
        end_open_instances(run, step, state, reason);
        if (step->states[PAWL_STEP_FAILED] > 0)
            pawl_step_set(run, step, PAWL_STEP_FAILED, PAWL_REASON_EXIT);
        else if (untouched ? open || run_state != PAWL_RUN_SUCCEEDED || state == PAWL_STEP_SKIPPED
                           : open && state == PAWL_STEP_CANCELLED)
            pawl_step_set(run, step, state, reason);
        else
            pawl_step_set(run, step, PAWL_STEP_SUCCEEDED, PAWL_REASON_NONE);
    }
}

void pawl_flow_count_ended(struct pawl_core *core, struct pawl_run *run)
{
    const uint32_t *order = pawl_plan_order(run->plan);
    for (uint32_t i = 0; i < run->step_count; i++) {
        struct pawl_step *step = &run->steps[order[i]];
        struct pawl_expr_error why = {.text = ""};
        uint64_t known = step->count;
        uint32_t reason, state = mark_of(run, step, run->state, false, &reason);
        if (!step->many || step->expanded || known == 0)
            continue;
        (void)pawl_flow_spread_out(core, run, step, &why); /* it was good when the run went on */
        for (uint64_t n = known; n < step->count; n++)
            pawl_instance_set(run, step, &step->instances[n], state, reason);
    }
}

static bool has_failed(const struct pawl_run *run)
{
    for (uint32_t i = 0; i < run->step_count; i++) {
        const struct pawl_step *step = &run->steps[i];
        if ((step->state == PAWL_STEP_FAILED || step->states[PAWL_STEP_FAILED] > 0) &&
            !pawl_step_tolerates(step))
            return true;
    }
    return false;
}

static void end_run(struct pawl_core *core, struct pawl_run *run, uint32_t state)
{
    struct pawl_run_state_record record = {
        .run = run->number, .realtime_ns = core->now.realtime_ns, .state = state};
    uint64_t lsn = pawl_apply_append(core, PAWL_RECORD_RUN_STATE, &record, sizeof record, NULL, 0);
    if (lsn)
        pawl_core_later(core, lsn, run, PAWL_PENDING_ENDED, UINT32_MAX, 0);
}

void pawl_flow_check_end(struct pawl_core *core, struct pawl_run *run)
{
    if (run->ending || run->state != PAWL_RUN_RUNNING || run->deliveries || !core->serving)
        return;
    /* Cancelled, though no step is open: those that ran were the last, and were stopped. */
    bool cut_short = run->draining == PAWL_CANCEL_CANCEL && run->states[PAWL_STEP_CANCELLED] > 0;
    if (run->steps_open == 0 && !cut_short)
        end_run(core, run, has_failed(run) ? PAWL_RUN_FAILED : PAWL_RUN_SUCCEEDED);
    else if (run->draining == PAWL_CANCEL_CANCEL)
        end_run(core, run, PAWL_RUN_CANCELLED);
    else if (run->draining)
        end_run(core, run, PAWL_RUN_INTERRUPTED);
}
