/*
 * client.h - one attached client as clients*.c and client_*.c see it. Private to them.
 */
#ifndef PAWL_SCHEDULER_CLIENT_H
#define PAWL_SCHEDULER_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scheduler/clients.h"
#include "scheduler/io.h"
#include "shm/client_lane.h"

/* Its share of a turn. */
enum { PAWL_SUBMISSIONS_A_TURN = 4096, PAWL_SUBMIT_BYTES_A_TURN = 4 << 20 };

struct pawl_client {
    struct pawl_loop *loop;
    struct pawl_connection *connection;
    struct pawl_bus_client *bus;
    uint32_t number;
    struct pawl_client_port port;
    int bell_fd;     /* the client writes it, we read it */
    int own_bell_fd; /* we write it */
    struct pawl_io_request bell_read;
    bool gone; /* freed when its read is back */
    bool hot, bad;
    bool bell_due;
    bool touched; /* something was put into its rings this turn */
    bool stalled; /* a ring was full */
    uint32_t quiet_turns;
    /* A begin rings no bell: while something is handed out, it is looked for, less and less often. */
    bool listened;
    uint64_t listen_at_ns, listen_step_ns; /* boottime */
    struct pawl_client *next_listened;
    struct pawl_client *next_hot, *previous_hot;
    struct pawl_client *next_touched;
    struct pawl_client *next_gone;
    /* replies that the ring had no room for */
    struct pawl_reply *replies;
    size_t reply_first, reply_count, reply_room;
    struct pawl_reply last; /* not put into the ring yet: it may grow. type 0: none */
    /* settle_durable follows the journal in steps of one flush */
    uint64_t told_settled, waiting_settled, waiting_lsn;
    /* the same for settlements with words: submit positions. last: behind the last one that was taken */
    uint64_t last_worded, told_worded, waiting_worded;
    /* parts of an atomic act that is not whole yet */
    unsigned char *act;
    size_t act_used, act_room;
    uint32_t act_parts;
};

struct pawl_clients {
    struct pawl_client **by_number;
    uint32_t room;
    struct pawl_client *hot, *touched, *gone, *listened;
    unsigned char *copy;
    size_t copy_bytes;
};

/* clients.c: hot, cold, condemned, in a turn. */
struct pawl_client *pawl_client_at(const struct pawl_loop *loop, uint32_t number);
/** pawl_client_condemn - its lane does not hold: it is told, and ended when nobody walks the lists. */
void pawl_client_condemn(struct pawl_client *client, const char *why);
void pawl_client_make_hot(struct pawl_client *client);
void pawl_client_make_cold(struct pawl_client *client);
void pawl_client_on_bell(struct pawl_io_request *request, int32_t result);
void pawl_client_listen(struct pawl_client *client); /* for a begin of what it was given */

/* client_attach.c */
/** pawl_clients_sweep - frees those that are gone and whose reads are back. */
void pawl_clients_sweep(struct pawl_clients *clients);

/* client_intake.c */
/* May its next submission be taken? No: it waits for room in a queue, or for the disk. */
bool pawl_client_may_submit(const struct pawl_client *client);
/** pawl_client_drain - its share of a turn. True: there is more. */
bool pawl_client_drain(struct pawl_client *client);
/* False: the client is condemned. */
bool pawl_client_take_event(struct pawl_client *client, struct pawl_submit *submit);
bool pawl_client_take_settlement(struct pawl_client *client, const struct pawl_settle *settle,
                                 const char *text);
/* What the settle ring holds is taken. True: more than its share. */
bool pawl_client_drain_settlements(struct pawl_client *client);
bool pawl_client_hear_begun(struct pawl_client *client);

/* client_act.c */
bool pawl_client_part_holds(const struct pawl_submit *submit);
/** pawl_client_act_gather - one part of an atomic act; the last one has it done. False: it is condemned. */
bool pawl_client_act_gather(struct pawl_client *client, const struct pawl_submit *submit);

/* client_reply.c */
void pawl_client_touch(struct pawl_client *client); /* there is something to publish at the end of the turn */
/* One bell a turn, whatever there is to tell. */
void pawl_client_ring(struct pawl_client *client);

#endif
