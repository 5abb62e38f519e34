/*
 * text.h - short texts put together piece by piece, for what is said of each job anew.
 *
 * Runs in a worker. printf would do the same: ten of its calls a job cost as much as starting a thread, since
 * a job leaves nothing of it in the caches. Allocates nothing.
 */
#ifndef PAWL_WORKERS_TEXT_H
#define PAWL_WORKERS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Caller's buffer, always NUL-terminated. */
struct pawl_text {
    char *at, *end; /* end: of the buffer, NUL included */
    bool cut;       /* something did not fit: nothing is added any more */
};

/* @bytes: of @buffer, at least 1. */
static inline struct pawl_text pawl_text_begin(char *buffer, size_t bytes)
{
    *buffer = '\0';
    return (struct pawl_text){.at = buffer, .end = buffer + bytes};
}

static inline void pawl_text_add_bytes(struct pawl_text *text, const char *bytes, size_t n)
{
    text->cut |= n >= (size_t)(text->end - text->at);
    if (text->cut)
        return;
    memcpy(text->at, bytes, n);
    text->at += n;
    *text->at = '\0';
}

static inline void pawl_text_add(struct pawl_text *text, const char *string)
{
    pawl_text_add_bytes(text, string, strlen(string));
}

/* In decimal. */
static inline void pawl_text_add_number(struct pawl_text *text, uint64_t number)
{
    char digits[20], *at = digits + sizeof digits;
    do
        *--at = (char)('0' + number % 10);
    while (number /= 10);
    pawl_text_add_bytes(text, at, (size_t)(digits + sizeof digits - at));
}

#endif
