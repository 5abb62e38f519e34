/*
 * backlog.c - extents of a queue, and reading them in order.
 *
 * Runs in: scheduler. Knows how an EVENTS record lies, not where records are kept.
 */
#include "scheduler/bus/backlog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

static struct extent *at(const struct backlog *backlog, size_t index)
{
    return &backlog->extents[(backlog->first + index) & (backlog->room - 1)];
}

const struct extent *backlog_extent(const struct backlog *backlog, size_t index)
{
    return index < backlog->count ? at(backlog, index) : NULL;
}

void backlog_fini(struct backlog *backlog)
{
    free(backlog->extents);
    *backlog = (struct backlog){0};
}

static int grow(struct backlog *backlog)
{
    size_t room = backlog->room ? backlog->room * 2 : 16;
    struct extent *extents = malloc(room * sizeof *extents);
    if (!extents)
        return -ENOMEM;
    for (size_t i = 0; i < backlog->count; i++)
        extents[i] = *at(backlog, i);
    free(backlog->extents);
    backlog->extents = extents;
    backlog->first = 0;
    backlog->room = room;
    return 0;
}

/* Index of the extent that holds @seq, or of the first one above it (count: none). */
static size_t locate(const struct backlog *backlog, uint64_t seq)
{
    size_t low = 0, high = backlog->count;
    /* Reading and settling go in order: the last one, or the one after it. */
    if (backlog->hint < high) {
        const struct extent *extent = at(backlog, backlog->hint);
        if (seq >= extent->first && seq < extent->first + extent->count)
            return backlog->hint;
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct extent *extent = at(backlog, middle);
        if (seq >= extent->first + extent->count)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct extent *holder(struct backlog *backlog, uint64_t seq)
{
    size_t index = locate(backlog, seq);
    if (index == backlog->count || at(backlog, index)->first > seq)
        return NULL;
    backlog->hint = index;
    return at(backlog, index);
}

/* The record joins the newest extent when it follows on and lies near. */
static bool join(struct backlog *backlog, uint64_t first, uint32_t count, uint64_t bytes, uint64_t place)
{
    if (backlog->count == 0)
        return false;
    struct extent *last = at(backlog, backlog->count - 1);
    if (((last->place | place) & PAWL_PLACE_VOLATILE) || last->first + last->count != first ||
        place <= last->place || place - last->place >= BACKLOG_STRETCH_BYTES || last->live == 0)
        return false;
    last->end_offset = (uint32_t)(place - last->place);
    last->walked = BACKLOG_WALK_TO_END;
    last->count += count;
    last->live += count;
    last->live_bytes += bytes;
    return true;
}

int backlog_add(struct backlog *backlog, uint64_t first, uint32_t count, uint64_t bytes, uint64_t place)
{
    if (join(backlog, first, count, bytes, place))
        return 0;
    if (backlog->count == backlog->room && grow(backlog) < 0)
        return -ENOMEM;
    *at(backlog, backlog->count++) =
        (struct extent){.first = first, .place = place, .count = count, .live = count, .live_bytes = bytes};
    return 0;
}

int backlog_restore(struct backlog *backlog, const struct extent *extent)
{
    if (backlog->count == backlog->room && grow(backlog) < 0)
        return -ENOMEM;
    *at(backlog, backlog->count++) = *extent;
    return 0;
}

const struct extent *backlog_holding(const struct backlog *backlog, uint64_t seq)
{
    size_t index = locate(backlog, seq);
    return index < backlog->count && at(backlog, index)->first <= seq ? at(backlog, index) : NULL;
}

uint64_t backlog_share(const struct backlog *backlog, uint64_t seq)
{
    const struct extent *extent = backlog_holding(backlog, seq);
    return extent && extent->live > 0 ? extent->live_bytes / extent->live : 0;
}

static void drop_dead_front(struct backlog *backlog)
{
    while (backlog->count > 0 && at(backlog, 0)->live == 0) {
        backlog->first = (backlog->first + 1) & (backlog->room - 1);
        backlog->count--;
        backlog->hint = backlog->hint > 0 ? backlog->hint - 1 : 0;
    }
}

uint64_t backlog_release(struct pawl_bus *bus, struct backlog *backlog, uint64_t first, uint64_t last)
{
    uint64_t bytes = 0;
    while (first <= last) {
        struct extent *extent = holder(backlog, first);
        if (!extent) {
            first = backlog_next(backlog, first);
            if (first == UINT64_MAX)
                break;
            continue;
        }
        uint64_t end = extent->first + extent->count - 1;
        uint64_t upto = last < end ? last : end;
        uint32_t n = (uint32_t)(upto - first + 1);
        if (n > extent->live)
            n = extent->live;
        uint64_t theirs = n == extent->live ? extent->live_bytes : extent->live_bytes / extent->live * n;
        extent->live -= n;
        extent->live_bytes -= theirs;
        bytes += theirs;
        if (extent->live == 0 && n > 0 && (extent->place & PAWL_PLACE_VOLATILE))
            bus->backend.release(bus->ctx, extent->place);
        first = upto + 1;
    }
    drop_dead_front(backlog);
    return bytes;
}

bool backlog_is_volatile(const struct backlog *backlog, uint64_t seq)
{
    size_t index = locate(backlog, seq);
    return index < backlog->count && at(backlog, index)->first <= seq &&
           (at(backlog, index)->place & PAWL_PLACE_VOLATILE);
}

bool backlog_any_durable(const struct backlog *backlog, uint64_t first, uint64_t last)
{
    for (size_t index = locate(backlog, first); index < backlog->count && at(backlog, index)->first <= last;
         index++)
        if (!(at(backlog, index)->place & PAWL_PLACE_VOLATILE))
            return true;
    return false;
}

uint64_t backlog_next(const struct backlog *backlog, uint64_t seq)
{
    size_t index = locate(backlog, seq);
    if (index == backlog->count)
        return UINT64_MAX;
    uint64_t first = at(backlog, index)->first;
    return first > seq ? first : seq;
}

uint64_t backlog_first(const struct backlog *backlog)
{
    return backlog->count ? at(backlog, 0)->first : UINT64_MAX;
}

/* How many of @count seqs from @first on are not settled. */
static uint32_t unsettled(const struct pawl_seqset *settled, uint64_t first, uint64_t count)
{
    uint64_t from = first, run_first, run_last, total = 0;
    for (; pawl_seqset_range(settled, from, first + count, false, &run_first, &run_last); from = run_last + 1)
        total += run_last - run_first + 1;
    return (uint32_t)total;
}

static struct extent *slot(const struct backlog *backlog, size_t position)
{
    return &backlog->extents[position & (backlog->room - 1)];
}

/* Room for @count extents in the place of one: the shorter side gives way. 0 or -ENOMEM. */
static int resize_at(struct backlog *backlog, size_t index, size_t count)
{
    while (backlog->count + count > backlog->room)
        if (grow(backlog) < 0)
            return -ENOMEM;
    size_t from = backlog->first, to = from + 1 - count, behind = backlog->count - index - 1;
    if (index < behind) {
        for (size_t i = 0; count > 1 && i < index; i++)
            *slot(backlog, to + i) = *slot(backlog, from + i);
        for (size_t i = index; count == 0 && i-- > 0;)
            *slot(backlog, to + i) = *slot(backlog, from + i);
        backlog->first = to & (backlog->room - 1);
    } else {
        from += index + 1;
        to = backlog->first + index + count;
        for (size_t i = behind; count > 1 && i-- > 0;)
            *slot(backlog, to + i) = *slot(backlog, from + i);
        for (size_t i = 0; count == 0 && i < behind; i++)
            *slot(backlog, to + i) = *slot(backlog, from + i);
    }
    backlog->count += count - 1;
    return 0;
}

/* Was it copied to that place before? */
static bool lies_at(const struct extent *extent, uint64_t place)
{
    return place >= extent->place && place <= extent->place + extent->end_offset;
}

/* The one before it was copied forward, too, to a place near: they are one stretch. */
static bool follows(const struct backlog *backlog, size_t index, uint64_t seq, uint64_t place)
{
    const struct extent *previous = index > 0 ? at(backlog, index - 1) : NULL;
    return previous && previous->first + previous->count == seq && previous->live > 0 &&
           previous->walked < BACKLOG_WALK_PART && !(previous->place & PAWL_PLACE_VOLATILE) &&
           place > previous->place && place - previous->place < BACKLOG_STRETCH_BYTES;
}

int backlog_move(struct backlog *backlog, const struct pawl_seqset *settled, uint64_t seq, uint64_t bytes,
                 uint64_t place)
{
    struct extent *extent = holder(backlog, seq);
    if (!extent || pawl_seqset_has(settled, seq) || lies_at(extent, place))
        return 0;
    size_t index = backlog->hint, count = 0;
    struct extent before = *extent, after = *extent, pieces[3];
    struct extent moved = {.first = seq, .place = place, .count = 1, .live = 1};
    uint64_t below = seq - before.first, above = before.first + before.count - 1 - seq;
    uint64_t left = before.live_bytes > bytes ? before.live_bytes - bytes : 0;
    moved.live_bytes = before.live_bytes - left;
    before.count = (uint32_t)below;
    before.live = below ? unsettled(settled, before.first, below) : 0;
    after.first = seq + 1;
    after.count = (uint32_t)above;
    after.live = above ? unsettled(settled, after.first, above) : 0;
    uint64_t others = (uint64_t)before.live + after.live;
    before.live_bytes = others ? left / others * before.live : 0;
    after.live_bytes = after.live ? left - before.live_bytes : 0;
    if (!after.live) /* no byte is lost: sums must agree */
        *(before.live ? &before.live_bytes : &moved.live_bytes) += left - before.live_bytes;
    /* It splits its stretch. What is left keeps the place from which it is walked; what is dead of it goes.
     */
    after.walked = before.walked = BACKLOG_WALK_PART; /* the place names the beginning of a larger stretch */
    bool joins = below == 0 && follows(backlog, index, seq, place);
    if (before.live > 0)
        pieces[count++] = before;
    if (!joins)
        pieces[count++] = moved;
    if (after.live > 0)
        pieces[count++] = after;
    if (resize_at(backlog, index, count) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        *at(backlog, index + i) = pieces[i];
    if (joins) {
        struct extent *previous = at(backlog, index - 1);
        previous->count++;
        previous->live++;
        previous->live_bytes += moved.live_bytes;
        previous->end_offset = (uint32_t)(place - previous->place);
        previous->walked = BACKLOG_WALK_TO_END;
    }
    return 0;
}

size_t backlog_index(const struct backlog *backlog, uint64_t seq)
{
    return locate(backlog, seq);
}

/* ---- reading ---- */

static const struct pawl_bus_route *route_to(const void *body, size_t bytes, uint32_t queue)
{
    const struct pawl_bus_events *record = body;
    if (bytes < sizeof *record ||
        record->queue_count > (bytes - sizeof *record) / sizeof(struct pawl_bus_route))
        return NULL;
    const struct pawl_bus_route *routes = (const struct pawl_bus_route *)(record + 1);
    for (uint32_t i = 0; i < record->queue_count; i++)
        if (routes[i].queue == queue)
            return &routes[i];
    return NULL;
}

/* The record of the cursor is in memory from here until the stamp changes. */
static int fetch(struct pawl_bus *bus, struct backlog_cursor *cursor)
{
    uint8_t type;
    const void *body;
    if (cursor->stamp == bus->stamp && cursor->body)
        return 0;
    bus->stamp++;
    int error = bus->backend.read(bus->ctx, cursor->record, &type, &body, &cursor->body_bytes);
    cursor->body = error ? NULL : body;
    cursor->stamp = bus->stamp;
    if (!error && type != PAWL_BUS_RECORD_EVENTS && type != PAWL_BUS_RECORD_MOVE)
        return PAWL_E_DAMAGED;
    return error;
}

/* Enter the record at @place if it holds @seq of this queue. 1; 0: it does not; an error. */
static int enter(struct pawl_bus *bus, uint32_t queue, struct backlog_cursor *cursor, uint64_t place,
                 uint64_t seq)
{
    uint8_t type;
    *cursor = (struct backlog_cursor){.record = place};
    bus->stamp++;
    const void *body;
    int error = bus->backend.read(bus->ctx, place, &type, &body, &cursor->body_bytes);
    if (error)
        return error;
    cursor->body = body;
    cursor->stamp = bus->stamp;
    if (type != PAWL_BUS_RECORD_EVENTS && type != PAWL_BUS_RECORD_MOVE)
        return 0;
    if (!bus_head_holds(body, cursor->body_bytes))
        return PAWL_E_DAMAGED;
    const struct pawl_bus_route *route = route_to(body, cursor->body_bytes, queue);
    const struct pawl_bus_events *record = body;
    if (!route || seq < route->first_seq || seq >= route->first_seq + record->event_count)
        return 0;
    cursor->seq = route->first_seq;
    cursor->record_end = route->first_seq + record->event_count;
    cursor->offset = record->events_offset;
    return 1;
}

/* From the stretch's first record on until the one that holds the seq. */
static int find_record(struct pawl_bus *bus, struct bus_queue *queue, struct backlog_cursor *cursor,
                       uint64_t seq)
{
    struct extent *extent = holder(&queue->backlog, seq);
    if (!extent)
        return PAWL_E_NOT_FOUND;
    uint64_t place = bus_resolve(bus, extent->place);
    uint64_t end =
        bus_resolve(bus, extent->place + extent->end_offset); /* it may have moved, and not the first */
    bool walked = extent->walked != 0;
    for (;;) {
        int found = enter(bus, queue->number, cursor, place, seq);
        if (found < 0 &&
            !(found == PAWL_E_DAMAGED && walked)) /* it may be in one behind that does not hold */
            return found;
        if (found == 1)
            return 0;
        if (!walked || (extent->walked == BACKLOG_WALK_TO_END && place > end))
            return PAWL_E_DAMAGED;
        place = bus->backend.next(bus->ctx, place);
        if (place == 0)
            return PAWL_E_DAMAGED;
    }
}

static const struct pawl_event *event_at(const struct backlog_cursor *cursor)
{
    if (cursor->offset > cursor->body_bytes ||
        cursor->body_bytes - cursor->offset < sizeof(struct pawl_event))
        return NULL;
    const struct pawl_event *event = (const struct pawl_event *)(cursor->body + cursor->offset);
    if (event->bytes < sizeof *event || event->bytes > cursor->body_bytes - cursor->offset)
        return NULL;
    return event;
}

const struct pawl_event *backlog_read(struct pawl_bus *bus, struct bus_queue *queue,
                                      struct backlog_cursor *cursor, uint64_t seq, int *error_out)
{
    *error_out = 0;
    if (!cursor->record || seq < cursor->seq || seq >= cursor->record_end) {
        int error = 0, inside = 0;
        /* In order: the next record of the log is mostly the one. */
        if (cursor->record && seq == cursor->record_end && !(cursor->record & PAWL_PLACE_VOLATILE)) {
            const struct extent *extent = holder(&queue->backlog, seq);
            if (extent && extent->walked == BACKLOG_WALK_TO_END &&
                cursor->record < extent->place + extent->end_offset) {
                uint64_t place = bus->backend.next(bus->ctx, cursor->record);
                inside = place ? enter(bus, queue->number, cursor, place, seq) : 0;
            }
        }
        if (inside != 1)
            error = find_record(bus, queue, cursor, seq);
        if (error) {
            *error_out = error;
            *cursor = (struct backlog_cursor){0};
            return NULL;
        }
    }
    int error = fetch(bus, cursor);
    if (error) /* the event was copied forward meanwhile, and the record's segment is gone */
        error = find_record(bus, queue, cursor, seq);
    if (error) {
        *error_out = error;
        *cursor = (struct backlog_cursor){0};
        return NULL;
    }
    const struct pawl_event *event;
    for (;;) {
        event = event_at(cursor);
        if (!event || cursor->seq == seq)
            break;
        cursor->offset += event->bytes;
        cursor->seq++;
    }
    if (!event)
        *cursor = (struct backlog_cursor){0};
    if (event && bus_event_holds(event))
        return event;
    *error_out = PAWL_E_DAMAGED;
    return NULL;
}
