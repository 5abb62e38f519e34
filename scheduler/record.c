/*
 * record.c - the header of a record: pack, check, unpack. docs/journal-format.md, "Records".
 *
 * Runs in: the scheduler and offline readers. Performs no I/O.
 */
#include "scheduler/record.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* The format is little-endian and so are the machines that we build for. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "journal format");

void pawl_record_pack(uint8_t bytes[static PAWL_RECORD_HEADER_BYTES], const struct pawl_record *record)
{
    uint32_t length = PAWL_RECORD_HEADER_BYTES + record->body_bytes;
    memcpy(bytes, &length, 4);
    bytes[4] = record->type;
    bytes[5] = record->flags;
    memcpy(bytes + 6, &record->version, 2);
    memcpy(bytes + 8, &record->lsn, 8);
}

int pawl_record_unpack_header(const uint8_t bytes[static PAWL_RECORD_HEADER_BYTES],
                              struct pawl_record *record_out)
{
    uint32_t length;
    memcpy(&length, bytes, 4);
    record_out->type = bytes[4];
    record_out->flags = bytes[5];
    memcpy(&record_out->version, bytes + 6, 2);
    memcpy(&record_out->lsn, bytes + 8, 8);
    if (record_out->type == 0 || length < PAWL_RECORD_HEADER_BYTES ||
        length - PAWL_RECORD_HEADER_BYTES > PAWL_RECORD_BODY_BYTES_MAX)
        return -EINVAL;
    record_out->body_bytes = length - PAWL_RECORD_HEADER_BYTES;
    record_out->body = NULL;
    return 0;
}

size_t pawl_record_unpack(const uint8_t *bytes, size_t available, struct pawl_record *record_out)
{
    if (available < PAWL_RECORD_HEADER_BYTES || pawl_record_unpack_header(bytes, record_out) != 0)
        return 0;
    size_t taken = pawl_record_bytes(record_out->body_bytes);
    if (taken > available)
        return 0;
    record_out->body = bytes + PAWL_RECORD_HEADER_BYTES;
    return taken;
}
