/*
 * run_output.c - reads what runs have left below STATE/runs.
 *
 * Runs in: commands, and programs that use libpawl. Opens for reading only.
 */
#include "runtime/run_output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "scheduler/image.h"
#include "shm/error.h"

int pawl_open_output(int runs_dirfd, const char *run_id, const char *path, size_t path_bytes)
{
    char full[PATH_MAX];
    if (path_bytes == 0 || path[0] == '/' || memchr(path, '\0', path_bytes) != NULL)
        return -EINVAL;
    int n = snprintf(full, sizeof full, "%s/%.*s", run_id, (int)path_bytes, path);
    bool climbs = strstr(full, "/../") != NULL || (n >= 3 && strcmp(full + n - 3, "/..") == 0);
    if (n < 0 || (size_t)n >= sizeof full || climbs)
        return -EINVAL;
    int fd = openat(runs_dirfd, full, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

void pawl_output_marks_next(struct pawl_output_marks *marks, uint32_t flags,
                            struct pawl_wire_files *files_out)
{
    bool has_file = (flags & (PAWL_RESULT_STDOUT_FILE | PAWL_RESULT_STDERR_FILE)) != 0;
    memset(files_out, 0, sizeof *files_out);
    if (!has_file || marks->left < sizeof *files_out)
        return;
    memcpy(files_out, marks->at, sizeof *files_out);
    marks->at += sizeof *files_out;
    marks->left -= sizeof *files_out;
}

void pawl_output_files(const char *record, size_t left, struct pawl_wire_files *files_out)
{
    struct pawl_wire_result fixed;
    memset(files_out, 0, sizeof *files_out);
    if (left < sizeof fixed)
        return;
    memcpy(&fixed, record, sizeof fixed);
    uint64_t streams = (uint64_t)fixed.stdout_bytes + fixed.stderr_bytes + fixed.named_bytes;
    uint64_t bytes = (sizeof fixed + streams + 7) & ~UINT64_C(7);
    if (bytes > left)
        return;
    struct pawl_output_marks marks = {record + bytes, left - bytes};
    pawl_output_marks_next(&marks, fixed.flags, files_out);
}

static int read_all(int fd, char *bytes, size_t want, size_t *done)
{
    while (*done < want) {
        ssize_t got = pread(fd, bytes + *done, want - *done, (off_t)*done);
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got == 0)
            break;
        *done += got > 0 ? (size_t)got : 0;
    }
    return 0;
}

int pawl_read_output(int runs_dirfd, const char *run_id, const char *path, size_t path_bytes, uint64_t bytes,
                     uint64_t xxh3, char **out, size_t *bytes_out)
{
    struct stat status;
    size_t done = 0;
    int fd = pawl_open_output(runs_dirfd, run_id, path, path_bytes);
    if (fd < 0)
        return fd;
    int error = fstat(fd, &status) == 0 ? 0 : -errno;
    char *text = error ? NULL : malloc((size_t)status.st_size + 1);
    if (!error)
        error = text ? read_all(fd, text, (size_t)status.st_size, &done) : -ENOMEM;
    close(fd);
    if (!error && bytes > 0 && (bytes != done || XXH3_64bits(text, done) != xxh3))
        error = PAWL_E_DAMAGED;
    if (error) {
        free(text);
        return error;
    }
    text[done] = 0;
    *out = text;
    *bytes_out = done;
    return 0;
}

int pawl_ended_summary(int runs_dirfd, const char *run_id, struct pawl_wire_summary *summary_out)
{
    int error = pawl_image_summary(runs_dirfd, run_id, summary_out);
    summary_out->run_id[PAWL_NAME_BYTES - 1] = summary_out->workflow[PAWL_NAME_BYTES - 1] = 0;
    return error;
}

int pawl_ended_output(int runs_dirfd, const char *run_id, const char *step, uint64_t instance, char **out,
                      size_t *bytes_out)
{
    struct pawl_image *image;
    struct pawl_result_view result = {.bytes = NULL};
    int error = pawl_image_open(runs_dirfd, run_id, &image);
    if (error)
        return error == -ENOENT ? PAWL_E_NOT_FOUND : error;
    int index = pawl_image_step_index(image, step);
    error = index < 0 ? index : pawl_image_result(image, (uint32_t)index, instance, 0, true, &result);
    size_t bytes = result.fixed.stdout_bytes;
    if (!error && (result.fixed.flags & PAWL_RESULT_STDOUT_FILE)) {
        error = pawl_read_output(runs_dirfd, run_id, result.bytes, bytes, result.stdout_file.bytes,
                                 result.stdout_file.xxh3, out, bytes_out);
    } else if (!error) {
        *out = malloc(bytes + 1);
        error = *out ? 0 : -ENOMEM;
        if (*out && bytes > 0)
            memcpy(*out, result.bytes, bytes);
        if (*out)
            (*out)[bytes] = 0;
        *bytes_out = bytes;
    }
    free(result.bytes);
    pawl_image_close(image);
    return error;
}
