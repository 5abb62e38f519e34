/*
 * cli_map.c - pawl map's command, arguments, and the memory of what is in flight.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/map_halt.h"
#include "runtime/cli/map_input.h"
#include "runtime/cli/map_items.h"
#include "runtime/cli/map_output.h"
#include "runtime/cli/map_template.h"
#include "shm/error.h"

TestSuite(map_template);
TestSuite(map_input);
TestSuite(map_items);

enum { WORDS_MAX = 12 };

/* The expansion as "<word><word>", {%} told as "%INDEX@OFFSET". */
static const char *expand(bool shell, uint64_t number, const char *const *command,
                          const char *const *arguments)
{
    static char text[1024];
    struct pawl_map_template *map_template;
    struct pawl_map_command out;
    size_t lengths[WORDS_MAX];
    int words = 0;
    uint32_t count = 0;
    while (command[words] != NULL)
        words++;
    for (; arguments[count] != NULL; count++)
        lengths[count] = strlen(arguments[count]);
    struct pawl_map_args args = {count, arguments, lengths};
    cr_assert(
        eq(int, pawl_map_template_create(words, (char *const *)(uintptr_t)command, shell, &map_template), 0));
    cr_assert(eq(int, pawl_map_template_expand(map_template, &args, number, &out), 0));
    text[0] = '\0';
    for (uint32_t i = 0; i < out.argc; i++)
        sprintf(text + strlen(text), "<%s>", out.argv[i]);
    for (uint32_t i = 0; i < out.patch_count; i++)
        sprintf(text + strlen(text), "%%%u@%u", out.patches[i].arg_index, out.patches[i].byte_offset);
    cr_assert(eq(ptr, (void *)(uintptr_t)out.argv[out.argc], NULL));
    pawl_map_template_destroy(map_template);
    return text;
}

#define COMMAND(...)   ((const char *const[]){__VA_ARGS__, NULL})
#define ARGUMENTS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define EXPANDS(want, command, arguments)                                                                    \
    do {                                                                                                     \
        const char *got_ = expand(false, 1, command, arguments);                                             \
        cr_expect(strcmp(got_, want) == 0, "got %s, expected %s", got_, want);                               \
    } while (0)

Test(map_template, the_argument_is_appended_when_no_placeholder_stands_in_the_command)
{
    EXPANDS("<echo><a>", COMMAND("echo"), ARGUMENTS("a"));
    EXPANDS("<echo><x><a>", COMMAND("echo", "x"), ARGUMENTS("a"));
    EXPANDS("<echo><{x}><a>", COMMAND("echo", "{x}"), ARGUMENTS("a"));
    EXPANDS("<echo><1>", COMMAND("echo", "{#}"), ARGUMENTS("a"));
}

