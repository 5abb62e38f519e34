/*
 * main.c - the tool: finds the verb, reads the global options, calls the verb.
 *
 * Runs in: the command. Does nothing that `pawl --version` does not need before it knows the verb.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/address_space.h"
#include "runtime/cli/cli.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/verbs.h"
#include "shm/error.h"
#include "runtime/proctitle.h"
#include "runtime/state.h"
#include "runtime/submission.h"
#include "runtime/suggest.h"

/* jemalloc reads it before main(). What was freed goes back to the system after a second, not ten: a burst of
 * the bus would else keep twice the memory that is bounded. */
extern const char *malloc_conf;
__attribute__((visibility("default"))) const char *malloc_conf = "dirty_decay_ms:1000,muzzy_decay_ms:0";

const struct pawl_verb *const pawl_verbs[] = {
    &pawl_verb_run,     &pawl_verb_map,
    &pawl_verb_check,   &pawl_verb_graph,
    &pawl_verb_runs,    &pawl_verb_status,
    &pawl_verb_steps,   &pawl_verb_logs,
    &pawl_verb_why,     &pawl_verb_resume,
    &pawl_verb_retry,   &pawl_verb_cancel,
    &pawl_verb_wait,    &pawl_verb_serve,
    &pawl_verb_queue,   &pawl_verb_publish,
    &pawl_verb_consume, &pawl_verb_ack,
    &pawl_verb_nack,    &pawl_verb_reject,
    &pawl_verb_extend,  &pawl_verb_dlq,
    &pawl_verb_group,   &pawl_verb_metrics,
    &pawl_verb_top,     &pawl_verb_gc,
    &pawl_verb_doctor,  &pawl_verb_health,
    &pawl_verb_journal, &pawl_verb_config,
    &pawl_verb_bench,   &pawl_verb_help,
    &pawl_verb_version, NULL,
};

const struct pawl_verb *pawl_verb_find(const char *name)
{
    for (size_t i = 0; pawl_verbs[i] != NULL; i++)
        if (strcmp(pawl_verbs[i]->name, name) == 0)
            return pawl_verbs[i];
    return NULL;
}

static int unknown_verb(const struct pawl_cli *cli, const char *name)
{
    char hint[320];
    const char *foreign = pawl_options_foreign(NULL, name);
    struct pawl_suggest suggest;
    pawl_suggest_init(&suggest, name, strlen(name));
    for (size_t i = 0; pawl_verbs[i] != NULL; i++)
        pawl_suggest_offer(&suggest, pawl_verbs[i]->name, strlen(pawl_verbs[i]->name));
    if (foreign != NULL)
        snprintf(hint, sizeof hint, "%s", foreign);
    else if (suggest.best != NULL)
        snprintf(hint, sizeof hint, "did you mean pawl %.*s?", (int)suggest.best_bytes, suggest.best);
    else
        snprintf(hint, sizeof hint, "see pawl help");
    return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", hint, "no such verb: %.80s", name);
}

const struct pawl_verb *pawl_subverb_find(const struct pawl_verb *verb, const char *word)
{
    size_t skip = strlen(verb->name) + 1;
    for (size_t i = 0; verb->subverbs != NULL && verb->subverbs[i] != NULL; i++)
        if (strcmp(verb->subverbs[i]->name + skip, word) == 0)
            return verb->subverbs[i];
    return NULL;
}

int pawl_subverb_unknown(const struct pawl_cli *cli, const struct pawl_verb *verb, const char *word)
{
    char hint[320];
    size_t skip = strlen(verb->name) + 1;
    const char *foreign = pawl_options_foreign(verb->name, word);
    struct pawl_suggest suggest;
    pawl_suggest_init(&suggest, word, strlen(word));
    for (size_t i = 0; verb->subverbs[i] != NULL; i++)
        pawl_suggest_offer(&suggest, verb->subverbs[i]->name + skip, strlen(verb->subverbs[i]->name) - skip);
    if (foreign != NULL)
        snprintf(hint, sizeof hint, "%s", foreign);
    else if (suggest.best != NULL)
        snprintf(hint, sizeof hint, "did you mean pawl %s %.*s?", verb->name, (int)suggest.best_bytes,
                 suggest.best);
    else
        snprintf(hint, sizeof hint, "see pawl help %s", verb->name);
    return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", hint, "%s cannot '%.40s'", verb->name, word);
}

