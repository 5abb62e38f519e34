/* Rules of packed events. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdlib.h>
#include <string.h>

#include "shm/error.h"
#include "shm/event.h"

TestSuite(event, .timeout = 300);

static _Alignas(8) unsigned char space[1024];
static struct pawl_event *const event = (struct pawl_event *)space;

static struct pawl_event_parts parts_of(const char *topic, const char *key, const char *data)
{
    return (struct pawl_event_parts){.topic = topic,
                                     .topic_bytes = strlen(topic),
                                     .key = key,
                                     .key_bytes = key ? strlen(key) : 0,
                                     .data = data,
                                     .data_bytes = strlen(data)};
}

static size_t pack(const struct pawl_event_parts *parts)
{
    size_t bytes = pawl_event_bytes(parts);
    cr_assert(ge(sz, bytes, 1));
    memset(space, 0xee, sizeof space);
    pawl_event_pack(parts, space);
    return bytes;
}

/* An event with all its parts. */
static size_t pack_full(void)
{
    static char headers[64];
    size_t used = 0;
    cr_assert(eq(int, pawl_event_header_pack(headers, sizeof headers, &used, "kind", 4, "new", 3), 0));
    cr_assert(eq(int, pawl_event_header_pack(headers, sizeof headers, &used, "empty", 5, "", 0), 0));
    struct pawl_event_parts parts = parts_of("orders.eu", "key-7", "hello");
    parts.headers = headers;
    parts.headers_bytes = used;
    parts.priority = 9;
    parts.delay_ns = 5;
    parts.ttl_ns = 6;
    return pack(&parts);
}

Test(event, every_part_is_read_back_as_it_was_packed)
{
    size_t bytes = pack_full();
    cr_expect(eq(int, pawl_event_check(event, bytes), 0));
    cr_expect(eq(u32, event->bytes, (uint32_t)bytes));
    cr_expect(eq(str, (char *)pawl_event_topic(event), "orders.eu"));
    cr_expect(eq(str, (char *)pawl_event_key(event), "key-7"));
    cr_expect(eq(int, event->priority, 9));
    cr_expect(eq(u64, event->delay_ns, 5));
    cr_expect(eq(u64, event->ttl_ns, 6));
    cr_expect(eq(u64, event->id, 0));
    cr_expect(eq(u64, event->published_at_ns, 0));
    cr_expect(eq(u32, event->data_bytes, 5));
    cr_expect(eq(int, memcmp(pawl_event_data(event), "hello", 5), 0));
    size_t value_bytes = 99;
    const char *value = pawl_event_header_find(event, "kind", 4, &value_bytes);
    cr_assert(ne(ptr, (void *)value, NULL));
    cr_expect(eq(sz, value_bytes, 3));
    cr_expect(eq(int, memcmp(value, "new", 3), 0));
    cr_expect(ne(ptr, (void *)pawl_event_header_find(event, "empty", 5, &value_bytes), NULL));
    cr_expect(eq(sz, value_bytes, 0));
    cr_expect(eq(ptr, (void *)pawl_event_header_find(event, "kin", 3, &value_bytes), NULL));
}

Test(event, size_is_a_multiple_of_8_and_the_padding_zero)
{
    char data[33];
    memset(data, 'd', sizeof data);
    for (size_t n = 0; n < sizeof data; n++) {
        struct pawl_event_parts parts = {.topic = "a", .topic_bytes = 1, .data = data, .data_bytes = n};
        size_t bytes = pack(&parts);
        cr_expect(eq(sz, bytes % 8, 0));
        cr_expect(eq(int, pawl_event_check(event, bytes), 0));
        const unsigned char *end = (const unsigned char *)pawl_event_data(event) + n;
        for (; end < space + bytes; end++)
            cr_expect(eq(int, *end, 0));
        cr_expect(eq(int, space[bytes], 0xee), "not a byte beyond");
    }
}

