/*
 * effects.c - carries out what the core decides: the table of struct pawl_core_effects; and what that of the
 * bus (backend.c) does alike.
 *
 * Runs in: scheduler, inside calls of the cores. Nothing here calls them back.
 */
#include <errno.h>
#include <stdlib.h>

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scheduler/core_record.h"
#include "scheduler/lanes.h"
#include "scheduler/loop.h"
#include "scheduler/queue.h"
#include "scheduler/reopened.h"
#include "scheduler/seal.h"
#include "shm/error.h"

uint64_t pawl_loop_append(struct pawl_loop *loop, uint8_t type, uint16_t version, const struct iovec *body,
                          int count, uint64_t *place_out)
{
    uint64_t lsn = 0;
    int error = pawl_journal_append(loop->journal, type, version, body, count, &lsn, place_out);
    if (error) {
        loop->append_error = error;
        pawl_log(PAWL_LOG_ERROR, "journal: a record of type %u is refused: %s", type, pawl_error_text(error));
        return 0;
    }
    pawl_counter_add(&loop->world->counters, PAWL_COUNTER_JOURNAL_RECORDS, 1);
    return lsn;
}

uint64_t pawl_loop_random(void *ctx)
{
    uint64_t word;
    (void)ctx;
    return getrandom(&word, sizeof word, 0) == (ssize_t)sizeof word ? word : UINT64_C(0x9e3779b97f4a7c15);
}

void pawl_loop_say(void *ctx, int level, const char *text)
{
    (void)ctx;
    pawl_log((enum pawl_log_level)level, "%s", text);
}

static uint64_t append(void *ctx, uint8_t type, const struct iovec *body, int count, uint64_t *place_out)
{
    struct pawl_loop *loop = ctx;
    loop->batch_appended = true;
    return pawl_loop_append(loop, type, PAWL_CORE_RECORD_VERSION, body, count, place_out);
}

static bool has_room(void *ctx, size_t bytes)
{
    struct pawl_loop *loop = ctx;
    return pawl_journal_has_room(loop->journal, bytes, PAWL_JOURNAL_FOR_WORK) == 0;
}

static int read_body(void *ctx, uint64_t place, uint32_t body_offset, void *buffer, size_t bytes)
{
    struct pawl_loop *loop = ctx;
    ssize_t got = pawl_journal_read(loop->journal, place, 0, body_offset, buffer, bytes);
    if (got == -ENOENT)
        return PAWL_E_NOT_FOUND;
    if (got < 0)
        return (int)got;
    return (size_t)got == bytes ? 0 : PAWL_E_DAMAGED;
}

static uint64_t resolve(void *ctx, uint64_t place)
{
    struct pawl_loop *loop = ctx;
    return pawl_journal_resolve(loop->journal, place);
}

static int read_range(int fd, uint64_t byte_offset, uint64_t bytes_max, void **bytes_out, size_t *n_out)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return -errno;
    if (!S_ISREG(status.st_mode) || byte_offset > (uint64_t)status.st_size)
        return PAWL_E_DAMAGED;
    uint64_t left = (uint64_t)status.st_size - byte_offset;
    size_t n = (size_t)(left < bytes_max ? left : bytes_max), done = 0;
    char *bytes = malloc(n ? n : 1);
    if (!bytes)
        return -ENOMEM;
    while (done < n) {
        ssize_t got = pread(fd, bytes + done, n - done, (off_t)(byte_offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            int error = got < 0 ? -errno : PAWL_E_DAMAGED; /* it shrank meanwhile */
            free(bytes);
            return error;
        }
        done += (size_t)got;
    }
    *bytes_out = bytes;
    *n_out = n;
    return 0;
}

static int read_file(void *ctx, const char *run_id, const char *name, uint64_t byte_offset,
                     uint64_t bytes_max, void **bytes_out, size_t *n_out)
{
    struct pawl_loop *loop = ctx;
    int dirfd = openat(loop->options->runs_dirfd, run_id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dirfd < 0)
        return errno == ENOENT ? PAWL_E_NOT_FOUND : -errno;
    int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int error = fd < 0 ? (errno == ENOENT ? PAWL_E_NOT_FOUND : -errno) : 0;
    close(dirfd);
    if (error)
        return error;
    error = read_range(fd, byte_offset, bytes_max, bytes_out, n_out);
    close(fd);
    return error;
}

static int place(void *ctx, struct pawl_delivery *delivery, const void *task, size_t bytes)
{
    return pawl_queue_place(ctx, delivery, task, bytes);
}

static int recall(void *ctx, struct pawl_delivery *delivery)
{
    return pawl_queue_recall(ctx, delivery);
}

static void send_signal(void *ctx, struct pawl_delivery *delivery, uint64_t grace_ns)
{
    pawl_lanes_signal(ctx, delivery, grace_ns);
}

static void forget(void *ctx, struct pawl_delivery *delivery)
{
    pawl_queue_forget(ctx, delivery);
}

static int batch_open(void *ctx, struct pawl_batch *batch)
{
    int error = pawl_queue_open(ctx, batch);
    if (error)
        pawl_log(PAWL_LOG_ERROR, "a queue cannot be made: %s", pawl_error_text(error));
    return error;
}

static void batch_close(void *ctx, struct pawl_batch *batch)
{
    pawl_queue_close(ctx, batch);
}

static void changed(void *ctx, struct pawl_run *run)
{
    struct pawl_loop *loop = ctx;
    (void)run;
    loop->changed = true;
}

/* Waits for a sync; but before it the whole image was read, and that is rare. */
static int reopening(void *ctx, const char *run_id)
{
    struct pawl_loop *loop = ctx;
    return pawl_reopened_mark(loop->options->runs_dirfd, run_id);
}

static void seal(void *ctx, struct pawl_run *run)
{
    pawl_seal_begin(ctx, run);
}

const struct pawl_core_effects pawl_loop_effects = {
    .append = append,
    .has_room = has_room,
    .read = read_body,
    .resolve = resolve,
    .read_file = read_file,
    .place = place,
    .recall = recall,
    .signal = send_signal,
    .forget = forget,
    .batch_open = batch_open,
    .batch_close = batch_close,
    .changed = changed,
    .reopening = reopening,
    .seal = seal,
    .random = pawl_loop_random,
    .log = pawl_loop_say,
};
