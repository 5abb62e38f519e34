/*
 * worker.c - a worker process: the loop that claims, runs and reports, one job at a time.
 *
 * Runs in: worker. One thread; sleeps only in ppoll(), where alone SIGTERM can end it. Results of jobs are
 * kept until they are durable, and offered to a new scheduler when the old one dies.
 *
 *   idle -- claim --> prepared -- BEGUN pushed, spawned --> running -- pidfd readable --> RESULT held, pushed
 *     ^                                                        |                               |
 *     +--------------------------------------------------------+-- socket lost: goes on,       |
 *     |                                                             offered, adopted or killed |
 *     +----------------------------------------------------------------------------------------+
 */
#include "workers/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/doorbell.h"
#include "shm/error.h"
#include "shm/log.h"
#include "workers/attach.h"
#include "workers/builtin.h"
#include "workers/held.h"
#include "workers/job.h"

enum {
    NOOP_BATCH = 64,
    EXIT_UNREACHABLE = 4,
    EXIT_INTERNAL = 70,
    EXIT_TERMINATED = 128 + SIGTERM,
    CONTINUE = -1, /* of a turn: not over yet */
};
#define REPORT_RUNNING_NS   UINT64_C(5000000)  /* a job that has run for so long is worth a bell */
#define SPAWN_WAIT_FIRST_NS UINT64_C(10000000) /* between tries where no process can be made */
#define SPAWN_WAIT_MOST_NS  UINT64_C(500000000)
#define SPAWN_PATIENCE_NS   UINT64_C(30000000000)
#define HEARD_LOOK_NS       UINT64_C(200000) /* how often to look whether a failure was heard of */

/* The delivery at hand: claimed, and perhaps running. */
struct delivery {
    bool taken;
    bool lost;    /* its scheduler is gone: slot and generation mean nothing until it is adopted */
    bool discard; /* refused by the new scheduler: its end interests nobody */
    bool kill;    /* asked to end before it ran */
    uint64_t kill_grace_ns;
    uint32_t queue, slot, generation; /* or PAWL_SLOT_ADOPTED and the ticket */
    uint32_t number;                  /* of its offer */
    struct pawl_identity identity;
};

struct worker {
    const struct pawl_worker_options *options;
    struct pawl_attach attach;
    struct pawl_job_host host;
    struct pawl_held_list held;
    struct delivery delivery;
    struct pawl_job job; /* exec.pid 0: nothing runs */
    struct pawl_captured captured;
    uint32_t offers;
    uint64_t unheard; /* a failure was reported below this settle position, and may stop the run; 0: none */
};

/* What the SIGTERM handler needs. Only written while SIGTERM is blocked. */
static volatile pid_t group_to_kill;

static void on_sigterm(int number)
{
    (void)number;
    if (group_to_kill > 0)
        kill(-group_to_kill, SIGKILL);
    _exit(EXIT_TERMINATED);
}

static bool is_running(const struct worker *worker)
{
    return worker->job.exec.pid > 0;
}

/* ---- what the scheduler says ---- */

static void send_offer(struct worker *worker, const struct pawl_identity *identity, uint32_t number,
                       pid_t pid, const struct pawl_held *held)
{
    struct {
        struct pawl_wire_offer offer;
        struct pawl_settlement settlement;
    } body = {.offer = {.step = identity->step,
                        .pid = (uint32_t)pid,
                        .instance = identity->instance,
                        .attempt = identity->attempt,
                        .ended = held != NULL,
                        .started_at_ns = identity->started_at_ns,
                        .epoch = identity->epoch,
                        .number = number}};
    _Static_assert(offsetof(__typeof__(body), settlement) == sizeof(struct pawl_wire_offer), "wire format");
    memcpy(body.offer.run_id, identity->run_id, sizeof body.offer.run_id);
    if (held)
        body.settlement = held->settlement;
    pawl_attach_send(&worker->attach, PAWL_WIRE_OFFER, &body, held ? sizeof body : sizeof body.offer,
                     held ? held->bytes : NULL, held ? held->settlement.arena_bytes : 0);
}

