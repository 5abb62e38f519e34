/*
 * verb_bench.c - `pawl bench`: measurements beside their floors, in a scratch directory that goes away again.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/bench.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/verbs.h"
#include "shm/error.h"

struct bench_options {
    uint64_t given;
    const char *seconds, *durability, *rate;
    uint64_t events, payload, workers;
};

struct bench {
    const char *name;
    const char *unit;
    int (*run)(const struct pawl_bench_options *options, const char *directory,
               struct pawl_bench_result *result_out);
};

static int run_ring(const struct pawl_bench_options *options, const char *directory,
                    struct pawl_bench_result *result_out)
{
    (void)directory;
    return pawl_bench_ring(options, result_out);
}

static const struct bench benches[] = {
    {"ring", "events", run_ring},           {"journal", "records", pawl_bench_journal},
    {"exec", "processes", pawl_bench_exec}, {"flow", "steps", pawl_bench_flow},
    {"bus", "events", pawl_bench_bus},      {"recover", "events", pawl_bench_recover},
};

static const struct bench *find_bench(const char *name)
{
    for (size_t i = 0; i < sizeof benches / sizeof benches[0]; i++)
        if (strcmp(benches[i].name, name) == 0)
            return &benches[i];
    return NULL;
}

/* ---- the scratch directory ---- */

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    stopped = number;
}

