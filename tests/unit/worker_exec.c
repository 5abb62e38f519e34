/*
 * worker_exec.c - processes are started, ended and reaped as asked.
 */
#include "workers/exec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "workers/program.h"

enum { ARGS_MAX = 16 };

struct fixture {
    char *argv[ARGS_MAX + 2];
    char *envp[4];
    struct pawl_exec_spec spec;
    struct pawl_exec exec;
    struct pawl_exec_failure failure;
    int out_fd;
};

static void prepare(struct fixture *f, const char *program, ...)
{
    memset(f, 0, sizeof *f);
    f->out_fd = memfd_create("out", MFD_CLOEXEC);
    f->argv[1] = (char *)(uintptr_t)program;
    f->envp[0] = (char *)(uintptr_t) "PATH=/usr/bin:/bin";
    f->spec = (struct pawl_exec_spec){
        .program = program,
        .argv = f->argv + 1,
        .envp = f->envp,
        .stdin_fd = open("/dev/null", O_RDONLY | O_CLOEXEC),
        .stdout_fd = f->out_fd,
        .stderr_fd = f->out_fd,
        .umask = 022,
    };
}

static void prepare_shell(struct fixture *f, const char *script)
{
    prepare(f, "/bin/sh");
    f->argv[2] = (char *)(uintptr_t) "-c";
    f->argv[3] = (char *)(uintptr_t)script;
}

static void spawn(struct fixture *f)
{
    cr_assert(eq(int, pawl_exec_spawn(&f->spec, &f->exec, &f->failure), 0));
}

/* Waits for the job; the test's own time limit bounds it. */
static struct pawl_exec_status finish(struct fixture *f)
{
    struct pawl_exec_status status;
    struct pollfd ready = {.fd = f->exec.pidfd, .events = POLLIN};
    cr_assert(eq(int, poll(&ready, 1, -1), 1));
    cr_assert(eq(int, pawl_exec_reap(&f->exec, &status), 0));
    return status;
}

