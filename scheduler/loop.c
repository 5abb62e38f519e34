/*
 * loop.c - one turn after the other.
 *
 * Runs in: scheduler, one thread. A turn: wait, take up what became durable, drain the lanes, listen to the
 * sockets, let time pass, place, give what is new to the journal, to workers and to clients. Nothing in it
 * blocks but the wait; no client and no lane gets more than its share of one turn.
 */
#include "scheduler/loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "scheduler/clients.h"
#include "scheduler/control.h"
#include "scheduler/figures.h"
#include "scheduler/lanes.h"
#include "scheduler/queue.h"
#include "scheduler/reload.h"
#include "scheduler/roster.h"
#include "scheduler/seal.h"
#include "scheduler/snapshot.h"
#include "shm/clock.h"
#include "shm/doorbell.h"
#include "shm/error.h"

#define SAMPLE_NS  UINT64_C(1000000000)
#define OFFERS_NS  UINT64_C(10000000000)
#define OWNERS_NS  UINT64_C(10000000000) /* commands look for a new scheduler so long */
#define SPIN_NS    UINT64_C(20000)
#define COMPANY_NS UINT64_C(20000000) /* from one sync that nobody waits for to the next */
#define ACKS_NS    UINT64_C(1000000)  /* acks wait so long for others to be synced with */

enum {
    LOOKS_BEFORE_YIELD = 64,
    SPIN_SETTLED = 16,         /* so many settlements in one turn are short tasks: more come at once */
    COMPANY_BYTES = 256 << 10, /* enough to be worth a sync of its own */
};

void pawl_loop_sample_clocks(struct pawl_loop *loop)
{
    loop->now.boottime_ns = pawl_clock_boottime_ns();
    loop->now.realtime_ns = pawl_clock_realtime_ns();
    if (loop->now.realtime_ns < loop->realtime_floor_ns)
        loop->now.realtime_ns = loop->realtime_floor_ns;
}

/* ---- the machine's load ---- */

static bool read_small(const char *path, char *text, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, text, bytes - 1);
    close(fd);
    if (got <= 0)
        return false;
    text[got] = 0;
    return true;
}

static void sample_machine(struct pawl_loop *loop)
{
    char text[4096];
    double load = 0;
    unsigned long long available_kib = 0;
    if (read_small("/proc/loadavg", text, sizeof text))
        load = strtod(text, NULL);
    if (read_small("/proc/meminfo", text, sizeof text)) {
        const char *line = strstr(text, "MemAvailable:");
        if (line)
            available_kib = strtoull(line + strlen("MemAvailable:"), NULL, 10);
    }
    pawl_core_sample(loop->core, (uint32_t)(load * 1000), available_kib * 1024);
}

static uint64_t sample_if_due(struct pawl_loop *loop)
{
    if (!pawl_core_wants_sample(loop->core)) {
        loop->sample_at_ns = 0;
        return UINT64_MAX;
    }
    if (loop->now.boottime_ns >= loop->sample_at_ns) {
        sample_machine(loop);
        loop->sample_at_ns = loop->now.boottime_ns + SAMPLE_NS;
    }
    return loop->sample_at_ns;
}

/* ---- life ---- */

