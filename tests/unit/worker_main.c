/*
 * worker_main.c - a whole worker process against a scheduler that the test plays with the real rings.
 */
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

static void make_context(void)
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

static void start_worker(void)
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

static void set_up(void)
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

static void tear_down(void)
{
    char command[100];
    kill(worker_pid, SIGKILL);
    snprintf(command, sizeof command, "rm -rf %s", state);
    cr_expect(eq(int, system(command), 0));
}

TestSuite(worker, .init = set_up, .fini = tear_down, .timeout = 300);

/* The next message of the worker, waited for. */
static const void *expect_message(uint16_t type, size_t bytes_min)
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

static void tell(uint16_t type, const void *body, size_t n, const int *fds, unsigned count)
{
    cr_assert(eq(int, pawl_wire_queue_message(&wire, type, 0, body, n, NULL, 0, fds, count), 0));
    cr_assert(eq(int, pawl_wire_flush(&wire), 0));
}

static void accept_worker(void)
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

static void give_queue(void)
{
    pawl_log_pool_init(&pool, 64 << 20);
    cr_assert(eq(int, pawl_delivery_ring_create(SLOTS, &ring), 0));
    const struct pawl_wire_queue body = {.queue = QUEUE, .slot_number = 5};
    tell(PAWL_WIRE_QUEUE, &body, sizeof body, (int[]){ring.queue.fd, ring.words.fd, context_fd}, 3);
}

static void begin(void)
{
    accept_worker();
    expect_message(PAWL_WIRE_OFFERS_END, 0);
    give_queue();
}

static void place_bytes(const void *bytes, size_t n, uint64_t instance, uint32_t attempt)
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

static void publish(void)
{
    pawl_delivery_ring_publish(&ring);
    pawl_doorbell_ring(&pawl_lane_memory_of(&lane.segment)->sleeping, worker_bell);
}

static void place(const struct pawl_task_spec *spec, uint64_t instance)
{
    static uint64_t room[(2 << 20) / 8];
    int64_t n = pawl_task_pack(spec, room, sizeof room);
    cr_assert(ge(i64, n, 1));
    place_bytes(room, (size_t)n, instance, 1);
}

/* The worker is not told of it yet. */
static void put_shell(const char *script, uint64_t instance)
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

static void place_shell(const char *script, uint64_t instance)
{
    put_shell(script, instance);
    publish();
}

static void place_noops(unsigned count)
{
    const struct pawl_task_spec spec = {.kind = PAWL_TASK_NOOP, .run_id = "run-1", .step = "n"};
    for (unsigned i = 0; i < count; i++)
        place(&spec, i);
    publish();
}

/* The next settlement and its bytes, waited for by the bell. */
static struct pawl_settlement next_settlement(char *bytes, size_t room)
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

static struct pawl_settlement expect_settlement(enum pawl_settlement_type type, char *bytes, size_t room)
{
    struct pawl_settlement settlement = next_settlement(bytes, room);
    cr_assert(eq(u8, settlement.type, (uint8_t)type));
    return settlement;
}

static uint64_t shown_job(void)
{
    return atomic_load(&pawl_lane_memory_of(&lane.segment)->job);
}

static void make_durable(void)
{
    atomic_store(&pawl_world_of(&world)->lane[LANE].durable_position, pawl_lane_position(&lane));
}

static void lose_scheduler(void)
{
    pawl_wire_fini(&wire);
    pawl_delivery_ring_destroy(&ring);
    pawl_log_pool_fini(&pool);
    pawl_lane_destroy(&lane);
    pawl_segment_close(&world);
    close(scheduler_bell);
    close(worker_bell);
}

struct ended_offer {
    struct pawl_wire_offer offer;
    struct pawl_settlement settlement;
    char bytes[6];
};

