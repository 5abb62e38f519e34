/*
 * observer.c - asks who is there, maps the figures, adds up memory.
 *
 * Runs in: whoever looks. A connection that fails is closed; the next look makes another.
 */
#include "runtime/observer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/launch.h"
#include "shm/clock.h"
#include "shm/error.h"

void pawl_observer_init(struct pawl_observer *observer, const struct pawl_state *state)
{
    *observer = (struct pawl_observer){.state = state};
}

int pawl_observer_open(struct pawl_observer *observer, const char *path, char why[PAWL_STATE_WHY_BYTES])
{
    struct stat status;
    *observer = (struct pawl_observer){0};
    if (stat(path, &status) == 0 && S_ISSOCK(status.st_mode)) {
        observer->socket = path;
        return 0;
    }
    int error = pawl_state_open(path, PAWL_STATE_EXISTING, &observer->own_state, why);
    observer->owns_state = error == 0;
    if (!error)
        observer->state = &observer->own_state;
    return error;
}

static void disconnect(struct pawl_observer *observer)
{
    if (observer->connected)
        pawl_wire_fini(&observer->wire);
    observer->connected = false;
}

static void detach(struct pawl_observer *observer)
{
    if (observer->attached)
        pawl_segment_close(&observer->segment);
    observer->attached = false;
}

void pawl_observer_fini(struct pawl_observer *observer)
{
    disconnect(observer);
    detach(observer);
    free(observer->processes);
    if (observer->owns_state)
        pawl_state_close(&observer->own_state);
    *observer = (struct pawl_observer){0};
}

static uint64_t left_of(uint64_t deadline_ns)
{
    uint64_t now_ns = pawl_clock_monotonic_ns();
    return deadline_ns > now_ns ? deadline_ns - now_ns : 0;
}

static uint64_t deadline_of(uint64_t timeout_ns)
{
    uint64_t now_ns = pawl_clock_monotonic_ns();
    return timeout_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + timeout_ns;
}

/* 0; what the scheduler answers instead, with report.text; PAWL_E_BAD_MESSAGE; what pawl_wire_call() says. */
static int ask(struct pawl_observer *observer, uint16_t type, const void *body, size_t bytes, uint16_t want,
               size_t reply_bytes_min, uint64_t deadline_ns)
{
    observer->report.text[0] = 0;
    int got = pawl_wire_call(&observer->wire, type, body, bytes, NULL, 0, NULL, 0, left_of(deadline_ns),
                             &observer->reply);
    if (got < 0)
        return got;
    if (observer->reply.header.type == PAWL_WIRE_ERROR)
        return pawl_client_read_error(&observer->reply, &observer->report);
    bool good = observer->reply.header.type == want && observer->reply.header.bytes >= reply_bytes_min;
    return good ? 0 : PAWL_E_BAD_MESSAGE;
}

static int connect_to(struct pawl_observer *observer, uint64_t deadline_ns)
{
    struct pawl_wire_hello hello = {.version = PAWL_WIRE_VERSION,
                                    .role = PAWL_ROLE_CLIENT,
                                    .flags = PAWL_HELLO_ASKS,
                                    .pid = (uint32_t)getpid()};
    int fd = observer->socket ? pawl_socket_connect(observer->socket) : pawl_state_connect(observer->state);
    if (fd == -ECONNREFUSED)
        return -ENOENT;
    if (fd == -EACCES && observer->socket) {
        observer->report = (struct pawl_error_report){.error = fd, .exit_code = 4};
        bool anothers = pawl_state_is_anothers(observer->socket);
        snprintf(observer->report.text, sizeof observer->report.text, "%.400s%s", observer->socket,
                 anothers ? " is not yours to use" : ": Permission denied");
        snprintf(observer->report.hint, sizeof observer->report.hint, "%s",
                 anothers ? "its owner lets users in: allow-uids or allow-gids in pawl.yaml"
                          : PAWL_STATE_OWN_HINT);
    }
    if (fd < 0)
        return fd;
    int error = pawl_wire_init(&observer->wire, fd);
    if (error) {
        close(fd);
        return error;
    }
    observer->connected = true;
    error = ask(observer, PAWL_WIRE_HELLO, &hello, sizeof hello, PAWL_WIRE_WELCOME, sizeof observer->welcome,
                deadline_ns);
    if (error)
        return error;
    memcpy(&observer->welcome, observer->reply.body, sizeof observer->welcome);
    detach(observer);
    return 0;
}

/* A scheduler without figures refuses: that is no failure. */
static int attach(struct pawl_observer *observer, uint64_t deadline_ns)
{
    int error = ask(observer, PAWL_WIRE_METRICS, NULL, 0, PAWL_WIRE_METRICS_OK, 0, deadline_ns);
    if (error == PAWL_E_NOT_FOUND && observer->report.text[0])
        return 0;
    if (!error && observer->reply.header.fd_count < 1)
        error = PAWL_E_BAD_MESSAGE;
    if (!error)
        error = pawl_metrics_attach(observer->reply.fds[0], &observer->segment);
    if (error)
        return error;
    observer->reply.fds[0] = -1; /* taken over */
    observer->attached = true;
    return 0;
}

