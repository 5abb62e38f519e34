/*
 * journal_segment.c - the journal's files: how a segment comes to be, is found, is given back.
 *
 * Runs in: the scheduler. A segment gets its name only when its header, and whatever recovery rewrote into
 * it, is durable: so a file with a segment's name and a bad header is damage, never a crash.
 */
#include "scheduler/journal_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <time.h>

#include "shm/error.h"

#define LOCK_STEP_NS 2000000

void pawl_segment_name(char name[static PAWL_SEGMENT_NAME_BYTES], uint32_t number)
{
    snprintf(name, PAWL_SEGMENT_NAME_BYTES, "%08u.seg", number);
}

static void recycled_name(char name[static PAWL_SEGMENT_NAME_BYTES], uint32_t number)
{
    snprintf(name, PAWL_SEGMENT_NAME_BYTES, "recycled.%u", number);
}

/* flock, because it stays until the last I/O on this open file is done; a dead owner's may take a moment. */
int pawl_segment_lock(struct pawl_journal *journal, int fd, uint64_t deadline_ns)
{
    (void)journal;
    for (;;) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        struct timespec now, step = {.tv_nsec = LOCK_STEP_NS};
        clock_gettime(CLOCK_MONOTONIC, &now);
        if ((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec >= deadline_ns)
            return PAWL_E_BUSY;
        nanosleep(&step, NULL);
    }
}

/* Nothing is in flight on it. io_uring may hold the file a little longer than its last completion, and with
 * it the lock: it is given back by name. */
void pawl_journal_segment_close(struct pawl_journal *journal, struct journal_segment *segment)
{
    if (segment->read_fd >= 0)
        pawl_io_file_close(journal->io, segment->read_fd);
    if (segment->lock_fd >= 0) {
        flock(segment->lock_fd, LOCK_UN);
        pawl_io_file_close(journal->io, segment->lock_fd);
    }
    segment->read_fd = segment->lock_fd = -1;
}

int pawl_segment_open_direct(struct pawl_journal *journal, const char *name, int flags, bool *direct_out)
{
    *direct_out = !journal->options.buffered;
    int fd =
        pawl_io_file_open(journal->io, journal->dir_fd, name, flags | (*direct_out ? O_DIRECT : 0), 0600);
    if (fd == -EINVAL && *direct_out) {
        *direct_out = false;
        fd = pawl_io_file_open(journal->io, journal->dir_fd, name, flags & ~O_EXCL, 0600);
    }
    return fd;
}

