/*
 * error.c - words for error codes. Runs in: every process. Allocates nothing.
 */
#include "shm/error.h"

#include <stdio.h>
#include <string.h>

const char *pawl_error_text(int error)
{
    static _Thread_local char text[128];
    if (error == 0)
        return "success";
    switch (error) {
#define PAWL_ERROR_TEXT(name, value, words)                                                                  \
    case value:                                                                                              \
        return words;
        PAWL_ERROR_MAP(PAWL_ERROR_TEXT)
#undef PAWL_ERROR_TEXT
    default:
        break;
    }
    if (error > 0 || error <= -10000) {
        snprintf(text, sizeof text, "error %d", error);
        return text;
    }
    return strerror_r(-error, text, sizeof text);
}

const char *pawl_error_name(int error)
{
    switch (error) {
#define PAWL_ERROR_NAME(name, value, words)                                                                  \
    case value:                                                                                              \
        return #name;
        PAWL_ERROR_MAP(PAWL_ERROR_NAME)
#undef PAWL_ERROR_NAME
    default:
        break;
    }
    const char *name = error < 0 && error > -10000 ? strerrorname_np(-error) : NULL;
    return name ? name : "E_UNKNOWN";
}
