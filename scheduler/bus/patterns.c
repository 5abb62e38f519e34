/*
 * patterns.c - which queues want a topic: patterns by the words before their first wildcard.
 *
 * Runs in: scheduler. A hash table, and a topic is looked for by each of its beginnings: a topic that was not
 * seen before costs what the queues do that may want it, not what all queues do.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "scheduler/bus/state.h"
#include "shm/topic.h"

enum { PATTERNS_ROOM = 64 };

#define UNROUTED "." /* no pattern begins so: where those stand that take what nobody wants */

/* One of a queue's, in the chain of its beginning. */
struct bus_pattern {
    struct bus_queue *queue;
    const char *text; /* the queue's; NULL: UNROUTED */
    uint64_t hash;
    struct bus_pattern *next, **link;
};

/* Up to the segment that is a wildcard, without the dot before it. */
static size_t literal_bytes(const char *pattern)
{
    for (size_t at = 0;;) {
        size_t bytes = strcspn(pattern + at, ".");
        if (bytes == 1 && (pattern[at] == '*' || pattern[at] == '#'))
            return at ? at - 1 : 0;
        at += bytes;
        if (!pattern[at])
            return at;
        at++;
    }
}

static void link_in(struct bus_pattern **table, uint32_t room, struct bus_pattern *pattern)
{
    struct bus_pattern **head = &table[pattern->hash & (room - 1)];
    pattern->next = *head;
    pattern->link = head;
    if (*head)
        (*head)->link = &pattern->next;
    *head = pattern;
}

static int grow(struct bus_patterns *patterns)
{
    uint32_t room = patterns->room ? patterns->room * 2 : PATTERNS_ROOM;
    struct bus_pattern **table = calloc(room, sizeof(struct bus_pattern *)), *next;
    if (!table)
        return -ENOMEM;
    for (uint32_t i = 0; i < patterns->room; i++)
        for (struct bus_pattern *pattern = patterns->table[i]; pattern; pattern = next) {
            next = pattern->next;
            link_in(table, room, pattern);
        }
    free(patterns->table);
    patterns->table = table;
    patterns->room = room;
    return 0;
}

int bus_patterns_add(struct pawl_bus *bus, struct bus_queue *queue)
{
    struct bus_patterns *patterns = &bus->patterns;
    uint32_t count = queue->config.topic_count + queue->config.unrouted;
    while (patterns->count + count > patterns->room)
        if (grow(patterns) < 0)
            return -ENOMEM;
    queue->patterns = calloc(count + 1, sizeof *queue->patterns);
    if (!queue->patterns)
        return -ENOMEM;
    queue->pattern_count = count;
    patterns->count += count;
    for (uint32_t i = 0; i < count; i++) {
        struct bus_pattern *pattern = &queue->patterns[i];
        pattern->queue = queue;
        pattern->text = i < queue->config.topic_count ? queue->config.topics[i] : NULL;
        pattern->hash = pattern->text ? XXH3_64bits(pattern->text, literal_bytes(pattern->text))
                                      : XXH3_64bits(UNROUTED, 1);
        link_in(patterns->table, patterns->room, pattern);
    }
    return 0;
}

void bus_patterns_remove(struct pawl_bus *bus, struct bus_queue *queue)
{
    for (uint32_t i = 0; i < queue->pattern_count; i++) {
        struct bus_pattern *pattern = &queue->patterns[i];
        *pattern->link = pattern->next;
        if (pattern->next)
            pattern->next->link = pattern->link;
    }
    bus->patterns.count -= queue->pattern_count;
    free(queue->patterns);
    queue->patterns = NULL;
    queue->pattern_count = 0;
}

void bus_patterns_fini(struct pawl_bus *bus)
{
    free(bus->patterns.table);
    bus->patterns = (struct bus_patterns){0};
}

/* Those of one chain that want it; of the chain of UNROUTED those that take it (@topic NULL). 0 or -ENOMEM.
 */
static int gather(const struct bus_patterns *patterns, uint64_t hash, const char *topic, size_t topic_bytes,
                  struct bus_route *route, size_t *room)
{
    const struct bus_pattern *pattern = patterns->room ? patterns->table[hash & (patterns->room - 1)] : NULL;
    for (; pattern; pattern = pattern->next) {
        if (pattern->hash != hash || (pattern->text != NULL) != (topic != NULL) ||
            (topic && !pawl_topic_matches(pattern->text, strlen(pattern->text), topic, topic_bytes)))
            continue;
        if (bus_grow((void **)&route->queues, room, route->queue_count + 1, sizeof(struct bus_queue *)) < 0)
            return -ENOMEM;
        route->queues[route->queue_count++] = pattern->queue;
    }
    return 0;
}

static int compare_number(const void *a, const void *b)
{
    const struct bus_queue *first = *(struct bus_queue *const *)a, *second = *(struct bus_queue *const *)b;
    return first->number < second->number ? -1 : first->number > second->number;
}

/* By number, and each once however many of its patterns match. */
static void sort(struct bus_route *route)
{
    uint32_t kept = 0;
    if (route->queue_count > 1)
        qsort(route->queues, route->queue_count, sizeof(struct bus_queue *), compare_number);
    for (uint32_t i = 0; i < route->queue_count; i++)
        if (kept == 0 || route->queues[kept - 1] != route->queues[i])
            route->queues[kept++] = route->queues[i];
    route->queue_count = kept;
}

int bus_patterns_route(const struct pawl_bus *bus, const char *topic, size_t topic_bytes,
                       struct bus_route *route)
{
    size_t room = 0;
    int error = gather(&bus->patterns, XXH3_64bits("", 0), topic, topic_bytes, route, &room);
    for (size_t end = 1; !error && end <= topic_bytes; end++)
        if (end == topic_bytes || topic[end] == '.')
            error = gather(&bus->patterns, XXH3_64bits(topic, end), topic, topic_bytes, route, &room);
    if (!error && route->queue_count == 0)
        error = gather(&bus->patterns, XXH3_64bits(UNROUTED, 1), NULL, 0, route, &room);
    sort(route);
    return error;
}