static const char *output(struct fixture *f)
{
    static char text[200000];
    ssize_t n = pread(f->out_fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

TestSuite(exec, .timeout = 300);

Test(exec, exit_code_is_reported)
{
    struct fixture f;
    prepare_shell(&f, "exit 42");
    spawn(&f);
    struct pawl_exec_status status = finish(&f);
    cr_expect(eq(int, status.signalled, 0));
    cr_expect(eq(int, status.code, 42));
    cr_expect(eq(int, status.end, PAWL_EXEC_END_NONE));
    cr_expect(eq(int, status.group_lives, 0));
}

Test(exec, signal_is_reported)
{
    struct fixture f;
    prepare_shell(&f, "kill -SEGV $$");
    spawn(&f);
    struct pawl_exec_status status = finish(&f);
    cr_expect(eq(int, status.signalled, 1));
    cr_expect(eq(int, status.code, SIGSEGV));
}

Test(exec, job_is_its_own_process_group)
{
    struct fixture f;
    prepare_shell(&f, "read -r _ _ _ _ pgrp _ </proc/$$/stat; [ \"$pgrp\" = $$ ]");
    spawn(&f);
    cr_expect(eq(int, finish(&f).code, 0));
}

Test(exec, job_gets_sigkill_when_the_worker_dies)
{
    int pipe_fd[2];
    cr_assert(eq(int, pipe2(pipe_fd, O_CLOEXEC), 0));
    pid_t worker = fork();
    if (worker == 0) {
        struct fixture f;
        prepare(&f, "/bin/sleep");
        f.argv[2] = (char *)(uintptr_t) "60";
        f.spec.stdout_fd = pipe_fd[1];
        if (pawl_exec_spawn(&f.spec, &f.exec, &f.failure) == 0)
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    close(pipe_fd[1]);
    waitpid(worker, NULL, 0);
    char byte;
    cr_expect(eq(int, (int)read(pipe_fd[0], &byte, 1), 0)); /* end of file: the sleeper holds it no more */
}

Test(exec, job_starts_with_an_empty_signal_mask_and_default_sigterm)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    struct fixture f;
    prepare(&f, "/bin/grep"); /* a shell would clear the mask itself */
    f.argv[2] = (char *)(uintptr_t) "SigBlk";
    f.argv[3] = (char *)(uintptr_t) "/proc/self/status";
    spawn(&f);
    finish(&f);
    cr_expect(eq(str, (char *)(uintptr_t)output(&f), "SigBlk:\t0000000000000000\n"));
}

Test(exec, job_sees_three_descriptors_only)
{
    struct fixture f;
    int open_on_purpose = dup2(1, 77); /* not close-on-exec */
    cr_assert(eq(int, open_on_purpose, 77));
    prepare_shell(&f, "cd /proc/self/fd && echo *");
    spawn(&f);
    finish(&f);
    /* The shell itself looks: 0, 1, 2, and the directory that it reads. */
    cr_expect(eq(str, (char *)(uintptr_t)output(&f), "0 1 2 3\n"));
}

Test(exec, descriptors_that_stand_in_each_others_place_are_untangled)
{
    struct fixture f;
    prepare_shell(&f, "echo to-out; echo to-err >&2; cat");
    int in = memfd_create("in", MFD_CLOEXEC), err = memfd_create("err", MFD_CLOEXEC);
    cr_assert(eq(int, (int)pwrite(in, "from-in\n", 8, 0), 8));
    pid_t pid = fork(); /* Criterion's own 0..2 stay untouched */
    if (pid == 0) {
        dup2(f.out_fd, 0);
        dup2(err, 1);
        dup2(in, 2);
        f.spec.stdin_fd = 2, f.spec.stdout_fd = 0, f.spec.stderr_fd = 1;
        struct pawl_exec_status status;
        if (pawl_exec_spawn(&f.spec, &f.exec, &f.failure) < 0 || pawl_exec_reap(&f.exec, &status) < 0)
            _exit(1);
        _exit(status.code);
    }
    int status;
    waitpid(pid, &status, 0);
    cr_expect(eq(int, status, 0));
    cr_expect(eq(str, (char *)(uintptr_t)output(&f), "to-out\nfrom-in\n"));
    char text[16] = "";
    cr_assert(eq(int, (int)pread(err, text, 15, 0), 7));
    cr_expect(eq(str, text, "to-err\n"));
}

Test(exec, directory_umask_niceness_and_limits_are_applied)
{
    static struct rlimit limits[RLIM_NLIMITS];
    limits[RLIMIT_NOFILE] = (struct rlimit){64, 128};
    limits[RLIMIT_CORE] = (struct rlimit){0, 0};
    struct fixture f;
    prepare_shell(&f, "pwd; umask; nice; ulimit -n; ulimit -Hn");
    f.spec.directory = "/usr/bin";
    f.spec.umask = 0137;
    f.spec.set_nice = true;
    f.spec.nice = getpriority(PRIO_PROCESS, 0) < 7 ? 7 : 19; /* a plain user cannot take niceness back */
    f.spec.limit_mask = 1u << RLIMIT_NOFILE | 1u << RLIMIT_CORE;
    f.spec.limits = limits;
    spawn(&f);
    finish(&f);
    char expected[64];
    snprintf(expected, sizeof expected, "/usr/bin\n0137\n%d\n64\n128\n", f.spec.nice);
    cr_expect(eq(str, (char *)(uintptr_t)output(&f), (char *)expected));
}

Test(exec, hundred_thousand_byte_argument_with_any_bytes_passes_unchanged)
{
    static char argument[100001];
    for (size_t i = 0; i < 100000; i++)
        argument[i] = (char)(1 + i % 255); /* newlines, invalid UTF-8, everything but NUL */
    struct fixture f;
    prepare(&f, "/usr/bin/printf");
    f.argv[2] = (char *)(uintptr_t) "%s";
    f.argv[3] = argument;
    spawn(&f);
    cr_expect(eq(int, finish(&f).code, 0));
    cr_expect(eq(int, memcmp(output(&f), argument, 100001), 0));
}

Test(exec, too_many_bytes_of_arguments_fail_with_e2big)
{
    static char argument[200000];
    memset(argument, 'x', sizeof argument - 1); /* one string may be 128 KiB */
    struct fixture f;
    prepare(&f, "/bin/true");
    f.argv[2] = argument;
    cr_assert(eq(int, pawl_exec_spawn(&f.spec, &f.exec, &f.failure), -E2BIG));
    cr_expect(eq(int, f.failure.step, PAWL_EXEC_PROGRAM));
    char text[300];
    pawl_exec_failure_text(&f.failure, "true", NULL, NULL, text, sizeof text);
    cr_expect(ne(ptr, strstr(text, "cannot start true: Argument list too long"), NULL));
    cr_expect(eq(int, waitpid(-1, NULL, WNOHANG), -1)); /* nothing is left behind */
}

Test(exec, missing_program_and_directory_have_clear_words)
{
    char path[PATH_MAX], text[300];
    cr_expect(eq(int, pawl_program_find("no-such-program", "/usr/bin:/bin", NULL, path), -ENOENT));
    struct pawl_exec_failure failure = {.step = PAWL_EXEC_PROGRAM, .error = ENOENT};
    pawl_exec_failure_text(&failure, "no-such-program", NULL, "/usr/bin:/bin", text, sizeof text);
    cr_expect(
        eq(str, text, "cannot start no-such-program: No such file or directory (searched /usr/bin:/bin)\n"));

    struct fixture f;
    prepare(&f, "/bin/true");
    f.spec.directory = "/no/such/directory";
    cr_assert(eq(int, pawl_exec_spawn(&f.spec, &f.exec, &f.failure), -ENOENT));
    pawl_exec_failure_text(&f.failure, "true", f.spec.directory, NULL, text, sizeof text);
    cr_expect(eq(str, text, "cannot enter /no/such/directory: No such file or directory\n"));
}

Test(exec, name_of_a_missing_program_ends_the_text_however_long_path_is)
{
    struct pawl_exec_failure failure = {.step = PAWL_EXEC_PROGRAM, .error = ENOENT};
    static char search[9000], text[8192];
    static const char last[] = "\ncannot start no-such-program: No such file or directory\n";
    for (size_t n = 300; n < sizeof search; n += 4300) {
        memset(search, 'p', n);
        search[n] = '\0';
        int length = pawl_exec_failure_text(&failure, "no-such-program", NULL, search, text, sizeof text);
        cr_assert(eq(int, length, (int)strlen(text)));
        cr_expect(eq(int, strncmp(text, "searched ppp", 12), 0));
        cr_expect(eq(str, text + length - (sizeof last - 1), (char *)last));
    }
}

Test(exec, script_without_interpreter_line_runs_in_sh)
{
    char path[] = "/tmp/pawl-script-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, dprintf(fd, "echo \"$1\"; exit 9\n"), 18));
    fchmod(fd, 0755);
    close(fd);
    struct fixture f;
    prepare(&f, path);
    f.argv[2] = (char *)(uintptr_t) "hello";
    spawn(&f);
    cr_expect(eq(int, finish(&f).code, 9));
    cr_expect(eq(str, (char *)(uintptr_t)output(&f), "hello\n"));
    unlink(path);
}

