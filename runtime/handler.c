/*
 * handler.c - claims, asks, settles; one delivery at a time, so that a crash costs one attempt.
 *
 * Runs in: a handler process, one thread. SIGTERM lets the handler end what it does.
 */
#include "runtime/handler.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/error.h"

enum { PREFETCH = 16, DECLARED_LOOK_MS = 200, FLUSH_MS = 10000 };

struct life {
    struct pawl *pawl;
    struct pawl_consumer *consumer;
    const struct pawl_handling *handling;
};

int pawl_handling_listen(int parent)
{
    sigset_t set;
    int before = getppid();
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0)
        return -errno;
    /* It may have died before that: then we belong to init, or to a subreaper. */
    if (getppid() != before || getppid() == 1 || (parent && before != parent))
        return -ESRCH;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

/* Was it told to go, within this time? */
static bool is_dismissed(const struct life *life, int timeout_ms)
{
    struct pollfd fd = {.fd = life->handling->signal_fd, .events = POLLIN};
    return poll(&fd, 1, timeout_ms) > 0;
}

/* ---- bounds that several share ---- */

static bool take_ticket(struct pawl_handling_share *share)
{
    uint64_t left = share ? atomic_load_explicit(&share->left, memory_order_relaxed) : UINT64_MAX;
    while (left != UINT64_MAX && left > 0)
        if (atomic_compare_exchange_weak_explicit(&share->left, &left, left - 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    return left > 0;
}

static void give_ticket_back(struct pawl_handling_share *share)
{
    if (share && atomic_load_explicit(&share->left, memory_order_relaxed) != UINT64_MAX)
        atomic_fetch_add_explicit(&share->left, 1, memory_order_relaxed);
}

static void mark(const struct pawl_handling *handling, bool running)
{
    if (!handling->share)
        return;
    atomic_store_explicit(&handling->share->running[handling->place], running, memory_order_relaxed);
    atomic_store_explicit(&handling->share->busy_at_ns, pawl_clock_monotonic_ns(), memory_order_relaxed);
}

/* How long to wait for the next one; -1: no bound; 0: nothing came for too long. A process that is busy looks
 * after its own bound: its delivery may come again. */
static int64_t idle_left_ms(const struct pawl_handling *handling)
{
    if (!handling->share || handling->wait_ms < 0)
        return -1;
    uint64_t busy_at_ns = atomic_load_explicit(&handling->share->busy_at_ns, memory_order_relaxed);
    uint64_t now_ns = pawl_clock_monotonic_ns();
    int64_t idle_ms = now_ns > busy_at_ns ? (int64_t)((now_ns - busy_at_ns) / 1000000) : 0;
    return idle_ms >= handling->wait_ms ? 0 : handling->wait_ms - idle_ms;
}

/* ---- one delivery ---- */

static void count_failure(const struct pawl_handling *handling)
{
    if (handling->share)
        atomic_fetch_add_explicit(&handling->share->failed, 1, memory_order_relaxed);
}

static void settle_by_result(const struct life *life, const struct pawl_delivery *delivery, int result)
{
    char text[64];
    int error = 0;
    snprintf(text, sizeof text, "the handler returned %d", result);
    if (result == PAWL_HANDLER_ACK)
        (void)pawl_ack(delivery);
    else if (result == PAWL_HANDLER_REJECT)
        error = pawl_reject(delivery, NULL);
    else if (result == PAWL_HANDLER_NACK)
        error = pawl_nack_cause(delivery, PAWL_HANDLER_NACK, -1, 1, NULL);
    else
        error = pawl_nack_cause(delivery, -1, -1, 0, text);
    /* One that the handler settled itself is stale by now, which is all right. */
    if (result != PAWL_HANDLER_ACK && error != PAWL_ERR_STALE)
        count_failure(life->handling);
}

/* As many as are there. 0: none now; 1: the bound is reached, or it was told to go; an error. */
static int handle_all(const struct life *life)
{
    const struct pawl_handling *handling = life->handling;
    for (;;) {
        const struct pawl_delivery *delivery;
        if (is_dismissed(life, 0) || !take_ticket(handling->share))
            return 1;
        int got = pawl_claim(life->consumer, &delivery, 1, 0);
        if (got <= 0) {
            give_ticket_back(handling->share);
            return got;
        }
        mark(handling, true);
        settle_by_result(life, delivery, handling->handler(life->consumer, delivery, handling->context));
        mark(handling, false);
    }
}

/* Its queue may not be declared yet. */
static int subscribe(struct life *life)
{
    const struct pawl_handling *handling = life->handling;
    struct pawl_consumer_options options = {.bytes = sizeof options,
                                            .group = handling->group,
                                            .prefetch = handling->prefetch ? handling->prefetch : PREFETCH,
                                            .has_from = handling->has_from,
                                            .from = handling->from};
    for (;;) {
        int error = pawl_consume(life->pawl, handling->queue, &options, &life->consumer);
        if (error != PAWL_E_NOT_FOUND || !handling->waits)
            return error;
        if (is_dismissed(life, DECLARED_LOOK_MS))
            return -EINTR;
    }
}

static int serve(struct life *life)
{
    struct pollfd fds[2] = {{.fd = life->handling->signal_fd, .events = POLLIN},
                            {.fd = pawl_fd(life->pawl), .events = POLLIN}};
    for (;;) {
        int done = handle_all(life);
        if (done == PAWL_ERR_NOT_FOUND && life->handling->waits) {
            /* Its queue was deleted: it may be declared again. */
            pawl_consumer_close(life->consumer);
            done = subscribe(life);
            if (done == 0)
                continue;
            done = done == -EINTR ? 1 : done;
        }
        if (done != 0)
            return done > 0 ? 0 : done;
        int64_t wait_ms = idle_left_ms(life->handling);
        if (wait_ms == 0)
            return 0;
        if (poll(fds, 2, wait_ms > 60000 ? 60000 : (int)wait_ms) < 0 && errno != EINTR)
            return -errno;
        int happened = pawl_dispatch(life->pawl, 0);
        if (happened < 0)
            return happened;
    }
}

int pawl_handling_run(struct pawl *pawl, const struct pawl_handling *handling)
{
    struct life life = {.pawl = pawl, .handling = handling};
    int error = subscribe(&life);
    if (error)
        return error == -EINTR ? 0 : error;
    if (handling->subscribed_out)
        *handling->subscribed_out = true;
    error = serve(&life);
    if (error == 0)
        error = pawl_flush(pawl, FLUSH_MS); /* what it settled need not be done again */
    if (handling->share)
        atomic_fetch_add_explicit(&handling->share->late, pawl_late_settlements(pawl), memory_order_relaxed);
    return error;
}
