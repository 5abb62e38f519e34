/*
 * journal_cache.c - records in place: frames that are still in memory, then blocks that were read from disk.
 *
 * Runs in: the scheduler, one thread. Owns the index of all frames in memory (those that are not durable yet,
 * and as many of the newest durable ones as cache_bytes allow) and a few blocks of segments. Writes nothing.
 * What it reads from disk ends where the durable frames end: what lies beyond may be another life of the
 * file.
 *
 *   place ──resolve──► frame in memory? ──no──► block in memory? ──no──► read the block (and ask for the
 * next)
 */
#include "scheduler/journal_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/mman.h>

#include "shm/error.h"

enum {
    BLOCK_BYTES = 256 << 10,
    WALK_BYTES = 64 << 10,     /* from one record to the next that is copied, either way */
    KEPT_MAX = 4096,           /* frames: a quiet journal's are small, but each is a mapping */
    SCRATCH_KEPT_MAX = 1 << 20 /* a larger one goes when a small one would do */
};

static uint64_t place_of(uint32_t segment, uint64_t at)
{
    return (uint64_t)segment << 32 | at;
}

/* ---- frames in memory: a ring of pointers, rising by place ---- */

static struct journal_frame *frame_number(const struct journal_cache *cache, uint32_t i)
{
    return cache->frames[(cache->head + i) & (cache->max - 1)];
}

