/*
 * reopened.h - runs/ID/reopened: the mark of a run whose image is older than what the journal says.
 *
 * The scheduler sets it before the journal has a word of the reopening, and takes it away when the run is
 * sealed again. So where there is none, an image is the last word on its run, and a reader needs no
 * scheduler; where there is one, the scheduler is asked. If it dies between the mark and the record, the mark
 * stays: then the scheduler, which is asked, does not hold the run, and the image counts as before.
 */
#ifndef PAWL_SCHEDULER_REOPENED_H
#define PAWL_SCHEDULER_REOPENED_H

#include <stdbool.h>

/**
 * pawl_reopened_mark - the run will be reopened
 *
 * On the disk when it returns: waits for the sync of one directory. Return: 0 or -errno.
 */
int pawl_reopened_mark(int runs_dirfd, const char *run_id);

/** pawl_reopened_clear - its image is on the disk and holds all. Nothing waits: a mark that a power loss
 * brings back does no harm. */
void pawl_reopened_clear(int runs_dirfd, const char *run_id);

/** pawl_reopened_is - to be asked before the image is opened: a run that is sealed at this moment has its new
 * image before it loses the mark. */
bool pawl_reopened_is(int runs_dirfd, const char *run_id);

#endif
