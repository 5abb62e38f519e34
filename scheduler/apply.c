/*
 * apply.c - one function that changes records into state, live and in recovery.
 *
 * Runs in: scheduler. Every handler is idempotent as far as a replay over a newer image demands it: a record
 * about an attempt that is already known changes nothing.
 */
#include "scheduler/core_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

static size_t padded(uint64_t bytes)
{
    return (size_t)((bytes + 7) & ~UINT64_C(7));
}

/* ---- runs ---- */

struct run_parts {
    const char *plan, *context, *file, *filter;
};

static int split_run(const struct pawl_run_record *record, const char *more, size_t n,
                     struct run_parts *parts)
{
    if (record->plan_bytes > n || record->context_bytes > n || record->request.file_bytes > n ||
        record->request.filter_bytes > n ||
        padded(record->plan_bytes) + padded(record->context_bytes) + record->request.file_bytes +
                record->request.filter_bytes >
            n)
        return PAWL_E_DAMAGED;
    parts->plan = more;
    parts->context = parts->plan + padded(record->plan_bytes);
    parts->file = parts->context + padded(record->context_bytes);
    parts->filter = parts->file + record->request.file_bytes;
    return 0;
}

static int set_context(struct pawl_run *run, const char *context, size_t bytes)
{
    char *copy = malloc(bytes ? bytes : 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, context, bytes);
    free(run->context);
    run->context = copy;
    run->context_bytes = bytes;
    return 0;
}

static int set_file(struct pawl_run *run, const char *file, size_t bytes)
{
    char *copy = strndup(file, bytes);
    if (!copy)
        return -ENOMEM;
    free(run->file);
    run->file = copy;
    return 0;
}

static int apply_run(struct pawl_core *core, const struct pawl_run_record *record, const char *more, size_t n,
                     uint64_t lsn)
{
    struct run_parts parts;
    int error = split_run(record, more, n, &parts);
    if (error < 0)
        return error;
    if (pawl_core_run(core, record->run))
        return 0; /* a snapshot has it */
    struct pawl_run *run;
    char id[PAWL_NAME_BYTES];
    memcpy(id, record->request.run_id, sizeof id);
    id[sizeof id - 1] = '\0';
    error = pawl_run_create(core, record->run, id, &run);
    if (error < 0)
        return error;
    run->request = record->request;
    run->batch_number = record->batch;
    run->started_at_ns = run->resumed_at_ns = record->realtime_ns;
    run->lsn_submitted = lsn;
    error = pawl_run_set_plan(run, parts.plan, record->plan_bytes);
    if (error == 0)
        error = set_context(run, parts.context, record->context_bytes);
    if (error == 0)
        error = set_file(run, parts.file, record->request.file_bytes);
    if (error == 0)
        error = pawl_core_insert_run(core, run);
    if (error < 0) {
        pawl_run_free(run);
        return error == -ENOMEM ? error : PAWL_E_DAMAGED;
    }
    if (record->batch >= core->next_batch)
        core->next_batch = record->batch + 1;
    return 0;
}

/* Does --filter (comma-separated exit=N, step=NAME, state=failed) choose this instance? */
static bool filter_chooses(const char *filter, size_t bytes, const char *step_name,
                           const struct pawl_instance *instance)
{
    size_t at = 0;
    while (at < bytes) {
        const char *comma = memchr(filter + at, ',', bytes - at);
        size_t end = comma ? (size_t)(comma - filter) : bytes;
        const char *term = filter + at;
        size_t length = end - at;
        if (length > 5 && memcmp(term, "exit=", 5) == 0) {
            char digits[16] = {0};
            memcpy(digits, term + 5, length - 5 < 15 ? length - 5 : 15);
            if (strtol(digits, NULL, 10) != instance->exit_code)
                return false;
        } else if (length > 5 && memcmp(term, "step=", 5) == 0) {
            if (strlen(step_name) != length - 5 || memcmp(step_name, term + 5, length - 5) != 0)
                return false;
        } else if (length > 6 && memcmp(term, "state=", 6) == 0) {
            const char *name = pawl_step_state_name(instance->state);
            if (strlen(name) != length - 6 || memcmp(name, term + 6, length - 6) != 0)
                return false;
        }
        at = end + 1;
    }
    return true;
}

