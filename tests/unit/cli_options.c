/*
 * cli_options.c - command lines by table: every form of a flag, and the words for what is wrong.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <string.h>

#include "runtime/cli/cli.h"
#include "shm/error.h"

struct sample {
    uint64_t given;
    uint64_t jobs, wait_ns, bytes, keep_going;
    struct pawl_text_list sets;
    const char *name;
    bool quick, loud, strict;
};

#define OFFSET(member) offsetof(struct sample, member)
static const struct pawl_option table[] = {
    {'j', "jobs", "N", "slots", PAWL_OPTION_COUNT, OFFSET(jobs), 1, 4096},
    {0, "wait", "D", "wait", PAWL_OPTION_DURATION, OFFSET(wait_ns), 0, 0},
    {0, "bytes", "SIZE", "size", PAWL_OPTION_BYTES, OFFSET(bytes), 0, 0},
    {0, "keep-going", "[=N]", "go on", PAWL_OPTION_MAYBE_COUNT, OFFSET(keep_going), 1, 1000},
    {0, "set", "K=V", "set", PAWL_OPTION_LIST, OFFSET(sets), 0, 0},
    {0, "name", "TEXT", "name", PAWL_OPTION_TEXT, OFFSET(name), 0, 0},
    {'q', "quick", NULL, "quick", PAWL_OPTION_FLAG, OFFSET(quick), 0, 0},
    {'l', "loud", NULL, "loud", PAWL_OPTION_FLAG, OFFSET(loud), 0, 0},
    {0, "strict", NULL, "strict", PAWL_OPTION_SWITCH, OFFSET(strict), 0, 0},
    {0},
};

static struct pawl_verb verb = {.name = "map",
                                .summary = "",
                                .operands = "FILE",
                                .examples = "",
                                .options = table,
                                .options_bytes = sizeof(struct sample),
                                .operands_min = 0,
                                .operands_max = 3};
static struct sample sample;
static struct pawl_global_options global;
static struct pawl_options_error error;
static char *words[16];
static int operands;

static void forget(void)
{
    memset(&sample, 0, sizeof sample);
    memset(&global, 0, sizeof global);
    verb.stops_at_operand = false;
}

TestSuite(cli_options, .init = forget);

/* Parse words separated by single spaces. */
static int parse(const char *line)
{
    static char copy[512];
    int count = 0;
    strcpy(copy, line);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        words[count++] = word;
    operands = 0;
    return pawl_options_parse(&verb, count, words, &sample, &global, &operands, &error);
}

Test(cli_options, a_switch_is_on_by_its_name_and_taken_back_by_an_attached_false)
{
    cr_assert(eq(int, parse("--strict false"), 0));
    cr_expect(sample.strict);
    cr_expect(eq(int, operands, 1), "what follows is no value");
    cr_assert(eq(int, parse("--strict=false"), 0));
    cr_expect(not(sample.strict));
    cr_expect(pawl_option_given(&verb, &sample, "strict"));
    cr_assert(eq(int, parse("--strict=true"), 0));
    cr_expect(sample.strict);
    cr_assert(eq(int, parse("--strict=no"), PAWL_E_INVALID));
    cr_expect(ne(ptr, strstr(error.text, "neither true nor false"), NULL));
    cr_expect(ne(ptr, strstr(error.hint, "--strict=false"), NULL));
}

Test(cli_options, a_value_may_follow_or_be_attached)
{
    static const char *const lines[] = {"-j 7", "-j7", "--jobs 7", "--jobs=7"};
    for (int i = 0; i < 4; i++) {
        sample.jobs = 0;
        cr_assert(eq(int, parse(lines[i]), 0));
        cr_assert(eq(u64, sample.jobs, 7), "%s", lines[i]);
    }
}

Test(cli_options, letters_combine_and_the_last_may_take_the_rest)
{
    cr_assert(eq(int, parse("-qlj3"), 0));
    cr_assert(eq(u64, sample.jobs, 3));
    cr_assert(sample.quick && sample.loud);
}

Test(cli_options, operands_may_stand_between_flags_and_keep_their_order)
{
    cr_assert(eq(int, parse("one -q two --name x three"), 0));
    cr_assert(eq(int, operands, 3));
    cr_assert(eq(str, words[0], "one"));
    cr_assert(eq(str, words[2], "three"));
}