static void on_lane(void *ctx)
{
    struct worker *worker = ctx;
    for (uint32_t i = 0; i < worker->held.count; i++) {
        struct pawl_held *held = pawl_held_at(&worker->held, i);
        held->number = ++worker->offers;
        send_offer(worker, &held->identity, held->number, 0, held);
    }
    if (worker->delivery.lost && is_running(worker) && !worker->delivery.discard) {
        worker->delivery.number = ++worker->offers;
        send_offer(worker, &worker->delivery.identity, worker->delivery.number, worker->job.exec.pid, NULL);
    }
    pawl_attach_send(&worker->attach, PAWL_WIRE_OFFERS_END, NULL, 0, NULL, 0);
}

static void on_lost(void *ctx)
{
    struct worker *worker = ctx;
    for (uint32_t i = 0; i < worker->held.count; i++) {
        struct pawl_held *held = pawl_held_at(&worker->held, i);
        held->position = UINT64_MAX;
        held->number = 0;
        held->due = false;
    }
    worker->delivery.lost = true;
    worker->delivery.number = 0;
    worker->unheard = 0;
    pawl_workdir_forget(&worker->host.workdir);
}

static int on_queue(void *ctx, const void *context, size_t n)
{
    struct worker *worker = ctx;
    if (worker->delivery.taken && !is_running(worker))
        return PAWL_E_STATE; /* one is being prepared with the old queue's surroundings */
    const char *mark = worker->options->mark;
    return pawl_job_host_set_queue(&worker->host, context, n, mark && mark[0] ? mark : worker->attach.mark,
                                   worker->attach.slot_number);
}

static void on_kill(void *ctx, const struct pawl_wire_kill *kill)
{
    struct worker *worker = ctx;
    struct delivery *delivery = &worker->delivery;
    if (!delivery->taken || delivery->lost || kill->queue != delivery->queue ||
        kill->slot != delivery->slot || kill->generation != delivery->generation)
        return; /* it ended meanwhile */
    if (is_running(worker)) {
        pawl_exec_stop(&worker->job.exec, PAWL_EXEC_END_KILL, pawl_clock_monotonic_ns(), kill->grace_ns);
        return;
    }
    if (!delivery->kill || kill->grace_ns < delivery->kill_grace_ns)
        delivery->kill_grace_ns = kill->grace_ns;
    delivery->kill = true;
}

static void on_adopt(void *ctx, const struct pawl_wire_adopt *adopt)
{
    struct worker *worker = ctx;
    struct delivery *delivery = &worker->delivery;
    if (adopt->number == 0)
        return;
    if (delivery->taken && delivery->lost && delivery->number == adopt->number) {
        delivery->number = 0;
        delivery->queue = adopt->queue;
        delivery->slot = PAWL_SLOT_ADOPTED;
        delivery->generation = adopt->ticket;
        delivery->lost = adopt->keep == 0;
        delivery->discard = adopt->keep == 0;
        if (delivery->discard && is_running(worker))
            pawl_exec_stop(&worker->job.exec, PAWL_EXEC_END_KILL, pawl_clock_monotonic_ns(), 0);
        return;
    }
    for (uint32_t i = 0; i < worker->held.count; i++) {
        struct pawl_held *held = pawl_held_at(&worker->held, i);
        if (held->number != adopt->number)
            continue;
        held->number = 0;
        held->settlement.queue = adopt->queue;
        held->settlement.slot = PAWL_SLOT_ADOPTED;
        held->settlement.generation = adopt->ticket;
        held->due =
            true; /* the offer told that it ended; what came of it goes through the lane like any other */
        if (adopt->keep == 0)
            pawl_held_drop(&worker->held, i);
        return;
    }
}

static const struct pawl_attach_events events = {
    .on_lane = on_lane, .on_queue = on_queue, .on_kill = on_kill, .on_adopt = on_adopt, .on_lost = on_lost};

/* ---- reporting ---- */

/* Into the lane, however long the scheduler takes to make room. 0 or PAWL_E_CLOSED. */
static int push_or_wait(struct worker *worker, const struct pawl_settlement *settlement, const void *bytes)
{
    uint64_t epoch = worker->attach.epoch;
    for (;;) {
        int error = pawl_attach_push(&worker->attach, settlement, bytes, pawl_clock_monotonic_ns());
        if (error != PAWL_E_QUEUE_FULL)
            return error;
        pawl_attach_wait_room(&worker->attach);
        if (!worker->attach.has_lane || worker->attach.epoch != epoch)
            return PAWL_E_CLOSED;
    }
}

