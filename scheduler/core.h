/*
 * core.h - the pure state machine: inputs and `now` in, effects out.
 *
 * Runs in the scheduler, or in a simulator. It does no I/O, reads no clock and no shared word, and never
 * blocks. Whatever it decides leaves through struct pawl_core_effects, synchronously, during the call that
 * decided it. Records are changed into state by pawl_core_apply() alone, live and in recovery.
 *
 * Order of a live change: decide -> effects.append(record) -> apply -> effects that may not wait for the
 * disk; what must wait (successors, confirms, sealing) is held until pawl_core_durable() passes its lsn.
 */
#ifndef PAWL_SCHEDULER_CORE_H
#define PAWL_SCHEDULER_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "scheduler/now.h"
#include "scheduler/run.h"
#include "shm/task.h"
#include "shm/wire.h"

struct pawl_core;
struct pawl_batch;
struct pawl_run;

/* One hand-over of one instance to a worker. Owned by the core; the loop writes only the fields marked as its
 * own. */
struct pawl_delivery {
    struct pawl_batch *batch;
    struct pawl_run *run;
    uint32_t step;
    uint32_t attempt;  /* that it will have when it begins */
    uint64_t instance; /* number within the step */
    bool begun;
    bool signalled;         /* asked to end */
    uint32_t worker;        /* number, once begun */
    uint64_t started_at_ns; /* CLOCK_REALTIME, once begun */
    uint64_t placed_at_ns;  /* boottime */
    uint64_t grace_ns;      /* of the last signal; once begun it gets that */
    uint32_t begin_index; /* 1-based place in the core's list of begins that are not journaled yet; 0: none */
    /* the loop's own: where it lies */
    uint32_t slot, generation, log_segment, ticket;
    bool suspect; /* its claim word did not hold when it was last looked at */
    /* the core's list of the run's deliveries */
    struct pawl_delivery *next, *previous;
};

/* What the caller does for the core. `ctx` is pawl_core_create()'s. None may call back into the core. */
struct pawl_core_effects {
    /* Add one record to the journal's current batch. Everything appended between two cuts by the loop is
     * atomic. Return: its lsn, 0 on failure (the journal failed: the core then only refuses). place_out: for
     * read(). */
    uint64_t (*append)(void *ctx, uint8_t type, const struct iovec *body, int count, uint64_t *place_out);

    /* Room for new work of this size? false: refuse it with PAWL_E_NO_SPACE. Results are appended without
     * asking. */
    bool (*has_room)(void *ctx, size_t bytes);

    /* Read bytes of a record's body. Return: 0 or an error (PAWL_E_NOT_FOUND: gone). */
    int (*read)(void *ctx, uint64_t place, uint32_t body_offset, void *buffer, size_t bytes);

    /* Where a place is by now: a frame that a full disk refused was written elsewhere. May be NULL: places
     * never move. */
    uint64_t (*resolve)(void *ctx, uint64_t place);

    /* Read a file of the run's directory (`name` is relative: "out/x", "image") into malloc'd memory; the
     * core frees it. */
    int (*read_file)(void *ctx, const char *run_id, const char *name, uint64_t byte_offset,
                     uint64_t bytes_max, void **bytes_out, size_t *n_out);

    /* Place a task in the batch's ring. Return: 0; PAWL_E_QUEUE_FULL (tried again after the next settlement).
     */
    int (*place)(void *ctx, struct pawl_delivery *delivery, const void *task, size_t bytes);

    /* Take back what was placed. 0: no worker has it (the core frees the delivery); PAWL_E_STATE: a worker
     * has it. */
    int (*recall)(void *ctx, struct pawl_delivery *delivery);

    /* End the job of a begun delivery: SIGTERM, then SIGKILL after grace (0: at once). */
    void (*signal)(void *ctx, struct pawl_delivery *delivery, uint64_t grace_ns);

    /* The delivery is over (settled, lost): its slot and task memory are free. Called before the core frees
     * it. */
    void (*forget)(void *ctx, struct pawl_delivery *delivery);

    /* A batch began (create its queue, ask for workers) or ended (nothing is placed any more; give its
     * workers back). */
    int (*batch_open)(void *ctx, struct pawl_batch *batch);
    void (*batch_close)(void *ctx, struct pawl_batch *batch);

    /* The run has something new to tell: completions, state, durable lsn. Parked requests look again. */
    void (*changed)(void *ctx, struct pawl_run *run);

    /* A sealed run is about to come back, and its image will not be the last word on it any more: readers
     * must know that, durably, before the record of it is appended. NULL: there are no readers. Return: 0 or
     * an error. */
    int (*reopening)(void *ctx, const char *run_id);

