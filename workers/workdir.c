/*
 * workdir.c - PAWL_DIR: a new and empty directory for each attempt.
 *
 * Runs in: worker. A directory that pawl made carries a modification time that no clock gives; while it has
 * that, nothing was ever put into it, and it may serve again. Never removes a directory that holds something.
 *
 * If the worker dies here: before the rename the old name stands, after it the new one does; a name that
 * stands only ever raises a later attempt's number.
 */
#include "workers/workdir.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ATTEMPTS_TRIED_MAX = 1 << 20, DIRECTORY_MODE = 0700 };

/* Modification time of an untouched directory: 1 January 1970 and an odd fraction. */
static const struct timespec untouched = {.tv_sec = 7, .tv_nsec = 771771000};

void pawl_workdir_init(struct pawl_workdir *workdir, int state_dirfd)
{
    memset(workdir, 0, sizeof *workdir);
    workdir->state_dirfd = state_dirfd;
    workdir->uid = geteuid();
}

static struct pawl_workdir_spare *oldest(struct pawl_workdir *workdir)
{
    return &workdir->spare[workdir->spare_first];
}

static void drop_oldest(struct pawl_workdir *workdir)
{
    workdir->spare_first = (workdir->spare_first + 1) % PAWL_WORKDIR_SPARES;
    workdir->spare_count--;
}

static bool is_durable(const struct pawl_workdir_spare *spare, uint64_t durable_position)
{
    return spare->reported && spare->position < durable_position;
}

static void remove_with_parents(struct pawl_workdir *workdir, struct pawl_workdir_spare *spare)
{
    unlinkat(workdir->state_dirfd, spare->name, AT_REMOVEDIR);
    char *slash = strrchr(spare->name, '/');
    *slash = '\0';
    unlinkat(workdir->state_dirfd, spare->name, AT_REMOVEDIR); /* runs/ID/work, when it was the last */
}

void pawl_workdir_fini(struct pawl_workdir *workdir, uint64_t durable_position)
{
    while (workdir->spare_count > 0 && is_durable(oldest(workdir), durable_position)) {
        remove_with_parents(workdir, oldest(workdir));
        drop_oldest(workdir);
    }
}

void pawl_workdir_forget(struct pawl_workdir *workdir)
{
    workdir->spare_first = 0;
    workdir->spare_count = 0;
}

/* runs, runs/ID, runs/ID/work for a name below them. */
static int make_parents(int state_dirfd, const char *name)
{
    char path[PAWL_WORKDIR_NAME_BYTES];
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        memcpy(path, name, (size_t)(slash - name));
        path[slash - name] = '\0';
        if (mkdirat(state_dirfd, path, DIRECTORY_MODE) < 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

/* Move the oldest durable spare to @name. 1: done; 0: there is none; -EEXIST; -ENOENT (no parent). */
static int reuse_spare(struct pawl_workdir *workdir, const char *name, uint64_t durable_position)
{
    while (workdir->spare_count > 0 && is_durable(oldest(workdir), durable_position)) {
        struct pawl_workdir_spare *spare = oldest(workdir);
        if (!spare->pristine) {
            unlinkat(workdir->state_dirfd, spare->name, AT_REMOVEDIR);
            drop_oldest(workdir);
            continue;
        }
        if (renameat2(workdir->state_dirfd, spare->name, workdir->state_dirfd, name, RENAME_NOREPLACE) == 0) {
            drop_oldest(workdir);
            return 1;
        }
        if (errno == EEXIST)
            return -EEXIST;
        if (errno == ENOENT && faccessat(workdir->state_dirfd, spare->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            return -ENOENT;
        if (errno == EINVAL || errno == ENOSYS) /* the file system cannot rename exclusively */
            unlinkat(workdir->state_dirfd, spare->name, AT_REMOVEDIR);
        drop_oldest(workdir);
    }
    return 0;
}

static int make_new(struct pawl_workdir *workdir, const char *name)
{
    const struct timespec times[2] = {untouched, untouched};
    if (mkdirat(workdir->state_dirfd, name, DIRECTORY_MODE) < 0)
        return -errno;
    utimensat(workdir->state_dirfd, name, times, AT_SYMLINK_NOFOLLOW);
    return 1;
}

int pawl_workdir_place(struct pawl_workdir *workdir, const char *run_id, const char *step, uint64_t index,
                       uint32_t *attempt, uint64_t durable_position, char stem_out[PAWL_WORKDIR_STEM_BYTES])
{
    char *name = workdir->current.name;
    bool parents_made = false;
    for (uint32_t tried = 0; tried < ATTEMPTS_TRIED_MAX;) {
        int n = index == UINT64_MAX ? snprintf(stem_out, PAWL_WORKDIR_STEM_BYTES, "%s.%u", step, *attempt)
                                    : snprintf(stem_out, PAWL_WORKDIR_STEM_BYTES, "%s.%llu.%u", step,
                                               (unsigned long long)index, *attempt);
        if (n >= PAWL_WORKDIR_STEM_BYTES || snprintf(name, PAWL_WORKDIR_NAME_BYTES, "runs/%s/work/%s", run_id,
                                                     stem_out) >= PAWL_WORKDIR_NAME_BYTES)
            return -ENAMETOOLONG;
        int error = reuse_spare(workdir, name, durable_position);
        if (error == 0)
            error = make_new(workdir, name);
        if (error > 0)
            return 0;
        if (error == -EEXIST) {
            (*attempt)++;
            tried++;
        } else if (error == -ENOENT && !parents_made) {
            error = make_parents(workdir->state_dirfd, name);
            if (error < 0)
                return error;
            parents_made = true;
        } else {
            return error;
        }
    }
    return -EEXIST;
}

/* A directory that cannot be read counts as one that holds something. */
static bool is_empty(int state_dirfd, const char *name)
{
    int fd = openat(state_dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool empty = true;
    for (struct dirent *entry; empty && (entry = readdir(directory));)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(directory);
    return empty;
}

bool pawl_workdir_leave(struct pawl_workdir *workdir, bool strays)
{
    struct pawl_workdir_spare *current = &workdir->current;
    struct stat status;
    if (current->name[0] == '\0')
        return false;
    bool there = fstatat(workdir->state_dirfd, current->name, &status, AT_SYMLINK_NOFOLLOW) == 0;
    if (!there) /* the job removed it: its name must stand all the same until the result is durable */
        there = make_new(workdir, current->name) > 0 &&
                fstatat(workdir->state_dirfd, current->name, &status, AT_SYMLINK_NOFOLLOW) == 0;
    bool pristine = there && status.st_mode == (S_IFDIR | DIRECTORY_MODE) && status.st_uid == workdir->uid &&
                    status.st_mtim.tv_sec == untouched.tv_sec && status.st_mtim.tv_nsec == untouched.tv_nsec;
    bool kept = there && !pristine && !is_empty(workdir->state_dirfd, current->name);
    if (there && !kept && !strays && workdir->spare_count < PAWL_WORKDIR_SPARES) {
        current->pristine = pristine;
        current->reported = false;
        workdir->spare[(workdir->spare_first + workdir->spare_count) % PAWL_WORKDIR_SPARES] = *current;
        workdir->spare_count++;
    }
    current->name[0] = '\0';
    return kept;
}

void pawl_workdir_reported(struct pawl_workdir *workdir, uint64_t position)
{
    for (uint32_t i = workdir->spare_count; i-- > 0;) {
        struct pawl_workdir_spare *spare = &workdir->spare[(workdir->spare_first + i) % PAWL_WORKDIR_SPARES];
        if (spare->reported)
            break;
        spare->reported = true;
        spare->position = position;
    }
}
