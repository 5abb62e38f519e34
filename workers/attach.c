/*
 * attach.c - a worker's ties to the scheduler: socket, lane, queue, task memory.
 *
 * Runs in: worker. Never blocks but in pawl_attach_wait(), _wait_room() and while it waits for a segment that
 * the scheduler announced; both are bounded.
 */
#include "workers/attach.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/doorbell.h"
#include "shm/error.h"
#include "shm/log.h"

enum {
    CONTEXT_BYTES_MAX = 64 << 20,
    SEGMENT_WAIT_MS = 2000,
};
#define ROOM_WAIT_NS     UINT64_C(20000000) /* the scheduler need not tell us about room: look again */
#define BACKOFF_FIRST_NS UINT64_C(1000000)
#define BACKOFF_MOST_NS  UINT64_C(500000000)

int pawl_attach_init(struct pawl_attach *attach, int state_dirfd, uint32_t number,
                     const struct pawl_attach_events *events, void *ctx, uint64_t now_ns)
{
    *attach = (struct pawl_attach){
        .state_dirfd = state_dirfd,
        .number = number,
        .events = events,
        .ctx = ctx,
        .wire = {.fd = -1},
        .lost_at_ns = now_ns,
        .try_at_ns = now_ns,
        .wait_ns = BACKOFF_FIRST_NS,
        .world = {.fd = -1},
        .lane = {.segment = {.fd = -1}},
        .scheduler_bell = -1,
        .own_bell = -1,
    };
    attach->view = malloc(sizeof *attach->view);
    if (!attach->view)
        return -ENOMEM;
    pawl_log_view_init(attach->view);
    return 0;
}

/* ---- cutting ---- */

/* Task memory goes too: ids may mean other segments by the time of the next queue, which brings them anew. */
static void drop_queue(struct pawl_attach *attach)
{
    pawl_log_view_fini(attach->view);
    pawl_log_view_init(attach->view);
    if (attach->has_queue)
        pawl_claimer_detach(&attach->claimer);
    attach->has_queue = false;
    attach->leaving = false;
}

static void drop_lane(struct pawl_attach *attach)
{
    drop_queue(attach);
    if (attach->has_lane)
        pawl_lane_detach(&attach->lane);
    if (attach->world.base)
        pawl_segment_close(&attach->world);
    attach->world = (struct pawl_segment){.fd = -1};
    if (attach->scheduler_bell >= 0)
        close(attach->scheduler_bell);
    if (attach->own_bell >= 0)
        close(attach->own_bell);
    attach->scheduler_bell = attach->own_bell = -1;
    attach->has_lane = false;
    attach->unreported = 0;
}

void pawl_attach_cut(struct pawl_attach *attach, uint64_t now_ns)
{
    bool had_lane = attach->has_lane;
    drop_lane(attach);
    if (attach->wire.fd >= 0)
        pawl_wire_fini(&attach->wire);
    attach->wire = (struct pawl_wire){.fd = -1};
    if (had_lane) {
        attach->lost_at_ns = now_ns;
        attach->wait_ns = BACKOFF_FIRST_NS;
        attach->events->on_lost(attach->ctx);
    }
    attach->try_at_ns = now_ns + attach->wait_ns;
    attach->wait_ns = attach->wait_ns * 2 < BACKOFF_MOST_NS ? attach->wait_ns * 2 : BACKOFF_MOST_NS;
}

void pawl_attach_fini(struct pawl_attach *attach)
{
    drop_lane(attach);
    if (attach->wire.fd >= 0)
        pawl_wire_fini(&attach->wire);
    free(attach->view);
}

/* ---- connecting ---- */

uint64_t pawl_attach_connect(struct pawl_attach *attach, uint64_t now_ns)
{
    if (attach->wire.fd >= 0)
        return UINT64_MAX;
    if (now_ns < attach->try_at_ns)
        return attach->try_at_ns;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        goto again;
    /* A path below /proc has the same length however deep the directory lies. */
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/socket", attach->state_dirfd);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        pawl_wire_init(&attach->wire, fd) < 0) {
        close(fd);
        attach->wire = (struct pawl_wire){.fd = -1};
        goto again;
    }
    const struct pawl_wire_hello hello = {.version = PAWL_WIRE_VERSION,
                                          .role = PAWL_ROLE_WORKER,
                                          .worker_number = attach->number,
                                          .pid = (uint32_t)getpid()};
    pawl_attach_send(attach, PAWL_WIRE_HELLO, &hello, sizeof hello, NULL, 0);
    return UINT64_MAX;
