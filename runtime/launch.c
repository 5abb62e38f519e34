/*
 * launch.c - forks the supervisor, and connects to the socket of whoever serves.
 *
 * Runs in: the command, while it is small. The child keeps the state directory's descriptors and its end of
 * the socketpair, and nothing else of the command's: not its terminal, its pipes, its session.
 */
#include "runtime/launch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/helpers.h"
#include "runtime/proctitle.h"
#include "runtime/supervise.h"
#include "shm/log.h"

enum { LOG_BYTES_MAX = 4 << 20 /* then the log is put aside as scheduler.log.1 */ };

int pawl_state_connect(const struct pawl_state *state)
{
    /* A path below /proc has the same length however deep the directory lies. */
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d/socket", state->dirfd);
    return pawl_socket_connect(path);
}

int pawl_socket_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t bytes = strlen(path) + 1;
    if (bytes > sizeof address.sun_path)
        return -ENAMETOOLONG;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    memcpy(address.sun_path, path, bytes);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int error = -errno;
    close(fd);
    return error;
}

static void forget_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        if (number != SIGKILL && number != SIGSTOP)
            (void)sigaction(number, &action, NULL);
    action.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &action, NULL);
    (void)sigaction(SIGXFSZ, &action, NULL); /* a limit is like a full disk: an error of the write */
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static int compare_fds(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void close_all_but(int *kept, size_t count)
{
    qsort(kept, count, sizeof *kept, compare_fds);
    unsigned next = 3;
    for (size_t i = 0; i < count; i++) {
        if (kept[i] < (int)next)
            continue;
        if (kept[i] > (int)next)
            (void)close_range(next, (unsigned)kept[i] - 1, 0);
        next = (unsigned)kept[i] + 1;
    }
    (void)close_range(next, ~0u, 0);
}

static int open_log(const struct pawl_state *state)
{
    struct stat status;
    int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW;
    int log_fd = openat(state->dirfd, "scheduler.log", flags, 0600);
    if (log_fd >= 0 && fstat(log_fd, &status) == 0 && status.st_size > LOG_BYTES_MAX &&
        renameat(state->dirfd, "scheduler.log", state->dirfd, "scheduler.log.1") == 0) {
        close(log_fd);
        log_fd = openat(state->dirfd, "scheduler.log", flags, 0600);
    }
    return log_fd;
}

/* 0 and 1 to /dev/null, 2 to the log. Without a log (full disk) 2 is /dev/null too. */
static void settle_standard_streams(const struct pawl_state *state)
{
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    int log_fd = open_log(state);
    for (int fd = 0; fd < 3 && null_fd >= 0; fd++)
        (void)dup2(fd == 2 && log_fd >= 0 ? log_fd : null_fd, fd);
}

/* Our own mark in our own environment (a command that was started by a job of this directory) would make us
 * an orphan of ours. */
static void forget_own_mark(const struct pawl_state *state)
{
    char *value = getenv("PAWL_MARK");
    if (value && strncmp(value, state->mark, strlen(state->mark)) == 0) {
        memset(value, '-', strlen(value));
        unsetenv("PAWL_MARK");
    }
}

_Noreturn static void become_supervisor(const struct pawl_state *state,
                                        const struct pawl_launch_options *options, int client_fd)
{
    int kept[] = {state->dirfd, state->journal_dirfd, state->runs_dirfd, state->spool_dirfd, client_fd};

    forget_signals();
    (void)setsid();
    (void)umask(077);
    settle_standard_streams(state);
    close_all_but(kept, sizeof kept / sizeof *kept);
    (void)!chdir("/");
    forget_own_mark(state);
    pawl_log_open(STDERR_FILENO, "supervisor", PAWL_LOG_INFO);
    pawl_proctitle_set("pawl: supervisor");
    struct pawl_supervise_options supervise = {
        .state = state, .client_fd = client_fd, .temporary = options->temporary};
    _exit(pawl_supervise(&supervise));
}

/* The descriptors of the state directory may lie at 0..2 when the command was started without those. */
static bool has_low_fd(const struct pawl_state *state, int client_fd)
{
    return state->dirfd < 3 || state->journal_dirfd < 3 || state->runs_dirfd < 3 || state->spool_dirfd < 3 ||
           client_fd < 3;
}

int pawl_launch(const struct pawl_state *state, const struct pawl_launch_options *options, int *client_fd_out)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return -errno;
    if (has_low_fd(state, fds[1])) {
        close(fds[0]);
        close(fds[1]);
        return -EBADF;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        become_supervisor(state, options, fds[1]);
    int error = pid < 0 ? -errno : 0;
    close(fds[1]);
    if (error)
        close(fds[0]);
    else
        *client_fd_out = fds[0];
    return error;
}

/* Standard output and error stay the caller's: a terminal, a service manager's journal. */
int pawl_launch_here(const struct pawl_state *state, struct pawl_serving *serving,
                     struct pawl_helpers *helpers)
{
    int kept[7 + PAWL_SUPERVISE_LISTEN_MAX] = {state->dirfd, state->journal_dirfd, state->runs_dirfd,
                                               state->spool_dirfd, serving->lock_fd};
    size_t kept_count = 5;

    forget_signals();
    (void)umask(077);
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd >= 0)
        (void)dup2(null_fd, STDIN_FILENO);
    serving->log_fd = open_log(state);
    if (serving->log_fd >= 0) {
        pawl_log_open(serving->log_fd, "supervisor", PAWL_LOG_INFO);
        pawl_log_copy_to(STDERR_FILENO);
        kept[kept_count++] = serving->log_fd;
    }
    if (helpers && helpers->host_fd_count == 1)
        kept[kept_count++] = helpers->host_fds[0];
    for (unsigned i = 0; i < serving->listen_count; i++)
        kept[kept_count++] = serving->listen_fds[i];
    close_all_but(kept, kept_count);
    (void)!chdir("/");
    forget_own_mark(state);
    pawl_proctitle_set("pawl: supervisor");
    const struct pawl_supervise_options supervise = {
        .state = state, .client_fd = -1, .serving = serving, .helpers = helpers};
    return pawl_supervise(&supervise);
}

