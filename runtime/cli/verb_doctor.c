/*
 * verb_doctor.c - `pawl doctor`: is this machine fit for pawl, and what to do if not.
 *
 * Runs in: the command. Makes and removes a few small files in the state directory's file system; changes
 * nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <liburing.h>
#include <linux/magic.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/submit.h"
#include "runtime/cli/verbs.h"

struct doctor_options {
    uint64_t given;
};

enum { SHM_MIB_MIN = 128 };

enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_FAIL };

struct doctor {
    const struct pawl_cli *cli;
    json_t *checks;
    bool failed;
    char directory[PATH_MAX]; /* where the state directory is or would be */
};

static void report(struct doctor *doctor, const char *name, enum verdict verdict, const char *fix,
                   const char *format, ...) __attribute__((format(printf, 5, 6)));
static void report(struct doctor *doctor, const char *name, enum verdict verdict, const char *fix,
                   const char *format, ...)
{
    static const char *const words[] = {"ok", "warn", "fail"};
    static const char *const escapes[] = {"\033[32m", "\033[33m", "\033[31m"};
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    doctor->failed = doctor->failed || verdict == VERDICT_FAIL;
    json_t *check = json_object();
    json_object_set_new(check, "check", json_string(name));
    json_object_set_new(check, "result", json_string(words[verdict]));
    json_object_set_new(check, "detail", pawl_json_text(text));
    json_object_set_new(check, "fix", fix != NULL && verdict != VERDICT_OK ? json_string(fix) : json_null());
    json_array_append_new(doctor->checks, check);
    if (doctor->cli->json)
        return;
    bool color = doctor->cli->color_out;
    printf("%s%-4s%s  %-12s  %s\n", color ? escapes[verdict] : "", words[verdict], color ? "\033[0m" : "",
           name, text);
    if (fix != NULL && verdict != VERDICT_OK)
        printf("      %-12s  fix: %s\n", "", fix);
}

/* ---- the checks ---- */

static void check_kernel(struct doctor *doctor)
{
    struct utsname about;
    long major = 0, minor = 0;
    char *end = NULL;
    if (uname(&about) == 0)
        major = strtol(about.release, &end, 10);
    if (end && *end == '.')
        minor = strtol(end + 1, NULL, 10);
    if (major == 0)
        report(doctor, "kernel", VERDICT_WARN, NULL, "its version is not known");
    else if (major * 100 + minor < 506)
        report(doctor, "kernel", VERDICT_FAIL, "Linux 5.6 or later; 6.1 is what pawl is tested on", "%s",
               about.release);
    else
        report(doctor, "kernel", VERDICT_OK, NULL, "%s %s", about.release, about.machine);
}

static void check_proc(struct doctor *doctor)
{
    if (access("/proc/self/fd", F_OK) != 0)
        report(doctor, "proc", VERDICT_FAIL, "mount -t proc proc /proc",
               "not mounted: nothing goes without it");
    else
        report(doctor, "proc", VERDICT_OK, NULL, "mounted");
}

static void check_uring(struct doctor *doctor)
{
    static const struct {
        int op;
        const char *name;
    } needed[] = {{IORING_OP_WRITE, "write"},
                  {IORING_OP_FSYNC, "fsync"},
                  {IORING_OP_READ, "read"},
                  {IORING_OP_POLL_ADD, "poll_add"},
                  {IORING_OP_TIMEOUT, "timeout"}};
    struct io_uring ring;
    int error = io_uring_queue_init(8, &ring, 0);
    if (error != 0) {
        report(doctor, "io_uring", VERDICT_WARN,
               error == -EPERM || error == -EACCES
                   ? "allow it: sysctl kernel.io_uring_disabled=0, or the container's seccomp profile"
                   : "a kernel with io_uring",
               "not available (%s); pawl uses plain system calls instead, slower", strerror(-error));
        return;
    }
    struct io_uring_probe *probe = io_uring_get_probe_ring(&ring);
    char missing[128] = "";
    for (size_t i = 0; probe != NULL && i < sizeof needed / sizeof needed[0]; i++) {
        size_t used = strlen(missing);
        if (!io_uring_opcode_supported(probe, needed[i].op))
            snprintf(missing + used, sizeof missing - used, " %s", needed[i].name);
    }
    io_uring_free_probe(probe);
    io_uring_queue_exit(&ring);
    if (missing[0] != '\0')
        report(doctor, "io_uring", VERDICT_WARN, "a later kernel",
               "lacks%s; pawl uses plain system calls instead", missing);
    else
        report(doctor, "io_uring", VERDICT_OK, NULL, "available, with all that the journal needs");
}