again:
    attach->try_at_ns = now_ns + attach->wait_ns;
    attach->wait_ns = attach->wait_ns * 2 < BACKOFF_MOST_NS ? attach->wait_ns * 2 : BACKOFF_MOST_NS;
    return attach->try_at_ns;
}

void pawl_attach_send(struct pawl_attach *attach, uint16_t type, const void *body, size_t n, const void *more,
                      size_t more_bytes)
{
    if (attach->wire.fd < 0)
        return;
    int error = pawl_wire_queue_message(&attach->wire, type, 0, body, n, more, more_bytes, NULL, 0);
    if (error < 0)
        pawl_log(PAWL_LOG_ERROR, "message %u to the scheduler: %s", type, pawl_error_text(error));
    pawl_wire_flush(&attach->wire); /* what waits is sent when the socket is writable; a death is read */
}

/* ---- messages ---- */

static int take_fd(struct pawl_wire_message *message, unsigned index)
{
    int fd = message->fds[index];
    message->fds[index] = -1;
    return fd;
}

static int take_lane(struct pawl_attach *attach, struct pawl_wire_message *message)
{
    struct pawl_wire_lane body;
    if (message->header.bytes < sizeof body || message->header.fd_count != 4 || attach->has_lane)
        return PAWL_E_BAD_MESSAGE;
    memcpy(&body, message->body, sizeof body);
    body.mark[sizeof body.mark - 1] = '\0';
    int error = pawl_world_attach(message->fds[0], &attach->world);
    if (error < 0)
        return error;
    message->fds[0] = -1;
    error = pawl_lane_attach(message->fds[1], pawl_world_of(&attach->world), body.lane, &attach->lane);
    if (error < 0)
        return error; /* cutting closes the world */
    message->fds[1] = -1;
    attach->scheduler_bell = take_fd(message, 2);
    attach->own_bell = take_fd(message, 3);
    attach->lane_number = body.lane;
    attach->epoch = body.epoch;
    memcpy(attach->mark, body.mark, sizeof attach->mark);
    attach->has_lane = true;
    attach->wait_ns = BACKOFF_FIRST_NS;
    attach->events->on_lane(attach->ctx);
    return 0;
}

/* Read, not mapped: nobody can pull it from under us. */
static int read_context(int fd, void **bytes_out, size_t *n_out)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (status.st_size <= 0 || status.st_size > CONTEXT_BYTES_MAX)
        return PAWL_E_BAD_MESSAGE;
    size_t n = (size_t)status.st_size, done = 0;
    char *bytes = malloc(n);
    if (!bytes)
        return -ENOMEM;
    while (done < n) {
        ssize_t got = pread(fd, bytes + done, n - done, (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            free(bytes);
            return got < 0 ? -errno : PAWL_E_BAD_MESSAGE;
        }
        done += (size_t)got;
    }
    *bytes_out = bytes;
    *n_out = n;
    return 0;
}

static int take_queue(struct pawl_attach *attach, struct pawl_wire_message *message)
{
    struct pawl_wire_queue body;
    void *context = NULL;
    size_t n = 0;
    if (message->header.bytes < sizeof body || message->header.fd_count != 3 || !attach->has_lane)
        return PAWL_E_BAD_MESSAGE;
    memcpy(&body, message->body, sizeof body);
    drop_queue(attach);
    int error = read_context(message->fds[2], &context, &n);
    if (error < 0)
        return error;
    attach->queue = body.queue;
    attach->slot_number = body.slot_number;
    error = attach->events->on_queue(attach->ctx, context, n);
    free(context);
    if (error == 0)
        error = pawl_claimer_attach(message->fds[0], message->fds[1], (uint16_t)attach->lane_number,
                                    &attach->claimer);
    if (error < 0)
        return error;
    message->fds[0] = message->fds[1] = -1;
    attach->has_queue = true;
    return 0;
}

static int take_segment(struct pawl_attach *attach, struct pawl_wire_message *message)
{
    struct pawl_wire_segment body;
    if (message->header.bytes < sizeof body || message->header.fd_count != 1 || !attach->has_lane)
        return PAWL_E_BAD_MESSAGE;
    memcpy(&body, message->body, sizeof body);
    int error = pawl_log_view_attach(attach->view, body.id, message->fds[0]);
    if (error == 0)
        message->fds[0] = -1;
    return error;
}