int pawl_segment_add(struct pawl_journal *journal, const struct journal_segment *segment)
{
    if (journal->segment_count == journal->segment_max) {
        uint32_t max = journal->segment_max ? journal->segment_max * 2 : 16;
        struct journal_segment *grown = realloc(journal->segments, max * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        journal->segments = grown;
        journal->segment_max = max;
    }
    journal->segments[journal->segment_count++] = *segment;
    return 0;
}

struct journal_segment *pawl_segment_find(const struct pawl_journal *journal, uint32_t number)
{
    uint32_t low = 0, high = journal->segment_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (journal->segments[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < journal->segment_count && journal->segments[low].number == number ? &journal->segments[low]
                                                                                   : NULL;
}

void pawl_journal_drop_recycled(struct pawl_journal *journal)
{
    while (journal->recycled_count > 0) {
        char name[PAWL_SEGMENT_NAME_BYTES];
        recycled_name(name, journal->recycled[--journal->recycled_count]);
        pawl_io_file_unlink(journal->io, journal->dir_fd, name);
    }
}

enum file_kind { FILE_NEW, FILE_RECYCLED, FILE_RESERVE };

/* Takes a file for a new segment. Written blocks first; the reserve only when the disk is full; when that is
 * used up, a new file again: room for a few records may have come back long before room for a reserve. */
static int take_file(struct pawl_journal *journal, char name[static PAWL_SEGMENT_NAME_BYTES],
                     bool *direct_out, enum file_kind *kind_out)
{
    *kind_out = FILE_RECYCLED;
    while (journal->recycled_count > 0) {
        recycled_name(name, journal->recycled[--journal->recycled_count]);
        int fd = pawl_segment_open_direct(journal, name, O_RDWR, direct_out);
        if (fd != -ENOENT)
            return fd;
    }
    int fd = -ENOSPC;
    *kind_out = FILE_NEW;
    if (journal->room == PAWL_JOURNAL_ROOMY || journal->reserve_mask == 0) {
        snprintf(name, PAWL_SEGMENT_NAME_BYTES, "segment.new");
        fd = pawl_segment_open_direct(journal, name, O_RDWR | O_CREAT | O_TRUNC, direct_out);
    }
    for (uint32_t i = 0; i < PAWL_JOURNAL_RESERVE_FILES && pawl_io_is_room_error(fd); i++) {
        if (!(journal->reserve_mask & 1u << i))
            continue;
        pawl_reserve_name(name, i);
        journal->reserve_mask &= ~(1u << i);
        *kind_out = FILE_RESERVE;
        fd = pawl_segment_open_direct(journal, name, O_RDWR, direct_out);
    }
    return fd;
}

static int random_bytes(struct pawl_journal *journal, void *bytes, size_t count)
{
    if (journal->options.random)
        return journal->options.random(journal->options.ctx, bytes, count);
    return getrandom(bytes, count, 0) == (ssize_t)count ? 0 : -EIO;
}

static int fill_header(struct pawl_journal *journal, uint32_t number, struct pawl_segment_header *header_out)
{
    uint64_t boottime_ns;
    *header_out = (struct pawl_segment_header){
        .format = PAWL_JOURNAL_FORMAT,
        .number = number,
        .previous = journal->current.number,
        .base_lsn = journal->durable_lsn + 1,
        .previous_end = journal->end,
        .previous_checksum = journal->end_checksum,
    };
    pawl_journal_now(journal, &header_out->realtime_ns, &boottime_ns);
    memcpy(header_out->uuid, journal->uuid, sizeof journal->uuid);
    memcpy(header_out->boot_id, journal->boot_id, sizeof journal->boot_id);
    int error = random_bytes(journal, &header_out->nonce, sizeof header_out->nonce);
    return error ? error : random_bytes(journal, header_out->secret, sizeof header_out->secret);
}

static int write_whole(struct pawl_io *io, int fd, const uint8_t *bytes, size_t count, uint64_t byte_offset)
{
    while (count > 0) {
        ssize_t written = pawl_io_file_write(io, fd, bytes, count, byte_offset);
        if (written <= 0)
            return written < 0 ? (int)written : -ENOSPC;
        if (written % PAWL_BLOCK_BYTES != 0)
            return -ENOSPC; /* a cut block: only a full disk or a size limit does that */
        bytes += written;
        count -= (size_t)written;
        byte_offset += (uint64_t)written;
    }
    return 0;
}

static int write_header(struct pawl_journal *journal, int fd, const struct pawl_segment_header *header,
                        uint64_t *checksum_out)
{
    uint8_t *block = aligned_alloc(PAWL_BLOCK_BYTES, PAWL_SEGMENT_HEADER_BYTES);
    if (!block)
        return -ENOMEM;
    *checksum_out = pawl_segment_pack(block, header);
    int error = write_whole(journal->io, fd, block, PAWL_SEGMENT_HEADER_BYTES, 0);
    free(block);
    return error;
}

/* What recovery carries over from a torn segment; frames get their new places. */
static int write_frames(struct pawl_journal *journal, int fd, const struct pawl_segment_header *header,
                        struct journal_frame *frames, uint64_t *end_out, uint64_t *checksum)
{
    uint64_t at = PAWL_SEGMENT_HEADER_BYTES;
    for (struct journal_frame *frame = frames; frame; frame = frame->next) {
        frame->segment = header->number;
        frame->byte_offset = at;
        pawl_journal_seal_frame(journal, frame, header);
        size_t bytes = pawl_frame_bytes(frame->record_bytes);
        int error = write_whole(journal->io, fd, frame->bytes, bytes, at);
        if (error)
            return error;
        at += bytes;
        *checksum = frame->checksum;
    }
    *end_out = at;
    return 0;
}

static int count_sync(struct pawl_journal *journal, int error)
{
    journal->open_syncs++;
    journal->stats.sync_count++;
    return error;
}

/* One try with one file. @is_written: its blocks were, in an earlier life. A sync that fails is fatal:
 * PAWL_E_SYNC_FAILED. */
static int start_in(struct pawl_journal *journal, int fd, const char *name, bool direct, bool is_written,
                    uint32_t number, struct journal_frame *rewritten)
{
    struct pawl_segment_header header;
    uint64_t checksum, end = PAWL_SEGMENT_HEADER_BYTES;
    char final_name[PAWL_SEGMENT_NAME_BYTES];
    int error = fill_header(journal, number, &header);
    if (error == 0)
        error = write_header(journal, fd, &header, &checksum);
    if (error == 0 && rewritten)
        error = write_frames(journal, fd, &header, rewritten, &end, &checksum);
    if (error)
        return error;
    if (count_sync(journal, pawl_io_file_sync(journal->io, fd)) != 0)
        return PAWL_E_SYNC_FAILED;
    pawl_segment_name(final_name, number);
    error = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
    if (error == 0)
        error = pawl_io_file_rename(journal->io, journal->dir_fd, name, final_name);
    if (error)
        return error;
    /* If the process dies before this sync, the next start finds this segment or not: both are whole. */
    if (count_sync(journal, pawl_io_file_sync(journal->io, journal->lock_fd)) != 0)
        return PAWL_E_SYNC_FAILED;
    struct journal_segment segment = {
        .number = number, .read_fd = -1, .lock_fd = fd, .base_lsn = header.base_lsn, .bytes = end};
    error = pawl_segment_add(journal, &segment);
    if (error)
        return error;
    journal->current = header;
    journal->end = end;
    journal->end_checksum = checksum;
    journal->direct = direct;
    journal->depth = direct ? journal->options.window_depth : 1;
    pawl_extent_begin(journal, fd, is_written);
    return 0;
}

/* A quota is not told of by the free space: only a file that gets its blocks knows of it. */
static int allocate_first(struct pawl_journal *journal, int fd)
{
    uint64_t bytes = journal->first ? pawl_frame_bytes(journal->first->record_bytes) : 0;
    int error = pawl_io_file_allocate(journal->io, fd, PAWL_SEGMENT_HEADER_BYTES + bytes);
    return error == -EOPNOTSUPP ? 0 : error;
}

int pawl_segment_start(struct pawl_journal *journal, uint32_t number, struct journal_frame *rewritten)
{
    for (;;) {
        char name[PAWL_SEGMENT_NAME_BYTES];
        bool direct;
        enum file_kind kind;
        bool last_try = journal->room != PAWL_JOURNAL_ROOMY && journal->reserve_mask == 0;
        if (last_try && journal->recycled_count == 0 && !rewritten && !pawl_journal_first_fits(journal))
            return -ENOSPC;
        int fd = take_file(journal, name, &direct, &kind);
        if (fd < 0)
            return fd;
        if (kind == FILE_RESERVE)
            pawl_journal_set_room(journal, PAWL_JOURNAL_TIGHT);
        int error = last_try && kind == FILE_NEW && !rewritten ? allocate_first(journal, fd) : 0;
        if (error == 0)
            error = start_in(journal, fd, name, direct, kind == FILE_RECYCLED, number, rewritten);
        if (error == 0 && last_try)
            pawl_journal_set_room(journal, PAWL_JOURNAL_TIGHT);
        if (error == 0)
            return 0;
        pawl_io_file_close(journal->io, fd);
        if (!pawl_io_is_room_error(error))
            return error;
        pawl_io_file_unlink(journal->io, journal->dir_fd, name);
        if (last_try)
            return error;
        if (journal->room == PAWL_JOURNAL_ROOMY)
            pawl_journal_set_room(journal, PAWL_JOURNAL_TIGHT); /* the next file is one of the reserve */
    }
}

uint32_t pawl_journal_segment_of(uint64_t place)
{
    return (uint32_t)(place >> 32);
}

uint32_t pawl_journal_current_segment(const struct pawl_journal *journal)
{
    return journal->current.number;
}

uint32_t pawl_journal_first_segment(const struct pawl_journal *journal)
{
    return journal->segment_count ? journal->segments[0].number : journal->current.number;
}

bool pawl_journal_has_segment(const struct pawl_journal *journal, uint32_t number)
{
    return pawl_segment_find(journal, number) != NULL;
}

/* Dead: either a written file for the next segment, or gone. */
static int bury(struct pawl_journal *journal, struct journal_segment *segment)
{
    char name[PAWL_SEGMENT_NAME_BYTES], new_name[PAWL_SEGMENT_NAME_BYTES];
    pawl_segment_name(name, segment->number);
    bool recycle = journal->room == PAWL_JOURNAL_ROOMY &&
                   journal->recycled_count < journal->options.recycled_max &&
                   journal->recycled_count < PAWL_RECYCLED_MAX &&
                   segment->bytes >= journal->options.segment_bytes / 2; /* a snapshot may have ended it */
    int error;
    if (recycle) {
        recycled_name(new_name, segment->number);
        error = pawl_io_file_rename(journal->io, journal->dir_fd, name, new_name);
        if (error == 0)
            journal->recycled[journal->recycled_count++] = segment->number;
    } else if (journal->room == PAWL_JOURNAL_ROOMY) {
        error = pawl_io_file_unlink(journal->io, journal->dir_fd, name);
    } else {
        error = pawl_journal_retire(journal, name);
    }
    if (error && error != -ENOENT)
        return error;
    pawl_journal_segment_close(journal, segment);
    pawl_journal_cache_forget(journal, segment->number);
    return 0;
}

int pawl_journal_release_before(struct pawl_journal *journal, uint32_t segment_number,
                                bool (*is_pinned)(void *ctx, uint32_t segment_number), void *ctx)
{
    if (journal->failed)
        return journal->failed;
    if (journal->snapshot_count < 2)
        return 0;
    uint64_t covered_lsn = journal->snapshots[1].lsn;
    uint32_t kept = 0, released = 0;
    int error = 0;
    for (uint32_t i = 0; i < journal->segment_count; i++) {
        struct journal_segment *segment = &journal->segments[i];
        bool dead = error == 0 && i + 1 < journal->segment_count && segment->number < segment_number &&
                    journal->segments[i + 1].base_lsn <= covered_lsn + 1 &&
                    !(is_pinned && is_pinned(ctx, segment->number));
        if (dead)
            error = bury(journal, segment);
        if (dead && error == 0)
            released++;
        else
            journal->segments[kept++] = *segment;
    }
    journal->segment_count = kept;
    if (released > 0)
        journal->retry_at_ns = 1; /* a full disk may have room now: looked at in this turn, not in a second */
    if (released > 0 && pawl_io_file_sync(journal->io, journal->lock_fd) != 0 && error == 0)
        error = -EIO;
    if (released > 0)
        pawl_journal_refill_reserve(journal);
    return error ? error : (int)released;
}
