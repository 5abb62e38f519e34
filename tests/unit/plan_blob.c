/*
 * plan_blob.c - plans: order, needs, binding, hashes; and blobs from strangers, which harm nobody.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "runtime/loader.h"
#include "scheduler/expr.h"
#include "scheduler/plan_builder.h"
#include "scheduler/plan_format.h"
#include "shm/error.h"

static const char example[] =
    "pawl: 1\nname: demo\nparams: {dir: /tmp, n: 2, l: [1, {a: [b]}], z: null}\nenv: {A: '${{ params.dir "
    "}}', B: x}\n"
    "defaults: {retries: {limit: 1, on_exit: [75]}}\nsteps:\n"
    "  last: {run: [cat, '${{ steps.mid.outputs }}', '${{ env.A }}'], needs: [mid, first], env: {C: '${{ "
    "env.B }}'}}\n"
    "  mid: {run: [echo, '${{ item.a }}', '${{ index }}'], needs: first, matrix: {a: [1, 2], b: '${{ "
    "params.l }}'}, dir: x}\n"
    "  first: {shell: 'ls', output: lines, timeout: 5, stdin: [a, '${{ params.n }}']}\n"
    "  each: {run: [x, '${{ item }}'], needs: first, foreach: '${{ steps.first.output }}', when: '${{ "
    "success() }}'}\n"
    "  alone: {use: noop}\n";

static struct pawl_plan *load(const char *source)
{
    static struct pawl_load_errors errors;
    struct pawl_plan *plan = NULL;
    int error = pawl_workflow_load_memory("demo.yaml", source, strlen(source), NULL, &plan, &errors);
    cr_assert(eq(int, error, 0), "%s", errors.count ? errors.errors[0].text : "");
    return plan;
}

static uint32_t find(const struct pawl_plan *plan, const char *name)
{
    return pawl_plan_find_step(plan, name, strlen(name));
}

Test(plan, steps_stand_in_the_order_of_their_needs_and_know_their_dependents)
{
    struct pawl_plan *plan = load(example);
    const uint32_t *order = pawl_plan_order(plan);
    uint32_t first = find(plan, "first"), mid = find(plan, "mid"), last = find(plan, "last");
    cr_assert(eq(u32, pawl_plan_step_count(plan), 5));
    cr_expect(eq(str, (char *)pawl_plan_step_name(plan, 0), "last"));
    cr_expect(eq(u32, order[0], first)); /* the first step of the file needs mid, which needs first */
    cr_expect(eq(u32, order[1], mid));
    cr_expect(eq(u32, order[2], last));
    for (uint32_t i = 0; i < 5; i++)
        cr_expect(eq(u32, pawl_plan_step(plan, order[i])->topological_position, i));
    const struct pawl_plan_step *step = pawl_plan_step(plan, first);
    cr_assert(eq(u32, step->dependents.count, 3));
    cr_expect(eq(u32, pawl_plan_dependents(plan, step)[0], last));
    cr_expect(eq(u32, pawl_plan_dependents(plan, step)[1], mid));
    step = pawl_plan_step(plan, last);
    cr_assert(eq(u32, step->needs.count, 2));
    cr_expect(eq(u32, pawl_plan_needs(plan, step)[0], mid)); /* as the file has them */
    cr_expect(eq(u32, find(plan, "nope"), PAWL_PLAN_NONE));
    cr_expect(eq(u32, find(plan, "las"), PAWL_PLAN_NONE));
    pawl_plan_close(plan);
}

Test(plan, a_cycle_is_told_as_the_way_around)
{
    struct pawl_plan_builder *builder;
    struct pawl_plan *plan = NULL;
    uint32_t step, cycle[8], count = 8;
    cr_assert(eq(int, pawl_plan_builder_create("c", "", &builder), 0));
    const char *names[] = {"a", "b", "c", "d"};
    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, pawl_plan_add_step(builder, names[i], &step), 0));
    cr_assert(eq(int, pawl_plan_set_needs(builder, 0, (uint32_t[]){1}, 1), 0));
    cr_assert(eq(int, pawl_plan_set_needs(builder, 1, (uint32_t[]){3, 2}, 2), 0));
    cr_assert(eq(int, pawl_plan_set_needs(builder, 2, (uint32_t[]){1}, 1), 0));
    cr_expect(eq(int, pawl_plan_finish(builder, cycle, &count, &plan), PAWL_E_INVALID));
    cr_assert(eq(u32, count, 2));
    cr_expect(eq(u32, cycle[0], 1));
    cr_expect(eq(u32, cycle[1], 2));
    pawl_plan_builder_destroy(builder);
}

