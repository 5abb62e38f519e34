/*
 * seal.c - drives the image writer, the syncs and the rename, a bounded piece a turn.
 *
 * Runs in: scheduler. Three syncs a run: the image's bytes, then, after the rename, runs/ID and runs/ at the
 * same time (a directory is synced always: a worker may have made runs/ID without that).
 */
#include "scheduler/seal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scheduler/control.h"
#include "scheduler/image.h"
#include "scheduler/reopened.h"
#include "scheduler/run.h"
#include "scheduler/sweep.h"
#include "shm/error.h"

enum {
    ACTIVE_MAX = 16,
    PIECE_BYTES = 1 << 20,
};

#define AGAIN_NS  UINT64_C(10000000000)
#define COARSE_NS UINT64_C(10000000) /* times of files are that much behind the clock */

enum phase { WAITING, WRITING, SYNCING, SYNCING_DIRECTORIES, SWEEPING, DONE, FAILED };

struct pawl_seal {
    struct pawl_seal *next;
    struct pawl_loop *loop;
    struct pawl_run *run;
    enum phase phase;
    int error;
    uint64_t again_at_ns;
    int dirfd, fd;
    struct pawl_image_writer *writer;
    struct pawl_sweep sweep;
    struct pawl_io_request file_sync, runs_sync;
    unsigned outstanding;
};

static void on_synced(struct pawl_io_request *request, int32_t result)
{
    struct pawl_seal *seal = request->ctx;
    seal->outstanding--;
    if (result < 0 && seal->error == 0)
        seal->error = result;
}

void pawl_seal_begin(struct pawl_loop *loop, struct pawl_run *run)
{
    struct pawl_seal *seal = calloc(1, sizeof *seal);
    if (!seal) {
        pawl_log(PAWL_LOG_ERROR, "no memory to seal %s: it stays in the journal", pawl_run_id(run));
        return;
    }
    *seal = (struct pawl_seal){.loop = loop, .run = run, .dirfd = -1, .fd = -1};
    seal->file_sync = seal->runs_sync = (struct pawl_io_request){.done = on_synced, .ctx = seal};
    struct pawl_seal **link = &loop->seals;
    while (*link)
        link = &(*link)->next;
    *link = seal;
    loop->seal_count++;
}

static void close_files(struct pawl_seal *seal)
{
    if (seal->writer)
        pawl_image_end(seal->writer);
    if (seal->fd >= 0)
        close(seal->fd);
    pawl_sweep_end(&seal->sweep, seal->dirfd);
    if (seal->dirfd >= 0)
        close(seal->dirfd);
    seal->writer = NULL;
    seal->fd = seal->dirfd = -1;
}

