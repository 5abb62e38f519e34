/*
 * exec.c - a user's process: start it, end it, reap it.
 *
 * Runs in: worker. Starts by clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD): nothing of the worker is copied,
 * and the worker stands still until the program is loaded. What the child does between is a fixed list of
 * system calls; it reports a failure through memory that it shares with the worker. Never sleeps, reads no
 * clock.
 */
#include "workers/exec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILD_STACK_BYTES = 64 << 10, CHILD_EXIT_FAILED = 127 };

/* Read by the child, failure is written by it; the parent stands still meanwhile. */
struct child_orders {
    const struct pawl_exec_spec *spec;
    pid_t worker;
    struct pawl_exec_failure failure;
};

static _Alignas(64) char child_stack[CHILD_STACK_BYTES]; /* one spawn at a time: the parent waits */

/* ---- in the child: system calls only ---- */

static int fail(struct child_orders *orders, enum pawl_exec_step step)
{
    orders->failure.error = errno ? errno : EIO;
    orders->failure.step = step;
    return CHILD_EXIT_FAILED;
}

/* Put three descriptors of any numbers on 0, 1, 2. One that another target would overwrite moves away first.
 */
static int place_descriptors(const struct pawl_exec_spec *spec)
{
    int fd[3] = {spec->stdin_fd, spec->stdout_fd, spec->stderr_fd};
    for (int i = 0; i < 3; i++) {
        if (fd[i] > 2 || fd[i] == i)
            continue;
        fd[i] = fcntl(fd[i], F_DUPFD, 3);
        if (fd[i] < 0)
            return -1;
    }
    for (int i = 0; i < 3; i++) {
        if (fd[i] == i ? fcntl(i, F_SETFD, 0) < 0 : dup2(fd[i], i) < 0)
            return -1;
    }
    return close_range(3, ~0u, 0) < 0 ? -1 : 0;
}

static int apply_limits(struct child_orders *orders)
{
    const struct pawl_exec_spec *spec = orders->spec;
    for (uint32_t left = spec->limit_mask; left; left &= left - 1) {
        int limit = __builtin_ctz(left);
        if (setrlimit((__rlimit_resource_t)limit, &spec->limits[limit]) < 0) {
            orders->failure.limit = limit;
            return -1;
        }
    }
    return 0;
}

static void load_program(const struct pawl_exec_spec *spec)
{
    execve(spec->program, spec->argv, spec->envp);
    if (errno != ENOEXEC)
        return;
    /* A script without an interpreter line: what execvp() does. argv[0] gives way to the script's path. */
    spec->argv[-1] = (char *)(uintptr_t) "/bin/sh";
    spec->argv[0] = (char *)(uintptr_t)spec->program;
    execve("/bin/sh", spec->argv - 1, spec->envp);
}

static int run_child(void *argument)
{
    struct child_orders *orders = argument;
    const struct pawl_exec_spec *spec = orders->spec;
    const struct sigaction by_default = {.sa_handler = SIG_DFL};
    sigset_t none;

    if (setpgid(0, 0) < 0)
        return fail(orders, PAWL_EXEC_GROUP);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return fail(orders, PAWL_EXEC_PARENT);
    if (getppid() != orders->worker) { /* it died before the line above: nobody will tell us */
        errno = ESRCH;
        return fail(orders, PAWL_EXEC_PARENT);
    }
    /* The worker handles SIGTERM; its handler must not run here, in its memory. */
    sigaction(SIGTERM, &by_default, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (spec->directory && chdir(spec->directory) < 0)
        return fail(orders, PAWL_EXEC_DIRECTORY);
    if (place_descriptors(spec) < 0)
        return fail(orders, PAWL_EXEC_DESCRIPTOR);
    umask(spec->umask);
    /* Only the superuser may become less nice; the job then runs as nice as the worker does. */
    if (spec->set_nice && setpriority(PRIO_PROCESS, 0, spec->nice) < 0 && errno != EACCES && errno != EPERM)
        return fail(orders, PAWL_EXEC_NICE);
    if (apply_limits(orders) < 0)
        return fail(orders, PAWL_EXEC_LIMIT);
    load_program(spec);
    return fail(orders, PAWL_EXEC_PROGRAM);
}

/* ---- in the worker ---- */

int pawl_exec_spawn(const struct pawl_exec_spec *spec, struct pawl_exec *exec_out,
                    struct pawl_exec_failure *failure_out)
{
    struct child_orders orders = {.spec = spec, .worker = getpid()};
    int pidfd = -1;
    pid_t pid = clone(run_child, child_stack + CHILD_STACK_BYTES,
                      CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &orders, &pidfd);
    if (pid < 0) {
        *failure_out = (struct pawl_exec_failure){.step = PAWL_EXEC_CLONE, .error = errno};
        return -failure_out->error;
    }
    *failure_out = orders.failure;
    if (orders.failure.step) {
        siginfo_t info;
        while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0 && errno == EINTR)
            ;
        close(pidfd);
        return -orders.failure.error;
    }
    *exec_out =
        (struct pawl_exec){.pid = pid, .pidfd = pidfd, .timeout_at_ns = UINT64_MAX, .kill_at_ns = UINT64_MAX};
    return 0;
}

