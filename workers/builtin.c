/*
 * builtin.c - work that needs no process: `use: noop`.
 *
 * Runs in: worker.
 */
#include "workers/builtin.h"

void pawl_builtin_noop(uint64_t now_realtime_ns, struct pawl_settlement *settlement)
{
    settlement->outcome = PAWL_OUTCOME_EXITED;
    settlement->exit_code = 0;
    settlement->started_at_ns = now_realtime_ns;
    settlement->duration_ns = 0;
}