/* Back to the start line: successes stay, everything else gets a fresh budget and is derived anew. */
static void reset_for_resume(struct pawl_run *run, const char *filter, size_t filter_bytes)
{
    for (uint32_t i = 0; i < run->step_count; i++) {
        struct pawl_step *step = &run->steps[i];
        const char *name = pawl_plan_step_name(run->plan, i);
        for (uint64_t n = 0; n < step->count; n++) {
            struct pawl_instance *instance = &step->instances[n];
            if (instance->state == PAWL_STEP_SUCCEEDED || instance->state == PAWL_STEP_CACHED)
                continue;
            if (filter_bytes > 0 && instance->state == PAWL_STEP_FAILED &&
                !filter_chooses(filter, filter_bytes, name, instance))
                continue;
            instance->failures = 0;
            pawl_instance_set_interruptions(instance, 0);
            instance->flags &= (uint8_t)~PAWL_INSTANCE_ADOPTED;
            pawl_instance_set(run, step, instance, PAWL_STEP_WAITING, PAWL_REASON_NONE);
        }
        uint32_t reason = step->reason == PAWL_REASON_DEFINITION ? step->reason : PAWL_REASON_NONE;
        pawl_step_set(run, step, PAWL_STEP_WAITING, reason);
        step->next_fresh = 0;
        step->again_count = 0;
        step->note[0] = '\0';
        pawl_step_drop_values(step);
    }
}

static int apply_resume(struct pawl_core *core, const struct pawl_run_record *record, const char *more,
                        size_t n, uint64_t lsn)
{
    struct run_parts parts;
    struct pawl_run *run = pawl_core_run(core, record->run);
    int error = split_run(record, more, n, &parts);
    if (error < 0 || !run)
        return error < 0 ? error : 0; /* its image came later, and has been sealed again */
    if (run->lsn_submitted >= lsn)
        return 0; /* a snapshot has it */
    if (record->plan_bytes > 0)
        error = pawl_run_set_plan(run, parts.plan, record->plan_bytes);
    if (error == 0 && record->context_bytes > 0)
        error = set_context(run, parts.context, record->context_bytes);
    if (error == 0 && record->request.file_bytes > 0)
        error = set_file(run, parts.file, record->request.file_bytes);
    if (error < 0)
        return error == -ENOMEM ? error : PAWL_E_DAMAGED;
    uint64_t identity = run->request.identity;
    char workflow[PAWL_NAME_BYTES];
    memcpy(workflow, run->request.workflow, sizeof workflow);
    uint32_t map = run->request.flags & PAWL_SUBMIT_MAP;
    run->request = record->request;
    run->request.flags |= map;
    if (record->plan_bytes == 0) {
        run->request.identity = identity;
        memcpy(run->request.workflow, workflow, sizeof workflow);
    }
    memcpy(run->request.run_id, run->id, sizeof run->id);
    run->batch_number = record->batch;
    if (record->batch >= core->next_batch)
        core->next_batch = record->batch + 1;
    run->state = PAWL_RUN_RUNNING;
    run->over = run->ending = run->stopped = run->sealing = false;
    run->draining = 0;
    run->failed_count = 0;
    run->finished_at_ns = 0;
    run->resumed_at_ns = record->realtime_ns;
    run->lsn_submitted = lsn;
    reset_for_resume(run, parts.filter, record->request.filter_bytes);
    if (run->fed) {
        bool fed_again = (record->request.flags & PAWL_SUBMIT_SAME_PLAN) == 0;
        run->matching = fed_again;
        run->fed_all = !fed_again;
        if (fed_again) {
            run->fed_count = 0;
            free(run->match_table); /* of an earlier resume: its claims do not count any more */
            run->match_table = NULL;
            run->match_slots = 0;
            for (uint64_t i = 0; i < run->steps[0].count; i++)
                if (run->steps[0].instances[i].state != PAWL_STEP_SUCCEEDED)
                    run->steps[0].instances[i].flags |= PAWL_INSTANCE_UNFED;
        }
    }
    return 0;
}

