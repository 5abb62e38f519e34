/*
 * loader_errors.c - each mistake in a workflow file is told at its place, with its reason.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/loader.h"
#include "shm/error.h"

struct mistake {
    const char *source;
    uint32_t line, column;
    const char *code;
    const char *text; /* a part of it */
    const char *hint; /* a part of it */
};

#define HEAD "pawl: 1\nsteps:\n"
#define STEP "pawl: 1\nsteps:\n  a:\n"
#define WORK "pawl: 1\nsteps:\n  a:\n    run: [x]\n"
#define NEEDS                                                                                                \
    "pawl: 1\nparams: {n: 3, s: t, l: [1], z: null, 'my-x': 1}\nsteps:\n  one: {run: [x]}\n  many: {run: "   \
    "[x], foreach: [1]}\n  lin: {run: [x], output: lines}\n"

static const struct mistake mistakes[] = {
    /* the file */
    {"", 1, 1, "empty", "empty", "pawl: 1"},
    {"# nothing\n", 1, 1, "empty", "empty", ""},
    {"- a\n", 1, 1, "type", "a workflow file is a map, not a list", ""},
    {"steps: {a: {run: [x]}}\n", 1, 1, "version", "`pawl: 1` is missing", ""},
    {"pawl: 2\nsteps: {a: {run: [x]}}\n", 1, 7, "version", "version `2`", ""},
    {"# c\nworkflows: {}\n", 2, 1, "unsupported_form", "`workflows:` form is not supported here", ""},
    {"nodes: []\n", 1, 1, "unsupported_form", "`nodes:` form is not supported here", ""},
    {"pawl: 1\n", 1, 1, "no_steps", "no steps", ""},
    {"pawl: 1\nsteps: {}\n", 2, 1, "no_steps", "no steps", ""},
    {"pawl: 1\nsteps: [a]\n", 2, 8, "type", "`steps` takes a map, not a list", ""},
    {"pawl: 1\nname: .x\nsteps: {a: {run: [x]}}\n", 2, 7, "name", "`.x` cannot be the name of a workflow",
     ""},
    {"pawl: 1\nstepz: {}\n", 2, 1, "unknown_key", "no key `stepz`", "did you mean `steps`?"},
    /* YAML */
    {"pawl: 1\n---\nb: 2\n", 2, 1, "syntax", "second document", ""},
    {"pawl: !!int 1\n", 1, 7, "syntax", "tags", "quote"},
    {"pawl: 1\npawl: 1\n", 2, 1, "duplicate_key", "key `pawl` is there twice; the first one is in line 1",
     ""},
    {WORK "    run: [y]\n", 5, 5, "duplicate_key", "key `run`", ""},
    {"pawl: 1\nx: *y\n", 2, 4, "syntax", "alias `*y` has no anchor", ""},
    {"pawl: 1\nx: &y [*y]\n", 2, 8, "syntax", "alias `*y` has no anchor", ""},
    {"pawl: 1\n? [a]\n: b\n", 2, 3, "type", "a key must be plain text", ""},
    {"a: b: c\n", 1, 5, "syntax", "not YAML", ""},
    {HEAD "  a: {run: [x, ${{ item }}]}\n", 3, 17, "syntax", "not YAML", "an expression needs quotes"},
    {"pawl: 1\nx: \xff\n", 2, 4, "encoding", "byte 0xff is not UTF-8", ""},
    {"pawl: 1\n\xc3\xa9: \xe0\x80\x80\n", 2, 4, "encoding", "byte 0xe0", ""},
    {"pawl: 1\nx: \"a\\0b\"\n", 2, 4, "type", "NUL", ""},
    /* steps */
    {HEAD "  a:\n", 3, 3, "type", "step `a` takes a map, not nothing", "run"},
    {HEAD "  a: ls\n", 3, 6, "type", "step `a` takes a map, not a single value", ""},
    {HEAD "  -a: {run: [x]}\n", 3, 3, "name", "`-a` cannot be the name of a step", ""},
    {HEAD "  a b: {run: [x]}\n", 3, 3, "name", "`a b` cannot be the name", ""},
    {STEP "    when: true\n", 3, 3, "no_work", "step `a` has no work", "run"},
    {STEP "    run: []\n", 4, 10, "no_work", "`run` is empty", ""},
    {STEP "    shell: ''\n", 4, 12, "no_work", "`shell` is empty", ""},
    {WORK "    shell: y\n", 5, 5, "two_works", "both `run` and `shell`", ""},
    {STEP "    use: noop\n    run: [x]\n", 5, 5, "two_works", "both `run` and `use`", ""},
    {STEP "    run: ls -l\n", 4, 10, "type", "`run` takes a list of arguments", "shell"},
    {STEP "    run: [x, [y]]\n", 4, 14, "type", "an argument is a single value, not a list", ""},
    {STEP "    run: [x, {a: b}]\n", 4, 14, "type", "not a map", ""},
    /* what is empty has no place of its own: it is told where the last thing before it stands */
    {STEP "    run:\n      - x\n      -\n      - z\n", 5, 9, "type", "an argument is missing", "''"},
    {STEP "    run: ['']\n", 4, 11, "type", "the command is empty", ""},
    {STEP "    use: nop\n", 4, 10, "unknown_handler", "no handler `nop`", "noop"},
    {STEP "    shell: [x]\n", 4, 12, "type", "`shell` takes a single value, not a list", ""},
    {STEP "    shell: echo ${{ run.id }}\n", 4, 17, "unsafe_shell", "shell code", "unsafe_shell: true"},
    {STEP "    shell: |\n      a\n       b ${{ run.id }}\n", 6, 10, "unsafe_shell", "shell code", ""},
    {WORK "    unsafe_shell: true\n", 5, 5, "type", "no `shell`", ""},
    {WORK "    need: [b]\n", 5, 5, "unknown_key", "step `a` has no key `need`", "did you mean `needs`?"},
    {WORK "    approve: {}\n", 5, 5, "unknown_key", "no key `approve`", ""},
    {WORK "    workflow: x\n", 5, 5, "unknown_key", "no key `workflow`", ""},
    {WORK "    cache: {}\n", 5, 5, "unknown_key", "no key `cache`", ""},
    {WORK "    inputs: []\n", 5, 5, "unknown_key", "no key `inputs`", ""},
    {WORK "    outputs: []\n", 5, 5, "unknown_key", "no key `outputs`", ""},
    {WORK "    resources: {}\n", 5, 5, "unknown_key", "no key `resources`", ""},
    {WORK "    policy: {}\n", 5, 5, "unknown_key", "no key `policy`", ""},
    {WORK "    needs: [b]\n", 5, 13, "missing_step", "step `b` does not exist", ""},
    {WORK "  build: {run: [x], needs: bulid}\n", 5, 28, "missing_step", "`bulid`", "did you mean `build`?"},
    {WORK "  b: {run: [x], needs: [a, a]}\n", 5, 28, "duplicate_need", "needed twice", ""},
    {WORK "    needs: [[b]]\n", 5, 13, "type", "names of steps, not a list", ""},
    {WORK "    needs: {b: c}\n", 5, 12, "type", "`needs` takes a single value or a list", ""},
    {WORK "    needs: a\n", 5, 12, "cycle", "a -> a", ""},
    {HEAD "  a: {run: [x], needs: [c]}\n  b: {run: [x], needs: a}\n  c: {run: [x], needs: [b]}\n", 3, 25,
     "cycle", "steps need each other in a circle: a -> c -> b -> a", "take one"},
    {WORK "    timeout: soon\n", 5, 14, "type", "`timeout` takes a duration, not `soon`", "1h30m"},
    {WORK "    timeout: -1\n", 5, 14, "type", "`timeout` takes a duration", ""},
    {WORK "    grace: 5x\n", 5, 12, "type", "`grace` takes a duration", ""},
    {WORK "    max_parallel: 0\n", 5, 19, "type", "from 1 to 1000000, not `0`", ""},
    {WORK "    max_parallel: '8'\n", 5, 19, "type", "`max_parallel` takes a whole number", ""},
    {WORK "    priority: 1001\n", 5, 15, "type", "from -1000 to 1000", ""},
    {WORK "    output: line\n", 5, 13, "type", "text, lines or json, not `line`", "did you mean `lines`?"},
    {WORK "    always: yes\n", 5, 13, "type", "`always` takes true or false, not `yes`", ""},
    {WORK "    continue_on_error: 1\n", 5, 24, "type", "true or false", ""},
    {WORK "    env: [A]\n", 5, 10, "type", "`env` takes a map, not a list", ""},
    {WORK "    env: {1A: x}\n", 5, 11, "name", "`1A` cannot be the name of a variable", ""},
    {WORK "    env: {A: [x]}\n", 5, 14, "type", "variable `A` takes a single value, not a list", ""},
    {WORK "    foreach: abc\n", 5, 14, "type", "`foreach` takes a list, not `abc`", ""},
    {WORK "    foreach: {a: b}\n", 5, 14, "type", "`foreach` takes a single value or a list, not a map", ""},
    {WORK "    foreach: [99999999999999999999]\n", 5, 15, "type", "out of range", "quote"},
    {WORK "    matrix: [a]\n", 5, 13, "type", "`matrix` takes a map", ""},
    {WORK "    matrix: {}\n", 5, 13, "type", "`matrix` is empty", ""},
    {WORK "    matrix: {a: 1}\n", 5, 17, "type", "`a` takes a list, not `1`", ""},
    {WORK "    matrix: {a: {b: c}}\n", 5, 17, "type", "axis `a` takes a list, not a map", ""},
    {WORK "    foreach: [1]\n    matrix: {a: [1]}\n", 6, 5, "type", "not both", ""},
    /* retries */
    {WORK "    retries: -1\n", 5, 14, "type", "`retries` takes a whole number", ""},
    {WORK "    retries: [1]\n", 5, 14, "type", "`retries` takes a single value or a map", ""},
    {WORK "    retries: {limits: 2}\n", 5, 15, "unknown_key", "`retries` has no key `limits`",
     "did you mean `limit`?"},
    {WORK "    retries: {on_exit: [1]}\n", 5, 14, "type", "`retries` has no `limit`", ""},
    {WORK "    retries: {limit: 1, on_exit: [0]}\n", 5, 35, "type", "from 1 to 255", ""},
    {WORK "    retries: {limit: 1, never_on_exit: [256]}\n", 5, 41, "type", "from 1 to 255", ""},
    {WORK "    retries: {limit: 1, backoff: {initail: 1}}\n", 5, 35, "unknown_key", "`backoff` has no key",
     "`initial`"},
    {WORK "    retries: {limit: 1, backoff: {initial: 5s, max: 1s}}\n", 5, 34, "type",
     "begins with more than its `max`", ""},
    {WORK "    retries: {limit: 1, backoff: {factor: 0.5}}\n", 5, 43, "type", "from 1 to 1000", ""},
    {WORK "    retries: {limit: 1, backoff: {jitter: 2}}\n", 5, 43, "type", "from 0 to 1", ""},
    /* defaults, params, env */
    {WORK "defaults: {timeout: x}\n", 5, 21, "type", "duration", ""},
    {WORK "defaults: {retires: 1}\n", 5, 12, "unknown_key", "`defaults` has no key `retires`", "`retries`"},
    {WORK "params: {a: '${{ run.id }}'}\n", 5, 13, "type", "holds an expression", ""},
    {WORK "params: {a b: 1}\n", 5, 10, "name", "parameter", ""},
    {WORK "env: {A: '${{ item }}'}\n", 5, 15, "expression", "`item` is not set here", "foreach"},
    {WORK "env: {A: '${{ steps.a.output }}'}\n", 5, 15, "expression", "steps cannot be asked for here", ""},
    {WORK "env: {A: '${{ failed() }}'}\n", 5, 15, "expression", "`failed()` cannot be asked here", ""},
    /* expressions */
    {NEEDS "  a: {run: [x, '${{ params.my-z }}']}\n", 7, 21, "expression", "parameter `my-z` does not exist",
     "`params.my-x`"},
    {NEEDS "  a: {run: [x, \"\\t\\u00e9${{ foo }}\"]}\n", 7, 29, "expression", "unknown name `foo`", ""},
    {NEEDS "  a: {run: [x, 'it''s ${{ foo }}']}\n", 7, 27, "expression", "unknown name `foo`", ""},
    {NEEDS "  a: {run: [x, '${{ n }}']}\n", 7, 21, "expression", "unknown name `n`", "`params.n`"},
    {NEEDS "  a: {run: [x, '${{ param.n }}']}\n", 7, 21, "expression", "unknown name `param`", "`params`"},
    {NEEDS "  a: {run: [x, '${{ params }}']}\n", 7, 21, "expression", "no value by itself", "params.NAME"},
    {NEEDS "  a: {run: [x, '${{ lenn(params.s) }}']}\n", 7, 21, "expression", "unknown function `lenn()`",
     "`len()`"},
    {NEEDS "  a: {run: [x, '${{ len() }}']}\n", 7, 21, "expression", "takes 1 argument, not 0", ""},
    {NEEDS "  a: {run: [x, '${{ join(params.l, 1, 2) }}']}\n", 7, 21, "expression",
     "takes 1 or 2 arguments, not 3", ""},
    {NEEDS "  a: {run: [x, '${{ len(params.n) }}']}\n", 7, 25, "expression",
     "`len()` takes text or list or map, but `params.n` is int or float", ""},
    {NEEDS "  a: {run: [x, '${{ params.s - 1 }}']}\n", 7, 21, "expression",
     "`-` takes int or float, but `params.s` is text", ""},
    {NEEDS "  a: {run: [x, '${{ params.s + 1 }}']}\n", 7, 32, "expression", "`+` takes text, but `1` is int",
     "outside"},
    {NEEDS "  a: {run: [x, '${{ params.n == \"x\" }}']}\n", 7, 21, "expression", "never are equal", ""},
    {NEEDS "  a: {run: [x, '${{ params.s < 1 }}']}\n", 7, 32, "expression", "`<` takes text, but `1` is int",
     ""},
    {NEEDS "  a: {run: [x, '${{ 1 in params.n }}']}\n", 7, 26, "expression", "`in` takes", ""},
    {NEEDS "  a: {run: [x, '${{ params.s.x }}']}\n", 7, 21, "expression",
     "`[]` takes list or map, but `params.s` is text", ""},
    {NEEDS "  a: {run: [x, '${{ 1 < 2 < 3 }}']}\n", 7, 27, "expression", "do not chain", "and"},
    {NEEDS "  a: {run: [x, '${{ 1 && 2 }}']}\n", 7, 23, "expression", "`&&` is no operator", "`and`"},
    {NEEDS "  a: {run: [x, '${{ 1 = 2 }}']}\n", 7, 23, "expression", "`=` is no operator", "`==`"},
    {NEEDS "  a: {run: [x, '${{ 1 2 }}']}\n", 7, 23, "expression", "expected an operator or }}, not `2`", ""},
    {NEEDS "  a: {run: [x, '${{ (1 }}']}\n", 7, 24, "expression", "`)` is missing before }}", ""},
    {NEEDS "  a: {run: [x, '${{ 1 + }}']}\n", 7, 25, "expression", "a value is missing before }}", ""},
    {NEEDS "  a: {run: [x, '${{ }}']}\n", 7, 21, "expression", "empty expression", ""},
    {NEEDS "  a: {run: [x, '${{ 1']}\n", 7, 22, "expression", "without a closing }}", ""},
    {NEEDS "  a: {run: [x, '${{ \"a }}']}\n", 7, 21, "expression", "text without a closing \"", ""},
    {NEEDS "  a: {run: [x, '${{ \"\\q\" }}']}\n", 7, 22, "expression", "unknown escape", ""},
    {NEEDS "  a: {run: [x, '${{ 1x }}']}\n", 7, 21, "expression", "not a number", ""},
    {NEEDS "  a: {run: [x, '${{ 9223372036854775808 }}']}\n", 7, 21, "expression", "too large", ""},
    {NEEDS "  a: {run: [x, '${{ 1 # 2 }}']}\n", 7, 23, "expression", "unexpected character `#`", ""},
    {NEEDS "  a: {run: [x, '${{ item }}']}\n", 7, 21, "expression", "`item` is not set here", ""},
    {NEEDS "  a: {run: [x, '${{ index }}']}\n", 7, 21, "expression", "`index` is not set here", ""},
    {NEEDS "  a: {run: [x, '${{ run.ID }}']}\n", 7, 21, "expression", "`run.ID` does not exist", "run.id"},
    {NEEDS "  a: {run: [x, '${{ steps.one.output }}']}\n", 7, 21, "expression",
     "step `a` asks for `steps.one` but does not need it", "add `one` to the `needs` of `a`"},
    {NEEDS "  a: {run: [x, '${{ steps.oen.output }}']}\n", 7, 21, "expression", "step `oen` does not exist",
     "steps.one"},
    {NEEDS "  a: {run: [x, '${{ steps.a.output }}']}\n", 7, 21, "expression", "asks for itself", ""},
    {NEEDS "  a: {run: [x, '${{ steps.one }}'], needs: one}\n", 7, 21, "expression", "no value by itself",
     "steps.one.output"},
    {NEEDS "  a: {run: [x, '${{ steps.many.output }}'], needs: many}\n", 7, 21, "expression",
     "many instances", "steps.many.outputs"},
    {NEEDS "  a: {run: [x, '${{ split(steps.lin.output) }}'], needs: lin}\n", 7, 27, "expression",
     "`split()` takes text, but `steps.lin.output` is list", ""},
    {NEEDS "  a: {run: [x], foreach: '${{ params.s }}'}\n", 7, 26, "type",
     "`foreach` takes a list, but this is text", "lines()"},
    {NEEDS "  a: {run: [x], foreach: '${{ item }}'}\n", 7, 31, "expression", "`item` is not set here", ""},
    {NEEDS "  a:\n    run: [x]\n    stdin: >-\n      some\n      text ${{ foo }}\n", 11, 16, "expression",
     "unknown name `foo`", ""},
};