static const char *filesystem_name(long type)
{
    switch ((unsigned long)type) {
    case EXT4_SUPER_MAGIC:
        return "ext4";
    case XFS_SUPER_MAGIC:
        return "xfs";
    case BTRFS_SUPER_MAGIC:
        return "btrfs";
    case TMPFS_MAGIC:
        return "tmpfs";
    case OVERLAYFS_SUPER_MAGIC:
        return "overlay";
    case NFS_SUPER_MAGIC:
        return "nfs";
    case F2FS_SUPER_MAGIC:
        return "f2fs";
    case 0x2fc12fc1:
        return "zfs";
    case 0x65735546:
        return "fuse";
    default:
        return NULL;
    }
}

static void check_filesystem(struct doctor *doctor)
{
    struct statfs about;
    char name[32], room[32];
    if (statfs(doctor->directory, &about) != 0) {
        report(doctor, "file system", VERDICT_FAIL, "choose a directory that exists: --state DIR", "%s: %s",
               doctor->directory, strerror(errno));
        return;
    }
    const char *known = filesystem_name((long)about.f_type);
    if (known != NULL)
        snprintf(name, sizeof name, "%s", known);
    else
        snprintf(name, sizeof name, "type 0x%lx", (unsigned long)about.f_type);
    uint64_t free_bytes = (uint64_t)about.f_bavail * (uint64_t)about.f_bsize;
    pawl_format_bytes(free_bytes, room);
    enum verdict verdict = VERDICT_OK;
    const char *fix = NULL, *why = "";
    if (strcmp(name, "tmpfs") == 0) {
        verdict = VERDICT_WARN;
        why = "; it forgets everything at a reboot";
        fix = "a directory on a disk: --state DIR";
    } else if (strcmp(name, "nfs") == 0 || strcmp(name, "fuse") == 0) {
        verdict = VERDICT_WARN;
        why = "; locks and syncs over a network are only as good as the server";
        fix = "a directory on a local disk: --state DIR";
    } else if (strcmp(name, "overlay") == 0) {
        verdict = VERDICT_WARN;
        why = "; it goes with its container";
        fix = "a volume of the container: --state DIR";
    } else if (free_bytes < UINT64_C(256) << 20) {
        verdict = VERDICT_WARN;
        why = "; little room";
        fix = "free some space, or pawl gc --keep-runs 20";
    }
    report(doctor, "file system", verdict, fix, "%s at %s, %s free%s", name, doctor->directory, room, why);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The median of a few writes with fdatasync, as the journal makes them. */
static void check_sync(struct doctor *doctor)
{
    enum { TRIES = 9, BLOCK = 4096 };
    char path[PATH_MAX + 32];
    static char block[BLOCK];
    uint64_t took_ns[TRIES];
    snprintf(path, sizeof path, "%s/.pawl-doctor-%d", doctor->directory, (int)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        report(doctor, "sync", VERDICT_FAIL, "a directory that you may write: --state DIR",
               "cannot write in %s: %s", doctor->directory, strerror(errno));
        return;
    }
    unlink(path);
    bool good = true;
    for (int i = 0; i < TRIES && good; i++) {
        uint64_t from_ns = pawl_monotonic_ns();
        good = pwrite(fd, block, BLOCK, (off_t)i * BLOCK) == BLOCK && fdatasync(fd) == 0;
        took_ns[i] = pawl_monotonic_ns() - from_ns;
    }
    close(fd);
    if (!good) {
        report(doctor, "sync", VERDICT_FAIL, "another disk: --state DIR", "write and fdatasync failed: %s",
               strerror(errno));
        return;
    }
    qsort(took_ns, TRIES, sizeof took_ns[0], by_value);
    double median_us = (double)took_ns[(int)(TRIES / 2)] / 1e3;
    report(doctor, "sync", median_us > 20000 ? VERDICT_WARN : VERDICT_OK,
           "a faster disk for the state directory: --state DIR",
           "fdatasync of 4 KiB takes %.0f us (median of %d)%s", median_us, TRIES,
           median_us < 20 ? "; so quick that this disk hardly flushes" : "");
}

/* A memfd is bounded by memory alone, not by the size of /dev/shm. */
static void report_shm_size(struct doctor *doctor)
{
    static const char available[] = "MemAvailable:";
    unsigned long long kib = 0;
    char line[128];
    FILE *stream = fopen("/proc/meminfo", "re");
    while (stream != NULL && kib == 0 && fgets(line, sizeof line, stream) != NULL)
        if (strncmp(line, available, sizeof available - 1) == 0)
            kib = strtoull(line + sizeof available - 1, NULL, 10);
    if (stream != NULL)
        fclose(stream);
    if (kib == 0)
        report(doctor, "shm", VERDICT_OK, NULL, "memfd with seals works; its size is bounded by memory");
    else
        report(doctor, "shm", kib >> 10 >= SHM_MIB_MIN ? VERDICT_OK : VERDICT_WARN,
               "end programs that hold memory, or add some",
               "memfd with seals works; %llu MiB of memory are available for it (/dev/shm is not used)",
               kib >> 10);
}

static void check_shm(struct doctor *doctor)
{
    int fd = memfd_create("pawl-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;
    if (fd < 0 || ftruncate(fd, 1 << 20) != 0 || fcntl(fd, F_ADD_SEALS, seals) != 0)
        report(doctor, "shm", VERDICT_FAIL,
               "a kernel and container that allow memfd_create with seals (Linux 5.1)",
               "shared memory by memfd: %s", strerror(errno));
    else
        report_shm_size(doctor);
    if (fd >= 0)
        close(fd);
}

static void check_limit(struct doctor *doctor, const char *what, int resource, uint64_t wanted,
                        const char *fix)
{
    struct rlimit limit;
    char value[32] = "unlimited";
    if (getrlimit((__rlimit_resource_t)resource, &limit) != 0)
        return;
    if (limit.rlim_cur != RLIM_INFINITY)
        snprintf(value, sizeof value, "%" PRIu64, (uint64_t)limit.rlim_cur);
    bool enough = limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= wanted;
    char name[32];
    snprintf(name, sizeof name, "limit %s", what);
    report(doctor, name, enough ? VERDICT_OK : VERDICT_WARN, fix, "%s%s", value,
           enough ? "" : "; little for many workers");
}

static void check_cgroup(struct doctor *doctor)
{
    char line[PATH_MAX] = "", path[PATH_MAX + 64];
    struct statfs about;
    if (statfs("/sys/fs/cgroup", &about) != 0 || about.f_type != CGROUP2_SUPER_MAGIC) {
        report(doctor, "cgroup", VERDICT_WARN, "boot with systemd.unified_cgroup_hierarchy=1",
               "no cgroup v2; limits of steps are set by rlimits alone");
        return;
    }
    FILE *own = fopen("/proc/self/cgroup", "re");
    bool found = false;
    while (own != NULL && !found && fgets(line, sizeof line, own) != NULL)
        found = strncmp(line, "0::", 3) == 0;
    if (own != NULL)
        fclose(own);
    line[strcspn(line, "\n")] = '\0';
    snprintf(path, sizeof path, "/sys/fs/cgroup%s", found ? line + 3 : "");
    if (access(path, W_OK) == 0)
        report(doctor, "cgroup", VERDICT_OK, NULL, "v2, writable at %s", path);
    else
        report(doctor, "cgroup", VERDICT_WARN, "start under `systemd-run --user --scope -p Delegate=yes`",
               "v2, but %s cannot be written; limits of steps are set by rlimits alone", path);
}

static void check_clocks(struct doctor *doctor)
{
    char source[64] = "unknown";
    struct timespec realtime, boottime, monotonic;
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
    if (file != NULL) {
        if (fgets(source, sizeof source, file) != NULL)
            source[strcspn(source, "\n")] = '\0';
        fclose(file);
    }
    if (clock_gettime(CLOCK_BOOTTIME, &boottime) != 0 || clock_gettime(CLOCK_MONOTONIC, &monotonic) != 0 ||
        clock_gettime(CLOCK_REALTIME, &realtime) != 0) {
        report(doctor, "clocks", VERDICT_FAIL, "a kernel with CLOCK_BOOTTIME", "clock_gettime: %s",
               strerror(errno));
        return;
    }
    if (realtime.tv_sec < 1704067200) /* 2024 */
        report(doctor, "clocks", VERDICT_WARN, "set the clock (timedatectl set-ntp true)",
               "the wall clock is far in the past");
    else if (strcmp(source, "hpet") == 0 || strcmp(source, "acpi_pm") == 0 || strcmp(source, "jiffies") == 0)
        report(doctor, "clocks", VERDICT_WARN, "clocksource=tsc, if the machine has a good one",
               "clock source %s is slow to read", source);
    else
        report(doctor, "clocks", VERDICT_OK, NULL,
               "source %s; boot time, monotonic and wall clock can be read", source);
}

/* The state directory if it exists, else the directory it would be made in. */
static void choose_directory(struct doctor *doctor)
{
    struct stat about;
    const char *state = doctor->cli->state;
    if (stat(state, &about) == 0) {
        snprintf(doctor->directory, sizeof doctor->directory, "%s", state);
        return;
    }
    snprintf(doctor->directory, sizeof doctor->directory, "%s", state);
    char *slash = strrchr(doctor->directory, '/');
    if (slash == NULL)
        snprintf(doctor->directory, sizeof doctor->directory, ".");
    else
        slash[slash == doctor->directory ? 1 : 0] = '\0';
}

static int run_doctor(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    (void)operand_count;
    (void)operands;
    struct doctor doctor = {.cli = cli, .checks = json_array()};
    choose_directory(&doctor);
    check_kernel(&doctor);
    check_proc(&doctor);
    check_uring(&doctor);
    check_filesystem(&doctor);
    check_sync(&doctor);
    check_shm(&doctor);
    check_limit(&doctor, "nofile", RLIMIT_NOFILE, 1024, "ulimit -n 65536");
    check_limit(&doctor, "nproc", RLIMIT_NPROC, 1024, "ulimit -u 65536");
    check_limit(&doctor, "memlock", RLIMIT_MEMLOCK, 64 << 10, "ulimit -l 8192");
    check_cgroup(&doctor);
    check_clocks(&doctor);
    if (cli->json) {
        json_t *document = pawl_json_document();
        json_object_set_new(document, "ok", json_boolean(!doctor.failed));
        json_object_set(document, "checks", doctor.checks);
        pawl_json_print(document, stdout);
        json_decref(document);
    }
    json_decref(doctor.checks);
    return pawl_output_finish(cli, doctor.failed ? PAWL_EXIT_FAILED : PAWL_EXIT_OK);
}

const struct pawl_verb pawl_verb_doctor = {
    .name = "doctor",
    .summary = "check the machine, and say how to mend it",
    .operands = "",
    .examples = "pawl doctor\npawl doctor --state /var/lib/batch --json",
    .notes = "exit 1 if something fails; warnings do not",
    .options_bytes = sizeof(struct doctor_options),
    .run = run_doctor,
};
