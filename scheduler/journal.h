/*
 * journal.h - the one log in which everything that must survive is written, in one order.
 *
 * Runs in: the scheduler, one thread (offline readers: any process). Owns STATE/journal/: segments,
 * snapshots, reserve and recycled files. Never decides what a record means. docs/journal-format.md has the
 * bytes, the rules of recovery and the syncs of a start.
 *
 *   append, append, cut, append, cut ... flush      records become frames, frames become durable in order
 *
 * Records appended between two cuts are one atomic batch: after a crash all of them are there or none. A
 * frame holds one or more whole batches (group commit). At most window_depth frames are in flight. A record
 * is durable when its frame and every earlier one is; on_durable() tells the contiguous prefix. Nothing may
 * be confirmed to anybody before that.
 *
 * A place says where a record lies: segment number << 32 | byte offset. It is given at append and at
 * recovery. It stays readable until its segment is released. Pass it through pawl_journal_resolve() before
 * writing it into a snapshot; never write one into a record's body (use the lsn there).
 */
#ifndef PAWL_SCHEDULER_JOURNAL_H
#define PAWL_SCHEDULER_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "scheduler/io.h"
#include "scheduler/now.h"
#include "scheduler/record.h"

struct pawl_journal;

enum {
    PAWL_JOURNAL_FORMAT = 1,                  /* of segments */
    PAWL_SNAPSHOT_FORMAT = 2,                 /* 1 is read as well */
    PAWL_JOURNAL_BATCH_BYTES_MAX = 134 << 20, /* of one atomic batch, headers included */
    PAWL_JOURNAL_RESERVE_FILES = 8,
};

/* Who asks for room. */
enum pawl_journal_reserve {
    PAWL_JOURNAL_FOR_WORK = 0,    /* new work: refused first */
    PAWL_JOURNAL_FOR_RESULTS = 1, /* results, acks, snapshots: may use the reserve */
    PAWL_JOURNAL_FOR_ACTS = 2,    /* work that gives back what it takes, later: may use a part of it */
};

/*
 *            too little is free, or a write found no space
 *   ROOMY ------------------------------------------------------> TIGHT ----------> FULL
 *     ^         enough is free again (looked at each second)        |   reserve used   |
 *     +-------------------------------------------------------------+<-----------------+
 */
enum pawl_journal_room {
    PAWL_JOURNAL_ROOMY = 0,
    PAWL_JOURNAL_TIGHT = 1, /* work is refused, results are written into the reserve */
    PAWL_JOURNAL_FULL = 2,  /* nothing is written; what is appended waits in memory, unconfirmed */
};

/* What open, verify and dump found. Zero-filled by them. */
struct pawl_journal_report {
    int error;                   /* what was returned */
    char file[64];               /* damaged or foreign file, "" if none */
    uint64_t byte_offset;        /* in it */
    uint64_t lsn;                /* of the first record concerned, 0 if unknown */
    char reason[192];            /* words, "" if all is well */
    bool fresh;                  /* the directory held no journal */
    bool clean;                  /* the last owner closed it */
    uint64_t first_lsn;          /* of what was replayed; 0: nothing */
    uint64_t last_lsn;           /* the newest record */
    uint64_t record_count;       /* replayed */
    uint64_t snapshot_lsn;       /* 0: none used */
    uint32_t snapshots_bad;      /* fell back over so many */
    uint64_t tail_bytes;         /* torn tail dropped */
    uint64_t rewritten_count;    /* records not vouched for, written again into the new segment */
    uint64_t newest_realtime_ns; /* of the newest good frame: a floor for the wall clock */
    uint32_t sync_count;         /* file and directory syncs that open made */
};

/* A frame that became durable. */
struct pawl_journal_commit {
    uint64_t bytes; /* padding included */
    uint64_t record_count;
    uint64_t commit_ns;   /* submit to completion: its write and its sync */
    uint64_t realtime_ns; /* of the completion */
    uint64_t sync_count;  /* since open, this one included */
};

enum { PAWL_JOURNAL_AHEAD_BYTES_MAX = 256 << 10 };

struct pawl_journal_options {
    void *ctx;

    /* Recovery. apply: every durable record after the snapshot, in order; nonzero stops open with that error.
     * load_snapshot: the newest good snapshot's chunks as they were appended; the whole file was checked
     * first. written: the clocks at which the frame of the records that follow was sealed; boottime_ns 0: in
     * another boot. Each may be NULL. */
    void (*written)(void *ctx, struct pawl_now written);
    int (*apply)(void *ctx, const struct pawl_record *record, uint64_t place);
    int (*load_snapshot)(void *ctx, uint64_t lsn, const void *chunk, size_t bytes);

