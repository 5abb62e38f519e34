/*
 * peers_link.h - a connection to a peer that is spoken to over a plain Unix socket, without a library.
 */
#ifndef PAWL_BENCH_PEERS_LINK_H
#define PAWL_BENCH_PEERS_LINK_H

#include <stdbool.h>
#include <stddef.h>

#include "bench/peers.h"

/* What is to be sent, and what was received and not read yet. */
struct link {
    int fd;
    char *out, *in;
    size_t out_used, in_first, in_end;
};

bool link_open(struct link *link, const char *path); /* false: nobody listens there */
void link_close(struct link *link);
bool link_ready(const struct run *run);

/* ---- to be sent by the next flush ---- */
void link_put(struct link *link, const void *bytes, size_t n);
__attribute__((format(printf, 2, 3))) void link_say(struct link *link, const char *format, ...);
void link_flush(struct link *link);

/* ---- received: what is returned is valid until more is received ---- */
const char *link_line(struct link *link);            /* without its end */
const char *link_bytes(struct link *link, size_t n); /* and the end of a line */
void link_expect(struct link *link, const char *begin);

/* Publishes all of a run's events: put() says one, confirmed() reads the answer to one. */
void link_publish(const struct run *run, void (*put)(const struct run *, struct link *, const char *data),
                  void (*confirmed)(struct link *));

#endif
