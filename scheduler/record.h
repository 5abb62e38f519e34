/*
 * record.h - how one record lies in a journal frame: a 16-byte header, a body, zeros up to a multiple of 8.
 *
 *   0  u32 length    16 + body bytes, without the padding; never below 16
 *   4  u8  type      never 0
 *   5  u8  flags     of that type's body
 *   6  u16 version   of that type's body
 *   8  u64 lsn       dense: each record's is its predecessor's + 1; the first of a journal is 1
 *  16      body
 *
 * What bodies mean is their author's business. Types from PAWL_RECORD_JOURNAL_FIRST up are the journal's own
 * and are never handed to apply().
 */
#ifndef PAWL_SCHEDULER_RECORD_H
#define PAWL_SCHEDULER_RECORD_H

#include <stddef.h>
#include <stdint.h>

enum {
    PAWL_RECORD_HEADER_BYTES = 16,
    PAWL_RECORD_ALIGN = 8,
    PAWL_RECORD_BODY_BYTES_MAX = 128 << 20, /* a run: its plan, and the environment that it was begun in */

    PAWL_RECORD_JOURNAL_FIRST = 240,
    PAWL_RECORD_WATERMARK = 240, /* pawl_watermark_body: nothing happened; vouches for what went before */
    PAWL_RECORD_SNAPSHOT = 241,  /* pawl_snapshot_body: a snapshot file became good */
};

/* One record as it is read. body points into the reader's buffer and is valid during the call only. */
struct pawl_record {
    uint64_t lsn;
    uint8_t type;
    uint8_t flags;
    uint16_t version;
    uint32_t body_bytes;
    const void *body;
};

/* bytes of a record with this body, padding included */
static inline size_t pawl_record_bytes(size_t body_bytes)
{
    return (PAWL_RECORD_HEADER_BYTES + body_bytes + PAWL_RECORD_ALIGN - 1) & ~(size_t)(PAWL_RECORD_ALIGN - 1);
}

/* pawl_record_pack - writes the header; @record->body is not looked at. */
void pawl_record_pack(uint8_t bytes[static PAWL_RECORD_HEADER_BYTES], const struct pawl_record *record);

/**
 * pawl_record_unpack - check and read the record at the start of @bytes
 * @available: bytes up to the end of the frame's records
 * @record_out: body points into @bytes
 *
 * Return: bytes that the record takes, padding included; 0 if it does not hold (type 0, a length below 16,
 * beyond @available or above the maximum).
 */
size_t pawl_record_unpack(const uint8_t *bytes, size_t available, struct pawl_record *record_out);

/* pawl_record_unpack_header - the same without a body at hand; -EINVAL if it does not hold. */
int pawl_record_unpack_header(const uint8_t bytes[static PAWL_RECORD_HEADER_BYTES],
                              struct pawl_record *record_out);

#endif
