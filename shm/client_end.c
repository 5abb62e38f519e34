/*
 * client_end.c - the client's side of its lane.
 *
 * Runs in: an attached process, one thread at a time. Writes the lane and nothing else; reads deliveries
 * where they lie. Edges C1 to C3 as in the header. Never waits. The scheduler is trusted with what is said,
 * not with where it lies: a damaged size must not lead out of the ring.
 */
#include "shm/client_lane.h"

#include <string.h>

#include "shm/error.h"

static uint64_t load_acquire(const _Atomic uint64_t *word)
{
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)word, memory_order_acquire);
}

/* A ring's size as its segment states it, or 0: it does not hold. */
static uint32_t ring_size(uint32_t bytes, const struct pawl_segment *segment, size_t at)
{
    bool holds = bytes >= PAWL_CLIENT_RING_BYTES_MIN && bytes <= PAWL_CLIENT_RING_BYTES_MAX &&
                 (bytes & (bytes - 1)) == 0 && segment->bytes - at >= bytes;
    return holds ? bytes : 0;
}

static int check_geometry(struct pawl_client_end *end)
{
    /* Set last by the scheduler: what was written before it is visible here. */
    uint64_t lane_magic = load_acquire(&end->lane->magic), inbound_magic = load_acquire(&end->inbound->magic);
    if (lane_magic != PAWL_CLIENT_LANE_MAGIC || inbound_magic != PAWL_CLIENT_INBOUND_MAGIC ||
        end->lane->version != PAWL_CLIENT_LANE_VERSION || end->inbound->version != PAWL_CLIENT_LANE_VERSION)
        return PAWL_E_BAD_FORMAT;
    end->submit_bytes = ring_size(end->lane->submit_bytes, &end->lane_segment, PAWL_CLIENT_SUBMIT_AT);
    end->inbound_bytes =
        ring_size(end->inbound->inbound_bytes, &end->inbound_segment, PAWL_CLIENT_INBOUND_AT);
    return end->submit_bytes && end->inbound_bytes ? 0 : PAWL_E_BAD_MESSAGE;
}

/* Unmaps, and leaves the descriptor to the caller. */
static void unmap(struct pawl_segment *segment)
{
    segment->fd = -1;
    pawl_segment_close(segment);
}

int pawl_client_end_attach(int lane_fd, int inbound_fd, struct pawl_client_end *end)
{
    *end = (struct pawl_client_end){.lane_segment = {.fd = -1}, .inbound_segment = {.fd = -1}};
    int error = pawl_segment_attach(lane_fd, PAWL_CLIENT_SUBMIT_AT, true, &end->lane_segment);
    if (error < 0)
        return error;
    error = pawl_segment_attach(inbound_fd, PAWL_CLIENT_INBOUND_AT, false, &end->inbound_segment);
    if (error < 0)
        goto unmap_lane;
    end->lane = end->lane_segment.base;
    end->inbound = end->inbound_segment.base;
    error = check_geometry(end);
    if (error < 0)
        goto unmap_inbound;
    /* Relaxed: our own words. */
    end->submit_position = end->submit_published =
        atomic_load_explicit(&end->lane->submit_produced, memory_order_relaxed);
    end->settle_position = end->settle_published =
        atomic_load_explicit(&end->lane->settle_produced, memory_order_relaxed);
    end->reply_position = end->reply_limit =
        atomic_load_explicit(&end->lane->reply_consumed, memory_order_relaxed);
    end->inbound_position = end->inbound_limit =
        atomic_load_explicit(&end->lane->inbound_consumed, memory_order_relaxed);
    end->submit_seen = load_acquire(&end->inbound->submit_consumed); /* C2 */
    end->settle_seen = load_acquire(&end->inbound->settle_consumed); /* C2 */
    return 0;
unmap_inbound:
    unmap(&end->inbound_segment);
unmap_lane:
    unmap(&end->lane_segment);
    end->lane = NULL;
    end->inbound = NULL;
    return error;
}

void pawl_client_end_detach(struct pawl_client_end *end)
{
    pawl_segment_close(&end->lane_segment);
    pawl_segment_close(&end->inbound_segment);
    end->lane = NULL;
    end->inbound = NULL;
}

/* ---- submissions and settlements ---- */

