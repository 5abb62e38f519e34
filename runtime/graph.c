/*
 * graph.c - a plan drawn: dot, mermaid, JSON. The text picture is graph_ascii.c.
 *
 * Runs in clients. Writes to a stream, nothing else.
 */
#include "runtime/graph.h"

#include <errno.h>
#include <string.h>

#include "runtime/graph_parts.h"
#include "scheduler/expr.h"
#include "scheduler/value.h"
#include "shm/error.h"

int pawl_graph_format_parse(const char *name, enum pawl_graph_format *format_out)
{
    static const char *const names[] = {"ascii", "dot", "mermaid", "json"};
    for (int i = 0; i < 4; i++)
        if (strcmp(name, names[i]) == 0) {
            *format_out = (enum pawl_graph_format)i;
            return 0;
        }
    return PAWL_E_INVALID;
}

static int to_stream(void *context, const void *bytes, size_t length)
{
    return fwrite(bytes, 1, length, context) == length ? 0 : -EIO;
}

static void put_json_text(FILE *stream, const char *text)
{
    struct pawl_value value = pawl_value_text(text);
    pawl_value_write_json(&value, to_stream, stream);
}

static const char *kind_name(const struct pawl_plan_step *step)
{
    return step->kind == PAWL_STEP_EXEC ? "run" : step->kind == PAWL_STEP_SHELL ? "shell" : "noop";
}

/* ---- dot ---- */

/* Names have no quotes and no backslashes: SPEC's letters alone. */
static void write_dot(const struct pawl_plan *plan, FILE *stream)
{
    fprintf(stream, "digraph \"%s\" {\n    rankdir=LR;\n    node [shape=box];\n", pawl_plan_name(plan));
    for (uint32_t i = 0; i < pawl_plan_step_count(plan); i++) {
        const struct pawl_plan_step *step = pawl_plan_step(plan, i);
        fprintf(stream, "    \"%s\"", pawl_plan_step_name(plan, i));
        if (pawl_step_is_many(step))
            fprintf(stream, " [peripheries=2]");
        if (step->when != PAWL_PLAN_NONE)
            fprintf(stream, " [style=dashed]");
        fprintf(stream, ";\n");
    }
    for (uint32_t i = 0; i < pawl_plan_step_count(plan); i++) {
        const struct pawl_plan_step *step = pawl_plan_step(plan, i);
        const uint32_t *needs = pawl_plan_needs(plan, step);
        for (uint32_t n = 0; n < step->needs.count; n++)
            fprintf(stream, "    \"%s\" -> \"%s\";\n", pawl_plan_step_name(plan, needs[n]),
                    pawl_plan_step_name(plan, i));
    }
    fprintf(stream, "}\n");
}

/* ---- mermaid: nodes go by number, as a name like `end` is a word of its own there ---- */

static void write_mermaid(const struct pawl_plan *plan, FILE *stream)
{
    fprintf(stream, "flowchart LR\n");
    for (uint32_t i = 0; i < pawl_plan_step_count(plan); i++) {
        bool many = pawl_step_is_many(pawl_plan_step(plan, i));
        fprintf(stream, "    s%u%s\"%s\"%s\n", i, many ? "[[" : "[", pawl_plan_step_name(plan, i),
                many ? "]]" : "]");
    }
    for (uint32_t i = 0; i < pawl_plan_step_count(plan); i++) {
        const struct pawl_plan_step *step = pawl_plan_step(plan, i);
        const uint32_t *needs = pawl_plan_needs(plan, step);
        for (uint32_t n = 0; n < step->needs.count; n++)
            fprintf(stream, "    s%u --> s%u\n", needs[n], i);
    }
}

/* ---- json ---- */

static void put_names(const struct pawl_plan *plan, const uint32_t *steps, uint32_t count, FILE *stream)
{
    fputc('[', stream);
    for (uint32_t i = 0; i < count; i++) {
        fprintf(stream, "%s", i ? "," : "");
        put_json_text(stream, pawl_plan_step_name(plan, steps[i]));
    }
    fputc(']', stream);
}

static int write_json(const struct pawl_plan *plan, FILE *stream)
{
    uint32_t *layers = pawl_graph_layers(plan);
    if (!layers)
        return -ENOMEM;
    fprintf(stream, "{\"schema\":1,\"workflow\":");
    put_json_text(stream, pawl_plan_name(plan));
    fprintf(stream, ",\"steps\":[");
    for (uint32_t i = 0; i < pawl_plan_step_count(plan); i++) {
        const struct pawl_plan_step *step = pawl_plan_step(plan, i);
        fprintf(stream, "%s{\"step\":", i ? "," : "");
        put_json_text(stream, pawl_plan_step_name(plan, i));
        fprintf(stream,
                ",\"kind\":\"%s\",\"layer\":%u,\"many\":%s,\"conditional\":%s,\"always\":%s,\"needs\":",
                kind_name(step), layers[i], pawl_step_is_many(step) ? "true" : "false",
                step->when != PAWL_PLAN_NONE ? "true" : "false",
                step->flags & PAWL_STEP_ALWAYS ? "true" : "false");
        put_names(plan, pawl_plan_needs(plan, step), step->needs.count, stream);
        fprintf(stream, ",\"dependents\":");
        put_names(plan, pawl_plan_dependents(plan, step), step->dependents.count, stream);
        fputc('}', stream);
    }
    fprintf(stream, "]}\n");
    free(layers);
    return 0;
}

/* ---- entry ---- */

uint32_t *pawl_graph_layers(const struct pawl_plan *plan)
{
    uint32_t count = pawl_plan_step_count(plan);
    uint32_t *layers = calloc((size_t)count + 1, sizeof *layers);
    const uint32_t *order = pawl_plan_order(plan);
    for (uint32_t i = 0; layers && i < count; i++) {
        const struct pawl_plan_step *step = pawl_plan_step(plan, order[i]);
        const uint32_t *needs = pawl_plan_needs(plan, step);
        for (uint32_t n = 0; n < step->needs.count; n++)
            if (layers[needs[n]] >= layers[order[i]])
                layers[order[i]] = layers[needs[n]] + 1;
    }
    return layers;
}

int pawl_graph_write(const struct pawl_plan *plan, enum pawl_graph_format format, FILE *stream)
{
    int error = 0;
    switch (format) {
    case PAWL_GRAPH_ASCII:
        error = pawl_graph_write_ascii(plan, stream);
        break;
    case PAWL_GRAPH_DOT:
        write_dot(plan, stream);
        break;
    case PAWL_GRAPH_MERMAID:
        write_mermaid(plan, stream);
        break;
    case PAWL_GRAPH_JSON:
        error = write_json(plan, stream);
        break;
    }
    if (error == 0 && (fflush(stream) != 0 || ferror(stream)))
        error = errno ? -errno : -EIO;
    return error;
}
