/*
 * embed.c - a scheduler of the program's own: a supervisor forked from it, and its handlers as processes.
 *
 * Runs in: the program (start, close), and in each handler process, which is an ordinary client of the
 * scheduler. Everything ends with the program: the supervisor gets SIGTERM when its parent dies, and takes
 * the rest along.
 */
#include "runtime/lib/lib.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/handler.h"
#include "runtime/launch.h"
#include "runtime/proctitle.h"
#include "runtime/supervise.h"
#include "shm/error.h"

enum { HANDLER_PROCESSES_MAX = 1024 };

struct pawl_lib_embedded {
    pid_t supervisor;
};

/* What handler processes inherit. */
struct handlers {
    const struct pawl_handler_options *list;
    unsigned *of_process; /* index of the handler of each process */
    const char *state_path;
};

/* ---- in a handler process ---- */

static int handler_main(void *context, unsigned index, pid_t parent)
{
    const struct handlers *handlers = context;
    const struct pawl_handler_options *handler = &handlers->list[handlers->of_process[index]];
    struct pawl_handling handling = {.queue = handler->queue,
                                     .group = handler->group,
                                     .prefetch = handler->prefetch,
                                     .waits = true,
                                     .handler = handler->handler,
                                     .context = handler->context,
                                     .signal_fd = pawl_handling_listen(parent)};
    if (handling.signal_fd < 0)
        return handling.signal_fd == -ESRCH ? 0 : 1;
    pawl_launch_restore_streams();
    char title[96];
    snprintf(title, sizeof title, "pawl: handler %u (%s)", index + 1, handler->queue);
    pawl_proctitle_set(title);
    struct pawl *pawl;
    int error = pawl_handling_connect(handlers->state_path, handling.signal_fd, &pawl);
    if (error)
        return error == -EINTR ? 0 : 1;
    int code = pawl_handling_run(pawl, &handling) == 0 ? 0 : 1;
    fflush(NULL);
    pawl_close(pawl);
    return code;
}

/* ---- in the program ---- */

static int count_processes(const struct pawl_start_options *options, struct handlers *handlers,
                           unsigned *count_out)
{
    uint64_t count = 0;
    for (size_t i = 0; i < options->handler_count; i++) {
        const struct pawl_handler_options *handler = &options->handlers[i];
        char field[PAWL_NAME_BYTES];
        if (handler->bytes != sizeof *handler || !handler->handler)
            return pawl_lib_fail(NULL, PAWL_E_INVALID,
                                 "handler %zu: no function, or another size of its options", i);
        int error = pawl_lib_name(NULL, "queue", handler->queue, field);
        if (!error && handler->group)
            error = pawl_lib_name(NULL, "group", handler->group, field);
        if (!error && handler->prefetch > PAWL_CREDIT_MAX)
            error = pawl_lib_fail(NULL, PAWL_E_LIMIT, "handler %zu: prefetch %u: at most %d", i,
                                  handler->prefetch, PAWL_CREDIT_MAX);
        if (error)
            return error;
        count += handler->processes ? handler->processes : 1;
    }
    if (count > HANDLER_PROCESSES_MAX)
        return pawl_lib_fail(NULL, PAWL_E_LIMIT, "%llu handler processes: at most %d",
                             (unsigned long long)count, HANDLER_PROCESSES_MAX);
    handlers->list = options->handlers;
    handlers->of_process = calloc(count + 1, sizeof *handlers->of_process);
    if (!handlers->of_process)
        return pawl_lib_fail(NULL, -ENOMEM, "no memory for handlers");
    unsigned process = 0;
    for (size_t i = 0; i < options->handler_count; i++)
        for (unsigned j = 0; j < (options->handlers[i].processes ? options->handlers[i].processes : 1); j++)
            handlers->of_process[process++] = (unsigned)i;
    *count_out = process;
    return 0;
}