Test(map_template, placeholders_take_an_argument_apart)
{
    static const struct {
        const char *argument, *no_extension, *base, *directory, *base_no_extension;
    } cases[] = {
        {"a", "a", "a", ".", "a"},
        {"/a", "/a", "a", "/", "a"},
        {"/", "/", "", "/", ""},
        {"", "", "", ".", ""},
        {"a/b.c/", "a/b.c/", "", "a", ""},
        {"a/b.c.d", "a/b.c", "b.c.d", "a", "b.c"},
        {".x", "", ".x", ".", ""},
        {"a.b/c", "a.b/c", "c", "a.b", "c"},
        {"trailing.", "trailing", "trailing.", ".", "trailing"},
        {"a//b", "a//b", "b", "a", "b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char want[256];
        snprintf(want, sizeof want, "<%s><%s><%s><%s><%s>", cases[i].argument, cases[i].no_extension,
                 cases[i].base, cases[i].directory, cases[i].base_no_extension);
        EXPANDS(want, COMMAND("{}", "{.}", "{/}", "{//}", "{/.}"), ARGUMENTS(cases[i].argument));
    }
}

Test(map_template, positions_count_from_both_ends_and_beyond_them_is_nothing)
{
    EXPANDS("<b><a.x><><b>", COMMAND("{2}", "{1}", "{3}", "{-1}"), ARGUMENTS("a.x", "b"));
    EXPANDS("<a-b><dir>", COMMAND("{1.}-{2}", "{3//}"), ARGUMENTS("a.x", "b", "dir/c"));
    EXPANDS("<{0}><{1x}><{-}><a>", COMMAND("{0}", "{1x}", "{-}", "{1}"), ARGUMENTS("a"));
}

Test(map_template, several_arguments_are_several_words_alone_and_one_text_inside_a_word)
{
    EXPANDS("<echo><a b><c>", COMMAND("echo"), ARGUMENTS("a b", "c"));
    EXPANDS("<x=a c>", COMMAND("x={}"), ARGUMENTS("a", "c"));
    EXPANDS("<a><c>", COMMAND("{.}"), ARGUMENTS("a.b", "c.d"));
}

Test(map_template, braces_of_an_argument_are_data)
{
    EXPANDS("<echo><{#}{}>", COMMAND("echo", "{}"), ARGUMENTS("{#}{}"));
    EXPANDS("<{.}-{2}>", COMMAND("{1}-{2}"), ARGUMENTS("{.}", "{2}"));
}

Test(map_template, the_slot_number_is_left_to_the_worker)
{
    EXPANDS("<gpu=><x><a>%0@4", COMMAND("gpu={%}", "x", "{}"), ARGUMENTS("a"));
    EXPANDS("<x>%0@0%0@1", COMMAND("{%}x{%}"), ARGUMENTS("a"));
}

Test(map_template, the_shell_gets_one_text_with_each_argument_quoted)
{
    const char *got = expand(true, 7, COMMAND("echo", "{}", "> out.{#}"), ARGUMENTS("it's; rm", "if"));
    cr_assert(eq(str, (char *)(uintptr_t)got, "</bin/sh><-c><echo 'it'\\''s; rm' 'if' > out.7>"));
    got = expand(true, 1, COMMAND("a {%}{}"), ARGUMENTS("x"));
    cr_assert(eq(str, (char *)(uintptr_t)got, "</bin/sh><-c><a 'x'>%2@2"));
}

Test(map_template, tasks_are_told_apart_by_command_and_arguments_alone)
{
    static char *echo[] = {"echo", "{#}", "{}"}, *other[] = {"echo", "{#}{}"};
    const char *ab[] = {"a", "b"}, *joined[] = {"ab"};
    size_t ab_lengths[] = {1, 1}, joined_lengths[] = {2};
    struct pawl_map_args two = {2, ab, ab_lengths}, one = {1, joined, joined_lengths};
    struct pawl_map_template *a, *b, *sh;
    uint64_t first[2], again[2], differs[2];
    cr_assert(eq(int, pawl_map_template_create(3, echo, false, &a), 0));
    cr_assert(eq(int, pawl_map_template_create(2, other, false, &b), 0));
    cr_assert(eq(int, pawl_map_template_create(3, echo, true, &sh), 0));
    pawl_map_template_task_hash(a, &two, first);
    pawl_map_template_task_hash(a, &two, again);
    cr_assert(eq(u64, first[0], again[0]));
    pawl_map_template_task_hash(a, &one, differs);
    cr_assert(ne(u64, first[0], differs[0]));
    cr_assert(ne(u64, pawl_map_template_hash(a), pawl_map_template_hash(b)));
    cr_assert(ne(u64, pawl_map_template_hash(a), pawl_map_template_hash(sh)));
    pawl_map_template_destroy(a);
    pawl_map_template_destroy(b);
    pawl_map_template_destroy(sh);
}

/* ---- input ---- */

/* All tasks of a command line as "a,1;a,2;" */
static const char *read_all(int argc, char **argv, struct pawl_map_input_options options)
{
    static char text[4096];
    struct pawl_map_source *sources;
    struct pawl_map_input *input;
    struct pawl_map_args args;
    char why[256];
    int words = 0, got;
    cr_assert(
        eq(int, pawl_map_sources_parse(argc, argv, NULL, 0, &words, &sources, &options.source_count), 0));
    options.sources = sources;
    cr_assert(eq(int, words, 1));
    cr_assert(eq(int, pawl_map_input_open(&options, &input, why), 0), "%s", why);
    text[0] = '\0';
    while ((got = pawl_map_input_next(input, &args)) != 0) {
        if (got == -EAGAIN)
            got = pawl_map_input_fill(input);
        else
            for (uint32_t i = 0; i < args.count; i++)
                sprintf(text + strlen(text), "%.*s%s", (int)args.lengths[i], args.values[i],
                        i + 1 < args.count ? "," : ";");
        cr_assert(ge(int, got, 0));
    }
    pawl_map_input_close(input);
    free(sources);
    return text;
}

#define READS(want, options, ...)                                                                            \
    do {                                                                                                     \
        char *line_[] = {"cmd", __VA_ARGS__};                                                                \
        const char *got_ = read_all((int)(sizeof line_ / sizeof line_[0]), line_, options);                  \
        cr_expect(strcmp(got_, want) == 0, "got %s, expected %s", got_, want);                               \
    } while (0)
#define PLAIN ((struct pawl_map_input_options){.max_args = 1})

static void write_file(const char *path, const char *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert(eq(sz, (size_t)write(fd, bytes, n), n));
    close(fd);
}

/* A file of this process alone. */
static char *temporary(const char *bytes, size_t n)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/pawl-unit-%d", (int)getpid());
    write_file(path, bytes, n);
    return path;
}

