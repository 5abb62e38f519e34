/*
 * options.h - command lines by table: parsing, help texts, and the hints for what is typed wrong.
 *
 * Pure: reads argv and tables, writes a struct of the verb. `--flag value`, `--flag=value`, `-n3`, `-n 3`,
 * and several flags behind one dash. `--` ends options. No I/O but pawl_options_help().
 */
#ifndef PAWL_RUNTIME_CLI_OPTIONS_H
#define PAWL_RUNTIME_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct pawl_verb;

enum pawl_option_kind {
    PAWL_OPTION_FLAG,        /* bool */
    PAWL_OPTION_TEXT,        /* const char * */
    PAWL_OPTION_LIST,        /* struct pawl_text_list: may be given several times */
    PAWL_OPTION_COUNT,       /* uint64_t, minimum..maximum */
    PAWL_OPTION_DURATION,    /* uint64_t ns, minimum..maximum */
    PAWL_OPTION_BYTES,       /* uint64_t, minimum..maximum */
    PAWL_OPTION_MAYBE_COUNT, /* uint64_t: only `--name=N` takes a value; 0 without one */
    PAWL_OPTION_SWITCH,      /* bool: `--name` and `--name=true`; `--name=false` takes it back */
    PAWL_OPTION_REST, /* struct pawl_text_list: all words that follow, options or not (--exec CMD...) */
};

struct pawl_text_list {
    const char **items; /* malloc'd array of borrowed strings; lives as long as the process */
    size_t count;
};

struct pawl_option {
    char letter;       /* 0: none */
    const char *name;  /* without dashes; NULL ends the table */
    const char *value; /* how help names the value: "N"; NULL for flags */
    const char *help;
    enum pawl_option_kind kind;
    size_t offset;             /* into the verb's options struct */
    uint64_t minimum, maximum; /* of a value; maximum 0: no bound */
};

enum { PAWL_OPTIONS_MAX = 60 }; /* of one verb: `given` has a bit for each */

struct pawl_options_error {
    char text[320];
    char hint[320]; /* may be empty */
};

/* The flags that every verb takes; same shape as a verb's struct. */
struct pawl_global_options {
    uint64_t given;
    const char *state, *color, *progress;
    bool json, help, version;
};
extern const struct pawl_option pawl_global_option_table[];

/**
 * pawl_options_parse - read one verb's (or, with verb NULL, only the global) options
 * @argv:     argc entries; operands are moved to its front, in order
 * @options:  verb->options_bytes, zeroed by the caller
 * @operands_out: how many stand at the front of argv. With verb NULL parsing stops at the first operand, and
 *            the rest of argv, from that operand on, counts as operands
 *
 * Return: 0, or PAWL_E_INVALID with *@error_out.
 */
int pawl_options_parse(const struct pawl_verb *verb, int argc, char **argv, void *options,
                       struct pawl_global_options *global, int *operands_out,
                       struct pawl_options_error *error_out);

/** pawl_options_say_json - is there a --json among words that are not parsed, because one before is wrong?
 * How that is said depends on it. */
bool pawl_options_say_json(int argc, char **argv);

/** pawl_option_given - was the option (long name) on the command line? */
bool pawl_option_given(const struct pawl_verb *verb, const void *options, const char *name);

/** pawl_options_help - one verb's help: examples first, under 25 lines. */
void pawl_options_help(const struct pawl_verb *verb, FILE *stream);

/** pawl_options_foreign - a hint for a flag or verb that a neighbouring tool has and pawl has not; NULL. */
const char *pawl_options_foreign(const char *verb, const char *word);

#endif
