/*
 * dry_run.c - what `pawl run -n` says.
 *
 * Runs in: the command. Decides as the scheduler does when it goes on with a run: a step is kept when all its
 * instances succeeded, its definition is the same, and all that it needs is kept.
 */
#include "runtime/cli/dry_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "scheduler/expr.h"
#include "scheduler/run.h"

struct verdict {
    bool kept, known;
    uint64_t total, succeeded; /* instances, in the old run */
    uint32_t worst;            /* state of one that has not succeeded */
    char why[160];
};

struct tally {
    const struct pawl_plan *plan;
    const struct pawl_plan *old_plan;
    struct verdict *verdicts;
};

static int count_instance(void *context, const struct pawl_step_view *step)
{
    struct tally *tally = context;
    uint32_t index = pawl_plan_find_step(tally->plan, step->name, strlen(step->name));
    if (index == PAWL_PLAN_NONE)
        return 0;
    struct verdict *verdict = &tally->verdicts[index];
    bool good = step->fixed.state == PAWL_STEP_SUCCEEDED || step->fixed.state == PAWL_STEP_CACHED ||
                (step->fixed.state == PAWL_STEP_SKIPPED && strcmp(step->reason, "when") == 0);
    verdict->known = true;
    verdict->total++;
    verdict->succeeded += good;
    if (!good)
        verdict->worst = step->fixed.state;
    return 0;
}

static bool same_definition(const struct tally *tally, uint32_t index)
{
    const char *name = pawl_plan_step_name(tally->plan, index);
    uint32_t old = pawl_plan_find_step(tally->old_plan, name, strlen(name));
    return old != PAWL_PLAN_NONE && memcmp(pawl_plan_step(tally->plan, index)->definition_hash,
                                           pawl_plan_step(tally->old_plan, old)->definition_hash, 16) == 0;
}

static void judge(const struct tally *tally, uint32_t index)
{
    struct verdict *verdict = &tally->verdicts[index];
    const struct pawl_plan_step *step = pawl_plan_step(tally->plan, index);
    const uint32_t *needs = pawl_plan_needs(tally->plan, step);
    const char *changed = NULL;
    for (uint32_t i = 0; i < step->needs.count && changed == NULL; i++)
        if (!tally->verdicts[needs[i]].kept)
            changed = pawl_plan_step_name(tally->plan, needs[i]);
    if (!verdict->known)
        snprintf(verdict->why, sizeof verdict->why, "new, or it has not run");
    else if (!same_definition(tally, index))
        snprintf(verdict->why, sizeof verdict->why, "its definition has changed");
    else if (verdict->succeeded > 0 && verdict->succeeded < verdict->total)
        snprintf(verdict->why, sizeof verdict->why, "%" PRIu64 " of %" PRIu64 " succeeded and are kept",
                 verdict->succeeded, verdict->total);
    else if (verdict->succeeded < verdict->total)
        snprintf(verdict->why, sizeof verdict->why, "it was %s", pawl_step_state_name(verdict->worst));
    else if (changed != NULL)
        snprintf(verdict->why, sizeof verdict->why, "%s runs again", changed);
    else
        verdict->kept = true;
}

/* Why a step would run in a run of its own. */
static void explain(const struct pawl_plan *plan, uint32_t index, char why[160])
{
    const struct pawl_plan_step *step = pawl_plan_step(plan, index);
    const uint32_t *needs = pawl_plan_needs(plan, step);
    size_t used = 0;
    why[0] = '\0';
    for (uint32_t i = 0; i < step->needs.count && used < 100; i++)
        used += (size_t)snprintf(why + used, 160 - used, "%s%.50s", i == 0 ? "after " : ", ",
                                 pawl_plan_step_name(plan, needs[i]));
    const char *source = NULL, *word = NULL;
    if (step->foreach != PAWL_PLAN_NONE) {
        word = "for each of";
        source = pawl_plan_text(plan, pawl_plan_template(plan, step->foreach)->source);
        if (source[0] == '\0')
            source = "its list";
    } else if (step->axes.count != 0) {
        word = "for each combination of its matrix";
        source = "";
    } else if (step->when != PAWL_PLAN_NONE) {
        word = "if";
        source = pawl_plan_text(plan, pawl_plan_template(plan, step->when)->source);
    }
    if (word != NULL && used < 120)
        snprintf(why + used, 160 - used, "%s%s%s%.60s", used != 0 ? ", " : "", word,
                 source[0] != '\0' ? " " : "", source);
    else if (used == 0)
        snprintf(why, 160, "needs nothing");
}

