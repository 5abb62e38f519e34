/* Rules of topics and patterns. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/event.h"
#include "shm/topic.h"

TestSuite(topic, .timeout = 300);

static bool matches(const char *pattern, const char *topic)
{
    cr_assert(eq(ptr, (void *)pawl_pattern_check(pattern, strlen(pattern)), NULL), "%s", pattern);
    cr_assert(eq(ptr, (void *)pawl_topic_check(topic, strlen(topic)), NULL), "%s", topic);
    return pawl_topic_matches(pattern, strlen(pattern), topic, strlen(topic));
}

#define yes(pattern, topic) cr_expect(matches(pattern, topic), "%s must match %s", pattern, topic)
#define no(pattern, topic)  cr_expect(not(matches(pattern, topic)), "%s must not match %s", pattern, topic)

Test(topic, a_pattern_without_wildcards_matches_itself_alone)
{
    yes("a", "a");
    yes("orders.eu.new", "orders.eu.new");
    no("orders.eu.new", "orders.eu");
    no("orders.eu", "orders.eu.new");
    no("orders.eu.new", "orders.eu.old");
    no("orders", "Orders");
    no("ab", "a.b");
}

Test(topic, a_star_within_is_exactly_one_segment)
{
    yes("*.error", "x.error");
    no("*.error", "x.y.error");
    no("*.error", "error");
    yes("tool.*.x", "tool.y.x");
    no("tool.*.x", "tool.x");
    no("tool.*.x", "tool.y.z.x");
}

Test(topic, a_trailing_star_is_one_or_more_segments)
{
    yes("tool.*", "tool.call");
    yes("tool.*", "tool.a.b.c");
    no("tool.*", "tool");
    no("tool.*", "other.call");
    yes("*.*", "a.b");
    yes("*.*", "a.b.c");
    no("*.*", "a");
    yes("a.*.*", "a.b.c.d");
    no("a.*.*", "a.b");
}

Test(topic, a_star_alone_matches_everything)
{
    yes("*", "a");
    yes("*", "a.b.c.d.e");
}

Test(topic, a_hash_anywhere_is_zero_or_more_segments)
{
    yes("#", "a");
    yes("#", "a.b.c");
    yes("a.#", "a");
    yes("a.#", "a.b.c");
    no("a.#", "b");
    yes("#.z", "z");
    yes("#.z", "a.b.z");
    no("#.z", "a.z.b");
    yes("a.#.z", "a.z");
    yes("a.#.z", "a.b.c.z");
    no("a.#.z", "a");
    no("a.#.z", "az");
    yes("a.#.b.#.c", "a.x.b.b.y.b.c");
    no("a.#.b.#.c", "a.x.c");
    yes("#.#", "a");
    yes("#.a.#.a", "a.a");
    no("#.a.#.a", "a");
}

Test(topic, star_and_hash_together_need_their_segments)
{
    yes("#.*", "a");
    yes("#.*", "a.b");
    no("a.#.*", "a");
    yes("a.#.*", "a.b");
    yes("*.#", "a");
    yes("#.*.b", "a.b");
    no("#.*.b", "b");
    yes("#.b.*", "a.b.b.c.d");
    no("#.b.*", "a.b");
}

Test(topic, greater_than_is_a_segment_as_any_other)
{
    yes("a.>", "a.>");
    no("a.>", "a.b");
    no("a.>", "a.b.c");
    no(">", "a");
}

Test(topic, wildcards_within_a_longer_segment_are_literal)
{
    yes("tool*", "tool*");
    no("tool*", "toolbox");
    no("a#.b", "ax.b");
    yes("a#.b", "a#.b");
    no("**", "a");
}

Test(topic, a_topics_own_star_is_a_segment_like_others)
{
    yes("a.*", "a.*");
    yes("a.b.#", "a.b.*");
    no("a.b", "a.*");
}

static bool is_topic(const char *text, size_t bytes)
{
    return pawl_topic_check(text, bytes) == NULL;
}

Test(topic, empty_segments_are_refused_wherever_they_stand)
{
    char text[64];
    for (size_t bytes = 1; bytes < sizeof text; bytes++) {
        memset(text, 'a', sizeof text);
        text[bytes] = '.'; /* beyond the end: not looked at */
        cr_assert(is_topic(text, bytes), "%zu", bytes);
        for (size_t at = 0; at < bytes; at++) {
            memset(text, 'a', sizeof text);
            text[at] = '.';
            cr_expect(eq(int, is_topic(text, bytes), at > 0 && at + 1 < bytes), "dot %zu of %zu", at, bytes);
            if (at + 1 >= bytes)
                continue;
            text[at + 1] = '.';
            cr_expect(not(is_topic(text, bytes)), "dots %zu of %zu", at, bytes);
        }
    }
}

Test(topic, a_nul_is_refused_wherever_it_stands)
{
    char text[64];
    for (size_t bytes = 1; bytes < sizeof text; bytes++)
        for (size_t at = 0; at < bytes; at++) {
            memset(text, '\x80', sizeof text);
            text[at] = 0;
            cr_expect(not(is_topic(text, bytes)), "NUL %zu of %zu", at, bytes);
            text[at] = 1;
            cr_expect(is_topic(text, bytes), "byte 1 at %zu of %zu", at, bytes);
        }
}