Test(plan, the_builder_makes_a_fed_step_as_map_does)
{
    struct pawl_plan_builder *builder;
    struct pawl_plan *plan = NULL;
    struct pawl_expr_scope scope = {.flags = PAWL_EXPR_SCOPE_ITEM, .step_index = 0};
    struct pawl_expr_diagnostic diagnostic;
    uint32_t step, argv;
    cr_assert(eq(int, pawl_plan_builder_create("map", "", &builder), 0));
    cr_assert(eq(int, pawl_plan_add_step(builder, "map", &step), 0));
    cr_assert(eq(int, pawl_template_compile(builder, &scope, "${{ item }}", 11, &argv, &diagnostic), 0));
    cr_assert(eq(int, pawl_plan_set_argv(builder, step, &argv, 1), 0));
    pawl_plan_edit_step(builder, step)->kind = PAWL_STEP_EXEC;
    pawl_plan_edit_step(builder, step)->flags = PAWL_STEP_FED | PAWL_STEP_ARGV_LIST;
    cr_assert(eq(int, pawl_plan_finish(builder, NULL, NULL, &plan), 0));
    pawl_plan_builder_destroy(builder);
    cr_expect(pawl_step_is_many(pawl_plan_step(plan, 0)));
    cr_expect(eq(u32, pawl_plan_argv(plan, pawl_plan_step(plan, 0))[0], argv));
    pawl_plan_close(plan);
}

/* ---- parameters ---- */

static int bind(const struct pawl_plan *plan, const char *json, struct pawl_plan **bound,
                struct pawl_plan_bind_error *problem)
{
    struct pawl_arena arena;
    struct pawl_value params;
    pawl_arena_init(&arena, 0);
    cr_assert(eq(int, pawl_value_parse_json(json, strlen(json), 16, &arena, &params, NULL), 0));
    int error = pawl_plan_bind(plan, &params, bound, problem);
    pawl_arena_fini(&arena);
    return error;
}

static bool same_hash(const struct pawl_plan *a, const struct pawl_plan *b, const char *step)
{
    const struct pawl_plan_step *x = pawl_plan_step(a, find(a, step)), *y = pawl_plan_step(b, find(b, step));
    return memcmp(x->definition_hash, y->definition_hash, sizeof x->definition_hash) == 0;
}

Test(plan, binding_changes_the_values_and_leaves_the_plan_it_came_from)
{
    struct pawl_plan *plan = load(example), *bound = NULL;
    struct pawl_arena arena;
    struct pawl_value value;
    pawl_arena_init(&arena, 0);
    cr_assert(eq(int, bind(plan, "{\"dir\": 7, \"n\": 2.5, \"z\": {\"any\": [1]}}", &bound, NULL), 0));
    cr_assert(eq(int, pawl_plan_value(bound, pawl_plan_param(bound, 0)->value, &arena, &value), 0));
    cr_expect(eq(int, value.kind, PAWL_VALUE_STRING)); /* text takes a number as its text */
    cr_expect(eq(str, (char *)value.bytes, "7"));
    cr_assert(eq(int, pawl_plan_value(bound, pawl_plan_param(bound, 0)->default_value, &arena, &value), 0));
    cr_expect(eq(str, (char *)value.bytes, "/tmp"));
    cr_assert(eq(int, pawl_plan_value(plan, pawl_plan_param(plan, 0)->value, &arena, &value), 0));
    cr_expect(eq(str, (char *)value.bytes, "/tmp"));
    cr_expect(eq(u32, pawl_plan_step(bound, 0)->needs.count, 2));
    pawl_arena_fini(&arena);
    pawl_plan_close(bound);
    pawl_plan_close(plan);
}

