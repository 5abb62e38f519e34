/*
 * loader_plans.c - what a good file becomes.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/loader.h"
#include "runtime/suggest.h"
#include "runtime/units.h"
#include "scheduler/expr.h"
#include "shm/error.h"
#include "tests/unit/text_sink.h"

static struct pawl_plan *load_as(const char *path, const char *source)
{
    static struct pawl_load_errors errors;
    struct pawl_plan *plan = NULL;
    int error = pawl_workflow_load_memory(path, source, strlen(source), NULL, &plan, &errors);
    cr_assert(eq(int, error, 0), "%s", errors.count ? errors.errors[0].text : "");
    return plan;
}

static struct pawl_plan *load(const char *source)
{
    return load_as("flow.yaml", source);
}

static const struct pawl_plan_step *step_of(const struct pawl_plan *plan, const char *name)
{
    uint32_t index = pawl_plan_find_step(plan, name, strlen(name));
    cr_assert(ne(u32, index, PAWL_PLAN_NONE), "%s", name);
    return pawl_plan_step(plan, index);
}

static const char *constant(const struct pawl_plan *plan, uint32_t template_index)
{
    size_t length;
    const char *text = pawl_template_constant(plan, template_index, &length);
    return text ? text : "(no constant)";
}

/* The JSON of a template that asks for nothing but item. */
static const char *json_of(const struct pawl_plan *plan, uint32_t template_index, struct text *text)
{
    struct pawl_arena arena;
    struct pawl_value value, item = pawl_value_text("I");
    struct pawl_expr_env env = {.run_id = "r", .run_id_bytes = 1, .item = &item};
    text->length = 0;
    pawl_arena_init(&arena, 0);
    cr_assert(eq(int, pawl_template_eval(plan, template_index, &env, &arena, &value, NULL), 0));
    cr_assert(eq(int, pawl_value_write_json(&value, to_text, text), 0));
    pawl_arena_fini(&arena);
    return text->bytes;
}

Test(loader, a_whole_file_becomes_what_it_says)
{
    struct pawl_plan *plan = load(
        "pawl: 1\nname: word-count\nparams: {dir: /usr}\nenv: {LC_ALL: C}\ndefaults: {timeout: 5m, retries: "
        "2}\nsteps:\n"
        "  list:\n    run: [find, '${{ params.dir }}', -n, 5, true, '']\n    output: lines\n    grace: 1s\n"
        "  count:\n    needs: [list]\n    foreach: ${{ steps.list.output }}\n    shell: 'zcat -- \"$ITEM\"'\n"
        "    env: {ITEM: '${{ item }}'}\n    max_parallel: 8\n    timeout: 30s\n    priority: -3\n    "
        "always: true\n    continue_on_error: true\n"
        "    retries: {limit: 3, backoff: {initial: 200ms, factor: 3, max: 10s, jitter: 0.5}, on_exit: [75, "
        "111], never_on_exit: 2}\n");
    cr_expect(eq(str, (char *)pawl_plan_name(plan), "word-count"));
    cr_expect(eq(str, (char *)pawl_plan_source(plan), "flow.yaml"));
    const struct pawl_plan_step *list = step_of(plan, "list"), *count = step_of(plan, "count");
    const uint32_t *argv = pawl_plan_argv(plan, list);
    cr_assert(eq(u32, list->argv.count, 6));
    cr_expect(eq(int, list->kind, PAWL_STEP_EXEC));
    cr_expect(eq(str, (char *)constant(plan, argv[0]), "find"));
    cr_expect(eq(str, (char *)constant(plan, argv[3]), "5")); /* as it was written */
    cr_expect(eq(str, (char *)constant(plan, argv[4]), "true"));
    cr_expect(eq(str, (char *)constant(plan, argv[5]), ""));
    cr_expect(eq(int, list->output, PAWL_OUTPUT_LINES));
    cr_expect(eq(u64, list->timeout_ns, UINT64_C(300000000000)));
    cr_expect(eq(u64, list->grace_ns, UINT64_C(1000000000)));
    cr_expect(eq(u32, list->retry.limit, 2));
    cr_expect(eq(u32, list->line, 7));
    cr_expect(eq(u32, list->column, 3));
    cr_expect(eq(int, count->kind, PAWL_STEP_SHELL));
    cr_expect(eq(str, (char *)constant(plan, count->shell), "zcat -- \"$ITEM\""));
    cr_expect(eq(u32, count->max_parallel, 8));
    cr_expect(eq(u64, count->timeout_ns, UINT64_C(30000000000)));
    cr_expect(eq(u64, count->grace_ns, UINT64_C(10000000000)));
    cr_expect(eq(int, count->priority, -3));
    cr_expect(eq(int, count->flags, PAWL_STEP_ALWAYS | PAWL_STEP_CONTINUE_ON_ERROR));
    cr_expect(eq(u32, count->retry.limit, 3));
    cr_expect(eq(u64, count->retry.initial_ns, UINT64_C(200000000)));
    cr_expect(eq(u64, count->retry.max_ns, UINT64_C(10000000000)));
    cr_expect(eq(dbl, count->retry.factor, 3));
    cr_expect(eq(dbl, count->retry.jitter, 0.5));
    cr_assert(eq(u32, count->retry.on_exit.count, 2));
    cr_expect(eq(int, pawl_plan_exit_codes(plan, count->retry.on_exit)[1], 111));
    cr_assert(eq(u32, count->retry.never_on_exit.count, 1));
    cr_expect(eq(int, pawl_plan_exit_codes(plan, count->retry.never_on_exit)[0], 2));
    cr_assert(eq(u32, count->env.count, 1));
    const struct pawl_plan_env *env = pawl_plan_step_env(plan, count);
    cr_expect(eq(str, (char *)pawl_plan_text(plan, env->name), "ITEM"));
    uint32_t env_count;
    env = pawl_plan_env(plan, &env_count);
    cr_assert(eq(u32, env_count, 1));
    cr_expect(eq(str, (char *)pawl_plan_text(plan, env->name), "LC_ALL"));
    cr_expect(eq(str, (char *)constant(plan, env->value), "C"));
    pawl_plan_close(plan);
}

