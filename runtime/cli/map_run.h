/*
 * map_run.h - the conversation of a map: items out, results in, all at once.
 */
#ifndef PAWL_RUNTIME_CLI_MAP_RUN_H
#define PAWL_RUNTIME_CLI_MAP_RUN_H

#include "runtime/cli/map_input.h"
#include "runtime/cli/map_output.h"
#include "runtime/cli/map_template.h"
#include "runtime/cli/session.h"

struct pawl_map_options {
    bool keep_order, line_buffer, new_only;
    uint64_t timeout_ns, grace_ns; /* of each task */
};

/**
 * pawl_map_run - feed the submitted run from the input until both are over
 * @submitted: what SUBMIT was answered
 * @output:    its tag, results_dir, joblog and template are set; the rest is filled in
 *
 * Return: the command's exit code.
 */
int pawl_map_run(struct pawl_session *session, const struct pawl_map_options *options,
                 struct pawl_map_template *map_template, struct pawl_map_input *input,
                 struct pawl_map_output *output, const struct pawl_wire_submitted *submitted);

#endif
