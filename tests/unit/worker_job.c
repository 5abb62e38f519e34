/*
 * worker_job.c - a task becomes a process with all that was promised to it, and its end becomes a verdict.
 */
#include "workers/job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shm/clock.h"
#include "shm/error.h"

static char state[64];
static struct pawl_job_host host;
static struct pawl_job job;
static struct pawl_settlement settlement;
static struct pawl_captured captured;
static struct pawl_task_spec spec;
static const char *argv[8];
static uint64_t packed[(1 << 20) / 8];

static void set_up(void)
{
    umask(077);
    strcpy(state, "/tmp/pawl-job-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(state), NULL));
    cr_assert(
        eq(int, pawl_job_host_open(&host, open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC), state, 1), 0));
    const char *const env[] = {"PATH=/usr/bin:/bin", "FROM=context", NULL};
    struct pawl_context_spec context = {.run_id = "run-1", .dir = "/usr", .env = env, .umask = 027};
    for (int i = 0; i < (int)RLIM_NLIMITS; i++)
        getrlimit((__rlimit_resource_t)i, &context.limits[i]);
    context.limits[RLIMIT_NOFILE].rlim_cur = 100;
    int64_t n = pawl_context_pack(&context, packed, sizeof packed);
    cr_assert(ge(i64, n, 1));
    cr_assert(eq(int, pawl_job_host_set_queue(&host, packed, (size_t)n, "mark:1", 42), 0));
    spec = (struct pawl_task_spec){
        .kind = PAWL_TASK_EXEC, .run_id = "run-1", .step = "s", .argv = argv, .grace_ns = 1000000000};
}

static void tear_down(void)
{
    char command[100];
    pawl_job_host_close(&host, 0);
    snprintf(command, sizeof command, "rm -rf %s", state);
    cr_expect(eq(int, system(command), 0));
}

TestSuite(job, .init = set_up, .fini = tear_down, .timeout = 300);

/* 0: it runs. */
static int start(uint32_t argc)
{
    struct pawl_task task;
    spec.argc = argc;
    int64_t n = pawl_task_pack(&spec, packed, sizeof packed);
    cr_assert(ge(i64, n, 1));
    cr_assert(eq(int, pawl_task_open(packed, (size_t)n, &task), 0));
    int error = pawl_job_prepare(&host, &job, &task, "run-1", 6, spec.item != NULL, 1, 0, 1000,
                                 pawl_clock_monotonic_ns(), &settlement, &captured);
    return error < 0 ? error : pawl_job_spawn(&host, &job, job.started_ns, false, &settlement, &captured);
}

static void await(void)
{
    struct pollfd ready = {.fd = job.exec.pidfd, .events = POLLIN};
    cr_assert(eq(int, poll(&ready, 1, -1), 1));
    pawl_job_finish(&host, &job, pawl_clock_monotonic_ns(), &settlement, &captured);
    captured.bytes[settlement.arena_bytes] = '\0';
}

static const char *run_shell(const char *script)
{
    argv[0] = "sh", argv[1] = "-c", argv[2] = script;
    cr_assert(eq(int, start(3), 0));
    await();
    return (const char *)captured.bytes;
}

Test(job, process_gets_directory_environment_umask_and_limits_of_the_submitter)
{
    static const char *const env[] = {"ADDED=task"};
    spec.env = env, spec.envc = 1;
    const char *text = run_shell("pwd; umask; ulimit -n; echo $FROM $ADDED $PAWL_RUN $PAWL_STEP $PAWL_INDEX "
                                 "$PAWL_ATTEMPT ${PAWL_ITEM-none}");
    cr_expect(eq(str, (char *)text, "/usr\n0027\n100\ncontext task run-1 s 6 1 none\n"));
    spec.dir = "bin"; /* below the submitter's */
    cr_expect(eq(str, (char *)run_shell("pwd"), "/usr/bin\n"));
    spec.dir = "/etc";
    cr_expect(eq(str, (char *)run_shell("pwd"), "/etc\n"));
}

