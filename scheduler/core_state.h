/*
 * core_state.h - the core's own structures, shared by its files only.
 *
 * Owned by: the scheduler's private memory (or a reader of an image). Nothing here is shared with another
 * process.
 */
#ifndef PAWL_SCHEDULER_CORE_STATE_H
#define PAWL_SCHEDULER_CORE_STATE_H

#include <assert.h>

#include "scheduler/arena.h"
#include "scheduler/core.h"
#include "scheduler/core_record.h"
#include "scheduler/expr.h"
#include "scheduler/plan.h"
#include "scheduler/ready.h"
#include "scheduler/timer.h"

#define PAWL_INSTANCE_NONE UINT64_MAX
#define PAWL_PLACE_IN_IMAGE                                                                                  \
    (UINT64_C(1) << 63) /* the rest is the byte offset of a record in runs/ID/image                          \
                         */
#define PAWL_INSTANCE_HAD_SUCCEEDED (UINT64_C(1) << 63)

enum {
    PAWL_WORKER_LOST_RETRIES = 3
}; /* a dead worker's task goes again this often even where `retries` is 0 */

enum {
    PAWL_INSTANCE_OUTPUT = 1, /* its newest record holds output bytes */
    PAWL_INSTANCE_UNFED = 2,  /* a resumed map run has not been fed this item again (yet): it does not run */
    PAWL_INSTANCE_ADOPTED = 4,
};

/* One piece of work of a step. Also the image's form: append nothing, change nothing without a new image
 * version. */
struct pawl_instance {
    uint64_t place;         /* of the newest attempt's STEP record; 0: none */
    uint64_t started_at_ns; /* CLOCK_REALTIME of the newest attempt */
    uint32_t duration_us;   /* saturates */
    uint16_t attempt;       /* newest that began; 0: none */
    uint16_t failures;
    int16_t exit_code;
    uint16_t worker;
    uint8_t state;
    uint8_t reason;
    uint8_t flags; /* three bits; the other five are the high ones of the interruptions */
    uint8_t interruptions_low : 5;
    uint8_t outcome : 3;
};
static_assert(sizeof(struct pawl_instance) == 32, "image format");

enum { PAWL_INSTANCE_INTERRUPTIONS_MAX = 1023 }; /* where counting ends: above any limit */

static inline uint32_t pawl_instance_interruptions(const struct pawl_instance *instance)
{
    return (uint32_t)(instance->flags & 0xf8) << 2 | instance->interruptions_low;
}

static inline void pawl_instance_set_interruptions(struct pawl_instance *instance, uint32_t count)
{
    if (count > PAWL_INSTANCE_INTERRUPTIONS_MAX)
        count = PAWL_INSTANCE_INTERRUPTIONS_MAX;
    instance->interruptions_low = count & 31;
    instance->flags = (uint8_t)((instance->flags & 7) | (count >> 2 & 0xf8));
}

/* A chunk of fed items: the bytes leave memory when all of them are final, and are read back from `place` if
 * asked for. */
struct pawl_items_chunk {
    uint64_t first; /* instance */
    uint32_t count;
    uint32_t open;        /* not final yet */
    uint64_t place;       /* of the ITEMS record */
    uint32_t body_offset; /* of the items within it */
    uint32_t bytes_count;
    char *bytes;       /* NULL: not in memory */
    uint32_t *offsets; /* count; within bytes */
};

struct pawl_step {
    const struct pawl_plan_step *plan;
    uint32_t index;
    uint8_t state; /* enum pawl_step_state, of the step as a whole */
    uint8_t reason;
    bool many;            /* foreach, matrix or fed */
    bool expanded;        /* count is known; always so for simple steps once ready */
    bool queued;          /* stands in the batch's ready heap */
    bool settled_durably; /* final, and successors know */
    bool runs_anyway;     /* always, or `when` asks for success/failed/always */
    uint64_t count;
    uint64_t capacity;
    struct pawl_instance *instances;
    uint64_t next_fresh; /* instances below were placed, or were final, at least once */
    uint64_t *again;     /* ready a second time; a stack */
    size_t again_count, again_capacity;
    uint64_t lsn_ended;                /* its end counts when this is durable */
    uint64_t in_flight;                /* placed or begun */
    uint64_t states[PAWL_STEP_STATES]; /* of the instances */
    uint32_t needs_left;               /* needs whose end is not durable yet */
    /* foreach: the list; matrix: one list an axis */
    struct pawl_arena *values;
    struct pawl_value items;
    struct pawl_value *axes;
    char *items_text; /* malloc'd text under a LINES list; NULL */
    /* outputs of a simple step, kept once something asked */
    struct pawl_arena *output;
    struct pawl_value output_value, named_value;
    bool output_loaded, named_loaded;
    char *output_text;
    /* from an image: item texts, when the list itself is gone */
    uint64_t *item_offsets; /* item_count + 1, into the run's item_texts */
    uint64_t item_count;
    char note[160]; /* why the step itself failed (an expression) */
};

