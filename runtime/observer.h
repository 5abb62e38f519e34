/*
 * observer.h - who looks at a scheduler from outside: its processes, its figures, the memory of all of them.
 *
 * Runs in: `pawl metrics`, `health`, `top`, and the process that answers HTTP. Never starts a scheduler and
 * never waits longer than it is told to. Goes on after a restart of the scheduler.
 */
#ifndef PAWL_RUNTIME_OBSERVER_H
#define PAWL_RUNTIME_OBSERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/client.h"
#include "runtime/metrics_text.h"
#include "runtime/state.h"
#include "shm/wire.h"

/* pawl_memory_bytes{kind} */
enum {
    PAWL_MEMORY_SCHEDULER,  /* resident */
    PAWL_MEMORY_SUPERVISOR, /* resident */
    PAWL_MEMORY_WORKERS,    /* resident, of all of them */
    PAWL_MEMORY_SHARED,     /* shared memory that the scheduler has in use */
    PAWL_MEMORY_ALLOCATED,  /* by the scheduler, of its allocator */
    PAWL_MEMORY_KEPT,       /* events that are in memory only */
    PAWL_MEMORY_CACHE,      /* journal that is kept to be read */
    PAWL_MEMORY_KINDS,
};

struct pawl_observer {
    const struct pawl_state *state; /* NULL: there is the socket alone */
    struct pawl_state own_state;    /* of pawl_observer_open() */
    bool owns_state;
    const char *socket; /* for who may not look into the directory; NULL: that of the directory */
    bool connected, attached;
    struct pawl_wire wire;
    struct pawl_wire_welcome welcome;
    struct pawl_wire_message reply;
    struct pawl_segment segment; /* while attached; of a scheduler that may have died since */
    struct pawl_wire_process *processes;
    size_t process_count;
    uint64_t latency_ns;             /* of the last answer */
    struct pawl_error_report report; /* what the scheduler said when it refused; text "" else */
};

void pawl_observer_init(struct pawl_observer *observer, const struct pawl_state *state);

/**
 * pawl_observer_open - the same for a state directory, or for a socket that `pawl serve` listens at
 * @path: the directory or the socket; stays the caller's, and must live as long as the observer
 *
 * Through a socket everything is seen but the disk. Return: as pawl_state_open(), with its words.
 */
int pawl_observer_open(struct pawl_observer *observer, const char *path, char why[PAWL_STATE_WHY_BYTES]);
void pawl_observer_fini(struct pawl_observer *observer);

/**
 * pawl_observer_look - connect if need be, and ask who is there
 * @timeout_ns: for all of it
 *
 * Return: 0 (processes, latency_ns, and the segment if there is one, are of now); -ENOENT (nobody serves);
 * -ETIMEDOUT (somebody does, and does not answer); another error.
 */
int pawl_observer_look(struct pawl_observer *observer, uint64_t timeout_ns);

/** pawl_observer_ask - a JSON request of the bus. Return: 0 (the reply is in observer->reply until the next
 * call); an error, in words in observer->report. */
int pawl_observer_ask(struct pawl_observer *observer, const char *request, uint64_t timeout_ns);

/** pawl_observer_sample - the figures now. 0; -ENOENT (there is no segment); -ENOMEM. */
int pawl_observer_sample(const struct pawl_observer *observer, struct pawl_metrics_sample *sample_out);

/** pawl_memory_kinds - what all of pawl's processes use. @sample may be NULL. */
void pawl_memory_kinds(uint32_t scheduler_pid, const struct pawl_wire_process *processes, size_t count,
                       const struct pawl_metrics_sample *sample,
                       struct pawl_metrics_memory memory[PAWL_MEMORY_KINDS]);

#endif