void *pawl_client_end_reserve(struct pawl_client_end *end, size_t bytes)
{
    assert(bytes >= sizeof(struct pawl_submit) && bytes % 8 == 0);
    uint32_t size = end->submit_bytes;
    if (bytes > size / 2)
        return NULL;
    size_t offset = end->submit_position & (size - 1);
    size_t pad = bytes > size - offset ? size - offset : 0;
    bool passes = ((offset ^ (offset + bytes)) & ~(size_t)(PAWL_CLIENT_QUIET_BYTES - 1)) != 0;
    if (passes || end->submit_position + pad + bytes - end->submit_seen > size) {
        end->submit_seen = load_acquire(&end->inbound->submit_consumed); /* C2 */
        if (pad == 0 && end->submit_seen == end->submit_position && offset >= bytes)
            pad = size - offset; /* quiet: begin again on the pages that were touched already */
        end->submit_refused = end->submit_position + pad + bytes - end->submit_seen > size;
        if (end->submit_refused)
            return NULL;
    }
    char *ring = (char *)end->lane + PAWL_CLIENT_SUBMIT_AT;
    if (pad > 0) {
        struct pawl_submit head = {.bytes = (uint32_t)pad, .type = PAWL_SUBMIT_PAD};
        memcpy(ring + offset, &head, 8);
        offset = 0;
    }
    end->submit_position += pad + bytes;
    return ring + offset;
}

int pawl_client_end_settle(struct pawl_client_end *end, const struct pawl_settle *settle)
{
    if (end->settle_position - end->settle_seen >= PAWL_SETTLE_ENTRIES) {
        end->settle_seen = load_acquire(&end->inbound->settle_consumed); /* C2 */
        end->settle_refused = end->settle_position - end->settle_seen >= PAWL_SETTLE_ENTRIES;
        if (end->settle_refused)
            return PAWL_E_QUEUE_FULL;
    }
    char *entries = (char *)end->lane + PAWL_CLIENT_SETTLE_AT;
    size_t index = end->settle_position++ & (PAWL_SETTLE_ENTRIES - 1);
    memcpy(entries + index * sizeof *settle, settle, sizeof *settle);
    return 0;
}

bool pawl_client_end_note_room(struct pawl_client_end *end)
{
    if (!pawl_client_end_has_room(end))
        return false;
    end->submit_seen = load_acquire(&end->inbound->submit_consumed); /* C2 */
    end->settle_seen = load_acquire(&end->inbound->settle_consumed); /* C2 */
    return true;
}

/* ---- replies and deliveries ---- */

int pawl_client_end_reply(struct pawl_client_end *end, struct pawl_reply *reply_out)
{
    if (end->reply_position == end->reply_limit) {
        uint64_t produced = load_acquire(&end->inbound->reply_produced); /* C1 */
        if (produced == end->reply_position)
            return 0;
        if (produced - end->reply_position > PAWL_REPLY_ENTRIES)
            return PAWL_E_BAD_MESSAGE;
        end->reply_limit = produced;
    }
    const char *entries = (const char *)end->inbound + PAWL_CLIENT_REPLY_AT;
    size_t index = end->reply_position++ & (PAWL_REPLY_ENTRIES - 1);
    memcpy(reply_out, entries + index * sizeof *reply_out, sizeof *reply_out);
    atomic_store_explicit(&end->lane->reply_consumed, end->reply_position, memory_order_release); /* C2 */
    return 1;
}

int pawl_client_end_delivery(struct pawl_client_end *end, const struct pawl_inbound_entry **entry_out,
                             const struct pawl_event **event_out, uint64_t *position_out)
{
    for (;;) {
        if (end->inbound_position == end->inbound_limit) {
            uint64_t produced = load_acquire(&end->inbound->inbound_produced); /* C1 */
            if (produced == end->inbound_position)
                return 0;
            if (produced - end->inbound_position > end->inbound_bytes || produced % 8 != 0)
                return PAWL_E_BAD_MESSAGE;
            end->inbound_limit = produced;
        }
        size_t offset = end->inbound_position & (end->inbound_bytes - 1);
        uint64_t left = end->inbound_limit - end->inbound_position, to_end = end->inbound_bytes - offset;
        const struct pawl_inbound_entry *entry =
            (const void *)((const char *)end->inbound + PAWL_CLIENT_INBOUND_AT + offset);
        uint32_t bytes = entry->bytes;
        if (bytes % 8 != 0 || bytes > left || bytes > to_end)
            return PAWL_E_BAD_MESSAGE;
        if (entry->type == PAWL_INBOUND_PAD) {
            /* Given back with the delivery that follows: a PAD is never published alone. */
            if (bytes != to_end)
                return PAWL_E_BAD_MESSAGE;
            end->inbound_position += bytes;
            continue;
        }
        const struct pawl_event *event = (const void *)(entry + 1);
        if (entry->type != PAWL_INBOUND_DELIVERY || bytes < sizeof *entry + sizeof *event ||
            event->bytes != bytes - sizeof *entry)
            return PAWL_E_BAD_MESSAGE;
        end->inbound_position += bytes;
        *entry_out = entry;
        *event_out = event;
        *position_out = end->inbound_position;
        return 1;
    }
}
