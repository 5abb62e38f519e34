/*
 * submit.c - runs begin, go on, are stopped by people.
 *
 * Runs in: scheduler.
 */
#include "scheduler/core_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "scheduler/record.h"
#include "shm/error.h"

enum {
    GRACE_NS_DEFAULT = 10,
    RUN_BYTES_MAX = PAWL_RECORD_BODY_BYTES_MAX - (64 << 10), /* the fixed part and padding come to it */
};

static const char zeros[8];

/* ---- names ---- */

static bool name_holds(const char name[PAWL_NAME_BYTES])
{
    size_t n = strnlen(name, PAWL_NAME_BYTES);
    if (n == 0 || n > 64 || name[0] == '.' || name[0] == '-')
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                    c == '.' || c == '-';
        if (!good)
            return false;
    }
    return strcmp(name, "last") != 0;
}

/* Date, time, four letters of chance: sorts by age, is read out loud easily. */
static void make_id(struct pawl_core *core, char id[PAWL_NAME_BYTES])
{
    time_t seconds = (time_t)(core->now.realtime_ns / 1000000000u);
    struct tm tm;
    char stamp[32];
    uint64_t chance = core->effects.random(core->ctx);
    static const char letters[] = "bcdfghjkmnpqrstvwxz23456789";
    gmtime_r(&seconds, &tm);
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &tm);
    memset(id, 0, PAWL_NAME_BYTES);
    int n = snprintf(id, PAWL_NAME_BYTES, "%s-", stamp);
    for (int i = 0; i < 5; i++) {
        id[n + i] = letters[chance % (sizeof letters - 1)];
        chance /= sizeof letters - 1;
    }
}

/* ---- submit ---- */

static int check_parts(const struct pawl_submission *s, bool plan_needed, char why[256])
{
    struct pawl_context context;
    struct pawl_plan *plan = NULL;
    const char *text = "";
    if (s->plan_bytes > 0) {
        int error = pawl_plan_open_copy(s->plan, s->plan_bytes, NULL, &plan, &text);
        if (error < 0) {
            snprintf(why, 256, "the plan does not hold: %s", text ? text : pawl_error_text(error));
            return error == PAWL_E_LIMIT ? error : PAWL_E_BAD_MESSAGE;
        }
        bool fed = false;
        for (uint32_t i = 0; i < pawl_plan_step_count(plan); i++)
            fed |= (pawl_plan_step(plan, i)->flags & PAWL_STEP_FED) != 0;
        bool lonely = pawl_plan_step_count(plan) == 1;
        pawl_plan_close(plan);
        if (fed != ((s->request->flags & PAWL_SUBMIT_MAP) != 0) || (fed && !lonely)) {
            snprintf(why, 256, "a plan with a fed step has that step alone, and says so");
            return PAWL_E_BAD_MESSAGE;
        }
    } else if (plan_needed) {
        snprintf(why, 256, "no plan came along");
        return PAWL_E_BAD_MESSAGE;
    }
    if ((s->context_bytes > 0 || plan_needed) &&
        pawl_context_open(s->context, s->context_bytes, &context) < 0) {
        snprintf(why, 256, "the context does not hold");
        return PAWL_E_BAD_MESSAGE;
    }
    return 0;
}

static uint64_t append_run(struct pawl_core *core, uint8_t type, uint64_t number, uint64_t batch,
                           const struct pawl_submission *s, const struct pawl_wire_submit *request)
{
    struct pawl_run_record record = {.run = number,
                                     .batch = batch,
                                     .realtime_ns = core->now.realtime_ns,
                                     .plan_bytes = s->plan_bytes,
                                     .context_bytes = s->context_bytes,
                                     .request = *request};
    const char *file = s->file ? s->file : "", *filter = s->filter ? s->filter : "";
    record.request.file_bytes = (uint32_t)strlen(file);
    record.request.filter_bytes = (uint32_t)strlen(filter);
    struct iovec more[6] = {
        {.iov_base = (void *)(uintptr_t)s->plan, .iov_len = s->plan_bytes},
        {.iov_base = (void *)(uintptr_t)zeros, .iov_len = -s->plan_bytes & 7},
        {.iov_base = (void *)(uintptr_t)s->context, .iov_len = s->context_bytes},
        {.iov_base = (void *)(uintptr_t)zeros, .iov_len = -s->context_bytes & 7},
        {.iov_base = (void *)(uintptr_t)file, .iov_len = strlen(file)},
        {.iov_base = (void *)(uintptr_t)filter, .iov_len = strlen(filter)},
    };
    return pawl_apply_append(core, type, &record, sizeof record, more, 6);
}

