/*
 * map_halt.c - --halt.
 *
 * Pure.
 */
#include "runtime/cli/map_halt.h"

#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

int pawl_halt_parse(const char *text, struct pawl_halt *halt_out)
{
    *halt_out = (struct pawl_halt){0};
    if (text == NULL || strcmp(text, "never") == 0)
        return 0;
    if (strncmp(text, "now,", 4) == 0) {
        halt_out->now = 1;
        text += 4;
    } else if (strncmp(text, "soon,", 5) == 0) {
        text += 5;
    } else {
        return PAWL_E_INVALID;
    }
    if (strncmp(text, "fail=", 5) != 0 || text[5] < '0' || text[5] > '9')
        return PAWL_E_INVALID;
    char *end;
    unsigned long number = strtoul(text + 5, &end, 10);
    if (number == 0 || number > UINT32_MAX)
        return PAWL_E_INVALID;
    if (strcmp(end, "%") == 0 && number <= 100)
        halt_out->fail_percent = (uint32_t)number;
    else if (*end == '\0')
        halt_out->fail_count = (uint32_t)number;
    else
        return PAWL_E_INVALID;
    return 0;
}
