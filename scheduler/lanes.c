/*
 * lanes.c - takes settlements out of the workers' lanes, and speaks with the workers.
 *
 * Runs in: scheduler. What a lane holds is copied, checked against the private table of what was placed and
 * against the claim word, and only then believed. Who works for which queue: roster.c.
 */
#include "scheduler/lanes.h"

#include <stdlib.h>
#include <string.h>

#include <signal.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "scheduler/figures.h"
#include "scheduler/handlers.h"
#include "scheduler/roster.h"
#include "scheduler/stillborn.h"
#include "shm/doorbell.h"
#include "shm/error.h"

#define SHORT_JOB_NS UINT64_C(5000000)

enum { ENTRIES_A_TURN = 256 /* of one lane */ };

/* ---- settlements ---- */

/* A lane that lies, or a worker that does not speak properly: it ends, its work goes to others. */
static void condemn(struct pawl_loop *loop, struct pawl_worker *worker, const char *why)
{
    if (worker->bad)
        return;
    pawl_log(PAWL_LOG_WARNING, "worker %u (pid %d) is killed: %s", worker->number, (int)worker->pid, why);
    worker->bad = true;
    if (worker->lane)
        pawl_counter_add(&loop->world->counters, PAWL_COUNTER_LANES_CLOSED_BAD, 1);
    if (worker->pidfd >= 0)
        (void)pidfd_send_signal(worker->pidfd, SIGKILL, NULL, 0);
}

/* Parts of a result must fit into its bytes. */
static bool parts_hold(const struct pawl_settlement *settlement)
{
    if (settlement->stdout_bytes > settlement->arena_bytes ||
        settlement->stderr_bytes > settlement->arena_bytes - settlement->stdout_bytes)
        return false;
    if (settlement->arena_bytes - settlement->stdout_bytes - settlement->stderr_bytes >
        PAWL_NAMED_OUTPUT_BYTES)
        return false;
    if (settlement->stdout_bytes > PAWL_INLINE_OUTPUT_BYTES ||
        settlement->stderr_bytes > PAWL_INLINE_OUTPUT_BYTES)
        return false;
    if ((settlement->flags & PAWL_SETTLE_STDOUT_FILE) &&
        settlement->stdout_bytes != sizeof(struct pawl_output_file))
        return false;
    if ((settlement->flags & PAWL_SETTLE_STDERR_FILE) &&
        settlement->stderr_bytes != sizeof(struct pawl_output_file))
        return false;
    return settlement->outcome <= PAWL_OUTCOME_CAPTURE && settlement->attempt > 0 &&
           settlement->attempt <= UINT16_MAX;
}

static struct pawl_delivery *find_delivery(struct pawl_loop *loop, struct pawl_worker *worker,
                                           const struct pawl_settlement *settlement)
{
    if (settlement->slot == PAWL_SLOT_ADOPTED)
        return pawl_roster_adopted(loop->lanes, worker->number, settlement->generation);
    struct pawl_queue *queue = pawl_queue_find(loop, settlement->queue);
    struct pawl_delivery *delivery =
        queue ? pawl_queue_delivery(queue, settlement->slot, settlement->generation) : NULL;
    if (!delivery)
        return NULL;
    struct pawl_claim claim = pawl_delivery_ring_look(&queue->ring, settlement->slot);
    if (claim.generation != settlement->generation || claim.lane != worker->lane ||
        (claim.state != PAWL_CLAIM_BEGUN && claim.state != PAWL_CLAIM_HELD))
        return NULL;
    return delivery;
}

/* 0, or why it does not hold. */
static const char *take(struct pawl_loop *loop, struct pawl_worker *worker,
                        const struct pawl_settlement *settlement, const void *bytes)
{
    struct pawl_delivery *delivery = find_delivery(loop, worker, settlement);
    if (!delivery)
        return "it settled what it does not have";
    pawl_stillborn_none(loop, worker);
    switch ((enum pawl_settlement_type)settlement->type) {
    case PAWL_SETTLE_BEGUN:
        if (settlement->attempt < delivery->attempt || settlement->attempt > UINT16_MAX)
            return "it began an attempt that cannot be";
        pawl_counter_add(&loop->world->counters, PAWL_COUNTER_TASKS_BEGUN, 1);
        pawl_core_begun(loop->core, loop->now, delivery, worker->number, settlement->attempt,
                        settlement->started_at_ns);
        if (loop->secure_at_ns == 0 && !pawl_journal_is_secure(loop->journal))
            loop->secure_at_ns = loop->now.boottime_ns + SHORT_JOB_NS;
        return NULL;
    case PAWL_SETTLE_RESULT:
        if (!parts_hold(settlement))
            return "its result does not hold";
        break;
    case PAWL_SETTLE_DROPPED:
        break;
    default:
        return "it settled in an unknown way";
    }
    pawl_counter_add(&loop->world->counters, PAWL_COUNTER_TASKS_SETTLED, 1);
    loop->turn_settled++;
    pawl_core_settled(loop->core, loop->now, delivery, worker->number, settlement, bytes);
    return NULL;
}

