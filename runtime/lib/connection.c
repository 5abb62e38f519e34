/*
 * connection.c - finds the scheduler, shakes hands, asks for the lane, and comes back after it was lost.
 *
 * Runs in: the program that uses pawl.h. A state machine of steps that do not wait, so that one poll loop can
 * drive it; who waits is wait.c. A scheduler that dies is restarted by its supervisor: until then we try
 * again, and send again what it did not confirm.
 */
#include "runtime/lib/lib.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/launch.h"
#include "runtime/supervise.h"
#include "shm/doorbell.h"
#include "shm/error.h"

#define RETRY_FIRST_NS UINT64_C(500000)
#define RETRY_MAX_NS   UINT64_C(50000000)

static void receive(struct pawl *pawl);

bool pawl_lib_has_threads(void)
{
    char line[256];
    long threads = 1;
    FILE *file = fopen("/proc/self/status", "re");
    if (!file)
        return false;
    while (fgets(line, sizeof line, file))
        if (strncmp(line, "Threads:", 8) == 0)
            threads = strtol(line + 8, NULL, 10);
    (void)fclose(file);
    return threads > 1;
}

/* ---- the end ---- */

void pawl_lib_give_up(struct pawl *pawl, int error)
{
    if (pawl->phase == PAWL_LIB_GONE)
        return;
    pawl_lib_lost(pawl);
    pawl->phase = PAWL_LIB_GONE;
    pawl->gone_error = error;
    pawl_lib_publisher_fini(pawl, PAWL_E_INDEFINITE);
    pawl->happened++;
}

void pawl_lib_close_socket(struct pawl *pawl)
{
    bool ours = pawl->forks == pawl_lib_forks();
    if (ours && pawl->wire.fd < 0)
        return;
    /* A forked child shares the epoll: it must not take our socket out of it. */
    if (ours)
        (void)epoll_ctl(pawl->epoll_fd, EPOLL_CTL_DEL, pawl->wire.fd, NULL);
    pawl_wire_fini(&pawl->wire);
    pawl->wire.fd = -1;
}

static void leave_lane(struct pawl *pawl)
{
    struct pawl_lib_lane *lane = pawl->lane;
    if (!lane)
        return;
    /* What it said before it went is true. */
    pawl_lib_take_in_replies(pawl);
    lane = pawl->lane;
    if (!lane)
        return;
    pawl->lost_settlements +=
        lane->end.settle_position - pawl_client_end_settled_durable(&lane->end) + lane->has_pending;
    pawl_lib_publisher_lost(pawl);
    pawl_lib_consumers_lost(pawl);
    (void)epoll_ctl(pawl->epoll_fd, EPOLL_CTL_DEL, lane->own_fd, NULL);
    (void)epoll_ctl(pawl->epoll_fd, EPOLL_CTL_DEL, lane->self_fd, NULL);
    pawl->lane = NULL;
    pawl_lib_lane_lose(lane);
}

void pawl_lib_lost(struct pawl *pawl)
{
    if (pawl->phase == PAWL_LIB_DOWN || pawl->phase == PAWL_LIB_GONE)
        return;
    bool was_up = pawl->phase == PAWL_LIB_UP;
    pawl->phase = PAWL_LIB_DOWN;
    pawl_lib_close_socket(pawl);
    leave_lane(pawl);
    pawl->beside_tag = 0;
    if (pawl->awaited_tag) {
        pawl->answered = true;
        pawl->answer_error = PAWL_E_CLOSED;
    }
    uint64_t now_ns = pawl_lib_now_ns();
    if (was_up) {
        pawl->down_since_ns = now_ns;
        pawl->retry_wait_ns = RETRY_FIRST_NS;
    }
    pawl->retry_at_ns = now_ns + (was_up ? 0 : pawl->retry_wait_ns);
    pawl->happened++;
}

/* ---- connecting ---- */

static int connect_short(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int error = -errno;
    close(fd);
    return error;
}

static int connect_to(const char *path)
{
    if (strlen(path) < sizeof((struct sockaddr_un *)0)->sun_path)
        return connect_short(path);
    /* Longer than an address holds: by way of a descriptor, whose name below /proc is short. */
    int there = open(path, O_PATH | O_CLOEXEC);
    if (there < 0)
        return -errno;
    char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", there);
    int fd = connect_short(name);
    close(there);
    return fd;
}

static int send_message(struct pawl *pawl, uint16_t type, uint64_t tag, const void *body, size_t bytes)
{
    int error = pawl_wire_queue_message(&pawl->wire, type, tag, body, bytes, NULL, 0, NULL, 0);
    if (!error)
        error = pawl_wire_flush(&pawl->wire);
    return error == -EAGAIN ? 0 : error;
}

