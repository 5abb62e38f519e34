/*
 * frame.c - a segment's header and its frames: pack, unpack, check. docs/journal-format.md has the tables.
 *
 * Runs in: the scheduler and offline readers. Performs no I/O. Trusts no byte that it reads: sizes are
 * bounded before they are used.
 */
#include "scheduler/frame.h"

#include <assert.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY /* the streaming state's size: it lies on the stack */
#include <xxhash.h>

#include "scheduler/journal.h"
#include "scheduler/record.h"
#include "shm/error.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "journal format");
static_assert(PAWL_SEGMENT_SECRET_BYTES >= XXH3_SECRET_SIZE_MIN, "journal format");

/* "Segment header" in docs/journal-format.md */
struct segment_block {
    uint64_t magic;
    uint32_t format;
    uint32_t header_bytes;
    uint8_t uuid[16];
    uint32_t number;
    uint32_t previous;
    uint64_t base_lsn;
    uint64_t nonce;
    uint64_t previous_end;
    uint64_t previous_checksum;
    uint64_t realtime_ns;
    uint8_t boot_id[16];
    uint8_t secret[PAWL_SEGMENT_SECRET_BYTES];
    uint8_t zeros[PAWL_SEGMENT_HEADER_BYTES - 296];
    uint64_t checksum;
};
static_assert(offsetof(struct segment_block, uuid) == 16, "journal format");
static_assert(offsetof(struct segment_block, base_lsn) == 40, "journal format");
static_assert(offsetof(struct segment_block, secret) == 96, "journal format");
static_assert(offsetof(struct segment_block, zeros) == 288, "journal format");
static_assert(sizeof(struct segment_block) == PAWL_SEGMENT_HEADER_BYTES, "journal format");

/* "Frame header" in docs/journal-format.md */
struct frame_block {
    uint32_t magic;
    uint32_t bytes;
    uint32_t record_count;
    uint32_t record_bytes;
    uint64_t first_lsn;
    uint64_t durable_lsn;
    uint64_t nonce;
    uint64_t byte_offset;
    uint64_t realtime_ns;
    uint64_t boottime_ns;
    uint32_t flags;
    uint32_t zero;
    uint64_t checksum; /* of the whole frame with this field zero, keyed by the segment's secret */
};
static_assert(sizeof(struct frame_block) == PAWL_FRAME_HEADER_BYTES, "journal format");
static_assert(offsetof(struct frame_block, checksum) == 72, "journal format");

uint64_t pawl_segment_pack(uint8_t bytes[static PAWL_SEGMENT_HEADER_BYTES],
                           const struct pawl_segment_header *header)
{
    struct segment_block block = {
        .magic = PAWL_SEGMENT_MAGIC,
        .format = header->format,
        .header_bytes = PAWL_SEGMENT_HEADER_BYTES,
        .number = header->number,
        .previous = header->previous,
        .base_lsn = header->base_lsn,
        .nonce = header->nonce,
        .previous_end = header->previous_end,
        .previous_checksum = header->previous_checksum,
        .realtime_ns = header->realtime_ns,
    };
    memcpy(block.uuid, header->uuid, sizeof block.uuid);
    memcpy(block.boot_id, header->boot_id, sizeof block.boot_id);
    memcpy(block.secret, header->secret, sizeof block.secret);
    block.checksum = XXH3_64bits(&block, offsetof(struct segment_block, checksum));
    memcpy(bytes, &block, sizeof block);
    return block.checksum;
}

int pawl_segment_unpack(const uint8_t bytes[static PAWL_SEGMENT_HEADER_BYTES],
                        struct pawl_segment_header *header_out, uint64_t *checksum_out)
{
    struct segment_block block;
    memcpy(&block, bytes, sizeof block);
    if (block.magic != PAWL_SEGMENT_MAGIC ||
        block.checksum != XXH3_64bits(&block, offsetof(struct segment_block, checksum)))
        return PAWL_E_DAMAGED;
    /* Every format keeps the magic, the format field and the checksum where they are. */
    if (block.format != PAWL_JOURNAL_FORMAT)
        return PAWL_E_BAD_FORMAT;
    if (block.header_bytes != PAWL_SEGMENT_HEADER_BYTES || block.number == 0 || block.base_lsn == 0)
        return PAWL_E_DAMAGED;
    *header_out = (struct pawl_segment_header){
        .format = block.format,
        .number = block.number,
        .previous = block.previous,
        .base_lsn = block.base_lsn,
        .nonce = block.nonce,
        .previous_end = block.previous_end,
        .previous_checksum = block.previous_checksum,
        .realtime_ns = block.realtime_ns,
    };
    memcpy(header_out->uuid, block.uuid, sizeof block.uuid);
    memcpy(header_out->boot_id, block.boot_id, sizeof block.boot_id);
    memcpy(header_out->secret, block.secret, sizeof block.secret);
    *checksum_out = block.checksum;
    return 0;
}