/* A batch of this client's that is open. */
static struct pawl_batch *open_batch_of(const struct pawl_core *core, uint64_t client)
{
    struct pawl_batch *batch = core->batches;
    while (batch && batch->client != client)
        batch = batch->next;
    return client != 0 ? batch : NULL;
}

/* The batch that the request names, if it is this client's and still open. It closes when its last run ends,
 * while others may be on their way: those share the next one, else each would have slots of its own. */
static uint64_t choose_batch(struct pawl_core *core, const struct pawl_submission *s)
{
    struct pawl_batch *batch = s->request->batch ? pawl_core_batch(core, s->request->batch) : NULL;
    if (s->request->batch && !batch)
        batch = open_batch_of(core, s->client);
    if (batch && batch->client == s->client && s->client != 0)
        return batch->number;
    return core->next_batch++;
}

static int activate(struct pawl_core *core, struct pawl_run *run, const struct pawl_submission *s)
{
    bool new_batch = false;
    if (!pawl_batch_get(core, run, s->client, &new_batch))
        return -ENOMEM;
    run->over = false;
    pawl_core_later(core, run->lsn_submitted, run, PAWL_PENDING_SUBMITTED, UINT32_MAX, 0);
    pawl_flow_derive(core, run);
    core->need_dispatch = true;
    return 0;
}

static bool id_is_taken(struct pawl_core *core, const char *id)
{
    if (pawl_core_find(core, id))
        return true;
    void *bytes = NULL;
    size_t n = 0;
    int error = core->effects.read_file(core->ctx, id, "image", 0, 8, &bytes, &n);
    free(bytes);
    return error == 0;
}

static int begin_run(struct pawl_core *core, const struct pawl_submission *s, struct pawl_run **run_out,
                     char why[256])
{
    struct pawl_wire_submit request = *s->request;
    request.run_id[sizeof request.run_id - 1] = request.workflow[sizeof request.workflow - 1] = '\0';
    int error = check_parts(s, true, why);
    if (error < 0)
        return error;
    if (request.run_id[0] == '\0') {
        do
            make_id(core, request.run_id);
        while (id_is_taken(core, request.run_id));
    } else if (!name_holds(request.run_id)) {
        snprintf(why, 256, "not a run's name: letters, digits, _ . - (at most 64, not starting with . or -)");
        return PAWL_E_BAD_MESSAGE;
    } else if (id_is_taken(core, request.run_id)) {
        snprintf(why, 256, "there is a run %s already", request.run_id);
        return PAWL_E_STATE;
    }
    uint64_t number = core->next_run++;
    uint64_t lsn = append_run(core, PAWL_RECORD_RUN, number, choose_batch(core, s), s, &request);
    struct pawl_run *run = lsn ? pawl_core_run(core, number) : NULL;
    if (!run) {
        snprintf(why, 256, "the journal takes nothing any more");
        return PAWL_E_SYNC_FAILED;
    }
    *run_out = run;
    return activate(core, run, s);
}

/* Of a success nothing is left to do; but a map that comes with its command again may bring more items. */
static bool nothing_is_left(const struct pawl_run *run, const struct pawl_submission *s)
{
    return run->state == PAWL_RUN_SUCCEEDED && (!run->fed || s->plan_bytes == 0);
}

