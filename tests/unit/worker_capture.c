/*
 * worker_capture.c - what a job writes arrives in its own result, whole, and in no other.
 */
#include "workers/capture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static char state[64];
static int state_dirfd;
static struct pawl_capture capture;
static struct pawl_captured captured;

static void open_capture(void)
{
    umask(077);
    strcpy(state, "/tmp/pawl-capture-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(state), NULL));
    state_dirfd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cr_assert(eq(int, pawl_capture_open(&capture, state_dirfd, state, 3), 0));
}

static void close_capture(void)
{
    char command[100];
    pawl_capture_close(&capture);
    snprintf(command, sizeof command, "rm -rf %s", state);
    cr_expect(eq(int, system(command), 0));
}

TestSuite(capture, .init = open_capture, .fini = close_capture, .timeout = 300);

static void put(int fd, const char *text)
{
    cr_assert(eq(int, (int)write(fd, text, strlen(text)), (int)strlen(text)));
}

static void fill(int fd, size_t bytes, char with)
{
    char block[4096];
    memset(block, with, sizeof block);
    for (size_t n; bytes > 0; bytes -= n) {
        n = bytes < sizeof block ? bytes : sizeof block;
        cr_assert(eq(sz, (size_t)write(fd, block, n), n));
    }
}

static bool collect(const char *stem)
{
    return pawl_capture_collect(&capture, "run-1", stem, false, UINT64_MAX, &captured);
}

static char *out_path(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/runs/run-1/out/%s", state, name);
    return path;
}

Test(capture, small_output_of_each_stream_is_inline)
{
    cr_assert(eq(int, pawl_capture_begin(&capture), 0));
    put(capture.out.job_fd, "to out");
    put(capture.err.job_fd, "error!");
    pawl_capture_started(&capture);
    cr_expect(eq(u64, pawl_capture_bytes(&capture), 6));
    cr_expect(eq(int, collect("s.1"), 0));
    cr_expect(eq(int, captured.flags, 0));
    cr_expect(eq(int, captured.error, 0));
    cr_expect(eq(u32, captured.stdout_bytes, 6));
    cr_expect(eq(u32, captured.stderr_bytes, 6));
    cr_expect(eq(u32, captured.named_bytes, 0));
    cr_expect(eq(int, memcmp(captured.bytes, "to outerror!", 12), 0));
}

Test(capture, spool_file_is_empty_and_the_same_for_the_next_task)
{
    struct stat before, after;
    fstat(capture.out.fd, &before);
    for (int i = 0; i < 3; i++) {
        cr_assert(eq(int, pawl_capture_begin(&capture), 0));
        put(capture.out.job_fd, "abc");
        pawl_capture_started(&capture);
        cr_expect(eq(int, collect("s.1"), 0));
        cr_expect(eq(u32, captured.stdout_bytes, 3));
    }
    fstat(capture.out.fd, &after);
    cr_expect(eq(u64, before.st_ino, after.st_ino));
}

Test(capture, sixteen_kib_are_inline_and_one_more_byte_is_a_synced_file_with_its_hash)
{
    cr_assert(eq(int, pawl_capture_begin(&capture), 0));
    fill(capture.out.job_fd, PAWL_INLINE_OUTPUT_BYTES, 'a');
    fill(capture.err.job_fd, PAWL_INLINE_OUTPUT_BYTES + 1, 'b');
    pawl_capture_started(&capture);
    cr_expect(eq(int, collect("s.7.2"), 0));
    cr_expect(eq(int, captured.flags, PAWL_SETTLE_STDERR_FILE));
    cr_expect(eq(u32, captured.stdout_bytes, PAWL_INLINE_OUTPUT_BYTES));
    cr_assert(eq(u32, captured.stderr_bytes, sizeof(struct pawl_output_file)));
    struct pawl_output_file file;
    memcpy(&file, captured.bytes + captured.stdout_bytes, sizeof file);
    cr_expect(eq(u64, file.bytes, PAWL_INLINE_OUTPUT_BYTES + 1));
    static char expected[PAWL_INLINE_OUTPUT_BYTES + 1];
    memset(expected, 'b', sizeof expected);
    cr_expect(eq(u64, file.xxh3, XXH3_64bits(expected, sizeof expected)));
    struct stat status;
    cr_assert(eq(int, stat(out_path("s.7.2.err"), &status), 0));
    cr_expect(eq(i64, status.st_size, PAWL_INLINE_OUTPUT_BYTES + 1));
    cr_expect(eq(int, access(out_path("s.7.2.out"), F_OK), -1));

    cr_assert(eq(int, pawl_capture_begin(&capture), 0)); /* the next task has a file of its own */
    put(capture.err.job_fd, "x");
    pawl_capture_started(&capture);
    collect("s.8.1");
    cr_expect(eq(u32, captured.stderr_bytes, 1));
    stat(out_path("s.7.2.err"), &status);
    cr_expect(eq(i64, status.st_size, PAWL_INLINE_OUTPUT_BYTES + 1));
}

Test(capture, stray_writer_of_one_task_does_not_reach_the_next)
{
    cr_assert(eq(int, pawl_capture_begin(&capture), 0));
    put(capture.out.job_fd, "first");
    int stray = dup(capture.out.job_fd); /* somebody who outlives the job, in a session of his own */
    pawl_capture_started(&capture);
    cr_expect(eq(int, collect("s.1"), 1));
    cr_expect(eq(u32, captured.stdout_bytes, 5));

    cr_assert(eq(int, pawl_capture_begin(&capture), 0));
    put(stray, "late words");
    put(capture.out.job_fd, "2nd");
    pawl_capture_started(&capture);
    cr_expect(eq(int, collect("s.2"), 0));
    cr_expect(eq(u32, captured.stdout_bytes, 3));
    cr_expect(eq(int, memcmp(captured.bytes, "2nd", 3), 0));
    close(stray);
}

Test(capture, stray_that_has_not_written_yet_does_not_reach_the_next)
{
    cr_assert(eq(int, pawl_capture_begin(&capture), 0));
    int stray = dup(capture.err.job_fd);
    pawl_capture_started(&capture);
    cr_expect(eq(int, collect("s.1"), 1));
    cr_assert(eq(int, pawl_capture_begin(&capture), 0));
    put(stray, "late words");
    pawl_capture_started(&capture);
    cr_expect(eq(int, collect("s.2"), 0));
    cr_expect(eq(u32, captured.stderr_bytes, 0));
    close(stray);
}

Test(capture, large_output_with_a_stray_writer_keeps_size_and_hash)
{
    cr_assert(eq(int, pawl_capture_begin(&capture), 0));
    fill(capture.out.job_fd, 300000, 'a');
    int stray = dup(capture.out.job_fd);
    pawl_capture_started(&capture);
    cr_expect(eq(int, collect("s.1"), 1));
    put(stray, "late words");
    close(stray);
    struct stat status;
    cr_assert(eq(int, stat(out_path("s.1.out"), &status), 0));
    cr_expect(eq(i64, status.st_size, 300000));
}

Test(capture, output_beyond_the_limit_is_cut)
{
    cr_assert(eq(int, pawl_capture_begin(&capture), 0));
    fill(capture.out.job_fd, 300000, 'a');
    pawl_capture_started(&capture);
    pawl_capture_collect(&capture, "run-1", "s.1", false, 100000, &captured);
    struct stat status;
    cr_assert(eq(int, stat(out_path("s.1.out"), &status), 0));
    cr_expect(eq(i64, status.st_size, 100000));
    struct pawl_output_file file;
    memcpy(&file, captured.bytes, sizeof file);
    cr_expect(eq(u64, file.bytes, 100000));
}

Test(capture, named_output_is_taken_and_empty_for_the_next_task)
{
    char path[PAWL_CAPTURE_PATH_BYTES];
    memcpy(path, capture.named_path, sizeof path);
    cr_assert(eq(int, pawl_capture_begin(&capture), 0));
    int fd = open(capture.named_path, O_WRONLY | O_APPEND);
    put(fd, "k=v\n");
    close(fd);
    pawl_capture_started(&capture);
    collect("s.1");
    cr_assert(eq(u32, captured.named_bytes, 4));
    cr_expect(eq(int, memcmp(captured.bytes, "k=v\n", 4), 0));
    struct stat status;
    cr_assert(eq(int, stat(path, &status), 0));
    cr_expect(eq(i64, status.st_size, 0));
    cr_expect(eq(str, capture.named_path, path));
    collect("s.2");
    cr_expect(eq(u32, captured.named_bytes, 0));
}

Test(capture, named_output_may_be_replaced_or_removed_by_the_job)
{
    char other[200];
    snprintf(other, sizeof other, "%s/elsewhere", state);
    int fd = open(other, O_WRONLY | O_CREAT, 0600);
    put(fd, "moved=1");
    close(fd);
    cr_assert(eq(int, rename(other, capture.named_path), 0));
    collect("s.1");
    cr_expect(eq(u32, captured.named_bytes, 7));
    cr_expect(eq(int, unlink(capture.named_path), 0));
    collect("s.2");
    cr_expect(eq(u32, captured.named_bytes, 0));
    cr_expect(eq(int, captured.error, 0));
    cr_expect(eq(int, access(capture.named_path, W_OK), 0));
    cr_expect(eq(int, unlink(capture.named_path), 0));
    cr_expect(eq(int, mkdir(capture.named_path, 0700), 0));
    collect("s.3");
    cr_expect(eq(int, captured.error, EINVAL));
    struct stat status;
    cr_assert(eq(int, stat(capture.named_path, &status), 0));
    cr_expect(eq(int, (int)(status.st_mode & S_IFMT), S_IFREG));
}

Test(capture, named_output_above_its_limit_is_an_error_with_words_after_stderr)
{
    cr_assert(eq(int, pawl_capture_begin(&capture), 0));
    put(capture.err.job_fd, "own words\n");
    pawl_capture_started(&capture);
    int fd = open(capture.named_path, O_WRONLY);
    fill(fd, PAWL_NAMED_OUTPUT_BYTES, 'k');
    collect("s.1");
    cr_expect(eq(int, captured.error, 0));
    cr_expect(eq(u32, captured.named_bytes, PAWL_NAMED_OUTPUT_BYTES));
    close(fd);

    fd = open(capture.named_path, O_WRONLY);
    cr_assert(eq(int, pawl_capture_begin(&capture), 0));
    put(capture.err.job_fd, "own words\n");
    pawl_capture_started(&capture);
    fill(fd, PAWL_NAMED_OUTPUT_BYTES + 1, 'k');
    close(fd);
    collect("s.2");
    cr_expect(eq(int, captured.error, EFBIG));
    cr_expect(eq(u32, captured.named_bytes, 0));
    captured.bytes[captured.stderr_bytes] = '\0';
    cr_expect(
        eq(str, (char *)captured.bytes,
           "own words\npawl: PAWL_OUTPUT holds 16385 bytes, at most 16384 are allowed: File too large\n"));
}

Test(capture, living_process_group_gets_its_named_path_taken_away)
{
    char path[PAWL_CAPTURE_PATH_BYTES];
    memcpy(path, capture.named_path, sizeof path);
    cr_assert(eq(int, pawl_capture_begin(&capture), 0));
    pawl_capture_started(&capture);
    cr_expect(eq(int, pawl_capture_collect(&capture, "run-1", "s.1", true, UINT64_MAX, &captured), 1));
    cr_expect(ne(str, capture.named_path, path));
    cr_expect(eq(int, access(capture.named_path, W_OK), 0));
}

Test(capture, output_that_cannot_be_stored_is_told)
{
    int fd = openat(state_dirfd, "runs", O_CREAT | O_WRONLY, 0600); /* a file where a directory should be */
    close(fd);
    cr_assert(eq(int, pawl_capture_begin(&capture), 0));
    fill(capture.out.job_fd, 20000, 'a');
    pawl_capture_started(&capture);
    collect("s.1");
    cr_expect(eq(int, captured.error, ENOTDIR));
    cr_expect(eq(u32, captured.stdout_bytes, 0));
    captured.bytes[captured.stderr_bytes] = '\0';
    cr_expect(
        eq(str, (char *)captured.bytes, "pawl: stdout of the step cannot be stored: Not a directory\n"));
    cr_assert(eq(int, pawl_capture_begin(&capture), 0));
    put(capture.out.job_fd, "ok");
    pawl_capture_started(&capture);
    collect("s.2");
    cr_expect(eq(u32, captured.stdout_bytes, 2));
}
