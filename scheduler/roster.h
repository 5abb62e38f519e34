/*
 * roster.h - the table of workers, and who works for which queue: what lanes.c and roster.c share.
 *
 * Runs in: scheduler. Private to those two files.
 */
#ifndef PAWL_SCHEDULER_ROSTER_H
#define PAWL_SCHEDULER_ROSTER_H

#include "scheduler/lanes.h"

/* A delivery that a worker brought along from before a restart. */
struct pawl_adopted {
    struct pawl_adopted *next;
    struct pawl_delivery *delivery;
    uint32_t worker;
};

struct pawl_lanes {
    struct pawl_worker *workers[PAWL_WORKERS_MAX + 1]; /* by number; NULL: never heard of */
    uint32_t number_end;                               /* above the highest number in use */
    bool lane_used[PAWL_LANES_MAX];
    uint32_t next_lane;
    uint32_t asked;         /* workers that the supervisor was asked to keep */
    uint32_t told_count;    /* of a predecessor's workers, those that the supervisor has named */
    bool dirty;             /* assign() has something to do */
    bool leaving;           /* everybody was told to go */
    uint64_t idle_until_ns; /* boottime; 0: nobody is idle in vain */
    uint32_t stillborn;     /* workers in a row that ended before they did anything */
    uint32_t ticket;
    struct pawl_adopted *adopted;
    int bell_fd; /* the scheduler's own eventfd */
    struct pawl_connection *supervisor;
    struct pawl_io_request bell_read;
    unsigned char copy[PAWL_LANE_ARENA_BYTES];
};

/* The entry of @number, made when missing (life NONE). NULL: no memory. */
struct pawl_worker *pawl_roster_get(struct pawl_loop *loop, uint32_t number);
void pawl_roster_remove(struct pawl_loop *loop, struct pawl_worker *worker);

/* It is forked and connected: make its lane, tell it. */
void pawl_roster_attach(struct pawl_loop *loop, struct pawl_worker *worker);

int pawl_roster_adopt(struct pawl_lanes *lanes, struct pawl_delivery *delivery, uint32_t worker);
/* By ticket; ticket 0: any of this worker. */
struct pawl_delivery *pawl_roster_adopted(const struct pawl_lanes *lanes, uint32_t worker, uint32_t ticket);
/* Jobs of @batch that were adopted and have not ended: they keep workers busy, and are not in its ring. */
uint32_t pawl_roster_adopted_count(const struct pawl_lanes *lanes, const struct pawl_batch *batch);

#endif