static int take_message(struct pawl_attach *attach, struct pawl_wire_message *message)
{
    struct pawl_wire_kill kill;
    struct pawl_wire_adopt adopt;
    switch (message->header.type) {
    case PAWL_WIRE_WELCOME:
        return 0;
    case PAWL_WIRE_LANE:
        return take_lane(attach, message);
    case PAWL_WIRE_QUEUE:
        return take_queue(attach, message);
    case PAWL_WIRE_SEGMENT:
        return take_segment(attach, message);
    case PAWL_WIRE_KILL:
        if (message->header.bytes < sizeof kill)
            return PAWL_E_BAD_MESSAGE;
        memcpy(&kill, message->body, sizeof kill);
        attach->events->on_kill(attach->ctx, &kill);
        return 0;
    case PAWL_WIRE_ADOPT:
        if (message->header.bytes < sizeof adopt)
            return PAWL_E_BAD_MESSAGE;
        memcpy(&adopt, message->body, sizeof adopt);
        attach->events->on_adopt(attach->ctx, &adopt);
        return 0;
    case PAWL_WIRE_LEAVE:
        attach->leaving = true;
        return 0;
    case PAWL_WIRE_EXIT:
        attach->exiting = true;
        return 0;
    default: /* ERROR, or what only clients and supervisors are sent: this scheduler does not want us */
        return PAWL_E_BAD_MESSAGE;
    }
}

void pawl_attach_receive(struct pawl_attach *attach, uint64_t now_ns)
{
    struct pawl_wire_message message;
    int result = 0;
    if (attach->wire.fd < 0)
        return;
    if (pawl_wire_pending(&attach->wire) > 0)
        pawl_wire_flush(&attach->wire);
    while ((result = pawl_wire_receive(&attach->wire, &message)) == 1) {
        result = take_message(attach, &message);
        if (result < 0) {
            pawl_log(PAWL_LOG_WARNING, "message %u of the scheduler: %s", message.header.type,
                     pawl_error_text(result));
            break;
        }
    }
    if (result < 0)
        pawl_attach_cut(attach, now_ns);
}

/* ---- lane ---- */

/* Another worker's bell may have woken the scheduler, and it looks into all lanes. */
static void forget_what_was_taken(struct pawl_attach *attach)
{
    if (attach->unreported > 0 && pawl_lane_consumed(&attach->lane) >= pawl_lane_pushed(&attach->lane))
        attach->unreported = 0;
}

int pawl_attach_push(struct pawl_attach *attach, const struct pawl_settlement *settlement, const void *bytes,
                     uint64_t now_ns)
{
    if (!attach->has_lane)
        return PAWL_E_CLOSED;
    forget_what_was_taken(attach);
    int error = pawl_lane_push(&attach->lane, settlement, bytes);
    if (error == 0 && attach->unreported++ == 0)
        attach->oldest_unreported_ns = now_ns;
    return error;
}

void pawl_attach_publish(struct pawl_attach *attach)
{
    if (attach->has_lane)
        pawl_lane_publish(&attach->lane);
}

void pawl_attach_report(struct pawl_attach *attach, uint64_t now_ns, enum pawl_report when)
{
    if (!attach->has_lane)
        return;
    forget_what_was_taken(attach);
    if (attach->unreported == 0)
        return;
    if (when == PAWL_REPORT_IN_TIME && attach->unreported < PAWL_REPORT_ENTRIES &&
        now_ns < attach->oldest_unreported_ns + PAWL_REPORT_AGE_NS)
        return;
    /* D1: the entries were published before this looks at the word. An awake scheduler looks by itself, and
     * so does one that said when; but a full lane would hold up the work. */
    uint32_t sleeps = pawl_doorbell_word(&pawl_world_of(&attach->world)->sleeping);
    if (sleeps != PAWL_WORLD_AWAKE &&
        (sleeps != PAWL_WORLD_LOOKS_SOON || when == PAWL_REPORT_NOW || pawl_lane_fills(&attach->lane)))
        pawl_doorbell_write(attach->scheduler_bell);
    attach->unreported = 0;
}

_Atomic uint32_t *pawl_attach_sleeping(struct pawl_attach *attach)
{
    return attach->has_lane ? &pawl_lane_memory_of(&attach->lane.segment)->sleeping : NULL;
}

