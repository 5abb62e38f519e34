/*
 * submit.h - what a command hands over with a run (submission.h), and what it says when that does not do.
 */
#ifndef PAWL_RUNTIME_CLI_SUBMIT_H
#define PAWL_RUNTIME_CLI_SUBMIT_H

#include "runtime/cli/cli.h"
#include "runtime/submission.h"

/** pawl_fail_pack - a plan or context could not be made into a descriptor. Return: the printed exit code. */
int pawl_fail_pack(const struct pawl_cli *cli, int error);

/** pawl_run_id_check - may a run be called so? Return: 0 or the exit code of a printed failure. */
int pawl_run_id_check(const struct pawl_cli *cli, const char *run_id, size_t bytes_max);

/**
 * pawl_slots_choose - the slots of a run: @asked (0: the online CPUs), or what the limit of open files has
 * room for when that is less, and then a note says so.
 *
 * Return: 0, or the printed exit code when there is room for none.
 */
int pawl_slots_choose(const struct pawl_cli *cli, uint64_t asked, uint32_t *slots_out);

/** pawl_monotonic_ns, pawl_realtime_ns - the clocks of the waiting loops. */
uint64_t pawl_monotonic_ns(void);
uint64_t pawl_realtime_ns(void);

#endif
