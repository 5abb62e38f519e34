/*
 * storm_client.c - a publisher and a consumer over libpawl that are killed at any instant.
 *
 *   storm_client publish STATE NAME CONFIRMED    NAME:1, NAME:2, ...; each that is confirmed is a line there
 *   storm_client consume STATE QUEUE LOG         "begun DATA SEQ TAG", then "done DATA", then the ack
 *
 * A line is one write to a file that is appended to: a kill leaves all of it or nothing.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/pawl.h"

enum { IN_FLIGHT = 64, KEYS = 4, PAUSE_US = 4000 };

static int file;
static const char *name;

static void line(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void line(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (write(file, text, (size_t)n) != n)
        _exit(9);
}

static int fail(const char *what, const struct pawl *pawl)
{
    fprintf(stderr, "storm_client: %s: %s\n", what, pawl_last_error(pawl));
    return 1;
}

static void on_confirm(void *context, const struct pawl_confirm *confirm)
{
    if (confirm->error == 0)
        line("%s:%lu\n", name, (unsigned long)(uintptr_t)context);
    else
        fprintf(stderr, "storm_client: %s:%lu: %s\n", name, (unsigned long)(uintptr_t)context,
                pawl_strerror(confirm->error));
}

static int publish(struct pawl *pawl)
{
    for (unsigned long n = 1;; n++) {
        char data[128], topic[128], key[128];
        int key_bytes = snprintf(key, sizeof key, "%s.%lu", name, n % KEYS);
        struct pawl_header header = {.name = "k", .value = key, .value_bytes = (size_t)key_bytes};
        int data_bytes = snprintf(data, sizeof data, "%s:%lu", name, n);
        snprintf(topic, sizeof topic, "storm.%s", n % 8 == 0 ? "handled" : "work");
        struct pawl_message message = {.bytes = sizeof message,
                                       .topic = topic,
                                       .data = data,
                                       .data_bytes = (size_t)data_bytes,
                                       .headers = &header,
                                       .header_count = 1};
        int error = pawl_publish_async(pawl, &message, -1, on_confirm, (void *)(uintptr_t)n, NULL);
        if (error == 0 && pawl_unconfirmed(pawl) >= IN_FLIGHT)
            error = pawl_flush(pawl, -1);
        if (error == 0 && pawl_dispatch(pawl, 0) < 0)
            error = 1;
        if (error != 0)
            return fail("publish", pawl);
        usleep(PAUSE_US);
    }
}

static int consume(struct pawl *pawl, const char *queue)
{
    const struct pawl_delivery *deliveries[8];
    struct pawl_consumer *consumer;
    if (pawl_consume(pawl, queue, NULL, &consumer) != 0)
        return fail("consume", pawl);
    for (;;) {
        int count = pawl_claim(consumer, deliveries, 8, 1000);
        if (count < 0)
            return fail("claim", pawl);
        for (int i = 0; i < count; i++) {
            char tag[256];
            if (pawl_delivery_tag(deliveries[i], tag, sizeof tag) != 0)
                return fail("tag", pawl);
            int bytes = (int)deliveries[i]->data_bytes;
            const char *data = deliveries[i]->data;
            line("begun %.*s %llu %s\n", bytes, data, (unsigned long long)deliveries[i]->seq, tag);
            line("done %.*s\n", bytes, data);
            int error = pawl_ack(deliveries[i]);
            if (error != 0 && error != PAWL_ERR_STALE)
                return fail("ack", pawl);
        }
    }
}

int main(int argc, char **argv)
{
    struct pawl_connect_options options = {.bytes = sizeof options, .reconnect_timeout_ms = -1};
    struct pawl *pawl;
    if (argc != 5)
        return 2;
    options.state = argv[2];
    name = argv[3];
    file = open(argv[4], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || pawl_connect(&options, &pawl) != 0)
        return fail("connect", NULL);
    return strcmp(argv[1], "publish") == 0 ? publish(pawl) : consume(pawl, name);
}
