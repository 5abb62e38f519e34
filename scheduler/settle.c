/*
 * settle.c - attempts end: success, retry, or failure for good.
 *
 * Runs in: scheduler. One policy for every cause: exit codes, signals, deadlines, spawn errors, dead workers.
 */
#include "scheduler/core_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

struct verdict {
    uint32_t state;
    uint32_t reason;
    uint16_t failures;
    uint64_t delay_ns;
    bool retry;
    char note[256]; /* replaces an empty stderr */
};

static uint32_t reason_of(uint8_t outcome)
{
    switch ((enum pawl_outcome)outcome) {
    case PAWL_OUTCOME_EXITED:
        return PAWL_REASON_EXIT;
    case PAWL_OUTCOME_SIGNALED:
        return PAWL_REASON_SIGNAL;
    case PAWL_OUTCOME_TIMED_OUT:
        return PAWL_REASON_TIMEOUT;
    case PAWL_OUTCOME_SPAWN_FAILED:
        return PAWL_REASON_SPAWN;
    case PAWL_OUTCOME_OUTPUT_LIMIT:
        return PAWL_REASON_OUTPUT;
    case PAWL_OUTCOME_KILLED:
        return PAWL_REASON_SIGNAL;
    case PAWL_OUTCOME_CAPTURE:
        return PAWL_REASON_CAPTURE;
    case PAWL_OUTCOME_WORKER_LOST:
        return PAWL_REASON_WORKER_LOST;
    }
    return PAWL_REASON_SPAWN;
}

/* Output that does not hold what the step promised is a failure of the step, found before anything is
 * recorded. */
static bool output_holds(struct pawl_run *run, struct pawl_step *step, const struct pawl_delivery *delivery,
                         const struct pawl_settlement *settlement, const char *bytes, char *note,
                         size_t note_bytes)
{
    struct pawl_core *core = run->core;
    struct pawl_value value;
    struct pawl_json_error why = {.text = ""};
    if (step->plan->output != PAWL_OUTPUT_JSON)
        return true;
    const char *text = bytes;
    size_t n = settlement->stdout_bytes;
    void *file = NULL;
    int error = 0;
    if (settlement->flags & PAWL_SETTLE_STDOUT_FILE) {
        char name[192];
        const char *step_name = pawl_plan_step_name(run->plan, step->index);
        if (step->many)
            snprintf(name, sizeof name, "out/%s.%llu.%u.out", step_name,
                     (unsigned long long)delivery->instance, settlement->attempt);
        else
            snprintf(name, sizeof name, "out/%s.%u.out", step_name, settlement->attempt);
        error = core->effects.read_file(core->ctx, run->id, name, 0, UINT64_MAX, &file, &n);
        text = file;
    }
    if (error == 0)
        error =
            pawl_value_parse_json(text ? text : "", n, PAWL_VALUE_DEPTH_MAX, &core->scratch, &value, &why);
    pawl_arena_reset(&core->scratch);
    free(file);
    if (error == 0)
        return true;
    snprintf(note, note_bytes, "output is not the JSON that `output: json` promises: byte %zu: %s",
             why.byte_offset, why.text[0] ? why.text : pawl_error_text(error));
    return false;
}

static void judge_failure(struct pawl_run *run, struct pawl_step *step, const struct pawl_instance *instance,
                          const struct pawl_settlement *settlement, struct verdict *verdict)
{
    const struct pawl_plan_retry *retry = &step->plan->retry;
    uint32_t failures = instance->failures + 1u, limit = retry->limit;
    verdict->failures = (uint16_t)(failures > UINT16_MAX ? UINT16_MAX : failures);
    bool retriable = true;
    if (settlement->outcome == PAWL_OUTCOME_EXITED && verdict->reason == PAWL_REASON_EXIT)
        retriable = pawl_step_retries_exit(run->plan, step->plan, settlement->exit_code);
    if (settlement->outcome == PAWL_OUTCOME_WORKER_LOST && limit < PAWL_WORKER_LOST_RETRIES)
        limit = PAWL_WORKER_LOST_RETRIES;
    verdict->retry = retriable && failures <= limit;
    if (!verdict->retry) {
        verdict->state = PAWL_STEP_FAILED;
    } else if (run->stopped && !step->runs_anyway) {
        verdict->state = PAWL_STEP_CANCELLED; /* a retry would be a new start */
        verdict->reason = PAWL_REASON_STOPPED;
    } else if (run->draining) {
        verdict->state = PAWL_STEP_READY;
    } else {
        verdict->delay_ns =
            retry->limit > 0
                ? pawl_step_retry_wait_ns(step->plan, failures, run->core->effects.random(run->core->ctx))
                : 0;
        verdict->state = verdict->delay_ns > 0 ? PAWL_STEP_DELAYED : PAWL_STEP_READY;
    }
}

