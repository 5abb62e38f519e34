/*
 * map_input.h - the arguments of `pawl map`, task by task: from the command line, files, or standard input.
 *
 * Sources are combined as GNU parallel does: all combinations, the last source running fastest; `:::+` and
 * `::::+` link a source to the one before it (first with first, second with second; the shortest ends it).
 * The first source is read while tasks run, in memory bounded by one read buffer and its longest argument;
 * further sources are read whole before the first task. Never blocks in next(): a source that has nothing
 * ready says so.
 */
#ifndef PAWL_RUNTIME_CLI_MAP_INPUT_H
#define PAWL_RUNTIME_CLI_MAP_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/cli/map_template.h"

enum { PAWL_MAP_ARGUMENT_BYTES_MAX = 2 << 20 };

struct pawl_map_source {
    bool is_file;             /* words[0] names it; "-" is standard input */
    bool linked;              /* to the source before */
    const char *const *words; /* borrowed */
    size_t word_count;
};

struct pawl_map_input_options {
    const struct pawl_map_source *sources;
    size_t source_count; /* 0: standard input */
    const char *colsep;  /* extended regular expression (\t \n \s as people write them), or NULL */
    bool null_separated; /* of files */
    uint32_t max_args;   /* combinations that make one task; at least 1 */
};

struct pawl_map_input;

/**
 * pawl_map_sources_parse - find `:::` `::::` `:::+` `::::+` in the words after the options
 * @files: of -a, in order; they come first
 *
 * Return: 0; *@command_count_out words at the front are the command; *@sources_out is malloc'd. -ENOMEM.
 */
int pawl_map_sources_parse(int argc, char *const *argv, const char *const *files, size_t file_count,
                           int *command_count_out, struct pawl_map_source **sources_out, size_t *count_out);

/**
 * pawl_map_input_open - open the sources; reads all but the first (blocks)
 * @why: filled on failure
 *
 * Return: 0; PAWL_E_INVALID (a file, the expression); -ENOMEM. What is pointed to must outlive the input.
 */
int pawl_map_input_open(const struct pawl_map_input_options *options, struct pawl_map_input **input_out,
                        char why[256]);
void pawl_map_input_close(struct pawl_map_input *input);

/**
 * pawl_map_input_next - the arguments of the next task
 * @args_out: valid until the next call
 *
 * Return: 1; 0 at the end; -EAGAIN: poll pawl_map_input_fd() for reading, then pawl_map_input_fill();
 * PAWL_E_LIMIT (an argument is too long); PAWL_E_INVALID (an argument holds a NUL); -errno; -ENOMEM.
 */
int pawl_map_input_next(struct pawl_map_input *input, struct pawl_map_args *args_out);

int pawl_map_input_fd(const struct pawl_map_input *input); /* -1: nothing is ever waited for */
int pawl_map_input_fill(struct pawl_map_input *input);     /* one read(2): 0 or -errno */

/** pawl_map_input_total - how many tasks there will be, if that is known before the end; UINT64_MAX if not.
 */
uint64_t pawl_map_input_total(const struct pawl_map_input *input);

#endif
