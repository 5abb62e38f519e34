/*
 * dry_run.h - what `pawl run -n` says: what would run and why, and with --resume what is kept.
 */
#ifndef PAWL_RUNTIME_CLI_DRY_RUN_H
#define PAWL_RUNTIME_CLI_DRY_RUN_H

#include "runtime/cli/run_view.h"

/**
 * pawl_dry_run_print - on stdout
 * @old:  the run that would be gone on with, or NULL
 * @runs: how many runs --inputs would start; 0 without
 *
 * Return: 0 or a printed exit code.
 */
int pawl_dry_run_print(const struct pawl_cli *cli, const struct pawl_plan *plan, struct pawl_run_view *old,
                       uint64_t runs);

#endif
