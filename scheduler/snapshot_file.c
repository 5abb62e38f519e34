/*
 * snapshot_file.c - snapshot.N: written a chunk at a time, read back before it counts, two kept.
 *
 * Runs in: the scheduler; the reading half also offline. Never decides what a chunk means. A snapshot that
 * fails is dropped; the journal goes on. docs/journal-format.md, "Snapshots".
 */
#include "scheduler/journal_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>

#include <xxhash.h>

#include "shm/error.h"

enum { CHUNK_BYTES_MAX = 1 << 20, CHUNK_MAGIC = 0x6b6e6863, FOOTER_MAGIC = 0x746f6f66 };
#define SNAPSHOT_MAGIC 0x70616e736c776170ull /* "pawlsnap" */

struct snapshot_header {
    uint64_t magic;
    uint32_t format;
    uint32_t header_bytes;
    uint8_t uuid[16];
    uint64_t number;
    uint64_t lsn;
    uint64_t realtime_ns;
    uint64_t checksum; /* of the bytes before it */
};
static_assert(sizeof(struct snapshot_header) == 64, "snapshot format");

struct snapshot_chunk { /* data follows, padded to 8 with zeros; the footer is one of 0 bytes */
    uint32_t magic;
    uint32_t bytes;
    uint64_t index;    /* of the footer: how many chunks there are */
    uint64_t checksum; /* of the data, seeded with index; of the footer: the chain */
};
static_assert(sizeof(struct snapshot_chunk) == 24, "snapshot format");

static size_t padded(size_t bytes)
{
    return (bytes + 7) & ~(size_t)7;
}

static uint64_t link_chain(uint64_t chain, uint64_t checksum)
{
    return XXH3_64bits_withSeed(&checksum, sizeof checksum, chain);
}

void pawl_snapshot_name(char name[static PAWL_SEGMENT_NAME_BYTES], uint64_t number)
{
    snprintf(name, PAWL_SEGMENT_NAME_BYTES, "snapshot.%llu", (unsigned long long)number);
}

/* Reading. */

static int read_exactly(struct pawl_io *io, int fd, void *bytes, size_t count, uint64_t byte_offset)
{
    size_t got = 0;
    while (got < count) {
        ssize_t more = pawl_io_file_read(io, fd, (uint8_t *)bytes + got, count - got, byte_offset + got);
        if (more < 0)
            return (int)more;
        if (more == 0)
            return PAWL_E_DAMAGED;
        got += (size_t)more;
    }
    return 0;
}

static int read_header(struct pawl_io *io, int fd, const uint8_t *uuid, struct snapshot_header *header_out)
{
    int error = read_exactly(io, fd, header_out, sizeof *header_out, 0);
    if (error)
        return error;
    if (header_out->magic != SNAPSHOT_MAGIC ||
        header_out->checksum != XXH3_64bits(header_out, offsetof(struct snapshot_header, checksum)))
        return PAWL_E_DAMAGED;
    if (header_out->format == 0 || header_out->format > PAWL_SNAPSHOT_FORMAT)
        return PAWL_E_BAD_FORMAT;
    return uuid && memcmp(uuid, header_out->uuid, 16) != 0 ? PAWL_E_DAMAGED : 0;
}

static int read_chunks(struct pawl_io *io, int fd, const struct snapshot_header *header, uint8_t *buffer,
                       struct snapshot_check *check)
{
    uint64_t chain = header->checksum, index = 0;
    for (check->byte_offset = sizeof *header;; index++) {
        struct snapshot_chunk chunk;
        check->reason = "the file ends before its footer";
        int error = read_exactly(io, fd, &chunk, sizeof chunk, check->byte_offset);
        if (error)
            return error;
        check->reason = "a chunk's header does not hold";
        if (chunk.index != index || chunk.bytes > CHUNK_BYTES_MAX)
            return PAWL_E_DAMAGED;
        if (chunk.magic == FOOTER_MAGIC && chunk.bytes == 0) {
            check->reason = chunk.checksum == chain ? NULL : "the footer's checksum differs";
            return check->reason ? PAWL_E_DAMAGED : 0;
        }
        if (chunk.magic != CHUNK_MAGIC)
            return PAWL_E_DAMAGED;
        check->reason = "a chunk's checksum differs";
        error = read_exactly(io, fd, buffer, padded(chunk.bytes), check->byte_offset + sizeof chunk);
        if (error)
            return error;
        if (XXH3_64bits_withSeed(buffer, chunk.bytes, index) != chunk.checksum)
            return PAWL_E_DAMAGED;
        chain = link_chain(chain, chunk.checksum);
        error = check->chunk ? check->chunk(check->ctx, header->lsn, buffer, chunk.bytes) : 0;
        if (error)
            return error;
        check->byte_offset += sizeof chunk + padded(chunk.bytes);
    }
}

