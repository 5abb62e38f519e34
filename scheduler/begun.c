/*
 * begun.c - STATE/journal.begun.
 *
 * Runs in: scheduler. An empty file: its name is all that it says.
 */
#include "scheduler/begun.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define MARK "journal.begun"

static bool has_image(int dirfd, const char *run_id)
{
    char path[300];
    int bytes = snprintf(path, sizeof path, "%s/image", run_id);
    return bytes > 0 && (size_t)bytes < sizeof path && faccessat(dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool has_sealed_run(int dirfd)
{
    int copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir) {
        if (copy >= 0)
            close(copy);
        return false;
    }
    bool found = false;
    for (struct dirent *entry; !found && (entry = readdir(dir));)
        found = entry->d_name[0] != '.' && has_image(dirfd, entry->d_name);
    closedir(dir);
    return found;
}

bool pawl_begun_is(int state_dirfd, int runs_dirfd)
{
    return faccessat(state_dirfd, MARK, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || has_sealed_run(runs_dirfd);
}

void pawl_begun_mark(int state_dirfd)
{
    int fd = faccessat(state_dirfd, MARK, F_OK, AT_SYMLINK_NOFOLLOW) == 0
                 ? -1
                 : openat(state_dirfd, MARK, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0)
        close(fd);
}
