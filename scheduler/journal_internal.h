/*
 * journal_internal.h - what the journal's files share among themselves. Nobody else includes this.
 */
#ifndef PAWL_SCHEDULER_JOURNAL_INTERNAL_H
#define PAWL_SCHEDULER_JOURNAL_INTERNAL_H

#include "scheduler/frame.h"
#include "scheduler/journal.h"

enum {
    PAWL_SEGMENT_NAME_BYTES = 32,
    PAWL_RECYCLED_MAX = 16,
    PAWL_JOURNAL_BLOCKS = 16, /* of 256 KiB, read from disk */
};

/* A segment on disk. */
struct journal_segment {
    uint32_t number;
    int read_fd; /* buffered; -1 until somebody reads */
    int lock_fd; /* holds the flock; for the current segment also what is written through */
    uint64_t base_lsn;
    uint64_t bytes; /* nominal: how far frames reach */
};

enum journal_frame_state { FRAME_OPEN, FRAME_CUT, FRAME_IN_FLIGHT, FRAME_DONE };

/* A frame that is not durable yet, or was kept after that (journal_cache.c). Its bytes are a mapping of its
 * own: page-aligned, not inherited by fork. */
struct journal_frame {
    struct journal_frame *next;
    struct pawl_journal *journal;
    struct pawl_io_request request;
    struct iovec iov;
    enum journal_frame_state state;
    int32_t result;
    uint8_t *bytes;
    size_t capacity;
    size_t touched; /* of capacity: what takes memory, in this frame's lives so far */
    uint64_t record_bytes;
    uint32_t record_count;
    uint32_t flags;
    bool only_watermark;
    uint64_t first_lsn;
    uint64_t byte_offset;
    uint32_t segment;
    uint64_t checksum;
    uint64_t durable_lsn; /* that it carries */
    uint64_t submitted_at_ns;
    struct pawl_now written; /* its clocks; boottime_ns 0: those of when it is sealed */
};

/* After a full disk moved frames: a place in [from, from + bytes) of from_segment is now at to. */
struct journal_move {
    uint32_t from_segment;
    uint32_t to_segment;
    uint64_t from;
    uint64_t to;
    uint64_t bytes;
};

enum snapshot_state { SNAPSHOT_NONE, SNAPSHOT_OPEN, SNAPSHOT_FINISHING, SNAPSHOT_SYNCING, SNAPSHOT_SYNCED };

/* The snapshot being written. */
struct snapshot_writer {
    enum snapshot_state state;
    int fd;
    uint64_t number;
    uint64_t lsn;
    uint64_t byte_offset;
    uint64_t chunk_count;
    uint64_t chain; /* of the chunks' checksums */
    uint8_t *buffer;
    size_t buffer_bytes; /* being written */
    int error;
    struct pawl_io_request request;
};

struct snapshot_entry {
    uint64_t number;
    uint64_t lsn;
};

struct journal_block {
    uint32_t segment; /* 0: none */
    uint32_t number;  /* in it */
    uint32_t bytes;   /* that hold: what was durable when it was read */
    uint8_t *data;
    uint64_t used_at;
};

/* What is in memory, to be read in place. */
struct journal_cache {
    struct journal_frame *
        *frames; /* a ring of @max: @kept durable ones, then those of journal->first, in order */
    uint32_t head, count, kept, max;
    uint64_t kept_bytes;
    struct journal_block blocks[PAWL_JOURNAL_BLOCKS];
    uint64_t clock;
    uint32_t missed_segment, missed_block; /* the block that was read last */
    uint64_t copied_place;                 /* of the record that was copied from last */
    bool copy_walks;                       /* it lies near the one before */
    uint8_t *scratch;                      /* a body that no block holds alone */
    size_t scratch_bytes;
    uint64_t scratch_place; /* 0: none */
    bool scratch_used;      /* since the last idle() */
};

/* Of the current segment. */
struct journal_extent {
    bool syncs_in_place;    /* the file system is known to sync a write with RWF_DSYNC */
    bool given_up;          /* no zeros are written ahead in this segment */
    uint64_t written_bytes; /* the blocks below were written, and are synced */
    struct iovec zeros;
    struct pawl_io_request request;
};

struct pawl_journal {
    struct pawl_io *io;
    int dir_fd;
    struct pawl_journal_options options;

    uint8_t uuid[16];
    uint8_t boot_id[16];
    int lock_fd; /* our own description of the directory: the lock */

    struct journal_segment *segments; /* by number; the last is the current one */
    uint32_t segment_count;
    uint32_t segment_max;
    struct pawl_segment_header current; /* its header */
    uint64_t end;                       /* in the current segment: where its durable frames end */
    uint64_t end_checksum;              /* of the last durable frame, or of the header */
    bool direct;

