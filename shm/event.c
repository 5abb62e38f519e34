/*
 * event.c - packing, checking and reading one event.
 *
 * Runs in: every process. Pure. pawl_event_check() is what stands between a client's bytes and everybody
 * else: it never reads beyond what it was given.
 */
#include "shm/event.h"

#include <string.h>

#include "shm/error.h"
#include "shm/topic.h"

enum { HEADER_LENGTHS_BYTES = 4 }; /* before each header's name */

static_assert(sizeof(struct pawl_event) + (PAWL_TOPIC_BYTES_MAX + 1) + (PAWL_EVENT_KEY_BYTES_MAX + 1) +
                      PAWL_EVENT_HEADERS_BYTES_MAX + (uint64_t)PAWL_EVENT_DATA_BYTES_MAX + 7 <=
                  UINT32_MAX,
              "an event's size fits in its word");

static size_t packed_bytes(size_t topic_bytes, size_t key_bytes, size_t headers_bytes, size_t data_bytes)
{
    size_t bytes = sizeof(struct pawl_event) + topic_bytes + 1 + (key_bytes ? key_bytes + 1 : 0) +
                   headers_bytes + data_bytes;
    return (bytes + 7) & ~(size_t)7;
}

size_t pawl_event_bytes(const struct pawl_event_parts *parts)
{
    size_t key_bytes = parts->key ? parts->key_bytes : 0;
    if (parts->topic_bytes - 1 >= PAWL_TOPIC_BYTES_MAX || key_bytes > PAWL_EVENT_KEY_BYTES_MAX ||
        parts->headers_bytes > PAWL_EVENT_HEADERS_BYTES_MAX ||
        parts->data_bytes > PAWL_EVENT_DATA_BYTES_MAX || parts->priority > PAWL_EVENT_PRIORITY_MAX)
        return 0;
    return packed_bytes(parts->topic_bytes, key_bytes, parts->headers_bytes, parts->data_bytes);
}

void *pawl_event_pack(const struct pawl_event_parts *parts, void *out)
{
    struct pawl_event *event = out;
    size_t key_bytes = parts->key ? parts->key_bytes : 0;
    size_t bytes = packed_bytes(parts->topic_bytes, key_bytes, parts->headers_bytes, parts->data_bytes);
    *event = (struct pawl_event){
        .bytes = (uint32_t)bytes,
        .data_bytes = (uint32_t)parts->data_bytes,
        .headers_bytes = (uint32_t)parts->headers_bytes,
        .topic_bytes = (uint8_t)parts->topic_bytes,
        .key_bytes = (uint8_t)key_bytes,
        .priority = parts->priority,
        .delay_ns = parts->delay_ns,
        .ttl_ns = parts->ttl_ns,
    };
    char *at = (char *)(event + 1);
    memcpy(at, parts->topic, parts->topic_bytes);
    at += parts->topic_bytes;
    *at++ = 0;
    if (key_bytes > 0) {
        memcpy(at, parts->key, key_bytes);
        at += key_bytes;
        *at++ = 0;
    }
    if (parts->headers_bytes > 0)
        memcpy(at, parts->headers, parts->headers_bytes);
    at += parts->headers_bytes;
    char *data = at;
    if (parts->data && parts->data_bytes > 0)
        memcpy(data, parts->data, parts->data_bytes);
    at += parts->data_bytes;
    memset(at, 0, (size_t)((char *)out + bytes - at));
    return data;
}

/* Do they end where they should, each with a name? */
static bool headers_hold(const unsigned char *headers, size_t left)
{
    while (left > 0) {
        uint16_t lengths[2];
        if (left < HEADER_LENGTHS_BYTES)
            return false;
        memcpy(lengths, headers, sizeof lengths);
        size_t bytes = (size_t)HEADER_LENGTHS_BYTES + lengths[0] + lengths[1];
        if (lengths[0] == 0 || bytes > left)
            return false;
        headers += bytes;
        left -= bytes;
    }
    return true;
}

