/*
 * journal_room.c - a full disk: who is refused, what is kept in reserve, how records move on.
 *
 * Runs in: the scheduler. A full disk is not a failure: nothing that was confirmed is touched, nothing that
 * was appended is lost; it waits in memory, and moves with its lsns into the reserve, then into whatever room
 * there is again. States: journal.h, enum pawl_journal_room.
 */
#include "scheduler/journal_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <fcntl.h>
#include <sys/stat.h>

#include "shm/error.h"

enum {
    ROOM_CHECK_BYTES = 256 << 10, /* taken between two looks at the free space */
    MARGIN_BYTES = 1 << 20,       /* those, zeros written ahead, padding, a segment's header */
    AMPLE_BYTES = 1 << 30,        /* nobody fills these between two looks */
    BACK_BYTES = 2 << 20,         /* beyond what is needed, before work is taken again */
    RESERVE_AFTER_BYTES = 1 << 20,
    RETRY_NS = 1000000000,
    REFUSALS_AT_ONCE = PAWL_JOURNAL_RESERVE_FILES, /* then the disk is asked once in RETRY_NS */
    MOVES_LEAVE_FILES = PAWL_JOURNAL_RESERVE_FILES / 2,
    ACTS_LEAVE_FILES = MOVES_LEAVE_FILES + 1, /* so that what they made can still be moved together */
};

#define ALL_FILES ((1u << PAWL_JOURNAL_RESERVE_FILES) - 1)

void pawl_journal_set_room(struct pawl_journal *journal, enum pawl_journal_room room)
{
    static const char *const texts[] = {
        [PAWL_JOURNAL_ROOMY] = "there is room for new work again",
        [PAWL_JOURNAL_TIGHT] = "the disk is full (" PAWL_RESERVE_WORDS "): new work is refused",
        [PAWL_JOURNAL_FULL] = "the disk is full and so is the reserve: results wait in memory",
    };
    if (journal->room == room)
        return;
    journal->room = room;
    if (journal->options.on_room)
        journal->options.on_room(journal->options.ctx, room);
    else
        pawl_journal_notice(journal, "%s", texts[room]);
}

enum pawl_journal_room pawl_journal_room(const struct pawl_journal *journal)
{
    return journal->room;
}

void pawl_reserve_name(char name[static PAWL_SEGMENT_NAME_BYTES], uint32_t index)
{
    snprintf(name, PAWL_SEGMENT_NAME_BYTES, "reserve.%u", index + 1);
}

