/*
 * peers_redis.c - Redis Streams: XADD; one group and one consumer that XREADGROUPs, then XACKs and XDELs,
 * since an acknowledged entry stays in its stream otherwise.
 *
 * Runs in: peers_bus. Talks RESP over the server's Unix socket.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/peers_link.h"

enum { TAKE = 256 /* entries asked for at a time */ };

static void serve(const struct run *run)
{
    const char *const words[] = {"redis-server", "--port",         "0", "--save", "",
                                 "--unixsocket", run->socket_path, NULL};
    peer_exec(words, run->peer->mode);
}

static void prepare(const struct run *run)
{
    struct link link;
    if (!link_open(&link, run->socket_path))
        peer_fail("connect");
    link_say(&link, "XGROUP CREATE q g 0 MKSTREAM\r\n");
    link_flush(&link);
    link_expect(&link, "+OK");
    link_close(&link);
}

static void put_event(const struct run *run, struct link *link, const char *data)
{
    link_say(link, "*5\r\n$4\r\nXADD\r\n$1\r\nq\r\n$1\r\n*\r\n$1\r\nd\r\n$%zu\r\n", run->payload_bytes);
    link_put(link, data, run->payload_bytes);
    link_put(link, "\r\n", 2);
}

static void get_confirm(struct link *link)
{
    link_expect(link, "$");
    (void)link_line(link);
}

static void publish(const struct run *run)
{
    link_publish(run, put_event, get_confirm);
}

static size_t get_size(struct link *link, char kind)
{
    const char *line = link_line(link);
    if (line[0] != kind || line[1] == '-')
        peer_fail(line);
    return strtoul(line + 1, NULL, 10);
}

/* The answer to XREADGROUP: a list of one stream, which is its name and a list of [id, [field, value]]. */
static size_t get_entries(const struct run *run, struct link *link, char ids[TAKE][32],
                          struct pawl_bench_samples *samples)
{
    link_expect(link, "*1");
    link_expect(link, "*2");
    (void)link_bytes(link, get_size(link, '$'));
    size_t count = get_size(link, '*');
    if (count > TAKE)
        peer_fail("XREADGROUP");
    for (size_t i = 0; i < count; i++) {
        (void)get_size(link, '*');
        size_t bytes = get_size(link, '$');
        if (bytes >= sizeof ids[i])
            peer_fail("an id");
        memcpy(ids[i], link_bytes(link, bytes), bytes);
        ids[i][bytes] = 0;
        (void)get_size(link, '*');
        (void)link_bytes(link, get_size(link, '$'));
        bytes = get_size(link, '$');
        peer_note(run, samples, link_bytes(link, bytes));
    }
    return count;
}

static void put_ids(struct link *link, char ids[TAKE][32], size_t count)
{
    for (size_t i = 0; i < count; i++)
        link_say(link, "$%zu\r\n%s\r\n", strlen(ids[i]), ids[i]);
}

static void consume(const struct run *run, struct pawl_bench_samples *samples)
{
    static char ids[TAKE][32];
    struct link link;
    char ask[160];
    snprintf(ask, sizeof ask,
             "*11\r\n$10\r\nXREADGROUP\r\n$5\r\nGROUP\r\n$1\r\ng\r\n$1\r\nc\r\n$5\r\nCOUNT\r\n$3\r\n%d\r\n"
             "$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n$1\r\nq\r\n$1\r\n>\r\n",
             TAKE);
    if (!link_open(&link, run->socket_path))
        peer_fail("connect");
    link_put(&link, ask, strlen(ask));
    for (uint64_t got = 0; got < run->events;) {
        link_flush(&link);
        size_t count = get_entries(run, &link, ids, samples);
        got += count;
        link_say(&link, "*%zu\r\n$4\r\nXACK\r\n$1\r\nq\r\n$1\r\ng\r\n", count + 3);
        put_ids(&link, ids, count);
        link_say(&link, "*%zu\r\n$4\r\nXDEL\r\n$1\r\nq\r\n", count + 2);
        put_ids(&link, ids, count);
        if (got < run->events)
            link_put(&link, ask, strlen(ask));
        link_flush(&link);
        size_t acked = get_size(&link, ':'), removed = get_size(&link, ':');
        if (acked != count || removed != count)
            peer_fail("XACK and XDEL");
    }
    link_close(&link);
}

const struct server peer_redis = {.program = "redis-server",
                                  .start_seconds = 10,
                                  .serve = serve,
                                  .ready = link_ready,
                                  .prepare = prepare,
                                  .publish = publish,
                                  .consume = consume};
