/*
 * worker_bell.c - when a worker wakes its scheduler, and when it wakes up itself.
 */
#include "tests/unit/worker_support.h"

TestSuite(worker_bell, .init = set_up, .fini = tear_down, .timeout = 300);

Test(worker_bell,
     scheduler_that_looks_soon_is_woken_for_a_failure_and_when_work_is_used_up_but_for_nothing_else)
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

Test(worker_bell, bell_of_an_awake_scheduler_is_not_rung)
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

Test(worker_bell, idle_worker_does_not_wake_up)
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

Test(worker_bell, running_job_is_told_after_five_milliseconds)
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

Test(worker_bell, no_bell_is_rung_for_what_was_taken_without_one)
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