Test(map_input, combinations_run_through_the_last_source_fastest)
{
    READS("a;b;", PLAIN, ":::", "a", "b");
    READS("a,1;a,2;b,1;b,2;", PLAIN, ":::", "a", "b", ":::", "1", "2");
    READS("", PLAIN, ":::", "a", ":::");
    READS("", PLAIN, ":::");
}

Test(map_input, a_linked_source_goes_along_and_the_shortest_ends_it)
{
    READS("a,1;b,2;", PLAIN, ":::", "a", "b", "c", ":::+", "1", "2");
    READS("a,1,x;a,1,y;b,2,x;b,2,y;", PLAIN, ":::", "a", "b", ":::+", "1", "2", ":::", "x", "y");
}

Test(map_input, lines_of_a_file_are_arguments_and_the_last_needs_no_newline)
{
    char *path = temporary("x\n\ny z", 6);
    READS("x;;y z;", PLAIN, "::::", path);
    READS("x,1;x,2;,1;,2;y z,1;y z,2;", PLAIN, "::::", path, ":::", "1", "2");
    READS("1,x;1,;1,y z;", PLAIN, ":::", "1", "::::", path);
    unlink(path);
}

Test(map_input, nul_separates_when_asked)
{
    struct pawl_map_input_options options = PLAIN;
    options.null_separated = true;
    char *path = temporary("a\nb\0c", 5);
    READS("a\nb;c;", options, "::::", path);
    unlink(path);
}

Test(map_input, columns_become_arguments)
{
    struct pawl_map_input_options options = PLAIN;
    options.colsep = "\\t";
    READS("a,b c,;", options, ":::", "a\tb c\t");
    options.colsep = " +";
    READS("a,b;,c;d;", options, ":::", "a   b", " c", "d");
    options.colsep = "x*";
    READS("a,b;", options, ":::", "axxb");
}

Test(map_input, several_combinations_may_make_one_task)
{
    struct pawl_map_input_options options = PLAIN;
    options.max_args = 2;
    READS("1,2;3;", options, ":::", "1", "2", "3");
    READS("a,1,a,2;b,1,b,2;", options, ":::", "a", "b", ":::", "1", "2");
}

Test(map_input, a_stream_that_has_nothing_yet_says_so_and_goes_on_later)
{
    int fds[2];
    char path[64], why[256];
    struct pawl_map_args args;
    struct pawl_map_input *input;
    cr_assert(eq(int, pipe(fds), 0));
    snprintf(path, sizeof path, "/dev/fd/%d", fds[0]);
    const char *words[] = {path};
    struct pawl_map_source source = {true, false, words, 1};
    struct pawl_map_input_options options = {.sources = &source, .source_count = 1, .max_args = 1};
    cr_assert(eq(int, pawl_map_input_open(&options, &input, why), 0));
    cr_assert(eq(int, pawl_map_input_next(input, &args), -EAGAIN));
    cr_assert(eq(int, (int)write(fds[1], "on", 2), 2));
    cr_assert(eq(int, pawl_map_input_fill(input), 0));
    cr_assert(eq(int, pawl_map_input_next(input, &args), -EAGAIN));
    cr_assert(eq(int, (int)write(fds[1], "e\ntwo", 5), 5));
    close(fds[1]);
    cr_assert(eq(int, pawl_map_input_fill(input), 0));
    cr_assert(eq(int, pawl_map_input_next(input, &args), 1));
    cr_assert(eq(int, memcmp(args.values[0], "one", 3), 0));
    cr_assert(eq(int, pawl_map_input_next(input, &args), -EAGAIN));
    cr_assert(eq(int, pawl_map_input_fill(input), 0));
    cr_assert(eq(int, pawl_map_input_next(input, &args), 1));
    cr_assert(eq(sz, args.lengths[0], 3));
    cr_assert(eq(int, pawl_map_input_next(input, &args), 0));
    cr_assert(eq(int, pawl_map_input_fd(input), -1));
    cr_assert(eq(u64, pawl_map_input_total(input), UINT64_MAX));
    pawl_map_input_close(input);
    close(fds[0]);
}