/* Push what is due of the held results, oldest first. Waiting for room may change the list: start over then.
 */
static void push_held(struct worker *worker)
{
    pawl_held_settle(&worker->held, pawl_attach_durable(&worker->attach));
    for (uint32_t i = 0; i < worker->held.count; i++) {
        struct pawl_held *held = pawl_held_at(&worker->held, i);
        if (!held->due)
            continue;
        uint64_t position = pawl_lane_pushed(&worker->attach.lane);
        int error =
            pawl_attach_push(&worker->attach, &held->settlement, held->bytes, pawl_clock_monotonic_ns());
        if (error == PAWL_E_QUEUE_FULL) {
            pawl_attach_wait_room(&worker->attach);
            i = UINT32_MAX; /* wraps to the oldest */
            continue;
        }
        if (error < 0)
            return; /* the lane is gone: it will be offered */
        held->position = position;
        held->due = false;
        pawl_workdir_reported(&worker->host.workdir, position);
    }
    pawl_attach_publish(&worker->attach);
}

/* The delivery at hand has its result: keep it, tell it if its scheduler lives. */
static void settle_delivery(struct worker *worker, struct pawl_settlement *settlement)
{
    struct delivery *delivery = &worker->delivery;
    settlement->queue = delivery->queue;
    settlement->slot = delivery->slot;
    settlement->generation = delivery->generation;
    if (!delivery->discard) {
        delivery->identity.attempt = settlement->attempt;
        struct pawl_held *held =
            pawl_held_add(&worker->held, &delivery->identity, settlement, worker->captured.bytes);
        if (held) {
            held->due = !delivery->lost;
            held->number = delivery->number; /* an offer of it may be under way */
        } else if (!delivery->lost) {        /* no memory for a copy: tell it at least once */
            push_or_wait(worker, settlement, worker->captured.bytes);
        }
    }
    delivery->taken = false;
    push_held(worker);
    if (settlement->outcome != PAWL_OUTCOME_EXITED || settlement->exit_code != 0)
        worker->unheard = worker->attach.has_lane ? pawl_lane_pushed(&worker->attach.lane) : 0;
}

/* After a failure nothing new may start before the scheduler has had its say: it may take back what is
 * placed. */
static bool must_be_heard(struct worker *worker)
{
    if (worker->unheard == 0 || !worker->attach.has_lane ||
        pawl_lane_consumed(&worker->attach.lane) >= worker->unheard)
        worker->unheard = 0;
    return worker->unheard != 0;
}

static void finish_job(struct worker *worker)
{
    struct pawl_settlement settlement;
    pawl_job_finish(&worker->host, &worker->job, pawl_clock_monotonic_ns(), &settlement, &worker->captured);
    group_to_kill = 0;
    pawl_attach_show_job(&worker->attach, 0, 0);
    settle_delivery(worker, &settlement);
}

/* ---- doing ---- */

static void take_delivery(struct worker *worker, const struct pawl_claimed *claimed)
{
    worker->delivery = (struct delivery){
        .taken = true,
        .queue = worker->attach.queue,
        .slot = claimed->slot,
        .generation = claimed->generation,
        .identity = {.step = claimed->descriptor.step,
                     .instance = claimed->descriptor.instance,
                     .attempt = claimed->descriptor.attempt,
                     .epoch = worker->attach.epoch},
    };
}

static struct pawl_settlement settlement_of(const struct worker *worker, enum pawl_settlement_type type)
{
    return (struct pawl_settlement){.type = (uint8_t)type,
                                    .queue = worker->delivery.queue,
                                    .slot = worker->delivery.slot,
                                    .generation = worker->delivery.generation,
                                    .attempt = worker->delivery.identity.attempt};
}

