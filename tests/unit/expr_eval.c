/*
 * expr_eval.c - what expressions give, and how they fail.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/expr.h"
#include "scheduler/plan_builder.h"
#include "shm/error.h"
#include "tests/unit/text_sink.h"

static const char params_json[] = "{\"n\": 5, \"f\": 2.5, \"s\": \"text\", \"e\": \"\", \"z\": null, \"l\": "
                                  "[1, \"two\", [3]], \"m\": {\"k\": 1, \"two words\": 2}, "
                                  "\"a-b\": 7, \"a\": 8, \"t\": true, \"big\": 9223372036854775807, \"p\": "
                                  "\"/usr/lib/x.tar.gz\", \"u\": \"h\\u00e9\"}";

/* A plan with steps `one` (text), `two.x` (json), `many`, and one template in step `here`, which needs them
 * all. */
static struct pawl_plan *compile(const char *source, uint32_t *template_out,
                                 struct pawl_expr_diagnostic *diagnostic)
{
    struct pawl_plan_builder *builder;
    struct pawl_arena arena;
    struct pawl_value params;
    struct pawl_plan *plan = NULL;
    uint32_t steps[4];
    const char *names[] = {"one", "two.x", "many", "here"};
    pawl_arena_init(&arena, 0);
    cr_assert(eq(int, pawl_plan_builder_create("test", "", &builder), 0));
    cr_assert(eq(int, pawl_value_parse_json(params_json, strlen(params_json), 32, &arena, &params, NULL), 0));
    for (size_t i = 0; i < params.count; i++)
        cr_assert(eq(int, pawl_plan_add_param(builder, params.pairs[i].key, &params.pairs[i].value), 0));
    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, pawl_plan_add_step(builder, names[i], &steps[i]), 0));
    pawl_plan_edit_step(builder, 1)->output = PAWL_OUTPUT_JSON;
    pawl_plan_edit_step(builder, 2)->flags |= PAWL_STEP_FED;
    pawl_plan_edit_step(builder, 3)->flags |= PAWL_STEP_FED;
    cr_assert(eq(int, pawl_plan_set_needs(builder, 3, (uint32_t[]){0, 1, 2}, 3), 0));
    struct pawl_expr_scope scope = {
        .flags = PAWL_EXPR_SCOPE_ITEM | PAWL_EXPR_SCOPE_STEPS | PAWL_EXPR_SCOPE_OUTCOME, .step_index = 3};
    struct pawl_plan_env entry = {.name = {0, 0}};
    cr_assert(eq(int, pawl_plan_add_string(builder, "INNER", 5, &entry.name), 0));
    cr_assert(
        eq(int, pawl_template_compile(builder, &scope, "<${{ item }}>", 13, &entry.value, diagnostic), 0));
    cr_assert(eq(int, pawl_plan_set_env(builder, 3, &entry, 1), 0));
    scope.env_count[0] = 1;
    int error = pawl_template_compile(builder, &scope, source, strlen(source), template_out, diagnostic);
    if (error == 0) {
        pawl_plan_edit_step(builder, 3)->stdin_template = *template_out;
        cr_assert(eq(int, pawl_plan_finish(builder, NULL, NULL, &plan), 0), "finish: %s", source);
    }
    pawl_plan_builder_destroy(builder);
    pawl_arena_fini(&arena);
    return plan;
}

static int count_elements_made;

static int nth_output(const struct pawl_list_source *source, uint64_t index, struct pawl_arena *arena,
                      struct pawl_value *value_out)
{
    (void)source;
    count_elements_made++;
    char *text = pawl_arena_alloc(arena, 32);
    snprintf(text, 32, "o%llu", (unsigned long long)index);
    *value_out = pawl_value_text(text);
    return 0;
}
static const struct pawl_list_source outputs = {3, NULL, nth_output};

static int step_field(void *context, uint32_t step, enum pawl_expr_step_field field, const char *name,
                      size_t name_bytes, struct pawl_arena *arena, struct pawl_value *value_out)
{
    (void)context;
    if (field == PAWL_EXPR_STEP_OUTPUTS)
        *value_out = pawl_value_virtual(&outputs);
    else if (field == PAWL_EXPR_STEP_EXIT_CODE)
        *value_out = pawl_value_int(step);
    else if (field == PAWL_EXPR_STEP_STATE)
        *value_out = pawl_value_text("succeeded");
    else if (field == PAWL_EXPR_STEP_NAMED && !(name_bytes == 3 && memcmp(name, "key", 3) == 0))
        return PAWL_E_NOT_FOUND;
    else if (field == PAWL_EXPR_STEP_NAMED)
        *value_out = pawl_value_text("named");
    else if (step == 1)
        return pawl_value_parse_json("{\"a\": [10, 20]}", 15, 8, arena, value_out, NULL);
    else
        *value_out = pawl_value_text("line 1\nline 2");
    return 0;
}

