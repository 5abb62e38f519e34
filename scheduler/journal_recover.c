/*
 * journal_recover.c - from what a directory holds to a journal that can be appended to.
 *
 * Runs in: the scheduler, before it serves anybody. Reads first and changes nothing until it knows that
 * nothing is damaged. The rules, and why a crash can never look like damage, are in docs/journal-format.md,
 * "Recovery".
 */
#include "scheduler/journal_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "scheduler/journal_scan.h"
#include "shm/error.h"

/* What recovery knows while it reads. */
struct recovery {
    struct pawl_journal *journal;
    struct pawl_journal_report *report;
    struct pawl_listing listing;
    struct pawl_segment_header *headers; /* of each segment in the listing */
    uint64_t *header_checksums;
    uint64_t next_lsn;          /* of the next frame */
    uint64_t applied_lsn;       /* snapshot and records handed over so far */
    struct journal_frame *held; /* frames that nothing vouches for yet, oldest first */
    struct journal_frame *held_last;
    uint64_t held_byte_offset; /* of the first of them */
    uint64_t held_checksum;    /* of the frame before it */
    uint64_t end_byte_offset;  /* where the good frames of the last segment end */
    uint64_t end_checksum;
    bool closing; /* the last good frame is the owner's closing one */
    bool rest_is_ours;
    uint64_t begun_at_ns; /* boottime */
    uint64_t deadline_ns;
};

static int damaged(struct recovery *recovery, const char *file, uint64_t byte_offset, uint64_t lsn,
                   const char *reason)
{
    struct pawl_journal_report *report = recovery->report;
    snprintf(report->file, sizeof report->file, "%s", file);
    report->byte_offset = byte_offset;
    report->lsn = lsn;
    snprintf(report->reason, sizeof report->reason, "%s", reason);
    return PAWL_E_DAMAGED;
}

static int damaged_segment(struct recovery *recovery, uint32_t number, uint64_t byte_offset, uint64_t lsn,
                           const char *reason)
{
    char name[PAWL_SEGMENT_NAME_BYTES];
    pawl_segment_name(name, number);
    return damaged(recovery, name, byte_offset, lsn, reason);
}

/* Of a file that may be good: no memory, no descriptor. */
static int cannot_read(struct recovery *recovery, const char *file, int error)
{
    snprintf(recovery->report->file, sizeof recovery->report->file, "%s", file);
    return error;
}

static int too_little_room(struct recovery *recovery, uint64_t bytes)
{
    struct pawl_journal_report *report = recovery->report;
    snprintf(report->reason, sizeof report->reason, "%llu bytes are needed", (unsigned long long)bytes);
    return -ENOSPC;
}

/* Reads every header; locks every segment, so that no dead owner's write is still on its way. */
static int open_segments(struct recovery *recovery)
{
    struct pawl_journal *journal = recovery->journal;
    uint32_t count = recovery->listing.segment_count;
    recovery->headers = calloc(count, sizeof *recovery->headers);
    recovery->header_checksums = calloc(count, sizeof *recovery->header_checksums);
    if (!recovery->headers || !recovery->header_checksums)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = recovery->listing.segments[i];
        char name[PAWL_SEGMENT_NAME_BYTES];
        pawl_segment_name(name, number);
        bool direct = false, last = i == count - 1;
        int fd = last ? pawl_segment_open_direct(journal, name, O_RDWR, &direct)
                      : pawl_io_file_open(journal->io, journal->dir_fd, name, O_RDONLY, 0);
        if (fd < 0)
            return cannot_read(recovery, name, fd);
        struct journal_segment segment = {.number = number, .read_fd = -1, .lock_fd = fd};
        int error = pawl_segment_add(journal, &segment);
        if (error) {
            pawl_io_file_close(journal->io, fd);
            return error;
        }
        error = pawl_segment_lock(journal, fd, recovery->deadline_ns);
        if (error)
            return error;
        error =
            pawl_scan_header(journal->io, fd, number, &recovery->headers[i], &recovery->header_checksums[i]);
        if (pawl_is_damage(error))
            return damaged_segment(recovery, number, 0, 0, "the segment's header does not hold");
        if (error == PAWL_E_BAD_FORMAT) {
            damaged_segment(recovery, number, 0, 0, "written by a newer version of pawl");
            return error;
        }
        if (error)
            return error;
        if (memcmp(recovery->headers[i].uuid, recovery->headers[0].uuid, 16) != 0)
            return damaged_segment(recovery, number, 0, 0, "the segment belongs to another journal");
        journal->segments[i].base_lsn = recovery->headers[i].base_lsn;
        journal->direct = direct;
    }
    memcpy(journal->uuid, recovery->headers[0].uuid, sizeof journal->uuid);
    return 0;
}

