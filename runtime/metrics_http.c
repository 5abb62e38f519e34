/*
 * metrics_http.c - answers GET /metrics and GET /health.
 *
 * Runs in: a process of its own, forked by the supervisor of `pawl serve --metrics`; one thread, one look at
 * the scheduler at a time. The HTTP library is loaded here and in no other process: it brings half a dozen
 * others along, which every short command would pay for.
 */
#include "runtime/metrics_http.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <dlfcn.h>
#include <microhttpd.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/document.h"
#include "runtime/health.h"
#include "runtime/observer.h"
#include "shm/clock.h"
#include "shm/error.h"
#include "shm/log.h"

#define LOOK_NS   UINT64_C(2000000000) /* a scheduler that does not answer is waited for so long */
#define CACHED_NS UINT64_C(1000000000) /* who looks more often sees the same processes and verdict */

enum {
    CONNECTIONS_MAX = 32,
    CONNECTION_SECONDS = 10,
    CONNECTION_BYTES = 16384,
    EXIT_NO_LIBRARY = 4,
    EXIT_INTERNAL = 70,
};

/* What of the library is used, by its own names. */
#define CALLS(X)                                                                                             \
    X(MHD_start_daemon)                                                                                      \
    X(MHD_stop_daemon)                                                                                       \
    X(MHD_get_daemon_info)                                                                                   \
    X(MHD_get_timeout)                                                                                       \
    X(MHD_run)                                                                                               \
    X(MHD_create_response_from_buffer)                                                                       \
    X(MHD_add_response_header)                                                                               \
    X(MHD_queue_response)                                                                                    \
    X(MHD_destroy_response)

#define MEMBER(call) __typeof__(call) *call;
struct http_calls {
    CALLS(MEMBER)
};

struct http {
    struct http_calls calls;
    struct MHD_Daemon *daemon;
    struct pawl_observer observer;
    struct pawl_health health;
    int answer; /* of the last look */
    uint64_t looked_at_ns;
};