int pawl_journal_cache_add(struct pawl_journal *journal, struct journal_frame *frame)
{
    struct journal_cache *cache = &journal->cache;
    if (cache->count == cache->max) {
        uint32_t max = cache->max ? cache->max * 2 : 64;
        struct journal_frame **grown = malloc(max * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        for (uint32_t i = 0; i < cache->count; i++)
            grown[i] = frame_number(cache, i);
        free(cache->frames);
        cache->frames = grown;
        cache->head = 0;
        cache->max = max;
    }
    cache->frames[(cache->head + cache->count++) & (cache->max - 1)] = frame;
    return 0;
}

static void drop_oldest(struct pawl_journal *journal)
{
    struct journal_cache *cache = &journal->cache;
    struct journal_frame *frame = frame_number(cache, 0);
    cache->head = (cache->head + 1) & (cache->max - 1);
    cache->count--;
    cache->kept--;
    cache->kept_bytes -= frame->touched;
    pawl_journal_free_frame(journal, frame);
}

void pawl_journal_cache_keep(struct pawl_journal *journal, struct journal_frame *frame)
{
    struct journal_cache *cache = &journal->cache;
    uint64_t bytes = pawl_frame_bytes(frame->record_bytes);
    pawl_journal_trim_frame(frame, bytes);
    frame->next = NULL;
    cache->kept++;
    cache->kept_bytes += frame->touched;
    while (cache->kept > 0 && (cache->kept_bytes > journal->options.cache_bytes || cache->kept > KEPT_MAX))
        drop_oldest(journal);
}

/* How many frames begin at or before @place. Places rise along the ring, also after a full disk moved frames:
 * those that are not durable go to later segments, in their order. */
static uint32_t frames_up_to(const struct journal_cache *cache, uint64_t place)
{
    uint32_t low = 0, high = cache->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct journal_frame *frame = frame_number(cache, middle);
        if (place_of(frame->segment, frame->byte_offset) <= place)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct journal_frame *pawl_journal_frame_at(const struct pawl_journal *journal, uint64_t place)
{
    uint32_t n = frames_up_to(&journal->cache, place);
    if (n == 0)
        return NULL;
    struct journal_frame *frame = frame_number(&journal->cache, n - 1);
    uint64_t in_frame = place - place_of(frame->segment, frame->byte_offset);
    return in_frame < PAWL_FRAME_HEADER_BYTES + frame->record_bytes ? frame : NULL;
}

/* ---- blocks read from disk ---- */

static void drop_block(struct journal_block *block)
{
    block->segment = 0; /* segments count from 1 */
    block->bytes = 0;
    block->used_at = 0;
}

static int read_exactly(struct pawl_journal *journal, uint32_t segment, uint64_t at, void *bytes,
                        size_t count)
{
    int fd = pawl_segment_read_fd(journal, segment);
    if (fd < 0)
        return fd;
    for (size_t got = 0; got < count;) {
        ssize_t more = pawl_io_file_read(journal->io, fd, (uint8_t *)bytes + got, count - got, at + got);
        if (more < 0)
            return (int)more;
        if (more == 0)
            return PAWL_E_DAMAGED; /* shorter than what was durable */
        got += (size_t)more;
    }
    return 0;
}

/* A walk goes on to the next block: have the kernel fetch it meanwhile. A simulated disk has no kernel. */
static void read_ahead(struct pawl_journal *journal, const struct journal_segment *segment, uint32_t number)
{
    struct journal_cache *cache = &journal->cache;
    bool walks =
        number == 0 || (cache->missed_segment == segment->number && cache->missed_block + 1 == number);
    uint64_t next = ((uint64_t)number + 1) * BLOCK_BYTES;
    cache->missed_segment = segment->number;
    cache->missed_block = number;
    if (walks && next < segment->bytes && !journal->io->ops->file_read)
        (void)posix_fadvise(segment->read_fd, (off_t)next, BLOCK_BYTES, POSIX_FADV_WILLNEED);
}

/* The block that holds @at, with what it has of the @count bytes from there, all of which are durable. */
static int find_block(struct pawl_journal *journal, struct journal_segment *segment, uint64_t at,
                      size_t count, struct journal_block **block_out)
{
    struct journal_cache *cache = &journal->cache;
    uint32_t number = (uint32_t)(at / BLOCK_BYTES);
    uint64_t begin = (uint64_t)number * BLOCK_BYTES, durable = segment->bytes - begin;
    struct journal_block *block = &cache->blocks[0];
    for (uint32_t i = 0; i < PAWL_JOURNAL_BLOCKS; i++) {
        struct journal_block *each = &cache->blocks[i];
        if (each->segment == segment->number && each->number == number) {
            block = each;
            break;
        }
        if (each->used_at < block->used_at)
            block = each;
    }
    block->used_at = ++cache->clock;
    *block_out = block;
    uint64_t want = at - begin + count < BLOCK_BYTES ? at - begin + count : BLOCK_BYTES;
    if (block->segment == segment->number && block->number == number && want <= block->bytes)
        return 0;
    if (!block->data && !(block->data = aligned_alloc(PAWL_BLOCK_BYTES, BLOCK_BYTES)))
        return -ENOMEM;
    size_t bytes = durable < BLOCK_BYTES ? (size_t)durable : BLOCK_BYTES;
    drop_block(block);
    int error = read_exactly(journal, segment->number, begin, block->data, bytes);
    if (error)
        return error;
    *block = (struct journal_block){.segment = segment->number,
                                    .number = number,
                                    .bytes = (uint32_t)bytes,
                                    .data = block->data,
                                    .used_at = cache->clock};
    read_ahead(journal, segment, number);
    return 0;
}

/* @count bytes at @at through the blocks, in place if one block has them all, else copied to @copy. */
static int look_at(struct pawl_journal *journal, struct journal_segment *segment, uint64_t at, size_t count,
                   uint8_t *copy, const uint8_t **bytes_out)
{
    *bytes_out = copy;
    if (at > segment->bytes || count > segment->bytes - at)
        return PAWL_E_DAMAGED;
    while (count > 0) {
        struct journal_block *block;
        int error = find_block(journal, segment, at, count, &block);
        if (error)
            return error;
        size_t in_block = at % BLOCK_BYTES;
        if (block->bytes - in_block >= count && *bytes_out == copy) {
            *bytes_out = block->data + in_block;
            return 0;
        }
        size_t take = block->bytes - in_block < count ? block->bytes - in_block : count;
        memcpy(copy, block->data + in_block, take);
        copy += take;
        at += take;
        count -= take;
    }
    return 0;
}

/* ---- copying ---- */

void pawl_journal_cache_turn_to(struct pawl_journal *journal, uint64_t place)
{
    struct journal_cache *cache = &journal->cache;
    uint64_t last = cache->copied_place;
    if (place == last)
        return;
    cache->copy_walks = place > last ? place - last <= WALK_BYTES : last - place <= WALK_BYTES;
    cache->copied_place = place;
}

static bool has_block(const struct journal_cache *cache, uint32_t segment, uint64_t at)
{
    for (uint32_t i = 0; i < PAWL_JOURNAL_BLOCKS; i++)
        if (cache->blocks[i].segment == segment && cache->blocks[i].number == at / BLOCK_BYTES)
            return true;
    return false;
}

int pawl_journal_cache_copy(struct pawl_journal *journal, uint64_t place, void *bytes, size_t count)
{
    uint32_t number = (uint32_t)(place >> 32);
    uint64_t at = place & UINT32_MAX;
    struct journal_segment *segment = pawl_segment_find(journal, number);
    if (!segment || at > segment->bytes || count > segment->bytes - at || count > BLOCK_BYTES ||
        !(journal->cache.copy_walks || has_block(&journal->cache, number, at)))
        return -ENOENT;
    const uint8_t *from;
    int error = look_at(journal, segment, at, count, bytes, &from);
    if (error == 0 && from != bytes)
        memcpy(bytes, from, count);
    return error;
}

/* ---- peek ---- */

static int make_scratch(struct journal_cache *cache, size_t bytes)
{
    cache->scratch_place = 0;
    if (cache->scratch_bytes >= bytes &&
        (cache->scratch_bytes <= SCRATCH_KEPT_MAX || bytes > SCRATCH_KEPT_MAX))
        return 0;
    free(cache->scratch);
    cache->scratch_bytes = 0;
    cache->scratch = malloc(bytes);
    if (!cache->scratch)
        return -ENOMEM;
    cache->scratch_bytes = bytes;
    return 0;
}

/* The header of the record at @at of a segment on disk, its body NULL. Both lie below the durable end. */
static int header_on_disk(struct pawl_journal *journal, struct journal_segment *segment, uint64_t at,
                          struct pawl_record *record_out)
{
    uint8_t copy[PAWL_RECORD_HEADER_BYTES];
    const uint8_t *header;
    int error = look_at(journal, segment, at, sizeof copy, copy, &header);
    if (error)
        return error;
    if (pawl_record_unpack_header(header, record_out) != 0 ||
        pawl_record_bytes(record_out->body_bytes) > segment->bytes - at)
        return PAWL_E_DAMAGED;
    return 0;
}

static int peek_on_disk(struct pawl_journal *journal, uint64_t place, struct pawl_record *record_out)
{
    struct journal_cache *cache = &journal->cache;
    struct journal_segment *segment = pawl_segment_find(journal, (uint32_t)(place >> 32));
    if (!segment)
        return -ENOENT;
    uint64_t at = place & UINT32_MAX, body_at = at + PAWL_RECORD_HEADER_BYTES;
    int error = header_on_disk(journal, segment, at, record_out);
    if (error)
        return error;
    size_t bytes = record_out->body_bytes;
    const uint8_t *body = cache->scratch;
    bool in_one = bytes > 0 && body_at / BLOCK_BYTES == (body_at + bytes - 1) / BLOCK_BYTES;
    cache->scratch_used |= bytes > 0 && !in_one;
    if (bytes > 0 && !in_one && cache->scratch_place != place) {
        error = make_scratch(cache, bytes);
        if (error == 0)
            error = bytes > BLOCK_BYTES
                        ? read_exactly(journal, segment->number, body_at, cache->scratch, bytes)
                        : look_at(journal, segment, body_at, bytes, cache->scratch, &body);
        if (error)
            return error;
        body = cache->scratch;
        cache->scratch_place = place;
    } else if (in_one) {
        error = look_at(journal, segment, body_at, bytes, NULL, &body);
    }
    record_out->body = bytes > 0 ? (const void *)body : "";
    return error;
}

int pawl_journal_peek(struct pawl_journal *journal, uint64_t place, struct pawl_record *record_out)
{
    place = pawl_journal_resolve(journal, place);
    if (place % PAWL_RECORD_ALIGN != 0 || (place & UINT32_MAX) < PAWL_SEGMENT_HEADER_BYTES)
        return PAWL_E_DAMAGED;
    const struct journal_frame *frame = pawl_journal_frame_at(journal, place);
    if (!frame)
        return peek_on_disk(journal, place, record_out);
    uint64_t in_frame = (place & UINT32_MAX) - frame->byte_offset;
    if (in_frame < PAWL_FRAME_HEADER_BYTES ||
        !pawl_record_unpack(frame->bytes + in_frame, PAWL_FRAME_HEADER_BYTES + frame->record_bytes - in_frame,
                            record_out))
        return PAWL_E_DAMAGED;
    return 0;
}

/* ---- walking on ---- */

static uint64_t first_in_frame(const struct journal_frame *frame, uint64_t lsn)
{
    if (!frame || frame->record_count == 0 || frame->first_lsn != lsn)
        return 0;
    return place_of(frame->segment, frame->byte_offset + PAWL_FRAME_HEADER_BYTES);
}

/* A frame on disk was whole when its segment was recovered or written; here only its lsn is asked for. */
static uint64_t first_on_disk(struct pawl_journal *journal, struct journal_segment *segment, uint64_t at,
                              uint64_t lsn)
{
    struct pawl_record record;
    at += PAWL_FRAME_HEADER_BYTES;
    if (header_on_disk(journal, segment, at, &record) != 0 || record.lsn != lsn)
        return 0;
    return place_of(segment->number, at);
}

/* The record @lsn, the first of the frame that would begin at @at, or in a later segment, or in memory. */
static uint64_t first_from(struct pawl_journal *journal, uint32_t number, uint64_t at, uint64_t lsn)
{
    for (;;) {
        const struct journal_frame *frame = pawl_journal_frame_at(journal, place_of(number, at));
        if (frame)
            return first_in_frame(frame, lsn);
        struct journal_segment *segment = pawl_segment_find(journal, number);
        if (!segment)
            return 0;
        if (at < segment->bytes)
            return first_on_disk(journal, segment, at, lsn);
        if (++segment == journal->segments + journal->segment_count)
            return first_in_frame(journal->first, lsn);
        number = segment->number;
        at = PAWL_SEGMENT_HEADER_BYTES;
    }
}

uint64_t pawl_journal_next_place(struct pawl_journal *journal, uint64_t place)
{
    struct pawl_record record, next;
    place = pawl_journal_resolve(journal, place);
    uint32_t number = (uint32_t)(place >> 32);
    uint64_t at = place & UINT32_MAX;
    const struct journal_frame *frame = pawl_journal_frame_at(journal, place);
    if (frame) {
        if (pawl_journal_peek(journal, place, &record) != 0)
            return 0;
        uint64_t step = pawl_record_bytes(record.body_bytes);
        if (at + step < frame->byte_offset + PAWL_FRAME_HEADER_BYTES + frame->record_bytes)
            return place + step;
        if (frame->first_lsn > journal->durable_lsn) /* where the next goes is planned, not yet so on disk */
            return first_in_frame(frame->next, record.lsn + 1);
        return first_from(journal, number, frame->byte_offset + pawl_frame_bytes(frame->record_bytes),
                          record.lsn + 1);
    }
    struct journal_segment *segment = pawl_segment_find(journal, number);
    if (!segment || place % PAWL_RECORD_ALIGN != 0 || header_on_disk(journal, segment, at, &record) != 0)
        return 0;
    /* Behind the last record of a frame lie zeros, or the next frame's magic, which is no length of a record.
     */
    at += pawl_record_bytes(record.body_bytes);
    if (at < segment->bytes && header_on_disk(journal, segment, at, &next) == 0 && next.lsn == record.lsn + 1)
        return place_of(number, at);
    at = (at + PAWL_BLOCK_BYTES - 1) & ~(uint64_t)(PAWL_BLOCK_BYTES - 1);
    return first_from(journal, number, at, record.lsn + 1);
}

/* ---- its life ---- */

void pawl_journal_cache_forget(struct pawl_journal *journal, uint32_t number)
{
    struct journal_cache *cache = &journal->cache;
    while (cache->kept > 0 && frame_number(cache, 0)->segment <= number)
        drop_oldest(journal);
    for (uint32_t i = 0; i < PAWL_JOURNAL_BLOCKS; i++)
        if (cache->blocks[i].segment == number)
            drop_block(&cache->blocks[i]);
    cache->scratch_place = 0;
}

/* Once a turn: gives back the memory of a large record that nobody asked for in the turn before. */
void pawl_journal_cache_idle(struct pawl_journal *journal)
{
    struct journal_cache *cache = &journal->cache;
    if (cache->scratch_bytes > SCRATCH_KEPT_MAX && !cache->scratch_used) {
        free(cache->scratch);
        cache->scratch = NULL;
        cache->scratch_bytes = 0;
        cache->scratch_place = 0;
    }
    cache->scratch_used = false;
}

uint64_t pawl_journal_cache_bytes(const struct pawl_journal *journal)
{
    uint64_t bytes = journal->cache.kept_bytes + journal->cache.scratch_bytes;
    for (uint32_t i = 0; i < PAWL_JOURNAL_BLOCKS; i++)
        bytes += journal->cache.blocks[i].data ? BLOCK_BYTES : 0;
    return bytes;
}

/* Frames that are not durable are the journal's own to destroy. */
void pawl_journal_cache_destroy(struct pawl_journal *journal)
{
    struct journal_cache *cache = &journal->cache;
    while (cache->kept > 0)
        drop_oldest(journal);
    for (uint32_t i = 0; i < PAWL_JOURNAL_BLOCKS; i++)
        free(cache->blocks[i].data);
    free(cache->scratch);
    free(cache->frames);
    *cache = (struct journal_cache){0};
}
