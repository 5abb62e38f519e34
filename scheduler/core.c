/*
 * core.c - the core as a whole: its life, what waits for the disk, time.
 *
 * Runs in: scheduler, simulator. Does no I/O, reads no clock.
 */
#include "scheduler/core_state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

enum { SCRATCH_BYTES_MAX = 1 << 30 };

void pawl_core_options_default(struct pawl_core_options *options)
{
    *options = (struct pawl_core_options){
        .instances_max = 10000000,
        .interruptions_max = 5,
        .output_bytes_max = UINT64_C(1) << 30,
        .value_bytes_max = 1 << 20,
        .items_window = 4096,
    };
}

int pawl_core_create(const struct pawl_core_options *options, const struct pawl_core_effects *effects,
                     void *ctx, struct pawl_core **core_out)
{
    struct pawl_core *core = calloc(1, sizeof *core);
    if (!core)
        return -ENOMEM;
    core->options = *options;
    core->effects = *effects;
    core->ctx = ctx;
    core->next_run = core->next_batch = 1;
    pawl_arena_init(&core->scratch, SCRATCH_BYTES_MAX);
    *core_out = core;
    return 0;
}

void pawl_core_destroy(struct pawl_core *core)
{
    if (!core)
        return;
    for (size_t i = 0; i < core->run_count; i++) {
        struct pawl_run *run = core->runs[i];
        while (run->deliveries)
            pawl_delivery_free(run->deliveries);
        pawl_run_free(run);
    }
    while (core->batches) {
        struct pawl_batch *batch = core->batches;
        core->batches = batch->next;
        pawl_ready_free(&batch->ready);
        free(batch->context_copy);
        free(batch);
    }
    pawl_timers_free(&core->timers);
    pawl_timers_free(&core->read_back);
    pawl_arena_fini(&core->scratch);
    free(core->runs);
    free(core->pending);
    free(core->unjournaled);
    free(core->work);
    free(core->pack);
    free(core->load_piece);
    free(core);
}

void pawl_core_log(struct pawl_core *core, int level, const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (core->effects.log)
        core->effects.log(core->ctx, level, text);
}

/* ---- what waits for its lsn ---- */

void pawl_core_later(struct pawl_core *core, uint64_t lsn, struct pawl_run *run, enum pawl_pending_kind kind,
                     uint32_t step, uint64_t value)
{
    if (core->pending_count == core->pending_capacity) {
        size_t capacity = core->pending_capacity ? core->pending_capacity * 2 : 64;
        struct pawl_pending *ring = malloc(capacity * sizeof *ring);
        if (!ring) {
            core->failed = true; /* a lost wait would hang a run for ever: stop accepting instead */
            return;
        }
        for (size_t i = 0; i < core->pending_count; i++)
            ring[i] = core->pending[(core->pending_first + i) % core->pending_capacity];
        free(core->pending);
        core->pending = ring;
        core->pending_first = 0;
        core->pending_capacity = capacity;
    }
    size_t at = (core->pending_first + core->pending_count++) % core->pending_capacity;
    core->pending[at] =
        (struct pawl_pending){.lsn = lsn, .run = run->number, .step = step, .kind = kind, .value = value};
    if (kind == PAWL_PENDING_STEP && lsn > core->step_ended_lsn)
        core->step_ended_lsn = lsn;
}

static void seal_or_free(struct pawl_core *core, struct pawl_run *run)
{
    /* An interrupted run stays in the journal: resume is replay. The others leave for their image. */
    if (run->state == PAWL_RUN_INTERRUPTED || run->sealing)
        return;
    run->sealing = true;
    core->sealing_count++;
    core->effects.seal(core->ctx, run);
}

static void on_durable(struct pawl_core *core, const struct pawl_pending *pending)
{
    struct pawl_run *run = pawl_core_run(core, pending->run);
    if (!run)
        return;
    switch ((enum pawl_pending_kind)pending->kind) {
    case PAWL_PENDING_STEP:
        if (pending->step < run->step_count)
            pawl_flow_step_durable(core, run, &run->steps[pending->step]);
        break;
    case PAWL_PENDING_COMPLETIONS:
        if (pending->value > run->completions.durable)
            run->completions.durable = pending->value;
        core->effects.changed(core->ctx, run);
        break;
    case PAWL_PENDING_ITEMS:
        pawl_items_durable(core, run, pending->value);
        core->effects.changed(core->ctx, run);
        break;
    case PAWL_PENDING_SUBMITTED:
        for (uint32_t i = 0; i < run->step_count; i++)
            if (run->steps[i].state == PAWL_STEP_READY)
                pawl_flow_queue(run, &run->steps[i]);
        core->effects.changed(core->ctx, run);
        break;
    case PAWL_PENDING_ENDED:
        if (!run->ending || run->lsn_ended != pending->lsn)
            break; /* it was resumed meanwhile */
        run->over = true;
        run->completions.durable = run->completions.count;
        pawl_batch_leave(core, run);
        core->effects.changed(core->ctx, run);
        seal_or_free(core, run);
        break;
    case PAWL_PENDING_SEALED:
        pawl_core_remove_run(core, run);
        pawl_run_free(run);
        break;
    }
}

