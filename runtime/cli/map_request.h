/*
 * map_request.h - what a map asks the scheduler for. Messages are queued on the session's wire; the loop
 * sends.
 */
#ifndef PAWL_RUNTIME_CLI_MAP_REQUEST_H
#define PAWL_RUNTIME_CLI_MAP_REQUEST_H

#include "runtime/cli/map_talk.h"

/** pawl_map_request_more - everything that may be asked for now. Return: 0 or an error. */
int pawl_map_request_more(struct pawl_map_talk *m);

/** pawl_map_request_again - after a reconnect: what was asked for and not answered. Return: 0 or an error. */
int pawl_map_request_again(struct pawl_map_talk *m);

/** pawl_map_request_cancel - as hard as the signals that came. Return: 0 or an error. */
int pawl_map_request_cancel(struct pawl_map_talk *m);

/** pawl_map_request_fail_input - the input cannot go on: say so once, stop, let what runs end. */
void pawl_map_request_fail_input(struct pawl_map_talk *m, int error);

#endif