Test(plan, binding_refuses_unknown_names_and_other_kinds)
{
    struct pawl_plan *plan = load(example), *bound = NULL;
    struct pawl_plan_bind_error problem;
    cr_expect(eq(int, bind(plan, "{\"dri\": 1}", &bound, &problem), PAWL_E_NOT_FOUND));
    cr_expect(eq(str, problem.text, "`dri` is not a parameter of workflow `demo`"));
    cr_expect(eq(str, problem.hint, "did you mean `dir`?"));
    cr_expect(eq(int, bind(plan, "{\"n\": \"x\"}", &bound, &problem), PAWL_E_INVALID));
    cr_expect(eq(str, problem.text, "parameter `n` is an int by its default, but was given a text"));
    cr_expect(eq(int, bind(plan, "{\"dir\": [1]}", &bound, &problem), PAWL_E_INVALID));
    cr_expect(eq(int, bind(plan, "{\"l\": {}}", &bound, &problem), PAWL_E_INVALID));
    cr_expect(eq(int, bind(plan, "[1]", &bound, &problem), PAWL_E_INVALID));
    pawl_plan_close(plan);
}

Test(plan, set_takes_text_as_it_is_and_anything_else_as_json)
{
    struct pawl_plan *plan = load(example);
    struct pawl_plan_bind_error problem;
    struct pawl_arena arena;
    struct pawl_value value;
    pawl_arena_init(&arena, 0);
    cr_assert(eq(int, pawl_plan_parse_param(plan, "dir", 3, "{\"x", 3, &arena, &value, &problem), 0));
    cr_expect(eq(str, (char *)value.bytes, "{\"x"));
    cr_assert(eq(int, pawl_plan_parse_param(plan, "n", 1, "12", 2, &arena, &value, &problem), 0));
    cr_expect(eq(i64, value.integer, 12));
    cr_expect(
        eq(int, pawl_plan_parse_param(plan, "n", 1, "abc", 3, &arena, &value, &problem), PAWL_E_INVALID));
    cr_expect(
        eq(int, pawl_plan_parse_param(plan, "n", 1, "\"1\"", 3, &arena, &value, &problem), PAWL_E_INVALID));
    cr_expect(
        eq(int, pawl_plan_parse_param(plan, "m", 1, "1", 1, &arena, &value, &problem), PAWL_E_NOT_FOUND));
    cr_assert(eq(int, pawl_plan_parse_param(plan, "l", 1, "[9]", 3, &arena, &value, &problem), 0));
    cr_expect(eq(sz, value.count, 1));
    pawl_arena_fini(&arena);
    pawl_plan_close(plan);
}

Test(plan, the_hash_of_parameters_is_of_names_and_values_in_any_order)
{
    struct pawl_plan *a = load("pawl: 1\nparams: {a: 1, b: 2}\nsteps: {s: {use: noop}}\n");
    struct pawl_plan *b = load("pawl: 1\nparams: {b: 2, a: 1}\nsteps: {t: {use: noop}}\n");
    struct pawl_plan *c = load("pawl: 1\nparams: {b: 1, a: 2}\nsteps: {s: {use: noop}}\n"), *bound;
    uint64_t x[2], y[2], z[2], w[2];
    cr_assert(eq(int, bind(c, "{\"a\": 1, \"b\": 2}", &bound, NULL), 0));
    pawl_plan_params_hash(a, x);
    pawl_plan_params_hash(b, y);
    pawl_plan_params_hash(c, z);
    pawl_plan_params_hash(bound, w);
    cr_expect(eq(int, memcmp(x, y, sizeof x), 0));
    cr_expect(ne(int, memcmp(x, z, sizeof x), 0));
    cr_expect(eq(int, memcmp(x, w, sizeof x), 0));
    pawl_plan_close(a);
    pawl_plan_close(b);
    pawl_plan_close(c);
    pawl_plan_close(bound);
}

/* ---- what a step does ---- */

