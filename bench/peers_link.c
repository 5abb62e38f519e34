/*
 * peers_link.c - a connection to a peer over a plain Unix socket: lines, bytes, and publishing with commands
 * pipelined.
 *
 * Runs in: publisher and consumer of peers_bus.
 */
#include "bench/peers_link.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/socket.h>
#include <unistd.h>

#include "shm/clock.h"

enum { BYTES_MAX = 1 << 20 };

bool link_open(struct link *link, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    *link = (struct link){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (connect(link->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(link->fd);
        return false;
    }
    link->out = malloc(BYTES_MAX);
    link->in = malloc(BYTES_MAX);
    if (!link->out || !link->in)
        peer_fail("memory");
    return true;
}

void link_close(struct link *link)
{
    close(link->fd);
    free(link->out);
    free(link->in);
}

bool link_ready(const struct run *run)
{
    struct link link;
    bool ready = link_open(&link, run->socket_path);
    if (ready)
        link_close(&link);
    return ready;
}

void link_flush(struct link *link)
{
    size_t done = 0;
    while (done < link->out_used) {
        ssize_t n = send(link->fd, link->out + done, link->out_used - done, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            peer_fail("send");
        done += n > 0 ? (size_t)n : 0;
    }
    link->out_used = 0;
}

void link_put(struct link *link, const void *bytes, size_t n)
{
    if (link->out_used + n > BYTES_MAX)
        link_flush(link);
    memcpy(link->out + link->out_used, bytes, n);
    link->out_used += n;
}

void link_say(struct link *link, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    link_put(link, text, (size_t)n);
}

/* False: nothing there, and not @wait. */
static bool receive(struct link *link, bool wait)
{
    if (link->in_first == link->in_end)
        link->in_first = link->in_end = 0;
    if (link->in_end == BYTES_MAX) {
        memmove(link->in, link->in + link->in_first, link->in_end - link->in_first);
        link->in_end -= link->in_first;
        link->in_first = 0;
    }
    ssize_t n = recv(link->fd, link->in + link->in_end, BYTES_MAX - link->in_end, wait ? 0 : MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || (errno == EAGAIN && !wait)))
        return false;
    if (n <= 0)
        peer_fail("recv");
    link->in_end += (size_t)n;
    return true;
}

const char *link_line(struct link *link)
{
    for (size_t seen = link->in_first;;) {
        char *end = memchr(link->in + seen, '\n', link->in_end - seen);
        if (end) {
            const char *line = link->in + link->in_first;
            end[end > line ? -1 : 0] = 0;
            link->in_first = (size_t)(end - link->in) + 1;
            return line;
        }
        seen = link->in_end - link->in_first;
        (void)receive(link, true);
        seen += link->in_first;
    }
}

const char *link_bytes(struct link *link, size_t n)
{
    while (link->in_end - link->in_first < n + 2)
        (void)receive(link, true);
    const char *bytes = link->in + link->in_first;
    link->in_first += n + 2;
    return bytes;
}

void link_expect(struct link *link, const char *begin)
{
    const char *line = link_line(link);
    if (strncmp(line, begin, strlen(begin)) != 0) {
        fprintf(stderr, "peers_bus: '%s' where '%s' should be\n", line, begin);
        exit(1);
    }
}

void link_publish(const struct run *run, void (*put)(const struct run *, struct link *, const char *data),
                  void (*confirmed)(struct link *))
{
    struct link link;
    char *data = calloc(1, run->payload_bytes);
    if (!data || !link_open(&link, run->socket_path))
        peer_fail("connect");
    uint64_t sent = 0, done = 0, next_ns = pawl_clock_monotonic_ns();
    uint64_t step_ns = run->rate > 0 ? (uint64_t)(1e9 / run->rate) : 0;
    while (done < run->events) {
        if (step_ns && sent < run->events) {
            pawl_bench_rest_until(next_ns);
            next_ns += step_ns;
            peer_stamp(run, data);
        }
        for (int i = 0; i < (step_ns ? 1 : PEER_PUBLISH_BATCH) && sent < run->events; i++, sent++)
            put(run, &link, data);
        link_flush(&link);
        if (step_ns)
            while (receive(&link, false))
                ;
        uint64_t most = sent == run->events ? 0 : PEER_PUBLISH_AHEAD - PEER_PUBLISH_BATCH;
        while (sent - done > most || (step_ns && sent > done &&
                                      memchr(link.in + link.in_first, '\n', link.in_end - link.in_first))) {
            confirmed(&link);
            done++;
        }
    }
    link_close(&link);
    free(data);
}
