/*
 * peers_beanstalkd.c - beanstalkd: put, reserve, delete.
 *
 * Runs in: peers_bus. Talks its protocol over the server's Unix socket.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/peers_link.h"

enum { RESERVES = 64 /* under way */ };

static void serve(const struct run *run)
{
    char listen[sizeof run->socket_path + 8];
    snprintf(listen, sizeof listen, "unix:%s", run->socket_path);
    peer_exec((const char *const[]){"beanstalkd", "-l", listen, NULL}, run->peer->mode);
}

static void put_event(const struct run *run, struct link *link, const char *data)
{
    link_say(link, "put 0 0 600 %zu\r\n", run->payload_bytes);
    link_put(link, data, run->payload_bytes);
    link_put(link, "\r\n", 2);
}

static void get_confirm(struct link *link)
{
    link_expect(link, "INSERTED");
}

static void publish(const struct run *run)
{
    link_publish(run, put_event, get_confirm);
}

/* The id of the job that a reserve gives. */
static uint64_t get_job(const struct run *run, struct link *link, struct pawl_bench_samples *samples)
{
    const char *line = link_line(link);
    char *rest = NULL;
    if (strncmp(line, "RESERVED ", 9) != 0)
        peer_fail(line);
    uint64_t id = strtoull(line + 9, &rest, 10);
    peer_note(run, samples, link_bytes(link, strtoul(rest, NULL, 10)));
    return id;
}

static void consume(const struct run *run, struct pawl_bench_samples *samples)
{
    /* A reserve that waits holds up the deletes behind it: at a rate one at a time. */
    const size_t most = run->rate > 0 ? 1 : RESERVES;
    uint64_t ids[RESERVES], left = run->events;
    struct link link;
    if (!link_open(&link, run->socket_path))
        peer_fail("connect");
    for (size_t deletes = 0, count; left > 0 || deletes > 0; deletes = count) {
        count = left < most ? (size_t)left : most;
        for (size_t i = 0; i < deletes; i++)
            link_say(&link, "delete %" PRIu64 "\r\n", ids[i]);
        for (size_t i = 0; i < count; i++)
            link_say(&link, "reserve\r\n");
        link_flush(&link);
        for (size_t i = 0; i < deletes; i++)
            link_expect(&link, "DELETED");
        for (size_t i = 0; i < count; i++)
            ids[i] = get_job(run, &link, samples);
        left -= count;
    }
    link_close(&link);
}

const struct server peer_beanstalkd = {.program = "beanstalkd",
                                       .start_seconds = 10,
                                       .serve = serve,
                                       .ready = link_ready,
                                       .publish = publish,
                                       .consume = consume};
