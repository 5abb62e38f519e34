/*
 * world.h - a small machine around the pure core: a journal that can lose its tail, workers that do what they
 * are told to, clocks that are set by hand, and a ledger that judges every start by what the journal says.
 *
 * Single-threaded and deterministic: the same calls give the same world. Nothing sleeps, nothing is on disk.
 * Used by the core's unit tests, one call at a time, and by the simulator, with calls drawn from a seed.
 */
#ifndef PAWL_TESTS_SIM_WORLD_H
#define PAWL_TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scheduler/core.h"
#include "tests/sim/moment.h"

enum {
    WORLD_RUNS_MAX = 16,
    WORLD_STEPS_MAX = 24,
    WORLD_INSTANCES_MAX = 96,
    WORLD_JOBS_MAX = 4096,
    WORLD_NUMBERS_MAX = 1024,
};

/* A delivery as a worker sees it. */
struct world_job {
    struct pawl_delivery *delivery; /* NULL: its scheduler died */
    char run_id[PAWL_NAME_BYTES];
    uint64_t run;
    uint32_t step;
    uint64_t instance;
    uint32_t attempt;
    bool begun, signalled;
    uint64_t grace_ns; /* of the last signal */
    uint32_t worker;
    uint64_t started_at_ns;
    uint64_t order; /* of placing, from 1 */
};

struct world_record {
    struct moment written;
    uint8_t type;
    uint16_t version;
    bool ends_batch; /* the loop cut here: a crash leaves all before it or nothing of it */
    char *body;
    size_t bytes;
};

/* What the journal says of one piece of work. */
struct world_entry {
    uint64_t success_lsn; /* 0: none */
    uint64_t final_lsn;   /* success or failure */
    uint32_t attempt;     /* highest that began or ended */
    uint32_t starts;      /* seen by workers, in all lives of the scheduler */
};

struct world_image {
    char run_id[PAWL_NAME_BYTES];
    char *bytes;
    size_t n;
    bool reopened; /* readers know that it is not the last word; no crash takes that away */
};

struct world {
    struct pawl_core *core;
    struct pawl_now now;
    uint32_t boot;
    uint64_t random;
    uint32_t interruptions; /* their limit; 0: the default */
    bool room;              /* false: a full disk */
    bool failing;           /* the journal takes nothing any more */
    uint32_t ring_max;      /* placed and not begun, at most; then PAWL_E_QUEUE_FULL */

    struct world_record *records; /* lsn is the index + 1 */
    size_t record_count, record_capacity;
    uint64_t durable;

    char **snapshot_chunks;
    size_t *snapshot_bytes;
    size_t snapshot_count;
    uint64_t snapshot_lsn; /* 0: none */
    struct moment snapshot_written;

    struct world_job *jobs[WORLD_JOBS_MAX];
    size_t job_count;
    uint64_t placed_count, begun_count, signal_count;

    struct pawl_run *to_seal[WORLD_RUNS_MAX];
    size_t to_seal_count;
    struct world_image images[WORLD_RUNS_MAX];
    size_t image_count;
    size_t image_reads; /* of pieces of images, or whole ones */
    size_t image_reads_largest, image_bytes_read;

    struct world_entry ledger[WORLD_RUNS_MAX][WORLD_STEPS_MAX][WORLD_INSTANCES_MAX];
    char ledger_ids[WORLD_RUNS_MAX][PAWL_NAME_BYTES]; /* of which run each page is */
    uint8_t ledger_pages[WORLD_NUMBERS_MAX]; /* page + 1 of a run's number: a reopened run has a new number */
    unsigned batches_open, collected;
    bool verbose;
    char broken[512]; /* the first rule that was broken; "" */
};

struct world *world_create(uint64_t seed);
void world_destroy(struct world *world);
uint64_t world_random(struct world *world);
uint32_t world_below(struct world *world, uint32_t bound); /* 0 .. bound-1 */
__attribute__((format(printf, 2, 3))) void world_break(struct world *world, const char *format, ...);

/* ---- submissions; text is a workflow file. Return: the run, or NULL with *error_out set ---- */

struct world_submit {
    const char *text; /* NULL with resume_id: the plan that it has */
    const char *run_id, *resume_id, *filter;
    uint32_t slots, flags, keep_going, halt_now;
    uint64_t client, batch;
};
struct pawl_run *world_submit(struct world *world, const struct world_submit *submit, int *error_out);
/* A workflow with 4 slots, in one call; must succeed. */
struct pawl_run *world_run(struct world *world, const char *text);
/* A map run: no items yet. */
struct pawl_run *world_map(struct world *world, const char *resume_id, int *error_out);
/* Feed @count items, numbered by the client from @first; item n has the content @content[n]. */
int world_feed(struct world *world, struct pawl_run *run, uint64_t first, uint32_t count,
               const uint64_t *content, uint64_t *instances_out);

