/*
 * roster.c - how many workers there are, and who works for which queue.
 *
 * Runs in: scheduler. Workers are asked of the supervisor; each belongs to one queue at a time; those that
 * nobody needs stay a few seconds for the next batch and are then let go.
 */
#include "scheduler/roster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <signal.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "shm/doorbell.h"
#include "shm/error.h"

#define IDLE_LINGER_NS UINT64_C(5000000000)

static void on_bell(struct pawl_io_request *request, int32_t result)
{
    (void)request;
    (void)result; /* all lanes are drained each turn */
}

int pawl_lanes_create(struct pawl_loop *loop)
{
    struct pawl_lanes *lanes = calloc(1, sizeof *lanes);
    if (!lanes)
        return -ENOMEM;
    lanes->number_end = 1;
    lanes->next_lane = 1;
    lanes->bell_read = (struct pawl_io_request){.done = on_bell, .ctx = loop};
    lanes->bell_fd = pawl_doorbell_open();
    if (lanes->bell_fd < 0) {
        int error = lanes->bell_fd;
        free(lanes);
        return error;
    }
    loop->lanes = lanes;
    return 0;
}

void pawl_lanes_destroy(struct pawl_loop *loop)
{
    struct pawl_lanes *lanes = loop->lanes;
    if (!lanes)
        return;
    for (uint32_t number = 1; number < lanes->number_end; number++)
        if (lanes->workers[number])
            pawl_roster_remove(loop, lanes->workers[number]);
    while (lanes->adopted) {
        struct pawl_adopted *adopted = lanes->adopted;
        lanes->adopted = adopted->next;
        free(adopted);
    }
    close(lanes->bell_fd);
    free(lanes);
    loop->lanes = NULL;
}

/* ---- the table ---- */

struct pawl_worker *pawl_roster_get(struct pawl_loop *loop, uint32_t number)
{
    struct pawl_lanes *lanes = loop->lanes;
    if (!lanes->workers[number]) {
        struct pawl_worker *worker = calloc(1, sizeof *worker);
        if (!worker)
            return NULL;
        worker->number = number;
        worker->pidfd = worker->bell_fd = -1;
        worker->reader.segment.fd = -1;
        lanes->workers[number] = worker;
        if (number >= lanes->number_end)
            lanes->number_end = number + 1;
    }
    return lanes->workers[number];
}

static void leave_slot(struct pawl_worker *worker)
{
    if (!worker->queue)
        return;
    worker->queue->workers[worker->slot_number - 1] = NULL;
    worker->queue->worker_count--;
    worker->queue = NULL;
    worker->slot_number = 0;
}

void pawl_roster_remove(struct pawl_loop *loop, struct pawl_worker *worker)
{
    struct pawl_lanes *lanes = loop->lanes;
    leave_slot(worker);
    if (worker->connection) {
        struct pawl_connection *connection = worker->connection;
        worker->connection = NULL;
        pawl_control_end(connection);
    }
    if (worker->lane) {
        lanes->lane_used[worker->lane] = false;
        pawl_lane_destroy(&worker->reader);
    }
    if (worker->bell_fd >= 0)
        close(worker->bell_fd);
    if (worker->pidfd >= 0)
        close(worker->pidfd);
    lanes->workers[worker->number] = NULL;
    free(worker);
    while (lanes->number_end > 1 && !lanes->workers[lanes->number_end - 1])
        lanes->number_end--;
}

static uint32_t free_lane(struct pawl_lanes *lanes)
{
    for (uint32_t looked = 0; looked < PAWL_LANES_MAX; looked++) {
        uint32_t lane = lanes->next_lane;
        lanes->next_lane = lane + 1 < PAWL_LANES_MAX ? lane + 1 : 1;
        if (!lanes->lane_used[lane])
            return lane;
    }
    return 0;
}