/* ---- beside an embedding program ---- */

static int standard_fds[3]; /* of the program, put aside for its helpers */

void pawl_launch_restore_streams(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (standard_fds[fd] >= 0)
            (void)dup2(standard_fds[fd], fd);
}

/* What is open and not ours: 0 or -ENOMEM. Lives as long as the supervisor. */
static int list_host_fds(struct pawl_helpers *helpers, const int *kept, size_t kept_count)
{
    DIR *directory = opendir("/proc/self/fd");
    size_t room = 0, count = 0;
    int *fds = NULL;
    if (!directory)
        return 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        int fd = (int)strtol(entry->d_name, NULL, 10);
        bool ours = fd < 3 || entry->d_name[0] == '.' || fd == dirfd(directory);
        for (size_t i = 0; i < kept_count; i++)
            ours |= fd == kept[i];
        if (ours)
            continue;
        if (count == room) {
            room = room * 2 + 16;
            int *more = realloc(fds, room * sizeof *fds);
            if (!more) {
                free(fds);
                closedir(directory);
                return -ENOMEM;
            }
            fds = more;
        }
        fds[count++] = fd;
    }
    closedir(directory);
    helpers->host_fds = fds;
    helpers->host_fd_count = count;
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    (void)remove(path);
    return 0;
}

void pawl_launch_remove(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

_Noreturn static void become_embedded(const struct pawl_state *state,
                                      const struct pawl_launch_embedded *options, int client_fd, pid_t host)
{
    int kept[] = {state->dirfd,
                  state->journal_dirfd,
                  state->runs_dirfd,
                  state->spool_dirfd,
                  client_fd,
                  options->serving->lock_fd,
                  -1};
    const size_t count = sizeof kept / sizeof *kept;
    bool helps = options->helpers && options->helpers->count > 0;

    forget_signals(); /* first: a handler of the program's could take what tells of its death */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != host)
        _exit(0);
    (void)setsid();
    for (int fd = 0; fd < 3; fd++)
        standard_fds[fd] = helps ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
    settle_standard_streams(state);
    options->serving->log_fd = kept[count - 1] = open_log(state);
    pawl_log_open(options->serving->log_fd, "supervisor", PAWL_LOG_INFO);
    if (!helps) {
        close_all_but(kept, count);
        (void)umask(077);
        (void)!chdir("/");
    } else if (list_host_fds(options->helpers, kept, count) != 0) {
        _exit(70);
    }
    forget_own_mark(state);
    pawl_proctitle_set("pawl: supervisor");
    const struct pawl_supervise_options supervise = {.state = state,
                                                     .client_fd = client_fd,
                                                     .serving = options->serving,
                                                     .helpers = helps ? options->helpers : NULL};
    int code = pawl_supervise(&supervise);
    if (options->remove_path)
        pawl_launch_remove(options->remove_path);
    _exit(code);
}

int pawl_launch_embedded(const struct pawl_state *state, const struct pawl_launch_embedded *options,
                         int *client_fd_out, pid_t *pid_out)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return -errno;
    int error = has_low_fd(state, fds[1]) ? -EBADF : 0;
    pid_t host = getpid(), pid = -1;
    if (!error) {
        fflush(NULL);
        pid = fork();
        error = pid < 0 ? -errno : 0;
    }
    if (pid == 0) {
        close(fds[0]);
        become_embedded(state, options, fds[1], host);
    }
    close(fds[1]);
    if (error) {
        close(fds[0]);
        return error;
    }
    *client_fd_out = fds[0];
    *pid_out = pid;
    return 0;
}
