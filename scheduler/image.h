/*
 * image.h - a whole run in one block: what is written when it is sealed, and what a snapshot holds of an open
 * one.
 *
 * Runs in: scheduler (write) and any reader (read; no scheduler needed). An image is flat and checksummed.
 * Readers open it with pawl_image_open(), which checks sizes and the checksums of the tables; output bytes
 * are checked when read.
 */
#ifndef PAWL_SCHEDULER_IMAGE_H
#define PAWL_SCHEDULER_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "scheduler/core.h"

struct pawl_image; /* an opened one: runs/ID/image */

/**
 * pawl_image_open - open runs/ID/image below a state directory
 * @runs_dirfd: of STATE/runs
 *
 * Return: 0; -ENOENT; PAWL_E_DAMAGED; PAWL_E_BAD_FORMAT (from a newer pawl); -errno. Close with
 * pawl_image_close().
 */
int pawl_image_open(int runs_dirfd, const char *run_id, struct pawl_image **image_out);
void pawl_image_close(struct pawl_image *image);

/* Only the summary, by one small read: for listing a thousand runs. Same errors. */
int pawl_image_summary(int runs_dirfd, const char *run_id, struct pawl_wire_summary *summary_out);

/* The same for a reader that no scheduler has told anything: -ENOENT also where the run was opened again and
 * the image is not the last word on it (reopened.h). */
int pawl_image_last_word(int runs_dirfd, const char *run_id, struct pawl_wire_summary *summary_out);

void pawl_image_get_summary(const struct pawl_image *image, struct pawl_wire_summary *summary_out);
const void *pawl_image_plan(const struct pawl_image *image, size_t *bytes_out);
const char *pawl_image_file(const struct pawl_image *image); /* path of the workflow file, for people */
int pawl_image_step_next(struct pawl_image *image, uint64_t *cursor, uint32_t state_mask,
                         struct pawl_step_view *view_out);
int pawl_image_result(struct pawl_image *image, uint32_t step, uint64_t instance, uint32_t attempt,
                      bool with_bytes, struct pawl_result_view *view_out);
int pawl_image_step_index(const struct pawl_image *image, const char *name);
int pawl_image_why(struct pawl_image *image, uint32_t step, uint64_t instance, char *buffer, size_t bytes);

/**
 * pawl_image_begin, next, end - write a run's image in bounded pieces, so that the loop never stands still
 * @fd: an open, empty temporary file in the run's directory; stays the caller's. -1: to memory
 *
 * next() writes about @budget_bytes; 1: more to do; 0: all is written (the caller syncs the file, renames it
 * over runs/ID/image and syncs the directory); negative: error. The run must not change meanwhile.
 */
struct pawl_image_writer;
int pawl_image_begin(struct pawl_core *core, struct pawl_run *run, int fd,
                     struct pawl_image_writer **writer_out);
int pawl_image_next(struct pawl_image_writer *writer, size_t budget_bytes);
/* Of one that was begun with -1 for a file: all that was written, until its end. */
const char *pawl_image_memory(const struct pawl_image_writer *writer, size_t *bytes_out);
void pawl_image_end(struct pawl_image_writer *writer);

#endif