static int env_var(void *context, const char *name, size_t name_bytes, struct pawl_arena *arena,
                   struct pawl_value *value_out)
{
    (void)context;
    (void)arena;
    *value_out = pawl_value_text("/home/x");
    return name_bytes == 4 && memcmp(name, "HOME", 4) == 0 ? 0 : PAWL_E_NOT_FOUND;
}

static int outcome(void *context, enum pawl_expr_outcome which, bool *holds_out)
{
    (void)context;
    *holds_out = which == PAWL_EXPR_SUCCESS;
    return 0;
}

struct rule {
    const char *source;
    const char *want; /* JSON of the value; "!text" is a part of the error */
};

static void check(const struct rule *rule)
{
    struct pawl_expr_diagnostic diagnostic = {.text = ""};
    struct pawl_value item = pawl_value_text("it em"), value;
    struct pawl_expr_env env = {NULL, step_field, env_var, outcome, "r-1", 3, &item, 4};
    struct pawl_expr_error problem;
    struct pawl_arena arena;
    struct text text = {.length = 0};
    uint32_t index;
    struct pawl_plan *plan = compile(rule->source, &index, &diagnostic);
    cr_expect(plan != NULL, "%s does not compile: %s", rule->source, diagnostic.text);
    if (!plan)
        return;
    pawl_arena_init(&arena, 64 << 20);
    int error = pawl_template_eval(plan, index, &env, &arena, &value, &problem);
    if (rule->want[0] == '!') {
        cr_expect(error < 0 && strstr(problem.text, rule->want + 1), "%s: wanted error %s, got %d %s",
                  rule->source, rule->want + 1, error, problem.text);
        cr_expect(strstr(problem.text, rule->source) != NULL, "%s: the error does not name it: %s",
                  rule->source, problem.text);
    } else {
        cr_expect(error == 0, "%s: %s", rule->source, problem.text);
        if (error == 0)
            pawl_value_write_json(&value, to_text, &text);
        cr_expect(strcmp(text.bytes, rule->want) == 0, "%s: wanted %s, got %s", rule->source, rule->want,
                  text.bytes);
    }
    pawl_arena_fini(&arena);
    pawl_plan_close(plan);
}

