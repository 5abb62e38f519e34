/*
 * serve_helpers.c - which handler processes there are to be, and what each of them does.
 *
 * Runs in: the supervisor (who is wanted) and the helpers. A helper is an ordinary client of the scheduler;
 * the supervisor forks it again when it dies.
 */
#include "runtime/cli/serve_helpers.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/cli/bus.h"
#include "runtime/cli/consume.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/serve_socket.h"
#include "runtime/cli/signals.h"
#include "runtime/config_handlers.h"
#include "runtime/handler.h"
#include "runtime/metrics_http.h"
#include "runtime/plugin.h"
#include "runtime/proctitle.h"
#include "shm/clock.h"
#include "shm/error.h"
#include "shm/log.h"

enum { HELPERS_MAX = PAWL_HANDLER_PROCESSES_MAX + 1 };
#define PATIENCE_NS UINT64_C(10000000000) /* for who is not wanted any more */

/* ---- in a helper ---- */

static int answer_http(const struct pawl_serve_helpers *crew, pid_t supervisor)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != supervisor)
        return PAWL_EXIT_INTERNAL;
    pawl_proctitle_set("pawl: metrics");
    if (crew->serving->log_fd >= 0)
        pawl_log_open(crew->serving->log_fd, "metrics", PAWL_LOG_INFO);
    return pawl_metrics_http_main(crew->metrics_fd, crew->state);
}

static int connect_to(const struct pawl_serve_helpers *crew, int signal_fd, struct pawl **pawl_out)
{
    int error = pawl_handling_connect(crew->state->path, signal_fd, pawl_out);
    if (error && error != -EINTR)
        pawl_log(PAWL_LOG_ERROR, "cannot connect: %s", pawl_last_error(NULL));
    return error;
}

static int run_plugin(const struct pawl_serve_helpers *crew, const struct pawl_config_handler *handler,
                      pid_t supervisor)
{
    struct pawl_plugin_instance instance;
    char why[PAWL_PLUGIN_WHY_BYTES];
    struct pawl *pawl = NULL;
    struct pawl_handling handling = {.queue = handler->queue,
                                     .group = handler->group,
                                     .prefetch = handler->prefetch,
                                     .waits = true,
                                     .handler = pawl_plugin_handle,
                                     .context = &instance,
                                     .signal_fd = pawl_handling_listen(supervisor)};
    if (handling.signal_fd < 0)
        return PAWL_EXIT_INTERNAL;
    if (pawl_plugin_load(handler->plugin, handler->config_json, &instance, why) != 0) {
        pawl_log(PAWL_LOG_ERROR, "handler of %s: %s", handler->queue, why);
        return PAWL_EXIT_FAILED;
    }
    int error = connect_to(crew, handling.signal_fd, &pawl);
    if (!error) {
        error = pawl_handling_run(pawl, &handling);
        if (error)
            pawl_log(PAWL_LOG_ERROR, "handler of %s: %s", handler->queue, pawl_last_error(pawl));
        pawl_close(pawl);
    }
    pawl_plugin_unload(&instance);
    return error && error != -EINTR ? PAWL_EXIT_FAILED : 0;
}

static int run_exec(const struct pawl_serve_helpers *crew, const struct pawl_config_handler *handler,
                    pid_t supervisor)
{
    struct pawl_consuming consuming = {.cli = &crew->cli,
                                       .queue = handler->queue,
                                       .group = handler->group,
                                       .state = crew->state->path,
                                       .left = UINT64_MAX,
                                       .wait_ms = -1,
                                       .concurrency = 1,
                                       .prefetch = handler->prefetch,
                                       .waits = true,
                                       .command = handler->exec};
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != supervisor ||
        pawl_signals_install_gently() != 0)
        return PAWL_EXIT_INTERNAL;
    /* A command that is not there must not send a queue to its dead letters. */
    int error = pawl_consume_find_command(handler->exec[0]);
    if (error) {
        pawl_log(PAWL_LOG_ERROR, "handler of %s: there is no command %s", handler->queue, handler->exec[0]);
        return PAWL_EXIT_FAILED;
    }
    error = connect_to(crew, pawl_signals_fd(), &consuming.pawl);
    if (error)
        return error == -EINTR ? 0 : PAWL_EXIT_FAILED;
    int status = pawl_consume_exec(&consuming);
    pawl_close(consuming.pawl);
    return pawl_signals_level() != PAWL_SIGNAL_NONE ? 0 : status;
}

