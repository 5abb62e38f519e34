/*
 * supervise.c - reaps, listens and ends; the parent and subreaper of all processes of a state directory.
 *
 * Runs in: the supervisor, one thread. Children are reaped here and nowhere else, so their pids may be used
 * until then. It speaks with the scheduler over a socketpair (WORKERS, WORKER_UP, WORKER_DOWN, RETIRE) and
 * decides nothing else. The lock is an open file that scheduler and workers inherit: it stays taken until the
 * last of them is gone. How it forks: supervise_scheduler.c, supervise_worker.c, helpers.c.
 */
#include "runtime/supervise.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/supervisor.h"
#include "shm/log.h"

enum {
    EXIT_INTERNAL = 70,
    EXIT_CANNOT_START = 4,
};

#define DEATHS_WINDOW_NS   UINT64_C(60000000000)
#define RESTART_AGAIN_NS   UINT64_C(100000000)
#define RESTART_GIVE_UP_NS UINT64_C(30000000000)
#define LEAVE_TERM_NS      UINT64_C(10000000000) /* workers that should be leaving get SIGTERM after this, */
#define LEAVE_KILL_NS      UINT64_C(20000000000) /* and SIGKILL after this */
#define SLEEP_MAX_NS       UINT64_C(5000000000)

uint64_t pawl_supervisor_clock_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void pawl_supervisor_say(const char *text, long long a, long long b)
{
    // cppcheck-suppress wrongPrintfScanfArgNum ; a text that names fewer numbers leaves the rest unread
    pawl_log(PAWL_LOG_WARNING, text, a, b);
}

static void notify(const struct pawl_supervisor *supervisor, const char *text)
{
    if (supervisor->options->serving && supervisor->options->serving->notify)
        supervisor->options->serving->notify(text);
}

/* ---- children ---- */

/* In a forked child: only what it needs stays open. */
void pawl_supervisor_leave(struct pawl_supervisor *supervisor)
{
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    close(supervisor->signal_fd);
    if (supervisor->wire.fd >= 0)
        close(supervisor->wire.fd);
    if (supervisor->options->serving)
        (void)setpgid(0, 0); /* ^C is the supervisor's: the others are told */
}

/* In a child that is no helper. */
void pawl_supervisor_leave_with_host(struct pawl_supervisor *supervisor)
{
    pawl_supervisor_leave(supervisor);
    if (!supervisor->options->helpers)
        return;
    pawl_helpers_forget_host(supervisor->options->helpers);
    (void)umask(077);
    (void)!chdir("/");
}

/* ---- endings ---- */

static void begin_stop(struct pawl_supervisor *supervisor, int exit_code, bool at_once)
{
    if (!supervisor->stopping) {
        supervisor->stopping = true;
        supervisor->restart_at_ns = 0;
        supervisor->exit_code = exit_code;
        supervisor->stop_at_ns = pawl_supervisor_clock_ns(CLOCK_BOOTTIME);
        notify(supervisor, "STOPPING=1");
        pawl_helpers_stop(supervisor->options->helpers, SIGTERM);
    }
    if (at_once && supervisor->stop_stage == 0) {
        supervisor->stop_stage = 1;
        pawl_supervisor_kill_workers(supervisor, SIGTERM);
    }
}

/* Where there is no process to be had, one may be in a moment. Clients wait as long. */
static void restart_scheduler(struct pawl_supervisor *supervisor, uint64_t now_ns)
{
    int error = pawl_supervisor_fork_scheduler(supervisor, true);
    if (error == 0) {
        supervisor->restart_at_ns = 0;
        return;
    }
    if (supervisor->restart_at_ns == 0) {
        pawl_supervisor_say("cannot restart the scheduler yet: errno %lld", -error, 0);
        supervisor->give_up_at_ns = now_ns + RESTART_GIVE_UP_NS;
    }
    supervisor->restart_at_ns = now_ns + RESTART_AGAIN_NS;
    if (supervisor->restart_at_ns >= supervisor->give_up_at_ns) {
        pawl_supervisor_say("cannot restart the scheduler: errno %lld", -error, 0);
        begin_stop(supervisor, EXIT_INTERNAL, true);
    }
}