static const struct rule rules[] = {
    {"plain", "\"plain\""},
    {"a${{ 1 }}b${{ params.z }}c", "\"a1bc\""},
    {"${{ 1 }}", "1"},
    {"${{1}}", "1"},
    {" ${{ 1 }}", "\" 1\""},
    {"${{ 1.5e3 }}", "1500.0"},
    {"${{ 'it''s' }}", "\"it's\""},
    {"${{ \"a\\n\\\"\\u00e9\" }}", "\"a\\n\\\"é\""},
    {"${{ '}}' }}", "\"}}\""},
    {"${{ '${{' }}", "\"${{\""},
    {"${{ [1, 'a', true, null, [2]] }}", "[1,\"a\",true,null,[2]]"},
    {"${{ [] }}", "[]"},
    /* paths */
    {"${{ params.n }}", "5"},
    {"${{ params['a-b'] }}", "7"},
    {"${{ params.a-b }}", "7"},
    {"${{ params.a -1 }}", "7"},
    {"${{ params.a-1 }}", "7"},
    {"${{ params.l[1] }}", "\"two\""},
    {"${{ params.l[-1][0] }}", "3"},
    {"${{ params.m.k }}", "1"},
    {"${{ params.m['two words'] }}", "2"},
    {"${{ env.HOME }}", "\"/home/x\""},
    {"${{ env.NOPE }}", "null"},
    {"${{ env['HOME'] }}", "\"/home/x\""},
    {"${{ env.INNER }}", "\"<it em>\""},
    {"${{ item }}", "\"it em\""},
    {"${{ index + 1 }}", "5"},
    {"${{ run.id }}", "\"r-1\""},
    {"${{ steps.one.output }}", "\"line 1\\nline 2\""},
    {"${{ steps.two.x.output.a[1] }}", "20"},
    {"${{ steps['two.x'].output.a[0] }}", "10"},
    {"${{ steps.many.outputs }}", "[\"o0\",\"o1\",\"o2\"]"},
    {"${{ steps.many.outputs[2] }}", "\"o2\""},
    {"${{ steps.two.x.exit_code }}", "1"},
    {"${{ steps.one.state == 'succeeded' }}", "true"},
    {"${{ steps.one.key }}", "\"named\""},
    {"${{ steps.one['key'] }}", "\"named\""},
    /* operators */
    {"${{ 1 + 2 * 3 - -4 }}", "11"},
    {"${{ (1 + 2) * 3 }}", "9"},
    {"${{ 7 / 2 }}", "3.5"},
    {"${{ 6 / 2 }}", "3"},
    {"${{ -7 % 3 }}", "-1"},
    {"${{ 7.5 % 2 }}", "1.5"},
    {"${{ 1 + 0.5 }}", "1.5"},
    {"${{ 'a' + 'b' }}", "\"ab\""},
    {"${{ 1 == 1.0 and 'a' == 'a' and params.l == [1, 'two', [3]] }}", "true"},
    {"${{ params.z == null }}", "true"},
    {"${{ params.l != [1] }}", "true"},
    {"${{ 9007199254740993 == 9007199254740992.0 }}", "false"},
    {"${{ 'a' < 'b' and 'a' < 'aa' and not 'b' < 'a' }}", "true"},
    {"${{ 1 < 1.5 and 2 >= 2 and 2 <= 2 and 3 > 2 }}", "true"},
    {"${{ 1 in params.l and 'k' in params.m and 'ex' in params.s }}", "true"},
    {"${{ 9 not in params.l and not 9 in params.l }}", "true"},
    {"${{ 1 or 2 / 0 }}", "1"},
    {"${{ 0 and 2 / 0 }}", "0"},
    {"${{ params.e or 'other' }}", "\"other\""},
    {"${{ not params.l }}", "false"},
    {"${{ not not '' }}", "false"},
    {"${{ 1 + 1 == 2 or false }}", "true"},
    /* functions */
    {"${{ len('h\xc3\xa9') }}", "2"},
    {"${{ len(params.l) + len(params.m) + len(steps.many.outputs) }}", "8"},
    {"${{ default(params.z, 1) }}", "1"},
    {"${{ default(params.e, 1) }}", "1"},
    {"${{ default(params.n, 1) }}", "5"},
    {"${{ default(params.m.nope, 'x') }}", "\"x\""},
    {"${{ default(params.l[9], 'x') }}", "\"x\""},
    {"${{ default(steps.one.nope, 'x') }}", "\"x\""},
    {"${{ default(env.NOPE, 'x') }}", "\"x\""},
    {"${{ basename(params.p) }}", "\"x.tar.gz\""},
    {"${{ basename(params.p, '.tar.gz') }}", "\"x\""},
    {"${{ [basename('a/'), basename('/'), basename(''), basename('//'), basename('.gz', '.gz')] }}",
     "[\"a\",\"/\",\"\",\"/\",\".gz\"]"},
    {"${{ dirname(params.p) }}", "\"/usr/lib\""},
    {"${{ [dirname('a'), dirname('/a'), dirname('a/b/'), dirname('/'), dirname('a//b')] }}",
     "[\".\",\"/\",\"a\",\"/\",\"a\"]"},
    {"${{ join(params.l) }}", "\"1 two [3]\""},
    {"${{ join(steps.many.outputs, ', ') }}", "\"o0, o1, o2\""},
    {"${{ join([], ',') }}", "\"\""},
    {"${{ split(' a  b\tc\\n ') }}", "[\"a\",\"b\",\"c\\\\n\"]"},
    {"${{ split('a,,b,', ',') }}", "[\"a\",\"\",\"b\",\"\"]"},
    {"${{ split('', ',') }}", "[\"\"]"},
    {"${{ split('') }}", "[]"},
    {"${{ json('{\"a\": [1, 2.5]}').a }}", "[1,2.5]"},
    {"${{ json(params.m) }}", "\"{\\\"k\\\":1,\\\"two words\\\":2}\""},
    {"${{ json(params.z) }}", "\"null\""},
    {"${{ lines(steps.one.output) }}", "[\"line 1\",\"line 2\"]"},
    {"${{ lines(\"a\\n\\nb\\n\") }}", "[\"a\",\"\",\"b\"]"},
    {"${{ lines('') }}", "[]"},
    {"${{ quote(\"it's\") }}", "\"'it'\\\\''s'\""},
    {"${{ quote('plain/x.y') }}", "\"plain/x.y\""},
    {"${{ quote('') }}", "\"''\""},
    {"${{ quote(['a b', 'c']) }}", "\"'a b' c\""},
    {"${{ quote('$(x)`y`\\\\') }}", "\"'$(x)`y`\\\\\\\\'\""},
    {"${{ success() and not failed() and always() }}", "true"},
    /* failures */
    {"${{ 1 / (params.n - 5) }}", "!division by zero"},
    {"${{ 1 % 0 }}", "!division by zero"},
    {"${{ 1.0 / 0 }}", "!division by zero"},
    {"${{ params.big + 1 }}", "!overflow"},
    {"${{ params.big * 2 }}", "!overflow"},
    {"${{ -params.big - 2 }}", "!overflow"},
    {"${{ 1e308 * 10 }}", "!overflow"},
    {"${{ params.m.nope }}", "!there is no key `nope`"},
    {"${{ params.l[3] }}", "!there is no element 3 in a list of 3"},
    {"${{ params.l[-4] }}", "!there is no element -4"},
    {"${{ params.l.x }}", "!list has no element by text"},
    {"${{ params.z.x }}", "!null has no keys"},
    {"${{ item.x }}", "!text has no element by text"},
    {"${{ item + 1 }}", "!`+` cannot take int"},
    {"${{ 1 < item }}", "!`<` cannot take text"},
    {"${{ len(params.z) }}", "!`len()` cannot take null"},
    {"${{ item in params.z }}", "!`in` cannot take null"},
    {"${{ join(item) }}", "!`join()` cannot take text"},
    {"${{ split('a', '') }}", "!empty text"},
    {"${{ json('{') }}", "!this is no JSON"},
    {"${{ steps.one.nope }}", "!step `one` has no `nope`"},
};

