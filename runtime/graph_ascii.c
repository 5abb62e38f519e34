/*
 * graph_ascii.c - a plan as lines of text: one line a step, lanes for what still has dependents.
 *
 *   * fetch
 *   +-* lint  <- fetch       + a lane that runs on, ' one that ends here
 *   * | docs  <- fetch
 *   *-' pack  <- docs, lint
 *
 * Like a history drawn from its beginning: steps stand in topological order, layer by layer, each in the
 * column of its lane; a lane runs on until its last dependent has been drawn. Runs in clients.
 */
#include <errno.h>
#include <string.h>

#include "runtime/graph_parts.h"

enum { LANES_SHOWN = 24 };

struct canvas {
    const struct pawl_plan *plan;
    uint32_t *lanes; /* step whose output runs here, PAWL_PLAN_NONE: free */
    uint32_t lane_count;
    uint32_t *left;  /* by step: dependents that are not drawn yet */
    uint32_t *stamp; /* by step: the last one drawn that needs it, plus one */
};

static uint32_t free_lane(struct canvas *canvas)
{
    uint32_t lane = 0;
    while (lane < canvas->lane_count && canvas->lanes[lane] != PAWL_PLAN_NONE)
        lane++;
    canvas->lane_count += lane == canvas->lane_count;
    return lane;
}

static bool needs_it(const struct canvas *canvas, uint32_t step_index, uint32_t need)
{
    return need != PAWL_PLAN_NONE && canvas->stamp[need] == step_index + 1;
}

/* The lane that a step stands in: that of its first need that ends here, else a new one. */
static uint32_t lane_for(struct canvas *canvas, uint32_t step_index)
{
    for (uint32_t lane = 0; lane < canvas->lane_count; lane++)
        if (needs_it(canvas, step_index, canvas->lanes[lane]) && canvas->left[canvas->lanes[lane]] == 1)
            return lane;
    return free_lane(canvas);
}

static void put_lanes(const struct canvas *canvas, uint32_t step_index, uint32_t own, uint32_t count,
                      FILE *stream)
{
    uint32_t first = own, last = own; /* what the horizontal stroke joins */
    for (uint32_t lane = 0; lane < count; lane++)
        if (needs_it(canvas, step_index, canvas->lanes[lane])) {
            first = lane < first ? lane : first;
            last = lane > last ? lane : last;
        }
    for (uint32_t lane = 0; lane < count && lane < LANES_SHOWN; lane++) {
        uint32_t runs = canvas->lanes[lane];
        bool joined = needs_it(canvas, step_index, runs), over = joined && canvas->left[runs] == 1;
        bool inside = lane >= first && lane < last;
        char mark = lane == own              ? '*'
                    : joined                 ? (over ? '\'' : '+')
                    : runs != PAWL_PLAN_NONE ? '|'
                    : inside && lane > first ? '-'
                                             : ' ';
        fputc(mark, stream);
        fputc(inside ? '-' : ' ', stream);
    }
    if (count > LANES_SHOWN)
        fprintf(stream, "... ");
}

static void put_notes(const struct canvas *canvas, const struct pawl_plan_step *step, FILE *stream)
{
    const uint32_t *needs = pawl_plan_needs(canvas->plan, step);
    if (step->foreach != PAWL_PLAN_NONE)
        fprintf(stream, "  [foreach]");
    if (step->axes.count > 0)
        fprintf(stream, "  [matrix]");
    if (step->when != PAWL_PLAN_NONE)
        fprintf(stream, "  [when]");
    if (step->flags & PAWL_STEP_ALWAYS)
        fprintf(stream, "  [always]");
    for (uint32_t i = 0; i < step->needs.count && i < 8; i++)
        fprintf(stream, "%s%s", i ? ", " : "  <- ", pawl_plan_step_name(canvas->plan, needs[i]));
    if (step->needs.count > 8)
        fprintf(stream, ", ... %u more", step->needs.count - 8);
    fputc('\n', stream);
}

static void draw_step(struct canvas *canvas, uint32_t step_index, FILE *stream)
{
    const struct pawl_plan_step *step = pawl_plan_step(canvas->plan, step_index);
    const uint32_t *needs = pawl_plan_needs(canvas->plan, step);
    for (uint32_t i = 0; i < step->needs.count; i++)
        canvas->stamp[needs[i]] = step_index + 1;
    uint32_t own = lane_for(canvas, step_index), count = canvas->lane_count;
    put_lanes(canvas, step_index, own, count, stream);
    fprintf(stream, "%s", pawl_plan_step_name(canvas->plan, step_index));
    put_notes(canvas, step, stream);
    for (uint32_t i = 0; i < step->needs.count; i++)
        canvas->left[needs[i]]--;
    for (uint32_t lane = 0; lane < count; lane++)
        if (canvas->lanes[lane] != PAWL_PLAN_NONE && canvas->left[canvas->lanes[lane]] == 0)
            canvas->lanes[lane] = PAWL_PLAN_NONE;
    canvas->lanes[own] = step->dependents.count > 0 ? step_index : PAWL_PLAN_NONE;
    while (canvas->lane_count > 0 && canvas->lanes[canvas->lane_count - 1] == PAWL_PLAN_NONE)
        canvas->lane_count--;
}

int pawl_graph_write_ascii(const struct pawl_plan *plan, FILE *stream)
{
    uint32_t count = pawl_plan_step_count(plan);
    struct canvas canvas = {.plan = plan};
    int error = 0;
    canvas.lanes = malloc(((size_t)count + 1) * sizeof *canvas.lanes);
    canvas.left = calloc((size_t)count + 1, sizeof *canvas.left);
    canvas.stamp = calloc((size_t)count + 1, sizeof *canvas.stamp);
    if (!canvas.lanes || !canvas.left || !canvas.stamp) {
        error = -ENOMEM;
        goto free_all;
    }
    memset(canvas.lanes, 0xff, ((size_t)count + 1) * sizeof *canvas.lanes);
    for (uint32_t i = 0; i < count; i++)
        canvas.left[i] = pawl_plan_step(plan, i)->dependents.count;
    fprintf(stream, "%s: %u step%s\n", pawl_plan_name(plan), count, count == 1 ? "" : "s");
    for (uint32_t i = 0; i < count; i++)
        draw_step(&canvas, pawl_plan_order(plan)[i], stream);
free_all:
    free(canvas.lanes);
    free(canvas.left);
    free(canvas.stamp);
    return error;
}
