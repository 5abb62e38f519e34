/*
 * verb_help.c - `pawl help` and `pawl version`.
 */
#include <stdio.h>
#include <string.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/verbs.h"
#include "runtime/suggest.h"

static void print_overview(FILE *stream)
{
    fprintf(stream,
            "pawl runs parallel work on one machine so that progress never slips back.\n\n"
            "  pawl run build.yaml -j 8          run a workflow; --resume goes on after any crash\n"
            "  ls *.gz | pawl map -k gunzip      one task for each line, or each argument after :::\n"
            "  pawl publish order.new '{}'       an event for each queue that wants it, kept till acked\n\n");
    for (size_t i = 0; pawl_verbs[i] != NULL; i++)
        fprintf(stream, "  %-9s %s\n", pawl_verbs[i]->name, pawl_verbs[i]->summary);
    fprintf(stream,
            "\npawl help VERB says more. everywhere: --state DIR  --json  --color WHEN  --progress HOW\n");
}

static int run_help(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    if (operand_count == 0) {
        print_overview(stdout);
        return pawl_output_finish(cli, PAWL_EXIT_OK);
    }
    const struct pawl_verb *verb = pawl_verb_find(operands[0]);
    if (verb != NULL && verb->subverbs != NULL && operand_count > 1) {
        const struct pawl_verb *subverb = pawl_subverb_find(verb, operands[1]);
        if (subverb == NULL)
            return pawl_subverb_unknown(cli, verb, operands[1]);
        verb = subverb;
    }
    if (verb != NULL) {
        pawl_options_help(verb, stdout);
        return pawl_output_finish(cli, PAWL_EXIT_OK);
    }
    /* `pawl help --pipe` ends in the parser; `pawl help -- --pipe` and foreign verbs come here */
    const char *hint = pawl_options_foreign(NULL, operands[0]);
    if (hint == NULL)
        hint = pawl_options_foreign("map", operands[0]);
    if (hint == NULL)
        hint = "see pawl help";
    return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", hint, "no such verb: %.80s", operands[0]);
}

const struct pawl_verb pawl_verb_help = {
    .name = "help",
    .summary = "what there is",
    .operands = "[VERB [WHAT]]",
    .examples = "pawl help\npawl help map\npawl help queue declare",
    .operands_max = 2,
    .run = run_help,
};

static int run_version(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    (void)operand_count;
    (void)operands;
    if (cli->json)
        printf("{\"schema\":1,\"version\":\"%s\"}\n", PAWL_VERSION);
    else
        printf("pawl %s\n", PAWL_VERSION);
    return pawl_output_finish(cli, PAWL_EXIT_OK);
}

const struct pawl_verb pawl_verb_version = {
    .name = "version",
    .summary = "the version",
    .operands = "",
    .examples = "pawl --version",
    .run = run_version,
};
