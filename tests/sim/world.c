/*
 * world.c - the effects that the core asks for, the loop around it, its deaths.
 */
#include "tests/sim/world.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>
#include <unistd.h>

#include "runtime/loader.h"
#include "scheduler/core_state.h"
#include "scheduler/image.h"
#include "shm/error.h"

enum { PLACE_STRIDE = 64, RECORDS_A_SEGMENT = 64 };

/* ---- chance, and the first broken rule ---- */

uint64_t world_random(struct world *world)
{
    /* splitmix64 (Steele, Lea, Flood 2014) */
    uint64_t z = world->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint32_t world_below(struct world *world, uint32_t bound)
{
    return (uint32_t)(world_random(world) % bound);
}

void world_break(struct world *world, const char *format, ...)
{
    if (world->broken[0])
        return;
    va_list list;
    va_start(list, format);
    vsnprintf(world->broken, sizeof world->broken, format, list);
    va_end(list);
}

/* ---- effects: the journal ---- */

uint64_t world_place_of(uint64_t lsn)
{
    return (1 + lsn / RECORDS_A_SEGMENT) << 32 | lsn * PLACE_STRIDE;
}

static uint64_t append(void *ctx, uint8_t type, const struct iovec *body, int count, uint64_t *place_out)
{
    struct world *world = ctx;
    if (world->failing)
        return 0;
    if (pawl_grow((void **)&world->records, &world->record_capacity, world->record_count + 1,
                  sizeof *world->records) < 0)
        abort();
    struct world_record *record = &world->records[world->record_count++];
    *record = (struct world_record){
        .written = {world->now, world->boot}, .type = type, .version = PAWL_CORE_RECORD_VERSION};
    for (int i = 0; i < count; i++)
        record->bytes += body[i].iov_len;
    record->body = malloc(record->bytes ? record->bytes : 1);
    size_t at = 0;
    for (int i = 0; i < count; at += body[i++].iov_len)
        if (body[i].iov_len > 0)
            memcpy(record->body + at, body[i].iov_base, body[i].iov_len);
    if (place_out)
        *place_out = world_place_of(world->record_count);
    if (world->verbose)
        fprintf(stderr, "  lsn %zu: record type %u, %zu bytes\n", world->record_count, type, record->bytes);
    world_ledger_note(world, world->record_count);
    if (type == PAWL_RECORD_REOPEN)
        world_judge_reopened(world, record->body);
    return world->record_count;
}

static bool has_room(void *ctx, size_t bytes)
{
    (void)bytes;
    return ((struct world *)ctx)->room;
}

static int read_record(void *ctx, uint64_t place, uint32_t body_offset, void *buffer, size_t bytes)
{
    struct world *world = ctx;
    uint64_t lsn = (place & UINT32_MAX) / PLACE_STRIDE;
    if (lsn == 0 || lsn > world->record_count || place != world_place_of(lsn))
        return PAWL_E_NOT_FOUND;
    const struct world_record *record = &world->records[lsn - 1];
    if (body_offset > record->bytes || bytes > record->bytes - body_offset)
        return PAWL_E_DAMAGED;
    memcpy(buffer, record->body + body_offset, bytes);
    return 0;
}

static int read_file(void *ctx, const char *run_id, const char *name, uint64_t byte_offset,
                     uint64_t bytes_max, void **bytes_out, size_t *n_out)
{
    struct world *world = ctx;
    if (strcmp(name, "image") != 0)
        return PAWL_E_NOT_FOUND;
    for (size_t i = 0; i < world->image_count; i++) {
        const struct world_image *image = &world->images[i];
        if (strcmp(image->run_id, run_id) != 0)
            continue;
        if (byte_offset > image->n)
            return PAWL_E_DAMAGED;
        world->image_reads++;
        *n_out = image->n - byte_offset < bytes_max ? image->n - byte_offset : bytes_max;
        *bytes_out = malloc(*n_out ? *n_out : 1);
        memcpy(*bytes_out, image->bytes + byte_offset, *n_out);
        world->image_bytes_read += *n_out;
        if (*n_out > world->image_reads_largest)
            world->image_reads_largest = *n_out;
        return 0;
    }
    return PAWL_E_NOT_FOUND;
}

/* ---- effects: work ---- */

static int place(void *ctx, struct pawl_delivery *delivery, const void *task, size_t bytes)
{
    struct world *world = ctx;
    struct pawl_task view;
    size_t waiting = 0;
    for (size_t i = 0; i < world->job_count; i++)
        waiting += !world->jobs[i]->begun;
    if (waiting >= world->ring_max || world->job_count == WORLD_JOBS_MAX)
        return PAWL_E_QUEUE_FULL;
    if (pawl_task_open(task, bytes, &view) < 0)
        world_break(world, "a task that does not hold is placed");
    world_ledger_judge_start(world, delivery);
    struct world_job *job = calloc(1, sizeof *job);
    *job = (struct world_job){.delivery = delivery,
                              .run = delivery->run->number,
                              .step = delivery->step,
                              .instance = delivery->instance,
                              .attempt = delivery->attempt,
                              .order = ++world->placed_count};
    memcpy(job->run_id, delivery->run->id, sizeof job->run_id);
    world->jobs[world->job_count++] = job;
    if (world->verbose)
        fprintf(stderr, "  placed %s %s[%llu] attempt %u\n", job->run_id,
                pawl_plan_step_name(delivery->run->plan, job->step), (unsigned long long)job->instance,
                job->attempt);
    return 0;
}

static void drop_job(struct world *world, size_t index)
{
    free(world->jobs[index]);
    world->jobs[index] = world->jobs[--world->job_count];
}

static size_t index_of(struct world *world, const struct pawl_delivery *delivery)
{
    for (size_t i = 0; i < world->job_count; i++)
        if (world->jobs[i]->delivery == delivery)
            return i;
    return SIZE_MAX;
}

static int recall(void *ctx, struct pawl_delivery *delivery)
{
    struct world *world = ctx;
    size_t index = index_of(world, delivery);
    if (index == SIZE_MAX || world->jobs[index]->begun)
        return PAWL_E_STATE;
    drop_job(world, index);
    return 0;
}

static void signal_job(void *ctx, struct pawl_delivery *delivery, uint64_t grace_ns)
{
    struct world *world = ctx;
    size_t index = index_of(world, delivery);
    world->signal_count++;
    if (index != SIZE_MAX)
        world->jobs[index]->signalled = true, world->jobs[index]->grace_ns = grace_ns;
}

static void forget(void *ctx, struct pawl_delivery *delivery)
{
    struct world *world = ctx;
    size_t index = index_of(world, delivery);
    if (index == SIZE_MAX)
        world_break(world, "a delivery is forgotten that nobody has");
    else
        drop_job(world, index);
}

static int batch_open(void *ctx, struct pawl_batch *batch)
{
    (void)batch;
    ((struct world *)ctx)->batches_open++;
    return 0;
}

static void batch_close(void *ctx, struct pawl_batch *batch)
{
    (void)batch;
    ((struct world *)ctx)->batches_open--;
}

static void changed(void *ctx, struct pawl_run *run)
{
    (void)ctx, (void)run;
}

static void want_seal(void *ctx, struct pawl_run *run)
{
    struct world *world = ctx;
    if (world->to_seal_count < WORLD_RUNS_MAX)
        world->to_seal[world->to_seal_count++] = run;
}

static uint64_t chance(void *ctx)
{
    return world_random(ctx);
}

static void note(void *ctx, int level, const char *text)
{
    (void)level;
    if (((struct world *)ctx)->verbose)
        fprintf(stderr, "  core: %s\n", text);
}

int world_new_core(struct world *world)
{
    struct pawl_core_options options;
    static const struct pawl_core_effects effects = {
        .append = append,
        .has_room = has_room,
        .read = read_record,
        .read_file = read_file,
        .place = place,
        .recall = recall,
        .signal = signal_job,
        .forget = forget,
        .batch_open = batch_open,
        .batch_close = batch_close,
        .changed = changed,
        .reopening = world_reopening,
        .seal = want_seal,
        .random = chance,
        .log = note,
    };
    pawl_core_options_default(&options);
    options.items_window = 64;
    options.interruptions_max = world->interruptions ? world->interruptions : 5;
    return pawl_core_create(&options, &effects, world, &world->core);
}

/* ---- life ---- */

struct world *world_create(uint64_t seed)
{
    struct world *world = calloc(1, sizeof *world);
    uint64_t epoch, lsn;
    if (!world)
        abort();
    world->random = seed;
    world->now = (struct pawl_now){.boottime_ns = UINT64_C(100000000000),
                                   .realtime_ns = UINT64_C(1700000000000000000)};
    world->room = true;
    world->ring_max = WORLD_JOBS_MAX;
    if (world_new_core(world) < 0 || pawl_core_start(world->core, world->now, false, &epoch, &lsn) < 0)
        abort();
    pawl_core_serve(world->core, world->now);
    world_sync(world);
    return world;
}

void world_destroy(struct world *world)
{
    pawl_core_destroy(world->core);
    for (size_t i = 0; i < world->record_count; i++)
        free(world->records[i].body);
    free(world->records);
    for (size_t i = 0; i < world->snapshot_count; i++)
        free(world->snapshot_chunks[i]);
    free(world->snapshot_chunks);
    free(world->snapshot_bytes);
    for (size_t i = 0; i < world->image_count; i++)
        free(world->images[i].bytes);
    while (world->job_count > 0)
        drop_job(world, 0);
    free(world);
}

/* ---- submissions ---- */

static size_t pack_context(char *out, size_t bytes)
{
    static const char *const no_env[] = {NULL};
    struct pawl_context_spec spec = {.run_id = "", .dir = "/", .env = no_env, .umask = 022};
    for (int i = 0; i < RLIM_NLIMITS; i++)
        spec.limits[i] = (struct rlimit){RLIM_INFINITY, RLIM_INFINITY};
    int64_t n = pawl_context_pack(&spec, out, bytes);
    if (n < 0)
        abort();
    return (size_t)n;
}

static struct pawl_run *submit_plan(struct world *world, const struct world_submit *submit,
                                    const struct pawl_plan *plan, int *error_out)
{
    _Alignas(8) char context[2048];
    char why[256];
    struct pawl_run *run = NULL;
    struct pawl_wire_submit request = {.flags = submit->flags,
                                       .slots = submit->slots ? submit->slots : 4,
                                       .keep_going = submit->keep_going,
                                       .halt_now = submit->halt_now,
                                       .batch = submit->batch};
    struct pawl_submission submission = {.request = &request,
                                         .file = "sim.yaml",
                                         .filter = submit->filter ? submit->filter : "",
                                         .client = submit->client};
    if (submit->run_id)
        snprintf(request.run_id, sizeof request.run_id, "%s", submit->run_id);
    if (submit->resume_id) {
        snprintf(request.resume_id, sizeof request.resume_id, "%s", submit->resume_id);
        submission.sealed = pawl_core_find(world->core, submit->resume_id) == NULL;
    }
    if (plan) {
        submission.plan = pawl_plan_blob(plan, &submission.plan_bytes);
        submission.context = context;
        submission.context_bytes = pack_context(context, sizeof context);
    } else {
        request.flags |= PAWL_SUBMIT_SAME_PLAN;
    }
    int error = pawl_core_submit(world->core, world->now, &submission, &run, why);
    if (error_out)
        *error_out = error;
    if (error < 0 && world->verbose)
        fprintf(stderr, "  submit: %s\n", why);
    return error < 0 ? NULL : run;
}

struct pawl_run *world_submit(struct world *world, const struct world_submit *submit, int *error_out)
{
    struct pawl_plan *plan = NULL;
    if (submit->text) {
        struct pawl_load_errors errors;
        int error =
            pawl_workflow_load_memory("sim.yaml", submit->text, strlen(submit->text), NULL, &plan, &errors);
        if (error < 0) {
            world_break(world, "the workflow does not hold: %s", errors.errors[0].text);
            if (error_out)
                *error_out = error;
            return NULL;
        }
    }
    struct pawl_run *run = submit_plan(world, submit, plan, error_out);
    if (plan)
        pawl_plan_close(plan);
    return run;
}

struct pawl_run *world_run(struct world *world, const char *text)
{
    int error;
    struct pawl_run *run = world_submit(world, &(struct world_submit){.text = text, .run_id = "r"}, &error);
    if (!run)
        world_break(world, "the submission was refused: %s", pawl_error_text(error));
    else
        world_sync(world);
    return run;
}

struct pawl_run *world_map(struct world *world, const char *resume_id, int *error_out)
{
    struct pawl_plan_builder *builder = NULL;
    struct pawl_plan *plan = NULL;
    uint32_t index, argv;
    if (pawl_plan_builder_create("map", "", &builder) < 0 || pawl_plan_add_step(builder, "map", &index) < 0)
        abort();
    pawl_plan_edit_step(builder, index)->kind = PAWL_STEP_EXEC;
    pawl_plan_edit_step(builder, index)->flags = PAWL_STEP_FED;
    if (pawl_plan_add_text(builder, "/bin/true", &argv) < 0 ||
        pawl_plan_set_argv(builder, index, &argv, 1) < 0 || pawl_plan_finish(builder, NULL, NULL, &plan) < 0)
        abort();
    pawl_plan_builder_destroy(builder);
    struct world_submit submit = {
        .resume_id = resume_id, .flags = PAWL_SUBMIT_MAP | PAWL_SUBMIT_KEEP_GOING, .client = 7};
    if (!resume_id)
        submit.run_id = "m";
    struct pawl_run *run = submit_plan(world, &submit, plan, error_out);
    pawl_plan_close(plan);
    return run;
}

int world_feed(struct world *world, struct pawl_run *run, uint64_t first, uint32_t count,
               const uint64_t *content, uint64_t *instances_out)
{
    static const char *const argv[] = {"/bin/true"};
    char *bytes = calloc(count ? count : 1, 512);
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct pawl_task_spec spec = {.kind = PAWL_TASK_EXEC,
                                      .run_id = "",
                                      .step = "map",
                                      .item = &content[i],
                                      .item_bytes = sizeof content[i],
                                      .argv = argv,
                                      .argc = 1};
        struct pawl_wire_item item = {.hash = {content[i] * 0x9e3779b97f4a7c15u, content[i]}};
        int64_t n = pawl_task_pack(&spec, bytes + at + sizeof item, 512 - sizeof item);
        if (n < 0)
            abort();
        item.task_bytes = (uint32_t)n;
        memcpy(bytes + at, &item, sizeof item);
        at += sizeof item + (size_t)n;
    }
    int error = pawl_core_items(world->core, world->now, run, first, bytes, at, count, instances_out);
    free(bytes);
    return error;
}

