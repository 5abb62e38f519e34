/*
 * stress_rings - one scheduler and four workers hammer a delivery ring, their lanes and the doorbells.
 *
 * As threads over one mapping, so that ThreadSanitizer can look on. Every delivery must be claimed once or
 * recalled, every settlement must arrive once and whole, and nobody may sleep for ever: a lost wake-up shows
 * as a hang, which alarm() ends. Usage: stress_rings [deliveries] [seed]. Prints its seed; exits 0 or 1.
 */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shm/delivery_ring.h"
#include "shm/doorbell.h"
#include "shm/error.h"
#include "shm/lane.h"

enum { WORKERS = 4, SLOTS = 64 };

struct worker {
    pthread_t thread;
    uint32_t lane;
    struct pawl_lane_reader reader;
    struct pawl_lane_writer writer;
    struct pawl_claimer claimer;
    int bell;
    uint64_t claimed;
};

static struct pawl_segment world_segment;
static struct pawl_world *world;
static struct pawl_delivery_ring ring;
static struct worker workers[WORKERS];
static int scheduler_bell;
static _Atomic bool stop;
static uint64_t total, state;
static uint8_t *seen;
static uint64_t instance_of[SLOTS];

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void fail(const char *what, uint64_t number)
{
    fprintf(stderr, "stress_rings: %s (%" PRIu64 ")\n", what, number);
    exit(1);
}

static void sleep_on(_Atomic uint32_t *flag, int bell, bool (*work)(void *), void *context)
{
    pawl_doorbell_prepare(flag);
    if (!work(context)) {
        struct pollfd fd = {.fd = bell, .events = POLLIN};
        poll(&fd, 1, -1);
        pawl_doorbell_clear(bell);
    }
    pawl_doorbell_awake(flag);
}

static bool worker_has_work(void *context)
{
    struct worker *w = context;
    return atomic_load_explicit(&stop, memory_order_relaxed) || pawl_claim_waiting(&w->claimer);
}

static bool lane_has_room(void *context)
{
    struct worker *w = context;
    return pawl_lane_consumed(&w->writer) + PAWL_LANE_ENTRIES > pawl_lane_pushed(&w->writer);
}

static void report(struct worker *w, const struct pawl_claimed *claimed)
{
    uint64_t text[4];
    for (int i = 0; i < 4; i++)
        text[i] = claimed->descriptor.instance * 31 + (uint64_t)i;
    struct pawl_settlement s = {.type = PAWL_SETTLE_RESULT,
                                .slot = claimed->slot,
                                .generation = claimed->generation,
                                .arena_bytes = sizeof text,
                                .stdout_bytes = sizeof text};
    while (pawl_lane_push(&w->writer, &s, text) == PAWL_E_QUEUE_FULL) {
        pawl_lane_publish(&w->writer);
        pawl_doorbell_ring(&world->sleeping, scheduler_bell);
        sleep_on(&pawl_lane_memory_of(&w->writer.segment)->sleeping, w->bell, lane_has_room, w);
    }
    pawl_lane_publish(&w->writer);
    pawl_doorbell_ring(&world->sleeping, scheduler_bell);
}

static void *work(void *context)
{
    struct worker *w = context;
    struct pawl_claimed claimed;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        int error = pawl_claim_one(&w->claimer, &claimed);
        if (error == PAWL_E_QUEUE_EMPTY) {
            sleep_on(&pawl_lane_memory_of(&w->writer.segment)->sleeping, w->bell, worker_has_work, w);
            continue;
        }
        if (error < 0)
            fail("claimed descriptor does not match its word", (uint64_t)-error);
        w->claimed++;
        report(w, &claimed);
    }
    return NULL;
}

static uint64_t drain(struct worker *w)
{
    struct pawl_settlement s;
    const uint64_t *bytes;
    uint64_t n = 0;
    int error;
    while ((error = pawl_lane_next(&w->reader, &s, (const void **)&bytes)) == 1) {
        uint64_t instance = instance_of[s.slot];
        for (int i = 0; i < 4; i++)
            if (bytes[i] != instance * 31 + (uint64_t)i)
                fail("a settlement's bytes are not its own", instance);
        if (pawl_delivery_ring_settle(&ring, s.slot, s.generation) < 0 || seen[instance]++)
            fail("settled twice", instance);
        n++;
    }
    if (error < 0)
        fail("a lane does not hold", w->lane);
    pawl_lane_release(&w->reader);
    if (n > 0)
        pawl_doorbell_ring(&pawl_lane_memory_of(&w->reader.segment)->sleeping, w->bell);
    return n;
}

