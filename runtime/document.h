/*
 * document.h - JSON as verbs and library show it: texts that may not be UTF-8, times, runs, processes.
 *
 * Runs in: commands, and programs that use libpawl. No I/O.
 */
#ifndef PAWL_RUNTIME_DOCUMENT_H
#define PAWL_RUNTIME_DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "shm/wire.h"

/** pawl_utf8_bytes - length of the UTF-8 sequence at @at, 0 if none holds there. */
size_t pawl_utf8_bytes(const unsigned char *at, size_t left);

/** pawl_json_text - a string; bytes that are not UTF-8 become U+FFFD. */
json_t *pawl_json_text(const char *text);

/** pawl_json_bytes - @object[name] as text, or, when the bytes are not UTF-8, @object[name_base64]. */
void pawl_json_bytes(json_t *object, const char *name, const void *bytes, size_t n);

/** pawl_json_time - RFC 3339 with milliseconds, in UTC; null for 0. */
json_t *pawl_json_time(uint64_t realtime_ns);

/** pawl_json_document - an object that begins with "schema": 1. */
json_t *pawl_json_document(void);

/** pawl_summary_json - a run as `pawl status --json` shows it (SPEC 2). */
json_t *pawl_summary_json(const struct pawl_wire_summary *summary);

/** pawl_base64 - standard alphabet, padded; malloc'd, NULL without memory. */
char *pawl_base64(const void *bytes, size_t n);

enum { PAWL_TIME_TEXT_BYTES = 32 };

/** pawl_format_time - "2026-01-31T12:00:00.123Z"; "" for 0. */
const char *pawl_format_time(uint64_t realtime_ns, char buffer[PAWL_TIME_TEXT_BYTES]);

/** pawl_processes_json - append the scheduler and what HEALTH_OK listed, as `pawl health --json` does. */
void pawl_processes_json(json_t *list, uint32_t scheduler_pid, const struct pawl_wire_process *processes,
                         size_t count);

#endif