Test(event, without_a_key_there_is_no_key_and_no_nul_for_it)
{
    struct pawl_event_parts parts = parts_of("a.b", NULL, "x");
    pack(&parts);
    cr_expect(eq(str, (char *)pawl_event_key(event), ""));
    cr_expect(eq(int, event->key_bytes, 0));
    cr_expect(eq(sz, (size_t)((char *)pawl_event_data(event) - (char *)event), sizeof *event + 4));
}

Test(event, reserved_data_is_left_as_it_is_and_filled_later)
{
    struct pawl_event_parts parts = {.topic = "a", .topic_bytes = 1, .data_bytes = 5};
    memset(space, 0xee, sizeof space);
    unsigned char *data = pawl_event_pack(&parts, space);
    cr_expect(eq(ptr, data, (void *)pawl_event_data(event)));
    for (int i = 0; i < 5; i++)
        cr_expect(eq(int, data[i], 0xee));
    cr_expect(eq(int, data[5], 0), "padding");
    memcpy(data, "later", 5);
    cr_expect(eq(int, pawl_event_check(event, event->bytes), 0));
}

Test(event, parts_at_their_maximum_are_packed_and_one_beyond_is_0)
{
    static char text[256], value[65530], headers[PAWL_EVENT_HEADERS_BYTES_MAX];
    memset(text, 't', sizeof text);
    /* Two headers that fill them all: each 4 bytes of lengths, a name, a value. */
    size_t used = 0, rest = sizeof headers - 4 - 2 - sizeof value - 4 - 2;
    cr_assert(
        eq(int, pawl_event_header_pack(headers, sizeof headers, &used, text, 2, value, sizeof value), 0));
    cr_assert(eq(int, pawl_event_header_pack(headers, sizeof headers, &used, text, 2, value, rest), 0));
    cr_assert(eq(sz, used, sizeof headers));
    cr_expect(eq(sz, pawl_event_headers_text_bytes(headers, sizeof headers), sizeof headers - 8));
    struct pawl_event_parts parts = {.topic = text,
                                     .topic_bytes = 255,
                                     .key = text,
                                     .key_bytes = 255,
                                     .headers = headers,
                                     .headers_bytes = sizeof headers,
                                     .data_bytes = PAWL_EVENT_DATA_BYTES_MAX,
                                     .priority = 9};
    size_t bytes = pawl_event_bytes(&parts);
    cr_assert(not(le(sz, bytes, PAWL_EVENT_DATA_BYTES_MAX)));
    struct pawl_event *large = calloc(1, bytes);
    cr_assert(ne(ptr, large, NULL));
    pawl_event_pack(&parts, large);
    cr_expect(eq(int, pawl_event_check(large, bytes), 0));
    cr_expect(eq(int, pawl_event_check(large, bytes - 1), PAWL_E_BAD_MESSAGE));
    free(large);

    struct pawl_event_parts beyond = parts;
    beyond.topic_bytes = 256;
    cr_expect(eq(sz, pawl_event_bytes(&beyond), 0));
    beyond = parts;
    beyond.topic_bytes = 0;
    cr_expect(eq(sz, pawl_event_bytes(&beyond), 0));
    beyond = parts;
    beyond.key_bytes = 256;
    cr_expect(eq(sz, pawl_event_bytes(&beyond), 0));
    beyond = parts;
    beyond.headers_bytes++;
    cr_expect(eq(sz, pawl_event_bytes(&beyond), 0));
    beyond = parts;
    beyond.data_bytes++;
    cr_expect(eq(sz, pawl_event_bytes(&beyond), 0));
    beyond.data_bytes = SIZE_MAX;
    cr_expect(eq(sz, pawl_event_bytes(&beyond), 0));
    beyond = parts;
    beyond.priority = 10;
    cr_expect(eq(sz, pawl_event_bytes(&beyond), 0));
}

