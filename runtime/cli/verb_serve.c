/*
 * verb_serve.c - `pawl serve`: own a state directory in the foreground, until SIGTERM.
 *
 * Runs in: the command, which becomes the supervisor. Whatever can be wrong with flags, configuration and
 * sockets is found and said before that.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/serve_helpers.h"
#include "runtime/cli/serve_socket.h"
#include "runtime/cli/verbs.h"
#include "runtime/config.h"
#include "runtime/launch.h"
#include "runtime/metrics_http.h"
#include "runtime/state.h"
#include "runtime/submission.h"
#include "runtime/supervise.h"
#include "shm/clock.h"
#include "shm/error.h"
#include "shm/log.h"

/* A command's own scheduler leaves with its last client: that is waited for. */
#define TEMPORARY_WAIT_NS UINT64_C(5000000000)

struct serve_options {
    uint64_t given;
    const char *socket, *metrics, *config;
    uint64_t workers;
};

#define OFFSET(member) offsetof(struct serve_options, member)
static const struct pawl_option serve_option_table[] = {
    {0, "socket", "PATH", "listen here as well", PAWL_OPTION_TEXT, OFFSET(socket), 0, 0},
    {0, "workers", "N", "slots of a run, processes of a handler, that are not said", PAWL_OPTION_COUNT,
     OFFSET(workers), 0, PAWL_SLOTS_MAX},
    {0, "metrics", "ADDR", "answer HTTP at HOST:PORT, :PORT or PORT (loopback)", PAWL_OPTION_TEXT,
     OFFSET(metrics), 0, 0},
    {0, "config", "FILE", "instead of pawl.yaml in the state directory", PAWL_OPTION_TEXT, OFFSET(config), 0,
     0},
    {0},
};

/* What outlives the command line: its memory is taken for the process's title. */
struct serve {
    const struct pawl_cli *cli;
    struct pawl_state state;
    struct pawl_serving serving;
    struct pawl_config_flag flags[1];
    int metrics_fd; /* where HTTP is answered, by a helper; -1: nowhere */
    struct pawl_serve_helpers helpers;
    char *config, *socket;
};

static char *absolute(const char *path)
{
    char here[PATH_MAX], *text = NULL;
    if (path[0] == '/')
        return strdup(path);
    if (getcwd(here, sizeof here) == NULL || asprintf(&text, "%s/%s", here, path) < 0)
        return NULL;
    return text;
}

/* The mistakes of the configuration, as `pawl check` says those of a workflow. 0 or an exit code. */
static int check_config(struct serve *serve, struct pawl_config *config_out)
{
    static struct pawl_load_errors errors;
    int error = pawl_config_load(&serve->serving.config, config_out, NULL, &errors);
    if (error == 0)
        return pawl_serve_helpers_check(serve->cli, config_out);
    return pawl_fail_config(serve->cli, &serve->serving.config, error, &errors);
}

/* Who is killed leaves the lock to its children, for as long as they take to end. */
static bool is_gone(int pid)
{
    int fd = pidfd_open(pid, 0);
    if (fd < 0)
        return errno == ESRCH;
    struct pollfd end = {.fd = fd, .events = POLLIN};
    bool gone = poll(&end, 1, 0) == 1;
    close(fd);
    return gone;
}

static int refuse_busy(struct serve *serve)
{
    char what[32], hint[128] = "see pawl health";
    int pid;
    if (!pawl_supervise_holder(&serve->state, &pid, what))
        return pawl_fail(serve->cli, PAWL_EXIT_UNREACHABLE, "busy", hint, "%s is being served already",
                         serve->state.path);
    if (is_gone(pid))
        return pawl_fail(serve->cli, PAWL_EXIT_UNREACHABLE, "busy", "try again when they have",
                         "%s was in use by pid %d, and not all of its processes have ended",
                         serve->state.path, pid);
    snprintf(hint, sizeof hint, "connect to it, or stop it: kill -TERM %d", pid);
    return pawl_fail(serve->cli, PAWL_EXIT_UNREACHABLE, "busy", hint, "%s is %s by pid %d", serve->state.path,
                     strcmp(what, "serve") == 0 ? "being served already"
                                                : "in use by commands that started a scheduler, held",
                     pid);
}