static struct ended_offer expect_ended_offer(void)
{
    struct ended_offer body;
    size_t n = offsetof(struct ended_offer, bytes) + 6;
    memcpy(&body, expect_message(PAWL_WIRE_OFFER, n), n);
    cr_expect(eq(u32, body.offer.ended, 1));
    return body;
}

static void adopt(uint32_t number, uint32_t ticket)
{
    const struct pawl_wire_adopt body = {.number = number, .keep = 1, .ticket = ticket, .queue = QUEUE};
    tell(PAWL_WIRE_ADOPT, &body, sizeof body, NULL, 0);
}

Test(worker, job_is_begun_run_and_reported_under_its_receipt)
{
    char text[200];
    begin();
    place_shell("echo out-$PAWL_ATTEMPT-$PAWL_MARK; echo err >&2; echo k=v >$PAWL_OUTPUT; exit 3", 0);
    struct pawl_settlement begun = expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    struct pawl_settlement result = expect_settlement(PAWL_SETTLE_RESULT, text, sizeof text);
    cr_expect(eq(u32, begun.attempt, 1));
    cr_expect(eq(u32, result.queue, QUEUE));
    cr_expect(eq(u32, result.slot, begun.slot));
    cr_expect(eq(u32, result.generation, ring.generations[result.slot]));
    cr_expect(eq(u64, result.started_at_ns, begun.started_at_ns));
    cr_expect(eq(int, result.outcome, PAWL_OUTCOME_EXITED));
    cr_expect(eq(int, result.exit_code, 3));
    cr_expect(eq(str, text, "out-1-test:1\nerr\nk=v\n"));
    cr_expect(eq(u32, result.stdout_bytes, 13));
    cr_expect(eq(u32, result.stderr_bytes, 4));
    struct pawl_claim claim = pawl_delivery_ring_look(&ring, result.slot);
    cr_expect(eq(int, claim.state, PAWL_CLAIM_BEGUN));
    cr_expect(eq(u16, claim.lane, LANE));
}

/* Entries in the lane, waited for without its bell. */
static void wait_for_entries(int64_t count)
{
    while (pawl_ring_peek(&lane.ring) < count)
        poll(NULL, 0, 1);
}

/* The job that waits for a line from there goes on. */
static void let_go(const char *fifo)
{
    int fd = open(fifo, O_WRONLY);
    cr_assert(eq(int, (int)write(fd, "go\n", 3), 3));
    close(fd);
}

Test(worker, scheduler_that_looks_soon_is_woken_for_a_failure_and_when_work_is_used_up_but_for_nothing_else)
{
    char fifo[128], script[192];
    snprintf(fifo, sizeof fifo, "%s/fifo", state);
    cr_assert(zero(int, mkfifo(fifo, 0600)));
    begin();
    put_shell("exit 0", 0);
    snprintf(script, sizeof script, "read x <%s; exit 0", fifo);
    put_shell(script, 1);
    snprintf(script, sizeof script, "read x <%s; exit 1", fifo);
    put_shell(script, 2);
    snprintf(script, sizeof script, "read x <%s; exit 0", fifo);
    put_shell(script, 3);
    atomic_store(&pawl_world_of(&world)->sleeping, PAWL_WORLD_LOOKS_SOON);
    publish();
    struct pollfd bell = {.fd = scheduler_bell, .events = POLLIN};
    wait_for_entries(3); /* the second has begun, and runs for long */
    cr_expect(zero(int, poll(&bell, 1, 50)), "it need not wait to be heard");
    let_go(fifo);
    wait_for_entries(5);
    cr_expect(zero(int, poll(&bell, 1, 0)));
    let_go(fifo);
    cr_expect(eq(int, poll(&bell, 1, -1), 1), "a failure");
    pawl_doorbell_clear(scheduler_bell);
    for (int i = 0; i < 6; i++)
        expect_settlement(i % 2 ? PAWL_SETTLE_RESULT : PAWL_SETTLE_BEGUN, NULL, 0);
    let_go(fifo);
    wait_for_entries(2);
    cr_expect(eq(int, poll(&bell, 1, -1), 1), "nothing is left to do");
}