static int helper_main(void *ctx, unsigned index, pid_t supervisor)
{
    const struct pawl_serve_helpers *crew = ctx;
    const struct pawl_serve_place *place = &crew->places[index];
    char title[32];
    close(crew->serving->lock_fd); /* they have no part in what the lock protects */
    if (place->answers_http)
        return answer_http(crew, supervisor);
    pawl_helpers_forget_host(&crew->helpers);
    snprintf(title, sizeof title, "pawl: worker %u", crew->helpers.list[index].number);
    pawl_proctitle_set(title);
    if (crew->serving->log_fd >= 0)
        pawl_log_open(crew->serving->log_fd, "worker", PAWL_LOG_INFO);
    int code = place->handler.plugin ? run_plugin(crew, &place->handler, supervisor)
                                     : run_exec(crew, &place->handler, supervisor);
    fflush(NULL);
    return code;
}

/* ---- who is wanted ---- */

static void identify(struct pawl_serve_place *place)
{
    struct stat status;
    if (!place->handler.plugin || stat(place->handler.plugin, &status) != 0)
        return;
    place->device = status.st_dev;
    place->inode = status.st_ino;
    place->changed_at = status.st_mtim;
}

static bool same(const struct pawl_serve_place *a, const struct pawl_serve_place *b)
{
    return a->device == b->device && a->inode == b->inode && a->changed_at.tv_sec == b->changed_at.tv_sec &&
           a->changed_at.tv_nsec == b->changed_at.tv_nsec &&
           pawl_config_handler_same(&a->handler, &b->handler);
}

/* A helper that nobody is any more, or one more. NULL: no memory. */
static struct pawl_serve_place *free_place(struct pawl_serve_helpers *crew)
{
    struct pawl_helpers *helpers = &crew->helpers;
    for (unsigned i = 0; i < helpers->count; i++)
        if (helpers->list[i].dismissed && !helpers->list[i].pid) {
            pawl_config_handler_fini(&crew->places[i].handler);
            crew->places[i] = (struct pawl_serve_place){0};
            helpers->list[i] = (struct pawl_helper){0};
            return &crew->places[i];
        }
    if (helpers->count == crew->room) {
        unsigned room = crew->room * 2 + 16;
        struct pawl_serve_place *places = realloc(crew->places, room * sizeof *places);
        crew->places = places ? places : crew->places;
        struct pawl_helper *list = places ? realloc(helpers->list, room * sizeof *list) : NULL;
        helpers->list = list ? list : helpers->list;
        if (!list)
            return NULL;
        crew->room = room;
    }
    helpers->list[helpers->count] = (struct pawl_helper){0};
    crew->places[helpers->count] = (struct pawl_serve_place){0};
    return &crew->places[helpers->count++];
}

/* 0 or -ENOMEM. */
static int add(struct pawl_serve_helpers *crew, const struct pawl_serve_place *wanted, uint32_t count)
{
    for (; count > 0; count--) {
        struct pawl_serve_place *place = free_place(crew);
        struct pawl_config_handler handler;
        if (!place)
            return -ENOMEM;
        *place = *wanted;
        place->handler = (struct pawl_config_handler){0};
        if (pawl_config_handler_copy(&wanted->handler, &handler) != 0) {
            crew->helpers.list[place - crew->places].dismissed = true;
            return -ENOMEM;
        }
        place->handler = handler;
    }
    return 0;
}

/* Who does what is still wanted stays, the others go, and who is missing comes. */
static int choose(struct pawl_serve_helpers *crew, const struct pawl_config *config, uint64_t now_ns)
{
    struct pawl_helpers *helpers = &crew->helpers;
    bool *stays = calloc((size_t)helpers->count + 1, sizeof *stays);
    uint32_t *missing = calloc(config->handler_count + 1, sizeof *missing);
    int error = stays && missing ? 0 : -ENOMEM;
    for (size_t i = 0; i < config->handler_count && !error; i++) {
        struct pawl_serve_place wanted = {.handler = config->handlers[i]};
        missing[i] = pawl_config_handler_processes(config, &config->handlers[i]);
        identify(&wanted);
        for (unsigned j = 0; j < helpers->count && missing[i] > 0; j++)
            if (!stays[j] && !helpers->list[j].dismissed && !crew->places[j].answers_http &&
                same(&crew->places[j], &wanted)) {
                stays[j] = true;
                missing[i]--;
            }
    }
    for (unsigned j = 0; j < helpers->count && !error; j++)
        if (!stays[j] && !helpers->list[j].dismissed && !crew->places[j].answers_http)
            pawl_helpers_dismiss(helpers, j, now_ns, PATIENCE_NS);
    for (size_t i = 0; i < config->handler_count && !error; i++) {
        struct pawl_serve_place wanted = {.handler = config->handlers[i]};
        identify(&wanted);
        error = add(crew, &wanted, missing[i]);
    }
    free(missing);
    free(stays);
    return error;
}

