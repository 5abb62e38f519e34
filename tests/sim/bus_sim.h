/*
 * bus_sim.h - one round of the bus simulator: its bus, who lives around it, and what may happen to them.
 *
 * Everything is drawn from the round's seed; nothing sleeps. tests/stress/sim_bus.c decides what happens
 * when.
 */
#ifndef PAWL_TESTS_SIM_BUS_SIM_H
#define PAWL_TESTS_SIM_BUS_SIM_H

#include "tests/sim/bus_oracle.h"

enum { SIM_STEPS = 400, SIM_CLIENTS = 6, SIM_PENDING_MAX = 4096, SIM_TAKEN_MAX = 64 };

/* A publish that is not answered: who has a name sends it again after a reconnect. */
struct pending {
    size_t event;
    uint64_t sequence;
    struct memory_publish publish;
};

struct publisher {
    struct memory_client *client; /* NULL: not connected */
    uint64_t id, sequence;
    struct pending pending[SIM_PENDING_MAX];
    size_t pending_count, replies_read;
};

struct taken {
    struct pawl_bus_taken taken;
    struct pawl_event *event;
    uint32_t queue, group;
};

struct bus_sim {
    struct memory memory;
    struct oracle oracle;
    struct publisher publisher;
    struct taken taken[SIM_TAKEN_MAX];
    uint32_t taken_count;
    bool verbose;
    uint64_t random;
    uint64_t cuts[SIM_STEPS * 4]; /* the record counts at which the loop would have cut a batch */
    size_t cut_count;
};

extern const char *const sim_topics[ORACLE_TOPICS];

/* queue.c: chance, and words when the round is told */
uint64_t sim_chance(struct bus_sim *sim);
uint32_t sim_below(struct bus_sim *sim, uint32_t bound); /* 0 .. bound-1 */
void sim_say(const struct bus_sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_declare(struct bus_sim *sim, uint32_t index);
const char *sim_group_name(const struct oracle_queue *queue, uint32_t group);

/* publisher.c */
void sim_connect(struct bus_sim *sim);
void sim_read_replies(struct bus_sim *sim);
void sim_publish(struct bus_sim *sim);

/* consumer.c */
void sim_check(struct bus_sim *sim); /* what came since the last time, against the rules */
void sim_flush(struct bus_sim *sim);
void sim_come_or_go(struct bus_sim *sim);
/* What is taken back from a lane by request: no handler sees it any more. */
void sim_hand_no_more(struct memory_client *client, uint32_t consumer);
void sim_begin_all(struct bus_sim *sim, struct memory_client *client);
void sim_settle_one(struct bus_sim *sim, struct memory_client *client, uint64_t n, enum pawl_settle_op op);
void sim_settle(struct bus_sim *sim);

/* detached.c */
void sim_forget_taken(struct bus_sim *sim, uint32_t i);
void sim_take(struct bus_sim *sim);
void sim_settle_taken(struct bus_sim *sim);

/* people.c, disaster.c, end.c */
void sim_administer(struct bus_sim *sim);
void sim_crash(struct bus_sim *sim);
void sim_snapshot(struct bus_sim *sim);
void sim_compare_recoveries(struct bus_sim *sim);
void sim_end(struct bus_sim *sim);

#endif
