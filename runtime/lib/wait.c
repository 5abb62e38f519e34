/*
 * wait.c - sleeping until something comes, spinning a little before, and the user's poll loop.
 *
 * Runs in: the program that uses pawl.h. The flag in the lane is up while we sleep, and while a poll loop of
 * the user's may be sleeping for us (D1, doorbell.h).
 */
#include "runtime/lib/lib.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define IS_SINGLE_THREADED (__libc_single_threaded != 0)
#else
#define IS_SINGLE_THREADED false
#endif

#include "shm/clock.h"
#include "shm/doorbell.h"
#include "shm/error.h"

enum {
    SPIN_MIN = 64,
    SPIN_MAX = 2048, /* about 20 us of pauses */
    YIELD_EVERY = 32,
};
#define NAP_FIRST_NS UINT64_C(20000000)

uint64_t pawl_lib_now_ns(void)
{
    return pawl_clock_monotonic_ns();
}

uint64_t pawl_lib_deadline_ns(uint64_t limit_ns)
{
    uint64_t now_ns = limit_ns == 0 ? 0 : pawl_lib_now_ns();
    return limit_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + limit_ns;
}

/* 0: in the past, never waited for. */
uint64_t pawl_lib_deadline(int timeout_ms)
{
    if (timeout_ms < 0)
        return PAWL_LIB_FOREVER;
    return pawl_lib_deadline_ns((uint64_t)timeout_ms * 1000000);
}

static inline void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool lane_has_news(const struct pawl_lib_lane *lane, unsigned what)
{
    return pawl_client_end_waiting(&lane->end) ||
           ((what & PAWL_LIB_FOR_ROOM) && pawl_client_end_has_room(&lane->end)) ||
           ((what & PAWL_LIB_FOR_DURABLE) && pawl_lib_all_settled(lane));
}

/* What to be woken for (client_lane.h). Who was refused room waits for it, whatever else it does. */
static uint32_t sleep_word(const struct pawl *pawl, unsigned what)
{
    const struct pawl_client_end *end = &pawl->lane->end;
    return what == PAWL_LIB_FOR_NEWS && !pawl->flushing && !end->submit_refused && !end->settle_refused
               ? PAWL_CLIENT_SLEEP_NEWS
               : PAWL_CLIENT_SLEEP_ALL;
}

/* The scheduler syncs acks at leisure, unless it sees that somebody sleeps until they are. */
static void hurry(const struct pawl_lib_lane *lane)
{
    pawl_doorbell_ring(&lane->end.inbound->sleeping, lane->scheduler_fd); /* D1 */
}

void pawl_lib_take_in(struct pawl *pawl)
{
    if (pawl->phase != PAWL_LIB_UP)
        pawl_lib_step(pawl);
    pawl_lib_take_in_replies(pawl);
    /* Deliveries too: while one lies there, nobody would get to sleep. */
    pawl_lib_take_in_deliveries(pawl, NULL, SIZE_MAX);
    if (pawl->publisher.send != pawl->publisher.next && pawl->phase == PAWL_LIB_UP)
        pawl_lib_resend(pawl);
}

/* ---- the user's poll loop ---- */

int pawl_lib_watch_socket(struct pawl *pawl)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = pawl->wire.fd};
    if (pawl_wire_pending(&pawl->wire) > 0)
        event.events |= EPOLLOUT;
    if (epoll_ctl(pawl->epoll_fd, EPOLL_CTL_ADD, pawl->wire.fd, &event) == 0)
        return 0;
    return errno == EEXIST && epoll_ctl(pawl->epoll_fd, EPOLL_CTL_MOD, pawl->wire.fd, &event) == 0 ? 0
                                                                                                   : -errno;
}