void pawl_lib_shake_hands(struct pawl *pawl, int fd)
{
    int error = pawl_wire_init(&pawl->wire, fd);
    if (error) {
        close(fd);
        pawl->wire.fd = -1;
        return;
    }
    struct pawl_wire_hello hello = {.version = PAWL_WIRE_VERSION,
                                    .role = PAWL_ROLE_CLIENT,
                                    .flags = pawl->asks ? PAWL_HELLO_ASKS : 0,
                                    .pid = (uint32_t)getpid()};
    pawl->phase = PAWL_LIB_HELLO;
    pawl->hello_tag = ++pawl->next_tag;
    error = send_message(pawl, PAWL_WIRE_HELLO, pawl->hello_tag, &hello, sizeof hello);
    if (!error || error == PAWL_E_CLOSED) /* who closed may have said why */
        error = pawl_lib_watch_socket(pawl);
    if (error)
        pawl_lib_lost(pawl);
}

static void try_again(struct pawl *pawl)
{
    pawl->retry_at_ns = pawl_lib_now_ns() + pawl->retry_wait_ns;
    pawl->retry_wait_ns = pawl->retry_wait_ns * 2 < RETRY_MAX_NS ? pawl->retry_wait_ns * 2 : RETRY_MAX_NS;
}

static void start_connecting(struct pawl *pawl)
{
    const struct pawl_launch_options launch = {.temporary = true};
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d/socket", pawl->state.dirfd);
    const char *name = pawl->socket_path ? pawl->socket_path : pawl->state.path;
    int fd = connect_to(pawl->socket_path ? pawl->socket_path : path);
    try_again(pawl);
    if (fd == -ENOENT || fd == -ECONNREFUSED) {
        bool supervised = pawl->has_state && pawl_client_is_supervised(&pawl->state);
        /* What `pawl serve` had stays its own: a temporary one would keep the next `pawl serve` out. */
        bool launches = pawl->may_launch && pawl->has_state && !supervised && !pawl->was_served;
        if (launches && pawl_lib_has_threads())
            launches = false;
        if (launches) {
            int error = pawl_launch(&pawl->state, &launch, &fd);
            if (error)
                pawl_lib_give_up(
                    pawl, pawl_lib_fail(pawl, error, "cannot start a scheduler: %s", pawl_error_text(error)));
        } else if (!supervised && !pawl->was_up) {
            pawl_lib_give_up(pawl, pawl_lib_fail(pawl, fd,
                                                 pawl->embedded ? "the scheduler of %s ended before it served"
                                                 : pawl->may_launch
                                                     ? "nobody serves %s, and a program with threads "
                                                       "cannot start a scheduler"
                                                     : "nobody serves %s",
                                                 name));
        }
    } else if (fd < 0 && fd != -EAGAIN && !pawl->was_up) {
        pawl_lib_give_up(pawl,
                         pawl_lib_fail(pawl, fd, "cannot connect to %s: %s", name, pawl_error_text(fd)));
    }
    if (fd >= 0)
        pawl_lib_shake_hands(pawl, fd);
}

/* ---- what the scheduler says ---- */

static bool is_served(const struct pawl *pawl)
{
    char what[32];
    int pid;
    return pawl->has_state && pawl_supervise_holder(&pawl->state, &pid, what) && strcmp(what, "serve") == 0;
}

static void become_up(struct pawl *pawl)
{
    pawl->phase = PAWL_LIB_UP;
    pawl->was_up = true;
    pawl->was_served = is_served(pawl);
    pawl->retry_wait_ns = RETRY_FIRST_NS;
    pawl->happened++;
    pawl_lib_resend(pawl);
}

static void ask_for_lane(struct pawl *pawl)
{
    struct pawl_wire_attach attach = {.publisher = pawl->publisher.id};
    pawl->phase = PAWL_LIB_ATTACH;
    pawl->attach_tag = ++pawl->next_tag;
    if (send_message(pawl, PAWL_WIRE_ATTACH, pawl->attach_tag, &attach, sizeof attach) != 0)
        pawl_lib_lost(pawl);
}

/* The conversation is refused. A version or a right does not come back by trying again; room does. */
static void refused(struct pawl *pawl)
{
    struct pawl_error_report report;
    int error = pawl_client_read_error(&pawl->answer, &report);
    pawl_lib_fail_report(pawl, &report);
    bool final = error == -EACCES || error == -EPERM || error == PAWL_E_BAD_FORMAT || error == PAWL_E_DAMAGED;
    if (final || !pawl->was_up)
        pawl_lib_give_up(pawl, error);
    else
        pawl_lib_lost(pawl);
}