static void on_scheduler_end(struct pawl_supervisor *supervisor, int status)
{
    supervisor->scheduler.pid = 0;
    supervisor->serves = false;
    pawl_wire_fini(&supervisor->wire);
    supervisor->wire.fd = -1;
    if (WIFEXITED(status)) {
        int code = WEXITSTATUS(status);
        if (code == 0 || code == 2 || code == 3 || code == 4 || code == 7 || code == EXIT_INTERNAL) {
            begin_stop(supervisor, code, code != 0);
            pawl_supervisor_dismiss_unknown(supervisor);
            return;
        }
        pawl_supervisor_say("the scheduler ended with exit code %lld", code, 0);
    } else {
        pawl_supervisor_say("the scheduler was killed by signal %lld", WTERMSIG(status), 0);
    }
    if (supervisor->stopping) {
        begin_stop(supervisor, supervisor->exit_code, true);
        return;
    }
    uint64_t now_ns = pawl_supervisor_clock_ns(CLOCK_BOOTTIME);
    supervisor->death_at_ns[supervisor->death_count++ % PAWL_SUPERVISOR_DEATHS_MAX] = now_ns;
    /* The slot that comes next holds the oldest of the last five. */
    if (supervisor->death_count >= PAWL_SUPERVISOR_DEATHS_MAX &&
        now_ns - supervisor->death_at_ns[supervisor->death_count % PAWL_SUPERVISOR_DEATHS_MAX] <
            DEATHS_WINDOW_NS) {
        pawl_supervisor_say("%lld deaths of the scheduler within a minute: giving up",
                            PAWL_SUPERVISOR_DEATHS_MAX, 0);
        begin_stop(supervisor, EXIT_INTERNAL, true);
        return;
    }
    restart_scheduler(supervisor, now_ns);
}

static void reap(struct pawl_supervisor *supervisor)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == supervisor->scheduler.pid) {
            on_scheduler_end(supervisor, status);
            continue;
        }
        bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        uint32_t handler = 0;
        if (pawl_helpers_reaped(supervisor->options->helpers, pid, clean,
                                pawl_supervisor_clock_ns(CLOCK_BOOTTIME), &handler)) {
            pawl_supervisor_send_handler(supervisor, PAWL_WIRE_HANDLER_DOWN, handler, pid,
                                         pawl_supervisor_wants_helper(supervisor, handler) ? status : 0);
            if (!clean && !supervisor->stopping)
                pawl_supervisor_say(WIFSIGNALED(status) ? "handler process %lld was killed by signal %lld"
                                                        : "handler process %lld ended with exit code %lld",
                                    pid, WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            continue;
        }
        for (uint32_t number = 1; number < supervisor->number_end; number++)
            if (supervisor->workers[number].pid == pid) {
                pawl_supervisor_worker_ended(supervisor, number, status);
                break;
            }
    }
    while (supervisor->number_end > 1 && supervisor->workers[supervisor->number_end - 1].pid == 0)
        supervisor->number_end--;
}

/* ---- messages ---- */

static void reload(struct pawl_supervisor *supervisor)
{
    char text[64];
    supervisor->reload_wanted = !supervisor->serves || supervisor->reloads; /* one after the other */
    if (supervisor->stopping || supervisor->reload_wanted)
        return;
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%llu",
             (unsigned long long)(pawl_supervisor_clock_ns(CLOCK_MONOTONIC) / 1000));
    notify(supervisor, text);
    pawl_supervisor_read_config(supervisor);
    supervisor->reloads = kill(supervisor->scheduler.pid, SIGHUP) == 0;
}

/* The scheduler is the judge of a configuration: what it does not take up is taken up by nobody. One that
 * was restarted meanwhile began with it. */
static void on_serves(struct pawl_supervisor *supervisor, const struct pawl_wire_message *message)
{
    struct pawl_wire_reloaded reloaded = {.taken_up = true};
    struct pawl_helpers *helpers = supervisor->options->helpers;
    if (message->header.bytes >= sizeof reloaded)
        memcpy(&reloaded, message->body, sizeof reloaded);
    if (pawl_supervisor_end_reload(supervisor, reloaded.taken_up) && helpers && helpers->reconfigure)
        helpers->reconfigure(helpers, &supervisor->config, pawl_supervisor_clock_ns(CLOCK_BOOTTIME));
    if (supervisor->options->serving && !supervisor->serves)
        pawl_log(PAWL_LOG_INFO, "serving %s", supervisor->state->path);
    supervisor->serves = true;
    notify(supervisor, "READY=1");
    if (supervisor->reload_wanted)
        reload(supervisor);
}