/* ---- the loop ---- */

void world_turn(struct world *world)
{
    pawl_core_tick(world->core, world->now);
    pawl_core_dispatch(world->core, world->now);
    if (world->record_count > 0)
        world->records[world->record_count - 1].ends_batch = true;
}

void world_durable(struct world *world, uint64_t lsn)
{
    if (lsn <= world->durable || lsn > world->record_count)
        return;
    world->durable = lsn;
    pawl_core_durable(world->core, world->now, lsn);
}

void world_sync(struct world *world)
{
    do {
        world_turn(world);
        world_durable(world, world->record_count);
        world_turn(world);
    } while (world->durable < world->record_count);
}

void world_advance(struct world *world, uint64_t ns)
{
    world->now.boottime_ns += ns;
    world->now.realtime_ns += ns;
    world_turn(world);
}

static struct world_image *image_slot(struct world *world, const char *run_id)
{
    for (size_t i = 0; i < world->image_count; i++)
        if (strcmp(world->images[i].run_id, run_id) == 0)
            return &world->images[i];
    if (world->image_count == WORLD_RUNS_MAX)
        abort();
    struct world_image *image = &world->images[world->image_count++];
    snprintf(image->run_id, sizeof image->run_id, "%s", run_id);
    return image;
}

void world_seal(struct world *world)
{
    while (world->to_seal_count > 0) {
        struct pawl_run *run = world->to_seal[--world->to_seal_count];
        struct pawl_image_writer *writer;
        int fd = memfd_create("image", MFD_CLOEXEC), more = -1;
        if (fd < 0 || pawl_image_begin(world->core, run, fd, &writer) < 0)
            abort();
        while ((more = pawl_image_next(writer, 4096)) > 0)
            ;
        pawl_image_end(writer);
        if (more < 0)
            world_break(world, "an image cannot be written: %s", pawl_error_text(more));
        off_t n = lseek(fd, 0, SEEK_END);
        struct world_image *image = image_slot(world, run->id);
        free(image->bytes);
        image->n = (size_t)n;
        image->bytes = malloc(image->n ? image->n : 1);
        if (pread(fd, image->bytes, image->n, 0) != n)
            abort();
        close(fd);
        image->reopened = false;
        pawl_core_sealed(world->core, world->now, run);
        world_turn(world);
    }
}