/* Results in the order in which they became known; those up to `durable` may be told. */
struct pawl_completions {
    uint64_t *instances;
    size_t count, capacity, durable, announced;
};

struct pawl_run {
    struct pawl_core *core;
    uint64_t number;
    char id[PAWL_NAME_BYTES];
    char *file;
    struct pawl_wire_submit request;
    struct pawl_plan *plan;
    void *context;
    size_t context_bytes;
    uint64_t batch_number;
    struct pawl_batch *batch; /* while it is active */
    uint32_t state;           /* enum pawl_run_state */
    uint64_t base_image;      /* which one: places in it mean nothing in another; 0: none */
    bool superseded;          /* in replay: its image came after all that the journal has to say of it */
    bool fed, fed_all;        /* map: items come from the client; all have come */
    bool matching;            /* resumed and fed: items are matched by content first */
    bool stopped;             /* nothing new starts: a final failure */
    uint32_t draining;        /* 0, or a PAWL_CANCEL_* mode */
    bool ending;              /* its last RUN_STATE is written */
    bool over;                /* and durable */
    bool sealing, leaving;
    bool awaited; /* whoever waited for it before a restart may come back: it is not sealed before */
    uint64_t lsn_submitted, lsn_ended;
    uint64_t started_at_ns, finished_at_ns, resumed_at_ns;
    uint64_t elapsed_before_ns; /* of earlier sessions */
    uint64_t attempts, retries, failed_count, busy_ns;
    uint64_t states[PAWL_STEP_STATES]; /* of all instances, and of steps that are not expanded */
    struct pawl_step *steps;
    uint32_t step_count;
    uint32_t steps_open;      /* not final */
    struct pawl_step *asking; /* whose template is being evaluated */
    struct pawl_delivery *deliveries;
    uint64_t delivery_count;
    struct pawl_completions completions;
    /* fed items */
    struct pawl_items_chunk *chunks;
    size_t chunk_count, chunk_capacity;
    uint64_t (*hashes)[2]; /* an instance each */
    size_t hash_capacity;
    uint32_t *match_table; /* open addressing: instance + 1 */
    size_t match_slots;
    uint64_t unfed_count;
    uint64_t fed_durable; /* fed instances below are */
    uint64_t fed_ready;   /* so many entries of fed_order are durable, and were made ready */
    size_t loaded_chunk;
    uint64_t *fed_order; /* client's number -> instance */
    size_t fed_count, fed_capacity;
    char *item_texts; /* of an image */
    /* segments that hold records still needed */
    uint32_t *pins;
    size_t pin_count, pin_capacity;
};

struct pawl_batch {
    uint64_t number;
    uint32_t slots;
    uint64_t client; /* 0: nobody */
    bool detached;
    bool open;     /* the loop has a queue for it */
    uint32_t runs; /* active ones */
    void *loop;
    const void *context; /* of its first active run: borrowed */
    size_t context_bytes;
    void *context_copy;
    uint64_t in_flight, begun;
    struct pawl_ready ready;
    uint64_t completed_run; /* number of its map run with completions to announce; 0 */
    uint64_t mean_ns;       /* of a task; 0: not known */
    uint64_t delay_ns, next_start_ns, memfree_bytes;
    uint32_t load_milli;
    struct pawl_batch *next;
};

/* Something that waits for its lsn. */
struct pawl_pending {
    uint64_t lsn;
    uint64_t run;
    uint32_t step; /* or UINT32_MAX: the run's own (submitted, ended, sealed) */
    uint32_t kind;
    uint64_t value; /* completions count */
};

enum pawl_pending_kind {
    PAWL_PENDING_STEP,
    PAWL_PENDING_COMPLETIONS,
    PAWL_PENDING_ITEMS,
    PAWL_PENDING_SUBMITTED,
    PAWL_PENDING_ENDED,
    PAWL_PENDING_SEALED,
};

