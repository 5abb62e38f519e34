/*
 * journal_frame.c - the memory of frames that are not durable yet, and the sealing of one.
 *
 * Runs in: the scheduler. Each frame is a mapping of its own, page-aligned for direct I/O, so that it grows
 * without a copy; a few are kept for use again. Performs no I/O.
 */
#include "scheduler/journal_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>

enum {
    FRAME_FIRST_BYTES = 64 << 10,
    SPARE_MAX = 8,
    SPARE_BYTES_MAX = 2 << 20,
    TRIM_BYTES = 64 << 10, /* less is not worth the system call */
    TRIM_RATIO = 4,        /* nor is it where frames of much the same size follow: they touch it again */
};

struct journal_frame *pawl_journal_new_frame(struct pawl_journal *journal)
{
    struct journal_frame *frame = journal->spare;
    if (frame) {
        journal->spare = frame->next;
        journal->spare_count--;
    } else {
        frame = calloc(1, sizeof *frame);
        if (!frame)
            return NULL;
        void *bytes =
            mmap(NULL, FRAME_FIRST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (bytes == MAP_FAILED) {
            free(frame);
            return NULL;
        }
        madvise(bytes, FRAME_FIRST_BYTES, MADV_DONTFORK); /* a fork amid direct I/O would split the pages */
        frame->bytes = bytes;
        frame->capacity = FRAME_FIRST_BYTES;
    }
    uint8_t *bytes = frame->bytes;
    size_t capacity = frame->capacity, touched = frame->touched;
    *frame =
        (struct journal_frame){.journal = journal, .bytes = bytes, .capacity = capacity, .touched = touched};
    return frame;
}

int pawl_journal_grow_frame(struct journal_frame *frame, size_t record_bytes)
{
    size_t need = pawl_frame_bytes(record_bytes);
    if (need <= frame->capacity)
        return 0;
    size_t capacity = frame->capacity;
    while (capacity < need)
        capacity *= 2;
    void *bytes = mremap(frame->bytes, frame->capacity, capacity, MREMAP_MAYMOVE);
    if (bytes == MAP_FAILED)
        return -ENOMEM;
    madvise(bytes, capacity, MADV_DONTFORK);
    frame->bytes = bytes;
    frame->capacity = capacity;
    return 0;
}

void pawl_journal_trim_frame(struct journal_frame *frame, size_t bytes)
{
    if (frame->touched < bytes)
        frame->touched = bytes;
    if (frame->touched - bytes >= TRIM_BYTES && frame->touched / TRIM_RATIO >= bytes &&
        madvise(frame->bytes + bytes, frame->capacity - bytes, MADV_DONTNEED) == 0)
        frame->touched = bytes;
}

void pawl_journal_free_frame(struct pawl_journal *journal, struct journal_frame *frame)
{
    if (journal->spare_count < SPARE_MAX && frame->capacity <= SPARE_BYTES_MAX) {
        frame->next = journal->spare;
        journal->spare = frame;
        journal->spare_count++;
        return;
    }
    munmap(frame->bytes, frame->capacity);
    free(frame);
}

void pawl_journal_seal_frame(struct pawl_journal *journal, struct journal_frame *frame,
                             const struct pawl_segment_header *segment)
{
    size_t bytes = pawl_frame_bytes(frame->record_bytes);
    size_t used = PAWL_FRAME_HEADER_BYTES + frame->record_bytes;
    memset(frame->bytes + used, 0, bytes - used);
    struct pawl_frame_header header = {
        .bytes = (uint32_t)bytes,
        .record_count = frame->record_count,
        .record_bytes = (uint32_t)frame->record_bytes,
        .flags = frame->flags,
        .first_lsn = frame->first_lsn,
        .durable_lsn = journal->durable_lsn,
        .nonce = segment->nonce,
        .byte_offset = frame->byte_offset,
    };
    struct pawl_now now;
    pawl_journal_now(journal, &now.realtime_ns, &now.boottime_ns);
    if (frame->written.boottime_ns == 0)
        frame->written = now; /* sealed once more elsewhere, its waits are no younger */
    header.realtime_ns = frame->written.realtime_ns;
    header.boottime_ns = frame->written.boottime_ns;
    pawl_frame_seal(frame->bytes, &header, segment);
    frame->checksum = header.checksum;
    frame->durable_lsn = header.durable_lsn;
    frame->submitted_at_ns = now.boottime_ns;
}

void pawl_journal_destroy_frames(struct journal_frame *frame)
{
    while (frame) {
        struct journal_frame *next = frame->next;
        munmap(frame->bytes, frame->capacity);
        free(frame);
        frame = next;
    }
}