static int add_fall_back(struct recovery *recovery, const char *name, uint64_t number)
{
    struct pawl_journal *journal = recovery->journal;
    uint64_t lsn;
    int error = pawl_snapshot_peek(journal->io, journal->dir_fd, name, journal->uuid, &lsn);
    if (error == 0)
        journal->snapshots[journal->snapshot_count++] = (struct snapshot_entry){number, lsn};
    if (error == 0 || pawl_is_damage(error) || error == PAWL_E_BAD_FORMAT) /* a bad one is set aside */
        return 0;
    return cannot_read(recovery, name, error);
}

/* Finds the newest snapshot that holds, looking at each as a whole before a byte of it is handed over. */
static int load_newest_snapshot(struct recovery *recovery)
{
    struct pawl_journal *journal = recovery->journal;
    for (uint32_t i = recovery->listing.snapshot_count; i-- > 0;) {
        uint64_t number = recovery->listing.snapshots[i];
        char name[PAWL_SEGMENT_NAME_BYTES];
        struct snapshot_check check = {.uuid = journal->uuid};
        pawl_snapshot_name(name, number);
        if (number > journal->snapshot_number)
            journal->snapshot_number = number;
        if (journal->snapshot_count > 0) { /* the fall-back: its lsn bounds what may be released */
            int error = journal->snapshot_count < 2 ? add_fall_back(recovery, name, number) : 0;
            if (error)
                return error;
            continue;
        }
        int error = pawl_snapshot_check(journal->io, journal->dir_fd, name, &check);
        if (error == PAWL_E_BAD_FORMAT) {
            damaged(recovery, name, 0, 0, "written by a newer version of pawl");
            return error;
        }
        if (error && !pawl_is_damage(error))
            return cannot_read(recovery, name, error);
        if (error) {
            recovery->report->snapshots_bad++;
            pawl_journal_notice(journal, "%s is bad at byte %llu (%s): falling back", name,
                                (unsigned long long)check.byte_offset, check.reason);
            continue;
        }
        check.chunk = journal->options.load_snapshot;
        check.ctx = journal->options.ctx;
        error = check.chunk ? pawl_snapshot_check(journal->io, journal->dir_fd, name, &check) : 0;
        if (error)
            return error;
        journal->snapshots[journal->snapshot_count++] = (struct snapshot_entry){number, check.lsn};
        journal->newest_snapshot_bytes = check.byte_offset;
        recovery->report->snapshot_lsn = recovery->applied_lsn = check.lsn;
    }
    return 0;
}

/* When a frame was sealed, for waits. */
static struct pawl_now clocks_of(const struct recovery *recovery, const struct pawl_segment_header *segment,
                                 const struct pawl_frame_header *frame)
{
    const struct pawl_now written = {.boottime_ns = frame->boottime_ns, .realtime_ns = frame->realtime_ns};
    return pawl_now_of_boot(written, segment->boot_id, recovery->journal->boot_id, recovery->begun_at_ns);
}

static int apply_frame(struct recovery *recovery, uint32_t segment, uint64_t byte_offset,
                       const uint8_t *bytes, uint64_t record_bytes, struct pawl_now written)
{
    struct pawl_journal *journal = recovery->journal;
    struct pawl_journal_report *report = recovery->report;
    if (journal->options.written)
        journal->options.written(journal->options.ctx, written);
    uint64_t at = PAWL_FRAME_HEADER_BYTES, end = at + record_bytes;
    while (at < end) {
        struct pawl_record record;
        size_t taken = pawl_record_unpack(bytes + at, end - at, &record);
        if (taken == 0)
            return PAWL_E_DAMAGED;
        if (record.lsn > recovery->applied_lsn) {
            recovery->applied_lsn = record.lsn;
            report->first_lsn = report->first_lsn ? report->first_lsn : record.lsn;
            report->record_count++;
            uint64_t place = (uint64_t)segment << 32 | (byte_offset + at);
            int error = record.type < PAWL_RECORD_JOURNAL_FIRST && journal->options.apply
                            ? journal->options.apply(journal->options.ctx, &record, place)
                            : 0;
            if (error)
                return error;
        }
        at += taken;
    }
    return 0;
}

