/*
 * orphans.c - finds processes by their environment, ends them, and looks again until there are none.
 *
 * Runs in: scheduler at a fresh start, supervisor after a worker's death. A pidfd is opened before the
 * environment is read, so the process that is signalled is the one that was looked at or one that has ended
 * since. The search is repeated until it finds nothing: a child forked during one look is seen by the next.
 */
#include "runtime/orphans.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shm/error.h"

enum { FOUND_MAX = 256 /* in one look; more are found by the next */ };

struct text {
    char *bytes;
    size_t size, capacity;
};

static uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int read_environ(int proc_fd, pid_t pid, struct text *text)
{
    char name[32];
    snprintf(name, sizeof name, "%d/environ", (int)pid);
    int fd = openat(proc_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int error = 0;
    text->size = 0;
    for (;;) {
        if (text->capacity - text->size < 4096) {
            size_t capacity = text->capacity ? 2 * text->capacity : 32 << 10;
            char *bytes = realloc(text->bytes, capacity);
            if (!bytes) {
                error = -ENOMEM;
                break;
            }
            text->bytes = bytes;
            text->capacity = capacity;
        }
        ssize_t got = read(fd, text->bytes + text->size, text->capacity - text->size - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            error = got < 0 ? -errno : 0;
            break;
        }
        text->size += (size_t)got;
    }
    close(fd);
    if (!error)
        text->bytes[text->size] = 0;
    return error;
}

/* "PAWL_MARK=<mark>:<number>" among the strings? @worker 0: any number. */
static bool is_ours(const struct text *text, const char *mark, uint32_t worker)
{
    static const char name[] = "PAWL_MARK=";
    size_t name_bytes = sizeof name - 1, mark_bytes = strlen(mark);
    for (size_t at = 0; at < text->size; at += strlen(text->bytes + at) + 1) {
        const char *value = text->bytes + at;
        if (strncmp(value, name, name_bytes) != 0)
            continue;
        value += name_bytes;
        if (strncmp(value, mark, mark_bytes) != 0 || value[mark_bytes] != ':')
            return false;
        return worker == 0 || strtoul(value + mark_bytes + 1, NULL, 10) == worker;
    }
    return false;
}

/* One look over all processes. Return: pidfds in @found, or -errno. */
static int look(const char *mark, uint32_t worker, struct text *text, int found[FOUND_MAX],
                pid_t pids[FOUND_MAX])
{
    DIR *proc = opendir("/proc");
    if (!proc)
        return -errno;
    int count = 0;
    for (struct dirent *entry; count < FOUND_MAX && (entry = readdir(proc));) {
        char *end;
        long pid = strtol(entry->d_name, &end, 10);
        if (pid <= 0 || *end || pid == getpid())
            continue;
        int pidfd = pidfd_open((pid_t)pid, 0);
        if (pidfd < 0)
            continue;
        if (read_environ(dirfd(proc), (pid_t)pid, text) == 0 && is_ours(text, mark, worker)) {
            pids[count] = (pid_t)pid;
            found[count++] = pidfd;
        } else {
            close(pidfd);
        }
    }
    closedir(proc);
    return count;
}

/* Wait until the process has ended. False when time was up. */
static bool await_end(int pidfd, uint64_t deadline_ns)
{
    struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};
    for (;;) {
        uint64_t now_ns = monotonic_ns();
        uint64_t left_ms = now_ns < deadline_ns ? (deadline_ns - now_ns) / 1000000u + 1 : 0;
        int ready = poll(&poll_fd, 1, left_ms > 60000 ? 60000 : (int)left_ms);
        if (ready > 0)
            return true;
        if ((ready == 0 && left_ms == 0) || (ready < 0 && errno != EINTR))
            return false;
    }
}

int pawl_orphans_kill(const char *mark, uint32_t worker, uint64_t limit_ns,
                      struct pawl_orphans_report *report_out)
{
    int found[FOUND_MAX];
    pid_t pids[FOUND_MAX];
    struct text text = {0};
    uint64_t deadline_ns = monotonic_ns() + limit_ns;
    int count;

    memset(report_out, 0, sizeof *report_out);
    while ((count = look(mark, worker, &text, found, pids)) > 0) {
        report_out->left_count = 0;
        for (int i = 0; i < count; i++)
            (void)pidfd_send_signal(found[i], SIGKILL, NULL, 0);
        for (int i = 0; i < count; i++) {
            if (await_end(found[i], deadline_ns)) {
                if (report_out->killed_count < sizeof report_out->pids / sizeof *report_out->pids)
                    report_out->pids[report_out->killed_count] = pids[i];
                report_out->killed_count++;
            } else {
                report_out->left_count++;
            }
            close(found[i]);
        }
        if (report_out->left_count || monotonic_ns() >= deadline_ns) {
            count = -ETIMEDOUT;
            break;
        }
    }
    free(text.bytes);
    return count;
}
