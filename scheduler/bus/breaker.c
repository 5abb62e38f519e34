/*
 * breaker.c - closed, open, half-open. Runs in: scheduler. Reads no clock.
 */
#include "scheduler/bus/breaker.h"

#include <stdbool.h>

static void change(struct pawl_breaker *breaker, enum pawl_breaker_state state)
{
    breaker->state = state;
    breaker->failures = breaker->successes = breaker->admitted = 0;
    if (++breaker->round == 0)
        breaker->round = 1;
}

static struct pawl_breaker_config sane(const struct pawl_breaker_config *config)
{
    struct pawl_breaker_config c = *config;
    if (c.success_threshold == 0)
        c.success_threshold = 1;
    if (c.probes_max < c.success_threshold)
        c.probes_max = c.success_threshold;
    return c;
}

static uint64_t later(uint64_t now_ns, uint64_t wait_ns)
{
    return now_ns > UINT64_MAX - wait_ns ? UINT64_MAX : now_ns + wait_ns;
}

void pawl_breaker_init(struct pawl_breaker *breaker, const struct pawl_breaker_config *config)
{
    *breaker = (struct pawl_breaker){.config = sane(config), .state = PAWL_BREAKER_CLOSED, .round = 1};
}

void pawl_breaker_configure(struct pawl_breaker *breaker, const struct pawl_breaker_config *config)
{
    breaker->config = sane(config);
    if (config->failure_threshold == 0 && breaker->state != PAWL_BREAKER_CLOSED)
        change(breaker, PAWL_BREAKER_CLOSED);
}

void pawl_breaker_hasten(struct pawl_breaker *breaker, uint64_t now_ns)
{
    uint64_t latest_ns = later(now_ns, breaker->config.cooldown_ns);
    if (breaker->state == PAWL_BREAKER_OPEN && breaker->opens_at_ns > latest_ns)
        breaker->opens_at_ns = latest_ns;
}

uint32_t pawl_breaker_admits(struct pawl_breaker *breaker, uint64_t now_ns)
{
    if (breaker->state == PAWL_BREAKER_CLOSED)
        return UINT32_MAX;
    if (breaker->state == PAWL_BREAKER_OPEN) {
        if (now_ns < breaker->opens_at_ns)
            return 0;
        change(breaker, PAWL_BREAKER_HALF_OPEN);
    }
    /* The bound may have been made less meanwhile. */
    return breaker->admitted < breaker->config.probes_max ? breaker->config.probes_max - breaker->admitted
                                                          : 0;
}

uint32_t pawl_breaker_on_start(struct pawl_breaker *breaker)
{
    if (breaker->state == PAWL_BREAKER_HALF_OPEN)
        breaker->admitted++;
    return breaker->round;
}

void pawl_breaker_on_success(struct pawl_breaker *breaker, uint32_t round)
{
    if (breaker->state == PAWL_BREAKER_CLOSED)
        breaker->failures = 0;
    if (breaker->state == PAWL_BREAKER_HALF_OPEN && round == breaker->round &&
        ++breaker->successes >= breaker->config.success_threshold)
        change(breaker, PAWL_BREAKER_CLOSED);
}

static void open_until(struct pawl_breaker *breaker, uint64_t opens_at_ns)
{
    if (breaker->state != PAWL_BREAKER_OPEN)
        change(breaker, PAWL_BREAKER_OPEN);
    breaker->opens_at_ns = opens_at_ns;
}

void pawl_breaker_on_failure(struct pawl_breaker *breaker, uint32_t round, uint64_t now_ns)
{
    uint64_t opens_at_ns = later(now_ns, breaker->config.cooldown_ns);
    switch ((enum pawl_breaker_state)breaker->state) {
    case PAWL_BREAKER_CLOSED:
        if (breaker->failures < UINT32_MAX)
            breaker->failures++;
        if (breaker->config.failure_threshold > 0 && breaker->failures >= breaker->config.failure_threshold)
            open_until(breaker, opens_at_ns);
        return;
    case PAWL_BREAKER_OPEN: /* one that had started before */
        if (opens_at_ns > breaker->opens_at_ns)
            breaker->opens_at_ns = opens_at_ns;
        return;
    case PAWL_BREAKER_HALF_OPEN:
        if (round == breaker->round)
            open_until(breaker, opens_at_ns);
        return;
    }
}

void pawl_breaker_on_abandoned(struct pawl_breaker *breaker, uint32_t round)
{
    if (breaker->state == PAWL_BREAKER_HALF_OPEN && round == breaker->round && breaker->admitted > 0)
        breaker->admitted--;
}

void pawl_breaker_forget(struct pawl_breaker *breaker)
{
    if (breaker->state == PAWL_BREAKER_HALF_OPEN)
        change(breaker, PAWL_BREAKER_HALF_OPEN); /* another round of probes */
}

uint64_t pawl_breaker_next_ns(const struct pawl_breaker *breaker)
{
    return breaker->state == PAWL_BREAKER_OPEN ? breaker->opens_at_ns : UINT64_MAX;
}

const char *pawl_breaker_state_name(uint32_t state)
{
    static const char *const names[] = {[PAWL_BREAKER_CLOSED] = "closed",
                                        [PAWL_BREAKER_OPEN] = "open",
                                        [PAWL_BREAKER_HALF_OPEN] = "half-open"};
    return state <= PAWL_BREAKER_HALF_OPEN ? names[state] : "unknown";
}

void pawl_breaker_pack(const struct pawl_breaker *breaker, uint64_t now_ns,
                       struct pawl_breaker_image *image_out)
{
    *image_out = (struct pawl_breaker_image){.state = breaker->state, .failures = breaker->failures};
    if (breaker->state == PAWL_BREAKER_OPEN && breaker->opens_at_ns > now_ns)
        image_out->wait_ns = breaker->opens_at_ns - now_ns;
}

void pawl_breaker_unpack(struct pawl_breaker *breaker, uint64_t now_ns,
                         const struct pawl_breaker_image *image)
{
    bool none = breaker->config.failure_threshold == 0;
    uint64_t wait_ns =
        image->wait_ns < breaker->config.cooldown_ns ? image->wait_ns : breaker->config.cooldown_ns;
    if (!none && image->state == PAWL_BREAKER_OPEN) {
        open_until(breaker, later(now_ns, wait_ns));
    } else if (!none && image->state == PAWL_BREAKER_HALF_OPEN) {
        change(breaker, PAWL_BREAKER_HALF_OPEN);
    } else {
        change(breaker, PAWL_BREAKER_CLOSED);
        /* A threshold that has been lowered since is met by the next failure, not by this. */
        breaker->failures = image->failures;
    }
}
