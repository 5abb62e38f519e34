/*
 * scheduler.c - from fork to exit: listen, recover, serve, leave.
 *
 * Runs in: scheduler. The socket is there before recovery, so who comes early waits instead of failing; what
 * prevents a start is told to all who wait, in words, before the process ends.
 */
#include "scheduler/scheduler.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scheduler/backend.h"
#include "scheduler/bus/bus.h"
#include "scheduler/control.h"
#include "scheduler/figures.h"
#include "scheduler/lanes.h"
#include "scheduler/loop.h"
#include "scheduler/reload.h"
#include "scheduler/roster.h"
#include "scheduler/seal.h"
#include "scheduler/snapshot.h"
#include "shm/clock.h"
#include "shm/error.h"

enum { EXIT_INVALID = 3, EXIT_CANNOT_START = 4, EXIT_DAMAGED = 7, EXIT_INTERNAL = 70 };
#define KEPT_BYTES_MAX (UINT64_C(4) << 30) /* events with durability "memory" of all queues together */

#define TASK_MEMORY_BYTES_MAX (UINT64_C(512) << 20)

/* Why there is no service. */
struct refusal {
    int error, exit_code;
    char text[512];
    const char *hint;
};

/* ---- the journal's callbacks ---- */

static void written(void *ctx, struct pawl_now when)
{
    struct pawl_loop *loop = ctx;
    pawl_core_written(loop->core, when);
    pawl_bus_written(loop->bus, when);
}

static int apply(void *ctx, const struct pawl_record *record, uint64_t place)
{
    struct pawl_loop *loop = ctx;
    if (record->type >= PAWL_BUS_RECORD_FIRST && record->type <= PAWL_BUS_RECORD_LAST)
        return pawl_bus_apply(loop->bus, record->type, record->version, record->body, record->body_bytes,
                              record->lsn, place);
    return pawl_core_apply(loop->core, record->type, record->version, record->body, record->body_bytes,
                           record->lsn, place);
}

static int load_snapshot(void *ctx, uint64_t lsn, const void *chunk, size_t bytes)
{
    struct pawl_loop *loop = ctx;
    struct pawl_now when;
    (void)lsn;
    if (pawl_snapshot_clocks(chunk, bytes, &when)) {
        written(loop, when);
        return 0;
    }
    if (pawl_bus_snapshot_is(chunk, bytes))
        return pawl_bus_snapshot_load(loop->bus, chunk, bytes);
    return pawl_core_snapshot_load(loop->core, chunk, bytes);
}

static void on_durable(void *ctx, uint64_t lsn)
{
    struct pawl_loop *loop = ctx;
    loop->durable_lsn = lsn;
}

static void on_failed(void *ctx, int error)
{
    struct pawl_loop *loop = ctx;
    loop->journal_error = error;
}

static void on_move(void *ctx, uint32_t from_segment, uint32_t to_segment)
{
    struct pawl_loop *loop = ctx;
    if (loop->core)
        pawl_core_segment_moved(loop->core, from_segment, to_segment);
}

static void on_room(void *ctx, enum pawl_journal_room room)
{
    struct pawl_loop *loop = ctx;
    loop->changed = true; /* who waits for the disk may not want to any more */
    switch (room) {
    case PAWL_JOURNAL_ROOMY:
        pawl_log(PAWL_LOG_INFO, "the disk has room again: new work is accepted");
        break;
    case PAWL_JOURNAL_TIGHT:
        pawl_log(PAWL_LOG_WARNING, "the disk is full (" PAWL_RESERVE_WORDS "): new work is refused");
        break;
    case PAWL_JOURNAL_FULL:
        pawl_log(PAWL_LOG_ERROR,
                 "the disk is full and the reserve of 16 MiB is used: results wait in memory");
        break;
    }
}

static void on_snapshot(void *ctx, uint64_t lsn, int error)
{
    pawl_snapshot_done(ctx, lsn, error);
}

static void on_notice(void *ctx, const char *text)
{
    (void)ctx;
    pawl_log(PAWL_LOG_INFO, "%s", text);
}

/* ---- start ---- */

static int refuse(struct refusal *refusal, int error, int exit_code, const char *what, const char *hint)
{
    refusal->error = error;
    refusal->exit_code = exit_code;
    refusal->hint = hint;
    snprintf(refusal->text, sizeof refusal->text, "%s: %s", what, pawl_error_text(error));
    return error;
}