static void drop_delivery(struct worker *worker, int error)
{
    struct pawl_settlement settlement = settlement_of(worker, PAWL_SETTLE_DROPPED);
    settlement.exit_code = error;
    push_or_wait(worker, &settlement, NULL);
    worker->delivery.taken = false;
}

static void do_noop(struct worker *worker, uint64_t realtime_ns)
{
    struct pawl_settlement settlement = settlement_of(worker, PAWL_SETTLE_RESULT);
    pawl_builtin_noop(realtime_ns, &settlement);
    push_or_wait(worker, &settlement, NULL);
    worker->delivery.taken = false;
}

/* It has begun, and is no failure while only the machine has no room for a process: tried again, later and
 * later, listening. Return: as pawl_job_spawn(), or PAWL_E_CLOSED: its scheduler is gone. */
static int spawn_or_wait(struct worker *worker, struct pawl_settlement *settlement)
{
    struct pawl_attach *attach = &worker->attach;
    struct pawl_job *job = &worker->job;
    const uint64_t epoch = attach->epoch, give_up_ns = job->started_ns + SPAWN_PATIENCE_NS;
    uint64_t now_ns = job->started_ns, wait_ns = SPAWN_WAIT_FIRST_NS;
    for (;;) {
        bool may_wait = now_ns < give_up_ns && !worker->delivery.kill;
        int error = pawl_job_spawn(&worker->host, job, now_ns, may_wait, settlement, &worker->captured);
        if (error <= 0)
            return error;
        if (wait_ns == SPAWN_WAIT_FIRST_NS)
            pawl_log(PAWL_LOG_WARNING, "no process can be made for step %s of run %s: tried again for %u s",
                     job->task.step, job->run_id, (unsigned)(SPAWN_PATIENCE_NS / 1000000000));
        pawl_attach_report(attach, now_ns, PAWL_REPORT_NOW);
        pawl_attach_wait(attach, wait_ns);
        wait_ns = wait_ns * 2 < SPAWN_WAIT_MOST_NS ? wait_ns * 2 : SPAWN_WAIT_MOST_NS;
        now_ns = pawl_clock_monotonic_ns();
        if (!attach->has_lane || attach->epoch != epoch)
            return PAWL_E_CLOSED;
    }
}

static void start_job(struct worker *worker, const struct pawl_task *task)
{
    struct delivery *delivery = &worker->delivery;
    struct pawl_job *job = &worker->job;
    struct pawl_settlement settlement;
    const char *run_id = task->run_id[0] ? task->run_id : worker->host.context.run_id;
    /* Names carry the instance when a step has several: it has an item then; so have the fed ones of map. */
    bool fan_out = task->item != NULL || task->run_id[0] == '\0';
    strncpy(delivery->identity.run_id, run_id, sizeof delivery->identity.run_id - 1);
    int error =
        pawl_job_prepare(&worker->host, job, task, run_id, delivery->identity.instance, fan_out,
                         delivery->identity.attempt, pawl_attach_durable(&worker->attach),
                         pawl_clock_realtime_ns(), pawl_clock_monotonic_ns(), &settlement, &worker->captured);
    delivery->identity.started_at_ns = job->started_at_ns;
    delivery->identity.attempt = job->attempt;
    if (error < 0) {
        settle_delivery(worker, &settlement);
        return;
    }
    struct pawl_settlement begun = settlement_of(worker, PAWL_SETTLE_BEGUN);
    begun.started_at_ns = job->started_at_ns;
    if (push_or_wait(worker, &begun, NULL) < 0) { /* its scheduler is gone and never heard of it: leave it */
        pawl_job_abandon(&worker->host, job);
        delivery->taken = false;
        return;
    }
    pawl_attach_publish(&worker->attach);
    error = spawn_or_wait(worker, &settlement);
    if (error == PAWL_E_CLOSED) { /* the next one knows that it began, and lets it run again */
        pawl_job_abandon(&worker->host, job);
        delivery->taken = false;
        return;
    }
    if (error < 0) {
        if (delivery->kill)
            settlement.outcome = PAWL_OUTCOME_KILLED;
        settle_delivery(worker, &settlement);
        return;
    }
    group_to_kill = job->exec.pid;
    pawl_attach_show_job(&worker->attach, (uint64_t)job->exec.pid, job->started_at_ns);
    if (delivery->kill)
        pawl_exec_stop(&job->exec, PAWL_EXEC_END_KILL, pawl_clock_monotonic_ns(), delivery->kill_grace_ns);
}