/* ---- workers ---- */

struct world_job *world_find_in(struct world *world, const struct pawl_run *run, const char *step,
                                uint64_t instance)
{
    for (size_t i = 0; i < world->job_count; i++) {
        struct world_job *job = world->jobs[i];
        if (!job->delivery || (run && job->delivery->run != run) || job->instance != instance)
            continue;
        if (strcmp(pawl_plan_step_name(job->delivery->run->plan, job->step), step) == 0)
            return job;
    }
    return NULL;
}

struct world_job *world_find(struct world *world, const char *step, uint64_t instance)
{
    return world_find_in(world, NULL, step, instance);
}

size_t world_placed(struct world *world, const char *step)
{
    size_t count = 0;
    for (size_t i = 0; i < world->job_count; i++) {
        const struct world_job *job = world->jobs[i];
        count += job->delivery && strcmp(pawl_plan_step_name(job->delivery->run->plan, job->step), step) == 0;
    }
    return count;
}

void world_begin(struct world *world, struct world_job *job)
{
    if (job->begun)
        return;
    job->begun = true;
    job->worker = 1 + world_below(world, 8);
    job->started_at_ns = world->now.realtime_ns;
    struct world_entry *entry = world_ledger_at(world, job->run, job->step, job->instance);
    if (entry)
        entry->starts++;
    world->begun_count++;
    pawl_core_begun(world->core, world->now, job->delivery, job->worker, job->attempt, job->started_at_ns);
}