Test(worker, noops_are_reported_by_results_alone_in_order)
{
    begin();
    place_noops(300);
    for (unsigned i = 0; i < 300; i++) {
        struct pawl_settlement result = expect_settlement(PAWL_SETTLE_RESULT, NULL, 0);
        cr_assert(eq(u32, result.slot, i));
        cr_assert(eq(int, result.outcome, PAWL_OUTCOME_EXITED));
        cr_assert(ge(u64, result.started_at_ns, 1));
    }
}

Test(worker, results_beyond_the_lanes_room_wait_and_none_is_lost)
{
    begin();
    place_noops(900); /* the lane takes 512 */
    struct pollfd readable = {.fd = scheduler_bell, .events = POLLIN};
    const _Atomic uint64_t *produced = &pawl_lane_memory_of(&lane.segment)->produced;
    while (atomic_load(produced) < PAWL_LANE_ENTRIES)
        poll(&readable, 1, 10);
    cr_expect(eq(u64, atomic_load(produced), PAWL_LANE_ENTRIES));
    for (unsigned i = 0; i < 900; i++)
        cr_assert(eq(u32, expect_settlement(PAWL_SETTLE_RESULT, NULL, 0).slot, i));
}

Test(worker, bytes_beyond_the_arenas_room_wait_and_none_is_lost)
{
    static char text[20000];
    begin();
    for (unsigned i = 0; i < 20; i++) /* 16,000 bytes each: the arena takes thirteen */
        place_shell("printf %16000s x", i);
    struct pollfd readable = {.fd = scheduler_bell, .events = POLLIN};
    while (atomic_load(&pawl_lane_memory_of(&lane.segment)->produced) < 27) /* the 14th has begun */
        poll(&readable, 1, 10);
    for (unsigned i = 0; i < 20; i++) {
        expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
        cr_assert(eq(u32, expect_settlement(PAWL_SETTLE_RESULT, text, sizeof text).stdout_bytes, 16000));
        cr_assert(eq(chr, text[15999], 'x'));
    }
}

Test(worker, bell_of_an_awake_scheduler_is_not_rung)
{
    awake = true;
    begin();
    place_noops(10);
    while (atomic_load(&pawl_lane_memory_of(&lane.segment)->produced) < 10)
        poll(NULL, 0, 1);
    while (!atomic_load(&pawl_lane_memory_of(&lane.segment)->sleeping))
        poll(NULL, 0, 1);
    struct pollfd readable = {.fd = scheduler_bell, .events = POLLIN};
    cr_expect(eq(int, poll(&readable, 1, 0), 0));
}

Test(worker, idle_worker_does_not_wake_up)
{
    begin();
    while (!atomic_load(&pawl_lane_memory_of(&lane.segment)->sleeping))
        poll(NULL, 0, 1);
    char path[64], before[4096] = "voluntary_ctxt: not looked yet", now[4096];
    snprintf(path, sizeof path, "/proc/%d/status", worker_pid);
    /* It set the flag and falls asleep: from some look on nothing changes. */
    for (bool changes = true; changes; memcpy(before, now, sizeof before)) {
        int fd = open(path, O_RDONLY);
        ssize_t n = read(fd, now, sizeof now - 1);
        now[n > 0 ? n : 0] = '\0';
        close(fd);
        changes = strcmp(strstr(before, "voluntary_ctxt"), strstr(now, "voluntary_ctxt")) != 0;
        if (changes)
            poll(NULL, 0, 300);
    }
}

