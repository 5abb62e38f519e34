/*
 * wire.c - framing of the control socket's messages, with descriptors.
 *
 * Runs in: every process that speaks on the socket, one thread for each struct pawl_wire. Never blocks but in
 * pawl_wire_call(). What comes in is not believed: sizes and descriptor counts are checked before anything is
 * allocated for them. On the stream each message is padded with zeros to a multiple of 8, so that bodies stay
 * aligned in the receive buffer.
 */
#include "shm/wire.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "shm/error.h"

enum {
    FIRST_BYTES = 4 << 10,
    READ_BYTES = 64 << 10,  /* asked for at once */
    KEEP_BYTES = 256 << 10, /* a larger buffer is given back when empty */
    /* Received, not yet delivered: of a message whose end is not here, and of the one behind it, which may
     * come with that end. More is a peer that plays. */
    FDS_WAITING_MAX = 2 * PAWL_WIRE_FDS_MAX,
};

_Static_assert(sizeof(struct pawl_wire_header) == 16, "wire format");

/* A descriptor and the stream position of the message that it belongs to (send side only). */
struct carried_fd {
    uint64_t position;
    int fd;
};

struct pawl_wire_buffer {
    unsigned char *bytes;
    size_t begin, end, capacity;
    uint64_t position; /* of bytes[begin] in the stream */
    struct carried_fd *fds;
    size_t fd_begin, fd_end, fd_capacity;
    uint64_t call_count;             /* send side: tags of pawl_wire_call() */
    size_t release_bytes;            /* receive side: of the message that the caller holds */
    struct pawl_wire_message *held;  /* the caller's, whose leftover descriptors are ours to close */
    int held_fds[PAWL_WIRE_FDS_MAX]; /* what was delivered in it: only those still there are closed */
    bool drained;                    /* the last read took all that there was */
};

static size_t padded(size_t bytes)
{
    return (bytes + 7) & ~(size_t)7;
}

static void buffer_free(struct pawl_wire_buffer *buffer)
{
    if (!buffer)
        return;
    for (size_t i = buffer->fd_begin; i < buffer->fd_end; i++)
        close(buffer->fds[i].fd);
    free(buffer->fds);
    free(buffer->bytes);
    free(buffer);
}

/* Room for @more bytes after end; moves what waits to the front first. Positions stay multiples of 8. */
static int reserve(struct pawl_wire_buffer *buffer, size_t more)
{
    if (buffer->capacity - buffer->end >= more)
        return 0;
    size_t waiting = buffer->end - buffer->begin;
    if (buffer->begin > 0) {
        memmove(buffer->bytes, buffer->bytes + buffer->begin, waiting);
        buffer->begin = 0;
        buffer->end = waiting;
        if (buffer->capacity - buffer->end >= more)
            return 0;
    }
    size_t capacity = buffer->capacity ? buffer->capacity : FIRST_BYTES;
    while (capacity - waiting < more)
        capacity *= 2;
    unsigned char *bytes = realloc(buffer->bytes, capacity);
    if (!bytes)
        return -ENOMEM;
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return 0;
}

static int push_fd(struct pawl_wire_buffer *buffer, int fd, uint64_t position)
{
    if (buffer->fd_begin > 0 &&
        (buffer->fd_begin == buffer->fd_end || buffer->fd_end == buffer->fd_capacity)) {
        buffer->fd_end -= buffer->fd_begin;
        memmove(buffer->fds, buffer->fds + buffer->fd_begin, buffer->fd_end * sizeof *buffer->fds);
        buffer->fd_begin = 0;
    }
    if (buffer->fd_end == buffer->fd_capacity) {
        size_t capacity = buffer->fd_capacity ? 2 * buffer->fd_capacity : PAWL_WIRE_FDS_MAX;
        struct carried_fd *fds = realloc(buffer->fds, capacity * sizeof *fds);
        if (!fds)
            return -ENOMEM;
        buffer->fds = fds;
        buffer->fd_capacity = capacity;
    }
    buffer->fds[buffer->fd_end++] = (struct carried_fd){.position = position, .fd = fd};
    return 0;
}

