/*
 * loop.h - the scheduler's one loop: everything that it owns, and one turn after the other.
 *
 * Runs in: scheduler, one thread. Private to the room. The loop carries the core's effects out and brings it
 * its inputs; it decides nothing about runs.
 */
#ifndef PAWL_SCHEDULER_LOOP_H
#define PAWL_SCHEDULER_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/bus/bus.h"
#include "scheduler/core.h"
#include "scheduler/io.h"
#include "scheduler/journal.h"
#include "scheduler/kept.h"
#include "scheduler/listener.h"
#include "scheduler/scheduler.h"
#include "shm/log.h"
#include "shm/log_segment.h"
#include "shm/world.h"

struct pawl_connection;
struct pawl_queue;
struct pawl_lanes;
struct pawl_seal;
struct pawl_collection;
struct pawl_clients;

struct pawl_loop {
    const struct pawl_scheduler_options *options;
    struct pawl_io *io;
    struct pawl_journal *journal;
    struct pawl_core *core;
    struct pawl_now now;
    uint64_t epoch;
    struct pawl_config config;                     /* in force: reload.h */
    struct pawl_log_limit bad_messages, bad_lanes; /* guests may send as many as they like */

    /* the journal's news, taken up after each wait */
    uint64_t durable_lsn, told_lsn;
    uint64_t flushed_lsn;   /* given to the disk, or about to be */
    uint64_t flushed_at_ns; /* boottime: when that last rose */
    uint64_t flush_due_ns;  /* boottime: when what waits for company is given to the disk; 0: nothing waits */
    int journal_error;
    int append_error;               /* of the last record that the journal did not take */
    bool snapshotting, release_due; /* snapshot.h */
    bool full_again;                /* a full disk: the first of two snapshots was begun */
    bool full_lend;                 /* and the last one found no room: the next may have all of the reserve */
    uint32_t full_segment;          /* and the current segment when dead ones were looked for */
    uint64_t look_at_ns;            /* and when it is looked again how far consumers have come */
    uint64_t full_at_ns, reclaim_at_ns,
        reclaim_lsn;            /* boottime: when dead segments are looked for; what was known then */
    uint64_t snapshot_at_ns;    /* boottime: not before, after one that failed */
    uint64_t replayed_count;    /* records that the start had to read */
    uint64_t realtime_floor_ns; /* no record may be older than what the journal holds */

    /* life */
    bool serving;    /* pawl_core_serve() was called */
    bool stopping;   /* SIGTERM: interrupt, then leave */
    bool stop_asked; /* a signal came */
    bool reload_asked;
    uint64_t owners_until_ns; /* boottime: after a restart, commands may come back to their runs; 0: not */
    bool leave;               /* left the loop */
    int exit_code;
    uint64_t born_at_ns;    /* boottime */
    uint64_t sample_at_ns;  /* boottime: when load and memory are looked at again */
    uint64_t settled_at_ns; /* boottime: the last turn with settlements */
    bool looks_soon;        /* the lanes are looked into within milliseconds, whoever rings */
    uint64_t turn_settled;  /* settlements of the last turn: many in a short time mean short tasks */
    uint64_t turn_gap_ns;   /* from the turn before to the last one */
    uint64_t turned_at_ns;  /* boottime: when the last began */
    int signal_fd;
    struct pawl_io_request signal_poll;

    /* control.h */
    struct pawl_listeners listeners;
    struct pawl_connection *connections;
    uint32_t ungreeted_count; /* connections that have not said who they are */
    uint32_t connection_count;
    uint32_t client_count, asker_count; /* clients with a place among `clients`; those that only ask */
    uint64_t client_number;
    uint64_t reply_due_ns;              /* boottime: a reply that waits for the disk goes then anyway */
    bool hurry;                         /* somebody waits for a sync */
    bool batch_appended;                /* the core wrote something that was not flushed */
    bool changed;                       /* parked requests look again */
    bool more_to_read;                  /* a client was cut short this turn: do not sleep */
    struct pawl_collection *collection; /* a gc under way */

    /* the event bus: its core, what it keeps in memory only, its clients, its figures */
    struct pawl_bus *bus;
    struct pawl_kept kept;
    struct pawl_clients *clients;
    uint32_t attached_count, taker_count;
    bool condemned;          /* a client's lane did not hold: it is to be ended */
    uint64_t drain_until_ns; /* boottime: stopping, what is in flight may settle until then */
    struct pawl_segment metrics_segment;
    struct pawl_metrics *metrics;
    uint64_t figures_at_ns; /* boottime: figures.h looked last */

    /* lanes.h */
    struct pawl_lanes *lanes;

    /* handlers.h */
    struct pawl_wire_process *handlers;
    uint32_t handler_count;

    /* queue.h */
    uint64_t secure_at_ns; /* when the journal gets its reserve, if something runs then; 0: not due */
    struct pawl_queue *queues;
    uint32_t queue_count;
    struct pawl_log_pool pool;  /* task memory of all queues */
    uint64_t mend_at_ns;        /* the claim words are looked at; 0: nothing is placed */
    uint64_t place_again_at_ns; /* a place failed for want of memory: try again; 0: not */

    struct pawl_segment world_segment;
    struct pawl_world *world;

    /* seal.h */
    struct pawl_seal *seals;
    uint32_t seal_count;
    uint64_t
        begun_at_ns; /* CLOCK_REALTIME: all processes of jobs from before are gone; 0: not if restarted */
};

/* The clocks, sampled: once a turn, and after what may have taken long. */
void pawl_loop_sample_clocks(struct pawl_loop *loop);

/* A decision is whole: what comes next need not be in the same batch. */
void pawl_loop_cut(struct pawl_loop *loop);

/* The table through which the core acts. */
extern const struct pawl_core_effects pawl_loop_effects;

/* What this table and that of the bus (backend.h) do alike. ctx: struct pawl_loop. */
/** pawl_loop_append - a record into the journal's batch at hand. Return: its lsn; 0: refused, and logged. */
uint64_t pawl_loop_append(struct pawl_loop *loop, uint8_t type, uint16_t version, const struct iovec *body,
                          int count, uint64_t *place_out);
uint64_t pawl_loop_random(void *ctx);
void pawl_loop_say(void *ctx, int level, const char *text);

/**
 * pawl_loop_run - turn after turn until loop->leave
 *
 * Return: 0 or an error of the I/O itself.
 */
int pawl_loop_run(struct pawl_loop *loop);

#endif