static void on_welcome(struct pawl *pawl)
{
    const struct pawl_wire_message *message = &pawl->answer;
    if (message->header.type == PAWL_WIRE_ERROR) {
        refused(pawl);
        return;
    }
    if (message->header.type != PAWL_WIRE_WELCOME || message->header.bytes < sizeof pawl->welcome) {
        pawl_lib_lost(pawl);
        return;
    }
    memcpy(&pawl->welcome, message->body, sizeof pawl->welcome);
    if (pawl->wants_lane)
        ask_for_lane(pawl);
    else
        become_up(pawl);
}

int pawl_lib_ask_consume(struct pawl *pawl, struct pawl_consumer *consumer)
{
    uint64_t left = consumer->limit - consumer->claimed;
    uint32_t credit = left >= consumer->credit ? consumer->credit : left > 0 ? (uint32_t)left : 1;
    struct pawl_wire_consume request = {
        .consumer = consumer->number, .credit = credit, .flags = consumer->flags, .from = consumer->from};
    memcpy(request.queue, consumer->queue, sizeof request.queue);
    memcpy(request.group, consumer->group, sizeof request.group);
    consumer->asked = consumer->claimed + credit;
    consumer->tag = ++pawl->next_tag;
    return send_message(pawl, PAWL_WIRE_CONSUME, consumer->tag, &request, sizeof request);
}

static void consume_again(struct pawl *pawl)
{
    pawl->phase = PAWL_LIB_CONSUME;
    bool any = false;
    for (struct pawl_consumer *consumer = pawl->consumers; consumer; consumer = consumer->next) {
        if (!consumer->consuming || consumer->error)
            continue;
        any = true;
        if (pawl_lib_ask_consume(pawl, consumer) != 0) {
            pawl_lib_lost(pawl);
            return;
        }
    }
    if (!any)
        become_up(pawl);
}

static void on_attached(struct pawl *pawl)
{
    struct pawl_wire_message *message = &pawl->answer;
    struct pawl_wire_attached attached = {.delay_ns_max = 0};
    if (message->header.type == PAWL_WIRE_ERROR && pawl->numbers == 0 && pawl->publisher.next == 1 &&
        !pawl->consumers) {
        /* Whoever asked for it is told; requests over the socket still work. */
        struct pawl_error_report report;
        pawl->attach_error = pawl_client_read_error(message, &report);
        pawl_lib_fail_report(pawl, &report);
        pawl->wants_lane = false;
        become_up(pawl);
        return;
    }
    if (message->header.type == PAWL_WIRE_ERROR) {
        refused(pawl);
        return;
    }
    size_t bytes = message->header.bytes < sizeof attached ? message->header.bytes : sizeof attached;
    if (message->header.type != PAWL_WIRE_ATTACHED ||
        bytes < offsetof(struct pawl_wire_attached, delay_ns_max) || message->header.fd_count != 4) {
        pawl_lib_lost(pawl);
        return;
    }
    memcpy(&attached, message->body, bytes);
    int error = pawl_lib_lane_open(pawl, message->fds, attached.epoch, &pawl->lane);
    if (error == 0) {
        struct epoll_event own = {.events = EPOLLIN, .data.fd = pawl->lane->own_fd};
        struct epoll_event self = {.events = EPOLLIN, .data.fd = pawl->lane->self_fd};
        if (epoll_ctl(pawl->epoll_fd, EPOLL_CTL_ADD, pawl->lane->own_fd, &own) != 0 ||
            epoll_ctl(pawl->epoll_fd, EPOLL_CTL_ADD, pawl->lane->self_fd, &self) != 0)
            error = -errno;
    }
    if (error) {
        pawl_lib_give_up(pawl,
                         pawl_lib_fail(pawl, error, "%s: %s",
                                       error == -ENOMEM ? "the machine has not enough memory to map its lane"
                                                        : "cannot map the lane",
                                       pawl_error_text(error)));
        return;
    }
    if (pawl->polled)
        pawl_doorbell_prepare(&pawl->lane->end.lane->sleeping);
    pawl->data_bytes_max = attached.data_bytes_max;
    pawl->headers_bytes_max = attached.headers_bytes_max;
    pawl->delay_ns_max = attached.delay_ns_max;
    pawl_lib_publisher_attached(pawl, attached.publisher_sequence);
    if (pawl->phase == PAWL_LIB_ATTACH) /* a callback may have lost it again */
        consume_again(pawl);
}

static void on_consume_ok(struct pawl *pawl, struct pawl_consumer *consumer)
{
    struct pawl_error_report report;
    consumer->tag = 0;
    if (pawl->answer.header.type == PAWL_WIRE_ERROR) {
        consumer->error = pawl_client_read_error(&pawl->answer, &report);
        pawl_lib_fail_report(pawl, &report);
    }
    for (struct pawl_consumer *other = pawl->consumers; other; other = other->next)
        if (other->tag)
            return;
    if (pawl->phase == PAWL_LIB_CONSUME)
        become_up(pawl);
}

