/*
 * log.h - one line a message, one write(2) a line: time, role, pid, level, text.
 */
#ifndef PAWL_SHM_LOG_H
#define PAWL_SHM_LOG_H

#include <stdint.h>

enum pawl_log_level { PAWL_LOG_DEBUG = 0, PAWL_LOG_INFO = 1, PAWL_LOG_WARNING = 2, PAWL_LOG_ERROR = 3 };

/* Where lines go from now on (default: descriptor 2), who says it, and from which level on. Nothing is
 * closed. */
void pawl_log_open(int fd, const char *role, enum pawl_log_level least);

/* Each line also goes there, unless it would have to wait for a reader; -1: nowhere else. */
void pawl_log_copy_to(int fd);

/* A whole line, newline included, as it is. */
void pawl_log_line(const char *line, unsigned bytes);

/* At most 1,000 bytes; longer text is cut. Keeps errno. */
void pawl_log(enum pawl_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A message that may repeat without end: said at most once a second, with the number left out in between. */
struct pawl_log_limit {
    uint64_t said_at_ns;
    uint64_t left_out;
};
void pawl_log_limited(struct pawl_log_limit *limit, uint64_t monotonic_ns, enum pawl_log_level level,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
