/*
 * lanes.h - the workers: who lives, who is attached, for which queue; what comes out of their lanes.
 *
 * Runs in: scheduler. A worker is known from the supervisor's WORKER_UP to its WORKER_DOWN, and attached from
 * its HELLO on. A lane that does not hold is closed and its worker killed: never repaired.
 */
#ifndef PAWL_SCHEDULER_LANES_H
#define PAWL_SCHEDULER_LANES_H

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/control.h"
#include "scheduler/loop.h"
#include "scheduler/queue.h"
#include "shm/lane.h"

enum { PAWL_WORKERS_MAX = 4096 };

/*
 *   WORKER_UP           HELLO              QUEUE                LEAVE               LEFT
 *  ----------> FORKED ----------> IDLE ----------> CLAIMING ----------> LEAVING ----------> IDLE
 *                                  | EXIT
 *                                  v
 *                               EXITING                 WORKER_DOWN ends every state
 */
enum pawl_worker_life {
    PAWL_WORKER_NONE = 0,
    PAWL_WORKER_FORKED,
    PAWL_WORKER_IDLE,
    PAWL_WORKER_CLAIMING,
    PAWL_WORKER_LEAVING,
    PAWL_WORKER_EXITING,
};

struct pawl_worker {
    enum pawl_worker_life life;
    uint32_t number;
    pid_t pid;
    int pidfd;
    uint64_t since_ns;                  /* CLOCK_REALTIME of its fork */
    struct pawl_connection *connection; /* NULL: not (or no more) connected */
    bool offers_due;                    /* it lived before this scheduler and has not said OFFERS_END */
    bool bad;                           /* its lane did not hold: nothing more is taken from it */
    bool useful;                        /* it began or settled something, or was adopted with it */
    uint32_t lane;                      /* 0: none yet */
    struct pawl_lane_reader reader;
    int bell_fd;              /* its eventfd */
    struct pawl_queue *queue; /* while CLAIMING */
    uint32_t slot_number;     /* 1-based, in queue->workers */
    /* durable_position of its lane follows the journal in steps of one flush */
    uint64_t told_position;
    uint64_t waiting_position, waiting_lsn; /* lsn 0: nothing waits */
};

int pawl_lanes_create(struct pawl_loop *loop);
void pawl_lanes_destroy(struct pawl_loop *loop);

/* Connections (control.c). */
bool pawl_lanes_connected(struct pawl_loop *loop, struct pawl_connection *connection, uint32_t number);
void pawl_lanes_disconnected(struct pawl_loop *loop, struct pawl_connection *connection);
void pawl_lanes_message(struct pawl_loop *loop, struct pawl_connection *connection,
                        struct pawl_wire_message *message);
void pawl_lanes_supervisor_message(struct pawl_loop *loop, struct pawl_wire_message *message);

/** pawl_lanes_supervisor_gone - its connection ended: there is nobody to ask for workers any more. */
void pawl_lanes_supervisor_gone(struct pawl_loop *loop);

/* One turn: settlements of all lanes, a bounded number of each. True when some were left. */
bool pawl_lanes_drain(struct pawl_loop *loop);
/* Is there anything to drain? The look after the sleeping flag is set. */
bool pawl_lanes_waiting(const struct pawl_loop *loop);
/* What is durable now, for the lanes' cells. @flushed: the batch of this turn was cut. */
void pawl_lanes_tell_durable(struct pawl_loop *loop);

/* Who works where. rebalance() is done at the end of the turn. */
void pawl_lanes_rebalance(struct pawl_loop *loop);
void pawl_lanes_assign(struct pawl_loop *loop);
void pawl_lanes_leave_queue(struct pawl_loop *loop, struct pawl_worker *worker);
void pawl_lanes_tell_segment(struct pawl_loop *loop, uint32_t id);
bool pawl_lanes_wake(struct pawl_worker *worker);
void pawl_lanes_signal(struct pawl_loop *loop, struct pawl_delivery *delivery, uint64_t grace_ns);
void pawl_lanes_forget_adopted(struct pawl_loop *loop, struct pawl_delivery *delivery);

/* Restart: has every worker that lived before offered, or gone? */
bool pawl_lanes_all_offered(const struct pawl_loop *loop);
void pawl_lanes_kill_silent(struct pawl_loop *loop);

/* Tell all to go, and flush that. */
void pawl_lanes_exit_all(struct pawl_loop *loop);
/* When idle workers are let go (boottime); UINT64_MAX: nothing to do. */
uint64_t pawl_lanes_tick(struct pawl_loop *loop);

uint32_t pawl_lanes_count(const struct pawl_loop *loop);
uint32_t pawl_lanes_stillborn(const struct pawl_loop *loop); /* in a row: stillborn.h */
const struct pawl_worker *pawl_lanes_worker(const struct pawl_loop *loop, uint32_t number);
uint32_t pawl_lanes_number_end(const struct pawl_loop *loop);

#endif
