/*
 * worker_support.h - what tests of a whole worker process share: the worker, and a scheduler that the test
 * plays with the real rings.
 */
#ifndef PAWL_TESTS_WORKER_SUPPORT_H
#define PAWL_TESTS_WORKER_SUPPORT_H

#include "workers/worker.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shm/clock.h"
#include "shm/delivery_ring.h"
#include "shm/doorbell.h"
#include "shm/lane.h"
#include "shm/log_segment.h"
#include "shm/task.h"
#include "shm/wire.h"
#include "shm/world.h"

enum { LANE = 3, QUEUE = 9, SLOTS = 1024 };

/* The scheduler's side. */
static char state[64];
static int state_dirfd, listen_fd;
static pid_t worker_pid;
static struct pawl_wire wire;
static struct pawl_segment world;
static struct pawl_lane_reader lane;
static struct pawl_delivery_ring ring;
static struct pawl_log_pool pool;
static int scheduler_bell, worker_bell, context_fd;
static uint64_t epoch;
static bool awake; /* whether this scheduler looks by itself: then its bell is not rung */

static inline void make_context(void)
{
    const char *const env[] = {"PATH=/usr/bin:/bin", NULL};
    struct pawl_context_spec spec = {.run_id = "run-1", .dir = "/tmp", .env = env, .umask = 022};
    for (int i = 0; i < (int)RLIM_NLIMITS; i++)
        getrlimit((__rlimit_resource_t)i, &spec.limits[i]);
    size_t n = pawl_context_packed_bytes(&spec);
    char *bytes = malloc(n);
    cr_assert(eq(i64, pawl_context_pack(&spec, bytes, n), (int64_t)n));
    context_fd = memfd_create("context", MFD_CLOEXEC);
    cr_assert(eq(sz, (size_t)write(context_fd, bytes, n), n));
    free(bytes);
}

static inline void start_worker(void)
{
    pid_t supervisor = getpid();
    worker_pid = fork();
    if (worker_pid == 0) {
        close(listen_fd);
        const struct pawl_worker_options options = {.state_path = state,
                                                    .state_dirfd = state_dirfd,
                                                    .number = 1,
                                                    .mark = "test:1",
                                                    .supervisor = supervisor};
        _exit(pawl_worker_main(&options));
    }
}

static inline void set_up(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(state, "/tmp/pawl-worker-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(state), NULL));
    state_dirfd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", state);
    cr_assert(eq(int, bind(listen_fd, (struct sockaddr *)&address, sizeof address), 0));
    cr_assert(eq(int, listen(listen_fd, 4), 0));
    make_context();
    start_worker();
}

static inline void tear_down(void)
{
    char command[100];
    kill(worker_pid, SIGKILL);
    snprintf(command, sizeof command, "rm -rf %s", state);
    cr_expect(eq(int, system(command), 0));
}

/* The next message of the worker, waited for. */
static inline const void *expect_message(uint16_t type, size_t bytes_min)
{
    static struct pawl_wire_message message;
    int result;
    while ((result = pawl_wire_receive(&wire, &message)) == 0) {
        struct pollfd readable = {.fd = wire.fd, .events = POLLIN};
        poll(&readable, 1, -1);
    }
    cr_assert(eq(int, result, 1));
    cr_assert(eq(u16, message.header.type, type));
    cr_assert(ge(sz, message.header.bytes, bytes_min));
    return message.body;
}

static inline void tell(uint16_t type, const void *body, size_t n, const int *fds, unsigned count)
{
    cr_assert(eq(int, pawl_wire_queue_message(&wire, type, 0, body, n, NULL, 0, fds, count), 0));
    cr_assert(eq(int, pawl_wire_flush(&wire), 0));
}

static inline void accept_worker(void)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, pawl_wire_init(&wire, fd), 0));
    const struct pawl_wire_hello *hello = expect_message(PAWL_WIRE_HELLO, sizeof *hello);
    cr_expect(eq(u32, hello->role, PAWL_ROLE_WORKER));
    cr_expect(eq(u32, hello->worker_number, 1));
    const struct pawl_wire_welcome welcome = {.version = PAWL_WIRE_VERSION};
    tell(PAWL_WIRE_WELCOME, &welcome, sizeof welcome, NULL, 0);

    cr_assert(eq(int, pawl_world_create(++epoch, &world), 0));
    cr_assert(eq(int, pawl_lane_create(pawl_world_of(&world), LANE, &lane), 0));
    scheduler_bell = pawl_doorbell_open();
    worker_bell = pawl_doorbell_open();
    atomic_store(&pawl_world_of(&world)->sleeping, !awake);
    const struct pawl_wire_lane body = {.lane = LANE, .epoch = epoch, .mark = "lane-mark"};
    tell(PAWL_WIRE_LANE, &body, sizeof body, (int[]){world.fd, lane.segment.fd, scheduler_bell, worker_bell},
         4);
}