/* Claim until a job runs, nothing is left, or a batch of no-ops is done. */
static void claim_some(struct worker *worker)
{
    struct pawl_claimed claimed;
    struct pawl_task task;
    uint64_t realtime_ns = 0;
    for (int done = 0; done < NOOP_BATCH && worker->held.count < PAWL_HELD_MAX / 2; done++) {
        int error = pawl_attach_claim(&worker->attach, &claimed);
        if (error == PAWL_E_QUEUE_EMPTY)
            break;
        take_delivery(worker, &claimed);
        if (error == 0)
            error = pawl_attach_task(&worker->attach, &claimed, &task);
        if (error == PAWL_E_CLOSED || worker->delivery.lost) {
            worker->delivery.taken = false;
            break;
        }
        if (error < 0) {
            drop_delivery(worker, error);
        } else if (task.kind == PAWL_TASK_NOOP) {
            if (realtime_ns == 0)
                realtime_ns = pawl_clock_realtime_ns();
            do_noop(worker, realtime_ns);
        } else {
            start_job(worker, &task);
            if (is_running(worker))
                break;
        }
    }
    pawl_attach_publish(&worker->attach);
}

/* ---- the loop ---- */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void sleep_until(struct worker *worker, uint64_t until_ns, uint64_t now_ns)
{
    struct pawl_attach *attach = &worker->attach;
    bool running = is_running(worker);
    struct pollfd fds[3] = {
        {.fd = attach->wire.fd, .events = POLLIN},
        {.fd = running ? worker->job.exec.pidfd : -1, .events = POLLIN},
        {.fd = running ? -1 : attach->own_bell, .events = POLLIN},
    };
    if (attach->wire.fd >= 0 && pawl_wire_pending(&attach->wire) > 0)
        fds[0].events |= POLLOUT;
    uint64_t wait_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec wait = {.tv_sec = (time_t)(wait_ns / 1000000000),
                            .tv_nsec = (long)(wait_ns % 1000000000)};

    _Atomic uint32_t *sleeping = running ? NULL : pawl_attach_sleeping(attach);
    if (sleeping)
        pawl_doorbell_prepare(sleeping);
    if (!sleeping || !pawl_attach_claimable(attach)) /* D1: looked at again after the flag was set */
        ppoll(fds, 3, until_ns == UINT64_MAX ? NULL : &wait, &attach->wait_mask);
    if (sleeping)
        pawl_doorbell_awake(sleeping);
    if (fds[2].revents)
        pawl_doorbell_clear(attach->own_bell);
    if (fds[1].revents)
        finish_job(worker);
    if (fds[0].revents)
        pawl_attach_receive(attach, pawl_clock_monotonic_ns());
}

/* Until the scheduler has read a failure: it rings nobody for that, so look again soon. */
static void sleep_for_a_word(struct worker *worker)
{
    struct pollfd fd = {.fd = worker->attach.wire.fd, .events = POLLIN};
    const struct timespec wait = {.tv_nsec = (long)HEARD_LOOK_NS};
    if (ppoll(&fd, 1, &wait, &worker->attach.wait_mask) > 0)
        pawl_attach_receive(&worker->attach, pawl_clock_monotonic_ns());
}

/* Is this worker to go, or to leave its queue? Only asked while nothing runs. */
static int look_at_orders(struct worker *worker, uint64_t now_ns)
{
    struct pawl_attach *attach = &worker->attach;
    if (!attach->exiting && !attach->leaving)
        return CONTINUE;
    pawl_attach_report(attach, now_ns, PAWL_REPORT_NOW);
    if (attach->exiting)
        return 0;
    pawl_workdir_fini(&worker->host.workdir, pawl_attach_durable(attach));
    pawl_attach_leave(attach);
    return CONTINUE;
}

