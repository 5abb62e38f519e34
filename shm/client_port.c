/*
 * client_port.c - the scheduler's side of a client's lane.
 *
 * Runs in: the scheduler. The lane is another process's memory, and that process may be hostile: each word
 * and each entry is read once, into memory of our own, and only the copy is checked and used. Edges C1 to C3
 * as in the header. No waiting; no I/O but the making of the segments.
 */
#include "shm/client_lane.h"

#include <errno.h>
#include <string.h>

#include "shm/error.h"

static uint64_t load_acquire(const _Atomic uint64_t *word)
{
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)word, memory_order_acquire);
}

static bool is_ring_size(uint32_t bytes)
{
    return bytes >= PAWL_CLIENT_RING_BYTES_MIN && bytes <= PAWL_CLIENT_RING_BYTES_MAX &&
           (bytes & (bytes - 1)) == 0;
}

int pawl_client_port_create(uint32_t submit_bytes, uint32_t inbound_bytes, struct pawl_client_port *port)
{
    *port = (struct pawl_client_port){.lane_segment = {.fd = -1},
                                      .inbound_segment = {.fd = -1},
                                      .submit_bytes = submit_bytes,
                                      .inbound_bytes = inbound_bytes};
    if (!is_ring_size(submit_bytes) || !is_ring_size(inbound_bytes))
        return -EINVAL;
    int error = pawl_segment_create(PAWL_SEGMENT_SHARED_WRITERS, "pawl-client-lane",
                                    PAWL_CLIENT_SUBMIT_AT + (size_t)submit_bytes, false, &port->lane_segment);
    if (error < 0)
        return error;
    error =
        pawl_segment_create(PAWL_SEGMENT_PRIVATE_WRITER, "pawl-client-inbound",
                            PAWL_CLIENT_INBOUND_AT + (size_t)inbound_bytes, false, &port->inbound_segment);
    if (error < 0) {
        pawl_segment_close(&port->lane_segment);
        return error;
    }
    port->lane = port->lane_segment.base;
    port->inbound = port->inbound_segment.base;
    port->lane->version = port->inbound->version = PAWL_CLIENT_LANE_VERSION;
    port->lane->submit_bytes = submit_bytes;
    port->inbound->inbound_bytes = inbound_bytes;
    /* Last, as in world.c: a segment that is half made never attaches. */
    atomic_store_explicit(&port->lane->magic, PAWL_CLIENT_LANE_MAGIC, memory_order_release);
    atomic_store_explicit(&port->inbound->magic, PAWL_CLIENT_INBOUND_MAGIC, memory_order_release);
    return 0;
}

void pawl_client_port_destroy(struct pawl_client_port *port)
{
    pawl_segment_close(&port->lane_segment);
    pawl_segment_close(&port->inbound_segment);
    port->lane = NULL;
    port->inbound = NULL;
}

/* ---- what the client sends ---- */

/* Looks at the client's position once all that was known is read. 1: more; 0; PAWL_E_BAD_MESSAGE. */
static int see_submissions(struct pawl_client_port *port)
{
    uint64_t produced = load_acquire(&port->lane->submit_produced); /* C1 */
    if (produced == port->submit_position)
        return 0;
    /* Never back, never more than the ring holds of what was not given back. */
    if (produced - port->submit_position >
            port->submit_bytes - (port->submit_position - port->submit_released) ||
        produced % 8 != 0)
        return PAWL_E_BAD_MESSAGE;
    port->submit_limit = produced;
    return 1;
}

static bool submit_holds(const struct pawl_submit *submit)
{
    return submit->bytes >= sizeof *submit &&
           (submit->type == PAWL_SUBMIT_EVENT || submit->type == PAWL_SUBMIT_SETTLE) &&
           submit->flags <= (PAWL_SUBMIT_MORE | PAWL_SUBMIT_EXPECT_ROUTED | PAWL_SUBMIT_ASK) &&
           submit->durability <= PAWL_DURABILITY_FSYNC && submit->guarantee <= PAWL_GUARANTEE_AT_LEAST_ONCE;
}