static void set_timer(struct pawl *pawl)
{
    struct itimerspec when = {{0, 0}, {0, 0}};
    if (pawl->phase == PAWL_LIB_DOWN || pawl->phase == PAWL_LIB_GONE) {
        uint64_t at_ns = pawl->phase == PAWL_LIB_GONE ? 1 : pawl->retry_at_ns;
        when.it_value.tv_sec = (time_t)(at_ns / 1000000000);
        when.it_value.tv_nsec = (long)(at_ns % 1000000000) + (at_ns == 0);
    } else if (pawl->phase != PAWL_LIB_UP && pawl->reconnect_limit_ns != PAWL_LIB_FOREVER) {
        uint64_t at_ns = pawl->down_since_ns + pawl->reconnect_limit_ns;
        when.it_value.tv_sec = (time_t)(at_ns / 1000000000);
        when.it_value.tv_nsec = (long)(at_ns % 1000000000);
    }
    pawl->timed = when.it_value.tv_sec != 0 || when.it_value.tv_nsec != 0;
    (void)timerfd_settime(pawl->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Room, or what a flush waits for, may have come while the word in the lane said that nobody is to be woken
 * for it. Each is told once: who does not use it is not to be woken for ever. */
static bool note_what_came(struct pawl *pawl)
{
    bool durable = pawl->flushing && pawl_lib_all_settled(pawl->lane);
    if (durable)
        pawl->flushing = false;
    return pawl_client_end_note_room(&pawl->lane->end) || durable;
}

void pawl_lib_arm(struct pawl *pawl)
{
    if (!pawl->polled || pawl->forks != pawl_lib_forks()) /* a forked child does not have the lane */
        return;
    if (pawl->phase != PAWL_LIB_UP || pawl->timed) /* up again, nothing is to be done at any time */
        set_timer(pawl);
    bool unsent = pawl->wire.fd >= 0 && pawl_wire_pending(&pawl->wire) > 0;
    if (unsent != pawl->epoll_has_out && pawl->wire.fd >= 0 && pawl_lib_watch_socket(pawl) == 0)
        pawl->epoll_has_out = unsent;
    struct pawl_lib_lane *lane = pawl->lane;
    if (!lane)
        return;
    pawl_doorbell_prepare_for(&lane->end.lane->sleeping, sleep_word(pawl, PAWL_LIB_FOR_NEWS)); /* D1 */
    bool came = note_what_came(pawl);
    if (pawl->unseen || came || lane_has_news(lane, PAWL_LIB_FOR_NEWS))
        pawl_doorbell_write(lane->self_fd);
    else if (pawl->flushing)
        hurry(lane);
}

int pawl_fd(const struct pawl *pawl)
{
    struct pawl *mine = (struct pawl *)(uintptr_t)pawl;
    int error = pawl_lib_check(mine);
    if (error && (!mine || mine->phase != PAWL_LIB_GONE)) /* one that is gone is readable for ever */
        return error;
    if (!mine->polled) {
        mine->polled = true;
        pawl_lib_arm(mine);
    }
    return mine->epoll_fd;
}

int pawl_dispatch(struct pawl *pawl, int timeout_ms)
{
    int error = pawl_lib_check(pawl);
    if (error)
        return error;
    uint64_t deadline_ns = pawl_lib_deadline(timeout_ms), before = pawl->happened;
    pawl_kick(pawl);
    for (;;) {
        if (pawl->polled && pawl->lane) {
            pawl_doorbell_awake(&pawl->lane->end.lane->sleeping);
            pawl_doorbell_clear(pawl->lane->own_fd);
            pawl_doorbell_clear(pawl->lane->self_fd);
        }
        pawl_lib_step(pawl);
        pawl_lib_take_in(pawl);
        error = pawl->phase == PAWL_LIB_GONE ? pawl->gone_error : 0;
        if (error || pawl->happened != before)
            break;
        int waited = pawl_lib_wait(pawl, deadline_ns, PAWL_LIB_FOR_NEWS);
        error = waited == -EINTR ? waited : 0;
        if (waited != 0)
            break;
    }
    pawl->unseen = false; /* whoever dispatches claims */
    pawl_lib_arm(pawl);
    if (error)
        return error;
    uint64_t happened = pawl->happened - before;
    return happened > INT32_MAX ? INT32_MAX : (int)happened;
}

/* ---- sleeping ---- */

/* Looks for a short while, longer where that has paid. */
static bool spin(struct pawl *pawl, unsigned what)
{
    const struct pawl_lib_lane *lane = pawl->lane;
    for (uint32_t i = 0; i < pawl->spin; i++) {
        if (lane_has_news(lane, what)) {
            pawl->spin = pawl->spin * 2 < SPIN_MAX ? pawl->spin * 2 : SPIN_MAX;
            return true;
        }
        /* Who is waited for may want this core. */
        if (i % YIELD_EVERY == YIELD_EVERY - 1)
            (void)sched_yield();
        else
            pause_briefly();
    }
    pawl->spin = pawl->spin / 2 > SPIN_MIN ? pawl->spin / 2 : SPIN_MIN;
    return false;
}

/* When the connection wants us whatever comes. */
static uint64_t next_step_ns(const struct pawl *pawl)
{
    if (pawl->phase == PAWL_LIB_UP)
        return UINT64_MAX;
    uint64_t at_ns = pawl->phase == PAWL_LIB_DOWN ? pawl->retry_at_ns : UINT64_MAX;
    uint64_t limit_ns = pawl->was_up ? pawl->reconnect_limit_ns : pawl->connect_limit_ns;
    if (limit_ns != PAWL_LIB_FOREVER && pawl->down_since_ns + limit_ns < at_ns)
        at_ns = pawl->down_since_ns + limit_ns;
    return at_ns;
}

/* 0; 1: the time has passed, and nothing came; an error. @mask: of signals, from the sleep on; NULL: as it
 * is. */
static int sleep_until(struct pawl *pawl, uint64_t until_ns, const sigset_t *mask, bool *bell_out)
{
    struct pollfd fds[3] = {
        {.fd = pawl->wire.fd, .events = POLLIN},
        {.fd = pawl->lane ? pawl->lane->own_fd : -1, .events = POLLIN},
        {.fd = pawl->stop_fd, .events = POLLIN},
    };
    if (pawl->wire.fd >= 0 && pawl_wire_pending(&pawl->wire) > 0)
        fds[0].events |= POLLOUT;
    struct timespec left, *wait = NULL;
    if (until_ns != UINT64_MAX) {
        uint64_t now_ns = pawl_lib_now_ns(), left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
        left = (struct timespec){.tv_sec = (time_t)(left_ns / 1000000000),
                                 .tv_nsec = (long)(left_ns % 1000000000)};
        wait = &left;
    }
    int ready = ppoll(fds, 3, wait, mask);
    if (mask)
        (void)pthread_sigmask(SIG_SETMASK, mask, NULL);
    *bell_out = ready > 0 && fds[1].revents != 0;
    if (ready > 0 && fds[2].revents != 0) {
        pawl->stopped = true;
        pawl->stop_fd = -1; /* it stays readable: the answer is still to come */
    }
    if (ready > 0 && fds[0].revents != 0)
        pawl_lib_step(pawl);
    if (ready < 0)
        return errno == EINTR ? 0 : -errno;
    return ready == 0;
}

/* All but those that a mistake of the program raises where it stands. */
static void hold_signals(sigset_t *before)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t most;
    sigfillset(&most);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(&most, own[i]);
    (void)pthread_sigmask(SIG_BLOCK, &most, before);
}

/* The same where the program may want the call to end. Signals are held back from the question to the sleep:
 * one that comes between ends the sleep. A signal that another thread handles wakes nobody here: where there
 * are threads it sleeps in naps, each as long as all before, and an idle program hardly ever wakes up. */
static int heed_until(struct pawl *pawl, uint64_t until_ns, bool *bell_out)
{
    for (uint64_t nap_ns = NAP_FIRST_NS;; nap_ns *= 2) {
        sigset_t before;
        hold_signals(&before);
        if (pawl->interrupted(pawl->interrupt_context)) {
            (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
            return pawl_lib_fail(pawl, -EINTR, "interrupted");
        }
        uint64_t nap_until_ns = IS_SINGLE_THREADED ? UINT64_MAX : pawl_lib_deadline_ns(nap_ns);
        if (nap_until_ns >= until_ns)
            return sleep_until(pawl, until_ns, &before, bell_out);
        int slept = sleep_until(pawl, nap_until_ns, &before, bell_out);
        if (slept != 1)
            return slept;
    }
}

/* A poll loop may go to sleep after any call: there the flag stays up. */
static void awake(const struct pawl *pawl, struct pawl_lib_lane *lane)
{
    if (!pawl->polled)
        pawl_doorbell_awake(&lane->end.lane->sleeping);
}

int pawl_lib_wait(struct pawl *pawl, uint64_t deadline_ns, unsigned what)
{
    if (pawl->phase == PAWL_LIB_GONE)
        return pawl->gone_error;
    if (deadline_ns == 0)
        return -ETIMEDOUT;
    bool bell = false;
    struct pawl_lib_lane *lane = pawl->lane;
    if (lane && spin(pawl, what))
        return 0;
    uint64_t until_ns = deadline_ns, now_ns = pawl_lib_now_ns(), step_ns = next_step_ns(pawl);
    if (deadline_ns <= now_ns)
        return -ETIMEDOUT;
    if (step_ns < until_ns)
        until_ns = step_ns;
    if (lane) {
        pawl_doorbell_prepare_for(&lane->end.lane->sleeping, sleep_word(pawl, what)); /* D1 */
        if (lane_has_news(lane, what)) {
            awake(pawl, lane);
            return 0;
        }
        if (what & PAWL_LIB_FOR_DURABLE)
            hurry(lane);
    }
    int slept = pawl->interrupted && !pawl->hears_none ? heed_until(pawl, until_ns, &bell)
                                                       : sleep_until(pawl, until_ns, NULL, &bell);
    /* The step within may have lost this lane; it is still mapped when something of it is held, else it is
     * not. */
    if (lane && lane == pawl->lane) {
        awake(pawl, lane);
        if (bell)
            pawl_doorbell_clear(lane->own_fd);
    }
    if (pawl->phase != PAWL_LIB_UP)
        pawl_lib_step(pawl);
    return pawl->phase == PAWL_LIB_GONE ? pawl->gone_error : slept < 0 ? slept : 0;
}