static int reopen(struct pawl_core *core, const struct pawl_submission *s, const char *id,
                  struct pawl_run **run_out, char why[256])
{
    struct pawl_reopen_record record = {.run = core->next_run++};
    snprintf(record.run_id, sizeof record.run_id, "%s", id);
    /* Looked at before it is promised: a record about an image that does not hold would stop the next start,
     * and what has succeeded is handed on to what runs now. */
    struct pawl_run *trial = NULL;
    int error = pawl_image_fetch(core, id, true, &trial);
    if (error < 0) {
        snprintf(why, 256, "the image of run %s cannot be read: %s", id, pawl_error_text(error));
        return error == -ENOENT ? PAWL_E_NOT_FOUND : error;
    }
    if (nothing_is_left(trial, s)) {
        pawl_run_free(trial);
        return PAWL_SUBMIT_NOTHING_LEFT;
    }
    error = core->effects.reopening ? core->effects.reopening(core->ctx, id) : 0;
    if (error < 0) {
        snprintf(why, 256, "run %s cannot be marked as open again: %s", id, pawl_error_text(error));
        pawl_run_free(trial);
        return error;
    }
    uint64_t image = trial->base_image;
    core->fetched = trial;
    struct iovec more = {.iov_base = &image, .iov_len = sizeof image};
    uint64_t lsn = pawl_apply_append(core, PAWL_RECORD_REOPEN, &record, sizeof record, &more, 1);
    pawl_run_free(core->fetched); /* it was not taken */
    core->fetched = NULL;
    if (lsn == 0)
        return PAWL_E_SYNC_FAILED;
    *run_out = pawl_core_run(core, record.run);
    return *run_out ? 0 : PAWL_E_SYNC_FAILED;
}

static int resume_run(struct pawl_core *core, const struct pawl_submission *s, struct pawl_run **run_out,
                      char why[256])
{
    char id[PAWL_NAME_BYTES];
    memcpy(id, s->request->resume_id, sizeof id);
    id[sizeof id - 1] = '\0';
    int error = check_parts(s, false, why);
    if (error < 0)
        return error;
    struct pawl_run *run = pawl_core_find(core, id);
    if (!run && !s->sealed) {
        snprintf(why, 256, "there is no run %s", id);
        return PAWL_E_NOT_FOUND;
    }
    if (run && (run->state == PAWL_RUN_RUNNING || !run->over)) {
        snprintf(why, 256, "run %s is still %s", id, run->draining ? "ending" : "running");
        return run->draining ? -EAGAIN : PAWL_E_BUSY;
    }
    if (run)
        run->awaited = false;
    if (run && nothing_is_left(run, s))
        return PAWL_SUBMIT_NOTHING_LEFT;
    if (run && run->sealing) {
        snprintf(why, 256, "run %s has just ended and is being sealed", id);
        return -EAGAIN;
    }
    if (!run) {
        error = reopen(core, s, id, &run, why);
        if (error != 0)
            return error;
    }
    if (run->fed != ((s->request->flags & PAWL_SUBMIT_MAP) != 0) && s->plan_bytes > 0) {
        snprintf(why, 256, "run %s is of the other kind (run, map)", id);
        return PAWL_E_STATE;
    }
    uint64_t lsn = append_run(core, PAWL_RECORD_RESUME, run->number, choose_batch(core, s), s, s->request);
    if (lsn == 0)
        return PAWL_E_SYNC_FAILED;
    *run_out = run;
    return activate(core, run, s);
}

int pawl_core_submit(struct pawl_core *core, struct pawl_now now, const struct pawl_submission *s,
                     struct pawl_run **run_out, char why[256])
{
    core->now = now;
    why[0] = '\0';
    if (core->failed)
        return PAWL_E_SYNC_FAILED;
    if (!core->serving)
        return PAWL_E_BUSY;
    if (s->request->slots == 0 || s->request->slots > 4096) {
        snprintf(why, 256, "%u slots: 1 to 4096 are possible", s->request->slots);
        return PAWL_E_LIMIT;
    }
    size_t texts_bytes = (s->file ? strlen(s->file) : 0) + (s->filter ? strlen(s->filter) : 0);
    if (s->plan_bytes > RUN_BYTES_MAX || s->context_bytes > RUN_BYTES_MAX - s->plan_bytes ||
        texts_bytes > RUN_BYTES_MAX - s->plan_bytes - s->context_bytes) {
        snprintf(why, 256,
                 "a run of %zu bytes (its plan with parameters, and environment): at most %zu are possible",
                 s->plan_bytes + s->context_bytes + texts_bytes, (size_t)RUN_BYTES_MAX);
        return PAWL_E_LIMIT;
    }
    if (!core->effects.has_room(core->ctx, s->plan_bytes + s->context_bytes)) {
        snprintf(why, 256,
                 "the disk is full (" PAWL_RESERVE_WORDS "): nothing new is accepted until there is room");
        return PAWL_E_NO_SPACE;
    }
    return s->request->resume_id[0] ? resume_run(core, s, run_out, why) : begin_run(core, s, run_out, why);
}

