/*
 * state.c - finds, makes and checks the state directory.
 *
 * Runs in: every process, before anything else of pawl's. Writes nothing but the directory's skeleton and its
 * format file. A format file that is empty (a machine that lost power just after it was made) is made again:
 * the mark in it is for living processes, and none of them survived that.
 */
#include "runtime/state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/error.h"

#define FORMAT_WORD "pawl-state "

__attribute__((format(printf, 2, 3))) static void say(char why[PAWL_STATE_WHY_BYTES], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, PAWL_STATE_WHY_BYTES, format, arguments);
    va_end(arguments);
}

const char *pawl_state_choose(const char *option)
{
    if (option && *option)
        return option;
    const char *variable = getenv("PAWL_STATE");
    return variable && *variable ? variable : ".pawl";
}

/* Only what a half-made state directory may hold? 1, 0 or -errno. */
static int holds_nothing_foreign(int dirfd)
{
    static const char *const ours[] = {".",    "..",     "journal",       "runs",      "spool",
                                       "lock", "socket", "scheduler.log", "pawl.yaml", "journal.begun"};
    int copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (copy < 0)
        return -errno;
    DIR *dir = fdopendir(copy);
    if (!dir) {
        int error = -errno;
        close(copy);
        return error;
    }
    int result = 1;
    for (struct dirent *entry; result == 1 && (entry = readdir(dir));) {
        bool known = strncmp(entry->d_name, "format", 6) == 0;
        for (size_t i = 0; i < sizeof ours / sizeof *ours && !known; i++)
            known = strcmp(entry->d_name, ours[i]) == 0;
        result = known;
    }
    closedir(dir);
    return result;
}

static int make_mark(char mark[PAWL_STATE_MARK_BYTES])
{
    unsigned char random[16];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return -errno;
    random[6] = (unsigned char)((random[6] & 0x0f) | 0x40);
    random[8] = (unsigned char)((random[8] & 0x3f) | 0x80);
    char *at = mark;
    for (int i = 0; i < 16; i++)
        at += sprintf(at, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", random[i]);
    return 0;
}

/* 0 and the mark; -ENOENT when missing or empty; PAWL_E_BAD_FORMAT. */
static int read_format(int dirfd, const char *path, char mark[PAWL_STATE_MARK_BYTES],
                       char why[PAWL_STATE_WHY_BYTES])
{
    char text[128];
    int fd = openat(dirfd, "format", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    ssize_t bytes = read(fd, text, sizeof text - 1);
    int error = bytes < 0 ? -errno : bytes == 0 ? -ENOENT : 0;
    close(fd);
    if (error)
        return error;
    text[bytes] = 0;

    char *end = text;
    size_t word = strlen(FORMAT_WORD);
    unsigned long version = strncmp(text, FORMAT_WORD, word) == 0 ? strtoul(text + word, &end, 10) : 0;
    if (version == 0 || *end != '\n') {
        say(why, "%s/format is not the format file of a pawl state directory; choose another with --state",
            path);
        return PAWL_E_BAD_FORMAT;
    }
    if (version > PAWL_STATE_FORMAT) {
        say(why,
            "%s was made by a newer pawl (format %lu, this one reads %d); use that one, or another --state",
            path, version, PAWL_STATE_FORMAT);
        return PAWL_E_BAD_FORMAT;
    }
    char *line = end + 1;
    size_t length = strcspn(line, "\n");
    if (length != 36 || strspn(line, "0123456789abcdef-") < length) {
        say(why, "%s/format is damaged: it names no mark", path);
        return PAWL_E_BAD_FORMAT;
    }
    memcpy(mark, line, length);
    mark[length] = 0;
    return 0;
}

/* Another process may do the same: the first link wins, and its mark is everybody's. */
static int write_format(int dirfd, bool replace)
{
    char mark[PAWL_STATE_MARK_BYTES], text[128], name[32];
    int error = make_mark(mark);
    if (error)
        return error;
    int bytes = snprintf(text, sizeof text, FORMAT_WORD "%d\n%s\n", PAWL_STATE_FORMAT, mark);
    snprintf(name, sizeof name, "format.%d", (int)getpid());
    int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    ssize_t written = write(fd, text, (size_t)bytes);
    error = written == bytes ? 0 : written < 0 ? -errno : -ENOSPC;
    close(fd);
    if (!error && replace)
        return renameat(dirfd, name, dirfd, "format") == 0 ? 0 : -errno;
    if (!error && linkat(dirfd, name, dirfd, "format", 0) != 0 && errno != EEXIST)
        error = -errno;
    unlinkat(dirfd, name, 0);
    return error;
}

static int open_part(int dirfd, const char *name, enum pawl_state_mode mode, int *fd_out)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        *fd_out = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (*fd_out >= 0)
            return 0;
        if (errno != ENOENT || mode != PAWL_STATE_CREATE)
            break;
        if (mkdirat(dirfd, name, 0700) != 0 && errno != EEXIST)
            break;
    }
    return errno == ENOENT && mode == PAWL_STATE_EXISTING ? 0 : -errno;
}

