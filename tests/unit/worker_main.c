/*
 * worker_main.c - a whole worker process: the jobs it runs, what it reports of them, and how it leaves.
 */
#include "tests/unit/worker_support.h"

TestSuite(worker, .init = set_up, .fini = tear_down, .timeout = 300);

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
