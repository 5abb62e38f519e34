/*
 * consume_plugin.c - `pawl consume --plugin`: processes that each have loaded the plugin, and who waits for
 * them.
 *
 * Runs in: the command, which forks and waits; and its handler processes. One that crashes costs its delivery
 * an attempt and is forked again; one that ends by itself is not.
 */
#include "runtime/cli/consume.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/cli/bus.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/signals.h"
#include "runtime/handler.h"
#include "runtime/helpers.h"
#include "runtime/plugin.h"
#include "runtime/proctitle.h"
#include "shm/clock.h"

enum { PREFETCH_ALONE = 16 };
#define GRACE_NS UINT64_C(10000000000)

/* In shared memory, beside the handlers' own. Relaxed: one word each, and whoever reads waits for the writer
 * to have ended. */
struct ending {
    _Atomic int verdict;     /* exit code of what keeps all from working; 0: nothing does */
    _Atomic int loaded;      /* one of them has loaded the plugin */
    _Atomic uint8_t ended[]; /* by process: it has ended by itself, and not in a handler */
};

struct crew {
    struct pawl_consuming *consuming;
    char *path, *config_json, *queue, *group; /* the command line's memory is taken for a title */
    struct pawl_handling_share *share;
    struct ending *ending;
    size_t share_bytes, ending_bytes;
    struct pawl_helpers helpers;
    int child_fd;  /* SIGCHLD */
    sigset_t mask; /* the command's, for its children */
    enum pawl_signal_level level;
};

/* ---- in a handler process ---- */

static void leave(void *ctx)
{
    struct crew *crew = ctx;
    crew->consuming->queue = crew->queue;
    crew->consuming->group = crew->group;
    (void)setpgid(0, 0);           /* ^C is the command's, */
    (void)signal(SIGINT, SIG_IGN); /* one from before that too */
    for (int number = 1; number < NSIG; number++)
        if (number == SIGINT || number == SIGTERM || number == SIGHUP)
            (void)signal(number, SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, &crew->mask, NULL);
    close(crew->child_fd);
    pawl_close(crew->consuming->pawl); /* a forked child's: only descriptors */
}

/* True for the first one, which says why and then tells its exit code: the others have the same to say. The
 * signals that end us are held back until it has. */
static bool fails_first(const struct crew *crew)
{
    int none = 0;
    return atomic_compare_exchange_strong_explicit(&crew->ending->verdict, &none, PAWL_EXIT_INTERNAL,
                                                   memory_order_relaxed, memory_order_relaxed);
}

static int tell(const struct crew *crew, int exit_code)
{
    atomic_store_explicit(&crew->ending->verdict, exit_code, memory_order_relaxed);
    return exit_code;
}

static bool is_failing(const struct crew *crew)
{
    return atomic_load_explicit(&crew->ending->verdict, memory_order_relaxed) != 0;
}

static int work(const struct crew *crew, unsigned index, pid_t parent)
{
    struct pawl_consuming *consuming = crew->consuming;
    const struct pawl_connect_options options = {
        .bytes = sizeof options, .state = consuming->state, .may_launch = 1};
    struct pawl_plugin_instance instance;
    char why[PAWL_PLUGIN_WHY_BYTES];
    struct pawl_handling handling = {.queue = crew->queue,
                                     .group = crew->group,
                                     /* Several are to work side by side: none keeps another's. */
                                     .prefetch = consuming->concurrency > 1 ? 1 : PREFETCH_ALONE,
                                     .has_from = consuming->has_from,
                                     .from = consuming->from,
                                     .handler = pawl_plugin_handle,
                                     .context = &instance,
                                     .share = crew->share,
                                     .place = index,
                                     .wait_ms = consuming->wait_ms};
    struct pawl *pawl;
    handling.subscribed_out = &crew->consuming->subscribed;
    handling.signal_fd = pawl_handling_listen(parent);
    if (handling.signal_fd < 0)
        return PAWL_EXIT_INTERNAL;
    if (pawl_plugin_load(crew->path, crew->config_json, &instance, why) != 0)
        return fails_first(crew)
                   ? tell(crew, pawl_fail(consuming->cli, PAWL_EXIT_USAGE, "plugin", NULL, "%s", why))
                   : PAWL_EXIT_USAGE;
    atomic_store_explicit(&crew->ending->loaded, 1, memory_order_relaxed);
    int error = pawl_connect(&options, &pawl);
    consuming->pawl = error == 0 ? pawl : NULL;
    if (error == 0 && index == 0) /* one says it for all */
        pawl_cli_hear(consuming->cli, pawl);
    if (error == 0)
        error = pawl_handling_run(pawl, &handling);
    int code = error != 0 && fails_first(crew) ? tell(crew, pawl_consume_fail(consuming, error)) : 0;
    if (consuming->pawl != NULL)
        pawl_close(consuming->pawl);
    pawl_plugin_unload(&instance);
    return code;
}