/* Want of memory or descriptors passes; whatever else is a fault of ours, of the disk, or of a file. */
static bool passes(int error)
{
    return error == -ENOMEM || error == -EMFILE || error == -ENFILE;
}

static int refuse_to_begin(struct refusal *refusal, int error, const char *what)
{
    return refuse(refusal, error, passes(error) ? EXIT_CANNOT_START : EXIT_INTERNAL, what, "");
}

static int refuse_journal(struct pawl_loop *loop, struct refusal *refusal, int error,
                          const struct pawl_journal_report *report)
{
    const char *path = loop->options->state_path;
    refusal->error = error;
    refusal->exit_code = error == PAWL_E_DAMAGED ? EXIT_DAMAGED : EXIT_CANNOT_START;
    refusal->hint = "";
    if (error == PAWL_E_DAMAGED) {
        snprintf(refusal->text, sizeof refusal->text,
                 "journal is damaged: %s/journal/%s, byte offset %llu, lsn %llu: %s", path, report->file,
                 (unsigned long long)report->byte_offset, (unsigned long long)report->lsn, report->reason);
        refusal->hint = "nothing was changed; see pawl journal verify, or start anew with another --state";
    } else if (error == PAWL_E_BUSY) {
        snprintf(refusal->text, sizeof refusal->text, "another scheduler still holds %s/journal", path);
    } else if (error == PAWL_E_BAD_FORMAT) {
        snprintf(refusal->text, sizeof refusal->text, "%s/journal/%s is from a newer pawl: %s", path,
                 report->file, report->reason);
        refusal->hint = "use that pawl, or another --state";
    } else {
        snprintf(refusal->text, sizeof refusal->text, "cannot open %s/journal%s%s: %s%s%s", path,
                 report->file[0] ? "/" : "", report->file, pawl_error_text(error),
                 report->reason[0] ? ": " : "", report->reason);
        if (pawl_io_is_room_error(error))
            refusal->hint = "free some space";
    }
    return error;
}

static int open_journal(struct pawl_loop *loop, struct refusal *refusal)
{
    struct pawl_journal_report report;
    const struct pawl_journal_options options = {
        .ctx = loop,
        .written = written,
        .apply = apply,
        .load_snapshot = load_snapshot,
        .on_durable = on_durable,
        .on_commit = pawl_figures_commit,
        .on_failed = on_failed,
        .on_room = on_room,
        .on_move = on_move,
        .on_snapshot = on_snapshot,
        .on_notice = on_notice,
    };
    int error = pawl_journal_open(loop->io, loop->options->journal_dirfd, &options, &loop->journal, &report);
    if (error)
        return refuse_journal(loop, refusal, error, &report);
    if (!report.clean && !report.fresh)
        pawl_log(PAWL_LOG_INFO, "journal: recovered %llu records after a crash",
                 (unsigned long long)report.record_count);
    loop->replayed_count = report.record_count;
    loop->realtime_floor_ns = report.newest_realtime_ns;
    loop->durable_lsn = loop->told_lsn = pawl_journal_durable_lsn(loop->journal);
    /* A new journal: the names that lead to it must last as well. */
    if (report.fresh && fsync(loop->options->state_dirfd) != 0)
        return refuse(refusal, -errno, EXIT_CANNOT_START, "cannot sync the state directory", "");
    if (report.fresh) {
        int parent = openat(loop->options->state_dirfd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parent >= 0) {
            (void)fsync(parent); /* it may not be ours to sync */
            close(parent);
        }
    }
    return 0;
}

static int make_world(struct pawl_loop *loop, struct refusal *refusal)
{
    int error = pawl_world_create(loop->epoch, &loop->world_segment);
    if (error)
        return refuse(refusal, error, EXIT_CANNOT_START, "cannot make shared memory",
                      "pawl doctor looks at /dev/shm and limits");
    loop->world = pawl_world_of(&loop->world_segment);
    error = pawl_lanes_create(loop);
    if (error)
        return refuse(refusal, error, EXIT_CANNOT_START, "cannot start", "");
    pawl_log_pool_init(&loop->pool, TASK_MEMORY_BYTES_MAX);
    return 0;
}