static void reconfigure(struct pawl_helpers *helpers, const struct pawl_config *config, uint64_t now_ns)
{
    struct pawl_serve_helpers *crew = (struct pawl_serve_helpers *)(void *)helpers;
    if (choose(crew, config, now_ns) != 0)
        pawl_log(PAWL_LOG_ERROR, "configuration: no memory for its handlers");
    int error = crew->socket ? pawl_serve_admit(crew->socket, pawl_config_lets_guests_in(config)) : 0;
    if (error)
        pawl_log(PAWL_LOG_ERROR, "%s: who may connect is as before: %s", crew->socket,
                 pawl_error_text(error));
}

int pawl_serve_helpers_init(struct pawl_serve_helpers *crew, const struct pawl_cli *cli,
                            const struct pawl_state *state, const struct pawl_serving *serving,
                            int metrics_fd, const struct pawl_config *config)
{
    *crew = (struct pawl_serve_helpers){
        .helpers = {.main = helper_main, .ctx = crew, .reconfigure = reconfigure},
        .cli = *cli,
        .state = state,
        .serving = serving,
        .metrics_fd = metrics_fd,
    };
    crew->cli.state = state->path;
    crew->cli.argc = 0;
    crew->cli.argv = NULL;
    if (metrics_fd >= 0) {
        struct pawl_serve_place *place = free_place(crew);
        if (!place)
            return -ENOMEM;
        place->answers_http = true;
        crew->helpers.numbered_from = 1;
        crew->helpers.host_fds = &crew->metrics_fd;
        crew->helpers.host_fd_count = 1;
    }
    return choose(crew, config, pawl_clock_boottime_ns());
}

void pawl_serve_helpers_fini(struct pawl_serve_helpers *crew)
{
    for (unsigned i = 0; i < crew->helpers.count; i++)
        pawl_config_handler_fini(&crew->places[i].handler);
    free(crew->places);
    free(crew->helpers.list);
    crew->places = NULL;
    crew->helpers.list = NULL;
    crew->helpers.count = 0;
}

/* ---- before anything runs ---- */

/* 0, or @why it is of no use. */
static int try_plugin(const struct pawl_config_handler *handler, char why[PAWL_PLUGIN_WHY_BYTES])
{
    int fds[2], status;
    if (pipe(fds) != 0)
        return 0; /* it will be seen */
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct pawl_plugin_instance instance;
        int error = pawl_plugin_load(handler->plugin, handler->config_json, &instance, why);
        if (error)
            (void)!write(fds[1], why, strlen(why));
        else
            pawl_plugin_unload(&instance);
        _exit(error != 0);
    }
    close(fds[1]);
    ssize_t got = pid > 0 ? read(fds[0], why, PAWL_PLUGIN_WHY_BYTES - 1) : 0;
    why[got > 0 ? got : 0] = '\0';
    close(fds[0]);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
        return 0;
    if (why[0] == '\0')
        snprintf(why, PAWL_PLUGIN_WHY_BYTES, "%.200s: it ended the process that loaded it", handler->plugin);
    return PAWL_E_INVALID;
}

int pawl_serve_helpers_check(const struct pawl_cli *cli, const struct pawl_config *config)
{
    for (size_t i = 0; i < config->handler_count; i++) {
        const struct pawl_config_handler *handler = &config->handlers[i];
        char why[PAWL_PLUGIN_WHY_BYTES] = "";
        if (handler->plugin && try_plugin(handler, why) != 0)
            return pawl_fail(cli, PAWL_EXIT_INVALID, "plugin", NULL, "handler of %s: %s", handler->queue,
                             why);
        if (handler->exec && pawl_consume_find_command(handler->exec[0]) != 0)
            return pawl_fail(cli, PAWL_EXIT_INVALID, "not_found", NULL,
                             "handler of %s: there is no command %.200s", handler->queue, handler->exec[0]);
    }
    return 0;
}
