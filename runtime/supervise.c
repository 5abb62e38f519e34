/*
 * supervise.c - forks, reaps and restarts; the parent and subreaper of all processes of a state directory.
 *
 * Runs in: the supervisor, one thread. Children are reaped here and nowhere else, so their pids may be used
 * until then. It speaks with the scheduler over a socketpair (WORKERS, WORKER_UP, WORKER_DOWN, RETIRE) and
 * decides nothing else. The lock is an open file that scheduler and workers inherit: it stays taken until the
 * last of them is gone.
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
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/orphans.h"
#include "runtime/proctitle.h"
#include "scheduler/scheduler.h"
#include "shm/error.h"
#include "shm/log.h"
#include "shm/wire.h"
#include "workers/worker.h"

enum {
    WORKERS_MAX = 4096,
    DEATHS_MAX = 5,
    EXIT_INTERNAL = 70,
    EXIT_CANNOT_START = 4,
};

#define DEATHS_WINDOW_NS   UINT64_C(60000000000)
#define ORPHANS_LIMIT_NS   UINT64_C(5000000000)
#define LEAVE_TERM_NS      UINT64_C(10000000000) /* workers that should be leaving get SIGTERM after this, */
#define LEAVE_KILL_NS      UINT64_C(20000000000) /* and SIGKILL after this */
#define QUICK_DEATH_NS     UINT64_C(1000000000)
#define FORK_WAIT_FIRST_NS UINT64_C(10000000)
#define FORK_WAIT_MAX_NS   UINT64_C(5000000000)

struct child {
    pid_t pid; /* 0: no such worker */
    bool leaving;
    uint64_t since_ns;     /* CLOCK_REALTIME, for people */
    uint64_t forked_at_ns; /* CLOCK_BOOTTIME */
};

struct supervisor {
    const struct pawl_state *state;
    const struct pawl_supervise_options *options;
    int signal_fd, lock_fd;
    int client_fd; /* until the first scheduler has it */
    pid_t self;
    struct pawl_wire wire; /* to the scheduler; fd -1: none */
    struct child scheduler;
    uint64_t death_at_ns[DEATHS_MAX];
    unsigned death_count;
    struct child *workers; /* [WORKERS_MAX + 1], by number */
    uint32_t number_end;   /* above the highest number in use */
    uint32_t wanted, alive, leaving;
    uint64_t fork_wait_ns, fork_at_ns; /* after workers that die at once */
    bool serves, reload_wanted;        /* the scheduler can hear SIGHUP; it is to be sent one */
    bool restarted;
    bool has_config; /* `pawl serve`: the last one without a mistake, for a scheduler that is restarted */
    struct pawl_config config;
    bool stopping;
    int exit_code;
    uint64_t stop_at_ns;
    unsigned stop_stage;
};

static uint64_t clock_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void say(const char *text, long long a, long long b)
{
    struct timespec now;
    struct tm local;
    char stamp[32];
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S", &local);
    char line[256];
    int head = snprintf(line, sizeof line, "%s supervisor: ", stamp);
    // cppcheck-suppress wrongPrintfScanfArgNum ; a text that names fewer numbers leaves the rest unread
    int rest = snprintf(line + head, sizeof line - (size_t)head - 1, text, a, b);
    size_t bytes = (size_t)head + (size_t)(rest < 0 ? 0 : rest);
    if (bytes > sizeof line - 2)
        bytes = sizeof line - 2;
    line[bytes++] = '\n';
    pawl_log_line(line, (unsigned)bytes);
}

static void notify(const struct supervisor *supervisor, const char *text)
{
    if (supervisor->options->serving && supervisor->options->serving->notify)
        supervisor->options->serving->notify(text);
}

/* ---- children ---- */

/* In a forked child: only what it needs stays open. */
static void leave_supervisor(struct supervisor *supervisor)
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
static void leave_with_host(struct supervisor *supervisor)
{
    leave_supervisor(supervisor);
    if (!supervisor->options->helpers)
        return;
    pawl_helpers_forget_host(supervisor->options->helpers);
    (void)umask(077);
    (void)!chdir("/");
}

/* ---- helpers ---- */

static void send_handler(struct supervisor *supervisor, uint16_t type, uint32_t number, pid_t pid)
{
    struct pawl_wire_process body = {.role = PAWL_ROLE_HANDLER,
                                     .number = number,
                                     .pid = (uint32_t)pid,
                                     .since_ns = clock_ns(CLOCK_REALTIME)};
    if (supervisor->wire.fd >= 0 && number != 0)
        (void)pawl_wire_queue_message(&supervisor->wire, type, 0, &body, sizeof body, NULL, 0, NULL, 0);
}