/* Nothing of an earlier life may run beside what is to be run again. */
static int prove_orphans_gone(struct pawl_loop *loop, struct refusal *refusal)
{
    char text[256] = "";
    if (loop->options->restarted || !pawl_core_was_running(loop->core) || !loop->options->prove_orphans_gone)
        return 0;
    int error = loop->options->prove_orphans_gone(loop->options->ctx, text, sizeof text);
    if (text[0])
        pawl_log(PAWL_LOG_WARNING, "%s", text);
    if (error) {
        refuse(refusal, error, EXIT_CANNOT_START, "processes of an interrupted run are still alive", "");
        snprintf(refusal->text, sizeof refusal->text, "%s", text);
    }
    return error;
}

/* Without them all works; only nobody can look. */
static void make_metrics(struct pawl_loop *loop)
{
    int error = pawl_metrics_create(PAWL_METRICS_ROWS_MAX, 0, loop->now.realtime_ns, &loop->metrics_segment);
    if (error)
        pawl_log(PAWL_LOG_WARNING, "no metrics: %s", pawl_error_text(error));
    else
        loop->metrics = pawl_metrics_of(&loop->metrics_segment);
}

static int recover(struct pawl_loop *loop, struct refusal *refusal)
{
    struct pawl_core_options core_options;
    uint64_t epoch_lsn;

    pawl_core_options_default(&core_options);
    core_options.instances_max = loop->config.run.run_instances;
    core_options.output_bytes_max = loop->config.run.output_bytes;
    core_options.interruptions_max = (uint32_t)loop->config.bus.interruptions;
    int error = pawl_core_create(&core_options, &pawl_loop_effects, loop, &loop->core);
    if (error)
        return refuse(refusal, error, EXIT_CANNOT_START, "cannot start", "");
    pawl_kept_init(&loop->kept, KEPT_BYTES_MAX);
    error = pawl_bus_create(&loop->config.bus, &pawl_journal_backend, loop, &loop->bus);
    if (error)
        return refuse(refusal, error, EXIT_CANNOT_START, "cannot start", "");
    make_metrics(loop);
    error = open_journal(loop, refusal);
    if (error)
        return error;
    /* The epoch's number is known before its record is appended: the counters live in the world. */
    error = make_world(loop, refusal);
    if (error)
        return error;
    pawl_loop_sample_clocks(loop);
    pawl_core_durable(loop->core, loop->now, loop->durable_lsn);
    error = pawl_core_start(loop->core, loop->now, loop->options->restarted, &loop->epoch, &epoch_lsn);
    if (error)
        return refuse_to_begin(refusal, loop->append_error ? loop->append_error : error,
                               "cannot begin a new epoch");
    loop->begun_at_ns = loop->options->restarted ? 0 : loop->now.realtime_ns;
    loop->world->epoch = loop->epoch;
    if (loop->metrics)
        loop->metrics->epoch = loop->epoch; /* nobody has it yet */
    pawl_bus_durable(loop->bus, loop->now, loop->durable_lsn);
    error = pawl_bus_start(loop->bus, loop->now, loop->epoch, epoch_lsn);
    if (error)
        return refuse_to_begin(refusal, error, "the event bus cannot begin");
    (void)pawl_journal_flush(loop->journal);
    /* Whoever fills the disk later leaves us what the next start and settlements need. A temporary scheduler
     * does not pay for that: it has its reserve when it has written much. */
    if (!loop->options->temporary)
        pawl_journal_secure(loop->journal);
    return prove_orphans_gone(loop, refusal);
}

/* The launching command will want a worker: it is forked while we recover. Return: was one asked for? */
static bool ask_early(const struct pawl_loop *loop, struct pawl_connection *supervisor)
{
    struct pawl_wire_workers body = {.count = 1};
    if (!supervisor || loop->options->restarted || loop->options->client_fd < 0)
        return false;
    /* Not as an answer: one that cannot be sent would end the connection, and lanes that are not there yet.
     */
    int error = pawl_wire_queue_message(&supervisor->wire, PAWL_WIRE_WORKERS, 0, &body, sizeof body, NULL, 0,
                                        NULL, 0);
    if (!error)
        (void)pawl_wire_flush(&supervisor->wire);
    return !error;
}

static int read_config(struct pawl_loop *loop, struct refusal *refusal)
{
    char text[sizeof refusal->text];
    int error = pawl_reload_first(loop, text, sizeof text);
    if (!error)
        return 0;
    refuse(refusal, error, passes(error) ? EXIT_CANNOT_START : EXIT_INVALID, "configuration",
           passes(error) ? "" : "pawl config show says what can be set");
    if (text[0])
        snprintf(refusal->text, sizeof refusal->text, "%s", text);
    return error;
}

