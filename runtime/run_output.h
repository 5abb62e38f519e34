/*
 * run_output.h - what runs have left below STATE/runs: summaries of ended ones, outputs of steps.
 *
 * Runs in: commands, and programs that use libpawl.
 */
#ifndef PAWL_RUNTIME_RUN_OUTPUT_H
#define PAWL_RUNTIME_RUN_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

#include "shm/wire.h"

/**
 * pawl_open_output - a run's output file
 * @path: below runs/RUN_ID, as results name it (not NUL-terminated)
 *
 * Return: a descriptor, or -errno (-EINVAL: a path that leads out of the run).
 */
int pawl_open_output(int runs_dirfd, const char *run_id, const char *path, size_t path_bytes);

/* Behind the records of an answer RESULTS: what is left of it there. */
struct pawl_output_marks {
    const char *at;
    size_t left;
};

/**
 * pawl_output_marks_next - what the output files of the next record held when they were recorded
 * @flags: of that record
 *
 * All zeros where it has none, or the answer does not say: it is of a scheduler of before.
 */
void pawl_output_marks_next(struct pawl_output_marks *marks, uint32_t flags,
                            struct pawl_wire_files *files_out);

/** pawl_output_files - the same of an answer with one record: @record is it and what follows it, @left bytes.
 */
void pawl_output_files(const char *record, size_t left, struct pawl_wire_files *files_out);

/**
 * pawl_read_output - all of a run's output file, and a NUL behind it
 * @xxh3, @bytes: what it held when it was recorded; @bytes 0: not known
 *
 * Return: 0 and *@out to be freed; PAWL_E_DAMAGED; -errno.
 */
int pawl_read_output(int runs_dirfd, const char *run_id, const char *path, size_t path_bytes, uint64_t bytes,
                     uint64_t xxh3, char **out, size_t *bytes_out);

/** pawl_ended_summary - of a run that has ended. 0; -ENOENT; as pawl_image_summary(). */
int pawl_ended_summary(int runs_dirfd, const char *run_id, struct pawl_wire_summary *summary_out);

/** pawl_ended_output - what the newest attempt of a step of an ended run printed, and a NUL behind it.
 * Return: 0 and *@out to be freed; PAWL_E_NOT_FOUND; PAWL_E_STATE (it never ran); PAWL_E_DAMAGED; -errno. */
int pawl_ended_output(int runs_dirfd, const char *run_id, const char *step, uint64_t instance, char **out,
                      size_t *bytes_out);

#endif