Test(expr, each_expression_gives_what_the_rules_say)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        check(&rules[i]);
}

static void compiles(const char *source, bool want)
{
    struct pawl_expr_diagnostic diagnostic = {.text = ""};
    uint32_t index;
    struct pawl_plan *plan = compile(source, &index, &diagnostic);
    cr_expect(eq(int, plan != NULL, want), "%.60s...: %s", source, diagnostic.text);
    pawl_plan_close(plan);
}

Test(expr, nesting_ends_at_its_limit)
{
    static char source[8192];
    for (int extra = 0; extra <= 1; extra++) {
        int depth = PAWL_EXPR_DEPTH_MAX - 1 + extra;
        int used = sprintf(source, "${{ ");
        memset(source + used, '(', (size_t)depth);
        used += depth;
        source[used++] = '1';
        memset(source + used, ')', (size_t)depth);
        strcpy(source + used + depth, " }}");
        compiles(source, extra == 0);
        used = sprintf(source, "${{ 1");
        for (int i = 0; i < depth; i++)
            used += sprintf(source + used, "+1");
        strcpy(source + used, " }}");
        compiles(source, extra == 0);
        used = sprintf(source, "${{ ");
        memset(source + used, '-', (size_t)depth);
        strcpy(source + used + depth, "1 }}");
        compiles(source, extra == 0);
    }
    memset(source, '(', sizeof source - 1);
    memcpy(source, "${{", 3);
    compiles(source, false);
}

Test(expr, templates_tell_what_they_depend_on)
{
    struct pawl_expr_diagnostic diagnostic;
    uint32_t index, count;
    struct pawl_plan *plan = compile(
        "${{ steps.many.outputs }}${{ steps.one.output }}${{ steps.one.state }}${{ env.INNER }}${{ run.id }}",
        &index, &diagnostic);
    const uint32_t *steps = pawl_plan_template_steps(plan, index, &count);
    cr_assert(eq(u32, count, 2));
    cr_expect(eq(u32, steps[0], 0));
    cr_expect(eq(u32, steps[1], 2));
    cr_expect(eq(u32, pawl_plan_template(plan, index)->flags,
                 PAWL_TEMPLATE_USES_STEPS | PAWL_TEMPLATE_USES_ITEM | PAWL_TEMPLATE_USES_RUN));
    pawl_plan_close(plan);
    plan = compile("just text", &index, &diagnostic);
    size_t length;
    cr_expect(eq(u32, pawl_plan_template(plan, index)->flags, PAWL_TEMPLATE_CONSTANT));
    cr_expect(eq(str, (char *)pawl_template_constant(plan, index, &length), "just text"));
    cr_expect(eq(sz, length, 9));
    pawl_plan_close(plan);
    plan = compile("${{ index }}", &index, &diagnostic);
    cr_expect(
        eq(u32, pawl_plan_template(plan, index)->flags, PAWL_TEMPLATE_USES_INDEX | PAWL_TEMPLATE_WHOLE));
    cr_expect(eq(ptr, (void *)pawl_template_constant(plan, index, &length), NULL));
    pawl_plan_close(plan);
}

