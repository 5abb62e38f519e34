/*
 * io_syscall.c - the I/O table by plain system calls, for kernels that refuse io_uring and for fault
 * injection.
 *
 * Runs in: the scheduler. Disk requests are queued and carried out, in order, at the start of the next wait;
 * commits that stand together on one file share one fdatasync, which begins after the last of their writes.
 * Polls become one ppoll(2).
 */
#include "scheduler/io.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include <sys/timerfd.h>
#include <unistd.h>

enum syscall_op { OP_COMMIT = 1, OP_WRITE, OP_FSYNC, OP_FDATASYNC, OP_POLL, OP_READ8 };
enum { FLAG_CANCELLED = 1 };

#define LONG_WAIT_NS 10000000000u /* above it suspended time counts: a BOOTTIME timer wakes ppoll */

struct request_list {
    struct pawl_io_request *first;
    struct pawl_io_request *last;
};

struct syscall_io {
    struct pawl_io io;
    struct request_list disk;  /* queued, not carried out */
    struct request_list polls; /* waiting for events */
    struct request_list ready; /* result known, done() not run */
    uint32_t poll_count;
    struct pollfd *pollfds;
    uint32_t pollfd_max;
    int timer_fd;
};

static void push(struct request_list *list, struct pawl_io_request *request)
{
    request->next = NULL;
    request->previous = list->last;
    if (list->last)
        list->last->next = request;
    else
        list->first = request;
    list->last = request;
}

static void take(struct request_list *list, struct pawl_io_request *request)
{
    if (request->previous)
        request->previous->next = request->next;
    else
        list->first = request->next;
    if (request->next)
        request->next->previous = request->previous;
    else
        list->last = request->previous;
    request->next = request->previous = NULL;
}

static struct syscall_io *of(struct pawl_io *io)
{
    return (struct syscall_io *)io;
}

static int queue_disk(struct pawl_io *io, struct pawl_io_request *request, enum syscall_op op)
{
    request->op = (uint8_t)op;
    push(&of(io)->disk, request);
    return 0;
}

static int submit_commit(struct pawl_io *io, struct pawl_io_request *request)
{
    return queue_disk(io, request, OP_COMMIT);
}

static int submit_write(struct pawl_io *io, struct pawl_io_request *request)
{
    return queue_disk(io, request, OP_WRITE);
}

static int submit_fsync(struct pawl_io *io, struct pawl_io_request *request, bool datasync)
{
    return queue_disk(io, request, datasync ? OP_FDATASYNC : OP_FSYNC);
}

static int add_poll(struct syscall_io *self, struct pawl_io_request *request, enum syscall_op op)
{
    if (self->poll_count + 2 > self->pollfd_max) {
        uint32_t max = self->pollfd_max ? self->pollfd_max * 2 : 32;
        struct pollfd *grown = realloc(self->pollfds, max * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        self->pollfds = grown;
        self->pollfd_max = max;
    }
    request->op = (uint8_t)op;
    push(&self->polls, request);
    self->poll_count++;
    return 0;
}

static int submit_poll(struct pawl_io *io, struct pawl_io_request *request)
{
    return add_poll(of(io), request, OP_POLL);
}

static int submit_read8(struct pawl_io *io, struct pawl_io_request *request)
{
    request->events = POLLIN;
    return add_poll(of(io), request, OP_READ8);
}

static void end_poll(struct syscall_io *self, struct pawl_io_request *request, int32_t result)
{
    take(&self->polls, request);
    self->poll_count--;
    request->result = result;
    request->flags |= FLAG_CANCELLED; /* no longer cancellable: the result stands */
    push(&self->ready, request);
}

static int cancel_poll(struct pawl_io *io, struct pawl_io_request *request)
{
    if (request->op != OP_POLL && request->op != OP_READ8)
        return -ENOENT;
    if (!(request->flags & FLAG_CANCELLED))
        end_poll(of(io), request, -ECANCELED);
    return 0;
}

static int32_t write_once(const struct pawl_io_request *request)
{
    ssize_t written;
    do {
        written = pwritev(request->fd, request->iov, (int)request->iov_count, (off_t)request->byte_offset);
    } while (written < 0 && errno == EINTR);
    return written < 0 ? -errno : (int32_t)written;
}

/* The commits from @first on that name the same file: all writes, then one sync for those that went well. */
static struct pawl_io_request *carry_out_commits(struct pawl_io_request *first)
{
    bool wrote = false;
    struct pawl_io_request *end = first;
    for (; end && end->op == OP_COMMIT && end->fd == first->fd; end = end->next) {
        int32_t written = write_once(end);
        if (written < 0) {
            end->failure = PAWL_IO_FAILED_WRITE;
            end->result = written;
        } else if ((uint64_t)written != end->bytes) {
            end->failure = PAWL_IO_FAILED_SHORT_WRITE;
            end->result = -EIO;
        } else {
            end->result = 0;
            wrote = true;
        }
    }
    int error = wrote && fdatasync(first->fd) < 0 ? -errno : 0;
    for (struct pawl_io_request *at = first; error && at != end; at = at->next) {
        if (at->failure == PAWL_IO_FAILED_NOTHING) {
            at->failure = PAWL_IO_FAILED_SYNC;
            at->result = error;
        }
    }
    return end;
}

static void carry_out_disk(struct syscall_io *self)
{
    struct pawl_io_request *at = self->disk.first;
    while (at) {
        if (at->op == OP_COMMIT) {
            at = carry_out_commits(at);
            continue;
        }
        if (at->op == OP_WRITE)
            at->result = write_once(at);
        else
            at->result = (at->op == OP_FSYNC ? fsync(at->fd) : fdatasync(at->fd)) < 0 ? -errno : 0;
        at = at->next;
    }
    for (struct pawl_io_request *next, *done = self->disk.first; done; done = next) {
        next = done->next;
        take(&self->disk, done);
        push(&self->ready, done);
    }
}

/* @entry's request as ppoll saw it; read8 may find that the count was taken by somebody else: it stays. */
static void take_events(struct syscall_io *self, struct pawl_io_request *request, short revents)
{
    if (revents == 0)
        return;
    if (request->op == OP_POLL) {
        end_poll(self, request, revents & POLLNVAL ? -EBADF : revents);
        return;
    }
    ssize_t got = read(request->fd, &request->value, sizeof request->value);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    end_poll(self, request, got < 0 ? -errno : (int32_t)got);
}

static int arm_long_timer(struct syscall_io *self, uint64_t timeout_ns)
{
    if (self->timer_fd < 0)
        self->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                                         .tv_nsec = (long)(timeout_ns % 1000000000u)}};
    return self->timer_fd < 0 || timerfd_settime(self->timer_fd, 0, &at, NULL) < 0 ? -errno : 0;
}

