/*
 * loader.h - workflow files: YAML to plan, with every mistake named by its place.
 *
 * Runs in the client. Reads the file and nothing else. A file is hostile input: size, depth, nodes (aliases
 * count each time they are used) and text are bounded.
 */
#ifndef PAWL_RUNTIME_LOADER_H
#define PAWL_RUNTIME_LOADER_H

#include <stddef.h>
#include <stdint.h>

#include "scheduler/plan.h"

struct pawl_load_limits {
    uint64_t file_bytes_max; /* default 1 MiB, at most 64 MiB */
    uint32_t depth_max;      /* default 32, at most 64 */
    uint32_t
        nodes_max; /* default 100,000, at most 1,000,000; scalars, sequences and mappings, aliases expanded */
};
#define PAWL_LOAD_LIMITS_DEFAULT ((struct pawl_load_limits){1u << 20, 32, 100000})
#define PAWL_LOAD_LIMITS_MAX     ((struct pawl_load_limits){64u << 20, 64, 1000000})

enum { PAWL_LOAD_ERRORS_MAX = 20 };

struct pawl_load_error {
    uint32_t line;   /* from 1; 0: the file as a whole */
    uint32_t column; /* from 1, in characters; 0 with line 0 */
    char code[32];   /* "unknown_key", "duplicate_key", "cycle", "type", "syntax", "limit", ... */
    char text[320];  /* what and why */
    char hint[192];  /* what to do next; may be empty */
};

struct pawl_load_errors {
    uint32_t count;   /* in errors[], sorted by place */
    uint32_t dropped; /* more that were found */
    struct pawl_load_error errors[PAWL_LOAD_ERRORS_MAX];
};

/**
 * pawl_workflow_load - read, check and compile a workflow file
 * @path:   "-" is standard input
 * @limits: NULL for the defaults; values above the maxima are an error
 * @errors: always written; empty on success
 *
 * Return: 0 and a plan (close it); PAWL_E_INVALID (mistakes in the file, see @errors); PAWL_E_LIMIT (see
 * @errors); -errno if the file cannot be read (@errors then has one entry with line 0).
 */
int pawl_workflow_load(const char *path, const struct pawl_load_limits *limits, struct pawl_plan **plan_out,
                       struct pawl_load_errors *errors);

/**
 * pawl_workflow_load_memory - the same from memory
 * @path: what the plan calls its source, and where the default name comes from (its file name without .yaml,
 * .yml)
 */
int pawl_workflow_load_memory(const char *path, const char *bytes, size_t length,
                              const struct pawl_load_limits *limits, struct pawl_plan **plan_out,
                              struct pawl_load_errors *errors);

#endif
