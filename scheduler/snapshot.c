/*
 * snapshot.c - writes the core's state through the journal, and releases what it covers.
 *
 * Runs in: scheduler.
 */
#include "scheduler/snapshot.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/clock.h"
#include "shm/error.h"

enum {
    SNAPSHOT_BYTES = 64 << 20,
    CLOSE_BYTES = 8 << 20, /* before a close it is worth one earlier: nobody waits */
    CLOSE_RECORDS = 20000,
    COMPACT_BEHIND = 3, /* segments: younger ones may die by themselves */
    COMPACT_BYTES = 4 << 20,
    RECLAIM_BYTES = 256 << 20,
    RECLAIM_SEGMENTS = 3,
    MANY_SEGMENTS = 32, /* each is a descriptor: a start after a crash begins one, however little is in it */
};

enum { LARGE_BYTES = 8 << 20 }; /* of a snapshot: not written every two seconds */

#define AGAIN_NS   UINT64_C(10000000000)
#define RECLAIM_NS UINT64_C(2000000000)
#define LONG_NS    UINT64_C(20000000)

enum { CLOCKS_MAGIC = 0x4b4c4350 /* "PCLK" */ };

struct clocks_chunk {
    uint32_t magic, reserved;
    uint64_t realtime_ns, boottime_ns;
    uint8_t boot_id[16];
};
static_assert(sizeof(struct clocks_chunk) == 40, "snapshot format");

static struct clocks_chunk clocks_of(struct pawl_now now)
{
    struct clocks_chunk clocks = {
        .magic = CLOCKS_MAGIC, .realtime_ns = now.realtime_ns, .boottime_ns = now.boottime_ns};
    (void)pawl_clock_boot_id(clocks.boot_id); /* else zeros: nobody can say whose it is */
    return clocks;
}

bool pawl_snapshot_clocks(const void *chunk, size_t bytes, struct pawl_now *when_out)
{
    struct clocks_chunk clocks;
    uint8_t boot_id[16];
    if (bytes != sizeof clocks)
        return false;
    memcpy(&clocks, chunk, sizeof clocks);
    if (clocks.magic != CLOCKS_MAGIC)
        return false;
    (void)pawl_clock_boot_id(boot_id); /* else zeros */
    const struct pawl_now written = {.boottime_ns = clocks.boottime_ns, .realtime_ns = clocks.realtime_ns};
    *when_out = pawl_now_of_boot(written, clocks.boot_id, boot_id, pawl_clock_boottime_ns());
    return true;
}

/* Completions that run meanwhile only set flags; no input reaches the cores. */
static int write_chunk(struct pawl_loop *loop, const void *chunk, size_t bytes)
{
    int error;
    while ((error = pawl_journal_snapshot_append(loop->journal, chunk, bytes)) == -EAGAIN)
        if ((error = pawl_io_wait(loop->io, UINT64_MAX)) < 0)
            break;
    return error;
}

static int write_chunks(struct pawl_loop *loop)
{
    void *cursor = NULL;
    const void *chunk;
    size_t bytes;
    struct clocks_chunk clocks = clocks_of(loop->now);
    int error = write_chunk(loop, &clocks, sizeof clocks), more;

    while ((more = pawl_core_snapshot_next(loop->core, loop->now, &cursor, &chunk, &bytes)) > 0)
        if (!error) /* else the iterator is run to its end: it frees itself there */
            error = write_chunk(loop, chunk, bytes);
    if (more < 0)
        return more;
    cursor = NULL;
    while ((more = pawl_bus_snapshot_next(loop->bus, loop->now, &cursor, &chunk, &bytes)) > 0)
        if (!error)
            error = write_chunk(loop, chunk, bytes);
    return more < 0 ? more : error;
}

static void try_again(struct pawl_loop *loop, int error)
{
    bool full = pawl_io_is_room_error(error) && pawl_journal_room(loop->journal) != PAWL_JOURNAL_ROOMY;
    bool at_once = (full && !loop->full_lend) || error == -ECANCELED; /* its records were moved meanwhile */
    loop->snapshot_at_ns = loop->now.boottime_ns + (at_once ? 0 : AGAIN_NS);
    loop->full_lend = full;
    loop->full_again = false;
    loop->full_at_ns = 0;
}

static void begin(struct pawl_loop *loop)
{
    uint64_t from_ns = pawl_clock_monotonic_ns();
    int error = pawl_journal_snapshot_begin(loop->journal, pawl_journal_last_lsn(loop->journal));
    if (!error) {
        error = write_chunks(loop);
        if (!error)
            error = pawl_journal_snapshot_commit(loop->journal);
        if (error)
            pawl_journal_snapshot_abort(loop->journal);
    }
    if (error) {
        pawl_log(PAWL_LOG_WARNING, "no snapshot could be written: %s", pawl_error_text(error));
        try_again(loop, error);
        return;
    }
    loop->snapshotting = true;
    uint64_t took_ns = pawl_clock_monotonic_ns() - from_ns;
    if (took_ns > LONG_NS)
        pawl_log(PAWL_LOG_INFO, "a snapshot held decisions up for %llu ms",
                 (unsigned long long)(took_ns / 1000000));
}

