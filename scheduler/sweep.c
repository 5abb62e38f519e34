/*
 * sweep.c - reads runs/ID/work piece by piece, and removes what is empty.
 *
 * Runs in: scheduler.
 */
#include "scheduler/sweep.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ENTRIES_A_PIECE = 256 };

bool pawl_sweep_begin(struct pawl_sweep *sweep, int run_dirfd, uint64_t before_ns)
{
    int fd = openat(run_dirfd, "work", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    sweep->before_ns = before_ns;
    sweep->dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!sweep->dir && fd >= 0)
        close(fd);
    return sweep->dir != NULL;
}

bool pawl_sweep_next(struct pawl_sweep *sweep)
{
    struct stat status;
    int fd = dirfd(sweep->dir);
    for (int i = 0; i < ENTRIES_A_PIECE; i++) {
        const struct dirent *entry = readdir(sweep->dir);
        if (!entry)
            return false;
        if (entry->d_name[0] == '.' || fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISDIR(status.st_mode))
            continue;
        /* Not the modification: an untouched one has none that a clock gives. */
        uint64_t made_ns = (uint64_t)status.st_ctim.tv_sec * 1000000000 + (uint64_t)status.st_ctim.tv_nsec;
        if (made_ns < sweep->before_ns)
            (void)unlinkat(fd, entry->d_name, AT_REMOVEDIR); /* only an empty one goes */
    }
    return true;
}

void pawl_sweep_end(struct pawl_sweep *sweep, int run_dirfd)
{
    if (!sweep->dir)
        return;
    closedir(sweep->dir);
    sweep->dir = NULL;
    (void)unlinkat(run_dirfd, "work", AT_REMOVEDIR);
}
