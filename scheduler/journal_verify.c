/*
 * journal_verify.c - reading a journal without owning it: `pawl journal verify` and `pawl journal dump`.
 *
 * Runs in: any process. Takes no lock and writes nothing. An owner may be at work meanwhile: it writes on,
 * gives segments and snapshots back, writes over them under another name. So what does not hold is damage
 * only if it does not hold when it is read again, after what says that it must, and if its file has its name
 * still: a number is used once, so such a file was nothing else in between.
 */
#include "scheduler/journal_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/stat.h>

#include "scheduler/journal_scan.h"
#include "shm/error.h"

struct walk {
    int dir_fd;
    struct pawl_io *io;
    struct pawl_journal_report *report;
    void (*on_finding)(void *ctx, const struct pawl_journal_finding *finding);
    int (*each)(void *ctx, const struct pawl_record *record, uint64_t place);
    void *ctx;
    bool stop_at_damage;
    struct pawl_listing listing;
    struct pawl_segment_header *headers;
    uint64_t *checksums;
    int *errors; /* of each header */
};

static void find(struct walk *walk, enum pawl_journal_finding_kind kind, const char *file,
                 uint64_t byte_offset, uint64_t lsn, const char *text)
{
    struct pawl_journal_report *report = walk->report;
    if (kind == PAWL_JOURNAL_DAMAGE && report->error == 0) { /* the report names the first */
        report->error = PAWL_E_DAMAGED;
        snprintf(report->file, sizeof report->file, "%s", file);
        report->byte_offset = byte_offset;
        report->lsn = lsn;
        snprintf(report->reason, sizeof report->reason, "%s", text);
    }
    if (walk->on_finding) {
        struct pawl_journal_finding finding = {
            .kind = kind, .file = file, .byte_offset = byte_offset, .lsn = lsn, .text = text};
        walk->on_finding(walk->ctx, &finding);
    }
}

static int cannot_read(struct walk *walk, const char *file, int error)
{
    struct pawl_journal_report *report = walk->report;
    snprintf(report->file, sizeof report->file, "%s", file);
    snprintf(report->reason, sizeof report->reason, "%s", pawl_error_text(error));
    report->byte_offset = report->lsn = 0;
    return error;
}

static int is_newer(struct walk *walk, const char *name)
{
    snprintf(walk->report->file, sizeof walk->report->file, "%s", name);
    snprintf(walk->report->reason, sizeof walk->report->reason, "written by a newer version of pawl");
    return PAWL_E_BAD_FORMAT;
}

static int give_records(struct walk *walk, uint32_t segment, uint64_t byte_offset, const uint8_t *bytes,
                        uint64_t record_bytes)
{
    uint64_t at = PAWL_FRAME_HEADER_BYTES, end = at + record_bytes;
    while (at < end) {
        struct pawl_record record;
        size_t taken = pawl_record_unpack(bytes + at, end - at, &record);
        if (taken == 0)
            return PAWL_E_DAMAGED;
        walk->report->first_lsn = walk->report->first_lsn ? walk->report->first_lsn : record.lsn;
        walk->report->last_lsn = record.lsn;
        walk->report->record_count++;
        int stop =
            walk->each ? walk->each(walk->ctx, &record, (uint64_t)segment << 32 | (byte_offset + at)) : 0;
        if (stop)
            return stop;
        at += taken;
    }
    return 0;
}

/* The file that @fd reads is no part of the journal any more: what it holds now says nothing. */
static bool is_given_back(const struct walk *walk, const char *name, int fd)
{
    struct stat named, opened;
    if (fstatat(walk->dir_fd, name, &named, 0) != 0)
        return errno == ENOENT;
    return fstat(fd, &opened) == 0 && (named.st_ino != opened.st_ino || named.st_dev != opened.st_dev);
}

/* How far one segment was read. */
struct segment_walk {
    struct pawl_scan scan;
    struct pawl_scan_rest rest; /* behind the end, where no successor says where that is */
    const struct pawl_segment_header *header;
    uint64_t end; /* as the successor says; 0: there is none */
    uint64_t at, lsn, checksum, frame_count;
    const char *reason; /* what does not hold at @at */
    bool closing;
    bool unreadable; /* @reason: the disk does not give it */
};

static int read_frames(struct walk *walk, struct segment_walk *segment)
{
    int error = 0;
    segment->reason = NULL;
    while (error == 0 && (segment->end == 0 || segment->at < segment->end)) {
        struct pawl_frame_header frame;
        const uint8_t *bytes;
        segment->reason = pawl_scan_frame(&segment->scan, segment->at, segment->lsn, &frame, &bytes);
        if (segment->scan.error && !pawl_is_damage(segment->scan.error))
            return segment->scan.error;
        segment->unreadable = segment->scan.error != 0;
        if (segment->reason)
            break;
        error = give_records(walk, segment->header->number, segment->at, bytes, frame.record_bytes);
        segment->lsn += frame.record_count;
        segment->at += frame.bytes;
        segment->checksum = frame.checksum;
        segment->closing = frame.flags & PAWL_FRAME_CLOSING;
        walk->report->newest_realtime_ns = frame.realtime_ns;
        segment->frame_count++;
    }
    return error;
}