    /* Inside pawl_io_wait() only (on_room and on_notice: anywhere). on_durable: all up to and including lsn.
     * on_failed: once; PAWL_E_SYNC_FAILED or -errno; nothing that is not durable yet will be told of again:
     * its fate is unknown, answer PAWL_E_INDEFINITE and leave with exit 70. */
    void (*on_durable)(void *ctx, uint64_t lsn);
    void (*on_commit)(void *ctx, const struct pawl_journal_commit *commit); /* each frame, for the figures */
    void (*on_failed)(void *ctx, int error);
    void (*on_room)(void *ctx, enum pawl_journal_room room);
    /* A full disk moved records of one segment to another: whoever pins the one must pin the other. Places
     * still lead to them (pawl_journal_resolve). Anywhere. */
    void (*on_move)(void *ctx, uint32_t from_segment, uint32_t to_segment);
    void (*on_snapshot)(void *ctx, uint64_t lsn, int error); /* ends what snapshot_commit began */
    void (*on_notice)(void *ctx, const char *text);          /* one line for the log */

    /* NULL: the system's. For tests and the simulator. */
    void (*clock)(void *ctx, uint64_t *realtime_ns_out, uint64_t *boottime_ns_out);
    int (*random)(void *ctx, void *bytes, size_t count);
    const uint8_t *boot_id; /* 16 bytes; zeros: not known */

    /* 0: the default */
    uint64_t segment_bytes;     /* 64 MiB; a frame that begins below it may end above; multiple of 4096 */
    uint32_t frame_bytes;       /* 1 MiB; a larger batch gets a frame of its own */
    uint32_t window_depth;      /* 2: frames in flight, 1 to 64 */
    uint64_t pending_bytes_max; /* 96 MiB: appended, not durable; beyond it has_room() says no to work.
                                 * What is larger than half of it needs half of it free */
    uint64_t cache_bytes;       /* 16 MiB of durable frames stay in memory to be read; UINT64_MAX: none */
    uint64_t reserve_bytes;     /* 2 MiB: of each of the reserve's files */
    uint64_t lock_wait_ns;      /* 15 s: for a dead owner's last I/O */
    uint64_t idle_ns;           /* 1 s: until the watermark */
    uint32_t recycled_max;      /* 2 dead segments kept for use again; UINT32_MAX: none */
    uint64_t ahead_bytes;       /* 256 KiB, which is the most: zeros written ahead of small frames */
    uint64_t ahead_from_bytes;  /* 64 KiB: into a segment, before which none are */
    bool in_place; /* take the file system for one of those that sync a write (journal_extent.c) */
    bool buffered; /* do not try O_DIRECT */
};

/**
 * pawl_journal_open - lock, recover, and make ready to append
 * @io:      outlives the journal
 * @dir_fd:  of the journal's directory; not closed, must stay open
 * @report:  what was found, filled also on failure; may be NULL
 *
 * Blocks: up to lock_wait_ns for the lock, and for reading all segments after the newest snapshot. When it
 * returns, everything that was applied is durable. A disk without a byte left is no error where nothing need
 * be written: the journal is FULL then, and what is appended waits.
 *
 * Return: 0; PAWL_E_BUSY (another owner); PAWL_E_DAMAGED (report says where); PAWL_E_BAD_FORMAT (a newer
 * format; nothing was changed); -ENOSPC and the like (report->reason says how many bytes are needed); apply's
 * error; -errno.
 */
int pawl_journal_open(struct pawl_io *io, int dir_fd, const struct pawl_journal_options *options,
                      struct pawl_journal **journal_out, struct pawl_journal_report *report);

/**
 * pawl_journal_close - stop owning the journal
 * @clean: write what is pending, then a closing watermark, and wait for both (blocks, runs callbacks)
 *
 * Always frees the journal. Without @clean what is in flight is waited for, what is pending is dropped: its
 * fate is that of a crash.
 *
 * Return: 0, or why the clean close did not happen.
 */
int pawl_journal_close(struct pawl_journal *journal, bool clean);

/**
 * pawl_journal_append - add a record to the batch being built
 * @iov, @iov_count: the body in pieces, copied before return; at most PAWL_RECORD_BODY_BYTES_MAX together
 * @lsn_out, @place_out: may be NULL
 *
 * Does no I/O. Not refused for want of disk space: ask pawl_journal_has_room() before accepting work.
 *
 * Return: 0; -EMSGSIZE (record or batch too large); -EINVAL (type 0 or the journal's own); -ENOMEM;
 * PAWL_E_SYNC_FAILED or another error after on_failed().
 */
int pawl_journal_append(struct pawl_journal *journal, uint8_t type, uint16_t version, const struct iovec *iov,
                        int iov_count, uint64_t *lsn_out, uint64_t *place_out);

