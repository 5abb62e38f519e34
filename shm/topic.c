/*
 * topic.c - checking topics and patterns, and matching the one with the other.
 *
 * Runs in: every process. Pure.
 */
#include "shm/topic.h"

#include <stdint.h>
#include <string.h>

#include "shm/event.h"

#define LOW_BITS UINT64_C(0x7f7f7f7f7f7f7f7f)
#define DOTS     UINT64_C(0x2e2e2e2e2e2e2e2e)

/* 0x80 in each byte that is zero, 0 in the others: exact, also above the first zero. */
static uint64_t zero_bytes(uint64_t word)
{
    return ~(((word & LOW_BITS) + LOW_BITS) | word | LOW_BITS);
}

/* No NUL, no empty segment: eight bytes a step, since every event that is published comes through here. What
 * stands before the first byte and after the last counts as a dot, so that an empty segment is always two
 * dots. */
static bool form_holds(const char *text, size_t bytes)
{
    uint64_t bad = 0, dot_before = 0x80;
    for (; bytes >= 8; text += 8, bytes -= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        uint64_t dots = zero_bytes(word ^ DOTS);
        bad |= zero_bytes(word) | (dots & (dots << 8 | dot_before));
        dot_before = dots >> 56;
    }
    uint64_t word = DOTS;
    memcpy(&word, text, bytes);
    uint64_t dots = zero_bytes(word ^ DOTS) & (UINT64_MAX >> (56 - 8 * bytes)); /* one dot after the end */
    bad |= zero_bytes(word) | (dots & (dots << 8 | dot_before));
    return bad == 0;
}

static const char *what_is_wrong(const char *text, size_t bytes)
{
    if (bytes == 0)
        return "it is empty";
    if (bytes > PAWL_TOPIC_BYTES_MAX)
        return "it is longer than 255 bytes";
    if (memchr(text, 0, bytes))
        return "it holds a NUL byte";
    if (text[0] == '.')
        return "it begins with a dot";
    if (text[bytes - 1] == '.')
        return "it ends with a dot";
    return "it has an empty segment (two dots)";
}

const char *pawl_topic_check(const char *topic, size_t bytes)
{
    if (bytes - 1 < PAWL_TOPIC_BYTES_MAX && form_holds(topic, bytes))
        return NULL;
    return what_is_wrong(topic, bytes);
}

const char *pawl_pattern_check(const char *pattern, size_t bytes)
{
    return pawl_topic_check(pattern, bytes);
}

/* Where the segment that begins at @at ends: its dot, or @bytes. */
static size_t segment_end(const char *text, size_t bytes, size_t at)
{
    const char *dot = memchr(text + at, '.', bytes - at);
    return dot ? (size_t)(dot - text) : bytes;
}

static bool is_segment(const char *text, size_t at, size_t end, char what)
{
    return end - at == 1 && text[at] == what;
}

bool pawl_topic_matches(const char *pattern, size_t pattern_bytes, const char *topic, size_t topic_bytes)
{
    size_t p = 0, t = 0; /* where the next segments begin; one beyond the end: none is left */
    /* The last `#` met: on a mismatch it takes one segment more. An earlier one never needs to: what lay
     * between the two was found at the first place that has it. */
    size_t p_after_hash = 0, t_after_hash = 0;
    bool hash = false;
    for (;;) {
        bool pattern_left = p <= pattern_bytes, topic_left = t <= topic_bytes;
        if (!pattern_left && !topic_left)
            return true;
        if (pattern_left) {
            size_t p_end = segment_end(pattern, pattern_bytes, p);
            if (is_segment(pattern, p, p_end, '#')) {
                p = p_after_hash = p_end + 1;
                t_after_hash = t;
                hash = true;
                continue;
            }
            if (topic_left) {
                size_t t_end = segment_end(topic, topic_bytes, t);
                bool any = is_segment(pattern, p, p_end, '*');
                if (any && p_end == pattern_bytes)
                    return true; /* the last one takes all that remains */
                if (any || (p_end - p == t_end - t && memcmp(pattern + p, topic + t, p_end - p) == 0)) {
                    p = p_end + 1;
                    t = t_end + 1;
                    continue;
                }
            }
        }
        if (!hash || t_after_hash > topic_bytes)
            return false;
        t = t_after_hash = segment_end(topic, topic_bytes, t_after_hash) + 1;
        p = p_after_hash;
    }
}

int pawl_pattern_specificity(const char *pattern, size_t bytes)
{
    int wildcards = 0;
    for (size_t at = 0; at < bytes;) {
        size_t end = segment_end(pattern, bytes, at);
        wildcards += is_segment(pattern, at, end, '*') || is_segment(pattern, at, end, '#');
        at = end + 1;
    }
    return (int)bytes - wildcards * (PAWL_TOPIC_BYTES_MAX + 1);
}