Test(exec, timeout_sends_sigterm_then_sigkill_after_grace)
{
    struct fixture f;
    prepare_shell(&f, "trap '' TERM; echo ready; while :; do sleep 0.01; done");
    spawn(&f);
    while (!strstr(output(&f), "ready"))
        poll(NULL, 0, 1);
    pawl_exec_set_timeout(&f.exec, 1000, 500, 300);
    cr_expect(eq(u64, pawl_exec_tick(&f.exec, 1499), 1500));
    cr_expect(eq(u64, pawl_exec_tick(&f.exec, 1500), 1800)); /* SIGTERM, which it ignores */
    cr_expect(eq(u64, pawl_exec_tick(&f.exec, 1799), 1800));
    cr_expect(eq(int, kill(f.exec.pid, 0), 0));
    cr_expect(eq(u64, pawl_exec_tick(&f.exec, 1800), UINT64_MAX));
    struct pawl_exec_status status = finish(&f);
    cr_expect(eq(int, status.end, PAWL_EXEC_END_TIMEOUT));
    cr_expect(eq(int, status.signalled, 1));
    cr_expect(eq(int, status.code, SIGKILL));
}

Test(exec, first_reason_to_end_stands_and_the_earlier_kill_wins)
{
    struct fixture f;
    prepare_shell(&f, "trap '' TERM; echo ready; while :; do sleep 0.01; done");
    spawn(&f);
    while (!strstr(output(&f), "ready"))
        poll(NULL, 0, 1);
    pawl_exec_stop(&f.exec, PAWL_EXEC_END_KILL, 0, 1000);
    pawl_exec_stop(&f.exec, PAWL_EXEC_END_TIMEOUT, 0, 5000);
    cr_expect(eq(u64, pawl_exec_tick(&f.exec, 1), 1000));
    pawl_exec_stop(&f.exec, PAWL_EXEC_END_OUTPUT, 1, 0);
    cr_expect(eq(u64, pawl_exec_tick(&f.exec, 2), UINT64_MAX));
    cr_expect(eq(int, finish(&f).end, PAWL_EXEC_END_KILL));
}

