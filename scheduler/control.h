/*
 * control.h - the control socket: connections, their first words, and the requests of clients.
 *
 * Runs in: scheduler. A connection is a client's, a worker's (lanes.h) or the supervisor's. What comes in is
 * not believed; who does not speak properly is told so and closed. Requests that cannot be answered yet are
 * parked and looked at again when the core says that something changed.
 */
#ifndef PAWL_SCHEDULER_CONTROL_H
#define PAWL_SCHEDULER_CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "scheduler/loop.h"
#include "shm/wire.h"

enum {
    PAWL_PARKED_MAX = 1024,           /* of one client */
    PAWL_MESSAGES_A_TURN = 64,        /* of one connection */
    PAWL_OUTPUT_BYTES_HIGH = 1 << 20, /* a client that lets this much wait is not listened to */
    PAWL_OUTPUT_FDS_HIGH = 16,        /* nor one that lets so many descriptors wait */
    PAWL_REPLY_BYTES_MAX = 1 << 20,   /* of one page of results or steps */
    /* Commands that only ask are this many more than `clients`, which they take no place of; so many of them
     * are kept for the owner of the state directory. */
    PAWL_ASKERS_BESIDE = 256,
    PAWL_ASKERS_KEPT = 64,
};

struct pawl_client;
struct pawl_parked_bus;

/* A request that waits. */
struct pawl_parked {
    struct pawl_parked *next;
    uint16_t type; /* of the request */
    uint64_t tag;
    uint64_t lsn; /* must be durable first; 0: none */
    char run_id[PAWL_NAME_BYTES];
    struct pawl_wire_pull pull;
    uint64_t *instances; /* ITEMS: the answer's */
    uint32_t count;
    bool answered;               /* ITEMS: only the credit is still owed */
    struct pawl_parked_bus *bus; /* a request of the event bus: control_bus.c */
};

/* A run that must not leave before this client has heard all of it. */
struct pawl_held {
    struct pawl_held *next;
    struct pawl_run *run;
};

struct pawl_connection {
    struct pawl_loop *loop;
    struct pawl_connection *next, *previous;
    struct pawl_wire wire;
    struct pawl_io_request in_poll, out_poll;
    bool readable, closing, greeted;
    uint64_t since_ns; /* boottime */
    bool guest;        /* another user, let in by the configuration: the event bus only */
    uint32_t role;     /* enum pawl_wire_role, 0 before HELLO */
    uint64_t client;   /* number of a client, from 1 */
    bool asks;         /* a client without a place among `clients` */
    uint32_t worker;   /* number of a worker */
    pid_t pid;
    uint64_t vouch_lsn; /* what is queued for it may tell of records up to this: sent when they are durable */
    uint64_t
        vouch_due_ns; /* boottime: or then, as a full disk must not keep people from looking; 0: not set */
    struct pawl_parked *parked, **parked_tail;
    uint32_t parked_count;
    bool knows_full; /* it was told that the disk is full, and is to be told that there is room */
    struct pawl_held *held;
    struct pawl_client *attached; /* clients.h; NULL: it has no lane */
};

/* Tell everybody who waits at the socket why there will be no service. */
void pawl_control_refuse(struct pawl_loop *loop, int error, int exit_code, const char *text,
                         const char *hint);
void pawl_control_close(struct pawl_loop *loop); /* unlinks the socket, drops all connections */

/* Take over a connected descriptor. NULL when there is no memory: fd is closed. */
struct pawl_connection *pawl_control_adopt_fd(struct pawl_loop *loop, int fd, uint32_t role);

/** pawl_control_notice - words for every command that waits, at most 511 bytes. control_notice.c */
void pawl_control_notice(struct pawl_loop *loop, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/** pawl_control_tell - the same for one that waits. It is not ended here: the bus may be calling. False: it
 * was not told, as it reads none. */
bool pawl_control_tell(struct pawl_connection *connection, const char *text);
/** pawl_control_tell_room - once that the disk is full, and once that there is room again. */
void pawl_control_tell_room(struct pawl_connection *connection);

/** pawl_control_place - a place among `clients` for this client, which may have one. False: an ERROR was
 * sent. */
bool pawl_control_place(struct pawl_connection *connection, uint64_t tag);

/* One turn: accept, read, answer what was parked. */
void pawl_control_turn(struct pawl_loop *loop);
/* End of a turn: send, and ask to be told of more. */
void pawl_control_arm(struct pawl_loop *loop);
bool pawl_control_is_held(const struct pawl_loop *loop, const struct pawl_run *run);
void pawl_control_end(
    struct pawl_connection *connection); /* close it; the memory goes when its polls are back */

/* Answers. */
void pawl_control_reply(struct pawl_connection *connection, uint16_t type, uint64_t tag, const void *body,
                        size_t bytes, const void *more, size_t more_bytes);
/* The same, however large: beyond PAWL_WIRE_BYTES_MAX as struct pawl_wire_large and a memfd. For the event
 * bus. */
void pawl_control_reply_any(struct pawl_connection *connection, uint16_t type, uint64_t tag, const void *body,
                            size_t bytes);
void pawl_control_error(struct pawl_connection *connection, uint64_t tag, int error, const char *hint,
                        const char *format, ...) __attribute__((format(printf, 5, 6)));
int pawl_control_exit_code(int error); /* SPEC 1 for an error */

/* control_run.c: requests that change something, or wait. */
void pawl_control_submit(struct pawl_connection *connection, struct pawl_wire_message *message);
void pawl_control_items(struct pawl_connection *connection, const struct pawl_wire_message *message);
void pawl_control_items_end(struct pawl_connection *connection, const struct pawl_wire_message *message);
void pawl_control_cancel(struct pawl_connection *connection, const struct pawl_wire_message *message);
void pawl_control_detach(struct pawl_connection *connection, const struct pawl_wire_message *message);
void pawl_control_wait(struct pawl_connection *connection, const struct pawl_wire_message *message);
void pawl_control_pull(struct pawl_connection *connection, const struct pawl_wire_message *message);
bool pawl_control_try_parked(struct pawl_connection *connection, struct pawl_parked *parked);
struct pawl_parked *pawl_control_park(struct pawl_connection *connection, uint16_t type, uint64_t tag,
                                      const char *run_id, uint64_t lsn);

/* control_query.c: requests that only look. True when the type was one of them. */
bool pawl_control_query(struct pawl_connection *connection, const struct pawl_wire_message *message);
/* One RESULTS page of a run's completions from request->from on, which moves on. True: more may be sent for
 * the same request. */
bool pawl_control_answer_pull(struct pawl_connection *connection, uint64_t tag, struct pawl_run *run,
                              struct pawl_wire_pull *request);
/* The run that a body names; NULL after an ERROR was sent. */
struct pawl_run *pawl_control_find(struct pawl_connection *connection, uint64_t tag, const char *run_id);

/* control_bus.c: the event bus. True when the type was one of its requests. */
bool pawl_control_bus(struct pawl_connection *connection, const struct pawl_wire_message *message);
bool pawl_control_bus_try(struct pawl_connection *connection, struct pawl_parked *parked);
void pawl_control_bus_drop(struct pawl_parked *parked, struct pawl_loop *loop);
uint64_t pawl_control_bus_due(const struct pawl_loop *loop);

/* collect.c: gc */
void pawl_control_collect(struct pawl_connection *connection, const struct pawl_wire_message *message);
void pawl_collect_turn(struct pawl_loop *loop); /* removes one run */
void pawl_collect_forget(struct pawl_connection *connection);

#endif
