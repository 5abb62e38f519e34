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
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
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
    {"nats-memory", &peer_nats, {"memory"}},
    {"nats-file", &peer_nats, {"file"}},
    {"rabbitmq-memory", &peer_rabbitmq, {"classic"}},
    {"rabbitmq-quorum", &peer_rabbitmq, {"quorum"}},
};

static volatile sig_atomic_t interrupted;

static void interrupt(int signal)
{
    interrupted = signal;
}

void peer_fail(const char *what)
{
    fprintf(stderr, "peers_bus: %s: %s\n", what, errno ? strerror(errno) : "not as expected");
    exit(1);
}

void peer_exec(const char *const *words, const char *const *mode)
{
    enum { WORDS_MAX = 16 };
    const char *all[WORDS_MAX + PEER_MODE_WORDS + 1];
    size_t n = 0;
    for (; n < WORDS_MAX && words[n]; n++)
        all[n] = words[n];
    for (size_t i = 0; mode && i < PEER_MODE_WORDS && mode[i]; i++)
        all[n++] = mode[i];
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

/* ---- all processes below this one ---- */

enum { FAMILY_MAX = 256 };

static pid_t parent_of(pid_t pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    const char *rest = file && fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    if (file)
        fclose(file);
    return rest && strlen(rest) > 4 ? (pid_t)strtol(rest + 4, NULL, 10) : 0;
}

static bool is_among(const pid_t *pids, size_t count, pid_t pid)
{
    for (size_t i = 0; i < count; i++)
        if (pids[i] == pid)
            return true;
    return false;
}

/* What a server has made of itself: a daemon's parent is this process, a subreaper. Without this process. */
static size_t list_family(pid_t pids_out[FAMILY_MAX])
{
    size_t count = 1, before = 0;
    pids_out[0] = getpid();
    while (count > before) {
        before = count;
        DIR *proc = opendir("/proc");
        if (!proc)
            peer_fail("/proc");
        for (const struct dirent *entry; (entry = readdir(proc)) && count < FAMILY_MAX;) {
            pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
            if (pid > 0 && !is_among(pids_out, count, pid) && is_among(pids_out, count, parent_of(pid)))
                pids_out[count++] = pid;
        }
        closedir(proc);
    }
    memmove(pids_out, pids_out + 1, --count * sizeof *pids_out);
    return count;
}

static double family_cpu_seconds(void)
{
    pid_t pids[FAMILY_MAX];
    double seconds = 0;
    for (size_t n = list_family(pids); n > 0; n--)
        seconds += pawl_bench_cpu_seconds_of(pids[n - 1]);
    return seconds;
}

/* Each that is gone may leave children to this process: until there is none. */
static void end_family(void)
{
    pid_t pids[FAMILY_MAX];
    for (size_t n; (n = list_family(pids)) > 0; (void)waitpid(-1, NULL, 0))
        while (n > 0)
            (void)kill(pids[--n], SIGKILL);
}

/* ---- the server ---- */

static _Noreturn void become_server(const struct run *run)
{
    const struct server *server = run->peer->server;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (chdir(run->directory) != 0 || !freopen("/dev/null", "r", stdin) || !freopen("log", "w", stdout) ||
        dup2(STDOUT_FILENO, STDERR_FILENO) < 0)
        peer_fail(run->directory);
    setenv("HOME", run->directory, 1);
    setenv("TMPDIR", run->directory, 1);
    server->serve(run);
    peer_fail(server->program);
}

/* The last that it said, on stderr. */
static void show_log(const struct run *run)
{
    enum { SHOWN_BYTES = 2000 };
    char path[PATH_MAX], text[SHOWN_BYTES];
    snprintf(path, sizeof path, "%s/log", run->directory);
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    if (fseek(file, -SHOWN_BYTES, SEEK_END) != 0)
        rewind(file);
    (void)fwrite(text, 1, fread(text, 1, sizeof text, file), stderr);
    fclose(file);
}

static bool wait_for_server(const struct run *run, pid_t pid)
{
    const struct server *server = run->peer->server;
    const struct timespec rest = {.tv_nsec = 10000000};
    uint64_t until_ns = pawl_clock_monotonic_ns() + (uint64_t)server->start_seconds * 1000000000;
    while (!interrupted && pawl_clock_monotonic_ns() < until_ns && waitpid(pid, NULL, WNOHANG) == 0) {
        if (server->ready(run))
            return true;
        nanosleep(&rest, NULL);
    }
    if (interrupted)
        return false;
    fprintf(stderr, "peers_bus: %s ended, or did not serve within %d s; what it said last:\n",
            server->program, server->start_seconds);
    show_log(run);
    return false;
}

/* Loopback's, of which nobody listens on any: each differs from the others. */
static void find_ports(struct run *run)
{
    int fds[PEER_PORTS];
    for (int i = 0; i < PEER_PORTS; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t bytes = sizeof address;
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(fds[i], (struct sockaddr *)&address, bytes) != 0 ||
            getsockname(fds[i], (struct sockaddr *)&address, &bytes) != 0)
            peer_fail("a free port");
        run->ports[i] = ntohs(address.sin_port);
    }
    for (int i = 0; i < PEER_PORTS; i++)
        close(fds[i]);
}

