/*
 * peers_bus.c - what pawl bench bus does, on Redis Streams and beanstalkd, over plain sockets.
 *
 *   peers_bus PEER EVENTS PAYLOAD RATE DIRECTORY      PEER: redis-memory redis-everysec redis-always
 *                                                           beanstalkd-memory beanstalkd-50ms
 * beanstalkd-always
 *
 * Runs in: `make bench-peers` only. The server is started for the run, with DIRECTORY as its own, and ended
 * by its pid; publisher and consumer are processes. Each event is published, delivered, acknowledged and
 * removed; the time ends with the answer to the last removal. RATE 0: as many as can be, commands pipelined;
 * else each event carries the time at which it was published. Prints: events/s, CPU seconds of server and
 * clients a million events, p50 and p99 in microseconds.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"
#include "shm/clock.h"

enum {
    BYTES_MAX = 1 << 20,
    PUBLISH_BATCH = 64,  /* commands written together */
    PUBLISH_AHEAD = 512, /* and sent without an answer */
    TAKE = 256,          /* entries asked for at a time: Redis */
    RESERVES = 64,       /* reserves under way: beanstalkd */
    START_MS = 5000,
};

enum protocol { REDIS, BEANSTALKD };

struct peer {
    const char *name;
    enum protocol protocol;
    const char *arguments[4]; /* what differs; "." is the directory */
};

static const struct peer peers[] = {
    {"redis-memory", REDIS, {"--appendonly", "no"}},
    {"redis-everysec", REDIS, {"--appendonly", "yes", "--appendfsync", "everysec"}},
    {"redis-always", REDIS, {"--appendonly", "yes", "--appendfsync", "always"}},
    {"beanstalkd-memory", BEANSTALKD, {NULL}},
    {"beanstalkd-50ms", BEANSTALKD, {"-b", "."}},
    {"beanstalkd-always", BEANSTALKD, {"-b", ".", "-f0"}},
};

