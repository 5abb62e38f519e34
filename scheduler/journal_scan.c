/*
 * journal_scan.c - reading a directory of the journal and the frames of a segment, without believing them.
 *
 * Runs in: the scheduler's recovery, and offline readers. Writes nothing.
 */
#include "scheduler/journal_scan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "shm/error.h"

enum { WINDOW_BYTES = 1 << 20, UNREADABLE_MAX = 1 << 14 };

/* "00000012.seg" with suffix ".seg", "snapshot.3" with prefix "snapshot.": the number, or 0. */
static uint64_t number_in(const char *name, const char *prefix, const char *suffix)
{
    size_t prefix_bytes = strlen(prefix);
    if (strncmp(name, prefix, prefix_bytes) != 0)
        return 0;
    const char *digits = name + prefix_bytes;
    size_t count = strspn(digits, "0123456789");
    if (count == 0 || count > 18 || strcmp(digits + count, suffix) != 0)
        return 0;
    return strtoull(digits, NULL, 10);
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int add_u32(uint32_t **list, uint32_t *count, uint64_t value)
{
    if (value == 0 || value > UINT32_MAX)
        return -EINVAL;
    if ((*count & (*count - 1)) == 0) {
        uint32_t *grown = realloc(*list, (*count ? *count * 2u : 1u) * sizeof **list);
        if (!grown)
            return -ENOMEM;
        *list = grown;
    }
    (*list)[(*count)++] = (uint32_t)value;
    return 0;
}

static int add_u64(uint64_t **list, uint32_t *count, uint64_t value)
{
    if ((*count & (*count - 1)) == 0) {
        uint64_t *grown = realloc(*list, (*count ? *count * 2u : 1u) * sizeof **list);
        if (!grown)
            return -ENOMEM;
        *list = grown;
    }
    (*list)[(*count)++] = value;
    return 0;
}

static int sort_name(struct pawl_listing *listing, const char *name)
{
    uint64_t number;
    if ((number = number_in(name, "", ".seg")) > 0 && number <= UINT32_MAX)
        return add_u32(&listing->segments, &listing->segment_count, number);
    if ((number = number_in(name, "snapshot.", "")) > 0)
        return add_u64(&listing->snapshots, &listing->snapshot_count, number);
    if ((number = number_in(name, "recycled.", "")) > 0 && number <= UINT32_MAX)
        return add_u32(&listing->recycled, &listing->recycled_count, number);
    if ((number = number_in(name, "reserve.", "")) > 0 && number <= PAWL_JOURNAL_RESERVE_FILES) {
        listing->reserve_mask |= 1u << (number - 1);
    } else if (strcmp(name, "segment.new") == 0) {
        listing->new_segment = true;
    } else if (strcmp(name, "snapshot.new") == 0) {
        listing->new_snapshot = true;
    } else {
        listing->unknown_count++;
        snprintf(listing->unknown, sizeof listing->unknown, "%.63s", name);
    }
    return 0;
}

int pawl_listing_read(int dir_fd, struct pawl_listing *listing_out)
{
    *listing_out = (struct pawl_listing){0};
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int error = -errno;
        close(fd);
        return error;
    }
    int error = 0;
    for (struct dirent *entry; error == 0 && (errno = 0, entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            error = sort_name(listing_out, entry->d_name);
    }
    if (error == 0 && errno)
        error = -errno;
    closedir(dir);
    if (error) {
        pawl_listing_free(listing_out);
        return error;
    }
    if (listing_out->segment_count)
        qsort(listing_out->segments, listing_out->segment_count, sizeof *listing_out->segments, compare_u32);
    if (listing_out->snapshot_count)
        qsort(listing_out->snapshots, listing_out->snapshot_count, sizeof *listing_out->snapshots,
              compare_u64);
    return 0;
}

void pawl_listing_free(struct pawl_listing *listing)
{
    free(listing->segments);
    free(listing->snapshots);
    free(listing->recycled);
    *listing = (struct pawl_listing){0};
}

void pawl_scan_init(struct pawl_scan *scan, struct pawl_io *io, int fd,
                    const struct pawl_segment_header *segment)
{
    *scan = (struct pawl_scan){.io = io, .fd = fd, .segment = segment};
}

void pawl_scan_fini(struct pawl_scan *scan)
{
    free(scan->buffer);
    scan->buffer = NULL;
}

void pawl_scan_forget(struct pawl_scan *scan)
{
    posix_fadvise(scan->fd, 0, 0, POSIX_FADV_DONTNEED); /* its owner may write past the kernel's memory */
    scan->buffer_bytes = 0;
    scan->buffer_byte_offset = 0;
    scan->at_end = false;
}

/* Reads until @count bytes or the end of the file. Block-aligned, so that it works on an O_DIRECT descriptor.
 * Return: 0, or why it ended before that; the @got_out bytes that stand before a bad block are still good. */
static int read_fully(struct pawl_io *io, int fd, uint8_t *bytes, size_t count, uint64_t byte_offset,
                      size_t *got_out, bool *at_end_out)
{
    *got_out = 0;
    *at_end_out = false;
    while (*got_out < count && !*at_end_out) {
        ssize_t more = pawl_io_file_read(io, fd, bytes + *got_out, count - *got_out, byte_offset + *got_out);
        if (more < 0)
            return (int)more;
        *got_out += (size_t)more;
        *at_end_out = more == 0 || more % PAWL_BLOCK_BYTES != 0;
    }
    return 0;
}

int pawl_scan_header(struct pawl_io *io, int fd, uint32_t number, struct pawl_segment_header *header_out,
                     uint64_t *checksum_out)
{
    uint8_t *block = aligned_alloc(PAWL_BLOCK_BYTES, PAWL_SEGMENT_HEADER_BYTES);
    if (!block)
        return -ENOMEM;
    bool at_end;
    size_t got;
    int error = read_fully(io, fd, block, PAWL_SEGMENT_HEADER_BYTES, 0, &got, &at_end);
    if (error == 0 && got != PAWL_SEGMENT_HEADER_BYTES)
        error = PAWL_E_DAMAGED;
    if (error == 0)
        error = pawl_segment_unpack(block, header_out, checksum_out);
    if (error == 0 && header_out->number != number)
        error = PAWL_E_DAMAGED;
    free(block);
    return error;
}

/* Makes @count bytes at @byte_offset (a block's start) stand in the window, or as many as the file has; what
 * the file has and the disk does not give is an error. */
static int load(struct pawl_scan *scan, uint64_t byte_offset, size_t count)
{
    uint64_t window_end = scan->buffer_byte_offset + scan->buffer_bytes;
    if (scan->buffer && byte_offset >= scan->buffer_byte_offset &&
        (byte_offset + count <= window_end || (scan->at_end && byte_offset <= window_end)))
        return 0;
    size_t want = count > WINDOW_BYTES ? count : WINDOW_BYTES;
    if (scan->capacity < want) {
        free(scan->buffer);
        scan->buffer = aligned_alloc(PAWL_BLOCK_BYTES, want);
        scan->capacity = scan->buffer ? want : 0;
        if (!scan->buffer)
            return -ENOMEM;
    }
    scan->buffer_byte_offset = byte_offset;
    int error =
        read_fully(scan->io, scan->fd, scan->buffer, want, byte_offset, &scan->buffer_bytes, &scan->at_end);
    return scan->buffer_bytes < count ? error : 0;
}

static size_t in_window(const struct pawl_scan *scan, uint64_t byte_offset)
{
    uint64_t window_end = scan->buffer_byte_offset + scan->buffer_bytes;
    return byte_offset < window_end ? (size_t)(window_end - byte_offset) : 0;
}

const char *pawl_scan_frame(struct pawl_scan *scan, uint64_t byte_offset, uint64_t lsn,
                            struct pawl_frame_header *header_out, const uint8_t **bytes_out)
{
    scan->error = load(scan, byte_offset, PAWL_BLOCK_BYTES);
    if (scan->error)
        return pawl_error_text(scan->error);
    if (in_window(scan, byte_offset) < PAWL_BLOCK_BYTES)
        return "the file ends here";
    const uint8_t *bytes = scan->buffer + (byte_offset - scan->buffer_byte_offset);
    if (!pawl_frame_unpack(bytes, byte_offset, scan->segment, header_out))
        return "no frame header of this segment";
    scan->error = load(scan, byte_offset, header_out->bytes);
    if (scan->error)
        return pawl_error_text(scan->error);
    if (in_window(scan, byte_offset) < header_out->bytes)
        return "the file ends inside the frame";
    bytes = scan->buffer + (byte_offset - scan->buffer_byte_offset);
    /* The window may have been read again: believe only what is checked now. */
    struct pawl_frame_header again;
    if (!pawl_frame_unpack(bytes, byte_offset, scan->segment, &again) || again.bytes != header_out->bytes)
        return "the file changes while it is read";
    *header_out = again;
    const char *reason = pawl_frame_check(bytes, header_out, scan->segment);
    if (reason)
        return reason;
    if (lsn != 0 && header_out->first_lsn != lsn)
        return "its first lsn does not follow the frame before";
    *bytes_out = bytes;
    return NULL;
}

int pawl_scan_rest_of(struct pawl_scan *scan, uint64_t byte_offset, uint64_t lsn,
                      struct pawl_scan_rest *rest_out)
{
    *rest_out = (struct pawl_scan_rest){0};
    uint64_t at = byte_offset;
    uint32_t unreadable_count = 0;
    for (;; at += PAWL_BLOCK_BYTES) {
        int error = load(scan, at, PAWL_BLOCK_BYTES);
        if (error == -EIO && ++unreadable_count < UNREADABLE_MAX) /* vouches for nothing */
            continue;
        if (error)
            return error;
        if (in_window(scan, at) < PAWL_BLOCK_BYTES) {
            if (scan->at_end)
                break;
            continue;
        }
        struct pawl_frame_header header;
        if (!pawl_frame_unpack(scan->buffer + (at - scan->buffer_byte_offset), at, scan->segment, &header))
            continue;
        rest_out->ours = true;
        const uint8_t *bytes;
        if (header.durable_lsn < lsn || rest_out->vouched)
            continue;
        if (!pawl_scan_frame(scan, at, 0, &header, &bytes)) {
            rest_out->vouched = true;
            rest_out->voucher_byte_offset = at;
        } else if (scan->error && !pawl_is_damage(scan->error)) { /* it may vouch for all before it */
            return scan->error;
        }
    }
    rest_out->bytes = at > byte_offset ? at - byte_offset : 0;
    return 0;
}