static void print_people(const struct pawl_plan *plan, const struct verdict *verdicts, const char *old,
                         uint64_t runs)
{
    uint32_t count = pawl_plan_step_count(plan), kept = 0, width = 4;
    const uint32_t *order = pawl_plan_order(plan);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bytes = pawl_plan_step(plan, i)->name.bytes;
        kept += verdicts[i].kept;
        width = bytes > width ? bytes : width;
    }
    if (runs != 0)
        printf("%" PRIu64 " runs of %s\n", runs, pawl_plan_name(plan));
    else if (old != NULL)
        printf("run %s of %s would go on\n", old, pawl_plan_name(plan));
    else
        printf("a run of %s would start\n", pawl_plan_name(plan));
    for (int pass = kept != 0 ? 0 : 1; pass < 2; pass++) {
        printf(pass == 0 ? "kept:\n" : "to run:\n");
        for (uint32_t i = 0; i < count; i++) {
            const struct verdict *verdict = &verdicts[order[i]];
            if (verdict->kept != (pass == 0))
                continue;
            printf("  %-*s  %s\n", (int)width, pawl_plan_step_name(plan, order[i]),
                   verdict->kept ? "succeeded" : verdict->why);
        }
    }
    if (kept == count)
        printf("  nothing\n");
}

static void print_json(const struct pawl_plan *plan, const struct verdict *verdicts, const char *old)
{
    json_t *document = pawl_json_document(), *kept = json_array(), *run = json_array();
    const uint32_t *order = pawl_plan_order(plan);
    json_object_set_new(document, "workflow", pawl_json_text(pawl_plan_name(plan)));
    json_object_set_new(document, "resume", old != NULL ? pawl_json_text(old) : json_null());
    for (uint32_t i = 0; i < pawl_plan_step_count(plan); i++) {
        const struct verdict *verdict = &verdicts[order[i]];
        json_t *step = json_object();
        json_object_set_new(step, "step", pawl_json_text(pawl_plan_step_name(plan, order[i])));
        json_object_set_new(step, "why", pawl_json_text(verdict->kept ? "succeeded" : verdict->why));
        json_array_append_new(verdict->kept ? kept : run, step);
    }
    json_object_set_new(document, "kept", kept);
    json_object_set_new(document, "run", run);
    pawl_json_print(document, stdout);
    json_decref(document);
}

int pawl_dry_run_print(const struct pawl_cli *cli, const struct pawl_plan *plan, struct pawl_run_view *old,
                       uint64_t runs)
{
    uint32_t count = pawl_plan_step_count(plan);
    struct verdict *verdicts = calloc((size_t)count + 1, sizeof *verdicts);
    int status = 0;
    if (verdicts == NULL)
        return pawl_fail(cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
    if (old != NULL)
        status = pawl_run_view_plan(old);
    if (status == 0 && old != NULL) {
        struct tally tally = {.plan = plan, .old_plan = old->plan, .verdicts = verdicts};
        int error = pawl_run_view_each(old, 0, count_instance, &tally);
        if (error < 0)
            status = pawl_fail_error(cli, PAWL_EXIT_UNREACHABLE, error, NULL, "run %s", old->summary.run_id);
        for (uint32_t i = 0; i < count; i++)
            judge(&tally, pawl_plan_order(plan)[i]);
    } else if (status == 0) {
        for (uint32_t i = 0; i < count; i++)
            explain(plan, i, verdicts[i].why);
    }
    const char *old_id = old != NULL ? old->summary.run_id : NULL;
    if (status == 0 && cli->json)
        print_json(plan, verdicts, old_id);
    else if (status == 0)
        print_people(plan, verdicts, old_id, runs);
    free(verdicts);
    return status;
}
