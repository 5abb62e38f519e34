/*
 * journal.c - records become frames, frames become durable in order.
 *
 * Runs in: the scheduler, one thread. Owns the window of frames that are not durable. Never reads a record's
 * body, never confirms anything that is not in the contiguous durable prefix.
 *
 *           append            cut, flush          slot free            completion
 *   (none) --------> OPEN ----------------> CUT -----------> IN_FLIGHT ----------> DONE --prefix--> durable
 *                                            ^                                       |
 *                                            +------- no space: journal_room.c ------+
 */
#include "scheduler/journal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "scheduler/journal_internal.h"
#include "shm/clock.h"
#include "shm/error.h"

enum { WORTH_A_SEGMENT_BYTES = 1 << 20 }; /* read in less time than a segment takes to make */

void pawl_journal_now(struct pawl_journal *journal, uint64_t *realtime_ns_out, uint64_t *boottime_ns_out)
{
    if (journal->options.clock) {
        journal->options.clock(journal->options.ctx, realtime_ns_out, boottime_ns_out);
        return;
    }
    struct timespec real, boot;
    clock_gettime(CLOCK_REALTIME, &real);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    *realtime_ns_out = (uint64_t)real.tv_sec * 1000000000u + (uint64_t)real.tv_nsec;
    *boottime_ns_out = (uint64_t)boot.tv_sec * 1000000000u + (uint64_t)boot.tv_nsec;
}

void pawl_journal_notice(struct pawl_journal *journal, const char *format, ...)
{
    if (!journal->options.on_notice)
        return;
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    journal->options.on_notice(journal->options.ctx, text);
}

void pawl_journal_fail(struct pawl_journal *journal, int error)
{
    if (journal->failed)
        return;
    journal->failed = error;
    pawl_journal_notice(journal, "the journal failed at lsn %llu: %s",
                        (unsigned long long)(journal->durable_lsn + 1), pawl_error_text(error));
    if (journal->options.on_failed)
        journal->options.on_failed(journal->options.ctx, error);
}

/* With memory for its first record: one that stayed without any would be written, and hold for nobody. */
static int open_frame(struct pawl_journal *journal, size_t record_bytes)
{
    struct journal_frame *frame = pawl_journal_new_frame(journal);
    if (!frame)
        return -ENOMEM;
    if (pawl_journal_grow_frame(frame, record_bytes) != 0 || pawl_journal_cache_add(journal, frame) != 0) {
        pawl_journal_free_frame(journal, frame);
        return -ENOMEM;
    }
    if (journal->plan_byte_offset >= journal->plan_limit) {
        journal->plan_segment++;
        journal->plan_byte_offset = PAWL_SEGMENT_HEADER_BYTES;
        journal->plan_limit = journal->room == PAWL_JOURNAL_ROOMY ? journal->options.segment_bytes
                                                                  : journal->options.reserve_bytes;
    }
    frame->first_lsn = journal->next_lsn;
    frame->segment = journal->plan_segment;
    frame->byte_offset = journal->plan_byte_offset;
    frame->only_watermark = true;
    if (journal->last)
        journal->last->next = frame;
    else
        journal->first = frame;
    journal->last = journal->open = frame;
    return 0;
}

static void close_open_frame(struct pawl_journal *journal)
{
    struct journal_frame *frame = journal->open;
    frame->state = FRAME_CUT;
    journal->plan_byte_offset = frame->byte_offset + pawl_frame_bytes(frame->record_bytes);
    journal->open = NULL;
}

static size_t total_bytes(const struct iovec *iov, int iov_count)
{
    size_t bytes = 0;
    for (int i = 0; i < iov_count; i++)
        bytes += iov[i].iov_len;
    return bytes;
}

