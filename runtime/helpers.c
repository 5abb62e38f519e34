/*
 * helpers.c - forks, counts and ends an embedding program's handler processes.
 *
 * Runs in: the supervisor, one thread.
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

uint64_t pawl_helpers_fill(struct pawl_helpers *helpers, uint64_t now_ns, void (*leave)(void *ctx), void *ctx)
{
    uint64_t next_ns = UINT64_MAX;
    for (unsigned i = 0; helpers && !helpers->stopping && i < helpers->count; i++) {
        struct pawl_helper *helper = &helpers->list[i];
        if (helper->pid)
            continue;
        if (helper->due_ns > now_ns) {
            next_ns = helper->due_ns < next_ns ? helper->due_ns : next_ns;
            continue;
        }
        pid_t pid = fork();
        if (pid == 0) {
            leave(ctx);
            _exit(helpers->main(helpers->ctx, i));
        }
        helper->forked_at_ns = now_ns;
        if (pid > 0) {
            helper->pid = pid;
        } else {
            helper->due_ns = now_ns + WAIT_MAX_NS;
            next_ns = helper->due_ns < next_ns ? helper->due_ns : next_ns;
        }
    }
    return next_ns;
}

bool pawl_helpers_reaped(struct pawl_helpers *helpers, pid_t pid, bool clean, uint64_t now_ns)
{
    for (unsigned i = 0; helpers && i < helpers->count; i++) {
        struct pawl_helper *helper = &helpers->list[i];
        if (helper->pid != pid)
            continue;
        helper->pid = 0;
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