int pawl_client_port_submission(struct pawl_client_port *port, void *copy, size_t copy_bytes)
{
    assert(copy_bytes >= sizeof(struct pawl_submit));
    for (;;) {
        if (port->submit_position == port->submit_limit) {
            int more = see_submissions(port);
            if (more <= 0)
                return more;
        }
        size_t offset = port->submit_position & (port->submit_bytes - 1);
        const char *at = (const char *)port->lane + PAWL_CLIENT_SUBMIT_AT + offset;
        uint64_t left = port->submit_limit - port->submit_position, to_end = port->submit_bytes - offset;

        /* Size and type are decided by this one load, whatever the client does to them meanwhile. */
        uint64_t first = atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)at, memory_order_relaxed);
        struct pawl_submit submit;
        memcpy(&submit, &first, sizeof first);
        if (submit.bytes % 8 != 0 || submit.bytes > left || submit.bytes > to_end)
            return PAWL_E_BAD_MESSAGE;
        if (submit.type == PAWL_SUBMIT_PAD) {
            if (submit.bytes != to_end) /* so that a drain meets at most two of them */
                return PAWL_E_BAD_MESSAGE;
            port->submit_position += submit.bytes;
            continue;
        }
        if (!submit_holds(&submit))
            return PAWL_E_BAD_MESSAGE;
        bool fits = submit.bytes <= copy_bytes;
        memcpy(copy, at, fits ? submit.bytes : sizeof submit);
        memcpy(copy, &first, sizeof first);
        port->submit_position += submit.bytes;
        return fits ? 1 : PAWL_E_LIMIT;
    }
}

int pawl_settle_check(const struct pawl_settle *settle, size_t text_available)
{
    unsigned cause = settle->cause & 0xff, code = settle->cause >> 8;
    if (settle->op < PAWL_SETTLE_OP_ACK || settle->op > PAWL_SETTLE_OP_RELEASE ||
        settle->flags > PAWL_SETTLE_SPARE_BREAKER || settle->first > settle->last ||
        settle->text_bytes > text_available || cause >= PAWL_CAUSES ||
        (code != 0 && cause != PAWL_CAUSE_EXIT))
        return PAWL_E_BAD_MESSAGE;
    return 0;
}

int pawl_client_port_settlement(struct pawl_client_port *port, struct pawl_settle *settle_out)
{
    if (port->settle_position == port->settle_limit) {
        uint64_t produced = load_acquire(&port->lane->settle_produced); /* C1 */
        if (produced == port->settle_position)
            return 0;
        if (produced - port->settle_released > PAWL_SETTLE_ENTRIES ||
            produced - port->settle_position > PAWL_SETTLE_ENTRIES)
            return PAWL_E_BAD_MESSAGE;
        port->settle_limit = produced;
    }
    const char *entries = (const char *)port->lane + PAWL_CLIENT_SETTLE_AT;
    size_t index = port->settle_position & (PAWL_SETTLE_ENTRIES - 1);
    memcpy(settle_out, entries + index * sizeof *settle_out, sizeof *settle_out);
    if (pawl_settle_check(settle_out, 0) < 0)
        return PAWL_E_BAD_MESSAGE;
    port->settle_position++;
    return 1;
}

bool pawl_client_port_release(struct pawl_client_port *port)
{
    bool submissions = port->submit_released != port->submit_position;
    bool settlements = port->settle_released != port->settle_position;
    if (submissions) {
        port->submit_released = port->submit_position;
        atomic_store_explicit(&port->inbound->submit_consumed, port->submit_position,
                              memory_order_release); /* C2 */
    }
    if (settlements) {
        port->settle_released = port->settle_position;
        atomic_store_explicit(&port->inbound->settle_consumed, port->settle_position,
                              memory_order_release); /* C2 */
    }
    return submissions || settlements;
}

int pawl_client_port_begun(const struct pawl_client_port *port, uint64_t before, uint64_t delivered,
                           uint64_t *begun_out)
{
    uint64_t begun = load_acquire(&port->lane->begun); /* C3 */
    if (begun < before || begun > delivered)
        return PAWL_E_BAD_MESSAGE;
    *begun_out = begun;
    return 0;
}

