/*
 * group_place.c - where in a stream, as people say it. Reads the clock for "1h ago".
 */
#include "runtime/cli/group_place.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/units.h"
#include "shm/clock.h"

#define SECOND_NS INT64_C(1000000000)

static json_t *at_time(int64_t ns)
{
    json_t *place = json_object();
    json_object_set_new(place, "time_ns", json_integer(ns > 0 ? ns : 0));
    return place;
}

/* RFC 3339 in UTC, the time of day and its fraction may be missing. */
static json_t *calendar(const char *text)
{
    struct tm parts = {0};
    int64_t fraction_ns = 0, unit_ns = SECOND_NS / 10;
    const char *rest = strptime(text, "%Y-%m-%d", &parts);
    if (rest == NULL)
        return NULL;
    if (*rest == 'T' || *rest == ' ')
        rest = strptime(rest + 1, "%H:%M:%S", &parts);
    if (rest != NULL && *rest == '.')
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, unit_ns /= 10)
            fraction_ns += (*rest - '0') * unit_ns;
    if (rest == NULL || (*rest == 'Z' ? rest[1] : rest[0]) != '\0')
        return NULL;
    return at_time((int64_t)timegm(&parts) * SECOND_NS + fraction_ns);
}

json_t *pawl_group_place(const char *text)
{
    size_t bytes = strlen(text);
    uint64_t ns;
    char *end;
    if (strcmp(text, "earliest") == 0 || strcmp(text, "latest") == 0)
        return json_string(text);
    errno = 0;
    unsigned long long offset = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0')
        return errno == 0 && offset <= INT64_MAX ? json_integer((json_int_t)offset) : NULL;
    if (bytes > 4 && strcmp(text + bytes - 4, " ago") == 0)
        return pawl_parse_duration_ns(text, bytes - 4, &ns) == 0
                   ? at_time((int64_t)pawl_clock_realtime_ns() - (int64_t)ns)
                   : NULL;
    return calendar(text);
}
