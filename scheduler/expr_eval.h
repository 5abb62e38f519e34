/*
 * expr_eval.h - the state of one evaluation. For expr_eval.c and expr_call.c alone.
 */
#ifndef PAWL_SCHEDULER_EXPR_EVAL_H
#define PAWL_SCHEDULER_EXPR_EVAL_H

#include "scheduler/expr.h"
#include "scheduler/plan_format.h"

struct pawl_evaluation {
    const struct pawl_plan *plan;
    const struct pawl_expr_env *env;
    struct pawl_arena *arena;
    struct pawl_expr_error *error; /* never NULL */
    uint32_t template_index;       /* at hand: messages quote its source */
    uint32_t nodes_left;           /* to be visited before the evaluation is given up */
};

/** pawl_eval_refuse - write the error's text, after the template's source; returns @code. */
__attribute__((format(printf, 3, 4))) int pawl_eval_refuse(struct pawl_evaluation *evaluation, int code,
                                                           const char *format, ...);

/** pawl_eval_operator - operators of two values (EQ to GET). */
int pawl_eval_operator(struct pawl_evaluation *evaluation, enum pawl_op op, const struct pawl_value *left,
                       const struct pawl_value *right, struct pawl_value *value_out);

/** pawl_eval_call - functions of values (LEN to QUOTE without DEFAULT). */
int pawl_eval_call(struct pawl_evaluation *evaluation, enum pawl_op op, const struct pawl_value *arguments,
                   uint32_t count, struct pawl_value *value_out);

/** pawl_eval_type - "`+` takes numbers, not text". */
int pawl_eval_type(struct pawl_evaluation *evaluation, enum pawl_op op, const struct pawl_value *value);

/** pawl_eval_text - a value's text, at most 1 MiB; an error with text otherwise. */
int pawl_eval_text(struct pawl_evaluation *evaluation, const struct pawl_value *value, const char **bytes_out,
                   size_t *length_out);

/** pawl_eval_made - @length bytes for a text that is being made; NULL after an error, which is in
 * *@error_out. */
char *pawl_eval_made(struct pawl_evaluation *evaluation, size_t length, int *error_out);

#endif
