/*
 * supervise_worker.c - forks workers, and clears up behind those that end.
 *
 * Runs in: the supervisor. Later and later when they die at once.
 */
#include "runtime/supervisor.h"

#include <errno.h>
#include <stdio.h>

#include <signal.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/orphans.h"
#include "runtime/proctitle.h"
#include "workers/worker.h"

#define ORPHANS_LIMIT_NS   UINT64_C(5000000000)
#define QUICK_DEATH_NS     UINT64_C(1000000000)
#define FORK_WAIT_FIRST_NS UINT64_C(10000000)
#define FORK_WAIT_MAX_NS   UINT64_C(5000000000)

void pawl_supervisor_send_worker(struct pawl_supervisor *supervisor, uint16_t type, uint32_t number,
                                 const struct pawl_child *worker, int status)
{
    if (supervisor->wire.fd < 0)
        return;
    struct pawl_wire_process body = {
        .role = PAWL_ROLE_WORKER,
        .number = number,
        .pid = (uint32_t)worker->pid,
        .state = worker->leaving ? PAWL_PROCESS_LEAVING : PAWL_PROCESS_STARTING,
        .status = status,
        .since_ns = worker->since_ns,
    };
    int pidfd = type == PAWL_WIRE_WORKER_UP ? pidfd_open(worker->pid, 0) : -1;
    (void)pawl_wire_queue_message(&supervisor->wire, type, 0, &body, sizeof body, NULL, 0, &pidfd,
                                  pidfd >= 0);
    if (pidfd >= 0)
        close(pidfd);
}

static int fork_worker(struct pawl_supervisor *supervisor)
{
    uint32_t number = 1;
    while (pawl_supervisor_is_workers_number(supervisor, number) ||
           pawl_helpers_number_is_used(supervisor->options->helpers, number))
        number++;
    if (number > PAWL_SUPERVISOR_WORKERS_MAX)
        return -EAGAIN;
    char mark[PAWL_NAME_BYTES];
    snprintf(mark, sizeof mark, "%s:%u", supervisor->state->mark, number);

    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        pawl_supervisor_leave_with_host(supervisor);
        if (supervisor->client_fd >= 0)
            close(supervisor->client_fd);
        char title[32];
        snprintf(title, sizeof title, "pawl: worker %u", number);
        pawl_proctitle_set(title);
        struct pawl_worker_options options = {
            .state_path = supervisor->state->path,
            .state_dirfd = supervisor->state->dirfd,
            .number = number,
            .mark = mark,
            .supervisor = supervisor->self,
        };
        _exit(pawl_worker_main(&options));
    }
    supervisor->workers[number] =
        (struct pawl_child){.pid = pid,
                            .since_ns = pawl_supervisor_clock_ns(CLOCK_REALTIME),
                            .forked_at_ns = pawl_supervisor_clock_ns(CLOCK_BOOTTIME)};
    supervisor->alive++;
    if (number >= supervisor->number_end)
        supervisor->number_end = number + 1;
    pawl_supervisor_send_worker(supervisor, PAWL_WIRE_WORKER_UP, number, &supervisor->workers[number], 0);
    return 0;
}

/* Later and later. */
static void pause_forking(struct pawl_supervisor *supervisor, uint64_t now_ns)
{
    uint64_t wait_ns = supervisor->fork_wait_ns * 2;
    supervisor->fork_wait_ns = wait_ns < FORK_WAIT_FIRST_NS ? FORK_WAIT_FIRST_NS
                               : wait_ns > FORK_WAIT_MAX_NS ? FORK_WAIT_MAX_NS
                                                            : wait_ns;
    supervisor->fork_at_ns = now_ns + supervisor->fork_wait_ns;
}

/* As many as are wanted; a worker that is leaving does not count. */
uint64_t pawl_supervisor_fill_workers(struct pawl_supervisor *supervisor)
{
    while (!supervisor->stopping && supervisor->wire.fd >= 0 &&
           supervisor->alive - supervisor->leaving < supervisor->wanted &&
           supervisor->alive < PAWL_SUPERVISOR_WORKERS_MAX) {
        if (supervisor->fork_at_ns > pawl_supervisor_clock_ns(CLOCK_BOOTTIME))
            return supervisor->fork_at_ns;
        int error = fork_worker(supervisor);
        if (error) {
            pawl_supervisor_say("cannot fork a worker: errno %lld", -error, 0);
            pause_forking(supervisor, pawl_supervisor_clock_ns(CLOCK_BOOTTIME));
            pawl_supervisor_send_worker(supervisor, PAWL_WIRE_WORKER_DOWN, 0, &(struct pawl_child){0}, error);
            return supervisor->fork_at_ns;
        }
    }
    return UINT64_MAX;
}

void pawl_supervisor_kill_workers(struct pawl_supervisor *supervisor, int number_of_signal)
{
    for (uint32_t number = 1; number < supervisor->number_end; number++)
        if (supervisor->workers[number].pid)
            (void)kill(supervisor->workers[number].pid, number_of_signal);
}

/* Workers that the scheduler did not tell to go were not known to it yet: they hold nothing. */
void pawl_supervisor_dismiss_unknown(struct pawl_supervisor *supervisor)
{
    for (uint32_t number = 1; number < supervisor->number_end; number++) {
        struct pawl_child *worker = &supervisor->workers[number];
        if (worker->pid && !worker->leaving)
            (void)kill(worker->pid, SIGTERM);
    }
}

void pawl_supervisor_worker_ended(struct pawl_supervisor *supervisor, uint32_t number, int status)
{
    struct pawl_child ended = supervisor->workers[number];
    /* Told to go while nothing ran, it may also have ended by SIGTERM. */
    bool expected = supervisor->exit_code == 0 && (ended.leaving || supervisor->stopping);
    bool clean = expected || (WIFEXITED(status) && WEXITSTATUS(status) == 0);

    if (!clean) {
        struct pawl_orphans_report report;
        if (WIFSIGNALED(status))
            pawl_supervisor_say("worker %lld was killed by signal %lld", number, WTERMSIG(status));
        else
            pawl_supervisor_say("worker %lld ended with exit code %lld", number, WEXITSTATUS(status));
        int error = pawl_orphans_kill(supervisor->state->mark, number, ORPHANS_LIMIT_NS, &report);
        if (report.killed_count)
            pawl_supervisor_say("%lld processes of its job were killed", report.killed_count, 0);
        if (error)
            pawl_supervisor_say("%lld processes of its job could not be ended", report.left_count, 0);
    }
    supervisor->workers[number] = (struct pawl_child){0};
    supervisor->alive--;
    supervisor->leaving -= ended.leaving;
    uint64_t now_ns = pawl_supervisor_clock_ns(CLOCK_BOOTTIME);
    if (clean || now_ns - ended.forked_at_ns >= QUICK_DEATH_NS)
        supervisor->fork_wait_ns = 0;
    else
        pause_forking(supervisor, now_ns);
    pawl_supervisor_send_worker(supervisor, PAWL_WIRE_WORKER_DOWN, number, &ended, status);
}
