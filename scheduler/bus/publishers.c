/*
 * publishers.c - a hash table with a list by last use. Runs in: scheduler. Reads no clock.
 *
 * A publisher whose publishes all went to disk in order is its last sequence. All else is its detail, which
 * goes when it says nothing more.
 */
#include "scheduler/bus/publishers.h"

#include <errno.h>
#include <stdlib.h>

#include "scheduler/bus/seqset.h"
#include "shm/client_lane.h"
#include "shm/error.h"

enum { ROOM_MIN = 16 };
#define NOWHERE UINT32_MAX

struct part {
    uint64_t sequence, event_id;
    uint32_t queue;
    bool memory;
};

struct detail {
    struct pawl_seqset done;   /* dealt with */
    struct pawl_seqset memory; /* of those: in memory only; says nothing below the window */
    uint64_t memory_last;      /* 0: none */
    struct part *parts;
    uint32_t part_count, part_room;
    uint64_t part_last; /* no part is above it */
};

struct pawl_publisher_place {
    struct pawl_publisher publisher;
    struct detail *detail; /* NULL: all up to the last sequence is on disk */
    uint64_t lsn;          /* of the newest record about it */
    uint32_t older, newer;
};

void pawl_publishers_init(struct pawl_publishers *publishers, uint32_t most, uint64_t age_ns)
{
    *publishers = (struct pawl_publishers){
        .most = most < PAWL_PUBLISHERS_MAX ? most : PAWL_PUBLISHERS_MAX,
        .age_ns = age_ns,
        .oldest = NOWHERE,
        .newest = NOWHERE,
    };
}

static void free_detail(struct pawl_publishers *publishers, struct pawl_publisher_place *place)
{
    struct detail *detail = place->detail;
    if (!detail)
        return;
    publishers->parts -= detail->part_count;
    pawl_seqset_fini(&detail->done);
    pawl_seqset_fini(&detail->memory);
    free(detail->parts);
    free(detail);
    place->detail = NULL;
}

void pawl_publishers_fini(struct pawl_publishers *publishers)
{
    for (uint32_t i = 0; i < publishers->count; i++)
        free_detail(publishers, &publishers->places[i]);
    free(publishers->places);
    free(publishers->index);
    *publishers = (struct pawl_publishers){.oldest = NOWHERE, .newest = NOWHERE};
}

/* Ids are chosen by clients: they are mixed, so that a run of numbers makes no run of slots. */
static uint32_t home_of(const struct pawl_publishers *publishers, uint64_t id)
{
    id = (id ^ id >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    id = (id ^ id >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)(id ^ id >> 31) & (publishers->index_room - 1);
}

/* The slot that names this publisher, or the free one where it would go. */
static uint32_t slot_for(const struct pawl_publishers *publishers, uint64_t id)
{
    uint32_t mask = publishers->index_room - 1, at = home_of(publishers, id);
    while (publishers->index[at] && publishers->places[publishers->index[at] - 1].publisher.id != id)
        at = (at + 1) & mask;
    return at;
}

static void free_slot(struct pawl_publishers *publishers, uint32_t hole)
{
    uint32_t mask = publishers->index_room - 1;
    for (uint32_t at = (hole + 1) & mask; publishers->index[at]; at = (at + 1) & mask) {
        uint32_t home = home_of(publishers, publishers->places[publishers->index[at] - 1].publisher.id);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            publishers->index[hole] = publishers->index[at];
            hole = at;
        }
    }
    publishers->index[hole] = 0;
}

static void unlink_place(struct pawl_publishers *publishers, uint32_t place)
{
    struct pawl_publisher_place *p = &publishers->places[place];
    if (p->older == NOWHERE)
        publishers->oldest = p->newer;
    else
        publishers->places[p->older].newer = p->newer;
    if (p->newer == NOWHERE)
        publishers->newest = p->older;
    else
        publishers->places[p->newer].older = p->older;
}

static void link_newest(struct pawl_publishers *publishers, uint32_t place)
{
    struct pawl_publisher_place *p = &publishers->places[place];
    p->older = publishers->newest;
    p->newer = NOWHERE;
    if (publishers->newest == NOWHERE)
        publishers->oldest = place;
    else
        publishers->places[publishers->newest].newer = place;
    publishers->newest = place;
}

