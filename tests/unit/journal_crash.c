/*
 * journal_crash.c - a power cut at every instant of a workload, and what the next start must say.
 *
 * A recording disk carries out the workload on a real directory and notes every write, sync and name. Then,
 * for each prefix of the notes, disks are built that the crash could have left: what was synced is there; of
 * what was not, everything, nothing, each write alone missing, each alone present, each torn at block and
 * sector borders; names as the last directory sync knew them, or as the process did.
 */
#include "tests/unit/journal_support.h"

enum { NOTES_MAX = 2000, FILES_MAX = 64 };

enum note_kind {
    NOTE_CREATE,
    NOTE_WRITE,
    NOTE_SYNC,
    NOTE_RENAME,
    NOTE_UNLINK,
    NOTE_SYNC_DIR,
    NOTE_CONFIRM,
    NOTE_CUT
};

struct note {
    enum note_kind kind;
    int file;
    char name[32], to[32];
    uint8_t *bytes;
    size_t count;
    uint64_t byte_offset;
    uint64_t lsn;    /* confirmed by then */
    size_t done_at;  /* NOTE_WRITE: how many notes there were when it came back; SIZE_MAX: it has not */
    size_t begun_at; /* NOTE_SYNC: covers writes that had come back when there were so many notes */
    size_t own;      /* NOTE_SYNC: and this one */
};

static struct note notes[NOTES_MAX];
static size_t note_count;
static int zeros_noted;
static struct {
    int fd;
    int file;
} open_files[1024];
static int file_count;
static char file_names[FILES_MAX][32];

struct recorder {
    struct pawl_io io;
    struct pawl_io *real;
    struct pawl_io_request *queue[64];
    int queued;
    bool scramble; /* complete in another order than submitted */
};

static struct note *add_note(enum note_kind kind)
{
    cr_assert(lt(u64, note_count, NOTES_MAX));
    notes[note_count] = (struct note){.kind = kind};
    return &notes[note_count++];
}

static int file_of(int fd)
{
    return fd >= 0 && fd < 1024 ? open_files[fd].file : 0;
}