static void catch_signals(void)
{
    /* Once: the batch that runs hears it too and ends, and the scratch directory is removed. Twice: at once.
     */
    struct sigaction action = {.sa_handler = stop, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

/* Beside the state directory, so that the same file system is measured. */
static int make_scratch(const struct pawl_cli *cli, char path[PATH_MAX])
{
    char parent[PATH_MAX], base[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", cli->state);
    char *slash = strrchr(parent, '/');
    if (slash == NULL)
        snprintf(parent, sizeof parent, ".");
    else
        slash[slash == parent ? 1 : 0] = '\0';
    if (realpath(parent, base) == NULL)
        return -errno;
    int n = snprintf(path, PATH_MAX, "%s/.pawl-bench.XXXXXX", base);
    if (n >= PATH_MAX)
        return -ENAMETOOLONG;
    return mkdtemp(path) != NULL ? 0 : -errno;
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *ftw)
{
    (void)about;
    (void)ftw;
    return kind == FTW_DP ? rmdir(path) : unlink(path);
}

static void remove_scratch(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        fprintf(stderr, "pawl bench: %s could not be removed whole: %s\n", path, strerror(errno));
}

/* ---- the machine ---- */

static void read_cpu_model(char *model, size_t bytes)
{
    char line[256];
    snprintf(model, bytes, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strncmp(line, "model name", 10) == 0 ? strchr(line, ':') : NULL;
        if (colon == NULL)
            continue;
        snprintf(model, bytes, "%s", colon + 2);
        model[strcspn(model, "\n")] = '\0';
        break;
    }
    if (file != NULL)
        fclose(file);
}

static const char *filesystem_of(const char *path)
{
    static const struct {
        long magic;
        const char *name;
    } known[] = {{0xef53, "ext4"},          {0x58465342, "xfs"}, {0x9123683e, "btrfs"}, {0x01021994, "tmpfs"},
                 {0x794c7630, "overlayfs"}, {0x6969, "nfs"},     {0x2fc12fc1, "zfs"},   {0xf2f52010, "f2fs"}};
    struct statfs about;
    if (statfs(path, &about) != 0)
        return "unknown";
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if ((long)about.f_type == known[i].magic)
            return known[i].name;
    return "other";
}

static json_t *machine_json(const char *scratch)
{
    struct utsname name;
    char model[256];
    double load = 0;
    json_t *machine = json_object();
    uname(&name);
    read_cpu_model(model, sizeof model);
    if (getloadavg(&load, 1) < 1)
        load = 0;
    json_object_set_new(machine, "kernel", json_string(name.release));
    json_object_set_new(machine, "arch", json_string(name.machine));
    json_object_set_new(machine, "cpu", pawl_json_text(model));
    json_object_set_new(machine, "cpus", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    json_object_set_new(machine, "load", json_real(load));
    json_object_set_new(machine, "filesystem", json_string(filesystem_of(scratch)));
    return machine;
}

/* ---- results ---- */

static void print_json(const struct pawl_bench_result *r, const char *scratch)
{
    json_t *document = pawl_json_document();
    json_object_set_new(document, "bench", json_string(r->bench));
    json_object_set_new(document, "events", json_integer((json_int_t)r->events));
    json_object_set_new(document, "seconds", json_real(r->seconds));
    json_object_set_new(document, "per_second", json_real(r->per_second));
    json_object_set_new(document, "p50_ns", json_integer((json_int_t)r->p50_ns));
    json_object_set_new(document, "p99_ns", json_integer((json_int_t)r->p99_ns));
    json_object_set_new(document, "p999_ns", json_integer((json_int_t)r->p999_ns));
    json_object_set_new(document, "cpu_seconds_per_million", json_real(r->cpu_seconds_per_million));
    json_object_set_new(document, "rss_bytes", json_integer((json_int_t)r->rss_bytes));
    json_object_set_new(document, "floor_per_second", json_real(r->floor_per_second));
    json_object_set_new(document, "floor", json_string(r->floor));
    for (int i = 0; i < PAWL_BENCH_EXTRAS && r->extra[i].name != NULL; i++)
        json_object_set_new(document, r->extra[i].name, json_real(r->extra[i].value));
    json_object_set_new(document, "machine", machine_json(scratch));
    pawl_json_print(document, stdout);
    json_decref(document);
}

static void print_ns(const char *name, uint64_t ns)
{
    if (ns > 0)
        printf("  %s %.3g us", name, (double)ns / 1000);
}

static void print_text(const struct pawl_bench_result *r, const char *unit, const char *scratch)
{
    struct utsname name;
    char bytes[32];
    uname(&name);
    printf("%-8s %12.0f %s/s   %" PRIu64 " in %.3g s\n", r->bench, r->per_second, unit, r->events,
           r->seconds);
    if (r->floor_per_second > 0)
        printf("  floor  %12.0f /s   %s; ratio %.3g\n", r->floor_per_second, r->floor,
               r->per_second / r->floor_per_second);
    if (r->p50_ns > 0 || r->p99_ns > 0) {
        printf("  one   ");
        print_ns("p50", r->p50_ns);
        print_ns("p99", r->p99_ns);
        print_ns("p99.9", r->p999_ns);
        printf("\n");
    }
    printf("  cost   %.3g CPU seconds a million, %s\n", r->cpu_seconds_per_million,
           pawl_format_bytes(r->rss_bytes, bytes));
    for (int i = 0; i < PAWL_BENCH_EXTRAS && r->extra[i].name != NULL; i++)
        printf("  %-28s %.6g\n", r->extra[i].name, r->extra[i].value);
    printf("  on     Linux %s, %ld CPUs, %s\n", name.release, sysconf(_SC_NPROCESSORS_ONLN),
           filesystem_of(scratch));
}

/* ---- the verb ---- */

static int read_options(struct pawl_cli *cli, const struct bench_options *in, struct pawl_bench_options *out)
{
    *out = (struct pawl_bench_options){.events = in->events,
                                       .payload_bytes = (uint32_t)in->payload,
                                       .workers = (uint32_t)in->workers,
                                       .durability = in->durability};
    if (in->seconds != NULL) {
        char *end;
        errno = 0;
        out->seconds = strtod(in->seconds, &end);
        if (*end != '\0' || end == in->seconds || errno != 0 || !(out->seconds > 0) || out->seconds > 86400)
            return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "say 5 or 0.5",
                             "--seconds: '%.40s' is not above 0 and at most 86,400", in->seconds);
    }
    if (in->rate != NULL) {
        char *end;
        out->rate = strtod(in->rate, &end);
        if (*end != '\0' || end == in->rate || !(out->rate >= 1) || out->rate > 1e6)
            return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "say 10000",
                             "--rate: '%.40s' is not 1 to 1,000,000 a second", in->rate);
    }
    if (in->durability != NULL && strcmp(in->durability, "fsync") != 0 &&
        strcmp(in->durability, "async") != 0 && strcmp(in->durability, "memory") != 0)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "say memory, async or fsync",
                         "--durability: '%.40s' is not known", in->durability);
    return 0;
}

static int run_bench(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    struct pawl_bench_options in;
    struct pawl_bench_result result;
    char scratch[PATH_MAX];
    (void)operand_count;
    const struct bench *bench = find_bench(operands[0]);
    if (bench == NULL)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "there are: ring, journal, exec, flow, bus, recover",
                         "no such bench: %.80s", operands[0]);
    int status = read_options(cli, options, &in);
    if (status != 0)
        return status;
    if (in.durability != NULL && strcmp(in.durability, "fsync") != 0 && strcmp(bench->name, "bus") != 0)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "only the bench bus knows others",
                         "bench %s is always synced", bench->name);
    catch_signals();
    status = make_scratch(cli, scratch);
    if (status != 0)
        return pawl_fail_error(cli, PAWL_EXIT_UNREACHABLE, status,
                               "--state DIR: the scratch directory is made beside it",
                               "no scratch directory beside %s", cli->state);
    int error = bench->run(&in, scratch, &result);
    bool interrupted = stopped != 0;
    if (error == 0 && !interrupted) {
        if (cli->json)
            print_json(&result, scratch);
        else
            print_text(&result, bench->unit, scratch);
    }
    remove_scratch(scratch);
    if (interrupted)
        return pawl_fail(cli, PAWL_EXIT_INTERRUPTED, "interrupted", NULL,
                         "interrupted: nothing was measured");
    if (error == -ECANCELED)
        return pawl_fail(cli, PAWL_EXIT_FAILED, "bench", NULL, "a batch failed: nothing was measured");
    if (error < 0)
        return pawl_fail_error(cli, PAWL_EXIT_FAILED, error, NULL, "bench %s", bench->name);
    return pawl_output_finish(cli, PAWL_EXIT_OK);
}