Test(topic, every_byte_but_nul_and_dot_is_allowed)
{
    for (int c = 1; c < 256; c++) {
        char text[] = {(char)c, '.', (char)c, (char)c, (char)c, (char)c, (char)c, (char)c, (char)c};
        cr_expect(eq(int, is_topic(text, sizeof text), c != '.'), "byte %d", c);
    }
}

Test(topic, the_longest_is_255_bytes_and_the_shortest_one)
{
    char text[256];
    memset(text, 'x', sizeof text);
    cr_expect(is_topic(text, 255));
    cr_expect(not(is_topic(text, 256)));
    cr_expect(is_topic(text, 1));
    cr_expect(not(is_topic(text, 0)));
}

Test(topic, what_is_wrong_is_said_in_words)
{
    cr_expect(eq(str, (char *)pawl_topic_check("", 0), "it is empty"));
    cr_expect(eq(str, (char *)pawl_topic_check(".a", 2), "it begins with a dot"));
    cr_expect(eq(str, (char *)pawl_topic_check("a.", 2), "it ends with a dot"));
    cr_expect(eq(str, (char *)pawl_topic_check("a..b", 4), "it has an empty segment (two dots)"));
    cr_expect(eq(str, (char *)pawl_topic_check("a\0b", 3), "it holds a NUL byte"));
    cr_expect(eq(str, (char *)pawl_pattern_check("#..a", 4), "it has an empty segment (two dots)"));
}

Test(topic, nothing_beyond_the_given_bytes_is_read)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(ne(ptr, map, MAP_FAILED));
    cr_assert(eq(int, mprotect(map + page, page, PROT_NONE), 0));
    memset(map, 'a', page);
    for (size_t bytes = 1; bytes < 40; bytes++) {
        const char *end = map + page - bytes;
        cr_expect(is_topic(end, bytes));
        cr_expect(pawl_topic_matches("#.*", 3, end, bytes));
        cr_expect(pawl_topic_matches(end, bytes, end, bytes));
    }
    munmap(map, 2 * page);
}

/* The rules once more, segment by segment and without any care for speed. */
static bool model(const char *pattern, const char *topic)
{
    if (*pattern == 0)
        return *topic == 0;
    size_t p = strcspn(pattern, "."), t = strcspn(topic, ".");
    const char *p_next = pattern + p + (pattern[p] == '.'), *t_next = topic + t + (topic[t] == '.');
    if (p == 1 && *pattern == '#')
        return model(p_next, topic) || (*topic && model(pattern, t_next));
    if (*topic == 0)
        return false;
    if (p == 1 && *pattern == '*')
        return *p_next == 0 || model(p_next, t_next);
    return p == t && memcmp(pattern, topic, p) == 0 && model(p_next, t_next);
}

Test(topic, random_patterns_agree_with_the_rules)
{
    static const char *const p_segments[] = {"a", "b", "*", "#", "ab", "#"};
    unsigned seed = 7, hits = 0;
    for (int round = 0; round < 200000; round++) {
        char pattern[64] = "", topic[64] = "";
        for (int i = 0, n = 1 + rand_r(&seed) % 6; i < n; i++)
            strcat(strcat(pattern, i ? "." : ""), p_segments[rand_r(&seed) % 6]);
        for (int i = 0, n = 1 + rand_r(&seed) % 7; i < n; i++)
            strcat(strcat(topic, i ? "." : ""), p_segments[rand_r(&seed) % 2]);
        bool expected = model(pattern, topic);
        hits += expected;
        cr_assert(eq(int, pawl_topic_matches(pattern, strlen(pattern), topic, strlen(topic)), expected),
                  "%s %s", pattern, topic);
    }
    cr_expect(not(le(int, hits, 20000)));
    cr_expect(lt(int, hits, 180000));
}

Test(topic, many_hashes_do_not_explode)
{
    char pattern[256] = "", topic[256] = "";
    for (int i = 0; i < 63; i++)
        strcat(pattern, "#.a.");
    strcat(pattern, "b");
    for (int i = 0; i < 127; i++)
        strcat(topic, "a.");
    strcat(topic, "c");
    for (int i = 0; i < 1000; i++) /* exponential: never ends, and the suite's timeout tells */
        cr_assert(not(pawl_topic_matches(pattern, strlen(pattern), topic, strlen(topic))));
}

static int specificity(const char *pattern)
{
    return pawl_pattern_specificity(pattern, strlen(pattern));
}

Test(topic, fewer_wildcards_are_more_specific_then_the_longer)
{
    cr_expect(not(le(int, specificity("a"), specificity("a.b.c.d.e.f.g.*"))));
    cr_expect(not(le(int, specificity("a.b.*"), specificity("a.*.*"))));
    cr_expect(not(le(int, specificity("a.bb.*"), specificity("a.b.*"))));
    cr_expect(not(le(int, specificity("a.#"), specificity("#"))));
    cr_expect(eq(int, specificity("a.#"), specificity("a.*")));
    cr_expect(eq(int, specificity("tool*"), specificity("tools")), "a literal star is no wildcard");
}
