/*
 * progress.h - how far it is: one redrawn block on a terminal, a plain line now and then elsewhere.
 *
 * On stderr only. Time is passed in (CLOCK_MONOTONIC); nothing here asks anybody anything: the waiting loop
 * hands over what it knows when pawl_progress_due_ns() has come.
 */
#ifndef PAWL_RUNTIME_CLI_PROGRESS_H
#define PAWL_RUNTIME_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/cli/cli.h"

enum {
    PAWL_PROGRESS_SAMPLES = 64,
    PAWL_PROGRESS_SLOWEST = 3,
    PAWL_PROGRESS_TEXT_BYTES = 2048,
};

enum pawl_progress_kind {
    PAWL_PROGRESS_OFF,
    PAWL_PROGRESS_BLOCK,
    PAWL_PROGRESS_LINES,
    PAWL_PROGRESS_OBJECTS
};

/* What is known at one moment. */
struct pawl_progress_facts {
    const char *run_id;
    uint64_t done, total; /* total 0: not known */
    uint64_t read;        /* instead of the total, while it is not known */
    uint64_t running, failed, retrying;
    uint64_t elapsed_ns;
    uint64_t runs_done, runs_total; /* of --inputs; total 0: one run */
    struct pawl_progress_step {
        char name[96];
        uint64_t elapsed_ns;
    } slowest[PAWL_PROGRESS_SLOWEST];
    unsigned slowest_count;
};

struct pawl_progress {
    enum pawl_progress_kind kind;
    bool color;
    uint64_t due_at_ns, started_at_ns;
    unsigned lines; /* of the block that stands on the terminal */
    struct {
        uint64_t at_ns, done;
    } samples[PAWL_PROGRESS_SAMPLES]; /* a ring; newest at (sample_count - 1) % SAMPLES */
    uint64_t sample_count;
};

void pawl_progress_init(struct pawl_progress *progress, const struct pawl_cli *cli, uint64_t now_ns);

/** pawl_progress_due_ns - when to show again; UINT64_MAX when nothing is ever shown. */
uint64_t pawl_progress_due_ns(const struct pawl_progress *progress);

/** pawl_progress_show - draw, and set the next time. */
void pawl_progress_show(struct pawl_progress *progress, uint64_t now_ns,
                        const struct pawl_progress_facts *facts);

/** pawl_progress_clear - take the block off the terminal before anything else is written to it. */
void pawl_progress_clear(struct pawl_progress *progress);

/* ---- the parts, pure ---- */

/** pawl_progress_sample - remember how much was done when. */
void pawl_progress_sample(struct pawl_progress *progress, uint64_t now_ns, uint64_t done);

/**
 * pawl_progress_rates - steps per second: lately, and the least and most of several recent windows
 *
 * Return: false while too little is known.
 */
bool pawl_progress_rates(const struct pawl_progress *progress, double *now_out, double *low_out,
                         double *high_out);

/** pawl_progress_text - the block: lines separated by newlines, none at the end; cut to @width columns each.
 */
void pawl_progress_text(const struct pawl_progress *progress, const struct pawl_progress_facts *facts,
                        unsigned width, char text[PAWL_PROGRESS_TEXT_BYTES]);

#endif