static uint64_t drain_all(void)
{
    uint64_t n = 0;
    for (int i = 0; i < WORKERS; i++)
        n += drain(&workers[i]);
    return n;
}

static bool scheduler_has_work(void *context)
{
    uint64_t *settled = context;
    return (*settled = drain_all()) > 0;
}

static void wake_workers(uint32_t placed)
{
    for (int i = 0; i < WORKERS && placed > 0; i++)
        placed -=
            pawl_doorbell_ring(&pawl_lane_memory_of(&workers[i].reader.segment)->sleeping, workers[i].bell);
}

static void schedule(void)
{
    uint64_t placed = 0, settled = 0, recalled = 0;
    while (settled + recalled < total) {
        uint32_t burst = (uint32_t)(next_random() % 16), fresh = 0;
        for (; fresh < burst && placed < total; fresh++) {
            struct pawl_descriptor d = {.instance = placed};
            uint32_t slot, generation;
            if (pawl_delivery_ring_place(&ring, &d, 0, &slot, &generation) < 0)
                break;
            instance_of[slot] = placed++;
            if (next_random() % 64 == 0 && pawl_delivery_ring_recall(&ring, slot, generation) == 0) {
                if (seen[placed - 1]++)
                    fail("recalled after it was settled", placed - 1);
                recalled++;
            }
        }
        pawl_delivery_ring_publish(&ring);
        wake_workers(fresh);
        uint64_t now = drain_all();
        settled += now;
        if (now == 0 && ring.taken > 0) {
            uint64_t late = 0;
            sleep_on(&world->sleeping, scheduler_bell, scheduler_has_work, &late);
            settled += late;
        }
    }
    printf("placed %" PRIu64 ", settled %" PRIu64 ", recalled %" PRIu64 "\n", placed, settled, recalled);
}

int main(int argc, char **argv)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    total = argc > 1 ? strtoull(argv[1], NULL, 10) : 200000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)ts.tv_nsec | 1;
    state = seed;
    printf("seed %" PRIu64 "\n", seed);
    alarm(300);
    seen = calloc(total, 1);
    if (!seen || pawl_world_create(1, &world_segment) < 0 || pawl_delivery_ring_create(SLOTS, &ring) < 0)
        fail("cannot set up", 0);
    world = pawl_world_of(&world_segment);
    scheduler_bell = pawl_doorbell_open();
    for (uint32_t i = 0; i < WORKERS; i++) {
        struct worker *w = &workers[i];
        w->lane = i;
        w->bell = pawl_doorbell_open();
        if (pawl_lane_create(world, i, &w->reader) < 0)
            fail("cannot make a lane", i);
        /* One mapping for both sides: the sanitizer sees one address for one word. */
        w->writer.segment = w->reader.segment;
        w->writer.cell = &world->lane[i];
        pawl_ring_producer_init(&w->writer.ring, &pawl_lane_memory_of(&w->reader.segment)->produced,
                                &world->lane[i].consumed_position,
                                (char *)w->reader.segment.base + PAWL_LANE_ENTRIES_AT, PAWL_LANE_ENTRY_BYTES,
                                PAWL_LANE_ENTRIES);
        w->claimer = (struct pawl_claimer){
            .memory = ring.memory, .word = ring.word, .slot_count = ring.slot_count, .lane = (uint16_t)i};
        if (pthread_create(&w->thread, NULL, work, w) != 0)
            fail("cannot start a thread", i);
    }
    schedule();
    atomic_store_explicit(&stop, true, memory_order_seq_cst);
    uint64_t claimed = 0;
    for (int i = 0; i < WORKERS; i++) {
        pawl_doorbell_write(workers[i].bell);
        pthread_join(workers[i].thread, NULL);
        claimed += workers[i].claimed;
    }
    for (uint64_t i = 0; i < total; i++)
        if (seen[i] != 1)
            fail("neither settled nor recalled", i);
    printf("claimed %" PRIu64 "\n", claimed);
    return 0;
}