void pawl_roster_attach(struct pawl_loop *loop, struct pawl_worker *worker)
{
    struct pawl_lanes *lanes = loop->lanes;
    struct pawl_connection *connection = worker->connection;
    uint32_t lane = free_lane(lanes);
    int error = connection->pid == worker->pid ? 0 : PAWL_E_BAD_MESSAGE;
    if (!error)
        error = lane ? pawl_lane_create(loop->world, lane, &worker->reader) : PAWL_E_LIMIT;
    if (error) {
        pawl_log(PAWL_LOG_ERROR, "worker %u cannot be attached: %s", worker->number, pawl_error_text(error));
        worker->connection = NULL;
        pawl_control_end(connection);
        return;
    }
    lanes->lane_used[lane] = true;
    worker->lane = lane;
    worker->life = PAWL_WORKER_IDLE;
    worker->bell_fd = pawl_doorbell_open();
    struct pawl_wire_lane body = {.lane = lane, .epoch = loop->epoch};
    snprintf(body.mark, sizeof body.mark, "%s:%u", loop->options->mark, worker->number);
    int fds[] = {loop->world_segment.fd, worker->reader.segment.fd, lanes->bell_fd, worker->bell_fd};
    error =
        pawl_wire_queue_message(&connection->wire, PAWL_WIRE_LANE, 0, &body, sizeof body, NULL, 0, fds, 4);
    /* The mapping stays; the worker has a descriptor of its own. */
    close(worker->reader.segment.fd);
    worker->reader.segment.fd = -1;
    if (error)
        pawl_control_end(connection);
    else
        pawl_lanes_rebalance(loop);
}

int pawl_roster_adopt(struct pawl_lanes *lanes, struct pawl_delivery *delivery, uint32_t worker)
{
    struct pawl_adopted *adopted = calloc(1, sizeof *adopted);
    if (!adopted)
        return -ENOMEM;
    delivery->slot = PAWL_SLOT_ADOPTED;
    delivery->ticket = delivery->generation = ++lanes->ticket;
    *adopted = (struct pawl_adopted){.next = lanes->adopted, .delivery = delivery, .worker = worker};
    lanes->adopted = adopted;
    return 0;
}

struct pawl_delivery *pawl_roster_adopted(const struct pawl_lanes *lanes, uint32_t worker, uint32_t ticket)
{
    for (struct pawl_adopted *adopted = lanes->adopted; adopted; adopted = adopted->next)
        if (adopted->worker == worker && (ticket == 0 || adopted->delivery->ticket == ticket))
            return adopted->delivery;
    return NULL;
}

uint32_t pawl_roster_adopted_count(const struct pawl_lanes *lanes, const struct pawl_batch *batch)
{
    uint32_t count = 0;
    for (struct pawl_adopted *adopted = lanes->adopted; adopted; adopted = adopted->next)
        count += adopted->delivery->batch == batch;
    return count;
}

void pawl_lanes_forget_adopted(struct pawl_loop *loop, struct pawl_delivery *delivery)
{
    for (struct pawl_adopted **link = &loop->lanes->adopted; *link; link = &(*link)->next)
        if ((*link)->delivery == delivery) {
            struct pawl_adopted *adopted = *link;
            *link = adopted->next;
            free(adopted);
            return;
        }
}

/* ---- who works where ---- */

void pawl_lanes_rebalance(struct pawl_loop *loop)
{
    loop->lanes->dirty = true;
}

static void tell(struct pawl_worker *worker, uint16_t type, const void *body, size_t bytes)
{
    if (worker->connection)
        pawl_control_reply(worker->connection, type, 0, body, bytes, NULL, 0);
}

void pawl_lanes_leave_queue(struct pawl_loop *loop, struct pawl_worker *worker)
{
    leave_slot(worker);
    if (worker->life == PAWL_WORKER_CLAIMING) {
        worker->life = PAWL_WORKER_LEAVING;
        tell(worker, PAWL_WIRE_LEAVE, NULL, 0);
    }
    pawl_lanes_rebalance(loop);
}