static int listen_to_signals(struct pawl_loop *loop)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_SETMASK, &set, NULL);
    loop->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return loop->signal_fd < 0 ? -errno : 0;
}

/* ---- end ---- */

/* Commands know by its directory that there is a run which only the journal holds. One of which no step began
 * has none. */
static void name_unsealed(const struct pawl_loop *loop)
{
    struct pawl_run *run = loop->core ? pawl_core_run_next(loop->core, NULL) : NULL;
    for (; run; run = pawl_core_run_next(loop->core, run))
        (void)mkdirat(loop->options->runs_dirfd, pawl_run_id(run), 0700);
}

static void leave(struct pawl_loop *loop)
{
    bool clean = loop->journal && !loop->journal_error && loop->exit_code == 0;
    for (struct pawl_connection *connection = loop->connections; connection; connection = connection->next)
        if (!connection->closing)
            (void)pawl_wire_flush(&connection->wire);
    if (clean)
        name_unsealed(loop);
    if (loop->lanes)
        pawl_lanes_exit_all(loop);
    /* Nobody waits for what comes now: a command that arrives finds no socket and waits for the lock. */
    pawl_seal_drop_all(loop);
    pawl_control_close(loop);
    if (clean)
        pawl_snapshot_before_close(loop);
    if (loop->journal) {
        int error = pawl_journal_close(loop->journal, clean);
        if (error && clean)
            pawl_log(PAWL_LOG_WARNING, "the journal was not closed cleanly: %s", pawl_error_text(error));
    }
}

int pawl_scheduler_main(const struct pawl_scheduler_options *options)
{
    struct refusal refusal = {.hint = ""};
    struct pawl_connection *supervisor = NULL;
    bool asked = false;
    struct pawl_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return EXIT_INTERNAL;
    loop->options = options;
    loop->signal_fd = -1;
    pawl_log_open(options->log_fd, "scheduler", PAWL_LOG_INFO);
    if (options->supervisor > 0 &&
        (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != options->supervisor)) {
        free(loop);
        return EXIT_INTERNAL; /* it died before it could be watched */
    }
    loop->born_at_ns = pawl_clock_boottime_ns();
    pawl_loop_sample_clocks(loop);

    int error = listen_to_signals(loop);
    if (!error)
        error = pawl_io_open(PAWL_IO_AUTO, &loop->io);
    if (error == -EINVAL && getenv("PAWL_IO"))
        refuse(&refusal, error, EXIT_CANNOT_START, "PAWL_IO is none of auto, uring and syscall", "unset it");
    else if (error)
        refuse(&refusal, error, EXIT_CANNOT_START, "cannot do input and output",
               "pawl doctor looks at io_uring; PAWL_IO=syscall does without");
    if (options->client_fd >= 0)
        (void)pawl_control_adopt_fd(loop, options->client_fd, 0);
    if (options->supervisor_fd >= 0)
        supervisor = pawl_control_adopt_fd(loop, options->supervisor_fd, PAWL_ROLE_SUPERVISOR);
    if (!error && options->supervisor_fd >= 0 && !supervisor)
        error = refuse(&refusal, -ENOMEM, EXIT_CANNOT_START, "cannot start", "");
    if (!error) {
        error = pawl_listeners_open(loop);
        if (error)
            refuse(&refusal, error, EXIT_CANNOT_START, "cannot make the socket in the state directory", "");
    }
    if (!error) {
        error = read_config(loop, &refusal);
    }
    if (!error) {
        asked = ask_early(loop, supervisor);
        error = recover(loop, &refusal);
    }
    if (error) {
        pawl_log(PAWL_LOG_ERROR, "%s", refusal.text);
        pawl_control_refuse(loop, refusal.error, refusal.exit_code, refusal.text, refusal.hint);
        loop->exit_code = refusal.exit_code;
    } else {
        loop->lanes->supervisor = supervisor;
        loop->lanes->asked = asked;
        error = pawl_loop_run(loop);
        if (error) {
            pawl_log(PAWL_LOG_ERROR, "input and output failed: %s", pawl_error_text(error));
            loop->exit_code = EXIT_INTERNAL;
        }
    }
    leave(loop);
    return loop->exit_code;
}
