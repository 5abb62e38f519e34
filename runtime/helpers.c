/*
 * helpers.c - forks, counts, numbers and ends helper processes.
 *
 * Runs in: their parent, one thread.
 */
#include "runtime/helpers.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define QUICK_DEATH_NS UINT64_C(1000000000)
#define WAIT_FIRST_NS  UINT64_C(10000000)
#define WAIT_MAX_NS    UINT64_C(5000000000)

void pawl_helpers_forget_host(const struct pawl_helpers *helpers)
{
    for (size_t i = 0; helpers && i < helpers->host_fd_count; i++)
        close(helpers->host_fds[i]);
}

bool pawl_helpers_number_is_used(const struct pawl_helpers *helpers, uint32_t number)
{
    for (unsigned i = 0; helpers && i < helpers->count; i++)
        if (helpers->list[i].pid && helpers->list[i].number == number)
            return true;
    return false;
}

/* Mostly the same one again. */
static uint32_t free_number(const struct pawl_helpers *helpers, unsigned index,
                            const struct pawl_helpers_parent *parent)
{
    uint32_t number = index - helpers->numbered_from + 1;
    while (pawl_helpers_number_is_used(helpers, number) ||
           (parent->number_is_used && parent->number_is_used(parent->ctx, number)))
        number++;
    return number;
}

/* When it is to be looked at again. */
static uint64_t fork_one(struct pawl_helpers *helpers, unsigned index, uint64_t now_ns,
                         const struct pawl_helpers_parent *parent)
{
    struct pawl_helper *helper = &helpers->list[index];
    if (helper->due_ns > now_ns)
        return helper->due_ns;
    helper->number = index >= helpers->numbered_from ? free_number(helpers, index, parent) : 0;
    /* What it is sent before it has a handler of its own must not end in one of its parent's, who thinks that
     * it was told. */
    sigset_t all, before;
    sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &before);
    pid_t self = getpid(), pid = fork();
    if (pid == 0) {
        if (parent->leave)
            parent->leave(parent->ctx);
        _exit(helpers->main(helpers->ctx, index, self));
    }
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    helper->forked_at_ns = now_ns;
    if (pid < 0) {
        helper->due_ns = now_ns + WAIT_MAX_NS;
        return helper->due_ns;
    }
    helper->pid = pid;
    if (parent->forked)
        parent->forked(parent->ctx, helper);
    return UINT64_MAX;
}

uint64_t pawl_helpers_fill(struct pawl_helpers *helpers, uint64_t now_ns,
                           const struct pawl_helpers_parent *parent)
{
    uint64_t next_ns = UINT64_MAX;
    for (unsigned i = 0; helpers && i < helpers->count; i++) {
        struct pawl_helper *helper = &helpers->list[i];
        uint64_t at_ns = UINT64_MAX;
        if (helper->pid && helper->dismissed && helper->kill_at_ns <= now_ns) {
            (void)kill(helper->pid, SIGKILL);
            helper->kill_at_ns = UINT64_MAX;
        } else if (helper->pid && helper->dismissed) {
            at_ns = helper->kill_at_ns;
        } else if (!helper->pid && !helper->dismissed && !helpers->stopping) {
            at_ns = fork_one(helpers, i, now_ns, parent);
        }
        next_ns = at_ns < next_ns ? at_ns : next_ns;
    }
    return next_ns;
}

bool pawl_helpers_reaped(struct pawl_helpers *helpers, pid_t pid, bool clean, uint64_t now_ns,
                         uint32_t *number_out)
{
    for (unsigned i = 0; helpers && i < helpers->count; i++) {
        struct pawl_helper *helper = &helpers->list[i];
        if (helper->pid != pid)
            continue;
        helper->pid = 0;
        *number_out = helper->number;
        uint64_t wait_ns = helper->wait_ns * 2;
        if (clean || now_ns - helper->forked_at_ns >= QUICK_DEATH_NS)
            wait_ns = 0;
        else if (wait_ns < WAIT_FIRST_NS)
            wait_ns = WAIT_FIRST_NS;
        helper->wait_ns = wait_ns < WAIT_MAX_NS ? wait_ns : WAIT_MAX_NS;
        helper->due_ns = now_ns + helper->wait_ns;
        return true;
    }
    return false;
}

void pawl_helpers_dismiss(struct pawl_helpers *helpers, unsigned index, uint64_t now_ns, uint64_t patience_ns)
{
    struct pawl_helper *helper = &helpers->list[index];
    helper->dismissed = true;
    helper->kill_at_ns = patience_ns < UINT64_MAX - now_ns ? now_ns + patience_ns : UINT64_MAX;
    if (helper->pid)
        (void)kill(helper->pid, SIGTERM);
}

void pawl_helpers_stop(struct pawl_helpers *helpers, int signal_number)
{
    if (!helpers)
        return;
    helpers->stopping = true;
    for (unsigned i = 0; i < helpers->count; i++)
        if (helpers->list[i].pid)
            (void)kill(helpers->list[i].pid, signal_number);
}

unsigned pawl_helpers_alive(const struct pawl_helpers *helpers)
{
    unsigned alive = 0;
    for (unsigned i = 0; helpers && i < helpers->count; i++)
        alive += helpers->list[i].pid != 0;
    return alive;
}
