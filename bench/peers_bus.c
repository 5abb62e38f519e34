/*
 * peers_bus.c - what pawl bench bus does, on its peers.
 *
 *   peers_bus PEER EVENTS PAYLOAD RATE DIRECTORY      PEER: a name of the table below
 *
 * Runs in: `make bench-peers` only. The server is started for the run, with DIRECTORY as its own, and ended
 * by its pid; publisher and consumer are processes. Each event is published, delivered, acknowledged and
 * removed; the time ends with the answer to the last removal. RATE 0: as many as can be, commands pipelined;
 * else each event carries the time at which it was published. Prints: events/s, CPU seconds of server and
 * clients a million events, p50 and p99 in microseconds.
 */
#include "bench/peers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/clock.h"

static const struct peer peers[] = {
    {"redis-memory", &peer_redis, {"--appendonly", "no"}},
    {"redis-everysec", &peer_redis, {"--appendonly", "yes", "--appendfsync", "everysec"}},
    {"redis-always", &peer_redis, {"--appendonly", "yes", "--appendfsync", "always"}},
    {"beanstalkd-memory", &peer_beanstalkd, {NULL}},
    {"beanstalkd-50ms", &peer_beanstalkd, {"-b", "."}},
    {"beanstalkd-always", &peer_beanstalkd, {"-b", ".", "-f0"}},
};

void peer_fail(const char *what)
{
    fprintf(stderr, "peers_bus: %s: %s\n", what, errno ? strerror(errno) : "not as expected");
    exit(1);
}

void peer_exec(const struct run *run, const char *const *words)
{
    enum { WORDS_MAX = 16 };
    const char *all[WORDS_MAX + PEER_ARGUMENTS + 1];
    size_t n = 0;
    for (; n < WORDS_MAX && words[n]; n++)
        all[n] = words[n];
    for (size_t i = 0; i < PEER_ARGUMENTS && run->peer->arguments[i]; i++)
        all[n++] = run->peer->arguments[i];
    all[n] = NULL;
    execvp(all[0], (char *const *)(uintptr_t)all);
}

void peer_stamp(const struct run *run, char *data)
{
    uint64_t now_ns = pawl_clock_monotonic_ns();
    if (run->rate > 0)
        memcpy(data, &now_ns, sizeof now_ns);
}

void peer_note(const struct run *run, struct pawl_bench_samples *samples, const char *data)
{
    uint64_t sent_ns;
    memcpy(&sent_ns, data, sizeof sent_ns);
    if (run->rate > 0 && pawl_bench_sample(samples, pawl_clock_monotonic_ns() - sent_ns) != 0)
        peer_fail("memory");
}

/* ---- the server ---- */

static pid_t start_server(const struct run *run)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!freopen("/dev/null", "w", stdout) || chdir(run->directory) != 0)
        peer_fail(run->directory);
    run->peer->server->serve(run);
    peer_fail(run->peer->server->program);
}

static void wait_for_server(const struct run *run, pid_t pid)
{
    for (int i = 0; i < run->peer->server->start_ms; i++) {
        struct timespec rest = {.tv_nsec = 1000000};
        if (run->peer->server->ready(run))
            return;
        if (waitpid(pid, NULL, WNOHANG) == pid)
            break;
        nanosleep(&rest, NULL);
    }
    peer_fail("the server did not start");
}

/* ---- the clients ---- */

/* Writes what it measured once everything was consumed. */
static void consume(const struct run *run, int fd)
{
    struct pawl_bench_samples samples = {0};
    struct pawl_bench_result result = {0};
    run->peer->server->consume(run, &samples);
    uint64_t finished_ns = pawl_clock_monotonic_ns();
    pawl_bench_percentiles(&samples, &result);
    uint64_t figures[3] = {finished_ns, result.p50_ns, result.p99_ns};
    if (write(fd, figures, sizeof figures) != (ssize_t)sizeof figures)
        peer_fail("write");
    free(samples.ns);
}

static pid_t start(const struct run *run, int fd)
{
    pid_t pid = fork();
    if (pid == 0) {
        fd >= 0 ? consume(run, fd) : run->peer->server->publish(run);
        exit(0);
    }
    return pid;
}

static bool ended_well(pid_t pid)
{
    int status = 0;
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int measure(const struct run *run, pid_t server)
{
    int fds[2];
    uint64_t figures[3] = {0};
    wait_for_server(run, server);
    if (run->peer->server->prepare)
        run->peer->server->prepare(run);
    if (pipe(fds) != 0)
        peer_fail("pipe");
    double cpu = pawl_bench_cpu_seconds_of(server);
    pid_t consumer = start(run, fds[1]);
    uint64_t from_ns = pawl_clock_monotonic_ns();
    pid_t publisher = start(run, -1);
    close(fds[1]);
    bool whole = read(fds[0], figures, sizeof figures) == (ssize_t)sizeof figures;
    whole &= ended_well(consumer) & ended_well(publisher);
    cpu = pawl_bench_cpu_seconds_of(server) - cpu + pawl_bench_cpu_seconds(RUSAGE_CHILDREN);
    if (!whole)
        return 1;
    printf("%.0f %.2f %.1f %.1f\n", (double)run->events / ((double)(figures[0] - from_ns) / 1e9),
           cpu / (double)run->events * 1e6, (double)figures[1] / 1e3, (double)figures[2] / 1e3);
    return 0;
}

int main(int argc, char **argv)
{
    struct run run = {0};
    for (size_t i = 0; argc == 6 && i < sizeof peers / sizeof *peers; i++)
        if (strcmp(peers[i].name, argv[1]) == 0)
            run.peer = &peers[i];
    run.events = argc == 6 ? strtoull(argv[2], NULL, 10) : 0;
    run.payload_bytes = argc == 6 ? strtoul(argv[3], NULL, 10) : 0;
    run.rate = argc == 6 ? strtod(argv[4], NULL) : 0;
    run.directory = argc == 6 ? argv[5] : "";
    int n = snprintf(run.socket_path, sizeof run.socket_path, "%s/s", run.directory);
    if (!run.peer || run.events == 0 || run.payload_bytes < 8 || run.payload_bytes > 65535 || n < 0 ||
        (size_t)n >= sizeof run.socket_path) {
        fprintf(stderr, "usage: peers_bus PEER EVENTS PAYLOAD RATE DIRECTORY\n");
        return 2;
    }
    pid_t server = start_server(&run);
    int error = measure(&run, server);
    (void)kill(server, SIGKILL);
    (void)waitpid(server, NULL, 0);
    return error;
}