Test(plan, a_steps_hash_follows_what_it_does_and_the_parameters_that_it_uses)
{
    struct pawl_plan *plan = load(example), *bound = NULL;
    cr_assert(eq(int, bind(plan, "{\"n\": 3}", &bound, NULL), 0));
    cr_expect(not(same_hash(plan, bound, "first"))); /* its stdin names params.n */
    cr_expect(same_hash(plan, bound, "mid"));        /* needs do not hand it on */
    pawl_plan_close(bound);
    cr_assert(eq(int, bind(plan, "{\"dir\": \"/x\"}", &bound, NULL), 0));
    cr_expect(not(same_hash(plan, bound, "alone"))); /* the workflow's env is part of each step */
    pawl_plan_close(bound);
    cr_assert(eq(int, bind(plan, "{\"dir\": \"/tmp\"}", &bound, NULL), 0));
    cr_expect(same_hash(plan, bound, "last"));
    pawl_plan_close(bound);
    pawl_plan_close(plan);
}

Test(plan, a_steps_hash_knows_each_part_of_its_work_and_none_of_its_patience)
{
    static const char head[] = "pawl: 1\nsteps:\n  o: {use: noop}\n  p: {use: noop}\n  s: ";
    static const char base[] = "{run: [x, y]}";
    static const char *const other[] = {"{run: [x, z]}",
                                        "{run: [xy]}",
                                        "{run: [x, y, '']}",
                                        "{shell: x y}",
                                        "{run: [x, y], env: {A: b}}",
                                        "{run: [x, y], dir: d}",
                                        "{run: [x, y], stdin: i}",
                                        "{run: [x, y], output: json}",
                                        "{run: [x, y], when: true}",
                                        "{run: [x, y], foreach: [1]}",
                                        "{run: [x, y], matrix: {a: [1]}}",
                                        "{run: [x, y], needs: o}",
                                        "{run: [x, y], always: true}",
                                        "{run: [x, y], continue_on_error: true}"};
    static const char *const same[] = {"{run: [x, y], timeout: 5}",  "{run: [x, y], grace: 5}",
                                       "{run: [x, y], retries: 5}",  "{run: [x, y], max_parallel: 5}",
                                       "{run: [x, y], priority: 5}", "{run: ['x', \"y\"]}"};
    char source[512];
    snprintf(source, sizeof source, "%s%s\n", head, base);
    struct pawl_plan *plan = load(source);
    for (size_t i = 0; i < sizeof other / sizeof *other + sizeof same / sizeof *same; i++) {
        bool differs = i < sizeof other / sizeof *other;
        const char *step = differs ? other[i] : same[i - sizeof other / sizeof *other];
        snprintf(source, sizeof source, "%s%s\n", head, step);
        struct pawl_plan *changed = load(source);
        cr_expect(eq(int, same_hash(plan, changed, "s"), !differs), "%s", step);
        pawl_plan_close(changed);
    }
    pawl_plan_close(plan);
}

Test(plan, a_steps_hash_does_not_know_its_neighbours)
{
    struct pawl_plan *a = load("pawl: 1\nparams: {q: 1}\nsteps: {s: {run: [x, '${{ steps.t.output }}'], "
                               "needs: t}, t: {run: [a]}}\n");
    struct pawl_plan *b = load("pawl: 1\nparams: {r: 2, q: 5}\nsteps: {z: {use: noop}, t: {run: [b]}, s: "
                               "{needs: t, run: [x, '${{ steps.t.output }}']}}\n");
    cr_expect(same_hash(a, b, "s"));
    cr_expect(not(same_hash(a, b, "t")));
    pawl_plan_close(a);
    pawl_plan_close(b);
}

/* ---- retries ---- */

Test(plan, waits_grow_to_their_most_and_jitter_spreads_them)
{
    struct pawl_plan_step step = {.retry = {.initial_ns = 100, .max_ns = 1000, .factor = 2, .jitter = 0}};
    const uint64_t want[] = {100, 200, 400, 800, 1000, 1000};
    for (uint32_t i = 0; i < 6; i++)
        cr_expect(eq(u64, pawl_step_retry_wait_ns(&step, i + 1, 0), want[i]));
    cr_expect(eq(u64, pawl_step_retry_wait_ns(&step, UINT32_MAX, 7), 1000));
    step.retry.jitter = 0.5;
    for (uint64_t random = 0; random < 64; random++) {
        uint64_t wait = pawl_step_retry_wait_ns(&step, 2, random * UINT64_C(0x0400000000000000));
        cr_expect(ge(u64, wait, 100));
        cr_expect(le(u64, wait, 300));
    }
    cr_expect(eq(u64, pawl_step_retry_wait_ns(&step, 2, 0), 100));
    cr_expect(ge(u64, pawl_step_retry_wait_ns(&step, 2, UINT64_MAX), 299));
    step.retry.initial_ns = 0;
    cr_expect(eq(u64, pawl_step_retry_wait_ns(&step, 5000, 0), 0));
}