struct run {
    const struct peer *peer;
    uint64_t events;
    size_t payload_bytes;
    double rate;
    const char *directory;
    char socket_path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* One connection: what is to be sent, and what was received and not read yet. */
struct link {
    int fd;
    char *out, *in;
    size_t out_used, in_first, in_end;
};

static void fail(const char *what)
{
    fprintf(stderr, "peers_bus: %s: %s\n", what, errno ? strerror(errno) : "not as expected");
    exit(1);
}

/* ---- a connection ---- */

static bool link_open(struct link *link, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    *link = (struct link){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (connect(link->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(link->fd);
        return false;
    }
    link->out = malloc(BYTES_MAX);
    link->in = malloc(BYTES_MAX);
    if (!link->out || !link->in)
        fail("memory");
    return true;
}

static void link_close(struct link *link)
{
    close(link->fd);
    free(link->out);
    free(link->in);
}

static void flush(struct link *link)
{
    size_t done = 0;
    while (done < link->out_used) {
        ssize_t n = send(link->fd, link->out + done, link->out_used - done, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            fail("send");
        done += n > 0 ? (size_t)n : 0;
    }
    link->out_used = 0;
}

static void put(struct link *link, const void *bytes, size_t n)
{
    if (link->out_used + n > BYTES_MAX)
        flush(link);
    memcpy(link->out + link->out_used, bytes, n);
    link->out_used += n;
}

__attribute__((format(printf, 2, 3))) static void say(struct link *link, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    put(link, text, (size_t)n);
}

/* False: nothing there, and not @wait. */
static bool receive(struct link *link, bool wait)
{
    if (link->in_first == link->in_end)
        link->in_first = link->in_end = 0;
    if (link->in_end == BYTES_MAX) {
        memmove(link->in, link->in + link->in_first, link->in_end - link->in_first);
        link->in_end -= link->in_first;
        link->in_first = 0;
    }
    ssize_t n = recv(link->fd, link->in + link->in_end, BYTES_MAX - link->in_end, wait ? 0 : MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || (errno == EAGAIN && !wait)))
        return false;
    if (n <= 0)
        fail("recv");
    link->in_end += (size_t)n;
    return true;
}

/* A line without its end. Valid until more is received. */
static const char *get_line(struct link *link)
{
    for (size_t seen = link->in_first;;) {
        char *end = memchr(link->in + seen, '\n', link->in_end - seen);
        if (end) {
            const char *line = link->in + link->in_first;
            end[end > line ? -1 : 0] = 0;
            link->in_first = (size_t)(end - link->in) + 1;
            return line;
        }
        seen = link->in_end - link->in_first;
        (void)receive(link, true);
        seen += link->in_first;
    }
}

/* @n bytes and the end of a line. */
static const char *get_bytes(struct link *link, size_t n)
{
    while (link->in_end - link->in_first < n + 2)
        (void)receive(link, true);
    const char *bytes = link->in + link->in_first;
    link->in_first += n + 2;
    return bytes;
}

static void expect(struct link *link, const char *begin)
{
    const char *line = get_line(link);
    if (strncmp(line, begin, strlen(begin)) != 0) {
        fprintf(stderr, "peers_bus: '%s' where '%s' should be\n", line, begin);
        exit(1);
    }
}

/* ---- publishing ---- */

static void put_event(const struct run *run, struct link *link, const char *data)
{
    if (run->peer->protocol == REDIS)
        say(link, "*5\r\n$4\r\nXADD\r\n$1\r\nq\r\n$1\r\n*\r\n$1\r\nd\r\n$%zu\r\n", run->payload_bytes);
    else
        say(link, "put 0 0 600 %zu\r\n", run->payload_bytes);
    put(link, data, run->payload_bytes);
    put(link, "\r\n", 2);
}

static void get_confirm(const struct run *run, struct link *link)
{
    if (run->peer->protocol == BEANSTALKD) {
        expect(link, "INSERTED");
        return;
    }
    expect(link, "$");
    (void)get_line(link);
}

static void publish(const struct run *run)
{
    struct link link;
    char *data = calloc(1, run->payload_bytes);
    if (!data || !link_open(&link, run->socket_path))
        fail("connect");
    uint64_t sent = 0, confirmed = 0, next_ns = pawl_clock_monotonic_ns();
    uint64_t step_ns = run->rate > 0 ? (uint64_t)(1e9 / run->rate) : 0;
    while (confirmed < run->events) {
        if (step_ns && sent < run->events) {
            pawl_bench_rest_until(next_ns);
            next_ns += step_ns;
            uint64_t now = pawl_clock_monotonic_ns();
            memcpy(data, &now, sizeof now);
        }
        for (int i = 0; i < (step_ns ? 1 : PUBLISH_BATCH) && sent < run->events; i++, sent++)
            put_event(run, &link, data);
        flush(&link);
        if (step_ns)
            while (receive(&link, false))
                ;
        uint64_t most = sent == run->events ? 0 : PUBLISH_AHEAD - PUBLISH_BATCH;
        while (sent - confirmed > most ||
               (step_ns && sent > confirmed &&
                memchr(link.in + link.in_first, '\n', link.in_end - link.in_first))) {
            get_confirm(run, &link);
            confirmed++;
        }
    }
    link_close(&link);
    free(data);
}

/* ---- consuming ---- */

static void note(const struct run *run, struct pawl_bench_samples *samples, const char *data)
{
    uint64_t sent;
    memcpy(&sent, data, sizeof sent);
    if (run->rate > 0 && pawl_bench_sample(samples, pawl_clock_monotonic_ns() - sent) != 0)
        fail("memory");
}

static size_t get_size(struct link *link, char kind)
{
    const char *line = get_line(link);
    if (line[0] != kind || line[1] == '-')
        fail(line);
    return strtoul(line + 1, NULL, 10);
}

/* The answer to XREADGROUP: a list of one stream, which is its name and a list of [id, [field, value]]. */
static size_t get_entries(const struct run *run, struct link *link, char ids[TAKE][32],
                          struct pawl_bench_samples *samples)
{
    expect(link, "*1");
    expect(link, "*2");
    (void)get_bytes(link, get_size(link, '$'));
    size_t count = get_size(link, '*');
    if (count > TAKE)
        fail("XREADGROUP");
    for (size_t i = 0; i < count; i++) {
        (void)get_size(link, '*');
        size_t bytes = get_size(link, '$');
        if (bytes >= sizeof ids[i])
            fail("an id");
        memcpy(ids[i], get_bytes(link, bytes), bytes);
        ids[i][bytes] = 0;
        (void)get_size(link, '*');
        (void)get_bytes(link, get_size(link, '$'));
        bytes = get_size(link, '$');
        note(run, samples, get_bytes(link, bytes));
    }
    return count;
}

static void put_ids(struct link *link, char ids[TAKE][32], size_t count)
{
    for (size_t i = 0; i < count; i++)
        say(link, "$%zu\r\n%s\r\n", strlen(ids[i]), ids[i]);
}

static uint64_t consume_redis(const struct run *run, struct link *link, struct pawl_bench_samples *samples)
{
    static char ids[TAKE][32];
    uint64_t got = 0;
    char ask[160];
    snprintf(ask, sizeof ask,
             "*11\r\n$10\r\nXREADGROUP\r\n$5\r\nGROUP\r\n$1\r\ng\r\n$1\r\nc\r\n$5\r\nCOUNT\r\n$3\r\n%d\r\n"
             "$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n$1\r\nq\r\n$1\r\n>\r\n",
             TAKE);
    put(link, ask, strlen(ask));
    while (got < run->events) {
        flush(link);
        size_t count = get_entries(run, link, ids, samples);
        got += count;
        say(link, "*%zu\r\n$4\r\nXACK\r\n$1\r\nq\r\n$1\r\ng\r\n", count + 3);
        put_ids(link, ids, count);
        say(link, "*%zu\r\n$4\r\nXDEL\r\n$1\r\nq\r\n", count + 2);
        put_ids(link, ids, count);
        if (got < run->events)
            put(link, ask, strlen(ask));
        flush(link);
        size_t acked = get_size(link, ':'), removed = get_size(link, ':');
        if (acked != count || removed != count)
            fail("XACK and XDEL");
    }
    return got;
}

static uint64_t consume_beanstalkd(const struct run *run, struct link *link,
                                   struct pawl_bench_samples *samples)
{
    /* A reserve that waits holds up the deletes behind it: at a rate one at a time. */
    uint64_t ids[RESERVES], got = 0;
    size_t count = 0;
    while (got < run->events) {
        size_t most = run->rate > 0 ? 1 : RESERVES, deletes = count;
        for (size_t i = 0; i < deletes; i++)
            say(link, "delete %" PRIu64 "\r\n", ids[i]);
        count = run->events - got < most ? (size_t)(run->events - got) : most;
        for (size_t i = 0; i < count; i++)
            say(link, "reserve\r\n");
        flush(link);
        for (size_t i = 0; i < deletes; i++)
            expect(link, "DELETED");
        for (size_t i = 0; i < count; i++) {
            const char *line = get_line(link);
            char *rest = NULL;
            if (strncmp(line, "RESERVED ", 9) != 0)
                fail(line);
            ids[i] = strtoull(line + 9, &rest, 10);
            size_t bytes = strtoul(rest, NULL, 10);
            note(run, samples, get_bytes(link, bytes));
        }
        got += count;
    }
    for (size_t i = 0; i < count; i++)
        say(link, "delete %" PRIu64 "\r\n", ids[i]);
    flush(link);
    for (size_t i = 0; i < count; i++)
        expect(link, "DELETED");
    return got;
}

/* Writes what it measured once everything was counted. */
static void consume(const struct run *run, int fd)
{
    struct link link;
    struct pawl_bench_samples samples = {0};
    struct pawl_bench_result result = {0};
    if (!link_open(&link, run->socket_path))
        fail("connect");
    result.events = run->peer->protocol == REDIS ? consume_redis(run, &link, &samples)
                                                 : consume_beanstalkd(run, &link, &samples);
    uint64_t finished_ns = pawl_clock_monotonic_ns();
    pawl_bench_percentiles(&samples, &result);
    uint64_t figures[4] = {result.events, finished_ns, result.p50_ns, result.p99_ns};
    if (write(fd, figures, sizeof figures) != (ssize_t)sizeof figures)
        fail("write");
    link_close(&link);
    free(samples.ns);
}

/* ---- the server ---- */

static void be_server(const struct run *run)
{
    const char *words[20];
    char listen[sizeof run->socket_path + 8];
    size_t n = 0;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!freopen("/dev/null", "w", stdout) || chdir(run->directory) != 0)
        fail(run->directory);
    if (run->peer->protocol == REDIS) {
        const char *const common[] = {"redis-server", "--port", "0", "--save", "", "--unixsocket"};
        memcpy(words, common, sizeof common);
        n = sizeof common / sizeof *common;
        words[n++] = run->socket_path;
    } else {
        snprintf(listen, sizeof listen, "unix:%s", run->socket_path);
        words[n++] = "beanstalkd";
        words[n++] = "-l";
        words[n++] = listen;
    }
    for (size_t i = 0; i < 4 && run->peer->arguments[i]; i++)
        words[n++] = run->peer->arguments[i];
    words[n] = NULL;
    execvp(words[0], (char *const *)(uintptr_t)words);
    fail(words[0]);
}

static void wait_for_server(const struct run *run, struct link *link, pid_t server)
{
    for (int i = 0; i < START_MS; i++) {
        struct timespec rest = {.tv_nsec = 1000000};
        if (link_open(link, run->socket_path))
            return;
        if (waitpid(server, NULL, WNOHANG) == server)
            break;
        nanosleep(&rest, NULL);
    }
    fail("the server did not start");
}

static bool ended_well(pid_t pid)
{
    int status = 0;
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static pid_t start(const struct run *run, int fd)
{
    pid_t pid = fork();
    if (pid == 0) {
        fd >= 0 ? consume(run, fd) : publish(run);
        exit(0);
    }
    return pid;
}

static int measure(const struct run *run, pid_t server)
{
    struct link link;
    int fds[2];
    uint64_t figures[4] = {0};
    wait_for_server(run, &link, server);
    if (run->peer->protocol == REDIS) {
        say(&link, "XGROUP CREATE q g 0 MKSTREAM\r\n");
        flush(&link);
        expect(&link, "+OK");
    }
    link_close(&link);
    if (pipe(fds) != 0)
        fail("pipe");
    double cpu = pawl_bench_cpu_seconds_of(server);
    pid_t consumer = start(run, fds[1]);
    uint64_t from_ns = pawl_clock_monotonic_ns();
    pid_t publisher = start(run, -1);
    close(fds[1]);
    bool whole = read(fds[0], figures, sizeof figures) == (ssize_t)sizeof figures;
    whole &= ended_well(consumer) & ended_well(publisher);
    cpu = pawl_bench_cpu_seconds_of(server) - cpu + pawl_bench_cpu_seconds(RUSAGE_CHILDREN);
    if (!whole || figures[0] != run->events)
        return 1;
    printf("%.0f %.2f %.1f %.1f\n", (double)run->events / ((double)(figures[1] - from_ns) / 1e9),
           cpu / (double)run->events * 1e6, (double)figures[2] / 1e3, (double)figures[3] / 1e3);
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
    pid_t server = fork();
    if (server == 0)
        be_server(&run);
    int error = measure(&run, server);
    (void)kill(server, SIGKILL);
    (void)waitpid(server, NULL, 0);
    return error;
}