static int apply_reopen(struct pawl_core *core, const struct pawl_reopen_record *record, const char *more,
                        size_t more_bytes)
{
    uint64_t image = 0;
    if (pawl_core_run(core, record->run))
        return 0;
    struct pawl_run *run = core->fetched;
    char id[PAWL_NAME_BYTES];
    memcpy(id, record->run_id, sizeof id);
    id[sizeof id - 1] = '\0';
    core->fetched = NULL;
    int error = run ? 0 : pawl_image_fetch(core, id, false, &run);
    if ((error == -ENOENT || error == PAWL_E_NOT_FOUND) && core->replaying)
        return 0; /* removed by hand or by gc after it was sealed again: nothing of it is open */
    if (error < 0)
        return error;
    run->number = record->run;
    if (more_bytes >= sizeof image)
        memcpy(&image, more, sizeof image);
    /* Sealed again, and the scheduler died before it could say so. */
    run->superseded = core->replaying && image != 0 && image != run->base_image;
    error = pawl_core_insert_run(core, run);
    if (error < 0)
        pawl_run_free(run);
    return error;
}

static int apply_run_state(struct pawl_core *core, const struct pawl_run_state_record *record, uint64_t lsn)
{
    struct pawl_run *run = pawl_core_run(core, record->run);
    if (!run || run->lsn_submitted > lsn)
        return 0;
    if (record->state > PAWL_RUN_INTERRUPTED)
        return PAWL_E_DAMAGED;
    pawl_flow_finish_marks(run, record->state);
    run->state = record->state;
    run->ending = true;
    run->lsn_ended = lsn;
    run->finished_at_ns = record->realtime_ns;
    if (record->realtime_ns > run->resumed_at_ns)
        run->elapsed_before_ns += record->realtime_ns - run->resumed_at_ns;
    run->resumed_at_ns = record->realtime_ns;
    return 0;
}

/* ---- steps ---- */

static struct pawl_run *find_instance(struct pawl_core *core, uint64_t number, uint32_t step_index,
                                      uint64_t instance, struct pawl_step **step_out, int *error_out)
{
    struct pawl_run *run = pawl_core_run(core, number);
    *error_out = 0;
    if (!run)
        return NULL;
    if (step_index >= run->step_count) {
        *error_out = PAWL_E_DAMAGED;
        return NULL;
    }
    struct pawl_step *step = &run->steps[step_index];
    *step_out = step;
    if (instance == PAWL_INSTANCE_NONE)
        return run;
    /* What was accepted under a higher limit stays what it is. */
    if ((instance >= core->options.instances_max && instance >= PAWL_RUN_INSTANCES_MAX) ||
        (!step->many && instance > 0)) {
        *error_out = PAWL_E_DAMAGED;
        return NULL;
    }
    if (instance >= step->count && step->many && !step->expanded)
        *error_out = pawl_step_expand(run, step, instance + 1);
    else if (instance >= step->count)
        *error_out = PAWL_E_DAMAGED;
    return *error_out < 0 ? NULL : run;
}

static int apply_claim(struct pawl_core *core, const struct pawl_claim_record *record)
{
    struct pawl_step *step;
    int error;
    struct pawl_run *run = find_instance(core, record->run, record->step, record->instance, &step, &error);
    if (!run)
        return error;
    struct pawl_instance *instance = &step->instances[record->instance];
    bool adopted = (record->flags & PAWL_CLAIM_ADOPTED) != 0;
    if (pawl_instance_has_ended(instance, record->attempt) || instance->attempt > record->attempt ||
        (instance->attempt == record->attempt && !adopted))
        return 0;
    pawl_step_open_again(run, step, instance);
    uint32_t interruptions = pawl_instance_interruptions(instance);
    if (adopted && instance->attempt == record->attempt && interruptions > 0)
        pawl_instance_set_interruptions(instance, interruptions - 1);
    if (instance->attempt != record->attempt)
        run->attempts++;
    instance->attempt = (uint16_t)record->attempt;
    instance->worker = (uint16_t)record->worker;
    instance->started_at_ns = record->started_at_ns;
    pawl_instance_set(run, step, instance, PAWL_STEP_RUNNING, PAWL_REASON_NONE);
    return 0;
}