static void on_message(struct pawl *pawl)
{
    uint64_t tag = pawl->answer.header.tag;
    if (tag == 0) {
        if (pawl->answer.header.type == PAWL_WIRE_ERROR)
            refused(pawl);
        else if (pawl->answer.header.type == PAWL_WIRE_NOTICE && pawl->on_notice)
            pawl->on_notice(pawl->notice_ctx, pawl->answer.body, pawl->answer.header.bytes);
        return;
    }
    if (tag == pawl->beside_tag)
        pawl->beside_tag = 0;
    else if (tag == pawl->hello_tag && pawl->phase == PAWL_LIB_HELLO)
        on_welcome(pawl);
    else if (tag == pawl->attach_tag && pawl->phase == PAWL_LIB_ATTACH)
        on_attached(pawl);
    else if (pawl->phase == PAWL_LIB_CONSUME)
        for (struct pawl_consumer *consumer = pawl->consumers; consumer; consumer = consumer->next)
            if (consumer->tag == tag) {
                on_consume_ok(pawl, consumer);
                return;
            }
}

/* Whoever asked for the first lane is told; later ones are tried again until the time is over. */
static void lack_descriptors(struct pawl *pawl)
{
    pawl_lib_fail(pawl, -EMFILE, "too few file descriptors to attach: four more are needed (ulimit -n)");
    if (pawl->phase != PAWL_LIB_ATTACH || pawl->numbers != 0 || pawl->publisher.next != 1 || pawl->consumers)
        return;
    pawl->attach_error = -EMFILE;
    pawl->wants_lane = false;
}

static void receive(struct pawl *pawl)
{
    while (pawl->wire.fd >= 0 && !pawl->answered) {
        int got = pawl_wire_receive(&pawl->wire, &pawl->answer);
        if (got == 0)
            return;
        if (got < 0) {
            if (got == -EMFILE)
                lack_descriptors(pawl);
            pawl_lib_lost(pawl);
            return;
        }
        if (pawl->awaited_tag && pawl->answer.header.tag == pawl->awaited_tag) {
            pawl->answered = true;
            pawl->answer_error = 0;
            return;
        }
        on_message(pawl);
    }
}

void pawl_lib_step(struct pawl *pawl)
{
    if (pawl->phase == PAWL_LIB_GONE)
        return;
    if (pawl->phase == PAWL_LIB_DOWN && pawl_lib_now_ns() >= pawl->retry_at_ns)
        start_connecting(pawl);
    if (pawl->wire.fd >= 0) {
        int error = pawl_wire_flush(&pawl->wire);
        /* Who closed may have said why: that is read first. */
        if (error && error != -EAGAIN && error != PAWL_E_CLOSED)
            pawl_lib_lost(pawl);
        receive(pawl);
    }
    if (pawl->phase == PAWL_LIB_UP || pawl->phase == PAWL_LIB_GONE)
        return;
    uint64_t limit_ns = pawl->was_up ? pawl->reconnect_limit_ns : pawl->connect_limit_ns;
    if (limit_ns == PAWL_LIB_FOREVER || pawl_lib_now_ns() - pawl->down_since_ns < limit_ns)
        return;
    if (pawl->was_up)
        pawl_lib_give_up(pawl,
                         pawl_lib_fail(pawl, PAWL_E_CLOSED,
                                       pawl->wire.fd >= 0 ? "the scheduler does not answer"
                                                          : "the scheduler is gone and did not come back"));
    else
        pawl_lib_give_up(pawl, pawl_lib_fail(pawl, -ETIMEDOUT, "the scheduler does not answer"));
}

int pawl_lib_need_lane(struct pawl *pawl, uint64_t deadline_ns)
{
    for (;;) {
        if (pawl->phase == PAWL_LIB_UP && pawl->lane)
            return 0;
        if (pawl->attach_error) {
            int error = pawl->attach_error;
            pawl->attach_error = 0;
            return error;
        }
        if (pawl->phase == PAWL_LIB_UP) {
            pawl->wants_lane = true;
            pawl->down_since_ns = pawl_lib_now_ns();
            ask_for_lane(pawl);
        }
        int error = pawl_lib_wait(pawl, deadline_ns, PAWL_LIB_FOR_NEWS);
        if (error == -ETIMEDOUT)
            return pawl_lib_fail(pawl, -EAGAIN, "no connection to the scheduler in time: nothing was sent");
        if (error)
            return error;
        pawl_lib_take_in(pawl);
    }
}