/* A piece of an image, kept while results are read one after the other (result.c). */
struct pawl_image_window {
    uint64_t run; /* its number; 0: nothing is kept */
    uint64_t at;  /* byte offset in the image */
    size_t bytes;
    char *data;
    uint64_t place; /* of the record that was read last */
    bool walks;     /* that lies near the one before */
};

struct pawl_core {
    struct pawl_core_options options;
    struct pawl_core_effects effects;
    void *ctx;
    uint64_t epoch, epoch_lsn, durable_lsn, last_lsn;
    uint64_t step_ended_lsn; /* the last of PAWL_PENDING_STEP */
    uint64_t next_run, next_batch;
    struct pawl_now written; /* while records are read back: when they were written */
    bool serving, replaying, failed, was_running, need_dispatch;
    struct pawl_run **runs; /* by number */
    size_t run_count, run_capacity;
    struct pawl_batch *batches;
    struct pawl_pending *pending; /* a ring, by lsn */
    size_t pending_first, pending_count, pending_capacity;
    struct pawl_delivery **unjournaled; /* begun since the last dispatch */
    size_t unjournaled_count, unjournaled_capacity;
    struct pawl_timers timers;
    struct pawl_timers read_back; /* of another boot, by realtime: start() turns them */
    struct pawl_arena scratch;    /* of one evaluation */
    struct pawl_now now;          /* of the present input */
    uint64_t available_bytes;
    uint32_t load_milli;
    bool sampled;
    size_t sealing_count;
    char *pack; /* task being built */
    size_t pack_bytes;
    struct pawl_step **work; /* steps whose end is to be told to their dependents */
    size_t work_count, work_capacity;
    bool working;
    char *load_piece; /* snapshot being loaded */
    size_t load_bytes, load_capacity;
    struct pawl_image_window window;
    struct pawl_run *fetched; /* of an image, for the REOPEN that is being written; or NULL */
};

/* core.c: small things for all */
void pawl_core_later(struct pawl_core *core, uint64_t lsn, struct pawl_run *run, enum pawl_pending_kind kind,
                     uint32_t step, uint64_t value);