/* Which segments hold what somebody still wants: looked up once, for all of them. */
struct pins {
    const struct pawl_loop *loop;
    uint32_t first, count;
    uint8_t *marks; /* NULL: no memory, all are pinned */
};

static void find_pins(const struct pawl_loop *loop, struct pins *pins)
{
    pins->loop = loop;
    pins->first = pawl_journal_first_segment(loop->journal);
    pins->count = pawl_journal_current_segment(loop->journal) - pins->first + 1;
    pins->marks = calloc(pins->count, 1);
    if (pins->marks)
        pawl_bus_mark_pinned(loop->bus, pins->first, pins->marks, pins->count);
}

static bool is_pinned(void *ctx, uint32_t segment_number)
{
    const struct pins *pins = ctx;
    return !pins->marks || segment_number < pins->first || segment_number - pins->first >= pins->count ||
           pins->marks[segment_number - pins->first] ||
           pawl_core_segment_pinned(pins->loop->core, segment_number);
}

/* Segments that only await being covered by two snapshots. @or_current: which end the current one. Those that
 * were released behind one that stays are none. */
static uint32_t dead_segments(const struct pawl_loop *loop, bool or_current)
{
    struct pins pins;
    uint32_t dead = 0;
    find_pins(loop, &pins);
    for (uint32_t i = 0; i + !or_current < pins.count; i++)
        dead += pawl_journal_has_segment(loop->journal, pins.first + i) && !is_pinned(&pins, pins.first + i);
    free(pins.marks);
    return dead;
}

static bool is_much(const struct pawl_journal_stats *stats)
{
    return stats->disk_bytes >= RECLAIM_BYTES || stats->segment_count >= MANY_SEGMENTS;
}

/* A backlog that was consumed leaves gigabytes that nothing but old snapshots holds on to: looked at some
 * time after the journal was last written to, not when all is quiet. */
static bool reclaim_is_due(struct pawl_loop *loop, const struct pawl_journal_stats *stats)
{
    uint64_t last_lsn = pawl_journal_last_lsn(loop->journal);
    if (!is_much(stats)) {
        loop->reclaim_at_ns = 0;
        return false;
    }
    if (loop->reclaim_at_ns == 0 && last_lsn == loop->reclaim_lsn)
        return false;
    if (loop->reclaim_at_ns == 0)
        loop->reclaim_at_ns = loop->now.boottime_ns + RECLAIM_NS;
    if (loop->now.boottime_ns < loop->reclaim_at_ns)
        return false;
    loop->reclaim_at_ns = 0;
    if (dead_segments(loop, false) < RECLAIM_SEGMENTS) {
        loop->reclaim_lsn = last_lsn;
        return false;
    }
    return true;
}

static bool is_worth_moving(void *ctx, uint32_t segment, uint64_t live_bytes)
{
    const struct pawl_loop *loop = ctx;
    return !pawl_core_segment_pinned(loop->core, segment) &&
           pawl_journal_may_move(loop->journal, segment, live_bytes);
}

/* On a full disk: a segment below @end of which so little lives that it is worth some of the reserve. 0:
 * none. */
static uint32_t worth_moving(struct pawl_loop *loop, uint32_t end)
{
    uint32_t first = pawl_journal_first_segment(loop->journal);
    return loop->serving ? pawl_bus_worth_moving(loop->bus, first, end, is_worth_moving, loop) : 0;
}

/* It may be the journal itself that fills the disk. What is settled by now, and the settlements themselves,
 * hold space that only a snapshot gives back. Where little of the reserve is left, each segment of it that
 * ends is looked at. A few events that stay are moved when a snapshot has ended their segment. */
static bool full_disk_is_due(struct pawl_loop *loop, const struct pawl_journal_stats *stats)
{
    uint32_t current = pawl_journal_current_segment(loop->journal);
    bool pressed = current != loop->full_segment && pawl_journal_is_pressed(loop->journal);
    if (pawl_journal_room(loop->journal) != PAWL_JOURNAL_TIGHT ||
        (loop->now.boottime_ns < loop->full_at_ns && !pressed))
        return false;
    uint64_t later_ns = loop->now.boottime_ns + RECLAIM_NS * (1 + stats->snapshot_bytes / LARGE_BYTES);
    bool may_end = pawl_journal_may_end_segment(loop->journal), dead = dead_segments(loop, may_end) > 0;
    loop->full_segment = current;
    if (loop->now.boottime_ns >= loop->look_at_ns) { /* not for the second of a pair */
        pawl_bus_look(loop->bus);
        loop->look_at_ns = later_ns;
    }
    /* Only two snapshots give a segment back: the second of a pair is written at once. */
    loop->full_again = dead && !loop->full_again;
    loop->full_at_ns = loop->full_again ? 0 : later_ns;
    if (!dead && worth_moving(loop, current + may_end) == 0)
        return false;
    pawl_journal_lend_reserve(loop->journal, loop->full_lend);
    return true;
}

