/*
 * consumer.c - print COUNT events of a queue, one a line, and ack each; in a poll loop of its own.
 *
 *   cc -o consumer consumer.c $(pkg-config --cflags --libs pawl)
 *   ./consumer .pawl jobs 1000
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include <pawl.h>

static int fail(const struct pawl *pawl)
{
    fprintf(stderr, "consumer: %s\n", pawl_last_error(pawl));
    return 1;
}

/* What is there now. How many, or negative. */
static int take(struct pawl_consumer *consumer, unsigned long left)
{
    const struct pawl_delivery *deliveries[64];
    int count = pawl_claim(consumer, deliveries, left < 64 ? left : 64, 0);
    for (int i = 0; i < count; i++) {
        printf("%.*s\n", (int)deliveries[i]->data_bytes, (const char *)deliveries[i]->data);
        if (pawl_ack(deliveries[i]) != 0)
            return -1;
    }
    return count;
}

int main(int argc, char **argv)
{
    struct pawl_connect_options options = {.bytes = sizeof options};
    struct pawl_consumer *consumer;
    struct pawl *pawl;

    if (argc != 4) {
        fprintf(stderr, "usage: consumer STATE QUEUE COUNT\n");
        return 2;
    }
    options.state = argv[1];
    unsigned long left = strtoul(argv[3], NULL, 10);
    if (pawl_connect(&options, &pawl) != 0)
        return fail(NULL);
    if (pawl_consume(pawl, argv[2], NULL, &consumer) != 0)
        return fail(pawl);

    struct pollfd fd = {.fd = pawl_fd(pawl), .events = POLLIN};
    while (left > 0) {
        int count = take(consumer, left);
        if (count < 0)
            return fail(pawl);
        left -= (unsigned long)count;
        if (count > 0)
            continue; /* until there is nothing: only then sleep */
        poll(&fd, 1, -1);
        if (pawl_dispatch(pawl, 0) < 0)
            return fail(pawl);
    }
    if (pawl_flush(pawl, 10000) != 0) /* the acks are on disk */
        return fail(pawl);
    pawl_consumer_close(consumer);
    pawl_close(pawl);
    return 0;
}