void pawl_attach_wait_room(struct pawl_attach *attach)
{
    pawl_attach_publish(attach);
    if (attach->has_lane)
        pawl_doorbell_write(attach->scheduler_bell); /* whether it sleeps or not: this must not be missed */
    attach->unreported = 0;
    pawl_attach_wait(attach, ROOM_WAIT_NS);
}

void pawl_attach_wait(struct pawl_attach *attach, uint64_t wait_ns)
{
    struct pollfd fds[2] = {{.fd = attach->wire.fd, .events = POLLIN},
                            {.fd = attach->own_bell, .events = POLLIN}};
    const struct timespec wait = {.tv_nsec = (long)wait_ns};
    if (ppoll(fds, 2, &wait, &attach->wait_mask) < 0)
        return;
    if (fds[1].revents)
        pawl_doorbell_clear(attach->own_bell);
    if (fds[0].revents)
        pawl_attach_receive(attach, pawl_clock_monotonic_ns());
}

uint64_t pawl_attach_durable(const struct pawl_attach *attach)
{
    return attach->has_lane ? pawl_lane_durable(&attach->lane) : 0;
}

void pawl_attach_show_job(struct pawl_attach *attach, uint64_t process_group, uint64_t started_at_ns)
{
    if (!attach->has_lane)
        return;
    struct pawl_lane_memory *memory = pawl_lane_memory_of(&attach->lane.segment);
    /* Relaxed: advisory, for people who look. */
    atomic_store_explicit(&memory->job_started_at_ns, started_at_ns, memory_order_relaxed);
    atomic_store_explicit(&memory->job, process_group, memory_order_relaxed);
}

/* ---- queue ---- */

bool pawl_attach_claimable(const struct pawl_attach *attach)
{
    return attach->has_queue && !attach->leaving && !attach->exiting && pawl_claim_waiting(&attach->claimer);
}

int pawl_attach_claim(struct pawl_attach *attach, struct pawl_claimed *claimed_out)
{
    if (!attach->has_queue || attach->leaving || attach->exiting)
        return PAWL_E_QUEUE_EMPTY;
    return pawl_claim_one(&attach->claimer, claimed_out);
}

/* A segment of the usual size keeps its id for ever. Any other may have been replaced by a message that lies
 * in the socket; an unknown one is announced by one. */
static bool is_settled_segment(const struct pawl_attach *attach, uint32_t id)
{
    return id < PAWL_LOG_SEGMENTS_MAX && attach->view->segment[id].base &&
           attach->view->segment[id].bytes == PAWL_LOG_SEGMENT_BYTES;
}

int pawl_attach_task(struct pawl_attach *attach, const struct pawl_claimed *claimed,
                     struct pawl_task *task_out)
{
    const struct pawl_descriptor *descriptor = &claimed->descriptor;
    uint32_t id = descriptor->log_segment;
    const void *bytes = NULL;
    uint64_t epoch = attach->epoch;
    if (!is_settled_segment(attach, id)) {
        uint64_t now_ns = pawl_clock_monotonic_ns();
        uint64_t until_ns = now_ns + (uint64_t)SEGMENT_WAIT_MS * 1000000;
        for (;;) {
            pawl_attach_receive(attach, now_ns);
            if (!attach->has_lane || attach->epoch != epoch)
                return PAWL_E_CLOSED;
            bytes = pawl_log_view_read(attach->view, id, descriptor->byte_offset, descriptor->bytes);
            now_ns = pawl_clock_monotonic_ns();
            if (bytes || id >= PAWL_LOG_SEGMENTS_MAX || now_ns >= until_ns)
                break;
            struct pollfd readable = {.fd = attach->wire.fd, .events = POLLIN};
            const struct timespec wait = {.tv_sec = (time_t)((until_ns - now_ns) / 1000000000),
                                          .tv_nsec = (long)((until_ns - now_ns) % 1000000000)};
            ppoll(&readable, 1, &wait, &attach->wait_mask);
        }
    } else {
        bytes = pawl_log_view_read(attach->view, id, descriptor->byte_offset, descriptor->bytes);
    }
    if (!bytes)
        return PAWL_E_NOT_FOUND;
    return pawl_task_open(bytes, descriptor->bytes, task_out);
}

void pawl_attach_leave(struct pawl_attach *attach)
{
    drop_queue(attach);
    pawl_attach_send(attach, PAWL_WIRE_LEFT, NULL, 0, NULL, 0);
}
