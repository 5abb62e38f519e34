/*
 * journal_verify.c - reading a journal without owning it: `pawl journal verify` and `pawl journal dump`.
 *
 * Runs in: any process. Takes no lock and writes nothing.
 */
#include "scheduler/journal_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>

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

/* After the last good frame: an end, a torn tail, or damage. */
static int judge_end(struct walk *walk, struct pawl_scan *scan, const char *name, uint64_t at, uint64_t lsn,
                     const char *reason)
{
    struct pawl_scan_rest rest;
    int error = pawl_scan_rest_of(scan, at, lsn, &rest);
    if (error)
        return error;
    char text[160];
    if (rest.vouched) {
        snprintf(text, sizeof text, "%s; the frame at byte %llu says that it was durable", reason,
                 (unsigned long long)rest.voucher_byte_offset);
        find(walk, PAWL_JOURNAL_DAMAGE, name, at, lsn, text);
    } else if (rest.ours) {
        walk->report->tail_bytes = rest.bytes;
        find(walk, PAWL_JOURNAL_TORN, name, at, lsn, "an end that was never confirmed; a start drops it");
    }
    return 0;
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
        return fd;
    struct pawl_scan scan;
    pawl_scan_init(&scan, walk->io, fd, header);
    uint64_t at = PAWL_SEGMENT_HEADER_BYTES, lsn = header->base_lsn, frame_count = 0;
    uint64_t checksum = walk->checksums[index];
    const char *reason = NULL;
    bool closing = false;
    int error = 0;
    while (error == 0 && (!bounded || at < header[1].previous_end)) {
        struct pawl_frame_header frame;
        const uint8_t *bytes;
        reason = pawl_scan_frame(&scan, at, lsn, &frame, &bytes);
        if (reason)
            break;
        error = give_records(walk, header->number, at, bytes, frame.record_bytes);
        lsn += frame.record_count;
        at += frame.bytes;
        checksum = frame.checksum;
        closing = frame.flags & PAWL_FRAME_CLOSING;
        walk->report->newest_realtime_ns = frame.realtime_ns;
        frame_count++;
    }
    if (error == 0 && bounded && reason)
        find(walk, PAWL_JOURNAL_DAMAGE, name, at, lsn, reason);
    else if (error == 0 && bounded &&
             (at != header[1].previous_end || lsn != header[1].base_lsn ||
              checksum != header[1].previous_checksum))
        find(walk, PAWL_JOURNAL_DAMAGE, name, at, lsn, "it does not end as its successor says");
    else if (error == 0 && !bounded)
        error = judge_end(walk, &scan, name, at, lsn, reason);
    if (last)
        walk->report->clean = closing && walk->report->tail_bytes == 0;
    if (error == 0) {
        char text[160];
        snprintf(text, sizeof text, "%llu frames, lsn %llu to %llu, %llu bytes%s",
                 (unsigned long long)frame_count, (unsigned long long)header->base_lsn,
                 (unsigned long long)(lsn - 1), (unsigned long long)at,
                 last && walk->report->clean ? ", closed" : "");
        find(walk, PAWL_JOURNAL_NOTE, name, 0, header->base_lsn, text);
    }
    pawl_scan_fini(&scan);
    pawl_io_file_close(walk->io, fd);
    return error;
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
        char name[PAWL_SEGMENT_NAME_BYTES];
        pawl_segment_name(name, walk->listing.segments[i]);
        int fd = pawl_io_file_open(walk->io, walk->dir_fd, name, O_RDONLY, 0);
        if (fd < 0)
            return fd;
        int error =
            pawl_scan_header(walk->io, fd, walk->listing.segments[i], &walk->headers[i], &walk->checksums[i]);
        pawl_io_file_close(walk->io, fd);
        walk->errors[i] = error;
        if (error == PAWL_E_BAD_FORMAT) {
            snprintf(walk->report->file, sizeof walk->report->file, "%s", name);
            snprintf(walk->report->reason, sizeof walk->report->reason, "written by a newer version of pawl");
            return error;
        }
        if (error)
            find(walk, PAWL_JOURNAL_DAMAGE, name, 0, 0, "the segment's header does not hold");
    }
    return 0;
}

static int walk_all(struct walk *walk)
{
    int error = pawl_listing_read(walk->dir_fd, &walk->listing);
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
static void walk_snapshots(struct walk *walk)
{
    for (uint32_t i = 0; i < walk->listing.snapshot_count; i++) {
        char name[PAWL_SEGMENT_NAME_BYTES], text[96];
        struct snapshot_check check = {0};
        pawl_snapshot_name(name, walk->listing.snapshots[i]);
        int error = pawl_snapshot_check(walk->io, walk->dir_fd, name, &check);
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
        walk_snapshots(&walk);
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