static int note_completion(struct pawl_run *run, uint64_t instance)
{
    struct pawl_completions *done = &run->completions;
    int error =
        pawl_grow((void **)&done->instances, &done->capacity, done->count + 1, sizeof *done->instances);
    if (error < 0)
        return error;
    done->instances[done->count++] = instance;
    return 0;
}

static int apply_delay(struct pawl_core *core, const struct pawl_step_record *record, const char *more,
                       size_t n)
{
    struct pawl_due due;
    if (n < sizeof due)
        return PAWL_E_DAMAGED;
    memcpy(&due, more, sizeof due);
    struct pawl_timer timer = {.delay_ns = due.delay_ns,
                               .run = record->run,
                               .instance = record->instance,
                               .step = record->step,
                               .attempt = record->attempt};
    timer.due_ns = core->replaying ? due.due_realtime_ns : core->now.boottime_ns + due.delay_ns;
    return core->replaying ? pawl_core_timer_back(core, &timer) : pawl_timers_add(&core->timers, &timer);
}

static void copy_note(struct pawl_step *step, const struct pawl_step_record *record, const char *more,
                      size_t n)
{
    size_t skip = record->stdout_bytes, bytes = record->stderr_bytes;
    if (skip > n || bytes > n - skip)
        return;
    if (bytes >= sizeof step->note)
        bytes = sizeof step->note - 1;
    memcpy(step->note, more + skip, bytes);
    step->note[bytes] = '\0';
}

static int apply_step(struct pawl_core *core, const struct pawl_step_record *record, const char *more,
                      size_t n, uint64_t place)
{
    struct pawl_step *step;
    int error;
    struct pawl_run *run = find_instance(core, record->run, record->step, record->instance, &step, &error);
    if (!run)
        return error;
    if (record->state >= PAWL_STEP_STATES)
        return PAWL_E_DAMAGED;
    if (record->instance == PAWL_INSTANCE_NONE) {
        copy_note(step, record, more, n);
        if (!pawl_step_state_is_final(step->state))
            pawl_step_set(run, step, record->state, record->reason);
        return 0;
    }
    struct pawl_instance *instance = &step->instances[record->instance];
    bool known = instance->attempt > record->attempt || pawl_instance_has_ended(instance, record->attempt) ||
                 (instance->attempt == record->attempt && instance->place == place && place != 0);
    if (known)
        return 0;
    pawl_step_open_again(run, step, instance);
    if (instance->attempt != record->attempt)
        run->attempts++; /* its CLAIM was left out: the result came in the same batch */
    instance->attempt = (uint16_t)record->attempt;
    instance->failures = record->failures;
    instance->exit_code = (int16_t)record->exit_code;
    instance->worker = record->worker;
    instance->outcome = record->outcome & 7;
    instance->started_at_ns = record->started_at_ns;
    uint64_t us = record->duration_ns / 1000;
    instance->duration_us = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
    run->busy_ns += record->duration_ns;
    bool output = record->stdout_bytes + record->stderr_bytes + record->named_bytes > 0;
    instance->flags &= (uint8_t) ~(PAWL_INSTANCE_OUTPUT | PAWL_INSTANCE_ADOPTED);
    if (output)
        instance->flags |= PAWL_INSTANCE_OUTPUT;
    /* A lone success without output is told from the instance alone: its record may go. */
    bool keep = output || record->previous != 0 || record->state != PAWL_STEP_SUCCEEDED;
    instance->place = keep ? place : 0;
    if (keep)
        error = pawl_run_pin(run, place);
    pawl_instance_set(run, step, instance, record->state, record->reason);
    if (record->state == PAWL_STEP_DELAYED || (record->state == PAWL_STEP_READY && record->failures > 0))
        run->retries++;
    if (error == 0 && record->state == PAWL_STEP_DELAYED)
        error = apply_delay(core, record, more, n);
    if (pawl_step_state_is_final(record->state) && run->fed) {
        pawl_items_final(run, record->instance);
        if (error == 0)
            error = note_completion(run, record->instance);
    }
    return error;
}

