/*
 * cli.h - what every verb gets: the global options, and where they came from.
 *
 * One process, one verb, one struct pawl_cli. A verb's function returns the exit code (SPEC 1).
 */
#ifndef PAWL_RUNTIME_CLI_CLI_H
#define PAWL_RUNTIME_CLI_CLI_H

#include <stdbool.h>

#include "runtime/cli/options.h"

/* What a command exits with. */
enum pawl_exit {
    PAWL_EXIT_OK = 0,
    PAWL_EXIT_FAILED = 1,  /* something ran and failed */
    PAWL_EXIT_USAGE = 2,   /* wrong usage */
    PAWL_EXIT_INVALID = 3, /* workflow or configuration invalid */
    PAWL_EXIT_UNREACHABLE = 4,
    PAWL_EXIT_INTERRUPTED = 5, /* cancelled or interrupted: resumable */
    PAWL_EXIT_WAITING = 6,     /* for an approval */
    PAWL_EXIT_DAMAGED = 7,
    PAWL_EXIT_INTERNAL = 70,
    PAWL_EXIT_TIMED_OUT = 124,
};

enum pawl_progress_mode {
    PAWL_PROGRESS_AUTO = 0,
    PAWL_PROGRESS_NONE = 1,
    PAWL_PROGRESS_PLAIN = 2,
    PAWL_PROGRESS_JSON = 3,
};

struct pawl_cli {
    const struct pawl_verb *verb; /* NULL until it is known */
    const char *state;            /* state directory, never NULL */
    const char *state_origin;     /* "flag", "environment", "default" */
    bool json;
    bool color_out, color_err; /* decided: may escape sequences be written there? */
    const char *color;         /* as it was said: "auto", "always", "never" */
    const char *color_origin;
    enum pawl_progress_mode progress;
    const char *progress_origin;
    uint32_t jobs; /* of PAWL_JOBS: slots of a new run where -j is not given; 0: not said */
    int argc;      /* the whole command line, for the resume command */
    char **argv;
};

/* One verb of the tool. The options table ends with name NULL. */
struct pawl_verb {
    const char *name;
    const char *summary;  /* one line, for `pawl help` */
    const char *operands; /* "FILE [WORKFLOW]": for the usage line */
    const char *examples; /* lines, each "pawl ..." */
    const char *notes;    /* lines under the options, or NULL */
    const struct pawl_option *options;
    size_t options_bytes; /* of the struct that the table fills; its first member is uint64_t given */
    int operands_min;
    int operands_max;      /* -1: any number */
    bool stops_at_operand; /* options end at the first operand (map) */
    int (*run)(struct pawl_cli *cli, const void *options, int operand_count, char **operands);
    /* A verb of several, "queue declare": each has the whole name; ends with NULL. The verb itself then only
     * has name, summary, examples and notes. */
    const struct pawl_verb *const *subverbs;
};

extern const struct pawl_verb *const pawl_verbs[]; /* ends with NULL; main.c */

/** pawl_verb_find - by name ("run", "queue"); NULL. */
const struct pawl_verb *pawl_verb_find(const char *name);

/** pawl_subverb_find - "declare" of the verb queue; NULL. */
const struct pawl_verb *pawl_subverb_find(const struct pawl_verb *verb, const char *word);

/** pawl_subverb_unknown - says that there is none, and which is the nearest. Return: the exit code. */
int pawl_subverb_unknown(const struct pawl_cli *cli, const struct pawl_verb *verb, const char *word);

#endif
