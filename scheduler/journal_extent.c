/*
 * journal_extent.c - how far the blocks of the current segment were written, and what a commit into them
 * needs.
 *
 * Runs in: the scheduler. A write that makes a file longer changes the file's metadata too, and a sync then
 * writes that as well: three writes of the device, one after the other, and a flush, instead of one and a
 * flush. So where frames are small, zeros are written and synced a piece ahead of them, and the frames go
 * over those: one request each, which writes and syncs. A frame waits only for zeros that would be written at
 * its own place.
 *
 * The one request is a write with RWF_DSYNC. It is for O_DIRECT and where nothing but data changes: with it,
 * kernels before 6.7 (and stable ones without that mend) do not sync the new length of a file of ext4; FUSE
 * leaves it to a server that need not look; on btrfs a sync was lost that way (before 5.19). Everywhere else
 * a commit is a write and then an fdatasync.
 */
#include "scheduler/journal_internal.h"

#include <sys/stat.h>
#include <sys/vfs.h>

#include "shm/error.h"

enum {
    AHEAD_FRAME_BYTES = 64 << 10, /* with larger frames, syncs are few */
    EXT4_MAGIC = 0xef53,
    XFS_MAGIC = 0x58465342,
};

static _Alignas(PAWL_BLOCK_BYTES) uint8_t zeros[PAWL_JOURNAL_AHEAD_BYTES_MAX]; /* never written */

void pawl_extent_open(struct pawl_journal *journal)
{
    struct statfs fs;
    journal->extent.syncs_in_place =
        journal->options.in_place ||
        (fstatfs(journal->lock_fd, &fs) == 0 && (fs.f_type == EXT4_MAGIC || fs.f_type == XFS_MAGIC));
}

void pawl_extent_begin(struct pawl_journal *journal, int fd, bool is_written)
{
    struct stat st;
    journal->extent.written_bytes = is_written && fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
    journal->extent.given_up = !journal->extent.syncs_in_place || !journal->direct;
}

bool pawl_extent_busy(const struct pawl_journal *journal)
{
    return pawl_io_active(&journal->extent.request);
}

static uint64_t end_of(const struct journal_frame *frame)
{
    return frame->byte_offset + pawl_frame_bytes(frame->record_bytes);
}

bool pawl_extent_must_wait(const struct pawl_journal *journal, const struct journal_frame *frame)
{
    return pawl_extent_busy(journal) && end_of(frame) > journal->extent.written_bytes;
}

static void on_zeros(struct pawl_io_request *request, int32_t result)
{
    struct pawl_journal *journal = request->ctx;
    struct journal_extent *extent = &journal->extent;
    journal->stats.sync_count++;
    if (result == 0)
        extent->written_bytes = request->byte_offset + request->bytes;
    else
        extent->given_up = true; /* whoever has something to write there will be told why not */
    /* What that sync was to carry to the disk besides would be taken for synced by the next one. */
    if (request->failure == PAWL_IO_FAILED_SYNC && !journal->failed)
        pawl_journal_fail(journal, PAWL_E_SYNC_FAILED);
    if (!journal->failed)
        pawl_journal_submit(journal);
}

/* @frame was submitted; no frame behind it was. */
static void write_ahead(struct pawl_journal *journal, const struct journal_frame *frame, int fd)
{
    struct journal_extent *extent = &journal->extent;
    uint64_t end = end_of(frame), from = end > extent->written_bytes ? end : extent->written_bytes;
    uint64_t limit = journal->options.segment_bytes, ahead = journal->options.ahead_bytes;
    if (extent->given_up || pawl_extent_busy(journal) || journal->room != PAWL_JOURNAL_ROOMY ||
        end < journal->options.ahead_from_bytes || end - frame->byte_offset > AHEAD_FRAME_BYTES ||
        from >= end + ahead / 2 || from >= limit)
        return;
    extent->request.done = on_zeros;
    extent->request.ctx = journal;
    extent->zeros = (struct iovec){.iov_base = zeros, .iov_len = limit - from < ahead ? limit - from : ahead};
    if (pawl_io_commit(journal->io, &extent->request, fd, &extent->zeros, 1, from) != 0)
        extent->given_up = true;
}

int pawl_extent_commit(struct pawl_journal *journal, struct journal_frame *frame, int fd)
{
    const struct journal_extent *extent = &journal->extent;
    uint64_t bytes = pawl_frame_bytes(frame->record_bytes);
    bool over =
        extent->syncs_in_place && journal->direct && frame->byte_offset + bytes <= extent->written_bytes;
    frame->iov = (struct iovec){.iov_base = frame->bytes, .iov_len = bytes};
    int error = over ? pawl_io_overwrite(journal->io, &frame->request, fd, &frame->iov, 1, frame->byte_offset)
                     : pawl_io_commit(journal->io, &frame->request, fd, &frame->iov, 1, frame->byte_offset);
    if (!error)
        write_ahead(journal, frame, fd);
    return error;
}
