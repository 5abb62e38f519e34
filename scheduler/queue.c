/*
 * queue.c - places tasks in delivery rings, takes them back, wakes who sleeps.
 *
 * Runs in: scheduler. Bytes of a task go into task memory first, then its descriptor into the ring; both are
 * seen by workers at publish(), once a turn.
 */
#include "scheduler/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "scheduler/lanes.h"
#include "scheduler/roster.h"
#include "shm/doorbell.h"
#include "shm/error.h"
#include "shm/task.h"

enum { RING_SLOTS_MIN = 256 };

#define PLACE_AGAIN_NS UINT64_C(100000000)
#define MEND_NS        UINT64_C(2000000000)

static int seal_bytes(const void *bytes, size_t n)
{
    int fd = memfd_create("pawl-context", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    size_t done = 0;
    while (done < n) {
        ssize_t written = write(fd, (const char *)bytes + done, n - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            break;
        done += (size_t)written;
    }
    if (done == n && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0)
        return fd;
    int error = done < n ? -ENOSPC : -errno;
    close(fd);
    return error;
}

/* The context as the command sent it, with the run's name: tasks that a command packed do not hold it. */
static int make_context(const void *bytes, size_t n, const char *run_id)
{
    struct pawl_context context;
    int result = pawl_context_open(bytes, n, &context);
    if (result < 0)
        return result;
    const char **env = calloc((size_t)context.env_count + 1, sizeof *env);
    if (!env)
        return -ENOMEM;
    const char *at = context.env;
    for (uint32_t i = 0; i < context.env_count; i++, at += strlen(at) + 1)
        env[i] = at;
    struct pawl_context_spec spec = {
        .run_id = run_id, .dir = context.dir, .env = env, .umask = context.umask, .nice = context.nice};
    memcpy(spec.limits, context.limits, sizeof spec.limits);
    size_t bytes_packed = pawl_context_packed_bytes(&spec);
    void *packed = bytes_packed ? aligned_alloc(8, (bytes_packed + 7) & ~(size_t)7) : NULL;
    int64_t written = packed ? pawl_context_pack(&spec, packed, bytes_packed) : -ENOMEM;
    result = written < 0 ? (int)written : seal_bytes(packed, (size_t)written);
    free(packed);
    free(env);
    return result;
}

int pawl_queue_context_fd(struct pawl_loop *loop, struct pawl_queue *queue)
{
    size_t n;
    if (queue->context_fd >= 0)
        return queue->context_fd;
    const void *context = pawl_batch_context(queue->batch, &n);
    struct pawl_run *run = pawl_core_run_next(loop->core, NULL);
    while (run && pawl_run_batch(run) != queue->batch)
        run = pawl_core_run_next(loop->core, run);
    int fd = make_context(context, n, run ? pawl_run_id(run) : "");
    if (fd >= 0)
        queue->context_fd = fd;
    return fd;
}

/* Room for what the core may have in flight: all of it when tasks are short. */
static uint32_t ring_slots(uint32_t slots)
{
    uint32_t count = RING_SLOTS_MIN;
    while (count < PAWL_QUEUE_RING_SLOTS && count < (uint64_t)slots * 129)
        count *= 2;
    return count;
}

static void free_queue(struct pawl_queue *queue)
{
    pawl_delivery_ring_destroy(&queue->ring);
    if (queue->context_fd >= 0)
        close(queue->context_fd);
    free(queue->deliveries);
    free(queue->workers);
    free(queue);
}

int pawl_queue_open(struct pawl_loop *loop, struct pawl_batch *batch)
{
    struct pawl_queue *queue = calloc(1, sizeof *queue);
    if (!queue)
        return -ENOMEM;
    queue->batch = batch;
    queue->number = pawl_batch_number(batch);
    queue->slots = pawl_batch_slots(batch);
    if (queue->slots > PAWL_QUEUE_WORKERS_MAX)
        queue->slots = PAWL_QUEUE_WORKERS_MAX;
    int error = pawl_delivery_ring_create(ring_slots(queue->slots), &queue->ring);
    if (error) {
        free(queue);
        return error;
    }
    queue->context_fd = -1;
    queue->deliveries = calloc(queue->ring.slot_count, sizeof(struct pawl_delivery *));
    queue->workers = calloc(queue->slots, sizeof(struct pawl_worker *));
    if (!queue->deliveries || !queue->workers) {
        free_queue(queue);
        return -ENOMEM;
    }
    queue->wanted = 1; /* it attaches while the submission is on its way to the disk */
    queue->next = loop->queues;
    loop->queues = queue;
    loop->queue_count++;
    pawl_batch_set_loop(batch, queue);
    pawl_lanes_rebalance(loop);
    return 0;
}

void pawl_queue_close(struct pawl_loop *loop, struct pawl_batch *batch)
{
    struct pawl_queue *queue = pawl_batch_loop(batch);
    if (!queue)
        return;
    pawl_batch_set_loop(batch, NULL);
    for (uint32_t i = 0; i < queue->slots; i++)
        if (queue->workers[i])
            pawl_lanes_leave_queue(loop, queue->workers[i]);
    for (struct pawl_queue **link = &loop->queues; *link; link = &(*link)->next)
        if (*link == queue) {
            *link = queue->next;
            break;
        }
    loop->queue_count--;
    free_queue(queue);
    pawl_lanes_rebalance(loop);
}

struct pawl_queue *pawl_queue_find(struct pawl_loop *loop, uint32_t number)
{
    for (struct pawl_queue *queue = loop->queues; queue; queue = queue->next)
        if (queue->number == number)
            return queue;
    return NULL;
}

static void want_workers(struct pawl_loop *loop, struct pawl_queue *queue)
{
    uint64_t busy = queue->in_flight + (uint64_t)pawl_roster_adopted_count(loop->lanes, queue->batch);
    uint32_t wanted = busy < queue->slots ? (uint32_t)busy : queue->slots;
    if (wanted > queue->wanted) {
        queue->wanted = wanted;
        pawl_lanes_rebalance(loop);
    }
}

int pawl_queue_place(struct pawl_loop *loop, struct pawl_delivery *delivery, const void *task, size_t bytes)
{
    struct pawl_queue *queue = pawl_batch_loop(delivery->batch);
    uint32_t segment, byte_offset;
    bool is_new;

    if (!queue)
        return PAWL_E_STATE;
    if (queue->ring.taken == queue->ring.slot_count)
        return PAWL_E_QUEUE_FULL;
    int error = pawl_log_pool_append(&loop->pool, task, bytes, &segment, &byte_offset, &is_new);
    if (error) {
        /* A settlement frees memory and tries again; when nothing is in flight, only time can. */
        loop->place_again_at_ns = loop->now.boottime_ns + PLACE_AGAIN_NS;
        return error;
    }
    if (is_new)
        pawl_lanes_tell_segment(loop, segment);
    struct pawl_descriptor descriptor = {
        .log_segment = segment,
        .byte_offset = byte_offset,
        .bytes = (uint32_t)bytes,
        .instance = delivery->instance,
        .step = delivery->step,
        .attempt = delivery->attempt,
    };
    error = pawl_delivery_ring_place(&queue->ring, &descriptor, delivery->attempt - 1, &delivery->slot,
                                     &delivery->generation);
    if (error) {
        pawl_log_pool_release(&loop->pool, segment);
        return error;
    }
    delivery->log_segment = segment;
    queue->deliveries[delivery->slot] = delivery;
    queue->in_flight++;
    queue->placed_count++;
    pawl_counter_add(&loop->world->counters, PAWL_COUNTER_TASKS_PLACED, 1);
    want_workers(loop, queue);
    return 0;
}

static void release(struct pawl_loop *loop, struct pawl_queue *queue, struct pawl_delivery *delivery)
{
    queue->deliveries[delivery->slot] = NULL;
    queue->in_flight--;
    pawl_log_pool_release(&loop->pool, delivery->log_segment);
}

int pawl_queue_recall(struct pawl_loop *loop, struct pawl_delivery *delivery)
{
    struct pawl_queue *queue = delivery->batch ? pawl_batch_loop(delivery->batch) : NULL;
    if (!queue || delivery->slot == PAWL_SLOT_ADOPTED)
        return PAWL_E_STATE;
    int error = pawl_delivery_ring_recall(&queue->ring, delivery->slot, delivery->generation);
    if (error)
        return PAWL_E_STATE;
    release(loop, queue, delivery);
    pawl_counter_add(&loop->world->counters, PAWL_COUNTER_TASKS_RECALLED, 1);
    return 0;
}

void pawl_queue_forget(struct pawl_loop *loop, struct pawl_delivery *delivery)
{
    struct pawl_queue *queue = delivery->batch ? pawl_batch_loop(delivery->batch) : NULL;
    if (delivery->slot == PAWL_SLOT_ADOPTED) {
        pawl_lanes_forget_adopted(loop, delivery);
        return;
    }
    if (!queue || queue->deliveries[delivery->slot] != delivery)
        return;
    (void)pawl_delivery_ring_settle(&queue->ring, delivery->slot, delivery->generation);
    release(loop, queue, delivery);
}

struct pawl_delivery *pawl_queue_delivery(const struct pawl_queue *queue, uint32_t slot, uint32_t generation)
{
    if (slot >= queue->ring.slot_count)
        return NULL;
    struct pawl_delivery *delivery = queue->deliveries[slot];
    return delivery && delivery->generation == generation ? delivery : NULL;
}

/* ---- broken words ---- */

static bool word_holds(const struct pawl_loop *loop, const struct pawl_queue *queue,
                       const struct pawl_delivery *delivery)
{
    struct pawl_claim claim = pawl_delivery_ring_look(&queue->ring, delivery->slot);
    if (claim.generation != delivery->generation)
        return false;
    if (claim.state == PAWL_CLAIM_READY)
        return true;
    return (claim.state == PAWL_CLAIM_HELD || claim.state == PAWL_CLAIM_BEGUN) &&
           claim.lane < PAWL_LANES_MAX && loop->lanes->lane_used[claim.lane];
}

static void mend_queue(struct pawl_loop *loop, struct pawl_queue *queue)
{
    for (uint32_t slot = 0; slot < queue->ring.slot_count; slot++) {
        struct pawl_delivery *delivery = queue->deliveries[slot];
        if (!delivery || delivery->begun)
            continue;
        bool suspect = !word_holds(loop, queue, delivery);
        if (!suspect || !delivery->suspect) {
            delivery->suspect = suspect;
            continue;
        }
        pawl_log(PAWL_LOG_WARNING, "a claim word of queue %u does not hold: its task goes again",
                 queue->number);
        pawl_core_worker_lost(loop->core, loop->now, delivery, false, 0);
        pawl_loop_cut(loop);
    }
}

uint64_t pawl_queue_mend(struct pawl_loop *loop)
{
    bool placed = false;
    for (const struct pawl_queue *queue = loop->queues; queue && !placed; queue = queue->next)
        placed = queue->in_flight > 0;
    if (!placed)
        loop->mend_at_ns = 0;
    else if (loop->mend_at_ns == 0)
        loop->mend_at_ns = loop->now.boottime_ns + MEND_NS;
    if (!placed || loop->now.boottime_ns < loop->mend_at_ns)
        return placed ? loop->mend_at_ns : UINT64_MAX;
    loop->mend_at_ns = loop->now.boottime_ns + MEND_NS;
    struct pawl_queue *next;
    for (struct pawl_queue *queue = loop->queues; queue; queue = next) {
        next = queue->next; /* a run that ends closes its queue later, when that is durable */
        mend_queue(loop, queue);
    }
    return loop->mend_at_ns;
}

/* One bell for each new task at most, and only for those who sleep without a job. */
static void ring_sleepers(struct pawl_loop *loop, struct pawl_queue *queue)
{
    uint32_t left = queue->placed_count;
    for (uint32_t i = 0; i < queue->slots && left > 0; i++) {
        uint32_t at = queue->ring_at;
        queue->ring_at = at + 1 < queue->slots ? at + 1 : 0;
        struct pawl_worker *worker = queue->workers[at];
        if (worker && pawl_lanes_wake(worker)) {
            pawl_counter_add(&loop->world->counters, PAWL_COUNTER_DOORBELLS_RUNG, 1);
            left--;
        }
    }
    queue->placed_count = 0;
}

void pawl_queue_publish_all(struct pawl_loop *loop)
{
    for (struct pawl_queue *queue = loop->queues; queue; queue = queue->next)
        if (queue->placed_count > 0) {
            pawl_delivery_ring_publish(&queue->ring);
            ring_sleepers(loop, queue);
        }
}
