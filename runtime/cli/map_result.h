/*
 * map_result.h - results of a map's tasks: taken from the scheduler, recorded, printed in their order.
 */
#ifndef PAWL_RUNTIME_CLI_MAP_RESULT_H
#define PAWL_RUNTIME_CLI_MAP_RESULT_H

#include "runtime/cli/map_talk.h"

/** pawl_map_results_take - the answer to a PULL, or (@fetched) to a FETCH. Return: 0 or an error. */
int pawl_map_results_take(struct pawl_map_talk *m, const struct pawl_wire_message *message, bool fetched);

/** pawl_map_results_take_early - those that came before their items were known. Return: 0 or an error. */
int pawl_map_results_take_early(struct pawl_map_talk *m);
void pawl_map_results_free_early(struct pawl_map_talk *m);

/** pawl_map_results_print - -k: print as far as results are here. */
void pawl_map_results_print(struct pawl_map_talk *m);

/** pawl_map_results_skip_gaps - the run is over, nothing more ends: what never ran is not waited for. */
void pawl_map_results_skip_gaps(struct pawl_map_talk *m);

/** pawl_map_results_are_printed - is nothing left to be fetched or printed? */
bool pawl_map_results_are_printed(const struct pawl_map_talk *m);

#endif