Test(map_input, an_argument_with_a_nul_or_without_an_end_is_refused)
{
    struct pawl_map_args args;
    struct pawl_map_input *input;
    char why[256];
    const char *words[] = {temporary("a\0b\n", 4)};
    struct pawl_map_source source = {true, false, words, 1};
    struct pawl_map_input_options options = {.sources = &source, .source_count = 1, .max_args = 1};
    cr_assert(eq(int, pawl_map_input_open(&options, &input, why), 0));
    cr_assert(eq(int, pawl_map_input_fill(input), 0));
    cr_assert(eq(int, pawl_map_input_next(input, &args), PAWL_E_INVALID));
    pawl_map_input_close(input);
    unlink(words[0]);
    words[0] = "/dev/zero";
    cr_assert(eq(int, pawl_map_input_open(&options, &input, why), 0));
    int got;
    while ((got = pawl_map_input_next(input, &args)) == -EAGAIN)
        cr_assert(eq(int, pawl_map_input_fill(input), 0));
    cr_assert(eq(int, got, PAWL_E_LIMIT));
    pawl_map_input_close(input);
}

Test(map_input, a_file_that_is_not_there_is_named)
{
    struct pawl_map_input *input;
    char why[256];
    const char *words[] = {"/nowhere/at/all"};
    struct pawl_map_source source = {true, false, words, 1};
    struct pawl_map_input_options options = {.sources = &source, .source_count = 1, .max_args = 1};
    cr_assert(eq(int, pawl_map_input_open(&options, &input, why), PAWL_E_INVALID));
    cr_assert(strstr(why, "/nowhere/at/all") != NULL);
}

Test(map_input, the_number_of_tasks_is_known_when_nothing_is_a_stream)
{
    struct pawl_map_input *input;
    char why[256];
    const char *words[] = {"a", "b", "c"};
    struct pawl_map_source sources[2] = {{false, false, words, 3}, {false, false, words, 3}};
    struct pawl_map_input_options options = {.sources = sources, .source_count = 2, .max_args = 2};
    cr_assert(eq(int, pawl_map_input_open(&options, &input, why), 0));
    cr_assert(eq(u64, pawl_map_input_total(input), 5));
    pawl_map_input_close(input);
}

/* ---- items ---- */

static struct pawl_map_item *add(struct pawl_map_items *items, const char *text)
{
    const char *values[] = {text};
    size_t lengths[] = {strlen(text)};
    struct pawl_map_args args = {1, values, lengths};
    return pawl_map_items_add(items, &args);
}

Test(map_items, an_item_is_found_by_number_and_instance_until_it_is_dropped)
{
    struct pawl_map_items items;
    cr_assert(eq(int, pawl_map_items_init(&items), 0));
    struct pawl_map_item *a = add(&items, "a"), *b = add(&items, "b");
    cr_assert(eq(int, pawl_map_items_know(&items, a, 17), 0));
    cr_assert(eq(int, pawl_map_items_know(&items, b, 4), 0));
    cr_assert(eq(ptr, pawl_map_items_find(&items, 4), b));
    cr_assert(eq(ptr, pawl_map_items_at(&items, 0), a));
    pawl_map_items_drop(&items, a);
    cr_assert(eq(ptr, pawl_map_items_find(&items, 17), NULL));
    cr_assert(eq(ptr, pawl_map_items_at(&items, 0), NULL));
    cr_assert(eq(ptr, pawl_map_items_find(&items, 4), b));
    cr_assert(eq(u64, items.first, 1));
    pawl_map_items_fini(&items);
}

Test(map_items, an_item_that_had_succeeded_before_is_found_by_number_only)
{
    struct pawl_map_items items;
    cr_assert(eq(int, pawl_map_items_init(&items), 0));
    struct pawl_map_item *a = add(&items, "a"), *b = add(&items, "b");
    pawl_map_items_had(a, 17);
    cr_assert(eq(int, pawl_map_items_know(&items, b, 4), 0));
    cr_expect(eq(ptr, pawl_map_items_find(&items, 17), NULL));
    cr_expect(eq(ptr, pawl_map_items_at(&items, 0), a));
    pawl_map_items_drop(&items, a);
    cr_expect(eq(ptr, pawl_map_items_at(&items, 0), NULL));
    cr_expect(eq(ptr, pawl_map_items_find(&items, 4), b));
    pawl_map_items_fini(&items);
}