/* ---- stop ---- */

static void cancel_delayed(struct pawl_run *run)
{
    for (uint32_t i = 0; i < run->step_count; i++) {
        struct pawl_step *step = &run->steps[i];
        for (uint64_t n = 0; step->states[PAWL_STEP_DELAYED] > 0 && n < step->count; n++)
            if (step->instances[n].state == PAWL_STEP_DELAYED)
                pawl_instance_set(run, step, &step->instances[n], PAWL_STEP_READY, step->instances[n].reason);
    }
}

static void cancel_run(struct pawl_core *core, struct pawl_run *run, uint32_t mode, uint64_t grace_ns)
{
    if (run->state != PAWL_RUN_RUNNING || run->ending)
        return;
    if (mode > run->draining)
        run->draining = mode;
    pawl_run_recall_all(core, run, false);
    cancel_delayed(run);
    for (struct pawl_delivery *delivery = run->deliveries; delivery; delivery = delivery->next) {
        if (mode == PAWL_CANCEL_DRAIN)
            continue;
        if (!delivery->signalled || grace_ns < delivery->grace_ns)
            delivery->grace_ns = grace_ns;
        delivery->signalled =
            true; /* again, if it was: this grace may be shorter; a longer one changes nothing */
        if (delivery->begun)
            core->effects.signal(core->ctx, delivery, grace_ns);
    }
    pawl_flow_check_end(core, run);
}

int pawl_core_cancel(struct pawl_core *core, struct pawl_now now, struct pawl_batch *batch,
                     struct pawl_run *run, uint32_t mode, uint64_t grace_ns)
{
    core->now = now;
    if (mode < PAWL_CANCEL_DRAIN || mode > PAWL_CANCEL_CANCEL)
        return PAWL_E_BAD_MESSAGE;
    if (run) {
        if (run->state == PAWL_RUN_INTERRUPTED && mode == PAWL_CANCEL_CANCEL && run->over) {
            /* Nothing of it runs: it only changes its name, and leaves the journal. */
            struct pawl_run_state_record record = {
                .run = run->number, .realtime_ns = run->finished_at_ns, .state = PAWL_RUN_CANCELLED};
            uint64_t lsn = pawl_apply_append(core, PAWL_RECORD_RUN_STATE, &record, sizeof record, NULL, 0);
            run->over = false;
            if (lsn)
                pawl_core_later(core, lsn, run, PAWL_PENDING_ENDED, UINT32_MAX, 0);
            return 0;
        }
        if (run->state != PAWL_RUN_RUNNING)
            return PAWL_E_STATE;
        cancel_run(core, run, mode, grace_ns);
        return 0;
    }
    for (size_t i = 0; i < core->run_count; i++)
        if (core->runs[i]->batch == batch && batch)
            cancel_run(core, core->runs[i], mode, grace_ns);
    return 0;
}

void pawl_core_client_gone(struct pawl_core *core, struct pawl_now now, uint64_t client)
{
    for (struct pawl_batch *batch = core->batches; batch; batch = batch->next) {
        if (batch->client != client || client == 0)
            continue;
        batch->client = 0;
        if (!batch->detached)
            pawl_core_cancel(core, now, batch, NULL, PAWL_CANCEL_INTERRUPT,
                             GRACE_NS_DEFAULT * UINT64_C(1000000000));
    }
}