void world_end(struct world *world, struct world_job *job, uint32_t outcome, int32_t exit_code,
               const char *out)
{
    world_begin(world, job);
    struct pawl_settlement settlement = {.type = PAWL_SETTLE_RESULT,
                                         .outcome = (uint8_t)outcome,
                                         .attempt = job->attempt,
                                         .exit_code = exit_code,
                                         .started_at_ns = job->started_at_ns,
                                         .duration_ns = 1000000,
                                         .stdout_bytes = out ? (uint32_t)strlen(out) : 0};
    settlement.arena_bytes = settlement.stdout_bytes;
    pawl_core_settled(world->core, world->now, job->delivery, job->worker, &settlement, out ? out : "");
}

void world_exit(struct world *world, struct world_job *job, int32_t exit_code)
{
    world_end(world, job, PAWL_OUTCOME_EXITED, exit_code, NULL);
    world_sync(world);
}

void world_succeed(struct world *world, const char *step, uint64_t instance)
{
    struct world_job *job = world_find(world, step, instance);
    if (!job)
        world_break(world, "%s[%llu] is not placed", step, (unsigned long long)instance);
    else
        world_exit(world, job, 0);
}

void world_worker_dies(struct world *world, struct world_job *job)
{
    pawl_core_worker_lost(world->core, world->now, job->delivery, job->begun, job->worker);
}

void world_finish(struct world *world)
{
    for (int quiet = 0; quiet < 50; quiet++) {
        world_sync(world);
        while (world->job_count > 0 && !world->broken[0]) {
            world_exit(world, world->jobs[0], 0);
            quiet = 0;
        }
        world_seal(world);
        world_advance(world, UINT64_C(60000000000));
    }
    world_sync(world);
}
