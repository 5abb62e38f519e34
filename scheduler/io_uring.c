/*
 * io_uring.c - the I/O table on one io_uring.
 *
 * Runs in: the scheduler, the thread that opened it (SINGLE_ISSUER). Requests wait in a list of our own and
 * become submission entries at the start of a wait: so both entries of a commit always fit in one submission
 * (a link ends where a submission ends), and one system call submits and sleeps. Only LINK, never HARDLINK: a
 * short write must cancel the sync. The ring's memory is not inherited by children (MADV_DONTFORK).
 *
 * user_data: the request's address, and in its low bits which completion of it this is.
 */
#include "scheduler/io.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include <sys/timerfd.h>
#include <unistd.h>

#include <liburing.h>

enum uring_op { OP_COMMIT = 1, OP_WRITE, OP_FSYNC, OP_FDATASYNC, OP_POLL, OP_READ8, OP_READ8_POLLED };
enum completion { COMPLETION_ONLY = 0, COMPLETION_WRITE = 1, COMPLETION_SYNC = 2, COMPLETION_MASK = 7 };
enum { FLAG_QUEUED = 1, FLAG_CANCELLED = 2 };
enum { SQ_ENTRIES = 256, CQ_ENTRIES = 4096, REAP_MAX = 64 };

#define LONG_WAIT_NS 10000000000u /* above it suspended time counts: a BOOTTIME timer completes a poll */

struct uring_io {
    struct pawl_io io;
    struct io_uring ring;
    struct pawl_io_request *first; /* queued: no submission entry yet */
    struct pawl_io_request *last;
    struct pawl_io_request *cancelled; /* before they were submitted */
    uint64_t outstanding;              /* requests whose done() has not run, the timer's left out */
    uint64_t disk_outstanding;         /* those of them whose buffers the kernel may be reading */
    bool deferred;                     /* completions are made only while we are in the kernel */
    int timer_fd;
    struct pawl_io_request timer;
};

static struct uring_io *of(struct pawl_io *io)
{
    return (struct uring_io *)io;
}

static void enqueue(struct uring_io *self, struct pawl_io_request *request)
{
    request->flags |= FLAG_QUEUED;
    request->next = NULL;
    request->previous = self->last;
    if (self->last)
        self->last->next = request;
    else
        self->first = request;
    self->last = request;
}

static void dequeue(struct uring_io *self, struct pawl_io_request *request)
{
    request->flags &= (uint8_t)~FLAG_QUEUED;
    if (request->previous)
        request->previous->next = request->next;
    else
        self->first = request->next;
    if (request->next)
        request->next->previous = request->previous;
    else
        self->last = request->previous;
    request->next = request->previous = NULL;
}

static bool is_disk(const struct pawl_io_request *request)
{
    return request->op <= OP_FDATASYNC;
}

static int accept_request(struct pawl_io *io, struct pawl_io_request *request, enum uring_op op)
{
    struct uring_io *self = of(io);
    request->op = (uint8_t)op;
    enqueue(self, request);
    self->outstanding++;
    self->disk_outstanding += is_disk(request);
    return 0;
}

static int submit_commit(struct pawl_io *io, struct pawl_io_request *request)
{
    return accept_request(io, request, OP_COMMIT);
}

static int submit_write(struct pawl_io *io, struct pawl_io_request *request)
{
    return accept_request(io, request, OP_WRITE);
}

static int submit_fsync(struct pawl_io *io, struct pawl_io_request *request, bool datasync)
{
    return accept_request(io, request, datasync ? OP_FDATASYNC : OP_FSYNC);
}

static int submit_poll(struct pawl_io *io, struct pawl_io_request *request)
{
    return accept_request(io, request, OP_POLL);
}

static int submit_read8(struct pawl_io *io, struct pawl_io_request *request)
{
    return accept_request(io, request, OP_READ8);
}

static void tag(struct io_uring_sqe *sqe, const struct pawl_io_request *request, enum completion which)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)request | (uint64_t)which);
}

static void prepare_write(struct io_uring_sqe *sqe, const struct pawl_io_request *request)
{
    if (request->iov_count == 1)
        io_uring_prep_write(sqe, request->fd, request->iov->iov_base, (unsigned)request->iov->iov_len,
                            request->byte_offset);
    else
        io_uring_prep_writev(sqe, request->fd, request->iov, request->iov_count, request->byte_offset);
}

