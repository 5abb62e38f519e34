/*
 * errors.c - words for errors, and what was said about the last one.
 *
 * Runs in: the program that uses pawl.h.
 */
#include "runtime/lib/lib.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "shm/error.h"

enum { OPTIONS_BYTES_MAX = 4096 };

static _Thread_local char open_error[PAWL_LIB_ERROR_BYTES]; /* of the last connect or start of this thread */

/* The numbers of pawl.h are those of shm/error.h. */
static_assert((int)PAWL_ERR_QUEUE_FULL == (int)PAWL_E_QUEUE_FULL, "public errors");
static_assert((int)PAWL_ERR_EMPTY == (int)PAWL_E_QUEUE_EMPTY, "public errors");
static_assert((int)PAWL_ERR_STALE == (int)PAWL_E_STALE_RECEIPT, "public errors");
static_assert((int)PAWL_ERR_BAD_FORMAT == (int)PAWL_E_BAD_FORMAT, "public errors");
static_assert((int)PAWL_ERR_DAMAGED == (int)PAWL_E_DAMAGED, "public errors");
static_assert((int)PAWL_ERR_BAD_MESSAGE == (int)PAWL_E_BAD_MESSAGE, "public errors");
static_assert((int)PAWL_ERR_LIMIT == (int)PAWL_E_LIMIT, "public errors");
static_assert((int)PAWL_ERR_INVALID == (int)PAWL_E_INVALID, "public errors");
static_assert((int)PAWL_ERR_BUSY == (int)PAWL_E_BUSY, "public errors");
static_assert((int)PAWL_ERR_NOT_FOUND == (int)PAWL_E_NOT_FOUND, "public errors");
static_assert((int)PAWL_ERR_STATE == (int)PAWL_E_STATE, "public errors");
static_assert((int)PAWL_ERR_NO_SPACE == (int)PAWL_E_NO_SPACE, "public errors");
static_assert((int)PAWL_ERR_INDEFINITE == (int)PAWL_E_INDEFINITE, "public errors");
static_assert((int)PAWL_ERR_CLOSED == (int)PAWL_E_CLOSED, "public errors");
static_assert((int)PAWL_ERR_DUPLICATE == (int)PAWL_E_DUPLICATE, "public errors");
static_assert((int)PAWL_ERR_UNROUTED == (int)PAWL_E_UNROUTED, "public errors");
static_assert((int)PAWL_ERR_INCOMPATIBLE == (int)PAWL_E_INCOMPATIBLE, "public errors");
#define SAME(name, value, text) static_assert((int)name == (value), "the symbols of pawl.h");
PAWL_ERROR_MAP(SAME)
#undef SAME

const char *pawl_strerror(int error)
{
    return pawl_error_text(error);
}

const char *pawl_version(void)
{
    return PAWL_VERSION;
}

const char *pawl_last_error(const struct pawl *pawl)
{
    return pawl ? pawl->error : open_error;
}

static char *room(struct pawl *pawl)
{
    return pawl ? pawl->error : open_error;
}

int pawl_lib_fail(struct pawl *pawl, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(room(pawl), PAWL_LIB_ERROR_BYTES, format, arguments);
    va_end(arguments);
    return error;
}

int pawl_lib_fail_report(struct pawl *pawl, const struct pawl_error_report *report)
{
    const char *text = report->text[0] ? report->text : pawl_error_text(report->error);
    if (report->hint[0])
        return pawl_lib_fail(pawl, report->error, "%s (%s)", text, report->hint);
    return pawl_lib_fail(pawl, report->error, "%s", text);
}

/* ---- what the caller gave ---- */

int pawl_lib_need(struct pawl *pawl, const void *argument, const char *what)
{
    return argument ? 0 : pawl_lib_fail(pawl, PAWL_E_INVALID, "%s: NULL", what);
}

int pawl_lib_options(struct pawl *pawl, const char *what, const void *given, void *options, size_t known)
{
    size_t bytes;
    memset(options, 0, known);
    if (!given)
        return 0;
    memcpy(&bytes, given, sizeof bytes);
    if (bytes < sizeof bytes || bytes > OPTIONS_BYTES_MAX)
        return pawl_lib_fail(pawl, PAWL_E_INVALID, "%s.bytes is not its size", what);
    /* What a newer program knows and we do not must be as if it had not been there. */
    for (size_t at = known; at < bytes; at++)
        if (((const unsigned char *)given)[at])
            return pawl_lib_fail(pawl, PAWL_E_INVALID, "%s has fields that this library (%s) does not know",
                                 what, PAWL_VERSION);
    memcpy(options, given, bytes < known ? bytes : known);
    return 0;
}

int pawl_lib_check(struct pawl *pawl)
{
    if (__builtin_expect(!pawl, 0))
        return pawl_lib_fail(NULL, PAWL_E_INVALID, "no handle: NULL");
    if (__builtin_expect(pawl->forks != pawl_lib_fork_count, 0))
        return pawl_lib_fail(pawl, PAWL_E_STATE,
                             "this handle belongs to the process that this one was forked from");
    if (__builtin_expect(pawl->phase == PAWL_LIB_GONE, 0))
        return pawl->gone_error;
    return 0;
}