static int send_segment(struct pawl_loop *loop, struct pawl_worker *worker, uint32_t id)
{
    const struct pawl_log_segment *segment = loop->pool.segment[id];
    struct pawl_wire_segment body = {.id = id, .bytes = (uint32_t)segment->segment.bytes};
    return pawl_wire_queue_message(&worker->connection->wire, PAWL_WIRE_SEGMENT, 0, &body, sizeof body, NULL,
                                   0, &segment->segment.fd, 1);
}

void pawl_lanes_tell_segment(struct pawl_loop *loop, uint32_t id)
{
    for (uint32_t number = 1; number < loop->lanes->number_end; number++) {
        struct pawl_worker *worker = loop->lanes->workers[number];
        if (!worker || worker->life != PAWL_WORKER_CLAIMING || !worker->connection)
            continue;
        /* On its way before anything in it can be claimed. */
        if (send_segment(loop, worker, id) != 0 || (pawl_wire_flush(&worker->connection->wire), false))
            pawl_control_end(worker->connection);
    }
}

static void join_queue(struct pawl_loop *loop, struct pawl_worker *worker, struct pawl_queue *queue)
{
    uint32_t slot = 0;
    while (queue->workers[slot])
        slot++;
    struct pawl_wire_queue body = {.queue = queue->number, .slot_number = slot + 1};
    int fds[] = {queue->ring.queue.fd, queue->ring.words.fd, pawl_queue_context_fd(loop, queue)};
    int error = fds[2] < 0 ? fds[2]
                           : pawl_wire_queue_message(&worker->connection->wire, PAWL_WIRE_QUEUE, 0, &body,
                                                     sizeof body, NULL, 0, fds, 3);
    for (uint32_t id = 0; id < loop->pool.count && !error; id++)
        if (loop->pool.segment[id])
            error = send_segment(loop, worker, id);
    if (error) {
        pawl_log(PAWL_LOG_ERROR, "worker %u cannot be given a queue: %s", worker->number,
                 pawl_error_text(error));
        pawl_control_end(worker->connection);
        return;
    }
    worker->life = PAWL_WORKER_CLAIMING;
    worker->queue = queue;
    worker->slot_number = slot + 1;
    queue->workers[slot] = worker;
    queue->worker_count++;
}

static struct pawl_worker *next_idle(struct pawl_lanes *lanes, uint32_t *number)
{
    for (; *number < lanes->number_end; ++*number) {
        struct pawl_worker *worker = lanes->workers[*number];
        if (worker && worker->life == PAWL_WORKER_IDLE && worker->connection && !worker->bad &&
            !worker->offers_due)
            return worker;
    }
    return NULL;
}

static void ask_supervisor(struct pawl_loop *loop, uint32_t count)
{
    struct pawl_wire_workers body = {.count = count};
    loop->lanes->asked = count;
    if (loop->lanes->supervisor)
        pawl_control_reply(loop->lanes->supervisor, PAWL_WIRE_WORKERS, 0, &body, sizeof body, NULL, 0);
}

static uint32_t wanted_workers(const struct pawl_loop *loop)
{
    uint64_t wanted = 0;
    for (const struct pawl_queue *queue = loop->queues; queue; queue = queue->next)
        wanted += queue->wanted;
    return wanted < PAWL_WORKERS_MAX ? (uint32_t)wanted : PAWL_WORKERS_MAX;
}

/* Workers that hold an adopted job belong to its batch first. */
static void join_adopters(struct pawl_loop *loop)
{
    for (struct pawl_adopted *adopted = loop->lanes->adopted; adopted; adopted = adopted->next) {
        struct pawl_worker *worker = loop->lanes->workers[adopted->worker];
        struct pawl_queue *queue =
            adopted->delivery->batch ? pawl_batch_loop(adopted->delivery->batch) : NULL;
        if (worker && queue && worker->life == PAWL_WORKER_IDLE && worker->connection && !worker->bad &&
            !worker->offers_due && queue->worker_count < queue->slots) {
            join_queue(loop, worker, queue);
            if (queue->wanted < queue->worker_count)
                queue->wanted = queue->worker_count;
        }
    }
}

