/*
 * graph_parts.h - shared by the drawings. For graph*.c alone.
 */
#ifndef PAWL_RUNTIME_GRAPH_PARTS_H
#define PAWL_RUNTIME_GRAPH_PARTS_H

#include <stdio.h>
#include <stdlib.h>

#include "scheduler/plan.h"

/** pawl_graph_layers - for each step the length of the longest way to it; the caller frees it; NULL: out of
 * memory. */
uint32_t *pawl_graph_layers(const struct pawl_plan *plan);

/** pawl_graph_write_ascii - the picture in text. Return: 0, -ENOMEM. */
int pawl_graph_write_ascii(const struct pawl_plan *plan, FILE *stream);

#endif