/* The directory itself: 0 and a descriptor. */
static int open_directory(const char *path, enum pawl_state_mode mode, struct pawl_state *state,
                          char why[PAWL_STATE_WHY_BYTES])
{
    const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;
    struct stat status;

    state->dirfd = open(path, flags);
    if (state->dirfd < 0 && errno == ENOENT && mode == PAWL_STATE_CREATE) {
        if (mkdir(path, 0700) == 0)
            state->created = true;
        else if (errno != EEXIST) {
            int error = -errno;
            say(why, "cannot make the state directory %s: %s", path, pawl_error_text(error));
            return error;
        }
        state->dirfd = open(path, flags);
    }
    if (state->dirfd < 0) {
        int error = -errno;
        if ((error == -ENOTDIR || error == -ELOOP) && lstat(path, &status) == 0 && S_ISLNK(status.st_mode)) {
            say(why, "state directory %s is a symbolic link; name the directory itself with --state", path);
            return PAWL_E_INVALID;
        }
        if (error == -ENOTDIR && stat(path, &status) == 0 && S_ISSOCK(status.st_mode)) {
            say(why, "%s is a socket: this needs the state directory that it serves", path);
            return PAWL_E_INVALID;
        }
        say(why, "cannot open the state directory %s: %s", path, pawl_error_text(error));
        return error;
    }
    if (fstat(state->dirfd, &status) != 0)
        return -errno;
    if (status.st_uid != geteuid()) {
        say(why,
            "state directory %s belongs to user %u, not to you; do it as that user, or choose another with "
            "--state",
            path, (unsigned)status.st_uid);
        return PAWL_E_INVALID;
    }
    if (status.st_mode & (S_IWGRP | S_IWOTH)) {
        say(why, "state directory %s can be written by others (mode %04o); chmod go-w %s", path,
            (unsigned)status.st_mode & 07777, path);
        return PAWL_E_INVALID;
    }
    return 0;
}

static int settle_format(const char *path, enum pawl_state_mode mode, struct pawl_state *state,
                         char why[PAWL_STATE_WHY_BYTES])
{
    int error = read_format(state->dirfd, path, state->mark, why);
    if (error != -ENOENT)
        return error;
    int ours = holds_nothing_foreign(state->dirfd);
    if (ours < 0)
        return ours;
    if (!ours) {
        say(why, "%s is not a pawl state directory: it holds other files; choose another with --state", path);
        return PAWL_E_BAD_FORMAT;
    }
    if (mode == PAWL_STATE_EXISTING)
        return -ENOENT;
    bool empty_file = faccessat(state->dirfd, "format", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    error = write_format(state->dirfd, empty_file);
    return error ? error : read_format(state->dirfd, path, state->mark, why);
}

static int absolute_path(struct pawl_state *state)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", state->dirfd);
    ssize_t bytes = readlink(link, path, sizeof path - 1);
    if (bytes < 0)
        return -errno;
    if (bytes >= (ssize_t)sizeof path - 1)
        return -ENAMETOOLONG;
    path[bytes] = 0;
    state->path = strdup(path);
    return state->path ? 0 : -ENOMEM;
}

int pawl_state_open(const char *path, enum pawl_state_mode mode, struct pawl_state *state_out,
                    char why[PAWL_STATE_WHY_BYTES])
{
    struct pawl_state state = {.dirfd = -1, .journal_dirfd = -1, .runs_dirfd = -1, .spool_dirfd = -1};
    char trimmed[PATH_MAX];
    size_t length = strlen(path);

    why[0] = 0;
    /* A trailing slash would follow a symbolic link. */
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (length == 0 || length >= sizeof trimmed) {
        say(why, "the path of the state directory is %s", length ? "too long" : "empty");
        return length ? -ENAMETOOLONG : -ENOENT;
    }
    memcpy(trimmed, path, length);
    trimmed[length] = 0;
    if (access("/proc/self/fd", F_OK) !=
        0) { /* its paths are how the socket is reached, however deep it lies */
        say(why, "/proc is not mounted here, and nothing goes without it: mount -t proc proc /proc");
        *state_out = state;
        return -ENOSYS;
    }

    int error = open_directory(trimmed, mode, &state, why);
    if (!error)
        error = settle_format(trimmed, mode, &state, why);
    if (!error)
        error = absolute_path(&state);
    if (!error)
        error = open_part(state.dirfd, "journal", mode, &state.journal_dirfd);
    if (!error)
        error = open_part(state.dirfd, "runs", mode, &state.runs_dirfd);
    if (!error)
        error = open_part(state.dirfd, "spool", mode, &state.spool_dirfd);
    if (error) {
        if (!why[0])
            say(why, "cannot use the state directory %s: %s", trimmed, pawl_error_text(error));
        pawl_state_close(&state);
    }
    *state_out = state;
    return error;
}

bool pawl_state_is_anothers(const char *path)
{
    struct stat status;
    return stat(path, &status) != 0 || status.st_uid != geteuid();
}

void pawl_state_close(struct pawl_state *state)
{
    int *const fds[] = {&state->dirfd, &state->journal_dirfd, &state->runs_dirfd, &state->spool_dirfd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    free(state->path);
    state->path = NULL;
}
