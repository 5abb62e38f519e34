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
#include <stdio.h> /* renameat2() */
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "workers/text.h"

enum { ATTEMPTS_TRIED_MAX = 1 << 20, DIRECTORY_MODE = 0700, SPARES_FIRST = 64 };

/* Modification time of an untouched directory: 1 January 1970 and an odd fraction. */
static const struct timespec untouched = {.tv_sec = 7, .tv_nsec = 771771000};

void pawl_workdir_init(struct pawl_workdir *workdir, int state_dirfd)
{
    memset(workdir, 0, sizeof *workdir);
    workdir->state_dirfd = state_dirfd;
    workdir->work_fd = -1;
    workdir->uid = geteuid();
}

static void close_work(struct pawl_workdir *workdir)
{
    if (workdir->work_fd >= 0)
        close(workdir->work_fd);
    workdir->work_fd = -1;
}

/* runs/ID/work stays open from attempt to attempt: three parts less of each path to walk. */
static void open_work(struct pawl_workdir *workdir, const char *run_id)
{
    char path[PAWL_WORKDIR_NAME_BYTES];
    struct pawl_text text = pawl_text_begin(path, sizeof path);
    pawl_text_add(&text, "runs/");
    pawl_text_add(&text, run_id);
    pawl_text_add(&text, "/work/");
    if (workdir->work_fd >= 0 && strcmp(workdir->work, path) == 0)
        return;
    close_work(workdir);
    workdir->work_bytes = strlen(path);
    memcpy(workdir->work, path, workdir->work_bytes + 1);
    if (!text.cut)
        workdir->work_fd = openat(workdir->state_dirfd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

struct place {
    int dirfd;
    const char *name;
};

static struct place place_of(const struct pawl_workdir *workdir, const char *name)
{
    bool inside = workdir->work_fd >= 0 && strncmp(name, workdir->work, workdir->work_bytes) == 0;
    return inside ? (struct place){workdir->work_fd, name + workdir->work_bytes}
                  : (struct place){workdir->state_dirfd, name};
}

/* The room is a power of two. */
static struct pawl_workdir_spare *spare_at(const struct pawl_workdir *workdir, uint32_t index)
{
    return &workdir->spare[(workdir->spare_first + index) & (workdir->spare_room - 1)];
}

static struct pawl_workdir_spare *oldest(struct pawl_workdir *workdir)
{
    return spare_at(workdir, 0);
}

static void drop_oldest(struct pawl_workdir *workdir)
{
    workdir->spare_first = (workdir->spare_first + 1) & (workdir->spare_room - 1);
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
    close_work(workdir);
}

void pawl_workdir_forget(struct pawl_workdir *workdir)
{
    workdir->spare_first = 0;
    workdir->spare_count = 0;
}

void pawl_workdir_destroy(struct pawl_workdir *workdir)
{
    close_work(workdir);
    free(workdir->spare);
    workdir->spare = NULL;
    workdir->spare_room = 0;
    pawl_workdir_forget(workdir);
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
        struct place from = place_of(workdir, spare->name), to = place_of(workdir, name);
        if (!spare->pristine) {
            unlinkat(from.dirfd, from.name, AT_REMOVEDIR);
            drop_oldest(workdir);
            continue;
        }
        if (renameat2(from.dirfd, from.name, to.dirfd, to.name, RENAME_NOREPLACE) == 0) {
            drop_oldest(workdir);
            return 1;
        }
        if (errno == EEXIST)
            return -EEXIST;
        if (errno == ENOENT && faccessat(from.dirfd, from.name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            return -ENOENT;
        if (errno == EINVAL || errno == ENOSYS) /* the file system cannot rename exclusively */
            unlinkat(from.dirfd, from.name, AT_REMOVEDIR);
        drop_oldest(workdir);
    }
    return 0;
}

static int make_new(struct pawl_workdir *workdir, const char *name)
{
    const struct timespec times[2] = {untouched, untouched};
    struct place at = place_of(workdir, name);
    if (mkdirat(at.dirfd, at.name, DIRECTORY_MODE) < 0)
        return -errno;
    utimensat(at.dirfd, at.name, times, AT_SYMLINK_NOFOLLOW);
    return 1;
}

int pawl_workdir_place(struct pawl_workdir *workdir, const char *run_id, const char *step, uint64_t index,
                       uint32_t *attempt, uint64_t durable_position, char stem_out[PAWL_WORKDIR_STEM_BYTES])
{
    char *name = workdir->current.name;
    bool parents_made = false;
    open_work(workdir, run_id);
    for (uint32_t tried = 0; tried < ATTEMPTS_TRIED_MAX;) {
        struct pawl_text stem = pawl_text_begin(stem_out, PAWL_WORKDIR_STEM_BYTES);
        pawl_text_add(&stem, step);
        if (index != UINT64_MAX) {
            pawl_text_add(&stem, ".");
            pawl_text_add_number(&stem, index);
        }
        pawl_text_add(&stem, ".");
        pawl_text_add_number(&stem, *attempt);
        struct pawl_text whole = pawl_text_begin(name, PAWL_WORKDIR_NAME_BYTES);
        pawl_text_add_bytes(&whole, workdir->work, workdir->work_bytes);
        pawl_text_add(&whole, stem_out);
        if (stem.cut || whole.cut)
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
            close_work(workdir); /* it may be one that was removed */
            error = make_parents(workdir->state_dirfd, name);
            if (error < 0)
                return error;
            parents_made = true;
            open_work(workdir, run_id);
        } else {
            return error;
        }
    }
    return -EEXIST;
}

/* A directory that cannot be read counts as one that holds something. */
static bool is_empty(int dirfd, const char *name)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
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

/* For one more spare. Without it the directory would stay for good, empty as it is. */
static bool make_room(struct pawl_workdir *workdir)
{
    if (workdir->spare_count < workdir->spare_room)
        return true;
    uint32_t room = workdir->spare_room ? workdir->spare_room * 2 : SPARES_FIRST;
    struct pawl_workdir_spare *spare = room <= PAWL_WORKDIR_SPARES_MAX ? malloc(room * sizeof *spare) : NULL;
    if (!spare)
        return false;
    for (uint32_t i = 0; i < workdir->spare_count; i++)
        spare[i] = *spare_at(workdir, i);
    free(workdir->spare);
    workdir->spare = spare;
    workdir->spare_room = room;
    workdir->spare_first = 0;
    return true;
}

bool pawl_workdir_leave(struct pawl_workdir *workdir, bool strays)
{
    struct pawl_workdir_spare *current = &workdir->current;
    struct stat status;
    if (current->name[0] == '\0')
        return false;
    struct place at = place_of(workdir, current->name);
    bool there = fstatat(at.dirfd, at.name, &status, AT_SYMLINK_NOFOLLOW) == 0;
    if (!there) /* the job removed it: its name must stand all the same until the result is durable */
        there = make_new(workdir, current->name) > 0 &&
                fstatat(at.dirfd, at.name, &status, AT_SYMLINK_NOFOLLOW) == 0;
    bool pristine = there && status.st_mode == (S_IFDIR | DIRECTORY_MODE) && status.st_uid == workdir->uid &&
                    status.st_mtim.tv_sec == untouched.tv_sec && status.st_mtim.tv_nsec == untouched.tv_nsec;
    bool kept = there && !pristine && !is_empty(at.dirfd, at.name);
    if (there && !kept && !strays && make_room(workdir)) {
        current->pristine = pristine;
        current->reported = false;
        *spare_at(workdir, workdir->spare_count) = *current;
        workdir->spare_count++;
    }
    current->name[0] = '\0';
    return kept;
}

void pawl_workdir_reported(struct pawl_workdir *workdir, uint64_t position)
{
    for (uint32_t i = workdir->spare_count; i-- > 0;) {
        struct pawl_workdir_spare *spare = spare_at(workdir, i);
        if (spare->reported)
            break;
        spare->reported = true;
        spare->position = position;
    }
}