Test(exec, stopped_job_ends_on_sigterm)
{
    struct fixture f;
    prepare_shell(&f, "echo ready; kill -STOP $$; sleep 60");
    spawn(&f);
    siginfo_t info;
    cr_assert(eq(int, waitid(P_PIDFD, (id_t)f.exec.pidfd, &info, WSTOPPED | WNOWAIT), 0));
    pawl_exec_stop(&f.exec, PAWL_EXEC_END_KILL, 0, 1000);
    struct pawl_exec_status status = finish(&f);
    cr_expect(eq(int, status.code, SIGTERM));
}

Test(exec, ending_a_job_takes_its_grandchildren_along)
{
    int pipe_fd[2];
    cr_assert(eq(int, pipe2(pipe_fd, O_CLOEXEC), 0));
    struct fixture f;
    prepare_shell(&f, "(trap '' TERM; sleep 60) & echo ready; exec sleep 60");
    f.spec.stdin_fd = pipe_fd[1]; /* held by all of them: end of file tells that none lives */
    spawn(&f);
    close(pipe_fd[1]);
    while (!strstr(output(&f), "ready"))
        poll(NULL, 0, 1);
    pawl_exec_stop(&f.exec, PAWL_EXEC_END_KILL, 0, 60000000000u);
    struct pawl_exec_status status = finish(&f); /* the leader ends by SIGTERM, the rest by SIGKILL */
    cr_expect(eq(int, status.code, SIGTERM));
    char byte;
    cr_expect(eq(int, (int)read(pipe_fd[0], &byte, 1), 0));
}

Test(exec, background_process_of_a_finished_job_lives_on_and_is_told)
{
    struct fixture f;
    prepare_shell(&f, "sleep 60 & echo $!");
    spawn(&f);
    struct pawl_exec_status status = finish(&f);
    cr_expect(eq(int, status.code, 0));
    cr_expect(eq(int, status.group_lives, 1));
    cr_expect(eq(int, kill((pid_t)strtol(output(&f), NULL, 10), SIGKILL), 0));
}

Test(program, first_executable_along_path_is_taken)
{
    char root[] = "/tmp/pawl-path-XXXXXX", path[PATH_MAX], search[200], name[100];
    cr_assert(ne(ptr, mkdtemp(root), NULL));
    snprintf(name, sizeof name, "%s/a", root);
    mkdir(name, 0755);
    snprintf(name, sizeof name, "%s/a/tool", root);
    mkdir(name, 0755); /* a directory of that name is no program */
    snprintf(name, sizeof name, "%s/b", root);
    mkdir(name, 0755);
    snprintf(name, sizeof name, "%s/b/tool", root);
    close(open(name, O_CREAT | O_WRONLY, 0755));
    snprintf(search, sizeof search, "%s/none:%s/a:%s/b:/usr/bin", root, root, root);
    cr_assert(eq(int, pawl_program_find("tool", search, NULL, path), 0));
    cr_expect(eq(str, path, name));
    cr_expect(eq(int, pawl_program_find("dir/tool", search, NULL, path), 0)); /* a slash: taken as it is */
    cr_expect(eq(str, path, "dir/tool"));

    char directory[100];
    snprintf(directory, sizeof directory, "%s/b", root);
    cr_assert(
        eq(int, pawl_program_find("tool", "/nowhere:", directory, path), 0)); /* empty entry: job's dir */
    cr_expect(eq(str, path, "./tool"));
    snprintf(search, sizeof search, "%s/a", root);
    cr_expect(eq(int, pawl_program_find("tool", search, NULL, path), -EACCES));

    unlink(name);
    rmdir(directory);
    snprintf(name, sizeof name, "%s/a/tool", root);
    rmdir(name);
    *strrchr(name, '/') = '\0';
    rmdir(name);
    rmdir(root);
}