Test(loader, retries_of_a_step_lie_over_those_of_the_defaults)
{
    struct pawl_plan *plan =
        load("pawl: 1\ndefaults: {retries: {limit: 4, backoff: {initial: 2s}, on_exit: [75]}}\nsteps:\n"
             "  a: {run: [x]}\n  b: {run: [x], retries: 1}\n  c: {run: [x], retries: {on_exit: [1], backoff: "
             "{factor: 5}}}\n"
             "  d: {run: [x], retries: {backoff: {initial: 90s}}}\n");
    cr_expect(eq(u32, step_of(plan, "a")->retry.limit, 4));
    cr_expect(eq(u32, step_of(plan, "b")->retry.limit, 1));
    cr_expect(eq(u64, step_of(plan, "b")->retry.initial_ns, UINT64_C(2000000000)));
    cr_expect(eq(int, pawl_plan_exit_codes(plan, step_of(plan, "b")->retry.on_exit)[0], 75));
    const struct pawl_plan_step *c = step_of(plan, "c");
    cr_expect(eq(u32, c->retry.limit, 4));
    cr_expect(eq(dbl, c->retry.factor, 5));
    cr_expect(eq(int, pawl_plan_exit_codes(plan, c->retry.on_exit)[0], 1));
    cr_expect(eq(u64, step_of(plan, "d")->retry.max_ns, UINT64_C(90000000000))); /* never below initial */
    pawl_plan_close(plan);
}

Test(loader, plain_scalars_follow_the_core_schema_and_quoted_ones_are_text)
{
    struct pawl_plan *plan =
        load("pawl: 1\nsteps:\n  a:\n    run: [x]\n    foreach: [1, -0x1F, 0o17, 1.5, .5, 1e3, true, False, "
             "null, ~, yes, '1', \"true\", 1_000, 0x, 12ab, 1., +7, {a: [b, 2]}]\n");
    struct text text;
    cr_expect(eq(str, (char *)json_of(plan, step_of(plan, "a")->foreach, &text),
                 "[1,\"-0x1F\",15,1.5,0.5,1000.0,true,false,null,null,\"yes\",\"1\",\"true\",\"1_000\","
                 "\"0x\",\"12ab\",1.0,7,{\"a\":[\"b\",2]}]"));
    pawl_plan_close(plan);
}

