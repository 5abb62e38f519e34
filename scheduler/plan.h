/*
 * plan.h - a workflow, flat: one blob without pointers that a client builds and the scheduler reads in place.
 *
 * The blob is little-endian, starts with a header and a table of sections, and carries an XXH3 checksum. It
 * arrives in a sealed memfd from a process that is not trusted and lies in `runs/ID/image` of sealed runs:
 * pawl_plan_open checks every offset, count, index, string, expression node and edge (bounds, order, cycles)
 * before anything else may read it. After that each accessor is O(1) and cannot fail. "Ref" members are to be
 * read through the accessors. Runs in: clients (build, bind) and scheduler (open, read). No I/O.
 */
#ifndef PAWL_SCHEDULER_PLAN_H
#define PAWL_SCHEDULER_PLAN_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scheduler/arena.h"
#include "scheduler/value.h"

#define PAWL_PLAN_NONE  UINT32_MAX                   /* no template, no step, no limit, ... */
#define PAWL_PLAN_MAGIC UINT64_C(0x314e414c504c5750) /* "PWLPLAN1" */
enum {
    PAWL_PLAN_FORMAT_VERSION = 1,
    PAWL_NAME_BYTES_MAX = 64,
    PAWL_PLAN_BYTES_MAX = 120 << 20, /* what the largest workflow file makes; a run's record holds one */
    PAWL_PLAN_STEPS_MAX = 1000000
};

/* ---- the blob's records ---- */

/* A byte string in the blob, NUL-terminated there (the NUL is not counted). */
struct pawl_plan_string {
    uint32_t byte_offset; /* from the start of the strings section */
    uint32_t bytes;
};

/* A run of consecutive entries of one section. */
struct pawl_plan_run {
    uint32_t first;
    uint32_t count;
};

enum pawl_step_kind {
    PAWL_STEP_EXEC = 1,  /* argv */
    PAWL_STEP_SHELL = 2, /* sh -c TEXT */
    PAWL_STEP_NOOP = 3   /* `use: noop`: succeeds at once, starts nothing */
};

enum pawl_step_output { PAWL_OUTPUT_TEXT = 0, PAWL_OUTPUT_LINES = 1, PAWL_OUTPUT_JSON = 2 };

enum pawl_step_flags {
    PAWL_STEP_CONTINUE_ON_ERROR = 1u << 0,
    PAWL_STEP_ALWAYS = 1u << 1,
    PAWL_STEP_UNSAFE_SHELL = 1u << 2,
    PAWL_STEP_FED =
        1u << 3, /* instances come from the client one by one; item is what it sends. No foreach, no matrix */
    PAWL_STEP_ARGV_LIST =
        1u << 4 /* argv is one template whose value, a list, is the whole argv. Never from a file */
};

struct pawl_plan_retry {
    uint64_t initial_ns; /* wait before the first retry */
    uint64_t max_ns;     /* no wait is longer */
    double factor;       /* each wait is the one before times this; 1 to 1000 */
    double jitter;       /* 0 to 1: a wait is spread by this part of itself, both ways */
    uint32_t limit;      /* retries after the first attempt; 0: none */
    uint32_t reserved;
    struct pawl_plan_run on_exit;       /* codes section: if not empty, only these exit codes are retried */
    struct pawl_plan_run never_on_exit; /* codes section: these never are */
};

struct pawl_plan_step {
    struct pawl_plan_string name;
    uint8_t kind;                    /* enum pawl_step_kind */
    uint8_t output;                  /* enum pawl_step_output */
    uint16_t flags;                  /* enum pawl_step_flags */
    int32_t priority;                /* higher first; default 0; -1000 to 1000 */
    struct pawl_plan_run argv;       /* argv section: template indices, at least one for EXEC */
    struct pawl_plan_run env;        /* env section: the step's own entries; the plan's come before them */
    struct pawl_plan_run needs;      /* edges section: step indices, in the order of the file */
    struct pawl_plan_run dependents; /* edges section: step indices, rising */
    struct pawl_plan_run axes;       /* axes section: matrix; empty without */
    uint32_t shell;                  /* template or PAWL_PLAN_NONE */
    uint32_t dir; /* template or PAWL_PLAN_NONE (the run's directory); relative to the run's directory */
    uint32_t stdin_template; /* template or PAWL_PLAN_NONE (/dev/null) */
    uint32_t when; /* template or PAWL_PLAN_NONE (run it). If it uses item or index: one answer an instance */
    uint32_t foreach;              /* template (a list) or PAWL_PLAN_NONE */
    uint32_t max_parallel;         /* instances at a time; 0: no limit of its own */
    uint32_t topological_position; /* where it stands in pawl_plan_order */
    uint32_t line, column;         /* of its name in the file; 0 if it did not come from one */
    uint64_t timeout_ns;           /* of one attempt; 0: none */
    uint64_t grace_ns;             /* between SIGTERM and SIGKILL */
    struct pawl_plan_retry retry;
    /* What the step does, parameters in their values: kind, argv, shell, env (the plan's too), dir, stdin,
     * output, foreach, matrix, when, always, continue_on_error and the names of its needs. How patiently pawl
     * runs it (timeout, grace, retries, max_parallel, priority) is left out: changing that does not make a
     * success stale. */
    uint64_t definition_hash[2];
    uint64_t reserved[2];
};
static_assert(sizeof(struct pawl_plan_retry) == 56, "plan format");
static_assert(offsetof(struct pawl_plan_step, timeout_ns) == 96, "plan format");
static_assert(offsetof(struct pawl_plan_step, retry) == 112, "plan format");
static_assert(sizeof(struct pawl_plan_step) == 200, "plan format");