static void on_helper_forked(void *ctx, const struct pawl_helper *helper)
{
    send_handler(ctx, PAWL_WIRE_HANDLER_UP, helper->number, helper->pid);
}

static bool is_workers_number(void *ctx, uint32_t number)
{
    const struct supervisor *supervisor = ctx;
    return number < supervisor->number_end && supervisor->workers[number].pid != 0;
}

/* A new scheduler knows of none. */
static void tell_of_helpers(struct supervisor *supervisor)
{
    const struct pawl_helpers *helpers = supervisor->options->helpers;
    for (unsigned i = 0; helpers && i < helpers->count; i++)
        if (helpers->list[i].pid)
            send_handler(supervisor, PAWL_WIRE_HANDLER_UP, helpers->list[i].number, helpers->list[i].pid);
}

static void leave_for_helper(void *ctx)
{
    struct supervisor *supervisor = ctx;
    leave_supervisor(supervisor);
    if (supervisor->client_fd >= 0)
        close(supervisor->client_fd);
}

static int prove_orphans_gone(void *ctx, char *text, unsigned bytes)
{
    const struct supervisor *supervisor = ctx;
    const struct pawl_state *state = supervisor->state;
    struct pawl_orphans_report report;
    int error = pawl_orphans_kill(state->mark, 0, 2 * ORPHANS_LIMIT_NS, &report);
    text[0] = 0;
    if (error)
        snprintf(text, bytes, "%u processes of an earlier life could not be ended: %s", report.left_count,
                 pawl_error_text(error));
    else if (report.killed_count)
        snprintf(text, bytes, "%u processes of an earlier life were killed (first: %d)", report.killed_count,
                 (int)report.pids[0]);
    return error;
}

static int load_config(const struct supervisor *supervisor, struct pawl_config *config_out, char *text,
                       size_t bytes)
{
    const struct pawl_serving *serving = supervisor->options->serving;
    const struct pawl_config_source in_state = {.dirfd = supervisor->state->dirfd};
    const struct pawl_config_source *source = serving ? &serving->config : &in_state;
    struct pawl_load_errors errors;
    int error = pawl_config_load(source, config_out, NULL, &errors);
    if (error)
        pawl_config_complain(source, &errors, text, bytes);
    return error;
}

/* In the scheduler, which does not know how a configuration is written. */
static int read_config(void *ctx, struct pawl_config *config_out, char *text, unsigned bytes)
{
    struct supervisor *supervisor = ctx;
    int error = load_config(supervisor, config_out, text, bytes);
    /* A mistake that was made meanwhile must not keep a restarted scheduler from serving. */
    if (error && supervisor->restarted && supervisor->has_config) {
        say("the configuration has a mistake: the one before stays in force", 0, 0);
        *config_out = supervisor->config;
        error = 0;
    }
    supervisor->has_config = false; /* this process's copy is given away, or of no use any more */
    return error;
}

/* In the supervisor: what a later scheduler falls back to. False: there is a mistake in it. */
static bool remember_config(struct supervisor *supervisor)
{
    struct pawl_config config;
    char text[8];
    if (!supervisor->options->serving || load_config(supervisor, &config, text, sizeof text) != 0)
        return false;
    if (supervisor->has_config)
        pawl_config_fini(&supervisor->config);
    supervisor->config = config;
    supervisor->has_config = true;
    return true;
}

_Noreturn static void be_scheduler(struct supervisor *supervisor, int fd, bool restarted)
{
    const struct pawl_state *state = supervisor->state;
    supervisor->restarted = restarted;
    leave_with_host(supervisor);
    pawl_proctitle_set("pawl: scheduler");
    struct pawl_scheduler_options options = {
        .state_dirfd = state->dirfd,
        .journal_dirfd = state->journal_dirfd,
        .runs_dirfd = state->runs_dirfd,
        .spool_dirfd = state->spool_dirfd,
        .state_path = state->path,
        .mark = state->mark,
        .supervisor_fd = fd,
        .client_fd = supervisor->client_fd,
        .log_fd = STDERR_FILENO,
        .supervisor = supervisor->self,
        .temporary = supervisor->options->temporary,
        .restarted = restarted,
        .workers_alive = supervisor->alive,
        .prove_orphans_gone = prove_orphans_gone,
        .read_config = read_config,
        .ctx = supervisor,
    };
    const struct pawl_serving *serving = supervisor->options->serving;
    if (serving) {
        options.log_fd = serving->log_fd >= 0 ? serving->log_fd : STDERR_FILENO;
        options.listen_count = serving->listen_count;
        options.listen_in_state_is_passed = serving->listen_in_state_is_passed;
        memcpy(options.listen_fds, serving->listen_fds, sizeof options.listen_fds);
    }
    _exit(pawl_scheduler_main(&options));
}

