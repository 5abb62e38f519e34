/*
 * map_halt.h - --halt: when a map stops because tasks fail.
 */
#ifndef PAWL_RUNTIME_CLI_MAP_HALT_H
#define PAWL_RUNTIME_CLI_MAP_HALT_H

#include <stdint.h>

struct pawl_halt {
    uint32_t fail_count;   /* 0: any number */
    uint32_t fail_percent; /* 0: no share */
    uint32_t now;          /* 1: what runs is ended too */
};

/** pawl_halt_parse - "now,fail=N", "soon,fail=N", "soon,fail=N%", "never"; NULL is never. Return: 0,
 * PAWL_E_INVALID. */
int pawl_halt_parse(const char *text, struct pawl_halt *halt_out);

#endif
