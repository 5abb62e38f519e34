/*
 * consume_exec.c - `pawl consume --exec`: a process for each delivery, settled by how it ends.
 *
 * Runs in: the command. A child has a process group of its own, the data as its standard input, our standard
 * output and error, and dies with us. 0 acks, 65 rejects, 75 fails without the breaker, all else fails.
 */
#include "runtime/cli/consume.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/cli/bus.h"
#include "runtime/cli/consume_print.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/signals.h"
#include "runtime/lib/command.h"
#include "shm/clock.h"

enum { EXIT_NO_EXEC = 127, DECLARED_LOOK_MS = 200 };
#define GRACE_NS UINT64_C(10000000000)

struct job {
    const struct pawl_delivery *delivery; /* NULL: free */
    pid_t pid;
    bool told; /* to end, by us: its delivery goes back without a failure */
};

struct jobs {
    struct pawl_consuming *consuming;
    struct pawl_consumer *consumer;
    struct job *job;
    struct pollfd *fds; /* [i].fd: pidfd of job[i], -1: none */
    unsigned room, running;
    uint64_t told_at_ns;
    enum pawl_signal_level level;
    uint64_t busy_at_ns; /* when something last happened */
    uint64_t stale;      /* settled by us when they had been given again already */
};

/* ---- one child ---- */

static int data_fd(const struct pawl_delivery *delivery)
{
    int fd = memfd_create("pawl-event", MFD_CLOEXEC);
    size_t done = 0;
    while (fd >= 0 && done < delivery->data_bytes) {
        ssize_t written = write(fd, (const char *)delivery->data + done, delivery->data_bytes - done);
        if (written < 0 && errno != EINTR) {
            int error = -errno;
            close(fd);
            return error;
        }
        done += written > 0 ? (size_t)written : 0;
    }
    if (fd >= 0)
        (void)lseek(fd, 0, SEEK_SET);
    return fd >= 0 ? fd : -errno;
}

_Noreturn static void be_child(char **command, char **environment, int stdin_fd, pid_t parent)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        if (number != SIGKILL && number != SIGSTOP)
            (void)sigaction(number, &action, NULL);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setpgid(0, 0);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(EXIT_NO_EXEC);
    if (dup2(stdin_fd, STDIN_FILENO) < 0)
        _exit(EXIT_NO_EXEC);
    execvpe(command[0], command, environment);
    fprintf(stderr, "pawl consume: cannot run %s: %s\n", command[0], strerror(errno));
    _exit(EXIT_NO_EXEC);
}

/* 0, or an error: the delivery is still the caller's. */
static int start(struct jobs *jobs, unsigned slot, const struct pawl_delivery *delivery)
{
    struct pawl_consuming *consuming = jobs->consuming;
    char tag[192];
    pid_t parent = getpid();
    int error = pawl_delivery_tag(delivery, tag, sizeof tag);
    if (error != 0)
        return error;
    char **environment = pawl_delivery_environment(delivery, tag, consuming->state);
    int fd = environment != NULL ? data_fd(delivery) : -ENOMEM;
    /* What it is sent while it has our handlers still must not end in one of them: it was told to end. */
    sigset_t all, before;
    sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = fd >= 0 ? fork() : -1;
    if (pid == 0)
        be_child(consuming->command, environment, fd, parent);
    error = fd < 0 ? fd : pid < 0 ? -errno : 0;
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    if (fd >= 0)
        close(fd);
    free(environment);
    if (error != 0)
        return error;
    (void)setpgid(pid, pid); /* whoever is first */
    jobs->job[slot] = (struct job){.delivery = delivery, .pid = pid};
    jobs->fds[slot] = (struct pollfd){.fd = pidfd_open(pid, 0), .events = POLLIN};
    jobs->running++;
    return 0;
}

