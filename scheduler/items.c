/*
 * items.c - the fed step of a map run: items that a client sends one by one, matched by content on a resume.
 *
 * Runs in: scheduler. A chunk's bytes leave memory when all its items are final, and come back from the
 * journal if asked.
 */
#include "scheduler/core_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"

/* ---- chunks ---- */

static struct pawl_items_chunk *chunk_of(struct pawl_run *run, uint64_t instance)
{
    size_t low = 0, high = run->chunk_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (run->chunks[middle].first + run->chunks[middle].count <= instance)
            low = middle + 1;
        else
            high = middle;
    }
    return low < run->chunk_count && run->chunks[low].first <= instance ? &run->chunks[low] : NULL;
}

/* The offsets of the items in a block. 0; PAWL_E_DAMAGED: the block does not hold; -ENOMEM. */
static int index_items(const char *bytes, uint32_t n, uint32_t count, uint32_t **offsets_out)
{
    uint32_t *offsets = malloc((count ? count : 1) * sizeof *offsets);
    uint32_t at = 0;
    if (!offsets)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        struct pawl_wire_item item;
        if (n - at < sizeof item)
            goto bad;
        memcpy(&item, bytes + at, sizeof item);
        if (item.task_bytes > n - at - sizeof item || (item.task_bytes & 7) != 0)
            goto bad;
        offsets[i] = at;
        at += (uint32_t)sizeof item + item.task_bytes;
    }
    *offsets_out = offsets;
    return 0;
bad:
    free(offsets);
    return PAWL_E_DAMAGED;
}

int pawl_items_add_chunk(struct pawl_run *run, uint64_t first, uint32_t count, const char *bytes, uint32_t n,
                         uint64_t place, uint32_t body_offset)
{
    int error =
        pawl_grow((void **)&run->chunks, &run->chunk_capacity, run->chunk_count + 1, sizeof *run->chunks);
    if (error < 0)
        return error;
    uint32_t *offsets;
    char *copy = malloc(n ? n : 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, bytes, n);
    error = index_items(copy, n, count, &offsets);
    if (error < 0) {
        free(copy);
        return error;
    }
    run->chunks[run->chunk_count++] = (struct pawl_items_chunk){.first = first,
                                                                .count = count,
                                                                .open = count,
                                                                .place = place,
                                                                .body_offset = body_offset,
                                                                .bytes_count = n,
                                                                .bytes = copy,
                                                                .offsets = offsets};
    return pawl_run_pin(run, place);
}

static int load_chunk(struct pawl_run *run, struct pawl_items_chunk *chunk)
{
    chunk->bytes = malloc(chunk->bytes_count ? chunk->bytes_count : 1);
    if (!chunk->bytes)
        return -ENOMEM;
    int error = pawl_result_read(run, chunk->place, chunk->body_offset, chunk->bytes, chunk->bytes_count);
    if (error == 0)
        error = index_items(chunk->bytes, chunk->bytes_count, chunk->count, &chunk->offsets);
    if (error < 0) {
        free(chunk->bytes);
        chunk->bytes = NULL;
    }
    return error;
}

static void drop_chunk(struct pawl_items_chunk *chunk)
{
    free(chunk->bytes);
    free(chunk->offsets);
    chunk->bytes = NULL;
    chunk->offsets = NULL;
}

char *pawl_items_find(struct pawl_run *run, uint64_t instance, uint32_t *bytes_out)
{
    struct pawl_items_chunk *chunk = chunk_of(run, instance);
    if (!chunk)
        return NULL;
    if (!chunk->bytes) {
        /* One chunk that was dropped is kept at a time: readers walk in order. */
        if (run->loaded_chunk < run->chunk_count && run->chunks[run->loaded_chunk].open == 0)
            drop_chunk(&run->chunks[run->loaded_chunk]);
        if (load_chunk(run, chunk) < 0)
            return NULL;
        run->loaded_chunk = (size_t)(chunk - run->chunks);
    }
    uint32_t at = chunk->offsets[instance - chunk->first];
    struct pawl_wire_item item;
    memcpy(&item, chunk->bytes + at, sizeof item);
    *bytes_out = (uint32_t)sizeof item + item.task_bytes;
    return chunk->bytes + at;
}

void pawl_items_final(struct pawl_run *run, uint64_t instance)
{
    struct pawl_items_chunk *chunk = chunk_of(run, instance);
    if (chunk && chunk->open > 0 && --chunk->open == 0 && (chunk->place != 0))
        drop_chunk(chunk);
}