int pawl_snapshot_check(struct pawl_io *io, int dir_fd, const char *name, struct snapshot_check *check)
{
    check->reason = "cannot be opened";
    check->byte_offset = 0;
    int fd = pawl_io_file_open(io, dir_fd, name, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* what the disk holds, not what we remember */
    struct snapshot_header header;
    int error = -ENOMEM;
    uint8_t *buffer = malloc(CHUNK_BYTES_MAX);
    if (!buffer)
        goto close_fd;
    check->reason = "its header does not hold";
    error = read_header(io, fd, check->uuid, &header);
    if (error == 0) {
        check->lsn = header.lsn;
        error = read_chunks(io, fd, &header, buffer, check);
    }
    free(buffer);
close_fd:
    pawl_io_file_close(io, fd);
    return error;
}

int pawl_snapshot_peek(struct pawl_io *io, int dir_fd, const char *name, const uint8_t *uuid,
                       uint64_t *lsn_out)
{
    int fd = pawl_io_file_open(io, dir_fd, name, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    struct snapshot_header header;
    int error = read_header(io, fd, uuid, &header);
    if (error == 0)
        *lsn_out = header.lsn;
    pawl_io_file_close(io, fd);
    return error;
}

/* Writing. */

static void drop(struct pawl_journal *journal, const char *name)
{
    if (journal->room == PAWL_JOURNAL_ROOMY)
        pawl_io_file_unlink(journal->io, journal->dir_fd, name);
    else
        pawl_journal_retire(journal, name);
}

static void end_writing(struct pawl_journal *journal, int error)
{
    struct snapshot_writer *writer = &journal->snapshot;
    uint64_t lsn = writer->lsn;
    if (writer->fd >= 0)
        pawl_io_file_close(journal->io, writer->fd);
    free(writer->buffer);
    *writer = (struct snapshot_writer){.fd = -1};
    if (error)
        drop(journal, "snapshot.new");
    if (journal->options.on_snapshot)
        journal->options.on_snapshot(journal->options.ctx, lsn, error);
}

/* The file is synced: read it back, give it its name, say so in the journal, drop the third oldest. */
static int adopt(struct pawl_journal *journal)
{
    struct snapshot_writer *writer = &journal->snapshot;
    struct snapshot_check check = {.uuid = journal->uuid};
    char name[PAWL_SEGMENT_NAME_BYTES];
    int error = pawl_snapshot_check(journal->io, journal->dir_fd, "snapshot.new", &check);
    if (error)
        return error;
    pawl_snapshot_name(name, writer->number);
    error = pawl_io_file_rename(journal->io, journal->dir_fd, "snapshot.new", name);
    if (error == 0)
        error = pawl_io_file_sync(journal->io, journal->lock_fd);
    if (error)
        return error;
    if (journal->snapshot_count == 2) {
        pawl_snapshot_name(name, journal->snapshots[1].number);
        drop(journal, name);
        pawl_journal_refill_reserve(journal);
    }
    journal->snapshots[1] = journal->snapshots[0];
    journal->snapshots[0] = (struct snapshot_entry){.number = writer->number, .lsn = writer->lsn};
    journal->snapshot_count += journal->snapshot_count < 2;
    journal->bytes_at_snapshot = journal->appended_bytes;
    journal->stats.snapshot_bytes = journal->newest_snapshot_bytes = writer->byte_offset;
    uint64_t body[2] = {writer->number, writer->lsn};
    return pawl_journal_append_own(journal, PAWL_RECORD_SNAPSHOT, body, sizeof body, 0);
}

static int write_buffer(struct pawl_journal *journal)
{
    struct snapshot_writer *writer = &journal->snapshot;
    uint64_t at = writer->byte_offset;
    writer->byte_offset += writer->buffer_bytes;
    return pawl_io_write(journal->io, &writer->request, writer->fd, writer->buffer, writer->buffer_bytes, at);
}

static void put(struct snapshot_writer *writer, const void *bytes, size_t count)
{
    if (count > 0)
        memcpy(writer->buffer + writer->buffer_bytes, bytes, count);
    size_t zeros = padded(count) - count;
    memset(writer->buffer + writer->buffer_bytes + count, 0, zeros);
    writer->buffer_bytes += count + zeros;
}

static int write_footer(struct pawl_journal *journal)
{
    struct snapshot_writer *writer = &journal->snapshot;
    struct snapshot_chunk footer = {
        .magic = FOOTER_MAGIC, .index = writer->chunk_count, .checksum = writer->chain};
    put(writer, &footer, sizeof footer);
    return write_buffer(journal);
}

void pawl_snapshot_step(struct pawl_journal *journal)
{
    struct snapshot_writer *writer = &journal->snapshot;
    if (writer->state <= SNAPSHOT_OPEN || pawl_io_active(&writer->request))
        return;
    int error = writer->error ? writer->error : journal->failed;
    if (error == 0 && writer->state == SNAPSHOT_FINISHING) {
        writer->state = SNAPSHOT_SYNCING;
        error = write_footer(journal);
    } else if (error == 0 && writer->state == SNAPSHOT_SYNCING) {
        if (journal->durable_lsn < writer->lsn)
            return; /* comes again when more is durable */
        writer->state = SNAPSHOT_SYNCED;
        error = pawl_io_fsync(journal->io, &writer->request, writer->fd, false);
    } else if (error == 0) {
        error = adopt(journal);
        end_writing(journal, error);
        return;
    }
    if (error)
        end_writing(journal, error);
}

static void on_written(struct pawl_io_request *request, int32_t result)
{
    struct pawl_journal *journal = request->ctx;
    struct snapshot_writer *writer = &journal->snapshot;
    if (writer->state == SNAPSHOT_NONE) { /* aborted while this was in flight */
        pawl_io_file_close(journal->io, writer->fd);
        free(writer->buffer);
        *writer = (struct snapshot_writer){.fd = -1};
        return;
    }
    if (result < 0)
        writer->error = result;
    else if (writer->state != SNAPSHOT_SYNCED && (size_t)result != writer->buffer_bytes)
        writer->error = -ENOSPC;
    writer->buffer_bytes = 0;
    pawl_snapshot_step(journal);
}

int pawl_journal_snapshot_begin(struct pawl_journal *journal, uint64_t lsn)
{
    struct snapshot_writer *writer = &journal->snapshot;
    if (writer->state != SNAPSHOT_NONE || pawl_io_active(&writer->request))
        return PAWL_E_STATE;
    if (lsn == 0 || lsn >= journal->next_lsn)
        return -EINVAL;
    if (journal->snapshot_count && lsn < journal->snapshots[0].lsn)
        return -EINVAL;
    *writer = (struct snapshot_writer){.fd = -1, .lsn = lsn, .number = ++journal->snapshot_number};
    writer->request.done = on_written;
    writer->request.ctx = journal;
    writer->buffer =
        malloc(sizeof(struct snapshot_header) + 2 * sizeof(struct snapshot_chunk) + CHUNK_BYTES_MAX + 8);
    if (!writer->buffer)
        return -ENOMEM;
    /* On a full disk a snapshot is what frees space: it is written over some that nobody else can take. Its
     * file stays as long as it was, to be one of the reserve again. */
    bool from_reserve =
        journal->room != PAWL_JOURNAL_ROOMY && pawl_journal_take_reserve(journal, "snapshot.new") == 0;
    writer->fd = pawl_io_file_open(journal->io, journal->dir_fd, "snapshot.new",
                                   O_RDWR | O_CREAT | (from_reserve ? 0 : O_TRUNC), 0600);
    if (writer->fd < 0) {
        int error = writer->fd;
        free(writer->buffer);
        *writer = (struct snapshot_writer){.fd = -1};
        return error;
    }
    uint64_t boottime_ns;
    struct snapshot_header header = {.magic = SNAPSHOT_MAGIC,
                                     .format = PAWL_SNAPSHOT_FORMAT,
                                     .header_bytes = sizeof header,
                                     .number = writer->number,
                                     .lsn = lsn};
    memcpy(header.uuid, journal->uuid, sizeof header.uuid);
    pawl_journal_now(journal, &header.realtime_ns, &boottime_ns);
    header.checksum = XXH3_64bits(&header, offsetof(struct snapshot_header, checksum));
    writer->chain = header.checksum;
    put(writer, &header, sizeof header);
    writer->state = SNAPSHOT_OPEN;
    if (lsn + 1 == journal->next_lsn)
        pawl_journal_end_segment(journal);
    return 0;
}

int pawl_journal_snapshot_append(struct pawl_journal *journal, const void *chunk, size_t bytes)
{
    struct snapshot_writer *writer = &journal->snapshot;
    if (writer->state != SNAPSHOT_OPEN)
        return PAWL_E_STATE;
    if (writer->error)
        return writer->error;
    if (pawl_io_active(&writer->request))
        return -EAGAIN;
    if (bytes == 0 || bytes > CHUNK_BYTES_MAX)
        return -EMSGSIZE;
    struct snapshot_chunk header = {
        .magic = CHUNK_MAGIC, .bytes = (uint32_t)bytes, .index = writer->chunk_count};
    header.checksum = XXH3_64bits_withSeed(chunk, bytes, header.index);
    writer->chain = link_chain(writer->chain, header.checksum);
    writer->chunk_count++;
    put(writer, &header, sizeof header);
    put(writer, chunk, bytes);
    return write_buffer(journal);
}

int pawl_journal_snapshot_commit(struct pawl_journal *journal)
{
    if (journal->snapshot.state != SNAPSHOT_OPEN)
        return PAWL_E_STATE;
    journal->snapshot.state = SNAPSHOT_FINISHING;
    pawl_journal_flush(journal);
    pawl_snapshot_step(journal);
    return 0;
}

/* What is in flight keeps its buffer and descriptor until it comes back. */
void pawl_journal_snapshot_abort(struct pawl_journal *journal)
{
    struct snapshot_writer *writer = &journal->snapshot;
    if (writer->state == SNAPSHOT_NONE)
        return;
    writer->state = SNAPSHOT_NONE;
    if (pawl_io_active(&writer->request)) { /* it may still write there: nobody else's file */
        pawl_io_file_unlink(journal->io, journal->dir_fd, "snapshot.new");
        return;
    }
    drop(journal, "snapshot.new");
    if (writer->fd >= 0)
        pawl_io_file_close(journal->io, writer->fd);
    free(writer->buffer);
    *writer = (struct snapshot_writer){.fd = -1};
}