bool peer_listens(const struct run *run)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)run->ports[0])};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool listens = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return listens;
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

static void publish(const struct run *run, int fd)
{
    (void)fd;
    run->peer->server->publish(run);
}

static void prepare(const struct run *run, int fd)
{
    (void)fd;
    if (run->peer->server->prepare)
        run->peer->server->prepare(run);
}

/* A process of its own also for the sake of libraries with threads, which do not live through a fork. */
static pid_t start(const struct run *run, void (*work)(const struct run *, int fd), int fd)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    errno = 0;
    work(run, fd);
    exit(0);
}

static bool ended_well(pid_t pid)
{
    int status = 0;
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* False as soon as either fails, the server ends, or a signal comes: the others would wait for ever. */
static bool clients_end_well(pid_t server, pid_t consumer, pid_t publisher)
{
    int left = 2, status = 0;
    for (pid_t pid = 0; left > 0 && (pid = waitpid(-1, &status, 0)) > 0;) {
        if (pid == server) {
            fprintf(stderr, "peers_bus: the server ended\n");
            return false;
        }
        if (pid != consumer && pid != publisher)
            continue;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            return false;
        left--;
    }
    return left == 0;
}

static int measure(const struct run *run, pid_t server)
{
    int fds[2];
    uint64_t figures[3] = {0};
    if (!wait_for_server(run, server) || !ended_well(start(run, prepare, -1)))
        return 1;
    if (pipe(fds) != 0)
        peer_fail("pipe");
    double cpu = family_cpu_seconds() + pawl_bench_cpu_seconds(RUSAGE_CHILDREN);
    pid_t consumer = start(run, consume, fds[1]);
    uint64_t from_ns = pawl_clock_monotonic_ns();
    pid_t publisher = start(run, publish, -1);
    close(fds[1]);
    if (!clients_end_well(server, consumer, publisher) ||
        read(fds[0], figures, sizeof figures) != (ssize_t)sizeof figures)
        return 1;
    cpu = family_cpu_seconds() + pawl_bench_cpu_seconds(RUSAGE_CHILDREN) - cpu;
    printf("%.0f %.2f %.1f %.1f\n", (double)run->events / ((double)(figures[0] - from_ns) / 1e9),
           cpu / (double)run->events * 1e6, (double)figures[1] / 1e3, (double)figures[2] / 1e3);
    return 0;
}

/* The peers that this program was built for. */
static int list_peers(void)
{
    for (size_t i = 0; i < sizeof peers / sizeof *peers; i++)
        if (peers[i].server)
            puts(peers[i].name);
    return 0;
}

int main(int argc, char **argv)
{
    struct run run = {0};
    if (argc == 2 && strcmp(argv[1], "--list") == 0)
        return list_peers();
    for (size_t i = 0; argc == 6 && i < sizeof peers / sizeof *peers; i++)
        if (peers[i].server && strcmp(peers[i].name, argv[1]) == 0)
            run.peer = &peers[i];
    run.events = argc == 6 ? strtoull(argv[2], NULL, 10) : 0;
    run.payload_bytes = argc == 6 ? strtoul(argv[3], NULL, 10) : 0;
    run.rate = argc == 6 ? strtod(argv[4], NULL) : 0;
    run.directory = argc == 6 ? argv[5] : "";
    int n = snprintf(run.socket_path, sizeof run.socket_path, "%s/s", run.directory);
    if (!run.peer || run.events == 0 || run.payload_bytes < 8 || run.payload_bytes > 65535 || n < 0 ||
        (size_t)n >= sizeof run.socket_path || run.directory[0] != '/') {
        fprintf(stderr, "usage: peers_bus PEER EVENTS PAYLOAD RATE DIRECTORY, or peers_bus --list\n");
        return 2;
    }
    /* Without SA_RESTART: whatever is waited for fails, and what was started is ended as always. */
    const struct sigaction on_signal = {.sa_handler = interrupt};
    (void)sigaction(SIGINT, &on_signal, NULL);
    (void)sigaction(SIGTERM, &on_signal, NULL);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    find_ports(&run);
    pid_t server = fork();
    if (server == 0)
        become_server(&run);
    int error = measure(&run, server);
    end_family();
    return error;
}