static inline void give_queue(void)
{
    pawl_log_pool_init(&pool, 64 << 20);
    cr_assert(eq(int, pawl_delivery_ring_create(SLOTS, &ring), 0));
    const struct pawl_wire_queue body = {.queue = QUEUE, .slot_number = 5};
    tell(PAWL_WIRE_QUEUE, &body, sizeof body, (int[]){ring.queue.fd, ring.words.fd, context_fd}, 3);
}

static inline void begin(void)
{
    accept_worker();
    expect_message(PAWL_WIRE_OFFERS_END, 0);
    give_queue();
}

static inline void place_bytes(const void *bytes, size_t n, uint64_t instance, uint32_t attempt)
{
    struct pawl_descriptor descriptor = {
        .bytes = (uint32_t)n, .instance = instance, .step = 2, .attempt = attempt};
    bool is_new;
    cr_assert(eq(
        int, pawl_log_pool_append(&pool, bytes, n, &descriptor.log_segment, &descriptor.byte_offset, &is_new),
        0));
    if (is_new) {
        struct pawl_segment *segment = &pool.segment[descriptor.log_segment]->segment;
        const struct pawl_wire_segment body = {.id = descriptor.log_segment,
                                               .bytes = (uint32_t)segment->bytes};
        tell(PAWL_WIRE_SEGMENT, &body, sizeof body, &segment->fd, 1);
    }
    uint32_t slot, generation;
    cr_assert(eq(int, pawl_delivery_ring_place(&ring, &descriptor, 0, &slot, &generation), 0));
}

static inline void publish(void)
{
    pawl_delivery_ring_publish(&ring);
    pawl_doorbell_ring(&pawl_lane_memory_of(&lane.segment)->sleeping, worker_bell);
}

static inline void place(const struct pawl_task_spec *spec, uint64_t instance)
{
    static uint64_t room[(2 << 20) / 8];
    int64_t n = pawl_task_pack(spec, room, sizeof room);
    cr_assert(ge(i64, n, 1));
    place_bytes(room, (size_t)n, instance, 1);
}

/* The worker is not told of it yet. */
static inline void put_shell(const char *script, uint64_t instance)
{
    const char *const argv[] = {"sh", "-c", script};
    const struct pawl_task_spec spec = {.kind = PAWL_TASK_EXEC,
                                        .run_id = "run-1",
                                        .step = "s",
                                        .argv = argv,
                                        .argc = 3,
                                        .grace_ns = 1000000000};
    place(&spec, instance);
}

static inline void place_shell(const char *script, uint64_t instance)
{
    put_shell(script, instance);
    publish();
}

static inline void place_noops(unsigned count)
{
    const struct pawl_task_spec spec = {.kind = PAWL_TASK_NOOP, .run_id = "run-1", .step = "n"};
    for (unsigned i = 0; i < count; i++)
        place(&spec, i);
    publish();
}

/* The next settlement and its bytes, waited for by the bell. */
static inline struct pawl_settlement next_settlement(char *bytes, size_t room)
{
    struct pawl_settlement settlement;
    const void *at;
    int result;
    while ((result = pawl_lane_next(&lane, &settlement, &at)) == 0) {
        struct pollfd readable = {.fd = scheduler_bell, .events = POLLIN};
        cr_assert(eq(int, poll(&readable, 1, -1), 1));
        pawl_doorbell_clear(scheduler_bell);
    }
    cr_assert(eq(int, result, 1));
    if (bytes && room > 0) {
        cr_assert(lt(sz, settlement.arena_bytes, room));
        memcpy(bytes, at, settlement.arena_bytes);
        bytes[settlement.arena_bytes] = '\0';
    }
    pawl_lane_release(&lane);
    return settlement;
}

static inline struct pawl_settlement expect_settlement(enum pawl_settlement_type type, char *bytes,
                                                       size_t room)
{
    struct pawl_settlement settlement = next_settlement(bytes, room);
    cr_assert(eq(u8, settlement.type, (uint8_t)type));
    return settlement;
}

static inline uint64_t shown_job(void)
{
    return atomic_load(&pawl_lane_memory_of(&lane.segment)->job);
}

/* Entries in the lane, waited for without its bell. */
static inline void wait_for_entries(int64_t count)
{
    while (pawl_ring_peek(&lane.ring) < count)
        poll(NULL, 0, 1);
}

/* The job that waits for a line from there goes on. */
static inline void let_go(const char *fifo)
{
    int fd = open(fifo, O_WRONLY);
    cr_assert(eq(int, (int)write(fd, "go\n", 3), 3));
    close(fd);
}

#endif