static void on_message(struct pawl_supervisor *supervisor, const struct pawl_wire_message *message)
{
    if (message->header.type == PAWL_WIRE_WORKERS &&
        message->header.bytes >= sizeof(struct pawl_wire_workers)) {
        const struct pawl_wire_workers *wanted = message->body;
        supervisor->wanted =
            wanted->count < PAWL_SUPERVISOR_WORKERS_MAX ? wanted->count : PAWL_SUPERVISOR_WORKERS_MAX;
        return;
    }
    if (message->header.type == PAWL_WIRE_SERVES) {
        on_serves(supervisor, message);
        return;
    }
    if (message->header.bytes < sizeof(struct pawl_wire_process))
        return;
    const struct pawl_wire_process *process = message->body;
    if (process->number == 0 || process->number >= supervisor->number_end)
        return;
    struct pawl_child *worker = &supervisor->workers[process->number];
    if (worker->pid == 0 || (uint32_t)worker->pid != process->pid)
        return;
    if (message->header.type == PAWL_WIRE_RETIRE && !worker->leaving) {
        worker->leaving = true;
        supervisor->leaving++;
    }
}

static void read_messages(struct pawl_supervisor *supervisor)
{
    struct pawl_wire_message message;
    int got;
    while ((got = pawl_wire_receive(&supervisor->wire, &message)) > 0)
        on_message(supervisor, &message);
    /* Closed: its death is told by SIGCHLD. Until then there is nothing to hear. */
    if (got < 0) {
        pawl_wire_fini(&supervisor->wire);
        supervisor->wire.fd = -1;
    }
}