/* NAME=template. */
struct pawl_plan_env {
    struct pawl_plan_string name;
    uint32_t value; /* template */
    uint32_t reserved;
};

/* One axis of a matrix: item.NAME runs through the list. */
struct pawl_plan_axis {
    struct pawl_plan_string name;
    uint32_t values; /* template (a list) */
    uint32_t reserved;
};

struct pawl_plan_param {
    struct pawl_plan_string name;
    uint32_t value;         /* values section: what it is now (the default, or what bind gave) */
    uint32_t default_value; /* values section: what the file says */
};

enum pawl_template_flags {
    PAWL_TEMPLATE_CONSTANT = 1u << 0, /* no expression: needs no environment */
    PAWL_TEMPLATE_USES_ITEM = 1u << 1,
    PAWL_TEMPLATE_USES_INDEX = 1u << 2,
    PAWL_TEMPLATE_USES_PARAMS = 1u << 3,
    PAWL_TEMPLATE_USES_ENV = 1u << 4,     /* the submitter's environment */
    PAWL_TEMPLATE_USES_RUN = 1u << 5,     /* run.id */
    PAWL_TEMPLATE_USES_STEPS = 1u << 6,   /* see pawl_plan_template_steps */
    PAWL_TEMPLATE_USES_OUTCOME = 1u << 7, /* success(), failed(), always() */
    PAWL_TEMPLATE_WHOLE = 1u << 8         /* not CONSTANT, and one expression is all of it: keeps its type */
};

/* One template. Flags and steps are recomputed by the validator, so they hold even for a hostile blob. */
struct pawl_plan_template {
    struct pawl_plan_string source; /* as in the file, for messages */
    uint32_t first_node;            /* nodes first_node .. root_node are this template's */
    uint32_t root_node;
    uint32_t flags; /* enum pawl_template_flags */
    struct pawl_plan_run
        steps; /* refs section: indices of the steps whose fields it asks for, rising, each once */
    uint32_t reserved;
};
static_assert(sizeof(struct pawl_plan_template) == 32, "plan format");

/* ---- reading ---- */

struct pawl_plan; /* private handle: borrows or owns the blob */

struct pawl_plan_limits {
    uint32_t steps_max; /* 0: PAWL_PLAN_STEPS_MAX */
    uint64_t bytes_max; /* 0: PAWL_PLAN_BYTES_MAX */
};

/**
 * pawl_plan_open - check a blob and read it in place
 * @blob:    8-aligned; borrowed: must stay mapped and unchanged (a sealed memfd) until pawl_plan_close
 * @limits:  NULL for the maxima
 * @why_out: static text for a refusal; may be NULL
 *
 * Time and scratch memory are linear in @bytes.
 *
 * Return: 0; PAWL_E_BAD_FORMAT (magic, version); PAWL_E_BAD_MESSAGE (does not hold); PAWL_E_LIMIT; -ENOMEM.
 */
int pawl_plan_open(const void *blob, size_t bytes, const struct pawl_plan_limits *limits,
                   struct pawl_plan **plan_out, const char **why_out);

/** pawl_plan_open_copy - the same from a private copy of @blob (any alignment), freed by close. */
int pawl_plan_open_copy(const void *blob, size_t bytes, const struct pawl_plan_limits *limits,
                        struct pawl_plan **plan_out, const char **why_out);

/** pawl_plan_close - end the reading; frees the blob if the handle owns it. NULL is fine. */
void pawl_plan_close(struct pawl_plan *plan);

/** pawl_plan_blob - the bytes of the plan, to be sent or stored; they live as long as the handle. */
const void *pawl_plan_blob(const struct pawl_plan *plan, size_t *bytes_out);

const char *pawl_plan_name(const struct pawl_plan *plan);   /* of the workflow; NUL-terminated */
const char *pawl_plan_source(const struct pawl_plan *plan); /* path of the file as it was given; "" if none */