/* At most @limit entries. True when there may be more. */
static bool drain_lane(struct pawl_loop *loop, struct pawl_worker *worker, uint32_t limit)
{
    struct pawl_settlement settlement;
    const void *bytes;
    uint32_t count = 0;
    const char *why = NULL;
    int got = 0;

    while (!why && count < limit && (got = pawl_lane_next(&worker->reader, &settlement, &bytes)) > 0) {
        count++;
        if (settlement.arena_bytes > 0)
            memcpy(loop->lanes->copy, bytes, settlement.arena_bytes);
        why = take(loop, worker, &settlement, loop->lanes->copy);
        /* One settlement is one batch: a turn may bring more than a batch can hold. */
        pawl_loop_cut(loop);
    }
    if (got < 0)
        why = "its lane does not hold";
    if (count > 0)
        pawl_lane_release(&worker->reader);
    if (why)
        condemn(loop, worker, why);
    return !why && count == limit;
}

bool pawl_lanes_drain(struct pawl_loop *loop)
{
    bool more = false;
    for (uint32_t number = 1; number < loop->lanes->number_end; number++) {
        struct pawl_worker *worker = loop->lanes->workers[number];
        if (worker && worker->lane && !worker->bad)
            more |= drain_lane(loop, worker, ENTRIES_A_TURN);
    }
    return more;
}

bool pawl_lanes_waiting(const struct pawl_loop *loop)
{
    for (uint32_t number = 1; number < loop->lanes->number_end; number++) {
        struct pawl_worker *worker = loop->lanes->workers[number];
        if (worker && worker->lane && !worker->bad && pawl_ring_peek(&worker->reader.ring) != 0)
            return true;
    }
    return false;
}

void pawl_lanes_tell_durable(struct pawl_loop *loop)
{
    for (uint32_t number = 1; number < loop->lanes->number_end; number++) {
        struct pawl_worker *worker = loop->lanes->workers[number];
        if (!worker || !worker->lane || worker->bad) /* what was refused of a bad one never becomes durable */
            continue;
        uint64_t position = pawl_lane_position(&worker->reader);
        if (worker->waiting_lsn == 0 && position > worker->told_position) {
            worker->waiting_position = position;
            worker->waiting_lsn = pawl_journal_last_lsn(loop->journal);
        }
        if (worker->waiting_lsn != 0 && worker->waiting_lsn <= loop->durable_lsn) {
            /* Release: pairs with the worker's acquire in pawl_lane_durable(). */
            atomic_store_explicit(&loop->world->lane[worker->lane].durable_position, worker->waiting_position,
                                  memory_order_release);
            worker->told_position = worker->waiting_position;
            worker->waiting_lsn = 0;
        }
    }
}

/* ---- the end of a worker ---- */

/* What it had claimed goes on elsewhere. Its lane was drained: what it committed counts. */
static void lose_claims(struct pawl_loop *loop, struct pawl_worker *worker)
{
    struct pawl_queue *queue = worker->queue;
    for (uint32_t slot = 0; queue && slot < queue->ring.slot_count; slot++) {
        struct pawl_delivery *delivery = queue->deliveries[slot];
        if (!delivery)
            continue;
        struct pawl_claim claim = pawl_delivery_ring_look(&queue->ring, slot);
        bool claimed = claim.lane == worker->lane && claim.generation == delivery->generation &&
                       (claim.state == PAWL_CLAIM_HELD || claim.state == PAWL_CLAIM_BEGUN);
        /* A begin that we were told of stands, whatever somebody wrote into the word since. */
        if (claimed || (delivery->begun && delivery->worker == worker->number))
            pawl_core_worker_lost(loop->core, loop->now, delivery, claim.state == PAWL_CLAIM_BEGUN,
                                  worker->number);
    }
    struct pawl_delivery *delivery;
    while ((delivery = pawl_roster_adopted(loop->lanes, worker->number, 0)))
        pawl_core_worker_lost(loop->core, loop->now, delivery, true, worker->number);
}