/* Twice the places, and an index that stays half empty. */
static int grow(struct pawl_publishers *publishers)
{
    uint32_t room = publishers->room ? publishers->room * 2 : ROOM_MIN;
    uint32_t *index = calloc((size_t)room * 2, sizeof *index);
    struct pawl_publisher_place *places = realloc(publishers->places, room * sizeof *places);
    if (places) {
        publishers->places = places;
        publishers->room = index ? room : publishers->room;
    }
    if (!places || !index) {
        free(index);
        return -ENOMEM;
    }
    free(publishers->index);
    publishers->index = index;
    publishers->index_room = room * 2;
    for (uint32_t place = 0; place < publishers->count; place++)
        index[slot_for(publishers, places[place].publisher.id)] = place + 1;
    return 0;
}

static struct pawl_publisher_place *place_of(const struct pawl_publishers *publishers, uint64_t id)
{
    uint32_t found = publishers->index_room > 0 ? publishers->index[slot_for(publishers, id)] : 0;
    return found ? &publishers->places[found - 1] : NULL;
}

/* Nobody waits for the answer of what lies below it, itself included. */
static uint64_t floor_of(uint64_t last)
{
    return last > PAWL_UNCONFIRMED_MAX ? last - PAWL_UNCONFIRMED_MAX : 0;
}

/* ---- what is known ---- */

uint64_t pawl_publishers_last(const struct pawl_publishers *publishers, uint64_t id)
{
    const struct pawl_publisher_place *place = place_of(publishers, id);
    return place ? place->publisher.last_sequence : 0;
}

/* All up to it are on disk. */
static uint64_t upto_of(const struct pawl_publisher_place *place)
{
    const struct detail *detail = place->detail;
    if (!detail)
        return place->publisher.last_sequence;
    uint64_t upto = pawl_seqset_head(&detail->done) - 1, floor = floor_of(place->publisher.last_sequence);
    if (detail->memory_last > floor) {
        uint64_t head = pawl_seqset_head(&detail->memory);
        uint64_t first = head > floor + 1 ? floor + 1 : pawl_seqset_next_set(&detail->memory, floor + 1);
        upto = first - 1 < upto ? first - 1 : upto;
    }
    return upto;
}

uint64_t pawl_publishers_upto(const struct pawl_publishers *publishers, uint64_t id, uint64_t durable_lsn)
{
    const struct pawl_publisher_place *place = place_of(publishers, id);
    return place && place->lsn <= durable_lsn ? upto_of(place) : 0;
}

bool pawl_publishers_find(const struct pawl_publishers *publishers, uint64_t id, uint64_t sequence,
                          bool *memory_out)
{
    const struct pawl_publisher_place *place = place_of(publishers, id);
    *memory_out = false;
    if (!place || sequence > place->publisher.last_sequence)
        return false;
    const struct detail *detail = place->detail;
    if (!detail)
        return true;
    *memory_out = sequence <= detail->memory_last && pawl_seqset_has(&detail->memory, sequence);
    return pawl_seqset_has(&detail->done, sequence);
}

bool pawl_publishers_has_part(const struct pawl_publishers *publishers, uint64_t id, uint64_t sequence,
                              uint32_t queue, uint64_t *event_id_out)
{
    const struct pawl_publisher_place *place = place_of(publishers, id);
    const struct detail *detail = place ? place->detail : NULL;
    if (!detail || sequence > detail->part_last)
        return false;
    for (uint32_t i = 0; i < detail->part_count; i++)
        if (detail->parts[i].sequence == sequence && (queue == 0 || detail->parts[i].queue == queue)) {
            *event_id_out = detail->parts[i].event_id;
            return true;
        }
    return false;
}

bool pawl_publishers_part_of(const struct pawl_publishers *publishers, uint64_t event_id, uint64_t *id_out,
                             uint64_t *sequence_out)
{
    uint32_t seen = 0; /* whoever waits published lately: most often the first is it */
    for (uint32_t at = publishers->newest; seen < publishers->parts && at != NOWHERE;
         at = publishers->places[at].older) {
        const struct detail *detail = publishers->places[at].detail;
        for (uint32_t i = 0; detail && i < detail->part_count; i++)
            if (detail->parts[i].event_id == event_id) {
                *id_out = publishers->places[at].publisher.id;
                *sequence_out = detail->parts[i].sequence;
                return true;
            }
        seen += detail ? detail->part_count : 0;
    }
    return false;
}