static void on_signal(struct pawl_supervisor *supervisor)
{
    struct signalfd_siginfo info;
    while (read(supervisor->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            continue;
        if (info.ssi_signo == SIGHUP && supervisor->options->serving) {
            reload(supervisor);
            continue;
        }
        if (supervisor->scheduler.pid)
            (void)kill(supervisor->scheduler.pid, supervisor->stopping ? SIGKILL : SIGTERM);
        begin_stop(supervisor, 0, supervisor->restart_at_ns != 0); /* nobody else would tell the workers */
    }
    reap(supervisor);
}

/* Ends what does not leave. Return: how long to sleep at most. */
static uint64_t press_on(struct pawl_supervisor *supervisor, uint64_t now_ns)
{
    if (!supervisor->stopping)
        return UINT64_MAX;
    uint64_t passed_ns = now_ns - supervisor->stop_at_ns;
    uint64_t grace_ns = supervisor->has_config ? supervisor->config.grace_ns : 0;
    if (passed_ns >= LEAVE_TERM_NS && passed_ns >= grace_ns)
        pawl_helpers_stop(supervisor->options->helpers, SIGKILL);
    if (supervisor->stop_stage < 1 && passed_ns >= LEAVE_TERM_NS && supervisor->scheduler.pid == 0) {
        supervisor->stop_stage = 1;
        pawl_supervisor_kill_workers(supervisor, SIGTERM);
    }
    if (supervisor->stop_stage < 2 && passed_ns >= LEAVE_KILL_NS && supervisor->scheduler.pid == 0) {
        supervisor->stop_stage = 2;
        pawl_supervisor_kill_workers(supervisor, SIGKILL);
    }
    return SLEEP_MAX_NS;
}

static void run(struct pawl_supervisor *supervisor)
{
    struct pawl_helpers *helpers = supervisor->options->helpers;
    const struct pawl_helpers_parent parent = pawl_supervisor_helper_parent(supervisor);
    while (supervisor->scheduler.pid || supervisor->restart_at_ns || supervisor->alive ||
           pawl_helpers_alive(helpers)) {
        /* One answer for both questions, whether to fork now and when: between two looks at the clock a pause
         * may end, and nobody would come back. */
        uint64_t fork_ns = pawl_supervisor_fill_workers(supervisor);
        uint64_t due_ns = pawl_helpers_fill(helpers, pawl_supervisor_clock_ns(CLOCK_BOOTTIME), &parent);
        due_ns = fork_ns < due_ns ? fork_ns : due_ns;
        if (supervisor->restart_at_ns && supervisor->restart_at_ns < due_ns)
            due_ns = supervisor->restart_at_ns;
        bool unsent = supervisor->wire.fd >= 0 && pawl_wire_flush(&supervisor->wire) == -EAGAIN;
        struct pollfd fds[2] = {
            {.fd = supervisor->signal_fd, .events = POLLIN},
            {.fd = supervisor->wire.fd, .events = (short)(unsent ? POLLIN | POLLOUT : POLLIN)},
        };
        uint64_t now_ns = pawl_supervisor_clock_ns(CLOCK_BOOTTIME), sleep_ns = press_on(supervisor, now_ns);
        if (due_ns != UINT64_MAX && (due_ns <= now_ns || due_ns - now_ns < sleep_ns))
            sleep_ns = due_ns > now_ns ? due_ns - now_ns : 0;
        struct timespec sleep = {.tv_sec = (time_t)(sleep_ns / 1000000000u),
                                 .tv_nsec = (long)(sleep_ns % 1000000000u)};
        if (ppoll(fds, 2, sleep_ns == UINT64_MAX ? NULL : &sleep, NULL) < 0 && errno != EINTR)
            return;
        if (fds[1].revents)
            read_messages(supervisor);
        if (fds[0].revents)
            on_signal(supervisor);
        now_ns = pawl_supervisor_clock_ns(CLOCK_BOOTTIME);
        if (supervisor->restart_at_ns && now_ns >= supervisor->restart_at_ns)
            restart_scheduler(supervisor, now_ns);
    }
}

int pawl_supervise_lock(const struct pawl_state *state, const char *what)
{
    char line[64];
    int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    int fd = openat(state->dirfd, "lock", flags, 0600);
    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    /* For people only: a full disk leaves it empty. */
    int bytes = snprintf(line, sizeof line, "%d %s\n", (int)getpid(), what);
    (void)!ftruncate(fd, 0);
    (void)!pwrite(fd, line, (size_t)bytes, 0);
    return fd;
}

bool pawl_supervise_holder(const struct pawl_state *state, int *pid_out, char what[32])
{
    char line[64] = "", *end;
    int fd = openat(state->dirfd, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t got = fd >= 0 ? pread(fd, line, sizeof line - 1, 0) : -1;
    if (fd >= 0)
        close(fd);
    if (got <= 0)
        return false;
    long pid = strtol(line, &end, 10);
    if (pid <= 0 || pid > INT32_MAX || *end != ' ')
        return false;
    if (kill((pid_t)pid, 0) != 0 && errno == ESRCH)
        return false; /* left behind by one that is dead; who holds the lock did not write */
    *pid_out = (int)pid;
    snprintf(what, 32, "%.*s", (int)strcspn(end + 1, "\n"), end + 1);
    return true;
}

static int listen_to_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_SETMASK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void raise_limit(__rlimit_resource_t resource)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur >= limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(resource, &limit);
}

int pawl_supervise(const struct pawl_supervise_options *options)
{
    struct pawl_supervisor supervisor = {
        .state = options->state,
        .options = options,
        .client_fd = options->client_fd,
        .self = getpid(),
        .wire = {.fd = -1},
        .number_end = 1,
    };

    supervisor.lock_fd =
        options->serving ? options->serving->lock_fd : pawl_supervise_lock(options->state, "temporary");
    if (supervisor.lock_fd < 0)
        return EXIT_CANNOT_START;
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    /* The scheduler holds descriptors for each worker and client, and writes for all of them; jobs get the
     * limits of their submitter. */
    raise_limit(RLIMIT_NOFILE);
    raise_limit(RLIMIT_FSIZE);
    supervisor.workers = calloc(PAWL_SUPERVISOR_WORKERS_MAX + 2, sizeof *supervisor.workers);
    supervisor.signal_fd = listen_to_signals();
    if (!supervisor.workers || supervisor.signal_fd < 0) {
        free(supervisor.workers);
        return EXIT_INTERNAL;
    }
    pawl_supervisor_read_config(&supervisor);
    (void)pawl_supervisor_end_reload(&supervisor, true);
    int error = pawl_supervisor_fork_scheduler(&supervisor, false);
    if (error) {
        pawl_supervisor_say("cannot fork the scheduler: errno %lld", -error, 0);
        free(supervisor.workers);
        return EXIT_CANNOT_START;
    }
    run(&supervisor);
    free(supervisor.workers);
    (void)pawl_supervisor_end_reload(&supervisor, false);
    if (supervisor.has_config)
        pawl_config_fini(&supervisor.config);
    return supervisor.exit_code;
}