static void send_worker(struct supervisor *supervisor, uint16_t type, uint32_t number,
                        const struct child *worker, int status)
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

static int fork_scheduler(struct supervisor *supervisor, bool restarted)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        be_scheduler(supervisor, fds[1], restarted);
    }
    int error = pid < 0 ? -errno : pawl_wire_init(&supervisor->wire, fds[0]);
    close(fds[1]);
    if (error) {
        close(fds[0]);
        supervisor->wire.fd = -1;
        return error;
    }
    if (supervisor->client_fd >= 0)
        close(supervisor->client_fd);
    supervisor->client_fd = -1;
    supervisor->serves = false;
    supervisor->scheduler = (struct child){.pid = pid, .forked_at_ns = clock_ns(CLOCK_BOOTTIME)};
    for (uint32_t number = 1; number < supervisor->number_end; number++)
        if (supervisor->workers[number].pid)
            send_worker(supervisor, PAWL_WIRE_WORKER_UP, number, &supervisor->workers[number], 0);
    tell_of_helpers(supervisor);
    return 0;
}

static int fork_worker(struct supervisor *supervisor)
{
    uint32_t number = 1;
    while (is_workers_number(supervisor, number) ||
           pawl_helpers_number_is_used(supervisor->options->helpers, number))
        number++;
    if (number > WORKERS_MAX)
        return -EAGAIN;
    char mark[PAWL_NAME_BYTES];
    snprintf(mark, sizeof mark, "%s:%u", supervisor->state->mark, number);

    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        leave_with_host(supervisor);
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
    supervisor->workers[number] = (struct child){
        .pid = pid, .since_ns = clock_ns(CLOCK_REALTIME), .forked_at_ns = clock_ns(CLOCK_BOOTTIME)};
    supervisor->alive++;
    if (number >= supervisor->number_end)
        supervisor->number_end = number + 1;
    send_worker(supervisor, PAWL_WIRE_WORKER_UP, number, &supervisor->workers[number], 0);
    return 0;
}

/* As many as are wanted; a worker that is leaving does not count. */
static void fill_workers(struct supervisor *supervisor)
{
    while (!supervisor->stopping && supervisor->wire.fd >= 0 &&
           supervisor->alive - supervisor->leaving < supervisor->wanted && supervisor->alive < WORKERS_MAX) {
        if (supervisor->fork_at_ns > clock_ns(CLOCK_BOOTTIME))
            return;
        int error = fork_worker(supervisor);
        if (error) {
            say("cannot fork a worker: errno %lld", -error, 0);
            supervisor->fork_at_ns = clock_ns(CLOCK_BOOTTIME) + FORK_WAIT_FIRST_NS * 10;
            return;
        }
    }
}

/* ---- endings ---- */

static void kill_workers(struct supervisor *supervisor, int number_of_signal)
{
    for (uint32_t number = 1; number < supervisor->number_end; number++)
        if (supervisor->workers[number].pid)
            (void)kill(supervisor->workers[number].pid, number_of_signal);
}

/* Workers that the scheduler did not tell to go were not known to it yet: they hold nothing. */
static void dismiss_unknown(struct supervisor *supervisor)
{
    for (uint32_t number = 1; number < supervisor->number_end; number++) {
        struct child *worker = &supervisor->workers[number];
        if (worker->pid && !worker->leaving)
            (void)kill(worker->pid, SIGTERM);
    }
}

static void begin_stop(struct supervisor *supervisor, int exit_code, bool at_once)
{
    if (!supervisor->stopping) {
        supervisor->stopping = true;
        supervisor->exit_code = exit_code;
        supervisor->stop_at_ns = clock_ns(CLOCK_BOOTTIME);
        notify(supervisor, "STOPPING=1");
        pawl_helpers_stop(supervisor->options->helpers, SIGTERM);
    }
    if (at_once && supervisor->stop_stage == 0) {
        supervisor->stop_stage = 1;
        kill_workers(supervisor, SIGTERM);
    }
}