static bool may_color(const char *when, int fd)
{
    if (strcmp(when, "always") == 0)
        return true;
    if (strcmp(when, "never") == 0)
        return false;
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    if (no_color != NULL && no_color[0] != '\0')
        return false;
    if (term == NULL || strcmp(term, "dumb") == 0)
        return false;
    return isatty(fd) == 1;
}

static const char *from_environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

/* A flag, else its variable; @name_out is how it was said, for errors. NULL: neither. */
static const char *said(const char *flag, const char *flag_name, const char *variable, const char **name_out,
                        const char **origin_out)
{
    const char *value = flag != NULL ? flag : from_environment(variable);
    *name_out = flag != NULL ? flag_name : variable;
    *origin_out = flag != NULL ? "flag" : value != NULL ? "environment" : "default";
    return value;
}

static int choose_color(struct pawl_cli *cli, const char *flag)
{
    const char *name, *when = said(flag, "--color", "PAWL_COLOR", &name, &cli->color_origin);
    if (when == NULL && from_environment("NO_COLOR") != NULL) {
        when = "never";
        cli->color_origin = "environment";
    }
    when = when != NULL ? when : "auto";
    if (strcmp(when, "auto") != 0 && strcmp(when, "always") != 0 && strcmp(when, "never") != 0)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "say auto, always or never",
                         "%s: '%.40s' is not known", name, when);
    cli->color = when;
    cli->color_out = may_color(when, STDOUT_FILENO);
    cli->color_err = may_color(when, STDERR_FILENO);
    return 0;
}

static int choose_progress(struct pawl_cli *cli, const char *flag)
{
    static const char *const modes[] = {"auto", "none", "plain", "json"};
    const char *name, *mode = said(flag, "--progress", "PAWL_PROGRESS", &name, &cli->progress_origin);
    for (unsigned i = 0; i < 4; i++) {
        if (mode == NULL || strcmp(mode, modes[i]) == 0) {
            cli->progress = (enum pawl_progress_mode)i;
            return 0;
        }
    }
    return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "say auto, none, plain or json",
                     "%s: '%.40s' is not known", name, mode);
}

static int choose_jobs(struct pawl_cli *cli)
{
    char *end;
    const char *text = from_environment("PAWL_JOBS");
    unsigned long jobs = text != NULL ? strtoul(text, &end, 10) : 0;
    cli->jobs = (uint32_t)jobs;
    if (text == NULL ||
        (text[0] >= '0' && text[0] <= '9' && *end == '\0' && jobs >= 1 && jobs <= PAWL_SLOTS_MAX))
        return 0;
    char hint[64];
    snprintf(hint, sizeof hint, "say a number from 1 to %d", PAWL_SLOTS_MAX);
    return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", hint, "PAWL_JOBS: '%.40s' is no number of slots", text);
}

/* Return: 0, or the exit code of wrong usage. */
static int take_globals(struct pawl_cli *cli, const struct pawl_global_options *global)
{
    const char *name;
    cli->json = global->json;
    cli->state = pawl_state_choose(global->state);
    (void)said(global->state != NULL && global->state[0] != '\0' ? global->state : NULL, "--state",
               "PAWL_STATE", &name, &cli->state_origin);
    int status = choose_color(cli, global->color);
    if (status == 0)
        status = choose_progress(cli, global->progress);
    return status == 0 ? choose_jobs(cli) : status;
}

static int run_verb(struct pawl_cli *cli, const struct pawl_verb *verb, struct pawl_global_options *global,
                    int argc, char **argv);

static int refuse_options(const struct pawl_cli *cli, int status, const struct pawl_options_error *error)
{
    return pawl_fail(cli, PAWL_EXIT_USAGE, status == PAWL_E_LIMIT ? "limit" : "usage", error->hint, "%s",
                     error->text);
}