/* Reads on for as long as a frame that did not hold does when it is read again: an owner may have written it,
 * and one that vouches for it, since it was read. */
static int read_to_end(struct walk *walk, struct segment_walk *segment)
{
    for (uint64_t bad_at = 0;;) {
        int error = read_frames(walk, segment);
        if (error || !segment->reason)
            return error;
        if (segment->end == 0) {
            error = pawl_scan_rest_of(&segment->scan, segment->at, segment->lsn, &segment->rest);
            if (error || !segment->rest.vouched)
                return error;
        }
        if (segment->at == bad_at)
            return 0;
        bad_at = segment->at;
        pawl_scan_forget(&segment->scan);
    }
}

/* An end, a torn tail, or damage. */
static void judge_end(struct walk *walk, const struct segment_walk *segment, const char *name)
{
    const struct pawl_segment_header *next = segment->header + 1;
    const struct pawl_scan_rest *rest = &segment->rest;
    char text[160];
    snprintf(text, sizeof text, "%s",
             segment->reason ? segment->reason : "it does not end as its successor says");
    if (segment->end == 0 && rest->vouched)
        snprintf(text, sizeof text, "%s; the frame at byte %llu says that it was durable", segment->reason,
                 (unsigned long long)rest->voucher_byte_offset);
    bool holds = segment->end == 0
                     ? !rest->vouched && !segment->unreadable
                     : !segment->reason && segment->at == segment->end && segment->lsn == next->base_lsn &&
                           segment->checksum == next->previous_checksum;
    if (!holds) {
        find(walk, PAWL_JOURNAL_DAMAGE, name, segment->at, segment->lsn, text);
    } else if (rest->ours) {
        walk->report->tail_bytes = rest->bytes;
        find(walk, PAWL_JOURNAL_TORN, name, segment->at, segment->lsn,
             "an end that was never confirmed; a start drops it");
    }
}

static void report_segment(struct walk *walk, const struct segment_walk *segment, const char *name, bool last)
{
    judge_end(walk, segment, name);
    if (last)
        walk->report->clean = segment->closing && walk->report->tail_bytes == 0;
    char text[160];
    snprintf(text, sizeof text, "%llu frames, lsn %llu to %llu, %llu bytes%s",
             (unsigned long long)segment->frame_count, (unsigned long long)segment->header->base_lsn,
             (unsigned long long)(segment->lsn - 1), (unsigned long long)segment->at,
             last && walk->report->clean ? ", closed" : "");
    find(walk, PAWL_JOURNAL_NOTE, name, 0, segment->header->base_lsn, text);
}

static int walk_segment(struct walk *walk, uint32_t index)
{
    const struct pawl_segment_header *header = &walk->headers[index];
    bool last = index + 1 == walk->listing.segment_count;
    /* Where its successor is gone or unreadable, the end is judged as a last segment's. */
    bool bounded = !last && walk->errors[index + 1] == 0 && header[1].previous == header->number;
    char name[PAWL_SEGMENT_NAME_BYTES];
    pawl_segment_name(name, header->number);
    int fd = pawl_io_file_open(walk->io, walk->dir_fd, name, O_RDONLY, 0);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    struct segment_walk segment = {.header = header,
                                   .end = bounded ? header[1].previous_end : 0,
                                   .at = PAWL_SEGMENT_HEADER_BYTES,
                                   .lsn = header->base_lsn,
                                   .checksum = walk->checksums[index]};
    pawl_scan_init(&segment.scan, walk->io, fd, header);
    int error = read_to_end(walk, &segment);
    if (error == 0 && !is_given_back(walk, name, fd))
        report_segment(walk, &segment, name, last);
    pawl_scan_fini(&segment.scan);
    pawl_io_file_close(walk->io, fd);
    return error;
}

static int walk_header(struct walk *walk, uint32_t index)
{
    uint32_t number = walk->listing.segments[index];
    char name[PAWL_SEGMENT_NAME_BYTES];
    pawl_segment_name(name, number);
    int fd = pawl_io_file_open(walk->io, walk->dir_fd, name, O_RDONLY, 0);
    if (fd < 0) {
        walk->errors[index] = fd;
        return fd == -ENOENT ? 0 : fd; /* given back since the directory was read */
    }
    int error = pawl_scan_header(walk->io, fd, number, &walk->headers[index], &walk->checksums[index]);
    bool given_back = error && is_given_back(walk, name, fd);
    pawl_io_file_close(walk->io, fd);
    walk->errors[index] = error;
    if (!error || given_back)
        return 0;
    if (error == PAWL_E_BAD_FORMAT)
        return is_newer(walk, name);
    if (!pawl_is_damage(error))
        return cannot_read(walk, name, error);
    find(walk, PAWL_JOURNAL_DAMAGE, name, 0, 0, "the segment's header does not hold");
    return 0;
}