static int handler_main(void *ctx, unsigned index, pid_t parent)
{
    const struct crew *crew = ctx;
    char title[96];
    snprintf(title, sizeof title, "pawl: handler %u (%s)", index + 1, crew->queue);
    pawl_proctitle_set(title);
    int code = work(crew, index, parent);
    fflush(NULL);
    atomic_store_explicit(&crew->ending->ended[index], 1, memory_order_relaxed);
    return code;
}

/* ---- in the command ---- */

/* Each may end what it handles, within this time. */
static void dismiss_all(struct crew *crew, uint64_t patience_ns)
{
    for (unsigned i = 0; i < crew->helpers.count; i++)
        if (!crew->helpers.list[i].dismissed)
            pawl_helpers_dismiss(&crew->helpers, i, pawl_clock_boottime_ns(), patience_ns);
}

static void obey_signals(struct crew *crew)
{
    enum pawl_signal_level level = pawl_signals_level();
    if (level > crew->level && level == PAWL_SIGNAL_DRAIN)
        pawl_note(crew->consuming->cli, "stopping: what runs may end; once more kills it");
    if (level > PAWL_SIGNAL_NONE && crew->level == PAWL_SIGNAL_NONE)
        dismiss_all(crew, level >= PAWL_SIGNAL_INTERRUPT ? GRACE_NS : UINT64_MAX);
    /* A handler cannot be asked to hurry: the second one ends it. */
    else if (level > crew->level)
        pawl_helpers_stop(&crew->helpers, SIGKILL);
    crew->level = level;
}

/* It ended while the plugin was loaded, and none has got beyond that: the next ones would end there too. */
static void cannot_load(const struct crew *crew, int status)
{
    const struct pawl_cli *cli = crew->consuming->cli;
    if (crew->level == PAWL_SIGNAL_NONE && fails_first(crew))
        (void)tell(crew, WIFSIGNALED(status)
                             ? pawl_fail(cli, PAWL_EXIT_USAGE, "plugin", NULL,
                                         "%s: its process was killed by signal %d (%s) in init()", crew->path,
                                         WTERMSIG(status), strsignal(WTERMSIG(status)))
                             : pawl_fail(cli, PAWL_EXIT_USAGE, "plugin", NULL,
                                         "%s: its process ended with exit code %d in init()", crew->path,
                                         WEXITSTATUS(status)));
}

static void on_end(struct crew *crew, pid_t pid, int status)
{
    unsigned index = 0;
    uint32_t number;
    while (index < crew->helpers.count && crew->helpers.list[index].pid != pid)
        index++;
    bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!pawl_helpers_reaped(&crew->helpers, pid, clean, pawl_clock_boottime_ns(), &number))
        return;
    if (atomic_load_explicit(&crew->ending->ended[index], memory_order_relaxed)) {
        crew->helpers.list[index].dismissed = true;
        return;
    }
    bool running =
        atomic_exchange_explicit(&crew->share->places[index].running, 0, memory_order_relaxed) != 0;
    pawl_handling_give_back(crew->share, index);
    if (crew->helpers.list[index].dismissed && !running)
        return; /* it was told to go before it could listen */
    if (running)
        atomic_fetch_add_explicit(&crew->share->failed, 1, memory_order_relaxed);
    if (!atomic_load_explicit(&crew->ending->loaded, memory_order_relaxed)) {
        cannot_load(crew, status);
        return;
    }
    if (crew->level < PAWL_SIGNAL_INTERRUPT)
        pawl_note(crew->consuming->cli,
                  WIFSIGNALED(status) ? "a handler was killed by signal %d (%s)"
                                      : "a handler ended its process with exit code %d",
                  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                  WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "");
}

static void reap(struct crew *crew)
{
    struct signalfd_siginfo info;
    int status;
    pid_t pid;
    while (read(crew->child_fd, &info, sizeof info) == (ssize_t)sizeof info)
        ;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        on_end(crew, pid, status);
}