/* ---- what the client gets ---- */

/* Takes over what the client says it has consumed: between what it said before and what was published. */
static int see_consumed(const _Atomic uint64_t *word, uint64_t published, uint64_t *seen)
{
    uint64_t consumed = load_acquire(word); /* C2 */
    if (consumed - *seen > published - *seen)
        return PAWL_E_BAD_MESSAGE;
    *seen = consumed;
    return 0;
}

int pawl_client_port_reply(struct pawl_client_port *port, const struct pawl_reply *reply)
{
    if (port->reply_position - port->reply_seen >= PAWL_REPLY_ENTRIES) {
        int error = see_consumed(&port->lane->reply_consumed, port->reply_published, &port->reply_seen);
        if (error < 0)
            return error;
        port->reply_refused = port->reply_position - port->reply_seen >= PAWL_REPLY_ENTRIES;
        if (port->reply_refused)
            return PAWL_E_QUEUE_FULL;
    }
    char *entries = (char *)port->inbound + PAWL_CLIENT_REPLY_AT;
    size_t index = port->reply_position++ & (PAWL_REPLY_ENTRIES - 1);
    memcpy(entries + index * sizeof *reply, reply, sizeof *reply);
    return 0;
}

/* Finds room for @bytes that lie together; a PAD fills what is skipped. NULL: none, *error_out says why. */
static void *place_inbound(struct pawl_client_port *port, size_t bytes, int *error_out)
{
    uint32_t size = port->inbound_bytes;
    size_t offset = port->inbound_position & (size - 1);
    size_t pad = bytes > size - offset ? size - offset : 0;
    bool passes = ((offset ^ (offset + bytes)) & ~(size_t)(PAWL_CLIENT_QUIET_BYTES - 1)) != 0;
    if (passes || port->inbound_position + pad + bytes - port->inbound_seen > size) {
        *error_out =
            see_consumed(&port->lane->inbound_consumed, port->inbound_published, &port->inbound_seen);
        if (*error_out < 0)
            return NULL;
        if (pad == 0 && port->inbound_seen == port->inbound_position && offset >= bytes)
            pad = size - offset; /* quiet: begin again on the pages that were touched already */
        port->inbound_refused = port->inbound_position + pad + bytes - port->inbound_seen > size;
        if (port->inbound_refused) {
            *error_out = PAWL_E_QUEUE_FULL;
            return NULL;
        }
    }
    char *ring = (char *)port->inbound + PAWL_CLIENT_INBOUND_AT;
    if (pad > 0) {
        struct pawl_inbound_entry head = {.bytes = (uint32_t)pad, .type = PAWL_INBOUND_PAD};
        memcpy(ring + offset, &head, 8);
        offset = 0;
    }
    port->inbound_position += pad + bytes;
    return ring + offset;
}

int pawl_client_port_deliver(struct pawl_client_port *port, const struct pawl_inbound_entry *entry,
                             const struct pawl_event *event)
{
    size_t bytes = sizeof *entry + event->bytes;
    assert(event->bytes % 8 == 0);
    if (bytes > port->inbound_bytes / 2)
        return PAWL_E_LIMIT;
    int error = 0;
    struct pawl_inbound_entry *out = place_inbound(port, bytes, &error);
    if (!out)
        return error;
    *out = *entry;
    out->bytes = (uint32_t)bytes;
    out->type = PAWL_INBOUND_DELIVERY;
    memcpy(out + 1, event, event->bytes);
    return 0;
}

bool pawl_client_port_publish(struct pawl_client_port *port)
{
    bool replies = port->reply_published != port->reply_position;
    bool deliveries = port->inbound_published != port->inbound_position;
    if (replies) {
        port->reply_published = port->reply_position;
        atomic_store_explicit(&port->inbound->reply_produced, port->reply_position,
                              memory_order_release); /* C1 */
    }
    if (deliveries) {
        port->inbound_published = port->inbound_position;
        atomic_store_explicit(&port->inbound->inbound_produced, port->inbound_position,
                              memory_order_release); /* C1 */
    }
    return replies || deliveries;
}