Test(job, stdin_is_empty_bytes_or_a_file_and_bytes_of_one_task_end_with_it)
{
    cr_expect(eq(str, (char *)run_shell("cat; echo end"), "end\n"));
    spec.stdin_kind = PAWL_STDIN_BYTES;
    spec.stdin_data = "long input\n", spec.stdin_bytes = 11;
    cr_expect(eq(str, (char *)run_shell("cat"), "long input\n"));
    spec.stdin_data = "short", spec.stdin_bytes = 5;
    cr_expect(eq(str, (char *)run_shell("cat"), "short"));
    cr_expect(
        eq(str, (char *)run_shell("head -c 2; echo x 2>/dev/null >&0"), "sh")); /* it cannot write there */
    spec.stdin_bytes = 0;
    cr_expect(eq(str, (char *)run_shell("cat"), ""));
    char path[100];
    snprintf(path, sizeof path, "%s/input", state);
    FILE *file = fopen(path, "w");
    fputs("from file", file);
    fclose(file);
    spec.stdin_kind = PAWL_STDIN_FILE;
    spec.stdin_data = path, spec.stdin_bytes = strlen(path);
    cr_expect(eq(str, (char *)run_shell("cat"), "from file"));
    spec.stdin_data = "input", spec.stdin_bytes = 5; /* below the state directory */
    cr_expect(eq(str, (char *)run_shell("cat"), "from file"));
    spec.stdin_data = "nothing", spec.stdin_bytes = 7;
    argv[0] = "cat";
    cr_expect(eq(int, start(1), -ENOENT));
    cr_expect(eq(int, settlement.outcome, PAWL_OUTCOME_SPAWN_FAILED));
}

Test(job, slot_number_is_inserted_where_it_is_asked_for)
{
    static const struct pawl_slot_patch patches[] = {{1, 0}, {3, 1}, {3, 1}, {3, 3}};
    argv[0] = "printf", argv[1] = "%s|%s|%s\\n", argv[2] = "plain", argv[3] = "abc", argv[4] = "";
    spec.patches = patches, spec.patch_count = 4;
    cr_assert(eq(int, start(5), 0));
    await();
    cr_expect(eq(str, (char *)captured.bytes, "42plain|a4242bc42|\n"));
}

Test(job, attempt_directory_is_empty_writable_and_kept_when_used)
{
    char path[200];
    const char *text = run_shell("cd \"$PAWL_DIR\" && ls -A && echo kept >file && basename \"$PWD\"");
    cr_expect(eq(str, (char *)text, "s.1\n"));
    cr_expect(eq(int, settlement.flags, PAWL_SETTLE_KEPT_DIR));
    snprintf(path, sizeof path, "%s/runs/run-1/work/s.1/file", state);
    cr_expect(eq(int, access(path, F_OK), 0));
    spec.item = "it", spec.item_bytes = 2;
    cr_expect(eq(str, (char *)run_shell("basename \"$PAWL_DIR\"; echo $PAWL_ITEM"), "s.6.1\nit\n"));
    cr_expect(eq(int, settlement.flags, 0));
}

Test(job, missing_program_names_what_was_searched)
{
    argv[0] = "no-such-tool";
    cr_expect(eq(int, start(1), -ENOENT));
    cr_expect(eq(int, settlement.type, PAWL_SETTLE_RESULT));
    cr_expect(eq(int, settlement.outcome, PAWL_OUTCOME_SPAWN_FAILED));
    cr_expect(eq(int, settlement.exit_code, ENOENT));
    cr_expect(eq(u32, settlement.stdout_bytes, 0));
    captured.bytes[settlement.stderr_bytes] = '\0';
    cr_expect(eq(str, (char *)captured.bytes,
                 "cannot start no-such-tool: No such file or directory (searched /usr/bin:/bin)\n"));
    cr_expect(eq(str, (char *)run_shell("echo next"), "next\n")); /* the host is as it was */
    spec.dir = "/no/such/place";
    argv[0] = "true";
    cr_expect(eq(int, start(1), -ENOENT));
    captured.bytes[settlement.stderr_bytes] = '\0';
    cr_expect(eq(str, (char *)captured.bytes, "cannot enter /no/such/place: No such file or directory\n"));
}

Test(job, names_that_are_paths_are_refused)
{
    cr_expect(pawl_job_is_plain_name("a.b_c-1"));
    cr_expect(eq(int, pawl_job_is_plain_name("../up"), 0));
    cr_expect(eq(int, pawl_job_is_plain_name(".."), 0));
    cr_expect(eq(int, pawl_job_is_plain_name(""), 0));
    spec.step = "a/b";
    argv[0] = "true";
    cr_expect(eq(int, start(1), -EINVAL));
    cr_expect(eq(int, settlement.outcome, PAWL_OUTCOME_SPAWN_FAILED));
}