static void on_scheduler_end(struct supervisor *supervisor, int status)
{
    supervisor->scheduler.pid = 0;
    pawl_wire_fini(&supervisor->wire);
    supervisor->wire.fd = -1;
    if (WIFEXITED(status)) {
        int code = WEXITSTATUS(status);
        if (code == 0 || code == 2 || code == 3 || code == 4 || code == 7 || code == EXIT_INTERNAL) {
            begin_stop(supervisor, code, code != 0);
            dismiss_unknown(supervisor);
            return;
        }
        say("the scheduler ended with exit code %lld", code, 0);
    } else {
        say("the scheduler was killed by signal %lld", WTERMSIG(status), 0);
    }
    if (supervisor->stopping) {
        begin_stop(supervisor, supervisor->exit_code, true);
        return;
    }
    uint64_t now_ns = clock_ns(CLOCK_BOOTTIME);
    supervisor->death_at_ns[supervisor->death_count++ % DEATHS_MAX] = now_ns;
    /* The slot that comes next holds the oldest of the last five. */
    if (supervisor->death_count >= DEATHS_MAX &&
        now_ns - supervisor->death_at_ns[supervisor->death_count % DEATHS_MAX] < DEATHS_WINDOW_NS) {
        say("%lld deaths of the scheduler within a minute: giving up", DEATHS_MAX, 0);
        begin_stop(supervisor, EXIT_INTERNAL, true);
        return;
    }
    int error = fork_scheduler(supervisor, true);
    if (error) {
        say("cannot restart the scheduler: errno %lld", -error, 0);
        begin_stop(supervisor, EXIT_INTERNAL, true);
    }
}

static void on_worker_end(struct supervisor *supervisor, uint32_t number, int status)
{
    struct child ended = supervisor->workers[number];
    /* Told to go while nothing ran, it may also have ended by SIGTERM. */
    bool expected = supervisor->exit_code == 0 && (ended.leaving || supervisor->stopping);
    bool clean = expected || (WIFEXITED(status) && WEXITSTATUS(status) == 0);

    if (!clean) {
        struct pawl_orphans_report report;
        if (WIFSIGNALED(status))
            say("worker %lld was killed by signal %lld", number, WTERMSIG(status));
        else
            say("worker %lld ended with exit code %lld", number, WEXITSTATUS(status));
        int error = pawl_orphans_kill(supervisor->state->mark, number, ORPHANS_LIMIT_NS, &report);
        if (report.killed_count)
            say("%lld processes of its job were killed", report.killed_count, 0);
        if (error)
            say("%lld processes of its job could not be ended", report.left_count, 0);
    }
    supervisor->workers[number] = (struct child){0};
    supervisor->alive--;
    supervisor->leaving -= ended.leaving;
    uint64_t now_ns = clock_ns(CLOCK_BOOTTIME);
    if (clean || now_ns - ended.forked_at_ns >= QUICK_DEATH_NS) {
        supervisor->fork_wait_ns = 0;
    } else {
        uint64_t wait_ns = supervisor->fork_wait_ns * 2;
        supervisor->fork_wait_ns = wait_ns < FORK_WAIT_FIRST_NS ? FORK_WAIT_FIRST_NS
                                   : wait_ns > FORK_WAIT_MAX_NS ? FORK_WAIT_MAX_NS
                                                                : wait_ns;
        supervisor->fork_at_ns = now_ns + supervisor->fork_wait_ns;
    }
    send_worker(supervisor, PAWL_WIRE_WORKER_DOWN, number, &ended, status);
}

static void reap(struct supervisor *supervisor)
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
        if (pawl_helpers_reaped(supervisor->options->helpers, pid, clean, clock_ns(CLOCK_BOOTTIME),
                                &handler)) {
            send_handler(supervisor, PAWL_WIRE_HANDLER_DOWN, handler, pid);
            if (!clean && !supervisor->stopping)
                say(WIFSIGNALED(status) ? "handler process %lld was killed by signal %lld"
                                        : "handler process %lld ended with exit code %lld",
                    pid, WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            continue;
        }
        for (uint32_t number = 1; number < supervisor->number_end; number++)
            if (supervisor->workers[number].pid == pid) {
                on_worker_end(supervisor, number, status);
                break;
            }
    }
    while (supervisor->number_end > 1 && supervisor->workers[supervisor->number_end - 1].pid == 0)
        supervisor->number_end--;
}

/* ---- messages ---- */

static void reload(struct supervisor *supervisor)
{
    char text[64];
    supervisor->reload_wanted = !supervisor->serves;
    if (supervisor->stopping || !supervisor->serves)
        return;
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%llu",
             (unsigned long long)(clock_ns(CLOCK_MONOTONIC) / 1000));
    notify(supervisor, text);
    struct pawl_helpers *helpers = supervisor->options->helpers;
    if (remember_config(supervisor) && helpers && helpers->reconfigure)
        helpers->reconfigure(helpers, &supervisor->config, clock_ns(CLOCK_BOOTTIME));
    (void)kill(supervisor->scheduler.pid, SIGHUP);
}