/* Criterion reports the source that failed. */
static void check(const struct mistake *want)
{
    static struct pawl_load_errors errors;
    struct pawl_plan *plan = NULL;
    int error =
        pawl_workflow_load_memory("flow.yaml", want->source, strlen(want->source), NULL, &plan, &errors);
    cr_expect(error == PAWL_E_INVALID, "returned %d for:\n%s", error, want->source);
    for (uint32_t i = 0; i < errors.count; i++) {
        const struct pawl_load_error *got = &errors.errors[i];
        if (got->line == want->line && got->column == want->column && strcmp(got->code, want->code) == 0 &&
            strstr(got->text, want->text) && strstr(got->hint, want->hint))
            return;
    }
    cr_expect(false, "wanted %u:%u: %s: %s (%s)\ngot %u:%u: %s: %s (%s)\nfor:\n%s", want->line, want->column,
              want->code, want->text, want->hint, errors.errors[0].line, errors.errors[0].column,
              errors.errors[0].code, errors.errors[0].text, errors.errors[0].hint, want->source);
}

Test(loader, each_mistake_is_told_at_its_place)
{
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++)
        check(&mistakes[i]);
}

Test(loader, a_mistake_is_the_only_one_told_when_there_is_one)
{
    static struct pawl_load_errors errors;
    struct pawl_plan *plan = NULL;
    const char *source = WORK "    timeout: soon\ndefaults: {grace: 1s}\n";
    cr_assert(eq(int, pawl_workflow_load_memory("f", source, strlen(source), NULL, &plan, &errors),
                 PAWL_E_INVALID));
    cr_expect(eq(u32, errors.count, 1));
    cr_expect(eq(u32, errors.dropped, 0));
}