static int look_once(struct pawl_observer *observer, uint64_t deadline_ns)
{
    int error = observer->connected ? 0 : connect_to(observer, deadline_ns);
    if (!error && !observer->attached)
        error = attach(observer, deadline_ns);
    uint64_t asked_at_ns = pawl_clock_monotonic_ns();
    if (!error)
        error = ask(observer, PAWL_WIRE_HEALTH, NULL, 0, PAWL_WIRE_HEALTH_OK, 0, deadline_ns);
    if (error) {
        disconnect(observer);
        return error;
    }
    observer->latency_ns = pawl_clock_monotonic_ns() - asked_at_ns;
    size_t count = observer->reply.header.bytes / sizeof *observer->processes;
    struct pawl_wire_process *processes = malloc((count + 1) * sizeof *processes);
    if (!processes)
        return -ENOMEM;
    memcpy(processes, observer->reply.body, count * sizeof *processes);
    free(observer->processes);
    observer->processes = processes;
    observer->process_count = count;
    return 0;
}

/* Is there somebody who starts the next scheduler? A socket is held by who does. */
static bool is_supervised(const struct pawl_observer *observer, int error)
{
    return observer->socket ? error == PAWL_E_CLOSED : pawl_client_is_supervised(observer->state);
}

int pawl_observer_look(struct pawl_observer *observer, uint64_t timeout_ns)
{
    uint64_t deadline_ns = deadline_of(timeout_ns);
    bool was_connected = observer->connected;
    int error = look_once(observer, deadline_ns);
    /* That scheduler is gone; there may be another by now. */
    if (error == PAWL_E_CLOSED && was_connected)
        error = look_once(observer, deadline_ns);
    /* Between two schedulers, while there is somebody who starts the next one. */
    long wait_ns = 1000000;
    while ((error == -ENOENT || error == PAWL_E_CLOSED) && is_supervised(observer, error) &&
           left_of(deadline_ns) > 0) {
        nanosleep(&(struct timespec){.tv_nsec = wait_ns}, NULL);
        wait_ns = wait_ns < 50000000 ? wait_ns * 2 : wait_ns;
        error = look_once(observer, deadline_ns);
    }
    if ((error == -ENOENT || error == PAWL_E_CLOSED) && is_supervised(observer, error))
        error = -ETIMEDOUT;
    return error == PAWL_E_CLOSED ? -ENOENT : error;
}

int pawl_observer_ask(struct pawl_observer *observer, const char *request, uint64_t timeout_ns)
{
    int error = observer->connected ? ask(observer, PAWL_WIRE_BUS, request, strlen(request), PAWL_WIRE_BUS_OK,
                                          0, deadline_of(timeout_ns))
                                    : -ENOENT;
    if (error && observer->report.text[0] == 0) {
        snprintf(observer->report.text, sizeof observer->report.text, "the scheduler: %s",
                 error == -ENOENT ? "nobody serves" : pawl_error_text(error));
        disconnect(observer);
    }
    return error;
}

int pawl_observer_sample(const struct pawl_observer *observer, struct pawl_metrics_sample *sample_out)
{
    if (!observer->attached)
        return -ENOENT;
    return pawl_metrics_sample_take(pawl_metrics_of(&observer->segment), pawl_clock_monotonic_ns(),
                                    sample_out);
}

/* ---- memory ---- */

/* A line "VmRSS:  1234 kB" of /proc/PID/status; 0: it cannot be read. */
static uint64_t kib_line(const char *text, const char *name)
{
    const char *line = strstr(text, name);
    return line ? strtoull(line + strlen(name), NULL, 10) * 1024 : 0;
}

static uint64_t resident_bytes(uint32_t pid, uint64_t *shared_out)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%" PRIu32 "/status", pid);
    FILE *file = pid ? fopen(path, "re") : NULL;
    if (!file)
        return 0;
    size_t got = fread(text, 1, sizeof text - 1, file);
    text[got] = 0;
    fclose(file);
    if (shared_out)
        *shared_out = kib_line(text, "\nRssShmem:");
    return kib_line(text, "\nVmRSS:");
}

void pawl_memory_kinds(uint32_t scheduler_pid, const struct pawl_wire_process *processes, size_t count,
                       const struct pawl_metrics_sample *sample,
                       struct pawl_metrics_memory memory[PAWL_MEMORY_KINDS])
{
    static const char *const names[PAWL_MEMORY_KINDS] = {"scheduler", "supervisor", "workers",      "shared",
                                                         "allocated", "kept",       "journal_cache"};
    for (int kind = 0; kind < PAWL_MEMORY_KINDS; kind++)
        memory[kind] = (struct pawl_metrics_memory){.kind = names[kind]};
    memory[PAWL_MEMORY_SCHEDULER].bytes = resident_bytes(scheduler_pid, &memory[PAWL_MEMORY_SHARED].bytes);
    for (size_t i = 0; i < count; i++) {
        if (processes[i].role == PAWL_ROLE_WORKER || processes[i].role == PAWL_ROLE_HANDLER)
            memory[PAWL_MEMORY_WORKERS].bytes += resident_bytes(processes[i].pid, NULL);
        else if (processes[i].role == PAWL_ROLE_SUPERVISOR)
            memory[PAWL_MEMORY_SUPERVISOR].bytes += resident_bytes(processes[i].pid, NULL);
    }
    if (!sample)
        return;
    memory[PAWL_MEMORY_ALLOCATED].bytes = sample->cell[PAWL_METRICS_MEMORY_ALLOCATED];
    memory[PAWL_MEMORY_KEPT].bytes = sample->cell[PAWL_METRICS_MEMORY_KEPT];
    memory[PAWL_MEMORY_CACHE].bytes = sample->cell[PAWL_METRICS_MEMORY_CACHE];
}