static void on_worker_down(struct pawl_loop *loop, const struct pawl_wire_process *process)
{
    struct pawl_worker *worker = loop->lanes->workers[process->number];
    if (!worker || worker->life == PAWL_WORKER_NONE || worker->pid != (pid_t)process->pid)
        return;
    if (worker->lane && !worker->bad)
        while (drain_lane(loop, worker, ENTRIES_A_TURN))
            ;
    bool clean = worker->life == PAWL_WORKER_EXITING, useful = worker->useful;
    if (!clean)
        pawl_figures_worker_lost(loop);
    lose_claims(loop, worker);
    /* It may have been the one that was woken for new work: somebody else must look. */
    if (worker->queue)
        worker->queue->placed_count += worker->queue->in_flight;
    pawl_roster_remove(loop, worker);
    pawl_lanes_rebalance(loop);
    if (!clean && !useful)
        pawl_stillborn_count(loop, process->status);
}

static void on_worker_up(struct pawl_loop *loop, const struct pawl_wire_process *process,
                         struct pawl_wire_message *message)
{
    struct pawl_worker *worker = pawl_roster_get(loop, process->number);
    if (!worker || worker->life != PAWL_WORKER_NONE)
        return;
    worker->life = PAWL_WORKER_FORKED;
    worker->pid = (pid_t)process->pid;
    worker->since_ns = process->since_ns;
    if (message->header.fd_count > 0) {
        worker->pidfd = message->fds[0];
        message->fds[0] = -1;
    }
    if (loop->options->restarted && !loop->serving &&
        loop->lanes->told_count < loop->options->workers_alive) {
        worker->offers_due = true;
        loop->lanes->told_count++;
    }
    if (worker->connection)
        pawl_roster_attach(loop, worker);
}

void pawl_lanes_supervisor_message(struct pawl_loop *loop, struct pawl_wire_message *message)
{
    const struct pawl_wire_process *process = message->body;
    if (pawl_handlers_message(loop, message))
        return;
    if (message->header.bytes < sizeof *process || process->number > PAWL_WORKERS_MAX)
        return;
    if (process->number == 0) {
        if (message->header.type == PAWL_WIRE_WORKER_DOWN && process->status < 0)
            pawl_stillborn_count(loop, process->status);
        return;
    }
    if (message->header.type == PAWL_WIRE_WORKER_UP)
        on_worker_up(loop, process, message);
    else if (message->header.type == PAWL_WIRE_WORKER_DOWN)
        on_worker_down(loop, process);
}

/* ---- connections of workers ---- */

bool pawl_lanes_connected(struct pawl_loop *loop, struct pawl_connection *connection, uint32_t number)
{
    struct pawl_worker *worker =
        number > 0 && number <= PAWL_WORKERS_MAX ? pawl_roster_get(loop, number) : NULL;
    if (!worker || worker->connection || worker->lane ||
        (worker->life != PAWL_WORKER_NONE && worker->pid != connection->pid)) {
        pawl_log(PAWL_LOG_WARNING, "pid %d says that it is worker %u, which it is not", (int)connection->pid,
                 number);
        return false;
    }
    worker->connection = connection;
    /* It may be quicker than the supervisor's word of it. */
    if (worker->life == PAWL_WORKER_FORKED)
        pawl_roster_attach(loop, worker);
    return true;
}

void pawl_lanes_supervisor_gone(struct pawl_loop *loop)
{
    if (loop->lanes)
        loop->lanes->supervisor = NULL;
}

void pawl_lanes_disconnected(struct pawl_loop *loop, struct pawl_connection *connection)
{
    struct pawl_worker *worker = loop->lanes->workers[connection->worker];
    if (!worker || worker->connection != connection)
        return;
    worker->connection = NULL;
    /* Never forked by our supervisor: what it did must not stick to the number. */
    if (worker->life == PAWL_WORKER_NONE) {
        pawl_roster_remove(loop, worker);
        return;
    }
    /* Its death will be told by the supervisor. One that only hung up cannot be told anything any more. */
    if (worker->lane && worker->life != PAWL_WORKER_EXITING)
        condemn(loop, worker, "it hung up");
}