Test(loader, several_mistakes_are_told_at_once_and_sorted)
{
    static struct pawl_load_errors errors;
    struct pawl_plan *plan = NULL;
    const char *source = "pawl: 1\nsteps:\n  a: {run: [x], needs: [b], bad: 1}\n  b: {run: [x], needs: a, "
                         "timeout: x}\nfoo: 1\n";
    cr_assert(eq(int, pawl_workflow_load_memory("f", source, strlen(source), NULL, &plan, &errors),
                 PAWL_E_INVALID));
    cr_assert(eq(u32, errors.count, 4));
    cr_expect(eq(u32, errors.errors[0].line, 3));
    cr_expect(eq(str, errors.errors[0].code, "cycle"));
    cr_expect(eq(str, errors.errors[1].code, "unknown_key"));
    cr_expect(eq(u32, errors.errors[2].line, 4));
    cr_expect(eq(u32, errors.errors[3].line, 5));
}

Test(loader, the_first_twenty_mistakes_stay_and_the_rest_is_counted)
{
    static struct pawl_load_errors errors;
    static char source[4096];
    struct pawl_plan *plan = NULL;
    int used = snprintf(source, sizeof source, "pawl: 1\nsteps:\n");
    for (int i = 0; i < 30; i++)
        used += snprintf(source + used, sizeof source - (size_t)used, "  s%d: {}\n", i);
    cr_assert(
        eq(int, pawl_workflow_load_memory("f", source, (size_t)used, NULL, &plan, &errors), PAWL_E_INVALID));
    cr_assert(eq(u32, errors.count, PAWL_LOAD_ERRORS_MAX));
    cr_expect(eq(u32, errors.dropped, 10));
    for (uint32_t i = 0; i < errors.count; i++)
        cr_expect(eq(u32, errors.errors[i].line, 3 + i));
}