static void on_signal(struct pawl_io_request *request, int32_t result)
{
    struct pawl_loop *loop = request->ctx;
    struct signalfd_siginfo info;
    (void)result;
    while (read(loop->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        bool reload = info.ssi_signo == SIGHUP && !loop->options->temporary;
        loop->reload_asked |= reload;
        loop->stop_asked |= !reload;
    }
}

/* SIGTERM: nothing new, what runs gets SIGTERM and its grace; the runs are resumable. */
static void stop(struct pawl_loop *loop)
{
    loop->stop_asked = false;
    if (loop->stopping)
        return;
    loop->stopping = true;
    pawl_bus_drain(loop->bus);
    loop->drain_until_ns = loop->now.boottime_ns + loop->config.grace_ns;
    pawl_log(PAWL_LOG_INFO,
             pawl_core_run_next(loop->core, NULL) ? "asked to stop: runs are interrupted" : "asked to stop");
    struct pawl_run *run = pawl_core_run_next(loop->core, NULL);
    for (; run; run = pawl_core_run_next(loop->core, run))
        if (pawl_run_batch(run))
            (void)pawl_core_cancel(loop->core, loop->now, NULL, run, PAWL_CANCEL_INTERRUPT,
                                   loop->config.grace_ns);
}

void pawl_loop_cut(struct pawl_loop *loop)
{
    if (loop->journal && !pawl_core_failed(loop->core) && !pawl_bus_failed(loop->bus))
        pawl_journal_cut(loop->journal);
}

/* What is in memory is ahead of what can be written down: the batch at hand stays unwritten, and all goes on
 * from what is durable. */
static bool core_failed(struct pawl_loop *loop)
{
    if (!pawl_core_failed(loop->core) && !pawl_bus_failed(loop->bus))
        return false;
    if (!loop->journal_error) {
        pawl_log(PAWL_LOG_ERROR, "a decision could not be written down, or there was no memory for it");
        loop->journal_error = -ENOMEM;
    }
    return true;
}

static void tell_failure(const struct pawl_loop *loop, struct pawl_connection *connection, uint64_t tag)
{
    pawl_control_error(connection, tag, PAWL_E_INDEFINITE, "see scheduler.log", "the journal failed (%s): %s",
                       pawl_error_text(loop->journal_error), pawl_error_text(PAWL_E_INDEFINITE));
}

/* The journal failed: what waits for it has an unknown fate, and nobody may be told otherwise. */
static void fail_stop(struct pawl_loop *loop)
{
    pawl_log(PAWL_LOG_ERROR, "the journal failed: %s; leaving", pawl_error_text(loop->journal_error));
    for (struct pawl_connection *connection = loop->connections; connection; connection = connection->next) {
        for (const struct pawl_parked *parked = connection->parked; parked && !connection->closing;
             parked = parked->next)
            tell_failure(loop, connection, parked->tag);
        /* What a command asks next may be on its way: it would wait for another scheduler. */
        if (connection->asks && !connection->parked && !connection->closing)
            tell_failure(loop, connection, 0);
        if (!connection->closing && connection->vouch_lsn <= loop->durable_lsn)
            (void)pawl_wire_flush(&connection->wire);
    }
    loop->exit_code = 70;
    loop->leave = true;
}

static void serve_when_all_offered(struct pawl_loop *loop)
{
    if (loop->serving)
        return;
    if (!pawl_lanes_all_offered(loop)) {
        if (loop->now.boottime_ns - loop->born_at_ns >= OFFERS_NS)
            pawl_lanes_kill_silent(loop);
        return;
    }
    pawl_core_serve(loop->core, loop->now);
    pawl_reload_declare(loop);
    loop->serving = loop->changed = true;
    if (pawl_core_awaits_owners(loop->core))
        loop->owners_until_ns = loop->now.boottime_ns + OWNERS_NS;
    if (loop->lanes->supervisor)
        pawl_control_reply(loop->lanes->supervisor, PAWL_WIRE_SERVES, 0, NULL, 0, NULL, 0);
    pawl_lanes_rebalance(loop);
}

/* A run that ends between a restart and its command's return must not be gone by then: its results are to be
 * heard. Return: when that is given up. */
static uint64_t await_owners(struct pawl_loop *loop)
{
    if (loop->owners_until_ns == 0)
        return UINT64_MAX;
    if (!loop->stopping && loop->now.boottime_ns < loop->owners_until_ns &&
        pawl_core_awaits_owners(loop->core))
        return loop->owners_until_ns;
    loop->owners_until_ns = 0;
    pawl_core_await_owners_no_more(loop->core);
    return UINT64_MAX;
}

static bool somebody_is_connected(const struct pawl_loop *loop)
{
    for (const struct pawl_connection *connection = loop->connections; connection;
         connection = connection->next)
        if (!connection->closing && connection->role != PAWL_ROLE_WORKER &&
            connection->role != PAWL_ROLE_SUPERVISOR)
            return true;
    return false;
}

/* @settling: somebody waits to hear that what it settled is durable. Told nothing, it would have to take it
 * for lost. */
static void leave_if_done(struct pawl_loop *loop, bool settling)
{
    if (!loop->serving || loop->collection || pawl_seal_busy(loop) || loop->owners_until_ns)
        return;
    /* A seal that fails keeps its run in the journal: no reason to stay. */
    bool idle = pawl_core_idle(loop->core) || (loop->seal_count > 0 && loop->queue_count == 0 &&
                                               pawl_journal_last_lsn(loop->journal) <= loop->durable_lsn);
    if (loop->stopping && (settling || pawl_bus_held(loop->bus) > 0) &&
        loop->now.boottime_ns < loop->drain_until_ns)
        return;
    if (idle && (loop->stopping || (loop->options->temporary && !somebody_is_connected(loop))))
        loop->leave = true;
}

/* What still runs after some milliseconds may fill the disk before its result comes; a batch of the shortest
 * jobs is not made to wait for a reserve. Return: when to look. */
static uint64_t secure_if_due(struct pawl_loop *loop)
{
    if (loop->secure_at_ns == 0)
        return UINT64_MAX;
    if (loop->now.boottime_ns < loop->secure_at_ns)
        return loop->secure_at_ns;
    loop->secure_at_ns = 0;
    for (const struct pawl_queue *queue = loop->queues; queue; queue = queue->next)
        if (queue->in_flight > 0) {
            pawl_journal_secure(loop->journal);
            break;
        }
    return UINT64_MAX;
}

/* ---- a turn ---- */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The shortest tasks settle within microseconds: a look is cheaper than to sleep and be woken. Many
 * settlements of workers in a turn that was long in coming are not those. */
static bool spin(struct pawl_loop *loop)
{
    bool slow = loop->attached_count == 0 && loop->turn_gap_ns > loop->turn_settled * SPIN_NS;
    if (loop->turn_settled < SPIN_SETTLED || slow)
        return false;
    uint64_t until_ns = pawl_clock_monotonic_ns() + SPIN_NS;
    for (int looks = 1;; looks++) {
        if (pawl_lanes_waiting(loop) || pawl_clients_waiting(loop))
            return true;
        if (looks < LOOKS_BEFORE_YIELD)
            continue;
        if (pawl_clock_monotonic_ns() >= until_ns)
            return false;
        (void)sched_yield(); /* who is waited for may want this core */
    }
}

static int sleep_or_reap(struct pawl_loop *loop, uint64_t until_ns)
{
    if (!pawl_io_active(&loop->signal_poll))
        (void)pawl_io_poll(loop->io, &loop->signal_poll, loop->signal_fd, POLLIN);
    if (!pawl_io_active(&loop->lanes->bell_read))
        (void)pawl_io_read8(loop->io, &loop->lanes->bell_read, loop->lanes->bell_fd);
    if (until_ns == 0 || spin(loop))
        return pawl_io_wait(loop->io, 0);
    /* D1: the flag, then the look; a worker publishes, then looks at the flag. */
    pawl_doorbell_prepare_for(&loop->world->sleeping,
                              loop->looks_soon ? PAWL_WORLD_LOOKS_SOON : PAWL_WORLD_SLEEPS);
    int result;
    bool waiting = pawl_clients_prepare(loop);
    if (waiting || pawl_lanes_waiting(loop)) {
        result = pawl_io_wait(loop->io, 0);
    } else {
        uint64_t now_ns = until_ns == UINT64_MAX ? 0 : pawl_clock_boottime_ns();
        result = pawl_io_wait(loop->io, until_ns == UINT64_MAX ? UINT64_MAX
                                        : until_ns > now_ns    ? until_ns - now_ns
                                                               : 0);
    }
    pawl_doorbell_awake(&loop->world->sleeping);
    pawl_clients_awake(loop);
    return result;
}

static void take_up_durable(struct pawl_loop *loop)
{
    if (loop->durable_lsn == loop->told_lsn)
        return;
    loop->told_lsn = loop->durable_lsn;
    loop->changed = true;
    pawl_core_durable(loop->core, loop->now, loop->durable_lsn);
    pawl_bus_durable(loop->bus, loop->now, loop->durable_lsn);
}

/* Does every slot have its next task already? Then the workers gain nothing from a sync now. Only short tasks
 * are placed so far ahead (dispatch.c). */
static bool all_have_work(const struct pawl_loop *loop)
{
    const struct pawl_queue *queue = loop->queues;
    while (queue && queue->in_flight > 2 * (uint64_t)queue->slots)
        queue = queue->next;
    return loop->queues && !queue;
}

/* Does nobody gain from a sync now? */
static bool may_wait(const struct pawl_loop *loop)
{
    if (loop->hurry)
        return false;
    return !loop->batch_appended ||
           (all_have_work(loop) && pawl_core_step_ended_lsn(loop->core) <= loop->flushed_lsn);
}

/* A sync costs as much CPU time as a tenth of a short process: several of them share one, and acks go with
 * what is published next. Return: when what waits is due. */
static uint64_t flush(struct pawl_loop *loop)
{
    uint64_t last_lsn = pawl_journal_last_lsn(loop->journal);
    bool wait = may_wait(loop);
    loop->hurry = false;
    if (wait && last_lsn > loop->flushed_lsn && loop->serving &&
        pawl_journal_pending_bytes(loop->journal) < COMPANY_BYTES) {
        if (loop->flush_due_ns == 0)
            loop->flush_due_ns =
                loop->batch_appended ? loop->flushed_at_ns + COMPANY_NS : loop->now.boottime_ns + ACKS_NS;
        if (loop->now.boottime_ns < loop->flush_due_ns) {
            pawl_journal_cut(loop->journal);
            return loop->flush_due_ns;
        }
    }
    if (last_lsn > loop->flushed_lsn)
        loop->flushed_at_ns = loop->now.boottime_ns;
    loop->flush_due_ns = 0;
    loop->batch_appended = false;
    loop->flushed_lsn = last_lsn;
    (void)pawl_journal_flush(loop->journal);
    return UINT64_MAX;
}

/* While results keep coming, and no slot runs out of work before, it is enough to look at them when the next
 * sync is due: workers need not ring. Return: when. */
static uint64_t look_soon(struct pawl_loop *loop)
{
    uint64_t now_ns = loop->now.boottime_ns;
    if (loop->turn_settled > 0)
        loop->settled_at_ns = now_ns;
    loop->looks_soon =
        loop->serving && !loop->stopping && now_ns < loop->settled_at_ns + COMPANY_NS && all_have_work(loop);
    if (!loop->looks_soon)
        return UINT64_MAX;
    uint64_t due_ns = loop->flushed_at_ns + COMPANY_NS;
    return due_ns > now_ns ? due_ns : now_ns + COMPANY_NS;
}

/* True: there is more to deliver. */
static bool turn_bus(struct pawl_loop *loop, uint64_t *until_ns)
{
    *until_ns = least(*until_ns, pawl_bus_tick(loop->bus, loop->now));
    *until_ns = least(*until_ns, pawl_clients_listen(loop));
    uint64_t taker_due_ns = pawl_control_bus_due(loop);
    if (taker_due_ns <= loop->now.boottime_ns)
        loop->changed = true;
    *until_ns = least(*until_ns, taker_due_ns);
    if (!loop->serving)
        return false;
    bool more = pawl_bus_dispatch(loop->bus, loop->now);
    /* Dispatch may set timers that are earlier than those that were there. */
    *until_ns = least(*until_ns, pawl_bus_tick(loop->bus, loop->now));
    return more;
}

/* Return: when the next turn is due, 0: at once. */
static uint64_t turn(struct pawl_loop *loop)
{
    pawl_counter_add(&loop->world->counters, PAWL_COUNTER_TURNS, 1);
    loop->turn_settled = 0;
    loop->turn_gap_ns = loop->now.boottime_ns - loop->turned_at_ns;
    loop->turned_at_ns = loop->now.boottime_ns;
    take_up_durable(loop);
    bool more = pawl_lanes_drain(loop);
    more |= pawl_clients_drain(loop);
    pawl_control_turn(loop);
    if (loop->reload_asked) {
        loop->reload_asked = false;
        pawl_reload(loop);
    }
    if (loop->stop_asked)
        stop(loop);
    serve_when_all_offered(loop);
    uint64_t until_ns = pawl_core_tick(loop->core, loop->now);
    until_ns = least(until_ns, sample_if_due(loop));
    until_ns = least(until_ns, secure_if_due(loop));
    more |= turn_bus(loop, &until_ns);
    if (loop->place_again_at_ns && loop->now.boottime_ns >= loop->place_again_at_ns) {
        loop->place_again_at_ns = 0;
        pawl_core_durable(loop->core, loop->now, loop->durable_lsn); /* makes dispatch look again */
    }
    until_ns = least(until_ns, pawl_queue_mend(loop));
    pawl_collect_turn(loop);
    if (loop->release_due)
        pawl_snapshot_release(loop);
    until_ns = least(until_ns, await_owners(loop));
    more |= pawl_seal_turn(loop);
    pawl_core_dispatch(loop->core, loop->now);
    if (core_failed(loop))
        return 0;
    pawl_lanes_assign(loop);
    pawl_queue_publish_all(loop);
    pawl_control_arm(loop);
    bool settling = pawl_clients_tell_durable(loop);
    (void)pawl_clients_publish(loop);
    until_ns = least(until_ns, flush(loop));
    until_ns = least(until_ns, look_soon(loop));
    until_ns = least(until_ns, loop->reply_due_ns);
    pawl_lanes_tell_durable(loop);
    pawl_snapshot_turn(loop);
    leave_if_done(loop, settling);
    until_ns = least(until_ns, pawl_figures_turn(loop));

    if (more || loop->more_to_read || loop->changed || loop->collection || loop->stop_asked ||
        loop->reload_asked)
        return 0;
    until_ns = least(until_ns, pawl_journal_idle(loop->journal, loop->now.boottime_ns));
    until_ns = least(until_ns, pawl_lanes_tick(loop));
    until_ns = least(until_ns, pawl_seal_due(loop));
    until_ns = least(until_ns, pawl_snapshot_due(loop));
    if (loop->place_again_at_ns)
        until_ns = least(until_ns, loop->place_again_at_ns);
    if (loop->stopping && loop->drain_until_ns > loop->now.boottime_ns)
        until_ns = least(until_ns, loop->drain_until_ns);
    if (loop->listeners.accept_at_ns > loop->now.boottime_ns)
        until_ns = least(until_ns, loop->listeners.accept_at_ns);
    if (!loop->serving)
        until_ns = least(until_ns, loop->now.boottime_ns - loop->born_at_ns >= OFFERS_NS
                                       ? UINT64_MAX
                                       : loop->born_at_ns + OFFERS_NS);
    return until_ns;
}

int pawl_loop_run(struct pawl_loop *loop)
{
    uint64_t until_ns = 0;
    loop->signal_poll = (struct pawl_io_request){.done = on_signal, .ctx = loop};
    while (!loop->leave) {
        int result = sleep_or_reap(loop, until_ns);
        if (result < 0 && result != -EINTR)
            return result;
        pawl_loop_sample_clocks(loop);
        if (loop->journal_error) {
            fail_stop(loop);
            break;
        }
        until_ns = turn(loop);
    }
    return 0;
}