static int poll_all(struct syscall_io *self, uint64_t timeout_ns)
{
    uint32_t count = 0;
    for (struct pawl_io_request *at = self->polls.first; at; at = at->next)
        self->pollfds[count++] = (struct pollfd){.fd = at->fd, .events = (short)at->events};
    uint32_t asked = count;
    if (timeout_ns > LONG_WAIT_NS && timeout_ns != UINT64_MAX) {
        int error = self->pollfds ? arm_long_timer(self, timeout_ns) : 0;
        if (error)
            return error;
        if (self->timer_fd >= 0)
            self->pollfds[count++] = (struct pollfd){.fd = self->timer_fd, .events = POLLIN};
    }
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                               .tv_nsec = (long)(timeout_ns % 1000000000u)};
    int seen = ppoll(self->pollfds, count, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);
    if (seen < 0)
        return errno == EINTR ? 0 : -errno;
    struct pawl_io_request *at = self->polls.first;
    for (uint32_t i = 0; i < asked && seen > 0; i++) {
        struct pawl_io_request *next = at->next;
        take_events(self, at, self->pollfds[i].revents);
        at = next;
    }
    return 0;
}

static int wait_for_any(struct pawl_io *io, uint64_t timeout_ns)
{
    struct syscall_io *self = of(io);
    carry_out_disk(self);
    if (self->ready.first)
        timeout_ns = 0;
    else if (!self->polls.first && timeout_ns == UINT64_MAX)
        return -EDEADLK;
    if (self->polls.first || timeout_ns > 0) {
        int error = poll_all(self, timeout_ns);
        if (error)
            return error;
    }
    struct request_list ready = self->ready;
    self->ready = (struct request_list){NULL, NULL};
    int count = 0;
    while (ready.first) {
        struct pawl_io_request *request = ready.first;
        take(&ready, request);
        request->active = false;
        request->done(request, request->result);
        count++;
    }
    return count;
}

static void close_all(struct pawl_io *io)
{
    struct syscall_io *self = of(io);
    if (self->timer_fd >= 0)
        close(self->timer_fd);
    free(self->pollfds);
    free(self);
}

static const struct pawl_io_ops syscall_ops = {
    .name = "syscall",
    .close = close_all,
    .commit = submit_commit,
    .write = submit_write,
    .fsync = submit_fsync,
    .poll = submit_poll,
    .poll_cancel = cancel_poll,
    .read8 = submit_read8,
    .wait = wait_for_any,
};

int pawl_io_syscall_open(struct pawl_io **io_out)
{
    struct syscall_io *self = calloc(1, sizeof *self);
    if (!self)
        return -ENOMEM;
    self->io.ops = &syscall_ops;
    self->timer_fd = -1;
    *io_out = &self->io;
    return 0;
}