static int hold(struct recovery *recovery, const struct pawl_segment_header *segment,
                const struct pawl_frame_header *header, const uint8_t *bytes)
{
    struct pawl_journal *journal = recovery->journal;
    struct journal_frame *frame = pawl_journal_new_frame(journal);
    if (!frame)
        return -ENOMEM;
    int error = pawl_journal_grow_frame(frame, header->record_bytes);
    if (error) {
        pawl_journal_free_frame(journal, frame);
        return error;
    }
    memcpy(frame->bytes, bytes, header->bytes);
    frame->record_bytes = header->record_bytes;
    frame->record_count = header->record_count;
    frame->first_lsn = header->first_lsn;
    frame->byte_offset = header->byte_offset;
    frame->checksum = header->checksum;
    frame->written = clocks_of(recovery, segment, header);
    if (recovery->held_last)
        recovery->held_last->next = frame;
    else
        recovery->held = frame;
    recovery->held_last = frame;
    return 0;
}

/* Hands over the held frames up to @lsn, which a later frame calls durable. */
static int release_held(struct recovery *recovery, uint32_t segment, uint64_t lsn)
{
    int error = 0;
    while (error == 0 && recovery->held &&
           recovery->held->first_lsn + recovery->held->record_count - 1 <= lsn) {
        struct journal_frame *frame = recovery->held;
        error = apply_frame(recovery, segment, frame->byte_offset, frame->bytes, frame->record_bytes,
                            frame->written);
        recovery->held_byte_offset = frame->byte_offset + pawl_frame_bytes(frame->record_bytes);
        recovery->held_checksum = frame->checksum;
        recovery->journal->durable_lsn = frame->first_lsn + frame->record_count - 1;
        recovery->held = frame->next;
        if (!recovery->held)
            recovery->held_last = NULL;
        pawl_journal_free_frame(recovery->journal, frame);
    }
    return error;
}

/* A segment that has a successor: the successor says where it ends, and all before that was durable. */
static int replay_whole_segment(struct recovery *recovery, uint32_t index)
{
    struct pawl_journal *journal = recovery->journal;
    const struct pawl_segment_header *header = &recovery->headers[index], *next = header + 1;
    struct pawl_scan scan;
    pawl_scan_init(&scan, journal->io, journal->segments[index].lock_fd, header);
    uint64_t at = PAWL_SEGMENT_HEADER_BYTES, checksum = recovery->header_checksums[index];
    int error = 0;
    while (error == 0 && at < next->previous_end) {
        struct pawl_frame_header frame;
        const uint8_t *bytes;
        const char *reason = pawl_scan_frame(&scan, at, recovery->next_lsn, &frame, &bytes);
        if (!reason && at + frame.bytes > next->previous_end)
            reason = "it reaches beyond the segment's end";
        if (scan.error && scan.error != -EIO) {
            error = scan.error;
            break;
        }
        if (reason) {
            error = damaged_segment(recovery, header->number, at, recovery->next_lsn, reason);
            break;
        }
        error = apply_frame(recovery, header->number, at, bytes, frame.record_bytes,
                            clocks_of(recovery, header, &frame));
        recovery->next_lsn += frame.record_count;
        recovery->report->newest_realtime_ns = frame.realtime_ns;
        at += frame.bytes;
        checksum = frame.checksum;
    }
    pawl_scan_fini(&scan);
    if (error)
        return error;
    if (recovery->next_lsn != next->base_lsn || checksum != next->previous_checksum)
        return damaged_segment(recovery, header->number, at, recovery->next_lsn,
                               "it does not end as its successor says");
    journal->segments[index].bytes = at;
    journal->durable_lsn = recovery->next_lsn - 1;
    return 0;
}

