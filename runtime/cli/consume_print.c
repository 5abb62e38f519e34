/*
 * consume_print.c - a delivery for whoever asked: as JSON, or as the environment of a command.
 *
 * Runs in: the command. Topics, headers and data are somebody else's words: nothing of them is believed.
 */
#include "runtime/cli/consume_print.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#include "runtime/cli/output.h"
#include "shm/event.h"

static json_t *headers_json(const struct pawl_delivery *delivery)
{
    json_t *headers = json_object();
    const char *name, *value;
    size_t at = 0, name_bytes, value_bytes;
    while (pawl_event_header_next(delivery->headers, delivery->headers_bytes, &at, &name, &name_bytes, &value,
                                  &value_bytes)) {
        char *key = strndup(name, name_bytes);
        json_t *text = pawl_json_text(key != NULL ? key : "");
        if (key != NULL && json_object_get(headers, json_string_value(text)) == NULL)
            pawl_json_bytes(headers, json_string_value(text), value, value_bytes);
        json_decref(text);
        free(key);
    }
    return headers;
}

int pawl_delivery_print(const struct pawl_delivery *delivery, const char *tag, FILE *stream)
{
    char id[24];
    json_t *line = pawl_json_document();
    snprintf(id, sizeof id, "%" PRIu64, delivery->event_id);
    json_object_set_new(line, "queue", pawl_json_text(delivery->queue));
    json_object_set_new(line, "event", json_string(id));
    json_object_set_new(line, "attempt", json_integer(delivery->attempt));
    json_object_set_new(line, "delivery", tag != NULL ? pawl_json_text(tag) : json_null());
    json_object_set_new(line, "topic", pawl_json_text(delivery->topic));
    json_object_set_new(line, "headers", headers_json(delivery));
    pawl_json_bytes(line, "data", delivery->data, delivery->data_bytes);
    json_object_set_new(line, "published_at", pawl_json_time(delivery->published_at_ns));
    json_object_set_new(line, "seq", json_integer((json_int_t)delivery->seq));
    json_object_set_new(line, "failures", json_integer(delivery->failures));
    json_object_set_new(line, "priority", json_integer(delivery->priority));
    errno = 0;
    pawl_json_print(line, stream);
    json_decref(line);
    return ferror(stream) ? -(errno != 0 ? errno : EIO) : 0;
}

/* ---- environment ---- */

/* Pointers first, their texts behind them: two passes, the first only counts. */
struct builder {
    char **words;
    char *text;
    size_t count, bytes;
};

__attribute__((format(printf, 2, 3))) static void add(struct builder *b, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (b->words != NULL) {
        b->words[b->count] = b->text + b->bytes;
        b->bytes += (size_t)vsprintf(b->text + b->bytes, format, arguments) + 1;
    } else {
        b->bytes += (size_t)vsnprintf(NULL, 0, format, arguments) + 1;
    }
    b->count++;
    va_end(arguments);
}

static bool is_ours(const char *entry)
{
    static const char *const names[] = {"PAWL_QUEUE=",    "PAWL_TOPIC=", "PAWL_EVENT=",  "PAWL_ATTEMPT=",
                                        "PAWL_DELIVERY=", "PAWL_STATE=", "PAWL_HEADER_", NULL};
    for (size_t i = 0; names[i] != NULL; i++)
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

enum { VARIABLE_BYTES = 128 };

/* The name of a header as a variable's. Return: its bytes, 0: it is too long for one. */
static size_t name_variable(const char *name, size_t bytes, char variable[VARIABLE_BYTES])
{
    if (bytes >= VARIABLE_BYTES)
        return 0;
    for (size_t i = 0; i < bytes; i++) {
        bool good = (name[i] >= 'A' && name[i] <= 'Z') || (name[i] >= '0' && name[i] <= '9');
        variable[i] = (char)(name[i] >= 'a' && name[i] <= 'z' ? name[i] - 32 : good ? name[i] : '_');
    }
    return bytes;
}

/* Has a header that begins before @end the same variable? The first one counts, as in JSON. */
static bool is_taken(const struct pawl_delivery *delivery, size_t end, const char *variable, size_t bytes)
{
    const char *name, *value;
    char other[VARIABLE_BYTES];
    size_t at = 0, name_bytes, value_bytes;
    while (at < end && pawl_event_header_next(delivery->headers, delivery->headers_bytes, &at, &name,
                                              &name_bytes, &value, &value_bytes))
        if (name_variable(name, name_bytes, other) == bytes && memcmp(other, variable, bytes) == 0)
            return true;
    return false;
}

static void build(struct builder *b, const struct pawl_delivery *delivery, const char *tag, const char *state)
{
    const char *name, *value;
    size_t at = 0, name_bytes, value_bytes;
    for (char **entry = environ; *entry != NULL; entry++)
        if (!is_ours(*entry))
            add(b, "%s", *entry);
    add(b, "PAWL_STATE=%s", state);
    add(b, "PAWL_QUEUE=%s", delivery->queue);
    add(b, "PAWL_TOPIC=%s", delivery->topic);
    add(b, "PAWL_EVENT=%" PRIu64, delivery->event_id);
    add(b, "PAWL_ATTEMPT=%" PRIu32, delivery->attempt);
    add(b, "PAWL_DELIVERY=%s", tag);
    for (size_t begin = 0; pawl_event_header_next(delivery->headers, delivery->headers_bytes, &at, &name,
                                                  &name_bytes, &value, &value_bytes);
         begin = at) {
        char variable[VARIABLE_BYTES];
        size_t n = name_variable(name, name_bytes, variable);
        /* What an environment cannot hold is left out. */
        if (n != 0 && memchr(value, '\0', value_bytes) == NULL && !is_taken(delivery, begin, variable, n))
            add(b, "PAWL_HEADER_%.*s=%.*s", (int)n, variable, (int)value_bytes, value);
    }
}

char **pawl_delivery_environment(const struct pawl_delivery *delivery, const char *tag, const char *state)
{
    struct builder counted = {0}, b = {0};
    build(&counted, delivery, tag, state);
    size_t head = (counted.count + 1) * sizeof *b.words;
    b.words = calloc(1, head + counted.bytes);
    if (b.words == NULL)
        return NULL;
    b.text = (char *)b.words + head;
    build(&b, delivery, tag, state);
    return b.words;
}