/* Forget bytes at the front; give a large empty buffer back. */
static void consume(struct pawl_wire_buffer *buffer, size_t bytes)
{
    buffer->begin += bytes;
    buffer->position += bytes;
    if (buffer->begin < buffer->end)
        return;
    buffer->begin = buffer->end = 0;
    if (buffer->capacity > KEEP_BYTES) {
        free(buffer->bytes);
        buffer->bytes = NULL;
        buffer->capacity = 0;
    }
}

int pawl_wire_init(struct pawl_wire *wire, int fd)
{
    *wire = (struct pawl_wire){.fd = fd};
    wire->in = calloc(1, sizeof *wire->in);
    wire->out = calloc(1, sizeof *wire->out);
    if (wire->in && wire->out)
        return 0;
    free(wire->in);
    free(wire->out);
    wire->in = wire->out = NULL;
    return -ENOMEM;
}

/* The message that the last receive gave is over: its bytes and the descriptors that nobody took. */
static void release_held(struct pawl_wire_buffer *in)
{
    if (in->held) {
        for (unsigned i = 0; i < PAWL_WIRE_FDS_MAX; i++)
            if (in->held_fds[i] >= 0 && in->held->fds[i] == in->held_fds[i]) {
                close(in->held_fds[i]);
                in->held->fds[i] = -1;
            }
        in->held = NULL;
    }
    if (in->release_bytes) {
        consume(in, in->release_bytes);
        in->release_bytes = 0;
    }
}

void pawl_wire_fini(struct pawl_wire *wire)
{
    if (wire->in)
        release_held(wire->in);
    buffer_free(wire->in);
    buffer_free(wire->out);
    wire->in = wire->out = NULL;
    if (wire->fd >= 0)
        close(wire->fd);
    wire->fd = -1;
}

int pawl_wire_queue_message(struct pawl_wire *wire, uint16_t type, uint64_t tag, const void *body,
                            size_t bytes, const void *more, size_t more_bytes, const int *fds,
                            unsigned fd_count)
{
    struct pawl_wire_buffer *out = wire->out;

    if (!out)
        return PAWL_E_CLOSED;
    if (bytes > PAWL_WIRE_BYTES_MAX || more_bytes > PAWL_WIRE_BYTES_MAX - bytes ||
        fd_count > PAWL_WIRE_FDS_MAX)
        return PAWL_E_LIMIT;
    size_t total = bytes + more_bytes;
    size_t on_stream = sizeof(struct pawl_wire_header) + padded(total);
    int error = reserve(out, on_stream);
    if (error)
        return error;

    unsigned pushed = 0;
    uint64_t position = out->position + (out->end - out->begin);
    for (; pushed < fd_count; pushed++) {
        int copy = fcntl(fds[pushed], F_DUPFD_CLOEXEC, 3);
        error = copy < 0 ? -errno : push_fd(out, copy, position);
        if (error) {
            if (copy >= 0)
                close(copy);
            goto drop_fds;
        }
    }
    struct pawl_wire_header header = {
        .bytes = (uint32_t)total, .type = type, .fd_count = (uint16_t)fd_count, .tag = tag};
    unsigned char *at = out->bytes + out->end;
    memcpy(at, &header, sizeof header);
    at += sizeof header;
    if (bytes)
        memcpy(at, body, bytes);
    if (more_bytes)
        memcpy(at + bytes, more, more_bytes);
    memset(at + total, 0, padded(total) - total);
    out->end += on_stream;
    return 0;

drop_fds:
    while (pushed-- > 0)
        close(out->fds[--out->fd_end].fd);
    return error;
}

size_t pawl_wire_pending(const struct pawl_wire *wire)
{
    return wire->out ? wire->out->end - wire->out->begin : 0;
}

size_t pawl_wire_pending_fds(const struct pawl_wire *wire)
{
    return wire->out ? wire->out->fd_end - wire->out->fd_begin : 0;
}

