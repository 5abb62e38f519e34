/*
 * consume_print.h - a delivery as a line of JSON (SPEC 4), and what a command gets to know of it.
 */
#ifndef PAWL_RUNTIME_CLI_CONSUME_PRINT_H
#define PAWL_RUNTIME_CLI_CONSUME_PRINT_H

#include <stdio.h>

#include "runtime/pawl.h"

/** pawl_delivery_print - one line; @tag NULL: it was only looked at. 0, or -errno when it cannot be written.
 */
int pawl_delivery_print(const struct pawl_delivery *delivery, const char *tag, FILE *stream);

/** pawl_delivery_environment - this process's environment, and the delivery: PAWL_QUEUE, PAWL_TOPIC,
 * PAWL_EVENT, PAWL_ATTEMPT, PAWL_DELIVERY, PAWL_STATE, PAWL_HEADER_<NAME>. One allocation, to be free()d;
 * NULL without memory. */
char **pawl_delivery_environment(const struct pawl_delivery *delivery, const char *tag, const char *state);

#endif