/* pawl_journal_cut - ends the atomic batch; the next record may be in another frame. No I/O. */
void pawl_journal_cut(struct pawl_journal *journal);

/* pawl_journal_flush - cut, and submit as many frames as the window has slots for. What stays is submitted
 * when a slot is free, without another call. Call once at the end of a turn of the loop. 0 or the failure. */
int pawl_journal_flush(struct pawl_journal *journal);

uint64_t pawl_journal_durable_lsn(const struct pawl_journal *journal);
uint64_t pawl_journal_last_lsn(const struct pawl_journal *journal); /* newest appended, 0: none */
uint64_t pawl_journal_pending_bytes(const struct pawl_journal *journal);

/* pawl_journal_sync - flush and wait until all is durable: for tests and rare moments. Runs io callbacks. */
int pawl_journal_sync(struct pawl_journal *journal);

/* pawl_journal_has_room - may @bytes of records for this purpose be appended now? Cheap; no I/O but statfs.
 * Work is refused while there still is room for all that is not durable yet, and for a snapshot, beside the
 * reserve: so a disk that nothing but the journal fills leaves the reserve to results and acks.
 * 0; PAWL_E_NO_SPACE (the disk); PAWL_E_LIMIT (pending_bytes_max: ask again when something became durable).
 */
int pawl_journal_has_room(struct pawl_journal *journal, uint64_t bytes, enum pawl_journal_reserve reserve);
enum pawl_journal_room pawl_journal_room(const struct pawl_journal *journal);

/* pawl_journal_is_behind - is so much not durable yet that it would take a good part of the reserve if
 * somebody filled the disk now? Then no more work should be taken up until some of it is durable. Not where
 * 1 GiB was free at the last look. */
bool pawl_journal_is_behind(const struct pawl_journal *journal);

/* pawl_journal_is_pressed - is the disk full, and at most half of the reserve left, or little for acts? */
bool pawl_journal_is_pressed(const struct pawl_journal *journal);

/** pawl_journal_may_move - on a full disk: may @bytes, which are all that is wanted of this segment, be
 * appended so that it can go? They take at most one file of a reserve of which more than half is left, and
 * the segment gives back four times as much. */
bool pawl_journal_may_move(struct pawl_journal *journal, uint32_t segment, uint64_t bytes);

/** pawl_journal_lend_reserve - on a full disk: what is left of the reserve becomes free space, for a snapshot
 * that will free more. It is made again as far as there is room.
 * @anyway: else only if one as large as the last finds no room in one file of it and what is free
 */
void pawl_journal_lend_reserve(struct pawl_journal *journal, bool anyway);

/* pawl_journal_secure - make the reserve now: something runs that may fill the disk before its own result
 * comes. Cheap when it is there. Without room for it new work is refused from now on. */
void pawl_journal_secure(struct pawl_journal *journal);
/* Would pawl_journal_secure() do nothing? */
bool pawl_journal_is_secure(const struct pawl_journal *journal);

/**
 * pawl_journal_idle - what falls due with time: the idle watermark, making the reserve, trying a full disk
 * again
 * @now_ns: CLOCK_BOOTTIME, the loop's own reading
 *
 * Call once a turn before sleeping. Return: the instant at which to call again, UINT64_MAX when nothing
 * waits.
 */
uint64_t pawl_journal_idle(struct pawl_journal *journal, uint64_t now_ns);

/* Reading: from memory if the record's frame is there (not written yet, or lately), else by pread(2)
 * (blocks). */

/* pawl_journal_record_at - the header of the record at @place: body is NULL. -ENOENT: no such segment;
 * PAWL_E_DAMAGED: no record lies there. */
int pawl_journal_record_at(struct pawl_journal *journal, uint64_t place, struct pawl_record *record_out);

/* pawl_journal_read - bytes of the body from @offset_in_body on. Checks that a record of this @lsn (0: any)
 * lies there. Return: bytes read (less than @count at the body's end), or as record_at. */
ssize_t pawl_journal_read(struct pawl_journal *journal, uint64_t place, uint64_t lsn, size_t offset_in_body,
                          void *bytes, size_t count);

/**
 * pawl_journal_peek - a record in place, without copying where that can be avoided
 * @record_out: its body points at all of its bytes: valid until the next call of the journal or of its io
 * that may write or wait, or the next peek or next_place
 *
 * From memory if the frame is there, else out of blocks of 256 KiB that are read and kept (16 of them). Only
 * a record that spans blocks is copied.
 *
 * Return: 0; -ENOENT (no such segment); PAWL_E_DAMAGED (no record lies there); -ENOMEM; -errno.
 */
int pawl_journal_peek(struct pawl_journal *journal, uint64_t place, struct pawl_record *record_out);

