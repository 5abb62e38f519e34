/*
 * map_output.h - where the results of a map go: standard output and error, --results, --joblog.
 *
 * What a task printed is written whole and never mixed with another's. Standard output is gathered in a
 * buffer that the waiting loop flushes before it sleeps.
 */
#ifndef PAWL_RUNTIME_CLI_MAP_OUTPUT_H
#define PAWL_RUNTIME_CLI_MAP_OUTPUT_H

#include <stdbool.h>
#include <stdio.h>

#include "runtime/cli/cli.h"
#include "runtime/cli/map_items.h"
#include "runtime/cli/map_template.h"

enum { PAWL_MAP_OUT_BYTES = 64 << 10 };

struct pawl_map_output {
    const struct pawl_cli *cli;
    bool tag;
    const char *results_dir; /* NULL: none */
    FILE *joblog;            /* NULL: none */
    int joblog_error;        /* -errno: not all of it could be written */
    struct pawl_map_template *map_template;
    bool shell;
    int runs_dirfd;
    char run_id[PAWL_NAME_BYTES];
    int error;    /* first of standard output: -EPIPE, ...; nothing is written there any more */
    bool lost;    /* an output that was recorded could not be read, which was told */
    bool damaged; /* and one of them is not what its task printed */
    char *buffer;
    size_t buffered;
};

int pawl_map_output_init(struct pawl_map_output *output);
void pawl_map_output_fini(struct pawl_map_output *output);

/** pawl_map_output_print - both streams of a result, from the bytes on that --line-buffer has shown already.
 */
void pawl_map_output_print(struct pawl_map_output *output, const struct pawl_map_item *item,
                           const struct pawl_map_result *result);

/** pawl_map_output_lose - tell of an output that cannot be printed, and go on. @path: its file, or NULL. */
void pawl_map_output_lose(struct pawl_map_output *output, const struct pawl_map_item *item, const char *path,
                          size_t path_bytes, int error);

/** pawl_map_output_record - to --results and --joblog. Return: 0 or -errno with the path in @where. */
int pawl_map_output_record(struct pawl_map_output *output, const struct pawl_map_item *item,
                           const struct pawl_map_result *result, char where[512]);

/** pawl_map_output_lines - whole lines of a task that still runs (--line-buffer). @stream: 1 or 2. */
void pawl_map_output_lines(struct pawl_map_output *output, const struct pawl_map_item *item, int stream,
                           const char *bytes, size_t n);

/** pawl_map_output_flush - before sleeping. */
void pawl_map_output_flush(struct pawl_map_output *output);

/** pawl_map_joblog_open - create (or with @append go on with) a job log. Return: 0 or -errno. */
int pawl_map_joblog_open(const char *path, bool append, FILE **joblog_out);

/** pawl_map_print_command - the command of a task as sh would read it, on one stream; no newline.
 * @slot: what stands for {%}. */
int pawl_map_print_command(FILE *stream, struct pawl_map_template *map_template, bool shell,
                           const struct pawl_map_args *args, uint64_t number, const char *slot);

/** pawl_map_results_name - an argument as one name of a directory: a/b -> a\_b, as GNU parallel. @name: 256
 * bytes. */
void pawl_map_results_name(const char *arg, size_t n, char name[256]);

#endif
