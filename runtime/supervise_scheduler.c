/*
 * supervise_scheduler.c - forks the scheduler, with what it has to know: its configuration, who lives
 * already.
 *
 * Runs in: the supervisor, and for its first moments in the scheduler.
 */
#include "runtime/supervisor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <sys/socket.h>
#include <unistd.h>

#include "runtime/orphans.h"
#include "runtime/proctitle.h"
#include "scheduler/scheduler.h"
#include "shm/error.h"

#define ORPHANS_LIMIT_NS UINT64_C(10000000000)

static int prove_orphans_gone(void *ctx, char *text, unsigned bytes)
{
    const struct pawl_supervisor *supervisor = ctx;
    const struct pawl_state *state = supervisor->state;
    struct pawl_orphans_report report;
    int error = pawl_orphans_kill(state->mark, 0, ORPHANS_LIMIT_NS, &report);
    text[0] = 0;
    if (error)
        snprintf(text, bytes, "%u processes of an earlier life could not be ended: %s", report.left_count,
                 pawl_error_text(error));
    else if (report.killed_count)
        snprintf(text, bytes, "%u processes of an earlier life were killed (first: %d)", report.killed_count,
                 (int)report.pids[0]);
    return error;
}

static int load_config(const struct pawl_supervisor *supervisor, struct pawl_config *config_out, char *text,
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
    struct pawl_supervisor *supervisor = ctx;
    int error = load_config(supervisor, config_out, text, bytes);
    /* A mistake that was made meanwhile must not keep a restarted scheduler from serving. */
    if (error && supervisor->restarted && supervisor->has_config) {
        pawl_supervisor_say("the configuration has a mistake: the one before stays in force", 0, 0);
        *config_out = supervisor->config;
        error = 0;
    }
    supervisor->has_config = false; /* this process's copy is given away, or of no use any more */
    return error;
}

void pawl_supervisor_read_config(struct pawl_supervisor *supervisor)
{
    char text[8];
    (void)pawl_supervisor_end_reload(supervisor, false);
    supervisor->has_asked =
        supervisor->options->serving && load_config(supervisor, &supervisor->asked, text, sizeof text) == 0;
}

bool pawl_supervisor_end_reload(struct pawl_supervisor *supervisor, bool taken_up)
{
    struct pawl_config *over = taken_up ? &supervisor->config : &supervisor->asked;
    supervisor->reloads = false;
    if (!supervisor->has_asked)
        return false;
    supervisor->has_asked = false;
    if (!taken_up || supervisor->has_config)
        pawl_config_fini(over);
    if (taken_up) {
        supervisor->config = supervisor->asked;
        supervisor->has_config = true;
    }
    return taken_up;
}

_Noreturn static void be_scheduler(struct pawl_supervisor *supervisor, int fd, bool restarted)
{
    const struct pawl_state *state = supervisor->state;
    supervisor->restarted = restarted;
    pawl_supervisor_leave_with_host(supervisor);
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

int pawl_supervisor_fork_scheduler(struct pawl_supervisor *supervisor, bool restarted)
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
    supervisor->scheduler =
        (struct pawl_child){.pid = pid, .forked_at_ns = pawl_supervisor_clock_ns(CLOCK_BOOTTIME)};
    for (uint32_t number = 1; number < supervisor->number_end; number++)
        if (supervisor->workers[number].pid)
            pawl_supervisor_send_worker(supervisor, PAWL_WIRE_WORKER_UP, number, &supervisor->workers[number],
                                        0);
    pawl_supervisor_tell_of_helpers(supervisor);
    return 0;
}
