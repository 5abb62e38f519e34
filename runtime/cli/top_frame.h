/*
 * top_frame.h - one look of `pawl top` as lines of text.
 */
#ifndef PAWL_RUNTIME_CLI_TOP_FRAME_H
#define PAWL_RUNTIME_CLI_TOP_FRAME_H

#include "runtime/cli/top_model.h"

enum {
    PAWL_TOP_LINE_BYTES = 512,
    PAWL_TOP_HEAD_LINES = 7, /* above the first row: a title, five of totals, the columns */
    PAWL_TOP_WIDTH_MIN = 74,
    PAWL_TOP_WIDTH_MAX = 400,
};

enum pawl_top_look { PAWL_TOP_PLAIN, PAWL_TOP_TITLE, PAWL_TOP_NAMES, PAWL_TOP_CHOSEN, PAWL_TOP_WARNING };

struct pawl_top_line {
    enum pawl_top_look look;
    char text[PAWL_TOP_LINE_BYTES];
};

/** pawl_top_head - the lines above the rows, @width wide at most (within WIDTH_MIN and WIDTH_MAX: what shows
 * them on less cuts them). @where: the state directory. */
void pawl_top_head(const struct pawl_top *top, const char *where, int width,
                   struct pawl_top_line lines[PAWL_TOP_HEAD_LINES]);

/** pawl_top_line - row @index; exactly as wide. */
void pawl_top_line(const struct pawl_top *top, size_t index, int width, struct pawl_top_line *line);

/** pawl_top_number - "0", "9999", "12.3k", "999M": at most 5 characters. */
const char *pawl_top_number(double value, char text[16]);

/** pawl_top_rate - as that, but below 10 with one digit more: "0.5". */
const char *pawl_top_rate(double per_second, char text[16]);

#endif
