/*
 * program.h - find the file that a command's name means.
 *
 * Runs in a worker, before the job is started: so that a missing program is a clear error and the child has
 * nothing to look for. Follows execvp(): names with a slash are paths, others are searched along PATH.
 */
#ifndef PAWL_WORKERS_PROGRAM_H
#define PAWL_WORKERS_PROGRAM_H

#include <limits.h>
#include <stddef.h>

#define PAWL_PATH_DEFAULT "/usr/local/bin:/usr/bin:/bin"

/**
 * pawl_program_find - path for execve()
 * @name: argv[0]; @search: PATH or NULL for PAWL_PATH_DEFAULT
 * @directory: the job's working directory (what relative names and entries mean), absolute, or NULL
 * @path_out: PATH_MAX bytes
 *
 * Looked up anew each time: a step may install the program that the next one calls.
 * Return: 0; -ENOENT; -EACCES (found, not executable; *path_out names it); -ENAMETOOLONG.
 */
int pawl_program_find(const char *name, const char *search, const char *directory, char path_out[PATH_MAX]);

#endif