    /* The run is over and durable: write its image, then call pawl_core_sealed(). */
    void (*seal)(void *ctx, struct pawl_run *run);

    uint64_t (*random)(void *ctx);
    void (*log)(void *ctx, int level, const char *text);
};

#define PAWL_RUN_INSTANCES_MAX  UINT64_C(100000000) /* of a run, whatever the configuration says */
#define PAWL_RUN_INSTANCES_HINT "run-instances in pawl.yaml or PAWL_RUN_INSTANCES raises it"

struct pawl_core_options {
    uint64_t instances_max;     /* of a run; at most PAWL_RUN_INSTANCES_MAX, or a reader's own bound */
    uint32_t interruptions_max; /* 5 */
    uint64_t output_bytes_max;  /* 1 GiB */
    uint64_t value_bytes_max;   /* 1 MiB: what an expression may put into an argument */
    uint32_t items_window;      /* fed items that wait to start, at most; 4096 */
};

void pawl_core_options_default(struct pawl_core_options *options);

int pawl_core_create(const struct pawl_core_options *options, const struct pawl_core_effects *effects,
                     void *ctx, struct pawl_core **core_out);
void pawl_core_destroy(struct pawl_core *core);

/* ---- recovery: before anything else ---- */

/** pawl_core_written - what is applied and loaded from here on was written at @written; boottime_ns 0 (as
 * long as nothing is said): in another boot. Waits go on by it: pawl_now_due(). */
void pawl_core_written(struct pawl_core *core, struct pawl_now written);

/* Types of the journal's records. Bodies: scheduler/core_record.h and docs/journal-format.md. */
enum pawl_record_type {
    PAWL_RECORD_EPOCH = 1, /* a scheduler started */
    PAWL_RECORD_RUN = 2,   /* a run was submitted: plan, context */
    PAWL_RECORD_ITEMS = 3, /* fed items */
    PAWL_RECORD_ITEMS_END = 4,
    PAWL_RECORD_CLAIM = 5,      /* an attempt began */
    PAWL_RECORD_STEP = 6,       /* an attempt ended: outcome, verdict, outputs */
    PAWL_RECORD_STEP_STATE = 7, /* a step changed without an attempt: skipped, expanded, cancelled, reset */
    PAWL_RECORD_RUN_STATE = 8,  /* finished, interrupted, cancelled, resumed */
    PAWL_RECORD_SEALED = 9,     /* the image is on disk: the run leaves */
    PAWL_RECORD_REOPEN = 10,    /* a sealed run came back: its image is the base */
    PAWL_RECORD_RESUME = 11,    /* an interrupted, failed or cancelled run goes on */
};

/**
 * pawl_core_apply - one record of the journal changes the state; the same function that live changes go
 * through
 *
 * Return: 0; PAWL_E_DAMAGED when the record contradicts the state; PAWL_E_BAD_FORMAT for an unknown type or
 * version.
 */
int pawl_core_apply(struct pawl_core *core, uint8_t type, uint16_t version, const void *body, size_t bytes,
                    uint64_t lsn, uint64_t place);

/* A snapshot holds every unsealed run. Chunks come back in the order in which they were written. */
int pawl_core_snapshot_load(struct pawl_core *core, const void *chunk, size_t bytes);

/* Iterate over the chunks of the present state: 1 and a chunk (valid until the next call), 0 at the end.
 * *cursor NULL first; state must not change between the first and the last call. @now, the same for all of
 * it: whoever loads it says so, pawl_core_written(). */
int pawl_core_snapshot_next(struct pawl_core *core, struct pawl_now now, void **cursor,
                            const void **chunk_out, size_t *bytes_out);

/**
 * pawl_core_start - recovery is over: open a new epoch
 * @restarted: the predecessor was of the same supervisor: runs go on, and held jobs will be offered
 * (pawl_core_adopt); false: a fresh start: every unfinished run is INTERRUPTED until somebody resumes it
 *
 * Return: 0 or an error; @epoch_lsn_out is the lsn that must be durable before the first delivery (the core
 * waits for it).
 */
int pawl_core_start(struct pawl_core *core, struct pawl_now now, bool restarted, uint64_t *epoch_out,
                    uint64_t *epoch_lsn_out);

/* Were attempts open when the predecessor died? Then their processes must be proved gone before
 * pawl_core_serve(). */
bool pawl_core_was_running(const struct pawl_core *core);

/* Restart only: a worker offers a job that it still holds. Return: a delivery (adopted, begun) or NULL (kill
 * it). */
