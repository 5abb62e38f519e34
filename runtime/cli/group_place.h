/*
 * group_place.h - where in a stream, as people say it.
 */
#ifndef PAWL_RUNTIME_CLI_GROUP_PLACE_H
#define PAWL_RUNTIME_CLI_GROUP_PLACE_H

#include <jansson.h>

/**
 * pawl_group_place - "1200" (an offset), "earliest", "latest", "2026-01-31T12:00:00Z", "2026-01-31", "1h ago"
 *
 * Return: an integer, a string, or {"time_ns": N}; NULL: not understood.
 */
json_t *pawl_group_place(const char *text);

#endif