static void prepare_entries(struct uring_io *self, struct pawl_io_request *request)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&self->ring);
    request->outstanding = 1;
    switch ((enum uring_op)request->op) {
    case OP_COMMIT:
        prepare_write(sqe, request);
        if (request->in_place) {
            sqe->rw_flags = RWF_DSYNC;
            break;
        }
        sqe->flags |= IOSQE_IO_LINK;
        tag(sqe, request, COMPLETION_WRITE);
        sqe = io_uring_get_sqe(&self->ring);
        io_uring_prep_fsync(sqe, request->fd, IORING_FSYNC_DATASYNC);
        tag(sqe, request, COMPLETION_SYNC);
        request->outstanding = 2;
        return;
    case OP_WRITE:
        prepare_write(sqe, request);
        break;
    case OP_FSYNC:
    case OP_FDATASYNC:
        io_uring_prep_fsync(sqe, request->fd, request->op == OP_FDATASYNC ? IORING_FSYNC_DATASYNC : 0);
        break;
    case OP_POLL:
        io_uring_prep_poll_add(sqe, request->fd, request->events);
        break;
    case OP_READ8:
        io_uring_prep_read(sqe, request->fd, &request->value, sizeof request->value, (uint64_t)-1);
        break;
    case OP_READ8_POLLED:
        io_uring_prep_poll_add(sqe, request->fd, POLLIN);
        break;
    }
    tag(sqe, request, COMPLETION_ONLY);
}

/* Moves the queue into the submission ring as far as it goes; a commit takes two entries or none. */
static void fill_submission_ring(struct uring_io *self)
{
    while (self->first) {
        unsigned need = self->first->op == OP_COMMIT ? 2 : 1;
        if (io_uring_sq_space_left(&self->ring) < need && io_uring_submit(&self->ring) < 0)
            return; /* EBUSY, EAGAIN: completions must be reaped first; what is left goes with the next wait
                     */
        if (io_uring_sq_space_left(&self->ring) < need)
            return;
        struct pawl_io_request *request = self->first;
        dequeue(self, request);
        prepare_entries(self, request);
    }
}

static int cancel_poll(struct pawl_io *io, struct pawl_io_request *request)
{
    struct uring_io *self = of(io);
    if (is_disk(request))
        return -ENOENT;
    if (request->flags & FLAG_CANCELLED)
        return 0;
    if (request->flags & FLAG_QUEUED) {
        dequeue(self, request);
        request->flags |= FLAG_CANCELLED;
        request->next = self->cancelled;
        self->cancelled = request;
        return 0;
    }
    if (io_uring_sq_space_left(&self->ring) == 0)
        io_uring_submit(&self->ring);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&self->ring);
    if (!sqe)
        return -EAGAIN;
    request->flags |= FLAG_CANCELLED;
    io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)request, 0);
    io_uring_sqe_set_data64(sqe, 0);
    return 0;
}

static int finish(struct uring_io *self, struct pawl_io_request *request, int32_t result)
{
    self->outstanding--;
    self->disk_outstanding -= is_disk(request);
    request->active = false;
    request->done(request, result);
    return 1;
}

static int finish_commit(struct uring_io *self, struct pawl_io_request *request)
{
    int32_t written = request->write_result;
    if (written == -EINTR || written == -EAGAIN) { /* nothing was written, and the link cancelled the sync */
        enqueue(self, request);
        return 0;
    }
    int32_t result = 0;
    if (written < 0) {
        request->failure = PAWL_IO_FAILED_WRITE;
        result = written;
    } else if ((uint64_t)written != request->bytes) {
        request->failure = PAWL_IO_FAILED_SHORT_WRITE;
        result = -EIO;
    } else if (request->result < 0) {
        request->failure = PAWL_IO_FAILED_SYNC;
        result = request->result;
    }
    return finish(self, request, result);
}

static int finish_overwrite(struct uring_io *self, struct pawl_io_request *request, int32_t result)
{
    if (result == -EINTR || result == -EAGAIN) {
        enqueue(self, request);
        return 0;
    }
    if (result < 0) {
        request->failure = pawl_io_is_room_error(result) ? PAWL_IO_FAILED_WRITE : PAWL_IO_FAILED_SYNC;
        return finish(self, request, result);
    }
    if ((uint64_t)result == request->bytes)
        return finish(self, request, 0);
    request->failure = PAWL_IO_FAILED_SHORT_WRITE;
    return finish(self, request, -EIO);
}