    uint32_t plan_segment; /* where the next frame will begin */
    uint64_t plan_byte_offset;
    uint64_t plan_limit; /* a frame does not begin at or above it */

    struct journal_frame *first; /* not durable, oldest first; the open one is the last */
    struct journal_frame *last;
    struct journal_frame *open;
    struct journal_frame *spare; /* frames with a mapping, for use again */
    uint32_t spare_count;
    uint32_t in_flight;
    uint32_t depth;
    struct journal_extent extent;
    bool batch_open;    /* records since the last cut */
    bool flush_wanted;  /* what is cut goes as soon as a slot is free */
    bool stalled;       /* a write failed: nothing is submitted until what is in flight came back */
    bool in_submission; /* guards against done() of a simulated backend entering again */

    uint64_t next_lsn;
    uint64_t durable_lsn;
    uint64_t vouched_lsn; /* named durable by a frame that is durable itself */
    uint64_t pending_bytes;
    bool closed_by_last_frame;
    bool needs_watermark;
    int failed; /* on_failed() was called with it */

    enum pawl_journal_room room;
    uint32_t reserve_mask;          /* reserve.1 and so on: which exist */
    uint64_t room_checked_at_bytes; /* taken from the disk since open, plus 1; 0: not looked at yet */
    bool room_is_ample;             /* at the last look */
    uint64_t appended_bytes;
    uint64_t retry_at_ns;
    uint32_t refused_count; /* writes, for want of space, since one went well: whatever the disk says of its
                               room */
    int reserve_error;      /* the last that was told of, and not a full disk */
    uint64_t idle_since_ns;
    uint32_t recycled[PAWL_RECYCLED_MAX]; /* numbers in the names */
    uint32_t recycled_count;

    struct journal_move *moves;
    uint32_t move_count;
    uint32_t move_max;

    struct journal_cache cache;

    struct snapshot_writer snapshot;
    struct snapshot_entry snapshots[2]; /* newest first, good */
    uint32_t snapshot_count;
    uint64_t snapshot_number; /* highest ever seen */
    uint64_t bytes_at_snapshot;
    uint64_t newest_snapshot_bytes; /* its file's, about */

    struct pawl_journal_stats stats;
    uint32_t open_syncs;
};

