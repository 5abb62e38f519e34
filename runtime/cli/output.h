/*
 * output.h - what the tool writes: JSON documents, tables, times, names of states in colour.
 *
 * stdout is data, stderr is talk. Text from outside (items, outputs, names of files) goes to a person only
 * through pawl_print_safe(), so that it cannot play with the terminal.
 */
#ifndef PAWL_RUNTIME_CLI_OUTPUT_H
#define PAWL_RUNTIME_CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "runtime/cli/cli.h"
#include "runtime/document.h"
#include "shm/wire.h"

/* ---- JSON ---- */

/** pawl_json_print - one line, compact, with a newline. */
void pawl_json_print(const json_t *value, FILE *stream);

/* ---- for people ---- */

enum { PAWL_DURATION_TEXT_BYTES = 32 };

/** pawl_format_duration - "12 ms", "3.4 s", "5m07s", "2h03m", "4d06h". */
const char *pawl_format_duration(uint64_t ns, char buffer[PAWL_DURATION_TEXT_BYTES]);

/** pawl_format_bytes - "512 B", "1.5 KiB", "3.0 GiB". */
const char *pawl_format_bytes(uint64_t bytes, char buffer[32]);

/** pawl_print_safe - bytes for a person: control characters as \xNN, tabs as they are; at most @n bytes. */
void pawl_print_safe(FILE *stream, const char *bytes, size_t n);

/** pawl_print_line - the same as a part of a line: a newline is \n and a tab \t, so that a row stays one. */
void pawl_print_line(FILE *stream, const char *bytes, size_t n);

/** pawl_print_run_state, pawl_print_step_state - the name, padded to @width, in its colour if @color. */
void pawl_print_run_state(FILE *stream, uint32_t state, int width, bool color);
void pawl_print_step_state(FILE *stream, uint32_t state, int width, bool color);

/** pawl_summary_done - how many instances are in a final state. */
uint64_t pawl_summary_done(const struct pawl_wire_summary *summary);

/** pawl_summary_exit - what a command that waited for this run exits with. */
int pawl_summary_exit(const struct pawl_wire_summary *summary);

/** pawl_output_finish - flush stdout. Return: @exit_code, or 1 when stdout could not be written (0 -> 1). */
int pawl_output_finish(const struct pawl_cli *cli, int exit_code);

#endif
