/*
 * take.h - a take that waits for as long as its command does.
 *
 * For commands of pawl itself; programs have pawl_take().
 */
#ifndef PAWL_RUNTIME_LIB_TAKE_H
#define PAWL_RUNTIME_LIB_TAKE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/pawl.h"

/**
 * pawl_lib_take_until - pawl_take() that ends early, without losing anything, when @stop_fd is readable
 * @wait_ns: UINT64_MAX: for ever
 *
 * Sleeps until a delivery, the end of @wait_ns, or @stop_fd: never wakes up in between.
 *
 * Return: how many; 0: none came; -EINTR: stopped before it could ask; or as pawl_take().
 */
int pawl_lib_take_until(struct pawl *pawl, const char *queue, const char *group, size_t count,
                        uint64_t wait_ns, int stop_fd, struct pawl_taken **taken_out);

#endif
