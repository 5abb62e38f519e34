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

#include "runtime/lib/command.h"
#include "shm/clock.h"
#include "shm/error.h"

enum { PREFETCH = 16, DECLARED_LOOK_MS = 200, FLUSH_MS = 10000 };

struct life {
    struct pawl *pawl;
    struct pawl_consumer *consumer;
    const struct pawl_handling *handling;
    uint64_t claimed; /* of this consumer */
};

int pawl_handling_listen(pid_t parent)
{
    sigset_t set;
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0)
        return -errno;
    /* It may have died before that: then we belong to somebody else. In a container it may be process 1. */
    if (getppid() != parent)
        return -ESRCH;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

struct connecting {
    int signal_fd;
    bool over; /* a call that it waits in later, and what it settles by that, does not end by this */
};

static int is_told_to_go(void *context)
{
    const struct connecting *connecting = context;
    struct pollfd fd = {.fd = connecting->signal_fd, .events = POLLIN};
    return !connecting->over && poll(&fd, 1, 0) > 0;
}

int pawl_handling_connect(const char *state_path, int signal_fd, struct pawl **pawl_out)
{
    static struct connecting connecting;
    const struct pawl_connect_options options = {.bytes = sizeof options,
                                                 .state = state_path,
                                                 .connect_timeout_ms = -1,
                                                 .interrupted = is_told_to_go,
                                                 .interrupt_context = &connecting};
    connecting.signal_fd = signal_fd;
    int error = pawl_connect(&options, pawl_out);
    connecting.over = true;
    return error;
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

static bool is_bounded(const struct pawl_handling *handling)
{
    return handling->share &&
           atomic_load_explicit(&handling->share->left, memory_order_relaxed) != UINT64_MAX;
}

void pawl_handling_give_back(struct pawl_handling_share *share, uint32_t place)
{
    uint32_t asked = atomic_exchange_explicit(&share->places[place].asked, 0, memory_order_relaxed);
    if (asked > 0)
        atomic_fetch_add_explicit(&share->left, asked, memory_order_relaxed);
}

/* So many may be asked for, @most at a time: none comes that nobody has a ticket for, where one of a queue
 * with --guarantee at_most_once would be lost. */
static uint32_t take_tickets(const struct life *life, uint32_t most)
{
    const struct pawl_handling *handling = life->handling;
    if (!is_bounded(handling))
        return most;
    _Atomic uint32_t *asked = &handling->share->places[handling->place].asked;
    uint32_t count = atomic_load_explicit(asked, memory_order_relaxed);
    while (count < most && take_ticket(handling->share))
        atomic_store_explicit(asked, ++count, memory_order_relaxed);
    if (life->consumer)
        pawl_lib_consumer_limit(life->consumer, life->claimed + count);
    return count;
}

static void mark(const struct pawl_handling *handling, bool running)
{
    if (!handling->share)
        return;
    struct pawl_handling_place *place = &handling->share->places[handling->place];
    if (running && is_bounded(handling))
        atomic_fetch_sub_explicit(&place->asked, 1, memory_order_relaxed);
    atomic_store_explicit(&place->running, running, memory_order_relaxed);
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

static uint32_t prefetch_of(const struct pawl_handling *handling)
{
    return handling->prefetch ? handling->prefetch : PREFETCH;
}

/* As many as are there. 0: none now; 1: the bound is reached, or it was told to go; an error. */
static int handle_all(struct life *life)
{
    const struct pawl_handling *handling = life->handling;
    for (;;) {
        const struct pawl_delivery *delivery;
        if (is_dismissed(life, 0) || take_tickets(life, prefetch_of(handling)) == 0)
            return 1;
        int got = pawl_claim(life->consumer, &delivery, 1, 0);
        if (got <= 0)
            return got;
        life->claimed++;
        mark(handling, true);
        int result = handling->handler(life->consumer, delivery, handling->context);
        mark(handling, false);
        (void)take_tickets(life, prefetch_of(handling)); /* before its credit goes back */
        settle_by_result(life, delivery, result);
    }
}

/* Its queue may not be declared yet. 1: the bound is reached. */
static int subscribe(struct life *life)
{
    const struct pawl_handling *handling = life->handling;
    life->consumer = NULL;
    life->claimed = 0;
    uint32_t credit = take_tickets(life, prefetch_of(handling));
    if (credit == 0)
        return 1;
    struct pawl_consumer_options options = {.bytes = sizeof options,
                                            .group = handling->group,
                                            .prefetch = credit,
                                            .has_from = handling->has_from,
                                            .from = handling->from};
    for (;;) {
        int error = pawl_consume(life->pawl, handling->queue, &options, &life->consumer);
        if (error == 0 && is_bounded(handling))
            pawl_lib_consumer_limit(life->consumer, credit);
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

static int live(struct life *life)
{
    const struct pawl_handling *handling = life->handling;
    struct pawl *pawl = life->pawl;
    int error = subscribe(life);
    if (error)
        return error == -EINTR || error > 0 ? 0 : error;
    if (handling->subscribed_out)
        *handling->subscribed_out = true;
    error = serve(life);
    if (error == 0)
        error = pawl_flush(pawl, FLUSH_MS); /* what it settled need not be done again */
    if (handling->share)
        atomic_fetch_add_explicit(&handling->share->late, pawl_late_settlements(pawl), memory_order_relaxed);
    return error;
}

int pawl_handling_run(struct pawl *pawl, const struct pawl_handling *handling)
{
    struct life life = {.pawl = pawl, .handling = handling};
    int error = live(&life);
    if (handling->share)
        pawl_handling_give_back(handling->share, handling->place);
    return error;
}