/* ---- what is noted ---- */

/* A place for a new publisher, neither in the list nor in the index: an unused one, or the oldest's. */
static int take_place(struct pawl_publishers *publishers, uint64_t now_ns, uint32_t *place_out)
{
    if (publishers->count < publishers->most) {
        if (publishers->count == publishers->room && grow(publishers) != 0)
            return -ENOMEM;
        *place_out = publishers->count++;
        return 0;
    }
    uint32_t oldest = publishers->oldest;
    if (oldest == NOWHERE)
        return PAWL_E_LIMIT;
    const struct pawl_publisher *p = &publishers->places[oldest].publisher;
    if (now_ns < p->seen_realtime_ns || now_ns - p->seen_realtime_ns < publishers->age_ns)
        return PAWL_E_LIMIT;
    free_slot(publishers, slot_for(publishers, p->id));
    free_detail(publishers, &publishers->places[oldest]);
    unlink_place(publishers, oldest);
    *place_out = oldest;
    return 0;
}

/* The place of @id, which becomes the one that was seen last. 0; PAWL_E_LIMIT; -ENOMEM. */
static int see(struct pawl_publishers *publishers, uint64_t id, uint64_t realtime_ns,
               struct pawl_publisher_place **place_out)
{
    struct pawl_publisher_place *place = place_of(publishers, id);
    if (place) {
        if (realtime_ns > place->publisher.seen_realtime_ns)
            place->publisher.seen_realtime_ns = realtime_ns;
        unlink_place(publishers, (uint32_t)(place - publishers->places));
    } else {
        uint32_t number;
        int error = take_place(publishers, realtime_ns, &number);
        if (error)
            return error;
        place = &publishers->places[number];
        *place = (struct pawl_publisher_place){.publisher = {.id = id, .seen_realtime_ns = realtime_ns}};
        publishers->index[slot_for(publishers, id)] = number + 1;
    }
    link_newest(publishers, (uint32_t)(place - publishers->places));
    *place_out = place;
    return 0;
}

static struct detail *need_detail(struct pawl_publisher_place *place)
{
    if (!place->detail && (place->detail = calloc(1, sizeof *place->detail))) {
        uint64_t last = place->publisher.last_sequence;
        pawl_seqset_init(&place->detail->done, last + 1);
        pawl_seqset_init(&place->detail->memory, floor_of(last) + 1);
    }
    return place->detail;
}

static void forget_parts(struct pawl_publishers *publishers, struct detail *detail, uint64_t first,
                         uint64_t last)
{
    if (detail->part_count == 0 || first > detail->part_last)
        return;
    uint32_t kept = 0;
    uint64_t highest = 0;
    for (uint32_t i = 0; i < detail->part_count; i++) {
        uint64_t sequence = detail->parts[i].sequence;
        if (sequence >= first && sequence <= last)
            continue;
        detail->parts[kept++] = detail->parts[i];
        highest = sequence > highest ? sequence : highest;
    }
    publishers->parts -= detail->part_count - kept;
    detail->part_count = kept;
    detail->part_last = highest;
}

/* The set says nothing more about what is at @floor or below; @highest: none above it is in the set. */
static int raise_set(struct pawl_seqset *set, uint64_t floor, uint64_t highest)
{
    if (pawl_seqset_head(set) > floor)
        return 0;
    if (highest <= floor) { /* a leap: whatever its width, it costs nothing */
        pawl_seqset_fini(set);
        pawl_seqset_init(set, floor + 1);
        return 0;
    }
    return pawl_seqset_add_range(set, pawl_seqset_head(set), floor) < 0 ? -ENOMEM : 0;
}

/* @last becomes the highest that is known, if it is. What falls behind the window costs nothing more. */
static int reach(struct pawl_publishers *publishers, struct pawl_publisher_place *place, uint64_t last)
{
    struct detail *detail = need_detail(place);
    uint64_t known = place->publisher.last_sequence;
    if (!detail)
        return -ENOMEM;
    if (last <= known)
        return 0;
    forget_parts(publishers, detail, 0, floor_of(last));
    if (raise_set(&detail->done, floor_of(last), known) < 0)
        return -ENOMEM;
    if (detail->memory_last > 0 && raise_set(&detail->memory, floor_of(last), detail->memory_last) < 0)
        return -ENOMEM;
    place->publisher.last_sequence = last;
    return 0;
}