Test(worker, running_job_is_told_after_five_milliseconds)
{
    begin();
    place_shell("sleep 60", 0);
    struct pollfd readable = {.fd = scheduler_bell, .events = POLLIN};
    cr_assert(
        eq(int, poll(&readable, 1, -1), 1)); /* one entry, and the job does not end: only its age rings */
    struct pawl_settlement begun = expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    cr_expect(ne(u64, shown_job(), 0));
    const struct pawl_wire_kill kill = {.queue = QUEUE, .slot = begun.slot, .generation = begun.generation};
    tell(PAWL_WIRE_KILL, &kill, sizeof kill, NULL, 0);
    expect_settlement(PAWL_SETTLE_RESULT, NULL, 0);
}

Test(worker, no_bell_is_rung_for_what_was_taken_without_one)
{
    struct pawl_settlement settlement;
    const void *at;
    awake = true;
    begin();
    place_shell("exec sleep 60", 0);
    while (pawl_lane_next(&lane, &settlement, &at) == 0)
        sched_yield();
    cr_assert(eq(u8, settlement.type, PAWL_SETTLE_BEGUN));
    const struct pawl_wire_kill kill = {
        .queue = QUEUE, .slot = settlement.slot, .generation = settlement.generation};
    pawl_lane_release(&lane);
    atomic_store(&pawl_world_of(&world)->sleeping, 1);
    tell(PAWL_WIRE_KILL, &kill, sizeof kill, NULL, 0);
    struct pollfd readable = {.fd = scheduler_bell, .events = POLLIN};
    cr_assert(eq(int, poll(&readable, 1, -1), 1));
    cr_assert(eq(int, pawl_lane_next(&lane, &settlement, &at), 1), "it was rung for the begin");
    cr_expect(eq(u8, settlement.type, PAWL_SETTLE_RESULT));
}

Test(worker, kill_ends_the_job_it_names_and_no_other)
{
    begin();
    place_shell("trap 'exit 7' TERM; echo ready >$PAWL_OUTPUT; while :; do sleep 0.01; done", 0);
    struct pawl_settlement begun = expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    char path[100];
    struct stat status;
    snprintf(path, sizeof path, "%s/spool/w1.named", state);
    while (stat(path, &status) < 0 || status.st_size == 0)
        poll(NULL, 0, 1);
    struct pawl_wire_kill kill = {.queue = QUEUE, .slot = begun.slot, .generation = begun.generation + 1};
    tell(PAWL_WIRE_KILL, &kill, sizeof kill, NULL, 0); /* another attempt's: it would end by SIGKILL */
    kill.generation = begun.generation;
    kill.queue = QUEUE + 1;
    tell(PAWL_WIRE_KILL, &kill, sizeof kill, NULL, 0);
    kill.queue = QUEUE;
    kill.slot++;
    tell(PAWL_WIRE_KILL, &kill, sizeof kill, NULL, 0);
    kill.slot--;
    kill.grace_ns = 20000000000;
    tell(PAWL_WIRE_KILL, &kill, sizeof kill, NULL, 0);
    struct pawl_settlement result = expect_settlement(PAWL_SETTLE_RESULT, NULL, 0);
    cr_expect(eq(int, result.outcome, PAWL_OUTCOME_KILLED));
    cr_expect(eq(int, result.exit_code, 7));
}

Test(worker, existing_attempt_directory_raises_the_attempt_everywhere)
{
    char path[200], text[100];
    begin();
    snprintf(path, sizeof path, "mkdir -p %s/runs/run-1/work/s.1 %s/runs/run-1/work/s.2", state, state);
    cr_assert(eq(int, system(path), 0));
    place_shell("echo $PAWL_ATTEMPT ${PAWL_DIR##*/}; ls -A $PAWL_DIR", 0);
    cr_expect(eq(u32, expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0).attempt, 3));
    cr_expect(eq(u32, expect_settlement(PAWL_SETTLE_RESULT, text, sizeof text).attempt, 3));
    cr_expect(eq(str, text, "3 s.3\n"));
}