/* Whatever ran when the scheduler died was interrupted: no failure, but counted. */
static void apply_epoch(struct pawl_core *core, const struct pawl_epoch_record *record)
{
    if (record->epoch > core->epoch)
        core->epoch = record->epoch;
    for (size_t r = 0; r < core->run_count; r++) {
        struct pawl_run *run = core->runs[r];
        for (uint32_t i = 0; i < run->step_count; i++) {
            struct pawl_step *step = &run->steps[i];
            for (uint64_t n = 0; step->states[PAWL_STEP_RUNNING] > 0 && n < step->count; n++) {
                struct pawl_instance *instance = &step->instances[n];
                if (instance->state != PAWL_STEP_RUNNING)
                    continue;
                pawl_instance_set_interruptions(instance, pawl_instance_interruptions(instance) + 1);
                instance->flags &= (uint8_t)~PAWL_INSTANCE_ADOPTED; /* a snapshot may have kept it */
                pawl_instance_set(run, step, instance, PAWL_STEP_READY, PAWL_REASON_INTERRUPTED);
            }
        }
    }
}

static int apply_items_end(struct pawl_core *core, const struct pawl_run_ref_record *record)
{
    struct pawl_run *run = pawl_core_run(core, record->run);
    if (!run || !run->fed)
        return 0;
    run->fed_all = true;
    struct pawl_step *step = &run->steps[0];
    for (uint64_t n = 0; run->matching && n < step->count; n++) {
        struct pawl_instance *instance = &step->instances[n];
        if ((instance->flags & PAWL_INSTANCE_UNFED) != 0 && !pawl_step_state_is_final(instance->state)) {
            pawl_instance_set(run, step, instance, PAWL_STEP_CANCELLED, PAWL_REASON_STOPPED);
            pawl_items_final(run, n);
        }
    }
    return 0;
}

/* A run's end is durable before its image is written: the image holds all that the records before it say, and
 * they lead to places in the image that it replaced. */
static bool is_superseded(struct pawl_core *core, uint8_t type, const void *fixed)
{
    uint64_t number;
    if (!core->replaying || type == PAWL_RECORD_EPOCH || type == PAWL_RECORD_REOPEN ||
        type == PAWL_RECORD_SEALED)
        return false;
    memcpy(&number, fixed, sizeof number); /* each of the others begins with its run */
    const struct pawl_run *run = pawl_core_run(core, number);
    return run && run->superseded;
}

int pawl_apply_parts(struct pawl_core *core, uint8_t type, const void *fixed, const void *more,
                     size_t more_bytes, uint64_t lsn, uint64_t place)
{
    if (is_superseded(core, type, fixed))
        return 0;
    switch ((enum pawl_record_type)type) {
    case PAWL_RECORD_EPOCH:
        apply_epoch(core, fixed);
        return 0;
    case PAWL_RECORD_RUN:
        return apply_run(core, fixed, more, more_bytes, lsn);
    case PAWL_RECORD_RESUME:
        return apply_resume(core, fixed, more, more_bytes, lsn);
    case PAWL_RECORD_REOPEN:
        return apply_reopen(core, fixed, more, more_bytes);
    case PAWL_RECORD_ITEMS:
        return pawl_items_apply(core, fixed, more, more_bytes, place);
    case PAWL_RECORD_ITEMS_END:
        return apply_items_end(core, fixed);
    case PAWL_RECORD_CLAIM:
        return apply_claim(core, fixed);
    case PAWL_RECORD_STEP:
        return apply_step(core, fixed, more, more_bytes, place);
    case PAWL_RECORD_RUN_STATE:
        return apply_run_state(core, fixed, lsn);
    case PAWL_RECORD_SEALED: {
        const struct pawl_run_ref_record *record = fixed;
        struct pawl_run *run = pawl_core_run(core, record->run);
        if (run && core->replaying) {
            pawl_core_remove_run(core, run);
            pawl_run_free(run);
        } else if (run) {
            run->leaving = true; /* freed when this is durable */
        }
        return 0;
    }
    case PAWL_RECORD_STEP_STATE:
        break;
    }
    return PAWL_E_BAD_FORMAT;
}

