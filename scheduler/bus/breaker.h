/*
 * breaker.h - a queue whose handlers only fail is left alone for a while; no attempt is spent meanwhile.
 *
 *             failures in a row = failure_threshold            cooldown since the last failure is over
 *   CLOSED ------------------------------------------> OPEN ------------------------------------------>
 * HALF_OPEN ^                                                  ^ |   | | +----------------- a probe fails
 * ---------------+   |
 *     +----------------------------- success_threshold probes succeed --------------------------------------+
 *
 * HALF_OPEN starts at most probes_max deliveries; one that ends as neither (abandoned) gives its place back.
 * An outcome belongs to the round in which its delivery started: half-open looks at its own probes only,
 * while open a failure of an older round still moves the last failure.
 *
 * Runs in: scheduler. Pure: time is passed in, any clock that does not go back.
 */
#ifndef PAWL_SCHEDULER_BUS_BREAKER_H
#define PAWL_SCHEDULER_BUS_BREAKER_H

#include <assert.h>
#include <stdint.h>

enum pawl_breaker_state { /* stored, and shown as a metric: append */
                          PAWL_BREAKER_CLOSED = 0,
                          PAWL_BREAKER_OPEN = 1,
                          PAWL_BREAKER_HALF_OPEN = 2,
};

struct pawl_breaker_config {
    uint32_t failure_threshold; /* 5; 0: no breaker, always closed */
    uint32_t success_threshold; /* 2 */
    uint32_t probes_max;        /* 3; raised to success_threshold, or it could never close */
    uint64_t cooldown_ns;       /* 30 s */
};
#define PAWL_BREAKER_DEFAULTS                                                                                \
    ((struct pawl_breaker_config){.failure_threshold = 5,                                                    \
                                  .success_threshold = 2,                                                    \
                                  .probes_max = 3,                                                           \
                                  .cooldown_ns = UINT64_C(30) * 1000000000})

struct pawl_breaker {
    struct pawl_breaker_config config;
    uint32_t state;       /* enum pawl_breaker_state */
    uint32_t round;       /* rises with every change of state; never 0 */
    uint32_t failures;    /* closed: in a row */
    uint32_t successes;   /* half-open */
    uint32_t admitted;    /* half-open */
    uint64_t opens_at_ns; /* open: when probes may start */
};

void pawl_breaker_init(struct pawl_breaker *breaker, const struct pawl_breaker_config *config);

/** pawl_breaker_configure - other numbers; the state is kept, without a breaker (threshold 0) it closes. */
void pawl_breaker_configure(struct pawl_breaker *breaker, const struct pawl_breaker_config *config);

/** pawl_breaker_hasten - an open one waits no longer from now on than its cooldown, which may be less now. */
void pawl_breaker_hasten(struct pawl_breaker *breaker, uint64_t now_ns);

/** pawl_breaker_admits - how many deliveries may start now: UINT32_MAX closed, 0 open, the rest of the probes
 * half-open. Moves an open one whose cooldown is over to half-open. */
uint32_t pawl_breaker_admits(struct pawl_breaker *breaker, uint64_t now_ns);

/** pawl_breaker_on_start - a delivery starts (admits() said so). Return: its round, to be handed back with
 * its outcome; 0 stands for one that is not known any more. */
uint32_t pawl_breaker_on_start(struct pawl_breaker *breaker);

void pawl_breaker_on_success(struct pawl_breaker *breaker, uint32_t round);
void pawl_breaker_on_failure(struct pawl_breaker *breaker, uint32_t round, uint64_t now_ns);
void pawl_breaker_on_abandoned(struct pawl_breaker *breaker, uint32_t round); /* neither */

void pawl_breaker_forget(struct pawl_breaker *breaker); /* what is under way will not be heard of */

/** pawl_breaker_next_ns - when the state changes by itself: look again then. UINT64_MAX: it does not. */
uint64_t pawl_breaker_next_ns(const struct pawl_breaker *breaker);

const char *pawl_breaker_state_name(uint32_t state); /* "closed", "open", "half-open" */

/* What a snapshot keeps: the wait that is left, so that it means the same under another clock. */
struct pawl_breaker_image {
    uint32_t state;
    uint32_t failures;
    uint64_t wait_ns;
};
static_assert(sizeof(struct pawl_breaker_image) == 16, "snapshot format");

void pawl_breaker_pack(const struct pawl_breaker *breaker, uint64_t now_ns,
                       struct pawl_breaker_image *image_out);

/** pawl_breaker_unpack - into an initialised breaker. Half-open begins its probes again; a wait is never
 * longer than the cooldown; an unknown state is closed. */
void pawl_breaker_unpack(struct pawl_breaker *breaker, uint64_t now_ns,
                         const struct pawl_breaker_image *image);

#endif