Test(loader, lists_and_maps_may_hold_expressions)
{
    struct pawl_plan *plan =
        load("pawl: 1\nparams: {p: [1, 2]}\nsteps:\n  a:\n    run: [x, '${{ item.v }}']\n"
             "    foreach: [{v: '${{ params.p }}', w: [a, '${{ params.p[1] }}x']}, plain, []]\n"
             "    stdin: ['${{ item }}', 5]\n  b: {run: [x], matrix: {os: [l, m], v: '${{ params.p }}'}}\n");
    struct text text;
    cr_expect(eq(str, (char *)json_of(plan, step_of(plan, "a")->foreach, &text),
                 "[{\"v\":[1,2],\"w\":[\"a\",\"2x\"]},\"plain\",[]]"));
    cr_expect(eq(str, (char *)json_of(plan, step_of(plan, "a")->stdin_template, &text), "[\"I\",5]"));
    const struct pawl_plan_step *b = step_of(plan, "b");
    cr_assert(eq(u32, b->axes.count, 2));
    cr_expect(eq(u32, b->foreach, PAWL_PLAN_NONE));
    cr_expect(pawl_step_is_many(b));
    const struct pawl_plan_axis *axes = pawl_plan_axes(plan, b);
    cr_expect(eq(str, (char *)pawl_plan_text(plan, axes[0].name), "os"));
    cr_expect(eq(str, (char *)json_of(plan, axes[1].values, &text), "[1,2]"));
    pawl_plan_close(plan);
}

Test(loader, aliases_stand_for_what_they_name)
{
    struct pawl_plan *plan = load("pawl: 1\ndefaults: {retries: &r {limit: 2, on_exit: [7]}}\nsteps:\n  a: "
                                  "&a {run: [x, &w word], retries: *r}\n  b: *a\n  c: {run: [*w]}\n");
    cr_expect(eq(u32, step_of(plan, "b")->retry.limit, 2));
    cr_expect(eq(str, (char *)constant(plan, pawl_plan_argv(plan, step_of(plan, "b"))[1]), "word"));
    cr_expect(eq(str, (char *)constant(plan, pawl_plan_argv(plan, step_of(plan, "c"))[0]), "word"));
    pawl_plan_close(plan);
}

Test(loader, the_default_name_is_the_files_made_to_fit)
{
    static const char *const cases[][2] = {{"dir/build.yaml", "build"},
                                           {"a.b.yml", "a.b"},
                                           {".hidden.yaml", "_hidden"},
                                           {"-x.yaml", "_x"},
                                           {"with space.yaml", "with_space"},
                                           {".yaml", "_yaml"},
                                           {"-", "workflow"},
                                           {"x/", "workflow"},
                                           {"plain", "plain"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pawl_plan *plan = load_as(cases[i][0], "pawl: 1\nsteps: {a: {use: noop}}\n");
        cr_expect(eq(str, (char *)pawl_plan_name(plan), (char *)cases[i][1]));
        pawl_plan_close(plan);
    }
}

Test(loader, a_byte_order_mark_and_windows_line_ends_are_fine)
{
    struct pawl_plan *plan = load("\xef\xbb\xbfpawl: 1\r\nsteps:\r\n  a: {run: [x, y]}\r\n");
    cr_expect(eq(str, (char *)constant(plan, pawl_plan_argv(plan, step_of(plan, "a"))[1]), "y"));
    pawl_plan_close(plan);
}

Test(loader, unsafe_shell_takes_expressions)
{
    struct pawl_plan *plan =
        load("pawl: 1\nparams: {x: 1}\nsteps: {a: {shell: 'echo ${{ params.x }}', unsafe_shell: true}}\n");
    struct text text;
    cr_expect(eq(str, (char *)json_of(plan, step_of(plan, "a")->shell, &text), "\"echo 1\""));
    pawl_plan_close(plan);
}

Test(loader, env_looks_at_the_step_then_the_workflow_then_the_submitter)
{
    struct pawl_plan *plan = load("pawl: 1\nenv: {A: wa, B: 'b${{ env.A }}'}\nsteps:\n  a: {run: [x, '${{ "
                                  "env.A }}${{ env.B }}${{ env.C }}'], env: {A: 's${{ env.A }}'}}\n");
    struct text text;
    /* B of the workflow asks the submitter for A, who has none; A of the step asks the workflow. */
    cr_expect(eq(str, (char *)json_of(plan, pawl_plan_argv(plan, step_of(plan, "a"))[1], &text), "\"swab\""));
    pawl_plan_close(plan);
}

Test(loader, steps_that_stand_further_down_can_be_asked_for)
{
    struct pawl_plan *plan = load("pawl: 1\nsteps:\n  a: {run: [x, '${{ steps.b.outputs }}'], needs: b}\n  "
                                  "b: {run: [x], foreach: [1]}\n");
    cr_expect(eq(u32, step_of(plan, "a")->needs.count, 1));
    pawl_plan_close(plan);
}

Test(loader, a_literal_list_of_ninety_thousand_items_loads)
{
    size_t capacity = 3 << 20, length;
    char *source = malloc(capacity);
    static struct pawl_load_errors errors;
    const struct pawl_load_limits limits = {4 << 20, 32, 100000};
    struct pawl_plan *plan = NULL;
    length = (size_t)sprintf(source, "pawl: 1\nsteps:\n  a:\n    run: [echo, '${{ item }}']\n    foreach:\n");
    for (int i = 0; i < 90000; i++)
        length += (size_t)sprintf(source + length, "      - item-%d\n", i);
    cr_assert(eq(int, pawl_workflow_load_memory("f", source, length, &limits, &plan, &errors), 0));
    struct pawl_arena arena;
    struct pawl_value list, item;
    pawl_arena_init(&arena, 4096); /* the list is served out of the plan, not copied */
    cr_assert(eq(int, pawl_template_eval(plan, step_of(plan, "a")->foreach, NULL, &arena, &list, NULL), 0));
    cr_assert(eq(sz, list.count, 90000));
    cr_assert(eq(int, pawl_value_at(&list, 89999, &arena, &item), 0));
    cr_expect(eq(str, (char *)item.bytes, "item-89999"));
    pawl_arena_fini(&arena);
    pawl_plan_close(plan);
    free(source);
}

/* ---- units and suggestions ---- */

Test(units, durations_are_read_as_people_write_them)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {{"250ms", 250000000},
                {"10s", 10000000000},
                {"5m", 300000000000},
                {"1h30m", 5400000000000},
                {"2d", 172800000000000},
                {"3", 3000000000},
                {"0", 0},
                {"1.5s", 1500000000},
                {"0.25", 250000000},
                {"7us", 7000},
                {"9ns", 9},
                {"1d2h3m4s5ms", 93784005000000},
                {"106751d", UINT64_C(9223286400000000000)}};
    static const char *const bad[] = {"",   "s",    "1x",   "-1",   "+1", " 1",  "1 ",  "1.",
                                      ".5", "1m1h", "1s1s", "1m30", "1S", "1e3", "1..5"};
    uint64_t ns;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ns = 42;
        cr_expect(eq(int, pawl_parse_duration_ns(good[i].text, strlen(good[i].text), &ns), 0), "%s",
                  good[i].text);
        cr_expect(eq(u64, ns, good[i].ns), "%s", good[i].text);
    }
    ns = 42;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect(eq(int, pawl_parse_duration_ns(bad[i], strlen(bad[i]), &ns), PAWL_E_INVALID), "%s", bad[i]);
    cr_expect(eq(int, pawl_parse_duration_ns("106752d", 7, &ns), PAWL_E_LIMIT));
    cr_expect(eq(int, pawl_parse_duration_ns("99999999999999999999s", 21, &ns), PAWL_E_LIMIT));
    cr_expect(eq(u64, ns, 42));
}

