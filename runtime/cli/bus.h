/*
 * bus.h - a verb's way to the event bus: pawl.h, with failures printed.
 *
 * Functions return 0, or the exit code of a failure that has been printed.
 */
#ifndef PAWL_RUNTIME_CLI_BUS_H
#define PAWL_RUNTIME_CLI_BUS_H

#include <stdbool.h>

#include <jansson.h>

#include "runtime/cli/cli.h"
#include "runtime/pawl.h"

/** pawl_bus_open - connect; starts a scheduler for the verb's own duration when nobody serves.
 * @create: make a state directory that is not there; without it that is a failure (exit 1). */
int pawl_bus_open(const struct pawl_cli *cli, bool create, struct pawl **pawl_out);

/** pawl_bus_ask - one administrative request; takes over @request. *@reply_out is a new reference. */
int pawl_bus_ask(const struct pawl_cli *cli, struct pawl *pawl, json_t *request, json_t **reply_out);

/** pawl_bus_do - open, ask, close: for verbs of one request. */
int pawl_bus_do(const struct pawl_cli *cli, bool create, json_t *request, json_t **reply_out);

/** pawl_bus_fail - what a call of pawl.h ended with. @format: what was tried. Return: its exit code. */
int pawl_bus_fail(const struct pawl_cli *cli, const struct pawl *pawl, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/** pawl_bus_exit - the exit code of an error of pawl.h. */
int pawl_bus_exit(int error);

/** pawl_bus_request - {"op": op}, and "queue" or another key if @key is not NULL. */
json_t *pawl_bus_request(const char *op, const char *key, const char *value);

/** pawl_bus_check_name - is it a name that a queue can have? else prints; 0 or exit code 2. */
int pawl_bus_check_name(const struct pawl_cli *cli, const char *name);

/** pawl_bus_text, pawl_bus_count - a member of a reply; "" and 0 when it is not there. */
const char *pawl_bus_text(const json_t *object, const char *key);
uint64_t pawl_bus_count(const json_t *object, const char *key);

#endif
