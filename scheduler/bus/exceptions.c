/*
 * exceptions.c - table, heap and keys of the events that are not plain.
 *
 * Runs in: scheduler. Pure memory.
 */
#include "scheduler/bus/exceptions.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Fibonacci hashing: neighbours in seq are spread over the table. */
static size_t slot_of(uint64_t value, size_t room)
{
    return (size_t)((value * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (room - 1);
}

/* ---- the table ---- */

static size_t find_slot(const struct exceptions *set, uint64_t seq)
{
    size_t slot = slot_of(seq, set->room);
    while (set->table[slot] && set->table[slot]->seq != seq)
        slot = (slot + 1) & (set->room - 1);
    return slot;
}

struct exception *exception_find(const struct exceptions *set, uint64_t seq)
{
    return set->count == 0 ? NULL : set->table[find_slot(set, seq)];
}

static int grow_table(struct exceptions *set)
{
    size_t room = set->room ? set->room * 2 : 64, before = set->room;
    struct exception **table = calloc(room, sizeof(struct exception *)), **old = set->table;
    if (!table)
        return -ENOMEM;
    set->table = table;
    set->room = room;
    for (size_t i = 0; i < before; i++)
        if (old[i])
            set->table[find_slot(set, old[i]->seq)] = old[i];
    free(old);
    return 0;
}

struct exception *exception_add(struct exceptions *set, uint64_t seq)
{
    if (set->count * 2 >= set->room && grow_table(set) < 0)
        return NULL;
    struct exception *exception = calloc(1, sizeof *exception);
    if (!exception)
        return NULL;
    exception->seq = seq;
    exception->heap_index = EXCEPTION_NOT_IN_HEAP;
    size_t slot = find_slot(set, seq);
    assert(!set->table[slot]);
    set->table[slot] = exception;
    set->count++;
    set->in_state[0]++;
    return exception;
}

void exception_remove(struct exceptions *set, struct exception *exception)
{
    exception_pull(set, exception);
    size_t hole = find_slot(set, exception->seq), slot = hole;
    /* Whoever was pushed beyond the hole moves back into it. */
    for (;;) {
        slot = (slot + 1) & (set->room - 1);
        if (!set->table[slot])
            break;
        size_t home = slot_of(set->table[slot]->seq, set->room);
        if (((slot - home) & (set->room - 1)) >= ((slot - hole) & (set->room - 1))) {
            set->table[hole] = set->table[slot];
            hole = slot;
        }
    }
    set->table[hole] = NULL;
    set->count--;
    set->in_state[exception->state]--;
    free(exception->error);
    free(exception);
}

void exceptions_fini(struct exceptions *set)
{
    for (size_t i = 0; i < set->room; i++)
        if (set->table[i]) {
            free(set->table[i]->error);
            free(set->table[i]);
        }
    free(set->table);
    free(set->heap);
    free(set->keys);
    *set = (struct exceptions){0};
}

struct exception *exceptions_next(const struct exceptions *set, size_t *cursor)
{
    while (*cursor < set->room)
        if (set->table[(*cursor)++])
            return set->table[*cursor - 1];
    return NULL;
}

/* ---- the heap ---- */

/* What was granted is promised already: it goes before all others, or they would wait for one another. */
static bool goes_before(const struct exception *a, const struct exception *b)
{
    bool a_granted = a->state == EXCEPTION_GRANTED, b_granted = b->state == EXCEPTION_GRANTED;
    if (a_granted != b_granted)
        return a_granted;
    return a->priority != b->priority ? a->priority > b->priority : a->seq < b->seq;
}

static void put(struct exceptions *set, size_t at, struct exception *exception)
{
    set->heap[at] = exception;
    exception->heap_index = (uint32_t)at;
}

static void rise(struct exceptions *set, size_t at, struct exception *exception)
{
    while (at > 0 && goes_before(exception, set->heap[(at - 1) / 2])) {
        put(set, at, set->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(set, at, exception);
}

static void sink(struct exceptions *set, size_t at, struct exception *exception)
{
    for (size_t child; (child = 2 * at + 1) < set->heap_count; at = child) {
        if (child + 1 < set->heap_count && goes_before(set->heap[child + 1], set->heap[child]))
            child++;
        if (!goes_before(set->heap[child], exception))
            break;
        put(set, at, set->heap[child]);
    }
    put(set, at, exception);
}

int exception_push(struct exceptions *set, struct exception *exception)
{
    if (exception->heap_index != EXCEPTION_NOT_IN_HEAP)
        return 0;
    if (set->heap_count == set->heap_room) {
        size_t room = set->heap_room ? set->heap_room * 2 : 64;
        struct exception **heap = realloc(set->heap, room * sizeof(struct exception *));
        if (!heap)
            return -ENOMEM;
        set->heap = heap;
        set->heap_room = room;
    }
    rise(set, set->heap_count++, exception);
    return 0;
}

void exception_pull(struct exceptions *set, struct exception *exception)
{
    size_t at = exception->heap_index;
    if (at == EXCEPTION_NOT_IN_HEAP)
        return;
    exception->heap_index = EXCEPTION_NOT_IN_HEAP;
    struct exception *last = set->heap[--set->heap_count];
    if (last == exception)
        return;
    if (at > 0 && goes_before(last, set->heap[(at - 1) / 2]))
        rise(set, at, last);
    else
        sink(set, at, last);
}

/* ---- the keys ---- */

static size_t key_slot(const struct exceptions *set, uint64_t key)
{
    size_t slot = slot_of(key, set->key_room);
    while (set->keys[slot].key && set->keys[slot].key != key)
        slot = (slot + 1) & (set->key_room - 1);
    return slot;
}

static int grow_keys(struct exceptions *set)
{
    size_t room = set->key_room ? set->key_room * 2 : 64, before = set->key_room;
    struct exception_key *keys = calloc(room, sizeof *keys), *old = set->keys;
    if (!keys)
        return -ENOMEM;
    set->keys = keys;
    set->key_room = room;
    for (size_t i = 0; i < before; i++)
        if (old[i].key)
            set->keys[key_slot(set, old[i].key)] = old[i];
    free(old);
    return 0;
}

int exception_key_take(struct exceptions *set, uint64_t key, uint64_t seq)
{
    if (set->key_count * 2 >= set->key_room && grow_keys(set) < 0)
        return -ENOMEM;
    struct exception_key *cell = &set->keys[key_slot(set, key)];
    if (cell->key)
        return cell->holder == seq;
    *cell = (struct exception_key){.key = key, .holder = seq};
    set->key_count++;
    return 1;
}

void exception_key_wait(struct exceptions *set, struct exception *exception)
{
    struct exception_key *cell = &set->keys[key_slot(set, exception->key)];
    assert(cell->key);
    exception_become(set, exception, EXCEPTION_KEYED);
    exception->next_of_key = NULL;
    if (cell->last)
        cell->last->next_of_key = exception;
    else
        cell->first = exception;
    cell->last = exception;
    set->waiting++;
}

static void drop_key(struct exceptions *set, size_t hole)
{
    size_t slot = hole;
    for (;;) {
        slot = (slot + 1) & (set->key_room - 1);
        if (!set->keys[slot].key)
            break;
        size_t home = slot_of(set->keys[slot].key, set->key_room);
        if (((slot - home) & (set->key_room - 1)) >= ((slot - hole) & (set->key_room - 1))) {
            set->keys[hole] = set->keys[slot];
            hole = slot;
        }
    }
    set->keys[hole] = (struct exception_key){0};
    set->key_count--;
}

struct exception *exception_key_release(struct exceptions *set, uint64_t key, uint64_t seq)
{
    if (set->key_count == 0)
        return NULL;
    size_t slot = key_slot(set, key);
    struct exception_key *cell = &set->keys[slot];
    if (!cell->key)
        return NULL;
    if (cell->holder != seq) {
        /* One that stood in line went (purged, expired): take it out. */
        struct exception **link = &cell->first, *previous = NULL;
        while (*link && (*link)->seq != seq) {
            previous = *link;
            link = &(*link)->next_of_key;
        }
        if (*link) {
            if (cell->last == *link)
                cell->last = previous;
            *link = (*link)->next_of_key;
            set->waiting--;
        }
        return NULL;
    }
    struct exception *next = cell->first;
    if (!next) {
        drop_key(set, slot);
        return NULL;
    }
    cell->first = next->next_of_key;
    if (!cell->first)
        cell->last = NULL;
    cell->holder = next->seq;
    next->next_of_key = NULL;
    set->waiting--;
    return next;
}
