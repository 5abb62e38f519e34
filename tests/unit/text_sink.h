/*
 * text_sink.h - where a test collects what a writer writes.
 */
#ifndef PAWL_TESTS_UNIT_TEXT_SINK_H
#define PAWL_TESTS_UNIT_TEXT_SINK_H

#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

struct text {
    char bytes[4096];
    size_t length;
};

/* A pawl_value_sink; ends the test when there is too much. */
static inline int to_text(void *context, const void *bytes, size_t length)
{
    struct text *text = context;
    cr_assert(lt(sz, text->length + length, sizeof text->bytes));
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = '\0';
    return 0;
}

#endif
