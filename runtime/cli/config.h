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

#endif
