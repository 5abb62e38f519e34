/*
 * listener.h - the sockets at which the scheduler listens, and who may come in.
 *
 * Runs in: scheduler. Its own socket lies in the state directory; others are passed by the supervisor
 * (--socket, socket activation), which keeps them over the scheduler's death, so that who connects meanwhile
 * waits.
 */
#ifndef PAWL_SCHEDULER_LISTENER_H
#define PAWL_SCHEDULER_LISTENER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "scheduler/io.h"

struct pawl_loop;
struct pawl_config;

enum { PAWL_LISTENERS_MAX = 8 };

struct pawl_listener {
    int fd;
    bool passed; /* not ours to unlink */
    struct pawl_io_request poll;
};

struct pawl_listeners {
    struct pawl_listener at[PAWL_LISTENERS_MAX];
    unsigned count;
    uint64_t accept_at_ns; /* boottime: not before, descriptors ran out */
};

/* Make the socket and listen, before recovery: who connects waits. Return: 0 or -errno. */
int pawl_listeners_open(struct pawl_loop *loop);
void pawl_listeners_close(struct pawl_loop *loop); /* unlinks our own */

/* One turn: accept some. End of a turn: ask to be told of more. */
void pawl_listeners_turn(struct pawl_loop *loop);
void pawl_listeners_arm(struct pawl_loop *loop);
/* Everybody who waits, now. */
void pawl_listeners_accept_all(struct pawl_loop *loop);

enum pawl_peer {
    PAWL_PEER_STRANGER = 0, /* closed without a word */
    PAWL_PEER_OWN = 1,      /* the owner of the state directory, or root */
    PAWL_PEER_GUEST = 2,    /* let in by allow-uids or allow-gids: the event bus and nothing else */
};

/** pawl_peer_of - who is at the other end of a connected socket. */
enum pawl_peer pawl_peer_of(int fd, const struct pawl_config *config);

#endif
