/*
 * plans.c - workflow files by chance: small graphs with every key that changes what may start when.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/world.h"

struct text {
    char *bytes;
    size_t n, max;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int n = vsnprintf(text->bytes + text->n, text->max - text->n, format, list);
    va_end(list);
    if (n > 0 && text->n + (size_t)n < text->max)
        text->n += (size_t)n;
}

static bool one_in(struct world *world, uint32_t n)
{
    return world_below(world, n) == 0;
}

static void put_when(struct world *world, struct text *text, bool needs_lists)
{
    static const char *const plain[] = {"success()", "failed()", "always()", "true", "1 == 2"};
    if (needs_lists && one_in(world, 2))
        put(text, ", when: \"${{ item != 2 }}\"");
    else
        put(text, ", when: \"${{ %s }}\"", plain[world_below(world, 5)]);
}

void world_random_plan(struct world *world, char *bytes, size_t max)
{
    struct text text = {.bytes = bytes, .max = max};
    uint32_t count = 1 + world_below(world, 10), list_count = 0, lists[16];
    put(&text, "pawl: 1\nsteps:\n");
    for (uint32_t i = 0; i < count; i++) {
        bool many = false;
        put(&text, "  s%u: {", i);
        uint32_t need_count = 0, needs[4];
        for (uint32_t n = 0; i > 0 && n < 3; n++)
            if (one_in(world, 2)) {
                uint32_t need = world_below(world, i);
                bool twice = false;
                for (uint32_t k = 0; k < need_count; k++)
                    twice |= needs[k] == need;
                if (!twice)
                    needs[need_count++] = need;
            }
        uint32_t list =
            list_count > 0 && one_in(world, 2) ? lists[world_below(world, list_count)] : UINT32_MAX;
        for (uint32_t k = 0; list != UINT32_MAX && k <= need_count; k++)
            if (k == need_count) {
                needs[need_count++] = list;
                break;
            } else if (needs[k] == list) {
                break;
            }
        put(&text, one_in(world, 6) ? "use: noop" : "run: [work, \"%u\"]", i);
        for (uint32_t k = 0; k < need_count; k++)
            put(&text, "%s s%u", k ? "," : ", needs: [", needs[k]);
        if (need_count)
            put(&text, "]");
        if (list != UINT32_MAX) {
            put(&text, ", foreach: \"${{ steps.s%u.output }}\"", list);
            many = true;
        } else if (one_in(world, 5)) {
            put(&text, ", foreach: [1, 2, 3, 4]");
            many = true;
        } else if (one_in(world, 8)) {
            put(&text, ", matrix: {a: [1, 2], b: [x, y, z]}");
            many = true;
        } else if (one_in(world, 3)) {
            put(&text, ", output: json");
            lists[list_count++] = i;
        }
        if (many && one_in(world, 2))
            put(&text, ", max_parallel: %u", 1 + world_below(world, 3));
        if (one_in(world, 3))
            put(&text, ", retries: {limit: %u, backoff: {initial: %us, factor: 2, jitter: 0}}",
                world_below(world, 4), world_below(world, 3));
        if (one_in(world, 6))
            put(&text, ", continue_on_error: true");
        if (one_in(world, 8))
            put(&text, ", always: true");
        else if (one_in(world, 5))
            put_when(world, &text, many);
        if (one_in(world, 4))
            put(&text, ", priority: %d", (int)world_below(world, 7) - 3);
        put(&text, "}\n");
    }
}
