/*
 * expr.h - templates: text with zero or more ${{ expression }}, compiled when a file is loaded, evaluated
 * when a task is made.
 *
 * A template is an expression tree in the plan blob: nodes are 16 bytes, children stand before their parent,
 * each node has one parent, so evaluation visits a node at most once and ends. A whole-value expression keeps
 * its type; a mixed one gives text. Runs in: clients (compile) and scheduler (evaluate). Does no I/O; reads
 * only what the environment's callbacks give it.
 */
#ifndef PAWL_SCHEDULER_EXPR_H
#define PAWL_SCHEDULER_EXPR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scheduler/arena.h"
#include "scheduler/plan.h"
#include "scheduler/plan_builder.h"
#include "scheduler/value.h"

enum {
    PAWL_EXPR_TEXT_BYTES_MAX =
        1 << 20,              /* text made by an expression, and text used in argv, env, dir, shell */
    PAWL_EXPR_DEPTH_MAX = 64, /* nesting of an expression */
    PAWL_EXPR_SOURCE_BYTES_MAX = 1 << 20 /* one template's source, if it holds an expression */
};

enum pawl_expr_step_field {
    PAWL_EXPR_STEP_OUTPUT =
        0, /* steps.S.output: text (STRING, one trailing newline gone), LINES, or JSON value */
    PAWL_EXPR_STEP_OUTPUTS =
        1, /* steps.S.outputs: list of the outputs of the instances, in order (1 without foreach) */
    PAWL_EXPR_STEP_EXIT_CODE = 2, /* INT, or NULL when it did not run or was ended by a signal */
    PAWL_EXPR_STEP_STATE = 3,     /* STRING: "succeeded", ... */
    PAWL_EXPR_STEP_NAMED = 4      /* steps.S.<name>: what the step wrote to PAWL_OUTPUT */
};

enum pawl_expr_outcome {
    PAWL_EXPR_SUCCESS = 0, /* success(): nothing that this step needs has failed */
    PAWL_EXPR_FAILED = 1   /* failed(): something that this step needs has failed. always() is plainly true */
};

/* What an evaluation may ask. Callbacks return 0, PAWL_E_NOT_FOUND (an evaluation error unless under
 * default()), or another error that ends the evaluation and is returned. They are called with indices that
 * the plan's validator has checked. */
struct pawl_expr_env {
    void *context;
    /* @name is set for PAWL_EXPR_STEP_NAMED alone. The value must stay valid as long as @arena does. */
    int (*step_field)(void *context, uint32_t step_index, enum pawl_expr_step_field field, const char *name,
                      size_t name_bytes, struct pawl_arena *arena, struct pawl_value *value_out);
    /* A variable of the submitter's environment; PAWL_E_NOT_FOUND makes it null. The workflow's own `env:`
     * was looked up before. */
    int (*env_var)(void *context, const char *name, size_t name_bytes, struct pawl_arena *arena,
                   struct pawl_value *value_out);
    int (*outcome)(void *context, enum pawl_expr_outcome outcome, bool *holds_out);
    const char *run_id; /* run.id */
    size_t run_id_bytes;
    const struct pawl_value *item; /* NULL: not set here (an evaluation error if asked for) */
    uint64_t index;                /* meaningful with item */
};

struct pawl_expr_error {
    char text[384]; /* names the expression: "${{ 1 / params.n }}: division by zero"; empty if the error has
                       no text */
};

/**
 * pawl_template_eval - the value of a template
 * @plan:      opened (validated)
 * @env:       callbacks may be NULL if the template's flags say that it does not ask
 * @value_out: borrows from @plan, @arena and what the callbacks gave
 * @error_out: may be NULL; written on every error
 *
 * Return: 0; PAWL_E_INVALID (evaluation error: type, missing key, overflow, division by zero); PAWL_E_LIMIT
 * (made text above 1 MiB, arena full); a callback's error.
 */
int pawl_template_eval(const struct pawl_plan *plan, uint32_t template_index, const struct pawl_expr_env *env,
                       struct pawl_arena *arena, struct pawl_value *value_out,
                       struct pawl_expr_error *error_out);

/**
 * pawl_template_eval_text - the text of a template for argv, env, dir, shell: NUL-terminated, no NUL inside,
 * at most 1 MiB
 *
 * The text of a constant lies in the plan, else in @arena. Errors as for pawl_template_eval; PAWL_E_INVALID
 * also for a NUL.
 */