Test(units, sizes_are_read_as_people_write_them)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},
                {"100", 100},
                {"100B", 100},
                {"64KiB", 65536},
                {"10MB", 10000000},
                {"1GiB", 1 << 30},
                {"1.5GiB", 1610612736},
                {"2K", 2048},
                {"2kb", 2000},
                {"1T", UINT64_C(1) << 40},
                {"8388607TiB", UINT64_C(9223370937343148032)}};
    static const char *const bad[] = {"", "K", "-1", "1.5", "1.5B", "1 K", "1KK", "1X", "1KiBx"};
    uint64_t bytes;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        cr_expect(eq(int, pawl_parse_bytes(good[i].text, strlen(good[i].text), &bytes), 0), "%s",
                  good[i].text);
        cr_expect(eq(u64, bytes, good[i].bytes), "%s", good[i].text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect(eq(int, pawl_parse_bytes(bad[i], strlen(bad[i]), &bytes), PAWL_E_INVALID), "%s", bad[i]);
    cr_expect(eq(int, pawl_parse_bytes("8388608TiB", 10, &bytes), PAWL_E_LIMIT));
}

Test(suggest, the_nearest_name_within_a_third_of_its_length)
{
    static const char *const names[] = {"run", "shell", "needs", "max_parallel", "timeout", "retries", NULL};
    static const char *const cases[][2] = {{"rnu", "run"},
                                           {"runn", "run"},
                                           {"RUN", "run"},
                                           {"shel", "shell"},
                                           {"need", "needs"},
                                           {"max-parralel", "max_parallel"},
                                           {"timeuot", "timeout"},
                                           {"retires", "retries"},
                                           {"x", NULL},
                                           {"completely", NULL},
                                           {"", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *found = pawl_suggest_nearest(cases[i][0], names), *want = cases[i][1];
        bool right = found && want ? strcmp(found, want) == 0 : found == want;
        cr_expect(right, "%s: %s", cases[i][0], found ? found : "nothing");
    }
}
