/*
 * bench_exec.c - the floor of running processes.
 *
 * Runs in: the bench command and the slots that it forks. Uses nothing of the workers' room, so that it stays
 * what a bare loop costs.
 */
#include "bench/bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STACK_BYTES = 16 << 10, SPAWN_FAILED = 127 };

struct output {
    int in, out, err;
    char argument[12]; /* as the batch has it: with one, true looks for its messages' language */
};

static _Alignas(64) char stack[STACK_BYTES];

static int load_true(void *argument)
{
    static char name[] = "true";
    struct output *output = argument;
    char *const argv[] = {name, output->argument, NULL};
    if (dup2(output->in, 0) == 0 && dup2(output->out, 1) == 1 && dup2(output->err, 2) == 2)
        execve("/bin/true", argv, environ);
    return SPAWN_FAILED;
}

/* An unlinked file below the current temporary directory. */
static int open_spool(void)
{
    const char *directory = getenv("TMPDIR");
    return open(directory ? directory : "/tmp", O_TMPFILE | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
}

static int run_slot(unsigned tasks)
{
    struct output output = {
        .in = open("/dev/null", O_RDONLY | O_CLOEXEC), .out = open_spool(), .err = open_spool()};
    if (output.in < 0 || output.out < 0 || output.err < 0)
        return 1;
    for (unsigned i = 0; i < tasks; i++) {
        int pidfd;
        siginfo_t info;
        snprintf(output.argument, sizeof output.argument, "%u", i + 1);
        pid_t pid = clone(load_true, stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD,
                          &output, &pidfd);
        if (pid < 0 || waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0 || info.si_status != 0)
            return 1;
        close(pidfd);
    }
    return 0;
}

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

double pawl_bench_spawn_floor(unsigned slots, unsigned tasks)
{
    double from = now_seconds();
    unsigned failed = 0, started = 0;
    for (; started < slots; started++) {
        unsigned share = tasks / slots + (started < tasks % slots);
        pid_t pid = fork();
        if (pid == 0)
            _exit(run_slot(share));
        if (pid < 0)
            break;
    }
    for (unsigned i = 0; i < started; i++) {
        int status;
        failed += wait(&status) < 0 || status != 0;
    }
    if (failed > 0 || started < slots || slots == 0) {
        fprintf(stderr, "pawl: bench: raw spawn loop: %s\n", strerror(errno));
        return 0;
    }
    return (double)tasks / (now_seconds() - from);
}
