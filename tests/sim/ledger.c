/*
 * ledger.c - what the journal says of each piece of work, kept by other means than the core's, and what a
 * start has to fulfil.
 */
#include "tests/sim/world.h"

#include <stdio.h>
#include <string.h>

#include "scheduler/core_state.h"

struct world_entry *world_ledger_at(struct world *world, uint64_t run, uint32_t step, uint64_t instance)
{
    if (run >= WORLD_NUMBERS_MAX || world->ledger_pages[run] == 0 || step >= WORLD_STEPS_MAX ||
        instance >= WORLD_INSTANCES_MAX)
        return NULL;
    return &world->ledger[world->ledger_pages[run] - 1][step][instance];
}

static void open_page(struct world *world, uint64_t number, const char *run_id)
{
    if (number >= WORLD_NUMBERS_MAX)
        return;
    for (unsigned i = 0; i < WORLD_RUNS_MAX; i++)
        if (world->ledger_ids[i][0] == '\0' || strcmp(world->ledger_ids[i], run_id) == 0) {
            snprintf(world->ledger_ids[i], PAWL_NAME_BYTES, "%s", run_id);
            world->ledger_pages[number] = (uint8_t)(i + 1);
            return;
        }
}

void world_ledger_note(struct world *world, uint64_t lsn)
{
    const struct world_record *record = &world->records[lsn - 1];
    if (record->type == PAWL_RECORD_RUN) {
        struct pawl_run_record run;
        memcpy(&run, record->body, sizeof run);
        open_page(world, run.run, run.request.run_id);
    } else if (record->type == PAWL_RECORD_REOPEN) {
        struct pawl_reopen_record reopen;
        memcpy(&reopen, record->body, sizeof reopen);
        open_page(world, reopen.run, reopen.run_id);
    } else if (record->type == PAWL_RECORD_CLAIM) {
        struct pawl_claim_record claim;
        memcpy(&claim, record->body, sizeof claim);
        struct world_entry *entry = world_ledger_at(world, claim.run, claim.step, claim.instance);
        if (entry && claim.attempt > entry->attempt)
            entry->attempt = claim.attempt;
    } else if (record->type == PAWL_RECORD_STEP) {
        struct pawl_step_record step;
        memcpy(&step, record->body, sizeof step);
        struct world_entry *entry = world_ledger_at(world, step.run, step.step, step.instance);
        if (!entry)
            return;
        if (entry->success_lsn)
            world_break(world, "lsn %llu: a result after success (run %llu step %u instance %llu)",
                        (unsigned long long)lsn, (unsigned long long)step.run, step.step,
                        (unsigned long long)step.instance);
        if (step.attempt > entry->attempt)
            entry->attempt = step.attempt;
        if (step.state == PAWL_STEP_SUCCEEDED)
            entry->success_lsn = lsn;
        entry->final_lsn = pawl_step_state_is_final(step.state) ? lsn : 0;
    }
}

bool world_was_submitted(const struct world *world, const char *run_id)
{
    struct pawl_run_record run;
    for (size_t i = 0; i < world->record_count; i++) {
        if (world->records[i].type != PAWL_RECORD_RUN)
            continue;
        memcpy(&run, world->records[i].body, sizeof run);
        if (strcmp(run.request.run_id, run_id) == 0)
            return true;
    }
    return false;
}

void world_ledger_rebuild(struct world *world)
{
    memset(world->ledger_pages, 0, sizeof world->ledger_pages);
    for (size_t r = 0; r < WORLD_RUNS_MAX; r++)
        for (size_t s = 0; s < WORLD_STEPS_MAX; s++)
            for (size_t i = 0; i < WORLD_INSTANCES_MAX; i++) {
                struct world_entry *entry = &world->ledger[r][s][i];
                entry->success_lsn = entry->final_lsn = 0;
                entry->attempt = 0;
            }
    for (uint64_t lsn = 1; lsn <= world->record_count; lsn++)
        world_ledger_note(world, lsn);
}

/* A step's successors start when its results are on disk, not when they are known. */
static void judge_needs(struct world *world, const struct pawl_run *run, const struct pawl_step *step)
{
    const uint32_t *needs = pawl_plan_needs(run->plan, step->plan);
    for (uint32_t n = 0; n < step->plan->needs.count; n++) {
        const struct pawl_step *need = &run->steps[needs[n]];
        if (!pawl_step_state_is_final(need->state))
            world_break(world, "step %u starts while its need %u is not over", step->index, need->index);
        for (uint64_t i = 0; i < need->count; i++) {
            uint32_t state = need->instances[i].state;
            struct world_entry *entry = world_ledger_at(world, run->number, need->index, i);
            if (!entry || (state != PAWL_STEP_SUCCEEDED && state != PAWL_STEP_FAILED))
                continue;
            if (entry->final_lsn == 0 || entry->final_lsn > world->durable)
                world_break(world, "step %u starts before the end of its need %u[%llu] is durable",
                            step->index, need->index, (unsigned long long)i);
        }
        bool fine = need->state == PAWL_STEP_SUCCEEDED ||
                    (need->state == PAWL_STEP_SKIPPED && need->reason == PAWL_REASON_WHEN) ||
                    (need->state == PAWL_STEP_FAILED && pawl_step_tolerates(need));
        if (!fine && !step->runs_anyway)
            world_break(world, "step %u starts though its need %u is %s", step->index, need->index,
                        pawl_step_state_name(need->state));
    }
}

void world_ledger_judge_start(struct world *world, const struct pawl_delivery *delivery)
{
    const struct pawl_run *run = delivery->run;
    const struct pawl_step *step = &run->steps[delivery->step];
    const struct world_entry *entry = world_ledger_at(world, run->number, delivery->step, delivery->instance);
    unsigned of_step = 1;
    if (entry && entry->success_lsn)
        world_break(world, "step %u[%llu] starts again after its success", delivery->step,
                    (unsigned long long)delivery->instance);
    if (entry && delivery->attempt <= entry->attempt)
        world_break(world, "step %u[%llu] starts attempt %u, and %u was given before", delivery->step,
                    (unsigned long long)delivery->instance, delivery->attempt, entry->attempt);
    for (size_t i = 0; i < world->job_count; i++) {
        const struct world_job *job = world->jobs[i];
        if (job->run != run->number || job->step != delivery->step)
            continue;
        of_step++;
        if (job->instance == delivery->instance)
            world_break(world, "step %u[%llu] is placed while an attempt of it lives", delivery->step,
                        (unsigned long long)delivery->instance);
    }
    if (step->plan->max_parallel > 0 && of_step > step->plan->max_parallel)
        world_break(world, "step %u: %u at once, max_parallel is %u", delivery->step, of_step,
                    step->plan->max_parallel);
    if (run->lsn_submitted > world->durable)
        world_break(world, "a step starts before its run's submission is durable");
    uint32_t limit = step->plan->retry.limit > 3 ? step->plan->retry.limit : 3;
    if (step->instances[delivery->instance].failures > limit)
        world_break(world, "step %u: attempt after %u failures", delivery->step,
                    step->instances[delivery->instance].failures);
    if (run->draining)
        world_break(world, "step %u starts though its run is being stopped", delivery->step);
    if (run->stopped && !step->runs_anyway)
        world_break(world, "step %u starts though its run has failed", delivery->step);
    judge_needs(world, run, step);
}