static int settle(struct jobs *jobs, const struct job *job, int status)
{
    const struct pawl_delivery *delivery = job->delivery;
    char text[96];
    if (WIFSIGNALED(status)) {
        snprintf(text, sizeof text, "killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
        if (job->told)
            return pawl_release(delivery);
        jobs->consuming->failed++;
        return pawl_nack_cause(delivery, 128 + WTERMSIG(status), -1, 0, text);
    }
    int code = WEXITSTATUS(status);
    if (code == PAWL_HANDLER_ACK)
        return pawl_ack(delivery);
    if (job->told)
        return pawl_release(delivery);
    jobs->consuming->failed++;
    snprintf(text, sizeof text, "exit code %d", code);
    if (code == PAWL_HANDLER_REJECT)
        return pawl_reject(delivery, text);
    return pawl_nack_cause(delivery, code, -1, code == PAWL_HANDLER_NACK, text);
}

static int reap(struct jobs *jobs, unsigned slot)
{
    struct job job = jobs->job[slot];
    int status;
    pid_t ended = waitpid(job.pid, &status, WNOHANG);
    if (ended == 0)
        return 0;
    if (jobs->fds[slot].fd >= 0)
        close(jobs->fds[slot].fd);
    jobs->fds[slot].fd = -1;
    jobs->job[slot] = (struct job){0};
    jobs->running--;
    jobs->busy_at_ns = pawl_clock_monotonic_ns();
    (void)kill(-job.pid, SIGKILL); /* what it left behind */
    int error = settle(jobs, &job, ended < 0 ? 0x7f00 : status);
    if (error != PAWL_ERR_STALE)
        return error;
    pawl_note(jobs->consuming->cli, "a delivery was settled too late: it is given again");
    jobs->stale++;
    return 0;
}

/* ---- all of them ---- */

static void signal_all(struct jobs *jobs, int number)
{
    for (unsigned i = 0; i < jobs->room; i++) {
        if (jobs->job[i].delivery == NULL)
            continue;
        jobs->job[i].told = true;
        (void)kill(-jobs->job[i].pid, number);
    }
}

static void obey_signals(struct jobs *jobs)
{
    enum pawl_signal_level level = pawl_signals_level();
    uint64_t now_ns = pawl_clock_monotonic_ns();
    if (level > jobs->level && level == PAWL_SIGNAL_DRAIN && jobs->running > 0)
        pawl_note(jobs->consuming->cli, "stopping: %u running; once more ends them", jobs->running);
    if (level >= PAWL_SIGNAL_INTERRUPT && jobs->level < PAWL_SIGNAL_INTERRUPT) {
        signal_all(jobs, SIGTERM);
        jobs->told_at_ns = now_ns;
    }
    bool over = jobs->told_at_ns != 0 && now_ns - jobs->told_at_ns >= GRACE_NS;
    if (level >= PAWL_SIGNAL_KILL || over)
        signal_all(jobs, SIGKILL);
    jobs->level = level;
}

static unsigned free_slot(const struct jobs *jobs)
{
    unsigned slot = 0;
    while (slot < jobs->room && jobs->job[slot].delivery != NULL)
        slot++;
    return slot;
}

/* As many as there are free slots. 0, or an error. */
static int claim(struct jobs *jobs)
{
    struct pawl_consuming *consuming = jobs->consuming;
    while (jobs->level == PAWL_SIGNAL_NONE && jobs->running < jobs->room && consuming->left > 0) {
        const struct pawl_delivery *delivery;
        int got = pawl_claim(jobs->consumer, &delivery, 1, 0);
        if (got <= 0)
            return got;
        jobs->busy_at_ns = pawl_clock_monotonic_ns();
        consuming->done++;
        consuming->left -= consuming->left != UINT64_MAX;
        int error = start(jobs, free_slot(jobs), delivery);
        if (error != 0) {
            (void)pawl_release(delivery);
            return error;
        }
    }
    return 0;
}

/* How long to sleep at most; 0: there is nothing more to do. */
static int64_t sleep_ms(const struct jobs *jobs)
{
    const struct pawl_consuming *consuming = jobs->consuming;
    bool ending = jobs->level != PAWL_SIGNAL_NONE || consuming->left == 0;
    if (jobs->running > 0)
        return jobs->told_at_ns != 0 ? 100 : -1;
    if (ending || consuming->wait_ms < 0)
        return ending ? 0 : -1;
    int64_t idle_ms = (int64_t)((pawl_clock_monotonic_ns() - jobs->busy_at_ns) / 1000000);
    return idle_ms >= consuming->wait_ms ? 0 : consuming->wait_ms - idle_ms;
}

static int work(struct jobs *jobs)
{
    int error = 0;
    while (error == 0) {
        obey_signals(jobs);
        error = claim(jobs);
        int64_t wait_ms = error == 0 ? sleep_ms(jobs) : 0;
        if (wait_ms == 0)
            break;
        error = pawl_consume_wait(jobs->consuming, jobs->fds, jobs->room, wait_ms);
        for (unsigned i = 0; i < jobs->room && error == 0; i++)
            if (jobs->job[i].delivery != NULL && (jobs->fds[i].fd < 0 || jobs->fds[i].revents != 0))
                error = reap(jobs, i);
    }
    return error;
}

int pawl_consume_find_command(const char *name)
{
    const char *path = getenv("PATH");
    if (strchr(name, '/') != NULL)
        return access(name, X_OK) == 0 ? 0 : -errno;
    for (const char *at = path != NULL ? path : "/usr/bin:/bin"; at != NULL; at = strchr(at, ':')) {
        char candidate[4096];
        at += *at == ':';
        int bytes = (int)strcspn(at, ":");
        snprintf(candidate, sizeof candidate, "%.*s%s%s", bytes, at, bytes > 0 ? "/" : "./", name);
        if (access(candidate, X_OK) == 0)
            return 0;
    }
    return -ENOENT;
}

static int subscribe(struct jobs *jobs)
{
    struct pawl_consuming *consuming = jobs->consuming;
    unsigned prefetch = consuming->prefetch != 0 ? consuming->prefetch : consuming->concurrency;
    const struct pawl_consumer_options options = {
        .bytes = sizeof options,
        .group = consuming->group,
        .prefetch = consuming->left < prefetch ? (unsigned)consuming->left : prefetch,
        .has_from = consuming->has_from,
        .from = consuming->from};
    for (;;) {
        int error = pawl_consume(consuming->pawl, consuming->queue, &options, &jobs->consumer);
        consuming->subscribed = error == 0;
        if (error == 0)
            pawl_lib_consumer_limit(jobs->consumer, consuming->left);
        if (error != PAWL_ERR_NOT_FOUND || !consuming->waits || pawl_signals_level() != PAWL_SIGNAL_NONE)
            return error;
        (void)poll(&(struct pollfd){.fd = pawl_signals_fd(), .events = POLLIN}, 1, DECLARED_LOOK_MS);
    }
}

int pawl_consume_exec(struct pawl_consuming *consuming)
{
    struct jobs jobs = {.consuming = consuming, .room = consuming->concurrency};
    jobs.job = calloc(jobs.room, sizeof *jobs.job);
    jobs.fds = calloc(jobs.room, sizeof *jobs.fds);
    int error = jobs.job != NULL && jobs.fds != NULL ? 0 : -ENOMEM;
    for (unsigned i = 0; i < jobs.room && error == 0; i++)
        jobs.fds[i].fd = -1;
    if (error == 0)
        error = subscribe(&jobs);
    if (error == PAWL_ERR_NOT_FOUND && consuming->waits)
        error = 0; /* it was told to go */
    else if (error == 0) {
        jobs.busy_at_ns = pawl_clock_monotonic_ns();
        error = work(&jobs);
        if (jobs.running > 0) {
            /* The bus is gone; what runs cannot be settled. */
            signal_all(&jobs, SIGKILL);
            while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
                ;
        }
        if (error == 0)
            error = pawl_consume_flush(consuming);
    }
    int status = error != 0 ? pawl_consume_fail(consuming, error) : 0;
    if (jobs.consumer != NULL && error == 0) /* else it ends with the connection */
        pawl_consumer_close(jobs.consumer);
    uint64_t late = error == 0 ? pawl_late_settlements(consuming->pawl) : 0;
    if (late > 0)
        pawl_note(consuming->cli, "%" PRIu64 " settlements came too late: those deliveries are given again",
                  late);
    if (status == 0 && jobs.level != PAWL_SIGNAL_NONE)
        status = PAWL_EXIT_INTERRUPTED;
    if (status == 0 && (consuming->failed > 0 || late > 0 || jobs.stale > 0))
        status = PAWL_EXIT_FAILED;
    free(jobs.fds);
    free(jobs.job);
    return status;
}
