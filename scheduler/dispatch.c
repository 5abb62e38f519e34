/*
 * dispatch.c - what may be in flight now is placed; begins are written down.
 *
 * Runs in: scheduler. Cost does not grow with the number of ready, waiting or finished instances.
 */
#include "scheduler/core_state.h"

#include <errno.h>
#include <stdlib.h>

#include "shm/error.h"

enum {
    AHEAD_NS = 20000000,   /* work placed ahead of the workers: about this long, and twice if it is short: */
                           /* the loop looks at the results of short tasks every 20 ms */
    AHEAD_SLOTS_MAX = 128, /* a slot */
    IN_FLIGHT_MAX = 4000,  /* of a batch: what a delivery ring holds, less a little */
};

/* ---- deliveries ---- */

struct pawl_delivery *pawl_delivery_create(struct pawl_run *run, struct pawl_step *step, uint64_t instance)
{
    struct pawl_delivery *delivery = calloc(1, sizeof *delivery);
    if (!delivery)
        return NULL;
    delivery->batch = run->batch;
    delivery->run = run;
    delivery->step = step->index;
    delivery->instance = instance;
    delivery->attempt = step->instances[instance].attempt + 1u;
    delivery->next = run->deliveries;
    if (run->deliveries)
        run->deliveries->previous = delivery;
    run->deliveries = delivery;
    run->delivery_count++;
    step->in_flight++;
    if (run->batch)
        run->batch->in_flight++;
    return delivery;
}

void pawl_delivery_free(struct pawl_delivery *delivery)
{
    struct pawl_run *run = delivery->run;
    if (delivery->begin_index > 0)
        run->core->unjournaled[delivery->begin_index - 1] = NULL;
    if (delivery->previous)
        delivery->previous->next = delivery->next;
    else
        run->deliveries = delivery->next;
    if (delivery->next)
        delivery->next->previous = delivery->previous;
    run->delivery_count--;
    run->steps[delivery->step].in_flight--;
    if (delivery->batch) {
        delivery->batch->in_flight--;
        delivery->batch->begun -= delivery->begun;
    }
    free(delivery);
}

void pawl_run_recall_all(struct pawl_core *core, struct pawl_run *run, bool keep_runs_anyway)
{
    struct pawl_delivery *next;
    for (struct pawl_delivery *delivery = run->deliveries; delivery; delivery = next) {
        next = delivery->next;
        struct pawl_step *step = &run->steps[delivery->step];
        if (delivery->begun || (keep_runs_anyway && step->runs_anyway) ||
            core->effects.recall(core->ctx, delivery) < 0)
            continue;
        if (pawl_grow((void **)&step->again, &step->again_capacity, step->again_count + 1, sizeof(uint64_t)) <
            0)
            core->failed = true;
        else
            step->again[step->again_count++] = delivery->instance;
        pawl_delivery_free(delivery);
    }
}

/* ---- begins ---- */

void pawl_core_begun(struct pawl_core *core, struct pawl_now now, struct pawl_delivery *delivery,
                     uint32_t worker, uint32_t attempt, uint64_t started_at_ns)
{
    core->now = now;
    if (delivery->begun)
        return;
    if (pawl_grow((void **)&core->unjournaled, &core->unjournaled_capacity, core->unjournaled_count + 1,
                  sizeof(struct pawl_delivery *)) < 0) {
        core->failed = true;
        return;
    }
    delivery->begun = true;
    delivery->worker = worker;
    if (attempt > delivery->attempt && attempt <= UINT16_MAX)
        delivery->attempt = attempt;
    delivery->started_at_ns = started_at_ns;
    if (delivery->batch)
        delivery->batch->begun++;
    core->unjournaled[core->unjournaled_count++] = delivery;
    delivery->begin_index = (uint32_t)core->unjournaled_count;
    if (delivery->signalled) /* a drain that came between placing and beginning */
        core->effects.signal(core->ctx, delivery, delivery->grace_ns);
}

/* A begin whose result is not in the same batch is a CLAIM. */
static void journal_begins(struct pawl_core *core)
{
    for (size_t i = 0; i < core->unjournaled_count; i++) {
        struct pawl_delivery *delivery = core->unjournaled[i];
        if (!delivery)
            continue;
        delivery->begin_index = 0;
        struct pawl_claim_record record = {.run = delivery->run->number,
                                           .instance = delivery->instance,
                                           .started_at_ns = delivery->started_at_ns,
                                           .step = delivery->step,
                                           .attempt = delivery->attempt,
                                           .worker = delivery->worker};
        pawl_apply_append(core, PAWL_RECORD_CLAIM, &record, sizeof record, NULL, 0);
    }
    core->unjournaled_count = 0;
}

/* ---- placing ---- */

static uint64_t in_flight_limit(const struct pawl_core *core, const struct pawl_batch *batch)
{
    if (batch->delay_ns > 0 || batch->load_milli > 0 || batch->memfree_bytes > 0) {
        if ((batch->load_milli > 0 || batch->memfree_bytes > 0) && !core->sampled)
            return 0;
        bool loaded = batch->load_milli > 0 && core->load_milli > batch->load_milli;
        bool short_of_memory = batch->memfree_bytes > 0 && core->available_bytes < batch->memfree_bytes;
        if (loaded || short_of_memory)
            return 0;
        return batch->slots; /* nothing ahead: each start is a decision of its own */
    }
    uint64_t ahead = batch->mean_ns == 0 ? 2 : AHEAD_NS / (batch->mean_ns + 1) + 1;
    if (ahead > 2)
        ahead *= 2;
    if (ahead > AHEAD_SLOTS_MAX)
        ahead = batch->mean_ns > 50000 ? AHEAD_SLOTS_MAX : IN_FLIGHT_MAX; /* no-ops: keep the ring full */
    uint64_t limit = batch->slots + ahead * batch->slots;
    uint64_t most = IN_FLIGHT_MAX > batch->slots ? IN_FLIGHT_MAX : batch->slots;
    return limit < most ? limit : most;
}

