/*
 * begun.h - that a state directory has had a journal: where it is missing, data is, and nothing begins anew.
 *
 * Runs in: scheduler.
 */
#ifndef PAWL_SCHEDULER_BEGUN_H
#define PAWL_SCHEDULER_BEGUN_H

#include <stdbool.h>

/** pawl_begun_is - the mark says so, or a run is sealed, which none is before the journal. */
bool pawl_begun_is(int state_dirfd, int runs_dirfd);

/** pawl_begun_mark - from now on; once the journal, and the names that lead to it, are durable. Not synced: a
 * later start makes it again. */
void pawl_begun_mark(int state_dirfd);

#endif