Test(cli_options, nothing_is_an_option_after_two_dashes_or_after_the_command)
{
    cr_assert(eq(int, parse("-q -- -l --name"), 0));
    cr_assert(eq(int, operands, 2));
    cr_assert(not(sample.loud));
    forget();
    verb.stops_at_operand = true;
    cr_assert(eq(int, parse("-q echo -l --json"), 0));
    cr_assert(eq(int, operands, 3));
    cr_assert(not(sample.loud));
    cr_assert(not(global.json));
}

Test(cli_options, a_single_dash_is_an_operand)
{
    cr_assert(eq(int, parse("-"), 0));
    cr_assert(eq(int, operands, 1));
}

Test(cli_options, an_optional_value_is_only_taken_when_attached)
{
    cr_assert(eq(int, parse("--keep-going 5"), 0));
    cr_assert(eq(u64, sample.keep_going, 0));
    cr_assert(eq(int, operands, 1));
    cr_assert(pawl_option_given(&verb, &sample, "keep-going"));
    cr_assert(eq(int, parse("--keep-going=5"), 0));
    cr_assert(eq(u64, sample.keep_going, 5));
}

Test(cli_options, lists_gather_and_units_are_understood)
{
    cr_assert(eq(int, parse("--set a=1 --set=b=2 --wait 1h30m --bytes 2KiB"), 0));
    cr_assert(eq(sz, sample.sets.count, 2));
    cr_assert(eq(str, (char *)sample.sets.items[1], "b=2"));
    cr_assert(eq(u64, sample.wait_ns, UINT64_C(5400) * 1000000000));
    cr_assert(eq(u64, sample.bytes, 2048));
}

Test(cli_options, a_count_is_refused_outside_of_its_limits_and_the_limits_are_named)
{
    static const struct {
        const char *text;
        int error;
    } wrong[] = {
        {"-j 0", PAWL_E_INVALID},    {"-j 4097", PAWL_E_LIMIT}, {"-j 99999999999999999999", PAWL_E_LIMIT},
        {"-j many", PAWL_E_INVALID}, {"-j -1", PAWL_E_INVALID}, {"-j 3x", PAWL_E_INVALID}};
    cr_assert(eq(int, parse("-j 4096"), 0));
    for (int i = 0; i < 6; i++) {
        cr_expect(eq(int, parse(wrong[i].text), wrong[i].error), "%s", wrong[i].text);
        cr_expect(strstr(error.hint, "4096") != NULL, "%s: %s", wrong[i].text, error.hint);
    }
}

Test(cli_options, a_missing_value_and_a_value_too_many_are_refused)
{
    cr_assert(eq(int, parse("--name"), PAWL_E_INVALID));
    cr_assert(eq(int, parse("--quick=yes"), PAWL_E_INVALID));
    cr_assert(eq(int, parse("a b c d"), PAWL_E_INVALID));
    cr_assert(strstr(error.text, "d") != NULL);
}

Test(cli_options, a_typo_gets_the_nearest_flag_of_verb_or_globals)
{
    cr_assert(eq(int, parse("--kep-going"), PAWL_E_INVALID));
    cr_assert(strstr(error.hint, "--keep-going") != NULL, "%s", error.hint);
    cr_assert(eq(int, parse("--jsno"), PAWL_E_INVALID));
    cr_assert(strstr(error.hint, "--json") != NULL, "%s", error.hint);
}

Test(cli_options, a_foreign_flag_gets_its_hint)
{
    cr_assert(eq(int, parse("--pipe"), PAWL_E_INVALID));
    cr_assert(strstr(error.hint, "split") != NULL, "%s", error.hint);
    cr_assert(eq(int, parse("-S host"), PAWL_E_INVALID));
    cr_assert(strstr(error.hint, "distributed") != NULL, "%s", error.hint);
    cr_assert(strstr(pawl_options_foreign("run", "--sshlogin=x"), "distributed") != NULL);
}

Test(cli_options, globals_are_taken_before_the_verb_and_the_rest_is_left_alone)
{
    static char *line[] = {"--state", "dir", "run", "--resume", "x"};
    memcpy(words, line, sizeof line);
    cr_assert(eq(int, pawl_options_parse(NULL, 5, words, &global, &global, &operands, &error), 0));
    cr_assert(eq(str, (char *)global.state, "dir"));
    cr_assert(eq(int, operands, 3));
    cr_assert(eq(str, words[1], "--resume"));
}
