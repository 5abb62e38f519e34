/*
 * handlers.h - handler processes that the supervisor has beside the workers, and the one that answers HTTP:
 * for `pawl health` and the figures.
 *
 * Runs in: scheduler. To it handlers are clients as others are; only the supervisor knows which.
 */
#ifndef PAWL_SCHEDULER_HANDLERS_H
#define PAWL_SCHEDULER_HANDLERS_H

#include "scheduler/loop.h"
#include "shm/wire.h"

/** pawl_handlers_message - HANDLER_UP or HANDLER_DOWN of the supervisor. False: another message. */
bool pawl_handlers_message(struct pawl_loop *loop, const struct pawl_wire_message *message);

/** pawl_handlers_count - how many handlers there are, by enum pawl_process_state, added to @count */
void pawl_handlers_count(const struct pawl_loop *loop, uint64_t count[PAWL_PROCESS_LEAVING + 1]);

/** pawl_handlers_gone - the supervisor is not heard any more. */
void pawl_handlers_gone(struct pawl_loop *loop);

/** pawl_handlers_look - what one of them does now. False: there are no more than @index. */
bool pawl_handlers_look(const struct pawl_loop *loop, uint32_t index, struct pawl_wire_process *process_out);

#endif