/* read(2) of a non-blocking eventfd through io_uring says EAGAIN instead of waiting: poll, then read. */
static int finish_read8(struct uring_io *self, struct pawl_io_request *request, int32_t result)
{
    if (request->op == OP_READ8_POLLED && result > 0) {
        ssize_t got = read(request->fd, &request->value, sizeof request->value);
        result = got < 0 ? -errno : (int32_t)got;
    }
    if ((result == -EAGAIN || result == -EINTR) && !(request->flags & FLAG_CANCELLED)) {
        request->op = OP_READ8_POLLED;
        enqueue(self, request);
        return 0;
    }
    return finish(self, request, result);
}

/* One completion. Return: done() calls that it caused. */
static int complete(struct uring_io *self, uint64_t data, int32_t result)
{
    struct pawl_io_request *request =
        (struct pawl_io_request *)(uintptr_t)(data & ~(uint64_t)COMPLETION_MASK);
    if (!request) /* a cancel's own */
        return 0;
    if (request == &self->timer) {
        request->active = false;
        return 0;
    }
    if (--request->outstanding > 0 || (data & COMPLETION_MASK) != COMPLETION_ONLY) {
        if ((data & COMPLETION_MASK) == COMPLETION_WRITE)
            request->write_result = result;
        else
            request->result = result;
        return request->outstanding > 0 ? 0 : finish_commit(self, request);
    }
    if (request->op == OP_COMMIT)
        return finish_overwrite(self, request, result);
    if (request->op == OP_READ8 || request->op == OP_READ8_POLLED)
        return finish_read8(self, request, result);
    if ((result == -EINTR || result == -EAGAIN) && is_disk(request)) {
        enqueue(self, request);
        return 0;
    }
    return finish(self, request, result);
}

/* Copies completions out before any done() runs, so that done() may submit and cancel freely. */
static int reap(struct uring_io *self)
{
    int count = 0;
    struct {
        uint64_t data;
        int32_t result;
    } taken[REAP_MAX];
    for (;;) {
        struct io_uring_cqe *cqes[REAP_MAX];
        unsigned seen = io_uring_peek_batch_cqe(&self->ring, cqes, REAP_MAX);
        for (unsigned i = 0; i < seen; i++) {
            taken[i].data = cqes[i]->user_data;
            taken[i].result = cqes[i]->res;
        }
        io_uring_cq_advance(&self->ring, seen);
        for (unsigned i = 0; i < seen; i++)
            count += complete(self, taken[i].data, taken[i].result);
        if (seen < REAP_MAX)
            return count;
    }
}

static int reap_cancelled(struct uring_io *self)
{
    int count = 0;
    struct pawl_io_request *at = self->cancelled;
    self->cancelled = NULL;
    while (at) {
        struct pawl_io_request *next = at->next;
        at->next = NULL;
        count += finish(self, at, -ECANCELED);
        at = next;
    }
    return count;
}

static int arm_long_timer(struct uring_io *self, uint64_t timeout_ns)
{
    if (self->timer_fd < 0)
        self->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                                         .tv_nsec = (long)(timeout_ns % 1000000000u)}};
    if (self->timer_fd < 0 || timerfd_settime(self->timer_fd, 0, &at, NULL) < 0)
        return -errno;
    if (!self->timer.active) {
        self->timer = (struct pawl_io_request){.fd = self->timer_fd, .events = POLLIN, .active = true};
        self->timer.op = OP_POLL;
        enqueue(self, &self->timer);
    }
    return 0;
}

static int submit_and_sleep(struct uring_io *self, uint64_t timeout_ns)
{
    struct io_uring_cqe *cqe;
    struct __kernel_timespec timeout = {.tv_sec = (int64_t)(timeout_ns / 1000000000u),
                                        .tv_nsec = (int64_t)(timeout_ns % 1000000000u)};
    int result;
    if (timeout_ns == 0)
        result = self->deferred                   ? io_uring_submit_and_get_events(&self->ring)
                 : io_uring_sq_ready(&self->ring) ? io_uring_submit(&self->ring)
                                                  : 0;
    else
        result = io_uring_submit_and_wait_timeout(&self->ring, &cqe, 1,
                                                  timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);
    if (result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN || result == -EBUSY)
        return 0;
    return result;
}