void pawl_items_free(struct pawl_run *run)
{
    for (size_t i = 0; i < run->chunk_count; i++)
        drop_chunk(&run->chunks[i]);
    free(run->chunks);
    free(run->hashes);
    free(run->match_table);
    free(run->fed_order);
}

/* ---- content ---- */

static int set_hash(struct pawl_run *run, uint64_t instance, const uint64_t hash[2])
{
    int error = pawl_grow((void **)&run->hashes, &run->hash_capacity, instance + 1, sizeof *run->hashes);
    if (error < 0)
        return error;
    run->hashes[instance][0] = hash[0];
    run->hashes[instance][1] = hash[1];
    return 0;
}

static int build_match_table(struct pawl_run *run)
{
    struct pawl_step *step = &run->steps[0];
    size_t slots = 16;
    while (slots < step->count * 2)
        slots *= 2;
    run->match_table = calloc(slots, sizeof *run->match_table);
    if (!run->match_table)
        return -ENOMEM;
    run->match_slots = slots;
    for (uint64_t n = 0; n < step->count; n++) {
        size_t at = run->hashes[n][0] & (slots - 1);
        while (run->match_table[at] != 0)
            at = (at + 1) & (slots - 1);
        run->match_table[at] = (uint32_t)n + 1;
    }
    return 0;
}

/* An instance of the same content that no item has claimed yet. One that succeeded is preferred. */
static uint64_t match_content(struct pawl_run *run, const uint64_t hash[2])
{
    struct pawl_step *step = &run->steps[0];
    size_t at = hash[0] & (run->match_slots - 1), best = SIZE_MAX;
    for (; run->match_table[at] != 0; at = (at + 1) & (run->match_slots - 1)) {
        if (run->match_table[at] == UINT32_MAX)
            continue;
        uint64_t n = run->match_table[at] - 1;
        if (run->hashes[n][0] != hash[0] || run->hashes[n][1] != hash[1])
            continue;
        if (step->instances[n].state == PAWL_STEP_SUCCEEDED || best == SIZE_MAX)
            best = at;
        if (step->instances[n].state == PAWL_STEP_SUCCEEDED)
            break;
    }
    if (best == SIZE_MAX)
        return PAWL_INSTANCE_NONE;
    uint64_t found = run->match_table[best] - 1;
    run->match_table[best] = UINT32_MAX; /* claimed */
    return found;
}

/* After a restart in the middle of a resumed feed: what was fed before the restart is claimed already. */
static int claim_fed_before(struct pawl_run *run)
{
    uint64_t count = run->steps[0].count;
    uint8_t *claimed = calloc(count ? count : 1, 1);
    if (!claimed)
        return -ENOMEM;
    for (size_t i = 0; i < run->fed_count; i++)
        if (run->fed_order[i] < count)
            claimed[run->fed_order[i]] = 1;
    for (size_t slot = 0; slot < run->match_slots; slot++) {
        uint32_t entry = run->match_table[slot];
        if (entry != 0 && entry != UINT32_MAX && claimed[entry - 1])
            run->match_table[slot] = UINT32_MAX;
    }
    free(claimed);
    return 0;
}

/* ---- applying ---- */

int pawl_items_apply(struct pawl_core *core, const struct pawl_items_record *record, const char *more,
                     size_t n, uint64_t place)
{
    struct pawl_run *run = pawl_core_run(core, record->run);
    if (!run || !run->fed)
        return 0;
    struct pawl_step *step = &run->steps[0];
    size_t matched_bytes = record->matched_count * sizeof(uint64_t);
    size_t order_bytes = record->fed_count * sizeof(uint64_t);
    if (matched_bytes + record->items_bytes + order_bytes != n)
        return PAWL_E_DAMAGED;
    for (uint32_t i = 0; i < record->matched_count; i++) {
        uint64_t number;
        memcpy(&number, more + i * sizeof number, sizeof number);
        if (number >= step->count)
            return PAWL_E_DAMAGED;
        struct pawl_instance *instance = &step->instances[number];
        instance->flags &= (uint8_t)~PAWL_INSTANCE_UNFED;
    }
    int error = 0;
    const char *items = more + matched_bytes;
    if (record->new_count > 0 && record->first_instance >= step->count) {
        uint64_t first = record->first_instance;
        if (first != step->count)
            return PAWL_E_DAMAGED;
        error = pawl_items_add_chunk(run, first, record->new_count, items, record->items_bytes, place,
                                     (uint32_t)(sizeof *record + matched_bytes));
        if (error < 0)
            return error;
        const struct pawl_items_chunk *chunk = &run->chunks[run->chunk_count - 1];
        for (uint32_t i = 0; i < record->new_count && error == 0; i++) {
            struct pawl_wire_item item;
            memcpy(&item, chunk->bytes + chunk->offsets[i], sizeof item);
            error = set_hash(run, first + i, item.hash);
        }
        if (error == 0)
            error = pawl_step_expand(run, step, first + record->new_count);
    }
    if (error < 0 || record->first_fed != run->fed_count)
        return error;
    error = pawl_grow((void **)&run->fed_order, &run->fed_capacity, run->fed_count + record->fed_count,
                      sizeof(uint64_t));
    if (error < 0)
        return error;
    memcpy(run->fed_order + run->fed_count, items + record->items_bytes, order_bytes);
    run->fed_count += record->fed_count;
    return 0;
}