Test(worker, task_that_does_not_hold_is_dropped)
{
    uint64_t junk[16] = {1, 2, 3};
    begin();
    place_bytes(junk, sizeof junk, 0, 1);
    publish();
    struct pawl_settlement dropped = expect_settlement(PAWL_SETTLE_DROPPED, NULL, 0);
    cr_expect(eq(int, dropped.exit_code, -10006));
    place_noops(1); /* and the worker goes on */
    expect_settlement(PAWL_SETTLE_RESULT, NULL, 0);
}

Test(worker, outsized_task_is_read_from_the_segment_that_was_announced_last)
{
    static char large[1200000], text[100];
    begin();
    memset(large, 'a', sizeof large - 1);
    for (int i = 0; i < 3; i++) { /* each takes the id of the one before */
        large[0] = (char)('1' + i);
        const char *const argv[] = {"head", "-c", "5"};
        const struct pawl_task_spec spec = {.kind = PAWL_TASK_EXEC,
                                            .run_id = "run-1",
                                            .step = "s",
                                            .argv = argv,
                                            .argc = 3,
                                            .stdin_kind = PAWL_STDIN_BYTES,
                                            .stdin_data = large,
                                            .stdin_bytes = sizeof large};
        place(&spec, 0);
        publish();
        expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
        struct pawl_settlement result = expect_settlement(PAWL_SETTLE_RESULT, text, sizeof text);
        cr_expect(eq(chr, text[0], (char)('1' + i)));
        pawl_log_pool_release(&pool, ring.memory->descriptor[result.slot].log_segment);
    }
}

Test(worker, leaving_ends_the_job_first_and_exit_is_clean)
{
    char fifo[128], script[192];
    snprintf(fifo, sizeof fifo, "%s/fifo", state);
    cr_assert(zero(int, mkfifo(fifo, 0600)));
    snprintf(script, sizeof script, "read go <%s", fifo);
    begin();
    place_shell(script, 0);
    expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    tell(PAWL_WIRE_LEAVE, NULL, 0, NULL, 0);
    let_go(fifo);
    expect_message(PAWL_WIRE_LEFT, 0);
    cr_expect(eq(i64, (int64_t)pawl_ring_peek(&lane.ring), 1), "its end is told of before");
    expect_settlement(PAWL_SETTLE_RESULT, NULL, 0);
    place_noops(1); /* not for this worker any more */
    tell(PAWL_WIRE_EXIT, NULL, 0, NULL, 0);
    int status;
    cr_assert(eq(int, waitpid(worker_pid, &status, 0), worker_pid));
    cr_expect(eq(int, status, 0));
    cr_expect(eq(int, pawl_delivery_ring_look(&ring, 1).state, PAWL_CLAIM_READY));
}

Test(worker, sigterm_takes_the_jobs_group_along)
{
    int pipe_fd[2];
    char script[200];
    begin();
    snprintf(script, sizeof script, "%s/held", state);
    cr_assert(eq(int, mkfifo(script, 0600), 0));
    pipe_fd[0] = open(script, O_RDONLY | O_NONBLOCK);
    snprintf(script, sizeof script, "exec 3>%s/held; echo x >&3; sleep 60 & trap '' TERM; sleep 60", state);
    place_shell(script, 0);
    char byte[4];
    struct pollfd readable = {.fd = pipe_fd[0], .events = POLLIN};
    poll(&readable, 1, -1);
    cr_assert(eq(int, (int)read(pipe_fd[0], byte, 4), 2));
    kill(worker_pid, SIGTERM);
    int status;
    cr_assert(eq(int, waitpid(worker_pid, &status, 0), worker_pid));
    cr_expect(eq(int, WEXITSTATUS(status), 143));
    fcntl(pipe_fd[0], F_SETFL, 0);
    cr_expect(eq(int, (int)read(pipe_fd[0], byte, 1), 0)); /* nobody holds the other end */
}

