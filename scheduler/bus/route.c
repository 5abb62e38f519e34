/*
 * route.c - the queues that want a topic, found once and kept.
 *
 * Runs in: scheduler. Pure memory. What changes the set of queues, or their patterns, makes all be forgotten.
 */
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "scheduler/bus/state.h"

enum { ROUTES_HASH = 4096 };

static void free_route(struct bus_route *route)
{
    free(route->queues);
    free(route);
}

void bus_routes_forget(struct pawl_bus *bus)
{
    bus_group_flush(bus);
    for (uint32_t i = 0; i < ROUTES_HASH && bus->routes_cached > 0; i++)
        while (bus->routes[i]) {
            struct bus_route *route = bus->routes[i];
            bus->routes[i] = route->next;
            free_route(route);
        }
    bus->routes_cached = 0;
    bus->last_route = NULL;
}

static struct bus_route *make_route(const struct pawl_bus *bus, const char *topic, size_t topic_bytes,
                                    uint64_t hash)
{
    struct bus_route *route = calloc(1, sizeof *route);
    if (!route)
        return NULL;
    route->hash = hash;
    route->topic_bytes = (uint8_t)topic_bytes;
    memcpy(route->topic, topic, topic_bytes);
    if (bus_patterns_route(bus, topic, topic_bytes, route) < 0) {
        free_route(route);
        return NULL;
    }
    return route;
}

struct bus_route *bus_route_of(struct pawl_bus *bus, const char *topic, size_t topic_bytes)
{
    struct bus_route *last = bus->last_route;
    if (last && last->topic_bytes == topic_bytes && memcmp(last->topic, topic, topic_bytes) == 0)
        return last;
    uint64_t hash = XXH3_64bits(topic, topic_bytes);
    struct bus_route *route = bus->routes[hash % ROUTES_HASH];
    while (route && (route->hash != hash || route->topic_bytes != topic_bytes ||
                     memcmp(route->topic, topic, topic_bytes) != 0))
        route = route->next;
    if (!route) {
        if (bus->routes_cached >= BUS_ROUTES_CACHED_MAX)
            bus_routes_forget(bus); /* endless topics: begin anew */
        route = make_route(bus, topic, topic_bytes, hash);
        if (!route)
            return NULL;
        route->next = bus->routes[hash % ROUTES_HASH];
        bus->routes[hash % ROUTES_HASH] = route;
        bus->routes_cached++;
    }
    bus->last_route = route;
    return route;
}