/* One sendmsg: from the front to where the next message with descriptors begins. */
static ssize_t send_some(int socket_fd, struct pawl_wire_buffer *out)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(PAWL_WIRE_FDS_MAX * sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = out->bytes + out->begin, .iov_len = out->end - out->begin};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    size_t count = 0;

    while (out->fd_begin + count < out->fd_end && out->fds[out->fd_begin + count].position == out->position)
        count++;
    if (out->fd_begin + count < out->fd_end) {
        uint64_t ahead = out->fds[out->fd_begin + count].position - out->position;
        if (ahead < iov.iov_len)
            iov.iov_len = (size_t)ahead;
    }
    if (count) {
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
        for (size_t i = 0; i < count; i++)
            memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &out->fds[out->fd_begin + i].fd, sizeof(int));
    }
    ssize_t sent = sendmsg(socket_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent <= 0)
        return sent < 0 ? -errno : 0;
    for (size_t i = 0; i < count; i++)
        close(out->fds[out->fd_begin++].fd);
    return sent;
}

int pawl_wire_flush(struct pawl_wire *wire)
{
    struct pawl_wire_buffer *out = wire->out;

    while (out && out->begin < out->end) {
        ssize_t sent = send_some(wire->fd, out);
        if (sent == -EINTR)
            continue;
        /* No memory for the packet is no reason to part: it is tried again like a full socket. */
        if (sent == -EAGAIN || sent == -ENOBUFS || sent == -ENOMEM)
            return -EAGAIN;
        if (sent == -EPIPE || sent == -ECONNRESET)
            return PAWL_E_CLOSED;
        if (sent < 0)
            return (int)sent;
        consume(out, (size_t)sent);
    }
    return 0;
}

/* 1 and the header when a whole message waits at the front, 0 when not, or PAWL_E_BAD_MESSAGE. */
static int look(const struct pawl_wire_buffer *in, struct pawl_wire_header *header_out)
{
    size_t waiting = in->end - in->begin;
    if (waiting < sizeof *header_out)
        return 0;
    memcpy(header_out, in->bytes + in->begin, sizeof *header_out);
    if (header_out->bytes > PAWL_WIRE_BYTES_MAX || header_out->fd_count > PAWL_WIRE_FDS_MAX)
        return PAWL_E_BAD_MESSAGE;
    return waiting >= sizeof *header_out + padded(header_out->bytes);
}

/* More came than any message has; or there was no room for them among ours. */
static int cut_short(struct msghdr *message)
{
    size_t count = 0;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg; cmsg = CMSG_NXTHDR(message, cmsg))
        if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS)
            count += (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    return count < PAWL_WIRE_FDS_MAX ? -EMFILE : PAWL_E_BAD_MESSAGE;
}

/* Takes over the descriptors of one received control block. */
static int take_fds(struct pawl_wire_buffer *in, struct msghdr *message)
{
    int error = message->msg_flags & MSG_CTRUNC ? cut_short(message) : 0;

    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg; cmsg = CMSG_NXTHDR(message, cmsg)) {
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof fd);
            if (!error && in->fd_end - in->fd_begin >= FDS_WAITING_MAX)
                error = PAWL_E_BAD_MESSAGE;
            if (!error)
                error = push_fd(in, fd, 0);
            if (error)
                close(fd);
        }
    }
    return error;
}

/* One recvmsg. 1: something came; 0: nothing there; or an error. */
static int receive_some(int socket_fd, struct pawl_wire_buffer *in)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(PAWL_WIRE_FDS_MAX * sizeof(int))];
    } control;
    struct pawl_wire_header header;
    size_t waiting = in->end - in->begin, want = FIRST_BYTES;

    /* A whole message would have been given out first: those that wait are of one message. */
    if (in->fd_end - in->fd_begin > PAWL_WIRE_FDS_MAX)
        return PAWL_E_BAD_MESSAGE;
    /* A header was checked by look() before we come here, so its size may be believed. */
    if (waiting >= sizeof header) {
        memcpy(&header, in->bytes + in->begin, sizeof header);
        want = sizeof header + padded(header.bytes) - waiting;
        if (want < READ_BYTES && waiting + want > FIRST_BYTES)
            want = READ_BYTES;
    }
    int error = reserve(in, want);
    if (error)
        return error;
    struct iovec iov = {.iov_base = in->bytes + in->end, .iov_len = in->capacity - in->end};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof control.space};
    ssize_t got;
    do
        got = recvmsg(socket_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    if (got < 0)
        return errno == ECONNRESET ? PAWL_E_CLOSED : -errno;
    error = take_fds(in, &message);
    if (error)
        return error;
    if (got == 0)
        return PAWL_E_CLOSED;
    in->end += (size_t)got;
    in->drained = (size_t)got < iov.iov_len;
    return 1;
}