static bool any_left(const struct crew *crew)
{
    for (unsigned i = 0; i < crew->helpers.count; i++)
        if (crew->helpers.list[i].pid || !crew->helpers.list[i].dismissed)
            return true;
    return false;
}

static void wait_for_all(struct crew *crew)
{
    const struct pawl_helpers_parent parent = {.leave = leave, .ctx = crew};
    struct pollfd fds[2] = {{.fd = crew->child_fd, .events = POLLIN},
                            {.fd = pawl_signals_fd(), .events = POLLIN}};
    for (;;) {
        obey_signals(crew);
        if (is_failing(crew))
            dismiss_all(crew, GRACE_NS);
        uint64_t now_ns = pawl_clock_boottime_ns();
        uint64_t due_ns = pawl_helpers_fill(&crew->helpers, now_ns, &parent);
        if (!any_left(crew))
            return;
        int wait_ms = due_ns == UINT64_MAX ? -1
                      : due_ns > now_ns    ? (int)((due_ns - now_ns) / 1000000) + 1
                                           : 0;
        (void)poll(fds, 2, wait_ms);
        reap(crew);
    }
}

static void *share_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static int make_crew(struct crew *crew)
{
    const struct pawl_consuming *consuming = crew->consuming;
    const char *comma = strchr(consuming->plugin, ',');
    size_t path_bytes = comma != NULL ? (size_t)(comma - consuming->plugin) : strlen(consuming->plugin);
    crew->share_bytes = sizeof *crew->share + consuming->concurrency * sizeof crew->share->places[0];
    crew->ending_bytes = sizeof *crew->ending + consuming->concurrency;
    crew->share = share_memory(crew->share_bytes);
    crew->ending = share_memory(crew->ending_bytes);
    crew->path = strndup(consuming->plugin, path_bytes);
    crew->config_json = comma != NULL ? strdup(comma + 1) : NULL;
    crew->queue = strdup(consuming->queue);
    crew->group = consuming->group != NULL ? strdup(consuming->group) : NULL;
    crew->helpers = (struct pawl_helpers){.count = consuming->concurrency,
                                          .numbered_from = UINT32_MAX,
                                          .main = handler_main,
                                          .ctx = crew,
                                          .list = calloc(consuming->concurrency, sizeof(struct pawl_helper))};
    if (crew->share == NULL || crew->ending == NULL || crew->path == NULL || crew->queue == NULL ||
        (comma != NULL && crew->config_json == NULL) || (consuming->group != NULL && crew->group == NULL) ||
        crew->helpers.list == NULL)
        return -ENOMEM;
    atomic_store_explicit(&crew->share->left, consuming->left, memory_order_relaxed);
    atomic_store_explicit(&crew->share->busy_at_ns, pawl_clock_monotonic_ns(), memory_order_relaxed);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, &crew->mask);
    crew->child_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return crew->child_fd < 0 ? -errno : 0;
}

int pawl_consume_plugin(struct pawl_consuming *consuming)
{
    struct crew crew = {.consuming = consuming, .child_fd = -1};
    int status = 0, error = make_crew(&crew);
    if (error != 0) {
        status = pawl_fail_error(consuming->cli, PAWL_EXIT_INTERNAL, error, NULL, "cannot make handlers");
    } else {
        fflush(NULL);
        wait_for_all(&crew);
        status = atomic_load_explicit(&crew.ending->verdict, memory_order_relaxed);
        consuming->failed = atomic_load_explicit(&crew.share->failed, memory_order_relaxed);
        uint64_t late = atomic_load_explicit(&crew.share->late, memory_order_relaxed);
        if (late > 0)
            pawl_note(consuming->cli,
                      "%" PRIu64 " settlements came too late: those deliveries are given again", late);
        if (status == 0 && crew.level != PAWL_SIGNAL_NONE)
            status = PAWL_EXIT_INTERRUPTED;
        if (status == 0 && (consuming->failed > 0 || late > 0))
            status = PAWL_EXIT_FAILED;
        close(crew.child_fd);
    }
    if (crew.share != NULL)
        (void)munmap(crew.share, crew.share_bytes);
    if (crew.ending != NULL)
        (void)munmap(crew.ending, crew.ending_bytes);
    free(crew.helpers.list);
    free(crew.group);
    free(crew.queue);
    free(crew.config_json);
    free(crew.path);
    return status;
}