/* Equal for plans whose parameters (names and values, in any order) are equal. */
void pawl_plan_params_hash(const struct pawl_plan *plan, uint64_t hash_out[2]);

uint32_t pawl_plan_step_count(const struct pawl_plan *plan);
const struct pawl_plan_step *pawl_plan_step(const struct pawl_plan *plan, uint32_t step_index);

/** pawl_plan_find_step - index of a step by name; PAWL_PLAN_NONE. Logarithmic. */
uint32_t pawl_plan_find_step(const struct pawl_plan *plan, const char *name, size_t name_bytes);

/** pawl_plan_order - step indices, each after all that it needs; the file's order otherwise. step_count
 * entries. */
const uint32_t *pawl_plan_order(const struct pawl_plan *plan);

/** pawl_plan_text - a string of the blob, NUL-terminated; length is @string.bytes. */
const char *pawl_plan_text(const struct pawl_plan *plan, struct pawl_plan_string string);

const char *pawl_plan_step_name(const struct pawl_plan *plan, uint32_t step_index);
const uint32_t *pawl_plan_needs(const struct pawl_plan *plan,
                                const struct pawl_plan_step *step); /* .needs.count */
const uint32_t *pawl_plan_dependents(const struct pawl_plan *plan,
                                     const struct pawl_plan_step *step); /* .dependents.count */
const uint32_t *pawl_plan_argv(const struct pawl_plan *plan,
                               const struct pawl_plan_step *step); /* .argv.count */
const struct pawl_plan_env *pawl_plan_step_env(const struct pawl_plan *plan,
                                               const struct pawl_plan_step *step);
const struct pawl_plan_env *pawl_plan_env(const struct pawl_plan *plan,
                                          uint32_t *count_out); /* the workflow's */
const struct pawl_plan_axis *pawl_plan_axes(const struct pawl_plan *plan, const struct pawl_plan_step *step);
const int32_t *pawl_plan_exit_codes(const struct pawl_plan *plan, struct pawl_plan_run run);

uint32_t pawl_plan_template_count(const struct pawl_plan *plan);
const struct pawl_plan_template *pawl_plan_template(const struct pawl_plan *plan, uint32_t template_index);
const uint32_t *pawl_plan_template_steps(const struct pawl_plan *plan, uint32_t template_index,
                                         uint32_t *count_out);

uint32_t pawl_plan_param_count(const struct pawl_plan *plan);
const struct pawl_plan_param *pawl_plan_param(const struct pawl_plan *plan, uint32_t param_index);

/**
 * pawl_plan_value - a constant of the blob as a value; lists are served lazily from the blob, maps are copied
 * to @arena Return: 0, PAWL_E_LIMIT (arena).
 */
int pawl_plan_value(const struct pawl_plan *plan, uint32_t value_index, struct pawl_arena *arena,
                    struct pawl_value *value_out);

/** pawl_step_is_many - has it instances (foreach, matrix, fed)? */
bool pawl_step_is_many(const struct pawl_plan_step *step);

/**
 * pawl_step_retry_wait_ns - the wait before retry number @retry (1, 2, ...), jitter from @random (any 64
 * bits)
 */
uint64_t pawl_step_retry_wait_ns(const struct pawl_plan_step *step, uint32_t retry, uint64_t random);

/** pawl_step_retries_exit - may an attempt that ended with @exit_code be retried (on_exit, never_on_exit; not
 * the limit)? */
bool pawl_step_retries_exit(const struct pawl_plan *plan, const struct pawl_plan_step *step, int exit_code);

/* ---- parameters ---- */

struct pawl_plan_bind_error {
    char text[256];
    char hint[128];
};

/**
 * pawl_plan_bind - the same plan with other values of its parameters
 * @params:    a MAP of values by name; each name must be a parameter. A parameter whose default is text takes
 * numbers and booleans as their text; any other takes values of its default's kind (int and float are one;
 * null takes all)
 * @error_out: may be NULL
 *
 * Return: 0 and a plan that owns its blob; PAWL_E_NOT_FOUND (no such parameter), PAWL_E_INVALID (kind);
 * -ENOMEM.
 */
int pawl_plan_bind(const struct pawl_plan *plan, const struct pawl_value *params, struct pawl_plan **plan_out,
                   struct pawl_plan_bind_error *error_out);

/**
 * pawl_plan_parse_param - the value of `--set NAME=TEXT`
 *
 * TEXT itself if the default of NAME is text; else TEXT as JSON.
 *
 * Return: 0; PAWL_E_NOT_FOUND (hint: the nearest name); PAWL_E_INVALID (not JSON, or another kind than the
 * default).
 */
int pawl_plan_parse_param(const struct pawl_plan *plan, const char *name, size_t name_bytes, const char *text,
                          size_t text_bytes, struct pawl_arena *arena, struct pawl_value *value_out,
                          struct pawl_plan_bind_error *error_out);

#endif