static int append_record(struct pawl_journal *journal, uint8_t type, uint16_t version,
                         const struct iovec *iov, int iov_count, uint64_t *lsn_out, uint64_t *place_out)
{
    size_t body_bytes = total_bytes(iov, iov_count);
    if (body_bytes > PAWL_RECORD_BODY_BYTES_MAX)
        return -EMSGSIZE;
    size_t bytes = pawl_record_bytes(body_bytes);
    int error = journal->open ? 0 : open_frame(journal, bytes);
    if (error)
        return error;
    struct journal_frame *frame = journal->open;
    if (frame->record_bytes + bytes > PAWL_JOURNAL_BATCH_BYTES_MAX)
        return -EMSGSIZE;
    error = pawl_journal_grow_frame(frame, frame->record_bytes + bytes);
    if (error)
        return error;

    struct pawl_record record = {
        .lsn = journal->next_lsn++, .type = type, .version = version, .body_bytes = (uint32_t)body_bytes};
    uint64_t in_frame = PAWL_FRAME_HEADER_BYTES + frame->record_bytes;
    uint8_t *at = frame->bytes + in_frame;
    memset(at + bytes - PAWL_RECORD_ALIGN, 0, PAWL_RECORD_ALIGN);
    pawl_record_pack(at, &record);
    at += PAWL_RECORD_HEADER_BYTES;
    for (int i = 0; i < iov_count; i++) {
        if (iov[i].iov_len > 0)
            memcpy(at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    frame->record_bytes += bytes;
    frame->record_count++;
    frame->only_watermark = frame->only_watermark && type == PAWL_RECORD_WATERMARK;
    journal->pending_bytes += bytes;
    journal->appended_bytes += bytes;
    journal->batch_open = true;
    journal->idle_since_ns = 0;
    if (lsn_out)
        *lsn_out = record.lsn;
    if (place_out)
        *place_out = (uint64_t)frame->segment << 32 | (frame->byte_offset + in_frame);
    return 0;
}

int pawl_journal_append(struct pawl_journal *journal, uint8_t type, uint16_t version, const struct iovec *iov,
                        int iov_count, uint64_t *lsn_out, uint64_t *place_out)
{
    if (journal->failed)
        return journal->failed;
    if (type == 0 || type >= PAWL_RECORD_JOURNAL_FIRST)
        return -EINVAL;
    return append_record(journal, type, version, iov, iov_count, lsn_out, place_out);
}

/* The journal's own records stand in a batch of their own, unless the caller is amid one: then they join it.
 */
int pawl_journal_append_own(struct pawl_journal *journal, uint8_t type, const void *body, size_t bytes,
                            uint32_t frame_flags)
{
    if (journal->failed)
        return journal->failed;
    bool amid = journal->batch_open;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)body, .iov_len = bytes};
    int error = append_record(journal, type, 1, &iov, 1, NULL, NULL);
    if (error)
        return error;
    journal->open->flags |= frame_flags;
    return amid ? 0 : pawl_journal_flush(journal);
}

void pawl_journal_cut(struct pawl_journal *journal)
{
    journal->batch_open = false;
    if (journal->open && journal->open->record_bytes >= journal->options.frame_bytes)
        close_open_frame(journal);
}

bool pawl_journal_may_end_segment(const struct pawl_journal *journal)
{
    bool has_file = journal->room == PAWL_JOURNAL_ROOMY ||
                    (journal->room == PAWL_JOURNAL_TIGHT && journal->reserve_mask != 0);
    return has_file && journal->plan_byte_offset >= WORTH_A_SEGMENT_BYTES;
}

void pawl_journal_end_segment(struct pawl_journal *journal)
{
    if (journal->batch_open)
        return;
    if (journal->open)
        close_open_frame(journal);
    if (pawl_journal_may_end_segment(journal))
        journal->plan_limit = journal->plan_byte_offset;
}

/* Submission. */

static struct journal_frame *next_to_submit(struct pawl_journal *journal)
{
    struct journal_frame *frame = journal->first;
    while (frame && frame->state != FRAME_CUT && frame->state != FRAME_OPEN)
        frame = frame->next;
    if (frame && frame->state == FRAME_OPEN) {
        if (!journal->flush_wanted || journal->batch_open)
            return NULL;
        journal->flush_wanted = false;
        close_open_frame(journal);
    }
    return frame;
}

/* The next segment begins when the last frame of this one is durable: so a segment that is not the last is
 * whole, and its successor can say where it ends. Return: false when the frame has to wait. */
static bool be_in_segment(struct pawl_journal *journal, uint32_t number)
{
    if (journal->current.number == number)
        return true;
    if (journal->in_flight > 0 || pawl_extent_busy(journal))
        return false;
    int error = pawl_segment_start(journal, number, NULL);
    if (error == 0)
        return true;
    journal->refused_count++;
    if (pawl_io_is_room_error(error))
        pawl_journal_set_room(journal, PAWL_JOURNAL_FULL);
    else
        pawl_journal_fail(journal, error);
    return false;
}

static void on_frame_done(struct pawl_io_request *request, int32_t result);

