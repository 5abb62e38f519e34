/*
 * figures.h - the scheduler's share of the metrics segment: what is counted where it happens, and what is
 * looked at now and then.
 *
 * Runs in: scheduler. Without a segment (loop->metrics is NULL) all of it does nothing. Readers cost nothing:
 * they look at memory.
 */
#ifndef PAWL_SCHEDULER_FIGURES_H
#define PAWL_SCHEDULER_FIGURES_H

#include <stdint.h>

#include "scheduler/journal.h"
#include "scheduler/loop.h"
#include "shm/client_lane.h"
#include "shm/event.h"

struct pawl_worker;

/* Counted as it happens. */
void pawl_figures_delivered(struct pawl_loop *loop, const struct pawl_inbound_entry *entry,
                            const struct pawl_event *event);
void pawl_figures_confirmed(struct pawl_loop *loop, const struct pawl_reply *reply);
void pawl_figures_clients(struct pawl_loop *loop);
void pawl_figures_worker_lost(struct pawl_loop *loop);
void pawl_figures_handler_lost(struct pawl_loop *loop);
void pawl_figures_commit(void *ctx, const struct pawl_journal_commit *commit); /* on_commit; @ctx: the loop */

uint32_t pawl_figures_worker_state(const struct pawl_worker *worker); /* enum pawl_process_state */

/** pawl_figures_sample - memory, workers, the state of the journal: as they are now. */
void pawl_figures_sample(struct pawl_loop *loop);

/**
 * pawl_figures_turn - at most once a second, and once more after the last turn
 *
 * Return: when to look again (boottime); UINT64_MAX: nothing can have changed since it looked.
 */
uint64_t pawl_figures_turn(struct pawl_loop *loop);

#endif
