/*
 * log.c - the log. Runs in: every process. Never blocks longer than one write to its own file, never
 * allocates.
 */
#include "shm/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <poll.h>
#include <unistd.h>

static int log_fd = 2, log_copy_fd = -1;
static char log_role[32] = "pawl";
static enum pawl_log_level log_least = PAWL_LOG_INFO;

void pawl_log_open(int fd, const char *role, enum pawl_log_level least)
{
    log_fd = fd;
    log_least = least;
    snprintf(log_role, sizeof log_role, "%s", role);
}

void pawl_log_copy_to(int fd)
{
    log_copy_fd = fd;
}

void pawl_log_line(const char *line, unsigned bytes)
{
    int saved = errno;
    struct pollfd copy = {.fd = log_copy_fd, .events = POLLOUT};
    ssize_t written = write(log_fd, line, bytes);
    if (log_copy_fd >= 0 && poll(&copy, 1, 0) == 1 && (copy.revents & POLLOUT))
        written = write(log_copy_fd, line, bytes);
    (void)written; /* nowhere to complain to */
    errno = saved;
}

static void say(enum pawl_log_level level, const char *prefix, const char *format, va_list list)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    char line[1200];
    struct timespec ts;
    struct tm tm;
    int saved = errno;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ %s[%d] %s: %s", ts.tv_nsec / 1000000, log_role,
                          (int)getpid(), names[level], prefix);
    int text = vsnprintf(line + n, 1000, format, list);
    if (text > 0)
        n += (size_t)(text < 1000 ? text : 999);
    line[n++] = '\n';
    pawl_log_line(line, (unsigned)n);
    errno = saved;
}

void pawl_log(enum pawl_log_level level, const char *format, ...)
{
    if (level < log_least)
        return;
    va_list list;
    va_start(list, format);
    say(level, "", format, list);
    va_end(list);
}

void pawl_log_limited(struct pawl_log_limit *limit, uint64_t monotonic_ns, enum pawl_log_level level,
                      const char *format, ...)
{
    char prefix[64] = "";
    if (level < log_least)
        return;
    if (limit->said_at_ns != 0 && monotonic_ns - limit->said_at_ns < 1000000000u) {
        limit->left_out++;
        return;
    }
    if (limit->left_out > 0)
        snprintf(prefix, sizeof prefix, "(%llu times more) ", (unsigned long long)limit->left_out);
    limit->said_at_ns = monotonic_ns ? monotonic_ns : 1;
    limit->left_out = 0;
    va_list list;
    va_start(list, format);
    say(level, prefix, format, list);
    va_end(list);
}