Test(job, timeout_is_a_verdict_of_its_own)
{
    argv[0] = "sleep", argv[1] = "60";
    spec.timeout_ns = 5000;
    cr_assert(eq(int, start(2), 0));
    cr_expect(eq(u64, pawl_job_tick(&host, &job, job.started_ns + 4999), job.started_ns + 5000));
    pawl_job_tick(&host, &job, job.started_ns + 5000);
    await();
    cr_expect(eq(int, settlement.outcome, PAWL_OUTCOME_TIMED_OUT));
    cr_expect(eq(int, settlement.exit_code, SIGTERM));
}

Test(job, output_limit_is_found_while_it_runs_and_at_the_end)
{
    char path[200];
    struct stat status;
    spec.output_bytes_max = 100000;
    argv[0] = "sh", argv[1] = "-c", argv[2] = "head -c 100001 /dev/zero; sleep 60";
    cr_assert(eq(int, start(3), 0));
    while (pawl_capture_bytes(&host.capture) <= 100000)
        poll(NULL, 0, 1);
    cr_expect(eq(u64, pawl_job_tick(&host, &job, job.started_ns + 1), job.look_at_ns)); /* not yet */
    cr_expect(eq(int, job.exec.end, PAWL_EXEC_END_NONE));
    pawl_job_tick(&host, &job, job.look_at_ns);
    await();
    cr_expect(eq(int, settlement.outcome, PAWL_OUTCOME_OUTPUT_LIMIT));
    snprintf(path, sizeof path, "%s/runs/run-1/out/s.1.out", state);
    cr_assert(eq(int, stat(path, &status), 0));
    cr_expect(eq(i64, status.st_size, 100000));

    run_shell("head -c 100001 /dev/zero");
    cr_expect(eq(int, settlement.outcome, PAWL_OUTCOME_OUTPUT_LIMIT));
    run_shell("head -c 100000 /dev/zero");
    cr_expect(eq(int, settlement.outcome, PAWL_OUTCOME_EXITED));
    cr_expect(eq(int, settlement.flags, PAWL_SETTLE_STDOUT_FILE));
}

Test(job, fast_growing_output_is_looked_at_sooner)
{
    spec.output_bytes_max = 1000000;
    argv[0] = "sh", argv[1] = "-c", argv[2] = "head -c 900000 /dev/zero; sleep 60";
    cr_assert(eq(int, start(3), 0));
    while (pawl_capture_bytes(&host.capture) < 900000)
        poll(NULL, 0, 1);
    uint64_t first = job.look_at_ns;
    uint64_t next = pawl_job_tick(&host, &job, first);
    cr_expect(lt(u64, next - first, 20000000)); /* 100,000 bytes are left of 900,000 in 250 ms */
    next = pawl_job_tick(&host, &job, next + 1000000000);
    cr_expect(ge(u64, next, first + 1900000000)); /* it has stopped growing: a second */
    pawl_exec_stop(&job.exec, PAWL_EXEC_END_KILL, next, 0);
    await();
    cr_expect(eq(int, settlement.outcome, PAWL_OUTCOME_KILLED));
}

Test(job, output_that_cannot_be_kept_fails_a_success_but_hides_no_failure)
{
    const char *too_much = "head -c 20000 /dev/zero >$PAWL_OUTPUT; exit ";
    char script[100];
    snprintf(script, sizeof script, "%s0", too_much);
    run_shell(script);
    cr_expect(eq(int, settlement.outcome, PAWL_OUTCOME_CAPTURE));
    cr_expect(eq(int, settlement.exit_code, EFBIG));
    snprintf(script, sizeof script, "%s5", too_much);
    run_shell(script);
    cr_expect(eq(int, settlement.outcome, PAWL_OUTCOME_EXITED));
    cr_expect(eq(int, settlement.exit_code, 5));
}

Test(job, background_process_in_a_session_of_its_own_does_not_mix_into_the_next_task)
{
    char fifo[100], script[300];
    snprintf(fifo, sizeof fifo, "%s/fifo", state);
    cr_assert(eq(int, mkfifo(fifo, 0600), 0));
    int go = open(fifo, O_RDWR);
    snprintf(script, sizeof script,
             "setsid sh -c 'read x <%s; echo late; echo late >&2; echo done >%s/done' & echo own", fifo,
             state);
    cr_expect(eq(str, (char *)run_shell(script), "own\n"));
    argv[0] = "sh", argv[1] = "-c";
    snprintf(script, sizeof script, "echo go >%s; until [ -e %s/done ]; do sleep 0.01; done; echo second",
             fifo, state);
    cr_expect(eq(str, (char *)run_shell(script), "second\n"));
    close(go);
}