/* ---- limits ---- */

static int load_text(const char *source, size_t length, const struct pawl_load_limits *limits,
                     struct pawl_load_errors *errors)
{
    struct pawl_plan *plan = NULL;
    int error = pawl_workflow_load_memory("f", source, length, limits, &plan, errors);
    pawl_plan_close(plan);
    return error;
}

Test(loader, a_file_of_the_largest_size_loads_and_one_byte_more_does_not)
{
    static struct pawl_load_errors errors;
    const struct pawl_load_limits limits = PAWL_LOAD_LIMITS_DEFAULT;
    size_t most = limits.file_bytes_max;
    char *source = malloc(most + 2);
    int used = sprintf(source, WORK "#");
    memset(source + used, 'c', most + 1 - (size_t)used);
    cr_expect(eq(int, load_text(source, most, &limits, &errors), 0));
    cr_expect(eq(int, load_text(source, most + 1, &limits, &errors), PAWL_E_LIMIT));
    cr_expect(eq(str, errors.errors[0].code, "limit"));
    free(source);
}

static char *nested(int lists)
{
    char *source = malloc(256 + 2 * (size_t)lists), *at = source;
    at += sprintf(at, "pawl: 1\nsteps: {a: {run: [x]}}\nparams: {p: ");
    memset(at, '[', (size_t)lists);
    at += lists;
    memset(at, ']', (size_t)lists);
    strcpy(at + lists, "}\n");
    return source;
}