static void judge(struct pawl_run *run, struct pawl_step *step, const struct pawl_delivery *delivery,
                  const struct pawl_settlement *settlement, const char *bytes, struct verdict *verdict)
{
    const struct pawl_instance *instance = &step->instances[delivery->instance];
    verdict->failures = instance->failures;
    verdict->note[0] = '\0';
    if (settlement->outcome == PAWL_OUTCOME_KILLED && delivery->signalled) {
        bool for_good = run->draining == PAWL_CANCEL_CANCEL || run->stopped;
        verdict->state = for_good ? PAWL_STEP_CANCELLED : PAWL_STEP_READY;
        verdict->reason = run->draining == PAWL_CANCEL_CANCEL ? PAWL_REASON_CANCELLED
                          : run->stopped                      ? PAWL_REASON_STOPPED
                                                              : PAWL_REASON_INTERRUPTED;
        return;
    }
    if (settlement->outcome == PAWL_OUTCOME_EXITED && settlement->exit_code == 0) {
        if (output_holds(run, step, delivery, settlement, bytes, verdict->note, sizeof verdict->note)) {
            verdict->state = PAWL_STEP_SUCCEEDED;
            verdict->reason = PAWL_REASON_NONE;
            return;
        }
        verdict->reason = PAWL_REASON_BAD_OUTPUT;
    } else {
        verdict->reason = reason_of(settlement->outcome);
    }
    judge_failure(run, step, instance, settlement, verdict);
}

static uint64_t record_result(struct pawl_core *core, struct pawl_run *run, struct pawl_delivery *delivery,
                              uint32_t worker, const struct pawl_settlement *settlement, const char *bytes,
                              const struct verdict *verdict)
{
    const struct pawl_instance *instance = &run->steps[delivery->step].instances[delivery->instance];
    struct pawl_step_record record = {
        .run = run->number,
        .instance = delivery->instance,
        .previous = instance->place,
        .started_at_ns = settlement->started_at_ns,
        .duration_ns = settlement->duration_ns,
        .step = delivery->step,
        .attempt = settlement->attempt > delivery->attempt ? settlement->attempt : delivery->attempt,
        .exit_code = settlement->exit_code,
        .worker = (uint16_t)worker,
        .failures = verdict->failures,
        .outcome = settlement->outcome,
        .state = (uint8_t)verdict->state,
        .reason = (uint8_t)verdict->reason,
        .flags = settlement->flags,
        .stdout_bytes = settlement->stdout_bytes,
        .stderr_bytes = settlement->stderr_bytes,
        .named_bytes = settlement->arena_bytes - settlement->stdout_bytes - settlement->stderr_bytes,
    };
    struct pawl_due due = {.due_realtime_ns = core->now.realtime_ns + verdict->delay_ns,
                           .delay_ns = verdict->delay_ns};
    struct iovec more[4];
    int count = 0;
    if (record.state == PAWL_STEP_DELAYED)
        more[count++] = (struct iovec){.iov_base = &due, .iov_len = sizeof due};
    if (verdict->note[0] && record.stderr_bytes == 0) {
        size_t note = strlen(verdict->note);
        record.stderr_bytes = (uint32_t)note;
        more[count++] =
            (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = settlement->stdout_bytes};
        more[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)verdict->note, .iov_len = note};
        more[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)(bytes + settlement->stdout_bytes),
                                       .iov_len = record.named_bytes};
    } else if (settlement->arena_bytes > 0) {
        more[count++] =
            (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = settlement->arena_bytes};
    }
    return pawl_apply_append(core, PAWL_RECORD_STEP, &record, sizeof record, more, count);
}

static void after_result(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step,
                         uint64_t instance, const struct verdict *verdict, uint64_t lsn)
{
    if (verdict->state == PAWL_STEP_FAILED && !pawl_step_tolerates(step))
        run->failed_count++;
    if (pawl_step_state_is_final(verdict->state)) {
        if (run->fed && run->batch)
            run->batch->completed_run = run->number;
        pawl_flow_instance_final(core, run, step, lsn);
    } else if (verdict->state == PAWL_STEP_READY) {
        if (pawl_grow((void **)&step->again, &step->again_capacity, step->again_count + 1, sizeof(uint64_t)) <
            0)
            core->failed = true;
        else
            step->again[step->again_count++] = instance;
    }
    if (step->state == PAWL_STEP_READY)
        pawl_flow_queue(run, step);
    pawl_flow_check_end(core, run);
    core->need_dispatch = true;
}