void pawl_lanes_assign(struct pawl_loop *loop)
{
    struct pawl_lanes *lanes = loop->lanes;
    uint32_t number = 1;
    struct pawl_worker *worker = NULL;

    if (!lanes->dirty || lanes->leaving || !loop->serving)
        return;
    lanes->dirty = false;
    join_adopters(loop);
    for (struct pawl_queue *queue = loop->queues; queue; queue = queue->next)
        while (queue->worker_count < queue->wanted && (worker = next_idle(lanes, &number)))
            join_queue(loop, worker, queue);
    uint32_t wanted = wanted_workers(loop);
    if (wanted > lanes->asked)
        ask_supervisor(loop, wanted);
    number = 1;
    bool idle = next_idle(lanes, &number) != NULL;
    if (!idle)
        lanes->idle_until_ns = 0;
    else if (lanes->idle_until_ns == 0)
        lanes->idle_until_ns = loop->now.boottime_ns + IDLE_LINGER_NS;
}

static void let_go(struct pawl_loop *loop, struct pawl_worker *worker)
{
    struct pawl_wire_process body = {
        .role = PAWL_ROLE_WORKER, .number = worker->number, .pid = (uint32_t)worker->pid};
    worker->life = PAWL_WORKER_EXITING;
    if (loop->lanes->supervisor)
        pawl_control_reply(loop->lanes->supervisor, PAWL_WIRE_RETIRE, 0, &body, sizeof body, NULL, 0);
    tell(worker, PAWL_WIRE_EXIT, NULL, 0);
}

uint64_t pawl_lanes_tick(struct pawl_loop *loop)
{
    struct pawl_lanes *lanes = loop->lanes;
    if (lanes->idle_until_ns == 0 || lanes->leaving)
        return UINT64_MAX;
    if (loop->now.boottime_ns < lanes->idle_until_ns)
        return lanes->idle_until_ns;
    lanes->idle_until_ns = 0;
    struct pawl_worker *worker;
    for (uint32_t number = 1; (worker = next_idle(lanes, &number));)
        let_go(loop, worker);
    if (wanted_workers(loop) < lanes->asked)
        ask_supervisor(loop, wanted_workers(loop));
    return UINT64_MAX;
}

void pawl_lanes_exit_all(struct pawl_loop *loop)
{
    struct pawl_lanes *lanes = loop->lanes;
    lanes->leaving = true;
    if (lanes->asked > 0)
        ask_supervisor(loop, 0);
    for (uint32_t number = 1; number < lanes->number_end; number++) {
        struct pawl_worker *worker = lanes->workers[number];
        if (!worker || worker->life == PAWL_WORKER_EXITING)
            continue;
        bool attached = worker->lane != 0 && worker->connection != NULL;
        let_go(loop, worker);
        if (worker->connection && attached)
            (void)pawl_wire_flush(&worker->connection->wire);
        else if (worker->pidfd >= 0) /* it holds nothing yet, and would look for us in vain */
            (void)pidfd_send_signal(worker->pidfd, SIGTERM, NULL, 0);
    }
    if (lanes->supervisor)
        (void)pawl_wire_flush(&lanes->supervisor->wire);
}

uint32_t pawl_lanes_count(const struct pawl_loop *loop)
{
    uint32_t count = 0;
    for (uint32_t number = 1; number < loop->lanes->number_end; number++)
        count += loop->lanes->workers[number] && loop->lanes->workers[number]->life != PAWL_WORKER_NONE;
    return count;
}

uint32_t pawl_lanes_stillborn(const struct pawl_loop *loop)
{
    return loop->lanes->stillborn;
}

const struct pawl_worker *pawl_lanes_worker(const struct pawl_loop *loop, uint32_t number)
{
    return loop->lanes->workers[number];
}

uint32_t pawl_lanes_number_end(const struct pawl_loop *loop)
{
    return loop->lanes->number_end;
}