static const struct pawl_option bench_table[] = {
    {0, "seconds", "S", "about how long (journal: 3)", PAWL_OPTION_TEXT,
     offsetof(struct bench_options, seconds), 0, 0},
    {'n', "events", "N", "how many instead (ring 20 M, exec 10,000, flow 1 M, bus 3 or 5 M)",
     PAWL_OPTION_COUNT, offsetof(struct bench_options, events), 1, 10000000000},
    {0, "payload", "BYTES", "journal, bus: of one record or event (100)", PAWL_OPTION_BYTES,
     offsetof(struct bench_options, payload), 0, 1 << 20},
    {'j', "workers", "N", "exec, flow: slots (online CPUs); bus: consumers (1)", PAWL_OPTION_COUNT,
     offsetof(struct bench_options, workers), 1, 4096},
    {0, "durability", "M", "bus: memory, async or fsync (fsync)", PAWL_OPTION_TEXT,
     offsetof(struct bench_options, durability), 0, 0},
    {0, "rate", "N", "bus: events a second: measures latency", PAWL_OPTION_TEXT,
     offsetof(struct bench_options, rate), 0, 0},
    {0, NULL, NULL, NULL, PAWL_OPTION_FLAG, 0, 0, 0},
};

const struct pawl_verb pawl_verb_bench = {
    .name = "bench",
    .summary = "measure: ring, journal, exec, flow, bus, recover",
    .operands = "NAME",
    .examples = "pawl bench exec -j 2\npawl bench bus --durability memory\npawl bench flow --events 100000 "
                "--json | jq .per_second",
    .notes =
        "Each prints its floor, measured in the same run. The scratch directory is made beside the state "
        "directory and removed.",
    .options = bench_table,
    .options_bytes = sizeof(struct bench_options),
    .operands_min = 1,
    .operands_max = 1,
    .run = run_bench,
};
