/*
 * spool.h - what a step that runs now has printed so far.
 *
 * Workers use their spool files again for the next task, so bytes count only if the same attempt still ran
 * after they were read: pawl_spool_copy() looks before it believes.
 */
#ifndef PAWL_RUNTIME_CLI_SPOOL_H
#define PAWL_RUNTIME_CLI_SPOOL_H

#include "runtime/cli/run_view.h"

struct pawl_spool {
    uint32_t step, attempt, worker;
    uint64_t instance, started_at_ns;
    char out[96], err[96]; /* below the state directory */
};

/** pawl_spool_next - the records of a RUNNING reply, one by one. Return: bytes of the record, 0 at the end or
 * when it does not hold. */
size_t pawl_spool_next(const void *at, size_t left, struct pawl_spool *spool_out);

/** pawl_spool_find - does this instance run now? */
bool pawl_spool_find(struct pawl_run_view *view, uint32_t step, uint64_t instance,
                     struct pawl_spool *spool_out);

/** pawl_spool_is_same - does the very same attempt still run? */
bool pawl_spool_is_same(struct pawl_run_view *view, const struct pawl_spool *spool);

/** pawl_spool_copy - what came since *@offset, to @fd; *@offset moves on. Return: 0 or -errno. */
int pawl_spool_copy(struct pawl_run_view *view, const struct pawl_spool *spool, bool errors, uint64_t *offset,
                    int fd);

#endif
