/*
 * collect.c - gc: sealed runs that nobody wants to keep are removed.
 *
 * Runs in: scheduler. A run that the scheduler holds is never touched. The list is made at once (one small
 * read a run), then one run is removed a turn, so that a thousand of them do not make the others wait. A run
 * is renamed first: what is half removed does not look like a run, and the next collection ends it.
 */
#include "scheduler/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scheduler/image.h"
#include "scheduler/reopened.h"
#include "scheduler/snapshot.h"
#include "shm/error.h"

#define DOOMED ".gc."
enum { DEPTH_MAX = 64 };

struct candidate {
    char name[PAWL_NAME_BYTES + 8]; /* in runs/ */
    uint64_t finished_at_ns;
};

struct pawl_collection {
    struct pawl_connection *connection; /* NULL: it hung up; the work goes on */
    uint64_t tag;
    struct candidate *list;
    size_t count, capacity, next;
    uint64_t runs_removed, bytes_freed;
};

static uint64_t remove_file(int dirfd, const char *name, const struct stat *status)
{
    uint64_t bytes = status->st_nlink == 1 ? (uint64_t)status->st_blocks * 512 : 0;
    return unlinkat(dirfd, name, 0) == 0 ? bytes : 0;
}

/* Everything below @name, never through a link. Return: bytes freed. */
static uint64_t remove_tree(int parent_fd, const char *name, int depth)
{
    struct stat status;
    uint64_t freed = 0;
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0)
            close(fd);
        return fstatat(parent_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0
                   ? remove_file(parent_fd, name, &status)
                   : 0;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (!S_ISDIR(status.st_mode))
            freed += remove_file(fd, entry->d_name, &status);
        else if (depth < DEPTH_MAX)
            freed += remove_tree(fd, entry->d_name, depth + 1);
    }
    closedir(dir);
    (void)unlinkat(parent_fd, name, AT_REMOVEDIR);
    return freed;
}

static int add_candidate(struct pawl_collection *collection, const char *name, uint64_t finished_at_ns)
{
    if (collection->count == collection->capacity) {
        size_t capacity = collection->capacity ? 2 * collection->capacity : 64;
        struct candidate *list = realloc(collection->list, capacity * sizeof *list);
        if (!list)
            return -ENOMEM;
        collection->list = list;
        collection->capacity = capacity;
    }
    struct candidate *candidate = &collection->list[collection->count++];
    snprintf(candidate->name, sizeof candidate->name, "%s", name);
    candidate->finished_at_ns = finished_at_ns;
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    const struct candidate *left = a, *right = b;
    if (left->finished_at_ns != right->finished_at_ns)
        return left->finished_at_ns < right->finished_at_ns ? 1 : -1;
    return strcmp(right->name, left->name);
}

