/*
 * embedded.c - a scheduler of one's own: a private one, two handler processes, and what they emit.
 *
 *   cc -o embedded embedded.c $(pkg-config --cflags --libs pawl)
 *   ./embedded
 *
 * Squares the numbers 1 to 100 in two processes; each ack and its result are one atomic act.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pawl.h>

enum { COUNT = 100 };

/* Runs in a process of its own: a crash here costs one attempt of one event. */
static int square(struct pawl_consumer *consumer, const struct pawl_delivery *delivery, void *context)
{
    char number[32], result[32];
    (void)consumer;
    (void)context;
    snprintf(number, sizeof number, "%.*s", (int)delivery->data_bytes, (const char *)delivery->data);
    long n = strtol(number, NULL, 10);
    struct pawl_message message = {.bytes = sizeof message, .topic = "result.square", .data = result};
    message.data_bytes = (size_t)snprintf(result, sizeof result, "%ld", n * n);
    return pawl_ack_publish(delivery, &message, 1, 10000) == 0 ? PAWL_HANDLER_ACK : PAWL_HANDLER_NACK;
}

static int fail(const struct pawl *pawl)
{
    fprintf(stderr, "embedded: %s\n", pawl_last_error(pawl));
    return 1;
}

static int declare(struct pawl *pawl, const char *name, const char *topic)
{
    struct pawl_queue_options options = {.bytes = sizeof options, .topics = &topic, .topic_count = 1};
    return pawl_queue_declare(pawl, name, &options);
}

int main(void)
{
    struct pawl_handler_options handler = {
        .bytes = sizeof handler, .queue = "numbers", .handler = square, .processes = 2};
    struct pawl_start_options options = {.bytes = sizeof options, .handlers = &handler, .handler_count = 1};
    struct pawl_consumer *results;
    struct pawl *pawl;
    long sum = 0;

    if (pawl_start(&options, &pawl) != 0)
        return fail(NULL);
    if (declare(pawl, "numbers", "number") != 0 || declare(pawl, "results", "result.*") != 0 ||
        pawl_consume(pawl, "results", NULL, &results) != 0)
        return fail(pawl);
    for (int i = 1; i <= COUNT; i++) {
        char text[16];
        struct pawl_message message = {.bytes = sizeof message, .topic = "number", .data = text};
        message.data_bytes = (size_t)snprintf(text, sizeof text, "%d", i);
        if (pawl_publish_async(pawl, &message, -1, NULL, NULL, NULL) != 0)
            return fail(pawl);
    }
    for (int i = 0; i < COUNT; i++) {
        const struct pawl_delivery *delivery;
        char text[32];
        if (pawl_claim(results, &delivery, 1, 30000) != 1)
            return fail(pawl);
        snprintf(text, sizeof text, "%.*s", (int)delivery->data_bytes, (const char *)delivery->data);
        sum += strtol(text, NULL, 10);
        pawl_ack(delivery);
    }
    printf("sum of squares: %ld\n", sum);
    pawl_close(pawl);
    return 0;
}