static void tidy(struct pawl_publishers *publishers, struct pawl_publisher_place *place)
{
    const struct detail *detail = place->detail;
    uint64_t last = place->publisher.last_sequence;
    if (detail->memory_last <= floor_of(last) && detail->part_count == 0 &&
        pawl_seqset_head(&detail->done) > last)
        free_detail(publishers, place);
}

static int add(struct pawl_publishers *publishers, struct pawl_publisher_place *place, uint64_t first,
               uint64_t last, bool memory)
{
    uint64_t known = place->publisher.last_sequence;
    if (!place->detail && !memory && first <= known + 1) { /* as almost always */
        place->publisher.last_sequence = last > known ? last : known;
        return 0;
    }
    if (reach(publishers, place, last) < 0)
        return -ENOMEM;
    struct detail *detail = place->detail;
    if (pawl_seqset_add_range(&detail->done, first, last) < 0)
        return -ENOMEM;
    if (memory) {
        if (detail->memory_last == 0 &&
            raise_set(&detail->memory, floor_of(place->publisher.last_sequence), 0) < 0)
            return -ENOMEM;
        if (pawl_seqset_add_range(&detail->memory, first, last) < 0)
            return -ENOMEM;
        detail->memory_last = last > detail->memory_last ? last : detail->memory_last;
    }
    forget_parts(publishers, detail, first, last);
    tidy(publishers, place);
    return 0;
}

int pawl_publishers_note(struct pawl_publishers *publishers, uint64_t id, uint64_t first, uint64_t last,
                         uint64_t realtime_ns, uint64_t lsn)
{
    struct pawl_publisher_place *place;
    int error = last > PAWL_PUBLISHER_SEQUENCE_MAX ? PAWL_E_DAMAGED : 0;
    if (!error)
        error = see(publishers, id, realtime_ns, &place);
    if (!error && first <= last)
        error = add(publishers, place, first, last, lsn == 0);
    if (!error && lsn > place->lsn)
        place->lsn = lsn;
    return error;
}

static int add_part(struct pawl_publishers *publishers, struct pawl_publisher_place *place,
                    const struct part *part)
{
    uint64_t event_id;
    if (reach(publishers, place, part->sequence) < 0)
        return -ENOMEM;
    struct detail *detail = place->detail;
    if (pawl_seqset_has(&detail->done, part->sequence) ||
        pawl_publishers_has_part(publishers, place->publisher.id, part->sequence, part->queue, &event_id))
        return 0;
    if (publishers->parts >= PAWL_PUBLISHER_PARTS_MAX)
        return PAWL_E_LIMIT;
    if (detail->part_count == detail->part_room) {
        uint32_t room = detail->part_room ? detail->part_room * 2 : 8;
        struct part *parts = realloc(detail->parts, room * sizeof *parts);
        if (!parts)
            return -ENOMEM;
        detail->parts = parts;
        detail->part_room = room;
    }
    detail->parts[detail->part_count++] = *part;
    publishers->parts++;
    if (part->sequence > detail->part_last)
        detail->part_last = part->sequence;
    return 0;
}

int pawl_publishers_note_part(struct pawl_publishers *publishers, uint64_t id, uint64_t sequence,
                              uint32_t queue, uint64_t event_id, uint64_t realtime_ns, uint64_t lsn)
{
    struct pawl_publisher_place *place;
    struct part part = {.sequence = sequence, .event_id = event_id, .queue = queue, .memory = lsn == 0};
    int error = queue == 0 || sequence == 0 || sequence > PAWL_PUBLISHER_SEQUENCE_MAX ? PAWL_E_DAMAGED : 0;
    if (!error)
        error = see(publishers, id, realtime_ns, &place);
    if (!error)
        error = add_part(publishers, place, &part);
    if (!error && lsn > place->lsn)
        place->lsn = lsn;
    return error;
}

/* ---- snapshots ---- */

