/*
 * bus_route - the queues that a topic goes to are those whose patterns match it, whatever was declared
 * before.
 */
#include "scheduler/bus/state.h"
#include "shm/topic.h"
#include "tests/unit/bus_support.h"

enum { QUEUES = 24, ROUNDS = 300, TOPICS = 40 };

static struct memory m;

static void set_up(void)
{
    memory_init(&m);
}

static void tear_down(void)
{
    memory_fini(&m);
}

TestSuite(bus_route, .init = set_up, .fini = tear_down, .timeout = 300);

static uint64_t random_state = 12345;

static uint32_t below(uint32_t bound)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % bound;
}

/* Of few words, so that many match. */
static void words(char *out, bool pattern)
{
    static const char *const segments[] = {"a", "b", "ab", "*x", "*", "#"};
    out[0] = 0;
    for (uint32_t i = 1 + below(4); i-- > 0;) {
        strcat(out, segments[below(pattern ? 6 : 4)]);
        strcat(out, i ? "." : "");
    }
}

static void declare_one(uint32_t number)
{
    char name[16], config[256], text[64];
    size_t used =
        (size_t)snprintf(config, sizeof config, "'unrouted': %s, 'topics': [", below(8) ? "false" : "true");
    for (uint32_t i = 1 + below(3); i-- > 0;) {
        words(text, true);
        used += (size_t)snprintf(config + used, sizeof config - used, "'%s'%s", text, i ? ", " : "]");
    }
    snprintf(name, sizeof name, "q%u", number);
    memory_declare(&m, name, config);
}

static bool wants(const struct bus_queue *queue, const char *topic)
{
    for (uint32_t i = 0; i < queue->config.topic_count; i++)
        if (pawl_topic_matches(queue->config.topics[i], strlen(queue->config.topics[i]), topic,
                               strlen(topic)))
            return true;
    return false;
}

/* Every queue is asked, in their order. */
static void expect_route(const char *topic)
{
    const struct bus_route *route = bus_route_of(m.bus, topic, strlen(topic));
    uint32_t count = 0;
    cr_assert(ne(ptr, (void *)(uintptr_t)route, NULL));
    for (int pass = 0; pass < 2 && count == 0; pass++)
        for (uint32_t i = 0; i < m.bus->queue_end; i++) {
            struct bus_queue *queue = m.bus->queues[i];
            if (!queue || !(pass == 0 ? wants(queue, topic) : queue->config.unrouted))
                continue;
            cr_assert(lt(u32, count, route->queue_count), "%s lacks %s", topic, queue->name);
            cr_assert(eq(ptr, route->queues[count], queue), "%s", topic);
            count++;
        }
    cr_assert(eq(u32, route->queue_count, count), "%s", topic);
}

Test(bus_route, every_queue_whose_pattern_matches_is_found_once_while_queues_come_change_and_go)
{
    char topic[64];
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t number = below(QUEUES);
        if (below(4))
            declare_one(number);
        else
            json_decref(memory_request(&m, 0, "{'op': 'queue.delete', 'name': 'q%u'}", number));
        if (below(50) == 0)
            memory_restart(&m, m.record_count);
        for (int i = 0; i < TOPICS; i++) {
            words(topic, false);
            expect_route(topic);
        }
    }
}

Test(bus_route, a_topic_of_wildcards_is_a_topic_like_others)
{
    memory_declare(&m, "literal", "'topics': ['a*', 'x.#y']");
    memory_declare(&m, "all", "'topics': ['*']");
    memory_declare(&m, "end", "'topics': ['#.z', 'a.#']");
    static const char *const topics[] = {"a*", "x.#y", "*", "#", "a.*", "a.#", "a", "z", "#.z", "a.z"};
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++)
        expect_route(topics[i]);
}
