/*
 * event.h - one packed event: the same bytes in a publisher's lane, in the journal, in a consumer's ring.
 *
 *   0   struct pawl_event, 56 bytes
 *   56  topic, NUL | key, NUL (only if key_bytes > 0) | headers | data | zeros up to a multiple of 8
 *
 * Headers, one after the other: u16 name_bytes, u16 value_bytes, name, value (no padding, no NULs).
 * Fields marked "scheduler" are filled in when it accepts the event; a publisher leaves them 0.
 *
 * Runs in: every process. Pure: no I/O. What another process can write is copied before it is checked here.
 */
#ifndef PAWL_SHM_EVENT_H
#define PAWL_SHM_EVENT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PAWL_TOPIC_BYTES_MAX = 255,
    PAWL_EVENT_KEY_BYTES_MAX = 255,
    PAWL_EVENT_HEADERS_TEXT_MAX = 64 << 10,  /* SPEC 7: names and values; the default limit is 16 KiB */
    PAWL_EVENT_HEADERS_BYTES_MAX = 68 << 10, /* packed: with the lengths of 1,024 of them */
    PAWL_EVENT_DATA_BYTES_MAX = 64 << 20,    /* SPEC 7: maximum; the default limit is 1 MiB */
    PAWL_EVENT_PRIORITY_MAX = 9,
};

struct pawl_event {
    uint32_t bytes; /* of all of it, padding included: a multiple of 8 */
    uint32_t data_bytes;
    uint32_t headers_bytes;
    uint8_t topic_bytes;      /* without its NUL; 1..255 */
    uint8_t key_bytes;        /* of the deduplication key, without its NUL; 0: none */
    uint8_t priority;         /* 0 (ordinary) .. 9 */
    uint8_t flags;            /* 0 */
    uint64_t id;              /* scheduler: never given twice; epoch << 40 | number within the epoch */
    uint64_t published_at_ns; /* scheduler: CLOCK_REALTIME */
    uint64_t delay_ns;        /* not before published_at + this */
    uint64_t ttl_ns;          /* not after published_at + this; 0: no limit */
    uint64_t sum; /* scheduler: in the journal, of all the other bytes (bus/sum.c); 0: there is none */
};
static_assert(sizeof(struct pawl_event) == 56, "event format");

/* What an event is made of, before it is packed. Nothing is owned. */
struct pawl_event_parts {
    const char *topic;
    size_t topic_bytes;
    const char *key; /* NULL: none */
    size_t key_bytes;
    const void *headers; /* packed already: pawl_event_header_pack() */
    size_t headers_bytes;
    const void *data;
    size_t data_bytes;
    uint8_t priority;
    uint64_t delay_ns, ttl_ns;
};

/** pawl_event_bytes - how many bytes these parts take when packed; 0: a part is beyond its maximum. */
size_t pawl_event_bytes(const struct pawl_event_parts *parts);

/** pawl_event_pack - write them at @out (8-aligned, pawl_event_bytes() of room); parts->data NULL leaves the
 * data's bytes as they are (reserve, then fill). Return: where the data begins. */
void *pawl_event_pack(const struct pawl_event_parts *parts, void *out);

/**
 * pawl_event_check - does a copied event hold?
 * @available: bytes at @event; event->bytes must not exceed them
 *
 * Sizes by subtraction, topic of legal form (segments not empty, no NUL, valid UTF-8 not demanded), headers
 * walk to their end, priority in range.
 *
 * Return: 0; PAWL_E_BAD_MESSAGE.
 */
int pawl_event_check(const struct pawl_event *event, size_t available);

static inline const char *pawl_event_topic(const struct pawl_event *event)
{
    return (const char *)(event + 1);
}

static inline const char *pawl_event_key(const struct pawl_event *event) /* "" when there is none */
{
    return event->key_bytes ? (const char *)(event + 1) + event->topic_bytes + 1 : "";
}

static inline const unsigned char *pawl_event_headers(const struct pawl_event *event)
{
    return (const unsigned char *)(event + 1) + event->topic_bytes + 1 +
           (event->key_bytes ? event->key_bytes + 1u : 0u);
}

static inline const void *pawl_event_data(const struct pawl_event *event)
{
    return pawl_event_headers(event) + event->headers_bytes;
}

/** pawl_event_headers_text_bytes - names and values together, which is what limits count. */
size_t pawl_event_headers_text_bytes(const void *headers, size_t headers_bytes);

/** pawl_event_header_pack - append one header at @out + *used of @room bytes.
 * Return: 0; PAWL_E_LIMIT (no room); PAWL_E_INVALID (empty name, or above 65,535 bytes). */
int pawl_event_header_pack(void *out, size_t room, size_t *used, const char *name, size_t name_bytes,
                           const void *value, size_t value_bytes);

/** pawl_event_header_next - walk packed headers; *at 0 first. true and one header, false at the end (or where
 * they do not hold). Names and values are not NUL-terminated. */
bool pawl_event_header_next(const void *headers, size_t headers_bytes, size_t *at, const char **name_out,
                            size_t *name_bytes_out, const char **value_out, size_t *value_bytes_out);

/** pawl_event_header_find - the value of the first header of this name; NULL: none. */
const char *pawl_event_header_find(const struct pawl_event *event, const char *name, size_t name_bytes,
                                   size_t *value_bytes_out);

#endif