Test(worker, running_job_survives_the_scheduler_and_is_adopted)
{
    char path[200], text[100];
    begin();
    snprintf(path, sizeof path, "until [ -e %s/go ]; do sleep 0.01; done; echo done", state);
    place_shell(path, 0);
    struct pawl_settlement begun = expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    lose_scheduler();

    accept_worker();
    const struct pawl_wire_offer *offer = expect_message(PAWL_WIRE_OFFER, sizeof *offer);
    cr_expect(eq(str, (char *)offer->run_id, "run-1"));
    cr_expect(eq(u32, offer->step, 2));
    cr_expect(eq(u64, offer->instance, 0));
    cr_expect(eq(u32, offer->attempt, 1));
    cr_expect(eq(u32, offer->ended, 0));
    cr_expect(eq(u64, offer->epoch, 1));
    cr_expect(eq(u64, offer->started_at_ns, begun.started_at_ns));
    cr_expect(eq(int, kill((pid_t)offer->pid, 0), 0));
    const struct pawl_wire_adopt adopt = {.number = offer->number, .keep = 1, .ticket = 77, .queue = QUEUE};
    expect_message(PAWL_WIRE_OFFERS_END, 0);
    tell(PAWL_WIRE_ADOPT, &adopt, sizeof adopt, NULL, 0);
    give_queue();
    snprintf(path, sizeof path, "%s/go", state);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    struct pawl_settlement result = expect_settlement(PAWL_SETTLE_RESULT, text, sizeof text);
    cr_expect(eq(u32, result.slot, PAWL_SLOT_ADOPTED));
    cr_expect(eq(u32, result.generation, 77));
    cr_expect(eq(u32, result.queue, QUEUE));
    cr_expect(eq(str, text, "done\n"));
    place_noops(1); /* and it works for the new one */
    expect_settlement(PAWL_SETTLE_RESULT, NULL, 0);
}

Test(worker, job_that_ends_while_no_scheduler_is_there_is_offered_with_its_result)
{
    char path[200];
    begin();
    snprintf(path, sizeof path, "until [ -e %s/go ]; do sleep 0.01; done; printf result", state);
    place_shell(path, 0);
    expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    uint64_t job;
    while ((job = shown_job()) == 0) /* it is told before it is started */
        poll(NULL, 0, 1);
    lose_scheduler();
    snprintf(path, sizeof path, "%s/go", state);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    while (kill((pid_t)job, 0) == 0)
        poll(NULL, 0, 1);
    accept_worker();
    struct ended_offer body = expect_ended_offer(); /* reaped before the new scheduler said a word */
    cr_expect(eq(int, body.settlement.outcome, PAWL_OUTCOME_EXITED));
    cr_expect(eq(int, memcmp(body.bytes, "result", 6), 0));
    expect_message(PAWL_WIRE_OFFERS_END, 0);
}

Test(worker, results_that_were_not_durable_are_offered_until_they_are)
{
    begin();
    place_shell("printf first", 0);
    expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    expect_settlement(PAWL_SETTLE_RESULT, NULL, 0);
    make_durable();
    place_shell("printf second; exit 4", 1);
    expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    expect_settlement(PAWL_SETTLE_RESULT, NULL, 0);
    for (int times = 0; times < 2; times++) { /* the second scheduler dies before it is durable there too */
        lose_scheduler();
        accept_worker();
        struct ended_offer body = expect_ended_offer(); /* the first was settled: no offer of it */
        cr_expect(eq(u64, body.offer.instance, 1));
        cr_expect(eq(u64, body.offer.epoch, 1));
        cr_expect(eq(int, body.settlement.exit_code, 4));
        cr_expect(eq(int, memcmp(body.bytes, "second", 6), 0));
        expect_message(PAWL_WIRE_OFFERS_END, 0);
        adopt(body.offer.number, 8);
        give_queue();
        char text[16];
        struct pawl_settlement result = expect_settlement(PAWL_SETTLE_RESULT, text, sizeof text);
        cr_expect(eq(u32, result.slot, PAWL_SLOT_ADOPTED));
        cr_expect(eq(u32, result.generation, 8));
        cr_expect(eq(int, result.exit_code, 4));
        cr_expect(eq(int, memcmp(text, "second", 6), 0));
    }
    make_durable();
    place_shell("true", 2); /* the worker looks at what is durable when it has something to do */
    expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    expect_settlement(PAWL_SETTLE_RESULT, NULL, 0);
    lose_scheduler();
    accept_worker();
    const struct pawl_wire_offer *offer = expect_message(PAWL_WIRE_OFFER, sizeof *offer);
    cr_expect(eq(u64, offer->instance, 2));
    expect_message(PAWL_WIRE_OFFERS_END, 0);
}

