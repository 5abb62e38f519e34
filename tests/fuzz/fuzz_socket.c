/*
 * fuzz_socket.c - a client that sends anything: messages of every type, requests of the bus, a lane full of
 * whatever it likes. The scheduler stays, and answers the next one.
 *
 *   make fuzz builds and runs it; one input again: build-fuzz/tests/fuzz/fuzz_socket FILE
 *
 * The scheduler is the real one, in a thread of its own, over a journal in /dev/shm. Input: entries of a byte
 * that chooses (a message, a request in JSON, an entry of the lane, bytes without sense), sizes, and edits of
 * what would be right.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/loader.h"
#include "scheduler/bus/limits.h"
#include "scheduler/plan_format.h"
#include "scheduler/scheduler.h"
#include "shm/client_lane.h"
#include "shm/error.h"
#include "shm/wire.h"

enum { ENTRIES_MAX = 24, CLEAN_EVERY = 64, LAST_TAG = 0x7fff0000 };

static const char flow[] = "pawl: 1\nsteps:\n  a: {run: [echo, '${{ item }}'], foreach: '${{ [1, 2] }}'}\n"
                           "  b: {use: noop, needs: a}\n";
static char *plan;
static size_t plan_bytes;
static char state[] = "/dev/shm/fuzz-socket-XXXXXX";
static struct pawl_scheduler_options options;
static unsigned inputs;

/* What is left of the input. */
struct input {
    const uint8_t *at;
    size_t left;
};

