/*
 * submit.c - what a command says about a run's name, slots and surroundings.
 *
 * Runs in: the command.
 */
#include "runtime/cli/submit.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/resource.h>
#include <time.h>

#include "runtime/cli/errors.h"

int pawl_run_id_check(const struct pawl_cli *cli, const char *run_id, size_t bytes_max)
{
    if (pawl_run_id_is_good(run_id, bytes_max))
        return 0;
    return pawl_fail(cli, PAWL_EXIT_USAGE, "usage",
                     "letters, digits, _ . - (at most 64), not starting with . or -, and not \"last\"",
                     "--run-id: '%.80s' cannot be the name of a run", run_id);
}

int pawl_fail_pack(const struct pawl_cli *cli, int error)
{
    if (error == -ENOENT || error == -EACCES) /* only getcwd says so */
        return pawl_fail_error(cli, PAWL_EXIT_USAGE, error, "cd to a directory that is there",
                               "the current directory cannot be named, and steps would run in it");
    return pawl_fail_error(cli, PAWL_EXIT_INTERNAL, error, NULL, "cannot pack the run");
}

int pawl_slots_choose(const struct pawl_cli *cli, uint64_t asked, uint32_t *slots_out)
{
    /* The scheduler is the process with the most. */
    struct rlimit files;
    *slots_out = asked != 0 ? (uint32_t)asked : pawl_online_cpus();
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_max == RLIM_INFINITY)
        return 0;
    if (files.rlim_max < PAWL_FILES_BASE + PAWL_FILES_A_SLOT)
        return pawl_fail(cli, PAWL_EXIT_UNREACHABLE, "limit", "allow more: ulimit -n 1024",
                         "too few open files are allowed: %" PRIu64
                         ", and pawl needs %d and %d for each slot",
                         (uint64_t)files.rlim_max, PAWL_FILES_BASE, PAWL_FILES_A_SLOT);
    uint64_t room = (files.rlim_max - PAWL_FILES_BASE) / PAWL_FILES_A_SLOT;
    if (*slots_out <= room)
        return 0;
    pawl_note(cli,
              "%" PRIu64 " slots instead of %u: only %" PRIu64 " open files are allowed\n"
              "  for all of them: ulimit -n %u",
              room, *slots_out, (uint64_t)files.rlim_max, PAWL_FILES_BASE + PAWL_FILES_A_SLOT * *slots_out);
    *slots_out = (uint32_t)room;
    return 0;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t pawl_monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t pawl_realtime_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}
