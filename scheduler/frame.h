/*
 * frame.h - the bytes of the journal: a segment's header, and the frames that follow it.
 *
 * Runs in: the scheduler and offline readers. Pack, unpack and check only; performs no I/O.
 * Tables of byte offsets: docs/journal-format.md.
 */
#ifndef PAWL_SCHEDULER_FRAME_H
#define PAWL_SCHEDULER_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PAWL_BLOCK_BYTES = 4096, /* everything in a segment begins and ends on a multiple of it */
    PAWL_SEGMENT_HEADER_BYTES = 4096,
    PAWL_SEGMENT_SECRET_BYTES = 192,
    PAWL_FRAME_HEADER_BYTES = 80,
    PAWL_FRAME_BYTES_MAX = 142 << 20,
    PAWL_FRAME_MAGIC = 0x666c7770, /* "pwlf" */
    PAWL_FRAME_CLOSING = 1,        /* flags: the owner closed the journal with this frame */
};

#define PAWL_SEGMENT_MAGIC 0x316765736c776170ull /* "pawlseg1" */

/* A segment's header as it is in memory. */
struct pawl_segment_header {
    uint32_t format;
    uint8_t uuid[16];           /* of the journal */
    uint32_t number;            /* of this segment; as in its name */
    uint32_t previous;          /* number of the segment before; 0: this is the first */
    uint64_t base_lsn;          /* the first record here has it */
    uint64_t nonce;             /* of all its frames */
    uint64_t previous_end;      /* where the one before ends: what lies there and beyond never happened */
    uint64_t previous_checksum; /* of its last frame; of its header if it has none */
    uint64_t realtime_ns;
    uint8_t boot_id[16];
    uint8_t secret[PAWL_SEGMENT_SECRET_BYTES]; /* keys the frames' checksums */
};

struct pawl_frame_header {
    uint32_t bytes;        /* of the whole frame: header, records, zeros; a multiple of 4096 */
    uint32_t record_count; /* at least 1 */
    uint32_t record_bytes; /* padding between records included */
    uint32_t flags;
    uint64_t first_lsn;
    uint64_t durable_lsn; /* already durable when this frame was made: what it vouches for */
    uint64_t nonce;
    uint64_t byte_offset; /* where in the segment it belongs */
    uint64_t realtime_ns;
    uint64_t boottime_ns;
    uint64_t checksum;
};

static inline uint64_t pawl_frame_bytes(uint64_t record_bytes)
{
    return (PAWL_FRAME_HEADER_BYTES + record_bytes + PAWL_BLOCK_BYTES - 1) &
           ~(uint64_t)(PAWL_BLOCK_BYTES - 1);
}

/* pawl_segment_pack - the whole first block, checksum included. Return: the checksum. */
uint64_t pawl_segment_pack(uint8_t bytes[static PAWL_SEGMENT_HEADER_BYTES],
                           const struct pawl_segment_header *header);

/**
 * pawl_segment_unpack - check and read a segment's first block
 * Return: 0; PAWL_E_BAD_FORMAT (a good header of a newer format); PAWL_E_DAMAGED.
 */
int pawl_segment_unpack(const uint8_t bytes[static PAWL_SEGMENT_HEADER_BYTES],
                        struct pawl_segment_header *header_out, uint64_t *checksum_out);

/* pawl_frame_seal - write the header of the frame at @bytes, whose records and zeros are in place. Sets
 * header->checksum. */
void pawl_frame_seal(uint8_t *bytes, struct pawl_frame_header *header,
                     const struct pawl_segment_header *segment);

/* pawl_frame_unpack - the header's fields if they hold together for this segment and place (magic, sizes,
 * nonce); the checksum is not looked at. */
bool pawl_frame_unpack(const uint8_t bytes[static PAWL_FRAME_HEADER_BYTES], uint64_t byte_offset,
                       const struct pawl_segment_header *segment, struct pawl_frame_header *header_out);

/* pawl_frame_check - is the whole frame at @bytes (header->bytes of them) what was written: checksum, every
 * record, dense lsns from first_lsn on. NULL, or what does not hold. */
const char *pawl_frame_check(const uint8_t *bytes, const struct pawl_frame_header *header,
                             const struct pawl_segment_header *segment);

#endif
