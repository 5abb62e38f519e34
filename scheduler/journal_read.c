/*
 * journal_read.c - copying out of one record where it lies: in a frame in memory, or in a segment.
 *
 * Runs in: the scheduler. Believes a place only after the record's header there holds.
 */
#include "scheduler/journal_internal.h"

#include <errno.h>
#include <string.h>

#include <fcntl.h>

#include "shm/error.h"

int pawl_segment_read_fd(struct pawl_journal *journal, uint32_t number)
{
    struct journal_segment *segment = pawl_segment_find(journal, number);
    if (!segment)
        return -ENOENT;
    if (segment->read_fd < 0) {
        char name[PAWL_SEGMENT_NAME_BYTES];
        pawl_segment_name(name, number);
        segment->read_fd = pawl_io_file_open(journal->io, journal->dir_fd, name, O_RDONLY, 0);
    }
    return segment->read_fd;
}

/* @count bytes at @place: all of them or an error. */
static int fetch(struct pawl_journal *journal, uint64_t place, void *bytes, size_t count)
{
    uint32_t number = (uint32_t)(place >> 32);
    uint64_t at = place & UINT32_MAX;
    const struct journal_frame *frame = pawl_journal_frame_at(journal, place);
    if (frame) {
        uint64_t in_frame = at - frame->byte_offset;
        if (in_frame + count > PAWL_FRAME_HEADER_BYTES + frame->record_bytes)
            return PAWL_E_DAMAGED;
        memcpy(bytes, frame->bytes + in_frame, count);
        return 0;
    }
    int error = pawl_journal_cache_copy(journal, place, bytes, count);
    if (error != -ENOENT)
        return error;
    int fd = pawl_segment_read_fd(journal, number);
    if (fd < 0)
        return fd;
    size_t got = 0;
    while (got < count) {
        ssize_t more = pawl_io_file_read(journal->io, fd, (uint8_t *)bytes + got, count - got, at + got);
        if (more < 0)
            return (int)more;
        if (more == 0)
            return PAWL_E_DAMAGED;
        got += (size_t)more;
    }
    return 0;
}

int pawl_journal_record_at(struct pawl_journal *journal, uint64_t place, struct pawl_record *record_out)
{
    uint8_t header[PAWL_RECORD_HEADER_BYTES];
    place = pawl_journal_resolve(journal, place);
    if (place % PAWL_RECORD_ALIGN != 0 || (place & UINT32_MAX) < PAWL_SEGMENT_HEADER_BYTES)
        return PAWL_E_DAMAGED;
    pawl_journal_cache_turn_to(journal, place);
    int error = fetch(journal, place, header, sizeof header);
    if (error)
        return error;
    return pawl_record_unpack_header(header, record_out) == 0 ? 0 : PAWL_E_DAMAGED;
}

ssize_t pawl_journal_read(struct pawl_journal *journal, uint64_t place, uint64_t lsn, size_t offset_in_body,
                          void *bytes, size_t count)
{
    struct pawl_record record;
    int error = pawl_journal_record_at(journal, place, &record);
    if (error)
        return error;
    if (lsn != 0 && record.lsn != lsn)
        return PAWL_E_DAMAGED;
    if (offset_in_body >= record.body_bytes)
        return 0;
    if (count > record.body_bytes - offset_in_body)
        count = record.body_bytes - offset_in_body;
    uint64_t body = pawl_journal_resolve(journal, place) + PAWL_RECORD_HEADER_BYTES + offset_in_body;
    error = fetch(journal, body, bytes, count);
    return error ? error : (ssize_t)count;
}
