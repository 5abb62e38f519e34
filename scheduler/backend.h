/*
 * backend.h - the table through which the bus acts on one machine. ctx: struct pawl_loop.
 */
#ifndef PAWL_SCHEDULER_BACKEND_H
#define PAWL_SCHEDULER_BACKEND_H

#include "scheduler/loop.h"

extern const struct pawl_bus_backend pawl_journal_backend;

#endif