/* The last segment: frames are believed as far as later ones vouch for them, held beyond that. */
static int replay_last_segment(struct recovery *recovery, uint32_t index)
{
    struct pawl_journal *journal = recovery->journal;
    const struct pawl_segment_header *header = &recovery->headers[index];
    struct pawl_scan scan;
    pawl_scan_init(&scan, journal->io, journal->segments[index].lock_fd, header);
    uint64_t at = PAWL_SEGMENT_HEADER_BYTES;
    recovery->held_byte_offset = at;
    recovery->held_checksum = recovery->end_checksum = recovery->header_checksums[index];
    journal->durable_lsn = recovery->next_lsn - 1;
    const char *reason;
    int error = 0;
    for (;;) {
        struct pawl_frame_header frame;
        const uint8_t *bytes;
        reason = pawl_scan_frame(&scan, at, recovery->next_lsn, &frame, &bytes);
        if (reason)
            break;
        error = hold(recovery, header, &frame, bytes);
        if (error == 0)
            error = release_held(recovery, header->number, frame.durable_lsn);
        if (error)
            goto fini_scan;
        recovery->next_lsn += frame.record_count;
        recovery->report->newest_realtime_ns = frame.realtime_ns;
        recovery->closing = frame.flags & PAWL_FRAME_CLOSING;
        recovery->end_checksum = frame.checksum;
        at += frame.bytes;
    }
    recovery->end_byte_offset = at;
    journal->segments[index].bytes = at;
    /* What could not be read may be good, and confirmed: no torn tail. */
    if (scan.error) {
        error = scan.error == -EIO ? damaged_segment(recovery, header->number, at, recovery->next_lsn, reason)
                                   : scan.error;
        goto fini_scan;
    }
    struct pawl_scan_rest rest;
    error = pawl_scan_rest_of(&scan, at, recovery->next_lsn, &rest);
    if (error)
        goto fini_scan;
    if (rest.vouched) {
        char text[160];
        snprintf(text, sizeof text, "%s; the frame at byte %llu says that it was durable", reason,
                 (unsigned long long)rest.voucher_byte_offset);
        error = damaged_segment(recovery, header->number, at, recovery->next_lsn, text);
    }
    recovery->rest_is_ours = rest.ours;
    recovery->report->tail_bytes = rest.ours ? rest.bytes : 0;

fini_scan:
    pawl_scan_fini(&scan);
    return error;
}

/* Its successor says where it ends. When that one is gone, because a snapshot covers it and nobody pins it,
 * the file's end will do: only records whose place is known are read in it. */
static int find_end(struct recovery *recovery, uint32_t index)
{
    struct journal_segment *segment = &recovery->journal->segments[index];
    const struct pawl_segment_header *next = &recovery->headers[index + 1];
    struct stat st;
    segment->bytes = next->previous_end;
    if (next->previous == segment->number)
        return 0;
    if (fstat(segment->lock_fd, &st) < 0)
        return -errno;
    segment->bytes = (uint64_t)st.st_size;
    return 0;
}

/* Which segment holds the first record after the snapshot. Those before it are kept for whoever pins them. */
static int replay(struct recovery *recovery)
{
    uint32_t count = recovery->listing.segment_count, first = 0;
    uint64_t wanted = recovery->applied_lsn + 1;
    for (; first + 1 < count && recovery->headers[first + 1].base_lsn <= wanted; first++) {
        int error = find_end(recovery, first);
        if (error)
            return error;
    }
    if (recovery->headers[first].base_lsn > wanted) {
        recovery->report->lsn = wanted;
        return damaged_segment(recovery, recovery->headers[first].number, 0, wanted,
                               "the records before this segment are missing");
    }
    recovery->next_lsn = recovery->headers[first].base_lsn;
    for (uint32_t i = first; i < count; i++) {
        if (i > first && recovery->headers[i].previous != recovery->headers[i - 1].number)
            return damaged_segment(recovery, recovery->headers[i].number, 0, recovery->headers[i].base_lsn,
                                   "the segment before it is missing");
        int error = i + 1 < count ? replay_whole_segment(recovery, i) : replay_last_segment(recovery, i);
        if (error)
            return error;
    }
    if (recovery->next_lsn <= recovery->report->snapshot_lsn)
        return damaged_segment(recovery, recovery->headers[count - 1].number, recovery->end_byte_offset,
                               recovery->next_lsn, "the snapshot is newer than the journal's end");
    return 0;
}

/* Not a byte is left for a segment. What was read through O_DIRECT is what the device has, so a flush makes
 * it durable where it lies. All that is new waits in memory until a segment can begin. */