/* The next instance of a step that may be placed, or PAWL_INSTANCE_NONE. */
static uint64_t next_instance(struct pawl_run *run, struct pawl_step *step)
{
    while (step->again_count > 0) {
        uint64_t n = step->again[--step->again_count];
        if (n < step->count && step->instances[n].state == PAWL_STEP_READY)
            return n;
    }
    uint64_t end = (step->plan->flags & PAWL_STEP_FED) != 0 && run->fed_durable < step->count
                       ? run->fed_durable
                       : step->count;
    while (step->next_fresh < end) {
        uint64_t n = step->next_fresh++;
        if (step->instances[n].state == PAWL_STEP_READY)
            return n;
    }
    return PAWL_INSTANCE_NONE;
}

static void put_back(struct pawl_core *core, struct pawl_step *step, uint64_t instance)
{
    if (pawl_grow((void **)&step->again, &step->again_capacity, step->again_count + 1, sizeof(uint64_t)) < 0)
        core->failed = true;
    else
        step->again[step->again_count++] = instance;
}

/* Return: 1 placed or done with, 0 the ring is full. */
static int place_instance(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step,
                          uint64_t instance)
{
    const void *task;
    size_t bytes;
    bool skip = false;
    char note[256] = "";
    int error = pawl_task_build(run, step, instance, &task, &bytes, &skip, note);
    if (error < 0) {
        pawl_flow_fail_instance(core, run, step, instance, PAWL_REASON_EXPRESSION, note);
        pawl_flow_check_end(core, run);
        return 1;
    }
    if (skip) {
        pawl_instance_set(run, step, &step->instances[instance], PAWL_STEP_SKIPPED, PAWL_REASON_WHEN);
        pawl_flow_instance_final(core, run, step, core->last_lsn);
        pawl_flow_check_end(core, run);
        return 1;
    }
    struct pawl_delivery *delivery = pawl_delivery_create(run, step, instance);
    if (!delivery) {
        core->failed = true;
        return 0;
    }
    delivery->placed_at_ns = core->now.boottime_ns;
    error = core->effects.place(core->ctx, delivery, task, bytes);
    if (error == 0)
        return 1;
    pawl_delivery_free(delivery);
    put_back(core, step, instance);
    return 0;
}

/* One step of the batch, the first in order that has room. Return: 1 go on, 0 nothing more may be placed. */
static int place_one(struct pawl_core *core, struct pawl_batch *batch)
{
    const struct pawl_ready_entry *top = pawl_ready_top(&batch->ready);
    if (!top)
        return 0;
    struct pawl_run *run = pawl_core_run(core, top->run);
    struct pawl_step *step = run && top->step < run->step_count ? &run->steps[top->step] : NULL;
    if (!step || run->batch != batch || step->state != PAWL_STEP_READY || run->draining) {
        if (step)
            step->queued = false;
        pawl_ready_pop(&batch->ready);
        return 1;
    }
    uint32_t limit = step->plan->max_parallel;
    uint64_t instance = PAWL_INSTANCE_NONE;
    bool may = !(run->stopped && !step->runs_anyway) && run->lsn_submitted <= core->durable_lsn;
    if (may && (limit == 0 || step->in_flight < limit))
        instance = next_instance(run, step);
    if (instance == PAWL_INSTANCE_NONE) {
        step->queued =
            false; /* queued again by a settlement, a timer, an item, or the submission's durability */
        pawl_ready_pop(&batch->ready);
        return 1;
    }
    return place_instance(core, run, step, instance);
}

static void dispatch_batch(struct pawl_core *core, struct pawl_batch *batch)
{
    uint64_t limit = in_flight_limit(core, batch);
    while (batch->in_flight < limit && !core->failed) {
        if (batch->delay_ns > 0) {
            if (!pawl_ready_top(&batch->ready) || batch->next_start_ns > core->now.boottime_ns)
                return;
            uint64_t before = batch->in_flight;
            if (!place_one(core, batch))
                return;
            if (batch->in_flight > before)
                batch->next_start_ns = core->now.boottime_ns + batch->delay_ns;
        } else if (!place_one(core, batch)) {
            return;
        }
    }
}

static void announce_completions(struct pawl_core *core)
{
    for (struct pawl_batch *batch = core->batches; batch; batch = batch->next)
        if (batch->completed_run) {
            struct pawl_run *run = pawl_core_run(core, batch->completed_run);
            batch->completed_run = 0;
            if (run && run->completions.count > run->completions.announced) {
                run->completions.announced = run->completions.count;
                pawl_core_later(core, core->last_lsn, run, PAWL_PENDING_COMPLETIONS, UINT32_MAX,
                                run->completions.count);
            }
        }
}

void pawl_core_dispatch(struct pawl_core *core, struct pawl_now now)
{
    core->now = now;
    journal_begins(core);
    announce_completions(core);
    if (!core->serving || core->failed || !core->need_dispatch || core->epoch_lsn > core->durable_lsn)
        return;
    core->need_dispatch = false;
    struct pawl_batch *next;
    for (struct pawl_batch *batch = core->batches; batch; batch = next) {
        next = batch->next;
        dispatch_batch(core, batch);
    }
}