void pawl_snapshot_turn(struct pawl_loop *loop)
{
    struct pawl_journal_stats stats;
    if (pawl_journal_room(loop->journal) != PAWL_JOURNAL_ROOMY) /* a loop that is never idle looks as well */
        (void)pawl_journal_idle(loop->journal, loop->now.boottime_ns);
    if (loop->snapshotting || loop->now.boottime_ns < loop->snapshot_at_ns)
        return;
    pawl_journal_stats(loop->journal, &stats);
    uint64_t limit = loop->options->snapshot_bytes ? loop->options->snapshot_bytes : SNAPSHOT_BYTES;
    /* A large state is not written again for little. */
    if (!loop->options->snapshot_bytes && limit < 4 * stats.snapshot_bytes)
        limit = 4 * stats.snapshot_bytes;
    if (stats.bytes_since_snapshot >= limit || reclaim_is_due(loop, &stats) || full_disk_is_due(loop, &stats))
        begin(loop);
}

uint64_t pawl_snapshot_due(const struct pawl_loop *loop)
{
    return loop->reclaim_at_ns ? loop->reclaim_at_ns : UINT64_MAX;
}

void pawl_snapshot_done(struct pawl_loop *loop, uint64_t lsn, int error)
{
    (void)lsn;
    loop->snapshotting = false;
    loop->replayed_count = 0;
    if (error) {
        pawl_log(PAWL_LOG_WARNING, "a snapshot did not become good: %s", pawl_error_text(error));
        try_again(loop, error);
        return;
    }
    if (!loop->full_again) /* of a pair, the second is as large */
        loop->full_lend = false;
    loop->release_due = true;
}

void pawl_snapshot_release(struct pawl_loop *loop)
{
    loop->release_due = false;
    uint32_t current = pawl_journal_current_segment(loop->journal);
    struct pins pins;
    find_pins(loop, &pins);
    (void)pawl_journal_release_before(loop->journal, current, is_pinned, &pins);
    free(pins.marks);
    /* What lives on in an old, mostly dead segment moves on; the segment goes when two snapshots know it. */
    bool moved = false;
    if (pawl_journal_room(loop->journal) == PAWL_JOURNAL_ROOMY) {
        moved = loop->serving && current > COMPACT_BEHIND &&
                pawl_bus_compact(loop->bus, loop->now, current - COMPACT_BEHIND, COMPACT_BYTES);
    } else {
        uint32_t segment = worth_moving(loop, current);
        moved = segment && pawl_bus_copy_forward(loop->bus, loop->now, segment, COMPACT_BYTES);
        loop->full_at_ns = moved ? 0 : loop->full_at_ns; /* it is dead now */
    }
    if (moved)
        pawl_loop_cut(loop);
}

/* Nothing is waited for that a full disk may never bring: what a snapshot covers is durable before. */
static void take_and_release(struct pawl_loop *loop)
{
    if (pawl_journal_sync(loop->journal) != 0)
        return;
    begin(loop);
    while (loop->snapshotting && !loop->journal_error)
        if (pawl_io_wait(loop->io, UINT64_MAX) < 0)
            return;
    if (!loop->journal_error && loop->release_due && pawl_journal_sync(loop->journal) == 0)
        pawl_snapshot_release(loop);
}

void pawl_snapshot_before_close(struct pawl_loop *loop)
{
    struct pawl_journal_stats stats;
    pawl_journal_stats(loop->journal, &stats);
    if (loop->journal_error || loop->snapshotting)
        return;
    if (is_much(&stats) && dead_segments(loop, false) >= RECLAIM_SEGMENTS) {
        take_and_release(loop);
        if (!loop->journal_error && !loop->snapshotting)
            take_and_release(loop);
        return;
    }
    if ((stats.bytes_since_snapshot < CLOSE_BYTES &&
         loop->replayed_count + stats.record_count < CLOSE_RECORDS))
        return;
    take_and_release(loop);
    /* Two are kept, and the older one still holds on to the log behind it. When all that was large is sealed,
     * a second small file gives that back. */
    pawl_journal_stats(loop->journal, &stats);
    if (!loop->journal_error && !loop->snapshotting && stats.disk_bytes >= 2 * (uint64_t)CLOSE_BYTES &&
        stats.snapshot_bytes <= stats.disk_bytes / 16)
        take_and_release(loop);
}