static int walk_headers(struct walk *walk)
{
    uint32_t count = walk->listing.segment_count;
    walk->headers = calloc(count + 1, sizeof *walk->headers);
    walk->checksums = calloc(count + 1, sizeof *walk->checksums);
    walk->errors = calloc(count + 1, sizeof *walk->errors);
    if (!walk->headers || !walk->checksums || !walk->errors)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        int error = walk_header(walk, i);
        if (error)
            return error;
    }
    return 0;
}

static bool same_segments(const struct pawl_listing *a, const struct pawl_listing *b)
{
    return a->segment_count == b->segment_count &&
           (a->segment_count == 0 ||
            memcmp(a->segments, b->segments, a->segment_count * sizeof *a->segments) == 0);
}

/* Until two in a row are the same: one that is read while files come may have a later one and lack one
 * before.
 */
static int list(struct walk *walk)
{
    struct pawl_listing before = {0};
    int error = pawl_listing_read(walk->dir_fd, &before);
    while (error == 0) {
        error = pawl_listing_read(walk->dir_fd, &walk->listing);
        if (error == 0 && same_segments(&before, &walk->listing))
            break;
        pawl_listing_free(&before);
        before = walk->listing;
        walk->listing = (struct pawl_listing){0};
    }
    pawl_listing_free(&before);
    return error;
}

static int walk_all(struct walk *walk)
{
    int error = list(walk);
    if (error == 0)
        error = walk_headers(walk);
    walk->report->fresh = walk->listing.segment_count == 0;
    for (uint32_t i = 0; error == 0 && i < walk->listing.segment_count; i++) {
        if (walk->stop_at_damage && walk->report->error)
            break;
        if (walk->errors[i] == 0)
            error = walk_segment(walk, i);
    }
    return error;
}

/* A bad snapshot is survived by the older one: it is damage all the same, and verify says so. */
static int walk_snapshots(struct walk *walk)
{
    pawl_listing_free(&walk->listing); /* the segments took their time: an owner may have newer ones now */
    int failed = pawl_listing_read(walk->dir_fd, &walk->listing);
    if (failed)
        return failed;
    for (uint32_t i = 0; i < walk->listing.snapshot_count; i++) {
        char name[PAWL_SEGMENT_NAME_BYTES], text[96];
        struct snapshot_check check = {0};
        pawl_snapshot_name(name, walk->listing.snapshots[i]);
        int error = pawl_snapshot_check(walk->io, walk->dir_fd, name, &check);
        if (error == -ENOENT) /* two newer ones came since; one that is being read keeps its bytes */
            continue;
        if (error == PAWL_E_BAD_FORMAT)
            return is_newer(walk, name);
        if (error && !pawl_is_damage(error))
            return cannot_read(walk, name, error);
        if (error) {
            find(walk, PAWL_JOURNAL_DAMAGE, name, check.byte_offset, check.lsn, check.reason);
            walk->report->snapshots_bad++;
            continue;
        }
        walk->report->snapshot_lsn = check.lsn;
        snprintf(text, sizeof text, "snapshot up to lsn %llu", (unsigned long long)check.lsn);
        find(walk, PAWL_JOURNAL_NOTE, name, 0, check.lsn, text);
    }
    if (walk->listing.unknown_count)
        find(walk, PAWL_JOURNAL_NOTE, walk->listing.unknown, 0, 0, "not one of the journal's files");
    return 0;
}

static int end_walk(struct walk *walk, int error)
{
    free(walk->headers);
    free(walk->checksums);
    free(walk->errors);
    pawl_listing_free(&walk->listing);
    if (error)
        walk->report->error = error;
    return walk->report->error;
}

int pawl_journal_verify(int dir_fd, void (*on_finding)(void *ctx, const struct pawl_journal_finding *finding),
                        void *ctx, struct pawl_journal_report *report)
{
    struct pawl_journal_report own_report;
    report = report ? report : &own_report;
    *report = (struct pawl_journal_report){0};
    struct walk walk = {
        .dir_fd = dir_fd, .io = pawl_io_files(), .report = report, .on_finding = on_finding, .ctx = ctx};
    int error = walk_all(&walk);
    if (error == 0)
        error = walk_snapshots(&walk);
    return end_walk(&walk, error);
}

int pawl_journal_dump(int dir_fd, int (*each)(void *ctx, const struct pawl_record *record, uint64_t place),
                      void *ctx, struct pawl_journal_report *report)
{
    struct pawl_journal_report own_report;
    report = report ? report : &own_report;
    *report = (struct pawl_journal_report){0};
    struct walk walk = {.dir_fd = dir_fd,
                        .io = pawl_io_files(),
                        .report = report,
                        .each = each,
                        .ctx = ctx,
                        .stop_at_damage = true};
    return end_walk(&walk, walk_all(&walk));
}
