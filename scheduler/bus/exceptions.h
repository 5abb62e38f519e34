/*
 * exceptions.h - what a subscription remembers of single events: all that is not "behind the cursor" or
 * "settled".
 *
 *   delayed or prioritised publishes, retries, what waits for its ordering key, detached and strict
 * deliveries
 *
 * A table by seq, a heap of those that may go now (highest priority, then lowest seq), and the ordering keys
 * that are taken. Pure memory; owned by one subscription.
 */
#ifndef PAWL_SCHEDULER_BUS_EXCEPTIONS_H
#define PAWL_SCHEDULER_BUS_EXCEPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum exception_state {                         /* stored in snapshots: append */
                       EXCEPTION_READY = 1,    /* in the heap */
                       EXCEPTION_DELAYED = 2,  /* a timer waits for due_at_ns */
                       EXCEPTION_KEYED = 3,    /* another event of its key is on its way */
                       EXCEPTION_HELD = 4,     /* in a client's lane */
                       EXCEPTION_DETACHED = 5, /* begun, bound to nobody; a timer waits for its deadline */
                       EXCEPTION_GRANTING = 6, /* its begin is on its way to disk (strict) */
                       EXCEPTION_GRANTED = 7,  /* in the heap; its begin is counted already */
                       EXCEPTION_STATES = 8,
};

enum { EXCEPTION_NOT_IN_HEAP = UINT32_MAX };

struct exception {
    uint64_t seq;
    uint64_t key;             /* hash of its ordering key; 0: none */
    uint64_t due_at_ns;       /* boottime: DELAYED, or the deadline of DETACHED */
    uint64_t due_realtime_ns; /* the same instant for people and for another boot */
    uint64_t delay_ns;        /* the whole wait, as it was decided */
    uint64_t first_at_ns;     /* realtime of the first attempt that failed; 0 */
    uint64_t epoch;           /* of the begin of DETACHED */
    struct exception *next_of_key;
    char *error; /* words about the last failure; malloc'd, or NULL */
    uint32_t heap_index;
    uint32_t breaker_round;
    uint32_t attempt; /* newest that began */
    uint16_t failures, last_cause, interruptions;
    uint8_t state, priority;
    bool redelivered_cause_known;
};

struct exception_key {
    uint64_t key; /* 0: free cell */
    uint64_t holder;
    struct exception *first, *last;
};

struct exceptions {
    struct exception **table; /* open addressing by seq */
    size_t count, room;
    struct exception **heap;
    size_t heap_count, heap_room;
    struct exception_key *keys;
    size_t key_count, key_room, waiting; /* waiting: KEYED ones */
    size_t in_state[EXCEPTION_STATES];
};

/* Every change of state goes through here: they are counted. */
static inline void exception_become(struct exceptions *set, struct exception *exception,
                                    enum exception_state state)
{
    set->in_state[exception->state]--;
    set->in_state[state]++;
    exception->state = (uint8_t)state;
}

struct exception *exception_find(const struct exceptions *set, uint64_t seq);
/* exception_add - a new one, state 0. NULL: no memory. It must not be there. */
struct exception *exception_add(struct exceptions *set, uint64_t seq);
void exception_remove(struct exceptions *set,
                      struct exception *exception); /* out of heap too; freed. Not out of keys */
void exceptions_fini(struct exceptions *set);

int exception_push(struct exceptions *set, struct exception *exception); /* into the heap. 0 or -ENOMEM */
void exception_pull(struct exceptions *set, struct exception *exception);
static inline struct exception *exception_top(const struct exceptions *set)
{
    return set->heap_count > 0 ? set->heap[0] : NULL;
}

/* exception_key_take - @seq wants to be the one of this key. 1: it is; 0: another is; -ENOMEM. */
int exception_key_take(struct exceptions *set, uint64_t key, uint64_t seq);
void exception_key_wait(struct exceptions *set,
                        struct exception *exception); /* its key is taken: stand in line */
/* exception_key_release - the holder is done: the next in line holds it now (NULL: nobody waited, the key is
 * free). */
struct exception *exception_key_release(struct exceptions *set, uint64_t key, uint64_t seq);

/* Every exception once; *cursor 0 first; NULL at the end. Nothing may be added or removed meanwhile. */
struct exception *exceptions_next(const struct exceptions *set, size_t *cursor);

#endif
