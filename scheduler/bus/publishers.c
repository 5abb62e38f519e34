/*
 * publishers.c - a hash table with a list by last use. Runs in: scheduler. Reads no clock.
 */
#include "scheduler/bus/publishers.h"

#include <errno.h>
#include <stdlib.h>

#include "shm/error.h"

enum { ROOM_MIN = 16 };
#define NOWHERE UINT32_MAX

struct pawl_publisher_place {
    struct pawl_publisher publisher;
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

void pawl_publishers_fini(struct pawl_publishers *publishers)
{
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

uint64_t pawl_publishers_last(const struct pawl_publishers *publishers, uint64_t id)
{
    uint32_t found = publishers->index_room > 0 ? publishers->index[slot_for(publishers, id)] : 0;
    return found ? publishers->places[found - 1].publisher.last_sequence : 0;
}

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
    unlink_place(publishers, oldest);
    *place_out = oldest;
    return 0;
}

int pawl_publishers_note(struct pawl_publishers *publishers, uint64_t id, uint64_t sequence,
                         uint64_t realtime_ns)
{
    uint32_t place, found = publishers->index_room > 0 ? publishers->index[slot_for(publishers, id)] : 0;
    if (found) {
        place = found - 1;
        struct pawl_publisher *p = &publishers->places[place].publisher;
        if (sequence > p->last_sequence)
            p->last_sequence = sequence;
        if (realtime_ns > p->seen_realtime_ns)
            p->seen_realtime_ns = realtime_ns;
        unlink_place(publishers, place);
    } else {
        int error = take_place(publishers, realtime_ns, &place);
        if (error)
            return error;
        publishers->places[place].publisher =
            (struct pawl_publisher){.id = id, .last_sequence = sequence, .seen_realtime_ns = realtime_ns};
        publishers->index[slot_for(publishers, id)] = place + 1;
    }
    link_newest(publishers, place);
    return 0;
}

size_t pawl_publishers_save(const struct pawl_publishers *publishers, uint64_t *cursor,
                            struct pawl_publisher *out, size_t most)
{
    /* The place that is next, and 1; beyond the last: the end. */
    uint32_t place = *cursor == 0                  ? publishers->oldest
                     : *cursor > publishers->count ? NOWHERE
                                                   : (uint32_t)(*cursor - 1);
    size_t n = 0;
    for (; n < most && place != NOWHERE; place = publishers->places[place].newer)
        out[n++] = publishers->places[place].publisher;
    *cursor = place == NOWHERE ? UINT64_MAX : (uint64_t)place + 1;
    return n;
}

size_t pawl_publishers_memory(const struct pawl_publishers *publishers)
{
    return publishers->room * sizeof *publishers->places + publishers->index_room * sizeof *publishers->index;
}
