/*
 * submit.c - what a command hands over with a run.
 *
 * Runs in: the command.
 */
#include "runtime/cli/submit.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "runtime/cli/errors.h"
#include "runtime/client.h"
#include "shm/error.h"
#include "shm/task.h"

int pawl_context_memfd(void)
{
    struct pawl_context_spec spec = {.run_id = "", .env = (const char *const *)environ};
    char *dir = getcwd(NULL, 0);
    void *block = NULL;
    int fd = dir == NULL ? -errno : 0;
    if (fd < 0)
        return fd;
    spec.dir = dir;
    spec.umask = (uint32_t)umask(0);
    umask((mode_t)spec.umask);
    errno = 0;
    spec.nice = getpriority(PRIO_PROCESS, 0);
    for (int i = 0; i < RLIM_NLIMITS; i++)
        if (getrlimit((__rlimit_resource_t)i, &spec.limits[i]) != 0)
            spec.limits[i] = (struct rlimit){RLIM_INFINITY, RLIM_INFINITY};
    size_t bytes = pawl_context_packed_bytes(&spec);
    block = aligned_alloc(8, (bytes + 7) & ~(size_t)7);
    int64_t packed = block == NULL ? -ENOMEM : pawl_context_pack(&spec, block, bytes);
    fd = packed < 0 ? (int)packed : pawl_client_sealed_memfd("pawl-context", block, (size_t)packed);
    free(block);
    free(dir);
    return fd;
}

int pawl_plan_memfd(const struct pawl_plan *plan)
{
    size_t bytes = 0;
    const void *blob = pawl_plan_blob(plan, &bytes);
    return pawl_client_sealed_memfd("pawl-plan", blob, bytes);
}

uint64_t pawl_identity(const char *file, const struct pawl_plan *plan)
{
    struct {
        uint64_t kind, path, workflow, params[2];
    } parts = {.kind = 1};
    char *real = realpath(file, NULL);
    const char *path = real != NULL ? real : file;
    const char *workflow = pawl_plan_name(plan);
    parts.path = XXH3_64bits(path, strlen(path));
    parts.workflow = XXH3_64bits(workflow, strlen(workflow));
    pawl_plan_params_hash(plan, parts.params);
    free(real);
    return XXH3_64bits(&parts, sizeof parts);
}

void pawl_run_id_make(char run_id[PAWL_NAME_BYTES])
{
    static const char letters[] = "bcdfghjkmnpqrstvwxz23456789";
    uint64_t chance = 0;
    if (getrandom(&chance, sizeof chance, 0) != (ssize_t)sizeof chance)
        chance = pawl_realtime_ns() ^ (uint64_t)getpid() << 32;
    time_t seconds = (time_t)(pawl_realtime_ns() / 1000000000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    memset(run_id, 0, PAWL_NAME_BYTES);
    size_t n = strftime(run_id, PAWL_NAME_BYTES, "%Y%m%d-%H%M%S-", &parts);
    for (int i = 0; i < 5; i++, chance /= sizeof letters - 1)
        run_id[n++] = letters[chance % (sizeof letters - 1)];
}

int pawl_run_id_check(const struct pawl_cli *cli, const char *run_id, size_t bytes_max)
{
    size_t n = strlen(run_id);
    bool good =
        n != 0 && n <= bytes_max && run_id[0] != '.' && run_id[0] != '-' && strcmp(run_id, "last") != 0;
    for (size_t i = 0; i < n && good; i++) {
        char c = run_id[i];
        good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               strchr("_.-", c) != NULL;
    }
    if (good)
        return 0;
    return pawl_fail(cli, PAWL_EXIT_USAGE, "usage",
                     "letters, digits, _ . - (at most 64), not starting with . or -, and not \"last\"",
                     "--run-id: '%.80s' cannot be the name of a run", run_id);
}

uint32_t pawl_online_cpus(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (online < 1)
        return 1;
    return online > PAWL_SLOTS_MAX ? PAWL_SLOTS_MAX : (uint32_t)online;
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
    /* The scheduler is the process with the most: its own, and three for each worker. */
    enum { FILES_BASE = 32, FILES_A_WORKER = 3 };
    struct rlimit files;
    *slots_out = asked != 0 ? (uint32_t)asked : pawl_online_cpus();
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_max == RLIM_INFINITY)
        return 0;
    if (files.rlim_max < FILES_BASE + FILES_A_WORKER)
        return pawl_fail(cli, PAWL_EXIT_UNREACHABLE, "limit", "allow more: ulimit -n 1024",
                         "too few open files are allowed: %" PRIu64
                         ", and pawl needs %d and %d for each slot",
                         (uint64_t)files.rlim_max, FILES_BASE, FILES_A_WORKER);
    uint64_t room = (files.rlim_max - FILES_BASE) / FILES_A_WORKER;
    if (*slots_out <= room)
        return 0;
    pawl_note(cli,
              "%" PRIu64 " slots instead of %u: only %" PRIu64 " open files are allowed\n"
              "  for all of them: ulimit -n %u",
              room, *slots_out, (uint64_t)files.rlim_max, FILES_BASE + FILES_A_WORKER * *slots_out);
    *slots_out = (uint32_t)room;
    return 0;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

bool pawl_submit_may_go_again(int error, uint64_t passed_ns)
{
    const uint64_t second_ns = 1000000000;
    return (error == -EAGAIN && passed_ns < 30 * second_ns) ||
           (error == PAWL_E_BUSY && passed_ns < second_ns);
}

uint64_t pawl_monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t pawl_realtime_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}