static void on_message(struct supervisor *supervisor, const struct pawl_wire_message *message)
{
    if (message->header.type == PAWL_WIRE_WORKERS &&
        message->header.bytes >= sizeof(struct pawl_wire_workers)) {
        const struct pawl_wire_workers *wanted = message->body;
        supervisor->wanted = wanted->count < WORKERS_MAX ? wanted->count : WORKERS_MAX;
        return;
    }
    if (message->header.type == PAWL_WIRE_SERVES) {
        if (supervisor->options->serving && !supervisor->serves)
            pawl_log(PAWL_LOG_INFO, "serving %s", supervisor->state->path);
        supervisor->serves = true;
        notify(supervisor, "READY=1");
        if (supervisor->reload_wanted)
            reload(supervisor);
        return;
    }
    if (message->header.bytes < sizeof(struct pawl_wire_process))
        return;
    const struct pawl_wire_process *process = message->body;
    if (process->number == 0 || process->number >= supervisor->number_end)
        return;
    struct child *worker = &supervisor->workers[process->number];
    if (worker->pid == 0 || (uint32_t)worker->pid != process->pid)
        return;
    if (message->header.type == PAWL_WIRE_RETIRE && !worker->leaving) {
        worker->leaving = true;
        supervisor->leaving++;
    }
}

static void read_messages(struct supervisor *supervisor)
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

static void on_signal(struct supervisor *supervisor)
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
        begin_stop(supervisor, 0, false);
    }
    reap(supervisor);
}

/* Ends what does not leave. Return: how long to sleep at most. */
static uint64_t press_on(struct supervisor *supervisor, uint64_t now_ns)
{
    if (!supervisor->stopping) {
        bool short_of = supervisor->alive - supervisor->leaving < supervisor->wanted;
        return short_of && supervisor->fork_at_ns > now_ns ? supervisor->fork_at_ns - now_ns : UINT64_MAX;
    }
    uint64_t passed_ns = now_ns - supervisor->stop_at_ns;
    uint64_t grace_ns = supervisor->has_config ? supervisor->config.grace_ns : 0;
    if (passed_ns >= LEAVE_TERM_NS && passed_ns >= grace_ns)
        pawl_helpers_stop(supervisor->options->helpers, SIGKILL);
    if (supervisor->stop_stage < 1 && passed_ns >= LEAVE_TERM_NS && supervisor->scheduler.pid == 0) {
        supervisor->stop_stage = 1;
        kill_workers(supervisor, SIGTERM);
    }
    if (supervisor->stop_stage < 2 && passed_ns >= LEAVE_KILL_NS && supervisor->scheduler.pid == 0) {
        supervisor->stop_stage = 2;
        kill_workers(supervisor, SIGKILL);
    }
    return FORK_WAIT_MAX_NS;
}

static void run(struct supervisor *supervisor)
{
    struct pawl_helpers *helpers = supervisor->options->helpers;
    const struct pawl_helpers_parent parent = {.leave = leave_for_helper,
                                               .number_is_used = is_workers_number,
                                               .forked = on_helper_forked,
                                               .ctx = supervisor};
    while (supervisor->scheduler.pid || supervisor->alive || pawl_helpers_alive(helpers)) {
        fill_workers(supervisor);
        uint64_t due_ns = pawl_helpers_fill(helpers, clock_ns(CLOCK_BOOTTIME), &parent);
        bool unsent = supervisor->wire.fd >= 0 && pawl_wire_flush(&supervisor->wire) == -EAGAIN;
        struct pollfd fds[2] = {
            {.fd = supervisor->signal_fd, .events = POLLIN},
            {.fd = supervisor->wire.fd, .events = (short)(unsent ? POLLIN | POLLOUT : POLLIN)},
        };
        uint64_t now_ns = clock_ns(CLOCK_BOOTTIME), sleep_ns = press_on(supervisor, now_ns);
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
    struct supervisor supervisor = {
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
    supervisor.workers = calloc(WORKERS_MAX + 2, sizeof *supervisor.workers);
    supervisor.signal_fd = listen_to_signals();
    if (!supervisor.workers || supervisor.signal_fd < 0) {
        free(supervisor.workers);
        return EXIT_INTERNAL;
    }
    (void)remember_config(&supervisor);
    int error = fork_scheduler(&supervisor, false);
    if (error) {
        say("cannot fork the scheduler: errno %lld", -error, 0);
        free(supervisor.workers);
        return EXIT_CANNOT_START;
    }
    run(&supervisor);
    free(supervisor.workers);
    if (supervisor.has_config)
        pawl_config_fini(&supervisor.config);
    return supervisor.exit_code;
}