int pawl_template_eval_text(const struct pawl_plan *plan, uint32_t template_index,
                            const struct pawl_expr_env *env, struct pawl_arena *arena, const char **text_out,
                            size_t *length_out, struct pawl_expr_error *error_out);

/** pawl_template_eval_condition - pawl_value_truth of a template's value. Errors as for pawl_template_eval.
 */
int pawl_template_eval_condition(const struct pawl_plan *plan, uint32_t template_index,
                                 const struct pawl_expr_env *env, struct pawl_arena *arena, bool *holds_out,
                                 struct pawl_expr_error *error_out);

/**
 * pawl_template_constant - the text of a template without expressions
 *
 * Return: NUL-terminated, in the plan; NULL if it has an expression or is not text.
 */
const char *pawl_template_constant(const struct pawl_plan *plan, uint32_t template_index, size_t *length_out);

/* ---- compiling (clients) ---- */

enum pawl_expr_scope_flags {
    PAWL_EXPR_SCOPE_ITEM = 1u << 0,   /* `item` and `index` have a value here */
    PAWL_EXPR_SCOPE_STEPS = 1u << 1,  /* steps.X may be asked, if the step needs X */
    PAWL_EXPR_SCOPE_OUTCOME = 1u << 2 /* success() failed() always() may be called */
};

struct pawl_expr_scope {
    uint32_t flags;
    uint32_t step_index;   /* PAWL_PLAN_NONE outside of a step */
    uint32_t env_first[2]; /* runs of env entries of the builder that env.X looks in, later ones first:
                              step's, workflow's */
    uint32_t env_count[2];
};

struct pawl_expr_diagnostic {
    size_t byte_offset; /* into the source */
    char text[256];
    char hint[128]; /* "did you mean `params.dir`?" or "add `needs: [list]`"; may be empty */
};

/**
 * pawl_template_compile - add a template to a plan being built
 * @source: any bytes without NUL; copied
 * @scope:  what may be named where the template stands
 *
 * Parameters and steps (names, needs, output modes, foreach) must have been added before.
 *
 * Return: 0; PAWL_E_INVALID with *@diagnostic_out; PAWL_E_LIMIT (depth, size; diagnostic too); -ENOMEM.
 */
int pawl_template_compile(struct pawl_plan_builder *builder, const struct pawl_expr_scope *scope,
                          const char *source, size_t source_bytes, uint32_t *template_index_out,
                          struct pawl_expr_diagnostic *diagnostic_out);

/** pawl_template_types - what kinds a template may give (bits 1 << enum pawl_value_kind; lazy lists are
 * LIST). */
uint32_t pawl_template_types(const struct pawl_plan_builder *builder, uint32_t template_index);

/**
 * A template out of several pieces: a list or map of a file whose elements may be templates themselves.
 * Pieces are pushed like operands on a stack; list and map take what was pushed last; finish takes the one
 * that is left.
 */
struct pawl_template_maker {
    struct pawl_plan_builder *builder;
    const struct pawl_expr_scope *scope;
    uint32_t first_node;
    uint32_t *stack; /* node indices */
    uint8_t *depths;
    uint32_t count, capacity;
};

void pawl_template_maker_init(struct pawl_template_maker *maker, struct pawl_plan_builder *builder,
                              const struct pawl_expr_scope *scope);
void pawl_template_maker_fini(
    struct pawl_template_maker *maker); /* always; after an error the builder cannot finish */
int pawl_template_maker_constant(struct pawl_template_maker *maker, const struct pawl_value *value);
int pawl_template_maker_source(struct pawl_template_maker *maker, const char *source, size_t source_bytes,
                               struct pawl_expr_diagnostic *diagnostic_out);
int pawl_template_maker_list(struct pawl_template_maker *maker,
                             uint32_t count); /* of the last @count pieces */
int pawl_template_maker_map(struct pawl_template_maker *maker,
                            uint32_t count); /* key, value, key, value, ...: 2 * @count */
int pawl_template_maker_finish(struct pawl_template_maker *maker, const char *source, size_t source_bytes,
                               uint32_t *template_index_out);

/** pawl_template_has_expression - is there a ${{ in these bytes? Writes its offset if @offset_out is not
 * NULL. */
bool pawl_template_has_expression(const char *source, size_t source_bytes, size_t *offset_out);

#endif
