/*
 * reopened.c - an empty file beside the image.
 *
 * Runs in: scheduler (sets and clears), readers (look).
 */
#include "scheduler/reopened.h"

#include <errno.h>
#include <stdio.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/wire.h"

#define MARK "reopened"

/* Return: false: not the name of a run. */
static bool make_path(const char *run_id, char path[PAWL_NAME_BYTES + sizeof "/" MARK])
{
    int n = snprintf(path, PAWL_NAME_BYTES + sizeof "/" MARK, "%s/" MARK, run_id);
    return run_id[0] != '.' && n < PAWL_NAME_BYTES + (int)sizeof "/" MARK;
}

int pawl_reopened_mark(int runs_dirfd, const char *run_id)
{
    int dirfd = openat(runs_dirfd, run_id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dirfd < 0)
        return -errno;
    int fd = openat(dirfd, MARK, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    int error = fd < 0 || fsync(dirfd) != 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    close(dirfd);
    return error;
}

void pawl_reopened_clear(int runs_dirfd, const char *run_id)
{
    char path[PAWL_NAME_BYTES + sizeof "/" MARK];
    if (make_path(run_id, path))
        (void)unlinkat(runs_dirfd, path, 0);
}

bool pawl_reopened_is(int runs_dirfd, const char *run_id)
{
    char path[PAWL_NAME_BYTES + sizeof "/" MARK];
    return make_path(run_id, path) && faccessat(runs_dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}