static void submit_frame(struct pawl_journal *journal, struct journal_frame *frame)
{
    pawl_journal_seal_frame(journal, frame, &journal->current);
    frame->request.done = on_frame_done;
    frame->request.ctx = frame;
    int fd = journal->segments[journal->segment_count - 1].lock_fd;
    int error = pawl_extent_commit(journal, frame, fd);
    if (error) {
        pawl_journal_fail(journal, error);
        return;
    }
    frame->state = FRAME_IN_FLIGHT;
    journal->in_flight++;
}

void pawl_journal_submit(struct pawl_journal *journal)
{
    if (journal->in_submission)
        return;
    journal->in_submission = true;
    while (!journal->failed && !journal->stalled && journal->in_flight < journal->depth) {
        struct journal_frame *frame = next_to_submit(journal);
        if (!frame || !be_in_segment(journal, frame->segment) || pawl_extent_must_wait(journal, frame))
            break;
        submit_frame(journal, frame);
    }
    journal->in_submission = false;
}

int pawl_journal_flush(struct pawl_journal *journal)
{
    if (journal->failed)
        return journal->failed;
    pawl_journal_cut(journal);
    if (journal->open)
        journal->flush_wanted = true;
    pawl_journal_submit(journal);
    return journal->failed;
}

/* Completion. */

static void count_durable(struct pawl_journal *journal, const struct journal_frame *frame)
{
    uint64_t bytes = pawl_frame_bytes(frame->record_bytes), realtime_ns, now_ns;
    journal->durable_lsn = frame->first_lsn + frame->record_count - 1;
    journal->vouched_lsn = frame->durable_lsn;
    journal->end = frame->byte_offset + bytes;
    journal->end_checksum = frame->checksum;
    journal->segments[journal->segment_count - 1].bytes = journal->end;
    journal->closed_by_last_frame = frame->flags & PAWL_FRAME_CLOSING;
    journal->needs_watermark = !frame->only_watermark;
    if (journal->refused_count > 0 && journal->room == PAWL_JOURNAL_FULL)
        pawl_journal_set_room(journal, PAWL_JOURNAL_TIGHT);
    journal->refused_count = 0;
    journal->pending_bytes -= frame->record_bytes;
    journal->stats.frame_count++;
    journal->stats.sync_count++;
    journal->stats.record_count += frame->record_count;
    journal->stats.bytes += bytes;
    pawl_journal_now(journal, &realtime_ns, &now_ns);
    journal->stats.last_commit_ns = now_ns - frame->submitted_at_ns;
    const struct pawl_journal_commit commit = {.bytes = bytes,
                                               .record_count = frame->record_count,
                                               .commit_ns = journal->stats.last_commit_ns,
                                               .realtime_ns = realtime_ns,
                                               .sync_count = journal->stats.sync_count};
    if (journal->options.on_commit)
        journal->options.on_commit(journal->options.ctx, &commit);
}

/* The contiguous prefix of frames that went well. */
static void advance(struct pawl_journal *journal)
{
    uint64_t before = journal->durable_lsn;
    while (journal->first && journal->first->state == FRAME_DONE && journal->first->result == 0) {
        struct journal_frame *frame = journal->first;
        count_durable(journal, frame);
        journal->first = frame->next;
        if (!journal->first)
            journal->last = NULL;
        pawl_journal_cache_keep(journal, frame);
    }
    if (journal->durable_lsn > before && journal->options.on_durable)
        journal->options.on_durable(journal->options.ctx, journal->durable_lsn);
}

/* What of the window, all of which came back, cannot be survived: anything but a lack of space. */
static int fatal_in_window(const struct pawl_journal *journal)
{
    for (struct journal_frame *frame = journal->first; frame && frame->state == FRAME_DONE;
         frame = frame->next) {
        if (frame->result == 0 || frame->request.failure == PAWL_IO_FAILED_SHORT_WRITE)
            continue;
        if (frame->request.failure == PAWL_IO_FAILED_SYNC)
            return PAWL_E_SYNC_FAILED;
        if (!pawl_io_is_room_error(frame->result))
            return frame->result;
    }
    return 0;
}