static int take_lock(struct serve *serve)
{
    uint64_t until_ns = pawl_clock_monotonic_ns() + TEMPORARY_WAIT_NS;
    for (;;) {
        int fd = pawl_supervise_lock(&serve->state, "serve");
        if (fd >= 0) {
            serve->serving.lock_fd = fd;
            return 0;
        }
        if (fd != -EWOULDBLOCK)
            return pawl_fail_error(serve->cli, PAWL_EXIT_UNREACHABLE, fd, NULL, "%s/lock", serve->state.path);
        char what[32] = "";
        int pid;
        bool lasting =
            pawl_supervise_holder(&serve->state, &pid, what) && strcmp(what, "serve") == 0 && !is_gone(pid);
        if (lasting || pawl_clock_monotonic_ns() >= until_ns)
            return refuse_busy(serve);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
}

static int open_sockets(struct serve *serve, bool for_guests)
{
    struct pawl_serving *serving = &serve->serving;
    char own[PATH_MAX];
    snprintf(own, sizeof own, "%s/socket", serve->state.path);
    for (unsigned i = 0; i < serving->listen_count; i++)
        serving->listen_in_state_is_passed |= pawl_serve_is_at(serving->listen_fds[i], own);
    if (serve->socket == NULL || strcmp(serve->socket, own) == 0)
        return 0;
    int fd = pawl_serve_listen(serve->socket, for_guests);
    if (fd == -EADDRINUSE)
        return pawl_fail(serve->cli, PAWL_EXIT_UNREACHABLE, "busy", "stop it, or choose another path",
                         "another process listens at %s", serve->socket);
    if (fd == -EEXIST)
        return pawl_fail(serve->cli, PAWL_EXIT_USAGE, "usage", "choose another path",
                         "%s exists and is no socket", serve->socket);
    if (fd < 0)
        return pawl_fail_error(serve->cli, PAWL_EXIT_UNREACHABLE, fd, NULL, "%s", serve->socket);
    serving->listen_fds[serving->listen_count++] = fd;
    return 0;
}

static int passed_sockets(struct serve *serve)
{
    int passed = pawl_serve_passed(serve->serving.listen_fds, PAWL_SUPERVISE_LISTEN_MAX - 1);
    if (passed < 0)
        return pawl_fail(serve->cli, PAWL_EXIT_USAGE, "usage",
                         "pass listening Unix stream sockets, at most 3",
                         "LISTEN_FDS: what was passed is not of use");
    serve->serving.listen_count = (unsigned)passed;
    return 0;
}

static int keep_options(struct serve *serve, const struct serve_options *o)
{
    if (o->config != NULL)
        serve->config = absolute(o->config);
    if (o->socket != NULL)
        serve->socket = absolute(o->socket);
    char *workers = NULL;
    bool has_workers = pawl_option_given(serve->cli->verb, o, "workers");
    if (has_workers && asprintf(&workers, "%" PRIu64, o->workers) < 0)
        workers = NULL;
    serve->flags[0] = (struct pawl_config_flag){"workers", workers};
    if ((o->config && !serve->config) || (o->socket && !serve->socket) || (has_workers && !workers))
        return pawl_fail(serve->cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
    serve->serving = (struct pawl_serving){
        .config = {.dirfd = serve->state.dirfd,
                   .path = serve->config,
                   .flags = serve->flags,
                   .flag_count = has_workers},
        .lock_fd = -1,
        .log_fd = -1,
        .notify = pawl_serve_notify,
    };
    return 0;
}

static int open_metrics(struct serve *serve, const char *address)
{
    char why[PAWL_METRICS_WHY_BYTES] = "";
    if (address == NULL)
        return 0;
    if (pawl_metrics_http_check() != 0)
        return pawl_fail(serve->cli, PAWL_EXIT_UNREACHABLE, "unsupported",
                         "install it (Debian: libmicrohttpd12), or use pawl metrics",
                         "--metrics needs libmicrohttpd, which is not installed");
    int fd = pawl_metrics_http_listen(address, why);
    if (fd < 0) {
        bool usage = fd == PAWL_E_INVALID;
        return pawl_fail(serve->cli, usage ? PAWL_EXIT_USAGE : PAWL_EXIT_UNREACHABLE,
                         usage ? "usage" : "unreachable", usage ? "say HOST:PORT, :PORT or PORT" : NULL,
                         "--metrics %.80s: %s", address, why);
    }
    serve->metrics_fd = fd;
    return 0;
}

static int begin_helpers(struct serve *serve, const struct pawl_config *config)
{
    int error = pawl_serve_helpers_init(&serve->helpers, serve->cli, &serve->state, &serve->serving,
                                        serve->metrics_fd, config);
    serve->helpers.socket = serve->socket;
    return error == 0 ? 0 : pawl_fail(serve->cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
}

static int run_serve(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    (void)operands;
    char why[PAWL_STATE_WHY_BYTES] = "";
    struct serve serve = {.cli = cli, .metrics_fd = -1};
    struct pawl_config config;
    pawl_config_default(&config);
    int error = pawl_state_open(cli->state, PAWL_STATE_CREATE, &serve.state, why);
    if (error != 0)
        return pawl_fail(cli, PAWL_EXIT_UNREACHABLE, "state",
                         error == -ENOSYS ? "pawl doctor looks at the machine"
                                          : "choose another: --state DIR, or PAWL_STATE=DIR",
                         "%s", why[0] != '\0' ? why : pawl_error_text(error));
    int status = keep_options(&serve, options);
    if (status == 0)
        status = passed_sockets(&serve);
    if (status == 0)
        status = check_config(&serve, &config);
    if (status == 0)
        status = open_metrics(&serve, ((const struct serve_options *)options)->metrics);
    if (status == 0)
        status = take_lock(&serve);
    if (status == 0)
        status = open_sockets(&serve, pawl_config_lets_guests_in(&config));
    if (status == 0)
        status = begin_helpers(&serve, &config);
    pawl_config_fini(&config);
    if (status == 0) {
        fflush(NULL);
        status = pawl_launch_here(&serve.state, &serve.serving, &serve.helpers.helpers);
        if (serve.socket != NULL)
            (void)unlink(serve.socket);
    }
    pawl_serve_helpers_fini(&serve.helpers);
    free((char *)(uintptr_t)serve.flags[0].value);
    free(serve.socket);
    free(serve.config);
    pawl_state_close(&serve.state);
    return status;
}

const struct pawl_verb pawl_verb_serve = {
    .name = "serve",
    .summary = "own the state directory and serve until SIGTERM",
    .operands = "",
    .examples = "pawl serve --state /var/lib/pawl\npawl serve --config pawl.yaml --metrics :9187",
    .notes = "SIGTERM or ^C: nothing new is delivered, what is in flight may settle (grace, 10s), exit 0\n"
             "SIGHUP: read the configuration again; a mistake changes nothing and is logged\n"
             "under systemd: Type=notify, and sockets that are passed are listened at",
    .options = serve_option_table,
    .options_bytes = sizeof(struct serve_options),
    .run = run_serve,
};