Test(plan, exit_codes_are_retried_as_the_lists_say)
{
    struct pawl_plan *plan = load("pawl: 1\nsteps:\n  a: {run: [x], retries: 3}\n  b: {run: [x], retries: "
                                  "{limit: 1, on_exit: [75, 111]}}\n"
                                  "  c: {run: [x], retries: {limit: 1, never_on_exit: 2}}\n  d: {run: [x], "
                                  "retries: {limit: 1, on_exit: [2, 3], never_on_exit: [2]}}\n");
    const struct {
        const char *step;
        int code;
        bool retried;
    } cases[] = {{"a", 1, true},  {"b", 75, true}, {"b", 111, true}, {"b", 1, false}, {"c", 1, true},
                 {"c", 2, false}, {"d", 2, false}, {"d", 3, true},   {"d", 4, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect(
            eq(int,
               pawl_step_retries_exit(plan, pawl_plan_step(plan, find(plan, cases[i].step)), cases[i].code),
               cases[i].retried),
            "case %zu", i);
    pawl_plan_close(plan);
}

/* ---- strangers' blobs ---- */

static int open_bytes(void *blob, size_t bytes)
{
    struct pawl_plan *plan = NULL;
    const char *why = NULL;
    int error = pawl_plan_open(blob, bytes, NULL, &plan, &why);
    cr_expect(error == 0 || (why && why[0]), "a refusal gives a reason");
    pawl_plan_close(plan);
    return error;
}

static void *copy_of(const struct pawl_plan *plan, size_t *bytes)
{
    const void *blob = pawl_plan_blob(plan, bytes);
    void *copy = malloc(*bytes);
    memcpy(copy, blob, *bytes);
    return copy;
}

Test(plan, a_damaged_blob_is_refused_wherever_the_damage_is)
{
    struct pawl_plan *plan = load(example);
    size_t bytes;
    uint8_t *blob = copy_of(plan, &bytes);
    cr_assert(eq(int, open_bytes(blob, bytes), 0));
    for (size_t at = 0; at < bytes; at++) {
        blob[at] ^= 0x10;
        cr_expect(lt(int, open_bytes(blob, bytes), 0), "byte %zu", at);
        blob[at] ^= 0x10;
    }
    for (size_t length = 0; length < bytes; length++)
        cr_expect(lt(int, open_bytes(blob, length), 0), "length %zu", length);
    free(blob);
    pawl_plan_close(plan);
}

Test(plan, limits_of_steps_and_bytes_hold)
{
    struct pawl_plan *plan = load(example), *again = NULL;
    size_t bytes;
    void *blob = copy_of(plan, &bytes);
    struct pawl_plan_limits limits = {.steps_max = 5, .bytes_max = bytes};
    cr_expect(eq(int, pawl_plan_open(blob, bytes, &limits, &again, NULL), 0));
    pawl_plan_close(again);
    limits.steps_max = 4;
    cr_expect(eq(int, pawl_plan_open(blob, bytes, &limits, &again, NULL), PAWL_E_LIMIT));
    limits = (struct pawl_plan_limits){.bytes_max = bytes - 1};
    cr_expect(eq(int, pawl_plan_open(blob, bytes, &limits, &again, NULL), PAWL_E_LIMIT));
    free(blob);
    pawl_plan_close(plan);
}

/* Change one field of a good blob, seal it again, and it must be refused: the rule, not the checksum, is what
 * holds. */
struct forgery {
    void *blob;
    size_t bytes;
    struct pawl_plan view;
};

static void forge(struct forgery *forgery, const struct pawl_plan *plan)
{
    forgery->blob = copy_of(plan, &forgery->bytes);
    pawl_plan_map(&forgery->view, forgery->blob, forgery->bytes);
} // NOLINT(clang-analyzer-unix.Malloc): refused() frees the blob

static void refused(struct forgery *forgery, const char *want)
{
    struct pawl_plan *plan = NULL;
    const char *why = "";
    pawl_plan_seal(forgery->blob, forgery->bytes);
    int error = pawl_plan_open(forgery->blob, forgery->bytes, NULL, &plan, &why);
    cr_expect(error == PAWL_E_BAD_MESSAGE && strstr(why, want), "wanted %s, got %d %s", want, error, why);
    pawl_plan_close(plan);
    free(forgery->blob);
}

#define FORGED(field, value, want)                                                                           \
    do {                                                                                                     \
        struct forgery forgery;                                                                              \
        forge(&forgery, plan);                                                                               \
        struct pawl_plan *view = &forgery.view;                                                              \
        struct pawl_plan_step *steps = (struct pawl_plan_step *)view->steps;                                 \
        struct pawl_plan_template *templates = (struct pawl_plan_template *)view->templates;                 \
        struct pawl_plan_node *nodes = (struct pawl_plan_node *)view->nodes;                                 \
        struct pawl_plan_value *values = (struct pawl_plan_value *)view->values;                             \
        struct pawl_plan_header *header = forgery.blob;                                                      \
        uint32_t *edges = (uint32_t *)view->edges, *argv = (uint32_t *)view->argv,                           \
                 *by_name = (uint32_t *)view->by_name;                                                       \
        uint32_t *order = (uint32_t *)view->order, *refs = (uint32_t *)view->refs;                           \
        struct pawl_plan_param *params = (struct pawl_plan_param *)view->params;                             \
        (void)steps, (void)templates, (void)nodes, (void)values, (void)header, (void)edges, (void)argv;      \
        (void)by_name, (void)order, (void)refs, (void)params;                                                \
        field = value;                                                                                       \
        refused(&forgery, want);                                                                             \
    } while (0)

Test(plan, a_forged_blob_with_a_right_checksum_is_refused_by_the_rule_that_it_breaks)
{
    struct pawl_plan *plan = load(example);
    uint32_t first = find(plan, "first"), mid = find(plan, "mid"), last = find(plan, "last"),
             each = find(plan, "each");
    uint32_t list = 0;
    while (plan->values[list].kind != PAWL_VALUE_LIST)
        list++;
    FORGED(header->sections[3].count, header->sections[3].count + 1, "sections");
    FORGED(header->name.bytes, 0, "name");
    FORGED(header->source.byte_offset, 0x7fffffff, "name");
    FORGED(steps[first].name.bytes, 70, "name");
    FORGED(steps[first].name.byte_offset, 0xfffffff0, "name");
    FORGED(steps[first].kind, 9, "kind");
    FORGED(steps[first].shell, PAWL_PLAN_NONE, "kind");
    FORGED(steps[first].flags, 0x8000, "kind");
    FORGED(steps[each].flags, PAWL_STEP_FED, "source of items");
    FORGED(steps[first].retry.factor, 0.0 / 0.0, "range");
    FORGED(steps[first].retry.jitter, -1, "range");
    FORGED(steps[first].timeout_ns, UINT64_MAX, "range");
    FORGED(steps[first].shell, 0xfffffff0, "no template");
    FORGED(steps[first].stdin_template, steps[first].shell, "used twice");
    FORGED(steps[last].argv.first, 1, "not its own");
    FORGED(steps[last].argv.count, 0x7fffffff, "not its own");
    FORGED(steps[first].retry.on_exit.first, 0, "not its own");
    FORGED(steps[mid].needs.count, 0, "not its own");
    FORGED(argv[0], 0xffff0000, "no template");
    FORGED(edges[0], 77, "needs no step");
    FORGED(edges[0], first, "needs no step"); /* one twice; or the counts do not fit */
    FORGED(edges[steps[mid].needs.first], last, "circle");
    FORGED(edges[steps[first].dependents.first], mid, "do not match");
    FORGED(steps[first].topological_position, 3, "order");
    FORGED(order[0], 9, "order");
    FORGED(by_name[0], by_name[1], "one name");
    FORGED(by_name[0], 99, "index of names");
    FORGED(templates[0].root_node, 0x7fffffff, "no nodes");
    FORGED(templates[1].first_node, 0, "no nodes");
    FORGED(templates[0].source.bytes, 0x7fffffff, "source");
    FORGED(templates[0].flags, PAWL_TEMPLATE_CONSTANT, "constant");
    FORGED(templates[0].flags, 0, "flags");
    FORGED(refs[0], 99, "out of order");
    FORGED(refs[0], last, "hides a step");
    FORGED(nodes[0].op, 0, "unknown operation");
    FORGED(nodes[0].op, PAWL_OP_END, "unknown operation");
    FORGED(nodes[0].op, PAWL_OP_NOT, "wrong number of parts");
    FORGED(nodes[0].data, 0x7fffffff, "no parameter");
    FORGED(nodes[0].child, 0, "outside of it");
    FORGED(nodes[0].child, 5, "outside of it");
    FORGED(values[list].first, list, "elements lie outside");
    FORGED(values[list].count, 0x7fffffff, "elements lie outside");
    FORGED(values[list].kind, 8, "unknown kind");
    FORGED(values[0].first, 0x7fffffffffff, "text lies outside");
    FORGED(params[0].value, 0x7fffffff, "no value");
    FORGED(params[0].name.bytes, 65, "no name");
    pawl_plan_close(plan);
}

/* Reads all that there is to read, as the scheduler would. */
static int sink(void *context, const void *bytes, size_t length)
{
    *(uint64_t *)context += XXH3_64bits(bytes, length);
    return 0;
}

static void read_everything(const struct pawl_plan *plan)
{
    struct pawl_value item = pawl_value_text("item");
    struct pawl_expr_env env = {.run_id = "r", .run_id_bytes = 1, .item = &item};
    uint64_t sum = 0;
    struct pawl_arena arena;
    pawl_arena_init(&arena, 1 << 20);
    for (uint32_t i = 0; i < pawl_plan_template_count(plan); i++) {
        struct pawl_value value;
        struct pawl_expr_error problem;
        if (pawl_template_eval(plan, i, &env, &arena, &value, &problem) == 0)
            pawl_value_write_json(&value, sink, &sum);
        pawl_arena_reset(&arena);
    }
    for (uint32_t i = 0; i < pawl_plan_step_count(plan); i++) {
        const struct pawl_plan_step *step = pawl_plan_step(plan, i);
        sum += strlen(pawl_plan_step_name(plan, i)) + find(plan, pawl_plan_step_name(plan, i));
        for (uint32_t n = 0; n < step->needs.count; n++)
            sum += pawl_plan_step(plan, pawl_plan_needs(plan, step)[n])->kind;
        for (uint32_t n = 0; n < step->dependents.count; n++)
            sum += pawl_plan_step(plan, pawl_plan_dependents(plan, step)[n])->kind;
        sum += pawl_step_retries_exit(plan, step, 1) + pawl_step_retry_wait_ns(step, 3, 9);
    }
    pawl_arena_fini(&arena);
    cr_expect(ne(u64, sum, UINT64_MAX));
}

Test(plan, mutated_blobs_are_refused_or_can_be_read_without_harm, .timeout = 300)
{
    struct pawl_plan *plan = load(example);
    uint64_t state = 88172645463325252u, opened = 0;
    size_t bytes;
    const void *good = pawl_plan_blob(plan, &bytes);
    uint8_t *blob = malloc(bytes);
    for (int round = 0; round < 60000; round++) {
        memcpy(blob, good, bytes);
        int changes = 1 + round % 3;
        for (int i = 0; i < changes; i++) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            size_t at = PAWL_PLAN_CHECKED_FROM + (state >> 8) % (bytes - PAWL_PLAN_CHECKED_FROM);
            uint32_t word = (uint32_t)(state >> 32);
            if (state & 1)
                blob[at] = (uint8_t)word;
            else if (state & 2)
                blob[at] ^= (uint8_t)(1u << (word % 8));
            else
                memcpy(blob + (at & ~(size_t)3), &(uint32_t){word % 64}, 4);
        }
        pawl_plan_seal(blob, bytes);
        struct pawl_plan *mutant = NULL;
        if (pawl_plan_open(blob, bytes, NULL, &mutant, NULL) == 0) {
            opened++;
            read_everything(mutant);
            pawl_plan_close(mutant);
        }
    }
    cr_expect(not(le(u64, opened, 100))); /* some are harmless: the reading was tried, too */
    free(blob);
    pawl_plan_close(plan);
}