void pawl_exec_set_timeout(struct pawl_exec *exec, uint64_t now_ns, uint64_t timeout_ns, uint64_t grace_ns)
{
    exec->timeout_at_ns =
        timeout_ns == 0 || timeout_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + timeout_ns;
    exec->grace_ns = grace_ns;
}

void pawl_exec_stop(struct pawl_exec *exec, enum pawl_exec_end why, uint64_t now_ns, uint64_t grace_ns)
{
    bool first = exec->end == PAWL_EXEC_END_NONE;
    if (first)
        exec->end = why;
    exec->timeout_at_ns = UINT64_MAX;
    if (grace_ns == 0) {
        pawl_exec_kill_now(exec);
        exec->kill_at_ns = UINT64_MAX;
        return;
    }
    if (first) {
        kill(-exec->pid, SIGTERM);
        kill(-exec->pid, SIGCONT); /* a stopped process hears SIGTERM only when it goes on */
    }
    uint64_t kill_at_ns = grace_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + grace_ns;
    if (kill_at_ns < exec->kill_at_ns)
        exec->kill_at_ns = kill_at_ns;
}

uint64_t pawl_exec_tick(struct pawl_exec *exec, uint64_t now_ns)
{
    if (now_ns >= exec->timeout_at_ns)
        pawl_exec_stop(exec, PAWL_EXEC_END_TIMEOUT, now_ns, exec->grace_ns);
    if (now_ns >= exec->kill_at_ns) {
        pawl_exec_kill_now(exec);
        exec->kill_at_ns = UINT64_MAX;
    }
    return exec->timeout_at_ns < exec->kill_at_ns ? exec->timeout_at_ns : exec->kill_at_ns;
}

void pawl_exec_kill_now(const struct pawl_exec *exec)
{
    if (exec->pid > 0)
        kill(-exec->pid, SIGKILL);
}

int pawl_exec_reap(struct pawl_exec *exec, struct pawl_exec_status *status_out)
{
    siginfo_t info = {0};
    if (exec->end != PAWL_EXEC_END_NONE) {
        /* Wait without reaping: while the leader is a zombie no other group can have its number. */
        while (waitid(P_PIDFD, (id_t)exec->pidfd, &info, WEXITED | WNOWAIT) < 0)
            if (errno != EINTR)
                return -errno;
        pawl_exec_kill_now(exec);
    }
    while (waitid(P_PIDFD, (id_t)exec->pidfd, &info, WEXITED) < 0)
        if (errno != EINTR)
            return -errno;
    close(exec->pidfd);
    *status_out = (struct pawl_exec_status){
        .signalled = info.si_code != CLD_EXITED,
        .code = info.si_status,
        .end = exec->end,
        .group_lives = kill(-exec->pid, 0) == 0 || errno == EPERM,
    };
    exec->pid = 0;
    exec->pidfd = -1;
    return 0;
}

/* Excerpts of stderr show its end: where PATH is long the program's name comes after it, on a line of its
 * own. */
static int search_text(const char *program, const char *why, const char *search, char *text, int bytes)
{
    enum { ON_ONE_LINE = 120, WORDS = 40 };
    if (strlen(search) <= ON_ONE_LINE)
        return snprintf(text, (size_t)bytes, "cannot start %s: %s (searched %s)\n", program, why, search);
    int room = bytes - (int)strlen(program) - (int)strlen(why) - WORDS;
    return snprintf(text, (size_t)bytes, "searched %.*s\ncannot start %s: %s\n", room > 0 ? room : 0, search,
                    program, why);
}

int pawl_exec_failure_text(const struct pawl_exec_failure *failure, const char *program,
                           const char *directory, const char *search, char *text, int bytes)
{
    static const char *const what[] = {
        [PAWL_EXEC_CLONE] = "make a process for",
        [PAWL_EXEC_GROUP] = "make a process group for",
        [PAWL_EXEC_PARENT] = "watch over",
        [PAWL_EXEC_DESCRIPTOR] = "connect the standard descriptors of",
        [PAWL_EXEC_NICE] = "set the niceness of",
    };
    const char *why = strerror(failure->error);
    int n = 0;
    switch (failure->step) {
    case PAWL_EXEC_DIRECTORY:
        n = snprintf(text, (size_t)bytes, "cannot enter %s: %s\n", directory ? directory : ".", why);
        break;
    case PAWL_EXEC_LIMIT:
        n = snprintf(text, (size_t)bytes, "cannot start %s: resource limit %d cannot be set: %s\n", program,
                     failure->limit, why);
        break;
    case PAWL_EXEC_PROGRAM:
        if (failure->error == E2BIG)
            n = snprintf(text, (size_t)bytes,
                         "cannot start %s: %s (arguments and environment exceed what the kernel takes)\n",
                         program, why);
        else if (search)
            n = search_text(program, why, search, text, bytes);
        else
            n = snprintf(text, (size_t)bytes, "cannot start %s: %s\n", program, why);
        break;
    case PAWL_EXEC_CLONE:
    case PAWL_EXEC_GROUP:
    case PAWL_EXEC_PARENT:
    case PAWL_EXEC_DESCRIPTOR:
    case PAWL_EXEC_NICE:
        n = snprintf(text, (size_t)bytes, "cannot %s %s: %s\n", what[failure->step], program, why);
        break;
    }
    return n < bytes ? n : bytes - 1;
}