static int load_calls(struct http_calls *calls)
{
    void *library = dlopen("libmicrohttpd.so.12", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        library = dlopen("libmicrohttpd.so", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return -ENOSYS;
    bool all = true;
#define LOAD(call)                                                                                           \
    *(void **)(void *)&calls->call = dlsym(library, #call);                                                  \
    all = all && calls->call != NULL;
    CALLS(LOAD)
    return all ? 0 : -ENOSYS; /* the library stays loaded as long as the process lives */
}

int pawl_metrics_http_check(void)
{
    int status;
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        struct http_calls calls;
        _exit(load_calls(&calls) == 0 ? 0 : 1);
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOSYS;
}

/* ---- what is answered ---- */

static void look(struct http *http)
{
    uint64_t now_ns = pawl_clock_monotonic_ns();
    if (http->looked_at_ns != 0 && now_ns - http->looked_at_ns < CACHED_NS)
        return;
    http->answer = pawl_health_look(&http->observer, LOOK_NS, &http->health);
    http->looked_at_ns = pawl_clock_monotonic_ns();
}

/* malloc'd; NULL: no memory. */
static char *metrics_text(struct http *http, unsigned *code_out, size_t *bytes_out)
{
    struct pawl_metrics_sample sample = {0};
    struct pawl_metrics_memory memory[PAWL_MEMORY_KINDS];
    struct pawl_observer *observer = &http->observer;
    look(http);
    /* One that is slow to answer has written down what it did all the same. */
    bool there = http->answer == 0 || http->answer == -ETIMEDOUT;
    int error = there ? pawl_observer_sample(observer, &sample) : -ENOENT;
    if (error) {
        char *text = strdup("nobody serves\n");
        *code_out = MHD_HTTP_SERVICE_UNAVAILABLE;
        *bytes_out = text ? strlen(text) : 0;
        return text;
    }
    pawl_memory_kinds(observer->welcome.scheduler_pid, observer->processes, observer->process_count, &sample,
                      memory);
    char *text = pawl_metrics_prometheus(&sample, memory, PAWL_MEMORY_KINDS, bytes_out);
    pawl_metrics_sample_fini(&sample);
    *code_out = MHD_HTTP_OK;
    return text;
}

static char *health_text(struct http *http, unsigned *code_out, size_t *bytes_out)
{
    look(http);
    json_t *document = pawl_json_document(), *processes = json_array();
    if (http->answer == 0) {
        pawl_processes_json(processes, http->observer.welcome.scheduler_pid, http->observer.processes,
                            http->observer.process_count);
        json_object_set_new(document, "epoch", json_integer((json_int_t)http->observer.welcome.epoch));
    }
    json_object_set_new(document, "status",
                        json_string(http->answer == 0            ? "serving"
                                    : http->answer == -ETIMEDOUT ? "silent"
                                                                 : "stopped"));
    json_object_set_new(document, "processes", processes);
    pawl_health_put(&http->health, document);
    *code_out = json_is_true(json_object_get(document, "ready")) ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    char *text = json_dumps(document, JSON_COMPACT);
    json_decref(document);
    *bytes_out = text ? strlen(text) : 0;
    return text;
}

/* ---- HTTP ---- */

static enum MHD_Result send_text(struct http *http, struct MHD_Connection *connection, unsigned code,
                                 const char *type, char *text, size_t bytes)
{
    const struct http_calls *calls = &http->calls;
    struct MHD_Response *response =
        text ? calls->MHD_create_response_from_buffer(bytes, text, MHD_RESPMEM_MUST_FREE) : NULL;
    if (!response) {
        free(text);
        return MHD_NO; /* the connection is closed */
    }
    (void)calls->MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    (void)calls->MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
        (void)calls->MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result result = calls->MHD_queue_response(connection, code, response);
    calls->MHD_destroy_response(response);
    return result;
}

static enum MHD_Result send_words(struct http *http, struct MHD_Connection *connection, unsigned code,
                                  const char *words)
{
    char *text = strdup(words);
    return send_text(http, connection, code, "text/plain; charset=utf-8", text, text ? strlen(text) : 0);
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_bytes, void **seen)
{
    struct http *http = ctx;
    static int headers_seen;
    unsigned code = MHD_HTTP_OK;
    size_t bytes = 0;
    char *text;
    (void)version;
    (void)upload;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return send_words(http, connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET or HEAD\n");
    if (!*seen) { /* called once more when all of the request is there */
        *seen = &headers_seen;
        return MHD_YES;
    }
    if (*upload_bytes > 0) { /* a body that nobody wants */
        *upload_bytes = 0;
        return MHD_YES;
    }
    if (strcmp(url, "/metrics") == 0) {
        text = metrics_text(http, &code, &bytes);
        return send_text(http, connection, code, "text/plain; version=0.0.4; charset=utf-8", text, bytes);
    }
    if (strcmp(url, "/health") == 0) {
        text = health_text(http, &code, &bytes);
        return send_text(http, connection, code, "application/json", text, bytes);
    }
    return send_words(http, connection, MHD_HTTP_NOT_FOUND, "there are /metrics and /health\n");
}

/* ---- the process ---- */

static int start(struct http *http, int fd)
{
    http->daemon = http->calls.MHD_start_daemon(
        MHD_USE_EPOLL, 0, NULL, NULL, on_request, http, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)CONNECTION_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
        MHD_OPTION_END);
    return http->daemon ? 0 : -EINVAL;
}

static void answer_until_told(struct http *http, int signal_fd)
{
    const union MHD_DaemonInfo *info =
        http->calls.MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct pollfd fds[2] = {{.fd = info->epoll_fd, .events = POLLIN}, {.fd = signal_fd, .events = POLLIN}};
    while (fds[1].revents == 0) {
        MHD_UNSIGNED_LONG_LONG wait_ms;
        int timeout_ms = -1;
        if (http->calls.MHD_get_timeout(http->daemon, &wait_ms) == MHD_YES)
            timeout_ms = wait_ms < 60000 ? (int)wait_ms : 60000;
        if (poll(fds, 2, timeout_ms) < 0 && errno != EINTR)
            return;
        /* The first shuts down what took too long, the next one closes it, and only the third listens again
         * where all places were taken: nothing would wake us for that. */
        for (int i = 0; i < 3; i++)
            (void)http->calls.MHD_run(http->daemon);
    }
}

int pawl_metrics_http_main(int fd, const struct pawl_state *state)
{
    static struct http http;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    int signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (load_calls(&http.calls) != 0) {
        pawl_log(PAWL_LOG_ERROR, "metrics: libmicrohttpd cannot be loaded");
        return EXIT_NO_LIBRARY;
    }
    pawl_observer_init(&http.observer, state);
    int error = signal_fd < 0 ? -errno : start(&http, fd);
    if (error) {
        pawl_log(PAWL_LOG_ERROR, "metrics: cannot serve HTTP: %s", pawl_error_text(error));
        return EXIT_INTERNAL;
    }
    char url[PAWL_METRICS_ADDRESS_BYTES + 8];
    pawl_log(PAWL_LOG_INFO, "figures at %s/metrics", pawl_metrics_http_url(fd, url));
    answer_until_told(&http, signal_fd);
    http.calls.MHD_stop_daemon(http.daemon);
    pawl_observer_fini(&http.observer);
    return 0;
}