/* The directory, private or given, with its lock. */
static int take_state(struct pawl *pawl, const struct pawl_start_options *options, char *private_path,
                      size_t path_bytes, struct pawl_serving *serving)
{
    char why[PAWL_STATE_WHY_BYTES] = "", path[300];
    const char *temporary = getenv("TMPDIR");
    private_path[0] = 0;
    snprintf(path, sizeof path, "%s", options->state ? options->state : "");
    if (options->state && strlen(options->state) >= sizeof path)
        return pawl_lib_fail(NULL, -ENAMETOOLONG, "%s", options->state);
    if (!options->state) {
        snprintf(private_path, path_bytes, "%.200s/pawl-XXXXXX",
                 temporary && temporary[0] ? temporary : "/tmp");
        if (!mkdtemp(private_path))
            return pawl_lib_fail(NULL, -errno, "cannot make a directory like %s", private_path);
        snprintf(path, sizeof path, "%s/state", private_path);
    }
    int error = pawl_state_open(path, PAWL_STATE_CREATE, &pawl->state, why);
    if (error)
        return pawl_lib_fail(NULL, error, "%s", why[0] ? why : pawl_error_text(error));
    pawl->has_state = true;
    serving->lock_fd = pawl_supervise_lock(&pawl->state, "embedded");
    if (serving->lock_fd == -EWOULDBLOCK)
        return pawl_lib_fail(NULL, PAWL_E_BUSY, "%s is being served: connect to %s/socket", pawl->state.path,
                             pawl->state.path);
    if (serving->lock_fd < 0)
        return pawl_lib_fail(NULL, serving->lock_fd, "cannot lock %s: %s", pawl->state.path,
                             pawl_error_text(serving->lock_fd));
    serving->config.dirfd = pawl->state.dirfd;
    if (options->config_file) {
        serving->config.path = realpath(options->config_file, NULL); /* freed by the caller */
        if (!serving->config.path)
            return pawl_lib_fail(NULL, -errno, "%s cannot be read", options->config_file);
    }
    return 0;
}

/* Waits until everything of it has ended. */
static void end_supervisor(pid_t supervisor)
{
    (void)kill(supervisor, SIGTERM);
    while (waitpid(supervisor, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* Closes serving->lock_fd once the supervisor has it. */
static int launch(struct pawl *pawl, struct pawl_serving *serving,
                  const struct pawl_launch_embedded *embedded)
{
    int fd = -1;
    pawl->embedded = calloc(1, sizeof *pawl->embedded);
    if (!pawl->embedded)
        return pawl_lib_fail(NULL, -ENOMEM, "no memory");
    int error = pawl_launch_embedded(&pawl->state, embedded, &fd, &pawl->embedded->supervisor);
    if (error) {
        free(pawl->embedded);
        pawl->embedded = NULL;
        return pawl_lib_fail(NULL, error, "cannot fork a supervisor: %s", pawl_error_text(error));
    }
    close(serving->lock_fd); /* the open file is the supervisor's now: its lock tells that it lives */
    serving->lock_fd = -1;
    pawl->connect_limit_ns = PAWL_LIB_FOREVER; /* recovery takes its time */
    error = pawl_lib_begin(pawl, fd);
    if (error)
        pawl_lib_fail(NULL, error, "%s", pawl->error);
    return error;
}

int pawl_start(const struct pawl_start_options *given, struct pawl **pawl_out)
{
    struct pawl_start_options options;
    struct pawl *pawl = NULL;
    struct handlers handlers = {0};
    struct pawl_helpers helpers = {.main = handler_main, .ctx = &handlers};
    struct pawl_serving serving = {.lock_fd = -1, .log_fd = -1};
    char private_path[256] = "";
    int error = pawl_lib_need(NULL, pawl_out, "pawl_out");
    if (!error)
        error = pawl_lib_options(NULL, "pawl_start_options", given, &options, sizeof options);
    if (!error && options.handler_count > 0)
        error = pawl_lib_need(NULL, options.handlers, "handlers");
    if (error)
        return error;
    if (pawl_lib_has_threads())
        return pawl_lib_fail(NULL, PAWL_E_STATE,
                             "pawl_start() must be called before the program has threads");
    error = count_processes(&options, &handlers, &helpers.count);
    if (!error) {
        helpers.list = calloc(helpers.count + 1, sizeof *helpers.list);
        error = helpers.list ? pawl_lib_open(&pawl) : -ENOMEM;
        if (error)
            pawl_lib_fail(NULL, error, "%s", pawl_error_text(error));
    }
    if (!error) {
        pawl->interrupted = options.interrupted;
        pawl->interrupt_context = options.interrupt_context;
    }
    if (!error)
        error = take_state(pawl, &options, private_path, sizeof private_path, &serving);
    if (!error) {
        handlers.state_path = pawl->state.path;
        error = launch(pawl, &serving,
                       &(struct pawl_launch_embedded){.serving = &serving,
                                                      .helpers = &helpers,
                                                      .remove_path = private_path[0] ? private_path : NULL});
    }
    if (serving.lock_fd >= 0)
        close(serving.lock_fd);
    free((char *)(uintptr_t)serving.config.path);
    free(handlers.of_process);
    free(helpers.list);
    if (error && pawl) {
        char words[PAWL_LIB_ERROR_BYTES];
        snprintf(words, sizeof words, "%s", pawl_last_error(NULL));
        pawl_close(pawl);
        if (private_path[0])
            pawl_launch_remove(private_path);
        pawl_lib_fail(NULL, error, "%s", words);
    }
    if (!error)
        *pawl_out = pawl;
    return error;
}

void pawl_lib_embedded_close(struct pawl *pawl)
{
    if (!pawl->embedded)
        return;
    end_supervisor(pawl->embedded->supervisor);
    free(pawl->embedded);
    pawl->embedded = NULL;
}