static void note_write(int fd, const struct iovec *iov, uint32_t iov_count, uint64_t byte_offset)
{
    struct note *note = add_note(NOTE_WRITE);
    note->file = file_of(fd);
    note->byte_offset = byte_offset;
    note->done_at = SIZE_MAX;
    for (uint32_t i = 0; i < iov_count; i++)
        note->count += iov[i].iov_len;
    note->bytes = malloc(note->count);
    size_t at = 0;
    for (uint32_t i = 0; i < iov_count; i++) {
        memcpy(note->bytes + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
}

static int rec_queue(struct pawl_io *io, struct pawl_io_request *request)
{
    struct recorder *self = (struct recorder *)io;
    request->value = 0;
    self->queue[self->queued++] = request;
    return 0;
}

static int rec_commit(struct pawl_io *io, struct pawl_io_request *request)
{
    request->op = 1;
    note_write(request->fd, request->iov, request->iov_count, request->byte_offset);
    request->events = (uint32_t)note_count - 1;
    return rec_queue(io, request);
}

static int rec_write(struct pawl_io *io, struct pawl_io_request *request)
{
    request->op = 2;
    note_write(request->fd, request->iov, request->iov_count, request->byte_offset);
    request->events = (uint32_t)note_count - 1;
    return rec_queue(io, request);
}

static int rec_fsync(struct pawl_io *io, struct pawl_io_request *request, bool datasync)
{
    (void)datasync;
    request->op = 3;
    request->events = (uint32_t)note_count;
    return rec_queue(io, request);
}

static int rec_wait(struct pawl_io *io, uint64_t timeout_ns)
{
    struct recorder *self = (struct recorder *)io;
    (void)timeout_ns;
    if (self->queued == 0)
        return -EDEADLK;
    int pick = self->scramble && self->queued > 1 ? (int)(note_count % (size_t)self->queued) : 0;
    struct pawl_io_request *request = self->queue[pick];
    memmove(self->queue + pick, self->queue + pick + 1,
            (size_t)(--self->queued - pick) * sizeof *self->queue);
    if (request->op != 3)
        cr_assert(eq(i64,
                     pwritev(request->fd, request->iov, (int)request->iov_count, (off_t)request->byte_offset),
                     (int64_t)request->bytes));
    if (request->op != 2) {
        /* Promised is what had come back when this was submitted, and for a commit its own write. */
        struct note *note = add_note(NOTE_SYNC);
        note->file = file_of(request->fd);
        note->begun_at = request->events;
        note->own = request->op == 1 ? request->events : SIZE_MAX;
    }
    if (request->op != 3)
        notes[request->events].done_at = note_count;
    request->active = false;
    request->done(request, request->op == 2 ? (int32_t)request->bytes : 0);
    return 1;
}

static int rec_open(struct pawl_io *io, int dir_fd, const char *name, int flags, mode_t mode)
{
    (void)io;
    bool created = (flags & O_CREAT) && faccessat(dir_fd, name, F_OK, 0) != 0;
    int fd = openat(dir_fd, name, (flags | O_CLOEXEC) & ~O_DIRECT, mode);
    if (fd < 0)
        return -errno;
    int file = 0;
    if (created) {
        file = ++file_count;
        snprintf(file_names[file], 32, "%s", name);
        struct note *note = add_note(NOTE_CREATE);
        note->file = file;
        snprintf(note->name, 32, "%s", name);
    } else {
        for (int i = 1; i <= file_count; i++)
            if (strcmp(file_names[i], name) == 0)
                file = i;
        if (flags & O_TRUNC && file)
            add_note(NOTE_CUT)->file = file;
    }
    cr_assert(lt(int, fd, 1024));
    open_files[fd].file = file;
    return fd;
}

static int rec_rename(struct pawl_io *io, int dir_fd, const char *from, const char *to)
{
    (void)io;
    if (renameat(dir_fd, from, dir_fd, to) < 0)
        return -errno;
    struct note *note = add_note(NOTE_RENAME);
    snprintf(note->name, 32, "%s", from);
    snprintf(note->to, 32, "%s", to);
    for (int i = 1; i <= file_count; i++) {
        if (strcmp(file_names[i], to) == 0)
            file_names[i][0] = 0;
        if (strcmp(file_names[i], from) == 0)
            snprintf(file_names[i], 32, "%s", to);
    }
    return 0;
}

static int rec_unlink(struct pawl_io *io, int dir_fd, const char *name)
{
    (void)io;
    if (unlinkat(dir_fd, name, 0) < 0)
        return -errno;
    snprintf(add_note(NOTE_UNLINK)->name, 32, "%s", name);
    for (int i = 1; i <= file_count; i++)
        if (strcmp(file_names[i], name) == 0)
            file_names[i][0] = 0;
    return 0;
}

static int rec_allocate(struct pawl_io *io, int fd, uint64_t bytes)
{
    (void)io, (void)fd, (void)bytes;
    return -EOPNOTSUPP;
}

static int rec_sync(struct pawl_io *io, int fd)
{
    (void)io;
    struct stat st;
    fstat(fd, &st);
    struct note *note = add_note(S_ISDIR(st.st_mode) ? NOTE_SYNC_DIR : NOTE_SYNC);
    note->file = file_of(fd);
    note->begun_at = note_count - 1;
    note->own = SIZE_MAX;
    return 0;
}

static ssize_t rec_file_write(struct pawl_io *io, int fd, const void *bytes, size_t count,
                              uint64_t byte_offset)
{
    (void)io;
    struct iovec iov = {(void *)(uintptr_t)bytes, count};
    note_write(fd, &iov, 1, byte_offset);
    notes[note_count - 1].done_at = note_count;
    return pwrite(fd, bytes, count, (off_t)byte_offset);
}

static int rec_truncate(struct pawl_io *io, int fd, uint64_t bytes)
{
    (void)io, (void)fd, (void)bytes;
    return -EOPNOTSUPP;
}

static const struct pawl_io_ops recorder_ops = {
    .name = "recorder",
    .commit = rec_commit,
    .write = rec_write,
    .fsync = rec_fsync,
    .wait = rec_wait,
    .file_open = rec_open,
    .file_rename = rec_rename,
    .file_unlink = rec_unlink,
    .file_allocate = rec_allocate,
    .file_truncate = rec_truncate,
    .file_sync = rec_sync,
    .file_write = rec_file_write,
};

static void note_durable(void *ctx, uint64_t lsn)
{
    on_durable(ctx, lsn);
    add_note(NOTE_CONFIRM)->lsn = lsn;
}

/* Which writes of the first @prefix notes are certainly on the disk. */
static void find_synced(size_t prefix, bool *synced)
{
    memset(synced, 0, NOTES_MAX);
    for (size_t i = 0; i < prefix; i++) {
        if (notes[i].kind != NOTE_SYNC)
            continue;
        for (size_t w = 0; w < i; w++)
            if (notes[w].kind == NOTE_WRITE && notes[w].file == notes[i].file &&
                (w == notes[i].own || notes[w].done_at <= notes[i].begun_at))
                synced[w] = true;
    }
}

enum fate { FATE_WHOLE, FATE_GONE, FATE_FIRST_BLOCK, FATE_BUT_FIRST_BLOCK, FATE_SECTORS };

/* Builds the directory that a crash after @prefix notes leaves. fates: of unsynced writes, by note. */
static void build_disk(int dir_fd, size_t prefix, const bool *synced, const enum fate *fates,
                       bool names_synced_only)
{
    clear_dir(dir_fd);
    char names[FILES_MAX][32] = {{0}};
    size_t names_end = prefix;
    if (names_synced_only) {
        names_end = 0;
        for (size_t i = 0; i < prefix; i++)
            if (notes[i].kind == NOTE_SYNC_DIR)
                names_end = i;
    }
    for (size_t i = 0; i < names_end; i++) {
        const struct note *note = &notes[i];
        if (note->kind == NOTE_CREATE)
            snprintf(names[note->file], 32, "%s", note->name);
        for (int f = 1; f < FILES_MAX; f++) {
            if (note->kind == NOTE_RENAME && strcmp(names[f], note->to) == 0)
                names[f][0] = 0;
            if (note->kind == NOTE_UNLINK && strcmp(names[f], note->name) == 0)
                names[f][0] = 0;
        }
        for (int f = 1; f < FILES_MAX; f++)
            if (note->kind == NOTE_RENAME && strcmp(names[f], note->name) == 0)
                snprintf(names[f], 32, "%s", note->to);
    }
    for (int f = 1; f <= file_count; f++) {
        if (!names[f][0])
            continue;
        int fd = openat(dir_fd, names[f], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        cr_assert(ge(int, fd, 0));
        for (size_t i = 0; i < prefix; i++) {
            const struct note *note = &notes[i];
            if (note->file != f || note->kind == NOTE_SYNC)
                continue;
            if (note->kind == NOTE_CUT)
                cr_assert(eq(int, ftruncate(fd, 0), 0));
            if (note->kind != NOTE_WRITE)
                continue;
            enum fate fate = synced[i] ? FATE_WHOLE : fates[i];
            size_t from = 0, to = note->count;
            if (fate == FATE_GONE)
                continue;
            size_t cut = note->count > 4096 ? 4096 : note->count > 512 ? 512 : note->count / 2;
            if (fate == FATE_FIRST_BLOCK)
                to = cut;
            if (fate == FATE_BUT_FIRST_BLOCK)
                from = cut;
            if (fate == FATE_SECTORS)
                to = note->count / 1024 * 512;
            cr_assert(eq(i64, pwrite(fd, note->bytes + from, to - from, (off_t)(note->byte_offset + from)),
                         (int64_t)(to - from)));
        }
        close(fd);
    }
}

static struct {
    size_t disks;
    size_t rewritten;
    size_t torn;
} tried;

static void check_disk(int dir_fd, size_t prefix, uint64_t confirmed, uint64_t appended)
{
    struct witness *witness = calloc(1, sizeof *witness);
    struct pawl_journal_options options = options_of(witness);
    options.on_durable = NULL;
    struct pawl_journal_report report;
    struct pawl_journal *journal;
    struct pawl_io *io;
    cr_assert(eq(int, pawl_io_syscall_open(&io), 0));
    options.buffered = true;
    int error = pawl_journal_open(io, dir_fd, &options, &journal, &report);
    cr_assert(eq(int, error, 0), "prefix %zu: %d %s byte %llu lsn %llu: %s", prefix, error, report.file,
              (unsigned long long)report.byte_offset, (unsigned long long)report.lsn, report.reason);
    cr_assert(ge(u64, report.last_lsn, confirmed), "prefix %zu: confirmed %llu, found %llu", prefix,
              (unsigned long long)confirmed, (unsigned long long)report.last_lsn);
    cr_assert(le(u64, report.last_lsn, appended));
    cr_assert(not(witness->altered));
    cr_assert(not(witness->disordered));
    tried.disks++;
    tried.rewritten += report.rewritten_count > 0;
    tried.torn += report.tail_bytes > 0;
    /* Once told of, a record stays: a second start after a second crash finds the same. */
    if (tried.disks % 7 == 0) {
        uint64_t last = witness->last_applied, count = witness->applied_count;
        cr_assert(eq(int, pawl_journal_close(journal, false), 0));
        memset(witness, 0, sizeof *witness);
        cr_assert(eq(int, pawl_journal_open(io, dir_fd, &options, &journal, &report), 0));
        cr_assert(eq(u64, witness->last_applied, last));
        cr_assert(eq(u64, witness->applied_count, count));
    }
    cr_assert(eq(int, pawl_journal_close(journal, tried.disks % 2 == 0), 0));
    pawl_io_close(io);
    free(witness);
}

/* All disks of one instant. */
static void enumerate(int dir_fd, size_t prefix, uint64_t confirmed, uint64_t appended)
{
    static bool synced[NOTES_MAX];
    static enum fate fates[NOTES_MAX];
    size_t open_writes[NOTES_MAX], open_count = 0;
    find_synced(prefix, synced);
    for (size_t i = 0; i < prefix; i++)
        if (notes[i].kind == NOTE_WRITE && !synced[i])
            open_writes[open_count++] = i;
    for (int names = 0; names < 2; names++) {
        for (int all = 0; all < 2; all++) {
            for (size_t i = 0; i < open_count; i++)
                fates[open_writes[i]] = all ? FATE_WHOLE : FATE_GONE;
            build_disk(dir_fd, prefix, synced, fates, names);
            check_disk(dir_fd, prefix, confirmed, appended);
            for (size_t i = 0; i < open_count; i++) {
                for (enum fate fate = FATE_WHOLE; fate <= FATE_SECTORS; fate++) {
                    enum fate before = fates[open_writes[i]];
                    if (fate == before)
                        continue;
                    fates[open_writes[i]] = fate;
                    build_disk(dir_fd, prefix, synced, fates, names);
                    check_disk(dir_fd, prefix, confirmed, appended);
                    fates[open_writes[i]] = before;
                }
            }
        }
    }
}

/* Appends, several frames in flight, segments that end, snapshots, releases, an unclean restart, a clean one.
 */
static void work(struct recorder *recorder, int dir_fd, struct witness *witness, bool ahead,
                 size_t *begin_out)
{
    struct pawl_journal_options options = options_of(witness);
    options.in_place = ahead;
    options.ahead_from_bytes = 4096;
    options.ahead_bytes = 8192;
    options.on_durable = note_durable;
    options.window_depth = 3;
    options.frame_bytes = 600;
    uint64_t number = 1;
    *begin_out = 0;
    for (int round = 0; round < 3; round++) {
        struct pawl_journal *journal;
        memset(witness, 0, sizeof *witness);
        cr_assert(eq(int, pawl_journal_open(&recorder->io, dir_fd, &options, &journal, NULL), 0));
        for (int turn = 0; turn < 6; turn++) {
            append_numbers(journal, number, number + 2);
            number += 3;
            cr_assert(eq(int, pawl_journal_flush(journal), 0));
            if (turn % 2)
                pawl_io_wait(&recorder->io, 0);
            if (turn == 3 && round > 0) {
                cr_assert(eq(int, pawl_journal_sync(journal), 0));
                cr_assert(eq(int, pawl_journal_snapshot_begin(journal, pawl_journal_last_lsn(journal)), 0));
                cr_assert(eq(int, pawl_journal_snapshot_append(journal, "state", 5), 0));
                while (recorder->queued)
                    pawl_io_wait(&recorder->io, 0);
                cr_assert(eq(int, pawl_journal_snapshot_commit(journal), 0));
            }
        }
        if (round == 2) {
            cr_assert(eq(int, pawl_journal_sync(journal), 0));
            cr_assert(ge(int, pawl_journal_release_before(journal, UINT32_MAX, NULL, NULL), 0));
        }
        cr_assert(eq(int, pawl_journal_close(journal, round == 1), 0));
    }
}

static void crash_everywhere(bool scramble, bool ahead)
{
    char path[64], work_path[64];
    int dir_fd = new_dir_in("/dev/shm", path), work_fd = new_dir_in("/dev/shm", work_path);
    struct recorder recorder = {.io = {.ops = &recorder_ops}, .scramble = scramble};
    struct witness *witness = calloc(1, sizeof *witness);
    size_t begin;
    work(&recorder, work_fd, witness, ahead, &begin);
    uint64_t confirmed = 0;
    for (size_t prefix = 0; prefix <= note_count; prefix++) {
        if (prefix > 0 && notes[prefix - 1].kind == NOTE_CONFIRM)
            confirmed = notes[prefix - 1].lsn > confirmed ? notes[prefix - 1].lsn : confirmed;
        else if (prefix > 0 && notes[prefix - 1].kind != NOTE_CONFIRM)
            enumerate(dir_fd, prefix, confirmed, UINT64_MAX);
    }
    enumerate(dir_fd, note_count, confirmed, UINT64_MAX);
    cr_log_info("%zu notes, %zu disks, %zu rewrote, %zu had a torn tail", note_count, tried.disks,
                tried.rewritten, tried.torn);
    cr_assert(not(le(u64, tried.disks, 1000)));
    cr_assert(not(le(u64, tried.rewritten, 100)));
    cr_assert(not(le(u64, tried.torn, 50)));
    free(witness);
    remove_dir(dir_fd, path);
    remove_dir(work_fd, work_path);
}

TestSuite(journal_crash, .timeout = 300);

Test(journal_crash, at_every_instant_what_was_confirmed_is_found_and_nothing_looks_damaged)
{
    crash_everywhere(false, false);
}

Test(journal_crash, completions_out_of_order_change_nothing)
{
    crash_everywhere(true, false);
}

Test(journal_crash, zeros_that_are_written_ahead_of_frames_destroy_none)
{
    crash_everywhere(false, true);
    for (size_t i = 0; i < note_count; i++)
        zeros_noted += notes[i].kind == NOTE_WRITE && notes[i].bytes[0] == 0;
    cr_assert(not(le(int, zeros_noted, 2)));
}

Test(journal_crash, zeros_that_come_back_in_another_order_destroy_none)
{
    crash_everywhere(true, true);
}
