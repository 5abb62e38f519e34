/*
 * publishers.h - which sequence numbers of each publisher were dealt with: what it sends again after a
 * reconnect is known.
 *
 *   1 .. upto: all of them, on disk     above: a bitmap, since an earlier one may still wait for room, may
 * have been refused, or was in memory only and went with its scheduler
 *
 * A client never waits for the answers of more than PAWL_UNCONFIRMED_MAX publishes: what lies further back
 * was answered, and takes no memory. A publish that some of its queues have while others make it wait is
 * known by its parts.
 *
 * Bounded: when all places are taken, the one that has been idle longest gives way, if it has been so for the
 * dedupe window's age; else a new publisher is refused. The results of old publishes are not kept.
 *
 * Runs in: scheduler. Pure: the wall clock is passed in, since the table survives restarts.
 */
#ifndef PAWL_SCHEDULER_BUS_PUBLISHERS_H
#define PAWL_SCHEDULER_BUS_PUBLISHERS_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PAWL_PUBLISHERS_MAX = 65536,
    PAWL_PUBLISHER_PARTS_MAX = 1 << 18, /* of all publishers together */
};

#define PAWL_PUBLISHER_SEQUENCE_MAX (UINT64_MAX >> 1)

struct pawl_publisher { /* stored in snapshots */
    uint64_t id;
    uint64_t last_sequence; /* there: all up to it are on disk. In the table: the highest that is known */
    uint64_t seen_realtime_ns;
};
static_assert(sizeof(struct pawl_publisher) == 24, "snapshot format");

/* Stored in snapshots: @first..@last were dealt with; @queue not 0: one publish, for that queue only, as
 * event
 * @event_id. */
struct pawl_publisher_run {
    uint64_t id;
    uint64_t first, last;
    uint64_t event_id;
    uint32_t queue;
    uint32_t reserved;
};
static_assert(sizeof(struct pawl_publisher_run) == 40, "snapshot format");

struct pawl_publisher_place;

struct pawl_publishers {
    uint32_t most;
    uint64_t age_ns;
    uint32_t count, room;
    struct pawl_publisher_place *places; /* a list by last use runs through them */
    uint32_t oldest, newest;
    uint32_t *index; /* open addressing: place + 1, 0: none */
    uint32_t index_room;
    uint32_t parts; /* known, of all publishers */
};

void pawl_publishers_init(struct pawl_publishers *publishers, uint32_t most, uint64_t age_ns);
void pawl_publishers_fini(struct pawl_publishers *publishers);

/** pawl_publishers_last - the highest sequence that is known of @id; 0: nothing is. */
uint64_t pawl_publishers_last(const struct pawl_publishers *publishers, uint64_t id);

/** pawl_publishers_upto - all sequences of @id up to this one are on disk, given that it is so up to
 * @durable_lsn. */
uint64_t pawl_publishers_upto(const struct pawl_publishers *publishers, uint64_t id, uint64_t durable_lsn);

/** pawl_publishers_find - was @sequence dealt with? *memory_out: in memory only. */
bool pawl_publishers_find(const struct pawl_publishers *publishers, uint64_t id, uint64_t sequence,
                          bool *memory_out);

/**
 * pawl_publishers_note - @first..@last of @id were dealt with; their parts are forgotten
 * @first: above @last: only that it was seen
 * @lsn:   of the record that says so; 0: in memory only
 *
 * Return: 0; PAWL_E_DAMAGED (beyond PAWL_PUBLISHER_SEQUENCE_MAX); PAWL_E_LIMIT (no place, and none idle long
 * enough); -ENOMEM.
 */
int pawl_publishers_note(struct pawl_publishers *publishers, uint64_t id, uint64_t first, uint64_t last,
                         uint64_t realtime_ns, uint64_t lsn);

/** pawl_publishers_note_part - the same for one queue of one publish, which became event @event_id; twice is
 * as once. PAWL_E_LIMIT also: there are PAWL_PUBLISHER_PARTS_MAX. */
int pawl_publishers_note_part(struct pawl_publishers *publishers, uint64_t id, uint64_t sequence,
                              uint32_t queue, uint64_t event_id, uint64_t realtime_ns, uint64_t lsn);

/** pawl_publishers_has_part - is @sequence dealt with for this queue (0: for any)? *event_id_out, if so. */
bool pawl_publishers_has_part(const struct pawl_publishers *publishers, uint64_t id, uint64_t sequence,
                              uint32_t queue, uint64_t *event_id_out);

/** pawl_publishers_part_of - of which publish is this event, if some of its queues are still without it?
 * Looks at those who published last first. */
bool pawl_publishers_part_of(const struct pawl_publishers *publishers, uint64_t event_id, uint64_t *id_out,
                             uint64_t *sequence_out);

/**
 * pawl_publishers_save - copy the next publishers, least lately seen first; load them with note() from 1 on
 * in that order
 * @cursor: 0 first. No note() between the pieces of one walk: take all of it at one moment.
 *
 * Return: how many; 0: that was all.
 */
size_t pawl_publishers_save(const struct pawl_publishers *publishers, uint64_t *cursor,
                            struct pawl_publisher *out, size_t most);

/** pawl_publishers_save_runs - what save() cannot say, in the same manner: what is on disk above a hole. Load
 * it with load_run() after the publishers. @cursor: {0, 0} first. */
size_t pawl_publishers_save_runs(const struct pawl_publishers *publishers, uint64_t cursor[2],
                                 struct pawl_publisher_run *out, size_t most);
/** pawl_publishers_load_run - 0; -ENOMEM; PAWL_E_DAMAGED. Of a publisher that is not known: nothing. */
int pawl_publishers_load_run(struct pawl_publishers *publishers, const struct pawl_publisher_run *run);

size_t pawl_publishers_memory(const struct pawl_publishers *publishers); /* bytes allocated */

#endif
