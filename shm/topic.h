/*
 * topic.h - topics and the patterns that choose among them.
 *
 * A topic is dot-separated segments, none empty, at most 255 bytes together. A pattern has the same form, and
 *   *        as a segment: any one segment
 *   *        as the last segment: one or more remaining segments
 *   #        as a segment, anywhere: zero or more segments
 *   *        alone: everything
 * A `*` or `#` within a longer segment ("tool*") is literal, and so is every byte of a topic: a topic may
 * have a segment `*`, which only a wildcard or the same segment matches.
 *
 * Runs in: every process. Pure.
 */
#ifndef PAWL_SHM_TOPIC_H
#define PAWL_SHM_TOPIC_H

#include <stdbool.h>
#include <stddef.h>

/** pawl_topic_check - NULL, or what is wrong with it, in words. */
const char *pawl_topic_check(const char *topic, size_t bytes);

/** pawl_pattern_check - NULL, or what is wrong with it, in words. */
const char *pawl_pattern_check(const char *pattern, size_t bytes);

/** pawl_topic_matches - both were checked. At worst segments of the one times segments of the other; linear
 * where there is no `#`. */
bool pawl_topic_matches(const char *pattern, size_t pattern_bytes, const char *topic, size_t topic_bytes);

/** pawl_pattern_specificity - for "the most specific pattern wins": fewer wildcards, then longer; greater is
 * more specific. */
int pawl_pattern_specificity(const char *pattern, size_t bytes);

#endif
