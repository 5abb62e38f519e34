/*
 * bus_support.h - a bus over memory for one test, and short words for what is asserted of it.
 */
#ifndef PAWL_TESTS_UNIT_BUS_SUPPORT_H
#define PAWL_TESTS_UNIT_BUS_SUPPORT_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"
#include "tests/sim/bus_memory.h"

#define SECOND MEMORY_SECOND_NS

/* What the client got from number @from on, as data joined by spaces. */
#define expect_got(client, from, text)                                                                       \
    cr_expect(eq(str, (char *)memory_got((client), (from)), (char *)(text)))
#define expect_number(memory, queue, key, n) cr_expect(eq(i64, memory_number((memory), (queue), (key)), (n)))
#define expect_confirmed(client, sequence)                                                                   \
    cr_expect(ne(ptr, (void *)(uintptr_t)memory_reply((client), PAWL_REPLY_CONFIRM, (sequence)), NULL))
#define expect_unanswered(client, sequence)                                                                  \
    cr_expect(eq(ptr, (void *)(uintptr_t)memory_reply((client), PAWL_REPLY_CONFIRM, (sequence)), NULL))
#define expect_refused(client, sequence, code)                                                               \
    cr_expect(eq(int, refusal((client), PAWL_REPLY_REFUSE, (sequence)), (code)))
#define expect_late(client, number)                                                                          \
    cr_expect(eq(int, refusal((client), PAWL_REPLY_LATE, (number)), PAWL_E_STALE_RECEIPT))

/* The error of the last such reply; 0: there is none. */
static inline int refusal(const struct memory_client *client, uint32_t type, uint64_t number)
{
    const struct pawl_reply *reply = memory_reply(client, type, number);
    return reply ? reply->error : 0;
}

/* A publisher, and one consumer with @credit of @queue. */
static inline struct memory_client *consumer_of(struct memory *memory, const char *queue, uint32_t credit)
{
    struct memory_client *client = memory_open(memory, 0);
    cr_assert(eq(int, memory_consume(memory, client, 1, queue, "", credit, 0), 0));
    memory_turn(memory);
    return client;
}

static inline uint32_t attempt_of(const struct memory_client *client, uint64_t number)
{
    return number < client->delivery_count ? client->deliveries[number].entry.attempt : 0;
}

static inline void expect_confirm(struct memory_client *client, uint64_t sequence, uint32_t durability,
                                  uint32_t flags)
{
    const struct pawl_reply *reply = memory_reply(client, PAWL_REPLY_CONFIRM, sequence);
    cr_assert(ne(ptr, (void *)(uintptr_t)reply, NULL), "%llu", (unsigned long long)sequence);
    cr_expect(eq(u32, reply->durability, durability), "%llu", (unsigned long long)sequence);
    cr_expect(eq(u32, reply->flags, flags), "%llu", (unsigned long long)sequence);
}

#define expect_duplicate(client, sequence)                                                                   \
    expect_confirm((client), (sequence), PAWL_DURABILITY_FSYNC, PAWL_REPLY_DUPLICATE)

#endif