Test(worker, job_that_ends_between_offer_and_adoption_reports_by_the_lane)
{
    char path[200], text[16];
    begin();
    snprintf(path, sizeof path, "until [ -e %s/go ]; do sleep 0.01; done; printf result", state);
    place_shell(path, 0);
    expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    while (shown_job() == 0)
        poll(NULL, 0, 1);
    lose_scheduler();
    accept_worker();
    const struct pawl_wire_offer *offer = expect_message(PAWL_WIRE_OFFER, sizeof *offer);
    uint32_t number = offer->number;
    pid_t job = (pid_t)offer->pid;
    cr_expect(eq(u32, offer->ended, 0));
    expect_message(PAWL_WIRE_OFFERS_END, 0);
    snprintf(path, sizeof path, "%s/go", state);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    while (kill(job, 0) == 0)
        poll(NULL, 0, 1);
    adopt(number, 5);
    struct pawl_settlement result = expect_settlement(PAWL_SETTLE_RESULT, text, sizeof text);
    cr_expect(eq(u32, result.slot, PAWL_SLOT_ADOPTED));
    cr_expect(eq(u32, result.generation, 5));
    cr_expect(eq(str, text, "result"));
}

Test(worker, refused_offer_kills_the_job_and_is_forgotten)
{
    begin();
    place_shell("trap '' TERM; sleep 60", 0);
    expect_settlement(PAWL_SETTLE_BEGUN, NULL, 0);
    lose_scheduler();
    accept_worker();
    const struct pawl_wire_offer *offer = expect_message(PAWL_WIRE_OFFER, sizeof *offer);
    pid_t pid = (pid_t)offer->pid;
    const struct pawl_wire_adopt adopt = {.number = offer->number, .keep = 0};
    expect_message(PAWL_WIRE_OFFERS_END, 0);
    tell(PAWL_WIRE_ADOPT, &adopt, sizeof adopt, NULL, 0);
    give_queue();
    place_noops(1); /* the first thing that this scheduler hears is the next work */
    cr_expect(eq(u32, expect_settlement(PAWL_SETTLE_RESULT, NULL, 0).slot, 0));
    cr_expect(eq(int, kill(pid, 0), -1));
}

Test(worker, nothing_is_claimed_from_the_ring_of_a_lost_scheduler)
{
    begin();
    while (!atomic_load(&pawl_lane_memory_of(&lane.segment)->sleeping))
        poll(NULL, 0, 1);
    pawl_wire_fini(&wire);
    accept_worker(); /* it has noticed */
    expect_message(PAWL_WIRE_OFFERS_END, 0);
    uint32_t slot, generation;
    struct pawl_descriptor descriptor = {0};
    cr_assert(eq(int, pawl_delivery_ring_place(&ring, &descriptor, 0, &slot, &generation), 0));
    pawl_delivery_ring_publish(&ring);
    struct pawl_delivery_ring old = ring;
    give_queue();
    place_noops(1);
    expect_settlement(PAWL_SETTLE_RESULT, NULL, 0);
    cr_expect(eq(int, pawl_delivery_ring_look(&old, slot).state, PAWL_CLAIM_READY));
}