static int go_without_segment(struct recovery *recovery, uint32_t index)
{
    struct pawl_journal *journal = recovery->journal;
    struct journal_segment *last = &journal->segments[index];
    if (recovery->held && !journal->direct) {
        uint64_t bytes = PAWL_SEGMENT_HEADER_BYTES;
        for (const struct journal_frame *frame = recovery->held; frame; frame = frame->next)
            bytes += pawl_frame_bytes(frame->record_bytes);
        return too_little_room(recovery, bytes);
    }
    journal->open_syncs++;
    if (pawl_io_file_sync(journal->io, last->lock_fd) != 0)
        return PAWL_E_SYNC_FAILED;
    uint64_t at = recovery->held_byte_offset;
    for (struct journal_frame *frame = recovery->held; frame; frame = frame->next) {
        frame->byte_offset =
            at; /* where it was: it may have been placed in a segment that did not come to be */
        at += pawl_frame_bytes(frame->record_bytes);
    }
    int error = release_held(recovery, last->number, UINT64_MAX);
    if (error)
        return error;
    journal->end = last->bytes = recovery->end_byte_offset;
    journal->end_checksum = recovery->end_checksum;
    journal->depth = journal->direct ? journal->options.window_depth : 1;
    pawl_journal_set_room(journal, PAWL_JOURNAL_FULL);
    pawl_journal_notice(journal,
                        "journal: there is no room for a segment (%d bytes and what is to be recorded): "
                        "all can be read, nothing is recorded until there is",
                        PAWL_SEGMENT_HEADER_BYTES);
    return 0;
}

/* A new segment begins, with what nothing vouches for. */
static int begin_segment(struct recovery *recovery, uint32_t index)
{
    struct pawl_journal *journal = recovery->journal;
    struct journal_segment *last = &journal->segments[index];
    uint32_t number = last->number + 1;
    journal->end = last->bytes = recovery->held_byte_offset;
    journal->end_checksum = recovery->held_checksum;
    int error = pawl_segment_start(journal, number, recovery->held);
    if (pawl_io_is_room_error(error)) { /* behind the good frames lies what the crash left: room enough? */
        error =
            pawl_io_file_truncate(journal->io, journal->segments[index].lock_fd, recovery->end_byte_offset);
        error = error ? error : pawl_segment_start(journal, number, recovery->held);
    }
    if (pawl_io_is_room_error(error))
        return go_without_segment(recovery, index);
    if (error)
        return error;
    pawl_journal_trim_previous(journal);
    for (struct journal_frame *frame = recovery->held; frame; frame = frame->next)
        recovery->report->rewritten_count += frame->record_count;
    error = release_held(recovery, journal->current.number, UINT64_MAX);
    journal->needs_watermark = recovery->report->rewritten_count > 0;
    return error;
}

/* After a clean close in this boot, seen through O_DIRECT, the file goes on. In all other cases a new segment
 * begins, and what nothing vouches for is written into it: the old bytes may be in the page cache only, and a
 * sync that failed there once would succeed now. What is written in another boot needs a header that names
 * it: else no start could tell by which clock its waits go on. */
static int make_appendable(struct recovery *recovery)
{
    struct pawl_journal *journal = recovery->journal;
    uint32_t count = recovery->listing.segment_count;
    const struct pawl_segment_header *header = &recovery->headers[count - 1];
    journal->current = *header;
    bool go_on = recovery->closing && !recovery->rest_is_ours && journal->direct &&
                 recovery->end_byte_offset < journal->options.segment_bytes &&
                 memcmp(header->boot_id, journal->boot_id, sizeof header->boot_id) == 0;
    if (go_on) {
        int error = release_held(recovery, header->number, UINT64_MAX);
        if (error)
            return error;
        journal->end = recovery->end_byte_offset;
        journal->end_checksum = recovery->end_checksum;
        journal->depth = journal->options.window_depth;
        pawl_extent_begin(journal, journal->segments[count - 1].lock_fd, true);
        journal->closed_by_last_frame = true;
        return 0;
    }
    return begin_segment(recovery, count - 1);
}

static int create_journal(struct recovery *recovery)
{
    struct pawl_journal *journal = recovery->journal;
    recovery->report->fresh = true;
    int error = journal->options.random
                    ? journal->options.random(journal->options.ctx, journal->uuid, sizeof journal->uuid)
                : getrandom(journal->uuid, sizeof journal->uuid, 0) == sizeof journal->uuid ? 0
                                                                                            : -EIO;
    error = error ? error : pawl_segment_start(journal, 1, NULL);
    return pawl_io_is_room_error(error) ? too_little_room(recovery, PAWL_SEGMENT_HEADER_BYTES) : error;
}