void pawl_core_durable(struct pawl_core *core, struct pawl_now now, uint64_t lsn)
{
    core->now = now;
    core->durable_lsn = lsn;
    core->need_dispatch = true;
    while (core->pending_count > 0) {
        struct pawl_pending pending = core->pending[core->pending_first];
        if (pending.lsn > lsn)
            break;
        core->pending_first = (core->pending_first + 1) % core->pending_capacity;
        core->pending_count--;
        on_durable(core, &pending);
    }
}

void pawl_core_sealed(struct pawl_core *core, struct pawl_now now, struct pawl_run *run)
{
    core->now = now;
    struct pawl_run_ref_record record = {.run = run->number, .realtime_ns = now.realtime_ns};
    uint64_t lsn = pawl_apply_append(core, PAWL_RECORD_SEALED, &record, sizeof record, NULL, 0);
    core->sealing_count--;
    if (lsn)
        pawl_core_later(core, lsn, run, PAWL_PENDING_SEALED, UINT32_MAX, 0);
}

/* ---- start ---- */

void pawl_core_written(struct pawl_core *core, struct pawl_now written)
{
    core->written = written;
}

int pawl_core_timer_back(struct pawl_core *core, const struct pawl_timer *timer)
{
    struct pawl_timer turned = *timer;
    turned.due_ns = pawl_now_due(core->written, timer->due_ns, timer->delay_ns);
    return turned.due_ns ? pawl_timers_add(&core->timers, &turned) : pawl_timers_add(&core->read_back, timer);
}

static void turn_timers(struct pawl_core *core)
{
    for (size_t i = 0; i < core->read_back.count; i++) {
        struct pawl_timer timer = core->read_back.heap[i];
        timer.due_ns = pawl_now_due_later(core->now, timer.due_ns, timer.delay_ns);
        if (pawl_timers_add(&core->timers, &timer) < 0)
            core->failed = true;
    }
    pawl_timers_free(&core->read_back);
}

static void interrupt_unfinished(struct pawl_core *core)
{
    for (size_t i = 0; i < core->run_count; i++) {
        struct pawl_run *run = core->runs[i];
        if (run->state != PAWL_RUN_RUNNING)
            continue;
        struct pawl_run_state_record record = {
            .run = run->number, .realtime_ns = core->now.realtime_ns, .state = PAWL_RUN_INTERRUPTED};
        uint64_t since = run->resumed_at_ns;
        pawl_apply_append(core, PAWL_RECORD_RUN_STATE, &record, sizeof record, NULL, 0);
        /* Nobody knows when it stopped: time between then and now is not work. */
        if (record.realtime_ns > since)
            run->elapsed_before_ns -= record.realtime_ns - since;
    }
}

int pawl_core_start(struct pawl_core *core, struct pawl_now now, bool restarted, uint64_t *epoch_out,
                    uint64_t *epoch_lsn_out)
{
    core->now = now;
    core->replaying = false;
    turn_timers(core);
    for (size_t i = 0; i < core->run_count; i++)
        core->was_running |= core->runs[i]->state == PAWL_RUN_RUNNING;
    struct pawl_epoch_record record = {.epoch = core->epoch + 1, .realtime_ns = now.realtime_ns};
    core->epoch_lsn = pawl_apply_append(core, PAWL_RECORD_EPOCH, &record, sizeof record, NULL, 0);
    if (core->epoch_lsn == 0)
        return PAWL_E_SYNC_FAILED;
    if (!restarted)
        interrupt_unfinished(core);
    for (size_t i = 0; i < core->run_count; i++) {
        struct pawl_run *run = core->runs[i];
        run->completions.durable = run->completions.announced = run->completions.count;
        run->over = run->state != PAWL_RUN_RUNNING;
        run->awaited =
            restarted && run->state != PAWL_RUN_INTERRUPTED && (run->request.flags & PAWL_SUBMIT_DETACH) == 0;
    }
    *epoch_out = core->epoch;
    *epoch_lsn_out = core->epoch_lsn;
    return core->failed ? -ENOMEM : 0;
}

bool pawl_core_was_running(const struct pawl_core *core)
{
    return core->was_running;
}

static void fail_interrupted_too_often(struct pawl_core *core, struct pawl_run *run)
{
    for (uint32_t i = 0; i < run->step_count; i++) {
        struct pawl_step *step = &run->steps[i];
        for (uint64_t n = 0; step->states[PAWL_STEP_READY] > 0 && n < step->count; n++) {
            struct pawl_instance *instance = &step->instances[n];
            if (instance->state == PAWL_STEP_READY &&
                pawl_instance_interruptions(instance) > core->options.interruptions_max)
                pawl_flow_fail_instance(core, run, step, n, PAWL_REASON_INTERRUPTED,
                                        "interrupted too often: pawl itself went down while it ran");
        }
    }
}

