/*
 * peers.h - what peers_bus knows of a peer: its server, and how one publishes and consumes there.
 *
 * One file for each peer fills a struct server; peers_bus.c does the rest.
 */
#ifndef PAWL_BENCH_PEERS_H
#define PAWL_BENCH_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "bench/bench.h"

enum {
    PEER_PUBLISH_BATCH = 64,  /* events written together */
    PEER_PUBLISH_AHEAD = 512, /* and sent without a confirm, if a peer gains nothing by more */
    PEER_MODE_WORDS = 4,
    PEER_PORTS = 3,
};

struct peer;

struct run {
    const struct peer *peer;
    uint64_t events;
    size_t payload_bytes;
    double rate; /* events a second; 0: as many as can be */
    const char *directory;
    char socket_path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* for servers that can: in directory */
    int ports[PEER_PORTS];                                         /* for others: free ones, of loopback */
};

/*
 * Whatever fails ends the process that it fails in, with words. serve, prepare, publish and consume each run
 * in a process of their own.
 */
struct server {
    const char *program;
    int start_seconds;                      /* within that it serves */
    void (*serve)(const struct run *run);   /* becomes the server, in run->directory; returns if it cannot */
    bool (*ready)(const struct run *run);   /* it can be asked */
    void (*prepare)(const struct run *run); /* makes the queue; NULL: nothing to do */
    void (*publish)(const struct run *run); /* all events, each confirmed */
    void (*consume)(const struct run *run, struct pawl_bench_samples *samples); /* all, and each removed */
};

struct peer {
    const char *name;
    const struct server *server;       /* NULL: this program was built without its library */
    const char *mode[PEER_MODE_WORDS]; /* what differs: for the server's command line, or as its file says */
};

extern const struct server peer_redis, peer_beanstalkd;
extern const struct server peer_nats __attribute__((weak)), peer_rabbitmq __attribute__((weak));

/* errno in words too, if it is set. */
_Noreturn void peer_fail(const char *what);

/* Both lists end with NULL; @mode may be NULL. Returns if the program cannot be started. */
void peer_exec(const char *const *words, const char *const *mode);

/* Somebody listens on the first of the ports. */
bool peer_listens(const struct run *run);

/* At a rate: what is published now carries the time; how long ago that was for what has come. */
void peer_stamp(const struct run *run, char *data);
void peer_note(const struct run *run, struct pawl_bench_samples *samples, const char *data);

#endif
