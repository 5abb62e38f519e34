/*
 * capture.c - where a job's output goes, and how it gets from there into a result.
 *
 * Runs in: worker. Each task opens the spool file anew for its job, so that the kernel counts the job's
 * write descriptor apart from ours: when the job is over, a read lease on ours is granted only if nobody
 * holds that file for writing. A refused lease, or a process group that lives on, means that somebody may
 * still write: then large output is copied instead of moved, and the next task gets another file.
 *
 * Large output is on disk, with the directories that lead to it, before collect returns.
 */
#include "workers/capture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

enum { SPOOL_MODE = 0600, DIRECTORY_MODE = 0700, COPY_BYTES = 128 << 10, TEXT_BYTES = 256 };

/* ---- spool files ---- */

static int new_stream(struct pawl_capture *capture, struct pawl_capture_stream *stream)
{
    if (stream->fd >= 0)
        close(stream->fd);
    if (unlinkat(capture->spool_dirfd, stream->name, 0) < 0 && errno != ENOENT) {
        stream->fd = -1;
        return -errno;
    }
    stream->used = false;
    stream->fd =
        openat(capture->spool_dirfd, stream->name, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, SPOOL_MODE);
    return stream->fd < 0 ? -errno : 0;
}

/* The old one may be anything by now: a job may have replaced it, even by a directory. */
static int new_named(struct pawl_capture *capture, bool other_path)
{
    struct stat status;
    if (unlinkat(capture->spool_dirfd, capture->named_name, 0) < 0 && errno != ENOENT)
        other_path = true;
    if (other_path) {
        snprintf(capture->named_name, sizeof capture->named_name, "w%u.%u.named", capture->worker,
                 ++capture->named_serial);
        unlinkat(capture->spool_dirfd, capture->named_name, 0);
    }
    snprintf(capture->named_path, sizeof capture->named_path, "%s/%s", capture->spool_path,
             capture->named_name);
    int fd = openat(capture->spool_dirfd, capture->named_name, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                    SPOOL_MODE);
    if (fd < 0)
        return -errno;
    int error = fstat(fd, &status) < 0 ? -errno : 0;
    capture->named_device = (uint64_t)status.st_dev;
    capture->named_inode = (uint64_t)status.st_ino;
    capture->named_mode = (uint32_t)status.st_mode;
    close(fd);
    return error;
}