static void on_frame_done(struct pawl_io_request *request, int32_t result)
{
    struct journal_frame *frame = request->ctx;
    struct pawl_journal *journal = frame->journal;
    frame->state = FRAME_DONE;
    frame->result = result;
    journal->in_flight--;
    journal->stalled = journal->stalled || result != 0;
    if (journal->failed)
        return;
    if (!journal->stalled) {
        advance(journal);
        pawl_journal_submit(journal);
    } else if (journal->in_flight == 0) {
        /* Once anything in the window failed, nothing more of it is told of until all of it is known. */
        int fatal = fatal_in_window(journal);
        if (fatal) {
            pawl_journal_fail(journal, fatal);
        } else {
            advance(journal);
            pawl_journal_rescue(journal);
        }
    }
    pawl_snapshot_step(journal);
}

int pawl_journal_sync(struct pawl_journal *journal)
{
    int error = pawl_journal_flush(journal);
    while (error == 0 && !journal->failed && journal->first) {
        if (journal->in_flight == 0) { /* a full disk: waiting does not help */
            pawl_journal_submit(journal);
            if (journal->in_flight == 0 && !pawl_extent_busy(journal))
                return journal->failed ? journal->failed : PAWL_E_NO_SPACE;
        }
        int count = pawl_io_wait(journal->io, UINT64_MAX);
        if (count < 0)
            return count;
    }
    return error ? error : journal->failed;
}

uint64_t pawl_journal_idle(struct pawl_journal *journal, uint64_t now_ns)
{
    uint64_t room_at_ns = pawl_journal_tick_room(journal, now_ns);
    pawl_journal_cache_idle(journal);
    if (journal->failed || journal->first || !journal->needs_watermark)
        return room_at_ns;
    if (journal->idle_since_ns == 0)
        journal->idle_since_ns = now_ns;
    uint64_t due_ns = journal->idle_since_ns + journal->options.idle_ns;
    if (now_ns < due_ns)
        return due_ns < room_at_ns ? due_ns : room_at_ns;
    journal->needs_watermark = false;
    pawl_journal_append_own(journal, PAWL_RECORD_WATERMARK, NULL, 0, 0);
    return room_at_ns;
}

uint64_t pawl_journal_durable_lsn(const struct pawl_journal *journal)
{
    return journal->durable_lsn;
}

uint64_t pawl_journal_last_lsn(const struct pawl_journal *journal)
{
    return journal->next_lsn - 1;
}

uint64_t pawl_journal_pending_bytes(const struct pawl_journal *journal)
{
    return journal->pending_bytes;
}

void pawl_journal_stats(const struct pawl_journal *journal, struct pawl_journal_stats *stats_out)
{
    *stats_out = journal->stats;
    stats_out->segment_count = journal->segment_count;
    for (uint32_t i = 0; i < journal->segment_count; i++)
        stats_out->disk_bytes += journal->segments[i].bytes;
    stats_out->snapshot_lsn = journal->snapshot_count ? journal->snapshots[0].lsn : 0;
    stats_out->bytes_since_snapshot = journal->appended_bytes - journal->bytes_at_snapshot;
    stats_out->direct = journal->direct;
    stats_out->cache_bytes = pawl_journal_cache_bytes(journal);
}

/* Opening and closing. */

static void set_defaults(struct pawl_journal_options *options)
{
    if (options->segment_bytes == 0)
        options->segment_bytes = 64 << 20;
    if (options->frame_bytes == 0)
        options->frame_bytes = 1 << 20;
    if (options->window_depth == 0)
        options->window_depth = 2; /* more only queue for the device, and share less */
    if (options->pending_bytes_max == 0)
        options->pending_bytes_max = 96 << 20;
    if (options->cache_bytes == 0)
        options->cache_bytes = 16 << 20;
    if (options->cache_bytes == UINT64_MAX)
        options->cache_bytes = 0;
    if (options->reserve_bytes == 0)
        options->reserve_bytes =
            options->segment_bytes < 2 << 20 ? options->segment_bytes : 2 << 20; /* PAWL_RESERVE_WORDS */
    if (options->lock_wait_ns == 0)
        options->lock_wait_ns = 15000000000u;
    if (options->idle_ns == 0)
        options->idle_ns = 1000000000u;
    if (options->ahead_bytes == 0)
        options->ahead_bytes = PAWL_JOURNAL_AHEAD_BYTES_MAX;
    if (options->ahead_from_bytes == 0)
        options->ahead_from_bytes = 64 << 10;
    if (options->recycled_max == 0)
        options->recycled_max = 2;
    if (options->recycled_max == UINT32_MAX)
        options->recycled_max = 0;
}