int pawl_event_check(const struct pawl_event *event, size_t available)
{
    if (available < sizeof *event || event->bytes > available)
        return PAWL_E_BAD_MESSAGE;
    /* Each part is below its maximum before they are added up: no sum can overflow. */
    if (event->topic_bytes == 0 || event->headers_bytes > PAWL_EVENT_HEADERS_BYTES_MAX ||
        event->data_bytes > PAWL_EVENT_DATA_BYTES_MAX || event->priority > PAWL_EVENT_PRIORITY_MAX ||
        event->flags != 0)
        return PAWL_E_BAD_MESSAGE;
    if (event->bytes !=
        packed_bytes(event->topic_bytes, event->key_bytes, event->headers_bytes, event->data_bytes))
        return PAWL_E_BAD_MESSAGE;
    /* Both are read as strings: they must end. */
    const char *topic = pawl_event_topic(event);
    if (topic[event->topic_bytes] != 0 || pawl_event_key(event)[event->key_bytes] != 0)
        return PAWL_E_BAD_MESSAGE;
    if (pawl_topic_check(topic, event->topic_bytes) ||
        !headers_hold(pawl_event_headers(event), event->headers_bytes))
        return PAWL_E_BAD_MESSAGE;
    return 0;
}

int pawl_event_header_pack(void *out, size_t room, size_t *used, const char *name, size_t name_bytes,
                           const void *value, size_t value_bytes)
{
    if (name_bytes == 0 || name_bytes > UINT16_MAX || value_bytes > UINT16_MAX)
        return PAWL_E_INVALID;
    if (*used > room || room - *used < HEADER_LENGTHS_BYTES + name_bytes + value_bytes)
        return PAWL_E_LIMIT;
    unsigned char *at = (unsigned char *)out + *used;
    uint16_t lengths[2] = {(uint16_t)name_bytes, (uint16_t)value_bytes};
    memcpy(at, lengths, sizeof lengths);
    memcpy(at + HEADER_LENGTHS_BYTES, name, name_bytes);
    if (value_bytes > 0)
        memcpy(at + HEADER_LENGTHS_BYTES + name_bytes, value, value_bytes);
    *used += HEADER_LENGTHS_BYTES + name_bytes + value_bytes;
    return 0;
}

bool pawl_event_header_next(const void *headers, size_t headers_bytes, size_t *at, const char **name_out,
                            size_t *name_bytes_out, const char **value_out, size_t *value_bytes_out)
{
    uint16_t lengths[2];
    if (*at > headers_bytes || headers_bytes - *at < HEADER_LENGTHS_BYTES)
        return false;
    const char *header = (const char *)headers + *at;
    memcpy(lengths, header, sizeof lengths);
    size_t bytes = (size_t)HEADER_LENGTHS_BYTES + lengths[0] + lengths[1];
    if (lengths[0] == 0 || bytes > headers_bytes - *at)
        return false;
    *name_out = header + HEADER_LENGTHS_BYTES;
    *name_bytes_out = lengths[0];
    *value_out = *name_out + lengths[0];
    *value_bytes_out = lengths[1];
    *at += bytes;
    return true;
}

size_t pawl_event_headers_text_bytes(const void *headers, size_t headers_bytes)
{
    const char *name, *value;
    size_t at = 0, name_bytes, value_bytes, total = 0;
    while (pawl_event_header_next(headers, headers_bytes, &at, &name, &name_bytes, &value, &value_bytes))
        total += name_bytes + value_bytes;
    return total;
}

const char *pawl_event_header_find(const struct pawl_event *event, const char *name, size_t name_bytes,
                                   size_t *value_bytes_out)
{
    const char *each, *value;
    size_t at = 0, each_bytes;
    while (pawl_event_header_next(pawl_event_headers(event), event->headers_bytes, &at, &each, &each_bytes,
                                  &value, value_bytes_out))
        if (each_bytes == name_bytes && memcmp(each, name, name_bytes) == 0)
            return value;
    return NULL;
}
