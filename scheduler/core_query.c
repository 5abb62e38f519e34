/*
 * core_query.c - what a run has to tell: summaries, steps, and why.
 *
 * Runs in: scheduler, and readers of images. Changes nothing.
 */
#include "scheduler/core_state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

/* ---- names ---- */

const char *pawl_run_state_name(enum pawl_run_state state)
{
    static const char *const names[] = {"running", "waiting",   "succeeded",
                                        "failed",  "cancelled", "interrupted"};
    return (unsigned)state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

const char *pawl_step_state_name(enum pawl_step_state state)
{
    static const char *const names[] = {"waiting", "ready",   "running",   "delayed", "succeeded",
                                        "failed",  "skipped", "cancelled", "cached"};
    return (unsigned)state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

const char *pawl_reason_name(enum pawl_reason reason)
{
    static const char *const names[] = {
        "",        "exit",        "signal",      "timeout",     "spawn",      "output",
        "capture", "worker-lost", "interrupted", "bad-output",  "expression", "when",
        "needs",   "stopped",     "cancelled",   "output-lost", "definition"};
    return (unsigned)reason < sizeof names / sizeof names[0] ? names[reason] : "unknown";
}

/* ---- runs ---- */

const char *pawl_run_id(const struct pawl_run *run)
{
    return run->id;
}

struct pawl_batch *pawl_run_batch(const struct pawl_run *run)
{
    return run->batch;
}

bool pawl_run_durable(const struct pawl_run *run)
{
    return run->lsn_submitted <= run->core->durable_lsn;
}

bool pawl_run_over(const struct pawl_run *run)
{
    return run->over;
}

const void *pawl_run_plan(const struct pawl_run *run, size_t *bytes_out)
{
    return pawl_plan_blob(run->plan, bytes_out);
}

uint64_t pawl_run_completions(const struct pawl_run *run)
{
    return run->completions.durable;
}

void pawl_run_completion(const struct pawl_run *run, uint64_t number, uint32_t *step_out,
                         uint64_t *instance_out)
{
    assert(number < run->completions.count);
    *step_out = 0;
    *instance_out = run->completions.instances[number];
}

struct pawl_delivery *pawl_run_delivery_next(const struct pawl_run *run, const struct pawl_delivery *previous)
{
    return previous ? previous->next : run->deliveries;
}

int pawl_run_step_index(const struct pawl_run *run, const char *name)
{
    uint32_t index = pawl_plan_find_step(run->plan, name, strlen(name));
    return index == PAWL_PLAN_NONE ? PAWL_E_NOT_FOUND : (int)index;
}

void pawl_run_summary(const struct pawl_core *core, const struct pawl_run *run, struct pawl_now now,
                      struct pawl_wire_summary *s)
{
    (void)core;
    memset(s, 0, sizeof *s);
    memcpy(s->run_id, run->id, sizeof s->run_id);
    memcpy(s->workflow, run->request.workflow, sizeof s->workflow);
    s->workflow[sizeof s->workflow - 1] = '\0';
    s->state = run->state;
    s->slots = run->request.slots;
    uint64_t begun = 0; /* those whose CLAIM is not written yet are still READY in the counters */
    for (const struct pawl_delivery *d = run->deliveries; d; d = d->next)
        begun += d->begun;
    uint64_t shown = run->states[PAWL_STEP_RUNNING];
    uint64_t more = begun > shown ? begun - shown : 0;
    if (more > run->states[PAWL_STEP_READY])
        more = run->states[PAWL_STEP_READY];
    s->waiting = run->states[PAWL_STEP_WAITING];
    s->ready = run->states[PAWL_STEP_READY] - more;
    s->running = shown + more;
    s->delayed = run->states[PAWL_STEP_DELAYED];
    s->succeeded = run->states[PAWL_STEP_SUCCEEDED];
    s->failed = run->states[PAWL_STEP_FAILED];
    s->skipped = run->states[PAWL_STEP_SKIPPED];
    s->cancelled = run->states[PAWL_STEP_CANCELLED];
    s->cached = run->states[PAWL_STEP_CACHED];
    for (int i = 0; i < PAWL_STEP_STATES; i++)
        s->total += run->states[i];
    s->attempts = run->attempts;
    s->retries = run->retries;
    s->started_at_ns = run->started_at_ns;
    s->finished_at_ns = run->state == PAWL_RUN_RUNNING ? 0 : run->finished_at_ns;
    s->elapsed_ns = run->elapsed_before_ns;
    if (run->state == PAWL_RUN_RUNNING && now.realtime_ns > run->resumed_at_ns)
        s->elapsed_ns += now.realtime_ns - run->resumed_at_ns;
    s->completions = run->completions.durable;
    s->identity = run->request.identity;
    s->open_ended = run->fed && !run->fed_all && run->state == PAWL_RUN_RUNNING;
    s->busy_ns = run->busy_ns;
}

/* ---- steps ---- */

static void describe_reason(const struct pawl_run *run, const struct pawl_step *step,
                            const struct pawl_instance *instance, char *text, size_t bytes)
{
    uint32_t reason = instance ? instance->reason : step->reason;
    text[0] = '\0';
    switch ((enum pawl_reason)reason) {
    case PAWL_REASON_EXIT:
        if (instance)
            snprintf(text, bytes, "exit %d", instance->exit_code);
        else
            snprintf(text, bytes, "%llu of %llu instances failed",
                     (unsigned long long)step->states[PAWL_STEP_FAILED], (unsigned long long)step->count);
        return;
    case PAWL_REASON_SIGNAL:
        snprintf(text, bytes, "signal %d", instance ? instance->exit_code : 0);
        return;
    case PAWL_REASON_SPAWN:
        snprintf(text, bytes, "could not start: %s", instance ? strerror(instance->exit_code) : "");
        return;
    case PAWL_REASON_EXPRESSION:
        snprintf(text, bytes, "%s%s", step->note[0] ? "expression: " : "expression", step->note);
        return;
    case PAWL_REASON_NEEDS: {
        const uint32_t *needs = pawl_plan_needs(run->plan, step->plan);
        for (uint32_t n = 0; n < step->plan->needs.count; n++) {
            uint32_t state = run->steps[needs[n]].state;
            if (state == PAWL_STEP_FAILED || state == PAWL_STEP_CANCELLED || state == PAWL_STEP_SKIPPED) {
                snprintf(text, bytes, "needs: %s %s", pawl_plan_step_name(run->plan, needs[n]),
                         pawl_step_state_name(state));
                return;
            }
        }
        break;
    }
    case PAWL_REASON_NONE:
    case PAWL_REASON_TIMEOUT:
    case PAWL_REASON_OUTPUT:
    case PAWL_REASON_CAPTURE:
    case PAWL_REASON_WORKER_LOST:
    case PAWL_REASON_INTERRUPTED:
    case PAWL_REASON_BAD_OUTPUT:
    case PAWL_REASON_WHEN:
    case PAWL_REASON_STOPPED:
    case PAWL_REASON_CANCELLED:
    case PAWL_REASON_OUTPUT_LOST:
    case PAWL_REASON_DEFINITION:
        break;
    }
    snprintf(text, bytes, "%s", pawl_reason_name(reason));
}

static const struct pawl_delivery *begun_delivery(const struct pawl_run *run, uint32_t step,
                                                  uint64_t instance)
{
    for (const struct pawl_delivery *d = run->deliveries; d; d = d->next)
        if (d->begun && d->step == step && d->instance == instance)
            return d;
    return NULL;
}

/* Texts of items live in the run's scratch until the next view. */
static void view_item(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step, uint64_t number,
                      struct pawl_step_view *view)
{
    struct pawl_value value;
    const char *text;
    size_t length;
    bool known = (step->plan->flags & PAWL_STEP_FED) != 0 || step->items.count > number || step->axes;
    if (known && pawl_flow_item(run, step, number, &core->scratch, &value) == 0 &&
        pawl_value_to_text(&value, 64 << 10, true, &core->scratch, &text, &length) == 0) {
        view->item = text;
        view->fixed.item_bytes = (uint32_t)length;
        view->fixed.has_item = 1;
    } else if (run->item_texts && step->item_offsets && number < step->item_count) {
        view->item = run->item_texts + step->item_offsets[number];
        view->fixed.item_bytes = (uint32_t)(step->item_offsets[number + 1] - step->item_offsets[number]);
        view->fixed.has_item = 1;
    }
}

static void view_step(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step, uint64_t number,
                      struct pawl_step_view *view)
{
    *view = (struct pawl_step_view){.name = pawl_plan_step_name(run->plan, step->index), .item = ""};
    struct pawl_wire_step *fixed = &view->fixed;
    const struct pawl_instance *instance = number < step->count ? &step->instances[number] : NULL;
    fixed->step = step->index;
    fixed->name_bytes = (uint32_t)strlen(view->name);
    fixed->fan_out = step->many && instance;
    fixed->state = step->state;
    pawl_arena_reset(&core->scratch);
    if (instance) {
        fixed->instance = number;
        fixed->state = instance->state;
        fixed->attempts = instance->attempt;
        fixed->failures = instance->failures;
        fixed->exit_code = instance->exit_code;
        fixed->outcome = instance->outcome;
        fixed->started_at_ns = instance->started_at_ns;
        fixed->duration_ns = (uint64_t)instance->duration_us * 1000;
        fixed->worker = instance->worker;
        if (step->many)
            view_item(core, run, step, number, view);
        const struct pawl_delivery *d =
            pawl_step_state_is_final(instance->state) ? NULL : begun_delivery(run, step->index, number);
        if (d) {
            fixed->state = PAWL_STEP_RUNNING;
            fixed->attempts = d->attempt;
            fixed->started_at_ns = d->started_at_ns;
            fixed->worker = d->worker;
        }
    }
    describe_reason(run, step, instance, view->reason, sizeof view->reason);
    fixed->reason_bytes = (uint32_t)strlen(view->reason);
}

int pawl_run_step_next(struct pawl_core *core, struct pawl_run *run, uint64_t *cursor, uint32_t state_mask,
                       struct pawl_step_view *view_out)
{
    /* step:24 | instance:40 of the next to look at */
    uint32_t index = (uint32_t)(*cursor >> 40);
    uint64_t number = *cursor & ((UINT64_C(1) << 40) - 1);
    for (; index < run->step_count; index++, number = 0) {
        struct pawl_step *step = &run->steps[index];
        if (step->count == 0 && number == 0) {
            if (step->expanded && step->many)
                continue; /* it had no elements: nothing to tell */
            if (state_mask && !(state_mask & (1u << step->state)))
                continue;
            view_step(core, run, step, UINT64_MAX, view_out);
            *cursor = (uint64_t)index << 40 | 1;
            return 1;
        }
        for (; number < step->count; number++) {
            uint32_t state = step->instances[number].state;
            bool maybe_running = state == PAWL_STEP_READY && run->deliveries != NULL;
            if (state_mask && !(state_mask & (1u << state)) && !maybe_running)
                continue;
            view_step(core, run, step, number, view_out);
            if (state_mask && !(state_mask & (1u << view_out->fixed.state)))
                continue;
            *cursor = (uint64_t)index << 40 | (number + 1);
            return 1;
        }
    }
    return 0;
}

/* ---- why ---- */

struct text {
    char *at;
    size_t left;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int n = vsnprintf(text->at, text->left, format, list);
    va_end(list);
    if (n < 0 || (size_t)n >= text->left)
        n = (int)(text->left ? text->left - 1 : 0);
    text->at += n;
    text->left -= (size_t)n;
}

static void why_waiting(const struct pawl_run *run, const struct pawl_step *step, struct text *text)
{
    const uint32_t *needs = pawl_plan_needs(run->plan, step->plan);
    uint32_t named = 0;
    for (uint32_t n = 0; n < step->plan->needs.count; n++) {
        const struct pawl_step *need = &run->steps[needs[n]];
        if (!pawl_step_state_is_final(need->state)) {
            uint64_t done = need->states[PAWL_STEP_SUCCEEDED];
            add(text, "%s%s", named++ ? ", " : "It waits for ", pawl_plan_step_name(run->plan, needs[n]));
            if (need->many && need->expanded)
                add(text, " (%llu of %llu done)", (unsigned long long)done, (unsigned long long)need->count);
        }
    }
    if (named)
        add(text, ".\n");
    else if (run->state == PAWL_RUN_INTERRUPTED)
        add(text, "Its run was interrupted; `pawl resume %s` goes on.\n", run->id);
    else
        add(text, "It waits for the run to begin.\n");
}

static const char *how_it_ended(const struct pawl_wire_result *result, char *text, size_t bytes)
{
    switch ((enum pawl_outcome)result->outcome) {
    case PAWL_OUTCOME_EXITED:
        if (result->exit_code == 0)
            return result->state == PAWL_STEP_SUCCEEDED ? "succeeded" : "bad output";
        snprintf(text, bytes, "exit %d", result->exit_code);
        break;
    case PAWL_OUTCOME_SIGNALED:
        snprintf(text, bytes, "signal %d", result->exit_code);
        break;
    case PAWL_OUTCOME_TIMED_OUT:
        return "timeout";
    case PAWL_OUTCOME_SPAWN_FAILED:
        snprintf(text, bytes, "could not start: %s", strerror(result->exit_code));
        break;
    case PAWL_OUTCOME_OUTPUT_LIMIT:
        return "too much output";
    case PAWL_OUTCOME_KILLED:
        return "stopped";
    case PAWL_OUTCOME_CAPTURE:
        return "its output could not be stored";
    case PAWL_OUTCOME_WORKER_LOST:
        return "the worker that ran it died";
    }
    return text;
}

/* Of an attempt that does not run. What the newest one of an instance came to is told from its record: the
 * instance has only its beginning when pawl itself went down meanwhile. PAWL_E_NOT_FOUND: it did. */
static int ended_attempt(struct pawl_core *core, struct pawl_run *run, const struct pawl_step *step,
                         uint64_t number, uint32_t attempt, struct pawl_result_view *view_out)
{
    const struct pawl_instance *instance = &step->instances[number];
    bool newest = attempt == instance->attempt;
    bool had_succeeded =
        instance->reason == PAWL_REASON_DEFINITION || instance->reason == PAWL_REASON_OUTPUT_LOST;
    if (newest && instance->place == 0 && !had_succeeded)
        return PAWL_E_NOT_FOUND;
    int error = pawl_run_result(core, run, step->index, number, attempt, newest, view_out);
    free(view_out->bytes);
    view_out->bytes = NULL;
    if (error == 0 && newest && had_succeeded)
        view_out->fixed.state = PAWL_STEP_SUCCEEDED;
    return error;
}

/* What holds a batch's starts back, beyond its slots (in_flight_limit() in dispatch.c). */
static void why_ready(const struct pawl_core *core, const struct pawl_run *run, const struct pawl_step *step,
                      struct pawl_now now, struct text *text)
{
    const struct pawl_batch *batch = run->batch;
    bool samples = batch && (batch->load_milli > 0 || batch->memfree_bytes > 0);
    if (run->state == PAWL_RUN_INTERRUPTED)
        add(text, "Its run was interrupted; `pawl resume %s` goes on.\n", run->id);
    else if (step->plan->max_parallel && step->in_flight >= step->plan->max_parallel)
        add(text, "It waits for one of its %u places (max_parallel).\n", step->plan->max_parallel);
    else if (samples && !core->sampled)
        add(text, "It waits for the first look at the machine's load and memory.\n");
    else if (samples && batch->load_milli > 0 && core->load_milli > batch->load_milli)
        add(text, "It waits for the load to fall: it is %.2f, starts are made up to %.2f (--load).\n",
            core->load_milli / 1e3, batch->load_milli / 1e3);
    else if (samples && core->available_bytes < batch->memfree_bytes)
        add(text, "It waits for memory: %llu MiB are available, starts are made from %llu (--memfree).\n",
            (unsigned long long)(core->available_bytes >> 20),
            (unsigned long long)(batch->memfree_bytes >> 20));
    else if (batch && batch->in_flight < batch->slots && batch->next_start_ns > now.boottime_ns)
        add(text, "It waits for the time between two starts (--delay): the next one is due in %.1f s.\n",
            (double)(batch->next_start_ns - now.boottime_ns) / 1e9);
    else
        add(text, "It waits for a free slot (%u in all).\n", run->request.slots);
}

static void why_delayed(const struct pawl_core *core, const struct pawl_run *run,
                        const struct pawl_step *step, uint64_t number, struct pawl_now now, struct text *text)
{
    uint32_t attempt = step->instances[number].attempt;
    for (size_t i = 0; i < core->timers.count; i++) {
        const struct pawl_timer *timer = &core->timers.heap[i];
        if (timer->run != run->number || timer->step != step->index || timer->instance != number ||
            timer->attempt != attempt)
            continue;
        uint64_t left_ns = timer->due_ns > now.boottime_ns ? timer->due_ns - now.boottime_ns : 0;
        add(text, "Attempt %u is due in %.1f s, %.1f s after the one before (retries: %u).\n", attempt + 1,
            (double)left_ns / 1e9, (double)timer->delay_ns / 1e9, step->plan->retry.limit);
        return;
    }
    add(text, "A retry is due (limit %u).\n", step->plan->retry.limit);
}

/* Nobody may ever refer to it: what cannot be read is told where its step is asked about. */
static void why_named(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step, uint64_t number,
                      struct text *text)
{
    if (pawl_flow_named_hold(core, run, step, number))
        return;
    add(text, "What it wrote to PAWL_OUTPUT makes no named outputs: it is neither one JSON object nor lines "
              "key=value.\n");
}

/* How the attempts went that were not the last, the newest EARLIER_MAX of them: why it ran again. */
static void why_again(struct pawl_core *core, struct pawl_run *run, const struct pawl_step *step,
                      uint64_t number, const struct pawl_step_view *now, struct text *text)
{
    enum { EARLIER_MAX = 8 };
    uint32_t last = now->fixed.attempts;
    bool lost = false;
    if (last > 0 && (now->fixed.state == PAWL_STEP_RUNNING || pawl_step_state_is_final(now->fixed.state)))
        last--;
    if (last > EARLIER_MAX)
        add(text, "Of %u earlier attempts the last %d:\n", last, EARLIER_MAX);
    for (uint32_t attempt = last > EARLIER_MAX ? last - EARLIER_MAX + 1 : 1; attempt <= last; attempt++) {
        char buffer[128] = "";
        struct pawl_result_view view;
        int error = ended_attempt(core, run, step, number, attempt, &view);
        if (error == PAWL_E_NOT_FOUND)
            add(text, "Attempt %u: interrupted, pawl itself went down.\n", attempt);
        else if (error == 0)
            add(text, "Attempt %u: %s, after %.1f s.\n", attempt,
                how_it_ended(&view.fixed, buffer, sizeof buffer), (double)view.fixed.duration_ns / 1e9);
        lost |= error == 0 && view.fixed.outcome == PAWL_OUTCOME_WORKER_LOST;
    }
    if (lost && step->plan->retry.limit < PAWL_WORKER_LOST_RETRIES)
        add(text, "After a worker's death it is tried again up to %d times, though its `retries` are %u.\n",
            PAWL_WORKER_LOST_RETRIES, step->plan->retry.limit);
}

static void why_last_attempt(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step,
                             uint64_t number, const struct pawl_instance *instance, struct text *text)
{
    struct pawl_result_view view;
    if (instance->attempt > 1)
        add(text, "Attempts: %u, of which %u failed", instance->attempt, instance->failures);
    uint32_t interruptions = pawl_instance_interruptions(instance);
    if (instance->attempt > 1 && interruptions > 0)
        add(text, " and %u were interrupted because pawl itself went down", interruptions);
    if (instance->attempt > 1)
        add(text, ".\n");
    if (instance->place == 0 || pawl_run_result(core, run, step->index, number, 0, true, &view) < 0)
        return;
    if ((view.fixed.flags & PAWL_RESULT_STDERR_FILE) == 0 && view.fixed.stderr_bytes > 0) {
        const char *from = view.bytes + (view.fixed.stdout_bytes);
        size_t n = view.fixed.stderr_bytes;
        size_t show = n > 400 ? 400 : n;
        add(text, "Its last words on stderr: %.*s%s", (int)show, from + (n - show),
            from[n - 1] == '\n' ? "" : "\n");
    }
    free(view.bytes);
}

/* Not by the limit of whoever looks: what the run was given is told by what was kept. */
static void why_output(struct pawl_core *core, struct pawl_run *run, uint32_t step, uint64_t number,
                       struct text *text)
{
    struct pawl_result_view view;
    if (pawl_run_result(core, run, step, number, 0, true, &view) < 0)
        return;
    bool out_is_file = (view.fixed.flags & PAWL_RESULT_STDOUT_FILE) != 0;
    bool err_is_file = (view.fixed.flags & PAWL_RESULT_STDERR_FILE) != 0;
    uint64_t kept = (out_is_file ? view.stdout_file.bytes : view.fixed.stdout_bytes) +
                    (err_is_file ? view.stderr_file.bytes : view.fixed.stderr_bytes);
    add(text,
        "It wrote more than is kept of an attempt (the setting attempt-output): %llu bytes of it are kept; "
        "large results belong into a file.\n",
        (unsigned long long)kept);
    free(view.bytes);
}

static void why_go_on(const struct pawl_run *run, const struct pawl_step *step, uint64_t number,
                      const struct pawl_step_view *view, struct text *text)
{
    char item[40] = "";
    if (view->fixed.fan_out)
        snprintf(item, sizeof item, " --item %llu", (unsigned long long)number);
    if (pawl_step_tolerates(step))
        add(text, "Its run goes on all the same (continue_on_error).\n");
    if (view->fixed.attempts > 0)
        add(text, "All it printed: `pawl logs %s %s%s --stderr`. ", run->id, view->name, item);
    if (run->state != PAWL_RUN_SUCCEEDED)
        add(text, "Again: `pawl retry %s`.", run->id);
    add(text, "\n");
}

int pawl_run_why(struct pawl_core *core, struct pawl_run *run, uint32_t index, uint64_t number,
                 struct pawl_now now, char *buffer, size_t bytes)
{
    if (index >= run->step_count)
        return PAWL_E_NOT_FOUND;
    struct pawl_step *step = &run->steps[index];
    struct pawl_instance *instance = number < step->count ? &step->instances[number] : NULL;
    if (!instance && number > 0)
        return PAWL_E_NOT_FOUND;
    struct text text = {.at = buffer, .left = bytes};
    struct pawl_step_view view;
    view_step(core, run, step, instance ? number : UINT64_MAX, &view);
    add(&text, "%s", view.name);
    if (view.fixed.fan_out)
        add(&text, " [%llu]", (unsigned long long)number);
    add(&text, " is %s", pawl_step_state_name(view.fixed.state));
    if (view.reason[0])
        add(&text, " (%s)", view.reason);
    add(&text, ".\n");
    switch ((enum pawl_step_state)view.fixed.state) {
    case PAWL_STEP_WAITING:
        why_waiting(run, step, &text);
        break;
    case PAWL_STEP_READY:
        why_ready(core, run, step, now, &text);
        break;
    case PAWL_STEP_RUNNING:
        add(&text, "Attempt %u has run for %.1f s on worker %u.\n", view.fixed.attempts,
            now.realtime_ns > view.fixed.started_at_ns
                ? (double)(now.realtime_ns - view.fixed.started_at_ns) / 1e9
                : 0.0,
            view.fixed.worker);
        break;
    case PAWL_STEP_DELAYED:
        why_delayed(core, run, step, number, now, &text);
        break;
    case PAWL_STEP_SKIPPED:
        if (view.reason[0] == 'w')
            add(&text, "Its `when` was false.\n");
        break;
    case PAWL_STEP_CANCELLED:
        add(&text, "It had not started, or was stopped; `pawl resume %s` runs it.\n", run->id);
        break;
    case PAWL_STEP_SUCCEEDED:
        add(&text, "It needed %u attempt%s; a recorded success is not run again.\n", view.fixed.attempts,
            view.fixed.attempts == 1 ? "" : "s");
        break;
    case PAWL_STEP_FAILED:
        if (instance && instance->reason == PAWL_REASON_OUTPUT)
            why_output(core, run, step->index, number, &text);
        break;
    case PAWL_STEP_CACHED:
        break;
    }
    if (instance && pawl_step_state_is_final(view.fixed.state))
        why_named(core, run, step, number, &text);
    if (instance)
        why_again(core, run, step, number, &view, &text);
    if (instance && view.fixed.state != PAWL_STEP_SUCCEEDED)
        why_last_attempt(core, run, step, number, instance, &text);
    if (view.fixed.state == PAWL_STEP_FAILED)
        why_go_on(run, step, number, &view, &text);
    return 0;
}
