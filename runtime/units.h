/*
 * units.h - durations and sizes as people write them.
 */
#ifndef PAWL_RUNTIME_UNITS_H
#define PAWL_RUNTIME_UNITS_H

#include <stddef.h>
#include <stdint.h>

/**
 * pawl_parse_duration_ns - "250ms", "10s", "5m", "1h30m", "2d", "1.5s"; a bare number is seconds
 *
 * Units ns us ms s m h d, each at most once, largest first; no sign, no white space.
 *
 * Return: 0; PAWL_E_INVALID (not a duration, *@ns_out untouched); PAWL_E_LIMIT (above about 292 years).
 */
int pawl_parse_duration_ns(const char *text, size_t length, uint64_t *ns_out);

/**
 * pawl_parse_bytes - "64KiB", "10MB", "1GiB", "1.5GiB", "100B"; a bare number is bytes
 *
 * KB MB GB TB are powers of 1000, KiB MiB GiB TiB (and K M G T, as elsewhere on Unix) of 1024; case does not
 * matter.
 *
 * Return: 0; PAWL_E_INVALID; PAWL_E_LIMIT (above 2^63 - 1).
 */
int pawl_parse_bytes(const char *text, size_t length, uint64_t *bytes_out);

enum { PAWL_UNIT_TEXT_BYTES = 64 };

/** pawl_duration_text, pawl_bytes_text - in the largest unit that gives a whole number: "7d", "250ms",
 * "64KiB". Return: @text. */
const char *pawl_duration_text(uint64_t ns, char text[PAWL_UNIT_TEXT_BYTES]);
const char *pawl_bytes_text(uint64_t value, char text[PAWL_UNIT_TEXT_BYTES]);

#endif