static void free_journal(struct pawl_journal *journal)
{
    pawl_journal_snapshot_abort(journal);
    pawl_journal_cache_destroy(journal);
    pawl_journal_destroy_frames(journal->first);
    pawl_journal_destroy_frames(journal->spare);
    for (uint32_t i = 0; i < journal->segment_count; i++)
        pawl_journal_segment_close(journal, &journal->segments[i]);
    if (journal->lock_fd >= 0)
        pawl_io_file_close(journal->io, journal->lock_fd);
    free(journal->segments);
    free(journal->moves);
    free(journal);
}

int pawl_journal_open(struct pawl_io *io, int dir_fd, const struct pawl_journal_options *options,
                      struct pawl_journal **journal_out, struct pawl_journal_report *report)
{
    struct pawl_journal_report own_report;
    report = report ? report : &own_report;
    *report = (struct pawl_journal_report){0};
    struct pawl_journal *journal = calloc(1, sizeof *journal);
    if (!journal)
        return report->error = -ENOMEM;
    journal->io = io;
    journal->dir_fd = dir_fd;
    journal->options = *options;
    set_defaults(&journal->options);
    journal->next_lsn = 1;
    journal->snapshot.fd = -1;
    if (journal->options.boot_id)
        memcpy(journal->boot_id, journal->options.boot_id, sizeof journal->boot_id);
    else
        (void)pawl_clock_boot_id(journal->boot_id); /* else zeros: no frame is known to be of this boot */

    int error = 0;
    journal->lock_fd = pawl_io_file_open(io, dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    if (journal->options.segment_bytes % PAWL_BLOCK_BYTES != 0 || journal->options.window_depth > 64 ||
        journal->options.ahead_bytes % PAWL_BLOCK_BYTES != 0 ||
        journal->options.ahead_bytes > PAWL_JOURNAL_AHEAD_BYTES_MAX)
        error = -EINVAL;
    else if (journal->lock_fd < 0)
        error = journal->lock_fd;
    else {
        pawl_extent_open(journal);
        error = pawl_journal_recover(journal, report);
    }
    report->error = error;
    report->sync_count = journal->open_syncs;
    if (error) {
        free_journal(journal);
        return error;
    }
    journal->vouched_lsn = journal->durable_lsn;
    journal->plan_segment = journal->current.number;
    journal->plan_byte_offset = journal->end;
    /* On a full disk recovery began no segment: the next frame does, and never goes on in the old one. */
    journal->plan_limit =
        journal->room == PAWL_JOURNAL_FULL ? journal->plan_byte_offset : journal->options.segment_bytes;
    *journal_out = journal;
    return 0;
}

/* The closing frame says: everything before it is durable, and nothing comes after. */
static int close_cleanly(struct pawl_journal *journal)
{
    pawl_journal_snapshot_abort(journal);
    int error = pawl_journal_sync(journal);
    if (error || journal->closed_by_last_frame)
        return error;
    error = pawl_journal_append_own(journal, PAWL_RECORD_WATERMARK, NULL, 0, PAWL_FRAME_CLOSING);
    if (error == 0)
        error = pawl_journal_sync(journal);
    while (error == 0 && pawl_extent_busy(journal))
        error = pawl_io_wait(journal->io, UINT64_MAX) < 0 ? -EIO : journal->failed;
    if (error == 0) /* of a recycled file, so that the next start need not look through what is left of it */
        pawl_io_file_truncate(journal->io, journal->segments[journal->segment_count - 1].lock_fd,
                              journal->end);
    if (error == 0) {
        pawl_journal_drop_recycled(journal);
        if (journal->room == PAWL_JOURNAL_ROOMY) /* else it is what the next owner settles with */
            pawl_journal_drop_reserve(journal);
    }
    return error;
}

int pawl_journal_close(struct pawl_journal *journal, bool clean)
{
    int error = clean ? close_cleanly(journal) : 0;
    journal->options.on_durable = NULL;
    journal->flush_wanted = false;
    journal->stalled = true; /* what comes back starts nothing new */
    while (journal->in_flight > 0 || pawl_io_active(&journal->snapshot.request) ||
           pawl_extent_busy(journal)) {
        journal->failed = journal->failed ? journal->failed : PAWL_E_CLOSED;
        if (pawl_io_wait(journal->io, UINT64_MAX) < 0)
            break;
    }
    free_journal(journal);
    return error;
}
