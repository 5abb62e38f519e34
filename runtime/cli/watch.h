/*
 * watch.h - what a waiting command tells meanwhile: progress, and failures as they come.
 *
 * Asks over a connection of its own, opened when it is first needed, so that its blocking questions never
 * stand in the way of the waiting loop's messages; a run that is over is read from its image.
 */
#ifndef PAWL_RUNTIME_CLI_WATCH_H
#define PAWL_RUNTIME_CLI_WATCH_H

#include "runtime/cli/progress.h"
#include "runtime/cli/run_view.h"

enum { PAWL_WATCH_FAILURES_MAX = 20 };

struct pawl_watch {
    const struct pawl_cli *cli;
    struct pawl_session query;
    bool has_query;
    struct pawl_progress progress;
    uint64_t next_at_ns; /* monotonic: when to call tick() */
    bool tells_failures;
    char plan_of[PAWL_NAME_BYTES]; /* whose plan this is */
    struct pawl_plan *plan;
    uint64_t known_failed;
    struct {
        uint64_t instance;
        uint32_t step, attempts;
    } told[PAWL_WATCH_FAILURES_MAX];
    unsigned told_count;
    bool told_more;
};

/** pawl_watch_init - @tells_failures: of a run's steps (map tells its own). */
void pawl_watch_init(struct pawl_watch *watch, const struct pawl_cli *cli, bool tells_failures);
void pawl_watch_fini(struct pawl_watch *watch); /* takes the progress block away */

/** pawl_watch_tick - look at the run, tell new failures, show progress when due. @fact_hints: total and read,
 * when the caller knows them better (0: not). Return: when to call again. */
uint64_t pawl_watch_tick(struct pawl_watch *watch, const char *run_id,
                         const struct pawl_progress_facts *fact_hints);

/** pawl_watch_ended - a run is over: tell the failures that were not told. */
void pawl_watch_ended(struct pawl_watch *watch, const struct pawl_wire_summary *summary);

/** pawl_watch_notice - what the scheduler says unasked (PAWL_WIRE_NOTICE). */
void pawl_watch_notice(struct pawl_watch *watch, const struct pawl_wire_message *message);

/** pawl_watch_clear - before anything else is written to the terminal. */
void pawl_watch_clear(struct pawl_watch *watch);

#endif
