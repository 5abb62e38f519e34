/*
 * builtin.h - work that needs no process: `use: noop`.
 *
 * Runs in a worker.
 */
#ifndef PAWL_WORKERS_BUILTIN_H
#define PAWL_WORKERS_BUILTIN_H

#include <stdint.h>

#include "shm/task.h"

/* Do nothing, successfully: fills outcome, exit_code, times of @settlement. */
void pawl_builtin_noop(uint64_t now_realtime_ns, struct pawl_settlement *settlement);

#endif
