/*
 * attach.h - a worker's ties to the scheduler: socket, lane, queue, task memory.
 *
 * Runs in a worker. Everything that the scheduler wrote is checked before it is used. When the socket
 * closes, all ties of that scheduler are cut at once (nothing is claimed from its rings any more), and the
 * worker connects again; what it holds is its caller's business.
 *
 * Relied upon: a SEGMENT message is on its way in the socket before a task in that segment is published, and
 * QUEUE is followed by one for every segment that its tasks may lie in.
 */
#ifndef PAWL_WORKERS_ATTACH_H
#define PAWL_WORKERS_ATTACH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/delivery_ring.h"
#include "shm/lane.h"
#include "shm/log_segment.h"
#include "shm/task.h"
#include "shm/wire.h"

enum {
    PAWL_REPORT_ENTRIES = 32, /* unreported entries that make the bell ring */
};
#define PAWL_REPORT_AGE_NS    UINT64_C(15000000)    /* age of the oldest unreported one that does */
#define PAWL_RECONNECT_MAX_NS UINT64_C(60000000000) /* without a scheduler for so long: give up */

/* What messages mean to the worker. Called during pawl_attach_receive(). */
struct pawl_attach_events {
    void (*on_lane)(void *ctx);                                /* attached: make the offers now */
    int (*on_queue)(void *ctx, const void *context, size_t n); /* 0 or an error: the queue is not taken */
    void (*on_kill)(void *ctx, const struct pawl_wire_kill *kill);
    void (*on_adopt)(void *ctx, const struct pawl_wire_adopt *adopt);
    void (*on_lost)(void *ctx); /* the scheduler is gone: positions and tickets mean nothing now */
};

struct pawl_attach {
    int state_dirfd; /* borrowed */
    uint32_t number;
    const struct pawl_attach_events *events;
    void *ctx;

    struct pawl_wire wire; /* fd -1: not connected */
    sigset_t wait_mask;    /* blocked while it sleeps; set by the caller after init */
    uint64_t lost_at_ns;   /* since when there is no lane (monotonic) */
    uint64_t try_at_ns;    /* when to connect next */
    uint64_t wait_ns;      /* back-off */

    bool has_lane;
    uint32_t lane_number;
    uint64_t epoch;
    char mark[PAWL_NAME_BYTES];
    struct pawl_segment world;
    struct pawl_lane_writer lane;
    struct pawl_log_view *view;
    int scheduler_bell, own_bell;
    uint32_t unreported; /* entries published since the scheduler was last looked at */
    uint64_t oldest_unreported_ns;

    bool has_queue;
    bool leaving; /* claim no more, then say LEFT */
    bool exiting;
    uint32_t queue, slot_number;
    struct pawl_claimer claimer;
};

/* Return: 0 or -ENOMEM. Does not connect. */
int pawl_attach_init(struct pawl_attach *attach, int state_dirfd, uint32_t number,
                     const struct pawl_attach_events *events, void *ctx, uint64_t now_ns);
void pawl_attach_fini(struct pawl_attach *attach);

/**
 * pawl_attach_connect - connect if it is time to; never blocks
 * Return: when to call again (UINT64_MAX: connected).
 */
uint64_t pawl_attach_connect(struct pawl_attach *attach, uint64_t now_ns);

/* Handle every message that has arrived. A lost connection is cut and told by on_lost. Never blocks. */
void pawl_attach_receive(struct pawl_attach *attach, uint64_t now_ns);

/* Queue a message and send what the socket takes. Failure shows at the next receive. */
void pawl_attach_send(struct pawl_attach *attach, uint16_t type, const void *body, size_t n, const void *more,
                      size_t more_bytes);

/* Cut all ties and tell on_lost. */
void pawl_attach_cut(struct pawl_attach *attach, uint64_t now_ns);

/**
 * pawl_attach_push - a settlement into the lane; visible after pawl_attach_publish()
 * Return: 0; PAWL_E_QUEUE_FULL (pawl_attach_wait_room()); PAWL_E_CLOSED (no lane); PAWL_E_LIMIT.
 */
int pawl_attach_push(struct pawl_attach *attach, const struct pawl_settlement *settlement, const void *bytes,
                     uint64_t now_ns);
void pawl_attach_publish(struct pawl_attach *attach);

/* How soon what waits in the lane is to be looked at. */
enum pawl_report {
    PAWL_REPORT_IN_TIME, /* once enough of it waits, or for long enough; then as SOON */
    PAWL_REPORT_SOON,    /* within some milliseconds */
    PAWL_REPORT_NOW,
};

/* Ring the scheduler's bell if it sleeps, it is time, and it does not look by itself soon enough. */
void pawl_attach_report(struct pawl_attach *attach, uint64_t now_ns, enum pawl_report when);

/* The lane is full: publish, ring, sleep until something may have changed (bounded), handle messages. */
void pawl_attach_wait_room(struct pawl_attach *attach);

/* Sleep until a message or the bell came, at most so long (below a second), and handle messages. */
void pawl_attach_wait(struct pawl_attach *attach, uint64_t wait_ns);

/* Claim and begin one delivery. 0; PAWL_E_QUEUE_EMPTY (also when there is no queue or it is being left);
 * PAWL_E_STALE_RECEIPT: *claimed_out is ours but its descriptor does not hold. */
int pawl_attach_claim(struct pawl_attach *attach, struct pawl_claimed *claimed_out);
bool pawl_attach_claimable(const struct pawl_attach *attach);

/**
 * pawl_attach_task - a checked view of a claimed delivery's task, read in place
 * Valid until its result is pushed. May take messages from the socket (a segment that is not known yet), and
 * waits for them up to two seconds.
 * Return: 0; PAWL_E_NOT_FOUND (no such memory), PAWL_E_BAD_MESSAGE, PAWL_E_CLOSED.
 */
int pawl_attach_task(struct pawl_attach *attach, const struct pawl_claimed *claimed,
                     struct pawl_task *task_out);

/* Leave the queue: unmap it and say LEFT. */
void pawl_attach_leave(struct pawl_attach *attach);

/* Results below this position of the lane are durable; 0 without a lane. */
uint64_t pawl_attach_durable(const struct pawl_attach *attach);

/* Our own doorbell flag, or NULL without a lane. */
_Atomic uint32_t *pawl_attach_sleeping(struct pawl_attach *attach);

/* Tell everybody who looks what runs: process group and start (0: nothing). */
void pawl_attach_show_job(struct pawl_attach *attach, uint64_t process_group, uint64_t started_at_ns);

#endif