struct pawl_run *pawl_core_run(const struct pawl_core *core, uint64_t number);
void pawl_core_log(struct pawl_core *core, int level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* One that is read back: due_ns is realtime. 0 or -ENOMEM. */
int pawl_core_timer_back(struct pawl_core *core, const struct pawl_timer *timer);
int pawl_grow(void **array, size_t *capacity, size_t wanted, size_t item_bytes);

/* run_state.c: runs and steps as data */
int pawl_run_create(struct pawl_core *core, uint64_t number, const char *id, struct pawl_run **run_out);
void pawl_run_free(struct pawl_run *run);
int pawl_run_set_plan(struct pawl_run *run, const void *blob, size_t bytes);
int pawl_core_insert_run(struct pawl_core *core, struct pawl_run *run);
void pawl_core_remove_run(struct pawl_core *core, struct pawl_run *run);
int pawl_step_reserve(struct pawl_step *step, uint64_t count); /* instances 0..count-1 exist, WAITING */
int pawl_step_expand(struct pawl_run *run, struct pawl_step *step, uint64_t count);
void pawl_instance_set(struct pawl_run *run, struct pawl_step *step, struct pawl_instance *instance,
                       uint32_t state, uint32_t reason);
void pawl_step_set(struct pawl_run *run, struct pawl_step *step, uint32_t state, uint32_t reason);
/* Is there nothing more to say of it? Skipped and given up are derived, and after a restart they may be
 * derived otherwise than a snapshot has it: an attempt beyond those that it knows is news. */
bool pawl_instance_has_ended(const struct pawl_instance *instance, uint32_t attempt);
/* There is news of an instance that a snapshot calls over: so its step goes on. */
void pawl_step_open_again(struct pawl_run *run, struct pawl_step *step, const struct pawl_instance *instance);
void pawl_run_recount(struct pawl_run *run); /* the counters of states, from scratch */
void pawl_step_drop_values(struct pawl_step *step);
int pawl_run_pin(struct pawl_run *run, uint64_t place);
bool pawl_step_tolerates(const struct pawl_step *step); /* continue_on_error */

/* flow.c: which steps may go on */
void pawl_flow_derive(struct pawl_core *core, struct pawl_run *run); /* after recovery or resume */
bool pawl_flow_uses_item(const struct pawl_run *run, uint32_t template_index);
int pawl_flow_spread_out(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step,
                         struct pawl_expr_error *why);
void pawl_flow_count_open(struct pawl_core *core,
                          struct pawl_run *run); /* of an interrupted run, after recovery */
/* The same of one that ended and is still to be sealed: what did not begin ended with it. */
void pawl_flow_count_ended(struct pawl_core *core, struct pawl_run *run);
void pawl_flow_step_durable(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step);
void pawl_flow_instance_final(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step,
                              uint64_t lsn);
void pawl_flow_check_end(struct pawl_core *core, struct pawl_run *run);
void pawl_flow_stop(struct pawl_core *core, struct pawl_run *run); /* a final failure: start nothing new */
void pawl_flow_queue(struct pawl_run *run, struct pawl_step *step);
void pawl_flow_finish_marks(struct pawl_run *run, uint32_t run_state);
void pawl_flow_fail_instance(struct pawl_core *core, struct pawl_run *run, struct pawl_step *step,
                             uint64_t number, enum pawl_reason reason, const char *note);

/* flow_values.c: what expressions may ask */
void pawl_flow_env(struct pawl_run *run, struct pawl_step *step, struct pawl_expr_env *env_out);
/* Does what an attempt wrote to PAWL_OUTPUT, if anything, make named outputs? */
bool pawl_flow_named_hold(struct pawl_core *core, struct pawl_run *run, const struct pawl_step *step,
                          uint64_t instance);
int pawl_flow_item(struct pawl_run *run, struct pawl_step *step, uint64_t instance, struct pawl_arena *arena,
                   struct pawl_value *value_out);
int pawl_flow_output(struct pawl_run *run, struct pawl_step *step, uint64_t instance,
                     struct pawl_arena *arena, struct pawl_value *value_out, char **text_out);

/* task_build.c */
int pawl_task_build(struct pawl_run *run, struct pawl_step *step, uint64_t instance, const void **task_out,
                    size_t *bytes_out, bool *skip_out, char note[256]);

/* items.c */
char *pawl_items_find(struct pawl_run *run, uint64_t instance,
                      uint32_t *bytes_out); /* pawl_wire_item + task */
int pawl_items_add_chunk(struct pawl_run *run, uint64_t first, uint32_t count, const char *bytes, uint32_t n,
                         uint64_t place, uint32_t body_offset);
void pawl_items_final(struct pawl_run *run, uint64_t instance);
void pawl_items_durable(struct pawl_core *core, struct pawl_run *run, uint64_t fed_count);
int pawl_items_apply(struct pawl_core *core, const struct pawl_items_record *record, const char *more,
                     size_t n, uint64_t place);
void pawl_items_free(struct pawl_run *run);

/* batch.c */
struct pawl_batch *pawl_batch_get(struct pawl_core *core, struct pawl_run *run, uint64_t client,
                                  bool *new_out);
void pawl_batch_leave(struct pawl_core *core, struct pawl_run *run);

/* apply.c */
int pawl_apply_parts(struct pawl_core *core, uint8_t type, const void *fixed, const void *more,
                     size_t more_bytes, uint64_t lsn, uint64_t place);
/* Append and apply. Return: the lsn, or 0 when the journal has failed (nothing changed). */
uint64_t pawl_apply_append(struct pawl_core *core, uint8_t type, const void *fixed, size_t fixed_bytes,
                           const struct iovec *more, int more_count);

/* result.c: reading attempts back */
int pawl_result_read(struct pawl_run *run, uint64_t place, uint32_t offset, void *buffer, size_t bytes);
void pawl_result_forget(struct pawl_run *run); /* the run goes: what is kept of its image goes too */
size_t pawl_result_bytes(const struct pawl_step_record *record); /* fixed part and all that follows */

/* image_read.c */
int pawl_image_load_run(struct pawl_core *core, const void *image, size_t n, struct pawl_run **run_out);

/* image_fetch.c: of runs/ID/image, without its outputs in memory */
int pawl_image_fetch(struct pawl_core *core, const char *run_id, bool check_outputs,
                     struct pawl_run **run_out);
int pawl_image_fetch_mark(struct pawl_core *core, const char *run_id, uint64_t *mark_out);

/* deliveries */
struct pawl_delivery *pawl_delivery_create(struct pawl_run *run, struct pawl_step *step, uint64_t instance);
void pawl_delivery_free(struct pawl_delivery *delivery);
void pawl_run_recall_all(struct pawl_core *core, struct pawl_run *run, bool keep_runs_anyway);

#endif