/* `pawl queue declare`: the next operand says which. */
static int run_subverb(struct pawl_cli *cli, const struct pawl_verb *verb, struct pawl_global_options *global,
                       int argc, char **argv)
{
    struct pawl_options_error error;
    int rest = 0;
    cli->verb = verb;
    int status = pawl_options_parse(NULL, argc, argv, global, global, &rest, &error);
    cli->json = global->json;
    if (status != 0)
        return refuse_options(cli, status, &error);
    if (rest == 0 && global->help) {
        pawl_options_help(verb, stdout);
        return PAWL_EXIT_OK;
    }
    if (rest == 0) {
        char hint[64];
        snprintf(hint, sizeof hint, "see pawl help %s", verb->name);
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", hint, "say what to do: pawl %s WHAT ...", verb->name);
    }
    const struct pawl_verb *subverb = pawl_subverb_find(verb, argv[0]);
    cli->json |= subverb == NULL && pawl_options_say_json(rest, argv);
    return subverb == NULL ? pawl_subverb_unknown(cli, verb, argv[0])
                           : run_verb(cli, subverb, global, rest - 1, argv + 1);
}

static int run_verb(struct pawl_cli *cli, const struct pawl_verb *verb, struct pawl_global_options *global,
                    int argc, char **argv)
{
    if (verb->subverbs != NULL)
        return run_subverb(cli, verb, global, argc, argv);
    void *options = calloc(1, verb->options_bytes + sizeof(uint64_t));
    struct pawl_options_error error;
    int operands = 0;
    if (options == NULL)
        return pawl_fail(cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
    cli->verb = verb;
    int status = pawl_options_parse(verb, argc, argv, options, global, &operands, &error);
    cli->json = global->json;
    int exit_code;
    if (status != 0) {
        exit_code = refuse_options(cli, status, &error);
    } else if (global->help) {
        pawl_options_help(verb, stdout);
        exit_code = PAWL_EXIT_OK;
    } else {
        exit_code = take_globals(cli, global);
        if (exit_code == 0)
            exit_code = verb->run(cli, options, operands, argv);
    }
    free(options);
    return exit_code;
}

/*
 * A standard descriptor that the caller closed would go to the next file that is opened. /dev/null stands in
 * its place, opened the wrong way round, so that using it is still EBADF.
 */
static void hold_standard_streams(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv)
{
    struct pawl_cli cli = {.state = ".pawl"};
    struct pawl_global_options global = {0};
    struct pawl_options_error error;
    int rest = 0;

    hold_standard_streams();
    int exit_code = pawl_address_space_check(argc, argv);
    if (exit_code != 0)
        return exit_code;
    pawl_proctitle_init(argc, argv);
    (void)signal(SIGPIPE, SIG_IGN);
    char **words = calloc((size_t)argc + 1, sizeof *words);
    if (words == NULL)
        return PAWL_EXIT_INTERNAL;
    memcpy(words, argv, (size_t)argc * sizeof *words);
    cli.argc = argc;
    cli.argv = argv;

    int status =
        pawl_options_parse(NULL, argc > 0 ? argc - 1 : 0, words + 1, &global, &global, &rest, &error);
    cli.json = global.json;
    if (status != 0) {
        exit_code = refuse_options(&cli, status, &error);
    } else if (global.version || (rest == 0 && global.help)) {
        const struct pawl_verb *verb = global.version ? &pawl_verb_version : &pawl_verb_help;
        cli.verb = verb;
        exit_code = verb->run(&cli, NULL, 0, NULL);
    } else if (rest == 0) {
        exit_code =
            pawl_fail(&cli, PAWL_EXIT_USAGE, "usage", "see pawl help", "say what to do: pawl VERB ...");
    } else {
        const struct pawl_verb *verb = pawl_verb_find(words[1]);
        cli.json |= verb == NULL && pawl_options_say_json(rest, words + 1);
        exit_code =
            verb == NULL ? unknown_verb(&cli, words[1]) : run_verb(&cli, verb, &global, rest - 1, words + 2);
    }
    free(words);
    return pawl_output_finish(&cli, exit_code);
}
