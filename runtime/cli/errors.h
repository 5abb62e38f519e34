/*
 * errors.h - how the tool says what went wrong: what, which object, why, and what to do next.
 *
 * On stderr; under --json one JSON document. Each function returns the exit code, so that a verb can end with
 * `return pawl_fail(...)`.
 */
#ifndef PAWL_RUNTIME_CLI_ERRORS_H
#define PAWL_RUNTIME_CLI_ERRORS_H

#include <stdint.h>

#include "runtime/cli/cli.h"
#include "runtime/client.h"
#include "runtime/config.h"
#include "runtime/loader.h"

struct pawl_trouble {
    int exit_code;
    const char *code; /* a word for programs: "usage", "not_found", ... */
    const char *message;
    const char *hint;      /* NULL or "": none */
    const char *file;      /* NULL: none */
    uint32_t line, column; /* 0: none */
};

int pawl_trouble(const struct pawl_cli *cli, const struct pawl_trouble *trouble);

/** pawl_fail - the same in one call; @hint may be NULL. */
int pawl_fail(const struct pawl_cli *cli, int exit_code, const char *code, const char *hint,
              const char *format, ...) __attribute__((format(printf, 5, 6)));

/** pawl_fail_error - for a code of shm/error.h: its name and text are added to what was tried. */
int pawl_fail_error(const struct pawl_cli *cli, int exit_code, int error, const char *hint,
                    const char *format, ...) __attribute__((format(printf, 5, 6)));

/** pawl_fail_report - what a call to the scheduler ended with. */
int pawl_fail_report(const struct pawl_cli *cli, const struct pawl_error_report *report);

/** pawl_fail_load - every mistake of a workflow file; exit 3 (2 when the file cannot be read). */
int pawl_fail_load(const struct pawl_cli *cli, const char *file, int error,
                   const struct pawl_load_errors *errors);

/** pawl_fail_config - every mistake of the configuration: of its file, or of the environment or a flag, which
 * the mistake names itself; exit 3. */
int pawl_fail_config(const struct pawl_cli *cli, const struct pawl_config_source *source, int error,
                     const struct pawl_load_errors *errors);

/** pawl_fail_no_state - a verb that reads found no state directory: exit 1. */
int pawl_fail_no_state(const struct pawl_cli *cli);

/** pawl_fail_state - a state directory that cannot be opened: @why are pawl_state_open()'s words. Exit 4. */
int pawl_fail_state(const struct pawl_cli *cli, int error, const char *why);

/** pawl_note - a line of talk on stderr: "pawl: VERB: ..."; nothing under --json. */
void pawl_note(const struct pawl_cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
