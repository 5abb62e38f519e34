/*
 * submission.c - what is handed over with a run.
 *
 * Runs in: commands, and programs that submit through libpawl.
 */
#include "runtime/submission.h"

#include <errno.h>
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

#include "runtime/client.h"
#include "shm/clock.h"
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
        chance = pawl_clock_realtime_ns() ^ (uint64_t)getpid() << 32;
    time_t seconds = (time_t)(pawl_clock_realtime_ns() / 1000000000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    memset(run_id, 0, PAWL_NAME_BYTES);
    size_t n = strftime(run_id, PAWL_NAME_BYTES, "%Y%m%d-%H%M%S-", &parts);
    for (int i = 0; i < 5; i++, chance /= sizeof letters - 1)
        run_id[n++] = letters[chance % (sizeof letters - 1)];
}

bool pawl_run_id_is_good(const char *run_id, size_t bytes_max)
{
    size_t n = strlen(run_id);
    bool good =
        n != 0 && n <= bytes_max && run_id[0] != '.' && run_id[0] != '-' && strcmp(run_id, "last") != 0;
    for (size_t i = 0; i < n && good; i++) {
        char c = run_id[i];
        good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               strchr("_.-", c) != NULL;
    }
    return good;
}

uint32_t pawl_online_cpus(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (online < 1)
        return 1;
    return online > PAWL_SLOTS_MAX ? PAWL_SLOTS_MAX : (uint32_t)online;
}

bool pawl_submit_may_go_again(int error, uint64_t passed_ns)
{
    const uint64_t second_ns = 1000000000;
    return (error == -EAGAIN && passed_ns < 30 * second_ns) ||
           (error == PAWL_E_BUSY && passed_ns < second_ns);
}