struct pawl_delivery *pawl_core_adopt(struct pawl_core *core, struct pawl_now now,
                                      const struct pawl_wire_offer *offer, uint32_t worker);

/* Every worker has offered or is gone, or it is a fresh start whose old processes are proved gone: begun
 * attempts that nobody holds count as interruptions; placing may begin. */
void pawl_core_serve(struct pawl_core *core, struct pawl_now now);

/* ---- inputs ---- */

enum { PAWL_SUBMIT_NOTHING_LEFT = 1 };

struct pawl_submission {
    const struct pawl_wire_submit *request;
    const void *plan; /* copied; NULL with PAWL_SUBMIT_SAME_PLAN */
    size_t plan_bytes;
    const void *context; /* copied; may be NULL with resume_id: the run's own is kept */
    size_t context_bytes;
    const char *file;   /* for people */
    const char *filter; /* --filter of retry, or "" */
    bool sealed;        /* resume_id names a sealed run: the core reads "image" by effects.read_file */
    uint64_t client;    /* the loop's number for the owner; 0 when detached */
};

/**
 * pawl_core_submit - begin a run, or go on with one
 *
 * Return: 0 with *run_out (confirmed when pawl_run_durable()); PAWL_SUBMIT_NOTHING_LEFT: what is resumed has
 * succeeded, *run_out is untouched; PAWL_E_BAD_MESSAGE (plan or context does not hold), PAWL_E_BUSY (resume
 * of a run that runs), PAWL_E_NOT_FOUND, PAWL_E_STATE (the name is taken, or the run is of another kind),
 * PAWL_E_NO_SPACE, PAWL_E_LIMIT. @why (256 bytes) says more.
 */
int pawl_core_submit(struct pawl_core *core, struct pawl_now now, const struct pawl_submission *submission,
                     struct pawl_run **run_out, char why[256]);

/* Fed items. @bytes: `count` times pawl_wire_item + task, 8-aligned. instances_out[count]: number, top bit:
 * had succeeded before. A matched instance that had not succeeded runs again. Returns as submit. */
int pawl_core_items(struct pawl_core *core, struct pawl_now now, struct pawl_run *run, uint64_t first,
                    const void *bytes, size_t n, uint32_t count, uint64_t *instances_out);
int pawl_core_items_end(struct pawl_core *core, struct pawl_now now, struct pawl_run *run);
uint32_t pawl_core_items_credit(const struct pawl_core *core, const struct pawl_run *run);

/* A worker began the delivery. @attempt may be higher than planned. */
void pawl_core_begun(struct pawl_core *core, struct pawl_now now, struct pawl_delivery *delivery,
                     uint32_t worker, uint32_t attempt, uint64_t started_at_ns);

/* It ended (RESULT or DROPPED). @settlement was copied and checked by the caller, @bytes
 * (settlement->arena_bytes) too. The delivery is freed. */
void pawl_core_settled(struct pawl_core *core, struct pawl_now now, struct pawl_delivery *delivery,
                       uint32_t worker, const struct pawl_settlement *settlement, const void *bytes);

/* Its worker died, and nothing of its job lives. @begun: the claim word said BEGUN. The delivery is freed. */
void pawl_core_worker_lost(struct pawl_core *core, struct pawl_now now, struct pawl_delivery *delivery,
                           bool begun, uint32_t worker);

void pawl_core_durable(struct pawl_core *core, struct pawl_now now, uint64_t lsn);

/* Timers that are due. Return: when to call again (boottime), UINT64_MAX for never. */
uint64_t pawl_core_tick(struct pawl_core *core, struct pawl_now now);

/* Load and memory of the machine, sampled by the loop once a second while pawl_core_wants_sample(). */
bool pawl_core_wants_sample(const struct pawl_core *core);
void pawl_core_sample(struct pawl_core *core, uint32_t load_milli, uint64_t available_bytes);

/* Place what may be placed now; called at the end of every turn of the loop, before it cuts the batch. */
void pawl_core_dispatch(struct pawl_core *core, struct pawl_now now);

/* mode: PAWL_CANCEL_*. run NULL: every run of the batch. */
int pawl_core_cancel(struct pawl_core *core, struct pawl_now now, struct pawl_batch *batch,
                     struct pawl_run *run, uint32_t mode, uint64_t grace_ns);

/* The owner is gone: interrupts its batches that are not detached. */
void pawl_core_client_gone(struct pawl_core *core, struct pawl_now now, uint64_t client);
void pawl_core_detach(struct pawl_core *core, struct pawl_run *run);

/* After a restart runs have no owner: the first client that pulls from or waits for one that is not detached
 * becomes it. Until then such a run is awaited: its end is kept for who comes back. */