/* Allocated, not synced: if a crash forgets it, the next start makes it again. */
int pawl_journal_make_reserve(struct pawl_journal *journal)
{
    for (uint32_t i = 0; i < PAWL_JOURNAL_RESERVE_FILES; i++) {
        if (journal->reserve_mask & 1u << i)
            continue;
        char name[PAWL_SEGMENT_NAME_BYTES];
        pawl_reserve_name(name, i);
        int fd = pawl_io_file_open(journal->io, journal->dir_fd, name, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (fd < 0)
            return fd;
        int error = pawl_io_file_allocate(journal->io, fd, journal->options.reserve_bytes);
        pawl_io_file_close(journal->io, fd);
        if (error == -EOPNOTSUPP)
            error = 0; /* a file system that promises nothing: free space is asked for instead */
        if (error) {
            pawl_io_file_unlink(journal->io, journal->dir_fd, name);
            return error;
        }
        journal->reserve_mask |= 1u << i;
    }
    return 0;
}

void pawl_journal_drop_reserve(struct pawl_journal *journal)
{
    for (uint32_t i = 0; i < PAWL_JOURNAL_RESERVE_FILES; i++) {
        char name[PAWL_SEGMENT_NAME_BYTES];
        pawl_reserve_name(name, i);
        if (journal->reserve_mask & 1u << i)
            pawl_io_file_unlink(journal->io, journal->dir_fd, name);
    }
    journal->reserve_mask = 0;
}

static bool is_as_a_reserve_file(const struct pawl_journal *journal, const struct stat *st)
{
    return (uint64_t)st->st_size >= journal->options.reserve_bytes &&
           (uint64_t)st->st_blocks * 512 >= journal->options.reserve_bytes;
}

/* Space that becomes free on a full disk goes to whoever is first: what is ours already is kept as it is. */
int pawl_journal_retire(struct pawl_journal *journal, const char *name)
{
    uint32_t missing = ALL_FILES & ~journal->reserve_mask;
    struct stat st;
    int fd = missing ? pawl_io_file_open(journal->io, journal->dir_fd, name, O_RDWR, 0) : -ENOENT;
    bool fits = fd >= 0 && fstat(fd, &st) == 0 && is_as_a_reserve_file(journal, &st);
    if (fits) {
        uint32_t index = (uint32_t)__builtin_ctz(missing);
        char reserve[PAWL_SEGMENT_NAME_BYTES];
        pawl_reserve_name(reserve, index);
        fits = pawl_io_file_rename(journal->io, journal->dir_fd, name, reserve) == 0;
        journal->reserve_mask |= fits ? 1u << index : 0;
    }
    if (fits && (uint64_t)st.st_size > journal->options.reserve_bytes)
        (void)pawl_io_file_truncate(journal->io, fd, journal->options.reserve_bytes);
    if (fd >= 0)
        pawl_io_file_close(journal->io, fd);
    return fits ? 0 : pawl_io_file_unlink(journal->io, journal->dir_fd, name);
}

int pawl_journal_take_reserve(struct pawl_journal *journal, const char *name)
{
    for (uint32_t i = PAWL_JOURNAL_RESERVE_FILES; i-- > 0;) {
        if (!(journal->reserve_mask & 1u << i))
            continue;
        char from[PAWL_SEGMENT_NAME_BYTES];
        pawl_reserve_name(from, i);
        journal->reserve_mask &= ~(1u << i);
        return pawl_io_file_rename(journal->io, journal->dir_fd, from, name);
    }
    return -ENOENT;
}

void pawl_journal_lend_reserve(struct pawl_journal *journal, bool anyway)
{
    uint64_t room = 0, snapshot = journal->newest_snapshot_bytes + journal->newest_snapshot_bytes / 4;
    (void)pawl_io_file_room(journal->io, journal->dir_fd, &room);
    bool fits = snapshot <= room + (journal->reserve_mask ? journal->options.reserve_bytes : 0);
    if (journal->room == PAWL_JOURNAL_TIGHT && (anyway || !fits))
        pawl_journal_drop_reserve(journal);
}

static bool reserve_is_whole(const struct pawl_journal *journal)
{
    return journal->reserve_mask == ALL_FILES;
}

/* Free space without which work is refused: all that was taken up must find room beside the reserve, and then
 * a snapshot of it. A short-lived journal never allocates its reserve; the free space stands in for it. */
static uint64_t room_needed(const struct pawl_journal *journal, uint64_t bytes)
{
    uint64_t missing = (uint64_t)__builtin_popcount(ALL_FILES & ~journal->reserve_mask);
    uint64_t snapshot = journal->newest_snapshot_bytes + journal->newest_snapshot_bytes / 4;
    uint64_t written = journal->snapshot.byte_offset; /* of the next one: that much is taken already */
    return journal->pending_bytes + bytes + MARGIN_BYTES + missing * journal->options.reserve_bytes +
           (snapshot > written ? snapshot - written : 0);
}

static int look_for_room(struct pawl_journal *journal, uint64_t needed)
{
    uint64_t room;
    int error = pawl_io_file_room(journal->io, journal->dir_fd, &room);
    if (error == 0 && room < needed && journal->recycled_count > 0) { /* these are worth less */
        pawl_journal_drop_recycled(journal);
        error = pawl_io_file_room(journal->io, journal->dir_fd, &room);
    }
    journal->room_is_ample = error == 0 && room >= AMPLE_BYTES;
    return error ? error : room < needed ? -ENOSPC : 0;
}

/* What else than a full disk keeps the reserve from being made (no descriptor is left, say) is none: the free
 * space stands in for it, and it is tried again. */
static int secure(struct pawl_journal *journal)
{
    int error = pawl_journal_make_reserve(journal);
    if (error == 0 || pawl_io_is_room_error(error))
        return error;
    if (error != journal->reserve_error)
        pawl_journal_notice(journal, "journal: the reserve for a full disk cannot be made: %s",
                            pawl_error_text(error));
    journal->reserve_error = error;
    return 0;
}

static int check_free_space(struct pawl_journal *journal, uint64_t bytes)
{
    uint64_t taken = journal->stats.bytes + journal->pending_bytes;
    if (journal->room_checked_at_bytes && taken + bytes < journal->room_checked_at_bytes + ROOM_CHECK_BYTES)
        return 0;
    int error = 0;
    if (!reserve_is_whole(journal) && journal->appended_bytes >= RESERVE_AFTER_BYTES)
        error = secure(journal);
    if (error == 0)
        error = look_for_room(journal, room_needed(journal, bytes));
    if (error == 0)
        journal->room_checked_at_bytes = taken + 1;
    return error;
}

bool pawl_journal_is_behind(const struct pawl_journal *journal)
{
    return journal->room == PAWL_JOURNAL_ROOMY && !journal->room_is_ample &&
           journal->pending_bytes >= PAWL_JOURNAL_RESERVE_FILES * journal->options.reserve_bytes / 4;
}

/* What of the reserve is free, or is a snapshot now, that comes back to it: two segments and three snapshots
 * are what settlements need to go on without end, one of the segments is there. */
static uint32_t circling_files(const struct pawl_journal *journal)
{
    uint32_t count = (uint32_t)__builtin_popcount(journal->reserve_mask);
    char name[PAWL_SEGMENT_NAME_BYTES] = "snapshot.new";
    struct stat st;
    for (uint32_t i = 0; i <= journal->snapshot_count; i++) {
        if (i > 0)
            pawl_snapshot_name(name, journal->snapshots[i - 1].number);
        count += fstatat(journal->dir_fd, name, &st, 0) == 0 && is_as_a_reserve_file(journal, &st);
    }
    return count;
}

bool pawl_journal_is_pressed(const struct pawl_journal *journal)
{
    return journal->room == PAWL_JOURNAL_TIGHT &&
           (__builtin_popcount(journal->reserve_mask) <= PAWL_JOURNAL_RESERVE_FILES / 2 ||
            circling_files(journal) <= ACTS_LEAVE_FILES + 1);
}

/* On a full disk: is there room for so many bytes that stay, beside @files of the reserve, for what does not?
 */
static bool leaves(const struct pawl_journal *journal, uint32_t files, uint64_t bytes)
{
    uint64_t file = journal->options.reserve_bytes, snapshot = journal->newest_snapshot_bytes * 5 / 4;
    uint64_t kept = files * file + (snapshot > file ? snapshot - file : 0);
    return journal->room == PAWL_JOURNAL_TIGHT &&
           kept + journal->pending_bytes + bytes <= circling_files(journal) * file;
}

bool pawl_journal_may_move(struct pawl_journal *journal, uint32_t segment, uint64_t bytes)
{
    const struct journal_segment *from = pawl_segment_find(journal, segment);
    return from && bytes <= journal->options.reserve_bytes && bytes <= from->bytes / 4 &&
           leaves(journal, MOVES_LEAVE_FILES, bytes);
}

bool pawl_journal_first_fits(const struct pawl_journal *journal)
{
    uint64_t room, bytes = journal->first ? pawl_frame_bytes(journal->first->record_bytes) : 0;
    return pawl_io_file_room(journal->io, journal->dir_fd, &room) != 0 ||
           room >= PAWL_SEGMENT_HEADER_BYTES + bytes;
}

void pawl_journal_refill_reserve(struct pawl_journal *journal)
{
    uint64_t room;
    if (journal->room == PAWL_JOURNAL_TIGHT && !reserve_is_whole(journal) &&
        pawl_io_file_room(journal->io, journal->dir_fd, &room) == 0 && room >= journal->options.reserve_bytes)
        (void)pawl_journal_make_reserve(journal);
}

void pawl_journal_trim_previous(struct pawl_journal *journal)
{
    if (journal->segment_count < 2)
        return;
    const struct journal_segment *previous = &journal->segments[journal->segment_count - 2];
    if (look_for_room(journal, room_needed(journal, 0)) != 0)
        (void)pawl_io_file_truncate(journal->io, previous->lock_fd, previous->bytes);
}

bool pawl_journal_is_secure(const struct pawl_journal *journal)
{
    return journal->failed || journal->room != PAWL_JOURNAL_ROOMY || reserve_is_whole(journal);
}

void pawl_journal_secure(struct pawl_journal *journal)
{
    if (!pawl_journal_is_secure(journal) && secure(journal) != 0)
        pawl_journal_set_room(journal, PAWL_JOURNAL_TIGHT);
}

/* A frame must fit into one file of the reserve, whatever else is in it. */
static bool may_spend(const struct pawl_journal *journal, uint64_t bytes)
{
    uint64_t frame = bytes + journal->options.frame_bytes + PAWL_SEGMENT_HEADER_BYTES + PAWL_BLOCK_BYTES;
    return frame <= journal->options.reserve_bytes && leaves(journal, ACTS_LEAVE_FILES, bytes);
}

int pawl_journal_has_room(struct pawl_journal *journal, uint64_t bytes, enum pawl_journal_reserve reserve)
{
    if (journal->failed)
        return journal->failed;
    uint64_t limit = journal->options.pending_bytes_max;
    if (reserve == PAWL_JOURNAL_FOR_RESULTS) {
        if (journal->room == PAWL_JOURNAL_FULL)
            return PAWL_E_NO_SPACE;
        return journal->pending_bytes + bytes > 2 * limit ? PAWL_E_LIMIT : 0;
    }
    if (reserve == PAWL_JOURNAL_FOR_ACTS && may_spend(journal, bytes))
        return 0;
    if (journal->room != PAWL_JOURNAL_ROOMY)
        return PAWL_E_NO_SPACE;
    if (journal->pending_bytes + bytes > (bytes > limit / 2 ? bytes + limit / 2 : limit))
        return PAWL_E_LIMIT;
    if (check_free_space(journal, bytes) != 0) {
        pawl_journal_set_room(journal, PAWL_JOURNAL_TIGHT);
        return PAWL_E_NO_SPACE;
    }
    return 0;
}

/* Before anything is moved: either all frames move or none. */
static int make_moves(struct pawl_journal *journal)
{
    uint32_t count = journal->move_count;
    for (const struct journal_frame *frame = journal->first; frame; frame = frame->next)
        count++;
    if (count <= journal->move_max)
        return 0;
    uint32_t max = count < 8 ? 16 : count * 2;
    struct journal_move *grown = realloc(journal->moves, max * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    journal->moves = grown;
    journal->move_max = max;
    return 0;
}

static void note_move(struct pawl_journal *journal, const struct journal_frame *frame, uint32_t to_segment,
                      uint64_t to)
{
    const struct journal_move *last = journal->move_count ? &journal->moves[journal->move_count - 1] : NULL;
    if (journal->options.on_move &&
        (!last || last->from_segment != frame->segment || last->to_segment != to_segment))
        journal->options.on_move(journal->options.ctx, frame->segment, to_segment);
    /* An open frame may still grow: its move covers all that it can become. */
    journal->moves[journal->move_count++] = (struct journal_move){
        .from_segment = frame->segment,
        .to_segment = to_segment,
        .from = frame->byte_offset,
        .to = to,
        .bytes = frame->state == FRAME_OPEN ? PAWL_FRAME_BYTES_MAX : pawl_frame_bytes(frame->record_bytes),
    };
}

/* Every frame that is not durable gets a place in segments whose numbers were never planned before, so that a
 * place given earlier means one thing only. */
static int plan_again(struct pawl_journal *journal)
{
    uint32_t segment = journal->plan_segment + 1;
    uint64_t at = PAWL_SEGMENT_HEADER_BYTES;
    uint64_t limit =
        journal->room == PAWL_JOURNAL_ROOMY ? journal->options.segment_bytes : journal->options.reserve_bytes;
    int error = make_moves(journal);
    if (error)
        return error;
    for (struct journal_frame *frame = journal->first; frame; frame = frame->next) {
        uint64_t bytes = pawl_frame_bytes(frame->record_bytes);
        bool beyond =
            journal->room != PAWL_JOURNAL_ROOMY && at + bytes > limit; /* of a file of the reserve */
        if (at >= limit || (beyond && at > PAWL_SEGMENT_HEADER_BYTES)) {
            segment++;
            at = PAWL_SEGMENT_HEADER_BYTES;
        }
        note_move(journal, frame, segment, at);
        if (frame->state == FRAME_DONE)
            frame->state = FRAME_CUT;
        frame->segment = segment;
        frame->byte_offset = at;
        if (frame->state != FRAME_OPEN)
            at += bytes;
    }
    journal->plan_segment = segment;
    journal->plan_byte_offset = at;
    journal->plan_limit = limit;
    return 0;
}

/* One that is being written says where the records lay before: only this life knows where they lie now. */
static void give_snapshot_up(struct pawl_journal *journal)
{
    struct snapshot_writer *writer = &journal->snapshot;
    if (writer->state != SNAPSHOT_NONE && writer->error == 0 && journal->first &&
        journal->first->first_lsn <= writer->lsn)
        writer->error = -ECANCELED;
}

/* A new segment took its header, and then refused its first frame as those before did; no file is left that
 * is ours already. */
static bool is_stuck(const struct pawl_journal *journal)
{
    return journal->refused_count > REFUSALS_AT_ONCE && journal->end == PAWL_SEGMENT_HEADER_BYTES &&
           journal->reserve_mask == 0 && journal->recycled_count == 0 && journal->first &&
           journal->first->state == FRAME_DONE && journal->first->segment == journal->current.number;
}

/* One segment after the other would be no better: the same frames go to the same places again. */
static void try_in_place(struct pawl_journal *journal)
{
    const struct journal_segment *current = &journal->segments[journal->segment_count - 1];
    for (struct journal_frame *frame = journal->first; frame; frame = frame->next)
        if (frame->state == FRAME_DONE)
            frame->state = FRAME_CUT;
    pawl_extent_begin(journal, current->lock_fd, false);
    journal->stalled = false;
    pawl_journal_submit(journal);
}

/* The head of the window found no space. Nothing is in flight any more, and nothing goes to this segment
 * again: what a short write left behind its end is room for the next. A file of the reserve of which some is
 * used stays whole, to be one again. */
void pawl_journal_rescue(struct pawl_journal *journal)
{
    const struct journal_segment *current = &journal->segments[journal->segment_count - 1];
    if (is_stuck(journal)) {
        pawl_journal_set_room(journal, PAWL_JOURNAL_FULL);
        return;
    }
    if (journal->end == PAWL_SEGMENT_HEADER_BYTES || journal->end > journal->options.reserve_bytes)
        (void)pawl_io_file_truncate(journal->io, current->lock_fd, journal->end);
    if (journal->room == PAWL_JOURNAL_ROOMY)
        pawl_journal_set_room(journal, PAWL_JOURNAL_TIGHT);
    journal->refused_count++;
    if (plan_again(journal) != 0) {
        pawl_journal_set_room(journal, PAWL_JOURNAL_FULL);
        return;
    }
    give_snapshot_up(journal);
    journal->stalled = false;
    pawl_journal_submit(journal);
}

uint64_t pawl_journal_resolve(const struct pawl_journal *journal, uint64_t place)
{
    /* Each rescue moves frames in their order, out of segments whose numbers are above all that were moved
     * out of before: so the list rises by where it leads from. A record may have moved more than once. */
    for (uint32_t first = 0;;) {
        uint32_t low = first, high = journal->move_count;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            const struct journal_move *move = &journal->moves[middle];
            if (((uint64_t)move->from_segment << 32 | move->from) <= place)
                low = middle + 1;
            else
                high = middle;
        }
        if (low == first)
            return place;
        const struct journal_move *move = &journal->moves[low - 1];
        uint64_t in_move = place - ((uint64_t)move->from_segment << 32 | move->from);
        if (in_move >= move->bytes)
            return place;
        place = (uint64_t)move->to_segment << 32 | (move->to + in_move);
        first = low;
    }
}

/* Return: when to come again. */
uint64_t pawl_journal_tick_room(struct pawl_journal *journal, uint64_t now_ns)
{
    if (journal->failed || journal->room == PAWL_JOURNAL_ROOMY)
        return UINT64_MAX;
    if (journal->retry_at_ns == 0)
        journal->retry_at_ns = now_ns + RETRY_NS;
    if (now_ns < journal->retry_at_ns)
        return journal->retry_at_ns;
    journal->retry_at_ns = now_ns + RETRY_NS;

    bool enough = look_for_room(journal, room_needed(journal, BACK_BYTES)) == 0;
    if (enough && journal->refused_count == 0 && secure(journal) == 0) {
        pawl_journal_set_room(journal, PAWL_JOURNAL_ROOMY);
        journal->retry_at_ns = 0;
    }
    pawl_journal_refill_reserve(journal); /* as far as it goes: what waits for nothing is kept from others */
    if (journal->in_flight == 0 && is_stuck(journal))
        try_in_place(journal);
    else if (journal->in_flight == 0 && journal->first && journal->first->state == FRAME_DONE)
        pawl_journal_rescue(journal);
    else
        pawl_journal_submit(journal);
    return journal->room == PAWL_JOURNAL_ROOMY ? UINT64_MAX : journal->retry_at_ns;
}