int pawl_wire_receive(struct pawl_wire *wire, struct pawl_wire_message *message_out)
{
    struct pawl_wire_buffer *in = wire->in;
    struct pawl_wire_header header;

    if (!in)
        return PAWL_E_CLOSED;
    release_held(in);
    for (;;) {
        int whole = look(in, &header);
        if (whole < 0)
            return whole;
        if (whole)
            break;
        /* A short read emptied the socket a moment ago: the caller polls before the next one. */
        if (in->drained) {
            in->drained = false;
            return 0;
        }
        int got = receive_some(wire->fd, in);
        if (got <= 0)
            return got;
    }
    if (in->fd_end - in->fd_begin < header.fd_count)
        return PAWL_E_BAD_MESSAGE;
    message_out->header = header;
    message_out->body = in->bytes + in->begin + sizeof header;
    for (unsigned i = 0; i < PAWL_WIRE_FDS_MAX; i++) {
        int fd = i < header.fd_count ? in->fds[in->fd_begin++].fd : -1;
        message_out->fds[i] = in->held_fds[i] = fd;
    }
    in->held = header.fd_count ? message_out : NULL;
    in->release_bytes = sizeof header + padded(header.bytes);
    wire->received_count++;
    return 1;
}

#define CALL_TAG (UINT64_C(1) << 63) /* of calls, above all that senders of plain messages count up to */

static uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Wait for the socket. 0, -ETIMEDOUT or -errno. */
static int await(int fd, short events, uint64_t deadline_ns)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    for (;;) {
        struct timespec left, *wait = NULL;
        if (deadline_ns != UINT64_MAX) {
            uint64_t now_ns = monotonic_ns();
            uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
            left = (struct timespec){.tv_sec = (time_t)(left_ns / 1000000000u),
                                     .tv_nsec = (long)(left_ns % 1000000000u)};
            wait = &left;
        }
        int ready = ppoll(&poll_fd, 1, wait, NULL);
        if (ready > 0)
            return 0;
        if (ready == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

int pawl_wire_call(struct pawl_wire *wire, uint16_t type, const void *body, size_t bytes, const void *more,
                   size_t more_bytes, const int *fds, unsigned fd_count, uint64_t timeout_ns,
                   struct pawl_wire_message *reply_out)
{
    if (!wire->out)
        return PAWL_E_CLOSED;
    uint64_t tag = CALL_TAG | ++wire->out->call_count;
    int error = pawl_wire_queue_message(wire, type, tag, body, bytes, more, more_bytes, fds, fd_count);
    return error ? error : pawl_wire_call_on(wire, timeout_ns, reply_out);
}

int pawl_wire_call_on(struct pawl_wire *wire, uint64_t timeout_ns, struct pawl_wire_message *reply_out)
{
    uint64_t tag = CALL_TAG | wire->out->call_count, deadline_ns = UINT64_MAX;
    if (timeout_ns != UINT64_MAX) {
        deadline_ns = monotonic_ns() + timeout_ns;
        if (deadline_ns < timeout_ns)
            deadline_ns = UINT64_MAX;
    }
    bool sending = true;
    for (;;) {
        int error;
        if (sending) {
            error = pawl_wire_flush(wire);
            /* A peer that closed may have said why: read that first. */
            if (error && error != -EAGAIN && error != PAWL_E_CLOSED)
                return error;
            sending = error == -EAGAIN;
        }
        int got = pawl_wire_receive(wire, reply_out);
        if (got < 0)
            return got;
        /* Tag 0 answers no request: it is a refusal of the whole conversation. */
        if (got > 0 && (reply_out->header.tag == tag ||
                        (reply_out->header.type == PAWL_WIRE_ERROR && reply_out->header.tag == 0)))
            return 1;
        if (got > 0 && reply_out->header.type == PAWL_WIRE_NOTICE && wire->on_notice)
            wire->on_notice(wire->notice_ctx, reply_out);
        if (got > 0)
            continue;
        error = await(wire->fd, (short)(sending ? POLLIN | POLLOUT : POLLIN), deadline_ns);
        if (error)
            return error;
    }
}