/* Return: CONTINUE or the exit code. */
static int turn(struct worker *worker)
{
    struct pawl_attach *attach = &worker->attach;
    uint64_t now_ns = pawl_clock_monotonic_ns();
    uint64_t until_ns = pawl_attach_connect(attach, now_ns);
    if (!attach->has_lane) {
        uint64_t give_up_ns = attach->lost_at_ns + PAWL_RECONNECT_MAX_NS;
        if (now_ns >= give_up_ns)
            return EXIT_UNREACHABLE;
        until_ns = least(until_ns, give_up_ns);
    }
    push_held(worker);
    if (!is_running(worker)) {
        if (!must_be_heard(worker))
            claim_some(worker);
        now_ns = pawl_clock_monotonic_ns();
    }
    if (is_running(worker)) {
        until_ns = least(until_ns, pawl_job_tick(&worker->host, &worker->job, now_ns));
        uint64_t report_ns = worker->job.started_ns + REPORT_RUNNING_NS;
        pawl_attach_report(attach, now_ns, now_ns >= report_ns ? PAWL_REPORT_SOON : PAWL_REPORT_IN_TIME);
        if (attach->unreported > 0)
            until_ns = least(until_ns, report_ns);
    } else {
        int code = look_at_orders(worker, now_ns);
        if (code != CONTINUE)
            return code;
        if (must_be_heard(worker)) {
            pawl_attach_report(attach, now_ns, PAWL_REPORT_NOW);
            sleep_for_a_word(worker);
            return CONTINUE;
        }
        bool more = pawl_attach_claimable(attach) && worker->held.count < PAWL_HELD_MAX / 2;
        pawl_attach_report(attach, now_ns, more ? PAWL_REPORT_IN_TIME : PAWL_REPORT_NOW);
        if (more) { /* do not sleep, but listen */
            pawl_attach_receive(attach, now_ns);
            return CONTINUE;
        }
        if (worker->held.count >= PAWL_HELD_MAX / 2) /* nobody tells that something became durable */
            until_ns = least(until_ns, now_ns + REPORT_RUNNING_NS);
    }
    sleep_until(worker, until_ns, now_ns);
    return CONTINUE;
}

/* Nothing ignored is passed on to jobs; everything is blocked (SIGXFSZ too: to write beyond a limit is an
 * error of that write), except that SIGTERM is heard while asleep. */
static void set_up_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int number = 1; number < NSIG; number++)
        if (number != SIGKILL && number != SIGSTOP)
            sigaction(number, &action, NULL);
    action.sa_handler = on_sigterm;
    sigaction(SIGTERM, &action, NULL);
}

int pawl_worker_main(const struct pawl_worker_options *options)
{
    struct worker *worker = calloc(1, sizeof *worker);
    int code = EXIT_INTERNAL;
    if (!worker)
        return code;
    worker->options = options;
    set_up_signals();
    umask(077);
    char role[32];
    snprintf(role, sizeof role, "worker %u", options->number);
    pawl_log_open(STDERR_FILENO, role, PAWL_LOG_INFO);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != options->supervisor) {
        code = 0; /* it died before it could be watched */
        goto free_worker;
    }
    pawl_held_init(&worker->held);
    int error = pawl_job_host_open(&worker->host, options->state_dirfd, options->state_path, options->number);
    if (error < 0) {
        pawl_log(PAWL_LOG_ERROR, "spool files in %s/spool: %s", options->state_path, pawl_error_text(error));
        goto free_worker;
    }
    error = pawl_attach_init(&worker->attach, options->state_dirfd, options->number, &events, worker,
                             pawl_clock_monotonic_ns());
    if (error < 0)
        goto close_host;
    sigfillset(&worker->attach.wait_mask);
    sigdelset(&worker->attach.wait_mask, SIGTERM);
    do
        code = turn(worker);
    while (code == CONTINUE);
    if (is_running(worker))
        pawl_exec_kill_now(&worker->job.exec);
    uint64_t durable_position = pawl_attach_durable(&worker->attach);
    pawl_attach_fini(&worker->attach);
    pawl_held_fini(&worker->held);
    pawl_job_host_close(&worker->host, durable_position);
    goto free_worker;
close_host:
    pawl_job_host_close(&worker->host, 0);
free_worker:
    free(worker);
    close(options->state_dirfd);
    return code;
}
