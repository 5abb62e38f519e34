/*
 * graph_drawings.c - a plan drawn in each of its forms.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/graph.h"
#include "runtime/loader.h"
#include "scheduler/value.h"
#include "shm/error.h"

static const char source[] = "pawl: 1\nname: rel\nsteps:\n  fetch: {run: [a]}\n  lint: {run: [a], needs: "
                             "fetch}\n  build: {run: [a], needs: fetch}\n"
                             "  unit: {run: [a], needs: build, foreach: [1]}\n  pack: {run: [a], needs: "
                             "[lint, unit], when: true}\n  end: {use: noop, needs: pack, always: true}\n";

static char *draw(const char *text, enum pawl_graph_format format)
{
    static struct pawl_load_errors errors;
    struct pawl_plan *plan = NULL;
    char *drawing = NULL;
    size_t length;
    cr_assert(eq(int, pawl_workflow_load_memory("rel.yaml", text, strlen(text), NULL, &plan, &errors), 0));
    FILE *stream = open_memstream(&drawing, &length);
    cr_assert(eq(int, pawl_graph_write(plan, format, stream), 0));
    fclose(stream);
    pawl_plan_close(plan);
    return drawing;
}

Test(graph, ascii_has_one_line_a_step_with_lanes_for_open_needs)
{
    char *drawing = draw(source, PAWL_GRAPH_ASCII);
    cr_expect(eq(str, drawing,
                 "rel: 6 steps\n"
                 "* fetch\n"
                 "+-* lint  <- fetch\n"
                 "* | build  <- fetch\n"
                 "* | unit  [foreach]  <- build\n"
                 "*-' pack  [when]  <- lint, unit\n"
                 "* end  [always]  <- pack\n"));
    free(drawing);
}

Test(graph, dot_and_mermaid_have_each_step_and_each_need)
{
    char *dot = draw(source, PAWL_GRAPH_DOT), *mermaid = draw(source, PAWL_GRAPH_MERMAID);
    cr_expect(ne(ptr, strstr(dot, "digraph \"rel\" {"), NULL));
    cr_expect(ne(ptr, strstr(dot, "    \"unit\" [peripheries=2];\n"), NULL));
    cr_expect(ne(ptr, strstr(dot, "    \"lint\" -> \"pack\";\n"), NULL));
    cr_expect(ne(ptr, strstr(mermaid, "flowchart LR\n"), NULL));
    cr_expect(ne(ptr, strstr(mermaid, "    s5[\"end\"]\n"), NULL));
    cr_expect(ne(ptr, strstr(mermaid, "    s3[[\"unit\"]]\n"), NULL));
    cr_expect(ne(ptr, strstr(mermaid, "    s1 --> s4\n"), NULL));
    free(dot);
    free(mermaid);
}

Test(graph, json_is_json_with_layers)
{
    char *drawing = draw(source, PAWL_GRAPH_JSON);
    struct pawl_arena arena;
    struct pawl_value value;
    pawl_arena_init(&arena, 0);
    cr_assert(eq(int, pawl_value_parse_json(drawing, strlen(drawing), 16, &arena, &value, NULL), 0));
    const struct pawl_value *steps = pawl_value_get(&value, "steps", 5);
    cr_assert(eq(sz, steps->count, 6));
    const struct pawl_value *pack = &steps->items[4];
    cr_expect(eq(i64, pawl_value_get(&value, "schema", 6)->integer, 1));
    cr_expect(eq(str, (char *)pawl_value_get(pack, "step", 4)->bytes, "pack"));
    cr_expect(eq(i64, pawl_value_get(pack, "layer", 5)->integer, 3));
    cr_expect(eq(sz, pawl_value_get(pack, "needs", 5)->count, 2));
    cr_expect(pawl_value_get(pack, "conditional", 11)->boolean);
    pawl_arena_fini(&arena);
    free(drawing);
}

Test(graph, a_step_with_more_lanes_than_fit_is_still_one_line)
{
    char text[4096], *at = text;
    at += sprintf(at, "pawl: 1\nsteps:\n  root: {use: noop}\n");
    for (int i = 0; i < 40; i++)
        at += sprintf(at, "  s%d: {use: noop, needs: root}\n", i);
    at += sprintf(at, "  end: {use: noop, needs: [");
    for (int i = 0; i < 40; i++)
        at += sprintf(at, "s%d%s", i, i < 39 ? ", " : "]}\n");
    char *drawing = draw(text, PAWL_GRAPH_ASCII);
    int lines = 0, longest = 0, length = 0;
    for (char *c = drawing; *c; c++) {
        length = *c == '\n' ? 0 : length + 1;
        longest = length > longest ? length : longest;
        lines += *c == '\n';
    }
    cr_expect(eq(int, lines, 43));
    cr_expect(lt(int, longest, 120));
    free(drawing);
}

Test(graph, formats_are_known_by_name)
{
    enum pawl_graph_format format = PAWL_GRAPH_ASCII;
    cr_expect(eq(int, pawl_graph_format_parse("mermaid", &format), 0));
    cr_expect(eq(int, format, PAWL_GRAPH_MERMAID));
    cr_expect(eq(int, pawl_graph_format_parse("svg", &format), PAWL_E_INVALID));
}

Test(graph, a_stream_that_takes_nothing_is_an_error)
{
    static struct pawl_load_errors errors;
    struct pawl_plan *plan = NULL;
    cr_assert(eq(int, pawl_workflow_load_memory("f", source, strlen(source), NULL, &plan, &errors), 0));
    FILE *full = fopen("/dev/full", "w");
    cr_expect(lt(int, pawl_graph_write(plan, PAWL_GRAPH_DOT, full), 0));
    fclose(full);
    pawl_plan_close(plan);
}
