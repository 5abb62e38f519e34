/*
 * units.c - durations and sizes, out of text and as text.
 *
 * Runs in clients. Works on byte strings without a NUL at their end; knows no locale.
 */
#include "runtime/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "shm/error.h"

struct unit {
    const char *name;
    uint64_t factor;
};

/* Largest first: in "1h30m" each unit is smaller than the one before. "ms" is tried before "m" by length. */
static const struct unit times[] = {{"d", UINT64_C(86400000000000)},
                                    {"h", UINT64_C(3600000000000)},
                                    {"m", UINT64_C(60000000000)},
                                    {"s", UINT64_C(1000000000)},
                                    {"ms", UINT64_C(1000000)},
                                    {"us", UINT64_C(1000)},
                                    {"ns", UINT64_C(1)},
                                    {NULL, 0}};
static const struct unit sizes[] = {{"B", 1},
                                    {"KB", UINT64_C(1000)},
                                    {"MB", UINT64_C(1000000)},
                                    {"GB", UINT64_C(1000000000)},
                                    {"TB", UINT64_C(1000000000000)},
                                    {"K", UINT64_C(1) << 10},
                                    {"M", UINT64_C(1) << 20},
                                    {"G", UINT64_C(1) << 30},
                                    {"T", UINT64_C(1) << 40},
                                    {"KiB", UINT64_C(1) << 10},
                                    {"MiB", UINT64_C(1) << 20},
                                    {"GiB", UINT64_C(1) << 30},
                                    {"TiB", UINT64_C(1) << 40},
                                    {NULL, 0}};

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* digits[.digits] */
struct number {
    uint64_t whole;
    uint64_t fraction, scale; /* fraction / scale */
};

static int parse_number(const char **at, const char *end, struct number *number)
{
    const char *start = *at;
    *number = (struct number){0, 0, 1};
    for (; *at < end && is_digit(**at); ++*at)
        if (__builtin_mul_overflow(number->whole, UINT64_C(10), &number->whole) ||
            __builtin_add_overflow(number->whole, (uint64_t)(**at - '0'), &number->whole))
            return PAWL_E_LIMIT;
    if (*at == start)
        return PAWL_E_INVALID;
    if (*at < end && **at == '.') {
        ++*at;
        if (*at == end || !is_digit(**at))
            return PAWL_E_INVALID;
        for (; *at < end && is_digit(**at); ++*at) {
            if (number->scale >= UINT64_C(1000000000))
                continue; /* below anything that could be told apart */
            number->fraction = number->fraction * 10 + (uint64_t)(**at - '0');
            number->scale *= 10;
        }
    }
    return 0;
}

static int scaled(const struct number *number, uint64_t factor, uint64_t *total)
{
    uint64_t whole;
    unsigned __int128 part = (unsigned __int128)number->fraction * factor / number->scale;
    if (__builtin_mul_overflow(number->whole, factor, &whole) ||
        __builtin_add_overflow(*total, whole, total) ||
        __builtin_add_overflow(*total, (uint64_t)part, total) || *total > INT64_MAX)
        return PAWL_E_LIMIT;
    return 0;
}

static const struct unit *parse_unit(const struct unit *units, const char **at, const char *end,
                                     int exact_case)
{
    const char *start = *at;
    while (*at < end && is_letter(**at))
        ++*at;
    size_t length = (size_t)(*at - start);
    for (; units->name; units++)
        if (strlen(units->name) == length && (exact_case ? memcmp(units->name, start, length) == 0
                                                         : strncasecmp(units->name, start, length) == 0))
            return units;
    return NULL;
}

int pawl_parse_duration_ns(const char *text, size_t length, uint64_t *ns_out)
{
    const char *at = text, *end = text + length;
    const struct unit *before = NULL;
    uint64_t total = 0;
    do {
        struct number number;
        int error = parse_number(&at, end, &number);
        if (error < 0)
            return error;
        const struct unit *unit = at == end && !before ? &times[3] : parse_unit(times, &at, end, 1);
        if (!unit || (before && unit <= before))
            return PAWL_E_INVALID;
        error = scaled(&number, unit->factor, &total);
        if (error < 0)
            return error;
        before = unit;
    } while (at < end);
    *ns_out = total;
    return 0;
}

int pawl_parse_bytes(const char *text, size_t length, uint64_t *bytes_out)
{
    const char *at = text, *end = text + length;
    struct number number;
    uint64_t total = 0;
    int error = parse_number(&at, end, &number);
    if (error < 0)
        return error;
    const struct unit *unit = at == end ? &sizes[0] : parse_unit(sizes, &at, end, 0);
    if (!unit || at != end || (unit->factor == 1 && number.scale > 1))
        return PAWL_E_INVALID;
    error = scaled(&number, unit->factor, &total);
    if (error == 0)
        *bytes_out = total;
    return error;
}

/* ---- and back ---- */

const char *pawl_bytes_text(uint64_t value, char text[PAWL_UNIT_TEXT_BYTES])
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    unsigned unit = 0;
    while (value != 0 && value % 1024 == 0 && unit < 4) {
        value /= 1024;
        unit++;
    }
    snprintf(text, PAWL_UNIT_TEXT_BYTES, "%" PRIu64 "%s", value, units[unit]);
    return text;
}

const char *pawl_duration_text(uint64_t ns, char text[PAWL_UNIT_TEXT_BYTES])
{
    static const struct {
        uint64_t ns;
        const char *name;
    } units[] = {{UINT64_C(86400000000000), "d"}, {UINT64_C(3600000000000), "h"},
                 {UINT64_C(60000000000), "m"},    {UINT64_C(1000000000), "s"},
                 {UINT64_C(1000000), "ms"},       {1000, "us"}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (ns != 0 && ns % units[i].ns == 0) {
            snprintf(text, PAWL_UNIT_TEXT_BYTES, "%" PRIu64 "%s", ns / units[i].ns, units[i].name);
            return text;
        }
    }
    snprintf(text, PAWL_UNIT_TEXT_BYTES, "%" PRIu64 "%s", ns, ns == 0 ? "s" : "ns");
    return text;
}
