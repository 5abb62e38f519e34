/*
 * environ.h - the environment of a job: the submitter's, the task's, and pawl's own variables.
 *
 * Runs in a worker. The base is built once for each queue; for a task only pointers are copied and the few
 * changing entries are written into buffers that stay. No allocation for a task unless it brings more
 * variables than any before it.
 */
#ifndef PAWL_WORKERS_ENVIRON_H
#define PAWL_WORKERS_ENVIRON_H

#include <stdint.h>

#include "shm/task.h"

enum { PAWL_ENVIRON_ITEM_BYTES_MAX = 100 << 10 };

struct pawl_environ; /* opaque: buffers and pointers */

struct pawl_environ_names {
    const char *run_id, *step, *output_path, *dir_path;
    uint64_t index;
    uint32_t attempt;
};

/**
 * pawl_environ_create - base of a queue's jobs
 * @context: strings are copied; PAWL_RUN, _STEP, _ITEM, _INDEX, _ATTEMPT, _OUTPUT, _DIR and _MARK of the
 * submitter are left out
 * @mark: value of PAWL_MARK, first in the block
 * Return: 0 or -ENOMEM.
 */
int pawl_environ_create(const struct pawl_context *context, const char *mark,
                        struct pawl_environ **environ_out);
void pawl_environ_destroy(struct pawl_environ *environ);

/**
 * pawl_environ_build - the block for one task
 *
 * Points into the task's bytes and into @environ: valid until the next build and while the task is.
 * PAWL_ITEM is left out when the task has none, or it holds a NUL, or is over PAWL_ENVIRON_ITEM_BYTES_MAX.
 * Return: 0 with *envp_out; -ENOMEM; -ENAMETOOLONG.
 */
int pawl_environ_build(struct pawl_environ *environ, const struct pawl_task *task,
                       const struct pawl_environ_names *names, char *const **envp_out);

/* The block of the last build. */
char *const *pawl_environ_block(const struct pawl_environ *environ);

/* Value of a variable in the block of the last build, or NULL. */
const char *pawl_environ_get(const struct pawl_environ *environ, const char *name);

#endif