static void on_offer(struct pawl_loop *loop, struct pawl_worker *worker,
                     const struct pawl_wire_message *message)
{
    struct pawl_wire_offer offer;

    /* The result of an ended one comes through the lane once it is adopted: the worker keeps it until it is
     * durable, so another death of ours does not lose it. */
    memcpy(&offer, message->body, sizeof offer);
    offer.run_id[sizeof offer.run_id - 1] = 0;
    struct pawl_delivery *delivery =
        loop->serving ? NULL : pawl_core_adopt(loop->core, loop->now, &offer, worker->number);
    struct pawl_wire_adopt answer = {.number = offer.number};
    if (delivery && pawl_roster_adopt(loop->lanes, delivery, worker->number) == 0) {
        pawl_stillborn_none(loop, worker);
        answer.keep = 1;
        answer.ticket = delivery->ticket;
        answer.queue = pawl_batch_number(delivery->batch);
    } else if (delivery) {
        delivery->slot = PAWL_SLOT_ADOPTED;
        pawl_core_worker_lost(loop->core, loop->now, delivery, true, worker->number);
        delivery = NULL;
    }
    pawl_log(PAWL_LOG_INFO, "worker %u offers step %u of %s, attempt %u: %s", worker->number, offer.step,
             offer.run_id, offer.attempt, delivery ? "adopted" : "refused");
    pawl_control_reply(worker->connection, PAWL_WIRE_ADOPT, message->header.tag, &answer, sizeof answer, NULL,
                       0);
}

void pawl_lanes_message(struct pawl_loop *loop, struct pawl_connection *connection,
                        struct pawl_wire_message *message)
{
    struct pawl_worker *worker = loop->lanes->workers[connection->worker];
    if (!worker || worker->connection != connection || worker->bad)
        return;
    if (!worker->lane) {
        condemn(loop, worker, "it spoke before it had a lane");
        return;
    }
    switch (message->header.type) {
    case PAWL_WIRE_LEFT:
        if (worker->life == PAWL_WORKER_LEAVING) {
            worker->life = PAWL_WORKER_IDLE;
            pawl_lanes_rebalance(loop);
        }
        break;
    case PAWL_WIRE_OFFER:
        if (message->header.bytes < sizeof(struct pawl_wire_offer))
            condemn(loop, worker, "its offer does not hold");
        else
            on_offer(loop, worker, message);
        break;
    case PAWL_WIRE_OFFERS_END:
        worker->offers_due = false;
        break;
    default:
        condemn(loop, worker, "it sent an unknown message");
    }
}

bool pawl_lanes_all_offered(const struct pawl_loop *loop)
{
    if (loop->options->restarted && loop->lanes->told_count < loop->options->workers_alive)
        return false;
    for (uint32_t number = 1; number < loop->lanes->number_end; number++)
        if (loop->lanes->workers[number] && loop->lanes->workers[number]->offers_due)
            return false;
    return true;
}

void pawl_lanes_kill_silent(struct pawl_loop *loop)
{
    for (uint32_t number = 1; number < loop->lanes->number_end; number++) {
        struct pawl_worker *worker = loop->lanes->workers[number];
        if (worker && worker->offers_due)
            condemn(loop, worker, "it did not come back after the restart");
    }
}

/* ---- words to workers ---- */

bool pawl_lanes_wake(struct pawl_worker *worker)
{
    if (!worker->lane || worker->bad || !worker->connection)
        return false;
    struct pawl_lane_memory *memory = pawl_lane_memory_of(&worker->reader.segment);
    if (!pawl_doorbell_must_ring(&memory->sleeping))
        return false;
    /* One that sleeps beside a running job looks for more by itself when that ends. Relaxed: a hint. */
    if (atomic_load_explicit(&memory->job, memory_order_relaxed) != 0)
        return false;
    pawl_doorbell_write(worker->bell_fd);
    return true;
}

void pawl_lanes_signal(struct pawl_loop *loop, struct pawl_delivery *delivery, uint64_t grace_ns)
{
    struct pawl_worker *worker =
        delivery->worker < loop->lanes->number_end ? loop->lanes->workers[delivery->worker] : NULL;
    if (!worker || !worker->connection)
        return; /* it is dying: that ends the job too */
    struct pawl_wire_kill body = {.queue = delivery->batch ? pawl_batch_number(delivery->batch) : 0,
                                  .slot = delivery->slot,
                                  .generation = delivery->generation,
                                  .grace_ns = grace_ns};
    pawl_control_reply(worker->connection, PAWL_WIRE_KILL, 0, &body, sizeof body, NULL, 0);
}
