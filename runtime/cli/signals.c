/*
 * signals.c - ^C and its like.
 *
 * Runs in: the command, one thread. The handler touches two atomics and an eventfd.
 */
#include "runtime/cli/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

static atomic_int level; /* enum pawl_signal_level; relaxed: one thread and its own handler */
static int wake_fd = -1;
static int first_of_term = PAWL_SIGNAL_INTERRUPT;

static void wake(void)
{
    uint64_t one = 1;
    ssize_t written = write(wake_fd, &one, sizeof one);
    (void)written; /* full means that it is readable */
}

static void on_signal(int number)
{
    int saved = errno;
    int now = atomic_load_explicit(&level, memory_order_relaxed);
    int next = number == SIGINT || now >= first_of_term ? now + 1 : first_of_term;
    atomic_store_explicit(&level, next > PAWL_SIGNAL_KILL ? PAWL_SIGNAL_KILL : next, memory_order_relaxed);
    wake();
    errno = saved;
}

int pawl_signals_install(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_fd < 0)
        return -errno;
    struct sigaction action = {.sa_handler = on_signal}, old;
    sigemptyset(&action.sa_mask);
    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        sigaddset(&action.sa_mask, numbers[i]);
        if (numbers[i] == SIGHUP && sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler == SIG_IGN)
            continue;
        if (sigaction(numbers[i], &action, NULL) != 0)
            return -errno;
    }
    return 0;
}

int pawl_signals_install_gently(void)
{
    first_of_term = PAWL_SIGNAL_DRAIN;
    return pawl_signals_install();
}

int pawl_signals_fd(void)
{
    return wake_fd;
}

enum pawl_signal_level pawl_signals_level(void)
{
    uint64_t count;
    ssize_t got = read(wake_fd, &count, sizeof count);
    (void)got; /* empty is fine */
    return (enum pawl_signal_level)atomic_load_explicit(&level, memory_order_relaxed);
}

void pawl_signals_raise(enum pawl_signal_level to)
{
    if (atomic_load_explicit(&level, memory_order_relaxed) < (int)to)
        atomic_store_explicit(&level, (int)to, memory_order_relaxed);
    wake();
}
