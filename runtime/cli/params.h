/*
 * params.h - where a run's parameters come from: --set, and the lines of --inputs.
 */
#ifndef PAWL_RUNTIME_CLI_PARAMS_H
#define PAWL_RUNTIME_CLI_PARAMS_H

#include "runtime/cli/cli.h"
#include "scheduler/arena.h"
#include "scheduler/plan.h"

/* The values of --set. */
struct pawl_params {
    struct pawl_arena arena;
    struct pawl_pair *pairs;
    size_t count;
};

/** pawl_params_parse - NAME=TEXT each. Return: 0 or a printed exit code. */
int pawl_params_parse(const struct pawl_cli *cli, const struct pawl_plan *plan,
                      const struct pawl_text_list *sets, struct pawl_params *params_out);
void pawl_params_fini(struct pawl_params *params);

/**
 * pawl_params_bind - the plan with these values, and over them those of a JSON object
 * @line, @n: NULL, 0: none
 * @place: "inputs.jsonl:3" for messages, or NULL
 *
 * Return: 0 and a plan; or a printed exit code.
 */
int pawl_params_bind(const struct pawl_cli *cli, const struct pawl_plan *plan,
                     const struct pawl_params *params, const char *line, size_t n, const char *file,
                     uint32_t line_number, struct pawl_plan **plan_out);

/* The lines of --inputs, all in memory. */
struct pawl_inputs {
    const char *file;
    char *bytes;
    size_t n;
    uint64_t count; /* lines that hold something */
    size_t at;      /* of the next line */
    uint32_t line;  /* number of the line before */
};

/** pawl_inputs_read - the whole file ("-": standard input), each line checked. Return: 0 or a printed exit
 * code. */
int pawl_inputs_read(const struct pawl_cli *cli, const char *file, const struct pawl_plan *plan,
                     const struct pawl_params *params, struct pawl_inputs *inputs_out);
void pawl_inputs_fini(struct pawl_inputs *inputs);

/** pawl_inputs_next - the next line that holds something. false: none is left. */
bool pawl_inputs_next(struct pawl_inputs *inputs, const char **line_out, size_t *n_out);

/** pawl_inputs_rewind - the first line comes next. */
void pawl_inputs_rewind(struct pawl_inputs *inputs);

#endif
