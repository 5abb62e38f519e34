/*
 * reload.h - the configuration in force: read at the start, and again on SIGHUP.
 *
 * Runs in: scheduler. How a configuration is written the scheduler does not know: its options have a function
 * that reads and checks one.
 */
#ifndef PAWL_SCHEDULER_RELOAD_H
#define PAWL_SCHEDULER_RELOAD_H

#include <stddef.h>

struct pawl_loop;

/** pawl_reload_first - the start: loop->config. 0, or an error with words: one line a mistake. */
int pawl_reload_first(struct pawl_loop *loop, char *text, size_t bytes);

/** pawl_reload_declare - the queues that the configuration names, once the bus has begun. */
void pawl_reload_declare(struct pawl_loop *loop);

/** pawl_reload - SIGHUP: the new one, or, when it has a mistake, the old one goes on and the log says why. */
void pawl_reload(struct pawl_loop *loop);

#endif