size_t pawl_publishers_save(const struct pawl_publishers *publishers, uint64_t *cursor,
                            struct pawl_publisher *out, size_t most)
{
    /* The place that is next, and 1; beyond the last: the end. */
    uint32_t place = *cursor == 0                  ? publishers->oldest
                     : *cursor > publishers->count ? NOWHERE
                                                   : (uint32_t)(*cursor - 1);
    size_t n = 0;
    for (; n < most && place != NOWHERE; place = publishers->places[place].newer, n++) {
        out[n] = publishers->places[place].publisher;
        out[n].last_sequence = upto_of(&publishers->places[place]);
    }
    *cursor = place == NOWHERE ? UINT64_MAX : (uint64_t)place + 1;
    return n;
}

/* The next run at or above @from that is dealt with and not in memory only. */
static bool next_run(const struct pawl_publisher_place *place, uint64_t from, uint64_t *first_out,
                     uint64_t *last_out)
{
    const struct detail *detail = place->detail;
    uint64_t end = place->publisher.last_sequence + 1;
    for (;;) {
        *first_out =
            from < pawl_seqset_head(&detail->done) ? from : pawl_seqset_next_set(&detail->done, from);
        if (*first_out >= end)
            return false;
        if (detail->memory_last < *first_out || !pawl_seqset_has(&detail->memory, *first_out))
            break;
        from = pawl_seqset_next_unset(&detail->memory, *first_out);
    }
    uint64_t stop = pawl_seqset_next_unset(&detail->done, *first_out);
    uint64_t memory = detail->memory_last >= *first_out ? pawl_seqset_next_set(&detail->memory, *first_out)
                                                        : PAWL_SEQSET_NONE;
    stop = stop < memory ? stop : memory;
    *last_out = (stop < end ? stop : end) - 1;
    return true;
}

size_t pawl_publishers_save_runs(const struct pawl_publishers *publishers, uint64_t cursor[2],
                                 struct pawl_publisher_run *out, size_t most)
{
    size_t n = 0;
    /* The place; the sequence from which on runs are still to come, or beyond all: how many parts were seen.
     */
    for (; cursor[0] < publishers->count; cursor[0]++, cursor[1] = 0) {
        const struct pawl_publisher_place *place = &publishers->places[cursor[0]];
        const struct detail *detail = place->detail;
        struct pawl_publisher_run run = {.id = place->publisher.id};
        uint64_t end = place->publisher.last_sequence + 1;
        if (!detail)
            continue;
        if (cursor[1] == 0)
            cursor[1] = upto_of(place) + 1;
        while (cursor[1] <= end && next_run(place, cursor[1], &run.first, &run.last)) {
            if (n == most)
                return n;
            out[n++] = run;
            cursor[1] = run.last + 1;
        }
        cursor[1] = cursor[1] <= end ? end + 1 : cursor[1];
        for (; cursor[1] - end - 1 < detail->part_count; cursor[1]++) {
            const struct part *part = &detail->parts[cursor[1] - end - 1];
            if (part->memory)
                continue;
            if (n == most)
                return n;
            out[n++] = (struct pawl_publisher_run){.id = place->publisher.id,
                                                   .first = part->sequence,
                                                   .last = part->sequence,
                                                   .event_id = part->event_id,
                                                   .queue = part->queue};
        }
    }
    return n;
}

int pawl_publishers_load_run(struct pawl_publishers *publishers, const struct pawl_publisher_run *run)
{
    struct pawl_publisher_place *place = place_of(publishers, run->id);
    if (!place)
        return 0;
    if (run->first == 0 || run->first > run->last || run->last > PAWL_PUBLISHER_SEQUENCE_MAX)
        return PAWL_E_DAMAGED;
    struct part part = {.sequence = run->first, .event_id = run->event_id, .queue = run->queue};
    int error = run->queue ? add_part(publishers, place, &part)
                           : add(publishers, place, run->first, run->last, false);
    return error == PAWL_E_LIMIT ? 0 : error;
}

size_t pawl_publishers_memory(const struct pawl_publishers *publishers)
{
    size_t bytes =
        publishers->room * sizeof *publishers->places + publishers->index_room * sizeof *publishers->index;
    for (uint32_t i = 0; i < publishers->count; i++) {
        const struct detail *detail = publishers->places[i].detail;
        if (detail)
            bytes += sizeof *detail + pawl_seqset_memory(&detail->done) +
                     pawl_seqset_memory(&detail->memory) + detail->part_room * sizeof *detail->parts;
    }
    return bytes;
}