int pawl_capture_open(struct pawl_capture *capture, int state_dirfd, const char *state_path, uint32_t worker)
{
    *capture = (struct pawl_capture){
        .state_dirfd = state_dirfd,
        .spool_dirfd = -1,
        .worker = worker,
        .out = {.fd = -1, .job_fd = -1},
        .err = {.fd = -1, .job_fd = -1},
    };
    if (snprintf(capture->spool_path, sizeof capture->spool_path, "%s/spool", state_path) >=
        (int)sizeof capture->spool_path)
        return -ENAMETOOLONG;
    if (mkdirat(state_dirfd, "spool", DIRECTORY_MODE) < 0 && errno != EEXIST)
        return -errno;
    capture->spool_dirfd = openat(state_dirfd, "spool", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (capture->spool_dirfd < 0)
        return -errno;
    snprintf(capture->out.name, sizeof capture->out.name, "w%u.out", worker);
    snprintf(capture->err.name, sizeof capture->err.name, "w%u.err", worker);
    snprintf(capture->named_name, sizeof capture->named_name, "w%u.named", worker);
    int error = new_stream(capture, &capture->out);
    if (error == 0)
        error = new_stream(capture, &capture->err);
    if (error == 0)
        error = new_named(capture, false);
    if (error < 0)
        pawl_capture_close(capture);
    return error;
}

void pawl_capture_close(struct pawl_capture *capture)
{
    pawl_capture_started(capture);
    if (capture->spool_dirfd < 0)
        return;
    struct pawl_capture_stream *stream[2] = {&capture->out, &capture->err};
    for (int i = 0; i < 2; i++) {
        if (stream[i]->fd >= 0)
            close(stream[i]->fd);
        stream[i]->fd = -1;
        unlinkat(capture->spool_dirfd, stream[i]->name, 0);
    }
    unlinkat(capture->spool_dirfd, capture->named_name, 0);
    close(capture->spool_dirfd);
    capture->spool_dirfd = -1;
}

static int open_for_job(struct pawl_capture *capture, struct pawl_capture_stream *stream, int more_flags)
{
    return openat(capture->spool_dirfd, stream->name,
                  O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | more_flags);
}

static int begin_stream(struct pawl_capture *capture, struct pawl_capture_stream *stream)
{
    int error = stream->fd < 0 ? new_stream(capture, stream) : 0;
    if (error < 0)
        return error;
    if (stream->used) {
        /* Closed before the job writes: ext4 flushes a file at the first close after it was emptied, which is
         * cheap while it has nothing, and 50 microseconds when the job's own close would be that one. */
        int fd = open_for_job(capture, stream, O_TRUNC);
        if (fd >= 0)
            close(fd);
    }
    stream->job_fd = open_for_job(capture, stream, 0);
    if (stream->job_fd < 0) { /* somebody tidied up, or took its permissions away */
        error = new_stream(capture, stream);
        if (error < 0)
            return error;
        stream->job_fd = open_for_job(capture, stream, 0);
    }
    if (stream->job_fd < 0)
        return -errno;
    stream->used = false;
    return 0;
}

int pawl_capture_begin(struct pawl_capture *capture)
{
    int error = begin_stream(capture, &capture->out);
    if (error == 0)
        error = begin_stream(capture, &capture->err);
    if (error < 0)
        pawl_capture_started(capture);
    return error;
}

void pawl_capture_started(struct pawl_capture *capture)
{
    struct pawl_capture_stream *stream[2] = {&capture->out, &capture->err};
    for (int i = 0; i < 2; i++) {
        if (stream[i]->job_fd >= 0)
            close(stream[i]->job_fd);
        stream[i]->job_fd = -1;
    }
}

static uint64_t size_of(const struct pawl_capture_stream *stream)
{
    struct stat status;
    return stream->fd >= 0 && fstat(stream->fd, &status) == 0 ? (uint64_t)status.st_size : 0;
}

uint64_t pawl_capture_bytes(const struct pawl_capture *capture)
{
    uint64_t out = size_of(&capture->out), err = size_of(&capture->err);
    return out > err ? out : err;
}

/* Is the file open for writing anywhere? A file system without leases cannot tell: then yes. */
static bool is_held(const struct pawl_capture_stream *stream)
{
    if (fcntl(stream->fd, F_SETLEASE, F_RDLCK) < 0)
        return true;
    fcntl(stream->fd, F_SETLEASE, F_UNLCK);
    return false;
}

/* ---- large output ---- */

static int sync_directory(int state_dirfd, const char *path)
{
    int fd = openat(state_dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int error = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return error;
}

/* runs/ID/out, with its names on disk. Return: a descriptor or -errno. */
static int open_out(struct pawl_capture *capture, const char *run_id)
{
    char path[PAWL_NAME_BYTES + 16];
    snprintf(path, sizeof path, "runs/%s/out", run_id);
    if (strcmp(capture->synced_run, run_id) != 0) {
        /* Synced even when somebody else made them: he may not have come to it yet. */
        char *slash[3] = {path + 4, strrchr(path, '/'), NULL};
        static const char *const parent[3] = {".", "runs", NULL};
        int error = 0;
        for (int i = 0; i < 2 && error == 0; i++) {
            *slash[i] = '\0';
            error = mkdirat(capture->state_dirfd, path, DIRECTORY_MODE) < 0 && errno != EEXIST ? -errno : 0;
            *slash[i] = '/';
            if (error == 0)
                error = sync_directory(capture->state_dirfd, parent[i]);
        }
        if (error == 0 && mkdirat(capture->state_dirfd, path, DIRECTORY_MODE) < 0 && errno != EEXIST)
            error = -errno;
        *slash[1] = '\0';
        if (error == 0)
            error = sync_directory(capture->state_dirfd, path);
        *slash[1] = '/';
        if (error < 0)
            return error;
        snprintf(capture->synced_run, sizeof capture->synced_run, "%s", run_id);
    }
    int fd = openat(capture->state_dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        capture->synced_run[0] = '\0'; /* it is gone: make it again next time */
        return -errno;
    }
    return fd;
}

/* Hash @bytes of @from, and write them to @to unless that is -1. */
static int hash_and_copy(int from, int to, uint64_t bytes, uint64_t *xxh3_out)
{
    static unsigned char buffer[COPY_BYTES];
    XXH3_state_t *state = XXH3_createState();
    int error = 0;
    if (!state)
        return -ENOMEM;
    XXH3_64bits_reset(state);
    for (uint64_t done = 0; done < bytes;) {
        size_t want = bytes - done < COPY_BYTES ? (size_t)(bytes - done) : COPY_BYTES;
        ssize_t n = pread(from, buffer, want, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            error = n < 0 ? -errno : -EIO;
            goto free_state;
        }
        XXH3_64bits_update(state, buffer, (size_t)n);
        for (ssize_t written = 0; to >= 0 && written < n;) {
            ssize_t w = write(to, buffer + written, (size_t)(n - written));
            if (w < 0 && errno != EINTR) {
                error = -errno;
                goto free_state;
            }
            written += w > 0 ? w : 0;
        }
        done += (uint64_t)n;
    }
    *xxh3_out = XXH3_64bits_digest(state);
free_state:
    XXH3_freeState(state);
    return error;
}

/* Ours alone: the spool file itself becomes the output. */
static int move_large(struct pawl_capture *capture, struct pawl_capture_stream *stream, int out_dirfd,
                      const char *name, uint64_t size, uint64_t bytes, uint64_t *xxh3_out)
{
    if (renameat(capture->spool_dirfd, stream->name, out_dirfd, name) < 0)
        return -errno;
    int error = 0;
    if (bytes < size) {
        int fd = openat(out_dirfd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        error = fd < 0 || ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
        if (fd >= 0)
            close(fd);
    }
    if (error == 0)
        error = hash_and_copy(stream->fd, -1, bytes, xxh3_out);
    if (error == 0 && fdatasync(stream->fd) < 0)
        error = -errno;
    return error;
}

/* Somebody may go on writing: only what there is now counts. */
static int copy_large(struct pawl_capture_stream *stream, int out_dirfd, const char *name, uint64_t bytes,
                      uint64_t *xxh3_out)
{
    unlinkat(out_dirfd, name, 0);
    int fd = openat(out_dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, SPOOL_MODE);
    if (fd < 0)
        return -errno;
    int error = hash_and_copy(stream->fd, fd, bytes, xxh3_out);
    if (error == 0 && fdatasync(fd) < 0)
        error = -errno;
    close(fd);
    return error;
}

struct collecting {
    struct pawl_capture *capture;
    const char *run_id, *stem;
    uint64_t bytes_max;
    struct pawl_captured *captured;
    uint32_t bytes; /* of captured->bytes in use */
};

static int store_large(struct collecting *job, struct pawl_capture_stream *stream, const char *suffix,
                       bool held, uint64_t size, struct pawl_output_file *file)
{
    char name[256];
    file->bytes = size < job->bytes_max ? size : job->bytes_max;
    if (snprintf(name, sizeof name, "%s.%s", job->stem, suffix) >= (int)sizeof name)
        return -ENAMETOOLONG;
    int out_dirfd = open_out(job->capture, job->run_id);
    if (out_dirfd < 0)
        return out_dirfd;
    int error = held ? copy_large(stream, out_dirfd, name, file->bytes, &file->xxh3)
                     : move_large(job->capture, stream, out_dirfd, name, size, file->bytes, &file->xxh3);
    if (error == 0 && fsync(out_dirfd) < 0)
        error = -errno;
    if (error < 0)
        unlinkat(out_dirfd, name, 0);
    close(out_dirfd);
    return error;
}

/* The first mistake is the one that is told. */
static void complain(struct collecting *job, int error, char *text, size_t text_bytes, const char *what)
{
    if (job->captured->error)
        return;
    job->captured->error = -error;
    snprintf(text, text_bytes, "pawl: %s: %s\n", what, strerror(-error));
}

/* ---- collecting ---- */

static ssize_t read_whole(int fd, void *buffer, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = pread(fd, (char *)buffer + done, bytes - done, (off_t)done);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            break;
        done += n > 0 ? (size_t)n : 0;
    }
    return (ssize_t)done;
}

/* One stream into captured->bytes. Return: the bytes that it takes there. */
static uint32_t collect_stream(struct collecting *job, struct pawl_capture_stream *stream, const char *suffix,
                               bool held, uint8_t file_flag, char *text, size_t text_bytes)
{
    uint64_t size = size_of(stream);
    uint64_t bytes = size < job->bytes_max ? size : job->bytes_max;
    unsigned char *at = job->captured->bytes + job->bytes;
    uint32_t taken = 0;
    stream->used = size > 0;
    job->captured->cut |= bytes < size;
    if (bytes > PAWL_INLINE_OUTPUT_BYTES) {
        struct pawl_output_file file;
        int error = store_large(job, stream, suffix, held, size, &file);
        if (error < 0) {
            char what[64];
            snprintf(what, sizeof what, "std%s of the step cannot be stored", suffix);
            complain(job, error, text, text_bytes, what);
        } else {
            memcpy(at, &file, sizeof file);
            taken = sizeof file;
            job->captured->flags |= file_flag;
        }
        held = true; /* the file has left the spool */
    } else if (bytes > 0) {
        ssize_t n = read_whole(stream->fd, at, (size_t)bytes);
        if (n < 0)
            complain(job, (int)n, text, text_bytes, "output of the step cannot be read");
        taken = n > 0 ? (uint32_t)n : 0;
    }
    if (held && new_stream(job->capture, stream) < 0 && stream->fd >= 0) {
        close(stream->fd);
        stream->fd = -1; /* begin tries again and says why it cannot */
    }
    job->bytes += taken;
    return taken;
}

/* What the job wrote to PAWL_OUTPUT; the path is fresh again afterwards. */
static uint32_t collect_named(struct collecting *job, bool strays, char *text, size_t text_bytes)
{
    struct pawl_capture *capture = job->capture;
    struct stat status;
    bool there = fstatat(capture->spool_dirfd, capture->named_name, &status, AT_SYMLINK_NOFOLLOW) == 0;
    if (there && status.st_size == 0 && (uint64_t)status.st_ino == capture->named_inode &&
        (uint64_t)status.st_dev == capture->named_device && status.st_mode == capture->named_mode &&
        status.st_nlink == 1 && !strays)
        return 0;

    uint32_t taken = 0;
    int error = 0;
    const char *what = "PAWL_OUTPUT cannot be read";
    char too_large[96];
    if (there && !S_ISREG(status.st_mode)) {
        what = "PAWL_OUTPUT is not a regular file any more";
        error = -EINVAL;
    } else if (there) {
        int fd =
            openat(capture->spool_dirfd, capture->named_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        ssize_t n = fd < 0 ? -errno : 0;
        if (fd >= 0 && status.st_size <= PAWL_NAMED_OUTPUT_BYTES)
            n = read_whole(fd, job->captured->bytes + job->bytes, (size_t)status.st_size);
        else if (fd >= 0)
            n = -EFBIG;
        if (n == -EFBIG) {
            snprintf(too_large, sizeof too_large, "PAWL_OUTPUT holds %lld bytes, at most %d are allowed",
                     (long long)status.st_size, PAWL_NAMED_OUTPUT_BYTES);
            what = too_large;
        }
        if (fd >= 0)
            close(fd);
        error = n < 0 ? (int)n : 0;
        taken = n > 0 ? (uint32_t)n : 0;
    }
    if (error < 0)
        complain(job, error, text, text_bytes, what);
    error = new_named(capture, strays);
    if (error < 0)
        complain(job, error, text, text_bytes, "PAWL_OUTPUT cannot be made for the next step");
    job->bytes += taken;
    return taken;
}

/* The complaint goes to the end of stderr, in front of the named output; a full stderr gives way. */
static void add_text(struct collecting *job, const char text[TEXT_BYTES])
{
    struct pawl_captured *captured = job->captured;
    if (captured->flags & PAWL_SETTLE_STDERR_FILE)
        return;
    uint32_t n = (uint32_t)strnlen(text, TEXT_BYTES);
    uint32_t room = PAWL_INLINE_OUTPUT_BYTES - n;
    uint32_t kept = captured->stderr_bytes < room ? captured->stderr_bytes : room;
    unsigned char *err = captured->bytes + captured->stdout_bytes;
    memmove(err + kept + n, err + captured->stderr_bytes, captured->named_bytes);
    memcpy(err + kept, text, n);
    captured->stderr_bytes = kept + n;
}

bool pawl_capture_collect(struct pawl_capture *capture, const char *run_id, const char *stem, bool strays,
                          uint64_t bytes_max, struct pawl_captured *captured_out)
{
    char text[TEXT_BYTES] = "";
    struct collecting job = {
        .capture = capture, .run_id = run_id, .stem = stem, .bytes_max = bytes_max, .captured = captured_out};
    captured_out->flags = 0;
    captured_out->error = 0;
    captured_out->cut = false;
    bool out_held = strays || is_held(&capture->out);
    bool err_held = strays || is_held(&capture->err);
    captured_out->stdout_bytes =
        collect_stream(&job, &capture->out, "out", out_held, PAWL_SETTLE_STDOUT_FILE, text, sizeof text);
    captured_out->stderr_bytes =
        collect_stream(&job, &capture->err, "err", err_held, PAWL_SETTLE_STDERR_FILE, text, sizeof text);
    captured_out->named_bytes = collect_named(&job, out_held || err_held, text, sizeof text);
    if (captured_out->error)
        add_text(&job, text);
    return out_held || err_held;
}