Test(loader, a_file_of_the_greatest_depth_loads_and_one_deeper_does_not)
{
    static struct pawl_load_errors errors;
    const struct pawl_load_limits limits[] = {PAWL_LOAD_LIMITS_DEFAULT, PAWL_LOAD_LIMITS_MAX};
    for (int i = 0; i < 2; i++) {
        int fits = (int)limits[i].depth_max - 2; /* the file and params: are two levels */
        char *source = nested(fits), *deeper = nested(fits + 1);
        cr_expect(eq(int, load_text(source, strlen(source), &limits[i], &errors), 0));
        cr_expect(eq(int, load_text(deeper, strlen(deeper), &limits[i], &errors), PAWL_E_LIMIT));
        cr_expect(eq(str, errors.errors[0].code, "limit"));
        free(source);
        free(deeper);
    }
}

Test(loader, a_hundred_thousand_open_brackets_are_refused_and_harm_nothing)
{
    static struct pawl_load_errors errors;
    static char source[100000];
    const char *openings[] = {"[", "{a: ", "- ", "? "};
    for (int i = 0; i < 4; i++) {
        size_t step = strlen(openings[i]);
        for (size_t at = 0; at + step <= sizeof source; at += step)
            memcpy(source + at, openings[i], step);
        cr_expect(lt(int, load_text(source, sizeof source, NULL, &errors), 0));
        cr_expect(ge(u32, errors.count, 1));
    }
}