/* One field of a good event is changed; it must not pass. */
#define spoiled(change)                                                                                      \
    do {                                                                                                     \
        size_t bytes_ = pack_full();                                                                         \
        cr_assert(eq(int, pawl_event_check(event, bytes_), 0));                                              \
        change;                                                                                              \
        cr_expect(eq(int, pawl_event_check(event, bytes_), PAWL_E_BAD_MESSAGE), #change);                    \
    } while (0)

Test(event, hostile_sizes_do_not_hold)
{
    spoiled(event->bytes += 8);
    spoiled(event->bytes -= 8);
    spoiled(event->bytes += 1);
    spoiled(event->bytes = 0);
    spoiled(event->bytes = UINT32_MAX);
    spoiled(event->data_bytes += 8);
    spoiled(event->data_bytes = UINT32_MAX);
    spoiled(event->data_bytes = UINT32_MAX - 100);
    spoiled(event->headers_bytes += 1);
    spoiled(event->headers_bytes = UINT32_MAX);
    spoiled((event->headers_bytes -= 8, event->data_bytes += 8)); /* sums the same, walks to no end */
    spoiled(event->topic_bytes = 0);
    spoiled(event->topic_bytes = 255);
    spoiled((event->topic_bytes += 1, event->data_bytes -= 1));
    spoiled((event->key_bytes += 1, event->data_bytes -= 1));
    spoiled(event->key_bytes = 255);
}

Test(event, hostile_fields_do_not_hold)
{
    spoiled(event->priority = 10);
    spoiled(event->flags = 1);
    spoiled(space[sizeof *event] = '.');
    spoiled(space[sizeof *event + 3] = 0);
    spoiled((space[sizeof *event + 3] = '.', space[sizeof *event + 4] = '.'));
    spoiled(space[sizeof *event + event->topic_bytes] = 'x');
    spoiled(space[sizeof *event + event->topic_bytes + 1 + event->key_bytes] = 'x');
}

Test(event, headers_that_do_not_end_where_they_should_do_not_hold)
{
    /* no name, and a value that ends where it did */
    spoiled((*(unsigned char *)pawl_event_headers(event) = 0,
             ((unsigned char *)pawl_event_headers(event))[2] += 4));
    spoiled(*(unsigned char *)pawl_event_headers(event) = 0);      /* a name of 0 bytes */
    spoiled(*(unsigned char *)pawl_event_headers(event) += 1);     /* a longer name */
    spoiled(((unsigned char *)pawl_event_headers(event))[2] -= 1); /* a shorter value */
    spoiled(((unsigned char *)pawl_event_headers(event))[3] = 0xff);
}

Test(event, fewer_bytes_than_a_header_are_not_looked_at)
{
    for (size_t available = 0; available < sizeof *event; available++) {
        unsigned char *exact = malloc(available ? available : 1); /* the sanitizer sees a byte too far */
        memset(exact, 8, available ? available : 1);
        cr_expect(eq(int, pawl_event_check((struct pawl_event *)exact, available), PAWL_E_BAD_MESSAGE));
        free(exact);
    }
}

Test(event, random_bytes_never_lead_beyond_what_is_there)
{
    unsigned seed = 3;
    int good = 0;
    for (int round = 0; round < 300000; round++) {
        size_t bytes = pack_full();
        struct pawl_event *copy = malloc(bytes);
        memcpy(copy, event, bytes);
        for (int i = 0, n = 1 + rand_r(&seed) % 3; i < n; i++) {
            int where = rand_r(&seed) % 3 ? rand_r(&seed) % 16 : rand_r(&seed) % (int)bytes;
            ((unsigned char *)copy)[where] = (unsigned char)(rand_r(&seed) % 4 ? rand_r(&seed) % 12 : 255);
        }
        if (pawl_event_check(copy, bytes) == 0) {
            const char *name, *value;
            size_t at = 0, name_bytes, value_bytes, sum = 0;
            while (pawl_event_header_next(pawl_event_headers(copy), copy->headers_bytes, &at, &name,
                                          &name_bytes, &value, &value_bytes))
                sum += name_bytes + value_bytes + 4;
            cr_assert(eq(sz, sum, copy->headers_bytes));
            cr_assert(
                le(sz, (size_t)((char *)pawl_event_data(copy) + copy->data_bytes - (char *)copy), bytes));
            good++;
        }
        free(copy);
    }
    cr_expect(not(le(int, good, 1000)));
}

Test(event, headers_are_walked_in_order_and_the_first_of_a_name_is_found)
{
    char headers[256];
    size_t used = 0, at = 0, n = 0;
    cr_assert(eq(int, pawl_event_header_pack(headers, sizeof headers, &used, "a", 1, "1", 1), 0));
    cr_assert(eq(int, pawl_event_header_pack(headers, sizeof headers, &used, "b", 1, "22", 2), 0));
    cr_assert(eq(int, pawl_event_header_pack(headers, sizeof headers, &used, "a", 1, "333", 3), 0));
    struct pawl_event_parts parts = parts_of("t", NULL, "");
    parts.headers = headers;
    parts.headers_bytes = used;
    pack(&parts);
    const char *name, *value;
    size_t name_bytes, value_bytes;
    while (pawl_event_header_next(pawl_event_headers(event), event->headers_bytes, &at, &name, &name_bytes,
                                  &value, &value_bytes)) {
        cr_expect(eq(sz, value_bytes, ++n));
        cr_expect(eq(chr, value[0], (char)('0' + n)));
    }
    cr_expect(eq(sz, n, 3));
    cr_expect(eq(sz, at, used));
    value = pawl_event_header_find(event, "a", 1, &value_bytes);
    cr_expect(eq(sz, value_bytes, 1));
    cr_expect(eq(chr, value[0], '1'));
}

Test(event, a_header_beyond_the_room_or_without_a_name_is_refused_and_changes_nothing)
{
    char headers[16];
    size_t used = 0;
    static char big[65536];
    cr_expect(eq(int, pawl_event_header_pack(headers, 16, &used, "name", 4, "12345678", 8), 0));
    cr_expect(eq(sz, used, 16));
    cr_expect(eq(int, pawl_event_header_pack(headers, 16, &used, "n", 1, "", 0), PAWL_E_LIMIT));
    used = 0;
    cr_expect(eq(int, pawl_event_header_pack(headers, 15, &used, "name", 4, "12345678", 8), PAWL_E_LIMIT));
    cr_expect(eq(int, pawl_event_header_pack(headers, 16, &used, "", 0, "v", 1), PAWL_E_INVALID));
    cr_expect(eq(int, pawl_event_header_pack(headers, 16, &used, "n", 1, big, 65536), PAWL_E_INVALID));
    cr_expect(eq(int, pawl_event_header_pack(headers, 16, &used, big, 65536, "", 0), PAWL_E_INVALID));
    cr_expect(eq(int, pawl_event_header_pack(headers, 16, &used, big, 65535, big, 65535), PAWL_E_LIMIT));
    cr_expect(eq(sz, used, 0));
}

Test(event, a_walk_over_headers_that_do_not_hold_ends)
{
    static const char cut[] = {3, 0, 1, 0, 'a', 'b', 'c'}, nameless[] = {0, 0, 1, 0, 'a'},
                      shorter[] = {1, 0, 0};
    const char *name, *value;
    size_t name_bytes, value_bytes, at = 0;
    cr_expect(not(pawl_event_header_next(cut, sizeof cut, &at, &name, &name_bytes, &value, &value_bytes)));
    cr_expect(not(
        pawl_event_header_next(nameless, sizeof nameless, &at, &name, &name_bytes, &value, &value_bytes)));
    cr_expect(
        not(pawl_event_header_next(shorter, sizeof shorter, &at, &name, &name_bytes, &value, &value_bytes)));
    at = 99;
    cr_expect(not(pawl_event_header_next(cut, sizeof cut, &at, &name, &name_bytes, &value, &value_bytes)));
}
