/*
 * flow_spread.c - how many instances a step with foreach or matrix has.
 *
 * Runs in: the scheduler, as part of the core. Evaluates lists; starts nothing.
 */
#include "scheduler/core_state.h"

#include <stdio.h>
#include <stdlib.h>

#include "shm/error.h"

bool pawl_flow_uses_item(const struct pawl_run *run, uint32_t template_index)
{
    uint32_t flags = pawl_plan_template(run->plan, template_index)->flags;
    return (flags & (PAWL_TEMPLATE_USES_ITEM | PAWL_TEMPLATE_USES_INDEX)) != 0;
}

static int count_matrix(struct pawl_run *run, struct pawl_step *step, struct pawl_expr_env *env,
                        uint64_t *count_out, struct pawl_expr_error *why)
{
    uint32_t axes = step->plan->axes.count;
    const struct pawl_plan_axis *axis = pawl_plan_axes(run->plan, step->plan);
    step->axes = calloc(axes, sizeof *step->axes);
    if (!step->axes)
        return -1;
    uint64_t count = 1;
    for (uint32_t a = 0; a < axes; a++) {
        int error = pawl_template_eval(run->plan, axis[a].values, env, step->values, &step->axes[a], why);
        if (error < 0)
            return error;
        if (!pawl_value_is_list(&step->axes[a])) {
            snprintf(why->text, sizeof why->text, "matrix.%s is %s, not a list",
                     pawl_plan_text(run->plan, axis[a].name), pawl_value_kind_name(step->axes[a].kind));
            return PAWL_E_INVALID;
        }
        if (step->axes[a].count > 0 && count > run->core->options.instances_max / step->axes[a].count)
            count = run->core->options.instances_max + 1; /* reported below */
        else
            count *= step->axes[a].count;
    }
    *count_out = count;
    return 0;
}

int pawl_flow_spread_out(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step,
                         struct pawl_expr_error *why)
{
    uint64_t count = step->count;
    struct pawl_expr_env env;
    int error = 0;
    if ((step->plan->flags & PAWL_STEP_FED) != 0)
        return 0;
    pawl_step_drop_values(step);
    step->values = malloc(sizeof *step->values);
    if (!step->values)
        return -1;
    pawl_arena_init(step->values, SIZE_MAX);
    pawl_flow_env(run, step, &env);
    if (step->plan->axes.count > 0) {
        error = count_matrix(run, step, &env, &count, why);
    } else {
        error = pawl_template_eval(run->plan, step->plan->foreach, &env, step->values, &step->items, why);
        if (error == 0 && !pawl_value_is_list(&step->items)) {
            snprintf(why->text, sizeof why->text, "foreach is %s, not a list",
                     pawl_value_kind_name(step->items.kind));
            error = PAWL_E_INVALID;
        }
        count = step->items.count;
    }
    if (error == 0 && count > core->options.instances_max) {
        snprintf(why->text, sizeof why->text, "%llu instances: the limit run-instances is %llu; %s",
                 (unsigned long long)count, (unsigned long long)core->options.instances_max,
                 PAWL_RUN_INSTANCES_HINT);
        error = PAWL_E_LIMIT;
    }
    return error < 0 ? error : pawl_step_expand(run, step, count);
}

static bool all_over(const struct pawl_step *step)
{
    uint64_t over = 0;
    for (int s = PAWL_STEP_SUCCEEDED; s < PAWL_STEP_STATES; s++)
        over += step->states[s];
    bool spread = !step->many || step->axes != NULL || step->values != NULL;
    return pawl_step_state_is_final(step->state) || (spread && over == step->count);
}

/*
 * An interrupted run starts nothing until it is resumed, and the journal names only instances that began. How
 * many there are of a step whose needs are over follows from its list: who asks for the run is told all of
 * them.
 */
void pawl_flow_count_open(struct pawl_core *core, struct pawl_run *run)
{
    const uint32_t *order = pawl_plan_order(run->plan);
    for (uint32_t i = 0; i < run->step_count; i++) {
        struct pawl_step *step = &run->steps[order[i]];
        const uint32_t *needs = pawl_plan_needs(run->plan, step->plan);
        struct pawl_expr_error why = {.text = ""};
        bool open = step->many && !step->expanded && !pawl_step_state_is_final(step->state);
        /* Whether a step that did not begin would be skipped is asked when it is resumed. */
        if (step->count == 0 && step->plan->when != PAWL_PLAN_NONE &&
            !pawl_flow_uses_item(run, step->plan->when))
            open = false;
        for (uint32_t n = 0; n < step->plan->needs.count; n++)
            open = open && all_over(&run->steps[needs[n]]);
        if (open)
            (void)pawl_flow_spread_out(core, run, step,
                                       &why); /* a mistake in the list shows when it is resumed */
    }
}