/* ---- the inputs ---- */

uint32_t pawl_core_items_credit(const struct pawl_core *core, const struct pawl_run *run)
{
    if (!run->fed || run->ending || run->stopped || run->draining)
        return 0;
    const struct pawl_step *step = &run->steps[0];
    uint64_t window = core->options.items_window, delayed = step->states[PAWL_STEP_DELAYED];
    uint64_t waiting = step->states[PAWL_STEP_READY] + step->states[PAWL_STEP_WAITING] + delayed;
    waiting -= run->unfed_count < waiting ? run->unfed_count : waiting;
    /* By halves of the window: each bit of credit is a message, a record and a wake-up of its own. */
    bool enough = waiting > delayed && waiting - delayed > window / 2;
    return enough || waiting >= window ? 0 : (uint32_t)(window - waiting);
}

static bool items_hold(struct pawl_run *run, const char *bytes, size_t n, uint32_t count)
{
    (void)run;
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct pawl_wire_item item;
        struct pawl_task task;
        if (n - at < sizeof item)
            return false;
        memcpy(&item, bytes + at, sizeof item);
        at += sizeof item;
        if (item.task_bytes > n - at || (item.task_bytes & 7) != 0 ||
            pawl_task_open(bytes + at, item.task_bytes, &task) < 0)
            return false;
        at += item.task_bytes;
    }
    return at == n;
}

static void count_unfed(struct pawl_run *run)
{
    const struct pawl_step *step = &run->steps[0];
    run->unfed_count = 0;
    for (uint64_t n = 0; n < step->count; n++)
        run->unfed_count += (step->instances[n].flags & PAWL_INSTANCE_UNFED) != 0;
}

/* With the first message of a resumed feed, or of what is left of one after a restart: credit counts on it,
 * too. */
static int begin_matching(struct pawl_run *run)
{
    if (!run->matching || run->match_table)
        return 0;
    int error = build_match_table(run);
    if (error == 0)
        error = claim_fed_before(run);
    if (error == 0) {
        count_unfed(run);
    } else { /* a table without its claims must not be taken for one that has them */
        free(run->match_table);
        run->match_table = NULL;
    }
    return error;
}

/* New ones are fresh: they stand in line, and nothing places them before they are durable. */
static void line_up_fresh(struct pawl_core *core, struct pawl_run *run)
{
    struct pawl_step *step = &run->steps[0];
    for (uint64_t n = step->next_fresh; n < step->count; n++)
        if (step->instances[n].state == PAWL_STEP_WAITING &&
            (step->instances[n].flags & PAWL_INSTANCE_UNFED) == 0)
            pawl_instance_set(run, step, &step->instances[n], PAWL_STEP_READY, PAWL_REASON_NONE);
    if (step->state == PAWL_STEP_READY)
        pawl_flow_queue(run, step);
    core->need_dispatch = true;
}

/* What was fed up to @fed_count is on disk. Instances that may run again go to the front; not before now, for
 * a start that the journal does not explain would be found again and started twice. */
void pawl_items_durable(struct pawl_core *core, struct pawl_run *run, uint64_t fed_count)
{
    struct pawl_step *step = &run->steps[0];
    for (; run->fed_ready < fed_count && run->fed_ready < run->fed_count; run->fed_ready++) {
        uint64_t n = run->fed_order[run->fed_ready];
        if (n >= run->fed_durable) {
            run->fed_durable = n + 1;
            continue;
        }
        struct pawl_instance *instance = &step->instances[n];
        if (instance->state != PAWL_STEP_WAITING || (instance->flags & PAWL_INSTANCE_ADOPTED) != 0)
            continue;
        if (pawl_grow((void **)&step->again, &step->again_capacity, step->again_count + 1, sizeof(uint64_t)) <
            0) {
            core->failed = true;
            return;
        }
        step->again[step->again_count++] = n;
        pawl_instance_set(run, step, instance, PAWL_STEP_READY, PAWL_REASON_NONE);
    }
    if (step->state == PAWL_STEP_READY)
        pawl_flow_queue(run, step);
}

