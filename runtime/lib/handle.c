/*
 * handle.c - a handle made, connected for the first time, closed.
 *
 * Runs in: the program that uses pawl.h.
 */
#include "runtime/lib/lib.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "runtime/lib/command.h"
#include "shm/error.h"

#define CONNECT_LIMIT_NS   UINT64_C(10000000000)
#define RECONNECT_LIMIT_NS UINT64_C(30000000000)
#define RETRY_FIRST_NS     UINT64_C(500000)

void pawl_lib_on_notice(struct pawl *pawl, void (*notice)(void *ctx, const char *text, size_t bytes),
                        void *ctx)
{
    pawl->on_notice = notice;
    pawl->notice_ctx = ctx;
}

int pawl_lib_open(struct pawl **pawl_out)
{
    struct pawl *pawl = calloc(1, sizeof *pawl);
    if (!pawl)
        return -ENOMEM;
    int error = 0;
    pawl->wire.fd = pawl->stop_fd = -1;
    pawl->spin = 256;
    pawl->retry_wait_ns = RETRY_FIRST_NS;
    pawl->connect_limit_ns = CONNECT_LIMIT_NS;
    pawl->reconnect_limit_ns = RECONNECT_LIMIT_NS;
    pawl->down_since_ns = pawl_lib_now_ns();
    pawl->publisher.first = pawl->publisher.next = pawl->publisher.send = pawl->publisher.kept = 1;
    while (pawl->publisher.id == 0)
        if (getrandom(&pawl->publisher.id, sizeof pawl->publisher.id, 0) != sizeof pawl->publisher.id) {
            error = -errno;
            goto free_pawl;
        }
    pawl->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    pawl->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = pawl->timer_fd};
    if (pawl->epoll_fd < 0 || pawl->timer_fd < 0 ||
        epoll_ctl(pawl->epoll_fd, EPOLL_CTL_ADD, pawl->timer_fd, &event) != 0) {
        error = -errno;
        goto close_fds;
    }
    pawl_lib_handle_made(pawl);
    *pawl_out = pawl;
    return 0;
close_fds:
    if (pawl->epoll_fd >= 0)
        close(pawl->epoll_fd);
    if (pawl->timer_fd >= 0)
        close(pawl->timer_fd);
free_pawl:
    free(pawl);
    return error;
}

static uint64_t limit_of(int timeout_ms, uint64_t without_ns)
{
    if (timeout_ms == 0)
        return without_ns;
    return timeout_ms < 0 ? PAWL_LIB_FOREVER : (uint64_t)timeout_ms * 1000000;
}

int pawl_lib_begin(struct pawl *pawl, int fd)
{
    if (fd >= 0)
        pawl_lib_shake_hands(pawl, fd);
    pawl_lib_step(pawl);
    while (pawl->phase != PAWL_LIB_UP && pawl->phase != PAWL_LIB_GONE) {
        int error = pawl_lib_wait(pawl, PAWL_LIB_FOREVER, PAWL_LIB_FOR_NEWS);
        if (error == -EINTR)
            pawl_lib_give_up(pawl, error);
        else if (error && pawl->phase != PAWL_LIB_GONE)
            pawl_lib_give_up(pawl, pawl_lib_fail(pawl, error, "cannot wait: %s", pawl_error_text(error)));
    }
    return pawl->phase == PAWL_LIB_GONE ? pawl->gone_error : 0;
}

static int connect_as(const struct pawl_connect_options *given, bool asks, struct pawl **pawl_out)
{
    struct pawl_connect_options options;
    struct pawl *pawl = NULL;
    char why[PAWL_STATE_WHY_BYTES] = "";
    int error = pawl_lib_need(NULL, pawl_out, "pawl_out");
    if (!error)
        error = pawl_lib_options(NULL, "pawl_connect_options", given, &options, sizeof options);
    if (error)
        return error;
    error = pawl_lib_open(&pawl);
    if (error)
        return pawl_lib_fail(NULL, error, "%s", pawl_error_text(error));
    pawl->may_launch = options.may_launch != 0;
    pawl->asks = asks;
    pawl->interrupted = options.interrupted;
    pawl->interrupt_context = options.interrupt_context;
    pawl->connect_limit_ns = limit_of(options.connect_timeout_ms, CONNECT_LIMIT_NS);
    pawl->reconnect_limit_ns = limit_of(options.reconnect_timeout_ms, RECONNECT_LIMIT_NS);
    if (options.socket) {
        pawl->socket_path = strdup(options.socket);
        error = pawl->socket_path ? 0 : -ENOMEM;
    } else {
        error =
            pawl_state_open(pawl_state_choose(options.state),
                            pawl->may_launch ? PAWL_STATE_CREATE : PAWL_STATE_EXISTING, &pawl->state, why);
        pawl->has_state = error == 0;
    }
    if (error)
        pawl_lib_fail(pawl, error, "%s", why[0] ? why : pawl_error_text(error));
    else
        error = pawl_lib_begin(pawl, -1);
    if (error) {
        pawl_lib_fail(NULL, error, "%s", pawl->error);
        pawl_close(pawl);
        return error;
    }
    *pawl_out = pawl;
    return 0;
}

int pawl_connect(const struct pawl_connect_options *given, struct pawl **pawl_out)
{
    return connect_as(given, false, pawl_out);
}

int pawl_lib_connect_to_ask(const struct pawl_connect_options *options, struct pawl **pawl_out)
{
    return connect_as(options, true, pawl_out);
}

void pawl_close(struct pawl *pawl)
{
    if (!pawl)
        return;
    bool ours = pawl->forks == pawl_lib_forks();
    pawl_lib_handle_gone(pawl);
    if (ours && pawl->lane)
        pawl_kick(pawl);
    pawl->phase = PAWL_LIB_GONE;
    if (!pawl->gone_error)
        pawl->gone_error = PAWL_E_CLOSED;
    pawl_lib_close_socket(pawl);
    pawl_lib_publisher_fini(pawl, 0);
    if (pawl->lane)
        pawl_lib_lane_close(pawl->lane);
    while (pawl->old_lanes) {
        struct pawl_lib_lane *lane = pawl->old_lanes;
        pawl->old_lanes = lane->next;
        pawl_lib_lane_close(lane);
    }
    while (pawl->consumers) {
        struct pawl_consumer *consumer = pawl->consumers;
        pawl->consumers = consumer->next;
        free(consumer);
    }
    for (size_t i = 0; i < pawl->slab_count; i++)
        free(pawl->slabs[i]);
    free(pawl->slabs);
    pawl_segment_close(&pawl->large);
    if (ours)
        pawl_lib_embedded_close(pawl);
    if (pawl->has_state)
        pawl_state_close(&pawl->state);
    close(pawl->epoll_fd);
    close(pawl->timer_fd);
    free(pawl->socket_path);
    free(pawl);
}