static int list_runs(struct pawl_loop *loop, struct pawl_collection *collection)
{
    struct pawl_wire_summary summary;
    int fd = openat(loop->options->runs_dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    int error = dir ? 0 : -errno;
    if (!dir && fd >= 0)
        close(fd);
    for (struct dirent *entry; !error && (entry = readdir(dir));) {
        size_t length = strlen(entry->d_name);
        bool doomed = strncmp(entry->d_name, DOOMED, strlen(DOOMED)) == 0;
        if (doomed && length < sizeof collection->list->name)
            error = add_candidate(collection, entry->d_name, 0);
        else if (entry->d_name[0] != '.' && length < PAWL_NAME_BYTES &&
                 !pawl_core_find(loop->core, entry->d_name) &&
                 pawl_image_summary(loop->options->runs_dirfd, entry->d_name, &summary) == 0) {
            pawl_reopened_clear(loop->options->runs_dirfd, entry->d_name); /* a crash may have left it */
            error = add_candidate(collection, entry->d_name, summary.finished_at_ns);
        }
    }
    if (dir)
        closedir(dir);
    return error;
}

/* Runs that have just ended and are still being sealed: they are the newest, and stay. Interrupted ones are
 * not finished, are never sealed, and take nobody's place. */
static size_t count_unsealed(const struct pawl_loop *loop)
{
    struct pawl_wire_summary summary;
    size_t count = 0;
    struct pawl_run *run = pawl_core_run_next(loop->core, NULL);
    for (; run; run = pawl_core_run_next(loop->core, run)) {
        pawl_run_summary(loop->core, run, loop->now, &summary);
        count += pawl_run_over(run) && summary.state != PAWL_RUN_INTERRUPTED;
    }
    return count;
}

/* Those that stay leave the list. What a collection before this one did not finish always goes. */
static void choose(struct pawl_collection *collection, const struct pawl_wire_gc *request,
                   size_t unsealed_count, uint64_t now_ns)
{
    size_t kept = 0, rank = unsealed_count;
    if (collection->count > 0)
        qsort(collection->list, collection->count, sizeof *collection->list, newest_first);
    for (size_t i = 0; i < collection->count; i++) {
        const struct candidate *candidate = &collection->list[i];
        bool doomed = candidate->name[0] == '.';
        bool beyond_count = request->keep_runs == UINT64_MAX || rank >= request->keep_runs;
        bool beyond_age =
            request->older_than_ns == 0 || (now_ns > candidate->finished_at_ns &&
                                            now_ns - candidate->finished_at_ns > request->older_than_ns);
        if (!doomed)
            rank++;
        if (doomed || (beyond_count && beyond_age))
            collection->list[kept++] = *candidate;
    }
    collection->count = kept;
}

void pawl_control_collect(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    struct pawl_loop *loop = connection->loop;
    uint64_t tag = message->header.tag;
    if (message->header.bytes < sizeof(struct pawl_wire_gc)) {
        pawl_control_error(connection, tag, PAWL_E_BAD_MESSAGE, NULL, "too short a request");
        return;
    }
    if (loop->collection) {
        pawl_control_error(connection, tag, PAWL_E_STATE, "try again when it is done",
                           "another collection is under way");
        return;
    }
    struct pawl_collection *collection = calloc(1, sizeof *collection);
    int error = collection ? list_runs(loop, collection) : -ENOMEM;
    if (error) {
        pawl_control_error(connection, tag, error, NULL, "cannot list the runs: %s", pawl_error_text(error));
        if (collection)
            free(collection->list);
        free(collection);
        return;
    }
    choose(collection, message->body, count_unsealed(loop), loop->now.realtime_ns);
    collection->connection = connection;
    collection->tag = tag;
    loop->collection = collection;
}

void pawl_collect_forget(struct pawl_connection *connection)
{
    struct pawl_loop *loop = connection->loop;
    if (loop->collection && loop->collection->connection == connection)
        loop->collection->connection = NULL;
}

static void finish(struct pawl_loop *loop, struct pawl_collection *collection)
{
    struct pawl_journal_stats before, after;
    char text[256];
    pawl_journal_stats(loop->journal, &before);
    pawl_snapshot_release(loop);
    pawl_journal_stats(loop->journal, &after);
    uint64_t journal_bytes = before.disk_bytes > after.disk_bytes ? before.disk_bytes - after.disk_bytes : 0;
    int bytes =
        snprintf(text, sizeof text,
                 "{\"schema\":1,\"runs_removed\":%llu,\"bytes_freed\":%llu,\"journal_bytes_freed\":%llu}",
                 (unsigned long long)collection->runs_removed, (unsigned long long)collection->bytes_freed,
                 (unsigned long long)journal_bytes);
    if (collection->connection)
        pawl_control_reply(collection->connection, PAWL_WIRE_TEXT, collection->tag, text, (size_t)bytes, NULL,
                           0);
    loop->collection = NULL;
    free(collection->list);
    free(collection);
}

void pawl_collect_turn(struct pawl_loop *loop)
{
    struct pawl_collection *collection = loop->collection;
    char doomed[sizeof(struct candidate) + 8];
    if (!collection)
        return;
    if (collection->next == collection->count) {
        finish(loop, collection);
        return;
    }
    const char *name = collection->list[collection->next++].name;
    int runs_dirfd = loop->options->runs_dirfd;
    if (name[0] == '.') {
        collection->bytes_freed += remove_tree(runs_dirfd, name, 0);
        return;
    }
    if (pawl_core_find(loop->core, name))
        return; /* reopened since the list was made */
    snprintf(doomed, sizeof doomed, DOOMED "%s", name);
    if (renameat(runs_dirfd, name, runs_dirfd, doomed) != 0)
        return;
    collection->runs_removed++;
    collection->bytes_freed += remove_tree(runs_dirfd, doomed, 0);
}
