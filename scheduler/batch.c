/*
 * batch.c - what one command submitted: its slots, its owner, its runs that are active.
 *
 * Runs in: scheduler.
 */
#include "scheduler/core_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct pawl_batch *pawl_core_batch(struct pawl_core *core, uint64_t number)
{
    for (struct pawl_batch *batch = core->batches; batch; batch = batch->next)
        if (batch->number == number)
            return batch;
    return NULL;
}

static struct pawl_batch *create_batch(struct pawl_core *core, const struct pawl_run *run, uint64_t client)
{
    struct pawl_batch *batch = calloc(1, sizeof *batch);
    if (!batch)
        return NULL;
    batch->number = run->batch_number;
    batch->slots = run->request.slots ? run->request.slots : 1;
    batch->client = client;
    batch->detached = (run->request.flags & PAWL_SUBMIT_DETACH) != 0;
    batch->delay_ns = run->request.delay_ns;
    batch->memfree_bytes = run->request.memfree_bytes;
    batch->load_milli = run->request.load_milli;
    batch->context_copy = malloc(run->context_bytes ? run->context_bytes : 1);
    if (!batch->context_copy) {
        free(batch);
        return NULL;
    }
    if (run->context_bytes)
        memcpy(batch->context_copy, run->context, run->context_bytes);
    batch->context = batch->context_copy;
    batch->context_bytes = run->context_bytes;
    batch->next = core->batches;
    core->batches = batch;
    if (core->effects.batch_open(core->ctx, batch) < 0) {
        core->batches = batch->next;
        free(batch->context_copy);
        free(batch);
        return NULL;
    }
    batch->open = true;
    return batch;
}

struct pawl_batch *pawl_batch_get(struct pawl_core *core, struct pawl_run *run, uint64_t client,
                                  bool *new_out)
{
    struct pawl_batch *batch = pawl_core_batch(core, run->batch_number);
    *new_out = batch == NULL;
    if (!batch)
        batch = create_batch(core, run, client);
    if (batch) {
        batch->runs++;
        run->batch = batch;
    }
    return batch;
}

void pawl_batch_leave(struct pawl_core *core, struct pawl_run *run)
{
    struct pawl_batch *batch = run->batch;
    if (!batch)
        return;
    run->batch = NULL;
    if (--batch->runs > 0)
        return;
    core->effects.batch_close(core->ctx, batch);
    for (struct pawl_batch **link = &core->batches; *link; link = &(*link)->next)
        if (*link == batch) {
            *link = batch->next;
            break;
        }
    pawl_ready_free(&batch->ready);
    free(batch->context_copy);
    free(batch);
}

void pawl_core_detach(struct pawl_core *core, struct pawl_run *run)
{
    (void)core;
    if (run->batch)
        run->batch->detached = true;
}

void pawl_core_own(struct pawl_core *core, struct pawl_run *run, uint64_t client)
{
    (void)core;
    run->awaited = false;
    if (run->batch && run->batch->client == 0 && !run->batch->detached)
        run->batch->client = client;
}

bool pawl_run_awaited(const struct pawl_run *run)
{
    return run->awaited;
}

bool pawl_core_awaits_owners(const struct pawl_core *core)
{
    for (size_t i = 0; i < core->run_count; i++)
        if (core->runs[i]->awaited)
            return true;
    return false;
}

void pawl_core_await_owners_no_more(struct pawl_core *core)
{
    for (size_t i = 0; i < core->run_count; i++)
        core->runs[i]->awaited = false;
}

uint32_t pawl_batch_number(const struct pawl_batch *batch)
{
    return (uint32_t)batch->number;
}

uint32_t pawl_batch_slots(const struct pawl_batch *batch)
{
    return batch->slots;
}

const void *pawl_batch_context(const struct pawl_batch *batch, size_t *bytes_out)
{
    *bytes_out = batch->context_bytes;
    return batch->context;
}

void *pawl_batch_loop(const struct pawl_batch *batch)
{
    return batch->loop;
}

void pawl_batch_set_loop(struct pawl_batch *batch, void *loop)
{
    batch->loop = loop;
}
