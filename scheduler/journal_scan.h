/*
 * journal_scan.h - reading a directory of the journal and the frames of a segment, without believing them.
 *
 * Runs in: the scheduler's recovery, and offline readers. Writes nothing.
 */
#ifndef PAWL_SCHEDULER_JOURNAL_SCAN_H
#define PAWL_SCHEDULER_JOURNAL_SCAN_H

#include <errno.h>
#include <stdbool.h>

#include "scheduler/frame.h"
#include "scheduler/io.h"
#include "scheduler/journal.h"
#include "shm/error.h"

/* The disk changed its bytes, or does not give them. Any other error (no memory, no descriptor) says nothing
 * of them: they may be good, and confirmed. */
static inline bool pawl_is_damage(int error)
{
    return error == PAWL_E_DAMAGED || error == -EIO;
}

/* What lies in the directory, each list in rising order. */
struct pawl_listing {
    uint32_t *segments;
    uint64_t *snapshots;
    uint32_t *recycled;
    uint32_t segment_count;
    uint32_t snapshot_count;
    uint32_t recycled_count;
    uint32_t reserve_mask;
    bool new_segment; /* segment.new: left by a crash */
    bool new_snapshot;
    uint32_t unknown_count;
    char unknown[64]; /* one of them */
};

int pawl_listing_read(int dir_fd, struct pawl_listing *listing_out);
void pawl_listing_free(struct pawl_listing *listing);

/* Frames of one segment through a window of memory. */
struct pawl_scan {
    struct pawl_io *io;
    int fd; /* not owned */
    const struct pawl_segment_header *segment;
    uint8_t *buffer;
    size_t capacity;
    uint64_t buffer_byte_offset;
    size_t buffer_bytes;
    bool at_end; /* the window reaches the end of the file */
    int error;   /* of the last frame's read: nothing is known of the frame then, it may be a good one */
};

void pawl_scan_init(struct pawl_scan *scan, struct pawl_io *io, int fd,
                    const struct pawl_segment_header *segment);
void pawl_scan_fini(struct pawl_scan *scan);

/* pawl_scan_forget - the next read is from the file, not from memory */
void pawl_scan_forget(struct pawl_scan *scan);

/**
 * pawl_scan_header - read and check a segment's first block
 * Return: 0; PAWL_E_BAD_FORMAT; PAWL_E_DAMAGED (also a short file or another number than @number); -errno.
 */
int pawl_scan_header(struct pawl_io *io, int fd, uint32_t number, struct pawl_segment_header *header_out,
                     uint64_t *checksum_out);

/**
 * pawl_scan_frame - the frame at @byte_offset
 * @lsn: that its first record must have; 0: any
 * @bytes_out: valid until the next call
 *
 * Return: NULL if it holds, else what does not; a read error reads as such text, and stands in scan->error.
 */
const char *pawl_scan_frame(struct pawl_scan *scan, uint64_t byte_offset, uint64_t lsn,
                            struct pawl_frame_header *header_out, const uint8_t **bytes_out);

/* What lies behind the first frame that does not hold. */
struct pawl_scan_rest {
    uint64_t bytes; /* up to the end of the file */
    bool ours;      /* something of this segment's nonce lies there */
    bool vouched;   /* a later good frame says that @lsn was durable */
    uint64_t voucher_byte_offset;
};

/* pawl_scan_rest_of - looks on at every block from @byte_offset. 0 or -errno (nothing is known then). */
int pawl_scan_rest_of(struct pawl_scan *scan, uint64_t byte_offset, uint64_t lsn,
                      struct pawl_scan_rest *rest_out);

#endif
