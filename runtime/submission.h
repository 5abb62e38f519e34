/*
 * submission.h - what is handed over with a run: its surroundings, the plan, who it is.
 *
 * Runs in: commands, and programs that submit through libpawl.
 */
#ifndef PAWL_RUNTIME_SUBMISSION_H
#define PAWL_RUNTIME_SUBMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scheduler/plan.h"
#include "shm/wire.h"

enum { PAWL_SLOTS_MAX = 4096 };

/** pawl_context_memfd - directory, environment, umask, limits, niceness of this process. Return: descriptor,
 * -errno. */
int pawl_context_memfd(void);

/** pawl_plan_memfd - Return: descriptor or -errno. */
int pawl_plan_memfd(const struct pawl_plan *plan);

/** pawl_identity - what --resume knows a run by: the file's real path, the workflow, its parameters. */
uint64_t pawl_identity(const char *file, const struct pawl_plan *plan);

/** pawl_run_id_make - date, time and chance: 20260131-120000-bcd45. */
void pawl_run_id_make(char run_id[PAWL_NAME_BYTES]);

/** pawl_run_id_is_good - may a run be called so? */
bool pawl_run_id_is_good(const char *run_id, size_t bytes_max);

/**
 * pawl_submit_may_go_again - was it refused for a reason that passes by itself?
 * @error: of SUBMIT; @passed_ns: since the first try
 *
 * The command of the run that is resumed has just died: its jobs have their grace (-EAGAIN), or the scheduler
 * has not even seen its death (PAWL_E_BUSY). Going on after a kill must not need a second try by hand.
 */
bool pawl_submit_may_go_again(int error, uint64_t passed_ns);

/** pawl_online_cpus - how many slots a run has when nobody says. */
uint32_t pawl_online_cpus(void);

#endif
