/*
 * value_rules.c - values, lazy lists, JSON, arenas.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/value.h"
#include "shm/error.h"
#include "tests/unit/text_sink.h"

Test(value, lines_are_found_at_their_index_whatever_ends_the_text)
{
    static const struct {
        const char *text;
        size_t count;
        const char *last;
    } cases[] = {{"", 0, NULL},    {"\n", 1, ""},    {"a", 1, "a"},    {"a\n", 1, "a"},
                 {"a\nb", 2, "b"}, {"a\n\n", 2, ""}, {"\n\nx", 3, "x"}};
    struct pawl_arena arena;
    pawl_arena_init(&arena, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pawl_value lines, line;
        cr_assert(eq(int, pawl_lines_init(&arena, cases[i].text, strlen(cases[i].text), &lines), 0));
        cr_expect(eq(sz, lines.count, cases[i].count));
        cr_expect(eq(int, pawl_value_at(&lines, cases[i].count, &arena, &line), PAWL_E_NOT_FOUND));
        if (cases[i].last) {
            cr_assert(eq(int, pawl_value_at(&lines, cases[i].count - 1, &arena, &line), 0));
            cr_expect(eq(sz, line.count, strlen(cases[i].last)));
            cr_expect(eq(int, memcmp(line.bytes, cases[i].last, line.count), 0));
        }
    }
    pawl_arena_fini(&arena);
}

Test(value, a_million_lines_take_a_megabyte_and_each_is_right)
{
    size_t length = 0;
    char *bytes = malloc(8000000);
    for (int i = 0; i < 1000000; i++)
        length += (size_t)sprintf(bytes + length, "%d\n", i);
    struct pawl_arena arena;
    struct pawl_value lines, line;
    pawl_arena_init(&arena, 0);
    cr_assert(eq(int, pawl_lines_init(&arena, bytes, length, &lines), 0));
    cr_expect(eq(sz, lines.count, 1000000));
    cr_expect(lt(sz, arena.used_bytes, 1100000));
    for (uint64_t i = 0; i < 1000000; i += 991) {
        char want[16];
        size_t want_bytes = (size_t)sprintf(want, "%llu", (unsigned long long)i);
        cr_assert(eq(int, pawl_value_at(&lines, i, &arena, &line), 0));
        cr_assert(eq(sz, line.count, want_bytes));
        cr_assert(eq(int, memcmp(line.bytes, want, want_bytes), 0));
    }
    pawl_arena_fini(&arena);
    free(bytes);
}

static void roundtrip(const char *json, const char *want)
{
    struct pawl_arena arena;
    struct pawl_value value;
    struct pawl_json_error problem = {.text = ""};
    struct text text = {.length = 0};
    pawl_arena_init(&arena, 0);
    int error = pawl_value_parse_json(json, strlen(json), 32, &arena, &value, &problem);
    cr_expect(eq(int, error, 0), "%s: %s", json, problem.text);
    if (error == 0) {
        cr_expect(eq(int, pawl_value_write_json(&value, to_text, &text), 0));
        cr_expect(eq(str, text.bytes, (char *)want));
    }
    pawl_arena_fini(&arena);
}

Test(value, json_comes_back_as_it_was)
{
    roundtrip(" {\"b\": [1, 2.5, true, null, \"x\"], \"a\": {}} ",
              "{\"b\":[1,2.5,true,null,\"x\"],\"a\":{}}");
    roundtrip("0.1", "0.1");
    roundtrip("1e300", "1e+300");
    roundtrip("3.0", "3.0");
    roundtrip("-9223372036854775808", "-9223372036854775808");
    roundtrip("\"\\u00e9\\n\\t\\\"\\\\\\u0001\\u007f\"", "\"é\\n\\t\\\"\\\\\\u0001\\u007f\"");
    roundtrip("[]", "[]");
}

Test(value, what_is_no_json_is_refused)
{
    static const char *const bad[] = {
        "", "{", "[1,]", "01", "nul", "1 2", "\"\\u0000\"", "9223372036854775808", "[1] x", "\"\xff\""};
    struct pawl_arena arena;
    struct pawl_value value;
    pawl_arena_init(&arena, 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect(
            eq(int, pawl_value_parse_json(bad[i], strlen(bad[i]), 32, &arena, &value, NULL), PAWL_E_INVALID),
            "%s", bad[i]);
    pawl_arena_fini(&arena);
}

Test(value, json_ends_at_the_depth_and_the_arena)
{
    struct pawl_arena arena;
    struct pawl_value value;
    pawl_arena_init(&arena, 0);
    cr_expect(eq(int, pawl_value_parse_json("[[[1]]]", 7, 3, &arena, &value, NULL), 0));
    cr_expect(eq(int, pawl_value_parse_json("[[[1]]]", 7, 2, &arena, &value, NULL), PAWL_E_LIMIT));
    pawl_arena_fini(&arena);
    pawl_arena_init(&arena, 40);
    cr_expect(eq(int, pawl_value_parse_json("[1,2]", 5, 3, &arena, &value, NULL), PAWL_E_LIMIT));
    pawl_arena_fini(&arena);
}

Test(value, bytes_that_are_no_utf8_are_written_as_replacement_characters)
{
    struct pawl_value value = pawl_value_bytes("a\xff\xc3(\xe2\x82", 6);
    struct text text = {.length = 0};
    cr_expect(eq(int, pawl_value_write_json(&value, to_text, &text), 0));
    cr_expect(eq(str, text.bytes, "\"a\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\""));
}

Test(value, truth_is_what_the_reference_says)
{
    struct pawl_value empty = {.kind = PAWL_VALUE_LIST, .count = 0},
                      none = {.kind = PAWL_VALUE_MAP, .count = 0};
    struct pawl_value list = {.kind = PAWL_VALUE_LIST, .count = 1};
    const struct {
        struct pawl_value value;
        bool truth;
    } cases[] = {{pawl_value_null(), false},
                 {pawl_value_bool(false), false},
                 {pawl_value_bool(true), true},
                 {pawl_value_int(0), false},
                 {pawl_value_int(-1), true},
                 {pawl_value_double(0), false},
                 {pawl_value_double(0.5), true},
                 {pawl_value_text(""), false},
                 {pawl_value_text("false"), false},
                 {pawl_value_text("0"), true},
                 {empty, false},
                 {none, false},
                 {list, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect(eq(int, pawl_value_truth(&cases[i].value), cases[i].truth), "case %zu", i);
}

static int broken_at(const struct pawl_list_source *source, uint64_t index, struct pawl_arena *arena,
                     struct pawl_value *value_out)
{
    (void)source;
    (void)arena;
    *value_out = pawl_value_int((int64_t)index);
    return index < 2 ? 0 : PAWL_E_DAMAGED;
}

Test(value, an_error_of_a_served_list_ends_what_reads_it)
{
    const struct pawl_list_source source = {5, NULL, broken_at};
    struct pawl_value list = pawl_value_virtual(&source);
    struct pawl_arena arena;
    struct text text = {.length = 0};
    pawl_arena_init(&arena, 0);
    cr_expect(eq(int, pawl_value_write_json(&list, to_text, &text), PAWL_E_DAMAGED));
    cr_expect(eq(int, pawl_value_write_stdin(&list, to_text, &text), PAWL_E_DAMAGED));
    cr_expect(eq(int, pawl_value_equal(&list, &list, &arena), PAWL_E_DAMAGED));
    pawl_arena_fini(&arena);
}

Test(value, stdin_is_text_as_it_is_and_lists_line_by_line)
{
    struct pawl_value items[] = {pawl_value_text("a"), pawl_value_int(2), pawl_value_null(),
                                 pawl_value_bool(true)};
    struct pawl_value list = {.kind = PAWL_VALUE_LIST, .count = 4, .items = items},
                      text_value = pawl_value_text("x"), lines;
    struct pawl_arena arena;
    struct text text = {.length = 0};
    pawl_arena_init(&arena, 0);
    cr_assert(eq(int, pawl_lines_init(&arena, "p\nq", 3, &lines), 0));
    cr_expect(eq(int, pawl_value_write_stdin(&list, to_text, &text), 0));
    cr_expect(eq(int, pawl_value_write_stdin(&text_value, to_text, &text), 0));
    cr_expect(eq(int, pawl_value_write_stdin(&lines, to_text, &text), 0));
    cr_expect(eq(str, text.bytes, "a\n2\n\ntrue\nxp\nq\n"));
    pawl_arena_fini(&arena);
}

Test(value, an_arena_never_gives_more_than_its_limit_and_all_again_after_reset)
{
    struct pawl_arena arena;
    pawl_arena_init(&arena, 100000);
    for (int round = 0; round < 3; round++) {
        size_t got = 0;
        while (pawl_arena_alloc(&arena, 1000))
            got += 1000;
        cr_expect(eq(sz, got, 100000));
        cr_expect(eq(ptr, pawl_arena_alloc(&arena, SIZE_MAX), NULL));
        cr_expect(eq(ptr, pawl_arena_alloc(&arena, SIZE_MAX - 8), NULL));
        pawl_arena_reset(&arena);
    }
    pawl_arena_fini(&arena);
}