/* This side of a connection. */
struct peer {
    struct pawl_wire wire;
    struct pawl_client_lane *lane;
    size_t lane_bytes;
    uint64_t produced, settled, sequence;
    int bell_fd;
    bool gone;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t take(struct input *input, size_t bytes)
{
    uint64_t value = 0;
    bytes = bytes < input->left ? bytes : input->left;
    if (bytes > 0)
        memcpy(&value, input->at, bytes);
    input->at += bytes;
    input->left -= bytes;
    return value;
}

/* Of what would be right, some bytes become others. */
static void edit(struct input *input, void *bytes, size_t count)
{
    for (uint64_t edits = take(input, 1) & 15; edits > 0 && count > 0; edits--) {
        uint64_t where = take(input, 2), value = take(input, 1);
        ((uint8_t *)bytes)[where % count] = (uint8_t)value;
    }
}

/* ---- the scheduler ---- */

static int read_config(void *ctx, struct pawl_config *config, char *text, unsigned bytes)
{
    (void)ctx, (void)text, (void)bytes;
    pawl_config_default(config);
    config->bus.queues = 24;
    config->bus.event_payload_bytes = 64 << 10;
    return 0;
}

static void *be_scheduler(void *ctx)
{
    (void)ctx;
    int code = pawl_scheduler_main(&options);
    fprintf(stderr, "the scheduler left with %d\n", code);
    abort();
}

static int part(int dir_fd, const char *name)
{
    if (name[0] != '.' && mkdirat(dir_fd, name, 0700) != 0)
        abort();
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        abort();
    return fd;
}

static void start(void)
{
    static struct pawl_load_errors errors;
    static int pair[2];
    struct pawl_plan *loaded = NULL;
    pthread_t thread;
    (void)signal(SIGPIPE, SIG_IGN); /* as the scheduler's process has it: a client's bell may be gone */
    if (pawl_workflow_load_memory("f.yaml", flow, sizeof flow - 1, NULL, &loaded, &errors) != 0)
        abort();
    const void *blob = pawl_plan_blob(loaded, &plan_bytes);
    plan = malloc(plan_bytes);
    if (!plan || !mkdtemp(state) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        abort();
    memcpy(plan, blob, plan_bytes);
    pawl_plan_close(loaded);
    int dir_fd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    options = (struct pawl_scheduler_options){.state_dirfd = dir_fd,
                                              .journal_dirfd = part(dir_fd, "journal"),
                                              .runs_dirfd = part(dir_fd, "runs"),
                                              .spool_dirfd = part(dir_fd, "spool"),
                                              .state_path = state,
                                              .mark = "fuzz",
                                              .supervisor_fd = pair[0],
                                              .client_fd = -1,
                                              .log_fd = open("/dev/null", O_WRONLY | O_CLOEXEC),
                                              .snapshot_bytes = 1 << 20,
                                              .read_config = read_config};
    if (pthread_create(&thread, NULL, be_scheduler, NULL) != 0)
        abort();
}

/* ---- a client ---- */

static int connect_to(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", state);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    while (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) /* at first it is not there yet */
        usleep(1000);
    return fd;
}

/* What comes is read as it comes; the descriptors of the lane are kept. Return: an answer to @tag came. */
static bool hear(struct peer *peer, uint64_t tag)
{
    struct pawl_wire_message message;
    int got;
    bool heard = false;
    while ((got = pawl_wire_receive(&peer->wire, &message)) > 0) {
        heard |= message.header.tag == tag;
        if (message.header.type != PAWL_WIRE_ATTACHED || message.header.fd_count != 4 || peer->lane)
            continue;
        struct stat status;
        if (fstat(message.fds[0], &status) != 0)
            abort();
        peer->lane_bytes = (size_t)status.st_size;
        peer->lane = mmap(NULL, peer->lane_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, message.fds[0], 0);
        if (peer->lane == MAP_FAILED)
            abort();
        peer->bell_fd = message.fds[2];
        message.fds[2] = -1;
    }
    peer->gone |= got < 0;
    return heard;
}

static void send_message(struct peer *peer, uint16_t type, uint64_t tag, const void *body, size_t bytes,
                         const int *fds, unsigned fd_count)
{
    if (peer->gone ||
        pawl_wire_queue_message(&peer->wire, type, tag, body, bytes, NULL, 0, fds, fd_count) != 0)
        return;
    for (int error; (error = pawl_wire_flush(&peer->wire)) != 0 && !peer->gone;) {
        if (error != -EAGAIN)
            peer->gone = true;
        hear(peer, 0);
    }
}

/* Until the answer, or the end. */
static void await(struct peer *peer, uint64_t tag)
{
    while (!peer->gone && !hear(peer, tag)) {
        struct pollfd readable = {.fd = peer->wire.fd, .events = POLLIN};
        (void)poll(&readable, 1, -1);
    }
}

static void greet(struct peer *peer)
{
    const struct pawl_wire_hello hello = {.version = PAWL_WIRE_VERSION, .role = PAWL_ROLE_CLIENT};
    *peer = (struct peer){.bell_fd = -1};
    if (pawl_wire_init(&peer->wire, connect_to()) != 0)
        abort();
    send_message(peer, PAWL_WIRE_HELLO, 1, &hello, sizeof hello, NULL, 0);
    await(peer, 1);
}

static void part_with(struct peer *peer)
{
    if (peer->lane)
        munmap(peer->lane, peer->lane_bytes);
    if (peer->bell_fd >= 0)
        close(peer->bell_fd);
    pawl_wire_fini(&peer->wire);
}

/* ---- what it sends ---- */

static int sealed(const void *bytes, size_t count)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || write(fd, bytes, count) != (ssize_t)count ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
        abort();
    return fd;
}

/* A message with zeros, names that there are at the front, and edits. */
static void send_any(struct peer *peer, struct input *input, uint64_t tag)
{
    static const char *const names[] = {"q", "s", "r", ""};
    static uint8_t body[2048];
    uint16_t type = (uint16_t)(take(input, 1) & 191);
    size_t bytes = take(input, 2) % sizeof body;
    memset(body, 0, sizeof body);
    strcpy((char *)body, names[take(input, 1) & 3]);
    if (type == PAWL_WIRE_SETTLE) { /* names lie behind a count */
        memset(body, 0, 8);
        body[0] = 1;
        strcpy((char *)body + 8, "q");
        body[8 + offsetof(struct pawl_wire_settle_one, op)] = PAWL_SETTLE_OP_ACK;
    }
    edit(input, body, bytes ? bytes : 1);
    send_message(peer, type, tag, body, bytes, NULL, 0);
}

static void send_submit(struct peer *peer, struct input *input, uint64_t tag)
{
    struct pawl_wire_submit request = {.slots = 1, .flags = (uint32_t)take(input, 1) & 15, .run_id = "r"};
    static uint8_t context[256];
    char *copy = malloc(plan_bytes);
    if (!copy)
        abort();
    memcpy(copy, plan, plan_bytes);
    edit(input, &request, sizeof request);
    edit(input, copy + PAWL_PLAN_CHECKED_FROM, plan_bytes - PAWL_PLAN_CHECKED_FROM);
    pawl_plan_seal(copy, plan_bytes);
    edit(input, context, sizeof context);
    int fds[2] = {sealed(copy, plan_bytes), sealed(context, sizeof context)};
    send_message(peer, PAWL_WIRE_SUBMIT, tag, &request, sizeof request, fds, 2);
    close(fds[0]);
    close(fds[1]);
    free(copy);
}

static void send_json(struct peer *peer, struct input *input, uint64_t tag)
{
    static const char *const texts[] = {
        "{\"op\":\"queue.declare\",\"name\":\"q\",\"config\":{\"topics\":[\"t.#\"]}}",
        "{\"op\":\"queue.declare\",\"name\":\"q\",\"config\":{\"topics\":[\"t.#\"],\"max_deliver\":2}}",
        "{\"op\":\"queue.declare\",\"name\":\"q\",\"config\":{\"max_depth\":3,\"overflow\":\"drop_oldest\"}}",
        "{\"op\":\"queue.declare\",\"name\":\"q\",\"config\":{\"ordering_key\":\"k\"}}",
        "{\"op\":\"queue.declare\",\"name\":\"s\",\"config\":{\"topics\":[\"#\"],\"stream\":true}}",
        "{\"op\":\"queue.list\"}",
        "{\"op\":\"queue.show\",\"name\":\"q\"}",
        "{\"op\":\"queue.pause\",\"name\":\"q\"}",
        "{\"op\":\"queue.resume\",\"name\":\"q\"}",
        "{\"op\":\"queue.purge\",\"name\":\"q\"}",
        "{\"op\":\"queue.delete\",\"name\":\"q\"}",
        "{\"op\":\"dlq.list\",\"queue\":\"q\",\"from\":1,\"count\":9,\"filter\":{\"reason\":\"rejected\"}}",
        "{\"op\":\"dlq.redrive\",\"queue\":\"q\",\"to\":\"s\",\"seqs\":[1,2],\"from\":0}",
        "{\"op\":\"dlq.purge\",\"queue\":\"q\",\"seqs\":[1],\"filter\":{\"topic\":\"t.#\"},\"from\":0}",
        "{\"op\":\"group.create\",\"queue\":\"s\",\"group\":\"g\",\"from\":\"earliest\"}",
        "{\"op\":\"group.commit\",\"queue\":\"s\",\"group\":\"g\",\"offset\":1}",
        "{\"op\":\"group.seek\",\"queue\":\"s\",\"group\":\"g\",\"to\":1}",
        "{\"op\":\"group.lag\",\"queue\":\"s\",\"group\":\"g\"}",
        "{\"op\":\"group.delete\",\"queue\":\"s\",\"group\":\"g\"}",
    };
    char text[512];
    size_t which = take(input, 1) % (sizeof texts / sizeof *texts), bytes = strlen(texts[which]);
    memcpy(text, texts[which], bytes);
    edit(input, text, bytes);
    send_message(peer, PAWL_WIRE_BUS, tag, text, bytes, NULL, 0);
}

static void send_consume(struct peer *peer, struct input *input, uint64_t tag)
{
    const struct pawl_wire_attach attach = {.publisher = 1 + take(input, 1)};
    struct pawl_wire_consume consume = {.queue = "q", .consumer = 1, .credit = 8};
    if (!peer->lane) {
        send_message(peer, PAWL_WIRE_ATTACH, tag << 8, &attach, sizeof attach, NULL, 0);
        await(peer, tag << 8);
    }
    if (take(input, 1) & 1) {
        strcpy(consume.queue, "s");
        strcpy(consume.group, "g");
    }
    edit(input, &consume, sizeof consume);
    send_message(peer, PAWL_WIRE_CONSUME, tag, &consume, sizeof consume, NULL, 0);
}

static void ring(const struct peer *peer)
{
    uint64_t one = 1;
    (void)!write(peer->bell_fd, &one, sizeof one);
}

/* An event, or a settlement with words, into the submit ring. */
static void write_submission(struct peer *peer, struct input *input)
{
    static const uint8_t data[256];
    _Alignas(8) uint8_t entry[512] = {0};
    struct pawl_submit *submit = (struct pawl_submit *)(void *)entry;
    uint8_t choice = (uint8_t)take(input, 1);
    submit->flags = choice >> 4 & 7;
    submit->durability = choice >> 1 & 3;
    if (choice & 1) {
        struct pawl_settle settle = {.op = PAWL_SETTLE_OP_NACK, .value = 0, .text_bytes = 5};
        submit->type = PAWL_SUBMIT_SETTLE;
        memcpy(submit + 1, &settle, sizeof settle);
        submit->bytes = sizeof *submit + sizeof settle + 8;
    } else {
        const struct pawl_event_parts parts = {.topic = "t.a",
                                               .topic_bytes = 3,
                                               .key = choice & 8 ? "key" : NULL,
                                               .key_bytes = choice & 8 ? 3 : 0,
                                               .data = data,
                                               .data_bytes = take(input, 1)};
        submit->type = PAWL_SUBMIT_EVENT;
        submit->sequence = ++peer->sequence;
        pawl_event_pack(&parts, submit + 1);
        submit->bytes = (uint32_t)(sizeof *submit + pawl_event_bytes(&parts));
    }
    uint32_t bytes = submit->bytes;
    edit(input, entry, bytes);
    size_t offset = peer->produced & (peer->lane->submit_bytes - 1);
    memcpy((char *)peer->lane + PAWL_CLIENT_SUBMIT_AT + offset, entry, bytes);
    peer->produced += bytes;
    uint64_t told = peer->produced;
    if (take(input, 1) == 255)
        edit(input, &told, sizeof told);
    atomic_store(&peer->lane->submit_produced, told);
}

static void write_settlement(struct peer *peer, struct input *input)
{
    struct pawl_settle settle = {.op = PAWL_SETTLE_OP_ACK, .first = take(input, 1) & 7};
    settle.last = settle.first;
    edit(input, &settle, sizeof settle);
    char *ring_at = (char *)peer->lane + PAWL_CLIENT_SETTLE_AT;
    memcpy(ring_at + (peer->settled & (PAWL_SETTLE_ENTRIES - 1)) * sizeof settle, &settle, sizeof settle);
    atomic_store(&peer->lane->begun, take(input, 1) & 15);
    atomic_store(&peer->lane->settle_produced, ++peer->settled);
}

static void write_lane(struct peer *peer, struct input *input)
{
    if (!peer->lane)
        return;
    uint8_t choice = (uint8_t)take(input, 1);
    if (choice % 8 == 7)
        edit(input, peer->lane, sizeof *peer->lane);
    else if (choice % 2)
        write_submission(peer, input);
    else
        write_settlement(peer, input);
    ring(peer);
}

/* Nothing that comes after it can be understood. */
static void send_nonsense(struct peer *peer, struct input *input)
{
    (void)!send(peer->wire.fd, input->at, input->left, MSG_DONTWAIT | MSG_NOSIGNAL);
    input->left = 0;
    (void)shutdown(peer->wire.fd, SHUT_WR);
    await(peer, UINT64_MAX);
}

static void clean(void)
{
    static const char *const texts[] = {"{\"op\":\"queue.delete\",\"name\":\"q\"}",
                                        "{\"op\":\"queue.delete\",\"name\":\"s\"}",
                                        "{\"op\":\"queue.delete\",\"name\":\"q.dlq\"}"};
    struct pawl_wire_cancel cancel = {.run_id = "r", .mode = PAWL_CANCEL_CANCEL};
    const struct pawl_wire_gc gc = {.keep_runs = 0};
    struct peer peer;
    greet(&peer);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        send_message(&peer, PAWL_WIRE_BUS, 2 + i, texts[i], strlen(texts[i]), NULL, 0);
    send_message(&peer, PAWL_WIRE_CANCEL, 8, &cancel, sizeof cancel, NULL, 0);
    send_message(&peer, PAWL_WIRE_GC, 9, &gc, sizeof gc, NULL, 0);
    await(&peer, 9);
    if (peer.gone)
        abort();
    part_with(&peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct peer peer;
    if (!plan)
        start();
    if (++inputs % CLEAN_EVERY == 0)
        clean();
    greet(&peer);
    if (peer.gone)
        abort(); /* those before may not keep it from being heard */
    for (uint64_t tag = 2; tag < ENTRIES_MAX && input.left > 0 && !peer.gone; tag++) {
        switch (take(&input, 1) & 7) {
        case 0:
        case 1:
            send_any(&peer, &input, tag);
            break;
        case 2:
            send_submit(&peer, &input, tag);
            break;
        case 3:
            send_consume(&peer, &input, tag);
            break;
        case 4:
        case 5:
            send_json(&peer, &input, tag);
            break;
        case 6:
            write_lane(&peer, &input);
            break;
        case 7:
            if (input.left > 0 && input.at[0] == 7)
                send_nonsense(&peer, &input);
            else
                write_lane(&peer, &input);
            break;
        }
    }
    send_message(&peer, PAWL_WIRE_HEALTH, LAST_TAG, NULL, 0, NULL, 0);
    await(&peer, LAST_TAG);
    part_with(&peer);
    return 0;
}
