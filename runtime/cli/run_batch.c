/*
 * run_batch.c - lines of --inputs and the runs that they have had.
 *
 * Runs in: the command. Sorted tables: a batch may have a hundred thousand lines, and a state directory as
 * many runs.
 */
#include "runtime/cli/run_batch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/submission.h"
#include "scheduler/run.h"

enum {
    NAME_BYTES_MAX = 50, /* leaves room for the number */
    DIGITS_MAX = 12,
};

/* A run of the batch. */
struct earlier {
    uint64_t identity;
    bool open;    /* it has not succeeded */
    size_t age;   /* 0: the newest */
    size_t taken; /* of the runs of this identity; in the first of them */
    const struct pawl_wire_summary *run;
};

struct table {
    struct earlier *runs;
    size_t count;
    uint64_t *identities; /* of all lines, sorted */
    uint64_t line_count;
};

/* ---- names ---- */

/* DATE-TIME of DATE-TIME-CHANCE, which chance makes a number once in a while. */
static bool is_stamp(const char *name, size_t bytes)
{
    return bytes == 15 && name[8] == '-' && strspn(name, "0123456789") == 8 &&
           strspn(name + 9, "0123456789") == 6;
}

/* "night-12" is 12, of a name of 5 bytes. Return: 0: it is not called like one of a batch. */
static uint64_t split_name(const char *run_id, size_t *bytes_out)
{
    const char *dash = strrchr(run_id, '-');
    size_t digits = dash ? strspn(dash + 1, "0123456789") : 0;
    if (digits == 0 || digits > DIGITS_MAX || dash[1] == '0' || dash[1 + digits] != '\0' || dash == run_id ||
        dash - run_id > NAME_BYTES_MAX || is_stamp(run_id, (size_t)(dash - run_id)))
        return 0;
    *bytes_out = (size_t)(dash - run_id);
    return strtoull(dash + 1, NULL, 10);
}

static uint64_t number_in(const struct pawl_run_batch *batch, const char *run_id)
{
    size_t bytes = 0;
    uint64_t number = split_name(run_id, &bytes);
    bool same = number != 0 && strlen(batch->name) == bytes && memcmp(batch->name, run_id, bytes) == 0;
    return same ? number : 0;
}

void pawl_run_batch_name(const struct pawl_run_batch *batch, uint64_t number, char run_id[PAWL_NAME_BYTES])
{
    memset(run_id, 0, PAWL_NAME_BYTES);
    snprintf(run_id, PAWL_NAME_BYTES, "%.*s-%" PRIu64, (int)NAME_BYTES_MAX, batch->name, number);
}

/* ---- tables ---- */

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int by_identity(const void *a, const void *b)
{
    const struct earlier *x = a, *y = b;
    if (x->identity != y->identity)
        return x->identity < y->identity ? -1 : 1;
    if (x->open != y->open)
        return x->open ? 1 : -1;
    return x->age < y->age ? -1 : x->age > y->age;
}

static bool has_line(const struct table *table, uint64_t identity)
{
    return bsearch(&identity, table->identities, table->line_count, sizeof identity, by_number) != NULL;
}

static void choose_name(struct pawl_run_batch *batch, const char *name, const struct table *table,
                        const struct pawl_wire_summary *runs, size_t run_count)
{
    size_t bytes = 0;
    if (name != NULL) {
        snprintf(batch->name, sizeof batch->name, "%.*s", (int)NAME_BYTES_MAX, name);
        return;
    }
    for (size_t i = 0; i < run_count; i++)
        if (has_line(table, runs[i].identity) && split_name(runs[i].run_id, &bytes) != 0) {
            memcpy(batch->name, runs[i].run_id, bytes); /* zeros follow */
            return;
        }
    pawl_run_id_make(batch->name);
}

static void collect(const struct pawl_run_batch *batch, struct table *table,
                    const struct pawl_wire_summary *runs, size_t run_count)
{
    for (size_t i = 0; i < run_count; i++) {
        if (number_in(batch, runs[i].run_id) != 0)
            table->runs[table->count++] = (struct earlier){.identity = runs[i].identity,
                                                           .open = runs[i].state != PAWL_RUN_SUCCEEDED,
                                                           .age = i,
                                                           .run = &runs[i]};
    }
    if (table->count > 0)
        qsort(table->runs, table->count, sizeof *table->runs, by_identity);
}

/* The best run of this identity that no line has yet, or NULL. */
static const struct earlier *take(struct table *table, uint64_t identity)
{
    size_t low = 0, high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->runs[middle].identity < identity)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == table->count || table->runs[low].identity != identity)
        return NULL;
    size_t at = low + table->runs[low].taken;
    if (at >= table->count || table->runs[at].identity != identity)
        return NULL;
    table->runs[low].taken++;
    return &table->runs[at];
}

/* ---- the batch ---- */

/* A new run has the number of its line, unless a run of another line has it already. */
static int give_numbers(struct pawl_run_batch *batch, const struct pawl_wire_summary *runs, size_t run_count)
{
    uint64_t beyond = batch->count;
    bool *used = calloc(batch->count + 1, sizeof *used);
    if (used == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < run_count; i++) {
        uint64_t number = number_in(batch, runs[i].run_id);
        if (number <= batch->count)
            used[number] = true;
        else if (number > beyond)
            beyond = number;
    }
    for (uint64_t i = 0; i < batch->count; i++)
        if (batch->lines[i].run == NULL)
            batch->lines[i].number = used[i + 1] ? ++beyond : i + 1;
    free(used);
    return 0;
}

int pawl_run_batch_make(const char *name, const uint64_t *identities, uint64_t count,
                        const struct pawl_wire_summary *runs, size_t run_count,
                        struct pawl_run_batch *batch_out)
{
    struct table table = {.line_count = count};
    int error = -ENOMEM;
    memset(batch_out, 0, sizeof *batch_out);
    batch_out->lines = calloc(count + 1, sizeof *batch_out->lines);
    table.identities = malloc((count + 1) * sizeof *table.identities);
    table.runs = malloc((run_count + 1) * sizeof *table.runs);
    if (batch_out->lines == NULL || table.identities == NULL || table.runs == NULL)
        goto free_table;
    batch_out->count = count;
    memcpy(table.identities, identities, count * sizeof *identities);
    qsort(table.identities, count, sizeof *table.identities, by_number);
    choose_name(batch_out, name, &table, runs, run_count);
    collect(batch_out, &table, runs, run_count);
    for (uint64_t i = 0; i < count; i++) {
        const struct earlier *earlier = take(&table, identities[i]);
        batch_out->lines[i].run = earlier != NULL ? earlier->run : NULL;
        batch_out->lines[i].done = earlier != NULL && !earlier->open;
        batch_out->done += batch_out->lines[i].done;
    }
    error = give_numbers(batch_out, runs, run_count);
free_table:
    free(table.identities);
    free(table.runs);
    return error;
}

void pawl_run_batch_fini(struct pawl_run_batch *batch)
{
    free(batch->lines);
    batch->lines = NULL;
}