/* ---- the loop ---- */

void world_turn(struct world *world);                  /* dispatch, cut the batch */
void world_durable(struct world *world, uint64_t lsn); /* the disk has all up to lsn */
void world_sync(struct world *world); /* turn, all durable, turn; until nothing is left to do */
void world_advance(struct world *world, uint64_t ns); /* both clocks, timers, turn */
void world_seal(struct world *world);                 /* write the images that are wanted */
void world_collect(struct world *world);              /* gc: one image of a run that the core does not hold */

/* ---- workers ---- */

struct world_job *world_find(struct world *world, const char *step, uint64_t instance); /* of any run */
struct world_job *world_find_in(struct world *world, const struct pawl_run *run, const char *step,
                                uint64_t instance);
void world_begin(struct world *world, struct world_job *job);
/* Ends it; begins it first if need be. stdout may be NULL. The job is gone after. */
void world_end(struct world *world, struct world_job *job, uint32_t outcome, int32_t exit_code,
               const char *out);
void world_exit(struct world *world, struct world_job *job, int32_t exit_code); /* sync included */
void world_succeed(struct world *world, const char *step, uint64_t instance);   /* must be placed; syncs */
void world_worker_dies(struct world *world, struct world_job *job);
/* Everything that is placed succeeds, again and again, until nothing is placed; time passes when only timers
 * are left. */
void world_finish(struct world *world);

/* ---- deaths ---- */

void world_snapshot(struct world *world); /* turn; it counts when its lsn is durable */
/**
 * world_crash - the scheduler is killed; a new one replays the journal
 * @kept: newest lsn that the disk kept, at least `durable`; cut down to the end of a batch
 * @restarted: by its supervisor: workers and begun jobs live on, and are offered
 *
 * Otherwise all jobs are dead and unfinished runs come back interrupted. world_adopt() and world_serve() come
 * next.
 */
void world_crash(struct world *world, uint64_t kept, bool restarted);
/* The clock that counts from the boot stands at @boottime_ns, in a new one: before world_crash(). */
void world_reboot(struct world *world, uint64_t boottime_ns);
bool world_adopt(struct world *world,
                 size_t which);             /* of world->jobs; false: refused, killed, taken out of them */
void world_serve(struct world *world);      /* jobs that were not adopted are dead */
void world_restart(struct world *world);    /* crash(all kept), adopt all, serve, sync */
void world_power_loss(struct world *world); /* crash(durable only), serve, sync */

/* ---- what there is ---- */

struct pawl_run *world_find_run(struct world *world, const char *run_id); /* not sealed ones */
uint32_t world_run_state(struct world *world, const char *run_id);        /* sealed or not */
/* State, attempts and reason of one piece of work, through the same views as `pawl steps`. */
bool world_step(struct world *world, const char *run_id, const char *step, uint64_t instance,
                struct pawl_step_view *view_out);
uint32_t world_step_state(struct world *world, const char *run_id, const char *step, uint64_t instance);
uint32_t world_attempts(struct world *world, const char *run_id, const char *step, uint64_t instance);
size_t world_placed(struct world *world, const char *step); /* jobs of this step, begun or not */
/* What was recorded, as text: equal for two cores that know the same. malloc'd. */
char *world_digest(struct world *world);
/* Sums over steps equal the counters of the summary. Breaks the world if not. */
void world_check_counts(struct world *world);
int world_reopening(void *ctx, const char *run_id); /* the effect */
/* Before the journal says that a run is open again, readers are told; and as long as that is so. */
void world_judge_reopened(struct world *world, const void *reopen_record);
void world_check_reopened(struct world *world);
/* A sealed run: every step is over, every piece of work is told once, successes are those of the ledger. */
void world_check_image(struct world *world, const char *run_id);

/* for world_life.c */
int world_new_core(struct world *world);
uint64_t world_place_of(uint64_t lsn);
void world_replay(struct world *world); /* snapshot and records into world->core */

/* ledger.c */
void world_ledger_note(struct world *world, uint64_t lsn);
bool world_was_submitted(const struct world *world, const char *run_id); /* by what the journal holds */
void world_ledger_rebuild(struct world *world);
void world_ledger_judge_start(struct world *world, const struct pawl_delivery *delivery);
struct world_entry *world_ledger_at(struct world *world, uint64_t run, uint32_t step, uint64_t instance);

/* plans.c */
void world_random_plan(struct world *world, char *bytes, size_t max);

#endif