static int start(struct pawl_loop *loop, struct pawl_seal *seal)
{
    const char *id = pawl_run_id(seal->run);
    if (mkdirat(loop->options->runs_dirfd, id, 0700) != 0 && errno != EEXIST)
        return -errno;
    seal->dirfd = openat(loop->options->runs_dirfd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (seal->dirfd < 0)
        return -errno;
    seal->fd = openat(seal->dirfd, "image.tmp", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (seal->fd < 0)
        return -errno;
    return pawl_image_begin(loop->core, seal->run, seal->fd, &seal->writer);
}

static int sync_file(struct pawl_loop *loop, struct pawl_seal *seal)
{
    int error = pawl_io_fsync(loop->io, &seal->file_sync, seal->fd, true);
    seal->outstanding += error == 0;
    return error;
}

static int publish(struct pawl_loop *loop, struct pawl_seal *seal)
{
    if (renameat(seal->dirfd, "image.tmp", seal->dirfd, "image") != 0)
        return -errno;
    int error = pawl_io_fsync(loop->io, &seal->file_sync, seal->dirfd, false);
    seal->outstanding += error == 0;
    if (error)
        return error;
    error = pawl_io_fsync(loop->io, &seal->runs_sync, loop->options->runs_dirfd, false);
    seal->outstanding += error == 0;
    return error;
}

/* Only a run that was there before: this scheduler's workers give their directories away themselves. */
static bool wants_sweep(struct pawl_loop *loop, struct pawl_seal *seal)
{
    struct pawl_wire_summary summary;
    pawl_run_summary(loop->core, seal->run, loop->now, &summary);
    return summary.state == PAWL_RUN_SUCCEEDED && summary.started_at_ns < loop->begun_at_ns &&
           pawl_sweep_begin(&seal->sweep, seal->dirfd, loop->begun_at_ns - COARSE_NS);
}

/* Goes on as far as it can without waiting; @budget counts pieces. */
static int advance(struct pawl_loop *loop, struct pawl_seal *seal, unsigned *budget)
{
    int error = 0;
    if (seal->phase == WAITING) {
        error = start(loop, seal);
        seal->phase = WRITING;
    }
    while (!error && seal->phase == WRITING && *budget > 0) {
        --*budget;
        int more = pawl_image_next(seal->writer, PIECE_BYTES);
        if (more < 0)
            return more;
        if (more == 0) {
            seal->phase = SYNCING;
            error = sync_file(loop, seal);
        }
        if (more == 0 || error)
            return error;
    }
    if (!error && seal->phase == SYNCING && seal->outstanding == 0) {
        seal->phase = SYNCING_DIRECTORIES;
        return publish(loop, seal);
    }
    if (!error && seal->phase == SYNCING_DIRECTORIES && seal->outstanding == 0)
        seal->phase = wants_sweep(loop, seal) ? SWEEPING : DONE;
    while (!error && seal->phase == SWEEPING && *budget > 0) {
        --*budget;
        seal->phase = pawl_sweep_next(&seal->sweep) ? SWEEPING : DONE;
    }
    return error;
}

static void fail(struct pawl_loop *loop, struct pawl_seal *seal)
{
    if (seal->outstanding > 0)
        return; /* the kernel still has the requests */
    pawl_log(PAWL_LOG_ERROR, "run %s cannot be sealed yet: %s", pawl_run_id(seal->run),
             pawl_error_text(seal->error));
    close_files(seal);
    seal->phase = FAILED;
    seal->error = 0;
    seal->again_at_ns = loop->now.boottime_ns + AGAIN_NS;
}

bool pawl_seal_turn(struct pawl_loop *loop)
{
    unsigned active = 0, budget = 1; /* pieces of this turn, of all runs together */
    bool more = false;

    for (struct pawl_seal **link = &loop->seals; *link && active < ACTIVE_MAX;) {
        struct pawl_seal *seal = *link;
        if (seal->phase == FAILED && seal->again_at_ns <= loop->now.boottime_ns)
            seal->phase = WAITING;
        if (seal->phase == FAILED || (seal->phase == WAITING && pawl_control_is_held(loop, seal->run))) {
            link = &seal->next;
            continue;
        }
        active++;
        if (!seal->error)
            seal->error = advance(loop, seal, &budget);
        if (seal->error)
            fail(loop, seal);
        if (seal->phase == DONE) {
            *link = seal->next;
            loop->seal_count--;
            close_files(seal);
            pawl_reopened_clear(loop->options->runs_dirfd, pawl_run_id(seal->run));
            pawl_core_sealed(loop->core, loop->now, seal->run);
            free(seal);
            continue;
        }
        more |= seal->phase == WRITING || seal->phase == SWEEPING;
        link = &seal->next;
    }
    return more;
}

uint64_t pawl_seal_due(const struct pawl_loop *loop)
{
    uint64_t due_ns = UINT64_MAX;
    for (const struct pawl_seal *seal = loop->seals; seal; seal = seal->next)
        if (seal->phase == FAILED && seal->again_at_ns < due_ns)
            due_ns = seal->again_at_ns;
    return due_ns;
}

bool pawl_seal_busy(const struct pawl_loop *loop)
{
    for (const struct pawl_seal *seal = loop->seals; seal; seal = seal->next)
        if (seal->phase != FAILED && !(seal->phase == WAITING && pawl_control_is_held(loop, seal->run)))
            return true;
    return false;
}

void pawl_seal_drop_all(struct pawl_loop *loop)
{
    while (loop->seals) {
        struct pawl_seal *seal = loop->seals;
        loop->seals = seal->next;
        close_files(seal);
        if (seal->outstanding ==
            0) /* else the kernel still has its requests, and the journal's close reaps them */
            free(seal);
    }
    loop->seal_count = 0;
}