Test(loader, aliases_count_each_time_they_are_used)
{
    static struct pawl_load_errors errors;
    const char *bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c "
                       "[*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
                       "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
    cr_expect(eq(int, load_text(bomb, strlen(bomb), NULL, &errors), PAWL_E_LIMIT));
    cr_expect(eq(u32, errors.errors[0].line, 5));
    cr_expect(ne(ptr, strstr(errors.errors[0].text, "more than 100000 nodes"), NULL));
}

Test(loader, as_many_nodes_as_the_limit_load_and_one_more_does_not)
{
    static struct pawl_load_errors errors;
    const char *source = WORK; /* map, pawl, 1, steps, map, a, map, run, list, x */
    struct pawl_load_limits limits = {1 << 20, 32, 10};
    cr_expect(eq(int, load_text(source, strlen(source), &limits, &errors), 0));
    limits.nodes_max = 9;
    cr_expect(eq(int, load_text(source, strlen(source), &limits, &errors), PAWL_E_LIMIT));
}

Test(loader, limits_beyond_their_maxima_are_refused)
{
    static struct pawl_load_errors errors;
    const struct pawl_load_limits beyond[] = {
        {(64u << 20) + 1, 64, 1000000}, {64u << 20, 65, 1000000}, {64u << 20, 64, 1000001}, {1, 0, 1}};
    for (int i = 0; i < 4; i++)
        cr_expect(eq(int, load_text(WORK, strlen(WORK), &beyond[i], &errors), PAWL_E_LIMIT));
    const struct pawl_load_limits most = PAWL_LOAD_LIMITS_MAX;
    cr_expect(eq(int, load_text(WORK, strlen(WORK), &most, &errors), 0));
}

Test(loader, a_nul_byte_is_told_at_its_place)
{
    static struct pawl_load_errors errors;
    const char source[] = "pawl: 1\nx: a\0b\n";
    cr_expect(eq(int, load_text(source, sizeof source - 1, NULL, &errors), PAWL_E_INVALID));
    cr_expect(eq(u32, errors.errors[0].line, 2));
    cr_expect(eq(u32, errors.errors[0].column, 5));
    cr_expect(eq(str, errors.errors[0].code, "encoding"));
}

Test(loader, a_file_that_is_not_there_says_so)
{
    static struct pawl_load_errors errors;
    struct pawl_plan *plan = NULL;
    cr_expect(eq(int, pawl_workflow_load("/no/such/file.yaml", NULL, &plan, &errors), -2));
    cr_expect(eq(str, errors.errors[0].code, "unreadable"));
    cr_expect(eq(u32, errors.errors[0].line, 0));
}
