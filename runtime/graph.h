/*
 * graph.h - a plan as a picture: text, dot, mermaid or JSON.
 */
#ifndef PAWL_RUNTIME_GRAPH_H
#define PAWL_RUNTIME_GRAPH_H

#include <stdio.h>

#include "scheduler/plan.h"

enum pawl_graph_format {
    PAWL_GRAPH_ASCII = 0,
    PAWL_GRAPH_DOT = 1,
    PAWL_GRAPH_MERMAID = 2,
    PAWL_GRAPH_JSON = 3
};

/** pawl_graph_format_parse - by name ("ascii", "dot", "mermaid", "json"). Return: 0, PAWL_E_INVALID. */
int pawl_graph_format_parse(const char *name, enum pawl_graph_format *format_out);

/** pawl_graph_write - draw @plan on @stream. Return: 0, -errno of the stream, -ENOMEM. */
int pawl_graph_write(const struct pawl_plan *plan, enum pawl_graph_format format, FILE *stream);

#endif