void pawl_core_own(struct pawl_core *core, struct pawl_run *run, uint64_t client);
bool pawl_run_awaited(const struct pawl_run *run);
bool pawl_core_awaits_owners(const struct pawl_core *core);
void pawl_core_await_owners_no_more(struct pawl_core *core);

/* The image is on disk and synced. The run is freed once this is durable: do not touch it after. */
void pawl_core_sealed(struct pawl_core *core, struct pawl_now now, struct pawl_run *run);

/* ---- queries ---- */

bool pawl_core_idle(const struct pawl_core *core); /* no batch is open, nothing waits to be sealed */
/* It could not write something down, or had no memory: what it knows and what is on disk differ from here on.
 * Nothing that was appended since the last flush may become durable, nobody may be told anything: leave. */
bool pawl_core_failed(const struct pawl_core *core);

/* The last record that ends a step: those that need it start when it is durable. 0: none. */
uint64_t pawl_core_step_ended_lsn(const struct pawl_core *core);
struct pawl_run *pawl_core_find(struct pawl_core *core, const char *run_id); /* "last": the newest */
struct pawl_run *pawl_core_run_next(struct pawl_core *core, struct pawl_run *previous); /* NULL: first */
/** pawl_core_segment_moved - records of one segment of the journal lie in another one now: pinned with it. */
void pawl_core_segment_moved(struct pawl_core *core, uint32_t from_segment, uint32_t to_segment);
bool pawl_core_segment_pinned(const struct pawl_core *core,
                              uint32_t segment_number); /* holds outputs still needed */

const char *pawl_run_id(const struct pawl_run *run);
struct pawl_batch *pawl_run_batch(const struct pawl_run *run); /* NULL when interrupted or over */
bool pawl_run_durable(const struct pawl_run *run);             /* its submission (or resumption) is */
bool pawl_run_over(
    const struct pawl_run *run); /* ended or interrupted, nothing of it runs, and that is durable */
void pawl_run_summary(const struct pawl_core *core, const struct pawl_run *run, struct pawl_now now,
                      struct pawl_wire_summary *summary_out);
const void *pawl_run_plan(const struct pawl_run *run, size_t *bytes_out);
uint64_t pawl_run_completions(const struct pawl_run *run); /* durable ones; map runs only */
void pawl_run_completion(const struct pawl_run *run, uint64_t number, uint32_t *step_out,
                         uint64_t *instance_out);

/* The fixed part, and text that stays valid until the next input. */
struct pawl_step_view {
    struct pawl_wire_step fixed;
    const char *name;
    const char *item; /* fixed.item_bytes; any byte */
    char reason[192];
};
/* *cursor 0 first. Return: 1 and a view, 0 at the end. */
int pawl_run_step_next(struct pawl_core *core, struct pawl_run *run, uint64_t *cursor, uint32_t state_mask,
                       struct pawl_step_view *view_out);

struct pawl_result_view {
    struct pawl_wire_result fixed;
    char *bytes; /* malloc'd, freed by the caller: stdout, stderr, named (or paths below the run's directory:
                    fixed.flags) */
    struct pawl_output_file stdout_file, stderr_file; /* what such a file held when it was recorded */
};
/* One attempt's result; attempt 0: the newest. Return: 0, PAWL_E_NOT_FOUND, PAWL_E_STATE (none has ended). */
int pawl_run_result(struct pawl_core *core, struct pawl_run *run, uint32_t step_index, uint64_t number,
                    uint32_t attempt, bool with_bytes, struct pawl_result_view *view_out);
int pawl_run_step_index(const struct pawl_run *run, const char *name); /* or PAWL_E_NOT_FOUND */

/* Why it waits, ran, reran, was skipped or failed: text for people. */
int pawl_run_why(struct pawl_core *core, struct pawl_run *run, uint32_t index, uint64_t number,
                 struct pawl_now now, char *buffer, size_t bytes);

/* The run's deliveries that are placed or begun; NULL: first. */
struct pawl_delivery *pawl_run_delivery_next(const struct pawl_run *run,
                                             const struct pawl_delivery *previous);

uint32_t pawl_batch_number(const struct pawl_batch *batch);
uint32_t pawl_batch_slots(const struct pawl_batch *batch);
const void *pawl_batch_context(const struct pawl_batch *batch, size_t *bytes_out);
void *pawl_batch_loop(const struct pawl_batch *batch); /* the loop's own pointer */
void pawl_batch_set_loop(struct pawl_batch *batch, void *loop);
struct pawl_batch *pawl_core_batch(struct pawl_core *core, uint64_t number);

#endif
