/*
 * queue.h - a batch's delivery ring, what lies in it, and the workers that claim from it.
 *
 * Runs in: scheduler. One queue for each open batch; its number is the batch's. The private table of what was
 * placed where is the arbiter: claim words are only looked at to see who has it.
 */
#ifndef PAWL_SCHEDULER_QUEUE_H
#define PAWL_SCHEDULER_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/loop.h"
#include "shm/delivery_ring.h"

struct pawl_worker; /* lanes.h */

enum {
    PAWL_QUEUE_RING_SLOTS = 4096, /* at most; a small -j begins with less */
    PAWL_QUEUE_WORKERS_MAX = 4096,
};

struct pawl_queue {
    struct pawl_queue *next;
    struct pawl_batch *batch;
    uint32_t number;
    struct pawl_delivery_ring ring;
    struct pawl_delivery **deliveries; /* by slot */
    int context_fd;                    /* sealed memfd, once somebody needed it; -1 */
    uint32_t slots;                    /* -j */
    uint32_t in_flight;                /* placed, not settled */
    uint32_t wanted;                   /* workers: the most that could be busy so far */
    struct pawl_worker **workers;      /* by slot number - 1 */
    uint32_t worker_count;
    uint32_t placed_count; /* since the doorbells were last rung */
    uint32_t ring_at;      /* where to look for the next sleeper */
};

/* Effects of the core (loop.c puts them into the table). */
int pawl_queue_open(struct pawl_loop *loop, struct pawl_batch *batch);
void pawl_queue_close(struct pawl_loop *loop, struct pawl_batch *batch);
int pawl_queue_place(struct pawl_loop *loop, struct pawl_delivery *delivery, const void *task, size_t bytes);
int pawl_queue_recall(struct pawl_loop *loop, struct pawl_delivery *delivery);
void pawl_queue_forget(struct pawl_loop *loop, struct pawl_delivery *delivery);

struct pawl_queue *pawl_queue_find(struct pawl_loop *loop, uint32_t number);

/* What its jobs are surrounded with: a sealed memfd that stays the queue's, or an error. */
int pawl_queue_context_fd(struct pawl_loop *loop, struct pawl_queue *queue);

/* The delivery in this slot if the generation is right; NULL otherwise. */
struct pawl_delivery *pawl_queue_delivery(const struct pawl_queue *queue, uint32_t slot, uint32_t generation);

/**
 * pawl_queue_mend - places anew what a broken claim word hides
 *
 * Workers can write the words. One that says neither "ready" nor "claimed by somebody who lives", at two
 * looks in a row, while no begin was told of, is a delivery that nobody will ever take: it goes again.
 *
 * Return: when to look next (boottime), UINT64_MAX: nothing is placed.
 */
uint64_t pawl_queue_mend(struct pawl_loop *loop);

/* Makes what was placed this turn visible, and wakes as many sleepers as there is new work. */
void pawl_queue_publish_all(struct pawl_loop *loop);

#endif