int pawl_core_items(struct pawl_core *core, struct pawl_now now, struct pawl_run *run, uint64_t first,
                    const void *bytes, size_t n, uint32_t count, uint64_t *instances_out)
{
    core->now = now;
    if (!run->fed || run->ending || run->stopped || run->draining || run->fed_all)
        return PAWL_E_STATE;
    int error = begin_matching(run);
    if (error < 0)
        return error;
    struct pawl_step *step = &run->steps[0];
    if (first < run->fed_count) { /* said before: the answer was lost with its scheduler */
        if (first + count > run->fed_count)
            return PAWL_E_BAD_MESSAGE;
        for (uint32_t i = 0; i < count; i++) {
            uint64_t number = run->fed_order[first + i];
            bool done = step->instances[number].state == PAWL_STEP_SUCCEEDED;
            instances_out[i] = number | (done ? PAWL_INSTANCE_HAD_SUCCEEDED : 0);
        }
        return 0;
    }
    if (first != run->fed_count || count == 0 || !items_hold(run, bytes, n, count))
        return PAWL_E_BAD_MESSAGE;
    if (step->count + count > core->options.instances_max)
        return PAWL_E_LIMIT;
    if (!core->effects.has_room(core->ctx, n))
        return PAWL_E_NO_SPACE;
    char *fresh = malloc(n + 2 * count * sizeof(uint64_t));
    if (!fresh)
        return -ENOMEM;
    uint64_t *matched = (uint64_t *)(void *)(fresh + n), *order = matched + count;
    struct pawl_items_record record = {
        .run = run->number, .first_fed = first, .first_instance = step->count, .fed_count = count};
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct pawl_wire_item item;
        memcpy(&item, (const char *)bytes + at, sizeof item);
        size_t whole = sizeof item + item.task_bytes;
        uint64_t number = run->matching ? match_content(run, item.hash) : PAWL_INSTANCE_NONE;
        bool done = false;
        if (number == PAWL_INSTANCE_NONE) {
            memcpy(fresh + record.items_bytes, (const char *)bytes + at, whole);
            record.items_bytes += (uint32_t)whole;
            number = step->count + record.new_count++;
        } else {
            done = step->instances[number].state == PAWL_STEP_SUCCEEDED;
            if (!done)
                matched[record.matched_count++] = number;
        }
        order[i] = number;
        instances_out[i] = number | (done ? PAWL_INSTANCE_HAD_SUCCEEDED : 0);
        at += whole;
    }
    struct iovec more[3] = {{.iov_base = matched, .iov_len = record.matched_count * sizeof(uint64_t)},
                            {.iov_base = fresh, .iov_len = record.items_bytes},
                            {.iov_base = order, .iov_len = count * sizeof(uint64_t)}};
    uint64_t lsn = pawl_apply_append(core, PAWL_RECORD_ITEMS, &record, sizeof record, more, 3);
    free(fresh);
    if (lsn == 0)
        return PAWL_E_SYNC_FAILED;
    run->unfed_count -= record.matched_count < run->unfed_count ? record.matched_count : run->unfed_count;
    line_up_fresh(core, run);
    pawl_core_later(core, lsn, run, PAWL_PENDING_ITEMS, UINT32_MAX, run->fed_count);
    return 0;
}

int pawl_core_items_end(struct pawl_core *core, struct pawl_now now, struct pawl_run *run)
{
    core->now = now;
    if (!run->fed)
        return PAWL_E_STATE;
    if (run->ending || run->fed_all)
        return 0;
    struct pawl_run_ref_record record = {.run = run->number, .realtime_ns = now.realtime_ns};
    uint64_t lsn = pawl_apply_append(core, PAWL_RECORD_ITEMS_END, &record, sizeof record, NULL, 0);
    if (lsn == 0)
        return PAWL_E_SYNC_FAILED;
    pawl_flow_instance_final(core, run, &run->steps[0], lsn);
    pawl_flow_check_end(core, run);
    return 0;
}