/* What a crash left, and what is ours to use again. Nothing whose name we do not know is touched. */
static void tidy(struct recovery *recovery)
{
    struct pawl_journal *journal = recovery->journal;
    const struct pawl_listing *listing = &recovery->listing;
    if (listing->new_segment)
        pawl_io_file_unlink(journal->io, journal->dir_fd, "segment.new");
    journal->reserve_mask = listing->reserve_mask;
    if (listing->new_snapshot && listing->reserve_mask)
        pawl_journal_retire(journal, "snapshot.new");
    else if (listing->new_snapshot)
        pawl_io_file_unlink(journal->io, journal->dir_fd, "snapshot.new");
    if (listing->unknown_count)
        pawl_journal_notice(journal, "journal: %u files are not ours and stay as they are (%s)",
                            listing->unknown_count, listing->unknown);
    for (uint32_t i = 0; i < listing->recycled_count; i++) {
        char name[PAWL_SEGMENT_NAME_BYTES];
        snprintf(name, sizeof name, "recycled.%u", listing->recycled[i]);
        if (journal->recycled_count < PAWL_RECYCLED_MAX &&
            journal->recycled_count < journal->options.recycled_max)
            journal->recycled[journal->recycled_count++] = listing->recycled[i];
        else
            pawl_io_file_unlink(journal->io, journal->dir_fd, name);
    }
}

/* Snapshots that are not one of the two kept: bad ones are set aside, never deleted. */
static void sort_out_snapshots(struct recovery *recovery)
{
    struct pawl_journal *journal = recovery->journal;
    for (uint32_t i = 0; i < recovery->listing.snapshot_count; i++) {
        uint64_t number = recovery->listing.snapshots[i];
        bool kept = false, older = journal->snapshot_count == 2 && number < journal->snapshots[1].number;
        for (uint32_t k = 0; k < journal->snapshot_count; k++)
            kept = kept || journal->snapshots[k].number == number;
        if (kept)
            continue;
        char name[PAWL_SEGMENT_NAME_BYTES], aside[PAWL_SEGMENT_NAME_BYTES + 16];
        pawl_snapshot_name(name, number);
        snprintf(aside, sizeof aside, "%s.quarantine", name);
        if (older)
            pawl_io_file_unlink(journal->io, journal->dir_fd, name);
        else if (pawl_io_file_rename(journal->io, journal->dir_fd, name, aside) == 0)
            pawl_journal_notice(journal, "%s was set aside as %s", name, aside);
    }
}

static int recover(struct recovery *recovery)
{
    struct pawl_journal *journal = recovery->journal;
    int error = pawl_segment_lock(journal, journal->lock_fd, recovery->deadline_ns);
    if (error)
        return error;
    error = pawl_listing_read(journal->dir_fd, &recovery->listing);
    if (error)
        return error;
    if (recovery->listing.segment_count == 0) {
        if (recovery->listing.snapshot_count > 0)
            return damaged(recovery, "", 0, 0, "there are snapshots but no segment");
        if (journal->options.must_exist)
            return damaged(recovery, "", 0, 0, "it holds no segment");
        tidy(recovery);
        return create_journal(recovery);
    }
    error = open_segments(recovery);
    if (error == 0)
        error = load_newest_snapshot(recovery);
    if (error == 0)
        error = replay(recovery);
    if (error)
        return error;
    tidy(recovery);
    sort_out_snapshots(recovery);
    recovery->report->clean = recovery->closing && !recovery->rest_is_ours;
    return make_appendable(recovery);
}

int pawl_journal_recover(struct pawl_journal *journal, struct pawl_journal_report *report)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct recovery recovery = {.journal = journal, .report = report};
    uint64_t realtime_ns;
    pawl_journal_now(journal, &realtime_ns, &recovery.begun_at_ns);
    recovery.deadline_ns =
        (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + journal->options.lock_wait_ns;
    journal->durable_lsn = 0;
    int error = recover(&recovery);
    journal->next_lsn = journal->durable_lsn + 1;
    report->last_lsn = journal->durable_lsn;
    while (recovery.held) {
        struct journal_frame *next = recovery.held->next;
        pawl_journal_free_frame(journal, recovery.held);
        recovery.held = next;
    }
    free(recovery.headers);
    free(recovery.header_checksums);
    pawl_listing_free(&recovery.listing);
    return error;
}
