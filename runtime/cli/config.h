/*
 * config.h - the configuration, as a command sees it.
 */
#ifndef PAWL_RUNTIME_CLI_CONFIG_H
#define PAWL_RUNTIME_CLI_CONFIG_H

#include "runtime/cli/cli.h"
#include "runtime/loader.h"

/** pawl_cli_load_limits - how large a workflow file may be. 0, or the exit code of a mistake that was
 * printed. */
int pawl_cli_load_limits(const struct pawl_cli *cli, struct pawl_load_limits *limits_out);

/**
 * pawl_cli_load_workflow - pawl_workflow_load(); that a FIFO is waited for is said first, since nothing else
 * would be until somebody writes into it
 */
int pawl_cli_load_workflow(const struct pawl_cli *cli, const char *file,
                           const struct pawl_load_limits *limits, struct pawl_plan **plan_out,
                           struct pawl_load_errors *errors);

/** pawl_cli_tell_fifo - say so if @file is a FIFO with a name of its own */
void pawl_cli_tell_fifo(const struct pawl_cli *cli, const char *file);

#endif