void pawl_core_serve(struct pawl_core *core, struct pawl_now now)
{
    core->now = now;
    core->serving = true;
    core->was_running = false;
    for (size_t i = 0; i < core->run_count; i++) {
        struct pawl_run *run = core->runs[i];
        if (run->state == PAWL_RUN_RUNNING) {
            bool new_batch = false;
            if (!run->batch && !pawl_batch_get(core, run, 0, &new_batch)) {
                core->failed = true;
                return;
            }
            fail_interrupted_too_often(core, run);
            pawl_flow_derive(core, run);
        } else if (run->state == PAWL_RUN_INTERRUPTED) {
            pawl_flow_count_open(core, run);
        } else if (run->over && !run->sealing) {
            pawl_flow_count_ended(core, run);
            seal_or_free(core, run);
        }
    }
    core->need_dispatch = true;
}

/* ---- time ---- */

uint64_t pawl_core_tick(struct pawl_core *core, struct pawl_now now)
{
    struct pawl_timer timer;
    core->now = now;
    if (!core->serving)
        return UINT64_MAX;
    while (pawl_timers_take(&core->timers, now.boottime_ns, &timer)) {
        struct pawl_run *run = pawl_core_run(core, timer.run);
        if (!run || timer.step >= run->step_count)
            continue;
        struct pawl_step *step = &run->steps[timer.step];
        if (timer.instance >= step->count)
            continue;
        struct pawl_instance *instance = &step->instances[timer.instance];
        if (instance->state != PAWL_STEP_DELAYED || instance->attempt != timer.attempt)
            continue;
        pawl_instance_set(run, step, instance, PAWL_STEP_READY, instance->reason);
        if (pawl_grow((void **)&step->again, &step->again_capacity, step->again_count + 1, sizeof(uint64_t)) <
            0) {
            core->failed = true;
            return UINT64_MAX;
        }
        step->again[step->again_count++] = timer.instance;
        pawl_flow_queue(run, step);
        core->need_dispatch = true;
    }
    uint64_t next = pawl_timers_next(&core->timers);
    for (struct pawl_batch *batch = core->batches; batch; batch = batch->next)
        if (batch->delay_ns > 0 && batch->ready.count > 0 && batch->in_flight < batch->slots) {
            if (batch->next_start_ns <= now.boottime_ns)
                core->need_dispatch = true;
            else if (batch->next_start_ns < next)
                next = batch->next_start_ns;
        }
    return next;
}

bool pawl_core_wants_sample(const struct pawl_core *core)
{
    for (const struct pawl_batch *batch = core->batches; batch; batch = batch->next)
        if (batch->load_milli > 0 || batch->memfree_bytes > 0)
            return true;
    return false;
}

void pawl_core_sample(struct pawl_core *core, uint32_t load_milli, uint64_t available_bytes)
{
    core->load_milli = load_milli;
    core->available_bytes = available_bytes;
    core->sampled = true;
    core->need_dispatch = true;
}

bool pawl_core_idle(const struct pawl_core *core)
{
    return core->batches == NULL && core->sealing_count == 0 && core->pending_count == 0;
}

uint64_t pawl_core_step_ended_lsn(const struct pawl_core *core)
{
    return core->step_ended_lsn;
}

bool pawl_core_failed(const struct pawl_core *core)
{
    return core->failed;
}

struct pawl_run *pawl_core_find(struct pawl_core *core, const char *run_id)
{
    struct pawl_run *newest = NULL;
    bool last = strcmp(run_id, "last") == 0 || run_id[0] == '\0';
    for (size_t i = core->run_count; i > 0; i--) {
        struct pawl_run *run = core->runs[i - 1];
        if (run->leaving)
            continue;
        if (!last && strcmp(run->id, run_id) == 0)
            return run;
        if (last && (!newest || run->started_at_ns > newest->started_at_ns))
            newest = run;
    }
    return newest;
}

struct pawl_run *pawl_core_run_next(struct pawl_core *core, struct pawl_run *previous)
{
    for (size_t i = 0; i < core->run_count; i++)
        if (!previous || core->runs[i]->number > previous->number)
            if (!core->runs[i]->leaving)
                return core->runs[i];
    return NULL;
}

static bool pins(const struct pawl_run *run, uint32_t segment_number)
{
    for (size_t p = 0; p < run->pin_count; p++)
        if (run->pins[p] == segment_number)
            return true;
    return false;
}

void pawl_core_segment_moved(struct pawl_core *core, uint32_t from_segment, uint32_t to_segment)
{
    for (size_t i = 0; i < core->run_count; i++)
        if (pins(core->runs[i], from_segment) && pawl_run_pin(core->runs[i], (uint64_t)to_segment << 32) < 0)
            core->failed = true;
}

bool pawl_core_segment_pinned(const struct pawl_core *core, uint32_t segment_number)
{
    for (size_t i = 0; i < core->run_count; i++)
        if (pins(core->runs[i], segment_number))
            return true;
    return false;
}