/* ---- large values ---- */

static int eval_item(const char *source, const struct pawl_value *item, bool as_text,
                     struct pawl_value *value_out, struct pawl_arena *arena)
{
    struct pawl_expr_diagnostic diagnostic;
    struct pawl_expr_env env = {.item = item};
    uint32_t index;
    const char *text;
    size_t length;
    struct pawl_plan *plan = compile(source, &index, &diagnostic);
    int error = as_text ? pawl_template_eval_text(plan, index, &env, arena, &text, &length, NULL)
                        : pawl_template_eval(plan, index, &env, arena, value_out, NULL);
    if (error == 0 && as_text)
        *value_out = pawl_value_int((int64_t)length);
    pawl_plan_close(plan); /* what these tests look at is not its */
    return error;
}

Test(expr, text_of_one_mebibyte_passes_and_one_byte_more_may_only_be_stdin)
{
    size_t most = PAWL_EXPR_TEXT_BYTES_MAX;
    char *bytes = malloc(most + 1);
    memset(bytes, 'x', most + 1);
    struct pawl_value fits = pawl_value_bytes(bytes, most), over = pawl_value_bytes(bytes, most + 1), value;
    struct pawl_arena arena;
    pawl_arena_init(&arena, 0);
    cr_expect(eq(int, eval_item("${{ item }}", &fits, true, &value, &arena), 0));
    cr_expect(eq(int, eval_item("${{ item }}", &over, true, &value, &arena), PAWL_E_LIMIT));
    cr_expect(eq(int, eval_item("${{ item }}", &over, false, &value, &arena), 0));
    cr_expect(eq(sz, value.count, most + 1));
    cr_expect(eq(ptr, (void *)value.bytes, bytes)); /* passed through, not copied */
    cr_expect(eq(int, eval_item("${{ len(item) }}", &over, false, &value, &arena), 0));
    cr_expect(eq(int, eval_item("a${{ item }}", &fits, false, &value, &arena), PAWL_E_LIMIT));
    cr_expect(eq(int, eval_item("${{ item + 'a' }}", &fits, false, &value, &arena), PAWL_E_LIMIT));
    cr_expect(eq(int, eval_item("${{ quote(item) }}", &over, false, &value, &arena), PAWL_E_LIMIT));
    pawl_arena_fini(&arena);
    free(bytes);
}

Test(expr, a_nul_never_becomes_an_argument)
{
    struct pawl_value item = pawl_value_bytes("a\0b", 3), value;
    struct pawl_arena arena;
    pawl_arena_init(&arena, 0);
    cr_expect(eq(int, eval_item("x${{ item }}", &item, true, &value, &arena), PAWL_E_INVALID));
    cr_expect(eq(int, eval_item("x${{ item }}", &item, false, &value, &arena), 0));
    pawl_arena_fini(&arena);
}

Test(expr, a_value_beyond_the_arena_is_an_error)
{
    struct pawl_value item = pawl_value_text("a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z"), value;
    struct pawl_arena arena;
    pawl_arena_init(&arena, 128);
    cr_expect(eq(int, eval_item("${{ split(item, ',') }}", &item, false, &value, &arena), PAWL_E_LIMIT));
    pawl_arena_fini(&arena);
}

Test(expr, only_the_asked_element_of_a_served_list_is_made)
{
    struct pawl_value value, item = pawl_value_virtual(&outputs);
    struct pawl_arena arena;
    pawl_arena_init(&arena, 0);
    count_elements_made = 0;
    cr_expect(eq(int, eval_item("${{ item[1] }}", &item, false, &value, &arena), 0));
    cr_expect(eq(int, count_elements_made, 1));
    cr_expect(eq(int, eval_item("${{ len(item) }}", &item, false, &value, &arena), 0));
    cr_expect(eq(int, count_elements_made, 1));
    pawl_arena_fini(&arena);
}