Test(map_items, the_bytes_of_items_are_counted_until_they_are_dropped)
{
    struct pawl_map_items items;
    cr_assert(eq(int, pawl_map_items_init(&items), 0));
    struct pawl_map_item *a = add(&items, "a");
    size_t one = items.item_bytes;
    cr_expect(ge(sz, one, sizeof *a));
    struct pawl_map_item *b = add(&items, "bcdefghij");
    cr_expect(eq(sz, items.item_bytes, 2 * one + 8));
    pawl_map_items_had(a, 1);
    pawl_map_items_drop(&items, a);
    pawl_map_items_drop(&items, b);
    cr_expect(eq(sz, items.item_bytes, 0));
    pawl_map_items_fini(&items);
}

Test(map_items, a_million_items_in_flight_a_hundred_at_a_time_need_little_room)
{
    struct pawl_map_items items;
    cr_assert(eq(int, pawl_map_items_init(&items), 0));
    for (uint64_t i = 0; i < 1000000; i++) {
        struct pawl_map_item *item = add(&items, "x");
        cr_assert(eq(int, pawl_map_items_know(&items, item, i), 0));
        if (i >= 100)
            pawl_map_items_drop(&items, pawl_map_items_find(&items, i - 100));
    }
    cr_assert(eq(sz, items.ring_room, 1024));
    cr_assert(le(sz, items.table_room, 4096));
    pawl_map_items_fini(&items);
}

Test(map_items, one_slow_item_holds_the_place_of_all_that_follow)
{
    struct pawl_map_items items;
    cr_assert(eq(int, pawl_map_items_init(&items), 0));
    for (uint64_t i = 0; i < 5000; i++) {
        struct pawl_map_item *item = add(&items, "x");
        cr_assert(eq(int, pawl_map_items_know(&items, item, i), 0));
        if (i > 0)
            pawl_map_items_drop(&items, item);
    }
    cr_assert(eq(u64, items.first, 0));
    pawl_map_items_drop(&items, pawl_map_items_find(&items, 0));
    cr_assert(eq(u64, items.first, 5000));
    pawl_map_items_fini(&items);
}

Test(map_items, the_bytes_of_kept_results_are_counted)
{
    struct pawl_map_items items;
    struct pawl_map_arrival arrival = {
        .fixed = {.stdout_bytes = 3, .stderr_bytes = 2}, .bytes = "outer", .n = 5};
    cr_assert(eq(int, pawl_map_items_init(&items), 0));
    struct pawl_map_item *item = add(&items, "x");
    cr_assert(eq(int, pawl_map_items_know(&items, item, 0), 0));
    cr_assert(eq(int, pawl_map_items_keep(&items, item, &arrival), 0));
    cr_assert(eq(int, pawl_map_items_keep(&items, item, &arrival), 0));
    cr_assert(eq(sz, items.cached_bytes, sizeof *item->result + 5));
    cr_assert(eq(int, memcmp(item->result->bytes, "outer", 5), 0));
    pawl_map_items_forget_result(&items, item);
    cr_assert(eq(sz, items.cached_bytes, 0));
    pawl_map_items_fini(&items);
}

/* ---- names of --results, --halt ---- */

Test(map_items, an_argument_becomes_one_name_of_a_directory)
{
    char name[256], other[256], long_argument[600];
    pawl_map_results_name("a/b", 3, name);
    cr_assert(eq(str, name, "a\\_b"));
    pawl_map_results_name("a\\b", 3, name);
    cr_assert(eq(str, name, "a\\\\b"));
    pawl_map_results_name("..", 2, name);
    cr_assert(eq(str, name, "\\.."));
    pawl_map_results_name("", 0, name);
    cr_assert(eq(str, name, "\\"));
    memset(long_argument, 'x', sizeof long_argument);
    pawl_map_results_name(long_argument, 599, name);
    pawl_map_results_name(long_argument, 600, other);
    cr_assert(le(sz, strlen(name), 255));
    cr_assert(ne(str, name, other));
}

Test(map_items, halt_is_now_or_soon_by_number_or_share)
{
    struct pawl_halt halt;
    cr_assert(eq(int, pawl_halt_parse("now,fail=3", &halt), 0));
    cr_assert(eq(u32, halt.fail_count, 3));
    cr_assert(eq(u32, halt.now, 1));
    cr_assert(eq(int, pawl_halt_parse("soon,fail=20%", &halt), 0));
    cr_assert(eq(u32, halt.fail_percent, 20));
    cr_assert(eq(u32, halt.now, 0));
    static const char *const wrong[] = {
        "now", "soon,fail=", "soon,fail=0", "soon,fail=101%", "later,fail=1", "2", ""};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_assert(eq(int, pawl_halt_parse(wrong[i], &halt), PAWL_E_INVALID), "%s", wrong[i]);
}
