/*
 * plan_builder.h - making a plan: used by the workflow loader and by `pawl map`.
 *
 * Order of calls: create; params; steps (names first, then what each needs, output, foreach); env and
 * templates; finish. Runs in clients only. Every add may fail with -ENOMEM or PAWL_E_LIMIT and leaves the
 * builder usable for destroy alone.
 */
#ifndef PAWL_SCHEDULER_PLAN_BUILDER_H
#define PAWL_SCHEDULER_PLAN_BUILDER_H

#include "scheduler/plan.h"

struct pawl_plan_builder;

int pawl_plan_builder_create(const char *name, const char *source, struct pawl_plan_builder **builder_out);
void pawl_plan_builder_destroy(struct pawl_plan_builder *builder); /* NULL is fine */

/** pawl_plan_add_string - intern bytes (no NUL inside); equal bytes give equal strings. */
int pawl_plan_add_string(struct pawl_plan_builder *builder, const char *bytes, size_t length,
                         struct pawl_plan_string *string_out);

/** pawl_plan_add_value - store a constant, deeply. */
int pawl_plan_add_value(struct pawl_plan_builder *builder, const struct pawl_value *value,
                        uint32_t *value_out);

int pawl_plan_add_param(struct pawl_plan_builder *builder, const char *name, const struct pawl_value *value);

/** pawl_plan_add_step - a step with defaults: NOOP, no templates, grace 10 s, no retries. Names are checked
 * by the caller. */
int pawl_plan_add_step(struct pawl_plan_builder *builder, const char *name, uint32_t *step_index_out);

/** pawl_plan_builder_find_step - index of a step by name; PAWL_PLAN_NONE. */
uint32_t pawl_plan_builder_find_step(const struct pawl_plan_builder *builder, const char *name,
                                     size_t name_bytes);

/** pawl_plan_builder_step_name - NUL-terminated; valid until the next string is added. */
const char *pawl_plan_builder_step_name(const struct pawl_plan_builder *builder, uint32_t step_index);

/** pawl_plan_builder_env - the workflow's env entries, as set. */
struct pawl_plan_run pawl_plan_builder_env(const struct pawl_plan_builder *builder);

/**
 * pawl_plan_edit_step - the step's record, to set kind, flags, output, templates, times, retry; valid until
 * the next add_step
 *
 * argv, env, needs, axes and exit code runs are set by the functions below, dependents, order and hash by
 * finish.
 */
struct pawl_plan_step *pawl_plan_edit_step(struct pawl_plan_builder *builder, uint32_t step_index);

int pawl_plan_set_needs(struct pawl_plan_builder *builder, uint32_t step_index, const uint32_t *needs,
                        uint32_t count);
int pawl_plan_set_argv(struct pawl_plan_builder *builder, uint32_t step_index, const uint32_t *templates,
                       uint32_t count);
int pawl_plan_set_axes(struct pawl_plan_builder *builder, uint32_t step_index,
                       const struct pawl_plan_axis *axes, uint32_t count);
int pawl_plan_set_exit_codes(struct pawl_plan_builder *builder, const int32_t *codes, uint32_t count,
                             struct pawl_plan_run *run_out);

/** pawl_plan_set_env - entries of a step, or of the workflow (PAWL_PLAN_NONE); once each. */
int pawl_plan_set_env(struct pawl_plan_builder *builder, uint32_t step_index,
                      const struct pawl_plan_env *entries, uint32_t count);

/** pawl_plan_add_constant - a template that is just this value. */
int pawl_plan_add_constant(struct pawl_plan_builder *builder, const struct pawl_value *value,
                           uint32_t *template_index_out);

/** pawl_plan_add_text - a template that is just this text, `${{` being nothing special. */
int pawl_plan_add_text(struct pawl_plan_builder *builder, const char *text, uint32_t *template_index_out);

/**
 * pawl_plan_find_cycle - do steps need each other in a circle? Looks at needs alone; fit to be asked before
 * finish.
 *
 * Arguments as for pawl_plan_finish. Return: 0; PAWL_E_INVALID (a cycle); -ENOMEM.
 */
int pawl_plan_find_cycle(struct pawl_plan_builder *builder, uint32_t *cycle_out, uint32_t *cycle_count);

/**
 * pawl_plan_finish - lay out, order, hash, checksum, and open the result
 * @cycle_out:   NULL, or room for @cycle_max step indices: on a cycle, a -> b -> ... without the repeated
 * first one
 * @cycle_count: in: room; out: how many were written (0 if there is no cycle)
 *
 * The builder is to be destroyed afterwards in any case.
 *
 * Return: 0; PAWL_E_INVALID (cycle); PAWL_E_LIMIT; -ENOMEM.
 */
int pawl_plan_finish(struct pawl_plan_builder *builder, uint32_t *cycle_out, uint32_t *cycle_count,
                     struct pawl_plan **plan_out);

#endif