static size_t fixed_bytes_of(uint8_t type)
{
    switch ((enum pawl_record_type)type) {
    case PAWL_RECORD_EPOCH:
        return sizeof(struct pawl_epoch_record);
    case PAWL_RECORD_RUN:
    case PAWL_RECORD_RESUME:
        return sizeof(struct pawl_run_record);
    case PAWL_RECORD_REOPEN:
        return sizeof(struct pawl_reopen_record);
    case PAWL_RECORD_ITEMS:
        return sizeof(struct pawl_items_record);
    case PAWL_RECORD_ITEMS_END:
    case PAWL_RECORD_SEALED:
        return sizeof(struct pawl_run_ref_record);
    case PAWL_RECORD_CLAIM:
        return sizeof(struct pawl_claim_record);
    case PAWL_RECORD_STEP:
        return sizeof(struct pawl_step_record);
    case PAWL_RECORD_RUN_STATE:
        return sizeof(struct pawl_run_state_record);
    case PAWL_RECORD_STEP_STATE:
        break;
    }
    return 0;
}

int pawl_core_apply(struct pawl_core *core, uint8_t type, uint16_t version, const void *body, size_t bytes,
                    uint64_t lsn, uint64_t place)
{
    union {
        struct pawl_run_record run;
        struct pawl_step_record step;
        struct pawl_reopen_record reopen;
    } fixed;
    size_t fixed_bytes = fixed_bytes_of(type);
    if (fixed_bytes == 0 || version != PAWL_CORE_RECORD_VERSION)
        return PAWL_E_BAD_FORMAT;
    if (bytes < fixed_bytes)
        return PAWL_E_DAMAGED;
    memcpy(&fixed, body, fixed_bytes);
    core->replaying = true;
    core->last_lsn = lsn;
    return pawl_apply_parts(core, type, &fixed, (const char *)body + fixed_bytes, bytes - fixed_bytes, lsn,
                            place);
}

uint64_t pawl_apply_append(struct pawl_core *core, uint8_t type, const void *fixed, size_t fixed_bytes,
                           const struct iovec *more, int more_count)
{
    struct iovec body[8] = {{.iov_base = (void *)(uintptr_t)fixed, .iov_len = fixed_bytes}};
    assert(more_count < 8);
    size_t more_bytes = 0;
    for (int i = 0; i < more_count; i++) {
        body[i + 1] = more[i];
        more_bytes += more[i].iov_len;
    }
    uint64_t place = 0;
    uint64_t lsn = core->failed ? 0 : core->effects.append(core->ctx, type, body, more_count + 1, &place);
    if (lsn == 0) {
        core->failed = true;
        return 0;
    }
    core->last_lsn = lsn;
    /* The parts are contiguous for every record whose rest apply() reads in more than one piece. */
    char *joined = NULL;
    const void *rest = more_count > 0 ? more[0].iov_base : NULL;
    if (more_count > 1) {
        joined = malloc(more_bytes ? more_bytes : 1);
        if (!joined) {
            core->failed = true;
            return 0;
        }
        size_t at = 0;
        for (int i = 0; i < more_count; i++) {
            if (more[i].iov_len > 0)
                memcpy(joined + at, more[i].iov_base, more[i].iov_len);
            at += more[i].iov_len;
        }
        rest = joined;
    }
    int error = pawl_apply_parts(core, type, fixed, rest, more_bytes, lsn, place);
    free(joined);
    if (error < 0) {
        pawl_core_log(core, 3, "record of type %u could not be applied: error %d", type, error);
        core->failed = true;
        return 0;
    }
    return lsn;
}
