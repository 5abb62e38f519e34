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
#include "shm/wire.h"

/* ---- JSON ---- */

/** pawl_json_text - a string; bytes that are not UTF-8 become U+FFFD. */
json_t *pawl_json_text(const char *text);

/** pawl_json_bytes - @object[name] as text, or, when the bytes are not UTF-8, @object[name_base64]. */
void pawl_json_bytes(json_t *object, const char *name, const void *bytes, size_t n);

/** pawl_json_time - RFC 3339 with milliseconds, in UTC; null for 0. */
json_t *pawl_json_time(uint64_t realtime_ns);

/** pawl_json_document - an object that begins with "schema": 1. */
json_t *pawl_json_document(void);

/** pawl_json_print - one line, compact, with a newline. */
void pawl_json_print(const json_t *value, FILE *stream);

/** pawl_summary_json - a run as `pawl status --json` shows it (SPEC 2). */
json_t *pawl_summary_json(const struct pawl_wire_summary *summary);

/** pawl_base64 - standard alphabet, padded; malloc'd, NULL without memory. */
char *pawl_base64(const void *bytes, size_t n);

/* ---- for people ---- */

enum { PAWL_TIME_TEXT_BYTES = 32, PAWL_DURATION_TEXT_BYTES = 32 };

/** pawl_format_time - "2026-01-31T12:00:00.123Z"; "" for 0. */
const char *pawl_format_time(uint64_t realtime_ns, char buffer[PAWL_TIME_TEXT_BYTES]);

/** pawl_format_duration - "12 ms", "3.4 s", "5m07s", "2h03m", "4d06h". */
const char *pawl_format_duration(uint64_t ns, char buffer[PAWL_DURATION_TEXT_BYTES]);

/** pawl_format_bytes - "512 B", "1.5 KiB", "3.0 GiB". */
const char *pawl_format_bytes(uint64_t bytes, char buffer[32]);

/** pawl_print_safe - bytes for a person: control characters as \xNN, tabs as they are; at most @n bytes. */
void pawl_print_safe(FILE *stream, const char *bytes, size_t n);

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