void pawl_core_settled(struct pawl_core *core, struct pawl_now now, struct pawl_delivery *delivery,
                       uint32_t worker, const struct pawl_settlement *settlement, const void *bytes)
{
    core->now = now;
    struct pawl_run *run = delivery->run;
    struct pawl_step *step = &run->steps[delivery->step];
    struct pawl_batch *batch = delivery->batch;
    struct pawl_settlement result = *settlement;
    struct verdict verdict = {0};
    uint64_t instance = delivery->instance;
    if (result.type == PAWL_SETTLE_DROPPED) {
        result.outcome = PAWL_OUTCOME_SPAWN_FAILED;
        result.stdout_bytes = result.stderr_bytes = result.arena_bytes = 0;
    }
    if (result.started_at_ns == 0)
        result.started_at_ns = now.realtime_ns;
    judge(run, step, delivery, &result, bytes, &verdict);
    if (result.type == PAWL_SETTLE_DROPPED)
        snprintf(verdict.note, sizeof verdict.note, "a worker could not read the task: %s",
                 pawl_error_text(result.exit_code));
    uint64_t lsn = record_result(core, run, delivery, worker, &result, bytes, &verdict);
    if (lsn == 0)
        return; /* the journal failed: nothing changes any more */
    if (batch && result.outcome == PAWL_OUTCOME_EXITED)
        batch->mean_ns = batch->mean_ns == 0
                             ? result.duration_ns + 1
                             : (uint64_t)((int64_t)batch->mean_ns +
                                          ((int64_t)result.duration_ns - (int64_t)batch->mean_ns) / 16);
    core->effects.forget(core->ctx, delivery);
    pawl_delivery_free(delivery);
    after_result(core, run, step, instance, &verdict, lsn);
}

void pawl_core_worker_lost(struct pawl_core *core, struct pawl_now now, struct pawl_delivery *delivery,
                           bool begun, uint32_t worker)
{
    core->now = now;
    struct pawl_run *run = delivery->run;
    struct pawl_step *step = &run->steps[delivery->step];
    if (!begun && !delivery->begun) {
        /* Claimed ahead, never begun: it goes again and nothing is counted. */
        uint64_t instance = delivery->instance;
        core->effects.forget(core->ctx, delivery);
        pawl_delivery_free(delivery);
        struct verdict verdict = {.state = PAWL_STEP_READY};
        after_result(core, run, step, instance, &verdict, core->last_lsn);
        return;
    }
    struct pawl_settlement settlement = {
        .type = PAWL_SETTLE_RESULT,
        .outcome = delivery->signalled ? PAWL_OUTCOME_KILLED : PAWL_OUTCOME_WORKER_LOST,
        .attempt = delivery->attempt,
        .exit_code = 9,
        .started_at_ns = delivery->started_at_ns ? delivery->started_at_ns : now.realtime_ns,
    };
    if (now.realtime_ns > settlement.started_at_ns)
        settlement.duration_ns = now.realtime_ns - settlement.started_at_ns;
    pawl_core_settled(core, now, delivery, worker, &settlement, "");
}

/* How the attempt ended is in the journal: its worker has only not heard yet that it is durable. */
static bool is_known(const struct pawl_instance *instance, uint32_t attempt)
{
    return attempt == instance->attempt && (instance->state == PAWL_STEP_DELAYED ||
                                            (instance->state == PAWL_STEP_READY && instance->failures > 0 &&
                                             instance->reason != PAWL_REASON_INTERRUPTED));
}

struct pawl_delivery *pawl_core_adopt(struct pawl_core *core, struct pawl_now now,
                                      const struct pawl_wire_offer *offer, uint32_t worker)
{
    core->now = now;
    char id[PAWL_NAME_BYTES];
    memcpy(id, offer->run_id, sizeof id);
    id[sizeof id - 1] = '\0';
    struct pawl_run *run = id[0] ? pawl_core_find(core, id) : NULL;
    if (!run || run->state != PAWL_RUN_RUNNING || offer->step >= run->step_count ||
        offer->attempt > UINT16_MAX)
        return NULL;
    struct pawl_step *step = &run->steps[offer->step];
    if (offer->instance >= PAWL_RUN_INSTANCES_MAX || (!step->many && offer->instance > 0))
        return NULL;
    if (offer->instance >= step->count &&
        (step->expanded || !step->many || pawl_step_expand(run, step, offer->instance + 1) < 0))
        return NULL;
    struct pawl_instance *instance = &step->instances[offer->instance];
    bool new_batch = false;
    if (pawl_step_state_is_final(instance->state) || offer->attempt < instance->attempt ||
        is_known(instance, offer->attempt) || (instance->flags & PAWL_INSTANCE_ADOPTED) != 0 ||
        (!run->batch && !pawl_batch_get(core, run, 0, &new_batch)))
        return NULL;
    struct pawl_claim_record record = {.run = run->number,
                                       .instance = offer->instance,
                                       .started_at_ns = offer->started_at_ns,
                                       .step = offer->step,
                                       .attempt = offer->attempt,
                                       .worker = worker,
                                       .flags = PAWL_CLAIM_ADOPTED};
    if (pawl_apply_append(core, PAWL_RECORD_CLAIM, &record, sizeof record, NULL, 0) == 0)
        return NULL;
    struct pawl_delivery *delivery = pawl_delivery_create(run, step, offer->instance);
    if (!delivery)
        return NULL;
    instance = &step->instances[offer->instance];
    instance->flags |= PAWL_INSTANCE_ADOPTED;
    delivery->attempt = offer->attempt;
    delivery->begun = true;
    delivery->batch->begun++;
    delivery->worker = worker;
    delivery->started_at_ns = offer->started_at_ns;
    return delivery;
}