/* journal.c */
void pawl_journal_now(struct pawl_journal *journal, uint64_t *realtime_ns_out, uint64_t *boottime_ns_out);
void pawl_journal_notice(struct pawl_journal *journal, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int pawl_journal_append_own(struct pawl_journal *journal, uint8_t type, const void *body, size_t bytes,
                            uint32_t frame_flags);
void pawl_journal_submit(struct pawl_journal *journal);
void pawl_journal_fail(struct pawl_journal *journal, int error); /* nothing is written any more */
/* The next frame begins a segment, if it may and no batch is open. No I/O. */
void pawl_journal_end_segment(struct pawl_journal *journal);

/* journal_extent.c: what of the current segment was written. After journal->lock_fd is open: */
void pawl_extent_open(struct pawl_journal *journal);
/* A segment becomes the current one. @is_written: the blocks of @fd's whole length were, and are synced. */
void pawl_extent_begin(struct pawl_journal *journal, int fd, bool is_written);
/* Zeros are on their way; the segment stays the current one until they have arrived. */
bool pawl_extent_busy(const struct pawl_journal *journal);
bool pawl_extent_must_wait(const struct pawl_journal *journal, const struct journal_frame *frame);
/* Submits @frame, whose request has its done(). 0 or -errno, as pawl_io_commit(). */
int pawl_extent_commit(struct pawl_journal *journal, struct journal_frame *frame, int fd);

/* journal_frame.c */
struct journal_frame *pawl_journal_new_frame(struct pawl_journal *journal);
int pawl_journal_grow_frame(struct journal_frame *frame, size_t bytes);
/* A durable frame of @bytes is kept to be read: the memory that larger ones took in its place before goes. */
void pawl_journal_trim_frame(struct journal_frame *frame, size_t bytes);
void pawl_journal_free_frame(struct pawl_journal *journal, struct journal_frame *frame);
void pawl_journal_destroy_frames(struct journal_frame *frame);
void pawl_journal_seal_frame(struct pawl_journal *journal, struct journal_frame *frame,
                             const struct pawl_segment_header *segment);

/* journal_cache.c */
int pawl_journal_cache_add(struct pawl_journal *journal,
                           struct journal_frame *frame); /* a new one, the last */
void pawl_journal_cache_keep(struct pawl_journal *journal,
                             struct journal_frame *frame); /* the oldest became durable: takes it over */
void pawl_journal_cache_forget(struct pawl_journal *journal, uint32_t number); /* that segment is gone */
/* The record at @place (resolved) is to be copied from. One near the last is a step of a walk: then blocks
 * are read, not single records. */
void pawl_journal_cache_turn_to(struct pawl_journal *journal, uint64_t place);
/* @count bytes at @place from blocks. 0; -ENOENT: not there, and not worth a block; or an error. */
int pawl_journal_cache_copy(struct pawl_journal *journal, uint64_t place, void *bytes, size_t count);
void pawl_journal_cache_idle(struct pawl_journal *journal);
uint64_t pawl_journal_cache_bytes(const struct pawl_journal *journal);
void pawl_journal_cache_destroy(struct pawl_journal *journal);
/* The frame in memory that holds @place (resolved), or NULL: then it is on disk, if anywhere. */
struct journal_frame *pawl_journal_frame_at(const struct pawl_journal *journal, uint64_t place);

/* journal_read.c: a descriptor to read segment @number through, kept; -ENOENT, -errno. */
int pawl_segment_read_fd(struct pawl_journal *journal, uint32_t number);

/* journal_segment.c: files */
void pawl_segment_name(char name[static PAWL_SEGMENT_NAME_BYTES], uint32_t number);
int pawl_segment_lock(struct pawl_journal *journal, int fd, uint64_t deadline_ns);
void pawl_journal_segment_close(struct pawl_journal *journal, struct journal_segment *segment);
int pawl_segment_open_direct(struct pawl_journal *journal, const char *name, int flags, bool *direct_out);
/* Makes segment @number, header first, the frames of @rewritten (may be NULL) after it, all durable before it
 * has its name. It becomes the current one. */
int pawl_segment_start(struct pawl_journal *journal, uint32_t number, struct journal_frame *rewritten);
void pawl_journal_drop_recycled(struct pawl_journal *journal);
int pawl_segment_add(struct pawl_journal *journal, const struct journal_segment *segment);
struct journal_segment *pawl_segment_find(const struct pawl_journal *journal, uint32_t number);

/* journal_room.c: the reserve and a full disk */
void pawl_reserve_name(char name[static PAWL_SEGMENT_NAME_BYTES], uint32_t index);
int pawl_journal_make_reserve(struct pawl_journal *journal); /* what is missing of it, as far as it goes */
/* Is there room for a segment with what waits first? Else each try would cost a segment's header. */
bool pawl_journal_first_fits(const struct pawl_journal *journal);
void pawl_journal_refill_reserve(struct pawl_journal *journal); /* on a full disk: something became free */
/* Its last file becomes @name: allocated space that nobody else can take. -ENOENT: none is left. */
int pawl_journal_take_reserve(struct pawl_journal *journal, const char *name);
/* The file @name is not needed any more: it goes, or becomes one of the reserve where one is missing. */
int pawl_journal_retire(struct pawl_journal *journal, const char *name);
/* The segment before the current one, which ended, gives back what it does not use of its file, if the disk
 * has little left. */
void pawl_journal_trim_previous(struct pawl_journal *journal);
void pawl_journal_drop_reserve(struct pawl_journal *journal);
void pawl_journal_set_room(struct pawl_journal *journal, enum pawl_journal_room room);
void pawl_journal_rescue(struct pawl_journal *journal);
uint64_t pawl_journal_tick_room(struct pawl_journal *journal, uint64_t now_ns);

/* journal_recover.c */
int pawl_journal_recover(struct pawl_journal *journal, struct pawl_journal_report *report);

/* snapshot_file.c */
struct snapshot_check {
    const uint8_t *uuid; /* NULL: any */
    uint64_t lsn;        /* found */
    const char *reason;  /* why it is bad */
    uint64_t byte_offset;
    int (*chunk)(void *ctx, uint64_t lsn, const void *bytes, size_t count); /* NULL: only look */
    void *ctx;
};
void pawl_snapshot_name(char name[static PAWL_SEGMENT_NAME_BYTES], uint64_t number);
/* 0; PAWL_E_DAMAGED with reason; PAWL_E_BAD_FORMAT; -errno; what chunk returned. */
int pawl_snapshot_check(struct pawl_io *io, int dir_fd, const char *name, struct snapshot_check *check);
int pawl_snapshot_peek(struct pawl_io *io, int dir_fd, const char *name, const uint8_t *uuid,
                       uint64_t *lsn_out);
void pawl_snapshot_step(struct pawl_journal *journal); /* durable_lsn may have reached its lsn */

#endif