/* pawl_journal_next_place - where the record after the one at @place lies, the journal's own too: skips frame
 * headers, padding and segment changes. 0: at the end of what was appended (then that record has
 * pawl_journal_last_lsn()), or the log cannot be read on. */
uint64_t pawl_journal_next_place(struct pawl_journal *journal, uint64_t place);

/* pawl_journal_resolve - where the record of @place lies now: differs after a full disk moved frames. */
uint64_t pawl_journal_resolve(const struct pawl_journal *journal, uint64_t place);

/**
 * Snapshots: one at a time. begin names the lsn up to which the chunks hold everything (at most last_lsn
 * now); chunks are written as they come; commit waits until that lsn is durable, syncs, renames, reads the
 * file back, appends a SNAPSHOT record, and calls on_snapshot(). Two are kept. When it holds all that was
 * appended, a segment of some size ends there: recovery then reads nothing that the snapshot already says.
 *
 * append: 0; -EAGAIN while the chunk before is being written (try after the next pawl_io_wait()); -EMSGSIZE
 * above 1 MiB; -errno. A failed snapshot is not a failed journal: abort it and try later.
 */
int pawl_journal_snapshot_begin(struct pawl_journal *journal, uint64_t lsn);
int pawl_journal_snapshot_append(struct pawl_journal *journal, const void *chunk, size_t bytes);
int pawl_journal_snapshot_commit(struct pawl_journal *journal);
void pawl_journal_snapshot_abort(struct pawl_journal *journal);

/* pawl_journal_segment_of - where records go now: its segments before this are candidates of release. */
uint32_t pawl_journal_segment_of(uint64_t place);
uint32_t pawl_journal_current_segment(const struct pawl_journal *journal);
/* Will a snapshot of all that was appended end the current segment? Not if little is in it, or the disk has
 * no room for another. */
bool pawl_journal_may_end_segment(const struct pawl_journal *journal);
uint32_t pawl_journal_first_segment(const struct pawl_journal *journal); /* the oldest on disk */
/* Those between the first and the current one may have been released. */
bool pawl_journal_has_segment(const struct pawl_journal *journal, uint32_t number);

/**
 * pawl_journal_release_before - give back segments that nobody needs
 * @segment_number: only those below it, and only those wholly covered by the older of the two kept snapshots
 * @is_pinned:      asked for each; may be NULL
 *
 * Blocks for a rename or unlink each and one directory sync. Return: segments released, or -errno.
 */
int pawl_journal_release_before(struct pawl_journal *journal, uint32_t segment_number,
                                bool (*is_pinned)(void *ctx, uint32_t segment_number), void *ctx);

/* Counters since open; latencies are the caller's to bucket through on_sync if it wants them. */
struct pawl_journal_stats {
    uint64_t frame_count;
    uint64_t record_count;
    uint64_t bytes; /* written, padding included */
    uint64_t sync_count;
    uint64_t segment_count;  /* on disk now */
    uint64_t disk_bytes;     /* nominal, of all segments on disk */
    uint64_t snapshot_lsn;   /* newest good */
    uint64_t snapshot_bytes; /* its file's, 0: it was written before this open */
    uint64_t bytes_since_snapshot;
    uint64_t cache_bytes;    /* memory taken by frames that are kept and blocks that were read */
    uint64_t last_commit_ns; /* submit to completion of the newest frame */
    bool direct;
};
void pawl_journal_stats(const struct pawl_journal *journal, struct pawl_journal_stats *stats_out);

/* Offline: read-only, no lock taken, nothing written. With an owner at work the end may look torn, and what
 * the owner gives back meanwhile is left out; nothing of it is called damage. */

struct pawl_journal_finding {
    enum pawl_journal_finding_kind {
        PAWL_JOURNAL_NOTE = 0,   /* says what a file is */
        PAWL_JOURNAL_TORN = 1,   /* an unconfirmed end: normal after a crash */
        PAWL_JOURNAL_DAMAGE = 2, /* confirmed data does not hold */
    } kind;
    const char *file;
    uint64_t byte_offset;
    uint64_t lsn;
    const char *text;
};

/* pawl_journal_verify - every frame of every segment and every snapshot. Goes on after damage to name all.
 * 0; PAWL_E_DAMAGED; PAWL_E_BAD_FORMAT; -errno. */
int pawl_journal_verify(int dir_fd, void (*on_finding)(void *ctx, const struct pawl_journal_finding *finding),
                        void *ctx, struct pawl_journal_report *report);

/* pawl_journal_dump - each record that holds, the journal's own too, from the oldest segment on; stops at
 * @each's nonzero, which is returned. Damage ends it: PAWL_E_DAMAGED. */
int pawl_journal_dump(int dir_fd, int (*each)(void *ctx, const struct pawl_record *record, uint64_t place),
                      void *ctx, struct pawl_journal_report *report);

#endif
