/*
 * workdir.h - PAWL_DIR: a new and empty directory for each attempt.
 *
 * Runs in a worker. runs/ID/work/STEP[.INDEX].ATTEMPT is made exclusively; a name that exists raises the
 * attempt, which is what keeps attempt numbers from repeating even when no journal saw the earlier one. So a
 * directory may leave its name only when the attempt's result is durable: empty ones wait in a short queue
 * and are then renamed to the next attempt's name, which is cheaper than to remove and make one.
 */
#ifndef PAWL_WORKERS_WORKDIR_H
#define PAWL_WORKERS_WORKDIR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm/wire.h"

enum {
    PAWL_WORKDIR_SPARES_MAX = 4096, /* more than results may wait to be durable */
    PAWL_WORKDIR_STEM_BYTES = 160,
    PAWL_WORKDIR_NAME_BYTES = 256,
};

struct pawl_workdir_spare {
    uint64_t position;                  /* of the RESULT in the settle ring: reusable once durable */
    bool reported;                      /* position is known */
    bool pristine;                      /* untouched: may be renamed; else it is only removed */
    char name[PAWL_WORKDIR_NAME_BYTES]; /* runs/ID/work/STEM */
};

struct pawl_workdir {
    int state_dirfd;                    /* borrowed */
    int work_fd;                        /* of `work`, or -1 */
    char work[PAWL_WORKDIR_NAME_BYTES]; /* runs/ID/work/ of the newest attempt */
    size_t work_bytes;
    uid_t uid;                        /* who owns an untouched directory */
    struct pawl_workdir_spare *spare; /* oldest first, a ring that grows */
    uint32_t spare_room, spare_first, spare_count;
    struct pawl_workdir_spare current; /* name "" : none */
};

void pawl_workdir_init(struct pawl_workdir *workdir, int state_dirfd);

/* Remove the spares whose results are durable, leave the others, and let the run go. */
void pawl_workdir_fini(struct pawl_workdir *workdir, uint64_t durable_position);

/* Give memory and descriptor back; spares stay where they are. */
void pawl_workdir_destroy(struct pawl_workdir *workdir);

/**
 * pawl_workdir_place - make the directory of an attempt
 * @index: of the instance, or UINT64_MAX for a step without foreach
 * @attempt: in: the planned one; out: raised when the name existed
 * @durable_position: results before this position of the settle ring are durable
 * @stem_out: STEP[.INDEX].ATTEMPT, also the stem of large outputs
 *
 * Return: 0 or -errno.
 */
int pawl_workdir_place(struct pawl_workdir *workdir, const char *run_id, const char *step, uint64_t index,
                       uint32_t *attempt, uint64_t durable_position, char stem_out[PAWL_WORKDIR_STEM_BYTES]);

/**
 * pawl_workdir_leave - the attempt ended
 * @strays: somebody may still use it: it is left alone
 * Return: true when something is in it: it is kept (PAWL_SETTLE_KEPT_DIR).
 */
bool pawl_workdir_leave(struct pawl_workdir *workdir, bool strays);

/* The RESULT of the attempts that left so far stands at @position of the settle ring. */
void pawl_workdir_reported(struct pawl_workdir *workdir, uint64_t position);

/* The lane is gone and its positions mean nothing now: spares stay where they are, for good. */
void pawl_workdir_forget(struct pawl_workdir *workdir);

#endif
