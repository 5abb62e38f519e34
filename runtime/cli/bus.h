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

/** pawl_cli_open - connect to ask; starts a scheduler for the verb's own duration when nobody serves.
 * @create: make a state directory that is not there; without it that is a failure (exit 2). */
int pawl_cli_open(const struct pawl_cli *cli, bool create, struct pawl **pawl_out);

/** pawl_cli_attach - the same for a verb that publishes or consumes: one of the `clients`. */
int pawl_cli_attach(const struct pawl_cli *cli, bool create, struct pawl **pawl_out);

/** pawl_cli_hear - print what the scheduler says of what waits. */
void pawl_cli_hear(const struct pawl_cli *cli, struct pawl *pawl);

/** pawl_cli_ask - one administrative request; takes over @request. *@reply_out is a new reference. */
int pawl_cli_ask(const struct pawl_cli *cli, struct pawl *pawl, json_t *request, json_t **reply_out);

/** pawl_cli_do - open, ask, close: for verbs of one request. */
int pawl_cli_do(const struct pawl_cli *cli, bool create, json_t *request, json_t **reply_out);

/** pawl_cli_fail - what a call of pawl.h ended with. @format: what was tried. Return: its exit code. */
int pawl_cli_fail(const struct pawl_cli *cli, const struct pawl *pawl, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/** pawl_cli_exit - the exit code of an error of pawl.h. */
int pawl_cli_exit(int error);

/** pawl_cli_request - {"op": op}, and "queue" or another key if @key is not NULL. */
json_t *pawl_cli_request(const char *op, const char *key, const char *value);

/** pawl_cli_check_name - is it a name that a queue can have? else prints; 0 or exit code 2. */
int pawl_cli_check_name(const struct pawl_cli *cli, const char *name);

/** pawl_cli_text, pawl_cli_count - a member of a reply; "" and 0 when it is not there. */
const char *pawl_cli_text(const json_t *object, const char *key);
uint64_t pawl_cli_count(const json_t *object, const char *key);

#endif