void pawl_frame_seal(uint8_t *bytes, struct pawl_frame_header *header,
                     const struct pawl_segment_header *segment)
{
    struct frame_block block = {
        .magic = PAWL_FRAME_MAGIC,
        .bytes = header->bytes,
        .record_count = header->record_count,
        .record_bytes = header->record_bytes,
        .first_lsn = header->first_lsn,
        .durable_lsn = header->durable_lsn,
        .nonce = header->nonce,
        .byte_offset = header->byte_offset,
        .realtime_ns = header->realtime_ns,
        .boottime_ns = header->boottime_ns,
        .flags = header->flags,
    };
    memcpy(bytes, &block, sizeof block);
    header->checksum =
        XXH3_64bits_withSecret(bytes, header->bytes, segment->secret, PAWL_SEGMENT_SECRET_BYTES);
    memcpy(bytes + offsetof(struct frame_block, checksum), &header->checksum, sizeof header->checksum);
}

bool pawl_frame_unpack(const uint8_t bytes[static PAWL_FRAME_HEADER_BYTES], uint64_t byte_offset,
                       const struct pawl_segment_header *segment, struct pawl_frame_header *header_out)
{
    struct frame_block block;
    memcpy(&block, bytes, sizeof block);
    if (block.magic != PAWL_FRAME_MAGIC || block.nonce != segment->nonce || block.byte_offset != byte_offset)
        return false;
    if (block.bytes > PAWL_FRAME_BYTES_MAX || block.record_bytes > PAWL_FRAME_BYTES_MAX ||
        block.record_bytes % PAWL_RECORD_ALIGN != 0 || block.bytes != pawl_frame_bytes(block.record_bytes))
        return false;
    if (block.record_count == 0 || block.record_count > block.record_bytes / PAWL_RECORD_HEADER_BYTES ||
        block.first_lsn < segment->base_lsn || block.durable_lsn >= block.first_lsn)
        return false;
    *header_out = (struct pawl_frame_header){
        .bytes = block.bytes,
        .record_count = block.record_count,
        .record_bytes = block.record_bytes,
        .flags = block.flags,
        .first_lsn = block.first_lsn,
        .durable_lsn = block.durable_lsn,
        .nonce = block.nonce,
        .byte_offset = block.byte_offset,
        .realtime_ns = block.realtime_ns,
        .boottime_ns = block.boottime_ns,
        .checksum = block.checksum,
    };
    return true;
}

/* The checksum field counts as zero. Hashing in pieces leaves the caller's bytes untouched. */
static uint64_t checksum_of(const uint8_t *bytes, uint32_t count, const uint8_t *secret)
{
    static const uint8_t zeros[8];
    XXH3_state_t state;
    XXH3_64bits_reset_withSecret(&state, secret, PAWL_SEGMENT_SECRET_BYTES);
    XXH3_64bits_update(&state, bytes, offsetof(struct frame_block, checksum));
    XXH3_64bits_update(&state, zeros, sizeof zeros);
    XXH3_64bits_update(&state, bytes + sizeof(struct frame_block), count - sizeof(struct frame_block));
    return XXH3_64bits_digest(&state);
}

const char *pawl_frame_check(const uint8_t *bytes, const struct pawl_frame_header *header,
                             const struct pawl_segment_header *segment)
{
    if (checksum_of(bytes, header->bytes, segment->secret) != header->checksum)
        return "checksum differs";
    const uint8_t *at = bytes + PAWL_FRAME_HEADER_BYTES;
    size_t left = header->record_bytes;
    for (uint32_t i = 0; i < header->record_count; i++) {
        struct pawl_record record;
        size_t taken = pawl_record_unpack(at, left, &record);
        if (taken == 0)
            return "a record's length or type does not hold";
        if (record.lsn != header->first_lsn + i)
            return "a record's lsn is not its predecessor's plus one";
        at += taken;
        left -= taken;
    }
    return left == 0 ? NULL : "the frame holds bytes that belong to no record";
}