static int wait_for_any(struct pawl_io *io, uint64_t timeout_ns)
{
    struct uring_io *self = of(io);
    if (self->outstanding == 0 && timeout_ns == UINT64_MAX)
        return -EDEADLK;
    if (timeout_ns > LONG_WAIT_NS && timeout_ns != UINT64_MAX) {
        int error = arm_long_timer(self, timeout_ns);
        if (error)
            return error;
    }
    fill_submission_ring(self);
    if (self->cancelled || self->first || io_uring_cq_ready(&self->ring) > 0)
        timeout_ns = 0;
    int error = submit_and_sleep(self, timeout_ns);
    if (error)
        return error;
    return reap_cancelled(self) + reap(self);
}

static void ignore_result(struct pawl_io_request *request, int32_t result)
{
    (void)request;
    (void)result;
}

/* Disk requests read our caller's buffers until they complete: they are waited for, their done() is not run.
 */
static void close_ring(struct pawl_io *io)
{
    struct uring_io *self = of(io);
    while (self->disk_outstanding > 0) {
        for (struct pawl_io_request *at = self->first, *next; at; at = next) {
            next = at->next;
            dequeue(self, at);
            self->disk_outstanding -= is_disk(at);
        }
        if (self->disk_outstanding == 0 || submit_and_sleep(self, UINT64_MAX) < 0)
            break;
        struct io_uring_cqe *cqe;
        while (io_uring_peek_cqe(&self->ring, &cqe) == 0) {
            uint64_t data = cqe->user_data;
            int32_t result = cqe->res;
            io_uring_cqe_seen(&self->ring, cqe);
            struct pawl_io_request *request =
                (struct pawl_io_request *)(uintptr_t)(data & ~(uint64_t)COMPLETION_MASK);
            if (request && request != &self->timer && is_disk(request)) {
                request->done = ignore_result;
                complete(self, data, result);
            }
        }
    }
    io_uring_queue_exit(&self->ring);
    if (self->timer_fd >= 0)
        close(self->timer_fd);
    free(self);
}

static const struct pawl_io_ops uring_ops = {
    .name = "uring",
    .close = close_ring,
    .commit = submit_commit,
    .write = submit_write,
    .fsync = submit_fsync,
    .poll = submit_poll,
    .poll_cancel = cancel_poll,
    .read8 = submit_read8,
    .wait = wait_for_any,
};

static int set_up_ring(struct uring_io *self, unsigned flags)
{
    struct io_uring_params params = {.flags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE | flags,
                                     .cq_entries = CQ_ENTRIES};
    int error = io_uring_queue_init_params(SQ_ENTRIES, &self->ring, &params);
    if (error)
        return error;
    if (!(params.features & IORING_FEAT_EXT_ARG) || !(params.features & IORING_FEAT_NODROP)) {
        io_uring_queue_exit(&self->ring);
        return -ENOSYS;
    }
    return 0;
}

/* Syncs run in a thread of the kernel's, which counts against the limits of processes: where it cannot be
 * made the first commit would be cancelled, which is a failed journal. So it is asked for now; once there,
 * one stays. 0, or -errno: no ring can serve here. */
static int start_thread(struct uring_io *self)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&self->ring);
    struct io_uring_cqe *cqe;
    if (!sqe)
        return -EBUSY;
    io_uring_prep_nop(sqe);
    sqe->flags |= IOSQE_ASYNC;
    int error;
    do {
        error = io_uring_submit_and_wait(&self->ring, 1);
    } while (error == -EINTR);
    if (error < 0)
        return error;
    do {
        error = io_uring_wait_cqe(&self->ring, &cqe);
    } while (error == -EINTR);
    if (error < 0)
        return error;
    error = cqe->res;
    io_uring_cqe_seen(&self->ring, cqe);
    return error;
}

int pawl_io_uring_open(struct pawl_io **io_out)
{
    struct uring_io *self = calloc(1, sizeof *self);
    if (!self)
        return -ENOMEM;
    self->timer_fd = -1;
    self->deferred = true;
    int error = set_up_ring(self, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
    if (error == -EINVAL) { /* before 6.1 */
        self->deferred = false;
        error = set_up_ring(self, 0);
    }
    if (error)
        goto free_self;
    error = io_uring_ring_dontfork(&self->ring);
    if (error == 0)
        error = start_thread(self);
    if (error)
        goto exit_ring;
    self->io.ops = &uring_ops;
    *io_out = &self->io;
    return 0;

exit_ring:
    io_uring_queue_exit(&self->ring);
free_self:
    free(self);
    return error;
}
